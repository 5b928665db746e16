/* SPDX-License-Identifier: MIT
 *
 * The permission catalogue.
 */
#include "catalogue.h"

#include <string.h>

#include "error.h"
#include "text.h"

enum { TEXT_MAX = 64, ENTRY_HEAD = 2 + 2 };

static credstore_status invalid(credstore_error *err, const char *message)
{
    return cs_fail(err, CREDSTORE_E_INVALID, "catalogue", message);
}

static bool text_ok(const char *text)
{
    return text != NULL && cs_permission_text(text, cs_text_len(text, TEXT_MAX));
}

/* A map of resource -> action shows each pair once, so a pair is as unique as an id. */
static bool same(const credstore_permission *a, const credstore_permission *b)
{
    return strcmp(a->id, b->id) == 0 ||
           (strcmp(a->resource, b->resource) == 0 && strcmp(a->action, b->action) == 0);
}

static const char *copy_text(char **at, const char *text)
{
    const char *copy = *at;
    const size_t size = strlen(text) + 1;

    memcpy(*at, text, size);
    *at += size;
    return copy;
}

credstore_status cs_catalogue_copy(const credstore_permission *items, size_t count,
                                   cs_catalogue *out, credstore_error *err)
{
    size_t room = 0;
    char *at;

    memset(out, 0, sizeof *out);
    if (count > CS_CATALOGUE_MAX)
        return cs_fail(err, CREDSTORE_E_TOO_LARGE, "catalogue",
                       "A catalogue has at most 512 permissions");
    if (count == 0)
        return CREDSTORE_OK;
    for (size_t i = 0; i < count; i++) {
        if (!text_ok(items[i].id) || !text_ok(items[i].resource) || !text_ok(items[i].action))
            return invalid(err, "id, resource and action are 1..64 of [A-Za-z0-9._:-]");
        room += strlen(items[i].id) + strlen(items[i].resource) + strlen(items[i].action) + 3;
        for (size_t j = 0; j < i; j++)
            if (same(&items[i], &items[j]))
                return invalid(err, "An id, or a resource with its action, stands twice");
    }
    out->items = cs_alloc(count, sizeof *out->items);
    out->texts = cs_alloc(room, 1);
    if (out->items == NULL || out->texts == NULL) {
        cs_catalogue_free(out);
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    at = out->texts;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        out->items[i].id = copy_text(&at, items[i].id);
        out->items[i].resource = copy_text(&at, items[i].resource);
        out->items[i].action = copy_text(&at, items[i].action);
    }
    return CREDSTORE_OK;
}

void cs_catalogue_free(cs_catalogue *catalogue)
{
    cs_free(catalogue->items);
    cs_free(catalogue->texts);
    memset(catalogue, 0, sizeof *catalogue);
}

static cs_catalogue_item *item_of(const cs_catalogue *catalogue, const void *ptr, size_t len)
{
    for (size_t i = 0; i < catalogue->count; i++)
        if (strlen(catalogue->items[i].id) == len && memcmp(catalogue->items[i].id, ptr, len) == 0)
            return &catalogue->items[i];
    return NULL;
}

/* Reads the stored list: u16 number, u16 length, id, again and again. */
static bool take_known(cs_catalogue *catalogue, credstore_bytes known, unsigned *next)
{
    const uint8_t *p = known.ptr;
    size_t left = known.len;

    while (left > 0) {
        cs_catalogue_item *item;
        size_t len;

        if (left < ENTRY_HEAD || cs_get_u16(p + 2) > left - ENTRY_HEAD)
            return false;
        len = cs_get_u16(p + 2);
        if (cs_get_u16(p) != *next || *next >= CS_CATALOGUE_MAX)
            return false;
        item = item_of(catalogue, p + ENTRY_HEAD, len);
        if (item != NULL) {
            item->number = (uint16_t)*next;
            item->numbered = true;
        }
        (*next)++;
        p += ENTRY_HEAD + len;
        left -= ENTRY_HEAD + len;
    }
    return true;
}

credstore_status cs_catalogue_number(cs_catalogue *catalogue, credstore_bytes known, cs_buf *grown,
                                     size_t *added, credstore_error *err)
{
    unsigned next = 0;

    *added = 0;
    for (size_t i = 0; i < catalogue->count; i++)
        catalogue->items[i].numbered = false;
    if (!take_known(catalogue, known, &next))
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The stored catalogue is damaged");
    cs_buf_add(grown, known.ptr, known.len);
    for (size_t i = 0; i < catalogue->count; i++) {
        cs_catalogue_item *item = &catalogue->items[i];

        if (item->numbered)
            continue;
        if (next == CS_CATALOGUE_MAX)
            return cs_fail(err, CREDSTORE_E_TOO_LARGE, "catalogue",
                           "The store has seen 512 permission ids, and numbers are never reused");
        item->number = (uint16_t)next++;
        item->numbered = true;
        cs_buf_u16(grown, item->number);
        cs_buf_u16(grown, (uint16_t)strlen(item->id));
        cs_buf_add(grown, item->id, strlen(item->id));
        (*added)++;
    }
    if (grown->failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return CREDSTORE_OK;
}

void cs_catalogue_forget(cs_catalogue *catalogue, size_t added)
{
    unsigned known = 0;

    for (size_t i = 0; i < catalogue->count; i++)
        if (catalogue->items[i].number >= known)
            known = catalogue->items[i].number + 1U;
    for (size_t i = 0; i < catalogue->count; i++)
        if (catalogue->items[i].number >= known - added)
            catalogue->items[i].numbered = false;
}

int cs_catalogue_find(const cs_catalogue *catalogue, const char *ptr, size_t len)
{
    const cs_catalogue_item *item = item_of(catalogue, ptr, len);

    return item != NULL && item->numbered ? item->number : -1;
}

bool cs_bit_get(const uint8_t *bits, unsigned number)
{
    return (bits[number / 8] >> (number % 8) & 1) != 0;
}

void cs_bit_set(uint8_t *bits, unsigned number)
{
    bits[number / 8] = (uint8_t)(bits[number / 8] | 1U << (number % 8));
}
