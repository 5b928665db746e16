/* SPDX-License-Identifier: MIT
 *
 * Threads and processes that meet, and that end in the middle: races for one id, a rival between
 * judging and writing, a folder opened twice, cancelled threads, forked children, killed processes.
 *
 *   CREDSTORE_SEED=N changes what is drawn, CREDSTORE_KILLS=N how many processes are killed.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "work.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/engines.h"
#include "store.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { RACERS = 8, PATH_ROOM = TEST_PATH_MAX + 16 };

static uint64_t seed;

/* Instrumented runs do fewer rounds. */
static unsigned rounds_of(unsigned plain)
{
    const char *variant = getenv("CREDSTORE_VARIANT");
    const bool slow = variant != NULL && strcmp(variant, "valgrind") == 0;

    return slow ? (plain + 9) / 10 : plain;
}

/* ---- a store, twice if it is on disk ---- */

typedef struct fixture {
    test_engine engine;
    char folder[TEST_PATH_MAX], path[PATH_ROOM];
    credstore *stores[2]; /* in memory: the same one */
    credstore_actor actor;
} fixture;

static void open_fixture(fixture *f, test_engine engine)
{
    credstore_error err;

    memset(f, 0, sizeof *f);
    f->engine = engine;
    if (engine == TEST_LMDB) {
        test_folder(f->folder);
        snprintf(f->path, sizeof f->path, "%s/store", f->folder);
    }
    f->stores[0] = work_open(engine == TEST_LMDB ? f->path : NULL, &err);
    f->stores[1] = engine == TEST_LMDB ? work_open(f->path, &err) : f->stores[0];
    assert_non_null(f->stores[0]);
    assert_non_null(f->stores[1]);
    f->actor = test_root(f->stores[0]);
    assert_status(CREDSTORE_OK, work_create_all(f->stores[0], &f->actor, &err), &err);
}

static void close_fixture(fixture *f)
{
    credstore_close(f->stores[0]);
    if (f->stores[1] != f->stores[0])
        credstore_close(f->stores[1]);
    if (f->engine == TEST_LMDB)
        test_folder_remove(f->folder);
}

static work_marks audit_of(credstore *store)
{
    work_marks marks;
    credstore_error err;

    assert_status(CREDSTORE_OK, work_audit(store, &marks, &err), &err);
    return marks;
}

static uint64_t revision_of(const fixture *f, size_t record)
{
    credstore_error err;
    work_view view;

    assert_status(CREDSTORE_OK, work_read(f->stores[0], &f->actor, record, 0, &view, &err), &err);
    assert_true(view.whole);
    return view.revision;
}

static uint64_t revisions_of(const fixture *f)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < WORK_RECORDS; i++)
        sum += revision_of(f, i);
    return sum;
}

/* Two engines, one test each. */
static test_engine engine_of(void **state)
{
    return *(const test_engine *)*state;
}

/* ---- races for one id ---- */

typedef struct racer {
    pthread_barrier_t *start;
    credstore *store;
    const credstore_actor *actor;
    work_change change;
    bool create;
    credstore_status status;
    uint64_t revision;
    credstore_error err;
} racer;

static void *run_racer(void *arg)
{
    racer *r = arg;

    pthread_barrier_wait(r->start);
    if (r->create)
        r->status = work_create(r->store, r->actor, &r->change, &r->err);
    else
        r->status = work_write(r->store, r->actor, &r->change, &r->revision, &r->err);
    return NULL;
}

/* All at once on one id, with a stamp each. */
static void race(const fixture *f, const work_change *change, bool create, racer racers[RACERS])
{
    pthread_barrier_t start;
    pthread_t threads[RACERS];

    memset(racers, 0, RACERS * sizeof *racers);
    assert_int_equal(pthread_barrier_init(&start, NULL, RACERS), 0);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i].start = &start;
        racers[i].store = f->stores[i % 2];
        racers[i].actor = &f->actor;
        racers[i].change = *change;
        racers[i].change.by_door = !create && !change->empty && i % 4 > 1;
        racers[i].change.stamp.tag = racers[i].change.stamp.secret = work_tag(i + 1, 1);
        racers[i].create = create;
        assert_int_equal(pthread_create(&threads[i], NULL, run_racer, &racers[i]), 0);
    }
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
}

/* One is OK, and all others are `refused`. */
static void one_won(const racer racers[RACERS], credstore_status refused)
{
    unsigned won = 0;

    for (unsigned i = 0; i < RACERS; i++) {
        if (racers[i].status == CREDSTORE_OK)
            won++;
        else
            assert_status(refused, racers[i].status, &racers[i].err);
    }
    assert_int_equal(won, 1);
}

static void same_id_is_created_once(void **state)
{
    const unsigned rounds = rounds_of(20);
    racer racers[RACERS];
    char id[64];
    fixture f;
    work_marks before;

    open_fixture(&f, engine_of(state));
    before = audit_of(f.stores[0]);
    for (unsigned i = 0; i < rounds; i++) {
        const work_change c = {.record = WORK_CHECKBOOK, .id = id, .with_secret = true};

        snprintf(id, sizeof id, "1NFHrqBHb3cTfLVkFSGmHZq%04u", i);
        race(&f, &c, true, racers);
        one_won(racers, CREDSTORE_E_EXISTS);
    }
    assert_int_equal(audit_of(f.stores[0]).generation - before.generation, rounds);
    close_fixture(&f);
}

static const char *project_of(unsigned n)
{
    static char id[64];

    snprintf(id, sizeof id, "3c90c3cc-0d44-4b50-8888-%012u", n);
    return id;
}

/* One creation, and all others are updates of it. */
static void same_project_is_put_by_all(void **state)
{
    const unsigned rounds = rounds_of(20);
    racer racers[RACERS];
    fixture f;
    work_marks before;

    open_fixture(&f, engine_of(state));
    before = audit_of(f.stores[0]);
    for (unsigned i = 0; i < rounds; i++) {
        const work_change c = {.record = WORK_STRIPE, .id = project_of(i), .with_secret = true};
        unsigned seen = 0;

        race(&f, &c, false, racers);
        for (unsigned k = 0; k < RACERS; k++) {
            assert_status(CREDSTORE_OK, racers[k].status, &racers[k].err);
            assert_in_range(racers[k].revision, 1, RACERS);
            seen |= 1U << racers[k].revision;
        }
        assert_int_equal(seen, (1U << (RACERS + 1)) - 2); /* each revision once */
    }
    assert_int_equal(audit_of(f.stores[0]).last_seq - before.last_seq, rounds * RACERS);
    close_fixture(&f);
}

static void new_project_is_put_by_one(void **state)
{
    const unsigned rounds = rounds_of(20);
    racer racers[RACERS];
    fixture f;
    work_marks before;

    open_fixture(&f, engine_of(state));
    before = audit_of(f.stores[0]);
    for (unsigned i = 0; i < rounds; i++) {
        work_change c = {.record = WORK_STRIPE,
                         .id = project_of(i),
                         .with_secret = true,
                         .expected = CREDSTORE_MUST_BE_NEW};

        race(&f, &c, false, racers);
        one_won(racers, CREDSTORE_E_REVISION);
        c.id = project_of(rounds + i);
        c.expected = 0;
        c.empty = true;
        race(&f, &c, false, racers); /* {}: whoever is first creates, the others change nothing */
        for (unsigned k = 0; k < RACERS; k++)
            assert_status(CREDSTORE_OK, racers[k].status, &racers[k].err);
    }
    assert_int_equal(audit_of(f.stores[0]).last_seq - before.last_seq, 2 * rounds);
    close_fixture(&f);
}

/* ---- a rival between the judging and the writing ---- */

typedef enum event { PASS, RIVAL, BUSY, CONFLICT, UNKNOWN_DONE, UNKNOWN_UNDONE } event;

/* The memory engine behind an engine in which something happens at each write transaction. */
typedef struct eventful {
    void *inner;
    unsigned handles;
    credstore *store, *rivals; /* a handle each: who leads a handle's writers waits for nobody */
    const credstore_actor *actor;
    const event *events; /* one a write transaction; the last one stays */
    event now;
    bool busy_with_rival;
    unsigned writes;
} eventful;

static void let_rival_in(eventful *e)
{
    const work_change rival = {.record = WORK_STRIPE,
                               .id = project_of(0),
                               .stamp = {work_tag(9, 1), work_tag(9, 1)},
                               .with_secret = true};
    uint64_t revision;
    credstore_error err;

    e->busy_with_rival = true;
    if (work_write(e->rivals, e->actor, &rival, &revision, &err) != CREDSTORE_OK)
        work_say("rival", &err);
    e->busy_with_rival = false;
}

static int32_t eventful_begin(void *ctx, uint32_t write, int64_t wait_ms, void **txn)
{
    eventful *e = ctx;

    if (write != 0 && e->events != NULL && !e->busy_with_rival) {
        e->writes++;
        e->now = *e->events;
        if (e->events[1] != PASS)
            e->events++;
        if (e->now == BUSY)
            return CREDSTORE_STORAGE_BUSY;
        if (e->now == RIVAL)
            let_rival_in(e);
    }
    return cs_storage_memory.begin(e->inner, write, wait_ms, txn);
}

static int32_t eventful_commit(void *ctx, void *txn)
{
    eventful *e = ctx;
    int32_t result;

    if (e->events == NULL || e->busy_with_rival || e->now < CONFLICT)
        return cs_storage_memory.commit(e->inner, txn);
    if (e->now == UNKNOWN_DONE) {
        result = cs_storage_memory.commit(e->inner, txn);
        return result == CREDSTORE_STORAGE_OK ? CREDSTORE_STORAGE_UNKNOWN : result;
    }
    cs_storage_memory.abort(e->inner, txn);
    return e->now == CONFLICT ? CREDSTORE_STORAGE_CONFLICT : CREDSTORE_STORAGE_UNKNOWN;
}

static int32_t eventful_get(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    return cs_storage_memory.get(((eventful *)ctx)->inner, txn, key, out);
}

static int32_t eventful_scan(void *ctx, void *txn, credstore_bytes from, credstore_bytes to,
                             uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    return cs_storage_memory.scan(((eventful *)ctx)->inner, txn, from, to, reverse, limit, out);
}

static int32_t eventful_put(void *ctx, void *txn, credstore_bytes key, credstore_bytes value)
{
    return cs_storage_memory.put(((eventful *)ctx)->inner, txn, key, value);
}

static int32_t eventful_del(void *ctx, void *txn, credstore_bytes key)
{
    return cs_storage_memory.del(((eventful *)ctx)->inner, txn, key);
}

static void eventful_abort(void *ctx, void *txn)
{
    cs_storage_memory.abort(((eventful *)ctx)->inner, txn);
}

static void eventful_close(void *ctx)
{
    eventful *e = ctx;

    if (--e->handles == 0)
        cs_storage_memory.close(e->inner);
}

static const credstore_storage eventful_engine = {
    .struct_size = sizeof eventful_engine,
    .features = CREDSTORE_STORAGE_READ_OWN_WRITES,
    .name = "eventful",
    .begin = eventful_begin,
    .get = eventful_get,
    .scan = eventful_scan,
    .put = eventful_put,
    .del = eventful_del,
    .commit = eventful_commit,
    .abort = eventful_abort,
    .close = eventful_close,
};

typedef struct story {
    const char *name;
    event events[4];
    bool create;
    uint64_t expected;
    credstore_status status;
    uint64_t revision; /* of the record afterwards; 0 = none */
    unsigned writes;   /* transactions; 0 = several */
} story;

static const story stories[] = {
    {"nothing happens", {PASS}, false, 0, CREDSTORE_OK, 1, 1},
    {"a rival creates, we update", {RIVAL, PASS}, false, 0, CREDSTORE_OK, 2, 2},
    {"a rival creates, ours is taken", {RIVAL, PASS}, true, 0, CREDSTORE_E_EXISTS, 1, 1},
    {"a rival creates, ours must be new",
     {RIVAL, PASS},
     false,
     CREDSTORE_MUST_BE_NEW,
     CREDSTORE_E_REVISION,
     1,
     1},
    {"a rival creates, then no turn", {RIVAL, BUSY, PASS}, false, 0, CREDSTORE_E_BUSY, 1, 2},
    {"no turn", {BUSY, PASS}, false, 0, CREDSTORE_E_BUSY, 0, 1},
    {"a rival creates, then a conflict", {RIVAL, CONFLICT, RIVAL}, false, 0, CREDSTORE_OK, 2, 3},
    {"conflicts without end", {CONFLICT, PASS}, false, 0, CREDSTORE_E_CONFLICT, 0, 0},
    {"unknown, and done", {UNKNOWN_DONE, PASS}, false, 0, CREDSTORE_OK, 1, 1},
    {"unknown, and not done", {UNKNOWN_UNDONE, PASS}, false, 0, CREDSTORE_E_STORAGE, 0, 1},
};

static void open_eventful(eventful *e)
{
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .storage = &eventful_engine,
        .storage_ctx = e,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
    };
    credstore_key_source *key = NULL;
    credstore_error err = {0};

    memset(e, 0, sizeof *e);
    e->handles = 2;
    assert_status(CREDSTORE_OK, cs_memory_new(&e->inner, &err), &err);
    assert_status(CREDSTORE_OK,
                  credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err), &err);
    options.key = key;
    assert_status(CREDSTORE_OK, credstore_open(NULL, &options, &e->store, &err), &err);
    assert_status(CREDSTORE_OK, credstore_open(NULL, &options, &e->rivals, &err), &err);
    credstore_key_source_free(key);
}

/* 0 = there is none. */
static uint64_t project_revision(credstore *store, const credstore_actor *actor)
{
    const credstore_call call = test_call(actor);
    const credstore_stripe *view = NULL;
    credstore_error err;
    const credstore_status status = credstore_stripe_get(store, &call, project_of(0), &view, &err);
    const uint64_t revision = view == NULL ? 0 : view->revision;

    if (status != CREDSTORE_E_NOT_FOUND)
        assert_status(CREDSTORE_OK, status, &err);
    credstore_free(view);
    return revision;
}

static void tell(const story *s)
{
    const work_change c = {.record = WORK_STRIPE,
                           .id = project_of(0),
                           .stamp = {work_tag(1, 1), work_tag(1, 1)},
                           .with_secret = true,
                           .expected = s->expected};
    credstore_status status;
    credstore_actor actor;
    credstore_error err;
    uint64_t revision;
    eventful e;

    open_eventful(&e);
    actor = test_root(e.store);
    e.actor = &actor;
    e.events = s->events;
    if (s->create)
        status = work_create(e.store, &actor, &c, &err);
    else
        status = work_write(e.store, &actor, &c, &revision, &err);
    e.events = NULL;
    printf("%s: %s after %u\n", s->name, credstore_status_name((int32_t)status), e.writes);
    assert_status(s->status, status, &err);
    assert_int_equal(project_revision(e.store, &actor), s->revision);
    if (s->writes != 0)
        assert_int_equal(e.writes, s->writes);
    audit_of(e.store);
    credstore_close(e.rivals);
    credstore_close(e.store);
}

static void rivals_are_met(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++)
        tell(&stories[i]);
}

/* ---- a writer who stays ---- */

static void held_turn_stops_writers_only(void **state)
{
    const work_change c = {.record = WORK_API_KEY, .stamp = {7, 7}, .wait_ms = 60};
    const credstore_storage *engine;
    uint64_t revision, secret;
    credstore_error err;
    work_view view;
    int64_t start;
    void *txn = NULL;
    fixture f;

    open_fixture(&f, engine_of(state));
    engine = f.stores[0]->storage;
    assert_int_equal(engine->begin(f.stores[0]->storage_ctx, 1, 1000, &txn), CREDSTORE_STORAGE_OK);
    for (unsigned i = 0; i < 2; i++) {
        start = work_now_us();
        assert_status(CREDSTORE_E_BUSY, work_write(f.stores[i], &f.actor, &c, &revision, &err),
                      &err);
        assert_true(work_now_us() - start >= 55000);
        assert_int_equal(err.retry_after_s, 1);
        assert_status(CREDSTORE_OK, work_read(f.stores[i], &f.actor, 0, 0, &view, &err), &err);
        assert_status(CREDSTORE_OK, work_reveal(f.stores[i], &f.actor, 0, 0, &secret, &err), &err);
    }
    engine->abort(f.stores[0]->storage_ctx, txn);
    assert_status(CREDSTORE_OK, work_write(f.stores[1], &f.actor, &c, &revision, &err), &err);
    assert_int_equal(revision, 2);
    close_fixture(&f);
}

/* ---- processes ---- */

/* Shared with children. */
typedef struct ledger_entry {
    _Atomic uint64_t revision; /* 0 = not acknowledged; written last */
    uint64_t record, tag;
} ledger_entry;

enum { LEDGER_MAX = 400000 };

typedef struct ledger {
    _Atomic uint64_t count, attempts;
    atomic_uint stop, failed;
    ledger_entry entries[LEDGER_MAX];
} ledger;

static ledger *new_ledger(void)
{
    ledger *l = mmap(NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(l != MAP_FAILED);
    return l;
}

typedef struct clerk {
    ledger *ledger;
    credstore *store;
    const credstore_actor *actor;
    unsigned number;
    uint64_t random, most; /* changes; 0 = until told to stop */
} clerk;

static void note(clerk *k, size_t record, uint64_t revision, uint64_t tag)
{
    const uint64_t i = atomic_fetch_add(&k->ledger->count, 1);

    if (i >= LEDGER_MAX)
        return;
    k->ledger->entries[i].record = record;
    k->ledger->entries[i].tag = tag;
    atomic_store(&k->ledger->entries[i].revision, revision);
}

/* Changes records and keeps the books: a line after each acknowledgement. */
static void *run_clerk(void *arg)
{
    clerk *k = arg;

    for (uint64_t n = 1; k->most == 0 || n <= k->most; n++) {
        const uint64_t tag = work_tag(k->number, n);
        const work_change c = {.record = test_random(&k->random) % WORK_RECORDS,
                               .stamp = {tag, tag},
                               .with_secret = true,
                               .by_door = test_random(&k->random) % 2 == 0};
        uint64_t revision = 0;
        credstore_error err;

        if (atomic_load(&k->ledger->stop) != 0)
            break;
        atomic_fetch_add(&k->ledger->attempts, 1);
        if (work_write(k->store, k->actor, &c, &revision, &err) != CREDSTORE_OK) {
            work_say("clerk", &err);
            atomic_store(&k->ledger->failed, 1);
            break;
        }
        note(k, c.record, revision, tag);
    }
    return NULL;
}

enum { CLERKS_MAX = 4 };

typedef struct clerks {
    pthread_t threads[CLERKS_MAX];
    clerk clerks[CLERKS_MAX];
    unsigned count;
} clerks;

static bool start_clerks(clerks *all, unsigned count, const clerk *like)
{
    for (all->count = 0; all->count < count; all->count++) {
        clerk *k = &all->clerks[all->count];

        *k = *like;
        k->number += all->count;
        k->random += all->count;
        if (pthread_create(&all->threads[all->count], NULL, run_clerk, k) != 0)
            return false;
    }
    return true;
}

static void join_clerks(clerks *all)
{
    while (all->count > 0)
        pthread_join(all->threads[--all->count], NULL);
}

/* A process that opens the store for itself and lets its clerks work. */
static pid_t start_office(const fixture *f, ledger *l, unsigned count, const clerk *like)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        credstore_error err;
        clerks all;
        clerk k = *like;
        bool ok;

        k.ledger = l;
        k.actor = &f->actor;
        k.store = work_open(f->path, &err);
        ok = k.store != NULL && start_clerks(&all, count, &k);
        if (ok)
            join_clerks(&all);
        credstore_close(k.store);
        exit(ok && atomic_load(&l->failed) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    return pid;
}

static int ended(pid_t pid)
{
    int status = -1;

    return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static uint64_t entries_of(const ledger *l)
{
    const uint64_t count = atomic_load(&l->count);

    return count < LEDGER_MAX ? count : LEDGER_MAX;
}

/* Every line of the ledger is in the store, as far as history goes. Returns how many there are. */
static uint64_t check_ledger(const fixture *f, ledger *l)
{
    uint64_t lines = 0, last[WORK_RECORDS];

    for (size_t i = 0; i < WORK_RECORDS; i++)
        last[i] = revision_of(f, i);
    assert_int_equal(atomic_load(&l->failed), 0);
    for (uint64_t i = 0; i < entries_of(l); i++) {
        const ledger_entry *e = &l->entries[i];
        const uint64_t revision = atomic_load(&e->revision);
        credstore_error err;
        work_view view;

        if (revision == 0) /* killed between the acknowledgement and the line */
            continue;
        lines++;
        if (revision + WORK_HISTORY < last[e->record])
            continue;
        assert_status(CREDSTORE_OK,
                      work_read(f->stores[0], &f->actor, (size_t)e->record, revision, &view, &err),
                      &err);
        assert_true(view.whole);
        assert_int_equal(view.revision, revision);
        assert_int_equal(view.stamp.tag, e->tag);
    }
    return lines;
}

/* ---- one folder, opened twice ---- */

static void folder_is_opened_twice(void **state)
{
    const clerk like = {.number = 100, .random = seed, .most = 100};
    ledger *l = new_ledger(), *ours = new_ledger();
    char other[PATH_ROOM + 16];
    credstore_error err;
    uint64_t before, revision;
    clerks all;
    clerk k = like;
    pid_t pid;
    fixture f;

    (void)state;
    open_fixture(&f, TEST_LMDB);
    credstore_close(f.stores[1]);
    snprintf(other, sizeof other, "%s/../store/", f.path); /* the same folder by another name */
    f.stores[1] = work_open(other, &err);
    assert_non_null(f.stores[1]);
    for (unsigned i = 0; i < 20; i++) { /* what one writes, the other reads */
        const work_change c = {.record = i % WORK_RECORDS, .stamp = {i + 1, 0}};
        work_view view;

        assert_status(CREDSTORE_OK, work_write(f.stores[i % 2], &f.actor, &c, &revision, &err),
                      &err);
        assert_status(CREDSTORE_OK,
                      work_read(f.stores[(i + 1) % 2], &f.actor, c.record, 0, &view, &err), &err);
        assert_int_equal(view.revision, revision);
        assert_int_equal(view.stamp.tag, i + 1);
    }

    before = revisions_of(&f);
    pid = start_office(&f, l, 2, &like);
    k.number = 200;
    k.ledger = ours;
    k.store = f.stores[0];
    k.actor = &f.actor;
    assert_true(start_clerks(&all, 2, &k));
    work_nap_us(10000);
    credstore_close(f.stores[1]); /* closing one leaves the other its locks */
    f.stores[1] = f.stores[0];
    join_clerks(&all);
    assert_int_equal(ended(pid), 0);
    assert_int_equal(check_ledger(&f, l), 200);
    assert_int_equal(check_ledger(&f, ours), 200);
    assert_int_equal(revisions_of(&f) - before, 400);
    audit_of(f.stores[0]);
    close_fixture(&f);
    munmap(l, sizeof *l);
    munmap(ours, sizeof *ours);
}

/* Whoever founds the store: all end up in the same. */
static void store_is_founded_once(void **state)
{
    enum { FOUNDERS = 3 };
    const unsigned rounds = rounds_of(8);

    (void)state;
    for (unsigned i = 0; i < rounds; i++) {
        const work_change c = {.record = WORK_STRIPE, .with_secret = true};
        fixture f = {.engine = TEST_LMDB};
        pid_t pids[FOUNDERS];
        uint64_t revision = 0;
        credstore_error err;

        test_folder(f.folder);
        snprintf(f.path, sizeof f.path, "%s/store", f.folder);
        f.actor = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "founder", TEST_TENANT);
        fflush(NULL);
        for (unsigned k = 0; k < FOUNDERS; k++) {
            pids[k] = fork();
            if (pids[k] == 0) {
                credstore *store = work_open(f.path, &err);
                work_change mine = c;

                mine.stamp.tag = mine.stamp.secret = k + 1;
                if (store != NULL &&
                    work_write(store, &f.actor, &mine, &revision, &err) != CREDSTORE_OK)
                    work_say("founder", &err);
                credstore_close(store);
                exit(revision != 0 ? EXIT_SUCCESS : EXIT_FAILURE);
            }
        }
        for (unsigned k = 0; k < FOUNDERS; k++)
            assert_int_equal(ended(pids[k]), 0);
        f.stores[0] = f.stores[1] = work_open(f.path, &err);
        assert_non_null(f.stores[0]);
        assert_int_equal(revision_of(&f, WORK_STRIPE), FOUNDERS);
        audit_of(f.stores[0]);
        close_fixture(&f);
    }
}

/* ---- cancelled threads ---- */

typedef struct victim {
    const fixture *fixture;
    uint64_t random;
    unsigned number;
    _Atomic uint64_t calls;
} victim;

static void call_something(victim *v, uint64_t n)
{
    const fixture *f = v->fixture;
    const uint64_t sort = test_random(&v->random) % 8, tag = work_tag(v->number, n);
    const work_change c = {.record = test_random(&v->random) % WORK_RECORDS,
                           .stamp = {tag, tag},
                           .with_secret = true,
                           .by_door = sort % 2 == 0};
    uint64_t revision, secret;
    credstore_error err;
    work_view view;

    if (sort < 4)
        work_write(f->stores[n % 2], &f->actor, &c, &revision, &err);
    else if (sort < 5)
        work_read_door(f->stores[n % 2], &f->actor, c.record, &view, &err);
    else if (sort < 7)
        work_reveal(f->stores[n % 2], &f->actor, c.record % 4, 0, &secret, &err);
    else if (f->engine == TEST_LMDB)
        credstore_close(work_open(f->path, &err));
    atomic_fetch_add(&v->calls, 1);
}

static void *run_victim(void *arg)
{
    victim *v = arg;

    for (uint64_t n = 1;; n++) {
        pthread_testcancel();
        call_something(v, n);
    }
    return NULL;
}

static void cancelled_threads_leave_a_usable_store(void **state)
{
    enum { VICTIMS = 3 };
    const unsigned rounds = rounds_of(40);
    uint64_t random = seed, calls = 0;
    fixture f;

    open_fixture(&f, engine_of(state));
    for (unsigned i = 0; i < rounds; i++) {
        const work_change c = {.record = i % WORK_RECORDS, .stamp = {i + 1, 0}, .wait_ms = 20000};
        pthread_t threads[VICTIMS];
        victim victims[VICTIMS];
        uint64_t revision;
        credstore_error err;

        memset(victims, 0, sizeof victims);
        for (unsigned k = 0; k < VICTIMS; k++) {
            victims[k].fixture = &f;
            victims[k].number = i * VICTIMS + k + 1;
            victims[k].random = test_random(&random);
            assert_int_equal(pthread_create(&threads[k], NULL, run_victim, &victims[k]), 0);
        }
        work_nap_us((int64_t)(test_random(&random) % 8000));
        for (unsigned k = 0; k < VICTIMS; k++) {
            void *result = NULL;

            assert_int_equal(pthread_cancel(threads[k]), 0);
            if (k == 0) /* the others go on meanwhile */
                assert_status(CREDSTORE_OK, work_write(f.stores[0], &f.actor, &c, &revision, &err),
                              &err);
            assert_int_equal(pthread_join(threads[k], &result), 0);
            assert_ptr_equal(result, PTHREAD_CANCELED);
            calls += atomic_load(&victims[k].calls);
        }
        assert_status(CREDSTORE_OK, work_write(f.stores[1], &f.actor, &c, &revision, &err), &err);
    }
    printf("%u threads cancelled in %" PRIu64 " calls\n", rounds * VICTIMS, calls);
    revisions_of(&f);
    audit_of(f.stores[0]);
    close_fixture(&f);
}

/* ---- forked children ---- */

/* Calls an exported function on the parent's store; false unless it was refused as it should. */
typedef bool forked_call(credstore *store, const credstore_actor *actor);

static bool refused(credstore_status status, const credstore_error *err, const void *out)
{
    return status == CREDSTORE_E_FORKED && err->status == CREDSTORE_E_FORKED && out == NULL &&
           err->message[0] != '\0';
}

/* A function whose last arguments are out and err, one without out, and one that gives a token too.
 */
#define WITH_OUT(name, type, ...)                                                                  \
    static bool forked_##name(credstore *store, const credstore_actor *actor)                      \
    {                                                                                              \
        const credstore_call call = test_call(actor);                                              \
        type *out = (void *)(uintptr_t)&call;                                                      \
        credstore_error err;                                                                       \
        const credstore_status status = credstore_##name(store, __VA_ARGS__, &out, &err);          \
                                                                                                   \
        return refused(status, &err, out);                                                         \
    }
#define WITH_TOKEN(name, type, ...)                                                                \
    static bool forked_##name(credstore *store, const credstore_actor *actor)                      \
    {                                                                                              \
        const credstore_call call = test_call(actor);                                              \
        credstore_secret *token = (void *)(uintptr_t)&call;                                        \
        type *out = (void *)(uintptr_t)&call;                                                      \
        credstore_error err;                                                                       \
        const credstore_status status = credstore_##name(store, __VA_ARGS__, &token, &out, &err);  \
                                                                                                   \
        return refused(status, &err, out) && token == NULL;                                        \
    }
#define WITHOUT_OUT(name, ...)                                                                     \
    static bool forked_##name(credstore *store, const credstore_actor *actor)                      \
    {                                                                                              \
        const credstore_call call = test_call(actor);                                              \
        credstore_actor copy = *actor;                                                             \
        credstore_error err;                                                                       \
        const credstore_status status = credstore_##name(store, __VA_ARGS__, &err);                \
                                                                                                   \
        return refused(status, &err, NULL) && copy.type == call.actor->type;                       \
    }

#define PATCH(kind)                                                                                \
    &(const credstore_##kind##_patch)                                                              \
    {                                                                                              \
        .struct_size = sizeof(credstore_##kind##_patch)                                            \
    }
#define FRESH &(const credstore_secret_text)CREDSTORE_SECRET("whsec_fresh", CREDSTORE_NTS)
#define CHECKPOINT                                                                                 \
    &(const credstore_checkpoint)                                                                  \
    {                                                                                              \
        .struct_size = sizeof(credstore_checkpoint)                                                \
    }
#define BYTES                                                                                      \
    &(const credstore_slice)                                                                       \
    {                                                                                              \
        "t=1,v1=00", 9                                                                             \
    }
#define KSUID "1NFHrqBHb3cTfLVkFSGmHZqdDPi"
#define UUID  "3c90c3cc-0d44-4b50-8888-8dd25736052a"
#define PATH  "acme", "sa-1", "cred-1"

/* What every kind has. IN: what stands before an id that is made here. */
#define FORKED_KIND(kind, IN, ID)                                                                  \
    WITH_OUT(kind##_create, const credstore_##kind, &call, IN NULL, PATCH(kind))                   \
    WITH_OUT(kind##_get, const credstore_##kind, &call, ID)                                        \
    WITH_OUT(kind##_update, const credstore_##kind, &call, ID, PATCH(kind))                        \
    WITH_OUT(kind##_history, const credstore_##kind##_page, &call, ID, 0, 10)                      \
    WITH_OUT(kind##_restore, const credstore_##kind, &call, ID, 1)                                 \
    WITHOUT_OUT(kind##_remove, &call, ID)
#define NOTHING
#define PROJECT UUID,
#define ACCOUNT "acme", "sa-1",
FORKED_KIND(checkbook, NOTHING, KSUID)
FORKED_KIND(stripe, PROJECT, UUID)
FORKED_KIND(service_credential, ACCOUNT, PATH)
FORKED_KIND(api_key, NOTHING, "key-1")

WITH_OUT(checkbook_list, const credstore_checkbook_page, &call, NULL)
WITH_OUT(checkbook_reveal, credstore_secret, &call, KSUID, CREDSTORE_CHECKBOOK_SECRET_KEY)
WITH_OUT(checkbook_roll, const credstore_checkbook, &call, KSUID, CREDSTORE_CHECKBOOK_SECRET_KEY,
         FRESH, 0)
WITH_OUT(stripe_list, const credstore_stripe_page, &call, NULL)
WITH_OUT(stripe_reveal, credstore_secret, &call, UUID, CREDSTORE_STRIPE_LIVE_SECRET_KEY)
WITH_OUT(stripe_roll, const credstore_stripe, &call, UUID, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET,
         FRESH, 0)
WITH_OUT(stripe_deactivate, const credstore_stripe, &call, UUID)
WITH_OUT(stripe_reactivate, const credstore_stripe, &call, UUID)
WITHOUT_OUT(stripe_webhook_verify, &call, UUID, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET, BYTES, BYTES,
            300)
WITH_OUT(service_credential_list, const credstore_service_credential_page, &call, "acme", "sa-1",
         NULL)
WITH_TOKEN(service_credential_issue, const credstore_service_credential, &call, "acme", "sa-1",
           NULL, PATCH(service_credential))
WITH_TOKEN(service_credential_roll, const credstore_service_credential, &call, PATH, 0)
WITHOUT_OUT(service_credential_verify, "secret_x", CREDSTORE_NTS, &copy)
WITH_OUT(api_key_list, const credstore_api_key_page, &call, NULL)
WITH_TOKEN(api_key_issue, const credstore_api_key, &call, NULL, PATCH(api_key))
WITH_TOKEN(api_key_roll, const credstore_api_key, &call, "key-1", 0)
WITHOUT_OUT(api_key_verify, "key_x", CREDSTORE_NTS, &copy)
WITHOUT_OUT(actor_grant, &copy, test_catalogue[0].id)
WITHOUT_OUT(maintain, 0, NULL)
WITH_OUT(audit_read, const credstore_audit_page, &call, 0, 10, 0)
WITH_OUT(leak_find, const credstore_leaks, &call, "whsec_found", CREDSTORE_NTS)
WITHOUT_OUT(offboard, &call, 0, NULL, NULL)
WITHOUT_OUT(organization_label, &call, "acme", "label")
WITHOUT_OUT(audit_verify, &call, NULL, NULL)
WITHOUT_OUT(root_add, &call, NULL, CREDSTORE_ROOT_READ, NULL)
WITH_OUT(root_list, const credstore_root_page, &call)
WITHOUT_OUT(root_remove, &call, 0)
WITHOUT_OUT(audit_prune, &call, CHECKPOINT, NULL)
WITHOUT_OUT(anchor_take, &call, &(credstore_checkpoint){0})
WITHOUT_OUT(backup, &call, "no/where", 0, NULL, NULL)
WITH_OUT(statistics, const credstore_stats, &call, 0)
WITHOUT_OUT(check, &call, NULL, NULL)
WITHOUT_OUT(repair_indexes, &call, NULL)
WITH_OUT(keys_list, const credstore_data_key_page, &call, 0)
WITHOUT_OUT(keys_promote, &call, 0)
WITHOUT_OUT(keys_reseal, &call, 0, 0, NULL, NULL, NULL)

static bool forked_permit(credstore *store, const credstore_actor *actor)
{
    return credstore_permit(store, actor, test_catalogue[0].id) == 0;
}

/* Has nothing to answer, and must not wait. */
static bool forked_wake(credstore *store, const credstore_actor *actor)
{
    (void)actor;
    credstore_wake(store);
    return true;
}

static bool forked_handle(credstore *store, const credstore_actor *actor)
{
    const credstore_request request = {.struct_size = sizeof request,
                                       .kind = CREDSTORE_KIND_API_KEY,
                                       .verb = CREDSTORE_VERB_GET,
                                       .actor = actor,
                                       .id = {"key-1", 5}};
    const credstore_answer *answer = credstore_handle(store, &request);
    const bool ok = answer->status == CREDSTORE_E_FORKED && answer->http_status == 500;

    credstore_answer_free(answer);
    return ok;
}

/* Every exported function; NULL: it takes no store that is open, or works in a child. */
static const struct {
    const char *name;
    forked_call *call;
} exported[] = {
    {"credstore_actor_grant", forked_actor_grant},
    {"credstore_anchor_read", NULL},
    {"credstore_anchor_take", forked_anchor_take},
    {"credstore_anchor_write", NULL},
    {"credstore_answer_free", NULL},
    {"credstore_api_key_create", forked_api_key_create},
    {"credstore_api_key_get", forked_api_key_get},
    {"credstore_api_key_history", forked_api_key_history},
    {"credstore_api_key_issue", forked_api_key_issue},
    {"credstore_api_key_list", forked_api_key_list},
    {"credstore_api_key_remove", forked_api_key_remove},
    {"credstore_api_key_restore", forked_api_key_restore},
    {"credstore_api_key_roll", forked_api_key_roll},
    {"credstore_api_key_update", forked_api_key_update},
    {"credstore_api_key_verify", forked_api_key_verify},
    {"credstore_audit_prune", forked_audit_prune},
    {"credstore_audit_read", forked_audit_read},
    {"credstore_audit_verify", forked_audit_verify},
    {"credstore_backup", forked_backup},
    {"credstore_check", forked_check},
    {"credstore_checkbook_create", forked_checkbook_create},
    {"credstore_checkbook_get", forked_checkbook_get},
    {"credstore_checkbook_history", forked_checkbook_history},
    {"credstore_checkbook_list", forked_checkbook_list},
    {"credstore_checkbook_remove", forked_checkbook_remove},
    {"credstore_checkbook_restore", forked_checkbook_restore},
    {"credstore_checkbook_reveal", forked_checkbook_reveal},
    {"credstore_checkbook_roll", forked_checkbook_roll},
    {"credstore_checkbook_update", forked_checkbook_update},
    {"credstore_close", NULL},
    {"credstore_erase", NULL},
    {"credstore_flag_init", NULL},
    {"credstore_free", NULL},
    {"credstore_handle", forked_handle},
    {"credstore_key_bytes", NULL},
    {"credstore_key_callback", NULL},
    {"credstore_key_file", NULL},
    {"credstore_key_passphrase", NULL},
    {"credstore_key_source_free", NULL},
    {"credstore_keys_list", forked_keys_list},
    {"credstore_keys_promote", forked_keys_promote},
    {"credstore_keys_reseal", forked_keys_reseal},
    {"credstore_leak_find", forked_leak_find},
    {"credstore_maintain", forked_maintain},
    {"credstore_offboard", forked_offboard},
    {"credstore_open", NULL},
    {"credstore_organization_label", forked_organization_label},
    {"credstore_permit", forked_permit},
    {"credstore_repair_indexes", forked_repair_indexes},
    {"credstore_restore", NULL},
    {"credstore_root_add", forked_root_add},
    {"credstore_root_list", forked_root_list},
    {"credstore_root_remove", forked_root_remove},
    {"credstore_secret_free", NULL},
    {"credstore_secret_len", NULL},
    {"credstore_secret_ptr", NULL},
    {"credstore_secret_text_init", NULL},
    {"credstore_service_credential_create", forked_service_credential_create},
    {"credstore_service_credential_get", forked_service_credential_get},
    {"credstore_service_credential_history", forked_service_credential_history},
    {"credstore_service_credential_issue", forked_service_credential_issue},
    {"credstore_service_credential_list", forked_service_credential_list},
    {"credstore_service_credential_remove", forked_service_credential_remove},
    {"credstore_service_credential_restore", forked_service_credential_restore},
    {"credstore_service_credential_roll", forked_service_credential_roll},
    {"credstore_service_credential_update", forked_service_credential_update},
    {"credstore_service_credential_verify", forked_service_credential_verify},
    {"credstore_sink_borrow", NULL},
    {"credstore_sink_copy", NULL},
    {"credstore_statistics", forked_statistics},
    {"credstore_status_name", NULL},
    {"credstore_strings_init", NULL},
    {"credstore_stripe_create", forked_stripe_create},
    {"credstore_stripe_deactivate", forked_stripe_deactivate},
    {"credstore_stripe_get", forked_stripe_get},
    {"credstore_stripe_history", forked_stripe_history},
    {"credstore_stripe_list", forked_stripe_list},
    {"credstore_stripe_reactivate", forked_stripe_reactivate},
    {"credstore_stripe_remove", forked_stripe_remove},
    {"credstore_stripe_restore", forked_stripe_restore},
    {"credstore_stripe_reveal", forked_stripe_reveal},
    {"credstore_stripe_roll", forked_stripe_roll},
    {"credstore_stripe_update", forked_stripe_update},
    {"credstore_stripe_webhook_verify", forked_stripe_webhook_verify},
    {"credstore_text_init", NULL},
    {"credstore_time_init", NULL},
    {"credstore_version", NULL},
    {"credstore_wake", forked_wake},
    {"credstore_wipe", NULL},
};
enum { EXPORTED = sizeof exported / sizeof *exported };

static void every_export_has_its_row(void **state)
{
    FILE *map = fopen("lib/libcredstore.map", "r");
    char line[128], name[128];
    unsigned found = 0;

    (void)state;
    assert_non_null(map);
    while (fgets(line, sizeof line, map) != NULL) {
        bool here = false;

        if (sscanf(line, " credstore_%100[a-z0-9_];", name) != 1)
            continue;
        for (size_t i = 0; i < EXPORTED && !here; i++)
            here = strcmp(exported[i].name + strlen("credstore_"), name) == 0;
        if (!here)
            fail_msg("credstore_%s has no row here: does it answer E_FORKED?", name);
        found++;
    }
    fclose(map);
    assert_int_equal(found, EXPORTED);
}

/* In the child: refused everywhere, and what was handed out before can be given back. */
static bool is_all_refused(const fixture *f)
{
    bool ok = true;

    for (size_t i = 0; i < EXPORTED; i++) {
        if (exported[i].call == NULL || exported[i].call(f->stores[0], &f->actor))
            continue;
        fprintf(stderr, "%s does not answer E_FORKED\n", exported[i].name);
        ok = false;
    }
    return ok;
}

static void child_is_refused_and_can_close(void **state)
{
    const work_change c = {.record = WORK_STRIPE, .stamp = {3, 3}, .with_secret = true};
    const credstore_api_key *view = NULL;
    credstore_secret *secret = NULL;
    credstore_error err;
    uint64_t revision;
    fixture f;
    pid_t pid;

    open_fixture(&f, engine_of(state));
    const credstore_call call = test_call(&f.actor);

    assert_status(CREDSTORE_OK, credstore_api_key_get(f.stores[0], &call, "key-1", &view, &err),
                  &err);
    assert_status(CREDSTORE_OK,
                  credstore_stripe_reveal(f.stores[0], &call,
                                          "3c90c3cc-0d44-4b50-8888-8dd25736052a",
                                          CREDSTORE_STRIPE_LIVE_SECRET_KEY, &secret, &err),
                  &err);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        const bool ok = is_all_refused(&f) && *credstore_secret_ptr(secret) == '\0' &&
                        strcmp(view->id, "key-1") == 0;

        credstore_free(view);
        credstore_secret_free(secret);
        credstore_close(f.stores[0]);
        if (f.stores[1] != f.stores[0])
            credstore_close(f.stores[1]);
        _exit(ok ? EXIT_SUCCESS : EXIT_FAILURE); /* the kernel wiped what a leak check follows */
    }
    assert_int_equal(ended(pid), 0);
    assert_int_equal(strlen(credstore_secret_ptr(secret)), credstore_secret_len(secret));
    credstore_free(view);
    credstore_secret_free(secret);
    assert_status(CREDSTORE_OK, work_write(f.stores[1], &f.actor, &c, &revision, &err), &err);
    assert_int_equal(revision, 2);
    close_fixture(&f);
}

/* A server that opens first and forks then: children close, open for themselves, and all count. */
static void child_opens_for_itself(void **state)
{
    enum { CHILDREN = 3, MOST = 60 };
    const clerk like = {.most = MOST};
    ledger *l = new_ledger();
    pid_t pids[CHILDREN];
    uint64_t before;
    fixture f;
    clerk k = like;
    clerks all;

    (void)state;
    open_fixture(&f, TEST_LMDB);
    before = revisions_of(&f);
    fflush(NULL);
    for (unsigned i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            credstore_error err;

            if (i == 0) { /* the others keep what they inherited */
                credstore_close(f.stores[0]);
                credstore_close(f.stores[1]);
            }
            k.ledger = l;
            k.number = 10 * (i + 1);
            k.random = seed + i;
            k.actor = &f.actor;
            k.store = work_open(f.path, &err);
            if (k.store != NULL && start_clerks(&all, 2, &k))
                join_clerks(&all);
            credstore_close(k.store);
            _exit(k.store != NULL ? EXIT_SUCCESS : EXIT_FAILURE);
        }
    }
    k.ledger = l;
    k.number = 1;
    k.actor = &f.actor;
    k.store = f.stores[0];
    assert_true(start_clerks(&all, 2, &k));
    join_clerks(&all);
    for (unsigned i = 0; i < CHILDREN; i++)
        assert_int_equal(ended(pids[i]), 0);
    assert_int_equal(check_ledger(&f, l), 2 * (CHILDREN + 1) * MOST);
    assert_int_equal(revisions_of(&f) - before, 2 * (CHILDREN + 1) * MOST);
    audit_of(f.stores[0]);
    close_fixture(&f);
    munmap(l, sizeof *l);
}

/* A sanitizer's allocator may be locked for ever in such a child: there only what needs none. */
static bool child_of_threads(const fixture *f)
{
    if (SANITIZED)
        return forked_permit(f->stores[0], &f->actor) &&
               forked_actor_grant(f->stores[0], &f->actor);
    if (!is_all_refused(f))
        return false;
    credstore_close(f->stores[0]);
    if (f->stores[1] != f->stores[0])
        credstore_close(f->stores[1]);
    return true;
}

/* Forks while threads are in the midst of changes: the child must neither hang nor harm. */
static void forks_while_threads_write(void **state)
{
    const unsigned rounds = rounds_of(30);
    ledger *l = new_ledger();
    uint64_t before, random = seed;
    unsigned bad = 0;
    fixture f;
    clerk k = {.ledger = l, .number = 1};
    clerks all;

    open_fixture(&f, engine_of(state));
    before = revisions_of(&f);
    k.store = f.stores[1];
    k.actor = &f.actor;
    assert_true(start_clerks(&all, CLERKS_MAX, &k));
    for (unsigned i = 0; i < rounds; i++) {
        pid_t pid;

        work_nap_us((int64_t)(test_random(&random) % 4000));
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
            alarm(60);
            if (!child_of_threads(&f))
                _exit(EXIT_FAILURE);
            kill(getpid(), SIGKILL); /* what lost threads held is no leak to be told at an exit */
        }
        bad += ended(pid) != SIGKILL;
    }
    atomic_store(&l->stop, 1);
    join_clerks(&all);
    assert_int_equal(bad, 0);
    assert_int_equal(check_ledger(&f, l), atomic_load(&l->count));
    assert_int_equal(revisions_of(&f) - before, atomic_load(&l->count));
    audit_of(f.stores[0]);
    close_fixture(&f);
    munmap(l, sizeof *l);
}

/* ---- killed processes ---- */

/* Until the ledger has `more` lines than now; false after a minute. */
static bool wait_for_lines(ledger *l, uint64_t more)
{
    const uint64_t start = atomic_load(&l->count);
    const int64_t end = work_now_us() + 60000000;

    while (atomic_load(&l->count) < start + more && work_now_us() < end)
        work_nap_us(200);
    return atomic_load(&l->count) >= start + more;
}

/* What the store has moved by: all lines, and at most one change in flight for each killed clerk.
 */
static uint64_t check_killed(fixture *f, ledger *killed, ledger *survivor, uint64_t before)
{
    const uint64_t lines = check_ledger(f, killed);
    const uint64_t survived = survivor == NULL ? 0 : check_ledger(f, survivor);
    const uint64_t after = revisions_of(f);

    assert_in_range(after - before, lines + survived, survived + atomic_load(&killed->attempts));
    assert_in_range(atomic_load(&killed->attempts), lines, lines + CLERKS_MAX);
    return lines;
}

static void open_again(fixture *f)
{
    credstore_error err;

    f->stores[0] = f->stores[1] = work_open(f->path, &err);
    assert_non_null(f->stores[0]);
}

/* Kills an office; in every second round another one lives on beside it. */
static uint64_t kill_one(fixture *f, unsigned round, uint64_t *random)
{
    const clerk like = {.number = round * 8 + 1, .random = test_random(random)};
    const clerk other = {.number = round * 8 + 5, .random = test_random(random)};
    ledger *killed = new_ledger(), *survivor = round % 2 == 0 ? NULL : new_ledger();
    const uint64_t before = revisions_of(f);
    uint64_t lines;
    pid_t pid, living = 0;

    credstore_close(f->stores[0]);
    pid = start_office(f, killed, 1 + round % CLERKS_MAX, &like);
    if (survivor != NULL)
        living = start_office(f, survivor, 2, &other);
    assert_true(wait_for_lines(killed, 1));
    work_nap_us((int64_t)(test_random(random) % 50000));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(ended(pid), SIGKILL);
    if (survivor != NULL) {
        assert_true(wait_for_lines(survivor, 10));
        atomic_store(&survivor->stop, 1);
        assert_int_equal(ended(living), 0);
    }
    open_again(f);
    lines = check_killed(f, killed, survivor, before);
    audit_of(f->stores[0]);
    munmap(killed, sizeof *killed);
    if (survivor != NULL)
        munmap(survivor, sizeof *survivor);
    return lines;
}

static void killed_processes_lose_nothing_acknowledged(void **state)
{
    const unsigned rounds = (unsigned)test_number("CREDSTORE_KILLS", rounds_of(20));
    uint64_t random = seed, lines = 0;
    fixture f;

    (void)state;
    open_fixture(&f, TEST_LMDB);
    credstore_close(f.stores[1]);
    f.stores[1] = f.stores[0];
    for (unsigned i = 0; i < rounds; i++)
        lines += kill_one(&f, i, &random);
    printf("%u processes killed, %" PRIu64 " acknowledged changes all there\n", rounds, lines);
    close_fixture(&f);
}

/* Killed while it makes the store: the next one makes it, or finds it whole. */
static void killed_founders_leave_nothing_in_the_way(void **state)
{
    const unsigned rounds = rounds_of(20);
    uint64_t random = seed;
    unsigned late = 0;

    (void)state;
    for (unsigned i = 0; i < rounds; i++) {
        fixture f = {.engine = TEST_LMDB};
        credstore_error err;
        pid_t pid;

        test_folder(f.folder);
        snprintf(f.path, sizeof f.path, "%s/store", f.folder);
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
            credstore_close(work_open(f.path, &err));
            _exit(EXIT_SUCCESS);
        }
        work_nap_us((int64_t)(test_random(&random) % 12000));
        kill(pid, SIGKILL);
        late += ended(pid) == 0;
        open_again(&f);
        f.actor = test_root(f.stores[0]);
        assert_status(CREDSTORE_OK, work_create_all(f.stores[0], &f.actor, &err), &err);
        audit_of(f.stores[0]);
        close_fixture(&f);
    }
    printf("%u founders killed, %u of them had done\n", rounds, late);
}

/* ---- ---- */

static test_engine memory = TEST_MEMORY, lmdb = TEST_LMDB;

#define BOTH(test) cmocka_unit_test_prestate(test, &memory), cmocka_unit_test_prestate(test, &lmdb)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(same_id_is_created_once),
        BOTH(same_project_is_put_by_all),
        BOTH(new_project_is_put_by_one),
        cmocka_unit_test(rivals_are_met),
        BOTH(held_turn_stops_writers_only),
        cmocka_unit_test(folder_is_opened_twice),
        cmocka_unit_test(store_is_founded_once),
        BOTH(cancelled_threads_leave_a_usable_store),
        cmocka_unit_test(every_export_has_its_row),
        BOTH(child_is_refused_and_can_close),
        cmocka_unit_test(child_opens_for_itself),
        BOTH(forks_while_threads_write),
        cmocka_unit_test(killed_processes_lose_nothing_acknowledged),
        cmocka_unit_test(killed_founders_leave_nothing_in_the_way),
    };

    seed = test_seed("life_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
