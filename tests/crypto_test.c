/* SPDX-License-Identifier: MIT
 *
 * The OpenSSL provider: published vectors, refusals, threads, and what it leaves behind: no
 * allocation in the steady state, no entry in the host's error queue, no key on the heap. Linked
 * with -Wl,--wrap=cs_alloc.
 */
#define _DEFAULT_SOURCE              /* mmap's MAP_ANONYMOUS */
#define OPENSSL_SUPPRESS_DEPRECATED  /* RAND_set_rand_method: how a broken random source is played \
                                      */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crypto/openssl.h"
#include "mem.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { OK = CREDSTORE_CRYPTO_OK, BAD_TAG = CREDSTORE_CRYPTO_BAD_TAG };
enum { FAILED = CREDSTORE_CRYPTO_FAILED, NO_MEMORY = CREDSTORE_CRYPTO_NO_MEMORY };
enum { NO_ENTROPY = CREDSTORE_CRYPTO_NO_ENTROPY };
enum { XAES = CREDSTORE_SUITE_XAES_256_GCM, HMAC = CREDSTORE_SUITE_HMAC_SHA256 };

static const credstore_crypto *const table = &cs_crypto_openssl;

/* ---- a heap that is counted, OpenSSL's and the library's --------------------------------------
 */

static struct {
    atomic_long calls, fail_at; /* fail_at: the number of the call that fails, 0 = none */
} heap;

static bool heap_fails(void)
{
    return atomic_fetch_add(&heap.calls, 1) + 1 == atomic_load(&heap.fail_at);
}

static void heap_reset(long fail_at)
{
    atomic_store(&heap.calls, 0);
    atomic_store(&heap.fail_at, fail_at);
}

static void *hook_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return heap_fails() ? NULL : malloc(size);
}

static void *hook_realloc(void *ptr, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return heap_fails() ? NULL : realloc(ptr, size);
}

static void hook_free(void *ptr, const char *file, int line)
{
    (void)file;
    (void)line;
    free(ptr);
}

void *__real_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size)
{
    return heap_fails() ? NULL : __real_cs_alloc(count, size);
}

/* ---- helpers ----------------------------------------------------------------------------------
 */

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (; hex[2 * n] != '\0'; n++) {
        unsigned byte;

        assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
        out[n] = (uint8_t)byte;
    }
    return n;
}

static int setup(void **state)
{
    credstore_error err = {0};

    return cs_openssl_new(state, &err) == CREDSTORE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    table->close(*state);
    return 0;
}

static void *load(void *ctx, uint32_t suite, const uint8_t bytes[32])
{
    void *key = NULL;

    assert_int_equal(table->key_load(ctx, suite, cs_bytes(bytes, 32), &key), OK);
    assert_non_null(key);
    return key;
}

static void *load_filled(void *ctx, uint32_t suite, uint8_t byte)
{
    uint8_t bytes[32];

    memset(bytes, byte, sizeof bytes);
    return load(ctx, suite, bytes);
}

static bool all(const uint8_t *ptr, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++)
        if (ptr[i] != byte)
            return false;
    return true;
}

/* Runs body in a child; its exit status, or -1 if a signal ended it. */
static int in_child(void (*body)(void *arg), void *arg)
{
    const pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        body(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_in_child(bool condition, int line)
{
    if (condition)
        return;
    fprintf(stderr, "%s:%d: does not hold in the child\n", __FILE__, line);
    _exit(1);
}

/* ---- XAES-256-GCM (c2sp.org/XAES-256-GCM) -----------------------------------------------------
 */

static const uint8_t nonce_abc[24] = "ABCDEFGHIJKLMNOPQRSTUVWX";

typedef struct xaes_vector {
    uint8_t key_byte;
    const char *associated, *sealed, *tag;
} xaes_vector;

static const xaes_vector xaes_vectors[] = {
    {0x01, "", "ce546ef63c9cc60765923609", "b33a9a1974e96e52daf2fcf7075e2271"},
    {0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a17943", "7fd083bf3fdb41abd740a21f71eb769d"},
};

static void test_xaes_vectors(void **state)
{
    const credstore_bytes plain = cs_bytes_of("XAES-256-GCM");

    for (size_t i = 0; i < COUNT(xaes_vectors); i++) {
        const xaes_vector *v = &xaes_vectors[i];
        void *key = load_filled(*state, XAES, v->key_byte);
        uint8_t want[12], want_tag[16], got[12], tag[16], back[12];

        assert_int_equal(unhex(v->sealed, want), sizeof want);
        assert_int_equal(unhex(v->tag, want_tag), sizeof want_tag);
        assert_int_equal(
            table->seal(*state, key, nonce_abc, cs_bytes_of(v->associated), plain, got, tag), OK);
        assert_memory_equal(got, want, sizeof want);
        assert_memory_equal(tag, want_tag, sizeof want_tag);
        assert_int_equal(table->open(*state, key, nonce_abc, cs_bytes_of(v->associated),
                                     cs_bytes(got, sizeof got), tag, back),
                         OK);
        assert_memory_equal(back, plain.ptr, plain.len);
        table->key_free(*state, key);
    }
}

/* The accumulated test: inputs are read from SHAKE-128 of nothing, outputs are fed to another. */
enum { ROUNDS = 10000, ROUND_MAX = 32 + 24 + 2 * (1 + 255) };

static const uint8_t *take(const uint8_t **from, size_t len)
{
    const uint8_t *at = *from;

    *from += len;
    return at;
}

static credstore_bytes take_vector(const uint8_t **from)
{
    const size_t len = *take(from, 1);

    return cs_bytes(take(from, len), len);
}

static void accumulate(void *ctx, const uint8_t **stream, EVP_MD_CTX *sum)
{
    void *key = load(ctx, XAES, take(stream, 32));
    const uint8_t *nonce = take(stream, 24);
    const credstore_bytes plain = take_vector(stream);
    const credstore_bytes associated = take_vector(stream);
    uint8_t sealed[256], tag[16], back[256];

    assert_int_equal(table->seal(ctx, key, nonce, associated, plain, sealed, tag), OK);
    assert_int_equal(
        table->open(ctx, key, nonce, associated, cs_bytes(sealed, plain.len), tag, back), OK);
    assert_memory_equal(back, plain.ptr, plain.len);
    assert_int_equal(EVP_DigestUpdate(sum, sealed, plain.len), 1);
    assert_int_equal(EVP_DigestUpdate(sum, tag, sizeof tag), 1);
    table->key_free(ctx, key);
}

static void test_xaes_accumulated(void **state)
{
    const size_t stream_len = (size_t)ROUNDS * ROUND_MAX;
    uint8_t *stream = malloc(stream_len);
    const uint8_t *at = stream;
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    uint8_t want[32], got[32];

    assert_non_null(stream);
    assert_int_equal(EVP_DigestInit_ex(sum, EVP_shake128(), NULL), 1);
    assert_int_equal(EVP_DigestFinalXOF(sum, stream, stream_len), 1);
    assert_int_equal(EVP_DigestInit_ex(sum, EVP_shake128(), NULL), 1);
    for (size_t i = 0; i < ROUNDS; i++)
        accumulate(*state, &at, sum);
    assert_int_equal(EVP_DigestFinalXOF(sum, got, sizeof got), 1);
    unhex("e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939", want);
    assert_memory_equal(got, want, sizeof want);
    EVP_MD_CTX_free(sum);
    free(stream);
}

/* One sealed message, and every part of it that can be turned against the reader. */
typedef struct box {
    uint8_t nonce[24], associated[5], sealed[7], tag[16];
} box;

static int32_t open_message(void *ctx, void *key, const box *m, uint8_t out[7])
{
    memset(out, 0xee, 7);
    return table->open(ctx, key, m->nonce, cs_bytes(m->associated, sizeof m->associated),
                       cs_bytes(m->sealed, sizeof m->sealed), m->tag, out);
}

static box seal_message(void *ctx, void *key)
{
    box m = {.associated = "store"};

    memcpy(m.nonce, nonce_abc, sizeof m.nonce);
    assert_int_equal(table->seal(ctx, key, m.nonce, cs_bytes(m.associated, sizeof m.associated),
                                 cs_bytes("secret!", 7), m.sealed, m.tag),
                     OK);
    return m;
}

static void test_every_bit_counts(void **state)
{
    void *key = load_filled(*state, XAES, 0x07);
    box m = seal_message(*state, key);
    uint8_t *raw = (uint8_t *)&m;
    uint8_t out[7];

    for (size_t bit = 0; bit < sizeof m * 8; bit++) {
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1u << bit % 8);
        assert_int_equal(open_message(*state, key, &m, out), BAD_TAG);
        assert_true(all(out, sizeof out, 0));
        raw[bit / 8] = (uint8_t)(raw[bit / 8] ^ 1u << bit % 8);
    }
    assert_int_equal(open_message(*state, key, &m, out), OK);
    assert_memory_equal(out, "secret!", sizeof out);
    table->key_free(*state, key);
}

static void test_lengths_count(void **state)
{
    void *key = load_filled(*state, XAES, 0x07);
    void *other = load_filled(*state, XAES, 0x08);
    box m = seal_message(*state, key);
    uint8_t out[7];

    assert_int_equal(open_message(*state, other, &m, out), BAD_TAG);
    assert_int_equal(table->open(*state, key, m.nonce, cs_bytes(m.associated, 4),
                                 cs_bytes(m.sealed, 7), m.tag, out),
                     BAD_TAG);
    assert_int_equal(table->open(*state, key, m.nonce, cs_bytes(m.associated, 5),
                                 cs_bytes(m.sealed, 6), m.tag, out),
                     BAD_TAG);
    assert_int_equal(
        table->open(*state, key, m.nonce, cs_bytes(NULL, 0), cs_bytes(NULL, 0), m.tag, out),
        BAD_TAG);
    table->key_free(*state, other);
    table->key_free(*state, key);
}

static void test_empty(void **state)
{
    const credstore_bytes none = cs_bytes(NULL, 0);
    void *key = load_filled(*state, XAES, 0x09);
    uint8_t tag[16], again[16], out[1];

    assert_int_equal(table->seal(*state, key, nonce_abc, none, none, NULL, tag), OK);
    assert_int_equal(table->open(*state, key, nonce_abc, none, none, tag, NULL), OK);
    tag[15] ^= 1;
    assert_int_equal(table->open(*state, key, nonce_abc, none, none, tag, NULL), BAD_TAG);
    tag[15] ^= 1;
    /* Only associated data, and only a body, are something else than nothing. */
    assert_int_equal(table->seal(*state, key, nonce_abc, cs_bytes("a", 1), none, NULL, again), OK);
    assert_memory_not_equal(tag, again, sizeof tag);
    assert_int_equal(table->seal(*state, key, nonce_abc, none, cs_bytes("a", 1), out, again), OK);
    assert_memory_not_equal(tag, again, sizeof tag);
    table->key_free(*state, key);
}

/* ---- HMAC-SHA256 (RFC 4231) and SHA-256 (FIPS 180-4) ------------------------------------------
 */

typedef struct hmac_vector {
    const char *key, *message, *mac; /* hex */
    size_t mac_len;
} hmac_vector;

/* Our keys have 32 bytes. A shorter key is the same as itself padded with zeros; a longer one than
   a block is the same as its hash: so each vector of the RFC has a twin of 32 bytes. */
static const hmac_vector hmac_vectors[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", 32},
    {"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 32},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
     "dddddddd",
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe", 32},
    {"0102030405060708090a0b0c0d0e0f10111213141516171819",
     "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
     "cdcdcdcd",
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b", 32},
    {"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c", "546573742057697468205472756e636174696f6e",
     "a3b6167473100ee06e0c796c2955552b", 16},
    {"LONG",
     "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b"
     "6579204669727374",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", 32},
    {"LONG",
     "5468697320697320612074657374207573696e672061206c6172676572207468616e20626c6f636b2d73697a6520"
     "6b657920616e642061206c6172676572207468616e20626c6f636b2d73697a6520646174612e20546865206b6579"
     "206e6565647320746f20626520686173686564206265666f7265206265696e6720757365642062792074686520"
     "484d414320616c676f726974686d2e",
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2", 32},
};

static void hmac_key(void *ctx, const char *hex, uint8_t out[32])
{
    uint8_t lengthy[131];

    memset(out, 0, 32);
    if (strcmp(hex, "LONG") != 0) {
        assert_true(unhex(hex, out) <= 32);
        return;
    }
    memset(lengthy, 0xaa, sizeof lengthy);
    assert_int_equal(table->digest(ctx, cs_bytes(lengthy, sizeof lengthy), out), OK);
}

static void test_hmac_vectors(void **state)
{
    for (size_t i = 0; i < COUNT(hmac_vectors); i++) {
        const hmac_vector *v = &hmac_vectors[i];
        uint8_t bytes[32], message[256], want[32], got[32];
        const size_t len = unhex(v->message, message);
        void *key;

        hmac_key(*state, v->key, bytes);
        key = load(*state, HMAC, bytes);
        assert_int_equal(unhex(v->mac, want), v->mac_len);
        assert_int_equal(table->mac(*state, key, cs_bytes(message, len), got), OK);
        assert_memory_equal(got, want, v->mac_len);
        table->key_free(*state, key);
    }
}

typedef struct digest_vector {
    const char *text, *digest;
    size_t times;
} digest_vector;

static const digest_vector digest_vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
     "lmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1", 1},
    {"a", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 1000000},
};

static void test_digest_vectors(void **state)
{
    for (size_t i = 0; i < COUNT(digest_vectors); i++) {
        const digest_vector *v = &digest_vectors[i];
        const size_t len = strlen(v->text);
        uint8_t *message = malloc(len * v->times + 1);
        uint8_t want[32], got[32];

        assert_non_null(message);
        for (size_t n = 0; n < v->times; n++)
            memcpy(message + n * len, v->text, len);
        unhex(v->digest, want);
        assert_int_equal(table->digest(*state, cs_bytes(message, len * v->times), got), OK);
        assert_memory_equal(got, want, sizeof want);
        free(message);
    }
    assert_int_equal(table->digest(*state, cs_bytes(NULL, 0), (uint8_t[32]){0}), OK);
}

/* RFC 7914, section 12: the first 32 bytes of three of its vectors. */
static void test_scrypt_vectors(void **state)
{
    static const struct {
        const char *passphrase, *salt, *key;
        uint64_t n;
        uint32_t r, p;
    } rows[] = {
        {"", "", "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442", 16, 1, 1},
        {"password", "NaCl", "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162",
         1024, 8, 16},
        {"pleaseletmein", "SodiumChloride",
         "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2", 16384, 8, 1},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t want[32], got[32];

        unhex(rows[i].key, want);
        assert_int_equal(table->scrypt(*state, cs_bytes_of(rows[i].passphrase),
                                       cs_bytes_of(rows[i].salt), rows[i].n, rows[i].r, rows[i].p,
                                       got),
                         OK);
        assert_memory_equal(got, want, sizeof want);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------
 */

static void test_keys_refused(void **state)
{
    static const uint8_t bytes[33] = {1};
    static const struct {
        uint32_t suite;
        size_t len;
    } rows[] = {{0, 32}, {3, 32}, {UINT32_MAX, 32}, {XAES, 31}, {XAES, 33}, {XAES, 0}, {HMAC, 31}};
    void *key = (void *)(uintptr_t)1;

    for (size_t i = 0; i < COUNT(rows); i++) {
        key = (void *)(uintptr_t)1;
        assert_int_equal(table->key_load(*state, rows[i].suite, cs_bytes(bytes, rows[i].len), &key),
                         FAILED);
        assert_null(key);
    }
    assert_int_equal(table->key_load(*state, XAES, cs_bytes(NULL, 32), &key), FAILED);
    table->key_free(*state, NULL);
}

static void test_key_of_another_suite(void **state)
{
    void *xaes = load_filled(*state, XAES, 1), *hmac = load_filled(*state, HMAC, 1);
    const credstore_bytes none = cs_bytes(NULL, 0);
    uint8_t tag[16] = {0}, out[32];

    assert_int_equal(table->seal(*state, hmac, nonce_abc, none, none, out, tag), FAILED);
    assert_int_equal(table->open(*state, hmac, nonce_abc, none, none, tag, out), FAILED);
    assert_int_equal(table->mac(*state, xaes, none, out), FAILED);
    assert_int_equal(table->seal(*state, NULL, nonce_abc, none, none, out, tag), FAILED);
    assert_int_equal(table->open(*state, NULL, nonce_abc, none, none, tag, out), FAILED);
    assert_int_equal(table->mac(*state, NULL, none, out), FAILED);
    table->key_free(*state, hmac);
    table->key_free(*state, xaes);
}

/* Refused by the length alone: the byte behind the pointer is all there is. */
static void test_too_long(void **state)
{
    const credstore_bytes vast = cs_bytes("x", (size_t)INT_MAX + 1), none = cs_bytes(NULL, 0);
    void *xaes = load_filled(*state, XAES, 1), *hmac = load_filled(*state, HMAC, 1);
    uint8_t tag[16] = {0}, out[32];

    assert_int_equal(table->seal(*state, xaes, nonce_abc, vast, none, out, tag), FAILED);
    assert_int_equal(table->seal(*state, xaes, nonce_abc, none, vast, out, tag), FAILED);
    assert_int_equal(table->open(*state, xaes, nonce_abc, vast, none, tag, out), FAILED);
    assert_int_equal(table->open(*state, xaes, nonce_abc, none, vast, tag, out), FAILED);
    assert_int_equal(table->mac(*state, hmac, vast, out), FAILED);
    assert_int_equal(table->digest(*state, vast, out), FAILED);
    assert_int_equal(table->random(*state, out, vast.len), FAILED);
    assert_int_equal(table->digest(*state, cs_bytes(NULL, 1), out), FAILED);
    table->key_free(*state, hmac);
    table->key_free(*state, xaes);
}

/* ---- randomness -------------------------------------------------------------------------------
 */

static void test_random(void **state)
{
    uint8_t a[4096] = {0}, b[4096] = {0};
    size_t zeros = 0;

    assert_int_equal(table->random(*state, a, sizeof a), OK);
    assert_int_equal(table->random(*state, b, sizeof b), OK);
    assert_memory_not_equal(a, b, sizeof a);
    for (size_t i = 0; i < sizeof a; i++)
        zeros += a[i] == 0;
    assert_true(zeros < 80); /* 16 expected: over 80 comes less often than once in 10^25 */
    assert_int_equal(table->random(*state, NULL, 0), OK);
}

static int broken(unsigned char *out, int len)
{
    memset(out, 0x55, (size_t)len);
    ERR_raise(ERR_LIB_RAND, ERR_R_INTERNAL_ERROR);
    return 0;
}

static void test_no_entropy(void **state)
{
    const RAND_METHOD *usual = RAND_get_rand_method();
    RAND_METHOD method = *usual;
    uint8_t out[24];
    int32_t result;

    method.bytes = broken;
    assert_int_equal(RAND_set_rand_method(&method), 1);
    memset(out, 0xee, sizeof out);
    result = table->random(*state, out, sizeof out);
    assert_int_equal(RAND_set_rand_method(usual), 1);
    assert_int_equal(result, NO_ENTROPY);
    assert_true(all(out, sizeof out, 0));
    assert_int_equal(ERR_peek_error(), 0);
}

/* ---- what is left behind ----------------------------------------------------------------------
 */

static void test_error_queue(void **state)
{
    void *key = load_filled(*state, XAES, 0x07);
    box m = seal_message(*state, key);
    unsigned long host;
    uint8_t out[7];

    m.tag[0] ^= 1;
    ERR_clear_error();
    assert_int_equal(open_message(*state, key, &m, out), BAD_TAG);
    assert_int_equal(ERR_peek_error(), 0);

    ERR_raise(ERR_LIB_USER, 7);
    host = ERR_peek_error();
    assert_int_not_equal(host, 0);
    assert_int_equal(open_message(*state, key, &m, out), BAD_TAG);
    assert_int_equal(table->random(*state, out, sizeof out), OK);
    assert_int_equal(ERR_get_error(), host);
    assert_int_equal(ERR_get_error(), 0);

    /* A host that is between two marks of its own finds its own, not one of ours. */
    ERR_raise(ERR_LIB_USER, 8);
    host = ERR_peek_last_error();
    assert_int_equal(ERR_set_mark(), 1);
    ERR_raise(ERR_LIB_USER, 9);
    assert_int_equal(open_message(*state, key, &m, out), BAD_TAG);
    assert_int_equal(table->random(*state, out, sizeof out), OK);
    assert_int_equal(ERR_pop_to_mark(), 1);
    assert_int_equal(ERR_peek_last_error(), host);
    ERR_clear_error();
    table->key_free(*state, key);
}

static void use_all(void *ctx, void *xaes, void *hmac, size_t times)
{
    uint8_t sealed[600], back[600], tag[16], out[32], plain[600] = {0};

    for (size_t i = 0; i < times; i++) {
        const credstore_bytes body = cs_bytes(plain, i % sizeof plain);

        assert_int_equal(table->seal(ctx, xaes, nonce_abc, body, body, sealed, tag), OK);
        assert_int_equal(
            table->open(ctx, xaes, nonce_abc, body, cs_bytes(sealed, body.len), tag, back), OK);
        tag[i % 16] ^= 1;
        assert_int_equal(
            table->open(ctx, xaes, nonce_abc, body, cs_bytes(sealed, body.len), tag, back),
            BAD_TAG);
        assert_int_equal(table->mac(ctx, hmac, body, out), OK);
        assert_int_equal(table->digest(ctx, body, out), OK);
        assert_int_equal(table->random(ctx, out, sizeof out), OK);
    }
}

static void test_steady_state_allocates_nothing(void **state)
{
    void *xaes = load_filled(*state, XAES, 1), *hmac = load_filled(*state, HMAC, 1);

    use_all(*state, xaes, hmac, 1);
    heap_reset(0);
    use_all(*state, xaes, hmac, 1000);
    assert_int_equal(atomic_load(&heap.calls), 0);
    table->key_free(*state, hmac);
    table->key_free(*state, xaes);
    heap_reset(0);
    free(OPENSSL_malloc(1));
    assert_int_equal(atomic_load(&heap.calls), 1); /* the counter is not deaf */
}

/* How often the 32 bytes stand in the part of the heap that the C library grows by brk. */
static size_t count_on_heap(const uint8_t bytes[32])
{
    FILE *maps = fopen("/proc/self/maps", "r");
    const int memory = open("/proc/self/mem", O_RDONLY);
    char line[512];
    size_t found = 0;

    assert_non_null(maps);
    assert_true(memory >= 0);
    while (fgets(line, sizeof line, maps) != NULL) {
        static uint8_t page[4096 + 31]; /* the tail of the page before stays in front */
        uintptr_t at, end;

        if (strstr(line, "[heap]") == NULL ||
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &at, &end) != 2)
            continue;
        memset(page, 0, sizeof page);
        for (; at < end && pread(memory, page + 31, 4096, (off_t)at) == 4096; at += 4096) {
            for (size_t i = 0; i < 4096; i++)
                found += memcmp(page + i, bytes, 32) == 0;
            memmove(page, page + 4096, 31);
        }
    }
    (void)close(memory);
    (void)fclose(maps);
    return found;
}

static void test_no_key_on_the_heap(void **state)
{
    uint8_t bytes[32], *control = malloc(32);
    void *xaes, *hmac;

    assert_non_null(control);
    assert_int_equal(table->random(*state, bytes, sizeof bytes), OK);
    memcpy(control, bytes, sizeof bytes);
    if (count_on_heap(bytes) != 1) {
        print_message("skipped: a sanitizer's or valgrind's heap lies elsewhere\n");
        free(control);
        skip();
    }
    cs_wipe(control, 32);
    xaes = load(*state, XAES, bytes);
    hmac = load(*state, HMAC, bytes);
    use_all(*state, xaes, hmac, 10);
    assert_int_equal(count_on_heap(bytes), 0);
    table->key_free(*state, hmac);
    table->key_free(*state, xaes);
    assert_int_equal(count_on_heap(bytes), 0);
    free(control);
}

typedef struct both {
    void *ctx, *xaes, *hmac;
} both;

/* The mapping of a key reads zero in a child; sealing with a key of zeros must not look well. */
static void use_in_child(void *arg)
{
    const both *b = arg;
    const credstore_bytes none = cs_bytes(NULL, 0);
    uint8_t tag[16], out[32];

    expect_in_child(table->seal(b->ctx, b->xaes, nonce_abc, none, none, out, tag) == FAILED,
                    __LINE__);
    expect_in_child(table->mac(b->ctx, b->hmac, none, out) == FAILED, __LINE__);
    expect_in_child(table->digest(b->ctx, none, out) == OK, __LINE__);
    table->key_free(b->ctx, b->hmac);
    table->key_free(b->ctx, b->xaes);
    table->close(b->ctx);
}

static void test_fork(void **state)
{
    both b = {*state, load_filled(*state, XAES, 1), load_filled(*state, HMAC, 1)};

    assert_int_equal(in_child(use_in_child, &b), 0);
    use_all(*state, b.xaes, b.hmac, 1);
    table->key_free(*state, b.hmac);
    table->key_free(*state, b.xaes);
}

/* A host may close its store in an atexit handler, after OpenSSL's own has run. */
static void close_after_cleanup(void *arg)
{
    both b = {0};

    (void)arg;
    expect_in_child(cs_openssl_new(&b.ctx, NULL) == CREDSTORE_OK, __LINE__);
    b.xaes = load_filled(b.ctx, XAES, 1);
    b.hmac = load_filled(b.ctx, HMAC, 1);
    use_all(b.ctx, b.xaes, b.hmac, 1);
    OPENSSL_cleanup();
    table->key_free(b.ctx, b.hmac);
    table->key_free(b.ctx, b.xaes);
    table->close(b.ctx);
}

static void test_close_after_cleanup(void **state)
{
    (void)state;
    assert_int_equal(in_child(close_after_cleanup, NULL), 0);
}

/* ---- memory is out ----------------------------------------------------------------------------
 */

/* A whole life; false as soon as something says so, after which nothing may be left behind. */
static bool live(void)
{
    const credstore_bytes none = cs_bytes(NULL, 0);
    static const uint8_t bytes[32] = {1};
    credstore_error err = {0};
    uint8_t tag[16], out[32];
    void *ctx, *key = NULL;
    credstore_status status;
    int32_t result;

    status = cs_openssl_new(&ctx, &err);
    if (status != CREDSTORE_OK) {
        assert_null(ctx);
        assert_true(status == CREDSTORE_E_NO_MEMORY || status == CREDSTORE_E_INTERNAL);
        assert_int_equal(err.status, status);
        return false;
    }
    result = table->key_load(ctx, XAES, cs_bytes(bytes, sizeof bytes), &key);
    if (result == OK)
        result = table->seal(ctx, key, nonce_abc, none, none, NULL, tag);
    if (result == OK)
        result = table->digest(ctx, none, out);
    table->key_free(ctx, key);
    table->close(ctx);
    assert_true(result == OK || result == NO_MEMORY);
    return result == OK;
}

static void test_each_allocation_fails_once(void **state)
{
    long n = 1;

    (void)state;
    assert_true(live());
    for (; n < 1000; n++) {
        bool lived;

        heap_reset(n);
        lived = live();
        if (lived && atomic_load(&heap.calls) < n)
            break;
        assert_int_equal(ERR_peek_error(), 0);
    }
    heap_reset(0);
    assert_in_range(n, 5, 999); /* all were reached, the contexts' own among them */
    assert_true(live());
}

/* ---- threads ----------------------------------------------------------------------------------
 */

enum { THREADS = 8, TURNS = 2000 };

typedef struct worker {
    void *ctx, *xaes, *hmac;
    uint64_t seed;
    unsigned wrong;
} worker;

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void *work(void *arg)
{
    worker *w = arg;

    for (size_t i = 0; i < TURNS; i++) {
        uint8_t nonce[24] = {0}, plain[300], sealed[300], back[300], tag[16], a[32], b[32];
        const size_t len = next(&w->seed) % sizeof plain;
        const credstore_bytes body = cs_bytes(plain, len);
        bool ok;

        cs_put_u64(nonce, next(&w->seed));
        memset(plain, (int)(i & 0xff), sizeof plain);
        ok = table->seal(w->ctx, w->xaes, nonce, body, body, sealed, tag) == OK &&
             table->open(w->ctx, w->xaes, nonce, body, cs_bytes(sealed, len), tag, back) == OK &&
             memcmp(plain, back, len) == 0 && table->mac(w->ctx, w->hmac, body, a) == OK &&
             table->mac(w->ctx, w->hmac, body, b) == OK && memcmp(a, b, sizeof a) == 0;
        tag[i % 16] ^= 1;
        ok = ok &&
             table->open(w->ctx, w->xaes, nonce, body, cs_bytes(sealed, len), tag, back) == BAD_TAG;
        w->wrong += !ok;
    }
    return NULL;
}

static uint64_t seed;

static void test_threads(void **state)
{
    void *xaes = load_filled(*state, XAES, 1), *hmac = load_filled(*state, HMAC, 1);
    pthread_t threads[THREADS];
    worker workers[THREADS];

    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){*state, xaes, hmac, seed + i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    table->key_free(*state, hmac);
    table->key_free(*state, xaes);
}

/* More operations at once than there are slots. Each thread's message lies on a page of its own
   that cannot be read until all of them are inside. */
enum { CROWD = 40, PAGE = 4096 };

static struct {
    uint8_t *pages;
    atomic_int inside;
    sem_t all_inside;
} crowd;

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    const uintptr_t base = (uintptr_t)crowd.pages, at = (uintptr_t)info->si_addr;

    (void)context;
    if (at < base || at >= base + (uintptr_t)CROWD * PAGE) {
        (void)signal(signal_number, SIG_DFL);
        return;
    }
    if (atomic_fetch_add(&crowd.inside, 1) + 1 == CROWD)
        for (int i = 0; i < CROWD; i++)
            (void)sem_post(&crowd.all_inside);
    while (sem_wait(&crowd.all_inside) != 0)
        continue;
    (void)mprotect(crowd.pages + (at - base) / PAGE * PAGE, PAGE, PROT_READ);
}

typedef struct guest {
    void *ctx, *key;
    const uint8_t *page;
    int32_t result;
    uint8_t sealed[64], tag[16];
} guest;

static void *visit(void *arg)
{
    guest *g = arg;

    g->result = table->seal(g->ctx, g->key, nonce_abc, cs_bytes(NULL, 0), cs_bytes(g->page, 64),
                            g->sealed, g->tag);
    return NULL;
}

static void crowd_runs(void *ctx, void *key, guest guests[CROWD])
{
    pthread_t threads[CROWD];

    for (size_t i = 0; i < CROWD; i++) {
        guests[i] = (guest){.ctx = ctx, .key = key, .page = crowd.pages + i * PAGE};
        assert_int_equal(pthread_create(&threads[i], NULL, visit, &guests[i]), 0);
    }
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static bool under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static void test_more_threads_than_slots(void **state)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction before;
    void *key = load_filled(*state, XAES, 1);
    static guest guests[CROWD];
    uint8_t back[64];

    if (under_valgrind()) {
        print_message("skipped: valgrind takes the awaited fault for a defect\n");
        table->key_free(*state, key);
        skip();
    }
    assert_int_equal(sem_init(&crowd.all_inside, 0, 0), 0);
    atomic_store(&crowd.inside, 0);
    crowd.pages = mmap(NULL, (size_t)CROWD * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(crowd.pages != MAP_FAILED);
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    crowd_runs(*state, key, guests);
    assert_int_equal(sigaction(SIGSEGV, &before, NULL), 0);
    assert_int_equal(atomic_load(&crowd.inside), CROWD);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(guests[i].result, OK);
        assert_int_equal(table->open(*state, key, nonce_abc, cs_bytes(NULL, 0),
                                     cs_bytes(guests[i].sealed, 64), guests[i].tag, back),
                         OK);
        assert_true(all(back, sizeof back, 0));
    }
    assert_int_equal(munmap(crowd.pages, (size_t)CROWD * PAGE), 0);
    table->key_free(*state, key);
}

/* A thread that drew randomness and lives longer than the store that it drew from. */
static void *outlive(void *arg)
{
    sem_t *turns = arg;
    void *ctx = NULL;
    uint8_t out[16];
    int32_t result = FAILED;

    if (cs_openssl_new(&ctx, NULL) == CREDSTORE_OK)
        result = table->random(ctx, out, sizeof out);
    table->close(ctx);
    (void)sem_post(&turns[0]);
    (void)sem_wait(&turns[1]);
    return result == OK ? turns : NULL;
}

static void test_thread_outlives_the_store(void **state)
{
    pthread_t thread;
    sem_t turns[2];
    void *said;

    (void)state;
    assert_int_equal(sem_init(&turns[0], 0, 0), 0);
    assert_int_equal(sem_init(&turns[1], 0, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, outlive, turns), 0);
    assert_int_equal(sem_wait(&turns[0]), 0);
    assert_int_equal(sem_post(&turns[1]), 0);
    assert_int_equal(pthread_join(thread, &said), 0);
    assert_non_null(said);
}

static void choose_seed(void)
{
    const char *given = getenv("CREDSTORE_SEED");

    seed = given == NULL ? (uint64_t)time(NULL) : strtoull(given, NULL, 0);
    printf("CREDSTORE_SEED=%" PRIu64 "\n", seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xaes_vectors),
        cmocka_unit_test(test_xaes_accumulated),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_lengths_count),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_hmac_vectors),
        cmocka_unit_test(test_digest_vectors),
        cmocka_unit_test(test_scrypt_vectors),
        cmocka_unit_test(test_keys_refused),
        cmocka_unit_test(test_key_of_another_suite),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_entropy),
        cmocka_unit_test(test_error_queue),
        cmocka_unit_test(test_steady_state_allocates_nothing),
        cmocka_unit_test(test_no_key_on_the_heap),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_close_after_cleanup),
        cmocka_unit_test(test_each_allocation_fails_once),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_more_threads_than_slots),
        cmocka_unit_test(test_thread_outlives_the_store),
    };

    if (CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) != 1)
        return 1;
    choose_seed();
    return cmocka_run_group_tests(tests, setup, teardown);
}
