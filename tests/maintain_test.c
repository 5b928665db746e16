/* SPDX-License-Identifier: MIT
 *
 * Maintenance: last-used marks once a minute, receipts that are over, the budget, and that it
 * writes nothing where there is nothing to do.
 */
#include "life.h"

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
    assert_int_equal(test_generation(w->t.store), generation + 1);
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
    atomic_store(&w->t.now, TEST_NOW + 3 * LIFE_DAY);
    while (more != 0 && rounds < 100) {
        life_ok(credstore_maintain(w->t.store, 1, &more, &err));
        rounds++;
    }
    assert_int_equal(more, 0);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 0);
    leave_receipts(w, RECEIPTS);
    atomic_store(&w->t.now, TEST_NOW + 6 * LIFE_DAY);
    life_ok(credstore_maintain(w->t.store, 0, &more, &err)); /* without one, all of it */
    assert_int_equal(more, 0);
    assert_int_equal(life_keys(w->t.store, CS_TABLE_RECEIPT, NULL), 0);
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
        {"read-only", read_only},
    };

    return test_run("maintenance", NULL, 0, rows, LIFE_COUNT(rows));
}
