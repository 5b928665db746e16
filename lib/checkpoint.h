/* SPDX-License-Identifier: MIT
 *
 * Checkpoints: where a store stood, and whether one stands behind that.
 */
#ifndef CS_CHECKPOINT_H
#define CS_CHECKPOINT_H

#include "txn.h"

/* Copies the caller's, of any size that the struct ever had. name: of the argument. */
credstore_status cs_checkpoint_take(credstore_checkpoint *out, const credstore_checkpoint *from,
                                    const char *name, credstore_error *err);

/* A head as a checkpoint. */
void cs_checkpoint_fill(const credstore *store, const cs_head *head, credstore_checkpoint *out);

/* Of now. */
credstore_status cs_checkpoint_now(credstore *store, credstore_checkpoint *out,
                                   credstore_error *err);

/* Holds a snapshot, whose head this is, against an anchor. E_ROLLBACK, E_INTEGRITY. */
credstore_status cs_checkpoint_hold(cs_txn *txn, const cs_head *head,
                                    const credstore_checkpoint *anchor, credstore_error *err);

#endif
