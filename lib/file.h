/* SPDX-License-Identifier: MIT
 *
 * Small files: read and written whole, in spite of signals; and what errno says as a status.
 */
#ifndef CS_FILE_H
#define CS_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "credstore.h"

/* Opens a file to be read: not through to a terminal or, for ever, to a pipe. -1 and errno. */
int cs_file_open_to_read(const char *path);
/* Makes a file that is not there, for its owner alone whatever the umask is. -1 and errno. */
int cs_file_make(const char *path);
/* Reads until the file or the room ends; how much came. False and errno. */
bool cs_file_read(int fd, void *out, size_t room, size_t *len);
/* False and errno. */
bool cs_file_write(int fd, const void *ptr, size_t len);
/* Opens the folder that a path's last part lies in. -1 and errno. */
int cs_file_open_folder(const char *path);

/* Says an errno as the fault of "path", with native the code. `otherwise`: where it says nothing by
   itself. */
credstore_status cs_fail_errno(credstore_error *err, int code, const char *otherwise);

#endif
