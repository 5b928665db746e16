/* SPDX-License-Identifier: MIT
 *
 * For tests of the LMDB engine by itself, most of them about several processes: a folder, a sink,
 * children and short transactions. A child checks with CHILD(), which ends it with a line on
 * stderr. Included once a program: it brings the two functions of the sink.
 */
#ifndef TESTS_STORAGE_ENGINE_H
#define TESTS_STORAGE_ENGINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "credstore/backend.h"
#include "mem.h"
#include "../quick.h"
#include "storage/engines.h"
#include "storage/lmdb_env.h"

enum {
    OK = CREDSTORE_STORAGE_OK,
    AGAIN = CREDSTORE_STORAGE_CONFLICT,
    BUSY = CREDSTORE_STORAGE_BUSY,
    FULL = CREDSTORE_STORAGE_FULL,
    PATH_SIZE = 256,
    CHILD_SECONDS = 60
};

#define CHILD(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition);                         \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* ---- the sink: values are a number and then one byte, repeated ---- */

struct credstore_sink {
    size_t pairs, torn;   /* torn: values that are not what was ever written */
    uint64_t first, last; /* the numbers of the first and the last pair */
    const uint8_t *value; /* of the last pair; good in a read transaction alone */
    size_t len;
};

static inline uint8_t filler(uint64_t number)
{
    return (uint8_t)(number * 7 + 1);
}

static inline bool is_torn(const uint8_t *value, size_t len)
{
    uint64_t number;

    if (len < sizeof number)
        return true;
    memcpy(&number, value, sizeof number);
    for (size_t i = sizeof number; i < len; i++)
        if (value[i] != filler(number))
            return true;
    return false;
}

static inline int32_t take(credstore_sink *sink, credstore_bytes value)
{
    sink->value = value.ptr;
    sink->len = value.len;
    sink->torn += is_torn(value.ptr, value.len) ? 1 : 0;
    if (value.len >= sizeof sink->last)
        memcpy(&sink->last, value.ptr, sizeof sink->last);
    if (sink->pairs++ == 0)
        sink->first = sink->last;
    return OK;
}

int32_t credstore_sink_borrow(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    (void)key;
    return take(sink, value);
}

int32_t credstore_sink_copy(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    (void)key;
    return take(sink, value);
}

/* ---- folders ---- */

static const credstore_storage *const db = &cs_storage_lmdb;
static char root[PATH_SIZE / 2]; /* of all tests */
static char store[PATH_SIZE];    /* a path, new for each test */

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int make_root(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(root, sizeof root, "%.64s/engine_test.XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(root) == NULL ? -1 : 0;
}

/* The same where nothing waits for a disk. */
static inline int make_quick_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "%.64s/engine_test.XXXXXX", test_quick_base());
    return mkdtemp(root) == NULL ? -1 : 0;
}

static inline int remove_root(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

static inline int fresh(void **state)
{
    static int counter;

    (void)state;
    snprintf(store, sizeof store, "%s/s%d", root, counter++);
    return 0;
}

static inline const char *in_store(const char *name)
{
    static char path[PATH_SIZE + 64];

    snprintf(path, sizeof path, "%s/%s", store, name);
    return path;
}

/* ---- time ---- */

static inline void nap_us(long us)
{
    const struct timespec t = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&t, NULL);
}

static inline int64_t real_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- children ---- */

typedef void (*child_fn)(void *arg);

static inline pid_t start_child(child_fn fn, void *arg)
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
static inline int end_of(pid_t pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static inline int run_child(child_fn fn, void *arg)
{
    return end_of(start_child(fn, arg));
}

static inline void skip_because(const char *why)
{
    print_message("skipped: %s\n", why);
    skip();
}

/* A pipe each way between a test and its children; one byte is one signal. */
typedef struct talk {
    int up[2], down[2];
} talk;

static inline void talk_open(talk *t)
{
    assert_int_equal(pipe2(t->up, O_CLOEXEC), 0);
    assert_int_equal(pipe2(t->down, O_CLOEXEC), 0);
}

static inline void talk_close(talk *t)
{
    close(t->up[0]);
    close(t->up[1]);
    close(t->down[0]);
    close(t->down[1]);
}

static inline void tell(int fd)
{
    if (write(fd, "x", 1) != 1)
        _exit(1);
}

static inline bool hear(int fd)
{
    char c;

    return read(fd, &c, 1) == 1;
}

/* ---- the store ---- */

/* A child leaves its parent's handles open: here a leak checker finds them. */
static void *volatile opened[64];
static atomic_uint opened_count;

static inline void *open_store(uint32_t flags)
{
    credstore_error err = {0};
    void *ctx = NULL;

    if (cs_lmdb_open(store, flags, &ctx, &err) != CREDSTORE_OK)
        fprintf(stderr, "open: %d %d %s\n", err.status, err.native, err.message);
    opened[atomic_fetch_add(&opened_count, 1) % 64] = ctx;
    return ctx;
}

static inline credstore_status try_open(uint32_t flags)
{
    credstore_error err = {0};
    void *ctx = NULL;
    const credstore_status status = cs_lmdb_open(store, flags, &ctx, &err);

    if (status == CREDSTORE_OK)
        db->close(ctx);
    return status;
}

static inline credstore_bytes b(const char *text)
{
    return cs_bytes_of(text);
}

/* A value of `len` bytes, at least 8: malloc'ed. */
static inline uint8_t *make_value(uint64_t number, size_t len)
{
    uint8_t *value = malloc(len);

    if (value == NULL)
        abort();
    memset(value, filler(number), len);
    memcpy(value, &number, sizeof number);
    return value;
}

static inline int32_t put_number(void *ctx, void *txn, const char *key, uint64_t number, size_t len)
{
    uint8_t *value = make_value(number, len);
    const int32_t rc = db->put(ctx, txn, b(key), cs_bytes(value, len));

    free(value);
    return rc;
}

static inline int32_t put_once(void *ctx, const char *key, uint64_t number, size_t len)
{
    void *txn = NULL;
    int32_t rc = db->begin(ctx, 1, -1, &txn);

    if (rc != OK)
        return rc;
    rc = put_number(ctx, txn, key, number, len);
    if (rc == OK)
        return db->commit(ctx, txn);
    db->abort(ctx, txn);
    return rc;
}

/* As the core does it: again, when the engine made room. */
static inline int32_t put_one(void *ctx, const char *key, uint64_t number, size_t len)
{
    int32_t rc;

    do
        rc = put_once(ctx, key, number, len);
    while (rc == AGAIN);
    return rc;
}

/* The number at the key; UINT64_MAX if there is none or it is torn. */
static inline uint64_t number_at(void *ctx, const char *key)
{
    credstore_sink sink = {0};
    void *txn = NULL;
    int32_t rc = db->begin(ctx, 0, 0, &txn);

    if (rc != OK)
        return UINT64_MAX;
    rc = db->get(ctx, txn, b(key), &sink);
    db->abort(ctx, txn);
    return rc == OK && sink.torn == 0 ? sink.last : UINT64_MAX;
}

#endif
