/* SPDX-License-Identifier: MIT
 *
 * What this service is made of: its catalogue of permissions, and its store.
 */
#ifndef HTTPD_SERVICE_H
#define HTTPD_SERVICE_H

#include <credstore.h>

#include <stdbool.h>

/* Opens the store; with `create`, makes it and its root key if they are absent. With `demo`, the
   catalogue has the permission "string", which the documents' examples name. NULL: said on
   stderr. */
credstore *service_open(const char *path, const char *key_path, bool create, bool demo);

/* Grants one permission, or all of the catalogue if it is "*". False: no such permission. */
bool service_grant(const credstore *store, credstore_actor *actor, const char *permission);

/* "<what>: <status>: <message>" on stderr; answers false. */
bool service_failed(const char *what, const credstore_error *err);

#endif
