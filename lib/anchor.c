/* SPDX-License-Identifier: MIT
 *
 * Anchors: checkpoints that the host keeps where who can write the store cannot, and the file that
 * holds one. The file is one line of fixed length, so that a torn one is seen:
 *
 *     credstore-anchor 1 <epoch> <generation> <seq> <chain> <CRC-32 of all before it>
 */
#define _DEFAULT_SOURCE /* flock */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint.h"
#include "crc.h"
#include "error.h"
#include "file.h"
#include "op.h"
#include "time.h"

static const char magic[] = "credstore-anchor ";
static const char version[] = "1 ";
enum {
    MAGIC = sizeof magic - 1,
    NUMBERS = MAGIC + sizeof version - 1,
    NUMBER = 16 + 1, /* hex digits, and what follows them */
    CHAIN = NUMBERS + 3 * NUMBER,
    CHECK = CHAIN + 2 * CS_CHAIN_LEN + 1,
    LINE = CHECK + 8 + 1,
    WAIT_MS = 5000,
    NAP_MS = 5
};

static const char unusable[] = "The anchor's file cannot be used";

static credstore_status damaged(credstore_error *err)
{
    return cs_fail(err, CREDSTORE_E_INTEGRITY, "path", "The anchor's file is damaged or cut short");
}

/* ---- the line ---- */

static void put_hex(uint8_t *out, const uint8_t *raw, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        *out++ = (uint8_t)digits[raw[i] >> 4];
        *out++ = (uint8_t)digits[raw[i] & 15];
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool get_hex(const uint8_t *in, uint8_t *raw, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const int high = hex_value(in[2 * i]);
        const int low = hex_value(in[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        raw[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void write_line(const credstore_checkpoint *anchor, uint8_t line[LINE])
{
    const uint64_t numbers[] = {anchor->epoch, anchor->generation, anchor->seq};
    uint8_t raw[8];

    memset(line, ' ', LINE);
    memcpy(line, magic, MAGIC);
    memcpy(line + MAGIC, version, sizeof version - 1);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        cs_put_u64(raw, numbers[i]);
        put_hex(line + NUMBERS + i * NUMBER, raw, sizeof raw);
    }
    put_hex(line + CHAIN, anchor->chain, sizeof anchor->chain);
    cs_put_u32(raw, cs_crc32(line, CHECK));
    put_hex(line + CHECK, raw, 4);
    line[LINE - 1] = '\n';
}

/* What is read must be what would be written of it. */
static credstore_status read_line(const uint8_t *line, size_t len, credstore_checkpoint *out,
                                  credstore_error *err)
{
    uint64_t *const numbers[] = {&out->epoch, &out->generation, &out->seq};
    uint8_t again[LINE];
    uint8_t raw[8];

    if (len > NUMBERS && memcmp(line, magic, MAGIC) == 0 &&
        memcmp(line + MAGIC, version, sizeof version - 1) != 0)
        return cs_fail(err, CREDSTORE_E_FORMAT, "path", "The anchor is a newer library's");
    if (len != LINE)
        return damaged(err);
    memset(out, 0, sizeof *out);
    out->struct_size = sizeof *out;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!get_hex(line + NUMBERS + i * NUMBER, raw, sizeof raw))
            return damaged(err);
        *numbers[i] = cs_get_u64(raw);
    }
    if (!get_hex(line + CHAIN, out->chain, sizeof out->chain))
        return damaged(err);
    write_line(out, again);
    return memcmp(line, again, LINE) == 0 ? CREDSTORE_OK : damaged(err);
}

/* ---- the file ---- */

static credstore_status read_fd(int fd, credstore_checkpoint *out, credstore_error *err)
{
    uint8_t line[LINE + 1];
    size_t len = 0;
    struct stat st;

    if (fstat(fd, &st) != 0)
        return cs_fail_errno(err, errno, unusable);
    if (!S_ISREG(st.st_mode))
        return cs_fail_errno(err, ENXIO, unusable);
    if (!cs_file_read(fd, line, sizeof line, &len))
        return cs_fail_errno(err, errno, unusable);
    return read_line(line, len, out, err);
}

static credstore_status read_file(const char *path, credstore_checkpoint *out, credstore_error *err)
{
    const int fd = cs_file_open_to_read(path);
    credstore_status status;

    if (fd < 0)
        return cs_fail_errno(err, errno, unusable);
    status = read_fd(fd, out, err);
    close(fd);
    return status;
}

static int write_file(const char *name, const uint8_t line[LINE])
{
    const int fd = cs_file_make(name);
    int rc = 0;

    if (fd < 0)
        return errno;
    if (!cs_file_write(fd, line, LINE) || fsync(fd) != 0)
        rc = errno;
    close(fd);
    return rc;
}

/* Is the file to be replaced by this anchor? */
static credstore_status judge(const char *path, const credstore_checkpoint *anchor, uint32_t flags,
                              bool *replace, credstore_error *err)
{
    credstore_checkpoint there;
    credstore_error why = {0};
    const credstore_status status = read_file(path, &there, &why);

    *replace = true;
    if (status == CREDSTORE_E_NOT_FOUND || (flags & CREDSTORE_ANCHOR_ACCEPT) != 0)
        return CREDSTORE_OK;
    if (status != CREDSTORE_OK) {
        if (err != NULL)
            *err = why;
        return status;
    }
    if (there.epoch != anchor->epoch)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, "anchor",
                       "The file's anchor is of another epoch: CREDSTORE_ANCHOR_ACCEPT accepts it");
    *replace = there.generation <= anchor->generation;
    if (there.generation == anchor->generation &&
        memcmp(there.chain, anchor->chain, sizeof there.chain) != 0)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, "anchor",
                       "The file's anchor is of another history");
    return CREDSTORE_OK;
}

static credstore_status replace_file(const char *path, int folder,
                                     const credstore_checkpoint *anchor, credstore_error *err)
{
    uint8_t line[LINE];
    cs_buf name = {0};
    const char *temporary;
    int rc;

    cs_buf_add(&name, path, strlen(path));
    cs_buf_add(&name, ".new", sizeof ".new");
    if (name.failed) {
        cs_buf_free(&name);
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    temporary = (const char *)name.ptr;
    write_line(anchor, line);
    unlink(temporary); /* of one that was interrupted: the folder is locked */
    rc = write_file(temporary, line);
    if (rc == 0 && rename(temporary, path) != 0)
        rc = errno;
    if (rc != 0)
        unlink(temporary);
    if (rc == 0 && fsync(folder) != 0)
        rc = errno;
    cs_buf_free(&name);
    return rc == 0 ? CREDSTORE_OK : cs_fail_errno(err, rc, unusable);
}

/* The folder, locked: those who write anchors there do so one after the other. */
static credstore_status lock_folder(const char *path, int *fd, credstore_error *err)
{
    const int64_t end = cs_time_monotonic() + WAIT_MS;
    const struct timespec nap = {0, NAP_MS * 1000000L};

    *fd = cs_file_open_folder(path);
    if (*fd < 0)
        return cs_fail_errno(err, errno, unusable);
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || cs_time_monotonic() >= end)
            return cs_fail_errno(err, errno, unusable);
        nanosleep(&nap, NULL);
    }
    return CREDSTORE_OK;
}

static credstore_status check_path(const char *path, credstore_error *err)
{
    if (path == NULL || *path == '\0' || path[strlen(path) - 1] == '/')
        return cs_fail(err, CREDSTORE_E_INVALID, "path", "The path is not that of a file");
    return CREDSTORE_OK;
}

credstore_status credstore_anchor_read(const char *path, credstore_checkpoint *out,
                                       credstore_error *err)
{
    credstore_checkpoint anchor = {0};
    int state;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    status = check_path(path, err);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (status == CREDSTORE_OK)
        status = read_file(path, &anchor, err);
    pthread_setcancelstate(state, NULL);
    if (status == CREDSTORE_OK)
        *out = anchor;
    return status;
}

credstore_status credstore_anchor_write(const char *path, const credstore_checkpoint *anchor,
                                        uint32_t flags, credstore_error *err)
{
    credstore_checkpoint taken;
    bool replace = false;
    int folder = -1;
    int state;
    credstore_status status;

    cs_error_clear(err);
    status = check_path(path, err);
    if (status == CREDSTORE_OK && (flags & ~(uint32_t)CREDSTORE_ANCHOR_ACCEPT) != 0)
        status = cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "An unknown flag is set");
    if (status == CREDSTORE_OK)
        status = cs_checkpoint_take(&taken, anchor, "anchor", err);
    if (status == CREDSTORE_OK && taken.epoch == 0)
        status = cs_fail(err, CREDSTORE_E_INVALID, "anchor", "The anchor tells no epoch");
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* the lock would stay */
    if (status == CREDSTORE_OK)
        status = lock_folder(path, &folder, err);
    if (status == CREDSTORE_OK)
        status = judge(path, &taken, flags, &replace, err);
    if (status == CREDSTORE_OK && replace)
        status = replace_file(path, folder, &taken, err);
    if (folder >= 0) {
        flock(folder, LOCK_UN); /* a forked child may hold the descriptor still */
        close(folder);
    }
    pthread_setcancelstate(state, NULL);
    return status;
}

/* ---- of an open store ---- */

credstore_status credstore_anchor_take(credstore *store, const credstore_call *call,
                                       credstore_checkpoint *out, credstore_error *err)
{
    credstore_checkpoint now = {0};
    cs_op op;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK)
        status = cs_checkpoint_now(store, &now, err);
    if (status == CREDSTORE_OK)
        *out = now;
    return status;
}
