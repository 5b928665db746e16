/* SPDX-License-Identifier: MIT
 *
 * Text: UTF-8 (RFC 3629), characters, and the alphabets that ids and headers are made of.
 */
#ifndef CS_TEXT_H
#define CS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* True if well formed: no overlong forms, surrogates or values above U+10FFFF. *chars (may be NULL)
   gets the number of code points. On failure *bad (may be NULL) gets the offset of the first byte
   at fault, which is where the first character that is not well formed starts. */
bool cs_utf8(const char *ptr, size_t len, size_t *chars, size_t *bad);

/* No byte below 0x20 and no 0x7f. */
bool cs_no_control(const char *ptr, size_t len);
/* 0x21..0x7e only: safe in any header. Empty is false. */
bool cs_visible_ascii(const char *ptr, size_t len);
/* 1..255 of [A-Za-z0-9._~-]. */
bool cs_id_text(const char *ptr, size_t len);
/* 1..255 of [A-Za-z0-9_-]. */
bool cs_url_id_text(const char *ptr, size_t len);
/* 1..64 of [A-Za-z0-9._:-]. */
bool cs_permission_text(const char *ptr, size_t len);

/* A label: 1..63 of [a-z0-9-], no hyphen at either end (a domain-name segment, RFC 1123), and not
   26 of [0-9a-z], which is what ids made here look like. */
bool cs_label_text(const char *ptr, size_t len);

/* Length of a NUL-terminated text, at most max + 1: never reads past the first max + 1 bytes. */
size_t cs_text_len(const char *text, size_t max);

#endif
