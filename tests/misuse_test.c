/* SPDX-License-Identifier: MIT
 *
 * Misuse is answered by the name of what is at fault: an argument that is missing, a member that is
 * set, a list that is no list.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "credstore.h"

static const char project[] = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
static const credstore_permission catalogue[] = {{"pay:read", "pay", "read"}};

typedef struct setting {
    credstore *store;
    credstore_actor host, admin;
    credstore_call call, as_admin;
    credstore_error err;
} setting;

static int set_up(void **state)
{
    static setting s;
    const credstore_options options = {
        .struct_size = sizeof options, .catalogue = catalogue, .catalogue_count = 1};

    s = (setting){
        .host = {sizeof s.host, CREDSTORE_ACTOR_SYSTEM, .id = "host", .tenant = "acme"},
        .admin = {sizeof s.admin, CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, .id = "ada",
                  .tenant = "acme"},
        .call = {.struct_size = sizeof s.call, .actor = &s.host},
        .as_admin = {.struct_size = sizeof s.call, .actor = &s.admin},
    };
    *state = &s;
    return credstore_open(NULL, &options, &s.store, &s.err) != CREDSTORE_OK ||
           credstore_actor_grant(s.store, &s.admin, "pay:read", &s.err) != CREDSTORE_OK;
}

static int tear_down(void **state)
{
    credstore_close(((setting *)*state)->store);
    return 0;
}

static void expect_invalid(const setting *s, credstore_status status, const char *field)
{
    assert_int_equal(status, CREDSTORE_E_INVALID);
    assert_int_equal(s->err.status, CREDSTORE_E_INVALID);
    assert_string_equal(s->err.field, field);
}

static void a_missing_argument_is_named(void **state)
{
    setting *s = *state;
    credstore_secret_text fresh = CREDSTORE_SECRET("sk_test_1", CREDSTORE_NTS);
    credstore_actor who = {0};
    const credstore_leaks *leaks = NULL;

    expect_invalid(s, credstore_actor_grant(s->store, NULL, "pay:read", &s->err), "actor");
    expect_invalid(s, credstore_actor_grant(s->store, &who, NULL, &s->err), "permission");
    expect_invalid(s, credstore_api_key_verify(s->store, "key_x", 5, NULL, &s->err), "out");
    expect_invalid(s, credstore_api_key_verify(s->store, NULL, 5, &who, &s->err), "token");
    expect_invalid(s, credstore_service_credential_verify(s->store, "x", 1, NULL, &s->err), "out");
    expect_invalid(s, credstore_leak_find(s->store, &s->call, "text", 4, NULL, &s->err), "out");
    expect_invalid(s, credstore_leak_find(s->store, &s->call, NULL, 4, &leaks, &s->err), "text");
    expect_invalid(s,
                   credstore_stripe_roll(s->store, &s->call, project,
                                         CREDSTORE_STRIPE_TEST_SECRET_KEY, NULL, 0, NULL, &s->err),
                   "fresh");
    for (fresh.op = CREDSTORE_KEEP; fresh.op <= 3; fresh.op += fresh.op == 0 ? 2 : 1)
        expect_invalid(s,
                       credstore_stripe_roll(s->store, &s->call, project,
                                             CREDSTORE_STRIPE_TEST_SECRET_KEY, &fresh, 0, NULL,
                                             &s->err),
                       "fresh");
    expect_invalid(s,
                   credstore_stripe_roll(s->store, &s->call, project,
                                         CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY, &fresh, 0, NULL,
                                         &s->err),
                   "field");
}

static void a_reserved_member_is_not_called_a_role(void **state)
{
    setting *s = *state;
    const credstore_stripe_patch patch = {.struct_size = sizeof patch};

    s->host.reserved = 1;
    expect_invalid(s, credstore_stripe_update(s->store, &s->call, project, &patch, NULL, &s->err),
                   "actor");
    assert_non_null(strstr(s->err.message, "reserved"));
    s->host.reserved = 0;
    s->host.roles = 4;
    expect_invalid(s, credstore_stripe_update(s->store, &s->call, project, &patch, NULL, &s->err),
                   "actor");
    assert_non_null(strstr(s->err.message, "role"));
}

/* A count that cannot be one, as a negative number is, ends before the first item is looked at. */
static void a_count_without_end_is_refused(void **state)
{
    setting *s = *state;
    const char *const items[] = {"pay:read"};
    const size_t counts[] = {SIZE_MAX, SIZE_MAX / sizeof *items + 1, 65537};

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                               .description = CREDSTORE_TEXT("a key"),
                                               .permissions = CREDSTORE_STRINGS(items, counts[i])};

        expect_invalid(
            s, credstore_api_key_create(s->store, &s->as_admin, NULL, &patch, NULL, &s->err),
            "flatPermissionsList");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_missing_argument_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reserved_member_is_not_called_a_role, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_count_without_end_is_refused, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
