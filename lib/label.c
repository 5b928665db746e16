/* SPDX-License-Identifier: MIT
 *
 * Labels: a change of a tenant's name, in the audit like any other.
 */
#include "label.h"

#include "actor.h"
#include "alias.h"
#include "audit.h"
#include "commit.h"
#include "error.h"
#include "op.h"
#include "text.h"

typedef struct labelling {
    cs_op op;
    const char *label;
} labelling;

static credstore_status put_label(cs_txn *txn, void *arg, credstore_error *err)
{
    const labelling *l = arg;
    const cs_audit_entry entry = cs_op_entry(&l->op, CS_ACTION_LABEL);
    bool changed = false;
    credstore_actor actor;
    credstore_status status = cs_actor_narrow(txn, &l->op, &actor, err);

    if (status == CREDSTORE_OK)
        status = cs_op_check_label(&l->op, txn, err);
    if (status == CREDSTORE_OK)
        status = cs_alias_set(txn, l->op.tenant, l->label, &changed, err);
    return status == CREDSTORE_OK && changed ? cs_audit_append(txn, &entry, err) : status;
}

credstore_status cs_set_label(credstore *store, const cs_kind *kind, const credstore_call *call,
                              const char *tenant, const char *label, credstore_error *err)
{
    /* Any id of its form will do for the middle of the path: the change is the tenant's alone. */
    const cs_names names = {.tenant = tenant, .parent = "-"};
    labelling l = {.label = label};
    cs_work work = {put_label, &l, 0};
    credstore_status status;

    cs_error_clear(err);
    status = cs_op_begin(&l.op, store, kind, CS_CHANGE, call, &names, err);
    if (status == CREDSTORE_OK && label != NULL &&
        !cs_label_text(label, cs_text_len(label, CS_ID_MAX)))
        status = cs_fail(err, CREDSTORE_E_INVALID, "label",
                         "A label is 1..63 of [a-z0-9-], and does not look like an id");
    l.op.parent = NULL;
    work.wait_ms = l.op.call.wait_ms;
    return status == CREDSTORE_OK ? cs_txn_write(store, &work, err) : status;
}
