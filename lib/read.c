/* SPDX-License-Identifier: MIT
 *
 * Reading: get and reveal.
 */
#include "read.h"

#include <string.h>

#include "audit.h"
#include "commit.h"
#include "error.h"
#include "load.h"
#include "sealed.h"
#include "view.h"

void cs_hand_over(void *out, const void *view)
{
    if (out != NULL)
        memcpy(out, &view, sizeof view);
    else
        credstore_free(view);
}

static credstore_status absent(const cs_op *op, credstore_error *err)
{
    return cs_fail(err, CREDSTORE_E_NOT_FOUND, op->kind->id_name,
                   op->call.at_revision == 0 ? "There is no such record"
                                             : "There is no such record, or not at that revision");
}

/* Loads what the operation asks for; absent and another tenant's are the same. */
credstore_status cs_load_own(const cs_op *op, cs_txn *txn, cs_loaded *loaded, credstore_error *err)
{
    const credstore_status status =
        cs_load(txn, op->kind, &op->at, op->call.at_revision, loaded, err);

    if (status != CREDSTORE_OK)
        return status;
    if (!loaded->found || !cs_op_owns(op, &loaded->record))
        return absent(op, err);
    return CREDSTORE_OK;
}

static credstore_status view(cs_op *op, cs_txn *txn, void **out, credstore_error *err)
{
    cs_loaded loaded = {0};
    int64_t used = 0;
    credstore_status status = cs_load_own(op, txn, &loaded, err);

    if (status == CREDSTORE_OK)
        status = cs_load_usage(txn, op->kind, &op->at, &used, err);
    if (status == CREDSTORE_OK)
        status =
            cs_view_build(op->store, op->kind, &loaded.record, used, cs_op_grants_of(op), out, err);
    cs_loaded_free(&loaded);
    return status;
}

credstore_status cs_get(credstore *store, const cs_kind *kind, const credstore_call *call,
                        const cs_names *names, const cs_render *render, void *out,
                        credstore_error *err)
{
    void *block = NULL;
    cs_op op;
    cs_txn txn;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    cs_hand_over(out, NULL);
    status = cs_op_begin_record(&op, store, kind, CS_READ, call, names, err);

    if (status == CREDSTORE_OK)
        status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = view(&op, &txn, &block, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK && render != NULL)
        status = render->run(render->arg, block, err);
    if (status == CREDSTORE_OK)
        cs_hand_over(out, block);
    else
        credstore_free(block);
    return status;
}

credstore_status cs_open_part(const cs_op *op, cs_txn *txn, const cs_part *part,
                              credstore_secret **out, credstore_error *err)
{
    const credstore *store = op->store;
    const cs_label label = cs_record_label(CS_ROLE_PART, &op->at, part->field, part->revision);
    credstore_status status;

    if (part->box.sealed.len > CS_SECRET_MAX)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The part is longer than a secret");
    *out = cs_secret_new(store->arena, part->box.sealed.len);
    if (*out == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_txn_unseal(txn, CS_PURPOSE_SECRET, &label, &part->box, cs_secret_bytes(*out), err);
    if (status != CREDSTORE_OK) {
        credstore_secret_free(*out);
        *out = NULL;
    }
    return status;
}

static credstore_status open_field(const cs_op *op, cs_txn *txn, const cs_loaded *loaded,
                                   size_t field, credstore_secret **out, credstore_error *err)
{
    cs_part part;
    credstore_status status;

    if (!loaded->record.values[field].present)
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, op->kind->fields[field].name,
                       "The field has no value");
    status = cs_load_part(txn, op->kind, &op->at, loaded, field, &part, err);
    return status == CREDSTORE_OK ? cs_open_part(op, txn, &part, out, err) : status;
}

/* A reveal as an audit entry of its own. */
typedef struct revealing {
    const cs_op *op;
    uint64_t revision;
    uint16_t field;
} revealing;

static credstore_status put_reveal(cs_txn *txn, void *arg, credstore_error *err)
{
    const revealing *r = arg;
    cs_audit_entry entry = cs_op_entry(r->op, CS_ACTION_REVEAL);

    entry.revision = r->revision;
    entry.changed = &r->field;
    entry.changed_count = 1;
    return cs_audit_append(txn, &entry, err);
}

/* Durable before the secret is handed out, or no secret. */
static credstore_status tell_reveal(const cs_op *op, uint64_t revision, uint16_t field,
                                    credstore_secret **out, credstore_error *err)
{
    revealing r = {op, revision, field};
    const cs_work work = {put_reveal, &r, op->call.wait_ms};
    credstore_status status = CREDSTORE_OK;

    if (op->store->audit_reveals)
        status = cs_txn_write(op->store, &work, err);
    if (status == CREDSTORE_OK) {
        cs_op_tell(op, CREDSTORE_EVENT_REVEALED, status, field);
        return status;
    }
    credstore_secret_free(*out);
    *out = NULL;
    return status;
}

credstore_status cs_reveal(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_names *names, uint32_t field, credstore_secret **out,
                           credstore_error *err)
{
    const size_t index =
        field > UINT16_MAX ? kind->field_count : cs_field_index(kind, (uint16_t)field);
    cs_loaded loaded;
    cs_desk *desk;
    uint64_t revision;
    cs_op op;
    cs_txn txn;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    *out = NULL;
    status = cs_op_begin_record(&op, store, kind, CS_REVEAL, call, names, err);

    if (status == CREDSTORE_OK &&
        (index == kind->field_count || kind->fields[index].type != CS_SECRET))
        status = cs_fail(err, CREDSTORE_E_INVALID, "field", "The kind has no such secret field");
    if (status == CREDSTORE_OK)
        status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    cs_loaded_begin(&loaded);
    desk = cs_desk_lend(store, &loaded.plain);
    status = cs_load_own(&op, &txn, &loaded, err);
    if (status == CREDSTORE_OK)
        status = open_field(&op, &txn, &loaded, index, out, err);
    cs_txn_end(&txn);
    revision = loaded.record.revision;
    cs_loaded_free(&loaded);
    cs_desk_free(desk);
    return status == CREDSTORE_OK ? tell_reveal(&op, revision, (uint16_t)field, out, err) : status;
}
