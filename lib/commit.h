/* SPDX-License-Identifier: MIT
 *
 * Changes are closures, so that how they become durable (alone, again after a conflict, with others
 * in one commit) stays in here.
 */
#ifndef CS_COMMIT_H
#define CS_COMMIT_H

#include "txn.h"

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

#endif
