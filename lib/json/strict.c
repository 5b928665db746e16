/* SPDX-License-Identifier: MIT
 *
 * What is let through to the JSON parser: I-JSON (RFC 7493) objects within our limits.
 */
#include "json/strict.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "error.h"
#include "text.h"

/* cJSON releases differ in how long a number they can read; all can read this much. */
enum { NUMBER_MAX = 63 };

#define INTEGER_MAX UINT64_C(9007199254740991) /* 2^53 - 1 */
#define STRING_END  UINT32_MAX                 /* what take_char() answers for the closing quote */

/* The least magnitude that rounds to infinity, 2^1024 - 2^970, begins with these digits, the first
   one at 10^308. It has 309, so that a number of NUMBER_MAX characters never equals it. */
static const char overflow_digits[NUMBER_MAX + 1] =
    "179769313486231580793728971405303415079934132710037826936173778";
enum { OVERFLOW_EXPONENT = 308, EXPONENT_CAP = 9999 };

static const char ended[] = "the JSON text ends too early";

typedef struct scan {
    const char *ptr;
    size_t len, at;
    size_t well_formed; /* bytes that are UTF-8: a prefix of the body */
    cs_json_map *map;
    const char *message;
    size_t fault_at;
} scan;

/* A name met in an object: equal names have equal hashes, unequal ones are told apart by a look. */
typedef struct met {
    uint32_t at, hash;
} met;

static bool fault(scan *s, size_t at, const char *message)
{
    s->fault_at = at;
    s->message = message;
    return false;
}

/* The byte to read, or -1 at the end. */
static int peek(const scan *s)
{
    return s->at < s->len ? (unsigned char)s->ptr[s->at] : -1;
}

/* A fault at the byte to read. */
static bool fault_here(scan *s, const char *message)
{
    return fault(s, s->at, peek(s) < 0 ? ended : message);
}

static bool take(scan *s, char c)
{
    if (peek(s) != (unsigned char)c)
        return false;
    s->at++;
    return true;
}

static void skip_space(scan *s)
{
    while (take(s, ' ') || take(s, '\t') || take(s, '\n') || take(s, '\r'))
        continue;
}

/* ---- strings ---- */

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool take_hex4(scan *s, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        const int digit = hex_digit(peek(s));

        if (digit < 0)
            return fault_here(s, "\\u needs four hex digits");
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return true;
}

/* Behind \u; start is the backslash. */
static bool take_unicode(scan *s, size_t start, uint32_t *c)
{
    static const char lone[] = "a lone surrogate";
    uint32_t low;

    if (!take_hex4(s, c))
        return false;
    if (*c == 0)
        return fault(s, start, "\\u0000 is not allowed");
    if (*c < 0xD800 || *c > 0xDFFF)
        return true;
    if (*c >= 0xDC00 || !take(s, '\\') || !take(s, 'u'))
        return fault(s, start, lone);
    if (!take_hex4(s, &low))
        return false;
    if (low < 0xDC00 || low > 0xDFFF)
        return fault(s, start, lone);
    *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
    return true;
}

static bool take_escape(scan *s, uint32_t *c)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const size_t start = s->at++;

    if (take(s, 'u'))
        return take_unicode(s, start, c);
    for (size_t i = 0; from[i] != '\0'; i++) {
        if (!take(s, from[i]))
            continue;
        *c = (unsigned char)to[i];
        return true;
    }
    return fault_here(s, "an unknown escape");
}

/* A character beyond ASCII, within the well-formed prefix: its lead byte says all. */
static uint32_t take_wide(scan *s)
{
    const uint32_t lead = (unsigned char)s->ptr[s->at++];
    const unsigned more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    uint32_t c = lead & (0x3FU >> more);

    for (unsigned i = 0; i < more; i++)
        c = c << 6 | ((unsigned char)s->ptr[s->at++] & 0x3FU);
    return c;
}

/* The next character of a string, unescaped, or STRING_END. */
static bool take_char(scan *s, uint32_t *c)
{
    const size_t start = s->at;
    const int byte = peek(s);
    bool good = true;

    if (s->at >= s->well_formed)
        return fault_here(s, ended);
    if (byte < 0x20)
        return fault_here(s, "a raw control character in a string");
    if (byte == '\\')
        good = take_escape(s, c);
    else if (byte >= 0x80)
        *c = take_wide(s);
    else {
        *c = byte == '"' ? STRING_END : (uint32_t)byte;
        s->at++;
    }
    if (!good || *c == STRING_END)
        return good;
    if ((*c >= 0xFDD0 && *c <= 0xFDEF) || (*c & 0xFFFE) == 0xFFFE)
        return fault(s, start, "a Unicode noncharacter");
    return true;
}

/* From the opening quote past the closing one. *hash (FNV-1a over the characters) may be NULL. */
static bool take_string(scan *s, uint32_t *hash)
{
    uint32_t sum = 2166136261U;
    uint32_t c = 0;

    if (!take(s, '"'))
        return fault_here(s, "a member name is expected");
    while (c != STRING_END) {
        if (!take_char(s, &c))
            return false;
        sum = (sum ^ c) * 16777619U;
    }
    if (hash != NULL)
        *hash = sum;
    return true;
}

/* Both start behind the opening quote of a string that was scanned before. */
static bool same_string(const scan *s, size_t a, size_t b)
{
    scan x = *s;
    scan y = *s;
    uint32_t c = 0;
    uint32_t d = 0;

    x.at = a;
    y.at = b;
    while (c == d && c != STRING_END) {
        if (!take_char(&x, &c) || !take_char(&y, &d))
            return false;
    }
    return c == d;
}

/* ---- numbers ---- */

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool take_digits(scan *s)
{
    if (!is_digit(peek(s)))
        return fault_here(s, "a digit is expected");
    while (is_digit(peek(s)))
        s->at++;
    return true;
}

static bool integer_fits(const char *digits, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len && value <= INTEGER_MAX; i++)
        value = value * 10 + (uint64_t)(digits[i] - '0');
    return value <= INTEGER_MAX;
}

/* Of "e5", "E-5", "e+05" or nothing, cut at +-EXPONENT_CAP. */
static int exponent_of(const char *ptr, size_t len)
{
    const bool negative = len > 1 && ptr[1] == '-';
    int value = 0;

    for (size_t i = 0; i < len && value < EXPONENT_CAP; i++)
        value = is_digit(ptr[i]) ? value * 10 + (ptr[i] - '0') : value;
    value = value > EXPONENT_CAP ? EXPONENT_CAP : value;
    return negative ? -value : value;
}

/* ptr[0..mantissa) is digits with or without a point; the rest of len is the exponent's part. By
   hand, as strtod() reads another point in another locale. */
static bool double_fits(const char *ptr, size_t mantissa, size_t len)
{
    char digits[NUMBER_MAX];
    size_t count = 0;
    int exponent = -1;
    bool fraction = false;

    for (size_t i = 0; i < mantissa; i++) {
        if (ptr[i] == '.') {
            fraction = true;
            continue;
        }
        if (count > 0 || ptr[i] != '0')
            digits[count++] = ptr[i];
        if (count > 0 && !fraction)
            exponent++;
        if (count == 0 && fraction)
            exponent--;
    }
    if (count == 0)
        return true;
    exponent += exponent_of(ptr + mantissa, len - mantissa);
    if (exponent != OVERFLOW_EXPONENT)
        return exponent < OVERFLOW_EXPONENT;
    return memcmp(digits, overflow_digits, count) <= 0;
}

static bool take_number(scan *s)
{
    const size_t start = s->at;
    const size_t first = start + (take(s, '-') ? 1 : 0);
    size_t mantissa;
    bool integer = true;

    if (!take(s, '0') && !take_digits(s)) /* no digit follows a leading 0 */
        return false;
    if (take(s, '.')) {
        integer = false;
        if (!take_digits(s))
            return false;
    }
    mantissa = s->at - first;
    if (take(s, 'e') || take(s, 'E')) {
        integer = false;
        if (!take(s, '+'))
            (void)take(s, '-');
        if (!take_digits(s))
            return false;
    }
    if (s->at - start > NUMBER_MAX)
        return fault(s, start, "a number of more than 63 characters");
    if (integer && !integer_fits(s->ptr + first, mantissa))
        return fault(s, start, "an integer beyond 2^53 - 1");
    if (!integer && !double_fits(s->ptr + first, mantissa, s->at - first))
        return fault(s, start, "a number too large for a double");
    return true;
}

/* ---- values ---- */

static bool take_object(scan *s, size_t depth);
static bool take_array(scan *s, size_t depth);

static bool take_word(scan *s, const char *word)
{
    for (; *word != '\0'; word++) {
        if (!take(s, *word))
            return fault_here(s, "a value is expected");
    }
    return true;
}

/* depth is that of the array or object around. */
static bool take_value(scan *s, size_t depth)
{
    const int c = peek(s);

    if ((c == '{' || c == '[') && depth == CS_JSON_DEPTH)
        return fault_here(s, "nested more than 8 deep");
    switch (c) {
    case '{':
        return take_object(s, depth + 1);
    case '[':
        return take_array(s, depth + 1);
    case '"':
        return take_string(s, NULL);
    case 't':
        return take_word(s, "true");
    case 'f':
        return take_word(s, "false");
    case 'n':
        return take_word(s, "null");
    default:
        break;
    }
    return c == '-' || is_digit(c) ? take_number(s) : fault_here(s, "a value is expected");
}

/* The comma before the next element, or the bracket that ends them; more says which. */
static bool take_separator(scan *s, char end, bool *more)
{
    skip_space(s);
    *more = take(s, ',');
    if (!*more && !take(s, end))
        return fault_here(s, "a comma or a closing bracket is expected");
    skip_space(s);
    return true;
}

static bool take_array(scan *s, size_t depth)
{
    bool more = true;

    s->at++;
    skip_space(s);
    if (take(s, ']'))
        return true;
    while (more) {
        if (!take_value(s, depth) || !take_separator(s, ']', &more))
            return false;
    }
    return true;
}

/* A name that none of the count before it equals, and the colon. */
static bool take_name(scan *s, met *names, size_t count)
{
    const size_t start = s->at;
    uint32_t hash;

    if (count == CS_JSON_MEMBERS)
        return fault_here(s, "more than 64 members in an object");
    if (!take_string(s, &hash))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (names[i].hash == hash && same_string(s, names[i].at, start + 1))
            return fault(s, start, "a member name stands twice");
    }
    names[count].at = (uint32_t)start + 1;
    names[count].hash = hash;
    skip_space(s);
    if (!take(s, ':'))
        return fault_here(s, "a colon is expected");
    skip_space(s);
    return true;
}

static bool take_object(scan *s, size_t depth)
{
    met names[CS_JSON_MEMBERS];
    size_t count = 0;
    bool more = true;

    s->at++;
    skip_space(s);
    if (take(s, '}'))
        return true;
    while (more) {
        if (!take_name(s, names, count))
            return false;
        count++;
        if (depth == 1)
            s->map->value_at[s->map->count++] = s->at;
        if (!take_value(s, depth) || !take_separator(s, '}', &more))
            return false;
    }
    return true;
}

static bool take_body(scan *s)
{
    if (s->len >= 3 && memcmp(s->ptr, "\xEF\xBB\xBF", 3) == 0)
        return fault(s, 0, "a byte order mark");
    skip_space(s);
    if (peek(s) != '{')
        return fault(s, s->at, peek(s) < 0 ? "the body is empty" : "the body is not an object");
    if (!take_object(s, 1))
        return false;
    skip_space(s);
    return s->at == s->len || fault_here(s, "bytes follow the object");
}

credstore_status cs_json_strict(const char *ptr, size_t len, cs_json_map *map, credstore_error *err)
{
    scan s = {.ptr = ptr, .len = ptr == NULL ? 0 : len, .map = map};

    map->count = 0;
    if (s.len > CS_JSON_MAX)
        return cs_fail(err, CREDSTORE_E_TOO_LARGE, NULL, "the body is over 64 KiB");
    s.well_formed = s.len;
    if (s.len > 0 && cs_utf8(s.ptr, s.len, NULL, &s.well_formed))
        s.well_formed = s.len;
    if (take_body(&s))
        return CREDSTORE_OK;
    map->count = 0;
    if (s.well_formed < s.len && s.fault_at >= s.well_formed)
        fault(&s, s.well_formed, "the body is not UTF-8");
    return cs_fail_at(err, CREDSTORE_E_INVALID, NULL, s.fault_at, s.message);
}
