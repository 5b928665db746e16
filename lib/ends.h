/* SPDX-License-Identifier: MIT
 *
 * Ends: the graces of rolled secrets and tokens, and the lives of keys, in a queue by the time at
 * which they are over. Nothing that is over is accepted before the queue is worked off; what is
 * found there is taken out of its record, or marked in it, for good.
 */
#ifndef CS_ENDS_H
#define CS_ENDS_H

#include "merge.h"

/* Enters the ends that a change has made. A write. */
credstore_status cs_ends_put(cs_txn *txn, const cs_locator *at, const cs_settle *settle,
                             credstore_error *err);

#endif
