/* SPDX-License-Identifier: MIT
 *
 * Sealing anew what lies under retiring keys.
 */
#include "reseal.h"

#include <string.h>

#include "error.h"
#include "kind.h"
#include "place.h"

/* A batch ends with the unit that reaches one of these. */
enum { BATCH_VALUES = 128, BATCH_BYTES = 512 * 1024, BATCH_SEEN = 8192 };
/* Nonces beside those that are needed, for units that have to be made again. */
enum { SPARE_NONCES = 256 };

/* A value. Offsets into bytes, which moves as it grows. */
typedef struct item {
    size_t key, key_len;
    size_t value, value_len;
    size_t fresh; /* of the same length */
    bool changed;
} item;

typedef struct unit {
    size_t first, count; /* items */
    size_t name, name_len;
    bool is_record, broken;
} unit;

static item *items_of(const cs_reseal *r)
{
    return (item *)(void *)r->items.ptr;
}

static unit *units_of(const cs_reseal *r)
{
    return (unit *)(void *)r->units.ptr;
}

static size_t item_count(const cs_reseal *r)
{
    return r->items.len / sizeof(item);
}

static size_t unit_count(const cs_reseal *r)
{
    return r->units.len / sizeof(unit);
}

static credstore_bytes key_of(const cs_reseal *r, const item *it)
{
    return cs_bytes(r->bytes.ptr + it->key, it->key_len);
}

static credstore_bytes value_of(const cs_reseal *r, const item *it)
{
    return cs_bytes(r->bytes.ptr + it->value, it->value_len);
}

static void copy_key(cs_key *to, credstore_bytes from)
{
    to->len = from.len <= CS_KEY_MAX ? from.len : CS_KEY_MAX;
    memcpy(to->ptr, from.ptr, to->len);
}

/* Counts a value that stays as it is, and keeps the first one's place. */
static void pass_over(cs_reseal *r, uint64_t *count, credstore_bytes key)
{
    (*count)++;
    if (r->bad.len == 0)
        copy_key(&r->bad, key);
}

void cs_reseal_free(cs_reseal *batch)
{
    cs_buf_free(&batch->bytes);
    cs_buf_free(&batch->items);
    cs_buf_free(&batch->units);
    cs_buf_free(&batch->nonces);
}

/* ---- reading ---- */

static bool is_record(credstore_bytes key)
{
    return ((const uint8_t *)key.ptr)[0] == CS_TABLE_RECORD;
}

/* What the keys of a unit begin with: a record's up to the NUL behind its id, else the whole key.
 */
static size_t name_length(credstore_bytes key)
{
    const size_t head = 2 + CS_SCOPE_LEN;
    const uint8_t *end;

    if (!is_record(key) || key.len <= head)
        return key.len;
    end = memchr((const uint8_t *)key.ptr + head, 0, key.len - head);
    return end == NULL ? key.len : (size_t)(end - (const uint8_t *)key.ptr) + 1;
}

static bool is_of_unit(const cs_reseal *r, credstore_bytes key)
{
    return r->unit_key > 0 && key.len >= r->unit_key &&
           memcmp(key.ptr, r->unit_name, r->unit_key) == 0 &&
           (is_record(key) || key.len == r->unit_key);
}

static void begin_unit(cs_reseal *r, credstore_bytes key)
{
    r->unit_start = r->bytes.len;
    r->unit_first = r->items.len;
    r->unit_old = 0;
    r->unit_broken = false;
    r->unit_key = name_length(key);
    if (r->unit_key > CS_KEY_MAX)
        r->unit_key = CS_KEY_MAX;
    memcpy(r->unit_name, key.ptr, r->unit_key);
}

/* Keeps the unit if there is something to be done about it. */
static void end_unit(cs_reseal *r)
{
    unit u = {.is_record = r->unit_key > 0 && r->unit_name[0] == CS_TABLE_RECORD,
              .broken = r->unit_broken};

    if (r->unit_key > 0 && r->unit_old > 0) {
        u.first = r->unit_first / sizeof(item);
        u.count = item_count(r) - u.first;
        u.name = r->bytes.len;
        u.name_len = r->unit_key;
        cs_buf_add(&r->bytes, r->unit_name, r->unit_key);
        cs_buf_add(&r->units, &u, sizeof u);
    } else if (r->unit_key > 0) {
        r->bytes.len = r->unit_start;
        r->items.len = r->unit_first;
    }
    r->unit_key = 0;
}

static void add_item(cs_reseal *r, credstore_bytes key, credstore_bytes value)
{
    item it = {.key = r->bytes.len, .key_len = key.len, .value_len = value.len};

    cs_buf_add(&r->bytes, key.ptr, key.len);
    it.value = r->bytes.len;
    cs_buf_add(&r->bytes, value.ptr, value.len);
    cs_buf_add(&r->items, &it, sizeof it);
}

static size_t count_old(const cs_reseal *r, const cs_sealed_box *boxes, size_t count)
{
    size_t old = 0;

    for (size_t i = 0; i < count; i++)
        old += cs_keyring_retires(r->ring, boxes[i].purpose, boxes[i].box.key_id);
    return old;
}

/* Takes a value into the unit: of a record every one, of the rest what is under a retiring key. */
static void take(cs_reseal *r, credstore_bytes key, credstore_bytes value)
{
    cs_sealed_box boxes[CS_BOXES_MAX];
    cs_place place;
    size_t count = 0, old;

    if (!cs_place_of(key, value, &place) || !cs_place_boxes(&place, value, boxes, &count)) {
        r->unit_broken = true;
        pass_over(r, &r->unreadable, key);
        return;
    }
    old = count_old(r, boxes, count);
    if (place.role == CS_ROLE_HEAD || place.role == CS_ROLE_ROTATION) {
        r->head_due = r->head_due || old > 0;
        return;
    }
    if (old == 0 && place.table != CS_TABLE_RECORD)
        return;
    r->unit_old += old;
    r->boxes += count;
    add_item(r, key, value);
}

static bool is_full(const cs_reseal *r)
{
    return item_count(r) >= BATCH_VALUES || r->bytes.len >= BATCH_BYTES || r->seen >= BATCH_SEEN;
}

static bool has_failed(const cs_reseal *r)
{
    return r->bytes.failed || r->items.failed || r->units.failed;
}

static bool visit(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_reseal *r = arg;

    if (!is_of_unit(r, key)) {
        end_unit(r);
        if (is_full(r)) {
            copy_key(&r->next, key);
            return false;
        }
        begin_unit(r, key);
    }
    r->seen++;
    take(r, key, value);
    return !has_failed(r);
}

credstore_status cs_reseal_read(cs_txn *txn, const cs_key *from, cs_reseal *out,
                                credstore_error *err)
{
    const cs_scan scan = {.visit = visit, .arg = out};
    const cs_key to_the_end = {0};
    credstore_status status;

    out->store = txn->store;
    out->ring = txn->ring;
    status = cs_txn_scan(txn, from, &to_the_end, &scan, err);
    end_unit(out);
    if (status == CREDSTORE_OK && has_failed(out))
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return status;
}

/* ---- sealing anew ---- */

/* A part that got another box; every copy of it gets the same one. */
typedef struct swap {
    uint16_t field;
    uint64_t revision;
    uint8_t old_tag[CS_TAG_LEN], new_tag[CS_TAG_LEN];
    size_t box, box_len; /* in swapped */
} swap;

/* One unit under way. */
typedef struct remake {
    cs_reseal *r;
    const unit *u;
    cs_buf swaps, swapped;
    bool named; /* the body names a part that was swapped */
} remake;

static const swap *find_swap(const remake *m, uint16_t field, uint64_t revision, const uint8_t *tag)
{
    const swap *swaps = (const swap *)(const void *)m->swaps.ptr;

    for (size_t i = 0; i < m->swaps.len / sizeof *swaps; i++)
        if (swaps[i].field == field && swaps[i].revision == revision &&
            memcmp(swaps[i].old_tag, tag, CS_TAG_LEN) == 0)
            return &swaps[i];
    return NULL;
}

static const uint8_t *next_nonce(cs_reseal *r)
{
    const uint8_t *nonce = r->nonces.ptr + r->nonces_used;

    if (r->nonces.len - r->nonces_used < CS_NONCE_LEN)
        return NULL;
    r->nonces_used += CS_NONCE_LEN;
    return nonce;
}

static credstore_status seal(cs_reseal *r, const cs_sealed_box *of, credstore_bytes plain,
                             cs_buf *out, uint8_t tag[CS_TAG_LEN], credstore_error *err)
{
    const cs_data_key *key = cs_keyring_active(r->ring, of->purpose);
    const uint8_t *nonce = next_nonce(r);

    if (nonce == NULL) /* a unit that grew; the next round takes it */
        return cs_fail(err, CREDSTORE_E_BUSY, NULL, "A record changed faster than it was resealed");
    return cs_seal(&r->store->sealer, key, &of->label, nonce, plain, out, tag, err);
}

/* E_INTEGRITY is of the value, and no reason to stop; anything else is. */
static credstore_status open_box(const cs_reseal *r, const cs_sealed_box *box, uint8_t *out,
                                 credstore_error *err)
{
    credstore_error unread = {0};
    const credstore_status status = cs_keyring_unseal(&r->store->sealer, r->ring, box->purpose,
                                                      &box->label, &box->box, out, &unread);

    return status == CREDSTORE_OK || status == CREDSTORE_E_INTEGRITY
               ? status
               : cs_fail(err, status, NULL, unread.message);
}

/* Opens a secret box and seals it anew, into the list of swaps. */
static credstore_status make_swap(remake *m, const cs_sealed_box *box, credstore_error *err)
{
    swap s = {.field = box->field, .revision = box->revision, .box = m->swapped.len};
    credstore_secret *plain;
    credstore_status status;

    if (box->box.sealed.len > CS_SECRET_MAX)
        return CREDSTORE_E_INTEGRITY;
    plain = cs_secret_new(m->r->store->arena, box->box.sealed.len);
    if (plain == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = open_box(m->r, box, cs_secret_bytes(plain), err);
    if (status == CREDSTORE_OK)
        status = seal(m->r, box, cs_bytes(cs_secret_bytes(plain), box->box.sealed.len), &m->swapped,
                      s.new_tag, err);
    credstore_secret_free(plain);
    if (status != CREDSTORE_OK)
        return status;
    memcpy(s.old_tag, box->box.tag, CS_TAG_LEN);
    s.box_len = m->swapped.len - s.box;
    cs_buf_add(&m->swaps, &s, sizeof s);
    return m->swaps.failed ? cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory") : status;
}

/* The boxes of a value that was taken: they were read before. */
static size_t boxes_of(const cs_reseal *r, const item *it, cs_place *place,
                       cs_sealed_box boxes[CS_BOXES_MAX])
{
    size_t count = 0;

    if (!cs_place_of(key_of(r, it), value_of(r, it), place) ||
        !cs_place_boxes(place, value_of(r, it), boxes, &count))
        return 0;
    return count;
}

static bool is_old_part(const cs_reseal *r, const cs_sealed_box *box)
{
    return box->purpose == CS_PURPOSE_SECRET &&
           cs_keyring_retires(r->ring, box->purpose, box->box.key_id);
}

/* First the parts of all values: a body may name one that lies with another. */
static credstore_status swap_parts(remake *m, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < m->u->count && status == CREDSTORE_OK; i++) {
        const item *it = &items_of(m->r)[m->u->first + i];
        cs_sealed_box boxes[CS_BOXES_MAX];
        cs_place place;
        const size_t count = boxes_of(m->r, it, &place, boxes);

        for (size_t b = 0; b < count && status == CREDSTORE_OK; b++) {
            const cs_sealed_box *box = &boxes[b];

            if (!is_old_part(m->r, box) ||
                find_swap(m, box->field, box->revision, box->box.tag) != NULL)
                continue;
            status = make_swap(m, box, err);
            if (status == CREDSTORE_E_INTEGRITY) /* stays as it is; put_parts() tells of it */
                status = CREDSTORE_OK;
        }
    }
    return status;
}

static void overwrite(cs_reseal *r, item *it, const cs_sealed_box *box, const uint8_t *with)
{
    const size_t at = (size_t)((const uint8_t *)box->box.whole.ptr - (r->bytes.ptr + it->value));

    memcpy(r->bytes.ptr + it->fresh + at, with, box->box.whole.len);
    it->changed = true;
}

/* Puts the swapped parts in their places; counts those that there are none for. */
static void put_parts(remake *m, item *it, const cs_sealed_box *boxes, size_t count, size_t *bad)
{
    for (size_t b = 0; b < count; b++) {
        const swap *s;

        if (!is_old_part(m->r, &boxes[b]))
            continue;
        s = find_swap(m, boxes[b].field, boxes[b].revision, boxes[b].box.tag);
        if (s != NULL && s->box_len == boxes[b].box.whole.len)
            overwrite(m->r, it, &boxes[b], m->swapped.ptr + s->box);
        else
            (*bad)++;
    }
}

static void retag(void *arg, uint16_t field, uint64_t revision, uint8_t tag[CS_TAG_LEN])
{
    remake *m = arg;
    const swap *s = find_swap(m, field, revision, tag);

    if (s == NULL)
        return;
    memcpy(tag, s->new_tag, CS_TAG_LEN);
    m->named = true;
}

/* E_FORMAT: the parts that this body names cannot be told. */
static credstore_status retag_body(remake *m, const cs_place *place, cs_buf *plain)
{
    const cs_kind *kind = cs_kind_find(place->at.kind);

    m->named = false;
    if (m->swaps.len == 0 || place->table != CS_TABLE_RECORD)
        return CREDSTORE_OK;
    if (kind == NULL ||
        cs_record_names(kind, plain->ptr, plain->len, retag, m, NULL) != CREDSTORE_OK)
        return CREDSTORE_E_FORMAT;
    return CREDSTORE_OK;
}

/* Seals the body anew if its key is a retiring one, or a part that it names has another tag now.
   E_INTEGRITY, E_FORMAT: it may name parts that have, and cannot be told of them. */
static credstore_status remake_body(remake *m, item *it, const cs_place *place,
                                    const cs_sealed_box *body, size_t *bad, credstore_error *err)
{
    const bool old = cs_keyring_retires(m->r->ring, CS_PURPOSE_BODY, body->box.key_id);
    cs_buf plain = {0}, box = {0};
    credstore_status status;

    if (!old && (m->swaps.len == 0 || place->table != CS_TABLE_RECORD))
        return CREDSTORE_OK;
    if (cs_buf_room(&plain, body->box.sealed.len) == NULL && plain.failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = open_box(m->r, body, plain.ptr, err);
    if (status == CREDSTORE_OK)
        status = retag_body(m, place, &plain);
    if (status == CREDSTORE_OK && (old || m->named))
        status = seal(m->r, body, cs_bytes(plain.ptr, plain.len), &box, NULL, err);
    if (status == CREDSTORE_OK && (old || m->named))
        overwrite(m->r, it, body, box.ptr);
    cs_buf_free(&plain);
    cs_buf_free(&box);
    if (status != CREDSTORE_E_INTEGRITY || (m->swaps.len > 0 && !m->r->forsake))
        return status;
    *bad += old;
    return CREDSTORE_OK;
}

static credstore_status remake_item(remake *m, item *it, credstore_error *err)
{
    cs_sealed_box boxes[CS_BOXES_MAX];
    cs_place place;
    const size_t count = boxes_of(m->r, it, &place, boxes);
    size_t bad = 0;
    credstore_status status;

    if (count == 0)
        return CREDSTORE_OK;
    put_parts(m, it, boxes + 1, count - 1, &bad);
    status = remake_body(m, it, &place, &boxes[0], &bad, err);
    if (bad > 0)
        pass_over(m->r, &m->r->unreadable, key_of(m->r, it));
    return status;
}

/* Room for the values that take their place, as they are now. */
static credstore_status begin_fresh(cs_reseal *r, const unit *u, credstore_error *err)
{
    for (size_t i = 0; i < u->count; i++) {
        item *it = &items_of(r)[u->first + i];

        it->changed = false;
        if (it->fresh == 0) {
            it->fresh = r->bytes.len;
            if (cs_buf_room(&r->bytes, it->value_len) == NULL)
                return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
        }
        memcpy(r->bytes.ptr + it->fresh, r->bytes.ptr + it->value, it->value_len);
    }
    return CREDSTORE_OK;
}

static credstore_status remake_unit(cs_reseal *r, const unit *u, bool with_parts,
                                    credstore_error *err)
{
    remake m = {.r = r, .u = u};
    credstore_status status = begin_fresh(r, u, err);

    if (status == CREDSTORE_OK && with_parts)
        status = swap_parts(&m, err);
    for (size_t i = 0; i < u->count && status == CREDSTORE_OK; i++)
        status = remake_item(&m, &items_of(r)[u->first + i], err);
    cs_buf_free(&m.swaps);
    cs_buf_free(&m.swapped);
    return status;
}

/* The whole unit; without its parts where a body that may name them cannot be opened, and may be
   mended, or is a newer library's. */
static credstore_status remake_all(cs_reseal *r, const unit *u, credstore_error *err)
{
    const uint64_t unreadable = r->unreadable;
    const cs_key bad = r->bad;
    const credstore_status first = remake_unit(r, u, r->forsake || !u->broken, err);
    credstore_status status = first;

    if (first == CREDSTORE_E_FORMAT || first == CREDSTORE_E_INTEGRITY)
        status = remake_unit(r, u, false, err);
    if (first != CREDSTORE_E_FORMAT)
        return status;
    r->unreadable = unreadable;
    r->bad = bad;
    pass_over(r, &r->newer, key_of(r, &items_of(r)[u->first]));
    return status;
}

static void count_due(cs_reseal *r, const unit *u)
{
    for (size_t i = 0; i < u->count; i++)
        r->due += items_of(r)[u->first + i].changed;
}

credstore_status cs_reseal_make(cs_reseal *batch, credstore_error *err)
{
    const size_t count = 2 * batch->boxes + SPARE_NONCES;
    credstore_status status;

    batch->due = batch->head_due ? 1 : 0;
    if (unit_count(batch) == 0)
        return CREDSTORE_OK;
    if (cs_buf_room(&batch->nonces, count * CS_NONCE_LEN) == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_store_random(batch->store, batch->nonces.ptr, batch->nonces.len, err);
    for (size_t i = 0; i < unit_count(batch) && status == CREDSTORE_OK; i++) {
        status = remake_all(batch, &units_of(batch)[i], err);
        count_due(batch, &units_of(batch)[i]);
    }
    return status;
}

/* ---- putting ---- */

static credstore_status is_same(cs_txn *txn, const cs_reseal *r, const unit *u, bool *same,
                                credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    *same = true;
    for (size_t i = 0; i < u->count && *same && status == CREDSTORE_OK; i++) {
        const item *it = &items_of(r)[u->first + i];
        credstore_bytes now = {0};
        bool found = false;
        cs_key key;

        copy_key(&key, key_of(r, it));
        status = cs_txn_get(txn, &key, &now, &found, err);
        *same = found && cs_bytes_equal(now, value_of(r, it));
    }
    return status;
}

static bool visit_unit(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_reseal *r = arg;

    if (is_of_unit(r, key))
        take(r, key, value);
    return !has_failed(r);
}

/* Reads a unit once more, as it is in this transaction, to the end of the batch's items. */
static credstore_status read_again(cs_txn *txn, cs_reseal *r, size_t which, credstore_error *err)
{
    const cs_scan scan = {.visit = visit_unit, .arg = r};
    unit *u = &units_of(r)[which];
    cs_key from, to;
    credstore_status status;

    copy_key(&from, cs_bytes(r->bytes.ptr + u->name, u->name_len));
    to = from;
    if (u->is_record && to.len > 0 && to.ptr[to.len - 1] == 0)
        to.ptr[to.len - 1] = 1; /* all that begins with the name */
    else
        to.ptr[to.len++] = 0;
    begin_unit(r, cs_key_bytes(&from));
    status = cs_txn_scan(txn, &from, &to, &scan, err);
    u->first = r->unit_first / sizeof(item);
    u->count = r->unit_old == 0 ? 0 : item_count(r) - u->first;
    u->broken = r->unit_broken;
    r->unit_key = 0;
    if (status == CREDSTORE_OK && has_failed(r))
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return status;
}

/* A unit that was written since is made anew. What of it cannot be read was counted before, and
   will be again. */
static credstore_status confirm_unit(cs_txn *txn, cs_reseal *r, size_t which, credstore_error *err)
{
    const uint64_t unreadable = r->unreadable, newer = r->newer;
    const cs_key bad = r->bad;
    credstore_error why = {0};
    bool same = false;
    credstore_status made = CREDSTORE_OK;
    credstore_status status = is_same(txn, r, &units_of(r)[which], &same, err);

    if (status != CREDSTORE_OK || same)
        return status;
    status = read_again(txn, r, which, err);
    if (status == CREDSTORE_OK && units_of(r)[which].count > 0)
        made = remake_all(r, &units_of(r)[which], &why);
    if (made == CREDSTORE_E_BUSY) /* no nonce is left: the next round takes it */
        units_of(r)[which].count = 0;
    else if (made != CREDSTORE_OK)
        status = cs_fail(err, made, NULL, why.message);
    r->unreadable = unreadable;
    r->newer = newer;
    r->bad = bad;
    return status;
}

credstore_status cs_reseal_confirm(cs_txn *txn, cs_reseal *batch, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < unit_count(batch) && status == CREDSTORE_OK; i++)
        status = confirm_unit(txn, batch, i, err);
    return status;
}

static credstore_status put_item(cs_txn *txn, const cs_reseal *r, const item *it,
                                 credstore_error *err)
{
    const cs_buf fresh = {
        .ptr = r->bytes.ptr + it->fresh, .len = it->value_len, .cap = it->value_len, .lent = true};
    cs_key key;

    copy_key(&key, key_of(r, it));
    return cs_txn_put(txn, &key, &fresh, err);
}

credstore_status cs_reseal_put(cs_txn *txn, const cs_reseal *batch, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (size_t n = 0; n < unit_count(batch); n++) {
        const unit *u = &units_of(batch)[n];

        for (size_t i = 0; i < u->count && status == CREDSTORE_OK; i++) {
            const item *it = &items_of(batch)[u->first + i];

            if (it->changed)
                status = put_item(txn, batch, it, err);
        }
    }
    return status;
}
