/* SPDX-License-Identifier: MIT
 *
 * Where a root key lives: the handle, and the source that the host fills with bytes.
 */
#include "keysource/keysource.h"

#include <string.h>

#include "error.h"
#include "mem.h"

credstore_status cs_key_source_blank(uint8_t method, size_t len, credstore_key_source **out,
                                     credstore_error *err)
{
    credstore_key_source *source = cs_alloc(1, sizeof *source);

    *out = NULL;
    if (source != NULL)
        source->key = cs_secret_new(NULL, len);
    if (source != NULL && source->key != NULL)
        source->mark = cs_secret_new(NULL, 1);
    if (source == NULL || source->mark == NULL) {
        credstore_key_source_free(source);
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "no memory for a root key");
    }
    cs_secret_bytes(source->mark)[0] = 1;
    source->method = method;
    *out = source;
    return CREDSTORE_OK;
}

credstore_status cs_key_source_usable(const credstore_key_source *source, credstore_error *err)
{
    if (source->mark != NULL && cs_secret_bytes(source->mark)[0] == 0)
        return cs_fail(err, CREDSTORE_E_FORKED, "key", "The key source was made before a fork");
    return CREDSTORE_OK;
}

credstore_status cs_key_source_new(const uint8_t key[CS_ROOT_KEY_LEN], credstore_key_source **out,
                                   credstore_error *err)
{
    const credstore_status status =
        cs_key_source_blank(CS_ROOT_METHOD_RAW, CS_ROOT_KEY_LEN, out, err);

    if (status == CREDSTORE_OK)
        memcpy(cs_secret_bytes((*out)->key), key, CS_ROOT_KEY_LEN);
    return status;
}

credstore_status credstore_key_bytes(const void *ptr, size_t len, credstore_key_source **out,
                                     credstore_error *err)
{
    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "out is NULL");
    *out = NULL;
    if (ptr == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "ptr", "ptr is NULL");
    if (len != CS_ROOT_KEY_LEN)
        return cs_fail(err, CREDSTORE_E_INVALID, "len", "a root key has 32 bytes");
    return cs_key_source_new(ptr, out, err);
}

void credstore_key_source_free(credstore_key_source *source)
{
    if (source == NULL)
        return;
    credstore_secret_free(source->key);
    credstore_secret_free(source->mark);
    cs_free(source);
}
