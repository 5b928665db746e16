/* SPDX-License-Identifier: MIT
 *
 * The data file, read by hand before LMDB maps it: LMDB would fault on one that is cut short.
 *
 * The file may rightly end before its last page: pages that a transaction took from the end and
 * gave back are never written. They are all in the list of free pages, whose tree is walked here;
 * if it does not name every page that is missing, the file was cut.
 */
#define _GNU_SOURCE /* O_NOFOLLOW */

#include "storage/lmdb_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"
#include "storage/lmdb_layout.h"

enum {
    PAGE_SIZE_MIN = 512,
    PAGE_SIZE_MAX = 65536,
    META_VERSION = 1 /* of LMDB 0.9 */
};
static const uint32_t meta_magic = 0xbeefc0de;

int cs_lmdb_full_or(int fd, int rc)
{
    struct statvfs fs;
    struct stat st;
    struct rlimit limit;

    if (rc != EIO)
        return rc;
    if (fstatvfs(fd, &fs) == 0 && fs.f_bavail == 0)
        return ENOSPC;
    if (fstat(fd, &st) == 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY && (rlim_t)st.st_size >= limit.rlim_cur)
        return EFBIG;
    return rc;
}

MDB_val cs_lmdb_val(credstore_bytes bytes)
{
    union {
        const void *from;
        void *to;
    } ptr = {.from = bytes.ptr};
    const MDB_val out = {bytes.len, ptr.to};

    return out;
}

typedef struct free_walk {
    cs_lmdb_file file;
    size_t seen;   /* pages of the tree: no more than there are, whatever they point to */
    size_t beyond; /* free pages behind its end */
} free_walk;

int cs_lmdb_file_read(const cs_lmdb_file *file, void *to, size_t len, size_t offset)
{
    ssize_t n;

    do
        n = pread(file->fd, to, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    return (size_t)n == len ? 0 : MDB_INVALID;
}

/* A list is its length and the pages' numbers, the largest first. All lists together have no more
   of them than the file has room for, though an edited file may point to one many times. */
static int count_list(free_walk *walk, size_t offset, size_t size)
{
    size_t count = 0;
    size_t page = 0;
    int rc = cs_lmdb_file_read(&walk->file, &count, sizeof count, offset);

    if (rc == 0 && count >= size / sizeof page)
        return MDB_INVALID;
    for (size_t i = 1; rc == 0 && i <= count; i++) {
        rc = cs_lmdb_file_read(&walk->file, &page, sizeof page, offset + i * sizeof page);
        if (page < walk->file.pages)
            break;
        if (++walk->beyond > walk->file.pages * (walk->file.page_size / sizeof page))
            return MDB_INVALID;
    }
    return rc;
}

static int count_leaf(free_walk *walk, const uint8_t *raw, size_t page, size_t at)
{
    cs_lmdb_node node;
    size_t value;
    size_t target;

    memcpy(&node, raw + at, sizeof node);
    value = at + sizeof node + node.key_size;
    if (value + sizeof target > walk->file.page_size)
        return MDB_INVALID;
    if ((node.flags & CS_LMDB_BIG_DATA) == 0)
        return count_list(walk, page * walk->file.page_size + value, node.size);
    memcpy(&target, raw + value, sizeof target);
    if (target >= walk->file.pages)
        return MDB_INVALID;
    return count_list(walk, target * walk->file.page_size + sizeof(cs_lmdb_page_head), node.size);
}

size_t cs_lmdb_child_of(const cs_lmdb_node *node)
{
    const int wide = sizeof(size_t) > sizeof node->size;

    return node->size | (wide ? (size_t)node->flags << (wide ? 32 : 0) : 0);
}

static int count_free(free_walk *walk, size_t page, int depth);

static int count_child(free_walk *walk, const uint8_t *raw, size_t at, int depth)
{
    cs_lmdb_node node;

    memcpy(&node, raw + at, sizeof node);
    return count_free(walk, cs_lmdb_child_of(&node), depth);
}

static int count_free(free_walk *walk, size_t page, int depth)
{
    uint8_t *raw;
    cs_lmdb_page_head head;
    int rc;

    if (page >= walk->file.pages || depth > CS_LMDB_DEPTH_MAX || ++walk->seen > walk->file.pages)
        return MDB_INVALID;
    raw = cs_alloc(1, walk->file.page_size);
    if (raw == NULL)
        return ENOMEM;
    rc = cs_lmdb_file_read(&walk->file, raw, walk->file.page_size, page * walk->file.page_size);
    memcpy(&head, raw, sizeof head);
    if (rc == 0 &&
        ((head.flags & (CS_LMDB_BRANCH | CS_LMDB_LEAF)) == 0 || head.lower > walk->file.page_size))
        rc = MDB_INVALID;
    for (size_t i = sizeof head; rc == 0 && i + sizeof(uint16_t) <= head.lower;
         i += sizeof(uint16_t)) {
        uint16_t at;

        memcpy(&at, raw + i, sizeof at);
        if (at > walk->file.page_size - sizeof(cs_lmdb_node))
            rc = MDB_INVALID;
        else if ((head.flags & CS_LMDB_LEAF) != 0)
            rc = count_leaf(walk, raw, page, at);
        else
            rc = count_child(walk, raw, at, depth + 1);
    }
    cs_free(raw);
    return rc;
}

static int read_meta(const cs_lmdb_file *file, size_t offset, cs_lmdb_meta *out)
{
    const int rc = cs_lmdb_file_read(file, out, sizeof *out, offset);
    const uint32_t size = out->trees[CS_LMDB_FREE_TREE].page_size;

    if (rc != 0)
        return rc;
    if (out->magic != meta_magic)
        return MDB_INVALID;
    if (out->version != META_VERSION)
        return MDB_VERSION_MISMATCH;
    return size < PAGE_SIZE_MIN || size > PAGE_SIZE_MAX || (size & (size - 1)) != 0 ? MDB_INVALID
                                                                                    : 0;
}

int cs_lmdb_file_look(int fd, cs_lmdb_file *out)
{
    cs_lmdb_meta meta[2];
    struct stat st;
    int rc;

    memset(out, 0, sizeof *out);
    out->fd = fd;
    rc = read_meta(out, 0, &meta[0]);
    if (rc != 0)
        return rc;
    out->page_size = meta[0].trees[CS_LMDB_FREE_TREE].page_size;
    rc = read_meta(out, out->page_size, &meta[1]);
    if (rc != 0)
        return rc;
    if (fstat(fd, &st) != 0)
        return errno;
    out->meta = meta[1].txn > meta[0].txn ? meta[1] : meta[0];
    out->pages = (size_t)st.st_size / out->page_size;
    if (meta[1].trees[CS_LMDB_FREE_TREE].page_size != out->page_size || out->pages < 2)
        return MDB_INVALID;
    return 0;
}

/* Mapped pages behind the end of the file kill the process that reads them. */
static int check_fd(int fd)
{
    free_walk walk = {0};
    const cs_lmdb_file *file = &walk.file;
    int rc = cs_lmdb_file_look(fd, &walk.file);

    if (rc != 0 || file->meta.last_page < file->pages)
        return rc;
    rc = count_free(&walk, file->meta.trees[CS_LMDB_FREE_TREE].root, 1);
    return rc == 0 && walk.beyond != file->meta.last_page - file->pages + 1 ? MDB_INVALID : rc;
}

credstore_status cs_lmdb_check_data(const cs_lmdb_opening *o)
{
    const int fd = cs_lmdb_open_to_read(o->folder, CS_LMDB_DATA);
    const int rc = fd < 0 ? errno : check_fd(fd);

    if (fd >= 0)
        close(fd);
    if (rc == MDB_INVALID)
        return cs_fail_native(o->err, CREDSTORE_E_INTEGRITY, rc,
                              "the data file is damaged or cut short");
    return rc != 0 ? cs_lmdb_fail(o->err, rc, "cannot read the data file") : CREDSTORE_OK;
}
