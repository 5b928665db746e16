/* SPDX-License-Identifier: MIT
 *
 * The audit read, proved and pruned.
 */
#include "ledger.h"

#include <string.h>
#include <time.h>

#include "block.h"
#include "checkpoint.h"
#include "commit.h"
#include "error.h"
#include "op.h"
#include "policy.h"
#include "sealed.h"

enum { LIMIT_MAX = 1000, TLV_HEAD = 2 + 4 };
static const int64_t poll_ms = 20;

/* ---- one entry ---- */

static credstore_status damaged(credstore_error *err)
{
    return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "An audit entry is missing or damaged");
}

static uint64_t number(credstore_bytes in)
{
    const uint8_t *p = in.ptr;
    uint64_t v = 0;

    for (size_t i = 0; i < in.len && i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static void take_changed(credstore_bytes in, cs_ledger_entry *out)
{
    const uint8_t *p = in.ptr;

    out->entry.changed = out->changed;
    for (size_t i = 0; i + 1 < in.len && out->entry.changed_count < CS_FIELDS_MAX; i += 2)
        out->changed[out->entry.changed_count++] = cs_get_u16(p + i);
}

/* Members that a newer library added are passed over, but for the critical ones. */
static credstore_status take_member(uint16_t id, credstore_bytes in, cs_ledger_entry *out,
                                    credstore_error *err)
{
    cs_audit_entry *entry = &out->entry;
    credstore_bytes *const texts[] = {
        [CS_AUDIT_ACTOR] = &entry->actor,        [CS_AUDIT_TENANT] = &entry->tenant,
        [CS_AUDIT_PARENT] = &entry->parent,      [CS_AUDIT_ID] = &entry->id,
        [CS_AUDIT_REQUEST] = &entry->request_id,
    };

    if (id < sizeof texts / sizeof *texts && texts[id] != NULL)
        *texts[id] = in;
    else if (id == CS_AUDIT_TIME)
        out->time = (int64_t)number(in);
    else if (id == CS_AUDIT_ACTOR_TYPE)
        entry->actor_type = (uint32_t)number(in);
    else if (id == CS_AUDIT_ACTION)
        entry->action = (uint8_t)number(in);
    else if (id == CS_AUDIT_KIND)
        entry->kind = (uint8_t)number(in);
    else if (id == CS_AUDIT_REVISION)
        entry->revision = number(in);
    else if (id == CS_AUDIT_CHANGED)
        take_changed(in, out);
    else if (id >= CS_TLV_CRITICAL)
        return cs_fail(err, CREDSTORE_E_FORMAT, NULL,
                       "An audit entry holds what only a newer library understands");
    return CREDSTORE_OK;
}

credstore_status cs_ledger_entry_read(cs_txn *txn, uint64_t seq, cs_buf *plain,
                                      cs_ledger_entry *out, credstore_error *err)
{
    const uint8_t *p;
    size_t left;
    credstore_status status = cs_audit_open(txn, seq, plain, err);

    memset(out, 0, sizeof *out);
    out->seq = seq;
    if (status != CREDSTORE_OK)
        return status;
    memcpy(out->previous, plain->ptr, CS_CHAIN_LEN);
    p = plain->ptr + CS_CHAIN_LEN;
    for (left = plain->len - CS_CHAIN_LEN; left > 0;) {
        size_t len;

        if (left < TLV_HEAD || cs_get_u32(p + 2) > left - TLV_HEAD)
            return damaged(err);
        len = cs_get_u32(p + 2);
        status = take_member(cs_get_u16(p), cs_bytes(p + TLV_HEAD, len), out, err);
        if (status != CREDSTORE_OK)
            return status;
        p += TLV_HEAD + len;
        left -= TLV_HEAD + len;
    }
    return status;
}

credstore_status cs_ledger_first_time(cs_txn *txn, int64_t *out, credstore_error *err)
{
    cs_buf plain = {0};
    cs_ledger_entry entry = {0};
    cs_anchor gone;
    credstore_status status = cs_anchor_read(txn, &gone, err);

    if (status == CREDSTORE_OK)
        status = cs_ledger_entry_read(txn, gone.seq + 1, &plain, &entry, err);
    *out = entry.time;
    cs_buf_free(&plain);
    return status;
}

/* ---- a page ---- */

typedef struct reading {
    cs_op op;
    bool all; /* or those of the tenant */
    credstore_audit_page *page;
    const credstore_audit_entry **items;
} reading;

static const char *field_name(const cs_kind *kind, uint16_t id)
{
    const size_t i = kind == NULL ? 0 : cs_field_index(kind, id);

    return kind == NULL || i == kind->field_count ? "" : kind->fields[i].name;
}

/* The entry as the caller sees it: struct, names, texts, in one block. */
static credstore_audit_entry *show(const cs_ledger_entry *from)
{
    const cs_audit_entry *e = &from->entry;
    const cs_kind *kind = cs_kind_find(e->kind);
    const size_t names = e->changed_count * sizeof(char *);
    credstore_audit_entry *out = cs_block_new(sizeof *out + names + e->actor.len + e->tenant.len +
                                              e->parent.len + e->id.len + e->request_id.len + 5);
    const char **changed;
    char *at;

    if (out == NULL)
        return NULL;
    changed = (const char **)(void *)(out + 1);
    at = (char *)(out + 1) + names;
    out->struct_size = sizeof *out;
    out->action = e->action;
    out->kind = e->kind;
    out->actor_type = e->actor_type;
    out->seq = from->seq;
    out->revision = e->revision;
    out->time = from->time;
    out->actor = cs_block_text(&at, e->actor);
    out->tenant = cs_block_text(&at, e->tenant);
    out->parent = cs_block_text(&at, e->parent);
    out->id = cs_block_text(&at, e->id);
    out->request_id = cs_block_text(&at, e->request_id);
    for (size_t i = 0; i < e->changed_count; i++)
        changed[i] = field_name(kind, e->changed[i]);
    out->changed = e->changed_count == 0 ? NULL : changed;
    out->changed_count = e->changed_count;
    return out;
}

static credstore_status add_entry(reading *r, cs_txn *txn, uint64_t seq, credstore_error *err)
{
    cs_buf plain = {0};
    cs_ledger_entry entry;
    credstore_audit_entry *shown;
    credstore_status status = cs_ledger_entry_read(txn, seq, &plain, &entry, err);

    r->page->last_seq = seq;
    if (status == CREDSTORE_OK &&
        (r->all || cs_bytes_equal(entry.entry.tenant, cs_bytes_of(r->op.tenant)))) {
        shown = show(&entry);
        if (shown == NULL) {
            status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
        } else {
            cs_block_adopt(r->page, shown);
            r->items[r->page->count++] = shown;
        }
    }
    cs_buf_free(&plain);
    return status;
}

/* One look at a snapshot. */
static credstore_status look(reading *r, uint64_t after_seq, uint32_t limit, bool *any,
                             credstore_error *err)
{
    bool found = false;
    cs_head head;
    cs_anchor gone = {0};
    cs_txn txn;
    uint64_t seq;
    credstore_status status = cs_txn_read(r->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_head_read(&txn, &head, &found, err);
    if (status == CREDSTORE_OK)
        status = cs_anchor_read(&txn, &gone, err);
    seq = after_seq < gone.seq ? gone.seq : after_seq;
    *any = status == CREDSTORE_OK && found && head.last_seq > seq;
    for (uint32_t n = 0; status == CREDSTORE_OK && *any && seq < head.last_seq && n < limit; n++)
        status = add_entry(r, &txn, ++seq, err);
    cs_txn_end(&txn);
    return status;
}

static void nap(void)
{
    const struct timespec pause = {0, (long)poll_ms * 1000000L};

    nanosleep(&pause, NULL);
}

static credstore_status read_page(reading *r, uint64_t after_seq, uint32_t limit, uint32_t wait_ms,
                                  credstore_error *err)
{
    const uint64_t wakes = atomic_load(&r->op.store->wakes);
    bool any = false;
    int64_t left = wait_ms;
    credstore_status status;

    r->page = cs_block_new(sizeof *r->page);
    r->items = cs_block_new(limit * sizeof *r->items);
    if (r->page == NULL || r->items == NULL) {
        credstore_free(r->items);
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    cs_block_adopt(r->page, r->items);
    r->page->struct_size = sizeof *r->page;
    r->page->items = r->items;
    r->page->last_seq = after_seq;
    for (;;) {
        status = look(r, after_seq, limit, &any, err);
        if (status != CREDSTORE_OK || any || left <= 0 || atomic_load(&r->op.store->wakes) != wakes)
            return status;
        nap();
        left -= poll_ms;
    }
}

credstore_status credstore_audit_read(credstore *store, const credstore_call *call,
                                      uint64_t after_seq, uint32_t limit, uint32_t wait_ms,
                                      const credstore_audit_page **out, credstore_error *err)
{
    reading r = {0};
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    *out = NULL;
    status = cs_op_begin_audit(&r.op, store, call, &r.all, err);
    if (status == CREDSTORE_OK && (limit < 1 || limit > LIMIT_MAX))
        status = cs_fail(err, CREDSTORE_E_INVALID, "limit", "A page has 1..1000 entries");
    if (status == CREDSTORE_OK)
        status = read_page(&r, after_seq, limit, wait_ms, err);
    if (status == CREDSTORE_OK)
        *out = r.page;
    else
        credstore_free(r.page);
    return status;
}

void credstore_wake(credstore *store)
{
    if (cs_store_usable(store, NULL) == CREDSTORE_OK)
        atomic_fetch_add(&store->wakes, 1);
}

/* ---- the chain ---- */

/* Walks back from the head to the anchor: each entry is held against the chain value that its
 * successor carries. */
static credstore_status walk(cs_txn *txn, const cs_head *head, const credstore_checkpoint *known,
                             credstore_error *err)
{
    uint8_t chain[CS_CHAIN_LEN], previous[CS_CHAIN_LEN];
    cs_anchor gone;
    uint64_t seq = head->last_seq;
    credstore_status status = cs_anchor_read(txn, &gone, err);

    if (status == CREDSTORE_OK && (known->seq > seq || known->generation > head->generation))
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL, "The store is behind the checkpoint");
    if (status == CREDSTORE_OK && known->seq != 0 && known->seq < gone.seq)
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, "known",
                       "The checkpoint is older than what pruning has left");
    memcpy(chain, head->chain, sizeof chain);
    for (; status == CREDSTORE_OK && seq > gone.seq; seq--) {
        if (seq == known->seq && memcmp(chain, known->chain, sizeof chain) != 0)
            return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL,
                           "The store has another history than the checkpoint");
        status = cs_audit_check(txn, seq, chain, previous, err);
        memcpy(chain, previous, sizeof chain);
    }
    if (status == CREDSTORE_OK && known->seq == gone.seq && gone.seq != 0 &&
        memcmp(chain, known->chain, sizeof chain) != 0)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL,
                       "The store has another history than the checkpoint");
    if (status == CREDSTORE_OK && gone.seq != 0 && memcmp(chain, gone.chain, sizeof chain) != 0)
        return damaged(err);
    return status;
}

credstore_status credstore_audit_verify(credstore *store, const credstore_call *call,
                                        const credstore_checkpoint *known,
                                        credstore_checkpoint *now, credstore_error *err)
{
    credstore_checkpoint taken = {0};
    cs_op op;
    cs_head head = {0};
    cs_txn txn;
    credstore_status status;

    cs_error_clear(err);
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK && known != NULL)
        status = cs_checkpoint_take(&taken, known, "known", err);
    if (status == CREDSTORE_OK)
        status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_head_load(&txn, &head, err);
    if (status == CREDSTORE_OK)
        status = walk(&txn, &head, &taken, err);
    cs_txn_end(&txn);
    if (status != CREDSTORE_OK || now == NULL)
        return status;
    cs_checkpoint_fill(store, &head, now);
    return status;
}

/* ---- pruning ---- */

enum { PRUNE_BATCH = 256 };

typedef struct pruning {
    const cs_op *op;
    credstore_checkpoint up_to;
    bool more;
} pruning;

/* Entry seq + 1 carries the chain value after entry seq; the head carries the last one's. */
static credstore_status chain_at(cs_txn *txn, uint64_t seq, uint8_t out[CS_CHAIN_LEN],
                                 credstore_error *err)
{
    cs_buf plain = {0};
    credstore_status status;

    if (seq == txn->head.last_seq) {
        memcpy(out, txn->head.chain, CS_CHAIN_LEN);
        return CREDSTORE_OK;
    }
    status = cs_audit_open(txn, seq + 1, &plain, err);
    if (status == CREDSTORE_OK)
        memcpy(out, plain.ptr, CS_CHAIN_LEN);
    cs_buf_free(&plain);
    return status;
}

static credstore_status prune_batch(cs_txn *txn, void *arg, credstore_error *err)
{
    pruning *p = arg;
    const cs_audit_entry entry = cs_op_entry(p->op, CS_ACTION_PRUNE);
    uint8_t chain[CS_CHAIN_LEN];
    cs_anchor gone, next;
    credstore_status status = cs_anchor_read(txn, &gone, err);

    p->more = false;
    if (status == CREDSTORE_OK && p->up_to.seq == gone.seq && gone.seq != 0 &&
        memcmp(p->up_to.chain, gone.chain, sizeof gone.chain) != 0)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL,
                       "The store has another history than the checkpoint");
    if (status != CREDSTORE_OK || p->up_to.seq <= gone.seq)
        return status;
    if (p->up_to.seq > txn->head.last_seq)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL, "The store is behind the checkpoint");
    status = chain_at(txn, p->up_to.seq, chain, err);
    if (status == CREDSTORE_OK && memcmp(chain, p->up_to.chain, sizeof chain) != 0)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL,
                       "The store has another history than the checkpoint");
    next.seq = p->up_to.seq - gone.seq > PRUNE_BATCH ? gone.seq + PRUNE_BATCH : p->up_to.seq;
    p->more = next.seq < p->up_to.seq;
    if (status == CREDSTORE_OK)
        status = chain_at(txn, next.seq, next.chain, err);
    for (uint64_t seq = gone.seq + 1; status == CREDSTORE_OK && seq <= next.seq; seq++) {
        cs_key key;

        cs_key_audit(&key, 0, seq);
        status = cs_txn_del(txn, &key, err);
    }
    if (status == CREDSTORE_OK)
        status = cs_anchor_put(txn, &next, err);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

credstore_status credstore_audit_prune(credstore *store, const credstore_call *call,
                                       const credstore_checkpoint *up_to, uint32_t *more,
                                       credstore_error *err)
{
    cs_op op;
    pruning p = {.op = &op};
    cs_work work = {prune_batch, &p, 0};
    credstore_status status;

    cs_error_clear(err);
    if (more != NULL)
        *more = 0;
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK)
        status = cs_checkpoint_take(&p.up_to, up_to, "up_to", err);
    work.wait_ms = op.call.wait_ms;
    if (status == CREDSTORE_OK)
        status = cs_txn_write(store, &work, err);
    if (more != NULL)
        *more = status == CREDSTORE_OK && p.more;
    return status;
}
