/* SPDX-License-Identifier: MIT
 *
 * Lists of an owner's records.
 */
#ifndef CS_LIST_H
#define CS_LIST_H

#include "read.h"

enum { CS_PAGE_MAX = 100, CS_PAGE_DEFAULT = 20 };

/* page may be NULL. out as for cs_get(). */
credstore_status cs_list(credstore *store, const cs_kind *kind, const credstore_call *call,
                         const cs_names *names, const credstore_page *page, const cs_render *render,
                         void *out, credstore_error *err);

#endif
