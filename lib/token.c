/* SPDX-License-Identifier: MIT
 *
 * Issued tokens.
 */
#include "token.h"

#include <string.h>

/* The character of a digit 0..61: 0-9 A-Z a-z. */
static char character(uint32_t digit)
{
    const uint32_t upper = (9u - digit) >> 31, lower = (35u - digit) >> 31;

    return (char)('0' + digit + 7u * upper + 6u * lower);
}

bool cs_token_prefix_valid(const char *ptr, size_t len)
{
    if (len < 1 || len > CS_TOKEN_PREFIX_MAX || ptr[0] == '_' || ptr[len - 1] == '_')
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = ptr[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return true;
}

/* What a CRC-32 register of one bit becomes 32 steps later: bit k in the low half of a word, bit
   k + 16 in the high half. */
static const uint64_t advanced[16] = {
    0x191b3141b8bc6765, 0x32366282aa09c88b, 0x646cc5048f629757, 0xc8d98a08c5b428ef,
    0x4ac212515019579f, 0x958424a2a032af3e, 0xf0794f059b14583d, 0x3b83984bed59b63b,
    0x7707309601c26a37, 0xee0e612c0384d46e, 0x076dc4190709a8dc, 0x0edb88320e1351b8,
    0x1db710641c26a370, 0x3b6e20c8384d46e0, 0x76dc4190709a8dc0, 0xedb88320e1351b80,
};

/* value's halves, each if the lowest bit of that half of bits is set. */
static uint64_t pick(uint64_t bits, uint64_t value)
{
    const uint64_t two = bits & UINT64_C(0x0000000100000001);

    return value & ((two << 32) - two);
}

static uint32_t advance(uint32_t crc)
{
    uint64_t bits = (uint64_t)(crc >> 16) << 32 | (crc & 0xffffu);
    uint64_t out = 0;

    for (size_t k = 0; k < 16; k += 4, bits >>= 4)
        out ^= pick(bits, advanced[k]) ^ pick(bits >> 1, advanced[k + 1]) ^
               pick(bits >> 2, advanced[k + 2]) ^ pick(bits >> 3, advanced[k + 3]);
    return (uint32_t)(out ^ out >> 32);
}

/* CRC-32 (ISO 3309, as zlib's), four bytes at a time. The usual tables would be indexed by the
   secret. */
static uint32_t crc32(const char *ptr, size_t len)
{
    uint32_t crc = 0xffffffffu;
    size_t i = 0;

    for (; len - i >= 4; i += 4) {
        for (unsigned j = 0; j < 4; j++)
            crc ^= (uint32_t)(uint8_t)ptr[i + j] << 8 * j;
        crc = advance(crc);
    }
    for (; i < len; i++) {
        crc ^= (uint8_t)ptr[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

/* Six base62 digits, the highest first. Division by a constant compiles to a multiplication. */
static void write_check(uint32_t crc, char out[CS_TOKEN_CHECK_LEN])
{
    for (size_t i = CS_TOKEN_CHECK_LEN; i-- > 0; crc /= 62u)
        out[i] = character(crc % 62u);
}

static uint32_t word(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* floor(62 * r / 2^64) of 64 random bits. */
static uint32_t draw_digit(const uint8_t *random)
{
    const uint64_t low = (uint64_t)word(random + 4) * 62u >> 32;

    return (uint32_t)(((uint64_t)word(random) * 62u + low) >> 32);
}

size_t cs_token_make(const char *prefix, const char ksuid[CS_KSUID_LEN],
                     const uint8_t random[CS_TOKEN_RANDOM], char out[CS_TOKEN_MAX + 1])
{
    const size_t prefix_len = strlen(prefix);
    size_t len = prefix_len + 1 + CS_KSUID_LEN;

    memcpy(out, prefix, prefix_len);
    out[prefix_len] = '_';
    memcpy(out + prefix_len + 1, ksuid, CS_KSUID_LEN);
    for (size_t i = 0; i < CS_TOKEN_SECRET_LEN; i++)
        out[len++] = character(draw_digit(random + 8 * i));
    write_check(crc32(out, len), out + len);
    len += CS_TOKEN_CHECK_LEN;
    out[len] = '\0';
    return len;
}

const char *cs_token_id(const char *ptr, size_t len)
{
    const char *id;

    if (len < CS_TOKEN_TAIL + 2 || len > CS_TOKEN_MAX)
        return NULL;
    id = ptr + len - CS_TOKEN_TAIL;
    if (id[-1] != '_' || !cs_token_prefix_valid(ptr, len - CS_TOKEN_TAIL - 1) ||
        !cs_ksuid_valid(id, CS_KSUID_LEN))
        return NULL;
    return id;
}
