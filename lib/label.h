/* SPDX-License-Identifier: MIT
 *
 * Labels of tenants that are named in the path.
 */
#ifndef CS_LABEL_H
#define CS_LABEL_H

#include "kind.h"

/* Sets or removes (NULL) the label of a tenant that is named in the path. */
credstore_status cs_set_label(credstore *store, const cs_kind *kind, const credstore_call *call,
                              const char *tenant, const char *label, credstore_error *err);

#endif
