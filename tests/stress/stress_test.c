/* SPDX-License-Identifier: MIT
 *
 * 20,000 acknowledged changes by 2 processes of 8 threads on one LMDB store, then by 8 threads on
 * one in memory: revisions move by exactly as many, no revision is given out twice, the history
 * holds each change as it was acknowledged, and the audit chain goes from the head to the start.
 *
 *   CREDSTORE_STRESS=N changes the count, CREDSTORE_SEED=N the order.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "work.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, PROCESSES = 2, WORKERS = THREADS * PROCESSES };
enum { GROUP_MAX = THREADS }; /* changes in a commit: no thread makes two at a time */

/* One revision of a record, as it was acknowledged. */
typedef struct entry {
    _Atomic uint64_t tag, secret; /* tag + 1; 0 = not acknowledged */
} entry;

/* Shared by all workers of all processes. */
typedef struct board {
    uint64_t target, seed, revisions; /* revisions: room for each record */
    _Atomic uint64_t tickets;
    atomic_uint ready, go, trouble;
    _Atomic uint64_t acknowledged[WORKERS]; /* by each worker, his own count */
    _Atomic uint64_t stale, unchanged, reads, reveals;
    _Atomic int64_t slowest_us[PROCESSES];
    uint64_t first[WORK_RECORDS];
    entry entries[];
} board;

typedef struct worker {
    board *board;
    credstore *store;
    const credstore_actor *actor;
    unsigned number;
    uint64_t random, changes, seen[WORK_RECORDS];
    credstore_error err;
} worker;

static uint64_t seed;

/* ---- the board ---- */

static size_t board_size(uint64_t revisions)
{
    return sizeof(board) + WORK_RECORDS * revisions * sizeof(entry);
}

static board *new_board(uint64_t target)
{
    const uint64_t revisions = target + 2;
    board *b = mmap(NULL, board_size(revisions), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                    -1, 0);

    assert_true(b != MAP_FAILED);
    b->target = target;
    b->seed = seed;
    b->revisions = revisions;
    return b;
}

static entry *entry_of(board *b, size_t record, uint64_t revision)
{
    const uint64_t i = revision - b->first[record];

    return i == 0 || i >= b->revisions ? NULL : &b->entries[record * b->revisions + i];
}

#define TROUBLE(w, ...)                                                                            \
    do {                                                                                           \
        fprintf(stderr, "worker %u: ", (w)->number);                                               \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        atomic_fetch_add(&(w)->board->trouble, 1);                                                 \
    } while (0)

static bool stopped(const worker *w)
{
    return atomic_load(&w->board->trouble) != 0;
}

static bool fine(worker *w, credstore_status status, const char *what)
{
    if (status != CREDSTORE_OK)
        TROUBLE(w, "%s: %s %d %s", what, credstore_status_name((int32_t)status), w->err.native,
                w->err.message);
    return status == CREDSTORE_OK;
}

/* ---- reading ---- */

/* A revision never goes back for one who has seen a later one. */
static void see(worker *w, size_t record, uint64_t revision)
{
    if (revision < w->seen[record])
        TROUBLE(w, "record %zu went back from revision %" PRIu64 " to %" PRIu64, record,
                w->seen[record], revision);
    w->seen[record] = revision;
}

/* What was acknowledged of a revision, if its worker has come to say so, is what is read. */
static void compare(worker *w, size_t record, const work_view *view)
{
    const entry *e = entry_of(w->board, record, view->revision);
    const uint64_t tag = e == NULL ? 0 : atomic_load(&e->tag);

    if (tag == 0)
        return;
    if (tag != view->stamp.tag + 1 || atomic_load(&e->secret) != view->stamp.secret)
        TROUBLE(w, "record %zu at %" PRIu64 " is not what was acknowledged", record,
                view->revision);
}

/* Is the revision, that was the current one a while ago, beyond what history keeps by now? */
static bool is_forgotten(worker *w, size_t record, uint64_t revision)
{
    work_view now;

    return fine(w, work_read(w->store, w->actor, record, 0, &now, &w->err), "get") &&
           now.revision > revision + WORK_HISTORY;
}

static void reveal(worker *w, size_t record, const work_view *view)
{
    const bool now = test_random(&w->random) % 2 == 0;
    uint64_t secret = UINT64_MAX;
    credstore_status status;

    if (!work_has_secret(record))
        return;
    status = work_reveal(w->store, w->actor, record, now ? 0 : view->revision, &secret, &w->err);
    if (status == CREDSTORE_E_NOT_FOUND && !now && is_forgotten(w, record, view->revision))
        return;
    if (!fine(w, status, "reveal"))
        return;
    if (secret == UINT64_MAX || (!now && secret != view->stamp.secret))
        TROUBLE(w, "record %zu at %" PRIu64 ": the secret is none that was written", record,
                view->revision);
    atomic_fetch_add(&w->board->reveals, 1);
}

static bool look(worker *w, size_t record, work_view *view)
{
    if (!fine(w, work_read(w->store, w->actor, record, 0, view, &w->err), "get"))
        return false;
    if (!view->whole)
        TROUBLE(w, "record %zu at %" PRIu64 " is not whole", record, view->revision);
    see(w, record, view->revision);
    compare(w, record, view);
    atomic_fetch_add(&w->board->reads, 1);
    return true;
}

static void look_by_door(worker *w, size_t record)
{
    work_view view;

    if (!fine(w, work_read_door(w->store, w->actor, record, &view, &w->err), "GET"))
        return;
    if (!view.whole)
        TROUBLE(w, "record %zu at %" PRIu64 " is not whole in JSON", record, view.revision);
    see(w, record, view.revision);
    atomic_fetch_add(&w->board->reads, 1);
}

static void check_one(worker *w)
{
    const size_t record = test_random(&w->random) % WORK_RECORDS;
    work_view view;

    if (test_random(&w->random) % 4 == 0)
        look_by_door(w, record);
    else if (look(w, record, &view))
        reveal(w, record, &view);
}

/* ---- writing ---- */

static void acknowledge(worker *w, const work_change *c, uint64_t revision)
{
    entry *e = entry_of(w->board, c->record, revision);
    uint64_t nobody = 0;

    atomic_fetch_add(&w->board->acknowledged[w->number], 1);
    see(w, c->record, revision);
    if (c->expected != 0 && revision != c->expected + 1)
        TROUBLE(w, "record %zu: expected %" PRIu64 ", became %" PRIu64, c->record, c->expected,
                revision);
    if (e == NULL) {
        TROUBLE(w, "record %zu: revision %" PRIu64 " cannot be", c->record, revision);
        return;
    }
    atomic_store(&e->secret, c->stamp.secret);
    if (!atomic_compare_exchange_strong(&e->tag, &nobody, c->stamp.tag + 1))
        TROUBLE(w, "record %zu: revision %" PRIu64 " was given out twice", c->record, revision);
}

/* A patch without members, or a revision that has passed: answered, and not counted. */
static void change_nothing(worker *w, work_change *c)
{
    const bool stale = test_random(&w->random) % 2 == 0;
    uint64_t revision = 0;
    work_view view;
    credstore_status status;

    if (!look(w, c->record, &view))
        return;
    c->empty = !stale;
    c->by_door = stale && c->by_door;
    c->expected = stale ? view.revision - 1 : 0;
    if (stale && c->expected == 0)
        return;
    status = work_write(w->store, w->actor, c, &revision, &w->err);
    if (stale && status != CREDSTORE_E_REVISION)
        TROUBLE(w, "a passed revision was answered with %s",
                credstore_status_name((int32_t)status));
    if (!stale && fine(w, status, "an empty patch"))
        see(w, c->record, revision);
    atomic_fetch_add(stale ? &w->board->stale : &w->board->unchanged, 1);
}

/* One attempt, of a sort that is drawn. True if it was acknowledged. */
static bool try_change(worker *w)
{
    const uint64_t sort = test_random(&w->random) % 16, tag = work_tag(w->number + 1, ++w->changes);
    work_change c = {
        .record = test_random(&w->random) % WORK_RECORDS,
        .stamp = {tag, tag},
        .with_secret = true,
        .by_door = test_random(&w->random) % 2 == 0,
    };
    uint64_t revision = 0;
    work_view view;
    credstore_status status;

    if (sort < 2) {
        change_nothing(w, &c);
        return false;
    }
    if (sort < 7) { /* on what was read, which keeps its secrets */
        if (!look(w, c.record, &view))
            return false;
        c.expected = view.revision;
        c.stamp.secret = view.stamp.secret;
        c.with_secret = false;
    }
    status = work_write(w->store, w->actor, &c, &revision, &w->err);
    if (c.expected != 0 && status == CREDSTORE_E_REVISION) {
        atomic_fetch_add(&w->board->stale, 1);
        return false;
    }
    if (!fine(w, status, c.by_door ? "update by the door" : "update"))
        return false;
    acknowledge(w, &c, revision);
    return true;
}

static void note_slowest(worker *w, int64_t us)
{
    _Atomic int64_t *slowest = &w->board->slowest_us[w->number / THREADS];
    int64_t seen = atomic_load(slowest);

    while (seen < us && !atomic_compare_exchange_weak(slowest, &seen, us))
        continue;
}

/* Each ticket is one acknowledged change. */
static void *run_worker(void *arg)
{
    worker *w = arg;

    while (atomic_load(&w->board->go) == 0)
        work_nap_us(200);
    while (atomic_fetch_add(&w->board->tickets, 1) < w->board->target && !stopped(w)) {
        bool done = false;

        while (!done && !stopped(w)) {
            const int64_t start = work_now_us();

            done = try_change(w);
            note_slowest(w, work_now_us() - start);
        }
        if (test_random(&w->random) % 2 == 0)
            check_one(w);
    }
    return NULL;
}

static void *run_reader(void *arg)
{
    worker *w = arg;

    while (atomic_load(&w->board->go) == 0)
        work_nap_us(200);
    while (atomic_load(&w->board->tickets) < w->board->target && !stopped(w)) {
        check_one(w);
        work_nap_us(1000); /* two cores are few */
    }
    return NULL;
}

/* ---- processes ---- */

static void set_worker(worker *w, board *b, credstore *store, const credstore_actor *actor,
                       unsigned number)
{
    memset(w, 0, sizeof *w);
    w->board = b;
    w->store = store;
    w->actor = actor;
    w->number = number;
    w->random = b->seed + number;
    memcpy(w->seen, b->first, sizeof w->seen);
}

/* 8 writers and a reader; half of them on each of the two handles. */
static bool run_threads(board *b, credstore *const stores[2], const credstore_actor *actor,
                        unsigned process)
{
    pthread_t threads[THREADS + 1];
    worker workers[THREADS + 1];
    unsigned count = 0;

    for (; count <= THREADS; count++) {
        set_worker(&workers[count], b, stores[count % 2], actor, process * THREADS + count);
        if (pthread_create(&threads[count], NULL, count < THREADS ? run_worker : run_reader,
                           &workers[count]) != 0)
            break;
    }
    if (count <= THREADS)
        TROUBLE(&workers[0], "no thread");
    atomic_fetch_add(&b->ready, 1);
    while (count > 0)
        pthread_join(threads[--count], NULL);
    return atomic_load(&b->trouble) == 0;
}

/* A process of its own: opens the folder twice, and works. */
static int run_process(board *b, const char *path, const credstore_actor *actor, unsigned process)
{
    credstore_error err;
    credstore *stores[2] = {work_open(path, &err), work_open(path, &err)};
    bool ok = stores[0] != NULL && stores[1] != NULL;

    if (!ok)
        atomic_fetch_add(&b->ready, 1);
    ok = ok && run_threads(b, stores, actor, process);
    credstore_close(stores[0]);
    credstore_close(stores[1]);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static pid_t start_process(board *b, const char *path, const credstore_actor *actor,
                           unsigned process)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0)
        exit(run_process(b, path, actor, process));
    return pid;
}

/* ---- what must hold afterwards ---- */

static uint64_t acknowledged(const board *b, unsigned process)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < THREADS; i++)
        sum += atomic_load(&b->acknowledged[process * THREADS + i]);
    return sum;
}

static void check_revision(board *b, credstore *store, const credstore_actor *actor, size_t record,
                           uint64_t revision)
{
    const entry *e = entry_of(b, record, revision);
    uint64_t secret = 0;
    credstore_error err;
    work_view view;

    assert_status(CREDSTORE_OK, work_read(store, actor, record, revision, &view, &err), &err);
    assert_true(view.whole);
    assert_int_equal(view.revision, revision);
    assert_int_equal(view.stamp.tag + 1, atomic_load(&e->tag));
    assert_int_equal(view.stamp.secret, atomic_load(&e->secret));
    if (!work_has_secret(record))
        return;
    assert_status(CREDSTORE_OK, work_reveal(store, actor, record, revision, &secret, &err), &err);
    assert_int_equal(secret, view.stamp.secret);
}

/* Every revision of the record was acknowledged, and what history keeps of them is as it was
   acknowledged; returns how many there are. */
static uint64_t check_history(board *b, credstore *store, const credstore_actor *actor,
                              size_t record)
{
    credstore_error err;
    work_view last;

    assert_status(CREDSTORE_OK, work_read(store, actor, record, 0, &last, &err), &err);
    for (uint64_t r = b->first[record] + 1; r <= last.revision; r++) {
        const entry *e = entry_of(b, record, r);

        assert_non_null(e);
        assert_int_not_equal(atomic_load(&e->tag), 0);
        if (r + WORK_HISTORY >= last.revision)
            check_revision(b, store, actor, record, r);
    }
    return last.revision - b->first[record];
}

static void check_after(board *b, credstore *store, const credstore_actor *actor,
                        const work_marks *before)
{
    const uint64_t sum = acknowledged(b, 0) + acknowledged(b, 1);
    uint64_t moved = 0;
    work_marks after;
    credstore_error err;

    assert_int_equal(atomic_load(&b->trouble), 0);
    assert_int_equal(sum, b->target);
    for (size_t i = 0; i < WORK_RECORDS; i++)
        moved += check_history(b, store, actor, i);
    assert_int_equal(moved, sum);
    assert_status(CREDSTORE_OK, work_audit(store, &after, &err), &err);
    assert_int_equal(after.last_seq - before->last_seq, sum);
    /* A commit is one change, or several. */
    assert_in_range(after.generation - before->generation, sum / GROUP_MAX, sum);
    printf("  %" PRIu64 " commits\n", after.generation - before->generation);
}

static void prepare(board *b, credstore *store, const credstore_actor *actor, work_marks *before)
{
    credstore_error err;
    work_view view;

    assert_status(CREDSTORE_OK, work_create_all(store, actor, &err), &err);
    for (size_t i = 0; i < WORK_RECORDS; i++) {
        assert_status(CREDSTORE_OK, work_read(store, actor, i, 0, &view, &err), &err);
        assert_true(view.whole);
        b->first[i] = view.revision;
    }
    assert_status(CREDSTORE_OK, work_audit(store, before, &err), &err);
}

static void report(const board *b, const char *where, unsigned processes, int64_t us)
{
    printf("%" PRIu64 " acknowledged changes, %s, %u x %d threads: %.1f s, %.0f/s; not counted: "
           "%" PRIu64 " stale, %" PRIu64 " empty; %" PRIu64 " reads, %" PRIu64 " reveals\n",
           acknowledged(b, 0) + acknowledged(b, 1), where, processes, THREADS, (double)us / 1e6,
           (double)b->target * 1e6 / (double)us, atomic_load(&b->stale), atomic_load(&b->unchanged),
           atomic_load(&b->reads), atomic_load(&b->reveals));
    for (unsigned i = 0; i < processes; i++)
        printf("  process %u: %" PRIu64 " of them, the slowest %.0f ms\n", i, acknowledged(b, i),
               (double)atomic_load(&b->slowest_us[i]) / 1e3);
    fflush(stdout);
}

/* ---- tests ---- */

/* Instrumented runs take fewer. */
static uint64_t count_of(uint64_t plain)
{
    static const struct {
        const char *variant;
        uint64_t divisor;
    } slow[] = {{"asan", 4}, {"tsan", 5}, {"valgrind", 40}};
    const char *variant = getenv("CREDSTORE_VARIANT");
    uint64_t count = plain;

    for (size_t i = 0; variant != NULL && i < sizeof slow / sizeof *slow; i++)
        if (strcmp(variant, slow[i].variant) == 0)
            count = plain / slow[i].divisor;
    count = test_number("CREDSTORE_STRESS", count);
    if (count != plain)
        printf("%" PRIu64 " changes instead of %" PRIu64 " (%s)\n", count, plain,
               variant == NULL ? "CREDSTORE_STRESS" : variant);
    return count;
}

static void two_processes_on_lmdb(void **state)
{
    board *b = new_board(count_of(20000));
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX + 8], fs[16];
    credstore_actor actor;
    credstore_error err;
    work_marks before;
    credstore *store;
    pid_t pids[PROCESSES];
    int64_t start;

    (void)state;
    test_folder(folder);
    work_file_system(folder, fs);
    snprintf(path, sizeof path, "%s/store", folder);
    store = work_open(path, &err);
    assert_non_null(store);
    actor = test_root(store);
    prepare(b, store, &actor, &before);
    credstore_close(store); /* no process that works here has inherited it */

    for (unsigned i = 0; i < PROCESSES; i++) {
        pids[i] = start_process(b, path, &actor, i);
        assert_true(pids[i] > 0);
    }
    while (atomic_load(&b->ready) < PROCESSES)
        work_nap_us(500);
    start = work_now_us();
    atomic_store(&b->go, 1);
    for (unsigned i = 0; i < PROCESSES; i++) {
        int ended = 0;

        assert_int_equal(waitpid(pids[i], &ended, 0), pids[i]);
        if (!WIFEXITED(ended) || WEXITSTATUS(ended) != EXIT_SUCCESS) {
            fprintf(stderr, "process %u ended with %#x\n", i, (unsigned)ended);
            atomic_fetch_add(&b->trouble, 1);
        }
    }
    report(b, fs, PROCESSES, work_now_us() - start);

    store = work_open(path, &err);
    assert_non_null(store);
    check_after(b, store, &actor, &before);
    credstore_close(store);
    test_folder_remove(folder);
    munmap(b, board_size(b->revisions));
}

static void one_process_in_memory(void **state)
{
    board *b = new_board(count_of(20000));
    credstore_error err;
    credstore *store = work_open(NULL, &err);
    credstore *const stores[2] = {store, store};
    credstore_actor actor;
    work_marks before;
    int64_t start;

    (void)state;
    assert_non_null(store);
    actor = test_root(store);
    prepare(b, store, &actor, &before);
    start = work_now_us();
    atomic_store(&b->go, 1);
    assert_true(run_threads(b, stores, &actor, 0));
    report(b, "memory", 1, work_now_us() - start);
    check_after(b, store, &actor, &before);
    credstore_close(store);
    munmap(b, board_size(b->revisions));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_processes_on_lmdb),
        cmocka_unit_test(one_process_in_memory),
    };

    seed = test_seed("stress_test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
