/* SPDX-License-Identifier: MIT
 *
 * Dropping revisions from history, and with them the entries of the fingerprint index that are of
 * secrets which no revision has any more: so the index has what history has, and does not grow.
 */
#ifndef CS_DROP_H
#define CS_DROP_H

#include "load.h"

/* A secret, as its entry in the index names it. */
typedef struct cs_secret_name {
    uint16_t field;
    uint64_t revision;
    uint8_t fingerprint[CS_FINGERPRINT_LEN];
} cs_secret_name;

/* A revision that goes, and the secrets that go with it. */
typedef struct cs_drop {
    uint64_t revision;
    size_t count;
    cs_secret_name names[CS_FIELDS_MAX];
} cs_drop;

/* What goes with a revision of history, of which there may be none. A read. next: the record as the
   same change leaves it; NULL = removed before. Of a revision that is damaged, or has a damaged one
   behind it, no secret goes: repair finds those that nobody has. */
credstore_status cs_drop_look(cs_txn *txn, const cs_locator *at, uint64_t revision,
                              const cs_record *next, cs_drop *out, credstore_error *err);

/* Deletes it all. A write. */
credstore_status cs_drop_revision(cs_txn *txn, const cs_locator *at, const cs_drop *drop,
                                  credstore_error *err);

#endif
