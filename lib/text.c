/* SPDX-License-Identifier: MIT
 *
 * Text: UTF-8, and the alphabets that ids and headers are made of.
 */
#include "text.h"

#include <stdint.h>
#include <string.h>

/* The multi-byte rows of RFC 3629 section 4. Narrowing the second byte is all that overlong forms,
   surrogates and values above U+10FFFF need; later bytes are always 80..BF. */
static const struct sequence {
    unsigned char first_low, first_high, second_low, second_high, length;
} sequences[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

/* Length of the character at p, of which left bytes are there; 0 if it is not well formed. */
static size_t character_len(const unsigned char *p, size_t left)
{
    const struct sequence *row = sequences;
    const struct sequence *end = sequences + sizeof sequences / sizeof *sequences;

    if (p[0] < 0x80)
        return 1;
    while (row < end && (p[0] < row->first_low || p[0] > row->first_high))
        row++;
    if (row == end || left < row->length || p[1] < row->second_low || p[1] > row->second_high)
        return 0;
    for (size_t i = 2; i < row->length; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return row->length;
}

bool cs_utf8(const char *ptr, size_t len, size_t *chars, size_t *bad)
{
    size_t count = 0, step = 0;

    for (size_t at = 0; at < len; at += step, count++) {
        step = character_len((const unsigned char *)ptr + at, len - at);
        if (step == 0) {
            if (bad != NULL)
                *bad = at;
            return false;
        }
    }
    if (chars != NULL)
        *chars = count;
    return true;
}

bool cs_no_control(const char *ptr, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)ptr[i];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}

bool cs_visible_ascii(const char *ptr, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (ptr[i] < 0x21 || ptr[i] > 0x7e)
            return false;
    }
    return len > 0;
}

/* 1..max letters, digits and characters of others. */
static bool made_of(const char *ptr, size_t len, size_t max, const char *others)
{
    if (len == 0 || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = ptr[i];
        const bool plain =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

        if (!plain && memchr(others, c, strlen(others)) == NULL)
            return false;
    }
    return true;
}

bool cs_id_text(const char *ptr, size_t len)
{
    return made_of(ptr, len, 255, "._~-");
}

bool cs_url_id_text(const char *ptr, size_t len)
{
    return made_of(ptr, len, 255, "_-");
}

bool cs_permission_text(const char *ptr, size_t len)
{
    return made_of(ptr, len, 64, "._:-");
}

size_t cs_text_len(const char *text, size_t max)
{
    return max == SIZE_MAX ? strlen(text) : strnlen(text, max + 1);
}

bool cs_label_text(const char *ptr, size_t len)
{
    bool hyphen = false;

    if (len < 1 || len > 63 || ptr[0] == '-' || ptr[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        const char c = ptr[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-')
            return false;
        hyphen = hyphen || c == '-';
    }
    return len != 26 || hyphen;
}
