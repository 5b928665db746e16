/* SPDX-License-Identifier: MIT
 *
 * The strict scanner, the JSON reader and the JSON writer. Linked with
 * -Wl,--wrap=cs_alloc,--wrap=cs_free,--wrap=cs_free_wiped, through which allocations are failed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "json/json.h"
#include "json/strict.h"
#include "mem.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- a heap that is watched ------------------------------------------------------------------ */

/* Stands in the secrets of the tests: freed memory must not hold it. */
static const char marker[] = "sk_live_marker";

static struct {
    long calls, fail_at, live, dirty;
} heap;

/* A process may set cJSON's hooks though the library must not: so its allocations are seen here
   under any sanitizer. Each block has its size in front. */
typedef union block {
    size_t size;
    max_align_t align;
} block;

static bool heap_fails(void)
{
    return ++heap.calls == heap.fail_at;
}

static void look_for_marker(const void *ptr, size_t len)
{
    const char *bytes = ptr;

    for (size_t i = 0; i + sizeof marker - 1 <= len; i++)
        heap.dirty += memcmp(bytes + i, marker, sizeof marker - 1) == 0;
}

static void *hook_malloc(size_t size)
{
    block *b = heap_fails() ? NULL : malloc(sizeof *b + size);

    if (b == NULL)
        return NULL;
    memset(b + 1, 0, size);
    b->size = size;
    heap.live++;
    return b + 1;
}

static void hook_free(void *ptr)
{
    block *b = ptr;

    if (b == NULL)
        return;
    look_for_marker(b, b[-1].size);
    heap.live--;
    free(b - 1);
}

void *__real_cs_alloc(size_t count, size_t size);
void __real_cs_free(void *ptr);
void __real_cs_free_wiped(void *ptr, size_t len);
void *__wrap_cs_alloc(size_t count, size_t size);
void __wrap_cs_free(void *ptr);
void __wrap_cs_free_wiped(void *ptr, size_t len);

void *__wrap_cs_alloc(size_t count, size_t size)
{
    void *ptr = heap_fails() ? NULL : __real_cs_alloc(count, size);

    heap.live += ptr != NULL;
    return ptr;
}

void __wrap_cs_free(void *ptr)
{
    heap.live -= ptr != NULL;
    __real_cs_free(ptr);
}

/* What is freed so here is text: all of it must be covered. */
void __wrap_cs_free_wiped(void *ptr, size_t len)
{
    heap.live -= ptr != NULL;
    if (ptr != NULL)
        heap.dirty += strnlen(ptr, len) == len && ((const char *)ptr)[len] != '\0';
    __real_cs_free_wiped(ptr, len);
}

static int watch_heap(void **state)
{
    cJSON_Hooks hooks = {hook_malloc, hook_free};

    (void)state;
    memset(&heap, 0, sizeof heap);
    cJSON_InitHooks(&hooks);
    return 0;
}

static int leave_heap(void **state)
{
    (void)state;
    cJSON_InitHooks(NULL);
    return heap.live == 0 && heap.dirty == 0 ? 0 : -1;
}

/* ---- help ------------------------------------------------------------------------------------ */

/* From a block of exactly len bytes, so that a read behind it is seen by the sanitizers. */
static credstore_status scan(const char *text, size_t len, cs_json_map *map, credstore_error *err)
{
    char *exact = malloc(len > 0 ? len : 1);
    credstore_status status;

    assert_non_null(exact);
    memcpy(exact, text, len);
    memset(map, 0xAA, sizeof *map);
    cs_error_clear(err);
    status = cs_json_strict(exact, len, map, err);
    free(exact);
    return status;
}

static cs_json *parse(const char *text)
{
    const size_t len = strlen(text);
    char *exact = malloc(len);
    credstore_error err = {0};
    cs_json *json = NULL;

    assert_non_null(exact);
    memcpy(exact, text, len);
    if (cs_json_parse(exact, len, &json, &err) != CREDSTORE_OK)
        fail_msg("%s: %s at %u", text, err.message, err.offset);
    free(exact); /* nothing of json points there */
    return json;
}

static cs_json_member member(const cs_json *json, size_t index)
{
    cs_json_member out;

    memset(&out, 0xAA, sizeof out);
    cs_json_member_at(json, index, &out);
    return out;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int seed(void **state)
{
    const char *given = getenv("CREDSTORE_SEED");

    (void)state;
    random_state = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("CREDSTORE_SEED=%" PRIu64 "\n", random_state);
    random_state |= 1;
    return 0;
}

/* ---- strict ---------------------------------------------------------------------------------- */

static void strict_takes(void **state)
{
    static const struct {
        const char *text;
        size_t count;
    } good[] = {
        {"{}", 0},
        {" \t\r\n{ \t\r\n} \t\r\n", 0},
        {"{\"a\":1}", 1},
        {"{\"\":0,\"b\":[]}", 2},
        {"{\"a\":{\"a\":{\"a\":null}},\"b\":{\"a\":1}}", 2},
        {"{\"a\":[true,false,null,\"\",{},[[]]]}", 1},
        {"{ \"a\" : [ 1 , 2 ] , \"b\" : { \"c\" : 3 } }", 2},
        {"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u007F\\uabCD\"}", 1},
        {"{\"a\":\"\x7f \xC2\x80 \xE2\x82\xAC \xEF\xBB\xBF \xF0\x9D\x84\x9E \xF4\x8F\xBF\xBD\"}",
         1},
        {"{\"a\":\"\\uD834\\uDD1E\\uDBFF\\uDFFD\\uFEFF\\uFFFD\"}", 1},
        {"{\"a\":\"\\\\u0000\"}", 1},
        {"{\"a\":1,\"A\":2,\"a \":3,\"\\u00e4\":4,\"\\u00c4\":5}", 5},
        {"{\"a\":\"\\u0022\",\"\\u0022\":1,\"\\\\\":2}", 3},
        /* equal FNV-1a hashes */
        {"{\"costarring\":1,\"liquid\":2,\"altarage\":3,\"zinke\":4}", 4},
        {"{\"a\":[0,-0,0.0,-0.0,0e0,1E+2,1e-2,1.5e05,0.1,10,-1]}", 1},
        {"{\"a\":[9007199254740991,-9007199254740991,9007199254740993.0,1e16]}", 1},
        {"{\"a\":[1e308,-1e308,1e-400,1e-99999999999999999999,0e99999999999999999999]}", 1},
        {"{\"a\":[1.7976931348623157e308,1.7976931348623158e308,1.797693134862315807e+308]}", 1},
        {"{\"a\":[0.00017976931348623157e312,17976931348623157000.0e289]}", 1},
        {"{\"a\":0.1234567890123456789012345678901234567890123456789012345678901}", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        credstore_error err;
        cs_json_map map;

        if (scan(good[i].text, strlen(good[i].text), &map, &err) != CREDSTORE_OK)
            fail_msg("%s: %s at %u", good[i].text, err.message, err.offset);
        assert_int_equal(map.count, good[i].count);
        assert_int_equal(err.status, CREDSTORE_OK);
    }
}

#define BAD(text, at)                                                                              \
    {                                                                                              \
        text, sizeof text - 1, at                                                                  \
    }

typedef struct bad_case {
    const char *text;
    size_t len;
    uint32_t at;
} bad_case;

static void refuse_all(const bad_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        credstore_error err;
        cs_json_map map;
        const credstore_status status = scan(cases[i].text, cases[i].len, &map, &err);

        if (status != CREDSTORE_E_INVALID || err.offset != cases[i].at)
            fail_msg("%s: status %d, %s at %u, not %u", cases[i].text, (int)status, err.message,
                     err.offset, cases[i].at);
        assert_int_equal(err.status, CREDSTORE_E_INVALID);
        assert_int_equal(map.count, 0);
        assert_string_equal(err.field, "");
        assert_string_not_equal(err.message, "");
    }
}

static const bad_case bad_structure[] = {
    BAD("", 0),
    BAD("  ", 2),
    BAD("null", 0),
    BAD("[]", 0),
    BAD(" \"a\"", 1),
    BAD("1", 0),
    BAD("\xEF\xBB\xBF{}", 0),
    BAD("\xFE\xFF\0{\0}", 0),
    BAD("{\0}\0", 1),
    BAD("\0{}", 0),
    BAD("{}\0", 2),
    BAD("{} {}", 3),
    BAD("{}}", 2),
    BAD("{},", 2),
    BAD("{}//", 2),
    BAD("{/**/}", 1),
    BAD("{", 1),
    BAD("}", 0),
    BAD("{]", 1),
    BAD("{,}", 1),
    BAD("{\"a\"}", 4),
    BAD("{\"a\" 1}", 5),
    BAD("{\"a\":}", 5),
    BAD("{\"a\"::1}", 5),
    BAD("{\"a\":1,}", 7),
    BAD("{\"a\":1,,\"b\":2}", 7),
    BAD("{\"a\":1 \"b\":2}", 7),
    BAD("{\"a\":1;}", 6),
    BAD("{a:1}", 1),
    BAD("{'a':1}", 1),
    BAD("{1:1}", 1),
    BAD("{null:1}", 1),
    BAD("{\"a\":'b'}", 5),
    BAD("{\"a\":[1,]}", 8),
    BAD("{\"a\":[,1]}", 6),
    BAD("{\"a\":[1 2]}", 8),
    BAD("{\"a\":[1}}", 7),
    BAD("{\"a\":{]}", 6),
    BAD("{\"a\":[}", 6),
    BAD("{\"a\":[\"x\"", 9),
    BAD("{\"a\":tru}", 8),
    BAD("{\"a\":truE}", 8),
    BAD("{\"a\":nul", 8),
    BAD("{\"a\":False}", 5),
    BAD("{\"a\":nullx}", 9),
    BAD("{\"a\":NaN}", 5),
    BAD("{\"a\":Infinity}", 5),
    BAD("{\"a\":\v1}", 5),
    BAD("{\"a\":\f1}", 5),
    BAD("{\"a\":\xC2\xA0\x31}", 5),
    BAD("{\"a\":1\x1e}", 6),
    BAD("{\"a\":1,\"a\":2}", 7),
    BAD("{\"a\":1,\"b\":2,\"\\u0061\":3}", 13),
    BAD("{\"\":1,\"\":2}", 6),
    BAD("{\"\\u00e4\":1, \"\xC3\xA4\":2}", 13),
    BAD("{\"\\uD834\\udd1e\":1,\"\xF0\x9D\x84\x9E\":2}", 18),
    BAD("{\"\xE0\xA0\x80\":1,\"\\u0800\":2}", 9),
    BAD("{\"\\/\":1,\"/\":2}", 8),
    BAD("{\"a\":[{\"b\":{\"c\":1,\"c\":1}}]}", 18),
    BAD("{\"a\":\"a", 7),
    BAD("{\"a", 3),
};

static void strict_refuses_structure(void **state)
{
    (void)state;
    refuse_all(bad_structure, COUNT(bad_structure));
}

static const bad_case bad_strings[] = {
    BAD("{\"a\":\"\0\"}", 6),
    BAD("{\"a\":\"x\ny\"}", 7),
    BAD("{\"a\":\"\x1f\"}", 6),
    BAD("{\"a\t\":1}", 3),
    BAD("{\"a\":\"\\u0000\"}", 6),
    BAD("{\"x\\u0000\":1}", 3),
    BAD("{\"a\":\"\\x41\"}", 7),
    BAD("{\"a\":\"\\'\"}", 7),
    BAD("{\"a\":\"\\U0041\"}", 7),
    BAD("{\"a\":\"\\\n\"}", 7),
    BAD("{\"a\":\"\\\0\"}", 7),
    BAD("{\"a\":\"\\", 7),
    BAD("{\"a\":\"\\\"", 8),
    BAD("{\"a\":\"\\u12G4\"}", 10),
    BAD("{\"a\":\"\\u123\"}", 11),
    BAD("{\"a\":\"\\u12", 10),
    BAD("{\"a\":\"\\u+123\"}", 8),
    BAD("{\"a\":\"\\uD800\"}", 6),
    BAD("{\"a\":\"x\\uDC00\"}", 7),
    BAD("{\"a\":\"\\uD800\\n\"}", 6),
    BAD("{\"a\":\"\\uD800x\"}", 6),
    BAD("{\"a\":\"\\uD800\\uD800\\uDC00\"}", 6),
    BAD("{\"a\":\"\\uD800\\u0041\"}", 6),
    BAD("{\"a\":\"\\uDC00\\uD800\"}", 6),
    BAD("{\"a\":\"\\uDC00\\uDC00\"}", 6),
    BAD("{\"a\":\"\\uD800\\uE000\"}", 6),
    BAD("{\"a\":\"\\uD800\\uDC0\"}", 17),
    BAD("{\"\\uDFFF\":1}", 2),
    BAD("{\"a\":\"\\uFFFF\"}", 6),
    BAD("{\"a\":\"\\ufdd0\"}", 6),
    BAD("{\"a\":\"\\uD83F\\uDFFE\"}", 6),
    BAD("{\"a\":\"x\xEF\xBF\xBE\"}", 7),
    BAD("{\"a\":\"\xF4\x8F\xBF\xBF\"}", 6),
    BAD("{\"a\":\"\x80\"}", 6),
    BAD("{\"a\":\"\xFF\"}", 6),
    BAD("{\"a\":\"x\xC3\"}", 7),
    BAD("{\"a\":\"\xC3", 6),
    BAD("{\"a\":\"\xC3(\"}", 6),
    BAD("{\"a\":\"\xC0\xAF\"}", 6),
    BAD("{\"a\":\"\xC1\xBF\"}", 6),
    BAD("{\"a\":\"\xE0\x80\xAF\"}", 6),
    BAD("{\"a\":\"\xE2\x82\"}", 6),
    BAD("{\"a\":\"\xED\xA0\x80\"}", 6),
    BAD("{\"a\":\"\xED\xBF\xBF\"}", 6),
    BAD("{\"a\":\"\xF0\x80\x80\xAF\"}", 6),
    BAD("{\"a\":\"\xF4\x90\x80\x80\"}", 6),
    BAD("{\"a\":\"\xF8\x88\x80\x80\x80\"}", 6),
    BAD("{\"\xE4\":1}", 2),
    BAD("{\xE4}", 1),
    BAD("{\"a\":1}\xE4", 7),
    BAD("{\"a\":1,\"a\":\"\xE4\"}", 7), /* the first fault is told */
};

static void strict_refuses_strings(void **state)
{
    (void)state;
    refuse_all(bad_strings, COUNT(bad_strings));
}

static void strict_refuses_numbers(void **state)
{
    static const bad_case cases[] = {
        BAD("{\"a\":01}", 6),
        BAD("{\"a\":-01}", 7),
        BAD("{\"a\":00}", 6),
        BAD("{\"a\":+1}", 5),
        BAD("{\"a\":-}", 6),
        BAD("{\"a\":--1}", 6),
        BAD("{\"a\":-a}", 6),
        BAD("{\"a\":.5}", 5),
        BAD("{\"a\":-.5}", 6),
        BAD("{\"a\":5.}", 7),
        BAD("{\"a\":1.e5}", 7),
        BAD("{\"a\":1.2.3}", 8),
        BAD("{\"a\":1,5}", 7),
        BAD("{\"a\":1e}", 7),
        BAD("{\"a\":1e+}", 8),
        BAD("{\"a\":1e+-2}", 8),
        BAD("{\"a\":1e5.0}", 8),
        BAD("{\"a\":1e", 7),
        BAD("{\"a\":1", 6),
        BAD("{\"a\":0x10}", 6),
        BAD("{\"a\":1f}", 6),
        BAD("{\"a\":1_000}", 6),
        BAD("{\"a\":1 000}", 7),
        BAD("{\"a\":9007199254740992}", 5),
        BAD("{\"a\":[-9007199254740992]}", 6),
        BAD("{\"a\":18446744073709551617}", 5),
        BAD("{\"a\":100000000000000000000000000000000000000000}", 5),
        BAD("{\"a\":1e309}", 5),
        BAD("{\"a\":-1E+309}", 5),
        BAD("{\"a\":1e99999999999999999999}", 5),
        BAD("{\"a\":1.7976931348623159e308}", 5),
        BAD("{\"a\":1.7976931348623158080e308}", 5),
        BAD("{\"a\":0.0001e313}", 5),
        BAD("{\"a\":10000000000000000000000.0e287}", 5),
        BAD("{\"a\":0.12345678901234567890123456789012345678901234567890123456789012}", 5),
        BAD("{\"a\":1e00000000000000000000000000000000000000000000000000000000000001}", 5),
    };

    (void)state;
    refuse_all(cases, COUNT(cases));
}

/* A number around 2^1024 - 2^970, from where doubles are infinite: as many of its digits as wanted,
   the last one perhaps another, and the point moved. */
static void number_at_the_edge(char *out, size_t room)
{
    static const char edge[] = "1797693134862315807937289714053034150799341";
    static const char zeros[] = "00000000000";
    const int count = 1 + (int)(next_random() % (sizeof edge - 1));
    const int moved = (int)(next_random() % 10);
    char digits[sizeof edge];

    memcpy(digits, edge, sizeof edge);
    digits[count] = '\0';
    if (next_random() % 2 == 0)
        digits[count - 1] = (char)('0' + next_random() % 10);
    if (next_random() % 2 == 0)
        snprintf(out, room, "0.%.*s%se%d", moved, zeros, digits, 309 + moved);
    else
        snprintf(out, room, "%s%.*s.0E+%d", digits[0] == '0' ? "1" : digits, moved, zeros,
                 309 - count - moved);
}

static void any_number(char *out, size_t room)
{
    snprintf(out, room, "%u.%ue%d", (unsigned)(next_random() % 100000),
             (unsigned)(next_random() % 100000), (int)(next_random() % 660) - 330);
}

/* The scanner's own answer to "does it overflow" against strtod's. */
static void strict_knows_doubles(void **state)
{
    size_t infinite = 0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        char number[72], text[80];
        cs_json_map map;
        bool finite;

        if (i % 4 == 0)
            any_number(number, sizeof number);
        else
            number_at_the_edge(number, sizeof number);
        snprintf(text, sizeof text, "{\"a\":%s}", number);
        finite = isfinite(strtod(number, NULL)) != 0;
        infinite += finite ? 0 : 1;
        if ((cs_json_strict(text, strlen(text), &map, NULL) == CREDSTORE_OK) != finite)
            fail_msg("%s is %s", number, finite ? "finite" : "infinite");
    }
    assert_in_range(infinite, 1000, 19000);
}

/* Every beginning of a good text, and every one with a byte destroyed, is refused near there. */
static void strict_refuses_parts(void **state)
{
    static const char text[] =
        "{\"a\":[true,null,-1.5e+3,\"x\\uD834\\uDD1E\xE2\x82\xAC\"],\"b\":{\"c\":false}}";
    credstore_error err;
    cs_json_map map;
    char broken[sizeof text];

    (void)state;
    assert_int_equal(scan(text, sizeof text - 1, &map, &err), CREDSTORE_OK);
    for (size_t len = 0; len < sizeof text - 1; len++) {
        assert_int_equal(scan(text, len, &map, &err), CREDSTORE_E_INVALID);
        assert_true(err.offset <= len);
    }
    for (size_t i = 0; i < sizeof text - 1; i++) {
        memcpy(broken, text, sizeof text);
        broken[i] = '\0';
        assert_int_equal(scan(broken, sizeof text - 1, &map, &err), CREDSTORE_E_INVALID);
        assert_true(err.offset <= i && err.offset + 12 > i);
    }
}

static void strict_bounds_depth(void **state)
{
    static const char eight[] = "{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{}}}}}}}}";
    static const char nine[] = "{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{}}}}}}}}}";
    credstore_error err;
    cs_json_map map;

    (void)state;
    for (size_t arrays = 7; arrays <= 8; arrays++) {
        char text[64];
        const int length = snprintf(text, sizeof text, "{\"a\":%.*s%.*s}", (int)arrays, "[[[[[[[[",
                                    (int)arrays, "]]]]]]]]");

        assert_int_equal(scan(text, (size_t)length, &map, &err),
                         arrays == 7 ? CREDSTORE_OK : CREDSTORE_E_INVALID);
        assert_int_equal(err.offset, arrays == 7 ? 0 : 12);
    }
    assert_int_equal(scan(eight, sizeof eight - 1, &map, &err), CREDSTORE_OK);
    assert_int_equal(scan(nine, sizeof nine - 1, &map, &err), CREDSTORE_E_INVALID);
    assert_int_equal(err.offset, 32);
}

/* An object of count members n0, n1..., each name led by prefix; returns what was added. */
static size_t put_members(char *out, size_t count, const char *prefix)
{
    size_t len = 0;

    out[len++] = '{';
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(out + len, CS_JSON_MAX - len, "%s\"%sn%zu\":1", i == 0 ? "" : ",",
                                prefix, i);
    out[len++] = '}';
    out[len] = '\0';
    return len;
}

static void strict_bounds_members(void **state)
{
    static char text[CS_JSON_MAX + 2];
    credstore_error err;
    cs_json_map map;
    size_t len;

    (void)state;
    len = put_members(text, 64, "");
    assert_int_equal(scan(text, len, &map, &err), CREDSTORE_OK);
    assert_int_equal(map.count, 64);
    for (size_t i = 0; i < 64; i++)
        assert_true(text[map.value_at[i]] == '1' && text[map.value_at[i] - 1] == ':');
    len = put_members(text, 65, "");
    assert_int_equal(scan(text, len, &map, &err), CREDSTORE_E_INVALID);
    assert_ptr_equal(text + err.offset, strstr(text, "\"n64\""));
    memcpy(text, "{\"a\":", 5); /* in an inner object, too */
    len = put_members(text + 5, 65, "");
    text[5 + len] = '}';
    assert_int_equal(scan(text, len + 6, &map, &err), CREDSTORE_E_INVALID);
    assert_ptr_equal(text + err.offset, strstr(text, "\"n64\""));
    len = put_members(text + 5, 64, "");
    text[5 + len] = '}';
    assert_int_equal(scan(text, len + 6, &map, &err), CREDSTORE_OK);
    assert_int_equal(map.count, 1);
}

/* The longest names that look alike: 64 of a thousand bytes. */
static void strict_compares_long_names(void **state)
{
    static char text[CS_JSON_MAX + 1];
    char prefix[1001];
    credstore_error err;
    cs_json_map map;
    size_t len;
    char *last;

    (void)state;
    memset(prefix, 'p', sizeof prefix - 1);
    prefix[sizeof prefix - 1] = '\0';
    len = put_members(text, 64, prefix);
    assert_int_equal(scan(text, len, &map, &err), CREDSTORE_OK);
    last = strstr(text, "n63\"");
    memcpy(last, "n62\"", 4);
    assert_int_equal(scan(text, len, &map, &err), CREDSTORE_E_INVALID);
    assert_int_equal(err.offset, (size_t)(last - text) - 1001);
}

static void strict_bounds_size(void **state)
{
    static char text[CS_JSON_MAX + 2];
    credstore_error err;
    cs_json_map map;

    (void)state;
    memset(text, ' ', sizeof text);
    text[0] = '{';
    text[CS_JSON_MAX - 1] = '}';
    assert_int_equal(scan(text, CS_JSON_MAX, &map, &err), CREDSTORE_OK);
    assert_int_equal(scan(text, CS_JSON_MAX + 1, &map, &err), CREDSTORE_E_TOO_LARGE);
    assert_int_equal(err.status, CREDSTORE_E_TOO_LARGE);
    assert_int_equal(cs_json_strict(text, SIZE_MAX, &map, NULL), CREDSTORE_E_TOO_LARGE);
    assert_int_equal(cs_json_strict(NULL, 0, &map, NULL), CREDSTORE_E_INVALID);
    assert_int_equal(cs_json_strict("{", 1, &map, NULL), CREDSTORE_E_INVALID);
}

static void strict_keeps_the_first_word(void **state)
{
    credstore_error err = {0};
    cs_json_map map;

    (void)state;
    cs_fail(&err, CREDSTORE_E_BUSY, NULL, "before");
    assert_int_equal(cs_json_strict("{", 1, &map, &err), CREDSTORE_E_INVALID);
    assert_int_equal(err.status, CREDSTORE_E_BUSY);
    assert_string_equal(err.message, "before");
}

/* ---- in -------------------------------------------------------------------------------------- */

static void reads_members(void **state)
{
    static const char text[] = " { \"t\" : \"a\\n\\u20ac\\/\" , \"n\":null,\"y\":true,\"f\":false,"
                               "\"d\":-1.25e2,\"i\":9007199254740991,\"o\":{\"t\":1},\"a\":[],"
                               "\"s\":[\"x\",\"\",\"y\\u0041\"],\"\\u00e4\":[1]} ";
    static const struct {
        const char *name, *starts;
        cs_json_type type;
    } expected[] = {
        {"t", "\"a\\n", CS_JSON_STRING},    {"n", "null,", CS_JSON_NULL},
        {"y", "true", CS_JSON_BOOL},        {"f", "false", CS_JSON_BOOL},
        {"d", "-1.25e2", CS_JSON_NUMBER},   {"i", "9007", CS_JSON_NUMBER},
        {"o", "{\"t\":1}", CS_JSON_OBJECT}, {"a", "[]", CS_JSON_ARRAY},
        {"s", "[\"x\"", CS_JSON_ARRAY},     {"\xC3\xA4", "[1]", CS_JSON_ARRAY},
    };
    cs_json *json = parse(text);
    const char *items[3];
    cs_json_member m;

    (void)state;
    assert_int_equal(cs_json_count(json), COUNT(expected));
    for (size_t i = 0; i < COUNT(expected); i++) {
        m = member(json, i);
        assert_string_equal(m.name, expected[i].name);
        assert_int_equal(m.type, expected[i].type);
        assert_memory_equal(text + m.offset, expected[i].starts, strlen(expected[i].starts));
        assert_int_equal(m.flag, i == 2);
        assert_int_equal(m.text != NULL, m.type == CS_JSON_STRING);
        assert_int_equal(m.array != NULL, m.type == CS_JSON_ARRAY);
    }
    assert_string_equal(member(json, 0).text, "a\n\xE2\x82\xAC/");
    assert_true(member(json, 4).number == -125.0);
    assert_true(member(json, 5).number == 9007199254740991.0);
    m = member(json, 7);
    assert_int_equal(m.array_count, 0);
    assert_true(cs_json_strings(&m, items));
    m = member(json, 8);
    assert_int_equal(m.array_count, 3);
    assert_true(cs_json_strings(&m, items));
    assert_string_equal(items[0], "x");
    assert_string_equal(items[1], "");
    assert_string_equal(items[2], "yA");
    m = member(json, 9);
    assert_int_equal(m.array_count, 1);
    assert_false(cs_json_strings(&m, items));
    m = member(json, 0);
    assert_false(cs_json_strings(&m, items));
    cs_json_free(json);
}

static void reads_nothing_bad(void **state)
{
    credstore_error err = {0};
    cs_json *json = (cs_json *)&err;

    (void)state;
    assert_int_equal(cs_json_parse("{\"a\":1,\"a\":2}", 13, &json, &err), CREDSTORE_E_INVALID);
    assert_null(json);
    assert_int_equal(err.offset, 7);
    assert_int_equal(heap.calls, 0);
    json = parse("{}");
    assert_int_equal(cs_json_count(json), 0);
    cs_json_free(json);
    cs_json_free(NULL);
}

/* All that cJSON 1.7.15 takes into its number buffer, which strict lets through, arrives whole. */
static void reads_long_numbers(void **state)
{
    cs_json *json = parse("{\"a\":0.1234567890123456789012345678901234567890123456789012345678901,"
                          "\"b\":-1.7976931348623157e+308,\"c\":-0,\"d\":4.9e-324}");

    (void)state;
    assert_true(member(json, 0).number == 0.123456789012345678);
    assert_true(member(json, 1).number == -1.7976931348623157e+308);
    assert_true(member(json, 2).number == 0 && signbit(member(json, 2).number));
    assert_true(member(json, 3).number > 0);
    cs_json_free(json);
}

/* Names, texts, and both at depth; what cJSON frees is looked through (leave_heap). */
static void wipes_what_it_read(void **state)
{
    cs_json *json =
        parse("{\"secret_key\":\"sk_live_marker1\",\"sk_live_marker2\":[\"sk_live_marker"
              "3\",{\"x\":\"\\u0073k_live_marker\",\"sk_live_marker\":null}]}");

    (void)state;
    assert_string_equal(member(json, 0).text, "sk_live_marker1");
    assert_int_equal(heap.dirty, 0);
    cs_json_free(json);
    assert_int_equal(heap.dirty, 0);
    assert_int_equal(heap.live, 0);
}

static void sees_unwiped_memory(void **state)
{
    cJSON *tree = cJSON_Parse("{\"a\":\"sk_live_marker\"}");

    (void)state;
    cJSON_Delete(tree);
    assert_int_equal(heap.dirty, 1);
    heap.dirty = 0;
}

/* ---- out ------------------------------------------------------------------------------------- */

static void expect_text(cs_json_writer *writer, const char *expected)
{
    size_t len = 77;
    char *text = cs_json_writer_finish(writer, &len);

    assert_non_null(text);
    assert_string_equal(text, expected);
    assert_int_equal(len, strlen(expected));
    cs_json_text_free(text, len);
}

static void expect_none(cs_json_writer *writer)
{
    size_t len = 77;

    assert_null(cs_json_writer_finish(writer, &len));
    assert_int_equal(len, 0);
    assert_int_equal(heap.live, 0);
}

static void write_all(cs_json_writer *w)
{
    static const char *const items[] = {"read", "wr\"ite", ""};

    cs_json_write_text(w, "id", "sk_live_marker \xE2\x82\xAC");
    cs_json_write_text(w, "none", NULL);
    cs_json_write_flag(w, "yes", true);
    cs_json_write_flag(w, "no", false);
    cs_json_write_number(w, "n", -42);
    cs_json_write_strings(w, "list", items, 3);
    cs_json_write_strings(w, "empty", NULL, 0);
    cs_json_enter(w, "permissions");
    cs_json_enter(w, "users");
    cs_json_write_flag(w, "read", true);
    cs_json_leave(w);
    cs_json_leave(w);
    cs_json_enter_array(w, "items");
    cs_json_enter_item(w);
    cs_json_write_text(w, "id", "1");
    cs_json_leave(w);
    cs_json_enter_item(w);
    cs_json_leave(w);
    cs_json_leave(w);
    cs_json_enter(w, "permissions"); /* again */
    cs_json_enter(w, "users");
    cs_json_write_flag(w, "list", false);
    cs_json_leave(w);
    cs_json_enter(w, "Users"); /* another name */
    cs_json_leave(w);
    cs_json_leave(w);
    cs_json_write_text(w, "sk_live_marker", "\\ / \b\f\n\r\t\x01\x1f\x7f");
}

static const char all_written[] =
    "{\"id\":\"sk_live_marker \xE2\x82\xAC\",\"none\":null,\"yes\":true,\"no\":false,\"n\":-42,"
    "\"list\":[\"read\",\"wr\\\"ite\",\"\"],\"empty\":[],"
    "\"permissions\":{\"users\":{\"read\":true,\"list\":false},\"Users\":{}},"
    "\"items\":[{\"id\":\"1\"},{}],"
    "\"sk_live_marker\":\"\\\\ / \\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"}";

static void writes_everything(void **state)
{
    cs_json_writer *writer = cs_json_writer_new();

    (void)state;
    write_all(writer);
    expect_text(writer, all_written);
    expect_text(cs_json_writer_new(), "{}");
    writer = cs_json_writer_new();
    write_all(writer);
    cs_json_writer_abandon(writer);
    cs_json_writer_abandon(NULL);
    cs_json_text_free(NULL, 0);
}

static void writes_exact_numbers(void **state)
{
    static const struct {
        int64_t value;
        const char *text;
    } numbers[] = {
        {0, "{\"n\":0}"},
        {1700000000000, "{\"n\":1700000000000}"},
        {2147483648, "{\"n\":2147483648}"},
        {1000000000000000, "{\"n\":1000000000000000}"},
        {9007199254740990, "{\"n\":9007199254740990}"},
        {9007199254740991, "{\"n\":9007199254740991}"},
        {-9007199254740991, "{\"n\":-9007199254740991}"},
    };
    static const int64_t refused[] = {9007199254740992, -9007199254740992, INT64_MAX, INT64_MIN};

    (void)state;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        cs_json_writer *writer = cs_json_writer_new();
        cs_json *json = parse(numbers[i].text);

        cs_json_write_number(writer, "n", numbers[i].value);
        expect_text(writer, numbers[i].text);
        assert_true((int64_t)member(json, 0).number == numbers[i].value);
        cs_json_free(json);
    }
    for (size_t i = 0; i < COUNT(refused); i++) {
        cs_json_writer *writer = cs_json_writer_new();

        cs_json_write_number(writer, "n", refused[i]);
        expect_none(writer);
    }
}

/* Every length and every kind of byte fits into the block that is printed to. */
static void writes_any_size(void **state)
{
    static const char *const bytes[] = {"a", "\x01", "\"", "\n", "\xE2\x82\xAC"};

    (void)state;
    for (size_t kind = 0; kind < COUNT(bytes); kind++) {
        for (size_t n = 0; n < 3000; n = n < 70 ? n + 1 : n * 3) {
            char text[3 * 3000 + 1] = "";
            cs_json_writer *writer = cs_json_writer_new();
            const char *items[4] = {text, text, text, text};
            size_t len, at = 0;
            char *printed;
            cs_json *json;

            for (size_t i = 0; i < n; i++, at += strlen(bytes[kind]))
                memcpy(text + at, bytes[kind], strlen(bytes[kind]) + 1);
            cs_json_write_text(writer, "t", text);
            cs_json_write_strings(writer, "s", items, n < 1000 ? 4 : 1);
            cs_json_enter(writer, text);
            cs_json_leave(writer);
            printed = cs_json_writer_finish(writer, &len);
            assert_non_null(printed);
            json = parse(printed);
            assert_string_equal(member(json, 0).text, text);
            assert_string_equal(member(json, 2).name, text);
            cs_json_free(json);
            cs_json_text_free(printed, len);
        }
    }
}

static void misuse_name_in_array(cs_json_writer *w)
{
    cs_json_enter_array(w, "a");
    cs_json_write_flag(w, "x", true);
    cs_json_leave(w);
}

static void misuse_enter_in_array(cs_json_writer *w)
{
    cs_json_enter_array(w, "a");
    cs_json_enter(w, "x");
}

static void misuse_item_in_object(cs_json_writer *w)
{
    cs_json_enter_item(w);
    cs_json_leave(w);
}

static void misuse_enter_text(cs_json_writer *w)
{
    cs_json_write_text(w, "a", "b");
    cs_json_enter(w, "a");
    cs_json_leave(w);
}

static void misuse_leave(cs_json_writer *w)
{
    cs_json_leave(w);
    cs_json_enter(w, "a");
}

static void misuse_not_left(cs_json_writer *w)
{
    cs_json_enter(w, "a");
}

static void misuse_depth(cs_json_writer *w)
{
    for (int i = 0; i < 8; i++)
        cs_json_enter(w, "a");
    for (int i = 0; i < 8; i++)
        cs_json_leave(w);
}

static void use_depth(cs_json_writer *w)
{
    for (int i = 0; i < 7; i++)
        cs_json_enter(w, "a");
    for (int i = 0; i < 7; i++)
        cs_json_leave(w);
}

static void refuses_misuse(void **state)
{
    static void (*const misuses[])(cs_json_writer *) = {
        misuse_name_in_array, misuse_enter_in_array, misuse_item_in_object, misuse_enter_text,
        misuse_leave,         misuse_not_left,       misuse_depth,
    };
    cs_json_writer *writer;

    (void)state;
    for (size_t i = 0; i < COUNT(misuses); i++) {
        writer = cs_json_writer_new();
        misuses[i](writer);
        cs_json_write_text(writer, "after", marker);
        expect_none(writer);
    }
    writer = cs_json_writer_new();
    use_depth(writer);
    expect_text(writer, "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}");
    write_all(NULL);
    expect_none(NULL);
}

/* ---- memory runs out ------------------------------------------------------------------------- */

static void parse_survives_no_memory(void **state)
{
    static const char text[] = "{\"a\":[\"x\",{\"b\":1.5}],\"c\":\"y\\u0041\",\"d\":null}";
    long n = 0;
    credstore_status status;

    (void)state;
    do {
        credstore_error err = {0};
        cs_json *json = (cs_json *)&err;

        heap.calls = 0;
        heap.fail_at = ++n;
        status = cs_json_parse(text, sizeof text - 1, &json, &err);
        if (status != CREDSTORE_OK) {
            assert_int_equal(status, CREDSTORE_E_NO_MEMORY);
            assert_int_equal(err.status, CREDSTORE_E_NO_MEMORY);
            assert_null(json);
        }
        cs_json_free(json);
        assert_int_equal(heap.live, 0);
    } while (status != CREDSTORE_OK);
    assert_true(n > 13); /* an index, 7 items, 4 names, 2 texts; some releases copy numbers, too */
}

static void writer_survives_no_memory(void **state)
{
    char *text = NULL;
    long n = 0;

    (void)state;
    do {
        cs_json_writer *writer;
        size_t len;

        heap.calls = 0;
        heap.fail_at = ++n;
        writer = cs_json_writer_new();
        write_all(writer);
        text = cs_json_writer_finish(writer, &len);
        if (text != NULL)
            assert_string_equal(text, all_written);
        cs_json_text_free(text, len);
        assert_int_equal(heap.live, 0);
        assert_int_equal(heap.dirty, 0);
    } while (text != NULL ? false : n < 1000);
    assert_non_null(text);
    assert_int_equal(n, heap.calls + 1);
    assert_true(n > 40);
}

static void abandon_survives_no_memory(void **state)
{
    (void)state;
    for (long n = 1; n < 60; n++) {
        cs_json_writer *writer;

        heap.calls = 0;
        heap.fail_at = n;
        writer = cs_json_writer_new();
        write_all(writer);
        cs_json_writer_abandon(writer);
        assert_int_equal(heap.live, 0);
        assert_int_equal(heap.dirty, 0);
    }
}

/* ---- locales --------------------------------------------------------------------------------- */

/* Makes one in a folder of its own, where the system has its sources but not the locale. */
static bool make_locale(const char *folder, const char *source)
{
    char command[256];

    snprintf(command, sizeof command, "localedef -i %s -f UTF-8 %s/%s.UTF-8 >/dev/null 2>&1",
             source, folder, source);
    return system(command) == 0;
}

static bool set_locale(const char *folder, const char *source)
{
    char name[64];

    snprintf(name, sizeof name, "%s.UTF-8", source);
    if (setlocale(LC_ALL, name) != NULL)
        return true;
    return make_locale(folder, source) && setenv("LOCPATH", folder, 1) == 0 &&
           setlocale(LC_ALL, name) != NULL;
}

static void check_in_locale(const char *point)
{
    static const char text[] = "{\"a\":1.5,\"b\":-2.25e-1,\"c\":[0.5],\"d\":9007199254740991}";
    const locale_t before = uselocale((locale_t)0);
    cs_json *json = parse(text);
    cs_json_writer *writer = cs_json_writer_new();
    cs_json_map map;

    assert_true(member(json, 0).number == 1.5);
    assert_true(member(json, 1).number == -0.225);
    assert_true(member(json, 3).number == 9007199254740991.0);
    cs_json_free(json);
    assert_int_equal(cs_json_strict("{\"a\":1,5}", 9, &map, NULL), CREDSTORE_E_INVALID);
    assert_int_equal(cs_json_strict("{\"a\":1.8e308}", 13, &map, NULL), CREDSTORE_E_INVALID);
    cs_json_write_number(writer, "n", 9007199254740991);
    cs_json_write_number(writer, "m", -1234567);
    expect_text(writer, "{\"n\":9007199254740991,\"m\":-1234567}");
    assert_ptr_equal(uselocale((locale_t)0), before); /* the caller's is put back */
    assert_string_equal(localeconv()->decimal_point, point);
}

static char locale_folder[40];

static int begin_locales(void **state)
{
    (void)state;
    snprintf(locale_folder, sizeof locale_folder, "/tmp/credstore-locale-XXXXXX");
    return mkdtemp(locale_folder) != NULL ? 0 : -1;
}

static int end_locales(void **state)
{
    char command[64];

    (void)state;
    setlocale(LC_ALL, "C");
    unsetenv("LOCPATH");
    snprintf(command, sizeof command, "rm -rf %s", locale_folder);
    return system(command);
}

static void any_locale_reads_alike(void **state)
{
    static const struct {
        const char *source, *point;
    } locales[] = {{"de_DE", ","}, {"ps_AF", "\xD9\xAB"}};
    size_t tried = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(locales); i++) {
        if (set_locale(locale_folder, locales[i].source)) {
            check_in_locale(locales[i].point);
            tried++;
        } else
            printf("not tried: locale %s.UTF-8 is not installed and localedef cannot make it\n",
                   locales[i].source);
        setlocale(LC_ALL, "C");
        unsetenv("LOCPATH");
    }
    if (tried == 0) {
        printf("skipped: none of the locales is there\n");
        skip();
    }
}

/* ---- */

#define WATCHED(test) cmocka_unit_test_setup_teardown(test, watch_heap, leave_heap)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_takes),
        cmocka_unit_test(strict_refuses_structure),
        cmocka_unit_test(strict_refuses_strings),
        cmocka_unit_test(strict_refuses_numbers),
        cmocka_unit_test(strict_knows_doubles),
        cmocka_unit_test(strict_refuses_parts),
        cmocka_unit_test(strict_bounds_depth),
        cmocka_unit_test(strict_bounds_members),
        cmocka_unit_test(strict_compares_long_names),
        cmocka_unit_test(strict_bounds_size),
        cmocka_unit_test(strict_keeps_the_first_word),
        WATCHED(reads_members),
        WATCHED(reads_nothing_bad),
        WATCHED(reads_long_numbers),
        WATCHED(wipes_what_it_read),
        WATCHED(sees_unwiped_memory),
        WATCHED(writes_everything),
        WATCHED(writes_exact_numbers),
        WATCHED(writes_any_size),
        WATCHED(refuses_misuse),
        WATCHED(parse_survives_no_memory),
        WATCHED(writer_survives_no_memory),
        WATCHED(abandon_survives_no_memory),
        cmocka_unit_test_setup_teardown(any_locale_reads_alike, begin_locales, end_locales),
    };

    return cmocka_run_group_tests(tests, seed, NULL);
}
