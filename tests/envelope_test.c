/* SPDX-License-Identifier: MIT
 *
 * Sealed boxes: bound to their place, whole or nothing. And the storage keys, byte by byte.
 */
#include "fixture.h"

#include "envelope.h"
#include "error.h"
#include "format.h"
#include "keyring.h"

enum { BOX_HEAD = 4 + 4 + 24 + 16, LABELS = 9 };

static const uint8_t nonce[CS_NONCE_LEN] = "a nonce of 24 bytes.....";

typedef struct bench {
    fx_crypto crypto;
    cs_sealer sealer;
    cs_data_key key, name;
} bench;

static void load(bench *b, uint32_t suite, uint8_t fill, cs_data_key *key)
{
    credstore_error err = {0};
    uint8_t raw[CS_DATA_KEY_LEN];

    memset(raw, fill, sizeof raw);
    fx_ok(cs_data_key_load(&b->sealer, suite, raw, key, &err), &err);
}

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);
    credstore_error err = {0};

    assert_non_null(b);
    fx_ok(cs_openssl_new(&b->crypto.openssl, &err), &err);
    b->sealer.crypto = &fx_provider;
    b->sealer.ctx = &b->crypto;
    memcpy(b->sealer.store_id, "0123456789abcdef", CS_STORE_ID_LEN);
    b->key.id = 7;
    load(b, CREDSTORE_SUITE_XAES_256_GCM, 0x11, &b->key);
    load(b, CREDSTORE_SUITE_HMAC_SHA256, 0x22, &b->name);
    *state = b;
    return 0;
}

static int end(void **state)
{
    bench *b = *state;

    cs_data_key_free(&b->sealer, &b->key);
    cs_data_key_free(&b->sealer, &b->name);
    assert_int_equal(b->crypto.loaded, b->crypto.freed);
    cs_crypto_openssl.close(b->crypto.openssl);
    free(b);
    return 0;
}

static cs_label label_of(const char *id)
{
    const cs_label label = {.role = CS_ROLE_PART,
                            .field = 2,
                            .revision = 3,
                            .at = {.kind = 1, .scope = "scope of 16 byt", .id = cs_bytes_of(id)}};

    return label;
}

static cs_buf seal(bench *b, const cs_label *label, credstore_bytes plain)
{
    credstore_error err = {0};
    cs_buf out = {0};

    fx_ok(cs_seal(&b->sealer, &b->key, label, nonce, plain, &out, NULL, &err), &err);
    assert_int_equal(out.len, BOX_HEAD + plain.len);
    return out;
}

static cs_box box_of(const cs_buf *sealed)
{
    credstore_bytes in = cs_bytes(sealed->ptr, sealed->len);
    cs_box box;

    assert_true(cs_box_take(&in, &box));
    assert_int_equal(in.len, 0);
    return box;
}

static credstore_status open_box(bench *b, const cs_label *label, const cs_box *box, uint8_t *out)
{
    credstore_error err = {0};
    const credstore_status status = cs_unseal(&b->sealer, &b->key, label, box, out, &err);

    assert_int_equal(err.status, status);
    return status;
}

/* ---- what comes back ---- */

static void test_round_trip(void **state)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 4096, CS_VALUE_MAX};
    bench *b = *state;
    const cs_label label = label_of("id");
    uint8_t *plain = malloc(CS_VALUE_MAX), *out = malloc(CS_VALUE_MAX);
    cs_box box;

    assert_true(plain != NULL && out != NULL);
    for (size_t i = 0; i < CS_VALUE_MAX; i++)
        plain[i] = (uint8_t)(i * 31 + i / 256);
    for (size_t i = 0; i < FX_COUNT(lengths); i++) {
        cs_buf sealed = seal(b, &label, cs_bytes(plain, lengths[i]));

        box = box_of(&sealed);
        assert_int_equal(box.key_id, 7);
        assert_int_equal(box.sealed.len, lengths[i]);
        assert_int_equal(box.whole.len, sealed.len);
        assert_memory_equal(box.nonce, nonce, CS_NONCE_LEN);
        assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_OK);
        assert_memory_equal(out, plain, lengths[i]);
        if (lengths[i] >= 15)
            assert_memory_not_equal(box.sealed.ptr, plain, lengths[i]);
        cs_buf_free(&sealed);
    }
    free(plain);
    free(out);
}

/* The associated data, laid out by hand and given to the provider: what credstore-format(5) says.
 */
static void test_layout(void **state)
{
    bench *b = *state;
    const cs_label label = {
        .role = 4, .field = 0x0102, .revision = UINT64_C(0x0102030405060708), .at = {.kind = 3}};
    cs_label named = label;
    uint8_t head[] = "\x01"
                     "0123456789abcdef"
                     "\x04\x03"
                     "SSSSSSSSSSSSSSSS"
                     "\x00\x03"
                     "key"
                     "\x01\x02"
                     "\x01\x02\x03\x04\x05\x06\x07\x08"
                     "\x00\x00\x00\x07";
    uint8_t out[5], tag[CS_TAG_LEN];
    credstore_error err = {0};
    cs_buf sealed = {0};

    memset(named.at.scope, 'S', CS_SCOPE_LEN);
    named.at.id = cs_bytes_of("key");
    fx_ok(cs_seal(&b->sealer, &b->key, &named, nonce, cs_bytes("plain", 5), &sealed, tag, &err),
          &err);
    assert_int_equal(sealed.len, 4 + 4 + 24 + 16 + 5);
    assert_int_equal(cs_get_u32(sealed.ptr), 7);
    assert_int_equal(cs_get_u32(sealed.ptr + 4), 5);
    assert_memory_equal(sealed.ptr + 8, nonce, 24);
    assert_memory_equal(sealed.ptr + 32, tag, 16);
    assert_int_equal(cs_crypto_openssl.open(b->crypto.openssl, b->key.handle, nonce,
                                            cs_bytes(head, sizeof head - 1),
                                            cs_bytes(sealed.ptr + 48, 5), tag, out),
                     CREDSTORE_CRYPTO_OK);
    assert_memory_equal(out, "plain", 5);
    cs_buf_free(&sealed);
}

/* ---- bound to the place ---- */

/* Places that differ from label_of("id") in one thing each. */
static cs_label elsewhere(int which)
{
    cs_label label = label_of(which == 0 ? "ie" : which == 1 ? "id2" : which == 2 ? "i" : "id");

    if (which == 3)
        label.at.id.len = 0;
    if (which == 4)
        label.role = CS_ROLE_CURRENT;
    if (which == 5)
        label.at.kind = 2;
    if (which == 6)
        label.at.scope[15] ^= 1;
    if (which == 7)
        label.field = 3;
    if (which == 8)
        label.revision = 4;
    return label;
}

static void test_other_places(void **state)
{
    bench *b = *state;
    const cs_label label = label_of("id");
    cs_buf sealed = seal(b, &label, cs_bytes_of("a value"));
    cs_box box = box_of(&sealed);
    uint8_t out[8];

    for (int which = 0; which < LABELS; which++) {
        const cs_label other = elsewhere(which);

        memset(out, 0xee, sizeof out);
        assert_int_equal(open_box(b, &other, &box, out), CREDSTORE_E_INTEGRITY);
        assert_memory_not_equal(out, "a value", 7); /* nothing of it comes out */
    }
    b->sealer.store_id[0] ^= 1;
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_E_INTEGRITY);
    b->sealer.store_id[0] ^= 1;
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_OK);
    cs_buf_free(&sealed);
}

/* An id's end cannot be taken for the field behind it, nor the other way round. */
static void test_no_two_places_alike(void **state)
{
    bench *b = *state;
    cs_label one = label_of("id"), two;
    uint8_t id[4] = {'i', 'd', 0, 0};
    cs_buf sealed;
    cs_box box;
    uint8_t out[8];

    one.field = 0x0000;
    one.revision = UINT64_C(0x0000aabbccddeeff);
    two = one;
    two.at.id = cs_bytes(id, sizeof id);
    two.revision = UINT64_C(0xaabbccddeeff0000);
    sealed = seal(b, &one, cs_bytes_of("a value"));
    box = box_of(&sealed);
    assert_int_equal(open_box(b, &two, &box, out), CREDSTORE_E_INTEGRITY);
    cs_buf_free(&sealed);
}

/* The key's id is authentic: two ids of one key, or two keys of one id, do not open each other's.
 */
static void test_other_key(void **state)
{
    bench *b = *state;
    const cs_label label = label_of("id");
    cs_buf sealed = seal(b, &label, cs_bytes_of("a value"));
    cs_data_key kept = b->key;
    uint8_t out[8];
    cs_box box;

    cs_put_u32(sealed.ptr, 8);
    box = box_of(&sealed);
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_E_INTEGRITY);
    cs_put_u32(sealed.ptr, 7);
    load(b, CREDSTORE_SUITE_XAES_256_GCM, 0x12, &b->key);
    box = box_of(&sealed);
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_E_INTEGRITY);
    cs_data_key_free(&b->sealer, &b->key);
    b->key = kept;
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_OK);
    cs_buf_free(&sealed);
}

/* ---- damage ---- */

static void test_every_bit(void **state)
{
    bench *b = *state;
    const cs_label label = label_of("id");
    cs_buf sealed = seal(b, &label, cs_bytes_of("a value"));
    uint8_t out[64];

    for (size_t bit = 0; bit < 8 * sealed.len; bit++) {
        credstore_bytes in = cs_bytes(sealed.ptr, sealed.len);
        cs_box box;
        bool opened;

        sealed.ptr[bit / 8] = (uint8_t)(sealed.ptr[bit / 8] ^ 1U << bit % 8);
        opened =
            cs_box_take(&in, &box) && in.len == 0 && open_box(b, &label, &box, out) == CREDSTORE_OK;
        assert_false(opened);
        sealed.ptr[bit / 8] = (uint8_t)(sealed.ptr[bit / 8] ^ 1U << bit % 8);
    }
    cs_buf_free(&sealed);
}

/* Cut at each length, in a block of just that size, so that a read behind it is seen. */
static void test_cut_and_extended(void **state)
{
    bench *b = *state;
    const cs_label label = label_of("id");
    cs_buf value = {0};
    credstore_error err = {0};
    uint8_t *exact;
    cs_box box;

    fx_ok(cs_seal_value(&b->sealer, &b->key, &label, nonce, cs_bytes_of("a value"), &value, &err),
          &err);
    assert_int_equal(value.len, 1 + BOX_HEAD + 7);
    fx_ok(cs_value_box(cs_bytes(value.ptr, value.len), &box, &err), &err);
    for (size_t len = 0; len < value.len; len++) {
        credstore_bytes in;

        exact = malloc(len == 0 ? 1 : len);
        assert_non_null(exact);
        memcpy(exact, value.ptr, len);
        cs_error_clear(&err);
        fx_fails(cs_value_box(cs_bytes(exact, len), &box, &err), CREDSTORE_E_INTEGRITY, &err);
        in = cs_bytes(exact, len);
        if (len > 0) {
            in = cs_bytes(exact + 1, len - 1);
            assert_false(cs_box_take(&in, &box));
            assert_int_equal(in.len, len - 1); /* not taken */
        }
        free(exact);
    }
    cs_buf_u8(&value, 0);
    cs_error_clear(&err);
    fx_fails(cs_value_box(cs_bytes(value.ptr, value.len), &box, &err), CREDSTORE_E_INTEGRITY, &err);
    cs_buf_free(&value);
}

static void test_formats(void **state)
{
    bench *b = *state;
    const cs_label label = label_of("id");
    credstore_error err = {0};
    cs_buf value = {0};
    cs_box box;

    fx_ok(cs_seal_value(&b->sealer, &b->key, &label, nonce, cs_bytes_of("x"), &value, &err), &err);
    for (unsigned format = 0; format < 256; format++) {
        value.ptr[0] = (uint8_t)format;
        cs_error_clear(&err);
        assert_int_equal(cs_value_box(cs_bytes(value.ptr, value.len), &box, &err),
                         format == CS_FORMAT ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
    }
    cs_buf_free(&value);
}

static void test_boxes_in_a_row(void **state)
{
    bench *b = *state;
    const cs_label label = label_of("id");
    credstore_error err = {0};
    credstore_bytes in;
    cs_buf all = {0};
    uint8_t out[3];
    cs_box box;

    fx_ok(cs_seal(&b->sealer, &b->key, &label, nonce, cs_bytes("one", 3), &all, NULL, &err), &err);
    fx_ok(cs_seal(&b->sealer, &b->key, &label, nonce, cs_bytes("two", 3), &all, NULL, &err), &err);
    in = cs_bytes(all.ptr, all.len);
    assert_true(cs_box_take(&in, &box));
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_OK);
    assert_memory_equal(out, "one", 3);
    assert_true(cs_box_take(&in, &box));
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_OK);
    assert_memory_equal(out, "two", 3);
    assert_false(cs_box_take(&in, &box));
    cs_buf_free(&all);
}

/* ---- limits and failures ---- */

static void test_limits(void **state)
{
    bench *b = *state;
    char id[CS_ID_MAX + 2];
    cs_label label;
    credstore_error err = {0};
    cs_buf sealed = {0};
    uint8_t *plain = calloc(1, CS_VALUE_MAX + 1), out[1];
    cs_box box;

    assert_non_null(plain);
    memset(id, 'i', sizeof id);
    id[CS_ID_MAX] = '\0';
    label = label_of(id);
    sealed = seal(b, &label, cs_bytes("x", 1));
    box = box_of(&sealed);
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_OK);
    label.at.id.len = CS_ID_MAX + 1;
    assert_int_equal(open_box(b, &label, &box, out), CREDSTORE_E_INTERNAL);
    cs_buf_free(&sealed);
    fx_fails(cs_seal(&b->sealer, &b->key, &label, nonce, cs_bytes("x", 1), &sealed, NULL, &err),
             CREDSTORE_E_TOO_LARGE, &err);
    label.at.id.len = CS_ID_MAX;
    cs_error_clear(&err);
    fx_fails(cs_seal(&b->sealer, &b->key, &label, nonce, cs_bytes(plain, CS_VALUE_MAX + 1), &sealed,
                     NULL, &err),
             CREDSTORE_E_TOO_LARGE, &err);
    assert_int_equal(sealed.len, 0);
    cs_buf_free(&sealed);
    free(plain);
}

/* 0 is what a callback answers that raised an exception in another language. */
static void test_provider_fails(void **state)
{
    static const struct {
        int32_t result;
        credstore_status status;
    } rows[] = {
        {0, CREDSTORE_E_INTERNAL},
        {-1, CREDSTORE_E_INTERNAL},
        {CREDSTORE_CRYPTO_FAILED, CREDSTORE_E_INTERNAL},
        {CREDSTORE_CRYPTO_NO_MEMORY, CREDSTORE_E_NO_MEMORY},
        {CREDSTORE_CRYPTO_BAD_TAG, CREDSTORE_E_INTEGRITY},
        {99, CREDSTORE_E_INTERNAL},
    };
    bench *b = *state;
    const cs_label label = label_of("id");
    const credstore_bytes part = cs_bytes_of("part");
    cs_buf sealed = seal(b, &label, cs_bytes_of("x")), none = {0};
    const cs_box box = box_of(&sealed);
    uint8_t out[32];

    for (size_t i = 0; i < FX_COUNT(rows); i++) {
        const fx_fault fault = {.times = 1, .result = rows[i].result};
        credstore_error err = {0};

        b->crypto.fault[FX_SEAL] = fault;
        fx_fails(cs_seal(&b->sealer, &b->key, &label, nonce, part, &none, NULL, &err),
                 rows[i].status, &err);
        cs_error_clear(&err);
        b->crypto.fault[FX_OPEN] = fault;
        fx_fails(cs_unseal(&b->sealer, &b->key, &label, &box, out, &err), rows[i].status, &err);
        cs_error_clear(&err);
        b->crypto.fault[FX_MAC] = fault;
        fx_fails(cs_name_mac(&b->sealer, &b->name, CS_NAME_SCOPE, &part, 1, out, &err),
                 rows[i].status, &err);
    }
    cs_buf_free(&none);
    cs_buf_free(&sealed);
}

/* ---- keyed names ---- */

static void name_of(bench *b, uint8_t domain, const char *one, const char *two, uint8_t out[32])
{
    const credstore_bytes parts[] = {cs_bytes_of(one), cs_bytes_of(two)};
    credstore_error err = {0};

    fx_ok(cs_name_mac(&b->sealer, &b->name, domain, parts, two == NULL ? 1 : 2, out, &err), &err);
}

static void test_names(void **state)
{
    static const uint8_t message[] = "\x01\0\0\0\x02"
                                     "ab"
                                     "\0\0\0\x01"
                                     "c";
    bench *b = *state;
    uint8_t expected[32], mac[32], other[32];

    assert_int_equal(cs_crypto_openssl.mac(b->crypto.openssl, b->name.handle,
                                           cs_bytes(message, sizeof message - 1), expected),
                     CREDSTORE_CRYPTO_OK);
    name_of(b, 1, "ab", "c", mac);
    assert_memory_equal(mac, expected, 32);
    name_of(b, 2, "ab", "c", other);
    assert_memory_not_equal(mac, other, 32);
    name_of(b, 1, "a", "bc", other);
    assert_memory_not_equal(mac, other, 32);
    name_of(b, 1, "abc", "", other);
    assert_memory_not_equal(mac, other, 32);
    name_of(b, 1, "abc", NULL, expected);
    assert_memory_not_equal(expected, other, 32);
}

static void test_long_names(void **state)
{
    bench *b = *state;
    uint8_t *text = calloc(1, 8192), out[32];
    const credstore_bytes longest = cs_bytes(text, 4096), too_long = cs_bytes(text, 8192);
    const credstore_bytes three[] = {cs_bytes(text, 4096), cs_bytes(text, 255), too_long};
    credstore_error err = {0};

    assert_non_null(text);
    fx_ok(cs_name_mac(&b->sealer, &b->name, 1, &longest, 1, out, &err), &err);
    fx_fails(cs_name_mac(&b->sealer, &b->name, 1, &too_long, 1, out, &err), CREDSTORE_E_TOO_LARGE,
             &err);
    cs_error_clear(&err);
    fx_fails(cs_name_mac(&b->sealer, &b->name, 1, three, 3, out, &err), CREDSTORE_E_TOO_LARGE,
             &err);
    free(text);
}

/* ---- storage keys ---- */

static void is_key(const cs_key *key, const char *hex)
{
    char text[2 * CS_KEY_MAX + 1];

    for (size_t i = 0; i < key->len; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned)key->ptr[i]);
    assert_string_equal(text, hex);
}

static void test_storage_keys(void **state)
{
    cs_locator at = {.kind = 2, .id = cs_bytes_of("id-1")};
    cs_key key;

    (void)state;
    memset(at.scope, 0xab, CS_SCOPE_LEN);
    cs_key_meta(&key, false);
    is_key(&key, "0100");
    cs_key_meta(&key, true);
    is_key(&key, "0101");
    cs_key_root(&key, 0x0102);
    is_key(&key, "020102");
    cs_key_keyring(&key, CS_PURPOSE_BODY);
    is_key(&key, "0301");
    cs_key_keyring(&key, CS_PURPOSE_SECRET);
    is_key(&key, "0302");
    cs_key_catalogue(&key);
    is_key(&key, "04");
    cs_key_record(&key, &at);
    is_key(&key, "1002abababababababababababababababab69642d310000");
    cs_key_history(&key, &at, UINT64_C(0x0102030405060708));
    is_key(&key, "1002abababababababababababababababab69642d3100010102030405060708");
    cs_key_audit(&key, 0x0a0b, 5);
    is_key(&key, "200a0b000000000000000005");
    cs_key_head(&key, 0x0a0b);
    is_key(&key, "200a0b01");
    cs_key_usage(&key, &at);
    is_key(&key, "4002abababababababababababababababab69642d3100");
}

static int order(const cs_key *a, const cs_key *b)
{
    return cs_bytes_compare(cs_key_bytes(a), cs_key_bytes(b));
}

/* A record, its history from the oldest on, then the next record, even where one id starts with the
   other; the head right behind the last audit entry of its lane. */
static void test_order_of_keys(void **state)
{
    cs_locator at = {.kind = 1, .id = cs_bytes_of("abc")}, longer = at, longest = at;
    char id[CS_ID_MAX + 1] = "";
    cs_key keys[8];

    (void)state;
    memset(id, 'z', CS_ID_MAX);
    longer.id = cs_bytes_of("abc-");
    longest.id = cs_bytes(id, CS_ID_MAX);
    cs_key_record(&keys[0], &at);
    cs_key_history(&keys[1], &at, 1);
    cs_key_history(&keys[2], &at, 256);
    cs_key_history(&keys[3], &at, UINT64_MAX);
    cs_key_record(&keys[4], &longer);
    cs_key_history(&keys[5], &longest, UINT64_MAX);
    cs_key_audit(&keys[6], 0, UINT64_MAX);
    cs_key_head(&keys[7], 0);
    for (size_t i = 0; i + 1 < FX_COUNT(keys); i++)
        assert_true(order(&keys[i], &keys[i + 1]) < 0);
    cs_key_audit(&keys[0], 1, 0);
    assert_true(order(&keys[7], &keys[0]) < 0);
    assert_true(keys[5].len <= CS_KEY_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, begin, end),
        cmocka_unit_test_setup_teardown(test_layout, begin, end),
        cmocka_unit_test_setup_teardown(test_other_places, begin, end),
        cmocka_unit_test_setup_teardown(test_no_two_places_alike, begin, end),
        cmocka_unit_test_setup_teardown(test_other_key, begin, end),
        cmocka_unit_test_setup_teardown(test_every_bit, begin, end),
        cmocka_unit_test_setup_teardown(test_cut_and_extended, begin, end),
        cmocka_unit_test_setup_teardown(test_formats, begin, end),
        cmocka_unit_test_setup_teardown(test_boxes_in_a_row, begin, end),
        cmocka_unit_test_setup_teardown(test_limits, begin, end),
        cmocka_unit_test_setup_teardown(test_provider_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_names, begin, end),
        cmocka_unit_test_setup_teardown(test_long_names, begin, end),
        cmocka_unit_test(test_storage_keys),
        cmocka_unit_test(test_order_of_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
