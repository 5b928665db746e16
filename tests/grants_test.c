/* SPDX-License-Identifier: MIT
 *
 * Nobody grants what he does not hold: over a catalogue of eight permissions every pair of (held,
 * granted), through the public calls, against one line of model: granted & ~had & ~held == 0. And
 * nobody is handed a token that holds more than he does.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PERMISSIONS = 8, SETS = 1 << PERMISSIONS };

static const credstore_permission catalogue[PERMISSIONS] = {
    {"a:read", "a", "read"},   {"a:write", "a", "write"}, {"b:read", "b", "read"},
    {"b:write", "b", "write"}, {"c:read", "c", "read"},   {"c:write", "c", "write"},
    {"d:read", "d", "read"},   {"d:write", "d", "write"},
};

typedef struct world {
    test_store t;
    credstore_actor admin; /* holds nothing; a copy gets what a pair says */
    uint64_t bits[PERMISSIONS][8];
    uint64_t random;
} world;

static uint64_t seed;

/* Valgrind is slow: a part of the pairs, another one with each seed. */
static unsigned stride(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");

    return variant != NULL && strcmp(variant, "valgrind") == 0 ? 61 : 1;
}

/* Also what an actor may carry beside the catalogue's numbers: all other bits set grant nothing. */
static void open_world(world *w, bool bits_beside)
{
    memset(w, 0, sizeof *w);
    w->random = seed;
    test_open(&w->t, TEST_MEMORY);
    w->t.options.catalogue = catalogue;
    w->t.options.catalogue_count = PERMISSIONS;
    assert_int_equal(CREDSTORE_OK, test_reopen(&w->t, NULL));
    w->admin = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "admin", "acme");
    for (size_t i = 0; i < PERMISSIONS; i++) {
        credstore_actor actor = w->admin;

        test_grant(w->t.store, &actor, catalogue[i].id);
        memcpy(w->bits[i], actor.permissions, sizeof w->bits[i]);
    }
    for (size_t n = 0; bits_beside && n < 8; n++) {
        w->admin.permissions[n] = UINT64_MAX;
        for (size_t i = 0; i < PERMISSIONS; i++)
            w->admin.permissions[n] &= ~w->bits[i][n];
    }
}

static credstore_actor holder(const world *w, unsigned held)
{
    credstore_actor actor = w->admin;

    for (size_t i = 0; i < PERMISSIONS; i++)
        for (size_t n = 0; (held >> i & 1) != 0 && n < 8; n++)
            actor.permissions[n] |= w->bits[i][n];
    return actor;
}

typedef struct patch {
    credstore_api_key_patch typed;
    const char *items[PERMISSIONS];
} patch;

static void fill(patch *p, unsigned granted)
{
    memset(p, 0, sizeof *p);
    p->typed.struct_size = sizeof p->typed;
    p->typed.permissions.items = p->items;
    p->typed.permissions.op = CREDSTORE_SET;
    for (size_t i = 0; i < PERMISSIONS; i++)
        if ((granted >> i & 1) != 0)
            p->items[p->typed.permissions.count++] = catalogue[i].id;
}

static void with_description(patch *p)
{
    p->typed.description.ptr = "";
    p->typed.description.op = CREDSTORE_SET;
}

static unsigned shown(const credstore_api_key *view)
{
    unsigned set = 0;

    for (size_t n = 0; n < view->permission_count; n++)
        for (size_t i = 0; i < PERMISSIONS; i++)
            if (strcmp(view->permissions[n], catalogue[i].id) == 0)
                set |= 1u << i;
    return set;
}

static unsigned stored(const world *w, const char *id)
{
    const credstore_call call = test_call(&w->admin);
    const credstore_api_key *view = NULL;
    unsigned set;

    assert_int_equal(CREDSTORE_OK, credstore_api_key_get(w->t.store, &call, id, &view, NULL));
    set = shown(view);
    credstore_free(view);
    return set;
}

static bool may(unsigned held, unsigned had, unsigned granted)
{
    return (granted & ~had & ~held) == 0;
}

static void expect(bool allowed, credstore_status status, const credstore_error *err)
{
    assert_status(allowed ? CREDSTORE_OK : CREDSTORE_E_FORBIDDEN, status, err);
    if (!allowed)
        assert_string_equal("flatPermissionsList", err->field);
}

/* ---- every pair ---- */

static void create(void **state)
{
    unsigned allowed = 0, refused = 0;
    world w;

    (void)state;
    open_world(&w, true);
    for (unsigned pair = (unsigned)(seed % stride()); pair < SETS * SETS; pair += stride()) {
        const unsigned held = pair / SETS, granted = pair % SETS;
        const credstore_actor actor = holder(&w, held);
        const credstore_call call = test_call(&actor);
        const credstore_api_key *view = NULL;
        credstore_status status;
        credstore_error err;
        patch p;

        fill(&p, granted);
        with_description(&p);
        status = credstore_api_key_create(w.t.store, &call, NULL, &p.typed, &view, &err);
        expect(may(held, 0, granted), status, &err);
        if (status == CREDSTORE_OK)
            assert_int_equal(granted, shown(view));
        *(status == CREDSTORE_OK ? &allowed : &refused) += 1;
        credstore_free(view);
    }
    printf("create: %u pairs allowed, %u refused\n", allowed, refused);
    if (stride() == 1)
        assert_int_equal(6561, allowed); /* 3^8: each permission is not held, held or granted too */
    test_close(&w.t);
}

/* What is there already may stay, and may be taken away by who does not hold it. */
static void update(void **state)
{
    static const char id[] = "walker";
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = id};
    const unsigned step = 2 * (unsigned)(seed % 32000) + 1; /* odd: meets each pair once */
    unsigned had = 0, moved = 0, allowed = 0;
    credstore_error err;
    credstore_call call;
    patch p;
    world w;

    (void)state;
    open_world(&w, false);
    fill(&p, had);
    with_description(&p);
    call = test_call(&w.admin);
    assert_int_equal(CREDSTORE_OK,
                     credstore_api_key_create(w.t.store, &call, &origin, &p.typed, NULL, &err));
    for (unsigned n = 0; n < SETS * SETS / stride(); n++) {
        const unsigned pair = n * step % (SETS * SETS);
        const unsigned held = pair / SETS, granted = pair % SETS;
        const credstore_actor actor = holder(&w, held);
        const bool lets = may(held, had, granted);

        call = test_call(&actor);
        fill(&p, granted);
        expect(lets, credstore_api_key_update(w.t.store, &call, id, &p.typed, NULL, &err), &err);
        moved += lets && granted != had;
        allowed += lets;
        if (lets)
            had = granted;
        if (n % 16 == 0)
            assert_int_equal(had, stored(&w, id));
    }
    printf("update: %u of the pairs allowed, %u moved the record\n", allowed, moved);
    assert_true(moved > 0 && allowed < SETS * SETS / stride());
    test_close(&w.t);
}

/* A key that is verified holds what was granted, and the new holder grants no more than that by
   the other ways in: issue, and restore of a time when the record had more. */
static void issue_and_restore(void **state)
{
    enum { ROUNDS = 3000 };
    unsigned restored = 0, refused = 0;
    world w;

    (void)state;
    open_world(&w, false);
    for (unsigned n = 0; n < ROUNDS / stride(); n++) {
        const unsigned wide = (unsigned)(test_random(&w.random) % SETS);
        const unsigned now = (unsigned)(test_random(&w.random) % SETS);
        const unsigned held = (unsigned)(test_random(&w.random) % SETS);
        const credstore_actor all = holder(&w, SETS - 1), some = holder(&w, held);
        const credstore_call by_all = test_call(&all), by_some = test_call(&some);
        const credstore_api_key *view = NULL;
        credstore_secret *key = NULL;
        credstore_actor as;
        credstore_error err;
        credstore_status status;
        patch p;

        fill(&p, wide);
        with_description(&p);
        expect(may(held, 0, wide),
               credstore_api_key_issue(w.t.store, &by_some, NULL, &p.typed, &key, NULL, &err),
               &err);
        credstore_secret_free(key);
        assert_int_equal(CREDSTORE_OK, credstore_api_key_issue(w.t.store, &by_all, NULL, &p.typed,
                                                               &key, &view, &err));
        assert_int_equal(CREDSTORE_OK,
                         credstore_api_key_verify(w.t.store, credstore_secret_ptr(key),
                                                  credstore_secret_len(key), &as, &err));
        for (unsigned i = 0; i < PERMISSIONS; i++)
            assert_int_equal(wide >> i & 1, credstore_permit(w.t.store, &as, catalogue[i].id));
        credstore_secret_free(key);

        fill(&p, now);
        assert_int_equal(CREDSTORE_OK, credstore_api_key_update(w.t.store, &by_all, view->id,
                                                                &p.typed, NULL, &err));
        status = credstore_api_key_restore(w.t.store, &by_some, view->id, 1, NULL, &err);
        expect(may(held, now, wide), status, &err);
        assert_int_equal(status == CREDSTORE_OK ? wide : now, stored(&w, view->id));
        *(status == CREDSTORE_OK ? &restored : &refused) += 1;
        credstore_free(view);
    }
    printf("restore: %u allowed, %u refused\n", restored, refused);
    assert_true(refused > 0);
    test_close(&w.t);
}

/* A roll hands over what the key holds, at the call, at the door and out of a receipt. */
static void roll(void **state)
{
    unsigned allowed = 0, refused = 0;
    world w;

    (void)state;
    open_world(&w, true);
    for (unsigned granted = 0; granted < SETS; granted++) {
        const credstore_actor all = holder(&w, SETS - 1);
        const credstore_call by_all = test_call(&all);
        const credstore_api_key *view = NULL;
        credstore_secret *key = NULL;
        credstore_error err;
        patch p;

        fill(&p, granted);
        with_description(&p);
        assert_int_equal(CREDSTORE_OK, credstore_api_key_issue(w.t.store, &by_all, NULL, &p.typed,
                                                               &key, &view, &err));
        credstore_secret_free(key);
        for (unsigned held = 0; held < SETS; held += granted % 5 == 0 ? stride() : 16 + stride()) {
            const credstore_actor some = holder(&w, held);
            const credstore_call call = test_call(&some);
            const credstore_status status =
                credstore_api_key_roll(w.t.store, &call, view->id, 0, &key, NULL, &err);

            expect(may(held, 0, granted), status, &err);
            assert_true((key != NULL) == (status == CREDSTORE_OK));
            credstore_secret_free(key);
            *(status == CREDSTORE_OK ? &allowed : &refused) += 1;
        }
        credstore_free(view);
    }
    printf("roll: %u allowed, %u refused\n", allowed, refused);
    assert_true(allowed > 0 && refused > 0);
    test_close(&w.t);
}

static void other_ways_to_a_token(void **state)
{
    const unsigned wide = 0x81, narrow = 0x80;
    credstore_actor all, some, above, system;
    credstore_call by_all, by_some, by_above, by_system;
    const credstore_api_key *view = NULL;
    const credstore_answer *answer;
    credstore_request request = {
        .struct_size = sizeof request, .kind = CREDSTORE_KIND_API_KEY, .verb = CREDSTORE_VERB_ROLL};
    credstore_secret *key = NULL;
    credstore_error err;
    patch p;
    world w;

    (void)state;
    open_world(&w, false);
    all = holder(&w, wide);
    some = holder(&w, narrow);
    above = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_SUPER, "above", "other");
    system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "acme");
    by_all = test_call(&all);
    by_some = test_call(&some);
    by_above = test_call(&above);
    by_above.tenant = "acme";
    by_system = test_call(&system);
    fill(&p, wide);
    with_description(&p);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_issue(w.t.store, &by_all, NULL, &p.typed, &key, &view, &err),
                  &err);
    credstore_secret_free(key);
    request.actor = &some;
    request.id = test_slice(view->id);
    answer = credstore_handle(w.t.store, &request);
    assert_int_equal(403, answer->http_status);
    credstore_answer_free(answer);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_roll(w.t.store, &by_above, view->id, 0, &key, NULL, &err),
                  &err);
    credstore_secret_free(key);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  credstore_api_key_roll(w.t.store, &by_system, view->id, 0, &key, NULL, &err),
                  &err); /* not a user */
    by_all.idempotency_key = by_some.idempotency_key = "roll";
    assert_status(CREDSTORE_OK,
                  credstore_api_key_roll(w.t.store, &by_all, view->id, 0, &key, NULL, &err), &err);
    credstore_secret_free(key);
    assert_status(CREDSTORE_E_FORBIDDEN, /* the same person, who holds less by now */
                  credstore_api_key_roll(w.t.store, &by_some, view->id, 0, &key, NULL, &err), &err);
    assert_null(key);
    credstore_free(view);
    test_close(&w.t);
}

/* The door is the same rule. */
static void door(void **state)
{
    enum { ROUNDS = 2000 };
    world w;

    (void)state;
    open_world(&w, false);
    for (unsigned n = 0; n < ROUNDS / stride(); n++) {
        const unsigned held = (unsigned)(test_random(&w.random) % SETS);
        const unsigned granted = (unsigned)(test_random(&w.random) % SETS);
        const credstore_actor actor = holder(&w, held);
        credstore_request request = {.struct_size = sizeof request,
                                     .kind = CREDSTORE_KIND_API_KEY,
                                     .verb = CREDSTORE_VERB_CREATE,
                                     .actor = &actor};
        const credstore_answer *answer;
        char body[256];
        int len = snprintf(body, sizeof body, "{\"description\":\"\",\"flatPermissionsList\":[");
        const char *comma = "";

        for (unsigned i = 0; i < PERMISSIONS; i++) {
            if ((granted >> i & 1) == 0)
                continue;
            len +=
                snprintf(body + len, sizeof body - (size_t)len, "%s\"%s\"", comma, catalogue[i].id);
            comma = ",";
        }
        snprintf(body + len, sizeof body - (size_t)len, "]}");
        request.body = test_slice(body);
        answer = credstore_handle(w.t.store, &request);
        assert_int_equal(may(held, 0, granted) ? CREDSTORE_OK : CREDSTORE_E_FORBIDDEN,
                         answer->status);
        credstore_answer_free(answer);
    }
    test_close(&w.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create),
        cmocka_unit_test(update),
        cmocka_unit_test(issue_and_restore),
        cmocka_unit_test(roll),
        cmocka_unit_test(other_ways_to_a_token),
        cmocka_unit_test(door),
    };

    seed = test_seed("grants_test");
    return cmocka_run_group_tests_name("grants", tests, NULL, NULL);
}
