/* SPDX-License-Identifier: MIT
 *
 * The queue of a store's writers.
 */
#include "group.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "time.h"

enum { REFILL_US = 100 };

static const int64_t wait_max_ms = INT64_C(365) * 24 * 3600 * 1000;

struct cs_group {
    pthread_mutex_t lock; /* held for a few instructions only */
    pthread_condattr_t monotonic;
    bool led;
    cs_waiter *first, **end; /* in line; there is none unless somebody leads */
    unsigned waiting;
    unsigned crowd;       /* in the last group, and in line when it ended */
    cs_waiter *refilling; /* the leader that waits for the crowd */
    pid_t maker;
    _Atomic uint64_t commits, changes, largest, sizes[CS_GROUP_SIZES];
};

static int init_locks(cs_group *group)
{
    int rc = pthread_condattr_init(&group->monotonic);

    if (rc != 0)
        return rc;
    rc = pthread_condattr_setclock(&group->monotonic, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_mutex_init(&group->lock, NULL);
    if (rc != 0)
        (void)pthread_condattr_destroy(&group->monotonic);
    return rc;
}

cs_group *cs_group_new(void)
{
    cs_group *group = cs_alloc(1, sizeof *group);

    if (group != NULL && init_locks(group) != 0) {
        cs_free(group);
        return NULL;
    }
    if (group == NULL)
        return NULL;
    group->end = &group->first;
    group->maker = getpid();
    return group;
}

void cs_group_free(cs_group *group)
{
    if (group == NULL)
        return;
    if (group->maker == getpid()) { /* else a thread that was not forked may have it locked */
        (void)pthread_mutex_destroy(&group->lock);
        (void)pthread_condattr_destroy(&group->monotonic);
    }
    cs_free(group);
}

/* ---- the line; all with the lock held ---- */

static void append(cs_group *group, cs_waiter *waiter)
{
    waiter->next = NULL;
    *group->end = waiter;
    group->end = &waiter->next;
    group->waiting++;
}

static cs_waiter *take_first(cs_group *group)
{
    cs_waiter *waiter = group->first;

    if (waiter == NULL)
        return NULL;
    group->first = waiter->next;
    if (group->first == NULL)
        group->end = &group->first;
    group->waiting--;
    waiter->next = NULL;
    return waiter;
}

static void drop_out(cs_group *group, cs_waiter *waiter)
{
    cs_waiter **at = &group->first;

    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    if (*at == NULL)
        group->end = at;
    group->waiting--;
    waiter->turn = CS_TURN_OVER;
}

/* ---- waiting; with the lock held ---- */

static struct timespec after_us(int64_t us)
{
    struct timespec at = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(us / 1000000);
    at.tv_nsec += (long)(us % 1000000) * 1000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* Whoever times out looks once more: he may have been taken meanwhile. */
static void wait_for_turn(cs_group *group, cs_waiter *waiter, int64_t wait_ms)
{
    const int64_t start = cs_time_monotonic();
    const struct timespec end =
        after_us(1000 * (wait_ms < 0 || wait_ms > wait_max_ms ? wait_max_ms : wait_ms));
    int rc = 0;

    while (waiter->turn == CS_TURN_WAITS || waiter->turn == CS_TURN_TAKEN)
        if (wait_ms < 0 || waiter->put_back || waiter->turn == CS_TURN_TAKEN)
            (void)pthread_cond_wait(&waiter->woken, &group->lock);
        else if (rc == 0)
            rc = pthread_cond_timedwait(&waiter->woken, &group->lock, &end);
        else
            drop_out(group, waiter);
    if (wait_ms < 0 || waiter->put_back)
        return;
    waiter->left_ms = wait_ms - (cs_time_monotonic() - start);
    if (waiter->left_ms < 0)
        waiter->left_ms = 0;
}

/* Those who were there a moment ago are about to come again: with them it is one flush instead of
   two. Nobody who is alone waits. */
static void refill(cs_group *group, cs_waiter *leader)
{
    struct timespec end;
    int rc = 0;

    if (leader->alone || group->waiting + 1 >= group->crowd)
        return;
    end = after_us(REFILL_US);
    group->refilling = leader;
    while (rc == 0 && group->waiting + 1 < group->crowd)
        rc = pthread_cond_timedwait(&leader->woken, &group->lock, &end);
    group->refilling = NULL;
}

cs_turn cs_group_enter(cs_group *group, cs_waiter *waiter, int64_t wait_ms)
{
    waiter->left_ms = wait_ms;
    if (pthread_cond_init(&waiter->woken, &group->monotonic) != 0)
        return CS_TURN_OVER;
    (void)pthread_mutex_lock(&group->lock);
    if (group->led) {
        waiter->turn = CS_TURN_WAITS;
        append(group, waiter);
        if (group->refilling != NULL && group->waiting + 1 >= group->crowd)
            (void)pthread_cond_signal(&group->refilling->woken);
        wait_for_turn(group, waiter, wait_ms);
    } else {
        group->led = true;
        waiter->turn = CS_TURN_LEADS;
    }
    if (waiter->turn == CS_TURN_LEADS)
        refill(group, waiter);
    (void)pthread_mutex_unlock(&group->lock);
    (void)pthread_cond_destroy(&waiter->woken);
    return waiter->turn;
}

/* ---- leading ---- */

cs_waiter *cs_group_take(cs_group *group)
{
    cs_waiter *waiter = NULL;

    (void)pthread_mutex_lock(&group->lock);
    if (group->first != NULL && !group->first->alone)
        waiter = take_first(group);
    if (waiter != NULL)
        waiter->turn = CS_TURN_TAKEN;
    (void)pthread_mutex_unlock(&group->lock);
    return waiter;
}

void cs_group_put_back(cs_group *group, cs_waiter *list)
{
    cs_waiter **end = &list;

    (void)pthread_mutex_lock(&group->lock);
    for (; *end != NULL; end = &(*end)->next) {
        (*end)->turn = CS_TURN_WAITS;
        (*end)->put_back = true;
        group->waiting++;
    }
    if (list != NULL) {
        *end = group->first;
        if (group->first == NULL)
            group->end = end;
        group->first = list;
    }
    (void)pthread_mutex_unlock(&group->lock);
}

/* They are signalled with the lock held: once it is let go, they may be gone. */
void cs_group_leave(cs_group *group, cs_waiter *done, unsigned count)
{
    cs_waiter *next;

    (void)pthread_mutex_lock(&group->lock);
    group->crowd = count + group->waiting;
    for (; done != NULL; done = next) {
        next = done->next;
        done->turn = CS_TURN_DONE;
        (void)pthread_cond_signal(&done->woken);
    }
    next = take_first(group);
    group->led = next != NULL;
    if (next != NULL) {
        next->turn = CS_TURN_LEADS;
        (void)pthread_cond_signal(&next->woken);
    }
    (void)pthread_mutex_unlock(&group->lock);
}

/* ---- counting ---- */

void cs_group_count(cs_group *group, unsigned changes)
{
    uint64_t largest = atomic_load(&group->largest);
    size_t size = 0;

    while (size + 1 < CS_GROUP_SIZES && changes >> (size + 1) != 0)
        size++;
    while (largest < changes && !atomic_compare_exchange_weak(&group->largest, &largest, changes))
        continue;
    (void)atomic_fetch_add(&group->commits, 1);
    (void)atomic_fetch_add(&group->changes, changes);
    (void)atomic_fetch_add(&group->sizes[size], 1);
}

void cs_group_read(cs_group *group, cs_group_counts *out)
{
    (void)pthread_mutex_lock(&group->lock);
    out->waiting = group->waiting;
    (void)pthread_mutex_unlock(&group->lock);
    out->commits = atomic_load(&group->commits);
    out->changes = atomic_load(&group->changes);
    out->largest = atomic_load(&group->largest);
    for (size_t i = 0; i < CS_GROUP_SIZES; i++)
        out->sizes[i] = atomic_load(&group->sizes[i]);
}
