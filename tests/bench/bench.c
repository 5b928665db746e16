/* SPDX-License-Identifier: MIT
 *
 * The hot paths against a floor that is compiled in here: an LMDB get in a renewed transaction and
 * the opens that cannot be left out, by the same crypto provider on a copy of the same file, and
 * nothing else. Both run in turns. What counts is the ratio, and that a call in the steady state
 * allocates nothing and fetches nothing from OpenSSL: only the latter two fail the program.
 *
 *   CREDSTORE_BENCH_RECORDS=N  records a store (100,000)
 *   CREDSTORE_BENCH_UPDATES=N  durable updates a round (400); 0 = none
 *   CREDSTORE_BENCH_ROUNDS=N   rounds (9)
 *   CREDSTORE_BENCH_ROW=N      the nth comparison alone
 *   TMPDIR                     where the stores lie that are measured
 */
#define _GNU_SOURCE /* copy_file_range */

#include "../support.h"

#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "format.h"
#include "ring.h"
#include "store.h"

/* ---- counting ---- */

static _Atomic uint64_t allocations, fetches;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTED __attribute__((visibility("default")))
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);

COUNTED void *malloc(size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_malloc(size);
}

COUNTED void *calloc(size_t count, size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_calloc(count, size);
}

COUNTED void *realloc(void *ptr, size_t size)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_realloc(ptr, size);
}
#endif

#define COUNT_FETCH(type, name)                                                                    \
    type *__real_##name(OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties);         \
    type *__wrap_##name(OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties);         \
    type *__wrap_##name(OSSL_LIB_CTX *ctx, const char *algorithm, const char *properties)          \
    {                                                                                              \
        atomic_fetch_add_explicit(&fetches, 1, memory_order_relaxed);                              \
        return __real_##name(ctx, algorithm, properties);                                          \
    }
/* __wrap_EVP_CIPHER_fetch __wrap_EVP_MD_fetch */
COUNT_FETCH(EVP_CIPHER, EVP_CIPHER_fetch)
COUNT_FETCH(EVP_MD, EVP_MD_fetch)

/* ---- small things ---- */

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench: %s failed\n", what);
    exit(1);
}

static void must_be_ok(credstore_status status, const credstore_error *err, const char *what)
{
    if (status == CREDSTORE_OK)
        return;
    fprintf(stderr, "bench: %s: %s: %s\n", what, credstore_status_name((int32_t)status),
            err->message);
    exit(1);
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

enum { ROUNDS_MAX = 99 };

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_size);
    return values[count / 2];
}

static const char *file_system(const char *path)
{
    struct statfs fs;

    if (statfs(path, &fs) != 0)
        return "unknown";
    switch ((unsigned long)fs.f_type) {
    case 0xef53:
        return "ext4";
    case 0x01021994:
        return "tmpfs";
    case 0x58465342:
        return "xfs";
    case 0x9123683e:
        return "btrfs";
    case 0x794c7630:
        return "overlay";
    default:
        return "another";
    }
}

static void copy_file(const char *from, const char *to)
{
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    const int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    static char block[1 << 20];
    ssize_t n = 0;

    must(in >= 0 && out >= 0, "opening a copy");
    while ((n = read(in, block, sizeof block)) > 0)
        must(write(out, block, (size_t)n) == n, "copying");
    must(n == 0 && fsync(out) == 0, "copying");
    close(in);
    close(out);
}

/* ---- one store, filled ---- */

enum { ID_MAX = 40, TOKEN_MAX = 128, PAD = 700, DESCRIPTION = 305, PATH_MAX_ = 2 * TEST_PATH_MAX };

typedef struct place {
    char id[ID_MAX], token[TOKEN_MAX];
} place;

typedef struct bench {
    size_t records, rounds, updates;
    place *places; /* shuffled, so that one after the other they are anywhere in the store */
    size_t next;
    credstore *store;
    credstore_actor actor, system;
    credstore_call call, system_call;
    char folder[TEST_PATH_MAX], path[PATH_MAX_], raw_path[PATH_MAX_];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    /* The floor: a key, associated data and offsets, made once. */
    uint8_t kind;
    uint16_t field;
    size_t id_len, digest_at;
    bool scoped; /* by a MAC of the owner */
    uint8_t scope[CS_SCOPE_LEN];
    size_t value_len;
} bench;

static char pad[PAD];

static credstore_text padding(size_t len)
{
    const credstore_text text = {.ptr = pad, .len = len, .op = CREDSTORE_SET};

    return text;
}

static void make_api_key(bench *b, place *p)
{
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = padding(DESCRIPTION),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    const credstore_api_key *view = NULL;
    credstore_secret *key = NULL;
    credstore_error err;

    must_be_ok(credstore_api_key_issue(b->store, &b->call, NULL, &patch, &key, &view, &err), &err,
               "issue");
    snprintf(p->id, sizeof p->id, "%s", view->id);
    snprintf(p->token, sizeof p->token, "%s", credstore_secret_ptr(key));
    credstore_free(view);
    credstore_secret_free(key);
}

static void make_checkbook(bench *b, place *p)
{
    static const char url[] = "https://api.example.com/"
                              "0123456789012345678901234567890123456789012345678901234567890";
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = padding(142),
                                             .secret_key = CREDSTORE_SECRET(pad, 40),
                                             .base_url = CREDSTORE_TEXT(url)};
    const credstore_checkbook *view = NULL;
    credstore_error err;

    must_be_ok(credstore_checkbook_create(b->store, &b->call, NULL, &patch, &view, &err), &err,
               "create");
    snprintf(p->id, sizeof p->id, "%s", view->id);
    credstore_free(view);
}

static void make_stripe(bench *b, place *p)
{
    static const char key[] = "sk_test_4eC39HqLyjWDarjtT1zdp7dc4eC39HqLyjWDarjtT1zdp7dc",
                      hook[] = "whsec_4eC39HqLyjWDarjtT1zdp7dc";
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .test_secret_key = CREDSTORE_SECRET(key, CREDSTORE_NTS),
                                          .test_webhook_secret =
                                              CREDSTORE_SECRET(hook, CREDSTORE_NTS)};
    credstore_error err;
    const size_t n = (size_t)(p - b->places);

    snprintf(p->id, sizeof p->id, "%08zx-0000-4000-8000-%012zx", n, n);
    must_be_ok(credstore_stripe_update(b->store, &b->call, p->id, &patch, NULL, &err), &err,
               "create");
}

/* ---- the floor ---- */

enum {
    BODY_AT = 12,                                 /* behind a value's clear head */
    BOX_HEAD = 4 + 4 + CS_NONCE_LEN + CS_TAG_LEN, /* key id, length, nonce, tag */
    PART_HEAD = 10,
    LABEL_ID_AT = 1 + CS_STORE_ID_LEN + 1 + 1 + CS_SCOPE_LEN + 2
};

static const cs_data_key *key_of(const bench *b, uint8_t purpose)
{
    return cs_keyring_active(cs_store_ring(b->store), purpose);
}

/* Opens the box at p as what lies in it; returns the plain text's length. */
static size_t open_box(const bench *b, const uint8_t *p, uint8_t role, uint16_t field,
                       const char *id, uint8_t *out)
{
    const cs_sealer *sealer = &b->store->sealer;
    const cs_data_key *key = key_of(b, role == CS_ROLE_PART ? CS_PURPOSE_SECRET : CS_PURPOSE_BODY);
    const size_t len = cs_get_u32(p + 4);
    uint8_t label[LABEL_ID_AT + ID_MAX + 14];
    int32_t result;

    label[0] = CS_FORMAT;
    memcpy(label + 1, sealer->store_id, CS_STORE_ID_LEN);
    label[17] = role;
    label[18] = b->kind;
    memcpy(label + 19, b->scope, CS_SCOPE_LEN);
    cs_put_u16(label + 35, (uint16_t)b->id_len);
    memcpy(label + LABEL_ID_AT, id, b->id_len);
    cs_put_u16(label + LABEL_ID_AT + b->id_len, field);
    cs_put_u64(label + LABEL_ID_AT + b->id_len + 2, 1);
    cs_put_u32(label + LABEL_ID_AT + b->id_len + 10, key->id);
    result = sealer->crypto->open(sealer->ctx, key->handle, p + 8,
                                  cs_bytes(label, LABEL_ID_AT + b->id_len + 14),
                                  cs_bytes(p + BOX_HEAD, len), p + 8 + CS_NONCE_LEN, out);
    must(result == CREDSTORE_CRYPTO_OK, "an open of the floor");
    return len;
}

static const uint8_t *get(bench *b, const char *id, size_t *len)
{
    MDB_val k, v;
    cs_key made;
    const cs_locator at = {.kind = b->kind, .id = cs_bytes(id, b->id_len)};

    cs_key_record(&made, &at);
    if (b->scoped)
        memcpy(made.ptr + 2, b->scope, CS_SCOPE_LEN);
    k.mv_size = made.len;
    k.mv_data = made.ptr;
    must(mdb_get(b->txn, b->dbi, &k, &v) == 0, "a get of the floor");
    *len = v.mv_size;
    return v.mv_data;
}

static void floor_verify(bench *b, const place *p)
{
    uint8_t digest[32], plain[4096];
    const cs_sealer *sealer = &b->store->sealer;
    const size_t token_len = strlen(p->token);
    const uint8_t *value;
    size_t len;

    must(sealer->crypto->digest(sealer->ctx, cs_bytes(p->token, token_len), digest) ==
             CREDSTORE_CRYPTO_OK,
         "a digest");
    must(mdb_txn_renew(b->txn) == 0, "a renewal");
    value = get(b, p->id, &len);
    open_box(b, value + BODY_AT, CS_ROLE_CURRENT, 0, p->id, plain);
    must(cs_equal_secret(digest, plain + b->digest_at, sizeof digest), "a comparison");
    mdb_txn_reset(b->txn);
}

static void floor_reveal(bench *b, const place *p)
{
    uint8_t plain[4096], secret[4096], mac[32];
    const cs_sealer *sealer = &b->store->sealer;
    const uint8_t *value;
    size_t len, body;

    if (b->scoped)
        must(sealer->crypto->mac(sealer->ctx, key_of(b, CS_PURPOSE_NAME)->handle,
                                 cs_bytes(p->id, 14), mac) == CREDSTORE_CRYPTO_OK,
             "a MAC");
    must(mdb_txn_renew(b->txn) == 0, "a renewal");
    value = get(b, p->id, &len);
    body = open_box(b, value + BODY_AT, CS_ROLE_CURRENT, 0, p->id, plain);
    open_box(b, value + BODY_AT + BOX_HEAD + body + PART_HEAD, CS_ROLE_PART, b->field, p->id,
             secret);
    mdb_txn_reset(b->txn);
}

/* ---- the library ---- */

static void lib_verify(bench *b, const place *p)
{
    credstore_actor actor;
    credstore_error err;

    must_be_ok(credstore_api_key_verify(b->store, p->token, CREDSTORE_NTS, &actor, &err), &err,
               "verify");
}

static void lib_reveal_checkbook(bench *b, const place *p)
{
    credstore_secret *secret;
    credstore_error err;

    must_be_ok(
        credstore_checkbook_reveal(b->store, &b->system_call, p->id, b->field, &secret, &err), &err,
        "reveal");
    credstore_secret_free(secret);
}

static void lib_reveal_stripe(bench *b, const place *p)
{
    credstore_secret *secret;
    credstore_error err;

    must_be_ok(credstore_stripe_reveal(b->store, &b->system_call, p->id, b->field, &secret, &err),
               &err, "reveal");
    credstore_secret_free(secret);
}

/* ---- reading, in turns ---- */

typedef void one(bench *b, const place *p);

typedef struct row {
    const char *name;
    uint8_t kind;
    uint16_t field;
    size_t id_len;
    bool scoped;
    void (*make)(bench *b, place *p);
    one *floor, *library;
} row;

static const row rows[] = {
    {"verify (api_key)", CREDSTORE_KIND_API_KEY, 0, 27, false, make_api_key, floor_verify,
     lib_verify},
    {"reveal (checkbook)", CREDSTORE_KIND_CHECKBOOK, CREDSTORE_CHECKBOOK_SECRET_KEY, 27, false,
     make_checkbook, floor_reveal, lib_reveal_checkbook},
    {"reveal (stripe, with its MAC)", CREDSTORE_KIND_STRIPE, CREDSTORE_STRIPE_TEST_SECRET_KEY, 36,
     true, make_stripe, floor_reveal, lib_reveal_stripe},
};

static const place *next_place(bench *b)
{
    b->next = (b->next + 1) % b->records;
    return &b->places[b->next];
}

static double time_of(bench *b, one *run, size_t from, size_t count)
{
    double start;

    b->next = from % b->records;
    start = now_ns();
    for (size_t i = 0; i < count; i++)
        run(b, next_place(b));
    return (now_ns() - start) / (double)count;
}

/* Calls after the first ones. False if they allocate or fetch. */
static bool is_steady(bench *b, const row *r)
{
    const size_t count = b->records < 10000 ? b->records : 10000;
    uint64_t allocated, fetched;

    allocated = atomic_load(&allocations);
    fetched = atomic_load(&fetches);
    time_of(b, r->library, 0, count);
    allocated = atomic_load(&allocations) - allocated;
    fetched = atomic_load(&fetches) - fetched;
    printf("  a call: %.4g allocations, %.4g fetches\n", (double)allocated / (double)count,
           (double)fetched / (double)count);
    return allocated == 0 && fetched == 0;
}

static bool compare(bench *b, const row *r)
{
    double floors[ROUNDS_MAX], libraries[ROUNDS_MAX], ratios[ROUNDS_MAX];
    const size_t count = b->records < 20000 ? b->records : 20000;

    time_of(b, r->floor, 0, b->records);
    time_of(b, r->library, 0, b->records);
    for (size_t i = 0; i < b->rounds; i++) {
        floors[i] = time_of(b, r->floor, i * count, count);
        libraries[i] = time_of(b, r->library, i * count, count);
        ratios[i] = libraries[i] / floors[i];
    }
    printf("%s: %.2f us, floor %.2f us, ratio %.2f\n", r->name, median(libraries, b->rounds) / 1e3,
           median(floors, b->rounds) / 1e3, median(ratios, b->rounds));
    return is_steady(b, r);
}

/* ---- durable updates ---- */

static void lib_update(bench *b, const place *p)
{
    static char text[32];
    static unsigned n;
    credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                     .description = padding(DESCRIPTION)};
    credstore_error err;

    snprintf(text, sizeof text, "%016u", ++n);
    memcpy(pad, text, 16);
    must_be_ok(credstore_api_key_update(b->store, &b->call, p->id, &patch, NULL, &err), &err,
               "update");
}

/* One put and commit; or as many as an update has: record, history, audit and head. */
static void put_raw(bench *b, const place *p, bool all)
{
    static uint64_t n;
    uint8_t value[1024] = {0};
    const cs_locator at = {.kind = b->kind, .id = cs_bytes(p->id, b->id_len)};
    MDB_val v = {b->value_len, value};
    MDB_txn *txn;
    cs_key keys[4];

    n++;
    memcpy(value, &n, sizeof n);
    cs_key_record(&keys[0], &at);
    cs_key_history(&keys[1], &at, n);
    cs_key_audit(&keys[2], 0, UINT64_C(1000000000) + n);
    cs_key_head(&keys[3], 0);
    must(mdb_txn_begin(b->env, NULL, 0, &txn) == 0, "a raw transaction");
    for (size_t i = 0; i < (all ? 4u : 1u); i++) {
        MDB_val k = {keys[i].len, keys[i].ptr};

        v.mv_size = i < 2 ? b->value_len : 200;
        must(mdb_put(txn, b->dbi, &k, &v, 0) == 0, "a raw put");
    }
    must(mdb_txn_commit(txn) == 0, "a raw commit");
}

static void raw_put(bench *b, const place *p)
{
    put_raw(b, p, false);
}

static void raw_puts(bench *b, const place *p)
{
    put_raw(b, p, true);
}

static void compare_updates(bench *b)
{
    double times[3][ROUNDS_MAX], rates[3];
    static one *const ways[3] = {lib_update, raw_put, raw_puts};

    if (b->updates == 0)
        return;
    for (size_t i = 0; i < b->rounds; i++)
        for (size_t w = 0; w < 3; w++)
            times[w][i] = time_of(b, ways[w], (3 * i + w) * b->updates, b->updates);
    for (size_t w = 0; w < 3; w++)
        rates[w] = 1e9 / median(times[w], b->rounds);
    printf("durable updates, 1 writer: %.0f/s; mdb_put and commit %.0f/s (ratio %.2f); "
           "the same four puts and commit %.0f/s (ratio %.2f)\n",
           rates[0], rates[1], rates[1] / rates[0], rates[2], rates[2] / rates[0]);
}

/* ---- a store for one row ---- */

static void begin_row(bench *b, const row *r)
{
    b->kind = r->kind;
    b->field = r->field;
    b->id_len = r->id_len;
    b->scoped = r->scoped;
    memset(b->scope, 0, sizeof b->scope);
    b->actor = test_root(b->store);
    b->call = test_call(&b->actor);
    b->system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", TEST_TENANT);
    b->system_call = test_call(&b->system);
}

/* Where nothing waits for a disk, then copied to where it is measured, twice. */
static void fill(bench *b, const row *r)
{
    char quick[TEST_PATH_MAX], path[PATH_MAX_], data[PATH_MAX_ + 16], to[PATH_MAX_ + 16];

    snprintf(quick, sizeof quick, "%.64s/credstore_bench.XXXXXX", test_quick_base());
    must(mkdtemp(quick) != NULL, quick);
    snprintf(path, sizeof path, "%s/store", quick);
    b->store = open_lmdb(path);
    begin_row(b, r);
    for (size_t i = 0; i < b->records; i++)
        r->make(b, &b->places[i]);
    credstore_close(b->store);

    test_folder(b->folder);
    snprintf(b->path, sizeof b->path, "%s/store", b->folder);
    snprintf(b->raw_path, sizeof b->raw_path, "%s/raw", b->folder);
    must(mkdir(b->path, 0700) == 0 && mkdir(b->raw_path, 0700) == 0, "mkdir");
    snprintf(data, sizeof data, "%s/data.mdb", path);
    snprintf(to, sizeof to, "%s/data.mdb", b->path);
    copy_file(data, to);
    snprintf(to, sizeof to, "%s/data.mdb", b->raw_path);
    copy_file(data, to);
    test_folder_remove(quick);
    b->store = open_lmdb(b->path);
}

/* The scope that the library uses stands in each key of the table. */
static void take_scope(bench *b)
{
    MDB_cursor *cursor;
    uint8_t from[2] = {CS_TABLE_RECORD, b->kind};
    MDB_val k = {sizeof from, from}, v;

    must(mdb_cursor_open(b->txn, b->dbi, &cursor) == 0 &&
             mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == 0,
         "looking at a key");
    if (b->scoped)
        memcpy(b->scope, (const uint8_t *)k.mv_data + 2, CS_SCOPE_LEN);
    mdb_cursor_close(cursor);
}

static void take_digest_place(bench *b)
{
    uint8_t digest[32], plain[4096];
    const cs_sealer *sealer = &b->store->sealer;
    const place *p = &b->places[0];
    const uint8_t *value = get(b, p->id, &b->value_len), *found;
    const size_t len = open_box(b, value + BODY_AT, CS_ROLE_CURRENT, 0, p->id, plain);

    if (p->token[0] == '\0')
        return;
    sealer->crypto->digest(sealer->ctx, cs_bytes(p->token, strlen(p->token)), digest);
    found = memmem(plain, len, digest, sizeof digest);
    must(found != NULL, "finding the digest");
    b->digest_at = (size_t)(found - plain);
}

static void open_raw(bench *b)
{
    must(mdb_env_create(&b->env) == 0 && mdb_env_set_mapsize(b->env, (size_t)16 << 30) == 0 &&
             mdb_env_open(b->env, b->raw_path, MDB_NOTLS | MDB_NORDAHEAD, 0600) == 0 &&
             mdb_txn_begin(b->env, NULL, MDB_RDONLY, &b->txn) == 0 &&
             mdb_dbi_open(b->txn, NULL, 0, &b->dbi) == 0,
         "opening the copy");
    take_scope(b);
    take_digest_place(b);
    mdb_txn_reset(b->txn);
}

static void shuffle(bench *b)
{
    uint64_t state = 1;

    for (size_t i = b->records - 1; i > 0; i--) {
        const size_t j = (size_t)(test_random(&state) % (i + 1));
        const place kept = b->places[i];

        b->places[i] = b->places[j];
        b->places[j] = kept;
    }
}

static bool run(bench *b, const row *r)
{
    bool steady;

    memset(b->places, 0, b->records * sizeof *b->places);
    fill(b, r);
    shuffle(b);
    open_raw(b);
    printf("%zu records of %zu bytes on %s; ", b->records, b->value_len, file_system(b->folder));
    steady = compare(b, r);
    if (r->kind == CREDSTORE_KIND_API_KEY)
        compare_updates(b);
    fflush(stdout);
    mdb_txn_abort(b->txn);
    mdb_env_close(b->env);
    credstore_close(b->store);
    test_folder_remove(b->folder);
    return steady;
}

int main(void)
{
    bench b = {0};
    bool steady = true;
    size_t only;

    b.records = test_number("CREDSTORE_BENCH_RECORDS", 100000);
    b.updates = test_number("CREDSTORE_BENCH_UPDATES", 400);
    b.rounds = test_number("CREDSTORE_BENCH_ROUNDS", 9);
    must(b.records > 0 && b.records < SIZE_MAX / sizeof *b.places && b.rounds > 0 &&
             b.rounds <= ROUNDS_MAX,
         "the environment's numbers");
    memset(pad, 'a', sizeof pad);
    b.places = calloc(b.records, sizeof *b.places);
    must(b.places != NULL, "calloc");
    only = test_number("CREDSTORE_BENCH_ROW", 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (only == 0 || only == i + 1)
            steady = run(&b, &rows[i]) && steady;
    free(b.places);
    if (!steady)
        printf("FAILED: a call in the steady state allocates or fetches\n");
    return steady ? 0 : 1;
}
