/* SPDX-License-Identifier: MIT
 *
 * Pages.
 */
#include "page.h"

#include <string.h>

#include "block.h"
#include "error.h"

credstore_status cs_page_new(size_t room, cs_page **out, cs_item **items, credstore_error *err)
{
    *out = cs_block_new(sizeof **out);
    *items = cs_block_new(room * sizeof **items);
    if (*out == NULL || *items == NULL) {
        credstore_free(*items);
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    cs_block_adopt(*out, *items);
    (*out)->struct_size = sizeof **out;
    (*out)->items = *items;
    return CREDSTORE_OK;
}

credstore_status cs_page_add(cs_page *page, cs_item *items, const char *id, void *view,
                             credstore_status status, const credstore_error *why,
                             credstore_error *err)
{
    const size_t len = strlen(id);
    char *copy;

    if (status != CREDSTORE_OK && status != CREDSTORE_E_INTEGRITY && status != CREDSTORE_E_FORMAT)
        return cs_fail(err, status, NULL, why->message);
    copy = cs_block_new(len + 1);
    if (copy == NULL) {
        credstore_free(view);
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    memcpy(copy, id, len);
    cs_block_adopt(page, copy);
    cs_block_adopt(page, view);
    items[page->count].id = copy;
    items[page->count].view = view;
    items[page->count].status = (int32_t)status;
    page->count++;
    return CREDSTORE_OK;
}
