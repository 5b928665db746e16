/* SPDX-License-Identifier: MIT
 *
 * What grows, seen from above. A disk that fills, and a file that comes to the process's limit:
 * E_FULL, the store as it was, and all in order again when there is room. A map that is outgrown
 * (it is small at first: mdb_env_set_mapsize is wrapped): nobody notices.
 */
#define _GNU_SOURCE /* unshare */

#include "../support.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lmdb.h>

int __real_mdb_env_set_mapsize(MDB_env *mdb, size_t size);
int __wrap_mdb_env_set_mapsize(MDB_env *mdb, size_t size);

enum { NO_RIGHT = 77, CREATED_MAX = 4000, BALLAST = 1 << 20, LIMIT = 1 << 20 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

typedef struct disk {
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX + 8], ballast[TEST_PATH_MAX + 16];
} disk;

typedef struct created {
    char id[28];
    uint64_t secret;
} created;

static created all[CREATED_MAX];
static int count;

static size_t first_map; /* of the next opening; 0 = as the library has it */
static int growths;

int __wrap_mdb_env_set_mapsize(MDB_env *mdb, size_t size)
{
    const char *path = NULL;

    mdb_env_get_path(mdb, &path);
    growths += path != NULL ? 1 : 0;
    return __real_mdb_env_set_mapsize(mdb, path == NULL && first_map != 0 ? first_map : size);
}

static void secret_of(uint64_t number, char out[4000])
{
    memset(out, 'a' + (int)(number % 26), 3999);
    out[3999] = '\0';
    snprintf(out, 32, "%020llu", (unsigned long long)number);
    out[20] = '-';
}

static credstore_status create_one(credstore *store, uint64_t number, credstore_error *err)
{
    const credstore_actor actor = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "s", TEST_TENANT);
    const credstore_call call = test_call(&actor);
    credstore_checkbook_patch patch = {.struct_size = sizeof patch};
    const credstore_checkbook *view = NULL;
    char secret[4000];
    credstore_status status;

    secret_of(number, secret);
    patch.publishable_key = (credstore_text)CREDSTORE_TEXT("publishable");
    patch.base_url = (credstore_text)CREDSTORE_TEXT("https://example.com");
    patch.secret_key = (credstore_secret_text)CREDSTORE_SECRET(secret, CREDSTORE_NTS);
    status = credstore_checkbook_create(store, &call, NULL, &patch, &view, err);
    if (status == CREDSTORE_OK && count < CREATED_MAX) {
        all[count].secret = number;
        memcpy(all[count++].id, view->id, sizeof all[0].id);
    }
    credstore_free(view);
    return status;
}

static void all_are_there(credstore *store)
{
    const credstore_actor actor = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "s", TEST_TENANT);
    const credstore_call call = test_call(&actor);

    for (int i = 0; i < count; i++) {
        credstore_secret *secret = NULL;
        char expected[4000];
        credstore_error err;

        secret_of(all[i].secret, expected);
        CHECK(credstore_checkbook_reveal(store, &call, all[i].id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                         &secret, &err) == CREDSTORE_OK);
        CHECK(strcmp(credstore_secret_ptr(secret), expected) == 0);
        credstore_secret_free(secret);
    }
}

/* Creates until there is no room, makes room, and goes on. */
static void fill_up(const disk *d, void (*make_room)(const disk *d))
{
    credstore *store = open_lmdb(d->path);
    credstore_error err = {0};
    uint64_t number = 0;
    int before;

    while (create_one(store, number, &err) == CREDSTORE_OK && count < CREATED_MAX - 100)
        number++;
    before = count;
    fprintf(stderr, "%d records, then %s (%d)\n", count, credstore_status_name(err.status),
            err.native);
    CHECK(before > 10 && err.status == CREDSTORE_E_FULL && err.message[0] != '\0');
    for (int i = 0; i < 20; i++) { /* now and then a small one fits */
        const credstore_status status = create_one(store, number + 1000, &err);

        CHECK(status == CREDSTORE_OK || status == CREDSTORE_E_FULL);
    }
    all_are_there(store);
    make_room(d);
    for (int i = 0; i < 30; i++)
        CHECK(create_one(store, number + 2000, &err) == CREDSTORE_OK);
    CHECK(count >= before + 30);
    credstore_close(store);
    store = open_lmdb(d->path);
    all_are_there(store);
    credstore_close(store);
}

static void new_disk(disk *d)
{
    test_folder(d->folder);
    snprintf(d->path, sizeof d->path, "%s/store", d->folder);
    snprintf(d->ballast, sizeof d->ballast, "%s/ballast", d->folder);
}

static int in_child(void (*run)(const disk *d))
{
    int status = 0;
    disk d;
    pid_t pid;

    new_disk(&d);
    pid = fork();
    if (pid == 0) {
        run(&d);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    test_folder_remove(d.folder);
    return status;
}

/* ---- a disk of three megabytes, one of which is taken at first ---- */

static void remove_ballast(const disk *d)
{
    CHECK(unlink(d->ballast) == 0);
}

static void fill_a_disk(const disk *d)
{
    char *megabyte = calloc(1, BALLAST);
    int fd;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", d->folder, "tmpfs", 0, "size=3m,mode=0700") != 0)
        _exit(NO_RIGHT);
    fd = open(d->ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && megabyte != NULL && write(fd, megabyte, BALLAST) == BALLAST);
    close(fd);
    free(megabyte);
    fill_up(d, remove_ballast);
}

static void test_disk_that_fills(void **state)
{
    const int status = in_child(fill_a_disk);

    (void)state;
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_RIGHT) {
        print_message("skipped: no right to mount a small disk\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* ---- RLIMIT_FSIZE ---- */

static void set_limit(rlim_t bytes)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void lift_limit(const disk *d)
{
    (void)d;
    set_limit((rlim_t)LIMIT * 64);
}

static void fill_a_file(const disk *d)
{
    signal(SIGXFSZ, SIG_IGN); /* as a host does that sets a limit and wants to live */
    set_limit(LIMIT);
    fill_up(d, lift_limit);
}

static void test_file_that_comes_to_its_limit(void **state)
{
    (void)state;
    assert_int_equal(in_child(fill_a_file), 0);
}

/* ---- a map that is outgrown ---- */

static void outgrow(const disk *d)
{
    credstore *store;
    credstore_error err = {0};
    uint64_t before;

    first_map = 1 << 18;
    store = open_lmdb(d->path);
    before = test_generation(store);
    for (uint64_t i = 0; i < 600; i++) {
        CHECK(create_one(store, i, &err) == CREDSTORE_OK);
        CHECK(err.status == CREDSTORE_OK && err.message[0] == '\0');
    }
    fprintf(stderr, "600 records, %d larger maps\n", growths);
    CHECK(growths >= 4 && count == 600);
    CHECK(test_generation(store) == before + 600); /* what was run again was counted once */
    all_are_there(store);
    credstore_close(store);
}

static void test_map_that_is_outgrown(void **state)
{
    (void)state;
    assert_int_equal(in_child(outgrow), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_that_fills),
        cmocka_unit_test(test_file_that_comes_to_its_limit),
        cmocka_unit_test(test_map_that_is_outgrown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
