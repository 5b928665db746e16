/* SPDX-License-Identifier: MIT
 *
 * Service-account credentials.
 */
#include "credstore/service_credential.h"

#include "error.h"
#include "history.h"
#include "id.h"
#include "label.h"
#include "list.h"
#include "merge.h"
#include "text.h"
#include "update.h"
#include "validate.h"
#include "verify.h"

typedef credstore_service_credential_patch patch_t;
typedef credstore_service_credential view_t;
typedef credstore_service_credential_origin origin_t;

enum {
    CLIENT_ID = 64,
    TOKEN_DIGEST = 80,
    TOKEN_PREVIOUS = 81,
    TOKEN_PREVIOUS_UNTIL = 82,
    TOKEN_PREFIX = 83,
    TOKEN_LAST_FOUR = 84,
    TOKEN_ID = 85
};

static const cs_field fields[] = {
    {.name = "name",
     .id = CREDSTORE_SERVICE_CREDENTIAL_NAME,
     .type = CS_TEXT,
     .flags = CS_REQUIRED,
     .in = offsetof(patch_t, name),
     .view = offsetof(view_t, name),
     .max_bytes = 4 * 255,
     .max_chars = 255,
     .check = cs_check_printable},
    {.name = "description",
     .id = CREDSTORE_SERVICE_CREDENTIAL_DESCRIPTION,
     .type = CS_TEXT,
     .flags = CS_NULLABLE,
     .in = offsetof(patch_t, description),
     .view = offsetof(view_t, description),
     .max_bytes = 4 * 500,
     .max_chars = 500,
     .may_be_empty = true},
    {.name = "client_id",
     .id = CLIENT_ID,
     .type = CS_TEXT,
     .flags = CS_FROM_ORIGIN,
     .in = offsetof(origin_t, client_id),
     .view = offsetof(view_t, client_id),
     .max_bytes = CS_ID_MAX,
     .check = cs_check_url_id},
    {.name = "digest", .id = TOKEN_DIGEST, .type = CS_DIGEST, .flags = CS_INTERNAL | CS_OUTLIVES},
    {.name = "previous",
     .id = TOKEN_PREVIOUS,
     .type = CS_DIGEST,
     .flags = CS_INTERNAL | CS_OUTLIVES},
    {.name = "previous_until",
     .id = TOKEN_PREVIOUS_UNTIL,
     .type = CS_TIME,
     .flags = CS_INTERNAL | CS_OUTLIVES},
    {.name = "prefix", .id = TOKEN_PREFIX, .type = CS_TEXT, .flags = CS_INTERNAL},
    {.name = "last_four", .id = TOKEN_LAST_FOUR, .type = CS_TEXT, .flags = CS_INTERNAL},
    {.name = "token_id", .id = TOKEN_ID, .type = CS_TEXT, .flags = CS_INTERNAL | CS_OUTLIVES},
};

static const cs_member members[] = {
    {.name = "id", .at = offsetof(view_t, id), .show = CS_SHOW_TEXT},
    {.name = "client_id", .at = offsetof(view_t, client_id), .show = CS_SHOW_TEXT},
    {.name = "created_at", .at = offsetof(view_t, created_at), .show = CS_SHOW_MILLIS},
    {.name = "name", .at = offsetof(view_t, name), .show = CS_SHOW_TEXT},
    {.name = "description",
     .at = offsetof(view_t, description),
     .show = CS_SHOW_TEXT,
     .omit_null = true},
    {.name = "last_used_at",
     .at = offsetof(view_t, last_used_at),
     .show = CS_SHOW_MILLIS,
     .omit_null = true},
    {.name = "permissions",
     .at = offsetof(view_t, permissions),
     .count = offsetof(view_t, permission_count),
     .show = CS_SHOW_GRANTS,
     .omit_null = true},
};

static bool make_id(int64_t now, const uint8_t *random, char *out)
{
    (void)now;
    return cs_nanoid_make(cs_nanoid_resource, sizeof cs_nanoid_resource - 1, random,
                          CS_NANOID_RANDOM, out, CS_RESOURCE_ID_LEN);
}

static credstore_status settle(cs_settle *s, credstore_error *err)
{
    if (s->old != NULL || cs_settle_value(s, CLIENT_ID)->present)
        return CREDSTORE_OK;
    if (!cs_nanoid_make(cs_nanoid_url, sizeof cs_nanoid_url - 1, s->random, CS_NANOID_RANDOM,
                        s->made[0], CS_CLIENT_ID_LEN))
        return cs_fail(err, CREDSTORE_E_ENTROPY, NULL, "The random source gave no id");
    cs_settle_text(s, CLIENT_ID, cs_bytes(s->made[0], CS_CLIENT_ID_LEN));
    return CREDSTORE_OK;
}

_Static_assert(sizeof(patch_t) <= CS_PATCH_MAX && sizeof(origin_t) <= CS_ORIGIN_MAX &&
                   sizeof fields / sizeof *fields <= CS_FIELDS_MAX,
               "fits what the core has room for");

const cs_kind cs_kind_service_credential = {
    .id = CREDSTORE_KIND_SERVICE_CREDENTIAL,
    .scope = CS_SCOPE_OWNER,
    .flags = CS_HAS_USAGE | CS_TENANT_IS_PATH | CS_REQUEST_UUID | CS_EXPAND,
    .name = "service_credential",
    .parent_name = "service_account_id",
    .id_name = "credential_id",
    .tenant_name = "organization_id",
    .fields = fields,
    .field_count = sizeof fields / sizeof *fields,
    .members = members,
    .member_count = sizeof members / sizeof *members,
    .patch_size = sizeof(patch_t),
    .view = {.size = sizeof(view_t),
             .revision = offsetof(view_t, revision),
             .id = offsetof(view_t, id),
             .tenant = offsetof(view_t, organization_id),
             .parent = offsetof(view_t, service_account_id),
             .created_at = offsetof(view_t, created_at),
             .updated_at = offsetof(view_t, updated_at),
             .last_used_at = offsetof(view_t, last_used_at),
             .grants = offsetof(view_t, permissions),
             .grant_count = offsetof(view_t, permission_count)},
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
              .id = TOKEN_ID,
              .actor_type = CREDSTORE_ACTOR_SERVICE,
              .member = "client_secret",
              .fallback_prefix = "secret"},
    .rules = {[CS_CHANGE] = {CS_MAY_ADMIN, "service_credentials:update"},
              [CS_READ] = {CS_MAY_MEMBER, NULL}},
    .id_valid = cs_url_id_text,
    .path_valid = cs_url_id_text,
    .make_id = make_id,
    .settle = settle,
};

credstore_status credstore_service_credential_create(credstore *store, const credstore_call *call,
                                                     const char *organization_id,
                                                     const char *service_account_id,
                                                     const origin_t *origin, const patch_t *patch,
                                                     const view_t **out, credstore_error *err)
{
    const cs_names names = {.tenant = organization_id, .parent = service_account_id};
    const cs_request request = {.names = &names, .patch = patch, .origin = origin};

    return cs_create(store, &cs_kind_service_credential, call, &request, out, err);
}

credstore_status credstore_service_credential_get(credstore *store, const credstore_call *call,
                                                  const char *organization_id,
                                                  const char *service_account_id,
                                                  const char *credential_id, const view_t **out,
                                                  credstore_error *err)
{
    const cs_names names = {
        .tenant = organization_id, .parent = service_account_id, .id = credential_id};

    return cs_get(store, &cs_kind_service_credential, call, &names, NULL, out, err);
}

credstore_status credstore_service_credential_update(credstore *store, const credstore_call *call,
                                                     const char *organization_id,
                                                     const char *service_account_id,
                                                     const char *credential_id,
                                                     const patch_t *patch, const view_t **out,
                                                     credstore_error *err)
{
    const cs_names names = {
        .tenant = organization_id, .parent = service_account_id, .id = credential_id};
    const cs_request request = {.names = &names, .patch = patch};

    return cs_update(store, &cs_kind_service_credential, call, &request, out, err);
}

credstore_status credstore_service_credential_list(credstore *store, const credstore_call *call,
                                                   const char *organization_id,
                                                   const char *service_account_id,
                                                   const credstore_page *page,
                                                   const credstore_service_credential_page **out,
                                                   credstore_error *err)
{
    const cs_names names = {.tenant = organization_id, .parent = service_account_id};

    return cs_list(store, &cs_kind_service_credential, call, &names, page, NULL, out, err);
}

credstore_status credstore_service_credential_remove(credstore *store, const credstore_call *call,
                                                     const char *organization_id,
                                                     const char *service_account_id,
                                                     const char *credential_id,
                                                     credstore_error *err)
{
    const cs_names names = {
        .tenant = organization_id, .parent = service_account_id, .id = credential_id};
    const cs_request request = {.names = &names};

    return cs_remove(store, &cs_kind_service_credential, call, &request, err);
}

credstore_status credstore_service_credential_issue(credstore *store, const credstore_call *call,
                                                    const char *organization_id,
                                                    const char *service_account_id,
                                                    const char *prefix, const patch_t *patch,
                                                    credstore_secret **client_secret,
                                                    const view_t **out, credstore_error *err)
{
    const cs_names names = {.tenant = organization_id, .parent = service_account_id};
    const cs_token_wish wish = {.prefix = prefix, .out = client_secret};
    const cs_request request = {.names = &names, .patch = patch, .token = &wish};

    return cs_create(store, &cs_kind_service_credential, call, &request, out, err);
}

credstore_status credstore_service_credential_roll(credstore *store, const credstore_call *call,
                                                   const char *organization_id,
                                                   const char *service_account_id,
                                                   const char *credential_id, uint32_t grace_s,
                                                   credstore_secret **client_secret,
                                                   const view_t **out, credstore_error *err)
{
    const cs_names names = {
        .tenant = organization_id, .parent = service_account_id, .id = credential_id};
    const cs_token_wish wish = {.grace_s = grace_s, .out = client_secret};
    const cs_request request = {.names = &names, .token = &wish};

    return cs_roll(store, &cs_kind_service_credential, call, &request, out, err);
}

credstore_status credstore_service_credential_verify(credstore *store, const char *token,
                                                     size_t len, credstore_actor *out,
                                                     credstore_error *err)
{
    return cs_verify(store, &cs_kind_service_credential, token, len, out, err);
}

credstore_status credstore_service_credential_history(
    credstore *store, const credstore_call *call, const char *organization_id,
    const char *service_account_id, const char *credential_id, uint64_t before, uint32_t limit,
    const credstore_service_credential_page **out, credstore_error *err)
{
    const cs_names names = {
        .tenant = organization_id, .parent = service_account_id, .id = credential_id};

    return cs_history(store, &cs_kind_service_credential, call, &names, before, limit, out, err);
}

credstore_status credstore_service_credential_restore(credstore *store, const credstore_call *call,
                                                      const char *organization_id,
                                                      const char *service_account_id,
                                                      const char *credential_id, uint64_t revision,
                                                      const view_t **out, credstore_error *err)
{
    const cs_names names = {
        .tenant = organization_id, .parent = service_account_id, .id = credential_id};
    const cs_request request = {.names = &names, .source_revision = revision};

    return cs_restore(store, &cs_kind_service_credential, call, &request, out, err);
}

credstore_status credstore_organization_label(credstore *store, const credstore_call *call,
                                              const char *organization_id, const char *label,
                                              credstore_error *err)
{
    return cs_set_label(store, &cs_kind_service_credential, call, organization_id, label, err);
}
