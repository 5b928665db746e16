/* SPDX-License-Identifier: MIT
 *
 * Sealing anew what lies under retiring keys: a batch of values out of one snapshot, each opened
 * and sealed under the active keys, put back only where nothing has changed meanwhile.
 *
 * What belongs together is a unit: a record with its history and its parts, whose bodies name the
 * tags of the parts; anything else by itself. A box is as long as before, so a value is changed in
 * place and keeps every other byte.
 */
#ifndef CS_RESEAL_H
#define CS_RESEAL_H

#include "txn.h"

typedef struct cs_reseal {
    bool forsake; /* the caller's: what cannot be opened is given up */
    credstore *store;
    const cs_keyring *ring; /* of the snapshot */
    cs_buf bytes;           /* keys and values as they lie, and the values that take their place */
    cs_buf items, units;    /* see reseal.c */
    cs_buf nonces;
    size_t nonces_used;
    size_t boxes;      /* at most so many will be sealed */
    size_t unit_start; /* of bytes; of the unit that is being read */
    size_t unit_first; /* of items */
    size_t unit_key;   /* length of what the unit's keys have in common; 0 = none is being read */
    size_t unit_old;   /* boxes of it that are under retiring keys */
    bool unit_broken;  /* a value of it is not laid out as it should */
    uint8_t unit_name[CS_KEY_MAX + 1];
    uint64_t seen; /* values that were looked at */
    uint64_t due;  /* values that will be sealed anew, or whose unit will be */
    uint64_t
        unreadable; /* values that cannot be sealed anew, for damage to them or to their unit */
    uint64_t newer; /* values that only a newer library can seal anew */
    bool head_due;  /* what each commit writes anew is under a retiring key */
    cs_key next;    /* where the next batch begins; len 0 = this was the last */
    cs_key bad;     /* the first that is unreadable, or a newer library's; len 0 = none */
} cs_reseal;

/* Reads from `from` on what is to be sealed anew; a bounded number of values, but whole units. The
   transaction's keyring must be its snapshot's. Zero *out to start. */
credstore_status cs_reseal_read(cs_txn *txn, const cs_key *from, cs_reseal *out,
                                credstore_error *err);

/* Draws, opens and seals; outside of transactions. */
credstore_status cs_reseal_make(cs_reseal *batch, credstore_error *err);

/* In a write transaction whose keyring is the batch's: holds each unit against what it was made of,
   and makes it anew where it has changed; then puts all. */
credstore_status cs_reseal_confirm(cs_txn *txn, cs_reseal *batch, credstore_error *err);
credstore_status cs_reseal_put(cs_txn *txn, const cs_reseal *batch, credstore_error *err);

void cs_reseal_free(cs_reseal *batch);

#endif
