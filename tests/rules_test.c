/* SPDX-License-Identifier: MIT
 *
 * The default policy by itself: every sort of asker against every rule, in a table written from the
 * rules in words; actors that can ask nothing; grants. How calls and the door use it is in
 * policy_test.
 */
#include "fixture.h"

#include "error.h"
#include "policy.h"

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

/* ---- the table ---- */

enum { USER = CREDSTORE_ACTOR_USER, KEY = CREDSTORE_ACTOR_API_KEY };
enum { SERVICE = CREDSTORE_ACTOR_SERVICE, SYSTEM = CREDSTORE_ACTOR_SYSTEM };
enum { ADMIN = CREDSTORE_ROLE_ADMIN, SUPER = CREDSTORE_ROLE_SUPER };

/* All ask for something of the tenant acme. Holders hold every permission of the catalogue. */
static const struct {
    const char *what;
    uint32_t type, roles;
    const char *tenant;
    bool holder;
} askers[] = {
    {"system", SYSTEM, 0, "acme", false},
    {"system of no tenant", SYSTEM, 0, "", false},
    {"administrator", USER, ADMIN, "acme", false},
    {"administrator of another", USER, ADMIN, "acme2", false},
    {"super user", USER, SUPER, "other", false},
    {"super service", SERVICE, SUPER, "other", false},
    {"member", USER, 0, "acme", false},
    {"stranger", USER, 0, "ACME", false},
    {"holder", USER, 0, "acme", true},
    {"holder of another", USER, 0, "acm", true},
    {"key that holds", KEY, 0, "acme", true},
    {"key", KEY, 0, "acme", false},
    {"key with roles", KEY, ADMIN | SUPER, "acme", false},
    {"service as administrator", SERVICE, ADMIN, "acme", false},
    {"service that holds", SERVICE, 0, "acme", true},
    {"member of nothing", USER, 0, "", true},
};
enum { ASKERS = sizeof askers / sizeof *askers };

/* One character an asker. */
static const struct {
    uint32_t kind;
    cs_class cls;
    const char *may;
} rules[] = {
    {CREDSTORE_KIND_CHECKBOOK, CS_CHANGE, "1100110010100010"},
    {CREDSTORE_KIND_CHECKBOOK, CS_READ, "1100110010100010"},
    {CREDSTORE_KIND_CHECKBOOK, CS_REVEAL, "1100000010100010"},
    {CREDSTORE_KIND_STRIPE, CS_CHANGE, "1110110010100110"},
    {CREDSTORE_KIND_STRIPE, CS_READ, "1110111010111110"},
    {CREDSTORE_KIND_STRIPE, CS_REVEAL, "1100000010100010"},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, CS_CHANGE, "0010110010100110"},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, CS_READ, "1010111010111110"},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, CS_REVEAL, "0000000000000000"},
    {CREDSTORE_KIND_API_KEY, CS_CHANGE, "0010100000000000"},
    {CREDSTORE_KIND_API_KEY, CS_READ, "1010101010111110"},
    {CREDSTORE_KIND_API_KEY, CS_REVEAL, "0000000000000000"},
};

static credstore_actor asker_of(const credstore *store, size_t i)
{
    credstore_actor actor = fx_actor(askers[i].type, askers[i].roles, "somebody", askers[i].tenant);
    credstore_error err;

    for (size_t p = 0; p < FX_COUNT(fx_catalogue) && askers[i].holder; p++)
        fx_ok(credstore_actor_grant(store, &actor, fx_catalogue[p].id, &err), &err);
    return actor;
}

static void test_who_may(void **state)
{
    bench *b = *state;

    for (size_t r = 0; r < FX_COUNT(rules); r++) {
        const cs_kind *kind = cs_kind_find(rules[r].kind);

        assert_int_equal(strlen(rules[r].may), ASKERS);
        for (size_t i = 0; i < ASKERS; i++) {
            const credstore_actor actor = asker_of(b->store, i);
            const bool may = rules[r].may[i] == '1';
            credstore_error err = {0};
            const credstore_status status =
                cs_policy_may(b->store, &actor, kind, rules[r].cls, "acme", true, &err);

            if (may != (status == CREDSTORE_OK))
                print_error("%s, %s, class %d\n", kind->name, askers[i].what, (int)rules[r].cls);
            assert_int_equal(status, may ? CREDSTORE_OK : CREDSTORE_E_FORBIDDEN);
            assert_int_equal(err.status, status);
        }
    }
}

/* One permission opens the one door that it names. */
static void test_one_permission_each(void **state)
{
    static const struct {
        const char *permission;
        uint32_t kind;
        const char *may; /* change, read, reveal */
    } rows[] = {
        {"checkbook:update", CREDSTORE_KIND_CHECKBOOK, "110"},
        {"checkbook:read", CREDSTORE_KIND_CHECKBOOK, "010"},
        {"checkbook:reveal", CREDSTORE_KIND_CHECKBOOK, "001"},
        {"stripe:update", CREDSTORE_KIND_CHECKBOOK, "000"},
        {"stripe:update", CREDSTORE_KIND_STRIPE, "110"},
        {"stripe:reveal", CREDSTORE_KIND_STRIPE, "011"},
        {"checkbook:update", CREDSTORE_KIND_STRIPE, "010"}, /* as a member */
        {"service_credentials:update", CREDSTORE_KIND_SERVICE_CREDENTIAL, "110"},
        {"stripe:update", CREDSTORE_KIND_SERVICE_CREDENTIAL, "010"},
    };
    bench *b = *state;

    for (size_t r = 0; r < FX_COUNT(rows); r++)
        for (int cls = CS_CHANGE; cls < CS_CLASSES; cls++) {
            credstore_actor actor = fx_actor(SERVICE, 0, "somebody", "acme");
            credstore_error err;

            fx_ok(credstore_actor_grant(b->store, &actor, rows[r].permission, &err), &err);
            assert_int_equal(cs_policy_may(b->store, &actor, cs_kind_find(rows[r].kind),
                                           (cs_class)cls, "acme", true, &err),
                             rows[r].may[cls] == '1' ? CREDSTORE_OK : CREDSTORE_E_FORBIDDEN);
        }
}

/* No tenant is nobody's own: not even of an actor without one. */
static void test_no_tenant(void **state)
{
    bench *b = *state;
    credstore_actor nobody = fx_actor(USER, ADMIN, "somebody", "");
    credstore_error err;

    memset(nobody.permissions, 0xff, sizeof nobody.permissions);
    for (size_t k = 0; k < cs_kind_count; k++)
        for (int cls = CS_CHANGE; cls < CS_CLASSES; cls++)
            assert_int_equal(
                cs_policy_may(b->store, &nobody, cs_kinds[k], (cs_class)cls, "", true, &err),
                CREDSTORE_E_FORBIDDEN);
}

/* A permission that the host's catalogue does not have is nobody's. */
static void test_permission_not_in_catalogue(void **state)
{
    bench *b = *state;
    credstore_actor all = fx_actor(SERVICE, 0, "somebody", "acme");
    credstore_error err;

    credstore_close(b->store);
    b->f.options.catalogue_count = 2;
    b->store = fx_open(&b->f);
    memset(all.permissions, 0xff, sizeof all.permissions);
    assert_int_equal(cs_policy_may(b->store, &all, cs_kind_find(CREDSTORE_KIND_CHECKBOOK),
                                   CS_CHANGE, "acme", true, &err),
                     CREDSTORE_E_FORBIDDEN);
}

/* ---- actors that can ask nothing ---- */

static void test_actors(void **state)
{
    static const struct {
        const char *id, *tenant;
        credstore_status status;
    } texts[] = {
        {"grace", "acme", CREDSTORE_OK},        {"grace", "", CREDSTORE_OK},
        {"!~", "A.z_0~-", CREDSTORE_OK},        {"", "acme", CREDSTORE_E_INVALID},
        {"gr ace", "a", CREDSTORE_E_INVALID},   {"gr\nace", "a", CREDSTORE_E_INVALID},
        {"\x7f", "a", CREDSTORE_E_INVALID},     {"gr\xc3\xa4", "a", CREDSTORE_E_INVALID},
        {"a", "a b", CREDSTORE_E_INVALID},      {"a", "a/b", CREDSTORE_E_INVALID},
        {"a", "\xc3\xa4", CREDSTORE_E_INVALID},
    };
    credstore_error err = {0};
    credstore_actor actor;

    (void)state;
    fx_fails(cs_policy_actor(NULL, FX_NOW, &err), CREDSTORE_E_UNAUTHENTICATED, &err);
    for (size_t i = 0; i < FX_COUNT(texts); i++) {
        actor = fx_actor(USER, 0, texts[i].id, texts[i].tenant);
        cs_error_clear(&err);
        assert_int_equal(cs_policy_actor(&actor, FX_NOW, &err), texts[i].status);
        assert_int_equal(err.status, texts[i].status);
        assert_string_equal(err.field, texts[i].status == CREDSTORE_OK ? "" : "actor");
    }
    for (uint32_t type = 0; type < 8; type++) {
        actor = fx_actor(type, 0, "grace", "acme");
        cs_error_clear(&err);
        assert_int_equal(cs_policy_actor(&actor, FX_NOW, &err),
                         type >= USER && type <= SYSTEM ? CREDSTORE_OK : CREDSTORE_E_INVALID);
    }
    for (uint32_t roles = 0; roles < 16; roles++) {
        actor = fx_actor(USER, roles, "grace", "acme");
        assert_int_equal(cs_policy_actor(&actor, FX_NOW, NULL),
                         roles < 4 ? CREDSTORE_OK : CREDSTORE_E_INVALID);
    }
    actor = fx_actor(USER, 0, "grace", "acme");
    actor.reserved = 1;
    assert_int_equal(cs_policy_actor(&actor, FX_NOW, NULL), CREDSTORE_E_INVALID);
}

static void test_long_actors(void **state)
{
    credstore_actor actor = fx_actor(USER, 0, "", "");

    (void)state;
    memset(actor.id, 'x', sizeof actor.id - 1);
    memset(actor.tenant, 'x', sizeof actor.tenant - 1);
    assert_int_equal(cs_policy_actor(&actor, FX_NOW, NULL), CREDSTORE_OK);
    actor.id[sizeof actor.id - 1] = 'x'; /* no end */
    assert_int_equal(cs_policy_actor(&actor, FX_NOW, NULL), CREDSTORE_E_INVALID);
    actor.id[sizeof actor.id - 1] = '\0';
    actor.tenant[sizeof actor.tenant - 1] = 'x';
    assert_int_equal(cs_policy_actor(&actor, FX_NOW, NULL), CREDSTORE_E_INVALID);
}

static void test_expiry(void **state)
{
    static const struct {
        int64_t at;
        credstore_status status;
    } rows[] = {
        {0, CREDSTORE_OK},
        {FX_NOW + 1, CREDSTORE_OK},
        {INT64_MAX, CREDSTORE_OK},
        {FX_NOW, CREDSTORE_E_EXPIRED},
        {FX_NOW - 1, CREDSTORE_E_EXPIRED},
        {1, CREDSTORE_E_EXPIRED},
        {-1, CREDSTORE_E_EXPIRED},
        {INT64_MIN, CREDSTORE_E_EXPIRED},
    };

    (void)state;
    for (size_t i = 0; i < FX_COUNT(rows); i++) {
        credstore_actor actor = fx_actor(USER, 0, "grace", "acme");

        actor.expires_at = rows[i].at;
        assert_int_equal(cs_policy_actor(&actor, FX_NOW, NULL), rows[i].status);
    }
}

/* ---- nobody grants what he does not hold ---- */

static void test_grants(void **state)
{
    credstore_error err = {0};

    (void)state;
    for (unsigned n = 0; n < CS_CATALOGUE_MAX; n += 37) {
        credstore_actor actor = fx_actor(USER, ADMIN, "grace", "acme");
        uint8_t before[64] = {0}, after[64] = {0};

        cs_bit_set(after, n);
        cs_error_clear(&err);
        fx_fails(cs_policy_grants(&actor, NULL, after, "flatPermissionsList", &err),
                 CREDSTORE_E_FORBIDDEN, &err);
        assert_string_equal(err.field, "flatPermissionsList");
        fx_fails(cs_policy_grants(&actor, before, after, "x", &err), CREDSTORE_E_FORBIDDEN, &err);
        cs_bit_set(before, n); /* what was there may stay, and be taken away */
        cs_error_clear(&err);
        fx_ok(cs_policy_grants(&actor, before, after, "x", &err), &err);
        memset(after, 0, sizeof after);
        fx_ok(cs_policy_grants(&actor, before, after, "x", &err), &err);
        memset(before, 0, sizeof before);
        cs_bit_set(after, n);
        actor.permissions[n / 64] = UINT64_C(1) << (n % 64);
        fx_ok(cs_policy_grants(&actor, before, after, "x", &err), &err);
    }
}

static void test_actor_grant(void **state)
{
    bench *b = *state;
    credstore_actor actor = fx_actor(USER, 0, "grace", "acme");
    credstore_error err;

    fx_ok(credstore_actor_grant(b->store, &actor, "checkbook:update", &err), &err);
    assert_true(actor.permissions[0] == UINT64_C(1) << 2);
    fx_fails(credstore_actor_grant(b->store, &actor, "checkbook:", &err), CREDSTORE_E_INVALID,
             &err);
    fx_fails(credstore_actor_grant(b->store, &actor, "", &err), CREDSTORE_E_INVALID, &err);
    fx_fails(credstore_actor_grant(b->store, &actor, NULL, &err), CREDSTORE_E_INVALID, &err);
    fx_fails(credstore_actor_grant(b->store, NULL, "checkbook:read", &err), CREDSTORE_E_INVALID,
             &err);
    fx_fails(credstore_actor_grant(NULL, &actor, "checkbook:read", &err), CREDSTORE_E_INVALID,
             &err);
    assert_true(actor.permissions[0] == UINT64_C(1) << 2);
}

static void test_permit(void **state)
{
    bench *b = *state;
    credstore_actor actor = fx_actor(USER, 0, "grace", "acme");
    credstore_error err;

    assert_int_equal(credstore_permit(b->store, &actor, "checkbook:read"), 0);
    fx_ok(credstore_actor_grant(b->store, &actor, "checkbook:read", &err), &err);
    assert_int_equal(credstore_permit(b->store, &actor, "checkbook:read"), 1);
    assert_int_equal(credstore_permit(b->store, &actor, "checkbook:update"), 0);
    assert_int_equal(credstore_permit(b->store, &actor, "unknown"), 0);
    assert_int_equal(credstore_permit(b->store, &actor, NULL), 0);
    assert_int_equal(credstore_permit(b->store, NULL, "checkbook:read"), 0);
    assert_int_equal(credstore_permit(NULL, &actor, "checkbook:read"), 0);
    actor.expires_at = FX_NOW + 10;
    assert_int_equal(credstore_permit(b->store, &actor, "checkbook:read"), 1);
    b->f.now += 10;
    assert_int_equal(credstore_permit(b->store, &actor, "checkbook:read"), 0);
    actor.expires_at = 0;
    actor.type = 9;
    assert_int_equal(credstore_permit(b->store, &actor, "checkbook:read"), 0);
}

/* ---- what a call sees ---- */

/* A super user names the tenant; else he is no more than another user of his own. */
static void test_super_names_the_tenant(void **state)
{
    bench *b = *state;
    const credstore_actor super = fx_actor(USER, SUPER, "root", "");
    const credstore_actor own = fx_actor(USER, SUPER, "root", "acme");
    const credstore_actor both = fx_actor(USER, SUPER | ADMIN, "root", "acme");
    credstore_call call = fx_call(&super);
    const credstore_checkbook *view = NULL;
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_fails(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_FORBIDDEN,
             &err);
    assert_string_equal(err.field, "tenant");
    call.actor = &own;
    fx_fails(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_FORBIDDEN,
             &err);
    fx_fails(credstore_stripe_deactivate(b->store, &call, FX_PROJECT, NULL, &err),
             CREDSTORE_E_FORBIDDEN, &err);
    call.actor = &both;
    fx_fails(credstore_stripe_deactivate(b->store, &call, FX_PROJECT, NULL, &err),
             CREDSTORE_E_NOT_FOUND, &err); /* an administrator of his own tenant */
    fx_fails(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_FORBIDDEN,
             &err);
    call.actor = &super;
    call.tenant = "other";
    fx_fails(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_NOT_FOUND,
             &err);
    call.tenant = "acme";
    fx_ok(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), &err);
    credstore_free(view);
}

static credstore_status make_key(bench *b, const char *id, int64_t expires_at,
                                 const char *const *permissions, size_t count, credstore_error *err)
{
    credstore_actor admin = fx_actor(USER, ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&admin);
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_api_key_patch patch = {
        .struct_size = sizeof patch,
        .description = CREDSTORE_TEXT("a key"),
        .permissions = CREDSTORE_STRINGS(permissions, count),
        .expires_at = {expires_at, expires_at == 0 ? CREDSTORE_CLEAR : CREDSTORE_SET, 0},
    };

    for (size_t i = 0; i < count; i++)
        fx_ok(credstore_actor_grant(b->store, &admin, permissions[i], err), err);
    return credstore_api_key_create(b->store, &call, &origin, &patch, NULL, err);
}

/* The same key, said to be another tenant's. */
static void test_key_of_another_tenant(void **state)
{
    const char *const updates[] = {"checkbook:update"};
    bench *b = *state;
    credstore_actor key = fx_actor(KEY, 0, "key-1", "acme2");
    const credstore_call call = fx_call(&key);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = FX_KSUID};
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("publishable"),
        .secret_key = CREDSTORE_SECRET("theirs", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io"),
    };
    credstore_error err;

    fx_ok(make_key(b, "key-1", 0, updates, 1, &err), &err);
    memset(key.permissions, 0xff, sizeof key.permissions);
    fx_fails(credstore_checkbook_create(b->store, &call, &origin, &patch, NULL, &err),
             CREDSTORE_E_UNAUTHENTICATED, &err);
    fx_get_fails(b->store, FX_KSUID, CREDSTORE_E_NOT_FOUND);
}

static void test_granting_through_a_call(void **state)
{
    const char *const both[] = {"readApplications", "writeApplications"};
    const char *const one[] = {"writeApplications"};
    bench *b = *state;
    credstore_actor admin = fx_actor(USER, ADMIN, "ada", "acme");
    const credstore_call call = fx_call(&admin);
    credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                     .permissions = CREDSTORE_STRINGS(both, 2)};
    const credstore_api_key *view = NULL;
    credstore_error err;

    fx_ok(make_key(b, "key-1", 0, one, 1, &err), &err);
    fx_fails(credstore_api_key_update(b->store, &call, "key-1", &patch, NULL, &err),
             CREDSTORE_E_FORBIDDEN, &err);
    assert_string_equal(err.field, "flatPermissionsList");
    fx_ok(credstore_actor_grant(b->store, &admin, "readApplications", &err), &err);
    fx_ok(credstore_api_key_update(b->store, &call, "key-1", &patch, &view, &err), &err);
    assert_int_equal(view->permission_count, 2); /* the other one was there already */
    credstore_free(view);
    patch.permissions.count = 0;
    memset(admin.permissions, 0, sizeof admin.permissions);
    fx_ok(credstore_api_key_update(b->store, &call, "key-1", &patch, &view, &err), &err);
    assert_int_equal(view->permission_count, 0);
    credstore_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_may, begin, end),
        cmocka_unit_test_setup_teardown(test_one_permission_each, begin, end),
        cmocka_unit_test_setup_teardown(test_no_tenant, begin, end),
        cmocka_unit_test_setup_teardown(test_permission_not_in_catalogue, begin, end),
        cmocka_unit_test(test_actors),
        cmocka_unit_test(test_long_actors),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_grants),
        cmocka_unit_test_setup_teardown(test_actor_grant, begin, end),
        cmocka_unit_test_setup_teardown(test_permit, begin, end),
        cmocka_unit_test_setup_teardown(test_super_names_the_tenant, begin, end),
        cmocka_unit_test_setup_teardown(test_key_of_another_tenant, begin, end),
        cmocka_unit_test_setup_teardown(test_granting_through_a_call, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
