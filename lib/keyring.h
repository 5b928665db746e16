/* SPDX-License-Identifier: MIT
 *
 * The store's data keys: which there are, what each is for, and how they lie sealed under the store
 * keys.
 */
#ifndef CS_KEYRING_H
#define CS_KEYRING_H

#include "envelope.h"
#include "secret.h"

enum { CS_KEYRING_MAX = 64 };

typedef struct cs_keyring {
    struct cs_keyring *previous; /* that this one took the place of; see ring.h */
    uint64_t version;
    size_t count;
    cs_data_key keys[CS_KEYRING_MAX];
} cs_keyring;

/* The two store keys, 32 bytes each; secret is NULL where only READ was unwrapped. Loaded under key
 * id 0. */
typedef struct cs_store_keys {
    cs_data_key body, secret;
    credstore_secret *raw; /* both as they are wrapped in root slots, to make another one; zero
                              where they were not unwrapped */
    bool can_reveal;
    uint16_t slot; /* that opened them */
} cs_store_keys;

/* Opens and loads both values. Without REVEAL the secret keys are listed, their handle is NULL. */
credstore_status cs_keyring_load(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                 cs_arena *arena, credstore_bytes body_value,
                                 credstore_bytes secret_value, cs_keyring *ring,
                                 credstore_error *err);
void cs_keyring_free(const cs_sealer *sealer, cs_keyring *ring);

/* A keyring as it is stored: two sealed values of one version. Zero it to start. */
typedef struct cs_ring_values {
    cs_buf body, secret;
    uint64_t version; /* of one that was made here; 0 of one that was read */
} cs_ring_values;
void cs_ring_values_free(cs_ring_values *values);

/* Makes the first keyring, an active key for each purpose, and loads it; outside of transactions.
   Both store keys are needed. Free *values with cs_ring_values_free(), whatever the status. */
credstore_status cs_keyring_create(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                   cs_arena *arena, cs_keyring *ring, cs_ring_values *values,
                                   credstore_error *err);

/* Makes the next version of a keyring. purposes: bit p = a new active key for the purpose p, whose
   active key becomes a retiring one. Draws and seals, so outside of transactions. Both store keys
   are needed. E_CONFLICT: the table is full of keys that are not retired. E_INTEGRITY. */
credstore_status cs_keyring_promote(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                    cs_arena *arena, const cs_ring_values *now, uint32_t purposes,
                                    cs_ring_values *next, credstore_error *err);
/* Likewise: the retiring keys become retired ones, without their material. */
credstore_status cs_keyring_retire(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                   cs_arena *arena, const cs_ring_values *now, cs_ring_values *next,
                                   credstore_error *err);

/* The active key of a purpose; never NULL in a loaded keyring. */
const cs_data_key *cs_keyring_active(const cs_keyring *ring, uint8_t purpose);

/* Does it list a key of that purpose and id? */
bool cs_keyring_lists(const cs_keyring *ring, uint8_t purpose, uint32_t id);

/* Does it list that key as a retiring one? */
bool cs_keyring_retires(const cs_keyring *ring, uint8_t purpose, uint32_t id);
/* Has it a retiring key at all? */
bool cs_keyring_rotates(const cs_keyring *ring);

/* The key that a box names: E_INTEGRITY if there is none of that purpose, or it is retired,
   E_KEY_UNAVAILABLE if it could not be unwrapped here. */
credstore_status cs_keyring_find(const cs_keyring *ring, uint8_t purpose, uint32_t id,
                                 const cs_data_key **out, credstore_error *err);

/* cs_unseal() with the key that the box names. */
credstore_status cs_keyring_unseal(const cs_sealer *sealer, const cs_keyring *ring, uint8_t purpose,
                                   const cs_label *label, const cs_box *box, uint8_t *out,
                                   credstore_error *err);

/* Loads a raw key of 32 bytes. */
credstore_status cs_data_key_load(const cs_sealer *sealer, uint32_t suite, const uint8_t *raw,
                                  cs_data_key *out, credstore_error *err);
void cs_data_key_free(const cs_sealer *sealer, cs_data_key *key);

#endif
