/* SPDX-License-Identifier: MIT
 *
 * The storage engine's side of growth: the map that is outgrown, here or elsewhere, while readers
 * and other processes live; address space that runs out; readers that died; places that run out;
 * and a file that rightly ends before its last page.
 *
 * A map is as small here as the test wants it (mdb_env_set_mapsize is wrapped for the time before
 * the environment is open), and the address space too (mmap is, for reservations alone).
 */
#define _GNU_SOURCE /* pipe2, nftw, unshare */

#include "engine.h"

#include <sched.h>
#include <sys/mman.h>

int __real_mdb_env_set_mapsize(MDB_env *mdb, size_t size);
int __wrap_mdb_env_set_mapsize(MDB_env *mdb, size_t size);
int __real_mdb_env_open(MDB_env *mdb, const char *path, unsigned int flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *mdb, const char *path, unsigned int flags, mdb_mode_t mode);
void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int64_t __real_cs_lmdb_now_ms(void);
int64_t __wrap_cs_lmdb_now_ms(void);

enum { TINY = 1 << 18, MEGABYTE = 1 << 20 };

static size_t first_map;    /* of the next opening; 0 = as the library has it */
static size_t asked_map;    /* what the library asked for last */
static size_t most_map;     /* LMDB finds no room for more; 0 = it does */
static size_t address_room; /* the largest reservation that is granted; 0 = any */
static atomic_int hurry = 1;

/* What an environment that is open follows with, where it would take all that it can get. */
static size_t doubled_as_needed(MDB_env *mdb)
{
    MDB_envinfo info;
    size_t size;

    mdb_env_info(mdb, &info);
    for (size = info.me_mapsize; size < (info.me_last_pgno + 1) * 4096;)
        size *= 2;
    return size;
}

int __wrap_mdb_env_set_mapsize(MDB_env *mdb, size_t size)
{
    const char *path = NULL;

    asked_map = size;
    mdb_env_get_path(mdb, &path);
    if (first_map != 0 && path == NULL)
        size = first_map;
    else if (first_map != 0 && size >= CS_LMDB_MAP_FLOOR)
        size = doubled_as_needed(mdb);
    return __real_mdb_env_set_mapsize(mdb, size);
}

int __wrap_mdb_env_open(MDB_env *mdb, const char *path, unsigned int flags, mdb_mode_t mode)
{
    if (most_map != 0 && asked_map > most_map)
        return ENOMEM;
    return __real_mdb_env_open(mdb, path, flags, mode);
}

void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    if (address_room != 0 && len > address_room && (flags & MAP_NORESERVE) != 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, len, protection, flags, fd, offset);
}

/* Five seconds of waiting are over sooner. */
int64_t __wrap_cs_lmdb_now_ms(void)
{
    return __real_cs_lmdb_now_ms() * atomic_load(&hurry);
}

static int plain(void **state)
{
    first_map = most_map = address_room = 0;
    atomic_store(&hurry, 1);
    return fresh(state);
}

static size_t map_size(void)
{
    cs_lmdb_env *env = NULL;
    MDB_envinfo info = {0};

    if (cs_lmdb_env_open(store, 0, &env, NULL) == CREDSTORE_OK)
        mdb_env_info(env->mdb, &info);
    if (env != NULL)
        cs_lmdb_env_close(env);
    return info.me_mapsize;
}

/* ---- many processes, readers in each, and a map that is outgrown again and again ---- */

static talk pipes;
static talk last_word;

enum { WRITERS = 2, READERS = 2, CHANGES = 60 };

typedef struct grower {
    int number;
    void *ctx;
    uint64_t again, reads, torn;
    atomic_bool done;
} grower;

static void change_key(char out[32], int writer, int change)
{
    snprintf(out, 32, "w%d.%03d", writer, change);
}

static size_t change_len(int change)
{
    return 40000 + (size_t)change * 1999;
}

static int32_t change_counting(grower *g, int change)
{
    char key[32];
    int32_t rc;

    change_key(key, g->number, change);
    while ((rc = put_once(g->ctx, key, (uint64_t)change, change_len(change))) == AGAIN)
        g->again++;
    return rc;
}

/* Holds a snapshot while the map grows beneath the others, and looks again at what it borrowed. */
static void *hold_snapshots(void *arg)
{
    grower *g = arg;

    while (!atomic_load(&g->done)) {
        credstore_sink before = {0};
        credstore_sink after = {0};
        void *txn = NULL;

        if (db->begin(g->ctx, 0, 0, &txn) != OK) {
            __atomic_fetch_add(&g->torn, 1, __ATOMIC_RELAXED);
            continue;
        }
        db->scan(g->ctx, txn, b("w"), b(""), 0, 0, &before);
        nap_us(3000);
        if (before.pairs > 0 && is_torn(before.value, before.len))
            __atomic_fetch_add(&g->torn, 1, __ATOMIC_RELAXED);
        db->scan(g->ctx, txn, b("w"), b(""), 0, 0, &after);
        if (before.torn + after.torn != 0 || before.pairs != after.pairs)
            __atomic_fetch_add(&g->torn, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&g->reads, 1, __ATOMIC_RELAXED);
        db->abort(g->ctx, txn);
    }
    return NULL;
}

static void grow(void *arg)
{
    grower *g = arg;
    pthread_t readers[READERS];

    first_map = TINY;
    g->ctx = open_store(0);
    CHILD(g->ctx != NULL && map_size() == TINY);
    tell(pipes.up[1]);
    CHILD(hear(pipes.down[0])); /* when all have it open */
    for (int i = 0; i < READERS; i++)
        CHILD(pthread_create(&readers[i], NULL, hold_snapshots, g) == 0);
    for (int i = 0; i < CHANGES && g->number < WRITERS; i++)
        CHILD(change_counting(g, i) == OK);
    CHILD(g->number < WRITERS || hear(last_word.down[0])); /* who only reads ends when they have */
    atomic_store(&g->done, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    fprintf(stderr, "process %d: run again %d times, map of %zu KiB, %d snapshots\n", g->number,
            (int)g->again, map_size() >> 10, (int)g->reads);
    CHILD(g->torn == 0 && g->reads > 0 && map_size() >= 16 * TINY);
    db->close(g->ctx);
}

static void test_growth_with_readers_and_processes(void **state)
{
    grower *growers = mmap(NULL, (WRITERS + 1) * sizeof *growers, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[WRITERS + 1];
    int worst = 0;
    void *ctx;

    (void)state;
    assert_true(growers != MAP_FAILED);
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    talk_open(&pipes);
    talk_open(&last_word); /* of its own: who reads twice would take another's start */
    for (int i = 0; i <= WRITERS; i++) {
        growers[i].number = i;
        pids[i] = start_child(grow, &growers[i]);
    }
    for (int i = 0; i <= WRITERS; i++)
        assert_true(hear(pipes.up[0]));
    for (int i = 0; i <= WRITERS; i++)
        tell(pipes.down[1]);
    for (int i = 0; i < WRITERS; i++)
        worst |= end_of(pids[i]);
    tell(last_word.down[1]);
    worst |= end_of(pids[WRITERS]);
    talk_close(&pipes);
    talk_close(&last_word);
    assert_int_equal(worst, 0);
    assert_true(growers[0].again + growers[1].again > 0); /* whoever came to the map's end */
    munmap(growers, (WRITERS + 1) * sizeof *growers);
    ctx = open_store(0);
    for (int w = 0; w < WRITERS; w++)
        for (int i = 0; i < CHANGES; i++) {
            char key[32];

            change_key(key, w, i);
            assert_int_equal(number_at(ctx, key), i); /* nothing that was acknowledged is lost */
        }
    db->close(ctx);
}

/* ---- a transaction that does not fit ---- */

static void assert_dead(void *ctx, void *txn)
{
    credstore_sink sink = {0};

    assert_int_equal(db->get(ctx, txn, b("k"), &sink), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(db->native(ctx), MDB_BAD_TXN);
    assert_int_equal(db->scan(ctx, txn, b(""), b(""), 0, 0, &sink), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(db->put(ctx, txn, b("k"), b("v")), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(db->del(ctx, txn, b("k")), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(sink.pairs, 0);
}

static void test_outgrown_by_a_put(void **state)
{
    void *ctx;
    void *txn = NULL;

    (void)state;
    first_map = TINY;
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    assert_int_equal(put_one(ctx, "k", 1, 8), OK);
    for (int commit = 0; commit < 2; commit++) {
        const size_t before = map_size();

        assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
        assert_int_equal(put_number(ctx, txn, "k", 2, 8), OK);
        assert_int_equal(put_number(ctx, txn, "big", 2, before), AGAIN);
        assert_int_equal(db->native(ctx), MDB_MAP_FULL);
        assert_dead(ctx, txn);
        if (commit != 0)
            assert_int_equal(db->commit(ctx, txn), CREDSTORE_STORAGE_UNAVAILABLE);
        else
            db->abort(ctx, txn);
        assert_int_equal(number_at(ctx, "k"), 1); /* nothing of it stays */
        assert_int_equal(number_at(ctx, "big"), UINT64_MAX);
        assert_int_equal(map_size(), before * 2);
    }
    assert_int_equal(put_one(ctx, "big", 3, MEGABYTE), OK);
    assert_int_equal(number_at(ctx, "big"), 3);
    db->close(ctx);
}

/* Deletes that need new pages, as they do beside a reader, outgrow the map just as well. */
static void test_outgrown_by_a_del(void **state)
{
    void *ctx;
    void *reader = NULL;
    void *txn = NULL;
    int32_t rc = OK;
    int done = 0;
    char key[32];
    size_t before;

    (void)state;
    first_map = TINY;
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%05d", i);
        assert_int_equal(put_one(ctx, key, 1, 1500), OK);
    }
    before = map_size();
    atomic_store(&hurry, 50);
    assert_int_equal(db->begin(ctx, 0, 0, &reader), OK);
    for (; done < 100 && rc == OK; done++) {
        snprintf(key, sizeof key, "%05d", done);
        assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
        rc = db->del(ctx, txn, b(key));
        if (rc == OK)
            rc = db->commit(ctx, txn);
        else
            db->abort(ctx, txn);
    }
    assert_int_equal(rc, BUSY); /* the reader is of this very process */
    db->abort(ctx, reader);
    atomic_store(&hurry, 1);
    assert_int_equal(number_at(ctx, key), 1); /* and that delete is not done */
    assert_int_equal(map_size(), before);
    db->close(ctx);
}

/* ---- the process's own transactions come first ---- */

static void *read_while_drained(void *arg)
{
    void *ctx = arg;
    void *txn = NULL;
    int32_t rc;

    nap_us(30000);
    rc = db->begin(ctx, 0, 0, &txn);
    if (rc == OK)
        db->abort(ctx, txn);
    return rc == OK ? arg : NULL;
}

static void test_a_reader_keeps_the_map(void **state)
{
    credstore_sink sink = {0};
    void *ctx;
    void *reader = NULL;
    void *end = NULL;
    pthread_t thread;
    int64_t from;

    (void)state;
    first_map = TINY;
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    assert_int_equal(put_one(ctx, "k", 1, 100), OK);
    assert_int_equal(db->begin(ctx, 0, 0, &reader), OK);
    assert_int_equal(db->get(ctx, reader, b("k"), &sink), OK);
    atomic_store(&hurry, 25);
    pthread_create(&thread, NULL, read_while_drained, ctx);
    from = real_ms();
    assert_int_equal(put_once(ctx, "big", 2, MEGABYTE), BUSY);
    assert_int_equal(db->native(ctx), EBUSY);
    assert_true(real_ms() - from >= CS_LMDB_DRAIN_WAIT_MS / 25 - 2);
    assert_true(real_ms() - from < CS_LMDB_DRAIN_WAIT_MS);
    pthread_join(thread, &end);
    assert_ptr_equal(end, ctx); /* who came meanwhile had to wait, and that was all */
    assert_int_equal(map_size(), TINY);
    assert_false(is_torn(sink.value, sink.len));
    db->abort(ctx, reader);
    assert_int_equal(put_one(ctx, "big", 2, MEGABYTE), OK);
    assert_int_equal(number_at(ctx, "big"), 2);
    db->close(ctx);
}

static void write_big(void *arg)
{
    void *ctx;

    (void)arg;
    first_map = 0;
    ctx = open_store(0);
    CHILD(ctx != NULL && put_one(ctx, "big", 7, MEGABYTE) == OK);
    db->close(ctx);
}

static void test_a_reader_and_a_map_outgrown_elsewhere(void **state)
{
    void *ctx;
    void *reader = NULL;
    void *txn = NULL;

    (void)state;
    first_map = TINY;
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    assert_int_equal(put_one(ctx, "k", 1, 100), OK);
    assert_int_equal(db->begin(ctx, 0, 0, &reader), OK);
    assert_int_equal(run_child(write_big, NULL), 0);
    atomic_store(&hurry, 50);
    for (uint32_t write = 0; write < 2; write++) {
        assert_int_equal(db->begin(ctx, write, 0, &txn), BUSY);
        assert_null(txn);
        assert_int_equal(db->native(ctx), EBUSY);
    }
    db->abort(ctx, reader);
    assert_int_equal(number_at(ctx, "big"), 7);
    assert_int_equal(put_one(ctx, "k", 2, 100), OK);
    db->close(ctx);
}

/* ---- address space ---- */

static void test_no_address_space(void **state)
{
    void *ctx;
    char key[32];
    int32_t rc = OK;
    int n = 0;

    (void)state;
    first_map = TINY;
    address_room = 5 * TINY; /* so the map goes from one to two to four to five */
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    for (; n < 100 && rc == OK; n++) {
        snprintf(key, sizeof key, "%05d", n);
        rc = put_one(ctx, key, (uint64_t)n, 40000);
    }
    assert_int_equal(rc, FULL);
    assert_int_equal(db->native(ctx), MDB_MAP_FULL);
    assert_int_equal(map_size(), 5 * TINY);
    for (int i = 0; i < n - 1; i++) { /* the store is as it was */
        snprintf(key, sizeof key, "%05d", i);
        assert_int_equal(number_at(ctx, key), i);
    }
    address_room = 0; /* there is room again */
    assert_int_equal(put_one(ctx, "more", 1, MEGABYTE), OK);
    db->close(ctx);
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

static void test_reservation_falls_back(void **state)
{
    void *ctx;

    (void)state;
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    assert_true(asked_map >= (size_t)CS_LMDB_MAP_FLOOR && map_size() == asked_map);
    db->close(ctx);
    address_room = (size_t)1 << 32; /* as much again is left to the host */
    ctx = open_store(0);
    assert_int_equal(map_size(), address_room / 2);
    db->close(ctx);
    address_room = 1; /* not a byte: the least is tried all the same */
    ctx = open_store(0);
    assert_int_equal(map_size(), CS_LMDB_MAP_FLOOR);
    db->close(ctx);
    address_room = 0;
    most_map = (size_t)1 << 28; /* LMDB itself comes to the limit */
    ctx = open_store(0);
    assert_int_equal(map_size(), most_map);
    assert_int_equal(put_one(ctx, "k", 1, 100), OK);
    db->close(ctx);
    most_map = 1;
    assert_int_equal(try_open(0), CREDSTORE_E_NO_MEMORY);
    most_map = 0;
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

/* A store that has outgrown the map which would be chosen. */
static void test_small_space_for_a_large_store(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    (void)state;
    for (int i = 0; i < 70; i++) {
        char key[32];

        snprintf(key, sizeof key, "%05d", i);
        assert_int_equal(put_one(ctx, key, (uint64_t)i, MEGABYTE), OK);
    }
    db->close(ctx);
    address_room = 1;
    ctx = open_store(0); /* LMDB maps what there is, and no page more */
    assert_int_equal(number_at(ctx, "00069"), 69);
    assert_true(map_size() > CS_LMDB_MAP_FLOOR);
    assert_int_equal(put_one(ctx, "more", 1, MEGABYTE), FULL);
    address_room = 0;
    assert_int_equal(put_one(ctx, "more", 1, MEGABYTE), OK);
    assert_int_equal(number_at(ctx, "more"), 1);
    db->close(ctx);
}

/* ---- readers that died ---- */

static void die_reading(void *arg)
{
    void *ctx = open_store(0);
    void *txn = NULL;

    (void)arg;
    CHILD(ctx != NULL && db->begin(ctx, 0, 0, &txn) == OK);
    raise(SIGKILL);
}

static off_t growth_of_changes(void *ctx)
{
    struct stat before;
    struct stat after;

    assert_int_equal(stat(in_store(CS_LMDB_DATA), &before), 0);
    for (uint64_t i = 0; i < 60; i++)
        assert_int_equal(put_one(ctx, "k", i, 20000), OK);
    assert_int_equal(stat(in_store(CS_LMDB_DATA), &after), 0);
    return after.st_size - before.st_size;
}

/* A dead reader's snapshot is kept for ever, and each commit takes new pages, until tidy. */
static void test_tidy_frees_a_dead_readers_place(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    (void)state;
    growth_of_changes(ctx);
    assert_int_equal(growth_of_changes(ctx), 0);
    assert_true(WIFSIGNALED(run_child(die_reading, NULL)));
    assert_true(growth_of_changes(ctx) >= 60 * 20000);
    assert_int_equal(db->tidy(ctx), OK);
    growth_of_changes(ctx); /* the first commits still free what was kept */
    assert_int_equal(growth_of_changes(ctx), 0);
    db->close(ctx);
}

/* Becomes process 1 of a PID namespace. */
static void enter_namespace(void)
{
    int status = 0;
    pid_t pid;

    if (unshare(CLONE_NEWPID) != 0)
        _exit(77);
    pid = fork();
    if (pid != 0) {
        waitpid(pid, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    alarm(CHILD_SECONDS);
}

/* As if killed: who is process 1 cannot kill itself. */
static void die_reading_as_first(void *arg)
{
    void *ctx;
    void *txn = NULL;

    (void)arg;
    enter_namespace();
    ctx = open_store(0);
    CHILD(ctx != NULL && db->begin(ctx, 0, 0, &txn) == OK);
    _exit(78);
}

static void open_as_first(void *arg)
{
    void *ctx;

    (void)arg;
    enter_namespace();
    ctx = open_store(0);
    CHILD(ctx != NULL && db->tidy(ctx) == OK);
    CHILD(growth_of_changes(ctx) >= 0);
    CHILD(growth_of_changes(ctx) == 0);
    db->close(ctx);
}

/* A container that is killed comes again as process 1, the dead one's number. LMDB takes what the
   dead one left for the living one's own. */
static void test_dead_reader_of_the_same_number(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE); /* keeps the lock file alive */
    int status;

    (void)state;
    growth_of_changes(ctx);
    status = run_child(die_reading_as_first, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        db->close(ctx);
        skip_because("no right to make a PID namespace");
    }
    assert_int_equal(WEXITSTATUS(status), 78);
    assert_int_equal(run_child(open_as_first, NULL), 0);
    db->close(ctx);
}

/* ---- places ---- */

static void keep_places(void *arg)
{
    void *txns[CS_LMDB_SLOTS];
    void *ctx = open_store(0);

    (void)arg;
    CHILD(ctx != NULL);
    for (int i = 0; i < CS_LMDB_SLOTS; i++)
        CHILD(db->begin(ctx, 0, 0, &txns[i]) == OK);
    for (int i = 0; i < CS_LMDB_SLOTS; i++)
        db->abort(ctx, txns[i]);
    tell(pipes.up[1]);
    CHILD(hear(pipes.down[0]));
    CHILD(db->tidy(ctx) == OK);
    CHILD(number_at(ctx, "k") == 1);
    tell(pipes.up[1]);
    CHILD(hear(last_word.down[0]));
    db->close(ctx);
}

static int take_places(void *ctx, void *txns[], int most)
{
    int n = 0;

    while (n < most && db->begin(ctx, 0, 0, &txns[n]) == OK)
        n++;
    return n;
}

static void test_all_places_taken(void **state)
{
    enum { HOLDERS = CS_LMDB_READERS / CS_LMDB_SLOTS };
    static void *txns[CS_LMDB_READERS + 1];
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    pid_t pids[HOLDERS];
    int n;

    (void)state;
    assert_int_equal(put_one(ctx, "k", 1, 8), OK);
    n = take_places(ctx, txns, CS_LMDB_READERS + 1); /* one process, all places */
    assert_int_equal(n, CS_LMDB_READERS);
    assert_int_equal(db->native(ctx), MDB_READERS_FULL);
    assert_int_equal(db->begin(ctx, 0, 0, &txns[n]), BUSY);
    assert_null(txns[n]);
    assert_int_equal(put_one(ctx, "k", 1, 8), OK); /* a writer needs none */
    db->abort(ctx, txns[--n]);
    assert_int_equal(db->begin(ctx, 0, 0, &txns[n++]), OK);
    while (n > 0)
        db->abort(ctx, txns[--n]);
    db->close(ctx);

    talk_open(&last_word);
    talk_open(&pipes); /* many processes, idle: the places that they keep are others' after tidy */
    for (int i = 0; i < HOLDERS; i++)
        pids[i] = start_child(keep_places, NULL);
    close(pipes.up[1]); /* so that children which fail are not waited for */
    pipes.up[1] = -1;
    for (int i = 0; i < HOLDERS; i++)
        assert_true(hear(pipes.up[0]));
    ctx = open_store(0);
    n = take_places(ctx, txns, CS_LMDB_SLOTS);
    assert_int_equal(n, CS_LMDB_READERS - HOLDERS * CS_LMDB_SLOTS);
    assert_int_equal(db->native(ctx), MDB_READERS_FULL);
    for (int i = 0; i < HOLDERS; i++)
        tell(pipes.down[1]);
    for (int i = 0; i < HOLDERS; i++)
        assert_true(hear(pipes.up[0]));
    assert_int_equal(take_places(ctx, txns + n, CS_LMDB_SLOTS), CS_LMDB_SLOTS);
    for (n += CS_LMDB_SLOTS; n > 0;)
        db->abort(ctx, txns[--n]);
    for (int i = 0; i < HOLDERS; i++)
        tell(last_word.down[1]);
    for (int i = 0; i < HOLDERS; i++)
        assert_int_equal(end_of(pids[i]), 0);
    talk_close(&pipes);
    talk_close(&last_word);
    db->close(ctx);
}

/* ---- a file that ends before its last page ---- */

/* Pages that the file lacks by LMDB's own account. */
static long missing_pages(void)
{
    cs_lmdb_env *env = NULL;
    MDB_envinfo info;
    MDB_stat stat_of;
    struct stat st;

    assert_int_equal(cs_lmdb_env_open(store, 0, &env, NULL), CREDSTORE_OK);
    mdb_env_info(env->mdb, &info);
    mdb_env_stat(env->mdb, &stat_of);
    cs_lmdb_env_close(env);
    assert_int_equal(stat(in_store(CS_LMDB_DATA), &st), 0);
    return (long)info.me_last_pgno + 1 - (long)((size_t)st.st_size / stat_of.ms_psize);
}

/* A value is put and taken back in one transaction: its pages came from the end of the file and are
   never written. */
static void leave_a_hole(void *ctx, uint64_t n, size_t len)
{
    void *txn = NULL;

    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    assert_int_equal(put_number(ctx, txn, "a", n, 9000), OK);
    assert_int_equal(put_number(ctx, txn, "gone", n, len), OK);
    assert_int_equal(db->del(ctx, txn, b("gone")), OK);
    assert_int_equal(db->commit(ctx, txn), OK);
}

static void test_a_file_that_ends_early_is_whole(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    long most = 0;
    int short_ones = 0;

    (void)state;
    for (uint64_t n = 0; n < 400; n++) {
        leave_a_hole(ctx, n, 20000 + (n * 7919) % 300000);
        if (n % 20 == 7)
            assert_int_equal(put_one(ctx, "z", n, (n * 104729) % 100000 + 8), OK);
        if (missing_pages() <= 0)
            continue;
        most = missing_pages() > most ? missing_pages() : most;
        short_ones++;
        db->close(ctx);
        ctx = open_store(short_ones % 2 == 0 ? CREDSTORE_OPEN_READ_ONLY : 0);
        assert_non_null(ctx);
        assert_int_equal(number_at(ctx, "a"), n);
        db->close(ctx);
        ctx = open_store(0);
    }
    print_message("%d files that ended early, by up to %ld pages\n", short_ones, most);
    assert_true(short_ones > 0);
    db->close(ctx);
}

static bool is_whole(uint64_t n)
{
    credstore_sink sink = {0};
    void *ctx = open_store(CREDSTORE_OPEN_READ_ONLY);
    void *txn = NULL;

    CHILD(ctx != NULL && db->begin(ctx, 0, 0, &txn) == OK);
    CHILD(db->scan(ctx, txn, b(""), b(""), 0, 0, &sink) == OK);
    db->abort(ctx, txn);
    db->close(ctx);
    return sink.torn == 0 && sink.pairs == 21 && sink.first == n;
}

/* Page after page is cut from a file that ends early: as long as it opens, all is there; once it is
   refused, it stays so. In a child: what is not there would kill it. */
static void cut_page_by_page(void *arg)
{
    const uint64_t *n = arg;
    struct stat st;
    int refused = 0;

    CHILD(stat(in_store(CS_LMDB_DATA), &st) == 0);
    CHILD(is_whole(*n));
    for (off_t size = st.st_size - 4096; size >= 0; size -= 4096) {
        credstore_status status;

        CHILD(truncate(in_store(CS_LMDB_DATA), size) == 0);
        status = try_open(0);
        CHILD(status == CREDSTORE_E_INTEGRITY || (status == CREDSTORE_OK && refused == 0));
        CHILD(status != CREDSTORE_OK || is_whole(*n));
        refused += status != CREDSTORE_OK ? 1 : 0;
    }
    CHILD(refused > 10);
}

static void test_a_file_that_ends_early_may_be_cut_too(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    uint64_t n = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        char key[32];

        snprintf(key, sizeof key, "b%02d", i);
        assert_int_equal(put_one(ctx, key, 1, 3000), OK);
    }
    do
        leave_a_hole(ctx, n, 20000 + (n * 7919) % 300000);
    while (n++ < 20 || missing_pages() <= 0);
    n--;
    db->close(ctx);
    assert_int_equal(run_child(cut_page_by_page, &n), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_growth_with_readers_and_processes, plain),
        cmocka_unit_test_setup(test_outgrown_by_a_put, plain),
        cmocka_unit_test_setup(test_outgrown_by_a_del, plain),
        cmocka_unit_test_setup(test_a_reader_keeps_the_map, plain),
        cmocka_unit_test_setup(test_a_reader_and_a_map_outgrown_elsewhere, plain),
        cmocka_unit_test_setup(test_no_address_space, plain),
        cmocka_unit_test_setup(test_reservation_falls_back, plain),
        cmocka_unit_test_setup(test_small_space_for_a_large_store, plain),
        cmocka_unit_test_setup(test_tidy_frees_a_dead_readers_place, plain),
        cmocka_unit_test_setup(test_dead_reader_of_the_same_number, plain),
        cmocka_unit_test_setup(test_all_places_taken, plain),
        cmocka_unit_test_setup(test_a_file_that_ends_early_is_whole, plain),
        cmocka_unit_test_setup(test_a_file_that_ends_early_may_be_cut_too, plain),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
