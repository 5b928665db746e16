/* SPDX-License-Identifier: MIT
 *
 * A root key that a person knows. The slot holds salt and cost, so the work waits for it.
 */
#include <string.h>

#include "error.h"
#include "keysource/keysource.h"

enum { LOG2_N_LEAST = 14, LOG2_N_MOST = 20, LOG2_N_USUAL = 17, BLOCK_SIZE = 8, LANES = 1 };

credstore_status credstore_key_passphrase(const char *ptr, size_t len, uint32_t log2_n,
                                          credstore_key_source **out, credstore_error *err)
{
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "out is NULL");
    *out = NULL;
    if (ptr == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "ptr", "ptr is NULL");
    if (len == CREDSTORE_NTS)
        len = strnlen(ptr, CS_SECRET_MAX + 1);
    if (len == 0 || len > CS_SECRET_MAX)
        return cs_fail(err, CREDSTORE_E_INVALID, "len", "a passphrase has 1..4096 bytes");
    if (log2_n != 0 && (log2_n < LOG2_N_LEAST || log2_n > LOG2_N_MOST))
        return cs_fail(err, CREDSTORE_E_INVALID, "log2_n", "the cost is 14..20, or 0");
    status = cs_key_source_blank(CS_ROOT_METHOD_PASSPHRASE, len, out, err);
    if (status != CREDSTORE_OK)
        return status;
    memcpy(cs_secret_bytes((*out)->key), ptr, len);
    (*out)->cost.log2_n = (uint8_t)(log2_n == 0 ? LOG2_N_USUAL : log2_n);
    (*out)->cost.r = BLOCK_SIZE;
    (*out)->cost.p = LANES;
    return CREDSTORE_OK;
}
