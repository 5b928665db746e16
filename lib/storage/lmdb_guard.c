/* SPDX-License-Identifier: MIT
 *
 * Guard, presence and lock-file locks of the LMDB engine.
 *
 * LMDB marks its presence with two POSIX record locks on lock.mdb: byte 0, shared, and the byte at
 * its process id. Closing any descriptor of that file, anywhere in the process, drops both: other
 * processes then take the lock file for abandoned and the readers for dead. So both are held a
 * second time as locks of our own open file description (F_OFD_SETLK), which no other close drops
 * and which LMDB's own tests in other processes see. They cost nothing at begin, and there is no
 * moment at which they are not held.
 */
#define _GNU_SOURCE /* F_OFD_SETLK */

#include "storage/lmdb_env.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MIN_US = 100, POLL_MAX_US = 4000, SCAN_MAX = 65536, QUEUE_BYTE = 1 };

static const int64_t wait_max_ms = INT64_C(365) * 24 * 3600 * 1000;

/* ---- descriptors ---- */

void cs_lmdb_locks_init(cs_lmdb_locks *locks)
{
    locks->guard = locks->presence = locks->lock = locks->folder = -1;
    for (size_t i = 0; i < sizeof locks->lmdb / sizeof locks->lmdb[0]; i++)
        locks->lmdb[i] = -1;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void cs_lmdb_locks_close(cs_lmdb_locks *locks)
{
    close_fd(&locks->lock);
    close_fd(&locks->presence);
    close_fd(&locks->guard);
    close_fd(&locks->folder);
}

void cs_lmdb_locks_forget(cs_lmdb_locks *locks)
{
    for (size_t i = 0; i < sizeof locks->lmdb / sizeof locks->lmdb[0]; i++)
        close_fd(&locks->lmdb[i]);
    cs_lmdb_locks_close(locks);
}

int cs_lmdb_file_open(int folder, const char *name, mode_t mode, int *fd)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;

    *fd = openat(folder, name, flags);
    if (*fd >= 0)
        return 0;
    if (errno != ENOENT)
        return errno;
    *fd = openat(folder, name, flags | O_CREAT | O_EXCL, mode);
    if (*fd < 0 && errno == EEXIST) /* another process was faster */
        *fd = openat(folder, name, flags);
    else if (*fd >= 0 && fchmod(*fd, mode) != 0)
        return errno;
    return *fd < 0 ? errno : 0;
}

static bool fd_matches(int fd, const struct stat *st, int except, int mask, int flags)
{
    struct stat other;

    return fd != except && fstat(fd, &other) == 0 && other.st_dev == st->st_dev &&
           other.st_ino == st->st_ino && (fcntl(fd, F_GETFL) & mask) == flags;
}

/* Without /proc (a bare chroot): ask for each number. */
static int find_fd_by_number(const struct stat *st, int except, int mask, int flags)
{
    struct rlimit limit;
    int last = SCAN_MAX;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < SCAN_MAX)
        last = (int)limit.rlim_cur;
    for (int fd = 0; fd < last; fd++)
        if (fd_matches(fd, st, except, mask, flags))
            return fd;
    return -1;
}

int cs_lmdb_find_fd(const struct stat *st, int except, int mask, int flags)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    int found = -1;

    if (dir == NULL)
        return find_fd_by_number(st, except, mask, flags);
    while (found < 0 && (entry = readdir(dir)) != NULL) {
        const int fd = (int)strtol(entry->d_name, NULL, 10);

        if (entry->d_name[0] != '.' && fd_matches(fd, st, except, mask, flags))
            found = fd;
    }
    closedir(dir);
    return found;
}

/* ---- flock: guard and presence ---- */

int64_t cs_lmdb_now_ms(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_us(int64_t us)
{
    const struct timespec nap = {us / 1000000, (us % 1000000) * 1000};

    nanosleep(&nap, NULL);
}

void cs_lmdb_sleep_ms(int64_t ms)
{
    sleep_us(ms * 1000);
}

static int flock_retry(int fd, int operation)
{
    int rc;

    do
        rc = flock(fd, operation) == 0 ? 0 : errno;
    while (rc == EINTR);
    return rc;
}

static int record_lock(int fd, int command, short type, off_t byte)
{
    struct flock lock;
    int rc;

    memset(&lock, 0, sizeof lock); /* l_pid must be 0 */
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    do
        rc = fcntl(fd, command, &lock) == 0 ? 0 : errno;
    while (rc == EINTR);
    return rc == EACCES ? EAGAIN : rc;
}

/* There is no timed lock: tries, with naps that grow to `most`, until it is there or the time is
 * over. */
static int lock_within(int (*try_lock)(int fd), int fd, int64_t end, int64_t most)
{
    int64_t nap = POLL_MIN_US;
    int rc;

    while ((rc = try_lock(fd)) == EAGAIN) {
        if (cs_lmdb_now_ms() >= end)
            return ETIMEDOUT;
        sleep_us(nap);
        nap = nap * 2 > most ? most : nap * 2;
    }
    return rc;
}

static int try_guard(int fd)
{
    const int rc = flock_retry(fd, LOCK_EX | LOCK_NB);

    return rc == EWOULDBLOCK ? EAGAIN : rc;
}

/* A lock of the open file description on a byte of the same file: next in line. */
static int try_queue(int fd)
{
    return record_lock(fd, F_OFD_SETLK, F_WRLCK, QUEUE_BYTE);
}

/* Who is next in line keeps the line until the guard is his: so a process that writes without a
   pause cannot take the guard again before one that waits has had it. */
int cs_lmdb_guard_take(int fd, int64_t wait_ms)
{
    const int64_t most = wait_ms < 0 || wait_ms > wait_max_ms ? wait_max_ms : wait_ms;
    const int64_t end = cs_lmdb_now_ms() + most;
    struct stat st;
    int rc = lock_within(try_queue, fd, end, POLL_MAX_US);

    if (rc != 0)
        return rc;
    rc = lock_within(try_guard, fd, end, POLL_MIN_US);
    record_lock(fd, F_OFD_SETLK, F_UNLCK, QUEUE_BYTE);
    if (rc != 0)
        return rc;
    if (fstat(fd, &st) == 0 && st.st_nlink > 0)
        return 0;
    cs_lmdb_guard_drop(fd); /* others would guard with another file */
    return ESTALE;
}

void cs_lmdb_guard_drop(int fd)
{
    flock_retry(fd, LOCK_UN);
}

int cs_lmdb_presence_take(int fd, bool *alone)
{
    const int rc = flock_retry(fd, LOCK_EX | LOCK_NB);

    *alone = rc == 0;
    return rc == EWOULDBLOCK ? flock_retry(fd, LOCK_SH) : rc;
}

int cs_lmdb_presence_share(int fd)
{
    return flock_retry(fd, LOCK_SH);
}

/* ---- lock.mdb ---- */

int cs_lmdb_hold_env(int fd)
{
    return record_lock(fd, F_OFD_SETLK, F_RDLCK, 0);
}

int cs_lmdb_hold_pid(int fd)
{
    const off_t byte = getpid();
    /* The two sorts of lock exclude each other, so LMDB's goes first. It sets it only once. */
    const int rc = record_lock(fd, F_SETLK, F_UNLCK, byte);

    return rc != 0 ? rc : record_lock(fd, F_OFD_SETLK, F_WRLCK, byte);
}

/* ---- the turn among threads ---- */

static struct timespec deadline(int64_t wait_ms)
{
    struct timespec end = {0};
    const int64_t ms = wait_ms > wait_max_ms ? wait_max_ms : wait_ms;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    return end;
}

int cs_lmdb_turn_take(cs_lmdb_env *env, int64_t wait_ms)
{
    const struct timespec end = deadline(wait_ms < 0 ? 0 : wait_ms);
    int rc = pthread_mutex_lock(&env->turn_mutex);

    if (rc != 0)
        return rc;
    while (env->turn_taken && rc == 0)
        rc = wait_ms < 0 ? pthread_cond_wait(&env->turn_free, &env->turn_mutex)
                         : pthread_cond_timedwait(&env->turn_free, &env->turn_mutex, &end);
    if (!env->turn_taken) {
        env->turn_taken = true;
        rc = 0;
    }
    pthread_mutex_unlock(&env->turn_mutex);
    return rc;
}

void cs_lmdb_turn_drop(cs_lmdb_env *env)
{
    pthread_mutex_lock(&env->turn_mutex);
    env->turn_taken = false;
    pthread_cond_signal(&env->turn_free);
    pthread_mutex_unlock(&env->turn_mutex);
}
