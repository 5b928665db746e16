/* SPDX-License-Identifier: MIT
 *
 * The folder of a store: its file system, owner and modes, and how it is made so that a crash
 * leaves all or nothing.
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
#include <sys/statfs.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"

#define TEMPORARY_INSIDE ".creating-"
#define TEMPORARY_SUFFIX "XXXXXX"

/* ---- errors ---- */

typedef struct failure_row {
    int code;
    credstore_status status;
    const char *message; /* NULL = the caller's */
} failure_row;

static const failure_row failures[] = {
    {ENOENT, CREDSTORE_E_NOT_FOUND, "there is no store at the path, or no folder to make it in"},
    {ENOTDIR, CREDSTORE_E_INVALID, "the path is not a folder"},
    {ENXIO, CREDSTORE_E_INVALID, "a file of the store is not a regular file"},
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
credstore_status cs_lmdb_fail(credstore_error *err, int rc, const char *message)
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

credstore_status cs_lmdb_check_file_system(int fd, credstore_error *err)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return cs_lmdb_fail(err, errno, "cannot tell the file system");
    if (cs_lmdb_network_fs((unsigned long)fs.f_type))
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "path",
                       "a network or FUSE file system: its locks and pages cannot be relied on");
    return CREDSTORE_OK;
}

mode_t cs_lmdb_folder_mode(uint32_t flags)
{
    return (flags & CREDSTORE_OPEN_GROUP) != 0 ? 0770 : 0700;
}

mode_t cs_lmdb_file_mode(uint32_t flags)
{
    return (flags & CREDSTORE_OPEN_GROUP) != 0 ? 0660 : 0600;
}

/* Refuses what strangers own, read or write. In a folder for a group, any of it may be the owner.
 */
credstore_status cs_lmdb_check_access(const struct stat *st, uint32_t flags, credstore_error *err)
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

void cs_lmdb_remove_files(int folder)
{
    for (size_t i = 0; i < sizeof store_files / sizeof store_files[0]; i++)
        unlinkat(folder, store_files[i], 0);
}

int cs_lmdb_make_files(int folder, uint32_t flags)
{
    int rc = 0;

    for (size_t i = 0; i < sizeof store_files / sizeof store_files[0] && rc == 0; i++) {
        int fd = -1;

        if (strcmp(store_files[i], CS_LMDB_LOCK) != 0)
            rc = cs_lmdb_file_open(folder, store_files[i], cs_lmdb_file_mode(flags), &fd);
        if (fd >= 0)
            close(fd);
    }
    return rc;
}

int cs_lmdb_open_to_read(int folder, const char *name)
{
    const int fd = openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    int rc;

    if (fd < 0)
        return fd;
    rc = fstat(fd, &st) != 0 ? errno : S_ISREG(st.st_mode) ? 0 : ENXIO;
    if (rc == 0)
        return fd;
    close(fd);
    errno = rc;
    return -1;
}

credstore_status cs_lmdb_check_files(const cs_lmdb_opening *o)
{
    for (size_t i = 0; i < sizeof store_files / sizeof store_files[0]; i++) {
        struct stat st;
        credstore_status status;

        if (fstatat(o->folder, store_files[i], &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT)
                continue;
            return cs_lmdb_fail(o->err, errno, "cannot look at the files of the store");
        }
        if (!S_ISREG(st.st_mode))
            return cs_fail(o->err, CREDSTORE_E_INVALID, "path",
                           "a file of the store is not a regular file");
        status = cs_lmdb_check_access(&st, o->flags, o->err);
        if (status != CREDSTORE_OK)
            return status;
    }
    return CREDSTORE_OK;
}

/* ---- making a store ---- */

int cs_lmdb_sync(int fd)
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
    rc = mdb_env_set_mapsize(mdb, CS_LMDB_MAP_FLOOR);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(mdb, folder, MDB_NOTLS | MDB_NORDAHEAD, mode);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_get_fd(mdb, &fd);
    if (rc == MDB_SUCCESS)
        rc = cs_lmdb_sync(fd);
    mdb_env_close(mdb);
    return rc;
}

/* Fills the temporary folder with a whole store, on disk when this returns. */
static int fill_folder(const char *folder, uint32_t flags)
{
    const int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (dir < 0)
        return errno;
    rc = fchmod(dir, cs_lmdb_folder_mode(flags)) == 0 ? 0 : errno;
    if (rc == 0)
        rc = cs_lmdb_make_files(dir, flags);
    if (rc == 0)
        rc = make_data(folder, cs_lmdb_file_mode(flags));
    if (rc == 0) /* the first who opens the store makes another, in the right mode */
        rc = unlinkat(dir, CS_LMDB_LOCK, 0) == 0 ? 0 : errno;
    if (rc == 0)
        rc = cs_lmdb_sync(dir);
    close(dir);
    return rc;
}

/* ---- what a maker leaves that was killed ---- */

static bool is_store_file(const char *name)
{
    for (size_t i = 0; i < sizeof store_files / sizeof store_files[0]; i++)
        if (strcmp(name, store_files[i]) == 0)
            return true;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A folder's entries, one after the other, until visit() is false. The descriptor stays the
   caller's. */
static int each_entry(int folder, bool (*visit)(int folder, const char *name, void *arg), void *arg)
{
    const int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    const int rc = errno;

    if (dir == NULL && fd >= 0)
        close(fd);
    if (dir == NULL)
        return rc;
    while ((entry = readdir(dir)) != NULL && visit(folder, entry->d_name, arg))
        continue;
    closedir(dir);
    return 0;
}

static bool is_plain(int folder, const char *name, void *arg)
{
    bool *plain = arg;

    (void)folder;
    *plain = is_store_file(name);
    return *plain;
}

/* Locked, so that nobody is making it; still by that name; and our own. */
static bool is_left(int parent, const char *name, int folder)
{
    struct stat st, named;
    bool plain = false;

    return flock(folder, LOCK_EX | LOCK_NB) == 0 && fstat(folder, &st) == 0 &&
           st.st_uid == geteuid() && fstatat(parent, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           named.st_dev == st.st_dev && named.st_ino == st.st_ino &&
           each_entry(folder, is_plain, &plain) == 0 && plain;
}

/* arg: how such a name begins; the rest is mkdtemp()'s. */
static bool clear_if_left(int parent, const char *name, void *arg)
{
    const char *begin = arg;
    const size_t len = strlen(begin);
    int folder;

    if (strncmp(name, begin, len) != 0 || strlen(name + len) != sizeof TEMPORARY_SUFFIX - 1)
        return true;
    folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder < 0)
        return true;
    if (is_left(parent, name, folder)) {
        cs_lmdb_remove_files(folder);
        unlinkat(parent, name, AT_REMOVEDIR);
    }
    flock(folder, LOCK_UN); /* a forked child may hold the descriptor still */
    close(folder);
    return true;
}

void cs_lmdb_clear_creating(int folder)
{
    char begin[] = TEMPORARY_INSIDE;

    each_entry(folder, clear_if_left, begin);
}

/* Beside the store of that path. */
static void clear_beside(int parent, const char *path, size_t len)
{
    char *begin = cs_lmdb_join(path, len, TEMPORARY_INSIDE);
    char *slash = begin == NULL ? NULL : strrchr(begin, '/');

    if (begin != NULL)
        each_entry(parent, clear_if_left, slash == NULL ? begin : slash + 1);
    cs_free(begin);
}

/* ENOENT: another took it for left before it was locked. */
static int hold_new(const char *folder, int *fd)
{
    struct stat st;

    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0 || flock(*fd, LOCK_EX) != 0 || stat(folder, &st) != 0)
        return errno;
    return 0;
}

static void remove_temporary(const char *folder)
{
    const int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return;
    cs_lmdb_remove_files(dir);
    close(dir);
    rmdir(folder);
}

/* path without its last `cut` bytes, and tail. */
char *cs_lmdb_join(const char *path, size_t len, const char *tail)
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

size_t cs_lmdb_path_len(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

int cs_lmdb_open_parent(const char *path, size_t len, int *fd)
{
    char *parent;

    while (len > 0 && path[len - 1] != '/')
        len--;
    parent = len == 0 ? cs_lmdb_join(".", 1, "") : cs_lmdb_join(path, len, "");
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
credstore_status cs_lmdb_create_beside(const cs_lmdb_opening *o)
{
    const size_t len = cs_lmdb_path_len(o->path);
    char *target = cs_lmdb_join(o->path, len, "");
    char *temporary = cs_lmdb_join(o->path, len, TEMPORARY_INSIDE TEMPORARY_SUFFIX);
    credstore_status status = CREDSTORE_OK;
    int parent = -1;
    int held = -1;
    int rc =
        target == NULL || temporary == NULL ? ENOMEM : cs_lmdb_open_parent(o->path, len, &parent);

    if (rc == 0)
        status = cs_lmdb_check_file_system(parent, o->err);
    if (rc != 0 || status != CREDSTORE_OK)
        goto cleanup;
    clear_beside(parent, o->path, len);
    if (mkdtemp(temporary) == NULL) {
        rc = errno;
        goto cleanup;
    }
    rc = hold_new(temporary, &held);
    if (rc == 0)
        rc = fill_folder(temporary, o->flags);
    if (rc == 0)
        rc = move_into_place(temporary, target);
    if (rc != 0)
        remove_temporary(temporary);
    rc = rc == EEXIST || rc == ENOENT ? 0 : rc; /* the caller looks again */
    if (rc == 0)
        rc = cs_lmdb_sync(parent);

cleanup:
    if (held >= 0) {
        flock(held, LOCK_UN); /* a forked child may hold the descriptor still */
        close(held);
    }
    if (parent >= 0)
        close(parent);
    cs_free(target);
    cs_free(temporary);
    return rc != 0 ? cs_lmdb_fail(o->err, rc, "cannot make the store") : status;
}

/* Empty but for what an interrupted creation leaves. There is no data file. */
static bool is_empty(int folder, const char *name, void *arg)
{
    bool *empty = arg;

    (void)folder;
    *empty =
        is_store_file(name) || strncmp(name, TEMPORARY_INSIDE, sizeof TEMPORARY_INSIDE - 1) == 0;
    return *empty;
}

/* The folder becomes the store's, so it gets the store's mode; the group's inheritance stays. */
static int adopt_folder(const cs_lmdb_opening *o)
{
    struct stat st;

    if (fstat(o->folder, &st) != 0)
        return errno;
    if ((st.st_mode & 0777) == cs_lmdb_folder_mode(o->flags))
        return 0;
    return fchmod(o->folder, (st.st_mode & S_ISGID) | cs_lmdb_folder_mode(o->flags)) == 0 ? 0
                                                                                          : errno;
}

static int fill_inside(const cs_lmdb_opening *o)
{
    char *temporary = cs_lmdb_join(o->path, strlen(o->path), "/" TEMPORARY_INSIDE TEMPORARY_SUFFIX);
    char *made = NULL;
    int rc = 0;

    if (temporary == NULL)
        return ENOMEM;
    if (mkdtemp(temporary) == NULL) {
        rc = errno;
        cs_free(temporary);
        return rc;
    }
    made = cs_lmdb_join(temporary, strlen(temporary), "/" CS_LMDB_DATA);
    rc = made == NULL ? ENOMEM : fill_folder(temporary, o->flags);
    if (rc == 0 && renameat(AT_FDCWD, made, o->folder, CS_LMDB_DATA) != 0)
        rc = errno;
    remove_temporary(temporary);
    cs_free(made);
    cs_free(temporary);
    return rc != 0 ? rc : cs_lmdb_sync(o->folder);
}

/* A folder without a data file (often a mount point, which nothing can be renamed onto): the data
   file is made in a folder within and moved up when it is whole. A lock on the folder itself keeps
   two makers apart. */
credstore_status cs_lmdb_create_inside(const cs_lmdb_opening *o)
{
    struct stat st;
    bool empty = false;
    int rc;
    credstore_status status = cs_lmdb_check_file_system(o->folder, o->err);

    if (status != CREDSTORE_OK)
        return status;
    if (flock(o->folder, LOCK_EX) != 0)
        return cs_lmdb_fail(o->err, errno, "cannot lock the folder");
    if (fstatat(o->folder, CS_LMDB_DATA, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return CREDSTORE_OK;
    cs_lmdb_clear_creating(o->folder);
    rc = each_entry(o->folder, is_empty, &empty);
    if (rc == 0 && !empty)
        return cs_fail(o->err, CREDSTORE_E_INVALID, "path",
                       "the folder has other files and no store in it");
    if (rc == 0)
        rc = adopt_folder(o);
    if (rc == 0)
        rc = fill_inside(o);
    return rc != 0 ? cs_lmdb_fail(o->err, rc, "cannot make the store") : CREDSTORE_OK;
}
