/* SPDX-License-Identifier: MIT
 *
 * The command line.
 */
#ifndef HTTPD_OPTIONS_H
#define HTTPD_OPTIONS_H

#include <stdbool.h>

#include "server.h"

enum { OPTIONS_PATH_MAX = 4096, OPTIONS_AUDIT = 2000000000 };

typedef struct options {
    const char *store, *sessions;
    char key[OPTIONS_PATH_MAX];
    bool create, demo;
    unsigned maintain_s;
    unsigned audit_s; /* OPTIONS_AUDIT: not said */
    server_options server;
} options;

/* True: go on. False: *code is how to end; what there was to say is said. */
bool options_read(int argc, char **argv, options *out, int *code);

#endif
