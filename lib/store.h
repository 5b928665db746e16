/* SPDX-License-Identifier: MIT
 *
 * An open store.
 */
#ifndef CS_STORE_H
#define CS_STORE_H

#include <stdatomic.h>

#include "catalogue.h"
#include "keyring.h"
#include "kind.h"
#include "secret.h"

/* Room for an opened body, claimed by one compare-and-swap, so that the hot paths do not allocate.
 */
enum { CS_DESKS = 16, CS_DESK_LEN = 12 * 1024 };
typedef struct cs_desk {
    atomic_uint taken;
    uint8_t bytes[CS_DESK_LEN];
} cs_desk;

/* A record that was used, until maintenance writes it down. */
enum { CS_MARKS = 1024 };
typedef struct cs_mark {
    atomic_uint taken;
    uint8_t kind;
    uint8_t scope[CS_SCOPE_LEN];
    char id[CS_ID_MAX + 1]; /* "" = free */
    int64_t used, written;  /* written: the minute that the store has */
} cs_mark;

struct credstore {
    const credstore_storage *storage;
    void *storage_ctx;
    struct cs_group *group; /* of the environment's writers; see group.h */
    bool grouped;           /* several changes may share a transaction */
    cs_sealer sealer;
    cs_arena *arena;
    cs_store_keys keys; /* to load a keyring that has changed; empty until the store is unlocked */
    _Atomic(cs_keyring *) ring;  /* see ring.h */
    _Atomic(cs_keyring *) aside; /* rings of snapshots that are older than that one */
    cs_catalogue catalogue;
    cs_rules rules;
    char *rule_texts;
    int64_t (*now_ms)(void *ctx);
    void *now_ctx;
    int64_t wait_ms;
    int32_t (*policy)(void *ctx, const credstore_question *question);
    void *policy_ctx;
    void (*event)(void *ctx, const credstore_event *event);
    void *event_ctx;
    bool read_only, is_open, audit_reveals;
    uint32_t open_flags;
    uint64_t epoch; /* 1, and one more for each time that the store was put back from a backup */
    bool creating;  /* nothing is there yet: the first transaction starts a new head */
    _Atomic uint64_t seen_generation;
    _Atomic int64_t seen_time; /* of heads */
    _Atomic int64_t
        seen_clock;         /* of the host: an expired key stays so when it goes back a little */
    _Atomic uint64_t wakes; /* credstore_wake() calls */
    volatile uint8_t *fork_page; /* 1; the kernel zeroes it in a forked child */
    cs_mark *marks;              /* CS_MARKS of them */
    cs_desk *desks;              /* CS_DESKS of them */
    cs_buf decoy; /* a sealed value to open where no record is, so that absent costs the same */
    cs_data_key decoy_key; /* of its own, so that it opens whatever becomes of the data keys */
};

/* E_FORKED in a child of the process that opened the store, E_INVALID for NULL. */
credstore_status cs_store_usable(const credstore *store, credstore_error *err);

/* The time that decides: the clock, or the largest time seen, by this process or in a head, while
 * the clock is less than a day behind it or cannot tell. */
int64_t cs_store_now(const credstore *store);
/* The host's clock, no earlier than 1970 and no later than the year 9999: what is added to it does
 * not overflow. It goes back by a day or more, or not at all. */
int64_t cs_store_clock(credstore *store);
/* Which of the two decides. */
int64_t cs_store_effective(int64_t clock, int64_t largest);

/* Lends an empty buffer a free desk, if there is one; it grows beyond it by allocating, as any
   does. At the end free the buffer, then the desk (NULL is nothing). */
cs_desk *cs_desk_lend(credstore *store, cs_buf *buf);
void cs_desk_free(cs_desk *desk);

/* E_ENTROPY. */
credstore_status cs_store_random(const credstore *store, uint8_t *out, size_t len,
                                 credstore_error *err);

/* Makes the decoy; opens it and throws it away. */
credstore_status cs_store_make_decoy(credstore *store, credstore_error *err);
void cs_store_decoy(const credstore *store);

/* The ring of the moment; good until close. */
const cs_keyring *cs_store_ring(const credstore *store);
/* The key of names, which no rotation changes. */
const cs_data_key *cs_store_name_key(const credstore *store);

#endif
