/* SPDX-License-Identifier: MIT
 *
 * Working off the queue of ends: each entry through the pipeline, so that what is over leaves its
 * record as any change does, with a revision and an entry in the audit.
 */
#include "expire.h"

#include <string.h>

#include "commit.h"
#include "error.h"
#include "place.h"
#include "sealed.h"
#include "update.h"

typedef struct entry {
    bool found;
    cs_key key;
    cs_locator at; /* in the key */
    const cs_kind *kind;
    cs_named names; /* of its record */
    bool gone;      /* the record */
} entry;

void cs_ends_begin(cs_key *next)
{
    cs_key_end(next, 0, NULL);
}

static bool note_entry(void *arg, credstore_bytes key, credstore_bytes value)
{
    entry *e = arg;

    (void)value;
    e->found = key.len <= CS_KEY_MAX;
    e->key.len = e->found ? key.len : 0;
    if (e->found)
        memcpy(e->key.ptr, key.ptr, key.len);
    return false;
}

/* The record that an entry is about. Sealed, so that nobody without the keys can bring it about. */
static credstore_status take_entry(cs_txn *txn, entry *e, credstore_error *err)
{
    cs_buf plain = {0};
    bool found = false;
    cs_place place;
    credstore_status status;

    if (!cs_place_of(cs_key_bytes(&e->key), cs_bytes(NULL, 0), &place))
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The queue of ends is damaged");
    e->at = place.at;
    status = cs_txn_get_sealed(txn, &e->key, &place.label, &plain, &found, err);
    cs_buf_free(&plain);
    e->kind = cs_kind_find(e->at.kind);
    if (status == CREDSTORE_OK && e->kind == NULL)
        status = cs_fail(err, CREDSTORE_E_FORMAT, NULL, "The queue of ends names an unknown kind");
    return status;
}

static credstore_status find(credstore *store, cs_key *next, int64_t until, entry *e,
                             credstore_error *err)
{
    const cs_scan scan = {.limit = 1, .visit = note_entry, .arg = e};
    cs_loaded loaded = {0};
    cs_key to;
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    cs_key_end(&to, until < INT64_MAX ? until + 1 : until, NULL);
    status = cs_txn_scan(&txn, next, &to, &scan, err);
    if (status != CREDSTORE_OK || !e->found)
        goto cleanup;
    *next = e->key;
    cs_key_after(next);
    status = take_entry(&txn, e, err);
    if (status == CREDSTORE_OK)
        status = cs_load(&txn, e->kind, &e->at, 0, &loaded, err);
    e->gone = !loaded.found;
    if (status == CREDSTORE_OK && loaded.found)
        cs_named_take(&loaded.record, &e->names);
cleanup:
    cs_loaded_free(&loaded);
    cs_txn_end(&txn);
    return status;
}

static credstore_status drop(cs_txn *txn, void *arg, credstore_error *err)
{
    const entry *e = arg;

    return cs_txn_del(txn, &e->key, err);
}

/* Through the pipeline, as the store's own actor; the entry goes with the change. */
static credstore_status expire(credstore *store, const entry *e, int64_t until,
                               credstore_error *err)
{
    const credstore_actor actor = {
        .struct_size = sizeof actor, .type = CREDSTORE_ACTOR_SYSTEM, .id = "maintenance"};
    const credstore_call call = {
        .struct_size = sizeof call, .actor = &actor, .tenant = e->names.tenant};
    const cs_names names = {.tenant = e->names.tenant,
                            .parent = e->kind->parent_name == NULL ? NULL : e->names.parent,
                            .id = e->names.id};
    const cs_request request = {.names = &names, .own = true, .ended_by = until, .end = &e->key};

    return cs_expire(store, e->kind, &call, &request, err);
}

credstore_status cs_ends_work_off(credstore *store, cs_key *next, int64_t until, bool *found,
                                  credstore_error *err)
{
    entry *e = cs_alloc(1, sizeof *e);
    const cs_work work = {drop, e, 0};
    credstore_status status;

    *found = false;
    if (e == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = find(store, next, until, e, err);
    *found = e->found;
    if (status == CREDSTORE_OK && e->found)
        status = e->gone ? cs_txn_write(store, &work, err) : expire(store, e, until, err);
    if (status == CREDSTORE_E_NOT_FOUND) { /* removed just now: the next round drops the entry */
        status = CREDSTORE_OK;
        cs_error_clear(err);
    }
    cs_free(e);
    return status;
}
