/* SPDX-License-Identifier: MIT
 *
 * What an inspection notes and remembers, and what its parts share.
 */
#include "check.h"

#include <string.h>

#include "error.h"
#include "sealed.h"
#include "time.h"

enum { PROBES = 4, SKETCH_BITS_MIN = 1 << 12, SKETCH_BITS_MAX = 1 << 27, BITS_AN_ENTRY = 16 };

/* ---- statuses ---- */

bool cs_is_damage(credstore_status status)
{
    return status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT ||
           status == CREDSTORE_E_ROLLBACK || status == CREDSTORE_E_KEY_UNAVAILABLE;
}

credstore_status cs_unless_damage(credstore_status status, const credstore_error *why,
                                  credstore_error *err)
{
    if (status == CREDSTORE_OK || cs_is_damage(status))
        return CREDSTORE_OK;
    return cs_fail(err, status, NULL, why->message);
}

/* ---- flaws ---- */

static void copy_text(char out[CS_ID_MAX + 1], credstore_bytes text)
{
    const size_t len = text.len < CS_ID_MAX ? text.len : CS_ID_MAX;

    if (len > 0)
        memcpy(out, text.ptr, len);
    out[len] = '\0';
}

bool cs_is_known(const cs_inspection *in, uint64_t topic)
{
    for (size_t i = 0; i < in->flaw_count; i++)
        if (in->flaws[i].topic == topic)
            return true;
    return cs_is_told(in, topic);
}

cs_flaw *cs_flaw_note(cs_inspection *in, const char *table, credstore_bytes key,
                      credstore_status status, uint64_t topic, const char *message)
{
    const bool known = topic != 0 && cs_is_known(in, topic);
    const bool wanted = !known && in->flaw_count < CS_FLAWS_MAX;
    cs_flaw *flaw = wanted ? &in->flaws[in->flaw_count++] : &in->spare;

    memset(flaw, 0, offsetof(cs_flaw, plain));
    flaw->status = status;
    flaw->table = table;
    flaw->field = "";
    flaw->topic = topic;
    flaw->key.len = key.len < CS_KEY_MAX ? key.len : CS_KEY_MAX;
    memcpy(flaw->key.ptr, key.ptr, flaw->key.len);
    memcpy(flaw->message, message, strnlen(message, sizeof flaw->message - 1));
    return flaw;
}

void cs_flaw_locate(cs_flaw *flaw, const cs_locator *at, uint64_t revision)
{
    flaw->kind = at->kind;
    copy_text(flaw->id, at->id);
    flaw->revision = revision;
}

cs_flaw *cs_flaw_of(cs_inspection *in, const cs_subject *s, credstore_status status, uint64_t topic,
                    const char *message)
{
    cs_flaw *flaw = cs_flaw_note(in, s->place.name, s->key, status, topic, message);
    const cs_kind *kind = cs_kind_find(s->place.at.kind);
    const size_t field = kind == NULL ? 0 : cs_field_index(kind, s->place.field);

    cs_flaw_locate(flaw, &s->place.at, s->place.table == CS_TABLE_END ? 0 : s->place.revision);
    flaw->seq = s->place.seq;
    if (kind != NULL && field < kind->field_count)
        flaw->field = kind->fields[field].name;
    return flaw;
}

void cs_flaw_owned(cs_flaw *flaw, const cs_record *record)
{
    copy_text(flaw->tenant, record->owner);
    copy_text(flaw->parent, record->parent);
}

void cs_flaw_put(cs_flaw *flaw, credstore_bytes plain)
{
    flaw->mend = CS_MEND_PUT;
    flaw->plain_len = plain.len < CS_PLAIN_MAX ? plain.len : CS_PLAIN_MAX;
    if (flaw->plain_len > 0)
        memcpy(flaw->plain, plain.ptr, flaw->plain_len);
}

/* ---- topics ---- */

/* FNV-1a, then stirred (the finalizer of splitmix64): nothing depends on it but how often something
 * is told. */
static uint64_t fold(uint64_t hash, const void *ptr, size_t len)
{
    const uint8_t *p = ptr;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t stir(uint64_t hash)
{
    hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 27) * UINT64_C(0x94d049bb133111eb);
    hash ^= hash >> 31;
    return hash == 0 ? 1 : hash;
}

static uint64_t fold_locator(const cs_inspection *in, const cs_locator *at)
{
    const uint64_t hash = fold(fold(in->seed, &at->kind, 1), at->scope, CS_SCOPE_LEN);

    return fold(hash, at->id.ptr, at->id.len);
}

uint64_t cs_topic_record(const cs_inspection *in, const cs_locator *at)
{
    return stir(fold_locator(in, at));
}

uint64_t cs_topic_key(const cs_inspection *in, credstore_bytes key)
{
    return stir(fold(~in->seed, key.ptr, key.len));
}

static size_t slot_of(const cs_inspection *in, uint64_t topic)
{
    size_t i = topic % CS_TOLD;

    while (in->told[i] != 0 && in->told[i] != topic)
        i = (i + 1) % CS_TOLD;
    return i;
}

bool cs_is_told(const cs_inspection *in, uint64_t topic)
{
    return in->told != NULL && in->told[slot_of(in, topic)] == topic;
}

void cs_tell(cs_inspection *in, uint64_t topic)
{
    size_t i;

    if (topic == 0 || in->told == NULL || in->told_count >= CS_TOLD / 2)
        return;
    i = slot_of(in, topic);
    in->told_count += in->told[i] == 0;
    in->told[i] = topic;
}

/* ---- the sketch of the audit ---- */

credstore_status cs_sketch_begin(cs_inspection *in, uint64_t entries, credstore_error *err)
{
    uint64_t bits = SKETCH_BITS_MIN;

    while (bits < SKETCH_BITS_MAX && bits / BITS_AN_ENTRY < entries)
        bits *= 2;
    in->sketch.words = cs_alloc((size_t)(bits / 64), sizeof *in->sketch.words);
    if (in->sketch.words == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    in->sketch.bits = bits;
    in->sketch.whole = true;
    return CREDSTORE_OK;
}

static uint64_t bit_of(const cs_inspection *in, const cs_locator *at, uint64_t revision, uint64_t n)
{
    uint8_t raw[8];
    uint64_t hash;

    cs_put_u64(raw, revision);
    hash = fold(fold_locator(in, at), raw, sizeof raw);
    return (stir(hash) + n * (stir(~hash) | 1)) & (in->sketch.bits - 1);
}

void cs_sketch_add(cs_inspection *in, const cs_locator *at, uint64_t revision)
{
    for (uint64_t n = 0; n < PROBES && in->sketch.bits > 0; n++) {
        const uint64_t bit = bit_of(in, at, revision, n);

        in->sketch.words[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
}

bool cs_sketch_has(const cs_inspection *in, const cs_locator *at, uint64_t revision)
{
    for (uint64_t n = 0; n < PROBES && in->sketch.bits > 0; n++) {
        const uint64_t bit = bit_of(in, at, revision, n);

        if ((in->sketch.words[bit / 64] >> (bit % 64) & 1) == 0)
            return false;
    }
    return true;
}

/* ---- what the tables share ---- */

credstore_status cs_is_there(cs_inspection *in, const cs_key *key, bool *there,
                             credstore_error *err)
{
    credstore_bytes value;

    return cs_txn_get(in->txn, key, &value, there, err);
}

static bool note_any(void *arg, credstore_bytes key, credstore_bytes value)
{
    (void)key;
    (void)value;
    *(bool *)arg = true;
    return false;
}

credstore_status cs_any_there(cs_inspection *in, const cs_key *from, const cs_key *to, bool *any,
                              credstore_error *err)
{
    const cs_scan scan = {.limit = 1, .visit = note_any, .arg = any};

    *any = false;
    return cs_txn_scan(in->txn, from, to, &scan, err);
}

credstore_status cs_open_subject(cs_inspection *in, const cs_subject *s, cs_buf *plain, bool *ok,
                                 credstore_error *err)
{
    credstore_error why = {0};
    cs_sealed_box boxes[CS_BOXES_MAX];
    size_t count = 0;
    credstore_status status;

    if (!cs_place_boxes(&s->place, s->value, boxes, &count) || count == 0)
        status =
            cs_fail(&why, CREDSTORE_E_INTEGRITY, NULL, "The value is not laid out as it should");
    else if (cs_buf_room(plain, boxes[0].box.sealed.len) == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    else
        status = cs_txn_unseal(in->txn, CS_PURPOSE_BODY, &boxes[0].label, &boxes[0].box, plain->ptr,
                               &why);
    *ok = status == CREDSTORE_OK;
    if (cs_is_damage(status))
        cs_flaw_of(in, s, status, cs_topic_key(in, s->key), why.message);
    return cs_unless_damage(status, &why, err);
}

credstore_status cs_fetch(cs_inspection *in, const cs_kind *kind, const cs_locator *at,
                          uint64_t revision, cs_loaded *out, bool *readable, credstore_error *err)
{
    credstore_error why = {0};
    credstore_bytes value;
    uint8_t role = CS_ROLE_HISTORY;
    bool found = false;
    cs_key key;
    credstore_status status;

    cs_loaded_begin(out);
    *readable = true;
    if (revision == 0)
        cs_key_record(&key, at);
    else
        cs_key_history(&key, at, revision);
    status = cs_txn_get(in->txn, &key, &value, &found, err);
    if (status != CREDSTORE_OK || !found)
        return status;
    if (revision == 0)
        role = cs_frame_role(value) == CS_ROLE_TOMBSTONE ? CS_ROLE_TOMBSTONE : CS_ROLE_CURRENT;
    status = cs_load_value(in->txn, kind, at, value, role, out, &why);
    if (status == CREDSTORE_OK && revision != 0 && out->record.revision != revision)
        status = cs_fail(&why, CREDSTORE_E_INTEGRITY, NULL, "History is not in its place");
    if (status != CREDSTORE_OK)
        out->found = false;
    *readable = status == CREDSTORE_OK;
    out->removed = *readable && role == CS_ROLE_TOMBSTONE;
    out->is_history = role == CS_ROLE_HISTORY;
    if (out->removed)
        out->found = false;
    return cs_unless_damage(status, &why, err);
}

bool cs_is_retained(const cs_inspection *in, const cs_record *removed)
{
    const int64_t now = in->has_head && in->head.time > in->txn->now ? in->head.time : in->txn->now;

    return (uint32_t)(removed->removed_at / CS_DAY_MS) >= cs_purge_day(now);
}

bool cs_is_import(const cs_kind *kind, const cs_record *record)
{
    return kind->token.digest != 0 &&
           record->values[cs_field_index(kind, kind->token.digest)].present &&
           !record->values[cs_field_index(kind, kind->token.prefix)].present;
}
