/* SPDX-License-Identifier: MIT
 *
 * Root slots: each wraps the store keys for one root key, with a right. credstore-format(5), ROOT,
 * is the specification.
 */
#ifndef CS_ROOT_H
#define CS_ROOT_H

#include "keyring.h"
#include "keysource/keysource.h"

enum { CS_STORE_KEYS_LEN = 2 * CS_DATA_KEY_LEN }; /* body, then secret */

/* Wraps both raw store keys for a root key, as the value of a slot. rights: CS_RIGHT_READ, or with
   _REVEAL. May call the host and take seconds: never inside a transaction. E_UNSUPPORTED: the
   crypto provider has no scrypt; what a key service answers, see credstore_key_service. */
credstore_status cs_root_wrap(const cs_sealer *sealer, const credstore_key_source *source,
                              uint16_t slot, uint8_t rights, const uint8_t *raw, cs_buf *value,
                              credstore_error *err);

/* Unwraps a slot's value into raw (CS_STORE_KEYS_LEN bytes; the second half stays zero without
   REVEAL). *ours: it did; false and OK if the slot is another key's. E_INTEGRITY if it is not what
   was written, and this key's or perhaps. Otherwise as cs_root_wrap(). */
credstore_status cs_root_unwrap(const cs_sealer *sealer, const credstore_key_source *source,
                                uint16_t slot, credstore_bytes value, uint8_t *raw, uint8_t *rights,
                                bool *ours, credstore_error *err);

/* The clear head of a slot's value: method and rights. False: it is not laid out as one. */
bool cs_root_head(credstore_bytes value, uint8_t *method, uint8_t *rights);
/* Is a whole value laid out as its head says? Whether it opens, its own root key alone tells. */
bool cs_root_form(credstore_bytes value);

#endif
