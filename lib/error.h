/* SPDX-License-Identifier: MIT
 *
 * The error model: the first word said about a failure stays.
 */
#ifndef CS_ERROR_H
#define CS_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "credstore.h"

/* Clears *err (may be NULL): at the start of each public function. */
void cs_error_clear(credstore_error *err);

/* Returns status. Fills *err unless something was said already. field and message are literals or
   names from tables, never bytes of a request; field may be NULL. */
credstore_status cs_fail(credstore_error *err, credstore_status status, const char *field,
                         const char *message);
/* The same with errno or an engine's code. */
credstore_status cs_fail_native(credstore_error *err, credstore_status status, int32_t native,
                                const char *message);
/* The same with the byte of the JSON body at fault. */
credstore_status cs_fail_at(credstore_error *err, credstore_status status, const char *field,
                            size_t offset, const char *message);

/* An engine's or a provider's result as a status, with its line in *err. OK is OK; what = "read",
 * "commit"... */
credstore_status cs_fail_storage(credstore_error *err, int32_t result, int32_t native,
                                 const char *message);
credstore_status cs_fail_crypto(credstore_error *err, int32_t result, const char *message);

/* Takes over what a backend filled in itself. False: it told nothing, or no status that there is.
 */
bool cs_fail_told(credstore_error *err, credstore_error *why);

/* HTTP code of a status, from the table in credstore.h. */
uint32_t cs_http_status(credstore_status status);

#endif
