/* SPDX-License-Identifier: MIT
 *
 * Actors against their own records.
 */
#include "actor.h"

#include "error.h"
#include "load.h"
#include "policy.h"

credstore_status cs_actor_narrow(cs_txn *txn, const cs_op *op, credstore_actor *out,
                                 credstore_error *err)
{
    const cs_kind *kind = cs_kind_of_actor(op->actor.type);
    cs_locator at = {0};
    cs_loaded own = {0};
    const cs_value *permissions;
    credstore_status status;

    *out = op->actor;
    if (kind == NULL)
        return CREDSTORE_OK;
    at.kind = kind->id;
    at.id = cs_bytes_of(op->actor.id);
    status = cs_load(txn, kind, &at, 0, &own, err);
    if (status != CREDSTORE_OK)
        goto cleanup;
    permissions = &own.record.values[cs_field_index(kind, kind->permissions_field)];
    if (!(own.found || own.removed) || !cs_bytes_equal(own.record.owner, cs_bytes_of(out->tenant)))
        status = cs_fail(err, CREDSTORE_E_UNAUTHENTICATED, "actor", "The store has no such key");
    else if (own.removed)
        status = cs_fail(err, CREDSTORE_E_REVOKED, "actor", "The actor's key was withdrawn");
    else if (cs_record_expired(kind, &own.record, txn->now))
        status = cs_fail(err, CREDSTORE_E_EXPIRED, "actor", "The actor's key has expired");
    for (unsigned n = 0; n < CS_CATALOGUE_MAX && status == CREDSTORE_OK; n++)
        if (!permissions->present || !cs_bit_get(permissions->bytes.ptr, n))
            out->permissions[n / 64] &= ~(UINT64_C(1) << (n % 64));
    if (status == CREDSTORE_OK && op->store->policy == NULL)
        status =
            cs_policy_may(op->store, out, op->kind, CS_CHANGE, op->tenant, op->names_tenant, err);
cleanup:
    cs_loaded_free(&own);
    return status;
}

credstore_status cs_actor_grants(const credstore_actor *actor, const cs_settle *settle,
                                 credstore_error *err)
{
    const cs_kind *kind = settle->kind;
    const size_t p = cs_field_index(kind, kind->permissions_field);

    if (kind->permissions_field == 0 || (settle->changed >> p & 1) == 0 ||
        !settle->fresh.values[p].present)
        return CREDSTORE_OK;
    return cs_policy_grants(actor, settle->old == NULL ? NULL : settle->old->values[p].bytes.ptr,
                            settle->fresh.values[p].bytes.ptr, kind->fields[p].name, err);
}

credstore_status cs_actor_hands_over(const cs_op *op, const credstore_actor *actor,
                                     const cs_record *record, credstore_error *err)
{
    const cs_kind *kind = op->kind;
    const size_t p = cs_field_index(kind, kind->permissions_field);

    if (kind->permissions_field == 0 || !record->values[p].present ||
        cs_policy_is_above(&op->actor, op->names_tenant))
        return CREDSTORE_OK;
    return cs_policy_grants(actor, NULL, record->values[p].bytes.ptr, kind->fields[p].name, err);
}
