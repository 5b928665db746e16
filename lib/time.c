/* SPDX-License-Identifier: MIT
 *
 * Times: RFC 3339 to and from milliseconds since 1970.
 */
#include "time.h"

#include <string.h>
#include <time.h>

enum { DAY_S = 86400, DAYS_TO_1970 = 719528 };

struct date_time {
    int year, month, day, hour, minute, second, ms;
    int offset_sign, offset_hour, offset_minute;
};

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 0000-01-01 to the first of January of a year >= 0; year 0 is a leap year. */
static int days_before_year(int year)
{
    return year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
}

/* Days since 1970-01-01 of a date that exists. */
static int days_of_date(int year, int month, int day)
{
    int days = days_before_year(year) - DAYS_TO_1970 + day - 1;

    for (int m = 1; m < month; m++)
        days += days_in_month(year, m);
    return days;
}

/* The date of a day at or after 1970-01-01. */
static void date_of_days(int days, struct date_time *out)
{
    int rest = days + DAYS_TO_1970;

    out->year = rest / 366; /* never too late; years are shorter, so step on to the right one */
    while (days_before_year(out->year + 1) <= rest)
        out->year++;
    rest -= days_before_year(out->year);
    out->month = 1;
    while (rest >= days_in_month(out->year, out->month))
        rest -= days_in_month(out->year, out->month++);
    out->day = rest + 1;
}

struct reader {
    const char *at, *end;
};

/* Exactly count digits. */
static bool read_number(struct reader *in, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, in->at++) {
        if (in->at == in->end || *in->at < '0' || *in->at > '9')
            return false;
        *out = *out * 10 + (*in->at - '0');
    }
    return true;
}

static bool read_one_of(struct reader *in, const char *set)
{
    if (in->at == in->end || memchr(set, *in->at, strlen(set)) == NULL)
        return false;
    in->at++;
    return true;
}

/* Optional: a point and at least one digit, of which the first three count. */
static bool read_fraction(struct reader *in, int *ms)
{
    int weight = 100, digit = 0;

    *ms = 0;
    if (!read_one_of(in, "."))
        return true;
    if (!read_number(in, 1, &digit))
        return false;
    do {
        *ms += digit * weight;
        weight /= 10;
    } while (read_number(in, 1, &digit));
    return true;
}

static bool read_offset(struct reader *in, struct date_time *out)
{
    out->offset_sign = out->offset_hour = out->offset_minute = 0;
    if (read_one_of(in, "Zz"))
        return true;
    if (in->at == in->end)
        return false;
    out->offset_sign = *in->at == '-' ? -1 : 1;
    return read_one_of(in, "+-") && read_number(in, 2, &out->offset_hour) && read_one_of(in, ":") &&
           read_number(in, 2, &out->offset_minute);
}

static bool read_date_time(struct reader *in, struct date_time *out)
{
    return read_number(in, 4, &out->year) && read_one_of(in, "-") &&
           read_number(in, 2, &out->month) && read_one_of(in, "-") &&
           read_number(in, 2, &out->day) && read_one_of(in, "Tt") &&
           read_number(in, 2, &out->hour) && read_one_of(in, ":") &&
           read_number(in, 2, &out->minute) && read_one_of(in, ":") &&
           read_number(in, 2, &out->second) && read_fraction(in, &out->ms) &&
           read_offset(in, out) && in->at == in->end;
}

static bool exists(const struct date_time *t)
{
    return t->month >= 1 && t->month <= 12 && t->day >= 1 &&
           t->day <= days_in_month(t->year, t->month) && t->hour <= 23 && t->minute <= 59 &&
           t->second <= 60 && t->offset_hour <= 23 && t->offset_minute <= 59;
}

/* Whether a leap second may follow this one: the last of a June or December, UTC. */
static bool may_leap_after(int64_t unix_s)
{
    struct date_time next;

    if ((unix_s + 1) % DAY_S != 0)
        return false;
    date_of_days((int)((unix_s + 1) / DAY_S), &next);
    return next.day == 1 && (next.month == 7 || next.month == 1);
}

bool cs_time_parse(const char *ptr, size_t len, int64_t *unix_ms)
{
    struct reader in = {ptr, NULL};
    struct date_time t;
    bool leap_second;
    int64_t s;

    if (len == 0)
        return false;
    in.end = ptr + len;
    if (!read_date_time(&in, &t) || !exists(&t))
        return false;
    leap_second = t.second == 60;
    s = (int64_t)days_of_date(t.year, t.month, t.day) * DAY_S + t.hour * 3600 + t.minute * 60 +
        t.second - leap_second - t.offset_sign * (t.offset_hour * 3600 + t.offset_minute * 60);
    if (s < 0 || s > CS_TIME_LAST / 1000 || (leap_second && !may_leap_after(s)))
        return false;
    *unix_ms = s * 1000 + (leap_second ? 999 : t.ms);
    return true;
}

/* Writes count digits and the character that follows them; returns where to go on. */
static char *put_number(char *p, int value, int count, char after)
{
    for (int i = count; i-- > 0; value /= 10)
        p[i] = (char)('0' + value % 10);
    p[count] = after;
    return p + count + 1;
}

bool cs_time_format(int64_t unix_ms, bool with_ms, char out[CS_TIME_TEXT])
{
    struct date_time t;
    int second_of_day;
    char *p = out;

    out[0] = '\0';
    if (unix_ms < 0 || unix_ms > CS_TIME_LAST)
        return false;
    date_of_days((int)(unix_ms / 1000 / DAY_S), &t);
    second_of_day = (int)(unix_ms / 1000 % DAY_S);
    p = put_number(p, t.year, 4, '-');
    p = put_number(p, t.month, 2, '-');
    p = put_number(p, t.day, 2, 'T');
    p = put_number(p, second_of_day / 3600, 2, ':');
    p = put_number(p, second_of_day / 60 % 60, 2, ':');
    p = put_number(p, second_of_day % 60, 2, with_ms ? '.' : 'Z');
    if (with_ms)
        p = put_number(p, (int)(unix_ms % 1000), 3, 'Z');
    *p = '\0';
    return true;
}

int64_t cs_time_now(void *unused)
{
    struct timespec now = {0, 0};

    (void)unused;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return 0; /* before all that was stored: expiry then goes by the largest time seen */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t cs_time_monotonic(void)
{
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
