/* SPDX-License-Identifier: MIT
 *
 * The sealed header, and the epoch in it.
 */
#include "epoch.h"

#include "audit.h"
#include "commit.h"
#include "error.h"

enum { HEADER_LEN = 1 + 8 + 8 };

static const cs_label header_label = {.role = CS_ROLE_META};

credstore_status cs_sealed_header_read(cs_txn *txn, cs_sealed_header *out, credstore_error *err)
{
    uint8_t plain[HEADER_LEN];
    credstore_bytes value;
    bool found = false;
    cs_box box;
    cs_key key;
    credstore_status status;

    cs_key_meta(&key, true);
    status = cs_txn_get(txn, &key, &value, &found, err);
    if (status == CREDSTORE_OK && !found)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store has lost its sealed header");
    if (status == CREDSTORE_OK)
        status = cs_value_box(value, &box, err);
    if (status != CREDSTORE_OK)
        return status;
    if (box.sealed.len != sizeof plain || box.key_id != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store's sealed header is damaged");
    status =
        cs_unseal(&txn->store->sealer, &txn->store->keys.body, &header_label, &box, plain, err);
    if (status == CREDSTORE_OK && plain[0] > CS_FORMAT)
        return cs_fail(err, CREDSTORE_E_FORMAT, NULL, "The store holds records of a newer library");
    if (status != CREDSTORE_OK)
        return status;
    out->format = plain[0];
    out->created_at = (int64_t)cs_get_u64(plain + 1);
    out->epoch = cs_get_u64(plain + 9);
    return status;
}

/* Sealed under the body store key, so that neither format nor epoch can be lowered. */
credstore_status cs_sealed_header_seal(const credstore *store, const cs_sealed_header *header,
                                       const uint8_t nonce[CS_NONCE_LEN], cs_buf *out,
                                       credstore_error *err)
{
    uint8_t plain[HEADER_LEN] = {header->format};

    cs_put_u64(plain + 1, (uint64_t)header->created_at);
    cs_put_u64(plain + 9, header->epoch);
    return cs_seal_value(&store->sealer, &store->keys.body, &header_label, nonce,
                         cs_bytes(plain, sizeof plain), out, err);
}

static credstore_status put_next(cs_txn *txn, void *arg, credstore_error *err)
{
    const uint8_t *nonce = cs_txn_random(txn, CS_NONCE_LEN);
    uint64_t *epoch = arg;
    cs_sealed_header header;
    cs_audit_entry entry = {.action = CS_ACTION_EPOCH};
    cs_buf value = {0};
    cs_key key;
    credstore_status status = cs_sealed_header_read(txn, &header, err);

    if (status != CREDSTORE_OK)
        return status;
    if (nonce == NULL || header.epoch == UINT64_MAX)
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "The epoch cannot be moved on");
    header.epoch++;
    entry.revision = *epoch = header.epoch;
    status = cs_sealed_header_seal(txn->store, &header, nonce, &value, err);
    cs_key_meta(&key, true);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

credstore_status cs_epoch_begin(credstore *store, credstore_error *err)
{
    uint64_t epoch = 0;
    const cs_work work = {put_next, &epoch, 0};
    const credstore_status status = cs_txn_write(store, &work, err);

    if (status == CREDSTORE_OK)
        store->epoch = epoch;
    return status;
}
