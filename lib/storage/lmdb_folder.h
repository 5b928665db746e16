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
mode_t cs_lmdb_file_mode(uint32_t flags);

/* Makes a store where nothing is, or in a folder that is empty. OK if another process was faster.
 */
credstore_status cs_lmdb_create_beside(const cs_lmdb_opening *o);
credstore_status cs_lmdb_create_inside(const cs_lmdb_opening *o);

/* Reads both meta pages by hand: LMDB would map, and fault on, a file that is cut. E_INTEGRITY,
 * E_FORMAT. */
credstore_status cs_lmdb_check_data(const cs_lmdb_opening *o);

#endif
