/* SPDX-License-Identifier: MIT
 *
 * What holds for the verbs of every kind.
 */
#include "kind_contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op.h"
#include "txn.h"

enum { GARBAGE = 0x5a };

/* ---- small words ---- */

static credstore_status get(const test_world *w, const void **view, credstore_error *err)
{
    return w->k->get(w->t.store, &w->call, &w->at, view, err);
}

static credstore_status update(const test_world *w, const test_patch *patch, const void **view,
                               credstore_error *err)
{
    return w->k->update(w->t.store, &w->call, &w->at, patch->u.bytes, view, err);
}

static size_t fields(const test_world *w)
{
    return w->k->kind->field_count;
}

static const cs_field *field_at(const test_world *w, size_t i)
{
    return &w->k->kind->fields[i];
}

static bool has(const test_world *w, size_t i, unsigned flag)
{
    return (field_at(w, i)->flags & flag) != 0;
}

static bool is_secret(const test_world *w, size_t i)
{
    return field_at(w, i)->type == CS_SECRET;
}

static void advance(test_world *w, int64_t ms)
{
    atomic_fetch_add(&w->t.now, ms);
}

static void make(test_world *w, unsigned n)
{
    credstore_free(test_make(&w->t, w->k, &w->root, n));
}

/* What was there, to be held against what is there. */
typedef struct before {
    const void *view;
    uint64_t generation;
} before;

static before look(const test_world *w)
{
    const before b = {test_get(&w->t, w->k, &w->root), test_generation(w->t.store)};

    return b;
}

static void assert_untouched(const test_world *w, const before *b)
{
    const void *now = test_get(&w->t, w->k, &w->root);

    assert_true(test_same_view(w->k, b->view, now, true));
    assert_int_equal(b->generation, test_generation(w->t.store));
    credstore_free(now);
}

static void assert_refused(const credstore_error *err, credstore_status got,
                           credstore_status expected, const char *field)
{
    assert_status(expected, got, err);
    assert_string_equal(err->field, field == NULL ? "" : field);
    assert_int_not_equal(err->message[0], '\0');
    assert_null(strchr(err->message, '\n'));
}

/* An update that must fail: status, field, one line, *out NULL, nothing changed. */
static void assert_update_refused(const test_world *w, const test_patch *patch,
                                  credstore_status expected, const char *field)
{
    before b = look(w);
    const void *out = &out;
    credstore_error err;

    assert_refused(&err, update(w, patch, &out, &err), expected, field);
    assert_null(out);
    assert_untouched(w, &b);
    credstore_free(b.view);
}

/* ---- origins ---- */

typedef struct origin {
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } u;
} origin;

static origin origin_of(const test_world *w, const char *id)
{
    const uint32_t size = w->k->kind->origin.size;
    origin o = {{0}};

    memcpy(o.u.bytes, &size, sizeof size);
    if (w->k->kind->origin.id != 0 && id != NULL)
        memcpy(o.u.bytes + w->k->kind->origin.id, &id, sizeof id);
    return o;
}

static void set_time(origin *o, uint16_t at, int64_t time)
{
    if (at != 0)
        memcpy(o->u.bytes + at, &time, sizeof time);
}

static credstore_status create(const test_world *w, const origin *o, const test_patch *patch,
                               const void **view, credstore_error *err)
{
    return w->k->create(w->t.store, &w->call, &w->at, o == NULL ? NULL : o->u.bytes, patch->u.bytes,
                        view, err);
}

static int64_t time_at(const void *view, uint16_t at)
{
    int64_t time = 0;

    if (at != 0)
        memcpy(&time, (const uint8_t *)view + at, sizeof time);
    return time;
}

static const char *id_of(const test_world *w, const void *view)
{
    const char *id;

    memcpy(&id, (const uint8_t *)view + w->k->kind->view.id, sizeof id);
    return id;
}

/* ---- create and get ---- */

static void test_create_and_get(test_world *w)
{
    const cs_shared_at *at = &w->k->kind->view;
    const bool later = (w->k->kind->flags & CS_UPDATED_LATER) != 0;
    const void *made = test_make(&w->t, w->k, &w->root, 1), *got = NULL;
    credstore_error err;

    test_assert_all(w->k, made, 1);
    assert_string_equal(id_of(w, made), w->k->id);
    assert_int_equal(test_revision(w->k, made), 1);
    assert_int_equal(time_at(made, at->created_at), TEST_NOW);
    assert_int_equal(time_at(made, at->updated_at), later ? 0 : TEST_NOW);
    assert_int_equal(time_at(made, at->last_used_at), 0);
    advance(w, 5000);
    assert_status(CREDSTORE_OK, get(w, &got, &err), &err);
    assert_true(test_same_view(w->k, made, got, true));
    assert_string_equal(err.message, "");
    credstore_free(made);
    credstore_free(got);
}

static void test_ids_are_made(test_world *w)
{
    const cs_kind *kind = w->k->kind;
    const void *a = NULL, *b = NULL, *got = NULL;
    credstore_error err;
    test_patch patch;

    if (kind->make_id == NULL) { /* the id is the caller's: there is no way to leave it out */
        w->at.id = NULL;
        test_patch_whole(w->k, &patch, 1);
        assert_refused(&err, create(w, NULL, &patch, &a, &err), CREDSTORE_E_INVALID, kind->id_name);
        return;
    }
    test_patch_whole(w->k, &patch, 1);
    assert_status(CREDSTORE_OK, create(w, NULL, &patch, &a, &err), &err);
    assert_status(CREDSTORE_OK, create(w, NULL, &patch, &b, &err), &err);
    assert_true(kind->id_valid(id_of(w, a), strlen(id_of(w, a))));
    assert_string_not_equal(id_of(w, a), id_of(w, b));
    w->at.id = id_of(w, a);
    assert_status(CREDSTORE_OK, get(w, &got, &err), &err);
    assert_true(test_same_view(w->k, a, got, true));
    credstore_free(a);
    credstore_free(b);
    credstore_free(got);
}

static void test_import(test_world *w)
{
    const cs_shared_at *at = &w->k->kind->origin, *shown = &w->k->kind->view;
    const int64_t created = INT64_C(1577470279117);
    origin o = origin_of(w, w->k->id);
    const void *view = NULL, *got = NULL;
    credstore_error err;
    test_patch patch;

    set_time(&o, at->created_at, created);
    set_time(&o, at->updated_at, created + 1);
    set_time(&o, at->last_used_at, created + 2);
    test_patch_whole(w->k, &patch, 1);
    assert_status(CREDSTORE_OK, create(w, &o, &patch, &view, &err), &err);
    assert_int_equal(time_at(view, shown->created_at), created);
    assert_int_equal(time_at(view, shown->updated_at), created + 1);
    if (shown->last_used_at != 0)
        assert_int_equal(time_at(view, shown->last_used_at), created + 2);
    assert_status(CREDSTORE_OK, get(w, &got, &err), &err);
    assert_true(test_same_view(w->k, view, got, true));
    credstore_free(view);
    credstore_free(got);
}

static void assert_origin_refused(test_world *w, uint16_t at, int64_t time, int64_t created,
                                  const char *field)
{
    const uint64_t generation = test_generation(w->t.store);
    origin o = origin_of(w, w->k->id);
    const void *view = &view;
    credstore_error err;
    test_patch patch;

    if (at == 0)
        return;
    set_time(&o, w->k->kind->origin.created_at, created);
    set_time(&o, at, time);
    test_patch_whole(w->k, &patch, 1);
    assert_refused(&err, create(w, &o, &patch, &view, &err), CREDSTORE_E_INVALID, field);
    assert_null(view);
    assert_int_equal(generation, test_generation(w->t.store));
}

static void test_bad_origins(test_world *w)
{
    const cs_shared_at *at = &w->k->kind->origin;
    const int64_t created = TEST_NOW - 5000;

    assert_origin_refused(w, at->created_at, TEST_NOW + 1, 0, "created_at");
    assert_origin_refused(w, at->created_at, -1, 0, "created_at");
    assert_origin_refused(w, at->updated_at, TEST_NOW + 1, created, "updated_at");
    assert_origin_refused(w, at->updated_at, created - 1, created, "updated_at");
    assert_origin_refused(w, at->updated_at, TEST_NOW - 1, 0, "updated_at");
    assert_origin_refused(w, at->last_used_at, TEST_NOW + 1, 0, "last_used_at");
    assert_origin_refused(w, at->last_used_at, -1, 0, "last_used_at");
}

static void test_required_fields(test_world *w)
{
    const origin o = origin_of(w, w->k->id);
    const uint64_t generation = test_generation(w->t.store);

    for (size_t i = 0; i < fields(w); i++) {
        const void *view = &view;
        credstore_error err;
        test_patch patch;

        if (!test_in_patch(field_at(w, i)) || !has(w, i, CS_REQUIRED))
            continue;
        test_patch_begin(w->k, &patch);
        for (size_t j = 0; j < fields(w); j++)
            if (j != i && test_in_patch(field_at(w, j)))
                test_patch_set(w->k, &patch, j, 1);
        assert_refused(&err, create(w, &o, &patch, &view, &err), CREDSTORE_E_INVALID,
                       field_at(w, i)->name);
        assert_null(view);
    }
    assert_int_equal(generation, test_generation(w->t.store));
}

/* A taken id is taken: in the tenant, and for kinds whose ids are the store's, in every other. */
static void test_taken_ids(test_world *w)
{
    const bool store_wide = w->k->kind->scope == CS_SCOPE_STORE;
    const origin o = origin_of(w, w->k->id);
    const void *view = &view;
    credstore_error err;
    test_patch patch;

    make(w, 1);
    test_patch_whole(w->k, &patch, 2);
    assert_refused(&err, create(w, &o, &patch, &view, &err), CREDSTORE_E_EXISTS,
                   w->k->kind->id_name);
    assert_null(view);
    w->call.tenant = w->at.tenant = "other";
    if (store_wide) {
        assert_refused(&err, create(w, &o, &patch, &view, &err), CREDSTORE_E_EXISTS,
                       w->k->kind->id_name);
    } else {
        assert_status(CREDSTORE_OK, create(w, &o, &patch, &view, &err), &err);
        test_assert_all(w->k, view, 2);
        credstore_free(view);
    }
    w->call.tenant = w->at.tenant = TEST_TENANT;
    view = test_get(&w->t, w->k, &w->root);
    test_assert_all(w->k, view, 1);
    credstore_free(view);
}

/* ---- update ---- */

static void test_each_field(test_world *w)
{
    unsigned values[CS_FIELDS_MAX];
    uint64_t revision = 1;
    const void *view = NULL, *got;
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; i < CS_FIELDS_MAX; i++)
        values[i] = 1;
    for (size_t i = 0; i < fields(w); i++) {
        if (!test_in_patch(field_at(w, i)))
            continue;
        advance(w, 1000);
        test_patch_begin(w->k, &patch);
        test_patch_set(w->k, &patch, i, 2);
        values[i] = 2;
        assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
        test_assert_shows(w->k, view, values);
        assert_int_equal(test_revision(w->k, view), ++revision);
        assert_int_equal(test_updated_at(w->k, view), atomic_load(&w->t.now));
        assert_int_equal(time_at(view, w->k->kind->view.created_at), TEST_NOW);
        got = test_get(&w->t, w->k, &w->root);
        assert_true(test_same_view(w->k, view, got, true));
        credstore_free(view);
        credstore_free(got);
    }
}

/* The same value, a part of them or none is no change: neither revision nor time move, nothing is
   written, and the answer is the record. */
static void test_no_change(test_world *w)
{
    const void *view = NULL;
    credstore_error err;
    test_patch patch;
    before b;

    make(w, 1);
    b = look(w);
    advance(w, 60000);
    for (size_t i = 0; i <= fields(w) + 1; i++) {
        if (i < fields(w) && !test_in_patch(field_at(w, i)))
            continue;
        test_patch_begin(w->k, &patch); /* the last but one: empty; the last: all */
        if (i < fields(w))
            test_patch_set(w->k, &patch, i, 1);
        else if (i > fields(w))
            test_patch_whole(w->k, &patch, 1);
        assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
        assert_true(test_same_view(w->k, b.view, view, true));
        assert_untouched(w, &b);
        credstore_free(view);
    }
    credstore_free(b.view);
}

static void test_clear(test_world *w)
{
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; i < fields(w); i++) {
        unsigned values[CS_FIELDS_MAX];
        const void *view = NULL;
        before b;

        if (!test_in_patch(field_at(w, i)))
            continue;
        test_patch_begin(w->k, &patch);
        test_patch_clear(w->k, &patch, i);
        if (!has(w, i, CS_NULLABLE)) {
            assert_update_refused(w, &patch, CREDSTORE_E_INVALID, field_at(w, i)->name);
            continue;
        }
        advance(w, 1000);
        for (size_t j = 0; j < CS_FIELDS_MAX; j++)
            values[j] = j < i && j < fields(w) && has(w, j, CS_NULLABLE) ? 0 : 1;
        values[i] = 0;
        assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
        test_assert_shows(w->k, view, values);
        credstore_free(view);
        b = look(w);
        assert_status(CREDSTORE_OK, update(w, &patch, NULL, &err), &err); /* null already */
        assert_untouched(w, &b);
        credstore_free(b.view);
    }
}

static void test_after_reopen(test_world *w)
{
    const void *before_view, *view = NULL;
    credstore_error err;
    test_patch patch;

    if (w->t.engine == TEST_MEMORY)
        return; /* nothing outlives it */
    make(w, 1);
    test_patch_whole(w->k, &patch, 2);
    assert_status(CREDSTORE_OK, update(w, &patch, &before_view, &err), &err);
    assert_status(CREDSTORE_OK, test_reopen(&w->t, &err), &err);
    view = test_get(&w->t, w->k, &w->root);
    test_assert_all(w->k, view, 2);
    assert_true(test_same_view(w->k, before_view, view, true));
    credstore_free(view);
    credstore_free(before_view); /* outlives its store */
    test_patch_whole(w->k, &patch, 3);
    assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
    test_assert_all(w->k, view, 3);
    assert_int_equal(test_revision(w->k, view), 3);
    credstore_free(view);
}

/* ---- slots ---- */

/* How a slot can be wrong: op, value (0 or the nth), reserved. */
typedef struct bad_slot {
    uint32_t op;
    bool value;
    uint32_t reserved;
} bad_slot;

static const bad_slot bad_slots[] = {
    {CREDSTORE_KEEP, true, 0},
    {CREDSTORE_CLEAR, true, 0},
    {3, true, 0},
    {3, false, 0},
    {UINT32_MAX, true, 0},
    {CREDSTORE_SET, true, 1},
    {CREDSTORE_KEEP, false, 1},
    {CREDSTORE_CLEAR, false, UINT32_MAX},
};

/* Where op lies in a slot: in a flag first, else before the last 4 bytes, which are reserved. */
static void spoil(const test_world *w, test_patch *patch, size_t i, const bad_slot *bad)
{
    const cs_field *field = field_at(w, i);
    const size_t ops[] = {
        [CS_TEXT] = offsetof(credstore_text, op),
        [CS_SECRET] = offsetof(credstore_secret_text, op),
        [CS_FLAG] = offsetof(credstore_flag, op),
        [CS_TIME] = offsetof(credstore_time, op),
        [CS_PERMISSIONS] = offsetof(credstore_strings, op),
    };
    uint8_t *slot = patch->u.bytes + field->in;

    test_patch_begin(w->k, patch);
    if (bad->value)
        test_patch_set(w->k, patch, i, 3);
    memcpy(slot + ops[field->type], &bad->op, sizeof bad->op);
    if (field->type != CS_FLAG)
        memcpy(slot + ops[field->type] + 4, &bad->reserved, sizeof bad->reserved);
}

static void test_bad_slots(test_world *w)
{
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; i < fields(w); i++)
        for (size_t b = 0; b < sizeof bad_slots / sizeof *bad_slots; b++) {
            const bad_slot *bad = &bad_slots[b];

            if (!test_in_patch(field_at(w, i)) ||
                (field_at(w, i)->type == CS_FLAG && bad->reserved != 0))
                continue;
            spoil(w, &patch, i, bad);
            assert_update_refused(w, &patch, CREDSTORE_E_INVALID, field_at(w, i)->name);
        }
    test_patch_begin(w->k, &patch);
    patch.u.bytes[4] = 1; /* the patch's own reserved member */
    assert_update_refused(w, &patch, CREDSTORE_E_INVALID, "patch");
}

/* SET with a length or a count, and no pointer; a length that is not NTS is obeyed. */
static void test_lengths(test_world *w)
{
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; i < fields(w); i++) {
        const cs_field *field = field_at(w, i);
        credstore_text none = {NULL, 4, CREDSTORE_SET, 0}, cut;
        const void *view = NULL;

        if (!test_in_patch(field) || field->type == CS_FLAG || field->type == CS_TIME)
            continue;
        test_patch_begin(w->k, &patch);
        memcpy(patch.u.bytes + field->in, &none, sizeof none); /* credstore_strings lie alike */
        assert_update_refused(w, &patch, CREDSTORE_E_INVALID, field->name);
        if (field->type == CS_PERMISSIONS)
            continue;
        none.len = CREDSTORE_NTS;
        memcpy(patch.u.bytes + field->in, &none, sizeof none);
        assert_update_refused(w, &patch, CREDSTORE_E_INVALID, field->name);
        test_patch_set(w->k, &patch, i, 1); /* the same value, said with another length rule */
        memcpy(&cut, patch.u.bytes + field->in, sizeof cut);
        cut.len = strlen(patch.text[i]);
        patch.text[i][cut.len] = 'x';
        memcpy(patch.u.bytes + field->in, &cut, sizeof cut);
        assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
        assert_int_equal(test_revision(w->k, view), 1);
        credstore_free(view);
    }
}

/* ---- struct sizes ---- */

/* A copy of a struct as a caller of another version has it: exactly `size` bytes, so that one byte
   too many read is seen by the sanitizers. */
static uint8_t *sized(const void *of, size_t full, uint32_t size, int tail)
{
    uint8_t *copy = malloc(size < 4 ? 4 : size);

    assert_non_null(copy);
    memset(copy, tail, size);
    memcpy(copy, of, size < full ? size : full);
    memcpy(copy, &size, sizeof size);
    return copy;
}

static credstore_status expected_of(uint32_t size, size_t full, const uint16_t *starts,
                                    size_t count, int tail)
{
    if (size >= full)
        return size > full && tail != 0 ? CREDSTORE_E_UNSUPPORTED : CREDSTORE_OK;
    for (size_t i = 0; i < count; i++)
        if (size == starts[i])
            return CREDSTORE_OK;
    return CREDSTORE_E_INVALID;
}

static void test_patch_sizes(test_world *w)
{
    const size_t full = w->k->kind->patch_size;
    uint16_t starts[CS_FIELDS_MAX + 1] = {8};
    test_patch patch;
    size_t count = 1;

    make(w, 1);
    test_patch_whole(w->k, &patch, 1); /* so that whatever is taken changes nothing */
    for (size_t i = 0; i < fields(w); i++)
        if (test_in_patch(field_at(w, i)))
            starts[count++] = field_at(w, i)->in;
    for (uint32_t size = 0; size <= full + 24; size++)
        for (int tail = 0; tail <= GARBAGE; tail += GARBAGE) {
            uint8_t *copy = sized(patch.u.bytes, full, size, tail);
            const credstore_status expected = expected_of(size, full, starts, count, tail);
            const void *view = &view;
            credstore_error err;

            if (size != 4) { /* reserved cut off: nobody was ever compiled with that */
                assert_status(expected,
                              w->k->update(w->t.store, &w->call, &w->at, copy, &view, &err), &err);
                assert_string_equal(err.field, expected == CREDSTORE_OK ? "" : "patch");
                assert_true(expected == CREDSTORE_OK || view == NULL);
                if (expected == CREDSTORE_OK)
                    assert_int_equal(test_revision(w->k, view), 1);
                if (expected == CREDSTORE_OK)
                    credstore_free(view);
            }
            free(copy);
        }
}

/* A shorter patch keeps the members that it lacks, and takes those that it has. */
static void test_short_patch(test_world *w)
{
    unsigned values[CS_FIELDS_MAX];
    size_t last = 0;
    uint8_t *copy;
    const void *view = NULL;
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; i < fields(w); i++) {
        values[i] = 2;
        if (test_in_patch(field_at(w, i)) && field_at(w, i)->in > field_at(w, last)->in)
            last = i;
    }
    values[last] = 1;
    test_patch_whole(w->k, &patch, 2);
    copy = sized(patch.u.bytes, w->k->kind->patch_size, field_at(w, last)->in, 0);
    assert_status(CREDSTORE_OK, w->k->update(w->t.store, &w->call, &w->at, copy, &view, &err),
                  &err);
    test_assert_shows(w->k, view, values);
    credstore_free(view);
    free(copy);
}

static const uint16_t call_starts[] = {
    offsetof(credstore_call, flags),       offsetof(credstore_call, actor),
    offsetof(credstore_call, tenant),      offsetof(credstore_call, request_id),
    offsetof(credstore_call, at_revision), offsetof(credstore_call, expected_revision),
    offsetof(credstore_call, wait_ms),     offsetof(credstore_call, idempotency_key),
};
static const uint16_t actor_starts[] = {
    offsetof(credstore_actor, type),        offsetof(credstore_actor, roles),
    offsetof(credstore_actor, reserved),    offsetof(credstore_actor, expires_at),
    offsetof(credstore_actor, permissions), offsetof(credstore_actor, id),
    offsetof(credstore_actor, tenant),
};

static void test_call_sizes(test_world *w)
{
    make(w, 1);
    for (uint32_t size = 0; size <= sizeof w->call + 16; size++)
        for (int tail = 0; tail <= GARBAGE; tail += GARBAGE) {
            uint8_t *copy = sized(&w->call, sizeof w->call, size, tail);
            credstore_status expected = expected_of(size, sizeof w->call, call_starts,
                                                    sizeof call_starts / sizeof *call_starts, tail);
            const char *field = expected == CREDSTORE_OK ? "" : "call";
            const void *view = NULL;
            credstore_error err;

            if (expected == CREDSTORE_OK && size <= offsetof(credstore_call, actor)) {
                expected = CREDSTORE_E_UNAUTHENTICATED; /* a call without its actor */
                field = "actor";
            }
            assert_status(expected, w->k->get(w->t.store, (const void *)copy, &w->at, &view, &err),
                          &err);
            assert_string_equal(err.field, field);
            credstore_free(view);
            free(copy);
        }
}

static void test_actor_sizes(test_world *w)
{
    credstore_call call = w->call;

    make(w, 1);
    for (uint32_t size = 0; size <= sizeof w->root + 16; size++)
        for (int tail = 0; tail <= GARBAGE; tail += GARBAGE) {
            uint8_t *copy = sized(&w->root, sizeof w->root, size, tail);
            credstore_status expected =
                expected_of(size, sizeof w->root, actor_starts,
                            sizeof actor_starts / sizeof *actor_starts, tail);
            const void *view = NULL;
            credstore_error err;

            if (size <= offsetof(credstore_actor, id))
                expected = CREDSTORE_E_INVALID; /* an actor without an id is none */
            call.actor = (const void *)copy;
            if (size == offsetof(credstore_actor, tenant)) /* of no tenant, but of all */
                call.tenant = TEST_TENANT;
            assert_status(expected, w->k->get(w->t.store, &call, &w->at, &view, &err), &err);
            assert_true(expected == CREDSTORE_OK || strcmp(err.field, "actor") == 0);
            call.tenant = NULL;
            credstore_free(view);
            free(copy);
        }
}

static void test_origin_sizes(test_world *w)
{
    const cs_shared_at *at = &w->k->kind->origin;
    uint16_t starts[CS_FIELDS_MAX + 5] = {8, at->created_at, at->updated_at, at->last_used_at};
    const origin o = origin_of(w, w->k->id);
    size_t count = 4;
    test_patch patch;

    make(w, 1); /* so that a good origin is told EXISTS, and a cut one makes a new id or is */
    test_patch_whole(w->k, &patch, 1);
    for (size_t i = 0; i < fields(w); i++)
        if (has(w, i, CS_FROM_ORIGIN))
            starts[count++] = field_at(w, i)->in;
    for (uint32_t size = 0; size <= at->size + 16u; size++)
        for (int tail = 0; tail <= GARBAGE; tail += GARBAGE) {
            uint8_t *copy = sized(o.u.bytes, at->size, size, tail);
            credstore_status expected = expected_of(size, at->size, starts, count, tail);
            const void *view = NULL;
            credstore_error err;

            if (expected == CREDSTORE_OK && (at->id == 0 || size > at->id))
                expected = CREDSTORE_E_EXISTS;
            if (size != 0 && size != 4)
                assert_status(
                    expected,
                    w->k->create(w->t.store, &w->call, &w->at, copy, patch.u.bytes, &view, &err),
                    &err);
            credstore_free(view);
            free(copy);
        }
}

/* ---- revisions ---- */

typedef struct expectation {
    uint64_t expected;
    credstore_status there, absent, absent_upsert;
} expectation;

/* The record is at revision 3. */
static const expectation expectations[] = {
    {0, CREDSTORE_OK, CREDSTORE_E_NOT_FOUND, CREDSTORE_OK},
    {3, CREDSTORE_OK, CREDSTORE_E_NOT_FOUND, CREDSTORE_E_REVISION},
    {2, CREDSTORE_E_REVISION, CREDSTORE_E_NOT_FOUND, CREDSTORE_E_REVISION},
    {4, CREDSTORE_E_REVISION, CREDSTORE_E_NOT_FOUND, CREDSTORE_E_REVISION},
    {UINT64_MAX - 2, CREDSTORE_E_REVISION, CREDSTORE_E_NOT_FOUND, CREDSTORE_E_REVISION},
    {CREDSTORE_MUST_EXIST, CREDSTORE_OK, CREDSTORE_E_NOT_FOUND, CREDSTORE_E_REVISION},
    {CREDSTORE_MUST_BE_NEW, CREDSTORE_E_REVISION, CREDSTORE_E_NOT_FOUND, CREDSTORE_OK},
};
enum { EXPECTATIONS = sizeof expectations / sizeof *expectations };

static void make_three_revisions(test_world *w)
{
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (unsigned n = 2; n <= 3; n++) {
        test_patch_whole(w->k, &patch, n);
        assert_status(CREDSTORE_OK, update(w, &patch, NULL, &err), &err);
    }
}

/* A stale revision is told first, even to a patch that would change nothing. */
static void test_expected_there(test_world *w)
{
    const unsigned patches[] = {0, 3, 4};
    credstore_error err;
    test_patch patch;
    uint64_t revision = 3;

    make_three_revisions(w);
    for (size_t p = 0; p < 3; p++)
        for (size_t i = 0; i < EXPECTATIONS; i++) {
            const expectation *e = &expectations[i];
            const void *view = &view;

            test_patch_begin(w->k, &patch);
            if (patches[p] != 0)
                test_patch_whole(w->k, &patch, patches[p]);
            w->call.expected_revision = e->expected;
            if (e->expected >= 2 && e->expected <= 4) /* one is made on the way */
                w->call.expected_revision += revision - 3;
            if (e->there != CREDSTORE_OK) {
                assert_update_refused(w, &patch, e->there, NULL);
                continue;
            }
            assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
            revision = test_revision(w->k, view);
            assert_int_equal(revision, patches[p] == 4 ? 4 : 3);
            credstore_free(view);
        }
}

static void test_expected_absent(test_world *w)
{
    const bool upsert = (w->k->kind->flags & CS_UPSERT) != 0;
    credstore_error err;
    test_patch patch;

    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const expectation *e = &expectations[i];
        const credstore_status expected = upsert ? e->absent_upsert : e->absent;
        const void *view = &view;

        test_patch_whole(w->k, &patch, 1);
        w->call.expected_revision = e->expected;
        if (expected == CREDSTORE_OK)
            continue; /* made last, below */
        assert_status(expected, update(w, &patch, &view, &err), &err);
        assert_null(view);
    }
    w->call.expected_revision = CREDSTORE_MUST_BE_NEW;
    test_patch_whole(w->k, &patch, 1);
    if (!upsert)
        return;
    assert_status(CREDSTORE_OK, update(w, &patch, NULL, &err), &err);
    assert_update_refused(w, &patch, CREDSTORE_E_REVISION, NULL);
}

/* A creation's expectation: new is what it makes. */
static void test_expected_at_creation(test_world *w)
{
    const origin o = origin_of(w, w->k->id);
    const void *view = NULL;
    credstore_error err;
    test_patch patch;

    test_patch_whole(w->k, &patch, 1);
    w->call.expected_revision = CREDSTORE_MUST_EXIST;
    assert_status(CREDSTORE_E_REVISION, create(w, &o, &patch, &view, &err), &err);
    w->call.expected_revision = 1;
    assert_status(CREDSTORE_E_REVISION, create(w, &o, &patch, &view, &err), &err);
    w->call.expected_revision = CREDSTORE_MUST_BE_NEW;
    assert_status(CREDSTORE_OK, create(w, &o, &patch, &view, &err), &err);
    credstore_free(view);
    assert_status(CREDSTORE_E_REVISION, create(w, &o, &patch, &view, &err), &err);
    assert_null(view);
}

/* ---- absent, and another's ---- */

/* The same words to each question, so that nobody learns which ids are taken. */
static void test_absent_and_foreign(test_world *w)
{
    const bool upsert = (w->k->kind->flags & CS_UPSERT) != 0;
    credstore_error absent[3], foreign[3];
    credstore_error *const rounds[] = {absent, foreign};
    test_patch patch;

    test_patch_begin(w->k, &patch);
    w->call.expected_revision = upsert ? CREDSTORE_MUST_EXIST : 0;
    w->call.tenant = w->at.tenant = "other";
    for (int round = 0; round < 2; round++) {
        credstore_error *err = rounds[round];
        const void *view = &view;
        credstore_secret *secret = NULL;

        memset(err, 0, 3 * sizeof *err);
        assert_status(CREDSTORE_E_NOT_FOUND, get(w, &view, &err[0]), &err[0]);
        assert_null(view);
        view = &view;
        assert_status(upsert ? CREDSTORE_E_REVISION : CREDSTORE_E_NOT_FOUND,
                      update(w, &patch, &view, &err[1]), &err[1]);
        assert_null(view);
        for (size_t i = 0; w->k->reveal != NULL && i < fields(w); i++)
            if (is_secret(w, i))
                assert_status(CREDSTORE_E_FORBIDDEN,
                              w->k->reveal(w->t.store, &w->call, &w->at, field_at(w, i)->id,
                                           &secret, &err[2]),
                              &err[2]);
        if (round == 0)
            make(w, 1); /* in acme */
    }
    assert_memory_equal(absent, foreign, sizeof absent);
}

/* Under another service account of the same organization. */
static void test_foreign_parent(test_world *w)
{
    const void *view = &view;
    credstore_error err;
    test_patch patch;

    make(w, 1);
    if (w->k->kind->parent_name == NULL)
        return;
    w->at.parent = "sa-2";
    test_patch_begin(w->k, &patch);
    assert_refused(&err, get(w, &view, &err), CREDSTORE_E_NOT_FOUND, w->k->kind->id_name);
    assert_null(view);
    assert_refused(&err, update(w, &patch, NULL, &err), CREDSTORE_E_NOT_FOUND, w->k->kind->id_name);
}

/* ---- reveal ---- */

static void assert_reveals(const test_world *w, size_t i, unsigned n)
{
    credstore_secret *secret = NULL;
    credstore_error err;
    char text[64];
    const credstore_status status =
        w->k->reveal(w->t.store, &w->call, &w->at, field_at(w, i)->id, &secret, &err);

    if (n == 0) {
        assert_refused(&err, status, CREDSTORE_E_NOT_FOUND, field_at(w, i)->name);
        assert_null(secret);
        return;
    }
    assert_status(CREDSTORE_OK, status, &err);
    test_text(field_at(w, i), n, text, sizeof text);
    assert_int_equal(credstore_secret_len(secret), strlen(text));
    assert_string_equal(credstore_secret_ptr(secret), text);
    credstore_secret_free(secret);
}

static void test_reveal(test_world *w)
{
    credstore_secret *secret;
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; w->k->reveal != NULL && i < fields(w); i++) {
        secret = (void *)&secret;
        if (!is_secret(w, i)) {
            assert_refused(
                &err, w->k->reveal(w->t.store, &w->call, &w->at, field_at(w, i)->id, &secret, &err),
                CREDSTORE_E_INVALID, "field");
            assert_null(secret);
            continue;
        }
        assert_reveals(w, i, 1);
        test_patch_begin(w->k, &patch);
        test_patch_set(w->k, &patch, i, 2);
        assert_status(CREDSTORE_OK, update(w, &patch, NULL, &err), &err);
        assert_reveals(w, i, 2);
        if (!has(w, i, CS_NULLABLE))
            continue;
        test_patch_clear(w->k, &patch, i);
        assert_status(CREDSTORE_OK, update(w, &patch, NULL, &err), &err);
        assert_reveals(w, i, 0);
    }
}

static void test_reveal_of_no_field(test_world *w)
{
    const uint32_t none[] = {0, 63, 1000, UINT16_MAX, UINT16_MAX + 1, UINT16_MAX + 2, UINT32_MAX};

    make(w, 1);
    for (size_t i = 0; w->k->reveal != NULL && i < sizeof none / sizeof *none; i++) {
        credstore_secret *secret = (void *)&secret;
        credstore_error err;

        assert_refused(&err, w->k->reveal(w->t.store, &w->call, &w->at, none[i], &secret, &err),
                       CREDSTORE_E_INVALID, "field");
        assert_null(secret);
    }
}

/* ---- history ---- */

enum { STEPS = 40 };

/* What the record was at each revision. */
typedef struct model {
    unsigned values[STEPS + 2][CS_FIELDS_MAX];
    int64_t updated_at[STEPS + 2];
    uint64_t revision;
} model;

/* One random update, of the record and of the model. */
static void step(test_world *w, model *m, uint64_t *chance)
{
    unsigned *now = m->values[m->revision], *next = m->values[m->revision + 1];
    bool changed = false;
    const void *view = NULL;
    credstore_error err;
    test_patch patch;

    test_patch_begin(w->k, &patch);
    memcpy(next, now, sizeof m->values[0]);
    for (size_t i = 0; i < fields(w); i++) {
        const uint64_t r = test_random(chance);

        if (!test_in_patch(field_at(w, i)) || r % 3 == 0)
            continue;
        next[i] = r % 3 == 1 && has(w, i, CS_NULLABLE) ? 0 : (unsigned)(1 + r / 8 % 4);
        if (next[i] == 0)
            test_patch_clear(w->k, &patch, i);
        else
            test_patch_set(w->k, &patch, i, next[i]);
        changed = changed || !test_same_value(field_at(w, i), now[i], next[i]);
    }
    advance(w, (int64_t)(test_random(chance) % 3) * 700);
    if (changed)
        m->updated_at[++m->revision] = atomic_load(&w->t.now);
    assert_status(CREDSTORE_OK, update(w, &patch, &view, &err), &err);
    assert_int_equal(test_revision(w->k, view), m->revision);
    assert_int_equal(test_updated_at(w->k, view), m->updated_at[m->revision]);
    test_assert_shows(w->k, view, m->values[m->revision]);
    credstore_free(view);
}

static void assert_history(test_world *w, const model *m)
{
    credstore_error err;

    for (uint64_t revision = 1; revision <= m->revision; revision++) {
        const void *view = NULL;

        w->call.at_revision = revision;
        assert_status(CREDSTORE_OK, get(w, &view, &err), &err);
        assert_int_equal(test_revision(w->k, view), revision);
        assert_int_equal(test_updated_at(w->k, view), m->updated_at[revision]);
        test_assert_shows(w->k, view, m->values[revision]);
        credstore_free(view);
        for (size_t i = 0; w->k->reveal != NULL && i < fields(w); i++)
            if (is_secret(w, i))
                assert_reveals(w, i, m->values[revision][i]);
    }
}

static void test_history(test_world *w)
{
    uint64_t chance = test_seed("kind_contract");
    const void *view = &view;
    credstore_error err;
    model m = {0};

    make(w, 1);
    m.revision = 1;
    for (size_t i = 0; i < CS_FIELDS_MAX; i++)
        m.values[1][i] = 1;
    view = test_get(&w->t, w->k, &w->root);
    m.updated_at[1] = test_updated_at(w->k, view);
    credstore_free(view);
    for (int i = 0; i < STEPS; i++)
        step(w, &m, &chance);
    assert_true(m.revision > STEPS / 4);
    assert_history(w, &m);
    if (w->t.engine == TEST_LMDB) {
        assert_status(CREDSTORE_OK, test_reopen(&w->t, &err), &err);
        assert_history(w, &m);
    }
    w->call.at_revision = m.revision + 1;
    assert_refused(&err, get(w, &view, &err), CREDSTORE_E_NOT_FOUND, w->k->kind->id_name);
    assert_null(view);
    w->call.at_revision = UINT64_MAX;
    assert_refused(&err, get(w, &view, &err), CREDSTORE_E_NOT_FOUND, w->k->kind->id_name);
}

/* How many sealed parts the history holds of a revision: those that were replaced, no others. */
static size_t history_parts(const test_world *w, uint64_t revision)
{
    const cs_kind *kind = w->k->kind;
    const cs_names names = {.tenant = w->at.tenant,
                            .parent = kind->parent_name == NULL ? NULL : w->at.parent,
                            .id = w->at.id};
    credstore_error err = {0};
    credstore_bytes value;
    bool there = false;
    cs_frame frame;
    cs_key key;
    cs_txn txn;
    cs_op op;

    assert_status(CREDSTORE_OK, cs_op_begin(&op, w->t.store, kind, CS_READ, &w->call, &names, &err),
                  &err);
    assert_status(CREDSTORE_OK, cs_txn_read(w->t.store, &txn, &err), &err);
    cs_key_history(&key, &op.at, revision);
    assert_status(CREDSTORE_OK, cs_txn_get(&txn, &key, &value, &there, &err), &err);
    assert_true(there);
    assert_status(CREDSTORE_OK, cs_frame_read(value, CS_ROLE_HISTORY, &frame, &err), &err);
    cs_txn_end(&txn);
    return frame.part_count;
}

static void test_history_parts(test_world *w)
{
    uint64_t revision = 1;
    credstore_error err;
    test_patch patch;

    make(w, 1);
    for (size_t i = 0; i < fields(w); i++, revision++) {
        if (!test_in_patch(field_at(w, i)))
            break; /* the patch's fields come first */
        test_patch_begin(w->k, &patch);
        test_patch_set(w->k, &patch, i, 2);
        assert_status(CREDSTORE_OK, update(w, &patch, NULL, &err), &err);
        assert_int_equal(history_parts(w, revision), is_secret(w, i) ? 1 : 0);
    }
    assert_true(revision > 2);
}

/* History is as private as the record. */
static void test_foreign_history(test_world *w)
{
    const void *view = &view;
    credstore_error err;

    make_three_revisions(w);
    w->call.tenant = w->at.tenant = "other";
    w->call.at_revision = 2;
    assert_refused(&err, get(w, &view, &err), CREDSTORE_E_NOT_FOUND, w->k->kind->id_name);
    assert_null(view);
}

/* ---- arguments ---- */

static void test_null_arguments(test_world *w)
{
    const test_kind *k = w->k;
    credstore *store = w->t.store;
    const test_at nowhere = {w->at.tenant, w->at.parent, NULL};
    const origin o = origin_of(w, k->id);
    credstore_error err;
    test_patch patch;
    const void *view = &view;
    before b;

    make(w, 1);
    b = look(w);
    test_patch_begin(k, &patch);
    assert_refused(&err, k->get(NULL, &w->call, &w->at, &view, &err), CREDSTORE_E_INVALID, "store");
    assert_null(view);
    assert_refused(&err, k->get(store, NULL, &w->at, &view, &err), CREDSTORE_E_INVALID, "call");
    assert_refused(&err, k->get(store, &w->call, &nowhere, &view, &err), CREDSTORE_E_INVALID,
                   k->kind->id_name);
    assert_refused(&err, k->get(store, &w->call, &w->at, NULL, &err), CREDSTORE_E_INVALID, "out");
    assert_refused(&err, k->update(NULL, &w->call, &w->at, &patch, &view, &err),
                   CREDSTORE_E_INVALID, "store");
    assert_refused(&err, k->update(store, NULL, &w->at, &patch, &view, &err), CREDSTORE_E_INVALID,
                   "call");
    assert_refused(&err, k->update(store, &w->call, &nowhere, &patch, &view, &err),
                   CREDSTORE_E_INVALID, k->kind->id_name);
    assert_refused(&err, k->update(store, &w->call, &w->at, NULL, &view, &err), CREDSTORE_E_INVALID,
                   "patch");
    assert_refused(&err, k->create(NULL, &w->call, &w->at, &o, &patch, &view, &err),
                   CREDSTORE_E_INVALID, "store");
    assert_refused(&err, k->create(store, NULL, &w->at, &o, &patch, &view, &err),
                   CREDSTORE_E_INVALID, "call");
    assert_refused(&err, k->create(store, &w->call, &w->at, &o, NULL, &view, &err),
                   CREDSTORE_E_INVALID, "patch");
    assert_null(view);
    w->call.actor = NULL;
    assert_refused(&err, get(w, &view, &err), CREDSTORE_E_UNAUTHENTICATED, "actor");
    assert_refused(&err, update(w, &patch, &view, &err), CREDSTORE_E_UNAUTHENTICATED, "actor");
    assert_refused(&err, create(w, &o, &patch, &view, &err), CREDSTORE_E_UNAUTHENTICATED, "actor");
    assert_untouched(w, &b);
    credstore_free(b.view);
}

static void test_null_reveal(test_world *w)
{
    const test_kind *k = w->k;
    const test_at nowhere = {w->at.tenant, w->at.parent, NULL};
    credstore_secret *secret = (void *)&secret;
    credstore_error err;
    uint32_t field = 0;

    if (k->reveal == NULL)
        return;
    make(w, 1);
    for (size_t i = 0; i < fields(w); i++)
        if (is_secret(w, i))
            field = field_at(w, i)->id;
    assert_refused(&err, k->reveal(NULL, &w->call, &w->at, field, &secret, &err),
                   CREDSTORE_E_INVALID, "store");
    assert_null(secret);
    assert_refused(&err, k->reveal(w->t.store, NULL, &w->at, field, &secret, &err),
                   CREDSTORE_E_INVALID, "call");
    assert_refused(&err, k->reveal(w->t.store, &w->call, &nowhere, field, &secret, &err),
                   CREDSTORE_E_INVALID, k->kind->id_name);
    assert_refused(&err, k->reveal(w->t.store, &w->call, &w->at, field, NULL, &err),
                   CREDSTORE_E_INVALID, "out");
    w->call.actor = NULL;
    assert_refused(&err, k->reveal(w->t.store, &w->call, &w->at, field, &secret, &err),
                   CREDSTORE_E_UNAUTHENTICATED, "actor");
    assert_null(secret);
}

/* Neither the view nor the error has to be asked for. */
static void test_nothing_asked(test_world *w)
{
    const origin o = origin_of(w, w->k->id);
    const void *view;
    test_patch patch;

    test_patch_whole(w->k, &patch, 1);
    assert_int_equal(create(w, &o, &patch, NULL, NULL), CREDSTORE_OK);
    test_patch_whole(w->k, &patch, 2);
    assert_int_equal(update(w, &patch, NULL, NULL), CREDSTORE_OK);
    assert_int_equal(get(w, &view, NULL), CREDSTORE_OK);
    test_assert_all(w->k, view, 2);
    credstore_free(view);
    w->at.id = "/";
    assert_int_equal(get(w, &view, NULL), CREDSTORE_E_INVALID);
    assert_null(view);
    assert_int_equal(update(w, &patch, NULL, NULL), CREDSTORE_E_INVALID);
}

typedef struct bad_call {
    const char *field;
    credstore_status status;
    void (*spoil)(credstore_call *call);
} bad_call;

static void unknown_flag(credstore_call *call)
{
    call->flags = 2;
}
static void all_flags(credstore_call *call)
{
    call->flags = UINT32_MAX;
}
static void negative_wait(credstore_call *call)
{
    call->wait_ms = -1;
}
static void empty_request_id(credstore_call *call)
{
    call->request_id = "";
}
static void request_id_with_newline(credstore_call *call)
{
    call->request_id = "a\r\nSet-Cookie: b";
}

static const bad_call bad_calls[] = {
    {"call", CREDSTORE_E_UNSUPPORTED, unknown_flag},
    {"call", CREDSTORE_E_UNSUPPORTED, all_flags},
    {"wait_ms", CREDSTORE_E_INVALID, negative_wait},
    {"request_id", CREDSTORE_E_INVALID, empty_request_id},
    {"request_id", CREDSTORE_E_INVALID, request_id_with_newline},
};

static void test_bad_calls(test_world *w)
{
    const credstore_call good = w->call;
    const bool by_uuid = (w->k->kind->flags & CS_REQUEST_UUID) != 0;

    make(w, 1);
    for (size_t i = 0; i < sizeof bad_calls / sizeof *bad_calls; i++) {
        const bad_call *bad = &bad_calls[i];
        const bool of_request = strcmp(bad->field, "request_id") == 0;
        const void *view = &view;
        credstore_error err;

        w->call = good;
        bad->spoil(&w->call);
        assert_refused(&err, get(w, &view, &err), bad->status,
                       by_uuid && of_request ? "X-Client-Request-ID" : bad->field);
        assert_null(view);
    }
}

/* Errors are filled on every return: nothing of an earlier one is left. */
static void test_error_is_cleared(test_world *w)
{
    credstore_error err;
    const void *view = NULL;

    make(w, 1);
    memset(&err, GARBAGE, sizeof err);
    assert_status(CREDSTORE_OK, get(w, &view, &err), &err);
    assert_string_equal(err.field, "");
    assert_string_equal(err.message, "");
    assert_int_equal(err.native, 0);
    assert_int_equal(err.offset, 0);
    assert_int_equal(err.retry_after_s, 0);
    credstore_free(view);
}

/* ---- the door ---- */

static const credstore_answer *handle(const test_world *w, uint32_t verb, const char *body)
{
    const credstore_request request = test_request(w->k, verb, &w->root, body);
    const credstore_answer *answer = credstore_handle(w->t.store, &request);

    assert_non_null(answer);
    assert_int_equal(answer->struct_size, sizeof *answer);
    return answer;
}

static void test_door(test_world *w)
{
    char *one = test_body(w->k, 1), *two = test_body(w->k, 2);
    const credstore_answer *made = handle(w, CREDSTORE_VERB_CREATE, one), *got, *changed;
    const void *view = test_get(&w->t, w->k, &w->root);

    assert_int_equal(made->http_status, 201);
    assert_int_equal(made->revision, 1);
    assert_string_equal(made->etag, "\"1\"");
    assert_string_equal(made->content_type, "application/json");
    assert_int_equal(made->body_len, strlen(made->body));
    test_assert_all(w->k, view, 1);
    credstore_free(view);
    got = handle(w, CREDSTORE_VERB_GET, NULL);
    assert_int_equal(got->http_status, 200);
    assert_string_equal(got->etag, "\"1\"");
    assert_string_equal(got->body, made->body);
    credstore_answer_free(got);
    changed = handle(w, CREDSTORE_VERB_UPDATE, two);
    assert_int_equal(changed->http_status, 200);
    assert_int_equal(changed->revision, 2);
    assert_string_equal(changed->etag, "\"2\"");
    got = handle(w, CREDSTORE_VERB_GET, NULL);
    if (w->k->kind->update_body == NULL)
        assert_string_equal(got->body, changed->body);
    else
        assert_string_equal(changed->body, w->k->kind->update_body);
    view = test_get(&w->t, w->k, &w->root);
    test_assert_all(w->k, view, 2);
    credstore_free(view);
    credstore_answer_free(got);
    credstore_answer_free(made);
    credstore_answer_free(changed);
    free(one);
    free(two);
}

/* No answer of the door, and no view, holds what is secret. */
static void test_door_shows_no_secret(test_world *w)
{
    char *body = test_body(w->k, 7);
    const credstore_answer *const answers[] = {
        handle(w, CREDSTORE_VERB_CREATE, body),
        handle(w, CREDSTORE_VERB_UPDATE, body),
        handle(w, CREDSTORE_VERB_GET, NULL),
    };

    for (size_t a = 0; a < 3; a++) {
        for (size_t i = 0; i < fields(w); i++) {
            char text[64];

            if (!is_secret(w, i))
                continue;
            test_text(field_at(w, i), 7, text, sizeof text);
            assert_null(strstr(answers[a]->body, text));
        }
        credstore_answer_free(answers[a]);
    }
    free(body);
}

static const test_row rows[] = {
    {"create and get", test_create_and_get},
    {"ids are made", test_ids_are_made},
    {"import", test_import},
    {"bad origins", test_bad_origins},
    {"required fields", test_required_fields},
    {"taken ids", test_taken_ids},
    {"update of each field", test_each_field},
    {"no change", test_no_change},
    {"clear", test_clear},
    {"reopened", test_after_reopen},
    {"bad slots", test_bad_slots},
    {"lengths", test_lengths},
    {"patch sizes", test_patch_sizes},
    {"short patch", test_short_patch},
    {"call sizes", test_call_sizes},
    {"actor sizes", test_actor_sizes},
    {"origin sizes", test_origin_sizes},
    {"expected revision, there", test_expected_there},
    {"expected revision, absent", test_expected_absent},
    {"expected revision at creation", test_expected_at_creation},
    {"absent and foreign", test_absent_and_foreign},
    {"foreign parent", test_foreign_parent},
    {"reveal", test_reveal},
    {"reveal of no field", test_reveal_of_no_field},
    {"history", test_history},
    {"history parts", test_history_parts},
    {"foreign history", test_foreign_history},
    {"NULL arguments", test_null_arguments},
    {"NULL arguments of reveal", test_null_reveal},
    {"nothing asked", test_nothing_asked},
    {"bad calls", test_bad_calls},
    {"error is cleared", test_error_is_cleared},
    {"door", test_door},
    {"door shows no secret", test_door_shows_no_secret},
};

int kind_contract_run(const test_kind *kinds, size_t count)
{
    return test_run("kind_contract", kinds, count, rows, sizeof rows / sizeof *rows);
}
