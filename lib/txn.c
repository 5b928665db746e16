/* SPDX-License-Identifier: MIT
 *
 * Transactions: their single steps, and what the engine hands over.
 */
#include "txn.h"

#include <string.h>

#include "error.h"
#include "time.h"

/* ---- what get and scan hand over ---- */

typedef struct cs_copy {
    struct cs_copy *next;
    size_t len;
} cs_copy;

struct credstore_sink {
    cs_txn *txn;
    cs_visit *visit; /* NULL: a get */
    void *arg;
    credstore_bytes value;
    bool taken, failed; /* failed: memory was out, whatever the engine makes of that */
    bool passing;       /* see cs_scan */
    bool ended;         /* nothing more is shown, whether or not the engine obeys */
    uint32_t left;      /* of the limit; 0 = none */
};

static int32_t take(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    if (sink->ended)
        return CREDSTORE_STORAGE_STOP;
    sink->taken = true;
    sink->value = value;
    sink->ended = sink->left == 1;
    if (sink->left > 1)
        sink->left--;
    if (sink->visit == NULL || sink->visit(sink->arg, key, value))
        return CREDSTORE_STORAGE_OK;
    sink->ended = true;
    return CREDSTORE_STORAGE_STOP;
}

int32_t credstore_sink_borrow(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    return take(sink, key, value);
}

int32_t credstore_sink_copy(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    size_t size;
    cs_copy *copy;

    if (sink->ended)
        return CREDSTORE_STORAGE_STOP;
    if (sink->passing)
        return take(sink, key, value);
    if (!cs_add(sizeof *copy, value.len, &size))
        return CREDSTORE_STORAGE_TOO_LARGE;
    copy = cs_alloc(1, size);
    sink->failed = sink->failed || copy == NULL;
    if (copy == NULL)
        return CREDSTORE_STORAGE_NO_MEMORY;
    if (value.len > 0)
        memcpy(copy + 1, value.ptr, value.len);
    copy->len = value.len;
    copy->next = sink->txn->copies;
    sink->txn->copies = copy;
    return take(sink, key, cs_bytes(copy + 1, value.len));
}

void cs_txn_let_go(cs_txn *txn)
{
    while (txn->copies != NULL) {
        cs_copy *copy = txn->copies;

        txn->copies = copy->next;
        cs_free(copy);
    }
}

/* ---- single steps ---- */

credstore_status cs_engine_failed(const credstore *store, int32_t result, const char *message,
                                  credstore_error *err)
{
    const int32_t native =
        store->storage->native == NULL ? 0 : store->storage->native(store->storage_ctx);

    return cs_fail_storage(err, result, native, message);
}

/* What is asked before the engine's transaction begins. */
void cs_txn_prepare(credstore *store, cs_txn *txn)
{
    txn->store = store;
    txn->changed = false;
    txn->again = false;
    memset(txn->audit_nonce, 0, sizeof txn->audit_nonce);
    txn->clock_behind = false;
    txn->copies = NULL;
    txn->handle = NULL;
    txn->random_used = 0;
    txn->bytes = 0;
    txn->ring = cs_store_ring(store); /* before the snapshot is taken */
    txn->seen = atomic_load(&store->seen_generation);
    txn->clock = cs_store_clock(store); /* the host's code, so before the engine's lock */
}

/* What an engine that answers BUSY was asked for. */
const char cs_no_turn[] = "The writer's turn did not come in time";
static const char no_place[] = "The engine had no place for a reader, or was making room, too long";
const char cs_no_room[] = "The engine cannot make room as long as reads are under way";

credstore_status cs_txn_begin(credstore *store, bool write, int64_t wait_ms, void **handle,
                              credstore_error *err)
{
    const int32_t result =
        store->storage->begin(store->storage_ctx, write ? 1 : 0, wait_ms, handle);

    if (result == CREDSTORE_STORAGE_BUSY)
        return cs_engine_failed(store, result, write ? cs_no_turn : no_place, err);
    if (result != CREDSTORE_STORAGE_OK)
        return cs_engine_failed(store, result, "The engine could not begin a transaction", err);
    return CREDSTORE_OK;
}

credstore_status cs_txn_read(credstore *store, cs_txn *txn, credstore_error *err)
{
    credstore_status status;

    cs_txn_prepare(store, txn);
    status = cs_txn_begin(store, false, 0, &txn->handle, err);
    if (status == CREDSTORE_OK)
        txn->now = cs_store_effective(txn->clock, atomic_load(&store->seen_time));
    return status;
}

void cs_txn_end(cs_txn *txn)
{
    txn->store->storage->abort(txn->store->storage_ctx, txn->handle);
    txn->handle = NULL;
    cs_txn_let_go(txn);
}

credstore_status cs_txn_get(cs_txn *txn, const cs_key *key, credstore_bytes *value, bool *found,
                            credstore_error *err)
{
    const credstore *store = txn->store;
    credstore_sink sink = {.txn = txn, .left = 1};
    const int32_t result =
        store->storage->get(store->storage_ctx, txn->handle, cs_key_bytes(key), &sink);

    *found = result == CREDSTORE_STORAGE_OK && sink.taken;
    *value = sink.value;
    if (sink.failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (*found || result == CREDSTORE_STORAGE_NOT_FOUND)
        return CREDSTORE_OK;
    if (result == CREDSTORE_STORAGE_OK)
        return cs_fail(err, CREDSTORE_E_STORAGE, NULL, "The engine found a key and gave no value");
    return cs_engine_failed(store, result, "The engine could not read", err);
}

credstore_status cs_txn_scan(cs_txn *txn, const cs_key *from, const cs_key *to, const cs_scan *scan,
                             credstore_error *err)
{
    const credstore *store = txn->store;
    credstore_sink sink = {.txn = txn,
                           .visit = scan->visit,
                           .arg = scan->arg,
                           .left = scan->limit,
                           .passing = scan->passing};
    const int32_t result =
        store->storage->scan(store->storage_ctx, txn->handle, cs_key_bytes(from), cs_key_bytes(to),
                             scan->reverse, scan->limit, &sink);

    if (sink.failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (result == CREDSTORE_STORAGE_OK)
        return CREDSTORE_OK;
    return cs_engine_failed(store, result, "The engine could not read", err);
}

/* An engine that made room asks for another attempt: nothing has failed yet, so err stays clean. */
static credstore_status change_failed(cs_txn *txn, int32_t result, const char *message,
                                      credstore_error *err)
{
    if (result == CREDSTORE_STORAGE_BUSY)
        message = cs_no_room;
    txn->again = txn->again || result == CREDSTORE_STORAGE_CONFLICT;
    return txn->again ? CREDSTORE_E_CONFLICT : cs_engine_failed(txn->store, result, message, err);
}

credstore_status cs_txn_del(cs_txn *txn, const cs_key *key, credstore_error *err)
{
    const credstore *store = txn->store;
    const int32_t result = store->storage->del(store->storage_ctx, txn->handle, cs_key_bytes(key));

    txn->changed = true;
    txn->bytes += key->len;
    if (result == CREDSTORE_STORAGE_OK || result == CREDSTORE_STORAGE_NOT_FOUND)
        return CREDSTORE_OK;
    return change_failed(txn, result, "The engine could not delete", err);
}

credstore_status cs_txn_put(cs_txn *txn, const cs_key *key, const cs_buf *value,
                            credstore_error *err)
{
    const credstore *store = txn->store;
    int32_t result;

    if (value->failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    txn->changed = true;
    txn->bytes += key->len + value->len;
    result = store->storage->put(store->storage_ctx, txn->handle, cs_key_bytes(key),
                                 cs_bytes(value->ptr, value->len));
    if (result == CREDSTORE_STORAGE_OK)
        return CREDSTORE_OK;
    return change_failed(txn, result, "The engine could not write", err);
}

const uint8_t *cs_txn_random(cs_txn *txn, size_t len)
{
    if (len > CS_TXN_RANDOM - txn->random_used)
        return NULL;
    txn->random_used += len;
    return txn->random + txn->random_used - len;
}
