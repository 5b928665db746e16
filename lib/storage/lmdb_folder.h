/* SPDX-License-Identifier: MIT
 *
 * Inside the LMDB engine: the folder of a store, before LMDB is let in.
 */
#ifndef CS_LMDB_FOLDER_H
#define CS_LMDB_FOLDER_H

#include "storage/lmdb_env.h"

/* What opening one folder works with. */
typedef struct cs_lmdb_opening {
    const char *path;
    uint32_t flags;
    int folder; /* descriptor */
    credstore_error *err;
} cs_lmdb_opening;

/* Says an errno or LMDB code in *err. message: what was being done, for codes that do not explain
 * themselves. */
credstore_status cs_lmdb_fail(credstore_error *err, int rc, const char *message);

/* E_UNSUPPORTED: a network file system. */
credstore_status cs_lmdb_check_file_system(int fd, credstore_error *err);
/* E_FORBIDDEN: another's, or others may read or write it. */
credstore_status cs_lmdb_check_access(const struct stat *st, uint32_t flags, credstore_error *err);
credstore_status cs_lmdb_check_files(const cs_lmdb_opening *o);
/* Opens a file that is only read and that anybody may have put there: what is not a regular file is
   refused (ENXIO), without waiting for one who writes a pipe. -1 and errno. */
int cs_lmdb_open_to_read(int folder, const char *name);
mode_t cs_lmdb_file_mode(uint32_t flags);
mode_t cs_lmdb_folder_mode(uint32_t flags);

/* Paths. join: the first len bytes of path, and tail; NULL when memory is out. path_len: without
   the slashes at its end. open_parent: the folder that holds the path of that length; errno. */
char *cs_lmdb_join(const char *path, size_t len, const char *tail);
size_t cs_lmdb_path_len(const char *path);
int cs_lmdb_open_parent(const char *path, size_t len, int *fd);
int cs_lmdb_sync(int fd); /* fsync; errno */

/* Makes a store where nothing is, or in a folder that is empty. OK if another process was faster.
 */
credstore_status cs_lmdb_create_beside(const cs_lmdb_opening *o);
credstore_status cs_lmdb_create_inside(const cs_lmdb_opening *o);
/* Makes the files but LMDB's lock file, before LMDB would: so they have their modes whatever the
   umask is. An errno. */
int cs_lmdb_make_files(int folder, uint32_t flags);
void cs_lmdb_remove_files(int folder); /* the lock file too; nothing else */
/* Clears away what an interrupted cs_lmdb_create_inside() left. */
void cs_lmdb_clear_creating(int folder);

/* ---- lmdb_data.c ---- */

/* Refuses a file that is cut: LMDB would map it, and fault. E_INTEGRITY, E_FORMAT. */
credstore_status cs_lmdb_check_data(const cs_lmdb_opening *o);

/* ---- lmdb_copy.c ---- */

/* Clears away what an interrupted cs_lmdb_compact() left. The caller has the guard, and the store
   to himself. */
void cs_lmdb_clear_erasing(int folder);

#endif
