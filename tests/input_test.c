/* SPDX-License-Identifier: MIT
 *
 * What bad input gets: a named error with the member or the byte at fault, one line that helps and
 * holds nothing of the request, and a store that is as it was.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEN(array) (sizeof(array) / sizeof *(array))
#define MARK       "zebra7351" /* in what is sent, and so in no error */

/* ---- the frame ---- */

typedef struct before {
    const void *view;
    uint64_t generation;
} before;

static before look(const test_world *w, const test_kind *k)
{
    const before b = {test_get(&w->t, k, &w->root), test_generation(w->t.store)};

    return b;
}

static void assert_untouched(const test_world *w, const test_kind *k, before *b)
{
    const void *now = test_get(&w->t, k, &w->root);

    assert_true(test_same_view(k, b->view, now, true));
    assert_int_equal(b->generation, test_generation(w->t.store));
    credstore_free(now);
    credstore_free(b->view);
}

/* The answer of the door names the fault and nothing of what was sent. */
static void assert_refusal(const credstore_answer *answer, const test_kind *k, uint32_t http,
                           const char *field, size_t offset)
{
    char expected[96];

    if (answer->http_status != http)
        print_error("HTTP %u: %s\n", answer->http_status, answer->body);
    assert_int_equal(answer->http_status, http);
    assert_null(strstr(answer->body, MARK));
    assert_null(answer->etag);
    assert_null(memchr(answer->body, '\n', answer->body_len));
    if (k->kind->id == CREDSTORE_KIND_API_KEY) {
        assert_memory_equal(answer->body, "{\"error\":\"", 10);
        assert_true(answer->body_len > 20);
        credstore_answer_free(answer);
        return;
    }
    assert_non_null(strstr(answer->body, "\"detail\":\""));
    assert_null(strstr(answer->body, "\"detail\":\"\""));
    snprintf(expected, sizeof expected, "\"errors\":[{\"field\":\"%s\",\"message\":\"", field);
    if ((strstr(answer->body, expected) != NULL) != (field[0] != '\0'))
        fail_msg("expected the field \"%s\": %s", field, answer->body);
    snprintf(expected, sizeof expected, ",\"offset\":%zu", offset);
    if (offset != 0 && strstr(answer->body, expected) == NULL)
        fail_msg("expected the offset %zu: %s", offset, answer->body);
    credstore_answer_free(answer);
}

static void send(const test_world *w, const test_kind *k, const void *body, size_t len,
                 uint32_t http, const char *field, size_t offset)
{
    credstore_request request = test_request(k, CREDSTORE_VERB_UPDATE, &w->root, NULL);
    before b = look(w, k);

    request.body = (credstore_slice){body, len};
    assert_refusal(credstore_handle(w->t.store, &request), k, http, field, offset);
    assert_untouched(w, k, &b);
}

static void make(const test_world *w, const test_kind *k)
{
    credstore_free(test_make(&w->t, k, &w->root, 1));
}

/* ---- what is not JSON as I-JSON and section 9 have it ---- */

/* Of any kind, with the byte at fault where the specification leaves no doubt; 0: not compared. */
static const struct {
    const char *what, *body;
    size_t len, offset;
} not_json[] = {
#define TEXT(text) text, sizeof(text) - 1
    {"nothing", TEXT(""), 0},
    {"space", TEXT("   "), 0},
    {"a word", TEXT(MARK), 0},
    {"an array", TEXT("[]"), 0},
    {"null", TEXT("null"), 0},
    {"a string", TEXT("\"" MARK "\""), 0},
    {"a number", TEXT("1"), 0},
    {"an open object", TEXT("{"), 1},
    {"an open member", TEXT("{\"" MARK "\""), 0},
    {"no value", TEXT("{\"a\":}"), 5},
    {"a comma too many", TEXT("{\"a\":1,}"), 7},
    {"a bare name", TEXT("{" MARK ":1}"), 1},
    {"trailing bytes", TEXT("{} {}"), 3},
    {"a trailing letter", TEXT("{}x"), 2},
    {"a trailing NUL", TEXT("{}\0"), 2},
    {"a byte order mark", TEXT("\xef\xbb\xbf{}"), 0},
    {"UTF-16", TEXT("{\0}\0"), 1},
    {"a NUL in a string", TEXT("{\"a\":\"" MARK "\0\"}"), 15},
    {"an escaped NUL", TEXT("{\"a\":\"" MARK "\\u0000\"}"), 15},
    {"an escaped NUL in a name", TEXT("{\"a\\u0000\":1}"), 3},
    {"a raw newline", TEXT("{\"a\":\"\n\"}"), 6},
    {"a raw tab", TEXT("{\"a\":\"\t\"}"), 6},
    {"a lone high surrogate", TEXT("{\"a\":\"\\ud800\"}"), 0},
    {"a lone low surrogate", TEXT("{\"a\":\"\\udc00\"}"), 6},
    {"swapped surrogates", TEXT("{\"a\":\"\\udc00\\ud800\"}"), 6},
    {"a surrogate in UTF-8", TEXT("{\"a\":\"\xed\xa0\x80\"}"), 6},
    {"Latin-1", TEXT("{\"a\":\"\xe9\"}"), 6},
    {"overlong UTF-8", TEXT("{\"a\":\"\xc0\xaf\"}"), 6},
    {"UTF-8 beyond U+10FFFF", TEXT("{\"a\":\"\xf4\x90\x80\x80\"}"), 6},
    {"an unknown escape", TEXT("{\"a\":\"\\x41\"}"), 0},
    {"a name twice", TEXT("{\"a\":1,\"a\":1}"), 7},
    {"a name twice, escaped", TEXT("{\"a\":1,\"\\u0061\":1}"), 7},
    {"a leading zero", TEXT("{\"a\":01}"), 0},
    {"a plus", TEXT("{\"a\":+1}"), 5},
    {"NaN", TEXT("{\"a\":NaN}"), 5},
    {"hex", TEXT("{\"a\":0x10}"), 0},
    {"a number above a double", TEXT("{\"a\":1e400}"), 5},
    {"2^53", TEXT("{\"a\":9007199254740992}"), 5},
    {"-2^53", TEXT("{\"a\":-9007199254740992}"), 5},
    {"2^64", TEXT("{\"a\":18446744073709551616}"), 5},
    {"a comment", TEXT("{/* " MARK " */}"), 1},
    {"single quotes", TEXT("{'a':1}"), 1},
    {"True", TEXT("{\"a\":True}"), 5},
    {"depth 9", TEXT("{\"a\":[[[[[[[[1]]]]]]]]}"), 12},
    {"depth 9 of objects",
     TEXT("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}"), 40},
};

static void test_not_json(test_world *w)
{
    make(w, w->k);
    for (size_t i = 0; i < LEN(not_json); i++)
        send(w, w->k, not_json[i].body, not_json[i].len, 400, "", not_json[i].offset);
}

static void test_too_many_members(test_world *w)
{
    char body[1024] = "{";
    size_t used = 1, last = 0;

    make(w, w->k);
    for (int i = 0; i < 65; i++) {
        last = used + (i > 0);
        used +=
            (size_t)snprintf(body + used, sizeof body - used, "%s\"m%d\":0", i > 0 ? "," : "", i);
    }
    snprintf(body + used, sizeof body - used, "}");
    send(w, w->k, body, used + 1, 400, "", last);
}

/* 64 levels, 64 KiB of them, and a body over the limit. */
static void test_deep_and_long(test_world *w)
{
    char *body = malloc(65537);

    assert_non_null(body);
    make(w, w->k);
    memset(body, '[', 65537);
    memcpy(body, "{\"a\":", 5);
    send(w, w->k, body, 65536, 400, "", 12);
    send(w, w->k, body, 65537, 413, "", 0);
    memset(body, ' ', 65537);
    memcpy(body, "{}", 2);
    send(w, w->k, body, 65537, 413, "", 0);
    memset(body, 'a', 65537);
    memcpy(body, "{\"" MARK "\":\"", 14);
    send(w, w->k, body, 65536, 400, "", 0);
    free(body);
}

/* ---- types ---- */

/* Each field of each kind, given each type of JSON that it does not take. */
static void test_wrong_types(test_world *w)
{
    static const struct {
        const char *text;
        int type;
    } values[] = {
        {"\"" MARK "\"", 's'},    {"7", 'n'}, {"true", 'b'}, {"[]", 'a'}, {"{}", 'o'}, {"1.5", 'n'},
        {"[\"" MARK "\",7]", 'x'}};

    make(w, w->k);
    for (size_t i = 0; i < w->k->kind->field_count; i++)
        for (size_t v = 0; v < LEN(values); v++) {
            const cs_field *field = &w->k->kind->fields[i];
            const int takes = field->type == CS_FLAG          ? 'b'
                              : field->type == CS_PERMISSIONS ? 'a'
                                                              : 's';
            char body[128];

            if (!test_in_patch(field) || values[v].type == takes)
                continue;
            snprintf(body, sizeof body, "{\"%s\":%s}", field->name, values[v].text);
            send(w, w->k, body, strlen(body), 400, field->name, strlen(field->name) + 4);
        }
}

static void test_nulls(test_world *w)
{
    make(w, w->k);
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        const cs_field *field = &w->k->kind->fields[i];
        char body[128];

        if (!test_in_patch(field) || (field->flags & CS_NULLABLE) != 0)
            continue;
        snprintf(body, sizeof body, "{\"%s\": null}", field->name);
        send(w, w->k, body, strlen(body), 400, field->name, strlen(field->name) + 5);
    }
}

static void test_unknown_members(test_world *w)
{
    static const char *const names[] = {
        MARK,         "",          "id",        "created_at",
        "revision",   "is_Active", "client_id", "test_configured_at",
        "project_id", "\\u0069d"};

    make(w, w->k);
    for (size_t i = 0; i < LEN(names); i++) {
        char body[64];

        snprintf(body, sizeof body, "{\"%s\":\"x\"}", names[i]);
        send(w, w->k, body, strlen(body), 400, "", strlen(names[i]) + 4);
    }
}

/* A good member before a bad one: neither is taken. */
static void test_nothing_by_halves(test_world *w)
{
    char *good = test_body(w->k, 2), *body = malloc(5000);

    assert_non_null(body);
    make(w, w->k);
    snprintf(body, 5000, "%.*s,\"" MARK "\":1}", (int)strlen(good) - 1, good);
    send(w, w->k, body, strlen(body), 400, "", strlen(good) + strlen(MARK) + 3);
    free(good);
    free(body);
}

/* ---- values that a kind does not take ---- */

static const struct {
    uint32_t kind;
    const char *field, *value;
} bad_values[] = {
    {CREDSTORE_KIND_CHECKBOOK, "base_url", "https://" MARK ":x@api.checkbook.io"},
    {CREDSTORE_KIND_CHECKBOOK, "base_url", "http://api.checkbook.io"},
    {CREDSTORE_KIND_CHECKBOOK, "base_url", "https://192.168.1.1/" MARK},
    {CREDSTORE_KIND_CHECKBOOK, "base_url", "https://[::1]/"},
    {CREDSTORE_KIND_CHECKBOOK, "base_url", "https://api.checkbook.io/#" MARK},
    {CREDSTORE_KIND_CHECKBOOK, "base_url", "https://api.checkbook.io\\\\x"},
    {CREDSTORE_KIND_CHECKBOOK, "base_url", ""},
    {CREDSTORE_KIND_CHECKBOOK, "secret_key", ""},
    {CREDSTORE_KIND_CHECKBOOK, "secret_key", MARK "\\n"},
    {CREDSTORE_KIND_CHECKBOOK, "secret_key", MARK "\\u007f"},
    {CREDSTORE_KIND_CHECKBOOK, "publishable_key", "\\u0001"},
    {CREDSTORE_KIND_STRIPE, "test_secret_key", "sk_live_" MARK},
    {CREDSTORE_KIND_STRIPE, "live_secret_key", "sk_test_" MARK},
    {CREDSTORE_KIND_STRIPE, "live_secret_key", "pk_live_" MARK},
    {CREDSTORE_KIND_STRIPE, "test_webhook_secret", "sk_test_" MARK},
    {CREDSTORE_KIND_STRIPE, "live_publishable_key", "rk_live_" MARK},
    {CREDSTORE_KIND_STRIPE, "test_secret_key", "sk_test_...0001"}, /* the mask of what is there */
    {CREDSTORE_KIND_STRIPE, "live_publishable_key", "pk_live_...0001"},
    {CREDSTORE_KIND_STRIPE, "test_secret_key", ""},
    {CREDSTORE_KIND_STRIPE, "test_secret_key", "a\\rb"},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, "name", ""},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, "name", MARK "\\u001b[31m"},
    {CREDSTORE_KIND_API_KEY, "expiresAt", "2024-02-30T00:00:00Z"},
    {CREDSTORE_KIND_API_KEY, "expiresAt", "2020-01-01T00:00:00Z"},
    {CREDSTORE_KIND_API_KEY, "expiresAt", "1969-12-31T23:59:59Z"},
    {CREDSTORE_KIND_API_KEY, "expiresAt", "10000-01-01T00:00:00Z"},
    {CREDSTORE_KIND_API_KEY, "expiresAt", MARK},
};

static void test_bad_values(test_world *w)
{
    for (size_t i = 0; i < test_kind_count; i++)
        make(w, &test_kinds[i]);
    for (size_t i = 0; i < LEN(bad_values); i++) {
        const char *field = bad_values[i].field;
        const bool api_key = bad_values[i].kind == CREDSTORE_KIND_API_KEY;
        char body[256];

        snprintf(body, sizeof body, "{\"%s\":\"%s\"%s}", field, bad_values[i].value,
                 api_key ? ",\"description\":\"d\",\"flatPermissionsList\":[]" : "");
        send(w, test_kind_of(bad_values[i].kind), body, strlen(body), 400, field,
             strlen(field) + 4);
    }
}

/* 500 characters of four bytes are taken, 501 of any are not; in JSON, raw or escaped. */
static void test_long_texts(test_world *w)
{
    static const struct {
        uint32_t kind;
        const char *head, *character, *tail;
        int limit, field_at;
        const char *field;
    } rows[] = {
        {CREDSTORE_KIND_SERVICE_CREDENTIAL, "{\"description\":\"", "\xf0\x9f\x94\x91", "\"}", 500,
         15, "description"},
        {CREDSTORE_KIND_SERVICE_CREDENTIAL, "{\"description\":\"", "\\ud83d\\udd11", "\"}", 500, 15,
         "description"},
        {CREDSTORE_KIND_SERVICE_CREDENTIAL, "{\"description\":\"", "a", "\"}", 500, 15,
         "description"},
        {CREDSTORE_KIND_SERVICE_CREDENTIAL, "{\"name\":\"", "\xf0\x9f\x94\x91", "\"}", 255, 8,
         "name"},
        {CREDSTORE_KIND_API_KEY, "{\"flatPermissionsList\":[],\"description\":\"",
         "\xf0\x9f\x94\x91", "\"}", 2000, 40, "description"},
        {CREDSTORE_KIND_CHECKBOOK, "{\"secret_key\":\"", "s", "\"}", 4096, 14, "secret_key"},
        {CREDSTORE_KIND_CHECKBOOK, "{\"publishable_key\":\"", "\xc3\xa9", "\"}", 2048, 19,
         "publishable_key"},
        {CREDSTORE_KIND_STRIPE, "{\"live_webhook_secret\":\"", "s", "\"}", 4096, 23,
         "live_webhook_secret"},
    };
    char *body = malloc(65536);

    assert_non_null(body);
    for (size_t i = 0; i < test_kind_count; i++)
        make(w, &test_kinds[i]);
    for (size_t i = 0; i < LEN(rows); i++)
        for (int over = 1; over >= 0; over--) {
            const test_kind *k = test_kind_of(rows[i].kind);
            credstore_request request = test_request(k, CREDSTORE_VERB_UPDATE, &w->root, NULL);
            const credstore_answer *answer;
            size_t used = (size_t)snprintf(body, 65536, "%s", rows[i].head);

            for (int c = 0; c < rows[i].limit + over; c++)
                used += (size_t)snprintf(body + used, 65536 - used, "%s", rows[i].character);
            used += (size_t)snprintf(body + used, 65536 - used, "%s", rows[i].tail);
            if (over != 0) {
                send(w, k, body, used, 400, rows[i].field, (size_t)rows[i].field_at);
                continue;
            }
            request.body = (credstore_slice){body, used};
            answer = credstore_handle(w->t.store, &request);
            assert_int_equal(answer->http_status, 200);
            assert_int_not_equal(answer->revision, 1);
            credstore_answer_free(answer);
        }
    free(body);
}

/* ---- ids ---- */

static const struct {
    uint32_t kind;
    const char *id;
    size_t len;
} bad_ids[] = {
#define ID(text) text, sizeof(text) - 1
    {CREDSTORE_KIND_CHECKBOOK, ID("1NFHrqBHb3cTfLVkFSGmHZqdDP")},
    {CREDSTORE_KIND_CHECKBOOK, ID("1NFHrqBHb3cTfLVkFSGmHZqdDPiX")},
    {CREDSTORE_KIND_CHECKBOOK, ID("aWgEPTl1tmebfsQzFP4bxwgy80W")},
    {CREDSTORE_KIND_CHECKBOOK, ID("1NFHrqBHb3cTfLVkFSGmHZqdDP/")},
    {CREDSTORE_KIND_CHECKBOOK, ID("1NFHrqBHb3cTfLVkFSGmHZqdDP\0")},
    {CREDSTORE_KIND_CHECKBOOK, ID("1NFHrqBHb3cTfLVkFSGmHZqdDPi\0")},
    {CREDSTORE_KIND_STRIPE, ID("3c90c3cc-0d44-4b50-8888-8dd25736052")},
    {CREDSTORE_KIND_STRIPE, ID("3c90c3cc-0d44-4b50-8888-8dd25736052a ")},
    {CREDSTORE_KIND_STRIPE, ID("3c90c3cc/0d44-4b50-8888-8dd25736052a")},
    {CREDSTORE_KIND_STRIPE, ID("3c90c3cc-0d44-4b50-8888-8dd25736052\0")},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, ID("a/b")},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, ID("a\0b")},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, ID("a.b")},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, ID("a\r\n")},
    {CREDSTORE_KIND_API_KEY, ID("a/b")},
    {CREDSTORE_KIND_API_KEY, ID("../" MARK)},
    {CREDSTORE_KIND_API_KEY, ID("a\0")},
    {CREDSTORE_KIND_API_KEY, ID("a\n")},
    {CREDSTORE_KIND_API_KEY, ID("\xf0\x9f\x94\x91")},
};

static void test_bad_ids(test_world *w)
{
    for (size_t i = 0; i < test_kind_count; i++)
        make(w, &test_kinds[i]);
    for (size_t i = 0; i < LEN(bad_ids); i++)
        for (uint32_t verb = CREDSTORE_VERB_GET; verb <= CREDSTORE_VERB_UPDATE; verb++) {
            const test_kind *k = test_kind_of(bad_ids[i].kind);
            char *body = test_body(k, 2);
            credstore_request request = test_request(k, verb, &w->root, body);
            before b = look(w, k);

            request.id = (credstore_slice){bad_ids[i].id, bad_ids[i].len};
            assert_refusal(credstore_handle(w->t.store, &request), k, 400, k->kind->id_name, 0);
            assert_untouched(w, k, &b);
            free(body);
        }
}

/* 255 are an id, 256 are none, of every slice that is one. */
static void test_long_ids(test_world *w)
{
    char id[257];

    memset(id, 'a', sizeof id);
    make(w, w->k);
    for (size_t len = 255; len <= 256; len++) {
        credstore_request request = test_request(w->k, CREDSTORE_VERB_GET, &w->root, NULL);
        const credstore_slice slice = {id, len};
        const bool any = w->k->kind->id == CREDSTORE_KIND_SERVICE_CREDENTIAL ||
                         w->k->kind->id == CREDSTORE_KIND_API_KEY;
        before b = look(w, w->k);

        request.id = slice;
        assert_refusal(credstore_handle(w->t.store, &request), w->k, any && len == 255 ? 404 : 400,
                       w->k->kind->id_name, 0);
        request = test_request(w->k, CREDSTORE_VERB_UPDATE, &w->root, NULL);
        request.tenant = slice;
        if (len == 256)
            assert_refusal(credstore_handle(w->t.store, &request), w->k, 400,
                           w->k->kind->tenant_name, 0);
        assert_untouched(w, w->k, &b);
    }
}

/* ---- who may not ---- */

/* A key may not change keys; another tenant's id is told as one that is nobody's. */
static void test_key_and_foreigner(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_API_KEY);
    static const char body[] = "{\"description\":\"" MARK "\",\"flatPermissionsList\":[]}";
    credstore_actor key = w->root, foreigner = w->root;
    credstore_request request = test_request(k, CREDSTORE_VERB_UPDATE, &key, body);
    const credstore_answer *of_foreign, *of_none;
    before b;

    make(w, k);
    b = look(w, k);
    key.type = CREDSTORE_ACTOR_API_KEY;
    snprintf(key.id, sizeof key.id, "%s", k->id);
    assert_refusal(credstore_handle(w->t.store, &request), k, 403, "", 0);
    snprintf(foreigner.tenant, sizeof foreigner.tenant, "other");
    request.actor = &foreigner;
    request.tenant = test_slice("other");
    of_foreign = credstore_handle(w->t.store, &request);
    request.id = test_slice("nobodys");
    of_none = credstore_handle(w->t.store, &request);
    assert_int_equal(of_foreign->http_status, 404);
    assert_int_equal(of_none->http_status, 404);
    assert_string_equal(of_foreign->body, of_none->body);
    credstore_answer_free(of_foreign);
    credstore_answer_free(of_none);
    assert_untouched(w, k, &b);
}

static const test_row of_kinds[] = {
    {"not JSON", test_not_json},
    {"too many members", test_too_many_members},
    {"deep and long", test_deep_and_long},
    {"wrong types", test_wrong_types},
    {"nulls", test_nulls},
    {"unknown members", test_unknown_members},
    {"nothing by halves", test_nothing_by_halves},
    {"long ids", test_long_ids},
};
static const test_row others[] = {
    {"bad values", test_bad_values},
    {"long texts", test_long_texts},
    {"bad ids", test_bad_ids},
    {"key and foreigner", test_key_and_foreigner},
};

int main(void)
{
    const int failed = test_run("input", test_kinds, test_kind_count, of_kinds, LEN(of_kinds));

    return failed + test_run("input of one kind", NULL, 0, others, LEN(others));
}
