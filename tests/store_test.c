/* SPDX-License-Identifier: MIT
 *
 * Opening and closing: options, the wrong key, newer and damaged stores, rollback, founding races,
 * forks, clocks, several stores of one folder.
 */
#include "fixture.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "support.h"

enum { RACERS = 4, PATH_SIZE = TEST_PATH_MAX + 16 };

typedef struct bench {
    fx f;
    credstore *store;
} bench;

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    fx_begin(&b->f);
    b->store = fx_open(&b->f);
    fx_create_checkbook(b->store, FX_KSUID, "first");
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

static void reopen(bench *b)
{
    credstore_close(b->store);
    b->store = fx_open(&b->f);
}

/* ---- options ---- */

typedef struct bad_option {
    const char *what;
    credstore_status status;
    void (*set)(credstore_options *options);
} bad_option;

static const credstore_storage short_storage = {.struct_size = 8};
static const credstore_crypto short_crypto = {.struct_size = 8};
static const credstore_storage hollow_storage = {.struct_size = sizeof hollow_storage};
static const credstore_crypto hollow_crypto = {.struct_size = sizeof hollow_crypto};

#define SETTER(name, statement)                                                                    \
    static void name(credstore_options *o)                                                         \
    {                                                                                              \
        statement;                                                                                 \
    }
SETTER(size_zero, o->struct_size = 0)
SETTER(size_inside, o->struct_size = offsetof(credstore_options, key) + 1)
SETTER(size_longer, o->struct_size = sizeof *o + 8)
SETTER(unknown_flag, o->flags |= 1U << 4)
SETTER(both_flags, o->flags = CREDSTORE_OPEN_CREATE | CREDSTORE_OPEN_READ_ONLY)
SETTER(negative_wait, o->wait_ms = -1)
SETTER(no_key, o->key = NULL)
SETTER(no_catalogue, o->catalogue = NULL)
SETTER(no_hosts, o->base_url_allow_count = 1)
SETTER(old_storage, o->storage = &short_storage)
SETTER(old_crypto, o->crypto = &short_crypto)
SETTER(lacking_storage, o->storage = &hollow_storage)
SETTER(lacking_crypto, o->crypto = &hollow_crypto)

static const bad_option bad_options[] = {
    {"size of 0", CREDSTORE_E_INVALID, size_zero},
    {"size inside of a member", CREDSTORE_E_INVALID, size_inside},
    {"longer, and not zero there", CREDSTORE_E_UNSUPPORTED, size_longer},
    {"unknown flag", CREDSTORE_E_UNSUPPORTED, unknown_flag},
    {"CREATE and READ_ONLY", CREDSTORE_E_INVALID, both_flags},
    {"negative wait", CREDSTORE_E_INVALID, negative_wait},
    {"an engine and no key", CREDSTORE_E_INVALID, no_key},
    {"a count and no catalogue", CREDSTORE_E_INVALID, no_catalogue},
    {"a count and no hosts", CREDSTORE_E_INVALID, no_hosts},
    {"an engine's table too short", CREDSTORE_E_INVALID, old_storage},
    {"a provider's table too short", CREDSTORE_E_INVALID, old_crypto},
    {"an engine without functions", CREDSTORE_E_INVALID, lacking_storage},
    {"a provider without functions", CREDSTORE_E_INVALID, lacking_crypto},
};

static void test_bad_options(void **state)
{
    struct {
        credstore_options options;
        uint64_t tail;
    } longer;
    credstore *store = NULL;
    credstore_error err;
    fx f;

    (void)state;
    fx_begin(&f);
    for (size_t i = 0; i < FX_COUNT(bad_options); i++) {
        longer.options = f.options;
        longer.tail = 1;
        bad_options[i].set(&longer.options);
        store = (credstore *)(void *)&f;
        if (credstore_open(NULL, &longer.options, &store, &err) != bad_options[i].status)
            print_error("%s\n", bad_options[i].what);
        assert_int_equal(err.status, bad_options[i].status);
        assert_null(store);
    }
    assert_int_equal(f.engine.calls[FX_BEGIN_READ] + f.engine.calls[FX_BEGIN_WRITE], 0);
    fx_fails(credstore_open(NULL, &f.options, NULL, &err), CREDSTORE_E_INVALID, &err);
    fx_fails(credstore_open(NULL, NULL, &store, &err), CREDSTORE_E_INVALID, &err);
    longer.options = f.options;
    longer.options.struct_size += 8;
    longer.tail = 0; /* of a newer caller who asks for nothing new */
    fx_ok(credstore_open(NULL, &longer.options, &store, &err), &err);
    credstore_close(store);
    credstore_close(NULL);
    fx_end(&f);
}

/* A caller that was compiled when there were fewer members. */
static void test_short_options(void **state)
{
    bench *b = *state;

    b->f.options.wait_ms = -1;
    b->f.options.struct_size = offsetof(credstore_options, wait_ms);
    reopen(b);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
}

static void test_hosts_are_copied(void **state)
{
    char host[] = "127.0.0.1";
    const char *hosts[] = {host};
    char too_long[257];
    const char *const bad[] = {NULL, "", "a b", "\xc3\xa4", too_long};
    bench *b = *state;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .base_url = CREDSTORE_TEXT("https://127.0.0.1/api")};
    credstore_error err;

    fx_fails(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err),
             CREDSTORE_E_INVALID, &err);
    b->f.options.base_url_allow = hosts;
    b->f.options.base_url_allow_count = 1;
    reopen(b);
    memset(host, 'x', sizeof host - 1);
    hosts[0] = NULL;
    fx_ok(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err), &err);
    memset(too_long, 'h', sizeof too_long - 1);
    too_long[256] = '\0';
    for (size_t i = 0; i < FX_COUNT(bad); i++) {
        hosts[0] = bad[i];
        fx_open_fails(&b->f, CREDSTORE_E_INVALID);
    }
    b->f.options.base_url_allow_count = 0;
}

/* Whose the backends are: the caller's until the store is open, then the store's. */
static void test_backends_are_closed_once(void **state)
{
    bench *b = *state;

    assert_int_equal(b->f.engine.closed, 0);
    assert_int_equal(b->f.crypto.closed, 0);
    reopen(b);
    assert_int_equal(b->f.engine.closed, 1);
    assert_int_equal(b->f.crypto.closed, 1);
}

/* ---- what is there, and what is not ---- */

static void test_no_create(void **state)
{
    fx f;

    (void)state;
    fx_begin(&f);
    f.options.flags = 0;
    fx_open_fails(&f, CREDSTORE_E_NOT_FOUND);
    f.options.flags = CREDSTORE_OPEN_READ_ONLY;
    fx_open_fails(&f, CREDSTORE_E_NOT_FOUND);
    assert_int_equal(f.engine.calls[FX_BEGIN_WRITE], 0);
    fx_end(&f);
}

static void test_read_only(void **state)
{
    bench *b = *state;
    fx_pairs before, after;
    credstore_error err;

    b->f.options.flags = CREDSTORE_OPEN_READ_ONLY;
    reopen(b);
    fx_dump(b->store, &before);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "x", &err), CREDSTORE_E_FORBIDDEN, &err);
    fx_fails(fx_set_secret(b->store, FX_KSUID, "x", &err), CREDSTORE_E_FORBIDDEN, &err);
    fx_dump(b->store, &after);
    assert_true(fx_pairs_equal(&before, &after));
    fx_pairs_free(&before);
    fx_pairs_free(&after);
}

/* A store in memory without a key gets one that nobody knows; with one it keeps no more. */
static void test_memory_store(void **state)
{
    const credstore_options options = {.struct_size = sizeof options};
    credstore *one = NULL, *two = NULL;
    credstore_error err;

    (void)state;
    fx_ok(credstore_open(NULL, &options, &one, &err), &err);
    fx_ok(credstore_open(NULL, &options, &two, &err), &err);
    fx_create_checkbook(one, FX_KSUID, "of one");
    fx_create_checkbook(two, FX_KSUID, "of two");
    fx_is(one, FX_KSUID, 1, "publishable", "of one");
    credstore_close(one);
    fx_is(two, FX_KSUID, 1, "publishable", "of two");
    credstore_close(two);
}

static void test_wrong_key(void **state)
{
    bench *b = *state;
    credstore_key_source *wrong = fx_key(0x43);
    fx_pairs before, after;

    fx_dump(b->store, &before);
    b->f.options.key = wrong;
    fx_open_fails(&b->f, CREDSTORE_E_KEY_UNAVAILABLE);
    b->f.options.flags = 0;
    fx_open_fails(&b->f, CREDSTORE_E_KEY_UNAVAILABLE);
    fx_dump(b->store, &after);
    assert_true(fx_pairs_equal(&before, &after));
    b->f.options.key = b->f.key;
    reopen(b);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
    credstore_key_source_free(wrong);
    fx_pairs_free(&before);
    fx_pairs_free(&after);
}

/* Any of several slots opens; the right of the slot is the store's. */
static void test_several_slots(void **state)
{
    bench *b = *state;
    credstore_key_source *keys[3] = {fx_key(1), fx_key(2), fx_key(3)};
    credstore_key_source *stranger = fx_key(4);
    cs_key at;

    fx_add_slot(&b->f, b->store, 1, keys[0], CS_RIGHT_READ | CS_RIGHT_REVEAL);
    fx_add_slot(&b->f, b->store, 7, keys[1], CS_RIGHT_READ);
    fx_add_slot(&b->f, b->store, 0xffff, keys[2], CS_RIGHT_READ | CS_RIGHT_REVEAL);
    for (size_t i = 0; i < 3; i++) {
        b->f.options.key = keys[i];
        reopen(b);
        if (i == 1)
            fx_reveal_fails(b->store, FX_KSUID, CREDSTORE_E_KEY_UNAVAILABLE);
        else
            fx_is(b->store, FX_KSUID, 1, "publishable", "first");
    }
    cs_key_root(&at, 0); /* the first key is withdrawn */
    fx_raw_del(&b->f, &at);
    reopen(b);
    b->f.options.key = b->f.key;
    fx_open_fails(&b->f, CREDSTORE_E_KEY_UNAVAILABLE);
    b->f.options.key = stranger;
    fx_open_fails(&b->f, CREDSTORE_E_KEY_UNAVAILABLE);
    for (size_t i = 0; i < 3; i++)
        credstore_key_source_free(keys[i]);
    credstore_key_source_free(stranger);
}

/* ---- sources that call out ---- */

/* Blobs are the keys as they are; notes how many transactions were open meanwhile. */
typedef struct watcher {
    fx_engine *engine;
    unsigned calls, inside;
} watcher;

static void watch(watcher *w)
{
    fx_engine *e = w->engine;

    w->calls++;
    w->inside += e->begun - e->calls[FX_COMMIT] - e->calls[FX_ABORT];
}

static int32_t watched_wrap(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob,
                            size_t *blob_len)
{
    watch(ctx);
    memcpy(blob, keys, len);
    *blob_len = len;
    return CREDSTORE_KEY_OK;
}

static int32_t watched_unwrap(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys,
                              size_t *len)
{
    watch(ctx);
    memcpy(keys, blob, blob_len);
    *len = blob_len;
    return CREDSTORE_KEY_OK;
}

/* Founding, adding and opening: no transaction, not even one that reads, waits for a key service.
 */
static void test_service_outside_transactions(void **state)
{
    const uint32_t rights = CREDSTORE_ROOT_READ | CREDSTORE_ROOT_REVEAL;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    fx f;
    watcher w = {0};
    const credstore_key_service service = {
        .struct_size = sizeof service, .wrap = watched_wrap, .unwrap = watched_unwrap, .ctx = &w};
    credstore_key_source *key = NULL;
    credstore_error err;
    credstore *store;

    (void)state;
    fx_begin(&f);
    w.engine = &f.engine;
    fx_ok(credstore_key_callback(&service, &key, &err), &err);
    f.options.key = key;
    store = fx_open(&f);
    assert_int_equal(w.calls, 1);
    fx_ok(credstore_root_add(store, &call, key, rights, NULL, &err), &err);
    assert_int_equal(w.calls, 2);
    credstore_close(store);
    credstore_close(fx_open(&f));
    assert_int_equal(w.calls, 3);
    assert_int_equal(w.inside, 0);
    credstore_key_source_free(key);
    fx_end(&f);
}

/* A provider without scrypt, or of a time before it, does all but passphrases. */
static void test_provider_without_scrypt(void **state)
{
    bench *b = *state;
    credstore_crypto providers[] = {fx_provider, fx_provider};
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    credstore_key_source *key = NULL;
    credstore_error err;

    providers[0].scrypt = NULL;
    providers[1].struct_size = offsetof(credstore_crypto, scrypt);
    fx_ok(credstore_key_passphrase("of a person", CREDSTORE_NTS, 14, &key, &err), &err);
    fx_ok(credstore_root_add(b->store, &call, key, CREDSTORE_ROOT_READ, NULL, &err), &err);
    for (size_t i = 0; i < FX_COUNT(providers); i++) {
        b->f.options.crypto = &providers[i];
        b->f.options.key = b->f.key;
        reopen(b);
        fx_fails(credstore_root_add(b->store, &call, key, CREDSTORE_ROOT_READ, NULL, &err),
                 CREDSTORE_E_UNSUPPORTED, &err);
        assert_string_equal(err.field, "key");
        b->f.options.key = key;
        fx_open_fails(&b->f, CREDSTORE_E_UNSUPPORTED);
    }
    b->f.options.crypto = &fx_provider;
    reopen(b);
    fx_ok(credstore_root_add(b->store, &call, key, CREDSTORE_ROOT_READ, NULL, &err), &err);
    credstore_key_source_free(key);
}

/* ---- newer and damaged ---- */

static void test_newer_header(void **state)
{
    bench *b = *state;
    cs_buf value;
    cs_key key;

    cs_key_meta(&key, false);
    value = fx_raw_get(b->store, &key);
    assert_int_equal(value.len, 26);
    assert_memory_equal(value.ptr,
                        "\x01"
                        "credstore",
                        10);
    for (unsigned format = 2; format < 256; format += 23) {
        value.ptr[0] = (uint8_t)format;
        fx_raw_put(&b->f, &key, &value);
        fx_open_fails(&b->f, CREDSTORE_E_FORMAT);
    }
    cs_buf_u8(&value, 7); /* a newer header may be longer */
    fx_raw_put(&b->f, &key, &value);
    fx_open_fails(&b->f, CREDSTORE_E_FORMAT);
    cs_buf_free(&value);
}

/* The sealed header as another release would write it. */
static void put_sealed_header(bench *b, const uint8_t *plain, size_t len)
{
    static const uint8_t nonce[CS_NONCE_LEN] = "24 bytes of a nonce.....";
    const cs_label label = {.role = CS_ROLE_META};
    uint8_t raw[CS_STORE_KEYS_LEN], rights;
    credstore_error err = {0};
    cs_buf slot, value = {0};
    cs_data_key body = {0};
    bool ours = false;
    cs_key key;

    cs_key_root(&key, 0);
    slot = fx_raw_get(b->store, &key);
    fx_ok(cs_root_unwrap(&b->store->sealer, b->f.key, 0, cs_bytes(slot.ptr, slot.len), raw, &rights,
                         &ours, &err),
          &err);
    fx_ok(cs_data_key_load(&b->store->sealer, CREDSTORE_SUITE_XAES_256_GCM, raw, &body, &err),
          &err);
    fx_ok(
        cs_seal_value(&b->store->sealer, &body, &label, nonce, cs_bytes(plain, len), &value, &err),
        &err);
    cs_data_key_free(&b->store->sealer, &body);
    cs_key_meta(&key, true);
    fx_raw_put(&b->f, &key, &value);
    cs_buf_free(&slot);
    cs_buf_free(&value);
}

static void test_newer_records(void **state)
{
    uint8_t plain[18] = {1};
    bench *b = *state;

    put_sealed_header(b, plain, 17);
    reopen(b);
    plain[0] = 2; /* the clear header still says 1: lowered, or not yet raised */
    put_sealed_header(b, plain, 17);
    fx_open_fails(&b->f, CREDSTORE_E_FORMAT);
    plain[0] = 1;
    put_sealed_header(b, plain, 16);
    fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
    put_sealed_header(b, plain, 18);
    fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
}

/* Each bit of the clear header, and each length. The store's id binds all else: with another, no
   slot is this key's. */
static void test_damaged_header(void **state)
{
    bench *b = *state;
    cs_buf value, cut;
    cs_key key;

    cs_key_meta(&key, false);
    value = fx_raw_get(b->store, &key);
    for (size_t bit = 0; bit < 8 * value.len; bit++) {
        const bool in_id = bit / 8 >= 10;
        credstore_status expected = in_id ? CREDSTORE_E_KEY_UNAVAILABLE : CREDSTORE_E_INTEGRITY;

        if (bit > 0 && bit < 8)
            expected = CREDSTORE_E_FORMAT;
        value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        fx_raw_put(&b->f, &key, &value);
        value.ptr[bit / 8] ^= (uint8_t)(1U << bit % 8);
        fx_open_fails(&b->f, expected);
    }
    cut = value;
    for (cut.len = 0; cut.len < value.len; cut.len++) {
        fx_raw_put(&b->f, &key, &cut);
        fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
    }
    cs_buf_u8(&value, 0);
    fx_raw_put(&b->f, &key, &value);
    fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
    value.len--;
    fx_raw_put(&b->f, &key, &value);
    reopen(b);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
    cs_buf_free(&value);
}

typedef struct founding_value {
    void (*key)(cs_key *key);
    credstore_status lost;
} founding_value;

static void sealed_header_key(cs_key *key)
{
    cs_key_meta(key, true);
}

static void body_ring_key(cs_key *key)
{
    cs_key_keyring(key, CS_PURPOSE_BODY);
}

static void secret_ring_key(cs_key *key)
{
    cs_key_keyring(key, CS_PURPOSE_SECRET);
}

static void head_key(cs_key *key)
{
    cs_key_head(key, 0);
}

static void first_slot_key(cs_key *key)
{
    cs_key_root(key, 0);
}

static const founding_value founding_values[] = {
    {sealed_header_key, CREDSTORE_E_INTEGRITY},    {body_ring_key, CREDSTORE_E_INTEGRITY},
    {secret_ring_key, CREDSTORE_E_INTEGRITY},      {head_key, CREDSTORE_E_INTEGRITY},
    {first_slot_key, CREDSTORE_E_KEY_UNAVAILABLE},
};

/* Lost, cut, or of another store with the same root key. */
static void test_damaged_founding(void **state)
{
    bench *b = *state;
    credstore *other;
    fx g;

    fx_begin(&g);
    other = fx_open(&g);
    for (size_t i = 0; i < FX_COUNT(founding_values); i++) {
        cs_buf value, theirs;
        cs_key key;

        founding_values[i].key(&key);
        value = fx_raw_get(b->store, &key);
        theirs = fx_raw_get(other, &key);
        fx_raw_del(&b->f, &key);
        fx_open_fails(&b->f, founding_values[i].lost);
        fx_raw_put(&b->f, &key, &theirs);
        fx_open_fails(&b->f, founding_values[i].lost);
        value.len--;
        fx_raw_put(&b->f, &key, &value);
        fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
        value.len++;
        fx_raw_put(&b->f, &key, &value);
        reopen(b);
        cs_buf_free(&value);
        cs_buf_free(&theirs);
    }
    credstore_close(other);
    fx_end(&g);
}

/* A store that lost its clear header is a damaged store, not an empty place to found one: that
   would write over its keys. */
static void test_lost_header_founds_nothing(void **state)
{
    bench *b = *state;
    cs_buf value;
    cs_key key;

    cs_key_meta(&key, false);
    value = fx_raw_get(b->store, &key);
    fx_raw_del(&b->f, &key);
    fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
    fx_raw_put(&b->f, &key, &value);
    reopen(b);
    fx_is(b->store, FX_KSUID, 1, "publishable", "first");
    cs_buf_free(&value);
}

static void test_damaged_catalogue(void **state)
{
    bench *b = *state;
    cs_buf value;
    cs_key key;

    cs_key_catalogue(&key);
    value = fx_raw_get(b->store, &key);
    value.ptr[value.len - 1] ^= 1;
    fx_raw_put(&b->f, &key, &value);
    fx_open_fails(&b->f, CREDSTORE_E_INTEGRITY);
    value.ptr[value.len - 1] ^= 1;
    fx_raw_put(&b->f, &key, &value);
    reopen(b);
    cs_buf_free(&value);
}

/* ---- rollback ---- */

static void test_rollback(void **state)
{
    bench *b = *state;
    fx_pairs before, after;
    credstore_error err;

    fx_dump(b->store, &before);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    fx_restore(&b->f, &before);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "text 3", &err), CREDSTORE_E_ROLLBACK, &err);
    fx_fails(fx_set_secret(b->store, FX_KSUID, "third", &err), CREDSTORE_E_ROLLBACK, &err);
    fx_dump(b->store, &after);
    assert_true(fx_pairs_equal(&before, &after));
    fx_pairs_free(&before);
    fx_pairs_free(&after);
}

/* What another process wrote counts as seen once a transaction of ours met it, though it changed
   nothing. */
static void test_rollback_of_anothers_change(void **state)
{
    bench *b = *state;
    credstore *other = fx_open(&b->f);
    fx_pairs before;
    credstore_error err;

    fx_ok(fx_set_publishable(other, FX_KSUID, "text 2", &err), &err);
    fx_dump(other, &before);
    fx_ok(fx_set_publishable(other, FX_KSUID, "text 3", &err), &err);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 3", &err), &err); /* no change */
    fx_restore(&b->f, &before);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "text 4", &err), CREDSTORE_E_ROLLBACK, &err);
    fx_pairs_free(&before);
    credstore_close(other);
}

/* ---- founding races ---- */

typedef struct rival {
    fx *f;
    credstore *store;
} rival;

static void found_first(void *arg)
{
    rival *r = arg;

    r->store = fx_open(r->f);
    fx_create_checkbook(r->store, FX_KSUID, "of the rival");
}

/* Another founds the store between our look and our turn: ours becomes the other's. */
static void test_lost_founding(void **state)
{
    fx f;
    rival r = {&f, NULL};
    credstore *store;

    (void)state;
    fx_begin(&f);
    f.engine.before = found_first;
    f.engine.before_arg = &r;
    f.engine.before_op = FX_BEGIN_WRITE;
    store = fx_open(&f);
    assert_memory_equal(store->sealer.store_id, r.store->sealer.store_id, CS_STORE_ID_LEN);
    fx_is(store, FX_KSUID, 1, "publishable", "of the rival");
    fx_create_checkbook(store, FX_KSUID_OTHER, "of the loser");
    fx_is(r.store, FX_KSUID_OTHER, 1, "publishable", "of the loser");
    credstore_close(store);
    credstore_close(r.store);
    fx_end(&f);
}

static void found_with_another_key(void *arg)
{
    rival *r = arg;
    credstore_key_source *theirs = fx_key(0x99);

    r->f->options.key = theirs;
    r->store = fx_open(r->f);
    r->f->options.key = r->f->key;
    credstore_key_source_free(theirs);
}

static void test_lost_founding_to_another_key(void **state)
{
    fx f;
    rival r = {&f, NULL};
    credstore *store = NULL;
    credstore_error err;

    (void)state;
    fx_begin(&f);
    f.engine.before = found_with_another_key;
    f.engine.before_arg = &r;
    f.engine.before_op = FX_BEGIN_WRITE;
    fx_fails(credstore_open(NULL, &f.options, &store, &err), CREDSTORE_E_KEY_UNAVAILABLE, &err);
    assert_null(store);
    fx_create_checkbook(r.store, FX_KSUID, "of the rival");
    fx_is(r.store, FX_KSUID, 1, "publishable", "of the rival");
    credstore_close(r.store);
    fx_end(&f);
}

/* ---- on disk ---- */

static credstore_options disk_options(const credstore_key_source *key, uint32_t flags)
{
    const credstore_options options = {.struct_size = sizeof options,
                                       .flags = flags,
                                       .key = key,
                                       .catalogue = fx_catalogue,
                                       .catalogue_count = FX_COUNT(fx_catalogue)};

    return options;
}

static credstore *open_disk(const char *path, uint8_t key_fill, uint32_t flags,
                            credstore_status expected)
{
    credstore_key_source *key = fx_key(key_fill);
    const credstore_options options = disk_options(key, flags);
    credstore *store = NULL;
    credstore_error err;

    if (credstore_open(path, &options, &store, &err) != expected)
        print_error("%s: %s\n", credstore_status_name(err.status), err.message);
    assert_int_equal(err.status, expected);
    assert_int_equal(store == NULL, expected != CREDSTORE_OK);
    credstore_key_source_free(key);
    return store;
}

static void fresh_path(char folder[TEST_PATH_MAX], char path[PATH_SIZE])
{
    test_folder(folder);
    snprintf(path, PATH_SIZE, "%s/store", folder);
}

static cs_buf file_of(const char *folder, const char *name)
{
    char path[PATH_SIZE + 32];
    cs_buf bytes = {0};
    uint8_t block[4096];
    size_t got;
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    assert_non_null(file);
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        cs_buf_add(&bytes, block, got);
    fclose(file);
    return bytes;
}

static void test_disk_refusals(void **state)
{
    char folder[TEST_PATH_MAX], path[PATH_SIZE];
    cs_buf before, after;
    credstore *store;
    credstore_error err;
    struct stat st;

    (void)state;
    fresh_path(folder, path);
    open_disk(path, 1, 0, CREDSTORE_E_NOT_FOUND);
    open_disk(path, 1, CREDSTORE_OPEN_READ_ONLY, CREDSTORE_E_NOT_FOUND);
    assert_int_not_equal(stat(path, &st), 0); /* nothing was made */
    store = open_disk(path, 1, CREDSTORE_OPEN_CREATE, CREDSTORE_OK);
    fx_create_checkbook(store, FX_KSUID, "first");
    credstore_close(store);

    before = file_of(path, "data.mdb");
    open_disk(path, 2, CREDSTORE_OPEN_CREATE, CREDSTORE_E_KEY_UNAVAILABLE);
    open_disk(path, 2, 0, CREDSTORE_E_KEY_UNAVAILABLE);
    after = file_of(path, "data.mdb");
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.ptr, after.ptr, before.len);
    store = open_disk(path, 1, CREDSTORE_OPEN_READ_ONLY, CREDSTORE_OK);
    fx_is(store, FX_KSUID, 1, "publishable", "first");
    fx_fails(fx_set_secret(store, FX_KSUID, "x", &err), CREDSTORE_E_FORBIDDEN, &err);
    credstore_close(store);
    cs_buf_free(&after);
    after = file_of(path, "data.mdb");
    assert_memory_equal(before.ptr, after.ptr, before.len);
    cs_buf_free(&before);
    cs_buf_free(&after);
    test_folder_remove(folder);
}

static void test_two_stores_of_one_folder(void **state)
{
    char folder[TEST_PATH_MAX], path[PATH_SIZE];
    credstore *one, *two;
    credstore_error err;

    (void)state;
    fresh_path(folder, path);
    one = open_disk(path, 1, CREDSTORE_OPEN_CREATE, CREDSTORE_OK);
    two = open_disk(path, 1, CREDSTORE_OPEN_CREATE, CREDSTORE_OK);
    fx_create_checkbook(one, FX_KSUID, "first");
    fx_is(two, FX_KSUID, 1, "publishable", "first");
    fx_ok(fx_set_publishable(two, FX_KSUID, "by two", &err), &err);
    fx_ok(fx_set_secret(one, FX_KSUID, "second", &err), &err);
    fx_ok(fx_set_secret(two, FX_KSUID, "third", &err), &err);
    fx_is(one, FX_KSUID, 4, "by two", "third");
    credstore_close(one);
    fx_is(two, FX_KSUID, 4, "by two", "third");
    fx_ok(fx_set_secret(two, FX_KSUID, "fourth", &err), &err);
    one = open_disk(path, 1, 0, CREDSTORE_OK);
    credstore_close(two);
    fx_is(one, FX_KSUID, 5, "by two", "fourth");
    credstore_close(one);
    test_folder_remove(folder);
}

typedef struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    const char *path;
    credstore *store;
    credstore_status status;
} racer;

static void *race(void *arg)
{
    racer *r = arg;
    const uint8_t raw[32] = {7};
    credstore_key_source *key = NULL;
    credstore_options options = disk_options(NULL, CREDSTORE_OPEN_CREATE);

    (void)pthread_barrier_wait(r->start);
    r->status = credstore_key_bytes(raw, sizeof raw, &key, NULL);
    options.key = key;
    if (r->status == CREDSTORE_OK)
        r->status = credstore_open(r->path, &options, &r->store, NULL);
    credstore_key_source_free(key);
    return NULL;
}

/* Threads that found the store in one folder at once all end up in the same one. */
static void test_founding_by_threads(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        char folder[TEST_PATH_MAX], path[PATH_SIZE];
        pthread_barrier_t start;
        racer racers[RACERS];

        fresh_path(folder, path);
        assert_int_equal(pthread_barrier_init(&start, NULL, RACERS), 0);
        for (size_t i = 0; i < RACERS; i++) {
            memset(&racers[i], 0, sizeof racers[i]);
            racers[i].start = &start;
            racers[i].path = path;
            assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
        }
        for (size_t i = 0; i < RACERS; i++)
            assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
        for (size_t i = 0; i < RACERS; i++) {
            assert_int_equal(racers[i].status, CREDSTORE_OK);
            assert_memory_equal(racers[i].store->sealer.store_id, racers[0].store->sealer.store_id,
                                CS_STORE_ID_LEN);
        }
        fx_create_checkbook(racers[0].store, FX_KSUID, "first");
        for (size_t i = 0; i < RACERS; i++) {
            fx_is(racers[i].store, FX_KSUID, 1, "publishable", "first");
            credstore_close(racers[i].store);
        }
        (void)pthread_barrier_destroy(&start);
        test_folder_remove(folder);
    }
}

/* In a child nothing may be asserted: it ends with a number. */
static int founding_child(const char *path, int number)
{
    const uint8_t raw[32] = {7};
    const credstore_actor admin =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&admin);
    char id[32];
    const credstore_service_credential_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("a name")};
    credstore_key_source *key = NULL;
    credstore_options options = disk_options(NULL, CREDSTORE_OPEN_CREATE);
    credstore *store = NULL;

    snprintf(id, sizeof id, "child%d", number);
    if (credstore_key_bytes(raw, sizeof raw, &key, NULL) != CREDSTORE_OK)
        return 1;
    options.key = key;
    if (credstore_open(path, &options, &store, NULL) != CREDSTORE_OK)
        return 2;
    if (credstore_service_credential_create(store, &call, "acme", "account", &origin, &patch, NULL,
                                            NULL) != CREDSTORE_OK)
        return 3;
    credstore_close(store);
    credstore_key_source_free(key);
    return 0;
}

static void child_ended_well(pid_t pid)
{
    int status = -1;

    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_founding_by_processes(void **state)
{
    const uint8_t raw[32] = {7};
    credstore_key_source *key = NULL;
    credstore_options options = disk_options(NULL, 0);
    char folder[TEST_PATH_MAX], path[PATH_SIZE];
    credstore_actor admin = fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&admin);
    const credstore_service_credential *view;
    credstore *store = NULL;
    credstore_error err;
    pid_t pids[RACERS];

    (void)state;
    fresh_path(folder, path);
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(founding_child(path, i));
    }
    for (int i = 0; i < RACERS; i++)
        child_ended_well(pids[i]);
    fx_ok(credstore_key_bytes(raw, sizeof raw, &key, &err), &err);
    options.key = key;
    fx_ok(credstore_open(path, &options, &store, &err), &err);
    for (int i = 0; i < RACERS; i++) {
        char id[32];

        snprintf(id, sizeof id, "child%d", i);
        fx_ok(credstore_service_credential_get(store, &call, "acme", "account", id, &view, &err),
              &err);
        credstore_free(view);
    }
    credstore_close(store);
    credstore_key_source_free(key);
    test_folder_remove(folder);
}

/* ---- forks ---- */

/* Every call on the parent's store in a forked child; 0 if all are refused. */
static int forked_child(credstore *store, const credstore_actor *actor)
{
    const credstore_call call = fx_call(actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT("by the child")};
    const credstore_request request = {.struct_size = sizeof request,
                                       .kind = CREDSTORE_KIND_CHECKBOOK,
                                       .verb = CREDSTORE_VERB_GET,
                                       .actor = actor,
                                       .id = {FX_KSUID, strlen(FX_KSUID)}};
    const credstore_answer *answer;
    const credstore_checkbook *view = NULL;
    credstore_actor copy = *actor;
    credstore_secret *secret = NULL;
    credstore_error err;

    if (credstore_checkbook_get(store, &call, FX_KSUID, &view, &err) != CREDSTORE_E_FORKED ||
        view != NULL || err.status != CREDSTORE_E_FORKED)
        return 1;
    if (credstore_checkbook_update(store, &call, FX_KSUID, &patch, NULL, &err) !=
        CREDSTORE_E_FORKED)
        return 2;
    if (credstore_checkbook_create(store, &call, NULL, &patch, NULL, &err) != CREDSTORE_E_FORKED)
        return 3;
    if (credstore_checkbook_reveal(store, &call, FX_KSUID, CREDSTORE_CHECKBOOK_SECRET_KEY, &secret,
                                   &err) != CREDSTORE_E_FORKED ||
        secret != NULL)
        return 4;
    if (credstore_actor_grant(store, &copy, "checkbook:read", &err) != CREDSTORE_E_FORKED)
        return 5;
    if (credstore_permit(store, actor, "checkbook:read") != 0)
        return 6;
    answer = credstore_handle(store, &request);
    if (answer == NULL || answer->status != CREDSTORE_E_FORKED || answer->http_status != 500)
        return 7;
    credstore_answer_free(answer);
    credstore_close(store);
    return 0;
}

static void fork_on(credstore *store, const credstore_checkbook *view, credstore_secret *secret)
{
    const credstore_actor actor = fx_system();
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        const int result = forked_child(store, &actor);

        credstore_free(view);
        for (size_t i = 0; i < credstore_secret_len(secret); i++)
            if (credstore_secret_ptr(secret)[i] != '\0')
                _exit(20); /* the secret is not in the child */
        credstore_secret_free(secret);
        _exit(result);
    }
    child_ended_well(pid);
    fx_is(store, FX_KSUID, 1, "publishable", "first"); /* and the parent goes on */
}

static void test_fork(void **state)
{
    static const bool on_disk[] = {false, true};

    (void)state;
    for (size_t i = 0; i < FX_COUNT(on_disk); i++) {
        char folder[TEST_PATH_MAX], path[PATH_SIZE];
        const credstore_checkbook *view = NULL;
        credstore_secret *secret = NULL;
        credstore_error err;
        credstore *store;

        fresh_path(folder, path);
        store = open_disk(on_disk[i] ? path : NULL, 1, CREDSTORE_OPEN_CREATE, CREDSTORE_OK);
        fx_create_checkbook(store, FX_KSUID, "first");
        fx_ok(fx_get_checkbook(store, FX_KSUID, 0, &view, &err), &err);
        fx_ok(fx_reveal_checkbook(store, FX_KSUID, 0, &secret, &err), &err);
        fork_on(store, view, secret);
        fx_ok(fx_set_publishable(store, FX_KSUID, "by the parent", &err), &err);
        fx_is(store, FX_KSUID, 2, "by the parent", "first");
        credstore_close(store);
        assert_string_equal(view->publishable_key, "publishable"); /* both outlive the store */
        assert_string_equal(credstore_secret_ptr(secret), "first");
        credstore_free(view);
        credstore_secret_free(secret);
        test_folder_remove(folder);
    }
}

/* ---- the clock ---- */

static void test_clock(void **state)
{
    static const struct {
        int64_t clock, now; /* both as a distance from FX_NOW, the largest time seen */
    } rows[] = {
        {0, 0},
        {1, 1},
        {-1, 0},
        {-FX_DAY + 1, 0},   /* back by less than a day: the largest time seen */
        {-FX_DAY, -FX_DAY}, /* by a day or more: the clock */
        {-300 * FX_DAY, -300 * FX_DAY},
        {300 * FX_DAY, 300 * FX_DAY}, /* ahead: the clock */
    };
    bench *b = *state;

    for (size_t i = 0; i < FX_COUNT(rows); i++) {
        b->f.now = FX_NOW + rows[i].clock;
        assert_true(cs_store_now(b->store) == FX_NOW + rows[i].now);
    }
    for (size_t i = 0; i < FX_COUNT(rows); i++) { /* the same from what the store remembers */
        b->f.now = FX_NOW;
        reopen(b);
        b->f.now = FX_NOW + rows[i].clock;
        reopen(b);
        assert_true(cs_store_now(b->store) == FX_NOW + rows[i].now);
    }
}

/* Clocks that are out of their minds decide nothing undefined: times that are made of them, a
   grace's end above all, must not overflow. */
static void test_mad_clocks(void **state)
{
    static const int64_t last = INT64_C(253402300799999); /* of the year 9999 */
    static const int64_t clocks[][2] = {
        {INT64_MIN, FX_NOW}, {-1, FX_NOW},     {0, FX_NOW}, /* cannot tell */
        {last, last},        {last + 1, last}, {INT64_MAX, last}};
    bench *b = *state;

    for (size_t i = 0; i < FX_COUNT(clocks); i++) {
        b->f.now = clocks[i][0];
        assert_true(cs_store_now(b->store) == clocks[i][1]);
    }
    b->f.now = FX_NOW;
}

static int64_t updated_at(credstore *store)
{
    const credstore_checkbook *view = NULL;
    credstore_error err;
    int64_t at;

    fx_ok(fx_get_checkbook(store, FX_KSUID, 0, &view, &err), &err);
    at = view->updated_at;
    credstore_free(view);
    return at;
}

/* Times of records go by the same rule, and by what others have written. */
static void test_times_of_changes(void **state)
{
    bench *b = *state;
    credstore *other = fx_open(&b->f);
    credstore_error err;

    b->f.now = FX_NOW + 3600000;
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    assert_true(updated_at(b->store) == FX_NOW + 3600000);
    b->f.now = FX_NOW + 60000; /* back by 59 minutes */
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 3", &err), &err);
    assert_true(updated_at(b->store) == FX_NOW + 3600000);
    fx_ok(fx_set_publishable(other, FX_KSUID, "text 4", &err), &err); /* saw nothing of it */
    assert_true(updated_at(b->store) == FX_NOW + 3600000);
    assert_true(cs_store_now(other) == FX_NOW + 3600000);

    b->f.now = FX_NOW + 400 * FX_DAY; /* a jump ahead by mistake */
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 5", &err), &err);
    assert_true(updated_at(b->store) == FX_NOW + 400 * FX_DAY);
    b->f.now = FX_NOW + 2 * FX_DAY; /* and put right: what decides follows, the record stays */
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 6", &err), &err);
    assert_true(cs_store_now(b->store) == FX_NOW + 2 * FX_DAY);
    assert_true(updated_at(b->store) == FX_NOW + 400 * FX_DAY);
    credstore_close(other);
}

/* An actor that expired stays so while the clock goes back by minutes. */
static void test_expiry_does_not_go_back(void **state)
{
    bench *b = *state;
    credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook *view = NULL;
    credstore_error err;

    actor.expires_at = FX_NOW + 5000;
    fx_ok(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), &err);
    credstore_free(view);
    b->f.now = FX_NOW + 6000;
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    b->f.now = FX_NOW;
    fx_fails(credstore_checkbook_get(b->store, &call, FX_KSUID, &view, &err), CREDSTORE_E_EXPIRED,
             &err);
    assert_null(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test_setup_teardown(test_short_options, begin, end),
        cmocka_unit_test_setup_teardown(test_hosts_are_copied, begin, end),
        cmocka_unit_test_setup_teardown(test_backends_are_closed_once, begin, end),
        cmocka_unit_test(test_no_create),
        cmocka_unit_test_setup_teardown(test_read_only, begin, end),
        cmocka_unit_test(test_memory_store),
        cmocka_unit_test_setup_teardown(test_wrong_key, begin, end),
        cmocka_unit_test_setup_teardown(test_several_slots, begin, end),
        cmocka_unit_test(test_service_outside_transactions),
        cmocka_unit_test_setup_teardown(test_provider_without_scrypt, begin, end),
        cmocka_unit_test_setup_teardown(test_newer_header, begin, end),
        cmocka_unit_test_setup_teardown(test_newer_records, begin, end),
        cmocka_unit_test_setup_teardown(test_damaged_header, begin, end),
        cmocka_unit_test_setup_teardown(test_damaged_founding, begin, end),
        cmocka_unit_test_setup_teardown(test_lost_header_founds_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_damaged_catalogue, begin, end),
        cmocka_unit_test_setup_teardown(test_rollback, begin, end),
        cmocka_unit_test_setup_teardown(test_rollback_of_anothers_change, begin, end),
        cmocka_unit_test(test_lost_founding),
        cmocka_unit_test(test_lost_founding_to_another_key),
        cmocka_unit_test(test_disk_refusals),
        cmocka_unit_test(test_two_stores_of_one_folder),
        cmocka_unit_test(test_founding_by_threads),
        cmocka_unit_test(test_founding_by_processes),
        cmocka_unit_test(test_fork),
        cmocka_unit_test_setup_teardown(test_clock, begin, end),
        cmocka_unit_test_setup_teardown(test_mad_clocks, begin, end),
        cmocka_unit_test_setup_teardown(test_times_of_changes, begin, end),
        cmocka_unit_test_setup_teardown(test_expiry_does_not_go_back, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
