/* SPDX-License-Identifier: MIT
 *
 * Structs that say their own size, from callers compiled against an older or a newer header.
 */
#ifndef CS_SIZED_H
#define CS_SIZED_H

#include <stddef.h>
#include <stdint.h>

#include "credstore.h"

/* Copies a struct that starts with struct_size into dst, which has `full` bytes: a shorter one
   leaves zeros, a longer one must be zero behind what is known. `starts` holds the offsets at which
   a member begins: the sizes that a shorter struct may have. E_INVALID, E_UNSUPPORTED with `name`
   as the field. */
credstore_status cs_struct_take(void *dst, size_t full, const void *src, const uint16_t *starts,
                                size_t count, const char *name, credstore_error *err);

/* Hands out: copies src, which has `full` bytes, into the caller's dst, as much as its struct_size
   has room for, which is left as it is. Call cs_struct_take() of dst before. */
void cs_struct_give(void *dst, const void *src, size_t full);

#endif
