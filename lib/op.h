/* SPDX-License-Identifier: MIT
 *
 * An operation: who asks, in which tenant, for which record. What every verb does before its own
 * work.
 */
#ifndef CS_OP_H
#define CS_OP_H

#include "audit.h"
#include "record.h"
#include "store.h"

/* The ids of a call; those that the kind has not are NULL. */
typedef struct cs_names {
    const char *tenant; /* first id of the path, for kinds whose tenant is there */
    const char *parent; /* middle id of the path */
    const char *id;     /* NULL: creation with an id made here */
} cs_names;

typedef struct cs_op {
    credstore *store;
    const cs_kind *kind;
    credstore_call call;
    credstore_actor actor;
    cs_class cls;
    const char *asked_id; /* not yet checked; NULL = none */
    const char *tenant;   /* as the host vouches for it */
    const char *parent;
    bool names_tenant; /* the call does; else it is the actor's own */
    const char *label; /* the tenant was named by this label; NULL = by its id */
    char tenant_id[CS_ID_MAX + 1];
    char id[CS_ID_MAX + 1]; /* "" until it is known; folded */
    cs_locator at;
} cs_op;

/* Asks the policy: the host's hook if there is one, else the default rules. Tells the event hook of
   a refusal. exists and revision: at stage CREDSTORE_QUESTION_RECORD. E_FORBIDDEN, or E_NOT_FOUND
   if the hook says so. */
credstore_status cs_op_ask(const cs_op *op, uint32_t stage, bool exists, uint64_t revision,
                           credstore_error *err);
/* Tells the event hook, if there is one. */
void cs_op_tell(const cs_op *op, uint32_t type, credstore_status status, uint32_t field);

/* Takes the call, lets the policy speak, then checks tenant, parent, id and request id, in this
   order: whoever may not ask learns nothing. E_INVALID, E_UNAUTHENTICATED, E_EXPIRED, E_FORBIDDEN.
 */
credstore_status cs_op_begin(cs_op *op, credstore *store, const cs_kind *kind, cs_class cls,
                             const credstore_call *call, const cs_names *names,
                             credstore_error *err);

/* The same for verbs on a record that has to be there: its id may not be missing. */
credstore_status cs_op_begin_record(cs_op *op, credstore *store, const cs_kind *kind, cs_class cls,
                                    const credstore_call *call, const cs_names *names,
                                    credstore_error *err);

/* The same for the audit, which is of no kind: *all = may see every tenant's, else its own
 * tenant's. */
credstore_status cs_op_begin_audit(cs_op *op, credstore *store, const credstore_call *call,
                                   bool *all, credstore_error *err);

/* The same for verbs on the whole store, which are SYSTEM's and SUPER's alone. */
credstore_status cs_op_begin_store(cs_op *op, credstore *store, const credstore_call *call,
                                   credstore_error *err);

/* Checks an id and makes it the record's. */
credstore_status cs_op_set_id(cs_op *op, const char *id, credstore_error *err);

/* CS_SCOPE_LEN bytes of out: a record's scope (domain CS_NAME_SCOPE), or the owner's part of an
   index key (CS_NAME_OWNER). */
credstore_status cs_path_mac(const credstore *store, uint8_t kind, uint8_t domain,
                             credstore_bytes tenant, credstore_bytes parent, uint8_t out[32],
                             credstore_error *err);

/* The owner's part of an index key: CS_SCOPE_LEN bytes of out. */
credstore_status cs_op_owner(const cs_op *op, uint8_t out[32], credstore_error *err);

/* Inside a change: E_CONFLICT if the label by which the tenant was named is another's by now. */
credstore_status cs_op_check_label(const cs_op *op, cs_txn *txn, credstore_error *err);

/* The audit entry of this operation, without revision and changed fields. */
cs_audit_entry cs_op_entry(const cs_op *op, uint8_t action);

/* True if a loaded record belongs to the operation's tenant and parent. */
bool cs_op_owns(const cs_op *op, const cs_record *record);

/* The actor whose permissions the view shows, or NULL. */
const credstore_actor *cs_op_grants_of(const cs_op *op);

#endif
