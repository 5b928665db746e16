/* SPDX-License-Identifier: MIT
 *
 * Anchors: a store held against one when it is opened, and the file that keeps one elsewhere.
 */
#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/lmdb_env.h"

static uint64_t chance;

/* ---- a store and copies of it ---- */

typedef struct scene {
    test_world w;
    char folder[TEST_PATH_MAX], file[2 * TEST_PATH_MAX];
} scene;

static void scene_open(scene *s)
{
    memset(s, 0, sizeof *s);
    test_folder(s->folder);
    snprintf(s->file, sizeof s->file, "%s/anchor", s->folder);
    test_open(&s->w.t, TEST_LMDB);
    s->w.root = test_root(s->w.t.store);
    s->w.call = test_call(&s->w.root);
}

static void scene_close(scene *s)
{
    test_close(&s->w.t);
    test_folder_remove(s->folder);
}

static credstore_checkpoint taken(scene *s)
{
    credstore_checkpoint point;
    credstore_error err;

    life_ok(credstore_anchor_take(s->w.t.store, &s->w.call, &point, &err));
    return point;
}

/* The data file, as it was at one moment; or put back. */
static void copy_data(const scene *s, const char *name, bool back)
{
    char data[2 * TEST_PATH_MAX], copy[2 * TEST_PATH_MAX], chunk[4096];
    ssize_t got;
    int in, out;

    snprintf(data, sizeof data, "%s/" CS_LMDB_DATA, s->w.t.path);
    snprintf(copy, sizeof copy, "%s/%s", s->folder, name);
    in = open(back ? copy : data, O_RDONLY | O_CLOEXEC);
    out = open(back ? data : copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    while ((got = read(in, chunk, sizeof chunk)) > 0)
        assert_int_equal(write(out, chunk, (size_t)got), got);
    close(in);
    close(out);
}

static void leave(scene *s)
{
    credstore_close(s->w.t.store);
    s->w.t.store = NULL;
}

static credstore_status open_with(scene *s, const credstore_checkpoint *anchor,
                                  credstore_error *err)
{
    s->w.t.options.anchor = anchor;
    return test_reopen(&s->w.t, err);
}

static void held_against(void **state)
{
    credstore_checkpoint old, now, wrong;
    credstore_error err;
    scene s;

    (void)state;
    scene_open(&s);
    life_issue(&s.w, 0);
    old = taken(&s);
    assert_int_equal(old.struct_size, sizeof old);
    assert_int_equal(old.epoch, 1);
    leave(&s);
    copy_data(&s, "old", false);
    life_ok(open_with(&s, &old, &err)); /* as it was */
    life_issue(&s.w, 0);
    life_issue(&s.w, 0);
    now = taken(&s);
    assert_int_equal(now.generation, old.generation + 2);
    assert_int_equal(now.seq, old.seq + 2);
    life_ok(open_with(&s, &old, &err)); /* further than an older anchor */
    life_ok(open_with(&s, &now, &err));
    leave(&s);

    copy_data(&s, "old", true); /* an older copy */
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &now, &err));
    assert_string_equal(err.field, "anchor");
    life_ok(open_with(&s, &old, &err));
    life_issue(&s.w, 0); /* and it goes on: as far, by another way */
    wrong = now;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    life_ok(open_with(&s, NULL, &err));
    life_issue(&s.w, 0);
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &now, &err)); /* the same generation */
    life_ok(open_with(&s, NULL, &err));
    life_issue(&s.w, 0);
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &now, &err)); /* a later one */
    life_ok(open_with(&s, &old, &err));                          /* which both have */
    scene_close(&s);
}

static void each_number_counts(void **state)
{
    credstore_checkpoint now, wrong;
    credstore_error err;
    scene s;

    (void)state;
    scene_open(&s);
    life_issue(&s.w, 0);
    now = taken(&s);
    leave(&s);
    wrong = now;
    wrong.generation++;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    wrong = now;
    wrong.seq++;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    wrong = now;
    wrong.seq--;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    wrong = now;
    wrong.chain[31] ^= 1;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    wrong = now;
    wrong.epoch++;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    wrong = now;
    wrong.epoch = 0; /* not compared */
    life_ok(open_with(&s, &wrong, &err));
    wrong.struct_size = offsetof(credstore_checkpoint, epoch); /* of before there were epochs */
    life_ok(open_with(&s, &wrong, &err));
    wrong.struct_size = 3;
    life_fails(CREDSTORE_E_INVALID, open_with(&s, &wrong, &err));
    scene_close(&s);
}

/* A store that is gone is not made anew under an anchor. */
static void a_store_that_is_gone(void **state)
{
    credstore_checkpoint now;
    credstore_error err;
    scene s;

    (void)state;
    scene_open(&s);
    now = taken(&s);
    leave(&s);
    test_folder_remove(s.w.t.path);
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &now, &err));
    life_ok(open_with(&s, NULL, &err)); /* another store, with the same key */
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &now, &err));
    scene_close(&s);
}

static void pruned_places(void **state)
{
    credstore_checkpoint early, middle, late, wrong;
    credstore_error err;
    uint32_t more = 1;
    scene s;

    (void)state;
    scene_open(&s);
    life_issue(&s.w, 0);
    early = taken(&s);
    life_issue(&s.w, 0);
    middle = taken(&s);
    life_issue(&s.w, 0);
    late = taken(&s);
    while (more != 0)
        life_ok(credstore_audit_prune(s.w.t.store, &s.w.call, &middle, &more, &err));
    life_ok(open_with(&s, &early, &err)); /* nothing is left to hold it against but the numbers */
    life_ok(open_with(&s, &middle, &err));
    life_ok(open_with(&s, &late, &err));
    wrong = middle; /* where the rest begins */
    wrong.chain[0] ^= 1;
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &wrong, &err));
    life_ok(open_with(&s, NULL, &err));
    scene_close(&s);
}

static void a_new_epoch_is_accepted(void **state)
{
    char backup[2 * TEST_PATH_MAX];
    credstore_key_source *key = NULL;
    credstore_options options;
    credstore_checkpoint old, now, read;
    credstore_error err;
    scene s;

    (void)state;
    scene_open(&s);
    life_issue(&s.w, 0);
    snprintf(backup, sizeof backup, "%s/backup", s.folder);
    life_ok(credstore_backup(s.w.t.store, &s.w.call, backup, 0, NULL, NULL, &err));
    life_issue(&s.w, 0);
    old = taken(&s);
    life_ok(credstore_anchor_write(s.file, &old, 0, &err));
    leave(&s);
    test_folder_remove(s.w.t.path);
    life_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err));
    options = s.w.t.options;
    options.flags = 0;
    options.key = key;
    options.anchor = &old; /* the backup is older than this */
    life_fails(CREDSTORE_E_ROLLBACK, credstore_restore(backup, s.w.t.path, &options, &now, &err));
    options.anchor = NULL;
    life_ok(credstore_restore(backup, s.w.t.path, &options, &now, &err));
    credstore_key_source_free(key);
    life_fails(CREDSTORE_E_ROLLBACK, open_with(&s, &old, &err));
    assert_non_null(strstr(err.message, "take a new anchor"));
    life_fails(CREDSTORE_E_ROLLBACK, credstore_anchor_write(s.file, &now, 0, &err));
    life_ok(credstore_anchor_read(s.file, &read, &err));
    assert_memory_equal(&read, &old, sizeof read);
    life_ok(credstore_anchor_write(s.file, &now, CREDSTORE_ANCHOR_ACCEPT, &err));
    life_ok(credstore_anchor_read(s.file, &read, &err));
    life_ok(open_with(&s, &read, &err));
    life_issue(&s.w, 0);
    now = taken(&s);
    assert_int_equal(now.epoch, 2);
    life_ok(credstore_anchor_write(s.file, &now, 0, &err));
    life_fails(CREDSTORE_E_ROLLBACK, credstore_anchor_write(s.file, &old, 0, &err));
    scene_close(&s);
}

/* ---- the file ---- */

static credstore_checkpoint some_point(uint64_t generation)
{
    credstore_checkpoint point = {.struct_size = sizeof point, .epoch = 1};

    point.generation = generation;
    point.seq = generation * 2;
    memset(point.chain, (int)generation, sizeof point.chain);
    return point;
}

static size_t file_size(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static void the_file(void **state)
{
    char path[TEST_PATH_MAX + 32], fresh[TEST_PATH_MAX + 32], folder[TEST_PATH_MAX];
    credstore_checkpoint point = some_point(7), read;
    const mode_t umask_before = umask(0277);
    credstore_error err;
    struct stat st;

    (void)state;
    test_folder(folder);
    snprintf(path, sizeof path, "%s/anchor", folder);
    snprintf(fresh, sizeof fresh, "%s/anchor.new", folder);
    chmod(folder, 0700);
    life_fails(CREDSTORE_E_NOT_FOUND, credstore_anchor_read(path, &read, &err));
    life_ok(credstore_anchor_write(path, &point, 0, &err));
    umask(umask_before);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_false(is_there(fresh));
    life_ok(credstore_anchor_read(path, &read, &err));
    assert_memory_equal(&read, &point, sizeof point);

    point = some_point(9); /* forwards, and not backwards */
    life_ok(credstore_anchor_write(path, &point, 0, &err));
    point = some_point(8);
    life_ok(credstore_anchor_write(path, &point, 0, &err));
    life_ok(credstore_anchor_read(path, &read, &err));
    assert_int_equal(read.generation, 9);
    point = some_point(9);
    point.chain[3] ^= 1; /* as far, by another way */
    life_fails(CREDSTORE_E_ROLLBACK, credstore_anchor_write(path, &point, 0, &err));
    point.epoch = 0;
    life_fails(CREDSTORE_E_INVALID, credstore_anchor_write(path, &point, 0, &err));
    point.epoch = 1;
    life_fails(CREDSTORE_E_UNSUPPORTED, credstore_anchor_write(path, &point, 2, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_anchor_write("", &point, 0, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_anchor_write(path, NULL, 0, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_anchor_read(NULL, &read, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_anchor_read(path, NULL, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_anchor_read(folder, &read, &err));
    snprintf(path, sizeof path, "%s/none/anchor", folder);
    life_fails(CREDSTORE_E_NOT_FOUND, credstore_anchor_write(path, &point, 0, &err));
    test_folder_remove(folder);
}

/* Torn at any length, changed in any byte: told, and not taken for none. */
static void a_damaged_file(void **state)
{
    char path[TEST_PATH_MAX + 32], folder[TEST_PATH_MAX];
    const credstore_checkpoint point = some_point(7), later = some_point(8);
    credstore_checkpoint read, untouched;
    uint8_t whole[256];
    credstore_error err;
    size_t size;
    int fd;

    (void)state;
    memset(&read, 0x5a, sizeof read);
    untouched = read;
    test_folder(folder);
    snprintf(path, sizeof path, "%s/anchor", folder);
    life_ok(credstore_anchor_write(path, &point, 0, &err));
    size = file_size(path);
    assert_true(size < sizeof whole);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, whole, size, 0), size);
    for (size_t len = 0; len < size; len++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, whole, len, 0), len);
        life_fails(CREDSTORE_E_INTEGRITY, credstore_anchor_read(path, &read, &err));
    }
    for (size_t at = 0; at < size; at++) {
        const uint8_t was = whole[at];
        credstore_status status;

        whole[at] ^= (uint8_t)(1 + test_random(&chance) % 255);
        assert_int_equal(pwrite(fd, whole, size, 0), size);
        status = credstore_anchor_read(path, &read, &err);
        assert_true(status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT);
        whole[at] = was;
    }
    assert_memory_equal(&read, &untouched, sizeof read);
    life_fails(CREDSTORE_E_INTEGRITY, credstore_anchor_write(path, &later, 0, &err));
    whole[17] = '2';
    assert_int_equal(pwrite(fd, whole, size, 0), size);
    life_fails(CREDSTORE_E_FORMAT, credstore_anchor_read(path, &read, &err));
    whole[17] = '1';
    assert_int_equal(pwrite(fd, whole, size, 0), size);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)size), 1); /* longer */
    life_fails(CREDSTORE_E_INTEGRITY, credstore_anchor_read(path, &read, &err));
    close(fd);
    life_ok(credstore_anchor_write(path, &later, CREDSTORE_ANCHOR_ACCEPT, &err));
    life_ok(credstore_anchor_read(path, &read, &err));
    assert_int_equal(read.generation, 8);
    test_folder_remove(folder);
}

/* Several processes keep one file: it goes forwards alone, and is whole at each look. */
static void many_writers(void **state)
{
    enum { CHILDREN = 4, ROUNDS = 40 };
    char path[TEST_PATH_MAX + 32], folder[TEST_PATH_MAX];
    credstore_checkpoint read;
    uint64_t last = 0;
    credstore_error err;
    pid_t children[CHILDREN];

    (void)state;
    test_folder(folder);
    snprintf(path, sizeof path, "%s/anchor", folder);
    for (uint64_t c = 0; c < CHILDREN; c++) {
        children[c] = fork();
        if (children[c] == 0) {
            alarm(60);
            for (uint64_t i = 0; i < ROUNDS; i++) {
                const credstore_checkpoint point = some_point(1 + i * CHILDREN + c);
                credstore_status written;

                do /* the others may keep the lock for longer than it is waited for */
                    written = credstore_anchor_write(path, &point, 0, &err);
                while (written == CREDSTORE_E_BUSY);
                if (written != CREDSTORE_OK)
                    _exit(1);
            }
            _exit(0);
        }
    }
    for (size_t ended = 0; ended < CHILDREN;) {
        int status = 0;
        const credstore_status now = credstore_anchor_read(path, &read, &err);

        if (now == CREDSTORE_OK) {
            assert_true(read.generation >= last);
            last = read.generation;
        } else {
            life_fails(CREDSTORE_E_NOT_FOUND, now);
            assert_int_equal(last, 0);
        }
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            ended++;
        }
    }
    life_ok(credstore_anchor_read(path, &read, &err));
    assert_int_equal(read.generation, ROUNDS * CHILDREN);
    test_folder_remove(folder);
}

/* ---- a thread that is cancelled ---- */

typedef struct scene_point {
    credstore_checkpoint point;
    char path[TEST_PATH_MAX + 32];
    credstore_status status;
} scene_point;

ssize_t __real_read(int fd, void *out, size_t len);
ssize_t __wrap_read(int fd, void *out, size_t len);

static _Atomic bool ends_in_read; /* the thread that reads next */

ssize_t __wrap_read(int fd, void *out, size_t len)
{
    if (atomic_exchange(&ends_in_read, false))
        pthread_cancel(pthread_self()); /* the real one would end it */
    return __real_read(fd, out, len);
}

/* A descriptor that somebody left has taken this number. */
static int next_descriptor(void)
{
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    close(fd);
    return fd;
}

static void *cancels_itself(void *arg)
{
    const scene_point *p = arg;

    pthread_cancel(pthread_self()); /* what comes first that can end it would */
    (void)credstore_anchor_write(p->path, &p->point, 0, NULL);
    pthread_testcancel();
    return NULL;
}

/* It ends after the call, and the folder is not locked for good. */
static void a_cancelled_writer(void **state)
{
    scene_point p = {.point = some_point(7)};
    char folder[TEST_PATH_MAX];
    credstore_checkpoint there;
    credstore_error err;
    pthread_t thread;
    void *result = NULL;

    (void)state;
    test_folder(folder);
    snprintf(p.path, sizeof p.path, "%s/anchor", folder);
    assert_int_equal(pthread_create(&thread, NULL, cancels_itself, &p), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_int_equal(credstore_anchor_read(p.path, &there, &err), CREDSTORE_OK);
    assert_int_equal(there.generation, 7);
    p.point = some_point(8);
    assert_int_equal(credstore_anchor_write(p.path, &p.point, 0, &err), CREDSTORE_OK);
    test_folder_remove(folder);
}

static void *is_cancelled_in_it(void *arg)
{
    scene_point *p = arg;

    p->status = credstore_anchor_read(p->path, &p->point, NULL);
    pthread_testcancel();
    return NULL;
}

static void a_cancelled_reader(void **state)
{
    const credstore_checkpoint point = some_point(7);
    scene_point p = {.status = CREDSTORE_E_INTERNAL};
    char folder[TEST_PATH_MAX];
    credstore_error err;
    pthread_t thread;
    void *result = NULL;
    int next;

    (void)state;
    test_folder(folder);
    snprintf(p.path, sizeof p.path, "%s/anchor", folder);
    assert_int_equal(credstore_anchor_write(p.path, &point, 0, &err), CREDSTORE_OK);
    next = next_descriptor();
    atomic_store(&ends_in_read, true);
    assert_int_equal(pthread_create(&thread, NULL, is_cancelled_in_it, &p), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_false(atomic_load(&ends_in_read));
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_int_equal(next_descriptor(), next);
    assert_int_equal(p.status, CREDSTORE_OK);
    assert_int_equal(p.point.generation, 7);
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_against),
        cmocka_unit_test(each_number_counts),
        cmocka_unit_test(a_store_that_is_gone),
        cmocka_unit_test(pruned_places),
        cmocka_unit_test(a_new_epoch_is_accepted),
        cmocka_unit_test(the_file),
        cmocka_unit_test(a_damaged_file),
        cmocka_unit_test(many_writers),
        cmocka_unit_test(a_cancelled_writer),
        cmocka_unit_test(a_cancelled_reader),
    };

    chance = test_seed("anchor_test");
    return cmocka_run_group_tests_name("anchors", tests, NULL, NULL);
}
