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

/* One slot. Lives inside the mapping, so a forked child finds arena == NULL. */
struct credstore_secret {
    cs_arena *arena;
    size_t index, len;
    _Alignas(ALIGN) uint8_t bytes[CS_SECRET_MAX + 1];
};

/* The book-keeping holds no secret and lives on the heap: it survives a fork. */
struct cs_arena {
    atomic_size_t refs;
    _Atomic uint64_t taken; /* one bit a slot; bits of slots that do not exist are set */
    credstore_secret *slots;
    void *map;
    size_t map_len;
};

/* A mapping of count slots whose last byte is followed, up to the page's end, by nothing of use;
   the first and the last page are never accessible. */
static bool map_slots(cs_arena *arena, size_t count)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (count * sizeof(credstore_secret) + page - 1) / page * page;
    const size_t whole = inner + 2 * page;
    uint8_t *map = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED)
        return false;
    if (mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(map, whole);
        return false;
    }
    /* Best effort all three: a low RLIMIT_MEMLOCK or an old kernel must not stop the host. */
    (void)mlock(map + page, inner);
    (void)madvise(map + page, inner, MADV_DONTDUMP);
    (void)madvise(map + page, inner, MADV_WIPEONFORK);
    arena->slots = (credstore_secret *)(void *)(map + page);
    arena->map = map;
    arena->map_len = whole;
    return true;
}

static cs_arena *arena_of(size_t count)
{
    cs_arena *arena = cs_alloc(1, sizeof *arena);

    if (arena == NULL)
        return NULL;
    if (!map_slots(arena, count)) {
        cs_free(arena);
        return NULL;
    }
    atomic_init(&arena->refs, 1);
    atomic_init(&arena->taken, count < SLOTS ? UINT64_MAX << count : 0);
    return arena;
}

cs_arena *cs_arena_new(void)
{
    return arena_of(SLOTS);
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
            arena->slots[i].index = i;
            arena->slots[i].len = len;
            return &arena->slots[i];
        }
    }
    return NULL;
}

static credstore_secret *alone(size_t len)
{
    cs_arena *arena = arena_of(1);

    return arena == NULL ? NULL : claim(arena, len); /* whose first reference is the secret's */
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
    cs_arena *arena = secret == NULL ? NULL : secret->arena;
    uint64_t bit;

    if (arena == NULL) /* in a forked child the whole slot was wiped by the kernel */
        return;
    bit = UINT64_C(1) << secret->index;
    cs_wipe(secret, offsetof(credstore_secret, bytes) + secret->len + 1);
    (void)atomic_fetch_and_explicit(&arena->taken, ~bit, memory_order_release);
    cs_arena_unref(arena);
}
