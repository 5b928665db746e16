/* SPDX-License-Identifier: MIT
 *
 * A tenant's departure: all that is his and nothing else, whatever the budget, past what is
 * damaged.
 */
#include "life.h"

#include <time.h>

static const char *const tenants[] = {"acme", "beta"};
enum { BETA = 1 };

/* One record of each kind, of each tenant. */
static void populate(test_world *w)
{
    credstore_error err;

    for (size_t t = 0; t < LIFE_COUNT(tenants); t++)
        for (size_t i = 0; i < test_kind_count; i++) {
            const test_kind *k = &test_kinds[i];
            const bool issues = k->kind->make_id != NULL && k->kind->scope == CS_SCOPE_STORE;
            credstore_call call = test_call(&w->root);
            test_at at = test_at_of(k);
            test_patch patch;

            call.tenant = at.tenant = tenants[t];
            at.id = issues ? NULL : at.id;
            test_patch_whole(k, &patch, 1);
            life_ok(k->create(w->t.store, &call, &at, NULL, patch.u.bytes, NULL, &err));
        }
}

static size_t left(test_world *w)
{
    const credstore_stats *stats = NULL;
    credstore_error err;
    size_t count = 0;

    life_ok(credstore_statistics(w->t.store, &w->call, CREDSTORE_STATISTICS_KINDS, &stats, &err));
    for (size_t i = 0; i < stats->kind_count; i++)
        count += (size_t)stats->kinds[i]->records;
    credstore_free(stats);
    return count;
}

static void all_of_one_tenant(test_world *w)
{
    uint64_t removed = 0;
    uint32_t more = 7;
    credstore_error err;

    populate(w);
    assert_int_equal(left(w), 2 * test_kind_count);
    w->call.tenant = tenants[BETA];
    life_ok(credstore_offboard(w->t.store, &w->call, 0, &more, &removed, &err));
    assert_int_equal(more, 0);
    assert_int_equal(removed, test_kind_count);
    assert_int_equal(left(w), test_kind_count);
    credstore_free(test_get(&w->t, test_kind_of(CREDSTORE_KIND_STRIPE), &w->root)); /* acme's */
    life_ok(credstore_offboard(w->t.store, &w->call, 0, &more, &removed, &err));
    assert_int_equal(removed, 0);
    w->call.tenant = NULL;
    life_fails(CREDSTORE_E_INVALID,
               credstore_offboard(w->t.store, &w->call, 0, &more, &removed, &err));
    assert_int_equal(left(w), test_kind_count);
}

/* Many records of others lie before his; a budget that is less than the walk over them takes gets
   on all the same. */
static void a_small_budget_ends(test_world *w)
{
    enum { OTHERS = 4000 };
    const credstore_stripe_patch patch = {.struct_size = sizeof patch};
    credstore_call call = test_call(&w->root);
    uint64_t removed = 0, all = 0;
    uint32_t more = 1;
    unsigned calls = 0;
    credstore_error err;

    populate(w);
    call.tenant = "others";
    for (int i = 0; i < (w->t.engine == TEST_LMDB ? OTHERS / 4 : OTHERS); i++) {
        char id[40];

        snprintf(id, sizeof id, "3c90c3cc-0d44-4b50-8888-%012d", i);
        life_ok(credstore_stripe_create(w->t.store, &call, id, NULL, &patch, NULL, &err));
    }
    call.tenant = tenants[BETA];
    for (; more != 0 && calls < 50; calls++, all += removed)
        life_ok(credstore_offboard(w->t.store, &call, 1, &more, &removed, &err));
    assert_int_equal(more, 0);
    assert_int_equal(all, test_kind_count);
}

/* ---- a clock that does something ---- */

typedef struct busy_clock {
    test_world *w;
    unsigned reads, at; /* at the read `at`, from 1, the key is removed by the other handle */
    credstore *other;
    const char *id;
    bool gone; /* and so it was there still */
} busy_clock;

static int64_t removes_meanwhile(void *ctx)
{
    busy_clock *c = ctx;
    credstore_error err;

    if (++c->reads == c->at)
        c->gone = credstore_api_key_remove(c->other, &c->w->call, c->id, &err) == CREDSTORE_OK;
    return atomic_load(&c->w->t.now);
}

static int64_t naps(void *ctx)
{
    const struct timespec pause = {0, 2000000};

    nanosleep(&pause, NULL);
    return atomic_load(&((test_world *)ctx)->t.now);
}

/* What another removed between finding and removing is not counted, whenever that was. */
static void what_others_removed(test_world *w)
{
    busy_clock c = {.w = w};
    unsigned theirs = 0;
    bool reached = true;
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return; /* it takes a second handle */
    c.other = life_open_second(w);
    w->t.options.now_ms = removes_meanwhile;
    w->t.options.now_ctx = &c;
    life_ok(test_reopen(&w->t, &err));
    w->call.tenant = tenants[BETA];
    for (unsigned at = 1; reached; at++) {
        const life_key one = life_issue(w, 0), two = life_issue(w, 0);
        uint64_t removed = 7;
        uint32_t more = 7;

        c.id = at % 2 == 0 ? one.id : two.id;
        c.reads = 0;
        c.at = at;
        c.gone = false;
        life_ok(credstore_offboard(w->t.store, &w->call, 0, &more, &removed, &err));
        assert_int_equal(more, 0);
        assert_int_equal(removed, c.gone ? 1 : 2);
        theirs += c.gone;
        reached = c.reads >= at;
    }
    assert_true(theirs > 2);
    credstore_close(c.other);
}

/* A record that cannot be read is told by the call that ends, and stops none before: here each has
   time for one. */
static void damage_is_told_at_the_end(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const test_at at = test_at_of(k);
    uint64_t removed = 7;
    uint32_t more = 7;
    credstore_error err;
    cs_buf value;
    cs_key key;

    w->t.options.now_ms = naps;
    w->t.options.now_ctx = w;
    life_ok(test_reopen(&w->t, &err));
    credstore_free(test_make(&w->t, k, &w->root, 1));
    key = life_record_key(w, k, &at);
    value = life_raw_get(w->t.store, &key);
    life_damage(w->t.store, &key, value.len - 40); /* of the body, which comes first */
    cs_buf_free(&value);
    populate(w);
    w->call.tenant = tenants[BETA];
    for (size_t i = 0; i < test_kind_count; i++) {
        life_ok(credstore_offboard(w->t.store, &w->call, 1, &more, &removed, &err));
        assert_int_equal(more, 1);
        assert_int_equal(removed, 1);
    }
    for (int i = 0; i < 2; i++) {
        life_fails(CREDSTORE_E_INTEGRITY,
                   credstore_offboard(w->t.store, &w->call, 1, &more, &removed, &err));
        assert_int_equal(more, 0);
        assert_int_equal(removed, 0);
        assert_true(strlen(err.message) > 0);
    }
}

int main(void)
{
    static const test_row rows[] = {
        {"all of one tenant", all_of_one_tenant},
        {"a small budget ends", a_small_budget_ends},
        {"what others removed", what_others_removed},
        {"damage is told at the end", damage_is_told_at_the_end},
    };

    return test_run("offboard", NULL, 0, rows, LIFE_COUNT(rows));
}
