/* SPDX-License-Identifier: MIT
 *
 * The LMDB engine: what was learned by trying, one test each.
 *
 * Much of it is about processes, so many tests fork. A child checks with CHILD(), which ends it
 * with a line on stderr; the parent asserts that it ended with 0.
 */
#define _GNU_SOURCE /* unshare, nftw, F_OFD_GETLK, mallinfo2 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "credstore/backend.h"
#include "mem.h"
#include "storage/engines.h"
#include "storage/lmdb_copy.h"
#include "storage/lmdb_env.h"
#include "storage/lmdb_layout.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

int __real_fstatfs(int fd, struct statfs *out);
int __wrap_fstatfs(int fd, struct statfs *out);
ssize_t __real_pread(int fd, void *out, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *out, size_t len, off_t offset);

enum { OK = CREDSTORE_STORAGE_OK, PATH_SIZE = 512, CHILD_SECONDS = 60 };

#define CHILD(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition);                         \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* ---- the sink that the core would have ---- */

struct credstore_sink {
    size_t pairs, borrows, copies, stop_at;
    uint8_t key[600];
    size_t key_len;
    const void *borrowed;
    uint8_t value[600]; /* of the last pair, its beginning */
    size_t value_len;
    char trail[256]; /* first byte of each key */
    uint64_t sum;    /* of the first eight bytes of each value */
};

static int32_t take(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    uint64_t number = 0;

    if (sink->pairs < sizeof sink->trail - 1)
        sink->trail[sink->pairs] = *(const char *)key.ptr;
    sink->pairs++;
    sink->key_len = key.len < sizeof sink->key ? key.len : sizeof sink->key;
    memcpy(sink->key, key.ptr, sink->key_len);
    sink->value_len = value.len;
    if (value.len > 0)
        memcpy(sink->value, value.ptr,
               value.len < sizeof sink->value ? value.len : sizeof sink->value);
    if (value.len >= sizeof number)
        memcpy(&number, value.ptr, sizeof number);
    sink->sum += number;
    sink->borrowed = value.ptr;
    return sink->stop_at != 0 && sink->pairs == sink->stop_at ? CREDSTORE_STORAGE_STOP : OK;
}

int32_t credstore_sink_borrow(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    sink->borrows++;
    return take(sink, key, value);
}

int32_t credstore_sink_copy(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    sink->copies++;
    return take(sink, key, value);
}

/* ---- helpers ---- */

static const credstore_storage *const db = &cs_storage_lmdb;
static char root[PATH_SIZE];  /* the folder of all tests */
static char store[PATH_SIZE]; /* a store's path, fresh for each test */
static unsigned int seed;
static int counter;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int fresh(void **state)
{
    (void)state;
    snprintf(store, sizeof store, "%.400s/s%d", root, counter++);
    return 0;
}

static const char *in_store(const char *name)
{
    static char path[PATH_SIZE + 64];

    snprintf(path, sizeof path, "%s/%s", store, name);
    return path;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nap_ms(long ms)
{
    const struct timespec t = {ms / 1000, (ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static credstore_status open_at(const char *path, uint32_t flags, void **ctx, credstore_error *err)
{
    memset(err, 0, sizeof *err);
    return cs_lmdb_open(path, flags, ctx, err);
}

static credstore_status try_open(uint32_t flags)
{
    credstore_error err;
    void *ctx = NULL;
    const credstore_status status = open_at(store, flags, &ctx, &err);

    if (status == CREDSTORE_OK)
        db->close(ctx);
    else if (ctx != NULL || err.message[0] == '\0')
        return CREDSTORE_E_INTERNAL;
    return status;
}

/* A child leaves its parent's handles open: here a leak checker finds them. */
static void *volatile opened[64];
static atomic_uint opened_count;

/* Opens or says why not. NULL on failure. */
static void *open_store(uint32_t flags)
{
    credstore_error err;
    void *ctx = NULL;

    if (open_at(store, flags, &ctx, &err) != CREDSTORE_OK)
        fprintf(stderr, "open: %d %d %s\n", err.status, err.native, err.message);
    opened[atomic_fetch_add(&opened_count, 1) % (sizeof opened / sizeof opened[0])] = ctx;
    return ctx;
}

static credstore_bytes b(const char *text)
{
    return cs_bytes_of(text);
}

static int32_t put_one(void *ctx, const char *key, const void *value, size_t len)
{
    void *txn = NULL;
    int32_t rc = db->begin(ctx, 1, 10000, &txn);

    if (rc != OK)
        return rc;
    rc = db->put(ctx, txn, b(key), cs_bytes(value, len));
    if (rc == OK)
        return db->commit(ctx, txn);
    db->abort(ctx, txn);
    return rc;
}

static int32_t put_text(void *ctx, const char *key, const char *value)
{
    return put_one(ctx, key, value, strlen(value));
}

static int32_t get_into(void *ctx, const char *key, credstore_sink *sink)
{
    void *txn = NULL;
    int32_t rc = db->begin(ctx, 0, 0, &txn);

    memset(sink, 0, sizeof *sink);
    if (rc != OK)
        return rc;
    rc = db->get(ctx, txn, b(key), sink);
    db->abort(ctx, txn);
    return rc;
}

static bool holds(void *ctx, const char *key, const char *value)
{
    credstore_sink sink;

    return get_into(ctx, key, &sink) == OK && sink.value_len == strlen(value) &&
           memcmp(sink.value, value, sink.value_len) == 0;
}

/* key += 1 in one transaction */
static int32_t increment(void *ctx, const char *key, int64_t wait_ms)
{
    credstore_sink sink = {0};
    void *txn = NULL;
    int32_t rc = db->begin(ctx, 1, wait_ms, &txn);

    if (rc != OK)
        return rc;
    rc = db->get(ctx, txn, b(key), &sink);
    if (rc == OK || rc == CREDSTORE_STORAGE_NOT_FOUND) {
        const uint64_t next = sink.sum + 1;

        rc = db->put(ctx, txn, b(key), cs_bytes(&next, sizeof next));
        if (rc == OK)
            return db->commit(ctx, txn);
    }
    db->abort(ctx, txn);
    return rc;
}

static uint64_t number_at(void *ctx, const char *key)
{
    credstore_sink sink;

    return get_into(ctx, key, &sink) == OK ? sink.sum : 0;
}

typedef void (*child_fn)(void *arg);

static pid_t start_child(child_fn fn, void *arg)
{
    const pid_t pid = fork();

    if (pid == 0) {
        alarm(CHILD_SECONDS);
        fn(arg);
        _exit(0);
    }
    return pid;
}

/* The status that the child ended with: 0 is good. */
static int end_of(pid_t pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int run_child(child_fn fn, void *arg)
{
    return end_of(start_child(fn, arg));
}

/* One word passed along a pipe. */
static void signal_to(int fd)
{
    const char c = 'x';

    if (write(fd, &c, 1) != 1)
        _exit(1);
}

static bool wait_for(int fd)
{
    char c;

    return read(fd, &c, 1) == 1;
}

typedef struct pair_of_pipes {
    int up[2], down[2]; /* child to parent, parent to child */
} pair_of_pipes;

static void pipes_open(pair_of_pipes *p)
{
    assert_int_equal(pipe2(p->up, O_CLOEXEC), 0);
    assert_int_equal(pipe2(p->down, O_CLOEXEC), 0);
}

static void pipes_close(pair_of_pipes *p)
{
    close(p->up[0]);
    close(p->up[1]);
    close(p->down[0]);
    close(p->down[1]);
}

static unsigned int next_random(void)
{
    seed = seed * 1103515245u + 12345u;
    return seed >> 8;
}

static void skip_because(const char *why)
{
    print_message("skipped: %s\n", why);
    skip();
}

/* ---- the map of bytes ---- */

static void test_pairs(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    credstore_sink sink = {0};
    void *txn = NULL;

    (void)state;
    assert_non_null(ctx);
    assert_int_equal(db->struct_size, sizeof *db);
    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    assert_int_equal(db->put(ctx, txn, b("a"), b("one")), OK);
    assert_int_equal(db->put(ctx, txn, b("b"), b("")), OK);
    assert_int_equal(db->put(ctx, txn, b("a"), b("two")), OK);
    assert_int_equal(db->get(ctx, txn, b("a"), &sink), OK);
    assert_memory_equal(sink.value, "two", 3);
    assert_int_equal(sink.copies, 1); /* a later put may move the page */
    assert_int_equal(sink.borrows, 0);
    assert_int_equal(db->del(ctx, txn, b("none")), CREDSTORE_STORAGE_NOT_FOUND);
    assert_int_equal(db->commit(ctx, txn), OK);

    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    assert_int_equal(db->del(ctx, txn, b("a")), OK);
    db->abort(ctx, txn);
    assert_true(holds(ctx, "a", "two"));
    assert_true(holds(ctx, "b", ""));
    assert_int_equal(get_into(ctx, "a", &sink), OK);
    assert_int_equal(sink.borrows, 1);
    assert_int_equal(get_into(ctx, "absent", &sink), CREDSTORE_STORAGE_NOT_FOUND);
    assert_int_equal(sink.pairs, 0);
    db->close(ctx);

    ctx = open_store(0);
    assert_non_null(ctx);
    assert_true(holds(ctx, "a", "two"));
    db->close(ctx);
}

static void test_key_and_value_sizes(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    char key[600];
    void *txn = NULL;
    credstore_sink sink = {0};
    char *big = calloc(1, 100000);

    (void)state;
    assert_non_null(big);
    memset(key, 'k', sizeof key);
    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    assert_int_equal(db->put(ctx, txn, cs_bytes(key, 511), b("v")), OK);
    assert_int_equal(db->put(ctx, txn, b("big"), cs_bytes(big, 100000)), OK);
    assert_int_equal(db->commit(ctx, txn), OK);
    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    assert_int_equal(db->put(ctx, txn, cs_bytes(key, 512), b("v")), CREDSTORE_STORAGE_TOO_LARGE);
    db->abort(ctx, txn);
    assert_int_equal(db->begin(ctx, 0, 0, &txn), OK);
    assert_int_equal(db->get(ctx, txn, cs_bytes(key, 511), &sink), OK);
    assert_int_equal(db->get(ctx, txn, b("big"), &sink), OK);
    assert_int_equal(sink.value_len, 100000);
    assert_int_equal(db->get(ctx, txn, cs_bytes(key, 512), &sink), CREDSTORE_STORAGE_TOO_LARGE);
    assert_int_equal(db->get(ctx, txn, b(""), &sink), CREDSTORE_STORAGE_TOO_LARGE);
    memset(&sink, 0, sizeof sink); /* a bound may be longer than any key */
    assert_int_equal(db->scan(ctx, txn, b(""), cs_bytes(key, 600), 0, 0, &sink), OK);
    assert_string_equal(sink.trail, "bk");
    assert_int_equal(db->put(ctx, txn, b("x"), b("v")), CREDSTORE_STORAGE_UNAVAILABLE);
    db->abort(ctx, txn);
    free(big);
    db->close(ctx);
}

typedef struct scan_row {
    const char *from, *to;
    uint32_t reverse, limit;
    size_t stop_at;
    const char *trail;
} scan_row;

static const scan_row scans[] = {
    {"", "", 0, 0, 0, "bdfh"}, {"", "", 1, 0, 0, "hfdb"}, {"c", "", 0, 0, 0, "dfh"},
    {"d", "h", 0, 0, 0, "df"}, {"d", "h", 1, 0, 0, "fd"}, {"a", "b", 0, 0, 0, ""},
    {"a", "b", 1, 0, 0, ""},   {"i", "", 0, 0, 0, ""},    {"", "z", 1, 2, 0, "hf"},
    {"", "", 0, 3, 0, "bdf"},  {"", "", 0, 0, 2, "bd"},   {"c", "g", 1, 0, 1, "f"},
    {"h", "d", 0, 0, 0, ""},   {"h", "d", 1, 0, 0, ""},   {"d", "d", 0, 0, 0, ""},
    {"da", "", 1, 0, 0, "hf"}, {"", "ha", 1, 1, 0, "h"},  {"", "b", 1, 0, 0, ""},
};

static void test_scans(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *txn = NULL;
    credstore_sink sink = {0};

    (void)state;
    assert_int_equal(db->begin(ctx, 0, 0, &txn), OK); /* an empty store */
    assert_int_equal(db->scan(ctx, txn, b(""), b(""), 0, 0, &sink), OK);
    assert_int_equal(db->scan(ctx, txn, b("a"), b("b"), 1, 0, &sink), OK);
    assert_int_equal(sink.pairs, 0);
    db->abort(ctx, txn);
    for (const char *k = "hbfd"; *k != '\0'; k++) {
        const char key[2] = {*k, '\0'};

        assert_int_equal(put_text(ctx, key, "v"), OK);
    }
    for (uint32_t write = 0; write < 2; write++) {
        assert_int_equal(db->begin(ctx, write, 0, &txn), OK);
        for (size_t i = 0; i < sizeof scans / sizeof scans[0]; i++) {
            const scan_row *row = &scans[i];

            memset(&sink, 0, sizeof sink);
            sink.stop_at = row->stop_at;
            assert_int_equal(
                db->scan(ctx, txn, b(row->from), b(row->to), row->reverse, row->limit, &sink), OK);
            assert_string_equal(sink.trail, row->trail);
            assert_int_equal(write != 0 ? sink.borrows : sink.copies, 0);
        }
        assert_int_equal(db->commit(ctx, txn), OK);
    }
    db->close(ctx);
}

/* A cursor kept from an earlier transaction and not renewed reads pages that are others' by now. */
static void test_cursor_is_renewed(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    (void)state;
    for (uint64_t round = 1; round < 60; round++) {
        credstore_sink sink = {0};
        void *txn = NULL;
        char key[16];

        assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
        for (int i = 0; i < 50; i++) {
            snprintf(key, sizeof key, "%04d", (int)round * 7 % 100 + i);
            assert_int_equal(db->put(ctx, txn, b(key), cs_bytes(&round, sizeof round)), OK);
        }
        assert_int_equal(db->commit(ctx, txn), OK);
        assert_int_equal(db->begin(ctx, 0, 0, &txn), OK);
        snprintf(key, sizeof key, "%04d", (int)round * 7 % 100);
        assert_int_equal(db->scan(ctx, txn, b(key), b(""), 0, 50, &sink), OK);
        db->abort(ctx, txn);
        assert_int_equal(sink.pairs, 50);
        assert_int_equal(sink.sum, round * 50);
    }
    db->close(ctx);
}

static void test_snapshots(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *old = NULL;
    credstore_sink sink = {0};

    (void)state;
    assert_int_equal(put_text(ctx, "k", "old"), OK);
    assert_int_equal(db->begin(ctx, 0, 0, &old), OK);
    for (int i = 0; i < 50; i++)
        assert_int_equal(put_text(ctx, "k", "new"), OK);
    assert_int_equal(db->get(ctx, old, b("k"), &sink), OK);
    assert_memory_equal(sink.value, "old", 3);
    assert_int_equal(db->commit(ctx, old), OK);
    assert_true(holds(ctx, "k", "new"));
    db->close(ctx);
}

/* A read takes a slot, and in it what the last read left: nothing is allocated. */
static void test_reads_allocate_nothing(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    credstore_sink sink = {0};

    (void)state;
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    for (int i = 0; i < 5; i++) {
        const struct mallinfo2 before = mallinfo2();
        struct mallinfo2 during;
        void *txn = NULL;

        assert_int_equal(db->begin(ctx, 0, 0, &txn), OK);
        assert_int_equal(db->get(ctx, txn, b("k"), &sink), OK);
        assert_int_equal(db->scan(ctx, txn, b(""), b(""), 0, 0, &sink), OK);
        during = mallinfo2();
        db->abort(ctx, txn);
        if (i > 0)
            assert_int_equal(before.uordblks, during.uordblks);
    }
    db->close(ctx);
}

static void test_more_reads_than_slots(void **state)
{
    enum { MANY = CS_LMDB_SLOTS + 40 };
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *txns[MANY];

    (void)state;
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            credstore_sink sink = {0};

            assert_int_equal(db->begin(ctx, 0, 0, &txns[i]), OK);
            assert_int_equal(db->scan(ctx, txns[i], b("k"), b(""), 0, 0, &sink), OK);
            assert_int_equal(sink.pairs, 1);
        }
        for (int i = 0; i < MANY; i++)
            db->abort(ctx, txns[i]);
    }
    db->close(ctx);
}

/* ---- flags and descriptors ---- */

static void test_flags_and_sizes(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    cs_lmdb_env *env = NULL;
    MDB_envinfo info;
    unsigned int flags = 0;

    (void)state;
    assert_int_equal(cs_lmdb_env_open(store, 0, &env, NULL), CREDSTORE_OK);
    assert_int_equal(env->refs, 2);
    assert_int_equal(mdb_env_get_flags(env->mdb, &flags), 0);
    assert_int_equal(flags, MDB_NOTLS | MDB_NORDAHEAD);
    assert_int_equal(mdb_env_info(env->mdb, &info), 0);
    assert_int_equal(info.me_maxreaders, CS_LMDB_READERS);
    assert_true(info.me_mapsize >= (size_t)1 << 26);
    cs_lmdb_env_close(env);
    db->close(ctx);
}

/* The number of open descriptors of files in the store; *loose = those that survive an exec. */
static int descriptors(int *loose)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    char real[PATH_MAX];
    int count = 0;

    *loose = 0;
    assert_non_null(dir);
    assert_non_null(realpath(store, real));
    while ((entry = readdir(dir)) != NULL) {
        char link[64];
        char target[PATH_SIZE * 2] = "";

        snprintf(link, sizeof link, "/proc/self/fd/%.20s", entry->d_name);
        if (readlink(link, target, sizeof target - 1) < 0 ||
            strncmp(target, real, strlen(real)) != 0)
            continue;
        count++;
        if ((fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC) == 0)
            (*loose)++;
    }
    closedir(dir);
    return count;
}

static void test_descriptors_close_on_exec(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    int loose = 0;

    (void)state;
    assert_int_equal(descriptors(&loose), 7); /* data and lock twice, guard, presence, folder */
    assert_int_equal(loose, 0);
    db->close(ctx);
    assert_int_equal(descriptors(&loose), 0);
}

/* ---- the guard ---- */

static pair_of_pipes pipes;

static void hold_write(void *arg)
{
    void *ctx = open_store(0);
    void *txn = NULL;

    (void)arg;
    CHILD(ctx != NULL && db->begin(ctx, 1, 0, &txn) == OK);
    signal_to(pipes.up[1]);
    CHILD(wait_for(pipes.down[0]));
    CHILD(db->put(ctx, txn, b("k"), b("theirs")) == OK);
    CHILD(db->commit(ctx, txn) == OK);
    db->close(ctx);
}

static void test_guard_between_processes(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *txn = NULL;
    pid_t pid;

    (void)state;
    pipes_open(&pipes);
    pid = start_child(hold_write, NULL);
    assert_true(wait_for(pipes.up[0]));
    for (int64_t wait = 0; wait <= 100; wait += 100) {
        const int64_t from = now_ms();

        assert_int_equal(db->begin(ctx, 1, wait, &txn), CREDSTORE_STORAGE_BUSY);
        assert_null(txn);
        assert_int_equal(db->native(ctx), ETIMEDOUT);
        assert_true(now_ms() - from >= wait);
    }
    assert_int_equal(db->begin(ctx, 0, 0, &txn), OK); /* readers do not wait */
    db->abort(ctx, txn);
    signal_to(pipes.down[1]);
    assert_int_equal(db->begin(ctx, 1, -1, &txn), OK);
    db->abort(ctx, txn);
    assert_int_equal(end_of(pid), 0);
    assert_true(holds(ctx, "k", "theirs"));
    pipes_close(&pipes);
    db->close(ctx);
}

/* The guard alone, whatever LMDB's own mutex in the lock file would do. */
static void test_guard_is_a_flock(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *txn = NULL;
    const int fd = open(in_store(CS_LMDB_GUARD), O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(db->begin(ctx, 1, 20, &txn), CREDSTORE_STORAGE_BUSY);
    assert_int_equal(flock(fd, LOCK_UN), 0);
    assert_int_equal(db->begin(ctx, 1, 20, &txn), OK);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(db->commit(ctx, txn), OK);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    db->close(ctx);
}

static void test_presence_is_a_shared_flock(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    const int fd = open(in_store(CS_LMDB_PRESENCE), O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
    assert_int_equal(flock(fd, LOCK_UN), 0);
    db->close(ctx);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
}

static void add_many(void *arg)
{
    const int *n = arg;
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    CHILD(ctx != NULL);
    for (int i = 0; i < *n; i++)
        CHILD(increment(ctx, "n", -1) == OK);
    db->close(ctx);
}

static void test_no_update_is_lost(void **state)
{
    enum { PROCESSES = 4 };
    pid_t pids[PROCESSES];
    int each = 40;
    void *ctx;

    (void)state;
    for (int i = 0; i < PROCESSES; i++)
        pids[i] = start_child(add_many, &each);
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(end_of(pids[i]), 0);
    ctx = open_store(0);
    assert_int_equal(number_at(ctx, "n"), (uint64_t)PROCESSES * (uint64_t)each);
    db->close(ctx);
}

typedef struct worker {
    pthread_t thread;
    void *ctx;
    int32_t rc;
} worker;

static void *add_thread(void *arg)
{
    worker *w = arg;

    w->rc = OK;
    for (int i = 0; i < 30 && w->rc == OK; i++) {
        w->rc = increment(w->ctx, "n", -1);
        if (w->rc == OK && number_at(w->ctx, "n") == 0)
            w->rc = -1;
    }
    return NULL;
}

static void *begin_thread(void *arg)
{
    worker *w = arg;
    void *txn = NULL;

    w->rc = db->begin(w->ctx, 1, 60, &txn);
    if (w->rc == OK)
        db->abort(w->ctx, txn);
    return NULL;
}

static void test_turn_between_threads(void **state)
{
    enum { THREADS = 8 };
    worker workers[THREADS];
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *second = open_store(0);
    void *txn = NULL;
    int64_t from;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        workers[i].ctx = i % 2 == 0 ? ctx : second;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, add_thread, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].rc, OK);
    }
    assert_int_equal(number_at(ctx, "n"), THREADS * 30);

    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    from = now_ms();
    workers[0].ctx = second;
    pthread_create(&workers[0].thread, NULL, begin_thread, &workers[0]);
    pthread_join(workers[0].thread, NULL);
    assert_int_equal(workers[0].rc, CREDSTORE_STORAGE_BUSY);
    assert_true(now_ms() - from >= 60);
    db->abort(ctx, txn);
    pthread_create(&workers[0].thread, NULL, begin_thread, &workers[0]);
    pthread_join(workers[0].thread, NULL);
    assert_int_equal(workers[0].rc, OK);
    db->close(second);
    db->close(ctx);
}

/* Whoever removes the guard file makes writers that do not see each other. */
static void test_removed_guard_is_seen(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *txn = NULL;

    (void)state;
    assert_int_equal(unlink(in_store(CS_LMDB_GUARD)), 0);
    assert_int_equal(db->begin(ctx, 1, 0, &txn), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(db->native(ctx), ESTALE);
    db->close(ctx);
    ctx = open_store(0);
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    db->close(ctx);
}

/* ---- lock-file locks ---- */

/* In a child, which owns none of them: true if somebody locks the byte. */
static bool is_locked(off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    const int fd = open(in_store(CS_LMDB_LOCK), O_RDWR | O_CLOEXEC);

    CHILD(fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0);
    close(fd);
    return lock.l_type != F_UNLCK;
}

static void see_parents_locks(void *arg)
{
    const pid_t *parent = arg;

    CHILD(is_locked(0));
    CHILD(is_locked(*parent));
    CHILD(!is_locked(getpid()));
}

static void drop_posix_locks(void)
{
    const int fd = open(in_store(CS_LMDB_LOCK), O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    close(fd);
}

static void test_locks_survive_a_plain_close(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    pid_t self = getpid();

    (void)state;
    assert_int_equal(run_child(see_parents_locks, &self), 0);
    drop_posix_locks();
    assert_int_equal(run_child(see_parents_locks, &self), 0);
    db->close(ctx);
}

static void churn(void *arg)
{
    void *ctx = open_store(0);
    char value[2000];

    (void)arg;
    CHILD(ctx != NULL);
    for (int i = 0; i < 60; i++) {
        memset(value, 'a' + i % 26, sizeof value);
        CHILD(put_one(ctx, "k", value, sizeof value) == OK);
    }
    db->close(ctx);
}

/* With the locks gone the newcomer would make the lock file anew, and reuse the reader's pages. */
static void test_snapshot_survives_a_plain_close(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    credstore_sink sink = {0};
    uint8_t first[2000];
    void *txn = NULL;

    (void)state;
    memset(first, '!', sizeof first);
    assert_int_equal(put_one(ctx, "k", first, sizeof first), OK);
    assert_int_equal(db->begin(ctx, 0, 0, &txn), OK);
    drop_posix_locks();
    assert_int_equal(run_child(churn, NULL), 0);
    assert_int_equal(db->get(ctx, txn, b("k"), &sink), OK);
    assert_int_equal(sink.value_len, sizeof first);
    assert_memory_equal(sink.borrowed, first, sizeof first);
    db->abort(ctx, txn);
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    db->close(ctx);
}

static void open_without_lock_file(void *arg)
{
    credstore_error err;
    void *ctx = NULL;

    (void)arg;
    CHILD(open_at(store, 0, &ctx, &err) == CREDSTORE_E_STORAGE);
    CHILD(strstr(err.message, "lock.mdb was removed") != NULL);
}

static void test_removed_lock_file_is_seen(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    (void)state;
    assert_int_equal(unlink(in_store(CS_LMDB_LOCK)), 0);
    assert_int_equal(run_child(open_without_lock_file, NULL), 0);
    db->close(ctx);
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

static void die_reading(void *arg)
{
    void *ctx = open_store(0);
    void *txn = NULL;

    (void)arg;
    CHILD(ctx != NULL && db->begin(ctx, 0, 0, &txn) == OK);
    raise(SIGKILL);
}

static int count_reader(const char *line, void *arg)
{
    int *count = arg;

    if (strncmp(line, "    pid", 7) != 0 && line[0] != '(')
        (*count)++;
    return 0;
}

static void test_dead_readers_are_cleared_at_open(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    cs_lmdb_env *env = NULL;
    int readers = 0;

    (void)state;
    pipes_open(&pipes); /* keeps the lock file alive between the two */
    pid_t keeper = start_child(hold_write, NULL);
    assert_true(wait_for(pipes.up[0]));
    signal_to(pipes.down[1]);
    end_of(keeper);
    pipes_close(&pipes);
    assert_true(WIFSIGNALED(run_child(die_reading, NULL)));
    assert_int_equal(cs_lmdb_env_open(store, 0, &env, NULL), CREDSTORE_OK);
    assert_true(mdb_reader_list(env->mdb, count_reader, &readers) >= 0);
    assert_int_equal(readers,
                     1); /* this process had it open already: the dead one is still there */
    readers = 0;
    assert_int_equal(run_child(churn, NULL), 0); /* an opening elsewhere */
    assert_true(mdb_reader_list(env->mdb, count_reader, &readers) >= 0);
    assert_int_equal(readers, 0);
    cs_lmdb_env_close(env);
    db->close(ctx);
}

/* ---- one environment a process ---- */

static void test_registry(void **state)
{
    char link[PATH_SIZE + 8];
    void *one = open_store(CREDSTORE_OPEN_CREATE);
    void *two = open_store(CREDSTORE_OPEN_CREATE);
    cs_lmdb_env *env = NULL;
    credstore_error err;
    void *three = NULL;
    int loose;

    (void)state;
    snprintf(link, sizeof link, "%s.link", store);
    assert_int_equal(symlink(store, link), 0);
    assert_int_equal(open_at(link, 0, &three, &err), CREDSTORE_OK);
    assert_int_equal(cs_lmdb_env_open(store, 0, &env, NULL), CREDSTORE_OK);
    assert_int_equal(env->refs, 4);
    cs_lmdb_env_close(env);
    assert_int_equal(descriptors(&loose), 7);
    assert_int_equal(put_text(one, "k", "v"), OK);
    assert_true(holds(two, "k", "v"));
    db->close(one);
    assert_int_equal(put_text(two, "k", "w"), OK);
    assert_true(holds(three, "k", "w"));
    db->close(two);
    db->close(three);
    assert_int_equal(descriptors(&loose), 0);
}

static void *open_close_thread(void *arg)
{
    worker *w = arg;

    for (int i = 0; i < 20; i++) {
        void *ctx = open_store(CREDSTORE_OPEN_CREATE);

        w->rc = ctx == NULL ? -1 : increment(ctx, "n", -1);
        if (ctx != NULL)
            db->close(ctx);
        if (w->rc != OK)
            break;
    }
    return NULL;
}

static void test_registry_between_threads(void **state)
{
    enum { THREADS = 4 };
    worker workers[THREADS];
    void *ctx;

    (void)state;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&workers[i].thread, NULL, open_close_thread, &workers[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].rc, OK);
    }
    ctx = open_store(0);
    assert_int_equal(number_at(ctx, "n"), THREADS * 20);
    db->close(ctx);
}

/* A descriptor on the lock file that is not ours is a second copy's. Looking must not touch it: the
   other copy's locks are this process's, and would go. */
static void test_second_copy(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 77, .l_len = 1};
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    credstore_error err;
    pid_t pid;
    int fd;

    (void)state;
    db->close(ctx);
    fd = open(in_store(CS_LMDB_LOCK), O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
    assert_int_equal(open_at(store, 0, &ctx, &err), CREDSTORE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "second copy"));
    assert_null(ctx);
    pid = fork();
    if (pid == 0)
        _exit(is_locked(77) ? 0 : 1);
    assert_int_equal(end_of(pid), 0);
    close(fd);
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

/* ---- fork ---- */

static void *forked_ctx, *forked_txn;

static void use_parents_store(void *arg)
{
    void *txn = NULL;
    credstore_sink sink = {0};
    int loose;

    (void)arg;
    CHILD(descriptors(&loose) == 0);
    CHILD(db->begin(forked_ctx, 0, 0, &txn) == CREDSTORE_STORAGE_UNAVAILABLE && txn == NULL);
    CHILD(db->begin(forked_ctx, 1, -1, &txn) == CREDSTORE_STORAGE_UNAVAILABLE);
    CHILD(db->get(forked_ctx, forked_txn, b("k"), &sink) == CREDSTORE_STORAGE_UNAVAILABLE);
    db->abort(forked_ctx, forked_txn);
    db->close(forked_ctx);
    forked_ctx = open_store(0); /* its own */
    CHILD(forked_ctx != NULL && put_text(forked_ctx, "child", "was here") == OK);
    for (int i = 0; i < 30; i++)
        CHILD(put_text(forked_ctx, "k", "new") == OK);
    db->close(forked_ctx);
}

static void test_fork(void **state)
{
    credstore_sink sink = {0};

    (void)state;
    forked_ctx = open_store(CREDSTORE_OPEN_CREATE);
    assert_int_equal(put_text(forked_ctx, "k", "old"), OK);
    assert_int_equal(db->begin(forked_ctx, 0, 0, &forked_txn), OK);
    assert_int_equal(run_child(use_parents_store, NULL), 0);
    assert_int_equal(db->get(forked_ctx, forked_txn, b("k"), &sink), OK);
    assert_memory_equal(sink.value, "old", 3); /* the child's close left the reader's place alone */
    db->abort(forked_ctx, forked_txn);
    assert_true(holds(forked_ctx, "child", "was here"));
    assert_int_equal(put_text(forked_ctx, "k", "v"), OK);
    db->close(forked_ctx);
}

static void write_fork_die(void *arg)
{
    void *ctx = open_store(0);
    void *txn = NULL;

    (void)arg;
    CHILD(ctx != NULL && db->begin(ctx, 1, -1, &txn) == OK);
    CHILD(db->put(ctx, txn, b("k"), b("lost")) == OK);
    if (fork() == 0) {
        close(pipes.down[1]);
        signal_to(pipes.up[1]);
        wait_for(pipes.down[0]); /* until the test lets go */
        _exit(0);
    }
    nap_ms(20);
    raise(SIGKILL);
}

static void test_orphan_keeps_no_lock(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    int presence;

    (void)state;
    assert_int_equal(put_text(ctx, "k", "kept"), OK);
    db->close(ctx);
    pipes_open(&pipes);
    assert_true(WIFSIGNALED(run_child(write_fork_die, NULL)));
    assert_true(wait_for(pipes.up[0])); /* the orphan lives */
    presence = open(in_store(CS_LMDB_PRESENCE), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(presence, LOCK_EX | LOCK_NB), 0);
    close(presence);
    ctx = open_store(0);
    assert_non_null(ctx);
    assert_true(holds(ctx, "k", "kept"));
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    db->close(ctx);
    pipes_close(&pipes);
}

/* ---- PID namespaces ---- */

static int namespace_error; /* errno of unshare, in the child */

/* Becomes process 1 of a namespace of its own. */
static void enter_namespace(void)
{
    int status = 0;
    pid_t pid;

    if (unshare(CLONE_NEWPID) != 0) {
        namespace_error = errno;
        _exit(77);
    }
    pid = fork();
    if (pid != 0) {
        waitpid(pid, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    alarm(CHILD_SECONDS);
}

static void hold_in_namespace(void *arg)
{
    void *ctx;

    (void)arg;
    enter_namespace();
    ctx = open_store(0);
    CHILD(ctx != NULL);
    signal_to(pipes.up[1]);
    CHILD(wait_for(pipes.down[0]));
    CHILD(put_text(ctx, "k", "v") == OK);
    db->close(ctx);
}

static void collide_in_namespace(void *arg)
{
    credstore_error err;
    void *ctx = NULL;

    (void)arg;
    enter_namespace();
    CHILD(open_at(store, 0, &ctx, &err) == CREDSTORE_E_UNSUPPORTED);
    CHILD(err.native == EAGAIN && strstr(err.message, "PID namespaces") != NULL);
}

static void test_pid_namespaces_collide(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    pid_t first;
    int status;

    (void)state;
    db->close(ctx);
    pipes_open(&pipes);
    first = start_child(hold_in_namespace, NULL);
    close(pipes.up[1]);
    if (!wait_for(pipes.up[0])) {
        status = end_of(first);
        pipes.up[1] = -1;
        pipes_close(&pipes);
        assert_int_equal(WEXITSTATUS(status), 77);
        skip_because("no right to make a PID namespace");
    }
    status = run_child(collide_in_namespace, NULL);
    signal_to(pipes.down[1]);
    assert_int_equal(end_of(first), 0); /* the first one was not disturbed */
    assert_int_equal(status, 0);
    pipes.up[1] = -1;
    pipes_close(&pipes);
}

/* ---- creation ---- */

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static size_t entries(const char *path, const char *prefix)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    size_t n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && entry->d_name[0] != '.' ? 1 : 0;
    closedir(dir);
    return n;
}

static void check_modes(mode_t folder, mode_t file)
{
    assert_int_equal(mode_of(store), folder);
    assert_int_equal(mode_of(in_store(CS_LMDB_DATA)), file);
    assert_int_equal(mode_of(in_store(CS_LMDB_LOCK)), file);
    assert_int_equal(mode_of(in_store(CS_LMDB_GUARD)), file);
    assert_int_equal(mode_of(in_store(CS_LMDB_PRESENCE)), file);
}

static void test_creation(void **state)
{
    static const mode_t masks[] = {0, 022, 077, 0277};

    (void)state;
    assert_int_equal(try_open(0), CREDSTORE_E_NOT_FOUND);
    assert_int_equal(access(store, F_OK), -1);
    for (size_t i = 0; i < 2 * sizeof masks / sizeof masks[0]; i++) {
        const bool group = i % 2 != 0;
        const mode_t old = umask(masks[i / 2]);
        const credstore_status status =
            try_open(CREDSTORE_OPEN_CREATE | (group ? CREDSTORE_OPEN_GROUP : 0u));

        umask(old);
        assert_int_equal(status, CREDSTORE_OK);
        check_modes(group ? 0770 : 0700, group ? 0660 : 0600);
        remove_tree(store);
    }
    assert_int_equal(entries(root, strrchr(store, '/') + 1), 0); /* no temporary folder is left */
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE | CREDSTORE_OPEN_READ_ONLY),
                     CREDSTORE_E_NOT_FOUND);
}

static void test_creation_in_a_folder(void **state)
{
    char stale[PATH_SIZE + 64];
    char deep[PATH_SIZE + 64];
    credstore_error err;
    void *ctx = NULL;
    int fd;

    (void)state;
    assert_int_equal(mkdir(store, 0755), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_NOT_FOUND);
    assert_int_equal(entries(store, ""), 0);
    snprintf(stale, sizeof stale, "%s/.creating-stale", store); /* of one that was killed */
    assert_int_equal(mkdir(stale, 0700), 0);
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    check_modes(0700, 0600);
    assert_int_equal(try_open(0), CREDSTORE_OK);

    remove_tree(store);
    assert_int_equal(mkdir(store, 0700), 0);
    fd = open(in_store("foreign"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_E_INVALID);
    assert_int_equal(entries(store, ""), 1);

    snprintf(deep, sizeof deep, "%s/none/deeper", store);
    assert_int_equal(open_at(deep, CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_E_NOT_FOUND);
    snprintf(deep, sizeof deep, "%s/sub///", store);
    assert_int_equal(open_at(deep, CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_OK);
    db->close(ctx);
    assert_int_equal(open_at("", CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_E_INVALID);
    assert_int_equal(open_at(NULL, CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_E_INVALID);
}

static void test_relative_path(void **state)
{
    char before[PATH_SIZE];
    credstore_error err;
    void *ctx = NULL;

    (void)state;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(root), 0);
    assert_int_equal(open_at("relative", CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_OK);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    db->close(ctx);
}

static void create_one(void *arg)
{
    void *ctx;

    (void)arg;
    wait_for(pipes.down[0]); /* until the test closes its end: all at once */
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    CHILD(ctx != NULL && increment(ctx, "n", -1) == OK);
    db->close(ctx);
}

static void race_to_create(bool folder_exists)
{
    enum { PROCESSES = 6 };
    pid_t pids[PROCESSES];
    void *ctx;

    remove_tree(store);
    if (folder_exists)
        assert_int_equal(mkdir(store, 0700), 0);
    pipes_open(&pipes);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            close(pipes.down[1]);
            create_one(NULL);
            _exit(0);
        }
    }
    close(pipes.down[1]);
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(end_of(pids[i]), 0);
    ctx = open_store(0);
    assert_int_equal(number_at(ctx, "n"), PROCESSES);
    db->close(ctx);
    pipes.down[1] = -1;
    pipes_close(&pipes);
}

static void test_creation_race(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        race_to_create(i % 2 != 0);
}

static void create_forever(void *arg)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);

    (void)arg;
    CHILD(ctx != NULL);
    CHILD(put_text(ctx, "k", "v") == OK);
    for (;;)
        pause();
}

static void test_killed_creation(void **state)
{
    size_t present = 0;

    (void)state;
    for (int i = 0; i < 60; i++) {
        const struct timespec t = {0, (long)(next_random() % 8000) * 1000};
        credstore_status status;
        pid_t pid;

        if (i % 2 == 0)
            assert_int_equal(mkdir(store, 0700), 0);
        pid = start_child(create_forever, NULL);
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        end_of(pid);
        status = try_open(0);
        if (status != CREDSTORE_OK)
            assert_int_equal(status, CREDSTORE_E_NOT_FOUND);
        present += status == CREDSTORE_OK ? 1 : 0;
        assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
        remove_tree(store);
    }
    print_message("killed creations that had got there: %zu of 60\n", present);
}

/* ---- damage ---- */

static void open_damaged(void *arg)
{
    const credstore_status *expected = arg;

    CHILD(try_open(CREDSTORE_OPEN_CREATE) == *expected);
    CHILD(try_open(CREDSTORE_OPEN_READ_ONLY) == *expected);
}

static void fill(int pairs)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *txn = NULL;
    char value[1000] = {0};

    assert_int_equal(db->begin(ctx, 1, 0, &txn), OK);
    for (int i = 0; i < pairs; i++) {
        char key[16];

        snprintf(key, sizeof key, "%05d", i);
        assert_int_equal(db->put(ctx, txn, b(key), cs_bytes(value, sizeof value)), OK);
    }
    assert_int_equal(db->commit(ctx, txn), OK);
    db->close(ctx);
}

static void test_truncated(void **state)
{
    credstore_status expected = CREDSTORE_E_INTEGRITY;
    struct stat st;

    (void)state;
    fill(100);
    assert_int_equal(stat(in_store(CS_LMDB_DATA), &st), 0);
    while (st.st_size > 0) {
        st.st_size -= st.st_size > 20000 ? 20000 : st.st_size > 1500 ? 1500 : st.st_size;
        assert_int_equal(truncate(in_store(CS_LMDB_DATA), st.st_size), 0);
        assert_int_equal(run_child(open_damaged, &expected), 0);
    }
    assert_int_equal(stat(in_store(CS_LMDB_DATA), &st), 0);
    assert_int_equal(st.st_size, 0); /* nothing was made anew over it */
}

typedef struct damage_row {
    off_t offset;
    uint64_t value;
    size_t len;
    credstore_status expected;
} damage_row;

/* Offsets in LMDB's meta page: 16 bytes of header, then magic, version, ... */
static const damage_row damages[] = {
    {16, 0, 4, CREDSTORE_E_INTEGRITY},           /* magic */
    {20, 2, 4, CREDSTORE_E_FORMAT},              /* version */
    {40, 0, 4, CREDSTORE_E_INTEGRITY},           /* page size */
    {40, 1000, 4, CREDSTORE_E_INTEGRITY},        /* not a power of two */
    {40, 8192, 4, CREDSTORE_E_INTEGRITY},        /* another */
    {40, 1u << 30, 4, CREDSTORE_E_INTEGRITY},    /* huge */
    {136, UINT64_MAX, 8, CREDSTORE_E_INTEGRITY}, /* last page, overflowing */
    {136, 100000, 8, CREDSTORE_E_INTEGRITY},     /* behind the end */
    {136, UINT64_MAX >> 12, 8, CREDSTORE_E_INTEGRITY},
    {10, 0, 2, CREDSTORE_E_INTEGRITY}, /* page flags: not a meta page */
};

static void test_damaged_meta(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        credstore_status expected = damages[i].expected;
        int fd;

        fill(10);
        fd = open(in_store(CS_LMDB_DATA), O_RDWR | O_CLOEXEC);
        for (off_t page = 0; page < 2; page++)
            assert_int_equal(
                pwrite(fd, &damages[i].value, damages[i].len, page * 4096 + damages[i].offset),
                damages[i].len);
        close(fd);
        assert_int_equal(run_child(open_damaged, &expected), 0);
        remove_tree(store);
    }
}

/* ---- an edited file that leads to one place many times ---- */

enum { NAMING = 80, RUN = 4 };

static atomic_size_t reads;

ssize_t __wrap_pread(int fd, void *out, size_t len, off_t offset)
{
    atomic_fetch_add(&reads, 1);
    return __real_pread(fd, out, len, offset);
}

static void write_page(const cs_lmdb_file *f, size_t number, const void *from, size_t len)
{
    assert_int_equal(pwrite(f->fd, from, len, (off_t)(number * f->page_size)), len);
}

/* A leaf behind the end, of which every node names the pages that follow it. */
static void add_leaf(const cs_lmdb_file *f)
{
    const size_t room = sizeof(cs_lmdb_node) + 2 * sizeof(size_t), run = f->pages + 1;
    cs_lmdb_page_head head = {.number = f->pages, .flags = CS_LMDB_LEAF};
    uint8_t *raw = calloc(1, f->page_size);

    assert_non_null(raw);
    head.lower = sizeof head + NAMING * sizeof(uint16_t);
    head.upper = (uint16_t)(f->page_size - NAMING * room);
    memcpy(raw, &head, sizeof head);
    for (size_t i = 0; i < NAMING; i++) {
        const uint16_t at = (uint16_t)(head.upper + i * room);
        const cs_lmdb_node node = {(uint32_t)(RUN * f->page_size - sizeof head), CS_LMDB_BIG_DATA,
                                   sizeof(size_t)};
        uint8_t *key = raw + at + sizeof node;

        memcpy(raw + sizeof head + i * sizeof at, &at, sizeof at);
        memcpy(raw + at, &node, sizeof node);
        memset(key, (int)i + 1, sizeof(size_t)); /* ascending, however it is read */
        memcpy(key + sizeof(size_t), &run, sizeof run);
    }
    write_page(f, f->pages, raw, f->page_size);
    free(raw);
}

/* The pages that it names: a long value, which is also a list of pages behind the end. */
static void add_run(const cs_lmdb_file *f)
{
    const size_t words = RUN * f->page_size / sizeof(size_t), first = sizeof(cs_lmdb_page_head);
    const cs_lmdb_page_head head = {
        .number = f->pages + 1, .flags = CS_LMDB_OVERFLOW, .lower = RUN};
    size_t *raw = calloc(words, sizeof *raw);

    assert_non_null(raw);
    memcpy(raw, &head, sizeof head);
    for (size_t i = first / sizeof *raw; i < words; i++)
        raw[i] = (SIZE_MAX >> 16) - i;
    raw[first / sizeof *raw] = words - first / sizeof *raw - 1; /* how many follow */
    write_page(f, f->pages + 1, raw, words * sizeof *raw);
    free(raw);
}

/* Makes a tree of the store that leaf alone; the bytes that the file has then. */
static size_t forge_tree(int tree)
{
    cs_lmdb_file f;
    cs_lmdb_tree *root_of = &f.meta.trees[tree];
    size_t size;

    fill(10);
    assert_int_equal(cs_lmdb_file_look(open(in_store(CS_LMDB_DATA), O_RDWR | O_CLOEXEC), &f), 0);
    add_leaf(&f);
    add_run(&f);
    root_of->root = f.pages;
    root_of->depth = 1;
    root_of->entries = NAMING;
    f.meta.last_page = tree == CS_LMDB_FREE_TREE ? SIZE_MAX >> 17 : f.pages + RUN;
    write_page(&f, f.meta.head.number, &f.meta, sizeof f.meta);
    size = (f.pages + 1 + RUN) * f.page_size;
    close(f.fd);
    return size;
}

/* As many numbers of free pages are read as the file can have, and no more. */
static void test_free_list_named_often(void **state)
{
    const size_t words = forge_tree(CS_LMDB_FREE_TREE) / sizeof(size_t);

    (void)state;
    atomic_store(&reads, 0);
    assert_int_equal(try_open(0), CREDSTORE_E_INTEGRITY);
    assert_in_range(atomic_load(&reads), RUN, 2 * words);
}

static credstore_status sum_lengths(void *arg, credstore_bytes key, credstore_bytes value,
                                    credstore_error *err)
{
    (void)key;
    (void)err;
    *(size_t *)arg += value.len;
    return CREDSTORE_OK;
}

static void test_big_value_named_often(void **state)
{
    const size_t size = forge_tree(CS_LMDB_MAIN_TREE);
    credstore_error err = {0};
    size_t sum = 0;

    (void)state;
    assert_int_equal(cs_lmdb_read_folder(store, sum_lengths, &sum, &err), CREDSTORE_E_INTEGRITY);
    assert_in_range(sum, 1, size); /* the leaf was read, until it was too much */
}

/* ---- the map ---- */

/* Threads of earlier tests have left their share, so the limit counts from here. */
static void limit_address_space(size_t more)
{
    unsigned long pages = 0;
    struct rlimit limit;
    FILE *file = fopen("/proc/self/statm", "re");

    CHILD(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    CHILD(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + more;
    CHILD(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void open_in_little_space(void *arg)
{
    const size_t *bytes = arg;
    void *ctx;
    void *more;

    limit_address_space(*bytes);
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    CHILD(ctx != NULL && put_text(ctx, "k", "v") == OK && holds(ctx, "k", "v"));
    more = malloc(*bytes / 4); /* the host is left with something */
    CHILD(more != NULL);
    free(more);
    db->close(ctx);
}

static void test_little_address_space(void **state)
{
    static const size_t limits[] = {(size_t)4 << 30, (size_t)1 << 30, (size_t)200 << 20};

    (void)state;
    if (UNDER_ASAN)
        skip_because("the sanitizer's shadow memory is larger than the limit");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        size_t bytes = limits[i];

        assert_int_equal(run_child(open_in_little_space, &bytes), 0);
    }
}

static int grown; /* transactions that were to be run again because the map had grown */

/* Puts megabytes in one transaction each, until it fails. */
static int32_t fill_megabytes(void *ctx, int megabytes)
{
    char *value = calloc(1, 1 << 20);
    int32_t rc = OK;

    CHILD(value != NULL);
    for (int i = 0; i < megabytes && rc == OK; i++) {
        char key[16];

        snprintf(key, sizeof key, "m%05d", i);
        while ((rc = put_one(ctx, key, value, 1 << 20)) == CREDSTORE_STORAGE_CONFLICT)
            grown++;
    }
    free(value);
    return rc;
}

static void fill_the_map(void *arg)
{
    void *ctx;
    void *txn = NULL;
    char *value = calloc(1, 1 << 20);

    (void)arg;
    limit_address_space((size_t)200 << 20);
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    CHILD(ctx != NULL && value != NULL);
    CHILD(put_text(ctx, "k", "v") == OK);
    CHILD(fill_megabytes(ctx, 1000) == CREDSTORE_STORAGE_FULL);
    CHILD(grown > 0 && db->native(ctx) == MDB_MAP_FULL);
    CHILD(db->begin(ctx, 1, 0, &txn) == OK); /* after a failed put only abort follows */
    CHILD(db->put(ctx, txn, b("a"), b("small")) == OK);
    CHILD(db->put(ctx, txn, b("big"), cs_bytes(value, 1 << 20)) == CREDSTORE_STORAGE_FULL);
    CHILD(db->put(ctx, txn, b("c"), b("small")) == CREDSTORE_STORAGE_UNAVAILABLE);
    CHILD(db->native(ctx) == MDB_BAD_TXN);
    CHILD(db->commit(ctx, txn) == CREDSTORE_STORAGE_UNAVAILABLE);
    CHILD(holds(ctx, "k", "v"));
    CHILD(!holds(ctx, "a", "small")); /* nothing of it */
    CHILD(db->begin(ctx, 1, 0, &txn) == OK);
    CHILD(db->del(ctx, txn, b("m00000")) == OK);
    CHILD(db->commit(ctx, txn) == OK);
    CHILD(put_text(ctx, "k", "w") == OK);
    db->close(ctx);
    free(value);
}

static void test_map_full(void **state)
{
    (void)state;
    if (UNDER_ASAN)
        skip_because("the sanitizer's shadow memory is larger than the limit");
    assert_int_equal(run_child(fill_the_map, NULL), 0);
}

static void grow_elsewhere(void *arg)
{
    void *ctx = open_store(0);

    (void)arg;
    CHILD(ctx != NULL && fill_megabytes(ctx, 100) == OK);
    CHILD(put_text(ctx, "k", "grown") == OK);
    db->close(ctx);
}

static atomic_int held, outgrown;

/* Reads again what it borrowed, when the other thread has had the time to move the map. */
static void *read_and_hold(void *arg)
{
    worker *w = arg;
    credstore_sink sink = {0};
    void *txn = NULL;

    w->rc = db->begin(w->ctx, 0, 0, &txn);
    if (w->rc == OK)
        w->rc = db->get(w->ctx, txn, b("k"), &sink);
    atomic_store(&held, 1);
    if (w->rc != OK)
        return NULL;
    while (atomic_load(&outgrown) == 0)
        nap_ms(1);
    nap_ms(100);
    w->rc = memcmp(sink.borrowed, "v", 1) == 0 ? OK : -1;
    db->abort(w->ctx, txn);
    return NULL;
}

static void be_outgrown(void *arg)
{
    const uint32_t *write = arg;
    struct rlimit limit;
    worker w;
    void *ctx;
    void *txn = NULL;

    CHILD(getrlimit(RLIMIT_AS, &limit) == 0);
    limit_address_space((size_t)200 << 20);
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    CHILD(ctx != NULL && put_text(ctx, "k", "v") == OK && holds(ctx, "k", "v"));
    CHILD(setrlimit(RLIMIT_AS, &limit) == 0);
    w.ctx = ctx;
    pthread_create(&w.thread, NULL, read_and_hold, &w);
    while (atomic_load(&held) == 0)
        nap_ms(1);
    CHILD(run_child(grow_elsewhere, NULL) == 0);
    atomic_store(&outgrown, 1);
    CHILD(db->begin(ctx, *write, 1000, &txn) == OK);
    db->abort(ctx, txn);
    CHILD(holds(ctx, "k", "grown"));
    CHILD(put_text(ctx, "k", "w") == OK);
    pthread_join(w.thread, NULL);
    CHILD(w.rc == OK);
    db->close(ctx);
}

static void test_map_resized_elsewhere(void **state)
{
    (void)state;
    if (UNDER_ASAN)
        skip_because("the sanitizer's shadow memory is larger than the limit");
    for (uint32_t write = 0; write < 2; write++) {
        assert_int_equal(run_child(be_outgrown, &write), 0);
        remove_tree(store);
    }
}

/* A disk of one megabyte, which is a mount point too: nothing can be renamed onto it. */
static void fill_the_disk(void *arg)
{
    void *ctx;

    (void)arg;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mkdir(store, 0700) != 0 || mount("none", store, "tmpfs", 0, "size=1m,mode=0700") != 0)
        _exit(77);
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    CHILD(ctx != NULL && put_text(ctx, "k", "v") == OK);
    CHILD(fill_megabytes(ctx, 2) == CREDSTORE_STORAGE_FULL);
    CHILD(holds(ctx, "k", "v"));
    CHILD(put_text(ctx, "k", "w") == OK);
    db->close(ctx);
    ctx = open_store(0);
    CHILD(ctx != NULL && holds(ctx, "k", "w"));
    db->close(ctx);
}

static void test_disk_full(void **state)
{
    int status;

    (void)state;
    status = run_child(fill_the_disk, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip_because("no right to mount a small disk");
    assert_int_equal(status, 0);
}

/* A page of the lock file without a block would kill who first writes to it. */
static void fill_up(const char *filler)
{
    static const char zeros[4096];
    const int fd = open(filler, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);

    CHILD(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    close(fd);
}

static void use_a_full_disk(void *arg)
{
    enum { MANY = 200 };
    char filler[PATH_SIZE + 64];
    void *ctx, *txns[MANY];

    (void)arg;
    snprintf(filler, sizeof filler, "%s", in_store("filler"));
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mkdir(store, 0700) != 0 || mount("none", store, "tmpfs", 0, "size=1m,mode=0700") != 0)
        _exit(77);
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    CHILD(ctx != NULL && put_text(ctx, "k", "v") == OK);
    fill_up(filler);
    for (int i = 0; i < MANY; i++)
        CHILD(db->begin(ctx, 0, 0, &txns[i]) == OK);
    for (int i = 0; i < MANY; i++)
        db->abort(ctx, txns[i]);
    db->close(ctx);
    CHILD(unlink(in_store(CS_LMDB_LOCK)) == 0); /* a backup and a restored store have none */
    fill_up(filler);
    CHILD(try_open(0) == CREDSTORE_E_FULL);
    CHILD(unlink(filler) == 0);
    ctx = open_store(0);
    CHILD(ctx != NULL && holds(ctx, "k", "v"));
    db->close(ctx);
}

static void test_full_disk_used(void **state)
{
    int status;

    (void)state;
    status = run_child(use_a_full_disk, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip_because("no right to mount a small disk");
    assert_int_equal(status, 0);
}

/* A file that is put in the place of the one that is open: nothing more is acknowledged. */
static void test_replaced_data(void **state)
{
    char aside[PATH_SIZE + 64];
    void *ctx;

    (void)state;
    snprintf(aside, sizeof aside, "%s", in_store("aside"));
    ctx = open_store(CREDSTORE_OPEN_CREATE);
    assert_non_null(ctx);
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    assert_int_equal(rename(in_store(CS_LMDB_DATA), aside), 0);
    assert_int_equal(put_text(ctx, "k", "w"), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(db->native(ctx), ESTALE);
    close(open(in_store(CS_LMDB_DATA), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(put_text(ctx, "k", "w"), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(try_open(0), CREDSTORE_E_STORAGE);
    assert_true(holds(ctx, "k", "v"));
    assert_int_equal(rename(aside, in_store(CS_LMDB_DATA)), 0);
    assert_int_equal(put_text(ctx, "k", "w"), OK);
    assert_int_equal(try_open(0), CREDSTORE_OK);
    db->close(ctx);
}

/* ---- who may use it ---- */

static void test_access(void **state)
{
    static const char *const files[] = {CS_LMDB_DATA, CS_LMDB_LOCK, CS_LMDB_GUARD,
                                        CS_LMDB_PRESENCE};

    (void)state;
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    assert_int_equal(chmod(store, 0704), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
    assert_int_equal(try_open(CREDSTORE_OPEN_GROUP), CREDSTORE_E_FORBIDDEN);
    assert_int_equal(chmod(store, 0702), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
    assert_int_equal(chmod(store, 0740), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
    assert_int_equal(try_open(CREDSTORE_OPEN_GROUP), CREDSTORE_OK);
    assert_int_equal(chmod(store, 0700), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        assert_int_equal(chmod(in_store(files[i]), 0604), 0);
        assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
        assert_int_equal(try_open(CREDSTORE_OPEN_GROUP), CREDSTORE_E_FORBIDDEN);
        assert_int_equal(chmod(in_store(files[i]), 0620), 0);
        assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
        assert_int_equal(try_open(CREDSTORE_OPEN_GROUP), CREDSTORE_OK);
        assert_int_equal(chmod(in_store(files[i]), 0600), 0);
    }
    assert_int_equal(try_open(0), CREDSTORE_OK);
    assert_int_equal(unlink(in_store(CS_LMDB_PRESENCE)), 0);
    assert_int_equal(symlink("elsewhere", in_store(CS_LMDB_PRESENCE)), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_INVALID);
}

static void test_path_is_a_file(void **state)
{
    const int fd = open(store, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    (void)state;
    close(fd);
    assert_int_equal(try_open(0), CREDSTORE_E_INVALID);
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_E_INVALID);
}

static void test_foreign_owner(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip_because("only root can give files away");
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    assert_int_equal(chown(store, 12345, 0), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
    assert_int_equal(chown(store, 0, 0), 0);
    assert_int_equal(chown(in_store(CS_LMDB_DATA), 12345, 0), 0);
    assert_int_equal(try_open(0), CREDSTORE_E_FORBIDDEN);
}

static void open_unwritable(void *arg)
{
    static const uint32_t flags[] = {0, CREDSTORE_OPEN_CREATE, CREDSTORE_OPEN_READ_ONLY};
    const char *folder = arg;

    if (geteuid() == 0)
        CHILD(setgid(12345) == 0 && setuid(12345) == 0);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        credstore_error err;
        void *ctx = NULL;

        CHILD(open_at(folder, flags[i], &ctx, &err) ==
              (folder == store || flags[i] == CREDSTORE_OPEN_CREATE ? CREDSTORE_E_FORBIDDEN
                                                                    : CREDSTORE_E_NOT_FOUND));
        CHILD(err.message[0] != '\0');
    }
}

static void test_unwritable_folder(void **state)
{
    char inside[PATH_SIZE + 64];

    (void)state;
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    assert_int_equal(unlink(in_store(CS_LMDB_GUARD)), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(store, 12345, 12345), 0);
        assert_int_equal(chown(in_store(CS_LMDB_DATA), 12345, 12345), 0);
        assert_int_equal(chmod(root, 0755), 0);
    }
    assert_int_equal(chmod(store, 0500), 0);
    assert_int_equal(run_child(open_unwritable, store), 0);
    snprintf(inside, sizeof inside, "%s/new", store);
    assert_int_equal(run_child(open_unwritable, inside), 0);
    assert_int_equal(chmod(store, 0700), 0);
}

static void use_as_member(void *arg)
{
    void *ctx;

    (void)arg;
    CHILD(setgid(12345) == 0 && setuid(23456) == 0);
    CHILD(try_open(0) == CREDSTORE_E_FORBIDDEN);
    ctx = open_store(CREDSTORE_OPEN_GROUP);
    CHILD(ctx != NULL && put_text(ctx, "k", "v") == OK);
    db->close(ctx);
}

static void test_group_shares(void **state)
{
    static const char *const files[] = {CS_LMDB_DATA, CS_LMDB_LOCK, CS_LMDB_GUARD,
                                        CS_LMDB_PRESENCE};

    (void)state;
    if (geteuid() != 0)
        skip_because("only root can be another user");
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE | CREDSTORE_OPEN_GROUP), CREDSTORE_OK);
    assert_int_equal(chown(store, 34567, 12345), 0); /* a third user made it */
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_int_equal(chown(in_store(files[i]), 34567, 12345), 0);
    assert_int_equal(chmod(root, 0755), 0);
    assert_int_equal(run_child(use_as_member, NULL), 0);
}

static void test_read_only(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    void *reader = open_store(CREDSTORE_OPEN_READ_ONLY);
    void *txn = NULL;

    (void)state;
    assert_int_equal(put_text(ctx, "k", "v"), OK);
    assert_true(holds(reader, "k", "v")); /* one environment, two rights */
    assert_int_equal(db->begin(reader, 1, 0, &txn), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(db->native(reader), EACCES);
    db->close(ctx);
    db->close(reader);
    reader = open_store(CREDSTORE_OPEN_READ_ONLY);
    assert_true(holds(reader, "k", "v"));
    assert_int_equal(db->begin(reader, 1, 0, &txn), CREDSTORE_STORAGE_UNAVAILABLE);
    assert_int_equal(try_open(0), CREDSTORE_E_UNSUPPORTED);
    assert_int_equal(run_child(churn, NULL), 0);
    assert_false(holds(reader, "k", "v")); /* follows the writer elsewhere */
    db->close(reader);
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

static void test_network_file_systems(void **state)
{
    static const unsigned long refused[] = {0x6969,     0x517b,     0xff534d42, 0xfe534d42,
                                            0x01021997, 0x73757245, 0x5346414f, 0x00c36400,
                                            0x0bd00bd0, 0x47504653, 0x65735546};
    static const unsigned long local[] = {0xef53,     0x58465342, 0x9123683e, 0x01021994,
                                          0x794c7630, 0x2fc12fc1, 0xf2f52010};

    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_true(cs_lmdb_network_fs(refused[i]));
    assert_true(cs_lmdb_network_fs((unsigned long)(long)(int)0xff534d42)); /* as a signed word */
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        assert_false(cs_lmdb_network_fs(local[i]));
}

/* The kernel's word for whatever file system a test is on. */
static unsigned long pretended_type;

int __wrap_fstatfs(int fd, struct statfs *out)
{
    const int rc = __real_fstatfs(fd, out);

    if (pretended_type != 0)
        memcpy(&out->f_type, &pretended_type, sizeof out->f_type);
    return rc;
}

static void test_network_file_systems_are_refused(void **state)
{
    char folder[PATH_SIZE + 8];
    credstore_error err;
    void *ctx = NULL;

    (void)state;
    assert_int_equal(try_open(CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    snprintf(folder, sizeof folder, "%s.empty", store);
    assert_int_equal(mkdir(folder, 0700), 0);
    pretended_type = 0x6969;
    assert_int_equal(try_open(0), CREDSTORE_E_UNSUPPORTED);
    assert_int_equal(open_at(folder, CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "network"));
    assert_int_equal(entries(folder, ""), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(open_at(folder, CREDSTORE_OPEN_CREATE, &ctx, &err), CREDSTORE_E_UNSUPPORTED);
    assert_int_equal(access(folder, F_OK), -1);
    pretended_type = 0;
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

/* ---- cancellation ---- */

static void *write_under_cancel(void *arg)
{
    worker *w = arg;
    void *txn = NULL;

    w->rc = db->begin(w->ctx, 1, 0, &txn);
    if (w->rc != OK)
        return NULL;
    pthread_cancel(pthread_self()); /* pending from here on */
    w->rc = db->put(w->ctx, txn, b("k"), b("v"));
    nap_ms(1); /* a place where threads are cancelled, as LMDB's writes are */
    w->rc = db->commit(w->ctx, txn);
    pthread_testcancel();
    w->rc = -1;
    return NULL;
}

static void test_cancellation(void **state)
{
    worker w = {.ctx = open_store(CREDSTORE_OPEN_CREATE)};
    void *end = NULL;

    (void)state;
    for (int i = 0; i < 5; i++) {
        pthread_create(&w.thread, NULL, write_under_cancel, &w);
        pthread_join(w.thread, &end);
        assert_ptr_equal(end, PTHREAD_CANCELED); /* restored after the commit */
        assert_int_equal(w.rc, OK);
        assert_int_equal(put_text(w.ctx, "k", "w"), OK);
    }
    db->close(w.ctx);
}

/* ---- killed writers ---- */

static void add_forever(void *arg)
{
    void *ctx = open_store(0);
    uint64_t n = 0;

    (void)arg;
    CHILD(ctx != NULL);
    for (;;) {
        CHILD(increment(ctx, "n", -1) == OK);
        n = number_at(ctx, "n");
        CHILD(write(pipes.up[1], &n, sizeof n) == (ssize_t)sizeof n);
    }
}

static void test_killed_writers(void **state)
{
    void *ctx = open_store(CREDSTORE_OPEN_CREATE);
    uint64_t told = 0;
    uint64_t n;

    (void)state;
    pipes_open(&pipes);
    fcntl(pipes.up[0], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 15; i++) {
        const pid_t pid = start_child(add_forever, NULL);

        nap_ms((long)(5 + next_random() % 40));
        kill(pid, SIGKILL);
        end_of(pid);
        while (read(pipes.up[0], &n, sizeof n) == (ssize_t)sizeof n)
            told = n;
        assert_true(number_at(ctx, "n") >= told);
        assert_int_equal(increment(ctx, "n", 0), OK); /* the dead one's locks are gone */
        told = number_at(ctx, "n");
    }
    pipes_close(&pipes);
    db->close(ctx);
}

/* ---- durability, as the kernel sees it ---- */

/* The role that strace watches: argv = --commit path expected */
static int commit_role(const char *path, const char *expected)
{
    credstore_error err;
    void *ctx = NULL;
    void *txn = NULL;
    int32_t rc;

    if (open_at(path, 0, &ctx, &err) != CREDSTORE_OK)
        return 10;
    if (db->begin(ctx, 1, 0, &txn) != OK || db->put(ctx, txn, b("k"), b("new")) != OK)
        return 11;
    if (write(STDERR_FILENO, "COMMIT\n", 7) != 7)
        return 12;
    rc = db->commit(ctx, txn);
    if (write(STDERR_FILENO, "DONE\n", 5) != 5)
        return 12;
    if (rc != (int32_t)atoi(expected))
        return 13;
    rc = db->begin(ctx, 0, 0, &txn); /* given up by LMDB only when the meta page is in doubt */
    if (rc == OK)
        db->abort(ctx, txn);
    if ((rc == OK) != (atoi(expected) != CREDSTORE_STORAGE_UNKNOWN))
        return 14;
    db->close(ctx);
    return 0;
}

static int strace_commit(const char *inject, int32_t expected)
{
    char number[16];
    char log[PATH_SIZE + 16];
    char self[PATH_SIZE] = "";
    pid_t pid;

    snprintf(number, sizeof number, "%d", expected);
    snprintf(log, sizeof log, "%s.log", store);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it cannot, where somebody traces already */
        execlp("strace", "strace", "-f", "-o", log, "-e",
               "trace=write,fdatasync,fsync,pwrite64,pwritev,writev,openat", "-e", inject, self,
               "--commit", store, number, (char *)NULL);
        _exit(127);
    }
    return end_of(pid);
}

static bool strace_works(void)
{
    const pid_t pid = fork();

    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR);

        dup2(null, STDERR_FILENO);
        execlp("strace", "strace", "-e", "trace=none", "true", (char *)NULL);
        _exit(127);
    }
    return end_of(pid) == 0;
}

/* Descriptor that data.mdb was opened on for synchronous writing, by the log; -1 if it was not. */
static int synchronous_fd(const char *line)
{
    const char *result = strrchr(line, '=');

    if (strstr(line, CS_LMDB_DATA) == NULL || strstr(line, "O_DSYNC") == NULL || result == NULL)
        return -1;
    return atoi(result + 1);
}

static void test_commit_is_durable(void **state)
{
    char log[PATH_SIZE + 16];
    char line[4096];
    bool inside = false;
    int meta_fd = -1;
    int syncs = 0;
    int metas = 0;
    FILE *file;

    (void)state;
    if (!strace_works())
        skip_because("no strace, or it may not trace");
    fill(10);
    assert_int_equal(strace_commit("trace=fdatasync,pwrite64,writev,pwritev,write,openat", OK), 0);
    snprintf(log, sizeof log, "%s.log", store);
    file = fopen(log, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char meta_call[32];

        if (synchronous_fd(line) >= 0)
            meta_fd = synchronous_fd(line);
        if (strstr(line, "\"COMMIT") != NULL)
            inside = true;
        if (strstr(line, "\"DONE") != NULL)
            inside = false;
        if (inside && strstr(line, "fdatasync(") != NULL && strstr(line, "= 0") != NULL)
            syncs++;
        snprintf(meta_call, sizeof meta_call, "pwrite64(%d,", meta_fd);
        if (inside && syncs > 0 && strstr(line, meta_call) != NULL)
            metas++; /* after the pages were synced, and itself synchronous */
    }
    fclose(file);
    assert_true(meta_fd >= 0);
    assert_int_equal(syncs, 1);
    assert_int_equal(metas, 1);
}

/* A page that does not reach the disk changes nothing; a meta page that does not, nobody knows. */
static void test_failing_disk(void **state)
{
    void *ctx;

    (void)state;
    if (!strace_works())
        skip_because("no strace, or it may not trace");
    fill(10);
    ctx = open_store(0);
    assert_int_equal(put_text(ctx, "k", "old"), OK);
    db->close(ctx);
    assert_int_equal(
        strace_commit("inject=fdatasync:error=EIO:when=1", CREDSTORE_STORAGE_UNAVAILABLE), 0);
    ctx = open_store(0);
    assert_true(holds(ctx, "k", "old"));
    db->close(ctx);
    assert_int_equal(strace_commit("inject=fdatasync:error=ENOSPC:when=1", CREDSTORE_STORAGE_FULL),
                     0);
    /* the second pwrite64: the first one is for a lone page, if LMDB has one */
    assert_int_equal(strace_commit("inject=pwrite64:error=EIO:when=1+", CREDSTORE_STORAGE_UNKNOWN),
                     0);
    assert_int_equal(try_open(0), CREDSTORE_OK);
}

/* ---- */

static int make_root(void **state)
{
    const char *base = getenv("TMPDIR");
    const char *given = getenv("CREDSTORE_SEED");

    (void)state;
    seed = given != NULL ? (unsigned int)strtoul(given, NULL, 10) : (unsigned int)time(NULL);
    print_message("CREDSTORE_SEED=%u\n", seed);
    snprintf(root, sizeof root, "%.300s/lmdb_test.XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pairs, fresh),
        cmocka_unit_test_setup(test_key_and_value_sizes, fresh),
        cmocka_unit_test_setup(test_scans, fresh),
        cmocka_unit_test_setup(test_cursor_is_renewed, fresh),
        cmocka_unit_test_setup(test_snapshots, fresh),
        cmocka_unit_test_setup(test_reads_allocate_nothing, fresh),
        cmocka_unit_test_setup(test_more_reads_than_slots, fresh),
        cmocka_unit_test_setup(test_flags_and_sizes, fresh),
        cmocka_unit_test_setup(test_descriptors_close_on_exec, fresh),
        cmocka_unit_test_setup(test_guard_between_processes, fresh),
        cmocka_unit_test_setup(test_guard_is_a_flock, fresh),
        cmocka_unit_test_setup(test_presence_is_a_shared_flock, fresh),
        cmocka_unit_test_setup(test_no_update_is_lost, fresh),
        cmocka_unit_test_setup(test_turn_between_threads, fresh),
        cmocka_unit_test_setup(test_removed_guard_is_seen, fresh),
        cmocka_unit_test_setup(test_locks_survive_a_plain_close, fresh),
        cmocka_unit_test_setup(test_snapshot_survives_a_plain_close, fresh),
        cmocka_unit_test_setup(test_removed_lock_file_is_seen, fresh),
        cmocka_unit_test_setup(test_dead_readers_are_cleared_at_open, fresh),
        cmocka_unit_test_setup(test_registry, fresh),
        cmocka_unit_test_setup(test_registry_between_threads, fresh),
        cmocka_unit_test_setup(test_second_copy, fresh),
        cmocka_unit_test_setup(test_fork, fresh),
        cmocka_unit_test_setup(test_orphan_keeps_no_lock, fresh),
        cmocka_unit_test_setup(test_pid_namespaces_collide, fresh),
        cmocka_unit_test_setup(test_creation, fresh),
        cmocka_unit_test_setup(test_creation_in_a_folder, fresh),
        cmocka_unit_test_setup(test_relative_path, fresh),
        cmocka_unit_test_setup(test_creation_race, fresh),
        cmocka_unit_test_setup(test_killed_creation, fresh),
        cmocka_unit_test_setup(test_truncated, fresh),
        cmocka_unit_test_setup(test_damaged_meta, fresh),
        cmocka_unit_test_setup(test_free_list_named_often, fresh),
        cmocka_unit_test_setup(test_big_value_named_often, fresh),
        cmocka_unit_test_setup(test_little_address_space, fresh),
        cmocka_unit_test_setup(test_map_full, fresh),
        cmocka_unit_test_setup(test_map_resized_elsewhere, fresh),
        cmocka_unit_test_setup(test_disk_full, fresh),
        cmocka_unit_test_setup(test_full_disk_used, fresh),
        cmocka_unit_test_setup(test_replaced_data, fresh),
        cmocka_unit_test_setup(test_access, fresh),
        cmocka_unit_test_setup(test_path_is_a_file, fresh),
        cmocka_unit_test_setup(test_foreign_owner, fresh),
        cmocka_unit_test_setup(test_unwritable_folder, fresh),
        cmocka_unit_test_setup(test_group_shares, fresh),
        cmocka_unit_test_setup(test_read_only, fresh),
        cmocka_unit_test_setup(test_network_file_systems, fresh),
        cmocka_unit_test_setup(test_network_file_systems_are_refused, fresh),
        cmocka_unit_test_setup(test_cancellation, fresh),
        cmocka_unit_test_setup(test_killed_writers, fresh),
        cmocka_unit_test_setup(test_commit_is_durable, fresh),
        cmocka_unit_test_setup(test_failing_disk, fresh),
    };

    if (argc == 4 && strcmp(argv[1], "--commit") == 0)
        return commit_role(argv[2], argv[3]);
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
