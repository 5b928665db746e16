/* SPDX-License-Identifier: MIT
 *
 * The initialisers of slots say the same as their macros.
 */
#include <string.h>

#include "support.h"

static const char *const items[] = {"a", "b"};

#define assert_same(a, b)                                                                          \
    do {                                                                                           \
        assert_int_equal(sizeof(a), sizeof(b));                                                    \
        assert_memory_equal(&(a), &(b), sizeof(a));                                                \
    } while (0)

static void test_initialisers(void **state)
{
    const credstore_text text = CREDSTORE_TEXT("x"), cleared = CREDSTORE_CLEARED;
    const credstore_secret_text secret = CREDSTORE_SECRET("x", 1);
    const credstore_flag flag = CREDSTORE_FLAG(1);
    const credstore_time time = CREDSTORE_TIME(7), never = CREDSTORE_TIME_CLEARED;
    const credstore_strings strings = CREDSTORE_STRINGS(items, 2);
    credstore_text made_text;
    credstore_secret_text made_secret;
    credstore_flag made_flag;
    credstore_time made_time;
    credstore_strings made_strings;

    (void)state;
    credstore_text_init(&made_text, CREDSTORE_SET, text.ptr, CREDSTORE_NTS);
    assert_same(text, made_text);
    credstore_text_init(&made_text, CREDSTORE_CLEAR, NULL, 0);
    assert_same(cleared, made_text);
    credstore_secret_text_init(&made_secret, CREDSTORE_SET, secret.ptr, 1);
    assert_same(secret, made_secret);
    credstore_flag_init(&made_flag, CREDSTORE_SET, 1);
    assert_same(flag, made_flag);
    credstore_time_init(&made_time, CREDSTORE_SET, 7);
    assert_same(time, made_time);
    credstore_time_init(&made_time, CREDSTORE_CLEAR, 0);
    assert_same(never, made_time);
    credstore_strings_init(&made_strings, CREDSTORE_SET, items, 2);
    assert_same(strings, made_strings);
}

static void test_no_slot(void **state)
{
    (void)state;
    credstore_text_init(NULL, CREDSTORE_SET, "x", 1);
    credstore_secret_text_init(NULL, CREDSTORE_SET, "x", 1);
    credstore_flag_init(NULL, CREDSTORE_SET, 1);
    credstore_time_init(NULL, CREDSTORE_SET, 1);
    credstore_strings_init(NULL, CREDSTORE_SET, items, 2);
}

/* What needs nothing and frees nothing. */
static void test_nothing_to_free(void **state)
{
    char bytes[4] = "abc";

    (void)state;
    credstore_free(NULL);
    credstore_close(NULL);
    credstore_secret_free(NULL);
    credstore_key_source_free(NULL);
    credstore_answer_free(NULL);
    credstore_wipe(NULL, 0);
    credstore_wipe(bytes, sizeof bytes);
    assert_memory_equal(bytes, "\0\0\0", 4);
    assert_string_equal(credstore_version(), CREDSTORE_VERSION);
    assert_string_equal(credstore_status_name(CREDSTORE_E_NOT_FOUND), "E_NOT_FOUND");
    assert_non_null(credstore_status_name(-1));
    assert_non_null(credstore_status_name(INT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_initialisers),
        cmocka_unit_test(test_no_slot),
        cmocka_unit_test(test_nothing_to_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
