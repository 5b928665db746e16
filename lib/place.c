/* SPDX-License-Identifier: MIT
 *
 * What lies under a key. One row a table says how its keys are read.
 */
#include "place.h"

#include <string.h>

#include "id.h"
#include "keyring.h"

enum { AUDIT = 0, HEAD = 1, ANCHOR = 2, CLOCK = 3, FIELD_TOKEN = 1 }; /* see format.c, receipt.c */

/* Takes `len` bytes off the front. */
static bool take(credstore_bytes *in, size_t len, const uint8_t **out)
{
    if (in->len < len)
        return false;
    *out = in->ptr;
    *in = cs_bytes(*out + len, in->len - len);
    return true;
}

/* kind, scope, id, NUL */
static bool take_locator(credstore_bytes *in, cs_locator *at)
{
    const uint8_t *head, *end;

    if (!take(in, 1 + CS_SCOPE_LEN, &head))
        return false;
    at->kind = head[0];
    memcpy(at->scope, head + 1, CS_SCOPE_LEN);
    end = in->len == 0 ? NULL : memchr(in->ptr, 0, in->len);
    if (end == NULL)
        return false;
    at->id = cs_bytes(in->ptr, (size_t)(end - (const uint8_t *)in->ptr));
    *in = cs_bytes(end + 1, in->len - at->id.len - 1);
    return at->id.len > 0 && at->id.len <= CS_ID_MAX;
}

static void label_record(cs_place *place, uint8_t role, uint64_t revision)
{
    const cs_label label = {
        .role = role, .field = place->field, .revision = revision, .at = place->at};

    place->role = role;
    place->label = label;
}

static void label_name(cs_place *place, uint8_t role, const uint8_t *name, size_t len)
{
    const cs_label label = {.role = role, .at = {.id = {name, len}}};

    place->role = role;
    place->label = label;
}

/* One table: how its keys are read, the role of its values' first box, and how long a name is. */
typedef struct table_row {
    uint8_t table;
    const char *name;
    bool (*read)(credstore_bytes in, credstore_bytes value, const struct table_row *row,
                 cs_place *out);
    uint8_t role;
    uint8_t name_len;
} table_row;

static bool read_record(credstore_bytes in, credstore_bytes value, const table_row *row,
                        cs_place *out)
{
    const uint8_t *under, *revision;
    const uint8_t role = cs_frame_role(value);

    (void)row;
    if (!take_locator(&in, &out->at) || !take(&in, 1, &under) || role == 0)
        return false;
    out->revision = cs_get_u64((const uint8_t *)value.ptr + 4);
    label_record(out, role, out->revision);
    if (*under == 0)
        return in.len == 0 && (role == CS_ROLE_CURRENT || role == CS_ROLE_TOMBSTONE);
    if (*under != 1 || role != CS_ROLE_HISTORY || !take(&in, 8, &revision) || in.len != 0)
        return false;
    out->revision = cs_get_u64(revision);
    return out->revision == out->label.revision; /* or it is another's value: told by its place */
}

static bool read_lane(credstore_bytes in, credstore_bytes value, const table_row *row,
                      cs_place *out)
{
    static const uint8_t roles[] = {CS_ROLE_AUDIT, CS_ROLE_HEAD, CS_ROLE_ANCHOR, CS_ROLE_CLOCK};
    static const char *const names[] = {"audit", "head", "anchor", "believed time"};
    const uint8_t *head, *seq;

    (void)value;
    (void)row;
    if (!take(&in, 3, &head) || head[2] > CLOCK)
        return false;
    if (head[2] == AUDIT && take(&in, 8, &seq))
        out->seq = cs_get_u64(seq);
    out->name = names[head[2]];
    label_record(out, roles[head[2]], out->seq);
    out->label.field = cs_get_u16(head);
    return in.len == 0 && (head[2] == AUDIT) == (out->seq != 0);
}

/* Keys that are a name. */
static bool read_named(credstore_bytes in, credstore_bytes value, const table_row *row,
                       cs_place *out)
{
    const uint8_t *name;

    (void)value;
    if (!take(&in, row->name_len, &name))
        return false;
    label_name(out, row->role, name, row->name_len);
    return in.len == 0;
}

static bool read_receipt(credstore_bytes in, credstore_bytes value, const table_row *row,
                         cs_place *out)
{
    const uint8_t *day;

    if (!take(&in, 4, &day))
        return false;
    out->day = cs_get_u32(day);
    return read_named(in, value, row, out);
}

static bool read_purge(credstore_bytes in, credstore_bytes value, const table_row *row,
                       cs_place *out)
{
    const uint8_t *day;

    (void)value;
    if (!take(&in, 4, &day) || !take_locator(&in, &out->at))
        return false;
    out->day = cs_get_u32(day);
    label_record(out, row->role, out->day);
    return in.len == 0;
}

static bool read_end(credstore_bytes in, credstore_bytes value, const table_row *row, cs_place *out)
{
    const uint8_t *end;

    (void)value;
    if (!take(&in, 8, &end) || !take_locator(&in, &out->at))
        return false;
    out->revision = cs_get_u64(end);
    label_record(out, row->role, out->revision);
    return in.len == 0;
}

static bool read_fingerprint(credstore_bytes in, credstore_bytes value, const table_row *row,
                             cs_place *out)
{
    const uint8_t *fingerprint, *tail;

    (void)value;
    if (!take(&in, CS_FINGERPRINT_LEN, &fingerprint) || !take_locator(&in, &out->at) ||
        !take(&in, 2 + 8, &tail))
        return false;
    out->field = cs_get_u16(tail);
    out->revision = cs_get_u64(tail + 2);
    label_record(out, row->role, out->revision);
    return in.len == 0;
}

/* Keys that are a record's place. */
static bool read_located(credstore_bytes in, credstore_bytes value, const table_row *row,
                         cs_place *out)
{
    (void)value;
    if (!take_locator(&in, &out->at))
        return false;
    label_record(out, row->role, 0);
    return in.len == 0;
}

/* Tables of one value. */
static bool read_only_one(credstore_bytes in, credstore_bytes value, const table_row *row,
                          cs_place *out)
{
    (void)value;
    label_record(out, row->role, 0);
    return in.len == 0;
}

/* Header, root slots, keyring: under other keys than the data keys. */
static bool read_foundation(credstore_bytes in, credstore_bytes value, const table_row *row,
                            cs_place *out)
{
    (void)value;
    (void)row;
    (void)out;
    return in.len > 0;
}

static const table_row tables[] = {
    {CS_TABLE_META, "header", read_foundation, 0, 0},
    {CS_TABLE_ROOT, "root slot", read_foundation, 0, 0},
    {CS_TABLE_KEYRING, "keyring", read_foundation, 0, 0},
    {CS_TABLE_CATALOGUE, "catalogue", read_only_one, CS_ROLE_CATALOGUE, 0},
    {CS_TABLE_ROTATION, "rotation", read_only_one, CS_ROLE_ROTATION, 0},
    {CS_TABLE_RECORD, "record", read_record, 0, 0},
    {CS_TABLE_OWNER, "owner index", read_located, CS_ROLE_OWNER, 0},
    {CS_TABLE_LANE, "audit", read_lane, 0, 0},
    {CS_TABLE_RECEIPT, "receipt", read_receipt, CS_ROLE_RECEIPT, CS_SCOPE_LEN},
    {CS_TABLE_PURGE, "purge queue", read_purge, CS_ROLE_PURGE, 0},
    {CS_TABLE_END, "queue of ends", read_end, CS_ROLE_END, 0},
    {CS_TABLE_USAGE, "last used", read_located, CS_ROLE_USAGE, 0},
    {CS_TABLE_ALIAS, "organization", read_named, CS_ROLE_ALIAS, CS_SCOPE_LEN},
    {CS_TABLE_FINGERPRINT, "fingerprint index", read_fingerprint, CS_ROLE_FINGERPRINT, 0},
    {CS_TABLE_DIGEST, "digest index", read_named, CS_ROLE_DIGEST, CS_SCOPE_LEN},
    {CS_TABLE_TOKEN, "token index", read_named, CS_ROLE_TOKEN, CS_KSUID_LEN},
};

bool cs_place_of(credstore_bytes key, credstore_bytes value, cs_place *out)
{
    const uint8_t *table;

    memset(out, 0, sizeof *out);
    if (!take(&key, 1, &table))
        return false;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (tables[i].table != *table)
            continue;
        out->table = *table;
        out->name = tables[i].name;
        return tables[i].read(key, value, &tables[i], out);
    }
    return false;
}

/* ---- boxes ---- */

static bool record_boxes(const cs_place *place, credstore_bytes value, cs_sealed_box *out,
                         size_t *count)
{
    cs_frame frame;

    if (cs_frame_read(value, place->role, &frame, NULL) != CREDSTORE_OK)
        return false;
    out[0].box = frame.body;
    for (size_t i = 0; i < frame.part_count; i++) {
        cs_sealed_box *part = &out[i + 1];

        part->purpose = CS_PURPOSE_SECRET;
        part->field = frame.parts[i].field;
        part->revision = frame.parts[i].revision;
        part->box = frame.parts[i].box;
        part->label = place->label;
        part->label.role = CS_ROLE_PART;
        part->label.field = part->field;
        part->label.revision = part->revision;
    }
    *count = 1 + frame.part_count;
    return true;
}

static bool receipt_boxes(const cs_place *place, credstore_bytes value, cs_sealed_box *out,
                          size_t *count)
{
    if (cs_value_format(&value, NULL) != CREDSTORE_OK || !cs_box_take(&value, &out[0].box))
        return false;
    *count = 1;
    if (value.len == 0)
        return true;
    out[1].purpose = CS_PURPOSE_SECRET;
    out[1].label = place->label;
    out[1].label.field = FIELD_TOKEN;
    *count = 2;
    return cs_box_take(&value, &out[1].box) && value.len == 0;
}

bool cs_place_boxes(const cs_place *place, credstore_bytes value, cs_sealed_box out[CS_BOXES_MAX],
                    size_t *count)
{
    *count = 0;
    if (place->role == 0) /* not under the data keys */
        return true;
    memset(out, 0, CS_BOXES_MAX * sizeof *out);
    out[0].purpose = CS_PURPOSE_BODY;
    out[0].label = place->label;
    if (place->table == CS_TABLE_RECORD)
        return record_boxes(place, value, out, count);
    if (place->table == CS_TABLE_RECEIPT)
        return receipt_boxes(place, value, out, count);
    *count = 1;
    return cs_value_box(value, &out[0].box, NULL) == CREDSTORE_OK;
}
