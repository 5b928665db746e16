/* SPDX-License-Identifier: MIT
 *
 * Stripe's webhook signatures, held against libcrypto's own HMAC: headers of every form, the edges
 * of the tolerance, secrets in their grace, and what is told to whom.
 */
#include "life.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define PROJECT "3c90c3cc-0d44-4b50-8888-8dd25736052a"
#define SECRET  "whsec_test_secret_of_the_project"
#define BODY    "{\"id\":\"evt_1\",\"object\":\"event\"}"

enum { FIELD = CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET, NOW_S = TEST_NOW / 1000 };

/* ---- the scheme, by itself ---- */

static void sign_bytes(const char *secret, size_t secret_len, const char *stamp, const void *body,
                       size_t body_len, char out[65])
{
    const size_t stamp_len = strlen(stamp), len = stamp_len + 1 + body_len;
    uint8_t mac[EVP_MAX_MD_SIZE];
    char *message = malloc(len);
    unsigned mac_len = 0;

    assert_non_null(message);
    memcpy(message, stamp, stamp_len);
    message[stamp_len] = '.';
    memcpy(message + stamp_len + 1, body, body_len);
    assert_non_null(
        HMAC(EVP_sha256(), secret, (int)secret_len, (const uint8_t *)message, len, mac, &mac_len));
    for (size_t i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", mac[i]);
    free(message);
}

static const char *sign(const char *secret, int64_t at, char out[65])
{
    char stamp[24];

    snprintf(stamp, sizeof stamp, "%lld", (long long)at);
    sign_bytes(secret, strlen(secret), stamp, BODY, strlen(BODY), out);
    return out;
}

static credstore_status verify_body(test_world *w, const char *header, const void *body, size_t len,
                                    uint32_t tolerance_s, credstore_error *err)
{
    const credstore_slice of_header = test_slice(header), of_body = {body, len};

    return credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT, FIELD, &of_header,
                                           &of_body, tolerance_s, err);
}

static void verifies(test_world *w, const char *header, credstore_status expected)
{
    credstore_error err;

    if (verify_body(w, header, BODY, strlen(BODY), 0, &err) != expected)
        print_error("header %s\n", header);
    life_fails(expected, verify_body(w, header, BODY, strlen(BODY), 0, &err));
}

/* As signed with the secret at that second. */
static void signed_at(test_world *w, const char *secret, int64_t at, credstore_status expected)
{
    char mac[65], header[128];

    snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)at, sign(secret, at, mac));
    verifies(w, header, expected);
}

static void configure(test_world *w, const char *secret)
{
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .test_webhook_secret =
                                              CREDSTORE_SECRET(secret, CREDSTORE_NTS)};
    credstore_error err;

    life_ok(credstore_stripe_update(w->t.store, &w->call, PROJECT, &patch, NULL, &err));
}

static void roll(test_world *w, const char *secret, uint32_t grace_s)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET(secret, CREDSTORE_NTS);
    credstore_error err;

    life_ok(
        credstore_stripe_roll(w->t.store, &w->call, PROJECT, FIELD, &fresh, grace_s, NULL, &err));
}

/* ---- */

static void a_vector_of_the_scheme(test_world *w)
{
    /* printf '1700000000.%s' BODY | openssl dgst -sha256 -hmac SECRET */
    static const char known[] =
        "t=1700000000,v1=40233b648f3e0fae4c3830856d53d16916a18ee0c4ad0110edf7e8af95024f2e";
    char mac[65];

    configure(w, SECRET);
    verifies(w, known, CREDSTORE_OK);
    signed_at(w, SECRET, NOW_S, CREDSTORE_OK);
    signed_at(w, SECRET "x", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    signed_at(w, &SECRET[6], NOW_S, CREDSTORE_E_UNAUTHENTICATED); /* the prefix is part of it */
    sign(SECRET, NOW_S, mac);
    for (size_t i = 0; i < 64; i++) { /* each nibble counts */
        char header[128];

        mac[i] = mac[i] == '0' ? '1' : '0';
        snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW_S, mac);
        verifies(w, header, CREDSTORE_E_UNAUTHENTICATED);
        sign(SECRET, NOW_S, mac);
    }
}

/* Secrets up to, at and over a block, and bodies of any bytes. */
static void lengths(test_world *w)
{
    static const size_t secrets[] = {1, 6, 7, 31, 63, 64, 65, 128, 4096};
    static const size_t bodies[] = {0, 1, 55, 64, 4096, 262144};
    uint64_t chance = test_seed("webhook_test");
    uint8_t *body = malloc(262144);
    char secret[4097], mac[65], header[128];
    credstore_error err;

    assert_non_null(body);
    for (size_t i = 0; i < 262144; i++)
        body[i] = (uint8_t)test_random(&chance);
    snprintf(header, sizeof header, "%lld", (long long)NOW_S);
    for (size_t i = 0; i < LIFE_COUNT(secrets); i++) {
        for (size_t n = 0; n < secrets[i]; n++)
            secret[n] = (char)('a' + test_random(&chance) % 26);
        secret[secrets[i]] = '\0';
        configure(w, secret);
        for (size_t n = 0; n < LIFE_COUNT(bodies); n++) {
            char stamp[24];

            snprintf(stamp, sizeof stamp, "%lld", (long long)NOW_S);
            sign_bytes(secret, secrets[i], stamp, body, bodies[n], mac);
            snprintf(header, sizeof header, "t=%s,v1=%s", stamp, mac);
            life_ok(verify_body(w, header, body, bodies[n], 0, &err));
            if (bodies[n] > 0)
                life_fails(CREDSTORE_E_UNAUTHENTICATED,
                           verify_body(w, header, body, bodies[n] - 1, 0, &err));
        }
    }
    free(body);
}

static void several_signatures(test_world *w)
{
    char good[65], bad[65], header[4200];
    size_t used;

    configure(w, SECRET);
    sign(SECRET, NOW_S, good);
    sign("other", NOW_S, bad);
    snprintf(header, sizeof header, "t=%lld,v1=%s,v1=%s", (long long)NOW_S, good, bad);
    verifies(w, header, CREDSTORE_OK);
    snprintf(header, sizeof header, "t=%lld,v1=%s,v1=%s", (long long)NOW_S, bad, good);
    verifies(w, header, CREDSTORE_OK);
    snprintf(header, sizeof header, "v1=%s,t=%lld,v1=%s", bad, (long long)NOW_S, good);
    verifies(w, header, CREDSTORE_OK);
    snprintf(header, sizeof header, "v1=%s,t=%lld", good, (long long)NOW_S);
    verifies(w, header, CREDSTORE_OK);
    snprintf(header, sizeof header, "t=%lld,v0=%s,v1=%s,v2=x,y=", (long long)NOW_S, bad, good);
    verifies(w, header, CREDSTORE_OK);
    snprintf(header, sizeof header, "t=%lld,v0=%s,v1=%s", (long long)NOW_S, good, bad);
    verifies(w, header, CREDSTORE_E_UNAUTHENTICATED); /* of another scheme */
    for (size_t count = 15; count <= 17; count++) {   /* sixteen of them at most */
        used = (size_t)snprintf(header, sizeof header, "t=%lld", (long long)NOW_S);
        for (size_t i = 0; i < count; i++)
            used += (size_t)snprintf(header + used, sizeof header - used, ",v1=%s",
                                     i + 1 == count ? good : bad);
        verifies(w, header, count > 16 ? CREDSTORE_E_INVALID : CREDSTORE_OK);
    }
}

static void malformed_headers(test_world *w)
{
    char mac[65], header[256], *huge = malloc(1U << 20);
    const credstore_slice body = test_slice(BODY), none = {NULL, 0}, unsaid = {NULL, 5};
    static const struct {
        const char *before, *after; /* the good "t=...,v1=..." stands between */
    } around[] = {{",", ""},    {"", ",,x=1"}, {"", ",v1"},        {"", ",v1="},
                  {"", ",t=1"}, {"", ",x"},    {"", "0"},          {"t=1,", ""},
                  {"", " "},    {"", "\n"},    {"", ",v1=0123ab"}, {"x,", ""}};
    static const char *const whole[] = {"",       "t",     "t=",       "v1=",        ",",
                                        "=",      "t=1",   "t=,v1=",   "t=-1",       "t=1 ",
                                        "t=0x10", "t=1e3", "t==1,v1=", "1700000000", "T=1"};
    credstore_error err;

    configure(w, SECRET);
    sign(SECRET, NOW_S, mac);
    for (size_t i = 0; i < LIFE_COUNT(around); i++) {
        snprintf(header, sizeof header, "%st=%lld,v1=%s%s", around[i].before, (long long)NOW_S, mac,
                 around[i].after);
        verifies(w, header, CREDSTORE_E_INVALID);
    }
    for (size_t i = 0; i < LIFE_COUNT(whole); i++) {
        verifies(w, whole[i], CREDSTORE_E_INVALID);
        snprintf(header, sizeof header, "%s,v1=%s", whole[i], mac);
        if (strcmp(whole[i], "t=1") != 0)
            verifies(w, header, CREDSTORE_E_INVALID);
    }
    snprintf(header, sizeof header, "t=%lld, v1=%s", (long long)NOW_S, mac); /* " v1" is no v1 */
    verifies(w, header, CREDSTORE_E_INVALID);
    snprintf(header, sizeof header, "t=%lld", (long long)NOW_S);
    verifies(w, header, CREDSTORE_E_INVALID);
    snprintf(header, sizeof header, "t=123456789012,v1=%s", mac);
    verifies(w, header, CREDSTORE_E_INVALID);
    for (size_t i = 0; i < 64; i++) /* lower case, as Stripe writes it */
        mac[i] = (char)(mac[i] >= 'a' ? mac[i] - 'a' + 'A' : mac[i]);
    snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW_S, mac);
    verifies(w, header, CREDSTORE_E_INVALID);
    assert_non_null(huge);
    memset(huge, ',', (1U << 20) - 1);
    huge[(1U << 20) - 1] = '\0';
    life_fails(CREDSTORE_E_INVALID, verify_body(w, huge, BODY, strlen(BODY), 0, &err));
    free(huge);
    life_fails(CREDSTORE_E_INVALID, credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT,
                                                                    FIELD, NULL, &body, 0, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT,
                                                                    FIELD, &none, &body, 0, &err));
    snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW_S, sign(SECRET, NOW_S, mac));
    const credstore_slice good = test_slice(header);
    life_fails(CREDSTORE_E_INVALID, credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT,
                                                                    FIELD, &good, NULL, 0, &err));
    life_fails(CREDSTORE_E_INVALID,
               credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT, FIELD, &good, &unsaid,
                                               0, &err));
}

/* A NUL ends nothing: the header is a slice. */
static void bytes_in_the_header(test_world *w)
{
    char mac[65], header[256];
    const credstore_slice body = test_slice(BODY);
    credstore_slice given = {header, 0};
    credstore_error err;

    configure(w, SECRET);
    given.len = (size_t)snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW_S,
                                 sign(SECRET, NOW_S, mac));
    for (size_t i = 0; i < given.len; i++) {
        const char was = header[i];
        credstore_status status;

        header[i] = '\0';
        status = credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT, FIELD, &given,
                                                 &body, 0, &err);
        assert_int_equal(status, CREDSTORE_E_INVALID);
        header[i] = was;
        given.len = i; /* cut off anywhere */
        status = credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT, FIELD, &given,
                                                 &body, 0, &err);
        assert_int_equal(status, CREDSTORE_E_INVALID);
        given.len = strlen(header);
    }
}

static void tolerance(test_world *w)
{
    static const struct {
        uint32_t tolerance_s;
        int64_t apart;
        credstore_status status;
    } rows[] = {
        {0, 300, CREDSTORE_OK},
        {0, 301, CREDSTORE_E_EXPIRED},
        {0, -300, CREDSTORE_OK},
        {0, -301, CREDSTORE_E_EXPIRED},
        {1, 1, CREDSTORE_OK},
        {1, 2, CREDSTORE_E_EXPIRED},
        {1, -1, CREDSTORE_OK},
        {1, -2, CREDSTORE_E_EXPIRED},
        {600, 600, CREDSTORE_OK},
        {600, 601, CREDSTORE_E_EXPIRED},
        {UINT32_MAX, NOW_S, CREDSTORE_OK},
        {1, NOW_S, CREDSTORE_E_EXPIRED},
    };
    char mac[65], header[128];
    credstore_error err;

    configure(w, SECRET);
    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        const int64_t at = NOW_S - rows[i].apart;

        for (int64_t ms = 0; ms < 1000; ms += 999) { /* anywhere in the second */
            atomic_store(&w->t.now, TEST_NOW + ms);
            snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)at, sign(SECRET, at, mac));
            life_fails(rows[i].status,
                       verify_body(w, header, BODY, strlen(BODY), rows[i].tolerance_s, &err));
        }
        /* that it is too old is told to him alone whose signature fits */
        snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)at, sign("other", at, mac));
        life_fails(CREDSTORE_E_UNAUTHENTICATED,
                   verify_body(w, header, BODY, strlen(BODY), rows[i].tolerance_s, &err));
    }
    signed_at(w, SECRET, INT64_C(99999999999), CREDSTORE_E_EXPIRED);
    signed_at(w, SECRET, 0, CREDSTORE_E_EXPIRED);
}

static void secrets_in_their_grace(test_world *w)
{
    configure(w, "whsec_first");
    roll(w, "whsec_second", 60);
    signed_at(w, "whsec_first", NOW_S, CREDSTORE_OK);
    signed_at(w, "whsec_second", NOW_S, CREDSTORE_OK);
    signed_at(w, "whsec_third", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    atomic_store(&w->t.now, TEST_NOW + 59999);
    signed_at(w, "whsec_first", NOW_S, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    signed_at(w, "whsec_first", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    signed_at(w, "whsec_second", NOW_S, CREDSTORE_OK);
    roll(w, "whsec_third", 60);
    roll(w, "whsec_fourth", 60); /* one predecessor at most */
    signed_at(w, "whsec_second", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    signed_at(w, "whsec_third", NOW_S, CREDSTORE_OK);
    signed_at(w, "whsec_fourth", NOW_S, CREDSTORE_OK);
    roll(w, "whsec_fifth", 0);
    signed_at(w, "whsec_fourth", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    signed_at(w, "whsec_fifth", NOW_S, CREDSTORE_OK);
}

/* What else is done to the record leaves the grace as it is; a plain update of the secret ends it.
 */
static void changes_in_the_grace(test_world *w)
{
    const credstore_stripe_patch other = {.struct_size = sizeof other,
                                          .live_secret_key =
                                              CREDSTORE_SECRET("sk_live_x", CREDSTORE_NTS)};
    const credstore_stripe_patch cleared = {.struct_size = sizeof cleared,
                                            .test_webhook_secret = CREDSTORE_CLEARED};
    credstore_error err;

    configure(w, "whsec_first");
    roll(w, "whsec_second", 60);
    life_ok(credstore_stripe_update(w->t.store, &w->call, PROJECT, &other, NULL, &err));
    life_ok(credstore_stripe_deactivate(w->t.store, &w->call, PROJECT, NULL, &err));
    life_ok(credstore_stripe_reactivate(w->t.store, &w->call, PROJECT, NULL, &err));
    signed_at(w, "whsec_first", NOW_S, CREDSTORE_OK);
    configure(w, "whsec_third");
    signed_at(w, "whsec_first", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    signed_at(w, "whsec_second", NOW_S, CREDSTORE_E_UNAUTHENTICATED);
    signed_at(w, "whsec_third", NOW_S, CREDSTORE_OK);
    roll(w, "whsec_fourth", 60);
    life_ok(credstore_stripe_update(w->t.store, &w->call, PROJECT, &cleared, NULL, &err));
    signed_at(w, "whsec_third", NOW_S, CREDSTORE_E_NOT_FOUND);
}

static void each_field_has_its_own(test_world *w)
{
    char mac[65], header[128];
    const credstore_slice body = test_slice(BODY);
    credstore_error err;

    configure(w, SECRET);
    snprintf(header, sizeof header, "t=%lld,v1=%s", (long long)NOW_S, sign(SECRET, NOW_S, mac));
    const credstore_slice given = test_slice(header);
    for (uint32_t field = 0; field < 8; field++) {
        const credstore_status expected = field == FIELD ? CREDSTORE_OK
                                          : field == CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET
                                              ? CREDSTORE_E_NOT_FOUND
                                              : CREDSTORE_E_INVALID;

        life_fails(expected, credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT, field,
                                                             &given, &body, 0, &err));
    }
    life_fails(CREDSTORE_E_INVALID,
               credstore_stripe_webhook_verify(w->t.store, &w->call, PROJECT, 65536 + FIELD, &given,
                                               &body, 0, &err));
}

static void who_may_and_when(test_world *w)
{
    const credstore_actor member = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "admin",
                                              TEST_TENANT),
                          platform = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "platform", TEST_TENANT);
    credstore_actor holder = member;
    const credstore_call by_root = w->call;
    credstore_error err;

    configure(w, SECRET);
    w->call = test_call(&member); /* an administrator may set it, and not use it */
    signed_at(w, SECRET, NOW_S, CREDSTORE_E_FORBIDDEN);
    test_grant(w->t.store, &holder, "stripe:reveal");
    w->call = test_call(&holder);
    signed_at(w, SECRET, NOW_S, CREDSTORE_OK);
    w->call = test_call(&platform);
    signed_at(w, SECRET, NOW_S, CREDSTORE_OK);
    w->call.tenant = "other";
    signed_at(w, SECRET, NOW_S, CREDSTORE_E_NOT_FOUND);
    w->call.tenant = NULL;
    w->call.at_revision = 77; /* verification is of now */
    signed_at(w, SECRET, NOW_S, CREDSTORE_OK);
    w->call = by_root;
    life_ok(credstore_stripe_deactivate(w->t.store, &w->call, PROJECT, NULL, &err));
    signed_at(w, SECRET, NOW_S, CREDSTORE_E_INACTIVE);
    signed_at(w, "other", NOW_S, CREDSTORE_E_INACTIVE);
    life_ok(credstore_stripe_reactivate(w->t.store, &w->call, PROJECT, NULL, &err));
    signed_at(w, SECRET, NOW_S, CREDSTORE_OK);
    life_ok(credstore_stripe_remove(w->t.store, &w->call, PROJECT, &err));
    signed_at(w, SECRET, NOW_S, CREDSTORE_E_NOT_FOUND);
}

/* Switching: no change where there is none, and the keys stay. */
static void off_and_on(test_world *w)
{
    const credstore_stripe_patch empty = {.struct_size = sizeof empty};
    const credstore_stripe *view = NULL;
    uint64_t generation;
    credstore_error err;
    credstore_call late = w->call;

    life_fails(CREDSTORE_E_NOT_FOUND,
               credstore_stripe_deactivate(w->t.store, &w->call, PROJECT, &view, &err));
    configure(w, SECRET);
    late.expected_revision = 9;
    life_fails(CREDSTORE_E_REVISION,
               credstore_stripe_deactivate(w->t.store, &late, PROJECT, &view, &err));
    generation = test_generation(w->t.store);
    life_ok(credstore_stripe_reactivate(w->t.store, &w->call, PROJECT, NULL, &err));
    assert_int_equal(test_generation(w->t.store), generation);
    life_ok(credstore_stripe_deactivate(w->t.store, &w->call, PROJECT, &view, &err));
    assert_int_equal(view->is_active, 0);
    assert_int_equal(view->revision, 2);
    assert_non_null(view->test_webhook_secret_masked);
    credstore_free(view);
    generation = test_generation(w->t.store);
    life_ok(credstore_stripe_deactivate(w->t.store, &w->call, PROJECT, &view, &err));
    assert_int_equal(view->revision, 2);
    credstore_free(view);
    life_ok(credstore_stripe_update(w->t.store, &w->call, PROJECT, &empty, &view, &err));
    assert_int_equal(view->is_active, 0); /* an empty patch switches nothing on */
    credstore_free(view);
    assert_int_equal(test_generation(w->t.store), generation);
    configure(w, "whsec_another"); /* a value does */
    life_ok(credstore_stripe_get(w->t.store, &w->call, PROJECT, &view, &err));
    assert_int_equal(view->is_active, 1);
    credstore_free(view);
}

static void rolls_that_are_refused(test_world *w)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET("whsec_x", CREDSTORE_NTS),
                                keep = {NULL, 0, CREDSTORE_KEEP, 0}, clear = CREDSTORE_CLEARED,
                                foreign = CREDSTORE_SECRET("sk_live_x", CREDSTORE_NTS),
                                empty = CREDSTORE_SECRET("", 0);
    const struct {
        uint32_t field;
        const credstore_secret_text *fresh;
        uint32_t grace_s;
        const char *at;
    } rows[] = {
        {FIELD, &fresh, CS_GRACE_MAX_S + 1, "grace_s"},
        {FIELD, &fresh, UINT32_MAX, "grace_s"},
        {FIELD, &keep, 0, "fresh"},
        {FIELD, &clear, 0, "fresh"},
        {FIELD, NULL, 0, "fresh"},
        {FIELD, &foreign, 0, "test_webhook_secret"},
        {FIELD, &empty, 0, "test_webhook_secret"},
        {CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY, &fresh, 0, "field"},
        {0, &fresh, 0, "field"},
        {65536 + FIELD, &fresh, 0, "field"},
    };
    uint64_t generation;
    credstore_error err;

    configure(w, SECRET);
    generation = test_generation(w->t.store);
    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        const credstore_stripe *view = (const credstore_stripe *)(const void *)w;

        life_fails(CREDSTORE_E_INVALID,
                   credstore_stripe_roll(w->t.store, &w->call, PROJECT, rows[i].field,
                                         rows[i].fresh, rows[i].grace_s, &view, &err));
        assert_string_equal(err.field, rows[i].at);
        assert_null(view);
    }
    life_fails(CREDSTORE_E_NOT_FOUND,
               credstore_stripe_roll(w->t.store, &w->call, "00000000-0000-4000-8000-000000000000",
                                     FIELD, &fresh, 0, NULL, &err));
    assert_int_equal(test_generation(w->t.store), generation);
    roll(w, "whsec_longest", CS_GRACE_MAX_S);
    atomic_store(&w->t.now, TEST_NOW + INT64_C(1000) * CS_GRACE_MAX_S - 1);
    signed_at(w, SECRET, NOW_S + CS_GRACE_MAX_S - 1, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + INT64_C(1000) * CS_GRACE_MAX_S);
    signed_at(w, SECRET, NOW_S + CS_GRACE_MAX_S, CREDSTORE_E_UNAUTHENTICATED);
}

int main(void)
{
    static const test_row rows[] = {
        {"a vector of the scheme", a_vector_of_the_scheme},
        {"lengths", lengths},
        {"several signatures", several_signatures},
        {"malformed headers", malformed_headers},
        {"bytes in the header", bytes_in_the_header},
        {"tolerance", tolerance},
        {"secrets in their grace", secrets_in_their_grace},
        {"changes in the grace", changes_in_the_grace},
        {"each field has its own", each_field_has_its_own},
        {"who may and when", who_may_and_when},
        {"off and on", off_and_on},
        {"rolls that are refused", rolls_that_are_refused},
    };

    return test_run("webhooks", NULL, 0, rows, LIFE_COUNT(rows));
}
