/* SPDX-License-Identifier: MIT
 *
 * The HTTP door: raw header values and body in, a whole answer out. It opens no socket and parses
 * no HTTP.
 */
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "dialect.h"
#include "history.h"
#include "list.h"
#include "error.h"
#include "sized.h"
#include "text.h"
#include "update.h"
#include "verify.h"

enum { REQUEST_ID_MAX = 128, ETAG_MAX = 24, CURSOR_MAX = 400, DIGITS_MAX = 9 };

/* A revision that no record has: an entity tag that cannot be one of ours. */
static const uint64_t never = CREDSTORE_MUST_BE_NEW - 1;

static const uint16_t request_starts[] = {
    offsetof(credstore_request, kind),
    offsetof(credstore_request, verb),
    offsetof(credstore_request, flags),
    offsetof(credstore_request, actor),
    offsetof(credstore_request, tenant),
    offsetof(credstore_request, parent),
    offsetof(credstore_request, id),
    offsetof(credstore_request, query),
    offsetof(credstore_request, body),
    offsetof(credstore_request, if_match),
    offsetof(credstore_request, if_none_match),
    offsetof(credstore_request, request_id),
    offsetof(credstore_request, idempotency_key),
    offsetof(credstore_request, presented),
};

/* ---- answers ---- */

static const char out_of_memory_body[] =
    "{\"type\":\"about:blank\",\"title\":\"Internal Server Error\",\"status\":500}";
static const credstore_answer out_of_memory = {
    .struct_size = sizeof(credstore_answer),
    .status = CREDSTORE_E_NO_MEMORY,
    .http_status = 500,
    .content_type = "application/problem+json",
    .body = out_of_memory_body,
    .body_len = sizeof out_of_memory_body - 1,
};

/* A copy of body behind the answer, in one block. NULL when memory is out. */
static credstore_answer *new_answer(credstore_status status, uint32_t http, const char *type,
                                    uint64_t revision, const char *body, size_t body_len)
{
    credstore_answer *a = cs_block_new(sizeof *a + ETAG_MAX + body_len + 1);
    char *etag, *text;

    if (a == NULL)
        return NULL;
    etag = (char *)(a + 1);
    text = etag + ETAG_MAX;
    a->struct_size = sizeof *a;
    a->status = (int32_t)status;
    a->http_status = http;
    a->revision = revision;
    if (revision != 0) {
        snprintf(etag, ETAG_MAX, "\"%llu\"", (unsigned long long)revision);
        a->etag = etag;
    }
    if (body != NULL) {
        memcpy(text, body, body_len);
        a->body = text;
        a->body_len = body_len;
        a->content_type = type;
    }
    return a;
}

void credstore_answer_free(const credstore_answer *answer)
{
    if (answer != &out_of_memory)
        credstore_free(answer);
}

static const credstore_answer *refuse(const cs_kind *kind, const credstore_error *error)
{
    size_t len = 0;
    char *body = cs_error_json(kind, error, &len);
    const credstore_status status = (credstore_status)error->status;
    credstore_answer *answer = body == NULL ? NULL
                                            : new_answer(status, cs_http_status(status),
                                                         cs_error_type(kind), 0, body, len);

    cs_json_text_free(body, len);
    if (answer == NULL)
        return &out_of_memory;
    answer->retry_after_s = error->retry_after_s;
    return answer;
}

/* ---- one request ---- */

typedef struct visit {
    const cs_kind *kind;
    credstore_request request;
    credstore_call call;
    credstore_actor presenter; /* whom the presented token speaks for */
    cs_names names;
    char tenant[CS_ID_MAX + 2], parent[CS_ID_MAX + 2], id[CS_ID_MAX + 2];
    char request_id[REQUEST_ID_MAX + 2], idempotency_key[CS_ID_MAX + 2];
    credstore_page page;
    uint32_t grace_s, revision;
    char after[CURSOR_MAX + 2], before[CURSOR_MAX + 2];
    credstore_secret *token; /* issued, to be shown once */
    credstore_answer *answer;
} visit;

/* A slice as a text. What cannot be one (a NUL in it, too long, empty) becomes a newline, which no
   alphabet has: so it is refused where the value is checked, and not before the policy has spoken.
 */
static const char *text_of(credstore_slice slice, char *out, size_t max)
{
    if (slice.ptr == NULL)
        return NULL;
    if (slice.len == 0 || slice.len > max || memchr(slice.ptr, '\0', slice.len) != NULL) {
        memcpy(out, "\n", 2);
        return out;
    }
    memcpy(out, slice.ptr, slice.len);
    out[slice.len] = '\0';
    return out;
}

/* Without a pointer there is nothing, whatever the length says. */
static void drop_lengths(credstore_request *r)
{
    credstore_slice *const slices[] = {&r->tenant,         &r->parent,        &r->id,
                                       &r->query,          &r->body,          &r->if_match,
                                       &r->presented,      &r->if_none_match, &r->request_id,
                                       &r->idempotency_key};

    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++)
        if (slices[i]->ptr == NULL)
            slices[i]->len = 0;
}

static credstore_slice trimmed(credstore_slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static bool is_text(credstore_slice s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

/* The revision of one strong entity tag of ours, or `never`. */
static uint64_t tag_revision(credstore_slice tag)
{
    uint64_t revision = 0;

    if (tag.len < 3 || tag.len > 22 || tag.ptr[0] != '"' || tag.ptr[tag.len - 1] != '"' ||
        tag.ptr[1] == '0')
        return never;
    for (size_t i = 1; i + 1 < tag.len; i++) {
        const unsigned digit = (unsigned)(unsigned char)tag.ptr[i] - '0';

        if (digit > 9 || revision > (never - digit) / 10)
            return never;
        revision = revision * 10 + digit;
    }
    return revision;
}

/* If-Match and If-None-Match of a change (RFC 9110, 13.1). */
static credstore_status take_conditions(visit *v, credstore_error *err)
{
    const credstore_slice match = trimmed(v->request.if_match);
    const credstore_slice none = trimmed(v->request.if_none_match);

    if (match.ptr != NULL && none.ptr != NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "If-Match", "It excludes If-None-Match");
    if (none.ptr != NULL && !is_text(none, "*"))
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "If-None-Match", "A change takes * alone");
    if (none.ptr != NULL)
        v->call.expected_revision = CREDSTORE_MUST_BE_NEW;
    if (match.ptr == NULL)
        return CREDSTORE_OK;
    if (memchr(match.ptr, ',', match.len) != NULL)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "If-Match", "A change takes one entity tag");
    v->call.expected_revision = is_text(match, "*") ? CREDSTORE_MUST_EXIST : tag_revision(match);
    return CREDSTORE_OK;
}

/* What the revision does not tell of: the actor's permissions, what the record's own are in today's
   catalogue, and when it was last used. Never used, it never was. */
static bool tells_more(const visit *v, const void *view)
{
    return (v->call.flags & CREDSTORE_CALL_EXPAND_PERMISSIONS) != 0 ||
           v->kind->permissions_field != 0 || cs_view_last_used(v->kind, view) != 0;
}

/* If-None-Match of a get: does any tag, compared weakly, name this revision? */
static bool is_unchanged(const visit *v, const void *view, uint64_t revision)
{
    credstore_slice rest = trimmed(v->request.if_none_match);

    if (rest.ptr == NULL || tells_more(v, view))
        return false;
    if (is_text(rest, "*"))
        return true;
    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        const size_t len = comma == NULL ? rest.len : (size_t)(comma - rest.ptr);
        credstore_slice tag = trimmed((credstore_slice){rest.ptr, len});

        if (tag.len > 2 && tag.ptr[0] == 'W' && tag.ptr[1] == '/') {
            tag.ptr += 2;
            tag.len -= 2;
        }
        if (tag_revision(tag) == revision)
            return true;
        rest.ptr += comma == NULL ? rest.len : len + 1;
        rest.len -= comma == NULL ? rest.len : len + 1;
    }
    return false;
}

/* ---- query ---- */

/* The next of `separator`-separated pieces. */
static credstore_slice next_piece(credstore_slice *rest, char separator)
{
    const char *end = memchr(rest->ptr, separator, rest->len);
    const size_t len = end == NULL ? rest->len : (size_t)(end - rest->ptr);
    const credstore_slice piece = {rest->ptr, len};

    rest->ptr += end == NULL ? rest->len : len + 1;
    rest->len -= end == NULL ? rest->len : len + 1;
    return piece;
}

static bool is_expand(credstore_slice name)
{
    static const char *const names[] = {"expand", "expand[]", "expand%5B%5D", "expand%5b%5d"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_text(name, names[i]))
            return true;
    return false;
}

/* expand[]=permissions, again or as a comma list. */
static credstore_status take_expand(visit *v, credstore_slice value, credstore_error *err)
{
    bool more;

    do {
        more = value.len > 0 && memchr(value.ptr, ',', value.len) != NULL;
        if (!is_text(next_piece(&value, ','), "permissions"))
            return cs_fail(err, CREDSTORE_E_INVALID, "expand[]", "Only permissions expand");
    } while (more);
    v->call.flags |= CREDSTORE_CALL_EXPAND_PERMISSIONS;
    return CREDSTORE_OK;
}

static credstore_status take_number(credstore_slice value, uint32_t *out, const char *name,
                                    credstore_error *err)
{
    *out = 0;
    for (size_t i = 0; i < value.len; i++) {
        const unsigned digit = (unsigned)(unsigned char)value.ptr[i] - '0';

        if (digit > 9 || value.len > DIGITS_MAX)
            return cs_fail(err, CREDSTORE_E_INVALID, name, "The value is not a number in range");
        *out = *out * 10 + digit;
    }
    if (value.len == 0)
        return cs_fail(err, CREDSTORE_E_INVALID, name, "The value is empty");
    return CREDSTORE_OK;
}

static credstore_status take_parameter(visit *v, credstore_slice name, credstore_slice value,
                                       credstore_error *err)
{
    const bool lists = v->request.verb == CREDSTORE_VERB_LIST;

    if ((v->kind->flags & CS_EXPAND) != 0 && is_expand(name))
        return take_expand(v, value, err);
    if (lists && is_text(name, "limit"))
        return take_number(value, &v->page.limit, "limit", err);
    if (v->request.verb == CREDSTORE_VERB_HISTORY && is_text(name, "limit"))
        return take_number(value, &v->page.limit, "limit", err);
    if (v->request.verb == CREDSTORE_VERB_HISTORY && is_text(name, "before"))
        return take_number(value, &v->revision, "before", err);
    if (v->request.verb == CREDSTORE_VERB_RESTORE && is_text(name, "revision"))
        return take_number(value, &v->revision, "revision", err);
    if (v->request.verb == CREDSTORE_VERB_ROLL && is_text(name, "grace_s"))
        return take_number(value, &v->grace_s, "grace_s", err);
    if (lists && is_text(name, "after"))
        v->page.after = text_of(value, v->after, CURSOR_MAX);
    if (lists && is_text(name, "before"))
        v->page.before = text_of(value, v->before, CURSOR_MAX);
    return CREDSTORE_OK; /* other parameters are the host's */
}

static credstore_status take_query(visit *v, credstore_error *err)
{
    credstore_slice rest = v->request.query;
    credstore_status status = CREDSTORE_OK;

    v->page.struct_size = sizeof v->page;
    v->page.limit = CS_PAGE_DEFAULT;
    while (rest.len > 0 && status == CREDSTORE_OK) {
        credstore_slice value = next_piece(&rest, '&');
        const credstore_slice name = next_piece(&value, '=');

        status = take_parameter(v, name, value, err);
    }
    return status;
}

/* ---- verbs ---- */

/* answer NULL: memory was out. */
static credstore_status set_answer(visit *v, credstore_answer *answer, credstore_error *err)
{
    credstore_answer_free(v->answer);
    v->answer = answer;
    if (answer == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return CREDSTORE_OK;
}

/* Takes over the JSON text. */
static credstore_status set_json(visit *v, uint32_t http, uint64_t revision, char *json, size_t len,
                                 credstore_error *err)
{
    credstore_answer *answer =
        json == NULL ? NULL
                     : new_answer(CREDSTORE_OK, http, "application/json", revision, json, len);

    cs_json_text_free(json, len);
    return set_answer(v, answer, err);
}

static credstore_status render_page(void *arg, const void *page, credstore_error *err)
{
    visit *v = arg;
    size_t len = 0;
    char *json = cs_page_json(v->kind, page, v->request.verb == CREDSTORE_VERB_HISTORY, &len);

    return set_json(v, 200, 0, json, len, err);
}

/* Makes the whole answer; for a change, inside its transaction: after the commit nothing may fail.
 */
static credstore_status render(void *arg, const void *view, credstore_error *err)
{
    visit *v = arg;
    const uint64_t revision = cs_view_revision(v->kind, view);
    const uint32_t verb = v->request.verb;
    const char *fixed = v->kind->update_body;
    size_t len = 0;
    char *json;

    if (verb == CREDSTORE_VERB_GET && is_unchanged(v, view, revision))
        return set_answer(v, new_answer(CREDSTORE_OK, 304, NULL, revision, NULL, 0), err);
    if (verb == CREDSTORE_VERB_UPDATE && fixed != NULL)
        return set_answer(
            v, new_answer(CREDSTORE_OK, 200, "application/json", revision, fixed, strlen(fixed)),
            err);
    json =
        cs_view_json(v->kind, view, v->token == NULL ? NULL : credstore_secret_ptr(v->token), &len);
    return set_json(v, verb == CREDSTORE_VERB_CREATE ? 201 : 200, revision, json, len, err);
}

static credstore_status list(credstore *store, visit *v, credstore_error *err)
{
    const cs_render to_answer = {render_page, v};
    const void *page = NULL;
    const credstore_status status =
        cs_list(store, v->kind, &v->call, &v->names, &v->page, &to_answer, &page, err);

    credstore_free(page);
    return status;
}

static credstore_status get(credstore *store, visit *v, credstore_error *err)
{
    const cs_render to_answer = {render, v};
    const void *view = NULL;
    const credstore_status status =
        cs_get(store, v->kind, &v->call, &v->names, &to_answer, &view, err);

    credstore_free(view);
    if (status != CREDSTORE_E_NOT_FOUND || (v->kind->flags & CS_GET_NULL) == 0)
        return status;
    return set_answer(v, new_answer(CREDSTORE_OK, 200, "application/json", 0, "null", 4), err);
}

/* A creation that brings no id, of a kind that issues tokens, issues one. It stands in this one
 * answer. */
static bool issues(const visit *v)
{
    return v->request.verb == CREDSTORE_VERB_CREATE && v->kind->token.digest != 0 &&
           v->names.id == NULL;
}

static credstore_status change(credstore *store, visit *v, credstore_error *err)
{
    const bool create = v->request.verb == CREDSTORE_VERB_CREATE;
    const bool id_in_origin = create && v->kind->origin.id != 0;
    const cs_render to_answer = {render, v};
    cs_names names = v->names;
    cs_body body = {0};
    const cs_token_wish wish = {.out = &v->token};
    cs_request request = {.names = &names, .render = &to_answer, .token = issues(v) ? &wish : NULL};
    credstore_status status;

    if (id_in_origin)
        names.id = NULL;
    status = cs_body_take(v->kind, v->request.body, create, v->names.id, &body, err);
    if (status == CREDSTORE_OK) {
        request.patch = body.patch.bytes;
        request.origin = create ? body.origin.bytes : NULL;
        status = (create ? cs_create : cs_update)(store, v->kind, &v->call, &request, NULL, err);
        cs_body_place(v->kind, &body, err);
    }
    cs_body_free(&body);
    credstore_secret_free(v->token);
    v->token = NULL;
    return status;
}

static credstore_status drop(credstore *store, visit *v, credstore_error *err)
{
    const cs_request request = {.names = &v->names};
    credstore_status status;

    /* The answer first: after the commit nothing may fail. */
    status = set_answer(v, new_answer(CREDSTORE_OK, 204, NULL, 0, NULL, 0), err);
    if (status == CREDSTORE_OK)
        status = cs_remove(store, v->kind, &v->call, &request, err);
    return status;
}

static credstore_status turn(credstore *store, visit *v, credstore_error *err)
{
    const bool off = v->request.verb == CREDSTORE_VERB_DEACTIVATE;
    const cs_render to_answer = {render, v};
    const cs_request request = {.names = &v->names, .render = &to_answer};

    return cs_switch(store, v->kind, &v->call, &request,
                     off ? CS_ACTION_DEACTIVATE : CS_ACTION_REACTIVATE, NULL, err);
}

/* A new token, shown once. */
static credstore_status roll_token(credstore *store, visit *v, credstore_error *err)
{
    const cs_render to_answer = {render, v};
    const cs_token_wish wish = {.grace_s = v->grace_s, .out = &v->token};
    const cs_request request = {.names = &v->names, .render = &to_answer, .token = &wish};
    const credstore_status status = cs_roll(store, v->kind, &v->call, &request, NULL, err);

    credstore_secret_free(v->token);
    v->token = NULL;
    return status;
}

/* The body of a roll sets secrets alone, and at least one. */
static credstore_status check_secrets_alone(const cs_kind *kind, const cs_body *body,
                                            credstore_error *err)
{
    credstore_secret_text slot;
    size_t secrets = 0;

    for (size_t i = 0; i < kind->field_count; i++) {
        if (body->offset[i] == 0)
            continue;
        memcpy(&slot, body->patch.bytes + kind->fields[i].in, sizeof slot);
        if (kind->fields[i].type != CS_SECRET || slot.op != CREDSTORE_SET)
            return cs_fail_at(err, CREDSTORE_E_INVALID, kind->fields[i].name, body->offset[i],
                              "A roll sets secrets alone");
        secrets++;
    }
    if (secrets == 0)
        return cs_fail(err, CREDSTORE_E_INVALID, NULL, "A roll sets a secret");
    return CREDSTORE_OK;
}

static credstore_status roll_secrets(credstore *store, visit *v, credstore_error *err)
{
    const cs_render to_answer = {render, v};
    cs_body body = {0};
    const cs_request request = {
        .names = &v->names, .patch = body.patch.bytes, .render = &to_answer, .grace_s = v->grace_s};
    credstore_status status = cs_body_take(v->kind, v->request.body, false, NULL, &body, err);

    if (status == CREDSTORE_OK)
        status = check_secrets_alone(v->kind, &body, err);
    if (status == CREDSTORE_OK) {
        status = cs_roll(store, v->kind, &v->call, &request, NULL, err);
        cs_body_place(v->kind, &body, err);
    }
    cs_body_free(&body);
    return status;
}

static credstore_status roll(credstore *store, visit *v, credstore_error *err)
{
    return v->kind->token.digest != 0 ? roll_token(store, v, err) : roll_secrets(store, v, err);
}

static credstore_status history(credstore *store, visit *v, credstore_error *err)
{
    const void *page = NULL;
    credstore_status status =
        cs_history(store, v->kind, &v->call, &v->names, v->revision, v->page.limit, &page, err);

    if (status == CREDSTORE_OK)
        status = render_page(v, page, err);
    credstore_free(page);
    return status;
}

static credstore_status restore(credstore *store, visit *v, credstore_error *err)
{
    const cs_render to_answer = {render, v};
    const cs_request request = {
        .names = &v->names, .render = &to_answer, .source_revision = v->revision};

    if (v->revision == 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "revision", "The revision is missing");
    return cs_restore(store, v->kind, &v->call, &request, NULL, err);
}

typedef struct verb_row {
    cs_class cls;
    credstore_status (*run)(credstore *store, visit *v, credstore_error *err);
} verb_row;

static const verb_row verbs[] = {
    [CREDSTORE_VERB_GET] = {CS_READ, get},
    [CREDSTORE_VERB_CREATE] = {CS_CHANGE, change},
    [CREDSTORE_VERB_UPDATE] = {CS_CHANGE, change},
    [CREDSTORE_VERB_LIST] = {CS_READ, list},
    [CREDSTORE_VERB_REMOVE] = {CS_CHANGE, drop},
    [CREDSTORE_VERB_ROLL] = {CS_CHANGE, roll},
    [CREDSTORE_VERB_DEACTIVATE] = {CS_CHANGE, turn},
    [CREDSTORE_VERB_REACTIVATE] = {CS_CHANGE, turn},
    [CREDSTORE_VERB_HISTORY] = {CS_READ, history},
    [CREDSTORE_VERB_RESTORE] = {CS_CHANGE, restore},
};

/* What the headers say, once the policy has let the actor in. */
static credstore_status begin(credstore *store, visit *v, credstore_error *err)
{
    const cs_class cls = verbs[v->request.verb].cls;
    cs_op op;
    credstore_status status = cs_op_begin(&op, store, v->kind, cls, &v->call, &v->names, err);

    if (status == CREDSTORE_OK && cls == CS_CHANGE)
        status = take_conditions(v, err);
    return status == CREDSTORE_OK ? take_query(v, err) : status;
}

/* Without an actor: who presents this token? Each kind that issues tokens is asked until one knows
 * it. */
static credstore_status authenticate(credstore *store, visit *v, credstore_error *err)
{
    const credstore_slice token = trimmed(v->request.presented);
    credstore_status status = CREDSTORE_E_UNAUTHENTICATED;

    v->call.actor = v->request.actor;
    if (v->request.actor != NULL || token.ptr == NULL)
        return CREDSTORE_OK; /* an absent actor is refused where actors are */
    for (size_t i = 0; i < cs_kind_count && status == CREDSTORE_E_UNAUTHENTICATED; i++) {
        if (cs_kinds[i]->token.digest == 0)
            continue;
        cs_error_clear(err);
        status = cs_verify(store, cs_kinds[i], token.ptr, token.len, &v->presenter, err);
    }
    v->call.actor = &v->presenter;
    return status;
}

static credstore_status answer(credstore *store, const credstore_request *request, visit *v,
                               credstore_error *err)
{
    credstore_status status =
        cs_struct_take(&v->request, sizeof v->request, request, request_starts,
                       sizeof request_starts / sizeof *request_starts, "request", err);

    if (status != CREDSTORE_OK)
        return status;
    drop_lengths(&v->request);
    v->kind = cs_kind_find(v->request.kind);
    if (v->kind == NULL)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "kind", "There is no such kind");
    if (v->request.verb >= sizeof verbs / sizeof *verbs || verbs[v->request.verb].run == NULL)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "verb", "There is no such verb");
    if (v->request.flags != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "The request has an unknown flag");
    v->call.struct_size = sizeof v->call;
    v->call.request_id = text_of(v->request.request_id, v->request_id, REQUEST_ID_MAX);
    v->call.idempotency_key = text_of(v->request.idempotency_key, v->idempotency_key, CS_ID_MAX);
    v->names.id = text_of(v->request.id, v->id, CS_ID_MAX);
    v->names.parent = text_of(v->request.parent, v->parent, CS_ID_MAX);
    v->names.tenant = text_of(v->request.tenant, v->tenant, CS_ID_MAX);
    v->call.tenant = v->names.tenant;
    status = authenticate(store, v, err);
    if (status == CREDSTORE_OK)
        status = begin(store, v, err);
    if (status != CREDSTORE_OK)
        return status;
    return verbs[v->request.verb].run(store, v, err);
}

const credstore_answer *credstore_handle(credstore *store, const credstore_request *request)
{
    credstore_error error = {0};
    visit v = {0};
    const credstore_status status = answer(store, request, &v, &error);

    if (status == CREDSTORE_OK)
        return v.answer;
    credstore_answer_free(v.answer);
    cs_fail(&error, status, NULL, "The request could not be answered");
    return refuse(v.kind, &error);
}
