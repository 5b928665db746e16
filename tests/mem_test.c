/* SPDX-License-Identifier: MIT
 *
 * Memory and the error model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "mem.h"

/* ---- what the module asks of the C library ---- */

void *__real_calloc(size_t count, size_t size);
void __real_free(void *ptr);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *ptr);

static bool out_of_memory;
static struct {
    const void *ptr;
    size_t len;
    bool seen, zero;
} watched;

void *__wrap_calloc(size_t count, size_t size)
{
    return out_of_memory ? NULL : __real_calloc(count, size);
}

void __wrap_free(void *ptr)
{
    if (ptr != NULL && ptr == watched.ptr) {
        watched.seen = watched.zero = true;
        for (size_t i = 0; i < watched.len; i++)
            if (((const volatile uint8_t *)ptr)[i] != 0)
                watched.zero = false;
        watched.ptr = NULL;
    }
    __real_free(ptr);
}

/* From now on: is this block all zero when it is given back? */
static void watch(const void *ptr, size_t len)
{
    watched.ptr = ptr;
    watched.len = len;
    watched.seen = watched.zero = false;
}

/* ---- memory ---- */

static void test_alloc(void **state)
{
    const volatile size_t half = SIZE_MAX / 2 + 1;
    uint8_t *p = cs_alloc(3, 41);

    (void)state;
    assert_non_null(p);
    for (size_t i = 0; i < 3 * 41; i++)
        assert_int_equal(p[i], 0);
    cs_free(p);
    assert_null(cs_alloc(half, 2)); /* 0 in 64 bits */
    assert_null(cs_alloc(2, half));
    assert_null(cs_alloc(SIZE_MAX, half));
    cs_free(NULL);
    cs_free_wiped(NULL, 0);
    cs_free_wiped(NULL, 10);
}

static void test_free_wipes(void **state)
{
    uint8_t *p = cs_alloc(1, 100);

    (void)state;
    assert_non_null(p);
    memset(p, 0xa5, 100);
    watch(p, 100);
    cs_free_wiped(p, 100);
    assert_true(watched.seen);
    assert_true(watched.zero);
}

static void test_wipe(void **state)
{
    uint8_t bytes[5] = {1, 2, 3, 4, 5};
    const uint8_t middle[5] = {1, 0, 0, 0, 5};
    const uint8_t start[5] = {0, 0, 0, 0, 5};

    (void)state;
    cs_wipe(bytes + 1, 3);
    assert_memory_equal(bytes, middle, sizeof bytes);
    cs_wipe(bytes, 0);
    assert_memory_equal(bytes, middle, sizeof bytes);
    cs_wipe(NULL, 0);
    credstore_wipe(bytes, 1);
    assert_memory_equal(bytes, start, sizeof bytes);
    credstore_wipe(NULL, 4);
}

static void test_add(void **state)
{
    size_t sum = 7;

    (void)state;
    assert_true(cs_add(0, 0, &sum));
    assert_int_equal(sum, 0);
    assert_true(cs_add(SIZE_MAX - 5, 5, &sum));
    assert_true(sum == SIZE_MAX);
    assert_true(cs_add(0, SIZE_MAX, &sum));
    assert_true(sum == SIZE_MAX);
    sum = 7;
    assert_false(cs_add(SIZE_MAX, 1, &sum));
    assert_false(cs_add(1, SIZE_MAX, &sum));
    assert_false(cs_add(SIZE_MAX, SIZE_MAX, &sum));
    assert_int_equal(sum, 7);
}

static void test_equal_secret(void **state)
{
    uint8_t a[67], b[67];

    (void)state;
    for (size_t i = 0; i < sizeof a; i++)
        a[i] = b[i] = (uint8_t)(i * 7);
    assert_true(cs_equal_secret(a, b, sizeof a));
    assert_true(cs_equal_secret(a, b + 1, 0));
    for (size_t bit = 0; bit < 8 * sizeof a; bit++) {
        b[bit / 8] = (uint8_t)(b[bit / 8] ^ 1U << bit % 8);
        assert_false(cs_equal_secret(a, b, sizeof a));
        assert_true(cs_equal_secret(a, b, bit / 8)); /* what comes before is the same */
        b[bit / 8] = a[bit / 8];
    }
}

static void test_bytes(void **state)
{
    static const struct {
        const char *a;
        size_t a_len;
        const char *b;
        size_t b_len;
        int order;
    } rows[] = {
        {NULL, 0, NULL, 0, 0},      {"", 0, NULL, 0, 0},        {"a", 1, NULL, 0, 1},
        {"a", 1, "a", 1, 0},        {"a", 1, "b", 1, -1},       {"a", 1, "ab", 2, -1},
        {"b", 1, "ab", 2, 1},       {"\x7f", 1, "\x80", 1, -1}, {"\xff", 1, "a", 1, 1},
        {"a\0b", 3, "a\0c", 3, -1}, {"a\0", 2, "a", 1, 1},      {"abc", 3, "abc", 3, 0},
        {"\0", 1, "\0\0", 2, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const credstore_bytes a = cs_bytes(rows[i].a, rows[i].a_len);
        const credstore_bytes b = cs_bytes(rows[i].b, rows[i].b_len);
        const int order = cs_bytes_compare(a, b);

        assert_int_equal((order > 0) - (order < 0), rows[i].order);
        assert_int_equal((cs_bytes_compare(b, a) > 0) - (cs_bytes_compare(b, a) < 0),
                         -rows[i].order);
        assert_int_equal(cs_bytes_equal(a, b), rows[i].order == 0);
    }
    assert_int_equal(cs_bytes_of(NULL).len, 0);
    assert_int_equal(cs_bytes_of("abc").len, 3);
}

static void test_numbers(void **state)
{
    static const uint8_t bytes[] = {0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8};
    uint8_t out[8];

    (void)state;
    assert_int_equal(cs_get_u16(bytes), 0x8192);
    assert_true(cs_get_u32(bytes) == UINT32_C(0x8192a3b4));
    assert_true(cs_get_u64(bytes) == UINT64_C(0x8192a3b4c5d6e7f8));
    cs_put_u16(out, 0x8192);
    assert_memory_equal(out, bytes, 2);
    cs_put_u32(out, UINT32_C(0x8192a3b4));
    assert_memory_equal(out, bytes, 4);
    cs_put_u64(out, UINT64_C(0x8192a3b4c5d6e7f8));
    assert_memory_equal(out, bytes, 8);
}

/* ---- buffers ---- */

static void test_buffer(void **state)
{
    static const uint8_t head[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                   0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 'x'};
    cs_buf buf = {0};
    uint8_t *room;

    (void)state;
    cs_buf_u8(&buf, 0x01);
    cs_buf_u16(&buf, 0x0203);
    cs_buf_u32(&buf, 0x04050607);
    cs_buf_u64(&buf, UINT64_C(0x08090a0b0c0d0e0f));
    cs_buf_add(&buf, NULL, 0);
    cs_buf_add(&buf, "x", 1);
    assert_int_equal(buf.len, sizeof head);
    assert_memory_equal(buf.ptr, head, sizeof head);
    room = cs_buf_room(&buf, 10000);
    assert_non_null(room);
    assert_ptr_equal(room, buf.ptr + sizeof head);
    assert_int_equal(buf.len, sizeof head + 10000);
    assert_true(buf.cap >= buf.len);
    memset(room, 0xee, 10000);
    assert_memory_equal(buf.ptr, head, sizeof head);
    assert_false(buf.failed);
    cs_buf_free(&buf);
    assert_null(buf.ptr);
    assert_int_equal(buf.len + buf.cap, 0);
    cs_buf_free(&buf);
}

/* A secret that was typed into a buffer stays in no block that the buffer gave back. */
static void test_buffer_wipes(void **state)
{
    cs_buf buf = {0};

    (void)state;
    cs_buf_add(&buf, "a secret", 8);
    watch(buf.ptr, buf.cap);
    assert_non_null(cs_buf_room(&buf, buf.cap));
    assert_true(watched.seen);
    assert_true(watched.zero);
    assert_memory_equal(buf.ptr, "a secret", 8);
    memset(buf.ptr + 8, 0xee, buf.len - 8);
    watch(buf.ptr, buf.cap);
    cs_buf_free(&buf);
    assert_true(watched.seen);
    assert_true(watched.zero);
}

static void test_buffer_fails(void **state)
{
    static const size_t impossible[] = {SIZE_MAX, SIZE_MAX - 2, SIZE_MAX / 2 + 1};
    cs_buf buf = {0};

    (void)state;
    cs_buf_add(&buf, "abc", 3);
    out_of_memory = true;
    assert_null(cs_buf_room(&buf, buf.cap));
    out_of_memory = false;
    assert_true(buf.failed);
    cs_buf_add(&buf, "d", 1); /* a gap would be worse than nothing */
    assert_null(cs_buf_room(&buf, 1));
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.ptr, "abc", 3);
    cs_buf_free(&buf);
    assert_false(buf.failed);

    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        cs_buf_add(&buf, "abc", 3);
        assert_null(cs_buf_room(&buf, impossible[i]));
        assert_true(buf.failed);
        assert_int_equal(buf.len, 3);
        cs_buf_free(&buf);
    }
}

/* ---- errors ---- */

typedef struct row {
    credstore_status status;
    const char *name;
    uint32_t http;
} row;

/* As credstore.h says them. */
static const row rows[] = {
    {CREDSTORE_OK, "OK", 200},
    {CREDSTORE_E_INVALID, "E_INVALID", 400},
    {CREDSTORE_E_TOO_LARGE, "E_TOO_LARGE", 413},
    {CREDSTORE_E_UNSUPPORTED, "E_UNSUPPORTED", 400},
    {CREDSTORE_E_UNAUTHENTICATED, "E_UNAUTHENTICATED", 401},
    {CREDSTORE_E_EXPIRED, "E_EXPIRED", 401},
    {CREDSTORE_E_REVOKED, "E_REVOKED", 401},
    {CREDSTORE_E_FORBIDDEN, "E_FORBIDDEN", 403},
    {CREDSTORE_E_NOT_FOUND, "E_NOT_FOUND", 404},
    {CREDSTORE_E_INACTIVE, "E_INACTIVE", 409},
    {CREDSTORE_E_EXISTS, "E_EXISTS", 409},
    {CREDSTORE_E_CONFLICT, "E_CONFLICT", 409},
    {CREDSTORE_E_REVISION, "E_REVISION", 412},
    {CREDSTORE_E_IDEMPOTENCY, "E_IDEMPOTENCY", 422},
    {CREDSTORE_E_BUSY, "E_BUSY", 503},
    {CREDSTORE_E_STORAGE, "E_STORAGE", 500},
    {CREDSTORE_E_FULL, "E_FULL", 507},
    {CREDSTORE_E_COMMIT_UNKNOWN, "E_COMMIT_UNKNOWN", 500},
    {CREDSTORE_E_INTEGRITY, "E_INTEGRITY", 500},
    {CREDSTORE_E_ROLLBACK, "E_ROLLBACK", 500},
    {CREDSTORE_E_FORMAT, "E_FORMAT", 500},
    {CREDSTORE_E_KEY_UNAVAILABLE, "E_KEY_UNAVAILABLE", 503},
    {CREDSTORE_E_NO_MEMORY, "E_NO_MEMORY", 500},
    {CREDSTORE_E_ENTROPY, "E_ENTROPY", 500},
    {CREDSTORE_E_FORKED, "E_FORKED", 500},
    {CREDSTORE_E_INTERNAL, "E_INTERNAL", 500},
};

static void test_status_table(void **state)
{
    static const int32_t strangers[] = {-1, 26, 1000, INT32_MAX, INT32_MIN};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(rows[i].status, i); /* never renumbered */
        assert_string_equal(credstore_status_name((int32_t)i), rows[i].name);
        assert_int_equal(cs_http_status(rows[i].status), rows[i].http);
    }
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        assert_string_equal(credstore_status_name(strangers[i]), "unknown status");
        assert_int_equal(cs_http_status((credstore_status)strangers[i]), 500);
    }
    assert_int_equal(sizeof(credstore_error), 256);
    assert_string_equal(credstore_version(), CREDSTORE_VERSION);
}

static void test_first_word_stays(void **state)
{
    credstore_error err;

    (void)state;
    memset(&err, 0xff, sizeof err);
    cs_error_clear(&err);
    assert_int_equal(err.status, CREDSTORE_OK);
    assert_string_equal(err.message, "");
    assert_int_equal(cs_fail(&err, CREDSTORE_OK, "field", "nothing"), CREDSTORE_OK);
    assert_string_equal(err.message, "");
    assert_int_equal(cs_fail(&err, CREDSTORE_E_INTEGRITY, "secret_key", "first"),
                     CREDSTORE_E_INTEGRITY);
    assert_int_equal(cs_fail(&err, CREDSTORE_E_STORAGE, "other", "second"), CREDSTORE_E_STORAGE);
    assert_int_equal(cs_fail_native(&err, CREDSTORE_E_FULL, 28, "third"), CREDSTORE_E_FULL);
    assert_int_equal(cs_fail_at(&err, CREDSTORE_E_INVALID, "x", 9, "fourth"), CREDSTORE_E_INVALID);
    assert_int_equal(err.status, CREDSTORE_E_INTEGRITY);
    assert_string_equal(err.field, "secret_key");
    assert_string_equal(err.message, "first");
    assert_int_equal(err.native, 0);
    assert_int_equal(err.offset, 0);
    cs_error_clear(NULL);
    assert_int_equal(cs_fail(NULL, CREDSTORE_E_BUSY, NULL, "nobody listens"), CREDSTORE_E_BUSY);
}

static void test_members_of_an_error(void **state)
{
    char long_text[400];
    credstore_error err = {0};

    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    cs_fail_at(&err, CREDSTORE_E_INVALID, long_text, SIZE_MAX, long_text);
    assert_int_equal(strlen(err.field), sizeof err.field - 1);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_true(err.offset == UINT32_MAX);
    assert_int_equal(err.retry_after_s, 0);
    cs_error_clear(&err);
    cs_fail_at(&err, CREDSTORE_E_INVALID, NULL, 12, NULL);
    assert_int_equal(err.offset, 12);
    assert_string_equal(err.field, "");
    assert_string_equal(err.message, "");
    cs_error_clear(&err);
    cs_fail_native(&err, CREDSTORE_E_STORAGE, 28, "line");
    assert_int_equal(err.native, 28);
    cs_error_clear(&err);
    cs_fail(&err, CREDSTORE_E_BUSY, NULL, "line");
    assert_true(err.retry_after_s > 0);
}

/* What an engine or a provider answers. Nothing outside its closed set is a success, 0 above all;
   and STOP is a sink's word, not an engine's. */
static void test_backends_results(void **state)
{
    static const struct {
        int32_t result;
        credstore_status status;
    } storage[] =
        {
            {CREDSTORE_STORAGE_NOT_FOUND, CREDSTORE_E_STORAGE}, /* where it is no answer */
            {CREDSTORE_STORAGE_CONFLICT, CREDSTORE_E_CONFLICT},
            {CREDSTORE_STORAGE_UNKNOWN, CREDSTORE_E_COMMIT_UNKNOWN},
            {CREDSTORE_STORAGE_BUSY, CREDSTORE_E_BUSY},
            {CREDSTORE_STORAGE_UNAVAILABLE, CREDSTORE_E_STORAGE},
            {CREDSTORE_STORAGE_FULL, CREDSTORE_E_FULL},
            {CREDSTORE_STORAGE_TOO_LARGE, CREDSTORE_E_TOO_LARGE},
            {CREDSTORE_STORAGE_CORRUPT, CREDSTORE_E_INTEGRITY},
            {CREDSTORE_STORAGE_NO_MEMORY, CREDSTORE_E_NO_MEMORY},
            {CREDSTORE_STORAGE_STOP, CREDSTORE_E_STORAGE},
            {0, CREDSTORE_E_STORAGE},
            {12, CREDSTORE_E_STORAGE},
            {-1, CREDSTORE_E_STORAGE},
            {INT32_MAX, CREDSTORE_E_STORAGE},
            {INT32_MIN, CREDSTORE_E_STORAGE},
        },
      crypto[] = {
          {CREDSTORE_CRYPTO_BAD_TAG, CREDSTORE_E_INTEGRITY},
          {CREDSTORE_CRYPTO_FAILED, CREDSTORE_E_INTERNAL},
          {CREDSTORE_CRYPTO_NO_MEMORY, CREDSTORE_E_NO_MEMORY},
          {CREDSTORE_CRYPTO_NO_ENTROPY, CREDSTORE_E_ENTROPY},
          {0, CREDSTORE_E_INTERNAL},
          {6, CREDSTORE_E_INTERNAL},
          {-1, CREDSTORE_E_INTERNAL},
          {INT32_MAX, CREDSTORE_E_INTERNAL},
          {INT32_MIN, CREDSTORE_E_INTERNAL},
      };
    credstore_error err;

    (void)state;
    for (size_t i = 0; i < sizeof storage / sizeof *storage; i++) {
        cs_error_clear(&err);
        assert_int_equal(cs_fail_storage(&err, storage[i].result, 77, "line"), storage[i].status);
        assert_int_equal(err.status, storage[i].status);
        assert_int_equal(err.native, 77);
        assert_true(err.message[0] != '\0');
    }
    for (size_t i = 0; i < sizeof crypto / sizeof *crypto; i++) {
        cs_error_clear(&err);
        assert_int_equal(cs_fail_crypto(&err, crypto[i].result, "line"), crypto[i].status);
        assert_int_equal(err.status, crypto[i].status);
    }
    assert_int_equal(cs_fail_storage(NULL, CREDSTORE_STORAGE_OK, 0, "line"), CREDSTORE_OK);
    assert_int_equal(cs_fail_crypto(NULL, CREDSTORE_CRYPTO_OK, "line"), CREDSTORE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_free_wipes),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_equal_secret),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_buffer_wipes),
        cmocka_unit_test(test_buffer_fails),
        cmocka_unit_test(test_status_table),
        cmocka_unit_test(test_first_word_stays),
        cmocka_unit_test(test_members_of_an_error),
        cmocka_unit_test(test_backends_results),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
