/* SPDX-License-Identifier: MIT
 *
 * Validation walks tables: which slots a patch has, what each may hold.
 */
#include "validate.h"

#include <string.h>

#include "error.h"
#include "id.h"
#include "sized.h"
#include "text.h"
#include "time.h"
#include "url.h"

/* ---- slots ---- */

static credstore_status invalid(credstore_error *err, const cs_field *field, const char *message)
{
    return cs_fail(err, CREDSTORE_E_INVALID, field->name, message);
}

static credstore_status check_text(const credstore *store, const cs_field *field,
                                   credstore_bytes text, credstore_error *err)
{
    const char *line = NULL;
    size_t chars = 0;

    if (text.len == 0 && !field->may_be_empty)
        return invalid(err, field, "The value is empty");
    if (text.len > field->max_bytes)
        return invalid(err, field, "The value is too long");
    if (!cs_utf8(text.ptr, text.len, &chars, NULL))
        return invalid(err, field, "The value is not UTF-8");
    if (field->max_chars != 0 && chars > field->max_chars)
        return invalid(err, field, "The value has too many characters");
    if (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL)
        return invalid(err, field, "The value holds a NUL");
    if (field->check != NULL)
        line = field->check(field, text.ptr, text.len, &store->rules);
    return line == NULL ? CREDSTORE_OK : invalid(err, field, line);
}

/* credstore_text and credstore_secret_text lie alike; the types differ for the compiler's sake. */
static credstore_status take_text(const credstore *store, const cs_field *field,
                                  const uint8_t *slot, cs_input *in, credstore_error *err)
{
    credstore_text text;

    memcpy(&text, slot, sizeof text);
    in->op = text.op;
    if (text.reserved != 0)
        return invalid(err, field, "The slot's reserved member is not zero");
    if (text.op != CREDSTORE_SET)
        return text.ptr == NULL && text.len == 0
                   ? CREDSTORE_OK
                   : invalid(err, field, "A slot that is not SET carries a value");
    if (text.ptr == NULL)
        return invalid(err, field, "The value is NULL");
    if (text.len == CREDSTORE_NTS)
        text.len = cs_text_len(text.ptr, field->max_bytes);
    in->bytes = cs_bytes(text.ptr, text.len);
    return check_text(store, field, in->bytes, err);
}

static credstore_status take_flag(const cs_field *field, const uint8_t *slot, cs_input *in,
                                  credstore_error *err)
{
    credstore_flag flag;

    memcpy(&flag, slot, sizeof flag);
    in->op = flag.op;
    in->number = flag.value;
    if (flag.op != CREDSTORE_SET && flag.value != 0)
        return invalid(err, field, "A slot that is not SET carries a value");
    if (flag.value > 1)
        return invalid(err, field, "A flag is 0 or 1");
    return CREDSTORE_OK;
}

static credstore_status take_time(const credstore *store, const cs_field *field,
                                  const uint8_t *slot, cs_inputs *out, cs_input *in,
                                  credstore_error *err)
{
    credstore_time time;

    memcpy(&time, slot, sizeof time);
    in->op = time.op;
    in->number = time.unix_ms;
    if (time.reserved != 0)
        return invalid(err, field, "The slot's reserved member is not zero");
    if (time.op != CREDSTORE_SET)
        return time.unix_ms == 0 ? CREDSTORE_OK
                                 : invalid(err, field, "A slot that is not SET carries a value");
    if (time.unix_ms <= 0 || time.unix_ms > CS_TIME_LAST)
        return invalid(err, field, "The time is not in the years 1970 to 9999");
    if ((field->flags & CS_FUTURE) != 0 && time.unix_ms <= cs_store_now(store))
        out->past = field;
    return CREDSTORE_OK;
}

/* Duplicates included: what is longer is a count that went wrong. */
enum { LIST_MAX = 65536 };

static credstore_status take_permissions(const credstore *store, const cs_field *field,
                                         const uint8_t *slot, cs_inputs *out, cs_input *in,
                                         credstore_error *err)
{
    credstore_strings strings;

    memcpy(&strings, slot, sizeof strings);
    in->op = strings.op;
    if (strings.reserved != 0)
        return invalid(err, field, "The slot's reserved member is not zero");
    if (strings.op != CREDSTORE_SET)
        return strings.items == NULL && strings.count == 0
                   ? CREDSTORE_OK
                   : invalid(err, field, "A slot that is not SET carries a value");
    if (strings.items == NULL && strings.count > 0)
        return invalid(err, field, "The list is NULL");
    if (strings.count > LIST_MAX)
        return invalid(err, field, "The list is too long");
    for (size_t i = 0; i < strings.count; i++) {
        const char *id = strings.items[i];
        const int number =
            id == NULL ? -1 : cs_catalogue_find(&store->catalogue, id, cs_text_len(id, CS_ID_MAX));

        if (number < 0)
            return invalid(err, field, "The catalogue has no such permission");
        cs_bit_set(out->bits, (unsigned)number);
    }
    in->bytes = cs_bytes(out->bits, sizeof out->bits);
    return CREDSTORE_OK;
}

/* Is each bit a permission of today's catalogue? */
static bool all_numbered(const credstore *store, const uint8_t *bits)
{
    const cs_catalogue *catalogue = &store->catalogue;
    size_t known = 0, set = 0;

    for (unsigned n = 0; n < CS_CATALOGUE_MAX; n++)
        set += cs_bit_get(bits, n);
    for (size_t i = 0; i < catalogue->count; i++)
        known += catalogue->items[i].numbered && cs_bit_get(bits, catalogue->items[i].number);
    return known == set;
}

credstore_status cs_check_stored(const credstore *store, const cs_field *field,
                                 const cs_value *value, credstore_error *err)
{
    if (field->type == CS_TEXT)
        return check_text(store, field, value->bytes, err);
    if (field->type == CS_PERMISSIONS && !all_numbered(store, value->bytes.ptr))
        return invalid(err, field, "The catalogue no longer has a permission");
    if ((field->flags & CS_FUTURE) != 0 && value->number <= cs_store_now(store))
        return invalid(err, field, "The time is in the past by now");
    return CREDSTORE_OK;
}

static credstore_status take_slot(const credstore *store, const cs_field *field, cs_inputs *out,
                                  cs_input *in, credstore_error *err)
{
    const uint8_t *slot = out->patch.bytes + field->in;

    switch (field->type) {
    case CS_FLAG:
        return take_flag(field, slot, in, err);
    case CS_TIME:
        return take_time(store, field, slot, out, in, err);
    case CS_PERMISSIONS:
        return take_permissions(store, field, slot, out, in, err);
    default: /* CS_TEXT, CS_SECRET */
        return take_text(store, field, slot, in, err);
    }
}

/* A pointer of the origin. */
static credstore_status take_origin_text(const credstore *store, const cs_field *field,
                                         const cs_inputs *out, cs_input *in, credstore_error *err)
{
    const char *text;

    memcpy(&text, out->origin.bytes + field->in, sizeof text);
    if (text == NULL)
        return CREDSTORE_OK;
    in->op = CREDSTORE_SET;
    if (field->type == CS_DIGEST) {
        in->bytes = cs_bytes(text, CS_DIGEST_LEN);
        return CREDSTORE_OK;
    }
    in->bytes = cs_bytes(text, cs_text_len(text, field->max_bytes));
    return check_text(store, field, in->bytes, err);
}

static credstore_status take_field(const credstore *store, const cs_field *field, bool create,
                                   cs_inputs *out, cs_input *in, credstore_error *err)
{
    credstore_status status;

    if ((field->flags & CS_INTERNAL) != 0)
        return CREDSTORE_OK;
    if ((field->flags & CS_FROM_ORIGIN) != 0)
        return take_origin_text(store, field, out, in, err);
    status = take_slot(store, field, out, in, err);
    if (status != CREDSTORE_OK)
        return status;
    if (in->op > CREDSTORE_CLEAR)
        return invalid(err, field, "The slot's op is none of KEEP, SET, CLEAR");
    if (in->op == CREDSTORE_CLEAR && (field->flags & CS_NULLABLE) == 0)
        return invalid(err, field, "The value cannot be null");
    if (create && in->op != CREDSTORE_SET && (field->flags & CS_REQUIRED) != 0)
        return invalid(err, field, "The value is required at creation");
    return CREDSTORE_OK;
}

/* ---- checks for the tables ---- */

const char *cs_check_printable(const cs_field *field, const char *ptr, size_t len,
                               const cs_rules *rules)
{
    (void)field;
    (void)rules;
    return cs_no_control(ptr, len) ? NULL : "The value holds a control character";
}

const char *cs_check_visible(const cs_field *field, const char *ptr, size_t len,
                             const cs_rules *rules)
{
    (void)field;
    (void)rules;
    return cs_visible_ascii(ptr, len) ? NULL : "The value is not visible ASCII";
}

const char *cs_check_base_url(const cs_field *field, const char *ptr, size_t len,
                              const cs_rules *rules)
{
    (void)field;
    return cs_url_check(ptr, len, rules->base_url_allow, rules->base_url_allow_count);
}

const char *cs_check_ksuid(const cs_field *field, const char *ptr, size_t len,
                           const cs_rules *rules)
{
    (void)field;
    (void)rules;
    return cs_ksuid_valid(ptr, len) ? NULL : "The value is not a KSUID";
}

const char *cs_check_uuid(const cs_field *field, const char *ptr, size_t len, const cs_rules *rules)
{
    (void)field;
    (void)rules;
    return cs_uuid_valid(ptr, len) ? NULL : "The value is not a UUID";
}

const char *cs_check_url_id(const cs_field *field, const char *ptr, size_t len,
                            const cs_rules *rules)
{
    (void)field;
    (void)rules;
    return cs_url_id_text(ptr, len) ? NULL : "The value is not 1..255 of [A-Za-z0-9_-]";
}

/* ---- patches and origins ---- */

static credstore_status take_patch(const cs_kind *kind, const void *patch, cs_inputs *out,
                                   credstore_error *err)
{
    uint16_t starts[2 + CS_FIELDS_MAX] = {4, 8}; /* behind struct_size, and behind reserved */
    size_t count = 2;
    uint32_t reserved;
    credstore_status status;

    for (size_t i = 0; i < kind->field_count; i++)
        if ((kind->fields[i].flags & (CS_INTERNAL | CS_FROM_ORIGIN)) == 0)
            starts[count++] = kind->fields[i].in;
    status = cs_struct_take(out->patch.bytes, kind->patch_size, patch, starts, count, "patch", err);
    memcpy(&reserved, out->patch.bytes + 4, sizeof reserved);
    if (status == CREDSTORE_OK && reserved != 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "patch", "reserved is not zero");
    return status;
}

static credstore_status take_origin(const credstore *store, const cs_kind *kind, const void *origin,
                                    cs_inputs *out, credstore_error *err)
{
    const cs_shared_at *at = &kind->origin;
    uint16_t starts[5 + CS_FIELDS_MAX] = {4, at->id, at->created_at, at->updated_at,
                                          at->last_used_at};
    const int64_t now = cs_store_now(store);
    size_t count = 5;
    int64_t created, updated, used;
    credstore_status status;

    if (origin == NULL)
        return CREDSTORE_OK;
    for (size_t i = 0; i < kind->field_count; i++)
        if ((kind->fields[i].flags & CS_FROM_ORIGIN) != 0)
            starts[count++] = kind->fields[i].in;
    status = cs_struct_take(out->origin.bytes, at->size, origin, starts, count, "origin", err);
    if (status != CREDSTORE_OK)
        return status;
    out->has_origin = true;
    created = cs_origin_time(out, at->created_at);
    updated = cs_origin_time(out, at->updated_at);
    used = cs_origin_time(out, at->last_used_at);
    if (created < 0 || created > now)
        return cs_fail(err, CREDSTORE_E_INVALID, "created_at", "The time is in the future");
    if (updated != 0 && (updated > now || updated < (created == 0 ? now : created)))
        return cs_fail(err, CREDSTORE_E_INVALID, "updated_at",
                       "The time is in the future or before created_at");
    if (used < 0 || used > now)
        return cs_fail(err, CREDSTORE_E_INVALID, "last_used_at", "The time is in the future");
    return CREDSTORE_OK;
}

credstore_status cs_inputs_check_past(const cs_inputs *inputs, credstore_error *err)
{
    return inputs->past == NULL ? CREDSTORE_OK
                                : invalid(err, inputs->past, "The time is in the past");
}

int64_t cs_origin_time(const cs_inputs *inputs, uint16_t at)
{
    int64_t time = 0;

    if (at != 0)
        memcpy(&time, inputs->origin.bytes + at, sizeof time);
    return time;
}

const char *cs_origin_id(const cs_kind *kind, const cs_inputs *inputs)
{
    const char *id = NULL;

    if (kind->origin.id != 0)
        memcpy(&id, inputs->origin.bytes + kind->origin.id, sizeof id);
    return id;
}

credstore_status cs_inputs_take(const credstore *store, const cs_kind *kind, const void *patch,
                                const void *origin, bool create, cs_inputs *out,
                                credstore_error *err)
{
    credstore_status status;

    memset(out, 0, sizeof *out);
    status = take_patch(kind, patch, out, err);
    if (status == CREDSTORE_OK && create)
        status = take_origin(store, kind, origin, out, err);
    for (size_t i = 0; i < kind->field_count && status == CREDSTORE_OK; i++)
        status = take_field(store, &kind->fields[i], create, out, &out->field[i], err);
    return status;
}
