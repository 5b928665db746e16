/* SPDX-License-Identifier: MIT
 *
 * A store in a process of its own, for a test that never loads the library:
 *
 *   driver <store folder> <key file> create|open <now, ms> [<id>,<resource>,<action>]...
 *
 * Commands come on standard input and answers go out in the same form: a line "<verb> <count>",
 * then, count times, a line "<name> <length>", that many bytes and a newline. Any byte may stand in
 * a value; a field that is not there is absent or null.
 *
 *   clock    now                                     the store's clock, ms
 *   actor    name, type, roles, id, tenant, grants   for the commands that follow
 *   handle   kind, verb, actor, tenant, parent, id, query, body, if_match, if_none_match,
 *            request_id                              the HTTP door
 *   import   kind, actor, tenant, parent, id, origin.<member>..., <member>...   the typed create
 *   view     kind, actor, tenant, parent, id         the typed get
 *   reveal   kind, actor, tenant, id, field          the typed reveal
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "credstore.h"

enum { FIELDS_MAX = 48, NAME_MAX_LEN = 64, VALUE_MAX = 1 << 20, ACTORS_MAX = 8, LIST_MAX = 1024 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- commands and answers ---- */

typedef struct field {
    char name[NAME_MAX_LEN];
    char *ptr; /* a NUL follows */
    size_t len;
} field;

typedef struct message {
    char verb[NAME_MAX_LEN];
    field fields[FIELDS_MAX];
    size_t count;
} message;

static void clear_message(message *m)
{
    for (size_t i = 0; i < m->count; i++) {
        credstore_wipe(m->fields[i].ptr, m->fields[i].len);
        free(m->fields[i].ptr);
    }
    m->count = 0;
}

/* A line "<word> <number>"; false at the end of the input too. */
static bool read_head(char *word, size_t *number)
{
    char line[2 * NAME_MAX_LEN];

    return fgets(line, sizeof line, stdin) != NULL && sscanf(line, "%63s %zu", word, number) == 2;
}

static bool read_field(field *f)
{
    size_t len;

    f->ptr = NULL;
    if (!read_head(f->name, &len) || len > VALUE_MAX)
        return false;
    f->ptr = malloc(len + 1);
    if (f->ptr == NULL || fread(f->ptr, 1, len, stdin) != len || getchar() != '\n') {
        free(f->ptr);
        return false;
    }
    f->ptr[len] = '\0';
    f->len = len;
    return true;
}

static bool read_message(message *m)
{
    size_t count;

    m->count = 0;
    if (!read_head(m->verb, &count) || count > FIELDS_MAX)
        return false;
    while (m->count < count) {
        if (!read_field(&m->fields[m->count]))
            return false;
        m->count++;
    }
    return true;
}

static const field *find(const message *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->fields[i].name, name) == 0)
            return &m->fields[i];
    return NULL;
}

static const char *text(const message *m, const char *name)
{
    const field *f = find(m, name);

    return f == NULL ? NULL : f->ptr;
}

static int64_t number(const message *m, const char *name)
{
    const char *value = text(m, name);

    return value == NULL ? 0 : strtoll(value, NULL, 10);
}

/* Answers are counted first, as a reader wants to know. NULL is left out. */
typedef struct reply {
    field fields[FIELDS_MAX];
    size_t count;
} reply;

static void add(reply *r, const char *name, const char *ptr, size_t len)
{
    field *f = &r->fields[r->count];

    if (ptr == NULL || r->count == FIELDS_MAX || (f->ptr = malloc(len + 1)) == NULL)
        return;
    snprintf(f->name, sizeof f->name, "%s", name);
    memcpy(f->ptr, ptr, len);
    f->len = len;
    r->count++;
}

static void add_text(reply *r, const char *name, const char *ptr)
{
    add(r, name, ptr, ptr == NULL ? 0 : strlen(ptr));
}

static void add_number(reply *r, const char *name, int64_t value)
{
    char digits[24];

    snprintf(digits, sizeof digits, "%" PRId64, value);
    add_text(r, name, digits);
}

static void add_status(reply *r, credstore_status status, const credstore_error *err)
{
    add_text(r, "status", credstore_status_name((int32_t)status));
    if (status == CREDSTORE_OK)
        return;
    add_text(r, "field", err->field);
    add_text(r, "message", err->message);
}

static void send_reply(reply *r)
{
    printf("answer %zu\n", r->count);
    for (size_t i = 0; i < r->count; i++) {
        printf("%s %zu\n", r->fields[i].name, r->fields[i].len);
        fwrite(r->fields[i].ptr, 1, r->fields[i].len, stdout);
        putchar('\n');
        credstore_wipe(r->fields[i].ptr, r->fields[i].len);
        free(r->fields[i].ptr);
    }
    fflush(stdout);
    r->count = 0;
}

/* ---- the four kinds, for the typed calls ---- */

typedef enum member_type {
    TEXT,   /* slot: credstore_text, credstore_secret_text; elsewhere: const char * */
    NUMBER, /* slot: credstore_time; elsewhere: int64_t */
    FLAG,   /* slot: credstore_flag; elsewhere: uint32_t */
    LIST    /* slot: credstore_strings; view: const char *const *, its count behind it */
} member_type;

typedef struct row {
    const char *name;
    size_t at;
    member_type type;
} row;

typedef struct place {
    const char *tenant, *parent, *id;
} place;

typedef struct kind {
    const char *name;
    size_t patch_size, origin_size;
    const row *patch, *origin, *view; /* each ends in a row without a name */
    credstore_status (*create)(credstore *store, const credstore_call *call, const place *at,
                               const void *origin, const void *patch, credstore_error *err);
    credstore_status (*get)(credstore *store, const credstore_call *call, const place *at,
                            const void **out, credstore_error *err);
    credstore_status (*reveal)(credstore *store, const credstore_call *call, const char *id,
                               uint32_t field, credstore_secret **out, credstore_error *err);
    uint32_t number;
} kind;

#define ROW(struct_name, member, type)                                                             \
    {                                                                                              \
#member, offsetof(struct_name, member), type                                               \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, TEXT                                                                              \
    }
#define IN(member, type)     ROW(credstore_checkbook_patch, member, type)
#define ORIGIN(member, type) ROW(credstore_checkbook_origin, member, type)
#define OUT(member, type)    ROW(credstore_checkbook, member, type)

static const row checkbook_patch[] = {IN(publishable_key, TEXT), IN(secret_key, TEXT),
                                      IN(base_url, TEXT), IN(is_active, FLAG), END};
static const row checkbook_origin[] = {ORIGIN(id, TEXT), ORIGIN(created_at, NUMBER),
                                       ORIGIN(updated_at, NUMBER), ORIGIN(client_id, TEXT), END};
static const row checkbook_view[] = {OUT(id, TEXT),
                                     OUT(client_id, TEXT),
                                     OUT(publishable_key, TEXT),
                                     OUT(base_url, TEXT),
                                     OUT(is_active, FLAG),
                                     OUT(has_secret_key, FLAG),
                                     OUT(revision, NUMBER),
                                     OUT(created_at, NUMBER),
                                     OUT(updated_at, NUMBER),
                                     OUT(secret_key_set_at, NUMBER),
                                     END};
#undef IN
#undef ORIGIN
#undef OUT
#define IN(member, type)     ROW(credstore_stripe_patch, member, type)
#define ORIGIN(member, type) ROW(credstore_stripe_origin, member, type)
#define OUT(member, type)    ROW(credstore_stripe, member, type)

static const row stripe_patch[] = {IN(test_secret_key, TEXT),
                                   IN(test_publishable_key, TEXT),
                                   IN(test_webhook_secret, TEXT),
                                   IN(live_secret_key, TEXT),
                                   IN(live_publishable_key, TEXT),
                                   IN(live_webhook_secret, TEXT),
                                   END};
static const row stripe_origin[] = {ORIGIN(id, TEXT), ORIGIN(created_at, NUMBER),
                                    ORIGIN(updated_at, NUMBER), END};
static const row stripe_view[] = {OUT(id, TEXT),
                                  OUT(project_id, TEXT),
                                  OUT(is_active, FLAG),
                                  OUT(has_test_credentials, FLAG),
                                  OUT(has_live_credentials, FLAG),
                                  OUT(revision, NUMBER),
                                  OUT(test_publishable_key, TEXT),
                                  OUT(live_publishable_key, TEXT),
                                  OUT(test_secret_key_masked, TEXT),
                                  OUT(test_publishable_key_masked, TEXT),
                                  OUT(test_webhook_secret_masked, TEXT),
                                  OUT(live_secret_key_masked, TEXT),
                                  OUT(live_publishable_key_masked, TEXT),
                                  OUT(live_webhook_secret_masked, TEXT),
                                  OUT(created_at, NUMBER),
                                  OUT(updated_at, NUMBER),
                                  OUT(test_configured_at, NUMBER),
                                  OUT(live_configured_at, NUMBER),
                                  END};
#undef IN
#undef ORIGIN
#undef OUT
#define IN(member, type)     ROW(credstore_service_credential_patch, member, type)
#define ORIGIN(member, type) ROW(credstore_service_credential_origin, member, type)
#define OUT(member, type)    ROW(credstore_service_credential, member, type)

static const row service_patch[] = {IN(name, TEXT), IN(description, TEXT), END};
static const row service_origin[] = {
    ORIGIN(id, TEXT),        ORIGIN(created_at, NUMBER),   ORIGIN(updated_at, NUMBER),
    ORIGIN(client_id, TEXT), ORIGIN(last_used_at, NUMBER), END};
static const row service_view[] = {OUT(organization_id, TEXT),
                                   OUT(service_account_id, TEXT),
                                   OUT(id, TEXT),
                                   OUT(client_id, TEXT),
                                   OUT(name, TEXT),
                                   OUT(description, TEXT),
                                   OUT(revision, NUMBER),
                                   OUT(created_at, NUMBER),
                                   OUT(updated_at, NUMBER),
                                   OUT(last_used_at, NUMBER),
                                   END};
#undef IN
#undef ORIGIN
#undef OUT
#define IN(member, type)     ROW(credstore_api_key_patch, member, type)
#define ORIGIN(member, type) ROW(credstore_api_key_origin, member, type)
#define OUT(member, type)    ROW(credstore_api_key, member, type)

static const row api_key_patch[] = {IN(description, TEXT), IN(expires_at, NUMBER),
                                    IN(permissions, LIST), END};
static const row api_key_origin[] = {ORIGIN(id, TEXT), ORIGIN(created_at, NUMBER),
                                     ORIGIN(updated_at, NUMBER), ORIGIN(last_used_at, NUMBER), END};
static const row api_key_view[] = {OUT(id, TEXT),
                                   OUT(description, TEXT),
                                   OUT(permissions, LIST),
                                   OUT(last_four, TEXT),
                                   OUT(expires_at, NUMBER),
                                   OUT(revision, NUMBER),
                                   OUT(created_at, NUMBER),
                                   OUT(updated_at, NUMBER),
                                   OUT(last_used_at, NUMBER),
                                   END};

static credstore_status create_checkbook(credstore *store, const credstore_call *call,
                                         const place *at, const void *origin, const void *patch,
                                         credstore_error *err)
{
    (void)at;
    return credstore_checkbook_create(store, call, origin, patch, NULL, err);
}

static credstore_status get_checkbook(credstore *store, const credstore_call *call, const place *at,
                                      const void **out, credstore_error *err)
{
    const credstore_checkbook *view = NULL;
    const credstore_status status = credstore_checkbook_get(store, call, at->id, &view, err);

    *out = view;
    return status;
}

static credstore_status create_stripe(credstore *store, const credstore_call *call, const place *at,
                                      const void *origin, const void *patch, credstore_error *err)
{
    return credstore_stripe_create(store, call, at->id, origin, patch, NULL, err);
}

static credstore_status get_stripe(credstore *store, const credstore_call *call, const place *at,
                                   const void **out, credstore_error *err)
{
    const credstore_stripe *view = NULL;
    const credstore_status status = credstore_stripe_get(store, call, at->id, &view, err);

    *out = view;
    return status;
}

static credstore_status create_service(credstore *store, const credstore_call *call,
                                       const place *at, const void *origin, const void *patch,
                                       credstore_error *err)
{
    return credstore_service_credential_create(store, call, at->tenant, at->parent, origin, patch,
                                               NULL, err);
}

static credstore_status get_service(credstore *store, const credstore_call *call, const place *at,
                                    const void **out, credstore_error *err)
{
    const credstore_service_credential *view = NULL;
    const credstore_status status =
        credstore_service_credential_get(store, call, at->tenant, at->parent, at->id, &view, err);

    *out = view;
    return status;
}

static credstore_status create_api_key(credstore *store, const credstore_call *call,
                                       const place *at, const void *origin, const void *patch,
                                       credstore_error *err)
{
    (void)at;
    return credstore_api_key_create(store, call, origin, patch, NULL, err);
}

static credstore_status get_api_key(credstore *store, const credstore_call *call, const place *at,
                                    const void **out, credstore_error *err)
{
    const credstore_api_key *view = NULL;
    const credstore_status status = credstore_api_key_get(store, call, at->id, &view, err);

    *out = view;
    return status;
}

static const kind kinds[] = {
    {"checkbook", sizeof(credstore_checkbook_patch), sizeof(credstore_checkbook_origin),
     checkbook_patch, checkbook_origin, checkbook_view, create_checkbook, get_checkbook,
     credstore_checkbook_reveal, CREDSTORE_KIND_CHECKBOOK},
    {"stripe", sizeof(credstore_stripe_patch), sizeof(credstore_stripe_origin), stripe_patch,
     stripe_origin, stripe_view, create_stripe, get_stripe, credstore_stripe_reveal,
     CREDSTORE_KIND_STRIPE},
    {"service_credential", sizeof(credstore_service_credential_patch),
     sizeof(credstore_service_credential_origin), service_patch, service_origin, service_view,
     create_service, get_service, NULL, CREDSTORE_KIND_SERVICE_CREDENTIAL},
    {"api_key", sizeof(credstore_api_key_patch), sizeof(credstore_api_key_origin), api_key_patch,
     api_key_origin, api_key_view, create_api_key, get_api_key, NULL, CREDSTORE_KIND_API_KEY},
};

/* ---- the session ---- */

typedef struct named_actor {
    char name[NAME_MAX_LEN];
    credstore_actor actor;
} named_actor;

typedef struct session {
    credstore *store;
    int64_t now;
    named_actor actors[ACTORS_MAX];
    size_t actor_count;
} session;

static int64_t now_of(void *ctx)
{
    return ((const session *)ctx)->now;
}

static const credstore_actor *actor_of(const session *s, const message *m)
{
    const char *name = text(m, "actor");

    for (size_t i = 0; name != NULL && i < s->actor_count; i++)
        if (strcmp(s->actors[i].name, name) == 0)
            return &s->actors[i].actor;
    return NULL;
}

static const kind *kind_of(const message *m)
{
    const char *name = text(m, "kind");

    for (size_t i = 0; name != NULL && i < COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* Cuts a text at its newlines. */
static size_t split(char *lines, const char **items)
{
    size_t count = 0;

    for (char *line = lines; line != NULL && *line != '\0' && count < LIST_MAX;) {
        char *end = strchr(line, '\n');

        items[count++] = line;
        if (end != NULL)
            *end++ = '\0';
        line = end;
    }
    return count;
}

static credstore_status do_actor(session *s, const message *m, reply *r, credstore_error *err)
{
    named_actor *a = &s->actors[s->actor_count];
    const field *grants = find(m, "grants");
    const char *items[LIST_MAX];
    const size_t count = grants == NULL ? 0 : split(grants->ptr, items);
    credstore_status status = CREDSTORE_OK;

    (void)r;
    if (s->actor_count == ACTORS_MAX)
        return CREDSTORE_E_INTERNAL;
    snprintf(a->name, sizeof a->name, "%s", text(m, "name"));
    a->actor.struct_size = sizeof a->actor;
    a->actor.type = (uint32_t)number(m, "type");
    a->actor.roles = (uint32_t)number(m, "roles");
    snprintf(a->actor.id, sizeof a->actor.id, "%s", text(m, "id"));
    snprintf(a->actor.tenant, sizeof a->actor.tenant, "%s", text(m, "tenant"));
    for (size_t i = 0; i < count && status == CREDSTORE_OK; i++)
        status = credstore_actor_grant(s->store, &a->actor, items[i], err);
    s->actor_count++;
    return status;
}

static credstore_slice slice(const message *m, const char *name)
{
    const field *f = find(m, name);
    const credstore_slice out = {f == NULL ? NULL : f->ptr, f == NULL ? 0 : f->len};

    return out;
}

static uint32_t verb_of(const message *m)
{
    static const char *const verbs[] = {"get", "create", "update"};
    const char *name = text(m, "verb");
    uint32_t verb = CREDSTORE_VERB_GET;

    for (size_t i = 0; name != NULL && i < COUNT(verbs); i++)
        if (strcmp(name, verbs[i]) == 0)
            verb = CREDSTORE_VERB_GET + (uint32_t)i;
    return verb;
}

static void do_handle(session *s, const message *m, reply *r)
{
    const credstore_request request = {
        .struct_size = sizeof request,
        .kind = kind_of(m)->number,
        .verb = verb_of(m),
        .actor = actor_of(s, m),
        .tenant = slice(m, "tenant"),
        .parent = slice(m, "parent"),
        .id = slice(m, "id"),
        .query = slice(m, "query"),
        .body = slice(m, "body"),
        .if_match = slice(m, "if_match"),
        .if_none_match = slice(m, "if_none_match"),
        .request_id = slice(m, "request_id"),
    };
    const credstore_answer *answer = credstore_handle(s->store, &request);

    add_text(r, "status", credstore_status_name(answer->status));
    add_number(r, "http", answer->http_status);
    add_number(r, "revision", (int64_t)answer->revision);
    add_text(r, "content_type", answer->content_type);
    add_text(r, "etag", answer->etag);
    add(r, "body", answer->body, answer->body_len);
    credstore_answer_free(answer);
}

/* ---- typed calls ---- */

static credstore_call call_of(const session *s, const message *m)
{
    const credstore_call call = {
        .struct_size = sizeof call, .actor = actor_of(s, m), .tenant = text(m, "tenant")};

    return call;
}

static place place_of(const message *m)
{
    const place at = {text(m, "tenant"), text(m, "parent"), text(m, "id")};

    return at;
}

static void fill_slot(uint8_t *to, member_type type, const field *from, const char **items)
{
    const credstore_text as_text = {from->ptr, from->len, CREDSTORE_SET, 0};
    const credstore_flag as_flag = {CREDSTORE_SET, from->ptr[0] == '1'};
    const credstore_time as_time = {strtoll(from->ptr, NULL, 10), CREDSTORE_SET, 0};
    credstore_strings as_list = {items, 0, CREDSTORE_SET, 0};

    if (type == FLAG)
        memcpy(to, &as_flag, sizeof as_flag);
    if (type == NUMBER)
        memcpy(to, &as_time, sizeof as_time);
    if (type == TEXT)
        memcpy(to, &as_text, sizeof as_text);
    if (type != LIST)
        return;
    as_list.count = split(from->ptr, items);
    memcpy(to, &as_list, sizeof as_list);
}

static void fill_origin(uint8_t *to, member_type type, const field *from)
{
    const char *const as_text = from->ptr;
    const int64_t as_time = strtoll(from->ptr, NULL, 10);

    if (type == NUMBER)
        memcpy(to, &as_time, sizeof as_time);
    else
        memcpy(to, &as_text, sizeof as_text);
}

static credstore_status do_import(session *s, const message *m, reply *r, credstore_error *err)
{
    const kind *k = kind_of(m);
    const credstore_call call = call_of(s, m);
    const place at = place_of(m);
    const char *items[LIST_MAX];
    _Alignas(max_align_t) uint8_t patch[512] = {0}, origin[128] = {0};
    const uint32_t patch_size = (uint32_t)k->patch_size, origin_size = (uint32_t)k->origin_size;

    (void)r;
    memcpy(patch, &patch_size, sizeof patch_size);
    memcpy(origin, &origin_size, sizeof origin_size);
    for (const row *slot = k->patch; slot->name != NULL; slot++) {
        const field *f = find(m, slot->name);

        if (f != NULL)
            fill_slot(patch + slot->at, slot->type, f, items);
    }
    for (const row *member = k->origin; member->name != NULL; member++) {
        char name[NAME_MAX_LEN];
        const field *f;

        snprintf(name, sizeof name, "origin.%s", member->name);
        f = find(m, name);
        if (f != NULL)
            fill_origin(origin + member->at, member->type, f);
    }
    return k->create(s->store, &call, &at, origin, patch, err);
}

static void add_list(reply *r, const char *name, const uint8_t *at)
{
    const char *const *items;
    char *joined;
    size_t count, room = 1, len = 0;

    memcpy(&items, at, sizeof items);
    memcpy(&count, at + sizeof items, sizeof count);
    for (size_t i = 0; items != NULL && i < count; i++)
        room += strlen(items[i]) + 1;
    joined = malloc(room);
    if (joined == NULL)
        return;
    for (size_t i = 0; items != NULL && i < count; i++)
        len += (size_t)snprintf(joined + len, room - len, "%s%s", i == 0 ? "" : "\n", items[i]);
    add(r, name, joined, len);
    free(joined);
}

static void add_member(reply *r, const row *member, const uint8_t *view)
{
    const char *as_text;
    int64_t as_number;
    uint32_t as_flag;

    switch (member->type) {
    case TEXT:
        memcpy(&as_text, view + member->at, sizeof as_text);
        add_text(r, member->name, as_text);
        break;
    case NUMBER:
        memcpy(&as_number, view + member->at, sizeof as_number);
        add_number(r, member->name, as_number);
        break;
    case FLAG:
        memcpy(&as_flag, view + member->at, sizeof as_flag);
        add_number(r, member->name, as_flag);
        break;
    default: /* LIST */
        add_list(r, member->name, view + member->at);
        break;
    }
}

static credstore_status do_view(session *s, const message *m, reply *r, credstore_error *err)
{
    const kind *k = kind_of(m);
    const credstore_call call = call_of(s, m);
    const place at = place_of(m);
    const void *view = NULL;
    const credstore_status status = k->get(s->store, &call, &at, &view, err);

    for (const row *member = k->view; view != NULL && member->name != NULL; member++)
        add_member(r, member, view);
    credstore_free(view);
    return status;
}

static credstore_status do_reveal(session *s, const message *m, reply *r, credstore_error *err)
{
    const kind *k = kind_of(m);
    const credstore_call call = call_of(s, m);
    credstore_secret *secret = NULL;
    credstore_status status;

    if (k->reveal == NULL)
        return CREDSTORE_E_UNSUPPORTED;
    status = k->reveal(s->store, &call, text(m, "id"), (uint32_t)number(m, "field"), &secret, err);
    if (status == CREDSTORE_OK)
        add(r, "secret", credstore_secret_ptr(secret), credstore_secret_len(secret));
    credstore_secret_free(secret);
    return status;
}

/* ---- one command ---- */

typedef struct command {
    const char *verb;
    credstore_status (*run)(session *s, const message *m, reply *r, credstore_error *err);
} command;

static const command commands[] = {
    {"actor", do_actor}, {"import", do_import}, {"view", do_view}, {"reveal", do_reveal}};

/* The store looks at its clock at once, whatever comes next. */
static credstore_status set_clock(session *s, int64_t now, credstore_error *err)
{
    const credstore_actor host = {
        .struct_size = sizeof host, .type = CREDSTORE_ACTOR_SYSTEM, .id = "clock"};
    const credstore_call call = {.struct_size = sizeof call, .actor = &host};
    const credstore_stats *stats = NULL;
    credstore_status status;

    s->now = now;
    status = credstore_statistics(s->store, &call, 0, &stats, err);
    credstore_free(stats);
    return status;
}

static bool serve(session *s, const message *m)
{
    credstore_error err = {0};
    reply r = {0};
    bool known = true;

    if (strcmp(m->verb, "clock") == 0) {
        add_status(&r, set_clock(s, number(m, "now"), &err), &err);
    } else if (strcmp(m->verb, "handle") == 0 && kind_of(m) != NULL) {
        do_handle(s, m, &r);
    } else {
        known = false;
        for (size_t i = 0; i < COUNT(commands); i++) {
            if (strcmp(m->verb, commands[i].verb) != 0)
                continue;
            if (i > 0 && kind_of(m) == NULL)
                return false;
            known = true;
            add_status(&r, commands[i].run(s, m, &r, &err), &err);
        }
    }
    send_reply(&r);
    return known;
}

static credstore_status open_store(session *s, int argc, char **argv, credstore_error *err)
{
    static credstore_permission catalogue[LIST_MAX];
    const bool create = strcmp(argv[3], "create") == 0;
    credstore_key_source *key = NULL;
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = create ? CREDSTORE_OPEN_CREATE : 0,
        .catalogue = catalogue,
        .now_ms = now_of,
        .now_ctx = s,
    };
    credstore_status status;

    for (int i = 5; i < argc && options.catalogue_count < LIST_MAX; i++) {
        credstore_permission *to = &catalogue[options.catalogue_count++];

        to->id = strtok(argv[i], ",");
        to->resource = strtok(NULL, ",");
        to->action = strtok(NULL, ",");
    }
    status = credstore_key_file(argv[2], create ? CREDSTORE_KEY_CREATE : 0, &key, err);
    options.key = key;
    if (status == CREDSTORE_OK)
        status = credstore_open(argv[1], &options, &s->store, err);
    credstore_key_source_free(key);
    return status;
}

int main(int argc, char **argv)
{
    static session s;
    static message m;
    credstore_error err = {0};
    reply r = {0};
    credstore_status status;
    bool ok = true;

    if (argc < 5) {
        fprintf(stderr, "driver <store> <key file> create|open <now> [id,resource,action]...\n");
        return 2;
    }
    s.now = strtoll(argv[4], NULL, 10);
    status = open_store(&s, argc, argv, &err);
    add_status(&r, status, &err);
    send_reply(&r);
    if (status != CREDSTORE_OK)
        return 1;
    while (ok && read_message(&m)) {
        ok = serve(&s, &m);
        clear_message(&m);
    }
    clear_message(&m);
    credstore_close(s.store);
    return ok ? 0 : 2;
}
