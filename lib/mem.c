/* SPDX-License-Identifier: MIT
 *
 * Memory: checked sizes, wiping, and the one place that allocates.
 */
#define _DEFAULT_SOURCE /* explicit_bzero */

#include "mem.h"

#include <stdlib.h>
#include <string.h>

void *cs_alloc(size_t count, size_t size)
{
    return calloc(count, size);
}

void cs_free(void *ptr)
{
    free(ptr);
}

void cs_free_wiped(void *ptr, size_t len)
{
    if (ptr != NULL)
        explicit_bzero(ptr, len);
    free(ptr);
}

void cs_wipe(void *ptr, size_t len)
{
    if (len > 0)
        explicit_bzero(ptr, len);
}

bool cs_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

bool cs_equal_secret(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a;
    const volatile uint8_t *y = b;
    uint8_t differ = 0;

    for (size_t i = 0; i < len; i++)
        differ = (uint8_t)(differ | (x[i] ^ y[i]));
    return differ == 0;
}

credstore_bytes cs_bytes(const void *ptr, size_t len)
{
    const credstore_bytes bytes = {ptr, len};

    return bytes;
}

credstore_bytes cs_bytes_of(const char *text)
{
    return cs_bytes(text, text == NULL ? 0 : strlen(text));
}

bool cs_bytes_equal(credstore_bytes a, credstore_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

int cs_bytes_compare(credstore_bytes a, credstore_bytes b)
{
    const size_t shorter = a.len < b.len ? a.len : b.len;
    const int order = shorter == 0 ? 0 : memcmp(a.ptr, b.ptr, shorter);

    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

void cs_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

void cs_put_u32(uint8_t *p, uint32_t v)
{
    cs_put_u16(p, (uint16_t)(v >> 16));
    cs_put_u16(p + 2, (uint16_t)v);
}

void cs_put_u64(uint8_t *p, uint64_t v)
{
    cs_put_u32(p, (uint32_t)(v >> 32));
    cs_put_u32(p + 4, (uint32_t)v);
}

uint16_t cs_get_u16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

uint32_t cs_get_u32(const uint8_t *p)
{
    return (uint32_t)cs_get_u16(p) << 16 | cs_get_u16(p + 2);
}

uint64_t cs_get_u64(const uint8_t *p)
{
    return (uint64_t)cs_get_u32(p) << 32 | cs_get_u32(p + 4);
}

static void release(const cs_buf *buf)
{
    if (buf->lent)
        cs_wipe(buf->ptr, buf->len);
    else
        cs_free_wiped(buf->ptr, buf->cap);
}

/* Makes room for more bytes. The old block is wiped: it may hold what was typed as a secret. */
static bool grow(cs_buf *buf, size_t more)
{
    size_t need;
    size_t cap = buf->cap == 0 ? 256 : buf->cap;
    uint8_t *ptr;

    if (buf->failed || !cs_add(buf->len, more, &need) || need > SIZE_MAX / 2)
        return false;
    if (need <= buf->cap && buf->ptr != NULL)
        return true;
    while (cap < need)
        cap *= 2;
    ptr = cs_alloc(cap, 1);
    if (ptr == NULL)
        return false;
    if (buf->len > 0)
        memcpy(ptr, buf->ptr, buf->len);
    release(buf);
    buf->ptr = ptr;
    buf->cap = cap;
    buf->lent = false;
    return true;
}

uint8_t *cs_buf_room(cs_buf *buf, size_t len)
{
    if (!grow(buf, len)) {
        buf->failed = true;
        return NULL;
    }
    buf->len += len;
    return buf->ptr + buf->len - len;
}

void cs_buf_add(cs_buf *buf, const void *ptr, size_t len)
{
    uint8_t *room;

    if (len == 0)
        return;
    room = cs_buf_room(buf, len);
    if (room != NULL)
        memcpy(room, ptr, len);
}

void cs_buf_u8(cs_buf *buf, uint8_t v)
{
    cs_buf_add(buf, &v, 1);
}

void cs_buf_u16(cs_buf *buf, uint16_t v)
{
    uint8_t raw[2];

    cs_put_u16(raw, v);
    cs_buf_add(buf, raw, sizeof raw);
}

void cs_buf_u32(cs_buf *buf, uint32_t v)
{
    uint8_t raw[4];

    cs_put_u32(raw, v);
    cs_buf_add(buf, raw, sizeof raw);
}

void cs_buf_u64(cs_buf *buf, uint64_t v)
{
    uint8_t raw[8];

    cs_put_u64(raw, v);
    cs_buf_add(buf, raw, sizeof raw);
}

void cs_buf_free(cs_buf *buf)
{
    const cs_buf empty = {0};

    release(buf);
    *buf = empty;
}
