/* SPDX-License-Identifier: MIT
 *
 * Unlocking a store: from the root key given at open, through a root slot, to the store keys.
 */
#ifndef CS_UNLOCK_H
#define CS_UNLOCK_H

#include "txn.h"

/* Loads the raw store keys (CS_STORE_KEYS_LEN bytes); the second half only with the right REVEAL.
 */
credstore_status cs_store_keys_load(const cs_sealer *sealer, const uint8_t *raw, uint8_t rights,
                                    cs_store_keys *keys, credstore_error *err);
void cs_store_keys_free(const cs_sealer *sealer, cs_store_keys *keys);

/* Tries each root slot with the key given at open; the first that is its own decides. Statuses:
   E_KEY_UNAVAILABLE if it opens none. */
credstore_status cs_unlock(cs_txn *txn, const credstore_key_source *source, cs_store_keys *keys,
                           credstore_error *err);

#endif
