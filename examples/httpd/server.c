/* SPDX-License-Identifier: MIT
 *
 * The listening service.
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "connections.h"
#include "visit.h"

enum { OTHER_FILES = 32, TICK_MS = 10 }; /* beside one a thread */

struct server {
    desk desk;
    struct MHD_Daemon *daemon;
    unsigned deadline_s;
    char url[SERVER_URL_MAX];
};

static void notify_connection(void *cls, struct MHD_Connection *c, void **own,
                              enum MHD_ConnectionNotificationCode what)
{
    const desk *d = cls;
    const union MHD_ConnectionInfo *info;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        *own = info == NULL ? NULL : connection_open(d->connections, info->connect_fd);
    } else if (*own != NULL) {
        connection_close(d->connections, *own);
        *own = NULL;
    }
}

/* How many of `count` connections the system's limit of files has room for, after raising it as far
   as may be. A thread that has no connection of its own when the files run out would spin. */
static unsigned room_for(unsigned count, unsigned threads)
{
    const rlim_t others = (rlim_t)threads + OTHER_FILES, wanted = count + others;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return count;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return count;
    return limit.rlim_cur > others ? (unsigned)(limit.rlim_cur - others) : 0;
}

static struct addrinfo *resolve(const server_options *options)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    char port[16];
    int result;

    snprintf(port, sizeof port, "%u", options->port);
    result = getaddrinfo(options->bind, port, &hints, &address);
    if (result != 0)
        fprintf(stderr, "httpd: %s: %s\n", options->bind, gai_strerror(result));
    return result == 0 ? address : NULL;
}

/* poll and not epoll: with the latter MHD_quiesce_daemon() and MHD's own threads both take the
   listening socket out of the set, and the second to come ends the process (0.9.75 to 1.0.1). */
static struct MHD_Daemon *listen_on(const server_options *options, unsigned connections,
                                    struct addrinfo *address, desk *d)
{
    const unsigned v6 = address->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0;
    const struct MHD_OptionItem limits[] = {
        {MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)options->threads, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)connections, NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    return MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC | v6, 0, NULL, NULL,
                            visit_step, d, MHD_OPTION_SOCK_ADDR, address->ai_addr, MHD_OPTION_ARRAY,
                            limits, MHD_OPTION_NOTIFY_CONNECTION, notify_connection, d,
                            MHD_OPTION_URI_LOG_CALLBACK, visit_begin, d,
                            MHD_OPTION_UNESCAPE_CALLBACK, visit_unescape, NULL,
                            MHD_OPTION_NOTIFY_COMPLETED, visit_end, d, MHD_OPTION_END);
}

static void note_url(server *s, const server_options *options, bool v6)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);

    snprintf(s->url, sizeof s->url, v6 ? "http://[%s]:%u" : "http://%s:%u", options->bind,
             info == NULL ? options->port : info->port);
}

server *server_start(const server_options *options, credstore *store, const session_list *sessions)
{
    struct addrinfo *address = resolve(options);
    server *s = address == NULL ? NULL : calloc(1, sizeof *s);
    unsigned connections;

    if (s == NULL)
        goto cleanup;
    connections = room_for(options->connections, options->threads);
    s->deadline_s = options->deadline_s;
    s->desk = (desk){store, sessions, connections_new(options->deadline_s)};
    errno = EMFILE;
    if (s->desk.connections != NULL && connections >= options->threads)
        s->daemon = listen_on(options, connections, address, &s->desk);
    if (s->daemon == NULL) {
        fprintf(stderr, "httpd: cannot listen on %s, port %u: %s\n", options->bind, options->port,
                strerror(errno));
        connections_free(s->desk.connections);
        free(s);
        s = NULL;
        goto cleanup;
    }
    note_url(s, options, address->ai_family == AF_INET6);
cleanup:
    if (address != NULL)
        freeaddrinfo(address);
    return s;
}

void server_url(const server *s, char out[SERVER_URL_MAX])
{
    memcpy(out, s->url, SERVER_URL_MAX);
}

void server_sweep(server *s)
{
    connections_sweep(s->desk.connections);
}

void server_stop(server *s)
{
    const struct timespec tick = {0, TICK_MS * 1000000L};
    const MHD_socket listening = MHD_quiesce_daemon(s->daemon);
    unsigned left = s->deadline_s * (1000 / TICK_MS);

    connections_drain(s->desk.connections);
    if (listening != MHD_INVALID_SOCKET) /* MHD's threads may have it in use until they end */
        (void)shutdown(listening, SHUT_RDWR);
    while (!connections_end(s->desk.connections, left == 0)) {
        connections_sweep(s->desk.connections);
        nanosleep(&tick, NULL);
        left--;
    }
    MHD_stop_daemon(s->daemon);
    if (listening != MHD_INVALID_SOCKET)
        (void)close(listening);
    connections_free(s->desk.connections);
    free(s);
}
