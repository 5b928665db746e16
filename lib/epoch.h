/* SPDX-License-Identifier: MIT
 *
 * The sealed header: the highest format of the store, its birth, and its epoch, which an intended
 * restore of an older copy moves on.
 */
#ifndef CS_EPOCH_H
#define CS_EPOCH_H

#include "txn.h"

typedef struct cs_sealed_header {
    uint8_t format;
    int64_t created_at;
    uint64_t epoch;
} cs_sealed_header;

/* Of the snapshot, under the store's own keys. E_INTEGRITY: lost or damaged. E_FORMAT: the store
   has values of a newer library. */
credstore_status cs_sealed_header_read(cs_txn *txn, cs_sealed_header *out, credstore_error *err);
/* The value; the nonce is drawn by the caller. */
credstore_status cs_sealed_header_seal(const credstore *store, const cs_sealed_header *header,
                                       const uint8_t nonce[CS_NONCE_LEN], cs_buf *out,
                                       credstore_error *err);

/* Moves the epoch on by one, with an entry in the audit. */
credstore_status cs_epoch_begin(credstore *store, credstore_error *err);

#endif
