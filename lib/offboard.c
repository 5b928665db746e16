/* SPDX-License-Identifier: MIT
 *
 * Offboarding: every record of a tenant, removed one by one through the pipeline. What is removed
 * is a tombstone, so that going on after a crash or a spent budget is the same as beginning.
 */
#include <string.h>

#include "error.h"
#include "load.h"
#include "text.h"
#include "time.h"
#include "update.h"

enum { RECORD_HEAD = 2 + CS_SCOPE_LEN };

/* A walk over all records, from key to key. */
typedef struct walk {
    cs_op op;
    cs_key at; /* where to go on */
    cs_key found;
    uint32_t budget_ms;
    int64_t end; /* monotonic; 0 = no record was found yet, and the budget is whole */
    uint64_t removed;
    bool over;               /* no record is left to look at */
    credstore_status damage; /* of records that cannot be read, and so cannot be removed */
    credstore_error why;
} walk;

/* The next record found to belong to the tenant. */
typedef struct found_record {
    const cs_kind *kind;
    cs_named names;
} found_record;

static bool note_key(void *arg, credstore_bytes key, credstore_bytes value)
{
    walk *w = arg;

    (void)value;
    if (key.len <= CS_KEY_MAX) {
        memcpy(w->found.ptr, key.ptr, key.len);
        w->found.len = key.len;
    }
    return false;
}

/* Finds the next record's id, and sets `at` behind all of its keys. False: there is none. */
static bool step(walk *w, cs_txn *txn, cs_locator *at, credstore_status *status,
                 credstore_error *err)
{
    const cs_scan scan = {.limit = 1, .visit = note_key, .arg = w};
    const cs_key end = {1, {CS_TABLE_RECORD + 1}};
    const uint8_t *id = w->found.ptr + RECORD_HEAD, *stop;

    w->found.len = 0;
    *status = cs_txn_scan(txn, &w->at, &end, &scan, err);
    w->over = *status == CREDSTORE_OK && w->found.len <= RECORD_HEAD;
    if (*status != CREDSTORE_OK || w->over)
        return false;
    stop = memchr(id, 0, w->found.len - RECORD_HEAD);
    if (stop == NULL) {
        *status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A record's key is damaged");
        return false;
    }
    at->kind = w->found.ptr[1];
    memcpy(at->scope, w->found.ptr + 2, CS_SCOPE_LEN);
    at->id = cs_bytes(id, (size_t)(stop - id));
    w->at.len = RECORD_HEAD + at->id.len + 1;
    memcpy(w->at.ptr, w->found.ptr, w->at.len);
    w->at.ptr[w->at.len - 1] = 1; /* an id's keys are id 00 ... */
    return true;
}

/* One record that cannot be read stops nobody's departure; it is told at the end. */
static credstore_status pass_over(walk *w, credstore_status status, const credstore_error *unread,
                                  credstore_error *err)
{
    if (status == CREDSTORE_OK)
        return status;
    if (status != CREDSTORE_E_INTEGRITY && status != CREDSTORE_E_FORMAT)
        return cs_fail(err, status, NULL, unread->message);
    if (w->damage == CREDSTORE_OK) {
        w->damage = status;
        w->why = *unread;
    }
    return CREDSTORE_OK;
}

/* The budget counts from the first record found: however far off that is, each call gets on. */
static void begin_budget(walk *w)
{
    if (w->end == 0)
        w->end = w->budget_ms == 0 ? INT64_MAX : cs_time_monotonic() + w->budget_ms;
}

static bool may_go_on(const walk *w)
{
    return w->end == 0 || cs_time_monotonic() < w->end;
}

static credstore_status find_next(walk *w, bool *found, found_record *out, credstore_error *err)
{
    cs_locator at = {0};
    cs_txn txn;
    credstore_status status = cs_txn_read(w->op.store, &txn, err);

    *found = false;
    if (status != CREDSTORE_OK)
        return status;
    while (!*found && may_go_on(w) && step(w, &txn, &at, &status, err)) {
        credstore_error unread = {0};
        cs_loaded loaded = {0};

        out->kind = cs_kind_find(at.kind);
        if (out->kind != NULL)
            status = cs_load(&txn, out->kind, &at, 0, &loaded, &unread);
        status = pass_over(w, status, &unread, err);
        *found = status == CREDSTORE_OK && loaded.found &&
                 cs_bytes_equal(loaded.record.owner, cs_bytes_of(w->op.tenant));
        if (*found)
            cs_named_take(&loaded.record, &out->names);
        cs_loaded_free(&loaded);
        cs_txn_let_go(&txn); /* or a walk of the whole store would hold copies of it */
        if (status != CREDSTORE_OK)
            break;
    }
    cs_txn_end(&txn);
    return status;
}

static credstore_status remove_one(walk *w, const found_record *record, credstore_error *err)
{
    credstore_call call = w->op.call;
    cs_names names = {.tenant = w->op.tenant, .id = record->names.id};
    const cs_request request = {.names = &names, .own = true};
    credstore_status status;

    names.parent = record->kind->parent_name == NULL ? NULL : record->names.parent;
    call.tenant = w->op.tenant;
    call.expected_revision = 0;
    status = cs_remove(w->op.store, record->kind, &call, &request, err);
    w->removed += status == CREDSTORE_OK;
    if (status != CREDSTORE_E_NOT_FOUND)
        return status;
    cs_error_clear(err);
    return CREDSTORE_OK; /* another was faster */
}

static credstore_status begin(walk *w, credstore *store, const credstore_call *call,
                              credstore_error *err)
{
    credstore_status status = cs_op_begin_store(&w->op, store, call, err);

    if (status != CREDSTORE_OK)
        return status;
    w->op.tenant = w->op.call.tenant;
    if (w->op.tenant == NULL || !cs_id_text(w->op.tenant, cs_text_len(w->op.tenant, CS_ID_MAX)))
        return cs_fail(err, CREDSTORE_E_INVALID, "tenant", "The call names no tenant");
    w->at.len = 1;
    w->at.ptr[0] = CS_TABLE_RECORD;
    return status;
}

credstore_status credstore_offboard(credstore *store, const credstore_call *call,
                                    uint32_t budget_ms, uint32_t *more, uint64_t *removed,
                                    credstore_error *err)
{
    walk w = {.budget_ms = budget_ms};
    found_record record;
    bool found = true;
    credstore_status status;

    cs_error_clear(err);
    status = begin(&w, store, call, err);
    while (status == CREDSTORE_OK && may_go_on(&w)) {
        status = find_next(&w, &found, &record, err);
        if (status != CREDSTORE_OK || !found)
            break;
        begin_budget(&w);
        status = remove_one(&w, &record, err);
    }
    if (more != NULL)
        *more = status == CREDSTORE_OK && !w.over;
    if (removed != NULL)
        *removed = w.removed;
    if (status == CREDSTORE_OK && w.damage != CREDSTORE_OK && w.over)
        return cs_fail(err, w.damage, NULL, w.why.message);
    return status;
}
