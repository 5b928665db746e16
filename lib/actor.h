/* SPDX-License-Identifier: MIT
 *
 * What an actor may at the moment of a change: one that has a record in the store is no more than
 * that record says in the same transaction.
 */
#ifndef CS_ACTOR_H
#define CS_ACTOR_H

#include "merge.h"
#include "op.h"

/* The operation's actor, narrowed to what his own record still lets him do, if he has one. A read.
   E_UNAUTHENTICATED, E_REVOKED, E_EXPIRED, E_FORBIDDEN. */
credstore_status cs_actor_narrow(cs_txn *txn, const cs_op *op, credstore_actor *out,
                                 credstore_error *err);

/* Nobody grants what he does not hold. E_FORBIDDEN. */
credstore_status cs_actor_grants(const credstore_actor *actor, const cs_settle *settle,
                                 credstore_error *err);

/* A token hands over all that its record lets it do: whoever gets one holds that himself.
   E_FORBIDDEN. */
credstore_status cs_actor_hands_over(const cs_op *op, const credstore_actor *actor,
                                     const cs_record *record, credstore_error *err);

#endif
