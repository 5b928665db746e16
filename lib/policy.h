/* SPDX-License-Identifier: MIT
 *
 * Who may do what: the default rules.
 */
#ifndef CS_POLICY_H
#define CS_POLICY_H

#include "store.h"

/* E_UNAUTHENTICATED, E_INVALID or E_EXPIRED for an actor that can ask nothing at all. */
credstore_status cs_policy_actor(const credstore_actor *actor, int64_t now, credstore_error *err);

/* E_FORBIDDEN unless the kind's rule for the class lets this actor at this tenant. Who may change
   may read. named: the call names the tenant, without which SUPER is worth nothing. */
credstore_status cs_policy_may(const credstore *store, const credstore_actor *actor,
                               const cs_kind *kind, cs_class cls, const char *tenant, bool named,
                               credstore_error *err);

/* Nobody grants what he does not hold: E_FORBIDDEN if a bit of `after` that `before` (NULL = none)
   lacks is not the actor's. */
credstore_status cs_policy_grants(const credstore_actor *actor, const uint8_t *before,
                                  const uint8_t *after, const char *field, credstore_error *err);

/* SYSTEM, or a SUPER user. */
bool cs_policy_sees_all(const credstore_actor *actor);
/* An administrator of the tenant. */
bool cs_policy_administers(const credstore_actor *actor, const char *tenant);
bool cs_policy_holds(const credstore_actor *actor, const cs_catalogue_item *item);

/* SYSTEM, or a SUPER user where the call names the tenant. */
bool cs_policy_is_above(const credstore_actor *actor, bool named);

#endif
