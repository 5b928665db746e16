/* SPDX-License-Identifier: MIT
 *
 * The audit: what an entry says, the chain that holds the entries together, and the head that holds
 * the last one.
 */
#include "fixture.h"

#include "audit.h"
#include "error.h"
#include "sealed.h"

typedef struct bench {
    fx f;
    credstore *store;
} bench;

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    fx_begin(&b->f);
    b->f.options.catalogue_count = 2;
    b->store = fx_open(&b->f);
    *state = b;
    return 0;
}

static int end(void **state)
{
    bench *b = *state;

    credstore_close(b->store);
    fx_end(&b->f);
    free(b);
    return 0;
}

static cs_head head_of(bench *b)
{
    credstore_error err = {0};
    bool found = false;
    cs_head head;
    cs_txn txn;

    fx_ok(cs_txn_read(b->store, &txn, &err), &err);
    fx_ok(cs_head_read(&txn, &head, &found, &err), &err);
    assert_true(found);
    cs_txn_end(&txn);
    return head;
}

/* The plain text of an entry; to be freed. */
static cs_buf entry_of(bench *b, uint64_t seq)
{
    const cs_label label = {.role = CS_ROLE_AUDIT, .revision = seq};
    credstore_error err = {0};
    cs_buf plain = {0};
    bool found = false;
    cs_key key;
    cs_txn txn;

    cs_key_audit(&key, 0, seq);
    fx_ok(cs_txn_read(b->store, &txn, &err), &err);
    fx_ok(cs_txn_get_sealed(&txn, &key, &label, &plain, &found, &err), &err);
    cs_txn_end(&txn);
    assert_true(found);
    assert_true(plain.len >= CS_CHAIN_LEN);
    return plain;
}

/* A member of an entry; ptr is NULL if it is not there. */
static credstore_bytes member_of(const cs_buf *plain, uint16_t id)
{
    const uint8_t *p = plain->ptr + CS_CHAIN_LEN;
    const uint8_t *last = plain->ptr + plain->len;
    credstore_bytes member = {0};

    while (p < last) {
        assert_true(last - p >= 6);
        assert_true(cs_get_u32(p + 2) <= (size_t)(last - p) - 6);
        if (cs_get_u16(p) == id) {
            assert_null(member.ptr); /* each at most once */
            member = cs_bytes(p + 6, cs_get_u32(p + 2));
        }
        p += 6 + cs_get_u32(p + 2);
    }
    return member;
}

static void says(const cs_buf *plain, uint16_t id, const void *ptr, size_t len)
{
    assert_true(cs_bytes_equal(member_of(plain, id), cs_bytes(ptr, len)));
}

static void says_text(const cs_buf *plain, uint16_t id, const char *text)
{
    says(plain, id, text, text == NULL ? 0 : strlen(text));
}

static void says_number(const cs_buf *plain, uint16_t id, uint64_t number)
{
    uint8_t raw[8];

    cs_put_u64(raw, number);
    says(plain, id, raw, sizeof raw);
}

static credstore_status check(bench *b, uint64_t seq, const uint8_t chain[CS_CHAIN_LEN],
                              uint8_t previous[CS_CHAIN_LEN])
{
    credstore_error err = {0};
    credstore_status status;
    cs_txn txn;

    fx_ok(cs_txn_read(b->store, &txn, &err), &err);
    status = cs_audit_check(&txn, seq, chain, previous, &err);
    cs_txn_end(&txn);
    assert_int_equal(err.status, status);
    return status;
}

/* Walks from the head back. Answers the first sequence that does not hold, or 0. */
static uint64_t walk(bench *b)
{
    static const uint8_t zero[CS_CHAIN_LEN];
    const cs_head head = head_of(b);
    uint8_t chain[CS_CHAIN_LEN], previous[CS_CHAIN_LEN];

    memcpy(chain, head.chain, sizeof chain);
    for (uint64_t seq = head.last_seq; seq > 0; seq--) {
        if (check(b, seq, chain, previous) != CREDSTORE_OK)
            return seq;
        memcpy(chain, previous, sizeof chain);
    }
    assert_memory_equal(chain, zero, sizeof chain);
    return 0;
}

/* Four changes behind the store's creation and its catalogue: entries 3 to 6. */
static void make_entries(bench *b)
{
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 4", &err), &err);
}

/* ---- what an entry says ---- */

static void test_first_entries(void **state)
{
    static const uint8_t created[] = {CS_ACTION_STORE_CREATE}, grew[] = {CS_ACTION_CATALOGUE};
    bench *b = *state;
    cs_buf one = entry_of(b, 1), two = entry_of(b, 2);

    assert_int_equal(head_of(b).last_seq, 2);
    assert_int_equal(head_of(b).generation, 2);
    says(&one, CS_AUDIT_ACTION, created, 1);
    says_number(&one, CS_AUDIT_TIME, (uint64_t)FX_NOW);
    says_text(&one, CS_AUDIT_ACTOR, NULL);
    says(&two, CS_AUDIT_ACTION, grew, 1);
    assert_int_equal(walk(b), 0);
    cs_buf_free(&one);
    cs_buf_free(&two);
}

static void test_what_an_entry_says(void **state)
{
    static const uint8_t user[] = {CREDSTORE_ACTOR_USER}, create[] = {CS_ACTION_CREATE};
    static const uint8_t update[] = {CS_ACTION_UPDATE},
                         kind[] = {CREDSTORE_KIND_SERVICE_CREDENTIAL};
    static const uint8_t fields[] = {0, 1, 0, 2};
    bench *b = *state;
    const credstore_actor admin = fx_admin(b->store);
    credstore_call call = fx_call(&admin);
    const credstore_service_credential_origin origin = {.struct_size = sizeof origin,
                                                        .id = "credential"};
    const credstore_service_credential_patch first = {.struct_size = sizeof first,
                                                      .name = CREDSTORE_TEXT("a name")};
    const credstore_service_credential_patch second = {.struct_size = sizeof second,
                                                       .name = CREDSTORE_TEXT("b"),
                                                       .description = CREDSTORE_TEXT("c")};
    credstore_error err;
    cs_buf plain;

    call.request_id = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
    fx_ok(credstore_service_credential_create(b->store, &call, "acme", "account", &origin, &first,
                                              NULL, &err),
          &err);
    plain = entry_of(b, 3);
    says_number(&plain, CS_AUDIT_TIME, (uint64_t)FX_NOW);
    says(&plain, CS_AUDIT_ACTOR_TYPE, user, 1);
    says_text(&plain, CS_AUDIT_ACTOR, "grace");
    says_text(&plain, CS_AUDIT_TENANT, "acme");
    says(&plain, CS_AUDIT_ACTION, create, 1);
    says(&plain, CS_AUDIT_KIND, kind, 1);
    says_text(&plain, CS_AUDIT_PARENT, "account");
    says_text(&plain, CS_AUDIT_ID, "credential");
    says_number(&plain, CS_AUDIT_REVISION, 1);
    says_text(&plain, CS_AUDIT_REQUEST, call.request_id);
    cs_buf_free(&plain);

    b->f.now += 5;
    call.request_id = NULL;
    fx_ok(credstore_service_credential_update(b->store, &call, "acme", "account", "credential",
                                              &second, NULL, &err),
          &err);
    plain = entry_of(b, 4);
    says_number(&plain, CS_AUDIT_TIME, (uint64_t)FX_NOW + 5);
    says(&plain, CS_AUDIT_ACTION, update, 1);
    says_number(&plain, CS_AUDIT_REVISION, 2);
    says(&plain, CS_AUDIT_CHANGED, fields, sizeof fields);
    says_text(&plain, CS_AUDIT_REQUEST, NULL);
    cs_buf_free(&plain);
    assert_int_equal(walk(b), 0);
}

/* Nothing of what is kept stands in the audit. */
static void test_no_value_in_it(void **state)
{
    bench *b = *state;
    credstore_error err;

    fx_create_checkbook(b->store, FX_KSUID, "planted-secret");
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "planted-text", &err), &err);
    for (uint64_t seq = 1; seq <= head_of(b).last_seq; seq++) {
        cs_buf plain = entry_of(b, seq);

        for (size_t at = 0; at + 7 <= plain.len; at++)
            assert_memory_not_equal(plain.ptr + at, "planted", 7);
        cs_buf_free(&plain);
    }
}

/* One entry a change; none for what was refused, or changed nothing. */
static void test_one_entry_a_change(void **state)
{
    bench *b = *state;
    credstore_error err;

    make_entries(b);
    assert_int_equal(head_of(b).last_seq, 6);
    assert_int_equal(head_of(b).generation, 6);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 4", &err), &err);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    fx_fails(fx_set_secret(b->store, FX_KSUID, "", &err), CREDSTORE_E_INVALID, &err);
    fx_fails(fx_set_secret(b->store, FX_KSUID_OTHER, "x", &err), CREDSTORE_E_NOT_FOUND, &err);
    assert_int_equal(head_of(b).last_seq, 6);
    assert_int_equal(head_of(b).generation, 6);
    assert_int_equal(walk(b), 0);
}

/* The chain value is the MAC of lane, sequence and plain text, made here by hand. */
static void test_chain_by_hand(void **state)
{
    bench *b = *state;
    const cs_data_key *key = cs_keyring_active(cs_store_ring(b->store), CS_PURPOSE_CHAIN);
    uint8_t chain[CS_CHAIN_LEN] = {0};

    make_entries(b);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        cs_buf plain = entry_of(b, seq), message = {0};

        assert_memory_equal(plain.ptr, chain, CS_CHAIN_LEN);
        cs_buf_u16(&message, 0);
        cs_buf_u64(&message, seq);
        cs_buf_add(&message, plain.ptr, plain.len);
        assert_int_equal(cs_crypto_openssl.mac(b->f.crypto.openssl, key->handle,
                                               cs_bytes(message.ptr, message.len), chain),
                         CREDSTORE_CRYPTO_OK);
        cs_buf_free(&message);
        cs_buf_free(&plain);
    }
    assert_memory_equal(head_of(b).chain, chain, CS_CHAIN_LEN);
}

/* ---- what is not what was written ---- */

static cs_key key_of(uint64_t seq)
{
    cs_key key;

    cs_key_audit(&key, 0, seq);
    return key;
}

static void test_entry_missing(void **state)
{
    bench *b = *state;

    make_entries(b);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        const cs_key key = key_of(seq);
        cs_buf value = fx_raw_get(b->store, &key);

        fx_raw_del(&b->f, &key);
        assert_int_equal(walk(b), seq);
        fx_raw_put(&b->f, &key, &value);
        cs_buf_free(&value);
    }
    assert_int_equal(walk(b), 0);
}

static void test_entries_change_places(void **state)
{
    bench *b = *state;
    const cs_key four = key_of(4), five = key_of(5);
    cs_buf one, two;

    make_entries(b);
    one = fx_raw_get(b->store, &four);
    two = fx_raw_get(b->store, &five);
    fx_raw_put(&b->f, &four, &two);
    fx_raw_put(&b->f, &five, &one);
    assert_int_equal(walk(b), 5);
    fx_raw_put(&b->f, &five, &two); /* one of them twice */
    assert_int_equal(walk(b), 4);
    cs_buf_free(&one);
    cs_buf_free(&two);
}

static void test_every_bit(void **state)
{
    bench *b = *state;
    const cs_key key = key_of(5);
    cs_buf value;

    make_entries(b);
    value = fx_raw_get(b->store, &key);
    for (size_t bit = 0; bit < 8 * value.len; bit++) {
        value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        fx_raw_put(&b->f, &key, &value);
        value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(walk(b), 5);
    }
    cs_buf_free(&value);
}

/* An entry that someone with the keys sealed anew, in its place, but not in the chain. */
static void test_entry_rewritten(void **state)
{
    static const uint8_t nonce[CS_NONCE_LEN] = "24 bytes of a nonce.....";
    bench *b = *state;
    const cs_label label = {.role = CS_ROLE_AUDIT, .revision = 5};
    const cs_key key = key_of(5);
    credstore_error err = {0};
    cs_buf plain, value = {0};

    make_entries(b);
    plain = entry_of(b, 5);
    plain.ptr[plain.len - 1] ^= 1;
    fx_ok(cs_seal_value(&b->store->sealer,
                        cs_keyring_active(cs_store_ring(b->store), CS_PURPOSE_BODY), &label, nonce,
                        cs_bytes(plain.ptr, plain.len), &value, &err),
          &err);
    fx_raw_put(&b->f, &key, &value);
    assert_int_equal(walk(b), 5);
    plain.ptr[plain.len - 1] ^= 1;
    plain.ptr[0] ^= 1; /* its link to the one before */
    value.len = 0;
    fx_ok(cs_seal_value(&b->store->sealer,
                        cs_keyring_active(cs_store_ring(b->store), CS_PURPOSE_BODY), &label, nonce,
                        cs_bytes(plain.ptr, plain.len), &value, &err),
          &err);
    fx_raw_put(&b->f, &key, &value);
    assert_int_equal(walk(b), 5);
    cs_buf_free(&plain);
    cs_buf_free(&value);
}

static void test_other_chain_value(void **state)
{
    bench *b = *state;
    uint8_t chain[CS_CHAIN_LEN], previous[CS_CHAIN_LEN];

    make_entries(b);
    for (size_t bit = 0; bit < 8 * CS_CHAIN_LEN; bit++) {
        memcpy(chain, head_of(b).chain, sizeof chain);
        chain[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(check(b, 6, chain, previous), CREDSTORE_E_INTEGRITY);
    }
    memcpy(chain, head_of(b).chain, sizeof chain);
    assert_int_equal(check(b, 7, chain, previous), CREDSTORE_E_INTEGRITY);
    assert_int_equal(check(b, 0, chain, previous), CREDSTORE_E_INTEGRITY);
    assert_int_equal(check(b, 5, chain, previous), CREDSTORE_E_INTEGRITY);
    assert_int_equal(check(b, 6, chain, previous), CREDSTORE_OK);
}

/* ---- opening looks at the end of the chain ---- */

static void reopens_with(bench *b, credstore_status status)
{
    credstore *again = NULL;
    credstore_error err;

    if (status != CREDSTORE_OK) {
        fx_open_fails(&b->f, status);
        return;
    }
    fx_ok(credstore_open(NULL, &b->f.options, &again, &err), &err);
    credstore_close(again);
}

static void test_open_without_the_last_entry(void **state)
{
    bench *b = *state;
    const cs_key last = key_of(6);
    cs_buf value;

    make_entries(b);
    value = fx_raw_get(b->store, &last);
    fx_raw_del(&b->f, &last);
    reopens_with(b, CREDSTORE_E_INTEGRITY);
    value.ptr[value.len - 1] ^= 1;
    fx_raw_put(&b->f, &last, &value);
    reopens_with(b, CREDSTORE_E_INTEGRITY);
    value.ptr[value.len - 1] ^= 1;
    fx_raw_put(&b->f, &last, &value);
    reopens_with(b, CREDSTORE_OK);
    cs_buf_free(&value);
}

/* A head put back alone would hide the entries behind it, and the next change would write over
   them. */
static void test_open_with_a_head_of_before(void **state)
{
    bench *b = *state;
    credstore_error err;
    cs_buf before, now;
    cs_key key;

    cs_key_head(&key, 0);
    fx_create_checkbook(b->store, FX_KSUID, "first");
    before = fx_raw_get(b->store, &key);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    now = fx_raw_get(b->store, &key);
    fx_raw_put(&b->f, &key, &before);
    reopens_with(b, CREDSTORE_E_ROLLBACK);
    fx_raw_put(&b->f, &key, &now);
    reopens_with(b, CREDSTORE_OK);
    cs_buf_free(&before);
    cs_buf_free(&now);
}

static void test_open_with_a_damaged_head(void **state)
{
    bench *b = *state;
    cs_buf value;
    cs_key key;

    make_entries(b);
    cs_key_head(&key, 0);
    value = fx_raw_get(b->store, &key);
    for (size_t at = 0; at < value.len; at++) {
        value.ptr[at] ^= 0x10;
        fx_raw_put(&b->f, &key, &value);
        value.ptr[at] ^= 0x10;
        reopens_with(b, CREDSTORE_E_INTEGRITY);
    }
    fx_raw_del(&b->f, &key);
    reopens_with(b, CREDSTORE_E_INTEGRITY);
    fx_raw_put(&b->f, &key, &value);
    reopens_with(b, CREDSTORE_OK);
    cs_buf_free(&value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_entries, begin, end),
        cmocka_unit_test_setup_teardown(test_what_an_entry_says, begin, end),
        cmocka_unit_test_setup_teardown(test_no_value_in_it, begin, end),
        cmocka_unit_test_setup_teardown(test_one_entry_a_change, begin, end),
        cmocka_unit_test_setup_teardown(test_chain_by_hand, begin, end),
        cmocka_unit_test_setup_teardown(test_entry_missing, begin, end),
        cmocka_unit_test_setup_teardown(test_entries_change_places, begin, end),
        cmocka_unit_test_setup_teardown(test_every_bit, begin, end),
        cmocka_unit_test_setup_teardown(test_entry_rewritten, begin, end),
        cmocka_unit_test_setup_teardown(test_other_chain_value, begin, end),
        cmocka_unit_test_setup_teardown(test_open_without_the_last_entry, begin, end),
        cmocka_unit_test_setup_teardown(test_open_with_a_head_of_before, begin, end),
        cmocka_unit_test_setup_teardown(test_open_with_a_damaged_head, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
