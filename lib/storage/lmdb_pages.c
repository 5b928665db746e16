/* SPDX-License-Identifier: MIT
 *
 * The pairs of a data file, read page by page without LMDB, which trusts what it maps: each number
 * that is followed is held against the file's bounds first, and the keys must ascend.
 */
#include "storage/lmdb_pages.h"

#include <errno.h>
#include <string.h>

#include <lmdb.h>

#include "mem.h"
#include "storage/lmdb_env.h"
#include "storage/lmdb_layout.h"

enum { VALUE_MAX = 1 << 24 /* no value of ours comes near */ };

typedef struct pages {
    cs_lmdb_file file;
    const cs_lmdb_reader *reader;
    size_t seen, entries;
    size_t big; /* bytes of values on overflow pages: no more than the file has */
    uint8_t last_key[CS_LMDB_KEY_MAX];
    size_t last_key_len;
    uint8_t *value; /* of overflow pages */
    size_t value_room;
} pages;

/* A value that begins on page `number` and goes over several. */
static int read_big(pages *p, size_t number, size_t size, credstore_bytes *out)
{
    const size_t offset = number * p->file.page_size;
    cs_lmdb_page_head head;
    int rc;

    p->big += size;
    if (number < 2 || number >= p->file.pages || size > VALUE_MAX ||
        p->big > p->file.pages * p->file.page_size)
        return MDB_INVALID;
    rc = cs_lmdb_file_read(&p->file, &head, sizeof head, offset);
    if (rc != 0)
        return rc;
    if (head.number != number || head.flags != CS_LMDB_OVERFLOW)
        return MDB_INVALID;
    if (size > p->value_room) {
        cs_free(p->value);
        p->value_room = 0;
        p->value = cs_alloc(1, size);
        if (p->value == NULL)
            return ENOMEM;
        p->value_room = size;
    }
    *out = cs_bytes(p->value, size);
    return cs_lmdb_file_read(&p->file, p->value, size, offset + sizeof head);
}

static bool ascends(pages *p, credstore_bytes key)
{
    if (key.len == 0 || key.len > sizeof p->last_key ||
        cs_bytes_compare(cs_bytes(p->last_key, p->last_key_len), key) >= 0)
        return false;
    memcpy(p->last_key, key.ptr, key.len);
    p->last_key_len = key.len;
    return true;
}

static int visit_pair(pages *p, const uint8_t *raw, size_t at)
{
    const size_t end = p->file.page_size;
    cs_lmdb_node node;
    credstore_bytes key, value;
    size_t start;
    int rc = 0;

    memcpy(&node, raw + at, sizeof node);
    start = at + sizeof node + node.key_size;
    if (start > end || (node.flags & ~(unsigned)CS_LMDB_BIG_DATA) != 0)
        return MDB_INVALID;
    key = cs_bytes(raw + at + sizeof node, node.key_size);
    value = cs_bytes(raw + start, node.size);
    if (!ascends(p, key))
        return MDB_INVALID;
    if ((node.flags & CS_LMDB_BIG_DATA) != 0) {
        size_t number;

        if (end - start < sizeof number)
            return MDB_INVALID;
        memcpy(&number, raw + start, sizeof number);
        rc = read_big(p, number, node.size, &value);
    } else if (node.size > end - start) {
        rc = MDB_INVALID;
    }
    p->entries++;
    return rc != 0 ? rc : p->reader->visit(p->reader->arg, key, value);
}

static int walk(pages *p, size_t number, unsigned level);

static int visit_nodes(pages *p, const uint8_t *raw, const cs_lmdb_page_head *head, unsigned level)
{
    int rc = 0;

    for (size_t i = sizeof *head; rc == 0 && i + sizeof(uint16_t) <= head->lower;
         i += sizeof(uint16_t)) {
        cs_lmdb_node node;
        uint16_t at;

        memcpy(&at, raw + i, sizeof at);
        if (at < head->lower || at > p->file.page_size - sizeof node)
            return MDB_INVALID;
        memcpy(&node, raw + at, sizeof node);
        rc = head->flags == CS_LMDB_LEAF ? visit_pair(p, raw, at)
                                         : walk(p, cs_lmdb_child_of(&node), level + 1);
    }
    return rc;
}

/* Leaves lie at the tree's own depth, and there are no more pages than the file has: so the walk
   ends, whatever the pages point to. */
static int walk(pages *p, size_t number, unsigned level)
{
    const unsigned depth = p->file.meta.trees[CS_LMDB_MAIN_TREE].depth;
    const size_t size = p->file.page_size;
    cs_lmdb_page_head head;
    uint8_t *raw;
    int rc;

    if (number < 2 || number >= p->file.pages || level > depth || ++p->seen > p->file.pages)
        return MDB_INVALID;
    raw = cs_alloc(1, size);
    if (raw == NULL)
        return ENOMEM;
    rc = cs_lmdb_file_read(&p->file, raw, size, number * size);
    memcpy(&head, raw, sizeof head);
    if (rc == 0 && (head.number != number || head.lower < sizeof head || head.lower > size ||
                    head.flags != (level == depth ? CS_LMDB_LEAF : CS_LMDB_BRANCH)))
        rc = MDB_INVALID;
    if (rc == 0)
        rc = visit_nodes(p, raw, &head, level);
    cs_free(raw);
    return rc;
}

int cs_lmdb_read_pairs(int fd, const cs_lmdb_reader *reader)
{
    pages p = {.reader = reader};
    int rc = cs_lmdb_file_look(fd, &p.file);
    const cs_lmdb_tree *tree = &p.file.meta.trees[CS_LMDB_MAIN_TREE];

    if (rc != 0)
        return rc;
    if (tree->depth > CS_LMDB_DEPTH_MAX || tree->flags != 0)
        return MDB_INVALID;
    if (tree->root != SIZE_MAX)
        rc = walk(&p, tree->root, 1);
    if (rc == 0 && p.entries != tree->entries)
        rc = MDB_INVALID;
    cs_free(p.value);
    return rc;
}
