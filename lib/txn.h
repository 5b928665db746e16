/* SPDX-License-Identifier: MIT
 *
 * Transactions. A change is a closure, so that how it becomes durable (alone, again after a
 * conflict, with others in one commit) stays in here.
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

/* A change. run may be called again from the start in a new transaction, and by another thread of
   this process that waits for the same turn: it calls no host code, waits for nothing, wraps no key
   and draws no randomness but from cs_txn_random(). All its reads come before its writes. Any
   status but OK changes nothing; so does OK without a put. */
typedef struct cs_work {
    credstore_status (*run)(cs_txn *txn, void *arg, credstore_error *err);
    void *arg;
    int64_t wait_ms; /* 0 = the store's default */
} cs_work;

/* Runs one change and makes it durable: together with those of other threads that wait at the same
   time, in one transaction with one head, if the engine's transactions read their own writes. Each
   gets its own answer, as if they had come one after the other. A change that fails before its
   first put leaves the others whole; after it, each is run again alone. One that moves the head's
   keyring version is the last of its transaction.

   wait_ms is for the line and the engine's turn: E_BUSY, and nothing changed. A change that
   another thread has taken into its transaction does not give up any more. A request to cancel the
   thread is held back until this returns, at most for that time and the transaction itself: so
   nobody is left waiting, and nothing of the caller's is lost. Statuses of run, and E_BUSY,
   E_CONFLICT, E_FULL, E_STORAGE, E_COMMIT_UNKNOWN, E_ROLLBACK, E_ENTROPY. */
credstore_status cs_txn_write(credstore *store, const cs_work *work, credstore_error *err);

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
} cs_scan;
credstore_status cs_txn_scan(cs_txn *txn, const cs_key *from, const cs_key *to, const cs_scan *scan,
                             credstore_error *err);
credstore_status cs_txn_del(cs_txn *txn, const cs_key *key, credstore_error *err);
credstore_status cs_txn_put(cs_txn *txn, const cs_key *key, const cs_buf *value,
                            credstore_error *err);

/* len bytes of this transaction's randomness, each handed out once; NULL when it is used up. */
const uint8_t *cs_txn_random(cs_txn *txn, size_t len);

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

#endif
