/* SPDX-License-Identifier: MIT
 *
 * Root keys from bytes and from files: what is taken, what is refused, and how a key file is made.
 * Linked with -Wl,--wrap for the functions through which the system is made to fail.
 */
#define _DEFAULT_SOURCE /* getrandom */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keysource/keysource.h"
#include "mem.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { KEY_LEN = CS_ROOT_KEY_LEN, NOBODY = 65534 };

/* ---- a system that fails on demand ------------------------------------------------------------
 */

enum { ALLOC, RANDOM, READ, WRITE, FSYNC, FCHMOD, LINK, FSTAT, CALLS };

enum { CANCELLED = -1 };

/* The fail_at-th call of a function fails with the code; 0 is none. CANCELLED: it does not fail,
   but the thread is cancelled right before. */
static struct {
    atomic_int calls, fail_at, code;
} traps[CALLS];
static struct {
    char from[192]; /* a file that takes the name just before our link() does, if not "" */
} late;
static atomic_bool piecemeal; /* read and write move one byte at a time, interrupted in between */

static bool fails(size_t call)
{
    if (atomic_fetch_add(&traps[call].calls, 1) + 1 != atomic_load(&traps[call].fail_at))
        return false;
    if (atomic_load(&traps[call].code) == CANCELLED)
        return pthread_cancel(pthread_self()) != 0;
    errno = atomic_load(&traps[call].code);
    return true;
}

static void trap(size_t call, int nth, int code)
{
    atomic_store(&traps[call].fail_at, nth);
    atomic_store(&traps[call].code, code);
}

static void reset(void)
{
    for (size_t i = 0; i < CALLS; i++) {
        atomic_store(&traps[i].calls, 0);
        trap(i, 0, 0);
    }
    atomic_store(&piecemeal, false);
}

void *__real_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size)
{
    return fails(ALLOC) ? NULL : __real_cs_alloc(count, size);
}

ssize_t __real_getrandom(void *out, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags)
{
    return fails(RANDOM) ? -1 : __real_getrandom(out, len, flags);
}

/* Whether a read or write of more than a byte is to be interrupted, and how much of it is done. */
static bool interrupted(size_t call, size_t *len)
{
    if (!atomic_load(&piecemeal))
        return false;
    if (atomic_load(&traps[call].calls) % 2 == 0) {
        errno = EINTR;
        return true;
    }
    *len = 1;
    return false;
}

ssize_t __real_read(int fd, void *out, size_t len);
ssize_t __wrap_read(int fd, void *out, size_t len);
ssize_t __wrap_read(int fd, void *out, size_t len)
{
    return fails(READ) || interrupted(READ, &len) ? -1 : __real_read(fd, out, len);
}

ssize_t __real_write(int fd, const void *ptr, size_t len);
ssize_t __wrap_write(int fd, const void *ptr, size_t len);
ssize_t __wrap_write(int fd, const void *ptr, size_t len)
{
    return fails(WRITE) || interrupted(WRITE, &len) ? -1 : __real_write(fd, ptr, len);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    return fails(FSYNC) ? -1 : __real_fsync(fd);
}

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
    return fails(FCHMOD) ? -1 : __real_fchmod(fd, mode);
}

int __real_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to)
{
    if (late.from[0] != '\0')
        (void)rename(late.from, to);
    return fails(LINK) ? -1 : __real_link(from, to);
}

int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
    return fails(FSTAT) ? -1 : __real_fstat(fd, st);
}

/* ---- a folder ----------------------------------------------------------------------------------
 */

typedef struct place {
    char folder[64], path[128];
} place;

static size_t entries(const char *folder)
{
    DIR *dir = opendir(folder);
    size_t count = 0;

    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += e->d_name[0] != '.';
    (void)closedir(dir);
    return count;
}

static int setup(void **state)
{
    place *p = calloc(1, sizeof *p);

    if (p == NULL)
        return -1;
    reset();
    (void)snprintf(p->folder, sizeof p->folder, "/tmp/keysource_test.XXXXXX");
    if (mkdtemp(p->folder) == NULL)
        return -1;
    (void)snprintf(p->path, sizeof p->path, "%s/root.key", p->folder);
    *state = p;
    return 0;
}

/* One level deep is all that the tests make. */
static int teardown(void **state)
{
    place *p = *state;
    DIR *dir = opendir(p->folder);
    char path[512];

    for (const struct dirent *e = dir ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        (void)snprintf(path, sizeof path, "%s/%s", p->folder, e->d_name);
        (void)(unlink(path) != 0 && rmdir(path) != 0);
    }
    if (dir != NULL)
        (void)closedir(dir);
    (void)rmdir(p->folder);
    free(p);
    return 0;
}

static void write_file(const char *path, size_t len, mode_t mode)
{
    int fd;

    (void)unlink(path); /* one that may not be written to */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < len; i++) {
        const uint8_t byte = (uint8_t)(i + 1);

        assert_int_equal(__real_write(fd, &byte, 1), 1);
    }
    assert_int_equal(__real_fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static void expect_written(const credstore_key_source *source)
{
    const uint8_t *key = cs_secret_bytes(source->key);

    assert_int_equal(credstore_secret_len(source->key), KEY_LEN);
    for (size_t i = 0; i < KEY_LEN; i++)
        assert_int_equal(key[i], i + 1);
}

static void refused(const char *path, uint32_t flags, credstore_status status, const char *field,
                    int32_t native)
{
    credstore_key_source *source = (credstore_key_source *)(void *)&source;
    credstore_error err = {.status = 77};

    assert_int_equal(credstore_key_file(path, flags, &source, &err), status);
    assert_null(source);
    assert_int_equal(err.status, status);
    assert_string_equal(err.field, field);
    assert_int_equal(err.native, native);
    assert_true(strlen(err.message) > 0);
}

static credstore_key_source *taken(const char *path, uint32_t flags)
{
    credstore_key_source *source = NULL;
    credstore_error err = {.status = 77};

    assert_int_equal(credstore_key_file(path, flags, &source, &err), CREDSTORE_OK);
    assert_non_null(source);
    assert_int_equal(err.status, CREDSTORE_OK);
    return source;
}

/* ---- bytes -------------------------------------------------------------------------------------
 */

static void test_bytes(void **state)
{
    uint8_t bytes[KEY_LEN];
    credstore_key_source *source = NULL;
    credstore_error err = {.status = 77};

    (void)state;
    for (size_t i = 0; i < KEY_LEN; i++)
        bytes[i] = (uint8_t)(i + 1);
    assert_int_equal(credstore_key_bytes(bytes, sizeof bytes, &source, &err), CREDSTORE_OK);
    assert_int_equal(err.status, CREDSTORE_OK);
    memset(bytes, 0, sizeof bytes); /* it was copied */
    expect_written(source);
    credstore_key_source_free(source);
    credstore_key_source_free(NULL);
}

static void test_bytes_refused(void **state)
{
    static const size_t lengths[] = {0, 1, 31, 33, 64, SIZE_MAX};
    static const uint8_t bytes[64] = {1};
    credstore_key_source *source = NULL;
    credstore_error err = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        source = (credstore_key_source *)(void *)&source;
        assert_int_equal(credstore_key_bytes(bytes, lengths[i], &source, &err),
                         CREDSTORE_E_INVALID);
        assert_string_equal(err.field, "len");
        assert_null(source);
    }
    assert_int_equal(credstore_key_bytes(NULL, 32, &source, &err), CREDSTORE_E_INVALID);
    assert_string_equal(err.field, "ptr");
    assert_int_equal(credstore_key_bytes(bytes, 32, NULL, &err), CREDSTORE_E_INVALID);
    assert_string_equal(err.field, "out");
    assert_int_equal(credstore_key_bytes(bytes, 31, &source, NULL), CREDSTORE_E_INVALID);
}

/* ---- files that are there ----------------------------------------------------------------------
 */

static void test_file(void **state)
{
    static const mode_t modes[] = {0600, 0400, 0700};
    const place *p = *state;

    for (size_t i = 0; i < COUNT(modes); i++) {
        credstore_key_source *source;

        write_file(p->path, KEY_LEN, modes[i]);
        source = taken(p->path, i % 2 == 0 ? 0 : CREDSTORE_KEY_CREATE);
        expect_written(source);
        credstore_key_source_free(source);
    }
    assert_int_equal(atomic_load(&traps[FSYNC].calls), 0); /* CREATE left the old one alone */
}

static void test_file_refused(void **state)
{
    static const struct {
        size_t len;
        mode_t mode;
        credstore_status status;
    } rows[] = {
        {0, 0600, CREDSTORE_E_INVALID},    {31, 0600, CREDSTORE_E_INVALID},
        {33, 0600, CREDSTORE_E_INVALID},   {4096, 0600, CREDSTORE_E_INVALID},
        {32, 0640, CREDSTORE_E_FORBIDDEN}, {32, 0604, CREDSTORE_E_FORBIDDEN},
        {32, 0620, CREDSTORE_E_FORBIDDEN}, {32, 0602, CREDSTORE_E_FORBIDDEN},
        {32, 0610, CREDSTORE_E_FORBIDDEN}, {32, 0601, CREDSTORE_E_FORBIDDEN},
        {32, 0440, CREDSTORE_E_FORBIDDEN}, {32, 0644, CREDSTORE_E_FORBIDDEN},
    };
    const place *p = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        write_file(p->path, rows[i].len, rows[i].mode);
        refused(p->path, 0, rows[i].status, "path", 0);
        refused(p->path, CREDSTORE_KEY_CREATE, rows[i].status, "path", 0);
    }
}

static void test_not_a_file(void **state)
{
    const place *p = *state;

    refused(p->folder, 0, CREDSTORE_E_INVALID, "path", 0);
    refused(p->folder, CREDSTORE_KEY_CREATE, CREDSTORE_E_INVALID, "path", 0);
    refused("/dev/null", 0, CREDSTORE_E_INVALID, "path", 0);
    assert_int_equal(mkfifo(p->path, 0600), 0);
    refused(p->path, 0, CREDSTORE_E_INVALID, "path", 0); /* and does not wait for a writer */
}

static void test_absent(void **state)
{
    const place *p = *state;
    char below[192];

    refused(p->path, 0, CREDSTORE_E_NOT_FOUND, "path", ENOENT);
    assert_int_equal(entries(p->folder), 0);
    (void)snprintf(below, sizeof below, "%s/no/root.key", p->folder);
    refused(below, 0, CREDSTORE_E_NOT_FOUND, "path", ENOENT);
    refused(below, CREDSTORE_KEY_CREATE, CREDSTORE_E_NOT_FOUND, "path", ENOENT);
    write_file(p->path, KEY_LEN, 0600);
    (void)snprintf(below, sizeof below, "%s/below", p->path);
    refused(below, 0, CREDSTORE_E_NOT_FOUND, "path", ENOTDIR);
}

static void test_arguments(void **state)
{
    static char endless[8192];
    const place *p = *state;
    credstore_error err = {0};

    refused(NULL, 0, CREDSTORE_E_INVALID, "path", 0);
    refused("", CREDSTORE_KEY_CREATE, CREDSTORE_E_INVALID, "path", 0);
    refused(p->path, 2, CREDSTORE_E_UNSUPPORTED, "flags", 0);
    refused(p->path, UINT32_MAX, CREDSTORE_E_UNSUPPORTED, "flags", 0);
    memset(endless, 'a', sizeof endless - 1);
    refused(endless, 0, CREDSTORE_E_INVALID, "path", ENAMETOOLONG);
    refused(endless, CREDSTORE_KEY_CREATE, CREDSTORE_E_INVALID, "path", ENAMETOOLONG);
    assert_int_equal(credstore_key_file(p->path, 0, NULL, &err), CREDSTORE_E_INVALID);
    assert_string_equal(err.field, "out");
    assert_int_equal(credstore_key_file("", 0, &(credstore_key_source *){NULL}, NULL),
                     CREDSTORE_E_INVALID);
}

/* Mounted secrets are links to links; what counts is the file at their end. */
static void test_links(void **state)
{
    const place *p = *state;
    credstore_key_source *source;
    char alias[192], loop[192];

    (void)snprintf(alias, sizeof alias, "%s/alias", p->folder);
    (void)snprintf(loop, sizeof loop, "%s/loop", p->folder);
    assert_int_equal(symlink("root.key", alias), 0);
    refused(alias, 0, CREDSTORE_E_NOT_FOUND, "path", ENOENT);
    refused(alias, CREDSTORE_KEY_CREATE, CREDSTORE_E_NOT_FOUND, "path", ENOENT);
    assert_int_equal(entries(p->folder), 1); /* nothing was made through a dangling link */
    write_file(p->path, KEY_LEN, 0600);
    source = taken(alias, 0);
    expect_written(source);
    credstore_key_source_free(source);
    write_file(p->path, KEY_LEN, 0644);
    refused(alias, 0, CREDSTORE_E_FORBIDDEN, "path", 0);
    assert_int_equal(symlink("loop", loop), 0);
    refused(loop, 0, CREDSTORE_E_INVALID, "path", ELOOP);
}

/* ---- owners: needs root, who can make files of others ------------------------------------------
 */

static void as_nobody(const place *p)
{
    credstore_key_source *source = NULL;
    credstore_error err = {0};
    bool ok = setuid(NOBODY) == 0;

    ok = ok && credstore_key_file(p->path, 0, &source, &err) == CREDSTORE_E_FORBIDDEN;
    ok = ok && err.native == EACCES;
    ok = ok &&
         credstore_key_file(p->path, CREDSTORE_KEY_CREATE, &source, &err) == CREDSTORE_E_FORBIDDEN;
    _exit(ok ? 0 : 1);
}

static void test_owners(void **state)
{
    const place *p = *state;
    int status = -1;
    pid_t child;

    if (geteuid() != 0) {
        print_message("skipped: no right to give a file away\n");
        skip();
    }
    write_file(p->path, KEY_LEN, 0600);
    assert_int_equal(chown(p->path, 12345, 0), 0);
    refused(p->path, 0, CREDSTORE_E_FORBIDDEN, "path", 0);
    assert_int_equal(chown(p->path, 0, 0), 0);
    credstore_key_source_free(taken(p->path, 0));
    child = fork();
    if (child == 0)
        as_nobody(p);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- making ------------------------------------------------------------------------------------
 */

static void test_create(void **state)
{
    const place *p = *state;
    const mode_t before = umask(0777);
    credstore_key_source *first = taken(p->path, CREDSTORE_KEY_CREATE), *again, *other;
    char path[192];
    struct stat st;

    (void)umask(before);
    assert_int_equal(stat(p->path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_size, KEY_LEN);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(entries(p->folder), 1);
    assert_int_equal(atomic_load(&traps[FSYNC].calls), 2); /* the file, then the folder */

    again = taken(p->path, CREDSTORE_KEY_CREATE);
    assert_memory_equal(cs_secret_bytes(first->key), cs_secret_bytes(again->key), KEY_LEN);
    (void)snprintf(path, sizeof path, "%s/other.key", p->folder);
    other = taken(path, CREDSTORE_KEY_CREATE);
    assert_memory_not_equal(cs_secret_bytes(first->key), cs_secret_bytes(other->key), KEY_LEN);
    credstore_key_source_free(other);
    credstore_key_source_free(again);
    credstore_key_source_free(first);
}

static void test_create_in_the_working_folder(void **state)
{
    const place *p = *state;
    char before[512];

    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(p->folder), 0);
    credstore_key_source_free(taken("root.key", CREDSTORE_KEY_CREATE));
    credstore_key_source_free(taken("./other.key", CREDSTORE_KEY_CREATE));
    assert_int_equal(chdir(before), 0);
    assert_int_equal(entries(p->folder), 2);
}

static void test_moved_in_pieces(void **state)
{
    const place *p = *state;
    credstore_key_source *first, *again;

    atomic_store(&piecemeal, true);
    first = taken(p->path, CREDSTORE_KEY_CREATE);
    assert_memory_not_equal(cs_secret_bytes(first->key), cs_secret_bytes(first->key) + 1,
                            KEY_LEN - 1); /* not one byte 32 times */
    assert_true(atomic_load(&traps[READ].calls) > KEY_LEN);
    assert_true(atomic_load(&traps[WRITE].calls) > KEY_LEN);
    atomic_store(&piecemeal, false);
    again = taken(p->path, 0);
    assert_memory_equal(cs_secret_bytes(first->key), cs_secret_bytes(again->key), KEY_LEN);
    credstore_key_source_free(again);
    credstore_key_source_free(first);
}

/* Whatever fails, no half-made file is left, and the next attempt works. */
static void test_create_fails(void **state)
{
    static const struct {
        size_t call;
        int nth, code;
        credstore_status status;
        size_t left; /* files */
        int32_t native;
    } rows[] = {
        {ALLOC, 1, 0, CREDSTORE_E_NO_MEMORY, 0, 0},
        {ALLOC, 2, 0, CREDSTORE_E_NO_MEMORY, 0, 0},
        {ALLOC, 3, 0, CREDSTORE_E_NO_MEMORY, 0, 0},
        {RANDOM, 1, ENOSYS, CREDSTORE_E_ENTROPY, 0, 0},
        {RANDOM, 2, EIO, CREDSTORE_E_ENTROPY, 0, 0},
        {FCHMOD, 1, EPERM, CREDSTORE_E_FORBIDDEN, 0, EPERM},
        {WRITE, 1, ENOSPC, CREDSTORE_E_FULL, 0, ENOSPC},
        {WRITE, 1, EDQUOT, CREDSTORE_E_FULL, 0, EDQUOT},
        {WRITE, 1, EIO, CREDSTORE_E_STORAGE, 0, EIO},
        {FSYNC, 1, EIO, CREDSTORE_E_STORAGE, 0, EIO},
        {FSYNC, 1, ENOSPC, CREDSTORE_E_FULL, 0, ENOSPC},
        {FSYNC, 2, EIO, CREDSTORE_E_STORAGE, 1, EIO},
        {LINK, 1, EMLINK, CREDSTORE_E_STORAGE, 0, EMLINK},
        {LINK, 1, ENOSPC, CREDSTORE_E_FULL, 0, ENOSPC},
        {FSTAT, 1, EIO, CREDSTORE_E_STORAGE, 1, EIO},
        {READ, 1, EIO, CREDSTORE_E_STORAGE, 1, EIO},
    };
    const place *p = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *field = rows[i].call == ALLOC ? "" : "path";

        reset();
        trap(rows[i].call, rows[i].nth, rows[i].code);
        refused(p->path, CREDSTORE_KEY_CREATE, rows[i].status, field, rows[i].native);
        assert_int_equal(atomic_load(&traps[rows[i].call].calls), rows[i].nth);
        assert_int_equal(entries(p->folder), rows[i].left);
        reset();
        credstore_key_source_free(taken(p->path, CREDSTORE_KEY_CREATE));
        assert_int_equal(unlink(p->path), 0);
    }
}

static void test_interrupted_random(void **state)
{
    const place *p = *state;

    trap(RANDOM, 1, EINTR);
    credstore_key_source_free(taken(p->path, CREDSTORE_KEY_CREATE));
    assert_int_equal(atomic_load(&traps[RANDOM].calls), 3);
}

enum { RACERS = 8, RACES = 20 };

typedef struct racer {
    const char *path;
    pthread_barrier_t *go;
    credstore_key_source *source;
} racer;

static void *race(void *arg)
{
    racer *r = arg;

    (void)pthread_barrier_wait(r->go);
    (void)credstore_key_file(r->path, CREDSTORE_KEY_CREATE, &r->source, NULL);
    return NULL;
}

static void race_once(const place *p)
{
    pthread_t threads[RACERS];
    racer racers[RACERS];
    pthread_barrier_t go;

    assert_int_equal(pthread_barrier_init(&go, NULL, RACERS), 0);
    for (size_t i = 0; i < RACERS; i++) {
        racers[i] = (racer){p->path, &go, NULL};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (size_t i = 0; i < RACERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < RACERS; i++) {
        assert_non_null(racers[i].source);
        assert_memory_equal(cs_secret_bytes(racers[i].source->key),
                            cs_secret_bytes(racers[0].source->key), KEY_LEN);
    }
    for (size_t i = 0; i < RACERS; i++)
        credstore_key_source_free(racers[i].source);
    (void)pthread_barrier_destroy(&go);
    assert_int_equal(entries(p->folder), 1);
}

static void test_many_create_one(void **state)
{
    const place *p = *state;

    for (size_t i = 0; i < RACES; i++) {
        race_once(p);
        assert_int_equal(unlink(p->path), 0);
    }
}

/* Another process links its key between our look and our own link: its key is taken. */
static void test_another_was_first(void **state)
{
    const place *p = *state;
    credstore_key_source *source;

    (void)snprintf(late.from, sizeof late.from, "%s/late.key", p->folder);
    write_file(late.from, KEY_LEN, 0600);
    source = taken(p->path, CREDSTORE_KEY_CREATE);
    late.from[0] = '\0';
    expect_written(source);
    credstore_key_source_free(source);
    assert_int_equal(entries(p->folder), 1);
}

/* ---- a thread that is cancelled ----------------------------------------------------------------
 */

static void *make_and_end(void *arg)
{
    racer *r = arg;

    (void)credstore_key_file(r->path, CREDSTORE_KEY_CREATE, &r->source, NULL);
    pthread_testcancel();
    return NULL;
}

/* A descriptor that somebody left has taken this number. */
static int next_descriptor(void)
{
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    return fd;
}

/* It ends after the call: no descriptor, no temporary file, no key is left by the way. */
static void test_cancelled(void **state)
{
    static const struct {
        size_t call;
        int nth;
    } rows[] = {{RANDOM, 1}, {FCHMOD, 1}, {WRITE, 1}, {FSYNC, 1},
                {LINK, 1},   {FSYNC, 2},  {FSTAT, 1}, {READ, 1}};
    const place *p = *state;
    const int next = next_descriptor();

    for (size_t i = 0; i < COUNT(rows); i++) {
        racer r = {p->path, NULL, NULL};
        credstore_key_source *again;
        pthread_t thread;
        void *result = NULL;

        reset();
        trap(rows[i].call, rows[i].nth, CANCELLED);
        assert_int_equal(pthread_create(&thread, NULL, make_and_end, &r), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, PTHREAD_CANCELED);
        assert_int_equal(next_descriptor(), next);
        assert_int_equal(entries(p->folder), 1);
        reset();
        again = taken(p->path, 0);
        assert_non_null(r.source);
        assert_memory_equal(cs_secret_bytes(again->key), cs_secret_bytes(r.source->key), KEY_LEN);
        credstore_key_source_free(again);
        credstore_key_source_free(r.source);
        assert_int_equal(unlink(p->path), 0);
    }
}

/* ---- after fork -------------------------------------------------------------------------------
 */

static void free_in_child(credstore_key_source *source)
{
    credstore_key_source_free(source);
    _exit(0);
}

static void test_fork(void **state)
{
    const place *p = *state;
    credstore_key_source *source;
    int status = -1;
    pid_t child;

    write_file(p->path, KEY_LEN, 0600);
    source = taken(p->path, 0);
    child = fork();
    if (child == 0)
        free_in_child(source);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    expect_written(source);
    credstore_key_source_free(source);
}

/* A bit for each use of a wiped source that is not refused as what it is. */
static int use_in_child(const place *p, const credstore_key_source *const wiped[2])
{
    const credstore_actor host = {sizeof host, CREDSTORE_ACTOR_SYSTEM, .id = "host"};
    const credstore_call call = {.struct_size = sizeof call, .actor = &host};
    credstore_options options = {.struct_size = sizeof options, .flags = CREDSTORE_OPEN_CREATE};
    credstore_key_source *fresh = NULL;
    credstore *store = NULL, *own = NULL;
    char path[256];
    credstore_error err;
    int missed = 0;

    (void)snprintf(path, sizeof path, "%s/store", p->folder);
    for (int i = 0; i < 2; i++) {
        options.key = wiped[i];
        missed |= (credstore_open(path, &options, &store, &err) != CREDSTORE_E_FORKED) << i;
        missed |= (strcmp(err.field, "key") != 0 || access(path, F_OK) == 0) << (2 + i);
    }
    if (credstore_key_bytes(path, KEY_LEN, &fresh, &err) != CREDSTORE_OK)
        return 64;
    options.key = fresh;
    if (credstore_open(path, &options, &own, &err) != CREDSTORE_OK)
        return 128;
    for (int i = 0; i < 2; i++)
        missed |= (credstore_root_add(own, &call, wiped[i], CREDSTORE_ROOT_READ, NULL, &err) !=
                   CREDSTORE_E_FORKED)
                  << (4 + i);
    credstore_close(own);
    credstore_key_source_free(fresh);
    return missed;
}

/* In a child the bytes are wiped: a store that was made with them would lie under 32 zeros. */
static void test_fork_takes_the_key(void **state)
{
    const place *p = *state;
    credstore_key_source *made[2] = {NULL};
    credstore_error err;
    int status = -1;
    pid_t child;

    write_file(p->path, KEY_LEN, 0600);
    made[0] = taken(p->path, 0);
    assert_int_equal(credstore_key_passphrase("correct horse", CREDSTORE_NTS, 14, &made[1], &err),
                     CREDSTORE_OK);
    child = fork();
    if (child == 0)
        _exit(use_in_child(p, (const credstore_key_source *const *)made));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    credstore_key_source_free(made[0]);
    credstore_key_source_free(made[1]);
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_bytes_refused),
        IN_A_FOLDER(test_file),
        IN_A_FOLDER(test_file_refused),
        IN_A_FOLDER(test_not_a_file),
        IN_A_FOLDER(test_absent),
        IN_A_FOLDER(test_arguments),
        IN_A_FOLDER(test_links),
        IN_A_FOLDER(test_owners),
        IN_A_FOLDER(test_create),
        IN_A_FOLDER(test_create_in_the_working_folder),
        IN_A_FOLDER(test_moved_in_pieces),
        IN_A_FOLDER(test_create_fails),
        IN_A_FOLDER(test_interrupted_random),
        IN_A_FOLDER(test_many_create_one),
        IN_A_FOLDER(test_another_was_first),
        IN_A_FOLDER(test_cancelled),
        IN_A_FOLDER(test_fork),
        IN_A_FOLDER(test_fork_takes_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
