/* SPDX-License-Identifier: MIT
 *
 * Unlocking a store: from the root key given at open, through a root slot, to the store keys.
 */
#ifndef CS_UNLOCK_H
#define CS_UNLOCK_H

#include "root.h"
#include "txn.h"

/* At most as many are tried. */
enum { CS_ROOT_SLOTS_MAX = 64 };

/* The root slots of a snapshot, copied. Zero it to start. */
typedef struct cs_root_slots {
    size_t count;
    cs_buf bytes;
    struct {
        uint16_t number;
        size_t start, len; /* in bytes */
    } slot[CS_ROOT_SLOTS_MAX];
} cs_root_slots;

credstore_status cs_root_slots_read(cs_txn *txn, cs_root_slots *out, credstore_error *err);
credstore_bytes cs_root_slots_value(const cs_root_slots *slots, size_t i);
void cs_root_slots_free(cs_root_slots *slots);

/* Takes over the raw store keys (CS_STORE_KEYS_LEN bytes) and loads them; the second half only with
   the right REVEAL. */
credstore_status cs_store_keys_take(credstore *store, credstore_secret *raw, uint8_t rights,
                                    credstore_error *err);
void cs_store_keys_free(credstore *store);

/* Tries each root slot with the key given at open; the first that is its own decides. May call the
   host and take seconds: outside transactions. A damaged slot locks out no other.
   E_KEY_UNAVAILABLE if it opens none; E_INTEGRITY if that may be because a slot is damaged; what a
   key service answered. */
credstore_status cs_unlock(credstore *store, const cs_root_slots *slots,
                           const credstore_key_source *source, credstore_error *err);

#endif
