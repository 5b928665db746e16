/* SPDX-License-Identifier: MIT
 *
 * What this service is made of: its catalogue of permissions, and its store.
 */
#include "service.h"

#include <stdio.h>
#include <string.h>

/* The last one is a placeholder of the documents, for the demonstration alone. */
static const credstore_permission catalogue[] = {
    {"organizations:read", "organizations", "read"},
    {"organizations:update", "organizations", "update"},
    {"users:read", "users", "read"},
    {"users:list", "users", "list"},
    {"readApplications", "applications", "read"},
    {"writeApplications", "applications", "write"},
    {"checkbook:read", "checkbook", "read"},
    {"checkbook:update", "checkbook", "update"},
    {"stripe:update", "stripe", "update"},
    {"service_credentials:update", "service_credentials", "update"},
    {"string", "string", "string"},
};
enum { CATALOGUE = sizeof catalogue / sizeof *catalogue };

bool service_failed(const char *what, const credstore_error *err)
{
    fprintf(stderr, "httpd: %s: %s: %s%s%s\n", what, credstore_status_name(err->status),
            err->message, err->field[0] == '\0' ? "" : " at ", err->field);
    return false;
}

credstore *service_open(const char *path, const char *key_path, bool create, bool demo)
{
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    if (credstore_key_file(key_path, create ? CREDSTORE_KEY_CREATE : 0, &key, &err) !=
        CREDSTORE_OK) {
        service_failed(key_path, &err);
        return NULL;
    }
    const credstore_options options = {
        .struct_size = sizeof options,
        .flags = create ? CREDSTORE_OPEN_CREATE : 0,
        .key = key,
        .catalogue = catalogue,
        .catalogue_count = demo ? CATALOGUE : CATALOGUE - 1,
    };
    if (credstore_open(path, &options, &store, &err) != CREDSTORE_OK)
        service_failed(path, &err);
    credstore_key_source_free(key);
    return store;
}

bool service_grant(const credstore *store, credstore_actor *actor, const char *permission)
{
    credstore_error err;

    if (strcmp(permission, "*") != 0)
        return credstore_actor_grant(store, actor, permission, &err) == CREDSTORE_OK;
    for (size_t i = 0; i < CATALOGUE; i++) /* the placeholder is refused outside a demonstration */
        (void)credstore_actor_grant(store, actor, catalogue[i].id, &err);
    return true;
}
