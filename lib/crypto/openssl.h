/* SPDX-License-Identifier: MIT
 *
 * The crypto provider that comes with the library: OpenSSL 3 libcrypto.
 */
#ifndef CS_CRYPTO_OPENSSL_H
#define CS_CRYPTO_OPENSSL_H

#include "credstore.h"
#include "credstore/backend.h"

extern const credstore_crypto cs_crypto_openssl;

/* Fetches the algorithms once, from the process's default library context, so that what the
   operator configured there (FIPS) holds here as well. *ctx is released by the table's close.
   E_INTERNAL: an algorithm is missing. */
credstore_status cs_openssl_new(void **ctx, credstore_error *err);

#endif
