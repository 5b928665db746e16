/* SPDX-License-Identifier: MIT
 *
 * Memory: checked sizes, wiping, and the one place that allocates.
 */
#ifndef CS_MEM_H
#define CS_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "credstore/backend.h"

/* Zeroed memory, or NULL (also when count * size overflows). */
void *cs_alloc(size_t count, size_t size);
void cs_free(void *ptr);
/* Wipes len bytes, then frees. */
void cs_free_wiped(void *ptr, size_t len);
/* Overwrites in a way that the compiler keeps. */
void cs_wipe(void *ptr, size_t len);
/* *out = a + b, false on overflow. */
bool cs_add(size_t a, size_t b, size_t *out);
/* Equal in constant time for equal lengths. */
bool cs_equal_secret(const void *a, const void *b, size_t len);
bool cs_bytes_equal(credstore_bytes a, credstore_bytes b);
/* memcmp order, shorter first. */
int cs_bytes_compare(credstore_bytes a, credstore_bytes b);
credstore_bytes cs_bytes(const void *ptr, size_t len);
credstore_bytes cs_bytes_of(const char *text); /* NUL-terminated; NULL is empty */

/* Big-endian numbers, as everything on disk. */
void cs_put_u16(uint8_t *p, uint16_t v);
void cs_put_u32(uint8_t *p, uint32_t v);
void cs_put_u64(uint8_t *p, uint64_t v);
uint16_t cs_get_u16(const uint8_t *p);
uint32_t cs_get_u32(const uint8_t *p);
uint64_t cs_get_u64(const uint8_t *p);

/* A growing buffer, wiped wherever it is given back. Zero it to start. */
typedef struct cs_buf {
    uint8_t *ptr;
    size_t len, cap;
    bool failed; /* memory was out: all later appends do nothing */
    bool lent;   /* ptr is another's: wiped, not freed */
} cs_buf;
void cs_buf_add(cs_buf *buf, const void *ptr, size_t len);
/* Room for len more bytes, to be filled by the caller; NULL when memory is out. */
uint8_t *cs_buf_room(cs_buf *buf, size_t len);
void cs_buf_u8(cs_buf *buf, uint8_t v);
void cs_buf_u16(cs_buf *buf, uint16_t v);
void cs_buf_u32(cs_buf *buf, uint32_t v);
void cs_buf_u64(cs_buf *buf, uint64_t v);
void cs_buf_free(cs_buf *buf);

#endif
