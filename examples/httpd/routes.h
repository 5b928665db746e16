/* SPDX-License-Identifier: MIT
 *
 * The table of routes: which path with which method is which verb on which kind.
 */
#ifndef HTTPD_ROUTES_H
#define HTTPD_ROUTES_H

#include <credstore.h>

#include <stdbool.h>

typedef struct route {
    const char *method, *path; /* {tenant}, {parent} and {id} stand for a segment each */
    uint32_t kind, verb;
    bool takes_body;
} route;

/* What the segments of a path name: decoded, and so of any bytes. Absent: ptr NULL. */
typedef struct place {
    credstore_slice tenant, parent, id;
} place;

enum { ALLOW_MAX = 64 };

typedef enum routed {
    ROUTE_FOUND,
    ROUTE_MALFORMED,      /* 400: no path, a broken escape, a segment "." or ".." */
    ROUTE_NO_PATH,        /* 404 */
    ROUTE_NOT_HERE,       /* 405: allow says what is */
    ROUTE_UNKNOWN_METHOD, /* 501 */
} routed;

/* Finds the route of a request's path (what comes before the '?'), which is decoded in place:
   `where` points into it. HEAD is GET. */
routed route_find(const char *method, char *path, const route **out, place *where,
                  char allow[ALLOW_MAX]);

#endif
