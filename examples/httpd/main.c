/* SPDX-License-Identifier: MIT
 *
 * The four documents' HTTP on a store: credstore-httpd(1). A handler is its route (routes.c) and
 * credstore_handle() (visit.c).
 */
#include <credstore.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "demo.h"
#include "options.h"
#include "server.h"
#include "service.h"
#include "sessions.h"
#include "upkeep.h"

/* The threads that are started later inherit it: these signals come to sigtimedwait() alone. */
static void block_signals(sigset_t *out)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};

    sigemptyset(out);
    sigaddset(out, SIGTERM);
    sigaddset(out, SIGINT);
    sigaddset(out, SIGHUP);
    sigprocmask(SIG_BLOCK, out, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

/* One line of JSON: who starts the program reads from it where it listens. */
static bool tell(const server *s, const demo_access *d)
{
    char url[SERVER_URL_MAX];

    server_url(s, url);
    printf("{\"listening\":\"%s\"", url);
    if (d != NULL)
        demo_print(d);
    return puts("}") >= 0 && fflush(stdout) == 0;
}

/* Nobody reads a demonstration's audit, and its file need not grow by it. */
static unsigned audit_ticks(const options *o)
{
    if (o->audit_s == OPTIONS_AUDIT)
        return o->demo ? 1 : 0;
    return o->audit_s * UPKEEP_SECOND;
}

/* Until a signal comes. */
static void serve(server *s, upkeep *u, const sigset_t *signals)
{
    const struct timespec tick = {0, UPKEEP_TICK_MS * 1000000L};

    while (sigtimedwait(signals, NULL, &tick) < 0) {
        server_sweep(s);
        upkeep_tick(u);
    }
}

static int run(const options *o, const sigset_t *signals)
{
    static session_list sessions;
    static demo_access demo;
    credstore *store = service_open(o->store, o->key, o->create, o->demo);
    server *s = NULL;
    upkeep u;
    int code = EXIT_FAILURE;

    if (store == NULL || (o->sessions != NULL && !sessions_read(&sessions, o->sessions, store)) ||
        (o->demo && !demo_prepare(store, &sessions, &demo)))
        goto cleanup;
    s = server_start(&o->server, store, &sessions);
    if (s == NULL)
        goto cleanup;
    if (tell(s, o->demo ? &demo : NULL)) {
        code = EXIT_SUCCESS;
        upkeep_begin(&u, store, o->maintain_s * UPKEEP_SECOND, audit_ticks(o));
        serve(s, &u, signals);
    }
cleanup:
    if (s != NULL)
        server_stop(s);
    credstore_close(store);
    credstore_wipe(&sessions, sizeof sessions);
    credstore_wipe(&demo, sizeof demo);
    return code;
}

int main(int argc, char **argv)
{
    options o;
    sigset_t signals;
    int code;

    if (!options_read(argc, argv, &o, &code))
        return code;
    block_signals(&signals);
    return run(&o, &signals);
}
