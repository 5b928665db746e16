/* SPDX-License-Identifier: MIT
 *
 * Identifiers: KSUID, nanoid and UUID.
 */
#include "id.h"

#include <string.h>

#include "mem.h"

const char cs_nanoid_url[65] = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict";
const char cs_nanoid_resource[37] = "0123456789abcdefghijklmnopqrstuvwxyz";

/* In the order of ASCII, so that the texts sort as the bytes do. */
static const char base62[63] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char hex_lower[17] = "0123456789abcdef";

enum { KSUID_LIMBS = 5 }; /* 160 bits, the highest 32 first */

static const int64_t ksuid_epoch_s = 1400000000;

void cs_ksuid_encode(const uint8_t raw[20], char out[CS_KSUID_LEN + 1])
{
    uint32_t limbs[KSUID_LIMBS];

    for (size_t i = 0; i < KSUID_LIMBS; i++)
        limbs[i] = cs_get_u32(raw + 4 * i);
    for (size_t at = CS_KSUID_LEN; at-- > 0;) {
        uint64_t rest = 0;

        for (size_t i = 0; i < KSUID_LIMBS; i++) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 62);
            rest %= 62;
        }
        out[at] = base62[rest];
    }
    out[CS_KSUID_LEN] = '\0';
}

/* limbs = limbs * 62 + digit; false if that is more than 160 bits. */
static bool push_digit(uint32_t limbs[KSUID_LIMBS], size_t digit)
{
    uint64_t carry = digit;

    for (size_t i = KSUID_LIMBS; i-- > 0;) {
        carry += (uint64_t)limbs[i] * 62;
        limbs[i] = (uint32_t)(carry & UINT32_MAX);
        carry >>= 32;
    }
    return carry == 0;
}

bool cs_ksuid_decode(const char *ptr, size_t len, uint8_t raw[20])
{
    uint32_t limbs[KSUID_LIMBS] = {0};

    if (len != CS_KSUID_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char *digit = memchr(base62, ptr[i], 62);

        if (digit == NULL || !push_digit(limbs, (size_t)(digit - base62)))
            return false;
    }
    for (size_t i = 0; i < KSUID_LIMBS; i++)
        cs_put_u32(raw + 4 * i, limbs[i]);
    return true;
}

static bool is_base62(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Without decoding, for the hot paths: the texts sort as their values, and this is the last. */
bool cs_ksuid_valid(const char *ptr, size_t len)
{
    static const char last[CS_KSUID_LEN + 1] = "aWgEPTl1tmebfsQzFP4bxwgy80V";

    if (len != CS_KSUID_LEN)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_base62(ptr[i]))
            return false;
    return memcmp(ptr, last, len) <= 0;
}

void cs_ksuid_make(int64_t unix_ms, const uint8_t random[CS_KSUID_RANDOM],
                   char out[CS_KSUID_LEN + 1])
{
    uint8_t raw[20];
    int64_t seconds = unix_ms / 1000;

    if (seconds < ksuid_epoch_s)
        seconds = ksuid_epoch_s;
    if (seconds > ksuid_epoch_s + UINT32_MAX)
        seconds = ksuid_epoch_s + UINT32_MAX;
    cs_put_u32(raw, (uint32_t)(seconds - ksuid_epoch_s));
    memcpy(raw + 4, random, CS_KSUID_RANDOM);
    cs_ksuid_encode(raw, out);
}

static bool is_dash_of_uuid(size_t at)
{
    return at == 8 || at == 13 || at == 18 || at == 23;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool cs_uuid_valid(const char *ptr, size_t len)
{
    if (len != CS_UUID_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (is_dash_of_uuid(i) ? ptr[i] != '-' : !is_hex(ptr[i]))
            return false;
    }
    return true;
}

void cs_uuid_fold(const char *ptr, char out[CS_UUID_LEN + 1])
{
    for (size_t i = 0; i < CS_UUID_LEN; i++)
        out[i] = ptr[i] >= 'A' && ptr[i] <= 'F' ? (char)(ptr[i] - 'A' + 'a') : ptr[i];
    out[CS_UUID_LEN] = '\0';
}

void cs_uuid_make(const uint8_t random[CS_UUID_RANDOM], char out[CS_UUID_LEN + 1])
{
    uint8_t raw[CS_UUID_RANDOM];
    size_t at = 0;

    memcpy(raw, random, sizeof raw);
    raw[6] = (uint8_t)(0x40 | (raw[6] & 0x0f));
    raw[8] = (uint8_t)(0x80 | (raw[8] & 0x3f));
    for (size_t i = 0; i < sizeof raw; i++) {
        if (is_dash_of_uuid(at))
            out[at++] = '-';
        out[at++] = hex_lower[raw[i] >> 4];
        out[at++] = hex_lower[raw[i] & 0x0f];
    }
    out[at] = '\0';
}

bool cs_nanoid_make(const char *alphabet, size_t alphabet_len, const uint8_t *random,
                    size_t random_len, char *out, size_t len)
{
    size_t limit, made = 0;

    out[0] = '\0';
    if (alphabet_len == 0 || alphabet_len > 256)
        return false;
    limit = 256 - 256 % alphabet_len; /* bytes from here on would favour the first characters */
    for (size_t i = 0; i < random_len && made < len; i++) {
        if (random[i] < limit)
            out[made++] = alphabet[random[i] % alphabet_len];
    }
    if (made < len) {
        cs_wipe(out, made); /* it may have become a secret */
        out[0] = '\0';
        return false;
    }
    out[len] = '\0';
    return true;
}
