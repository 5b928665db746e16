/* SPDX-License-Identifier: MIT
 *
 * RFC 3339: its own examples, the edges of its grammar, and every day of 1970..9999 counted one by
 * one.
 */
#define _DEFAULT_SOURCE /* gmtime_r under -std=c11 on every libc */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "time.h"

#define UNTOUCHED INT64_C(-77)
#define LAST_MS   INT64_C(253402300799999)

static uint64_t seed;

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Parses a copy without a NUL, so that a read past the end is seen. */
static bool parse_bytes(const char *text, size_t len, int64_t *ms)
{
    char *copy = malloc(len == 0 ? 1 : len);
    bool good;

    assert_non_null(copy);
    memcpy(copy, text, len);
    *ms = UNTOUCHED;
    good = cs_time_parse(copy, len, ms);
    free(copy);
    return good;
}

static bool parse(const char *text, int64_t *ms)
{
    return parse_bytes(text, strlen(text), ms);
}

static void accepted(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        /* RFC 3339 section 5.8; the leap second is the millisecond before 1991 */
        {"1985-04-12T23:20:50.52Z", 482196050520},
        {"1996-12-19T16:39:57-08:00", 851042397000},
        {"1996-12-20T00:39:57Z", 851042397000},
        {"1990-12-31T23:59:60Z", 662687999999},
        {"1990-12-31T15:59:60-08:00", 662687999999},
        /* the four documents' */
        {"2023-11-07T05:31:56Z", 1699335116000},
        {"2023-11-07T05:31:56.117Z", 1699335116117},
        /* the bounds, also by an offset from outside */
        {"1970-01-01T00:00:00Z", 0},
        {"1969-12-31T23:00:00-01:00", 0},
        {"1969-12-31T00:01:00-23:59", 0},
        {"9999-12-31T23:59:59.999Z", LAST_MS},
        {"9999-12-31T23:59:59.9999999Z", LAST_MS},
        {"9999-12-31T23:59:60Z", LAST_MS},
        {"9999-12-31T23:59:59.999-00:00", LAST_MS},
        /* letters of either case, all offsets */
        {"1985-04-12t23:20:50.52z", 482196050520},
        {"1985-04-12T23:20:50.52-00:00", 482196050520},
        {"1985-04-12T23:20:50.52+00:00", 482196050520},
        {"1985-04-13T23:19:50.52+23:59", 482196050520},
        {"1985-04-13T04:50:50.52+05:30", 482196050520},
        /* fractions are cut */
        {"1970-01-01T00:00:00.0Z", 0},
        {"1970-01-01T00:00:00.001Z", 1},
        {"1970-01-01T00:00:00.0009Z", 0},
        {"1970-01-01T00:00:00.9999999999999999999999999999999Z", 999},
        {"1970-01-01T00:00:00.1Z", 100},
        {"1970-01-01T00:00:00.12Z", 120},
        {"1970-01-01T00:00:00.123456789+00:00", 123},
        /* leap days */
        {"2000-02-29T00:00:00Z", 951782400000},
        {"2024-02-29T12:00:00Z", 1709208000000},
        {"1972-02-29T00:00:00Z", 68169600000},
        /* leap seconds: any fraction, any offset, June too */
        {"1990-12-31T23:59:60.25Z", 662687999999},
        {"2012-06-30T23:59:60Z", 1341100799999},
        {"2012-07-01T05:29:60+05:30", 1341100799999},
        {"1991-01-01T00:59:60+01:00", 662687999999},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = 0;

        if (!parse(cases[i].text, &ms))
            fail_msg("refused: %s", cases[i].text);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void refused(void **state)
{
    static const char *const cases[] = {
        /* RFC 3339 section 5.8 has it, but it lies before 1970 */
        "1937-01-01T12:00:27.87+00:20",
        /* days and hours that do not exist */
        "2023-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2023-04-31T00:00:00Z",
        "2023-00-10T00:00:00Z",
        "2023-13-10T00:00:00Z",
        "2023-01-00T00:00:00Z",
        "2023-01-32T00:00:00Z",
        "2023-01-01T24:00:00Z",
        "2023-01-01T23:60:00Z",
        "2023-01-01T23:59:61Z",
        "2023-01-01T00:00:00+24:00",
        "2023-01-01T00:00:00-00:60",
        /* leap seconds where none can be */
        "1990-12-31T23:58:60Z",
        "1990-12-31T22:59:60Z",
        "1990-12-30T23:59:60Z",
        "1990-12-31T23:59:60-08:00",
        "1990-03-31T23:59:60Z",
        "1990-09-30T23:59:60Z",
        "2012-06-29T23:59:60Z",
        "2012-07-14T23:59:60Z",
        "2013-01-14T23:59:60Z",
        "1969-12-31T23:59:60Z",
        /* just outside */
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+23:59",
        /* forms that are not RFC 3339 */
        "",
        "2023",
        "2023-01-01",
        "2023-01-01T00:00:00",
        "2023-01-01T00:00Z",
        "2023-01-01 00:00:00Z",
        "2023-01-01_00:00:00Z",
        "20230101T000000Z",
        "2023-1-01T00:00:00Z",
        "2023-01-1T00:00:00Z",
        "2023-01-01T0:00:00Z",
        "02023-01-01T00:00:00Z",
        "+2023-01-01T00:00:00Z",
        "-2023-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2023/01/01T00:00:00Z",
        "2023-01-01T00:00:00.Z",
        "2023-01-01T00:00:00,5Z",
        "2023-01-01T00:00:00.5",
        "2023-01-01T00:00:00.5.5Z",
        "2023-01-01T00:00:00+0000",
        "2023-01-01T00:00:00+00",
        "2023-01-01T00:00:00+00:0",
        "2023-01-01T00:00:00+00:000",
        "2023-01-01T00:00:00+-1:00",
        "2023-01-01T00:00:00 +00:00",
        "2023-01-01T00:00:00UTC",
        "2023-01-01T00:00:00ZZ",
        "2023-01-01T00:00:00Z ",
        " 2023-01-01T00:00:00Z",
        "2023-01-01T00:00:00Z\n",
        "2023-01-01T00:00:-1Z",
        "2023-01-01T00: 1:00Z",
        "2023-W01-1T00:00:00Z",
        "2023-001T00:00:00Z",
        "1673222400",
        "2023-01-01T00:00:0\xd9\xa0Z",
        "2023-01-01T00:00:00\342\210\22200:00",
    };
    static const char nul_inside[] = "2023-01-01T00:00:00\0Z";
    static const char nul_behind[] = "2023-01-01T00:00:00Z";
    int64_t ms = UNTOUCHED;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (parse(cases[i], &ms))
            fail_msg("accepted: %s", cases[i]);
        assert_int_equal(ms, UNTOUCHED);
    }
    assert_false(parse_bytes(nul_inside, sizeof nul_inside - 1, &ms));
    assert_false(parse_bytes(nul_behind, sizeof nul_behind, &ms));
    assert_false(cs_time_parse(NULL, 0, &ms));
}

/* No proper beginning of a good text is good, but for one that ends in the fraction's digits. */
static void truncations_are_refused(void **state)
{
    static const char text[] = "2023-11-07T05:31:56.117+05:30";
    int64_t ms;

    (void)state;
    for (size_t len = 0; len < sizeof text - 1; len++)
        assert_false(parse_bytes(text, len, &ms));
    assert_true(parse_bytes(text, sizeof text - 1, &ms));
}

static void formats(void **state)
{
    static const struct {
        int64_t ms;
        const char *with_ms, *seconds;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"},
        {999, "1970-01-01T00:00:00.999Z", "1970-01-01T00:00:00Z"},
        {482196050520, "1985-04-12T23:20:50.520Z", "1985-04-12T23:20:50Z"},
        {851042397000, "1996-12-20T00:39:57.000Z", "1996-12-20T00:39:57Z"},
        {1699335116117, "2023-11-07T05:31:56.117Z", "2023-11-07T05:31:56Z"},
        {951782400007, "2000-02-29T00:00:00.007Z", "2000-02-29T00:00:00Z"},
        {LAST_MS, "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z"},
    };
    static const int64_t outside[] = {-1, INT64_MIN, LAST_MS + 1, INT64_MAX};
    char out[CS_TIME_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(cs_time_format(cases[i].ms, true, out));
        assert_string_equal(out, cases[i].with_ms);
        assert_true(cs_time_format(cases[i].ms, false, out));
        assert_string_equal(out, cases[i].seconds);
    }
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        memset(out, '?', sizeof out);
        assert_false(cs_time_format(outside[i], i % 2 == 0, out));
        assert_string_equal(out, "");
    }
}

static void check_instant(int64_t ms, const char *want)
{
    char out[CS_TIME_TEXT];
    int64_t back;

    assert_true(cs_time_format(ms, true, out));
    assert_string_equal(out, want);
    assert_true(parse(out, &back));
    assert_int_equal(back, ms);
}

/* A calendar that only knows how to turn the page; each day's edges where months turn, and one
   random instant of one day in 32. */
static void every_day_counted(void **state)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t rng = seed;
    int64_t day_ms = 0;

    (void)state;
    for (int year = 1970; year <= 9999; year++) {
        for (int month = 1; month <= 12; month++) {
            const int leap = month == 2 && (year % 400 == 0 || (year % 4 == 0 && year % 100 != 0));
            const int length = lengths[month - 1] + leap;

            for (int day = 1; day <= length; day++, day_ms += 86400000) {
                const uint64_t dice = next_random(&rng);
                const int in_day = (int)((dice >> 8) % 86400000);
                char want[80];

                if (dice % 32 == 0) {
                    snprintf(want, sizeof want, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month,
                             day, in_day / 3600000, in_day / 60000 % 60, in_day / 1000 % 60,
                             in_day % 1000);
                    check_instant(day_ms + in_day, want);
                }
                if ((month <= 3 && day == 1) || (month == 12 && day == 31)) {
                    snprintf(want, sizeof want, "%04d-%02d-%02dT00:00:00.000Z", year, month, day);
                    check_instant(day_ms, want);
                }
                if (month == 2 && day >= 28) {
                    snprintf(want, sizeof want, "%04d-%02d-%02dT23:59:59.999Z", year, month, day);
                    check_instant(day_ms + 86399999, want);
                }
            }
        }
    }
    assert_int_equal(day_ms, LAST_MS + 1);
}

static void random_instants_as_gmtime(void **state)
{
    uint64_t rng = seed ^ 1;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        const int64_t ms = (int64_t)(next_random(&rng) % ((uint64_t)LAST_MS + 1));
        const time_t s = (time_t)(ms / 1000);
        char seconds[40], want[64];
        struct tm tm;

        assert_non_null(gmtime_r(&s, &tm));
        assert_true(strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm) > 0);
        snprintf(want, sizeof want, "%s.%03dZ", seconds, (int)(ms % 1000));
        check_instant(ms, want);
    }
}

/* The same instant in another offset's clothes. */
static void random_offsets(void **state)
{
    uint64_t rng = seed ^ 2;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        const int64_t day = 86400000;
        const int64_t ms =
            day + (int64_t)(next_random(&rng) % ((uint64_t)LAST_MS - 2 * (uint64_t)day));
        const int minutes = (int)(next_random(&rng) % 1440);
        const bool west = next_random(&rng) % 2 == 0;
        char text[CS_TIME_TEXT], with_offset[CS_TIME_TEXT + 16];
        int64_t back;

        assert_true(cs_time_format(ms + (west ? -1 : 1) * minutes * 60000, true, text));
        text[strlen(text) - 1] = '\0';
        snprintf(with_offset, sizeof with_offset, "%s%c%02d:%02d", text, west ? '-' : '+',
                 minutes / 60, minutes % 60);
        assert_true(parse(with_offset, &back));
        assert_int_equal(back, ms);
    }
}

static void now_is_the_clock(void **state)
{
    struct timespec before, after;
    int64_t now;

    (void)state;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &before), 0);
    now = cs_time_now(NULL);
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &after), 0);
    assert_true(now >= (int64_t)before.tv_sec * 1000 + before.tv_nsec / 1000000);
    assert_true(now <= (int64_t)after.tv_sec * 1000 + after.tv_nsec / 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted),
        cmocka_unit_test(refused),
        cmocka_unit_test(truncations_are_refused),
        cmocka_unit_test(formats),
        cmocka_unit_test(every_day_counted),
        cmocka_unit_test(random_instants_as_gmtime),
        cmocka_unit_test(random_offsets),
        cmocka_unit_test(now_is_the_clock),
    };
    const char *given = getenv("CREDSTORE_SEED");

    seed = given == NULL ? 0x3339u : strtoull(given, NULL, 0);
    printf("CREDSTORE_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
