/* SPDX-License-Identifier: MIT
 *
 * Records out of the store: now, as they were at a revision, and the parts and marks beside them.
 */
#ifndef CS_LOAD_H
#define CS_LOAD_H

#include "record.h"
#include "txn.h"

/* A record and the memory that it points into. Zero it to start. */
typedef struct cs_loaded {
    bool found;
    bool removed; /* not found, but it was here once: the record is its tombstone */
    bool is_history;
    cs_record record;
    cs_buf plain; /* the opened body; the parts lie in the transaction */
} cs_loaded;

/* revision 0: now. found = false and OK if there is none. E_INTEGRITY, E_FORMAT. */
credstore_status cs_load(cs_txn *txn, const cs_kind *kind, const cs_locator *at, uint64_t revision,
                         cs_loaded *out, credstore_error *err);
void cs_loaded_free(cs_loaded *loaded);
/* Out of history alone, whatever became of the record since. */
credstore_status cs_load_history(cs_txn *txn, const cs_kind *kind, const cs_locator *at,
                                 uint64_t revision, cs_loaded *out, credstore_error *err);
/* Opens and decodes a value that was found at `at` under a role. E_INTEGRITY, E_FORMAT. */
credstore_status cs_load_value(cs_txn *txn, const cs_kind *kind, const cs_locator *at,
                               credstore_bytes value, uint8_t role, cs_loaded *out,
                               credstore_error *err);
/* Makes it empty, as {0} does, in a part of the time. */
void cs_loaded_begin(cs_loaded *loaded);

/* The sealed part of a field of a loaded record, wherever history keeps it. E_INTEGRITY if it is
 * gone. */
credstore_status cs_load_part(cs_txn *txn, const cs_kind *kind, const cs_locator *at,
                              const cs_loaded *loaded, size_t field, cs_part *out,
                              credstore_error *err);

/* A record's own names, for verbs that the library starts itself. */
typedef struct cs_named {
    char tenant[CS_ID_MAX + 1], parent[CS_ID_MAX + 1], id[CS_ID_MAX + 1];
} cs_named;
void cs_named_take(const cs_record *record, cs_named *out);

/* Records removed before this day have had their retention. */
uint32_t cs_purge_day(int64_t now);
/* Enters a removed record into the queue of those whose history goes when its retention is over. */
credstore_status cs_put_purge(cs_txn *txn, const cs_locator *at, credstore_error *err);

/* Last used; 0 = never. */
credstore_status cs_load_usage(cs_txn *txn, const cs_kind *kind, const cs_locator *at, int64_t *out,
                               credstore_error *err);
credstore_status cs_put_usage(cs_txn *txn, const cs_locator *at, int64_t used,
                              credstore_error *err);

/* The label of an index entry: bound to the owner as well. */
cs_label cs_owner_label(const uint8_t *owner_mac, const cs_locator *at);
cs_label cs_record_label(uint8_t role, const cs_locator *at, uint16_t field, uint64_t revision);

#endif
