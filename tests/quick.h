/* SPDX-License-Identifier: MIT
 *
 * Where a test lies that needs no disk. A header alone: some of those who ask are not linked with
 * support.c.
 */
#ifndef TESTS_QUICK_H
#define TESTS_QUICK_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define TEST_QUICK_ROOM (UINT64_C(512) << 20)

/* Memory, where locks are as everywhere and a commit waits for no disk, if it has room for tests
   that run beside one another: a container's may be 64 MB. Else $TMPDIR or /tmp. */
static inline const char *test_quick_base(void)
{
    const char *shm = "/dev/shm", *tmp = getenv("TMPDIR");
    struct statvfs fs;

    if (access(shm, W_OK | X_OK) == 0 && statvfs(shm, &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize >= TEST_QUICK_ROOM)
        return shm;
    return tmp == NULL || *tmp == '\0' ? "/tmp" : tmp;
}

#endif
