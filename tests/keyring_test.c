/* SPDX-License-Identifier: MIT
 *
 * The keyring: made, opened again, told from a damaged one, and opened with READ alone, as a value
 * and as a store that was opened through a root slot without REVEAL. Root slots themselves are in
 * root_test.
 */
#include "fixture.h"

#include "error.h"
#include "keyring.h"

enum { ENTRY_LEN = 39, SECRET_ENTRY_LEN = 36, VERSION_LEN = 8 };

typedef struct bench {
    fx_crypto crypto;
    cs_sealer sealer;
    cs_store_keys keys;
    cs_keyring ring;
    cs_buf body, secret; /* the two values */
} bench;

static void load_key(bench *b, uint8_t fill, cs_data_key *key)
{
    credstore_error err = {0};
    uint8_t raw[CS_DATA_KEY_LEN];

    memset(raw, fill, sizeof raw);
    fx_ok(cs_data_key_load(&b->sealer, CREDSTORE_SUITE_XAES_256_GCM, raw, key, &err), &err);
}

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);
    cs_ring_values made = {0};
    credstore_error err = {0};

    assert_non_null(b);
    fx_ok(cs_openssl_new(&b->crypto.openssl, &err), &err);
    b->sealer.crypto = &fx_provider;
    b->sealer.ctx = &b->crypto;
    load_key(b, 0x11, &b->keys.body);
    load_key(b, 0x22, &b->keys.secret);
    b->keys.can_reveal = true;
    fx_ok(cs_keyring_create(&b->sealer, &b->keys, NULL, &b->ring, &made, &err), &err);
    b->body = made.body;
    b->secret = made.secret;
    *state = b;
    return 0;
}

static int end(void **state)
{
    bench *b = *state;

    cs_keyring_free(&b->sealer, &b->ring);
    cs_data_key_free(&b->sealer, &b->keys.body);
    cs_data_key_free(&b->sealer, &b->keys.secret);
    cs_buf_free(&b->body);
    cs_buf_free(&b->secret);
    assert_int_equal(b->crypto.loaded, b->crypto.freed);
    cs_crypto_openssl.close(b->crypto.openssl);
    free(b);
    return 0;
}

static credstore_status load(bench *b, const cs_buf *body, const cs_buf *secret, cs_keyring *ring)
{
    const unsigned held = b->crypto.loaded - b->crypto.freed;
    credstore_error err = {0};
    const credstore_status status =
        cs_keyring_load(&b->sealer, &b->keys, NULL, cs_bytes(body->ptr, body->len),
                        cs_bytes(secret->ptr, secret->len), ring, &err);

    assert_int_equal(err.status, status);
    if (status != CREDSTORE_OK) {
        assert_int_equal(ring->count, 0);
        assert_int_equal(b->crypto.loaded - b->crypto.freed, held); /* nothing is left loaded */
    }
    return status;
}

static void loads_not(bench *b, const cs_buf *body, const cs_buf *secret)
{
    cs_keyring ring;

    assert_int_equal(load(b, body, secret, &ring), CREDSTORE_E_INTEGRITY);
}

/* ---- whole ---- */

static void test_created(void **state)
{
    static const uint8_t suites[] = {CREDSTORE_SUITE_XAES_256_GCM, CREDSTORE_SUITE_XAES_256_GCM,
                                     CREDSTORE_SUITE_HMAC_SHA256, CREDSTORE_SUITE_HMAC_SHA256};
    bench *b = *state;

    assert_int_equal(b->ring.version, 1);
    assert_int_equal(b->ring.count, 4);
    for (uint8_t purpose = CS_PURPOSE_BODY; purpose <= CS_PURPOSE_CHAIN; purpose++) {
        const cs_data_key *key = cs_keyring_active(&b->ring, purpose);

        assert_non_null(key);
        assert_int_equal(key->id, purpose); /* a new store's */
        assert_int_equal(key->suite, suites[purpose - 1]);
        assert_int_equal(key->state, CS_STATE_ACTIVE);
        assert_non_null(key->handle);
    }
    assert_null(cs_keyring_active(&b->ring, 5));
}

static const cs_label somewhere = {.role = CS_ROLE_CURRENT, .revision = 1};

/* What one ring sealed, the other opens; what one names, the other names so too. */
static void test_loaded_is_the_same(void **state)
{
    static const uint8_t nonce[CS_NONCE_LEN] = "24 bytes of a nonce.....";
    const credstore_bytes part = cs_bytes_of("part");
    bench *b = *state;
    credstore_error err = {0};
    cs_keyring again;
    uint8_t one[32], two[32];

    assert_int_equal(load(b, &b->body, &b->secret, &again), CREDSTORE_OK);
    assert_int_equal(again.version, 1);
    assert_int_equal(again.count, 4);
    for (uint8_t purpose = CS_PURPOSE_BODY; purpose <= CS_PURPOSE_SECRET; purpose++) {
        cs_buf sealed = {0};
        credstore_bytes in;
        cs_box box;

        fx_ok(cs_seal(&b->sealer, cs_keyring_active(&b->ring, purpose), &somewhere, nonce, part,
                      &sealed, NULL, &err),
              &err);
        in = cs_bytes(sealed.ptr, sealed.len);
        assert_true(cs_box_take(&in, &box));
        fx_ok(cs_keyring_unseal(&b->sealer, &again, purpose, &somewhere, &box, one, &err), &err);
        assert_memory_equal(one, "part", 4);
        cs_buf_free(&sealed);
    }
    for (uint8_t purpose = CS_PURPOSE_NAME; purpose <= CS_PURPOSE_CHAIN; purpose++) {
        fx_ok(cs_name_mac(&b->sealer, cs_keyring_active(&b->ring, purpose), 1, &part, 1, one, &err),
              &err);
        fx_ok(cs_name_mac(&b->sealer, cs_keyring_active(&again, purpose), 1, &part, 1, two, &err),
              &err);
        assert_memory_equal(one, two, 32);
    }
    cs_keyring_free(&b->sealer, &again);
    assert_int_equal(again.count, 0);
    cs_keyring_free(&b->sealer, &again);
}

/* No key is the other, and two stores have no key in common. */
static void test_keys_differ(void **state)
{
    const credstore_bytes part = cs_bytes_of("part");
    bench *b = *state;
    credstore_error err = {0};
    cs_ring_values made = {0};
    cs_keyring other;
    uint8_t name[32], chain[32], others[32];

    fx_ok(cs_keyring_create(&b->sealer, &b->keys, NULL, &other, &made, &err), &err);
    fx_ok(cs_name_mac(&b->sealer, &b->ring.keys[2], 1, &part, 1, name, &err), &err);
    fx_ok(cs_name_mac(&b->sealer, &b->ring.keys[3], 1, &part, 1, chain, &err), &err);
    fx_ok(cs_name_mac(&b->sealer, &other.keys[2], 1, &part, 1, others, &err), &err);
    assert_memory_not_equal(name, chain, 32);
    assert_memory_not_equal(name, others, 32);
    assert_memory_not_equal(b->body.ptr + 9, made.body.ptr + 9, CS_NONCE_LEN);
    assert_memory_not_equal(b->body.ptr + 9, b->secret.ptr + 9, CS_NONCE_LEN);
    cs_keyring_free(&b->sealer, &other);
    cs_ring_values_free(&made);
}

static void test_find(void **state)
{
    bench *b = *state;
    const cs_data_key *key = NULL;
    credstore_error err = {0};

    fx_ok(cs_keyring_find(&b->ring, CS_PURPOSE_BODY, 1, &key, &err), &err);
    assert_ptr_equal(key, &b->ring.keys[0]);
    fx_fails(cs_keyring_find(&b->ring, CS_PURPOSE_BODY, 5, &key, &err), CREDSTORE_E_INTEGRITY,
             &err);
    cs_error_clear(&err);
    fx_fails(cs_keyring_find(&b->ring, CS_PURPOSE_BODY, 0, &key, &err), CREDSTORE_E_INTEGRITY,
             &err);
    cs_error_clear(&err); /* there, but for another purpose */
    fx_fails(cs_keyring_find(&b->ring, CS_PURPOSE_BODY, 2, &key, &err), CREDSTORE_E_INTEGRITY,
             &err);
    cs_error_clear(&err);
    fx_fails(cs_keyring_find(&b->ring, CS_PURPOSE_SECRET, 1, &key, &err), CREDSTORE_E_INTEGRITY,
             &err);
}

/* ---- READ alone ---- */

static void test_read_only_keys(void **state)
{
    bench *b = *state;
    const cs_data_key *key = NULL;
    credstore_error err = {0};
    cs_keyring ring;

    b->keys.can_reveal = false;
    assert_int_equal(load(b, &b->body, &b->secret, &ring), CREDSTORE_OK);
    assert_int_equal(ring.count, 4);
    fx_ok(cs_keyring_find(&ring, CS_PURPOSE_BODY, 1, &key, &err), &err);
    fx_fails(cs_keyring_find(&ring, CS_PURPOSE_SECRET, 2, &key, &err), CREDSTORE_E_KEY_UNAVAILABLE,
             &err);
    assert_null(cs_keyring_active(&ring, CS_PURPOSE_SECRET)->handle);
    cs_keyring_free(&b->sealer, &ring);
}

/* ---- damage ---- */

static void test_every_bit(void **state)
{
    bench *b = *state;

    for (size_t bit = 0; bit < 8 * b->body.len; bit++) {
        b->body.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        loads_not(b, &b->body, &b->secret);
        b->body.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * b->secret.len; bit++) {
        b->secret.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        loads_not(b, &b->body, &b->secret);
        b->secret.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

static void test_cut_and_extended(void **state)
{
    bench *b = *state;
    cs_buf cut = b->body;

    for (cut.len = 0; cut.len < b->body.len; cut.len++)
        loads_not(b, &cut, &b->secret);
    cut = b->secret;
    for (cut.len = 0; cut.len < b->secret.len; cut.len++)
        loads_not(b, &b->body, &cut);
    cs_buf_u8(&b->body, 0);
    loads_not(b, &b->body, &b->secret);
    b->body.len--;
    cs_buf_u8(&b->secret, 0);
    loads_not(b, &b->body, &b->secret);
}

static void test_elsewhere(void **state)
{
    bench *b = *state;
    cs_store_keys kept = b->keys;

    loads_not(b, &b->secret, &b->body);
    loads_not(b, &b->body, &b->body);
    loads_not(b, &b->secret, &b->secret);
    b->sealer.store_id[5] ^= 1;
    loads_not(b, &b->body, &b->secret);
    b->sealer.store_id[5] ^= 1;
    b->keys.body = kept.secret;
    loads_not(b, &b->body, &b->secret);
    b->keys.body = kept.body;
    b->keys.secret = kept.body;
    loads_not(b, &b->body, &b->secret);
    b->keys.secret = kept.secret;
}

/* ---- rings that a later release writes ---- */

static void put_entry(cs_buf *out, uint32_t id, uint8_t purpose, uint8_t state)
{
    const bool is_mac = purpose == CS_PURPOSE_NAME || purpose == CS_PURPOSE_CHAIN;
    uint8_t material[CS_DATA_KEY_LEN];

    memset(material, (int)id, sizeof material);
    cs_buf_u32(out, id);
    cs_buf_u8(out, purpose);
    cs_buf_u8(out, is_mac ? CREDSTORE_SUITE_HMAC_SHA256 : CREDSTORE_SUITE_XAES_256_GCM);
    cs_buf_u8(out, state);
    cs_buf_add(out, material, sizeof material);
}

/* Version and one active entry of each purpose, ids 1 to 4. */
static cs_buf plain_ring(uint64_t version)
{
    cs_buf plain = {0};

    cs_buf_u64(&plain, version);
    for (uint8_t purpose = 1; purpose <= 4; purpose++)
        put_entry(&plain, purpose, purpose, CS_STATE_ACTIVE);
    return plain;
}

static cs_buf plain_secrets(uint64_t version, uint32_t first, uint32_t count)
{
    uint8_t material[CS_DATA_KEY_LEN] = {9};
    cs_buf plain = {0};

    cs_buf_u64(&plain, version);
    for (uint32_t i = 0; i < count; i++) {
        cs_buf_u32(&plain, first + i);
        cs_buf_add(&plain, material, sizeof material);
    }
    return plain;
}

/* Seals the plain text in place of a value. */
static void reseal(bench *b, uint8_t purpose, cs_buf *plain)
{
    static const uint8_t nonce[CS_NONCE_LEN] = "24 bytes of a nonce.....";
    const cs_label label = {.role = CS_ROLE_KEYRING, .field = purpose};
    const bool is_body = purpose == CS_PURPOSE_BODY;
    cs_buf *value = is_body ? &b->body : &b->secret;
    credstore_error err = {0};

    cs_buf_free(value);
    fx_ok(cs_seal_value(&b->sealer, is_body ? &b->keys.body : &b->keys.secret, &label, nonce,
                        cs_bytes(plain->ptr, plain->len), value, &err),
          &err);
    cs_buf_free(plain);
}

static void reseal_both(bench *b, cs_buf body, cs_buf secret)
{
    reseal(b, CS_PURPOSE_BODY, &body);
    reseal(b, CS_PURPOSE_SECRET, &secret);
}

static void test_states(void **state)
{
    bench *b = *state;
    cs_buf plain = plain_ring(3);
    const cs_data_key *key = NULL;
    credstore_error err = {0};
    cs_keyring ring;

    put_entry(&plain, 5, CS_PURPOSE_BODY, CS_STATE_RETIRING);
    put_entry(&plain, 6, CS_PURPOSE_BODY, CS_STATE_RETIRED);
    put_entry(&plain, 7, CS_PURPOSE_SECRET, CS_STATE_RETIRING);
    put_entry(&plain, 8, CS_PURPOSE_SECRET, CS_STATE_RETIRED);
    reseal_both(b, plain, plain_secrets(3, 2, 7)); /* 2..8: more than are wanted */
    assert_int_equal(load(b, &b->body, &b->secret, &ring), CREDSTORE_OK);
    assert_int_equal(ring.version, 3);
    assert_int_equal(ring.count, 8);
    assert_int_equal(cs_keyring_active(&ring, CS_PURPOSE_BODY)->id, 1);
    assert_int_equal(cs_keyring_active(&ring, CS_PURPOSE_SECRET)->id, 2);
    fx_ok(cs_keyring_find(&ring, CS_PURPOSE_BODY, 5, &key, &err), &err); /* still opens */
    fx_ok(cs_keyring_find(&ring, CS_PURPOSE_SECRET, 7, &key, &err), &err);
    fx_fails(cs_keyring_find(&ring, CS_PURPOSE_BODY, 6, &key, &err), CREDSTORE_E_INTEGRITY, &err);
    cs_error_clear(&err);
    fx_fails(cs_keyring_find(&ring, CS_PURPOSE_SECRET, 8, &key, &err), CREDSTORE_E_INTEGRITY, &err);
    cs_keyring_free(&b->sealer, &ring);
}

static void test_secret_half_lacks_a_key(void **state)
{
    bench *b = *state;
    const cs_data_key *key = NULL;
    credstore_error err = {0};
    cs_keyring ring;

    reseal_both(b, plain_ring(1), plain_secrets(1, 0, 0));
    assert_int_equal(load(b, &b->body, &b->secret, &ring), CREDSTORE_OK);
    fx_fails(cs_keyring_find(&ring, CS_PURPOSE_SECRET, 2, &key, &err), CREDSTORE_E_KEY_UNAVAILABLE,
             &err);
    cs_keyring_free(&b->sealer, &ring);
}

/* An older half beside a newer one. */
static void test_versions_differ(void **state)
{
    bench *b = *state;

    reseal_both(b, plain_ring(2), plain_secrets(1, 2, 1));
    loads_not(b, &b->body, &b->secret);
    reseal_both(b, plain_ring(1), plain_secrets(2, 2, 1));
    loads_not(b, &b->body, &b->secret);
}

static void test_no_active_key(void **state)
{
    bench *b = *state;

    for (size_t lost = 0; lost < 4; lost++)
        for (uint8_t instead = CS_STATE_RETIRING; instead <= CS_STATE_RETIRED; instead++) {
            cs_buf plain = plain_ring(1);

            plain.ptr[VERSION_LEN + lost * ENTRY_LEN + 6] = instead;
            reseal_both(b, plain, plain_secrets(1, 2, 1));
            loads_not(b, &b->body, &b->secret);
        }
    for (uint32_t len = 0; len < 4; len++) {
        cs_buf plain = plain_ring(1);

        plain.len = VERSION_LEN + len * ENTRY_LEN;
        reseal_both(b, plain, plain_secrets(1, 2, 1));
        loads_not(b, &b->body, &b->secret);
    }
}

static void test_impossible_lengths(void **state)
{
    bench *b = *state;
    cs_buf plain = plain_ring(1);
    cs_keyring ring;

    plain.len--;
    reseal_both(b, plain, plain_secrets(1, 2, 1));
    loads_not(b, &b->body, &b->secret);
    plain = plain_ring(1);
    cs_buf_u8(&plain, 0);
    reseal_both(b, plain, plain_secrets(1, 2, 1));
    loads_not(b, &b->body, &b->secret);
    plain = plain_ring(1);
    plain.len = VERSION_LEN - 1;
    reseal_both(b, plain, plain_secrets(1, 2, 1));
    loads_not(b, &b->body, &b->secret);

    plain = plain_ring(1);
    for (uint32_t id = 5; id <= CS_KEYRING_MAX; id++)
        put_entry(&plain, id, CS_PURPOSE_BODY, CS_STATE_RETIRED);
    reseal_both(b, plain, plain_secrets(1, 2, 1));
    assert_int_equal(load(b, &b->body, &b->secret, &ring), CREDSTORE_OK);
    assert_int_equal(ring.count, CS_KEYRING_MAX);
    cs_keyring_free(&b->sealer, &ring);
    plain = plain_ring(1);
    for (uint32_t id = 5; id <= CS_KEYRING_MAX + 1; id++)
        put_entry(&plain, id, CS_PURPOSE_BODY, CS_STATE_RETIRED);
    reseal_both(b, plain, plain_secrets(1, 2, 1));
    loads_not(b, &b->body, &b->secret);
}

/* A suite that this library does not have: nothing is guessed. */
static void test_unknown_suite(void **state)
{
    bench *b = *state;
    cs_buf plain = plain_ring(1);
    cs_keyring ring;

    plain.ptr[VERSION_LEN + 5] = 9;
    reseal_both(b, plain, plain_secrets(1, 2, 1));
    assert_int_not_equal(load(b, &b->body, &b->secret, &ring), CREDSTORE_OK);
}

/* ---- failures ---- */

static void test_provider_fails(void **state)
{
    static const int ops[] = {FX_RANDOM, FX_KEY_LOAD, FX_SEAL, FX_OPEN};
    static const int calls[] = {6, 4, 2, 2}; /* of each in one creation */
    bench *b = *state;

    for (size_t o = 0; o < FX_COUNT(ops); o++)
        for (int skip = 0; skip <= calls[o]; skip++) {
            const fx_fault fault = {.skip = skip, .times = 1};
            const unsigned held = b->crypto.loaded - b->crypto.freed;
            credstore_error err = {0};
            cs_ring_values made = {0};
            credstore_status status;
            cs_keyring ring;

            b->crypto.fault[ops[o]] = fault;
            status = cs_keyring_create(&b->sealer, &b->keys, NULL, &ring, &made, &err);
            assert_int_equal(status == CREDSTORE_OK, skip == calls[o]);
            assert_int_equal(err.status, status);
            cs_keyring_free(&b->sealer, &ring);
            assert_int_equal(b->crypto.loaded - b->crypto.freed, held);
            cs_ring_values_free(&made);
            b->crypto.fault[ops[o]].times = 0;
        }
}

/* OK, and no key, at the turn of the fault: as a provider might that is out of memory. */
static int32_t load_nothing(void *ctx, uint32_t suite, credstore_bytes key, void **out)
{
    fx_crypto *c = ctx;

    if (!fx_fails_now(&c->fault[FX_KEY_LOAD])) {
        atomic_fetch_add(&c->loaded, 1);
        return cs_crypto_openssl.key_load(c->openssl, suite, key, out);
    }
    *out = NULL;
    return CREDSTORE_CRYPTO_OK;
}

static void test_provider_loads_nothing(void **state)
{
    static credstore_crypto provider;
    bench *b = *state;
    const fx_fault once = {.times = 1};
    const uint8_t raw[CS_DATA_KEY_LEN] = {1};
    cs_data_key key = {.handle = b};
    credstore_error err = {0};
    unsigned skip = 0;

    provider = fx_provider;
    provider.key_load = load_nothing;
    b->sealer.crypto = &provider;
    b->crypto.fault[FX_KEY_LOAD] = once;
    fx_fails(cs_data_key_load(&b->sealer, CREDSTORE_SUITE_HMAC_SHA256, raw, &key, &err),
             CREDSTORE_E_INTERNAL, &err);
    assert_null(key.handle);
    for (bool hit = true; hit; skip++) {
        const fx_fault later = {.skip = (int)skip, .times = 1};
        credstore_status status;
        cs_keyring ring = {0};

        b->crypto.fault[FX_KEY_LOAD] = later;
        status = load(b, &b->body, &b->secret, &ring);
        hit = b->crypto.fault[FX_KEY_LOAD].times == 0;
        assert_int_equal(status, hit ? CREDSTORE_E_INTERNAL : CREDSTORE_OK);
        cs_keyring_free(&b->sealer, &ring);
    }
    assert_int_equal(skip, 4 + 1); /* each of the four keys */
    b->sealer.crypto = &fx_provider;
}

/* Nor does it open a store, whichever key it is: neither a new one nor one that is there. */
static void test_store_without_a_key(void **state)
{
    static credstore_crypto provider;
    credstore_error err = {0};
    fx f;

    (void)state;
    fx_begin(&f);
    provider = fx_provider;
    provider.key_load = load_nothing;
    f.options.crypto = &provider;
    for (int is_there = 0; is_there < 2; is_there++) {
        const unsigned before = f.crypto.loaded;
        int loads;

        credstore_close(fx_open(&f));
        loads = (int)(f.crypto.loaded - before);
        assert_true(loads > 4); /* the keyring's, and the root's */
        for (int skip = 0; skip < loads; skip++) {
            const fx_fault once = {.skip = skip, .times = 1};
            credstore *store = NULL;

            if (!is_there) {
                cs_storage_memory.close(f.engine.memory);
                fx_ok(cs_memory_new(&f.engine.memory, &err), &err);
            }
            f.crypto.fault[FX_KEY_LOAD] = once;
            fx_fails(credstore_open(NULL, &f.options, &store, &err), CREDSTORE_E_INTERNAL, &err);
            assert_null(store);
            assert_int_equal(f.crypto.fault[FX_KEY_LOAD].times, 0);
            assert_int_equal(f.crypto.loaded, f.crypto.freed);
            cs_error_clear(&err);
        }
        credstore_close(fx_open(&f));
    }
    fx_end(&f);
}

/* ---- a store opened through a slot that has READ alone ---- */

static void test_read_slot(void **state)
{
    fx f;
    credstore *store;
    credstore_key_source *reader = fx_key(0x77), *writer;
    credstore_secret *secret;
    credstore_error err;
    fx_pairs before, after;

    (void)state;
    fx_begin(&f);
    store = fx_open(&f);
    fx_create_checkbook(store, FX_KSUID, "the secret");
    fx_add_slot(&f, store, 1, reader, CS_RIGHT_READ);
    credstore_close(store);

    writer = f.key;
    f.options.key = reader;
    store = fx_open(&f);
    fx_dump(store, &before);
    assert_int_equal(fx_reveal_checkbook(store, FX_KSUID, 0, &secret, &err),
                     CREDSTORE_E_KEY_UNAVAILABLE);
    fx_reveal_fails(store, FX_KSUID, CREDSTORE_E_KEY_UNAVAILABLE);
    fx_fails(fx_set_secret(store, FX_KSUID, "another", &err), CREDSTORE_E_KEY_UNAVAILABLE, &err);
    fx_dump(store, &after);
    assert_true(fx_pairs_equal(&before, &after));
    fx_pairs_free(&after);

    /* The same secret is told by its fingerprint: no change, so nothing to seal. */
    fx_ok(fx_set_secret(store, FX_KSUID, "the secret", &err), &err);
    fx_dump(store, &after);
    assert_true(fx_pairs_equal(&before, &after));
    fx_pairs_free(&after);
    fx_pairs_free(&before);
    fx_ok(fx_set_publishable(store, FX_KSUID, "by the reader", &err), &err); /* no secret in it */
    credstore_close(store);

    f.options.key = writer;
    store = fx_open(&f);
    fx_is(store, FX_KSUID, 2, "by the reader", "the secret");
    credstore_close(store);
    credstore_key_source_free(reader);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_created, begin, end),
        cmocka_unit_test_setup_teardown(test_loaded_is_the_same, begin, end),
        cmocka_unit_test_setup_teardown(test_keys_differ, begin, end),
        cmocka_unit_test_setup_teardown(test_find, begin, end),
        cmocka_unit_test_setup_teardown(test_read_only_keys, begin, end),
        cmocka_unit_test_setup_teardown(test_every_bit, begin, end),
        cmocka_unit_test_setup_teardown(test_cut_and_extended, begin, end),
        cmocka_unit_test_setup_teardown(test_elsewhere, begin, end),
        cmocka_unit_test_setup_teardown(test_states, begin, end),
        cmocka_unit_test_setup_teardown(test_secret_half_lacks_a_key, begin, end),
        cmocka_unit_test_setup_teardown(test_versions_differ, begin, end),
        cmocka_unit_test_setup_teardown(test_no_active_key, begin, end),
        cmocka_unit_test_setup_teardown(test_impossible_lengths, begin, end),
        cmocka_unit_test_setup_teardown(test_unknown_suite, begin, end),
        cmocka_unit_test_setup_teardown(test_provider_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_provider_loads_nothing, begin, end),
        cmocka_unit_test(test_store_without_a_key),
        cmocka_unit_test(test_read_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
