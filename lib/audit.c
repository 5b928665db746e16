/* SPDX-License-Identifier: MIT
 *
 * The chained audit. An entry's plain text is the chain value before it, then its members; its own
 * chain value is the MAC of that with lane and sequence, and is kept by the next entry, or by the
 * head for the last one.
 */
#include "audit.h"

#include <string.h>

#include "error.h"
#include "ring.h"
#include "sealed.h"

enum { LANE = 0, MAC_HEAD = 2 + 8 };

static void put(cs_buf *out, unsigned id, credstore_bytes bytes)
{
    if (bytes.len == 0)
        return;
    cs_buf_u16(out, (uint16_t)id);
    cs_buf_u32(out, (uint32_t)bytes.len);
    cs_buf_add(out, bytes.ptr, bytes.len);
}

static void put_u8(cs_buf *out, unsigned id, uint32_t v)
{
    const uint8_t raw = (uint8_t)v;

    put(out, id, cs_bytes(&raw, v == 0 ? 0 : 1));
}

static void put_u64(cs_buf *out, unsigned id, uint64_t v)
{
    uint8_t raw[8];

    cs_put_u64(raw, v);
    put(out, id, cs_bytes(raw, v == 0 ? 0 : sizeof raw));
}

static void put_entry(cs_buf *out, const cs_audit_entry *entry, int64_t now)
{
    put_u64(out, CS_AUDIT_TIME, (uint64_t)now);
    put_u8(out, CS_AUDIT_ACTOR_TYPE, entry->actor_type);
    put(out, CS_AUDIT_ACTOR, entry->actor);
    put(out, CS_AUDIT_TENANT, entry->tenant);
    put_u8(out, CS_AUDIT_ACTION, entry->action);
    put_u8(out, CS_AUDIT_KIND, entry->kind);
    put(out, CS_AUDIT_PARENT, entry->parent);
    put(out, CS_AUDIT_ID, entry->id);
    put_u64(out, CS_AUDIT_REVISION, entry->revision);
    if (entry->changed_count > 0) {
        cs_buf_u16(out, CS_AUDIT_CHANGED);
        cs_buf_u32(out, (uint32_t)(2 * entry->changed_count));
        for (size_t i = 0; i < entry->changed_count; i++)
            cs_buf_u16(out, entry->changed[i]);
    }
    put(out, CS_AUDIT_REQUEST, entry->request_id);
}

/* The chain value after an entry. message = lane, sequence, plain text. */
static credstore_status chain_after(const credstore *store, credstore_bytes message,
                                    uint8_t out[CS_CHAIN_LEN], credstore_error *err)
{
    const cs_data_key *key = cs_keyring_active(cs_store_ring(store), CS_PURPOSE_CHAIN);
    const int32_t result = store->sealer.crypto->mac(store->sealer.ctx, key->handle, message, out);

    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "The audit chain could not be computed");
    return CREDSTORE_OK;
}

static cs_label entry_label(uint64_t seq)
{
    const cs_label label = {.role = CS_ROLE_AUDIT, .field = LANE, .revision = seq};

    return label;
}

credstore_status cs_audit_append(cs_txn *txn, const cs_audit_entry *entry, credstore_error *err)
{
    const uint64_t seq = txn->head.last_seq + 1;
    const cs_label label = entry_label(seq);
    uint8_t chain[CS_CHAIN_LEN];
    cs_buf message = {0}, value = {0};
    cs_key key;
    credstore_status status;

    cs_key_audit(&key, LANE, seq);
    cs_buf_u16(&message, LANE);
    cs_buf_u64(&message, seq);
    cs_buf_add(&message, txn->head.chain, CS_CHAIN_LEN);
    put_entry(&message, entry, txn->now);
    cs_buf_u8(&value, CS_FORMAT);
    if (message.failed || value.failed) {
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
        goto cleanup;
    }
    status = chain_after(txn->store, cs_bytes(message.ptr, message.len), chain, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_seal(txn, CS_PURPOSE_BODY, &label,
                             cs_bytes(message.ptr + MAC_HEAD, message.len - MAC_HEAD), &value, NULL,
                             err);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, &key, &value, err);
    if (status != CREDSTORE_OK)
        goto cleanup;
    txn->head.last_seq = seq;
    memcpy(txn->head.chain, chain, sizeof chain);
    memcpy(txn->audit_nonce, value.ptr + 1 + 8, CS_NONCE_LEN);
cleanup:
    cs_buf_free(&message);
    cs_buf_free(&value);
    return status;
}

credstore_status cs_audit_chain(const credstore *store, uint64_t seq, const cs_buf *plain,
                                uint8_t out[CS_CHAIN_LEN], credstore_error *err)
{
    cs_buf message = {0};
    credstore_status status;

    cs_buf_u16(&message, LANE);
    cs_buf_u64(&message, seq);
    cs_buf_add(&message, plain->ptr, plain->len);
    if (message.failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = chain_after(store, cs_bytes(message.ptr, message.len), out, err);
    cs_buf_free(&message);
    return status;
}

credstore_status cs_audit_open(cs_txn *txn, uint64_t seq, cs_buf *plain, credstore_error *err)
{
    const cs_label label = entry_label(seq);
    bool found = false;
    cs_key key;
    credstore_status status;

    cs_key_audit(&key, LANE, seq);
    status = cs_txn_get_sealed(txn, &key, &label, plain, &found, err);
    if (status == CREDSTORE_OK && (!found || plain->len < CS_CHAIN_LEN))
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "An audit entry is missing");
    return status;
}

credstore_status cs_audit_check(cs_txn *txn, uint64_t seq, const uint8_t chain[CS_CHAIN_LEN],
                                uint8_t previous[CS_CHAIN_LEN], credstore_error *err)
{
    uint8_t actual[CS_CHAIN_LEN];
    cs_buf plain = {0};
    credstore_status status = cs_audit_open(txn, seq, &plain, err);

    if (status == CREDSTORE_OK)
        status = cs_audit_chain(txn->store, seq, &plain, actual, err);
    if (status == CREDSTORE_OK && memcmp(actual, chain, CS_CHAIN_LEN) != 0)
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The audit chain is broken");
    if (status == CREDSTORE_OK)
        memcpy(previous, plain.ptr, CS_CHAIN_LEN);
    cs_buf_free(&plain);
    return status;
}

/* ---- the anchor: where the audit begins after pruning ---- */

enum { ANCHOR_LEN = 8 + CS_CHAIN_LEN };
static const cs_label anchor_label = {.role = CS_ROLE_ANCHOR};

credstore_status cs_anchor_read(cs_txn *txn, cs_anchor *out, credstore_error *err)
{
    cs_buf plain = {0};
    bool found = false;
    cs_key key;
    credstore_status status;

    memset(out, 0, sizeof *out);
    cs_key_anchor(&key, 0);
    status = cs_txn_get_sealed(txn, &key, &anchor_label, &plain, &found, err);
    if (status == CREDSTORE_OK && found && plain.len != ANCHOR_LEN)
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The audit's anchor is damaged");
    if (status == CREDSTORE_OK && found) {
        out->seq = cs_get_u64(plain.ptr);
        memcpy(out->chain, plain.ptr + 8, CS_CHAIN_LEN);
    }
    cs_buf_free(&plain);
    return status;
}

credstore_status cs_anchor_put(cs_txn *txn, const cs_anchor *anchor, credstore_error *err)
{
    uint8_t plain[ANCHOR_LEN];
    cs_key key;

    cs_put_u64(plain, anchor->seq);
    memcpy(plain + 8, anchor->chain, CS_CHAIN_LEN);
    cs_key_anchor(&key, 0);
    return cs_txn_put_sealed(txn, &key, &anchor_label, cs_bytes(plain, sizeof plain), err);
}
