/* SPDX-License-Identifier: MIT
 *
 * Root slots: a slot of another key or method is passed by, one's own is opened or found damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/openssl.h"
#include "root.h"

enum { HEAD_LEN = 19, SLOT = 3, SALT_LEN = 41, BLOB_LEN = 100 };

typedef struct fixture {
    cs_sealer sealer;
    credstore_key_source *mine, *other;
    uint8_t keys[CS_STORE_KEYS_LEN], out[CS_STORE_KEYS_LEN], rights;
    bool ours;
    cs_buf value;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    uint8_t raw[32];

    memset(&f, 0, sizeof f);
    memset(f.sealer.store_id, 0x5a, sizeof f.sealer.store_id);
    memset(f.keys, 0xc3, sizeof f.keys);
    f.sealer.crypto = &cs_crypto_openssl;
    memset(raw, 1, sizeof raw);
    if (cs_openssl_new(&f.sealer.ctx, NULL) != CREDSTORE_OK ||
        credstore_key_bytes(raw, sizeof raw, &f.mine, NULL) != CREDSTORE_OK)
        return -1;
    memset(raw, 2, sizeof raw);
    *state = &f;
    return credstore_key_bytes(raw, sizeof raw, &f.other, NULL) == CREDSTORE_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    fixture *f = *state;

    cs_buf_free(&f->value);
    credstore_key_source_free(f->mine);
    credstore_key_source_free(f->other);
    f->sealer.crypto->close(f->sealer.ctx);
    return 0;
}

static void wrap(fixture *f, uint8_t rights)
{
    assert_int_equal(cs_root_wrap(&f->sealer, f->mine, SLOT, rights, f->keys, &f->value, NULL),
                     CREDSTORE_OK);
}

static credstore_status unwrap(fixture *f, const credstore_key_source *source, uint16_t slot)
{
    return cs_root_unwrap(&f->sealer, source, slot, cs_bytes(f->value.ptr, f->value.len), f->out,
                          &f->rights, &f->ours, NULL);
}

static void opens_its_own(void **state)
{
    static const uint8_t zero[CS_DATA_KEY_LEN];
    fixture *f = *state;

    wrap(f, CS_RIGHT_READ | CS_RIGHT_REVEAL);
    assert_int_equal(unwrap(f, f->mine, SLOT), CREDSTORE_OK);
    assert_true(f->ours);
    assert_int_equal(f->rights, CS_RIGHT_READ | CS_RIGHT_REVEAL);
    assert_memory_equal(f->out, f->keys, CS_STORE_KEYS_LEN);
    memset(f->out, 0, sizeof f->out);
    f->value.len = 0;
    wrap(f, CS_RIGHT_READ);
    assert_int_equal(unwrap(f, f->mine, SLOT), CREDSTORE_OK);
    assert_int_equal(f->rights, CS_RIGHT_READ);
    assert_memory_equal(f->out, f->keys, CS_DATA_KEY_LEN);
    assert_memory_equal(f->out + CS_DATA_KEY_LEN, zero, CS_DATA_KEY_LEN);
}

static void passes_by_others(void **state)
{
    fixture *f = *state;

    wrap(f, CS_RIGHT_READ);
    assert_int_equal(unwrap(f, f->other, SLOT), CREDSTORE_OK);
    assert_false(f->ours);
    assert_int_equal(unwrap(f, f->mine, SLOT + 1), CREDSTORE_OK); /* moved: no longer its own */
    assert_false(f->ours);
}

/* What later releases write: no box behind a callback's head, more in front of a passphrase's. */
static void passes_by_other_methods(void **state)
{
    const uint8_t head[HEAD_LEN] = {CS_FORMAT, CS_ROOT_METHOD_CALLBACK, CS_RIGHT_READ, 0xee};
    const uint8_t salt[SALT_LEN] = {15, 0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff};
    fixture *f = *state;

    cs_buf_add(&f->value, head, sizeof head);
    cs_buf_u16(&f->value, BLOB_LEN);
    assert_non_null(cs_buf_room(&f->value, BLOB_LEN));
    assert_int_equal(unwrap(f, f->mine, SLOT), CREDSTORE_OK);
    assert_false(f->ours);
    f->value.len = 0;
    cs_buf_add(&f->value, head, sizeof head);
    f->value.ptr[1] = CS_ROOT_METHOD_PASSPHRASE;
    cs_buf_add(&f->value, salt, sizeof salt);
    assert_int_equal(unwrap(f, f->mine, SLOT), CREDSTORE_OK);
    assert_false(f->ours);
}

/* Every bit: the check value decides whose slot it is, all else whether it is whole. */
static void finds_damage(void **state)
{
    fixture *f = *state;

    wrap(f, CS_RIGHT_READ | CS_RIGHT_REVEAL);
    for (size_t bit = 0; bit < f->value.len * 8; bit++) {
        const bool in_check = bit / 8 >= 3 && bit / 8 < HEAD_LEN;

        f->value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(unwrap(f, f->mine, SLOT), in_check ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
        assert_false(f->ours);
        f->value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    while (--f->value.len > 0) {
        assert_int_equal(unwrap(f, f->mine, SLOT), CREDSTORE_E_INTEGRITY);
        assert_false(f->ours);
    }
}

/* A key service that answers 32 bytes and leaves more than those: the secrets' half stays zero. */
static int32_t wrap_plainly(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob,
                            size_t *blob_len)
{
    (void)ctx;
    memcpy(blob, keys, len);
    *blob_len = len;
    return CREDSTORE_KEY_OK;
}

static int32_t unwrap_untidily(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys,
                               size_t *len)
{
    (void)ctx;
    memset(keys, 0xee, *len);
    memcpy(keys, blob, blob_len);
    *len = blob_len;
    return CREDSTORE_KEY_OK;
}

static void takes_what_was_answered(void **state)
{
    static const uint8_t zero[CS_DATA_KEY_LEN];
    const credstore_key_service table = {
        .struct_size = sizeof table, .wrap = wrap_plainly, .unwrap = unwrap_untidily};
    credstore_key_source *service = NULL;
    fixture *f = *state;

    assert_int_equal(credstore_key_callback(&table, &service, NULL), CREDSTORE_OK);
    assert_int_equal(
        cs_root_wrap(&f->sealer, service, SLOT, CS_RIGHT_READ, f->keys, &f->value, NULL),
        CREDSTORE_OK);
    assert_int_equal(unwrap(f, service, SLOT), CREDSTORE_OK);
    assert_true(f->ours);
    assert_memory_equal(f->out, f->keys, CS_DATA_KEY_LEN);
    assert_memory_equal(f->out + CS_DATA_KEY_LEN, zero, CS_DATA_KEY_LEN);
    credstore_key_source_free(service);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(passes_by_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(passes_by_other_methods, set_up, tear_down),
        cmocka_unit_test_setup_teardown(finds_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_what_was_answered, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
