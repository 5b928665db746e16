/* SPDX-License-Identifier: MIT
 *
 * Root slots of an open store: passphrases, key services, READ alone, and the last one with a
 * right.
 */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "commit.h"
#include "txn.h"

enum { CHEAP = 14 };

/* ---- a key service: XORs, and answers as it is told ---- */

typedef struct service {
    int32_t wrap_answer, unwrap_answer;
    size_t blob_len, keys_len; /* 0 = as it should be */
    unsigned wraps, unwraps;
    uint8_t pad;
    credstore *busy; /* a store to change from inside */
    size_t kind;     /* by a record of this kind */
    credstore_status changed;
    bool fails_own_alone; /* unwrap_answer is of its own blobs; of others it says GONE */
} service;

static int32_t change_from_inside(service *s)
{
    const test_kind *k = &test_kinds[s->kind];
    const test_at at = test_at_of(k);
    credstore_actor root;
    credstore_call call;
    test_patch patch;

    if (s->busy == NULL)
        return CREDSTORE_KEY_OK;
    root = test_root(s->busy);
    call = test_call(&root);
    call.wait_ms = 50;
    test_patch_whole(k, &patch, 1);
    s->changed = k->create(s->busy, &call, &at, NULL, patch.u.bytes, NULL, NULL);
    return CREDSTORE_KEY_OK;
}

static int32_t wrap(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob, size_t *blob_len)
{
    service *s = ctx;

    s->wraps++;
    if (s->wrap_answer != 0)
        return s->wrap_answer;
    assert_true(*blob_len == 4096 && (len == 32 || len == 64));
    for (size_t i = 0; i < len; i++)
        blob[i] = keys[i] ^ s->pad;
    blob[len] = s->pad;
    *blob_len = s->blob_len == 0 ? len + 1 : s->blob_len;
    return change_from_inside(s);
}

static int32_t unwrap(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys, size_t *len)
{
    service *s = ctx;

    s->unwraps++;
    if (s->unwrap_answer != 0 && !s->fails_own_alone)
        return s->unwrap_answer;
    if (blob[blob_len - 1] != s->pad)
        return CREDSTORE_KEY_GONE;
    if (s->unwrap_answer != 0)
        return s->unwrap_answer;
    assert_int_equal(*len, 64);
    for (size_t i = 0; i + 1 < blob_len; i++)
        keys[i] = blob[i] ^ s->pad;
    *len = s->keys_len == 0 ? blob_len - 1 : s->keys_len;
    return change_from_inside(s);
}

static credstore_key_source *source_of(service *s)
{
    const credstore_key_service table = {
        .struct_size = sizeof table, .wrap = wrap, .unwrap = unwrap, .ctx = s};
    credstore_key_source *source = NULL;

    assert_status(CREDSTORE_OK, credstore_key_callback(&table, &source, NULL), NULL);
    return source;
}

static credstore_key_source *passphrase(const char *text)
{
    credstore_key_source *source = NULL;

    assert_status(CREDSTORE_OK, credstore_key_passphrase(text, CREDSTORE_NTS, CHEAP, &source, NULL),
                  NULL);
    return source;
}

/* ---- opening ---- */

static credstore_status reopen_with(test_world *w, const credstore_key_source *source,
                                    credstore_error *err)
{
    w->t.options.key = source;
    return test_reopen(&w->t, err);
}

static uint32_t add(test_world *w, const credstore_key_source *source, uint32_t rights)
{
    credstore_error err;
    uint32_t slot = 99;

    assert_status(CREDSTORE_OK,
                  credstore_root_add(w->t.store, &w->call, source, rights, &slot, &err), &err);
    return slot;
}

enum { BOTH = CREDSTORE_ROOT_READ | CREDSTORE_ROOT_REVEAL };

static void a_passphrase_opens(test_world *w)
{
    credstore_key_source *right = passphrase("correct horse"), *wrong = passphrase("correct horsf");
    credstore_error err;

    assert_int_equal(add(w, right, BOTH), 1);
    if (w->t.engine == TEST_LMDB) {
        assert_status(CREDSTORE_E_KEY_UNAVAILABLE, reopen_with(w, wrong, &err), &err);
        assert_string_equal(err.field, "key");
        assert_status(CREDSTORE_OK, reopen_with(w, right, &err), &err);
    }
    credstore_key_source_free(right);
    credstore_key_source_free(wrong);
}

/* A store that was made with one has nothing but it. */
static void a_passphrase_makes(test_world *w)
{
    credstore_key_source *source = passphrase("correct horse");
    credstore_options options = w->t.options;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX + 8];
    credstore_error err;
    credstore *store = NULL;

    test_folder(folder);
    (void)snprintf(path, sizeof path, "%s/s", folder);
    options.flags = CREDSTORE_OPEN_CREATE;
    options.key = source;
    assert_status(CREDSTORE_OK, credstore_open(path, &options, &store, &err), &err);
    credstore_close(store);
    options.flags = 0;
    assert_status(CREDSTORE_OK, credstore_open(path, &options, &store, &err), &err);
    credstore_close(store);
    credstore_key_source_free(source);
    source = NULL;
    assert_status(CREDSTORE_OK,
                  credstore_key_bytes(test_root_key, sizeof test_root_key, &source, &err), &err);
    options.key = source;
    assert_status(CREDSTORE_E_KEY_UNAVAILABLE, credstore_open(path, &options, &store, &err), &err);
    credstore_key_source_free(source);
    test_folder_remove(folder);
}

static void a_service_opens(test_world *w)
{
    service mine = {.pad = 0x5a}, other = {.pad = 0xa5};
    credstore_key_source *a = source_of(&other), *b = source_of(&mine);
    credstore_error err;

    assert_int_equal(add(w, a, BOTH), 1);
    assert_int_equal(add(w, b, BOTH), 2);
    if (w->t.engine == TEST_LMDB) {
        assert_status(CREDSTORE_OK, reopen_with(w, b, &err), &err);
        assert_int_equal(mine.unwraps, 2); /* slot 1 was not its own */
    }
    assert_int_equal(mine.wraps, 1);
    credstore_key_source_free(a);
    credstore_key_source_free(b);
}

/* Each failure by itself, when a slot is made and when it is opened; nothing changed. */
static void a_service_fails(test_world *w)
{
    static const struct {
        int32_t answer, native;
        credstore_status status;
    } rows[] = {
        {CREDSTORE_KEY_DENIED, CREDSTORE_KEY_DENIED, CREDSTORE_E_FORBIDDEN},
        {CREDSTORE_KEY_GONE, CREDSTORE_KEY_GONE, CREDSTORE_E_KEY_UNAVAILABLE},
        {CREDSTORE_KEY_TRANSIENT, CREDSTORE_KEY_TRANSIENT, CREDSTORE_E_BUSY},
        {CREDSTORE_KEY_FAILED, CREDSTORE_KEY_FAILED, CREDSTORE_E_KEY_UNAVAILABLE},
        {-7, CREDSTORE_KEY_FAILED, CREDSTORE_E_KEY_UNAVAILABLE},
    };
    service s = {.pad = 0x5a};
    credstore_key_source *source = source_of(&s);
    credstore_error err;

    add(w, source, BOTH);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint64_t before = test_generation(w->t.store);
        uint32_t slot = 99;

        s.wrap_answer = rows[i].answer;
        assert_status(rows[i].status,
                      credstore_root_add(w->t.store, &w->call, source, BOTH, &slot, &err), &err);
        assert_int_equal(err.native, rows[i].native);
        assert_int_equal(err.retry_after_s, rows[i].status == CREDSTORE_E_BUSY ? 1 : 0);
        assert_int_equal(slot, 99);
        assert_int_equal(test_generation(w->t.store), before);
    }
    s.wrap_answer = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && w->t.engine == TEST_LMDB; i++) {
        s.unwrap_answer = rows[i].answer;
        assert_status(rows[i].status, reopen_with(w, source, &err), &err);
        assert_int_equal(err.native, rows[i].native);
    }
    s.unwrap_answer = 0;
    s.keys_len = 31;
    if (w->t.engine == TEST_LMDB)
        assert_status(CREDSTORE_E_KEY_UNAVAILABLE, reopen_with(w, source, &err), &err);
    s.keys_len = 32; /* of 64: the rights say otherwise */
    if (w->t.engine == TEST_LMDB)
        assert_status(CREDSTORE_E_INTEGRITY, reopen_with(w, source, &err), &err);
    s.keys_len = 0;
    if (w->t.engine == TEST_LMDB)
        assert_status(CREDSTORE_OK, reopen_with(w, source, &err), &err);
    s.blob_len = 4097;
    assert_status(CREDSTORE_E_KEY_UNAVAILABLE,
                  credstore_root_add(w->t.store, &w->call, source, BOTH, NULL, &err), &err);
    credstore_key_source_free(source);
}

/* Of several slots: another's blob in front hides neither a failure nor the slot that opens. */
static void a_service_fails_behind_another(test_world *w)
{
    static const struct {
        int32_t answer;
        credstore_status status;
    } rows[] = {
        {CREDSTORE_KEY_DENIED, CREDSTORE_E_FORBIDDEN},
        {CREDSTORE_KEY_TRANSIENT, CREDSTORE_E_BUSY},
        {CREDSTORE_KEY_FAILED, CREDSTORE_E_KEY_UNAVAILABLE},
    };
    service s = {.pad = 0x5a}, other = {.pad = 0xa5};
    credstore_key_source *mine = source_of(&s), *others = source_of(&other);
    credstore_error err;

    add(w, others, BOTH);
    add(w, mine, BOTH);
    s.fails_own_alone = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && w->t.engine == TEST_LMDB; i++) {
        s.unwrap_answer = rows[i].answer;
        assert_status(rows[i].status, reopen_with(w, mine, &err), &err);
        assert_int_equal(err.native, rows[i].answer);
    }
    credstore_key_source_free(mine);
    credstore_key_source_free(others);
}

/* The service changes the same store while it wraps and while it unwraps: it is not asked inside a
   transaction. */
static void a_service_is_outside(test_world *w)
{
    service s = {.pad = 0x5a, .changed = CREDSTORE_E_INTERNAL};
    credstore_key_source *source = source_of(&s);
    credstore_options options = w->t.options;
    credstore *second = NULL;
    credstore_error err;

    s.busy = w->t.store;
    add(w, source, BOTH);
    assert_status(CREDSTORE_OK, s.changed, NULL);
    s.changed = CREDSTORE_E_INTERNAL;
    s.kind++;
    options.key = source;
    if (w->t.engine == TEST_LMDB) {
        assert_status(CREDSTORE_OK, credstore_open(w->t.path, &options, &second, &err), &err);
        assert_status(CREDSTORE_OK, s.changed, NULL);
        credstore_close(second);
    }
    credstore_key_source_free(source);
}

static void read_alone(test_world *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_STRIPE);
    credstore_key_source *source = passphrase("sidecar");
    const test_at at = test_at_of(k);
    credstore_secret *secret = NULL;
    const void *view;
    test_patch patch;
    credstore_error err;
    credstore_actor root, system;
    credstore_call call;

    credstore_free(test_make(&w->t, k, &w->root, 1));
    add(w, source, CREDSTORE_ROOT_READ);
    if (w->t.engine == TEST_MEMORY) {
        credstore_key_source_free(source);
        return;
    }
    assert_status(CREDSTORE_OK, reopen_with(w, source, &err), &err);
    root = test_root(w->t.store);
    credstore_free(test_get(&w->t, k, &root));
    system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", TEST_TENANT);
    call = test_call(&system);
    assert_status(
        CREDSTORE_E_KEY_UNAVAILABLE,
        k->reveal(w->t.store, &call, &at, CREDSTORE_STRIPE_TEST_SECRET_KEY, &secret, &err), &err);
    assert_null(secret);
    test_patch_whole(k, &patch, 2);
    assert_status(CREDSTORE_E_KEY_UNAVAILABLE,
                  k->update(w->t.store, &call, &at, patch.u.bytes, &view, &err), &err);
    assert_status(CREDSTORE_E_KEY_UNAVAILABLE,
                  credstore_root_add(w->t.store, &call, source, BOTH, NULL, &err), &err);
    assert_status(CREDSTORE_E_KEY_UNAVAILABLE, credstore_root_remove(w->t.store, &call, 0, &err),
                  &err);
    assert_status(CREDSTORE_OK,
                  credstore_root_add(w->t.store, &call, source, CREDSTORE_ROOT_READ, NULL, &err),
                  &err);
    credstore_key_source_free(source);
}

/* A sidecar: it verifies API keys and lists, and no secret that it is asked for comes out. */
static void read_alone_verifies(test_world *w)
{
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("of a sidecar"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    credstore_key_source *source = passphrase("sidecar");
    const credstore_api_key_page *page = NULL;
    credstore_secret *key = NULL;
    credstore_actor actor;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_api_key_issue(w->t.store, &w->call, "test", &patch, &key, NULL, &err),
                  &err);
    add(w, source, CREDSTORE_ROOT_READ);
    if (w->t.engine == TEST_LMDB) {
        assert_status(CREDSTORE_OK, reopen_with(w, source, &err), &err);
        assert_false(w->t.store->keys.can_reveal);
    }
    assert_status(CREDSTORE_OK,
                  credstore_api_key_verify(w->t.store, credstore_secret_ptr(key), CREDSTORE_NTS,
                                           &actor, &err),
                  &err);
    assert_status(CREDSTORE_OK, credstore_api_key_list(w->t.store, &w->call, NULL, &page, &err),
                  &err);
    assert_int_equal(page->count, 1);
    assert_int_equal(page->items[0].status, CREDSTORE_OK);
    assert_string_equal(page->items[0].view->description, "of a sidecar");
    assert_string_equal(page->items[0].id, actor.id);
    credstore_free(page);
    credstore_secret_free(key);
    credstore_key_source_free(source);
}

/* ---- a refused opening leaves the store as it was ---- */

static void data_file(const test_world *w, cs_buf *out)
{
    char path[TEST_PATH_MAX + 16];
    uint8_t part[4096];
    size_t got;
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/data.mdb", w->t.path);
    file = fopen(path, "rb");
    assert_non_null(file);
    while ((got = fread(part, 1, sizeof part, file)) > 0)
        cs_buf_add(out, part, got);
    assert_int_equal(fclose(file), 0);
    assert_true(out->len > 0 && !out->failed);
}

static void refused_is_as_it_was(test_world *w)
{
    service denied = {.pad = 1, .unwrap_answer = CREDSTORE_KEY_DENIED},
            gone = {.pad = 1, .unwrap_answer = CREDSTORE_KEY_GONE},
            transient = {.pad = 1, .unwrap_answer = CREDSTORE_KEY_TRANSIENT},
            failed = {.pad = 1, .unwrap_answer = CREDSTORE_KEY_FAILED}, maker = {.pad = 1};
    const struct {
        credstore_key_source *source;
        credstore_status status;
    } rows[] = {
        {passphrase("wrong"), CREDSTORE_E_KEY_UNAVAILABLE},
        {source_of(&denied), CREDSTORE_E_FORBIDDEN},
        {source_of(&gone), CREDSTORE_E_KEY_UNAVAILABLE},
        {source_of(&transient), CREDSTORE_E_BUSY},
        {source_of(&failed), CREDSTORE_E_KEY_UNAVAILABLE},
    };
    credstore_key_source *right = passphrase("right"), *service_key = source_of(&maker);
    cs_buf before = {0}, after = {0};
    credstore_error err;

    if (w->t.engine == TEST_LMDB) {
        add(w, right, BOTH);
        add(w, service_key, BOTH);
        data_file(w, &before);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            assert_status(rows[i].status, reopen_with(w, rows[i].source, &err), &err);
        data_file(w, &after);
        assert_int_equal(before.len, after.len);
        assert_memory_equal(before.ptr, after.ptr, before.len);
        assert_status(CREDSTORE_OK, reopen_with(w, right, &err), &err);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        credstore_key_source_free(rows[i].source);
    credstore_key_source_free(right);
    credstore_key_source_free(service_key);
    cs_buf_free(&before);
    cs_buf_free(&after);
}

/* ---- listing and removing ---- */

static void lists(test_world *w)
{
    static const uint32_t methods[] = {CREDSTORE_ROOT_RAW, CREDSTORE_ROOT_PASSPHRASE,
                                       CREDSTORE_ROOT_CALLBACK};
    service s = {.pad = 1};
    credstore_key_source *a = passphrase("x"), *b = source_of(&s);
    const credstore_root_page *page = NULL;
    credstore_error err;

    add(w, a, CREDSTORE_ROOT_READ);
    add(w, b, BOTH);
    assert_status(CREDSTORE_OK, credstore_root_list(w->t.store, &w->call, &page, &err), &err);
    assert_int_equal(page->count, 3);
    for (uint32_t i = 0; i < page->count; i++) {
        assert_int_equal(page->items[i]->slot, i);
        assert_int_equal(page->items[i]->method, methods[i]);
        assert_int_equal(page->items[i]->rights, i == 1 ? (int)CREDSTORE_ROOT_READ : BOTH);
        assert_int_equal(page->items[i]->is_own, i == 0);
        assert_int_equal(page->items[i]->status, CREDSTORE_OK);
    }
    credstore_free(page);
    credstore_key_source_free(a);
    credstore_key_source_free(b);
}

static void never_the_last(test_world *w)
{
    credstore_key_source *a = passphrase("x"), *b = passphrase("y");
    const credstore_root_page *page = NULL;
    credstore_error err;

    assert_status(CREDSTORE_E_CONFLICT, credstore_root_remove(w->t.store, &w->call, 0, &err), &err);
    assert_string_equal(err.field, "slot");
    add(w, a, CREDSTORE_ROOT_READ);
    assert_status(CREDSTORE_E_CONFLICT, credstore_root_remove(w->t.store, &w->call, 0, &err), &err);
    add(w, b, BOTH);
    assert_status(CREDSTORE_OK, credstore_root_remove(w->t.store, &w->call, 0, &err), &err);
    assert_status(CREDSTORE_E_NOT_FOUND, credstore_root_remove(w->t.store, &w->call, 0, &err),
                  &err);
    assert_status(CREDSTORE_E_NOT_FOUND, credstore_root_remove(w->t.store, &w->call, 70000, &err),
                  &err);
    assert_status(CREDSTORE_E_CONFLICT, credstore_root_remove(w->t.store, &w->call, 2, &err), &err);
    if (w->t.engine == TEST_LMDB) {
        const credstore_key_source *old = w->t.options.key;

        assert_status(CREDSTORE_E_KEY_UNAVAILABLE, reopen_with(w, old, &err), &err);
        assert_status(CREDSTORE_OK, reopen_with(w, b, &err), &err);
    }
    assert_int_equal(add(w, a, BOTH), 0); /* the number is free again */
    assert_status(CREDSTORE_OK, credstore_root_list(w->t.store, &w->call, &page, &err), &err);
    assert_int_equal(page->count, 3);
    credstore_free(page);
    credstore_key_source_free(a);
    credstore_key_source_free(b);
}

static void at_most_64(test_world *w)
{
    service s = {.pad = 1};
    credstore_key_source *source = source_of(&s);
    credstore_error err;

    for (uint32_t i = 1; i < 64; i++)
        assert_int_equal(add(w, source, BOTH), i);
    assert_status(CREDSTORE_E_TOO_LARGE,
                  credstore_root_add(w->t.store, &w->call, source, BOTH, NULL, &err), &err);
    credstore_key_source_free(source);
}

/* ---- damage ---- */

static credstore_status cut_slot(cs_txn *txn, void *arg, credstore_error *err)
{
    const uint16_t *slot = arg;
    cs_buf value = {0};
    cs_key key;
    credstore_status status;

    cs_buf_u8(&value, CS_FORMAT);
    cs_key_root(&key, *slot);
    status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status;
}

/* Slot 0 is damaged, and the others open all the same. */
static void damage_locks_out_no_other(test_world *w)
{
    uint16_t slot = 0;
    const cs_work work = {cut_slot, &slot, 0};
    credstore_key_source *source = passphrase("x");
    const credstore_key_source *old = w->t.options.key;
    const credstore_root_page *page = NULL;
    credstore_error err = {0};

    add(w, source, BOTH);
    assert_status(CREDSTORE_OK, cs_txn_write(w->t.store, &work, &err), &err);
    assert_status(CREDSTORE_OK, credstore_root_list(w->t.store, &w->call, &page, &err), &err);
    assert_int_equal(page->items[0]->status, CREDSTORE_E_INTEGRITY);
    assert_int_equal(page->items[1]->status, CREDSTORE_OK);
    credstore_free(page);
    if (w->t.engine == TEST_LMDB) {
        assert_status(CREDSTORE_E_INTEGRITY, reopen_with(w, old, &err), &err);
        assert_status(CREDSTORE_OK, reopen_with(w, source, &err), &err);
        assert_status(CREDSTORE_OK, credstore_root_remove(w->t.store, &w->call, 0, &err), &err);
    }
    credstore_key_source_free(source);
}

static credstore_status shorten_slot(cs_txn *txn, void *arg, credstore_error *err)
{
    const uint16_t *slot = arg;
    credstore_bytes there;
    bool found = false;
    cs_buf value = {0};
    cs_key key;
    credstore_status status;

    cs_key_root(&key, *slot);
    status = cs_txn_get(txn, &key, &there, &found, err);
    assert_true(status != CREDSTORE_OK || found);
    cs_buf_add(&value, there.ptr, there.len - 1);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status;
}

/* A slot of each method that lacks its last byte, though its head is sound, is listed as damaged,
   and does not stand in for the last one with a right. */
static void damage_is_no_other_key(test_world *w)
{
    service s = {.pad = 1};
    credstore_key_source *sources[] = {NULL, passphrase("x"), source_of(&s)};
    const credstore_root_page *page = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_key_bytes("another root key of 32 bytes -->", 32, &sources[0], &err),
                  &err);
    for (uint16_t i = 0; i < 3; i++) {
        uint16_t slot = (uint16_t)add(w, sources[i], BOTH);
        const cs_work work = {shorten_slot, &slot, 0};

        assert_status(CREDSTORE_OK, cs_txn_write(w->t.store, &work, &err), &err);
        credstore_key_source_free(sources[i]);
    }
    assert_status(CREDSTORE_OK, credstore_root_list(w->t.store, &w->call, &page, &err), &err);
    for (uint32_t i = 0; i < page->count; i++)
        assert_int_equal(page->items[i]->status, i == 0 ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
    credstore_free(page);
    assert_status(CREDSTORE_E_CONFLICT, credstore_root_remove(w->t.store, &w->call, 0, &err), &err);
    for (uint32_t i = 1; i <= 3; i++)
        assert_status(CREDSTORE_OK, credstore_root_remove(w->t.store, &w->call, i, &err), &err);
}

/* ---- who, and what ---- */

static void refuses(test_world *w)
{
    static const struct {
        const char *ptr;
        size_t len;
        uint32_t cost;
        const char *field;
    } rows[] = {
        {NULL, 3, 0, "ptr"},    {"", CREDSTORE_NTS, 0, "len"}, {"x", 4097, 0, "len"},
        {"x", 1, 13, "log2_n"}, {"x", 1, 21, "log2_n"},
    };
    const credstore_key_service empty = {.struct_size = sizeof empty};
    const credstore_actor admin =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "u", TEST_TENANT);
    const credstore_call by_admin = test_call(&admin);
    const credstore_root_page *page = NULL;
    credstore_key_source *source = NULL;
    credstore_error err;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_status(
            CREDSTORE_E_INVALID,
            credstore_key_passphrase(rows[i].ptr, rows[i].len, rows[i].cost, &source, &err), &err);
        assert_string_equal(err.field, rows[i].field);
        assert_null(source);
    }
    assert_status(CREDSTORE_E_INVALID, credstore_key_callback(&empty, &source, &err), &err);
    assert_status(CREDSTORE_E_INVALID, credstore_key_callback(NULL, &source, &err), &err);
    source = passphrase("x");
    assert_status(CREDSTORE_E_INVALID,
                  credstore_root_add(w->t.store, &w->call, NULL, BOTH, NULL, &err), &err);
    assert_status(
        CREDSTORE_E_INVALID,
        credstore_root_add(w->t.store, &w->call, source, CREDSTORE_ROOT_REVEAL, NULL, &err), &err);
    assert_status(CREDSTORE_E_INVALID,
                  credstore_root_add(w->t.store, &w->call, source, 7, NULL, &err), &err);
    assert_status(CREDSTORE_E_FORBIDDEN,
                  credstore_root_add(w->t.store, &by_admin, source, BOTH, NULL, &err), &err);
    assert_status(CREDSTORE_E_FORBIDDEN, credstore_root_list(w->t.store, &by_admin, &page, &err),
                  &err);
    assert_status(CREDSTORE_E_FORBIDDEN, credstore_root_remove(w->t.store, &by_admin, 0, &err),
                  &err);
    credstore_key_source_free(source);
}

int main(void)
{
    static const test_row rows[] = {
        {"a passphrase opens", a_passphrase_opens},
        {"a passphrase makes a store", a_passphrase_makes},
        {"a key service opens", a_service_opens},
        {"a key service fails in each way", a_service_fails},
        {"a key service fails behind another", a_service_fails_behind_another},
        {"a key service is asked outside of transactions", a_service_is_outside},
        {"READ alone", read_alone},
        {"READ alone verifies and lists", read_alone_verifies},
        {"a refused opening leaves all as it was", refused_is_as_it_was},
        {"lists", lists},
        {"never the last one with a right", never_the_last},
        {"at most 64", at_most_64},
        {"damage locks out no other", damage_locks_out_no_other},
        {"damage is no other key", damage_is_no_other_key},
        {"refuses", refuses},
    };

    return test_run("root slots", NULL, 0, rows, sizeof rows / sizeof *rows);
}
