/* SPDX-License-Identifier: MIT
 *
 * Sealed boxes: key id, nonce, tag and ciphertext, bound to the place where they lie.
 */
#ifndef CS_ENVELOPE_H
#define CS_ENVELOPE_H

#include "credstore.h"
#include "credstore/backend.h"
#include "format.h"
#include "mem.h"

/* Whom to ask, and for which store. */
typedef struct cs_sealer {
    const credstore_crypto *crypto;
    void *ctx;
    uint8_t store_id[CS_STORE_ID_LEN];
} cs_sealer;

/* A loaded key. id 0: a root or store key, which the keyring does not list. */
typedef struct cs_data_key {
    uint32_t id;
    uint8_t purpose, suite, state;
    void *handle;
} cs_data_key;

/* The place that a box is bound to. */
typedef struct cs_label {
    uint8_t role;
    uint16_t field;
    uint64_t revision;
    cs_locator at;
} cs_label;

/* A box as it lies: u32 key id, u32 length, nonce, tag, ciphertext. */
typedef struct cs_box {
    uint32_t key_id;
    const uint8_t *nonce, *tag;
    credstore_bytes sealed;
    credstore_bytes whole;
} cs_box;

/* Takes one box off the front of *in. False if the bytes are not one. */
bool cs_box_take(credstore_bytes *in, cs_box *box);

/* Appends a box to *out. tag (may be NULL) gets a copy of its tag. */
credstore_status cs_seal(const cs_sealer *sealer, const cs_data_key *key, const cs_label *label,
                         const uint8_t nonce[CS_NONCE_LEN], credstore_bytes plain, cs_buf *out,
                         uint8_t tag[CS_TAG_LEN], credstore_error *err);

/* Opens into out, which has room for box->sealed.len bytes. E_INTEGRITY if it is not what was
 * sealed there. */
credstore_status cs_unseal(const cs_sealer *sealer, const cs_data_key *key, const cs_label *label,
                           const cs_box *box, uint8_t *out, credstore_error *err);

/* HMAC-SHA256 of the domain byte and the parts, each with its length in front (u32); a part list of
   one is hashed the same way. The message is wiped. */
credstore_status cs_name_mac(const cs_sealer *sealer, const cs_data_key *key, uint8_t domain,
                             const credstore_bytes *parts, size_t count, uint8_t out[32],
                             credstore_error *err);

/* Values that are one box behind the format byte. */
credstore_status cs_seal_value(const cs_sealer *sealer, const cs_data_key *key,
                               const cs_label *label, const uint8_t nonce[CS_NONCE_LEN],
                               credstore_bytes plain, cs_buf *out, credstore_error *err);
/* E_INTEGRITY for anything that is not the format byte and one whole box: what a newer library may
   write, the sealed meta says when the store is opened. */
credstore_status cs_value_box(credstore_bytes value, cs_box *box, credstore_error *err);
credstore_status cs_value_format(credstore_bytes *value, credstore_error *err);

#endif
