/* SPDX-License-Identifier: MIT
 *
 * Records as bytes: frames and bodies by themselves, then what a store says of a value that was
 * moved, cut, mixed or written by a newer library.
 */
#include "fixture.h"

#include "error.h"
#include "kind.h"
#include "op.h"
#include "record.h"

enum { FRAME_HEAD = 12, PART_HEAD = 10, BOX_HEAD = 48, TLV_HEAD = 6, SECRET_HEAD = 48 };

/* ---- frames ---- */

static void put_box(cs_buf *out, uint8_t fill, const char *sealed)
{
    cs_buf_u32(out, 1);
    cs_buf_u32(out, (uint32_t)strlen(sealed));
    memset(cs_buf_room(out, CS_NONCE_LEN), 0xaa, CS_NONCE_LEN);
    memset(cs_buf_room(out, CS_TAG_LEN), fill, CS_TAG_LEN);
    cs_buf_add(out, sealed, strlen(sealed));
}

/* A value with a body box and two parts: field 1 of revision 5, field 3 of revision 7. */
static cs_buf two_parts(uint8_t role)
{
    cs_buf value = {0};

    cs_frame_begin(&value, role, 2, 9);
    put_box(&value, 0, "the body");
    cs_part_begin(&value, 1, 5);
    put_box(&value, 1, "one");
    cs_part_begin(&value, 3, 7);
    put_box(&value, 3, "three");
    return value;
}

static credstore_status read_frame(const void *ptr, size_t len, uint8_t role, cs_frame *frame)
{
    credstore_error err = {0};
    const credstore_status status = cs_frame_read(cs_bytes(ptr, len), role, frame, &err);

    assert_int_equal(err.status, status);
    return status;
}

static void test_frame(void **state)
{
    static const uint8_t head[] = {1, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9};
    cs_buf value = two_parts(CS_ROLE_HISTORY);
    cs_frame frame;

    (void)state;
    assert_memory_equal(value.ptr, head, sizeof head);
    assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_HISTORY, &frame), CREDSTORE_OK);
    assert_int_equal(frame.role, CS_ROLE_HISTORY);
    assert_int_equal(frame.revision, 9);
    assert_int_equal(frame.body.sealed.len, 8);
    assert_memory_equal(frame.body.sealed.ptr, "the body", 8);
    assert_int_equal(frame.part_count, 2);
    assert_int_equal(frame.parts[0].field, 1);
    assert_int_equal(frame.parts[0].revision, 5);
    assert_int_equal(frame.parts[0].whole.len, PART_HEAD + BOX_HEAD + 3);
    assert_int_equal(frame.parts[1].field, 3);
    assert_int_equal(frame.parts[1].revision, 7);
    assert_memory_equal(frame.parts[1].box.sealed.ptr, "three", 5);
    cs_buf_free(&value);
}

static void test_frames_of_another_kind(void **state)
{
    cs_buf value = two_parts(CS_ROLE_CURRENT);
    cs_frame frame;

    (void)state;
    for (unsigned role = 0; role < 256; role++)
        assert_int_equal(read_frame(value.ptr, value.len, (uint8_t)role, &frame),
                         role == CS_ROLE_CURRENT ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
    for (unsigned format = 0; format < 256; format++) {
        value.ptr[0] = (uint8_t)format;
        assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_CURRENT, &frame),
                         format == CS_FORMAT ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
    }
    cs_buf_free(&value);
}

static void test_cut_frames(void **state)
{
    cs_buf value = two_parts(CS_ROLE_CURRENT);
    cs_frame frame;

    (void)state;
    for (size_t len = 0; len < value.len; len++) {
        uint8_t *exact = malloc(len == 0 ? 1 : len);

        assert_non_null(exact);
        memcpy(exact, value.ptr, len);
        assert_int_equal(read_frame(exact, len, CS_ROLE_CURRENT, &frame), CREDSTORE_E_INTEGRITY);
        free(exact);
    }
    cs_buf_u8(&value, 0);
    assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_CURRENT, &frame),
                     CREDSTORE_E_INTEGRITY);
    value.len--;
    for (unsigned count = 0; count < 0x300; count++) {
        cs_put_u16(value.ptr + 2, (uint16_t)count);
        assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_CURRENT, &frame),
                         count == 2 ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
    }
    cs_buf_free(&value);
}

/* Sixteen parts and no more, though the bytes of all are there. */
static void test_part_limit(void **state)
{
    (void)state;
    for (uint16_t count = CS_FIELDS_MAX; count <= CS_FIELDS_MAX + 1; count++) {
        cs_buf value = {0};
        cs_frame frame;

        cs_frame_begin(&value, CS_ROLE_CURRENT, count, 1);
        put_box(&value, 0, "");
        for (uint16_t i = 0; i < count; i++) {
            cs_part_begin(&value, i, 1);
            put_box(&value, 0, "");
        }
        assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_CURRENT, &frame),
                         count == CS_FIELDS_MAX ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
        cs_buf_free(&value);
    }
}

/* ---- bodies ---- */

typedef struct sample {
    cs_frame frame;
    cs_record record;
    char texts[CS_FIELDS_MAX][16];
    uint8_t bits[CS_PERMISSION_BYTES];
} sample;

/* A record of the kind with every field set, and a frame with the parts that its body names. */
static void fill_sample(const cs_kind *kind, sample *s)
{
    cs_record *r = &s->record;

    memset(s, 0, sizeof *s);
    s->frame.role = CS_ROLE_CURRENT;
    s->frame.revision = 12;
    r->revision = 12;
    r->incarnation = UINT64_C(0x1122334455667788);
    r->created_at = FX_NOW;
    r->updated_at = FX_NOW + 1;
    r->owner = cs_bytes_of("acme");
    r->parent = cs_bytes_of("parent");
    memset(s->bits, 0x5a, sizeof s->bits);
    for (size_t i = 0; i < kind->field_count; i++) {
        cs_value *value = &r->values[i];
        cs_part *part = &s->frame.parts[s->frame.part_count];

        snprintf(s->texts[i], sizeof s->texts[i], "text %u", (unsigned)i);
        value->present = true;
        value->bytes = cs_bytes_of(s->texts[i]);
        value->number = FX_NOW + (int64_t)i;
        if (kind->fields[i].type == CS_PERMISSIONS)
            value->bytes = cs_bytes(s->bits, sizeof s->bits);
        if (kind->fields[i].type == CS_DIGEST)
            value->bytes = cs_bytes(s->bits, CS_DIGEST_LEN);
        if (kind->fields[i].type != CS_SECRET)
            continue;
        value->part_revision = i + 1;
        memset(value->part_tag, (int)i + 0x10, CS_TAG_LEN);
        memset(value->fingerprint, (int)i + 0x20, CS_FINGERPRINT_LEN);
        part->field = kind->fields[i].id;
        part->revision = i + 1;
        part->box.tag = value->part_tag;
        s->frame.part_count++;
    }
}

static credstore_status decode(const cs_kind *kind, const cs_frame *frame, const void *ptr,
                               size_t len, cs_record *record)
{
    credstore_error err = {0};
    const credstore_status status = cs_record_decode(kind, frame, cs_bytes(ptr, len), record, &err);

    assert_int_equal(err.status, status);
    return status;
}

static void same_value(const cs_field *field, const cs_value *a, const cs_value *b)
{
    assert_int_equal(a->present, b->present);
    if (!a->present)
        return;
    if (field->type == CS_FLAG || field->type == CS_TIME || field->type == CS_SECRET)
        assert_true(a->number == b->number);
    if (field->type != CS_FLAG && field->type != CS_TIME)
        assert_true(cs_bytes_equal(a->bytes, b->bytes));
    if (field->type != CS_SECRET)
        return;
    assert_true(a->part_revision == b->part_revision);
    assert_memory_equal(a->part_tag, b->part_tag, CS_TAG_LEN);
    assert_memory_equal(a->fingerprint, b->fingerprint, CS_FINGERPRINT_LEN);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t k = 0; k < cs_kind_count; k++) {
        const cs_kind *kind = cs_kinds[k];
        cs_buf body = {0}, again = {0};
        cs_record record;
        sample s;

        fill_sample(kind, &s);
        cs_record_encode(kind, &s.record, &body);
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_OK);
        assert_int_equal(record.revision, 12);
        assert_true(record.incarnation == s.record.incarnation);
        assert_true(record.created_at == FX_NOW);
        assert_true(record.updated_at == FX_NOW + 1);
        assert_true(cs_bytes_equal(record.owner, s.record.owner));
        assert_true(cs_bytes_equal(record.parent, s.record.parent));
        assert_int_equal(record.part_count, s.frame.part_count);
        for (size_t i = 0; i < kind->field_count; i++)
            same_value(&kind->fields[i], &record.values[i], &s.record.values[i]);
        cs_record_encode(kind, &record, &again);
        assert_int_equal(again.len, body.len);
        assert_memory_equal(again.ptr, body.ptr, body.len);
        cs_buf_free(&body);
        cs_buf_free(&again);
    }
}

/* What is absent is not there: neither the optional members, nor a null field. */
static void test_absent(void **state)
{
    const cs_kind *kind = cs_kind_find(CREDSTORE_KIND_STRIPE);
    cs_record empty = {.owner = cs_bytes_of("acme"), .created_at = 1, .incarnation = 2};
    const cs_frame frame = {.role = CS_ROLE_CURRENT, .revision = 1};
    cs_buf body = {0};
    cs_record record;

    (void)state;
    cs_record_encode(kind, &empty, &body);
    assert_int_equal(body.len, 3 * TLV_HEAD + 4 + 8 + 8); /* owner, created at, incarnation */
    assert_int_equal(decode(kind, &frame, body.ptr, body.len, &record), CREDSTORE_OK);
    assert_true(record.updated_at == 0);
    assert_int_equal(record.parent.len, 0);
    for (size_t i = 0; i < kind->field_count; i++)
        assert_false(record.values[i].present);
    cs_buf_free(&body);
}

/* Cut anywhere but between two members, a body is damaged; between two, a secret's part or the
   record lacks something that other tests see. */
static void test_cut_bodies(void **state)
{
    const cs_kind *kind = cs_kind_find(CREDSTORE_KIND_API_KEY); /* has no parts */
    cs_buf body = {0};
    cs_record record;
    size_t next = 0;
    sample s;

    (void)state;
    fill_sample(kind, &s);
    cs_record_encode(kind, &s.record, &body);
    for (size_t len = 0; len < body.len; len++) {
        uint8_t *exact = malloc(len == 0 ? 1 : len);

        assert_non_null(exact);
        memcpy(exact, body.ptr, len);
        assert_int_equal(decode(kind, &s.frame, exact, len, &record),
                         len == next ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
        if (len == next)
            next += TLV_HEAD + cs_get_u32(body.ptr + len + 2);
        free(exact);
    }
    cs_buf_free(&body);
}

static void put_member(cs_buf *out, uint16_t id, const void *ptr, size_t len)
{
    cs_buf_u16(out, id);
    cs_buf_u32(out, (uint32_t)len);
    cs_buf_add(out, ptr, len);
}

/* Members whose length their type does not have, and a field that stands twice. */
static void test_malformed_members(void **state)
{
    static const uint8_t bytes[80] = {0};
    static const struct {
        uint32_t kind;
        uint16_t id;
        size_t right;
    } rows[] = {
        {CREDSTORE_KIND_CHECKBOOK, CS_TLV_CREATED_AT, 8},
        {CREDSTORE_KIND_CHECKBOOK, CS_TLV_UPDATED_AT, 8},
        {CREDSTORE_KIND_CHECKBOOK, CS_TLV_INCARNATION, 8},
        {CREDSTORE_KIND_CHECKBOOK, CS_TLV_FIELD + CREDSTORE_CHECKBOOK_IS_ACTIVE, 8},
        {CREDSTORE_KIND_API_KEY, CS_TLV_FIELD + CREDSTORE_API_KEY_EXPIRES_AT, 8},
        {CREDSTORE_KIND_API_KEY, CS_TLV_FIELD + CREDSTORE_API_KEY_PERMISSIONS, 64},
    };
    const cs_frame frame = {.role = CS_ROLE_CURRENT, .revision = 1};
    cs_record record;

    (void)state;
    for (size_t i = 0; i < FX_COUNT(rows); i++) {
        const cs_kind *kind = cs_kind_find(rows[i].kind);

        for (size_t len = 0; len <= sizeof bytes; len++) {
            cs_buf body = {0};

            put_member(&body, rows[i].id, bytes, len);
            assert_int_equal(decode(kind, &frame, body.ptr, body.len, &record),
                             len == rows[i].right ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
            put_member(&body, rows[i].id, bytes, len);
            if (rows[i].id >= CS_TLV_FIELD)
                assert_int_equal(decode(kind, &frame, body.ptr, body.len, &record),
                                 CREDSTORE_E_INTEGRITY);
            cs_buf_free(&body);
        }
    }
}

/* A secret's entry is 48 bytes and a mask. History may name parts that live elsewhere. */
static void test_short_secrets(void **state)
{
    static const uint8_t bytes[SECRET_HEAD + 8] = {0};
    const cs_kind *kind = cs_kind_find(CREDSTORE_KIND_STRIPE);
    const cs_frame history = {.role = CS_ROLE_HISTORY, .revision = 1};
    const cs_frame current = {.role = CS_ROLE_CURRENT, .revision = 1};
    cs_record record;

    (void)state;
    for (size_t len = 0; len <= sizeof bytes; len++) {
        cs_buf body = {0};

        put_member(&body, CS_TLV_FIELD + 1, bytes, len);
        assert_int_equal(decode(kind, &history, body.ptr, body.len, &record),
                         len < SECRET_HEAD ? CREDSTORE_E_INTEGRITY : CREDSTORE_OK);
        assert_int_equal(decode(kind, &current, body.ptr, body.len, &record),
                         CREDSTORE_E_INTEGRITY);
        cs_buf_free(&body);
    }
}

/* Each secret that the body names, with its revision and tag, and no other. */
static void test_parts_agree(void **state)
{
    const cs_kind *kind = cs_kind_find(CREDSTORE_KIND_STRIPE);
    cs_buf body = {0};
    cs_record record;
    uint8_t tag[CS_TAG_LEN];
    sample s;

    (void)state;
    fill_sample(kind, &s);
    cs_record_encode(kind, &s.record, &body);
    assert_int_equal(s.frame.part_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const cs_part kept = s.frame.parts[i];
        cs_part *part = &s.frame.parts[i];

        part->revision++;
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record),
                         CREDSTORE_E_INTEGRITY);
        *part = kept;
        memcpy(tag, kept.box.tag, sizeof tag);
        tag[15] ^= 0x80;
        part->box.tag = tag;
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record),
                         CREDSTORE_E_INTEGRITY);
        s.frame.role = CS_ROLE_HISTORY; /* those that are there must agree there too */
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record),
                         CREDSTORE_E_INTEGRITY);
        s.frame.role = CS_ROLE_CURRENT;
        *part = s.frame.parts[(i + 1) % 4]; /* one twice, one not at all */
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record),
                         CREDSTORE_E_INTEGRITY);
        *part = kept;
        part->field = CREDSTORE_STRIPE_LIVE_PUBLISHABLE_KEY; /* not a secret */
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record),
                         CREDSTORE_E_INTEGRITY);
        *part = kept;
    }
    s.frame.part_count = 5;
    s.frame.parts[4] = s.frame.parts[0];
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_E_INTEGRITY);
    s.frame.parts[4].field = 9;
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_E_INTEGRITY);
    s.frame.part_count = 3;
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_E_INTEGRITY);
    s.frame.role = CS_ROLE_HISTORY;
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_OK);
    s.frame.part_count = 4;
    s.frame.role = CS_ROLE_CURRENT;
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_OK);
    cs_buf_free(&body);
}

/* Members of a newer library: kept whole, behind those that are known, up to sixteen. */
static void test_unknown_members(void **state)
{
    static const uint16_t kept[] = {0x0008, 0x00ff, 0x0110, 0x01ff, 0x0200, 0x7fff};
    static const uint16_t critical[] = {0x8000, 0x8001, 0x8101, 0xffff};
    const cs_kind *kind = cs_kind_find(CREDSTORE_KIND_API_KEY);
    cs_buf body = {0}, rest = {0}, again = {0};
    cs_record record;
    sample s;

    (void)state;
    fill_sample(kind, &s);
    for (size_t i = 0; i < FX_COUNT(kept); i++)
        put_member(&rest, kept[i], "newer", i % 6);
    cs_buf_add(&body, rest.ptr, rest.len);
    cs_record_encode(kind, &s.record, &body);
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_OK);
    assert_int_equal(record.unknown_count, FX_COUNT(kept));
    cs_record_encode(kind, &record, &again);
    assert_int_equal(again.len, body.len);
    assert_memory_equal(again.ptr + again.len - rest.len, rest.ptr, rest.len);
    cs_buf_free(&again);
    cs_buf_free(&rest);

    for (size_t i = 0; i < FX_COUNT(critical); i++) {
        const size_t len = body.len;

        put_member(&body, critical[i], "", 0);
        assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_E_FORMAT);
        body.len = len;
    }
    for (size_t i = FX_COUNT(kept); i < CS_FIELDS_MAX; i++)
        put_member(&body, 0x0300, "x", 1);
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_OK);
    assert_int_equal(record.unknown_count, CS_FIELDS_MAX);
    put_member(&body, 0x0300, "x", 1);
    assert_int_equal(decode(kind, &s.frame, body.ptr, body.len, &record), CREDSTORE_E_FORMAT);
    cs_buf_free(&body);
}

/* ---- values in a store ---- */

typedef struct bench {
    fx f;
    credstore *store;
} bench;

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    fx_begin(&b->f);
    b->store = fx_open(&b->f);
    *state = b;
    return 0;
}

static int end(void **state)
{
    bench *b = *state;

    credstore_close(b->store);
    fx_end(&b->f);
    free(b);
    return 0;
}

static cs_locator checkbook_at(const char *id)
{
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id)};

    return at;
}

static cs_key current_of(const char *id)
{
    const cs_locator at = checkbook_at(id);
    cs_key key;

    cs_key_record(&key, &at);
    return key;
}

static cs_key history_of(const char *id, uint64_t revision)
{
    const cs_locator at = checkbook_at(id);
    cs_key key;

    cs_key_history(&key, &at, revision);
    return key;
}

/* Puts the bytes of one key under another. */
static void copy(bench *b, const cs_key *from, const cs_key *to)
{
    cs_buf value = fx_raw_get(b->store, from);

    fx_raw_put(&b->f, to, &value);
    cs_buf_free(&value);
}

/* Every verb that opens the record says so, and nothing is changed by it. */
static void all_refuse(bench *b, const char *id, credstore_status status)
{
    fx_pairs before, after;
    credstore_error err;

    fx_dump(b->store, &before);
    fx_get_fails(b->store, id, status);
    fx_reveal_fails(b->store, id, status);
    fx_fails(fx_set_publishable(b->store, id, "changed", &err), status, &err);
    fx_fails(fx_set_secret(b->store, id, "changed", &err), status, &err);
    fx_dump(b->store, &after);
    assert_true(fx_pairs_equal(&before, &after));
    fx_pairs_free(&before);
    fx_pairs_free(&after);
}

static void test_under_another_id(void **state)
{
    bench *b = *state;
    cs_key from = current_of(FX_KSUID), to = current_of(FX_KSUID_OTHER);

    fx_create_checkbook(b->store, FX_KSUID, "first");
    copy(b, &from, &to);
    all_refuse(b, FX_KSUID_OTHER, CREDSTORE_E_INTEGRITY);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
}

/* The same id in another kind of the same scope. */
static void test_under_another_kind(void **state)
{
    bench *b = *state;
    const credstore_actor admin = fx_admin(b->store);
    const credstore_call call = fx_call(&admin);
    const cs_locator at = {.kind = CREDSTORE_KIND_API_KEY, .id = cs_bytes_of(FX_KSUID)};
    const credstore_api_key *view = NULL;
    cs_key from = current_of(FX_KSUID), to;
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    cs_key_record(&to, &at);
    copy(b, &from, &to);
    fx_fails(credstore_api_key_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_INTEGRITY,
             &err);
    assert_null(view);
}

static void stripe_key(bench *b, const credstore_actor *actor, cs_op *op, cs_key *key)
{
    const credstore_call call = fx_call(actor);
    const cs_names names = {.id = FX_PROJECT};
    credstore_error err = {0};

    fx_ok(cs_op_begin(op, b->store, cs_kind_find(CREDSTORE_KIND_STRIPE), CS_READ, &call, &names,
                      &err),
          &err);
    cs_key_record(key, &op->at);
}

/* The scope of a kind whose ids are an owner's is part of the place. */
static void test_under_another_tenant(void **state)
{
    bench *b = *state;
    const credstore_actor acme = fx_actor(CREDSTORE_ACTOR_SYSTEM, 0, "platform", "acme");
    const credstore_actor other = fx_actor(CREDSTORE_ACTOR_SYSTEM, 0, "platform", "acme2");
    const credstore_call mine = fx_call(&acme), theirs = fx_call(&other);
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .test_secret_key = CREDSTORE_SECRET("sk_test_0123456789", CREDSTORE_NTS)};
    const credstore_stripe *view = NULL;
    credstore_secret *secret = NULL;
    credstore_error err;
    cs_key from, to;
    cs_op op;

    fx_ok(credstore_stripe_create(b->store, &mine, FX_PROJECT, NULL, &patch, NULL, &err), &err);
    fx_fails(credstore_stripe_get(b->store, &theirs, FX_PROJECT, &view, &err),
             CREDSTORE_E_NOT_FOUND, &err);
    stripe_key(b, &acme, &op, &from);
    stripe_key(b, &other, &op, &to);
    copy(b, &from, &to);
    fx_fails(credstore_stripe_get(b->store, &theirs, FX_PROJECT, &view, &err),
             CREDSTORE_E_INTEGRITY, &err);
    fx_fails(credstore_stripe_reveal(b->store, &theirs, FX_PROJECT,
                                     CREDSTORE_STRIPE_TEST_SECRET_KEY, &secret, &err),
             CREDSTORE_E_INTEGRITY, &err);
    assert_null(secret);
}

/* The owner of an id that is unique in the store stands in the body: others do not see the record,
   and cannot take its id. */
static void test_another_owner(void **state)
{
    bench *b = *state;
    const credstore_actor other = fx_actor(CREDSTORE_ACTOR_SYSTEM, 0, "platform", "acme2");
    const credstore_call call = fx_call(&other);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = FX_KSUID};
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("publishable"),
        .secret_key = CREDSTORE_SECRET("theirs", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io"),
    };
    const credstore_checkbook *view = NULL;
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_fails(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_NOT_FOUND,
             &err);
    fx_fails(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err),
             CREDSTORE_E_NOT_FOUND, &err);
    fx_fails(credstore_checkbook_create(b->store, &call, &origin, &patch, NULL, &err),
             CREDSTORE_E_EXISTS, &err);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
}

static void test_history_is_not_current(void **state)
{
    bench *b = *state;
    const cs_key current = current_of(FX_KSUID);
    const cs_key first = history_of(FX_KSUID, 1), second = history_of(FX_KSUID, 2);
    const credstore_checkbook *view = NULL;
    cs_buf kept, value;
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "third", &err), &err);
    kept = fx_raw_get(b->store, &current);
    copy(b, &first, &current);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    value = fx_raw_get(b->store, &first); /* dressed up as what it is not */
    value.ptr[1] = CS_ROLE_CURRENT;
    fx_raw_put(&b->f, &current, &value);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    cs_buf_free(&value);
    fx_raw_put(&b->f, &current, &kept);
    fx_is(b->store, FX_KSUID, 3, "publishable", "third");

    copy(b, &second, &first);
    fx_fails(fx_get_checkbook(b->store, FX_KSUID, 1, &view, &err), CREDSTORE_E_INTEGRITY, &err);
    fx_raw_put(&b->f, &first, &kept);
    fx_fails(fx_get_checkbook(b->store, FX_KSUID, 1, &view, &err), CREDSTORE_E_INTEGRITY, &err);
    cs_buf_free(&kept);
}

/* The clear revision in front is authentic. */
static void test_revision_in_front(void **state)
{
    bench *b = *state;
    const cs_key key = current_of(FX_KSUID);
    cs_buf value;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    value = fx_raw_get(b->store, &key);
    cs_put_u64(value.ptr + 4, 2);
    fx_raw_put(&b->f, &key, &value);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    cs_buf_free(&value);
}

/* A body of now with a part of before, though that part is authentic where it was; then with the
   revision of now written in front of it, then with the tag of now in it. */
static void test_part_of_before(void **state)
{
    bench *b = *state;
    const cs_key current = current_of(FX_KSUID), first = history_of(FX_KSUID, 1);
    const credstore_checkbook *view = NULL;
    cs_buf now, before, mixed = {0};
    credstore_error err;
    cs_frame fresh, old;
    uint8_t *part;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    now = fx_raw_get(b->store, &current);
    before = fx_raw_get(b->store, &first);
    assert_int_equal(read_frame(now.ptr, now.len, CS_ROLE_CURRENT, &fresh), CREDSTORE_OK);
    assert_int_equal(read_frame(before.ptr, before.len, CS_ROLE_HISTORY, &old), CREDSTORE_OK);
    assert_int_equal(fresh.part_count, 1);
    assert_int_equal(old.part_count, 1);
    cs_buf_add(&mixed, now.ptr, FRAME_HEAD + fresh.body.whole.len);
    cs_buf_add(&mixed, old.parts[0].whole.ptr, old.parts[0].whole.len);
    fx_raw_put(&b->f, &current, &mixed);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    part = mixed.ptr + FRAME_HEAD + fresh.body.whole.len;
    assert_int_equal(cs_get_u64(part + 2), 1);
    cs_put_u64(part + 2, 2);
    fx_raw_put(&b->f, &current, &mixed);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    memcpy(part + PART_HEAD + 8 + CS_NONCE_LEN, fresh.parts[0].box.tag, CS_TAG_LEN);
    fx_raw_put(&b->f, &current, &mixed);
    fx_ok(fx_get_checkbook(b->store, FX_KSUID, 0, &view, &err), &err);
    credstore_free(view);
    fx_reveal_fails(b->store, FX_KSUID, CREDSTORE_E_INTEGRITY);
    cs_buf_free(&now);
    cs_buf_free(&before);
    cs_buf_free(&mixed);
}

/* Two parts of one record change their fields, or their boxes. */
static void test_part_under_another_field(void **state)
{
    bench *b = *state;
    const credstore_actor acme = fx_system();
    const credstore_call call = fx_call(&acme);
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .test_secret_key = CREDSTORE_SECRET("sk_test_0123456789", CREDSTORE_NTS),
        .live_secret_key = CREDSTORE_SECRET("sk_live_0123456789", CREDSTORE_NTS)};
    const credstore_stripe *view = NULL;
    credstore_error err;
    cs_buf value;
    cs_key key;
    cs_op op;
    uint8_t *one, *two, spare[256];
    size_t whole;

    fx_ok(credstore_stripe_create(b->store, &call, FX_PROJECT, NULL, &patch, NULL, &err), &err);
    stripe_key(b, &acme, &op, &key);
    value = fx_raw_get(b->store, &key);
    whole = PART_HEAD + BOX_HEAD + strlen("sk_test_0123456789");
    two = value.ptr + value.len - whole;
    one = two - whole;
    assert_int_equal(cs_get_u16(one), CREDSTORE_STRIPE_TEST_SECRET_KEY);
    assert_int_equal(cs_get_u16(two), CREDSTORE_STRIPE_LIVE_SECRET_KEY);

    cs_put_u16(one, CREDSTORE_STRIPE_LIVE_SECRET_KEY);
    cs_put_u16(two, CREDSTORE_STRIPE_TEST_SECRET_KEY);
    fx_raw_put(&b->f, &key, &value);
    fx_fails(credstore_stripe_get(b->store, &call, FX_PROJECT, &view, &err), CREDSTORE_E_INTEGRITY,
             &err);
    cs_put_u16(one, CREDSTORE_STRIPE_TEST_SECRET_KEY);
    cs_put_u16(two, CREDSTORE_STRIPE_TEST_SECRET_KEY);
    fx_raw_put(&b->f, &key, &value);
    fx_fails(credstore_stripe_get(b->store, &call, FX_PROJECT, &view, &err), CREDSTORE_E_INTEGRITY,
             &err);
    cs_put_u16(two, CREDSTORE_STRIPE_LIVE_SECRET_KEY);
    memcpy(spare, one, whole); /* whole parts in another order are the same parts */
    memcpy(one, two, whole);
    memcpy(two, spare, whole);
    fx_raw_put(&b->f, &key, &value);
    fx_ok(credstore_stripe_get(b->store, &call, FX_PROJECT, &view, &err), &err);
    credstore_free(view);
    cs_buf_free(&value);
}

/* A key id that the keyring does not list for the purpose. */
static void test_key_ids(void **state)
{
    static const uint32_t ids[] = {0, 2, 3, 5, UINT32_MAX}; /* 2: SEAL-SECRET, 3: NAME */
    bench *b = *state;
    const cs_key key = current_of(FX_KSUID);
    cs_buf value;
    cs_frame frame;
    uint8_t *part_key;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    value = fx_raw_get(b->store, &key);
    for (size_t i = 0; i < FX_COUNT(ids); i++) {
        cs_put_u32(value.ptr + FRAME_HEAD, ids[i]);
        fx_raw_put(&b->f, &key, &value);
        all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    }
    cs_put_u32(value.ptr + FRAME_HEAD, 1);
    assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_CURRENT, &frame), CREDSTORE_OK);
    part_key = value.ptr + value.len - frame.parts[0].box.whole.len;
    assert_int_equal(cs_get_u32(part_key), 2);
    for (size_t i = 0; i < FX_COUNT(ids); i++) {
        cs_put_u32(part_key, ids[i] == 2 ? 1 : ids[i]);
        fx_raw_put(&b->f, &key, &value);
        fx_reveal_fails(b->store, FX_KSUID, CREDSTORE_E_INTEGRITY);
    }
    cs_buf_free(&value);
}

/* The same root key, the same id, another store. */
static void test_from_another_store(void **state)
{
    bench *b = *state;
    const cs_key key = current_of(FX_KSUID);
    credstore *other;
    cs_buf value;
    fx g;

    fx_begin(&g);
    other = fx_open(&g);
    fx_create_checkbook(other, FX_KSUID, "first");
    fx_create_checkbook(b->store, FX_KSUID, "first");
    value = fx_raw_get(other, &key);
    fx_raw_put(&b->f, &key, &value);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    cs_buf_free(&value);
    credstore_close(other);
    fx_end(&g);
}

/* Each bit of a record's value, told by the read or by the verb that opens the part. */
static void test_every_bit(void **state)
{
    bench *b = *state;
    const cs_key key = current_of(FX_KSUID);
    const credstore_checkbook *view = NULL;
    credstore_secret *secret = NULL;
    size_t by_read = 0, by_reveal = 0;
    credstore_error err;
    cs_buf value;

    fx_create_checkbook(b->store, FX_KSUID, "s");
    value = fx_raw_get(b->store, &key);
    for (size_t bit = 0; bit < 8 * value.len; bit++) {
        value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        fx_raw_put(&b->f, &key, &value);
        value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(fx_reveal_checkbook(b->store, FX_KSUID, 0, &secret, &err),
                         CREDSTORE_E_INTEGRITY);
        assert_null(secret);
        by_reveal++;
        if (fx_get_checkbook(b->store, FX_KSUID, 0, &view, &err) == CREDSTORE_OK) {
            assert_string_equal(view->publishable_key, "publishable"); /* the part was hit alone */
            credstore_free(view);
        } else {
            assert_int_equal(err.status, CREDSTORE_E_INTEGRITY);
            by_read++;
        }
    }
    assert_int_equal(by_reveal, 8 * value.len);
    /* What a read lets pass: key id, nonce and ciphertext of the part. */
    assert_int_equal(by_reveal - by_read, 8 * (4 + CS_NONCE_LEN + 1));
    fx_raw_put(&b->f, &key, &value);
    fx_is(b->store, FX_KSUID, 1, "publishable", "s");
    cs_buf_free(&value);
}

static void test_cut_values(void **state)
{
    bench *b = *state;
    const cs_key key = current_of(FX_KSUID);
    cs_buf value, cut;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    value = fx_raw_get(b->store, &key);
    cut = value;
    for (cut.len = 0; cut.len < value.len; cut.len++) {
        fx_raw_put(&b->f, &key, &cut);
        fx_get_fails(b->store, FX_KSUID, CREDSTORE_E_INTEGRITY);
    }
    cs_buf_u8(&value, 0);
    fx_raw_put(&b->f, &key, &value);
    all_refuse(b, FX_KSUID, CREDSTORE_E_INTEGRITY);
    cs_buf_free(&value);
}

/* ---- history ---- */

static void reveals(bench *b, uint64_t revision, const char *expected)
{
    credstore_secret *secret = NULL;
    credstore_error err;

    fx_ok(fx_reveal_checkbook(b->store, FX_KSUID, revision, &secret, &err), &err);
    assert_string_equal(credstore_secret_ptr(secret), expected);
    credstore_secret_free(secret);
}

/* first, first (other text), second, second (other text). */
static void make_history(bench *b)
{
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 4", &err), &err);
}

static void test_history_keeps_what_changed(void **state)
{
    static const struct {
        const char *text, *secret;
        size_t parts;
    } rows[] = {
        {"publishable", "first", 0},
        {"text 2", "first", 1},
        {"text 2", "second", 0},
        {"text 4", "second", 1},
    };
    bench *b = *state;
    const credstore_checkbook *view = NULL;
    credstore_error err;

    make_history(b);
    for (uint64_t revision = 1; revision <= FX_COUNT(rows); revision++) {
        const bool last = revision == FX_COUNT(rows);
        const cs_key key = last ? current_of(FX_KSUID) : history_of(FX_KSUID, revision);
        cs_buf value = fx_raw_get(b->store, &key);
        cs_frame frame;

        assert_int_equal(
            read_frame(value.ptr, value.len, last ? CS_ROLE_CURRENT : CS_ROLE_HISTORY, &frame),
            CREDSTORE_OK);
        assert_int_equal(frame.part_count, rows[revision - 1].parts);
        fx_ok(fx_get_checkbook(b->store, FX_KSUID, revision, &view, &err), &err);
        assert_int_equal(view->revision, revision);
        assert_string_equal(view->publishable_key, rows[revision - 1].text);
        credstore_free(view);
        reveals(b, revision, rows[revision - 1].secret);
        cs_buf_free(&value);
    }
    fx_fails(fx_get_checkbook(b->store, FX_KSUID, 5, &view, &err), CREDSTORE_E_NOT_FOUND, &err);
    fx_fails(fx_get_checkbook(b->store, FX_KSUID, UINT64_MAX, &view, &err), CREDSTORE_E_NOT_FOUND,
             &err);
}

/* The part that an old revision names is gone, or another lies there. */
static void test_lost_part_of_history(void **state)
{
    bench *b = *state;
    const cs_key second = history_of(FX_KSUID, 2);
    credstore_secret *secret = NULL;
    cs_buf value, other = {0};
    credstore_error err;
    cs_frame frame;
    uint8_t *tag;

    make_history(b);
    value = fx_raw_get(b->store, &second);
    assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_HISTORY, &frame), CREDSTORE_OK);
    tag = value.ptr + value.len - frame.parts[0].box.sealed.len - CS_TAG_LEN;
    tag[0] ^= 1;
    fx_raw_put(&b->f, &second, &value);
    fx_fails(fx_reveal_checkbook(b->store, FX_KSUID, 1, &secret, &err), CREDSTORE_E_INTEGRITY,
             &err);
    fx_fails(fx_reveal_checkbook(b->store, FX_KSUID, 2, &secret, &err), CREDSTORE_E_INTEGRITY,
             &err);
    tag[0] ^= 1;
    cs_buf_add(&other, value.ptr, FRAME_HEAD + frame.body.whole.len); /* without the part */
    cs_put_u16(other.ptr + 2, 0);
    fx_raw_put(&b->f, &second, &other);
    fx_fails(fx_reveal_checkbook(b->store, FX_KSUID, 1, &secret, &err), CREDSTORE_E_INTEGRITY,
             &err);
    fx_raw_del(&b->f, &second);
    fx_fails(fx_reveal_checkbook(b->store, FX_KSUID, 1, &secret, &err), CREDSTORE_E_INTEGRITY,
             &err);
    reveals(b, 3, "second");
    fx_raw_put(&b->f, &second, &value);
    reveals(b, 1, "first");
    cs_buf_free(&value);
    cs_buf_free(&other);
}

/* ---- written by a newer library ---- */

/* Seals the record again with more members behind its own. */
static void add_members(bench *b, const cs_buf *more)
{
    static const uint8_t nonce[CS_NONCE_LEN] = "24 bytes of a nonce.....";
    const cs_locator at = checkbook_at(FX_KSUID);
    const cs_key key = current_of(FX_KSUID);
    cs_buf value = fx_raw_get(b->store, &key), plain, out = {0};
    credstore_error err = {0};
    cs_label label;
    cs_frame frame;

    assert_int_equal(read_frame(value.ptr, value.len, CS_ROLE_CURRENT, &frame), CREDSTORE_OK);
    label = cs_record_label(CS_ROLE_CURRENT, &at, 0, frame.revision);
    plain = fx_unseal(b->store, &label, &frame.body);
    cs_buf_add(&plain, more->ptr, more->len);
    cs_frame_begin(&out, CS_ROLE_CURRENT, (uint16_t)frame.part_count, frame.revision);
    fx_ok(cs_seal(&b->store->sealer, cs_keyring_active(cs_store_ring(b->store), CS_PURPOSE_BODY),
                  &label, nonce, cs_bytes(plain.ptr, plain.len), &out, NULL, &err),
          &err);
    for (size_t i = 0; i < frame.part_count; i++)
        cs_buf_add(&out, frame.parts[i].whole.ptr, frame.parts[i].whole.len);
    fx_raw_put(&b->f, &key, &out);
    cs_buf_free(&value);
    cs_buf_free(&plain);
    cs_buf_free(&out);
}

static bool body_ends_with(bench *b, const cs_key *key, uint8_t role, const cs_buf *tail)
{
    const cs_locator at = checkbook_at(FX_KSUID);
    cs_buf value = fx_raw_get(b->store, key), plain;
    cs_label label;
    cs_frame frame;
    bool ends;

    assert_int_equal(read_frame(value.ptr, value.len, role, &frame), CREDSTORE_OK);
    label = cs_record_label(role, &at, 0, frame.revision);
    plain = fx_unseal(b->store, &label, &frame.body);
    ends = plain.len > tail->len &&
           memcmp(plain.ptr + plain.len - tail->len, tail->ptr, tail->len) == 0;
    cs_buf_free(&value);
    cs_buf_free(&plain);
    return ends;
}

static void test_newer_members_are_kept(void **state)
{
    bench *b = *state;
    const cs_key current = current_of(FX_KSUID);
    const cs_key first = history_of(FX_KSUID, 1), second = history_of(FX_KSUID, 2);
    cs_buf more = {0};
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    put_member(&more, 0x0102 + 0x0300, "of tomorrow", 11);
    put_member(&more, 0x7fff, "", 0);
    add_members(b, &more);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    fx_is(b->store, FX_KSUID, 3, "text 2", "second");
    assert_true(body_ends_with(b, &current, CS_ROLE_CURRENT, &more));
    assert_true(body_ends_with(b, &first, CS_ROLE_HISTORY, &more));
    assert_true(body_ends_with(b, &second, CS_ROLE_HISTORY, &more));
    cs_buf_free(&more);
}

static void test_critical_members_are_refused(void **state)
{
    static const uint16_t ids[] = {0x8000, 0x8102, 0xffff};
    const cs_key key = current_of(FX_KSUID);
    bench *b = *state;
    cs_buf kept;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_create_checkbook(b->store, FX_KSUID_OTHER, "other");
    kept = fx_raw_get(b->store, &key);
    for (size_t i = 0; i < FX_COUNT(ids); i++) {
        cs_buf more = {0};

        put_member(&more, ids[i], "", 0);
        add_members(b, &more);
        all_refuse(b, FX_KSUID, CREDSTORE_E_FORMAT);
        fx_is(b->store, FX_KSUID_OTHER, 1, "publishable", "other"); /* the others go on */
        fx_raw_put(&b->f, &key, &kept);
        cs_buf_free(&more);
    }
    cs_buf_free(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_frames_of_another_kind),
        cmocka_unit_test(test_cut_frames),
        cmocka_unit_test(test_part_limit),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_cut_bodies),
        cmocka_unit_test(test_malformed_members),
        cmocka_unit_test(test_short_secrets),
        cmocka_unit_test(test_parts_agree),
        cmocka_unit_test(test_unknown_members),
        cmocka_unit_test_setup_teardown(test_under_another_id, begin, end),
        cmocka_unit_test_setup_teardown(test_under_another_kind, begin, end),
        cmocka_unit_test_setup_teardown(test_under_another_tenant, begin, end),
        cmocka_unit_test_setup_teardown(test_another_owner, begin, end),
        cmocka_unit_test_setup_teardown(test_history_is_not_current, begin, end),
        cmocka_unit_test_setup_teardown(test_revision_in_front, begin, end),
        cmocka_unit_test_setup_teardown(test_part_of_before, begin, end),
        cmocka_unit_test_setup_teardown(test_part_under_another_field, begin, end),
        cmocka_unit_test_setup_teardown(test_key_ids, begin, end),
        cmocka_unit_test_setup_teardown(test_from_another_store, begin, end),
        cmocka_unit_test_setup_teardown(test_every_bit, begin, end),
        cmocka_unit_test_setup_teardown(test_cut_values, begin, end),
        cmocka_unit_test_setup_teardown(test_history_keeps_what_changed, begin, end),
        cmocka_unit_test_setup_teardown(test_lost_part_of_history, begin, end),
        cmocka_unit_test_setup_teardown(test_newer_members_are_kept, begin, end),
        cmocka_unit_test_setup_teardown(test_critical_members_are_refused, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
