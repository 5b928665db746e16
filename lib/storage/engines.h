/* SPDX-License-Identifier: MIT
 *
 * The engines that come with the library.
 */
#ifndef CS_STORAGE_ENGINES_H
#define CS_STORAGE_ENGINES_H

#include "credstore.h"
#include "credstore/backend.h"

extern const credstore_storage cs_storage_memory;
extern const credstore_storage cs_storage_lmdb;

/* An empty map in this process's memory. *ctx is released by the table's close. */
credstore_status cs_memory_new(void **ctx, credstore_error *err);

/* The LMDB environment in the folder `path`. flags: CREDSTORE_OPEN_CREATE | _READ_ONLY | _GROUP.
 *ctx is released by the table's close. Statuses as credstore_open() gives them. */
credstore_status cs_lmdb_open(const char *path, uint32_t flags, void **ctx, credstore_error *err);

/* What all handles of this process on the store of an LMDB handle share: made when the first asks
   for it, dropped when the last of them is closed. A transaction that one of them began may be used
   through another's ctx. NULL: make answered it. */
void *cs_lmdb_share(void *ctx, void *(*make)(void), void (*drop)(void *shared));

#endif
