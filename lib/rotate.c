/* SPDX-License-Identifier: MIT
 *
 * Rotation of the data keys: listing them, promoting new ones, sealing anew what lies under the old
 * ones, and retiring these once a whole round has found nothing under them.
 *
 * Why a round is a proof though it looks at a snapshot after the other: since the promotion nobody
 * seals under a retiring key. Boxes are copied byte for byte only within one record, and a record
 * with its history is looked at in one snapshot. So what was found clean stays clean.
 */
#include <string.h>

#include "block.h"
#include "commit.h"
#include "error.h"
#include "kind.h"
#include "op.h"
#include "place.h"
#include "reseal.h"
#include "ring.h"
#include "sealed.h"
#include "time.h"

/* Clean values are looked at without writing; so many, and the place is kept all the same. */
enum { TRIES = 8, SAVE_EVERY = 128 * 1024, COUNT_AT_ONCE = 8192, COUNTING = 0 };

static const uint32_t rotating = UINT32_C(1) << CS_PURPOSE_BODY | UINT32_C(1) << CS_PURPOSE_SECRET;

static credstore_status begin(cs_op *op, credstore *store, const credstore_call *call,
                              credstore_error *err)
{
    const credstore_status status = cs_op_begin_store(op, store, call, err);

    if (status != CREDSTORE_OK)
        return status;
    if (store->read_only)
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The store was opened read-only");
    if (!store->keys.can_reveal)
        return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, NULL,
                       "The root key given at open does not open secrets");
    return status;
}

/* The ring that the snapshot's head tells of becomes the transaction's. */
static credstore_status match_ring(cs_txn *txn, credstore_error *err)
{
    cs_head head;
    const credstore_status status = cs_head_load(txn, &head, err);

    return status == CREDSTORE_OK ? cs_ring_match(txn, head.ring, err) : status;
}

/* ---- the cursor ---- */

typedef struct cursor {
    uint64_t ring;  /* the keyring's version that it is about */
    uint32_t round; /* COUNTING, then 1 and on */
    bool forsook;   /* what of this round is unreadable was given up, and not left to be mended */
    uint64_t done;  /* values of this round that were looked at */
    uint64_t total; /* values of the round before */
    uint64_t
        due; /* found under a retiring key in this round, and sealed anew or left for the next */
    uint64_t unreadable, newer; /* as in cs_reseal, of this round */
    cs_key next;                /* where to go on */
    cs_key bad;                 /* as in cs_reseal */
} cursor;

enum { CURSOR_HEAD = 8 + 4 + 5 * 8 + 2 };
#define FORSOOK (UINT32_C(1) << 31) /* beside the round */
static const cs_label cursor_label = {.role = CS_ROLE_ROTATION};

static void encode(const cursor *c, cs_buf *out)
{
    const uint64_t numbers[] = {c->done, c->total, c->due, c->unreadable, c->newer};

    cs_buf_u64(out, c->ring);
    cs_buf_u32(out, c->round | (c->forsook ? FORSOOK : 0));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cs_buf_u64(out, numbers[i]);
    cs_buf_u16(out, (uint16_t)c->next.len);
    cs_buf_add(out, c->next.ptr, c->next.len);
    cs_buf_add(out, c->bad.ptr, c->bad.len);
}

static bool decode(credstore_bytes in, cursor *c)
{
    uint64_t *const numbers[] = {&c->done, &c->total, &c->due, &c->unreadable, &c->newer};
    const uint8_t *p = in.ptr;

    memset(c, 0, sizeof *c);
    if (in.len < CURSOR_HEAD)
        return false;
    c->ring = cs_get_u64(p);
    c->round = cs_get_u32(p + 8) & ~FORSOOK;
    c->forsook = (cs_get_u32(p + 8) & FORSOOK) != 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        *numbers[i] = cs_get_u64(p + 12 + 8 * i);
    c->next.len = cs_get_u16(p + CURSOR_HEAD - 2);
    if (c->next.len > CS_KEY_MAX || c->next.len > in.len - CURSOR_HEAD)
        return false;
    c->bad.len = in.len - CURSOR_HEAD - c->next.len;
    if (c->bad.len > CS_KEY_MAX)
        return false;
    memcpy(c->next.ptr, p + CURSOR_HEAD, c->next.len);
    memcpy(c->bad.ptr, p + CURSOR_HEAD + c->next.len, c->bad.len);
    return true;
}

static void begin_round(cursor *c, uint32_t round)
{
    c->round = round;
    if (c->done > 0)
        c->total = c->done;
    c->done = c->due = c->unreadable = c->newer = 0;
    c->bad.len = 0;
    c->next.len = 1;
    c->next.ptr[0] = CS_TABLE_META;
}

/* ---- promoting ---- */

typedef struct turning {
    cs_op op;
    cs_ring_values now, next;
    uint8_t action;
    bool moved; /* the keyring is another one by now */
} turning;

static credstore_status read_values(turning *t, credstore_error *err)
{
    cs_txn txn;
    credstore_status status = cs_txn_read(t->op.store, &txn, err);

    cs_ring_values_free(&t->now);
    cs_ring_values_free(&t->next);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_ring_read(&txn, &t->now, err);
    cs_txn_end(&txn);
    return status;
}

/* Puts the next keyring in the place of the one that it was made of. The cursor was about that. */
static credstore_status put_next(cs_txn *txn, void *arg, credstore_error *err)
{
    turning *t = arg;
    cs_audit_entry entry = cs_op_entry(&t->op, t->action);
    cs_key key;
    credstore_status status;

    t->moved = txn->head.ring + 1 != t->next.version;
    if (t->moved)
        return CREDSTORE_OK;
    cs_key_rotation(&key);
    entry.revision = t->next.version;
    status = cs_txn_del(txn, &key, err);
    if (status == CREDSTORE_OK)
        status = cs_audit_append(txn, &entry, err);
    return status == CREDSTORE_OK ? cs_ring_put(txn, &t->next, err) : status;
}

static credstore_status promote(turning *t, uint32_t purposes, credstore_error *err)
{
    const credstore *store = t->op.store;
    const uint64_t expected = t->op.call.expected_revision;
    const cs_work work = {put_next, t, t->op.call.wait_ms};

    for (int tries = 0; tries < TRIES; tries++) {
        credstore_status status = read_values(t, err);

        if (status == CREDSTORE_OK)
            status = cs_keyring_promote(&store->sealer, &store->keys, store->arena, &t->now,
                                        purposes, &t->next, err);
        if (status == CREDSTORE_OK && expected != 0 && expected != CREDSTORE_MUST_EXIST &&
            expected != t->next.version - 1)
            status = cs_fail(err, CREDSTORE_E_REVISION, NULL, "The keyring is at another version");
        if (status == CREDSTORE_OK)
            status = cs_txn_write(t->op.store, &work, err);
        if (status != CREDSTORE_OK || !t->moved)
            return status;
    }
    return cs_fail(err, CREDSTORE_E_CONFLICT, NULL, "Others were faster each time; try again");
}

credstore_status credstore_keys_promote(credstore *store, const credstore_call *call,
                                        uint32_t purposes, credstore_error *err)
{
    const uint32_t all = CREDSTORE_KEYS_BODY | CREDSTORE_KEYS_SECRET;
    turning t = {.action = CS_ACTION_KEYS_PROMOTE};
    credstore_status status;

    cs_error_clear(err);
    status = begin(&t.op, store, call, err);
    if (status == CREDSTORE_OK && (purposes & ~all) != 0)
        status = cs_fail(err, CREDSTORE_E_INVALID, "purposes", "BODY, SECRET, or 0 for both");
    if (status == CREDSTORE_OK) /* bit p is the purpose p */
        status = promote(&t, purposes == 0 ? rotating : purposes << CS_PURPOSE_BODY, err);
    cs_ring_values_free(&t.now);
    cs_ring_values_free(&t.next);
    return status;
}

/* ---- sealing anew ---- */

typedef struct rotation {
    cs_op op;
    bool forsake;
    bool loaded;   /* at is where the store says that it stands, or later */
    bool finished; /* nothing is retiring any more */
    bool moved;    /* the keyring is another one by now */
    cursor at;
    uint64_t unsaved; /* values looked at since it was saved */
    cs_reseal batch;
} rotation;

static credstore_status load_cursor(rotation *r, cs_txn *txn, credstore_error *err)
{
    cs_buf plain = {0};
    bool found = false;
    cs_key key;
    credstore_status status;

    cs_key_rotation(&key);
    memset(&r->at, 0, sizeof r->at);
    status = cs_txn_get_sealed(txn, &key, &cursor_label, &plain, &found, err);
    if (status == CREDSTORE_OK && found && !decode(cs_bytes(plain.ptr, plain.len), &r->at))
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The rotation's cursor is damaged");
    r->loaded = status == CREDSTORE_OK;
    cs_buf_free(&plain);
    return status;
}

/* Of another keyring: that rotation is over, or another promotion came between. A round that left
   values to be mended, and all that lies with them, proves nothing to one that gives them up. */
static credstore_status find_place(rotation *r, cs_txn *txn, credstore_error *err)
{
    const credstore_status status = r->loaded ? CREDSTORE_OK : load_cursor(r, txn, err);

    if (status != CREDSTORE_OK)
        return status;
    if (r->at.ring != txn->ring->version) {
        memset(&r->at, 0, sizeof r->at);
        r->at.ring = txn->ring->version;
        begin_round(&r->at, COUNTING);
    } else if (r->forsake && !r->at.forsook && r->at.unreadable > 0) {
        begin_round(&r->at, r->at.round);
    }
    r->at.forsook = r->forsake;
    return status;
}

static bool visit_counting(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_reseal *batch = arg;

    (void)value;
    if (batch->seen < COUNT_AT_ONCE) {
        batch->seen++;
        return true;
    }
    batch->next.len = key.len <= CS_KEY_MAX ? key.len : CS_KEY_MAX;
    memcpy(batch->next.ptr, key.ptr, batch->next.len);
    return false;
}

static credstore_status read_batch(rotation *r, cs_txn *txn, credstore_error *err)
{
    const cs_scan counting = {.visit = visit_counting, .arg = &r->batch, .passing = true};
    const cs_key to_the_end = {0};
    credstore_status status = match_ring(txn, err);

    r->finished = status == CREDSTORE_OK && !cs_keyring_rotates(txn->ring);
    if (status != CREDSTORE_OK || r->finished)
        return status;
    status = find_place(r, txn, err);
    if (status != CREDSTORE_OK || r->at.next.len == 0) /* the cursor stood at a round's end */
        return status;
    return r->at.round == COUNTING ? cs_txn_scan(txn, &r->at.next, &to_the_end, &counting, err)
                                   : cs_reseal_read(txn, &r->at.next, &r->batch, err);
}

static credstore_status look(rotation *r, credstore_error *err)
{
    cs_txn txn;
    credstore_status status = cs_txn_read(r->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = read_batch(r, &txn, err);
    cs_txn_end(&txn);
    return status;
}

/* What is said of a place holds whoever says it, so that another process at the same work, which
   may be at another place, does no harm. */
static credstore_status put_batch(cs_txn *txn, void *arg, credstore_error *err)
{
    rotation *r = arg;
    cs_buf plain = {0};
    cs_key key;
    credstore_status status;

    r->moved = txn->head.ring != r->at.ring;
    if (r->moved)
        return CREDSTORE_OK;
    status = cs_reseal_confirm(txn, &r->batch, err);
    encode(&r->at, &plain);
    if (status == CREDSTORE_OK && plain.failed)
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (status == CREDSTORE_OK)
        status = cs_reseal_put(txn, &r->batch, err);
    cs_key_rotation(&key);
    if (status == CREDSTORE_OK)
        status = cs_txn_put_sealed(txn, &key, &cursor_label, cs_bytes(plain.ptr, plain.len), err);
    cs_buf_free(&plain);
    return status;
}

/* Writes the batch, if there is one, and the cursor. */
static credstore_status save(rotation *r, credstore_error *err)
{
    const cs_work work = {put_batch, r, r->op.call.wait_ms};
    const credstore_status status = cs_txn_write(r->op.store, &work, err);

    r->loaded = status == CREDSTORE_OK && !r->moved;
    if (r->loaded)
        r->unsaved = 0;
    return status;
}

static credstore_status retire(rotation *r, credstore_error *err)
{
    const credstore *store = r->op.store;
    turning t = {.op = r->op, .action = CS_ACTION_KEYS_RETIRE};
    const cs_work work = {put_next, &t, r->op.call.wait_ms};
    credstore_status status = read_values(&t, err);

    if (status == CREDSTORE_OK)
        status =
            cs_keyring_retire(&store->sealer, &store->keys, store->arena, &t.now, &t.next, err);
    if (status == CREDSTORE_OK)
        r->finished = t.next.version == r->at.ring + 1; /* of the ring that was proved about */
    if (status == CREDSTORE_OK && r->finished)
        status = cs_txn_write(r->op.store, &work, err);
    r->finished = r->finished && status == CREDSTORE_OK && !t.moved;
    r->loaded = r->finished;
    cs_ring_values_free(&t.now);
    cs_ring_values_free(&t.next);
    return status;
}

/* A round that found nothing under a retiring key is the proof. What cannot be opened is no reason
   to begin again, but one to keep the keys. */
static credstore_status end_round(rotation *r, credstore_error *err)
{
    const bool proved = r->at.round != COUNTING && r->at.due == 0;
    const bool newer = r->at.newer > 0, unreadable = r->at.unreadable > 0 && !r->forsake;
    const cs_key bad = r->at.bad;
    cs_place place;
    credstore_status status;

    if (proved && !newer && !unreadable)
        return retire(r, err);
    begin_round(&r->at, proved ? 1 : r->at.round + 1);
    if (!proved)
        return CREDSTORE_OK;
    cs_reseal_free(&r->batch);
    (void)cs_place_of(cs_key_bytes(&bad), cs_bytes(NULL, 0), &place); /* for the name alone */
    status = save(r, err);
    if (status != CREDSTORE_OK || r->moved)
        return status;
    if (newer)
        return cs_fail(
            err, CREDSTORE_E_FORMAT, place.name,
            "A newer library's record is under a retiring key: rotate with that library");
    return cs_fail(err, CREDSTORE_E_INTEGRITY, place.name,
                   "The old keys stay: damage lies under them. Put it right, or give it up with "
                   "CREDSTORE_KEYS_FORSAKE");
}

static void advance(rotation *r)
{
    r->at.done += r->batch.seen;
    r->at.due += r->batch.due;
    r->at.unreadable += r->batch.unreadable;
    r->at.newer += r->batch.newer;
    if (r->at.bad.len == 0)
        r->at.bad = r->batch.bad;
    r->at.next = r->batch.next;
    r->unsaved += r->batch.seen;
}

static credstore_status step(rotation *r, credstore_error *err)
{
    credstore_status status;

    cs_reseal_free(&r->batch);
    memset(&r->batch, 0, sizeof r->batch);
    r->batch.forsake = r->forsake;
    r->moved = false;
    status = look(r, err);
    if (status == CREDSTORE_OK && !r->finished)
        status = cs_reseal_make(&r->batch, err);
    if (status != CREDSTORE_OK || r->finished)
        return status;
    advance(r);
    if (r->batch.due > 0 || r->unsaved >= SAVE_EVERY)
        status = save(r, err);
    if (status != CREDSTORE_OK || r->moved || r->at.next.len > 0)
        return status;
    return end_round(r, err);
}

/* Between two steps, with no transaction open. At least two rounds of about as many values each:
   one that seals anew, and the proof. */
static void tell(const rotation *r, credstore_progress progress, void *ctx)
{
    const uint64_t before = r->at.round < 2 ? 0 : (uint64_t)(r->at.round - 1) * r->at.total;
    const uint64_t done = r->at.round == COUNTING ? 0 : before + r->at.done;
    const uint64_t total = (r->at.round < 2 ? 2 : (uint64_t)r->at.round) * r->at.total;

    if (progress != NULL)
        progress(ctx, done, r->finished || total < done ? done : total);
}

static credstore_status run(rotation *r, int64_t end, credstore_progress progress, void *ctx,
                            credstore_error *err)
{
    credstore_status status;

    do {
        status = step(r, err);
        if (status == CREDSTORE_OK)
            tell(r, progress, ctx);
    } while (status == CREDSTORE_OK && !r->finished && cs_time_monotonic() < end);
    if (status != CREDSTORE_OK || r->finished || !r->loaded)
        return status;
    cs_reseal_free(&r->batch); /* the place alone is left to be written */
    memset(&r->batch, 0, sizeof r->batch);
    return save(r, err);
}

credstore_status credstore_keys_reseal(credstore *store, const credstore_call *call, uint32_t flags,
                                       uint32_t budget_ms, credstore_progress progress,
                                       void *progress_ctx, uint32_t *more, credstore_error *err)
{
    const int64_t end = budget_ms == 0 ? INT64_MAX : cs_time_monotonic() + budget_ms;
    rotation r = {.forsake = (flags & CREDSTORE_KEYS_FORSAKE) != 0};
    credstore_status status;

    cs_error_clear(err);
    if (more != NULL)
        *more = 0;
    status = begin(&r.op, store, call, err);
    if (status == CREDSTORE_OK && (flags & ~(uint32_t)CREDSTORE_KEYS_FORSAKE) != 0)
        status = cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "An unknown flag is set");
    if (status == CREDSTORE_OK)
        status = run(&r, end, progress, progress_ctx, err);
    cs_reseal_free(&r.batch);
    if (more != NULL)
        *more = status == CREDSTORE_OK && !r.finished;
    return status;
}

/* ---- listing ---- */

typedef struct tally {
    credstore_data_key_page *page;
    credstore_data_key *keys; /* of the page */
    cs_key next;
    uint32_t seen;
} tally;

/* One block: the page, a pointer to each key, the keys. */
static credstore_data_key_page *show(const cs_keyring *ring, credstore_data_key **keys)
{
    credstore_data_key_page *page =
        cs_block_new(sizeof *page + ring->count * (sizeof *page->items + sizeof **keys));
    const credstore_data_key **items;

    if (page == NULL)
        return NULL;
    items = (const credstore_data_key **)(void *)(page + 1);
    *keys = (credstore_data_key *)(void *)(items + ring->count);
    page->struct_size = sizeof *page;
    page->count = (uint32_t)ring->count;
    page->version = ring->version;
    page->items = items;
    for (size_t i = 0; i < ring->count; i++) {
        (*keys)[i] = (credstore_data_key){.struct_size = sizeof **keys,
                                          .id = ring->keys[i].id,
                                          .purpose = ring->keys[i].purpose,
                                          .suite = ring->keys[i].suite,
                                          .state = ring->keys[i].state};
        items[i] = &(*keys)[i];
    }
    return page;
}

static void count_boxes(tally *t, credstore_bytes key, credstore_bytes value)
{
    cs_sealed_box boxes[CS_BOXES_MAX];
    cs_place place;
    size_t count = 0;

    if (!cs_place_of(key, value, &place) || !cs_place_boxes(&place, value, boxes, &count))
        return;
    for (size_t b = 0; b < count; b++)
        for (uint32_t i = 0; i < t->page->count; i++)
            t->keys[i].boxes +=
                t->keys[i].purpose == boxes[b].purpose && t->keys[i].id == boxes[b].box.key_id;
}

static bool visit_value(void *arg, credstore_bytes key, credstore_bytes value)
{
    tally *t = arg;

    if (t->seen++ < COUNT_AT_ONCE) {
        count_boxes(t, key, value);
        return true;
    }
    t->next.len = key.len <= CS_KEY_MAX ? key.len : CS_KEY_MAX;
    memcpy(t->next.ptr, key.ptr, t->next.len);
    return false;
}

/* One snapshot: the keyring, if it is not known yet, and some of the values. */
static credstore_status list_some(credstore *store, bool counts, tally *t, credstore_error *err)
{
    const cs_scan scan = {.visit = visit_value, .arg = t, .passing = true};
    const cs_key from = t->next, to_the_end = {0};
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    t->next.len = 0;
    t->seen = 0;
    if (t->page == NULL)
        status = match_ring(&txn, err);
    if (status == CREDSTORE_OK && t->page == NULL) {
        t->page = show(txn.ring, &t->keys);
        if (t->page == NULL)
            status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    if (status == CREDSTORE_OK && counts)
        status = cs_txn_scan(&txn, &from, &to_the_end, &scan, err);
    cs_txn_end(&txn);
    return status;
}

credstore_status credstore_keys_list(credstore *store, const credstore_call *call, uint32_t flags,
                                     const credstore_data_key_page **out, credstore_error *err)
{
    const bool counts = (flags & CREDSTORE_KEYS_COUNT) != 0;
    tally t = {.next = {1, {CS_TABLE_META}}};
    cs_op op;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    *out = NULL;
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK && (flags & ~(uint32_t)CREDSTORE_KEYS_COUNT) != 0)
        status = cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "An unknown flag is set");
    while (status == CREDSTORE_OK && t.next.len > 0)
        status = list_some(store, counts, &t, err);
    if (status == CREDSTORE_OK)
        *out = t.page;
    else
        credstore_free(t.page);
    return status;
}
