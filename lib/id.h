/* SPDX-License-Identifier: MIT
 *
 * Identifiers: KSUID, nanoid and UUID. All generators take their randomness from the caller.
 */
#ifndef CS_ID_H
#define CS_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CS_KSUID_LEN = 27, /* base62 of 4 bytes of seconds since 1400000000 and 16 random ones */
    CS_KSUID_RANDOM = 16,
    CS_UUID_LEN = 36,
    CS_UUID_RANDOM = 16,
    CS_CLIENT_ID_LEN = 21,   /* nanoid's default length, alphabet A-Za-z0-9_- */
    CS_RESOURCE_ID_LEN = 26, /* alphabet 0-9a-z */
    CS_NANOID_RANDOM = 64    /* bytes handed to the two nanoid makers */
};

/* KSUID (github.com/segmentio/ksuid). True if text is a KSUID: 27 of base62 (0-9A-Za-z), at most
   aWgEPTl1tmebfsQzFP4bxwgy80V, and encodes back to itself. */
bool cs_ksuid_valid(const char *ptr, size_t len);
/* Writes 27 characters and a NUL. A time before the epoch or above its 32 bits of seconds is
 * clamped. */
void cs_ksuid_make(int64_t unix_ms, const uint8_t random[CS_KSUID_RANDOM],
                   char out[CS_KSUID_LEN + 1]);
/* 20 bytes, big-endian, to and from text; decode is false for what is not valid. */
void cs_ksuid_encode(const uint8_t raw[20], char out[CS_KSUID_LEN + 1]);
bool cs_ksuid_decode(const char *ptr, size_t len, uint8_t raw[20]);

/* UUID (RFC 9562): 8-4-4-4-12 hex digits of either case, any version. */
bool cs_uuid_valid(const char *ptr, size_t len);
/* Copies a valid UUID in lower case, with a NUL. */
void cs_uuid_fold(const char *ptr, char out[CS_UUID_LEN + 1]);
/* Version 4, variant 10. */
void cs_uuid_make(const uint8_t random[CS_UUID_RANDOM], char out[CS_UUID_LEN + 1]);

/* len characters of the alphabet (1..256 of them) and a NUL, drawn uniformly by rejection (nanoid,
   github.com/ai/nanoid): a byte is taken modulo alphabet_len if it is below the largest multiple of
   alphabet_len in 256, else dropped. False, and out is "", when the random bytes ran out, which the
   caller answers with fresh ones. With CS_NANOID_RANDOM bytes: for 26 of 36 characters it takes 39
   dropped bytes of 64 at 4/256 each, rarer than 2^-176; for 43 of 62 (a secret) 22 at 8/256 each,
   2^-55; for an alphabet of 64 nothing is dropped. */
bool cs_nanoid_make(const char *alphabet, size_t alphabet_len, const uint8_t *random,
                    size_t random_len, char *out, size_t len);
extern const char cs_nanoid_url[65];      /* A-Za-z0-9_- in nanoid's order */
extern const char cs_nanoid_resource[37]; /* 0-9a-z */

#endif
