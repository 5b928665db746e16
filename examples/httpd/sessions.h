/* SPDX-License-Identifier: MIT
 *
 * The host's own user sessions: which token speaks for whom. A real service has them from its
 * login; here they are given on start.
 */
#ifndef HTTPD_SESSIONS_H
#define HTTPD_SESSIONS_H

#include <credstore.h>

#include <stdbool.h>

enum { SESSIONS_MAX = 64, SESSION_TOKEN_MAX = 128 };

typedef struct session {
    char token[SESSION_TOKEN_MAX]; /* padded with NULs */
    credstore_actor actor;
} session;

typedef struct session_list {
    session items[SESSIONS_MAX];
    size_t count;
} session_list;

/* Reads a file that its owner alone may read. A line is
       TOKEN ROLE TENANT ID [EXPIRES [PERMISSION...]]
   token: 16..127 visible ASCII characters; role: member, admin or super; expires: seconds since
   1970, 0 = never; permissions: ids of the store's catalogue, or * for all. Empty lines and those
   that begin with # are nothing. False: said on stderr, without the line's text. */
bool sessions_read(session_list *s, const char *path, const credstore *store);

/* Adds one. roles: CREDSTORE_ROLE_*; permissions: as above, `count` of them. False as above. */
bool sessions_add(session_list *s, const credstore *store, const char *token, uint32_t roles,
                  const char *tenant, const char *id, int64_t expires_at,
                  const char *const *permissions, size_t count);

/* Whose token this is, or NULL. Takes as long for any token. */
const credstore_actor *sessions_find(const session_list *s, const char *token, size_t len);

#endif
