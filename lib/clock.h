/* SPDX-License-Identifier: MIT
 *
 * How far the host's clock is believed. What is marked as over for good must be over in truth, so a
 * clock that jumps ten years ahead for a moment marks nothing: a time that lies a day or more ahead
 * of the last one believed is a candidate first, and becomes believed when a later look at the
 * clock finds it a day older and still not gone back. Looks are maintenance's.
 */
#ifndef CS_CLOCK_H
#define CS_CLOCK_H

#include "txn.h"

typedef struct cs_clock {
    int64_t believed;  /* what ended by then is over for good */
    int64_t candidate; /* 0 = none */
} cs_clock;

/* What a look at the store's time makes of it. */
cs_clock cs_clock_look(cs_clock c, int64_t now);

/* A store that was never looked at believes the time of its oldest audit entry. E_INTEGRITY. */
credstore_status cs_clock_read(cs_txn *txn, cs_clock *out, credstore_error *err);
credstore_status cs_clock_put(cs_txn *txn, const cs_clock *c, credstore_error *err);

#endif
