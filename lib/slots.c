/* SPDX-License-Identifier: MIT
 *
 * The initialiser macros of a patch's slots, for languages without the preprocessor.
 */
#include "credstore.h"

void credstore_text_init(credstore_text *slot, uint32_t op, const char *ptr, size_t len)
{
    if (slot != NULL)
        *slot = (credstore_text){.ptr = ptr, .len = len, .op = op};
}

void credstore_secret_text_init(credstore_secret_text *slot, uint32_t op, const char *ptr,
                                size_t len)
{
    if (slot != NULL)
        *slot = (credstore_secret_text){.ptr = ptr, .len = len, .op = op};
}

void credstore_flag_init(credstore_flag *slot, uint32_t op, uint32_t value)
{
    if (slot != NULL)
        *slot = (credstore_flag){.op = op, .value = value};
}

void credstore_time_init(credstore_time *slot, uint32_t op, int64_t unix_ms)
{
    if (slot != NULL)
        *slot = (credstore_time){.unix_ms = unix_ms, .op = op};
}

void credstore_strings_init(credstore_strings *slot, uint32_t op, const char *const *items,
                            size_t count)
{
    if (slot != NULL)
        *slot = (credstore_strings){.items = items, .count = count, .op = op};
}
