/* SPDX-License-Identifier: MIT
 *
 * Secrets: fixed slots in a locked, guard-paged arena that stays out of core dumps and of forked
 * children.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, madvise */

#include "secret.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem.h"

enum { SLOTS = 64, ALIGN = 16 };

/* The handle of a slot. Handles and book-keeping hold no secret and live on the heap, so that they
   survive a fork, and nothing written past a slot's end reaches them. */
struct credstore_secret {
    cs_arena *arena;
    uint8_t *bytes;
    size_t len;
};

struct cs_arena {
    atomic_size_t refs;
    _Atomic uint64_t taken; /* one bit a slot */
    void *map;
    size_t map_len;
    credstore_secret slots[];
};

/* inner bytes, rounded up to pages, between two pages without access. */
static uint8_t *map_guarded(cs_arena *arena, size_t inner)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t whole = (inner + page - 1) / page * page + 2 * page;
    uint8_t *map = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map + page, whole - 2 * page, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(map, whole);
        return NULL;
    }
    /* Best effort all three: a low RLIMIT_MEMLOCK or an old kernel must not stop the host. */
    (void)mlock(map + page, whole - 2 * page);
    (void)madvise(map + page, whole - 2 * page, MADV_DONTDUMP);
    (void)madvise(map + page, whole - 2 * page, MADV_WIPEONFORK);
    arena->map = map;
    arena->map_len = whole;
    return map + page;
}

/* count slots for secrets of up to max bytes. */
static cs_arena *arena_of(size_t count, size_t max)
{
    const size_t room = (max + 1 + ALIGN - 1) / ALIGN * ALIGN;
    cs_arena *arena = cs_alloc(1, sizeof *arena + count * sizeof *arena->slots);
    uint8_t *bytes = arena == NULL ? NULL : map_guarded(arena, count * room);

    if (bytes == NULL) {
        cs_free(arena);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        arena->slots[i].bytes = bytes + i * room;
    atomic_init(&arena->refs, 1);
    atomic_init(&arena->taken, 0);
    return arena;
}

cs_arena *cs_arena_new(void)
{
    return arena_of(SLOTS, CS_SECRET_MAX);
}

void cs_arena_ref(cs_arena *arena)
{
    (void)atomic_fetch_add_explicit(&arena->refs, 1, memory_order_relaxed);
}

void cs_arena_unref(cs_arena *arena)
{
    if (arena == NULL)
        return;
    if (atomic_fetch_sub_explicit(&arena->refs, 1, memory_order_acq_rel) != 1)
        return;
    /* Each secret holds the arena and was wiped when it let go, so nothing is left to wipe. */
    (void)munmap(arena->map, arena->map_len);
    cs_free(arena);
}

static credstore_secret *claim(cs_arena *arena, size_t len)
{
    uint64_t seen = atomic_load_explicit(&arena->taken, memory_order_relaxed);

    for (size_t i = 0; i < SLOTS; i++) {
        const uint64_t bit = UINT64_C(1) << i;

        while ((seen & bit) == 0) {
            if (!atomic_compare_exchange_weak_explicit(&arena->taken, &seen, seen | bit,
                                                       memory_order_acquire, memory_order_relaxed))
                continue;
            arena->slots[i].arena = arena;
            arena->slots[i].len = len;
            return &arena->slots[i];
        }
    }
    return NULL;
}

static credstore_secret *alone(size_t len)
{
    cs_arena *arena = arena_of(1, len);

    /* Nobody else knows this arena: its one slot is free, its first reference the secret's. */
    return arena == NULL ? NULL : claim(arena, len);
}

credstore_secret *cs_secret_new(cs_arena *arena, size_t len)
{
    credstore_secret *secret;

    if (len > CS_SECRET_MAX)
        return NULL;
    secret = arena == NULL ? NULL : claim(arena, len);
    if (secret == NULL)
        return alone(len);
    cs_arena_ref(arena);
    return secret;
}

uint8_t *cs_secret_bytes(credstore_secret *secret)
{
    return secret->bytes;
}

const char *credstore_secret_ptr(const credstore_secret *secret)
{
    return secret == NULL ? NULL : (const char *)secret->bytes;
}

size_t credstore_secret_len(const credstore_secret *secret)
{
    return secret == NULL ? 0 : secret->len;
}

void credstore_secret_free(credstore_secret *secret)
{
    cs_arena *arena;

    if (secret == NULL)
        return;
    arena = secret->arena;
    cs_wipe(secret->bytes, secret->len + 1);
    (void)atomic_fetch_and_explicit(&arena->taken, ~(UINT64_C(1) << (secret - arena->slots)),
                                    memory_order_release);
    cs_arena_unref(arena);
}
