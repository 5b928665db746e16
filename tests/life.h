/* SPDX-License-Identifier: MIT
 *
 * What the tests of a credential's life share: keys issued in one line, and the engine's bytes
 * behind the store's back, whichever engine it is.
 */
#ifndef TESTS_LIFE_H
#define TESTS_LIFE_H

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "issue.h"
#include "load.h"
#include "op.h"
#include "token.h"

#define LIFE_COUNT(array) (sizeof(array) / sizeof *(array))
#define LIFE_DAY          INT64_C(86400000)

/* With a credstore_error err in scope. */
#define life_ok(call)            assert_status(CREDSTORE_OK, (call), &err)
#define life_fails(status, call) assert_status((status), (call), &err)

/* ---- keys ---- */

typedef struct life_key {
    char id[CS_ID_MAX + 1], token[CS_TOKEN_MAX + 1];
} life_key;

static const char *const life_permissions[] = {"readApplications", "users:list"};

static inline credstore_api_key_patch life_api_key_patch(const char *description)
{
    const credstore_api_key_patch patch = {
        .struct_size = sizeof patch,
        .description = CREDSTORE_TEXT(description),
        .permissions = CREDSTORE_STRINGS(life_permissions, LIFE_COUNT(life_permissions)),
    };

    return patch;
}

/* Copies a secret out, and frees it. */
static inline void life_take(credstore_secret *secret, char out[CS_TOKEN_MAX + 1])
{
    assert_non_null(secret);
    assert_true(credstore_secret_len(secret) <= CS_TOKEN_MAX);
    memcpy(out, credstore_secret_ptr(secret), credstore_secret_len(secret) + 1);
    credstore_secret_free(secret);
}

static inline life_key life_issue(test_world *w, int64_t expires_at)
{
    credstore_api_key_patch patch = life_api_key_patch("issued");
    const credstore_time time = CREDSTORE_TIME(expires_at);
    const credstore_api_key *view = NULL;
    credstore_secret *secret = NULL;
    credstore_error err;
    life_key key;

    if (expires_at != 0)
        patch.expires_at = time;
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, &view, &err));
    snprintf(key.id, sizeof key.id, "%s", view->id);
    credstore_free(view);
    life_take(secret, key.token);
    return key;
}

static inline void life_roll(test_world *w, life_key *key, uint32_t grace_s)
{
    credstore_secret *secret = NULL;
    credstore_error err;

    life_ok(credstore_api_key_roll(w->t.store, &w->call, key->id, grace_s, &secret, NULL, &err));
    life_take(secret, key->token);
}

static inline life_key life_issue_service(test_world *w)
{
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("issued")};
    const credstore_service_credential *view = NULL;
    credstore_secret *secret = NULL;
    credstore_error err;
    life_key key;

    life_ok(credstore_service_credential_issue(w->t.store, &w->call, TEST_TENANT, TEST_PARENT, NULL,
                                               &patch, &secret, &view, &err));
    snprintf(key.id, sizeof key.id, "%s", view->id);
    credstore_free(view);
    life_take(secret, key.token);
    return key;
}

/* An error that tells whether the actor was touched. */
static inline void life_verifies(test_world *w, const char *token, credstore_status expected)
{
    credstore_actor actor, untouched;
    credstore_error err;

    memset(&actor, 0x5a, sizeof actor);
    untouched = actor;
    life_fails(expected, credstore_api_key_verify(w->t.store, token, strlen(token), &actor, &err));
    assert_int_equal(memcmp(&actor, &untouched, sizeof actor) == 0, expected != CREDSTORE_OK);
}

static inline void life_service_verifies(test_world *w, const char *token,
                                         credstore_status expected)
{
    credstore_actor actor, untouched;
    credstore_error err;

    memset(&actor, 0x5a, sizeof actor);
    untouched = actor;
    life_fails(expected,
               credstore_service_credential_verify(w->t.store, token, strlen(token), &actor, &err));
    assert_int_equal(memcmp(&actor, &untouched, sizeof actor) == 0, expected != CREDSTORE_OK);
}

/* Another handle on the same folder, without a policy hook. */
static inline credstore *life_open_second(test_world *w)
{
    credstore_options options = w->t.options;
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    life_ok(credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err));
    options.key = key;
    options.policy = NULL;
    life_ok(credstore_open(w->t.path, &options, &store, &err));
    credstore_key_source_free(key);
    return store;
}

static inline void life_maintain(test_world *w)
{
    credstore_error err;

    life_ok(credstore_maintain(w->t.store, 0, NULL, &err));
}

/* The clock goes on by ms, more than a day, and is believed: maintenance looks a day apart. */
static inline void life_time_passes(test_world *w, int64_t ms)
{
    atomic_fetch_add(&w->t.now, ms - LIFE_DAY);
    life_maintain(w);
    atomic_fetch_add(&w->t.now, LIFE_DAY);
    life_maintain(w);
}

/* ---- the four kinds' lists, history and ends behind one signature ---- */

/* Every kind's page and item lie alike. */
typedef struct life_item {
    const char *id;
    const void *view;
    int32_t status;
    uint32_t reserved;
} life_item;

typedef struct life_page {
    uint32_t struct_size, has_next_page, has_prev_page, reserved;
    const char *start_cursor, *end_cursor;
    const life_item *items;
    size_t count;
} life_page;

#define LIFE_INTO(type, call)                                                                      \
    const type *page_out = NULL;                                                                   \
    const credstore_status status_of = (call);                                                     \
                                                                                                   \
    if (out == NULL)                                                                               \
        credstore_free(page_out);                                                                  \
    else                                                                                           \
        memcpy(out, &page_out, sizeof page_out);                                                   \
    return status_of

static inline credstore_status life_list(credstore *store, const credstore_call *call,
                                         const test_kind *k, const test_at *at,
                                         const credstore_page *page, const life_page **out,
                                         credstore_error *err)
{
    switch (k->kind->id) {
    case CREDSTORE_KIND_CHECKBOOK: {
        LIFE_INTO(credstore_checkbook_page,
                  credstore_checkbook_list(store, call, page, &page_out, err));
    }
    case CREDSTORE_KIND_STRIPE: {
        LIFE_INTO(credstore_stripe_page, credstore_stripe_list(store, call, page, &page_out, err));
    }
    case CREDSTORE_KIND_SERVICE_CREDENTIAL: {
        LIFE_INTO(credstore_service_credential_page,
                  credstore_service_credential_list(store, call, at->tenant, at->parent, page,
                                                    &page_out, err));
    }
    default: {
        LIFE_INTO(credstore_api_key_page,
                  credstore_api_key_list(store, call, page, &page_out, err));
    }
    }
}

static inline credstore_status life_history(credstore *store, const credstore_call *call,
                                            const test_kind *k, const test_at *at, uint64_t before,
                                            uint32_t limit, const life_page **out,
                                            credstore_error *err)
{
    switch (k->kind->id) {
    case CREDSTORE_KIND_CHECKBOOK: {
        LIFE_INTO(credstore_checkbook_page,
                  credstore_checkbook_history(store, call, at->id, before, limit, &page_out, err));
    }
    case CREDSTORE_KIND_STRIPE: {
        LIFE_INTO(credstore_stripe_page,
                  credstore_stripe_history(store, call, at->id, before, limit, &page_out, err));
    }
    case CREDSTORE_KIND_SERVICE_CREDENTIAL: {
        LIFE_INTO(credstore_service_credential_page,
                  credstore_service_credential_history(store, call, at->tenant, at->parent, at->id,
                                                       before, limit, &page_out, err));
    }
    default: {
        LIFE_INTO(credstore_api_key_page,
                  credstore_api_key_history(store, call, at->id, before, limit, &page_out, err));
    }
    }
}

static inline credstore_status life_restore(credstore *store, const credstore_call *call,
                                            const test_kind *k, const test_at *at,
                                            uint64_t revision, const void **out,
                                            credstore_error *err)
{
    switch (k->kind->id) {
    case CREDSTORE_KIND_CHECKBOOK: {
        LIFE_INTO(credstore_checkbook,
                  credstore_checkbook_restore(store, call, at->id, revision, &page_out, err));
    }
    case CREDSTORE_KIND_STRIPE: {
        LIFE_INTO(credstore_stripe,
                  credstore_stripe_restore(store, call, at->id, revision, &page_out, err));
    }
    case CREDSTORE_KIND_SERVICE_CREDENTIAL: {
        LIFE_INTO(credstore_service_credential,
                  credstore_service_credential_restore(store, call, at->tenant, at->parent, at->id,
                                                       revision, &page_out, err));
    }
    default: {
        LIFE_INTO(credstore_api_key,
                  credstore_api_key_restore(store, call, at->id, revision, &page_out, err));
    }
    }
}

static inline credstore_status life_remove(credstore *store, const credstore_call *call,
                                           const test_kind *k, const test_at *at,
                                           credstore_error *err)
{
    switch (k->kind->id) {
    case CREDSTORE_KIND_CHECKBOOK:
        return credstore_checkbook_remove(store, call, at->id, err);
    case CREDSTORE_KIND_STRIPE:
        return credstore_stripe_remove(store, call, at->id, err);
    case CREDSTORE_KIND_SERVICE_CREDENTIAL:
        return credstore_service_credential_remove(store, call, at->tenant, at->parent, at->id,
                                                   err);
    default:
        return credstore_api_key_remove(store, call, at->id, err);
    }
}

/* Creates a record with this id, every field at its nth value. */
static inline credstore_status life_create(credstore *store, const credstore_call *call,
                                           const test_kind *k, const test_at *at, unsigned n,
                                           const void **view, credstore_error *err)
{
    const uint32_t size = k->kind->origin.size;
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin = {0};
    test_patch patch;

    memcpy(origin.bytes, &size, sizeof size);
    if (k->kind->origin.id != 0)
        memcpy(origin.bytes + k->kind->origin.id, &at->id, sizeof at->id);
    test_patch_whole(k, &patch, n);
    return k->create(store, call, at, origin.bytes, patch.u.bytes, view, err);
}

/* ---- the engine's bytes ---- */

static inline void *life_raw_begin(credstore *store, uint32_t write)
{
    void *txn = NULL;

    assert_int_equal(store->storage->begin(store->storage_ctx, write, 5000, &txn),
                     CREDSTORE_STORAGE_OK);
    return txn;
}

static inline void life_raw_put(credstore *store, const cs_key *key, credstore_bytes value)
{
    void *txn = life_raw_begin(store, 1);

    assert_int_equal(store->storage->put(store->storage_ctx, txn, cs_key_bytes(key), value),
                     CREDSTORE_STORAGE_OK);
    assert_int_equal(store->storage->commit(store->storage_ctx, txn), CREDSTORE_STORAGE_OK);
}

static inline void life_raw_del(credstore *store, const cs_key *key)
{
    void *txn = life_raw_begin(store, 1);

    assert_int_equal(store->storage->del(store->storage_ctx, txn, cs_key_bytes(key)),
                     CREDSTORE_STORAGE_OK);
    assert_int_equal(store->storage->commit(store->storage_ctx, txn), CREDSTORE_STORAGE_OK);
}

/* A copy, for cs_buf_free(); empty if the key is not there. */
static inline cs_buf life_raw_get(credstore *store, const cs_key *key)
{
    cs_buf copy = {0};
    credstore_bytes value;
    credstore_error err = {0};
    bool found = false;
    cs_txn txn;

    life_ok(cs_txn_read(store, &txn, &err));
    life_ok(cs_txn_get(&txn, key, &value, &found, &err));
    if (found)
        cs_buf_add(&copy, value.ptr, value.len);
    cs_txn_end(&txn);
    return copy;
}

/* Flips one bit of the stored value's byte `at` from its end. */
static inline void life_damage(credstore *store, const cs_key *key, size_t at)
{
    cs_buf value = life_raw_get(store, key);

    assert_true(value.len > at);
    value.ptr[value.len - 1 - at] ^= 1;
    life_raw_put(store, key, cs_bytes(value.ptr, value.len));
    cs_buf_free(&value);
}

typedef struct life_found {
    size_t count;
    cs_key last;
} life_found;

static inline bool life_note(void *arg, credstore_bytes key, credstore_bytes value)
{
    life_found *found = arg;

    (void)value;
    found->count++;
    found->last.len = key.len;
    memcpy(found->last.ptr, key.ptr, key.len);
    return true;
}

/* How many keys a table has, and the last of them. */
static inline size_t life_keys(credstore *store, uint8_t table, cs_key *last)
{
    const cs_key from = {1, {table}}, to = {1, {(uint8_t)(table + 1)}};
    life_found found = {0};
    const cs_scan scan = {.visit = life_note, .arg = &found};
    credstore_error err = {0};
    cs_txn txn;

    life_ok(cs_txn_read(store, &txn, &err));
    life_ok(cs_txn_scan(&txn, &from, &to, &scan, &err));
    cs_txn_end(&txn);
    if (last != NULL)
        *last = found.last;
    return found.count;
}

/* Where a record lies. */
static inline cs_locator life_locate(test_world *w, const test_kind *k, const test_at *at,
                                     cs_op *op)
{
    const cs_names names = {.tenant = at->tenant, .parent = at->parent, .id = at->id};
    credstore_error err;

    life_ok((memset(&err, 0, sizeof err),
             cs_op_begin(op, w->t.store, k->kind, CS_READ, &w->call, &names, &err)));
    return op->at;
}

static inline cs_key life_record_key(test_world *w, const test_kind *k, const test_at *at)
{
    cs_op op;
    const cs_locator locator = life_locate(w, k, at, &op);
    cs_key key;

    cs_key_record(&key, &locator);
    return key;
}

static inline cs_key life_history_key(test_world *w, const test_kind *k, const test_at *at,
                                      uint64_t revision)
{
    cs_op op;
    const cs_locator locator = life_locate(w, k, at, &op);
    cs_key key;

    cs_key_history(&key, &locator, revision);
    return key;
}

#endif
