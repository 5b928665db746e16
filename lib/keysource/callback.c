/* SPDX-License-Identifier: MIT
 *
 * A root key that never leaves its keeper: the host's wrap and unwrap.
 */
#include <stddef.h>

#include "error.h"
#include "keysource/keysource.h"
#include "mem.h"
#include "sized.h"

static const uint16_t starts[] = {
    offsetof(credstore_key_service, wrap),
    offsetof(credstore_key_service, unwrap),
    offsetof(credstore_key_service, ctx),
};

credstore_status credstore_key_callback(const credstore_key_service *service,
                                        credstore_key_source **out, credstore_error *err)
{
    credstore_key_source *source;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "out is NULL");
    *out = NULL;
    source = cs_alloc(1, sizeof *source);
    if (source == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "no memory for a root key");
    status = cs_struct_take(&source->service, sizeof source->service, service, starts,
                            sizeof starts / sizeof *starts, "service", err);
    if (status == CREDSTORE_OK && (source->service.wrap == NULL || source->service.unwrap == NULL))
        status = cs_fail(err, CREDSTORE_E_INVALID, "service", "wrap or unwrap is NULL");
    if (status != CREDSTORE_OK) {
        cs_free(source);
        return status;
    }
    source->method = CS_ROOT_METHOD_CALLBACK;
    *out = source;
    return CREDSTORE_OK;
}
