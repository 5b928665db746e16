/* SPDX-License-Identifier: MIT
 *
 * The revisions of a record: the current one, then what history keeps, backwards.
 */
#include "history.h"

#include "error.h"
#include "load.h"
#include "page.h"
#include "view.h"

enum { LIMIT_MAX = 100 };

typedef struct revisions {
    cs_op op;
    cs_page *page;
    cs_item *items;
    uint64_t current, next; /* next: the one to be added; 0 = none is left */
} revisions;

static bool note_revision(void *arg, credstore_bytes key, credstore_bytes value)
{
    uint64_t *revision = arg;

    (void)value;
    *revision = key.len < 8 ? 0 : cs_get_u64((const uint8_t *)key.ptr + key.len - 8);
    return false;
}

/* The newest revision of history before `before`; 0 if there is none. */
static credstore_status find_before(revisions *r, cs_txn *txn, uint64_t before,
                                    credstore_error *err)
{
    const cs_scan scan = {.reverse = true, .limit = 1, .visit = note_revision, .arg = &r->next};
    cs_key from, to;

    r->next = 0;
    cs_key_history(&from, &r->op.at, 0);
    cs_key_history(&to, &r->op.at, before);
    return cs_txn_scan(txn, &from, &to, &scan, err);
}

static credstore_status add_revision(revisions *r, cs_txn *txn, credstore_error *err)
{
    credstore_error unread = {0};
    cs_loaded loaded = {0};
    void *view = NULL;
    credstore_status status = cs_load(txn, r->op.kind, &r->op.at, r->next, &loaded, &unread);

    if (status == CREDSTORE_OK)
        status = cs_view_build(r->op.store, r->op.kind, &loaded.record, 0, NULL, &view, &unread);
    status = cs_page_add(r->page, r->items, r->op.id, view, status, &unread, err);
    cs_loaded_free(&loaded);
    return status;
}

/* Whose record it is, and where to begin. */
static credstore_status begin(revisions *r, cs_txn *txn, uint64_t before, credstore_error *err)
{
    cs_loaded now = {0};
    credstore_status status = cs_load(txn, r->op.kind, &r->op.at, 0, &now, err);

    if (status == CREDSTORE_OK && (!now.found || !cs_op_owns(&r->op, &now.record)))
        status =
            cs_fail(err, CREDSTORE_E_NOT_FOUND, r->op.kind->id_name, "There is no such record");
    r->current = now.record.revision;
    cs_loaded_free(&now);
    if (status != CREDSTORE_OK)
        return status;
    r->next = r->current;
    return before != 0 && before <= r->current ? find_before(r, txn, before, err) : status;
}

static credstore_status walk(revisions *r, cs_txn *txn, uint64_t before, uint32_t limit,
                             credstore_error *err)
{
    credstore_status status = begin(r, txn, before, err);

    if (status == CREDSTORE_OK)
        status = cs_page_new(limit, &r->page, &r->items, err);
    while (status == CREDSTORE_OK && r->next != 0 && r->page->count < limit) {
        status = add_revision(r, txn, err);
        if (status == CREDSTORE_OK)
            status = find_before(r, txn, r->next, err);
    }
    if (status != CREDSTORE_OK)
        return status;
    r->page->has_next_page = r->next != 0;
    r->page->has_prev_page = before != 0 && before <= r->current;
    return status;
}

credstore_status cs_history(credstore *store, const cs_kind *kind, const credstore_call *call,
                            const cs_names *names, uint64_t before, uint32_t limit, void *out,
                            credstore_error *err)
{
    revisions r = {0};
    cs_txn txn;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    cs_hand_over(out, NULL);
    status = cs_op_begin_record(&r.op, store, kind, CS_READ, call, names, err);
    if (status == CREDSTORE_OK && (limit < 1 || limit > LIMIT_MAX))
        status = cs_fail(err, CREDSTORE_E_INVALID, "limit", "A page has 1..100 items");
    if (status == CREDSTORE_OK)
        status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = walk(&r, &txn, before, limit, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK)
        cs_hand_over(out, r.page);
    else
        credstore_free(r.page);
    return status;
}
