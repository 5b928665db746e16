/* SPDX-License-Identifier: MIT
 *
 * Reading the audit: entries after a sequence, the walk that proves the chain, checkpoints.
 */
#ifndef CS_LEDGER_H
#define CS_LEDGER_H

#include "audit.h"
#include "record.h"

/* An entry, pointing into the text that it was read from. */
typedef struct cs_ledger_entry {
    uint64_t seq;
    int64_t time;
    cs_audit_entry entry;
    uint8_t previous[CS_CHAIN_LEN];
    uint16_t changed[CS_FIELDS_MAX];
} cs_ledger_entry;

/* E_INTEGRITY: missing, or not what was written. */
credstore_status cs_ledger_entry_read(cs_txn *txn, uint64_t seq, cs_buf *plain,
                                      cs_ledger_entry *out, credstore_error *err);

/* The time of the oldest entry that pruning has left. E_INTEGRITY. */
credstore_status cs_ledger_first_time(cs_txn *txn, int64_t *out, credstore_error *err);

#endif
