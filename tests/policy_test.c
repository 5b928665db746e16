/* SPDX-License-Identifier: MIT
 *
 * Who may do what: the default policy against a table of its own, grants, and API keys as actors.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN, FOREIGN, NONE, RELATIONS };
enum { NO_PERMISSION, UPDATE, READ, REVEAL, PERMISSIONS };
static const char *const tenants[RELATIONS] = {TEST_TENANT, "other", ""};
static const char *const key_ids[RELATIONS] = {"key-of-acme", "key-of-other", "key-of-none"};

/* What the design's table says, once more and in other words: who, or the permissions that do. */
enum {
    SYSTEM = 1,
    SUPER = 2,     /* a person who is administrator of all */
    ADMIN = 4,     /* a person who is administrator here */
    MEMBER = 8,    /* anybody of the tenant */
    USER_ONLY = 16 /* and a user's session */
};
typedef struct rule {
    unsigned who;
    const char *permission, *other_permission;
} rule;

static const struct {
    uint32_t kind;
    rule change, read, reveal;
    const char *permissions[PERMISSIONS]; /* that mean something, or might */
} table[] = {
    {CREDSTORE_KIND_CHECKBOOK,
     {SYSTEM | SUPER, "checkbook:update", NULL},
     {SYSTEM | SUPER, "checkbook:update", "checkbook:read"},
     {SYSTEM, "checkbook:reveal", NULL},
     {NULL, "checkbook:update", "checkbook:read", "checkbook:reveal"}},
    {CREDSTORE_KIND_STRIPE,
     {SYSTEM | SUPER | ADMIN, "stripe:update", NULL},
     {SYSTEM | SUPER | MEMBER, "stripe:update", NULL},
     {SYSTEM, "stripe:reveal", NULL},
     {NULL, "stripe:update", "checkbook:read", "stripe:reveal"}},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL,
     {SUPER | ADMIN, "service_credentials:update", NULL},
     {SUPER | MEMBER, NULL, NULL},
     {0, NULL, NULL},
     {NULL, "service_credentials:update", "checkbook:update", "stripe:reveal"}},
    {CREDSTORE_KIND_API_KEY,
     {SUPER | ADMIN | USER_ONLY, NULL, NULL},
     {MEMBER, NULL, NULL}, /* or who may change */
     {0, NULL, NULL},
     {NULL, "service_credentials:update", "readApplications", "checkbook:reveal"}},
};

typedef struct asker {
    credstore_actor actor;
    int relation;
    const char *permission; /* the one that it holds, or NULL */
} asker;

static bool is_held(const asker *a, const char *permission)
{
    return permission != NULL && a->permission != NULL && strcmp(permission, a->permission) == 0;
}

static bool lets(const rule *r, const asker *a)
{
    const bool user = a->actor.type == CREDSTORE_ACTOR_USER;
    const bool person = a->actor.type != CREDSTORE_ACTOR_API_KEY;
    const bool super = person && (a->actor.roles & CREDSTORE_ROLE_SUPER) != 0;
    const bool admin = person && (a->actor.roles & CREDSTORE_ROLE_ADMIN) != 0;

    if ((r->who & USER_ONLY) != 0 && !user)
        return false;
    return ((r->who & SYSTEM) != 0 && a->actor.type == CREDSTORE_ACTOR_SYSTEM) ||
           ((r->who & SUPER) != 0 && super) ||
           ((r->who & ADMIN) != 0 && admin && a->relation == OWN) ||
           ((r->who & MEMBER) != 0 && a->relation == OWN) ||
           (a->relation == OWN && (is_held(a, r->permission) || is_held(a, r->other_permission)));
}

/* ---- the table ---- */

static void make_key(const test_world *w, const char *tenant, const char *id,
                     const char *const *items, size_t count)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = &w->root, .tenant = tenant};
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("key"),
                                           .permissions = CREDSTORE_STRINGS(items, count)};
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_api_key_create(w->t.store, &call, &origin, &patch, NULL, &err), &err);
}

static void make_wide_keys(const test_world *w)
{
    const char *items[64];

    for (size_t i = 0; i < test_catalogue_count; i++)
        items[i] = test_catalogue[i].id;
    make_key(w, TEST_TENANT, key_ids[OWN], items, test_catalogue_count);
    make_key(w, "other", key_ids[FOREIGN], items, test_catalogue_count);
}

static void assert_lets(bool expected, credstore_status got, const credstore_error *err,
                        const test_world *w, const asker *a, const char *verb)
{
    if (expected == (got == CREDSTORE_OK) && (expected || got == CREDSTORE_E_FORBIDDEN))
        return;
    print_error("%s of %s by type %u, roles %u, tenant \"%s\", permission %s: %s (%s)\n", verb,
                w->k->kind->name, a->actor.type, a->actor.roles, a->actor.tenant,
                a->permission == NULL ? "none" : a->permission, credstore_status_name((int32_t)got),
                err->message);
    fail();
}

static void try_create(const test_world *w, const asker *a, const credstore_call *call, bool may)
{
    static unsigned made; /* so that each project is a new one */
    char project[37];
    test_at at = w->at;
    const void *view = NULL;
    credstore_error err;
    test_patch patch;

    snprintf(project, sizeof project, "00000000-0000-4000-8000-%012u", ++made);
    at.id = project;
    test_patch_begin(w->k, &patch);
    for (size_t i = 0; i < w->k->kind->field_count; i++) /* no grants: they have a test below */
        if (test_in_patch(&w->k->kind->fields[i]))
            test_patch_set(w->k, &patch, i, 1);
    if (w->k->kind->id == CREDSTORE_KIND_API_KEY)
        ((credstore_api_key_patch *)(void *)patch.u.bytes)->permissions.count = 0;
    assert_lets(may, w->k->create(w->t.store, call, &at, NULL, patch.u.bytes, &view, &err), &err, w,
                a, "create");
    credstore_free(view);
}

/* The door says the same with its 403, and before it looks at the body. */
static void try_door(const test_world *w, const asker *a, uint32_t verb, bool may)
{
    const credstore_request request = test_request(w->k, verb, &a->actor, may ? "{}" : "{,");
    const credstore_answer *answer = credstore_handle(w->t.store, &request);
    const bool needs_members =
        verb != CREDSTORE_VERB_GET &&
        (w->k->kind->id == CREDSTORE_KIND_API_KEY || verb == CREDSTORE_VERB_CREATE);

    if (!may)
        assert_int_equal(answer->http_status, 403);
    else if (needs_members) /* {} is too little, or the record is there */
        assert_in_range(answer->http_status, 400, 409);
    else
        assert_int_equal(answer->http_status, 200);
    assert_true(may || answer->status == CREDSTORE_E_FORBIDDEN);
    assert_true(!may || answer->http_status != 403);
    credstore_answer_free(answer);
}

static void try_all(const test_world *w, const asker *a, size_t row)
{
    const credstore_call call = {
        .struct_size = sizeof call, .actor = &a->actor, .tenant = TEST_TENANT};
    const bool may_change = lets(&table[row].change, a);
    const bool may_read = may_change || lets(&table[row].read, a);
    credstore_secret *secret = NULL;
    const void *view = NULL;
    credstore_error err;
    test_patch patch;

    test_patch_begin(w->k, &patch);
    try_create(w, a, &call, may_change);
    assert_lets(may_change, w->k->update(w->t.store, &call, &w->at, patch.u.bytes, NULL, &err),
                &err, w, a, "update");
    assert_lets(may_read, w->k->get(w->t.store, &call, &w->at, &view, &err), &err, w, a, "get");
    credstore_free(view);
    if (w->k->reveal != NULL)
        assert_lets(lets(&table[row].reveal, a),
                    w->k->reveal(w->t.store, &call, &w->at,
                                 w->k->kind->id == CREDSTORE_KIND_STRIPE
                                     ? CREDSTORE_STRIPE_TEST_SECRET_KEY
                                     : CREDSTORE_CHECKBOOK_SECRET_KEY,
                                 &secret, &err),
                    &err, w, a, "reveal");
    credstore_secret_free(secret);
    try_door(w, a, CREDSTORE_VERB_GET, may_read);
    try_door(w, a, CREDSTORE_VERB_UPDATE, may_change);
    try_door(w, a, CREDSTORE_VERB_CREATE, may_change);
}

static void test_policy(test_world *w)
{
    const void *made = test_make(&w->t, w->k, &w->root, 1);
    size_t row = 0;

    make_wide_keys(w);
    while (table[row].kind != w->k->kind->id)
        row++;
    for (uint32_t type = CREDSTORE_ACTOR_USER; type <= CREDSTORE_ACTOR_SYSTEM; type++)
        for (uint32_t roles = 0; roles < 4; roles++)
            for (int p = 0; p < PERMISSIONS; p++)
                for (int relation = 0; relation < RELATIONS; relation++) {
                    asker a = {.relation = relation, .permission = table[row].permissions[p]};

                    a.actor = test_actor(type, roles, key_ids[relation], tenants[relation]);
                    if (a.permission != NULL)
                        test_grant(w->t.store, &a.actor, a.permission);
                    try_all(w, &a, row);
                }
    credstore_free(made);
}

/* Whoever may ask must say of which tenant; whoever may not is told that alone. */
static void test_no_tenant(test_world *w)
{
    const struct {
        uint32_t type, roles;
    } of_none[] = {
        {CREDSTORE_ACTOR_USER, 0},
        {CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN},
        {CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_SUPER},
        {CREDSTORE_ACTOR_SERVICE, 0},
        {CREDSTORE_ACTOR_SYSTEM, 0},
    };

    for (size_t i = 0; i < sizeof of_none / sizeof *of_none; i++) {
        const credstore_actor actor = test_actor(of_none[i].type, of_none[i].roles, "x", "");
        const asker a = {actor, NONE, NULL};
        const credstore_call call = test_call(&actor);
        const test_at at = {NULL, TEST_PARENT, w->k->id};
        const void *view = &view;
        const bool above = (of_none[i].roles & CREDSTORE_ROLE_SUPER) != 0;
        const bool nameless =
            (w->k->kind->flags & CS_TENANT_IS_PATH) == 0; /* SUPER is for naught */
        size_t row = 0;
        credstore_error err;
        credstore_status expected;

        while (table[row].kind != w->k->kind->id)
            row++;
        expected =
            !(above && nameless) && (lets(&table[row].read, &a) || lets(&table[row].change, &a))
                ? CREDSTORE_E_INVALID
                : CREDSTORE_E_FORBIDDEN;
        assert_status(expected, w->k->get(w->t.store, &call, &at, &view, &err), &err);
        assert_string_equal(
            err.field, expected == CREDSTORE_E_INVALID || above ? w->k->kind->tenant_name : "");
        assert_null(view);
    }
}

/* A caller who may not is not told what is wrong with the rest. */
static void test_forbidden_comes_first(test_world *w)
{
    const credstore_actor actor = test_actor(CREDSTORE_ACTOR_SERVICE, 0, "x", "other");
    credstore_call call = {
        .struct_size = sizeof call, .actor = &actor, .tenant = TEST_TENANT, .request_id = "\n"};
    const test_at bad = {TEST_TENANT, "/", "/"};
    const void *view = &view;
    credstore_secret *secret;
    credstore_error err, first;
    test_patch patch;

    test_patch_begin(w->k, &patch);
    memset(patch.u.bytes + 8, 0xff, w->k->kind->patch_size - 8u); /* every slot is bad */
    assert_status(CREDSTORE_E_FORBIDDEN, w->k->get(w->t.store, &call, &bad, &view, &first), &first);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  w->k->update(w->t.store, &call, &bad, patch.u.bytes, &view, &err), &err);
    assert_memory_equal(&first, &err, sizeof err);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  w->k->create(w->t.store, &call, &bad, NULL, patch.u.bytes, &view, &err), &err);
    assert_memory_equal(&first, &err, sizeof err);
    if (w->k->reveal != NULL)
        assert_status(CREDSTORE_E_FORBIDDEN,
                      w->k->reveal(w->t.store, &call, &bad, UINT32_MAX, &secret, &err), &err);
    call.tenant = "/not a tenant/";
    assert_status(CREDSTORE_E_FORBIDDEN, w->k->get(w->t.store, &call, &bad, &view, &err), &err);
    assert_memory_equal(&first, &err, sizeof err);
}

/* ---- actors that can ask nothing ---- */

static void type_none(credstore_actor *a)
{
    a->type = 0;
}
static void type_five(credstore_actor *a)
{
    a->type = 5;
}
static void role_four(credstore_actor *a)
{
    a->roles |= 4;
}
static void reserved_set(credstore_actor *a)
{
    a->reserved = 1;
}
static void id_empty(credstore_actor *a)
{
    a->id[0] = '\0';
}
static void id_endless(credstore_actor *a)
{
    memset(a->id, 'a', sizeof a->id);
}
static void id_control(credstore_actor *a)
{
    a->id[1] = '\n';
}
static void id_space(credstore_actor *a)
{
    a->id[1] = ' ';
}
static void tenant_endless(credstore_actor *a)
{
    memset(a->tenant, 'a', sizeof a->tenant);
}
static void tenant_slash(credstore_actor *a)
{
    a->tenant[1] = '/';
}
static void expired_long_ago(credstore_actor *a)
{
    a->expires_at = 1;
}
static void expired_now(credstore_actor *a)
{
    a->expires_at = TEST_NOW;
}
static void expired_before_all_times(credstore_actor *a)
{
    a->expires_at = INT64_MIN;
}

static const struct {
    const char *name;
    void (*spoil)(credstore_actor *actor);
    credstore_status status;
    uint32_t http;
} bad_actors[] = {
    {"no type", type_none, CREDSTORE_E_INVALID, 400},
    {"type 5", type_five, CREDSTORE_E_INVALID, 400},
    {"role 4", role_four, CREDSTORE_E_INVALID, 400},
    {"reserved", reserved_set, CREDSTORE_E_INVALID, 400},
    {"no id", id_empty, CREDSTORE_E_INVALID, 400},
    {"endless id", id_endless, CREDSTORE_E_INVALID, 400},
    {"newline in id", id_control, CREDSTORE_E_INVALID, 400},
    {"space in id", id_space, CREDSTORE_E_INVALID, 400},
    {"endless tenant", tenant_endless, CREDSTORE_E_INVALID, 400},
    {"slash in tenant", tenant_slash, CREDSTORE_E_INVALID, 400},
    {"expired", expired_long_ago, CREDSTORE_E_EXPIRED, 401},
    {"expires now", expired_now, CREDSTORE_E_EXPIRED, 401},
    {"expired before all", expired_before_all_times, CREDSTORE_E_EXPIRED, 401},
};

static void test_bad_actors(test_world *w)
{
    for (size_t i = 0; i < sizeof bad_actors / sizeof *bad_actors; i++) {
        credstore_actor actor = w->root;
        credstore_call call = test_call(&actor);
        const credstore_request request =
            test_request(w->k, CREDSTORE_VERB_UPDATE, &actor, "{not json");
        const credstore_answer *answer;
        const void *view = &view;
        credstore_error err;

        call.tenant = TEST_TENANT;
        bad_actors[i].spoil(&actor);
        assert_status(bad_actors[i].status, w->k->get(w->t.store, &call, &w->at, &view, &err),
                      &err);
        assert_string_equal(err.field, "actor");
        assert_null(view);
        answer = credstore_handle(w->t.store, &request);
        assert_int_equal(answer->http_status, bad_actors[i].http);
        assert_int_equal(answer->status, bad_actors[i].status);
        credstore_answer_free(answer);
        assert_int_equal(credstore_permit(w->t.store, &actor, "users:read"), 0);
    }
}

/* ---- grants ---- */

static credstore_status set_permissions(const test_world *w, const credstore_actor *actor,
                                        const char *const *items, size_t count,
                                        credstore_error *err)
{
    const credstore_call call = test_call(actor);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .permissions = CREDSTORE_STRINGS(items, count)};

    return credstore_api_key_update(w->t.store, &call, key_ids[OWN], &patch, NULL, err);
}

/* Nobody grants what he does not hold; what is granted already stays, and may be taken away. */
static void test_grants(test_world *w)
{
    const char *const first[] = {"readApplications", "users:read"};
    const char *const kept[] = {"users:read", "writeApplications"};
    const char *const again[] = {"readApplications", "writeApplications"};
    credstore_actor admin = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "a", "acme");
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("d"),
                                           .permissions = CREDSTORE_STRINGS(first, 2)};
    credstore_call call = test_call(&admin);
    const credstore_api_key *view = NULL;
    credstore_error err;

    make_key(w, TEST_TENANT, key_ids[OWN], first, 2);
    test_grant(w->t.store, &admin, "writeApplications");
    assert_status(CREDSTORE_E_FORBIDDEN,
                  credstore_api_key_create(w->t.store, &call, NULL, &patch, NULL, &err), &err);
    assert_string_equal(err.field, "flatPermissionsList");
    /* users:read is not his, and stays; writeApplications is his, and comes; the other goes */
    assert_status(CREDSTORE_OK, set_permissions(w, &admin, kept, 2, &err), &err);
    assert_status(CREDSTORE_OK, credstore_api_key_get(w->t.store, &call, key_ids[OWN], &view, &err),
                  &err);
    assert_int_equal(view->permission_count, 2);
    assert_string_equal(view->permissions[0], "writeApplications");
    assert_string_equal(view->permissions[1], "users:read");
    credstore_free(view);
    assert_status(CREDSTORE_E_FORBIDDEN, set_permissions(w, &admin, again, 2, &err), &err);
    assert_string_equal(err.field, "flatPermissionsList");
    assert_status(CREDSTORE_OK, set_permissions(w, &admin, NULL, 0, &err), &err);
    assert_status(CREDSTORE_E_FORBIDDEN, set_permissions(w, &admin, kept, 1, &err), &err);
    test_grant(w->t.store, &admin, "users:read");
    assert_status(CREDSTORE_OK, set_permissions(w, &admin, kept, 1, &err), &err);
}

static void test_grant_arguments(test_world *w)
{
    credstore_actor actor = test_actor(CREDSTORE_ACTOR_USER, 0, "a", "acme");
    credstore_error err;

    assert_status(CREDSTORE_E_INVALID, credstore_actor_grant(NULL, &actor, "users:read", &err),
                  &err);
    assert_status(CREDSTORE_E_INVALID, credstore_actor_grant(w->t.store, NULL, "users:read", &err),
                  &err);
    assert_status(CREDSTORE_E_INVALID, credstore_actor_grant(w->t.store, &actor, NULL, &err), &err);
    assert_status(CREDSTORE_E_INVALID, credstore_actor_grant(w->t.store, &actor, "none", &err),
                  &err);
    assert_status(CREDSTORE_E_INVALID, credstore_actor_grant(w->t.store, &actor, "", &err), &err);
    assert_int_equal(credstore_actor_grant(w->t.store, &actor, "none", NULL), CREDSTORE_E_INVALID);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(actor.permissions[i], 0);
    assert_int_equal(credstore_permit(w->t.store, &actor, "users:read"), 0);
    test_grant(w->t.store, &actor, "users:read");
    assert_int_equal(credstore_permit(w->t.store, &actor, "users:read"), 1);
    assert_int_equal(credstore_permit(w->t.store, &actor, "users:list"), 0);
    assert_int_equal(credstore_permit(w->t.store, &actor, "none"), 0);
    assert_int_equal(credstore_permit(NULL, &actor, "users:read"), 0);
    assert_int_equal(credstore_permit(w->t.store, NULL, "users:read"), 0);
    assert_int_equal(credstore_permit(w->t.store, &actor, NULL), 0);
    actor.expires_at = TEST_NOW + 1;
    assert_int_equal(credstore_permit(w->t.store, &actor, "users:read"), 1);
    atomic_store(&w->t.now, TEST_NOW + 1);
    assert_int_equal(credstore_permit(w->t.store, &actor, "users:read"), 0);
}

/* ---- an API key as the actor ---- */

/* A change of what the key may change, by the key as it was verified a moment ago. */
static credstore_status change_as_key(const test_world *w, const credstore_actor *key,
                                      credstore_error *err)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_STRIPE);
    const credstore_call call = test_call(key);
    const test_at at = test_at_of(k);
    const uint64_t generation = test_generation(w->t.store);
    credstore_status status;
    test_patch patch;

    test_patch_whole(k, &patch, (unsigned)(atomic_load(&w->t.now) % 1000));
    status = k->update(w->t.store, &call, &at, patch.u.bytes, NULL, err);
    assert_int_equal(test_generation(w->t.store) - generation, status == CREDSTORE_OK ? 1 : 0);
    return status;
}

static credstore_actor verified_key(const test_world *w, const char *id, const char *tenant)
{
    credstore_actor key = test_actor(CREDSTORE_ACTOR_API_KEY, 0, id, tenant);

    test_grant(w->t.store, &key, "stripe:update");
    test_grant(w->t.store, &key, "users:read");
    return key;
}

static void update_key(const test_world *w, const credstore_api_key_patch *patch)
{
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_api_key_update(w->t.store, &w->call, key_ids[OWN], patch, NULL, &err),
                  &err);
}

static void test_key_is_narrowed(test_world *w)
{
    const char *const wide[] = {"stripe:update", "users:read"}, *const narrow[] = {"users:read"};
    const credstore_api_key_patch to_narrow = {.struct_size = sizeof to_narrow,
                                               .permissions = CREDSTORE_STRINGS(narrow, 1)};
    const credstore_api_key_patch to_wide = {.struct_size = sizeof to_wide,
                                             .permissions = CREDSTORE_STRINGS(wide, 2)};
    const credstore_actor key = verified_key(w, key_ids[OWN], TEST_TENANT);
    credstore_actor fewer = key;
    credstore_error err;

    make_key(w, TEST_TENANT, key_ids[OWN], wide, 2);
    assert_status(CREDSTORE_OK, change_as_key(w, &key, &err), &err);
    update_key(w, &to_narrow);
    atomic_fetch_add(&w->t.now, 1);
    assert_status(CREDSTORE_E_FORBIDDEN, change_as_key(w, &key, &err), &err);
    update_key(w, &to_wide);
    assert_status(CREDSTORE_OK, change_as_key(w, &key, &err), &err);
    memset(fewer.permissions, 0, sizeof fewer.permissions); /* the record does not widen either */
    assert_status(CREDSTORE_E_FORBIDDEN, change_as_key(w, &fewer, &err), &err);
}

static void test_key_expires(test_world *w)
{
    const char *const items[] = {"stripe:update"};
    const credstore_api_key_patch soon = {.struct_size = sizeof soon,
                                          .expires_at = CREDSTORE_TIME(TEST_NOW + 1000)};
    const credstore_api_key_patch never = {.struct_size = sizeof never,
                                           .expires_at = CREDSTORE_TIME_CLEARED};
    const credstore_actor key = verified_key(w, key_ids[OWN], TEST_TENANT);
    credstore_error err;

    make_key(w, TEST_TENANT, key_ids[OWN], items, 1);
    update_key(w, &soon);
    atomic_store(&w->t.now, TEST_NOW + 999);
    assert_status(CREDSTORE_OK, change_as_key(w, &key, &err), &err);
    atomic_store(&w->t.now, TEST_NOW + 1000);
    assert_status(CREDSTORE_E_EXPIRED, change_as_key(w, &key, &err), &err);
    assert_string_equal(err.field, "actor");
    update_key(w, &never);
    assert_status(CREDSTORE_OK, change_as_key(w, &key, &err), &err);
}

static void test_key_without_record(test_world *w)
{
    const char *const items[] = {"stripe:update"};
    const char *const ids[] = {"key-of-nobody", "a/b", "2ckEEwCIvk3KPgvWjJjyBIS6Abc", "\"quoted\""};
    credstore_actor key;
    credstore_error err;

    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        key = verified_key(w, ids[i], TEST_TENANT);
        assert_status(CREDSTORE_E_UNAUTHENTICATED, change_as_key(w, &key, &err), &err);
        assert_string_equal(err.field, "actor");
    }
    make_key(w, "other", key_ids[FOREIGN], items, 1); /* there, but another tenant's */
    key = verified_key(w, key_ids[FOREIGN], TEST_TENANT);
    assert_status(CREDSTORE_E_UNAUTHENTICATED, change_as_key(w, &key, &err), &err);
    assert_string_equal(err.field, "actor");
}

/* Not even one that holds everything, with every role, on its own record. */
static void test_keys_change_no_keys(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_API_KEY);
    credstore_actor key = w->root;
    credstore_call call = test_call(&key);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("mine")};
    const credstore_request request = test_request(
        k, CREDSTORE_VERB_UPDATE, &key, "{\"description\":\"x\",\"flatPermissionsList\":[]}");
    const credstore_answer *answer;
    credstore_error err;

    credstore_free(test_make(&w->t, k, &w->root, 1));
    key.type = CREDSTORE_ACTOR_API_KEY;
    snprintf(key.id, sizeof key.id, "%s", k->id);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  credstore_api_key_update(w->t.store, &call, k->id, &patch, NULL, &err), &err);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  credstore_api_key_create(w->t.store, &call, NULL, &patch, NULL, &err), &err);
    answer = credstore_handle(w->t.store, &request);
    assert_int_equal(answer->http_status, 403);
    assert_string_equal(answer->body,
                        "{\"error\":\"User does not have the required permissions\"}");
    credstore_answer_free(answer);
}

/* The first answer again is for one who might still ask for it: it shows the token. */
static void test_key_asks_again(test_world *w)
{
    const char *const may[] = {"service_credentials:update"};
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("ci")};
    const credstore_api_key_patch narrow = {.struct_size = sizeof narrow,
                                            .permissions = CREDSTORE_STRINGS(NULL, 0)};
    credstore_actor key = test_actor(CREDSTORE_ACTOR_API_KEY, 0, key_ids[OWN], TEST_TENANT);
    credstore_call call = test_call(&key);
    const credstore_status expected[] = {CREDSTORE_OK, CREDSTORE_OK, CREDSTORE_E_FORBIDDEN,
                                         CREDSTORE_E_REVOKED};
    credstore_error err;

    make_key(w, TEST_TENANT, key_ids[OWN], may, 1);
    test_grant(w->t.store, &key, may[0]);
    call.idempotency_key = "again";
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        credstore_secret *token = NULL;

        if (i == 2)
            update_key(w, &narrow);
        if (i == 3)
            assert_status(CREDSTORE_OK,
                          credstore_api_key_remove(w->t.store, &w->call, key_ids[OWN], &err), &err);
        assert_status(expected[i],
                      credstore_service_credential_issue(w->t.store, &call, TEST_TENANT,
                                                         TEST_PARENT, NULL, &patch, &token, NULL,
                                                         &err),
                      &err);
        assert_int_equal(token != NULL, expected[i] == CREDSTORE_OK);
        credstore_secret_free(token);
    }
}

/* A label is a change like any other: not by a key that was narrowed or withdrawn. */
static void test_key_labels(test_world *w)
{
    const char *const may[] = {"service_credentials:update"};
    const credstore_api_key_patch narrow = {.struct_size = sizeof narrow,
                                            .permissions = CREDSTORE_STRINGS(NULL, 0)};
    credstore_actor key = test_actor(CREDSTORE_ACTOR_API_KEY, 0, key_ids[OWN], TEST_TENANT);
    const credstore_call call = test_call(&key);
    credstore_error err;

    make_key(w, TEST_TENANT, key_ids[OWN], may, 1);
    test_grant(w->t.store, &key, may[0]);
    assert_status(CREDSTORE_OK,
                  credstore_organization_label(w->t.store, &call, TEST_TENANT, "one", &err), &err);
    update_key(w, &narrow);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  credstore_organization_label(w->t.store, &call, TEST_TENANT, "two", &err), &err);
    assert_status(CREDSTORE_OK, credstore_api_key_remove(w->t.store, &w->call, key_ids[OWN], &err),
                  &err);
    assert_status(CREDSTORE_E_REVOKED,
                  credstore_organization_label(w->t.store, &call, TEST_TENANT, "two", &err), &err);
}

static const test_row of_kinds[] = {
    {"policy", test_policy},
    {"no tenant", test_no_tenant},
    {"forbidden comes first", test_forbidden_comes_first},
    {"bad actors", test_bad_actors},
};
static const test_row others[] = {
    {"grants", test_grants},
    {"grant and permit", test_grant_arguments},
    {"key is narrowed", test_key_is_narrowed},
    {"key expires", test_key_expires},
    {"key without record", test_key_without_record},
    {"keys change no keys", test_keys_change_no_keys},
    {"key asks again", test_key_asks_again},
    {"key labels", test_key_labels},
};

int main(void)
{
    const int failed = test_run("policy", test_kinds, test_kind_count, of_kinds,
                                sizeof of_kinds / sizeof *of_kinds);

    return failed + test_run("actors", NULL, 0, others, sizeof others / sizeof *others);
}
