/* SPDX-License-Identifier: MIT
 *
 * The keyring that an open store works with.
 */
#include "ring.h"

#include "error.h"

const cs_keyring *cs_store_ring(const credstore *store)
{
    return atomic_load_explicit(&store->ring, memory_order_acquire);
}

const cs_data_key *cs_store_name_key(const credstore *store)
{
    return cs_keyring_active(cs_store_ring(store), CS_PURPOSE_NAME);
}

static void discard(const credstore *store, cs_keyring *ring)
{
    cs_keyring_free(&store->sealer, ring);
    cs_free(ring);
}

const cs_keyring *cs_ring_publish(credstore *store, cs_keyring *ring)
{
    cs_keyring *now = atomic_load(&store->ring);

    do {
        if (now != NULL && now->version >= ring->version) {
            discard(store, ring);
            return now;
        }
        ring->previous = now;
    } while (!atomic_compare_exchange_weak(&store->ring, &now, ring));
    return ring;
}

static credstore_status get_half(cs_txn *txn, uint8_t purpose, credstore_bytes *value,
                                 credstore_error *err)
{
    bool found = false;
    cs_key key;
    credstore_status status;

    cs_key_keyring(&key, purpose);
    status = cs_txn_get(txn, &key, value, &found, err);
    if (status == CREDSTORE_OK && !found)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store has lost its keyring");
    return status;
}

credstore_status cs_ring_refresh(cs_txn *txn, credstore_error *err)
{
    credstore *store = txn->store;
    credstore_bytes body, secret;
    cs_keyring *ring;
    credstore_status status = get_half(txn, CS_PURPOSE_BODY, &body, err);

    if (status == CREDSTORE_OK)
        status = get_half(txn, CS_PURPOSE_SECRET, &secret, err);
    if (status != CREDSTORE_OK)
        return status;
    ring = cs_alloc(1, sizeof *ring);
    if (ring == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_keyring_load(&store->sealer, &store->keys, store->arena, body, secret, ring, err);
    if (status == CREDSTORE_OK)
        txn->ring = cs_ring_publish(store, ring);
    else
        cs_free(ring);
    return status;
}

credstore_status cs_ring_match(cs_txn *txn, uint64_t version, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    if (txn->ring->version != version)
        status = cs_ring_refresh(txn, err);
    if (status == CREDSTORE_OK && txn->ring->version != version)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring is not the one of the head");
    return status;
}

void cs_ring_free_all(credstore *store)
{
    cs_keyring *ring = atomic_load(&store->ring);

    while (ring != NULL) {
        cs_keyring *previous = ring->previous;

        discard(store, ring);
        ring = previous;
    }
    atomic_store(&store->ring, NULL);
}
