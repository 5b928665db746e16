/* SPDX-License-Identifier: MIT
 *
 * Power cuts. The program stands between LMDB and the kernel: every write to
 * the data file and every flush is recorded, with a mark where a call of the
 * library returned. Then states are built as a disk may have them after the
 * current went away: what was flushed, and of all that was written since, any
 * sectors of 512 bytes. Each must open and be whole: every acknowledged change
 * there, at most the one under way beside them, the audit unbroken.
 * CREDSTORE_STATES: how many.
 *
 * With MDB_NOSYNC planted the same must fail: else nothing was tested.
 */
#define _GNU_SOURCE /* RTLD_NEXT */

#include "../support.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECTOR = 512, OPS = 120, KEYS_EVERY = 4, EVENTS_MAX = 40000, IMAGE_MAX = 16 << 20 };

/* ---- what was recorded ---- */

typedef enum step { WRITE, WRITE_THROUGH, FLUSH, DONE } step; /* DONE: a call returned */

typedef struct event {
    step what;
    size_t offset, len;
    uint8_t *bytes;
} event;

static struct {
    bool on;
    dev_t dev;
    ino_t ino;
    size_t count;
    event all[EVENTS_MAX];
} tape;

static bool is_data_file(int fd)
{
    struct stat st;

    return tape.on && fstat(fd, &st) == 0 && st.st_dev == tape.dev && st.st_ino == tape.ino;
}

static void record(step what, const void *bytes, size_t len, off_t offset)
{
    event *e = &tape.all[tape.count];

    if (tape.count == EVENTS_MAX)
        abort();
    e->what = what;
    e->len = len;
    e->offset = (size_t)offset;
    e->bytes = NULL;
    if (len > 0) {
        e->bytes = malloc(len);
        memcpy(e->bytes, bytes, len);
    }
    tape.count++;
}

static void record_write(int fd, const void *bytes, size_t len, off_t offset)
{
    const bool through = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;

    record(through ? WRITE_THROUGH : WRITE, bytes, len, offset);
}

/* ---- between LMDB and the kernel ---- */

#pragma GCC visibility push(default)
#define NEXT(name) ((name##_call *)(uintptr_t)dlsym(RTLD_NEXT, #name))

typedef ssize_t pwrite_call(int fd, const void *bytes, size_t len, off_t offset);
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    const ssize_t done = NEXT(pwrite)(fd, bytes, len, offset);

    if (done > 0 && is_data_file(fd))
        record_write(fd, bytes, (size_t)done, offset);
    return done;
}

typedef ssize_t write_call(int fd, const void *bytes, size_t len);
ssize_t write(int fd, const void *bytes, size_t len)
{
    const bool ours = is_data_file(fd);
    const off_t at = ours ? lseek(fd, 0, SEEK_CUR) : 0;
    const ssize_t done = NEXT(write)(fd, bytes, len);

    if (done > 0 && ours)
        record_write(fd, bytes, (size_t)done, at);
    return done;
}

typedef ssize_t writev_call(int fd, const struct iovec *parts, int count);
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    const bool ours = is_data_file(fd);
    off_t at = ours ? lseek(fd, 0, SEEK_CUR) : 0;
    const ssize_t done = NEXT(writev)(fd, parts, count);
    size_t left = done > 0 && ours ? (size_t)done : 0;

    for (int i = 0; i < count && left > 0; i++) {
        const size_t len = parts[i].iov_len < left ? parts[i].iov_len : left;

        record_write(fd, parts[i].iov_base, len, at);
        at += (off_t)len;
        left -= len;
    }
    return done;
}

typedef int fdatasync_call(int fd);
int fdatasync(int fd)
{
    if (is_data_file(fd))
        record(FLUSH, NULL, 0, 0);
    return tape.on ? 0 : NEXT(fdatasync)(fd); /* the states are in memory: no need to wait */
}

typedef int fsync_call(int fd);
int fsync(int fd)
{
    if (is_data_file(fd))
        record(FLUSH, NULL, 0, 0);
    return tape.on ? 0 : NEXT(fsync)(fd);
}
#pragma GCC visibility pop

static bool nosync;

int __real_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    return __real_mdb_env_open(env, path, flags | (nosync ? MDB_NOSYNC : 0), mode);
}

/* ---- the work ---- */

/* What the store shows after so many calls. */
typedef struct shown {
    uint64_t revisions[8];
    size_t keys;
} shown;

static shown ledger[OPS + 1];

static void issue(test_store *t, const credstore_call *call)
{
    static const char *const none[] = {NULL};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("one of many"),
                                           .permissions = CREDSTORE_STRINGS(none, 0)};
    credstore_secret *token = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_api_key_issue(t->store, call, NULL, &patch, &token, NULL, &err), &err);
    credstore_secret_free(token);
}

static void change(test_store *t, const credstore_call *call, unsigned op, shown *after)
{
    const size_t i = op % test_kind_count;
    const test_kind *k = &test_kinds[i];
    const test_at at = test_at_of(k);
    test_patch patch;
    credstore_error err;

    if (op % KEYS_EVERY == KEYS_EVERY - 1) {
        issue(t, call);
        after->keys++;
        return;
    }
    test_patch_whole(k, &patch, op + 2);
    assert_status(CREDSTORE_OK, k->update(t->store, call, &at, patch.u.bytes, NULL, &err), &err);
    after->revisions[i]++;
}

static void begin_tape(const test_store *t, uint8_t *image, size_t *size)
{
    char path[TEST_PATH_MAX + 16];
    struct stat st;
    int fd;

    (void)snprintf(path, sizeof path, "%s/data.mdb", t->path);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0 && st.st_size < IMAGE_MAX);
    assert_int_equal(pread(fd, image, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    *size = (size_t)st.st_size;
    tape.dev = st.st_dev;
    tape.ino = st.st_ino;
    tape.on = true;
}

/* Everything is flushed when this begins: image is the file. */
static void record_work(test_store *t, uint8_t *image, size_t *size)
{
    credstore_actor root;
    credstore_call call;

    test_open(t, TEST_LMDB);
    root = test_root(t->store);
    call = test_call(&root);
    memset(ledger, 0, sizeof ledger);
    for (size_t i = 0; i < test_kind_count; i++) {
        credstore_free(test_make(t, &test_kinds[i], &root, 1));
        ledger[0].revisions[i] = 1;
        ledger[0].keys += test_kinds[i].kind->id == CREDSTORE_KIND_API_KEY;
    }
    begin_tape(t, image, size);
    for (unsigned op = 0; op < OPS; op++) {
        ledger[op + 1] = ledger[op];
        change(t, &call, op, &ledger[op + 1]);
        record(DONE, NULL, 0, 0);
    }
    tape.on = false;
    credstore_close(t->store);
    t->store = NULL;
}

/* ---- states ---- */

typedef struct disk {
    uint8_t *durable, *state, *file; /* file: what the data file holds */
    size_t durable_size, state_size, file_size;
    size_t first; /* the first event that may not have reached the disk */
    unsigned done;
    int fd;
    uint64_t chance;
} disk;

static void apply(uint8_t *image, size_t *size, const event *e, size_t from, size_t to)
{
    memcpy(image + e->offset + from, e->bytes + from, to - from);
    if (e->offset + to > *size)
        *size = e->offset + to;
}

/* How a cut treats what was not flushed: nothing of it, all, some, all but one,
 * one, a beginning. */
enum { NOTHING, ALL, SOME, ALL_BUT_ONE, ONE, BEGINNING, WAYS };

static bool reaches(disk *d, unsigned way, size_t n, size_t chosen)
{
    switch (way) {
    case NOTHING:
        return false;
    case ALL:
        return true;
    case ALL_BUT_ONE:
        return n != chosen;
    case ONE:
        return n == chosen;
    case BEGINNING:
        return n < chosen;
    default:
        return (test_random(&d->chance) & 1) != 0;
    }
}

static size_t sectors_of(const event *e)
{
    return e->what == WRITE || e->what == WRITE_THROUGH ? (e->len + SECTOR - 1) / SECTOR : 0;
}

/* The disk after a cut behind event `last`, which itself may be under way. */
static void cut(disk *d, size_t last)
{
    const unsigned way = (unsigned)(test_random(&d->chance) % WAYS);
    size_t total = 0, n = 0, chosen;

    for (size_t i = d->first; i <= last; i++)
        total += sectors_of(&tape.all[i]);
    chosen = total == 0 ? 0 : (size_t)(test_random(&d->chance) % total);
    memcpy(d->state, d->durable, d->durable_size);
    if (d->state_size > d->durable_size)
        memset(d->state + d->durable_size, 0, d->state_size - d->durable_size);
    d->state_size = d->durable_size;
    for (size_t i = d->first; i <= last; i++) {
        const event *e = &tape.all[i];

        for (size_t s = 0; s < sectors_of(e); s++, n++) {
            const size_t end = (s + 1) * SECTOR < e->len ? (s + 1) * SECTOR : e->len;

            if (reaches(d, way, n, chosen))
                apply(d->state, &d->state_size, e, s * SECTOR, end);
        }
    }
}

/* Brings the data file to the state by what differs. */
static void put_file(disk *d)
{
    enum { PAGE = 4096 };

    for (size_t at = 0; at < d->state_size; at += PAGE) {
        const size_t len = d->state_size - at < PAGE ? d->state_size - at : PAGE;

        if (at + len <= d->file_size && memcmp(d->state + at, d->file + at, len) == 0)
            continue;
        assert_int_equal(pwrite(d->fd, d->state + at, len, (off_t)at), (ssize_t)len);
        memcpy(d->file + at, d->state + at, len);
    }
    if (d->file_size != d->state_size)
        assert_int_equal(ftruncate(d->fd, (off_t)d->state_size), 0);
    d->file_size = d->state_size;
}

/* Everything up to here is on the disk. */
static void settle(disk *d, size_t last)
{
    for (size_t i = d->first; i <= last; i++)
        if (sectors_of(&tape.all[i]) > 0)
            apply(d->durable, &d->durable_size, &tape.all[i], 0, tape.all[i].len);
    d->first = last + 1;
}

/* ---- is it whole? ---- */

static size_t count_keys(credstore *store, const credstore_call *call, credstore_error *err)
{
    credstore_page page = {.struct_size = sizeof page, .limit = 100};
    const credstore_api_key_page *found = NULL;
    size_t count = 0;

    if (credstore_api_key_list(store, call, &page, &found, err) != CREDSTORE_OK)
        return SIZE_MAX;
    count = found->count;
    credstore_free(found);
    return count;
}

/* What the store shows; false if it cannot. */
static bool look(credstore *store, shown *out, credstore_error *err)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", TEST_TENANT);
    const credstore_actor root = test_root(store);
    const credstore_call call = test_call(&root), by_host = test_call(&system);
    bool ok = true;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < test_kind_count && ok; i++) {
        const test_at at = test_at_of(&test_kinds[i]);
        credstore_secret *secret = NULL;
        const void *view = NULL;

        ok = test_kinds[i].get(store, &call, &at, &view, err) == CREDSTORE_OK;
        if (ok)
            out->revisions[i] = test_revision(&test_kinds[i], view);
        if (ok && test_kinds[i].kind->id == CREDSTORE_KIND_CHECKBOOK)
            ok = test_kinds[i].reveal(store, &by_host, &at, CREDSTORE_CHECKBOOK_SECRET_KEY, &secret,
                                      err) == CREDSTORE_OK;
        credstore_secret_free(secret);
        credstore_free(view);
    }
    if (ok)
        out->keys = count_keys(store, &call, err);
    return ok && out->keys != SIZE_MAX &&
           credstore_audit_verify(store, &by_host, NULL, NULL, err) == CREDSTORE_OK;
}

static bool is_whole(test_store *t, const disk *d, credstore_error *err)
{
    const unsigned next = d->done < OPS ? d->done + 1 : d->done;
    shown now;
    bool ok;

    t->options.flags = CREDSTORE_OPEN_READ_ONLY;
    ok = test_reopen(t, err) == CREDSTORE_OK && look(t->store, &now, err);
    credstore_close(t->store);
    t->store = NULL;
    return ok && (memcmp(&now, &ledger[d->done], sizeof now) == 0 ||
                  memcmp(&now, &ledger[next], sizeof now) == 0);
}

/* Builds states all along the tape; how many were not whole. */
static unsigned long cut_everywhere(test_store *t, disk *d, unsigned long states,
                                    unsigned long *built)
{
    unsigned long bad = 0;

    for (size_t i = 0; i < tape.count; i++) {
        const event *e = &tape.all[i];
        const unsigned long until = states * (i + 1) / tape.count;

        while (*built < until) {
            credstore_error err = {0};

            cut(d, i);
            put_file(d);
            (*built)++;
            if (is_whole(t, d, &err))
                continue;
            if (bad++ < 3 && !nosync)
                print_message("after event %zu, %u calls: %s %s\n", i, d->done,
                              credstore_status_name(err.status), err.message);
        }
        if (e->what == DONE)
            d->done++;
        else if (e->what == FLUSH)
            settle(d, i);
        else if (e->what == WRITE_THROUGH) /* it alone, whatever waits before it */
            apply(d->durable, &d->durable_size, e, 0, e->len);
    }
    return bad;
}

static void free_tape(void)
{
    for (size_t i = 0; i < tape.count; i++)
        free(tape.all[i].bytes);
    tape.count = 0;
}

static unsigned long run(unsigned long states)
{
    test_store t;
    char path[TEST_PATH_MAX + 16];
    unsigned long bad, built = 0;
    disk d = {.chance = test_seed("powercut_test")};

    d.durable = calloc(1, IMAGE_MAX);
    d.state = calloc(1, IMAGE_MAX);
    d.file = calloc(1, IMAGE_MAX);
    record_work(&t, d.durable, &d.durable_size);
    (void)snprintf(path, sizeof path, "%s/data.mdb", t.path);
    d.fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(d.fd >= 0);
    bad = cut_everywhere(&t, &d, states, &built);
    print_message("%lu states from %zu events, %u calls%s: %lu bad\n", built, tape.count, OPS,
                  nosync ? ", MDB_NOSYNC planted" : "", bad);
    close(d.fd);
    free_tape();
    free(d.durable);
    free(d.state);
    free(d.file);
    test_close(&t);
    return bad;
}

static void no_state_is_bad(void **state)
{
    (void)state;
    nosync = false;
    assert_int_equal(run(test_number("CREDSTORE_STATES", 20000)), 0);
}

/* In a process of its own: what a bad state does to LMDB may end it. */
static void finds_nosync(void **state)
{
    pid_t child;
    int status = 0;

    (void)state;
    (void)fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGSEGV, SIG_DFL); /* cmocka's would go on in the parent's place */
        (void)signal(SIGBUS, SIG_DFL);
        (void)signal(SIGABRT, SIG_DFL);
        nosync = true;
        _exit(run(1000) > 0 ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    print_message("MDB_NOSYNC planted: %s\n",
                  WIFSIGNALED(status) ? "a state ended the process" : "bad states found");
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_state_is_bad),
        cmocka_unit_test(finds_nosync),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
