/* SPDX-License-Identifier: MIT
 *
 * Statistics: what the engine tells, what the head tells, what this process has counted, and, if
 * asked for, what lies there of each kind.
 */
#include <string.h>

#include "block.h"
#include "error.h"
#include "group.h"
#include "op.h"
#include "place.h"
#include "ring.h"
#include "sealed.h"

enum { KINDS_MAX = 255 };

/* Counts by the number of the kind, which is a byte of the key. */
typedef struct counting {
    credstore_kind_count kinds[KINDS_MAX + 1];
} counting;

static bool count_value(void *arg, credstore_bytes key, credstore_bytes value)
{
    counting *c = arg;
    cs_place place;
    credstore_kind_count *count;

    if (!cs_place_of(key, value, &place)) /* damage is credstore_check()'s business */
        return true;
    count = &c->kinds[place.at.kind];
    count->kind = place.at.kind;
    count->records += place.role == CS_ROLE_CURRENT;
    count->removed += place.role == CS_ROLE_TOMBSTONE;
    count->history += place.role == CS_ROLE_HISTORY;
    return true;
}

static credstore_status hand_over_kinds(const counting *c, credstore_stats *out,
                                        credstore_error *err)
{
    const credstore_kind_count **items = cs_block_new((KINDS_MAX + 1) * sizeof *items);

    if (items == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_block_adopt(out, items);
    out->kinds = items;
    for (size_t i = 0; i <= KINDS_MAX; i++) {
        credstore_kind_count *item;

        if (cs_kind_find((uint32_t)i) == NULL && c->kinds[i].kind == 0)
            continue;
        item = cs_block_new(sizeof *item);
        if (item == NULL)
            return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
        cs_block_adopt(out, item);
        *item = c->kinds[i];
        item->struct_size = sizeof *item;
        item->kind = (uint32_t)i;
        items[out->kind_count++] = item;
    }
    return CREDSTORE_OK;
}

static credstore_status count_kinds(cs_txn *txn, credstore_stats *out, credstore_error *err)
{
    const cs_key from = {1, {CS_TABLE_RECORD}}, to = {1, {CS_TABLE_RECORD + 1}};
    counting *c = cs_alloc(1, sizeof *c);
    const cs_scan scan = {.visit = count_value, .arg = c, .passing = true};
    credstore_status status;

    if (c == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_txn_scan(txn, &from, &to, &scan, err);
    if (status == CREDSTORE_OK)
        status = hand_over_kinds(c, out, err);
    cs_free(c);
    return status;
}

static credstore_status ask_engine(const credstore *store, credstore_stats *out,
                                   credstore_error *err)
{
    const credstore_storage *storage = store->storage;
    credstore_storage_stat stat = {.struct_size = sizeof stat};
    int32_t result;

    if (storage->struct_size < offsetof(credstore_storage, stat) + sizeof storage->stat ||
        storage->stat == NULL)
        return CREDSTORE_OK;
    result = storage->stat(store->storage_ctx, &stat);
    if (result != CREDSTORE_STORAGE_OK)
        return cs_engine_failed(store, result, "The engine could not tell of itself", err);
    out->entries = stat.entries;
    out->file_bytes = stat.file_bytes;
    out->map_bytes = stat.map_bytes;
    out->pages = stat.pages;
    out->free_pages = stat.free_pages;
    out->page_bytes = stat.page_bytes;
    out->readers = stat.readers;
    out->readers_max = stat.readers_max;
    return CREDSTORE_OK;
}

static void ask_group(const credstore *store, credstore_stats *out)
{
    cs_group_counts counts = {0};

    _Static_assert(sizeof counts.sizes == sizeof out->groups, "one class each");
    cs_group_read(store->group, &counts);
    out->commits = counts.commits;
    out->changes = counts.changes;
    out->largest = counts.largest;
    memcpy(out->groups, counts.sizes, sizeof out->groups);
}

static credstore_status ask_snapshot(credstore *store, uint32_t flags, credstore_stats *out,
                                     credstore_error *err)
{
    cs_head head;
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_head_load(&txn, &head, err);
    if (status == CREDSTORE_OK)
        status = cs_ring_match(&txn, head.ring, err);
    if (status == CREDSTORE_OK) {
        out->keys = (uint32_t)txn.ring->count;
        out->epoch = store->epoch;
        out->generation = head.generation;
        out->audit_seq = head.last_seq;
    }
    if (status == CREDSTORE_OK && (flags & CREDSTORE_STATISTICS_KINDS) != 0)
        status = count_kinds(&txn, out, err);
    cs_txn_end(&txn);
    return status;
}

credstore_status credstore_statistics(credstore *store, const credstore_call *call, uint32_t flags,
                                      const credstore_stats **out, credstore_error *err)
{
    credstore_stats *stats;
    cs_op op;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    *out = NULL;
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK && (flags & ~(uint32_t)CREDSTORE_STATISTICS_KINDS) != 0)
        status = cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "An unknown flag is set");
    if (status != CREDSTORE_OK)
        return status;
    stats = cs_block_new(sizeof *stats);
    if (stats == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    stats->struct_size = sizeof *stats;
    ask_group(store, stats);
    status = ask_engine(store, stats, err);
    if (status == CREDSTORE_OK)
        status = ask_snapshot(store, flags, stats, err);
    if (status == CREDSTORE_OK)
        *out = stats;
    else
        credstore_free(stats);
    return status;
}
