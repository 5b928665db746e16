/* SPDX-License-Identifier: MIT
 *
 * Unlocking a store: from the root key given at open, through a root slot, to the store keys.
 */
#include "unlock.h"

#include "error.h"

/* ---- the slots ---- */

static bool note_slot(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_root_slots *all = arg;

    if (key.len == 3) {
        all->slot[all->count].number = cs_get_u16((const uint8_t *)key.ptr + 1);
        all->slot[all->count].start = all->bytes.len;
        all->slot[all->count++].len = value.len;
        cs_buf_add(&all->bytes, value.ptr, value.len);
    }
    return all->count < CS_ROOT_SLOTS_MAX && !all->bytes.failed;
}

credstore_status cs_root_slots_read(cs_txn *txn, cs_root_slots *out, credstore_error *err)
{
    const cs_scan scan = {.limit = CS_ROOT_SLOTS_MAX, .visit = note_slot, .arg = out};
    cs_key from, to = {1, {CS_TABLE_ROOT + 1}};
    credstore_status status;

    cs_root_slots_free(out);
    cs_key_root(&from, 0);
    status = cs_txn_scan(txn, &from, &to, &scan, err);
    if (status == CREDSTORE_OK && out->bytes.failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return status;
}

credstore_bytes cs_root_slots_value(const cs_root_slots *slots, size_t i)
{
    return cs_bytes(slots->bytes.ptr + slots->slot[i].start, slots->slot[i].len);
}

void cs_root_slots_free(cs_root_slots *slots)
{
    cs_buf_free(&slots->bytes);
    slots->count = 0;
}

/* ---- the store keys ---- */

void cs_store_keys_free(credstore *store)
{
    cs_data_key_free(&store->sealer, &store->keys.body);
    cs_data_key_free(&store->sealer, &store->keys.secret);
    credstore_secret_free(store->keys.raw);
    store->keys.raw = NULL;
}

credstore_status cs_store_keys_take(credstore *store, credstore_secret *raw, uint8_t rights,
                                    credstore_error *err)
{
    const uint8_t *bytes = cs_secret_bytes(raw);
    cs_store_keys *keys = &store->keys;
    credstore_status status;

    cs_store_keys_free(store);
    keys->raw = raw;
    keys->can_reveal = (rights & CS_RIGHT_REVEAL) != 0;
    status =
        cs_data_key_load(&store->sealer, CREDSTORE_SUITE_XAES_256_GCM, bytes, &keys->body, err);
    if (status == CREDSTORE_OK && keys->can_reveal)
        status = cs_data_key_load(&store->sealer, CREDSTORE_SUITE_XAES_256_GCM,
                                  bytes + CS_DATA_KEY_LEN, &keys->secret, err);
    return status;
}

/* ---- trying ---- */

/* Which of several failures tells most: what may pass by waiting, then what may be mended. That a
   key service has no such key tells least: it says so of each blob that is another's. */
static unsigned weight(const credstore_error *one)
{
    static const struct {
        credstore_status status;
        int32_t native;
    } rising[] = {
        {CREDSTORE_E_KEY_UNAVAILABLE, CREDSTORE_KEY_GONE},
        {CREDSTORE_E_KEY_UNAVAILABLE, CREDSTORE_KEY_FAILED},
        {CREDSTORE_E_INTEGRITY, 0},
        {CREDSTORE_E_FORBIDDEN, CREDSTORE_KEY_DENIED},
        {CREDSTORE_E_BUSY, CREDSTORE_KEY_TRANSIENT},
    };
    enum { ROWS = sizeof rising / sizeof *rising };

    for (unsigned i = 0; i < ROWS; i++)
        if ((int32_t)rising[i].status == one->status && rising[i].native == one->native)
            return i + 1;
    return one->status == CREDSTORE_OK ? 0 : ROWS + 1; /* memory, entropy: the process */
}

credstore_status cs_unlock(credstore *store, const cs_root_slots *slots,
                           const credstore_key_source *source, credstore_error *err)
{
    credstore_secret *raw = cs_secret_new(store->arena, CS_STORE_KEYS_LEN);
    credstore_error worst = {0};
    uint8_t rights = 0;
    uint16_t number = 0;
    bool ours = false;

    if (raw == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    for (size_t i = 0; i < slots->count && !ours; i++) {
        credstore_error one = {0};

        number = slots->slot[i].number;
        (void)cs_root_unwrap(&store->sealer, source, number, cs_root_slots_value(slots, i),
                             cs_secret_bytes(raw), &rights, &ours, &one);
        if (weight(&one) > weight(&worst))
            worst = one;
    }
    if (ours) {
        store->keys.slot = number;
        return cs_store_keys_take(store, raw, rights, err);
    }
    credstore_secret_free(raw);
    if (worst.status != CREDSTORE_OK && err != NULL && err->status == CREDSTORE_OK)
        *err = worst;
    if (worst.status != CREDSTORE_OK)
        return (credstore_status)worst.status;
    return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, "key",
                   "The root key opens no root slot of this store");
}
