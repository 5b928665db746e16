/* SPDX-License-Identifier: MIT
 *
 * Small files.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"

enum { OWNER_ONLY = 0600 };

int cs_file_open_to_read(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* The mode is set again because a umask may have taken the owner's own bits. */
int cs_file_make(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, OWNER_ONLY);
    int code;

    if (fd < 0 || fchmod(fd, OWNER_ONLY) == 0)
        return fd;
    code = errno;
    (void)close(fd);
    (void)unlink(path);
    errno = code;
    return -1;
}

bool cs_file_read(int fd, void *out, size_t room, size_t *len)
{
    uint8_t *to = out;

    *len = 0;
    while (*len < room) {
        const ssize_t got = read(fd, to + *len, room - *len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        if (got == 0)
            break;
        *len += (size_t)got;
    }
    return true;
}

bool cs_file_write(int fd, const void *ptr, size_t len)
{
    const uint8_t *from = ptr;

    while (len > 0) {
        const ssize_t put = write(fd, from, len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC;
        if (put <= 0)
            return false;
        from += put;
        len -= (size_t)put;
    }
    return true;
}

int cs_file_open_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    cs_buf folder = {0};
    int fd;

    cs_buf_add(&folder, path, slash == NULL ? 0 : (size_t)(slash - path) + 1); /* with the slash */
    cs_buf_add(&folder, ".", sizeof ".");
    errno = ENOMEM;
    fd = folder.failed ? -1 : open((const char *)folder.ptr, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cs_buf_free(&folder);
    return fd;
}

/* ---- what errno says ---- */

typedef struct errno_row {
    int code;
    credstore_status status;
    const char *message;
} errno_row;

static const errno_row errno_rows[] = {
    {ENOENT, CREDSTORE_E_NOT_FOUND, "No such file or folder"},
    {ENOTDIR, CREDSTORE_E_NOT_FOUND, "No such file or folder"},
    {EACCES, CREDSTORE_E_FORBIDDEN, "This user may not use the file or its folder"},
    {EPERM, CREDSTORE_E_FORBIDDEN, "This user may not use the file or its folder"},
    {EROFS, CREDSTORE_E_FORBIDDEN, "The file system is read-only"},
    {EISDIR, CREDSTORE_E_INVALID, "Not a regular file"},
    {ENXIO, CREDSTORE_E_INVALID, "Not a regular file"},
    {ELOOP, CREDSTORE_E_INVALID, "Too many symbolic links lead to the file"},
    {ENAMETOOLONG, CREDSTORE_E_INVALID, "The path is too long"},
    {ENOSPC, CREDSTORE_E_FULL, "No room for the file"},
    {EDQUOT, CREDSTORE_E_FULL, "No room for the file"},
    {EFBIG, CREDSTORE_E_FULL, "No room for the file"},
    {ENOMEM, CREDSTORE_E_NO_MEMORY, "Out of memory"},
    {EWOULDBLOCK, CREDSTORE_E_BUSY, "Another process is writing the file"},
};

credstore_status cs_fail_errno(credstore_error *err, int code, const char *otherwise)
{
    const bool first = err != NULL && err->status == CREDSTORE_OK;
    credstore_status status = CREDSTORE_E_STORAGE;
    const char *message = otherwise;

    for (size_t i = 0; i < sizeof errno_rows / sizeof *errno_rows; i++) {
        if (errno_rows[i].code != code)
            continue;
        status = errno_rows[i].status;
        message = errno_rows[i].message;
    }
    (void)cs_fail(err, status, "path", message);
    if (first)
        err->native = code;
    return status;
}
