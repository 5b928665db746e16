/* SPDX-License-Identifier: MIT
 *
 * A fifth kind is one header and one file: tests/kinds/webhook_endpoint.[ch] goes through all that
 * every kind goes through, and nothing in lib/ knows of it.
 */
#include "kind_contract.h"
#include "kinds/webhook_endpoint.h"

extern const cs_kind cs_kind_webhook_endpoint;

static credstore_status create(credstore *store, const credstore_call *call, const test_at *at,
                               const void *origin, const void *patch, const void **view,
                               credstore_error *err)
{
    const credstore_webhook_endpoint *out = NULL;
    const credstore_status status = credstore_webhook_endpoint_create(
        store, call, origin, patch, view == NULL ? NULL : &out, err);

    (void)at;
    if (view != NULL)
        *view = out;
    return status;
}

static credstore_status get(credstore *store, const credstore_call *call, const test_at *at,
                            const void **view, credstore_error *err)
{
    const credstore_webhook_endpoint *out = NULL;
    const credstore_status status =
        credstore_webhook_endpoint_get(store, call, at->id, view == NULL ? NULL : &out, err);

    if (view != NULL)
        *view = out;
    return status;
}

static credstore_status update(credstore *store, const credstore_call *call, const test_at *at,
                               const void *patch, const void **view, credstore_error *err)
{
    const credstore_webhook_endpoint *out = NULL;
    const credstore_status status = credstore_webhook_endpoint_update(
        store, call, at->id, patch, view == NULL ? NULL : &out, err);

    if (view != NULL)
        *view = out;
    return status;
}

static credstore_status reveal(credstore *store, const credstore_call *call, const test_at *at,
                               uint32_t field, credstore_secret **out, credstore_error *err)
{
    return credstore_webhook_endpoint_reveal(store, call, at->id, field, out, err);
}

static const test_kind kinds[] = {
    {&cs_kind_webhook_endpoint, "orders", create, get, update, reveal},
};

/* Its documents, byte for byte, and beside the four others in one store. */
static void test_beside_the_others(test_world *w)
{
    static const char sent[] =
        "{\"url\":\"https://hooks.example.org/in\",\"signing_secret\":\"s3cret\","
        "\"quiet_until\":\"2024-01-01T00:00:00Z\",\"permissions\":[\"users:list\"]}";
    static const char expected[] =
        "{\"id\":\"orders\",\"url\":\"https://hooks.example.org/in\",\"signed\":true,"
        "\"enabled\":true,\"quiet_until\":\"2024-01-01T00:00:00Z\","
        "\"permissions\":[\"users:list\"],\"created_at\":\"2023-11-14T22:13:20.000Z\","
        "\"updated_at\":\"2023-11-14T22:13:20.000Z\"}";
    static const char cleared[] =
        "{\"id\":\"orders\",\"url\":\"https://hooks.example.org/in\",\"signed\":false,"
        "\"enabled\":false,\"permissions\":[],\"created_at\":\"2023-11-14T22:13:20.000Z\","
        "\"updated_at\":\"2023-11-14T22:13:20.000Z\"}";
    credstore_request request = test_request(&kinds[0], CREDSTORE_VERB_CREATE, &w->root, sent);
    const credstore_answer *answer = credstore_handle(w->t.store, &request);

    assert_string_equal(answer->body, expected);
    assert_int_equal(answer->http_status, 201);
    credstore_answer_free(answer);
    for (size_t i = 0; i < test_kind_count; i++)
        credstore_free(test_make(&w->t, &test_kinds[i], &w->root, 1));
    request.verb = CREDSTORE_VERB_UPDATE;
    request.body = test_slice("{\"enabled\":false,\"signing_secret\":null,\"quiet_until\":null,"
                              "\"permissions\":null}");
    answer = credstore_handle(w->t.store, &request);
    assert_string_equal(answer->body, cleared);
    credstore_answer_free(answer);
    for (size_t i = 0; i < test_kind_count; i++) {
        const void *view = test_get(&w->t, &test_kinds[i], &w->root);

        test_assert_all(&test_kinds[i], view, 1);
        credstore_free(view);
    }
}

static const test_row rows[] = {{"beside the others", test_beside_the_others}};

int main(void)
{
    const int failed = kind_contract_run(kinds, 1);

    return failed + test_run("fifth kind", NULL, 0, rows, 1);
}
