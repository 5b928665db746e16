/* SPDX-License-Identifier: MIT
 *
 * The host's own user sessions.
 */
#include "sessions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "service.h"

enum { TOKEN_MIN = 16, LINE_MAX_LEN = 4096, WORDS_MAX = 64, WORDS_FIXED = 4 };

static const struct {
    const char *name;
    uint32_t roles;
} role_names[] = {{"member", 0}, {"admin", CREDSTORE_ROLE_ADMIN}, {"super", CREDSTORE_ROLE_SUPER}};

static bool said(const char *what)
{
    fprintf(stderr, "httpd: a session: %s\n", what);
    return false;
}

static bool copy(char *out, size_t size, const char *text)
{
    const size_t len = strlen(text);

    if (len >= size)
        return false;
    memcpy(out, text, len + 1);
    return true;
}

static bool is_visible(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

bool sessions_add(session_list *s, const credstore *store, const char *token, uint32_t roles,
                  const char *tenant, const char *id, int64_t expires_at,
                  const char *const *permissions, size_t count)
{
    session *item;

    if (s->count == SESSIONS_MAX)
        return said("there are too many");
    item = &s->items[s->count];
    memset(item, 0, sizeof *item);
    item->actor.struct_size = sizeof item->actor;
    item->actor.type = CREDSTORE_ACTOR_USER;
    item->actor.roles = roles;
    item->actor.expires_at = expires_at;
    if (strlen(token) < TOKEN_MIN || strlen(token) >= sizeof item->token || !is_visible(token))
        return said("the token is not 16 to 127 visible ASCII characters");
    if (!copy(item->actor.tenant, sizeof item->actor.tenant, tenant) ||
        !copy(item->actor.id, sizeof item->actor.id, id))
        return said("the tenant or the id is too long");
    for (size_t i = 0; i < count; i++)
        if (!service_grant(store, &item->actor, permissions[i]))
            return said("the catalogue has no such permission");
    copy(item->token, sizeof item->token, token);
    s->count++;
    return true;
}

static bool take_line(session_list *s, const credstore *store, char *line)
{
    const char *words[WORDS_MAX];
    char *rest = NULL, *end = NULL;
    size_t count = 0, role = 0;
    long long expires = 0;

    for (char *w = strtok_r(line, " \t\r\n", &rest); w != NULL;
         w = strtok_r(NULL, " \t\r\n", &rest)) {
        if (count == WORDS_MAX)
            return said("its line has too many words");
        words[count++] = w;
    }
    if (count == 0 || words[0][0] == '#')
        return true;
    if (count < WORDS_FIXED)
        return said("a line is TOKEN ROLE TENANT ID [EXPIRES [PERMISSION...]]");
    while (role < sizeof role_names / sizeof *role_names &&
           strcmp(role_names[role].name, words[1]) != 0)
        role++;
    if (role == sizeof role_names / sizeof *role_names)
        return said("a role is member, admin or super");
    if (count > WORDS_FIXED) {
        expires = strtoll(words[WORDS_FIXED], &end, 10);
        if (*end != '\0' || expires < 0 || expires > INT64_C(253402300799))
            return said("its end is not a number of seconds since 1970");
    }
    return sessions_add(s, store, words[0], role_names[role].roles, words[2], words[3],
                        1000 * (int64_t)expires, words + WORDS_FIXED + 1,
                        count > WORDS_FIXED ? count - WORDS_FIXED - 1 : 0);
}

bool sessions_read(session_list *s, const char *path, const credstore *store)
{
    char line[LINE_MAX_LEN];
    struct stat about;
    FILE *file = fopen(path, "r");
    bool ok = true;

    if (file == NULL || fstat(fileno(file), &about) != 0) {
        fprintf(stderr, "httpd: %s: %s\n", path, strerror(errno));
        ok = false;
    } else if ((about.st_mode & (S_IRWXG | S_IRWXO)) != 0 || !S_ISREG(about.st_mode)) {
        fprintf(stderr, "httpd: %s: not a file that its owner alone can read\n", path);
        ok = false;
    }
    while (ok && fgets(line, sizeof line, file) != NULL)
        ok = strlen(line) + 1 < sizeof line ? take_line(s, store, line)
                                            : said("its line is too long");
    credstore_wipe(line, sizeof line);
    if (file != NULL)
        fclose(file);
    return ok;
}

const credstore_actor *sessions_find(const session_list *s, const char *token, size_t len)
{
    char presented[SESSION_TOKEN_MAX] = {0};
    const credstore_actor *found = NULL;

    if (len == 0 || len >= sizeof presented)
        return NULL;
    memcpy(presented, token, len);
    for (size_t i = 0; i < s->count; i++) {
        volatile unsigned char differs = 0; /* volatile: no early end */

        for (size_t at = 0; at < sizeof presented; at++)
            differs = (unsigned char)(differs | (presented[at] ^ s->items[i].token[at]));
        if (differs == 0)
            found = &s->items[i].actor;
    }
    credstore_wipe(presented, sizeof presented);
    return found;
}
