/* SPDX-License-Identifier: MIT
 *
 * A demonstration: the documents' four records under the documents' own ids, two sessions and a
 * key.
 */
#ifndef HTTPD_DEMO_H
#define HTTPD_DEMO_H

#include <credstore.h>

#include "sessions.h"

enum { DEMO_TOKEN_MAX = 128 };

typedef struct demo_access {
    char admin_token[DEMO_TOKEN_MAX], member_token[DEMO_TOKEN_MAX];
    char api_key[DEMO_TOKEN_MAX]; /* may read and update Checkbook credentials */
} demo_access;

/* Makes what is not there yet; tokens and key are new ones each time. False: said on stderr. */
bool demo_prepare(credstore *store, session_list *sessions, demo_access *out);

/* The members of the JSON line that come after "listening", on stdout. */
void demo_print(const demo_access *d);

#endif
