/* SPDX-License-Identifier: MIT
 *
 * Durable updates and what they cost, for the bench and for its gate: a filled store and a copy of
 * its file, writers on either, and the flushes and pages that LMDB asks the kernel for. The program
 * that includes this brings the process's fdatasync(), pwrite() and pwritev(), so it sees them all;
 * it may leave the waiting out (to fill quickly), or add to it, as a slow disk does.
 */
#ifndef TESTS_BENCH_UPDATES_H
#define TESTS_BENCH_UPDATES_H

#include "../support.h"

#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "group.h"
#include "ring.h"
#include "storage/engines.h"
#include "store.h"
#include "txn.h"

/* ---- counting ---- */

static _Atomic uint64_t flushes, bytes_written;
static atomic_bool no_flush;         /* do not wait for the disk */
static _Atomic int64_t flush_add_us; /* or wait for so much longer */

#define COUNTED __attribute__((visibility("default")))

static int counted_flush(int fd, long call)
{
    const int64_t us = atomic_load(&flush_add_us);
    const struct timespec nap = {us / 1000000, us % 1000000 * 1000};

    atomic_fetch_add(&flushes, 1);
    if (us > 0)
        nanosleep(&nap, NULL);
    return atomic_load(&no_flush) ? 0 : (int)syscall(call, fd);
}

COUNTED int fdatasync(int fd)
{
    return counted_flush(fd, SYS_fdatasync);
}

COUNTED int fsync(int fd)
{
    return counted_flush(fd, SYS_fsync);
}

COUNTED int msync(void *addr, size_t len, int flags)
{
    atomic_fetch_add(&flushes, 1);
    return (int)syscall(SYS_msync, addr, len, flags);
}

/* LMDB writes its meta page through a descriptor that waits for the disk by itself. */
static bool is_flush(int fd)
{
    return (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
}

static void count_write(int fd, size_t len)
{
    if (is_flush(fd))
        atomic_fetch_add(&flushes, 1);
    else
        atomic_fetch_add(&bytes_written, len);
}

/* The same file without the waiting. */
static ssize_t write_at_once(int fd, const void *ptr, size_t len, off_t offset)
{
    char path[32];
    ssize_t n = -1;
    int other;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    other = open(path, O_WRONLY | O_CLOEXEC);
    if (other < 0)
        return n;
    n = syscall(SYS_pwrite64, other, ptr, len, offset);
    close(other);
    return n;
}

COUNTED ssize_t pwrite(int fd, const void *ptr, size_t len, off_t offset)
{
    count_write(fd, len);
    if (atomic_load(&no_flush) && is_flush(fd))
        return write_at_once(fd, ptr, len, offset);
    return syscall(SYS_pwrite64, fd, ptr, len, offset);
}

COUNTED ssize_t pwrite64(int fd, const void *ptr, size_t len, off64_t offset)
{
    return pwrite(fd, ptr, len, offset);
}

COUNTED ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    size_t len = 0;

    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    count_write(fd, len);
    return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

/* ---- small things ---- */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "durable updates: %s failed\n", what);
    exit(1);
}

static void must_be_ok(credstore_status status, const credstore_error *err, const char *what)
{
    if (status == CREDSTORE_OK)
        return;
    fprintf(stderr, "durable updates: %s: %s: %s\n", what, credstore_status_name((int32_t)status),
            err->message);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the store ---- */

enum { DESCRIPTION = 305, RAW_PUTS = 4, WRITERS_MAX = 64, BENCH_PATH = TEST_PATH_MAX + 16 };

typedef struct bench {
    size_t records;
    char (*ids)[64];
    credstore *store, *single; /* single: groups of one, on the same file */
    credstore_actor actor;
    char folder[TEST_PATH_MAX], path[BENCH_PATH], raw_path[BENCH_PATH];
    MDB_env *env; /* of the copy */
    MDB_dbi dbi;
    size_t value_len[RAW_PUTS]; /* record, history, audit, head: as an update writes them */
    size_t page;
    _Atomic uint64_t numbers; /* of what is written, so that it is never the same */
} bench;

static void describe(bench *b, char out[DESCRIPTION + 1])
{
    memset(out, 'a', DESCRIPTION);
    out[DESCRIPTION] = '\0';
    snprintf(out, 20, "%019llu", (unsigned long long)atomic_fetch_add(&b->numbers, 1));
    out[19] = 'a';
}

static credstore *open_single(const char *path)
{
    static credstore_storage plain;
    credstore_options options = {.struct_size = sizeof options, .storage = &plain};
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err = {0};

    plain = cs_storage_lmdb;
    plain.features = 0;
    options.catalogue = test_catalogue;
    options.catalogue_count = test_catalogue_count;
    must_be_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err), &err, "key");
    options.key = key;
    must_be_ok(cs_lmdb_open(path, 0, &options.storage_ctx, &err), &err, "open");
    must_be_ok(credstore_open(NULL, &options, &store, &err), &err, "open");
    credstore_key_source_free(key);
    return store;
}

static void update_one(bench *b, credstore *store, size_t record)
{
    char text[DESCRIPTION + 1];
    const credstore_call call = test_call(&b->actor);
    credstore_api_key_patch patch = {.struct_size = sizeof patch};
    credstore_error err;

    describe(b, text);
    credstore_text_init(&patch.description, CREDSTORE_SET, text, DESCRIPTION);
    must_be_ok(credstore_api_key_update(store, &call, b->ids[record], &patch, NULL, &err), &err,
               "update");
}

static void fill(bench *b)
{
    const credstore_call call = test_call(&b->actor);

    for (size_t i = 0; i < b->records; i++) {
        char text[DESCRIPTION + 1];
        credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                         .permissions = CREDSTORE_STRINGS(NULL, 0)};
        const credstore_api_key *view = NULL;
        credstore_secret *key = NULL;
        credstore_error err;

        describe(b, text);
        credstore_text_init(&patch.description, CREDSTORE_SET, text, DESCRIPTION);
        must_be_ok(credstore_api_key_issue(b->store, &call, NULL, &patch, &key, &view, &err), &err,
                   "issue");
        snprintf(b->ids[i], sizeof b->ids[i], "%s", view->id);
        credstore_free(view);
        credstore_secret_free(key);
    }
}

/* ---- the floor: LMDB alone, on a copy of the file ---- */

static void raw_keys(const bench *b, size_t record, uint64_t number, cs_key keys[RAW_PUTS])
{
    const cs_locator at = {.kind = CREDSTORE_KIND_API_KEY, .id = cs_bytes_of(b->ids[record])};

    cs_key_record(&keys[0], &at);
    cs_key_history(&keys[1], &at, number);
    cs_key_audit(&keys[2], 0, number);
    cs_key_head(&keys[3], 0);
}

/* puts: bit i = keys[i] of above. */
static void raw_one(bench *b, size_t record, unsigned puts)
{
    const uint64_t number = atomic_fetch_add(&b->numbers, 1);
    uint8_t value[1024] = {0};
    MDB_txn *txn;
    cs_key keys[RAW_PUTS];

    memcpy(value, &number, sizeof number);
    raw_keys(b, record, (UINT64_C(1) << 32) + number, keys);
    must(mdb_txn_begin(b->env, NULL, 0, &txn) == 0, "a raw transaction");
    for (size_t i = 0; i < RAW_PUTS; i++) {
        MDB_val k = {keys[i].len, keys[i].ptr}, v = {b->value_len[i], value};

        if ((puts >> i & 1) != 0)
            must(mdb_put(txn, b->dbi, &k, &v, 0) == 0, "a raw put");
    }
    must(mdb_txn_commit(txn) == 0, "a raw commit");
}

/* The first record was updated once, as the last thing that happened. */
static void take_lengths(bench *b)
{
    const uint64_t seq = test_generation(b->store); /* a commit an entry, so far */
    cs_key keys[RAW_PUTS], history;
    MDB_stat stat;
    MDB_txn *txn;

    raw_keys(b, 0, 1, keys);
    history = keys[1];
    raw_keys(b, 0, seq, keys);
    keys[1] = history;
    must(mdb_txn_begin(b->env, NULL, MDB_RDONLY, &txn) == 0 &&
             mdb_dbi_open(txn, NULL, 0, &b->dbi) == 0,
         "opening the copy");
    for (size_t i = 0; i < RAW_PUTS; i++) {
        MDB_val k = {keys[i].len, keys[i].ptr}, v = {0, NULL};

        must(mdb_get(txn, b->dbi, &k, &v) == 0 && v.mv_size <= 1024, "looking at a value");
        b->value_len[i] = v.mv_size;
    }
    must(mdb_env_stat(b->env, &stat) == 0, "mdb_env_stat");
    b->page = stat.ms_psize;
    mdb_txn_commit(txn);
}

static void copy_raw(bench *b)
{
    char from[BENCH_PATH + 16], to[BENCH_PATH + 16];
    static char block[1 << 20];
    ssize_t n;
    int in, out;

    snprintf(from, sizeof from, "%s/data.mdb", b->path);
    snprintf(to, sizeof to, "%s/data.mdb", b->raw_path);
    must(mkdir(b->raw_path, 0700) == 0, "mkdir");
    in = open(from, O_RDONLY | O_CLOEXEC);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(in >= 0 && out >= 0, "opening a copy");
    while ((n = read(in, block, sizeof block)) > 0)
        must(write(out, block, (size_t)n) == n, "copying");
    must(n == 0 && syscall(SYS_fsync, out) == 0 && syscall(SYS_fsync, in) == 0, "copying");
    close(in);
    close(out);
    must(mdb_env_create(&b->env) == 0 && mdb_env_set_mapsize(b->env, (size_t)16 << 30) == 0 &&
             mdb_env_open(b->env, b->raw_path, MDB_NOTLS | MDB_NORDAHEAD, 0600) == 0,
         "opening the copy");
}

static void begin_bench(bench *b, size_t records)
{
    memset(b, 0, sizeof *b);
    b->records = records;
    b->ids = calloc(records, sizeof *b->ids);
    must(b->ids != NULL, "calloc");
    test_folder(b->folder);
    snprintf(b->path, sizeof b->path, "%s/store", b->folder);
    snprintf(b->raw_path, sizeof b->raw_path, "%s/raw", b->folder);
    atomic_store(&no_flush, true);
    b->store = open_lmdb(b->path);
    b->actor = test_root(b->store);
    fill(b);
    update_one(b, b->store, 0);
    atomic_store(&no_flush, false);
    b->single = open_single(b->path);
    copy_raw(b);
    take_lengths(b);
}

static void end_bench(bench *b)
{
    mdb_env_close(b->env);
    credstore_close(b->single);
    credstore_close(b->store);
    test_folder_remove(b->folder);
    free(b->ids);
}

/* ---- writers ---- */

typedef enum way { GROUPED, SINGLE, RAW_PUT, RAW_FLOOR, RAW_ALL, WAYS } way;

/* RAW_PUT: the record alone. RAW_FLOOR: it and its audit entry. RAW_ALL: what an update puts. */
static const unsigned puts_of[WAYS] = {0, 0, 1, 1 | 4, 1 | 2 | 4 | 8};

typedef struct cost {
    uint64_t updates;
    double seconds, flushes, pages; /* the latter two: an update */
} cost;

typedef struct crew {
    bench *b;
    way way;
    uint64_t target; /* updates; 0 = until the end */
    double end;
    _Atomic uint64_t taken, made;
} crew;

typedef struct worker {
    pthread_t thread;
    crew *crew;
    uint64_t random;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    crew *c = w->crew;

    while (c->target == 0 ? now_s() < c->end : atomic_fetch_add(&c->taken, 1) < c->target) {
        const size_t record = (size_t)(test_random(&w->random) % c->b->records);

        if (c->way == GROUPED || c->way == SINGLE)
            update_one(c->b, c->way == GROUPED ? c->b->store : c->b->single, record);
        else
            raw_one(c->b, record, puts_of[c->way]);
        atomic_fetch_add(&c->made, 1);
    }
    return NULL;
}

/* So many writers, for so many updates or, if that is 0, so many seconds. */
static cost run_writers(bench *b, way how, unsigned writers, uint64_t updates, double seconds)
{
    static uint64_t seed = 1;
    crew c = {.b = b, .way = how, .target = updates};
    worker workers[WRITERS_MAX];
    const uint64_t flushed = atomic_load(&flushes), written = atomic_load(&bytes_written);
    const double start = now_s();
    cost out;

    c.end = start + seconds;
    for (unsigned i = 0; i < writers; i++) {
        workers[i].crew = &c;
        workers[i].random = seed++;
        must(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "a thread");
    }
    for (unsigned i = 0; i < writers; i++)
        pthread_join(workers[i].thread, NULL);
    out.seconds = now_s() - start;
    out.updates = atomic_load(&c.made);
    must(out.updates > 0, "any update");
    out.flushes = (double)(atomic_load(&flushes) - flushed) / (double)out.updates;
    out.pages =
        (double)(atomic_load(&bytes_written) - written) / (double)b->page / (double)out.updates;
    return out;
}

#endif
