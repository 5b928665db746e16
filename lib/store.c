/* SPDX-License-Identifier: MIT
 *
 * What every room asks of an open store: may it be used, what time is it, randomness, a decoy.
 */
#include "store.h"

#include "error.h"
#include "time.h"

enum { DECOY_LEN = 512 };
enum { CLOCK_FAILED = 0 }; /* what a callback that raises returns in some languages */

credstore_status cs_store_usable(const credstore *store, credstore_error *err)
{
    if (store == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "store", "The store is NULL");
    if (*store->fork_page != 1)
        return cs_fail(err, CREDSTORE_E_FORKED, "store", "The store was opened before a fork");
    return CREDSTORE_OK;
}

const cs_keyring *cs_store_ring(const credstore *store)
{
    return atomic_load_explicit(&store->ring, memory_order_acquire);
}

const cs_data_key *cs_store_name_key(const credstore *store)
{
    return cs_keyring_active(cs_store_ring(store), CS_PURPOSE_NAME);
}

int64_t cs_store_effective(int64_t clock, int64_t largest)
{
    const bool decides = clock != CLOCK_FAILED && largest - clock >= CS_DAY_MS;

    return largest > clock && !decides ? largest : clock;
}

static int64_t told(const credstore *store)
{
    const int64_t now = store->now_ms(store->now_ctx);

    if (now < 0)
        return CLOCK_FAILED;
    return now < CS_TIME_LAST ? now : CS_TIME_LAST;
}

int64_t cs_store_clock(credstore *store)
{
    const int64_t now = told(store);
    int64_t seen = atomic_load(&store->seen_clock);

    while (now != CLOCK_FAILED && (seen < now || seen - now >= CS_DAY_MS) &&
           !atomic_compare_exchange_weak(&store->seen_clock, &seen, now))
        continue;
    return cs_store_effective(now, seen);
}

int64_t cs_store_now(const credstore *store)
{
    const int64_t now = cs_store_effective(told(store), atomic_load(&store->seen_clock));

    return cs_store_effective(now, atomic_load(&store->seen_time));
}

/* Threads start their search at different desks: their stacks lie apart. */
static size_t first_desk(void)
{
    const char here = 0;
    const uint64_t stack = (uint64_t)(uintptr_t)(const void *)&here >> 12;

    return (size_t)(stack * UINT64_C(0x9e3779b97f4a7c15) >> 32) % CS_DESKS;
}

cs_desk *cs_desk_lend(credstore *store, cs_buf *buf)
{
    const size_t first = first_desk();

    for (size_t i = 0; i < CS_DESKS; i++) {
        cs_desk *desk = &store->desks[(first + i) % CS_DESKS];
        unsigned free_mark = 0;

        if (!atomic_compare_exchange_strong(&desk->taken, &free_mark, 1))
            continue;
        buf->ptr = desk->bytes;
        buf->cap = CS_DESK_LEN;
        buf->lent = true;
        return desk;
    }
    return NULL;
}

void cs_desk_free(cs_desk *desk)
{
    if (desk != NULL)
        atomic_store_explicit(&desk->taken, 0, memory_order_release);
}

credstore_status cs_store_random(const credstore *store, uint8_t *out, size_t len,
                                 credstore_error *err)
{
    const int32_t result = store->sealer.crypto->random(store->sealer.ctx, out, len);

    return result == CREDSTORE_CRYPTO_OK ? CREDSTORE_OK
                                         : cs_fail_crypto(err, result, "The random source failed");
}

credstore_status cs_store_make_decoy(credstore *store, credstore_error *err)
{
    const uint8_t blank[DECOY_LEN] = {0};
    const cs_label label = {.role = CS_ROLE_CURRENT};
    uint8_t random[CS_DATA_KEY_LEN + CS_NONCE_LEN];
    credstore_status status = cs_store_random(store, random, sizeof random, err);

    if (status == CREDSTORE_OK)
        status = cs_data_key_load(&store->sealer, CREDSTORE_SUITE_XAES_256_GCM, random,
                                  &store->decoy_key, err);
    if (status == CREDSTORE_OK)
        status = cs_seal(&store->sealer, &store->decoy_key, &label, random + CS_DATA_KEY_LEN,
                         cs_bytes(blank, sizeof blank), &store->decoy, NULL, err);
    cs_wipe(random, sizeof random);
    return status;
}

void cs_store_decoy(const credstore *store)
{
    const cs_label label = {.role = CS_ROLE_CURRENT};
    credstore_bytes value = cs_bytes(store->decoy.ptr, store->decoy.len);
    uint8_t plain[DECOY_LEN];
    cs_box box;

    if (cs_box_take(&value, &box))
        cs_unseal(&store->sealer, &store->decoy_key, &label, &box, plain, NULL);
}
