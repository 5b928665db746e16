/* SPDX-License-Identifier: MIT
 *
 * The creation of a store, killed before each system call that others could see the effect of: the
 * next opening finds a store or none, and creates it if told to; what the killed one left is
 * cleared away then. The whole store, root slot and keys with it, not the engine's alone.
 */
#define _GNU_SOURCE /* PTRACE_O_EXITKILL */

#include "../support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static credstore_status open_it(const char *path, uint32_t flags)
{
    credstore_options options = {.struct_size = sizeof options, .flags = flags};
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;
    credstore_status status = credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err);

    options.key = key;
    if (status == CREDSTORE_OK)
        status = credstore_open(path, &options, &store, &err);
    credstore_key_source_free(key);
    credstore_close(store);
    return status;
}

/* Calls that change nothing outside of the process: to be killed before one of them is the same as
   to be killed before the next that is not here. */
static const long quiet_calls[] = {
    SYS_read,      SYS_pread64,   SYS_close,   SYS_fstat,          SYS_newfstatat,
    SYS_fstatfs,   SYS_lseek,     SYS_mmap,    SYS_munmap,         SYS_mprotect,
    SYS_madvise,   SYS_mlock,     SYS_munlock, SYS_mlock2,         SYS_brk,
    SYS_getrandom, SYS_getpid,    SYS_gettid,  SYS_getdents64,     SYS_futex,
    SYS_prctl,     SYS_prlimit64, SYS_geteuid, SYS_rt_sigprocmask, SYS_rt_sigaction};

static bool is_quiet(pid_t pid)
{
    struct __ptrace_syscall_info info = {0};

    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0)
        return false;
    for (size_t i = 0; i < sizeof quiet_calls / sizeof quiet_calls[0]; i++)
        if ((long)info.entry.nr == quiet_calls[i])
            return true;
    return false;
}

typedef enum ending { KILLED, ENDED, NOT_TRACED } ending;

static pid_t start(const char *path)
{
    const pid_t pid = fork();

    if (pid != 0)
        return pid;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    raise(SIGSTOP);
    _exit(open_it(path, CREDSTORE_OPEN_CREATE) == CREDSTORE_OK ? 0 : 1);
}

/* Kills the child as it enters its nth call that is not quiet. */
static ending run_until(const char *path, int nth)
{
    const pid_t pid = start(path);
    bool entering = false;
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return NOT_TRACED;
    assert_true(WIFSTOPPED(status));
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
    for (int calls = 0; calls < nth;) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return ENDED;
        }
        assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
        entering = !entering;
        calls += entering && !is_quiet(pid) ? 1 : 0;
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return KILLED;
}

/* What a maker that was killed left is gone: beside the store, and within. */
static void assert_tidy(const char *folder, const char *path, int nth)
{
    const char *const places[] = {folder, path};

    for (size_t i = 0; i < 2; i++) {
        DIR *dir = opendir(places[i]);
        const struct dirent *entry;

        assert_non_null(dir);
        while ((entry = readdir(dir)) != NULL)
            if (strstr(entry->d_name, ".creating-") != NULL)
                fail_msg("killed at call %d: %s is left in %s", nth, entry->d_name, places[i]);
        closedir(dir);
    }
}

static void assert_opens(const char *path, int nth, int *there)
{
    credstore_status status = open_it(path, 0);

    *there += status == CREDSTORE_OK ? 1 : 0;
    if (status != CREDSTORE_OK && status != CREDSTORE_E_NOT_FOUND)
        fail_msg("killed at call %d: %s", nth, credstore_status_name((int32_t)status));
    status = open_it(path, CREDSTORE_OPEN_CREATE);
    if (status != CREDSTORE_OK)
        fail_msg("killed at call %d, create: %s", nth, credstore_status_name((int32_t)status));
    assert_int_equal(open_it(path, 0), CREDSTORE_OK);
}

static void kill_at_each_call(bool in_a_folder)
{
    ending end = KILLED;
    int nth = 0;
    int there = 0;

    while (end == KILLED) {
        char folder[TEST_PATH_MAX];
        char path[TEST_PATH_MAX + 8];

        test_folder(folder);
        snprintf(path, sizeof path, "%s/store", folder);
        if (in_a_folder)
            assert_int_equal(mkdir(path, 0700), 0);
        end = run_until(path, ++nth);
        if (end == KILLED)
            assert_opens(path, nth, &there);
        assert_tidy(folder, path, nth);
        test_folder_remove(folder);
    }
    if (end == NOT_TRACED) {
        print_message("skipped: no right to trace a child\n");
        skip();
    }
    print_message("killed before %d calls; the store was there after %d\n", nth - 1, there);
    assert_true(there > 0 && nth - 1 - there > 20);
}

static void test_creation_killed(void **state)
{
    (void)state;
    kill_at_each_call(false);
}

static void test_creation_in_a_folder_killed(void **state)
{
    (void)state;
    kill_at_each_call(true);
}

/* Only what a maker left: not what one works on, nor what holds more than he would put there. */
static void test_what_is_not_left(void **state)
{
    static const struct {
        const char *name, *file;
        bool locked, stays;
    } rows[] = {
        {"store.creating-aaaaaa", "data.mdb", false, false},
        {"store.creating-bbbbbb", "guard.lock", true, true},
        {"store.creating-cccccc", "letter", false, true},
        {"store.creating-toolong", "data.mdb", false, true},
        {"stores.creating-dddddd", "data.mdb", false, true},
    };
    char folder[TEST_PATH_MAX], path[2 * TEST_PATH_MAX];
    int locks[sizeof rows / sizeof *rows];

    (void)state;
    test_folder(folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, rows[i].name);
        assert_int_equal(mkdir(path, 0700), 0);
        locks[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(!rows[i].locked || flock(locks[i], LOCK_EX) == 0);
        close(openat(locks[i], rows[i].file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    }
    snprintf(path, sizeof path, "%s/store", folder);
    assert_int_equal(open_it(path, CREDSTORE_OPEN_CREATE), CREDSTORE_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", folder, rows[i].name, rows[i].file);
        assert_int_equal(access(path, F_OK), rows[i].stays ? 0 : -1);
        close(locks[i]);
    }
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_creation_killed),
        cmocka_unit_test(test_creation_in_a_folder_killed),
        cmocka_unit_test(test_what_is_not_left),
    };

    setenv("TMPDIR", test_quick_base(), 1); /* nothing here needs a disk */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
