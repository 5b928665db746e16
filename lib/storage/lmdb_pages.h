/* SPDX-License-Identifier: MIT
 *
 * Inside the LMDB engine: the pairs of a data file, read without LMDB.
 */
#ifndef CS_LMDB_PAGES_H
#define CS_LMDB_PAGES_H

#include "credstore/backend.h"

typedef struct cs_lmdb_reader {
    /* 0 = go on; anything else ends the reading with it. The bytes go away when it returns. */
    int (*visit)(void *arg, credstore_bytes key, credstore_bytes value);
    void *arg;
} cs_lmdb_reader;

/* In the order of the keys. 0, what visit answered, an errno, MDB_INVALID, MDB_VERSION_MISMATCH. */
int cs_lmdb_read_pairs(int fd, const cs_lmdb_reader *reader);

#endif
