/* SPDX-License-Identifier: MIT
 *
 * What a store is before its first record: identity, root slots, keyring, catalogue, head.
 */
#ifndef CS_FOUNDING_H
#define CS_FOUNDING_H

#include "store.h"

/* Loads what is there; makes a new store if nothing is and the options say so. Fills store's id,
   keyring, catalogue, what was seen, and the decoy. Statuses as credstore_open(). */
credstore_status cs_found_or_load(credstore *store, const credstore_options *options,
                                  const char *path, credstore_error *err);

#endif
