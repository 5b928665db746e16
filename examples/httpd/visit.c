/* SPDX-License-Identifier: MIT
 *
 * One request.
 */
#include "visit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "routes.h"

enum {
    BODY_MAX = 64 * 1024,    /* the library's own limit */
    DRAIN_MAX = 1024 * 1024, /* of a body that is refused */
    BODY_FIRST = 1024,
};

/* ---- headers ---- */

enum {
    AUTHORIZATION,
    X_API_KEY,
    X_ACCOUNT_ID,
    REQUEST_ID,
    IF_MATCH,
    IF_NONE_MATCH,
    IDEMPOTENCY_KEY,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    EXPECT,
    HOST,
    HEADERS
};
static const char *const header_names[HEADERS] = {
    "Authorization",     "x-api-key",       "x-account-id", "X-Client-Request-ID", "If-Match",
    "If-None-Match",     "Idempotency-Key", "Content-Type", "Content-Encoding",    "Content-Length",
    "Transfer-Encoding", "Expect",          "Host",
};

/* What this program refuses itself; all else the library does. */
typedef struct refusal {
    unsigned status;
    const char *title, *detail;
} refusal;

static const refusal bad_path = {400, "Bad Request", "The path is malformed"};
static const refusal bad_headers = {400, "Bad Request",
                                    "A header stands twice, has no proper name, "
                                    "or two exclude each other"};
static const refusal no_path = {404, "Not Found", "There is no such path"};
static const refusal not_here = {405, "Method Not Allowed", "The path has no such method"};
static const refusal too_large = {413, "Content Too Large", "The body is larger than 64 KiB"};
static const refusal not_json = {415, "Unsupported Media Type",
                                 "The body is not application/json as it stands"};
static const refusal no_method = {501, "Not Implemented", "There is no such method"};
static const refusal no_coding = {501, "Not Implemented", "The transfer coding is not known"};
static const refusal no_memory = {500, "Internal Server Error", "Out of memory"};

typedef struct visit {
    char *target, *path, *query; /* one block; query NULL: no '?' */
    const route *route;
    place where;
    const refusal *refused;
    char allow[ALLOW_MAX];
    credstore_slice headers[HEADERS];
    bool doubled, begun;
    char *body;
    size_t body_len, body_room, body_seen;
} visit;

static connection *connection_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info == NULL ? NULL : info->socket_context;
}

/* MHD ends a target at its first NUL. Where the line had none, the version stands behind it, which
   has been parsed by now. */
static bool is_whole(const char *target)
{
    return strncmp(target + strlen(target) + 1, "HTTP/", 5) == 0;
}

/* A target may be a whole URL (RFC 9112, 3.2.2). */
static char *path_of(char *target)
{
    if (strncasecmp(target, "http://", 7) != 0 && strncasecmp(target, "https://", 8) != 0)
        return target;
    target = strstr(target, "://") + 3;
    return target + strcspn(target, "/?");
}

void *visit_begin(void *cls, const char *target, struct MHD_Connection *c)
{
    const desk *d = cls;
    const size_t len = target == NULL ? 0 : strlen(target);
    visit *v = calloc(1, sizeof *v);
    connection *own = connection_of(c);

    if (own != NULL)
        connection_request(d->connections, own);
    if (v == NULL || (v->target = malloc(len + 1)) == NULL) {
        free(v);
        return NULL;
    }
    memcpy(v->target, target == NULL ? "" : target, len);
    v->target[len] = '\0';
    v->path = path_of(v->target);
    if (target == NULL || !is_whole(target))
        v->refused = &bad_path;
    v->query = strchr(v->path, '?');
    if (v->query != NULL)
        *v->query++ = '\0';
    return v;
}

size_t visit_unescape(void *cls, struct MHD_Connection *c, char *text)
{
    (void)cls;
    (void)c;
    return strlen(text);
}

static void drop_body(visit *v)
{
    if (v->body != NULL)
        credstore_wipe(v->body, v->body_room);
    free(v->body);
    v->body = NULL;
    v->body_len = v->body_room = 0;
}

void visit_end(void *cls, struct MHD_Connection *c, void **visit_ptr,
               enum MHD_RequestTerminationCode why)
{
    const desk *d = cls;
    visit *v = *visit_ptr;
    connection *own = connection_of(c);

    (void)why;
    if (own != NULL)
        connection_done(d->connections, own);
    *visit_ptr = NULL;
    if (v == NULL)
        return;
    drop_body(v);
    free(v->target);
    free(v);
}

/* RFC 9110, 5.6.2. MHD takes "Content-Length " for another name than "Content-Length"; who stands
   in front may take it for the same (RFC 9112, 5.1). */
static bool is_name(const char *name)
{
    static const char marks[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return name[0] != '\0' && name[strspn(name, marks)] == '\0';
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    visit *v = cls;
    size_t i = 0, len = value == NULL ? 0 : strlen(value);

    (void)kind;
    v->doubled = v->doubled || !is_name(name);
    while (i < HEADERS && strcasecmp(header_names[i], name) != 0)
        i++;
    if (i == HEADERS)
        return MHD_YES;
    v->doubled = v->doubled || v->headers[i].ptr != NULL;
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        len--;
    v->headers[i] = (credstore_slice){value == NULL ? "" : value, len};
    return MHD_YES;
}

static bool is_word(credstore_slice s, const char *word)
{
    return s.ptr != NULL && s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

/* The type alone: its parameters mean nothing to JSON (RFC 8259, 11). */
static bool is_json(const visit *v)
{
    credstore_slice type = v->headers[CONTENT_TYPE];
    const char *end = type.ptr == NULL ? NULL : memchr(type.ptr, ';', type.len);

    if (end != NULL)
        type.len = (size_t)(end - type.ptr);
    while (type.len > 0 && (type.ptr[type.len - 1] == ' ' || type.ptr[type.len - 1] == '\t'))
        type.len--;
    return is_word(type, "application/json") && (v->headers[CONTENT_ENCODING].ptr == NULL ||
                                                 is_word(v->headers[CONTENT_ENCODING], "identity"));
}

/* MHD has seen to it that it is a number. */
static unsigned long long content_length(const visit *v)
{
    const char *text = v->headers[CONTENT_LENGTH].ptr;

    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

/* What the request line and the headers decide. NULL: nothing against it. */
static const refusal *judge(visit *v, const char *method)
{
    const credstore_slice coding = v->headers[TRANSFER_ENCODING];

    if (coding.ptr != NULL && !is_word(coding, "chunked"))
        return &no_coding;
    if (v->doubled || (coding.ptr != NULL && v->headers[CONTENT_LENGTH].ptr != NULL) ||
        (v->headers[AUTHORIZATION].ptr != NULL && v->headers[X_API_KEY].ptr != NULL))
        return &bad_headers;
    switch (v->refused != NULL ? ROUTE_MALFORMED
                               : route_find(method, v->path, &v->route, &v->where, v->allow)) {
    case ROUTE_MALFORMED:
        return &bad_path;
    case ROUTE_NO_PATH:
        return &no_path;
    case ROUTE_NOT_HERE:
        return &not_here;
    case ROUTE_UNKNOWN_METHOD:
        return &no_method;
    default:
        break;
    }
    if (content_length(v) > BODY_MAX)
        return &too_large;
    if (v->route->takes_body && (coding.ptr != NULL || content_length(v) > 0) && !is_json(v))
        return &not_json;
    return NULL;
}

/* Is it refused before its body comes? If that waits for a word, is too much to read, or has no
   end that both sides agree on. Others are read to their end, so that the answer arrives. */
static bool at_once(const visit *v)
{
    return v->refused != NULL && (v->headers[EXPECT].ptr != NULL || content_length(v) > DRAIN_MAX ||
                                  v->refused == &bad_headers || v->refused == &no_coding);
}

/* ---- the body ---- */

/* Grows by a copy, so that the old place can be wiped. */
static bool grow(visit *v, size_t needed)
{
    size_t room = v->body_room == 0 ? BODY_FIRST : v->body_room;
    char *body;

    while (room < needed)
        room *= 2;
    if (room == v->body_room)
        return true;
    body = malloc(room);
    if (body == NULL)
        return false;
    if (v->body != NULL) {
        memcpy(body, v->body, v->body_len);
        credstore_wipe(v->body, v->body_room);
        free(v->body);
    }
    v->body = body;
    v->body_room = room;
    return true;
}

static enum MHD_Result take_body(visit *v, const char *data, size_t len)
{
    v->body_seen += len;
    if (v->body_seen > DRAIN_MAX)
        return MHD_NO; /* closes the connection */
    if (v->refused == NULL && v->body_seen > BODY_MAX)
        v->refused = &too_large;
    if (v->refused == NULL && !grow(v, v->body_len + len))
        v->refused = &no_memory;
    if (v->refused != NULL) {
        drop_body(v);
        return MHD_YES;
    }
    memcpy(v->body + v->body_len, data, len);
    v->body_len += len;
    return MHD_YES;
}

/* ---- answers ---- */

static bool add(struct MHD_Response *response, const char *name, const char *value)
{
    return value == NULL || MHD_add_response_header(response, name, value) == MHD_YES;
}

/* last: the connection is closed behind it. */
static enum MHD_Result queue(const desk *d, struct MHD_Connection *c, unsigned status, bool last,
                             struct MHD_Response *response)
{
    enum MHD_Result result = MHD_NO;

    last = last || connections_draining(d->connections);
    if (add(response, "Cache-Control", "no-store") &&
        add(response, "WWW-Authenticate", status == 401 ? "Bearer" : NULL) &&
        add(response, "Connection", last ? "close" : NULL))
        result = MHD_queue_response(c, status, response);
    MHD_destroy_response(response);
    return result;
}

/* In the words of the kind's document, as far as the kind is known. */
static enum MHD_Result refuse(const desk *d, struct MHD_Connection *c, const visit *v)
{
    const refusal *r = v->refused;
    const bool own_words = v->route != NULL && v->route->kind == CREDSTORE_KIND_API_KEY;
    const bool lost = r == &bad_headers || r == &no_coding; /* where does the next one begin? */
    char body[256];
    struct MHD_Response *response;

    if (own_words)
        snprintf(body, sizeof body, "{\"error\":\"%s\"}", r->detail);
    else
        snprintf(body, sizeof body,
                 "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"detail\":\"%s\"}",
                 r->title, r->status, r->detail);
    response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    if (!add(response, "Content-Type",
             own_words ? "application/json" : "application/problem+json") ||
        !add(response, "Allow", r == &not_here ? v->allow : NULL) ||
        !add(response, "Accept", r == &not_json ? "application/json" : NULL)) {
        MHD_destroy_response(response);
        return MHD_NO;
    }
    return queue(d, c, r->status, lost, response);
}

static void free_answer(void *answer)
{
    credstore_answer_free(answer);
}

/* The answer's own bytes are sent, and wiped when they are out. */
static enum MHD_Result pass_on(const desk *d, struct MHD_Connection *c,
                               const credstore_answer *answer)
{
    char seconds[16];
    const char *retry = NULL;
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        answer->body_len, (void *)answer->body, free_answer, (void *)answer);

    if (response == NULL) {
        credstore_answer_free(answer);
        return MHD_NO;
    }
    if (answer->retry_after_s != 0) {
        snprintf(seconds, sizeof seconds, "%u", (unsigned)answer->retry_after_s);
        retry = seconds;
    }
    if (!add(response, "Content-Type", answer->content_type) ||
        !add(response, "ETag", answer->etag) || !add(response, "Retry-After", retry)) {
        MHD_destroy_response(response);
        return MHD_NO;
    }
    return queue(d, c, answer->http_status, false, response);
}

/* ---- to the library ---- */

/* RFC 6750, 2.1; or the whole of x-api-key. */
static credstore_slice token_of(const visit *v)
{
    credstore_slice token = v->headers[AUTHORIZATION];

    if (token.ptr == NULL)
        return v->headers[X_API_KEY];
    if (token.len < 7 || strncasecmp(token.ptr, "Bearer ", 7) != 0)
        return (credstore_slice){NULL, 0};
    token.ptr += 7;
    token.len -= 7;
    while (token.len > 0 && *token.ptr == ' ') {
        token.ptr++;
        token.len--;
    }
    return token;
}

static enum MHD_Result handle(const desk *d, struct MHD_Connection *c, const char *method, visit *v)
{
    const credstore_slice token = token_of(v);
    const bool in_path = v->where.tenant.ptr != NULL;
    const credstore_request request = {
        .struct_size = sizeof request,
        .kind = v->route->kind,
        .verb = v->route->verb,
        .actor = token.ptr == NULL ? NULL : sessions_find(d->sessions, token.ptr, token.len),
        .presented = token,
        .tenant = in_path ? v->where.tenant : v->headers[X_ACCOUNT_ID],
        .parent = v->where.parent,
        .id = v->where.id,
        .query = {v->query, v->query == NULL ? 0 : strlen(v->query)},
        .body = {v->body, v->body_len},
        .if_match = v->headers[IF_MATCH],
        .if_none_match = v->headers[IF_NONE_MATCH],
        .request_id = v->headers[REQUEST_ID],
        .idempotency_key = v->headers[IDEMPOTENCY_KEY],
    };
    const credstore_answer *answer = credstore_handle(d->store, &request);

    drop_body(v);
    if (answer->http_status >= 500)
        fprintf(stderr, "httpd: %s %s: %s\n", method, v->route->path,
                credstore_status_name(answer->status));
    return pass_on(d, c, answer);
}

enum MHD_Result visit_step(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                           const char *version, const char *data, size_t *data_len,
                           void **visit_ptr)
{
    const desk *d = cls;
    visit *v = *visit_ptr;
    connection *own = connection_of(c);

    (void)url;
    (void)version;
    if (v == NULL || own == NULL)
        return MHD_NO; /* no memory for it */
    if (!v->begun) {
        v->begun = true;
        MHD_get_connection_values(c, MHD_HEADER_KIND, take_header, v);
        v->refused = judge(v, method);
        if (!at_once(v))
            return MHD_YES;
    } else if (*data_len > 0) {
        const enum MHD_Result result = take_body(v, data, *data_len);

        *data_len = 0;
        return result;
    }
    if (!connection_answer(d->connections, own))
        return MHD_NO;
    return v->refused != NULL ? refuse(d, c, v) : handle(d, c, method, v);
}
