/* SPDX-License-Identifier: MIT
 *
 * Verification is never stale: processes (and a thread on the writer's own handle) verify keys in a
 * loop while another narrows, rolls, expires and removes them. Both sides draw stamps from one
 * counter in shared memory. A verification that began after a change had returned and still saw the
 * state before it is an error; so is one that ended before a change began and did not see the old
 * state. The same with a cache that lives 10 ms in front of the verification must be found out.
 *
 *   CREDSTORE_SEED=N, CREDSTORE_CHANGES=N changes to make (10,000; fewer under a sanitizer)
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "work.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    VERIFIERS = 4,
    KEY_LANES = 12, /* API keys; behind them the service credentials */
    LANES = 16,
    NARROWS = 3,
    TOKENS = 2,
    CACHED_MS = 10,
    CACHE_PLACES = 512,
    ALARM_S = 280,
    PERMISSIONS = 6
};

/* What is done to a credential in its life, in this order. */
enum { ROLL, NARROW_FIRST, EXPIRE = NARROW_FIRST + NARROWS, REMOVE, CHANGES };
/* What a verification may get wrong. */
enum { OLD_TOKEN, OLD_PERMISSION, AFTER_EXPIRY, AFTER_REMOVAL, STALE_KINDS, WRONG = STALE_KINDS };
static const char *const stale_names[STALE_KINDS] = {"old token good", "permission held",
                                                     "good after expiry", "good after removal"};

typedef struct change {
    _Atomic uint64_t began, returned; /* stamps; 0 = not yet */
    _Atomic uint64_t checks;          /* verifications that began after it returned */
} change;

/* One credential. A lane has one at a time. */
typedef struct life {
    char token[TOKENS][128], id[64];
    atomic_uint tokens; /* that can be read */
    change changes[CHANGES];
} life;

typedef struct shared {
    _Atomic uint64_t stamp;
    _Atomic int64_t now;
    atomic_bool ready, stop, failed;
    _Atomic uint32_t lane_life[LANES], hot; /* hot: the lane that was changed last */
    _Atomic uint64_t verified, stale[STALE_KINDS], wrong;
    bool cached;
    char path[TEST_PATH_MAX + 16];
    uint64_t seed;
    size_t life_count;
    life lives[];
} shared;

/* ---- a store on the shared clock ---- */

static int64_t clock_of(void *ctx)
{
    return atomic_load(&((shared *)ctx)->now);
}

static credstore *open_store(shared *s)
{
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
        .now_ms = clock_of,
        .now_ctx = s,
        .wait_ms = 120000,
    };
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    if (credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err) == CREDSTORE_OK) {
        options.key = key;
        credstore_open(s->path, &options, &store, &err);
    }
    credstore_key_source_free(key);
    if (store == NULL)
        work_say("open", &err);
    return store;
}

/* ---- verification, plain and with the planted cache ---- */

typedef struct cached {
    char token[128];
    int64_t until_us;
    credstore_status status;
    credstore_actor actor;
} cached;

typedef struct verifier {
    shared *s;
    credstore *store;
    cached *cache; /* NULL: none */
    uint64_t random;
} verifier;

static bool is_key(size_t lane)
{
    return lane < KEY_LANES;
}

static credstore_status ask_store(const verifier *v, size_t lane, const char *token,
                                  credstore_actor *actor)
{
    return is_key(lane)
               ? credstore_api_key_verify(v->store, token, CREDSTORE_NTS, actor, NULL)
               : credstore_service_credential_verify(v->store, token, CREDSTORE_NTS, actor, NULL);
}

static credstore_status ask(const verifier *v, size_t lane, const char *token,
                            credstore_actor *actor)
{
    uint32_t place = 0;
    cached *c;

    if (v->cache == NULL)
        return ask_store(v, lane, token, actor);
    for (const char *p = token; *p != '\0'; p++)
        place = place * 31u + (uint8_t)*p;
    c = &v->cache[place % CACHE_PLACES];
    if (strcmp(c->token, token) != 0 || work_now_us() >= c->until_us) {
        memset(c, 0, sizeof *c);
        c->status = ask_store(v, lane, token, &c->actor);
        c->until_us = work_now_us() + CACHED_MS * INT64_C(1000);
        snprintf(c->token, sizeof c->token, "%s", token);
    }
    *actor = c->actor;
    return c->status;
}

/* ---- judging one verification ---- */

typedef struct sight {
    life *life;
    unsigned token;
    uint64_t begin, end;
    credstore_status status;
    bool holds[NARROWS];
} sight;

/* The permissions that are narrowed away; the catalogue's others stay. */
static const char *narrowed(size_t i)
{
    return test_catalogue[i].id;
}

static bool over(const sight *at, size_t i)
{
    change *c = &at->life->changes[i];
    const uint64_t returned = atomic_load(&c->returned);

    if (returned == 0 || returned >= at->begin)
        return false;
    atomic_fetch_add_explicit(&c->checks, 1, memory_order_relaxed);
    return true;
}

static bool not_yet(const sight *at, size_t i)
{
    const uint64_t began = atomic_load(&at->life->changes[i].began);

    return began == 0 || began > at->end;
}

static void count(shared *s, unsigned what)
{
    atomic_fetch_add(what == WRONG ? &s->wrong : &s->stale[what], 1);
}

/* What the token must be by the changes that were over before, and by those that were not yet. */
static void judge(shared *s, const sight *at)
{
    const bool accepted = at->status == CREDSTORE_OK;
    const bool is_old = at->token == 0;
    const bool rolled = is_old && over(at, ROLL);
    const bool expired = over(at, EXPIRE);
    const bool removed = over(at, REMOVE);

    if (accepted && rolled)
        count(s, OLD_TOKEN);
    if (accepted && expired)
        count(s, AFTER_EXPIRY);
    if (accepted && removed)
        count(s, AFTER_REMOVAL);
    for (size_t i = 0; i < NARROWS; i++)
        if (over(at, NARROW_FIRST + i) && accepted && at->holds[i])
            count(s, OLD_PERMISSION);

    /* The words, where only one thing can have happened. */
    if (rolled && at->status != CREDSTORE_E_UNAUTHENTICATED)
        count(s, WRONG);
    if (!is_old && removed && at->status != CREDSTORE_E_REVOKED)
        count(s, WRONG);
    if (!is_old && expired && not_yet(at, REMOVE) && at->status != CREDSTORE_E_EXPIRED)
        count(s, WRONG);

    /* What is withdrawn is not withdrawn early. */
    if ((!is_old || not_yet(at, ROLL)) && not_yet(at, EXPIRE) && not_yet(at, REMOVE) && !accepted)
        count(s, WRONG);
    for (size_t i = 0; i < NARROWS; i++)
        if (accepted && not_yet(at, NARROW_FIRST + i) && !at->holds[i])
            count(s, WRONG);
}

static void verify_once(verifier *v)
{
    shared *s = v->s;
    const uint64_t r = test_random(&v->random);
    const size_t lane = (r & 1) != 0 ? atomic_load(&s->hot) : (size_t)(r >> 8) % (size_t)LANES;
    sight at = {.life = &s->lives[atomic_load(&s->lane_life[lane])]};
    const unsigned tokens = atomic_load(&at.life->tokens);
    credstore_actor actor;

    if (tokens == 0)
        return;
    at.token = (unsigned)(r >> 1) % tokens;
    memset(&actor, 0, sizeof actor);
    at.begin = atomic_fetch_add(&s->stamp, 1);
    at.status = ask(v, lane, at.life->token[at.token], &actor);
    for (size_t i = 0; i < NARROWS; i++)
        at.holds[i] = !is_key(lane) || credstore_permit(v->store, &actor, narrowed(i)) != 0;
    at.end = atomic_fetch_add(&s->stamp, 1);
    judge(s, &at);
    atomic_fetch_add_explicit(&s->verified, 1, memory_order_relaxed);
}

static void verify_loop(verifier *v)
{
    if (v->s->cached)
        v->cache = calloc(CACHE_PLACES, sizeof *v->cache);
    if (v->s->cached && v->cache == NULL)
        atomic_store(&v->s->failed, true);
    while (!atomic_load(&v->s->ready) && !atomic_load(&v->s->failed))
        work_nap_us(100);
    while (!atomic_load(&v->s->stop) && !atomic_load(&v->s->failed))
        verify_once(v);
    free(v->cache);
}

static void *verify_thread(void *arg)
{
    verify_loop(arg);
    return NULL;
}

/* A child: nothing of cmocka. */
static void verify_process(shared *s, unsigned number)
{
    verifier v = {.s = s, .random = s->seed + number};

    alarm(ALARM_S);                                             /* if the parent is gone */
    while (!atomic_load(&s->ready) && !atomic_load(&s->failed)) /* the store is being made */
        work_nap_us(100);
    v.store = open_store(s);
    if (v.store == NULL)
        atomic_store(&s->failed, true);
    else
        verify_loop(&v);
    credstore_close(v.store);
}

/* ---- the writer ---- */

typedef struct writer {
    shared *s;
    credstore *store;
    credstore_actor actor;
    unsigned next[LANES]; /* the change that comes next, CHANGES = a new life */
    uint64_t made;
    const char *permissions[PERMISSIONS];
} writer;

static bool take_token(life *l, credstore_secret *secret)
{
    const unsigned n = atomic_load(&l->tokens);

    if (secret == NULL || n == TOKENS)
        return false;
    snprintf(l->token[n], sizeof l->token[n], "%s", credstore_secret_ptr(secret));
    credstore_secret_free(secret);
    atomic_store(&l->tokens, n + 1);
    return true;
}

static credstore_api_key_patch permissions_from(const writer *w, size_t first)
{
    credstore_api_key_patch patch = {.struct_size = sizeof patch};

    patch.permissions.items = w->permissions + first;
    patch.permissions.count = PERMISSIONS - first;
    patch.permissions.op = CREDSTORE_SET;
    return patch;
}

static bool failed(const char *what, credstore_status status, const credstore_error *err)
{
    if (status != CREDSTORE_OK)
        work_say(what, err);
    return status != CREDSTORE_OK;
}

static bool issue(writer *w, size_t lane, life *l)
{
    const credstore_call call = test_call(&w->actor);
    credstore_api_key_patch key = permissions_from(w, 0);
    credstore_service_credential_patch credential = {.struct_size = sizeof credential,
                                                     .name = CREDSTORE_TEXT("stale")};
    const credstore_api_key *key_view = NULL;
    const credstore_service_credential *credential_view = NULL;
    credstore_secret *secret = NULL;
    credstore_error err;
    credstore_status status;

    key.description.ptr = "";
    key.description.op = CREDSTORE_SET;
    status =
        is_key(lane)
            ? credstore_api_key_issue(w->store, &call, NULL, &key, &secret, &key_view, &err)
            : credstore_service_credential_issue(w->store, &call, TEST_TENANT, TEST_PARENT, NULL,
                                                 &credential, &secret, &credential_view, &err);
    if (failed("issue", status, &err))
        return false;
    snprintf(l->id, sizeof l->id, "%s", is_key(lane) ? key_view->id : credential_view->id);
    credstore_free(key_view);
    credstore_free(credential_view);
    return take_token(l, secret);
}

static bool roll(writer *w, size_t lane, life *l)
{
    const credstore_call call = test_call(&w->actor);
    credstore_secret *secret = NULL;
    credstore_error err;
    credstore_status status;

    status = is_key(lane)
                 ? credstore_api_key_roll(w->store, &call, l->id, 0, &secret, NULL, &err)
                 : credstore_service_credential_roll(w->store, &call, TEST_TENANT, TEST_PARENT,
                                                     l->id, 0, &secret, NULL, &err);
    /* The new token is shown at once: what is found of it is no more than early. */
    return !failed("roll", status, &err) && take_token(l, secret);
}

static bool narrow(writer *w, life *l, size_t i)
{
    const credstore_call call = test_call(&w->actor);
    const credstore_api_key_patch patch = permissions_from(w, i + 1);
    credstore_error err;

    return !failed("narrow", credstore_api_key_update(w->store, &call, l->id, &patch, NULL, &err),
                   &err);
}

/* Expiry is told ahead of its time; the change is over when its time has come. */
static bool expire(writer *w, life *l)
{
    const credstore_call call = test_call(&w->actor);
    const int64_t at = atomic_load(&w->s->now) + 1000;
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .expires_at = CREDSTORE_TIME(at)};
    credstore_error err;

    if (failed("expire", credstore_api_key_update(w->store, &call, l->id, &patch, NULL, &err),
               &err))
        return false;
    atomic_store(&w->s->now, at);
    return true;
}

static bool removal(writer *w, size_t lane, life *l)
{
    const credstore_call call = test_call(&w->actor);
    credstore_error err;
    const credstore_status status =
        is_key(lane) ? credstore_api_key_remove(w->store, &call, l->id, &err)
                     : credstore_service_credential_remove(w->store, &call, TEST_TENANT,
                                                           TEST_PARENT, l->id, &err);

    return !failed("remove", status, &err);
}

static bool apply(writer *w, size_t lane, life *l, size_t i)
{
    if (i == ROLL)
        return roll(w, lane, l);
    if (i == EXPIRE)
        return expire(w, l);
    if (i == REMOVE)
        return removal(w, lane, l);
    return narrow(w, l, i - NARROW_FIRST);
}

static bool new_life(writer *w, size_t lane)
{
    shared *s = w->s;
    const size_t used = atomic_load(&s->lane_life[lane]) + LANES;

    if (used >= s->life_count || !issue(w, lane, &s->lives[used]))
        return false;
    atomic_store(&s->lane_life[lane], (uint32_t)used);
    w->next[lane] = ROLL;
    return true;
}

static bool applies(size_t lane, size_t i)
{
    return is_key(lane) || i == ROLL || i == REMOVE;
}

/* Each change is followed by the next only when somebody has looked at it. */
static bool wait_for_check(shared *s, const change *c)
{
    while (atomic_load(&c->returned) != 0 && atomic_load(&c->checks) == 0) {
        if (atomic_load(&s->failed))
            return false;
        sched_yield();
    }
    return true;
}

static bool step(writer *w, size_t lane)
{
    shared *s = w->s;
    life *l = &s->lives[atomic_load(&s->lane_life[lane])];
    const size_t i = w->next[lane];

    if (i > 0 && !wait_for_check(s, &l->changes[i - 1]))
        return false;
    if (i == CHANGES)
        return new_life(w, lane);
    w->next[lane]++;
    if (!applies(lane, i))
        return true;
    atomic_store(&l->changes[i].began, atomic_fetch_add(&s->stamp, 1));
    if (!apply(w, lane, l, i))
        return false;
    atomic_store(&l->changes[i].returned, atomic_fetch_add(&s->stamp, 1));
    atomic_store(&s->hot, (uint32_t)lane);
    w->made++;
    return true;
}

/* The last change of each lane too. */
static bool wait_for_all(shared *s)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        const life *l = &s->lives[atomic_load(&s->lane_life[lane])];

        for (size_t i = 0; i < CHANGES; i++)
            if (!wait_for_check(s, &l->changes[i]))
                return false;
    }
    return true;
}

static bool all_found_out(shared *s)
{
    for (size_t i = 0; i < STALE_KINDS; i++)
        if (atomic_load(&s->stale[i]) == 0)
            return false;
    return true;
}

static bool write_all(writer *w, uint64_t changes)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        atomic_store(&w->s->lane_life[lane], (uint32_t)lane);
        if (!issue(w, lane, &w->s->lives[lane]))
            return false;
    }
    atomic_store(&w->s->ready, true);
    for (size_t lane = 0; w->made < changes && !(w->s->cached && all_found_out(w->s));
         lane = (lane + 1) % LANES)
        if (!step(w, lane))
            return false;
    return wait_for_all(w->s);
}

/* ---- one run ---- */

static uint64_t seed;

static bool is_instrumented(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");

    return variant != NULL && strcmp(variant, "plain") != 0;
}

static shared *share(uint64_t changes)
{
    const size_t lives = (size_t)changes + 2 * (size_t)LANES;
    shared *s = mmap(NULL, sizeof *s + lives * sizeof *s->lives, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(s != MAP_FAILED);
    s->life_count = lives;
    s->seed = seed;
    atomic_store(&s->stamp, 1);
    atomic_store(&s->now, TEST_NOW);
    return s;
}

static void unshare(shared *s)
{
    assert_int_equal(0, munmap(s, sizeof *s + s->life_count * sizeof *s->lives));
}

/* What is tested is who sees what, not what survives. */
static void make_folder(char folder[TEST_PATH_MAX])
{
    setenv("TMPDIR", test_quick_base(), 1);
    test_folder(folder);
}

static void start_processes(shared *s, pid_t pids[VERIFIERS])
{
    fflush(stdout);
    for (unsigned i = 0; i < VERIFIERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            verify_process(s, i);
            _exit(atomic_load(&s->failed) ? 1 : 0);
        }
    }
}

static void end_processes(const pid_t pids[VERIFIERS])
{
    for (unsigned i = 0; i < VERIFIERS; i++) {
        int how = -1;

        assert_int_equal(pids[i], waitpid(pids[i], &how, 0));
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
}

/* Every change that was made was looked at, by a verification that began after it had returned. */
static uint64_t count_checks(shared *s)
{
    uint64_t sum = 0;

    for (size_t n = 0; n < s->life_count; n++) {
        for (size_t i = 0; i < CHANGES; i++) {
            const change *c = &s->lives[n].changes[i];
            const uint64_t checks = atomic_load(&c->checks);

            assert_true(atomic_load(&c->returned) == 0 || checks > 0);
            sum += checks;
        }
    }
    return sum;
}

static void run(shared *s, uint64_t changes)
{
    char folder[TEST_PATH_MAX], fs[16];
    pid_t pids[VERIFIERS];
    writer w = {.s = s};
    verifier beside = {.s = s, .random = seed + VERIFIERS};
    pthread_t thread;
    int64_t us;
    bool ok;

    make_folder(folder);
    snprintf(s->path, sizeof s->path, "%s/store", folder);
    start_processes(s, pids);
    w.store = open_store(s);
    assert_non_null(w.store);
    w.actor = test_root(w.store);
    for (size_t i = 0; i < PERMISSIONS; i++)
        w.permissions[i] = test_catalogue[i].id;
    beside.store = w.store;
    assert_int_equal(0, pthread_create(&thread, NULL, verify_thread, &beside));
    us = work_now_us();
    ok = write_all(&w, changes);
    us = work_now_us() - us;
    if (!ok)
        atomic_store(&s->failed, true);
    atomic_store(&s->stop, true);
    pthread_join(thread, NULL);
    work_file_system(folder, fs);
    credstore_close(w.store);
    end_processes(pids);
    test_folder_remove(folder);
    assert_true(ok);
    assert_true(w.made >= changes || s->cached);
    printf("%s: %" PRIu64 " changes on %s in %.1f s, %" PRIu64 " verifications, %" PRIu64
           " looks at a change after it had returned\n",
           s->cached ? "with a cache of 10 ms" : "plain", w.made, fs, (double)us / 1e6,
           atomic_load(&s->verified), count_checks(s));
    for (size_t i = 0; i < STALE_KINDS; i++)
        printf("  %s: %" PRIu64 "\n", stale_names[i], atomic_load(&s->stale[i]));
    printf("  otherwise wrong: %" PRIu64 "\n", atomic_load(&s->wrong));
}

static void nothing_stale_is_seen(void **state)
{
    const uint64_t changes = test_number("CREDSTORE_CHANGES", is_instrumented() ? 1500 : 10000);
    shared *s = share(changes);

    (void)state;
    run(s, changes);
    for (size_t i = 0; i < STALE_KINDS; i++)
        assert_int_equal(0, atomic_load(&s->stale[i]));
    assert_int_equal(0, atomic_load(&s->wrong));
    unshare(s);
}

/* The test above can fail: changes until each kind of stale answer was seen, at most as many. */
static void a_cache_is_found_out(void **state)
{
    const uint64_t changes = test_number("CREDSTORE_CHANGES", 10000);
    shared *s = share(changes);

    (void)state;
    s->cached = true;
    run(s, changes);
    assert_true(all_found_out(s));
    unshare(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_stale_is_seen),
        cmocka_unit_test(a_cache_is_found_out),
    };

    seed = test_seed("stale_test");
    return cmocka_run_group_tests_name("stale", tests, NULL, NULL);
}
