/* SPDX-License-Identifier: MIT
 *
 * Records as bytes. credstore-format(5), RECORDS, is the specification.
 */
#include "record.h"

#include <string.h>

#include "error.h"
#include "kind.h"

/* format, role, part count, revision | field, revision of a part | id, length of a member */
enum { FRAME_HEAD = 1 + 1 + 2 + 8, PART_HEAD = 2 + 8, TLV_HEAD = 2 + 4 };
/* revision, set-at, tag, fingerprint; the mask follows */
enum { SECRET_HEAD = 8 + 8 + CS_TAG_LEN + CS_FINGERPRINT_LEN };
/* field, until, revision, tag, fingerprint */
enum { PREVIOUS_LEN = 2 + 8 + 8 + CS_TAG_LEN + CS_FINGERPRINT_LEN };

static credstore_status damaged(credstore_error *err)
{
    return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The stored record is not what was written");
}

void cs_frame_begin(cs_buf *out, uint8_t role, uint16_t part_count, uint64_t revision)
{
    cs_buf_u8(out, CS_FORMAT);
    cs_buf_u8(out, role);
    cs_buf_u16(out, part_count);
    cs_buf_u64(out, revision);
}

void cs_part_begin(cs_buf *out, uint16_t field, uint64_t revision)
{
    cs_buf_u16(out, field);
    cs_buf_u64(out, revision);
}

uint8_t cs_frame_role(credstore_bytes value)
{
    return value.len < FRAME_HEAD ? 0 : ((const uint8_t *)value.ptr)[1];
}

credstore_status cs_frame_read(credstore_bytes value, uint8_t role, cs_frame *frame,
                               credstore_error *err)
{
    const uint8_t *p = value.ptr;

    if (value.len < FRAME_HEAD || p[0] != CS_FORMAT || p[1] != role)
        return damaged(err);
    frame->role = p[1];
    frame->part_count = cs_get_u16(p + 2);
    frame->revision = cs_get_u64(p + 4);
    value = cs_bytes(p + FRAME_HEAD, value.len - FRAME_HEAD);
    if (!cs_box_take(&value, &frame->body) || frame->part_count > CS_FIELDS_MAX)
        return damaged(err);
    for (size_t i = 0; i < frame->part_count; i++) {
        cs_part *part = &frame->parts[i];

        if (value.len < PART_HEAD)
            return damaged(err);
        p = value.ptr;
        part->field = cs_get_u16(p);
        part->revision = cs_get_u64(p + 2);
        value = cs_bytes(p + PART_HEAD, value.len - PART_HEAD);
        if (!cs_box_take(&value, &part->box))
            return damaged(err);
        part->whole = cs_bytes(p, PART_HEAD + part->box.whole.len);
    }
    return value.len == 0 ? CREDSTORE_OK : damaged(err);
}

/* ---- body, in ---- */

static bool read_secret(credstore_bytes in, cs_value *value)
{
    const uint8_t *p = in.ptr;

    if (in.len < SECRET_HEAD)
        return false;
    value->part_revision = cs_get_u64(p);
    value->number = (int64_t)cs_get_u64(p + 8);
    memcpy(value->part_tag, p + 16, CS_TAG_LEN);
    memcpy(value->fingerprint, p + 16 + CS_TAG_LEN, CS_FINGERPRINT_LEN);
    value->bytes = cs_bytes(p + SECRET_HEAD, in.len - SECRET_HEAD);
    return true;
}

static bool read_field(const cs_field *field, credstore_bytes in, cs_value *value)
{
    if (value->present)
        return false;
    value->present = true;
    value->bytes = in;
    switch (field->type) {
    case CS_TEXT:
        return true;
    case CS_SECRET:
        return read_secret(in, value);
    case CS_PERMISSIONS:
        return in.len == CS_PERMISSION_BYTES;
    case CS_DIGEST:
        return in.len == CS_DIGEST_LEN;
    default: /* CS_FLAG, CS_TIME */
        if (in.len != 8)
            return false;
        value->number = (int64_t)cs_get_u64(in.ptr);
        return true;
    }
}

static bool read_number(credstore_bytes in, int64_t *out)
{
    if (in.len != 8)
        return false;
    *out = (int64_t)cs_get_u64(in.ptr);
    return true;
}

static bool read_previous(credstore_bytes in, cs_record *record)
{
    cs_previous *p = &record->previous[record->previous_count];
    const uint8_t *from = in.ptr;

    if (in.len != PREVIOUS_LEN || record->previous_count == CS_FIELDS_MAX)
        return false;
    p->field = cs_get_u16(from);
    p->until = (int64_t)cs_get_u64(from + 2);
    p->part_revision = cs_get_u64(from + 10);
    memcpy(p->part_tag, from + 18, CS_TAG_LEN);
    memcpy(p->fingerprint, from + 18 + CS_TAG_LEN, CS_FINGERPRINT_LEN);
    record->previous_count++;
    return true;
}

/* The members that every record has. False: malformed. *known says whether id is one of them. */
static bool read_common(uint16_t id, credstore_bytes in, cs_record *record, bool *known)
{
    int64_t number = 0;
    bool ok = true;

    *known = true;
    switch (id) {
    case CS_TLV_OWNER:
        record->owner = in;
        return true;
    case CS_TLV_PARENT:
        record->parent = in;
        return true;
    case CS_TLV_CREATED_AT:
        return read_number(in, &record->created_at);
    case CS_TLV_UPDATED_AT:
        return read_number(in, &record->updated_at);
    case CS_TLV_REMOVED_AT:
        return read_number(in, &record->removed_at);
    case CS_TLV_PREVIOUS:
        return read_previous(in, record);
    case CS_TLV_INCARNATION:
        ok = read_number(in, &number);
        record->incarnation = (uint64_t)number;
        return ok;
    default:
        *known = false;
        return true;
    }
}

static credstore_status read_member(const cs_kind *kind, uint16_t id, credstore_bytes in,
                                    credstore_bytes whole, cs_record *record, credstore_error *err)
{
    const size_t field =
        id < CS_TLV_FIELD ? kind->field_count : cs_field_index(kind, (uint16_t)(id - CS_TLV_FIELD));
    bool known;

    if (!read_common(id, in, record, &known))
        return damaged(err);
    if (known)
        return CREDSTORE_OK;
    if (field < kind->field_count)
        return read_field(&kind->fields[field], in, &record->values[field]) ? CREDSTORE_OK
                                                                            : damaged(err);
    if (id >= CS_TLV_CRITICAL || record->unknown_count == CS_FIELDS_MAX)
        return cs_fail(err, CREDSTORE_E_FORMAT, NULL,
                       "The record holds what only a newer library understands");
    record->unknown[record->unknown_count++] = whole;
    return CREDSTORE_OK;
}

/* Does the part that the body names lie beside it? History keeps only the parts that were replaced,
   so there it may be missing. *named counts those that are there. */
static bool part_agrees(const cs_record *record, uint8_t role, uint16_t field, uint64_t revision,
                        const uint8_t *tag, size_t *named)
{
    const cs_part *part = cs_record_part(record, field, revision);

    if (part == NULL)
        return role != CS_ROLE_CURRENT;
    (*named)++;
    return memcmp(part->box.tag, tag, CS_TAG_LEN) == 0;
}

/* Each secret that the body names, and no other, lies beside it: revision and tag say so without
 * opening it. */
static bool parts_agree(const cs_kind *kind, const cs_record *record, uint8_t role)
{
    size_t named = 0;

    for (size_t i = 0; i < kind->field_count; i++) {
        const cs_value *value = &record->values[i];

        if (kind->fields[i].type == CS_SECRET && value->present &&
            !part_agrees(record, role, kind->fields[i].id, value->part_revision, value->part_tag,
                         &named))
            return false;
    }
    for (size_t i = 0; i < record->previous_count; i++) {
        const cs_previous *p = &record->previous[i];

        if (!part_agrees(record, role, p->field, p->part_revision, p->part_tag, &named))
            return false;
    }
    return named == record->part_count;
}

void cs_record_clear(cs_record *record)
{
    memset(record, 0, offsetof(cs_record, previous));
}

credstore_status cs_record_decode(const cs_kind *kind, const cs_frame *frame, credstore_bytes body,
                                  cs_record *record, credstore_error *err)
{
    const uint8_t *p = body.ptr;
    size_t left = body.len;

    cs_record_clear(record);
    record->revision = frame->revision;
    record->part_count = frame->part_count;
    memcpy(record->parts, frame->parts, frame->part_count * sizeof *frame->parts);
    while (left > 0) {
        credstore_status status;
        size_t len;

        if (left < TLV_HEAD || cs_get_u32(p + 2) > left - TLV_HEAD)
            return damaged(err);
        len = cs_get_u32(p + 2);
        status = read_member(kind, cs_get_u16(p), cs_bytes(p + TLV_HEAD, len),
                             cs_bytes(p, TLV_HEAD + len), record, err);
        if (status != CREDSTORE_OK)
            return status;
        p += TLV_HEAD + len;
        left -= TLV_HEAD + len;
    }
    return parts_agree(kind, record, frame->role) ? CREDSTORE_OK : damaged(err);
}

/* ---- the parts that a body names ---- */

static credstore_status show_name(const cs_kind *kind, uint16_t id, uint8_t *member, size_t len,
                                  cs_part_visit *visit, void *arg, credstore_error *err)
{
    const size_t field =
        id < CS_TLV_FIELD ? kind->field_count : cs_field_index(kind, (uint16_t)(id - CS_TLV_FIELD));

    if (field == kind->field_count && id >= CS_TLV_CRITICAL)
        return cs_fail(err, CREDSTORE_E_FORMAT, NULL,
                       "The record holds what only a newer library understands");
    if (id == CS_TLV_PREVIOUS) {
        if (len != PREVIOUS_LEN)
            return damaged(err);
        visit(arg, cs_get_u16(member), cs_get_u64(member + 10), member + 18);
    } else if (field < kind->field_count && kind->fields[field].type == CS_SECRET) {
        if (len < SECRET_HEAD)
            return damaged(err);
        visit(arg, kind->fields[field].id, cs_get_u64(member), member + 16);
    }
    return CREDSTORE_OK;
}

credstore_status cs_record_names(const cs_kind *kind, uint8_t *body, size_t len,
                                 cs_part_visit *visit, void *arg, credstore_error *err)
{
    while (len > 0) {
        credstore_status status;
        size_t size;

        if (len < TLV_HEAD || cs_get_u32(body + 2) > len - TLV_HEAD)
            return damaged(err);
        size = cs_get_u32(body + 2);
        status = show_name(kind, cs_get_u16(body), body + TLV_HEAD, size, visit, arg, err);
        if (status != CREDSTORE_OK)
            return status;
        body += TLV_HEAD + size;
        len -= TLV_HEAD + size;
    }
    return CREDSTORE_OK;
}

/* ---- body, out ---- */

static void put_bytes(cs_buf *out, unsigned id, credstore_bytes bytes)
{
    cs_buf_u16(out, (uint16_t)id);
    cs_buf_u32(out, (uint32_t)bytes.len);
    cs_buf_add(out, bytes.ptr, bytes.len);
}

static void put_number(cs_buf *out, unsigned id, uint64_t number)
{
    uint8_t raw[8];

    cs_put_u64(raw, number);
    put_bytes(out, id, cs_bytes(raw, sizeof raw));
}

static void put_secret(cs_buf *out, unsigned id, const cs_value *value)
{
    cs_buf_u16(out, (uint16_t)id);
    cs_buf_u32(out, (uint32_t)(SECRET_HEAD + value->bytes.len));
    cs_buf_u64(out, value->part_revision);
    cs_buf_u64(out, (uint64_t)value->number);
    cs_buf_add(out, value->part_tag, CS_TAG_LEN);
    cs_buf_add(out, value->fingerprint, CS_FINGERPRINT_LEN);
    cs_buf_add(out, value->bytes.ptr, value->bytes.len);
}

static void put_field(cs_buf *out, const cs_field *field, const cs_value *value)
{
    const unsigned id = CS_TLV_FIELD + (unsigned)field->id;

    if (field->type == CS_SECRET)
        put_secret(out, id, value);
    else if (field->type == CS_FLAG || field->type == CS_TIME)
        put_number(out, id, (uint64_t)value->number);
    else
        put_bytes(out, id, value->bytes);
}

static void put_previous(cs_buf *out, const cs_previous *p)
{
    cs_buf_u16(out, CS_TLV_PREVIOUS);
    cs_buf_u32(out, PREVIOUS_LEN);
    cs_buf_u16(out, p->field);
    cs_buf_u64(out, (uint64_t)p->until);
    cs_buf_u64(out, p->part_revision);
    cs_buf_add(out, p->part_tag, CS_TAG_LEN);
    cs_buf_add(out, p->fingerprint, CS_FINGERPRINT_LEN);
}

void cs_record_encode(const cs_kind *kind, const cs_record *record, cs_buf *out)
{
    put_bytes(out, CS_TLV_OWNER, record->owner);
    if (record->parent.len > 0)
        put_bytes(out, CS_TLV_PARENT, record->parent);
    put_number(out, CS_TLV_CREATED_AT, (uint64_t)record->created_at);
    if (record->updated_at != 0)
        put_number(out, CS_TLV_UPDATED_AT, (uint64_t)record->updated_at);
    put_number(out, CS_TLV_INCARNATION, record->incarnation);
    if (record->removed_at != 0)
        put_number(out, CS_TLV_REMOVED_AT, (uint64_t)record->removed_at);
    for (size_t i = 0; i < kind->field_count; i++)
        if (record->values[i].present)
            put_field(out, &kind->fields[i], &record->values[i]);
    for (size_t i = 0; i < record->previous_count; i++)
        put_previous(out, &record->previous[i]);
    for (size_t i = 0; i < record->unknown_count; i++)
        cs_buf_add(out, record->unknown[i].ptr, record->unknown[i].len);
}

const cs_part *cs_record_part(const cs_record *record, uint16_t field, uint64_t revision)
{
    for (size_t i = 0; i < record->part_count; i++)
        if (record->parts[i].field == field && record->parts[i].revision == revision)
            return &record->parts[i];
    return NULL;
}

const uint8_t *cs_record_fingerprint(const cs_kind *kind, const cs_record *record, uint16_t field,
                                     uint64_t revision)
{
    const size_t i = cs_field_index(kind, field);

    if (i < kind->field_count && record->values[i].present &&
        record->values[i].part_revision == revision)
        return record->values[i].fingerprint;
    for (size_t p = 0; p < record->previous_count; p++)
        if (record->previous[p].field == field && record->previous[p].part_revision == revision)
            return record->previous[p].fingerprint;
    return NULL;
}

const cs_previous *cs_record_previous(const cs_record *record, uint16_t field)
{
    for (size_t i = 0; i < record->previous_count; i++)
        if (record->previous[i].field == field)
            return &record->previous[i];
    return NULL;
}

bool cs_record_expired(const cs_kind *kind, const cs_record *record, int64_t now)
{
    const cs_value *end, *over;

    if (kind->expires_field == 0)
        return false;
    end = &record->values[cs_field_index(kind, kind->expires_field)];
    over = &record->values[cs_field_index(kind, kind->expired_field)];
    return (over->present && over->number != 0) || (end->present && end->number <= now);
}
