/* SPDX-License-Identifier: MIT
 *
 * Issued tokens: their layout, a checksum held against an independent CRC-32, every edit refused,
 * prefixes, the bounds of the id inside, and that their characters are drawn uniformly.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "token.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const char ksuid[] = "0ujtsYcgvSTl8PAuAdqWYSMnLOv";

/* CRC-32 by polynomial long division of the bits, each byte's lowest first, as ISO 3309 has it; the
   library folds bytes into a shifted register instead. */
static uint32_t divided(const char *text, size_t len)
{
    uint32_t rest = 0, out = 0;

    for (size_t bit = 0; bit < 8 * len + 32; bit++) {
        uint32_t in = bit < 8 * len ? (uint32_t)(uint8_t)text[bit / 8] >> bit % 8 & 1 : 0;
        const uint32_t top = rest >> 31;

        in ^= bit < 32; /* the register starts with ones */
        rest = rest << 1 | in;
        if (top != 0)
            rest ^= 0x04c11db7u;
    }
    for (int bit = 0; bit < 32; bit++)
        out |= (~rest >> bit & 1) << (31 - bit);
    return out;
}

static void checksum(const char *text, size_t len, char out[7])
{
    uint32_t crc = divided(text, len);

    out[6] = '\0';
    for (size_t i = 6; i-- > 0; crc /= 62)
        out[i] = base62[crc % 62];
}

static void the_checks_of_the_catalogue(void **state)
{
    (void)state;
    /* The check value of CRC-32/ISO-HDLC, and what gzip says. */
    assert_int_equal(divided("123456789", 9), 0xcbf43926u);
    assert_int_equal(divided("", 0), 0);
    assert_int_equal(divided("a", 1), 0xe8b7be43u);
    assert_int_equal(divided("The quick brown fox jumps over the lazy dog", 43), 0x414fa339u);
}

static size_t make(const char *prefix, uint64_t *chance, char out[CS_TOKEN_MAX + 1])
{
    uint8_t random[CS_TOKEN_RANDOM];

    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (uint8_t)test_random(chance);
    return cs_token_make(prefix, ksuid, random, out);
}

static void layout(void **state)
{
    static const char *const prefixes[] = {"k", "key", "sk_live",
                                           "abcdefghijklmnopqrstuvwxyz012345"};
    uint64_t chance = test_seed("token_test");

    (void)state;
    for (unsigned n = 0; n < 400; n++) {
        const char *prefix = prefixes[n % COUNT(prefixes)];
        const size_t head = strlen(prefix) + 1;
        char token[CS_TOKEN_MAX + 1], sum[7];
        const size_t len = make(prefix, &chance, token);

        assert_int_equal(len, head + 27 + 43 + 6);
        assert_int_equal(strlen(token), len);
        assert_int_equal(strncmp(token, prefix, head - 1), 0);
        assert_int_equal(token[head - 1], '_');
        assert_memory_equal(token + head, ksuid, 27);
        assert_int_equal(strspn(token + head, base62), 27 + 43 + 6);
        checksum(token, len - 6, sum);
        assert_string_equal(token + len - 6, sum);
        assert_ptr_equal(cs_token_id(token, len), token + head);
    }
}

/* 64 bits a character, the most significant byte first: floor(62 * r / 2^64). */
static void characters_of_known_bits(void **state)
{
    static const struct {
        uint64_t bits;
        char c;
    } rows[] = {{0, '0'},
                {UINT64_MAX, 'z'},
                {UINT64_MAX / 62, '0'},
                {UINT64_MAX / 62 + 1, '1'},
                {UINT64_C(1) << 63, 'V'},
                {(UINT64_C(1) << 63) - 1, 'U'},
                {UINT64_MAX / 62 * 10 + 10, 'A'},
                {UINT64_MAX / 62 * 36 + 36, 'a'}};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t random[CS_TOKEN_RANDOM];
        char token[CS_TOKEN_MAX + 1];

        for (size_t n = 0; n < sizeof random; n++)
            random[n] = (uint8_t)(rows[i].bits >> (56 - 8 * (n % 8)));
        cs_token_make("k", ksuid, random, token);
        for (size_t n = 0; n < CS_TOKEN_SECRET_LEN; n++)
            assert_int_equal(token[2 + CS_KSUID_LEN + n], rows[i].c);
    }
}

/* Chi-squared over 62 characters at each place: 61 degrees of freedom; beyond 150 is 10^-8. */
static void uniform(void **state)
{
    enum { TOKENS = 31000 };
    static uint32_t seen[CS_TOKEN_SECRET_LEN][62];
    uint64_t chance = test_seed("token_test");
    const double expected = (double)TOKENS / 62;

    (void)state;
    memset(seen, 0, sizeof seen);
    for (int n = 0; n < TOKENS; n++) {
        uint8_t random[CS_TOKEN_RANDOM];
        char token[CS_TOKEN_MAX + 1];

        for (size_t i = 0; i < sizeof random; i += 8) {
            const uint64_t r = test_random(&chance);

            memcpy(random + i, &r, sizeof r);
        }
        cs_token_make("k", ksuid, random, token);
        for (size_t i = 0; i < CS_TOKEN_SECRET_LEN; i++)
            seen[i][strchr(base62, token[2 + CS_KSUID_LEN + i]) - base62]++;
    }
    for (size_t i = 0; i < CS_TOKEN_SECRET_LEN; i++) {
        double sum = 0;

        for (size_t c = 0; c < 62; c++)
            sum += ((double)seen[i][c] - expected) * ((double)seen[i][c] - expected) / expected;
        if (sum > 150)
            print_error("place %zu: %f\n", i, sum);
        assert_true(sum <= 150);
    }
}

/* ---- what is no token ---- */

/* Prefix and KSUID; the secret and the checksum are for the digest to judge. */
static void every_edit_of_the_layout_is_seen(void **state)
{
    uint64_t chance = test_seed("token_test");
    char token[CS_TOKEN_MAX + 2];
    const size_t len = make("live_1", &chance, token), head = sizeof "live_1";

    (void)state;
    for (size_t i = 0; i < len; i++) {
        const char was = token[i];

        for (int c = 0; c < 256; c++) {
            const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
            bool fits = i >= head + CS_KSUID_LEN; /* never looked at */

            token[i] = (char)c;
            if (i < head - 1)
                fits = digit || (c == '_' && i != 0 && i != head - 2);
            else if (i == head - 1)
                fits = c == '_';
            else if (!fits)
                fits = cs_ksuid_valid(token + head, CS_KSUID_LEN);
            assert_ptr_equal(cs_token_id(token, len), fits ? token + head : NULL);
        }
        token[i] = was;
    }
}

static void lengths(void **state)
{
    uint64_t chance = test_seed("token_test");
    char token[2 * CS_TOKEN_MAX];
    const size_t len = make("key", &chance, token);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        assert_null(cs_token_id(token, cut));
        assert_int_equal(cs_token_id(token + len - cut, cut) != NULL, cut + 3 > len); /* ey_, y_ */
    }
    memset(token + len, '0', sizeof token - len);
    for (size_t more = len + 1; more < sizeof token; more++)
        assert_null(cs_token_id(token, more));
    assert_null(cs_token_id(token, SIZE_MAX));
    assert_non_null(cs_token_id(token, len));
}

/* A token of that layout. */
static bool taken(const char *prefix, const char id[CS_KSUID_LEN])
{
    char token[CS_TOKEN_MAX + 64], sum[7];
    size_t len;

    len = (size_t)snprintf(token, sizeof token, "%s_%.27s%.43s", prefix, id,
                           "0123456789012345678901234567890123456789012");
    checksum(token, len, sum);
    memcpy(token + len, sum, 7);
    return cs_token_id(token, len + 6) != NULL;
}

static void prefixes(void **state)
{
    static const struct {
        const char *prefix;
        bool valid;
    } rows[] = {{"k", true},
                {"0", true},
                {"sk_live", true},
                {"a__b", true},
                {"abcdefghijklmnopqrstuvwxyz012345", true},
                {"abcdefghijklmnopqrstuvwxyz0123456", false},
                {"", false},
                {"_", false},
                {"_a", false},
                {"a_", false},
                {"Key", false},
                {"keY", false},
                {"a-b", false},
                {"a.b", false},
                {"a b", false},
                {"`", false},
                {"{", false},
                {"/", false},
                {":", false},
                {"\xc3\xa9", false}};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const size_t len = strlen(rows[i].prefix);

        assert_int_equal(cs_token_prefix_valid(rows[i].prefix, len), rows[i].valid);
        assert_int_equal(taken(rows[i].prefix, ksuid), rows[i].valid);
    }
    assert_false(cs_token_prefix_valid("a\0b", 3));
}

static void ids_inside(void **state)
{
    static const struct {
        const char *id;
        bool valid;
    } rows[] = {{"000000000000000000000000000", true},  {"aWgEPTl1tmebfsQzFP4bxwgy80V", true},
                {"aWgEPTl1tmebfsQzFP4bxwgy80W", false}, {"aWgEPTl1tmebfsQzFP4bxwgy810", false},
                {"aWgEPTl1tmebfsQzFP4bxwgy90V", false}, {"b00000000000000000000000000", false},
                {"zzzzzzzzzzzzzzzzzzzzzzzzzzz", false}, {"00000000000000000000000000_", false},
                {"-00000000000000000000000000", false}};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(taken("key", rows[i].id), rows[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checks_of_the_catalogue),
        cmocka_unit_test(layout),
        cmocka_unit_test(characters_of_known_bits),
        cmocka_unit_test(uniform),
        cmocka_unit_test(every_edit_of_the_layout_is_seen),
        cmocka_unit_test(lengths),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(ids_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
