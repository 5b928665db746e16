/* SPDX-License-Identifier: MIT
 *
 * The revisions of a record.
 */
#ifndef CS_HISTORY_H
#define CS_HISTORY_H

#include "read.h"

/* The revisions of a record, newest first: those before `before` (0 = all), at most limit. out as
   for cs_get(): a page of the kind without cursors; has_next_page = there are older ones. */
credstore_status cs_history(credstore *store, const cs_kind *kind, const credstore_call *call,
                            const cs_names *names, uint64_t before, uint32_t limit, void *out,
                            credstore_error *err);

#endif
