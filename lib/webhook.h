/* SPDX-License-Identifier: MIT
 *
 * Webhook signatures over a secret of a record, in Stripe's scheme.
 */
#ifndef CS_WEBHOOK_H
#define CS_WEBHOOK_H

#include "read.h"

/* field 0: not one that webhooks are signed with, E_INVALID. */
credstore_status cs_webhook_verify(credstore *store, const cs_kind *kind,
                                   const credstore_call *call, const cs_names *names,
                                   uint16_t field, const credstore_slice *header,
                                   const credstore_slice *body, uint32_t tolerance_s,
                                   credstore_error *err);

#endif
