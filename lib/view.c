/* SPDX-License-Identifier: MIT
 *
 * Views are laid out twice by the same code: once to learn the size, once to write.
 */
#include "view.h"

#include <string.h>

#include "block.h"
#include "error.h"
#include "policy.h"

typedef struct block {
    uint8_t *base; /* NULL: measuring */
    size_t used;
} block;

/* Room in the block, 8-aligned; NULL while measuring. */
static void *take(block *b, size_t size)
{
    void *at;

    b->used = (b->used + 7) & ~(size_t)7;
    at = b->base == NULL ? NULL : b->base + b->used;
    b->used += size;
    return at;
}

static void set_pointer(block *b, size_t at, const void *ptr)
{
    if (b->base != NULL && at != 0)
        memcpy(b->base + at, &ptr, sizeof ptr);
}

static void set_u32(block *b, size_t at, uint32_t v)
{
    if (b->base != NULL && at != 0)
        memcpy(b->base + at, &v, sizeof v);
}

static void set_u64(block *b, size_t at, uint64_t v)
{
    if (b->base != NULL && at != 0)
        memcpy(b->base + at, &v, sizeof v);
}

static const char *put_text(block *b, credstore_bytes text)
{
    char *at = take(b, text.len + 1);

    if (at == NULL)
        return NULL;
    if (text.len > 0)
        memcpy(at, text.ptr, text.len);
    at[text.len] = '\0';
    return at;
}

static void show_text(block *b, size_t at, credstore_bytes text)
{
    if (at != 0)
        set_pointer(b, at, put_text(b, text));
}

static void show_permissions(block *b, const credstore *store, const cs_field *field,
                             const cs_value *value)
{
    const uint8_t *bits = value->bytes.ptr;
    const cs_catalogue *catalogue = &store->catalogue;
    const char **items;
    size_t count = 0;

    for (size_t i = 0; i < catalogue->count; i++)
        count += catalogue->items[i].numbered && cs_bit_get(bits, catalogue->items[i].number);
    if (count == 0)
        return;
    items = take(b, count * sizeof *items);
    set_pointer(b, field->view, items);
    set_u64(b, field->count, count);
    count = 0;
    for (size_t i = 0; i < catalogue->count; i++) {
        const cs_catalogue_item *item = &catalogue->items[i];
        const char *text;

        if (!item->numbered || !cs_bit_get(bits, item->number))
            continue;
        text = put_text(b, cs_bytes_of(item->id));
        if (items != NULL)
            items[count] = text;
        count++;
    }
}

static void show_mask(block *b, const cs_field *field, const cs_value *value)
{
    char mask[CS_MASK_MAX] = "";

    if (field->mask == 0)
        return;
    if (field->type == CS_SECRET) {
        show_text(b, field->mask, value->bytes);
        return;
    }
    field->make_mask(value->bytes.ptr, value->bytes.len, mask);
    show_text(b, field->mask, cs_bytes_of(mask));
}

static void show_field(block *b, const credstore *store, const cs_field *field,
                       const cs_value *value)
{
    if (!value->present)
        return;
    switch (field->type) {
    case CS_TEXT:
        show_text(b, field->view, value->bytes);
        break;
    case CS_FLAG:
        set_u32(b, field->view, value->number != 0);
        break;
    case CS_TIME:
        set_u64(b, field->view, (uint64_t)value->number);
        break;
    case CS_PERMISSIONS:
        show_permissions(b, store, field, value);
        break;
    case CS_DIGEST:
        break;
    default: /* CS_SECRET */
        set_u64(b, field->set_at, (uint64_t)value->number);
        break;
    }
    show_mask(b, field, value);
    set_u32(b, field->has, 1);
}

static void show_grants(block *b, const credstore *store, const cs_shared_at *at,
                        const credstore_actor *actor)
{
    const cs_catalogue *catalogue = &store->catalogue;
    const credstore_grant **items = take(b, catalogue->count * sizeof *items + 1);

    set_pointer(b, at->grants, items);
    set_u64(b, at->grant_count, catalogue->count);
    for (size_t i = 0; i < catalogue->count; i++) {
        credstore_grant *grant = take(b, sizeof *grant);
        const char *resource = put_text(b, cs_bytes_of(catalogue->items[i].resource));
        const char *action = put_text(b, cs_bytes_of(catalogue->items[i].action));

        if (grant == NULL || items == NULL)
            continue;
        items[i] = grant;
        grant->resource = resource;
        grant->action = action;
        grant->granted = cs_policy_holds(actor, &catalogue->items[i]);
        grant->reserved = 0;
    }
}

static void lay_out(block *b, const credstore *store, const cs_kind *kind, const cs_record *record,
                    int64_t last_used_at, const credstore_actor *grants_of)
{
    const cs_shared_at *at = &kind->view;
    const uint32_t size = at->size;

    take(b, size);
    if (b->base != NULL)
        memcpy(b->base, &size, sizeof size);
    set_u64(b, at->revision, record->revision);
    set_u64(b, at->created_at, (uint64_t)record->created_at);
    set_u64(b, at->updated_at, (uint64_t)record->updated_at);
    set_u64(b, at->last_used_at, (uint64_t)last_used_at);
    show_text(b, at->id, record->id);
    show_text(b, at->tenant, record->owner);
    show_text(b, at->parent, record->parent);
    for (size_t i = 0; i < kind->field_count; i++)
        show_field(b, store, &kind->fields[i], &record->values[i]);
    if (grants_of != NULL && at->grants != 0)
        show_grants(b, store, at, grants_of);
}

credstore_status cs_view_build(const credstore *store, const cs_kind *kind, const cs_record *record,
                               int64_t last_used_at, const credstore_actor *grants_of, void **out,
                               credstore_error *err)
{
    block b = {0};

    lay_out(&b, store, kind, record, last_used_at, grants_of);
    b.base = cs_block_new(b.used);
    if (b.base == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    b.used = 0;
    lay_out(&b, store, kind, record, last_used_at, grants_of);
    if (kind->fill != NULL)
        kind->fill(record, b.base);
    *out = b.base;
    return CREDSTORE_OK;
}
