/* SPDX-License-Identifier: MIT
 *
 * No branch and no address depends on a secret. Under valgrind the secret is marked undefined, so
 * that memcheck reports each conditional jump and each address that follows from it; each case
 * demands that it reported nothing. The verdicts, which are public, are marked defined again by the
 * wrappers below, which this program alone has. Without valgrind the same cases check the verdicts.
 *
 * secrets_undefined_test.sh runs it under valgrind, and with faults planted
 * (helpers/secrets_planted.c).
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "crypto/openssl.h"
#include "keyring.h"
#include "mem.h"
#include "token.h"

enum { HIDDEN = CS_TOKEN_SECRET_LEN + CS_TOKEN_CHECK_LEN };

#ifndef PLANT_MEMCMP
#define PLANT_MEMCMP 0
#endif
#ifndef PLANT_INDEX
#define PLANT_INDEX 0
#endif

static uint64_t seed;
static bool watching; /* in a case: what a change reads is sealed again, and stays as it is */

/* ---- verdicts are public; what is opened as a secret is not ---- */

bool __real_cs_equal_secret(const void *a, const void *b, size_t len);
bool __wrap_cs_equal_secret(const void *a, const void *b, size_t len);
bool __wrap_cs_equal_secret(const void *a, const void *b, size_t len)
{
    /* As a call: in line a compiler may compare without a branch. */
    int (*const volatile plant)(const void *, const void *, size_t) = memcmp;
    bool equal = PLANT_MEMCMP ? plant(a, b, len) == 0 : __real_cs_equal_secret(a, b, len);

    (void)VALGRIND_MAKE_MEM_DEFINED(&equal, sizeof equal);
    return equal;
}

/* Under the NAME key: it becomes a key of the store, readable in the file. */
credstore_status __real_cs_name_mac(const cs_sealer *sealer, const cs_data_key *key, uint8_t domain,
                                    const credstore_bytes *parts, size_t count, uint8_t out[32],
                                    credstore_error *err);
credstore_status __wrap_cs_name_mac(const cs_sealer *sealer, const cs_data_key *key, uint8_t domain,
                                    const credstore_bytes *parts, size_t count, uint8_t out[32],
                                    credstore_error *err);
credstore_status __wrap_cs_name_mac(const cs_sealer *sealer, const cs_data_key *key, uint8_t domain,
                                    const credstore_bytes *parts, size_t count, uint8_t out[32],
                                    credstore_error *err)
{
    const credstore_status status = __real_cs_name_mac(sealer, key, domain, parts, count, out, err);

    (void)VALGRIND_MAKE_MEM_DEFINED(out, 32);
    return status;
}

credstore_status __real_cs_keyring_unseal(const cs_sealer *sealer, const cs_keyring *ring,
                                          uint8_t purpose, const cs_label *label, const cs_box *box,
                                          uint8_t *out, credstore_error *err);
credstore_status __wrap_cs_keyring_unseal(const cs_sealer *sealer, const cs_keyring *ring,
                                          uint8_t purpose, const cs_label *label, const cs_box *box,
                                          uint8_t *out, credstore_error *err);
credstore_status __wrap_cs_keyring_unseal(const cs_sealer *sealer, const cs_keyring *ring,
                                          uint8_t purpose, const cs_label *label, const cs_box *box,
                                          uint8_t *out, credstore_error *err)
{
    const credstore_status status =
        __real_cs_keyring_unseal(sealer, ring, purpose, label, box, out, err);

    if (watching && status == CREDSTORE_OK && purpose == CS_PURPOSE_SECRET)
        (void)VALGRIND_MAKE_MEM_UNDEFINED(out, box->sealed.len);
    return status;
}

/* The digests in the record. */
credstore_status __real_cs_record_decode(const cs_kind *kind, const cs_frame *frame,
                                         credstore_bytes body, cs_record *record,
                                         credstore_error *err);
credstore_status __wrap_cs_record_decode(const cs_kind *kind, const cs_frame *frame,
                                         credstore_bytes body, cs_record *record,
                                         credstore_error *err);
credstore_status __wrap_cs_record_decode(const cs_kind *kind, const cs_frame *frame,
                                         credstore_bytes body, cs_record *record,
                                         credstore_error *err)
{
    const credstore_status status = __real_cs_record_decode(kind, frame, body, record, err);

    for (size_t i = 0; watching && status == CREDSTORE_OK && i < kind->field_count; i++)
        if (kind->fields[i].type == CS_DIGEST && record->values[i].present)
            (void)VALGRIND_MAKE_MEM_UNDEFINED(record->values[i].bytes.ptr, CS_DIGEST_LEN);
    return status;
}

/* ---- what memcheck says ---- */

typedef struct watch {
    unsigned long before;
    const char *what;
} watch;

static watch begin_watch(const char *what)
{
    const watch w = {VALGRIND_COUNT_ERRORS, what};

    watching = true;
    return w;
}

static void end_watch(const watch *w)
{
    const unsigned long reports = VALGRIND_COUNT_ERRORS - w->before;

    watching = false;
    if (reports > 0)
        print_error("%s: %lu reports of memcheck\n", w->what, reports);
    assert_int_equal(0, reports);
}

static void hide(void *ptr, size_t len)
{
    (void)VALGRIND_MAKE_MEM_UNDEFINED(ptr, len);
}

static void show(const void *ptr, size_t len)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(ptr, len);
}

/* ---- tokens: base62 and checksum ---- */

static const char ksuid[] = "0ujtsYcgvSTl8PAuAdqWYSMnLOv";

static void draw(uint8_t random[CS_TOKEN_RANDOM])
{
    uint64_t state = seed;

    for (size_t i = 0; i < CS_TOKEN_RANDOM; i++)
        random[i] = (uint8_t)test_random(&state);
}

/* The last characters of a token are hidden: the secret, and the checksum which follows from it. */
static void hide_tail(char *token, size_t len)
{
    hide(token + len - HIDDEN, HIDDEN);
}

static void making_looks_at_nothing(void **state)
{
    uint8_t random[CS_TOKEN_RANDOM];
    char token[CS_TOKEN_MAX + 1];
    size_t len;
    watch w;

    (void)state;
    draw(random);
    w = begin_watch("cs_token_make");
    hide(random, sizeof random);
    len = cs_token_make("key_live", ksuid, random, token);
    end_watch(&w);
    show(token, sizeof token);
    assert_int_equal(strlen(token), len);
    assert_non_null(cs_token_id(token, len));
}

static const char *id_of(const char *token, size_t len)
{
    static const char table[256] = {['0'] = 1};

    if (PLANT_INDEX && table[(uint8_t)token[len - 1]] > 1)
        return NULL;
    return cs_token_id(token, len);
}

static void checking_looks_at_nothing(void **state)
{
    uint8_t random[CS_TOKEN_RANDOM];
    char token[CS_TOKEN_MAX + 1];
    size_t len;

    (void)state;
    draw(random);
    len = cs_token_make("key_live", ksuid, random, token);
    for (size_t i = 0; i <= HIDDEN; i++) { /* whole, or one character wrong */
        const char saved = i == 0 ? '\0' : token[len - i];
        const char *id;
        watch w;

        if (i > 0)
            token[len - i] = saved == 'A' ? 'B' : 'A';
        if (i == 1)
            token[len - i] = '!'; /* not of the alphabet */
        w = begin_watch("cs_token_id");
        hide_tail(token, len);
        id = id_of(token, len);
        end_watch(&w);
        show(token, sizeof token);
        assert_ptr_equal(token + len - CS_TOKEN_TAIL, id);
        if (i > 0)
            token[len - i] = saved;
    }
}

static void comparing_looks_at_nothing(void **state)
{
    uint8_t a[32] = {1, 2, 3}, b[32] = {1, 2, 3};

    (void)state;
    for (size_t i = 0; i <= sizeof a; i++) {
        watch w = begin_watch("cs_equal_secret");
        bool equal;

        if (i > 0)
            b[i - 1] ^= 1;
        hide(a, sizeof a);
        hide(b, sizeof b);
        equal = __wrap_cs_equal_secret(a, b, sizeof a);
        end_watch(&w);
        show(a, sizeof a);
        show(b, sizeof b);
        assert_int_equal(i == 0, equal);
        if (i > 0)
            b[i - 1] ^= 1;
    }
}

/* ---- verification, from the presented token to the verdict ---- */

typedef credstore_status verify_fn(credstore *store, const char *token, size_t len,
                                   credstore_actor *out, credstore_error *err);

/* hidden: how many characters at the end are the secret. */
static void expect(test_store *t, verify_fn *verify, char *token, size_t hidden,
                   credstore_status expected)
{
    const size_t len = strlen(token);
    credstore_actor actor;
    credstore_error err;
    credstore_status status;
    watch w = begin_watch("verify");

    memset(&actor, 0, sizeof actor);
    hide(token + len - hidden, hidden);
    status = verify(t->store, token, len, &actor, &err);
    show(token, len);
    assert_status(expected, status, &err);
    /* Whose it is, is public; nothing in it may follow from the secret. */
    assert_int_equal(0, VALGRIND_CHECK_MEM_IS_DEFINED(&actor, sizeof actor));
    end_watch(&w);
}

/* Another token of the same record: the form is right, the secret is not. */
static void forge(const char *token, char out[CS_TOKEN_MAX + 1])
{
    const char *id = cs_token_id(token, strlen(token));
    uint8_t random[CS_TOKEN_RANDOM];
    char prefix[CS_TOKEN_PREFIX_MAX + 1] = "";

    draw(random);
    memcpy(prefix, token, (size_t)(id - token) - 1);
    cs_token_make(prefix, id, random, out);
}

static char *text_of(credstore_secret *secret, char out[CS_TOKEN_MAX + 1])
{
    snprintf(out, CS_TOKEN_MAX + 1, "%s", credstore_secret_ptr(secret));
    credstore_secret_free(secret);
    return out;
}

static void all_states(test_store *t, const credstore_call *call)
{
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT(""),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    credstore_api_key_patch ending = {.struct_size = sizeof ending,
                                      .expires_at = CREDSTORE_TIME(TEST_NOW + 5000)};
    char first[CS_TOKEN_MAX + 1], second[CS_TOKEN_MAX + 1], wrong[CS_TOKEN_MAX + 1];
    const credstore_api_key *view = NULL;
    credstore_secret *key = NULL;
    credstore_error err;
    verify_fn *verify = credstore_api_key_verify;

    assert_status(CREDSTORE_OK,
                  credstore_api_key_issue(t->store, call, "key_live", &patch, &key, &view, &err),
                  &err);
    text_of(key, first);
    forge(first, wrong);
    expect(t, verify, first, HIDDEN, CREDSTORE_OK);
    expect(t, verify, wrong, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_roll(t->store, call, view->id, 2, &key, NULL, &err), &err);
    text_of(key, second);
    expect(t, verify, first, HIDDEN, CREDSTORE_OK); /* in its grace */
    expect(t, verify, second, HIDDEN, CREDSTORE_OK);
    expect(t, verify, wrong, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
    atomic_fetch_add(&t->now, 3000);
    expect(t, verify, first, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_update(t->store, call, view->id, &ending, NULL, &err), &err);
    atomic_fetch_add(&t->now, 3000);
    expect(t, verify, second, HIDDEN, CREDSTORE_E_EXPIRED);
    expect(t, verify, wrong, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
    assert_status(CREDSTORE_OK, credstore_api_key_remove(t->store, call, view->id, &err), &err);
    expect(t, verify, second, HIDDEN, CREDSTORE_E_REVOKED);
    expect(t, verify, wrong, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
    credstore_free(view);
    memcpy(wrong + strlen("key_live_"), ksuid, CS_KSUID_LEN); /* unknown, and a bad checksum */
    expect(t, verify, wrong, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
}

static void unknown_record(test_store *t)
{
    uint8_t random[CS_TOKEN_RANDOM];
    char token[CS_TOKEN_MAX + 1];

    draw(random);
    cs_token_make("key", ksuid, random, token);
    expect(t, credstore_api_key_verify, token, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
    expect(t, credstore_service_credential_verify, token, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
}

/* A customer's own key, of another form: all of it is the secret. */
static void imported(test_store *t, const credstore_call *call)
{
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT(""),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    char token[] = "correct horse battery staple", other[] = "correct horse battery stable";
    uint8_t digest[32];
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .token_sha256 = digest};
    credstore_error err;
    void *ctx = NULL;

    assert_int_equal(CREDSTORE_OK, cs_openssl_new(&ctx, &err));
    assert_int_equal(CREDSTORE_CRYPTO_OK,
                     cs_crypto_openssl.digest(ctx, cs_bytes(token, strlen(token)), digest));
    cs_crypto_openssl.close(ctx);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_create(t->store, call, &origin, &patch, NULL, &err), &err);
    expect(t, credstore_api_key_verify, token, strlen(token), CREDSTORE_OK);
    expect(t, credstore_api_key_verify, other, strlen(other), CREDSTORE_E_UNAUTHENTICATED);
}

static void service_credential(test_store *t, const credstore_call *call)
{
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("n")};
    char token[CS_TOKEN_MAX + 1], wrong[CS_TOKEN_MAX + 1];
    credstore_secret *secret = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_service_credential_issue(t->store, call, TEST_TENANT, TEST_PARENT, NULL,
                                                     &patch, &secret, NULL, &err),
                  &err);
    text_of(secret, token);
    forge(token, wrong);
    expect(t, credstore_service_credential_verify, token, HIDDEN, CREDSTORE_OK);
    expect(t, credstore_service_credential_verify, wrong, HIDDEN, CREDSTORE_E_UNAUTHENTICATED);
}

static void verifying_looks_at_nothing(void **state)
{
    test_engine *engine = *state;
    credstore_actor root;
    credstore_call call;
    test_store t;

    test_open(&t, *engine);
    root = test_root(t.store);
    call = test_call(&root);
    all_states(&t, &call);
    unknown_record(&t);
    imported(&t, &call);
    service_credential(&t, &call);
    test_close(&t);
}

/* ---- webhooks: the secret from its opening to the verdict ---- */

static const char project[] = "1f0c1a52-93a1-4d7e-9b3a-2f4f2c7d8e90";

static void expect_hook(const test_store *t, const credstore_call *call, const char *header,
                        credstore_status expected)
{
    const char body[] = "{\"id\":\"evt_1\"}";
    const credstore_slice signature = test_slice(header), payload = test_slice(body);
    const watch w = begin_watch("webhook_verify");
    credstore_error err;
    const credstore_status status = credstore_stripe_webhook_verify(
        t->store, call, project, CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET, &signature, &payload, 0,
        &err);

    assert_status(expected, status, &err);
    end_watch(&w);
}

static void webhooks_look_at_nothing(void **state)
{
    /* HMAC-SHA256 of 1700000000.{"id":"evt_1"} under either secret, by Python's hmac. */
    static const char by_first[] =
        "t=1700000000,v1="
        "bdcc5ed4a2cea106337b5c169b5b149f0383001eb22752dd19ef2942aae468d3";
    static const char by_second[] =
        "t=1700000000,v1="
        "966e192e59e2b5b5979543e7c76c1f740e36d1320ea24e4290ae61adde2e7f35";
    static const char by_none[] =
        "t=1700000000,v1=0000000000000000000000000000000000000000000000000000000000000000";
    const credstore_secret_text second = CREDSTORE_SECRET(
        "whsec_second_and_longer_than_the_block_of_the_hash_which_is_64_bytes", CREDSTORE_NTS);
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .test_webhook_secret =
                                              CREDSTORE_SECRET("whsec_first_1234", CREDSTORE_NTS)};
    const test_engine *engine = *state;
    credstore_actor root, system;
    credstore_call call;
    credstore_error err;
    test_store t;

    test_open(&t, *engine);
    root = test_root(t.store);
    call = test_call(&root);
    assert_status(CREDSTORE_OK,
                  credstore_stripe_update(t.store, &call, project, &patch, NULL, &err), &err);
    assert_status(CREDSTORE_OK,
                  credstore_stripe_roll(t.store, &call, project,
                                        CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET, &second, 60, NULL,
                                        &err),
                  &err);
    system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", TEST_TENANT);
    call = test_call(&system);
    expect_hook(&t, &call, by_first, CREDSTORE_OK);
    expect_hook(&t, &call, by_second, CREDSTORE_OK);
    expect_hook(&t, &call, by_none, CREDSTORE_E_UNAUTHENTICATED);
    atomic_fetch_add(&t.now, 61000);
    expect_hook(&t, &call, by_first, CREDSTORE_E_UNAUTHENTICATED);
    expect_hook(&t, &call, by_second, CREDSTORE_OK);
    test_close(&t);
}

int main(void)
{
    static test_engine memory = TEST_MEMORY, lmdb = TEST_LMDB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_looks_at_nothing),
        cmocka_unit_test(checking_looks_at_nothing),
        cmocka_unit_test(comparing_looks_at_nothing),
        {"verifying_looks_at_nothing, memory", verifying_looks_at_nothing, NULL, NULL, &memory},
        {"verifying_looks_at_nothing, lmdb", verifying_looks_at_nothing, NULL, NULL, &lmdb},
        {"webhooks_look_at_nothing, memory", webhooks_look_at_nothing, NULL, NULL, &memory},
        {"webhooks_look_at_nothing, lmdb", webhooks_look_at_nothing, NULL, NULL, &lmdb},
    };

    seed = test_seed("secrets_undefined_test");
    printf("under valgrind: %s\n", RUNNING_ON_VALGRIND != 0 ? "yes" : "no");
    return cmocka_run_group_tests_name("secrets_undefined", tests, NULL, NULL);
}
