/* SPDX-License-Identifier: MIT
 *
 * Removal: absent everywhere from the moment that the call returns, the id never used again, what
 * lay beside the record gone, and its history when the retention is over.
 */
#include "life.h"

enum { RETENTION_DAYS = 30 };

static void removed(test_world *w)
{
    credstore_error err;

    life_ok(life_remove(w->t.store, &w->call, w->k, &w->at, &err));
}

static void make(test_world *w, unsigned revisions)
{
    credstore_error err;
    test_patch patch;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n <= revisions; n++) {
        test_patch_whole(w->k, &patch, n);
        life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    }
}

static const credstore_answer *ask(test_world *w, uint32_t verb, const char *body)
{
    credstore_request request = test_request(w->k, verb, &w->root, body);

    return credstore_handle(w->t.store, &request);
}

/* ---- absent everywhere ---- */

static void every_verb_says_so(test_world *w)
{
    const bool upsert = (w->k->kind->flags & CS_UPSERT) != 0;
    const void *view = NULL;
    const life_page *page = NULL;
    uint64_t generation;
    credstore_error err;
    test_patch patch;

    make(w, 3);
    removed(w);
    generation = test_generation(w->t.store);
    for (uint64_t revision = 0; revision < 5; revision++) {
        w->call.at_revision = revision;
        life_fails(CREDSTORE_E_NOT_FOUND, w->k->get(w->t.store, &w->call, &w->at, &view, &err));
        for (size_t i = 0; i < w->k->kind->field_count; i++) {
            credstore_secret *secret = NULL;

            if (w->k->kind->fields[i].type == CS_SECRET)
                life_fails(CREDSTORE_E_NOT_FOUND,
                           w->k->reveal(w->t.store, &w->call, &w->at, w->k->kind->fields[i].id,
                                        &secret, &err));
        }
    }
    w->call.at_revision = 0;
    test_patch_whole(w->k, &patch, 4);
    life_fails(upsert ? CREDSTORE_E_EXISTS : CREDSTORE_E_NOT_FOUND,
               w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, &view, &err));
    for (uint64_t expected = 3; expected != 0;
         expected = expected == 3 ? CREDSTORE_MUST_EXIST : 0) {
        w->call.expected_revision = expected; /* it is not there, and none is to be made */
        life_fails(upsert ? CREDSTORE_E_REVISION : CREDSTORE_E_NOT_FOUND,
                   w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, &view, &err));
    }
    w->call.expected_revision = 0;
    life_fails(CREDSTORE_E_NOT_FOUND, life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    life_fails(CREDSTORE_E_NOT_FOUND,
               life_history(w->t.store, &w->call, w->k, &w->at, 0, 10, &page, &err));
    life_fails(CREDSTORE_E_NOT_FOUND,
               life_restore(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, NULL, &page, &err));
    assert_int_equal(page->count, 0);
    credstore_free(page);
    assert_null(view);
    assert_int_equal(test_generation(w->t.store), generation);
}

static void the_door_says_so(test_world *w)
{
    const bool null = (w->k->kind->flags & CS_GET_NULL) != 0;
    char *body = test_body(w->k, 1);
    const credstore_answer *answer;

    make(w, 1);
    answer = ask(w, CREDSTORE_VERB_REMOVE, NULL);
    assert_int_equal(answer->http_status, 204);
    assert_null(answer->body);
    assert_null(answer->etag);
    credstore_answer_free(answer);
    answer = ask(w, CREDSTORE_VERB_REMOVE, NULL);
    assert_int_equal(answer->http_status, 404);
    credstore_answer_free(answer);
    answer = ask(w, CREDSTORE_VERB_GET, NULL);
    assert_int_equal(answer->http_status, null ? 200 : 404);
    if (null)
        assert_string_equal(answer->body, "null");
    credstore_answer_free(answer);
    answer = ask(w, CREDSTORE_VERB_CREATE, body);
    assert_int_equal(answer->http_status, 409);
    assert_int_equal(answer->status, CREDSTORE_E_EXISTS);
    credstore_answer_free(answer);
    free(body);
}

static void ids_are_never_used_again(test_world *w)
{
    static const int64_t later[] = {0, 29, 31, 32, 300};
    credstore_call theirs = w->call;
    test_at at = w->at;
    credstore_error err;

    make(w, 2);
    removed(w);
    theirs.tenant = "other";
    at.tenant = "other";
    for (size_t i = 0; i < LIFE_COUNT(later); i++) {
        const void *view = w;

        atomic_store(&w->t.now, TEST_NOW + later[i] * LIFE_DAY);
        life_maintain(w);
        life_fails(CREDSTORE_E_EXISTS,
                   life_create(w->t.store, &w->call, w->k, &w->at, 1, &view, &err));
        assert_null(view);
        assert_string_equal(err.field, w->k->kind->id_name);
        if (w->k->kind->scope == CS_SCOPE_STORE) /* to nobody else either */
            life_fails(CREDSTORE_E_EXISTS,
                       life_create(w->t.store, &theirs, w->k, &at, 1, NULL, &err));
    }
    if (w->k->kind->scope == CS_SCOPE_OWNER) /* another's ids are another's */
        life_ok(life_create(w->t.store, &theirs, w->k, &at, 1, NULL, &err));
}

static void after_a_restart(test_world *w)
{
    const void *view = NULL;
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return;
    make(w, 2);
    removed(w);
    life_ok(test_reopen(&w->t, &err));
    life_fails(CREDSTORE_E_NOT_FOUND, w->k->get(w->t.store, &w->call, &w->at, &view, &err));
    life_fails(CREDSTORE_E_EXISTS, life_create(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
}

/* ---- conditions ---- */

static void conditions(test_world *w)
{
    const credstore_actor stranger = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "elsewhere", "other");
    credstore_call theirs = test_call(&stranger);
    test_at at = w->at;
    uint64_t generation;
    credstore_error err;
    static const struct {
        uint64_t expected;
        credstore_status status;
    } rows[] = {{1, CREDSTORE_E_REVISION},
                {3, CREDSTORE_E_REVISION},
                {CREDSTORE_MUST_BE_NEW, CREDSTORE_E_REVISION},
                {CREDSTORE_MUST_EXIST, CREDSTORE_OK}};

    make(w, 2);
    generation = test_generation(w->t.store);
    at.tenant = "other";
    if (w->k->kind->id == CREDSTORE_KIND_CHECKBOOK || w->k->kind->id == CREDSTORE_KIND_STRIPE)
        life_fails(CREDSTORE_E_NOT_FOUND, life_remove(w->t.store, &theirs, w->k, &at, &err));
    else
        life_fails(CREDSTORE_E_FORBIDDEN, life_remove(w->t.store, &theirs, w->k, &at, &err));
    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        assert_int_equal(test_generation(w->t.store), generation);
        w->call.expected_revision = rows[i].expected;
        life_fails(rows[i].status, life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    }
    w->call.expected_revision = 2;
    life_fails(CREDSTORE_E_NOT_FOUND, life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    w->call.expected_revision = CREDSTORE_MUST_EXIST;
    life_fails(CREDSTORE_E_NOT_FOUND, life_remove(w->t.store, &w->call, w->k, &w->at, &err));
}

/* ---- what is left ---- */

static size_t table(test_world *w, uint8_t of)
{
    return life_keys(w->t.store, of, NULL);
}

/* A tombstone: role, and no sealed part. */
static void a_tombstone_is_left(test_world *w)
{
    cs_key key;
    cs_buf before, after;
    cs_frame frame;
    credstore_error err = {0};

    make(w, 2);
    key = life_record_key(w, w->k, &w->at);
    before = life_raw_get(w->t.store, &key);
    removed(w);
    after = life_raw_get(w->t.store, &key);
    assert_int_equal(cs_frame_role(cs_bytes(after.ptr, after.len)), CS_ROLE_TOMBSTONE);
    life_ok(cs_frame_read(cs_bytes(after.ptr, after.len), CS_ROLE_TOMBSTONE, &frame, &err));
    assert_int_equal(frame.part_count, 0);
    assert_int_equal(frame.revision, 3);
    assert_true(after.len < before.len);
    cs_buf_free(&before);
    cs_buf_free(&after);
}

/* A tombstone is no record, and a record no tombstone, whatever byte says so. */
static void roles_cannot_be_changed(test_world *w)
{
    const void *view = NULL;
    cs_buf live, dead;
    credstore_error err;
    cs_key key;

    make(w, 1);
    key = life_record_key(w, w->k, &w->at);
    live = life_raw_get(w->t.store, &key);
    removed(w);
    dead = life_raw_get(w->t.store, &key);
    dead.ptr[1] = CS_ROLE_CURRENT;
    life_raw_put(w->t.store, &key, cs_bytes(dead.ptr, dead.len));
    life_fails(CREDSTORE_E_INTEGRITY, w->k->get(w->t.store, &w->call, &w->at, &view, &err));
    live.ptr[1] = CS_ROLE_TOMBSTONE;
    life_raw_put(w->t.store, &key, cs_bytes(live.ptr, live.len));
    life_fails(CREDSTORE_E_INTEGRITY, w->k->get(w->t.store, &w->call, &w->at, &view, &err));
    life_fails(CREDSTORE_E_INTEGRITY,
               life_create(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
    cs_buf_free(&live);
    cs_buf_free(&dead);
}

static void what_lay_beside_goes(test_world *w)
{
    const bool indexed = w->k->kind->scope == CS_SCOPE_STORE;

    make(w, 1);
    assert_int_equal(table(w, CS_TABLE_OWNER), indexed);
    assert_int_equal(table(w, CS_TABLE_PURGE), 0);
    removed(w);
    assert_int_equal(table(w, CS_TABLE_OWNER), 0);
    assert_int_equal(table(w, CS_TABLE_PURGE), 1);
}

static void used_marks_go(test_world *w)
{
    const life_key key = life_issue(w, 0), kept = life_issue(w, 0);
    credstore_error err;

    life_verifies(w, key.token, CREDSTORE_OK);
    life_verifies(w, kept.token, CREDSTORE_OK);
    life_maintain(w);
    assert_int_equal(table(w, CS_TABLE_USAGE), 2);
    life_ok(credstore_api_key_remove(w->t.store, &w->call, key.id, &err));
    assert_int_equal(table(w, CS_TABLE_USAGE), 1);
    atomic_fetch_add(&w->t.now, 3600000);
    life_verifies(w, kept.token, CREDSTORE_OK); /* noted, and removed before it is written down */
    life_ok(credstore_api_key_remove(w->t.store, &w->call, kept.id, &err));
    life_maintain(w);
    assert_int_equal(table(w, CS_TABLE_USAGE), 0);
}

/* ---- retention ---- */

static void history_goes_after_its_retention(test_world *w)
{
    const int64_t midnight = TEST_NOW - TEST_NOW % LIFE_DAY;
    size_t with_history;

    make(w, 70); /* more than a batch */
    removed(w);
    with_history = table(w, CS_TABLE_RECORD);
    assert_int_equal(with_history, 71);
    life_time_passes(w, RETENTION_DAYS * LIFE_DAY);
    assert_int_equal(table(w, CS_TABLE_RECORD), with_history);
    atomic_store(&w->t.now, midnight + (RETENTION_DAYS + 1) * LIFE_DAY - 1);
    life_maintain(w);
    assert_int_equal(table(w, CS_TABLE_RECORD), with_history);
    atomic_store(&w->t.now, midnight + (RETENTION_DAYS + 1) * LIFE_DAY);
    life_maintain(w);
    assert_int_equal(table(w, CS_TABLE_RECORD), 1); /* the tombstone */
    assert_int_equal(table(w, CS_TABLE_PURGE), 0);
}

/* A clock that is ten years ahead for an hour throws nothing away. */
static void a_jump_purges_nothing(test_world *w)
{
    make(w, 3);
    removed(w);
    atomic_fetch_add(&w->t.now, 3653 * LIFE_DAY);
    for (int minute = 0; minute < 60; minute++) {
        life_maintain(w);
        atomic_fetch_add(&w->t.now, 60000);
    }
    atomic_store(&w->t.now, TEST_NOW + 3600000);
    life_maintain(w);
    assert_int_equal(table(w, CS_TABLE_RECORD), 4);
    assert_int_equal(table(w, CS_TABLE_PURGE), 1);
}

/* Others' history stays. */
static void only_its_own_history(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_API_KEY);
    static const char *const ids[] = {"a", "aa", "b"};
    credstore_error err;

    w->k = k;
    w->at = test_at_of(k);
    for (size_t i = 0; i < LIFE_COUNT(ids); i++) {
        credstore_api_key_patch patch = life_api_key_patch("renamed");

        w->at.id = ids[i];
        life_ok(life_create(w->t.store, &w->call, k, &w->at, 1, NULL, &err));
        life_ok(credstore_api_key_update(w->t.store, &w->call, ids[i], &patch, NULL, &err));
    }
    life_ok(credstore_api_key_remove(w->t.store, &w->call, "a", &err));
    life_time_passes(w, 40 * LIFE_DAY);
    assert_int_equal(table(w, CS_TABLE_RECORD), 5);
    for (size_t i = 1; i < LIFE_COUNT(ids); i++) {
        const life_page *page = NULL;

        w->at.id = ids[i];
        life_ok(life_history(w->t.store, &w->call, k, &w->at, 0, 10, &page, &err));
        assert_int_equal(page->count, 2);
        credstore_free(page);
    }
}

/* Nobody without the keys has history thrown away. */
static void the_queue_is_sealed(test_world *w)
{
    cs_key entry, moved;
    cs_buf value;
    credstore_error err;

    make(w, 3);
    removed(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_PURGE, &entry), 1);
    value = life_raw_get(w->t.store, &entry);
    moved = entry;
    cs_put_u32(moved.ptr + 1, 1); /* as if it had been long ago */
    life_raw_del(w->t.store, &entry);
    life_raw_put(w->t.store, &moved, cs_bytes(value.ptr, value.len));
    life_fails(CREDSTORE_E_INTEGRITY, credstore_maintain(w->t.store, 0, NULL, &err));
    assert_int_equal(table(w, CS_TABLE_RECORD), 4);
    cs_buf_free(&value);
}

int main(void)
{
    static const test_row of_kinds[] = {
        {"every verb says so", every_verb_says_so},
        {"the door says so", the_door_says_so},
        {"ids are never used again", ids_are_never_used_again},
        {"after a restart", after_a_restart},
        {"conditions", conditions},
        {"a tombstone is left", a_tombstone_is_left},
        {"roles cannot be changed", roles_cannot_be_changed},
        {"what lay beside goes", what_lay_beside_goes},
        {"history goes after its retention", history_goes_after_its_retention},
        {"a clock jump purges nothing", a_jump_purges_nothing},
        {"the queue is sealed", the_queue_is_sealed},
    };
    static const test_row rows[] = {
        {"used marks go", used_marks_go},
        {"only its own history", only_its_own_history},
    };

    return test_run("removal of kinds", test_kinds, test_kind_count, of_kinds,
                    LIFE_COUNT(of_kinds)) +
           test_run("removal", NULL, 0, rows, LIFE_COUNT(rows));
}
