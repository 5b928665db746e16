/* SPDX-License-Identifier: MIT
 *
 * The table of routes. The documents' own are the four updates; the others stand beside them as is
 * usual: POST to the collection creates, a noun or verb behind the record does the rest.
 */
#include "routes.h"

#include <string.h>

#define CHECKBOOK     "/internal/checkbook/client-credentials"
#define STRIPE        "/api/v1/payments/stripe/projects"
#define STRIPE_CONFIG STRIPE "/{id}/config"
#define SERVICE       "/organizations/{tenant}/service-accounts/{parent}/credentials"
#define API_KEYS      "/apikeys"

enum { SEGMENTS_MAX = 12 };

static const route routes[] = {
    {"PUT", CHECKBOOK "/{id}", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_UPDATE, true},
    {"GET", CHECKBOOK "/{id}", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_GET, false},
    {"DELETE", CHECKBOOK "/{id}", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_REMOVE, false},
    {"GET", CHECKBOOK, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_LIST, false},
    {"POST", CHECKBOOK, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_CREATE, true},
    {"POST", CHECKBOOK "/{id}/roll", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_ROLL, true},
    {"GET", CHECKBOOK "/{id}/history", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_HISTORY, false},
    {"POST", CHECKBOOK "/{id}/restore", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_RESTORE, false},

    {"PUT", STRIPE_CONFIG, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_UPDATE, true},
    {"GET", STRIPE_CONFIG, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_GET, false},
    {"DELETE", STRIPE_CONFIG, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_REMOVE, false},
    {"GET", STRIPE, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_LIST, false},
    {"POST", STRIPE_CONFIG, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_CREATE, true},
    {"POST", STRIPE_CONFIG "/roll", CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_ROLL, true},
    {"POST", STRIPE_CONFIG "/deactivate", CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_DEACTIVATE, false},
    {"POST", STRIPE_CONFIG "/reactivate", CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_REACTIVATE, false},
    {"GET", STRIPE_CONFIG "/history", CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_HISTORY, false},
    {"POST", STRIPE_CONFIG "/restore", CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_RESTORE, false},

    {"PATCH", SERVICE "/{id}", CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_UPDATE, true},
    {"GET", SERVICE "/{id}", CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_GET, false},
    {"DELETE", SERVICE "/{id}", CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_REMOVE, false},
    {"GET", SERVICE, CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_LIST, false},
    {"POST", SERVICE, CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_CREATE, true},
    {"POST", SERVICE "/{id}/roll", CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_ROLL, false},
    {"GET", SERVICE "/{id}/history", CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_HISTORY,
     false},
    {"POST", SERVICE "/{id}/restore", CREDSTORE_KIND_SERVICE_CREDENTIAL, CREDSTORE_VERB_RESTORE,
     false},

    {"PATCH", API_KEYS "/{id}", CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_UPDATE, true},
    {"GET", API_KEYS "/{id}", CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_GET, false},
    {"DELETE", API_KEYS "/{id}", CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_REMOVE, false},
    {"GET", API_KEYS, CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_LIST, false},
    {"POST", API_KEYS, CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_CREATE, true},
    {"POST", API_KEYS "/{id}/roll", CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_ROLL, false},
    {"GET", API_KEYS "/{id}/history", CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_HISTORY, false},
    {"POST", API_KEYS "/{id}/restore", CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_RESTORE, false},
};

/* RFC 9110, 9.3; RFC 5789. */
static const char *const methods[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                      "CONNECT", "OPTIONS", "TRACE", "PATCH"};

typedef struct segments {
    credstore_slice item[SEGMENTS_MAX];
    size_t count;
} segments;

/* ---- a path ---- */

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);

    return at == NULL ? -1 : (int)(at - digits);
}

/* In place. False: a '%' without two hexadecimal digits behind it. */
static bool decode(char *text, size_t *len)
{
    size_t to = 0;

    for (size_t i = 0; i < *len; i++) {
        char c = text[i];

        if (c == '%') {
            const int high = *len - i > 2 ? hex_digit(text[i + 1]) : -1;
            const int low = high < 0 ? -1 : hex_digit(text[i + 2]);

            if (low < 0)
                return false;
            c = (char)(unsigned char)(high * 16 + low);
            i += 2;
        }
        text[to++] = c;
    }
    *len = to;
    return true;
}

static bool is_text(credstore_slice s, const char *text, size_t len)
{
    return s.len == len && memcmp(s.ptr, text, len) == 0;
}

/* Cut at the slashes first, then decoded: an escaped slash is a part of its segment. */
static routed split(char *path, segments *out)
{
    char *at = path;

    out->count = 0;
    while (*at == '/') {
        char *start = at + 1;
        size_t len = strcspn(start, "/");

        at = start + len;
        if (out->count == SEGMENTS_MAX)
            return ROUTE_NO_PATH;
        if (!decode(start, &len))
            return ROUTE_MALFORMED;
        out->item[out->count] = (credstore_slice){start, len};
        if (is_text(out->item[out->count], ".", 1) || is_text(out->item[out->count], "..", 2))
            return ROUTE_MALFORMED;
        out->count++;
    }
    return at == path ? ROUTE_MALFORMED : ROUTE_FOUND;
}

static credstore_slice *named(place *where, const char *name, size_t len)
{
    const credstore_slice s = {name, len};

    if (is_text(s, "{tenant}", 8))
        return &where->tenant;
    if (is_text(s, "{parent}", 8))
        return &where->parent;
    return is_text(s, "{id}", 4) ? &where->id : NULL;
}

/* An empty segment is no name. */
static bool fits(const char *pattern, const segments *path, place *where)
{
    size_t i = 0;

    memset(where, 0, sizeof *where);
    for (; *pattern == '/' && i < path->count; i++) {
        const char *part = pattern + 1;
        const size_t len = strcspn(part, "/");
        credstore_slice *name = named(where, part, len);

        if (name == NULL ? !is_text(path->item[i], part, len) : path->item[i].len == 0)
            return false;
        if (name != NULL)
            *name = path->item[i];
        pattern = part + len;
    }
    return *pattern == '\0' && i == path->count;
}

/* ---- finding ---- */

static void allow_add(char allow[ALLOW_MAX], const char *method)
{
    const size_t len = strlen(allow), more = strlen(method);

    if (len + more + 3 > ALLOW_MAX)
        return;
    if (len > 0)
        memcpy(allow + len, ", ", 2);
    memcpy(allow + len + (len > 0 ? 2 : 0), method, more + 1);
}

static bool is_known(const char *method)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i], method) == 0)
            return true;
    return false;
}

routed route_find(const char *method, char *path, const route **out, place *where,
                  char allow[ALLOW_MAX])
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    segments cut;
    const routed result = is_known(method) ? split(path, &cut) : ROUTE_UNKNOWN_METHOD;

    allow[0] = '\0';
    if (result != ROUTE_FOUND)
        return result;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!fits(routes[i].path, &cut, where))
            continue;
        *out = &routes[i];
        if (strcmp(routes[i].method, wanted) == 0)
            return ROUTE_FOUND;
        allow_add(allow, routes[i].method);
        if (strcmp(routes[i].method, "GET") == 0)
            allow_add(allow, "HEAD");
    }
    return allow[0] == '\0' ? ROUTE_NO_PATH : ROUTE_NOT_HERE;
}
