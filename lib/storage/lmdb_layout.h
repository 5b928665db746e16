/* SPDX-License-Identifier: MIT
 *
 * Inside the LMDB engine: how a data file of LMDB 0.9 lies (its mdb.c, "Page structure"), for those
 * who read it without LMDB. Numbers are as wide as the machine's words, in its own byte order.
 */
#ifndef CS_LMDB_LAYOUT_H
#define CS_LMDB_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

enum {
    CS_LMDB_DEPTH_MAX = 32,
    CS_LMDB_BRANCH = 1, /* page flags */
    CS_LMDB_LEAF = 2,
    CS_LMDB_OVERFLOW = 4,
    CS_LMDB_BIG_DATA = 1, /* node flag: the value is the number of the page where it begins */
    CS_LMDB_FREE_TREE = 0,
    CS_LMDB_MAIN_TREE = 1,
    CS_LMDB_TREES = 2
};

typedef struct cs_lmdb_page_head {
    size_t number;
    uint16_t pad, flags, lower, upper; /* of an overflow page, lower and upper: how many it takes */
} cs_lmdb_page_head;

typedef struct cs_lmdb_tree {
    uint32_t page_size; /* in the first tree: of the file */
    uint16_t flags, depth;
    size_t branch_pages, leaf_pages, overflow_pages, entries, root;
} cs_lmdb_tree;

typedef struct cs_lmdb_meta {
    cs_lmdb_page_head head;
    uint32_t magic, version;
    size_t address, map_size;
    cs_lmdb_tree trees[CS_LMDB_TREES];
    size_t last_page, txn;
} cs_lmdb_meta;

typedef struct cs_lmdb_node {
    uint32_t size; /* of the value; in a branch the lower part of the page's number */
    uint16_t flags, key_size;
} cs_lmdb_node;

/* A data file, of which nothing is believed. */
typedef struct cs_lmdb_file {
    int fd;
    size_t page_size, pages; /* as many as the file has */
    cs_lmdb_meta meta;       /* the newest */
} cs_lmdb_file;

/* Reads both meta pages. 0, an errno, MDB_INVALID or MDB_VERSION_MISMATCH. */
int cs_lmdb_file_look(int fd, cs_lmdb_file *out);
/* 0, an errno, or MDB_INVALID where the file ends first. */
int cs_lmdb_file_read(const cs_lmdb_file *file, void *to, size_t len, size_t offset);
/* The page that a branch's node leads to. */
size_t cs_lmdb_child_of(const cs_lmdb_node *node);

#endif
