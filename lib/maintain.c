/* SPDX-License-Identifier: MIT
 *
 * All work that time drives. Each task does a bounded batch in a transaction of its own, until
 * nothing is left or the budget is spent.
 */
#include <string.h>

#include "error.h"
#include "load.h"
#include "marks.h"
#include "receipt.h"
#include "time.h"

enum { MINUTE_MS = 60000, BATCH = 64, MARKS_BATCH = 32 /* a nonce each, of what a change draws */ };

/* ---- last used ---- */

typedef struct marking {
    cs_mark marks[MARKS_BATCH];
    size_t count;
} marking;

static cs_locator locator_of(const cs_mark *mark)
{
    cs_locator at = {.kind = mark->kind, .id = cs_bytes_of(mark->id)};

    memcpy(at.scope, mark->scope, CS_SCOPE_LEN);
    return at;
}

/* Is the record still there, and the mark newer than what it has? */
static credstore_status is_due(cs_txn *txn, const cs_mark *mark, bool *due, credstore_error *err)
{
    const cs_locator at = locator_of(mark);
    credstore_bytes record;
    bool found = false;
    int64_t used = 0;
    cs_key key;
    credstore_status status;

    *due = false;
    cs_key_record(&key, &at);
    status = cs_txn_get(txn, &key, &record, &found, err);
    if (status != CREDSTORE_OK || !found || cs_frame_role(record) != CS_ROLE_CURRENT)
        return status;
    status = cs_load_usage(txn, cs_kind_find(mark->kind), &at, &used, err);
    *due = used < mark->used;
    return status;
}

/* A record may have two marks, when its place in the table was another's for a while. */
static bool is_outdone(const marking *m, size_t i)
{
    for (size_t j = 0; j < m->count; j++)
        if (m->marks[j].used > m->marks[i].used && m->marks[j].kind == m->marks[i].kind &&
            memcmp(m->marks[j].scope, m->marks[i].scope, CS_SCOPE_LEN) == 0 &&
            strcmp(m->marks[j].id, m->marks[i].id) == 0)
            return true;
    return false;
}

static credstore_status put_marks(cs_txn *txn, void *arg, credstore_error *err)
{
    const marking *m = arg;
    bool due[MARKS_BATCH];
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < m->count && status == CREDSTORE_OK; i++)
        status = is_due(txn, &m->marks[i], &due[i], err);
    for (size_t i = 0; i < m->count && status == CREDSTORE_OK; i++) {
        const cs_locator at = locator_of(&m->marks[i]);

        if (due[i] && !is_outdone(m, i))
            status = cs_put_usage(txn, &at, m->marks[i].used, err);
    }
    return status;
}

static credstore_status write_marks(credstore *store, size_t *next, bool *more,
                                    credstore_error *err)
{
    marking *m = cs_alloc(1, sizeof *m);
    const cs_work work = {put_marks, m, 0};
    credstore_status status = CREDSTORE_OK;

    *more = false;
    if (m == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    while (m->count < MARKS_BATCH && cs_mark_take(store, next, &m->marks[m->count]))
        m->count++;
    *more = m->count == MARKS_BATCH;
    if (m->count > 0)
        status = cs_txn_write(store, &work, err);
    for (size_t i = 0; i < m->count && status != CREDSTORE_OK; i++)
        cs_mark_return(store, &m->marks[i]);
    cs_free(m);
    return status;
}

/* ---- receipts ---- */

static credstore_status expire_receipts(cs_txn *txn, void *arg, credstore_error *err)
{
    cs_expired *expired = arg;
    const credstore_status status = cs_receipts_find_expired(txn, expired, err);

    return status == CREDSTORE_OK ? cs_receipts_drop(txn, expired, err) : status;
}

static credstore_status drop_receipts(credstore *store, bool *more, credstore_error *err)
{
    cs_expired expired = {.limit = CS_EXPIRED_MAX};
    const cs_work work = {expire_receipts, &expired, 0};
    credstore_status status;

    *more = false;
    expired.keys = cs_alloc(expired.limit, sizeof *expired.keys);
    if (expired.keys == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_txn_write(store, &work, err);
    *more = status == CREDSTORE_OK && expired.count == expired.limit;
    cs_free(expired.keys);
    return status;
}

/* ---- removed records whose retention is over ---- */

/* One entry of the purge queue, and what of its history goes in this batch. */
typedef struct purge {
    cs_key entry;
    cs_key dead[BATCH];
    size_t count;
    bool found, more;
} purge;

static bool note_entry(void *arg, credstore_bytes key, credstore_bytes value)
{
    purge *p = arg;

    (void)value;
    p->found = key.len <= CS_KEY_MAX;
    if (p->found)
        memcpy(p->entry.ptr, key.ptr, key.len);
    p->entry.len = p->found ? key.len : 0;
    return false;
}

static bool note_dead(void *arg, credstore_bytes key, credstore_bytes value)
{
    purge *p = arg;

    (void)value;
    if (key.len <= CS_KEY_MAX) {
        memcpy(p->dead[p->count].ptr, key.ptr, key.len);
        p->dead[p->count++].len = key.len;
    }
    return p->count < BATCH;
}

/* The record that an entry is about; false for a key that is not one. */
static bool take_locator(const cs_key *entry, cs_locator *at)
{
    const size_t head = 1 + 4 + 1 + CS_SCOPE_LEN;

    if (entry->len < head + 2)
        return false;
    at->kind = entry->ptr[5];
    memcpy(at->scope, entry->ptr + 6, CS_SCOPE_LEN);
    at->id = cs_bytes(entry->ptr + head, entry->len - head - 1);
    return true;
}

/* The entry itself is sealed, so that nobody without the keys can have history thrown away. */
static credstore_status check_entry(cs_txn *txn, const purge *p, const cs_locator *at,
                                    credstore_error *err)
{
    const cs_label label = cs_record_label(CS_ROLE_PURGE, at, 0, cs_get_u32(p->entry.ptr + 1));
    cs_buf plain = {0};
    bool found = false;
    const credstore_status status = cs_txn_get_sealed(txn, &p->entry, &label, &plain, &found, err);

    cs_buf_free(&plain);
    return status;
}

static credstore_status purge_one(cs_txn *txn, void *arg, credstore_error *err)
{
    purge *p = arg;
    const cs_scan entries = {false, 1, note_entry, p}, dead = {false, BATCH, note_dead, p};
    cs_locator at = {0};
    cs_key from, to;
    credstore_status status;

    memset(p, 0, sizeof *p);
    cs_key_purge(&from, 0, NULL);
    cs_key_purge(&to, cs_purge_day(txn->now), NULL);
    status = cs_txn_scan(txn, &from, &to, &entries, err);
    if (status != CREDSTORE_OK || !p->found)
        return status;
    if (!take_locator(&p->entry, &at))
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The purge queue is damaged");
    status = check_entry(txn, p, &at, err);
    cs_key_history(&from, &at, 0);
    cs_key_history(&to, &at, UINT64_MAX);
    if (status == CREDSTORE_OK)
        status = cs_txn_scan(txn, &from, &to, &dead, err);
    for (size_t i = 0; i < p->count && status == CREDSTORE_OK; i++)
        status = cs_txn_del(txn, &p->dead[i], err);
    if (status == CREDSTORE_OK && p->count < BATCH)
        status = cs_txn_del(txn, &p->entry, err);
    p->more = status == CREDSTORE_OK;
    return status;
}

static credstore_status purge_removed(credstore *store, bool *more, credstore_error *err)
{
    purge *p = cs_alloc(1, sizeof *p);
    const cs_work work = {purge_one, p, 0};
    credstore_status status;

    if (p == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_txn_write(store, &work, err);
    *more = p->more;
    cs_free(p);
    return status;
}

/* ---- the store's time ---- */

/* Writes the head alone, so that what was over by now stays so when the clock goes back. */
static credstore_status note_time(cs_txn *txn, void *arg, credstore_error *err)
{
    (void)arg;
    (void)err;
    txn->changed = txn->now - txn->head.time >= MINUTE_MS;
    return CREDSTORE_OK;
}

/* ---- all of it ---- */

typedef struct round {
    credstore *store;
    size_t next_mark;
} round;

static credstore_status marks_task(round *r, bool *more, credstore_error *err)
{
    return write_marks(r->store, &r->next_mark, more, err);
}

static credstore_status receipts_task(round *r, bool *more, credstore_error *err)
{
    return drop_receipts(r->store, more, err);
}

static credstore_status purge_task(round *r, bool *more, credstore_error *err)
{
    return purge_removed(r->store, more, err);
}

static credstore_status time_task(round *r, bool *more, credstore_error *err)
{
    const cs_work work = {note_time, NULL, 0};

    *more = false;
    return cs_txn_write(r->store, &work, err);
}

typedef credstore_status task(round *r, bool *more, credstore_error *err);
static task *const tasks[] = {marks_task, receipts_task, purge_task, time_task};

credstore_status credstore_maintain(credstore *store, uint32_t budget_ms, uint32_t *more,
                                    credstore_error *err)
{
    const int64_t end = budget_ms == 0 ? INT64_MAX : cs_time_monotonic() + budget_ms;
    round r = {store, 0};
    bool left = false;
    credstore_status status;

    cs_error_clear(err);
    if (more != NULL)
        *more = 0;
    status = cs_store_usable(store, err);
    if (status == CREDSTORE_OK && store->storage->tidy != NULL)
        (void)store->storage->tidy(store->storage_ctx); /* a reader's place more or less */
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks && status == CREDSTORE_OK; i++) {
        do
            status = tasks[i](&r, &left, err);
        while (status == CREDSTORE_OK && left && cs_time_monotonic() < end);
        if (left && more != NULL)
            *more = 1;
    }
    return status;
}
