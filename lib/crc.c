/* SPDX-License-Identifier: MIT
 *
 * CRC-32.
 */
#include "crc.h"

uint32_t cs_crc32(const void *ptr, size_t len)
{
    const uint8_t *p = ptr;
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}
