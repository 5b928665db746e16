/* SPDX-License-Identifier: MIT
 *
 * Changes that share a transaction: each has its own answer, as if they had come one after the
 * other; what goes wrong with one, or with all, leaves nobody with half of anything. The leader is
 * held inside its own change until the others stand in line, so that the groups are the same each
 * time.
 */
#include "fixture.h"
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "commit.h"
#include "error.h"
#include "group.h"
#include "token.h"

enum { ATTEMPTS = 16, GROUP_MAX = 64, PLAYERS_MAX = 140 };

/* ---- timed waits, counted ---- */

int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *end);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *end);

static atomic_uint timed_waits;

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *end)
{
    atomic_fetch_add(&timed_waits, 1);
    return __real_pthread_cond_timedwait(cond, mutex, end);
}

/* ---- players: a thread and its change each ---- */

typedef struct gate {
    atomic_bool entered, open;
} gate;

typedef struct player player;
struct player {
    pthread_t thread;
    credstore *store;
    credstore_status (*act)(player *p, credstore_error *err); /* NULL: its change, below */
    const char *text;
    int64_t wait_ms;
    gate *gate;                /* its change waits in the transaction until that opens */
    credstore_status before;   /* fails with it before the first put */
    credstore_status after;    /* after it */
    bool idle, audited, looks; /* puts nothing; enters the audit; looks for the first one's value */
    unsigned number;
    atomic_uint runs, place; /* place: in the order of all that ran */
    atomic_bool stale;       /* it ran with what another run had begun to use up */
    bool saw;
    uint8_t random[ATTEMPTS + 2][8];
    atomic_bool ended;
    credstore_status got;
    credstore_error err;
};

static atomic_uint ran;

static void nap(void)
{
    const struct timespec ms = {0, 200000};

    nanosleep(&ms, NULL);
}

static int64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void key_of(cs_key *key, unsigned number)
{
    const cs_locator at = {.kind = 9, .id = cs_bytes_of("player")};

    cs_key_history(key, &at, number + 1);
}

static credstore_status put_value(cs_txn *txn, unsigned number, credstore_error *err)
{
    cs_buf value = {0};
    credstore_status status;
    cs_key key;

    key_of(&key, number);
    cs_buf_u8(&value, CS_FORMAT);
    status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status;
}

static credstore_status look(cs_txn *txn, bool *saw, credstore_error *err)
{
    credstore_bytes value;
    cs_key key;

    key_of(&key, 1);
    return cs_txn_get(txn, &key, &value, saw, err);
}

static credstore_status play(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_audit_entry entry = {.action = CS_ACTION_UPDATE, .actor_type = 1};
    player *p = arg;
    const unsigned run = atomic_fetch_add(&p->runs, 1);
    credstore_status status = CREDSTORE_OK;

    atomic_store(&p->place, atomic_fetch_add(&ran, 1));
    if (txn->random_used != 0 || txn->changed || txn->bytes != 0)
        atomic_store(&p->stale, true);
    memcpy(p->random[run], cs_txn_random(txn, 8), 8);
    if (p->gate != NULL && run == 0) {
        atomic_store(&p->gate->entered, true);
        while (!atomic_load(&p->gate->open))
            nap();
    }
    if (p->looks)
        status = look(txn, &p->saw, err);
    if (status == CREDSTORE_OK && p->before != CREDSTORE_OK)
        return cs_fail(err, p->before, NULL, p->text);
    if (status != CREDSTORE_OK || p->idle)
        return status;
    status = put_value(txn, p->number, err);
    if (status == CREDSTORE_OK && p->audited)
        status = cs_audit_append(txn, &entry, err);
    if (status == CREDSTORE_OK && p->after != CREDSTORE_OK)
        status = cs_fail(err, p->after, NULL, p->text);
    return status;
}

static void *run_player(void *arg)
{
    player *p = arg;
    const cs_work work = {play, p, p->wait_ms};

    memset(&p->err, 0, sizeof p->err);
    p->got = p->act != NULL ? p->act(p, &p->err) : cs_txn_write(p->store, &work, &p->err);
    atomic_store(&p->ended, true);
    pthread_testcancel();
    return NULL;
}

/* ---- a game: the first player leads, and is held until the others stand in line ---- */

typedef struct game {
    gate gate;
    cs_group *group;
    cs_group_counts before;
    unsigned count;
    player players[PLAYERS_MAX];
} game;

static game *new_game(credstore *store, unsigned count)
{
    game *g = calloc(1, sizeof *g);

    assert_non_null(g);
    g->group = store->group;
    cs_group_read(g->group, &g->before);
    g->count = count;
    for (unsigned i = 0; i < count; i++) {
        g->players[i].store = store;
        g->players[i].number = i;
        g->players[i].audited = true;
        g->players[i].text = "its own";
        g->players[i].wait_ms = 600000; /* under valgrind it takes long to line up */
    }
    g->players[0].gate = &g->gate;
    atomic_store(&ran, 0);
    return g;
}

static void start(player *p)
{
    assert_int_equal(pthread_create(&p->thread, NULL, run_player, p), 0);
}

static void wait_in_line(game *g, unsigned count)
{
    cs_group_counts now = {.waiting = count + 1};

    for (unsigned i = 0; i < 50000 && now.waiting != count; i++) {
        nap();
        cs_group_read(g->group, &now);
    }
    assert_int_equal(now.waiting, count);
}

/* refused: a player who never comes as far as the line; 0 = none. */
static void line_up_but(game *g, unsigned refused)
{
    unsigned waiting = 0;

    start(&g->players[0]);
    while (!atomic_load(&g->gate.entered))
        nap();
    for (unsigned i = 1; i < g->count; i++) {
        start(&g->players[i]);
        if (refused == 0 || i != refused)
            wait_in_line(g, ++waiting);
    }
}

static void line_up(game *g)
{
    line_up_but(g, 0);
}

static void finish(game *g)
{
    atomic_store(&g->gate.open, true);
    for (unsigned i = 0; i < g->count; i++)
        assert_int_equal(pthread_join(g->players[i].thread, NULL), 0);
}

static void play_all(game *g)
{
    line_up(g);
    finish(g);
}

static uint64_t commits_of(game *g)
{
    cs_group_counts now;

    cs_group_read(g->group, &now);
    return now.commits - g->before.commits;
}

static bool is_there(credstore *store, unsigned number)
{
    credstore_error err = {0};
    credstore_bytes value;
    bool found = false;
    cs_key key;
    cs_txn txn;

    key_of(&key, number);
    fx_ok(cs_txn_read(store, &txn, &err), &err);
    fx_ok(cs_txn_get(&txn, &key, &value, &found, &err), &err);
    cs_txn_end(&txn);
    return found;
}

/* Player i was answered so, and its change is there if and only if that is OK. */
static void answered(const game *g, unsigned i, credstore_status status)
{
    const player *p = &g->players[i];

    if (p->got != status)
        print_error("player %u: %s: %s\n", i, credstore_status_name((int32_t)p->got),
                    p->err.message);
    assert_int_equal(p->got, status);
    assert_int_equal(p->err.status, status);
    assert_false(p->stale);
    if (p->act == NULL && !p->idle)
        assert_int_equal(is_there(p->store, i), status == CREDSTORE_OK);
}

static void all_answered(const game *g, credstore_status status)
{
    for (unsigned i = 0; i < g->count; i++)
        answered(g, i, status);
}

/* ---- a store that can be made to fail ---- */

typedef struct bench {
    fx f;
    credstore *store;
    uint64_t seq;
} bench;

static credstore_checkpoint verify_audit(credstore *store)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    credstore_checkpoint now = {.struct_size = sizeof now};
    credstore_error err;

    fx_ok(credstore_audit_verify(store, &call, NULL, &now, &err), &err);
    return now;
}

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    fx_begin(&b->f);
    b->store = fx_open(&b->f);
    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_create_checkbook(b->store, FX_KSUID_OTHER, "first");
    b->seq = verify_audit(b->store).seq;
    *state = b;
    return 0;
}

/* The audit is whole, whatever was done. A change reads after the puts of those before it. */
static int end(void **state)
{
    bench *b = *state;

    memset(b->f.engine.fault, 0, sizeof b->f.engine.fault);
    verify_audit(b->store);
    credstore_close(b->store);
    atomic_store(&b->f.engine.late_reads, 0);
    fx_end(&b->f);
    free(b);
    return 0;
}

static void arm(bench *b, int op, int skip, int times, int32_t result, bool anyway)
{
    const fx_fault fault = {.skip = skip, .times = times, .result = result, .anyway = anyway};

    b->f.engine.fault[op] = fault;
}

static uint64_t new_entries(bench *b)
{
    return verify_audit(b->store).seq - b->seq;
}

/* ---- each its own answer ---- */

static void test_own_answers(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 8);
    const uint64_t generation = verify_audit(b->store).generation;
    cs_group_counts now;

    g->players[2].before = CREDSTORE_E_INACTIVE;
    g->players[2].text = "the second's own";
    g->players[3].idle = true;
    g->players[4].before = CREDSTORE_E_CONFLICT;
    g->players[4].text = "the fourth's own";
    g->players[6].audited = false;
    play_all(g);
    for (unsigned i = 0; i < g->count; i++) {
        answered(g, i,
                 i == 2   ? CREDSTORE_E_INACTIVE
                 : i == 4 ? CREDSTORE_E_CONFLICT
                          : CREDSTORE_OK);
        assert_int_equal(g->players[i].runs, 1);
        assert_int_equal(g->players[i].place, i);
    }
    assert_string_equal(g->players[2].err.message, "the second's own");
    assert_string_equal(g->players[4].err.message, "the fourth's own");
    assert_int_equal(commits_of(g), 1);
    assert_int_equal(new_entries(b), 4);
    assert_int_equal(verify_audit(b->store).generation, generation + 1);
    cs_group_read(g->group, &now);
    assert_int_equal(now.changes - g->before.changes, 5);
    assert_int_equal(now.largest, 5);
    assert_int_equal(now.sizes[2] - g->before.sizes[2], 1);
    assert_int_equal(now.waiting, 0);
    free(g);
}

/* Nothing to put: no commit at all. */
static void test_nothing_to_do(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 4);

    for (unsigned i = 0; i < g->count; i++)
        g->players[i].idle = true;
    g->players[1].before = CREDSTORE_E_NOT_FOUND;
    play_all(g);
    for (unsigned i = 0; i < g->count; i++)
        answered(g, i, i == 1 ? CREDSTORE_E_NOT_FOUND : CREDSTORE_OK);
    assert_int_equal(commits_of(g), 0);
    free(g);
}

/* By the public functions: two want the record as it was, one wants one that was never so. */
static credstore_status set_at_one(player *p, credstore_error *err)
{
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT(p->text)};

    call.expected_revision = 1;
    return credstore_checkbook_update(p->store, &call, FX_KSUID, &patch, NULL, err);
}

static credstore_status set_any(player *p, credstore_error *err)
{
    return fx_set_publishable(p->store, FX_KSUID_OTHER, p->text, err);
}

static void test_revisions(void **state)
{
    static const char *const texts[] = {"", "a", "b", "c", "d", "e"};
    bench *b = *state;
    game *g = new_game(b->store, 6);

    for (unsigned i = 1; i < g->count; i++) {
        g->players[i].act = i == 1 || i == 3 ? set_at_one : set_any;
        g->players[i].text = texts[i];
    }
    play_all(g);
    for (unsigned i = 0; i < g->count; i++)
        answered(g, i, i == 3 ? CREDSTORE_E_REVISION : CREDSTORE_OK);
    assert_int_equal(commits_of(g), 1);
    fx_is(b->store, FX_KSUID, 2, "a", "first");
    fx_is(b->store, FX_KSUID_OTHER, 4, "e", "first");
    free(g);
}

/* ---- a put that fails ---- */

static void each_alone(game *g, unsigned culprit, credstore_status status)
{
    for (unsigned i = 0; i < g->count; i++) {
        answered(g, i, i == culprit ? status : CREDSTORE_OK);
        /* Those behind the culprit were not taken yet: they form the group after. */
        assert_int_equal(g->players[i].runs, i <= culprit ? 2 : 1);
    }
}

static void test_failure_after_a_put(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 6);

    g->players[2].after = CREDSTORE_E_TOO_LARGE;
    g->players[2].text = "too large for the second";
    play_all(g);
    each_alone(g, 2, CREDSTORE_E_TOO_LARGE);
    assert_string_equal(g->players[2].err.message, "too large for the second");
    assert_int_equal(commits_of(g), 3); /* two alone, and three together */
    assert_int_equal(new_entries(b), 5);
    free(g);
}

/* The engine fails once, anywhere in the group: alone, all go well. */
static void test_put_fails_in_the_engine(void **state)
{
    bench *b = *state;

    for (int skip = 0; skip < 11; skip++) {
        game *g = new_game(b->store, 5);

        arm(b, FX_PUT, skip, 1, CREDSTORE_STORAGE_FULL, false);
        play_all(g);
        assert_int_equal(b->f.engine.fault[FX_PUT].times, 0);
        /* The first two are the leader's own, before anybody was with it. */
        for (unsigned i = 0; i < g->count; i++)
            answered(g, i, i == 0 && skip < 2 ? CREDSTORE_E_FULL : CREDSTORE_OK);
        free(g);
    }
}

/* And where the engine stays full, each hears it. */
static void test_put_fails_for_all(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 5);

    arm(b, FX_PUT, 0, 1000, CREDSTORE_STORAGE_FULL, false);
    play_all(g);
    arm(b, FX_PUT, 0, 0, 0, false);
    all_answered(g, CREDSTORE_E_FULL);
    assert_int_equal(commits_of(g), 0);
    free(g);
}

/* ---- a commit that fails ---- */

static void test_commit_fails(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 5);

    g->players[3].idle = true;
    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_FULL, false);
    play_all(g);
    for (unsigned i = 0; i < g->count; i++)
        assert_int_equal(g->players[i].runs, 2);
    all_answered(g, CREDSTORE_OK);
    assert_int_equal(commits_of(g), 4);
    free(g);
}

static void test_commit_fails_for_all(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 5);

    arm(b, FX_COMMIT, 0, 6, CREDSTORE_STORAGE_FULL, false);
    play_all(g);
    all_answered(g, CREDSTORE_E_FULL);
    assert_int_equal(commits_of(g), 0);
    free(g);
}

/* A value that is there from the last round. */
static void take_away(bench *b, unsigned number)
{
    cs_key key;

    key_of(&key, number);
    if (is_there(b->store, number))
        fx_raw_del(&b->f, &key);
}

/* What one has seen of another's change must be true in the end. */
static void test_unknown(void **state)
{
    bench *b = *state;

    for (int done = 1; done >= 0; done--) {
        game *g = new_game(b->store, 6);

        g->players[3].idle = g->players[3].looks = true;
        g->players[4].audited = false; /* without a marker of its own */
        g->players[5].idle = g->players[5].looks = true;
        for (unsigned i = 0; i < g->count && done == 0; i++)
            take_away(b, i);
        arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_UNKNOWN, done == 1);
        play_all(g);
        for (unsigned i = 0; i < g->count; i++)
            answered(g, i, done == 1 || i == 3 || i == 5 ? CREDSTORE_OK : CREDSTORE_E_STORAGE);
        for (unsigned i = 3; i < g->count; i += 2) { /* one leads then, and takes the other */
            assert_int_equal(g->players[i].runs, done == 1 ? 1 : 2);
            assert_int_equal(g->players[i].saw, done == 1);
        }
        free(g);
    }
}

/* Nobody has a marker: nobody knows. */
static void test_unknown_without_marker(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 3);

    for (unsigned i = 0; i < g->count; i++)
        g->players[i].audited = false;
    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_UNKNOWN, false);
    play_all(g);
    all_answered(g, CREDSTORE_E_COMMIT_UNKNOWN);
    free(g);
}

/* ---- conflicts ---- */

static bool drew_anew(const player *p)
{
    for (unsigned i = 0; i < p->runs; i++)
        for (unsigned k = 0; k < i; k++)
            if (memcmp(p->random[i], p->random[k], sizeof p->random[i]) == 0)
                return false;
    return true;
}

static void test_conflicts(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 6);
    const unsigned commits = b->f.engine.calls[FX_COMMIT];

    g->players[2].before = CREDSTORE_E_NOT_FOUND;
    arm(b, FX_COMMIT, 0, 3, CREDSTORE_STORAGE_CONFLICT, false);
    play_all(g);
    for (unsigned i = 0; i < g->count; i++) {
        answered(g, i, i == 2 ? CREDSTORE_E_NOT_FOUND : CREDSTORE_OK);
        assert_int_equal(g->players[i].runs, 4);
        assert_true(drew_anew(&g->players[i]));
    }
    assert_int_equal(b->f.engine.calls[FX_COMMIT] - commits, 4);
    assert_int_equal(commits_of(g), 1);
    free(g);
}

static void test_conflicts_for_ever(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 4);
    const unsigned commits = b->f.engine.calls[FX_COMMIT];

    arm(b, FX_COMMIT, 0, ATTEMPTS, CREDSTORE_STORAGE_CONFLICT, false);
    play_all(g);
    all_answered(g, CREDSTORE_E_CONFLICT);
    assert_int_equal(b->f.engine.calls[FX_COMMIT] - commits, ATTEMPTS);
    free(g);
}

/* An engine that makes room at a put, and wants to be asked again. */
static void test_conflict_at_a_put(void **state)
{
    bench *b = *state;

    for (int skip = 0; skip < 11; skip++) {
        game *g = new_game(b->store, 5);

        arm(b, FX_PUT, skip, 1, CREDSTORE_STORAGE_CONFLICT, false);
        play_all(g);
        all_answered(g, CREDSTORE_OK);
        assert_int_equal(commits_of(g), 1);
        assert_int_equal(g->players[0].runs, 2);
        free(g);
    }
}

/* After a conflict the turn does not come: that is the leader's answer, and the next one leads. */
static void test_conflict_then_busy(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 5);

    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_CONFLICT, false);
    arm(b, FX_BEGIN_WRITE, 1, 1, CREDSTORE_STORAGE_BUSY, false);
    play_all(g);
    for (unsigned i = 0; i < g->count; i++) {
        answered(g, i, i == 0 ? CREDSTORE_E_BUSY : CREDSTORE_OK);
        assert_int_equal(g->players[i].runs, i == 0 ? 1 : 2);
        assert_true(drew_anew(&g->players[i]));
    }
    assert_int_equal(commits_of(g), 1);
    free(g);
}

/* ---- the line ---- */

/* First come, first served; a group holds so many; who is alone leads at once. */
static void test_first_come(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 2 * GROUP_MAX + 3);

    play_all(g);
    all_answered(g, CREDSTORE_OK);
    for (unsigned i = 0; i < g->count; i++) {
        assert_int_equal(g->players[i].runs, 1);
        assert_int_equal(g->players[i].place, i);
    }
    assert_int_equal(commits_of(g), 3);
    free(g);
}

static void test_one_waits_for_nobody(void **state)
{
    bench *b = *state;
    const unsigned before = atomic_load(&timed_waits);
    credstore_error err;

    for (unsigned i = 0; i < 20; i++) {
        char text[32];

        snprintf(text, sizeof text, "text %u", i);
        fx_ok(fx_set_publishable(b->store, FX_KSUID, text, &err), &err);
    }
    assert_int_equal(atomic_load(&timed_waits), before);
}

/* Large changes do not share a transaction without end. */
static credstore_status put_much(cs_txn *txn, void *arg, credstore_error *err)
{
    const player *p = arg;
    cs_buf value = {0};
    credstore_status status;
    cs_key key;

    if (p->gate != NULL) {
        atomic_store(&p->gate->entered, true);
        while (!atomic_load(&p->gate->open))
            nap();
    }
    key_of(&key, p->number);
    assert_non_null(cs_buf_room(&value, 600000));
    memset(value.ptr, 1, 600000);
    value.len = 600000;
    status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status;
}

static credstore_status act_much(player *p, credstore_error *err)
{
    const cs_work work = {put_much, p, 0};

    return cs_txn_write(p->store, &work, err);
}

static void test_large_changes(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 6);

    for (unsigned i = 0; i < g->count; i++)
        g->players[i].act = act_much;
    play_all(g);
    all_answered(g, CREDSTORE_OK);
    assert_int_equal(commits_of(g), 3);
    free(g);
}

static void test_busy(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 4);

    g->players[2].wait_ms = 1;
    start(&g->players[0]);
    while (!atomic_load(&g->gate.entered))
        nap();
    start(&g->players[1]);
    wait_in_line(g, 1);
    start(&g->players[2]);
    assert_int_equal(pthread_join(g->players[2].thread, NULL), 0); /* the leader still leads */
    assert_int_equal(g->players[2].runs, 0);
    assert_true(g->players[2].err.retry_after_s > 0);
    wait_in_line(g, 1);
    start(&g->players[3]);
    wait_in_line(g, 2);
    atomic_store(&g->gate.open, true);
    for (unsigned i = 0; i < g->count; i++)
        if (i != 2)
            assert_int_equal(pthread_join(g->players[i].thread, NULL), 0);
    for (unsigned i = 0; i < g->count; i++)
        answered(g, i, i == 2 ? CREDSTORE_E_BUSY : CREDSTORE_OK);
    assert_int_equal(commits_of(g), 1);
    free(g);
}

/* False: some gave up before all were there. */
static bool all_in_line(game *g, unsigned count, int64_t ms)
{
    const int64_t end = monotonic_ms() + ms;
    cs_group_counts now = {0};

    while (now.waiting != count && monotonic_ms() < end) {
        nap();
        cs_group_read(g->group, &now);
    }
    return now.waiting == count;
}

/* Player 1 has `ms`. True: he was taken within them, and stayed. */
static bool taken_within(credstore *store, int64_t ms)
{
    const struct timespec longer = {(time_t)(2 * ms / 1000), (long)(2 * ms % 1000) * 1000000};
    game *g = new_game(store, 3);
    gate second = {false, false};
    bool taken;

    g->players[1].wait_ms = ms;
    g->players[2].gate = &second;
    start(&g->players[0]);
    while (!atomic_load(&g->gate.entered))
        nap();
    start(&g->players[1]);
    taken = all_in_line(g, 1, ms);
    start(&g->players[2]);
    taken = all_in_line(g, 2, ms) && taken;
    atomic_store(&g->gate.open, true);
    while (!atomic_load(&second.entered))
        nap();
    nanosleep(&longer, NULL);
    atomic_store(&second.open, true);
    finish(g);
    taken = taken && g->players[1].runs == 1;
    for (unsigned i = 0; i < g->count; i++)
        if (i != 1 || taken)
            answered(g, i, CREDSTORE_OK);
    free(g);
    return taken;
}

/* Who is taken stays, however long the one behind him takes. On a machine where his time is over
   before he is taken, once more with longer ones. */
static void test_taken_do_not_give_up(void **state)
{
    bench *b = *state;
    int64_t ms = 200;

    while (!taken_within(b->store, ms) && ms < 20000)
        ms *= 2;
    assert_true(ms < 20000);
}

/* What is left of wait_ms is for the engine. */
static void test_wait_is_shared(void **state)
{
    const struct timespec some = {0, 50000000};
    bench *b = *state;
    game *g = new_game(b->store, 2);

    g->players[0].after = CREDSTORE_E_TOO_LARGE; /* so that the second leads */
    g->players[1].wait_ms = 100000;
    line_up(g);
    nanosleep(&some, NULL);
    finish(g);
    answered(g, 0, CREDSTORE_E_TOO_LARGE);
    answered(g, 1, CREDSTORE_OK);
    assert_in_range(b->f.engine.last_wait_ms, 1, 100000 - 40);
    free(g);
}

/* ---- cancelled threads ---- */

/* One in line, one that leads, one that a leader has taken. */
static void test_cancelled(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 6);
    gate fourth = {false, false};

    g->players[4].gate = &fourth;
    line_up(g);
    assert_int_equal(pthread_cancel(g->players[0].thread), 0);
    assert_int_equal(pthread_cancel(g->players[2].thread), 0);
    assert_int_equal(pthread_cancel(g->players[5].thread), 0);
    atomic_store(&g->gate.open, true);
    while (!atomic_load(&fourth.entered))
        nap();
    assert_int_equal(pthread_cancel(g->players[3].thread), 0);
    atomic_store(&fourth.open, true);
    for (unsigned i = 0; i < g->count; i++) {
        void *result = NULL;

        assert_int_equal(pthread_join(g->players[i].thread, &result), 0);
        if (i == 1 || i == 4)
            assert_null(result);
        else
            assert_ptr_equal(result, PTHREAD_CANCELED);
    }
    all_answered(g, CREDSTORE_OK);
    assert_int_equal(commits_of(g), 1);
    free(g);
}

/* And where the leader is stuck, at the end of wait_ms. */
static void test_cancelled_behind_a_stuck_leader(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 3);
    void *result = NULL;

    g->players[1].act = set_any;
    g->players[1].text = "never";
    g->players[2].wait_ms = 0;
    b->store->wait_ms = 2000; /* time to line up, on a slow machine too */
    line_up(g);
    assert_int_equal(pthread_cancel(g->players[1].thread), 0);
    assert_int_equal(pthread_join(g->players[1].thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    answered(g, 1, CREDSTORE_E_BUSY);
    assert_int_equal(pthread_join(g->players[2].thread, NULL), 0);
    answered(g, 2, CREDSTORE_E_BUSY);
    atomic_store(&g->gate.open, true);
    assert_int_equal(pthread_join(g->players[0].thread, NULL), 0);
    answered(g, 0, CREDSTORE_OK);
    free(g);
}

/* ---- the same record ---- */

static credstore_status create_it(player *p, credstore_error *err)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin,
                                               .id = "1srOrx2ZWZBpBUvZwXKQmoEYga2"};
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT(p->text),
        .secret_key = CREDSTORE_SECRET("secret", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io"),
    };

    return credstore_checkbook_create(p->store, &call, &origin, &patch, NULL, err);
}

static void test_same_id(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 5);

    for (unsigned i = 1; i < g->count; i++)
        g->players[i].act = create_it;
    g->players[1].text = "of the first";
    play_all(g);
    for (unsigned i = 0; i < g->count; i++)
        answered(g, i, i < 2 ? CREDSTORE_OK : CREDSTORE_E_EXISTS);
    assert_int_equal(commits_of(g), 1);
    fx_is(b->store, "1srOrx2ZWZBpBUvZwXKQmoEYga2", 1, "of the first", "secret");
    free(g);
}

static char tokens[4][CS_TOKEN_MAX + 1];
static char rolled_id[64];

static credstore_status roll_it(player *p, credstore_error *err)
{
    const credstore_actor actor = test_root(p->store);
    credstore_call call = test_call(&actor);
    credstore_secret *key = NULL;
    credstore_status status;

    call.idempotency_key = "the-same";
    status = credstore_api_key_roll(p->store, &call, rolled_id, 60, &key, NULL, err);
    if (status == CREDSTORE_OK)
        snprintf(tokens[p->number], sizeof tokens[0], "%s", credstore_secret_ptr(key));
    credstore_secret_free(key);
    return status;
}

static void issue_it(credstore *store)
{
    const credstore_actor actor = test_root(store);
    const credstore_call call = test_call(&actor);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("to be rolled"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    const credstore_api_key *view = NULL;
    credstore_secret *key = NULL;
    credstore_error err;

    fx_ok(credstore_api_key_issue(store, &call, "live", &patch, &key, &view, &err), &err);
    snprintf(rolled_id, sizeof rolled_id, "%s", view->id);
    credstore_free(view);
    credstore_secret_free(key);
}

/* The second roll of the same group finds the receipt of the first, which is not committed yet. */
static void test_same_idempotency_key(void **state)
{
    test_store t;
    game *g;

    (void)state;
    test_open(&t, TEST_LMDB);
    issue_it(t.store);
    g = new_game(t.store, 4);
    for (unsigned i = 1; i < g->count; i++)
        g->players[i].act = roll_it;
    play_all(g);
    all_answered(g, CREDSTORE_OK);
    assert_int_equal(commits_of(g), 1);
    assert_true(tokens[1][0] != '\0');
    assert_string_equal(tokens[1], tokens[2]);
    assert_string_equal(tokens[1], tokens[3]);
    verify_audit(t.store);
    free(g);
    test_close(&t);
}

/* ---- two handles of one process ---- */

static int32_t nobody(void *ctx, const credstore_question *question)
{
    (void)ctx;
    (void)question;
    return CREDSTORE_POLICY_FORBID;
}

static int64_t an_hour_later(void *ctx)
{
    (void)ctx;
    return TEST_NOW + 3600000;
}

static credstore *open_again(const test_store *t, credstore_options options)
{
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    fx_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err), &err);
    options.key = key;
    fx_ok(credstore_open(t->path, &options, &store, &err), &err);
    credstore_key_source_free(key);
    return store;
}

static void test_two_handles(void **state)
{
    credstore_options strict, later;
    credstore *handles[3];
    cs_group_counts now;
    test_store t;
    game *g;

    (void)state;
    test_open(&t, TEST_LMDB);
    strict = later = t.options;
    strict.policy = nobody;
    later.now_ms = an_hour_later;
    handles[0] = t.store;
    handles[1] = open_again(&t, strict);
    handles[2] = open_again(&t, later);
    assert_ptr_equal(handles[0]->group, handles[1]->group);
    fx_create_checkbook(t.store, FX_KSUID_OTHER, "first");
    g = new_game(t.store, 7);
    for (unsigned i = 0; i < g->count; i++)
        g->players[i].store = handles[i % 3];
    for (unsigned i = 4; i < g->count; i++) {
        g->players[i].act = set_any;
        g->players[i].text = i == 5 ? "later" : "sooner";
    }
    line_up_but(g, 4);
    finish(g);
    for (unsigned i = 0; i < g->count; i++)
        answered(g, i, i == 4 ? CREDSTORE_E_FORBIDDEN : CREDSTORE_OK);
    assert_int_equal(commits_of(g), 1);
    fx_is(handles[2], FX_KSUID_OTHER, 3, "sooner", "first");
    assert_true(atomic_load(&handles[0]->seen_time) == TEST_NOW + 3600000);
    verify_audit(handles[0]);
    credstore_close(handles[2]);
    credstore_close(handles[1]);
    cs_group_read(t.store->group, &now); /* it belongs to whoever is left */
    assert_int_equal(now.waiting, 0);
    free(g);
    test_close(&t);
}

/* Each handle on an engine that tells of no environment, and each folder, has its own. */
static void test_own_groups(void **state)
{
    bench *b = *state;
    credstore *other = fx_open(&b->f);
    test_store one, two;

    assert_ptr_not_equal(b->store->group, other->group);
    credstore_close(other);
    test_open(&one, TEST_LMDB);
    test_open(&two, TEST_LMDB);
    assert_ptr_not_equal(one.store->group, two.store->group);
    test_close(&two);
    test_close(&one);
}

/* ---- a keyring that changes ---- */

static credstore_status put_ring(cs_txn *txn, void *arg, credstore_error *err)
{
    return cs_ring_put(txn, arg, err);
}

static cs_ring_values next_ring;

static credstore_status act_ring(player *p, credstore_error *err)
{
    const cs_work work = {put_ring, &next_ring, 0};

    return cs_txn_write(p->store, &work, err);
}

/* Nobody seals under, or even loads, a keyring that is not committed. */
static void test_new_ring_is_the_last(void **state)
{
    bench *b = *state;
    game *g = new_game(b->store, 5);
    const uint64_t version = cs_store_ring(b->store)->version;
    cs_ring_values now = {0};
    credstore_error err = {0};
    cs_txn txn;

    fx_ok(cs_txn_read(b->store, &txn, &err), &err);
    fx_ok(cs_ring_read(&txn, &now, &err), &err);
    cs_txn_end(&txn);
    memset(&next_ring, 0, sizeof next_ring);
    fx_ok(cs_keyring_promote(&b->store->sealer, &b->store->keys, b->store->arena, &now,
                             1u << CS_PURPOSE_BODY, &next_ring, &err),
          &err);
    g->players[2].act = act_ring;
    play_all(g);
    all_answered(g, CREDSTORE_OK);
    assert_int_equal(commits_of(g), 2);
    assert_int_equal(cs_store_ring(b->store)->version, version + 1);
    cs_ring_values_free(&now);
    cs_ring_values_free(&next_ring);
    free(g);
}

/* ---- forks ---- */

/* A child that was made while others led and stood in line: refused, and closes what it has. */
static void test_fork(void **state)
{
    test_store t;
    game *g;
    pid_t pid;
    int ended = 0;

    (void)state;
    test_open(&t, TEST_LMDB);
    g = new_game(t.store, 4);
    line_up(g);
    pid = fork();
    if (pid == 0) {
        credstore_error err;
        const credstore_status status = fx_set_publishable(t.store, FX_KSUID, "child", &err);

        credstore_close(t.store);
        if (status ==
            CREDSTORE_E_FORKED) /* leaves no account of what threads that are not here own */
            raise(SIGKILL);
        _exit(1);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &ended, 0), pid);
    assert_true(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
    finish(g);
    all_answered(g, CREDSTORE_OK);
    assert_int_equal(commits_of(g), 1);
    free(g);
    test_close(&t);
}

/* ---- many at once ---- */

enum { CROWD = 64 };

typedef struct walker {
    pthread_t thread;
    credstore *store;
    unsigned number, changes;
    uint64_t made, furthest; /* furthest: commits between asking and being run */
    uint64_t asked;
} walker;

static credstore_status take_step(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_audit_entry entry = {.action = CS_ACTION_UPDATE, .actor_type = 1};
    walker *w = arg;
    cs_group_counts now;
    credstore_status status;

    cs_group_read(txn->store->group, &now);
    if (now.commits - w->asked > w->furthest)
        w->furthest = now.commits - w->asked;
    status = put_value(txn, w->number, err);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

static void *walk(void *arg)
{
    walker *w = arg;
    const cs_work work = {take_step, w, 60000};

    for (unsigned i = 0; i < w->changes; i++) {
        credstore_error err = {0};
        cs_group_counts now;

        cs_group_read(w->store->group, &now);
        w->asked = now.commits;
        if (cs_txn_write(w->store, &work, &err) == CREDSTORE_OK)
            w->made++;
    }
    return NULL;
}

/* A thread that is not scheduled between looking at the count and asking sees others pass by, so
   how far they came is told and not judged; test_first_come judges the order. */
static void crowd_on(credstore *store, unsigned changes, bool grouped)
{
    walker *walkers = calloc(CROWD, sizeof *walkers);
    const uint64_t seq = verify_audit(store).seq;
    uint64_t furthest = 0;
    cs_group_counts before, after;

    assert_non_null(walkers);
    cs_group_read(store->group, &before);
    for (unsigned i = 0; i < CROWD; i++) {
        walkers[i].store = store;
        walkers[i].number = i;
        walkers[i].changes = changes;
        assert_int_equal(pthread_create(&walkers[i].thread, NULL, walk, &walkers[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        pthread_join(walkers[i].thread, NULL);
        assert_int_equal(walkers[i].made, changes);
        furthest = walkers[i].furthest > furthest ? walkers[i].furthest : furthest;
    }
    cs_group_read(store->group, &after);
    printf("%u writers, %u changes each: %u commits, the largest of %u; none waited for more than "
           "%u\n",
           (unsigned)CROWD, changes, (unsigned)(after.commits - before.commits),
           (unsigned)after.largest, (unsigned)furthest);
    assert_int_equal(after.changes - before.changes, CROWD * changes);
    assert_int_equal(verify_audit(store).seq - seq, CROWD * changes);
    if (grouped)
        assert_in_range(after.largest, 2, GROUP_MAX);
    else
        assert_int_equal(after.largest, 1);
    free(walkers);
}

static void test_crowd(void **state)
{
    test_store t;

    (void)state;
    test_open(&t, TEST_LMDB);
    crowd_on(t.store, (unsigned)test_number("CREDSTORE_CROWD", 20), true);
    test_close(&t);
}

/* An engine whose transactions do not read their own writes gets one change at a time. */
static void test_engine_without_own_writes(void **state)
{
    credstore_storage plain = fx_storage;
    bench *b = *state;
    credstore *store;

    plain.features = 0;
    b->f.options.storage = &plain;
    store = fx_open(&b->f);
    crowd_on(store, 4, false);
    credstore_close(store);
}

#define ON_BENCH(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BENCH(test_own_answers),
        ON_BENCH(test_nothing_to_do),
        ON_BENCH(test_revisions),
        ON_BENCH(test_failure_after_a_put),
        ON_BENCH(test_put_fails_in_the_engine),
        ON_BENCH(test_put_fails_for_all),
        ON_BENCH(test_commit_fails),
        ON_BENCH(test_commit_fails_for_all),
        ON_BENCH(test_unknown),
        ON_BENCH(test_unknown_without_marker),
        ON_BENCH(test_conflicts),
        ON_BENCH(test_conflicts_for_ever),
        ON_BENCH(test_conflict_at_a_put),
        ON_BENCH(test_conflict_then_busy),
        ON_BENCH(test_first_come),
        ON_BENCH(test_one_waits_for_nobody),
        ON_BENCH(test_large_changes),
        ON_BENCH(test_busy),
        ON_BENCH(test_taken_do_not_give_up),
        ON_BENCH(test_wait_is_shared),
        ON_BENCH(test_cancelled),
        ON_BENCH(test_cancelled_behind_a_stuck_leader),
        ON_BENCH(test_same_id),
        cmocka_unit_test(test_same_idempotency_key),
        cmocka_unit_test(test_two_handles),
        ON_BENCH(test_own_groups),
        ON_BENCH(test_new_ring_is_the_last),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_crowd),
        ON_BENCH(test_engine_without_own_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
