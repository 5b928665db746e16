/* SPDX-License-Identifier: MIT
 *
 * All work that time drives. Each task does a bounded batch in a transaction of its own, until
 * nothing is left or the budget is spent. What is damaged stays where it is, holds up nothing else,
 * and is told at the end, each time.
 */
#include <string.h>

#include "clock.h"
#include "commit.h"
#include "drop.h"
#include "error.h"
#include "expire.h"
#include "load.h"
#include "marks.h"
#include "place.h"
#include "receipt.h"
#include "sealed.h"
#include "time.h"

enum {
    MINUTE_MS = 60000,
    HOUR_MS = 3600000,
    BATCH = 64,
    MARKS_BATCH = 32 /* a nonce each, of what a change draws */
};

/* One call of maintenance: where its tasks stand. */
typedef struct round {
    credstore *store;
    size_t next_mark;
    cs_key next_purge, next_end;
    int64_t believed;        /* what ended by then is over for good */
    credstore_status damage; /* the first that was passed over */
    credstore_error why;
} round;

/* OK in place of a damage, which is kept for the end; any other error stays one. */
static credstore_status pass_over(round *r, credstore_status status, const credstore_error *why,
                                  credstore_error *err)
{
    if (status == CREDSTORE_OK)
        return status;
    if (status != CREDSTORE_E_INTEGRITY && status != CREDSTORE_E_FORMAT) {
        if (err != NULL)
            *err = *why;
        return status;
    }
    if (r->damage == CREDSTORE_OK) {
        r->damage = status;
        r->why = *why;
    }
    return CREDSTORE_OK;
}

/* ---- last used ---- */

typedef struct marking {
    cs_mark marks[MARKS_BATCH];
    bool due[MARKS_BATCH], damaged[MARKS_BATCH];
    credstore_error why; /* of the first that is damaged */
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
    *due = status == CREDSTORE_OK && used < mark->used;
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

/* A time of last use that cannot be read is not written over: it has to be seen. */
static credstore_status look_at(cs_txn *txn, marking *m, size_t i, credstore_error *err)
{
    credstore_error why = {0};
    const credstore_status status = is_due(txn, &m->marks[i], &m->due[i], &why);

    m->damaged[i] = status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT;
    if (m->damaged[i] && m->why.status == CREDSTORE_OK)
        m->why = why;
    if (status == CREDSTORE_OK || m->damaged[i])
        return CREDSTORE_OK;
    if (err != NULL)
        *err = why;
    return status;
}

static credstore_status put_marks(cs_txn *txn, void *arg, credstore_error *err)
{
    marking *m = arg;
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < m->count && status == CREDSTORE_OK; i++)
        status = look_at(txn, m, i, err);
    for (size_t i = 0; i < m->count && status == CREDSTORE_OK; i++) {
        const cs_locator at = locator_of(&m->marks[i]);

        if (m->due[i] && !is_outdone(m, i))
            status = cs_put_usage(txn, &at, m->marks[i].used, err);
    }
    return status;
}

static credstore_status marks_task(round *r, bool *more, credstore_error *err)
{
    marking *m = cs_alloc(1, sizeof *m);
    const cs_work work = {put_marks, m, 0};
    credstore_status status = CREDSTORE_OK;

    *more = false;
    if (m == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    while (m->count < MARKS_BATCH && cs_mark_take(r->store, &r->next_mark, &m->marks[m->count]))
        m->count++;
    *more = m->count == MARKS_BATCH;
    if (m->count > 0)
        status = cs_txn_write(r->store, &work, err);
    for (size_t i = 0; i < m->count; i++)
        if (status != CREDSTORE_OK || m->damaged[i])
            cs_mark_return(r->store, &m->marks[i]);
    if (status == CREDSTORE_OK)
        status = pass_over(r, (credstore_status)m->why.status, &m->why, err);
    cs_free(m);
    return status;
}

/* ---- receipts ---- */

typedef struct dropping {
    cs_expired *expired;
    int64_t until; /* a clock that runs ahead for a while drops none */
} dropping;

static credstore_status expire_receipts(cs_txn *txn, void *arg, credstore_error *err)
{
    const dropping *d = arg;
    const credstore_status status = cs_receipts_find_expired(txn, d->until, d->expired, err);

    return status == CREDSTORE_OK ? cs_receipts_drop(txn, d->expired, err) : status;
}

static credstore_status receipts_task(round *r, bool *more, credstore_error *err)
{
    cs_expired expired = {.limit = CS_EXPIRED_MAX};
    dropping d = {&expired, r->believed};
    const cs_work work = {expire_receipts, &d, 0};
    credstore_status status;

    *more = false;
    expired.keys = cs_alloc(expired.limit, sizeof *expired.keys);
    if (expired.keys == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_txn_write(r->store, &work, err);
    *more = status == CREDSTORE_OK && expired.count == expired.limit;
    cs_free(expired.keys);
    return status;
}

/* ---- removed records whose retention is over ---- */

/* One entry of the purge queue, and what of its history goes in this batch. */
typedef struct purge {
    int64_t until; /* what was removed 30 days before goes */
    cs_key next;   /* where to look */
    cs_key entry;
    cs_drop dead[BATCH];
    size_t count, key_len; /* key_len: of a revision's key */
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
    if (key.len == p->key_len)
        p->dead[p->count++].revision = cs_get_u64((const uint8_t *)key.ptr + key.len - 8);
    return p->count < BATCH;
}

/* The entry itself is sealed, so that nobody without the keys can have history thrown away. */
static credstore_status check_entry(cs_txn *txn, const purge *p, const cs_label *label,
                                    credstore_error *err)
{
    cs_buf plain = {0};
    bool found = false;
    const credstore_status status = cs_txn_get_sealed(txn, &p->entry, label, &plain, &found, err);

    cs_buf_free(&plain);
    return status;
}

static credstore_status purge_one(cs_txn *txn, void *arg, credstore_error *err)
{
    purge *p = arg;
    const cs_scan entries = {.limit = 1, .visit = note_entry, .arg = p},
                  dead = {.visit = note_dead, .arg = p};
    cs_place place;
    cs_key from, to;
    credstore_status status;

    p->found = false;
    p->count = 0;
    cs_key_purge(&to, cs_purge_day(p->until), NULL);
    status = cs_txn_scan(txn, &p->next, &to, &entries, err);
    if (status != CREDSTORE_OK || !p->found)
        return status;
    if (!cs_place_of(cs_key_bytes(&p->entry), cs_bytes(NULL, 0), &place))
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The purge queue is damaged");
    status = check_entry(txn, p, &place.label, err);
    cs_key_history(&from, &place.at, 0);
    cs_key_history(&to, &place.at, UINT64_MAX);
    p->key_len = from.len;
    if (status == CREDSTORE_OK)
        status = cs_txn_scan(txn, &from, &to, &dead, err);
    for (size_t i = 0; i < p->count && status == CREDSTORE_OK; i++)
        status = cs_drop_look(txn, &place.at, p->dead[i].revision, NULL, &p->dead[i], err);
    for (size_t i = 0; i < p->count && status == CREDSTORE_OK; i++)
        status = cs_drop_revision(txn, &place.at, &p->dead[i], err);
    if (status == CREDSTORE_OK && p->count < BATCH)
        status = cs_txn_del(txn, &p->entry, err);
    return status;
}

static credstore_status purge_task(round *r, bool *more, credstore_error *err)
{
    purge *p = cs_alloc(1, sizeof *p);
    const cs_work work = {purge_one, p, 0};
    credstore_error why = {0};
    credstore_status status;

    *more = false;
    if (p == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    p->next = r->next_purge;
    p->until = r->believed; /* a clock that runs ahead for a while throws nothing away */
    status = cs_txn_write(r->store, &work, &why);
    *more = p->found;
    if (status != CREDSTORE_OK && p->found) { /* behind it */
        r->next_purge = p->entry;
        cs_key_after(&r->next_purge);
    }
    cs_free(p);
    return pass_over(r, status, &why, err);
}

/* ---- the store's time ---- */

typedef struct looking {
    cs_clock then, now;
    credstore_status damage; /* of the time that was believed: it begins anew */
    credstore_error why;
} looking;

static bool is_worth_a_write(const looking *l, const cs_txn *txn)
{
    const int64_t moved = l->now.believed - l->then.believed;

    return l->damage != CREDSTORE_OK || l->now.candidate != l->then.candidate || moved < 0 ||
           moved >= HOUR_MS || txn->now - txn->head.time >= MINUTE_MS;
}

/* With it the head is written, so that what was over by now stays so when the clock goes back a
 * little. */
static credstore_status note_time(cs_txn *txn, void *arg, credstore_error *err)
{
    looking *l = arg;
    credstore_status status;

    memset(l, 0, sizeof *l);
    status = cs_clock_read(txn, &l->then, &l->why);
    if (status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT) {
        l->damage = status;
        memset(&l->then, 0, sizeof l->then);
    } else if (status != CREDSTORE_OK) {
        return cs_fail(err, status, NULL, l->why.message);
    }
    l->now = cs_clock_look(l->then, txn->now);
    return is_worth_a_write(l, txn) ? cs_clock_put(txn, &l->now, err) : CREDSTORE_OK;
}

static credstore_status time_task(round *r, bool *more, credstore_error *err)
{
    looking l;
    const cs_work work = {note_time, &l, 0};
    const credstore_status status = cs_txn_write(r->store, &work, err);

    *more = false;
    if (status != CREDSTORE_OK)
        return status;
    r->believed = l.now.believed;
    return pass_over(r, l.damage, &l.why, err);
}

/* ---- graces and lives that are over ---- */

static credstore_status ends_task(round *r, bool *more, credstore_error *err)
{
    credstore_error why = {0};
    const credstore_status status =
        cs_ends_work_off(r->store, &r->next_end, r->believed, more, &why);

    return pass_over(r, status, &why, err);
}

/* ---- all of it ---- */

typedef credstore_status task(round *r, bool *more, credstore_error *err);
static task *const tasks[] = {time_task, marks_task, receipts_task, purge_task, ends_task};

static credstore_status run(round *r, int64_t end, uint32_t *more, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < sizeof tasks / sizeof *tasks && status == CREDSTORE_OK; i++) {
        bool left = false;

        do
            status = tasks[i](r, &left, err);
        while (status == CREDSTORE_OK && left && cs_time_monotonic() < end);
        if (left && more != NULL)
            *more = 1;
    }
    return status;
}

credstore_status credstore_maintain(credstore *store, uint32_t budget_ms, uint32_t *more,
                                    credstore_error *err)
{
    const int64_t end = budget_ms == 0 ? INT64_MAX : cs_time_monotonic() + budget_ms;
    round *r;
    credstore_status status;

    cs_error_clear(err);
    if (more != NULL)
        *more = 0;
    status = cs_store_usable(store, err);
    if (status != CREDSTORE_OK)
        return status;
    r = cs_alloc(1, sizeof *r);
    if (r == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    r->store = store;
    cs_key_purge(&r->next_purge, 0, NULL);
    cs_ends_begin(&r->next_end);
    if (store->storage->struct_size >=
            offsetof(credstore_storage, tidy) + sizeof store->storage->tidy &&
        store->storage->tidy != NULL)
        (void)store->storage->tidy(store->storage_ctx); /* a reader's place more or less */
    status = run(r, end, more, err);
    if (status == CREDSTORE_OK && r->damage != CREDSTORE_OK) {
        status = r->damage;
        if (err != NULL)
            *err = r->why;
    }
    cs_free(r);
    return status;
}
