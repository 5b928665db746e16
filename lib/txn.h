/* SPDX-License-Identifier: MIT
 *
 * Transactions: a snapshot to read from, or what a change reads and writes (commit.h).
 */
#ifndef CS_TXN_H
#define CS_TXN_H

#include "store.h"

/* The sealed summary of the store, one write with every commit. */
typedef struct cs_head {
    uint64_t generation; /* commits since creation */
    uint64_t last_seq;   /* of the audit */
    uint8_t chain[CS_CHAIN_LEN];
    int64_t time;  /* the largest time that decided anything */
    uint64_t ring; /* the keyring's version: what a writer seals under is never an older one */
} cs_head;

enum { CS_TXN_RANDOM = 1280 };

typedef struct cs_txn {
    credstore *store;
    void *handle;
    const cs_keyring *ring; /* never newer than the snapshot */
    bool changed;
    bool again;         /* the engine asked, at a put or del, to be run again */
    bool clock_behind;  /* by a day or more: the clock decided, not the head's time */
    int64_t clock, now; /* clock: the host's, read before the transaction began */
    uint64_t seen;      /* the generation that this process knew of before it began */
    cs_head head;
    uint8_t audit_nonce[CS_NONCE_LEN]; /* of the last entry: the marker by which an unknown commit
                                          is found */
    uint8_t random[CS_TXN_RANDOM];     /* drawn before the transaction began */
    size_t random_used;
    size_t bytes;           /* put and deleted so far */
    struct cs_copy *copies; /* what the engine could not lend */
} cs_txn;

/* A snapshot to read from; end it with cs_txn_end(). */
credstore_status cs_txn_read(credstore *store, cs_txn *txn, credstore_error *err);
void cs_txn_end(cs_txn *txn);

/* *value lives until the transaction ends. *found = false and OK if there is none. */
credstore_status cs_txn_get(cs_txn *txn, const cs_key *key, credstore_bytes *value, bool *found,
                            credstore_error *err);
typedef bool cs_visit(void *arg, credstore_bytes key, credstore_bytes value); /* false = enough */
typedef struct cs_scan {
    bool reverse;
    uint32_t limit; /* 0 = all */
    cs_visit *visit;
    void *arg;
    bool passing; /* visit keeps no pointer: what the engine cannot lend is not copied, so that a
                     walk of the whole store does not hold all of it */
} cs_scan;
credstore_status cs_txn_scan(cs_txn *txn, const cs_key *from, const cs_key *to, const cs_scan *scan,
                             credstore_error *err);
credstore_status cs_txn_del(cs_txn *txn, const cs_key *key, credstore_error *err);
credstore_status cs_txn_put(cs_txn *txn, const cs_key *key, const cs_buf *value,
                            credstore_error *err);

/* len bytes of this transaction's randomness, each handed out once; NULL when it is used up. */
const uint8_t *cs_txn_random(cs_txn *txn, size_t len);

/* An engine's result in words, with its native code. */
credstore_status cs_engine_failed(const credstore *store, int32_t result, const char *message,
                                  credstore_error *err);

/* For commit.c. prepare: what is asked before the engine's transaction begins. let_go: of what the
   engine could not lend. */
void cs_txn_prepare(credstore *store, cs_txn *txn);
credstore_status cs_txn_begin(credstore *store, bool write, int64_t wait_ms, void **handle,
                              credstore_error *err);
void cs_txn_let_go(cs_txn *txn);
extern const char cs_no_turn[], cs_no_room[]; /* what E_BUSY says */

#endif
