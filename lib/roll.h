/* SPDX-License-Identifier: MIT
 *
 * Rolling a stored secret.
 */
#ifndef CS_ROLL_H
#define CS_ROLL_H

#include "update.h"

/* Replaces one secret; the old one stays good for grace_s seconds. */
credstore_status cs_roll_secret(credstore *store, const cs_kind *kind, const credstore_call *call,
                                const cs_names *names, uint32_t field,
                                const credstore_secret_text *fresh, uint32_t grace_s, void *out,
                                credstore_error *err);

#endif
