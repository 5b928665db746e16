/* SPDX-License-Identifier: MIT
 *
 * Founding a store, and finding one. All of a new store is one transaction; two processes that
 * found the same store both end up on the one that came first.
 */
#include "founding.h"

#include <string.h>

#include "audit.h"
#include "checkpoint.h"
#include "commit.h"
#include "epoch.h"
#include "error.h"
#include "ring.h"
#include "root.h"
#include "sealed.h"
#include "unlock.h"

static const char magic[] = "credstore"; /* stored without its NUL */
enum { MAGIC_LEN = sizeof magic - 1, META_LEN = 1 + MAGIC_LEN + CS_STORE_ID_LEN, LANE = 0 };

static const cs_label catalogue_label = {.role = CS_ROLE_CATALOGUE};

/* ---- meta ---- */

static credstore_status read_meta(cs_txn *txn, bool *found, credstore_error *err)
{
    credstore_bytes value;
    const uint8_t *p;
    cs_key key;
    credstore_status status;

    cs_key_meta(&key, false);
    status = cs_txn_get(txn, &key, &value, found, err);
    if (status != CREDSTORE_OK || !*found)
        return status;
    p = value.ptr;
    if (value.len < 1 + MAGIC_LEN || memcmp(p + 1, magic, MAGIC_LEN) != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "This is not a credential store");
    if (p[0] > CS_FORMAT)
        return cs_fail(err, CREDSTORE_E_FORMAT, NULL, "The store was made by a newer library");
    if (p[0] != CS_FORMAT || value.len != META_LEN)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store's header is damaged");
    memcpy(txn->store->sealer.store_id, p + 1 + MAGIC_LEN, CS_STORE_ID_LEN);
    return status;
}

static void write_meta(const credstore *store, cs_buf *out)
{
    cs_buf_u8(out, CS_FORMAT);
    cs_buf_add(out, magic, MAGIC_LEN);
    cs_buf_add(out, store->sealer.store_id, CS_STORE_ID_LEN);
}

/* ---- loading ---- */

/* The head, and the last audit entry against it. An entry behind that one was written by a later
   commit: the head alone was put back. */
static credstore_status load_head(cs_txn *txn, const credstore_checkpoint *anchor,
                                  credstore_error *err)
{
    uint8_t previous[CS_CHAIN_LEN];
    credstore_bytes later;
    bool found = false;
    cs_head head;
    cs_key key;
    credstore_status status = cs_head_load(txn, &head, err);

    if (status == CREDSTORE_OK)
        status = cs_ring_match(txn, head.ring, err);
    if (status == CREDSTORE_OK)
        status = cs_audit_check(txn, head.last_seq, head.chain, previous, err);
    cs_key_audit(&key, LANE, head.last_seq + 1);
    if (status == CREDSTORE_OK)
        status = cs_txn_get(txn, &key, &later, &found, err);
    if (status == CREDSTORE_OK && found)
        status = cs_fail(err, CREDSTORE_E_ROLLBACK, NULL, "The head is older than the audit");
    if (status == CREDSTORE_OK && anchor != NULL)
        status = cs_checkpoint_hold(txn, &head, anchor, err);
    if (status != CREDSTORE_OK)
        return status;
    atomic_store(&txn->store->seen_generation, head.generation);
    atomic_store(&txn->store->seen_time, head.time);
    return status;
}

/* What can be read without a key. */
static credstore_status read_outside(credstore *store, cs_root_slots *slots, bool *found,
                                     credstore_error *err)
{
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = read_meta(&txn, found, err);
    if (status == CREDSTORE_OK && *found)
        status = cs_root_slots_read(&txn, slots, err);
    cs_txn_end(&txn);
    return status;
}

static credstore_status load_snapshot(cs_txn *txn, const credstore_checkpoint *anchor,
                                      credstore_error *err)
{
    cs_sealed_header header = {0};
    credstore_status status = cs_sealed_header_read(txn, &header, err);

    txn->store->epoch = header.epoch;
    if (status == CREDSTORE_OK)
        status = cs_ring_refresh(txn, err);
    return status == CREDSTORE_OK ? load_head(txn, anchor, err) : status;
}

static credstore_status load(credstore *store, const credstore_options *options, bool *found,
                             credstore_error *err)
{
    const credstore_key_source *key = options->key;
    cs_root_slots slots = {0};
    cs_txn txn;
    credstore_status status = read_outside(store, &slots, found, err);

    if (status == CREDSTORE_OK && *found && key == NULL)
        status = cs_fail(err, CREDSTORE_E_INVALID, "key", "The store needs its root key");
    if (status == CREDSTORE_OK && *found)
        status = cs_unlock(store, &slots, key, err);
    cs_root_slots_free(&slots);
    if (status != CREDSTORE_OK || !*found)
        return status;
    status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = load_snapshot(&txn, options->anchor, err);
    cs_txn_end(&txn);
    return status;
}

/* ---- founding ---- */

typedef struct founding {
    cs_buf meta, sealed_meta, slot;
    cs_ring_values ring;
    bool lost; /* another process was first */
} founding;

static credstore_status seal_meta(credstore *store, cs_buf *out, credstore_error *err)
{
    const cs_sealed_header header = {CS_FORMAT, cs_store_now(store), 1};
    uint8_t nonce[CS_NONCE_LEN];
    const credstore_status status = cs_store_random(store, nonce, sizeof nonce, err);

    store->epoch = header.epoch;
    return status == CREDSTORE_OK ? cs_sealed_header_seal(store, &header, nonce, out, err) : status;
}

static credstore_status create_ring(credstore *store, founding *f, credstore_error *err)
{
    cs_keyring *ring = cs_alloc(1, sizeof *ring);
    credstore_status status;

    if (ring == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_keyring_create(&store->sealer, &store->keys, store->arena, ring, &f->ring, err);
    if (status == CREDSTORE_OK)
        cs_ring_publish(store, ring);
    else
        cs_free(ring);
    return status;
}

/* Draws and wraps everything, before any transaction. */
static credstore_status prepare(credstore *store, const credstore_key_source *source, founding *f,
                                credstore_error *err)
{
    credstore_secret *raw = cs_secret_new(store->arena, CS_STORE_KEYS_LEN);
    const uint8_t rights = CS_RIGHT_READ | CS_RIGHT_REVEAL;
    credstore_status status;

    if (raw == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_store_random(store, store->sealer.store_id, CS_STORE_ID_LEN, err);
    if (status == CREDSTORE_OK)
        status = cs_store_random(store, cs_secret_bytes(raw), CS_STORE_KEYS_LEN, err);
    if (status != CREDSTORE_OK) {
        credstore_secret_free(raw);
        return status;
    }
    status = cs_store_keys_take(store, raw, rights, err);
    if (status == CREDSTORE_OK)
        status =
            cs_root_wrap(&store->sealer, source, 0, rights, cs_secret_bytes(raw), &f->slot, err);
    if (status == CREDSTORE_OK)
        status = create_ring(store, f, err);
    if (status == CREDSTORE_OK)
        status = seal_meta(store, &f->sealed_meta, err);
    write_meta(store, &f->meta);
    return status;
}

static credstore_status put_founding(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_audit_entry entry = {.action = CS_ACTION_STORE_CREATE};
    founding *f = arg;
    const cs_buf *const values[] = {&f->meta, &f->sealed_meta, &f->slot, &f->ring.body,
                                    &f->ring.secret};
    enum { VALUES = sizeof values / sizeof *values };
    cs_key keys[VALUES], catalogue;
    bool there = false;
    credstore_bytes value;
    credstore_status status;

    cs_key_meta(&keys[0], false);
    cs_key_meta(&keys[1], true);
    cs_key_root(&keys[2], 0);
    cs_key_keyring(&keys[3], CS_PURPOSE_BODY);
    cs_key_keyring(&keys[4], CS_PURPOSE_SECRET);
    status = cs_txn_get(txn, &keys[0], &value, &f->lost, err);
    if (status != CREDSTORE_OK || f->lost)
        return status;
    for (size_t i = 1; i < VALUES && status == CREDSTORE_OK; i++) {
        status = cs_txn_get(txn, &keys[i], &value, &there, err);
        if (status == CREDSTORE_OK && there) /* its keys must not be written over */
            return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store has lost its header");
    }
    for (size_t i = 0; i < VALUES && status == CREDSTORE_OK; i++)
        status = cs_txn_put(txn, &keys[i], values[i], err);
    cs_key_catalogue(&catalogue);
    if (status == CREDSTORE_OK) /* empty, but there: its loss must be seen */
        status = cs_txn_put_sealed(txn, &catalogue, &catalogue_label, cs_bytes(NULL, 0), err);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

static credstore_status found(credstore *store, const credstore_key_source *source, bool *lost,
                              credstore_error *err)
{
    founding f = {0};
    const cs_work work = {put_founding, &f, 0};
    credstore_status status = prepare(store, source, &f, err);

    store->creating = true;
    if (status == CREDSTORE_OK)
        status = cs_txn_write(store, &work, err);
    store->creating = false;
    *lost = f.lost;
    if (f.lost || status != CREDSTORE_OK) {
        cs_ring_free_all(store);
        cs_store_keys_free(store);
    }
    cs_buf_free(&f.meta);
    cs_buf_free(&f.sealed_meta);
    cs_buf_free(&f.slot);
    cs_ring_values_free(&f.ring);
    return status;
}

/* A store in memory may do without a root key: it gets one that nobody knows. */
static credstore_status found_with_any_key(credstore *store, const credstore_key_source *given,
                                           bool *lost, credstore_error *err)
{
    uint8_t raw[CS_ROOT_KEY_LEN];
    credstore_key_source *own = NULL;
    credstore_status status = CREDSTORE_OK;

    if (given == NULL) {
        status = cs_store_random(store, raw, sizeof raw, err);
        if (status == CREDSTORE_OK)
            status = cs_key_source_new(raw, &own, err);
        cs_wipe(raw, sizeof raw);
    }
    if (status == CREDSTORE_OK)
        status = found(store, given == NULL ? own : given, lost, err);
    credstore_key_source_free(own);
    return status;
}

/* ---- catalogue ---- */

typedef struct numbering {
    cs_buf known, grown;
    size_t added;
} numbering;

static credstore_status number(cs_txn *txn, numbering *n, credstore_error *err)
{
    bool found_any = false;
    cs_key key;
    credstore_status status;

    cs_buf_free(&n->known);
    cs_buf_free(&n->grown);
    cs_key_catalogue(&key);
    status = cs_txn_get_sealed(txn, &key, &catalogue_label, &n->known, &found_any, err);
    if (status == CREDSTORE_OK &&
        !found_any) /* numbers given out anew would mean other permissions */
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store has lost its catalogue");
    if (status != CREDSTORE_OK)
        return status;
    return cs_catalogue_number(&txn->store->catalogue, cs_bytes(n->known.ptr, n->known.len),
                               &n->grown, &n->added, err);
}

static credstore_status put_catalogue(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_audit_entry entry = {.action = CS_ACTION_CATALOGUE};
    numbering *n = arg;
    cs_key key;
    credstore_status status = number(txn, n, err);

    if (status != CREDSTORE_OK || n->added == 0)
        return status;
    cs_key_catalogue(&key);
    status =
        cs_txn_put_sealed(txn, &key, &catalogue_label, cs_bytes(n->grown.ptr, n->grown.len), err);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

/* Numbers the host's permissions; a writer only where there are new ones. */
static credstore_status load_catalogue(credstore *store, credstore_error *err)
{
    numbering n = {0};
    const cs_work work = {put_catalogue, &n, 0};
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = number(&txn, &n, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK && n.added > 0 && store->read_only)
        cs_catalogue_forget(&store->catalogue, n.added);
    else if (status == CREDSTORE_OK && n.added > 0)
        status = cs_txn_write(store, &work, err);
    cs_buf_free(&n.known);
    cs_buf_free(&n.grown);
    return status;
}

/* ---- */

credstore_status cs_found_or_load(credstore *store, const credstore_options *options,
                                  const char *path, credstore_error *err)
{
    const bool in_memory = path == NULL && options->storage == NULL;
    bool there = false, lost = false;
    credstore_status status = load(store, options, &there, err);

    if (status != CREDSTORE_OK)
        return status;
    if (!there && !in_memory && (options->flags & CREDSTORE_OPEN_CREATE) == 0)
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, "path",
                       "There is no store, and CREATE is not set");
    if (!there && options->anchor != NULL)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, "anchor",
                       "There is no store, and the anchor is of one");
    if (!there)
        status = found_with_any_key(store, options->key, &lost, err);
    if (status == CREDSTORE_OK && lost)
        status = load(store, options, &there, err);
    if (status == CREDSTORE_OK)
        status = load_catalogue(store, err);
    return status == CREDSTORE_OK ? cs_store_make_decoy(store, err) : status;
}
