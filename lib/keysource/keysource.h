/* SPDX-License-Identifier: MIT
 *
 * Where a root key lives.
 */
#ifndef CS_KEYSOURCE_H
#define CS_KEYSOURCE_H

#include "credstore.h"
#include "format.h"
#include "secret.h"

enum { CS_ROOT_KEY_LEN = 32, CS_KEY_BLOB_MAX = 4096 };

/* What scrypt is to cost: N = 1 << log2_n. */
typedef struct cs_scrypt_cost {
    uint8_t log2_n;
    uint32_t r, p;
} cs_scrypt_cost;

struct credstore_key_source {
    uint8_t method;         /* CS_ROOT_METHOD_x; of which kind of slot it is */
    credstore_secret *key;  /* RAW: CS_ROOT_KEY_LEN bytes; PASSPHRASE: its bytes; else NULL */
    credstore_secret *mark; /* beside a key: one byte, 1 until a fork wipes both */
    cs_scrypt_cost cost;    /* PASSPHRASE: of a slot that is made with it */
    credstore_key_service service; /* CALLBACK */
};

/* A source of `len` secret bytes, still zero, for constructors that write them in place. */
credstore_status cs_key_source_blank(uint8_t method, size_t len, credstore_key_source **out,
                                     credstore_error *err);

/* E_FORKED in a child of the process that made it: what is left of its key are zeros, and a slot
   that they wrap is open to everybody. */
credstore_status cs_key_source_usable(const credstore_key_source *source, credstore_error *err);

/* A source around 32 bytes, copied. */
credstore_status cs_key_source_new(const uint8_t key[CS_ROOT_KEY_LEN], credstore_key_source **out,
                                   credstore_error *err);

#endif
