/* SPDX-License-Identifier: MIT
 *
 * The keyring that an open store works with.
 */
#include "ring.h"

#include "error.h"

static void discard(const credstore *store, cs_keyring *ring)
{
    cs_keyring_free(&store->sealer, ring);
    cs_free(ring);
}

/* What `previous` leads to never changes once a ring is published. */
static const cs_keyring *find_version(const cs_keyring *ring, uint64_t version)
{
    while (ring != NULL && ring->version != version)
        ring = ring->previous;
    return ring;
}

static void push(_Atomic(cs_keyring *) *list, cs_keyring *ring)
{
    cs_keyring *first = atomic_load(list);

    do
        ring->previous = first;
    while (!atomic_compare_exchange_weak(list, &first, ring));
}

const cs_keyring *cs_ring_publish(credstore *store, cs_keyring *ring)
{
    cs_keyring *now = atomic_load(&store->ring);
    const cs_keyring *same;

    while (now == NULL || now->version < ring->version) {
        ring->previous = now;
        if (atomic_compare_exchange_weak(&store->ring, &now, ring))
            return ring;
    }
    same = find_version(now, ring->version);
    if (same == NULL)
        same = find_version(atomic_load(&store->aside), ring->version);
    if (same == NULL) {
        push(&store->aside, ring);
        return ring;
    }
    discard(store, ring);
    return same;
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

credstore_status cs_ring_read(cs_txn *txn, cs_ring_values *out, credstore_error *err)
{
    credstore_bytes body, secret;
    credstore_status status = get_half(txn, CS_PURPOSE_BODY, &body, err);

    if (status == CREDSTORE_OK)
        status = get_half(txn, CS_PURPOSE_SECRET, &secret, err);
    if (status != CREDSTORE_OK)
        return status;
    cs_buf_add(&out->body, body.ptr, body.len);
    cs_buf_add(&out->secret, secret.ptr, secret.len);
    return out->body.failed || out->secret.failed
               ? cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory")
               : CREDSTORE_OK;
}

credstore_status cs_ring_put(cs_txn *txn, const cs_ring_values *next, credstore_error *err)
{
    cs_key body, secret;
    credstore_status status;

    cs_key_keyring(&body, CS_PURPOSE_BODY);
    cs_key_keyring(&secret, CS_PURPOSE_SECRET);
    status = cs_txn_put(txn, &body, &next->body, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, &secret, &next->secret, err);
    if (status == CREDSTORE_OK)
        txn->head.ring = next->version;
    return status;
}

static void free_list(const credstore *store, _Atomic(cs_keyring *) *list)
{
    cs_keyring *ring = atomic_exchange(list, NULL);

    while (ring != NULL) {
        cs_keyring *previous = ring->previous;

        discard(store, ring);
        ring = previous;
    }
}

void cs_ring_free_all(credstore *store)
{
    free_list(store, &store->ring);
    free_list(store, &store->aside);
}
