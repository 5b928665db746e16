/* SPDX-License-Identifier: MIT
 *
 * Times: RFC 3339 to and from milliseconds since 1970, proleptic Gregorian, UTC.
 */
#ifndef CS_TIME_H
#define CS_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CS_DAY_MS = 86400000 };
#define CS_TIME_LAST INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
enum { CS_TIME_TEXT = 25 };                   /* 2023-11-07T05:31:56.117Z and a NUL */

/* Parses an RFC 3339 date-time, any offset, any number of fraction digits (cut to milliseconds).
   The day must exist and the instant lie in 1970..9999. A leap second (23:59:60 UTC at the end of a
   June or December) is taken as the last millisecond of the second before. */
bool cs_time_parse(const char *ptr, size_t len, int64_t *unix_ms);

/* Writes ...T05:31:56Z (seconds, cut) or ...T05:31:56.117Z. False outside 1970..9999. */
bool cs_time_format(int64_t unix_ms, bool with_ms, char out[CS_TIME_TEXT]);

/* CLOCK_MONOTONIC, in milliseconds: for budgets. */
int64_t cs_time_monotonic(void);

/* CLOCK_REALTIME. */
int64_t cs_time_now(void *unused);

#endif
