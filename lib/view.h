/* SPDX-License-Identifier: MIT
 *
 * Views: a record as the caller sees it, in one block, with no secret in it.
 */
#ifndef CS_VIEW_H
#define CS_VIEW_H

#include "record.h"
#include "store.h"

/* Builds the kind's view. grants_of (may be NULL): fill the map of what this actor may do. *out is
   one block for credstore_free(). E_NO_MEMORY, E_INTEGRITY. */
credstore_status cs_view_build(const credstore *store, const cs_kind *kind, const cs_record *record,
                               int64_t last_used_at, const credstore_actor *grants_of, void **out,
                               credstore_error *err);

#endif
