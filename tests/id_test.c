/* SPDX-License-Identifier: MIT
 *
 * KSUID, UUID and nanoid against their own documents' examples.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "id.h"

static uint64_t seed;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill_random(uint64_t *state, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(next_random(state) >> 56);
}

static void from_hex(const char *hex, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned byte = 0;

        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (uint8_t)byte;
    }
}

/* On the heap without a NUL, so that a read past the end is seen. */
static char *exact_copy(const char *text, size_t len)
{
    char *copy = malloc(len == 0 ? 1 : len);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static bool ksuid_valid(const char *text)
{
    char *copy = exact_copy(text, strlen(text));
    const bool valid = cs_ksuid_valid(copy, strlen(text));

    free(copy);
    return valid;
}

static bool uuid_valid(const char *text)
{
    char *copy = exact_copy(text, strlen(text));
    const bool valid = cs_uuid_valid(copy, strlen(text));

    free(copy);
    return valid;
}

/* The README of github.com/segmentio/ksuid, its bounds, and the checkbook document's id. */
static const struct ksuid_vector {
    const char *text, *raw;
    int64_t unix_s;
} ksuids[] = {
    {"0ujtsYcgvSTl8PAuAdqWYSMnLOv", "0669F7EFB5A1CD34B5F99D1154FB6853345C9735", 1507608047},
    {"0ujzPyRiIAffKhBux4PvQdDqMHY", "066A029C73FC1AA3B2446246D6E89FCD909E8FE8", 1507610780},
    {"0uk1Hbc9dQ9pxyTqJ93IUrfhdGq", "066A06349850EEEC191BF4FF26F99315CE43B0C8", 1507611700},
    {"0uk1HdCJ6hUZKDgcxhpJwUl5ZEI", "066A0634CC55072555316F45B8CA2D2979D3ED0A", 1507611700},
    {"0uk1HcdvF0p8C20KtTfdRSB9XIm", "066A0634BA1C205D6177F0992D15EE606AE32238", 1507611700},
    {"0uk1Ha7hGJ1Q9Xbnkt0yZgNwg3g", "066A063467517BA309EA62AE7991B27BB6F2FCAC", 1507611700},
    {"1NFHrqBHb3cTfLVkFSGmHZqdDPi", "09A2E3EE00C8BF8F01D9B932DF3FA1C4267F2856", 1561670126},
    {"000000000000000000000000000", "0000000000000000000000000000000000000000", 1400000000},
    {"aWgEPTl1tmebfsQzFP4bxwgy80V", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 5694967295},
};

static void ksuid_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ksuids / sizeof *ksuids; i++) {
        uint8_t want[20], raw[20];
        char text[CS_KSUID_LEN + 1];

        from_hex(ksuids[i].raw, want, sizeof want);
        assert_true(ksuid_valid(ksuids[i].text));
        assert_true(cs_ksuid_decode(ksuids[i].text, CS_KSUID_LEN, raw));
        assert_memory_equal(raw, want, sizeof want);
        cs_ksuid_encode(want, text);
        assert_string_equal(text, ksuids[i].text);
        cs_ksuid_make(ksuids[i].unix_s * 1000 + 999, want + 4, text);
        assert_string_equal(text, ksuids[i].text);
    }
}

static void ksuid_refusals(void **state)
{
    static const char *const bad[] = {
        "",
        "0ujtsYcgvSTl8PAuAdqWYSMnLO",   /* 26 */
        "0ujtsYcgvSTl8PAuAdqWYSMnLOv0", /* 28 */
        "00ujtsYcgvSTl8PAuAdqWYSMnLOv", /* 28, of a value that fits */
        "aWgEPTl1tmebfsQzFP4bxwgy80W",  /* one above the largest */
        "aWgEPTl1tmebfsQzFP4bxwgy8zz",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "b00000000000000000000000000",
        "0ujtsYcgvSTl8PAuAdqWYSMnLO-",
        "0ujtsYcgvSTl8PAuAdqWYSMnLO_",
        "0ujtsYcgvSTl8PAuAdqWYSMnLO ",
        " ujtsYcgvSTl8PAuAdqWYSMnLOv",
        "0ujtsYcgvSTl8+AuAdqWYSMnLOv",
        "0ujtsYcgvSTl8\xc3\xa4uAdqWYSMnLOv",
    };
    char text[CS_KSUID_LEN];
    uint8_t raw[20];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(ksuid_valid(bad[i]));
        assert_false(cs_ksuid_decode(bad[i], strlen(bad[i]), raw));
    }
    memcpy(text, ksuids[0].text, sizeof text);
    text[5] = '\0';
    assert_false(cs_ksuid_valid(text, sizeof text));
    assert_false(cs_ksuid_valid(NULL, 0));
}

static void ksuid_clamps_time(void **state)
{
    static const struct {
        int64_t unix_ms;
        uint8_t seconds[4];
    } cases[] = {
        {INT64_MIN, {0, 0, 0, 0}},
        {-1, {0, 0, 0, 0}},
        {0, {0, 0, 0, 0}},
        {1399999999999, {0, 0, 0, 0}},
        {1400000000999, {0, 0, 0, 0}},
        {1400000001000, {0, 0, 0, 1}},
        {5694967294999, {0xff, 0xff, 0xff, 0xfe}},
        {5694967295000, {0xff, 0xff, 0xff, 0xff}},
        {5694967296000, {0xff, 0xff, 0xff, 0xff}},
        {INT64_MAX, {0xff, 0xff, 0xff, 0xff}},
    };
    uint8_t random[CS_KSUID_RANDOM] = {1, 2, 3, [15] = 16}, raw[20];
    char text[CS_KSUID_LEN + 1];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cs_ksuid_make(cases[i].unix_ms, random, text);
        assert_true(cs_ksuid_decode(text, strlen(text), raw));
        assert_memory_equal(raw, cases[i].seconds, 4);
        assert_memory_equal(raw + 4, random, sizeof random);
    }
}

static void ksuid_round_trip_keeps_order(void **state)
{
    uint64_t rng = seed;
    uint8_t last[20] = {0};
    char last_text[CS_KSUID_LEN + 1];

    (void)state;
    cs_ksuid_encode(last, last_text);
    for (int i = 0; i < 5000; i++) {
        uint8_t raw[20], back[20];
        char text[CS_KSUID_LEN + 1];
        int order, text_order;

        fill_random(&rng, raw, sizeof raw);
        cs_ksuid_encode(raw, text);
        assert_true(ksuid_valid(text));
        assert_true(cs_ksuid_decode(text, CS_KSUID_LEN, back));
        assert_memory_equal(back, raw, sizeof raw);
        order = memcmp(raw, last, sizeof raw);
        text_order = strcmp(text, last_text);
        assert_true(order == 0 ? text_order == 0 : (order < 0) == (text_order < 0));
        memcpy(last, raw, sizeof raw);
        memcpy(last_text, text, sizeof text);
    }
}

/* RFC 9562 appendix A and B (versions 1, 3, 4, 5, 6, 7, 8), sections 5.9 and 5.10 (nil, max). */
static void uuid_vectors(void **state)
{
    static const char *const good[] = {
        "C232AB00-9414-11EC-B3C8-9F6BDECED846", "5df41881-3aed-3515-88a7-2f4a814cf09e",
        "919108f7-52d1-4320-9bac-f847db4148a8", "2ed6657d-e927-568b-95e1-2665a8aea6a2",
        "1EC9414C-232A-6B00-B3C8-9F6BDECED846", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "2489E9AD-2EE2-8E00-8EC9-32D5F69181C0", "5c146b14-3c52-8afd-938a-375d0df1fbf6",
        "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    };
    static const char *const bad[] = {
        "",
        "919108f7-52d1-4320-9bac-f847db4148a",
        "919108f7-52d1-4320-9bac-f847db4148a8a",
        "{919108f7-52d1-4320-9bac-f847db4148a}",
        "919108f752d143209bacf847db4148a8",
        "919108f7052d1-4320-9bac-f847db4148a8",
        "919108f7-52d1-4320-9bac0f847db4148a8",
        "919108f-752d1-4320-9bac-f847db4148a8",
        "919108f7-52d1-4320-9bac-f847db4148g8",
        "919108f7-52d1-4320-9bac-f847db4148G8",
        "919108f7-52d1-4320-9bac-f847db4148 8",
        "-19108f7-52d1-4320-9bac-f847db4148a8",
        "919108f7-52d1-4320-9bac-f847db4148\xc3\xa4",
        "urn:uuid:919108f7-52d1-4320-9bac-f847db4148a8",
    };
    char nul[CS_UUID_LEN];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(uuid_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(uuid_valid(bad[i]));
    memcpy(nul, good[0], sizeof nul);
    nul[35] = '\0';
    assert_false(cs_uuid_valid(nul, sizeof nul));
    nul[35] = '6';
    nul[8] = '\0';
    assert_false(cs_uuid_valid(nul, sizeof nul));
}

static void uuid_folds_case(void **state)
{
    char *copy = exact_copy("0123456F-89AB-CDEF-abcd-EFabcdef0A9F", CS_UUID_LEN);
    char out[CS_UUID_LEN + 1];

    (void)state;
    cs_uuid_fold(copy, out);
    free(copy);
    assert_string_equal(out, "0123456f-89ab-cdef-abcd-efabcdef0a9f");
}

static void uuid_version_4(void **state)
{
    uint8_t random[CS_UUID_RANDOM];
    uint64_t rng = seed;
    char out[CS_UUID_LEN + 1];

    (void)state;
    /* RFC 9562 appendix A.3: the random bits and the UUID that they make. */
    from_hex("919108f752d133205bacf847db4148a8", random, sizeof random);
    cs_uuid_make(random, out);
    assert_string_equal(out, "919108f7-52d1-4320-9bac-f847db4148a8");
    memset(random, 0xff, sizeof random);
    cs_uuid_make(random, out);
    assert_string_equal(out, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    memset(random, 0, sizeof random);
    cs_uuid_make(random, out);
    assert_string_equal(out, "00000000-0000-4000-8000-000000000000");
    for (int i = 0; i < 1000; i++) {
        fill_random(&rng, random, sizeof random);
        cs_uuid_make(random, out);
        assert_true(uuid_valid(out));
        assert_int_equal(out[14], '4');
        assert_non_null(strchr("89ab", out[19]));
    }
}

static void nanoid_alphabets(void **state)
{
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

    (void)state;
    assert_string_equal(cs_nanoid_url,
                        "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict");
    assert_int_equal(strlen(safe), 64);
    for (size_t i = 0; i < 64; i++)
        assert_ptr_equal(strchr(cs_nanoid_url, safe[i]), strrchr(cs_nanoid_url, safe[i]));
    for (size_t i = 0; i < 64; i++)
        assert_non_null(strchr(cs_nanoid_url, safe[i]));
    assert_string_equal(cs_nanoid_resource, "0123456789abcdefghijklmnopqrstuvwxyz");
}

/* Each byte value once: every character comes out equally often, the rest is dropped. */
static void check_uniform(const char *alphabet, size_t alphabet_len)
{
    size_t counts[256] = {0}, made = 0;

    for (unsigned byte = 0; byte < 256; byte++) {
        const uint8_t random[1] = {(uint8_t)byte};
        char out[2] = {'?', '?'};

        if (cs_nanoid_make(alphabet, alphabet_len, random, 1, out, 1)) {
            assert_int_equal(out[1], '\0');
            counts[(unsigned char)out[0]]++;
            made++;
        } else {
            assert_int_equal(out[0], '\0');
        }
    }
    assert_int_equal(made, 256 / alphabet_len * alphabet_len);
    for (size_t i = 0; i < alphabet_len; i++)
        assert_int_equal(counts[(unsigned char)alphabet[i]], 256 / alphabet_len);
}

static void nanoid_is_uniform(void **state)
{
    char bytes[256];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)i;
    for (size_t len = 1; len <= sizeof bytes; len++)
        check_uniform(bytes, len);
    check_uniform(cs_nanoid_url, 64);
    check_uniform(cs_nanoid_resource, 36);
}

/* The reference takes alphabet[byte & 63]. */
static void nanoid_of_64_takes_each_byte(void **state)
{
    uint8_t random[CS_NANOID_RANDOM];
    uint64_t rng = seed;
    char out[CS_NANOID_RANDOM + 1];

    (void)state;
    fill_random(&rng, random, sizeof random);
    assert_true(cs_nanoid_make(cs_nanoid_url, 64, random, sizeof random, out, sizeof random));
    for (size_t i = 0; i < sizeof random; i++)
        assert_int_equal(out[i], cs_nanoid_url[random[i] & 63]);
    assert_int_equal(out[sizeof random], '\0');
}

static void nanoid_runs_out(void **state)
{
    uint8_t random[CS_NANOID_RANDOM];
    char out[CS_RESOURCE_ID_LEN + 2];

    (void)state;
    /* 252..255 are above 7 * 36: with 38 of them 26 bytes are left, with 39 one too few. */
    memset(random, 0, sizeof random);
    memset(random, 252, 38);
    memset(out, '#', sizeof out);
    assert_true(cs_nanoid_make(cs_nanoid_resource, 36, random, sizeof random, out, 26));
    assert_string_equal(out, "00000000000000000000000000");
    assert_int_equal(out[27], '#');
    random[38] = 255;
    memset(out, '#', sizeof out);
    assert_false(cs_nanoid_make(cs_nanoid_resource, 36, random, sizeof random, out, 26));
    for (size_t i = 0; i < 25; i++)
        assert_int_equal(out[i], '\0');
    assert_int_equal(out[26], '#');
    assert_false(cs_nanoid_make(cs_nanoid_resource, 36, random, 0, out, 1));
    assert_true(cs_nanoid_make(cs_nanoid_resource, 36, random, 0, out, 0));
    assert_false(cs_nanoid_make(cs_nanoid_resource, 0, random, sizeof random, out, 1));
    assert_false(cs_nanoid_make(cs_nanoid_resource, 257, random, sizeof random, out, 1));
}

static void nanoid_suffices_in_practice(void **state)
{
    uint64_t rng = seed;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        uint8_t random[CS_NANOID_RANDOM];
        char out[CS_RESOURCE_ID_LEN + 1];

        fill_random(&rng, random, sizeof random);
        assert_true(
            cs_nanoid_make(cs_nanoid_resource, 36, random, sizeof random, out, CS_RESOURCE_ID_LEN));
        assert_int_equal(strspn(out, cs_nanoid_resource), CS_RESOURCE_ID_LEN);
        assert_int_equal(strlen(out), CS_RESOURCE_ID_LEN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ksuid_vectors),     cmocka_unit_test(ksuid_refusals),
        cmocka_unit_test(ksuid_clamps_time), cmocka_unit_test(ksuid_round_trip_keeps_order),
        cmocka_unit_test(uuid_vectors),      cmocka_unit_test(uuid_folds_case),
        cmocka_unit_test(uuid_version_4),    cmocka_unit_test(nanoid_alphabets),
        cmocka_unit_test(nanoid_is_uniform), cmocka_unit_test(nanoid_of_64_takes_each_byte),
        cmocka_unit_test(nanoid_runs_out),   cmocka_unit_test(nanoid_suffices_in_practice),
    };
    const char *given = getenv("CREDSTORE_SEED");

    seed = given == NULL ? 0x6b737569642d3237u : strtoull(given, NULL, 0);
    printf("CREDSTORE_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
