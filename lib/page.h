/* SPDX-License-Identifier: MIT
 *
 * Pages: views of one kind in a row, with what could not be read between them.
 */
#ifndef CS_PAGE_H
#define CS_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "credstore.h"

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

/* A page with room for `room` items. */
credstore_status cs_page_new(size_t room, cs_page **out, cs_item **items, credstore_error *err);

/* Adds a view, which the page then owns, or what hindered it (why): unreadable records are items
   too. Without memory or engine the page as a whole fails. */
credstore_status cs_page_add(cs_page *page, cs_item *items, const char *id, void *view,
                             credstore_status status, const credstore_error *why,
                             credstore_error *err);

#endif
