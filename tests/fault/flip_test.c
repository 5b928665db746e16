/* SPDX-License-Identifier: MIT
 *
 * Every bit of a value of each table in use is flipped, in an LMDB store, and every value that can
 * be taken for another is put in its place: what opens that part must refuse it, and whatever else
 * answers must answer as before.
 *
 * Tables that are read at open are opened through a handle that the test keeps, so that an open
 * costs no file; a sample of all tables goes through whole opens of the path. CREDSTORE_FLIP_STRIDE
 * = n takes each nth bit only; that is 1 in the plain run, more where each step costs more.
 *
 * FLIP_BLIND compiles the same test with a crypto provider that does not look at tags: that program
 * must fail, and flip_blind_test.sh sees to it.
 */
#define _POSIX_C_SOURCE 200809L /* setenv */

#include "../support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/openssl.h"
#include "format.h"
#include "keysource/keysource.h"
#include "mem.h"
#include "op.h"
#include "storage/engines.h"
#include "txn.h"

#ifndef FLIP_BLIND
#define FLIP_BLIND 0
#endif

enum { PAIRS_MAX = 512, READS_MAX = 128, REVISIONS = 3, COMPLAINTS = 4, SAMPLE = 97 };

/* ---- what is in the store ---- */

typedef struct pair {
    uint8_t key[CS_KEY_MAX];
    size_t key_len;
    uint8_t *value;
    size_t len;
} pair;

/* A record of the test: created, changed whole, and changed in one field, so at revision 3. */
typedef struct goal {
    uint32_t kind;
    const char *tenant, *parent, *id;
    uint16_t without; /* a field that is never set; 0 = none */
    const test_kind *k;
    credstore_actor actor;
    test_at at;
    cs_op op; /* knows the record's place */
} goal;

/* The first two differ in the id; stripe's in the tenant, service_credential's in the account, and
   the API keys in the kind from the first two. The last one's body, having no expiry, would pass
   for a checkbook's. */
static goal targets[] = {
    {.kind = CREDSTORE_KIND_CHECKBOOK, .tenant = "acme", .id = "1NFHrqBHb3cTfLVkFSGmHZqdDPi"},
    {.kind = CREDSTORE_KIND_CHECKBOOK, .tenant = "acme", .id = "2ckEEwCIvk3KPgvWjJjyBIS6Abc"},
    {.kind = CREDSTORE_KIND_STRIPE, .tenant = "acme", .id = "3c90c3cc-0d44-4b50-8888-8dd25736052a"},
    {.kind = CREDSTORE_KIND_STRIPE,
     .tenant = "other",
     .id = "3c90c3cc-0d44-4b50-8888-8dd25736052a"},
    {.kind = CREDSTORE_KIND_SERVICE_CREDENTIAL,
     .tenant = "acme",
     .parent = "sa-1",
     .id = "ab3def8hij2klm9opq5rst7uvw"},
    {.kind = CREDSTORE_KIND_SERVICE_CREDENTIAL,
     .tenant = "acme",
     .parent = "sa-2",
     .id = "ab3def8hij2klm9opq5rst7uvw"},
    {.kind = CREDSTORE_KIND_API_KEY, .tenant = "acme", .id = "1NFHrqBHb3cTfLVkFSGmHZqdDPi"},
    {.kind = CREDSTORE_KIND_API_KEY,
     .tenant = "acme",
     .id = "2ckEEwCIvk3KPgvWjJjyBIS6Abc",
     .without = CREDSTORE_API_KEY_EXPIRES_AT},
};
enum {
    CHECKBOOK,
    CHECKBOOK_2,
    STRIPE,
    STRIPE_OTHER,
    SERVICE,
    SERVICE_2,
    API_KEY,
    API_KEY_2,
    TARGETS
};

/* One way to read a record, and what it answers while nothing is touched. */
typedef struct read_of {
    goal *t;
    uint32_t field; /* 0 = get, else reveal */
    uint64_t at_revision;
    const void *view;
    char *secret;
} read_of;

static test_store t;
static void *handle; /* the LMDB engine, of the test */
static credstore_storage kept;
static credstore_key_source *root_keys[3]; /* by the number of their slot: one of each method */
enum { ROOT_KEYS = sizeof root_keys / sizeof *root_keys };
static pair pairs[PAIRS_MAX];
static size_t pair_count;
static read_of reads[READS_MAX];
static size_t read_count;
static unsigned long stride = 1;

/* ---- a crypto provider that is blind to tags ---- */

static void *blind_ctx;
static credstore_crypto blind;

/* GCM is counter mode: what seals opens as well. */
static int32_t blind_open(void *ctx, void *key, const uint8_t nonce[24], credstore_bytes associated,
                          credstore_bytes sealed, const uint8_t tag[16], uint8_t *out)
{
    uint8_t ignored[16];

    (void)tag;
    return cs_crypto_openssl.seal(ctx, key, nonce, associated, sealed, out, ignored);
}

static void keep_open(void *ctx)
{
    (void)ctx;
}

static void make_blind(void)
{
    credstore_error err;

    assert_status(CREDSTORE_OK, cs_openssl_new(&blind_ctx, &err), NULL);
    blind = cs_crypto_openssl;
    blind.open = blind_open;
    blind.close = keep_open;
    t.options.crypto = &blind;
    t.options.crypto_ctx = blind_ctx;
}

/* ---- values, through the engine ---- */

static void write_raw(credstore_bytes key, credstore_bytes value)
{
    void *txn = NULL;

    assert_int_equal(cs_storage_lmdb.begin(handle, 1, 1000, &txn), CREDSTORE_STORAGE_OK);
    if (value.ptr == NULL)
        assert_int_equal(cs_storage_lmdb.del(handle, txn, key), CREDSTORE_STORAGE_OK);
    else
        assert_int_equal(cs_storage_lmdb.put(handle, txn, key, value), CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_lmdb.commit(handle, txn), CREDSTORE_STORAGE_OK);
}

static void put_pair(const pair *p, const uint8_t *value, size_t len)
{
    write_raw(cs_bytes(p->key, p->key_len), cs_bytes(value, len));
}

static bool note_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    pair *p = &pairs[pair_count++];

    (void)arg;
    memcpy(p->key, key.ptr, key.len);
    p->key_len = key.len;
    p->value = malloc(value.len);
    memcpy(p->value, value.ptr, value.len);
    p->len = value.len;
    return pair_count < PAIRS_MAX;
}

static bool count_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    size_t *count = arg;

    (void)key;
    (void)value;
    (*count)++;
    return true;
}

static void scan_all(cs_visit *visit, void *arg)
{
    const cs_key from = {1, {0}}, to = {1, {0xff}};
    const cs_scan all = {.visit = visit, .arg = arg};
    credstore_error err = {0};
    cs_txn txn;

    assert_status(CREDSTORE_OK, cs_txn_read(t.store, &txn, &err), &err);
    assert_status(CREDSTORE_OK, cs_txn_scan(&txn, &from, &to, &all, &err), &err);
    cs_txn_end(&txn);
}

static void note_pairs(void)
{
    scan_all(note_pair, NULL);
    assert_in_range(pair_count, 1, PAIRS_MAX - 1);
}

static size_t count_pairs(void)
{
    size_t count = 0;

    scan_all(count_pair, &count);
    return count;
}

static pair *find_pair(const cs_key *key)
{
    for (size_t i = 0; i < pair_count; i++)
        if (cs_bytes_equal(cs_bytes(pairs[i].key, pairs[i].key_len), cs_key_bytes(key)))
            return &pairs[i];
    fail_msg("a value that the test needs is not in the store");
    return NULL;
}

static pair *current_of(const goal *target)
{
    cs_key key;

    cs_key_record(&key, &target->op.at);
    return find_pair(&key);
}

static pair *history_of(const goal *target, uint64_t revision)
{
    cs_key key;

    cs_key_history(&key, &target->op.at, revision);
    return find_pair(&key);
}

/* ---- opening ---- */

static bool is_refusal(credstore_status status)
{
    return status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT ||
           status == CREDSTORE_E_KEY_UNAVAILABLE || status == CREDSTORE_E_ROLLBACK;
}

/* Through the kept handle; an open that succeeds replaces t.store if it is wanted. */
static credstore_status try_open_by(uint16_t slot, credstore **out)
{
    credstore_options options = t.options;
    credstore *store = NULL;
    credstore_error err;
    credstore_status status;

    options.flags = 0;
    options.key = root_keys[slot];
    options.storage = &kept;
    options.storage_ctx = handle;
    status = credstore_open(t.path, &options, &store, &err);
    assert_int_equal(err.status, status);
    if (out != NULL)
        *out = store;
    else
        credstore_close(store);
    return status;
}

static credstore_status try_open(credstore **out)
{
    return try_open_by(0, out);
}

static void open_again(void)
{
    credstore_close(t.store);
    assert_int_equal(try_open(&t.store), CREDSTORE_OK);
}

/* Whatever was written meanwhile goes away, in one transaction. */
static void restore_all(void)
{
    pair *before = malloc(sizeof pairs);
    const size_t count = pair_count;
    void *txn = NULL;

    memcpy(before, pairs, sizeof pairs);
    pair_count = 0;
    note_pairs();
    assert_int_equal(cs_storage_lmdb.begin(handle, 1, 1000, &txn), CREDSTORE_STORAGE_OK);
    for (size_t i = 0; i < pair_count; i++) {
        cs_storage_lmdb.del(handle, txn, cs_bytes(pairs[i].key, pairs[i].key_len));
        free(pairs[i].value);
    }
    memcpy(pairs, before, sizeof pairs);
    pair_count = count;
    for (size_t i = 0; i < pair_count; i++)
        assert_int_equal(cs_storage_lmdb.put(handle, txn, cs_bytes(pairs[i].key, pairs[i].key_len),
                                             cs_bytes(pairs[i].value, pairs[i].len)),
                         CREDSTORE_STORAGE_OK);
    assert_int_equal(cs_storage_lmdb.commit(handle, txn), CREDSTORE_STORAGE_OK);
    free(before);
    open_again();
}

/* ---- root keys: one of each method ---- */

/* A key service whose blob is the keys, each byte inverted, and a byte behind them. */
enum { BEHIND = 0xa5, CHEAPEST = 1 };

static int32_t wrap(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob, size_t *blob_len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++)
        blob[i] = (uint8_t)~keys[i];
    blob[len] = BEHIND;
    *blob_len = len + 1;
    return CREDSTORE_KEY_OK;
}

static int32_t unwrap(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys, size_t *len)
{
    (void)ctx;
    if (blob_len == 0 || blob_len - 1 > *len || blob[blob_len - 1] != BEHIND)
        return CREDSTORE_KEY_GONE;
    *len = blob_len - 1;
    for (size_t i = 0; i < *len; i++)
        keys[i] = (uint8_t)~blob[i];
    return CREDSTORE_KEY_OK;
}

static void make_root_keys(void)
{
    const credstore_key_service service = {
        .struct_size = sizeof service, .wrap = wrap, .unwrap = unwrap};
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_key_bytes(test_root_key, sizeof test_root_key, &root_keys[0], &err),
                  &err);
    assert_status(CREDSTORE_OK,
                  credstore_key_passphrase("of a person", CREDSTORE_NTS, 0, &root_keys[1], &err),
                  &err);
    root_keys[1]->cost.log2_n = CHEAPEST; /* each bit costs an open */
    assert_status(CREDSTORE_OK, credstore_key_callback(&service, &root_keys[2], &err), &err);
}

static void add_root_slots(void)
{
    const uint32_t rights = CREDSTORE_ROOT_READ | CREDSTORE_ROOT_REVEAL;
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_error err;

    for (uint32_t i = 1; i < ROOT_KEYS; i++) {
        uint32_t slot = 0;

        assert_status(CREDSTORE_OK,
                      credstore_root_add(t.store, &call, root_keys[i], rights, &slot, &err), &err);
        assert_int_equal(slot, i);
    }
}

/* ---- making the store ---- */

static void leave_out(const goal *target, test_patch *patch)
{
    const cs_kind *kind = target->k->kind;
    const credstore_time keep = {0, CREDSTORE_KEEP, 0};

    if (target->without != 0)
        memcpy(patch->u.bytes + kind->fields[cs_field_index(kind, target->without)].in, &keep,
               sizeof keep);
}

static void make_target(goal *target)
{
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin = {0};
    const int64_t used = TEST_NOW - 5000;
    credstore_call call;
    test_patch patch;
    credstore_error err;
    const cs_kind *kind;
    uint32_t size;

    target->k = test_kind_of(target->kind);
    kind = target->k->kind;
    size = kind->origin.size;
    target->actor = test_root(t.store);
    snprintf(target->actor.tenant, sizeof target->actor.tenant, "%s", target->tenant);
    target->at = (test_at){target->tenant, target->parent, target->id};
    call = test_call(&target->actor);
    memcpy(origin.bytes, &size, sizeof size);
    if (kind->origin.id != 0 && (kind->flags & CS_UUID_ID) == 0)
        memcpy(origin.bytes + kind->origin.id, &target->id, sizeof target->id);
    if (kind->origin.last_used_at != 0)
        memcpy(origin.bytes + kind->origin.last_used_at, &used, sizeof used);
    test_patch_whole(target->k, &patch, 1);
    leave_out(target, &patch);
    assert_status(
        CREDSTORE_OK,
        target->k->create(t.store, &call, &target->at, origin.bytes, patch.u.bytes, NULL, &err),
        &err);
    for (unsigned n = 2; n <= REVISIONS; n++) {
        atomic_fetch_add(&t.now, 1000);
        test_patch_begin(target->k, &patch);
        for (size_t i = 0; i < kind->field_count; i++)
            if (test_in_patch(&kind->fields[i]) && (n == 2 || i == 0))
                test_patch_set(target->k, &patch, i, n);
        leave_out(target, &patch);
        assert_status(CREDSTORE_OK,
                      target->k->update(t.store, &call, &target->at, patch.u.bytes, NULL, &err),
                      &err);
    }
}

/* Beside them: a credential that was issued under an idempotency key, an API key that was imported
   by its digest, and a record that was removed. */
static char token[256];
static const char imported[] = "an-old-key-that-its-owner-keeps";
static const char removed_id[] = "2ckEEwCIvk3KPgvWjJjyBIS6Abd";

static credstore_status issue(void)
{
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("issued")};
    credstore_call call = test_call(&targets[SERVICE].actor);
    credstore_secret *secret = NULL;
    credstore_error err;
    credstore_status status;

    call.idempotency_key = "once";
    status = credstore_service_credential_issue(t.store, &call, "acme", "sa-3", NULL, &patch,
                                                &secret, NULL, &err);
    if (token[0] == '\0' && status == CREDSTORE_OK)
        snprintf(token, sizeof token, "%s", credstore_secret_ptr(secret));
    if (status == CREDSTORE_OK && strcmp(token, credstore_secret_ptr(secret)) != 0)
        status = CREDSTORE_E_INTERNAL; /* another one, and nobody noticed */
    credstore_secret_free(secret);
    return status;
}

static void import(void)
{
    const char *const permissions[] = {"users:read"};
    const credstore_call call = test_call(&targets[API_KEY].actor);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("imported"),
                                           .permissions = CREDSTORE_STRINGS(permissions, 1)};
    uint8_t digest[32];
    const credstore_api_key_origin origin = {
        .struct_size = sizeof origin, .id = "imported", .token_sha256 = digest};
    credstore_error err;

    assert_int_equal(t.store->sealer.crypto->digest(
                         t.store->sealer.ctx, cs_bytes(imported, sizeof imported - 1), digest),
                     CREDSTORE_CRYPTO_OK);
    assert_status(CREDSTORE_OK,
                  credstore_api_key_create(t.store, &call, &origin, &patch, NULL, &err), &err);
}

static void make_removed(void)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const credstore_call call = test_call(&targets[CHECKBOOK].actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = removed_id};
    const test_at at = {"acme", NULL, removed_id};
    credstore_error err;
    test_patch patch;

    test_patch_whole(k, &patch, 1);
    assert_status(CREDSTORE_OK, k->create(t.store, &call, &at, &origin, patch.u.bytes, NULL, &err),
                  &err);
    assert_status(CREDSTORE_OK, credstore_checkbook_remove(t.store, &call, removed_id, &err), &err);
}

static credstore_status set_label(void)
{
    const credstore_call call = test_call(&targets[SERVICE].actor);
    credstore_error err;

    return credstore_organization_label(t.store, &call, "acme", "acme-label", &err);
}

/* Leaves the anchor in the place of the first entry. */
static void prune_audit(void)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_checkpoint up_to = {.struct_size = sizeof up_to};
    credstore_error err;

    assert_status(CREDSTORE_OK, credstore_audit_verify(t.store, &call, NULL, &up_to, &err), &err);
    assert_status(CREDSTORE_OK, credstore_audit_prune(t.store, &call, &up_to, NULL, &err), &err);
}

static void outlast(void *ctx, uint64_t done, uint64_t total)
{
    const struct timespec pause = {0, 3000000};

    (void)ctx;
    (void)done;
    (void)total;
    nanosleep(&pause, NULL);
}

static credstore_status reseal(uint32_t budget_ms, credstore_progress progress, uint32_t *more)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_error err;

    return credstore_keys_reseal(t.store, &call, 0, budget_ms, progress, NULL, more, &err);
}

/* New keys, and a cursor that stands at the first value. */
static void begin_rotation(void)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_error err;
    uint32_t more = 0;

    assert_status(CREDSTORE_OK, credstore_keys_promote(t.store, &call, 0, &err), &err);
    assert_int_equal(reseal(1, outlast, &more), CREDSTORE_OK);
    assert_int_equal(more, 1);
}

static void place_target(goal *target)
{
    const credstore_call call = test_call(&target->actor);
    const cs_names names = {.tenant = target->tenant, .parent = target->parent, .id = target->id};
    credstore_error err = {0};

    assert_status(CREDSTORE_OK,
                  cs_op_begin(&target->op, t.store, target->k->kind, CS_READ, &call, &names, &err),
                  &err);
}

/* ---- reading ---- */

static credstore_status run_get(const read_of *read, const void **view)
{
    credstore_call call = test_call(&read->t->actor);
    credstore_error err;
    credstore_status status;

    call.at_revision = read->at_revision;
    status = read->t->k->get(t.store, &call, &read->t->at, view, &err);
    assert_int_equal(err.status, status);
    assert_true((status == CREDSTORE_OK) == (*view != NULL));
    return status;
}

static credstore_status run_reveal(const read_of *read, credstore_secret **secret)
{
    credstore_call call = test_call(&read->t->actor);
    credstore_error err;
    credstore_status status;

    call.at_revision = read->at_revision;
    status = read->t->k->reveal(t.store, &call, &read->t->at, read->field, secret, &err);
    assert_int_equal(err.status, status);
    assert_true((status == CREDSTORE_OK) == (*secret != NULL));
    return status;
}

typedef enum outcome { SAME, REFUSED, WRONG } outcome;

static outcome judge(credstore_status status, bool same)
{
    if (status == CREDSTORE_OK && same)
        return SAME;
    return is_refusal(status) ? REFUSED : WRONG;
}

static outcome run_read(const read_of *read)
{
    credstore_secret *secret = NULL;
    const void *view = NULL;
    credstore_status status;
    outcome result;

    if (read->field == 0) {
        status = run_get(read, &view);
        result = judge(status, view != NULL && test_same_view(read->t->k, view, read->view, true));
        credstore_free(view);
        return result;
    }
    status = run_reveal(read, &secret);
    result = judge(status, secret != NULL && credstore_secret_len(secret) == strlen(read->secret) &&
                               strcmp(credstore_secret_ptr(secret), read->secret) == 0);
    credstore_secret_free(secret);
    return result;
}

static void note_read(goal *target, uint32_t field, uint64_t at_revision)
{
    read_of *read = &reads[read_count++];
    credstore_secret *secret = NULL;

    assert_true(read_count < READS_MAX);
    *read = (read_of){.t = target, .field = field, .at_revision = at_revision};
    if (field == 0) {
        assert_int_equal(run_get(read, &read->view), CREDSTORE_OK);
        return;
    }
    assert_int_equal(run_reveal(read, &secret), CREDSTORE_OK);
    read->secret = strdup(credstore_secret_ptr(secret));
    credstore_secret_free(secret);
}

static void note_reads(goal *target)
{
    const cs_kind *kind = target->k->kind;

    for (uint64_t revision = 1; revision <= REVISIONS; revision++) {
        note_read(target, 0, revision == REVISIONS ? 0 : revision);
        for (size_t i = 0; i < kind->field_count; i++)
            if (kind->fields[i].type == CS_SECRET)
                note_read(target, kind->fields[i].id, revision == REVISIONS ? 0 : revision);
    }
}

/* An update of every field of the record; whether it was refused. */
static bool update_refused(goal *target)
{
    const credstore_call call = test_call(&target->actor);
    credstore_error err;
    test_patch patch;
    credstore_status status;

    test_patch_whole(target->k, &patch, 77);
    status = target->k->update(t.store, &call, &target->at, patch.u.bytes, NULL, &err);
    assert_int_equal(err.status, status);
    if (status == CREDSTORE_OK)
        restore_all();
    return is_refusal(status);
}

/* ---- detection ---- */

static unsigned complaints;

static bool complain(const char *what, const pair *p, size_t byte)
{
    if (complaints++ < COMPLAINTS)
        print_error("  table 0x%02x, byte %zu of %zu: %s\n", p->key[0], byte, p->len, what);
    return false;
}

/* The field whose part the byte belongs to; 0 = none. */
static uint32_t part_at(const pair *p, size_t byte)
{
    cs_frame frame;

    assert_int_equal(cs_frame_read(cs_bytes(p->value, p->len), p->value[1], &frame, NULL),
                     CREDSTORE_OK);
    for (size_t i = 0; i < frame.part_count; i++) {
        const size_t from = (size_t)((const uint8_t *)frame.parts[i].whole.ptr - p->value);

        if (byte >= from && byte < from + frame.parts[i].whole.len)
            return frame.parts[i].field;
    }
    return 0;
}

static goal *target_at(const pair *p)
{
    for (size_t i = 0; i < TARGETS; i++) {
        const cs_locator *at = &targets[i].op.at;
        const size_t head = 2 + CS_SCOPE_LEN;

        if (p->key_len > head + at->id.len && p->key[1] == at->kind &&
            memcmp(p->key + 2, at->scope, CS_SCOPE_LEN) == 0 &&
            memcmp(p->key + head, at->id.ptr, at->id.len) == 0 && p->key[head + at->id.len] == 0)
            return &targets[i];
    }
    return NULL; /* one of those beside them */
}

/* What the reads of one record must do. field: reveals of that one must refuse; 0: all must.
   revision: those at that revision; 0: the current one and, through it, all. */
typedef struct demand {
    goal *t;
    uint32_t field;
    uint64_t revision;
    bool gets_only;
} demand;

static bool must_refuse(const demand *d, const read_of *read)
{
    if (d->gets_only)
        return read->field == 0;
    if (d->field != 0)
        return read->field == d->field && read->at_revision == d->revision;
    return d->revision == 0 || read->at_revision == d->revision;
}

static bool reads_detect(const demand *d, const pair *p, size_t byte)
{
    for (size_t i = 0; i < read_count; i++) {
        outcome result;

        if (reads[i].t != d->t)
            continue;
        result = run_read(&reads[i]);
        if (result == WRONG)
            return complain("a read answers what was not written", p, byte);
        if (result == SAME && must_refuse(d, &reads[i]))
            return complain("the read that opens it does not notice", p, byte);
    }
    return true;
}

/* byte: where; its bit is flipped in the store already. */
typedef bool detect(const pair *p, size_t byte);

/* A store that opens may find its catalogue short, and write. */
static bool detect_open(const pair *p, size_t byte)
{
    if (is_refusal(try_open(NULL)))
        return true;
    if (count_pairs() != pair_count)
        restore_all();
    return complain("the store opens", p, byte);
}

/* By the slot's own root key; the others open as before. */
static bool detect_root(const pair *p, size_t byte)
{
    const uint16_t slot = cs_get_u16(p->key + 1);

    if (!is_refusal(try_open_by(slot, NULL)))
        return complain("the slot opens", p, byte);
    for (uint16_t i = 0; i < ROOT_KEYS && byte == 0; i++)
        if (i != slot && try_open_by(i, NULL) != CREDSTORE_OK)
            return complain("another slot does not open", p, byte);
    return true;
}

/* Also by a change in a store that was open before. */
static bool detect_head(const pair *p, size_t byte)
{
    if (!detect_open(p, byte))
        return false;
    return update_refused(&targets[CHECKBOOK]) || complain("an update passes", p, byte);
}

static bool detect_current(const pair *p, size_t byte)
{
    const demand d = {target_at(p), part_at(p, byte), 0, false};

    if (!reads_detect(&d, p, byte))
        return false;
    return d.field != 0 || update_refused(d.t) || complain("an update passes", p, byte);
}

static bool detect_history(const pair *p, size_t byte)
{
    const demand d = {target_at(p), part_at(p, byte), cs_get_u64(p->key + p->key_len - 8), false};

    return reads_detect(&d, p, byte);
}

static bool detect_usage(const pair *p, size_t byte)
{
    const demand d = {target_at(p), 0, 0, true};

    return reads_detect(&d, p, byte) &&
           (update_refused(d.t) || complain("an update passes", p, byte));
}

static bool refused(credstore_status status, const pair *p, size_t byte)
{
    if (is_refusal(status))
        return true;
    if (count_pairs() != pair_count)
        restore_all();
    return complain(credstore_status_name((int32_t)status), p, byte);
}

static bool detect_audit(const pair *p, size_t byte)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_error err;

    return refused(credstore_audit_verify(t.store, &call, NULL, NULL, &err), p, byte);
}

static bool detect_tombstone(const pair *p, size_t byte)
{
    const credstore_call call = test_call(&targets[CHECKBOOK].actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = removed_id};
    const credstore_checkbook *view = NULL;
    credstore_error err;
    test_patch patch;

    if (!refused(credstore_checkbook_get(t.store, &call, removed_id, &view, &err), p, byte))
        return false;
    test_patch_whole(targets[CHECKBOOK].k, &patch, 1);
    return refused(
        credstore_checkbook_create(t.store, &call, &origin, (const void *)&patch.u, NULL, &err), p,
        byte);
}

/* The items of both kinds that have an index, of which one must be refused. */
static bool detect_owner(const pair *p, size_t byte)
{
    const credstore_call call = test_call(&targets[CHECKBOOK].actor);
    const credstore_checkbook_page *books = NULL;
    const credstore_api_key_page *keys = NULL;
    credstore_error err;
    bool seen = false;

    assert_status(CREDSTORE_OK, credstore_checkbook_list(t.store, &call, NULL, &books, &err), &err);
    assert_status(CREDSTORE_OK, credstore_api_key_list(t.store, &call, NULL, &keys, &err), &err);
    for (size_t i = 0; i < books->count; i++)
        seen = seen || is_refusal((credstore_status)books->items[i].status);
    for (size_t i = 0; i < keys->count; i++)
        seen = seen || is_refusal((credstore_status)keys->items[i].status);
    credstore_free(books);
    credstore_free(keys);
    return seen || complain("the list does not show it", p, byte);
}

static bool detect_token(const pair *p, size_t byte)
{
    credstore_actor actor;
    credstore_error err;

    return refused(credstore_service_credential_verify(t.store, token, CREDSTORE_NTS, &actor, &err),
                   p, byte);
}

static bool detect_digest(const pair *p, size_t byte)
{
    credstore_actor actor;
    credstore_error err;

    return refused(credstore_api_key_verify(t.store, imported, CREDSTORE_NTS, &actor, &err), p,
                   byte);
}

/* Which of the secrets it is of, the key does not say. */
static bool detect_fingerprint(const pair *p, size_t byte)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    bool seen = false;

    for (size_t i = 0; i < read_count && !seen; i++) {
        const credstore_leaks *leaks = NULL;
        credstore_error err;

        if (reads[i].secret == NULL)
            continue;
        seen = is_refusal(
            credstore_leak_find(t.store, &call, reads[i].secret, CREDSTORE_NTS, &leaks, &err));
        credstore_free(leaks);
    }
    return seen || complain("no look-up notices", p, byte);
}

static bool detect_alias(const pair *p, size_t byte)
{
    return refused(set_label(), p, byte);
}

static bool detect_receipt(const pair *p, size_t byte)
{
    return refused(issue(), p, byte);
}

/* Maintenance after the retention is over. It drops receipts first, so all is put back. */
static bool detect_purge(const pair *p, size_t byte)
{
    const int64_t now = atomic_load(&t.now);
    credstore_error err;
    credstore_status status = CREDSTORE_OK;

    for (int day = 40; day < 42 && !is_refusal(status); day++) { /* the clock is to be believed */
        atomic_store(&t.now, now + day * INT64_C(86400000));
        status = credstore_maintain(t.store, 0, NULL, &err);
    }
    atomic_store(&t.now, now);
    restore_all();
    return is_refusal(status) || complain("maintenance passes", p, byte);
}

/* Maintenance when the end has come, and the clock is believed. */
static bool detect_end(const pair *p, size_t byte)
{
    const int64_t now = atomic_load(&t.now), end = (int64_t)cs_get_u64(p->key + 1);
    credstore_error err;
    credstore_status status = CREDSTORE_OK;

    for (int day = 0; day < 2 && !is_refusal(status); day++) {
        atomic_store(&t.now, end + day * INT64_C(86400000));
        status = credstore_maintain(t.store, 0, NULL, &err);
    }
    atomic_store(&t.now, now);
    restore_all();
    return is_refusal(status) || complain("maintenance passes", p, byte);
}

static bool detect_clock(const pair *p, size_t byte)
{
    credstore_error err;
    const credstore_status status = credstore_maintain(t.store, 0, NULL, &err);

    restore_all();
    return is_refusal(status) || complain("maintenance passes", p, byte);
}

static bool detect_rotation(const pair *p, size_t byte)
{
    if (is_refusal(reseal(0, NULL, NULL)))
        return true;
    restore_all();
    return complain("the rotation goes on", p, byte);
}

/* ---- tables ---- */

enum {
    LAST_AUDIT = 0x100,
    HEAD,
    OTHER_AUDIT,
    HISTORY,
    TOMBSTONE,
    BESIDE,
    ANCHOR,
    CLOCK,
    ROOT_RAW, /* root slots by their number */
    ROOT_PASSPHRASE,
    ROOT_CALLBACK
};

typedef struct table {
    const char *name;
    unsigned table;  /* first byte of the key, or one of the above */
    unsigned second; /* second byte; ANY */
    detect *run;     /* NULL: nothing opens it in this release */
    size_t most;     /* values that are flipped; 0 = all */
    size_t values;   /* found */
    size_t flips, detected;
} table;

enum { ANY = 0x100 };

static table tables[] = {
    {.name = "META_PLAIN", .table = CS_TABLE_META, .second = 0, .run = detect_open},
    {.name = "META_SEALED", .table = CS_TABLE_META, .second = 1, .run = detect_open},
    {.name = "ROOT_RAW", .table = ROOT_RAW, .second = ANY, .run = detect_root},
    {.name = "ROOT_PASSPHRASE", .table = ROOT_PASSPHRASE, .second = ANY, .run = detect_root},
    {.name = "ROOT_CALLBACK", .table = ROOT_CALLBACK, .second = ANY, .run = detect_root},
    {.name = "KEYRING_BODY",
     .table = CS_TABLE_KEYRING,
     .second = CS_PURPOSE_BODY,
     .run = detect_open},
    {.name = "KEYRING_SECRET",
     .table = CS_TABLE_KEYRING,
     .second = CS_PURPOSE_SECRET,
     .run = detect_open},
    {.name = "CATALOGUE", .table = CS_TABLE_CATALOGUE, .second = ANY, .run = detect_open},
    {.name = "ROTATION", .table = CS_TABLE_ROTATION, .second = ANY, .run = detect_rotation},
    {.name = "RECORD", .table = CS_TABLE_RECORD, .second = ANY, .run = detect_current},
    {.name = "HISTORY", .table = HISTORY, .second = ANY, .run = detect_history},
    {.name = "AUDIT_LAST", .table = LAST_AUDIT, .second = ANY, .run = detect_open},
    {.name = "AUDIT_EARLIER", .table = OTHER_AUDIT, .second = ANY, .run = detect_audit, .most = 2},
    {.name = "HEAD", .table = HEAD, .second = ANY, .run = detect_head},
    {.name = "USAGE", .table = CS_TABLE_USAGE, .second = ANY, .run = detect_usage},
    {.name = "TOMBSTONE", .table = TOMBSTONE, .second = ANY, .run = detect_tombstone},
    {.name = "OWNER", .table = CS_TABLE_OWNER, .second = ANY, .run = detect_owner, .most = 2},
    {.name = "TOKEN", .table = CS_TABLE_TOKEN, .second = ANY, .run = detect_token},
    {.name = "DIGEST", .table = CS_TABLE_DIGEST, .second = ANY, .run = detect_digest},
    {.name = "ALIAS", .table = CS_TABLE_ALIAS, .second = ANY, .run = detect_alias},
    {.name = "FINGERPRINT",
     .table = CS_TABLE_FINGERPRINT,
     .second = ANY,
     .run = detect_fingerprint,
     .most = 3},
    {.name = "ANCHOR", .table = ANCHOR, .second = ANY, .run = detect_audit},
    {.name = "CLOCK", .table = CLOCK, .second = ANY, .run = detect_clock},
    {.name = "RECEIPT", .table = CS_TABLE_RECEIPT, .second = ANY, .run = detect_receipt},
    {.name = "PURGE", .table = CS_TABLE_PURGE, .second = ANY, .run = detect_purge},
    {.name = "END", .table = CS_TABLE_END, .second = ANY, .run = detect_end, .most = 1},
    {.name = "RECORD_BESIDE", .table = BESIDE, .second = ANY},
};
enum { TABLES = sizeof tables / sizeof *tables };

static bool is_head(const pair *p)
{
    cs_key key;

    cs_key_head(&key, 0);
    return cs_bytes_equal(cs_bytes(p->key, p->key_len), cs_key_bytes(&key));
}

/* Keys lie in order: the head comes right behind the last audit entry. */
static unsigned class_of(const pair *p)
{
    const size_t i = (size_t)(p - pairs);
    const goal *target;

    if (p->key[0] == CS_TABLE_ROOT)
        return ROOT_RAW + cs_get_u16(p->key + 1);
    if (p->key[0] == CS_TABLE_LANE) {
        if (p->key_len == 4)
            return is_head(p) ? HEAD : p->key[3] == 3 ? CLOCK : ANCHOR;
        return i + 1 < pair_count && is_head(&pairs[i + 1]) ? LAST_AUDIT : OTHER_AUDIT;
    }
    if (p->key[0] != CS_TABLE_RECORD)
        return p->key[0];
    target = target_at(p);
    if (target == NULL)
        return p->value[1] == CS_ROLE_TOMBSTONE ? TOMBSTONE : BESIDE;
    return p->key_len == 2 + CS_SCOPE_LEN + target->op.at.id.len + 2 ? CS_TABLE_RECORD : HISTORY;
}

static table *table_of(const pair *p)
{
    const unsigned class = class_of(p);

    for (size_t i = 0; i < TABLES; i++)
        if (tables[i].table == class && (tables[i].second == ANY || tables[i].second == p->key[1]))
            return &tables[i];
    fail_msg("table 0x%02x is in use and not tested", p->key[0]);
    return NULL;
}

static void flip_value(table *row, const pair *p)
{
    uint8_t *value = malloc(p->len);

    memcpy(value, p->value, p->len);
    for (size_t bit = 0; bit < 8 * p->len; bit += stride) {
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put_pair(p, value, p->len);
        row->flips++;
        row->detected += row->run(p, bit / 8);
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    put_pair(p, p->value, p->len);
    free(value);
}

static void test_every_bit(void **state)
{
    bool all = true;

    (void)state;
    for (size_t i = 0; i < pair_count; i++) {
        table *row = table_of(&pairs[i]);

        complaints = 0;
        row->values++;
        if (row->run != NULL && (row->most == 0 || row->values <= row->most))
            flip_value(row, &pairs[i]);
    }
    for (size_t i = 0; i < TABLES; i++) {
        const table *row = &tables[i];

        assert_true(row->values > 0); /* else the store has not every table in use */
        if (row->run == NULL) {
            printf("%s values=%zu: others of their table are flipped\n", row->name, row->values);
            continue;
        }
        printf("%s flips=%zu detected=%zu\n", row->name, row->flips, row->detected);
        all = all && row->flips == row->detected && row->flips > 0;
    }
    open_again(); /* and all is as it was */
    for (size_t i = 0; i < read_count; i++)
        assert_int_equal(run_read(&reads[i]), SAME);
    assert_true(all);
}

/* ---- through whole opens ---- */

/* The store opened by its path with nothing else open, then asked for what it opens later. */
static bool refused_from_path(const pair *p, size_t byte)
{
    bool refuses;
    credstore_error err;

    cs_storage_lmdb.close(handle);
    t.store = NULL;
    refuses = is_refusal(test_reopen(&t, &err));
    assert_int_equal(cs_lmdb_open(t.path, 0, &handle, &err), CREDSTORE_OK);
    if (t.store != NULL)
        refuses = table_of(p)->run(p, byte);
    credstore_close(t.store);
    t.store = NULL;
    return refuses;
}

static void test_sample_from_path(void **state)
{
    size_t flips = 0, detected = 0, n = 0;

    (void)state;
    complaints = COMPLAINTS;
    credstore_close(t.store);
    t.options.flags = 0;
    for (size_t i = 0; i < pair_count; i++) {
        uint8_t *value = malloc(pairs[i].len);

        memcpy(value, pairs[i].value, pairs[i].len);
        for (size_t bit = 0; bit < 8 * pairs[i].len && table_of(&pairs[i])->run != NULL; bit++) {
            if (n++ % (SAMPLE * stride) != 0)
                continue;
            value[bit / 8] ^= (uint8_t)(1u << bit % 8);
            put_pair(&pairs[i], value, pairs[i].len);
            flips++;
            detected += refused_from_path(&pairs[i], bit / 8);
            value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        put_pair(&pairs[i], pairs[i].value, pairs[i].len);
        free(value);
    }
    printf("SAMPLE_OF_WHOLE_OPENS flips=%zu detected=%zu\n", flips, detected);
    t.store = NULL;
    open_again();
    assert_true(flips == detected && flips > 0);
}

/* ---- values in the place of others ---- */

static size_t moves, moves_detected;

static void count_move(bool detected, const char *name)
{
    moves++;
    moves_detected += detected;
    if (!detected)
        print_error("  not detected: %s\n", name);
}

/* value at key, and what was there again. */
static void move_and_read(const char *name, const pair *to, credstore_bytes value, const demand *d)
{
    complaints = COMPLAINTS;
    put_pair(to, value.ptr, value.len);
    count_move(reads_detect(d, to, 0), name);
    put_pair(to, to->value, to->len);
}

static void move_and_open(const char *name, const pair *to, const pair *from)
{
    put_pair(to, from->value, from->len);
    count_move(is_refusal(try_open(NULL)), name);
    put_pair(to, to->value, to->len);
}

static credstore_bytes value_of(const pair *p)
{
    return cs_bytes(p->value, p->len);
}

static void move_record(const char *name, size_t from, size_t to)
{
    const demand d = {&targets[to], 0, 0, false};
    cs_key from_key, to_key;
    const demand gets = {&targets[to], 0, 0, true};

    move_and_read(name, current_of(&targets[to]), value_of(current_of(&targets[from])), &d);
    put_pair(current_of(&targets[to]), current_of(&targets[from])->value,
             current_of(&targets[from])->len);
    count_move(update_refused(&targets[to]), name);
    put_pair(current_of(&targets[to]), current_of(&targets[to])->value,
             current_of(&targets[to])->len);
    if ((targets[from].k->kind->flags & targets[to].k->kind->flags & CS_HAS_USAGE) == 0)
        return;
    cs_key_usage(&from_key, &targets[from].op.at);
    cs_key_usage(&to_key, &targets[to].op.at);
    move_and_read(name, find_pair(&to_key), value_of(find_pair(&from_key)), &gets);
}

/* Where nothing is, a value of another tenant must not pass for a record either. */
static void move_to_empty(void)
{
    const pair *from = current_of(&targets[STRIPE]);
    goal empty = targets[STRIPE];
    read_of read = {.t = &empty};
    cs_key key;

    empty.id = "00000000-0000-4000-8000-000000000000";
    empty.at.id = empty.id;
    place_target(&empty);
    cs_key_record(&key, &empty.op.at);
    read.view = reads[0].view;
    write_raw(cs_key_bytes(&key), value_of(from));
    count_move(run_read(&read) == REFUSED, "a record under an id that is not there");
    write_raw(cs_key_bytes(&key), cs_bytes(NULL, 0));
}

static void move_history(size_t which)
{
    goal *of = &targets[which];
    const pair *current = current_of(of), *first = history_of(of, 1), *second = history_of(of, 2);
    const demand now = {of, 0, 0, false}, at_1 = {of, 0, 1, false}, at_2 = {of, 0, 2, false};
    uint8_t *value = malloc(first->len + current->len);

    move_and_read("revision 1 for revision 2", second, value_of(first), &at_2);
    move_and_read("revision 2 for revision 1", first, value_of(second), &at_1);
    move_and_read("history for the record", current, value_of(first), &now);
    memcpy(value, first->value, first->len);
    value[1] = CS_ROLE_CURRENT;
    move_and_read("history for the record, its role patched", current, cs_bytes(value, first->len),
                  &now);
    memcpy(value, current->value, current->len);
    value[1] = CS_ROLE_HISTORY;
    move_and_read("the record for history, its role patched", second, cs_bytes(value, current->len),
                  &at_2);
    cs_put_u64(value + 4, 2);
    move_and_read("the same with the revision patched", second, cs_bytes(value, current->len),
                  &at_2);
    free(value);
}

/* ---- parts ---- */

static cs_frame frame_of(const pair *p)
{
    cs_frame frame;

    assert_int_equal(cs_frame_read(value_of(p), p->value[1], &frame, NULL), CREDSTORE_OK);
    return frame;
}

enum { PART_HEAD = 10, BOX_TAG = 8 + CS_NONCE_LEN, BOX_SEALED = BOX_TAG + CS_TAG_LEN };

/* Puts another box where the part lies (of the same length), with or without its own header, and
   with or without the tag that the body names. */
static void move_part(const char *name, const pair *current, const cs_part *to, const cs_part *from,
                      goal *of, bool header, bool own_tag)
{
    const size_t at = (size_t)((const uint8_t *)to->whole.ptr - current->value);
    const size_t skip = header ? 0 : PART_HEAD;
    const demand d = {of, to->field, 0, false};
    uint8_t *value = malloc(current->len);

    assert_int_equal(to->whole.len, from->whole.len);
    memcpy(value, current->value, current->len);
    memcpy(value + at + skip, (const uint8_t *)from->whole.ptr + skip, from->whole.len - skip);
    if (!own_tag)
        memcpy(value + at + PART_HEAD + BOX_TAG, to->box.tag, CS_TAG_LEN);
    move_and_read(name, current, cs_bytes(value, current->len), &d);
    free(value);
}

static const cs_part *part_in(const cs_frame *frame, uint16_t field)
{
    for (size_t i = 0; i < frame->part_count; i++)
        if (frame->parts[i].field == field)
            return &frame->parts[i];
    fail_msg("the part is not where the test looks for it");
    return NULL;
}

static void move_part_each_way(const char *name, const pair *current, const cs_part *to,
                               const cs_part *from, goal *of)
{
    for (int way = 0; way < 4; way++)
        move_part(name, current, to, from, of, (way & 1) != 0, (way & 2) != 0);
}

static void move_parts(void)
{
    goal *stripe = &targets[STRIPE], *checkbook = &targets[CHECKBOOK];
    const cs_frame now = frame_of(current_of(stripe));
    const cs_frame before = frame_of(history_of(stripe, 2));
    const cs_frame first = frame_of(history_of(checkbook, 1));
    const cs_frame book = frame_of(current_of(checkbook));
    const cs_frame book_2 = frame_of(current_of(&targets[CHECKBOOK_2]));
    const cs_frame other = frame_of(current_of(&targets[STRIPE_OTHER]));
    const cs_part *test = part_in(&now, CREDSTORE_STRIPE_TEST_SECRET_KEY);
    const cs_part *live = part_in(&now, CREDSTORE_STRIPE_LIVE_SECRET_KEY);

    move_part_each_way("a part under another field", current_of(stripe), live, test, stripe);
    move_part_each_way("a part under another field", current_of(stripe), test, live, stripe);
    move_part_each_way("a part of an older revision", current_of(stripe), test,
                       part_in(&before, CREDSTORE_STRIPE_TEST_SECRET_KEY), stripe);
    move_part_each_way("a part of an older revision", current_of(checkbook), &book.parts[0],
                       &first.parts[0], checkbook);
    move_part_each_way("a part of another record", current_of(checkbook), &book.parts[0],
                       &book_2.parts[0], checkbook);
    move_part_each_way("a part of another tenant", current_of(stripe), test,
                       part_in(&other, CREDSTORE_STRIPE_TEST_SECRET_KEY), stripe);
}

/* ---- what a store is made of ---- */

static void move_founding(void)
{
    cs_key plain, sealed, body, secret, catalogue, head;

    cs_key_meta(&plain, false);
    cs_key_meta(&sealed, true);
    cs_key_keyring(&body, CS_PURPOSE_BODY);
    cs_key_keyring(&secret, CS_PURPOSE_SECRET);
    cs_key_catalogue(&catalogue);
    cs_key_head(&head, 0);
    move_and_open("the keyring's secret half for the other", find_pair(&body), find_pair(&secret));
    move_and_open("the keyring's body half for the other", find_pair(&secret), find_pair(&body));
    move_and_open("the sealed header for the keyring", find_pair(&body), find_pair(&sealed));
    move_and_open("the catalogue for the head", find_pair(&head), find_pair(&catalogue));
    move_and_open("the head for the catalogue", find_pair(&catalogue), find_pair(&head));
    for (size_t i = 0; i + 1 < pair_count; i++)
        if (class_of(&pairs[i]) == OTHER_AUDIT && class_of(&pairs[i + 1]) == LAST_AUDIT)
            move_and_open("an earlier audit entry for the last", &pairs[i + 1], &pairs[i]);
}

/* Index entries in each other's place, and the grave of one record over another. */
static void move_entries(void)
{
    const demand d = {&targets[CHECKBOOK], 0, 0, false};

    for (size_t i = 0; i < pair_count; i++) {
        const pair *p = &pairs[i];

        if (class_of(p) == TOMBSTONE)
            move_and_read("a tombstone over a record", current_of(&targets[CHECKBOOK]), value_of(p),
                          &d);
        if (i + 1 == pair_count || p->key[0] != CS_TABLE_OWNER ||
            pairs[i + 1].key[0] != CS_TABLE_OWNER)
            continue;
        put_pair(&pairs[i + 1], p->value, p->len);
        count_move(detect_owner(&pairs[i + 1], 0), "an index entry under another id");
        put_pair(&pairs[i + 1], pairs[i + 1].value, pairs[i + 1].len);
    }
}

/* The head as it was before the last change, put back under a process that saw the newer one. */
static void move_old_head(void)
{
    const credstore_call call = test_call(&targets[CHECKBOOK].actor);
    cs_key key;
    credstore_error err;
    test_patch patch;
    credstore_status status;

    cs_key_head(&key, 0);
    test_patch_whole(targets[CHECKBOOK].k, &patch, 55);
    assert_status(CREDSTORE_OK,
                  targets[CHECKBOOK].k->update(t.store, &call, &targets[CHECKBOOK].at,
                                               patch.u.bytes, NULL, &err),
                  &err);
    put_pair(find_pair(&key), find_pair(&key)->value, find_pair(&key)->len);
    test_patch_whole(targets[CHECKBOOK].k, &patch, 56);
    status = targets[CHECKBOOK].k->update(t.store, &call, &targets[CHECKBOOK].at, patch.u.bytes,
                                          NULL, &err);
    count_move(status == CREDSTORE_E_ROLLBACK, "the head of an earlier commit");
    restore_all();
}

/* All of another store's record: same id, same root key. */
static void move_from_another_store(void)
{
    goal *of = &targets[STRIPE];
    const demand d = {of, 0, 0, false};
    pair foreign = *current_of(of);
    test_store other;
    credstore_error err = {0};
    credstore_bytes value;
    cs_op op;
    cs_key key;
    cs_txn txn;
    bool found = false;
    const cs_names names = {.tenant = of->tenant, .parent = of->parent, .id = of->id};
    const credstore_call call = test_call(&of->actor);

    test_open(&other, TEST_LMDB);
    credstore_free(test_make(&other, of->k, &of->actor, 1));
    assert_status(CREDSTORE_OK,
                  cs_op_begin(&op, other.store, of->k->kind, CS_READ, &call, &names, &err), &err);
    cs_key_record(&key, &op.at);
    assert_status(CREDSTORE_OK, cs_txn_read(other.store, &txn, &err), &err);
    assert_status(CREDSTORE_OK, cs_txn_get(&txn, &key, &value, &found, &err), &err);
    assert_true(found);
    move_and_read("a record of another store", &foreign, value, &d);
    cs_txn_end(&txn);
    test_close(&other);
}

static void test_moved(void **state)
{
    (void)state;
    move_record("a record under another id", CHECKBOOK, CHECKBOOK_2);
    move_record("a record under another id", CHECKBOOK_2, CHECKBOOK);
    move_record("a record under another tenant", STRIPE, STRIPE_OTHER);
    move_record("a record under another account", SERVICE, SERVICE_2);
    move_record("a record under another kind", CHECKBOOK, API_KEY);
    move_record("a record under another kind", API_KEY, CHECKBOOK);
    move_record("a record under another kind", API_KEY_2, CHECKBOOK_2);
    move_record("a record under another id", API_KEY_2, API_KEY);
    move_to_empty();
    move_from_another_store();
    move_history(CHECKBOOK);
    move_history(STRIPE);
    move_parts();
    move_founding();
    move_entries();
    move_old_head();
    for (size_t i = 0; i < read_count; i++)
        assert_int_equal(run_read(&reads[i]), SAME);
    printf("MOVED moves=%zu detected=%zu\n", moves, moves_detected);
    assert_int_equal(moves, moves_detected);
}

/* ---- */

/* None is a multiple of 2, so that all eight bits of a byte come up. */
static unsigned long usual_stride(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");

    if (variant == NULL || strcmp(variant, "plain") == 0)
        return 1;
    return strcmp(variant, "valgrind") == 0 ? 101 : 5;
}

static int set_up(void **state)
{
    credstore_error err;

    (void)state;
    stride = test_number("CREDSTORE_FLIP_STRIDE", usual_stride());
    setenv("TMPDIR", test_quick_base(), 1);
    test_open(&t, TEST_LMDB);
    if (FLIP_BLIND)
        make_blind();
    make_root_keys();
    add_root_slots();
    prune_audit();
    for (size_t i = 0; i < TARGETS; i++)
        make_target(&targets[i]);
    assert_int_equal(set_label(), CREDSTORE_OK);
    assert_int_equal(issue(), CREDSTORE_OK);
    import();
    make_removed();
    atomic_fetch_add(&t.now, 61000); /* after a minute the time is noted */
    assert_status(CREDSTORE_OK, credstore_maintain(t.store, 0, NULL, &err), &err);
    begin_rotation();
    credstore_close(t.store);
    t.store = NULL;
    kept = cs_storage_lmdb;
    kept.close = keep_open;
    assert_int_equal(cs_lmdb_open(t.path, 0, &handle, &err), CREDSTORE_OK);
    open_again();
    for (size_t i = 0; i < TARGETS; i++)
        place_target(&targets[i]);
    for (size_t i = 0; i < TARGETS; i++)
        note_reads(&targets[i]);
    note_pairs();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < pair_count; i++)
        free(pairs[i].value);
    for (size_t i = 0; i < read_count; i++) {
        credstore_free(reads[i].view);
        free(reads[i].secret);
    }
    for (size_t i = 0; i < ROOT_KEYS; i++)
        credstore_key_source_free(root_keys[i]);
    credstore_close(t.store);
    t.store = NULL;
    cs_storage_lmdb.close(handle);
    if (blind_ctx != NULL)
        cs_crypto_openssl.close(blind_ctx);
    test_close(&t);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_sample_from_path),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
