/* SPDX-License-Identifier: MIT
 *
 * The host's permissions, each with a number that the store remembers and never gives out again.
 */
#ifndef CS_CATALOGUE_H
#define CS_CATALOGUE_H

#include <stdbool.h>

#include "envelope.h"

enum { CS_CATALOGUE_MAX = 512 };

typedef struct cs_catalogue_item {
    const char *id, *resource, *action;
    uint16_t number;
    bool numbered; /* false: a read-only open met a permission that the store does not know yet */
} cs_catalogue_item;

typedef struct cs_catalogue {
    cs_catalogue_item *items; /* in the host's order */
    size_t count;
    char *texts;
} cs_catalogue;

/* Checks and copies the host's list. E_INVALID, E_TOO_LARGE: field "catalogue". */
credstore_status cs_catalogue_copy(const credstore_permission *items, size_t count,
                                   cs_catalogue *out, credstore_error *err);
void cs_catalogue_free(cs_catalogue *catalogue);

/* Gives each item the number that the stored list `known` (plain, empty at first) has for it. Those
   that it lacks get the next ones and are appended to *grown, which starts as a copy of known.
   *added tells how many. E_TOO_LARGE when past and present ids together are over 512. */
credstore_status cs_catalogue_number(cs_catalogue *catalogue, credstore_bytes known, cs_buf *grown,
                                     size_t *added, credstore_error *err);

/* Takes the numbers back from the last `added` items that got one: a read-only store cannot keep
 * them. */
void cs_catalogue_forget(cs_catalogue *catalogue, size_t added);

/* The number of an id, or -1. */
int cs_catalogue_find(const cs_catalogue *catalogue, const char *ptr, size_t len);

/* Bit `number` of permission bits as they lie in a record (byte number / 8, lowest bit first). */
bool cs_bit_get(const uint8_t *bits, unsigned number);
void cs_bit_set(uint8_t *bits, unsigned number);

#endif
