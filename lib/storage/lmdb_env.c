/* SPDX-License-Identifier: MIT
 *
 * The LMDB environment of a folder: making it, opening it, and sharing it within the process.
 */
#define _GNU_SOURCE /* O_DIRECTORY, O_DSYNC, mkdtemp, fstatfs */

#include "storage/lmdb_env.h"

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
static const size_t map_floor = (size_t)1 << 26;

#define TEMPORARY_INSIDE ".creating-"
#define TEMPORARY_SUFFIX "XXXXXX"

/* The one state of the process: what it has open, so that a folder is opened once. */
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static cs_lmdb_env *registry;
/* What it inherited by fork: a writer may have been in the midst of it, so it cannot be freed. */
static cs_lmdb_env *inherited;

/* What opening one folder works with. */
typedef struct opening {
    const char *path;
    uint32_t flags;
    int folder; /* descriptor */
    credstore_error *err;
} opening;

/* ---- errors ---- */

typedef struct failure_row {
    int code;
    credstore_status status;
    const char *message; /* NULL = the caller's */
} failure_row;

static const failure_row failures[] = {
    {ENOENT, CREDSTORE_E_NOT_FOUND, "there is no store at the path"},
    {ENOTDIR, CREDSTORE_E_INVALID, "the path is not a folder"},
    {ELOOP, CREDSTORE_E_INVALID, "the path runs in circles, or a file of the store is a link"},
    {ENAMETOOLONG, CREDSTORE_E_INVALID, "the path is too long"},
    {EACCES, CREDSTORE_E_FORBIDDEN, "no right to use the folder and its files"},
    {EPERM, CREDSTORE_E_FORBIDDEN, "no right to use the folder and its files"},
    {EROFS, CREDSTORE_E_FORBIDDEN, "the file system is read-only: the lock files must be writable"},
    {ENOSPC, CREDSTORE_E_FULL, NULL},
    {EDQUOT, CREDSTORE_E_FULL, NULL},
    {EFBIG, CREDSTORE_E_FULL, NULL},
    {ENOMEM, CREDSTORE_E_NO_MEMORY, NULL},
    {ETIMEDOUT, CREDSTORE_E_BUSY, "a writer kept the store for too long"},
    {MDB_READERS_FULL, CREDSTORE_E_BUSY, "too many processes have the store open"},
    {MDB_INVALID, CREDSTORE_E_INTEGRITY, "the data file is damaged"},
    {MDB_CORRUPTED, CREDSTORE_E_INTEGRITY, "the data file is damaged"},
    {MDB_VERSION_MISMATCH, CREDSTORE_E_FORMAT, "the data or lock file is of another LMDB version"},
    {ENOLCK, CREDSTORE_E_UNSUPPORTED, "the file system has no locks"},
};

/* message: what was being done, for codes that do not explain themselves. */
static credstore_status fail(credstore_error *err, int rc, const char *message)
{
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].code == rc)
            return cs_fail_native(err, failures[i].status, rc,
                                  failures[i].message != NULL ? failures[i].message : message);
    return cs_fail_native(err, CREDSTORE_E_STORAGE, rc, message);
}

/* ---- the folder ---- */

/* Magic numbers of statfs(2). FUSE is here because it cannot be told whether a program on the
   network is behind it. */
static const uint32_t network_types[] = {
    0x00006969, /* NFS */
    0x0000517b, /* SMB */
    0xff534d42, /* CIFS */
    0xfe534d42, /* SMB2 */
    0x0000564c, /* NCP */
    0x73757245, /* Coda */
    0x5346414f, /* AFS */
    0x6b414653, /* AFS, the kernel's own */
    0x01021997, /* 9P */
    0x00c36400, /* Ceph */
    0x0bd00bd0, /* Lustre */
    0x47504653, /* GPFS */
    0x01161970, /* GFS2 */
    0x7461636f, /* OCFS2 */
    0xaad7aaea, /* PanFS */
    0x19830326, /* BeeGFS */
    0x20030528, /* OrangeFS */
    0x61636673, /* ACFS */
    0x786f4256, /* VirtualBox shared folders */
    0xbacbacbc, /* VMware shared folders */
    0x65735546, /* FUSE */
};

bool cs_lmdb_network_fs(unsigned long type)
{
    for (size_t i = 0; i < sizeof network_types / sizeof network_types[0]; i++)
        if (network_types[i] == (uint32_t)type)
            return true;
    return false;
}

static credstore_status check_file_system(int fd, credstore_error *err)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return fail(err, errno, "cannot tell the file system");
    if (cs_lmdb_network_fs((unsigned long)fs.f_type))
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "path",
                       "a network or FUSE file system: its locks and pages cannot be relied on");
    return CREDSTORE_OK;
}

static mode_t folder_mode(uint32_t flags)
{
    return (flags & CREDSTORE_OPEN_GROUP) != 0 ? 0770 : 0700;
}

static mode_t file_mode(uint32_t flags)
{
    return (flags & CREDSTORE_OPEN_GROUP) != 0 ? 0660 : 0600;
}

/* Refuses what strangers own, read or write. In a folder for a group, any of it may be the owner.
 */
static credstore_status check_access(const struct stat *st, uint32_t flags, credstore_error *err)
{
    const bool group = (flags & CREDSTORE_OPEN_GROUP) != 0;
    const mode_t strangers = group ? S_IROTH | S_IWOTH : S_IROTH | S_IWOTH | S_IRGRP | S_IWGRP;

    if ((st->st_mode & strangers) != 0)
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, "path",
                       "others than the owner can read or write the store: tighten its mode");
    if (!group && st->st_uid != geteuid() && st->st_uid != 0)
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, "path", "another user owns the store");
    return CREDSTORE_OK;
}

static const char *const store_files[] = {CS_LMDB_DATA, CS_LMDB_LOCK, CS_LMDB_GUARD,
                                          CS_LMDB_PRESENCE};

static credstore_status check_files(const opening *o)
{
    for (size_t i = 0; i < sizeof store_files / sizeof store_files[0]; i++) {
        struct stat st;
        credstore_status status;

        if (fstatat(o->folder, store_files[i], &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT)
                continue;
            return fail(o->err, errno, "cannot look at the files of the store");
        }
        if (!S_ISREG(st.st_mode))
            return cs_fail(o->err, CREDSTORE_E_INVALID, "path",
                           "a file of the store is not a regular file");
        status = check_access(&st, o->flags, o->err);
        if (status != CREDSTORE_OK)
            return status;
    }
    return CREDSTORE_OK;
}

/* ---- making a store ---- */

static int sync_fd(int fd)
{
    return fsync(fd) == 0 ? 0 : errno;
}

/* LMDB writes its two meta pages when it opens an empty file. */
static int make_data(const char *folder, mode_t mode)
{
    MDB_env *mdb = NULL;
    mdb_filehandle_t fd;
    int rc = mdb_env_create(&mdb);

    if (rc != MDB_SUCCESS)
        return rc;
    rc = mdb_env_set_mapsize(mdb, map_floor);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(mdb, folder, MDB_NOTLS | MDB_NORDAHEAD, mode);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_get_fd(mdb, &fd);
    if (rc == MDB_SUCCESS)
        rc = sync_fd(fd);
    mdb_env_close(mdb);
    return rc;
}

/* Fills the temporary folder with a whole store, on disk when this returns. The files are made
   before LMDB would, to have their modes whatever the umask is. */
static int fill_folder(const char *folder, uint32_t flags)
{
    static const char *const files[] = {CS_LMDB_DATA, CS_LMDB_GUARD, CS_LMDB_PRESENCE};
    const int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (dir < 0)
        return errno;
    rc = fchmod(dir, folder_mode(flags)) == 0 ? 0 : errno;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && rc == 0; i++) {
        int fd = -1;

        rc = cs_lmdb_file_open(dir, files[i], file_mode(flags), &fd);
        if (fd >= 0)
            close(fd);
    }
    if (rc == 0)
        rc = make_data(folder, file_mode(flags));
    if (rc == 0) /* the first who opens the store makes another, in the right mode */
        rc = unlinkat(dir, CS_LMDB_LOCK, 0) == 0 ? 0 : errno;
    if (rc == 0)
        rc = sync_fd(dir);
    close(dir);
    return rc;
}

static void remove_temporary(const char *folder)
{
    const int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return;
    for (size_t i = 0; i < sizeof store_files / sizeof store_files[0]; i++)
        unlinkat(dir, store_files[i], 0);
    close(dir);
    rmdir(folder);
}

/* path without its last `cut` bytes, and tail. */
static char *join(const char *path, size_t len, const char *tail)
{
    const size_t tail_len = strlen(tail);
    size_t size;
    char *out;

    if (!cs_add(len, tail_len + 1, &size))
        return NULL;
    out = cs_alloc(size, 1);
    if (out == NULL)
        return NULL;
    memcpy(out, path, len);
    memcpy(out + len, tail, tail_len);
    return out;
}

static size_t len_without_slashes(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

static int open_parent(const char *path, size_t len, int *fd)
{
    char *parent;

    while (len > 0 && path[len - 1] != '/')
        len--;
    parent = len == 0 ? join(".", 1, "") : join(path, len, "");
    if (parent == NULL)
        return ENOMEM;
    *fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cs_free(parent);
    return *fd < 0 ? errno : 0;
}

/* Another process may have been faster: then its store stands, and ours is thrown away. */
static int move_into_place(const char *temporary, const char *target)
{
    if (rename(temporary, target) == 0)
        return 0;
    return errno == ENOTEMPTY || errno == EEXIST ? EEXIST : errno;
}

/* Nothing is at the path: make the folder beside it and give it its name when it is whole. */
static credstore_status create_beside(const opening *o)
{
    const size_t len = len_without_slashes(o->path);
    char *target = join(o->path, len, "");
    char *temporary = join(o->path, len, TEMPORARY_INSIDE TEMPORARY_SUFFIX);
    credstore_status status = CREDSTORE_OK;
    int parent = -1;
    int rc = target == NULL || temporary == NULL ? ENOMEM : open_parent(o->path, len, &parent);

    if (rc == 0)
        status = check_file_system(parent, o->err);
    if (rc != 0 || status != CREDSTORE_OK)
        goto cleanup;
    if (mkdtemp(temporary) == NULL) {
        rc = errno;
        goto cleanup;
    }
    rc = fill_folder(temporary, o->flags);
    if (rc == 0)
        rc = move_into_place(temporary, target);
    if (rc != 0)
        remove_temporary(temporary);
    rc = rc == EEXIST ? 0 : rc;
    if (rc == 0)
        rc = sync_fd(parent);

cleanup:
    if (parent >= 0)
        close(parent);
    cs_free(target);
    cs_free(temporary);
    return rc != 0 ? fail(o->err, rc, "cannot make the store") : status;
}

static bool is_ours(const char *name)
{
    for (size_t i = 1; i < sizeof store_files / sizeof store_files[0]; i++)
        if (strcmp(name, store_files[i]) == 0)
            return true;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
           strncmp(name, TEMPORARY_INSIDE, sizeof TEMPORARY_INSIDE - 1) == 0;
}

/* Empty but for what an interrupted creation leaves. */
static int check_empty(const char *path, bool *empty)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (dir == NULL)
        return errno;
    *empty = true;
    while (*empty && (entry = readdir(dir)) != NULL)
        *empty = is_ours(entry->d_name);
    closedir(dir);
    return 0;
}

/* The folder becomes the store's, so it gets the store's mode; the group's inheritance stays. */
static int adopt_folder(const opening *o)
{
    struct stat st;

    if (fstat(o->folder, &st) != 0)
        return errno;
    if ((st.st_mode & 0777) == folder_mode(o->flags))
        return 0;
    return fchmod(o->folder, (st.st_mode & S_ISGID) | folder_mode(o->flags)) == 0 ? 0 : errno;
}

static int fill_inside(const opening *o)
{
    char *temporary = join(o->path, strlen(o->path), "/" TEMPORARY_INSIDE TEMPORARY_SUFFIX);
    char *made = NULL;
    int rc = 0;

    if (temporary == NULL)
        return ENOMEM;
    if (mkdtemp(temporary) == NULL) {
        rc = errno;
        cs_free(temporary);
        return rc;
    }
    made = join(temporary, strlen(temporary), "/" CS_LMDB_DATA);
    rc = made == NULL ? ENOMEM : fill_folder(temporary, o->flags);
    if (rc == 0 && renameat(AT_FDCWD, made, o->folder, CS_LMDB_DATA) != 0)
        rc = errno;
    remove_temporary(temporary);
    cs_free(made);
    cs_free(temporary);
    return rc != 0 ? rc : sync_fd(o->folder);
}

/* A folder without a data file (often a mount point, which nothing can be renamed onto): the data
   file is made in a folder within and moved up when it is whole. A lock on the folder itself keeps
   two makers apart. */
static credstore_status create_inside(const opening *o)
{
    struct stat st;
    bool empty = false;
    int rc;
    credstore_status status = check_file_system(o->folder, o->err);

    if (status != CREDSTORE_OK)
        return status;
    if (flock(o->folder, LOCK_EX) != 0)
        return fail(o->err, errno, "cannot lock the folder");
    if (fstatat(o->folder, CS_LMDB_DATA, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return CREDSTORE_OK;
    rc = check_empty(o->path, &empty);
    if (rc == 0 && !empty)
        return cs_fail(o->err, CREDSTORE_E_INVALID, "path",
                       "the folder has other files and no store in it");
    if (rc == 0)
        rc = adopt_folder(o);
    if (rc == 0)
        rc = fill_inside(o);
    return rc != 0 ? fail(o->err, rc, "cannot make the store") : CREDSTORE_OK;
}

/* ---- the data file, before LMDB maps it ---- */

/* LMDB's meta page, as much as says how large the file must be: file offsets of the fields behind
   the 16 bytes of page header, in the machine's own byte order. */
enum {
    META_MAGIC = 16,
    META_VERSION = 20,
    META_PAGE_SIZE = 40,
    META_LAST_PAGE = 136,
    META_TXN = 144,
    META_SIZE = 152,
    PAGE_SIZE_MIN = 512,
    PAGE_SIZE_MAX = 65536
};
static const uint32_t meta_magic = 0xbeefc0de;
static const uint32_t meta_version = 1;

typedef struct meta_view {
    uint32_t page_size;
    uint64_t last_page, txn;
} meta_view;

static uint32_t load_u32(const uint8_t *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof v);
    return v;
}

static uint64_t load_u64(const uint8_t *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof v);
    return v;
}

static int read_meta(int fd, off_t offset, meta_view *out)
{
    uint8_t raw[META_SIZE];
    ssize_t n;

    do
        n = pread(fd, raw, sizeof raw, offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    if (n != (ssize_t)sizeof raw || load_u32(raw + META_MAGIC) != meta_magic)
        return MDB_INVALID;
    if (load_u32(raw + META_VERSION) != meta_version)
        return MDB_VERSION_MISMATCH;
    out->page_size = load_u32(raw + META_PAGE_SIZE);
    out->last_page = load_u64(raw + META_LAST_PAGE);
    out->txn = load_u64(raw + META_TXN);
    if (out->page_size < PAGE_SIZE_MIN || out->page_size > PAGE_SIZE_MAX ||
        (out->page_size & (out->page_size - 1)) != 0)
        return MDB_INVALID;
    return 0;
}

/* Mapped pages behind the end of the file kill the process that reads them. */
static int check_data_fd(int fd)
{
    meta_view meta[2];
    const meta_view *newest;
    struct stat st;
    uint64_t pages;
    int rc = read_meta(fd, 0, &meta[0]);

    if (rc == 0)
        rc = read_meta(fd, meta[0].page_size, &meta[1]);
    if (rc != 0)
        return rc;
    if (fstat(fd, &st) != 0)
        return errno;
    newest = meta[1].txn > meta[0].txn ? &meta[1] : &meta[0];
    pages = (uint64_t)st.st_size / meta[0].page_size;
    if (meta[1].page_size != meta[0].page_size || pages < 2 || newest->last_page >= pages)
        return MDB_INVALID;
    return 0;
}

static credstore_status check_data(const opening *o)
{
    const int fd = openat(o->folder, CS_LMDB_DATA, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int rc = fd < 0 ? errno : 0;

    if (rc == 0 && sizeof(size_t) == sizeof(uint64_t)) /* else the fields lie elsewhere */
        rc = check_data_fd(fd);
    if (fd >= 0)
        close(fd);
    if (rc == MDB_INVALID)
        return cs_fail_native(o->err, CREDSTORE_E_INTEGRITY, rc,
                              "the data file is damaged or cut short");
    return rc != 0 ? fail(o->err, rc, "cannot read the data file") : CREDSTORE_OK;
}

/* The same by LMDB's own account, which also holds where the fields lie elsewhere. */
static int check_mapped(MDB_env *mdb)
{
    MDB_envinfo info;
    MDB_stat stat;
    mdb_filehandle_t fd;
    struct stat st;
    int rc = mdb_env_info(mdb, &info);

    if (rc == MDB_SUCCESS)
        rc = mdb_env_stat(mdb, &stat);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_get_fd(mdb, &fd);
    if (rc != MDB_SUCCESS)
        return rc;
    if (fstat(fd, &st) != 0)
        return errno;
    return info.me_last_pgno >= (uint64_t)st.st_size / stat.ms_psize ? MDB_INVALID : 0;
}

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

static int remap_quiet(cs_lmdb_env *env)
{
    MDB_envinfo info;
    MDB_stat stat;
    size_t needed;
    size_t size;
    int rc = mdb_env_info(env->mdb, &info);

    if (rc == MDB_SUCCESS)
        rc = mdb_env_stat(env->mdb, &stat);
    if (rc != MDB_SUCCESS)
        return rc;
    needed = (info.me_last_pgno + 1) * stat.ms_psize;
    if (needed <= info.me_mapsize)
        return MDB_SUCCESS; /* another thread was faster */
    size = choose_map_size(needed);
    if (!can_reserve(size)) /* LMDB would unmap first and be left with nothing */
        return ENOMEM;
    rc = mdb_env_set_mapsize(env->mdb, size);
    if (rc != MDB_SUCCESS)
        atomic_store(&env->broken, true);
    return rc;
}

int cs_lmdb_env_remap(cs_lmdb_env *env)
{
    const int64_t end = cs_lmdb_now_ms() + CS_LMDB_DRAIN_WAIT_MS;
    int rc = 0;

    atomic_store(&env->draining, true);
    while (!is_quiet(env) && rc == 0) {
        cs_lmdb_sleep_ms(1);
        if (cs_lmdb_now_ms() >= end)
            rc = ETIMEDOUT;
    }
    if (rc == 0)
        rc = remap_quiet(env);
    atomic_store(&env->draining, false);
    return rc;
}

/* ---- opening ---- */

static int open_mdb_sized(const opening *o, size_t size, MDB_env **out)
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
        rc = mdb_env_open(mdb, o->path, MDB_NOTLS | MDB_NORDAHEAD | read_only, file_mode(o->flags));
    if (rc != MDB_SUCCESS) {
        mdb_env_close(mdb);
        return rc;
    }
    *out = mdb;
    return MDB_SUCCESS;
}

static int open_mdb(const opening *o, MDB_env **out)
{
    size_t size = choose_map_size(map_floor);
    int rc = open_mdb_sized(o, size, out);

    while (rc == ENOMEM && size > map_floor) {
        size /= 2;
        rc = open_mdb_sized(o, size, out);
    }
    return rc;
}

/* The lock file by our own descriptor. If others live, byte 0 is held before LMDB looks at it: so
   it cannot find the file abandoned and make it anew under them. */
static credstore_status open_lock_file(const opening *o, cs_lmdb_locks *locks, bool alone)
{
    struct stat st;
    int rc = cs_lmdb_file_open(o->folder, CS_LMDB_LOCK, file_mode(o->flags), &locks->lock);

    if (rc == 0 && fstat(locks->lock, &st) != 0)
        rc = errno;
    if (rc != 0)
        return fail(o->err, rc, "cannot open the lock file");
    if (alone)
        return CREDSTORE_OK;
    if (st.st_size == 0)
        return cs_fail(o->err, CREDSTORE_E_STORAGE, "path",
                       "lock.mdb was removed while others have the store open: close it there");
    rc = cs_lmdb_hold_env(locks->lock);
    return rc != 0 ? fail(o->err, rc, "another program is taking the lock file") : CREDSTORE_OK;
}

/* Two copies of the library (or another user of LMDB) in one process would drop each other's locks
   by merely opening and closing the lock file: so it is looked at by its inode only. */
static credstore_status check_second_copy(const opening *o)
{
    struct stat st;

    if (fstatat(o->folder, CS_LMDB_LOCK, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? CREDSTORE_OK : fail(o->err, errno, "cannot look at the lock file");
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
    return rc != MDB_SUCCESS ? rc : cs_lmdb_hold_pid(env->locks.lock);
}

/* With the guard in hand and everything checked that can be checked before. */
static credstore_status open_inside_guard(const opening *o, cs_lmdb_env *env, bool alone)
{
    int rc;
    credstore_status status = check_data(o);

    if (status == CREDSTORE_OK)
        status = open_lock_file(o, &env->locks, alone);
    if (status != CREDSTORE_OK)
        return status;
    rc = open_mdb(o, &env->mdb);
    if (rc == 0)
        rc = check_mapped(env->mdb);
    if (rc == 0)
        rc = note_descriptors(env);
    if (rc == 0 && alone)
        rc = cs_lmdb_hold_env(env->locks.lock);
    if (rc == 0)
        rc = first_read(env);
    if (rc == EAGAIN)
        return cs_fail_native(o->err, CREDSTORE_E_UNSUPPORTED, rc,
                              "a process with the same id has the store open: "
                              "two PID namespaces cannot share it");
    if (rc == 0)
        rc = mdb_reader_check(env->mdb, NULL);
    if (rc == 0 && alone)
        rc = cs_lmdb_presence_share(env->locks.presence);
    return rc != 0 ? fail(o->err, rc, "cannot open the LMDB environment") : CREDSTORE_OK;
}

static credstore_status open_locks(const opening *o, cs_lmdb_env *env)
{
    cs_lmdb_locks *locks = &env->locks;
    bool alone = false;
    credstore_status status;
    int rc = cs_lmdb_file_open(o->folder, CS_LMDB_GUARD, file_mode(o->flags), &locks->guard);

    if (rc == 0)
        rc = cs_lmdb_file_open(o->folder, CS_LMDB_PRESENCE, file_mode(o->flags), &locks->presence);
    if (rc == 0)
        rc = cs_lmdb_guard_take(locks->guard, CS_LMDB_OPEN_WAIT_MS);
    if (rc != 0)
        return fail(o->err, rc, "cannot open the lock files");
    status = check_second_copy(o);
    if (status == CREDSTORE_OK) {
        rc = cs_lmdb_presence_take(locks->presence, &alone);
        status = rc != 0 ? fail(o->err, rc, "cannot lock the presence file")
                         : open_inside_guard(o, env, alone);
    }
    cs_lmdb_guard_drop(locks->guard);
    return status;
}

static void free_env(cs_lmdb_env *env)
{
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

static credstore_status share(const opening *o, cs_lmdb_env *env, cs_lmdb_env **out)
{
    if (env->read_only && (o->flags & CREDSTORE_OPEN_READ_ONLY) == 0)
        return cs_fail(o->err, CREDSTORE_E_UNSUPPORTED, "flags",
                       "the store is open read-only in this process: close it there first");
    env->refs++;
    *out = env;
    return CREDSTORE_OK;
}

static credstore_status open_new(const opening *o, const struct stat *st, cs_lmdb_env **out)
{
    cs_lmdb_env *env;
    credstore_status status = check_files(o);

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

static credstore_status open_folder(const opening *o, cs_lmdb_env **out)
{
    struct stat st;
    cs_lmdb_env *env;
    credstore_status status = check_file_system(o->folder, o->err);

    if (status != CREDSTORE_OK)
        return status;
    if (fstat(o->folder, &st) != 0)
        return fail(o->err, errno, "cannot look at the folder");
    status = check_access(&st, o->flags, o->err);
    if (status != CREDSTORE_OK)
        return status;
    env = find_open(&st);
    return env != NULL ? share(o, env, out) : open_new(o, &st, out);
}

/* Opens what is at the path, or makes it and asks to be called again (*again). */
static credstore_status open_or_create(opening *o, cs_lmdb_env **out, bool *again)
{
    const bool create =
        (o->flags & CREDSTORE_OPEN_CREATE) != 0 && (o->flags & CREDSTORE_OPEN_READ_ONLY) == 0;
    struct stat st;
    credstore_status status;

    *again = false;
    o->folder = open(o->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o->folder < 0) {
        *again = create && errno == ENOENT;
        return *again ? create_beside(o) : fail(o->err, errno, "cannot open the folder");
    }
    if (fstatat(o->folder, CS_LMDB_DATA, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        status = open_folder(o, out);
    } else {
        *again = create && errno == ENOENT;
        status = *again ? create_inside(o) : fail(o->err, errno, "cannot look at the data file");
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
    pthread_mutex_unlock(&registry_mutex);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- the entry points ---- */

credstore_status cs_lmdb_env_open(const char *path, uint32_t flags, cs_lmdb_env **out,
                                  credstore_error *err)
{
    enum { TRIES = 4 };
    opening o = {path, flags, -1, err};
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
