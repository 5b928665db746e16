/* SPDX-License-Identifier: MIT
 *
 * Checkbook client credentials.
 */
#include "credstore/checkbook.h"

#include "error.h"
#include "history.h"
#include "id.h"
#include "list.h"
#include "merge.h"
#include "roll.h"
#include "text.h"
#include "update.h"
#include "validate.h"

typedef credstore_checkbook_patch patch_t;
typedef credstore_checkbook view_t;
typedef credstore_checkbook_origin origin_t;

enum { CLIENT_ID = 64 };

static const cs_field fields[] = {
    {.name = "publishable_key",
     .id = CREDSTORE_CHECKBOOK_PUBLISHABLE_KEY,
     .type = CS_TEXT,
     .flags = CS_REQUIRED,
     .in = offsetof(patch_t, publishable_key),
     .view = offsetof(view_t, publishable_key),
     .max_bytes = 4096,
     .check = cs_check_printable},
    {.name = "secret_key",
     .id = CREDSTORE_CHECKBOOK_SECRET_KEY,
     .type = CS_SECRET,
     .flags = CS_REQUIRED,
     .in = offsetof(patch_t, secret_key),
     .has = offsetof(view_t, has_secret_key),
     .set_at = offsetof(view_t, secret_key_set_at),
     .max_bytes = 4096,
     .check = cs_check_printable},
    {.name = "base_url",
     .id = CREDSTORE_CHECKBOOK_BASE_URL,
     .type = CS_TEXT,
     .flags = CS_REQUIRED,
     .in = offsetof(patch_t, base_url),
     .view = offsetof(view_t, base_url),
     .max_bytes = 2048,
     .check = cs_check_base_url},
    {.name = "is_active",
     .id = CREDSTORE_CHECKBOOK_IS_ACTIVE,
     .type = CS_FLAG,
     .in = offsetof(patch_t, is_active),
     .view = offsetof(view_t, is_active)},
    {.name = "client_id",
     .id = CLIENT_ID,
     .type = CS_TEXT,
     .flags = CS_FROM_ORIGIN | CS_IN_CREATE,
     .in = offsetof(origin_t, client_id),
     .view = offsetof(view_t, client_id),
     .max_bytes = CS_KSUID_LEN,
     .check = cs_check_ksuid},
};

static const cs_member members[] = {
    {.name = "id", .at = offsetof(view_t, id), .show = CS_SHOW_TEXT},
    {.name = "client_id", .at = offsetof(view_t, client_id), .show = CS_SHOW_TEXT},
    {.name = "publishable_key", .at = offsetof(view_t, publishable_key), .show = CS_SHOW_TEXT},
    {.name = "base_url", .at = offsetof(view_t, base_url), .show = CS_SHOW_TEXT},
    {.name = "is_active", .at = offsetof(view_t, is_active), .show = CS_SHOW_FLAG},
    {.name = "created_at", .at = offsetof(view_t, created_at), .show = CS_SHOW_SECONDS},
    {.name = "updated_at", .at = offsetof(view_t, updated_at), .show = CS_SHOW_SECONDS},
};

static bool make_id(int64_t now, const uint8_t *random, char *out)
{
    cs_ksuid_make(now, random, out);
    return true;
}

/* At creation: active unless said otherwise, and the client's id is the record's unless another is
 * given. */
static credstore_status settle(cs_settle *s, credstore_error *err)
{
    (void)err;
    if (s->old != NULL)
        return CREDSTORE_OK;
    if (!cs_settle_value(s, CREDSTORE_CHECKBOOK_IS_ACTIVE)->present)
        cs_settle_number(s, CREDSTORE_CHECKBOOK_IS_ACTIVE, true, 1);
    if (!cs_settle_value(s, CLIENT_ID)->present)
        cs_settle_text(s, CLIENT_ID, s->fresh.id);
    return CREDSTORE_OK;
}

_Static_assert(sizeof(patch_t) <= CS_PATCH_MAX && sizeof(origin_t) <= CS_ORIGIN_MAX &&
                   sizeof fields / sizeof *fields <= CS_FIELDS_MAX,
               "fits what the core has room for");

const cs_kind cs_kind_checkbook = {
    .id = CREDSTORE_KIND_CHECKBOOK,
    .scope = CS_SCOPE_STORE,
    .name = "checkbook",
    .id_name = "id",
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
    .active_field = CREDSTORE_CHECKBOOK_IS_ACTIVE,
    .rules = {[CS_CHANGE] = {CS_MAY_SYSTEM | CS_MAY_SUPER, "checkbook:update"},
              [CS_READ] = {0, "checkbook:read"},
              [CS_REVEAL] = {CS_MAY_SYSTEM, "checkbook:reveal"}},
    .id_valid = cs_ksuid_valid,
    .path_valid = cs_id_text,
    .make_id = make_id,
    .settle = settle,
};

credstore_status credstore_checkbook_create(credstore *store, const credstore_call *call,
                                            const origin_t *origin, const patch_t *patch,
                                            const view_t **out, credstore_error *err)
{
    const cs_names names = {0};
    const cs_request request = {.names = &names, .patch = patch, .origin = origin};

    return cs_create(store, &cs_kind_checkbook, call, &request, out, err);
}

credstore_status credstore_checkbook_get(credstore *store, const credstore_call *call,
                                         const char *id, const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_get(store, &cs_kind_checkbook, call, &names, NULL, out, err);
}

credstore_status credstore_checkbook_update(credstore *store, const credstore_call *call,
                                            const char *id, const patch_t *patch,
                                            const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names, .patch = patch};

    return cs_update(store, &cs_kind_checkbook, call, &request, out, err);
}

credstore_status credstore_checkbook_reveal(credstore *store, const credstore_call *call,
                                            const char *id, uint32_t field, credstore_secret **out,
                                            credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_reveal(store, &cs_kind_checkbook, call, &names, field, out, err);
}

credstore_status credstore_checkbook_list(credstore *store, const credstore_call *call,
                                          const credstore_page *page,
                                          const credstore_checkbook_page **out,
                                          credstore_error *err)
{
    const cs_names names = {0};

    return cs_list(store, &cs_kind_checkbook, call, &names, page, NULL, out, err);
}

credstore_status credstore_checkbook_remove(credstore *store, const credstore_call *call,
                                            const char *id, credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names};

    return cs_remove(store, &cs_kind_checkbook, call, &request, err);
}

credstore_status credstore_checkbook_history(credstore *store, const credstore_call *call,
                                             const char *id, uint64_t before, uint32_t limit,
                                             const credstore_checkbook_page **out,
                                             credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_history(store, &cs_kind_checkbook, call, &names, before, limit, out, err);
}

credstore_status credstore_checkbook_restore(credstore *store, const credstore_call *call,
                                             const char *id, uint64_t revision, const view_t **out,
                                             credstore_error *err)
{
    const cs_names names = {.id = id};
    const cs_request request = {.names = &names, .source_revision = revision};

    return cs_restore(store, &cs_kind_checkbook, call, &request, out, err);
}

credstore_status credstore_checkbook_roll(credstore *store, const credstore_call *call,
                                          const char *id, uint32_t field,
                                          const credstore_secret_text *fresh, uint32_t grace_s,
                                          const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = id};

    return cs_roll_secret(store, &cs_kind_checkbook, call, &names, field, fresh, grace_s, out, err);
}
