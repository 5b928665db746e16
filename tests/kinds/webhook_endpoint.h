/* SPDX-License-Identifier: MIT
 *
 * A fifth kind, for the tests alone: where a service sends its events, and the secret that signs
 * them. One field of each type.
 */
#ifndef TESTS_WEBHOOK_ENDPOINT_H
#define TESTS_WEBHOOK_ENDPOINT_H

#include "credstore.h"

enum { CREDSTORE_KIND_WEBHOOK_ENDPOINT = 200 };

enum {
    CREDSTORE_WEBHOOK_ENDPOINT_URL = 1,
    CREDSTORE_WEBHOOK_ENDPOINT_SIGNING_SECRET = 2, /* the only secret one */
    CREDSTORE_WEBHOOK_ENDPOINT_ENABLED = 3,
    CREDSTORE_WEBHOOK_ENDPOINT_QUIET_UNTIL = 4,
    CREDSTORE_WEBHOOK_ENDPOINT_PERMISSIONS = 5
};

typedef struct credstore_webhook_endpoint_patch {
    uint32_t struct_size, reserved;
    credstore_text url;
    credstore_secret_text signing_secret; /* CLEAR = unsigned */
    credstore_flag enabled;
    credstore_time quiet_until;    /* CLEAR = now */
    credstore_strings permissions; /* of who calls back; CLEAR = none */
} credstore_webhook_endpoint_patch;

typedef struct credstore_webhook_endpoint {
    uint32_t struct_size, enabled, has_signing_secret, reserved;
    uint64_t revision;
    const char *id, *url;
    const char *const *permissions;
    size_t permission_count;
    int64_t quiet_until, signing_secret_set_at, created_at, updated_at;
} credstore_webhook_endpoint;

typedef struct credstore_webhook_endpoint_origin {
    uint32_t struct_size, reserved;
    const char *id;
    int64_t created_at, updated_at;
} credstore_webhook_endpoint_origin;

credstore_status credstore_webhook_endpoint_create(credstore *store, const credstore_call *call,
                                                   const credstore_webhook_endpoint_origin *origin,
                                                   const credstore_webhook_endpoint_patch *patch,
                                                   const credstore_webhook_endpoint **out,
                                                   credstore_error *err);
credstore_status credstore_webhook_endpoint_get(credstore *store, const credstore_call *call,
                                                const char *id,
                                                const credstore_webhook_endpoint **out,
                                                credstore_error *err);
credstore_status credstore_webhook_endpoint_update(credstore *store, const credstore_call *call,
                                                   const char *id,
                                                   const credstore_webhook_endpoint_patch *patch,
                                                   const credstore_webhook_endpoint **out,
                                                   credstore_error *err);
credstore_status credstore_webhook_endpoint_reveal(credstore *store, const credstore_call *call,
                                                   const char *id, uint32_t field,
                                                   credstore_secret **out, credstore_error *err);

#endif
