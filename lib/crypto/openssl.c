/* SPDX-License-Identifier: MIT
 *
 * The crypto provider that comes with the library: XAES-256-GCM (c2sp.org/XAES-256-GCM),
 * HMAC-SHA256 (RFC 2104), SHA-256 and randomness from OpenSSL 3 libcrypto.
 *
 * Everything is fetched from the default library context, not from one of our own. A context of our
 * own would keep a generator for each thread that drew from it; OpenSSL 3.0 frees those when the
 * thread ends, by then through a context that closing the store has freed, and crashes. It would
 * also pass by what the operator configured for the process, FIPS above all. Nothing in the default
 * context is changed, and what was fetched holds its provider until the store is closed.
 */
#include "crypto/openssl.h"

#include <limits.h>
#include <openssl/core_dispatch.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "secret.h"

enum {
    KEY_LEN = 32,
    TAG_LEN = 16,
    BLOCK = 16,      /* of AES */
    SALT_LEN = 12,   /* first half of a nonce: goes into the subkey */
    HASH_LEN = 32,   /* of SHA-256 */
    HASH_BLOCK = 64, /* of SHA-256 */
    STRENGTH = 256,
    SLOTS = 32,
    SLOT_SIZE = 64 /* a cache line, so that neighbours do not slow each other */
};

/* The contexts of one operation in flight. Made at the first use of a slot, then kept: a call in
   the steady state neither fetches nor allocates. */
typedef struct work {
    atomic_uint taken;
    bool temporary;
    EVP_CIPHER_CTX *ecb, *gcm;
    void *md; /* the provider's own context */
} work;

typedef union slot {
    work work;
    uint8_t line[SLOT_SIZE];
} slot;

/* SHA-256 as its OpenSSL provider offers it (provider-digest(7)). EVP_DigestInit_ex2 of OpenSSL 3.0
   frees and allocates the provider's context at each start, and so does EVP_MAC, twice a message;
   calling the provider's own init starts the same context again. */
typedef struct digest {
    EVP_MD *fetched; /* keeps the provider loaded */
    void *provider;
    OSSL_FUNC_digest_newctx_fn *newctx;
    OSSL_FUNC_digest_freectx_fn *freectx;
    OSSL_FUNC_digest_init_fn *init;
    OSSL_FUNC_digest_update_fn *update;
    OSSL_FUNC_digest_final_fn *final;
} digest;

typedef struct provider {
    EVP_CIPHER *ecb, *gcm;
    digest sha256;
    slot slots[SLOTS];
} provider;

/* A loaded key: the content of a secret slot. In a forked child it reads zero, no suite, and every
   use of it fails. */
typedef struct loaded {
    uint32_t suite;
    union {
        struct {
            uint8_t key[KEY_LEN], k1[BLOCK];
        } xaes;
        struct {
            uint8_t inner[HASH_BLOCK], outer[HASH_BLOCK]; /* the key, padded and masked */
        } hmac;
    } of;
} loaded;

/* ---- work slots ---- */

static void contexts_free(const provider *p, work *w)
{
    EVP_CIPHER_CTX_free(w->ecb);
    EVP_CIPHER_CTX_free(w->gcm);
    if (w->md != NULL)
        p->sha256.freectx(w->md);
    w->ecb = NULL;
    w->gcm = NULL;
    w->md = NULL;
}

static bool contexts_make(const provider *p, work *w)
{
    if (w->md != NULL)
        return true;
    w->ecb = EVP_CIPHER_CTX_new();
    w->gcm = EVP_CIPHER_CTX_new();
    if (w->ecb != NULL && w->gcm != NULL &&
        EVP_EncryptInit_ex2(w->ecb, p->ecb, NULL, NULL, NULL) == 1 &&
        EVP_EncryptInit_ex2(w->gcm, p->gcm, NULL, NULL, NULL) == 1)
        w->md = p->sha256.newctx(p->sha256.provider);
    if (w->md != NULL)
        return true;
    contexts_free(p, w);
    return false;
}

/* Threads start their search at different slots: their stacks lie apart. */
static size_t first_slot(void)
{
    uint8_t here;
    const uint64_t stack = (uint64_t)(uintptr_t)&here >> 16;

    return (size_t)(stack * UINT64_C(0x9e3779b97f4a7c15) >> 32) % SLOTS;
}

static work *claim(provider *p)
{
    const size_t first = first_slot();
    work *w;

    for (size_t i = 0; i < SLOTS; i++) {
        unsigned expected = 0;

        w = &p->slots[(first + i) % SLOTS].work;
        if (atomic_load_explicit(&w->taken, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&w->taken, &expected, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return w;
    }
    w = cs_alloc(1, sizeof *w);
    if (w != NULL)
        w->temporary = true;
    return w;
}

static void release(const provider *p, work *w)
{
    if (w->temporary) {
        contexts_free(p, w);
        cs_free(w);
        return;
    }
    atomic_store_explicit(&w->taken, 0, memory_order_release);
}

/* Every use of OpenSSL lies between enter and leave, so that the host's error queue stays as it
   is. NULL when memory is out. */
static work *enter(provider *p)
{
    work *w;

    (void)ERR_set_mark();
    w = claim(p);
    if (w != NULL && contexts_make(p, w))
        return w;
    if (w != NULL)
        release(p, w);
    (void)ERR_pop_to_mark();
    return NULL;
}

static int32_t leave(const provider *p, work *w, int32_t result)
{
    release(p, w);
    (void)ERR_pop_to_mark();
    return result;
}

/* ---- XAES-256-GCM ---- */

/* The context's memory is OpenSSL's, on the common heap. The key goes out of it at once: a store
   key opens every record. (The subkey that stays behind in the GCM context opens one.) */
static bool ecb(work *w, const uint8_t key[KEY_LEN], const uint8_t *in, int len, uint8_t *out)
{
    static const uint8_t no_key[KEY_LEN] = {0};
    int done = 0;
    const bool ok = EVP_EncryptInit_ex2(w->ecb, NULL, key, NULL, NULL) == 1 &&
                    EVP_EncryptUpdate(w->ecb, out, &done, in, len) == 1 && done == len;

    return EVP_EncryptInit_ex2(w->ecb, NULL, no_key, NULL, NULL) == 1 && ok;
}

/* K1, the CMAC subkey: L = AES(0) times x, which depends on the key alone. */
static bool cmac_subkey(work *w, const uint8_t key[KEY_LEN], uint8_t k1[BLOCK])
{
    static const uint8_t zero[BLOCK] = {0};
    uint8_t l[BLOCK];
    const bool ok = ecb(w, key, zero, BLOCK, l);

    for (size_t i = 0; i < BLOCK; i++) {
        const unsigned next = i + 1 < BLOCK ? l[i + 1] : 0u;

        k1[i] = (uint8_t)((unsigned)l[i] << 1 | next >> 7);
    }
    k1[BLOCK - 1] = (uint8_t)(k1[BLOCK - 1] ^ (0x87u & (0u - ((unsigned)l[0] >> 7))));
    cs_wipe(l, sizeof l);
    return ok;
}

/* Kx: two CMAC blocks, counter 1 and 2, label 'X', in one call of 32 bytes. */
static bool derive(work *w, const loaded *key, const uint8_t nonce[24], uint8_t subkey[KEY_LEN])
{
    uint8_t blocks[KEY_LEN] = {0};
    bool ok;

    for (size_t b = 0; b < 2; b++) {
        uint8_t *m = blocks + b * BLOCK;

        m[1] = (uint8_t)(b + 1);
        m[2] = 'X';
        memcpy(m + BLOCK - SALT_LEN, nonce, SALT_LEN);
        for (size_t i = 0; i < BLOCK; i++)
            m[i] = (uint8_t)(m[i] ^ key->of.xaes.k1[i]);
    }
    ok = ecb(w, key->of.xaes.key, blocks, sizeof blocks, subkey);
    cs_wipe(blocks, sizeof blocks);
    return ok;
}

/* Keys the GCM context for one message and feeds it the associated data. */
static bool start(work *w, const loaded *key, const uint8_t nonce[24], credstore_bytes associated,
                  int encrypt)
{
    uint8_t subkey[KEY_LEN];
    int done = 0;
    bool ok = derive(w, key, nonce, subkey) &&
              EVP_CipherInit_ex2(w->gcm, NULL, subkey, nonce + SALT_LEN, encrypt, NULL) == 1;

    cs_wipe(subkey, sizeof subkey);
    if (ok && associated.len > 0)
        ok = EVP_CipherUpdate(w->gcm, NULL, &done, associated.ptr, (int)associated.len) == 1;
    return ok;
}

static bool update(work *w, credstore_bytes in, uint8_t *out)
{
    int done = 0;

    if (in.len == 0)
        return true;
    return EVP_CipherUpdate(w->gcm, out, &done, in.ptr, (int)in.len) == 1 && (size_t)done == in.len;
}

static int32_t seal_in(work *w, const loaded *key, const uint8_t nonce[24],
                       credstore_bytes associated, credstore_bytes plain, uint8_t *out,
                       uint8_t tag[16])
{
    uint8_t rest[BLOCK];
    int done = 0;

    if (start(w, key, nonce, associated, 1) && update(w, plain, out) &&
        EVP_EncryptFinal_ex(w->gcm, rest, &done) == 1 && done == 0 &&
        EVP_CIPHER_CTX_ctrl(w->gcm, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag) == 1)
        return CREDSTORE_CRYPTO_OK;
    return CREDSTORE_CRYPTO_FAILED;
}

static int32_t open_in(work *w, const loaded *key, const uint8_t nonce[24],
                       credstore_bytes associated, credstore_bytes sealed, const uint8_t tag[16],
                       uint8_t *out)
{
    uint8_t expected[TAG_LEN], rest[BLOCK];
    int done = 0;

    memcpy(expected, tag, TAG_LEN); /* the interface takes a pointer that is not const */
    if (!start(w, key, nonce, associated, 0) || !update(w, sealed, out) ||
        EVP_CIPHER_CTX_ctrl(w->gcm, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, expected) != 1)
        return CREDSTORE_CRYPTO_FAILED;
    if (EVP_DecryptFinal_ex(w->gcm, rest, &done) != 1)
        return CREDSTORE_CRYPTO_BAD_TAG;
    return done == 0 ? CREDSTORE_CRYPTO_OK : CREDSTORE_CRYPTO_FAILED;
}

/* ---- keys ---- */

static loaded *content(void *key)
{
    return key == NULL ? NULL : (loaded *)(void *)cs_secret_bytes(key);
}

/* The key if it is of the suite, else NULL. */
static const loaded *key_of(void *key, uint32_t suite)
{
    const loaded *k = content(key);

    return k != NULL && k->suite == suite ? k : NULL;
}

static bool fits(credstore_bytes bytes)
{
    return bytes.len <= INT_MAX && (bytes.len == 0 || bytes.ptr != NULL);
}

static bool load_xaes(work *w, loaded *k, const uint8_t *key)
{
    memcpy(k->of.xaes.key, key, KEY_LEN);
    return cmac_subkey(w, key, k->of.xaes.k1);
}

static bool load_hmac(work *w, loaded *k, const uint8_t *key)
{
    (void)w;
    for (size_t i = 0; i < HASH_BLOCK; i++) {
        const unsigned byte = i < KEY_LEN ? key[i] : 0u;

        k->of.hmac.inner[i] = (uint8_t)(byte ^ 0x36u);
        k->of.hmac.outer[i] = (uint8_t)(byte ^ 0x5cu);
    }
    return true;
}

typedef bool (*load_fn)(work *w, loaded *k, const uint8_t *key);

static const load_fn loads[] = {
    [CREDSTORE_SUITE_XAES_256_GCM] = load_xaes,
    [CREDSTORE_SUITE_HMAC_SHA256] = load_hmac,
};

static int32_t openssl_key_load(void *ctx, uint32_t suite, credstore_bytes key, void **out)
{
    const bool known = suite < sizeof loads / sizeof *loads && loads[suite] != NULL;
    credstore_secret *secret;
    work *w;
    bool ok;

    *out = NULL;
    if (!known || key.ptr == NULL || key.len != KEY_LEN)
        return CREDSTORE_CRYPTO_FAILED;
    w = enter(ctx);
    if (w == NULL)
        return CREDSTORE_CRYPTO_NO_MEMORY;
    secret = cs_secret_new(NULL, sizeof(loaded));
    if (secret == NULL)
        return leave(ctx, w, CREDSTORE_CRYPTO_NO_MEMORY);
    ok = loads[suite](w, content(secret), key.ptr);
    if (!ok) {
        credstore_secret_free(secret);
        return leave(ctx, w, CREDSTORE_CRYPTO_FAILED);
    }
    content(secret)->suite = suite;
    *out = secret;
    return leave(ctx, w, CREDSTORE_CRYPTO_OK);
}

static void openssl_key_free(void *ctx, void *key)
{
    (void)ctx;
    credstore_secret_free(key);
}

/* ---- the calls of the table ---- */

static int32_t openssl_seal(void *ctx, void *key, const uint8_t nonce[24],
                            credstore_bytes associated, credstore_bytes plain, uint8_t *out,
                            uint8_t tag[16])
{
    const loaded *k = key_of(key, CREDSTORE_SUITE_XAES_256_GCM);
    int32_t result;
    work *w;

    if (k == NULL || !fits(associated) || !fits(plain))
        return CREDSTORE_CRYPTO_FAILED;
    w = enter(ctx);
    if (w == NULL)
        return CREDSTORE_CRYPTO_NO_MEMORY;
    result = seal_in(w, k, nonce, associated, plain, out, tag);
    if (result != CREDSTORE_CRYPTO_OK) {
        cs_wipe(out, plain.len);
        cs_wipe(tag, TAG_LEN);
    }
    return leave(ctx, w, result);
}

static int32_t openssl_open(void *ctx, void *key, const uint8_t nonce[24],
                            credstore_bytes associated, credstore_bytes sealed,
                            const uint8_t tag[16], uint8_t *out)
{
    const loaded *k = key_of(key, CREDSTORE_SUITE_XAES_256_GCM);
    int32_t result;
    work *w;

    if (k == NULL || !fits(associated) || !fits(sealed))
        return CREDSTORE_CRYPTO_FAILED;
    w = enter(ctx);
    if (w == NULL)
        return CREDSTORE_CRYPTO_NO_MEMORY;
    result = open_in(w, k, nonce, associated, sealed, tag, out);
    if (result != CREDSTORE_CRYPTO_OK)
        cs_wipe(out, sealed.len);
    return leave(ctx, w, result);
}

/* SHA-256 of head and tail. */
static bool hash(const digest *d, work *w, credstore_bytes head, credstore_bytes tail,
                 uint8_t out[HASH_LEN])
{
    size_t len = 0;

    return d->init(w->md, NULL) == 1 &&
           (head.len == 0 || d->update(w->md, head.ptr, head.len) == 1) &&
           (tail.len == 0 || d->update(w->md, tail.ptr, tail.len) == 1) &&
           d->final(w->md, out, &len, HASH_LEN) == 1 && len == HASH_LEN;
}

/* HMAC by its definition, over the key that key_load padded. */
static int32_t openssl_mac(void *ctx, void *key, credstore_bytes message, uint8_t out[32])
{
    const loaded *k = key_of(key, CREDSTORE_SUITE_HMAC_SHA256);
    const digest *d = &((const provider *)ctx)->sha256;
    uint8_t inner[HASH_LEN];
    work *w;
    bool ok;

    if (k == NULL || !fits(message))
        return CREDSTORE_CRYPTO_FAILED;
    w = enter(ctx);
    if (w == NULL)
        return CREDSTORE_CRYPTO_NO_MEMORY;
    ok = hash(d, w, cs_bytes(k->of.hmac.inner, HASH_BLOCK), message, inner) &&
         hash(d, w, cs_bytes(k->of.hmac.outer, HASH_BLOCK), cs_bytes(inner, HASH_LEN), out);
    cs_wipe(inner, sizeof inner);
    if (!ok)
        cs_wipe(out, HASH_LEN);
    return leave(ctx, w, ok ? CREDSTORE_CRYPTO_OK : CREDSTORE_CRYPTO_FAILED);
}

static int32_t openssl_digest(void *ctx, credstore_bytes message, uint8_t out[32])
{
    work *w;
    bool ok;

    if (!fits(message))
        return CREDSTORE_CRYPTO_FAILED;
    w = enter(ctx);
    if (w == NULL)
        return CREDSTORE_CRYPTO_NO_MEMORY;
    ok = hash(&((const provider *)ctx)->sha256, w, message, cs_bytes(NULL, 0), out);
    if (!ok)
        cs_wipe(out, HASH_LEN);
    return leave(ctx, w, ok ? CREDSTORE_CRYPTO_OK : CREDSTORE_CRYPTO_FAILED);
}

/* The private generator: what it gave for keys cannot be told from what others saw of the public
   one. */
static int32_t openssl_random(void *ctx, uint8_t *out, size_t len)
{
    bool ok;

    (void)ctx;
    if (len == 0)
        return CREDSTORE_CRYPTO_OK;
    if (len > INT_MAX)
        return CREDSTORE_CRYPTO_FAILED;
    (void)ERR_set_mark();
    ok = RAND_priv_bytes_ex(NULL, out, len, STRENGTH) == 1;
    (void)ERR_pop_to_mark();
    if (!ok)
        cs_wipe(out, len);
    return ok ? CREDSTORE_CRYPTO_OK : CREDSTORE_CRYPTO_NO_ENTROPY;
}

/* With the algorithm at hand, what fails is the memory that it asks for. */
static int32_t stretch(EVP_KDF *kdf, const OSSL_PARAM *params, uint8_t out[32])
{
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    const bool ok = ctx != NULL && EVP_KDF_derive(ctx, out, 32, params) == 1;

    EVP_KDF_CTX_free(ctx);
    if (ok)
        return CREDSTORE_CRYPTO_OK;
    cs_wipe(out, 32);
    return CREDSTORE_CRYPTO_NO_MEMORY;
}

/* Fetched when it is asked for: a store opens by it once, or never. */
static int32_t openssl_scrypt(void *ctx, credstore_bytes passphrase, credstore_bytes salt,
                              uint64_t n, uint32_t r, uint32_t p, uint8_t out[32])
{
    uint64_t memory = UINT64_MAX; /* the caller bounds n, r and p */
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD,
                                          (void *)(uintptr_t)passphrase.ptr, passphrase.len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.ptr,
                                          salt.len),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
        OSSL_PARAM_construct_end(),
    };
    int32_t result = CREDSTORE_CRYPTO_FAILED;
    EVP_KDF *kdf;

    (void)ctx;
    (void)ERR_set_mark();
    kdf = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
    if (kdf != NULL)
        result = stretch(kdf, params, out);
    EVP_KDF_free(kdf);
    (void)ERR_pop_to_mark();
    return result;
}

static void openssl_close(void *ctx)
{
    provider *p = ctx;

    if (p == NULL)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        contexts_free(p, &p->slots[i].work);
    EVP_CIPHER_free(p->ecb);
    EVP_CIPHER_free(p->gcm);
    EVP_MD_free(p->sha256.fetched);
    cs_free(p);
}

const credstore_crypto cs_crypto_openssl = {
    .struct_size = sizeof(credstore_crypto),
    .name = "openssl",
    .key_load = openssl_key_load,
    .key_free = openssl_key_free,
    .seal = openssl_seal,
    .open = openssl_open,
    .mac = openssl_mac,
    .digest = openssl_digest,
    .random = openssl_random,
    .close = openssl_close,
    .scrypt = openssl_scrypt,
};

/* ---- fetching ---- */

/* Whether the first of the names "A:B:C" is one of the fetched algorithm's. */
static bool offers(const OSSL_ALGORITHM *algorithm, const EVP_MD *md)
{
    char first[32];
    const size_t len = strcspn(algorithm->algorithm_names, ":");

    if (len >= sizeof first)
        return false;
    memcpy(first, algorithm->algorithm_names, len);
    first[len] = '\0';
    return EVP_MD_is_a(md, first) == 1;
}

static void take_functions(digest *d, const OSSL_DISPATCH *functions)
{
    for (const OSSL_DISPATCH *f = functions; f->function_id != 0; f++) {
        if (f->function_id == OSSL_FUNC_DIGEST_NEWCTX)
            d->newctx = OSSL_FUNC_digest_newctx(f);
        else if (f->function_id == OSSL_FUNC_DIGEST_FREECTX)
            d->freectx = OSSL_FUNC_digest_freectx(f);
        else if (f->function_id == OSSL_FUNC_DIGEST_INIT)
            d->init = OSSL_FUNC_digest_init(f);
        else if (f->function_id == OSSL_FUNC_DIGEST_UPDATE)
            d->update = OSSL_FUNC_digest_update(f);
        else if (f->function_id == OSSL_FUNC_DIGEST_FINAL)
            d->final = OSSL_FUNC_digest_final(f);
    }
}

static bool fetch_digest(digest *d)
{
    const OSSL_ALGORITHM *all, *a;
    const OSSL_PROVIDER *from;
    int no_cache = 0;

    d->fetched = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (d->fetched == NULL)
        return false;
    from = EVP_MD_get0_provider(d->fetched);
    d->provider = OSSL_PROVIDER_get0_provider_ctx(from);
    all = OSSL_PROVIDER_query_operation(from, OSSL_OP_DIGEST, &no_cache);
    for (a = all; a != NULL && a->algorithm_names != NULL; a++) {
        if (!offers(a, d->fetched))
            continue;
        take_functions(d, a->implementation);
        break;
    }
    OSSL_PROVIDER_unquery_operation(from, OSSL_OP_DIGEST, all);
    return d->newctx != NULL && d->freectx != NULL && d->init != NULL && d->update != NULL &&
           d->final != NULL;
}

/* The default context is made once a process. If that failed for want of memory, OpenSSL 3.0
   fetches from it all the same, and crashes; asking for it tells. */
static bool fetch(provider *p)
{
    if (OSSL_LIB_CTX_get0_global_default() == NULL)
        return false;
    p->ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
    p->gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    return p->ecb != NULL && p->gcm != NULL && fetch_digest(&p->sha256);
}

credstore_status cs_openssl_new(void **ctx, credstore_error *err)
{
    provider *p = cs_alloc(1, sizeof *p);
    bool ok;

    *ctx = NULL;
    if (p == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "no memory for the crypto provider");
    (void)ERR_set_mark();
    ok = fetch(p);
    (void)ERR_pop_to_mark();
    if (!ok) {
        openssl_close(p);
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL,
                       "OpenSSL lacks one of AES-256-ECB, AES-256-GCM, SHA256");
    }
    *ctx = p;
    return CREDSTORE_OK;
}
