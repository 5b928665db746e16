/* SPDX-License-Identifier: MIT
 *
 * A fifth kind, in its one file.
 */
#include "webhook_endpoint.h"

#include "id.h"
#include "merge.h"
#include "text.h"
#include "update.h"
#include "validate.h"

typedef credstore_webhook_endpoint_patch patch_t;
typedef credstore_webhook_endpoint view_t;
typedef credstore_webhook_endpoint_origin origin_t;

extern const cs_kind cs_kind_webhook_endpoint;

static const cs_field fields[] = {
    {.name = "url",
     .id = CREDSTORE_WEBHOOK_ENDPOINT_URL,
     .type = CS_TEXT,
     .flags = CS_REQUIRED,
     .in = offsetof(patch_t, url),
     .view = offsetof(view_t, url),
     .max_bytes = 2048,
     .check = cs_check_base_url},
    {.name = "signing_secret",
     .id = CREDSTORE_WEBHOOK_ENDPOINT_SIGNING_SECRET,
     .type = CS_SECRET,
     .flags = CS_NULLABLE,
     .in = offsetof(patch_t, signing_secret),
     .has = offsetof(view_t, has_signing_secret),
     .set_at = offsetof(view_t, signing_secret_set_at),
     .max_bytes = 4096,
     .check = cs_check_printable},
    {.name = "enabled",
     .id = CREDSTORE_WEBHOOK_ENDPOINT_ENABLED,
     .type = CS_FLAG,
     .in = offsetof(patch_t, enabled),
     .view = offsetof(view_t, enabled)},
    {.name = "quiet_until",
     .id = CREDSTORE_WEBHOOK_ENDPOINT_QUIET_UNTIL,
     .type = CS_TIME,
     .flags = CS_NULLABLE,
     .in = offsetof(patch_t, quiet_until),
     .view = offsetof(view_t, quiet_until)},
    {.name = "permissions",
     .id = CREDSTORE_WEBHOOK_ENDPOINT_PERMISSIONS,
     .type = CS_PERMISSIONS,
     .flags = CS_NULLABLE,
     .in = offsetof(patch_t, permissions),
     .view = offsetof(view_t, permissions),
     .count = offsetof(view_t, permission_count)},
};

static const cs_member members[] = {
    {.name = "id", .at = offsetof(view_t, id), .show = CS_SHOW_TEXT},
    {.name = "url", .at = offsetof(view_t, url), .show = CS_SHOW_TEXT},
    {.name = "signed", .at = offsetof(view_t, has_signing_secret), .show = CS_SHOW_FLAG},
    {.name = "enabled", .at = offsetof(view_t, enabled), .show = CS_SHOW_FLAG},
    {.name = "quiet_until",
     .at = offsetof(view_t, quiet_until),
     .show = CS_SHOW_SECONDS,
     .omit_null = true},
    {.name = "permissions",
     .at = offsetof(view_t, permissions),
     .count = offsetof(view_t, permission_count),
     .show = CS_SHOW_STRINGS},
    {.name = "created_at", .at = offsetof(view_t, created_at), .show = CS_SHOW_MILLIS},
    {.name = "updated_at", .at = offsetof(view_t, updated_at), .show = CS_SHOW_MILLIS},
};

static bool make_id(int64_t now, const uint8_t *random, char *out)
{
    cs_ksuid_make(now, random, out);
    return true;
}

static credstore_status settle(cs_settle *s, credstore_error *err)
{
    (void)err;
    if (s->old == NULL && !cs_settle_value(s, CREDSTORE_WEBHOOK_ENDPOINT_ENABLED)->present)
        cs_settle_number(s, CREDSTORE_WEBHOOK_ENDPOINT_ENABLED, true, 1);
    return CREDSTORE_OK;
}

const cs_kind cs_kind_webhook_endpoint = {
    .id = CREDSTORE_KIND_WEBHOOK_ENDPOINT,
    .scope = CS_SCOPE_OWNER,
    .name = "webhook_endpoint",
    .id_name = "endpoint_id",
    .tenant_name = "tenant",
    .fields = fields,
    .field_count = sizeof fields / sizeof *fields,
    .members = members,
    .member_count = sizeof members / sizeof *members,
    .patch_size = sizeof(patch_t),
    .view = {.size = sizeof(view_t),
             .revision = offsetof(view_t, revision),
             .id = offsetof(view_t, id),
             .created_at = offsetof(view_t, created_at),
             .updated_at = offsetof(view_t, updated_at)},
    .origin = {.size = sizeof(origin_t),
               .id = offsetof(origin_t, id),
               .created_at = offsetof(origin_t, created_at),
               .updated_at = offsetof(origin_t, updated_at)},
    .permissions_field = CREDSTORE_WEBHOOK_ENDPOINT_PERMISSIONS,
    .rules = {[CS_CHANGE] = {CS_MAY_ADMIN, NULL},
              [CS_READ] = {CS_MAY_MEMBER, NULL},
              [CS_REVEAL] = {CS_MAY_SYSTEM, "webhooks:reveal"}},
    .id_valid = cs_id_text,
    .path_valid = cs_id_text,
    .make_id = make_id,
    .settle = settle,
};

credstore_status credstore_webhook_endpoint_create(credstore *store, const credstore_call *call,
                                                   const origin_t *origin, const patch_t *patch,
                                                   const view_t **out, credstore_error *err)
{
    const cs_names names = {0};
    const cs_request request = {.names = &names, .patch = patch, .origin = origin};

    return cs_create(store, &cs_kind_webhook_endpoint, call, &request, out, err);
}

credstore_status credstore_webhook_endpoint_get(credstore *store, const credstore_call *call,
                                                const char *id, const view_t **out,
                                                credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_get(store, &cs_kind_webhook_endpoint, call, &names, NULL, out, err);
}

credstore_status credstore_webhook_endpoint_update(credstore *store, const credstore_call *call,
                                                   const char *id, const patch_t *patch,
                                                   const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names, .patch = patch};

    return cs_update(store, &cs_kind_webhook_endpoint, call, &request, out, err);
}

credstore_status credstore_webhook_endpoint_reveal(credstore *store, const credstore_call *call,
                                                   const char *id, uint32_t field,
                                                   credstore_secret **out, credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_reveal(store, &cs_kind_webhook_endpoint, call, &names, field, out, err);
}
