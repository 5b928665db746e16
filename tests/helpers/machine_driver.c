/* SPDX-License-Identifier: MIT
 *
 * A store in a process of its own, for the state machine (tests/machine/machine_test.py):
 *
 *   machine_driver memory|<store folder> <now, ms> <seed> <id>,<resource>,<action>...
 *
 * The library's randomness comes from the seed, so that a run repeats to the byte.
 *
 * A command is a line "<verb> TAB <name>=<value> TAB ...", an answer a line "<status> TAB
 * <name>=<value> TAB ...". In values \ TAB and newline are written \\ \t \n. Answers go out at each
 * empty line, so that many commands may be on the way. What is absent is NULL or 0.
 *
 *   clock     now                        the store's clock, ms
 *   actor     n, type, roles, id, tenant, expires, grants    the nth actor
 *   reopen                               close and open (a store in a folder)
 *   create get update reveal list history restore remove issue roll verify deactivate reactivate
 *   webhook_verify                       kind, actor, and what the calls take; p.<member> sets a
 *                                        slot, c.<member> clears it, o.<member> is of the origin
 *   audit_read audit_verify maintain     of no kind
 *   handle                               the HTTP door
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "credstore.h"
#include "crypto/openssl.h"
#include "txn.h"

enum { FIELDS_MAX = 64, LINE_BYTES = 1 << 19, ACTORS_MAX = 1 << 15, LIST_MAX = 64 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- commands and answers ---- */

typedef struct field {
    const char *name;
    char *value;
} field;

typedef struct message {
    const char *verb;
    field fields[FIELDS_MAX];
    size_t count;
} message;

static void unescape(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++) {
        if (*text == '\\' && text[1] != '\0') {
            text++;
            *to++ = *text == 't' ? '\t' : *text == 'n' ? '\n' : *text;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

/* Cuts a line, without its newline, into a message. */
static void cut(char *line, message *m)
{
    char *next = strchr(line, '\t');

    m->verb = line;
    m->count = 0;
    while (next != NULL && m->count < FIELDS_MAX) {
        field *f = &m->fields[m->count++];
        char *equals;

        *next++ = '\0';
        f->name = next;
        next = strchr(f->name, '\t');
        equals = strchr(f->name, '=');
        if (next != NULL)
            *next = '\0';
        if (equals == NULL)
            continue;
        *equals = '\0';
        f->value = equals + 1;
        unescape(f->value);
    }
}

static const char *text(const message *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->fields[i].name, name) == 0)
            return m->fields[i].value;
    return NULL;
}

static uint64_t number(const message *m, const char *name)
{
    const char *value = text(m, name);

    return value == NULL ? 0 : strtoull(value, NULL, 10);
}

static uint32_t small(const message *m, const char *name)
{
    return (uint32_t)number(m, name);
}

static void put_bytes(const char *name, const char *ptr, size_t len)
{
    if (ptr == NULL)
        return;
    printf("\t%s=", name);
    for (size_t i = 0; i < len; i++) {
        if (ptr[i] == '\\' || ptr[i] == '\t' || ptr[i] == '\n')
            putchar('\\');
        putchar(ptr[i] == '\t' ? 't' : ptr[i] == '\n' ? 'n' : ptr[i]);
    }
}

static void put_text(const char *name, const char *ptr)
{
    put_bytes(name, ptr, ptr == NULL ? 0 : strlen(ptr));
}

static void put_number(const char *name, int64_t value)
{
    printf("\t%s=%" PRId64, name, value);
}

static void put_texts(const char *name, const char *const *items, size_t count)
{
    printf("\t%s=", name);
    for (size_t i = 0; items != NULL && i < count; i++)
        printf("%s%s", i == 0 ? "" : ",", items[i]);
}

/* ---- the kinds' structs ---- */

typedef enum member_type { TEXT, NUMBER, FLAG, LIST, GRANTS, BYTES } member_type;

typedef struct row {
    const char *name;
    size_t at;
    member_type type;
} row;

#define ROW(of, member, type)                                                                      \
    {                                                                                              \
#member, offsetof(of, member), type                                                        \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, TEXT                                                                              \
    }

#define OF credstore_checkbook
static const row checkbook_patch[] = {ROW(credstore_checkbook_patch, publishable_key, TEXT),
                                      ROW(credstore_checkbook_patch, secret_key, TEXT),
                                      ROW(credstore_checkbook_patch, base_url, TEXT),
                                      ROW(credstore_checkbook_patch, is_active, FLAG), END};
static const row checkbook_origin[] = {ROW(credstore_checkbook_origin, id, TEXT),
                                       ROW(credstore_checkbook_origin, created_at, NUMBER),
                                       ROW(credstore_checkbook_origin, updated_at, NUMBER),
                                       ROW(credstore_checkbook_origin, client_id, TEXT), END};
static const row checkbook_view[] = {ROW(OF, id, TEXT),
                                     ROW(OF, client_id, TEXT),
                                     ROW(OF, publishable_key, TEXT),
                                     ROW(OF, base_url, TEXT),
                                     ROW(OF, is_active, FLAG),
                                     ROW(OF, has_secret_key, FLAG),
                                     ROW(OF, revision, NUMBER),
                                     ROW(OF, created_at, NUMBER),
                                     ROW(OF, updated_at, NUMBER),
                                     ROW(OF, secret_key_set_at, NUMBER),
                                     END};
#undef OF
#define OF credstore_stripe
static const row stripe_patch[] = {ROW(credstore_stripe_patch, test_secret_key, TEXT),
                                   ROW(credstore_stripe_patch, test_publishable_key, TEXT),
                                   ROW(credstore_stripe_patch, test_webhook_secret, TEXT),
                                   ROW(credstore_stripe_patch, live_secret_key, TEXT),
                                   ROW(credstore_stripe_patch, live_publishable_key, TEXT),
                                   ROW(credstore_stripe_patch, live_webhook_secret, TEXT),
                                   END};
static const row stripe_origin[] = {ROW(credstore_stripe_origin, id, TEXT),
                                    ROW(credstore_stripe_origin, created_at, NUMBER),
                                    ROW(credstore_stripe_origin, updated_at, NUMBER), END};
static const row stripe_view[] = {ROW(OF, id, TEXT),
                                  ROW(OF, project_id, TEXT),
                                  ROW(OF, is_active, FLAG),
                                  ROW(OF, has_test_credentials, FLAG),
                                  ROW(OF, has_live_credentials, FLAG),
                                  ROW(OF, revision, NUMBER),
                                  ROW(OF, test_publishable_key, TEXT),
                                  ROW(OF, live_publishable_key, TEXT),
                                  ROW(OF, test_secret_key_masked, TEXT),
                                  ROW(OF, test_publishable_key_masked, TEXT),
                                  ROW(OF, test_webhook_secret_masked, TEXT),
                                  ROW(OF, live_secret_key_masked, TEXT),
                                  ROW(OF, live_publishable_key_masked, TEXT),
                                  ROW(OF, live_webhook_secret_masked, TEXT),
                                  ROW(OF, created_at, NUMBER),
                                  ROW(OF, updated_at, NUMBER),
                                  ROW(OF, test_configured_at, NUMBER),
                                  ROW(OF, live_configured_at, NUMBER),
                                  END};
#undef OF
#define OF credstore_service_credential
static const row service_patch[] = {ROW(credstore_service_credential_patch, name, TEXT),
                                    ROW(credstore_service_credential_patch, description, TEXT),
                                    END};
static const row service_origin[] = {ROW(credstore_service_credential_origin, id, TEXT),
                                     ROW(credstore_service_credential_origin, created_at, NUMBER),
                                     ROW(credstore_service_credential_origin, updated_at, NUMBER),
                                     ROW(credstore_service_credential_origin, client_id, TEXT),
                                     ROW(credstore_service_credential_origin, last_used_at, NUMBER),
                                     END};
static const row service_view[] = {ROW(OF, organization_id, TEXT),
                                   ROW(OF, service_account_id, TEXT),
                                   ROW(OF, id, TEXT),
                                   ROW(OF, client_id, TEXT),
                                   ROW(OF, name, TEXT),
                                   ROW(OF, description, TEXT),
                                   ROW(OF, revision, NUMBER),
                                   ROW(OF, created_at, NUMBER),
                                   ROW(OF, updated_at, NUMBER),
                                   ROW(OF, last_used_at, NUMBER),
                                   ROW(OF, permissions, GRANTS),
                                   END};
#undef OF
#define OF credstore_api_key
static const row api_key_patch[] = {ROW(credstore_api_key_patch, description, TEXT),
                                    ROW(credstore_api_key_patch, expires_at, NUMBER),
                                    ROW(credstore_api_key_patch, permissions, LIST), END};
static const row api_key_origin[] = {ROW(credstore_api_key_origin, id, TEXT),
                                     ROW(credstore_api_key_origin, created_at, NUMBER),
                                     ROW(credstore_api_key_origin, updated_at, NUMBER),
                                     ROW(credstore_api_key_origin, last_used_at, NUMBER),
                                     ROW(credstore_api_key_origin, token_sha256, BYTES),
                                     ROW(credstore_api_key_origin, last_four, TEXT),
                                     END};
static const row api_key_view[] = {ROW(OF, id, TEXT),
                                   ROW(OF, description, TEXT),
                                   ROW(OF, permissions, LIST),
                                   ROW(OF, last_four, TEXT),
                                   ROW(OF, expires_at, NUMBER),
                                   ROW(OF, revision, NUMBER),
                                   ROW(OF, created_at, NUMBER),
                                   ROW(OF, updated_at, NUMBER),
                                   ROW(OF, last_used_at, NUMBER),
                                   END};
#undef OF

static void put_grants(const char *name, const credstore_grant *const *grants, size_t count)
{
    if (grants == NULL)
        return;
    printf("\t%s=", name);
    for (size_t i = 0; i < count; i++)
        printf("%s%s:%s=%u", i == 0 ? "" : ",", grants[i]->resource, grants[i]->action,
               grants[i]->granted);
}

static void put_member(const row *member, const uint8_t *at)
{
    const void *ptr;
    int64_t as_number;
    uint32_t as_flag;
    size_t count;

    memcpy(&ptr, at, sizeof ptr);
    memcpy(&as_number, at, sizeof as_number);
    memcpy(&as_flag, at, sizeof as_flag);
    if (member->type == TEXT)
        put_text(member->name, ptr);
    if (member->type == NUMBER)
        put_number(member->name, as_number);
    if (member->type == FLAG)
        put_number(member->name, as_flag);
    if (member->type != LIST && member->type != GRANTS)
        return;
    memcpy(&count, at + sizeof ptr, sizeof count);
    if (member->type == LIST)
        put_texts(member->name, ptr, count);
    else
        put_grants(member->name, ptr, count);
}

static void put_view(const row *members, const void *view)
{
    for (; view != NULL && members->name != NULL; members++)
        put_member(members, (const uint8_t *)view + members->at);
}

/* ---- the kinds' calls behind one signature ---- */

/* What a call is given, and what it hands out. */
typedef struct asked {
    credstore *store;
    credstore_call call;
    const char *tenant, *parent, *id, *prefix, *token;
    const void *patch, *origin;
    const credstore_page *page;
    uint64_t revision;
    uint32_t field, limit, grace_s, tolerance_s;
    credstore_secret_text fresh;
    credstore_slice header, body;
    credstore_secret *secret;
    const void *view;
    bool is_page;
    credstore_actor actor;
    credstore_error err;
} asked;

typedef credstore_status run(asked *q);

#define PATH_checkbook(q)
#define PATH_stripe(q)
#define PATH_api_key(q)
#define PATH_service_credential(q) (q)->tenant, (q)->parent,
#define MAKE_checkbook(q)
#define MAKE_stripe(q) (q)->id,
#define MAKE_api_key(q)
#define MAKE_service_credential(q) (q)->tenant, (q)->parent,

/* What an out argument holds before the call: each must set it, whatever it answers. */
static void *untouched(void)
{
    static char nowhere[1];

    return nowhere;
}

#define VERBS(kind)                                                                                \
    static credstore_status kind##_create(asked *q)                                                \
    {                                                                                              \
        const credstore_##kind *view = untouched();                                                \
        const credstore_status status = credstore_##kind##_create(                                 \
            q->store, &q->call, MAKE_##kind(q) q->origin, q->patch, &view, &q->err);               \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_get(asked *q)                                                   \
    {                                                                                              \
        const credstore_##kind *view = untouched();                                                \
        const credstore_status status =                                                            \
            credstore_##kind##_get(q->store, &q->call, PATH_##kind(q) q->id, &view, &q->err);      \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_update(asked *q)                                                \
    {                                                                                              \
        const credstore_##kind *view = untouched();                                                \
        const credstore_status status = credstore_##kind##_update(                                 \
            q->store, &q->call, PATH_##kind(q) q->id, q->patch, &view, &q->err);                   \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_restore(asked *q)                                               \
    {                                                                                              \
        const credstore_##kind *view = untouched();                                                \
        const credstore_status status = credstore_##kind##_restore(                                \
            q->store, &q->call, PATH_##kind(q) q->id, q->revision, &view, &q->err);                \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_list(asked *q)                                                  \
    {                                                                                              \
        const credstore_##kind##_page *page = untouched();                                         \
        const credstore_status status =                                                            \
            credstore_##kind##_list(q->store, &q->call, PATH_##kind(q) q->page, &page, &q->err);   \
                                                                                                   \
        q->view = page;                                                                            \
        q->is_page = true;                                                                         \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_history(asked *q)                                               \
    {                                                                                              \
        const credstore_##kind##_page *page = untouched();                                         \
        const credstore_status status = credstore_##kind##_history(                                \
            q->store, &q->call, PATH_##kind(q) q->id, q->revision, q->limit, &page, &q->err);      \
                                                                                                   \
        q->view = page;                                                                            \
        q->is_page = true;                                                                         \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_remove(asked *q)                                                \
    {                                                                                              \
        return credstore_##kind##_remove(q->store, &q->call, PATH_##kind(q) q->id, &q->err);       \
    }

#define SECRETS(kind)                                                                              \
    static credstore_status kind##_reveal(asked *q)                                                \
    {                                                                                              \
        q->secret = untouched();                                                                   \
        return credstore_##kind##_reveal(q->store, &q->call, q->id, q->field, &q->secret,          \
                                         &q->err);                                                 \
    }                                                                                              \
    static credstore_status kind##_roll(asked *q)                                                  \
    {                                                                                              \
        const credstore_##kind *view = untouched();                                                \
        const credstore_status status = credstore_##kind##_roll(                                   \
            q->store, &q->call, q->id, q->field, &q->fresh, q->grace_s, &view, &q->err);           \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }

#define TOKENS(kind)                                                                               \
    static credstore_status kind##_issue(asked *q)                                                 \
    {                                                                                              \
        const credstore_##kind *view = (q->secret = untouched(), untouched());                     \
        const credstore_status status = credstore_##kind##_issue(                                  \
            q->store, &q->call, PATH_##kind(q) q->prefix, q->patch, &q->secret, &view, &q->err);   \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_roll(asked *q)                                                  \
    {                                                                                              \
        const credstore_##kind *view = (q->secret = untouched(), untouched());                     \
        const credstore_status status = credstore_##kind##_roll(                                   \
            q->store, &q->call, PATH_##kind(q) q->id, q->grace_s, &q->secret, &view, &q->err);     \
                                                                                                   \
        q->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_verify(asked *q)                                                \
    {                                                                                              \
        return credstore_##kind##_verify(q->store, q->token, CREDSTORE_NTS, &q->actor, &q->err);   \
    }

VERBS(checkbook)
VERBS(stripe)
VERBS(service_credential)
VERBS(api_key)
SECRETS(checkbook)
SECRETS(stripe)
TOKENS(service_credential)
TOKENS(api_key)

static credstore_status stripe_deactivate(asked *q)
{
    const credstore_stripe *view = untouched();
    const credstore_status status =
        credstore_stripe_deactivate(q->store, &q->call, q->id, &view, &q->err);

    q->view = view;
    return status;
}

static credstore_status stripe_reactivate(asked *q)
{
    const credstore_stripe *view = untouched();
    const credstore_status status =
        credstore_stripe_reactivate(q->store, &q->call, q->id, &view, &q->err);

    q->view = view;
    return status;
}

static credstore_status stripe_webhook_verify(asked *q)
{
    return credstore_stripe_webhook_verify(q->store, &q->call, q->id, q->field, &q->header,
                                           &q->body, q->tolerance_s, &q->err);
}

typedef struct verb {
    const char *name;
    run *of[4]; /* as the kinds below; NULL: the kind has no such verb */
} verb;

#define ALL(name)                                                                                  \
    {                                                                                              \
#name,                                                                                     \
        {                                                                                          \
            checkbook_##name, stripe_##name, service_credential_##name, api_key_##name             \
        }                                                                                          \
    }

static const verb verbs[] = {
    ALL(create),
    ALL(get),
    ALL(update),
    ALL(list),
    ALL(history),
    ALL(restore),
    ALL(remove),
    ALL(roll),
    {"reveal", {checkbook_reveal, stripe_reveal, NULL, NULL}},
    {"issue", {NULL, NULL, service_credential_issue, api_key_issue}},
    {"verify", {NULL, NULL, service_credential_verify, api_key_verify}},
    {"deactivate", {NULL, stripe_deactivate, NULL, NULL}},
    {"reactivate", {NULL, stripe_reactivate, NULL, NULL}},
    {"webhook_verify", {NULL, stripe_webhook_verify, NULL, NULL}},
};

typedef struct kind {
    size_t patch_size, origin_size;
    const row *patch, *origin, *view;
} kind;

static const kind kinds[] = {
    {sizeof(credstore_checkbook_patch), sizeof(credstore_checkbook_origin), checkbook_patch,
     checkbook_origin, checkbook_view},
    {sizeof(credstore_stripe_patch), sizeof(credstore_stripe_origin), stripe_patch, stripe_origin,
     stripe_view},
    {sizeof(credstore_service_credential_patch), sizeof(credstore_service_credential_origin),
     service_patch, service_origin, service_view},
    {sizeof(credstore_api_key_patch), sizeof(credstore_api_key_origin), api_key_patch,
     api_key_origin, api_key_view},
};

/* ---- the session ---- */

typedef struct session {
    credstore *store;
    const char *path; /* NULL: in memory */
    int64_t now;
    credstore_permission catalogue[LIST_MAX];
    size_t catalogue_count;
    credstore_actor *actors;
    credstore_checkpoint first; /* of the last audit_verify with first=1 */
} session;

static int64_t now_of(void *ctx)
{
    return ((const session *)ctx)->now;
}

static uint64_t random_state;

/* splitmix64 */
static int32_t repeatable(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++) {
        uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        out[i] = (uint8_t)(z >> 56);
    }
    return CREDSTORE_CRYPTO_OK;
}

static credstore_status open_store(session *s, credstore_error *err)
{
    static const uint8_t root[32] = {7};
    static credstore_crypto crypto;
    credstore_key_source *key = NULL;
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .catalogue = s->catalogue,
        .catalogue_count = s->catalogue_count,
        .now_ms = now_of,
        .now_ctx = s,
        .crypto = &crypto,
    };
    credstore_status status = credstore_key_bytes(root, sizeof root, &key, err);

    crypto = cs_crypto_openssl;
    crypto.random = repeatable;
    if (status == CREDSTORE_OK)
        status = cs_openssl_new(&options.crypto_ctx, err);
    options.key = key;
    if (status == CREDSTORE_OK)
        status = credstore_open(s->path, &options, &s->store, err);
    credstore_key_source_free(key);
    return status;
}

static const credstore_actor *actor_of(const session *s, const message *m)
{
    return text(m, "actor") == NULL ? NULL : &s->actors[number(m, "actor") % ACTORS_MAX];
}

/* Cuts a text at its commas; ids of the catalogue hold none. */
static size_t split(char *list, const char **items)
{
    size_t count = 0;

    while (list != NULL && *list != '\0' && count < LIST_MAX) {
        char *end = strchr(list, ',');

        items[count++] = list;
        if (end != NULL)
            *end++ = '\0';
        list = end;
    }
    return count;
}

static credstore_status do_actor(session *s, const message *m, credstore_error *err)
{
    credstore_actor *a = &s->actors[number(m, "n") % ACTORS_MAX];
    const char *items[LIST_MAX], *grants = text(m, "grants");
    char copy[1024] = "";
    size_t count;
    credstore_status status = CREDSTORE_OK;

    memset(a, 0, sizeof *a);
    a->struct_size = sizeof *a;
    a->type = small(m, "type");
    a->roles = small(m, "roles");
    a->expires_at = (int64_t)number(m, "expires");
    snprintf(a->id, sizeof a->id, "%s", text(m, "id"));
    snprintf(a->tenant, sizeof a->tenant, "%s", text(m, "tenant"));
    snprintf(copy, sizeof copy, "%s", grants == NULL ? "" : grants);
    count = split(copy, items);
    for (size_t i = 0; i < count && status == CREDSTORE_OK; i++)
        status = credstore_actor_grant(s->store, a, items[i], err);
    return status;
}

/* ---- typed calls ---- */

typedef struct room { /* what the structs of a call point into */
    _Alignas(max_align_t) uint8_t patch[512];
    _Alignas(max_align_t) uint8_t origin[128];
    const char *items[LIST_MAX];
    credstore_page page;
} room;

static void fill_slot(uint8_t *to, member_type type, uint32_t op, char *value, room *r)
{
    const bool set = op == CREDSTORE_SET;
    const credstore_text as_text = {set ? value : NULL, set ? CREDSTORE_NTS : 0, op, 0};
    const credstore_flag as_flag = {op, set ? (uint32_t)strtoul(value, NULL, 10) : 0};
    const credstore_time as_time = {set ? strtoll(value, NULL, 10) : 0, op, 0};
    credstore_strings as_list = {set ? r->items : NULL, 0, op, 0};

    if (type == FLAG)
        memcpy(to, &as_flag, sizeof as_flag);
    if (type == NUMBER)
        memcpy(to, &as_time, sizeof as_time);
    if (type == TEXT)
        memcpy(to, &as_text, sizeof as_text);
    if (type != LIST)
        return;
    as_list.count = set ? split(value, r->items) : 0;
    memcpy(to, &as_list, sizeof as_list);
}

/* 64 hexadecimal digits to 32 bytes, in place. */
static void unhex(char *value)
{
    if (strlen(value) != 64)
        return;
    for (size_t i = 0; i < 32; i++) {
        const char digits[3] = {value[2 * i], value[2 * i + 1], '\0'};

        value[i] = (char)strtoul(digits, NULL, 16);
    }
}

static void fill_origin(uint8_t *to, member_type type, char *value)
{
    const int64_t as_number = strtoll(value, NULL, 10);

    if (type == NUMBER) {
        memcpy(to, &as_number, sizeof as_number);
        return;
    }
    if (type == BYTES)
        unhex(value);
    memcpy(to, &value, sizeof value);
}

static const row *row_of(const row *rows, const char *name)
{
    while (rows->name != NULL && strcmp(rows->name, name) != 0)
        rows++;
    return rows->name == NULL ? NULL : rows;
}

static void fill(const message *m, const kind *k, room *r)
{
    const uint32_t patch_size = (uint32_t)k->patch_size, origin_size = (uint32_t)k->origin_size;

    memset(r, 0, sizeof *r);
    memcpy(r->patch, &patch_size, sizeof patch_size);
    memcpy(r->origin, &origin_size, sizeof origin_size);
    for (size_t i = 0; i < m->count; i++) {
        const field *f = &m->fields[i];
        const bool named = f->name[0] != '\0' && f->name[1] == '.';
        const row *at =
            named ? row_of(f->name[0] == 'o' ? k->origin : k->patch, f->name + 2) : NULL;

        if (at == NULL)
            continue;
        if (f->name[0] == 'o')
            fill_origin(r->origin + at->at, at->type, f->value);
        else
            fill_slot(r->patch + at->at, at->type,
                      f->name[0] == 'p' ? CREDSTORE_SET : CREDSTORE_CLEAR, f->value, r);
    }
    r->page.struct_size = sizeof r->page;
    r->page.limit = small(m, "limit");
    r->page.after = text(m, "after");
    r->page.before = text(m, "before");
    r->page.expires_before = (int64_t)number(m, "expires_before");
    r->page.unused_since = (int64_t)number(m, "unused_since");
}

static credstore_call call_of(const session *s, const message *m)
{
    const credstore_call call = {
        .struct_size = sizeof call,
        .flags = small(m, "flags"),
        .actor = actor_of(s, m),
        .tenant = text(m, "tenant"),
        .request_id = text(m, "request_id"),
        .expected_revision = number(m, "expected"),
        .at_revision = number(m, "at"),
        .idempotency_key = text(m, "key"),
    };

    return call;
}

static credstore_slice slice(const message *m, const char *name)
{
    const char *value = text(m, name);
    const credstore_slice out = {value, value == NULL ? 0 : strlen(value)};

    return out;
}

static void ask(const session *s, const message *m, const room *r, asked *q)
{
    const credstore_secret_text fresh = {text(m, "fresh"), CREDSTORE_NTS, CREDSTORE_SET, 0};

    memset(q, 0, sizeof *q);
    q->store = s->store;
    q->call = call_of(s, m);
    q->tenant = text(m, "path");
    q->parent = text(m, "parent");
    q->id = text(m, "id");
    q->prefix = text(m, "prefix");
    q->token = text(m, "token");
    q->patch = r->patch;
    q->origin = text(m, "origin") == NULL ? NULL : r->origin;
    q->page = text(m, "limit") == NULL ? NULL : &r->page;
    q->revision = number(m, "revision");
    q->field = small(m, "field");
    q->limit = small(m, "limit");
    q->grace_s = small(m, "grace");
    q->tolerance_s = small(m, "tolerance");
    q->fresh = fresh;
    q->header = slice(m, "header");
    q->body = slice(m, "body");
}

/* Pages of all kinds lie alike. */
static void put_page(const row *members, const void *from)
{
    const credstore_api_key_page *page = from;

    if (page == NULL)
        return;
    put_number("next", page->has_next_page);
    put_number("prev", page->has_prev_page);
    put_text("start", page->start_cursor);
    put_text("end", page->end_cursor);
    for (size_t i = 0; i < page->count; i++) {
        put_text("item", page->items[i].id);
        if (page->items[i].status != CREDSTORE_OK)
            put_text("unread", credstore_status_name(page->items[i].status));
        put_view(members, page->items[i].view);
    }
}

static void put_actor(const session *s, const credstore_actor *a)
{
    const char *held[LIST_MAX];
    size_t count = 0;

    put_number("type", a->type);
    put_number("roles", a->roles);
    put_number("expires", a->expires_at);
    put_text("id", a->id);
    put_text("tenant", a->tenant);
    for (size_t i = 0; i < s->catalogue_count; i++)
        if (credstore_permit(s->store, a, s->catalogue[i].id))
            held[count++] = s->catalogue[i].id;
    put_texts("grants", held, count);
}

static void put_status(credstore_status status, const credstore_error *err)
{
    fputs(credstore_status_name((int32_t)status), stdout);
    if (status == CREDSTORE_OK)
        return;
    put_text("field", err->field);
    put_text("message", err->message);
    if (err->status != (int32_t)status)
        put_text("disagrees", credstore_status_name(err->status));
}

static bool do_typed(session *s, const message *m)
{
    static room r;
    const size_t k = number(m, "kind") - 1;
    asked q;
    credstore_actor blank;
    credstore_status status;

    for (size_t i = 0; i < COUNT(verbs); i++) {
        if (strcmp(verbs[i].name, m->verb) != 0 || k >= COUNT(kinds) || verbs[i].of[k] == NULL)
            continue;
        fill(m, &kinds[k], &r);
        ask(s, m, &r, &q);
        memset(&q.actor, 0x5a, sizeof q.actor);
        memset(&blank, 0x5a, sizeof blank);
        status = verbs[i].of[k](&q);
        put_status(status, &q.err);
        if (q.view == untouched() || q.secret == untouched()) {
            put_number("untouched", 1);
            return true;
        }
        if (q.is_page)
            put_page(kinds[k].view, q.view);
        else
            put_view(kinds[k].view, q.view);
        if (q.secret != NULL)
            put_bytes("secret", credstore_secret_ptr(q.secret), credstore_secret_len(q.secret));
        if (memcmp(&q.actor, &blank, sizeof blank) != 0)
            put_actor(s, &q.actor);
        credstore_free(q.view);
        credstore_secret_free(q.secret);
        return true;
    }
    return false;
}

/* ---- of no kind ---- */

static void do_audit_read(session *s, const message *m)
{
    const credstore_call call = call_of(s, m);
    const credstore_audit_page *page = NULL;
    credstore_error err = {0};
    const credstore_status status = credstore_audit_read(s->store, &call, number(m, "after"),
                                                         small(m, "limit"), 0, &page, &err);

    put_status(status, &err);
    if (page == NULL)
        return;
    put_number("last", (int64_t)page->last_seq);
    put_number("count", (int64_t)page->count);
    for (size_t i = 0; i < page->count; i++) {
        const credstore_audit_entry *e = page->items[i];

        put_number("item", (int64_t)e->seq);
        put_number("action", e->action);
        put_number("kind", e->kind);
        put_number("actor_type", e->actor_type);
        put_number("revision", (int64_t)e->revision);
        put_number("time", e->time);
        put_text("actor", e->actor);
        put_text("tenant", e->tenant);
        put_text("parent", e->parent);
        put_text("id", e->id);
        put_text("request_id", e->request_id);
        put_texts("changed", e->changed, e->changed_count);
    }
    credstore_free(page);
}

/* known: 0 none, 1 the first, 2 the first one ahead of the store, 3 the first with another chain */
static void do_audit_verify(session *s, const message *m)
{
    const credstore_call call = call_of(s, m);
    const uint64_t which = number(m, "known");
    credstore_checkpoint known = s->first, now = {0};
    credstore_error err = {0};
    credstore_status status;

    known.struct_size = sizeof known;
    if (which == 2)
        known.seq = UINT64_MAX / 2;
    if (which == 3)
        known.chain[5] ^= 1;
    status = credstore_audit_verify(s->store, &call, which == 0 ? NULL : &known, &now, &err);
    put_status(status, &err);
    if (status != CREDSTORE_OK)
        return;
    put_number("seq", (int64_t)now.seq);
    put_number("generation", (int64_t)now.generation);
    if (s->first.seq == 0)
        s->first = now;
}

static void do_maintain(session *s, const message *m)
{
    credstore_error err = {0};
    uint32_t more = 0;

    put_status(credstore_maintain(s->store, small(m, "budget"), &more, &err), &err);
    put_number("more", more);
}

static void do_handle(session *s, const message *m)
{
    const credstore_request request = {
        .struct_size = sizeof request,
        .kind = small(m, "kind"),
        .verb = small(m, "verb"),
        .actor = actor_of(s, m),
        .tenant = slice(m, "tenant"),
        .parent = slice(m, "parent"),
        .id = slice(m, "id"),
        .query = slice(m, "query"),
        .body = slice(m, "body"),
        .if_match = slice(m, "if_match"),
        .if_none_match = slice(m, "if_none_match"),
        .request_id = slice(m, "request_id"),
        .idempotency_key = slice(m, "key"),
    };
    const credstore_answer *answer = credstore_handle(s->store, &request);

    fputs(credstore_status_name(answer->status), stdout);
    put_number("http", answer->http_status);
    put_number("revision", (int64_t)answer->revision);
    put_text("content_type", answer->content_type);
    put_text("etag", answer->etag);
    put_bytes("body", answer->body, answer->body_len);
    credstore_answer_free(answer);
}

/* ---- one command ---- */

/* The store looks at its clock at once, whatever the next verb is. */
static credstore_status set_clock(session *s, int64_t now, credstore_error *err)
{
    cs_txn txn;
    credstore_status status;

    s->now = now;
    status = cs_txn_read(s->store, &txn, err);
    if (status == CREDSTORE_OK)
        cs_txn_end(&txn);
    return status;
}

static bool serve(session *s, const message *m)
{
    credstore_error err = {0};

    if (strcmp(m->verb, "clock") == 0) {
        put_status(set_clock(s, (int64_t)number(m, "now"), &err), &err);
    } else if (strcmp(m->verb, "actor") == 0) {
        put_status(do_actor(s, m, &err), &err);
    } else if (strcmp(m->verb, "reopen") == 0) {
        credstore_close(s->store);
        s->store = NULL;
        put_status(open_store(s, &err), &err);
    } else if (strcmp(m->verb, "audit_read") == 0) {
        do_audit_read(s, m);
    } else if (strcmp(m->verb, "audit_verify") == 0) {
        do_audit_verify(s, m);
    } else if (strcmp(m->verb, "maintain") == 0) {
        do_maintain(s, m);
    } else if (strcmp(m->verb, "handle") == 0) {
        do_handle(s, m);
    } else if (!do_typed(s, m)) {
        fprintf(stderr, "machine_driver: no verb %s\n", m->verb);
        return false;
    }
    putchar('\n');
    return true;
}

static bool serve_all(session *s, char *line)
{
    static message m;

    while (fgets(line, LINE_BYTES, stdin) != NULL) {
        const size_t len = strlen(line);

        if (len == 0 || line[len - 1] != '\n')
            return false;
        line[len - 1] = '\0';
        if (len == 1) {
            fflush(stdout);
            continue;
        }
        cut(line, &m);
        if (!serve(s, &m))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static session s;
    credstore_error err = {0};
    char *line = malloc(LINE_BYTES);
    bool ok = false;

    if (argc < 4 || line == NULL) {
        fprintf(stderr,
                "machine_driver memory|<folder> <now> <seed> <id>,<resource>,<action>...\n");
        free(line);
        return 2;
    }
    s.path = strcmp(argv[1], "memory") == 0 ? NULL : argv[1];
    s.now = strtoll(argv[2], NULL, 10);
    random_state = strtoull(argv[3], NULL, 10);
    for (int i = 4; i < argc && s.catalogue_count < LIST_MAX; i++) {
        credstore_permission *to = &s.catalogue[s.catalogue_count++];

        to->id = strtok(argv[i], ",");
        to->resource = strtok(NULL, ",");
        to->action = strtok(NULL, ",");
    }
    s.actors = calloc(ACTORS_MAX, sizeof *s.actors);
    if (s.actors != NULL && open_store(&s, &err) == CREDSTORE_OK)
        ok = serve_all(&s, line);
    else
        fprintf(stderr, "machine_driver: the store does not open: %s\n", err.message);
    credstore_close(s.store);
    free(s.actors);
    free(line);
    return ok ? 0 : 1;
}
