/* SPDX-License-Identifier: MIT
 *
 * Changing records. change() and in_transaction() are the pipeline; nothing else knows the order of
 * its steps.
 */
#include "update.h"

#include <string.h>

#include "audit.h"
#include "error.h"
#include "policy.h"
#include "put.h"
#include "view.h"

enum { START_OVER_MAX = 8 };

/* What the pre-read saw, and the policy judged by. */
typedef struct seen {
    bool found;
    uint64_t incarnation;
} seen;

typedef struct change {
    cs_op op;
    cs_inputs inputs;
    const cs_render *render;
    bool create;     /* the verb */
    seen before;     /* the pre-read */
    bool start_over; /* the record is not the one that was judged */
    bool had_id;
    credstore_actor actor; /* narrowed to what its own record still says */
    cs_loaded old;
    int64_t used;
    cs_settle settle;
    void *view;
} change;

static bool may_create(const change *c)
{
    return c->create || (c->op.kind->flags & CS_UPSERT) != 0;
}

/* ---- steps ---- */

static credstore_status check_revision(const change *c, const cs_loaded *now, credstore_error *err)
{
    const uint64_t expected = c->op.call.expected_revision;
    const char *field = c->op.kind->id_name;

    if (expected == CREDSTORE_MUST_BE_NEW && now->found)
        return cs_fail(err, CREDSTORE_E_REVISION, NULL, "The record is there already");
    if (expected == CREDSTORE_MUST_EXIST && !now->found && may_create(c))
        return cs_fail(err, CREDSTORE_E_REVISION, NULL, "There is no such record");
    if (!now->found && !may_create(c))
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, field, "There is no such record");
    if (expected != 0 && expected < CREDSTORE_MUST_BE_NEW &&
        (!now->found || now->record.revision != expected))
        return cs_fail(err, CREDSTORE_E_REVISION, NULL, "The record is at another revision");
    if (c->create && now->found)
        return cs_fail(err, CREDSTORE_E_EXISTS, field, "The id is taken");
    return CREDSTORE_OK;
}

/* Loads the record. Another tenant's is as good as absent, except that its id is taken. */
static credstore_status load(change *c, cs_txn *txn, cs_loaded *out, credstore_error *err)
{
    credstore_status status;

    out->found = false;
    if (c->op.at.id.len == 0)
        return CREDSTORE_OK;
    status = cs_load(txn, c->op.kind, &c->op.at, 0, out, err);
    if (status != CREDSTORE_OK || !out->found || cs_op_owns(&c->op, &out->record))
        return status;
    out->found = false;
    if (c->create)
        return cs_fail(err, CREDSTORE_E_EXISTS, c->op.kind->id_name, "The id is taken");
    return status;
}

/* Answers what needs no writer's turn, and notes what the policy judges by. */
static credstore_status pre_read(change *c, credstore_error *err)
{
    cs_loaded now = {0};
    cs_txn txn;
    credstore_status status = cs_txn_read(c->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = load(c, &txn, &now, err);
    if (status == CREDSTORE_OK)
        status = check_revision(c, &now, err);
    c->before.found = now.found;
    c->before.incarnation = now.found ? now.record.incarnation : 0;
    cs_txn_end(&txn);
    cs_loaded_free(&now);
    return status;
}

static bool is_as_judged(const change *c)
{
    return c->old.found == c->before.found &&
           (!c->old.found || c->old.record.incarnation == c->before.incarnation);
}

/* An actor that has a record here is no more than that record says at this moment. */
static credstore_status check_actor(change *c, cs_txn *txn, credstore_error *err)
{
    const cs_kind *kind = cs_kind_of_actor(c->op.actor.type);
    cs_locator at = {0};
    cs_loaded own = {0};
    const cs_value *expires, *permissions;
    credstore_status status;

    c->actor = c->op.actor;
    if (kind == NULL)
        return CREDSTORE_OK;
    at.kind = kind->id;
    at.id = cs_bytes_of(c->op.actor.id);
    status = cs_load(txn, kind, &at, 0, &own, err);
    if (status != CREDSTORE_OK)
        goto cleanup;
    expires = &own.record.values[cs_field_index(kind, kind->expires_field)];
    permissions = &own.record.values[cs_field_index(kind, kind->permissions_field)];
    if (!own.found || !cs_bytes_equal(own.record.owner, cs_bytes_of(c->actor.tenant)))
        status = cs_fail(err, CREDSTORE_E_UNAUTHENTICATED, "actor", "The store has no such key");
    else if (expires->present && expires->number <= txn->now)
        status = cs_fail(err, CREDSTORE_E_EXPIRED, "actor", "The actor's key has expired");
    for (unsigned n = 0; n < CS_CATALOGUE_MAX && status == CREDSTORE_OK; n++)
        if (!permissions->present || !cs_bit_get(permissions->bytes.ptr, n))
            c->actor.permissions[n / 64] &= ~(UINT64_C(1) << (n % 64));
    if (status == CREDSTORE_OK)
        status = cs_policy_may(c->op.store, &c->actor, c->op.kind, CS_CHANGE, c->op.tenant, err);
cleanup:
    cs_loaded_free(&own);
    return status;
}

/* At creation: the id, if none was brought, and the times. */
static credstore_status begin_record(change *c, cs_txn *txn, credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    cs_record *fresh = &c->settle.fresh;
    const uint8_t *random = cs_txn_random(txn, CS_SETTLE_RANDOM);
    const uint8_t *incarnation = cs_txn_random(txn, 8);
    const int64_t created = cs_origin_time(&c->inputs, kind->origin.created_at);
    const int64_t updated = cs_origin_time(&c->inputs, kind->origin.updated_at);

    if (random == NULL || incarnation == NULL)
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more than it drew");
    if (!c->had_id) {
        if (kind->make_id == NULL)
            return cs_fail(err, CREDSTORE_E_INVALID, kind->id_name, "The id is missing");
        if (!kind->make_id(txn->now, random, c->op.id))
            return cs_fail(err, CREDSTORE_E_ENTROPY, NULL, "The random source gave no id");
        c->op.at.id = cs_bytes_of(c->op.id);
        random = cs_txn_random(txn, CS_SETTLE_RANDOM);
        if (random == NULL)
            return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more than it drew");
    }
    c->settle.random = random;
    fresh->revision = 1;
    fresh->incarnation = cs_get_u64(incarnation);
    fresh->created_at = created == 0 ? txn->now : created;
    fresh->updated_at = updated;
    if (updated == 0 && (kind->flags & CS_UPDATED_LATER) == 0)
        fresh->updated_at = fresh->created_at;
    fresh->owner = cs_bytes_of(c->op.tenant);
    fresh->parent = cs_bytes_of(c->op.parent);
    fresh->id = c->op.at.id;
    return CREDSTORE_OK;
}

static credstore_status merge(change *c, cs_txn *txn, credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    cs_settle *settle = &c->settle;
    credstore_status status = CREDSTORE_OK;
    size_t p;

    memset(settle, 0, sizeof *settle);
    settle->kind = kind;
    settle->inputs = &c->inputs;
    settle->now = txn->now;
    if (c->old.found) {
        settle->old = &c->old.record;
        settle->fresh = c->old.record;
        settle->fresh.revision++;
    } else {
        status = begin_record(c, txn, err);
        settle->now =
            settle->fresh.updated_at == 0 ? settle->fresh.created_at : settle->fresh.updated_at;
    }
    if (status == CREDSTORE_OK)
        status = cs_merge(c->op.store, settle, err);
    if (status != CREDSTORE_OK)
        return status;
    if (c->old.found && settle->changed == 0)
        settle->fresh.revision--;
    else if (c->old.found && settle->fresh.updated_at < txn->now)
        settle->fresh.updated_at = txn->now;
    p = cs_field_index(kind, kind->permissions_field);
    if (kind->permissions_field == 0 || (settle->changed >> p & 1) == 0 ||
        !settle->fresh.values[p].present)
        return status;
    return cs_policy_grants(&c->actor, c->old.found ? c->old.record.values[p].bytes.ptr : NULL,
                            settle->fresh.values[p].bytes.ptr, kind->fields[p].name, err);
}

static credstore_status build_view(change *c, cs_txn *txn, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    c->used = cs_origin_time(&c->inputs, c->op.kind->origin.last_used_at);
    if (c->old.found)
        status = cs_load_usage(txn, c->op.kind, &c->op.at, &c->used, err);
    if (status == CREDSTORE_OK)
        status = cs_view_build(c->op.store, c->op.kind, &c->settle.fresh, c->used,
                               cs_op_grants_of(&c->op), &c->view, err);
    if (status == CREDSTORE_OK && c->render != NULL)
        status = c->render->run(c->render->arg, c->view, err);
    return status;
}

static credstore_status put_audit(change *c, cs_txn *txn, credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    uint16_t changed[CS_FIELDS_MAX];
    cs_audit_entry entry = {
        .action = c->old.found ? CS_ACTION_UPDATE : CS_ACTION_CREATE,
        .kind = kind->id,
        .actor_type = c->op.actor.type,
        .actor = cs_bytes_of(c->op.actor.id),
        .tenant = cs_bytes_of(c->op.tenant),
        .parent = cs_bytes_of(c->op.parent),
        .id = c->op.at.id,
        .request_id = cs_bytes_of(c->op.call.request_id),
        .revision = c->settle.fresh.revision,
        .changed = changed,
    };

    for (size_t i = 0; i < kind->field_count; i++)
        if ((c->settle.changed >> i & 1) != 0)
            changed[entry.changed_count++] = kind->fields[i].id;
    return cs_audit_append(txn, &entry, err);
}

/* ---- the pipeline ---- */

static void reset(change *c)
{
    credstore_free(c->view);
    c->view = NULL;
    c->start_over = false;
    if (!c->had_id)
        c->op.at.id.len = 0;
    cs_loaded_free(&c->old);
}

static credstore_status in_transaction(cs_txn *txn, void *arg, credstore_error *err)
{
    change *c = arg;
    credstore_status status;

    reset(c);
    status = load(c, txn, &c->old, err);
    if (status == CREDSTORE_OK && !is_as_judged(c)) {
        c->start_over = true;
        return CREDSTORE_E_CONFLICT;
    }
    if (status == CREDSTORE_OK)
        status = check_revision(c, &c->old, err);
    if (status == CREDSTORE_OK)
        status = check_actor(c, txn, err);
    if (status == CREDSTORE_OK)
        status = merge(c, txn, err);
    if (status == CREDSTORE_OK)
        status = build_view(c, txn, err);
    if (status != CREDSTORE_OK || (c->old.found && c->settle.changed == 0))
        return status;
    status = cs_put_record(txn, &c->op.at, &c->settle, c->old.found ? &c->old : NULL, err);
    if (status == CREDSTORE_OK && !c->old.found && c->used != 0)
        status = cs_put_usage(txn, &c->op.at, c->used, err);
    return status == CREDSTORE_OK ? put_audit(c, txn, err) : status;
}

static credstore_status change_record(change *c, credstore *store, const cs_kind *kind,
                                      const credstore_call *call, const cs_request *request,
                                      credstore_error *err)
{
    cs_work work = {in_transaction, c, 0};
    credstore_status status =
        cs_op_begin(&c->op, store, kind, CS_CHANGE, call, request->names, err);

    if (status == CREDSTORE_OK)
        status = cs_inputs_take(store, kind, request->patch, request->origin, c->create, &c->inputs,
                                err);
    if (status == CREDSTORE_OK && c->create && cs_origin_id(kind, &c->inputs) != NULL)
        status = cs_op_set_id(&c->op, cs_origin_id(kind, &c->inputs), err);
    work.wait_ms = c->op.call.wait_ms;
    c->had_id = c->op.at.id.len > 0;
    if (status == CREDSTORE_OK && !c->had_id && !c->create)
        status = cs_op_set_id(&c->op, NULL, err);
    for (int tries = 0; status == CREDSTORE_OK && tries < START_OVER_MAX; tries++) {
        status = pre_read(c, err);
        if (status != CREDSTORE_OK)
            break;
        c->start_over = false; /* the turn may not come, and in_transaction() not run */
        status = cs_txn_write(store, &work, err);
        if (!c->start_over)
            break;
        status = CREDSTORE_OK;
        cs_error_clear(err);
    }
    if (status == CREDSTORE_OK && c->start_over)
        status =
            cs_fail(err, CREDSTORE_E_CONFLICT, NULL, "Others were faster each time; try again");
    return status;
}

static credstore_status run(credstore *store, const cs_kind *kind, const credstore_call *call,
                            const cs_request *request, bool create, void *out, credstore_error *err)
{
    change *c;
    credstore_status status;

    cs_error_clear(err);
    if (out != NULL)
        cs_hand_over(out, NULL);
    c = cs_alloc(1, sizeof *c); /* some 10 KB: too much for a small thread's stack */
    if (c == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    c->create = create;
    c->render = request->render;
    status = change_record(c, store, kind, call, request, err);
    cs_loaded_free(&c->old);
    if (status == CREDSTORE_OK)
        cs_hand_over(out, c->view);
    else
        credstore_free(c->view);
    cs_free_wiped(c, sizeof *c);
    return status;
}

credstore_status cs_create(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, void *out, credstore_error *err)
{
    return run(store, kind, call, request, true, out, err);
}

credstore_status cs_update(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, void *out, credstore_error *err)
{
    return run(store, kind, call, request, false, out, err);
}
