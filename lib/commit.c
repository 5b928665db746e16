/* SPDX-License-Identifier: MIT
 *
 * Making changes durable: who leads, what is run together, one head for all, and what becomes of
 * each when the whole fails.
 */
#include "commit.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "group.h"
#include "ring.h"
#include "sealed.h"
#include "time.h"

enum { LANE = 0, ATTEMPTS = 16 };
enum { GROUP_MAX = 64, GROUP_BYTES_MAX = 1 << 20 }; /* of one transaction */

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

/* Takes the head over from the change before it in the same transaction, or loads it, and lets
   nothing pass that is older than what this process had seen before it began: what others commit
   meanwhile is no rollback, but a conflict to come. committed: the head as it is on disk. */
static credstore_status take_head(cs_txn *txn, const cs_head *handed, const cs_head *committed,
                                  credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    if (txn->store->creating) {
        memset(&txn->head, 0, sizeof txn->head);
        txn->head.ring = txn->ring->version;
        txn->now = txn->clock;
        return CREDSTORE_OK;
    }
    if (handed != NULL)
        txn->head = *handed;
    else
        status = cs_head_load(txn, &txn->head, err);
    if (status != CREDSTORE_OK)
        return status;
    if (txn->head.generation < txn->seen)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL, "The store is older than it was");
    status = cs_ring_match(txn, txn->head.ring, err);
    if (status != CREDSTORE_OK)
        return status;
    remember(txn->store, handed == NULL ? &txn->head : committed);
    txn->now = cs_store_effective(txn->clock, txn->head.time);
    txn->clock_behind = txn->now < txn->head.time;
    return CREDSTORE_OK;
}

/* ---- writing ---- */

/* One call of cs_txn_write(). */
typedef struct writer {
    cs_waiter waiter; /* first */
    const cs_work *work;
    credstore_error *err;
    credstore_status status;
    bool ready;  /* it has its randomness */
    bool rests;  /* its answer rests on what one before it changed in the same transaction */
    bool undone; /* its answer does not hold: back into the line */
    cs_txn txn;
} writer;

/* One transaction, and those whose changes are in it. */
typedef struct batch {
    credstore *store;     /* the leader's */
    writer *first, *last; /* the leader, then the others as they came */
    unsigned count, changes;
    size_t bytes;
    void *handle;
    writer *changer;              /* the last one that changed something */
    cs_head committed, head;      /* before all of them; as the changer left it */
    uint8_t marker[CS_NONCE_LEN]; /* of the last audit entry */
    bool spoiled;                 /* a put or del failed: nothing of it can be kept */
    int32_t result;
} batch;

static writer *next_of(const writer *w)
{
    return (writer *)(void *)w->waiter.next;
}

/* Before each attempt: a nonce that went into a transaction is not used for another. */
static credstore_status renew(writer *w, credstore *store)
{
    cs_txn_prepare(store, &w->txn);
    w->status = cs_store_random(store, w->txn.random, sizeof w->txn.random, w->err);
    w->ready = w->status == CREDSTORE_OK;
    w->undone = false;
    return w->status;
}

/* So that it can be run as if it never had been, by itself or in whatever group takes it. */
static void start_over(writer *w)
{
    cs_error_clear(w->err);
    (void)renew(w, w->txn.store);
}

/* ---- the changes of a batch ---- */

/* A keyring that is not committed must not become another store's. */
static bool has_new_ring(const batch *b)
{
    return b->changer != NULL && b->head.ring != b->committed.ring;
}

static void run_one(batch *b, writer *w)
{
    static const uint8_t none[CS_NONCE_LEN] = {0};
    cs_txn *txn = &w->txn;
    cs_head before;

    if (!w->ready)
        return;
    w->rests = b->changer != NULL;
    txn->handle = b->handle;
    w->status = take_head(txn, w->rests ? &b->head : NULL, &b->committed, w->err);
    before = txn->head;
    if (w->status == CREDSTORE_OK)
        w->status = w->work->run(txn, w->work->arg, w->err);
    cs_txn_let_go(txn);
    b->spoiled = txn->again || (txn->changed && w->status != CREDSTORE_OK);
    if (txn->again)
        b->result = CREDSTORE_STORAGE_CONFLICT;
    if (b->spoiled || w->status != CREDSTORE_OK || !txn->changed)
        return;
    if (!w->rests)
        b->committed = before;
    txn->head.time = txn->now;
    b->head = txn->head;
    b->changer = w;
    b->changes++;
    b->bytes += txn->bytes;
    if (memcmp(txn->audit_nonce, none, sizeof none) != 0)
        memcpy(b->marker, txn->audit_nonce, sizeof b->marker);
}

static writer *take_another(batch *b)
{
    const credstore *store = b->store;
    writer *w;

    if (b->spoiled || !store->grouped || b->first->waiter.alone || b->count == GROUP_MAX ||
        b->bytes >= GROUP_BYTES_MAX || has_new_ring(b))
        return NULL;
    w = (writer *)(void *)cs_group_take(store->group);
    if (w == NULL)
        return NULL;
    b->last->waiter.next = &w->waiter;
    b->last = w;
    b->count++;
    return w;
}

/* Those who are in it already, if it is tried again; then those who wait, as long as there is room.
 */
static void run_all(batch *b)
{
    writer *w = b->first;

    for (; w != NULL && !b->spoiled; w = next_of(w)) {
        b->spoiled = has_new_ring(b);
        if (!b->spoiled)
            run_one(b, w);
    }
    while ((w = take_another(b)) != NULL)
        run_one(b, w);
}

/* One head for all, sealed by the last who changed something; then the commit. */
static void end_batch(batch *b)
{
    const credstore *store = b->store;
    writer *w = b->changer;

    if (w != NULL && !b->spoiled) {
        w->status = cs_head_put(&w->txn, w->err);
        b->spoiled = w->status != CREDSTORE_OK;
        if (w->txn.again)
            b->result = CREDSTORE_STORAGE_CONFLICT;
    }
    if (w == NULL || b->spoiled)
        store->storage->abort(store->storage_ctx, b->handle);
    else
        b->result = store->storage->commit(store->storage_ctx, b->handle);
}

/* ---- what became of them ---- */

/* After an unknown commit: the last audit entry carries a nonce that nobody else drew. */
static credstore_status find_marker(const batch *b, credstore_error *err)
{
    static const uint8_t none[CS_NONCE_LEN] = {0};
    credstore_bytes value = {0};
    bool found = false;
    cs_txn txn;
    cs_key key;
    cs_box box;
    credstore_status status = cs_txn_read(b->store, &txn, err);

    if (status == CREDSTORE_OK) {
        cs_key_audit(&key, LANE, b->head.last_seq);
        status = cs_txn_get(&txn, &key, &value, &found, err);
        if (status == CREDSTORE_OK && found)
            status = cs_value_box(value, &box, err);
        if (status == CREDSTORE_OK && found)
            found = memcmp(box.nonce, b->marker, CS_NONCE_LEN) == 0;
        cs_txn_end(&txn);
    }
    if (status == CREDSTORE_OK && !found && memcmp(b->marker, none, sizeof none) == 0)
        status = CREDSTORE_E_COMMIT_UNKNOWN; /* changes without an entry have no marker */
    if (status != CREDSTORE_OK)
        return CREDSTORE_E_COMMIT_UNKNOWN;
    return found ? CREDSTORE_OK : CREDSTORE_E_STORAGE;
}

static void fail(writer *w, credstore_status status, const char *message)
{
    cs_error_clear(w->err);
    w->status = cs_fail(w->err, status, NULL, message);
}

/* The marker decides for all who changed something; who looked at their changes, and made none,
   looks again. */
static void settle_unknown(batch *b)
{
    credstore_error reading = {0};
    const credstore_status status = find_marker(b, &reading);

    if (status == CREDSTORE_OK) {
        b->result = CREDSTORE_STORAGE_OK;
        return;
    }
    for (writer *w = b->first; w != NULL; w = next_of(w))
        if (!w->txn.changed)
            w->undone = w->rests;
        else if (status == CREDSTORE_E_STORAGE)
            fail(w, status, "The engine did not take the change");
        else
            fail(w, status, "The engine cannot tell whether the change is durable");
}

/* A batch that failed as a whole says nothing about its changes: each is run again alone. */
static void settle_failed(batch *b)
{
    writer *w = b->first;

    if (b->count == 1 && !b->spoiled)
        w->status = cs_engine_failed(
            b->store, b->result,
            b->result == CREDSTORE_STORAGE_BUSY ? cs_no_room : "The engine could not commit",
            w->err);
    for (; w != NULL && b->count > 1; w = next_of(w))
        w->undone = w->waiter.alone = true;
}

static void settle(batch *b)
{
    if (b->result == CREDSTORE_STORAGE_UNKNOWN)
        settle_unknown(b);
    if (b->result == CREDSTORE_STORAGE_CONFLICT)
        for (writer *w = b->first; w != NULL; w = next_of(w))
            fail(w, CREDSTORE_E_CONFLICT, "Others were faster each time; try again");
    else if (b->spoiled ||
             (b->result != CREDSTORE_STORAGE_OK && b->result != CREDSTORE_STORAGE_UNKNOWN))
        settle_failed(b);
    else if (b->changer != NULL && b->result == CREDSTORE_STORAGE_OK) {
        cs_group_count(b->store->group, b->changes);
        for (writer *w = b->first; w != NULL; w = next_of(w))
            w->txn.head = b->changer->txn.head;
    }
}

/* ---- leading ---- */

static bool begin_batch(batch *b)
{
    writer *leader = b->first;
    const credstore_status status =
        cs_txn_begin(b->store, true, leader->waiter.left_ms, &b->handle, leader->err);

    b->changer = NULL;
    b->changes = 0;
    b->bytes = 0;
    b->spoiled = false;
    b->result = CREDSTORE_STORAGE_OK;
    memset(b->marker, 0, sizeof b->marker);
    if (status == CREDSTORE_OK)
        return true;
    leader->status = status;
    for (writer *w = next_of(leader); w != NULL; w = next_of(w))
        w->undone = true; /* the next one leads them */
    return false;
}

/* 1, 2, 4 ... 64 ms, each cut by up to a half that the spare randomness picks. */
static void back_off(unsigned tries, uint8_t jitter)
{
    const long most = 1000000L << (tries < 6 ? tries : 6);
    const struct timespec pause = {0, most - most / 512 * jitter};

    nanosleep(&pause, NULL);
}

/* One transaction of the leader's and of those who wait; the same ones again after a conflict. */
static void run_batch(batch *b)
{
    for (unsigned tries = 0; tries < ATTEMPTS; tries++) {
        if (!begin_batch(b))
            return;
        run_all(b);
        end_batch(b);
        if (b->result != CREDSTORE_STORAGE_CONFLICT)
            break;
        back_off(tries, b->first->txn.random[CS_TXN_RANDOM - 1]);
        for (writer *w = b->first; w != NULL; w = next_of(w))
            start_over(w);
    }
    settle(b);
}

/* Takes the company apart: who is not done goes back into the line before all others. Between
   transactions: the clock and the random source are asked here, and not by who takes him next. */
static cs_waiter *dismiss(const batch *b)
{
    cs_waiter *done = NULL, *undone = NULL, **done_end = &done, **undone_end = &undone;
    writer *next;

    for (writer *w = next_of(b->first); w != NULL; w = next) {
        cs_waiter ***end = w->undone ? &undone_end : &done_end;

        next = next_of(w);
        w->waiter.next = NULL;
        if (w->undone)
            start_over(w);
        **end = &w->waiter;
        *end = &w->waiter.next;
    }
    if (undone != NULL)
        cs_group_put_back(b->store->group, undone);
    return done;
}

static void lead(credstore *store, writer *leader)
{
    batch b = {.store = store, .first = leader, .last = leader, .count = 1};
    batch alone = b;
    cs_waiter *done;

    run_batch(&b);
    done = dismiss(&b);
    if (leader->undone) {
        leader->waiter.next = NULL;
        leader->waiter.alone = true; /* nobody is left who would dismiss others */
        start_over(leader);
        run_batch(&alone);
    }
    if (store->grouped)
        cs_group_leave(store->group, done, b.count);
}

static void take_part(credstore *store, writer *w)
{
    const int64_t wait_ms = w->work->wait_ms == 0 ? store->wait_ms : w->work->wait_ms;
    cs_turn turn = CS_TURN_LEADS;

    w->waiter.left_ms = wait_ms;
    if (store->grouped)
        turn = cs_group_enter(store->group, &w->waiter, wait_ms);
    if (turn == CS_TURN_OVER)
        w->status = cs_fail(w->err, CREDSTORE_E_BUSY, NULL, cs_no_turn);
    if (turn != CS_TURN_LEADS)
        return;
    lead(store, w);
}

static const credstore_event clock_event = {.struct_size = sizeof clock_event,
                                            .type = CREDSTORE_EVENT_CLOCK};

credstore_status cs_txn_write(credstore *store, const cs_work *work, credstore_error *err)
{
    writer w = {.work = work, .err = err};
    int cancel_state;

    if (store->read_only)
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The store was opened read-only");
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    if (renew(&w, store) == CREDSTORE_OK)
        take_part(store, &w);
    if (w.status == CREDSTORE_OK && w.txn.changed)
        remember(store, &w.txn.head);
    if (w.status == CREDSTORE_OK && w.txn.clock_behind && store->event != NULL)
        store->event(store->event_ctx, &clock_event);
    cs_wipe(&w.txn, sizeof w.txn);
    (void)pthread_setcancelstate(cancel_state, NULL);
    if (w.status == CREDSTORE_E_CONFLICT)
        return cs_fail(err, w.status, NULL, "Others were faster each time; try again");
    return w.status;
}
