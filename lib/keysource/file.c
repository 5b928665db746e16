/* SPDX-License-Identifier: MIT
 *
 * A root key in a file. It goes from the file to a locked slot and back, never over the heap.
 */
#define _DEFAULT_SOURCE /* getrandom */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "file.h"
#include "keysource/keysource.h"
#include "mem.h"

enum { NAME_RANDOM = 8, OTHERS = 077 };

static credstore_status fail(credstore_error *err, credstore_status status, const char *message)
{
    return cs_fail(err, status, "path", message);
}

/* ---- reading ---- */

/* Symbolic links are followed, since mounted secrets are links; what counts is where they end. */
static credstore_status check(int fd, credstore_error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return cs_fail_errno(err, errno, "cannot look at the key file");
    if (!S_ISREG(st.st_mode))
        return fail(err, CREDSTORE_E_INVALID, "the key file is not a regular file");
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return fail(err, CREDSTORE_E_FORBIDDEN, "the key file belongs to another user");
    if ((st.st_mode & OTHERS) != 0)
        return fail(err, CREDSTORE_E_FORBIDDEN,
                    "group or others have access to the key file: chmod 600 it");
    if (st.st_size != CS_ROOT_KEY_LEN)
        return fail(err, CREDSTORE_E_INVALID, "the key file has not exactly 32 bytes");
    return CREDSTORE_OK;
}

static credstore_status read_key(int fd, uint8_t *key, credstore_error *err)
{
    size_t len = 0;

    if (!cs_file_read(fd, key, CS_ROOT_KEY_LEN, &len))
        return cs_fail_errno(err, errno, "cannot read the key file");
    if (len != CS_ROOT_KEY_LEN)
        return fail(err, CREDSTORE_E_INVALID, "the key file has not exactly 32 bytes");
    return CREDSTORE_OK;
}

static credstore_status load(const char *path, uint8_t *key, credstore_error *err)
{
    const int fd = cs_file_open_to_read(path);
    credstore_status status;

    if (fd < 0)
        return cs_fail_errno(err, errno, "cannot open the key file");
    status = check(fd, err);
    if (status == CREDSTORE_OK)
        status = read_key(fd, key, err);
    (void)close(fd);
    return status;
}

/* ---- making ---- */

static bool draw(void *out, size_t len)
{
    ssize_t got;

    do
        got = getrandom(out, len, 0);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)len; /* up to 256 bytes come whole */
}

/* <path>.<random>.tmp: in the same folder, or link() could not reach it. */
static credstore_status temporary_name(const char *path, cs_buf *name, credstore_error *err)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t random[NAME_RANDOM];

    if (!draw(random, sizeof random))
        return fail(err, CREDSTORE_E_ENTROPY, "the system gives no random bytes");
    cs_buf_add(name, path, strlen(path));
    cs_buf_u8(name, '.');
    for (size_t i = 0; i < sizeof random; i++) {
        cs_buf_u8(name, (uint8_t)hex[random[i] >> 4]);
        cs_buf_u8(name, (uint8_t)hex[random[i] & 15]);
    }
    cs_buf_add(name, ".tmp", sizeof ".tmp");
    return name->failed ? fail(err, CREDSTORE_E_NO_MEMORY, "no memory for a path") : CREDSTORE_OK;
}

static credstore_status write_temporary(const char *name, const uint8_t *key, credstore_error *err)
{
    const int fd = cs_file_make(name);
    credstore_status status = CREDSTORE_OK;

    if (fd < 0)
        return cs_fail_errno(err, errno, "cannot make the key file");
    if (!cs_file_write(fd, key, CS_ROOT_KEY_LEN) || fsync(fd) != 0)
        status = cs_fail_errno(err, errno, "cannot write the key file");
    if (close(fd) != 0 && status == CREDSTORE_OK)
        status = cs_fail_errno(err, errno, "cannot write the key file");
    return status;
}

static credstore_status sync_folder(const char *path, credstore_error *err)
{
    const int fd = cs_file_open_folder(path);
    credstore_status status = CREDSTORE_OK;

    if (fd < 0 || fsync(fd) != 0)
        status = cs_fail_errno(err, errno, "cannot sync the folder of the key file");
    if (fd >= 0)
        (void)close(fd);
    return status;
}

/* Leaves a whole, durable key at path: this one, or another process's that was there first. */
static credstore_status make(const char *path, uint8_t *key, credstore_error *err)
{
    credstore_status status;
    cs_buf name = {0};

    if (!draw(key, CS_ROOT_KEY_LEN))
        return fail(err, CREDSTORE_E_ENTROPY, "the system gives no random bytes");
    status = temporary_name(path, &name, err);
    if (status != CREDSTORE_OK)
        goto cleanup;
    status = write_temporary((const char *)name.ptr, key, err);
    if (status == CREDSTORE_OK && link((const char *)name.ptr, path) != 0 && errno != EEXIST)
        status = cs_fail_errno(err, errno, "cannot name the key file");
    (void)unlink((const char *)name.ptr);
    if (status == CREDSTORE_OK)
        status = sync_folder(path, err);
cleanup:
    cs_buf_free(&name);
    return status;
}

static bool absent(const char *path)
{
    struct stat st;

    return stat(path, &st) != 0 && errno == ENOENT;
}

credstore_status credstore_key_file(const char *path, uint32_t flags, credstore_key_source **out,
                                    credstore_error *err)
{
    credstore_key_source *source;
    int state;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "out is NULL");
    *out = NULL;
    if (path == NULL || *path == '\0')
        return fail(err, CREDSTORE_E_INVALID, "no path");
    if ((flags & ~(uint32_t)CREDSTORE_KEY_CREATE) != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "unknown flag");
    status = cs_key_source_blank(CS_ROOT_METHOD_RAW, CS_ROOT_KEY_LEN, &source, err);
    if (status != CREDSTORE_OK)
        return status;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* files and key would be left */
    if ((flags & CREDSTORE_KEY_CREATE) != 0 && absent(path))
        status = make(path, cs_secret_bytes(source->key), err);
    if (status == CREDSTORE_OK) /* a key just made is read back: what is on disk is what counts */
        status = load(path, cs_secret_bytes(source->key), err);
    pthread_setcancelstate(state, NULL);
    if (status != CREDSTORE_OK) {
        credstore_key_source_free(source);
        return status;
    }
    *out = source;
    return CREDSTORE_OK;
}
