/* SPDX-License-Identifier: MIT
 *
 * The queue of a store's writers: who leads, who is taken along, who gives up. It belongs to the
 * environment, so that all handles of this process on one store share it; it knows nothing of
 * transactions. First come, first served: a waiter waits for as many groups as there are waiters
 * before it, divided by what fits into a group.
 *
 * Cancellation is off in a thread that is in here. A child of fork never is.
 */
#ifndef CS_GROUP_H
#define CS_GROUP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct cs_group cs_group;

typedef enum cs_turn {
    CS_TURN_WAITS,
    CS_TURN_TAKEN, /* a leader has it */
    CS_TURN_LEADS,
    CS_TURN_DONE, /* a leader did its work */
    CS_TURN_OVER  /* its time went by, and no leader had taken it */
} cs_turn;

/* A thread that wants to write. Zero it first. */
typedef struct cs_waiter {
    struct cs_waiter *next; /* the leader's, while it is taken */
    pthread_cond_t woken;
    cs_turn turn;
    bool alone;      /* to be run in a group of its own */
    bool put_back;   /* a leader had it and gave it back: it does not give up any more */
    int64_t left_ms; /* of a leader: for the engine's turn; -1 = for ever */
} cs_waiter;

/* NULL: out of memory. */
cs_group *cs_group_new(void);
void cs_group_free(cs_group *group); /* NULL is nothing */

/* Waits for at most wait_ms (-1 = for ever). LEADS: the caller leads, until cs_group_leave(). DONE:
   a leader did it. OVER. A leader that others were with lately waits up to 100 us for them. */
cs_turn cs_group_enter(cs_group *group, cs_waiter *waiter, int64_t wait_ms);

/* The leader's: takes the first in line; NULL if there is none, or if it is to be run alone. */
cs_waiter *cs_group_take(cs_group *group);
/* Gives waiters back, before all that wait, in the order of the list. */
void cs_group_put_back(cs_group *group, cs_waiter *list);
/* Ends the lead: the list's waiters are done, the first in line leads. count: how many were in the
   group. */
void cs_group_leave(cs_group *group, cs_waiter *done, unsigned count);

/* What was committed since the queue was made. */
enum { CS_GROUP_SIZES = 8 };
typedef struct cs_group_counts {
    uint64_t commits;               /* transactions that became durable: a flush each */
    uint64_t changes;               /* in them */
    uint64_t largest;               /* changes in one */
    uint64_t sizes[CS_GROUP_SIZES]; /* commits of 1, 2..3, 4..7 ... 128 and more changes */
    uint64_t waiting;               /* in line at the moment */
} cs_group_counts;

/* Any thread. Each number is true by itself; they may be of slightly different moments. */
void cs_group_count(cs_group *group, unsigned changes); /* a commit */
void cs_group_read(cs_group *group, cs_group_counts *out);

#endif
