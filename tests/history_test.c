/* SPDX-License-Identifier: MIT
 *
 * History: pages of it, single revisions, and restoring one under the rules of update. A model of
 * random updates, rolls and restores is held against what is shown and revealed at every revision.
 */
#include "life.h"

enum { KEPT = 100, FIELDS = CS_FIELDS_MAX, STEPS = 300 };

static const life_page *history(test_world *w, uint64_t before, uint32_t limit)
{
    const life_page *page = NULL;
    credstore_error err;

    life_ok(life_history(w->t.store, &w->call, w->k, &w->at, before, limit, &page, &err));
    assert_non_null(page);
    assert_int_equal(page->struct_size, sizeof *page);
    assert_null(page->start_cursor);
    assert_null(page->end_cursor);
    return page;
}

static void update(test_world *w, unsigned n)
{
    credstore_error err;
    test_patch patch;

    test_patch_whole(w->k, &patch, n);
    life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
}

static const void *get_at(test_world *w, uint64_t revision)
{
    const void *view = NULL;
    credstore_error err;

    w->call.at_revision = revision;
    life_ok(w->k->get(w->t.store, &w->call, &w->at, &view, &err));
    w->call.at_revision = 0;
    return view;
}

static const void *restore(test_world *w, uint64_t revision)
{
    const void *view = NULL;
    credstore_error err;

    life_ok(life_restore(w->t.store, &w->call, w->k, &w->at, revision, &view, &err));
    return view;
}

static void restore_fails(test_world *w, uint64_t revision, credstore_status expected,
                          const char *field)
{
    const uint64_t generation = test_generation(w->t.store);
    const void *view = w;
    credstore_error err;

    life_fails(expected, life_restore(w->t.store, &w->call, w->k, &w->at, revision, &view, &err));
    assert_null(view);
    assert_string_equal(err.field, field);
    assert_int_equal(test_generation(w->t.store), generation);
}

/* ---- pages ---- */

static void pages_go_backwards(test_world *w)
{
    enum { LAST = 11 };
    static const uint32_t limits[] = {1, 2, 5, LAST, 100};

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n <= LAST; n++) {
        atomic_store(&w->t.now, TEST_NOW + n);
        update(w, n);
    }
    for (size_t i = 0; i < LIFE_COUNT(limits); i++) {
        uint64_t next = LAST, before = 0;

        for (bool more = true; more;) {
            const life_page *page = history(w, before, limits[i]);
            const uint64_t expected = next < limits[i] ? next : limits[i];

            assert_int_equal(page->count, expected);
            assert_int_equal(page->has_next_page, next > limits[i]);
            assert_int_equal(page->has_prev_page, before != 0);
            for (size_t n = 0; n < page->count; n++, next--) {
                const void *one = get_at(w, next);

                assert_string_equal(page->items[n].id, w->k->id);
                assert_int_equal(page->items[n].status, CREDSTORE_OK);
                assert_int_equal(test_revision(w->k, page->items[n].view), next);
                test_assert_all(w->k, page->items[n].view, (unsigned)next);
                assert_true(test_same_view(w->k, page->items[n].view, one, true));
                before = next;
                credstore_free(one);
            }
            more = page->has_next_page != 0;
            credstore_free(page);
        }
        assert_int_equal(next, 0);
    }
}

static void edges_of_a_page(test_world *w)
{
    const life_page *page;
    credstore_error err;
    const uint32_t limits[] = {0, 101, UINT32_MAX};

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    page = history(w, 0, 1);
    assert_int_equal(page->count, 1);
    assert_int_equal(page->has_next_page, 0);
    credstore_free(page);
    page = history(w, 1, 100); /* before the first there is none */
    assert_int_equal(page->count, 0);
    assert_int_equal(page->has_next_page, 0);
    assert_int_equal(page->has_prev_page, 1);
    credstore_free(page);
    page = history(w, UINT64_MAX, 100);
    assert_int_equal(page->count, 1);
    credstore_free(page);
    for (size_t i = 0; i < LIFE_COUNT(limits); i++) {
        page = (const life_page *)(const void *)w;
        life_fails(CREDSTORE_E_INVALID,
                   life_history(w->t.store, &w->call, w->k, &w->at, 0, limits[i], &page, &err));
        assert_null(page);
        assert_string_equal(err.field, "limit");
    }
}

static void whose_history(test_world *w)
{
    const credstore_actor stranger =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "eve", "other");
    credstore_call call = test_call(&stranger);
    test_at at = w->at;
    const life_page *page = NULL;
    credstore_error err;

    life_fails(CREDSTORE_E_NOT_FOUND,
               life_history(w->t.store, &w->call, w->k, &w->at, 0, 10, &page, &err));
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    at.tenant = "other";
    if (w->k->kind->id != CREDSTORE_KIND_CHECKBOOK) { /* members may not read those */
        life_fails(CREDSTORE_E_NOT_FOUND,
                   life_history(w->t.store, &call, w->k, &at, 0, 10, &page, &err));
        life_fails(CREDSTORE_E_NOT_FOUND,
                   life_restore(w->t.store, &call, w->k, &at, 1, NULL, &err));
    }
    call.tenant = TEST_TENANT;
    at.tenant = TEST_TENANT;
    life_fails(CREDSTORE_E_FORBIDDEN,
               life_history(w->t.store, &call, w->k, &at, 0, 10, &page, &err));
    life_fails(CREDSTORE_E_FORBIDDEN, life_restore(w->t.store, &call, w->k, &at, 1, NULL, &err));
    assert_null(page);
    life_ok(life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    life_fails(CREDSTORE_E_NOT_FOUND,
               life_history(w->t.store, &w->call, w->k, &w->at, 0, 10, &page, &err));
    restore_fails(w, 1, CREDSTORE_E_NOT_FOUND, w->k->kind->id_name);
}

/* The newest hundred behind the current one. */
static void older_ones_go(test_world *w)
{
    enum { LAST = KEPT + 6 };
    const life_page *page;
    credstore_error err;
    const void *view = NULL;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n <= LAST; n++)
        update(w, n);
    page = history(w, 0, 100);
    assert_int_equal(page->count, 100);
    assert_int_equal(page->has_next_page, 1);
    credstore_free(page);
    page = history(w, LAST - KEPT + 1, 100);
    assert_int_equal(page->count, 1);
    assert_int_equal(test_revision(w->k, page->items[0].view), LAST - KEPT);
    assert_int_equal(page->has_next_page, 0);
    credstore_free(page);
    w->call.at_revision = LAST - KEPT - 1;
    life_fails(CREDSTORE_E_NOT_FOUND, w->k->get(w->t.store, &w->call, &w->at, &view, &err));
    w->call.at_revision = 0;
    restore_fails(w, LAST - KEPT - 1, CREDSTORE_E_NOT_FOUND, "revision");
    restore_fails(w, LAST + 1, CREDSTORE_E_NOT_FOUND, "revision");
    restore_fails(w, UINT64_MAX, CREDSTORE_E_NOT_FOUND, "revision");
    restore_fails(w, 0, CREDSTORE_E_NOT_FOUND, "revision");
    view = restore(w, LAST - KEPT);
    test_assert_all(w->k, view, LAST - KEPT);
    assert_int_equal(test_revision(w->k, view), LAST + 1);
    credstore_free(view);
}

static void damaged_history(test_world *w)
{
    const life_page *page;
    cs_key key;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n <= 5; n++)
        update(w, n);
    key = life_history_key(w, w->k, &w->at, 3);
    life_raw_put(w->t.store, &key, cs_bytes("damaged", 7));
    page = history(w, 0, 100);
    assert_int_equal(page->count, 5);
    for (size_t i = 0; i < page->count; i++) {
        assert_string_equal(page->items[i].id, w->k->id);
        assert_int_equal(page->items[i].view == NULL, i == 2);
        assert_int_equal(page->items[i].status, i == 2 ? CREDSTORE_E_INTEGRITY : CREDSTORE_OK);
    }
    credstore_free(page);
    restore_fails(w, 3, CREDSTORE_E_INTEGRITY, "");
    credstore_free(restore(w, 2));
}

/* A revision's bytes under another's number. */
static void moved_history(test_world *w)
{
    const life_page *page;
    cs_buf value;
    cs_key key;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n <= 4; n++)
        update(w, n);
    key = life_history_key(w, w->k, &w->at, 2);
    value = life_raw_get(w->t.store, &key);
    key = life_history_key(w, w->k, &w->at, 3);
    life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
    page = history(w, 0, 100);
    assert_int_equal(page->items[1].status, CREDSTORE_E_INTEGRITY);
    assert_null(page->items[1].view);
    credstore_free(page);
    restore_fails(w, 3, CREDSTORE_E_INTEGRITY, "");
    cs_buf_free(&value);
}

/* ---- restoring ---- */

static void restoring_is_an_update(test_world *w)
{
    const void *first, *view, *now;
    credstore_error err;
    credstore_call late = w->call;
    uint64_t generation;

    first = test_make(&w->t, w->k, &w->root, 1);
    update(w, 2);
    atomic_store(&w->t.now, TEST_NOW + 1000);
    view = restore(w, 1);
    assert_int_equal(test_revision(w->k, view), 3);
    assert_int_equal(test_updated_at(w->k, view), TEST_NOW + 1000);
    test_assert_all(w->k, view, 1);
    now = test_get(&w->t, w->k, &w->root);
    assert_true(test_same_view(w->k, view, now, true));
    credstore_free(now);
    credstore_free(view);
    credstore_free(first);

    generation = test_generation(w->t.store); /* what is there already is no change */
    atomic_store(&w->t.now, TEST_NOW + 2000);
    for (uint64_t revision = 1; revision <= 3; revision += 2) {
        view = restore(w, revision);
        assert_int_equal(test_revision(w->k, view), 3);
        credstore_free(view);
    }
    assert_int_equal(test_generation(w->t.store), generation);
    late.expected_revision = 2;
    life_fails(CREDSTORE_E_REVISION, life_restore(w->t.store, &late, w->k, &w->at, 2, NULL, &err));
    late.expected_revision = 3;
    life_ok(life_restore(w->t.store, &late, w->k, &w->at, 2, NULL, &err));
    test_assert_all(w->k, (view = test_get(&w->t, w->k, &w->root)), 2);
    credstore_free(view);
}

static void cleared_fields_are_cleared_again(test_world *w)
{
    unsigned values[FIELDS] = {0};
    const void *view;
    credstore_error err;
    test_patch patch;

    for (size_t i = 0; i < w->k->kind->field_count; i++)
        values[i] = test_in_patch(&w->k->kind->fields[i]);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        if ((w->k->kind->fields[i].flags & CS_NULLABLE) == 0)
            continue;
        test_patch_begin(w->k, &patch);
        test_patch_clear(w->k, &patch, i);
        values[i] = 0;
        life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    }
    view = test_get(&w->t, w->k, &w->root);
    const uint64_t cleared = test_revision(w->k, view);
    credstore_free(view);
    update(w, 2);
    if (cleared == 1)
        return; /* nothing of the kind can be null */
    view = restore(w, cleared);
    test_assert_shows(w->k, view, values);
    credstore_free(view);
    view = restore(w, 1);
    test_assert_all(w->k, view, 1);
    credstore_free(view);
}

/* ---- the model ---- */

typedef struct state {
    unsigned values[FIELDS];
} state;

typedef struct model {
    state at[STEPS + 2]; /* by revision, from 1 */
    uint64_t current;
    unsigned next; /* a value that was not there yet */
} model;

static void check_shown(test_world *w, const model *m, uint64_t revision)
{
    const void *view = get_at(w, revision);

    test_assert_shows(w->k, view, m->at[revision].values);
    credstore_free(view);
}

static void check_revealed(test_world *w, const model *m, uint64_t revision)
{
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        const cs_field *field = &w->k->kind->fields[i];
        const unsigned n = m->at[revision].values[i];
        credstore_secret *secret = NULL;
        char text[64];
        credstore_error err;

        if (field->type != CS_SECRET)
            continue;
        w->call.at_revision = revision;
        life_fails(n == 0 ? CREDSTORE_E_NOT_FOUND : CREDSTORE_OK,
                   w->k->reveal(w->t.store, &w->call, &w->at, field->id, &secret, &err));
        w->call.at_revision = 0;
        if (n == 0)
            continue;
        test_text(field, n, text, sizeof text);
        assert_string_equal(credstore_secret_ptr(secret), text);
        credstore_secret_free(secret);
    }
}

static uint64_t oldest(const model *m)
{
    return m->current > KEPT ? m->current - KEPT : 1;
}

static bool same_values(const test_kind *k, const state *a, const state *b)
{
    for (size_t i = 0; i < k->kind->field_count; i++)
        if (test_in_patch(&k->kind->fields[i]) &&
            !test_same_value(&k->kind->fields[i], a->values[i], b->values[i]))
            return false;
    return true;
}

/* The values that a change leaves; whether it was one. */
static void settle(test_world *w, model *m, const state *to)
{
    const void *view = test_get(&w->t, w->k, &w->root);

    if (!same_values(w->k, &m->at[m->current], to))
        m->at[++m->current] = *to;
    assert_int_equal(test_revision(w->k, view), m->current);
    test_assert_shows(w->k, view, to->values);
    credstore_free(view);
}

static void update_some(test_world *w, model *m, uint64_t *chance)
{
    state to = m->at[m->current];
    credstore_error err;
    test_patch patch;

    test_patch_begin(w->k, &patch);
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        const cs_field *field = &w->k->kind->fields[i];
        const uint64_t pick = test_random(chance) % 6;

        if (!test_in_patch(field) || pick > 2)
            continue;
        if (pick == 2 && (field->flags & CS_NULLABLE) != 0) {
            test_patch_clear(w->k, &patch, i);
            to.values[i] = 0;
        } else if (pick == 1 && to.values[i] != 0 && field->mask == 0) {
            test_patch_set(w->k, &patch, i, to.values[i]); /* the same again */
        } else {
            to.values[i] = ++m->next;
            test_patch_set(w->k, &patch, i, to.values[i]);
        }
    }
    life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    settle(w, m, &to);
}

static void roll_one(test_world *w, model *m, uint64_t *chance)
{
    const uint32_t grace = (uint32_t)(test_random(chance) % 3) * 40;
    state to = m->at[m->current];
    credstore_secret_text fresh = CREDSTORE_SECRET(NULL, CREDSTORE_NTS);
    size_t i;
    char text[64];
    credstore_error err;

    do
        i = test_random(chance) % w->k->kind->field_count;
    while (w->k->kind->fields[i].type != CS_SECRET);
    to.values[i] = ++m->next;
    test_text(&w->k->kind->fields[i], to.values[i], text, sizeof text);
    fresh.ptr = text;
    if (w->k->kind->id == CREDSTORE_KIND_STRIPE)
        life_ok(credstore_stripe_roll(w->t.store, &w->call, w->at.id, w->k->kind->fields[i].id,
                                      &fresh, grace, NULL, &err));
    else
        life_ok(credstore_checkbook_roll(w->t.store, &w->call, w->at.id, w->k->kind->fields[i].id,
                                         &fresh, grace, NULL, &err));
    settle(w, m, &to);
}

static void restore_one(test_world *w, model *m, uint64_t *chance)
{
    const uint64_t first = oldest(m);
    const uint64_t revision = first + test_random(chance) % (m->current - first + 1);
    const state to = m->at[revision];

    credstore_free(restore(w, revision));
    settle(w, m, &to);
}

static void check_all(test_world *w, const model *m)
{
    const life_page *page = history(w, 0, 100);

    assert_int_equal(page->count, m->current < 100 ? m->current : 100);
    for (size_t i = 0; i < page->count; i++)
        test_assert_shows(w->k, page->items[i].view, m->at[m->current - i].values);
    credstore_free(page);
    for (uint64_t revision = oldest(m); revision <= m->current; revision++) {
        check_shown(w, m, revision);
        if (w->k->reveal != NULL)
            check_revealed(w, m, revision);
    }
}

static void a_model_of_changes(test_world *w)
{
    const unsigned long steps = test_number("CREDSTORE_STEPS", STEPS);
    uint64_t chance = test_seed("history_test");
    model *m = calloc(1, sizeof *m);

    assert_non_null(m);
    m->current = 1;
    m->next = 1;
    for (size_t i = 0; i < w->k->kind->field_count; i++)
        m->at[1].values[i] = test_in_patch(&w->k->kind->fields[i]);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned long n = 0; n < (steps < STEPS ? steps : STEPS); n++) {
        const uint64_t pick = test_random(&chance) % 10;

        atomic_fetch_add(&w->t.now, (int64_t)(test_random(&chance) % 30000));
        if (pick < 5)
            update_some(w, m, &chance);
        else if (pick < 7 && w->k->reveal != NULL)
            roll_one(w, m, &chance);
        else
            restore_one(w, m, &chance);
        if (w->k->reveal != NULL)
            check_revealed(w, m, oldest(m) + test_random(&chance) % (m->current - oldest(m) + 1));
        if (n % 60 == 59)
            check_all(w, m);
    }
    check_all(w, m);
    free(m);
}

/* ---- under the rules of update ---- */

static const credstore_strings narrow = CREDSTORE_STRINGS(life_permissions, 1);

static void api_keys(test_world *w)
{
    w->k = test_kind_of(CREDSTORE_KIND_API_KEY);
    w->at = test_at_of(w->k);
}

/* Nobody restores a permission that he does not hold. */
static void grants_hold(test_world *w)
{
    const credstore_actor plain =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "plain", TEST_TENANT);
    credstore_actor holder = plain;
    credstore_api_key_patch patch = life_api_key_patch("wide");
    const life_key key = life_issue(w, 0);
    const credstore_call by_root = w->call;
    const credstore_api_key *view;
    credstore_error err;

    api_keys(w);
    w->at.id = key.id;
    patch.permissions = narrow;
    life_ok(credstore_api_key_update(w->t.store, &by_root, key.id, &patch, NULL, &err));
    w->call = test_call(&plain);
    restore_fails(w, 1, CREDSTORE_E_FORBIDDEN, "flatPermissionsList");
    test_grant(w->t.store, &holder, life_permissions[1]);
    w->call = test_call(&holder);
    view = restore(w, 1);
    assert_int_equal(view->permission_count, 2);
    credstore_free(view);
    w->call = test_call(&plain); /* taking away needs no right to grant */
    view = restore(w, 2);
    assert_int_equal(view->permission_count, 1);
    credstore_free(view);
}

static void times_in_the_past(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 1000);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .expires_at = CREDSTORE_TIME_CLEARED};
    const credstore_api_key *view;
    credstore_error err;

    api_keys(w);
    w->at.id = key.id;
    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &patch, NULL, &err));
    atomic_store(&w->t.now, TEST_NOW + 999);
    view = restore(w, 1);
    assert_int_equal(view->expires_at, TEST_NOW + 1000);
    credstore_free(view);
    atomic_store(&w->t.now, TEST_NOW + 1000);
    view = restore(w, 2); /* never is no time */
    assert_int_equal(view->expires_at, 0);
    credstore_free(view);
    restore_fails(w, 1, CREDSTORE_E_INVALID, "expiresAt");
    life_verifies(w, key.token, CREDSTORE_OK);
}

/* What the rules for URLs say now decides, not what they said then. */
static void urls_of_yesterday(test_world *w)
{
    static const char *const allowed[] = {"pay.internal"};
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                       .base_url = CREDSTORE_TEXT("http://pay.internal/v1")};
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return; /* memory keeps nothing over a reopening */
    w->k = k;
    w->at = test_at_of(k);
    credstore_free(test_make(&w->t, k, &w->root, 1));
    life_fails(CREDSTORE_E_INVALID,
               credstore_checkbook_update(w->t.store, &w->call, k->id, &patch, NULL, &err));
    w->t.options.base_url_allow = allowed;
    w->t.options.base_url_allow_count = 1;
    life_ok(test_reopen(&w->t, &err));
    patch.base_url = (credstore_text)CREDSTORE_TEXT("https://pay.internal/v1");
    life_ok(credstore_checkbook_update(w->t.store, &w->call, k->id, &patch, NULL, &err));
    restore_fails(w, 1, CREDSTORE_E_INVALID, "base_url"); /* example.org is not on the list */
    w->t.options.base_url_allow = NULL;
    w->t.options.base_url_allow_count = 0;
    life_ok(test_reopen(&w->t, &err));
    credstore_free(restore(w, 1));
    patch.base_url = (credstore_text)CREDSTORE_TEXT("https://10.0.0.1/");
    life_fails(CREDSTORE_E_INVALID,
               credstore_checkbook_update(w->t.store, &w->call, k->id, &patch, NULL, &err));
}

static void what_was_issued_stays_dead(test_world *w)
{
    const life_key first = life_issue(w, 0);
    const credstore_api_key_patch patch = life_api_key_patch("renamed");
    const credstore_api_key *view;
    life_key second = first, third = first;
    credstore_error err;

    api_keys(w);
    w->at.id = first.id;
    life_roll(w, &second, 60);
    life_ok(credstore_api_key_update(w->t.store, &w->call, first.id, &patch, NULL, &err));
    view = restore(w, 1); /* of the time when the first one was good */
    assert_string_equal(view->description, "issued");
    assert_string_equal(view->last_four, second.token + strlen(second.token) - 4);
    credstore_free(view);
    life_verifies(w, second.token, CREDSTORE_OK);
    life_verifies(w, first.token, CREDSTORE_OK); /* still in its grace, and no longer than that */
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
    life_roll(w, &third, 0);
    for (uint64_t revision = 1; revision <= 4; revision++) {
        credstore_free(restore(w, revision));
        life_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
        life_verifies(w, second.token, CREDSTORE_E_UNAUTHENTICATED);
        life_verifies(w, third.token, CREDSTORE_OK);
    }
}

/* Secrets that come back are the customer's own, and the one that they replace has no grace. */
static void restored_secrets(test_world *w)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET("sk_test_rolled", CREDSTORE_NTS);
    const test_kind *k = test_kind_of(CREDSTORE_KIND_STRIPE);
    credstore_secret *secret = NULL;
    char text[64];
    credstore_error err;

    w->k = k;
    w->at = test_at_of(k);
    credstore_free(test_make(&w->t, k, &w->root, 1));
    life_ok(credstore_stripe_roll(w->t.store, &w->call, k->id, CREDSTORE_STRIPE_TEST_SECRET_KEY,
                                  &fresh, 3600, NULL, &err));
    credstore_free(restore(w, 1)); /* while the old one is in its grace */
    life_ok(credstore_stripe_reveal(w->t.store, &w->call, k->id, CREDSTORE_STRIPE_TEST_SECRET_KEY,
                                    &secret, &err));
    test_text(&k->kind->fields[0], 1, text, sizeof text);
    assert_string_equal(credstore_secret_ptr(secret), text);
    credstore_secret_free(secret);
    w->call.at_revision = 2;
    life_ok(credstore_stripe_reveal(w->t.store, &w->call, k->id, CREDSTORE_STRIPE_TEST_SECRET_KEY,
                                    &secret, &err));
    assert_string_equal(credstore_secret_ptr(secret), "sk_test_rolled");
    credstore_secret_free(secret);
}

static void stripe_is(const credstore_stripe *view, uint64_t revision, uint32_t active)
{
    assert_int_equal(view->revision, revision);
    assert_int_equal(view->is_active, active);
    credstore_free(view);
}

/* On or off as it was at that revision, whatever it is now and whatever values come back. */
static void restored_switch(test_world *w)
{
    const credstore_stripe_patch fresh = {.struct_size = sizeof fresh,
                                          .test_publishable_key = CREDSTORE_TEXT("pk_test_fresh")};
    const test_kind *k = test_kind_of(CREDSTORE_KIND_STRIPE);
    const credstore_stripe *view;
    credstore_error err;

    w->k = k;
    w->at = test_at_of(k);
    credstore_free(test_make(&w->t, k, &w->root, 1));
    life_ok(credstore_stripe_update(w->t.store, &w->call, k->id, &fresh, &view, &err));
    stripe_is(view, 2, 1); /* a value that is set switches on */
    life_ok(credstore_stripe_deactivate(w->t.store, &w->call, k->id, &view, &err));
    stripe_is(view, 3, 0);
    stripe_is(restore(w, 2), 4, 1); /* on, and nothing else */
    stripe_is(restore(w, 3), 5, 0);
    life_ok(credstore_stripe_update(w->t.store, &w->call, k->id, &fresh, &view, &err));
    stripe_is(view, 6, 1);
    stripe_is(restore(w, 3), 7, 0);
    stripe_is(restore(w, 6), 8, 1);
    stripe_is(restore(w, 7), 9, 0);
}

int main(void)
{
    static const test_row of_kinds[] = {
        {"pages go backwards", pages_go_backwards},
        {"edges of a page", edges_of_a_page},
        {"whose history", whose_history},
        {"older ones go", older_ones_go},
        {"damaged history", damaged_history},
        {"moved history", moved_history},
        {"restoring is an update", restoring_is_an_update},
        {"cleared fields are cleared again", cleared_fields_are_cleared_again},
        {"a model of changes", a_model_of_changes},
    };
    static const test_row rules[] = {
        {"grants hold", grants_hold},
        {"times in the past", times_in_the_past},
        {"URLs of yesterday", urls_of_yesterday},
        {"what was issued stays dead", what_was_issued_stays_dead},
        {"restored secrets", restored_secrets},
        {"a restored switch", restored_switch},
    };

    return test_run("history", test_kinds, test_kind_count, of_kinds, LIFE_COUNT(of_kinds)) +
           test_run("rules of restoring", NULL, 0, rules, LIFE_COUNT(rules));
}
