/* SPDX-License-Identifier: MIT
 *
 * For authors of storage engines and of crypto providers. An application does not need this header.
 *
 * Both tables start with struct_size and only grow at the end: a shorter one lacks what is
 * optional; one that lacks anything else is E_INVALID to credstore_open(). Every callback may be
 * called from any thread; one transaction is used by one thread at a time. The table is not copied:
 * it stays where it is, unchanged, until credstore_close().
 *
 * Results are never 0, so that a callback which raises in a language binding, and so returns 0
 * (cffi), is not taken for a success. Not every binding does: Python's ctypes returns what lay in
 * the result's place, often the OK of the call before. There each callback catches all.
 */
#ifndef CREDSTORE_BACKEND_H
#define CREDSTORE_BACKEND_H

#include "../credstore.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct credstore_bytes {
    const void *ptr;
    size_t len;
} credstore_bytes;

/* ---- storage: an ordered map of bytes -----------------------------------------------------------
 */

/* The closed set of an engine's results. Anything else is taken for UNAVAILABLE. */
enum {
    CREDSTORE_STORAGE_OK = 1,
    CREDSTORE_STORAGE_NOT_FOUND = 2,   /* get, del: no such key */
    CREDSTORE_STORAGE_CONFLICT = 3,    /* commit, put, del: others were faster, or the engine had to
                                          make room; nothing changed, the whole is tried again */
    CREDSTORE_STORAGE_UNKNOWN = 4,     /* commit: cannot tell whether it took place; it does not
                                          take place later */
    CREDSTORE_STORAGE_BUSY = 5,        /* begin: wait_ms went by, or no place for a reader; put,
                                          del, commit: no room as long as others read */
    CREDSTORE_STORAGE_UNAVAILABLE = 6, /* any other failure of the engine */
    CREDSTORE_STORAGE_FULL = 7,        /* no room */
    CREDSTORE_STORAGE_TOO_LARGE = 8,   /* key over 511 bytes, or a value over the engine's limit */
    CREDSTORE_STORAGE_CORRUPT = 9,     /* the engine's own structures are damaged */
    CREDSTORE_STORAGE_NO_MEMORY = 10,
    CREDSTORE_STORAGE_STOP = 11 /* from a sink: end the scan, which then answers OK */
};

/* Takes what get and scan find. The engine hands each pair to it and obeys the answer: OK = go on;
   anything else = return at once with that result (STOP: with OK, from get as well). */
typedef struct credstore_sink credstore_sink;
/* The value stays where it is, unchanged, until the transaction ends; so does a key that scan found
   (get may hand over the caller's own). */
CREDSTORE_API int32_t credstore_sink_borrow(credstore_sink *sink, credstore_bytes key,
                                            credstore_bytes value);
/* The bytes may go away when this returns: the core copies them. May answer NO_MEMORY. */
CREDSTORE_API int32_t credstore_sink_copy(credstore_sink *sink, credstore_bytes key,
                                          credstore_bytes value);

enum { /* features */
       CREDSTORE_STORAGE_READ_OWN_WRITES =
           1 /* get, scan and del of a write transaction see its puts. Without it each change has
                a transaction of its own */
};

/* What an engine tells of itself. 0 = not known. */
typedef struct credstore_storage_stat {
    uint32_t struct_size, page_bytes;
    uint64_t file_bytes, map_bytes; /* map: what the file may grow to before it is mapped anew */
    uint64_t pages, free_pages;     /* of the file; free ones hold nothing that counts */
    uint64_t entries;               /* pairs */
    uint64_t readers, readers_max;  /* places of readers that are taken, of all processes */
} credstore_storage_stat;

/* Keys are 1..511 bytes, compared as memcmp, a shorter key before a longer one that starts with it.
   A read transaction sees one snapshot. There is one write transaction at a time, or CONFLICT at
   commit. */
typedef struct credstore_storage {
    uint32_t struct_size, features;
    const char *name;
    /* write = 0 or 1. wait_ms: how long a writer may wait for its turn; -1 = for ever. On OK, *txn
       is set. A thread may be cancelled while it waits or has the turn: the turn must not be lost,
       so a writer's begin puts cancellation off, and its end allows it again if it was allowed. */
    int32_t (*begin)(void *ctx, uint32_t write, int64_t wait_ms, void **txn);
    /* One call of the sink if the key is there, else NOT_FOUND. */
    int32_t (*get)(void *ctx, void *txn, credstore_bytes key, credstore_sink *out);
    /* Pairs with from <= key < to, ascending, or descending if reverse; at most limit (0 = all). An
       empty `to` means to the end. Finding none is OK. */
    int32_t (*scan)(void *ctx, void *txn, credstore_bytes from, credstore_bytes to,
                    uint32_t reverse, uint32_t limit, credstore_sink *out);
    /* Inserts or replaces. After any other answer than OK only abort may follow. */
    int32_t (*put)(void *ctx, void *txn, credstore_bytes key, credstore_bytes value);
    /* Deletes; NOT_FOUND leaves the transaction usable. */
    int32_t (*del)(void *ctx, void *txn, credstore_bytes key);
    /* Both consume the transaction whatever they answer. OK from commit means durable. Commit of a
       read transaction is the same as abort. */
    int32_t (*commit)(void *ctx, void *txn);
    void (*abort)(void *ctx, void *txn);
    /* errno or the engine's own code of its most recent failure, for error.native; may be NULL. */
    int32_t (*native)(void *ctx);
    void (*close)(void *ctx);
    /* Housekeeping that time asks for (LMDB: places of dead readers); may be NULL. */
    int32_t (*tidy)(void *ctx);
    /* Makes a copy of the whole map, as it is at one moment, beside running writers, at `path`,
       where nothing is: durable when it answers OK, and such that this engine opens it. On any
       other answer nothing is left there. flags: CREDSTORE_OPEN_GROUP. progress (may be NULL) is
       called now and then. *err may be filled, and is believed then; it is all zero before. NULL,
       or a table that ends before: credstore_backup() copies pair by pair into an LMDB folder. */
    int32_t (*backup)(void *ctx, const char *path, uint32_t flags, credstore_progress progress,
                      void *progress_ctx, credstore_error *err);
    /* Fills what it can of *out, which is all zero but for struct_size. NULL, or a table that ends
       before: nothing is known. */
    int32_t (*stat)(void *ctx, credstore_storage_stat *out);
} credstore_storage;

/* ---- crypto -------------------------------------------------------------------------------------
 */

enum {
    CREDSTORE_CRYPTO_OK = 1,
    CREDSTORE_CRYPTO_BAD_TAG = 2, /* open: not authentic; out was wiped */
    CREDSTORE_CRYPTO_FAILED = 3,  /* anything else */
    CREDSTORE_CRYPTO_NO_MEMORY = 4,
    CREDSTORE_CRYPTO_NO_ENTROPY = 5
};
enum {                                   /* suites of key_load; both keys are 32 bytes */
       CREDSTORE_SUITE_XAES_256_GCM = 1, /* c2sp.org/XAES-256-GCM: nonce 24 bytes, tag 16 bytes */
       CREDSTORE_SUITE_HMAC_SHA256 = 2   /* RFC 2104 over FIPS 180-4 */
};

typedef struct credstore_crypto {
    uint32_t struct_size, features; /* features: 0 */
    const char *name;
    /* Takes a copy of the key, wiped by key_free. On OK *out is not NULL. A loaded key is used by
     * many threads at once. */
    int32_t (*key_load)(void *ctx, uint32_t suite, credstore_bytes key, void **out);
    void (*key_free)(void *ctx, void *key);
    /* out has room for plain.len bytes and may not overlap it. */
    int32_t (*seal)(void *ctx, void *key, const uint8_t nonce[24], credstore_bytes associated,
                    credstore_bytes plain, uint8_t *out, uint8_t tag[16]);
    int32_t (*open)(void *ctx, void *key, const uint8_t nonce[24], credstore_bytes associated,
                    credstore_bytes sealed, const uint8_t tag[16], uint8_t *out);
    int32_t (*mac)(void *ctx, void *key, credstore_bytes message, uint8_t out[32]);
    int32_t (*digest)(void *ctx, credstore_bytes message, uint8_t out[32]); /* SHA-256 */
    int32_t (*random)(void *ctx, uint8_t *out, size_t len); /* for keys and nonces */
    void (*close)(void *ctx);
    /* RFC 7914, 32 bytes of it; n a power of two. Takes 128 * r * n bytes of memory. May be NULL:
       then passphrases are E_UNSUPPORTED. */
    int32_t (*scrypt)(void *ctx, credstore_bytes passphrase, credstore_bytes salt, uint64_t n,
                      uint32_t r, uint32_t p, uint8_t out[32]);
} credstore_crypto;

#ifdef __cplusplus
}
#endif
#endif
