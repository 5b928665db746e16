/* SPDX-License-Identifier: MIT
 *
 * A credential of a service account. Source: "Update a service account credential",
 * PATCH
 * /organizations/{organization_id}/service-accounts/{service_account_id}/credentials/{credential_id}.
 * The organization is the tenant: credstore_call.tenant is not used. All three ids are 1..255 of
 * [A-Za-z0-9_-].
 */
#ifndef CREDSTORE_SERVICE_CREDENTIAL_H
#define CREDSTORE_SERVICE_CREDENTIAL_H

#include "../credstore.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CREDSTORE_KIND_SERVICE_CREDENTIAL = 3 };

enum { CREDSTORE_SERVICE_CREDENTIAL_NAME = 1, CREDSTORE_SERVICE_CREDENTIAL_DESCRIPTION = 2 };

typedef struct credstore_service_credential_patch {
    uint32_t struct_size, reserved;
    credstore_text name;        /* 1..255 characters, no control characters; cannot be null */
    credstore_text description; /* at most 500 characters; CLEAR = none */
} credstore_service_credential_patch;

typedef struct credstore_grant { /* may the actor of the call do `action` on `resource` */
    const char *resource, *action;
    uint32_t granted, reserved;
} credstore_grant;

typedef struct credstore_service_credential {
    uint32_t struct_size, reserved;
    uint64_t revision;
    const char *organization_id, *service_account_id, *id, *client_id, *name;
    const char *description;                      /* NULL = none */
    int64_t created_at, updated_at, last_used_at; /* last_used_at 0 = never */
    const credstore_grant *const *permissions; /* the whole catalogue, in its order; NULL unless */
    size_t permission_count;                   /* CREDSTORE_CALL_EXPAND_PERMISSIONS was given */
} credstore_service_credential;

typedef struct credstore_service_credential_origin {
    uint32_t struct_size, reserved;
    const char *id;                 /* NULL = made here, 26 of [0-9a-z] */
    int64_t created_at, updated_at; /* 0 = now */
    const char *client_id;          /* 1..255 of [A-Za-z0-9_-]; NULL = made here, 21 characters */
    int64_t last_used_at;           /* 0 = never */
} credstore_service_credential_origin;

/* credstore.h, lists. Free the page with credstore_free(); its items and views go with it. */
typedef struct credstore_service_credential_item {
    const char *id;
    const credstore_service_credential *view; /* NULL: cannot be read, see status */
    int32_t status;
    uint32_t reserved;
} credstore_service_credential_item;

typedef struct credstore_service_credential_page {
    uint32_t struct_size, has_next_page, has_prev_page, reserved;
    const char *start_cursor, *end_cursor;
    const credstore_service_credential_item *items;
    size_t count;
} credstore_service_credential_page;

/* Creates. The patch must set the name. origin may be NULL, out may be NULL.
   E_EXISTS: the id is taken. E_FORBIDDEN, E_FULL. */
CREDSTORE_API credstore_status credstore_service_credential_create(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const credstore_service_credential_origin *origin,
    const credstore_service_credential_patch *patch, const credstore_service_credential **out,
    credstore_error *err);

/* Reads. E_NOT_FOUND, E_FORBIDDEN. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_service_credential_get(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id,
    const credstore_service_credential **out, credstore_error *err);

/* Updates what the patch sets. A patch that changes nothing succeeds and moves nothing. out may be
   NULL. E_NOT_FOUND, E_FORBIDDEN, E_REVISION, E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_service_credential_update(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id,
    const credstore_service_credential_patch *patch, const credstore_service_credential **out,
    credstore_error *err);

/* Lists the credentials of a service account. page may be NULL: the first 20. E_INVALID: limit,
 * cursor or filter. E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_service_credential_list(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const credstore_page *page,
    const credstore_service_credential_page **out, credstore_error *err);

/* Removes the credential: from the moment that this returns it is absent everywhere. The id is
   never used again, and its secrets go when its history does. E_NOT_FOUND, E_FORBIDDEN, E_REVISION,
   E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_service_credential_remove(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id, credstore_error *err);

/* Creates a credential with a new secret, which is in *client_secret and nowhere else: free it with
   credstore_secret_free(). Layout and prefix as for API keys; NULL = "secret". out may be NULL.
   Errors as for create. */
CREDSTORE_API credstore_status credstore_service_credential_issue(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *prefix,
    const credstore_service_credential_patch *patch, credstore_secret **client_secret,
    const credstore_service_credential **out, credstore_error *err);

/* Gives the credential a new secret; the old one stays good for grace_s seconds (0 = none, at most
   ten years). Errors as for update. */
CREDSTORE_API credstore_status credstore_service_credential_roll(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id, uint32_t grace_s,
    credstore_secret **client_secret, const credstore_service_credential **out,
    credstore_error *err);

/* As credstore_api_key_verify(); the actor is a SERVICE of the organization, with the credential's
 * id and no permissions. */
CREDSTORE_API credstore_status credstore_service_credential_verify(credstore *store,
                                                                   const char *token, size_t len,
                                                                   credstore_actor *out,
                                                                   credstore_error *err);

/* The record's revisions, newest first: those before `before` (0 = all), at most limit (1..100).
   The page has no cursors: go on with the last item's revision while has_next_page. One revision
   alone: get with credstore_call.at_revision. The time of last use is not of a revision: it is 0 in
   the views. E_NOT_FOUND, E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_service_credential_history(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id, uint64_t before, uint32_t limit,
    const credstore_service_credential_page **out, credstore_error *err);

/* Makes a new revision with the values of an earlier one, as an update that sets and clears them
   would. What was issued stays as it is: no old token comes back. out may be NULL. E_NOT_FOUND: no
   record, or history no longer has the revision. E_INVALID: a value that would not be taken today.
   Errors as for update. */
CREDSTORE_API credstore_status credstore_service_credential_restore(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id, uint64_t revision,
    const credstore_service_credential **out, credstore_error *err);

/* Gives the organization a label, by which it may be named wherever an organization_id is asked
   for; NULL takes it away. One label an organization: 1..63 of [a-z0-9-], no hyphen at either end,
   not 26 of [0-9a-z]. Ids and labels are one namespace, and the first comer has a name:
   an organization's id enters with its first record or its own label, so one whose id is by then
   another's label gets E_EXISTS. Give labels that are no id you will ever give. E_EXISTS: the name
   is an organization's id or label. E_FORBIDDEN: needs the right to change its credentials. */
CREDSTORE_API credstore_status credstore_organization_label(credstore *store,
                                                            const credstore_call *call,
                                                            const char *organization_id,
                                                            const char *label,
                                                            credstore_error *err);

#ifdef __cplusplus
}
#endif
#endif
