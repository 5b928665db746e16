/* SPDX-License-Identifier: MIT
 *
 * What only one kind does: the four documents, member by member.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "id.h"

#define LEN(array)   (sizeof(array) / sizeof *(array))
#define CHECKBOOK_ID "1NFHrqBHb3cTfLVkFSGmHZqdDPi"
#define PROJECT      "3c90c3cc-0d44-4b50-8888-8dd25736052a"

static void assert_field(credstore_status expected, credstore_status got,
                         const credstore_error *err, const char *field)
{
    assert_status(expected, got, err);
    assert_string_equal(err->field, field);
}

/* `count` times one character of up to four bytes. */
static char *repeat(const char *character, size_t count)
{
    const size_t len = strlen(character);
    char *text = malloc(count * len + 1);

    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * len, character, len);
    text[count * len] = '\0';
    return text;
}

/* ---- stripe ---- */

static const credstore_stripe *put_stripe(const test_world *w, const credstore_stripe_patch *patch)
{
    const credstore_stripe *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_stripe_update(w->t.store, &w->call, PROJECT, patch, &view, &err), &err);
    return view;
}

static void test_upsert_of_nothing(test_world *w)
{
    const credstore_stripe_patch nothing = {.struct_size = sizeof nothing};
    const credstore_stripe *view = put_stripe(w, &nothing);

    assert_int_equal(view->revision, 1);
    assert_string_equal(view->project_id, PROJECT);
    assert_true(cs_uuid_valid(view->id, strlen(view->id)));
    assert_string_not_equal(view->id, PROJECT);
    assert_int_equal(view->is_active, 1);
    assert_int_equal(view->has_test_credentials, 0);
    assert_int_equal(view->has_live_credentials, 0);
    assert_null(view->test_secret_key_masked);
    assert_null(view->test_publishable_key);
    assert_null(view->live_publishable_key_masked);
    assert_int_equal(view->created_at, TEST_NOW);
    assert_int_equal(view->updated_at, 0);
    assert_int_equal(view->test_configured_at, 0);
    assert_int_equal(view->live_configured_at, 0);
    credstore_free(view);
    view = put_stripe(w, &nothing);
    assert_int_equal(view->revision, 1);
    assert_int_equal(view->updated_at, 0);
    credstore_free(view);
}

typedef enum slot_type { SECRET, PUBLISHABLE, WEBHOOK } slot_type;

/* Which slots take a value: T, L or both, or neither. */
static const struct {
    const char *value;
    slot_type type; /* of the slots that take it; ANY below */
    bool test, live, any;
} prefixes[] = {
    {"sk_test_abcdef", SECRET, true, false, false},
    {"sk_live_abcdef", SECRET, false, true, false},
    {"rk_test_abcdef", SECRET, true, false, false},
    {"rk_live_abcdef", SECRET, false, true, false},
    {"sk_org_abcdef", SECRET, true, true, false},
    {"sk_org_test_abcdef", SECRET, true, true, false},
    {"sk_other_abcdef", SECRET, true, true, false},
    {"rk_", SECRET, true, true, false},
    {"pk_test_abcdef", PUBLISHABLE, true, false, false},
    {"pk_live_abcdef", PUBLISHABLE, false, true, false},
    {"pk_other_abcdef", PUBLISHABLE, true, true, false},
    {"whsec_abcdef", WEBHOOK, true, true, false},
    {"plain", SECRET, true, true, true},
    {"SK_LIVE_abcdef", SECRET, true, true, true},
    {"s", SECRET, true, true, true},
};

static void test_prefixes(test_world *w)
{
    static const struct {
        const char *name;
        size_t at;
        slot_type type;
        bool live;
    } slots[] = {
        {"test_secret_key", offsetof(credstore_stripe_patch, test_secret_key), SECRET, false},
        {"test_publishable_key", offsetof(credstore_stripe_patch, test_publishable_key),
         PUBLISHABLE, false},
        {"test_webhook_secret", offsetof(credstore_stripe_patch, test_webhook_secret), WEBHOOK,
         false},
        {"live_secret_key", offsetof(credstore_stripe_patch, live_secret_key), SECRET, true},
        {"live_publishable_key", offsetof(credstore_stripe_patch, live_publishable_key),
         PUBLISHABLE, true},
        {"live_webhook_secret", offsetof(credstore_stripe_patch, live_webhook_secret), WEBHOOK,
         true},
    };

    for (size_t p = 0; p < LEN(prefixes); p++)
        for (size_t s = 0; s < LEN(slots); s++) {
            const bool fits = (prefixes[p].any || prefixes[p].type == slots[s].type) &&
                              (slots[s].live ? prefixes[p].live : prefixes[p].test);
            const credstore_text value = CREDSTORE_TEXT(prefixes[p].value);
            credstore_stripe_patch patch = {.struct_size = sizeof patch};
            credstore_error err;
            credstore_status status;

            memcpy((uint8_t *)&patch + slots[s].at, &value, sizeof value);
            status = credstore_stripe_update(w->t.store, &w->call, PROJECT, &patch, NULL, &err);
            assert_field(fits ? CREDSTORE_OK : CREDSTORE_E_INVALID, status, &err,
                         fits ? "" : slots[s].name);
        }
}

/* A quarter of what follows the prefix, four characters at most. */
static void assert_mask(const test_world *w, const char *prefix, const char *rest, size_t shown)
{
    credstore_stripe_patch patch = {.struct_size = sizeof patch};
    const credstore_stripe *view;
    char value[128], mask[64];

    snprintf(value, sizeof value, "%s%s", prefix, rest);
    snprintf(mask, sizeof mask, "%s...%s", prefix, rest + strlen(rest) - shown);
    credstore_secret_text_init(&patch.test_secret_key, CREDSTORE_SET, value, CREDSTORE_NTS);
    view = put_stripe(w, &patch);
    assert_string_equal(view->test_secret_key_masked, mask);
    credstore_free(view);
}

static void test_masks(test_world *w)
{
    const char *const heads[] = {"", "sk_test_", "rk_test_", "sk_org_", "sk_"};
    char rest[41] = "";

    for (size_t len = 1; len <= 40; len++) {
        for (size_t i = 0; i < len; i++)
            rest[i] = (char)('A' + (i + len) % 26);
        rest[len] = '\0';
        for (size_t h = 0; h < LEN(heads); h++)
            assert_mask(w, heads[h], rest, len / 4 < 4 ? len / 4 : 4);
    }
    assert_mask(w, "sk_test_", "51H8xabcdefgh4242", 4);
    assert_mask(w, "sk_test_", "abcdefghijklmnopqrst\xc3\xa9zz", 2); /* never half a character */
    assert_mask(w, "sk_test_", "abcdefghijklmnopqrstzz\xc3\xa9", 0);
}

/* Nothing after the prefix: nothing to show. */
static void test_mask_of_a_prefix(test_world *w)
{
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .test_secret_key = CREDSTORE_SECRET("sk_test_", 8)};
    const credstore_stripe *view = put_stripe(w, &patch);

    assert_string_equal(view->test_secret_key_masked, "sk_test_...");
    credstore_free(view);
}

static void test_mask_sent_back(test_world *w)
{
    const credstore_stripe_patch keys = {
        .struct_size = sizeof keys,
        .test_secret_key = CREDSTORE_SECRET("sk_test_51H8xabcdefgh4242", CREDSTORE_NTS),
        .live_publishable_key = CREDSTORE_TEXT("pk_live_51H8xabcdefgh4343"),
    };
    const credstore_stripe_patch secret = {.struct_size = sizeof secret,
                                           .test_secret_key =
                                               CREDSTORE_SECRET("sk_test_...4242", CREDSTORE_NTS)};
    const credstore_stripe_patch publishable = {.struct_size = sizeof publishable,
                                                .live_publishable_key =
                                                    CREDSTORE_TEXT("pk_live_...4343")};
    credstore_call stale = w->call;
    const credstore_stripe *view;
    uint64_t generation;
    credstore_error err;

    credstore_free(put_stripe(w, &keys));
    generation = test_generation(w->t.store);
    assert_field(CREDSTORE_E_INVALID,
                 credstore_stripe_update(w->t.store, &w->call, PROJECT, &secret, &view, &err), &err,
                 "test_secret_key");
    assert_null(view);
    assert_field(CREDSTORE_E_INVALID,
                 credstore_stripe_update(w->t.store, &w->call, PROJECT, &publishable, &view, &err),
                 &err, "live_publishable_key");
    stale.expected_revision = 7; /* told first */
    assert_field(CREDSTORE_E_REVISION,
                 credstore_stripe_update(w->t.store, &stale, PROJECT, &secret, &view, &err), &err,
                 "");
    assert_int_equal(generation, test_generation(w->t.store));
}

static void test_configured_at(test_world *w)
{
    enum { T = 1, L = 2 };
    const credstore_stripe_patch set_test = {.struct_size = sizeof set_test,
                                             .test_secret_key =
                                                 CREDSTORE_SECRET("sk_test_one", CREDSTORE_NTS)};
    const credstore_stripe_patch set_test_webhook = {
        .struct_size = sizeof set_test_webhook,
        .test_webhook_secret = CREDSTORE_SECRET("whsec_one", CREDSTORE_NTS)};
    const credstore_stripe_patch set_live = {.struct_size = sizeof set_live,
                                             .live_publishable_key = CREDSTORE_TEXT("pk_live_one")};
    const credstore_stripe_patch clear_test = {.struct_size = sizeof clear_test,
                                               .test_secret_key = CREDSTORE_CLEARED};
    const credstore_stripe_patch clear_all = {.struct_size = sizeof clear_all,
                                              .test_secret_key = CREDSTORE_CLEARED,
                                              .test_webhook_secret = CREDSTORE_CLEARED,
                                              .live_publishable_key = CREDSTORE_CLEARED};
    const struct {
        const credstore_stripe_patch *patch;
        int moves;         /* the times of which modes move to now */
        bool test, live;   /* are not null afterwards */
        uint32_t has_test; /* the secret key is set */
        uint64_t revision;
    } steps[] = {
        {&set_test, T, true, false, 1, 1},         {&set_test, 0, true, false, 1, 1},
        {&set_test_webhook, T, true, false, 1, 2}, {&set_live, L, true, true, 1, 3},
        {&set_live, 0, true, true, 1, 3},          {&clear_test, T, true, true, 0, 4},
        {&clear_test, 0, true, true, 0, 4},        {&clear_all, T | L, false, false, 0, 5},
        {&clear_all, 0, false, false, 0, 5},       {&set_test, T, true, false, 1, 6},
    };
    int64_t tested_at = 0, live_at = 0, updated_at = 0, now = TEST_NOW;
    uint64_t revision = 1;

    for (size_t i = 0; i < LEN(steps); i++) {
        const credstore_stripe *view;

        atomic_store(&w->t.now, now += 1000);
        if ((steps[i].moves & T) != 0)
            tested_at = steps[i].test ? now : 0;
        if ((steps[i].moves & L) != 0)
            live_at = steps[i].live ? now : 0;
        if (steps[i].revision != revision)
            updated_at = now;
        revision = steps[i].revision;
        view = put_stripe(w, steps[i].patch);
        assert_int_equal(view->revision, revision);
        assert_int_equal(view->test_configured_at, tested_at);
        assert_int_equal(view->live_configured_at, live_at);
        assert_int_equal(view->updated_at, updated_at);
        assert_int_equal(view->has_test_credentials, steps[i].has_test);
        assert_int_equal(view->has_live_credentials, 0); /* a publishable key is none */
        credstore_free(view);
    }
}

static void test_project_ids(test_world *w)
{
    static const char *const bad[] = {
        "",
        "3c90c3cc-0d44-4b50-8888-8dd25736052",
        "3c90c3cc-0d44-4b50-8888-8dd25736052aa",
        "3c90c3cc0d444b5088888dd25736052a",
        "3c90c3cc-0d44-4b50-8888-8dd25736052g",
        "{3c90c3cc-0d44-4b50-8888-8dd25736052a}",
        "3c90c3cc-0d444-b50-8888-8dd25736052a",
        "3c90c3cc/0d44-4b50-8888-8dd25736052a",
    };
    const credstore_stripe_patch nothing = {.struct_size = sizeof nothing};
    const credstore_stripe_origin origin = {.struct_size = sizeof origin,
                                            .id = "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE"};
    const credstore_stripe *view = NULL, *again = NULL;
    credstore_error err;

    for (size_t i = 0; i < LEN(bad); i++)
        assert_field(CREDSTORE_E_INVALID,
                     credstore_stripe_update(w->t.store, &w->call, bad[i], &nothing, &view, &err),
                     &err, "project_id");
    assert_status(CREDSTORE_OK,
                  credstore_stripe_create(w->t.store, &w->call,
                                          "3C90C3CC-0D44-4B50-8888-8dd25736052A", &origin, &nothing,
                                          &view, &err),
                  &err);
    assert_string_equal(view->project_id, PROJECT);
    assert_string_equal(view->id, "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee");
    assert_status(CREDSTORE_OK, credstore_stripe_get(w->t.store, &w->call, PROJECT, &again, &err),
                  &err);
    assert_string_equal(again->id, view->id);
    credstore_free(view);
    credstore_free(again);
    view = put_stripe(w, &nothing);
    assert_int_equal(view->revision, 1);
    credstore_free(view);
}

static void test_stripe_own_id(test_world *w)
{
    const credstore_stripe_patch nothing = {.struct_size = sizeof nothing};
    const credstore_stripe_origin origin = {.struct_size = sizeof origin, .id = "not a uuid"};
    credstore_error err;

    assert_field(
        CREDSTORE_E_INVALID,
        credstore_stripe_create(w->t.store, &w->call, PROJECT, &origin, &nothing, NULL, &err), &err,
        "id");
}

static void deactivate(const test_world *w)
{
    const credstore_stripe *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_stripe_deactivate(w->t.store, &w->call, PROJECT, &view, &err), &err);
    assert_int_equal(view->is_active, 0);
    credstore_free(view);
}

/* A set value switches on, the same value included; neither {} nor null does. */
static void test_reactivation(test_world *w)
{
    const credstore_stripe_patch nothing = {.struct_size = sizeof nothing};
    const credstore_stripe_patch one = {.struct_size = sizeof one,
                                        .test_secret_key =
                                            CREDSTORE_SECRET("sk_test_one", CREDSTORE_NTS),
                                        .live_publishable_key = CREDSTORE_TEXT("pk_live_one")};
    const credstore_stripe_patch clear = {.struct_size = sizeof clear,
                                          .live_publishable_key = CREDSTORE_CLEARED};
    const struct {
        const credstore_stripe_patch *patch;
        uint32_t active;
        uint64_t moves;
    } steps[] = {{&nothing, 0, 0}, {&clear, 0, 1}, {&one, 1, 1}, {&one, 1, 1}};

    credstore_free(put_stripe(w, &one));
    for (size_t i = 0; i < LEN(steps); i++) {
        const credstore_stripe *view = NULL;
        uint64_t revision;
        credstore_error err;

        deactivate(w);
        assert_status(CREDSTORE_OK,
                      credstore_stripe_get(w->t.store, &w->call, PROJECT, &view, &err), &err);
        revision = view->revision;
        credstore_free(view);
        view = put_stripe(w, steps[i].patch);
        assert_int_equal(view->is_active, steps[i].active);
        assert_int_equal(view->revision, revision + steps[i].moves);
        credstore_free(view);
    }
}

/* ---- checkbook ---- */

static credstore_status make_checkbook(const test_world *w,
                                       const credstore_checkbook_origin *origin,
                                       const char *base_url, const credstore_checkbook **view,
                                       credstore_error *err)
{
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("d9c"),
        .secret_key = CREDSTORE_SECRET("0123456789", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT(base_url),
    };

    return credstore_checkbook_create(w->t.store, &w->call, origin, &patch, view, err);
}

static void test_client_id(test_world *w)
{
    static const char other[] = "2ckEEwCIvk3KPgvWjJjyBIS6Abc";
    credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = CHECKBOOK_ID};
    const credstore_checkbook *view = NULL;
    credstore_error err;

    origin.client_id = "2ckEEwCIvk3KPgvWjJjyBIS6Ab";
    assert_field(CREDSTORE_E_INVALID,
                 make_checkbook(w, &origin, "https://api.checkbook.io", NULL, &err), &err,
                 "client_id");
    origin.client_id = other;
    assert_status(CREDSTORE_OK, make_checkbook(w, &origin, "https://api.checkbook.io", &view, &err),
                  &err);
    assert_string_equal(view->client_id, other);
    assert_string_equal(view->id, CHECKBOOK_ID);
    assert_int_equal(view->is_active, 1);
    assert_int_equal(view->has_secret_key, 1);
    assert_int_equal(view->secret_key_set_at, TEST_NOW);
    credstore_free(view);
    assert_status(CREDSTORE_OK, make_checkbook(w, NULL, "https://api.checkbook.io", &view, &err),
                  &err);
    assert_string_equal(view->client_id, view->id);
    assert_true(cs_ksuid_valid(view->id, strlen(view->id)));
    credstore_free(view);
}

static void test_ksuids(test_world *w)
{
    static const char *const bad[] = {
        "1NFHrqBHb3cTfLVkFSGmHZqdDP",   "1NFHrqBHb3cTfLVkFSGmHZqdDPiX",
        "aWgEPTl1tmebfsQzFP4bxwgy80W",  "zzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "1NFHrqBHb3cTfLVkFSGmHZqdDP-",  "1NFHrqBHb3cTfLVkFSGmHZqdDP/",
        "1NFHrqBHb3cTfLVkFSGmHZqdDP\n", "",
    };
    credstore_checkbook_origin origin = {.struct_size = sizeof origin};
    credstore_error err;

    for (size_t i = 0; i < LEN(bad); i++) {
        origin.id = bad[i];
        assert_field(CREDSTORE_E_INVALID,
                     make_checkbook(w, &origin, "https://a.example", NULL, &err), &err, "id");
    }
    origin.id = "aWgEPTl1tmebfsQzFP4bxwgy80V"; /* the largest, and the smallest */
    assert_status(CREDSTORE_OK, make_checkbook(w, &origin, "https://a.example", NULL, &err), &err);
    origin.id = "000000000000000000000000000";
    assert_status(CREDSTORE_OK, make_checkbook(w, &origin, "https://a.example", NULL, &err), &err);
}

static void test_base_urls(test_world *w)
{
    static const char *const good[] = {
        "https://api.checkbook.io",
        "HTTPS://API.Checkbook.IO/",
        "https://api.checkbook.io:8443/v3",
        "https://api.checkbook.io/a%20b?x=1&y=%2F",
        "https://8.8.8.8/",
    };
    static const char *const bad[] = {
        "",
        "http://api.checkbook.io",
        "ftp://api.checkbook.io",
        "api.checkbook.io",
        "https://",
        "https:///path",
        "https://user@api.checkbook.io",
        "https://user:secret@api.checkbook.io",
        "https://api.checkbook.io/#fragment",
        "https://api.checkbook.io\\@evil.example",
        "https://api.checkbook.io/a b",
        "https://api.checkbook.io/\n",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://172.16.5.5/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "https://0x7f.1/",
        "https://2130706433/",
    };
    const credstore_checkbook *view = NULL;
    credstore_error err;

    for (size_t i = 0; i < LEN(good); i++) {
        assert_status(CREDSTORE_OK, make_checkbook(w, NULL, good[i], &view, &err), &err);
        assert_string_equal(view->base_url, good[i]); /* byte for byte */
        credstore_free(view);
    }
    for (size_t i = 0; i < LEN(bad); i++)
        assert_field(CREDSTORE_E_INVALID, make_checkbook(w, NULL, bad[i], NULL, &err), &err,
                     "base_url");
}

static void test_allow_list(test_world *w)
{
    static const char *const allow[] = {"sandbox.internal", "10.0.0.7:8080"};
    const struct {
        const char *url;
        bool allowed;
    } rows[] = {
        {"http://sandbox.internal/x", true},      {"https://sandbox.internal:9000/x", true},
        {"https://SANDBOX.internal", true},       {"http://10.0.0.7:8080/", true},
        {"http://10.0.0.7:8081/", false},         {"https://api.checkbook.io", false},
        {"https://sandbox.internal.evil", false}, {"https://u@sandbox.internal", false},
    };
    credstore_error err;

    w->t.options.base_url_allow = allow;
    w->t.options.base_url_allow_count = 2;
    assert_status(CREDSTORE_OK, test_reopen(&w->t, &err), &err);
    for (size_t i = 0; i < LEN(rows); i++)
        assert_field(rows[i].allowed ? CREDSTORE_OK : CREDSTORE_E_INVALID,
                     make_checkbook(w, NULL, rows[i].url, NULL, &err), &err,
                     rows[i].allowed ? "" : "base_url");
}

/* The time that a secret was set moves with the secret, and with it alone. */
static void test_secret_set_at(test_world *w)
{
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = CHECKBOOK_ID};
    const credstore_checkbook_patch flag = {.struct_size = sizeof flag,
                                            .is_active = CREDSTORE_FLAG(0)};
    const credstore_checkbook_patch same = {
        .struct_size = sizeof same, .secret_key = CREDSTORE_SECRET("0123456789", CREDSTORE_NTS)};
    const credstore_checkbook_patch other = {.struct_size = sizeof other,
                                             .secret_key = CREDSTORE_SECRET("0123456789x", 11)};
    const credstore_checkbook_patch *const patches[] = {&flag, &same, &other};
    credstore_error err;

    assert_status(CREDSTORE_OK, make_checkbook(w, &origin, "https://a.example", NULL, &err), &err);
    for (size_t i = 0; i < LEN(patches); i++) {
        const credstore_checkbook *view = NULL;

        atomic_fetch_add(&w->t.now, 1000);
        assert_status(
            CREDSTORE_OK,
            credstore_checkbook_update(w->t.store, &w->call, CHECKBOOK_ID, patches[i], &view, &err),
            &err);
        assert_int_equal(view->secret_key_set_at, i < 2 ? TEST_NOW : TEST_NOW + 3000);
        assert_int_equal(view->is_active, 0);
        credstore_free(view);
    }
}

/* 1..4096 bytes and no control characters; the length given is the length taken. */
static void test_secret_limits(test_world *w)
{
    char *full = repeat("a", 4096), *over = repeat("a", 4097);
    const struct {
        const char *ptr;
        size_t len;
        bool good;
    } rows[] = {
        {full, CREDSTORE_NTS, true},
        {over, CREDSTORE_NTS, false},
        {over, 4096, true},
        {over, 4097, false},
        {"x", 1, true},
        {"", 0, false},
        {"", CREDSTORE_NTS, false},
        {"a\0b", 3, false},
        {"a\tb", 3, false},
        {"a\x7f", 2, false},
        {"\xff\xfe", 2, false},
        {"\xed\xa0\x80", 3, false},
        {"\xc3\xa9", 2, true},
        {"a", SIZE_MAX - 1, false},
    };
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = CHECKBOOK_ID};
    credstore_error err;

    assert_status(CREDSTORE_OK, make_checkbook(w, &origin, "https://a.example", NULL, &err), &err);
    for (size_t i = 0; i < LEN(rows); i++) {
        const credstore_checkbook_patch patch = {
            .struct_size = sizeof patch, .secret_key = CREDSTORE_SECRET(rows[i].ptr, rows[i].len)};
        credstore_secret *secret = NULL;

        assert_field(
            rows[i].good ? CREDSTORE_OK : CREDSTORE_E_INVALID,
            credstore_checkbook_update(w->t.store, &w->call, CHECKBOOK_ID, &patch, NULL, &err),
            &err, rows[i].good ? "" : "secret_key");
        if (!rows[i].good)
            continue;
        assert_status(CREDSTORE_OK,
                      credstore_checkbook_reveal(w->t.store, &w->call, CHECKBOOK_ID,
                                                 CREDSTORE_CHECKBOOK_SECRET_KEY, &secret, &err),
                      &err);
        assert_int_equal(credstore_secret_len(secret),
                         rows[i].len == CREDSTORE_NTS ? strlen(rows[i].ptr) : rows[i].len);
        assert_memory_equal(credstore_secret_ptr(secret), rows[i].ptr,
                            credstore_secret_len(secret));
        assert_int_equal(credstore_secret_ptr(secret)[credstore_secret_len(secret)], '\0');
        credstore_secret_free(secret);
    }
    free(full);
    free(over);
}

/* ---- service_credential ---- */

static credstore_status make_service(const test_world *w, const char *organization,
                                     const char *account, const char *id, const char *name,
                                     const char *description,
                                     const credstore_service_credential **view,
                                     credstore_error *err)
{
    const credstore_service_credential_origin origin = {.struct_size = sizeof origin, .id = id};
    credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                .name = CREDSTORE_TEXT(name)};

    if (description != NULL)
        credstore_text_init(&patch.description, CREDSTORE_SET, description, CREDSTORE_NTS);
    return credstore_service_credential_create(w->t.store, &w->call, organization, account, &origin,
                                               &patch, view, err);
}

static void test_service_ids(test_world *w)
{
    char *longest = repeat("a", 255), *over = repeat("a", 256);
    const char *const bad[] = {"", "a/b", "a.b", "a~b", "a b", "\xc3\xa9", "a\n", over};
    const credstore_service_credential *view = NULL;
    credstore_error err;

    for (size_t i = 0; i < LEN(bad); i++) {
        assert_field(CREDSTORE_E_INVALID, make_service(w, bad[i], "s", "c", "n", NULL, NULL, &err),
                     &err, "organization_id");
        assert_field(CREDSTORE_E_INVALID, make_service(w, "o", bad[i], "c", "n", NULL, NULL, &err),
                     &err, "service_account_id");
        assert_field(CREDSTORE_E_INVALID, make_service(w, "o", "s", bad[i], "n", NULL, NULL, &err),
                     &err, "credential_id");
    }
    assert_field(CREDSTORE_E_INVALID, make_service(w, "o", NULL, "c", "n", NULL, NULL, &err), &err,
                 "service_account_id");
    assert_status(CREDSTORE_OK, make_service(w, longest, longest, longest, "n", NULL, &view, &err),
                  &err);
    assert_string_equal(view->organization_id, longest);
    assert_string_equal(view->service_account_id, longest);
    assert_string_equal(view->id, longest);
    assert_null(view->description);
    credstore_free(view);
    free(longest);
    free(over);
}

static void test_service_made_ids(test_world *w)
{
    const credstore_service_credential *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, make_service(w, "acme", "s", NULL, "n", NULL, &view, &err), &err);
    assert_int_equal(strlen(view->id), 26);
    assert_int_equal(strspn(view->id, "0123456789abcdefghijklmnopqrstuvwxyz"), 26);
    assert_int_equal(strlen(view->client_id), 21);
    assert_true(strspn(view->client_id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
                                        "WXYZ_-") == 21);
    credstore_free(view);
}

static void test_service_texts(test_world *w)
{
    static const char wide[] = "\xf0\x9f\x94\x91"; /* four bytes */
    char *d500 = repeat(wide, 500), *d501 = repeat(wide, 501), *a501 = repeat("a", 501);
    char *n255 = repeat(wide, 255), *n256 = repeat(wide, 256), *a256 = repeat("a", 256);
    const struct {
        const char *name, *description, *field; /* at fault */
    } rows[] = {
        {"n", d500, NULL},          {"n", d501, "description"},
        {"n", a501, "description"}, {n255, "", NULL},
        {n256, NULL, "name"},       {a256, NULL, "name"},
        {"", NULL, "name"},         {"a\nb", NULL, "name"},
        {"n", "two\nlines", NULL},  {"n", "\xff", "description"},
    };
    const credstore_service_credential *view = NULL;
    credstore_error err;

    for (size_t i = 0; i < LEN(rows); i++) {
        const bool good = rows[i].field == NULL;

        assert_field(good ? CREDSTORE_OK : CREDSTORE_E_INVALID,
                     make_service(w, "acme", "s", NULL, rows[i].name, rows[i].description,
                                  good ? &view : NULL, &err),
                     &err, good ? "" : rows[i].field);
        if (!good)
            continue;
        assert_string_equal(view->name, rows[i].name);
        assert_string_equal(view->description, rows[i].description);
        credstore_free(view);
    }
    free(d500);
    free(d501);
    free(a501);
    free(n255);
    free(n256);
    free(a256);
}

/* The whole catalogue in its order, false entries included: what the actor of the call may. */
static void test_expand(test_world *w)
{
    credstore_actor member = test_actor(CREDSTORE_ACTOR_USER, 0, "m", "acme");
    credstore_call call = test_call(&member);
    const credstore_service_credential *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, make_service(w, "acme", "s", "c", "n", NULL, NULL, &err), &err);
    test_grant(w->t.store, &member, "users:read");
    assert_status(
        CREDSTORE_OK,
        credstore_service_credential_get(w->t.store, &call, "acme", "s", "c", &view, &err), &err);
    assert_null(view->permissions);
    assert_int_equal(view->permission_count, 0);
    credstore_free(view);
    call.flags = CREDSTORE_CALL_EXPAND_PERMISSIONS;
    assert_status(
        CREDSTORE_OK,
        credstore_service_credential_get(w->t.store, &call, "acme", "s", "c", &view, &err), &err);
    assert_int_equal(view->permission_count, test_catalogue_count);
    for (size_t i = 0; i < test_catalogue_count; i++) {
        assert_string_equal(view->permissions[i]->resource, test_catalogue[i].resource);
        assert_string_equal(view->permissions[i]->action, test_catalogue[i].action);
        assert_int_equal(view->permissions[i]->granted,
                         strcmp(test_catalogue[i].id, "users:read") == 0);
    }
    credstore_free(view);
}

static void test_client_request_id(test_world *w)
{
    static const char *const bad[] = {"", "1", "3c90c3cc-0d44-4b50-8888-8dd25736052", "a\r\nb"};
    const credstore_service_credential *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, make_service(w, "acme", "s", "c", "n", NULL, NULL, &err), &err);
    for (size_t i = 0; i < LEN(bad); i++) {
        w->call.request_id = bad[i];
        assert_field(
            CREDSTORE_E_INVALID,
            credstore_service_credential_get(w->t.store, &w->call, "acme", "s", "c", &view, &err),
            &err, "X-Client-Request-ID");
        assert_null(view);
    }
    w->call.request_id = "3C90C3CC-0d44-4b50-8888-8dd25736052a";
    assert_status(
        CREDSTORE_OK,
        credstore_service_credential_get(w->t.store, &w->call, "acme", "s", "c", &view, &err),
        &err);
    credstore_free(view);
}

/* The organization of the path decides, whatever the call's tenant says. */
static void test_organization_is_the_tenant(test_world *w)
{
    const credstore_service_credential *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, make_service(w, "acme", "s", "c", "n", NULL, NULL, &err), &err);
    w->call.tenant = "other";
    assert_status(
        CREDSTORE_OK,
        credstore_service_credential_get(w->t.store, &w->call, "acme", "s", "c", &view, &err),
        &err);
    credstore_free(view);
    assert_status(
        CREDSTORE_E_NOT_FOUND,
        credstore_service_credential_get(w->t.store, &w->call, "other", "s", "c", &view, &err),
        &err);
}

/* ---- api_key ---- */

static credstore_status make_key(const test_world *w, const char *id, const char *description,
                                 const char *const *items, size_t count,
                                 const credstore_api_key **view, credstore_error *err)
{
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT(description),
                                           .permissions = CREDSTORE_STRINGS(items, count)};

    return credstore_api_key_create(w->t.store, &w->call, &origin, &patch, view, err);
}

static void test_permission_lists(test_world *w)
{
    const char *many[513];
    static const char *const twice[] = {"users:list", "readApplications", "users:list",
                                        "readApplications", "users:list"};
    static const char *const unknown[] = {"users:list", "nothing"};
    static const char *const hole[] = {"users:list", NULL};
    static const char *const prefix[] = {"users:lis"};
    static const char *const empty[] = {""};
    static const struct {
        const char *const *items;
        size_t count;
    } bad[] = {{unknown, 2}, {hole, 2}, {prefix, 1}, {empty, 1}};
    const credstore_api_key *view = NULL;
    credstore_error err;

    for (size_t i = 0; i < LEN(many); i++)
        many[i] = "users:list";
    assert_status(CREDSTORE_OK, make_key(w, "a", "d", twice, 5, &view, &err), &err);
    assert_int_equal(view->permission_count, 2); /* in the catalogue's order */
    assert_string_equal(view->permissions[0], "readApplications");
    assert_string_equal(view->permissions[1], "users:list");
    assert_null(view->last_four);
    assert_int_equal(view->expires_at, 0);
    credstore_free(view);
    assert_status(CREDSTORE_OK, make_key(w, "b", "d", NULL, 0, &view, &err), &err);
    assert_null(view->permissions);
    assert_int_equal(view->permission_count, 0);
    credstore_free(view);
    assert_status(CREDSTORE_OK, make_key(w, "c", "d", many, 512, NULL, &err), &err);
    assert_status(CREDSTORE_OK, make_key(w, "e", "d", many, 513, NULL, &err), &err); /* one id */
    for (size_t i = 0; i < LEN(bad); i++)
        assert_field(CREDSTORE_E_INVALID,
                     make_key(w, "d", "d", bad[i].items, bad[i].count, NULL, &err), &err,
                     "flatPermissionsList");
}

static void test_key_descriptions(test_world *w)
{
    static const char wide[] = "\xf0\x9f\x94\x91";
    char *d2000 = repeat(wide, 2000), *d2001 = repeat(wide, 2001), *a2001 = repeat("a", 2001);
    const struct {
        const char *text;
        bool good;
    } rows[] = {{d2000, true}, {d2001, false}, {a2001, false}, {"", true}, {"\xc0\x80", false}};
    credstore_error err;

    for (size_t i = 0; i < LEN(rows); i++)
        assert_field(rows[i].good ? CREDSTORE_OK : CREDSTORE_E_INVALID,
                     make_key(w, NULL, rows[i].text, NULL, 0, NULL, &err), &err,
                     rows[i].good ? "" : "description");
    free(d2000);
    free(d2001);
    free(a2001);
}

static void test_expiry(test_world *w)
{
    static const int64_t last = INT64_C(253402300799999); /* 9999-12-31T23:59:59.999Z */
    const struct {
        credstore_time slot;
        int64_t becomes; /* -1: refused */
    } rows[] = {
        {CREDSTORE_TIME(TEST_NOW + 1), TEST_NOW + 1},
        {{0, CREDSTORE_KEEP, 0}, TEST_NOW + 1},
        {CREDSTORE_TIME(TEST_NOW), -1},
        {CREDSTORE_TIME(TEST_NOW - 1), -1},
        {CREDSTORE_TIME(0), -1},
        {CREDSTORE_TIME(-1), -1},
        {CREDSTORE_TIME(INT64_MIN), -1},
        {CREDSTORE_TIME(INT64_MAX), -1},
        {CREDSTORE_TIME(last + 1), -1},
        {CREDSTORE_TIME(last), last},
        {CREDSTORE_TIME_CLEARED, 0},
        {CREDSTORE_TIME_CLEARED, 0},
    };
    credstore_error err;

    assert_status(CREDSTORE_OK, make_key(w, "k", "d", NULL, 0, NULL, &err), &err);
    for (size_t i = 0; i < LEN(rows); i++) {
        const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                               .expires_at = rows[i].slot};
        const bool good = rows[i].becomes >= 0;
        const credstore_api_key *view = NULL;

        assert_field(good ? CREDSTORE_OK : CREDSTORE_E_INVALID,
                     credstore_api_key_update(w->t.store, &w->call, "k", &patch, &view, &err), &err,
                     good ? "" : "expiresAt");
        if (good)
            assert_int_equal(view->expires_at, rows[i].becomes);
        credstore_free(view);
    }
}

/* A permission that left the catalogue breaks no read, is not lost by a change of something else,
   and means nothing until it comes back. */
static void test_permission_gone(test_world *w)
{
    static const char *const items[] = {"users:list", "readApplications"};
    const credstore_api_key_patch text = {.struct_size = sizeof text,
                                          .description = CREDSTORE_TEXT("other")};
    const credstore_api_key *view = NULL;
    credstore_error err;

    if (w->t.engine == TEST_MEMORY)
        return; /* a store with another catalogue is another store */
    assert_status(CREDSTORE_OK, make_key(w, "k", "d", items, 2, NULL, &err), &err);
    w->t.options.catalogue = test_catalogue + 1; /* without readApplications */
    w->t.options.catalogue_count = test_catalogue_count - 1;
    assert_status(CREDSTORE_OK, test_reopen(&w->t, &err), &err);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_update(w->t.store, &w->call, "k", &text, &view, &err), &err);
    assert_int_equal(view->permission_count, 1);
    assert_string_equal(view->permissions[0], "users:list");
    credstore_free(view);
    assert_int_equal(credstore_permit(w->t.store, &w->root, "readApplications"), 0);
    assert_status(CREDSTORE_E_INVALID, make_key(w, "l", "d", items, 2, NULL, &err), &err);
    w->t.options.catalogue = test_catalogue;
    w->t.options.catalogue_count = test_catalogue_count;
    assert_status(CREDSTORE_OK, test_reopen(&w->t, &err), &err);
    assert_status(CREDSTORE_OK, credstore_api_key_get(w->t.store, &w->call, "k", &view, &err),
                  &err);
    assert_int_equal(view->permission_count, 2);
    assert_int_equal(credstore_permit(w->t.store, &w->root, "readApplications"), 1);
    credstore_free(view);
}

static void test_key_ids(test_world *w)
{
    char *longest = repeat("a", 255), *over = repeat("a", 256);
    const struct {
        const char *id;
        bool good;
    } rows[] = {
        {"A.z_0~9-", true}, {longest, true}, {over, false}, {"", false},
        {"a/b", false},     {"a b", false},  {"a%", false}, {"\xc3\xa9", false},
    };
    credstore_error err;

    for (size_t i = 0; i < LEN(rows); i++)
        assert_field(rows[i].good ? CREDSTORE_OK : CREDSTORE_E_INVALID,
                     make_key(w, rows[i].id, "d", NULL, 0, NULL, &err), &err,
                     rows[i].good ? "" : "id");
    free(longest);
    free(over);
}

static const test_row rows[] = {
    {"stripe: upsert of nothing", test_upsert_of_nothing},
    {"stripe: prefixes", test_prefixes},
    {"stripe: masks", test_masks},
    {"stripe: mask of a prefix", test_mask_of_a_prefix},
    {"stripe: mask sent back", test_mask_sent_back},
    {"stripe: configured at", test_configured_at},
    {"stripe: project ids", test_project_ids},
    {"stripe: own id", test_stripe_own_id},
    {"stripe: reactivation", test_reactivation},
    {"checkbook: client id", test_client_id},
    {"checkbook: ksuids", test_ksuids},
    {"checkbook: base urls", test_base_urls},
    {"checkbook: allow list", test_allow_list},
    {"checkbook: secret set at", test_secret_set_at},
    {"checkbook: secret limits", test_secret_limits},
    {"service_credential: ids", test_service_ids},
    {"service_credential: made ids", test_service_made_ids},
    {"service_credential: texts", test_service_texts},
    {"service_credential: expand", test_expand},
    {"service_credential: request id", test_client_request_id},
    {"service_credential: organization", test_organization_is_the_tenant},
    {"api_key: permission lists", test_permission_lists},
    {"api_key: descriptions", test_key_descriptions},
    {"api_key: expiry", test_expiry},
    {"api_key: permission gone", test_permission_gone},
    {"api_key: ids", test_key_ids},
};

int main(void)
{
    return test_run("kinds", NULL, 0, rows, LEN(rows));
}
