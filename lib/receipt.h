/* SPDX-License-Identifier: MIT
 *
 * Receipts: what an idempotency key stood for, for a day.
 */
#ifndef CS_RECEIPT_H
#define CS_RECEIPT_H

#include "merge.h"
#include "op.h"
#include "txn.h"

enum { CS_RECEIPT_MAC = 32 };

/* What a change needs to know to leave a receipt, or to find one. Pointed into by keys: not to be
 * moved. */
typedef struct cs_receipt {
    bool wanted;                     /* the call has a key and the verb looks at it */
    uint8_t name[CS_RECEIPT_MAC];    /* of tenant, actor, kind, verb and key */
    uint8_t request[CS_RECEIPT_MAC]; /* of all that was asked */
} cs_receipt;

/* Names the receipt, before any transaction. wish and grace_s are part of the request. */
credstore_status cs_receipt_name(const cs_op *op, uint8_t action, const cs_inputs *inputs,
                                 bool token, const char *prefix, uint32_t grace_s, cs_receipt *out,
                                 credstore_error *err);

/* What a receipt says. */
typedef struct cs_replay {
    bool found;
    uint64_t revision;
    cs_locator at;
    char id[CS_ID_MAX + 1];
    credstore_secret *token; /* NULL: none was made. The caller's */
} cs_replay;

/* Looks for it today and yesterday. E_IDEMPOTENCY: it stands for another request. */
credstore_status cs_receipt_find(cs_txn *txn, const cs_receipt *receipt, cs_replay *out,
                                 credstore_error *err);

/* Leaves it with the change. token may be NULL. */
credstore_status cs_receipt_put(cs_txn *txn, const cs_receipt *receipt, const cs_locator *at,
                                uint64_t revision, credstore_secret *token, credstore_error *err);

/* Receipts whose day is over: found by a read, dropped by writes. */
enum { CS_EXPIRED_ALONG = 4, CS_EXPIRED_MAX = 64 };
typedef struct cs_expired {
    uint32_t limit, count;
    cs_key *keys; /* room for limit, the caller's */
} cs_expired;
credstore_status cs_receipts_find_expired(cs_txn *txn, int64_t until, cs_expired *out,
                                          credstore_error *err);
credstore_status cs_receipts_drop(cs_txn *txn, const cs_expired *expired, credstore_error *err);

#endif
