/* SPDX-License-Identifier: MIT
 *
 * The believed time, a sealed value behind the head.
 */
#include "clock.h"

#include "error.h"
#include "ledger.h"
#include "sealed.h"
#include "time.h"

enum { LANE = 0, PLAIN_LEN = 8 + 8 };
static const cs_label clock_label = {.role = CS_ROLE_CLOCK, .field = LANE};

cs_clock cs_clock_look(cs_clock c, int64_t now)
{
    const cs_clock believes = {now, 0}, waits = {c.believed, now}, later = {c.candidate, now};

    if (now - c.believed < CS_DAY_MS) /* or gone back: the clock decides */
        return believes;
    if (c.candidate == 0 || now < c.candidate)
        return waits;
    if (now - c.candidate < CS_DAY_MS)
        return c;
    /* A look after two days and more may itself be the jump; the candidate before it is none. */
    return now - c.candidate < 2 * CS_DAY_MS ? believes : later;
}

credstore_status cs_clock_read(cs_txn *txn, cs_clock *out, credstore_error *err)
{
    cs_buf plain = {0};
    bool found = false;
    cs_key key;
    credstore_status status;

    out->candidate = 0;
    cs_key_clock(&key, LANE);
    status = cs_txn_get_sealed(txn, &key, &clock_label, &plain, &found, err);
    if (status == CREDSTORE_OK && found && plain.len != PLAIN_LEN)
        status =
            cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The believed time has an impossible length");
    if (status == CREDSTORE_OK && found) {
        out->believed = (int64_t)cs_get_u64(plain.ptr);
        out->candidate = (int64_t)cs_get_u64(plain.ptr + 8);
    } else if (status == CREDSTORE_OK) {
        status = cs_ledger_first_time(txn, &out->believed, err);
    }
    cs_buf_free(&plain);
    return status;
}

credstore_status cs_clock_put(cs_txn *txn, const cs_clock *c, credstore_error *err)
{
    uint8_t plain[PLAIN_LEN];
    cs_key key;

    cs_put_u64(plain, (uint64_t)c->believed);
    cs_put_u64(plain + 8, (uint64_t)c->candidate);
    cs_key_clock(&key, LANE);
    return cs_txn_put_sealed(txn, &key, &clock_label, cs_bytes(plain, sizeof plain), err);
}
