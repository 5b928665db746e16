/* SPDX-License-Identifier: MIT
 *
 * Secrets: fixed slots in a locked, guard-paged arena that stays out of core dumps and of forked
 * children.
 */
#ifndef CS_SECRET_H
#define CS_SECRET_H

#include <stddef.h>
#include <stdint.h>

#include "credstore.h"

typedef struct cs_arena cs_arena;

/* Maps an arena of 64 slots between two PROT_NONE pages: mlock (best effort: the limit may be low),
   MADV_DONTDUMP, MADV_WIPEONFORK. NULL when memory is out. Counted: lives until the last of its
   owners lets go. */
cs_arena *cs_arena_new(void);
void cs_arena_ref(cs_arena *arena);
void cs_arena_unref(cs_arena *arena); /* NULL is nothing; wipes and unmaps at the last */

enum { CS_SECRET_MAX = 4096 };

/* A secret of len <= CS_SECRET_MAX bytes, zeroed, NUL behind the last. Takes a free slot of the
   arena by one compare-and-swap, without allocating, and holds the arena; when all are taken, or
   with no arena at all (NULL), maps a small one for this secret alone. NULL when memory is out or
   len is over the limit. Free with credstore_secret_free(), which wipes. */
credstore_secret *cs_secret_new(cs_arena *arena, size_t len);
/* Writable, aligned to 16. In a forked child the bytes read zero; all else, freeing above all,
   works there as in the parent. */
uint8_t *cs_secret_bytes(credstore_secret *secret);

#endif
