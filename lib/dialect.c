/* SPDX-License-Identifier: MIT
 *
 * The documents' JSON, from and to the kinds' tables.
 */
#include "dialect.h"

#include <string.h>

#include "error.h"
#include "time.h"

/* ---- in ---- */

static credstore_status wrong(credstore_error *err, const char *field, size_t offset,
                              const char *message)
{
    return cs_fail_at(err, CREDSTORE_E_INVALID, field, offset, message);
}

static credstore_status take_time(const cs_field *field, const cs_json_member *member,
                                  credstore_time *slot, credstore_error *err)
{
    const size_t len = strlen(member->text);

    if (len == 0 && (field->flags & CS_EMPTY_IS_NULL) != 0) {
        slot->op = CREDSTORE_CLEAR;
        return CREDSTORE_OK;
    }
    slot->op = CREDSTORE_SET;
    if (!cs_time_parse(member->text, len, &slot->unix_ms))
        return wrong(err, field->name, member->offset, "The value is not an RFC 3339 time");
    return CREDSTORE_OK;
}

static credstore_status take_strings(const cs_field *field, const cs_json_member *member,
                                     cs_body *out, credstore_strings *slot, credstore_error *err)
{
    slot->op = CREDSTORE_SET;
    slot->count = member->array_count;
    if (slot->count == 0)
        return CREDSTORE_OK;
    out->strings = cs_alloc(slot->count, sizeof *out->strings);
    if (out->strings == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    slot->items = out->strings;
    if (!cs_json_strings(member, out->strings))
        return wrong(err, field->name, member->offset, "The list holds what is not a string");
    return CREDSTORE_OK;
}

/* What JSON type a field takes, by its type; all but these two take a string. */
static cs_json_type json_type(const cs_field *field)
{
    if (field->type == CS_FLAG)
        return CS_JSON_BOOL;
    return field->type == CS_PERMISSIONS ? CS_JSON_ARRAY : CS_JSON_STRING;
}

typedef union slot {
    credstore_text text; /* and credstore_secret_text */
    credstore_flag flag;
    credstore_time time;
    credstore_strings strings;
} slot;

static size_t slot_size(const cs_field *field)
{
    switch (field->type) {
    case CS_FLAG:
        return sizeof(credstore_flag);
    case CS_TIME:
        return sizeof(credstore_time);
    case CS_PERMISSIONS:
        return sizeof(credstore_strings);
    default:
        return sizeof(credstore_text);
    }
}

static void clear(const cs_field *field, slot *to)
{
    if (field->type == CS_FLAG)
        to->flag.op = CREDSTORE_CLEAR;
    else if (field->type == CS_TIME)
        to->time.op = CREDSTORE_CLEAR;
    else if (field->type == CS_PERMISSIONS)
        to->strings.op = CREDSTORE_CLEAR;
    else
        to->text.op = CREDSTORE_CLEAR;
}

/* The kind of value is right: fills the slot. */
static credstore_status set(const cs_field *field, const cs_json_member *member, cs_body *out,
                            slot *to, credstore_error *err)
{
    if (field->type == CS_TIME)
        return take_time(field, member, &to->time, err);
    if (field->type == CS_PERMISSIONS)
        return take_strings(field, member, out, &to->strings, err);
    if (field->type == CS_FLAG) {
        to->flag.op = CREDSTORE_SET;
        to->flag.value = member->flag;
    } else {
        to->text.op = CREDSTORE_SET;
        to->text.ptr = member->text;
        to->text.len = strlen(member->text);
    }
    return CREDSTORE_OK;
}

static credstore_status take_member(const cs_kind *kind, const cs_json_member *member, bool create,
                                    cs_body *out, credstore_error *err)
{
    slot to = {0};
    const cs_field *field;
    size_t i = 0;
    credstore_status status = CREDSTORE_OK;

    while (i < kind->field_count && strcmp(kind->fields[i].name, member->name) != 0)
        i++;
    field = &kind->fields[i];
    if (i == kind->field_count || (field->flags & CS_INTERNAL) != 0 ||
        ((field->flags & CS_FROM_ORIGIN) != 0 && !(create && (field->flags & CS_IN_CREATE) != 0)))
        return wrong(err, NULL, member->offset, "The member before this value is not known here");
    out->offset[i] = member->offset;
    if (member->type == CS_JSON_NULL && (field->flags & CS_NULLABLE) == 0)
        return wrong(err, field->name, member->offset, "The value cannot be null");
    if (member->type != CS_JSON_NULL && member->type != json_type(field))
        return wrong(err, field->name, member->offset, "The value is of another type");
    if ((field->flags & CS_FROM_ORIGIN) != 0) {
        memcpy(out->origin.bytes + field->in, &member->text, sizeof member->text);
        return CREDSTORE_OK;
    }
    if (member->type == CS_JSON_NULL)
        clear(field, &to);
    else
        status = set(field, member, out, &to, err);
    memcpy(out->patch.bytes + field->in, &to, slot_size(field));
    return status;
}

static credstore_status check_required(const cs_kind *kind, const cs_body *body,
                                       credstore_error *err)
{
    for (size_t i = 0; i < kind->field_count; i++)
        if ((kind->fields[i].flags & CS_IN_BODY) != 0 && body->offset[i] == 0)
            return wrong(err, kind->fields[i].name, 0, "The member is required");
    return CREDSTORE_OK;
}

credstore_status cs_body_take(const cs_kind *kind, credstore_slice text, bool create,
                              const char *id, cs_body *out, credstore_error *err)
{
    const uint32_t patch_size = kind->patch_size, origin_size = kind->origin.size;
    credstore_status status = cs_json_parse(text.ptr, text.len, &out->json, err);

    memcpy(out->patch.bytes, &patch_size, sizeof patch_size);
    memcpy(out->origin.bytes, &origin_size, sizeof origin_size);
    if (id != NULL && kind->origin.id != 0)
        memcpy(out->origin.bytes + kind->origin.id, &id, sizeof id);
    for (size_t i = 0; status == CREDSTORE_OK && i < cs_json_count(out->json); i++) {
        cs_json_member member;

        cs_json_member_at(out->json, i, &member);
        status = take_member(kind, &member, create, out, err);
    }
    return status == CREDSTORE_OK ? check_required(kind, out, err) : status;
}

void cs_body_free(cs_body *body)
{
    cs_json_free(body->json);
    cs_free(body->strings);
    memset(body, 0, sizeof *body);
}

void cs_body_place(const cs_kind *kind, const cs_body *body, credstore_error *err)
{
    for (size_t i = 0; i < kind->field_count && err->offset == 0; i++)
        if (strcmp(kind->fields[i].name, err->field) == 0)
            err->offset = (uint32_t)body->offset[i];
}

/* ---- out: views ---- */

static const void *pointer_at(const void *view, size_t at)
{
    const void *ptr;

    memcpy(&ptr, (const uint8_t *)view + at, sizeof ptr);
    return ptr;
}

static int64_t number_at(const void *view, size_t at)
{
    int64_t number;

    memcpy(&number, (const uint8_t *)view + at, sizeof number);
    return number;
}

static void show_time(cs_json_writer *writer, const cs_member *member, int64_t time)
{
    char text[CS_TIME_TEXT];

    if (time != 0 && cs_time_format(time, member->show == CS_SHOW_MILLIS, text))
        cs_json_write_text(writer, member->name, text);
    else if (!member->omit_null)
        cs_json_write_text(writer, member->name, NULL);
}

static bool shown_before(const credstore_grant *const *grants, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (strcmp(grants[j]->resource, grants[i]->resource) == 0)
            return true;
    return false;
}

/* resource -> action -> bool, false entries included, in the catalogue's order. */
static void show_grants(cs_json_writer *writer, const cs_member *member, const void *view)
{
    const credstore_grant *const *grants = pointer_at(view, member->at);
    const size_t count = (size_t)number_at(view, member->count);

    if (grants == NULL)
        return;
    cs_json_enter(writer, member->name);
    for (size_t i = 0; i < count; i++) {
        if (shown_before(grants, i))
            continue;
        cs_json_enter(writer, grants[i]->resource);
        for (size_t j = i; j < count; j++)
            if (strcmp(grants[j]->resource, grants[i]->resource) == 0)
                cs_json_write_flag(writer, grants[j]->action, grants[j]->granted != 0);
        cs_json_leave(writer);
    }
    cs_json_leave(writer);
}

static void show_member(cs_json_writer *writer, const cs_member *member, const void *view)
{
    uint32_t flag;

    switch (member->show) {
    case CS_SHOW_TEXT:
        if (!member->omit_null || pointer_at(view, member->at) != NULL)
            cs_json_write_text(writer, member->name, pointer_at(view, member->at));
        break;
    case CS_SHOW_FLAG:
        memcpy(&flag, (const uint8_t *)view + member->at, sizeof flag);
        cs_json_write_flag(writer, member->name, flag != 0);
        break;
    case CS_SHOW_STRINGS:
        cs_json_write_strings(writer, member->name, pointer_at(view, member->at),
                              (size_t)number_at(view, member->count));
        break;
    case CS_SHOW_GRANTS:
        show_grants(writer, member, view);
        break;
    default: /* CS_SHOW_SECONDS, CS_SHOW_MILLIS */
        show_time(writer, member, number_at(view, member->at));
        break;
    }
}

/* The time of last use is not of a revision: `past` leaves it out. */
static void show_view(cs_json_writer *writer, const cs_kind *kind, const void *view, bool past)
{
    const uint16_t used = kind->view.last_used_at;

    for (size_t i = 0; i < kind->member_count; i++)
        if (!past || used == 0 || kind->members[i].at != used)
            show_member(writer, &kind->members[i], view);
}

char *cs_view_json(const cs_kind *kind, const void *view, const char *token, size_t *len)
{
    cs_json_writer *writer = cs_json_writer_new();

    show_view(writer, kind, view, false);
    if (token != NULL)
        cs_json_write_text(writer, kind->token.member, token);
    return cs_json_writer_finish(writer, len);
}

uint64_t cs_view_revision(const cs_kind *kind, const void *view)
{
    return (uint64_t)number_at(view, kind->view.revision);
}

int64_t cs_view_last_used(const cs_kind *kind, const void *view)
{
    return kind->view.last_used_at == 0 ? 0 : number_at(view, kind->view.last_used_at);
}

/* One item: the view, or the id of what cannot be read with the status's name. */
static void show_item(cs_json_writer *writer, const cs_kind *kind, const cs_item *item, bool past)
{
    cs_json_enter_item(writer);
    if (item->view != NULL) {
        if (past)
            cs_json_write_number(writer, "revision", (int64_t)cs_view_revision(kind, item->view));
        show_view(writer, kind, item->view, past);
    } else {
        cs_json_write_text(writer, "id", item->id);
        cs_json_write_text(writer, "error", credstore_status_name(item->status));
    }
    cs_json_leave(writer);
}

char *cs_page_json(const cs_kind *kind, const cs_page *page, bool past, size_t *len)
{
    cs_json_writer *writer = cs_json_writer_new();

    cs_json_enter_array(writer, "items");
    for (size_t i = 0; i < page->count; i++)
        show_item(writer, kind, &page->items[i], past);
    cs_json_leave(writer);
    cs_json_enter(writer, "page_info");
    cs_json_write_flag(writer, "has_next_page", page->has_next_page != 0);
    cs_json_write_flag(writer, "has_prev_page", page->has_prev_page != 0);
    cs_json_write_text(writer, "start_cursor", page->start_cursor);
    cs_json_write_text(writer, "end_cursor", page->end_cursor);
    cs_json_leave(writer);
    return cs_json_writer_finish(writer, len);
}

/* ---- out: errors ---- */

typedef struct title_row {
    uint32_t http;
    const char *title;
} title_row;

static const title_row titles[] = {
    /* RFC 9110, RFC 4918 */
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {409, "Conflict"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {422, "Unprocessable Content"},
    {503, "Service Unavailable"},
    {507, "Insufficient Storage"},
};

static const char *title_of(uint32_t http)
{
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (titles[i].http == http)
            return titles[i].title;
    return "Internal Server Error";
}

/* RFC 9457, with the members at fault. */
static void show_problem(cs_json_writer *writer, const credstore_error *error)
{
    const uint32_t http = cs_http_status((credstore_status)error->status);

    cs_json_write_text(writer, "type", "about:blank");
    cs_json_write_text(writer, "title", title_of(http));
    cs_json_write_number(writer, "status", (int64_t)http);
    cs_json_write_text(writer, "detail", error->message);
    if (error->offset != 0) /* the byte of the body: all that says where, if no member does */
        cs_json_write_number(writer, "offset", error->offset);
    if (error->field[0] == '\0')
        return;
    cs_json_enter_array(writer, "errors");
    cs_json_enter_item(writer);
    cs_json_write_text(writer, "field", error->field);
    cs_json_write_text(writer, "message", error->message);
    cs_json_leave(writer);
    cs_json_leave(writer);
}

char *cs_error_json(const cs_kind *kind, const credstore_error *error, size_t *len)
{
    cs_json_writer *writer = cs_json_writer_new();
    const char *text;

    if (kind == NULL || kind->error_text == NULL) {
        show_problem(writer, error);
    } else {
        text = kind->error_text((credstore_status)error->status, error->field);
        cs_json_write_text(writer, "error", text == NULL ? error->message : text);
    }
    return cs_json_writer_finish(writer, len);
}

const char *cs_error_type(const cs_kind *kind)
{
    return kind == NULL || kind->error_text == NULL ? "application/problem+json"
                                                    : "application/json";
}
