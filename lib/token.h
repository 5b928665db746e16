/* SPDX-License-Identifier: MIT
 *
 * Issued tokens: <prefix>_<KSUID><43 base62><6 base62 of CRC-32>, the layout that secret scanners
 * know from GitHub (github.blog, "Behind GitHub's new authentication token formats"). The 43
 * characters are the secret; the checksum lets a scanner tell a token from a look-alike. We do not
 * look at it: the digest decides.
 *
 * Nothing here branches or indexes by the secret characters.
 */
#ifndef CS_TOKEN_H
#define CS_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "id.h"

enum {
    CS_TOKEN_PREFIX_MAX = 32,
    CS_TOKEN_SECRET_LEN = 43, /* 256 bits */
    CS_TOKEN_CHECK_LEN = 6,
    CS_TOKEN_TAIL = CS_KSUID_LEN + CS_TOKEN_SECRET_LEN + CS_TOKEN_CHECK_LEN,
    CS_TOKEN_MAX = CS_TOKEN_PREFIX_MAX + 1 + CS_TOKEN_TAIL,
    CS_TOKEN_RANDOM = 8 * CS_TOKEN_SECRET_LEN
};

/* 1..32 of [a-z0-9_], neither first nor last an underscore. */
bool cs_token_prefix_valid(const char *ptr, size_t len);

/* Writes a token and a NUL; returns its length. Each character is drawn from 64 bits: uniform to
 * within 2^-58. */
size_t cs_token_make(const char *prefix, const char ksuid[CS_KSUID_LEN],
                     const uint8_t random[CS_TOKEN_RANDOM], char out[CS_TOKEN_MAX + 1]);

/* The KSUID of a token, or NULL if it is none of ours by its public layout: length, prefix, KSUID.
   The secret characters and the checksum are not looked at. */
const char *cs_token_id(const char *ptr, size_t len);

#endif
