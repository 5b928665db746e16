/* SPDX-License-Identifier: MIT
 *
 * Structs that say their own size.
 */
#include "sized.h"

#include <stdbool.h>
#include <string.h>

#include "error.h"

enum { STRUCT_MAX = 64 * 1024 }; /* no struct of ours will ever be as large */

static bool may_end(uint32_t size, size_t full, const uint16_t *starts, size_t count)
{
    if (size >= full)
        return true;
    for (size_t i = 0; i < count; i++)
        if (size == starts[i])
            return true;
    return false;
}

credstore_status cs_struct_take(void *dst, size_t full, const void *src, const uint16_t *starts,
                                size_t count, const char *name, credstore_error *err)
{
    const uint8_t *bytes = src;
    uint32_t size;

    memset(dst, 0, full);
    if (src == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, name, "A struct is missing");
    memcpy(&size, src, sizeof size);
    if (size < sizeof size || size > STRUCT_MAX || !may_end(size, full, starts, count))
        return cs_fail(err, CREDSTORE_E_INVALID, name,
                       "struct_size is not the size of such a struct");
    for (size_t i = full; i < size; i++)
        if (bytes[i] != 0)
            return cs_fail(err, CREDSTORE_E_UNSUPPORTED, name,
                           "The struct sets a member that this library does not know");
    memcpy(dst, src, size < full ? size : full);
    return CREDSTORE_OK;
}

void cs_struct_give(void *dst, const void *src, size_t full)
{
    uint32_t size;

    memcpy(&size, dst, sizeof size);
    if (size > full)
        size = (uint32_t)full;
    memcpy((uint8_t *)dst + sizeof size, (const uint8_t *)src + sizeof size, size - sizeof size);
}
