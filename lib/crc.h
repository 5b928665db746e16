/* SPDX-License-Identifier: MIT
 *
 * CRC-32 (ISO 3309, as zlib's): tells what was cut short or mistyped, not what was forged.
 */
#ifndef CS_CRC_H
#define CS_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Bit by bit: the usual tables would be indexed by what may be a secret. */
uint32_t cs_crc32(const void *ptr, size_t len);

#endif
