/* SPDX-License-Identifier: MIT
 *
 * Used marks, in a table of fixed size: a record's place follows from its name. Who finds the place
 * busy, or taken by another record on all its tries, lets the mark go.
 */
#include "marks.h"

#include <string.h>

enum { TRIES = 8 };
static const int64_t minute_ms = 60000;

/* FNV-1a, over what is in the clear anyway. */
static size_t place_of(const cs_locator *at)
{
    uint32_t hash = 2166136261u ^ cs_get_u32(at->scope); /* zero, or a MAC */

    for (size_t i = 0; i < at->id.len; i++)
        hash = (hash ^ ((const uint8_t *)at->id.ptr)[i]) * 16777619u;
    return (hash ^ at->kind) % CS_MARKS;
}

static bool is_of(const cs_mark *mark, const cs_locator *at)
{
    return mark->kind == at->kind && memcmp(mark->scope, at->scope, CS_SCOPE_LEN) == 0 &&
           strlen(mark->id) == at->id.len && memcmp(mark->id, at->id.ptr, at->id.len) == 0;
}

static bool claim(cs_mark *mark)
{
    unsigned free_mark = 0;

    return atomic_compare_exchange_strong(&mark->taken, &free_mark, 1);
}

static void release(cs_mark *mark)
{
    atomic_store_explicit(&mark->taken, 0, memory_order_release);
}

void cs_mark_used(credstore *store, const cs_locator *at, int64_t now)
{
    const size_t place = place_of(at);

    for (size_t i = 0; i < TRIES; i++) {
        cs_mark *mark = &store->marks[(place + i) % CS_MARKS];
        bool ours;

        if (!claim(mark))
            return;
        ours = mark->id[0] == '\0' || is_of(mark, at) || mark->used == mark->written;
        if (ours && !is_of(mark, at)) {
            mark->kind = at->kind;
            memcpy(mark->scope, at->scope, CS_SCOPE_LEN);
            memcpy(mark->id, at->id.ptr, at->id.len);
            mark->id[at->id.len] = '\0';
            mark->written = 0;
        }
        if (ours)
            mark->used = now;
        release(mark);
        if (ours)
            return;
    }
}

bool cs_mark_take(credstore *store, size_t *next, cs_mark *out)
{
    for (; *next < CS_MARKS; (*next)++) {
        cs_mark *mark = &store->marks[*next];
        bool due;

        if (!claim(mark))
            continue;
        due = mark->id[0] != '\0' && mark->used - mark->written >= minute_ms;
        if (due) {
            out->kind = mark->kind;
            memcpy(out->scope, mark->scope, CS_SCOPE_LEN);
            memcpy(out->id, mark->id, sizeof out->id);
            out->used = mark->used;
            mark->written = mark->used;
        }
        release(mark);
        if (due) {
            (*next)++;
            return true;
        }
    }
    return false;
}

void cs_mark_return(credstore *store, const cs_mark *mark)
{
    cs_locator at = {.kind = mark->kind, .id = cs_bytes_of(mark->id)};
    size_t place;

    memcpy(at.scope, mark->scope, CS_SCOPE_LEN);
    place = place_of(&at);
    for (size_t i = 0; i < TRIES; i++) {
        cs_mark *here = &store->marks[(place + i) % CS_MARKS];

        if (!claim(here))
            continue;
        if (is_of(here, &at))
            here->written = 0;
        release(here);
    }
}
