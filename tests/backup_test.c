/* SPDX-License-Identifier: MIT
 *
 * Backup, restore and erasure: what a copy holds, what is refused by name and leaves everything as
 * it was, and a process that ends before any of its system calls.
 *
 * CREDSTORE_FLIPS: how many damaged backups are tried. CREDSTORE_KILLS: every how manieth system
 * call a process is killed before.
 */
#define _GNU_SOURCE /* ptrace, nftw's folders, unshare */

#include "life.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/ptrace.h>
#include <unistd.h>

#include "storage/engines.h"
#include "storage/lmdb_env.h"
#include "txn.h"

enum { PATH_SIZE = 2 * TEST_PATH_MAX, KEYS = 12, PAGE = 4096 };

static uint64_t chance;

/* ---- a store with something in it ---- */

typedef struct place {
    test_world w;
    char folder[TEST_PATH_MAX];
    char backup[PATH_SIZE], target[PATH_SIZE], part[PATH_SIZE];
    credstore_key_source *key;
    credstore_options options; /* for restore and erase */
} place;

static void place_open(place *p, test_engine engine)
{
    credstore_error err;

    memset(p, 0, sizeof *p);
    test_folder(p->folder);
    test_open(&p->w.t, engine);
    p->w.root = test_root(p->w.t.store);
    p->w.call = test_call(&p->w.root);
    snprintf(p->backup, sizeof p->backup, "%s/backup", p->folder);
    snprintf(p->target, sizeof p->target, "%s/target", p->folder);
    snprintf(p->part, sizeof p->part, "%s/target.part", p->folder);
    life_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &p->key, &err));
    p->options.struct_size = sizeof p->options;
    p->options.key = p->key;
    p->options.now_ms = p->w.t.options.now_ms;
    p->options.now_ctx = p->w.t.options.now_ctx;
    for (size_t i = 0; i < test_kind_count; i++)
        credstore_free(test_make(&p->w.t, &test_kinds[i], &p->w.root, 1));
    for (int i = 0; i < KEYS; i++)
        life_issue(&p->w, 0);
}

static void place_close(place *p)
{
    test_close(&p->w.t);
    credstore_key_source_free(p->key);
    test_folder_remove(p->folder);
}

/* The store's own folder, closed. */
static void place_leave(place *p)
{
    credstore_close(p->w.t.store);
    p->w.t.store = NULL;
}

static void place_reopen(place *p)
{
    credstore_error err;

    life_ok(test_reopen(&p->w.t, &err));
    p->w.root = test_root(p->w.t.store);
}

static credstore_status back_up(place *p, const char *path, uint32_t flags, credstore_error *err)
{
    return credstore_backup(p->w.t.store, &p->w.call, path, flags, NULL, NULL, err);
}

static credstore *open_folder(const place *p, const char *path, uint32_t flags)
{
    credstore_options options = p->w.t.options;
    credstore *store = NULL;
    credstore_error err;

    options.flags = flags;
    options.key = p->key;
    life_ok(credstore_open(path, &options, &store, &err));
    return store;
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static mode_t mode_of(const char *folder, const char *name)
{
    char path[2 * PATH_SIZE];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

/* Every pair, in one number. */
static bool mix(void *arg, credstore_bytes key, credstore_bytes value)
{
    const credstore_bytes both[] = {key, value};
    uint64_t *sum = arg;

    for (size_t i = 0; i < 2; i++) {
        const uint8_t *p = both[i].ptr;

        *sum = (*sum ^ both[i].len) * UINT64_C(0x100000001b3);
        for (size_t n = 0; n < both[i].len; n++)
            *sum = (*sum ^ p[n]) * UINT64_C(0x100000001b3);
    }
    return true;
}

static uint64_t content(credstore *store)
{
    const cs_key from = {1, {CS_TABLE_META}}, to = {0, {0}};
    uint64_t sum = 1;
    const cs_scan scan = {.visit = mix, .arg = &sum};
    credstore_error err = {0};
    cs_txn txn;

    life_ok(cs_txn_read(store, &txn, &err));
    life_ok(cs_txn_scan(&txn, &from, &to, &scan, &err));
    cs_txn_end(&txn);
    return sum;
}

static uint64_t content_at(const place *p, const char *path)
{
    credstore *store = open_folder(p, path, 0);
    const uint64_t sum = content(store);

    credstore_close(store);
    return sum;
}

/* The records that place_open() made, and a sound audit. */
static void assert_whole(const place *p, const char *path)
{
    test_world w = p->w;
    credstore_check_result result = {.struct_size = sizeof result};
    credstore_error err;

    w.t.store = open_folder(p, path, 0);
    for (size_t i = 0; i < test_kind_count; i++) {
        const void *view = test_get(&w.t, &test_kinds[i], &w.root);

        test_assert_all(&test_kinds[i], view, 1);
        credstore_free(view);
    }
    assert_true(life_keys(w.t.store, CS_TABLE_RECORD, NULL) >= test_kind_count + KEYS);
    life_ok(credstore_check(w.t.store, &w.call, NULL, &result, &err));
    assert_int_equal(result.findings, 0);
    credstore_close(w.t.store);
}

static void empty_folder(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        fail_msg("%s has %s", path, entry->d_name);
    }
    closedir(dir);
}

static void copy_file(const char *from, const char *to, off_t len)
{
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    const int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char chunk[4096];

    assert_true(in >= 0 && out >= 0);
    while (len > 0) {
        const ssize_t got = read(in, chunk, len < 4096 ? (size_t)len : sizeof chunk);

        if (got <= 0)
            break;
        assert_int_equal(write(out, chunk, (size_t)got), got);
        len -= got;
    }
    close(in);
    close(out);
}

/* A folder with a data file alone, the first `len` bytes of the backup's. */
static off_t spoil_begin(const place *p, const char *folder, off_t len)
{
    char from[2 * PATH_SIZE], to[2 * PATH_SIZE];
    struct stat st;

    snprintf(from, sizeof from, "%s/" CS_LMDB_DATA, p->backup);
    snprintf(to, sizeof to, "%s/" CS_LMDB_DATA, folder);
    assert_int_equal(stat(from, &st), 0);
    if (!is_there(folder))
        assert_int_equal(mkdir(folder, 0700), 0);
    copy_file(from, to, len < 0 ? st.st_size : len);
    return st.st_size;
}

/* ---- backup ---- */

static const uint32_t sorts[] = {0, CREDSTORE_BACKUP_COMPACT};
enum { SORTS = sizeof sorts / sizeof *sorts };

static void note_progress(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *last = ctx;

    assert_true(done >= last[0]);
    assert_true(total == 0 || done <= total);
    last[0] = done;
    last[1] = total;
}

static void a_backup_is_the_store(void **state)
{
    (void)state;
    for (int engine = 0; engine < TEST_ENGINES; engine++) {
        for (size_t i = 0; i < SORTS; i++) {
            uint64_t last[2] = {0, 0};
            credstore_error err;
            place p;

            place_open(&p, (test_engine)engine);
            life_ok(credstore_backup(p.w.t.store, &p.w.call, p.backup, sorts[i], note_progress,
                                     last, &err));
            assert_true(last[0] > 0 && last[0] == last[1]);
            assert_int_equal(mode_of(p.folder, "backup"), 0700);
            assert_int_equal(mode_of(p.backup, CS_LMDB_DATA), 0600);
            assert_int_equal(mode_of(p.backup, CS_LMDB_GUARD), 0600);
            assert_int_equal(mode_of(p.backup, CS_LMDB_PRESENCE), 0600);
            assert_true(content_at(&p, p.backup) == content(p.w.t.store));
            assert_whole(&p, p.backup);
            life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.backup, sorts[i], &err));
            place_close(&p);
        }
    }
}

static void a_group_stays_a_group(void **state)
{
    (void)state;
    for (size_t i = 0; i < SORTS; i++) {
        credstore_error err;
        place p;

        place_open(&p, TEST_LMDB);
        place_leave(&p);
        p.w.t.options.flags |= CREDSTORE_OPEN_GROUP;
        place_reopen(&p);
        life_ok(back_up(&p, p.backup, sorts[i], &err));
        assert_int_equal(mode_of(p.folder, "backup"), 0770);
        assert_int_equal(mode_of(p.backup, CS_LMDB_DATA), 0660);
        assert_int_equal(mode_of(p.backup, CS_LMDB_GUARD), 0660);
        p.options.flags = CREDSTORE_OPEN_GROUP;
        life_ok(credstore_restore(p.backup, p.target, &p.options, NULL, &err));
        assert_int_equal(mode_of(p.folder, "target"), 0770);
        assert_int_equal(mode_of(p.target, CS_LMDB_DATA), 0660);
        place_close(&p);
    }
}

static void a_read_only_store_is_copied(void **state)
{
    (void)state;
    for (size_t i = 0; i < SORTS; i++) {
        credstore_error err;
        place p;

        place_open(&p, TEST_LMDB);
        place_leave(&p);
        p.w.t.options.flags = CREDSTORE_OPEN_READ_ONLY;
        place_reopen(&p);
        life_ok(back_up(&p, p.backup, sorts[i], &err));
        assert_whole(&p, p.backup);
        place_close(&p);
    }
}

/* An engine that copies itself in its own way, or is older than that. */
static int32_t refuse_copy(void *ctx, const char *path, uint32_t flags, credstore_progress progress,
                           void *progress_ctx, credstore_error *err)
{
    (void)ctx;
    (void)path;
    (void)flags;
    (void)progress;
    (void)progress_ctx;
    (void)err;
    return CREDSTORE_STORAGE_FULL;
}

/* What an engine says of itself is not taken as it is: a status that there is none of, lines
   without an end. */
static int32_t babble(void *ctx, const char *path, uint32_t flags, credstore_progress progress,
                      void *progress_ctx, credstore_error *err)
{
    (void)ctx;
    (void)path;
    (void)flags;
    (void)progress;
    (void)progress_ctx;
    memset(err, 'x', sizeof *err);
    if (flags != 0)
        err->status = CREDSTORE_E_EXISTS;
    return CREDSTORE_STORAGE_FULL;
}

static void engines_may_babble(void **state)
{
    credstore_storage table;
    credstore_error err;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    table = *p.w.t.store->storage;
    p.w.t.store->storage = &table;
    table.backup = babble;
    life_fails(CREDSTORE_E_FULL, back_up(&p, p.backup, 0, &err));
    p.w.t.store->open_flags |= CREDSTORE_OPEN_GROUP;
    life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.backup, 0, &err));
    assert_true(strnlen(err.field, sizeof err.field) < sizeof err.field);
    assert_true(strnlen(err.message, sizeof err.message) < sizeof err.message);
    p.w.t.store->storage = &cs_storage_lmdb;
    place_close(&p);
}

static void engines_may_lack_it(void **state)
{
    credstore_storage table;
    credstore_error err;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    table = *p.w.t.store->storage;
    p.w.t.store->storage = &table;
    table.backup = refuse_copy;
    life_fails(CREDSTORE_E_FULL, back_up(&p, p.backup, 0, &err));
    table.struct_size = offsetof(credstore_storage, backup); /* what is behind is not there */
    life_ok(back_up(&p, p.backup, 0, &err));
    assert_whole(&p, p.backup);
    table.struct_size = sizeof table;
    table.backup = NULL;
    life_ok(back_up(&p, p.target, 0, &err));
    assert_whole(&p, p.target);
    p.w.t.store->storage = &cs_storage_lmdb;
    place_close(&p);
}

/* A table of before there were copies is taken; one that lacks what was always there is not. */
static void old_tables(void **state)
{
    credstore_storage table = cs_storage_memory;
    credstore_options options = {
        .struct_size = sizeof options, .flags = CREDSTORE_OPEN_CREATE, .storage = &table};
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    (void)state;
    memset(&err, 0, sizeof err);
    life_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err));
    options.key = key;
    life_ok(cs_memory_new(&options.storage_ctx, &err));
    table.struct_size = offsetof(credstore_storage, close);
    life_fails(CREDSTORE_E_INVALID, credstore_open(NULL, &options, &store, &err));
    table.struct_size = offsetof(credstore_storage, tidy);
    life_ok(credstore_open(NULL, &options, &store, &err));
    life_ok(credstore_maintain(store, 0, NULL, &err));
    credstore_close(store);
    credstore_key_source_free(key);
}

static void who_may(void **state)
{
    credstore_checkpoint point;
    credstore_actor member;
    credstore_call call;
    credstore_error err;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    member = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "admin", TEST_TENANT);
    call = test_call(&member);
    life_fails(CREDSTORE_E_FORBIDDEN,
               credstore_backup(p.w.t.store, &call, "", 77, NULL, NULL, &err));
    life_fails(CREDSTORE_E_FORBIDDEN, credstore_anchor_take(p.w.t.store, &call, &point, &err));
    life_fails(CREDSTORE_E_UNSUPPORTED, back_up(&p, p.backup, 2, &err));
    life_fails(CREDSTORE_E_INVALID, back_up(&p, "", 0, &err));
    life_fails(CREDSTORE_E_INVALID, back_up(&p, NULL, 0, &err));
    member = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "cron", "");
    life_ok(credstore_backup(p.w.t.store, &call, p.backup, 0, NULL, NULL, &err));
    place_close(&p);
}

/* ---- where it is made ---- */

static void make_file(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static void targets(void **state)
{
    char path[PATH_SIZE + 16];
    char before[PATH_SIZE];

    (void)state;
    for (size_t i = 0; i < SORTS; i++) {
        credstore_error err;
        int fd;
        place p;

        place_open(&p, TEST_LMDB);
        make_file(p.target);
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.target, sorts[i], &err));
        unlink(p.target);
        assert_int_equal(mkdir(p.target, 0700), 0); /* empty: rename() would take it */
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.target, sorts[i], &err));
        empty_folder(p.target);
        rmdir(p.target);
        assert_int_equal(symlink("nowhere", p.target), 0);
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.target, sorts[i], &err));
        unlink(p.target);
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, "/", sorts[i], &err));
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.w.t.path, sorts[i], &err));
        snprintf(path, sizeof path, "%s/none/target", p.folder);
        life_fails(CREDSTORE_E_NOT_FOUND, back_up(&p, path, sorts[i], &err));

        make_file(p.part); /* not a folder */
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.target, sorts[i], &err));
        unlink(p.part);
        assert_int_equal(symlink(p.folder, p.part), 0);
        life_fails(CREDSTORE_E_EXISTS, back_up(&p, p.target, sorts[i], &err));
        unlink(p.part);
        assert_int_equal(mkdir(p.part, 0700), 0); /* another is at it */
        fd = open(p.part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        life_fails(CREDSTORE_E_BUSY, back_up(&p, p.target, sorts[i], &err));
        assert_true(is_there(p.part));
        close(fd);
        snprintf(path, sizeof path, "%s/" CS_LMDB_DATA, p.part); /* and was killed */
        make_file(path);
        assert_false(is_there(p.target));

        assert_non_null(getcwd(before, sizeof before)); /* relative, by a link, with slashes */
        assert_int_equal(chdir(p.folder), 0);
        assert_int_equal(symlink(".", "link"), 0);
        life_ok(back_up(&p, "link/target//", sorts[i], &err));
        life_ok(back_up(&p, "plain", sorts[i], &err));
        assert_int_equal(chdir(before), 0);
        assert_false(is_there(p.part));
        assert_whole(&p, p.target);
        snprintf(path, sizeof path, "%s/plain", p.folder);
        assert_whole(&p, path);
        place_close(&p);
    }
}

/* Something comes to the place while the copy is under way. */
static void come_between(void *ctx, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    mkdir(((place *)ctx)->target, 0700);
}

static void a_place_that_is_taken_meanwhile(void **state)
{
    credstore_error err;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    life_fails(CREDSTORE_E_EXISTS,
               credstore_backup(p.w.t.store, &p.w.call, p.target, 0, come_between, &p, &err));
    empty_folder(p.target); /* as it was, though rename() would take it for nothing */
    assert_false(is_there(p.part));
    place_close(&p);
}

typedef struct crowded {
    place *p;
    int verb; /* 0, 1: backup; 2: restore; 3: erase */
} crowded;

static credstore_status run_verb(place *p, int verb, credstore_error *err)
{
    if (verb < SORTS)
        return back_up(p, p->target, sorts[verb], err);
    if (verb == SORTS)
        return credstore_restore(p->backup, p->target, &p->options, NULL, err);
    return credstore_erase(p->w.t.path, &p->options, err);
}
enum { VERBS = SORTS + 2 };
static const char *const verb_names[VERBS] = {"backup", "compact backup", "restore", "erase"};

/* In a child of fork a key is wiped. */
static void take_key_again(place *p)
{
    credstore_error err;

    credstore_key_source_free(p->key);
    if (credstore_key_bytes(test_root_key, sizeof test_root_key, &p->key, &err) != CREDSTORE_OK)
        _exit(3);
    p->options.key = p->key;
}

/* In a child: no file may become longer than two pages. */
static void crowd(void *arg)
{
    const struct rlimit limit = {8192, 8192};
    const crowded *c = arg;
    credstore_error err;
    credstore_status status;

    signal(SIGXFSZ, SIG_IGN);
    take_key_again(c->p);
    if (c->verb < SORTS)
        place_reopen(c->p);
    setrlimit(RLIMIT_FSIZE, &limit);
    status = run_verb(c->p, c->verb, &err);
    if (status != CREDSTORE_E_FULL)
        fprintf(stderr, "%s: %s: %s\n", verb_names[c->verb], credstore_status_name((int32_t)status),
                err.message);
    _exit(status == CREDSTORE_E_FULL ? 0 : 1);
}

static int run_child(void (*run)(void *arg), void *arg)
{
    int status = -1;
    const pid_t pid = fork();

    if (pid == 0) {
        alarm(60);
        run(arg);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static void no_room(void **state)
{
    credstore_error err;
    uint64_t before;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    life_ok(back_up(&p, p.backup, 0, &err));
    before = content(p.w.t.store);
    place_leave(&p);
    for (int verb = 0; verb < VERBS; verb++) {
        crowded c = {&p, verb};

        assert_int_equal(run_child(crowd, &c), 0);
        assert_false(is_there(p.target));
        assert_false(is_there(p.part));
        assert_true(content_at(&p, p.w.t.path) == before);
        assert_true(content_at(&p, p.backup) == before);
    }
    place_close(&p);
}

/* In a child: the target is on a disk of its own, which is too small. 2 = it may not be mounted. */
static void crowd_disk(void *arg)
{
    const crowded *c = arg;
    char room[PATH_SIZE], path[2 * PATH_SIZE];
    credstore_error err;
    credstore_status status;

    snprintf(room, sizeof room, "%s/room", c->p->folder);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", room, "tmpfs", 0, "size=32k,mode=0700") != 0)
        _exit(2);
    snprintf(path, sizeof path, "%s/target", room);
    memcpy(c->p->target, path, sizeof c->p->target);
    take_key_again(c->p);
    if (c->verb < SORTS)
        place_reopen(c->p);
    status = run_verb(c->p, c->verb, &err);
    if (status != CREDSTORE_E_FULL)
        fprintf(stderr, "%s: %s: %s\n", verb_names[c->verb], credstore_status_name((int32_t)status),
                err.message);
    empty_folder(room);
    _exit(status == CREDSTORE_E_FULL ? 0 : 1);
}

static void a_disk_that_fills(void **state)
{
    char room[PATH_SIZE];
    credstore_error err;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    for (int i = 0; i < 60; i++)
        life_issue(&p.w, 0);
    snprintf(room, sizeof room, "%s/room", p.folder);
    assert_int_equal(mkdir(room, 0700), 0);
    life_ok(back_up(&p, p.backup, 0, &err));
    place_leave(&p);
    for (int verb = 0; verb < SORTS + 1; verb++) {
        crowded c = {&p, verb};
        const int ended = run_child(crowd_disk, &c);

        if (WIFEXITED(ended) && WEXITSTATUS(ended) == 2) {
            place_close(&p);
            print_message("skipped: no right to mount a disk\n");
            skip();
        }
        assert_int_equal(ended, 0);
    }
    assert_whole(&p, p.w.t.path);
    place_close(&p);
}

/* ---- beside writers ---- */

/* What is written while the copy is under way is not in it, and destroys nothing in it. */
static void write_between(void *ctx, uint64_t done, uint64_t total)
{
    place *p = ctx;

    if (done == total)
        return;
    for (int i = 0; i < 40; i++)
        life_issue(&p->w, 0);
}

static void written_between(void **state)
{
    (void)state;
    for (size_t i = 0; i < SORTS; i++) {
        credstore_error err;
        uint64_t before;
        place p;

        place_open(&p, TEST_LMDB);
        for (int n = 0; n < 360; n++) /* some hundred pages, and more than 1024 pairs */
            life_issue(&p.w, 0);
        before = content(p.w.t.store);
        life_ok(
            credstore_backup(p.w.t.store, &p.w.call, p.backup, sorts[i], write_between, &p, &err));
        assert_true(content(p.w.t.store) != before);
        assert_true(content_at(&p, p.backup) == before);
        assert_whole(&p, p.backup);
        place_close(&p);
    }
}

typedef struct busy {
    test_world w;
    atomic_bool *stop;
    atomic_uint *made;
} busy;

static void *write_on(void *arg)
{
    busy *b = arg;

    while (!atomic_load(b->stop)) {
        life_key key = life_issue(&b->w, 0);

        life_roll(&b->w, &key, 0);
        atomic_fetch_add(b->made, 1);
    }
    return NULL;
}

/* Takes a backup that is not older than what was there when it was begun, and puts it back. */
static credstore_status there_and_back(place *p, uint32_t sort, credstore_error *err)
{
    credstore_checkpoint now, restored = {0};
    credstore_status status = credstore_anchor_take(p->w.t.store, &p->w.call, &now, err);

    if (status == CREDSTORE_OK)
        status = back_up(p, p->backup, sort, err);
    p->options.anchor = &now;
    if (status == CREDSTORE_OK)
        status = credstore_restore(p->backup, p->target, &p->options, &restored, err);
    p->options.anchor = NULL;
    test_folder_remove(p->target);
    test_folder_remove(p->backup);
    return status == CREDSTORE_OK && restored.seq <= now.seq ? CREDSTORE_E_INTERNAL : status;
}

static void beside_writers(void **state)
{
    const unsigned rounds = (unsigned)test_number("CREDSTORE_BACKUPS", 3);
    credstore_status status = CREDSTORE_OK;
    credstore_error err;
    atomic_bool stop = false;
    atomic_uint made = 0;
    pthread_t writers[2];
    busy b;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    b = (busy){.stop = &stop, .made = &made};
    b.w.t.store = p.w.t.store;
    b.w.root = p.w.root;
    b.w.call = test_call(&b.w.root);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_on, &b), 0);
    for (unsigned i = 0; i < rounds * SORTS && status == CREDSTORE_OK; i++) {
        const unsigned until = atomic_load(&made) + 20;

        while (atomic_load(&made) < until)
            sched_yield();
        status = there_and_back(&p, sorts[i % SORTS], &err);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    life_ok(status);
    place_close(&p);
}

/* ---- restore ---- */

static uint64_t last_action(credstore *store, const credstore_call *call, uint32_t *action)
{
    const credstore_audit_page *page = NULL;
    credstore_error err;
    uint64_t revision;

    life_ok(credstore_audit_read(store, call, 0, 1000, 0, &page, &err));
    assert_true(page->count > 0);
    *action = page->items[page->count - 1]->action;
    revision = page->items[page->count - 1]->revision;
    credstore_free(page);
    return revision;
}

static void a_new_epoch(void **state)
{
    credstore_checkpoint old, new, newest;
    char again[PATH_SIZE];
    credstore_error err;
    credstore *store;
    uint64_t before;
    uint32_t action;
    struct stat st;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    life_ok(credstore_anchor_take(p.w.t.store, &p.w.call, &old, &err));
    assert_int_equal(old.epoch, 1);
    before = content(p.w.t.store);
    life_ok(back_up(&p, p.backup, 0, &err));
    assert_int_equal(stat(p.backup, &st), 0);
    life_ok(credstore_restore(p.backup, p.target, &p.options, &new, &err));
    assert_int_equal(new.epoch, 2);
    assert_int_equal(new.seq, old.seq + 1);
    assert_int_equal(new.generation, old.generation + 1);
    assert_false(is_there(p.part));
    assert_int_equal(mode_of(p.folder, "target"), 0700);
    assert_int_equal(mode_of(p.target, CS_LMDB_DATA), 0600);
    assert_whole(&p, p.target);

    store = open_folder(&p, p.target, 0);
    assert_int_equal(last_action(store, &p.w.call, &action), 2);
    assert_int_equal(action, CREDSTORE_ACTION_EPOCH);
    life_ok(
        credstore_audit_verify(store, &p.w.call, &old, &newest, &err)); /* it goes on from there */
    assert_memory_equal(&newest, &new, sizeof new);
    credstore_close(store);
    assert_true(content_at(&p, p.backup) == before);

    snprintf(again, sizeof again, "%s/again", p.folder);
    life_ok(
        credstore_restore(p.target, again, &p.options, &new, &err)); /* of a store, of an epoch */
    assert_int_equal(new.epoch, 3);
    life_fails(CREDSTORE_E_EXISTS, credstore_restore(p.backup, p.target, &p.options, NULL, &err));
    place_close(&p);
}

static void restore_refuses(void **state)
{
    char path[PATH_SIZE];
    credstore_key_source *other = NULL;
    credstore_checkpoint point, untouched;
    credstore_options options;
    credstore_error err;
    credstore *store;
    uint8_t raw[32] = {9};
    place p;

    (void)state;
    memset(&point, 0x5a, sizeof point);
    untouched = point;
    place_open(&p, TEST_LMDB);
    life_ok(back_up(&p, p.backup, 0, &err));
    life_ok(credstore_key_bytes(raw, sizeof raw, &other, &err));
    options = p.options;
    options.key = other;
    life_fails(CREDSTORE_E_KEY_UNAVAILABLE,
               credstore_restore(p.backup, p.target, &options, &point, &err));
    options.key = NULL;
    life_fails(CREDSTORE_E_INVALID, credstore_restore(p.backup, p.target, &options, &point, &err));
    options = p.options;
    options.flags = CREDSTORE_OPEN_CREATE;
    life_fails(CREDSTORE_E_UNSUPPORTED,
               credstore_restore(p.backup, p.target, &options, &point, &err));
    options = p.options;
    options.storage = &cs_storage_memory;
    life_fails(CREDSTORE_E_UNSUPPORTED,
               credstore_restore(p.backup, p.target, &options, &point, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_restore(p.backup, p.target, NULL, &point, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_restore("", p.target, &p.options, &point, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_restore(p.backup, NULL, &p.options, &point, &err));
    snprintf(path, sizeof path, "%s/none", p.folder);
    life_fails(CREDSTORE_E_NOT_FOUND, credstore_restore(path, p.target, &p.options, &point, &err));
    assert_int_equal(mkdir(path, 0700), 0);
    life_fails(CREDSTORE_E_NOT_FOUND, credstore_restore(path, p.target, &p.options, &point, &err));
    life_fails(CREDSTORE_E_BUSY, /* it is open */
               credstore_restore(p.w.t.path, p.target, &p.options, &point, &err));
    store = open_folder(&p, p.backup, CREDSTORE_OPEN_READ_ONLY);
    life_fails(CREDSTORE_E_BUSY, credstore_restore(p.backup, p.target, &p.options, &point, &err));
    credstore_close(store);
    assert_false(is_there(p.target));
    assert_false(is_there(p.part));
    assert_memory_equal(&point, &untouched, sizeof point);
    credstore_key_source_free(other);
    place_close(&p);
}

/* Nobody writes the pipe: who opened it as a file would wait for ever. */
static void a_backup_with_pipes(void **state)
{
    static const char *const names[] = {"guard.lock", "presence.lock", "data.mdb"};

    (void)state;
    for (size_t i = 0; i < LIFE_COUNT(names); i++) {
        char path[PATH_SIZE + 16];
        credstore_error err;
        place p;

        place_open(&p, TEST_LMDB);
        life_ok(back_up(&p, p.backup, 0, &err));
        snprintf(path, sizeof path, "%s/%s", p.backup, names[i]);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        alarm(20);
        life_fails(CREDSTORE_E_INVALID,
                   credstore_restore(p.backup, p.target, &p.options, NULL, &err));
        alarm(0);
        assert_false(is_there(p.target));
        assert_false(is_there(p.part));
        place_close(&p);
    }
}

/* Changes the backup by the engine, as one without the keys could. */
typedef struct edit {
    const char *name;
    credstore_status expected;
    void (*run)(credstore *store);
} edit;

static void edit_format(credstore *store)
{
    cs_key key;
    cs_buf value;

    cs_key_meta(&key, false);
    value = life_raw_get(store, &key);
    value.ptr[0] = CS_FORMAT + 1;
    life_raw_put(store, &key, cs_bytes(value.ptr, value.len));
    cs_buf_free(&value);
}

static void edit_header_away(credstore *store)
{
    cs_key key;

    cs_key_meta(&key, false);
    life_raw_del(store, &key);
}

static void edit_audit(credstore *store)
{
    cs_key key;

    cs_key_audit(&key, 0, 3);
    life_raw_del(store, &key);
}

static void edit_record(credstore *store)
{
    cs_key last;

    life_keys(store, CS_TABLE_RECORD, &last);
    life_damage(store, &last, 0);
}

static void edit_index(credstore *store)
{
    cs_key last;

    life_keys(store, CS_TABLE_OWNER, &last);
    life_damage(store, &last, 0);
}

static void edit_more(credstore *store)
{
    const cs_key key = {2, {0x77, 1}};

    life_raw_put(store, &key, cs_bytes("what", 4));
}

static const edit edits[] = {
    {"a newer format", CREDSTORE_E_FORMAT, edit_format},
    {"no header", CREDSTORE_E_INTEGRITY, edit_header_away},
    {"an audit entry is gone", CREDSTORE_E_INTEGRITY, edit_audit},
    {"a record is changed", CREDSTORE_E_INTEGRITY, edit_record},
    {"an index entry is changed", CREDSTORE_E_INTEGRITY, edit_index},
    {"a value more", CREDSTORE_E_INTEGRITY, edit_more},
};

static void an_edited_backup(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIFE_COUNT(edits); i++) {
        credstore_error err;
        credstore_status status;
        credstore *store;
        place p;

        place_open(&p, TEST_LMDB);
        life_ok(back_up(&p, p.backup, 0, &err));
        store = open_folder(&p, p.backup, 0);
        edits[i].run(store);
        credstore_close(store);
        status = credstore_restore(p.backup, p.target, &p.options, NULL, &err);
        if (status != edits[i].expected)
            print_error("%s: %s\n", edits[i].name, err.message);
        life_fails(edits[i].expected, status);
        assert_false(is_there(p.target));
        assert_false(is_there(p.part));
        if (edits[i].expected == CREDSTORE_E_FORMAT) /* and it cannot be made compact either */
            life_fails(CREDSTORE_E_FORMAT, credstore_erase(p.backup, &p.options, &err));
        place_close(&p);
    }
}

static void a_backup_cut_short(void **state)
{
    (void)state;
    for (size_t i = 0; i < SORTS; i++) {
        char cut[PATH_SIZE];
        unsigned refused = 0;
        credstore_error err;
        off_t size;
        place p;

        place_open(&p, TEST_LMDB);
        life_ok(back_up(&p, p.backup, sorts[i], &err));
        snprintf(cut, sizeof cut, "%s/cut", p.folder);
        size = spoil_begin(&p, cut, 0);
        for (off_t len = 0; len < size; len += len < 8192 ? 1021 : 4096) {
            credstore_status status;

            spoil_begin(&p, cut, len);
            status = credstore_restore(cut, p.target, &p.options, NULL, &err);
            refused += status != CREDSTORE_OK;
            if (status == CREDSTORE_OK && sorts[i] == 0) { /* only free pages were cut off */
                assert_whole(&p, p.target);
                test_folder_remove(p.target);
                continue;
            }
            life_fails(CREDSTORE_E_INTEGRITY, status);
            assert_false(is_there(p.target));
            assert_false(is_there(p.part));
        }
        assert_true(refused > 12);
        spoil_begin(&p, cut, -1); /* whole it is restored, without the lock files */
        life_ok(credstore_restore(cut, p.target, &p.options, NULL, &err));
        assert_whole(&p, p.target);
        place_close(&p);
    }
}

/* Any byte of the file changed: refused by name, or in a place that holds nothing. LMDB itself
   would crash on many of them. */
static void a_backup_with_flips(void **state)
{
    const unsigned long flips = test_number("CREDSTORE_FLIPS", 100);
    unsigned refused = 0;
    char bad[PATH_SIZE], data[2 * PATH_SIZE];
    uint64_t sound;
    credstore_error err;
    off_t size;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    life_ok(back_up(&p, p.backup, CREDSTORE_BACKUP_COMPACT, &err));
    snprintf(bad, sizeof bad, "%s/bad", p.folder);
    snprintf(data, sizeof data, "%s/" CS_LMDB_DATA, bad);
    size = spoil_begin(&p, bad, -1);
    life_ok(credstore_restore(bad, p.target, &p.options, NULL, &err));
    sound = life_keys(p.w.t.store, CS_TABLE_RECORD, NULL);
    test_folder_remove(p.target);
    for (unsigned long i = 0; i < flips; i++) {
        off_t at = (off_t)(test_random(&chance) % (uint64_t)size);
        const uint8_t by = (uint8_t)(1 + test_random(&chance) % 255);
        uint8_t byte;
        credstore_status status;
        int fd;

        if (i % 3 == 0) /* where the numbers stand that lead on */
            at = at / PAGE * PAGE + at % 64;
        spoil_begin(&p, bad, -1);
        fd = open(data, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= by;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        status = credstore_restore(bad, p.target, &p.options, NULL, &err);
        assert_false(is_there(p.part));
        refused += status != CREDSTORE_OK;
        if (status == CREDSTORE_OK) {
            credstore *store = open_folder(&p, p.target, 0);

            assert_int_equal(life_keys(store, CS_TABLE_RECORD, NULL), sound);
            credstore_close(store);
            assert_whole(&p, p.target);
            test_folder_remove(p.target);
        } else if (status != CREDSTORE_E_INTEGRITY && status != CREDSTORE_E_FORMAT &&
                   status != CREDSTORE_E_ROLLBACK && status != CREDSTORE_E_KEY_UNAVAILABLE) {
            fail_msg("byte %ld ^ %u: %s: %s", (long)at, by, credstore_status_name((int32_t)status),
                     err.message);
        }
        assert_false(is_there(p.target));
    }
    print_message("%u of %lu damaged backups were refused, the others hold all\n", refused, flips);
    assert_true(refused > flips / 4 || flips < 50);
    place_close(&p);
}

/* ---- erase ---- */

static bool file_holds(const char *folder, credstore_bytes what)
{
    char path[2 * PATH_SIZE];
    struct stat st;
    uint8_t *all;
    bool found;
    int fd;

    snprintf(path, sizeof path, "%s/" CS_LMDB_DATA, folder);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    all = malloc((size_t)st.st_size);
    assert_non_null(all);
    assert_int_equal(read(fd, all, (size_t)st.st_size), st.st_size);
    close(fd);
    found = memmem(all, (size_t)st.st_size, what.ptr, what.len) != NULL;
    free(all);
    return found;
}

/* Pages that are freed one after the other are used anew just as soon: so the same bytes once more,
   all freed by one transaction. */
static void free_at_once(credstore *store, const cs_buf *values, size_t count)
{
    const credstore_storage *engine = store->storage;

    for (int step = 0; step < 2; step++) {
        void *txn = life_raw_begin(store, 1);

        for (size_t i = 0; i < count; i++) {
            const uint8_t raw[2] = {0x77, (uint8_t)i};
            const credstore_bytes key = cs_bytes(raw, sizeof raw);
            const int32_t result = step == 0 ? engine->put(store->storage_ctx, txn, key,
                                                           cs_bytes(values[i].ptr, values[i].len))
                                             : engine->del(store->storage_ctx, txn, key);

            assert_int_equal(result, CREDSTORE_STORAGE_OK);
        }
        assert_int_equal(engine->commit(store->storage_ctx, txn), CREDSTORE_STORAGE_OK);
    }
}

/* The sealed bytes of records that are then removed, history and all. */
static void old_ciphertext_goes(void **state)
{
    enum { GONE = 40 };
    cs_buf old[GONE] = {{0}};
    unsigned before = 0, after = 0;
    struct stat large, small;
    credstore_error err;
    uint64_t sum;
    char data[2 * PATH_SIZE];
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    for (size_t i = 0; i < GONE; i++) {
        const test_at at = {0};
        test_at here = at;
        life_key key = life_issue(&p.w, 0);
        cs_key where;

        here.id = key.id;
        where = life_record_key(&p.w, test_kind_of(CREDSTORE_KIND_API_KEY), &here);
        old[i] = life_raw_get(p.w.t.store, &where);
        life_ok(credstore_api_key_remove(p.w.t.store, &p.w.call, key.id, &err));
    }
    atomic_fetch_add(&p.w.t.now, 40 * LIFE_DAY);
    life_maintain(&p.w);
    sum = content(p.w.t.store);
    free_at_once(p.w.t.store, old, GONE);
    assert_true(content(p.w.t.store) == sum);
    life_fails(CREDSTORE_E_BUSY, credstore_erase(p.w.t.path, &p.options, &err));
    place_leave(&p);
    snprintf(data, sizeof data, "%s/" CS_LMDB_DATA, p.w.t.path);
    assert_int_equal(chmod(data, 0640), 0); /* not ours to change */
    p.options.flags = CREDSTORE_OPEN_GROUP;
    assert_int_equal(stat(data, &large), 0);
    for (size_t i = 0; i < GONE; i++)
        before += file_holds(p.w.t.path, cs_bytes(old[i].ptr + 64, 64));
    assert_int_equal(chmod(p.w.t.path, 0770), 0);
    life_ok(credstore_erase(p.w.t.path, &p.options, &err));
    assert_int_equal(stat(data, &small), 0);
    for (size_t i = 0; i < GONE; i++) {
        after += file_holds(p.w.t.path, cs_bytes(old[i].ptr + 64, 64));
        cs_buf_free(&old[i]);
    }
    print_message("old ciphertexts in the file: %u of %d before, %u after; %ld and %ld bytes\n",
                  before, GONE, after, (long)large.st_size, (long)small.st_size);
    assert_true(before > GONE / 4);
    assert_int_equal(after, 0);
    assert_true(small.st_size < large.st_size);
    assert_int_equal(small.st_mode & 0777, 0640);
    assert_int_equal(chmod(data, 0600), 0);
    assert_int_equal(chmod(p.w.t.path, 0700), 0);
    assert_true(content_at(&p, p.w.t.path) == sum);
    assert_whole(&p, p.w.t.path);
    place_close(&p);
}

typedef struct held {
    place *p;
    int up[2], down[2];
} held;

static void hold_open(void *arg)
{
    held *h = arg;
    char c = 'x';

    alarm(60);
    place_reopen(h->p);
    if (write(h->up[1], &c, 1) != 1 || read(h->down[0], &c, 1) != 1)
        _exit(1);
    place_leave(h->p);
    _exit(0);
}

static void erase_refuses(void **state)
{
    credstore_key_source *other = NULL;
    credstore_options options;
    credstore_error err;
    uint8_t raw[32] = {9};
    uint64_t before;
    held h;
    pid_t pid;
    place p;
    char c = 'x';

    (void)state;
    place_open(&p, TEST_LMDB);
    before = content(p.w.t.store);
    place_leave(&p);
    h.p = &p;
    assert_int_equal(pipe(h.up) + pipe(h.down), 0);
    pid = fork();
    if (pid == 0)
        hold_open(&h);
    assert_int_equal(read(h.up[0], &c, 1), 1);
    life_fails(CREDSTORE_E_BUSY, credstore_erase(p.w.t.path, &p.options, &err));
    assert_int_equal(write(h.down[1], &c, 1), 1);
    waitpid(pid, NULL, 0);
    for (size_t i = 0; i < 2; i++) {
        close(h.up[i]);
        close(h.down[i]);
    }
    life_ok(credstore_key_bytes(raw, sizeof raw, &other, &err));
    options = p.options;
    options.key = other;
    life_fails(CREDSTORE_E_KEY_UNAVAILABLE, credstore_erase(p.w.t.path, &options, &err));
    credstore_key_source_free(other);
    options.key = NULL;
    life_fails(CREDSTORE_E_INVALID, credstore_erase(p.w.t.path, &options, &err));
    options = p.options;
    options.flags = CREDSTORE_OPEN_READ_ONLY;
    life_fails(CREDSTORE_E_UNSUPPORTED, credstore_erase(p.w.t.path, &options, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_erase(NULL, &p.options, &err));
    life_fails(CREDSTORE_E_NOT_FOUND, credstore_erase(p.target, &p.options, &err));
    assert_true(content_at(&p, p.w.t.path) == before);
    place_close(&p);
}

typedef struct dying {
    int up[2], down[2];
} dying;

static void fork_and_die(void *ctx, uint64_t done, uint64_t total)
{
    dying *d = ctx;
    char c = 'x';

    (void)done;
    (void)total;
    if (fork() == 0) {
        close(d->down[1]);
        if (write(d->up[1], &c, 1) == 1 && read(d->down[0], &c, 1) < 0)
            _exit(1);
        _exit(0);
    }
    kill(getpid(), SIGKILL);
}

/* A child that was forked during a backup, and lives longer, does not keep the next one out. */
static void a_child_outlives_it(void **state)
{
    credstore_error err;
    char c = 0;
    dying d;
    place p;
    pid_t pid;

    (void)state;
    place_open(&p, TEST_LMDB);
    place_leave(&p);
    assert_int_equal(pipe(d.up) + pipe(d.down), 0);
    pid = fork();
    if (pid == 0) {
        credstore *store;

        alarm(30);
        life_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &p.key, &err));
        store = open_folder(&p, p.w.t.path, 0);
        (void)credstore_backup(store, &p.w.call, p.target, 0, fork_and_die, &d, NULL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(d.up[1]);
    d.up[1] = -1;
    assert_int_equal(read(d.up[0], &c, 1), 1);
    p.w.t.store = open_folder(&p, p.w.t.path, 0);
    life_ok(back_up(&p, p.target, 0, &err));
    for (size_t i = 0; i < 2; i++) {
        close(d.up[i]);
        close(d.down[i]);
    }
    place_close(&p);
}

int __real_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags);
int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags);

static dying *dies_at_put; /* amid the writing of a copy: all locks are held */

int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags)
{
    if (dies_at_put != NULL)
        fork_and_die(dies_at_put, 0, 0);
    return __real_mdb_put(txn, dbi, key, value, flags);
}

/* Nor when they were restoring or erasing: both folders are free at once. */
static void a_child_outlives(place *p, int verb, uint64_t before)
{
    char erasing[PATH_SIZE];
    credstore_error err;
    char c = 0;
    dying d;
    pid_t pid;

    assert_int_equal(pipe(d.up) + pipe(d.down), 0);
    pid = fork();
    if (pid == 0) {
        alarm(30);
        take_key_again(p);
        dies_at_put = &d;
        (void)run_verb(p, verb, &err);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(d.up[1]);
    assert_int_equal(read(d.up[0], &c, 1), 1); /* it lives, and waits */
    snprintf(erasing, sizeof erasing, "%s/.erasing", p->w.t.path);
    assert_true(is_there(verb == SORTS ? p->part : erasing)); /* it was amid */
    if (verb == SORTS)
        assert_true(content_at(p, p->backup) == before);
    life_ok(run_verb(p, verb, &err));
    assert_true(content_at(p, p->w.t.path) == before);
    close(d.up[0]);
    close(d.down[0]);
    close(d.down[1]);
}

static void a_child_outlives_restore_and_erase(void **state)
{
    credstore_error err;
    uint64_t before;
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    life_ok(back_up(&p, p.backup, 0, &err));
    before = content(p.w.t.store);
    place_leave(&p);
    for (int verb = SORTS; verb < VERBS; verb++)
        a_child_outlives(&p, verb, before);
    assert_whole(&p, p.target);
    assert_whole(&p, p.w.t.path);
    place_close(&p);
}

/* What a killed one leaves goes with the next opening that may write. */
static void leftovers(void **state)
{
    char erasing[PATH_SIZE], data[2 * PATH_SIZE];
    place p;

    (void)state;
    place_open(&p, TEST_LMDB);
    place_leave(&p);
    snprintf(erasing, sizeof erasing, "%s/.erasing", p.w.t.path);
    snprintf(data, sizeof data, "%s/" CS_LMDB_DATA, erasing);
    assert_int_equal(mkdir(erasing, 0700), 0);
    make_file(data);
    credstore_close(open_folder(&p, p.w.t.path, CREDSTORE_OPEN_READ_ONLY));
    assert_true(is_there(erasing));
    credstore_close(open_folder(&p, p.w.t.path, 0));
    assert_false(is_there(erasing));
    place_close(&p);
}

/* ---- killed before any of its system calls ---- */

/* Those that change something; the others are no points of their own. */
static const long changing[] = {
    SYS_write,    SYS_pwrite64,  SYS_writev,  SYS_pwritev,  SYS_fsync,  SYS_fdatasync,
    SYS_renameat, SYS_renameat2, SYS_mkdirat, SYS_unlinkat, SYS_openat, SYS_ftruncate,
    SYS_fchmod,   SYS_fchown,    SYS_flock,   SYS_close,    SYS_msync,
#ifdef SYS_rename
    SYS_rename,   SYS_mkdir,     SYS_unlink,  SYS_rmdir,    SYS_open,
#endif
};

static bool is_changing(long number)
{
    for (size_t i = 0; i < LIFE_COUNT(changing); i++)
        if (changing[i] == number)
            return true;
    return false;
}

enum { ENDED, KILLED, UNTRACED };

/* Runs `verb` in a child that is killed right before its nth changing call. */
static int run_until(place *p, int verb, unsigned long n)
{
    unsigned long seen = 0;
    int status = 0;
    const pid_t pid = fork();

    if (pid == 0) {
        credstore_error err;

        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        take_key_again(p);
        if (verb < SORTS)
            place_reopen(p);
        _exit(run_verb(p, verb, &err) == CREDSTORE_OK ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status))
        return UNTRACED;
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    while (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid) {
        struct ptrace_syscall_info info;

        if (WIFEXITED(status) || WIFSIGNALED(status))
            break;
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
            continue;
        if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return UNTRACED;
        }
        if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !is_changing((long)info.entry.nr))
            continue;
        if (++seen < n)
            continue;
        kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status))
            continue;
        return KILLED;
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return ENDED;
}

/* Whatever there is is whole, and the same again goes well. */
static void assert_recovers(place *p, int verb, uint64_t before)
{
    char erasing[PATH_SIZE];
    credstore_error err;

    assert_true(content_at(p, p->w.t.path) == before);
    snprintf(erasing, sizeof erasing, "%s/.erasing", p->w.t.path);
    assert_false(is_there(erasing)); /* gone with the opening */
    if (verb == VERBS - 1) {
        life_ok(credstore_erase(p->w.t.path, &p->options, &err));
        assert_true(content_at(p, p->w.t.path) == before);
        return;
    }
    if (!is_there(p->target)) {
        if (verb < SORTS)
            place_reopen(p);
        life_ok(run_verb(p, verb, &err));
        place_leave(p);
    }
    assert_false(is_there(p->part));
    assert_whole(p, p->target);
    test_folder_remove(p->target);
}

static void killed_anywhere(void **state)
{
    const unsigned long most = test_number("CREDSTORE_KILLS", 4);
    const char *variant = getenv("CREDSTORE_VARIANT");
    credstore_error err;
    uint64_t before;
    place p;

    (void)state;
    if (variant != NULL && strcmp(variant, "valgrind") == 0) {
        print_message("skipped: valgrind's own system calls would be counted\n");
        skip();
    }
    place_open(&p, TEST_LMDB);
    life_ok(back_up(&p, p.backup, 0, &err));
    before = content(p.w.t.store);
    place_leave(&p);
    for (int verb = 0; verb < VERBS; verb++) {
        const unsigned long stride = verb == VERBS - 1 ? 1 : most; /* erase destroys: each one */
        unsigned long n = 1 + test_random(&chance) % stride;
        unsigned long kills = 0;
        int ended;

        while ((ended = run_until(&p, verb, n)) == KILLED) {
            assert_recovers(&p, verb, before);
            n += stride;
            kills++;
        }
        if (ended == UNTRACED) {
            place_close(&p);
            print_message("skipped: children may not be traced here\n");
            skip();
        }
        assert_recovers(&p, verb, before);
        print_message("%s: killed before %lu of its system calls\n", verb_names[verb], kills);
        assert_true(kills > 2);
    }
    place_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_is_the_store),
        cmocka_unit_test(a_group_stays_a_group),
        cmocka_unit_test(a_read_only_store_is_copied),
        cmocka_unit_test(engines_may_lack_it),
        cmocka_unit_test(engines_may_babble),
        cmocka_unit_test(old_tables),
        cmocka_unit_test(who_may),
        cmocka_unit_test(targets),
        cmocka_unit_test(a_place_that_is_taken_meanwhile),
        cmocka_unit_test(no_room),
        cmocka_unit_test(a_disk_that_fills),
        cmocka_unit_test(written_between),
        cmocka_unit_test(beside_writers),
        cmocka_unit_test(a_new_epoch),
        cmocka_unit_test(restore_refuses),
        cmocka_unit_test(a_backup_with_pipes),
        cmocka_unit_test(an_edited_backup),
        cmocka_unit_test(a_backup_cut_short),
        cmocka_unit_test(a_backup_with_flips),
        cmocka_unit_test(old_ciphertext_goes),
        cmocka_unit_test(erase_refuses),
        cmocka_unit_test(a_child_outlives_it),
        cmocka_unit_test(a_child_outlives_restore_and_erase),
        cmocka_unit_test(leftovers),
        cmocka_unit_test(killed_anywhere),
    };

    chance = test_seed("backup_test");
    return cmocka_run_group_tests_name("backup, restore, erase", tests, NULL, NULL);
}
