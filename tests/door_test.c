/* SPDX-License-Identifier: MIT
 *
 * The HTTP door: headers, bodies and answers of all kinds and verbs.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "op.h"
#include "txn.h"

#define LEN(array) (sizeof(array) / sizeof *(array))

/* ---- small words ---- */

static const test_kind *kind_of(uint32_t id)
{
    return test_kind_of(id);
}

static const credstore_answer *handle(const test_world *w, const credstore_request *request)
{
    const credstore_answer *answer = credstore_handle(w->t.store, request);

    assert_non_null(answer);
    assert_int_equal(answer->struct_size, sizeof *answer);
    assert_int_equal(answer->body == NULL, answer->body_len == 0);
    assert_int_equal(answer->body == NULL, answer->content_type == NULL);
    if (answer->body != NULL)
        assert_int_equal(answer->body[answer->body_len], '\0');
    return answer;
}

static const credstore_answer *ask(const test_world *w, const test_kind *k, uint32_t verb,
                                   const char *body)
{
    const credstore_request request = test_request(k, verb, &w->root, body);

    return handle(w, &request);
}

static void assert_answer(const credstore_answer *answer, uint32_t http, const char *body)
{
    if (answer->http_status != http ||
        (body != NULL && answer->body != NULL && strcmp(answer->body, body) != 0))
        print_error("HTTP %u: %s\n", answer->http_status,
                    answer->body == NULL ? "(no body)" : answer->body);
    assert_int_equal(answer->http_status, http);
    if (body != NULL)
        assert_string_equal(answer->body, body);
    credstore_answer_free(answer);
}

static void make(const test_world *w, const test_kind *k)
{
    credstore_free(test_make(&w->t, k, &w->root, 1));
}

static const char *of_member(const char *body, const char *text)
{
    const char *found = strstr(body, text);

    if (found == NULL)
        print_error("no %s in %s\n", text, body);
    assert_non_null(found);
    return found;
}

/* ---- the documents' answers, byte for byte ---- */

static void test_checkbook(test_world *w)
{
    static const char sent[] = "{\"publishable_key\":\"d9c\",\"secret_key\":\"s\",\"base_url\":"
                               "\"https://api.checkbook.io\",\"client_id\":"
                               "\"2ckEEwCIvk3KPgvWjJjyBIS6Abc\"}";
    static const char expected[] =
        "{\"id\":\"1NFHrqBHb3cTfLVkFSGmHZqdDPi\",\"client_id\":\"2ckEEwCIvk3KPgvWjJjyBIS6Abc\","
        "\"publishable_key\":\"d9c\",\"base_url\":\"https://api.checkbook.io\",\"is_active\":true,"
        "\"created_at\":\"2023-11-14T22:13:20Z\",\"updated_at\":\"2023-11-14T22:13:20Z\"}";
    const test_kind *k = kind_of(CREDSTORE_KIND_CHECKBOOK);

    assert_answer(ask(w, k, CREDSTORE_VERB_CREATE, sent), 201, expected);
    assert_answer(ask(w, k, CREDSTORE_VERB_UPDATE, "{}"), 200, expected);
    assert_answer(ask(w, k, CREDSTORE_VERB_GET, NULL), 200, expected);
    /* the client's id is the creation's alone */
    assert_answer(
        ask(w, k, CREDSTORE_VERB_UPDATE, "{\"client_id\":\"2ckEEwCIvk3KPgvWjJjyBIS6Abc\"}"), 400,
        NULL);
}

static void test_stripe(test_world *w)
{
    static const char nothing[] =
        "\"project_id\":\"3c90c3cc-0d44-4b50-8888-8dd25736052a\",\"is_active\":true,"
        "\"has_test_credentials\":false,\"has_live_credentials\":false,"
        "\"created_at\":\"2023-11-14T22:13:20Z\",\"test_secret_key_masked\":null,"
        "\"test_publishable_key_masked\":null,\"test_webhook_secret_masked\":null,"
        "\"live_secret_key_masked\":null,\"live_publishable_key_masked\":null,"
        "\"live_webhook_secret_masked\":null,\"test_configured_at\":null,"
        "\"live_configured_at\":null,\"updated_at\":null}";
    static const char set[] =
        "\"project_id\":\"3c90c3cc-0d44-4b50-8888-8dd25736052a\",\"is_active\":true,"
        "\"has_test_credentials\":true,\"has_live_credentials\":false,"
        "\"created_at\":\"2023-11-14T22:13:20Z\",\"test_secret_key_masked\":\"sk_test_...4242\","
        "\"test_publishable_key_masked\":null,\"test_webhook_secret_masked\":null,"
        "\"live_secret_key_masked\":null,\"live_publishable_key_masked\":\"pk_live_...4343\","
        "\"live_webhook_secret_masked\":null,\"test_configured_at\":\"2023-11-14T22:13:22Z\","
        "\"live_configured_at\":\"2023-11-14T22:13:22Z\",\"updated_at\":\"2023-11-14T22:13:22Z\"}";
    const test_kind *k = kind_of(CREDSTORE_KIND_STRIPE);
    const credstore_answer *answer;

    answer = ask(w, k, CREDSTORE_VERB_GET, NULL);
    assert_null(answer->etag);
    assert_int_equal(answer->revision, 0);
    assert_string_equal(answer->content_type, "application/json");
    assert_answer(answer, 200, "null");
    answer = ask(w, k, CREDSTORE_VERB_UPDATE, "{}");
    assert_string_equal(strchr(answer->body, ',') + 1, nothing);
    assert_answer(answer, 200, NULL);
    atomic_fetch_add(&w->t.now, 2999);
    answer = ask(w, k, CREDSTORE_VERB_UPDATE,
                 "{\"test_secret_key\":\"sk_test_51H8xabcdefgh4242\",\"test_webhook_secret\":null,"
                 "\"live_publishable_key\":\"pk_live_51H8xabcdefgh4343\"}");
    assert_string_equal(strchr(answer->body, ',') + 1, set);
    assert_answer(answer, 200, NULL);
}

static void test_service_credential(test_world *w)
{
    const test_kind *k = kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL);
    const credstore_answer *answer = ask(w, k, CREDSTORE_VERB_CREATE, "{\"name\":\"n\"}");
    char expected[256];
    const char *client = of_member(answer->body, "\"client_id\":\"") + 13;

    snprintf(expected, sizeof expected,
             "{\"id\":\"ab3def8hij2klm9opq5rst7uvw\",\"client_id\":\"%.21s\","
             "\"created_at\":\"2023-11-14T22:13:20.000Z\",\"name\":\"n\"}",
             client);
    assert_answer(answer, 201, expected);
    assert_answer(ask(w, k, CREDSTORE_VERB_UPDATE, "{}"), 200, expected);
    assert_answer(ask(w, k, CREDSTORE_VERB_GET, NULL), 200, expected);
    answer = ask(w, k, CREDSTORE_VERB_UPDATE, "{\"description\":\"\\u00e9\\n\"}");
    of_member(answer->body, "\"name\":\"n\",\"description\":\"\xc3\xa9\\n\"}");
    assert_answer(answer, 200, NULL);
    assert_answer(ask(w, k, CREDSTORE_VERB_UPDATE, "{\"description\":null}"), 200, expected);
}

static void test_api_key(test_world *w)
{
    static const char expected[] =
        "{\"id\":\"2ckEEwCIvk3KPgvWjJjyBIS6Abc\",\"description\":\"d\",\"flatPermissionsList\":"
        "[\"readApplications\",\"writeApplications\"],\"expiresAt\":\"2024-01-01T00:00:00.000Z\","
        "\"createdAt\":\"2023-11-14T22:13:20.000Z\",\"lastUsedAt\":null,\"lastFour\":null}";
    static const char bare[] =
        "{\"id\":\"2ckEEwCIvk3KPgvWjJjyBIS6Abc\",\"description\":\"\",\"flatPermissionsList\":[],"
        "\"expiresAt\":null,\"createdAt\":\"2023-11-14T22:13:20.000Z\",\"lastUsedAt\":null,"
        "\"lastFour\":null}";
    const test_kind *k = kind_of(CREDSTORE_KIND_API_KEY);

    assert_answer(ask(w, k, CREDSTORE_VERB_CREATE,
                      "{\"description\":\"d\",\"flatPermissionsList\":[\"writeApplications\","
                      "\"readApplications\",\"writeApplications\"],"
                      "\"expiresAt\":\"2024-01-01T00:00:00Z\"}"),
                  201, expected);
    assert_answer(ask(w, k, CREDSTORE_VERB_GET, NULL), 200, expected);
    assert_answer(ask(w, k, CREDSTORE_VERB_UPDATE,
                      "{\"description\":\"\",\"flatPermissionsList\":[],\"expiresAt\":null}"),
                  200, "{\"success\":true}");
    assert_answer(ask(w, k, CREDSTORE_VERB_GET, NULL), 200, bare);
}

/* The ids that creations bring in the path, or not. */
static void test_made_ids(test_world *w)
{
    for (size_t i = 0; i < test_kind_count; i++) {
        const test_kind *k = &test_kinds[i];
        char *body = test_body(k, 1);
        credstore_request request = test_request(k, CREDSTORE_VERB_CREATE, &w->root, body);
        const credstore_answer *answer;

        request.id = test_slice(NULL);
        answer = handle(w, &request);
        if (k->kind->make_id == NULL) {
            assert_answer(answer, 400, NULL);
        } else {
            assert_null(strstr(answer->body, k->id));
            assert_answer(answer, 201, NULL);
        }
        free(body);
    }
}

/* ---- conditions ---- */

typedef struct condition {
    const char *match, *none; /* NULL: no such header */
    uint32_t update, create;  /* HTTP, of a record at revision 2, and of one that is not there */
    credstore_status status;  /* of the update */
    uint32_t get;
} condition;

static const condition conditions[] = {
    {NULL, NULL, 200, 201, CREDSTORE_OK, 200},
    {"\"2\"", NULL, 200, 412, CREDSTORE_OK, 200},
    {" \t\"2\" ", NULL, 200, 412, CREDSTORE_OK, 200},
    {"*", NULL, 200, 412, CREDSTORE_OK, 200},
    {"\"1\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"3\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"0\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"02\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"W/\"2\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200}, /* weak: never a strong match */
    {"2", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"2", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"garbage", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"+2\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"18446744073709551615\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200}, /* MUST_EXIST */
    {"\"18446744073709551614\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200}, /* MUST_BE_NEW */
    {"\"18446744073709551618\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200}, /* 2 + 2^64 */
    {"\"99999999999999999999999999\"", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {"\"1\", \"2\"", NULL, 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {"**", NULL, 412, 412, CREDSTORE_E_REVISION, 200},
    {NULL, "*", 412, 201, CREDSTORE_E_REVISION, 304},
    {NULL, "\"2\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 304},
    {NULL, "W/\"2\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 304},
    {NULL, "\"1\", W/\"2\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 304},
    {NULL, "\"1\",\t\"2\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 304},
    {NULL, "\"1\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {NULL, "\"1\", \"3\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {NULL, "2", 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {NULL, "", 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {NULL, ",,,", 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {NULL, "w/\"2\"", 400, 400, CREDSTORE_E_UNSUPPORTED, 200},
    {"\"2\"", "*", 400, 400, CREDSTORE_E_INVALID, 304},
};

static const credstore_answer *ask_if(const test_world *w, uint32_t verb, const condition *c,
                                      const char *body)
{
    credstore_request request = test_request(w->k, verb, &w->root, body);

    request.if_match = test_slice(c->match);
    request.if_none_match = test_slice(c->none);
    return handle(w, &request);
}

static void make_two_revisions(test_world *w)
{
    char *body = test_body(w->k, 2);

    make(w, w->k);
    assert_answer(ask(w, w->k, CREDSTORE_VERB_UPDATE, body), 200, NULL);
    free(body);
}

static void test_conditions_of_update(test_world *w)
{
    char *same = test_body(w->k, 2);

    make_two_revisions(w);
    for (size_t i = 0; i < LEN(conditions); i++) {
        const condition *c = &conditions[i];
        const credstore_answer *answer = ask_if(w, CREDSTORE_VERB_UPDATE, c, same);

        if (answer->http_status != c->update)
            print_error("If-Match: %s, If-None-Match: %s\n", c->match, c->none);
        assert_int_equal(answer->status, c->status);
        assert_int_equal(answer->revision, c->update == 200 ? 2 : 0);
        assert_int_equal(answer->etag != NULL, c->update == 200);
        assert_answer(answer, c->update, NULL);
    }
    free(same);
}

static void test_conditions_of_get(test_world *w)
{
    make_two_revisions(w);
    for (size_t i = 0; i < LEN(conditions); i++) {
        const condition *c = &conditions[i];
        const credstore_answer *answer = ask_if(w, CREDSTORE_VERB_GET, c, NULL);
        /* the catalogue decides with the revision what permissions are shown */
        const uint32_t of_get = w->k->kind->permissions_field != 0 ? 200 : (uint32_t)c->get;

        if (answer->http_status != of_get)
            print_error("If-Match: %s, If-None-Match: %s\n", c->match, c->none);
        assert_int_equal(answer->http_status, of_get);
        assert_int_equal(answer->status, CREDSTORE_OK);
        assert_string_equal(answer->etag, "\"2\"");
        assert_int_equal(answer->revision, 2);
        assert_int_equal(answer->body == NULL, of_get == 304);
        credstore_answer_free(answer);
    }
}

/* Of what is not there: creation, and where an update creates, update. */
static void test_conditions_of_creation(test_world *w)
{
    const bool upsert = (w->k->kind->flags & CS_UPSERT) != 0;
    char *body = test_body(w->k, 1), project[37];
    unsigned made = 0;

    for (size_t i = 0; i < LEN(conditions); i++)
        for (uint32_t verb = CREDSTORE_VERB_CREATE; verb <= CREDSTORE_VERB_UPDATE; verb++) {
            const condition *c = &conditions[i];
            credstore_request request = test_request(w->k, verb, &w->root, body);
            const credstore_answer *answer;
            uint32_t expected = c->create;

            if (verb == CREDSTORE_VERB_UPDATE && expected != 400)
                expected = !upsert ? 404 : expected == 201 ? 200 : expected;
            request.if_match = test_slice(c->match);
            request.if_none_match = test_slice(c->none);
            if (verb == CREDSTORE_VERB_CREATE && w->k->kind->make_id != NULL)
                request.id = test_slice(NULL);
            if (w->k->kind->make_id == NULL) {
                snprintf(project, sizeof project, "00000000-0000-4000-8000-%012u", ++made);
                request.id = test_slice(project);
            }
            answer = handle(w, &request);
            if (answer->http_status != expected)
                print_error("If-Match: %s, If-None-Match: %s\n", c->match, c->none);
            assert_answer(answer, expected, NULL);
        }
    free(body);
}

static void test_null_is_unconditional(test_world *w)
{
    const test_kind *k = kind_of(CREDSTORE_KIND_STRIPE);
    credstore_request request = test_request(k, CREDSTORE_VERB_GET, &w->root, NULL);

    request.if_none_match = test_slice("*");
    assert_answer(handle(w, &request), 200, "null");
}

/* ---- requests that are none ---- */

static void test_no_such_request(test_world *w)
{
    static const char problem[] = "{\"type\":\"about:blank\",\"title\":\"Bad Request\","
                                  "\"status\":400,\"detail\":";
    const struct {
        uint32_t kind, verb, flags;
        const char *field;
        credstore_status status;
    } rows[] = {
        {0, CREDSTORE_VERB_GET, 0, "\"kind\"", CREDSTORE_E_UNSUPPORTED},
        {5, CREDSTORE_VERB_GET, 0, "\"kind\"", CREDSTORE_E_UNSUPPORTED},
        {UINT32_MAX, CREDSTORE_VERB_GET, 0, "\"kind\"", CREDSTORE_E_UNSUPPORTED},
        {CREDSTORE_KIND_STRIPE, 0, 0, "\"verb\"", CREDSTORE_E_UNSUPPORTED},
        {CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_RESTORE + 1, 0, "\"verb\"", CREDSTORE_E_UNSUPPORTED},
        {CREDSTORE_KIND_STRIPE, UINT32_MAX, 0, "\"verb\"", CREDSTORE_E_UNSUPPORTED},
        {CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_GET, 1, "\"flags\"", CREDSTORE_E_UNSUPPORTED},
    };

    for (size_t i = 0; i < LEN(rows); i++) {
        credstore_request request =
            test_request(kind_of(CREDSTORE_KIND_STRIPE), rows[i].verb, &w->root, NULL);
        const credstore_answer *answer;

        request.kind = rows[i].kind;
        request.flags = rows[i].flags;
        answer = handle(w, &request);
        assert_int_equal(answer->status, rows[i].status);
        assert_string_equal(answer->content_type, "application/problem+json");
        assert_memory_equal(answer->body, problem, sizeof problem - 1);
        of_member(answer->body, rows[i].field);
        assert_null(answer->etag);
        assert_answer(answer, 400, NULL);
    }
}

/* Everything absent, and the pointers that are not there at all. */
static void test_absent(test_world *w)
{
    credstore_request request = {.struct_size = sizeof request};
    const credstore_answer *answer;

    assert_answer(handle(w, NULL), 400, NULL);
    assert_answer(handle(w, &request), 400, NULL);
    request.kind = CREDSTORE_KIND_API_KEY;
    for (request.verb = CREDSTORE_VERB_GET; request.verb <= CREDSTORE_VERB_UPDATE; request.verb++) {
        request.actor = NULL;
        assert_answer(handle(w, &request), 401, "{\"error\":\"User not authenticated\"}");
        request.actor = &w->root; /* no id, no body */
        assert_answer(handle(w, &request), 400, NULL);
    }
    request.verb = CREDSTORE_VERB_GET;
    answer = credstore_handle(NULL, &request);
    assert_int_equal(answer->status, CREDSTORE_E_INVALID);
    assert_answer(answer, 400, NULL);
    answer = credstore_handle(NULL, NULL);
    assert_answer(answer, 400, NULL);
}

/* A slice without a pointer is absent, whatever its length says. */
static void test_null_slices(test_world *w)
{
    static const size_t at[] = {
        offsetof(credstore_request, tenant),     offsetof(credstore_request, query),
        offsetof(credstore_request, if_match),   offsetof(credstore_request, if_none_match),
        offsetof(credstore_request, request_id), offsetof(credstore_request, idempotency_key),
    };
    const credstore_slice none = {NULL, 7};

    make(w, w->k);
    for (uint32_t verb = CREDSTORE_VERB_GET; verb <= CREDSTORE_VERB_UPDATE; verb++) {
        credstore_request request = test_request(w->k, verb, &w->root, NULL);
        const bool by_path = (w->k->kind->flags & CS_TENANT_IS_PATH) != 0;

        for (size_t i = by_path ? 1 : 0; i < LEN(at); i++)
            memcpy((uint8_t *)&request + at[i], &none, sizeof none);
        request.body = none;
        assert_answer(handle(w, &request), verb == CREDSTORE_VERB_GET ? 200 : 400, NULL);
        request.id = none;
        request.parent = none;
        assert_answer(handle(w, &request), 400, NULL);
    }
}

static void test_request_sizes(test_world *w)
{
    const uint16_t starts[] = {
        offsetof(credstore_request, kind),
        offsetof(credstore_request, verb),
        offsetof(credstore_request, flags),
        offsetof(credstore_request, actor),
        offsetof(credstore_request, tenant),
        offsetof(credstore_request, parent),
        offsetof(credstore_request, id),
        offsetof(credstore_request, query),
        offsetof(credstore_request, body),
        offsetof(credstore_request, if_match),
        offsetof(credstore_request, if_none_match),
        offsetof(credstore_request, request_id),
        offsetof(credstore_request, idempotency_key),
        offsetof(credstore_request, presented),
    };
    const credstore_request whole =
        test_request(kind_of(CREDSTORE_KIND_STRIPE), CREDSTORE_VERB_GET, &w->root, NULL);

    for (uint32_t size = 0; size <= sizeof whole + 16; size++)
        for (int tail = 0; tail < 2; tail++) {
            uint8_t *copy = malloc(size < 4 ? 4 : size);
            const credstore_answer *answer;
            bool good = size >= sizeof whole;

            assert_non_null(copy);
            memset(copy, tail, size);
            memcpy(copy, &whole, size < sizeof whole ? size : sizeof whole);
            memcpy(copy, &size, sizeof size);
            for (size_t i = 0; i < LEN(starts); i++)
                good = good || size == starts[i];
            answer = handle(w, (const void *)copy);
            if (!good)
                assert_int_equal(answer->status, CREDSTORE_E_INVALID);
            else if (size > sizeof whole && tail != 0)
                assert_int_equal(answer->status, CREDSTORE_E_UNSUPPORTED);
            else if (size >= offsetof(credstore_request, query))
                assert_int_equal(answer->http_status, 200);
            else
                assert_int_not_equal(answer->http_status, 200);
            credstore_answer_free(answer);
            free(copy);
        }
}

/* ---- what the slices hold ---- */

enum { TENANT, PARENT, ID, REQUEST_ID };

static credstore_slice *slice_of(credstore_request *request, int which)
{
    credstore_slice *const slices[] = {&request->tenant, &request->parent, &request->id,
                                       &request->request_id};

    return slices[which];
}

static const char *name_of(const cs_kind *kind, int which)
{
    const char *const names[] = {kind->tenant_name, kind->parent_name, kind->id_name,
                                 (kind->flags & CS_REQUEST_UUID) != 0 ? "X-Client-Request-ID"
                                                                      : "request_id"};

    return names[which];
}

/* In no id's alphabet; the last few are in that of request ids, where no UUID is asked for. */
enum { OF_REQUEST_IDS = 3 };

static void refuse_slice(const test_world *w, int which, credstore_slice bad)
{
    const bool api_key = w->k->kind->id == CREDSTORE_KIND_API_KEY;
    const uint64_t generation = test_generation(w->t.store);

    for (uint32_t verb = CREDSTORE_VERB_GET; verb <= CREDSTORE_VERB_UPDATE; verb++) {
        char *body = test_body(w->k, 3);
        credstore_request request = test_request(w->k, verb, &w->root, body);
        const credstore_answer *answer;

        *slice_of(&request, which) = bad;
        answer = handle(w, &request);
        free(body);
        if (!api_key)
            of_member(answer->body, name_of(w->k->kind, which));
        assert_int_equal(answer->status, CREDSTORE_E_INVALID);
        assert_answer(answer, 400, NULL);
        assert_int_equal(generation, test_generation(w->t.store));
    }
}

static void test_bad_slices(test_world *w)
{
    char longest[257];
    const credstore_slice bad[] = {
        {"a\0b", 3},    {"\0", 1},       {"", 0},     {"a\r\nb", 4}, {longest, 256},
        {longest, 257}, {"\xc3\xa9", 2}, {"\x7f", 1}, {"a b", 3},    {"\xff\xff", 2},
        {" a", 2},      {"a/b", 3},      {"%2f", 3},  {"a\\b", 3},
    };
    const bool any_request_id = (w->k->kind->flags & CS_REQUEST_UUID) == 0;

    memset(longest, 'a', sizeof longest);
    make(w, w->k);
    for (int which = TENANT; which <= REQUEST_ID; which++) {
        const bool fewer = which == REQUEST_ID && any_request_id;

        for (size_t i = 0; i < LEN(bad) - (fewer ? OF_REQUEST_IDS : 0); i++)
            if (name_of(w->k->kind, which) != NULL)
                refuse_slice(w, which, bad[i]);
    }
}

static void test_body_size(test_world *w)
{
    char *body = malloc(65538);
    credstore_request request = test_request(w->k, CREDSTORE_VERB_UPDATE, &w->root, NULL);
    const char *small = w->k->kind->id == CREDSTORE_KIND_API_KEY
                            ? "{\"description\":\"d\",\"flatPermissionsList\":[]}"
                            : "{}";
    const credstore_answer *answer;

    assert_non_null(body);
    make(w, w->k);
    memset(body, ' ', 65538);
    memcpy(body, small, strlen(small));
    request.body.ptr = body;
    request.body.len = 65536;
    assert_answer(handle(w, &request), 200, NULL);
    request.body.len = 65537;
    answer = handle(w, &request);
    assert_int_equal(answer->status, CREDSTORE_E_TOO_LARGE);
    assert_answer(answer, 413, NULL);
    request.body.len = SIZE_MAX / 2;
    assert_answer(handle(w, &request), 413, NULL);
    free(body);
}

/* ---- order of checks ---- */

/* A caller who may not learns nothing from what else is wrong; one who is not known even less. */
static void test_order(test_world *w)
{
    const credstore_actor stranger = test_actor(CREDSTORE_ACTOR_SERVICE, 0, "s", "other");
    credstore_actor expired = w->root;

    expired.expires_at = 1;
    for (uint32_t verb = CREDSTORE_VERB_GET; verb <= CREDSTORE_VERB_UPDATE; verb++) {
        credstore_request request = test_request(w->k, verb, &stranger, "{not json");
        const credstore_answer *answer;

        request.id = request.parent = test_slice("a/b");
        request.request_id = request.query = test_slice("\n");
        request.if_match = request.if_none_match = test_slice("*");
        answer = handle(w, &request);
        assert_int_equal(answer->status, CREDSTORE_E_FORBIDDEN);
        assert_answer(answer, 403, NULL);
        request.body.len = SIZE_MAX / 2;
        assert_answer(handle(w, &request), 403, NULL);
        request.tenant = test_slice("/");
        assert_answer(handle(w, &request), 403, NULL);
        request.actor = &expired;
        assert_answer(handle(w, &request), 401, NULL);
        request.actor = NULL;
        assert_answer(handle(w, &request), 401, NULL);
        request.actor = &w->root;
        assert_answer(handle(w, &request), 400, NULL);
    }
}

/* x-account-id, or whatever names the tenant, absent: the actor's. */
static void test_own_tenant(test_world *w)
{
    credstore_request request = test_request(w->k, CREDSTORE_VERB_GET, &w->root, NULL);
    const bool by_path = (w->k->kind->flags & CS_TENANT_IS_PATH) != 0;

    make(w, w->k);
    request.tenant = test_slice(NULL);
    assert_answer(handle(w, &request), by_path ? 400 : 200, NULL);
    request.tenant = test_slice("other");
    if (w->k->kind->id == CREDSTORE_KIND_STRIPE)
        assert_answer(handle(w, &request), 200, "null"); /* as of one that is not there */
    else
        assert_answer(handle(w, &request), 404, NULL);
}

/* ---- errors ---- */

static void test_problem(test_world *w)
{
    static const struct {
        const char *body, *answer;
    } rows[] = {
        {"{\"is_active\":1}", "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
                              "\"detail\":\"The value is of another "
                              "type\",\"offset\":13,\"errors\":[{\"field\":\"is_active\","
                              "\"message\":\"The value is of another type\"}]}"},
        {"{\"secret_key\":null}",
         "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
         "\"detail\":\"The value cannot be "
         "null\",\"offset\":14,\"errors\":[{\"field\":\"secret_key\","
         "\"message\":\"The value cannot be null\"}]}"},
    };
    const test_kind *k = kind_of(CREDSTORE_KIND_CHECKBOOK);
    const credstore_actor stranger = test_actor(CREDSTORE_ACTOR_SERVICE, 0, "s", "other");
    const credstore_request request = test_request(k, CREDSTORE_VERB_GET, &stranger, NULL);
    const credstore_answer *answer;

    make(w, k);
    for (size_t i = 0; i < LEN(rows); i++) {
        answer = ask(w, k, CREDSTORE_VERB_UPDATE, rows[i].body);
        assert_string_equal(answer->content_type, "application/problem+json");
        assert_answer(answer, 400, rows[i].answer);
    }
    answer = handle(w, &request); /* no member at fault: no errors */
    assert_answer(answer, 403,
                  "{\"type\":\"about:blank\",\"title\":\"Forbidden\",\"status\":403,"
                  "\"detail\":\"The actor may not do this\"}");
}

static void test_api_key_texts(test_world *w)
{
    const test_kind *k = kind_of(CREDSTORE_KIND_API_KEY);
    const credstore_actor user = test_actor(CREDSTORE_ACTOR_USER, 0, "u", TEST_TENANT);
    credstore_actor expired = w->root;
    static const char good[] = "{\"description\":\"d\",\"flatPermissionsList\":[]}";
    const struct {
        const credstore_actor *actor;
        const char *body;
        uint32_t http;
        const char *text;
    } rows[] = {
        {&w->root, "{\"description\":\"d\",\"flatPermissionsList\":[\"none\"]}", 400,
         "Invalid permissions provided"},
        {&w->root, "{\"description\":\"d\",\"flatPermissionsList\":null}", 400,
         "Invalid permissions provided"},
        {&w->root, "{\"description\":\"d\",\"flatPermissionsList\":[7]}", 400,
         "Invalid permissions provided"},
        {&w->root, "{\"description\":\"d\"}", 400, "Invalid permissions provided"},
        {&w->root, "{\"flatPermissionsList\":[]}", 400, "The member is required"},
        {&w->root, "{\"description\":null,\"flatPermissionsList\":[]}", 400,
         "The value cannot be null"},
        {NULL, good, 401, "User not authenticated"},
        {&expired, good, 401, "User not authenticated"},
        {&user, good, 403, "User does not have the required permissions"},
        {&w->root, good, 404, "API key not found"},
    };

    expired.expires_at = 1;
    for (size_t i = 0; i < LEN(rows); i++) {
        const credstore_request request =
            test_request(k, CREDSTORE_VERB_UPDATE, rows[i].actor, rows[i].body);
        const credstore_answer *answer = handle(w, &request);
        char body[128];

        snprintf(body, sizeof body, "{\"error\":\"%s\"}", rows[i].text);
        assert_string_equal(answer->content_type, "application/json");
        assert_answer(answer, rows[i].http, body);
    }
    make(w, k);
    assert_answer(ask(w, k, CREDSTORE_VERB_UPDATE, good), 200, "{\"success\":true}");
    assert_answer(ask(w, k, CREDSTORE_VERB_CREATE, good), 409, "{\"error\":\"The id is taken\"}");
}

static credstore_status put_garbage(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_op *op = arg;
    cs_buf value = {0};
    cs_key key;
    credstore_status status;

    cs_buf_add(&value, "not a record", 12);
    cs_key_record(&key, &op->at);
    status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status;
}

/* What is not a caller's fault is said without a detail of the inside. */
static void test_internal_error(test_world *w)
{
    const cs_names names = {w->at.tenant, w->k->kind->parent_name == NULL ? NULL : w->at.parent,
                            w->at.id};
    credstore_error err = {0};
    const credstore_answer *answer;
    cs_op op;
    const cs_work work = {put_garbage, &op, 0};

    make(w, w->k);
    assert_status(CREDSTORE_OK,
                  cs_op_begin(&op, w->t.store, w->k->kind, CS_CHANGE, &w->call, &names, &err),
                  &err);
    assert_status(CREDSTORE_OK, cs_txn_write(w->t.store, &work, &err), &err);
    for (uint32_t verb = CREDSTORE_VERB_GET; verb <= CREDSTORE_VERB_UPDATE; verb += 2) {
        char *body = test_body(w->k, 2);

        answer = ask(w, w->k, verb, body);
        free(body);
        assert_int_equal(answer->status, CREDSTORE_E_INTEGRITY);
        if (w->k->kind->id == CREDSTORE_KIND_API_KEY)
            assert_string_equal(answer->body, "{\"error\":\"Internal server error\"}");
        else
            of_member(answer->body, "\"title\":\"Internal Server Error\",\"status\":500");
        assert_answer(answer, 500, NULL);
    }
}

/* A writer who does not get his turn. */
static void test_busy(test_world *w)
{
    const condition stale = {.match = "\"7\""};
    char *body = test_body(w->k, 2);
    const credstore_answer *answer;
    credstore_error err;
    void *txn = NULL;

    w->t.options.wait_ms = 20;
    assert_status(CREDSTORE_OK, test_reopen(&w->t, &err), &err);
    make(w, w->k);
    assert_int_equal(w->t.store->storage->begin(w->t.store->storage_ctx, 1, 1000, &txn),
                     CREDSTORE_STORAGE_OK);
    answer = ask(w, w->k, CREDSTORE_VERB_UPDATE, body);
    assert_int_equal(answer->status, CREDSTORE_E_BUSY);
    assert_int_not_equal(answer->retry_after_s, 0);
    assert_answer(answer, 503, NULL);
    assert_answer(ask(w, w->k, CREDSTORE_VERB_GET, NULL), 200, NULL);
    assert_answer(ask_if(w, CREDSTORE_VERB_UPDATE, &stale, body), 412, NULL); /* needs no turn */
    w->t.store->storage->abort(w->t.store->storage_ctx, txn);
    assert_answer(ask(w, w->k, CREDSTORE_VERB_UPDATE, body), 200, NULL);
    free(body);
}

/* ---- the service credential's own ---- */

static void test_expand(test_world *w)
{
    static const struct {
        const char *query;
        uint32_t http;
        bool shown;
    } rows[] = {
        {"expand[]=permissions", 200, true},
        {"expand%5B%5D=permissions", 200, true},
        {"expand%5b%5d=permissions", 200, true},
        {"expand=permissions", 200, true},
        {"a=b&expand[]=permissions&c", 200, true},
        {"expand[]=permissions,permissions", 200, true},
        {"expand[]=permissions&expand[]=permissions", 200, true},
        {"", 200, false},
        {"&&&", 200, false},
        {"expanded[]=permissions", 200, false},
        {"a=expand[]=permissions", 200, false},
        {"expand[]=other", 400, false},
        {"expand[]=permissions,other", 400, false},
        {"expand[]=permissions&expand[]=other", 400, false},
        {"expand[]=", 400, false},
        {"expand[]", 400, false},
        {"expand[]=Permissions", 400, false},
        {"expand[]=,permissions", 400, false},
        {"expand[]=permissions,", 400, false},
    };
    static const char map[] =
        ",\"permissions\":{\"applications\":{\"read\":false,\"write\":false},"
        "\"organizations\":{\"read\":true,\"update\":false},\"users\":{\"read\":false,"
        "\"list\":false},\"checkbook\":{\"read\":false,\"update\":false,\"reveal\":false},"
        "\"stripe\":{\"update\":false,\"reveal\":false},"
        "\"service_credentials\":{\"update\":true},\"webhooks\":{\"reveal\":false}}}";
    const test_kind *k = kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL);
    credstore_actor actor = test_actor(CREDSTORE_ACTOR_USER, 0, "u", TEST_TENANT);

    make(w, k);
    test_grant(w->t.store, &actor, "organizations:read");
    test_grant(w->t.store, &actor, "service_credentials:update");
    for (size_t i = 0; i < LEN(rows); i++)
        for (uint32_t verb = CREDSTORE_VERB_GET; verb <= CREDSTORE_VERB_UPDATE; verb += 2) {
            credstore_request request = test_request(k, verb, &actor, "{}");
            const credstore_answer *answer;

            request.query = test_slice(rows[i].query);
            answer = handle(w, &request);
            if (answer->http_status != rows[i].http)
                print_error("query %s\n", rows[i].query);
            if (rows[i].shown)
                assert_string_equal(of_member(answer->body, ",\"permissions\""), map);
            else if (rows[i].http == 200)
                assert_null(strstr(answer->body, "\"permissions\""));
            else
                of_member(answer->body, "\"expand[]\"");
            assert_answer(answer, rows[i].http, NULL);
        }
}

/* What depends on more than the revision is told anew, whatever tag the client has. */
static void test_expand_is_never_304(test_world *w)
{
    const test_kind *k = kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL);
    credstore_actor actor = test_actor(CREDSTORE_ACTOR_USER, 0, "u", TEST_TENANT);
    credstore_request request = test_request(k, CREDSTORE_VERB_GET, &actor, NULL);

    make(w, k);
    request.if_none_match = test_slice("\"1\"");
    assert_answer(handle(w, &request), 304, NULL);
    request.query = test_slice("expand[]=permissions");
    assert_answer(handle(w, &request), 200, NULL);
    test_grant(w->t.store, &actor, "organizations:read");
    assert_answer(handle(w, &request), 200, NULL);
}

/* A change shows what the actor's own key may do now, not what the host has read of it before. */
static void test_expand_is_of_now(test_world *w)
{
    static const char *const before[] = {"service_credentials:update", "organizations:read"};
    const test_kind *k = kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL);
    const credstore_call call = test_call(&w->root);
    credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                     .description = CREDSTORE_TEXT("caller"),
                                     .permissions = {before, 2, CREDSTORE_SET, 0}};
    credstore_secret *token = NULL;
    const credstore_answer *answer;
    credstore_request request;
    credstore_actor actor;
    credstore_error err;

    make(w, k);
    assert_int_equal(CREDSTORE_OK,
                     credstore_api_key_issue(w->t.store, &call, NULL, &patch, &token, NULL, &err));
    assert_int_equal(CREDSTORE_OK, credstore_api_key_verify(w->t.store, credstore_secret_ptr(token),
                                                            CREDSTORE_NTS, &actor, &err));
    credstore_secret_free(token);
    request = test_request(k, CREDSTORE_VERB_UPDATE, &actor, "{}");
    request.query = test_slice("expand[]=permissions");
    answer = handle(w, &request);
    assert_non_null(strstr(answer->body, "\"organizations\":{\"read\":true"));
    assert_answer(answer, 200, NULL);
    patch.permissions.count = 1;
    assert_int_equal(CREDSTORE_OK,
                     credstore_api_key_update(w->t.store, &call, actor.id, &patch, NULL, &err));
    answer = handle(w, &request);
    assert_non_null(strstr(answer->body, "\"organizations\":{\"read\":false"));
    assert_answer(answer, 200, NULL);
}

static void test_request_id(test_world *w)
{
    const test_kind *k = kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL);
    credstore_request request =
        test_request(k, CREDSTORE_VERB_UPDATE, &w->root, "{\"name\":\"x\"}");
    const credstore_answer *answer;

    make(w, k);
    request.request_id = test_slice("1");
    answer = handle(w, &request);
    of_member(answer->body, "\"X-Client-Request-ID\"");
    assert_answer(answer, 400, NULL);
    request.request_id = test_slice("3c90c3cc-0d44-4b50-8888-8dd25736052A");
    assert_answer(handle(w, &request), 200, NULL);
}

/* ---- the API key's own ---- */

static void test_expires_at(test_world *w)
{
    static const struct {
        const char *value;   /* JSON; NULL = absent */
        const char *becomes; /* NULL = 400 */
    } rows[] = {
        {"\"2024-01-01T00:00:00Z\"", "\"2024-01-01T00:00:00.000Z\""},
        {NULL, "\"2024-01-01T00:00:00.000Z\""},
        {"null", "null"},
        {NULL, "null"},
        {"\"2024-02-29T23:59:59.999999+05:30\"", "\"2024-02-29T18:29:59.999Z\""},
        {"\"\"", "null"},
        {"\"2024-01-01t00:00:00-08:00\"", "\"2024-01-01T08:00:00.000Z\""},
        {"\"2024-01-01T00:00:00.5z\"", "\"2024-01-01T00:00:00.500Z\""},
        {"\"2023-11-14T22:13:20.001Z\"", "\"2023-11-14T22:13:20.001Z\""},
        {"\"2023-11-14T22:13:20Z\"", NULL}, /* now */
        {"\"2020-01-01T00:00:00Z\"", NULL},
        {"\"2024-02-30T00:00:00Z\"", NULL},
        {"\"2025-02-29T00:00:00Z\"", NULL},
        {"\"2024-01-01\"", NULL},
        {"\"2024-01-01T00:00:00\"", NULL},
        {"\"2024-01-01T24:00:00Z\"", NULL},
        {"\"2024-13-01T00:00:00Z\"", NULL},
        {"\"10000-01-01T00:00:00Z\"", NULL},
        {"\" 2024-01-01T00:00:00Z\"", NULL},
        {"\"never\"", NULL},
        {"1704067200000", NULL},
        {"false", NULL},
        {"{}", NULL},
    };
    const test_kind *k = kind_of(CREDSTORE_KIND_API_KEY);
    char body[256], expected[128] = "";

    make(w, k);
    for (size_t i = 0; i < LEN(rows); i++) {
        const credstore_answer *answer;

        snprintf(body, sizeof body, "{\"description\":\"d\",\"flatPermissionsList\":[]%s%s}",
                 rows[i].value == NULL ? "" : ",\"expiresAt\":",
                 rows[i].value == NULL ? "" : rows[i].value);
        assert_answer(ask(w, k, CREDSTORE_VERB_UPDATE, body), rows[i].becomes == NULL ? 400 : 200,
                      NULL);
        if (rows[i].becomes != NULL)
            snprintf(expected, sizeof expected, "\"expiresAt\":%s,", rows[i].becomes);
        answer = ask(w, k, CREDSTORE_VERB_GET, NULL);
        of_member(answer->body, expected);
        credstore_answer_free(answer);
    }
}

/* ---- what is given back is wiped ---- */

static struct {
    const char *ptr;
    size_t len;
    int wiped;
} watched;

void __real_free(void *ptr);
void __wrap_free(void *ptr);

void __wrap_free(void *ptr)
{
    const uintptr_t from = (uintptr_t)ptr, at = (uintptr_t)watched.ptr;

    if (watched.ptr != NULL && from <= at && at - from < 512) {
        watched.wiped = 1;
        for (size_t i = 0; i < watched.len; i++)
            if (watched.ptr[i] != '\0')
                watched.wiped = 0;
        watched.ptr = NULL;
    }
    __real_free(ptr);
}

static void test_answers_are_wiped(test_world *w)
{
    const credstore_answer *answer;

    make(w, w->k);
    answer = ask(w, w->k, CREDSTORE_VERB_GET, NULL);
    watched.wiped = 0;
    watched.len = answer->body_len;
    watched.ptr = answer->body;
    assert_true(watched.len > 0);
    credstore_answer_free(answer);
    assert_null(watched.ptr);
    assert_int_equal(watched.wiped, 1);
}

static const test_row of_kinds[] = {
    {"conditions of update", test_conditions_of_update},
    {"conditions of get", test_conditions_of_get},
    {"conditions of creation", test_conditions_of_creation},
    {"null slices", test_null_slices},
    {"bad slices", test_bad_slices},
    {"body size", test_body_size},
    {"order", test_order},
    {"own tenant", test_own_tenant},
    {"internal error", test_internal_error},
    {"busy", test_busy},
    {"answers are wiped", test_answers_are_wiped},
};
static const test_row others[] = {
    {"checkbook", test_checkbook},
    {"stripe", test_stripe},
    {"service_credential", test_service_credential},
    {"api_key", test_api_key},
    {"made ids", test_made_ids},
    {"null is unconditional", test_null_is_unconditional},
    {"no such request", test_no_such_request},
    {"absent", test_absent},
    {"request sizes", test_request_sizes},
    {"problem", test_problem},
    {"api_key texts", test_api_key_texts},
    {"expand", test_expand},
    {"expand is never 304", test_expand_is_never_304},
    {"expand is of now", test_expand_is_of_now},
    {"request id", test_request_id},
    {"expiresAt", test_expires_at},
};

int main(void)
{
    const int failed = test_run("door", test_kinds, test_kind_count, of_kinds, LEN(of_kinds));

    return failed + test_run("door of one kind", NULL, 0, others, LEN(others));
}
