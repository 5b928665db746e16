/* SPDX-License-Identifier: MIT
 *
 * The LMDB environment of a folder: opening it, and sharing it within the process.
 */
#define _GNU_SOURCE /* O_DIRECTORY, O_DSYNC, mkdtemp, fstatfs */

#include "storage/lmdb_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"

/* Opening and closing run with the registry locked and cancellation off. */

static const size_t map_ceiling = sizeof(size_t) > 4 ? (size_t)1 << 36 : (size_t)1 << 30;
static const size_t map_floor = CS_LMDB_MAP_FLOOR;
static const size_t map_step = 1 << 16; /* a multiple of every page size */

/* The one state of the process: what it has open, so that a folder is opened once. */
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static cs_lmdb_env *registry;
/* What it inherited by fork: a writer may have been in the midst of it, so it cannot be freed. */
static cs_lmdb_env *inherited;
static cs_lmdb_held *all_held;

/* ---- the map ---- */

/* True if that much address space is there to be had. */
static bool can_reserve(size_t size)
{
    void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return false;
    munmap(at, size);
    return true;
}

/* The largest map that leaves the host as much again under its RLIMIT_AS, but at least `needed`. */
static size_t choose_map_size(size_t needed)
{
    size_t size = map_ceiling;

    while (size / 2 < needed && size <= SIZE_MAX / 2)
        size *= 2;
    while (size > map_floor && size / 2 >= needed && !can_reserve(size * 2))
        size /= 2;
    return size < needed ? needed : size;
}

static bool is_quiet(cs_lmdb_env *env)
{
    if (atomic_load(&env->temporaries) != 0)
        return false;
    for (size_t i = 0; i < CS_LMDB_SLOTS; i++)
        if (atomic_load(&env->slots[i].claimed) != 0)
            return false;
    return true;
}

static int set_map_size(cs_lmdb_env *env, size_t size)
{
    int rc;

    if (!can_reserve(size)) /* LMDB would unmap first and be left with nothing */
        return ENOMEM;
    rc = mdb_env_set_mapsize(env->mdb, size);
    if (rc != MDB_SUCCESS)
        atomic_store(&env->broken, true);
    return rc;
}

static int follow_quiet(cs_lmdb_env *env, const MDB_envinfo *info)
{
    MDB_stat stat;
    const int rc = mdb_env_stat(env->mdb, &stat);
    const size_t needed = (info->me_last_pgno + 1) * stat.ms_psize;

    if (rc != MDB_SUCCESS || needed <= info->me_mapsize) /* another thread was faster */
        return rc;
    return set_map_size(env, choose_map_size(needed));
}

/* Doubles the map, or does what of that there is address space for. */
static int grow_quiet(cs_lmdb_env *env, const MDB_envinfo *info)
{
    const size_t size = info->me_mapsize;
    size_t more = size;

    while (more > map_step && (more > SIZE_MAX - size || !can_reserve(size + more)))
        more /= 2;
    more = more < map_step ? map_step : more - more % map_step;
    return more > SIZE_MAX - size ? ENOMEM : set_map_size(env, size + more);
}

/* Moves the map while the process has no transaction. */
static int move_map(cs_lmdb_env *env, int (*move)(cs_lmdb_env *env, const MDB_envinfo *info))
{
    const int64_t end = cs_lmdb_now_ms() + CS_LMDB_DRAIN_WAIT_MS;
    MDB_envinfo info;
    int rc = 0;

    atomic_store(&env->draining, true);
    while (!is_quiet(env) && rc == 0) {
        cs_lmdb_sleep_ms(1);
        if (cs_lmdb_now_ms() >= end)
            rc = EBUSY;
    }
    if (rc == 0)
        rc = mdb_env_info(env->mdb, &info);
    if (rc == 0)
        rc = move(env, &info);
    atomic_store(&env->draining, false);
    return rc;
}

int cs_lmdb_env_remap(cs_lmdb_env *env)
{
    return move_map(env, follow_quiet);
}

int cs_lmdb_env_grow(cs_lmdb_env *env)
{
    return move_map(env, grow_quiet);
}

/* ---- opening ---- */

static int open_mdb_sized(const cs_lmdb_opening *o, size_t size, MDB_env **out)
{
    const unsigned int read_only = (o->flags & CREDSTORE_OPEN_READ_ONLY) != 0 ? MDB_RDONLY : 0;
    MDB_env *mdb = NULL;
    int rc = mdb_env_create(&mdb);

    if (rc != MDB_SUCCESS)
        return rc;
    rc = mdb_env_set_mapsize(mdb, size);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxreaders(mdb, CS_LMDB_READERS);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(mdb, o->path, MDB_NOTLS | MDB_NORDAHEAD | read_only,
                          cs_lmdb_file_mode(o->flags));
    if (rc != MDB_SUCCESS) {
        mdb_env_close(mdb);
        return rc;
    }
    *out = mdb;
    return MDB_SUCCESS;
}

static int open_mdb(const cs_lmdb_opening *o, MDB_env **out)
{
    size_t size = choose_map_size(map_floor);
    int rc = open_mdb_sized(o, size, out);

    while (rc == ENOMEM && size > map_floor) {
        size /= 2;
        rc = open_mdb_sized(o, size, out);
    }
    return rc;
}

/* LMDB makes the lock file as one hole and writes to it through its map: on a full disk a page of
   it that has no block yet kills the process. So all of its blocks are taken before. The size is
   what LMDB makes of so many readers: a header, and a cache line each. */
static int fill_lock_file(int fd)
{
    enum { READER = 64, HEAD = 128 };
    int rc;

    do
        rc = posix_fallocate(fd, 0, (off_t)CS_LMDB_READERS * READER + HEAD);
    while (rc == EINTR);
    return rc;
}

/* The lock file by our own descriptor. If others live, byte 0 is held before LMDB looks at it: so
   it cannot find the file abandoned and make it anew under them. */
static credstore_status open_lock_file(const cs_lmdb_opening *o, cs_lmdb_locks *locks, bool alone)
{
    struct stat st;
    int rc = cs_lmdb_file_open(o->folder, CS_LMDB_LOCK, cs_lmdb_file_mode(o->flags), &locks->lock);

    if (rc == 0 && fstat(locks->lock, &st) != 0)
        rc = errno;
    if (rc == 0 && alone)
        rc = fill_lock_file(locks->lock);
    if (rc != 0)
        return cs_lmdb_fail(o->err, rc, "cannot open the lock file");
    if (alone)
        return CREDSTORE_OK;
    if (st.st_size == 0)
        return cs_fail(o->err, CREDSTORE_E_STORAGE, "path",
                       "lock.mdb was removed while others have the store open: close it there");
    rc = cs_lmdb_hold_env(locks->lock);
    return rc != 0 ? cs_lmdb_fail(o->err, rc, "another program is taking the lock file")
                   : CREDSTORE_OK;
}

/* Two copies of the library (or another user of LMDB) in one process would drop each other's locks
   by merely opening and closing the lock file: so it is looked at by its inode only. */
static credstore_status check_second_copy(const cs_lmdb_opening *o)
{
    struct stat st;

    if (fstatat(o->folder, CS_LMDB_LOCK, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? CREDSTORE_OK
                               : cs_lmdb_fail(o->err, errno, "cannot look at the lock file");
    if (cs_lmdb_find_fd(&st, -1, 0, 0) < 0)
        return CREDSTORE_OK;
    return cs_fail(o->err, CREDSTORE_E_UNSUPPORTED, "path",
                   "a second copy of the library, or of LMDB, has the store open in this process");
}

/* LMDB's descriptors: close-on-exec (it leaves the data file's open), and noted for a child. */
static int note_descriptors(cs_lmdb_env *env)
{
    cs_lmdb_locks *locks = &env->locks;
    mdb_filehandle_t data;
    struct stat st;
    int rc = mdb_env_get_fd(env->mdb, &data);

    if (rc != MDB_SUCCESS)
        return rc;
    locks->lmdb[0] = data;
    if (fcntl(data, F_SETFD, FD_CLOEXEC) != 0 || fstat(data, &st) != 0)
        return errno;
    env->data_dev = st.st_dev;
    env->data_ino = st.st_ino;
    locks->lmdb[1] = cs_lmdb_find_fd(&st, data, O_ACCMODE | O_DSYNC, O_WRONLY | O_DSYNC);
    if (fstat(locks->lock, &st) != 0)
        return errno;
    locks->lmdb[2] = cs_lmdb_find_fd(&st, locks->lock, 0, 0);
    return locks->lmdb[2] < 0 ? ESTALE : 0; /* LMDB opened another file by that name */
}

/* The first read transaction makes LMDB take the byte of this process's id. It ends before that
   changes hands: a process that looks in between finds nothing of ours to clear. */
static int first_read(cs_lmdb_env *env)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn);

    if (rc != MDB_SUCCESS)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &env->dbi);
    mdb_txn_abort(txn);
    return rc;
}

/* Lines of LMDB's list of readers begin with the process. */
static int count_own(const char *line, void *arg)
{
    uint32_t *own = arg;

    *own += strtol(line, NULL, 10) == (long)getpid() ? 1 : 0;
    return 0;
}

/* *own: places in the reader table that seem to be this process's, though it has no reader yet. */
static int start_mdb(const cs_lmdb_opening *o, cs_lmdb_env *env, uint32_t *own)
{
    int rc = open_mdb(o, &env->mdb);

    *own = 0;
    if (rc == 0)
        rc = note_descriptors(env);
    if (rc == 0)
        rc = mdb_reader_check(env->mdb, NULL);
    if (rc == 0)
        rc = first_read(env);
    if (rc == 0 && mdb_reader_list(env->mdb, count_own, own) < 0)
        rc = MDB_INVALID;
    return rc;
}

/* A dead process may have had this one's id: the first of a container always has. LMDB takes the
   places that it left for living ones, and clears them only where it closes. */
static int start_cleared(const cs_lmdb_opening *o, cs_lmdb_env *env)
{
    uint32_t own = 0;
    const int rc = start_mdb(o, env, &own);

    if (rc != 0 || own == 0)
        return rc;
    mdb_env_close(env->mdb);
    env->mdb = NULL;
    return start_mdb(o, env, &own);
}

static void clear_left(int folder)
{
    cs_lmdb_clear_erasing(folder);
    cs_lmdb_clear_creating(folder);
}

/* With the guard in hand and everything checked that can be checked before. */
static credstore_status open_inside_guard(const cs_lmdb_opening *o, cs_lmdb_env *env, bool alone)
{
    int rc;
    credstore_status status = cs_lmdb_check_data(o);

    if (alone && (o->flags & CREDSTORE_OPEN_READ_ONLY) == 0)
        clear_left(o->folder);
    if (status == CREDSTORE_OK)
        status = open_lock_file(o, &env->locks, alone);
    if (status != CREDSTORE_OK)
        return status;
    rc = start_cleared(o, env);
    if (rc == 0 && alone)
        rc = cs_lmdb_hold_env(env->locks.lock);
    if (rc == 0)
        rc = cs_lmdb_hold_pid(env->locks.lock);
    if (rc == EAGAIN)
        return cs_fail_native(o->err, CREDSTORE_E_UNSUPPORTED, rc,
                              "a process with the same id has the store open: "
                              "two PID namespaces cannot share it");
    if (rc == 0 && alone)
        rc = cs_lmdb_presence_share(env->locks.presence);
    return rc != 0 ? cs_lmdb_fail(o->err, rc, "cannot open the LMDB environment") : CREDSTORE_OK;
}

static credstore_status open_locks(const cs_lmdb_opening *o, cs_lmdb_env *env)
{
    cs_lmdb_locks *locks = &env->locks;
    bool alone = false;
    credstore_status status;
    int rc =
        cs_lmdb_file_open(o->folder, CS_LMDB_GUARD, cs_lmdb_file_mode(o->flags), &locks->guard);

    if (rc == 0)
        rc = cs_lmdb_file_open(o->folder, CS_LMDB_PRESENCE, cs_lmdb_file_mode(o->flags),
                               &locks->presence);
    locks->folder = fcntl(o->folder, F_DUPFD_CLOEXEC, 0);
    if (rc == 0 && locks->folder < 0)
        rc = errno;
    if (rc == 0)
        rc = cs_lmdb_guard_take(locks->guard, CS_LMDB_OPEN_WAIT_MS);
    if (rc != 0)
        return cs_lmdb_fail(o->err, rc, "cannot open the lock files");
    status = check_second_copy(o);
    if (status == CREDSTORE_OK) {
        rc = cs_lmdb_presence_take(locks->presence, &alone);
        status = rc != 0 ? cs_lmdb_fail(o->err, rc, "cannot lock the presence file")
                         : open_inside_guard(o, env, alone);
    }
    cs_lmdb_guard_drop(locks->guard);
    return status;
}

static void free_env(cs_lmdb_env *env)
{
    if (env->shared != NULL)
        env->drop(env->shared);
    for (size_t i = 0; i < CS_LMDB_SLOTS && env->mdb != NULL; i++) {
        if (env->slots[i].cursor != NULL)
            mdb_cursor_close(env->slots[i].cursor);
        mdb_txn_abort(env->slots[i].txn);
    }
    mdb_env_close(env->mdb);
    cs_lmdb_locks_close(&env->locks);
    pthread_cond_destroy(&env->turn_free);
    pthread_mutex_destroy(&env->turn_mutex);
    cs_free(env);
}

static cs_lmdb_env *new_env(void)
{
    cs_lmdb_env *env = cs_alloc(1, sizeof *env);
    pthread_condattr_t attr;

    if (env == NULL)
        return NULL;
    cs_lmdb_locks_init(&env->locks);
    if (pthread_mutex_init(&env->turn_mutex, NULL) != 0) {
        cs_free(env);
        return NULL;
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&env->turn_free, &attr);
    pthread_condattr_destroy(&attr);
    return env;
}

static cs_lmdb_env *find_open(const struct stat *st)
{
    for (cs_lmdb_env *env = registry; env != NULL; env = env->next)
        if (env->dev == st->st_dev && env->ino == st->st_ino)
            return env;
    return NULL;
}

int cs_lmdb_env_in_place(const cs_lmdb_env *env, int folder)
{
    struct stat st;

    if (fstatat(folder, CS_LMDB_DATA, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? ESTALE : errno;
    return st.st_dev == env->data_dev && st.st_ino == env->data_ino ? 0 : ESTALE;
}

static credstore_status share(const cs_lmdb_opening *o, cs_lmdb_env *env, cs_lmdb_env **out)
{
    int rc;

    if (env->read_only && (o->flags & CREDSTORE_OPEN_READ_ONLY) == 0)
        return cs_fail(o->err, CREDSTORE_E_UNSUPPORTED, "flags",
                       "the store is open read-only in this process: close it there first");
    rc = cs_lmdb_env_in_place(env, o->folder);
    if (rc != 0)
        return cs_lmdb_fail(o->err, rc,
                            "the data file was replaced while the store was open: close it first");
    env->refs++;
    *out = env;
    return CREDSTORE_OK;
}

static credstore_status open_new(const cs_lmdb_opening *o, const struct stat *st, cs_lmdb_env **out)
{
    cs_lmdb_env *env;
    credstore_status status = cs_lmdb_check_files(o);

    if (status != CREDSTORE_OK)
        return status;
    env = new_env();
    if (env == NULL)
        return cs_fail(o->err, CREDSTORE_E_NO_MEMORY, NULL, "out of memory");
    status = open_locks(o, env);
    if (status != CREDSTORE_OK) {
        free_env(env);
        return status;
    }
    env->dev = st->st_dev;
    env->ino = st->st_ino;
    env->read_only = (o->flags & CREDSTORE_OPEN_READ_ONLY) != 0;
    env->refs = 1;
    env->next = registry;
    registry = env;
    *out = env;
    return CREDSTORE_OK;
}

static credstore_status open_folder(const cs_lmdb_opening *o, cs_lmdb_env **out)
{
    struct stat st;
    cs_lmdb_env *env;
    credstore_status status = cs_lmdb_check_file_system(o->folder, o->err);

    if (status != CREDSTORE_OK)
        return status;
    if (fstat(o->folder, &st) != 0)
        return cs_lmdb_fail(o->err, errno, "cannot look at the folder");
    status = cs_lmdb_check_access(&st, o->flags, o->err);
    if (status != CREDSTORE_OK)
        return status;
    env = find_open(&st);
    return env != NULL ? share(o, env, out) : open_new(o, &st, out);
}

/* Opens what is at the path, or makes it and asks to be called again (*again). */
static credstore_status open_or_create(cs_lmdb_opening *o, cs_lmdb_env **out, bool *again)
{
    const bool create =
        (o->flags & CREDSTORE_OPEN_CREATE) != 0 && (o->flags & CREDSTORE_OPEN_READ_ONLY) == 0;
    struct stat st;
    credstore_status status;

    *again = false;
    o->folder = open(o->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o->folder < 0) {
        *again = create && errno == ENOENT;
        return *again ? cs_lmdb_create_beside(o)
                      : cs_lmdb_fail(o->err, errno, "cannot open the folder");
    }
    if (fstatat(o->folder, CS_LMDB_DATA, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        status = open_folder(o, out);
    } else {
        *again = create && errno == ENOENT;
        status = *again ? cs_lmdb_create_inside(o)
                        : cs_lmdb_fail(o->err, errno, "cannot look at the data file");
    }
    close(o->folder);
    return status;
}

/* ---- fork ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&registry_mutex);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&registry_mutex);
}

/* The child lets go of every lock that it would keep alive for a dead parent. LMDB's memory and the
   reader table stay as they are: they are the parent's. */
static void after_fork_child(void)
{
    while (registry != NULL) {
        cs_lmdb_env *env = registry;

        registry = env->next;
        env->next = inherited;
        inherited = env;
        atomic_store(&env->forked, true);
        cs_lmdb_locks_forget(&env->locks);
    }
    for (; all_held != NULL; all_held = all_held->next)
        for (size_t i = 0; i < sizeof all_held->fds / sizeof all_held->fds[0]; i++)
            if (all_held->fds[i] >= 0)
                close(all_held->fds[i]);
    pthread_mutex_unlock(&registry_mutex);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void cs_lmdb_no_forks(void)
{
    pthread_once(&registry_once, watch_forks);
    pthread_mutex_lock(&registry_mutex);
}

void cs_lmdb_forks(void)
{
    pthread_mutex_unlock(&registry_mutex);
}

void cs_lmdb_held_add(cs_lmdb_held *held)
{
    held->next = all_held;
    all_held = held;
}

void cs_lmdb_held_remove(cs_lmdb_held *held)
{
    cs_lmdb_held **at = &all_held;

    while (*at != NULL && *at != held)
        at = &(*at)->next;
    if (*at != NULL)
        *at = held->next;
}

/* ---- the entry points ---- */

credstore_status cs_lmdb_env_open(const char *path, uint32_t flags, cs_lmdb_env **out,
                                  credstore_error *err)
{
    enum { TRIES = 4 };
    cs_lmdb_opening o = {path, flags, -1, err};
    credstore_status status = CREDSTORE_OK;
    bool again = true;
    int state;

    *out = NULL;
    if (path == NULL || path[0] == '\0')
        return cs_fail(err, CREDSTORE_E_INVALID, "path", "the path is empty");
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_once(&registry_once, watch_forks);
    pthread_mutex_lock(&registry_mutex);
    for (int i = 0; i < TRIES && again && status == CREDSTORE_OK; i++)
        status = open_or_create(&o, out, &again);
    pthread_mutex_unlock(&registry_mutex);
    pthread_setcancelstate(state, NULL);
    if (status == CREDSTORE_OK && *out == NULL)
        return cs_fail(err, CREDSTORE_E_STORAGE, "path", "the folder goes away again and again");
    return status;
}

static void forget(const cs_lmdb_env *env)
{
    cs_lmdb_env **at = &registry;

    while (*at != NULL && *at != env)
        at = &(*at)->next;
    if (*at != NULL)
        *at = env->next;
}

void cs_lmdb_env_close(cs_lmdb_env *env)
{
    int state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_mutex_lock(&registry_mutex);
    /* In a child LMDB's transactions would be ended in the parent's reader table. */
    if (--env->refs == 0 && !atomic_load(&env->forked)) {
        forget(env);
        free_env(env);
    }
    pthread_mutex_unlock(&registry_mutex);
    pthread_setcancelstate(state, NULL);
}

void *cs_lmdb_env_share(cs_lmdb_env *env, void *(*make)(void), void (*drop)(void *shared))
{
    pthread_mutex_lock(&registry_mutex);
    if (env->shared == NULL) {
        env->shared = make();
        env->drop = drop;
    }
    pthread_mutex_unlock(&registry_mutex);
    return env->shared;
}
