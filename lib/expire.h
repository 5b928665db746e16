/* SPDX-License-Identifier: MIT
 *
 * Working off the queue of ends.
 */
#ifndef CS_EXPIRE_H
#define CS_EXPIRE_H

#include "txn.h"

/* Works off the first entry from *next on that ended by `until`: the record gets a revision without
   what is over, and *next is moved behind the entry. *found = false: there is none. E_INTEGRITY,
   E_FORMAT: the entry or its record cannot be read; it stays. */
credstore_status cs_ends_work_off(credstore *store, cs_key *next, int64_t until, bool *found,
                                  credstore_error *err);
/* Where the queue begins. */
void cs_ends_begin(cs_key *next);

#endif
