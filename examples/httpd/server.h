/* SPDX-License-Identifier: MIT
 *
 * The listening service: libmicrohttpd's threads, its limits, and a clean end.
 */
#ifndef HTTPD_SERVER_H
#define HTTPD_SERVER_H

#include <credstore.h>

#include "sessions.h"

typedef struct server server;

typedef struct server_options {
    const char *bind; /* a numeric address */
    unsigned port;    /* 0 = any */
    unsigned threads, connections, deadline_s;
} server_options;

enum { SERVER_URL_MAX = 80 };

/* Listens and answers from its own threads. Store and sessions stay the caller's, and must live
   until server_stop(). NULL: said on stderr. */
server *server_start(const server_options *options, credstore *store, const session_list *sessions);

/* "http://ADDRESS:PORT" */
void server_url(const server *s, char out[SERVER_URL_MAX]);

/* Ends the connections whose time is over. Once a second. */
void server_sweep(server *s);

/* Accepts no more, lets what is under way end (within the deadline), closes all. */
void server_stop(server *s);

#endif
