/* SPDX-License-Identifier: MIT
 *
 * UTF-8 against RFC 3629's examples, the malformed forms of the well-known stress test and a
 * decoder of another make; the alphabets byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "text.h"

#define UNTOUCHED ((size_t)-77)
#define BYTES(s)  (s), sizeof(s) - 1

static uint64_t seed;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* On the heap without a NUL, so that a read past the end is seen. */
static char *exact_copy(const char *text, size_t len)
{
    char *copy = malloc(len == 0 ? 1 : len);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static bool utf8(const char *text, size_t len, size_t *chars, size_t *bad)
{
    char *copy = exact_copy(text, len);
    bool good;

    *chars = *bad = UNTOUCHED;
    good = cs_utf8(copy, len, chars, bad);
    assert_int_equal(cs_utf8(copy, len, NULL, NULL), good);
    free(copy);
    return good;
}

static void utf8_well_formed(void **state)
{
    static const struct {
        const char *text;
        size_t len, chars;
    } cases[] = {
        {BYTES(""), 0},
        {BYTES("plain"), 5},
        {BYTES("a\0b"), 3},
        /* RFC 3629 section 7 */
        {BYTES("\x41\xe2\x89\xa2\xce\x91\x2e"), 4},
        {BYTES("\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4"), 3},
        {BYTES("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"), 3},
        {BYTES("\xef\xbb\xbf\xf0\xa3\x8e\xb4"), 2},
        /* first and last of each length; noncharacters are characters */
        {BYTES("\x01\x7f\xc2\x80\xdf\xbf"), 4},
        {BYTES("\xe0\xa0\x80\xef\xbf\xbf\xef\xbf\xbe\xef\xb7\x90"), 4},
        {BYTES("\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd"), 3},
        {BYTES("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), 2},
        {BYTES("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), 5},
    };
    size_t chars, bad;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(utf8(cases[i].text, cases[i].len, &chars, &bad));
        assert_int_equal(chars, cases[i].chars);
        assert_int_equal(bad, UNTOUCHED);
    }
    assert_true(cs_utf8(NULL, 0, &chars, NULL));
    assert_int_equal(chars, 0);
}

static void utf8_malformed(void **state)
{
    static const struct {
        const char *text;
        size_t len, bad;
    } cases[] = {
        /* lone continuation bytes */
        {BYTES("\x80"), 0},
        {BYTES("ok\xbf"), 2},
        {BYTES("\x80\xbf\x80"), 0},
        {BYTES("\xc3\xa4\xa4"), 2},
        /* lone first bytes */
        {BYTES("\xc3 "), 0},
        {BYTES("\xe2 "), 0},
        {BYTES("\xf0 "), 0},
        /* the last byte, or more, missing */
        {BYTES("a\xc3"), 1},
        {BYTES("a\xe2\x82"), 1},
        {BYTES("a\xe2"), 1},
        {BYTES("\xf0\x90\x80"), 0},
        {BYTES("\xf0\x90"), 0},
        {BYTES("\xf0"), 0},
        {BYTES("\xe2\x82\xe2\x82\xac"), 0},
        {BYTES("\xf0\x90\x80\x41"), 0},
        {BYTES("\xf0\x90\x41\x80"), 0},
        {BYTES("\xe2\x82\xc0"), 0},
        /* first bytes that cannot be */
        {BYTES("\xfe"), 0},
        {BYTES("\xff"), 0},
        {BYTES("\xfe\xfe\xff\xff"), 0},
        {BYTES("\xf5\x80\x80\x80"), 0},
        {BYTES("\xf8\x88\x80\x80\x80"), 0},
        {BYTES("\xfc\x84\x80\x80\x80\x80"), 0},
        /* overlong slash, overlong maxima, overlong NUL */
        {BYTES("\xc0\xaf"), 0},
        {BYTES("\xe0\x80\xaf"), 0},
        {BYTES("\xf0\x80\x80\xaf"), 0},
        {BYTES("\xf8\x80\x80\x80\xaf"), 0},
        {BYTES("\xc1\xbf"), 0},
        {BYTES("\xe0\x9f\xbf"), 0},
        {BYTES("\xf0\x8f\xbf\xbf"), 0},
        {BYTES("\xc0\x80"), 0},
        {BYTES("\xe0\x80\x80"), 0},
        {BYTES("\xf0\x80\x80\x80"), 0},
        /* surrogates, single and paired */
        {BYTES("\xed\xa0\x80"), 0},
        {BYTES("\xed\xad\xbf"), 0},
        {BYTES("\xed\xae\x80"), 0},
        {BYTES("\xed\xaf\xbf"), 0},
        {BYTES("\xed\xb0\x80"), 0},
        {BYTES("\xed\xbf\xbf"), 0},
        {BYTES("x\xed\xa0\x80\xed\xb0\x80"), 1},
        /* above U+10FFFF */
        {BYTES("\xf4\x90\x80\x80"), 0},
        {BYTES("\xf7\xbf\xbf\xbf"), 0},
        /* a good character before */
        {BYTES("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa"), 6},
    };
    size_t chars, bad;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(utf8(cases[i].text, cases[i].len, &chars, &bad));
        assert_int_equal(bad, cases[i].bad);
        assert_int_equal(chars, UNTOUCHED);
    }
}

/* The textbook encoder, which makes the shortest form. */
static size_t encode(uint32_t point, char out[4])
{
    static const unsigned char marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t len = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;

    for (size_t i = len; i-- > 1; point >>= 6)
        out[i] = (char)(0x80 | (point & 0x3f));
    out[0] = (char)(marks[len] | point);
    return len;
}

static void utf8_every_code_point(void **state)
{
    (void)state;
    for (uint32_t point = 0; point <= 0x1fffff; point++) {
        const bool scalar = point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
        char text[4];
        size_t chars = UNTOUCHED;
        const size_t len = encode(point, text);

        if (cs_utf8(text, len, &chars, NULL) != scalar || (scalar && chars != 1))
            fail_msg("U+%04X", (unsigned)point);
    }
}

/* Decodes loosely, then takes only what encodes back to itself. */
static size_t reference_len(const char *p, size_t left)
{
    const unsigned char lead = (unsigned char)p[0];
    const size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t point = len == 1 ? lead : lead & (0x7fu >> len);
    char again[4];

    if (len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        point = point << 6 | ((unsigned char)p[i] & 0x3fu);
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) || encode(point, again) != len)
        return 0;
    return memcmp(again, p, len) == 0 ? len : 0;
}

static void utf8_random_as_reference(void **state)
{
    static const unsigned char edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                          0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                          0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff};
    uint64_t rng = seed;
    size_t good_seen = 0;

    (void)state;
    for (int round = 0; round < 60000; round++) {
        const size_t len = next_random(&rng) % 7;
        size_t at = 0, count = 0, step = 1, chars, bad;
        char text[8];
        bool good;

        for (size_t i = 0; i < len; i++)
            text[i] = (char)edges[next_random(&rng) % sizeof edges];
        for (; at < len && (step = reference_len(text + at, len - at)) != 0; at += step)
            count++;
        good = utf8(text, len, &chars, &bad);
        assert_int_equal(good, at == len);
        assert_int_equal(good ? chars : bad, good ? count : at);
        good_seen += good && len > 2;
    }
    assert_true(good_seen > 100);
}

/* Each byte alone and in the middle, against the set written out. */
static void check_alphabet(bool (*check)(const char *, size_t), const char *set)
{
    for (int c = 0; c < 256; c++) {
        char text[3] = {set[0], (char)c, set[0]};
        const bool in = memchr(set, c, strlen(set)) != NULL;

        assert_int_equal(check(text, 3), in);
        assert_int_equal(check(text + 1, 1), in);
    }
}

static void check_length(bool (*check)(const char *, size_t), size_t max)
{
    char text[300];

    memset(text, 'a', sizeof text);
    assert_false(check(text, 0));
    assert_false(check(NULL, 0));
    assert_true(check(text, 1));
    assert_true(check(text, max));
    assert_false(check(text, max + 1));
}

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static void id_alphabets(void **state)
{
    (void)state;
    check_alphabet(cs_id_text, ALNUM "._~-");
    check_length(cs_id_text, 255);
    check_alphabet(cs_url_id_text, ALNUM "_-");
    check_length(cs_url_id_text, 255);
    check_alphabet(cs_permission_text, ALNUM "._:-");
    check_length(cs_permission_text, 64);
}

static void visible_and_control(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        const char text[3] = {'x', (char)c, 'x'};

        assert_int_equal(cs_visible_ascii(text, 3), c > 0x20 && c < 0x7f);
        assert_int_equal(cs_visible_ascii(text + 1, 1), c > 0x20 && c < 0x7f);
        assert_int_equal(cs_no_control(text, 3), c >= 0x20 && c != 0x7f);
        assert_int_equal(cs_no_control(text + 1, 1), c >= 0x20 && c != 0x7f);
    }
    assert_false(cs_visible_ascii("", 0));
    assert_true(cs_no_control("", 0));
    assert_true(cs_no_control(NULL, 0));
}

static void text_length_is_bounded(void **state)
{
    char *open = exact_copy("abcd", 4);

    (void)state;
    assert_int_equal(cs_text_len("", 0), 0);
    assert_int_equal(cs_text_len("", 5), 0);
    assert_int_equal(cs_text_len("abc", 5), 3);
    assert_int_equal(cs_text_len("abc", 3), 3);
    assert_int_equal(cs_text_len("abc", 2), 3);
    assert_int_equal(cs_text_len("abcdef", 2), 3);
    assert_int_equal(cs_text_len("abc", SIZE_MAX), 3);
    assert_int_equal(cs_text_len("abc", SIZE_MAX - 1), 3);
    assert_int_equal(cs_text_len(open, 3), 4); /* no NUL in reach: four bytes are all it may read */
    free(open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_well_formed),       cmocka_unit_test(utf8_malformed),
        cmocka_unit_test(utf8_every_code_point),  cmocka_unit_test(utf8_random_as_reference),
        cmocka_unit_test(id_alphabets),           cmocka_unit_test(visible_and_control),
        cmocka_unit_test(text_length_is_bounded),
    };
    const char *given = getenv("CREDSTORE_SEED");

    seed = given == NULL ? 0x3629u : strtoull(given, NULL, 0);
    printf("CREDSTORE_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
