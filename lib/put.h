/* SPDX-License-Identifier: MIT
 *
 * Putting a merged record into the store: seal all, then put record and history.
 */
#ifndef CS_PUT_H
#define CS_PUT_H

#include "load.h"
#include "merge.h"

/* old is NULL at creation. Fills in the parts' revisions and tags of settle->fresh on the way. */
credstore_status cs_put_record(cs_txn *txn, const cs_locator *at, cs_settle *settle,
                               const cs_loaded *old, credstore_error *err);

#endif
