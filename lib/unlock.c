/* SPDX-License-Identifier: MIT
 *
 * Unlocking a store: from the root key given at open, through a root slot, to the store keys.
 */
#include "unlock.h"

#include <string.h>

#include "error.h"
#include "root.h"

enum { SLOTS_MAX = 64 };

credstore_status cs_store_keys_load(const cs_sealer *sealer, const uint8_t *raw, uint8_t rights,
                                    cs_store_keys *keys, credstore_error *err)
{
    credstore_status status;

    memset(keys, 0, sizeof *keys);
    keys->can_reveal = (rights & CS_RIGHT_REVEAL) != 0;
    status = cs_data_key_load(sealer, CREDSTORE_SUITE_XAES_256_GCM, raw, &keys->body, err);
    if (status == CREDSTORE_OK && keys->can_reveal)
        status = cs_data_key_load(sealer, CREDSTORE_SUITE_XAES_256_GCM, raw + CS_DATA_KEY_LEN,
                                  &keys->secret, err);
    return status;
}

void cs_store_keys_free(const cs_sealer *sealer, cs_store_keys *keys)
{
    cs_data_key_free(sealer, &keys->body);
    cs_data_key_free(sealer, &keys->secret);
}

typedef struct slots {
    size_t count;
    uint16_t number[SLOTS_MAX];
    credstore_bytes value[SLOTS_MAX];
} slots;

static bool note_slot(void *arg, credstore_bytes key, credstore_bytes value)
{
    slots *all = arg;

    if (key.len == 3) {
        all->number[all->count] = cs_get_u16((const uint8_t *)key.ptr + 1);
        all->value[all->count++] = value;
    }
    return all->count < SLOTS_MAX;
}

/* Tries each root slot with the key given at open; the first that is its own decides. */
credstore_status cs_unlock(cs_txn *txn, const credstore_key_source *source, cs_store_keys *keys,
                           credstore_error *err)
{
    credstore *store = txn->store;
    slots all = {0};
    bool ours = false;
    uint8_t rights = 0;
    cs_key from, to = {1, {CS_TABLE_ROOT + 1}};
    credstore_secret *raw = cs_secret_new(store->arena, CS_STORE_KEYS_LEN);
    credstore_status status;

    if (raw == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_key_root(&from, 0);
    status = cs_txn_scan(txn, &from, &to, &(const cs_scan){false, SLOTS_MAX, note_slot, &all}, err);
    for (size_t i = 0; i < all.count && status == CREDSTORE_OK && !ours; i++)
        status = cs_root_unwrap(&store->sealer, source, all.number[i], all.value[i],
                                cs_secret_bytes(raw), &rights, &ours, err);
    if (status == CREDSTORE_OK && !ours)
        status = cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, "key",
                         "The root key opens no root slot of this store");
    if (status == CREDSTORE_OK)
        status = cs_store_keys_load(&store->sealer, cs_secret_bytes(raw), rights, keys, err);
    credstore_secret_free(raw);
    return status;
}
