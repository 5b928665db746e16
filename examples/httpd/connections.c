/* SPDX-License-Identifier: MIT
 *
 * The open connections and their time limits.
 */
#include "connections.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

/* The store's own time: 5 seconds for a writer's turn; the same once more where a commit with
   others failed (credstore_call.wait_ms); and the commit. */
enum { STORE_MS = 12000 };

static const char too_late[] = "HTTP/1.1 408 Request Timeout\r\n"
                               "Connection: close\r\n"
                               "Content-Length: 0\r\n\r\n";

typedef enum stage {
    WAITING,   /* nothing of the next request is known */
    RECEIVING, /* its first line has come */
    ANSWERING, /* it is there */
    GONE,      /* its time was over */
} stage;

struct connection {
    connection *next, *prev;
    int fd;
    stage stage;
    bool answered; /* once at least */
    int64_t since; /* milliseconds */
};

struct connection_list {
    pthread_mutex_t lock;
    connection *first;
    int64_t deadline_ms;
    size_t under_way;
    bool draining, ended;
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

connection_list *connections_new(unsigned deadline_s)
{
    connection_list *all = calloc(1, sizeof *all);

    if (all == NULL)
        return NULL;
    all->deadline_ms = INT64_C(1000) * deadline_s;
    if (pthread_mutex_init(&all->lock, NULL) != 0) {
        free(all);
        return NULL;
    }
    return all;
}

void connections_free(connection_list *all)
{
    if (all == NULL)
        return;
    pthread_mutex_destroy(&all->lock);
    free(all);
}

connection *connection_open(connection_list *all, int fd)
{
    connection *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->fd = fd;
    c->since = now_ms();
    pthread_mutex_lock(&all->lock);
    c->next = all->first;
    if (all->first != NULL)
        all->first->prev = c;
    all->first = c;
    pthread_mutex_unlock(&all->lock);
    return c;
}

void connection_close(connection_list *all, connection *c)
{
    pthread_mutex_lock(&all->lock);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        all->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&all->lock);
    free(c);
}

/* A request is under way from its first line until it is done. */
void connection_request(connection_list *all, connection *c)
{
    pthread_mutex_lock(&all->lock);
    if (c->stage == WAITING) {
        c->stage = RECEIVING;
        all->under_way++;
    }
    pthread_mutex_unlock(&all->lock);
}

bool connection_answer(connection_list *all, connection *c)
{
    bool in_time;

    pthread_mutex_lock(&all->lock);
    in_time = c->stage == RECEIVING && !all->ended;
    if (in_time) {
        c->stage = ANSWERING;
        c->since = now_ms();
    }
    pthread_mutex_unlock(&all->lock);
    return in_time;
}

void connection_done(connection_list *all, connection *c)
{
    pthread_mutex_lock(&all->lock);
    if (c->stage == RECEIVING || c->stage == ANSWERING) {
        all->under_way--;
        c->stage = WAITING;
        c->answered = true;
        c->since = now_ms();
    }
    pthread_mutex_unlock(&all->lock);
}

/* Nobody else writes to a connection that has not got its request yet. Shut down, not closed: that
   is for the one who owns the descriptor, and who sees an end of the stream now. */
static void expire(connection_list *all, connection *c)
{
    const bool begun = c->stage == RECEIVING;

    if (begun || (c->stage == WAITING && !c->answered))
        (void)send(c->fd, too_late, sizeof too_late - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (begun || c->stage == ANSWERING)
        all->under_way--;
    c->stage = GONE;
    (void)shutdown(c->fd, SHUT_RDWR);
}

void connections_sweep(connection_list *all)
{
    const int64_t now = now_ms();

    pthread_mutex_lock(&all->lock);
    for (connection *c = all->first; c != NULL; c = c->next) {
        const int64_t limit = all->deadline_ms + (c->stage == ANSWERING ? STORE_MS : 0);

        if (c->stage != GONE && now - c->since >= limit)
            expire(all, c);
    }
    pthread_mutex_unlock(&all->lock);
}

void connections_drain(connection_list *all)
{
    pthread_mutex_lock(&all->lock);
    all->draining = true;
    pthread_mutex_unlock(&all->lock);
}

bool connections_draining(connection_list *all)
{
    bool draining;

    pthread_mutex_lock(&all->lock);
    draining = all->draining;
    pthread_mutex_unlock(&all->lock);
    return draining;
}

bool connections_end(connection_list *all, bool force)
{
    pthread_mutex_lock(&all->lock);
    if (all->under_way == 0 || force)
        all->ended = true;
    force = all->ended;
    pthread_mutex_unlock(&all->lock);
    return force;
}
