/* SPDX-License-Identifier: MIT
 *
 * A store with something in every table, for tests that walk whole stores: records of all kinds
 * with history, a rolled secret in its grace, issued and imported tokens, receipts, used marks, a
 * label, a removed record; pruned or not.
 */
#ifndef TESTS_POPULATED_H
#define TESTS_POPULATED_H

#include "life.h"

typedef enum pop_name {
    POP_BOOK,
    POP_BOOK_2,
    POP_STRIPE,
    POP_ISSUED,
    POP_USED,
    POP_OTHER,
    POP_KEY,
    POP_IMPORTED,
    POP_REMOVED,
    POP_RECORDS
} pop_name;

#define POP_LABEL "acme-label"

typedef struct pop_record {
    uint32_t kind;
    const char *tenant, *parent, *id; /* id NULL: made at issue */
} pop_record;

static const pop_record pop_records[POP_RECORDS] = {
    [POP_BOOK] = {CREDSTORE_KIND_CHECKBOOK, "acme", NULL, "1NFHrqBHb3cTfLVkFSGmHZqdDPi"},
    [POP_BOOK_2] = {CREDSTORE_KIND_CHECKBOOK, "acme", NULL, "2ckEEwCIvk3KPgvWjJjyBIS6Abc"},
    [POP_STRIPE] = {CREDSTORE_KIND_STRIPE, "acme", NULL, "3c90c3cc-0d44-4b50-8888-8dd25736052a"},
    [POP_ISSUED] = {CREDSTORE_KIND_SERVICE_CREDENTIAL, "acme", TEST_PARENT, NULL},
    [POP_USED] = {CREDSTORE_KIND_SERVICE_CREDENTIAL, "acme", "sa-2", "used-1"},
    [POP_OTHER] = {CREDSTORE_KIND_SERVICE_CREDENTIAL, "other", "sa-3", "other-1"},
    [POP_KEY] = {CREDSTORE_KIND_API_KEY, "acme", NULL, "key-1"},
    [POP_IMPORTED] = {CREDSTORE_KIND_API_KEY, "acme", NULL, "2ckEEwCIvk3KPgvWjJjyBIS6Abe"},
    [POP_REMOVED] = {CREDSTORE_KIND_CHECKBOOK, "acme", NULL, "2ckEEwCIvk3KPgvWjJjyBIS6Abd"},
};

typedef struct populated {
    test_world w;
    char issued[CS_ID_MAX + 1];
    cs_op ops[POP_RECORDS]; /* know the records' places */
    cs_buf removed;         /* POP_REMOVED as it was, and its entry in the list */
    cs_buf removed_entry;
    cs_key removed_key;
} populated;

static inline test_at pop_at(const populated *p, pop_name n)
{
    const pop_record *r = &pop_records[n];
    const test_at at = {r->tenant, r->parent, r->id == NULL ? p->issued : r->id};

    return at;
}

static inline const test_kind *pop_kind(pop_name n)
{
    return test_kind_of(pop_records[n].kind);
}

static inline credstore_call pop_call(const populated *p, pop_name n)
{
    credstore_call call = p->w.call;

    call.tenant = pop_records[n].tenant;
    return call;
}

/* Creates it with every field at its first value, last used a while ago where the kind has that. */
static inline void pop_create(populated *p, pop_name n)
{
    const test_kind *k = pop_kind(n);
    const test_at at = pop_at(p, n);
    const credstore_call call = pop_call(p, n);
    const uint32_t size = k->kind->origin.size;
    const int64_t used = TEST_NOW - 5000;
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin = {0};
    credstore_error err;
    test_patch patch;

    memcpy(origin.bytes, &size, sizeof size);
    if (k->kind->origin.id != 0 && (k->kind->flags & CS_UUID_ID) == 0)
        memcpy(origin.bytes + k->kind->origin.id, &at.id, sizeof at.id);
    if (k->kind->origin.last_used_at != 0)
        memcpy(origin.bytes + k->kind->origin.last_used_at, &used, sizeof used);
    test_patch_whole(k, &patch, 1);
    life_ok(k->create(p->w.t.store, &call, &at, origin.bytes, patch.u.bytes, NULL, &err));
}

/* Every field at its nth value. */
static inline void pop_update(populated *p, pop_name n, unsigned value)
{
    const test_kind *k = pop_kind(n);
    const test_at at = pop_at(p, n);
    const credstore_call call = pop_call(p, n);
    credstore_error err;
    test_patch patch;

    atomic_fetch_add(&p->w.t.now, 1000);
    test_patch_whole(k, &patch, value);
    life_ok(k->update(p->w.t.store, &call, &at, patch.u.bytes, NULL, &err));
}

/* The first field alone: the secrets stay where they are. */
static inline void pop_update_text(populated *p, pop_name n, unsigned value)
{
    const test_kind *k = pop_kind(n);
    const test_at at = pop_at(p, n);
    const credstore_call call = pop_call(p, n);
    credstore_error err;
    test_patch patch;

    test_patch_begin(k, &patch);
    test_patch_set(k, &patch, 0, value);
    life_ok(k->update(p->w.t.store, &call, &at, patch.u.bytes, NULL, &err));
}

static inline void pop_issue(populated *p)
{
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("issued")};
    const credstore_service_credential *view = NULL;
    credstore_call call = p->w.call;
    credstore_secret *secret = NULL;
    credstore_error err;

    call.idempotency_key = "once";
    life_ok(credstore_service_credential_issue(p->w.t.store, &call, "acme", TEST_PARENT, NULL,
                                               &patch, &secret, &view, &err));
    snprintf(p->issued, sizeof p->issued, "%s", view->id);
    credstore_free(view);
    credstore_secret_free(secret);
}

/* An imported token, which is rolled: its entry is vouched for by history alone. */
static inline void pop_import(populated *p)
{
    const credstore *store = p->w.t.store;
    const credstore_api_key_patch patch = life_api_key_patch("imported");
    uint8_t digest[32];
    const credstore_api_key_origin origin = {
        .struct_size = sizeof origin, .id = pop_records[POP_IMPORTED].id, .token_sha256 = digest};
    credstore_error err;

    assert_int_equal(store->sealer.crypto->digest(
                         store->sealer.ctx, cs_bytes_of("an-old-key-that-its-owner-keeps"), digest),
                     CREDSTORE_CRYPTO_OK);
    life_ok(credstore_api_key_create(p->w.t.store, &p->w.call, &origin, &patch, NULL, &err));
}

static inline void pop_roll_stripe(populated *p)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET("whsec_rolled_4242", CREDSTORE_NTS);
    credstore_error err;

    life_ok(credstore_stripe_roll(p->w.t.store, &p->w.call, pop_records[POP_STRIPE].id,
                                  CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET, &fresh, 3600, NULL, &err));
}

/* Keeps what the record and its entry in the list were. */
static inline void pop_remove(populated *p)
{
    const cs_op *op = &p->ops[POP_REMOVED];
    uint8_t mac[32];
    credstore_error err = {0};
    cs_key key;

    cs_key_record(&key, &op->at);
    p->removed = life_raw_get(p->w.t.store, &key);
    life_ok(cs_op_owner(op, mac, &err));
    cs_key_owner(&p->removed_key, mac, &op->at);
    p->removed_entry = life_raw_get(p->w.t.store, &p->removed_key);
    life_ok(
        credstore_checkbook_remove(p->w.t.store, &p->w.call, pop_records[POP_REMOVED].id, &err));
}

static inline void pop_prune(populated *p)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_checkpoint up_to = {.struct_size = sizeof up_to};
    credstore_error err;

    life_ok(credstore_audit_verify(p->w.t.store, &call, NULL, &up_to, &err));
    life_ok(credstore_audit_prune(p->w.t.store, &call, &up_to, NULL, &err));
}

static inline void pop_place(populated *p, pop_name n)
{
    const test_at at = pop_at(p, n);
    const credstore_call call = pop_call(p, n);
    const cs_names names = {.tenant = at.tenant, .parent = at.parent, .id = at.id};
    credstore_error err = {0};

    life_ok(cs_op_begin(&p->ops[n], p->w.t.store, pop_kind(n)->kind, CS_READ, &call, &names, &err));
}

/* pruned: all but the last entries of the audit are gone. */
static inline void pop_fill(populated *p, bool pruned)
{
    const pop_name plain[] = {POP_BOOK,  POP_BOOK_2, POP_STRIPE, POP_USED,
                              POP_OTHER, POP_KEY,    POP_REMOVED};
    credstore_secret *token = NULL;
    credstore_error err;

    for (size_t i = 0; i < LIFE_COUNT(plain); i++)
        pop_create(p, plain[i]);
    pop_issue(p);
    pop_import(p);
    for (pop_name n = 0; n < POP_RECORDS; n++)
        pop_place(p, n);
    for (unsigned value = 2; value <= 4; value++) {
        pop_update(p, POP_BOOK, value);
        pop_update(p, POP_BOOK_2, value);
        pop_update(p, POP_STRIPE, value);
        pop_update(p, POP_KEY, value);
    }
    pop_update_text(p, POP_BOOK_2, 5);
    pop_update_text(p, POP_REMOVED, 2);
    pop_update_text(p, POP_REMOVED, 3);
    pop_roll_stripe(p);
    life_ok(credstore_api_key_roll(p->w.t.store, &p->w.call, pop_records[POP_IMPORTED].id, 3600,
                                   &token, NULL, &err));
    credstore_secret_free(token);
    pop_remove(p);
    life_ok(credstore_organization_label(p->w.t.store, &p->w.call, "acme", POP_LABEL, &err));
    atomic_fetch_add(&p->w.t.now, 120000); /* worth a look at the clock */
    life_maintain(&p->w);
    if (pruned)
        pop_prune(p);
}

static inline populated *pop_open(test_engine engine, bool pruned)
{
    populated *p = calloc(1, sizeof *p);

    assert_non_null(p);
    test_open(&p->w.t, engine);
    p->w.root = test_root(p->w.t.store);
    p->w.call = test_call(&p->w.root);
    pop_fill(p, pruned);
    return p;
}

static inline void pop_close(populated *p)
{
    cs_buf_free(&p->removed);
    cs_buf_free(&p->removed_entry);
    test_close(&p->w.t);
    free(p);
}

/* ---- all that is in it ---- */

typedef struct pop_pair {
    cs_key key;
    uint8_t *value;
    size_t len;
} pop_pair;

enum { POP_PAIRS_MAX = 512 };
typedef struct pop_pairs {
    size_t count;
    pop_pair pair[POP_PAIRS_MAX];
} pop_pairs;

static inline bool pop_note(void *arg, credstore_bytes key, credstore_bytes value)
{
    pop_pairs *all = arg;
    pop_pair *pair = &all->pair[all->count++];

    memset(&pair->key, 0, sizeof pair->key);
    memcpy(pair->key.ptr, key.ptr, key.len);
    pair->key.len = key.len;
    pair->value = malloc(value.len + 1);
    memcpy(pair->value, value.ptr, value.len);
    pair->len = value.len;
    return all->count < POP_PAIRS_MAX;
}

static inline pop_pairs *pop_dump(credstore *store)
{
    pop_pairs *all = calloc(1, sizeof *all);
    const cs_key from = {1, {0}}, to = {0, {0}};
    const cs_scan scan = {.visit = pop_note, .arg = all};
    credstore_error err = {0};
    cs_txn txn;

    life_ok(cs_txn_read(store, &txn, &err));
    life_ok(cs_txn_scan(&txn, &from, &to, &scan, &err));
    cs_txn_end(&txn);
    assert_in_range(all->count, 1, POP_PAIRS_MAX - 1);
    return all;
}

static inline void pop_pairs_free(pop_pairs *all)
{
    for (size_t i = 0; i < all->count; i++)
        free(all->pair[i].value);
    free(all);
}

#endif
