/* SPDX-License-Identifier: MIT
 *
 * Opening and closing a store: options, backends, the fork guard.
 */
#define _DEFAULT_SOURCE /* MADV_WIPEONFORK, MAP_ANONYMOUS */

#include "open.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint.h"
#include "crypto/openssl.h"
#include "error.h"
#include "founding.h"
#include "group.h"
#include "keysource/keysource.h"
#include "ring.h"
#include "sized.h"
#include "storage/engines.h"
#include "text.h"
#include "time.h"
#include "unlock.h"

enum { WAIT_MS = 5000, ALLOW_MAX = 1024 };

static const uint16_t option_starts[] = {
    offsetof(credstore_options, flags),          offsetof(credstore_options, key),
    offsetof(credstore_options, storage),        offsetof(credstore_options, storage_ctx),
    offsetof(credstore_options, crypto),         offsetof(credstore_options, crypto_ctx),
    offsetof(credstore_options, catalogue),      offsetof(credstore_options, catalogue_count),
    offsetof(credstore_options, base_url_allow), offsetof(credstore_options, base_url_allow_count),
    offsetof(credstore_options, now_ms),         offsetof(credstore_options, now_ctx),
    offsetof(credstore_options, wait_ms),        offsetof(credstore_options, policy),
    offsetof(credstore_options, policy_ctx),     offsetof(credstore_options, event),
    offsetof(credstore_options, event_ctx),      offsetof(credstore_options, anchor),
};

/* ---- forks ---- */

static credstore_status watch_forks(credstore *store, credstore_error *err)
{
    const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (madvise(page, size, MADV_WIPEONFORK) != 0) {
        munmap(page, size);
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, NULL, "The kernel cannot tell a forked child");
    }
    store->fork_page = page;
    *store->fork_page = 1;
    return CREDSTORE_OK;
}

/* ---- options ---- */

static credstore_status copy_allow_list(credstore *store, const credstore_options *options,
                                        credstore_error *err)
{
    const size_t count = options->base_url_allow_count;
    size_t room = count * sizeof(char *);
    const char **items;
    char *at;

    if (count == 0)
        return CREDSTORE_OK;
    if (count > ALLOW_MAX || options->base_url_allow == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "base_url_allow", "At most 1024 hosts");
    for (size_t i = 0; i < count; i++) {
        const char *host = options->base_url_allow[i];
        const size_t len = host == NULL ? 0 : cs_text_len(host, CS_ID_MAX);

        if (len > CS_ID_MAX || !cs_visible_ascii(host, len))
            return cs_fail(err, CREDSTORE_E_INVALID, "base_url_allow",
                           "A host is 1..255 visible ASCII characters");
        room += len + 1;
    }
    store->rule_texts = cs_alloc(1, room);
    if (store->rule_texts == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    items = (const char **)(void *)store->rule_texts; /* pointers first, then what they point to */
    at = store->rule_texts + count * sizeof *items;
    for (size_t i = 0; i < count; i++) {
        const size_t size = strlen(options->base_url_allow[i]) + 1;

        items[i] = memcpy(at, options->base_url_allow[i], size);
        at += size;
    }
    store->rules.base_url_allow = items;
    store->rules.base_url_allow_count = count;
    return CREDSTORE_OK;
}

static credstore_status check_options(const credstore_options *options, const char *path,
                                      credstore_error *err)
{
    const uint32_t known = CREDSTORE_OPEN_CREATE | CREDSTORE_OPEN_READ_ONLY | CREDSTORE_OPEN_GROUP |
                           CREDSTORE_OPEN_AUDIT_REVEALS;

    if ((options->flags & ~known) != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "An unknown flag is set");
    if ((options->flags & CREDSTORE_OPEN_CREATE) != 0 &&
        (options->flags & CREDSTORE_OPEN_READ_ONLY) != 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "flags",
                       "CREATE and READ_ONLY exclude each other");
    if ((options->flags & CREDSTORE_OPEN_AUDIT_REVEALS) != 0 &&
        (options->flags & CREDSTORE_OPEN_READ_ONLY) != 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "flags", "READ_ONLY cannot audit reveals");
    if (options->wait_ms < 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "wait_ms", "The time to wait is negative");
    if (options->key == NULL && (path != NULL || options->storage != NULL))
        return cs_fail(err, CREDSTORE_E_INVALID, "key", "A store that lasts needs a root key");
    if (options->catalogue == NULL && options->catalogue_count > 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "catalogue", "The catalogue is NULL");
    return options->key == NULL ? CREDSTORE_OK : cs_key_source_usable(options->key, err);
}

static bool has_all(const credstore_storage *s)
{
    return s->begin != NULL && s->get != NULL && s->scan != NULL && s->put != NULL &&
           s->del != NULL && s->commit != NULL && s->abort != NULL && s->close != NULL;
}

static bool provides_all(const credstore_crypto *c)
{
    return c->key_load != NULL && c->key_free != NULL && c->seal != NULL && c->open != NULL &&
           c->mac != NULL && c->digest != NULL && c->random != NULL && c->close != NULL;
}

/* Tables that end before what every engine and provider has always had are none. */
static credstore_status check_tables(const credstore *store, credstore_error *err)
{
    const credstore_storage *storage = store->storage;
    const credstore_crypto *crypto = store->sealer.crypto;

    if (storage->struct_size < offsetof(credstore_storage, tidy) || !has_all(storage))
        return cs_fail(err, CREDSTORE_E_INVALID, "storage",
                       "The engine's table is too short, or lacks a function");
    if (crypto->struct_size < offsetof(credstore_crypto, scrypt) || !provides_all(crypto))
        return cs_fail(err, CREDSTORE_E_INVALID, "crypto",
                       "The provider's table is too short, or lacks a function");
    return CREDSTORE_OK;
}

/* ---- backends ---- */

static credstore_status open_crypto(credstore *store, const credstore_options *options,
                                    credstore_error *err)
{
    store->sealer.crypto = options->crypto;
    store->sealer.ctx = options->crypto_ctx;
    if (options->crypto != NULL)
        return CREDSTORE_OK;
    store->sealer.crypto = &cs_crypto_openssl;
    return cs_openssl_new(&store->sealer.ctx, err);
}

static credstore_status open_storage(credstore *store, const credstore_options *options,
                                     const char *path, credstore_error *err)
{
    store->storage = options->storage;
    store->storage_ctx = options->storage_ctx;
    if (options->storage != NULL)
        return CREDSTORE_OK;
    store->storage = path == NULL ? &cs_storage_memory : &cs_storage_lmdb;
    if (path == NULL)
        return cs_memory_new(&store->storage_ctx, err);
    return cs_lmdb_open(path, options->flags, &store->storage_ctx, err);
}

static void *make_group(void)
{
    return cs_group_new();
}

static void free_group(void *group)
{
    cs_group_free(group);
}

/* The line of those who write: the environment's, where the engine tells of one; else our own. */
static credstore_status join_group(credstore *store, credstore_error *err)
{
    store->grouped = (store->storage->features & CREDSTORE_STORAGE_READ_OWN_WRITES) != 0;
    store->group = store->storage == &cs_storage_lmdb
                       ? cs_lmdb_share(store->storage_ctx, make_group, free_group)
                       : make_group();
    return store->group == NULL ? cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory")
                                : CREDSTORE_OK;
}

/* The caller's backends become the store's when it is open, not before. */
static void close_backends(credstore *store)
{
    const bool own_storage =
        store->storage == &cs_storage_memory || store->storage == &cs_storage_lmdb;
    const bool own_crypto = store->sealer.crypto == &cs_crypto_openssl;

    if (own_storage ? store->storage_ctx != NULL : store->is_open)
        store->storage->close(store->storage_ctx);
    if (own_crypto ? store->sealer.ctx != NULL : store->is_open)
        store->sealer.crypto->close(store->sealer.ctx);
}

static void free_keys(credstore *store)
{
    cs_ring_free_all(store);
    cs_data_key_free(&store->sealer, &store->decoy_key);
    cs_store_keys_free(store);
}

/* ---- open and close ---- */

static credstore_status open_parts(credstore *store, const char *path,
                                   const credstore_options *options, credstore_error *err)
{
    credstore_status status = check_options(options, path, err);

    store->audit_reveals = (options->flags & CREDSTORE_OPEN_AUDIT_REVEALS) != 0;
    store->read_only = (options->flags & CREDSTORE_OPEN_READ_ONLY) != 0;
    store->open_flags = options->flags;
    store->wait_ms = options->wait_ms == 0 ? WAIT_MS : options->wait_ms;
    store->now_ms = options->now_ms == NULL ? cs_time_now : options->now_ms;
    store->now_ctx = options->now_ctx;
    store->policy = options->policy;
    store->policy_ctx = options->policy_ctx;
    store->event = options->event;
    store->event_ctx = options->event_ctx;
    if (status == CREDSTORE_OK)
        status = watch_forks(store, err);
    if (status == CREDSTORE_OK)
        status = copy_allow_list(store, options, err);
    if (status == CREDSTORE_OK)
        status =
            cs_catalogue_copy(options->catalogue, options->catalogue_count, &store->catalogue, err);
    if (status != CREDSTORE_OK)
        return status;
    store->arena = cs_arena_new();
    store->desks = cs_alloc(CS_DESKS, sizeof *store->desks);
    store->marks = cs_alloc(CS_MARKS, sizeof *store->marks);
    if (store->arena == NULL || store->desks == NULL || store->marks == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = open_crypto(store, options, err);
    if (status == CREDSTORE_OK)
        status = open_storage(store, options, path, err);
    if (status == CREDSTORE_OK)
        status = check_tables(store, err);
    if (status == CREDSTORE_OK)
        status = join_group(store, err);
    if (status == CREDSTORE_OK)
        status = cs_found_or_load(store, options, path, err);
    return status;
}

credstore_status cs_options_take(credstore_options *out, const credstore_options *options,
                                 credstore_error *err)
{
    return cs_struct_take(out, sizeof *out, options, option_starts,
                          sizeof option_starts / sizeof *option_starts, "options", err);
}

credstore_status credstore_open(const char *path, const credstore_options *options, credstore **out,
                                credstore_error *err)
{
    credstore_options taken;
    credstore_checkpoint anchor;
    credstore *store;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    *out = NULL;
    status = cs_options_take(&taken, options, err);
    if (status == CREDSTORE_OK && taken.anchor != NULL) {
        status = cs_checkpoint_take(&anchor, taken.anchor, "anchor", err);
        taken.anchor = &anchor;
    }
    if (status != CREDSTORE_OK)
        return status;
    store = cs_alloc(1, sizeof *store);
    if (store == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = open_parts(store, path, &taken, err);
    store->is_open = status == CREDSTORE_OK;
    if (store->is_open)
        *out = store;
    else
        credstore_close(store);
    return status;
}

void credstore_close(credstore *store)
{
    if (store == NULL)
        return;
    if (store->sealer.crypto != NULL)
        free_keys(store);
    if (store->storage != &cs_storage_lmdb)
        free_group(store->group);
    close_backends(store);
    cs_catalogue_free(&store->catalogue);
    cs_free(store->rule_texts);
    cs_buf_free(&store->decoy);
    cs_free(store->desks);
    cs_free(store->marks);
    cs_arena_unref(store->arena);
    if (store->fork_page != NULL)
        munmap((void *)(uintptr_t)store->fork_page, (size_t)sysconf(_SC_PAGESIZE));
    cs_free_wiped(store, sizeof *store);
}

void cs_store_close_keeping(credstore *store)
{
    if (store != NULL)
        store->is_open = false;
    credstore_close(store);
}
