/* SPDX-License-Identifier: MIT
 *
 * The keyring that an open store works with. A loaded ring is never changed: when the stored one
 * has moved on, a new one is loaded and takes its place, and the old one stays until close for
 * those who still hold it.
 */
#ifndef CS_RING_H
#define CS_RING_H

#include "txn.h"

/* Loads the snapshot's keyring and makes it the transaction's, and the store's if that is older.
   E_INTEGRITY if it is lost or damaged, E_NO_MEMORY. */
credstore_status cs_ring_refresh(cs_txn *txn, credstore_error *err);

/* Sees to it that the transaction's ring is the one that the head tells of. E_INTEGRITY if the
   stored keyring is not: one of the two was put back. */
credstore_status cs_ring_match(cs_txn *txn, uint64_t version, credstore_error *err);

/* Takes over a ring whose keys are loaded; it belongs to the store from now on, and is the store's
   unless that has as new a one. Answers a ring of the same version: another thread's, if there is
   one. A newer one would not do for a snapshot that is older: it may have retired a key there. */
const cs_keyring *cs_ring_publish(credstore *store, cs_keyring *ring);

/* Copies the snapshot's keyring as it is stored; free with cs_ring_values_free(). E_INTEGRITY if it
   is lost. */
credstore_status cs_ring_read(cs_txn *txn, cs_ring_values *out, credstore_error *err);
/* Puts the next one, and has the head tell of it. */
credstore_status cs_ring_put(cs_txn *txn, const cs_ring_values *next, credstore_error *err);

/* At close. */
void cs_ring_free_all(credstore *store);

#endif
