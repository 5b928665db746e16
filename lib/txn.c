/* SPDX-License-Identifier: MIT
 *
 * Transactions: closures, retries, the head, and what the engine hands over.
 */
#include "txn.h"

#include <string.h>
#include <time.h>

#include "error.h"
#include "ring.h"
#include "time.h"

enum { LANE = 0, ATTEMPTS = 16, HEAD_LEN = 8 + 8 + CS_CHAIN_LEN + 8 + 8 };

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
};

static int32_t take(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    sink->taken = true;
    sink->value = value;
    if (sink->visit == NULL || sink->visit(sink->arg, key, value))
        return CREDSTORE_STORAGE_OK;
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

static void free_copies(cs_txn *txn)
{
    while (txn->copies != NULL) {
        cs_copy *copy = txn->copies;

        txn->copies = copy->next;
        cs_free(copy);
    }
}

/* ---- single steps ---- */

static credstore_status engine_failed(const credstore *store, int32_t result, const char *message,
                                      credstore_error *err)
{
    const int32_t native =
        store->storage->native == NULL ? 0 : store->storage->native(store->storage_ctx);

    return cs_fail_storage(err, result, native, message);
}

static credstore_status begin(credstore *store, cs_txn *txn, bool write, int64_t wait_ms,
                              credstore_error *err)
{
    int32_t result;

    txn->store = store;
    txn->changed = false;
    memset(txn->audit_nonce, 0, sizeof txn->audit_nonce);
    txn->clock_behind = false;
    txn->copies = NULL;
    txn->handle = NULL;
    txn->random_used = 0;
    txn->ring = cs_store_ring(store); /* before the snapshot is taken */
    txn->seen = atomic_load(&store->seen_generation);
    txn->clock = cs_store_clock(store); /* the host's code, so before the engine's lock */
    result = store->storage->begin(store->storage_ctx, write ? 1 : 0, wait_ms, &txn->handle);
    if (result != CREDSTORE_STORAGE_OK)
        return engine_failed(store, result, "The engine could not begin a transaction", err);
    txn->now = cs_store_effective(txn->clock, atomic_load(&store->seen_time));
    return CREDSTORE_OK;
}

credstore_status cs_txn_read(credstore *store, cs_txn *txn, credstore_error *err)
{
    return begin(store, txn, false, 0, err);
}

void cs_txn_end(cs_txn *txn)
{
    txn->store->storage->abort(txn->store->storage_ctx, txn->handle);
    txn->handle = NULL;
    free_copies(txn);
}

credstore_status cs_txn_get(cs_txn *txn, const cs_key *key, credstore_bytes *value, bool *found,
                            credstore_error *err)
{
    const credstore *store = txn->store;
    credstore_sink sink = {.txn = txn};
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
    return engine_failed(store, result, "The engine could not read", err);
}

credstore_status cs_txn_scan(cs_txn *txn, const cs_key *from, const cs_key *to, const cs_scan *scan,
                             credstore_error *err)
{
    const credstore *store = txn->store;
    credstore_sink sink = {.txn = txn, .visit = scan->visit, .arg = scan->arg};
    const int32_t result =
        store->storage->scan(store->storage_ctx, txn->handle, cs_key_bytes(from), cs_key_bytes(to),
                             scan->reverse, scan->limit, &sink);

    if (sink.failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (result == CREDSTORE_STORAGE_OK)
        return CREDSTORE_OK;
    return engine_failed(store, result, "The engine could not read", err);
}

credstore_status cs_txn_del(cs_txn *txn, const cs_key *key, credstore_error *err)
{
    const credstore *store = txn->store;
    const int32_t result = store->storage->del(store->storage_ctx, txn->handle, cs_key_bytes(key));

    txn->changed = true;
    if (result == CREDSTORE_STORAGE_OK || result == CREDSTORE_STORAGE_NOT_FOUND)
        return CREDSTORE_OK;
    return engine_failed(store, result, "The engine could not delete", err);
}

credstore_status cs_txn_put(cs_txn *txn, const cs_key *key, const cs_buf *value,
                            credstore_error *err)
{
    const credstore *store = txn->store;
    int32_t result;

    if (value->failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    txn->changed = true;
    result = store->storage->put(store->storage_ctx, txn->handle, cs_key_bytes(key),
                                 cs_bytes(value->ptr, value->len));
    if (result == CREDSTORE_STORAGE_OK)
        return CREDSTORE_OK;
    return engine_failed(store, result, "The engine could not write", err);
}

const uint8_t *cs_txn_random(cs_txn *txn, size_t len)
{
    if (len > CS_TXN_RANDOM - txn->random_used)
        return NULL;
    txn->random_used += len;
    return txn->random + txn->random_used - len;
}

/* ---- sealed values ---- */

credstore_status cs_txn_seal(cs_txn *txn, uint8_t purpose, const cs_label *label,
                             credstore_bytes plain, cs_buf *out, uint8_t tag[CS_TAG_LEN],
                             credstore_error *err)
{
    const cs_data_key *key = cs_keyring_active(txn->ring, purpose);
    const uint8_t *nonce = cs_txn_random(txn, CS_NONCE_LEN);

    if (nonce == NULL)
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more nonces than it drew");
    if (key->handle == NULL)
        return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, NULL,
                       "The root key given at open does not open secrets, so none can be stored");
    return cs_seal(&txn->store->sealer, key, label, nonce, plain, out, tag, err);
}

credstore_status cs_txn_put_sealed(cs_txn *txn, const cs_key *key, const cs_label *label,
                                   credstore_bytes plain, credstore_error *err)
{
    cs_buf value = {0};
    credstore_status status;

    cs_buf_u8(&value, CS_FORMAT);
    status = cs_txn_seal(txn, CS_PURPOSE_BODY, label, plain, &value, NULL, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, key, &value, err);
    cs_buf_free(&value);
    return status;
}

credstore_status cs_txn_unseal(cs_txn *txn, uint8_t purpose, const cs_label *label,
                               const cs_box *box, uint8_t *out, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    if (!cs_keyring_lists(txn->ring, purpose, box->key_id))
        status = cs_ring_refresh(txn, err);
    return status == CREDSTORE_OK
               ? cs_keyring_unseal(&txn->store->sealer, txn->ring, purpose, label, box, out, err)
               : status;
}

credstore_status cs_txn_get_sealed(cs_txn *txn, const cs_key *key, const cs_label *label,
                                   cs_buf *plain, bool *found, credstore_error *err)
{
    credstore_bytes value;
    cs_box box;
    credstore_status status = cs_txn_get(txn, key, &value, found, err);

    if (status != CREDSTORE_OK || !*found)
        return status;
    status = cs_value_box(value, &box, err);
    if (status != CREDSTORE_OK)
        return status;
    if (cs_buf_room(plain, box.sealed.len) == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return cs_txn_unseal(txn, CS_PURPOSE_BODY, label, &box, plain->ptr, err);
}

/* ---- the head ---- */

static const cs_label head_label = {.role = CS_ROLE_HEAD, .field = LANE};

credstore_status cs_head_read(cs_txn *txn, cs_head *head, bool *found, credstore_error *err)
{
    cs_buf plain = {0};
    cs_key key;
    credstore_status status;

    memset(head, 0, sizeof *head);
    cs_key_head(&key, LANE);
    status = cs_txn_get_sealed(txn, &key, &head_label, &plain, found, err);
    if (status == CREDSTORE_OK && *found && plain.len != HEAD_LEN)
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The head has an impossible length");
    if (status == CREDSTORE_OK && *found) {
        head->generation = cs_get_u64(plain.ptr);
        head->last_seq = cs_get_u64(plain.ptr + 8);
        memcpy(head->chain, plain.ptr + 16, CS_CHAIN_LEN);
        head->time = (int64_t)cs_get_u64(plain.ptr + 16 + CS_CHAIN_LEN);
        head->ring = cs_get_u64(plain.ptr + 24 + CS_CHAIN_LEN);
    }
    cs_buf_free(&plain);
    return status;
}

static credstore_status put_head(cs_txn *txn, credstore_error *err)
{
    uint8_t plain[HEAD_LEN];
    cs_key key;

    txn->head.generation++;
    txn->head.time = txn->now;
    cs_put_u64(plain, txn->head.generation);
    cs_put_u64(plain + 8, txn->head.last_seq);
    memcpy(plain + 16, txn->head.chain, CS_CHAIN_LEN);
    cs_put_u64(plain + 16 + CS_CHAIN_LEN, (uint64_t)txn->head.time);
    cs_put_u64(plain + 24 + CS_CHAIN_LEN, txn->head.ring);
    cs_key_head(&key, LANE);
    return cs_txn_put_sealed(txn, &key, &head_label, cs_bytes(plain, sizeof plain), err);
}

/* The time first, and by itself: between two threads' heads the older one must not come last. It
   goes back only where the clock that ran ahead was given up. */
static void remember(credstore *store, const cs_head *head)
{
    uint64_t seen = atomic_load(&store->seen_generation);
    int64_t time = atomic_load(&store->seen_time);

    while ((time < head->time || time - head->time >= CS_DAY_MS) &&
           !atomic_compare_exchange_weak(&store->seen_time, &time, head->time))
        continue;
    while (seen < head->generation &&
           !atomic_compare_exchange_weak(&store->seen_generation, &seen, head->generation))
        continue;
}

/* Loads the head of a write transaction, and lets nothing pass that is older than what this process
   had seen before it began: what others commit meanwhile is no rollback, but a conflict to come. */
static credstore_status take_head(cs_txn *txn, credstore_error *err)
{
    bool found = false;
    credstore_status status;

    if (txn->store->creating) {
        memset(&txn->head, 0, sizeof txn->head);
        txn->head.ring = txn->ring->version;
        return CREDSTORE_OK;
    }
    status = cs_head_read(txn, &txn->head, &found, err);
    if (status != CREDSTORE_OK)
        return status;
    if (!found)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The store has lost its head");
    if (txn->head.generation < txn->seen)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL, "The store is older than it was");
    status = cs_ring_match(txn, txn->head.ring, err);
    if (status != CREDSTORE_OK)
        return status;
    remember(txn->store, &txn->head);
    txn->now = cs_store_effective(txn->clock, txn->head.time);
    txn->clock_behind = txn->now < txn->head.time;
    return CREDSTORE_OK;
}

/* ---- writing ---- */

/* After an unknown commit: our last audit entry carries a nonce that nobody else drew. */
static credstore_status find_marker(credstore *store, const cs_txn *done, credstore_error *err)
{
    static const uint8_t none[CS_NONCE_LEN] = {0};
    credstore_error reading = {0};
    credstore_bytes value = {0};
    bool found = false;
    cs_txn txn;
    cs_key key;
    cs_box box;
    credstore_status status = cs_txn_read(store, &txn, &reading);

    if (status == CREDSTORE_OK) {
        cs_key_audit(&key, LANE, done->head.last_seq);
        status = cs_txn_get(&txn, &key, &value, &found, &reading);
        if (status == CREDSTORE_OK && found)
            status = cs_value_box(value, &box, &reading);
        if (status == CREDSTORE_OK && found)
            found = memcmp(box.nonce, done->audit_nonce, CS_NONCE_LEN) == 0;
        cs_txn_end(&txn);
    }
    if (status == CREDSTORE_OK && !found && memcmp(done->audit_nonce, none, sizeof none) == 0)
        status = CREDSTORE_E_COMMIT_UNKNOWN; /* a change without an entry has no marker */
    if (status != CREDSTORE_OK)
        return cs_fail(err, CREDSTORE_E_COMMIT_UNKNOWN, NULL,
                       "The engine cannot tell whether the change is durable");
    if (!found)
        return cs_fail(err, CREDSTORE_E_STORAGE, NULL, "The engine did not take the change");
    return CREDSTORE_OK;
}

/* One attempt. *result is the engine's word where it matters for trying again. */
static credstore_status attempt(credstore *store, const cs_work *work, cs_txn *txn, int32_t *result,
                                credstore_error *err)
{
    const int64_t wait_ms = work->wait_ms == 0 ? store->wait_ms : work->wait_ms;
    credstore_status status = cs_store_random(store, txn->random, sizeof txn->random, err);

    *result = CREDSTORE_STORAGE_OK;
    if (status == CREDSTORE_OK)
        status = begin(store, txn, true, wait_ms, err);
    if (status != CREDSTORE_OK)
        return status;
    status = take_head(txn, err);
    if (status == CREDSTORE_OK)
        status = work->run(txn, work->arg, err);
    if (status == CREDSTORE_OK && txn->changed)
        status = put_head(txn, err);
    if (status != CREDSTORE_OK || !txn->changed) {
        cs_txn_end(txn);
        return status;
    }
    *result = store->storage->commit(store->storage_ctx, txn->handle);
    txn->handle = NULL;
    free_copies(txn);
    if (*result == CREDSTORE_STORAGE_OK)
        return CREDSTORE_OK;
    if (*result == CREDSTORE_STORAGE_CONFLICT)
        return CREDSTORE_E_CONFLICT;
    if (*result == CREDSTORE_STORAGE_UNKNOWN)
        return find_marker(store, txn, err);
    return engine_failed(store, *result, "The engine could not commit", err);
}

static const credstore_event clock_event = {.struct_size = sizeof clock_event,
                                            .type = CREDSTORE_EVENT_CLOCK};

/* 1, 2, 4 ... 64 ms, each cut by up to a half that the spare randomness picks. */
static void back_off(unsigned tries, uint8_t jitter)
{
    const long most = 1000000L << (tries < 6 ? tries : 6);
    const struct timespec pause = {0, most - most / 512 * jitter};

    nanosleep(&pause, NULL);
}

credstore_status cs_txn_write(credstore *store, const cs_work *work, credstore_error *err)
{
    credstore_status status = CREDSTORE_E_CONFLICT;
    int32_t result = CREDSTORE_STORAGE_CONFLICT;
    cs_txn txn;

    if (store->read_only)
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The store was opened read-only");
    for (unsigned tries = 0; tries < ATTEMPTS; tries++) {
        status = attempt(store, work, &txn, &result, err);
        if (result != CREDSTORE_STORAGE_CONFLICT)
            break;
        back_off(tries, txn.random[CS_TXN_RANDOM - 1]);
    }
    if (status == CREDSTORE_OK && txn.changed)
        remember(store, &txn.head);
    if (status == CREDSTORE_OK && txn.clock_behind && store->event != NULL)
        store->event(store->event_ctx, &clock_event);
    cs_wipe(&txn, sizeof txn);
    if (status == CREDSTORE_E_CONFLICT)
        return cs_fail(err, status, NULL, "Others were faster each time; try again");
    return status;
}
