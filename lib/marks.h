/* SPDX-License-Identifier: MIT
 *
 * Used marks: noted by verification without allocating or waiting, written down by maintenance.
 */
#ifndef CS_MARKS_H
#define CS_MARKS_H

#include "store.h"

/* Notes that a record was used. May forget one when many are used at once: last-used is a hint. */
void cs_mark_used(credstore *store, const cs_locator *at, int64_t now);

/* Takes a noted mark that is due, out of the table from *next on, which is moved on. False: none is
 * left. */
bool cs_mark_take(credstore *store, size_t *next, cs_mark *out);

/* Gives one back that could not be written down. */
void cs_mark_return(credstore *store, const cs_mark *mark);

#endif
