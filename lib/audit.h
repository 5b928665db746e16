/* SPDX-License-Identifier: MIT
 *
 * The audit: one chained entry a change, in the change's own transaction.
 */
#ifndef CS_AUDIT_H
#define CS_AUDIT_H

#include "txn.h"

typedef struct cs_audit_entry {
    uint8_t action, kind;
    uint32_t actor_type;
    credstore_bytes actor, tenant, parent, id, request_id;
    uint64_t revision;
    const uint16_t *changed; /* field ids */
    size_t changed_count;
} cs_audit_entry;

/* Appends and moves the transaction's head on. A write. */
credstore_status cs_audit_append(cs_txn *txn, const cs_audit_entry *entry, credstore_error *err);

/* Opens entry `seq`: the chain value before it, then its members. E_INTEGRITY: missing, or not what
 * was written. */
credstore_status cs_audit_open(cs_txn *txn, uint64_t seq, cs_buf *plain, credstore_error *err);

/* Holds entry `seq` against the chain: opens it and compares the value that the head, or the next
   entry, goes on from. E_INTEGRITY: missing or not what was written. *previous gets the chain value
   before it. */
credstore_status cs_audit_check(cs_txn *txn, uint64_t seq, const uint8_t chain[CS_CHAIN_LEN],
                                uint8_t previous[CS_CHAIN_LEN], credstore_error *err);

/* The chain value after entry `seq`, from its opened text. */
credstore_status cs_audit_chain(const credstore *store, uint64_t seq, const cs_buf *plain,
                                uint8_t out[CS_CHAIN_LEN], credstore_error *err);

/* Where the audit begins after pruning. */
typedef struct cs_anchor {
    uint64_t seq; /* the last entry that is gone; 0 = none is */
    uint8_t chain[CS_CHAIN_LEN];
} cs_anchor;

/* read: zero if nothing was pruned; E_INTEGRITY. put: a write. */
credstore_status cs_anchor_read(cs_txn *txn, cs_anchor *out, credstore_error *err);
credstore_status cs_anchor_put(cs_txn *txn, const cs_anchor *anchor, credstore_error *err);

#endif
