/* SPDX-License-Identifier: MIT
 *
 * What is let through to the JSON parser: I-JSON (RFC 7493) objects within our limits.
 */
#ifndef CS_JSON_STRICT_H
#define CS_JSON_STRICT_H

#include <stddef.h>

#include "credstore.h"

enum { CS_JSON_MAX = 65536, CS_JSON_DEPTH = 8, CS_JSON_MEMBERS = 64 };

/* Where the values of the top-level object's members start, in order. */
typedef struct cs_json_map {
    size_t count;
    size_t value_at[CS_JSON_MEMBERS];
} cs_json_map;

/* E_TOO_LARGE over 64 KiB. E_INVALID with the byte offset: not an object, depth over 8 (the outer
   object is depth 1), over 64 members in any object, duplicate names (compared after unescaping),
   NUL or \u0000, lone surrogates, noncharacters, invalid UTF-8, raw controls, byte order mark,
   trailing bytes, empty, numbers that are not I-JSON (grammar of RFC 8259; integers beyond
   2^53 - 1 on either side; magnitudes that overflow a double) or are longer than 63 characters.
   Nothing of it depends on the locale. Allocates nothing. On an error map->count is 0. */
credstore_status cs_json_strict(const char *ptr, size_t len, cs_json_map *map,
                                credstore_error *err);

#endif
