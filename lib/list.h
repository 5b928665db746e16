/* SPDX-License-Identifier: MIT
 *
 * Lists of an owner's records.
 */
#ifndef CS_LIST_H
#define CS_LIST_H

#include "read.h"

/* Every kind's page and item, with the kind's view as a plain pointer. */
typedef struct cs_item {
    const char *id;
    const void *view;
    int32_t status;
    uint32_t reserved;
} cs_item;

typedef struct cs_page {
    uint32_t struct_size, has_next_page, has_prev_page, reserved;
    const char *start_cursor, *end_cursor;
    const cs_item *items;
    size_t count;
} cs_page;

enum { CS_PAGE_MAX = 100, CS_PAGE_DEFAULT = 20 };

/* page may be NULL. out as for cs_get(). */
credstore_status cs_list(credstore *store, const cs_kind *kind, const credstore_call *call,
                         const cs_names *names, const credstore_page *page, const cs_render *render,
                         void *out, credstore_error *err);

#endif
