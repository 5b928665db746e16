/* SPDX-License-Identifier: MIT
 *
 * The crypto provider that comes with the library: OpenSSL 3 libcrypto.
 */
#ifndef CS_CRYPTO_OPENSSL_H
#define CS_CRYPTO_OPENSSL_H

#include "credstore.h"
#include "credstore/backend.h"

extern const credstore_crypto cs_crypto_openssl;

/* Fetches the algorithms once, in a library context of its own kind (the default one is not
   touched). *ctx is released by the table's close. E_INTERNAL: an algorithm is missing. */
credstore_status cs_openssl_new(void **ctx, credstore_error *err);

#endif
