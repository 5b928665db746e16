/* SPDX-License-Identifier: MIT
 *
 * The Stripe configuration of a project: three keys of the test mode, three of the live mode.
 * Source: "Update Stripe Configuration", PUT /api/v1/payments/stripe/projects/{project_id}/config.
 * Records are keyed by tenant and project_id, a UUID (either case; kept and shown in lower case).
 */
#ifndef CREDSTORE_STRIPE_H
#define CREDSTORE_STRIPE_H

#include "../credstore.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CREDSTORE_KIND_STRIPE = 2 };

enum { /* fields, as credstore_stripe_reveal() takes the secret ones */
       CREDSTORE_STRIPE_TEST_SECRET_KEY = 1, /* secret */
       CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY = 2,
       CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET = 3, /* secret */
       CREDSTORE_STRIPE_LIVE_SECRET_KEY = 4,     /* secret */
       CREDSTORE_STRIPE_LIVE_PUBLISHABLE_KEY = 5,
       CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET = 6 /* secret */
};

/* All can be null (CLEAR). 1..4096 bytes, no control characters. A key whose prefix names the other
   mode or another type of key is E_INVALID (sk_ rk_ secret, pk_ publishable, whsec_ webhook;
   sk_org_ fits both modes), and so is the stored value's own mask. */
typedef struct credstore_stripe_patch {
    uint32_t struct_size, reserved;
    credstore_secret_text test_secret_key;
    credstore_text test_publishable_key;
    credstore_secret_text test_webhook_secret;
    credstore_secret_text live_secret_key;
    credstore_text live_publishable_key;
    credstore_secret_text live_webhook_secret;
} credstore_stripe_patch;

/* NULL text = null. Masks are prefix, "..." and at most the last 4 characters ("sk_test_...4242"),
   never more than a quarter of what follows the prefix. Publishable keys are public, so they are
   here in clear. */
typedef struct credstore_stripe {
    uint32_t struct_size, is_active, has_test_credentials, has_live_credentials;
    uint64_t revision;
    const char *id, *project_id; /* UUIDs; id is the configuration's own */
    const char *test_publishable_key, *live_publishable_key;
    const char *test_secret_key_masked, *test_publishable_key_masked, *test_webhook_secret_masked;
    const char *live_secret_key_masked, *live_publishable_key_masked, *live_webhook_secret_masked;
    int64_t created_at, updated_at;                 /* updated_at 0 until the first change */
    int64_t test_configured_at, live_configured_at; /* last set or clear of a key of the mode */
} credstore_stripe;

typedef struct credstore_stripe_origin {
    uint32_t struct_size, reserved;
    const char *id;                 /* UUID of the configuration; NULL = made here */
    int64_t created_at, updated_at; /* 0 = now, and 0 = not yet changed */
} credstore_stripe_origin;

/* credstore.h, lists. Free the page with credstore_free(); its items and views go with it. */
typedef struct credstore_stripe_item {
    const char *id;
    const credstore_stripe *view; /* NULL: cannot be read, see status */
    int32_t status;
    uint32_t reserved;
} credstore_stripe_item;

typedef struct credstore_stripe_page {
    uint32_t struct_size, has_next_page, has_prev_page, reserved;
    const char *start_cursor, *end_cursor;
    const credstore_stripe_item *items;
    size_t count;
} credstore_stripe_page;

/* Creates; an empty patch is allowed. origin may be NULL, out may be NULL.
   E_EXISTS: the project has one, or had. E_FORBIDDEN, E_FULL. */
CREDSTORE_API credstore_status credstore_stripe_create(credstore *store, const credstore_call *call,
                                                       const char *project_id,
                                                       const credstore_stripe_origin *origin,
                                                       const credstore_stripe_patch *patch,
                                                       const credstore_stripe **out,
                                                       credstore_error *err);

/* Reads. E_NOT_FOUND, E_FORBIDDEN. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_stripe_get(credstore *store, const credstore_call *call,
                                                    const char *project_id,
                                                    const credstore_stripe **out,
                                                    credstore_error *err);

/* Updates what the patch sets, or creates the record if there is none (unless MUST_EXIST). Setting
   a value switches an inactive configuration on; an empty patch does not. out may be NULL.
   E_EXISTS: the project had one that was removed. E_FORBIDDEN, E_REVISION, E_CONFLICT, E_FULL,
   E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_stripe_update(credstore *store, const credstore_call *call,
                                                       const char *project_id,
                                                       const credstore_stripe_patch *patch,
                                                       const credstore_stripe **out,
                                                       credstore_error *err);

/* Opens the secret `field`. E_NOT_FOUND: no record, or the field is null. E_FORBIDDEN.
   E_KEY_UNAVAILABLE: the root key given at open has no REVEAL right. */
CREDSTORE_API credstore_status credstore_stripe_reveal(credstore *store, const credstore_call *call,
                                                       const char *project_id, uint32_t field,
                                                       credstore_secret **out,
                                                       credstore_error *err);

/* Lists the tenant's configurations. page may be NULL: the first 20. E_INVALID: limit, cursor or
 * filter. E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_stripe_list(credstore *store, const credstore_call *call,
                                                     const credstore_page *page,
                                                     const credstore_stripe_page **out,
                                                     credstore_error *err);

/* Removes the configuration: from the moment that this returns it is absent everywhere. The id is
   never used again, and its secrets go when its history does. E_NOT_FOUND, E_FORBIDDEN, E_REVISION,
   E_CONFLICT, E_FULL, E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_stripe_remove(credstore *store, const credstore_call *call,
                                                       const char *project_id,
                                                       credstore_error *err);

/* Switches the configuration off, and on again; its keys stay. Off already, or on already, is no
   change. out may be NULL. E_NOT_FOUND, E_FORBIDDEN, E_REVISION, E_CONFLICT, E_FULL,
   E_COMMIT_UNKNOWN. */
CREDSTORE_API credstore_status credstore_stripe_deactivate(credstore *store,
                                                           const credstore_call *call,
                                                           const char *project_id,
                                                           const credstore_stripe **out,
                                                           credstore_error *err);
CREDSTORE_API credstore_status credstore_stripe_reactivate(credstore *store,
                                                           const credstore_call *call,
                                                           const char *project_id,
                                                           const credstore_stripe **out,
                                                           credstore_error *err);

/* The record's revisions, newest first: those before `before` (0 = all), at most limit (1..100).
   The page has no cursors: go on with the last item's revision while has_next_page. One revision
   alone: get with credstore_call.at_revision. E_NOT_FOUND, E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_stripe_history(
    credstore *store, const credstore_call *call, const char *project_id, uint64_t before,
    uint32_t limit, const credstore_stripe_page **out, credstore_error *err);

/* Makes a new revision with the values of an earlier one, as an update that sets and clears them
   would, but switched on or off as it was then. out may be NULL. E_NOT_FOUND: no record, or history
   no longer has the revision. E_INVALID: a value that would not be taken today. Errors as for
   update. */
CREDSTORE_API credstore_status credstore_stripe_restore(credstore *store,
                                                        const credstore_call *call,
                                                        const char *project_id, uint64_t revision,
                                                        const credstore_stripe **out,
                                                        credstore_error *err);

/* Replaces the secret `field` by *fresh (op SET). The old one stays in use for webhook verification
   for grace_s seconds (0 = not at all, at most ten years). out may be NULL. Errors as for update.
 */
CREDSTORE_API credstore_status credstore_stripe_roll(credstore *store, const credstore_call *call,
                                                     const char *project_id, uint32_t field,
                                                     const credstore_secret_text *fresh,
                                                     uint32_t grace_s, const credstore_stripe **out,
                                                     credstore_error *err);

/* Proves that a webhook came from Stripe: header is the Stripe-Signature value ("t=...,v1=...",
   several v1 allowed), body the bytes received (docs.stripe.com/webhooks#verify-manually:
   HMAC-SHA256 of "t.body" under the secret's text, hexadecimal). Takes the current secret and, in
   its grace, the one before; compares in constant time. tolerance_s: how far t may be from now; 0 =
   300. The actor needs the right to reveal. E_UNAUTHENTICATED: no signature fits. E_EXPIRED: a
   signature fits, and is too old or ahead. E_INVALID: malformed header. E_NOT_FOUND: no record, or
   no such secret. E_INACTIVE: switched off. E_FORBIDDEN. */
CREDSTORE_API credstore_status credstore_stripe_webhook_verify(
    credstore *store, const credstore_call *call, const char *project_id, uint32_t field,
    const credstore_slice *header, const credstore_slice *body, uint32_t tolerance_s,
    credstore_error *err);

#ifdef __cplusplus
}
#endif
#endif
