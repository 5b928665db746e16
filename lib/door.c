/* SPDX-License-Identifier: MIT
 *
 * The HTTP door: raw header values and body in, a whole answer out. It opens no socket and parses
 * no HTTP.
 */
#include <stdio.h>
#include <string.h>

#include "dialect.h"
#include "error.h"
#include "sized.h"
#include "text.h"
#include "update.h"

enum { REQUEST_ID_MAX = 128, ETAG_MAX = 24 };

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
};

/* ---- answers ---- */

typedef struct block {
    size_t size; /* to wipe */
    credstore_answer answer;
} block;

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
    const size_t size = sizeof(block) + ETAG_MAX + body_len + 1;
    block *b = cs_alloc(1, size);
    char *etag = (char *)(b + 1), *text = etag + ETAG_MAX;

    if (b == NULL)
        return NULL;
    b->size = size;
    b->answer.struct_size = sizeof b->answer;
    b->answer.status = (int32_t)status;
    b->answer.http_status = http;
    b->answer.revision = revision;
    if (revision != 0) {
        snprintf(etag, ETAG_MAX, "\"%llu\"", (unsigned long long)revision);
        b->answer.etag = etag;
    }
    if (body != NULL) {
        memcpy(text, body, body_len);
        b->answer.body = text;
        b->answer.body_len = body_len;
        b->answer.content_type = type;
    }
    return &b->answer;
}

void credstore_answer_free(const credstore_answer *answer)
{
    block *b;

    if (answer == NULL || answer == &out_of_memory)
        return;
    b = (block *)((uintptr_t)answer - offsetof(block, answer));
    cs_free_wiped(b, b->size);
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
    cs_names names;
    char tenant[CS_ID_MAX + 2], parent[CS_ID_MAX + 2], id[CS_ID_MAX + 2];
    char request_id[REQUEST_ID_MAX + 2];
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
    credstore_slice *const slices[] = {&r->tenant,        &r->parent,    &r->id,
                                       &r->query,         &r->body,      &r->if_match,
                                       &r->if_none_match, &r->request_id};

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

/* If-None-Match of a get: does any tag, compared weakly, name this revision? */
static bool is_unchanged(const visit *v, uint64_t revision)
{
    credstore_slice rest = trimmed(v->request.if_none_match);

    if (rest.ptr == NULL)
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

/* expand[]=permissions, again or as a comma list. Other parameters are the host's. */
static credstore_status take_query(visit *v, credstore_error *err)
{
    credstore_slice rest = v->request.query;
    bool more;

    if ((v->kind->flags & CS_EXPAND) == 0)
        return CREDSTORE_OK;
    while (rest.len > 0) {
        credstore_slice value = next_piece(&rest, '&');

        if (!is_expand(next_piece(&value, '=')))
            continue;
        do {
            more = memchr(value.ptr, ',', value.len) != NULL;
            if (!is_text(next_piece(&value, ','), "permissions"))
                return cs_fail(err, CREDSTORE_E_INVALID, "expand[]", "Only permissions expand");
        } while (more);
        v->call.flags |= CREDSTORE_CALL_EXPAND_PERMISSIONS;
    }
    return CREDSTORE_OK;
}

/* ---- verbs ---- */

static uint64_t revision_of(const cs_kind *kind, const void *view)
{
    uint64_t revision;

    memcpy(&revision, (const uint8_t *)view + kind->view.revision, sizeof revision);
    return revision;
}

/* Makes the whole answer; for a change, inside its transaction: after the commit nothing may fail.
 */
static credstore_status render(void *arg, const void *view, credstore_error *err)
{
    visit *v = arg;
    const uint64_t revision = revision_of(v->kind, view);
    const bool fixed = v->request.verb == CREDSTORE_VERB_UPDATE && v->kind->update_body != NULL;
    const uint32_t http = v->request.verb == CREDSTORE_VERB_CREATE ? 201 : 200;
    size_t len = 0;
    char *json = NULL;

    credstore_answer_free(v->answer);
    v->answer = NULL;
    if (v->request.verb == CREDSTORE_VERB_GET && is_unchanged(v, revision)) {
        v->answer = new_answer(CREDSTORE_OK, 304, NULL, revision, NULL, 0);
    } else if (fixed) {
        v->answer = new_answer(CREDSTORE_OK, http, "application/json", revision,
                               v->kind->update_body, strlen(v->kind->update_body));
    } else {
        json = cs_view_json(v->kind, view, &len);
        if (json != NULL)
            v->answer = new_answer(CREDSTORE_OK, http, "application/json", revision, json, len);
        cs_json_text_free(json, len);
    }
    if (v->answer == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return CREDSTORE_OK;
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
    v->answer = new_answer(CREDSTORE_OK, 200, "application/json", 0, "null", 4);
    return v->answer == NULL ? CREDSTORE_E_NO_MEMORY : CREDSTORE_OK;
}

static credstore_status change(credstore *store, visit *v, credstore_error *err)
{
    const bool create = v->request.verb == CREDSTORE_VERB_CREATE;
    const bool id_in_origin = create && v->kind->origin.id != 0;
    const cs_render to_answer = {render, v};
    cs_names names = v->names;
    cs_body body = {0};
    cs_request request = {.names = &names, .render = &to_answer};
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
    return status;
}

/* What the headers say, once the policy has let the actor in. */
static credstore_status begin(credstore *store, visit *v, credstore_error *err)
{
    const bool reads = v->request.verb == CREDSTORE_VERB_GET;
    cs_op op;
    credstore_status status =
        cs_op_begin(&op, store, v->kind, reads ? CS_READ : CS_CHANGE, &v->call, &v->names, err);

    if (status == CREDSTORE_OK && !reads)
        status = take_conditions(v, err);
    return status == CREDSTORE_OK ? take_query(v, err) : status;
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
    if (v->request.verb < CREDSTORE_VERB_GET || v->request.verb > CREDSTORE_VERB_UPDATE)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "verb", "There is no such verb");
    if (v->request.flags != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "The request has an unknown flag");
    v->call.struct_size = sizeof v->call;
    v->call.actor = v->request.actor;
    v->call.request_id = text_of(v->request.request_id, v->request_id, REQUEST_ID_MAX);
    v->names.id = text_of(v->request.id, v->id, CS_ID_MAX);
    v->names.parent = text_of(v->request.parent, v->parent, CS_ID_MAX);
    v->names.tenant = text_of(v->request.tenant, v->tenant, CS_ID_MAX);
    v->call.tenant = v->names.tenant;
    status = begin(store, v, err);
    if (status != CREDSTORE_OK)
        return status;
    return v->request.verb == CREDSTORE_VERB_GET ? get(store, v, err) : change(store, v, err);
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
