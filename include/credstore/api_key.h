/* SPDX-License-Identifier: MIT
 *
 * An API key that the service issued. Source: "Update an API key", PATCH /apikeys/{id}.
 * The record's id is unique in the store, 1..255 of [A-Za-z0-9._~-]; ids made here are KSUIDs. Its
 * tenant is the account. Only an administrator who is a user may change API keys; an API key never
 * may.
 */
#ifndef CREDSTORE_API_KEY_H
#define CREDSTORE_API_KEY_H

#include "../credstore.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CREDSTORE_KIND_API_KEY = 4 };

enum {
    CREDSTORE_API_KEY_DESCRIPTION = 1,
    CREDSTORE_API_KEY_EXPIRES_AT = 2,
    CREDSTORE_API_KEY_PERMISSIONS = 3
};

typedef struct credstore_api_key_patch {
    uint32_t struct_size, reserved;
    credstore_text description; /* at most 2000 characters; cannot be null */
    credstore_time expires_at;  /* in the future; CLEAR = never */
    credstore_strings
        permissions; /* ids of the store's catalogue, in any order, duplicates collapse: at most
                        65536 with them; those that are added must be held by the actor */
} credstore_api_key_patch;

typedef struct credstore_api_key {
    uint32_t struct_size, reserved;
    uint64_t revision;
    const char *id, *description;
    const char *const *permissions; /* ids in catalogue order; NULL if none */
    size_t permission_count;
    const char *last_four; /* NULL: the record has no token */
    int64_t expires_at;    /* 0 = never */
    int64_t created_at, updated_at;
    int64_t last_used_at; /* 0 = never */
} credstore_api_key;

typedef struct credstore_api_key_origin {
    uint32_t struct_size, reserved;
    const char *id;                 /* NULL = made here */
    int64_t created_at, updated_at; /* 0 = now */
    int64_t last_used_at;           /* 0 = never */
    const uint8_t *token_sha256; /* a key that the customer already holds: SHA-256 of its text, 32
                                    bytes, or NULL */
    const char
        *last_four; /* of that key, to be shown; at most 4 visible ASCII characters, or NULL */
} credstore_api_key_origin;

/* credstore.h, lists. Free the page with credstore_free(); its items and views go with it. */
typedef struct credstore_api_key_item {
    const char *id;
    const credstore_api_key *view; /* NULL: cannot be read, see status */
    int32_t status;
    uint32_t reserved;
} credstore_api_key_item;

typedef struct credstore_api_key_page {
    uint32_t struct_size, has_next_page, has_prev_page, reserved;
    const char *start_cursor, *end_cursor;
    const credstore_api_key_item *items;
    size_t count;
} credstore_api_key_page;

/* Creates the record. The patch must set description and permissions. origin may be NULL, out may
   be NULL. E_EXISTS: the id is taken. E_FORBIDDEN: also, a permission that the actor does not hold.
   E_FULL. */
CREDSTORE_API credstore_status credstore_api_key_create(
    credstore *store, const credstore_call *call, const credstore_api_key_origin *origin,
    const credstore_api_key_patch *patch, const credstore_api_key **out, credstore_error *err);

/* Reads. E_NOT_FOUND, E_FORBIDDEN. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_api_key_get(credstore *store, const credstore_call *call,
                                                     const char *id, const credstore_api_key **out,
                                                     credstore_error *err);

/* Updates what the patch sets. A patch that changes nothing succeeds and moves nothing. out may be
   NULL. E_NOT_FOUND, E_FORBIDDEN (also, a permission that the actor does not hold), E_REVISION,
   E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_api_key_update(credstore *store,
                                                        const credstore_call *call, const char *id,
                                                        const credstore_api_key_patch *patch,
                                                        const credstore_api_key **out,
                                                        credstore_error *err);

/* Lists the account's keys. page may be NULL: the first 20. E_INVALID: limit, cursor or filter.
 * E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_api_key_list(credstore *store, const credstore_call *call,
                                                      const credstore_page *page,
                                                      const credstore_api_key_page **out,
                                                      credstore_error *err);

/* Removes the key: from the moment that this returns it is absent everywhere. The id is never used
   again, and its secrets go when its history does. E_NOT_FOUND, E_FORBIDDEN, E_REVISION,
   E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_api_key_remove(credstore *store,
                                                        const credstore_call *call, const char *id,
                                                        credstore_error *err);

/* Creates a record with a new key, which is in *key and nowhere else: free it with
   credstore_secret_free(). Its layout is <prefix>_<KSUID><43 base62><6 base62 of CRC-32>; prefix
   is 1..32 of [a-z0-9_], no _ at either end, NULL = "key". The store keeps its SHA-256. out may be
   NULL. Errors as for create. */
CREDSTORE_API credstore_status credstore_api_key_issue(credstore *store, const credstore_call *call,
                                                       const char *prefix,
                                                       const credstore_api_key_patch *patch,
                                                       credstore_secret **key,
                                                       const credstore_api_key **out,
                                                       credstore_error *err);

/* Gives the record a new key with the same id. The old one stays good for grace_s seconds (0 =
   none, at most ten years), never past the record's expiry. The new key is all that the record's
   permissions let it be: E_FORBIDDEN also if the actor, unless SYSTEM or SUPER, does not hold each
   of them. E_UNSUPPORTED: the record's id is not a KSUID. Errors as for update. */
CREDSTORE_API credstore_status credstore_api_key_roll(credstore *store, const credstore_call *call,
                                                      const char *id, uint32_t grace_s,
                                                      credstore_secret **key,
                                                      const credstore_api_key **out,
                                                      credstore_error *err);

/* Tells whose a presented key is: fills *out (its whole 600 bytes) on OK alone. len may be
   CREDSTORE_NTS. Looks the record up each time: what a change withdrew is refused from the moment
   that the change returned. No allocation, no shared lock. E_UNAUTHENTICATED: not a key of this
   store; unknown and wrong ones cost the same. E_EXPIRED and E_REVOKED: the right key, but its time
   is over, or it was removed. */
CREDSTORE_API credstore_status credstore_api_key_verify(credstore *store, const char *token,
                                                        size_t len, credstore_actor *out,
                                                        credstore_error *err);

/* The record's revisions, newest first: those before `before` (0 = all), at most limit (1..100).
   The page has no cursors: go on with the last item's revision while has_next_page. One revision
   alone: get with credstore_call.at_revision. The time of last use is not of a revision: it is 0 in
   the views. E_NOT_FOUND, E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_api_key_history(credstore *store,
                                                         const credstore_call *call, const char *id,
                                                         uint64_t before, uint32_t limit,
                                                         const credstore_api_key_page **out,
                                                         credstore_error *err);

/* Makes a new revision with the values of an earlier one, as an update that sets and clears them
   would. What was issued stays as it is: no old token comes back. out may be NULL. E_NOT_FOUND: no
   record, or history no longer has the revision. E_INVALID: a value that would not be taken today.
   Errors as for update. */
CREDSTORE_API credstore_status credstore_api_key_restore(credstore *store,
                                                         const credstore_call *call, const char *id,
                                                         uint64_t revision,
                                                         const credstore_api_key **out,
                                                         credstore_error *err);

#ifdef __cplusplus
}
#endif
#endif
