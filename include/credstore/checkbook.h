/* SPDX-License-Identifier: MIT
 *
 * Checkbook client credentials: the keys with which a service calls Checkbook for one of its
 * clients. Source: "Update Checkbook client credentials", PUT
 * /internal/checkbook/client-credentials/{id}. The record's id is a KSUID, unique in the store; its
 * tenant is the one that the call names.
 */
#ifndef CREDSTORE_CHECKBOOK_H
#define CREDSTORE_CHECKBOOK_H

#include "../credstore.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CREDSTORE_KIND_CHECKBOOK = 1 };

enum { /* fields, as credstore_checkbook_reveal() takes them */
       CREDSTORE_CHECKBOOK_PUBLISHABLE_KEY = 1,
       CREDSTORE_CHECKBOOK_SECRET_KEY = 2, /* the only secret one */
       CREDSTORE_CHECKBOOK_BASE_URL = 3,
       CREDSTORE_CHECKBOOK_IS_ACTIVE = 4
};

/* Nothing here can be null: CLEAR is E_INVALID. */
typedef struct credstore_checkbook_patch {
    uint32_t struct_size, reserved;
    credstore_text publishable_key;   /* 1..4096 bytes, no control characters */
    credstore_secret_text secret_key; /* 1..4096 bytes, no control characters */
    credstore_text base_url; /* 1..2048 bytes; https, a host that is not private, no userinfo or
                                fragment, unless the store's base_url_allow names the host */
    credstore_flag is_active;
} credstore_checkbook_patch;

typedef struct credstore_checkbook {
    uint32_t struct_size, is_active, has_secret_key, reserved;
    uint64_t revision;
    const char *id, *client_id, *publishable_key, *base_url;
    int64_t created_at, updated_at, secret_key_set_at;
} credstore_checkbook;

typedef struct credstore_checkbook_origin {
    uint32_t struct_size, reserved;
    const char *id;                 /* KSUID; NULL = made here */
    int64_t created_at, updated_at; /* 0 = now */
    const char *client_id;          /* KSUID of the client; NULL = the same as id */
} credstore_checkbook_origin;

/* credstore.h, lists. Free the page with credstore_free(); its items and views go with it. */
typedef struct credstore_checkbook_item {
    const char *id;
    const credstore_checkbook *view; /* NULL: cannot be read, see status */
    int32_t status;
    uint32_t reserved;
} credstore_checkbook_item;

typedef struct credstore_checkbook_page {
    uint32_t struct_size, has_next_page, has_prev_page, reserved;
    const char *start_cursor, *end_cursor;
    const credstore_checkbook_item *items;
    size_t count;
} credstore_checkbook_page;

/* Creates. The patch must set all but is_active (1). origin may be NULL, out may be NULL.
   E_EXISTS: the id is taken. E_FORBIDDEN, E_FULL. */
CREDSTORE_API credstore_status credstore_checkbook_create(
    credstore *store, const credstore_call *call, const credstore_checkbook_origin *origin,
    const credstore_checkbook_patch *patch, const credstore_checkbook **out, credstore_error *err);

/* Reads. E_NOT_FOUND, E_FORBIDDEN. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_checkbook_get(credstore *store, const credstore_call *call,
                                                       const char *id,
                                                       const credstore_checkbook **out,
                                                       credstore_error *err);

/* Updates what the patch sets. A patch that changes nothing succeeds and moves nothing. out may be
   NULL. E_NOT_FOUND, E_FORBIDDEN, E_REVISION, E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_checkbook_update(
    credstore *store, const credstore_call *call, const char *id,
    const credstore_checkbook_patch *patch, const credstore_checkbook **out, credstore_error *err);

/* Opens the secret `field`. E_NOT_FOUND: no record, or the field has no value. E_FORBIDDEN.
   E_KEY_UNAVAILABLE: the root key given at open has no REVEAL right. */
CREDSTORE_API credstore_status credstore_checkbook_reveal(credstore *store,
                                                          const credstore_call *call,
                                                          const char *id, uint32_t field,
                                                          credstore_secret **out,
                                                          credstore_error *err);

/* Lists the tenant's credentials. page may be NULL: the first 20. E_INVALID: limit, cursor or
 * filter. E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_checkbook_list(credstore *store,
                                                        const credstore_call *call,
                                                        const credstore_page *page,
                                                        const credstore_checkbook_page **out,
                                                        credstore_error *err);

/* Removes the credentials: from the moment that this returns it is absent everywhere. The id is
   never used again, and its secrets go when its history does. E_NOT_FOUND, E_FORBIDDEN, E_REVISION,
   E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_checkbook_remove(credstore *store,
                                                          const credstore_call *call,
                                                          const char *id, credstore_error *err);

/* The record's revisions, newest first: those before `before` (0 = all), at most limit (1..100).
   The page has no cursors: go on with the last item's revision while has_next_page. One revision
   alone: get with credstore_call.at_revision. E_NOT_FOUND, E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_checkbook_history(
    credstore *store, const credstore_call *call, const char *id, uint64_t before, uint32_t limit,
    const credstore_checkbook_page **out, credstore_error *err);

/* Makes a new revision with the values of an earlier one, as an update that sets and clears them
   would. out may be NULL. E_NOT_FOUND: no record, or history no longer has the revision. E_INVALID:
   a value that would not be taken today. Errors as for update. */
CREDSTORE_API credstore_status credstore_checkbook_restore(credstore *store,
                                                           const credstore_call *call,
                                                           const char *id, uint64_t revision,
                                                           const credstore_checkbook **out,
                                                           credstore_error *err);

/* Replaces the secret `field` by *fresh (op SET). The old one is kept for grace_s seconds (0 = not
   at all, at most ten years). out may be NULL. Errors as for update. */
CREDSTORE_API credstore_status
credstore_checkbook_roll(credstore *store, const credstore_call *call, const char *id,
                         uint32_t field, const credstore_secret_text *fresh, uint32_t grace_s,
                         const credstore_checkbook **out, credstore_error *err);

#ifdef __cplusplus
}
#endif
#endif
