/* SPDX-License-Identifier: MIT
 *
 * The open connections and their time limits. libmicrohttpd's own limit is one of silence: a byte a
 * second keeps a connection for ever. Here a request has to be complete in time.
 */
#ifndef HTTPD_CONNECTIONS_H
#define HTTPD_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct connection_list connection_list;
typedef struct connection connection;

/* deadline_s: from the beginning of a connection, or the end of its last answer, until the next
   request is there as a whole; and again, beside the store's own time, until the answer is taken.
   NULL: out of memory. */
connection_list *connections_new(unsigned deadline_s);
void connections_free(connection_list *all); /* when no connection is left */

/* A connection's life. open: NULL when memory is out. The descriptor is the caller's, and stays
   open until close. */
connection *connection_open(connection_list *all, int fd);
void connection_close(connection_list *all, connection *c);
void connection_request(connection_list *all, connection *c); /* a request line has come */
/* The request is there as a whole. False: too late, it must not be carried out. */
bool connection_answer(connection_list *all, connection *c);
void connection_done(connection_list *all, connection *c); /* the answer is out, or given up */

/* Ends those whose time is over; those that had begun a request are told 408. Once a second. */
void connections_sweep(connection_list *all);

/* To be stopped: each answer is its connection's last one. */
void connections_drain(connection_list *all);
bool connections_draining(connection_list *all);

/* True: no request is under way, or `force`; from here on none is carried out. */
bool connections_end(connection_list *all, bool force);

#endif
