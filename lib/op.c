/* SPDX-License-Identifier: MIT
 *
 * The common beginning of every verb.
 */
#include "op.h"

#include <string.h>

#include "alias.h"
#include "error.h"
#include "id.h"
#include "policy.h"
#include "ring.h"
#include "sized.h"
#include "text.h"

enum { REQUEST_ID_MAX = 128 };

static const uint16_t call_starts[] = {
    offsetof(credstore_call, flags),
    offsetof(credstore_call, actor),
    offsetof(credstore_call, tenant),
    offsetof(credstore_call, request_id),
    offsetof(credstore_call, expected_revision),
    offsetof(credstore_call, at_revision),
    offsetof(credstore_call, wait_ms),
    offsetof(credstore_call, idempotency_key),
};
static const uint16_t actor_starts[] = {
    offsetof(credstore_actor, type),        offsetof(credstore_actor, roles),
    offsetof(credstore_actor, reserved),    offsetof(credstore_actor, expires_at),
    offsetof(credstore_actor, permissions), offsetof(credstore_actor, id),
    offsetof(credstore_actor, tenant),
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static credstore_status take_call(cs_op *op, const credstore_call *call, credstore_error *err)
{
    credstore_status status = cs_struct_take(&op->call, sizeof op->call, call, call_starts,
                                             COUNT(call_starts), "call", err);

    if (status != CREDSTORE_OK)
        return status;
    if ((op->call.flags & ~(uint32_t)CREDSTORE_CALL_EXPAND_PERMISSIONS) != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "call", "The call has an unknown flag");
    if (op->call.wait_ms < 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "wait_ms", "The time to wait is negative");
    if (op->call.actor == NULL)
        return cs_policy_actor(NULL, 0, err);
    status = cs_struct_take(&op->actor, sizeof op->actor, op->call.actor, actor_starts,
                            COUNT(actor_starts), "actor", err);
    if (status == CREDSTORE_OK)
        status = cs_policy_actor(&op->actor, cs_store_now(op->store), err);
    return status;
}

static credstore_status check_request_id(const cs_op *op, credstore_error *err)
{
    const char *text = op->call.request_id;
    size_t len;

    if (text == NULL)
        return CREDSTORE_OK;
    len = cs_text_len(text, REQUEST_ID_MAX);
    if (op->kind != NULL && op->cls != CS_OWN && (op->kind->flags & CS_REQUEST_UUID) != 0 &&
        !cs_uuid_valid(text, len))
        return cs_fail(err, CREDSTORE_E_INVALID, "X-Client-Request-ID",
                       "The request id is not a UUID");
    if (len > REQUEST_ID_MAX || !cs_visible_ascii(text, len))
        return cs_fail(err, CREDSTORE_E_INVALID, "request_id",
                       "The request id is not 1..128 visible ASCII characters");
    return CREDSTORE_OK;
}

static credstore_status check_path(const cs_op *op, credstore_error *err)
{
    const cs_kind *kind = op->kind;

    if (!kind->path_valid(op->tenant, cs_text_len(op->tenant, CS_ID_MAX)))
        return cs_fail(err, CREDSTORE_E_INVALID, kind->tenant_name,
                       op->tenant[0] == '\0' ? "The call names no tenant"
                                             : "The id is too long or not of its alphabet");
    if (kind->parent_name == NULL)
        return CREDSTORE_OK;
    if (op->parent == NULL || !kind->path_valid(op->parent, cs_text_len(op->parent, CS_ID_MAX)))
        return cs_fail(err, CREDSTORE_E_INVALID, kind->parent_name,
                       "The id is missing, too long or not of its alphabet");
    return CREDSTORE_OK;
}

/* Names of one owner cannot be guessed or taken by another: their place in the file is a keyed MAC
 * of the whole path. */
credstore_status cs_path_mac(const credstore *store, uint8_t kind, uint8_t domain,
                             credstore_bytes tenant, credstore_bytes parent, uint8_t out[32],
                             credstore_error *err)
{
    const credstore_bytes parts[] = {cs_bytes(&kind, 1), tenant, parent};

    return cs_name_mac(&store->sealer, cs_store_name_key(store), domain, parts, COUNT(parts), out,
                       err);
}

static credstore_status path_mac(const cs_op *op, uint8_t domain, uint8_t out[32],
                                 credstore_error *err)
{
    return cs_path_mac(op->store, op->kind->id, domain, cs_bytes_of(op->tenant),
                       cs_bytes_of(op->parent), out, err);
}

credstore_status cs_op_owner(const cs_op *op, uint8_t out[32], credstore_error *err)
{
    return path_mac(op, CS_NAME_OWNER, out, err);
}

static credstore_status set_scope(cs_op *op, credstore_error *err)
{
    uint8_t mac[32];
    credstore_status status;

    if (op->kind->scope == CS_SCOPE_STORE)
        return CREDSTORE_OK;
    status = path_mac(op, CS_NAME_SCOPE, mac, err);
    if (status == CREDSTORE_OK)
        memcpy(op->at.scope, mac, CS_SCOPE_LEN);
    return status;
}

credstore_status cs_op_set_id(cs_op *op, const char *id, credstore_error *err)
{
    const size_t len = id == NULL ? 0 : cs_text_len(id, CS_ID_MAX);

    if (len == 0 || len > CS_ID_MAX || !op->kind->id_valid(id, len))
        return cs_fail(err, CREDSTORE_E_INVALID, op->kind->id_name,
                       "The id is missing, too long or not in its form");
    if ((op->kind->flags & CS_UUID_ID) != 0)
        cs_uuid_fold(id, op->id);
    else
        memcpy(op->id, id, len + 1);
    op->at.id = cs_bytes(op->id, len);
    return CREDSTORE_OK;
}

/* An organization may be named by its label. An actor's own id is never one, and costs no look-up.
 */
static credstore_status resolve(cs_op *op, const char *name, credstore_error *err)
{
    cs_alias alias;
    cs_txn txn;
    credstore_status status;

    op->tenant = name;
    if (strcmp(name, op->actor.tenant) == 0 || !cs_label_text(name, cs_text_len(name, CS_ID_MAX)))
        return CREDSTORE_OK;
    status = cs_txn_read(op->store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_alias_find(&txn, name, &alias, err);
    cs_txn_end(&txn);
    if (status != CREDSTORE_OK || !alias.found || strcmp(alias.id, name) == 0)
        return status;
    memcpy(op->tenant_id, alias.id, sizeof op->tenant_id);
    op->tenant = op->tenant_id;
    op->label = name;
    return status;
}

credstore_status cs_op_check_label(const cs_op *op, cs_txn *txn, credstore_error *err)
{
    cs_alias alias;
    credstore_status status;

    if (op->label == NULL)
        return CREDSTORE_OK;
    status = cs_alias_find(txn, op->label, &alias, err);
    if (status == CREDSTORE_OK && (!alias.found || strcmp(alias.id, op->tenant) != 0))
        return cs_fail(err, CREDSTORE_E_CONFLICT, op->kind->tenant_name,
                       "The label has moved meanwhile; try again");
    return status;
}

void cs_op_tell(const cs_op *op, uint32_t type, credstore_status status, uint32_t field)
{
    const credstore_event event = {
        .struct_size = sizeof event,
        .type = type,
        .kind = op->kind == NULL ? 0 : op->kind->id, /* 0: what is of no kind */
        .verb_class = op->cls,
        .status = (int32_t)status,
        .field = field,
        .actor = &op->actor,
        .tenant = op->tenant,
        .parent = op->parent,
        .id = op->asked_id,
    };

    if (op->store->event != NULL)
        op->store->event(op->store->event_ctx, &event);
}

static credstore_status ask_hook(const cs_op *op, uint32_t stage, bool exists, uint64_t revision,
                                 bool by_default, credstore_error *err)
{
    const credstore_question question = {
        .struct_size = sizeof question,
        .stage = stage,
        .kind = op->kind->id,
        .verb_class = op->cls,
        .by_default = by_default,
        .exists = exists,
        .revision = revision,
        .actor = &op->actor,
        .tenant = op->tenant,
        .parent = op->parent,
        .id = op->asked_id,
    };
    const int32_t answer = op->store->policy(op->store->policy_ctx, &question);

    if (answer == CREDSTORE_POLICY_ALLOW)
        return CREDSTORE_OK;
    if (answer == CREDSTORE_POLICY_HIDE)
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, op->kind->id_name, "There is no such record");
    return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The host's policy refused");
}

credstore_status cs_op_ask(const cs_op *op, uint32_t stage, bool exists, uint64_t revision,
                           credstore_error *err)
{
    const bool hooked = op->store->policy != NULL;
    credstore_status status = CREDSTORE_OK;

    if (op->cls == CS_OWN || (!hooked && stage == CREDSTORE_QUESTION_RECORD))
        return status; /* the default rules look at no record */
    status = cs_policy_may(op->store, &op->actor, op->kind, op->cls, op->tenant, op->names_tenant,
                           hooked ? NULL : err);
    if (hooked)
        status = ask_hook(op, stage, exists, revision, status == CREDSTORE_OK, err);
    if (status != CREDSTORE_OK)
        cs_op_tell(op, CREDSTORE_EVENT_DENIED, status, 0);
    return status;
}

credstore_status cs_op_begin(cs_op *op, credstore *store, const cs_kind *kind, cs_class cls,
                             const credstore_call *call, const cs_names *names,
                             credstore_error *err)
{
    credstore_status status = cs_store_usable(store, err);

    memset(op, 0, sizeof *op);
    op->store = store;
    op->kind = kind;
    op->cls = cls;
    op->asked_id = names->id;
    op->at.kind = kind->id;
    if (status == CREDSTORE_OK)
        status = take_call(op, call, err);
    if (status != CREDSTORE_OK)
        return status;
    op->parent = kind->parent_name == NULL ? NULL : names->parent;
    op->names_tenant = (kind->flags & CS_TENANT_IS_PATH) != 0 || op->call.tenant != NULL;
    if ((kind->flags & CS_TENANT_IS_PATH) != 0)
        status = resolve(op, names->tenant == NULL ? "" : names->tenant, err);
    else
        op->tenant = op->call.tenant == NULL ? op->actor.tenant : op->call.tenant;
    if (status != CREDSTORE_OK)
        return status;
    status = cs_op_ask(op, CREDSTORE_QUESTION_VERB, false, 0, err);
    if (status == CREDSTORE_OK)
        status = check_path(op, err);
    if (status == CREDSTORE_OK && names->id != NULL)
        status = cs_op_set_id(op, names->id, err);
    if (status == CREDSTORE_OK)
        status = check_request_id(op, err);
    return status == CREDSTORE_OK ? set_scope(op, err) : status;
}

credstore_status cs_op_begin_record(cs_op *op, credstore *store, const cs_kind *kind, cs_class cls,
                                    const credstore_call *call, const cs_names *names,
                                    credstore_error *err)
{
    const credstore_status status = cs_op_begin(op, store, kind, cls, call, names, err);

    if (status == CREDSTORE_OK && names->id == NULL)
        return cs_op_set_id(op, NULL, err);
    return status;
}

credstore_status cs_op_begin_audit(cs_op *op, credstore *store, const credstore_call *call,
                                   bool *all, credstore_error *err)
{
    credstore_status status = cs_store_usable(store, err);

    memset(op, 0, sizeof *op);
    op->store = store;
    if (status == CREDSTORE_OK)
        status = take_call(op, call, err);
    if (status != CREDSTORE_OK)
        return status;
    op->tenant = op->actor.tenant;
    *all = cs_policy_sees_all(&op->actor);
    if (!*all && !cs_policy_administers(&op->actor, op->tenant)) {
        cs_op_tell(op, CREDSTORE_EVENT_DENIED, CREDSTORE_E_FORBIDDEN, 0);
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The actor may not do this");
    }
    return check_request_id(op, err);
}

credstore_status cs_op_begin_store(cs_op *op, credstore *store, const credstore_call *call,
                                   credstore_error *err)
{
    bool all = false;
    const credstore_status status = cs_op_begin_audit(op, store, call, &all, err);

    if (status != CREDSTORE_OK || all)
        return status;
    cs_op_tell(op, CREDSTORE_EVENT_DENIED, CREDSTORE_E_FORBIDDEN, 0);
    return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The actor may not do this");
}

cs_audit_entry cs_op_entry(const cs_op *op, uint8_t action)
{
    const cs_audit_entry entry = {
        .action = action,
        .kind = op->at.kind,
        .actor_type = op->actor.type,
        .actor = cs_bytes_of(op->actor.id),
        .tenant = cs_bytes_of(op->tenant),
        .parent = cs_bytes_of(op->parent),
        .id = op->at.id,
        .request_id = cs_bytes_of(op->call.request_id),
    };

    return entry;
}

bool cs_op_owns(const cs_op *op, const cs_record *record)
{
    return cs_bytes_equal(record->owner, cs_bytes_of(op->tenant)) &&
           cs_bytes_equal(record->parent, cs_bytes_of(op->parent));
}

const credstore_actor *cs_op_grants_of(const cs_op *op)
{
    return (op->call.flags & CREDSTORE_CALL_EXPAND_PERMISSIONS) != 0 ? &op->actor : NULL;
}
