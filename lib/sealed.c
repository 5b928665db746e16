/* SPDX-License-Identifier: MIT
 *
 * Sealed values in a transaction, and the head.
 */
#include "sealed.h"

#include <string.h>

#include "error.h"
#include "ring.h"

enum { LANE = 0, HEAD_LEN = 8 + 8 + CS_CHAIN_LEN + 8 + 8 };

/* ---- sealed values ---- */

credstore_status cs_txn_seal(cs_txn *txn, uint8_t purpose, const cs_label *label,
                             credstore_bytes plain, cs_buf *out, uint8_t tag[CS_TAG_LEN],
                             credstore_error *err)
{
    const cs_data_key *key = cs_keyring_active(txn->ring, purpose);
    const uint8_t *nonce = cs_txn_random(txn, CS_NONCE_LEN);

    if (nonce == NULL)
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more nonces than it drew");
    if (key->handle == NULL)
        return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, NULL,
                       "The root key given at open does not open secrets, so none can be stored");
    return cs_seal(&txn->store->sealer, key, label, nonce, plain, out, tag, err);
}

credstore_status cs_txn_put_sealed(cs_txn *txn, const cs_key *key, const cs_label *label,
                                   credstore_bytes plain, credstore_error *err)
{
    cs_buf value = {0};
    credstore_status status;

    cs_buf_u8(&value, CS_FORMAT);
    status = cs_txn_seal(txn, CS_PURPOSE_BODY, label, plain, &value, NULL, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, key, &value, err);
    cs_buf_free(&value);
    return status;
}

credstore_status cs_txn_unseal(cs_txn *txn, uint8_t purpose, const cs_label *label,
                               const cs_box *box, uint8_t *out, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    if (!cs_keyring_lists(txn->ring, purpose, box->key_id))
        status = cs_ring_refresh(txn, err);
    return status == CREDSTORE_OK
               ? cs_keyring_unseal(&txn->store->sealer, txn->ring, purpose, label, box, out, err)
               : status;
}

credstore_status cs_txn_get_sealed(cs_txn *txn, const cs_key *key, const cs_label *label,
                                   cs_buf *plain, bool *found, credstore_error *err)
{
    credstore_bytes value;
    cs_box box;
    credstore_status status = cs_txn_get(txn, key, &value, found, err);

    if (status != CREDSTORE_OK || !*found)
        return status;
    status = cs_value_box(value, &box, err);
    if (status != CREDSTORE_OK)
        return status;
    if (cs_buf_room(plain, box.sealed.len) == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return cs_txn_unseal(txn, CS_PURPOSE_BODY, label, &box, plain->ptr, err);
}

/* ---- the head ---- */

static const cs_label head_label = {.role = CS_ROLE_HEAD, .field = LANE};

credstore_status cs_head_read(cs_txn *txn, cs_head *head, bool *found, credstore_error *err)
{
    cs_buf plain = {0};
    cs_key key;
    credstore_status status;

    memset(head, 0, sizeof *head);
    cs_key_head(&key, LANE);
    status = cs_txn_get_sealed(txn, &key, &head_label, &plain, found, err);
    if (status == CREDSTORE_OK && *found && plain.len != HEAD_LEN)
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The head has an impossible length");
    if (status == CREDSTORE_OK && *found) {
        head->generation = cs_get_u64(plain.ptr);
        head->last_seq = cs_get_u64(plain.ptr + 8);
        memcpy(head->chain, plain.ptr + 16, CS_CHAIN_LEN);
        head->time = (int64_t)cs_get_u64(plain.ptr + 16 + CS_CHAIN_LEN);
        head->ring = cs_get_u64(plain.ptr + 24 + CS_CHAIN_LEN);
    }
    cs_buf_free(&plain);
    return status;
}

credstore_status cs_head_load(cs_txn *txn, cs_head *head, credstore_error *err)
{
    bool found = false;
    const credstore_status status = cs_head_read(txn, head, &found, err);

    if (status == CREDSTORE_OK && !found)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store has lost its head");
    return status;
}

credstore_status cs_head_put(cs_txn *txn, credstore_error *err)
{
    uint8_t plain[HEAD_LEN];
    cs_key key;

    txn->head.generation++;
    cs_put_u64(plain, txn->head.generation);
    cs_put_u64(plain + 8, txn->head.last_seq);
    memcpy(plain + 16, txn->head.chain, CS_CHAIN_LEN);
    cs_put_u64(plain + 16 + CS_CHAIN_LEN, (uint64_t)txn->head.time);
    cs_put_u64(plain + 24 + CS_CHAIN_LEN, txn->head.ring);
    cs_key_head(&key, LANE);
    return cs_txn_put_sealed(txn, &key, &head_label, cs_bytes(plain, sizeof plain), err);
}
