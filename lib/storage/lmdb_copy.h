/* SPDX-License-Identifier: MIT
 *
 * Copies of a store: a new folder that is filled pair by pair and then put in its place, the pairs
 * of a store's folder read without LMDB, and a store made compact where it lies.
 */
#ifndef CS_LMDB_COPY_H
#define CS_LMDB_COPY_H

#include "credstore.h"
#include "credstore/backend.h"

/* A new store's folder in the making. It lies beside its place, as <path>.part, until it is whole;
   what an interrupted making left there is cleared away by the next one for that path. */
typedef struct cs_lmdb_target cs_lmdb_target;

/* flags: CREDSTORE_OPEN_GROUP. E_EXISTS: something is at the path, or a stranger's at <path>.part.
   E_BUSY: another is making it. E_NOT_FOUND: no folder to make it in. E_FORBIDDEN, E_UNSUPPORTED (a
   network file system), E_FULL. */
credstore_status cs_lmdb_target_new(const char *path, uint32_t flags, cs_lmdb_target **out,
                                    credstore_error *err);
/* Keys come in ascending order: E_INTEGRITY. E_FULL. */
credstore_status cs_lmdb_target_put(cs_lmdb_target *target, credstore_bytes key,
                                    credstore_bytes value, credstore_error *err);
/* All pairs are there, and on disk when this returns; from here on cs_lmdb_open() opens it. */
credstore_status cs_lmdb_target_seal(cs_lmdb_target *target, credstore_error *err);
/* Instead of pairs: every page of `image`, whose first two are at hand. */
typedef struct cs_lmdb_image {
    int fd;
    size_t page_size, pages;
    uint8_t *metas;
} cs_lmdb_image;
credstore_status cs_lmdb_target_pages(cs_lmdb_target *target, const cs_lmdb_image *image,
                                      credstore_progress progress, void *progress_ctx,
                                      credstore_error *err);
/* The first two pages and the size, of a file that nobody writes to just now. An errno, MDB_x. The
   metas are freed by cs_free(). */
int cs_lmdb_image_take(int fd, cs_lmdb_image *out);
/* The folder where it lies meanwhile. */
const char *cs_lmdb_target_path(const cs_lmdb_target *target);
/* Puts it in its place, durably. Nobody has it open. E_EXISTS: something is there by now. */
credstore_status cs_lmdb_target_place(cs_lmdb_target *target, credstore_error *err);
/* Removes what was not put in its place. NULL is nothing. */
void cs_lmdb_target_free(cs_lmdb_target *target);

/* Hands each pair of the store in the folder `path` to visit, in order, until it fails. Nobody may
   have it open: E_BUSY. LMDB has no part in it, nothing in the file is believed, and nothing in the
   folder is changed. E_NOT_FOUND, E_FORBIDDEN, E_INTEGRITY (cut short or damaged), E_FORMAT. */
typedef credstore_status cs_lmdb_visit(void *arg, credstore_bytes key, credstore_bytes value,
                                       credstore_error *err);
credstore_status cs_lmdb_read_folder(const char *path, cs_lmdb_visit *visit, void *arg,
                                     credstore_error *err);

/* Replaces the data file of the store in the folder `path` by a compact copy: old or new, whenever
   the process ends. E_BUSY: someone has it open. flags: CREDSTORE_OPEN_GROUP. */
credstore_status cs_lmdb_compact(const char *path, uint32_t flags, credstore_error *err);

#endif
