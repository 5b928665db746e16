/* SPDX-License-Identifier: MIT
 *
 * Changing records. change_record() and in_transaction() are the pipeline; nothing else knows the
 * order of its steps.
 */
#include "update.h"

#include <string.h>

#include "actor.h"
#include "audit.h"
#include "commit.h"
#include "error.h"
#include "put.h"
#include "receipt.h"
#include "view.h"

enum { START_OVER_MAX = 8 };

/* What the pre-read saw, and the policy judged by. */
typedef struct seen {
    bool found;
    uint64_t incarnation, revision;
} seen;

typedef struct change {
    cs_op op;
    cs_inputs inputs;
    const cs_render *render;
    const cs_token_wish *wish; /* NULL: no token */
    uint32_t grace_s;          /* of rolled secrets */
    cs_making making;
    cs_receipt receipt;
    bool replayed;
    cs_beside beside;
    int64_t ended_by; /* of an expiry */
    uint8_t action;   /* the verb: CS_ACTION_x */
    seen before;      /* the pre-read */
    bool start_over;  /* the record is not the one that was judged */
    bool had_id;
    credstore_actor actor; /* narrowed to what its own record still says */
    cs_loaded old;
    uint64_t source_revision; /* of a restore */
    cs_loaded source;
    cs_settle settle;
    void *view;
} change;

static bool creates(const change *c)
{
    return c->action == CS_ACTION_CREATE;
}

static bool may_create(const change *c)
{
    return creates(c) || (c->action == CS_ACTION_UPDATE && (c->op.kind->flags & CS_UPSERT) != 0);
}

/* ---- steps ---- */

static credstore_status check_revision(const change *c, bool found, uint64_t revision,
                                       credstore_error *err)
{
    const uint64_t expected = c->op.call.expected_revision;
    const char *field = c->op.kind->id_name;

    if (expected == CREDSTORE_MUST_BE_NEW && found)
        return cs_fail(err, CREDSTORE_E_REVISION, NULL, "The record is there already");
    if (expected == CREDSTORE_MUST_EXIST && !found && may_create(c))
        return cs_fail(err, CREDSTORE_E_REVISION, NULL, "There is no such record");
    if (!found && !may_create(c))
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, field, "There is no such record");
    if (expected != 0 && expected < CREDSTORE_MUST_BE_NEW && (!found || revision != expected))
        return cs_fail(err, CREDSTORE_E_REVISION, NULL, "The record is at another revision");
    if (creates(c) && found)
        return cs_fail(err, CREDSTORE_E_EXISTS, field, "The id is taken");
    return CREDSTORE_OK;
}

/* Is it a change of what is there, whatever the verb may do beside? */
static bool asks_for_one(const change *c)
{
    const uint64_t expected = c->op.call.expected_revision;

    return expected != 0 && expected != CREDSTORE_MUST_BE_NEW;
}

/* Loads the record. Another tenant's is as good as absent, except that its id is taken. */
static credstore_status load(change *c, cs_txn *txn, cs_loaded *out, credstore_error *err)
{
    credstore_status status;

    out->found = false;
    if (c->op.at.id.len == 0)
        return CREDSTORE_OK;
    status = cs_load(txn, c->op.kind, &c->op.at, 0, out, err);
    if (status == CREDSTORE_OK && out->removed && may_create(c) && !asks_for_one(c))
        return cs_fail(err, CREDSTORE_E_EXISTS, c->op.kind->id_name,
                       "The id was removed, and ids are not used again");
    if (status != CREDSTORE_OK || !out->found || cs_op_owns(&c->op, &out->record))
        return status;
    out->found = false;
    if (creates(c))
        return cs_fail(err, CREDSTORE_E_EXISTS, c->op.kind->id_name, "The id is taken");
    return status;
}

/* The host's policy judges a key by what its record says now. What is wrong with the key itself is
   told in the transaction. */
static void narrow_for_hook(change *c, cs_txn *txn)
{
    if (c->op.store->policy != NULL &&
        cs_actor_narrow(txn, &c->op, &c->actor, NULL) == CREDSTORE_OK)
        c->op.actor = c->actor;
}

/* Notes what the policy judges by. */
static credstore_status pre_read(change *c, credstore_error *err)
{
    cs_loaded now = {0};
    cs_txn txn;
    credstore_status status = cs_txn_read(c->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = load(c, &txn, &now, err);
    if (status == CREDSTORE_E_EXISTS && c->receipt.wanted) { /* its receipt comes first */
        cs_error_clear(err);
        status = CREDSTORE_OK;
    }
    c->before.found = now.found;
    c->before.incarnation = now.found ? now.record.incarnation : 0;
    c->before.revision = now.found ? now.record.revision : 0;
    narrow_for_hook(c, &txn);
    cs_txn_end(&txn);
    cs_loaded_free(&now);
    return status;
}

/* The same permissions as the host's policy was shown. */
static bool is_as_wide(const change *c)
{
    return c->op.store->policy == NULL ||
           memcmp(c->actor.permissions, c->op.actor.permissions, sizeof c->actor.permissions) == 0;
}

static bool is_as_judged(const change *c)
{
    return c->old.found == c->before.found &&
           (!c->old.found || c->old.record.incarnation == c->before.incarnation);
}

/* What the merge starts from. */
static credstore_status begin_merge(change *c, cs_txn *txn, credstore_error *err)
{
    cs_settle *settle = &c->settle;

    memset(settle, 0, sizeof *settle);
    settle->kind = c->op.kind;
    settle->role = CS_ROLE_CURRENT;
    settle->inputs = &c->inputs;
    settle->now = txn->now;
    if (c->old.found) {
        settle->old = &c->old.record;
        settle->fresh = c->old.record;
        settle->fresh.revision++;
        return CREDSTORE_OK;
    }
    return cs_merge_creation(txn, &c->op, c->had_id, settle, err);
}

/* Whoever gets a token gets what its record may do. */
static credstore_status check_hands_over(const change *c, const cs_record *record,
                                         credstore_error *err)
{
    return c->wish == NULL ? CREDSTORE_OK : cs_actor_hands_over(&c->op, &c->actor, record, err);
}

static credstore_status merge(change *c, cs_txn *txn, credstore_error *err)
{
    cs_settle *settle = &c->settle;
    credstore_status status = begin_merge(c, txn, err);

    if (status != CREDSTORE_OK)
        return status;
    if (c->action == CS_ACTION_REMOVE) {
        cs_merge_removal(settle);
        return status;
    }
    if (c->action == CS_ACTION_EXPIRE) {
        settle->now = c->ended_by;
        cs_merge_ends(settle);
        return status;
    }
    if (c->action == CS_ACTION_RESTORE)
        settle->source = &c->source;
    status = (settle->source == NULL ? cs_merge : cs_merge_source)(c->op.store, settle, err);
    if (status == CREDSTORE_OK && c->wish != NULL)
        status = cs_make_token(txn, settle, c->wish, &c->making, err);
    if (status != CREDSTORE_OK)
        return status;
    settle->grace_s = c->grace_s;
    cs_merge_previous(settle);
    if (c->old.found && settle->changed == 0)
        settle->fresh.revision--;
    else if (c->old.found && settle->fresh.updated_at < txn->now)
        settle->fresh.updated_at = txn->now;
    status = cs_actor_grants(&c->actor, settle, err);
    return status == CREDSTORE_OK && c->old.found ? check_hands_over(c, &settle->fresh, err)
                                                  : status;
}

/* The same again is no change. */
static bool is_no_change(const change *c)
{
    return c->action != CS_ACTION_REMOVE && c->old.found &&
           (c->settle.changed | c->settle.ended) == 0;
}

static credstore_status show_view(change *c, credstore_error *err)
{
    const credstore_actor *grants = cs_op_grants_of(&c->op) == NULL ? NULL : &c->actor;
    credstore_status status = cs_view_build(c->op.store, c->op.kind, &c->settle.fresh,
                                            c->beside.used, grants, &c->view, err);

    if (status == CREDSTORE_OK && c->render != NULL)
        status = c->render->run(c->render->arg, c->view, err);
    return status;
}

static credstore_status build_view(change *c, cs_txn *txn, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    if (c->action == CS_ACTION_REMOVE || c->action == CS_ACTION_EXPIRE)
        return status;
    c->beside.used = cs_origin_time(&c->inputs, c->op.kind->origin.last_used_at);
    if (c->old.found)
        status = cs_load_usage(txn, c->op.kind, &c->op.at, &c->beside.used, err);
    return status == CREDSTORE_OK ? show_view(c, err) : status;
}

static credstore_status put_audit(change *c, cs_txn *txn, credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    uint16_t changed[CS_FIELDS_MAX];
    cs_audit_entry entry = cs_op_entry(&c->op, c->old.found ? c->action : CS_ACTION_CREATE);

    entry.revision = c->settle.fresh.revision;
    entry.changed = changed;
    for (size_t i = 0; i < kind->field_count; i++)
        if (((c->settle.changed | c->settle.ended) >> i & 1) != 0)
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
    cs_loaded_free(&c->source);
}

/* The record as it was, for a restore. */
static credstore_status load_source(change *c, cs_txn *txn, credstore_error *err)
{
    credstore_status status;

    if (c->action != CS_ACTION_RESTORE)
        return CREDSTORE_OK;
    status = cs_load(txn, c->op.kind, &c->op.at, c->source_revision, &c->source, err);
    if (status == CREDSTORE_OK && (!c->source.found || c->source_revision == 0)) /* 0: now */
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, "revision", "There is no such revision");
    return status;
}

/* May the first answer be given again? Not to a key that was withdrawn, nor without the rights. */
static credstore_status check_replay(change *c, cs_txn *txn, const cs_replay *first,
                                     credstore_error *err)
{
    credstore_status status = cs_actor_narrow(txn, &c->op, &c->actor, err);

    if (status == CREDSTORE_OK && (first->token != NULL) != (c->wish != NULL))
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A receipt is not what was written");
    if (status == CREDSTORE_OK)
        status = cs_load(txn, c->op.kind, &first->at, first->revision, &c->source, err);
    if (status == CREDSTORE_OK && (!c->source.found || !cs_op_owns(&c->op, &c->source.record)))
        status = cs_fail(err, CREDSTORE_E_NOT_FOUND, c->op.kind->id_name,
                         "The record of the first answer is gone");
    return status == CREDSTORE_OK ? check_hands_over(c, &c->source.record, err) : status;
}

/* The first answer again: the record as that change left it, and the token that it made. */
static credstore_status replay(change *c, cs_txn *txn, credstore_error *err)
{
    cs_replay first = {0};
    credstore_status status = cs_receipt_find(txn, &c->receipt, &first, err);

    c->replayed = status == CREDSTORE_OK && first.found;
    if (c->replayed)
        status = check_replay(c, txn, &first, err);
    if (c->wish == NULL || status != CREDSTORE_OK) {
        credstore_secret_free(first.token);
    } else if (first.token != NULL) {
        credstore_secret_free(*c->wish->out);
        *c->wish->out = first.token;
    }
    if (status != CREDSTORE_OK || !c->replayed)
        return status;
    c->beside.used = cs_origin_time(&c->inputs, c->op.kind->origin.last_used_at);
    if (!creates(c))
        status = cs_load_usage(txn, c->op.kind, &c->op.at, &c->beside.used, err);
    if (status != CREDSTORE_OK)
        return status;
    c->settle.fresh = c->source.record;
    c->settle.changed = 0;
    c->old.found = false;
    return show_view(c, err);
}

static credstore_status in_transaction(cs_txn *txn, void *arg, credstore_error *err)
{
    change *c = arg;
    credstore_status status;

    reset(c);
    status = replay(c, txn, err);
    if (status != CREDSTORE_OK || c->replayed)
        return status;
    status = cs_inputs_check_past(&c->inputs, err);
    if (status == CREDSTORE_OK)
        status = load(c, txn, &c->old, err);
    if (status == CREDSTORE_OK && !is_as_judged(c)) {
        c->start_over = true;
        return CREDSTORE_E_CONFLICT;
    }
    if (status == CREDSTORE_OK)
        status = check_revision(c, c->old.found, c->old.record.revision, err);
    if (status == CREDSTORE_OK)
        status = cs_actor_narrow(txn, &c->op, &c->actor, err);
    if (status == CREDSTORE_OK && !is_as_wide(c)) {
        c->start_over = true;
        return CREDSTORE_E_CONFLICT;
    }
    if (status == CREDSTORE_OK)
        status = cs_op_check_label(&c->op, txn, err);
    if (status == CREDSTORE_OK)
        status = load_source(c, txn, err);
    if (status == CREDSTORE_OK)
        status = merge(c, txn, err);
    if (status == CREDSTORE_OK)
        status = build_view(c, txn, err);
    if (status == CREDSTORE_OK && is_no_change(c) && c->beside.end != NULL)
        return cs_txn_del(txn, c->beside.end, err);
    if (status == CREDSTORE_OK && is_no_change(c)) /* with a key, the answer is kept all the same */
        return cs_receipt_put(txn, &c->receipt, &c->op.at, c->settle.fresh.revision, NULL, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_look_beside(txn, &c->op, &c->settle, c->wish != NULL, &c->beside, err);
    if (status == CREDSTORE_OK)
        status = cs_put_record(txn, &c->op.at, &c->settle, c->old.found ? &c->old : NULL, err);
    if (status == CREDSTORE_OK)
        status = cs_put_beside(txn, &c->op, &c->settle, c->wish != NULL, &c->beside, err);
    if (status == CREDSTORE_OK)
        status = cs_receipts_drop(txn, &c->beside.expired, err);
    if (status == CREDSTORE_OK)
        status = cs_receipt_put(txn, &c->receipt, &c->op.at, c->settle.fresh.revision,
                                c->wish == NULL ? NULL : *c->wish->out, err);
    return status == CREDSTORE_OK ? put_audit(c, txn, err) : status;
}

/* Deactivate and reactivate set a field that no patch holds. */
static credstore_status set_switch(change *c, credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    cs_input *in = &c->inputs.field[cs_field_index(kind, kind->active_field)];

    if (c->action != CS_ACTION_DEACTIVATE && c->action != CS_ACTION_REACTIVATE)
        return CREDSTORE_OK;
    if (kind->active_field == 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "verb", "The kind has no such verb");
    in->op = CREDSTORE_SET;
    in->number = c->action == CS_ACTION_REACTIVATE;
    return CREDSTORE_OK;
}

/* What the verb brings beside the fields. */
static credstore_status check_wishes(const change *c, credstore_error *err)
{
    credstore_status status = c->wish == NULL ? CREDSTORE_OK : cs_wish_check(c->wish, err);

    if (status == CREDSTORE_OK && c->grace_s > CS_GRACE_MAX_S)
        status = cs_fail(err, CREDSTORE_E_INVALID, "grace_s", "The grace is longer than ten years");
    return status;
}

static credstore_status take_inputs(change *c, const cs_request *request, credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    credstore_status status = CREDSTORE_OK;

    if (creates(c) || c->action == CS_ACTION_UPDATE || request->patch != NULL)
        status = cs_inputs_take(c->op.store, kind, request->patch, request->origin, creates(c),
                                &c->inputs, err);
    if (status == CREDSTORE_OK && creates(c) && cs_origin_id(kind, &c->inputs) != NULL)
        status = cs_op_set_id(&c->op, cs_origin_id(kind, &c->inputs), err);
    return status;
}

/* Validation: the store is not touched. */
static credstore_status validate(change *c, const cs_request *request, credstore_error *err)
{
    const cs_token_wish *wish = c->wish;
    credstore_status status = check_wishes(c, err);

    if (status == CREDSTORE_OK)
        status = take_inputs(c, request, err);
    if (status == CREDSTORE_OK)
        status = cs_receipt_name(&c->op, c->action, &c->inputs, wish != NULL,
                                 wish == NULL ? NULL : wish->prefix,
                                 wish == NULL ? c->grace_s : wish->grace_s, &c->receipt, err);
    if (status == CREDSTORE_OK && !c->receipt.wanted) /* with a key, its receipt comes first */
        status = cs_inputs_check_past(&c->inputs, err);
    if (status == CREDSTORE_OK)
        status = set_switch(c, err);
    c->had_id = c->op.at.id.len > 0;
    if (status == CREDSTORE_OK && !c->had_id && (!creates(c) || c->op.kind->make_id == NULL))
        status = cs_op_set_id(&c->op, NULL, err);
    return status;
}

/* Once through, from the pre-read to the commit. */
static credstore_status pass(change *c, credstore_error *err)
{
    const cs_work work = {in_transaction, c, c->op.call.wait_ms};
    credstore_status status = pre_read(c, err);

    if (status == CREDSTORE_OK)
        status =
            cs_op_ask(&c->op, CREDSTORE_QUESTION_RECORD, c->before.found, c->before.revision, err);
    if (status == CREDSTORE_OK && !c->receipt.wanted) /* with a key, its receipt comes first */
        status = check_revision(c, c->before.found, c->before.revision, err);
    c->start_over = false; /* the turn may not come, and in_transaction() not run */
    return status == CREDSTORE_OK ? cs_txn_write(c->op.store, &work, err) : status;
}

static credstore_status change_record(change *c, credstore *store, const cs_kind *kind,
                                      const credstore_call *call, const cs_request *request,
                                      credstore_error *err)
{
    credstore_status status = cs_op_begin(&c->op, store, kind, request->own ? CS_OWN : CS_CHANGE,
                                          call, request->names, err);

    if (status == CREDSTORE_OK)
        status = validate(c, request, err);
    if (status != CREDSTORE_OK)
        return status;
    for (int tries = 0; tries < START_OVER_MAX; tries++) {
        status = pass(c, err);
        if (!c->start_over)
            return status;
        cs_error_clear(err);
    }
    return cs_fail(err, CREDSTORE_E_CONFLICT, NULL, "Others were faster each time; try again");
}

static credstore_status run(credstore *store, const cs_kind *kind, const credstore_call *call,
                            const cs_request *request, uint8_t action, void *out,
                            credstore_error *err)
{
    change *c;
    credstore_status status;

    cs_error_clear(err);
    if (out != NULL)
        cs_hand_over(out, NULL);
    if (request->token != NULL && request->token->out != NULL)
        *request->token->out = NULL;
    status = cs_store_usable(store,
                             err); /* before any allocation: a forked child's heap may be locked */
    if (status != CREDSTORE_OK)
        return status;
    c = cs_alloc(1, sizeof *c); /* some 18 KB: too much for a small thread's stack */
    if (c == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    c->action = action;
    c->render = request->render;
    c->wish = request->token;
    c->grace_s = request->grace_s;
    c->source_revision = request->source_revision;
    c->beside.end = request->end;
    c->ended_by = request->ended_by;
    status = change_record(c, store, kind, call, request, err);
    cs_loaded_free(&c->old);
    cs_loaded_free(&c->source);
    if (status == CREDSTORE_OK)
        cs_hand_over(out, c->view);
    else
        credstore_free(c->view);
    if (status != CREDSTORE_OK && c->wish != NULL && c->wish->out != NULL) {
        credstore_secret_free(*c->wish->out);
        *c->wish->out = NULL;
    }
    cs_free_wiped(c, sizeof *c);
    return status;
}

credstore_status cs_create(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, void *out, credstore_error *err)
{
    return run(store, kind, call, request, CS_ACTION_CREATE, out, err);
}

credstore_status cs_update(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, void *out, credstore_error *err)
{
    return run(store, kind, call, request, CS_ACTION_UPDATE, out, err);
}

credstore_status cs_roll(credstore *store, const cs_kind *kind, const credstore_call *call,
                         const cs_request *request, void *out, credstore_error *err)
{
    return run(store, kind, call, request, CS_ACTION_ROLL, out, err);
}

credstore_status cs_switch(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, uint8_t action, void *out,
                           credstore_error *err)
{
    return run(store, kind, call, request, action, out, err);
}

credstore_status cs_restore(credstore *store, const cs_kind *kind, const credstore_call *call,
                            const cs_request *request, void *out, credstore_error *err)
{
    return run(store, kind, call, request, CS_ACTION_RESTORE, out, err);
}

credstore_status cs_expire(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, credstore_error *err)
{
    return run(store, kind, call, request, CS_ACTION_EXPIRE, NULL, err);
}

credstore_status cs_remove(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, credstore_error *err)
{
    return run(store, kind, call, request, CS_ACTION_REMOVE, NULL, err);
}
