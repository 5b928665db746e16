/* SPDX-License-Identifier: MIT
 *
 * The command line.
 */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2 };

static const char help[] =
    "usage: httpd --store DIR [--port PORT] [options]\n"
    "  --store DIR         the store's folder\n"
    "  --key FILE          its root key, 32 bytes; default with --create: DIR.key\n"
    "  --create            make store and key if they are absent\n"
    "  --demo              --create, and the documents' records, two sessions and a key\n"
    "  --sessions FILE     the host's sessions: lines of TOKEN ROLE TENANT ID [EXPIRES "
    "[PERMISSION...]]\n"
    "  --bind ADDRESS      numeric; default 127.0.0.1\n"
    "  --port PORT         default 0: any\n"
    "  --threads N         1 to 256; default 16\n"
    "  --connections N     at once; 1 to 65536; default 1000\n"
    "  --deadline SECONDS  for a request to arrive, and for an answer to be taken; default 20\n"
    "  --maintain SECONDS  between two runs of the store's maintenance; default 60\n"
    "  --audit SECONDS     for how long the audit is kept; 0: for ever, the default but for "
    "--demo\n";

static const struct option long_options[] = {{"store", required_argument, NULL, 's'},
                                             {"key", required_argument, NULL, 'k'},
                                             {"create", no_argument, NULL, 'c'},
                                             {"demo", no_argument, NULL, 'd'},
                                             {"sessions", required_argument, NULL, 'u'},
                                             {"bind", required_argument, NULL, 'b'},
                                             {"port", required_argument, NULL, 'p'},
                                             {"threads", required_argument, NULL, 't'},
                                             {"connections", required_argument, NULL, 'n'},
                                             {"deadline", required_argument, NULL, 'l'},
                                             {"maintain", required_argument, NULL, 'm'},
                                             {"audit", required_argument, NULL, 'a'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

static bool number(const char *text, unsigned least, unsigned most, unsigned *out)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "httpd: %s: not a number from %u to %u\n", text, least, most);
        return false;
    }
    *out = (unsigned)value;
    return true;
}

static bool path(const char *text, const char *end, char out[OPTIONS_PATH_MAX])
{
    const size_t len = strlen(text), more = strlen(end);

    if (len + more >= OPTIONS_PATH_MAX) {
        fprintf(stderr, "httpd: a path is too long\n");
        return false;
    }
    memmove(out, text, len);
    memcpy(out + len, end, more + 1);
    return true;
}

static bool take(int option, const char *value, options *out)
{
    switch (option) {
    case 's':
        out->store = value;
        return true;
    case 'k':
        return path(value, "", out->key);
    case 'c':
        out->create = true;
        return true;
    case 'd':
        out->create = out->demo = true;
        return true;
    case 'u':
        out->sessions = value;
        return true;
    case 'b':
        out->server.bind = value;
        return true;
    case 'p':
        return number(value, 0, 65535, &out->server.port);
    case 't':
        return number(value, 1, 256, &out->server.threads);
    case 'n':
        return number(value, 1, 65536, &out->server.connections);
    case 'l':
        return number(value, 1, 3600, &out->server.deadline_s);
    case 'm':
        return number(value, 1, 3600, &out->maintain_s);
    case 'a':
        return number(value, 0, 1000000000, &out->audit_s); /* some 30 years */
    default:                                                /* getopt has said what is wrong */
        return false;
    }
}

bool options_read(int argc, char **argv, options *out, int *code)
{
    int option;

    memset(out, 0, sizeof *out);
    out->server =
        (server_options){.bind = "127.0.0.1", .threads = 16, .connections = 1000, .deadline_s = 20};
    out->maintain_s = 60;
    out->audit_s = OPTIONS_AUDIT;
    *code = USAGE;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == 'h') {
            *code = fputs(help, stdout) < 0;
            return false;
        }
        if (!take(option, optarg, out))
            return false;
    }
    if (optind != argc || out->store == NULL ||
        (out->key[0] == '\0' && !(out->create && path(out->store, ".key", out->key)))) {
        fputs(help, stderr);
        return false;
    }
    if (out->server.threads > out->server.connections)
        out->server.threads = out->server.connections;
    return true;
}
