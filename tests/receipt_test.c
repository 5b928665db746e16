/* SPDX-License-Identifier: MIT
 *
 * Idempotency keys: the first answer again, token included, for a day; for the same request of the
 * same actor alone.
 */
#include "life.h"

static credstore_call keyed(const credstore_actor *actor, const char *key)
{
    credstore_call call = test_call(actor);

    call.tenant = TEST_TENANT;
    call.idempotency_key = key;
    return call;
}

/* ---- the first answer again ---- */

static void creation_is_done_once(test_world *w)
{
    const void *first = NULL, *again = NULL, *now = NULL;
    uint64_t generation;
    credstore_error err;
    test_patch patch;

    w->call = keyed(&w->root, "create-1");
    life_ok(life_create(w->t.store, &w->call, w->k, &w->at, 1, &first, &err));
    test_patch_whole(w->k, &patch, 2); /* what comes later is not in it */
    atomic_store(&w->t.now, TEST_NOW + 5000);
    life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    generation = test_generation(w->t.store);
    for (int i = 0; i < 3; i++) {
        life_ok(life_create(w->t.store, &w->call, w->k, &w->at, 1, &again, &err));
        assert_true(test_same_view(w->k, first, again, true));
        test_assert_all(w->k, again, 1);
        credstore_free(again);
        again = NULL;
    }
    assert_int_equal(test_generation(w->t.store), generation);
    now = test_get(&w->t, w->k, &w->root);
    test_assert_all(w->k, now, 2);
    credstore_free(now);
    credstore_free(first);
}

/* The first answer stands, though the end that it names has come meanwhile. */
static void the_end_that_it_names_has_come(test_world *w)
{
    credstore_api_key_patch patch = life_api_key_patch("short");
    credstore_secret *secret = NULL, *same = NULL;
    credstore_error err;

    patch.expires_at = (credstore_time)CREDSTORE_TIME(TEST_NOW + 60000);
    w->call = keyed(&w->root, "issue-1");
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &same, NULL, &err));
    assert_string_equal(credstore_secret_ptr(secret), credstore_secret_ptr(same));
    credstore_secret_free(secret);
    credstore_secret_free(same);
    w->call = keyed(&w->root, "issue-2");
    life_fails(CREDSTORE_E_INVALID,
               credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &same, NULL, &err));
    assert_string_equal(err.field, "expiresAt");
    w->call.idempotency_key = NULL;
    life_fails(CREDSTORE_E_INVALID,
               credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &same, NULL, &err));
}

/* A creation under an id that was removed since is told as any other. */
static void the_id_was_removed(test_world *w)
{
    const credstore_stripe_patch patch = {.struct_size = sizeof patch};
    const char *project = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    credstore_error err;

    w->call = keyed(&w->root, "create-1");
    life_ok(credstore_stripe_create(w->t.store, &w->call, project, NULL, &patch, NULL, &err));
    life_ok(credstore_stripe_remove(w->t.store, &w->call, project, &err));
    life_fails(CREDSTORE_E_NOT_FOUND,
               credstore_stripe_create(w->t.store, &w->call, project, NULL, &patch, NULL, &err));
    w->call = keyed(&w->root, "create-2");
    life_fails(CREDSTORE_E_EXISTS,
               credstore_stripe_create(w->t.store, &w->call, project, NULL, &patch, NULL, &err));
}

/* Without an id each creation makes a new record; with the key there is one. */
static void ids_made_here_are_the_same(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("issued");
    const credstore_api_key *first = NULL, *again = NULL;
    credstore_secret *secret = NULL, *same = NULL;
    uint64_t generation;
    credstore_error err;

    w->call = keyed(&w->root, "issue-1");
    life_ok(credstore_api_key_issue(w->t.store, &w->call, "live", &patch, &secret, &first, &err));
    generation = test_generation(w->t.store);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_ok(credstore_api_key_issue(w->t.store, &w->call, "live", &patch, &same, &again, &err));
    assert_int_equal(test_generation(w->t.store), generation);
    assert_string_equal(credstore_secret_ptr(secret), credstore_secret_ptr(same));
    assert_true(test_same_view(test_kind_of(CREDSTORE_KIND_API_KEY), first, again, true));
    life_verifies(w, credstore_secret_ptr(same), CREDSTORE_OK);
    credstore_secret_free(secret);
    credstore_secret_free(same);
    credstore_free(first);
    credstore_free(again);
}

static credstore_status issue_service(test_world *w, const char *parent, char token[],
                                      credstore_error *err)
{
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("issued")};
    credstore_secret *secret = NULL;
    const credstore_status status = credstore_service_credential_issue(
        w->t.store, &w->call, TEST_TENANT, parent, NULL, &patch, &secret, NULL, err);

    if (status == CREDSTORE_OK)
        life_take(secret, token);
    else
        assert_null(secret);
    return status;
}

/* As far as history reaches the first answer is given again. */
static void a_first_answer_that_history_lost(test_world *w)
{
    credstore_api_key_patch patch = life_api_key_patch("first");
    const credstore_api_key *view = NULL;
    char id[CS_ID_MAX + 1];
    const credstore_call call = keyed(&w->root, "create");
    credstore_error err;

    life_ok(credstore_api_key_create(w->t.store, &call, NULL, &patch, &view, &err));
    snprintf(id, sizeof id, "%s", view->id);
    credstore_free(view);
    for (int n = 1; n <= 101; n++) {
        char text[16];

        snprintf(text, sizeof text, "%d", n);
        patch.description.ptr = text;
        life_ok(credstore_api_key_update(w->t.store, &w->call, id, &patch, NULL, &err));
        patch.description.ptr = "first";
        if (n == 100) {
            life_ok(credstore_api_key_create(w->t.store, &call, NULL, &patch, &view, &err));
            assert_string_equal(view->description, "first");
            credstore_free(view);
        }
    }
    life_fails(CREDSTORE_E_NOT_FOUND,
               credstore_api_key_create(w->t.store, &call, NULL, &patch, &view, &err));
}

static void service_credentials_are_issued_once(test_world *w)
{
    char first[CS_TOKEN_MAX + 1], again[CS_TOKEN_MAX + 1];
    credstore_error err;

    w->call = keyed(&w->root, "issue-1");
    life_ok(issue_service(w, TEST_PARENT, first, &err));
    life_ok(issue_service(w, TEST_PARENT, again, &err));
    assert_string_equal(first, again);
    life_service_verifies(w, again, CREDSTORE_OK);
    life_fails(CREDSTORE_E_IDEMPOTENCY, issue_service(w, "sa-2", again, &err));
}

static void rolls_are_done_once(test_world *w)
{
    const life_key key = life_issue(w, 0);
    life_key first = key, again = key;

    w->call = keyed(&w->root, "roll-1");
    life_roll(w, &first, 0);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_roll(w, &again, 0);
    assert_string_equal(first.token, again.token);
    assert_string_not_equal(first.token, key.token);
    life_verifies(w, first.token, CREDSTORE_OK);
    w->call = keyed(&w->root, "roll-2");
    life_roll(w, &again, 0);
    assert_string_not_equal(first.token, again.token);
    w->call = keyed(&w->root, "roll-1"); /* the first answer, though its token is no longer good */
    life_roll(w, &again, 0);
    assert_string_equal(first.token, again.token);
    life_verifies(w, again.token, CREDSTORE_E_UNAUTHENTICATED);
}

static void secrets_roll_once(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const credstore_secret_text fresh = CREDSTORE_SECRET("fresh", 5),
                                other = CREDSTORE_SECRET("other", 5);
    const credstore_checkbook *first = NULL, *again = NULL;
    credstore_error err;

    credstore_free(test_make(&w->t, k, &w->root, 1));
    w->call = keyed(&w->root, "roll-1");
    life_ok(credstore_checkbook_roll(w->t.store, &w->call, k->id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                     &fresh, 60, &first, &err));
    life_ok(credstore_checkbook_roll(w->t.store, &w->call, k->id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                     &fresh, 60, &again, &err));
    assert_int_equal(first->revision, 2);
    assert_true(test_same_view(k, first, again, true));
    credstore_free(first);
    credstore_free(again);
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_checkbook_roll(w->t.store, &w->call, k->id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                        &other, 60, NULL, &err));
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_checkbook_roll(w->t.store, &w->call, k->id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                        &fresh, 61, NULL, &err));
}

static void answers_at_the_door(test_world *w)
{
    credstore_request request = test_request(w->k, CREDSTORE_VERB_CREATE, &w->root, NULL);
    char *body = test_body(w->k, 1), *other = test_body(w->k, 2);
    const credstore_answer *first, *again;

    if (w->k->kind->token.digest != 0)
        request.id = test_slice(NULL); /* issues */
    request.body = test_slice(body);
    request.idempotency_key = test_slice("door-1");
    first = credstore_handle(w->t.store, &request);
    again = credstore_handle(w->t.store, &request);
    assert_int_equal(first->http_status, 201);
    assert_int_equal(again->http_status, 201);
    assert_string_equal(first->body, again->body);
    assert_string_equal(first->etag, again->etag);
    if (w->k->kind->token.digest != 0)
        assert_non_null(strstr(again->body, w->k->kind->token.member));
    credstore_answer_free(first);
    credstore_answer_free(again);
    request.body = test_slice(other);
    again = credstore_handle(w->t.store, &request);
    assert_int_equal(again->http_status, 422);
    assert_int_equal(again->status, CREDSTORE_E_IDEMPOTENCY);
    credstore_answer_free(again);
    free(body);
    free(other);
}

/* ---- another request, another asker ---- */

static void every_field_is_part_of_the_request(test_world *w)
{
    credstore_error err;
    test_patch patch;
    uint64_t generation;

    w->call = keyed(&w->root, "create-1");
    life_ok(life_create(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
    generation = test_generation(w->t.store);
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        const void *view = w;
        const uint32_t size = w->k->kind->origin.size;
        union {
            uint64_t align;
            uint8_t bytes[CS_ORIGIN_MAX];
        } origin = {0};

        if (!test_in_patch(&w->k->kind->fields[i]))
            continue;
        test_patch_whole(w->k, &patch, 1);
        test_patch_set(w->k, &patch, i, 2);
        memcpy(origin.bytes, &size, sizeof size);
        if (w->k->kind->origin.id != 0)
            memcpy(origin.bytes + w->k->kind->origin.id, &w->at.id, sizeof w->at.id);
        life_fails(CREDSTORE_E_IDEMPOTENCY, w->k->create(w->t.store, &w->call, &w->at, origin.bytes,
                                                         patch.u.bytes, &view, &err));
        assert_null(view);
        assert_string_equal(err.field, "Idempotency-Key");
    }
    assert_int_equal(test_generation(w->t.store), generation);
}

/* What stands beside the patch: the times of the origin, and the ids. */
static void the_origin_is_part_of_the_request(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const test_at at = {TEST_TENANT, TEST_PARENT, "0ujtsYcgvSTl8PAuAdqWYSMnLOv"};
    credstore_checkbook_origin origin = {.struct_size = sizeof origin,
                                         .id = k->id,
                                         .created_at = 1000,
                                         .updated_at = 2000,
                                         .client_id = at.id};
    const credstore_checkbook *first = NULL, *again = NULL;
    credstore_error err;
    test_patch patch;
    const credstore_checkbook_patch *p = (const credstore_checkbook_patch *)(const void *)&patch.u;

    test_patch_whole(k, &patch, 1);
    w->call = keyed(&w->root, "create-1");
    life_ok(credstore_checkbook_create(w->t.store, &w->call, &origin, p, &first, &err));
    life_ok(credstore_checkbook_create(w->t.store, &w->call, &origin, p, &again, &err));
    assert_true(test_same_view(k, first, again, true));
    assert_int_equal(again->created_at, 1000);
    credstore_free(first);
    credstore_free(again);
    origin.created_at = 1001;
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_checkbook_create(w->t.store, &w->call, &origin, p, NULL, &err));
    origin.created_at = 1000;
    origin.updated_at = 0;
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_checkbook_create(w->t.store, &w->call, &origin, p, NULL, &err));
    origin.updated_at = 2000;
    origin.client_id = NULL;
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_checkbook_create(w->t.store, &w->call, &origin, p, NULL, &err));
    life_fails(CREDSTORE_E_IDEMPOTENCY, life_create(w->t.store, &w->call, k, &at, 1, NULL, &err));
}

/* Creation and issuance are two verbs, whatever else is the same. */
static void a_creation_is_no_issuance(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("either");
    credstore_secret *secret = (credstore_secret *)(void *)w;
    credstore_status status;
    credstore_error err;

    w->call = keyed(&w->root, "one");
    life_ok(credstore_api_key_create(w->t.store, &w->call, NULL, &patch, NULL, &err));
    status = credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err);
    assert_int_equal(status == CREDSTORE_OK, secret != NULL);
    assert_int_equal(status, CREDSTORE_E_IDEMPOTENCY);
    w->call = keyed(&w->root, "two");
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    credstore_secret_free(secret);
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_api_key_create(w->t.store, &w->call, NULL, &patch, NULL, &err));
}

static void each_asker_has_its_own_keys(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("issued");
    const credstore_actor askers[] = {
        w->root,
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN | CREDSTORE_ROLE_SUPER, "other",
                   TEST_TENANT),
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN | CREDSTORE_ROLE_SUPER, "root",
                   "elsewhere"),
    };
    const char *const tenants[] = {TEST_TENANT, "other"};
    char tokens[8][CS_TOKEN_MAX + 1];
    credstore_error err;
    size_t count = 0;

    for (size_t i = 0; i < LIFE_COUNT(askers); i++) {
        for (size_t n = 0; n < LIFE_COUNT(tenants); n++) {
            credstore_actor actor = askers[i];
            credstore_call call = keyed(&actor, "the-same");
            credstore_secret *secret = NULL;

            memcpy(actor.permissions, w->root.permissions, sizeof actor.permissions);
            call.tenant = tenants[n];
            life_ok(credstore_api_key_issue(w->t.store, &call, NULL, &patch, &secret, NULL, &err));
            life_take(secret, tokens[count]);
            for (size_t other = 0; other < count; other++)
                assert_string_not_equal(tokens[other], tokens[count]);
            count++;
        }
    }
}

/* A service of the same name is another actor. */
static void names_are_not_actors(test_world *w)
{
    credstore_actor service = test_actor(
        CREDSTORE_ACTOR_SERVICE, CREDSTORE_ROLE_ADMIN | CREDSTORE_ROLE_SUPER, "root", TEST_TENANT);
    char first[CS_TOKEN_MAX + 1], other[CS_TOKEN_MAX + 1];
    credstore_error err;

    w->call = keyed(&w->root, "the-same");
    life_ok(issue_service(w, TEST_PARENT, first, &err));
    w->call = keyed(&service, "the-same");
    life_ok(issue_service(w, TEST_PARENT, other, &err));
    assert_string_not_equal(first, other);
}

static void each_verb_and_kind_has_its_own(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("issued");
    char token[CS_TOKEN_MAX + 1];
    credstore_secret *secret = NULL;
    const life_key key = life_issue(w, 0);
    life_key rolled = key;
    credstore_error err;

    w->call = keyed(&w->root, "the-same");
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    credstore_secret_free(secret);
    life_roll(w, &rolled, 0);
    assert_string_not_equal(rolled.token, key.token);
    life_ok(issue_service(w, TEST_PARENT, token, &err));
    life_service_verifies(w, token, CREDSTORE_OK);
    /* a roll of another record is another request */
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_api_key_roll(w->t.store, &w->call, "2ckEEwCIvk3KPgvWjJjyBIS6Abc", 0,
                                      &secret, NULL, &err));
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_api_key_issue(w->t.store, &w->call, "other", &patch, &secret, NULL, &err));
    assert_null(secret);
}

/* Verbs that say the same twice by themselves do not look at the key. */
static void other_verbs_do_not_look(test_world *w)
{
    credstore_error err;
    test_patch patch;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    w->call = keyed(&w->root, "the-same");
    for (unsigned n = 2; n < 5; n++) {
        const void *view = NULL;

        test_patch_whole(w->k, &patch, n);
        life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, &view, &err));
        test_assert_all(w->k, view, n);
        credstore_free(view);
    }
    life_ok(life_restore(w->t.store, &w->call, w->k, &w->at, 2, NULL, &err));
    life_ok(life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    life_fails(CREDSTORE_E_NOT_FOUND, life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 0);
}

/* ---- keys ---- */

static void keys_of_any_length(test_world *w)
{
    char key[301];
    static const struct {
        size_t len;
        credstore_status status;
    } rows[] = {{0, CREDSTORE_E_INVALID},
                {1, CREDSTORE_OK},
                {255, CREDSTORE_OK},
                {256, CREDSTORE_E_INVALID},
                {300, CREDSTORE_E_INVALID}};
    static const char *const bad[] = {" ", "a b", "a\n", "\x7f", "caf\xc3\xa9", "\x01"};
    char token[CS_TOKEN_MAX + 1];
    credstore_error err;

    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        const uint64_t generation = test_generation(w->t.store);

        memset(key, 'k', sizeof key);
        key[rows[i].len] = '\0';
        w->call = keyed(&w->root, key);
        life_fails(rows[i].status, issue_service(w, TEST_PARENT, token, &err));
        if (rows[i].status != CREDSTORE_OK)
            assert_string_equal(err.field, "Idempotency-Key");
        assert_int_equal(test_generation(w->t.store) == generation, rows[i].status != CREDSTORE_OK);
    }
    for (size_t i = 0; i < LIFE_COUNT(bad); i++) {
        w->call = keyed(&w->root, bad[i]);
        life_fails(CREDSTORE_E_INVALID, issue_service(w, TEST_PARENT, token, &err));
    }
}

/* ---- a day ---- */

static void a_day_and_no_longer(test_world *w)
{
    char first[CS_TOKEN_MAX + 1], again[CS_TOKEN_MAX + 1];
    credstore_error err;

    w->call = keyed(&w->root, "daily");
    life_ok(issue_service(w, TEST_PARENT, first, &err));
    atomic_store(&w->t.now, TEST_NOW + LIFE_DAY - 1);
    life_ok(issue_service(w, TEST_PARENT, again, &err));
    assert_string_equal(first, again);
    atomic_store(&w->t.now, TEST_NOW + LIFE_DAY);
    life_ok(issue_service(w, TEST_PARENT, again, &err));
    assert_string_not_equal(first, again);
    memcpy(first, again, sizeof first);
    life_ok(issue_service(w, TEST_PARENT, again, &err)); /* the new one counts from here */
    assert_string_equal(first, again);
    atomic_store(&w->t.now, TEST_NOW + 2 * LIFE_DAY - 1);
    life_ok(issue_service(w, TEST_PARENT, again, &err));
    assert_string_equal(first, again);
    atomic_store(&w->t.now, TEST_NOW + 2 * LIFE_DAY);
    life_ok(issue_service(w, TEST_PARENT, again, &err));
    assert_string_not_equal(first, again);
    atomic_store(&w->t.now, TEST_NOW + INT64_C(3650) * LIFE_DAY);
    life_ok(issue_service(w, TEST_PARENT, again, &err));
}

/* At every hour of the day, since the days are in the keys. */
static void at_any_hour(test_world *w)
{
    const int64_t hour = 3600000, midnight = TEST_NOW - TEST_NOW % LIFE_DAY + LIFE_DAY;
    char first[CS_TOKEN_MAX + 1], again[CS_TOKEN_MAX + 1], key[32];
    credstore_error err;

    for (int i = 0; i < 24; i += 3) {
        const int64_t at = midnight + (int64_t)i * (LIFE_DAY * 2 + hour);

        snprintf(key, sizeof key, "hour-%d", i);
        w->call = keyed(&w->root, key);
        atomic_store(&w->t.now, at);
        life_ok(issue_service(w, TEST_PARENT, first, &err));
        atomic_store(&w->t.now, at + LIFE_DAY - 1);
        life_ok(issue_service(w, TEST_PARENT, again, &err));
        assert_string_equal(first, again);
    }
}

/* What is over goes with later receipts, and with maintenance. */
static void receipts_go(test_world *w)
{
    char token[CS_TOKEN_MAX + 1], key[32];
    credstore_error err;

    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof key, "old-%d", i);
        w->call = keyed(&w->root, key);
        life_ok(issue_service(w, TEST_PARENT, token, &err));
    }
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 9);
    atomic_store(&w->t.now, TEST_NOW + LIFE_DAY - 1); /* the clock is believed */
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 9); /* by whole days */
    atomic_store(&w->t.now, TEST_NOW + 2 * LIFE_DAY - 2);
    w->call = keyed(&w->root, "new");
    life_ok(issue_service(w, TEST_PARENT, token, &err));
    assert_true(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL) <= 6);
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 1);
}

/* A roll to the value that is there is no change; asked again later it is still none. */
static void a_roll_without_a_change(test_world *w)
{
    static const char project[] = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    const credstore_secret_text a = CREDSTORE_SECRET("whsec_a", CREDSTORE_NTS),
                                b = CREDSTORE_SECRET("whsec_b", CREDSTORE_NTS);
    const credstore_stripe_patch patch = {.struct_size = sizeof patch, .test_webhook_secret = a};
    const credstore_call plain = keyed(&w->root, NULL), again = keyed(&w->root, "roll");
    const uint32_t field = CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET;
    const credstore_stripe *view = NULL;
    credstore_error err;

    life_ok(credstore_stripe_create(w->t.store, &plain, project, NULL, &patch, NULL, &err));
    for (int i = 0; i < 2; i++) {
        life_ok(credstore_stripe_roll(w->t.store, &again, project, field, &a, 0, &view, &err));
        assert_int_equal(view->revision, 1);
        credstore_free(view);
        if (i == 0)
            life_ok(credstore_stripe_roll(w->t.store, &plain, project, field, &b, 0, NULL, &err));
    }
    life_ok(credstore_stripe_get(w->t.store, &plain, project, &view, &err));
    assert_int_equal(view->revision, 2);
    credstore_free(view);
    life_fails(CREDSTORE_E_IDEMPOTENCY,
               credstore_stripe_roll(w->t.store, &again, project, field, &b, 0, NULL, &err));
}

/* A clock that runs ahead for a while makes nobody's second try a second record. */
static void a_clock_ahead_drops_none(test_world *w)
{
    char first[CS_TOKEN_MAX + 1], again[CS_TOKEN_MAX + 1], other[CS_TOKEN_MAX + 1];
    credstore_error err;

    w->call = keyed(&w->root, "kept");
    life_ok(issue_service(w, TEST_PARENT, first, &err));
    atomic_store(&w->t.now, TEST_NOW + 3650 * LIFE_DAY);
    w->call = keyed(&w->root, "other");
    life_ok(issue_service(w, TEST_PARENT, other, &err));
    life_maintain(w);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    w->call = keyed(&w->root, "kept");
    life_ok(issue_service(w, TEST_PARENT, again, &err));
    assert_string_equal(first, again);
}

/* ---- what has changed since ---- */

static void the_record_is_gone(test_world *w)
{
    const life_key key = life_issue(w, 0);
    const credstore_api_key_patch patch = life_api_key_patch("issued");
    const credstore_api_key *view = NULL;
    credstore_secret *secret = NULL;
    life_key rolled = key;
    credstore_error err;

    w->call = keyed(&w->root, "roll");
    life_roll(w, &rolled, 0);
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, &view, &err));
    credstore_secret_free(secret);
    life_ok(credstore_api_key_remove(w->t.store, &w->call, key.id, &err));
    life_ok(credstore_api_key_remove(w->t.store, &w->call, view->id, &err));
    credstore_free(view);
    secret = (credstore_secret *)(void *)w;
    life_fails(CREDSTORE_E_NOT_FOUND,
               credstore_api_key_roll(w->t.store, &w->call, key.id, 0, &secret, NULL, &err));
    assert_null(secret);
    secret = (credstore_secret *)(void *)w;
    life_fails(CREDSTORE_E_NOT_FOUND,
               credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    assert_null(secret);
}

/* Whoever may no longer do it gets no answer of the time when he might. */
static void the_policy_is_asked_again(test_world *w)
{
    char token[CS_TOKEN_MAX + 1];
    credstore_actor holder = test_actor(CREDSTORE_ACTOR_USER, 0, "holder", TEST_TENANT);
    credstore_error err;

    test_grant(w->t.store, &holder, "service_credentials:update");
    w->call = keyed(&holder, "once");
    life_ok(issue_service(w, TEST_PARENT, token, &err));
    memset(holder.permissions, 0, sizeof holder.permissions);
    life_fails(CREDSTORE_E_FORBIDDEN, issue_service(w, TEST_PARENT, token, &err));
    holder.expires_at = TEST_NOW;
    life_fails(CREDSTORE_E_EXPIRED, issue_service(w, TEST_PARENT, token, &err));
}

/* A key that was withdrawn, or narrowed, since; the host's actor is of the time before. */
static void the_actors_own_key_is_looked_at(test_world *w)
{
    static const char *const permissions[] = {"service_credentials:update"};
    credstore_api_key_patch patch = life_api_key_patch("an actor");
    credstore_secret *secret = NULL;
    char key[CS_TOKEN_MAX + 1], token[CS_TOKEN_MAX + 1];
    credstore_actor actor;
    credstore_call by_root = w->call;
    credstore_error err;

    patch.permissions = (credstore_strings)CREDSTORE_STRINGS(permissions, 1);
    life_ok(credstore_api_key_issue(w->t.store, &by_root, NULL, &patch, &secret, NULL, &err));
    life_take(secret, key);
    life_ok(credstore_api_key_verify(w->t.store, key, CREDSTORE_NTS, &actor, &err));
    w->call = keyed(&actor, "once");
    life_ok(issue_service(w, TEST_PARENT, token, &err));
    life_ok(issue_service(w, TEST_PARENT, token, &err));
    patch.permissions = (credstore_strings){NULL, 0, CREDSTORE_SET, 0};
    life_ok(credstore_api_key_update(w->t.store, &by_root, actor.id, &patch, NULL, &err));
    life_fails(CREDSTORE_E_FORBIDDEN, issue_service(w, TEST_PARENT, token, &err));
    life_ok(credstore_api_key_remove(w->t.store, &by_root, actor.id, &err));
    life_fails(CREDSTORE_E_REVOKED, issue_service(w, TEST_PARENT, token, &err));
}

static void the_answers_times_are_the_first_ones(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("used before");
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .last_used_at = 1234};
    const credstore_api_key *first = NULL, *again = NULL;
    credstore_error err;

    w->call = keyed(&w->root, "create");
    life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, &first, &err));
    life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, &again, &err));
    assert_string_equal(first->id, again->id);
    assert_int_equal(first->last_used_at, 1234);
    assert_int_equal(again->last_used_at, 1234);
    credstore_free(first);
    credstore_free(again);
}

/* ---- what failed leaves none; what is damaged is told ---- */

static void failures_leave_none(test_world *w)
{
    static const char *const users[] = {"users:read"};
    credstore_actor poor =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "poor", TEST_TENANT);
    credstore_api_key_patch patch = life_api_key_patch("granted");
    credstore_secret *secret = NULL;
    credstore_error err;

    patch.permissions = (credstore_strings)CREDSTORE_STRINGS(users, 1);
    w->call = keyed(&poor, "try");
    life_fails(CREDSTORE_E_FORBIDDEN,
               credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 0);
    test_grant(w->t.store, &poor, "users:read");
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    credstore_secret_free(secret);
}

static void damaged_receipts(test_world *w)
{
    char token[CS_TOKEN_MAX + 1];
    credstore_error err;
    uint64_t generation;
    cs_buf value;
    cs_key key;

    w->call = keyed(&w->root, "once");
    life_ok(issue_service(w, TEST_PARENT, token, &err));
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, &key), 1);
    generation = test_generation(w->t.store);
    value = life_raw_get(w->t.store, &key);
    for (size_t i = 0; i < value.len; i += 3) {
        credstore_status status;

        value.ptr[i] ^= 4;
        life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
        value.ptr[i] ^= 4;
        status = issue_service(w, TEST_PARENT, token, &err);
        if (status != CREDSTORE_E_FORMAT)
            assert_int_equal(status, CREDSTORE_E_INTEGRITY);
    }
    for (size_t len = 0; len < value.len; len += 5) {
        life_raw_put(w->t.store, &key, cs_bytes(value.ptr, len));
        life_fails(CREDSTORE_E_INTEGRITY, issue_service(w, TEST_PARENT, token, &err));
    }
    assert_int_equal(test_generation(w->t.store), generation);
    cs_buf_free(&value);
}

int main(void)
{
    static const test_row of_kinds[] = {
        {"creation is done once", creation_is_done_once},
        {"answers at the door", answers_at_the_door},
        {"every field is part of the request", every_field_is_part_of_the_request},
        {"other verbs do not look", other_verbs_do_not_look},
    };
    static const test_row rows[] = {
        {"ids made here are the same", ids_made_here_are_the_same},
        {"the end that it names has come", the_end_that_it_names_has_come},
        {"the id was removed", the_id_was_removed},
        {"service credentials are issued once", service_credentials_are_issued_once},
        {"a first answer that history lost", a_first_answer_that_history_lost},
        {"rolls are done once", rolls_are_done_once},
        {"secrets roll once", secrets_roll_once},
        {"the origin is part of the request", the_origin_is_part_of_the_request},
        {"a creation is no issuance", a_creation_is_no_issuance},
        {"each asker has its own keys", each_asker_has_its_own_keys},
        {"names are not actors", names_are_not_actors},
        {"each verb and kind has its own", each_verb_and_kind_has_its_own},
        {"keys of any length", keys_of_any_length},
        {"a day and no longer", a_day_and_no_longer},
        {"at any hour", at_any_hour},
        {"receipts go", receipts_go},
        {"a roll without a change", a_roll_without_a_change},
        {"a clock ahead drops none", a_clock_ahead_drops_none},
        {"the record is gone", the_record_is_gone},
        {"the policy is asked again", the_policy_is_asked_again},
        {"the actor's own key is looked at", the_actors_own_key_is_looked_at},
        {"the answer's times are the first ones", the_answers_times_are_the_first_ones},
        {"failures leave none", failures_leave_none},
        {"damaged receipts", damaged_receipts},
    };

    return test_run("receipts of kinds", test_kinds, test_kind_count, of_kinds,
                    LIFE_COUNT(of_kinds)) +
           test_run("receipts", NULL, 0, rows, LIFE_COUNT(rows));
}
