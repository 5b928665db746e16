/* SPDX-License-Identifier: MIT
 *
 * Verification: whose a presented token is, what is told to whom, and that what a change withdrew
 * is refused from the moment that the change returned.
 */
#include "life.h"

#include <errno.h>
#include <limits.h>
#include <openssl/sha.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_ALLOCATOR 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_ALLOCATOR 0
#endif
#ifndef OWN_ALLOCATOR
#define OWN_ALLOCATOR 1
#endif

/* ---- the process's allocations, libcrypto's and LMDB's as well; with a sanitizer the library's
 * ----
 */

static atomic_ulong allocations;
static bool whole; /* all allocations of the process come by here; not so under valgrind */

#if OWN_ALLOCATOR
#pragma GCC visibility push(default)
/* glibc's own, under the names that it keeps for those who replace it. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void __libc_free(void *ptr);

void *malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *ptr, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(ptr, size);
}

void free(void *ptr)
{
    const int before = errno;

    __libc_free(ptr);
    errno = before;
}
#pragma GCC visibility pop
#endif

/* The library's own allocations, where the above is not there. */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    if (!whole)
        atomic_fetch_add(&allocations, 1);
    return __real_calloc(count, size);
}

/* What tells the owner of a wrong token nothing: the whole error is the same. */
static credstore_error refusal(test_world *w, const char *token, size_t len)
{
    credstore_actor actor;
    credstore_error err;

    memset(&err, 0x77, sizeof err);
    life_fails(CREDSTORE_E_UNAUTHENTICATED,
               credstore_api_key_verify(w->t.store, token, len, &actor, &err));
    return err;
}

/* A token of the layout with this id, a right checksum and a secret that was never issued. */
static void forge(const char *prefix, const char *token, char out[CS_TOKEN_MAX + 1])
{
    const char *id = cs_token_id(token, strlen(token));
    uint8_t random[CS_TOKEN_RANDOM];

    assert_non_null(id);
    memset(random, 0xa7, sizeof random);
    cs_token_make(prefix, id, random, out);
    assert_non_null(cs_token_id(out, strlen(out)));
}

/* ---- whose it is ---- */

static void the_actor_is_the_records(test_world *w)
{
    const int64_t expires = TEST_NOW + LIFE_DAY;
    const life_key key = life_issue(w, expires);
    credstore_actor expected = test_actor(CREDSTORE_ACTOR_API_KEY, 0, key.id, TEST_TENANT), actor;
    credstore_error err;

    expected.expires_at = expires;
    for (size_t i = 0; i < LIFE_COUNT(life_permissions); i++)
        test_grant(w->t.store, &expected, life_permissions[i]);
    memset(&actor, 0x5a, sizeof actor);
    life_ok(credstore_api_key_verify(w->t.store, key.token, CREDSTORE_NTS, &actor, &err));
    assert_memory_equal(&actor, &expected, sizeof actor);
    assert_int_equal(credstore_permit(w->t.store, &actor, life_permissions[0]), 1);
    assert_int_equal(credstore_permit(w->t.store, &actor, "users:read"), 0);
    assert_int_equal(credstore_permit(w->t.store, &actor, "none such"), 0);
    assert_int_equal(credstore_permit(w->t.store, NULL, "users:read"), 0);
    atomic_store(&w->t.now, expires);
    assert_int_equal(credstore_permit(w->t.store, &actor, life_permissions[0]), 0);
}

static void a_service_credential_is_a_service(test_world *w)
{
    const life_key key = life_issue_service(w), api_key = life_issue(w, 0);
    const credstore_actor expected = test_actor(CREDSTORE_ACTOR_SERVICE, 0, key.id, TEST_TENANT);
    credstore_actor actor;
    credstore_error err;

    assert_int_equal(strncmp(key.token, "secret_", 7), 0);
    memset(&actor, 0x5a, sizeof actor);
    life_ok(credstore_service_credential_verify(w->t.store, key.token, strlen(key.token), &actor,
                                                &err));
    assert_memory_equal(&actor, &expected, sizeof actor);
    life_verifies(w, key.token, CREDSTORE_E_UNAUTHENTICATED);
    life_service_verifies(w, api_key.token, CREDSTORE_E_UNAUTHENTICATED);
}

static void prefixes(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("prefixed");
    static const char *const good[] = {"a", "live", "k_2", "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {
        "", "_", "a_", "_a", "A", "a-b", "a b", "\xc3\xa9", "abcdefghijklmnopqrstuvwxyz0123456"};
    credstore_secret *secret = NULL;
    credstore_error err;

    for (size_t i = 0; i < LIFE_COUNT(good); i++) {
        const credstore_api_key *view = NULL;
        char token[CS_TOKEN_MAX + 1];
        life_key key;

        life_ok(
            credstore_api_key_issue(w->t.store, &w->call, good[i], &patch, &secret, &view, &err));
        snprintf(key.id, sizeof key.id, "%s", view->id);
        life_take(secret, token);
        assert_int_equal(strncmp(token, good[i], strlen(good[i])), 0);
        assert_int_equal(strncmp(token + strlen(good[i]) + 1, key.id, strlen(key.id)), 0);
        assert_string_equal(view->last_four, token + strlen(token) - 4);
        credstore_free(view);
        life_verifies(w, token, CREDSTORE_OK);
        life_roll(w, &key, 0); /* the prefix stays */
        assert_int_equal(strncmp(key.token, token, strlen(good[i]) + 1 + CS_KSUID_LEN), 0);
        assert_string_not_equal(key.token, token);
        life_verifies(w, key.token, CREDSTORE_OK);
    }
    for (size_t i = 0; i < LIFE_COUNT(bad); i++) {
        const uint64_t generation = test_generation(w->t.store);

        secret = (credstore_secret *)(void *)w;
        life_fails(CREDSTORE_E_INVALID, credstore_api_key_issue(w->t.store, &w->call, bad[i],
                                                                &patch, &secret, NULL, &err));
        assert_null(secret);
        assert_string_equal(err.field, "prefix");
        assert_int_equal(test_generation(w->t.store), generation);
    }
    life_fails(CREDSTORE_E_INVALID,
               credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, NULL, NULL, &err));
}

/* ---- what is refused, and what is told ---- */

static void bad_tokens_cost_a_refusal(test_world *w)
{
    const life_key key = life_issue(w, 0);
    const credstore_error first = refusal(w, "x", 1);
    char forged[CS_TOKEN_MAX + 1], unknown[CS_TOKEN_MAX + 1];
    const struct {
        const char *token;
        size_t len;
    } bad[] = {
        {"", 0},
        {"", CREDSTORE_NTS},
        {key.id, CREDSTORE_NTS},
        {key.token, strlen(key.token) - 1},
        {key.token + 1, CREDSTORE_NTS},
        {key.token, strlen(key.token) + 1}, /* its NUL */
        {"key_000000000000000000000000000", CREDSTORE_NTS},
        {forged, CREDSTORE_NTS},
        {unknown, CREDSTORE_NTS},
    };
    uint8_t random[CS_TOKEN_RANDOM] = {1};
    credstore_error err;
    credstore_actor actor;

    forge("key", key.token, forged);
    cs_token_make("key", "2ckEEwCIvk3KPgvWjJjyBIS6Abc", random, unknown);
    for (size_t i = 0; i < LIFE_COUNT(bad); i++) {
        err = refusal(w, bad[i].token, bad[i].len);
        assert_memory_equal(&err, &first, sizeof err);
    }
    forge("other", key.token, forged); /* the right id under another prefix */
    err = refusal(w, forged, CREDSTORE_NTS);
    assert_memory_equal(&err, &first, sizeof err);
    life_verifies(w, key.token, CREDSTORE_OK);
    life_fails(CREDSTORE_E_INVALID, credstore_api_key_verify(w->t.store, NULL, 0, &actor, &err));
    life_fails(CREDSTORE_E_INVALID,
               credstore_api_key_verify(w->t.store, key.token, CREDSTORE_NTS, NULL, &err));
    life_fails(CREDSTORE_E_INVALID,
               credstore_api_key_verify(NULL, key.token, CREDSTORE_NTS, &actor, &err));
}

static void ten_megabytes_of_token(test_world *w)
{
    const size_t size = 10U << 20;
    const credstore_error first = refusal(w, "x", 1);
    char *huge = malloc(size + 1);
    credstore_error err;

    assert_non_null(huge);
    memset(huge, 'a', size);
    huge[size] = '\0';
    err = refusal(w, huge, size);
    assert_memory_equal(&err, &first, sizeof err);
    err = refusal(w, huge, CREDSTORE_NTS);
    assert_memory_equal(&err, &first, sizeof err);
    err = refusal(w, huge, SIZE_MAX - 1);
    assert_memory_equal(&err, &first, sizeof err);
    for (size_t len = 4095; len < 4098; len++) {
        err = refusal(w, huge, len);
        assert_memory_equal(&err, &first, sizeof err);
    }
    free(huge);
}

static void any_edit_is_refused(test_world *w)
{
    const life_key key = life_issue(w, 0);
    char edited[sizeof key.token];

    for (size_t i = 0; i < strlen(key.token); i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(edited, key.token, sizeof edited);
            edited[i] = (char)(edited[i] ^ 1 << bit);
            refusal(w, edited, strlen(key.token));
        }
    }
    life_verifies(w, key.token, CREDSTORE_OK);
}

static void state_is_told_to_the_holder_alone(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 1000), gone = life_issue(w, 0);
    const credstore_error first = refusal(w, "x", 1);
    char forged[CS_TOKEN_MAX + 1];
    credstore_error err;

    atomic_store(&w->t.now, TEST_NOW + 999);
    life_verifies(w, key.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 1000);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    forge("key", key.token, forged);
    err = refusal(w, forged, CREDSTORE_NTS);
    assert_memory_equal(&err, &first, sizeof err);

    life_ok(credstore_api_key_remove(w->t.store, &w->call, gone.id, &err));
    life_verifies(w, gone.token, CREDSTORE_E_REVOKED);
    forge("key", gone.token, forged);
    err = refusal(w, forged, CREDSTORE_NTS);
    assert_memory_equal(&err, &first, sizeof err);

    life_ok(credstore_api_key_remove(w->t.store, &w->call, key.id, &err));
    life_verifies(w, key.token, CREDSTORE_E_REVOKED); /* no longer expired: removed */
    atomic_store(&w->t.now, TEST_NOW + 100 * LIFE_DAY);
    life_maintain(w);
    life_verifies(w, key.token, CREDSTORE_E_REVOKED); /* the digest outlives the history */
    life_verifies(w, gone.token, CREDSTORE_E_REVOKED);
}

static void an_expired_key_stays_dead(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 1000);

    atomic_store(&w->t.now, TEST_NOW + 1000);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    atomic_store(&w->t.now, TEST_NOW + 500); /* nobody but this look has seen the time */
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    atomic_store(&w->t.now, TEST_NOW + 2000);
    (void)life_issue(w, 0); /* the store has seen this time */
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    atomic_store(&w->t.now, TEST_NOW - 3600000);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    atomic_store(&w->t.now, TEST_NOW + 2000 + INT64_C(315360000000)); /* ten years ahead */
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
}

/* What a clock's callback that raises answers in some languages. */
static void a_clock_that_cannot_tell(test_world *w)
{
    const life_key key = life_issue(w, TEST_NOW + 1000), other = life_issue(w, TEST_NOW + 3000);

    atomic_store(&w->t.now, TEST_NOW + 2000);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    for (int64_t told = 0; told > -3; told--) {
        atomic_store(&w->t.now, told);
        life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
        life_verifies(w, other.token, CREDSTORE_OK);
        (void)life_issue(w, 0);
    }
    atomic_store(&w->t.now, TEST_NOW + 3000);
    life_verifies(w, other.token, CREDSTORE_E_EXPIRED);
}

/* ---- from the moment that the change returned ---- */

static void changes_hold_at_once(test_world *w)
{
    const life_key key = life_issue(w, 0);
    credstore_api_key_patch patch = life_api_key_patch("narrowed");
    credstore_actor actor;
    credstore_error err;
    const credstore_strings fewer = CREDSTORE_STRINGS(life_permissions, 1), none = {NULL, 0, 1, 0};

    life_ok(credstore_api_key_verify(w->t.store, key.token, CREDSTORE_NTS, &actor, &err));
    assert_int_equal(credstore_permit(w->t.store, &actor, life_permissions[1]), 1);
    patch.permissions = fewer;
    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &patch, NULL, &err));
    life_ok(credstore_api_key_verify(w->t.store, key.token, CREDSTORE_NTS, &actor, &err));
    assert_int_equal(credstore_permit(w->t.store, &actor, life_permissions[0]), 1);
    assert_int_equal(credstore_permit(w->t.store, &actor, life_permissions[1]), 0);
    patch.permissions = none;
    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &patch, NULL, &err));
    life_ok(credstore_api_key_verify(w->t.store, key.token, CREDSTORE_NTS, &actor, &err));
    for (size_t i = 0; i < LIFE_COUNT(actor.permissions); i++)
        assert_int_equal(actor.permissions[i], 0);
    patch.expires_at = (credstore_time)CREDSTORE_TIME(TEST_NOW + 5);
    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &patch, NULL, &err));
    life_verifies(w, key.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 5);
    life_verifies(w, key.token, CREDSTORE_E_EXPIRED);
    patch.expires_at = (credstore_time)CREDSTORE_TIME_CLEARED;
    life_ok(credstore_api_key_update(w->t.store, &w->call, key.id, &patch, NULL, &err));
    life_verifies(w, key.token, CREDSTORE_OK);
    life_ok(credstore_api_key_remove(w->t.store, &w->call, key.id, &err));
    life_verifies(w, key.token, CREDSTORE_E_REVOKED);
}

/* A second opening of the folder in this process, as another process would have it. */
static void another_store_sees_it_too(test_world *w)
{
    const life_key key = life_issue(w, 0);
    credstore_key_source *source = NULL;
    test_world other = *w;
    life_key rolled = key;
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return;
    life_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &source, &err));
    other.t.options.key = source;
    life_ok(credstore_open(w->t.path, &other.t.options, &other.t.store, &err));
    credstore_key_source_free(source);
    life_verifies(&other, key.token, CREDSTORE_OK);
    life_roll(w, &rolled, 0);
    life_verifies(&other, key.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(&other, rolled.token, CREDSTORE_OK);
    life_ok(credstore_api_key_remove(w->t.store, &w->call, key.id, &err));
    life_verifies(&other, rolled.token, CREDSTORE_E_REVOKED);
    credstore_close(other.t.store);
}

/* ---- rolling ---- */

static void the_old_key_lives_its_grace(test_world *w)
{
    const life_key first = life_issue(w, 0);
    life_key second = first, third;

    life_roll(w, &second, 60);
    assert_string_not_equal(first.token, second.token);
    atomic_store(&w->t.now, TEST_NOW + 59999);
    life_verifies(w, first.token, CREDSTORE_OK);
    life_verifies(w, second.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, second.token, CREDSTORE_OK);

    third = second;
    life_roll(w, &third, 0); /* none */
    life_verifies(w, second.token, CREDSTORE_E_UNAUTHENTICATED);
    second = third;
    life_roll(w, &second, 60);
    third = second;
    life_roll(w, &third, 60); /* one predecessor at most */
    life_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, second.token, CREDSTORE_OK);
    life_verifies(w, third.token, CREDSTORE_OK);
    life_roll(w, &third, 0); /* and a roll without grace ends the one before as well */
    life_verifies(w, second.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, third.token, CREDSTORE_OK);
}

static void grace_ends_with_the_record(test_world *w)
{
    const life_key first = life_issue(w, TEST_NOW + 10000);
    life_key second = first;
    credstore_api_key_patch patch = life_api_key_patch("longer");
    credstore_error err;

    life_roll(w, &second, 3600);
    patch.expires_at = (credstore_time)CREDSTORE_TIME_CLEARED;
    life_ok(credstore_api_key_update(w->t.store, &w->call, first.id, &patch, NULL, &err));
    atomic_store(&w->t.now, TEST_NOW + 9999);
    life_verifies(w, first.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 10000); /* what the roll promised ends here all the same */
    life_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, second.token, CREDSTORE_OK);
}

static void removal_ends_the_grace(test_world *w)
{
    const life_key first = life_issue(w, 0);
    life_key second = first;
    credstore_error err;

    life_roll(w, &second, 3600);
    life_ok(credstore_api_key_remove(w->t.store, &w->call, first.id, &err));
    life_verifies(w, second.token, CREDSTORE_E_REVOKED);
    life_verifies(w, first.token, CREDSTORE_E_REVOKED); /* its holder is told so while it lasts */
    atomic_store(&w->t.now, TEST_NOW + 3600000);
    life_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, second.token, CREDSTORE_E_REVOKED);
}

static void a_roll_moves_nothing_else(test_world *w)
{
    const life_key first = life_issue(w, TEST_NOW + LIFE_DAY);
    const credstore_api_key *before = NULL, *after = NULL;
    life_key second = first;
    credstore_error err;

    life_ok(credstore_api_key_get(w->t.store, &w->call, first.id, &before, &err));
    atomic_store(&w->t.now, TEST_NOW + 7);
    life_roll(w, &second, 0);
    life_ok(credstore_api_key_get(w->t.store, &w->call, first.id, &after, &err));
    assert_int_equal(after->revision, before->revision + 1);
    assert_string_equal(after->description, before->description);
    assert_int_equal(after->permission_count, before->permission_count);
    assert_int_equal(after->expires_at, before->expires_at);
    assert_int_equal(after->created_at, before->created_at);
    assert_int_equal(after->updated_at, TEST_NOW + 7);
    assert_string_equal(after->last_four, second.token + strlen(second.token) - 4);
    credstore_free(before);
    credstore_free(after);
}

static void rolls_that_are_refused(test_world *w)
{
    const life_key key = life_issue(w, 0), gone = life_issue(w, 0);
    const credstore_actor stranger =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "eve", "other");
    const credstore_call theirs = test_call(&stranger);
    credstore_call late = w->call;
    const test_at named = {TEST_TENANT, TEST_PARENT, "key-1"};
    credstore_error err;
    const struct {
        const credstore_call *call;
        const char *id;
        uint32_t grace_s;
        credstore_status status;
    } rows[] = {
        {&w->call, key.id, CS_GRACE_MAX_S + 1, CREDSTORE_E_INVALID},
        {&w->call, key.id, UINT32_MAX, CREDSTORE_E_INVALID},
        {&w->call, gone.id, 0, CREDSTORE_E_NOT_FOUND},
        {&w->call, "2ckEEwCIvk3KPgvWjJjyBIS6Abc", 0, CREDSTORE_E_NOT_FOUND},
        {&w->call, "key-1", 0, CREDSTORE_E_UNSUPPORTED},
        {&w->call, NULL, 0, CREDSTORE_E_INVALID},
        {&theirs, key.id, 0, CREDSTORE_E_NOT_FOUND},
        {&late, key.id, 0, CREDSTORE_E_REVISION},
    };
    uint64_t generation;
    life_key rolled = key;

    late.expected_revision = 7;
    life_ok(life_create(w->t.store, &w->call, test_kind_of(CREDSTORE_KIND_API_KEY), &named, 1, NULL,
                        &err));
    life_ok(credstore_api_key_remove(w->t.store, &w->call, gone.id, &err));
    generation = test_generation(w->t.store);
    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        credstore_secret *secret = (credstore_secret *)(void *)w;
        const credstore_api_key *view = (const credstore_api_key *)(const void *)w;

        life_fails(rows[i].status, credstore_api_key_roll(w->t.store, rows[i].call, rows[i].id,
                                                          rows[i].grace_s, &secret, &view, &err));
        assert_null(secret);
        assert_null(view);
        assert_int_equal(test_generation(w->t.store), generation);
    }
    life_fails(CREDSTORE_E_INVALID,
               credstore_api_key_roll(w->t.store, &w->call, key.id, 0, NULL, NULL, &err));
    life_verifies(w, key.token, CREDSTORE_OK);
    life_roll(w, &rolled, CS_GRACE_MAX_S); /* the longest that there is */
    atomic_store(&w->t.now, TEST_NOW + INT64_C(1000) * CS_GRACE_MAX_S - 1);
    life_verifies(w, key.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + INT64_C(1000) * CS_GRACE_MAX_S);
    life_verifies(w, key.token, CREDSTORE_E_UNAUTHENTICATED);
}

static void roll_service(test_world *w, life_key *key, uint32_t grace_s)
{
    credstore_secret *secret = NULL;
    credstore_error err;

    life_ok(credstore_service_credential_roll(w->t.store, &w->call, TEST_TENANT, TEST_PARENT,
                                              key->id, grace_s, &secret, NULL, &err));
    life_take(secret, key->token);
}

static void refused_at_the_door(test_world *w)
{
    static const char *const queries[] = {"grace_s=",           "grace_s=-1",
                                          "grace_s=1.0",        "grace_s=x",
                                          "grace_s=316224001", /* ten years and a second */
                                          "grace_s=4294967296", "grace_s=18446744073709551616",
                                          "grace_s=1&grace_s=x"};
    enum { LONG = 10 << 20 };
    const test_kind *k = test_kind_of(CREDSTORE_KIND_API_KEY);
    const life_key key = life_issue(w, 0);
    const uint64_t generation = test_generation(w->t.store);
    char *token = malloc(LONG);

    assert_non_null(token);
    for (size_t i = 0; i < LIFE_COUNT(queries); i++) {
        credstore_request request = test_request(k, CREDSTORE_VERB_ROLL, &w->root, NULL);
        const credstore_answer *answer;

        request.id = test_slice(key.id);
        request.query = test_slice(queries[i]);
        answer = credstore_handle(w->t.store, &request);
        assert_int_equal(answer->http_status, 400);
        credstore_answer_free(answer);
    }
    memset(token, 'k', LONG);
    memcpy(token + LONG - strlen(key.token), key.token, strlen(key.token));
    for (size_t len = 1; len <= LONG; len *= 10) {
        credstore_request request = test_request(k, CREDSTORE_VERB_GET, NULL, NULL);
        const credstore_answer *answer;

        request.presented = (credstore_slice){token, len};
        request.id = test_slice(key.id);
        answer = credstore_handle(w->t.store, &request);
        assert_int_equal(answer->http_status, 401);
        credstore_answer_free(answer);
    }
    free(token);
    assert_int_equal(test_generation(w->t.store), generation);
    life_verifies(w, key.token, CREDSTORE_OK);
}

static void service_credentials_roll(test_world *w)
{
    const life_key first = life_issue_service(w);
    life_key second = first;
    credstore_error err;

    roll_service(w, &second, 60);
    life_service_verifies(w, first.token, CREDSTORE_OK);
    life_service_verifies(w, second.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_service_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
    life_service_verifies(w, second.token, CREDSTORE_OK);
    life_ok(credstore_service_credential_remove(w->t.store, &w->call, TEST_TENANT, TEST_PARENT,
                                                first.id, &err));
    life_service_verifies(w, second.token, CREDSTORE_E_REVOKED);
    life_service_verifies(w, first.token, CREDSTORE_E_UNAUTHENTICATED);
}

/* Records that were created without a token get their first one by a roll. */
static void the_first_token_by_a_roll(test_world *w)
{
    const test_kind *const kinds[] = {test_kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL),
                                      test_kind_of(CREDSTORE_KIND_API_KEY)};
    life_key service = {.id = ""}, api_key = {.id = ""};

    credstore_free(test_make(&w->t, kinds[0], &w->root, 1));
    credstore_free(test_make(&w->t, kinds[1], &w->root, 1));
    snprintf(service.id, sizeof service.id, "%s", kinds[0]->id);
    snprintf(api_key.id, sizeof api_key.id, "%s", kinds[1]->id);
    roll_service(w, &service, 60);
    life_roll(w, &api_key, 60);
    life_verifies(w, api_key.token, CREDSTORE_OK);
    life_service_verifies(w, service.token, CREDSTORE_OK);
    roll_service(w, &service, 0);
    life_service_verifies(w, service.token, CREDSTORE_OK);
}

/* ---- keys that customers already hold ---- */

static credstore_status import(test_world *w, const char *id, const char *text,
                               credstore_error *err)
{
    const credstore_api_key_patch patch = life_api_key_patch("imported");
    uint8_t digest[32];
    const credstore_api_key_origin origin = {
        .struct_size = sizeof origin, .id = id, .token_sha256 = digest, .last_four = "ours"};

    SHA256((const unsigned char *)text, strlen(text), digest);
    return credstore_api_key_create(w->t.store, &w->call, &origin, &patch, NULL, err);
}

static void imported_keys(test_world *w)
{
    static const char legacy[] = "PULSE-legacy key, with any byte\xff";
    life_key key = {.id = "2ckEEwCIvk3KPgvWjJjyBIS6Abc"};
    const credstore_api_key *view = NULL;
    credstore_actor actor;
    credstore_error err;

    life_ok(import(w, key.id, legacy, &err));
    life_ok(credstore_api_key_verify(w->t.store, legacy, CREDSTORE_NTS, &actor, &err));
    assert_string_equal(actor.id, key.id);
    assert_int_equal(credstore_permit(w->t.store, &actor, life_permissions[0]), 1);
    refusal(w, legacy, strlen(legacy) - 1);
    life_ok(credstore_api_key_get(w->t.store, &w->call, key.id, &view, &err));
    assert_string_equal(view->last_four, "ours");
    credstore_free(view);
    life_fails(CREDSTORE_E_EXISTS, import(w, NULL, legacy, &err)); /* a token is one record's */
    assert_string_equal(err.field, "token_sha256");
    life_ok(import(w, NULL, "another", &err));

    life_roll(w, &key, 60);
    life_verifies(w, legacy, CREDSTORE_OK);
    life_verifies(w, key.token, CREDSTORE_OK);
    atomic_store(&w->t.now, TEST_NOW + 60000);
    life_verifies(w, legacy, CREDSTORE_E_UNAUTHENTICATED);
    life_verifies(w, key.token, CREDSTORE_OK);
}

static void imported_keys_are_removed(test_world *w)
{
    const char *id = "2ckEEwCIvk3KPgvWjJjyBIS6Abc";
    credstore_error err;

    life_ok(import(w, id, "legacy", &err));
    life_ok(credstore_api_key_remove(w->t.store, &w->call, id, &err));
    life_verifies(w, "legacy", CREDSTORE_E_REVOKED);
    life_fails(CREDSTORE_E_EXISTS, import(w, NULL, "legacy", &err));
    life_verifies(w, "legacy", CREDSTORE_E_REVOKED);
    atomic_store(&w->t.now, TEST_NOW + 100 * LIFE_DAY);
    life_maintain(w);
    life_verifies(w, "legacy", CREDSTORE_E_REVOKED);
    life_fails(CREDSTORE_E_EXISTS, import(w, NULL, "legacy", &err));
}

/* A key of this very layout that another store issued, brought along with its id or without. */
static void imported_keys_of_our_layout(test_world *w)
{
    const char *id = "2ckEEwCIvk3KPgvWjJjyBIS6Abc", *other = "1NFHrqBHb3cTfLVkFSGmHZqdDPi";
    char token[CS_TOKEN_MAX + 1];
    uint8_t random[CS_TOKEN_RANDOM] = {9};
    credstore_error err;

    cs_token_make("key", id, random, token);
    life_ok(import(w, id, token, &err));
    life_verifies(w, token, CREDSTORE_OK);
    cs_token_make("key", other, random, token); /* of no id here: found by its digest */
    life_ok(import(w, NULL, token, &err));
    life_verifies(w, token, CREDSTORE_OK);
}

/* ---- the hot path ---- */

typedef struct hot {
    const char *token;
    credstore_status expected;
    bool service;
} hot;

/* Allocations of so many verifications of each, once each has been seen before. */
static unsigned long allocations_of(test_world *w, const hot *rows, size_t count)
{
    enum { WARM = 4, ROUNDS = 50 };
    unsigned long before = 0;
    credstore_actor actor;
    credstore_error err;

    for (size_t n = 0; n < WARM + ROUNDS; n++) {
        if (n == WARM)
            before = atomic_load(&allocations);
        for (size_t i = 0; i < count; i++) {
            const size_t len = strlen(rows[i].token);
            const credstore_status status =
                rows[i].service
                    ? credstore_service_credential_verify(w->t.store, rows[i].token, len, &actor,
                                                          &err)
                    : credstore_api_key_verify(w->t.store, rows[i].token, len, &actor, &err);

            if (status != rows[i].expected)
                return ULONG_MAX;
            (void)credstore_permit(w->t.store, &actor, "users:list");
        }
    }
    return atomic_load(&allocations) - before;
}

static void verification_allocates_nothing(test_world *w)
{
    const life_key key = life_issue(w, 0), expired = life_issue(w, TEST_NOW + 1),
                   gone = life_issue(w, 0), service = life_issue_service(w);
    char forged[CS_TOKEN_MAX + 1], unknown[CS_TOKEN_MAX + 1];
    uint8_t random[CS_TOKEN_RANDOM] = {1};
    const hot rows[] = {
        {key.token, CREDSTORE_OK, false},
        {service.token, CREDSTORE_OK, true},
        {"legacy", CREDSTORE_OK, false},
        {forged, CREDSTORE_E_UNAUTHENTICATED, false},
        {unknown, CREDSTORE_E_UNAUTHENTICATED, false},
        {"unknown", CREDSTORE_E_UNAUTHENTICATED, false},
        {expired.token, CREDSTORE_E_EXPIRED, false},
        {gone.token, CREDSTORE_E_REVOKED, false},
    };
    const unsigned long before = atomic_load(&allocations);
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return;
    forge("key", key.token, forged);
    cs_token_make("key", "2ckEEwCIvk3KPgvWjJjyBIS6Abc", random, unknown);
    life_ok(import(w, NULL, "legacy", &err));
    life_ok(credstore_api_key_remove(w->t.store, &w->call, gone.id, &err));
    assert_true(atomic_load(&allocations) > before); /* the count counts */
    atomic_store(&w->t.now, TEST_NOW + 1);
    assert_int_equal(allocations_of(w, rows, LIFE_COUNT(rows)), 0);
}

/* ---- damage ---- */

static void damage_is_no_refusal(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_API_KEY);
    const life_key key = life_issue(w, 0), service = life_issue_service(w);
    const test_at at = {TEST_TENANT, TEST_PARENT, key.id};
    const cs_key record = life_record_key(w, k, &at);
    cs_key index;

    assert_int_equal(life_keys(w->t.store, CS_TABLE_TOKEN, &index), 1);
    life_damage(w->t.store, &index, 0);
    life_service_verifies(w, service.token, CREDSTORE_E_INTEGRITY);
    life_damage(w->t.store, &record, 0);
    life_verifies(w, key.token, CREDSTORE_E_INTEGRITY);
}

int main(void)
{
    static const test_row rows[] = {
        {"the actor is the record's", the_actor_is_the_records},
        {"a service credential is a service", a_service_credential_is_a_service},
        {"prefixes", prefixes},
        {"bad tokens cost a refusal", bad_tokens_cost_a_refusal},
        {"ten megabytes of token", ten_megabytes_of_token},
        {"any edit is refused", any_edit_is_refused},
        {"state is told to the holder alone", state_is_told_to_the_holder_alone},
        {"an expired key stays dead", an_expired_key_stays_dead},
        {"a clock that cannot tell", a_clock_that_cannot_tell},
        {"changes hold at once", changes_hold_at_once},
        {"another store sees it too", another_store_sees_it_too},
        {"the old key lives its grace", the_old_key_lives_its_grace},
        {"grace ends with the record", grace_ends_with_the_record},
        {"removal ends the grace", removal_ends_the_grace},
        {"a roll moves nothing else", a_roll_moves_nothing_else},
        {"rolls that are refused", rolls_that_are_refused},
        {"refused at the door", refused_at_the_door},
        {"service credentials roll", service_credentials_roll},
        {"the first token by a roll", the_first_token_by_a_roll},
        {"imported keys", imported_keys},
        {"imported keys are removed", imported_keys_are_removed},
        {"imported keys of our layout", imported_keys_of_our_layout},
        {"verification allocates nothing", verification_allocates_nothing},
        {"damage is no refusal", damage_is_no_refusal},
    };

    void *volatile trial = malloc(1);

    free(trial);
    whole = atomic_load(&allocations) > 0;
    return test_run("verify", NULL, 0, rows, LIFE_COUNT(rows));
}
