/* SPDX-License-Identifier: MIT
 *
 * Lists of every kind: paging against a model while records come and go, cursors that are edited or
 * from elsewhere, filters, records that cannot be read, and the same through the door.
 */
#include "life.h"

#include "id.h"

enum { IDS = 48, ID_SIZE = 40, WALKS = 12 };

/* ---- the model: every id that is ever used, in order, and which of them are there ---- */

typedef struct model {
    char id[IDS][ID_SIZE];
    bool there[IDS], gone[IDS];
} model;

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void make_id(const test_kind *k, uint64_t *chance, size_t n, char out[ID_SIZE])
{
    /* One id is the beginning of another, and all of the alphabet's ends are there. */
    static const char *const edges[] = {"a", "aa", "a-", "a_", "ab", "Z", "0", "z", "-", "_"};
    static const char *const wide[] = {"~", ".", "a~", "a.", "a.b", "~~"};
    uint8_t random[64];

    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (uint8_t)test_random(chance);
    if (k->kind->id == CREDSTORE_KIND_CHECKBOOK)
        cs_ksuid_make(TEST_NOW, random, out);
    else if (k->kind->id == CREDSTORE_KIND_STRIPE)
        cs_uuid_make(random, out);
    else if (n < LIFE_COUNT(edges))
        snprintf(out, ID_SIZE, "%s", edges[n]);
    else if (k->kind->id == CREDSTORE_KIND_API_KEY && n < LIFE_COUNT(edges) + LIFE_COUNT(wide))
        snprintf(out, ID_SIZE, "%s", wide[n - LIFE_COUNT(edges)]);
    else
        snprintf(out, ID_SIZE, "id-%08x", (unsigned)test_random(chance));
}

static void model_begin(model *m, const test_kind *k, uint64_t *chance)
{
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < IDS; i++)
        make_id(k, chance, i, m->id[i]);
    qsort(m->id, IDS, sizeof *m->id, by_text);
}

static void add(test_world *w, model *m, size_t i)
{
    const test_at at = {TEST_TENANT, TEST_PARENT, m->id[i]};
    credstore_error err;

    if (m->there[i] || m->gone[i])
        return;
    life_ok(life_create(w->t.store, &w->call, w->k, &at, 1 + (unsigned)i, NULL, &err));
    m->there[i] = true;
}

static void drop(test_world *w, model *m, size_t i)
{
    const test_at at = {TEST_TENANT, TEST_PARENT, m->id[i]};
    credstore_error err;

    if (!m->there[i])
        return;
    life_ok(life_remove(w->t.store, &w->call, w->k, &at, &err));
    m->there[i] = false;
    m->gone[i] = true;
}

/* The page that the model expects: from `from` on, which is not itself part of it. */
typedef struct expected {
    size_t at[100], count;
    bool next, prev;
} expected;

static bool any_there(const model *m, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (m->there[i])
            return true;
    return false;
}

static expected forward(const model *m, size_t first, size_t limit)
{
    expected e = {.count = 0};

    for (size_t i = first; i < IDS && e.count < limit; i++)
        if (m->there[i])
            e.at[e.count++] = i;
    if (e.count > 0) {
        e.prev = any_there(m, 0, e.at[0]);
        e.next = any_there(m, e.at[e.count - 1] + 1, IDS);
    }
    return e;
}

static expected backward(const model *m, size_t end, size_t limit)
{
    size_t first = end, count = 0;

    while (first > 0 && count < limit)
        count += m->there[--first];
    return forward(m, first, count);
}

static void assert_page(test_world *w, const model *m, const life_page *page, const expected *e)
{
    assert_int_equal(page->struct_size, sizeof *page);
    assert_int_equal(page->count, e->count);
    assert_int_equal(page->start_cursor == NULL, e->count == 0);
    assert_int_equal(page->end_cursor == NULL, e->count == 0);
    if (e->count == 0)
        return;
    assert_int_equal(page->has_next_page, e->next);
    assert_int_equal(page->has_prev_page, e->prev);
    for (size_t i = 0; i < e->count; i++) {
        assert_string_equal(page->items[i].id, m->id[e->at[i]]);
        assert_int_equal(page->items[i].status, CREDSTORE_OK);
        test_assert_all(w->k, page->items[i].view, 1 + (unsigned)e->at[i]);
    }
}

static const life_page *list(test_world *w, uint32_t limit, const char *after, const char *before)
{
    const credstore_page page = {
        .struct_size = sizeof page, .limit = limit, .after = after, .before = before};
    const life_page *out = NULL;
    credstore_error err;

    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, &page, &out, &err));
    assert_non_null(out);
    return out;
}

static size_t index_of(const model *m, const char *id)
{
    for (size_t i = 0; i < IDS; i++)
        if (strcmp(m->id[i], id) == 0)
            return i;
    fail_msg("an id that nobody made: %s", id);
    return 0;
}

/* ---- paging ---- */

static void change_some(test_world *w, model *m, uint64_t *chance)
{
    for (uint64_t n = test_random(chance) % 3; n > 0; n--)
        add(w, m, test_random(chance) % IDS);
    for (uint64_t n = test_random(chance) % 2; n > 0; n--)
        drop(w, m, test_random(chance) % IDS);
}

/* Walks about, with records that come and go between the pages. */
static void walk(test_world *w, model *m, uint64_t *chance)
{
    bool ahead = true;
    const life_page *page = NULL;

    for (int n = 0; n < 8; n++) {
        const uint32_t limit = 1 + (uint32_t)(test_random(chance) % 9);
        const bool some = page != NULL && page->count > 0;
        const life_page *next;
        expected e;

        if (!some) {
            next = list(w, limit, NULL, NULL);
            e = forward(m, 0, limit);
        } else if (ahead) {
            next = list(w, limit, page->end_cursor, NULL);
            e = forward(m, index_of(m, page->items[page->count - 1].id) + 1, limit);
        } else {
            next = list(w, limit, NULL, page->start_cursor);
            e = backward(m, index_of(m, page->items[0].id), limit);
        }
        assert_page(w, m, next, &e);
        credstore_free(page);
        page = next;
        change_some(w, m, chance);
        ahead = test_random(chance) % 3 != 0;
    }
    credstore_free(page);
}

static void pages_follow_a_model(test_world *w)
{
    uint64_t chance = test_seed("list_test");
    model m;

    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < 8; i++)
        add(w, &m, test_random(&chance) % IDS);
    for (int i = 0; i < WALKS; i++)
        walk(w, &m, &chance);
}

/* Every page size, from one end to the other and back. */
/* The empty page on that side of all records tells that they are there. */
static void nothing_beyond(test_world *w, const char *after, const char *before)
{
    const life_page *page = list(w, 1, after, before);

    assert_int_equal(page->count, 0);
    assert_int_equal(page->has_prev_page, after != NULL);
    assert_int_equal(page->has_next_page, before != NULL);
    assert_null(page->start_cursor);
    assert_null(page->end_cursor);
    credstore_free(page);
}

static void from_end_to_end(test_world *w)
{
    static const uint32_t limits[] = {1, 2, 3, 7, IDS / 2, 100};
    uint64_t chance = test_seed("list_test");
    model m;

    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < IDS; i += 2)
        add(w, &m, i);
    drop(w, &m, 0); /* what was removed is on no page, nor in what a page says of its neighbours */
    drop(w, &m, 6);
    drop(w, &m, IDS - 2);
    for (size_t n = 0; n < LIFE_COUNT(limits); n++) {
        const life_page *page = list(w, limits[n], NULL, NULL), *next;
        size_t at = 0;

        for (;;) {
            const expected e = forward(&m, at, limits[n]);

            assert_page(w, &m, page, &e);
            if (!page->has_next_page) {
                nothing_beyond(w, page->end_cursor, NULL);
                break;
            }
            at = e.at[e.count - 1] + 1;
            next = list(w, limits[n], page->end_cursor, NULL);
            credstore_free(page);
            page = next;
        }
        while (page->has_prev_page) {
            const expected e = backward(&m, index_of(&m, page->items[0].id), limits[n]);

            next = list(w, limits[n], NULL, page->start_cursor);
            assert_page(w, &m, next, &e);
            credstore_free(page);
            page = next;
        }
        nothing_beyond(w, NULL, page->start_cursor);
        credstore_free(page);
    }
}

static void the_first_twenty(test_world *w)
{
    uint64_t chance = test_seed("list_test");
    const life_page *page = NULL;
    credstore_error err;
    expected e;
    model m;

    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, NULL, &page, &err));
    assert_int_equal(page->count, 0);
    assert_null(page->start_cursor);
    assert_null(page->end_cursor);
    assert_int_equal(page->has_next_page, 0);
    assert_int_equal(page->has_prev_page, 0);
    credstore_free(page);
    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < 22; i++)
        add(w, &m, i);
    e = forward(&m, 0, 20);
    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, NULL, &page, &err));
    assert_page(w, &m, page, &e);
    credstore_free(page);
}

/* History beside a record is no record. */
static void history_is_not_listed(test_world *w)
{
    const life_page *page;
    credstore_error err;
    test_patch patch;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n < 6; n++) {
        test_patch_whole(w->k, &patch, n);
        life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    }
    page = list(w, 100, NULL, NULL);
    assert_int_equal(page->count, 1);
    test_assert_all(w->k, page->items[0].view, 5);
    credstore_free(page);
    life_ok(life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    page = list(w, 100, NULL, NULL);
    assert_int_equal(page->count, 0);
    credstore_free(page);
}

/* ---- whose ---- */

static void each_owner_has_its_own(test_world *w)
{
    uint64_t chance = test_seed("list_test");
    const test_at theirs = {"other", TEST_PARENT, NULL}, elsewhere = {TEST_TENANT, "sa-2", NULL};
    const credstore_actor stranger =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "eve", "other");
    credstore_call call = w->call, by_stranger = test_call(&stranger);
    const life_page *page = NULL;
    credstore_error err;
    model m;

    model_begin(&m, w->k, &chance);
    add(w, &m, 0);
    add(w, &m, 1);
    call.tenant = "other";
    for (size_t i = 2; i < 5; i++) {
        const test_at at = {"other", TEST_PARENT, m.id[i]};

        life_ok(life_create(w->t.store, &call, w->k, &at, 1, NULL, &err));
    }
    page = list(w, 100, NULL, NULL);
    assert_int_equal(page->count, 2);
    assert_string_equal(page->items[0].id, m.id[0]);
    credstore_free(page);
    life_ok(life_list(w->t.store, &call, w->k, &theirs, NULL, &page, &err));
    assert_int_equal(page->count, 3);
    assert_string_equal(page->items[2].id, m.id[4]);
    credstore_free(page);
    if (w->k->kind->parent_name != NULL) {
        life_ok(life_list(w->t.store, &w->call, w->k, &elsewhere, NULL, &page, &err));
        assert_int_equal(page->count, 0);
        credstore_free(page);
    }
    by_stranger.tenant = TEST_TENANT;
    page = (const life_page *)(const void *)w;
    life_fails(CREDSTORE_E_FORBIDDEN,
               life_list(w->t.store, &by_stranger, w->k, &w->at, NULL, &page, &err));
    assert_null(page);
}

/* ---- requests that are refused ---- */

static void refused(test_world *w, const credstore_page *page, const char *field)
{
    const life_page *out = (const life_page *)(const void *)w;
    credstore_error err;

    life_fails(CREDSTORE_E_INVALID,
               life_list(w->t.store, &w->call, w->k, &w->at, page, &out, &err));
    assert_null(out);
    assert_string_equal(err.field, field);
}

static void bad_requests(test_world *w)
{
    credstore_page page = {.struct_size = sizeof page};
    const life_page *first;
    credstore_error err;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    refused(w, &page, "limit");
    page.limit = 101;
    refused(w, &page, "limit");
    page.limit = UINT32_MAX;
    refused(w, &page, "limit");
    page.limit = 1;
    page.struct_size = 0;
    refused(w, &page, "page");
    page.struct_size = 5;
    refused(w, &page, "page");
    page.struct_size = sizeof page;
    first = list(w, 1, NULL, NULL);
    page.after = first->end_cursor;
    page.before = first->start_cursor;
    refused(w, &page, "before");
    page.before = NULL;
    page.expires_before = -1;
    refused(w, &page, "expires_before");
    page.expires_before = 0;
    page.unused_since = INT64_MIN;
    refused(w, &page, "unused_since");
    if (w->k->kind->expires_field == 0) {
        page.unused_since = 0;
        page.expires_before = 1;
        refused(w, &page, "expires_before");
    }
    if ((w->k->kind->flags & CS_HAS_USAGE) == 0) {
        page.unused_since = 1;
        page.expires_before = 0;
        refused(w, &page, "unused_since");
    }
    credstore_free(first);
    life_fails(CREDSTORE_E_INVALID, credstore_api_key_list(w->t.store, &w->call, NULL, NULL, &err));
}

/* ---- cursors ---- */

static void bad_cursor(test_world *w, const char *cursor)
{
    credstore_page page = {.struct_size = sizeof page, .limit = 2, .after = cursor};

    refused(w, &page, "after");
    page.after = NULL;
    page.before = cursor;
    refused(w, &page, "before");
}

static void edited_cursors(test_world *w)
{
    static const char *const none[] = {"", "A", "AAAA", "=", "%00", "\n", "AAAAAAAAAAAAAAAAAAAAAA"};
    const life_page *page;
    char cursor[512], edited[1100], *huge = malloc(1U << 20);

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    page = list(w, 1, NULL, NULL);
    snprintf(cursor, sizeof cursor, "%s", page->end_cursor);
    credstore_free(page);
    for (size_t i = 0; i < strlen(cursor); i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(edited, cursor, sizeof cursor);
            edited[i] = (char)(edited[i] ^ 1 << bit);
            bad_cursor(w, edited);
        }
        snprintf(edited, sizeof edited, "%.*s", (int)i, cursor);
        bad_cursor(w, edited);
    }
    snprintf(edited, sizeof edited, "%sA", cursor);
    bad_cursor(w, edited);
    snprintf(edited, sizeof edited, "%s%s", cursor, cursor);
    bad_cursor(w, edited);
    for (size_t i = 0; i < LIFE_COUNT(none); i++)
        bad_cursor(w, none[i]);
    assert_non_null(huge);
    memset(huge, 'A', (1U << 20) - 1);
    huge[(1U << 20) - 1] = '\0';
    bad_cursor(w, huge);
    free(huge);
    credstore_free(list(w, 1, cursor, NULL));
}

/* A cursor is good for its list alone. */
static void cursors_from_elsewhere(test_world *w)
{
    const test_at theirs = {"other", TEST_PARENT, w->k->id}, beside = {TEST_TENANT, "sa-2", NULL};
    credstore_call call = w->call;
    const life_page *page = NULL;
    credstore_page asked = {.struct_size = sizeof asked, .limit = 1};
    credstore_error err;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    call.tenant = "other";
    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, NULL, &page, &err));
    asked.after = page->end_cursor;
    for (size_t i = 0; i < test_kind_count; i++) {
        const test_kind *k = &test_kinds[i];
        const life_page *out = NULL;

        if (k != w->k)
            life_fails(CREDSTORE_E_INVALID,
                       life_list(w->t.store, &w->call, k, &w->at, &asked, &out, &err));
        life_fails(CREDSTORE_E_INVALID,
                   life_list(w->t.store, &call, k, &theirs, &asked, &out, &err));
        if (k->kind->parent_name != NULL)
            life_fails(CREDSTORE_E_INVALID,
                       life_list(w->t.store, &w->call, k, &beside, &asked, &out, &err));
        if (k->kind->expires_field != 0) {
            asked.expires_before = 1;
            life_fails(CREDSTORE_E_INVALID,
                       life_list(w->t.store, &w->call, k, &w->at, &asked, &out, &err));
            asked.expires_before = 0;
        }
        if ((k->kind->flags & CS_HAS_USAGE) != 0) {
            asked.unused_since = 1;
            life_fails(CREDSTORE_E_INVALID,
                       life_list(w->t.store, &w->call, k, &w->at, &asked, &out, &err));
            asked.unused_since = 0;
        }
    }
    refused(w, (asked.after = NULL, asked.limit = 0, &asked), "limit");
    credstore_free(page);
}

/* Another store's cursor, though all the names are the same. */
static void cursors_of_another_store(test_world *w)
{
    test_world *other = calloc(1, sizeof *other);
    const life_page *page;

    assert_non_null(other);
    test_open(&other->t, w->t.engine);
    other->k = w->k;
    other->at = w->at;
    other->root = w->root;
    other->call = test_call(&other->root);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    credstore_free(test_make(&other->t, w->k, &w->root, 1));
    page = list(other, 1, NULL, NULL);
    bad_cursor(w, page->end_cursor);
    credstore_free(page);
    test_close(&other->t);
    free(other);
}

/* ---- filters ---- */

static void expect_ids(test_world *w, int64_t expires_before, int64_t unused_since,
                       const char *ids[], size_t count)
{
    credstore_page asked = {.struct_size = sizeof asked,
                            .limit = 1,
                            .expires_before = expires_before,
                            .unused_since = unused_since};
    const life_page *page = NULL;
    char cursor[512] = "";
    credstore_error err;

    for (size_t i = 0; i < count; i++) {
        life_ok(life_list(w->t.store, &w->call, w->k, &w->at, &asked, &page, &err));
        assert_int_equal(page->count, 1);
        assert_string_equal(page->items[0].id, ids[i]);
        assert_int_equal(page->has_next_page, i + 1 < count);
        assert_int_equal(page->has_prev_page, i > 0);
        snprintf(cursor, sizeof cursor, "%s", page->end_cursor);
        asked.after = cursor;
        credstore_free(page);
    }
    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, &asked, &page, &err));
    assert_int_equal(page->count, 0);
    credstore_free(page);
}

static void expiring_before(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_API_KEY);
    static const struct {
        const char *id;
        int64_t after; /* 0 = never */
    } keys[] = {{"a", 0}, {"b", 10}, {"c", 20}, {"d", 0}, {"e", 30}, {"f", 10}};
    credstore_error err;

    w->k = k;
    for (size_t i = 0; i < LIFE_COUNT(keys); i++) {
        const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = keys[i].id};
        credstore_api_key_patch patch = life_api_key_patch("filtered");

        if (keys[i].after != 0)
            patch.expires_at = (credstore_time)CREDSTORE_TIME(TEST_NOW + keys[i].after);
        life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, NULL, &err));
    }
    expect_ids(w, TEST_NOW + 10, 0, NULL, 0);
    expect_ids(w, TEST_NOW + 11, 0, (const char *[]){"b", "f"}, 2);
    expect_ids(w, TEST_NOW + 30, 0, (const char *[]){"b", "c", "f"}, 3);
    expect_ids(w, INT64_MAX, 0, (const char *[]){"b", "c", "e", "f"}, 4);
    atomic_store(&w->t.now, TEST_NOW + 1000); /* what has expired is no less before */
    expect_ids(w, TEST_NOW + 11, 0, (const char *[]){"b", "f"}, 2);
    expect_ids(w, 0, 0, (const char *[]){"a", "b", "c", "d", "e", "f"}, 6);
}

static void unused_since(test_world *w)
{
    static const struct {
        const char *id;
        int64_t used; /* 0 = never */
    } keys[] = {{"a", 0}, {"b", 10}, {"c", 20}, {"d", 0}};
    credstore_error err;

    for (size_t i = 0; i < LIFE_COUNT(keys); i++) {
        const credstore_api_key_origin origin = {
            .struct_size = sizeof origin, .id = keys[i].id, .last_used_at = keys[i].used};
        const credstore_service_credential_origin same = {
            .struct_size = sizeof same, .id = keys[i].id, .last_used_at = keys[i].used};
        const credstore_api_key_patch patch = life_api_key_patch("filtered");
        const credstore_service_credential_patch name = {.struct_size = sizeof name,
                                                         .name = CREDSTORE_TEXT("filtered")};

        life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, NULL, &err));
        life_ok(credstore_service_credential_create(w->t.store, &w->call, TEST_TENANT, TEST_PARENT,
                                                    &same, &name, NULL, &err));
    }
    for (uint32_t kind = CREDSTORE_KIND_SERVICE_CREDENTIAL; kind <= CREDSTORE_KIND_API_KEY;
         kind++) {
        w->k = test_kind_of(kind);
        w->at = test_at_of(w->k);
        expect_ids(w, 0, 1, (const char *[]){"a", "d"}, 2);
        expect_ids(w, 0, 10, (const char *[]){"a", "d"}, 2);
        expect_ids(w, 0, 11, (const char *[]){"a", "b", "d"}, 3);
        expect_ids(w, 0, INT64_MAX, (const char *[]){"a", "b", "c", "d"}, 4);
    }
}

/* ---- what cannot be read ---- */

/* The page: each is readable but the one at `bad`, which is its id and why. */
static void expect_bad(test_world *w, const model *m, size_t count, size_t bad)
{
    const life_page *page = list(w, 100, NULL, NULL);

    assert_int_equal(page->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(page->items[i].id, m->id[i]);
        assert_int_equal(page->items[i].view == NULL, i == bad);
        assert_int_equal(page->items[i].status, i == bad ? CREDSTORE_E_INTEGRITY : CREDSTORE_OK);
    }
    credstore_free(page);
}

static void damaged_records(test_world *w)
{
    enum { COUNT = 6, BAD = 2 };
    uint64_t chance = test_seed("list_test");
    const life_page *page, *next;
    test_at at = w->at;
    cs_buf value;
    cs_key key;
    model m;

    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < COUNT; i++)
        add(w, &m, i);
    at.id = m.id[BAD];
    key = life_record_key(w, w->k, &at);
    value = life_raw_get(w->t.store, &key);
    for (size_t i = 0; i < value.len; i += 7) { /* any byte, and none */
        value.ptr[i] ^= 0x10;
        life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
        value.ptr[i] ^= 0x10;
        page = list(w, 100, NULL, NULL);
        assert_int_equal(page->count, COUNT);
        assert_string_equal(page->items[BAD].id, m.id[BAD]);
        if (page->items[BAD].view != NULL) /* a sealed part, which no list opens */
            assert_int_equal(page->items[BAD].status, CREDSTORE_OK);
        else if (page->items[BAD].status != CREDSTORE_E_FORMAT)
            assert_int_equal(page->items[BAD].status, CREDSTORE_E_INTEGRITY);
        assert_non_null(page->items[BAD + 1].view);
        credstore_free(page);
    }
    life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len / 2));
    expect_bad(w, &m, COUNT, BAD);
    life_raw_put(w->t.store, &key, cs_bytes(value.ptr, 0));
    expect_bad(w, &m, COUNT, BAD);
    page = list(w, BAD + 1, NULL, NULL); /* its cursor is as good as any */
    next = list(w, 1, page->end_cursor, NULL);
    assert_string_equal(next->items[0].id, m.id[BAD + 1]);
    assert_int_equal(next->has_prev_page, 1);
    credstore_free(page);
    credstore_free(next);
    life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
    expect_bad(w, &m, COUNT, COUNT);
    cs_buf_free(&value);
}

/* A record under another's id. */
static void moved_records(test_world *w)
{
    uint64_t chance = test_seed("list_test");
    test_at at = w->at;
    cs_buf value;
    cs_key key;
    model m;

    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < 3; i++)
        add(w, &m, i);
    at.id = m.id[0];
    key = life_record_key(w, w->k, &at);
    value = life_raw_get(w->t.store, &key);
    at.id = m.id[1];
    key = life_record_key(w, w->k, &at);
    life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
    expect_bad(w, &m, 3, 1);
    cs_buf_free(&value);
}

static cs_key owner_key(test_world *w, const char *tenant, const char *id)
{
    const cs_names names = {.tenant = TEST_TENANT, .parent = TEST_PARENT, .id = id};
    credstore_call call = w->call;
    credstore_error err = {0};
    uint8_t mac[32];
    cs_key key;
    cs_op op;

    call.tenant = tenant;
    life_ok(cs_op_begin(&op, w->t.store, w->k->kind, CS_READ, &call, &names, &err));
    life_ok(cs_op_owner(&op, mac, &err));
    cs_key_owner(&key, mac, &op.at);
    return key;
}

static void entries_of_the_index(test_world *w)
{
    uint64_t chance = test_seed("list_test");
    credstore_call call = w->call;
    const life_page *page = NULL;
    credstore_error err;
    cs_buf entry;
    cs_key key;
    model m;

    if (w->k->kind->scope != CS_SCOPE_STORE)
        return;
    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < 3; i++)
        add(w, &m, i);
    key = owner_key(w, TEST_TENANT, m.id[0]);
    entry = life_raw_get(w->t.store, &key);
    assert_true(entry.len > 0);
    key = owner_key(w, "other", m.id[0]); /* moved to another owner */
    life_raw_put(w->t.store, &key, cs_bytes(entry.ptr, entry.len));
    call.tenant = "other";
    life_ok(life_list(w->t.store, &call, w->k, &w->at, NULL, &page, &err));
    assert_int_equal(page->count, 1);
    assert_string_equal(page->items[0].id, m.id[0]);
    assert_null(page->items[0].view);
    assert_int_equal(page->items[0].status, CREDSTORE_E_INTEGRITY);
    credstore_free(page);
    life_raw_del(w->t.store, &key);

    key = owner_key(w, TEST_TENANT, m.id[1]); /* another's entry */
    life_raw_put(w->t.store, &key, cs_bytes(entry.ptr, entry.len));
    expect_bad(w, &m, 3, 1);
    key = owner_key(w, TEST_TENANT, m.id[0]);
    life_damage(w->t.store, &key, 0);
    key = owner_key(w, TEST_TENANT, m.id[1]);
    life_raw_del(w->t.store, &key);
    page = list(w, 100, NULL, NULL);
    assert_int_equal(page->count, 2);
    assert_int_equal(page->items[0].status, CREDSTORE_E_INTEGRITY);
    assert_non_null(page->items[1].view);
    credstore_free(page);
    cs_buf_free(&entry);
}

/* Plants a key among those of the list. */
static void plant(test_world *w, const char *id, size_t len)
{
    const bool indexed = w->k->kind->scope == CS_SCOPE_STORE;
    cs_key key = indexed ? owner_key(w, TEST_TENANT, w->k->id) : life_record_key(w, w->k, &w->at);

    key.len = 2 + CS_SCOPE_LEN + len;
    memcpy(key.ptr + 2 + CS_SCOPE_LEN, id, len);
    life_raw_put(w->t.store, &key, cs_bytes("planted", 7));
}

/* Ids that the kind cannot have are nobody's records. */
static void ids_that_are_none(test_world *w)
{
    static const char *const strange[] = {"!", "a b", "zz\xff", "\x01", "{}"};
    uint64_t chance = test_seed("list_test");
    const life_page *page;
    expected e;
    model m;

    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < 3; i++)
        add(w, &m, i);
    for (size_t i = 0; i < LIFE_COUNT(strange); i++)
        plant(w, strange[i], strlen(strange[i]) + 1);
    e = forward(&m, 0, 2);
    page = list(w, 2, NULL, NULL);
    assert_page(w, &m, page, &e);
    credstore_free(page);
    e = forward(&m, 0, 3);
    page = list(w, 3, NULL, NULL);
    assert_page(w, &m, page, &e);
    credstore_free(page);
}

/* A key that no id made ends the list with a word, in both directions. */
static void keys_that_are_none(test_world *w)
{
    char longest[301] = "";
    const struct {
        const char *id;
        size_t len;
    } odd[] = {{"", 1}, {"", 0}, {"mid", 3}, {longest, 300}, {longest, 256 + 1}, {longest, 301}};
    credstore_page asked = {.struct_size = sizeof asked, .limit = 100};
    const life_page *page = NULL;
    credstore_error err;

    memset(longest, '+', sizeof longest - 1);
    for (size_t i = 0; i < LIFE_COUNT(odd); i++) {
        test_world *fresh = calloc(1, sizeof *fresh);

        assert_non_null(fresh);
        test_open(&fresh->t, w->t.engine);
        fresh->k = w->k;
        fresh->at = w->at;
        fresh->root = w->root;
        fresh->call = test_call(&fresh->root);
        credstore_free(test_make(&fresh->t, w->k, &fresh->root, 1));
        page = list(fresh, 1, NULL, NULL);
        plant(fresh, odd[i].id, odd[i].len);
        asked.after = NULL;
        asked.before = NULL;
        for (int n = 0; n < 2; n++) {
            const life_page *out = NULL;
            const credstore_status status =
                life_list(fresh->t.store, &fresh->call, fresh->k, &fresh->at, &asked, &out, &err);

            if (status != CREDSTORE_OK)
                assert_int_equal(status, CREDSTORE_E_INTEGRITY);
            assert_true(n == 1 || status == CREDSTORE_E_INTEGRITY);
            credstore_free(out);
            asked.before = page->start_cursor;
        }
        credstore_free(page);
        test_close(&fresh->t);
        free(fresh);
    }
}

/* ---- the door ---- */

static const credstore_answer *ask(test_world *w, const char *query)
{
    credstore_request request = test_request(w->k, CREDSTORE_VERB_LIST, &w->root, NULL);

    request.id = test_slice(NULL);
    request.query = test_slice(query);
    return credstore_handle(w->t.store, &request);
}

static const char *found(const char *body, const char *what)
{
    const char *at = strstr(body, what);

    if (at == NULL)
        fail_msg("%s is not in %s", what, body);
    return at;
}

/* The text of a member. */
static void text_of(const char *body, const char *member, char *out, size_t size)
{
    char pattern[64];
    const char *at;

    snprintf(pattern, sizeof pattern, "\"%s\":\"", member);
    at = found(body, pattern) + strlen(pattern);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
}

static void at_the_door(test_world *w)
{
    uint64_t chance = test_seed("list_test");
    const credstore_answer *answer = ask(w, NULL);
    char cursor[400], query[512], quoted[64];
    test_at at = w->at;
    cs_key key;
    model m;

    assert_int_equal(answer->http_status, 200);
    assert_string_equal(answer->content_type, "application/json");
    assert_null(answer->etag);
    assert_string_equal(answer->body,
                        "{\"items\":[],\"page_info\":{\"has_next_page\":false,"
                        "\"has_prev_page\":false,\"start_cursor\":null,\"end_cursor\":null}}");
    credstore_answer_free(answer);
    model_begin(&m, w->k, &chance);
    for (size_t i = 0; i < 5; i++)
        add(w, &m, i);
    at.id = m.id[3];
    key = life_record_key(w, w->k, &at);
    life_raw_put(w->t.store, &key, cs_bytes("damaged", 7));
    answer = ask(w, "limit=2&other=1");
    assert_int_equal(answer->http_status, 200);
    assert_int_equal(answer->body_len, strlen(answer->body));
    found(answer->body, "\"has_next_page\":true,\"has_prev_page\":false");
    for (size_t i = 0; i < 2; i++) {
        snprintf(quoted, sizeof quoted, "\":\"%s\"", m.id[i]);
        found(answer->body, quoted);
    }
    text_of(answer->body, "end_cursor", cursor, sizeof cursor);
    assert_null(strstr(answer->body, "secret_key value"));
    credstore_answer_free(answer);
    snprintf(query, sizeof query, "after=%s&limit=2", cursor);
    answer = ask(w, query);
    assert_int_equal(answer->http_status, 200);
    found(answer->body, "\"has_next_page\":true,\"has_prev_page\":true");
    snprintf(quoted, sizeof quoted, "\"%s\"", m.id[3]);
    found(answer->body, quoted); /* unreadable, and yet there */
    found(answer->body, "E_INTEGRITY");
    text_of(answer->body, "start_cursor", cursor, sizeof cursor);
    credstore_answer_free(answer);
    snprintf(query, sizeof query, "limit=1&before=%s", cursor);
    answer = ask(w, query);
    snprintf(quoted, sizeof quoted, "\":\"%s\"", m.id[1]);
    found(answer->body, quoted);
    credstore_answer_free(answer);
}

static void refused_at_the_door(test_world *w)
{
    static const char *const queries[] = {
        "limit=0",          "limit=101",           "limit=", "limit=-1", "limit=1e1", "limit=x",
        "limit=2.0",        "limit=9999999999999", "after=", "before=",  "after=abc", "before=%2F",
        "after=A&before=A",
    };

    for (size_t i = 0; i < LIFE_COUNT(queries); i++) {
        const credstore_answer *answer = ask(w, queries[i]);

        if (answer->http_status != 400)
            print_error("%s\n", queries[i]);
        assert_int_equal(answer->http_status, 400);
        assert_int_equal(answer->status, CREDSTORE_E_INVALID);
        credstore_answer_free(answer);
    }
}

int main(void)
{
    static const test_row of_kinds[] = {
        {"pages follow a model", pages_follow_a_model},
        {"from end to end", from_end_to_end},
        {"the first twenty", the_first_twenty},
        {"history is not listed", history_is_not_listed},
        {"each owner has its own", each_owner_has_its_own},
        {"bad requests", bad_requests},
        {"edited cursors", edited_cursors},
        {"cursors from elsewhere", cursors_from_elsewhere},
        {"cursors of another store", cursors_of_another_store},
        {"damaged records", damaged_records},
        {"moved records", moved_records},
        {"entries of the index", entries_of_the_index},
        {"ids that are none", ids_that_are_none},
        {"keys that are none", keys_that_are_none},
        {"at the door", at_the_door},
        {"refused at the door", refused_at_the_door},
    };
    static const test_row filters[] = {
        {"expiring before", expiring_before},
        {"unused since", unused_since},
    };

    return test_run("list", test_kinds, test_kind_count, of_kinds, LIFE_COUNT(of_kinds)) +
           test_run("filters", NULL, 0, filters, LIFE_COUNT(filters));
}
