/* SPDX-License-Identifier: MIT
 *
 * Two processes write, and in each its host does all that makes LMDB lose its locks: opens and
 * closes the lock file, opens the environment a second time by LMDB itself, and forks children that
 * outlive it. Others open and close the store meanwhile, as whoever would make an abandoned lock
 * file anew. No commit may be lost and no snapshot disturbed.
 *
 * CREDSTORE_COMMITS: how many commits in all.
 */
#define _GNU_SOURCE /* pipe2, nftw */

#include "engine.h"

enum { WRITERS = 2, KEYS = 6, VALUE = 3000, ORPHANS = 3, OLD_SNAPSHOTS = 4 };

typedef struct tally {
    uint64_t commits, reads, disturbed, strays, doubles, forks;
} tally;

typedef struct host {
    void *ctx;
    uint64_t commits; /* to make */
    atomic_bool done;
    tally tally;
} host;

static talk pipes; /* up: tallies and the orphans' word; down: closed when the orphans may end */

static void page_key(char out[16], int i)
{
    snprintf(out, 16, "p%03d", i);
}

/* ---- the writer: all pages carry the number of the commit ---- */

static int32_t commit_one(void *ctx)
{
    credstore_sink sink = {0};
    void *txn = NULL;
    int32_t rc = db->begin(ctx, 1, -1, &txn);

    if (rc != OK)
        return rc;
    rc = db->get(ctx, txn, b("p000"), &sink);
    for (int i = 0; i < KEYS && rc == OK; i++) {
        char key[16];

        page_key(key, i);
        rc = put_number(ctx, txn, key, sink.last + 1, VALUE);
    }
    if (rc == OK)
        return db->commit(ctx, txn);
    db->abort(ctx, txn);
    return rc;
}

static void *write_thread(void *arg)
{
    host *h = arg;

    while (h->tally.commits < h->commits && commit_one(h->ctx) == OK)
        h->tally.commits++;
    atomic_store(&h->done, true);
    return NULL;
}

/* ---- the reader: an old snapshot is still what it was ---- */

typedef struct snapshot {
    void *txn;
    credstore_sink seen;
} snapshot;

static bool look(void *ctx, void *txn, credstore_sink *sink)
{
    memset(sink, 0, sizeof *sink);
    return db->scan(ctx, txn, b("p"), b("q"), 0, 0, sink) == OK && sink->pairs == KEYS &&
           sink->torn == 0 && sink->first == sink->last;
}

static void take_snapshot(host *h, snapshot *s)
{
    if (db->begin(h->ctx, 0, 0, &s->txn) != OK || !look(h->ctx, s->txn, &s->seen))
        h->tally.disturbed++;
    h->tally.reads++;
}

static void end_snapshot(host *h, snapshot *s)
{
    credstore_sink again;

    if (s->txn == NULL)
        return;
    if (!look(h->ctx, s->txn, &again) || again.first != s->seen.first)
        h->tally.disturbed++;
    h->tally.reads++;
    db->abort(h->ctx, s->txn);
    s->txn = NULL;
}

static void *read_thread(void *arg)
{
    host *h = arg;
    snapshot held[OLD_SNAPSHOTS] = {{0}};

    for (unsigned i = 0; !atomic_load(&h->done); i++) {
        snapshot *s = &held[i % OLD_SNAPSHOTS];

        end_snapshot(h, s);
        take_snapshot(h, s);
        nap_us(300);
    }
    for (unsigned i = 0; i < OLD_SNAPSHOTS; i++)
        end_snapshot(h, &held[i]);
    return NULL;
}

/* ---- the abuse ---- */

static void stray_close(host *h)
{
    const int fd = open(in_store(CS_LMDB_LOCK), O_RDWR | O_CLOEXEC);

    if (fd >= 0 && close(fd) == 0)
        h->tally.strays++;
}

static void open_twice(host *h)
{
    MDB_env *mdb = NULL;
    MDB_txn *txn = NULL;
    void *second = NULL;

    if (mdb_env_create(&mdb) == 0 && mdb_env_open(mdb, store, MDB_NOTLS | MDB_RDONLY, 0600) == 0 &&
        mdb_txn_begin(mdb, NULL, MDB_RDONLY, &txn) == 0)
        mdb_txn_abort(txn);
    mdb_env_close(mdb);
    if (cs_lmdb_open(store, 0, &second, NULL) == CREDSTORE_OK)
        db->close(second);
    h->tally.doubles++;
}

static void fork_orphan(host *h)
{
    const pid_t pid = fork();

    if (pid == 0) { /* holds all that it inherited until the test is over */
        close(pipes.down[1]);
        _exit(hear(pipes.down[0]) ? 1 : 0);
    }
    h->tally.forks += pid > 0 ? 1 : 0;
}

static void abuse(host *h)
{
    for (unsigned i = 0; !atomic_load(&h->done); i++) {
        stray_close(h);
        nap_us(200);
        if (i % 8 == 3)
            open_twice(h);
        if (h->tally.forks < ORPHANS && i % 50 == 10)
            fork_orphan(h);
    }
}

static void be_host(void *arg)
{
    host *h = arg;
    pthread_t writer;
    pthread_t reader;

    h->ctx = open_store(0);
    CHILD(h->ctx != NULL);
    CHILD(pthread_create(&writer, NULL, write_thread, h) == 0);
    CHILD(pthread_create(&reader, NULL, read_thread, h) == 0);
    abuse(h);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    CHILD(write(pipes.up[1], &h->tally, sizeof h->tally) == (ssize_t)sizeof h->tally);
    db->close(h->ctx);
}

static void open_tidy_close(void *arg)
{
    void *ctx = open_store(0);

    (void)arg;
    CHILD(ctx != NULL && db->tidy(ctx) == OK);
    db->close(ctx);
}

/* ---- the experiment ---- */

static bool both_ended(pid_t pids[WRITERS], int *worst)
{
    int left = 0;

    for (int i = 0; i < WRITERS; i++) {
        int status = 0;

        if (pids[i] != 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            pids[i] = 0;
            *worst |= status;
        }
        left += pids[i] != 0 ? 1 : 0;
    }
    return left == 0;
}

static tally gather(void)
{
    tally all = {0};

    for (int i = 0; i < WRITERS; i++) {
        tally one;

        assert_int_equal(read(pipes.up[0], &one, sizeof one), sizeof one);
        all.commits += one.commits;
        all.reads += one.reads;
        all.disturbed += one.disturbed;
        all.strays += one.strays;
        all.doubles += one.doubles;
        all.forks += one.forks;
    }
    return all;
}

static void test_abused_locks(void **state)
{
    const char *given = getenv("CREDSTORE_COMMITS");
    host hosts[WRITERS] = {{0}};
    pid_t pids[WRITERS];
    uint64_t openings = 0;
    int worst = 0;
    tally all;
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    (void)state;
    for (int i = 0; i < KEYS; i++) {
        char key[16];

        page_key(key, i);
        assert_int_equal(put_one(ctx, key, 0, VALUE), OK);
    }
    db->close(ctx);
    talk_open(&pipes);
    for (int i = 0; i < WRITERS; i++) {
        hosts[i].commits = (given != NULL ? strtoul(given, NULL, 10) : 10000) / WRITERS;
        pids[i] = start_child(be_host, &hosts[i]);
    }
    while (!both_ended(pids, &worst)) {
        assert_int_equal(run_child(open_tidy_close, NULL), 0);
        openings++;
        nap_us(2000);
    }
    assert_int_equal(worst, 0);
    all = gather();
    print_message("%llu commits, %llu reads of old snapshots, %llu disturbed; %llu stray closes, "
                  "%llu double openings, %llu forks, %llu openings elsewhere\n",
                  (unsigned long long)all.commits, (unsigned long long)all.reads,
                  (unsigned long long)all.disturbed, (unsigned long long)all.strays,
                  (unsigned long long)all.doubles, (unsigned long long)all.forks,
                  (unsigned long long)openings);
    assert_int_equal(all.commits, hosts[0].commits * WRITERS);
    assert_int_equal(all.disturbed, 0);
    assert_int_equal(all.forks, ORPHANS * WRITERS);
    assert_true(all.strays > 0 && all.doubles > 0 && openings > 0);

    ctx = open_store(0); /* the orphans live, and are in nobody's way */
    assert_int_equal(number_at(ctx, "p000"), all.commits);
    assert_int_equal(commit_one(ctx), OK);
    db->close(ctx);
    talk_close(&pipes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_abused_locks, fresh)};

    return cmocka_run_group_tests(tests, make_quick_root, remove_root);
}
