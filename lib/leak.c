/* SPDX-License-Identifier: MIT
 *
 * Leak lookup: from a string to the records that hold or held it.
 */
#include <string.h>

#include "block.h"
#include "error.h"
#include "issue.h"
#include "op.h"
#include "ring.h"
#include "sealed.h"
#include "text.h"
#include "token.h"

enum {
    LEAKS_MAX = 100,
    KEY_HEAD = 1 + CS_FINGERPRINT_LEN + 1 + CS_SCOPE_LEN,
    KEY_TAIL = 1 + 2 + 8
};

typedef struct search {
    credstore *store;
    cs_txn *txn;
    credstore_leaks *page;
    const credstore_leak **items;
    cs_key keys[LEAKS_MAX];
    size_t key_count;
} search;

static bool note_key(void *arg, credstore_bytes key, credstore_bytes value)
{
    search *s = arg;

    (void)value;
    if (key.len > KEY_HEAD + KEY_TAIL && key.len <= CS_KEY_MAX) {
        memcpy(s->keys[s->key_count].ptr, key.ptr, key.len);
        s->keys[s->key_count++].len = key.len;
    }
    return s->key_count < LEAKS_MAX;
}

static credstore_status add(search *s, const cs_loaded *loaded, const credstore_leak *what,
                            const char *field, credstore_error *err)
{
    const cs_record *r = &loaded->record;
    const credstore_bytes name = cs_bytes_of(field);
    credstore_leak *leak =
        cs_block_new(sizeof *leak + r->owner.len + r->parent.len + r->id.len + name.len + 4);
    char *at;

    if (leak == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    at = (char *)(leak + 1);
    *leak = *what;
    leak->struct_size = sizeof *leak;
    leak->tenant = cs_block_text(&at, r->owner);
    leak->parent = cs_block_text(&at, r->parent);
    leak->id = cs_block_text(&at, r->id);
    leak->field = cs_block_text(&at, name);
    cs_block_adopt(s->page, leak);
    s->items[s->page->count++] = leak;
    return CREDSTORE_OK;
}

/* ---- stored secrets: by fingerprint ---- */

static uint32_t state_of(const cs_loaded *loaded, size_t field, uint16_t id, uint64_t revision,
                         int64_t now)
{
    const cs_value *value = &loaded->record.values[field];
    const cs_previous *previous = cs_record_previous(&loaded->record, id);

    if (loaded->removed)
        return CREDSTORE_LEAK_REMOVED;
    if (value->present && value->part_revision == revision)
        return CREDSTORE_LEAK_CURRENT;
    if (previous != NULL && previous->part_revision == revision && now < previous->until)
        return CREDSTORE_LEAK_GRACE;
    return CREDSTORE_LEAK_PAST;
}

static credstore_status look_up_entry(search *s, const cs_key *key, credstore_error *err)
{
    const uint8_t *tail = key->ptr + key->len - 10;
    const uint16_t id = cs_get_u16(tail);
    credstore_leak leak = {.kind = key->ptr[1 + CS_FINGERPRINT_LEN],
                           .revision = cs_get_u64(tail + 2)};
    cs_locator at = {.kind = (uint8_t)leak.kind,
                     .id = cs_bytes(key->ptr + KEY_HEAD, key->len - KEY_HEAD - KEY_TAIL)};
    const cs_kind *kind = cs_kind_find(leak.kind);
    cs_buf plain = {0};
    cs_loaded loaded = {0};
    credstore_error unread = {0};
    bool found = false;
    cs_label label;
    size_t field;
    credstore_status status;

    memcpy(at.scope, key->ptr + 2 + CS_FINGERPRINT_LEN, CS_SCOPE_LEN);
    field = kind == NULL ? 0 : cs_field_index(kind, id);
    if (kind == NULL || field == kind->field_count)
        return CREDSTORE_OK; /* a newer library's */
    label = cs_record_label(CS_ROLE_FINGERPRINT, &at, id, leak.revision);
    status = cs_txn_get_sealed(s->txn, key, &label, &plain, &found, err);
    if (status == CREDSTORE_OK)
        status = cs_load(s->txn, kind, &at, 0, &loaded, &unread);
    if (unread.status == CREDSTORE_E_INTEGRITY || unread.status == CREDSTORE_E_FORMAT) {
        loaded.record.id = at.id; /* one that cannot be read hides no other */
        leak.state = CREDSTORE_LEAK_UNREADABLE;
        status = add(s, &loaded, &leak, kind->fields[field].name, err);
    } else if (unread.status != CREDSTORE_OK) {
        cs_fail(err, (credstore_status)unread.status, NULL, unread.message);
    }
    if (status == CREDSTORE_OK && (loaded.found || loaded.removed)) {
        leak.state = state_of(&loaded, field, id, leak.revision, s->txn->now);
        status = add(s, &loaded, &leak, kind->fields[field].name, err);
    }
    cs_buf_free(&plain);
    cs_loaded_free(&loaded);
    return status;
}

static credstore_status search_secrets(search *s, credstore_bytes text, credstore_error *err)
{
    const cs_sealer *sealer = &s->store->sealer;
    const cs_scan scan = {.limit = LEAKS_MAX, .visit = note_key, .arg = s};
    uint8_t mac[32];
    cs_key from, to;
    credstore_status status =
        cs_name_mac(sealer, cs_store_name_key(s->store), CS_NAME_FINGERPRINT, &text, 1, mac, err);

    if (status != CREDSTORE_OK)
        return status;
    cs_key_fingerprint(&from, mac, NULL, 0, 0);
    to = from;
    to.ptr[to.len++] = 0xff;
    status = cs_txn_scan(s->txn, &from, &to, &scan, err);
    for (size_t i = 0; i < s->key_count && status == CREDSTORE_OK; i++)
        status = look_up_entry(s, &s->keys[i], err);
    return status;
}

/* ---- issued and imported tokens: by the id that they carry, or by digest ---- */

static bool holds(const cs_kind *kind, const cs_record *record, uint16_t field,
                  const uint8_t digest[32])
{
    const cs_value *value = &record->values[cs_field_index(kind, field)];

    return value->present && cs_equal_secret(value->bytes.ptr, digest, CS_DIGEST_LEN);
}

/* The state of a token whose record is `now`; 0 if the record does not know it. */
static uint32_t token_state(const cs_kind *kind, const cs_loaded *now, const uint8_t digest[32],
                            int64_t time)
{
    const cs_record *r = &now->record;
    const cs_value *until = &r->values[cs_field_index(kind, kind->token.previous_until)];
    const bool current = holds(kind, r, kind->token.digest, digest);
    const bool previous = holds(kind, r, kind->token.previous, digest);
    const bool in_grace = previous && until->present && time < until->number;

    if (!current && !previous)
        return 0;
    if (now->removed)
        return CREDSTORE_LEAK_REMOVED;
    if ((!current && !in_grace) || cs_record_expired(kind, r, time))
        return CREDSTORE_LEAK_PAST;
    return current ? CREDSTORE_LEAK_CURRENT : CREDSTORE_LEAK_GRACE;
}

/* Did history hold it? */
static credstore_status search_history(search *s, const cs_kind *kind, const cs_locator *at,
                                       uint64_t newest, const uint8_t digest[32], bool *found,
                                       credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (uint64_t back = 1;
         back <= CS_HISTORY_MAX && back < newest && !*found && status == CREDSTORE_OK; back++) {
        cs_loaded then = {0};

        status = cs_load_history(s->txn, kind, at, newest - back, &then, err);
        *found = status == CREDSTORE_OK && then.found &&
                 holds(kind, &then.record, kind->token.digest, digest);
        cs_loaded_free(&then);
    }
    return status;
}

/* What the record says of the token; one that cannot be read hides no other. */
static credstore_status judge_token(search *s, const cs_kind *kind, const cs_locator *at,
                                    const uint8_t digest[32], credstore_error *err)
{
    credstore_leak leak = {.kind = kind->id};
    cs_loaded now = {0};
    credstore_error unread = {0};
    bool past = false;
    credstore_status status = cs_load(s->txn, kind, at, 0, &now, &unread);

    if (status == CREDSTORE_OK && (now.found || now.removed))
        leak.state = token_state(kind, &now, digest, s->txn->now);
    if (status == CREDSTORE_OK && (now.found || now.removed) && leak.state == 0)
        status = search_history(s, kind, at, now.record.revision, digest, &past, &unread);
    if (past)
        leak.state = now.removed ? CREDSTORE_LEAK_REMOVED : CREDSTORE_LEAK_PAST;
    if (status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT) {
        now.record.id = at->id;
        leak.state = CREDSTORE_LEAK_UNREADABLE;
        status = CREDSTORE_OK;
    }
    if (status != CREDSTORE_OK)
        cs_fail(err, status, NULL, unread.message);
    else if (leak.state != 0)
        status = add(s, &now, &leak, "token", err);
    cs_loaded_free(&now);
    return status;
}

static bool is_same(const cs_locator *a, const cs_locator *b)
{
    return memcmp(a->scope, b->scope, CS_SCOPE_LEN) == 0 && cs_bytes_equal(a->id, b->id);
}

/* By the id that it carries; then by its digest, since a token of our layout may have been imported
 * from another store. */
static credstore_status search_tokens(search *s, const cs_kind *kind, credstore_bytes text,
                                      credstore_error *err)
{
    const cs_sealer *sealer = &s->store->sealer;
    const char *const ways[] = {cs_token_id(text.ptr, text.len), NULL};
    const size_t before = s->page->count;
    char id_rooms[2][CS_ID_MAX + 1];
    cs_locator first = {0};
    uint8_t digest[CS_DIGEST_LEN];
    const int32_t result = sealer->crypto->digest(sealer->ctx, text, digest);
    credstore_status status = CREDSTORE_OK;

    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "A token's digest could not be computed");
    for (size_t i = ways[0] == NULL; i < 2 && status == CREDSTORE_OK; i++) {
        cs_locator at = {0};
        bool found = false;

        status = cs_locate_token(s->txn, kind, ways[i], digest, &at, id_rooms[i], &found, err);
        if (status == CREDSTORE_OK && found && (s->page->count == before || !is_same(&at, &first)))
            status = judge_token(s, kind, &at, digest, err);
        first = at;
    }
    cs_wipe(digest, sizeof digest);
    return status;
}

static credstore_status search_all(search *s, credstore_bytes text, credstore_error *err)
{
    cs_txn txn;
    credstore_status status = cs_txn_read(s->store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    s->txn = &txn;
    s->page = cs_block_new(sizeof *s->page);
    s->items = cs_block_new((LEAKS_MAX + cs_kind_count) * sizeof *s->items);
    if (s->page == NULL || s->items == NULL) {
        credstore_free(s->items);
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    } else {
        cs_block_adopt(s->page, s->items);
        s->page->struct_size = sizeof *s->page;
        s->page->items = s->items;
        status = search_secrets(s, text, err);
    }
    for (size_t i = 0; i < cs_kind_count && status == CREDSTORE_OK; i++)
        if (cs_kinds[i]->token.digest != 0)
            status = search_tokens(s, cs_kinds[i], text, err);
    cs_txn_end(&txn);
    return status;
}

credstore_status credstore_leak_find(credstore *store, const credstore_call *call, const char *text,
                                     size_t len, const credstore_leaks **out, credstore_error *err)
{
    search *s;
    cs_op op;
    credstore_status status;

    cs_error_clear(err);
    if (out != NULL)
        *out = NULL;
    if (out == NULL || text == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, out == NULL ? "out" : "text",
                       "An argument is NULL");
    status = cs_op_begin_store(&op, store, call, err);
    if (len == CREDSTORE_NTS)
        len = cs_text_len(text, CS_SECRET_MAX);
    if (status == CREDSTORE_OK && (len < 1 || len > CS_SECRET_MAX))
        status = cs_fail(err, CREDSTORE_E_INVALID, "text", "A secret has 1..4096 bytes");
    if (status != CREDSTORE_OK)
        return status;
    s = cs_alloc(1, sizeof *s);
    if (s == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    s->store = store;
    status = search_all(s, cs_bytes(text, len), err);
    if (status == CREDSTORE_OK)
        *out = s->page;
    else
        credstore_free(s->page);
    cs_free(s);
    return status;
}
