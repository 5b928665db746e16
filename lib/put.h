/* SPDX-License-Identifier: MIT
 *
 * Putting a merged record into the store: seal all, then put record and history, then what lies
 * beside it.
 */
#ifndef CS_PUT_H
#define CS_PUT_H

#include "load.h"
#include "merge.h"
#include "receipt.h"

/* What lies beside a record and comes and goes with it, as it was found. */
typedef struct cs_beside {
    const cs_key *end;  /* the entry of the queue of ends that this change works off, or NULL */
    int64_t used;       /* last used; 0 = never */
    bool enters;        /* the organization's first record */
    cs_expired expired; /* receipts that this write takes along */
    cs_key expired_keys[CS_EXPIRED_ALONG];
} cs_beside;

/* old is NULL at creation. Fills in the parts' revisions and tags of settle->fresh on the way. */
credstore_status cs_put_record(cs_txn *txn, const cs_locator *at, cs_settle *settle,
                               const cs_loaded *old, credstore_error *err);

/* What has to be known before the first write. issues: a token is made. E_EXISTS. */
credstore_status cs_look_beside(cs_txn *txn, const cs_op *op, const cs_settle *settle, bool issues,
                                cs_beside *beside, credstore_error *err);

/* Index entries, the used mark, the queues. */
credstore_status cs_put_beside(cs_txn *txn, const cs_op *op, const cs_settle *settle, bool issues,
                               const cs_beside *beside, credstore_error *err);

#endif
