/* SPDX-License-Identifier: MIT
 *
 * Changing records: the one pipeline.
 */
#ifndef CS_UPDATE_H
#define CS_UPDATE_H

#include "issue.h"
#include "read.h"

/* What a change is made of. */
typedef struct cs_request {
    const cs_names *names;
    const void *patch, *origin; /* origin: creation only, may be NULL */
    const cs_render *render;    /* may be NULL */
    const cs_token_wish *token; /* NULL: no token is made */
    uint64_t source_revision;   /* of a restore */
    uint32_t grace_s;           /* secrets that the patch replaces stay good for it */
    bool own;                   /* as CS_OWN */
    const cs_key *end;          /* of cs_expire(): the entry that it works off */
    int64_t ended_by;           /* of cs_expire(): what was over then is */
} cs_request;

/* out as for cs_get(), but may be NULL. */
credstore_status cs_create(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, void *out, credstore_error *err);
credstore_status cs_update(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, void *out, credstore_error *err);
/* A new token for a record that has one, or may have one. */
credstore_status cs_roll(credstore *store, const cs_kind *kind, const credstore_call *call,
                         const cs_request *request, void *out, credstore_error *err);

/* Switches the kind's active flag. action: CS_ACTION_DEACTIVATE or _REACTIVATE. E_UNSUPPORTED: it
 * has none. */
credstore_status cs_switch(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, uint8_t action, void *out,
                           credstore_error *err);

/* Makes a new revision with the values of an earlier one. */
credstore_status cs_restore(credstore *store, const cs_kind *kind, const credstore_call *call,
                            const cs_request *request, void *out, credstore_error *err);

/* A revision without what is over. Where nothing is, the entry alone goes. */
credstore_status cs_expire(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, credstore_error *err);

/* Leaves a tombstone: the id is never used again. */
credstore_status cs_remove(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_request *request, credstore_error *err);

#endif
