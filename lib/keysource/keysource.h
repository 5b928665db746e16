/* SPDX-License-Identifier: MIT
 *
 * Where a root key lives.
 */
#ifndef CS_KEYSOURCE_H
#define CS_KEYSOURCE_H

#include "credstore.h"
#include "secret.h"

enum { CS_ROOT_KEY_LEN = 32 };

struct credstore_key_source {
    credstore_secret *key; /* CS_ROOT_KEY_LEN bytes, in a small mapping of its own */
};

/* A source whose key is still zero, for constructors that write it in place. */
credstore_status cs_key_source_blank(credstore_key_source **out, credstore_error *err);

/* A source around 32 bytes, copied. */
credstore_status cs_key_source_new(const uint8_t key[CS_ROOT_KEY_LEN], credstore_key_source **out,
                                   credstore_error *err);

#endif
