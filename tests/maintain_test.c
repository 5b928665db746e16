/* SPDX-License-Identifier: MIT
 *
 * Maintenance: last-used marks once a minute, receipts that are over, graces and keys that end for
 * good, what is damaged, the budget, and that it writes nothing where there is nothing to do.
 */
#include "life.h"

#include "clock.h"

enum { MINUTE = 60000 };

static int64_t last_used(test_world *w, const char *id)
{
    const credstore_api_key *view = NULL;
    credstore_error err;
    int64_t used;

    life_ok(credstore_api_key_get(w->t.store, &w->call, id, &view, &err));
    used = view->last_used_at;
    credstore_free(view);
    return used;
}

static void nothing_to_do_writes_nothing(test_world *w)
{
    uint64_t generation;
    uint32_t more = 7;
    credstore_error err;

    (void)life_issue(w, 0);
    generation = test_generation(w->t.store);
    for (int i = 0; i < 3; i++) {
        atomic_fetch_add(&w->t.now, 1000);
        life_ok(credstore_maintain(w->t.store, i == 0 ? 0 : 1, &more, &err));
        assert_int_equal(more, 0);
    }
    assert_int_equal(test_generation(w->t.store), generation);
    life_fails(CREDSTORE_E_INVALID, credstore_maintain(NULL, 0, &more, &err));
    assert_int_equal(more, 0);
}

/* What was over when the store's time was noted stays so, though nothing was changed since. */
static void the_time_is_noted(test_world *w)
{
    const life_key key = life_issue(w, 0);
    const credstore_api_key_patch ends = {.struct_size = sizeof ends,
                                          .expires_at = CREDSTORE_TIME(TEST_NOW + LIFE_DAY / 4)};
    uint64_t generation;
    credstore_error err;

    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &ends, NULL, &err));
    generation = test_generation(w->t.store);
    atomic_store(&w->t.now, TEST_NOW + LIFE_DAY / 2);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    life_ok(credstore_maintain(w->t.store, 0, NULL, &err));
    assert_int_equal(test_generation(w->t.store), generation + 2); /* the time, and the mark */
    atomic_store(&w->t.now, TEST_NOW);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
}

static void marks_once_a_minute(test_world *w)
{
    const life_key key = life_issue(w, 0);
    const credstore_api_key *before = NULL, *after = NULL;
    uint64_t generation = test_generation(w->t.store);
    credstore_error err;

    life_ok(credstore_api_key_get(w->t.store, &w->call, key.id, &before, &err));
    assert_int_equal(before->last_used_at, 0);
    atomic_store(&w->t.now, TEST_NOW + 10);
    life_verifies(w, key.token, CREDSTORE_OK);
    assert_int_equal(last_used(w, key.id), 0); /* verification writes nothing */
    assert_int_equal(test_generation(w->t.store), generation);
    life_maintain(w);
    assert_int_equal(last_used(w, key.id), TEST_NOW + 10);
    generation = test_generation(w->t.store);
    life_maintain(w);
    atomic_store(&w->t.now, TEST_NOW + 10 + MINUTE - 1);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_maintain(w);
    assert_int_equal(test_generation(w->t.store), generation); /* within the minute */
    assert_int_equal(last_used(w, key.id), TEST_NOW + 10);
    atomic_store(&w->t.now, TEST_NOW + 10 + MINUTE);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_maintain(w);
    assert_int_equal(last_used(w, key.id), TEST_NOW + 10 + MINUTE);
    life_ok(credstore_api_key_get(w->t.store, &w->call, key.id, &after, &err));
    assert_int_equal(after->revision, before->revision); /* outside of revision and history */
    assert_int_equal(after->updated_at, before->updated_at);
    credstore_free(before);
    credstore_free(after);
}

/* Refused tokens are no use. */
static void only_what_was_let_in(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 5), rolled = life_issue(w, 0);
    life_key fresh = rolled;

    life_roll(w, &fresh, 0);
    life_verifies(w, rolled.token, CREDSTORE_E_UNAUTHENTICATED);
    atomic_store(&w->t.now, TEST_NOW + 5);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    life_maintain(w);
    assert_int_equal(last_used(w, key.id), 0);
    assert_int_equal(last_used(w, rolled.id), 0);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_USAGE, NULL), 0);
}

static void service_credentials_too(test_world *w)
{
    const life_key key = life_issue_service(w);
    const credstore_service_credential *view = NULL;
    credstore_error err;

    atomic_store(&w->t.now, TEST_NOW + 99);
    life_service_verifies(w, key.token, CREDSTORE_OK);
    life_maintain(w);
    life_ok(credstore_service_credential_get(w->t.store, &w->call, TEST_TENANT, TEST_PARENT, key.id,
                                             &view, &err));
    assert_int_equal(view->last_used_at, TEST_NOW + 99);
    credstore_free(view);
}

/* More than fit a batch, and than find their place at the first try. */
static void many_marks(test_world *w)
{
    enum { KEYS = 150 };
    life_key *keys = calloc(KEYS, sizeof *keys);

    assert_non_null(keys);
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = life_issue(w, 0);
    for (int round = 1; round <= 2; round++) {
        const int64_t now = TEST_NOW + round * 10 * MINUTE;

        atomic_store(&w->t.now, now);
        for (size_t i = 0; i < KEYS; i++)
            life_verifies(w, keys[i].token, CREDSTORE_OK);
        life_maintain(w);
        for (size_t i = 0; i < KEYS; i++)
            assert_int_equal(last_used(w, keys[i].id), now);
    }
    free(keys);
}

/* A clock that went back leaves the later mark. */
static void marks_do_not_go_back(test_world *w)
{
    const life_key key = life_issue(w, 0);
    const credstore_api_key_origin origin = {
        .struct_size = sizeof origin, .id = "brought", .last_used_at = 1000};
    const credstore_api_key_patch patch = life_api_key_patch("brought");
    credstore_error err;

    atomic_store(&w->t.now, TEST_NOW + 10 * MINUTE);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_maintain(w);
    atomic_store(&w->t.now, TEST_NOW + 5 * MINUTE);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_maintain(w);
    assert_int_equal(last_used(w, key.id), TEST_NOW + 10 * MINUTE);
    life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, NULL, &err));
    assert_int_equal(last_used(w, "brought"), 1000);
}

static void leave_receipts(test_world *w, size_t count)
{
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("receipt")};
    credstore_error err;

    for (size_t i = 0; i < count; i++) {
        char key[32];

        snprintf(key, sizeof key, "receipt-%zu", i);
        w->call.idempotency_key = key;
        life_ok(credstore_service_credential_create(w->t.store, &w->call, TEST_TENANT, TEST_PARENT,
                                                    NULL, &patch, NULL, &err));
    }
    w->call.idempotency_key = NULL;
}

static void a_budget_ends_the_round(test_world *w)
{
    enum { RECEIPTS = 140 };
    uint32_t more = 1;
    unsigned rounds = 0;
    credstore_error err;

    leave_receipts(w, RECEIPTS);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), RECEIPTS);
    atomic_store(&w->t.now, TEST_NOW + LIFE_DAY - 1); /* the clock is believed */
    life_maintain(w);
    atomic_store(&w->t.now, TEST_NOW + 2 * LIFE_DAY - 2);
    while (more != 0 && rounds < 100) {
        life_ok(credstore_maintain(w->t.store, 1, &more, &err));
        rounds++;
    }
    assert_int_equal(more, 0);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 0);
    leave_receipts(w, RECEIPTS);
    atomic_store(&w->t.now, TEST_NOW + 3 * LIFE_DAY - 3);
    life_maintain(w);
    atomic_store(&w->t.now, TEST_NOW + 4 * LIFE_DAY - 4);
    life_ok(credstore_maintain(w->t.store, 0, &more, &err)); /* without one, all of it */
    assert_int_equal(more, 0);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 0);
}

/* ---- graces and keys that end ---- */

static const char *const hook_1 = "whsec_the_first_of_them", *const hook_2 = "whsec_the_second_one";
#define PROJECT "3c90c3cc-0d44-4b50-8888-8dd25736052a"

static void set_hook(test_world *w)
{
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .test_webhook_secret =
                                              CREDSTORE_SECRET(hook_1, CREDSTORE_NTS)};
    credstore_error err;

    life_ok(credstore_stripe_update(w->t.store, &w->call, PROJECT, &patch, NULL, &err));
}

static void roll_hook(test_world *w, uint32_t grace_s)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET(hook_2, CREDSTORE_NTS);
    credstore_error err;

    life_ok(credstore_stripe_roll(w->t.store, &w->call, PROJECT,
                                  CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET, &fresh, grace_s, NULL,
                                  &err));
}

/* A change that leaves the secrets as they are. */
static void set_publishable(test_world *w, unsigned n)
{
    char text[64];
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .test_publishable_key = CREDSTORE_TEXT(text)};
    credstore_error err;

    snprintf(text, sizeof text, "pk_test_Kq8Jc3Ny7Pf%u4242", n);
    life_ok(credstore_stripe_update(w->t.store, &w->call, PROJECT, &patch, NULL, &err));
}

static cs_key key_of(test_world *w, uint8_t kind, const char *id)
{
    const test_at at = {TEST_TENANT, TEST_PARENT, id};

    return life_record_key(w, test_kind_of(kind), &at);
}

/* How many sealed parts lie in the record's current value. */
static uint16_t parts_of(test_world *w, uint8_t kind, const char *id)
{
    const cs_key key = key_of(w, kind, id);
    cs_buf value = life_raw_get(w->t.store, &key);
    const uint16_t parts = cs_get_u16(value.ptr + 2);

    cs_buf_free(&value);
    return parts;
}

static void at(test_world *w, int64_t now)
{
    atomic_store(&w->t.now, now);
}

/* The last entry of the audit is maintenance's. */
static void last_entry_is_expire(test_world *w, const char *changed)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    const credstore_audit_page *page = NULL;
    const credstore_audit_entry *last;
    credstore_error err;

    life_ok(credstore_audit_read(w->t.store, &call, 0, 1000, 0, &page, &err));
    last = page->items[page->count - 1];
    assert_int_equal(last->action, CREDSTORE_ACTION_EXPIRE);
    assert_int_equal(last->actor_type, CREDSTORE_ACTOR_SYSTEM);
    assert_string_equal(last->actor, "maintenance");
    assert_string_equal(last->tenant, TEST_TENANT);
    assert_true(last->changed_count >= 1);
    assert_string_equal(last->changed[0], changed);
    credstore_free(page);
}

static void an_ended_secret_leaves_the_record(test_world *w)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", TEST_TENANT);
    credstore_call call = test_call(&system);
    const credstore_stripe *before = NULL, *after = NULL;
    credstore_secret *secret = NULL;
    credstore_error err;

    set_hook(w);
    at(w, TEST_NOW + 1000);
    roll_hook(w, 60);
    assert_int_equal(parts_of(w, CREDSTORE_KIND_STRIPE, PROJECT), 2);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 1);
    life_ok(credstore_stripe_get(w->t.store, &w->call, PROJECT, &before, &err));
    at(w, TEST_NOW + 60999);
    life_maintain(w);
    assert_int_equal(parts_of(w, CREDSTORE_KIND_STRIPE, PROJECT), 2);
    at(w, TEST_NOW + 61000);
    life_maintain(w);
    assert_int_equal(parts_of(w, CREDSTORE_KIND_STRIPE, PROJECT), 1);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 0);
    last_entry_is_expire(w, "test_webhook_secret");
    life_ok(credstore_stripe_get(w->t.store, &w->call, PROJECT, &after, &err));
    assert_int_equal(after->revision, before->revision + 1);
    assert_int_equal(after->updated_at, before->updated_at);
    for (uint64_t revision = 1; revision <= 3; revision++) { /* each opens what it always did */
        call.at_revision = revision;
        life_ok(credstore_stripe_reveal(w->t.store, &call, PROJECT,
                                        CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET, &secret, &err));
        assert_string_equal(credstore_secret_ptr(secret), revision == 1 ? hook_1 : hook_2);
        credstore_secret_free(secret);
    }
    credstore_free(before);
    credstore_free(after);
}

static void an_ended_token_leaves_the_record(test_world *w)
{
    life_key key = life_issue(w, 0), service = life_issue_service(w);
    const life_key old = key, old_service = service;
    credstore_secret *secret = NULL;
    credstore_error err;

    life_roll(w, &key, 60);
    life_ok(credstore_service_credential_roll(w->t.store, &w->call, TEST_TENANT, TEST_PARENT,
                                              service.id, 60, &secret, NULL, &err));
    life_take(secret, service.token);
    life_verifies(w, old.token, CREDSTORE_OK);
    life_service_verifies(w, old_service.token, CREDSTORE_OK);
    at(w, TEST_NOW + 60000);
    life_maintain(w);
    last_entry_is_expire(w, "previous");
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 0);
    at(w, TEST_NOW - 3 * LIFE_DAY); /* for good */
    life_verifies(w, old.token, CREDSTORE_E_UNAUTHENTICATED);
    life_service_verifies(w, old_service.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_service_verifies(w, service.token, CREDSTORE_OK);
}

static void set_end(test_world *w, const char *id, int64_t end)
{
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .expires_at = CREDSTORE_TIME(end)};
    credstore_error err;

    life_ok(credstore_api_key_update(w->t.store, &w->call, id, &patch, NULL, &err));
}

/* The key as an actor, as it was verified when it still was good. */
static credstore_status acts(test_world *w, const credstore_actor *actor)
{
    const credstore_call call = test_call(actor);
    credstore_error err;

    return credstore_stripe_deactivate(w->t.store, &call, PROJECT, NULL, &err);
}

static void expired_is_for_good(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 3600000);
    const credstore_api_key_patch other = {.struct_size = sizeof other,
                                           .description = CREDSTORE_TEXT("another")};
    credstore_actor actor;
    credstore_error err;

    set_hook(w);
    life_ok(credstore_api_key_verify(w->t.store, key.token, CREDSTORE_NTS, &actor, &err));
    actor.expires_at = 0;
    test_grant(w->t.store, &actor, "stripe:update");
    at(w, TEST_NOW + 2 * 3600000);
    life_maintain(w);
    last_entry_is_expire(w, "expired");
    at(w, TEST_NOW - 3 * LIFE_DAY);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    assert_int_equal(acts(w, &actor), CREDSTORE_E_EXPIRED);
    life_maintain(w);
    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &other, NULL, &err));
    if (w->t.engine == TEST_LMDB)
        life_ok(test_reopen(&w->t, &err));
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    set_end(w, key.id, TEST_NOW + LIFE_DAY); /* another end revives it */
    life_verifies(w, key.token, CREDSTORE_OK);
}

/* Nothing that did not end in truth is dead when the clock comes back. */
static void ten_years_ahead_and_back(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + LIFE_DAY);
    life_key rolled = life_issue(w, 0);
    const life_key old = rolled;
    uint64_t generation;

    life_roll(w, &rolled, 7200);
    set_hook(w);
    roll_hook(w, 7200);
    life_maintain(w);
    for (int64_t hours = 0; hours < 23; hours += 11) {
        at(w, TEST_NOW + 3653 * LIFE_DAY + hours * 3600000);
        life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
        life_verifies(w, old.token, CREDSTORE_E_UNAUTHENTICATED);
        life_maintain(w);
        (void)life_issue(w, 0);              /* a change notes the time, too */
        set_publishable(w, (unsigned)hours); /* one of the record itself lets go of nothing */
    }
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 3);
    at(w, TEST_NOW + 3600000);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_verifies(w, old.token, CREDSTORE_OK);
    life_maintain(w);
    generation = test_generation(w->t.store);
    life_maintain(w);
    assert_int_equal(test_generation(w->t.store), generation);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_verifies(w, old.token, CREDSTORE_OK);
    assert_int_equal(parts_of(w, CREDSTORE_KIND_STRIPE, PROJECT), 2);
    at(w, TEST_NOW + 7200000); /* and then they end as they should */
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 1);
    assert_int_equal(parts_of(w, CREDSTORE_KIND_STRIPE, PROJECT), 1);
}

/* After an idle time the clock is believed when it has run for a day. */
static void a_clock_is_believed_after_a_day(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + LIFE_DAY);

    at(w, TEST_NOW + 10 * LIFE_DAY);
    life_maintain(w);
    at(w, TEST_NOW + 11 * LIFE_DAY - 1);
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 1);
    at(w, TEST_NOW + 11 * LIFE_DAY);
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 0);
    at(w, TEST_NOW);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
}

static void looks_at_the_clock(test_world *w)
{
#define D LIFE_DAY
    static const struct {
        int64_t believed, candidate, now, then_believed, then_candidate;
    } rows[] = {
        {5 * D, 0, 5 * D + 1, 5 * D + 1, 0},
        {5 * D, 0, 6 * D - 1, 6 * D - 1, 0},
        {5 * D, 7 * D, 5 * D + 1, 5 * D + 1, 0},   /* it came back */
        {5 * D, 0, 2 * D, 2 * D, 0},               /* it went back */
        {5 * D, 0, 6 * D, 5 * D, 6 * D},           /* a jump, or idle */
        {5 * D, 9 * D, 8 * D, 5 * D, 8 * D},       /* back, not all the way */
        {5 * D, 9 * D, 10 * D - 1, 5 * D, 9 * D},  /* not yet */
        {5 * D, 9 * D, 10 * D, 10 * D, 0},         /* a day older */
        {5 * D, 9 * D, 11 * D - 1, 11 * D - 1, 0}, /* still one step */
        {5 * D, 9 * D, 11 * D, 9 * D, 11 * D},     /* again a jump: the one before was none */
        {5 * D, 9 * D, 3000 * D, 9 * D, 3000 * D},
        {0, 0, 20000 * D, 0, 20000 * D},
    };

    (void)w;
    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        const cs_clock c = {rows[i].believed, rows[i].candidate};
        const cs_clock then = cs_clock_look(c, rows[i].now);

        assert_int_equal(then.believed, rows[i].then_believed);
        assert_int_equal(then.candidate, rows[i].then_candidate);
    }
}

/* Entries that a later change made pointless go without a revision. */
static void pointless_ends(test_world *w)
{
    const life_key later = life_issue(w, TEST_NOW + 1000), gone = life_issue(w, TEST_NOW + 1000);
    uint64_t revision;
    const credstore_api_key *view = NULL;
    credstore_error err;

    set_hook(w);
    roll_hook(w, 1);
    roll_hook(w, 0); /* the same secret: no change */
    set_end(w, later.id, TEST_NOW + 9000);
    life_ok(credstore_api_key_remove(w->t.store, &w->call, gone.id, &err));
    life_ok(credstore_api_key_get(w->t.store, &w->call, later.id, &view, &err));
    revision = view->revision;
    credstore_free(view);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 4);
    at(w, TEST_NOW + 1000);
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 1);
    life_ok(credstore_api_key_get(w->t.store, &w->call, later.id, &view, &err));
    assert_int_equal(view->revision, revision);
    credstore_free(view);
    life_verifies(w, later.token, CREDSTORE_OK);
    life_verifies(w, gone.token, CREDSTORE_E_REVOKED);
    at(w, TEST_NOW + 9000);
    life_maintain(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 0);
}

/* ---- what is damaged holds up nothing else ---- */

/* Twice: it is told each time. */
static void tells(test_world *w)
{
    credstore_error err;

    for (int i = 0; i < 2; i++)
        life_fails(CREDSTORE_E_INTEGRITY, credstore_maintain(w->t.store, 0, NULL, &err));
}

static cs_key first_of(test_world *w, uint8_t table)
{
    cs_key last;

    assert_int_equal(life_keys(w->t.store, table, &last), 1);
    return last;
}

static void a_damaged_end(test_world *w)
{
    const life_key first = life_issue(w, TEST_NOW + 1000);
    const cs_key entry = first_of(w, CS_TABLE_END), odd = {3, {CS_TABLE_END, 0, 7}};
    const life_key unread = life_issue(w, TEST_NOW + 2000), last = life_issue(w, TEST_NOW + 3000);
    const cs_key record = key_of(w, CREDSTORE_KIND_API_KEY, unread.id);

    life_damage(w->t.store, &entry, 0);
    life_damage(w->t.store, &record, 0);
    life_raw_put(w->t.store, &odd, cs_bytes("x", 1));
    at(w, TEST_NOW + 3000);
    tells(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 3);
    at(w, TEST_NOW - 3 * LIFE_DAY);
    life_verifies(w, first.token, CREDSTORE_OK); /* not for good: it could not be found */
    life_verifies(w, last.token, CREDSTORE_E_EXPIRED);
}

static void a_damaged_purge(test_world *w)
{
    life_key keys[3];
    cs_key entry;
    const cs_key odd = {7, {CS_TABLE_PURGE, 0, 0, 0, 1, 2, 3}};
    credstore_error err;

    for (size_t i = 0; i < LIFE_COUNT(keys); i++)
        keys[i] = life_issue(w, 0);
    for (size_t i = 0; i < LIFE_COUNT(keys); i++) {
        life_ok(credstore_api_key_remove(w->t.store, &w->call, keys[i].id, &err));
        if (i == 0) {
            entry = first_of(w, CS_TABLE_PURGE);
            life_damage(w->t.store, &entry, 0);
        }
    }
    life_raw_put(w->t.store, &odd, cs_bytes("x", 1));
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECORD, NULL), 6); /* tombstone and history */
    at(w, TEST_NOW + 31 * LIFE_DAY);
    tells(w); /* and the clock is believed a day later */
    at(w, TEST_NOW + 32 * LIFE_DAY);
    tells(w);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_PURGE, NULL), 2);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECORD, NULL), 4);
}

static void a_damaged_mark(test_world *w)
{
    const life_key first = life_issue(w, 0), second = life_issue(w, 0);
    cs_key mark;
    credstore_error err;

    life_verifies(w, first.token, CREDSTORE_OK);
    life_maintain(w);
    mark = first_of(w, CS_TABLE_USAGE);
    life_damage(w->t.store, &mark, 0);
    at(w, TEST_NOW + MINUTE);
    life_verifies(w, first.token, CREDSTORE_OK);
    life_verifies(w, second.token, CREDSTORE_OK);
    tells(w);
    assert_int_equal(last_used(w, second.id), TEST_NOW + MINUTE);
    life_raw_del(w->t.store, &mark);
    life_ok(credstore_maintain(w->t.store, 0, NULL, &err)); /* it was not let go */
    assert_int_equal(last_used(w, first.id), TEST_NOW + MINUTE);
}

/* A believed time that was damaged is told, and begins anew: a day later it ends what it should. */
static void a_damaged_clock(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 3 * 3600000);
    cs_key clock;
    credstore_error err;

    at(w, TEST_NOW + 2 * 3600000);
    life_maintain(w);
    cs_key_clock(&clock, 0);
    life_damage(w->t.store, &clock, 0);
    at(w, TEST_NOW + 4 * 3600000);
    life_fails(CREDSTORE_E_INTEGRITY, credstore_maintain(w->t.store, 0, NULL, &err));
    life_ok(credstore_maintain(w->t.store, 0, NULL, &err));
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 1);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    at(w, TEST_NOW + 4 * 3600000 + LIFE_DAY);
    life_ok(credstore_maintain(w->t.store, 0, NULL, &err));
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 0);
}

static void many_ends_and_a_budget(test_world *w)
{
    enum { KEYS = 60 };
    uint32_t more = 1;
    unsigned rounds = 0;
    credstore_error err;

    for (size_t i = 0; i < KEYS; i++)
        (void)life_issue(w, TEST_NOW + 1000 + (int64_t)(i % 7));
    at(w, TEST_NOW + 2000);
    while (more != 0 && rounds < 10 * KEYS) {
        life_ok(credstore_maintain(w->t.store, 1, &more, &err));
        rounds++;
    }
    assert_int_equal(more, 0);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_END, NULL), 0);
}

static void read_only(test_world *w)
{
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return;
    (void)life_issue(w, 0);
    w->t.options.flags = CREDSTORE_OPEN_READ_ONLY;
    life_ok(test_reopen(&w->t, &err));
    life_fails(CREDSTORE_E_FORBIDDEN, credstore_maintain(w->t.store, 0, NULL, &err));
}

int main(void)
{
    static const test_row rows[] = {
        {"nothing to do writes nothing", nothing_to_do_writes_nothing},
        {"the time is noted", the_time_is_noted},
        {"marks once a minute", marks_once_a_minute},
        {"only what was let in", only_what_was_let_in},
        {"service credentials too", service_credentials_too},
        {"many marks", many_marks},
        {"marks do not go back", marks_do_not_go_back},
        {"a budget ends the round", a_budget_ends_the_round},
        {"an ended secret leaves the record", an_ended_secret_leaves_the_record},
        {"an ended token leaves the record", an_ended_token_leaves_the_record},
        {"expired is for good", expired_is_for_good},
        {"ten years ahead and back", ten_years_ahead_and_back},
        {"a clock is believed after a day", a_clock_is_believed_after_a_day},
        {"looks at the clock", looks_at_the_clock},
        {"pointless ends", pointless_ends},
        {"a damaged end", a_damaged_end},
        {"a damaged purge", a_damaged_purge},
        {"a damaged mark", a_damaged_mark},
        {"a damaged clock", a_damaged_clock},
        {"many ends and a budget", many_ends_and_a_budget},
        {"read-only", read_only},
    };

    return test_run("maintenance", NULL, 0, rows, LIFE_COUNT(rows));
}
