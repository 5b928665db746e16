/* SPDX-License-Identifier: MIT
 *
 * API keys that the service issued.
 */
#include "credstore/api_key.h"

#include <string.h>

#include "history.h"
#include "id.h"
#include "list.h"
#include "text.h"
#include "update.h"
#include "validate.h"
#include "verify.h"

typedef credstore_api_key_patch patch_t;
typedef credstore_api_key view_t;
typedef credstore_api_key_origin origin_t;

enum {
    TOKEN_DIGEST = 80,
    TOKEN_PREVIOUS = 81,
    TOKEN_PREVIOUS_UNTIL = 82,
    TOKEN_PREFIX = 83,
    TOKEN_LAST_FOUR = 84,
    EXPIRED = 85
};

static const cs_field fields[] = {
    {.name = "description",
     .id = CREDSTORE_API_KEY_DESCRIPTION,
     .type = CS_TEXT,
     .flags = CS_REQUIRED | CS_IN_BODY,
     .in = offsetof(patch_t, description),
     .view = offsetof(view_t, description),
     .max_bytes = 4 * 2000,
     .max_chars = 2000,
     .may_be_empty = true},
    {.name = "expiresAt",
     .id = CREDSTORE_API_KEY_EXPIRES_AT,
     .type = CS_TIME,
     .flags = CS_NULLABLE | CS_EMPTY_IS_NULL | CS_FUTURE,
     .in = offsetof(patch_t, expires_at),
     .view = offsetof(view_t, expires_at)},
    {.name = "flatPermissionsList",
     .id = CREDSTORE_API_KEY_PERMISSIONS,
     .type = CS_PERMISSIONS,
     .flags = CS_REQUIRED | CS_IN_BODY,
     .in = offsetof(patch_t, permissions),
     .view = offsetof(view_t, permissions),
     .count = offsetof(view_t, permission_count)},
    {.name = "token_sha256",
     .id = TOKEN_DIGEST,
     .type = CS_DIGEST,
     .flags = CS_FROM_ORIGIN | CS_OUTLIVES,
     .in = offsetof(origin_t, token_sha256)},
    {.name = "previous",
     .id = TOKEN_PREVIOUS,
     .type = CS_DIGEST,
     .flags = CS_INTERNAL | CS_OUTLIVES},
    {.name = "previous_until",
     .id = TOKEN_PREVIOUS_UNTIL,
     .type = CS_TIME,
     .flags = CS_INTERNAL | CS_OUTLIVES},
    {.name = "prefix", .id = TOKEN_PREFIX, .type = CS_TEXT, .flags = CS_INTERNAL},
    {.name = "last_four",
     .id = TOKEN_LAST_FOUR,
     .type = CS_TEXT,
     .flags = CS_FROM_ORIGIN,
     .in = offsetof(origin_t, last_four),
     .view = offsetof(view_t, last_four),
     .max_bytes = 4,
     .check = cs_check_visible},
    {.name = "expired", .id = EXPIRED, .type = CS_FLAG, .flags = CS_INTERNAL},
};

static const cs_member members[] = {
    {.name = "id", .at = offsetof(view_t, id), .show = CS_SHOW_TEXT},
    {.name = "description", .at = offsetof(view_t, description), .show = CS_SHOW_TEXT},
    {.name = "flatPermissionsList",
     .at = offsetof(view_t, permissions),
     .count = offsetof(view_t, permission_count),
     .show = CS_SHOW_STRINGS},
    {.name = "expiresAt", .at = offsetof(view_t, expires_at), .show = CS_SHOW_MILLIS},
    {.name = "createdAt", .at = offsetof(view_t, created_at), .show = CS_SHOW_MILLIS},
    {.name = "lastUsedAt", .at = offsetof(view_t, last_used_at), .show = CS_SHOW_MILLIS},
    {.name = "lastFour", .at = offsetof(view_t, last_four), .show = CS_SHOW_TEXT},
};

static bool make_id(int64_t now, const uint8_t *random, char *out)
{
    cs_ksuid_make(now, random, out);
    return true;
}

/* The document's words. Where it has none, the error's own line is said. */
static const char *error_text(credstore_status status, const char *field)
{
    switch (status) {
    case CREDSTORE_E_INVALID:
        return strcmp(field, "flatPermissionsList") == 0 ? "Invalid permissions provided" : NULL;
    case CREDSTORE_E_UNAUTHENTICATED:
    case CREDSTORE_E_EXPIRED:
    case CREDSTORE_E_REVOKED:
        return "User not authenticated";
    case CREDSTORE_E_FORBIDDEN:
        return "User does not have the required permissions";
    case CREDSTORE_E_NOT_FOUND:
        return "API key not found";
    case CREDSTORE_E_TOO_LARGE:
    case CREDSTORE_E_UNSUPPORTED:
    case CREDSTORE_E_INACTIVE:
    case CREDSTORE_E_EXISTS:
    case CREDSTORE_E_CONFLICT:
    case CREDSTORE_E_REVISION:
    case CREDSTORE_E_IDEMPOTENCY:
    case CREDSTORE_E_BUSY:
    case CREDSTORE_E_FULL:
        return NULL;
    default:
        return "Internal server error";
    }
}

_Static_assert(sizeof(patch_t) <= CS_PATCH_MAX && sizeof(origin_t) <= CS_ORIGIN_MAX &&
                   sizeof fields / sizeof *fields <= CS_FIELDS_MAX,
               "fits what the core has room for");

const cs_kind cs_kind_api_key = {
    .id = CREDSTORE_KIND_API_KEY,
    .scope = CS_SCOPE_STORE,
    .actor_type = CREDSTORE_ACTOR_API_KEY,
    .flags = CS_HAS_USAGE,
    .name = "api_key",
    .id_name = "id",
    .tenant_name = "x-account-id",
    .fields = fields,
    .field_count = sizeof fields / sizeof *fields,
    .members = members,
    .member_count = sizeof members / sizeof *members,
    .patch_size = sizeof(patch_t),
    .view = {.size = sizeof(view_t),
             .revision = offsetof(view_t, revision),
             .id = offsetof(view_t, id),
             .created_at = offsetof(view_t, created_at),
             .updated_at = offsetof(view_t, updated_at),
             .last_used_at = offsetof(view_t, last_used_at)},
    .origin = {.size = sizeof(origin_t),
               .id = offsetof(origin_t, id),
               .created_at = offsetof(origin_t, created_at),
               .updated_at = offsetof(origin_t, updated_at),
               .last_used_at = offsetof(origin_t, last_used_at)},
    .token = {.digest = TOKEN_DIGEST,
              .previous = TOKEN_PREVIOUS,
              .previous_until = TOKEN_PREVIOUS_UNTIL,
              .prefix = TOKEN_PREFIX,
              .last_four = TOKEN_LAST_FOUR,
              .actor_type = CREDSTORE_ACTOR_API_KEY,
              .member = "key",
              .fallback_prefix = "key"},
    .expires_field = CREDSTORE_API_KEY_EXPIRES_AT,
    .permissions_field = CREDSTORE_API_KEY_PERMISSIONS,
    .expired_field = EXPIRED,
    .rules =
        {[CS_CHANGE] = {CS_MAY_ADMIN | CS_USERS_ONLY, NULL}, [CS_READ] = {CS_MAY_MEMBER, NULL}},
    .id_valid = cs_id_text,
    .path_valid = cs_id_text,
    .make_id = make_id,
    .error_text = error_text,
    .update_body = "{\"success\":true}",
};

credstore_status credstore_api_key_create(credstore *store, const credstore_call *call,
                                          const origin_t *origin, const patch_t *patch,
                                          const view_t **out, credstore_error *err)
{
    const cs_names names = {0};
    const cs_request request = {.names = &names, .patch = patch, .origin = origin};

    return cs_create(store, &cs_kind_api_key, call, &request, out, err);
}

credstore_status credstore_api_key_get(credstore *store, const credstore_call *call, const char *id,
                                       const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_get(store, &cs_kind_api_key, call, &names, NULL, out, err);
}

credstore_status credstore_api_key_update(credstore *store, const credstore_call *call,
                                          const char *id, const patch_t *patch, const view_t **out,
                                          credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names, .patch = patch};

    return cs_update(store, &cs_kind_api_key, call, &request, out, err);
}

credstore_status credstore_api_key_list(credstore *store, const credstore_call *call,
                                        const credstore_page *page,
                                        const credstore_api_key_page **out, credstore_error *err)
{
    const cs_names names = {0};

    return cs_list(store, &cs_kind_api_key, call, &names, page, NULL, out, err);
}

credstore_status credstore_api_key_remove(credstore *store, const credstore_call *call,
                                          const char *id, credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names};

    return cs_remove(store, &cs_kind_api_key, call, &request, err);
}

credstore_status credstore_api_key_issue(credstore *store, const credstore_call *call,
                                         const char *prefix, const patch_t *patch,
                                         credstore_secret **key, const view_t **out,
                                         credstore_error *err)
{
    const cs_names names = {0};
    const cs_token_wish wish = {.prefix = prefix, .out = key};
    const cs_request request = {.names = &names, .patch = patch, .token = &wish};

    return cs_create(store, &cs_kind_api_key, call, &request, out, err);
}

credstore_status credstore_api_key_roll(credstore *store, const credstore_call *call,
                                        const char *id, uint32_t grace_s, credstore_secret **key,
                                        const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_token_wish wish = {.grace_s = grace_s, .out = key};
    const cs_request request = {.names = &names, .token = &wish};

    return cs_roll(store, &cs_kind_api_key, call, &request, out, err);
}

credstore_status credstore_api_key_verify(credstore *store, const char *token, size_t len,
                                          credstore_actor *out, credstore_error *err)
{
    return cs_verify(store, &cs_kind_api_key, token, len, out, err);
}

credstore_status credstore_api_key_history(credstore *store, const credstore_call *call,
                                           const char *id, uint64_t before, uint32_t limit,
                                           const credstore_api_key_page **out, credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_history(store, &cs_kind_api_key, call, &names, before, limit, out, err);
}

credstore_status credstore_api_key_restore(credstore *store, const credstore_call *call,
                                           const char *id, uint64_t revision, const view_t **out,
                                           credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names, .source_revision = revision};

    return cs_restore(store, &cs_kind_api_key, call, &request, out, err);
}
