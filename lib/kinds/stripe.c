/* SPDX-License-Identifier: MIT
 *
 * The Stripe configuration of a project.
 */
#include "credstore/stripe.h"

#include <string.h>

#include "error.h"
#include "history.h"
#include "id.h"
#include "list.h"
#include "merge.h"
#include "roll.h"
#include "text.h"
#include "update.h"
#include "validate.h"
#include "webhook.h"

typedef credstore_stripe_patch patch_t;
typedef credstore_stripe view_t;
typedef credstore_stripe_origin origin_t;

enum { OWN_ID = 64, IS_ACTIVE = 65, TEST_CONFIGURED_AT = 66, LIVE_CONFIGURED_AT = 67 };

/* ---- what a prefix says of a key (docs.stripe.com/keys) ---- */

enum { SECRET = 1, PUBLISHABLE = 2, WEBHOOK = 3 };
enum { EITHER = 0, TEST = 1, LIVE = 2 };

typedef struct prefix_row {
    const char *prefix;
    uint8_t type, mode;
} prefix_row;

static const prefix_row prefixes[] = {
    /* the first that fits */
    {"sk_test_", SECRET, TEST},  {"sk_live_", SECRET, LIVE},      {"rk_test_", SECRET, TEST},
    {"rk_live_", SECRET, LIVE},  {"pk_test_", PUBLISHABLE, TEST}, {"pk_live_", PUBLISHABLE, LIVE},
    {"sk_org_", SECRET, EITHER}, {"whsec_", WEBHOOK, EITHER},     {"sk_", SECRET, EITHER},
    {"rk_", SECRET, EITHER},     {"pk_", PUBLISHABLE, EITHER},
};

/* What each field takes. */
static const prefix_row wanted[] = {
    [CREDSTORE_STRIPE_TEST_SECRET_KEY] = {NULL, SECRET, TEST},
    [CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY] = {NULL, PUBLISHABLE, TEST},
    [CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET] = {NULL, WEBHOOK, TEST},
    [CREDSTORE_STRIPE_LIVE_SECRET_KEY] = {NULL, SECRET, LIVE},
    [CREDSTORE_STRIPE_LIVE_PUBLISHABLE_KEY] = {NULL, PUBLISHABLE, LIVE},
    [CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET] = {NULL, WEBHOOK, LIVE},
};

static const prefix_row *prefix_of(const char *ptr, size_t len)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t prefix_len = strlen(prefixes[i].prefix);

        if (len >= prefix_len && memcmp(ptr, prefixes[i].prefix, prefix_len) == 0)
            return &prefixes[i];
    }
    return NULL;
}

static const char *check_key(const cs_field *field, const char *ptr, size_t len,
                             const cs_rules *rules)
{
    const prefix_row *row = prefix_of(ptr, len);
    const prefix_row *want = &wanted[field->id];

    if (row != NULL && row->type != want->type)
        return "The prefix names another type of key";
    if (row != NULL && row->mode != EITHER && row->mode != want->mode)
        return "The prefix names the other mode";
    return cs_check_printable(field, ptr, len, rules);
}

/* Prefix, "...", and the last characters: 4 at most, a quarter of what follows the prefix at most,
 * ASCII only. */
static void make_mask(const char *ptr, size_t len, char *out)
{
    const prefix_row *row = prefix_of(ptr, len);
    const size_t prefix_len = row == NULL ? 0 : strlen(row->prefix);
    const size_t quarter = (len - prefix_len) / 4;
    size_t tail = quarter < 4 ? quarter : 4;

    for (size_t i = len - tail; i < len; i++)
        if ((unsigned char)ptr[i] >= 0x80)
            tail = len - i - 1;
    memcpy(out, ptr, prefix_len);
    memcpy(out + prefix_len, "...", 3);
    memcpy(out + prefix_len + 3, ptr + len - tail, tail);
    out[prefix_len + 3 + tail] = '\0';
}

/* ---- tables ---- */

/* A key of one mode. Secret ones show their mask alone, publishable ones themselves as well. */
#define SECRET_FIELD(member, number)                                                               \
    {                                                                                              \
        .name = #member, .id = number, .type = CS_SECRET, .flags = CS_NULLABLE,                    \
        .in = offsetof(patch_t, member), .mask = offsetof(view_t, member##_masked),                \
        .max_bytes = 4096, .check = check_key, .make_mask = make_mask                              \
    }
#define PUBLIC_FIELD(member, number)                                                               \
    {                                                                                              \
        .name = #member, .id = number, .type = CS_TEXT, .flags = CS_NULLABLE,                      \
        .in = offsetof(patch_t, member), .view = offsetof(view_t, member),                         \
        .mask = offsetof(view_t, member##_masked), .max_bytes = 4096, .check = check_key,          \
        .make_mask = make_mask                                                                     \
    }

static const cs_field fields[] = {
    SECRET_FIELD(test_secret_key, CREDSTORE_STRIPE_TEST_SECRET_KEY),
    PUBLIC_FIELD(test_publishable_key, CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY),
    SECRET_FIELD(test_webhook_secret, CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET),
    SECRET_FIELD(live_secret_key, CREDSTORE_STRIPE_LIVE_SECRET_KEY),
    PUBLIC_FIELD(live_publishable_key, CREDSTORE_STRIPE_LIVE_PUBLISHABLE_KEY),
    SECRET_FIELD(live_webhook_secret, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET),
    {.name = "id",
     .id = OWN_ID,
     .type = CS_TEXT,
     .flags = CS_FROM_ORIGIN,
     .in = offsetof(origin_t, id),
     .view = offsetof(view_t, id),
     .max_bytes = CS_UUID_LEN,
     .check = cs_check_uuid},
    {.name = "is_active",
     .id = IS_ACTIVE,
     .type = CS_FLAG,
     .flags = CS_INTERNAL,
     .view = offsetof(view_t, is_active)},
    {.name = "test_configured_at",
     .id = TEST_CONFIGURED_AT,
     .type = CS_TIME,
     .flags = CS_INTERNAL,
     .view = offsetof(view_t, test_configured_at)},
    {.name = "live_configured_at",
     .id = LIVE_CONFIGURED_AT,
     .type = CS_TIME,
     .flags = CS_INTERNAL,
     .view = offsetof(view_t, live_configured_at)},
};

#define MASKED(member)                                                                             \
    {                                                                                              \
        .name = #member "_masked", .at = offsetof(view_t, member##_masked), .show = CS_SHOW_TEXT   \
    }
#define SECONDS(member)                                                                            \
    {                                                                                              \
        .name = #member, .at = offsetof(view_t, member), .show = CS_SHOW_SECONDS                   \
    }
#define FLAG(member)                                                                               \
    {                                                                                              \
        .name = #member, .at = offsetof(view_t, member), .show = CS_SHOW_FLAG                      \
    }

static const cs_member members[] = {
    {.name = "id", .at = offsetof(view_t, id), .show = CS_SHOW_TEXT},
    {.name = "project_id", .at = offsetof(view_t, project_id), .show = CS_SHOW_TEXT},
    FLAG(is_active),
    FLAG(has_test_credentials),
    FLAG(has_live_credentials),
    SECONDS(created_at),
    MASKED(test_secret_key),
    MASKED(test_publishable_key),
    MASKED(test_webhook_secret),
    MASKED(live_secret_key),
    MASKED(live_publishable_key),
    MASKED(live_webhook_secret),
    SECONDS(test_configured_at),
    SECONDS(live_configured_at),
    SECONDS(updated_at),
};

/* ---- rules that no table holds ---- */

/* A mode's three keys, and the time of its last configuration. */
typedef struct mode_row {
    uint16_t keys[3];
    uint16_t configured_at;
} mode_row;

static const mode_row modes[] = {
    {{CREDSTORE_STRIPE_TEST_SECRET_KEY, CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY,
      CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET},
     TEST_CONFIGURED_AT},
    {{CREDSTORE_STRIPE_LIVE_SECRET_KEY, CREDSTORE_STRIPE_LIVE_PUBLISHABLE_KEY,
      CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET},
     LIVE_CONFIGURED_AT},
};

/* Moves when a key of the mode was set or cleared; null when none is left. */
static void settle_mode(cs_settle *s, const mode_row *mode)
{
    bool moved = false, any = false;

    for (size_t i = 0; i < 3; i++) {
        moved = moved || cs_settle_changed(s, mode->keys[i]);
        any = any || cs_settle_value(s, mode->keys[i])->present;
    }
    if (moved)
        cs_settle_number(s, mode->configured_at, any, any ? s->now : 0);
}

static bool sets_a_value(const cs_settle *s)
{
    for (size_t i = 0; i < s->kind->field_count; i++)
        if (s->inputs->field[i].op == CREDSTORE_SET)
            return true;
    return false;
}

static bool switches(const cs_settle *s)
{
    return s->inputs->field[cs_field_index(s->kind, IS_ACTIVE)].op == CREDSTORE_SET;
}

/* An update that sets a value switches on; a restore leaves it as it was at that revision. */
static void settle_active(cs_settle *s)
{
    const size_t active = cs_field_index(s->kind, IS_ACTIVE);

    if (s->source != NULL)
        cs_settle_number(s, IS_ACTIVE, true, s->source->record.values[active].number);
    else if (s->old == NULL || (sets_a_value(s) && !switches(s)))
        cs_settle_number(s, IS_ACTIVE, true, 1);
}

static credstore_status settle(cs_settle *s, credstore_error *err)
{
    const cs_value *own_id = cs_settle_value(s, OWN_ID);

    (void)err;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        settle_mode(s, &modes[i]);
    settle_active(s);
    if (s->old != NULL)
        return CREDSTORE_OK;
    if (own_id->present)
        cs_uuid_fold(own_id->bytes.ptr, s->made[0]);
    else
        cs_uuid_make(s->random, s->made[0]);
    cs_settle_text(s, OWN_ID, cs_bytes(s->made[0], CS_UUID_LEN));
    return CREDSTORE_OK;
}

static void fill(const cs_record *record, void *view)
{
    view_t *v = view;

    (void)record;
    v->has_test_credentials = v->test_secret_key_masked != NULL;
    v->has_live_credentials = v->live_secret_key_masked != NULL;
}

_Static_assert(sizeof(patch_t) <= CS_PATCH_MAX && sizeof(origin_t) <= CS_ORIGIN_MAX &&
                   sizeof fields / sizeof *fields <= CS_FIELDS_MAX,
               "fits what the core has room for");

const cs_kind cs_kind_stripe = {
    .id = CREDSTORE_KIND_STRIPE,
    .scope = CS_SCOPE_OWNER,
    .flags = CS_UPSERT | CS_UUID_ID | CS_UPDATED_LATER | CS_GET_NULL,
    .name = "stripe",
    .id_name = "project_id",
    .tenant_name = "tenant",
    .fields = fields,
    .field_count = sizeof fields / sizeof *fields,
    .members = members,
    .member_count = sizeof members / sizeof *members,
    .patch_size = sizeof(patch_t),
    .view = {.size = sizeof(view_t),
             .revision = offsetof(view_t, revision),
             .id = offsetof(view_t, project_id),
             .created_at = offsetof(view_t, created_at),
             .updated_at = offsetof(view_t, updated_at)},
    .origin = {.size = sizeof(origin_t),
               .created_at = offsetof(origin_t, created_at),
               .updated_at = offsetof(origin_t, updated_at)},
    .active_field = IS_ACTIVE,
    .rules = {[CS_CHANGE] = {CS_MAY_ADMIN | CS_MAY_SYSTEM, "stripe:update"},
              [CS_READ] = {CS_MAY_MEMBER, NULL},
              [CS_REVEAL] = {CS_MAY_SYSTEM, "stripe:reveal"}},
    .id_valid = cs_uuid_valid,
    .path_valid = cs_id_text,
    .settle = settle,
    .fill = fill,
};

credstore_status credstore_stripe_create(credstore *store, const credstore_call *call,
                                         const char *project_id, const origin_t *origin,
                                         const patch_t *patch, const view_t **out,
                                         credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const cs_request request = {.names = &names, .patch = patch, .origin = origin};

    return cs_create(store, &cs_kind_stripe, call, &request, out, err);
}

credstore_status credstore_stripe_get(credstore *store, const credstore_call *call,
                                      const char *project_id, const view_t **out,
                                      credstore_error *err)
{
    const cs_names names = {.id = project_id};

    return cs_get(store, &cs_kind_stripe, call, &names, NULL, out, err);
}

credstore_status credstore_stripe_update(credstore *store, const credstore_call *call,
                                         const char *project_id, const patch_t *patch,
                                         const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const cs_request request = {.names = &names, .patch = patch};

    return cs_update(store, &cs_kind_stripe, call, &request, out, err);
}

credstore_status credstore_stripe_reveal(credstore *store, const credstore_call *call,
                                         const char *project_id, uint32_t field,
                                         credstore_secret **out, credstore_error *err)
{
    const cs_names names = {.id = project_id};

    return cs_reveal(store, &cs_kind_stripe, call, &names, field, out, err);
}

credstore_status credstore_stripe_list(credstore *store, const credstore_call *call,
                                       const credstore_page *page,
                                       const credstore_stripe_page **out, credstore_error *err)
{
    const cs_names names = {0};

    return cs_list(store, &cs_kind_stripe, call, &names, page, NULL, out, err);
}

credstore_status credstore_stripe_remove(credstore *store, const credstore_call *call,
                                         const char *project_id, credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const cs_request request = {.names = &names};

    return cs_remove(store, &cs_kind_stripe, call, &request, err);
}

credstore_status credstore_stripe_deactivate(credstore *store, const credstore_call *call,
                                             const char *project_id, const view_t **out,
                                             credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const cs_request request = {.names = &names};

    return cs_switch(store, &cs_kind_stripe, call, &request, CS_ACTION_DEACTIVATE, out, err);
}

credstore_status credstore_stripe_reactivate(credstore *store, const credstore_call *call,
                                             const char *project_id, const view_t **out,
                                             credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const cs_request request = {.names = &names};

    return cs_switch(store, &cs_kind_stripe, call, &request, CS_ACTION_REACTIVATE, out, err);
}

credstore_status credstore_stripe_history(credstore *store, const credstore_call *call,
                                          const char *project_id, uint64_t before, uint32_t limit,
                                          const credstore_stripe_page **out, credstore_error *err)
{
    const cs_names names = {.id = project_id};

    return cs_history(store, &cs_kind_stripe, call, &names, before, limit, out, err);
}

credstore_status credstore_stripe_restore(credstore *store, const credstore_call *call,
                                          const char *project_id, uint64_t revision,
                                          const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const cs_request request = {.names = &names, .source_revision = revision};

    return cs_restore(store, &cs_kind_stripe, call, &request, out, err);
}

credstore_status credstore_stripe_roll(credstore *store, const credstore_call *call,
                                       const char *project_id, uint32_t field,
                                       const credstore_secret_text *fresh, uint32_t grace_s,
                                       const view_t **out, credstore_error *err)
{
    const cs_names names = {.id = project_id};

    return cs_roll_secret(store, &cs_kind_stripe, call, &names, field, fresh, grace_s, out, err);
}

credstore_status credstore_stripe_webhook_verify(credstore *store, const credstore_call *call,
                                                 const char *project_id, uint32_t field,
                                                 const credstore_slice *header,
                                                 const credstore_slice *body, uint32_t tolerance_s,
                                                 credstore_error *err)
{
    const cs_names names = {.id = project_id};
    const bool webhook = field == CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET ||
                         field == CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET;

    cs_error_clear(err);
    return cs_webhook_verify(store, &cs_kind_stripe, call, &names, webhook ? (uint16_t)field : 0,
                             header, body, tolerance_s, err);
}
