/* SPDX-License-Identifier: MIT
 *
 * What the concurrency tests write and read: a handful of records of all four kinds, each written
 * with one stamp in several fields at once, so that a view from two changes is told from a whole
 * one.
 *
 * Nothing in here asserts: it runs in threads and forked children, where cmocka must not jump.
 */
#ifndef TESTS_STRESS_WORK_H
#define TESTS_STRESS_WORK_H

#include "../support.h"

enum {
    WORK_RECORDS = 8,
    WORK_HISTORY = 100, /* revisions that a store keeps behind the current one */
    WORK_CHECKBOOK = 0, /* the first record of each kind; the second follows */
    WORK_STRIPE = 2,
    WORK_SERVICE_CREDENTIAL = 4,
    WORK_API_KEY = 6
};

/* What a record says: the change that wrote its plain fields, and the one that wrote its secrets.
 */
typedef struct work_stamp {
    uint64_t tag, secret;
} work_stamp;

/* The nth change of a worker; of 40 bits. */
uint64_t work_tag(unsigned worker, uint64_t n);

/* Opens `path`, made if it is absent, or a store in memory (NULL). NULL, after a line on stderr. */
credstore *work_open(const char *path, credstore_error *err);

bool work_has_secret(size_t record);

typedef struct work_change {
    size_t record;
    const char *id; /* instead of the record's own; NULL = the record's own */
    work_stamp stamp;
    bool with_secret;  /* write the secrets too */
    bool by_door;      /* as JSON, through credstore_handle() */
    bool empty;        /* a patch without members; not by the door */
    uint64_t expected; /* revision */
    int64_t wait_ms;
} work_change;

/* Creates the record, or all of them at stamp {0, 0}. */
credstore_status work_create(credstore *store, const credstore_actor *actor, const work_change *c,
                             credstore_error *err);
credstore_status work_create_all(credstore *store, const credstore_actor *actor,
                                 credstore_error *err);

/* *revision: of the answer. */
credstore_status work_write(credstore *store, const credstore_actor *actor, const work_change *c,
                            uint64_t *revision, credstore_error *err);

typedef struct work_view {
    uint64_t revision;
    work_stamp stamp; /* typed reads only */
    bool whole;       /* all fields say the same */
} work_view;

/* revision 0 = now. */
credstore_status work_read(credstore *store, const credstore_actor *actor, size_t record,
                           uint64_t revision, work_view *out, credstore_error *err);
/* The same by the door, now. */
credstore_status work_read_door(credstore *store, const credstore_actor *actor, size_t record,
                                work_view *out, credstore_error *err);

/* *secret: the change that wrote the record's second secret, or UINT64_MAX if the bytes are not one
   of those that work_write() ever sends. */
credstore_status work_reveal(credstore *store, const credstore_actor *actor, size_t record,
                             uint64_t revision, uint64_t *secret, credstore_error *err);

/* ---- the audit ---- */

typedef struct work_marks {
    uint64_t generation, last_seq;
} work_marks;

/* Holds every audit entry, from the head's last to the first, against the chain. */
credstore_status work_audit(credstore *store, work_marks *out, credstore_error *err);

/* ---- ---- */

int64_t work_now_us(void);
void work_nap_us(int64_t us);
void work_say(const char *what, const credstore_error *err); /* a line on stderr */

/* "ext4", or the number of a file system without a name here. */
void work_file_system(const char *path, char out[16]);

#endif
