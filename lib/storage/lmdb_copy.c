/* SPDX-License-Identifier: MIT
 *
 * Copies of a store, pair by pair in the order of the keys, so that the copy is dense and holds
 * nothing of what was deleted. LMDB's own compacting copy would start a thread.
 */
#define _GNU_SOURCE /* renameat2, O_DIRECTORY */

#include "storage/lmdb_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"
#include "storage/lmdb_folder.h"
#include "storage/lmdb_layout.h"
#include "storage/lmdb_pages.h"

#define PART    ".part"
#define ERASING ".erasing" /* in the store's own folder */

enum {
    BATCH = 8 << 20, /* bytes of pairs in a transaction */
    CHUNK = 256 << 10,
    METAS = 2,  /* pages at the front of the file */
    SPREAD = 4, /* the pages that they take, at most so many times as large */
    ERASE_WAIT_MS = 5000,
    STOPPED = -1 /* a reading that its visitor ended */
};

/* ---- a data file in the making ---- */

/* It is nobody else's yet: no locks, and on disk at the end alone. */
typedef struct writer {
    MDB_env *mdb;
    MDB_dbi dbi;
    MDB_txn *txn;
    int fd; /* LMDB's */
    size_t batch;
} writer;

static void writer_close(writer *w)
{
    if (w->txn != NULL)
        mdb_txn_abort(w->txn);
    if (w->mdb != NULL)
        mdb_env_close(w->mdb);
    memset(w, 0, sizeof *w);
}

static int writer_open(writer *w, const char *file, mode_t mode)
{
    int rc = mdb_env_create(&w->mdb);

    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_mapsize(w->mdb, CS_LMDB_MAP_FLOOR);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(w->mdb, file, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC | MDB_NORDAHEAD,
                          mode);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_get_fd(w->mdb, &w->fd);
    if (rc == MDB_SUCCESS && fcntl(w->fd, F_SETFD, FD_CLOEXEC) != 0)
        rc = errno;
    return rc;
}

/* Room for a whole batch before it begins: within a transaction the map cannot grow. */
static int writer_begin(writer *w)
{
    MDB_envinfo info;
    MDB_stat stat;
    size_t needed;
    int rc = mdb_env_info(w->mdb, &info);

    if (rc == MDB_SUCCESS)
        rc = mdb_env_stat(w->mdb, &stat);
    if (rc != MDB_SUCCESS)
        return rc;
    needed = (info.me_last_pgno + 1) * stat.ms_psize + SPREAD * (size_t)BATCH;
    if (needed > info.me_mapsize)
        rc = mdb_env_set_mapsize(w->mdb, 2 * needed);
    if (rc == MDB_SUCCESS)
        rc = mdb_txn_begin(w->mdb, NULL, 0, &w->txn);
    if (rc == MDB_SUCCESS)
        rc = mdb_dbi_open(w->txn, NULL, 0, &w->dbi);
    w->batch = 0;
    return rc;
}

static int writer_commit(writer *w)
{
    MDB_txn *txn = w->txn;

    w->txn = NULL;
    return txn == NULL ? 0 : cs_lmdb_full_or(w->fd, mdb_txn_commit(txn));
}

static int writer_put(writer *w, credstore_bytes key, credstore_bytes value)
{
    MDB_val k = cs_lmdb_val(key);
    MDB_val v = cs_lmdb_val(value);
    int rc = w->txn == NULL ? writer_begin(w) : 0;

    if (rc == 0)
        rc = mdb_put(w->txn, w->dbi, &k, &v, MDB_APPEND);
    w->batch += key.len + value.len;
    if (rc == 0 && w->batch >= BATCH)
        rc = writer_commit(w);
    return rc == MDB_KEYEXIST ? MDB_INVALID : rc;
}

/* All is on disk when this returns. */
static int writer_finish(writer *w)
{
    int rc = writer_commit(w);

    if (rc == 0)
        rc = cs_lmdb_full_or(w->fd, mdb_env_sync(w->mdb, 1));
    if (rc == 0)
        rc = cs_lmdb_sync(w->fd);
    return rc;
}

/* ---- a new folder ---- */

struct cs_lmdb_target {
    char *path, *part, *data; /* part and data: where folder and data file lie meanwhile */
    const char *name;         /* of the place within its parent; in path */
    uint32_t flags;
    int parent, folder; /* descriptors; the lock on folder keeps others from making the same */
    bool placed, ours, filled;
    cs_lmdb_held held; /* folder */
    writer writer;
};

static credstore_status fail_path(credstore_error *err, credstore_status status,
                                  const char *message)
{
    return cs_fail(err, status, "path", message);
}

static credstore_status check_free(const cs_lmdb_target *t, credstore_error *err)
{
    struct stat st;

    if (fstatat(t->parent, t->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return fail_path(err, CREDSTORE_E_EXISTS, "something is at the path already");
    return errno == ENOENT ? CREDSTORE_OK
                           : cs_lmdb_fail(err, errno, "cannot look at what is at the path");
}

static const char *part_name(const cs_lmdb_target *t)
{
    return t->part + (t->name - t->path);
}

/* Locked, still by that name, and our own. */
static credstore_status check_part(cs_lmdb_target *t, credstore_error *err)
{
    struct stat st, named;

    bool gone;

    if (flock(t->folder, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? fail_path(err, CREDSTORE_E_BUSY, "another is making a store at the path")
                   : cs_lmdb_fail(err, errno, "cannot lock the new folder");
    gone = fstatat(t->parent, part_name(t), &named, AT_SYMLINK_NOFOLLOW) != 0;
    if ((gone && errno != ENOENT) || fstat(t->folder, &st) != 0)
        return cs_lmdb_fail(err, errno, "cannot look at the new folder");
    if (gone || named.st_dev != st.st_dev || named.st_ino != st.st_ino)
        return fail_path(err, CREDSTORE_E_BUSY, "another was making a store at the path");
    if (st.st_uid != geteuid())
        return fail_path(err, CREDSTORE_E_EXISTS,
                         "a stranger's folder is where the store would be made: <path>.part");
    t->ours = true;
    return CREDSTORE_OK;
}

static credstore_status take_part(cs_lmdb_target *t, credstore_error *err)
{
    int rc;

    if (mkdirat(t->parent, part_name(t), 0700) != 0 && errno != EEXIST)
        return cs_lmdb_fail(err, errno, "cannot make the new folder");
    cs_lmdb_no_forks();
    t->folder = openat(t->parent, part_name(t), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    rc = errno;
    t->held.fds[0] = t->folder;
    cs_lmdb_held_add(&t->held);
    cs_lmdb_forks();
    if (t->folder < 0 && (rc == ENOTDIR || rc == ELOOP))
        return fail_path(err, CREDSTORE_E_EXISTS,
                         "something is where the store would be made: <path>.part");
    if (t->folder < 0)
        return cs_lmdb_fail(err, rc, "cannot open the new folder");
    return check_part(t, err);
}

static int fill_part(const cs_lmdb_target *t)
{
    const int rc = fchmod(t->folder, cs_lmdb_folder_mode(t->flags)) == 0 ? 0 : errno;

    cs_lmdb_remove_files(t->folder); /* of one that was interrupted */
    return rc == 0 ? cs_lmdb_make_files(t->folder, t->flags) : rc;
}

static int name_paths(cs_lmdb_target *t, const char *path)
{
    const size_t len = cs_lmdb_path_len(path);
    const char *slash;

    t->path = cs_lmdb_join(path, len, "");
    t->part = cs_lmdb_join(path, len, PART);
    t->data = cs_lmdb_join(path, len, PART "/" CS_LMDB_DATA);
    if (t->path == NULL || t->part == NULL || t->data == NULL)
        return ENOMEM;
    slash = strrchr(t->path, '/');
    t->name = slash == NULL ? t->path : slash + 1;
    return *t->name == '\0' ? EEXIST : cs_lmdb_open_parent(path, len, &t->parent);
}

static credstore_status target_fill(cs_lmdb_target *t, const char *path, credstore_error *err)
{
    credstore_status status;
    int rc = name_paths(t, path);

    if (rc == EEXIST)
        return fail_path(err, CREDSTORE_E_EXISTS, "something is at the path already");
    if (rc != 0)
        return cs_lmdb_fail(err, rc, "cannot open the folder that the store would be made in");
    status = cs_lmdb_check_file_system(t->parent, err);
    if (status == CREDSTORE_OK)
        status = check_free(t, err);
    if (status == CREDSTORE_OK)
        status = take_part(t, err);
    if (status != CREDSTORE_OK)
        return status;
    rc = fill_part(t);
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(err, rc, "cannot make the new store's files");
}

credstore_status cs_lmdb_target_new(const char *path, uint32_t flags, cs_lmdb_target **out,
                                    credstore_error *err)
{
    cs_lmdb_target *t;
    credstore_status status;

    *out = NULL;
    if (path == NULL || *path == '\0')
        return fail_path(err, CREDSTORE_E_INVALID, "the path is empty");
    t = cs_alloc(1, sizeof *t);
    if (t == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "out of memory");
    t->flags = flags;
    t->parent = t->folder = t->held.fds[0] = t->held.fds[1] = -1;
    status = target_fill(t, path, err);
    if (status == CREDSTORE_OK)
        *out = t;
    else
        cs_lmdb_target_free(t);
    return status;
}

static int open_writer(cs_lmdb_target *t)
{
    return t->writer.mdb != NULL ? 0
                                 : writer_open(&t->writer, t->data, cs_lmdb_file_mode(t->flags));
}

credstore_status cs_lmdb_target_put(cs_lmdb_target *target, credstore_bytes key,
                                    credstore_bytes value, credstore_error *err)
{
    int rc = open_writer(target);

    if (rc == 0)
        rc = writer_put(&target->writer, key, value);
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(err, rc, "cannot write the new store");
}

int cs_lmdb_image_take(int fd, cs_lmdb_image *out)
{
    cs_lmdb_file file;
    int rc = cs_lmdb_file_look(fd, &file);

    memset(out, 0, sizeof *out);
    if (rc != 0)
        return rc;
    out->fd = fd;
    out->page_size = file.page_size;
    out->pages = file.meta.last_page < file.pages ? file.meta.last_page + 1 : file.pages;
    out->metas = cs_alloc(METAS, file.page_size);
    if (out->metas == NULL)
        return ENOMEM;
    return cs_lmdb_file_read(&file, out->metas, METAS * file.page_size, 0);
}

static int write_all(int fd, const uint8_t *ptr, size_t len)
{
    while (len > 0) {
        const ssize_t put = write(fd, ptr, len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? errno : EIO;
        ptr += put;
        len -= (size_t)put;
    }
    return 0;
}

static int write_pages(int fd, const cs_lmdb_image *image, credstore_progress progress,
                       void *progress_ctx)
{
    const cs_lmdb_file from = {.fd = image->fd};
    const size_t end = image->pages * image->page_size;
    size_t at = METAS * image->page_size;
    uint8_t *chunk = cs_alloc(1, CHUNK);
    int rc = chunk == NULL ? ENOMEM : write_all(fd, image->metas, at);

    while (rc == 0 && at < end) {
        const size_t len = end - at < CHUNK ? end - at : CHUNK;

        rc = cs_lmdb_file_read(&from, chunk, len, at);
        if (rc == 0)
            rc = write_all(fd, chunk, len);
        at += len;
        if (rc == 0 && progress != NULL)
            progress(progress_ctx, at, end);
    }
    cs_free(chunk);
    return rc == 0 ? cs_lmdb_sync(fd) : rc;
}

credstore_status cs_lmdb_target_pages(cs_lmdb_target *target, const cs_lmdb_image *image,
                                      credstore_progress progress, void *progress_ctx,
                                      credstore_error *err)
{
    const int fd = openat(target->folder, CS_LMDB_DATA, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    const int rc = fd < 0 ? errno : write_pages(fd, image, progress, progress_ctx);

    if (fd >= 0)
        close(fd);
    target->filled = rc == 0;
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(err, rc, "cannot write the new store");
}

credstore_status cs_lmdb_target_seal(cs_lmdb_target *target, credstore_error *err)
{
    int rc = target->filled ? 0 : open_writer(target);

    if (rc == 0 && !target->filled)
        rc = writer_finish(&target->writer);
    writer_close(&target->writer);
    if (rc == 0)
        rc = cs_lmdb_sync(target->folder);
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(err, rc, "cannot write the new store");
}

const char *cs_lmdb_target_path(const cs_lmdb_target *target)
{
    return target->part;
}

/* Nothing may be replaced: not even the empty folder that rename() takes for nothing. */
static credstore_status rename_part(const cs_lmdb_target *t, credstore_error *err)
{
    credstore_status status;

    if (renameat2(t->parent, part_name(t), t->parent, t->name, RENAME_NOREPLACE) == 0)
        return CREDSTORE_OK;
    if (errno == EEXIST)
        return fail_path(err, CREDSTORE_E_EXISTS, "something is at the path already");
    if (errno != EINVAL && errno != ENOSYS) /* the file system has no such thing */
        return cs_lmdb_fail(err, errno, "cannot name the new store");
    status = check_free(t, err);
    if (status == CREDSTORE_OK && renameat(t->parent, part_name(t), t->parent, t->name) != 0)
        status = cs_lmdb_fail(err, errno, "cannot name the new store");
    return status;
}

credstore_status cs_lmdb_target_place(cs_lmdb_target *target, credstore_error *err)
{
    credstore_status status;
    int rc;

    unlinkat(target->folder, CS_LMDB_LOCK, 0); /* the first who opens the store makes another */
    rc = cs_lmdb_sync(target->folder);
    if (rc != 0)
        return cs_lmdb_fail(err, rc, "cannot write the new store");
    status = rename_part(target, err);
    if (status != CREDSTORE_OK)
        return status;
    target->placed = true;
    rc = cs_lmdb_sync(target->parent);
    if (rc == 0)
        return CREDSTORE_OK;
    cs_lmdb_remove_files(target->folder);
    unlinkat(target->parent, target->name, AT_REMOVEDIR);
    return cs_lmdb_fail(err, rc, "cannot write the folder that the new store is in");
}

void cs_lmdb_target_free(cs_lmdb_target *target)
{
    if (target == NULL)
        return;
    writer_close(&target->writer);
    if (target->ours && !target->placed) {
        cs_lmdb_remove_files(target->folder);
        unlinkat(target->parent, part_name(target), AT_REMOVEDIR);
    }
    cs_lmdb_no_forks();
    cs_lmdb_held_remove(&target->held);
    if (target->folder >= 0) {
        flock(target->folder, LOCK_UN); /* a child that was not forked may hold it still */
        close(target->folder);
    }
    cs_lmdb_forks();
    if (target->parent >= 0)
        close(target->parent);
    cs_free(target->path);
    cs_free(target->part);
    cs_free(target->data);
    cs_free(target);
}

/* ---- reading a folder ---- */

typedef struct reading {
    cs_lmdb_visit *visit;
    void *arg;
    credstore_error *err;
    credstore_status status;
} reading;

static int visit_for(void *arg, credstore_bytes key, credstore_bytes value)
{
    reading *r = arg;

    r->status = r->visit(r->arg, key, value, r->err);
    return r->status == CREDSTORE_OK ? 0 : STOPPED;
}

/* A store that someone has open changes while it is read. The two locks hold him off, in the order
   of opening; a file that is not there, as in a folder that only data.mdb was put into, is
   nobody's.
 */
static credstore_status hold_alone(const cs_lmdb_opening *o, cs_lmdb_held *held)
{
    static const char *const names[] = {CS_LMDB_GUARD, CS_LMDB_PRESENCE};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int rc;

        cs_lmdb_no_forks();
        held->fds[i] = cs_lmdb_open_to_read(o->folder, names[i]);
        rc = errno;
        cs_lmdb_forks();
        if (held->fds[i] < 0 && rc == ENOENT)
            continue;
        if (held->fds[i] < 0)
            return cs_lmdb_fail(o->err, rc, "cannot open the lock files");
        if (flock(held->fds[i], LOCK_EX | LOCK_NB) == 0)
            continue;
        if (errno != EWOULDBLOCK)
            return cs_lmdb_fail(o->err, errno, "cannot lock the lock files");
        return fail_path(o->err, CREDSTORE_E_BUSY, "someone has the store open");
    }
    return CREDSTORE_OK;
}

static void begin_held(cs_lmdb_held *held)
{
    held->fds[0] = held->fds[1] = -1;
    cs_lmdb_no_forks();
    cs_lmdb_held_add(held);
    cs_lmdb_forks();
}

static void let_go(cs_lmdb_held *held)
{
    cs_lmdb_no_forks();
    cs_lmdb_held_remove(held);
    for (size_t i = sizeof held->fds / sizeof held->fds[0]; i-- > 0;) {
        if (held->fds[i] < 0)
            continue;
        flock(held->fds[i], LOCK_UN); /* a child that was not forked may hold it still */
        close(held->fds[i]);
    }
    cs_lmdb_forks();
}

static credstore_status read_data(const cs_lmdb_opening *o, reading *r)
{
    const cs_lmdb_reader reader = {visit_for, r};
    credstore_status status = cs_lmdb_check_data(o);
    int fd;
    int rc;

    if (status != CREDSTORE_OK)
        return status;
    fd = cs_lmdb_open_to_read(o->folder, CS_LMDB_DATA);
    rc = fd < 0 ? errno : cs_lmdb_read_pairs(fd, &reader);
    if (fd >= 0)
        close(fd);
    if (r->status != CREDSTORE_OK)
        return r->status;
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(o->err, rc, "cannot read the data file");
}

credstore_status cs_lmdb_read_folder(const char *path, cs_lmdb_visit *visit, void *arg,
                                     credstore_error *err)
{
    cs_lmdb_opening o = {path, 0, -1, err};
    reading r = {visit, arg, err, CREDSTORE_OK};
    credstore_status status = CREDSTORE_OK;
    cs_lmdb_held held;

    if (path == NULL || *path == '\0')
        return fail_path(err, CREDSTORE_E_INVALID, "the path is empty");
    o.folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (o.folder < 0)
        return cs_lmdb_fail(err, errno, "cannot open the folder");
    begin_held(&held);
    status = hold_alone(&o, &held);
    if (status == CREDSTORE_OK)
        status = read_data(&o, &r);
    let_go(&held);
    close(o.folder);
    return status;
}

/* ---- a store made compact where it lies ---- */

/* What was read, to be held against what was written. */
typedef struct sum {
    size_t pairs;
    uint64_t hash; /* FNV-1a, 64 bits, of lengths and bytes */
} sum;

static const sum no_pairs = {0, UINT64_C(0xcbf29ce484222325)};

static void sum_bytes(sum *s, credstore_bytes bytes)
{
    const uint8_t *p = bytes.ptr;
    const uint64_t prime = UINT64_C(0x100000001b3);

    s->hash = (s->hash ^ bytes.len) * prime;
    for (size_t i = 0; i < bytes.len; i++)
        s->hash = (s->hash ^ p[i]) * prime;
}

static int sum_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    sum *s = arg;

    s->pairs++;
    sum_bytes(s, key);
    sum_bytes(s, value);
    return 0;
}

typedef struct compacting {
    cs_lmdb_opening o;
    cs_lmdb_held held; /* guard and presence */
    int part;
    writer writer;
    sum read;
    credstore_status status;
} compacting;

static int copy_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    compacting *c = arg;
    const int rc = writer_put(&c->writer, key, value);

    sum_pair(&c->read, key, value);
    if (rc == 0)
        return 0;
    c->status = cs_lmdb_fail(c->o.err, rc, "cannot write the compact copy");
    return STOPPED;
}

void cs_lmdb_clear_erasing(int folder)
{
    const int part = openat(folder, ERASING, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (part < 0)
        return;
    cs_lmdb_remove_files(part);
    close(part);
    unlinkat(folder, ERASING, AT_REMOVEDIR);
}

/* The copy takes the place of the file: owner and mode are the same, whoever calls. */
static int take_over(const compacting *c, int old)
{
    struct stat st;

    if (fstat(old, &st) != 0)
        return errno;
    if ((st.st_uid != geteuid() || st.st_gid != getegid()) &&
        fchown(c->writer.fd, st.st_uid, st.st_gid) != 0)
        return errno;
    return fchmod(c->writer.fd, st.st_mode & 0777) == 0 ? 0 : errno;
}

static credstore_status make_copy(compacting *c, int old)
{
    const cs_lmdb_reader from = {copy_pair, c};
    char *data = cs_lmdb_join(c->o.path, strlen(c->o.path), "/" ERASING "/" CS_LMDB_DATA);
    int rc = data == NULL ? ENOMEM : writer_open(&c->writer, data, 0600);

    cs_free(data);
    if (rc == 0)
        rc = take_over(c, old);
    if (rc != 0)
        return cs_lmdb_fail(c->o.err, rc, "cannot make the compact copy");
    rc = cs_lmdb_read_pairs(old, &from);
    if (c->status != CREDSTORE_OK)
        return c->status;
    if (rc != 0)
        return cs_lmdb_fail(c->o.err, rc, "cannot read the data file");
    rc = writer_finish(&c->writer);
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(c->o.err, rc, "cannot write the compact copy");
}

/* The old file goes for good: so what was written is read once more before. */
static credstore_status prove_copy(const compacting *c)
{
    sum written = no_pairs;
    const cs_lmdb_reader again = {sum_pair, &written};
    const int fd = openat(c->part, CS_LMDB_DATA, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int rc = fd < 0 ? errno : cs_lmdb_read_pairs(fd, &again);

    if (fd >= 0)
        close(fd);
    if (rc == 0 && (written.pairs != c->read.pairs || written.hash != c->read.hash))
        return cs_fail(c->o.err, CREDSTORE_E_STORAGE, NULL, "the copy is not what was written");
    return rc == 0 ? CREDSTORE_OK : cs_lmdb_fail(c->o.err, rc, "cannot read the compact copy");
}

static credstore_status swap(const compacting *c)
{
    int rc = renameat(c->part, CS_LMDB_DATA, c->o.folder, CS_LMDB_DATA) == 0 ? 0 : errno;

    if (rc == 0)
        rc = cs_lmdb_sync(c->o.folder);
    return rc == 0 ? CREDSTORE_OK
                   : cs_lmdb_fail(c->o.err, rc, "cannot put the compact copy in place");
}

static credstore_status compact_alone(compacting *c)
{
    credstore_status status = cs_lmdb_check_data(&c->o);
    int old;

    if (status != CREDSTORE_OK)
        return status;
    cs_lmdb_clear_erasing(c->o.folder);
    if (mkdirat(c->o.folder, ERASING, 0700) != 0)
        return cs_lmdb_fail(c->o.err, errno, "cannot make the compact copy");
    c->part = openat(c->o.folder, ERASING, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    old = openat(c->o.folder, CS_LMDB_DATA, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (c->part < 0 || old < 0)
        status = cs_lmdb_fail(c->o.err, errno, "cannot open the data file");
    if (status == CREDSTORE_OK)
        status = make_copy(c, old);
    writer_close(&c->writer);
    if (status == CREDSTORE_OK)
        status = prove_copy(c);
    if (status == CREDSTORE_OK)
        status = swap(c);
    if (old >= 0)
        close(old);
    if (c->part >= 0)
        close(c->part);
    cs_lmdb_clear_erasing(c->o.folder);
    return status;
}

/* With the guard as in opening: whoever opens the store meanwhile waits for it. */
static credstore_status compact_folder(compacting *c)
{
    const mode_t mode = cs_lmdb_file_mode(c->o.flags);
    bool alone = false;
    int rc;

    cs_lmdb_no_forks();
    rc = cs_lmdb_file_open(c->o.folder, CS_LMDB_GUARD, mode, &c->held.fds[0]);
    if (rc == 0)
        rc = cs_lmdb_file_open(c->o.folder, CS_LMDB_PRESENCE, mode, &c->held.fds[1]);
    cs_lmdb_forks();
    if (rc == 0)
        rc = cs_lmdb_guard_take(c->held.fds[0], ERASE_WAIT_MS);
    if (rc == 0)
        rc = cs_lmdb_presence_take(c->held.fds[1], &alone);
    if (rc != 0)
        return cs_lmdb_fail(c->o.err, rc, "cannot open the lock files");
    if (!alone)
        return fail_path(c->o.err, CREDSTORE_E_BUSY, "someone has the store open");
    return compact_alone(c);
}

credstore_status cs_lmdb_compact(const char *path, uint32_t flags, credstore_error *err)
{
    compacting c = {.o = {path, flags, -1, err}, .part = -1};
    struct stat st;
    credstore_status status;

    c.read = no_pairs;
    c.o.folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c.o.folder < 0)
        return cs_lmdb_fail(err, errno, "cannot open the folder");
    status = cs_lmdb_check_file_system(c.o.folder, err);
    if (status == CREDSTORE_OK && fstat(c.o.folder, &st) != 0)
        status = cs_lmdb_fail(err, errno, "cannot look at the folder");
    if (status == CREDSTORE_OK)
        status = cs_lmdb_check_access(&st, flags, err);
    if (status == CREDSTORE_OK)
        status = cs_lmdb_check_files(&c.o);
    begin_held(&c.held);
    if (status == CREDSTORE_OK)
        status = compact_folder(&c);
    let_go(&c.held);
    close(c.o.folder);
    return status;
}
