/* SPDX-License-Identifier: MIT
 *
 * Lists. A list is a run of keys: the records themselves where the owner is in the key, else the
 * owner's index. Each step seeks past the record before, so that history between two records costs
 * nothing.
 */
#include "list.h"

#include <string.h>

#include "block.h"
#include "error.h"
#include "load.h"
#include "page.h"
#include "ring.h"
#include "sealed.h"
#include "sized.h"
#include "view.h"

enum { CURSOR_MAC = 16, CURSOR_MAX = 4 * (CURSOR_MAC + CS_ID_MAX + 2) / 3 + 1 };

static const uint16_t page_starts[] = {
    offsetof(credstore_page, limit),        offsetof(credstore_page, after),
    offsetof(credstore_page, before),       offsetof(credstore_page, expires_before),
    offsetof(credstore_page, unused_since),
};

typedef struct walk {
    cs_op op;
    credstore_page page;
    cs_key prefix; /* of the run of keys */
    bool backward;
    char at[CS_ID_MAX + 1]; /* the id last seen; "" = before the first, or behind the last */
    credstore_bytes entry;  /* the value found there */
    bool odd;               /* a key that no id made */
    cs_page *out;
    cs_item *items;
} walk;

/* ---- cursors: base64url of MAC and id ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(const uint8_t *in, size_t len, char *out)
{
    for (size_t i = 0; i < len; i += 3) {
        const size_t left = len - i < 3 ? len - i : 3;
        const uint32_t group = (uint32_t)in[i] << 16 | (uint32_t)(left > 1 ? in[i + 1] : 0) << 8 |
                               (uint32_t)(left > 2 ? in[i + 2] : 0);

        for (size_t d = 0; d <= left; d++)
            *out++ = digits[group >> (18 - 6 * d) & 63];
    }
    *out = '\0';
}

/* False for what encode() does not write; len is at most max. */
static bool decode(const char *in, uint8_t *out, size_t max, size_t *len)
{
    uint32_t group = 0;
    size_t bits = 0;

    *len = 0;
    for (; *in != '\0'; in++) {
        const char *digit = strchr(digits, *in);

        if (digit == NULL || *len == max)
            return false;
        group = group << 6 | (uint32_t)(digit - digits);
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        out[(*len)++] = (uint8_t)(group >> bits);
        group &= (UINT32_C(1) << bits) - 1;
    }
    return group == 0 && bits < 6;
}

/* Binds an id to this list: its run of keys and its filters. */
static credstore_status cursor_mac(const walk *w, const char *id, uint8_t mac[32],
                                   credstore_error *err)
{
    const credstore *store = w->op.store;
    uint8_t filters[16];
    const credstore_bytes parts[] = {cs_key_bytes(&w->prefix), cs_bytes(filters, sizeof filters),
                                     cs_bytes_of(id)};

    cs_put_u64(filters, (uint64_t)w->page.expires_before);
    cs_put_u64(filters + 8, (uint64_t)w->page.unused_since);
    return cs_name_mac(&store->sealer, cs_store_name_key(store), CS_NAME_CURSOR, parts,
                       sizeof parts / sizeof *parts, mac, err);
}

static credstore_status make_cursor(walk *w, const char *id, const char **out, credstore_error *err)
{
    const size_t len = strlen(id);
    uint8_t raw[32 + CS_ID_MAX];
    char *text = cs_block_new(CURSOR_MAX + 1);
    credstore_status status;

    if (text == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_block_adopt(w->out, text);
    status = cursor_mac(w, id, raw, err);
    memcpy(raw + CURSOR_MAC, id, len);
    encode(raw, CURSOR_MAC + len, text);
    *out = text;
    return status;
}

static credstore_status take_cursor(walk *w, const char *cursor, const char *field,
                                    credstore_error *err)
{
    uint8_t raw[CURSOR_MAC + CS_ID_MAX], mac[32];
    size_t len = 0;
    bool ours = decode(cursor, raw, sizeof raw, &len) && len > CURSOR_MAC;
    credstore_status status = CREDSTORE_OK;

    if (ours) {
        memcpy(w->at, raw + CURSOR_MAC, len - CURSOR_MAC);
        w->at[len - CURSOR_MAC] = '\0';
        status = cursor_mac(w, w->at, mac, err);
        ours = status == CREDSTORE_OK && cs_equal_secret(mac, raw, CURSOR_MAC) &&
               strlen(w->at) == len - CURSOR_MAC;
    }
    if (status == CREDSTORE_OK && !ours)
        return cs_fail(err, CREDSTORE_E_INVALID, field, "The cursor is not one of this list");
    return status;
}

/* ---- walking the keys ---- */

static credstore_status set_prefix(walk *w, credstore_error *err)
{
    const cs_kind *kind = w->op.kind;
    uint8_t mac[32];
    credstore_status status = CREDSTORE_OK;

    if (kind->scope == CS_SCOPE_OWNER) {
        cs_key_list(&w->prefix, CS_TABLE_RECORD, kind->id, w->op.at.scope);
        return status;
    }
    status = cs_op_owner(&w->op, mac, err);
    cs_key_list(&w->prefix, CS_TABLE_OWNER, kind->id, mac);
    return status;
}

static void add_to_key(cs_key *key, const char *id, uint8_t behind)
{
    const size_t len = strlen(id);

    memcpy(key->ptr + key->len, id, len);
    key->ptr[key->len + len] = behind;
    key->len += len + 1;
}

static bool note_id(void *arg, credstore_bytes key, credstore_bytes value)
{
    walk *w = arg;
    const char *id = (const char *)key.ptr + w->prefix.len;
    const size_t room = key.len - w->prefix.len;
    const char *end = key.len > w->prefix.len ? memchr(id, '\0', room) : NULL;
    const size_t len = end == NULL ? 0 : (size_t)(end - id);

    w->entry = value;
    w->odd = len == 0 || len > CS_ID_MAX;
    if (!w->odd)
        memcpy(w->at, id, len + 1);
    return false;
}

/* Moves `at` to the next id in the direction; "" if there is none. An id's keys are id 00 ..., and
 * 01 lies behind them all. */
static credstore_status step(walk *w, cs_txn *txn, bool backward, credstore_error *err)
{
    cs_key from = w->prefix, to = w->prefix;
    credstore_status status;

    if (backward && w->at[0] != '\0')
        add_to_key(&to, w->at, 0);
    else
        to.ptr[to.len++] = 0xff;
    if (!backward && w->at[0] != '\0')
        add_to_key(&from, w->at, 1);
    w->at[0] = '\0';
    w->odd = false;
    status = cs_txn_scan(
        txn, &from, &to,
        &(const cs_scan){.reverse = backward, .limit = 1, .visit = note_id, .arg = w}, err);
    if (status == CREDSTORE_OK && w->odd) /* no place to go on from */
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A list has a key that is none");
    return status;
}

/* ---- items ---- */

static bool passes(const walk *w, const cs_record *record, int64_t used)
{
    const cs_kind *kind = w->op.kind;
    const size_t e = cs_field_index(kind, kind->expires_field);

    if (w->page.expires_before != 0 &&
        (!record->values[e].present || record->values[e].number >= w->page.expires_before))
        return false;
    return w->page.unused_since == 0 || used < w->page.unused_since;
}

/* An index entry is a sealed nothing, bound to its owner and id: one that was moved does not open.
 */
static credstore_status check_entry(const walk *w, cs_txn *txn, credstore_error *err)
{
    const cs_label label = cs_owner_label(w->prefix.ptr + 2, &w->op.at);
    uint8_t nothing[1];
    cs_box box;
    credstore_status status;

    if (w->op.kind->scope != CS_SCOPE_STORE)
        return CREDSTORE_OK;
    status = cs_value_box(w->entry, &box, err);
    if (status == CREDSTORE_OK && box.sealed.len != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "An index entry is not what was written");
    return status == CREDSTORE_OK ? cs_txn_unseal(txn, CS_PURPOSE_BODY, &label, &box, nothing, err)
                                  : status;
}

/* Adds the record at `at` if it is there and passes. What cannot be read is added with its status.
 */
static credstore_status add_item(walk *w, cs_txn *txn, credstore_error *err)
{
    credstore_error unread = {0};
    cs_loaded loaded = {0};
    int64_t used = 0;
    void *view = NULL;
    credstore_status status = cs_op_set_id(&w->op, w->at, &unread);

    if (status == CREDSTORE_E_INVALID)
        return CREDSTORE_OK; /* no id of the kind: nobody's record */
    if (status == CREDSTORE_OK)
        status = check_entry(w, txn, &unread);
    if (status == CREDSTORE_OK)
        status = cs_load(txn, w->op.kind, &w->op.at, 0, &loaded, &unread);
    if (status == CREDSTORE_OK)
        status = cs_load_usage(txn, w->op.kind, &w->op.at, &used, &unread);
    if (status == CREDSTORE_OK &&
        (!loaded.found || !cs_op_owns(&w->op, &loaded.record) || !passes(w, &loaded.record, used)))
        goto cleanup;
    if (status == CREDSTORE_OK)
        status = cs_view_build(w->op.store, w->op.kind, &loaded.record, used,
                               cs_op_grants_of(&w->op), &view, &unread);
    status = cs_page_add(w->out, w->items, w->at, view, status, &unread, err);
cleanup:
    cs_loaded_free(&loaded);
    cs_txn_let_go(txn); /* a filter may pass over any number of records */
    return status;
}

/* True through *more if another item that passes the walk follows; items has room for it. */
static credstore_status fill(walk *w, cs_txn *txn, bool *more, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    while (status == CREDSTORE_OK && w->out->count <= w->page.limit) {
        status = step(w, txn, w->backward, err);
        if (status != CREDSTORE_OK || w->at[0] == '\0')
            break;
        status = add_item(w, txn, err);
    }
    *more = w->out->count > w->page.limit;
    if (*more)
        w->out->count = w->page.limit;
    return status;
}

static void reverse(cs_item *items, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        const cs_item swap = items[i];

        items[i] = items[count - 1 - i];
        items[count - 1 - i] = swap;
    }
}

/* Is there a record that passes on the side from which the walk came? It is added where the page
 * has room for one more, and taken off again. Behind an empty page all records lie there. */
static credstore_status look_back(walk *w, cs_txn *txn, bool *any, credstore_error *err)
{
    const size_t count = w->out->count;
    const char *nearest = count == 0 ? "" : w->items[w->backward ? count - 1 : 0].id;
    credstore_status status;

    memcpy(w->at, nearest, strlen(nearest) + 1);
    do {
        status = step(w, txn, !w->backward, err);
        if (status == CREDSTORE_OK && w->at[0] != '\0')
            status = add_item(w, txn, err);
    } while (status == CREDSTORE_OK && w->at[0] != '\0' && w->out->count == count);
    *any = w->out->count > count;
    w->out->count = count;
    return status;
}

static credstore_status walk_page(walk *w, cs_txn *txn, credstore_error *err)
{
    const bool cursor = w->page.after != NULL || w->page.before != NULL;
    bool ahead = false, back = false;
    credstore_status status = fill(w, txn, &ahead, err);

    if (status != CREDSTORE_OK || (w->out->count == 0 && !cursor))
        return status;
    if (w->backward)
        reverse(w->items, w->out->count);
    status = look_back(w, txn, &back, err);
    w->out->has_next_page = w->backward ? back : ahead;
    w->out->has_prev_page = w->backward ? ahead : back;
    if (status != CREDSTORE_OK || w->out->count == 0)
        return status;
    status = make_cursor(w, w->items[0].id, &w->out->start_cursor, err);
    if (status == CREDSTORE_OK)
        status = make_cursor(w, w->items[w->out->count - 1].id, &w->out->end_cursor, err);
    return status;
}

/* ---- the verb ---- */

static credstore_status take_page(walk *w, const credstore_page *page, credstore_error *err)
{
    const cs_kind *kind = w->op.kind;
    credstore_status status = CREDSTORE_OK;

    w->page.limit = CS_PAGE_DEFAULT;
    if (page == NULL)
        return status;
    status = cs_struct_take(&w->page, sizeof w->page, page, page_starts,
                            sizeof page_starts / sizeof *page_starts, "page", err);
    if (status != CREDSTORE_OK)
        return status;
    if (w->page.limit < 1 || w->page.limit > CS_PAGE_MAX)
        return cs_fail(err, CREDSTORE_E_INVALID, "limit", "A page has 1..100 items");
    if (w->page.after != NULL && w->page.before != NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "before", "after and before exclude each other");
    if (w->page.expires_before < 0 || (w->page.expires_before != 0 && kind->expires_field == 0))
        return cs_fail(err, CREDSTORE_E_INVALID, "expires_before", "Not a filter of this list");
    if (w->page.unused_since < 0 ||
        (w->page.unused_since != 0 && (kind->flags & CS_HAS_USAGE) == 0))
        return cs_fail(err, CREDSTORE_E_INVALID, "unused_since", "Not a filter of this list");
    w->backward = w->page.before != NULL;
    return status;
}

static credstore_status begin(walk *w, const credstore_page *page, credstore_error *err)
{
    credstore_status status = take_page(w, page, err);

    if (status == CREDSTORE_OK)
        status = set_prefix(w, err);
    if (status == CREDSTORE_OK && w->page.after != NULL)
        status = take_cursor(w, w->page.after, "after", err);
    if (status == CREDSTORE_OK && w->page.before != NULL)
        status = take_cursor(w, w->page.before, "before", err);
    if (status != CREDSTORE_OK)
        return status;
    return cs_page_new(w->page.limit + 1, &w->out, &w->items, err);
}

credstore_status cs_list(credstore *store, const cs_kind *kind, const credstore_call *call,
                         const cs_names *names, const credstore_page *page, const cs_render *render,
                         void *out, credstore_error *err)
{
    walk w = {0};
    cs_txn txn;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    cs_hand_over(out, NULL);
    status = cs_op_begin(&w.op, store, kind, CS_READ, call, names, err);
    if (status == CREDSTORE_OK)
        status = begin(&w, page, err);
    if (status == CREDSTORE_OK) {
        status = cs_txn_read(store, &txn, err);
        if (status == CREDSTORE_OK) {
            status = walk_page(&w, &txn, err);
            cs_txn_end(&txn);
        }
    }
    if (status == CREDSTORE_OK && render != NULL)
        status = render->run(render->arg, w.out, err);
    if (status == CREDSTORE_OK)
        cs_hand_over(out, w.out);
    else
        credstore_free(w.out);
    return status;
}
