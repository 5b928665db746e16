/* SPDX-License-Identifier: MIT
 *
 * What calls hand out: blocks of one piece, some of which own others. credstore_free() frees and
 * wipes them all.
 */
#ifndef CS_BLOCK_H
#define CS_BLOCK_H

#include <stddef.h>

#include "credstore/backend.h"

/* Zeroed memory for a view, page or answer; NULL when memory is out. */
void *cs_block_new(size_t size);
/* child (from cs_block_new, or NULL) is freed with parent from now on. */
void cs_block_adopt(void *parent, void *child);

/* Copies a text with a NUL to *at, room that the block has, and moves *at behind it. */
const char *cs_block_text(char **at, credstore_bytes text);

#endif
