/* SPDX-License-Identifier: MIT
 *
 * Leak lookup: what it says of a secret or token in each state, who may ask, and that the index
 * behind it has what history has: no less after a restore, and no more, whatever was thrown away.
 */
#include "life.h"

#include "fixture.h"

enum { KEPT = 100, RETENTION_DAYS = 30 };

/* ---- asking ---- */

/* The state of the one finding, 0 if there is none. */
static uint32_t state_of(test_world *w, const char *text, uint64_t *revision)
{
    const credstore_leaks *leaks = NULL;
    uint32_t state = 0;
    credstore_error err;

    life_ok(credstore_leak_find(w->t.store, &w->call, text, CREDSTORE_NTS, &leaks, &err));
    assert_true(leaks->count <= 1);
    if (leaks->count == 1) {
        assert_string_equal(leaks->items[0]->tenant, TEST_TENANT);
        state = leaks->items[0]->state;
        if (revision != NULL)
            *revision = leaks->items[0]->revision;
    }
    credstore_free(leaks);
    return state;
}

static void is(test_world *w, const char *text, uint32_t state, uint64_t at_revision)
{
    uint64_t revision = 0;

    assert_int_equal(state_of(w, text, &revision), state);
    assert_int_equal(revision, at_revision);
}

/* Nothing is wrong with the store, whole as it is. */
static void is_sound(test_world *w)
{
    credstore_check_result result = {.struct_size = sizeof result};
    credstore_error err;

    life_ok(credstore_check(w->t.store, &w->call, NULL, &result, &err));
    assert_int_equal(result.findings, 0);
}

static size_t entries(test_world *w)
{
    return life_keys(w->t.store, CS_TABLE_FINGERPRINT, NULL);
}

/* ---- a record with one secret ---- */

static const char *secret(unsigned n)
{
    static char text[2][32]; /* two at a time */
    char *out = text[n % 2];

    snprintf(out, sizeof text[0], "a secret, number %u", n);
    return out;
}

static void begin(test_world *w)
{
    w->k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    w->at = test_at_of(w->k);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
}

static void set_secret(test_world *w, unsigned n)
{
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch, .secret_key = CREDSTORE_SECRET(secret(n), CREDSTORE_NTS)};
    credstore_error err;

    life_ok(credstore_checkbook_update(w->t.store, &w->call, w->at.id, &patch, NULL, &err));
}

/* A revision that leaves the secret as it is. */
static void set_text(test_world *w, unsigned n)
{
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT(secret(n))};
    credstore_error err;

    life_ok(credstore_checkbook_update(w->t.store, &w->call, w->at.id, &patch, NULL, &err));
}

static void roll(test_world *w, unsigned n, uint32_t grace_s)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET(secret(n), CREDSTORE_NTS);
    credstore_error err;

    life_ok(credstore_checkbook_roll(w->t.store, &w->call, w->at.id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                     &fresh, grace_s, NULL, &err));
}

static void restore(test_world *w, uint64_t revision)
{
    credstore_error err;

    life_ok(credstore_checkbook_restore(w->t.store, &w->call, w->at.id, revision, NULL, &err));
}

static void removed_long_ago(test_world *w)
{
    credstore_error err;

    life_ok(credstore_checkbook_remove(w->t.store, &w->call, w->at.id, &err));
    atomic_fetch_add(&w->t.now, RETENTION_DAYS * LIFE_DAY);
    life_maintain(w);
    atomic_fetch_add(&w->t.now, LIFE_DAY); /* the clock is believed now */
}

/* ---- states ---- */

static void states_of_a_secret(test_world *w)
{
    credstore_error err;

    begin(w);
    set_secret(w, 2);
    is(w, secret(2), CREDSTORE_LEAK_CURRENT, 2);
    is(w, "never a secret", 0, 0);
    roll(w, 3, 60);
    is(w, secret(2), CREDSTORE_LEAK_GRACE, 2);
    is(w, secret(3), CREDSTORE_LEAK_CURRENT, 3);
    atomic_fetch_add(&w->t.now, 60000);
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2);
    life_maintain(w); /* the grace leaves the record */
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2);
    restore(w, 2);
    is(w, secret(2), CREDSTORE_LEAK_CURRENT, 2);
    is(w, secret(3), CREDSTORE_LEAK_PAST, 3);
    is_sound(w);
    life_ok(credstore_checkbook_remove(w->t.store, &w->call, w->at.id, &err));
    is(w, secret(2), CREDSTORE_LEAK_REMOVED, 2);
    is(w, secret(3), CREDSTORE_LEAK_REMOVED, 3);
}

static void states_of_a_token(test_world *w)
{
    const life_key first = life_issue(w, 0), dies = life_issue(w, TEST_NOW + 1000);
    life_key second = first;
    credstore_error err;

    is(w, first.token, CREDSTORE_LEAK_CURRENT, 0);
    life_roll(w, &second, 60);
    is(w, first.token, CREDSTORE_LEAK_GRACE, 0);
    is(w, second.token, CREDSTORE_LEAK_CURRENT, 0);
    atomic_fetch_add(&w->t.now, 60000);
    is(w, first.token, CREDSTORE_LEAK_PAST, 0);
    is(w, dies.token, CREDSTORE_LEAK_PAST, 0);
    life_maintain(w);
    is(w, first.token, CREDSTORE_LEAK_PAST, 0); /* history tells */
    life_ok(credstore_api_key_remove(w->t.store, &w->call, first.id, &err));
    is(w, second.token, CREDSTORE_LEAK_REMOVED, 0);
    is(w, first.token, CREDSTORE_LEAK_REMOVED, 0);
    life_time_passes(w, (RETENTION_DAYS + 1) * LIFE_DAY);
    is(w, second.token, CREDSTORE_LEAK_REMOVED, 0); /* the tombstone tells */
    is(w, first.token, 0, 0);
}

static void digest_of(test_world *w, const char *token, uint8_t out[CS_DIGEST_LEN])
{
    const cs_sealer *sealer = &w->t.store->sealer;

    assert_int_equal(sealer->crypto->digest(sealer->ctx, cs_bytes_of(token), out),
                     CREDSTORE_CRYPTO_OK);
}

/* In any order. */
static void two_know(test_world *w, const char *token, const char *past, const char *current)
{
    const credstore_leaks *leaks = NULL;
    credstore_error err;

    life_ok(credstore_leak_find(w->t.store, &w->call, token, CREDSTORE_NTS, &leaks, &err));
    assert_int_equal(leaks->count, 2);
    for (size_t i = 0; i < 2; i++) {
        const credstore_leak *leak = leaks->items[i];
        const bool is_past = strcmp(leak->id, past) == 0;

        assert_string_equal(leak->id, is_past ? past : current);
        assert_int_equal(leak->state, is_past ? CREDSTORE_LEAK_PAST : CREDSTORE_LEAK_CURRENT);
    }
    assert_string_not_equal(leaks->items[0]->id, leaks->items[1]->id);
    credstore_free(leaks);
}

/* A token that one record rolled away and another imported since: both are told, and that it is
   good. */
static void a_token_that_two_know(test_world *w)
{
    const life_key first = life_issue(w, 0);
    const credstore_api_key_patch patch = life_api_key_patch("imported");
    const credstore_api_key *second = NULL;
    uint8_t digest[CS_DIGEST_LEN];
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .token_sha256 = digest};
    life_key rolled = first;
    credstore_error err;

    life_roll(w, &rolled, 0);
    is(w, first.token, CREDSTORE_LEAK_PAST, 0);
    digest_of(w, first.token, digest);
    life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, &second, &err));
    life_verifies(w, first.token, CREDSTORE_OK);
    two_know(w, first.token, first.id, second->id);
    is(w, rolled.token, CREDSTORE_LEAK_CURRENT, 0);
    credstore_free(second);
}

/* One that came from another store with its id is found by either way, and told once. */
static void a_token_with_its_id(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("imported");
    uint8_t digest[CS_DIGEST_LEN];
    test_world *other = calloc(1, sizeof *other);
    credstore_error err;
    life_key key;

    assert_non_null(other);
    test_open(&other->t, TEST_MEMORY);
    other->root = test_root(other->t.store);
    other->call = test_call(&other->root);
    key = life_issue(other, 0);
    test_close(&other->t);
    free(other);
    digest_of(w, key.token, digest);
    const credstore_api_key_origin origin = {
        .struct_size = sizeof origin, .id = key.id, .token_sha256 = digest};
    life_ok(credstore_api_key_create(w->t.store, &w->call, &origin, &patch, NULL, &err));
    life_verifies(w, key.token, CREDSTORE_OK);
    is(w, key.token, CREDSTORE_LEAK_CURRENT, 0);
}

static void who_may_ask(test_world *w)
{
    const credstore_actor admin =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", TEST_TENANT);
    const credstore_call call = test_call(&admin);
    const credstore_leaks *leaks = (const credstore_leaks *)(const void *)w;
    char long_text[4097];
    credstore_error err;

    begin(w);
    memset(long_text, 'a', sizeof long_text);
    life_fails(CREDSTORE_E_FORBIDDEN,
               credstore_leak_find(w->t.store, &call, "x", CREDSTORE_NTS, &leaks, &err));
    assert_null(leaks);
    life_fails(CREDSTORE_E_INVALID, credstore_leak_find(w->t.store, &w->call, "", 0, &leaks, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_leak_find(w->t.store, &w->call, long_text,
                                                        sizeof long_text, &leaks, &err));
    life_ok(
        credstore_leak_find(w->t.store, &w->call, long_text, sizeof long_text - 1, &leaks, &err));
    assert_int_equal(leaks->count, 0);
    credstore_free(leaks);
}

/* ---- the index has what history has ---- */

static void it_does_not_grow(test_world *w)
{
    enum { LAST = KEPT + 30 };

    begin(w);
    for (unsigned n = 2; n <= LAST; n++)
        set_secret(w, n);
    assert_int_equal(entries(w), KEPT + 1);
    is(w, secret(LAST), CREDSTORE_LEAK_CURRENT, LAST);
    is(w, secret(LAST - KEPT), CREDSTORE_LEAK_PAST, LAST - KEPT);
    is(w, secret(LAST - KEPT - 1), 0, 0);
    is_sound(w);
}

/* Nor where secrets are in their grace when they are replaced, and end in between. */
static void nor_with_graces(test_world *w)
{
    begin(w);
    for (unsigned n = 2; n <= KEPT + 30; n++) {
        roll(w, n, n % 3 == 0 ? 0 : 60);
        atomic_fetch_add(&w->t.now, n % 5 == 0 ? 120000 : 1000);
        if (n % 7 == 0)
            life_maintain(w);
    }
    is_sound(w); /* which misses none, and finds none too many */
    assert_true(entries(w) <= KEPT + 1);
}

/* A secret that stays is known, however long ago it was set; so is one that was brought back. */
static void what_stays_is_known(test_world *w)
{
    begin(w);
    set_secret(w, 2);
    set_secret(w, 3);
    restore(w, 2); /* revision 4; the secret of revision 2 lies twice */
    for (unsigned n = 5; n <= KEPT + 10; n++)
        set_text(w, n);
    is(w, secret(2), CREDSTORE_LEAK_CURRENT, 2);
    is(w, secret(3), 0, 0);
    assert_int_equal(entries(w), 1);
    is_sound(w);
    set_secret(w, 4);
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2);
    for (unsigned n = 1; n < KEPT; n++)
        set_text(w, n);
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2);
    assert_int_equal(entries(w), 2);
    is_sound(w);
    set_text(w, 0);
    set_text(w, 1);
    is(w, secret(2), 0, 0);
    assert_int_equal(entries(w), 1);
    is_sound(w);
}

/* Brought back and replaced again: it lies twice in history, and goes with the later one. */
static void twice_in_history(test_world *w)
{
    begin(w);
    set_secret(w, 2);
    set_secret(w, 3);
    restore(w, 2);    /* revision 4 */
    set_secret(w, 4); /* so 2 and 4 have it in history */
    for (unsigned n = 6; n <= KEPT + 4; n++)
        set_text(w, n);
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2); /* 2 is gone */
    is(w, secret(3), 0, 0);
    is_sound(w);
    set_text(w, 1);
    is(w, secret(2), 0, 0);
    assert_int_equal(entries(w), 1);
    is_sound(w);
}

/* The change that drops an earlier run replaces the one of now, which goes into history. */
static void replaced_at_the_end(test_world *w)
{
    begin(w);
    set_secret(w, 2);
    set_secret(w, 3);
    restore(w, 2);
    for (unsigned n = 5; n <= KEPT + 2; n++)
        set_text(w, n);
    roll(w, 4, 0);
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2);
    is_sound(w);
}

/* The change that drops the last revision with a secret is the one that brings it back. */
static void brought_back_at_the_end(test_world *w)
{
    begin(w);
    set_secret(w, 2); /* 1 goes into history with its own secret */
    for (unsigned n = 3; n <= KEPT + 2; n++)
        set_text(w, n); /* 1 is gone with the last of them */
    set_secret(w, 3);
    for (unsigned n = 1; n < KEPT; n++)
        set_text(w, n);
    is(w, secret(2), CREDSTORE_LEAK_PAST, 2);
    restore(w, KEPT + 2); /* the last one that had it, and the one that goes */
    is(w, secret(2), CREDSTORE_LEAK_CURRENT, 2);
    assert_int_equal(entries(w), 2);
    is_sound(w);
    for (unsigned n = 1; n < KEPT; n++)
        set_text(w, n + 1000);
    is(w, secret(2), CREDSTORE_LEAK_CURRENT, 2);
    is(w, secret(3), CREDSTORE_LEAK_PAST, 3 + KEPT);
    set_text(w, 1);
    assert_int_equal(entries(w), 1);
    is_sound(w);
}

/* Several batches of it, with one that lies in the first and in the last. */
static void it_goes_with_the_history(test_world *w)
{
    begin(w);
    for (unsigned n = 2; n <= 90; n++)
        set_secret(w, n);
    restore(w, 5);
    assert_int_equal(entries(w), 90);
    removed_long_ago(w);
    is(w, secret(5), CREDSTORE_LEAK_REMOVED, 5);
    is_sound(w);
    life_maintain(w);
    assert_int_equal(entries(w), 0);
    is(w, secret(5), 0, 0);
    is_sound(w);
}

/* A revision that is damaged goes as well. Which secrets went with it nobody can tell then: their
   entries are told by the check, and taken away by the repair. */
static void damaged_ones_go_too(test_world *w)
{
    credstore_check_result result = {.struct_size = sizeof result};
    credstore_repair_result mended = {.struct_size = sizeof mended};
    cs_key key;
    credstore_error err;

    begin(w);
    for (unsigned n = 2; n <= KEPT + 1; n++)
        set_secret(w, n);
    key = life_history_key(w, w->k, &w->at, 1);
    life_damage(w->t.store, &key, 60);
    set_secret(w, KEPT + 2);
    assert_int_equal(entries(w), KEPT + 2);
    life_ok(credstore_check(w->t.store, &w->call, NULL, &result, &err));
    assert_int_equal(result.findings, 1);
    life_ok(credstore_repair_indexes(w->t.store, &w->call, &mended, &err));
    assert_int_equal(mended.removed, 1);
    assert_int_equal(mended.added, 0);
    assert_int_equal(entries(w), KEPT + 1);
    is_sound(w);
}

/* One behind it that is damaged may have any of them. */
static void damaged_ones_keep(test_world *w)
{
    cs_key key;
    cs_buf value;

    begin(w);
    for (unsigned n = 2; n <= KEPT + 1; n++)
        set_secret(w, n);
    key = life_history_key(w, w->k, &w->at, 50);
    value = life_raw_get(w->t.store, &key);
    life_damage(w->t.store, &key, value.len - 2); /* the role, in the frame */
    cs_buf_free(&value);
    set_secret(w, KEPT + 2);
    assert_int_equal(entries(w), KEPT + 2);
}

/* All reads of a change, and of a batch of maintenance, come before its writes. */
static void reads_come_first(void **state)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    credstore_error err;
    credstore *store;
    fx f;

    (void)state;
    fx_begin(&f);
    store = fx_open(&f);
    fx_create_checkbook(store, FX_KSUID, secret(1));
    for (unsigned n = 2; n <= KEPT + 10; n++)
        fx_ok(fx_set_secret(store, FX_KSUID, secret(n), &err), &err);
    fx_ok(credstore_checkbook_remove(store, &call, FX_KSUID, &err), &err);
    for (int day = RETENTION_DAYS; day <= RETENTION_DAYS + 1; day++) { /* believed a day later */
        f.now += day == RETENTION_DAYS ? RETENTION_DAYS * FX_DAY : FX_DAY;
        fx_ok(credstore_maintain(store, 0, NULL, &err), &err);
    }
    assert_int_equal(life_keys(store, CS_TABLE_FINGERPRINT, NULL), 0);
    credstore_close(store);
    fx_end(&f); /* which looks at it */
}

int main(void)
{
    static const struct CMUnitTest more[] = {cmocka_unit_test(reads_come_first)};
    static const test_row rows[] = {
        {"states of a secret", states_of_a_secret},
        {"states of a token", states_of_a_token},
        {"a token that two know", a_token_that_two_know},
        {"a token with its id", a_token_with_its_id},
        {"who may ask", who_may_ask},
        {"it does not grow", it_does_not_grow},
        {"nor with graces", nor_with_graces},
        {"what stays is known", what_stays_is_known},
        {"twice in history", twice_in_history},
        {"replaced at the end", replaced_at_the_end},
        {"brought back at the end", brought_back_at_the_end},
        {"it goes with the history", it_goes_with_the_history},
        {"damaged ones go too", damaged_ones_go_too},
        {"damaged ones keep", damaged_ones_keep},
    };

    return test_run("leaks", NULL, 0, rows, LIFE_COUNT(rows)) +
           cmocka_run_group_tests(more, NULL, NULL);
}
