/* SPDX-License-Identifier: MIT
 *
 * What the tests of the core share: a store on a memory engine that outlives the store and can be
 * made to fail, a crypto provider that can be made to fail or to draw from a fixed stream, a clock
 * that stands still, actors, and raw access to what lies in the engine.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/openssl.h"
#include "load.h"
#include "ring.h"
#include "root.h"
#include "storage/engines.h"
#include "store.h"
#include "txn.h"

#define FX_COUNT(array) (sizeof(array) / sizeof *(array))
#define FX_NOW          INT64_C(1700000000000)
#define FX_DAY          INT64_C(86400000)
#define FX_PAIRS        512

#define FX_KSUID       "0ujtsYcgvSTl8PAuAdqWYSMnLOv"
#define FX_KSUID_OTHER "0ujzPyRiIAffKhBux4PvQdDqMHY"
#define FX_PROJECT     "3c90c3cc-0d44-4b50-8888-8dd25736052a"

/* Fails the test with the library's own line, which says more than two numbers. */
#define fx_ok(call, err)                                                                           \
    do {                                                                                           \
        const credstore_status fx_status = (call);                                                 \
        if (fx_status != CREDSTORE_OK)                                                             \
            print_error("%s: %s\n", credstore_status_name((int32_t)fx_status), (err)->message);    \
        assert_int_equal(fx_status, CREDSTORE_OK);                                                 \
        assert_int_equal((err)->status, CREDSTORE_OK);                                             \
    } while (0)

/* The status that was answered is the one that the error tells. */
#define fx_fails(call, expected, err)                                                              \
    do {                                                                                           \
        const credstore_status fx_status = (call);                                                 \
        if (fx_status != (expected))                                                               \
            print_error("%s: %s\n", credstore_status_name((int32_t)fx_status), (err)->message);    \
        assert_int_equal(fx_status, expected);                                                     \
        assert_int_equal((err)->status, expected);                                                 \
        assert_true((err)->message[0] != '\0');                                                    \
    } while (0)

/* ---- faults ---- */

typedef struct fx_fault {
    int skip;       /* so many calls go well */
    int times;      /* then so many answer result; 0 = none */
    int32_t result; /* what they answer */
    bool anyway;    /* and yet do their work */
} fx_fault;

static inline bool fx_fails_now(fx_fault *fault)
{
    if (fault->times == 0)
        return false;
    if (fault->skip > 0) {
        fault->skip--;
        return false;
    }
    fault->times--;
    return true;
}

/* ---- the engine ---- */

enum {
    FX_BEGIN_READ,
    FX_BEGIN_WRITE,
    FX_GET,
    FX_SCAN,
    FX_PUT,
    FX_DEL,
    FX_COMMIT,
    FX_ABORT,
    FX_ENGINE_OPS
};

typedef struct fx_engine {
    void *memory;
    fx_fault fault[FX_ENGINE_OPS];
    atomic_uint calls[FX_ENGINE_OPS];
    atomic_uint begun, closed;
    int64_t last_wait_ms;
    int32_t native;
    void (*before)(void *arg); /* called once, in the next call of before_op */
    void *before_arg;
    int before_op;
    _Atomic(void *) writer; /* the write transaction that is open */
    atomic_bool has_put;    /* and whether it has put something */
    atomic_uint late_reads; /* reads of a change after one of its puts: there are none */
} fx_engine;

static inline void fx_count(fx_engine *e, int op, const void *txn)
{
    void (*before)(void *arg) = e->before_op == op ? e->before : NULL;

    atomic_fetch_add(&e->calls[op], 1);
    if (before != NULL) {
        e->before = NULL;
        before(e->before_arg);
    }
    if ((op == FX_GET || op == FX_SCAN) && e->writer == txn && e->has_put)
        atomic_fetch_add(&e->late_reads, 1);
}

static inline int32_t fx_engine_begin(void *ctx, uint32_t write, int64_t wait_ms, void **txn)
{
    fx_engine *e = ctx;
    const int op = write != 0 ? FX_BEGIN_WRITE : FX_BEGIN_READ;
    int32_t result;

    fx_count(e, op, NULL);
    *txn = NULL;
    if (fx_fails_now(&e->fault[op]))
        return e->fault[op].result;
    result = cs_storage_memory.begin(e->memory, write, wait_ms, txn);
    if (result == CREDSTORE_STORAGE_OK)
        atomic_fetch_add(&e->begun, 1);
    if (write == 0 || result != CREDSTORE_STORAGE_OK)
        return result;
    e->last_wait_ms = wait_ms;
    e->has_put = false;
    e->writer = *txn;
    return result;
}

static inline int32_t fx_engine_get(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    fx_engine *e = ctx;

    fx_count(e, FX_GET, txn);
    if (!fx_fails_now(&e->fault[FX_GET]))
        return cs_storage_memory.get(e->memory, txn, key, out);
    if (e->fault[FX_GET].anyway)
        (void)cs_storage_memory.get(e->memory, txn, key, out);
    return e->fault[FX_GET].result;
}

static inline int32_t fx_engine_scan(void *ctx, void *txn, credstore_bytes from, credstore_bytes to,
                                     uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    fx_engine *e = ctx;

    fx_count(e, FX_SCAN, txn);
    if (!fx_fails_now(&e->fault[FX_SCAN]))
        return cs_storage_memory.scan(e->memory, txn, from, to, reverse, limit, out);
    if (e->fault[FX_SCAN].anyway)
        (void)cs_storage_memory.scan(e->memory, txn, from, to, reverse, limit, out);
    return e->fault[FX_SCAN].result;
}

static inline int32_t fx_engine_put(void *ctx, void *txn, credstore_bytes key,
                                    credstore_bytes value)
{
    fx_engine *e = ctx;

    fx_count(e, FX_PUT, txn);
    e->has_put = true;
    if (!fx_fails_now(&e->fault[FX_PUT]))
        return cs_storage_memory.put(e->memory, txn, key, value);
    if (e->fault[FX_PUT].anyway)
        (void)cs_storage_memory.put(e->memory, txn, key, value);
    return e->fault[FX_PUT].result;
}

static inline int32_t fx_engine_del(void *ctx, void *txn, credstore_bytes key)
{
    fx_engine *e = ctx;

    fx_count(e, FX_DEL, txn);
    e->has_put = true;
    if (!fx_fails_now(&e->fault[FX_DEL]))
        return cs_storage_memory.del(e->memory, txn, key);
    return e->fault[FX_DEL].result;
}

static inline int32_t fx_engine_commit(void *ctx, void *txn)
{
    fx_engine *e = ctx;
    const bool fails = fx_fails_now(&e->fault[FX_COMMIT]);
    int32_t result = CREDSTORE_STORAGE_OK;

    fx_count(e, FX_COMMIT, txn);
    if (e->writer == txn)
        e->writer = NULL;
    if (fails && !e->fault[FX_COMMIT].anyway)
        cs_storage_memory.abort(e->memory, txn);
    else
        result = cs_storage_memory.commit(e->memory, txn);
    return fails ? e->fault[FX_COMMIT].result : result;
}

static inline void fx_engine_abort(void *ctx, void *txn)
{
    fx_engine *e = ctx;

    fx_count(e, FX_ABORT, txn);
    if (e->writer == txn)
        e->writer = NULL;
    cs_storage_memory.abort(e->memory, txn);
}

static inline int32_t fx_engine_native(void *ctx)
{
    return ((const fx_engine *)ctx)->native;
}

/* The map outlives the store: fx_end() frees it. */
static inline void fx_engine_close(void *ctx)
{
    atomic_fetch_add(&((fx_engine *)ctx)->closed, 1);
}

static const credstore_storage fx_storage = {
    .struct_size = sizeof(credstore_storage),
    .features = CREDSTORE_STORAGE_READ_OWN_WRITES,
    .name = "fixture",
    .begin = fx_engine_begin,
    .get = fx_engine_get,
    .scan = fx_engine_scan,
    .put = fx_engine_put,
    .del = fx_engine_del,
    .commit = fx_engine_commit,
    .abort = fx_engine_abort,
    .native = fx_engine_native,
    .close = fx_engine_close,
};

/* Every transaction that began has ended. */
static inline void fx_engine_balanced(fx_engine *e)
{
    assert_int_equal(e->begun, e->calls[FX_COMMIT] + e->calls[FX_ABORT]);
    assert_int_equal(e->late_reads, 0);
}

/* ---- the crypto provider ---- */

enum { FX_KEY_LOAD, FX_SEAL, FX_OPEN, FX_MAC, FX_RANDOM, FX_CRYPTO_OPS };

typedef struct fx_crypto {
    void *openssl;
    fx_fault fault[FX_CRYPTO_OPS];
    atomic_uint calls[FX_CRYPTO_OPS];
    atomic_uint loaded, freed, closed;
    bool fixed; /* random is, for each call anew, SHA-256 of the call's number and the block's */
    uint64_t draws;
} fx_crypto;

static inline int32_t fx_crypto_key_load(void *ctx, uint32_t suite, credstore_bytes key, void **out)
{
    fx_crypto *c = ctx;
    int32_t result;

    atomic_fetch_add(&c->calls[FX_KEY_LOAD], 1);
    if (fx_fails_now(&c->fault[FX_KEY_LOAD]))
        return c->fault[FX_KEY_LOAD].result;
    result = cs_crypto_openssl.key_load(c->openssl, suite, key, out);
    if (result == CREDSTORE_CRYPTO_OK)
        atomic_fetch_add(&c->loaded, 1);
    return result;
}

static inline void fx_crypto_key_free(void *ctx, void *key)
{
    fx_crypto *c = ctx;

    atomic_fetch_add(&c->freed, 1);
    cs_crypto_openssl.key_free(c->openssl, key);
}

static inline int32_t fx_crypto_seal(void *ctx, void *key, const uint8_t nonce[24],
                                     credstore_bytes associated, credstore_bytes plain,
                                     uint8_t *out, uint8_t tag[16])
{
    fx_crypto *c = ctx;

    atomic_fetch_add(&c->calls[FX_SEAL], 1);
    if (fx_fails_now(&c->fault[FX_SEAL]))
        return c->fault[FX_SEAL].result;
    return cs_crypto_openssl.seal(c->openssl, key, nonce, associated, plain, out, tag);
}

static inline int32_t fx_crypto_open(void *ctx, void *key, const uint8_t nonce[24],
                                     credstore_bytes associated, credstore_bytes sealed,
                                     const uint8_t tag[16], uint8_t *out)
{
    fx_crypto *c = ctx;

    atomic_fetch_add(&c->calls[FX_OPEN], 1);
    if (fx_fails_now(&c->fault[FX_OPEN]))
        return c->fault[FX_OPEN].result;
    return cs_crypto_openssl.open(c->openssl, key, nonce, associated, sealed, tag, out);
}

static inline int32_t fx_crypto_mac(void *ctx, void *key, credstore_bytes message, uint8_t out[32])
{
    fx_crypto *c = ctx;

    atomic_fetch_add(&c->calls[FX_MAC], 1);
    if (fx_fails_now(&c->fault[FX_MAC]))
        return c->fault[FX_MAC].result;
    return cs_crypto_openssl.mac(c->openssl, key, message, out);
}

static inline int32_t fx_crypto_digest(void *ctx, credstore_bytes message, uint8_t out[32])
{
    return cs_crypto_openssl.digest(((fx_crypto *)ctx)->openssl, message, out);
}

static inline int32_t fx_crypto_scrypt(void *ctx, credstore_bytes passphrase, credstore_bytes salt,
                                       uint64_t n, uint32_t r, uint32_t p, uint8_t out[32])
{
    return cs_crypto_openssl.scrypt(((fx_crypto *)ctx)->openssl, passphrase, salt, n, r, p, out);
}

/* How much a call asks for does not change what the next one gets. */
static inline int32_t fx_fixed_random(fx_crypto *c, uint8_t *out, size_t len)
{
    uint8_t message[16], block[32];

    cs_put_u64(message, c->draws++);
    for (uint64_t n = 0; len > 0; n++) {
        const size_t step = len < sizeof block ? len : sizeof block;

        cs_put_u64(message + 8, n);
        if (fx_crypto_digest(c, cs_bytes(message, sizeof message), block) != CREDSTORE_CRYPTO_OK)
            return CREDSTORE_CRYPTO_FAILED;
        memcpy(out, block, step);
        out += step;
        len -= step;
    }
    return CREDSTORE_CRYPTO_OK;
}

static inline int32_t fx_crypto_random(void *ctx, uint8_t *out, size_t len)
{
    fx_crypto *c = ctx;

    atomic_fetch_add(&c->calls[FX_RANDOM], 1);
    if (fx_fails_now(&c->fault[FX_RANDOM]))
        return c->fault[FX_RANDOM].result;
    if (c->fixed)
        return fx_fixed_random(c, out, len);
    return cs_crypto_openssl.random(c->openssl, out, len);
}

static inline void fx_crypto_close(void *ctx)
{
    atomic_fetch_add(&((fx_crypto *)ctx)->closed, 1);
}

static const credstore_crypto fx_provider = {
    .struct_size = sizeof(credstore_crypto),
    .name = "fixture",
    .key_load = fx_crypto_key_load,
    .key_free = fx_crypto_key_free,
    .seal = fx_crypto_seal,
    .open = fx_crypto_open,
    .mac = fx_crypto_mac,
    .digest = fx_crypto_digest,
    .random = fx_crypto_random,
    .close = fx_crypto_close,
    .scrypt = fx_crypto_scrypt,
};

/* ---- a store's surroundings ---- */

static const credstore_permission fx_catalogue[] = {
    {"readApplications", "applications", "read"},
    {"writeApplications", "applications", "write"},
    {"checkbook:update", "checkbook", "update"},
    {"checkbook:read", "checkbook", "read"},
    {"checkbook:reveal", "checkbook", "reveal"},
    {"stripe:update", "stripe", "update"},
    {"stripe:reveal", "stripe", "reveal"},
    {"service_credentials:update", "service_credentials", "update"},
};

typedef struct fx {
    fx_engine engine;
    fx_crypto crypto;
    int64_t now;
    credstore_key_source *key;
    credstore_options options;
} fx;

static inline int64_t fx_clock(void *ctx)
{
    return *(const int64_t *)ctx;
}

static inline credstore_key_source *fx_key(uint8_t fill)
{
    credstore_key_source *key = NULL;
    credstore_error err;
    uint8_t raw[32];

    memset(raw, fill, sizeof raw);
    fx_ok(credstore_key_bytes(raw, sizeof raw, &key, &err), &err);
    return key;
}

static inline void fx_begin(fx *f)
{
    credstore_error err = {0};

    memset(f, 0, sizeof *f);
    fx_ok(cs_memory_new(&f->engine.memory, &err), &err);
    fx_ok(cs_openssl_new(&f->crypto.openssl, &err), &err);
    f->now = FX_NOW;
    f->key = fx_key(0x42);
    f->options.struct_size = sizeof f->options;
    f->options.flags = CREDSTORE_OPEN_CREATE;
    f->options.key = f->key;
    f->options.storage = &fx_storage;
    f->options.storage_ctx = &f->engine;
    f->options.crypto = &fx_provider;
    f->options.crypto_ctx = &f->crypto;
    f->options.catalogue = fx_catalogue;
    f->options.catalogue_count = FX_COUNT(fx_catalogue);
    f->options.now_ms = fx_clock;
    f->options.now_ctx = &f->now;
}

static inline void fx_end(fx *f)
{
    assert_int_equal(f->crypto.loaded, f->crypto.freed);
    fx_engine_balanced(&f->engine);
    credstore_key_source_free(f->key);
    cs_storage_memory.close(f->engine.memory);
    cs_crypto_openssl.close(f->crypto.openssl);
}

static inline credstore *fx_open(fx *f)
{
    credstore *store = NULL;
    credstore_error err;

    fx_ok(credstore_open(NULL, &f->options, &store, &err), &err);
    assert_non_null(store);
    return store;
}

/* Opening answers `status` and hands out nothing, and nothing was written. */
static inline void fx_open_fails(fx *f, credstore_status status)
{
    const unsigned commits = f->engine.calls[FX_COMMIT];
    const unsigned closed = f->engine.closed + f->crypto.closed;
    const unsigned held = f->crypto.loaded - f->crypto.freed; /* by stores that are open */
    credstore *store = (credstore *)(void *)f;
    credstore_error err;

    fx_fails(credstore_open(NULL, &f->options, &store, &err), status, &err);
    assert_null(store);
    assert_int_equal(f->engine.calls[FX_COMMIT], commits);
    assert_int_equal(f->engine.closed + f->crypto.closed, closed); /* still the caller's */
    assert_int_equal(f->crypto.loaded - f->crypto.freed, held);
    fx_engine_balanced(&f->engine);
}

/* ---- actors, calls, records ---- */

static inline credstore_actor fx_actor(uint32_t type, uint32_t roles, const char *id,
                                       const char *tenant)
{
    credstore_actor actor = {.struct_size = sizeof actor, .type = type, .roles = roles};

    snprintf(actor.id, sizeof actor.id, "%s", id);
    snprintf(actor.tenant, sizeof actor.tenant, "%s", tenant);
    return actor;
}

static inline credstore_actor fx_system(void)
{
    return fx_actor(CREDSTORE_ACTOR_SYSTEM, 0, "platform", "acme");
}

static inline credstore_actor fx_admin(const credstore *store)
{
    credstore_actor admin = fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    credstore_error err;

    for (size_t i = 0; i < 2; i++)
        fx_ok(credstore_actor_grant(store, &admin, fx_catalogue[i].id, &err), &err);
    return admin;
}

static inline credstore_call fx_call(const credstore_actor *actor)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};

    return call;
}

static inline void fx_create_checkbook(credstore *store, const char *id, const char *secret)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("publishable"),
        .secret_key = CREDSTORE_SECRET(secret, CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io"),
    };
    credstore_error err;

    fx_ok(credstore_checkbook_create(store, &call, &origin, &patch, NULL, &err), &err);
}

static inline credstore_status fx_set_publishable(credstore *store, const char *id,
                                                  const char *text, credstore_error *err)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT(text)};

    return credstore_checkbook_update(store, &call, id, &patch, NULL, err);
}

static inline credstore_status fx_set_secret(credstore *store, const char *id, const char *text,
                                             credstore_error *err)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .secret_key = CREDSTORE_SECRET(text, CREDSTORE_NTS)};

    return credstore_checkbook_update(store, &call, id, &patch, NULL, err);
}

static inline credstore_status fx_get_checkbook(credstore *store, const char *id, uint64_t revision,
                                                const credstore_checkbook **out,
                                                credstore_error *err)
{
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);

    call.at_revision = revision;
    return credstore_checkbook_get(store, &call, id, out, err);
}

static inline credstore_status fx_reveal_checkbook(credstore *store, const char *id,
                                                   uint64_t revision, credstore_secret **out,
                                                   credstore_error *err)
{
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);

    call.at_revision = revision;
    return credstore_checkbook_reveal(store, &call, id, CREDSTORE_CHECKBOOK_SECRET_KEY, out, err);
}

/* The record is at this revision with this text and this secret. */
static inline void fx_is(credstore *store, const char *id, uint64_t revision, const char *text,
                         const char *secret)
{
    const credstore_checkbook *view = NULL;
    credstore_secret *revealed = NULL;
    credstore_error err;

    fx_ok(fx_get_checkbook(store, id, 0, &view, &err), &err);
    assert_int_equal(view->revision, revision);
    assert_string_equal(view->publishable_key, text);
    credstore_free(view);
    fx_ok(fx_reveal_checkbook(store, id, 0, &revealed, &err), &err);
    assert_string_equal(credstore_secret_ptr(revealed), secret);
    credstore_secret_free(revealed);
}

static inline void fx_get_fails(credstore *store, const char *id, credstore_status status)
{
    const credstore_checkbook *view = (const credstore_checkbook *)(const void *)store;
    credstore_error err;

    fx_fails(fx_get_checkbook(store, id, 0, &view, &err), status, &err);
    assert_null(view);
}

static inline void fx_reveal_fails(credstore *store, const char *id, credstore_status status)
{
    credstore_secret *secret = (credstore_secret *)(void *)store;
    credstore_error err;

    fx_fails(fx_reveal_checkbook(store, id, 0, &secret, &err), status, &err);
    assert_null(secret);
}

/* ---- what lies in the engine ---- */

typedef struct fx_pair {
    cs_buf key, value;
} fx_pair;

typedef struct fx_pairs {
    size_t count;
    fx_pair pair[FX_PAIRS];
} fx_pairs;

static inline bool fx_take_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    fx_pairs *all = arg;
    fx_pair *pair = &all->pair[all->count];

    assert_true(all->count < FX_PAIRS);
    memset(pair, 0, sizeof *pair);
    cs_buf_add(&pair->key, key.ptr, key.len);
    cs_buf_add(&pair->value, value.ptr, value.len);
    all->count++;
    return true;
}

static inline void fx_dump(credstore *store, fx_pairs *all)
{
    const cs_key from = {1, {0}}, to = {0, {0}};
    const cs_scan scan = {.visit = fx_take_pair, .arg = all};
    credstore_error err = {0};
    cs_txn txn;

    all->count = 0;
    fx_ok(cs_txn_read(store, &txn, &err), &err);
    fx_ok(cs_txn_scan(&txn, &from, &to, &scan, &err), &err);
    cs_txn_end(&txn);
}

static inline void fx_pairs_free(fx_pairs *all)
{
    for (size_t i = 0; i < all->count; i++) {
        cs_buf_free(&all->pair[i].key);
        cs_buf_free(&all->pair[i].value);
    }
    all->count = 0;
}

static inline bool fx_pairs_equal(const fx_pairs *a, const fx_pairs *b)
{
    bool equal = a->count == b->count;

    for (size_t i = 0; i < a->count && equal; i++)
        equal = cs_bytes_equal(cs_bytes(a->pair[i].key.ptr, a->pair[i].key.len),
                               cs_bytes(b->pair[i].key.ptr, b->pair[i].key.len)) &&
                cs_bytes_equal(cs_bytes(a->pair[i].value.ptr, a->pair[i].value.len),
                               cs_bytes(b->pair[i].value.ptr, b->pair[i].value.len));
    return equal;
}

/* A map with these pairs and no other. */
static inline void *fx_memory_of(const fx_pairs *all)
{
    credstore_error err = {0};
    void *memory = NULL, *txn = NULL;

    fx_ok(cs_memory_new(&memory, &err), &err);
    assert_int_equal(cs_storage_memory.begin(memory, 1, -1, &txn), CREDSTORE_STORAGE_OK);
    for (size_t i = 0; i < all->count; i++)
        assert_int_equal(
            cs_storage_memory.put(memory, txn, cs_bytes(all->pair[i].key.ptr, all->pair[i].key.len),
                                  cs_bytes(all->pair[i].value.ptr, all->pair[i].value.len)),
            CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_memory.commit(memory, txn), CREDSTORE_STORAGE_OK);
    return memory;
}

/* Puts the engine back to what it held, behind the store's back. */
static inline void fx_restore(fx *f, const fx_pairs *all)
{
    void *memory = fx_memory_of(all);

    cs_storage_memory.close(f->engine.memory);
    f->engine.memory = memory;
}

static inline void fx_raw_put(fx *f, const cs_key *key, const cs_buf *value)
{
    void *txn = NULL;

    assert_int_equal(cs_storage_memory.begin(f->engine.memory, 1, -1, &txn), CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_memory.put(f->engine.memory, txn, cs_key_bytes(key),
                                           cs_bytes(value->ptr, value->len)),
                     CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_memory.commit(f->engine.memory, txn), CREDSTORE_STORAGE_OK);
}

static inline void fx_raw_del(fx *f, const cs_key *key)
{
    void *txn = NULL;

    assert_int_equal(cs_storage_memory.begin(f->engine.memory, 1, -1, &txn), CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_memory.del(f->engine.memory, txn, cs_key_bytes(key)),
                     CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_memory.commit(f->engine.memory, txn), CREDSTORE_STORAGE_OK);
}

/* A copy of a value, through a store that is open; to be freed with cs_buf_free(). */
static inline cs_buf fx_raw_get(credstore *store, const cs_key *key)
{
    cs_buf copy = {0};
    credstore_bytes value;
    credstore_error err = {0};
    bool found = false;
    cs_txn txn;

    fx_ok(cs_txn_read(store, &txn, &err), &err);
    fx_ok(cs_txn_get(&txn, key, &value, &found, &err), &err);
    assert_true(found);
    cs_buf_add(&copy, value.ptr, value.len);
    cs_txn_end(&txn);
    return copy;
}

/* Opens the box of a value like the library would, without its rules on what is inside. */
static inline cs_buf fx_unseal(credstore *store, const cs_label *label, const cs_box *box)
{
    cs_buf plain = {0};
    credstore_error err = {0};

    assert_non_null(cs_buf_room(&plain, box->sealed.len + 1));
    plain.len = box->sealed.len;
    fx_ok(cs_keyring_unseal(&store->sealer, cs_store_ring(store), CS_PURPOSE_BODY, label, box,
                            plain.ptr, &err),
          &err);
    return plain;
}

/* A slot for another root key with these rights, put straight into the engine. */
static inline void fx_add_slot(fx *f, credstore *store, uint16_t slot,
                               const credstore_key_source *key, uint8_t rights)
{
    uint8_t raw[CS_STORE_KEYS_LEN], had = 0;
    credstore_error err = {0};
    bool ours = false;
    cs_buf first, value = {0};
    cs_key at;

    cs_key_root(&at, 0);
    first = fx_raw_get(store, &at);
    fx_ok(cs_root_unwrap(&store->sealer, f->key, 0, cs_bytes(first.ptr, first.len), raw, &had,
                         &ours, &err),
          &err);
    assert_true(ours);
    fx_ok(cs_root_wrap(&store->sealer, key, slot, rights, raw, &value, &err), &err);
    cs_key_root(&at, slot);
    fx_raw_put(f, &at, &value);
    cs_buf_free(&first);
    cs_buf_free(&value);
}

#endif
