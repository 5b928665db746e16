/* SPDX-License-Identifier: MIT
 *
 * Verification: a presented token becomes an actor.
 */
#ifndef CS_VERIFY_H
#define CS_VERIFY_H

#include "store.h"

credstore_status cs_verify(credstore *store, const cs_kind *kind, const char *token, size_t len,
                           credstore_actor *out, credstore_error *err);

#endif
