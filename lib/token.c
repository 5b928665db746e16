/* SPDX-License-Identifier: MIT
 *
 * Issued tokens.
 */
#include "token.h"

#include <string.h>

#include "crc.h"

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
    write_check(cs_crc32(out, len), out + len);
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
