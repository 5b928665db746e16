/* SPDX-License-Identifier: MIT
 *
 * Sealed values in a transaction, and the head that each commit writes.
 */
#ifndef CS_SEALED_H
#define CS_SEALED_H

#include "txn.h"

/* Seals with the active key of a purpose under a fresh nonce; appends the box to *out. */
credstore_status cs_txn_seal(cs_txn *txn, uint8_t purpose, const cs_label *label,
                             credstore_bytes plain, cs_buf *out, uint8_t tag[CS_TAG_LEN],
                             credstore_error *err);
/* Seals one box behind the format byte and puts it. */
credstore_status cs_txn_put_sealed(cs_txn *txn, const cs_key *key, const cs_label *label,
                                   credstore_bytes plain, credstore_error *err);
/* Opens a box with the key that it names. A key that is not in the transaction's keyring is looked
   for in the snapshot's. */
credstore_status cs_txn_unseal(cs_txn *txn, uint8_t purpose, const cs_label *label,
                               const cs_box *box, uint8_t *out, credstore_error *err);
/* Gets and opens such a value into *plain (wiped and freed by the caller). */
credstore_status cs_txn_get_sealed(cs_txn *txn, const cs_key *key, const cs_label *label,
                                   cs_buf *plain, bool *found, credstore_error *err);

/* The head of a snapshot; *found as above. load: E_INTEGRITY if it is lost. */
credstore_status cs_head_read(cs_txn *txn, cs_head *head, bool *found, credstore_error *err);
credstore_status cs_head_load(cs_txn *txn, cs_head *head, credstore_error *err);
/* One more commit, at the transaction's time. A write. */
credstore_status cs_head_put(cs_txn *txn, credstore_error *err);

#endif
