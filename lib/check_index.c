/* SPDX-License-Identifier: MIT
 *
 * The inspection of what lies beside the records: each entry opens, and points to a record that
 * says the same. Where the record cannot be read, nothing is held against the entry.
 */
#include "check.h"

#include <string.h>

#include "alias.h"
#include "error.h"
#include "op.h"
#include "sealed.h"
#include "time.h"

static const char nowhere[] = "The entry points to no record";
static const char another[] = "The record that the entry points to does not say so";

/* An entry in the wrong, which repair takes away; not told if its record is already. */
static cs_flaw *accuse(cs_inspection *in, const cs_subject *s, const cs_locator *at,
                       const char *message)
{
    cs_flaw *flaw =
        cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY,
                   at == NULL ? cs_topic_key(in, s->key) : cs_topic_record(in, at), message);

    flaw->mend = CS_MEND_DEL;
    if (at != NULL)
        cs_flaw_locate(flaw, at, flaw->revision);
    flaw->topic = cs_topic_key(in, s->key); /* it tells of this entry alone */
    return flaw;
}

/* Opens an index entry, whose plain text has len bytes (SIZE_MAX: any). */
static credstore_status open_entry(cs_inspection *in, const cs_subject *s, size_t len,
                                   cs_buf *plain, bool *ok, credstore_error *err)
{
    const size_t before = in->flaw_count;
    credstore_status status = cs_open_subject(in, s, plain, ok, err);

    if (status == CREDSTORE_OK && !*ok && in->flaw_count > before)
        in->flaws[in->flaw_count - 1].mend = CS_MEND_DEL;
    if (status == CREDSTORE_OK && *ok && len != SIZE_MAX && plain->len != len) {
        accuse(in, s, NULL, "The entry has an impossible length");
        *ok = false;
    }
    return status;
}

/* Has the record that is not there a history? Then it is lost, and that is told where it lay. */
static credstore_status is_lost(cs_inspection *in, const cs_locator *at, bool *lost,
                                credstore_error *err)
{
    cs_key from, to;

    cs_key_history(&from, at, 0);
    cs_key_history(&to, at, UINT64_MAX);
    return cs_any_there(in, &from, &to, lost, err);
}

/* The record that an entry points to. *go_on: it is there and can be read. */
static credstore_status follow(cs_inspection *in, const cs_subject *s, const cs_locator *at,
                               cs_loaded *out, bool *go_on, credstore_error *err)
{
    const cs_kind *kind = cs_kind_find(at->kind);
    bool readable = false, lost = false;
    cs_flaw *flaw;
    credstore_status status;

    *go_on = false;
    if (kind == NULL) {
        accuse(in, s, NULL, "A kind that this library does not know")->mend = CS_MEND_NONE;
        return CREDSTORE_OK;
    }
    status = cs_fetch(in, kind, at, 0, out, &readable, err);
    if (status != CREDSTORE_OK || !readable)
        return status;
    *go_on = out->found || out->removed;
    if (*go_on)
        return status;
    status = is_lost(in, at, &lost, err);
    flaw = accuse(in, s, at, nowhere);
    if (lost) /* its history bears some of them out */
        flaw->mend = CS_MEND_NONE;
    return status;
}

/* ---- owner index ---- */

credstore_status cs_inspect_owner(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_locator at = {.kind = s->place.at.kind, .id = s->place.at.id};
    cs_buf plain = {0};
    cs_loaded now = {0};
    uint8_t mac[32];
    bool go_on = false;
    credstore_status status = open_entry(in, s, 0, &plain, &go_on, err);

    if (status == CREDSTORE_OK && go_on)
        status = follow(in, s, &at, &now, &go_on, err);
    if (status == CREDSTORE_OK && go_on)
        status = cs_path_mac(in->store, at.kind, CS_NAME_OWNER, now.record.owner, now.record.parent,
                             mac, err);
    if (status == CREDSTORE_OK && go_on && now.removed)
        accuse(in, s, &at, "The entry points to a record that was removed");
    else if (status == CREDSTORE_OK && go_on && memcmp(mac, s->place.at.scope, CS_SCOPE_LEN) != 0)
        accuse(in, s, &at, another);
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

/* ---- last used, queues ---- */

credstore_status cs_inspect_usage(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool ok = false, go_on = false;
    credstore_status status = cs_open_subject(in, s, &plain, &ok, err);

    if (status == CREDSTORE_OK && ok && plain.len != 8)
        cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY, 0, "A used mark has an impossible length");
    if (status == CREDSTORE_OK && ok)
        status = follow(in, s, &s->place.at, &now, &go_on, err);
    if (status == CREDSTORE_OK && go_on && now.removed)
        accuse(in, s, &s->place.at, "The mark is of a record that was removed");
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

credstore_status cs_inspect_purge(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool go_on = false;
    credstore_status status = open_entry(in, s, 0, &plain, &go_on, err);

    if (status == CREDSTORE_OK && go_on)
        status = follow(in, s, &s->place.at, &now, &go_on, err);
    if (status == CREDSTORE_OK && go_on &&
        (!now.removed || (uint32_t)(now.record.removed_at / CS_DAY_MS) != s->place.day))
        accuse(in, s, &s->place.at, "The record was not removed, or on another day");
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

/* What it says of the record need not be so any more: then it is over without effect. */
credstore_status cs_inspect_end(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool go_on = false;
    credstore_status status = open_entry(in, s, 0, &plain, &go_on, err);

    if (status == CREDSTORE_OK && go_on)
        status = follow(in, s, &s->place.at, &now, &go_on, err);
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

/* ---- fingerprints ---- */

/* The oldest revision that history keeps of a record. */
static uint64_t oldest_of(uint64_t current)
{
    return current > CS_HISTORY_MAX ? current - CS_HISTORY_MAX : 1;
}

static bool names_secret(const cs_kind *kind, const cs_record *r, const cs_subject *s)
{
    const uint8_t *fingerprint = cs_record_fingerprint(kind, r, s->place.field, s->place.revision);

    return fingerprint != NULL &&
           memcmp(fingerprint, (const uint8_t *)s->key.ptr + 1, CS_FINGERPRINT_LEN) == 0;
}

/* The revision that got the secret names it, or a later one, after a restore. *whole = false: one
   that history should have is lost or cannot be read, which is told where it lies. */
static credstore_status ask_history(cs_inspection *in, const cs_subject *s, const cs_kind *kind,
                                    const cs_loaded *now, bool *named, bool *whole,
                                    credstore_error *err)
{
    const uint64_t oldest = oldest_of(now->record.revision);
    credstore_status status = CREDSTORE_OK;

    for (uint64_t r = s->place.revision > oldest ? s->place.revision : oldest;
         r < now->record.revision && !*named && status == CREDSTORE_OK; r++) {
        cs_loaded then = {0};
        bool readable = true;

        status = cs_fetch(in, kind, &s->place.at, r, &then, &readable, err);
        *named = status == CREDSTORE_OK && then.found && names_secret(kind, &then.record, s);
        *whole = *whole && readable &&
                 (then.found || (now->removed && !cs_is_retained(in, &now->record)));
        cs_loaded_free(&then);
    }
    return status;
}

/* A revision that is left names the secret: its entry goes with the last one that does. */
static credstore_status ask_record(cs_inspection *in, const cs_subject *s, const cs_kind *kind,
                                   const cs_loaded *now, credstore_error *err)
{
    const cs_locator *at = &s->place.at;
    bool named = now->found && names_secret(kind, &now->record, s), whole = true;
    credstore_status status;

    if (named)
        return CREDSTORE_OK;
    if (s->place.revision >= now->record.revision) { /* the record may be too old for it */
        accuse(in, s, at, another)->mend = CS_MEND_NONE;
        return CREDSTORE_OK;
    }
    status = ask_history(in, s, kind, now, &named, &whole, err);
    if (status == CREDSTORE_OK && !named && whole)
        accuse(in, s, at, another);
    return status;
}

credstore_status cs_inspect_fingerprint(cs_inspection *in, const cs_subject *s,
                                        credstore_error *err)
{
    const cs_kind *kind = cs_kind_find(s->place.at.kind);
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool go_on = false;
    credstore_status status = open_entry(in, s, 0, &plain, &go_on, err);

    if (status == CREDSTORE_OK && go_on)
        status = follow(in, s, &s->place.at, &now, &go_on, err);
    if (status == CREDSTORE_OK && go_on) {
        const size_t field = cs_field_index(kind, s->place.field);

        if (field < kind->field_count && kind->fields[field].type == CS_SECRET)
            status = ask_record(in, s, kind, &now, err);
        else /* a newer library's */
            accuse(in, s, &s->place.at, "A field that this library does not know")->mend =
                CS_MEND_NONE;
    }
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

/* ---- tokens ---- */

/* Opens an entry that names a record, and follows it. */
static credstore_status follow_reference(cs_inspection *in, const cs_subject *s, cs_buf *plain,
                                         cs_locator *at, cs_loaded *out, bool *go_on,
                                         credstore_error *err)
{
    const credstore_status status = open_entry(in, s, SIZE_MAX, plain, go_on, err);

    if (status != CREDSTORE_OK || !*go_on)
        return status;
    *go_on = cs_reference_read(cs_bytes(plain->ptr, plain->len), at);
    if (!*go_on) {
        accuse(in, s, NULL, "The entry has an impossible length");
        return status;
    }
    return follow(in, s, at, out, go_on, err);
}

static const cs_value *value_of(const cs_kind *kind, const cs_record *record, uint16_t field)
{
    static const cs_value none = {0};

    return field == 0 ? &none : &record->values[cs_field_index(kind, field)];
}

credstore_status cs_inspect_token(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_locator at = {0};
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool go_on = false;
    credstore_status status = follow_reference(in, s, &plain, &at, &now, &go_on, err);

    if (status == CREDSTORE_OK && go_on) {
        const cs_kind *kind = cs_kind_find(at.kind);
        const cs_value *id = value_of(kind, &now.record, kind->token.id);

        if (!cs_bytes_equal(id->bytes, s->place.label.at.id)) /* or the record is too old */
            accuse(in, s, &at, another)->mend = CS_MEND_NONE;
    }
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

/* Does the record hold a digest that this entry is named after, now or as the one before? */
static credstore_status holds(const cs_inspection *in, const cs_subject *s, const cs_kind *kind,
                              const cs_record *record, bool *yes, credstore_error *err)
{
    const uint16_t fields[] = {kind->token.digest, kind->token.previous};
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < 2 && status == CREDSTORE_OK && !*yes; i++) {
        const cs_value *digest = value_of(kind, record, fields[i]);
        uint8_t mac[32];
        cs_key key;

        if (!digest->present)
            continue;
        status = cs_digest_key(in->store, digest->bytes.ptr, &key, mac, err);
        *yes = status == CREDSTORE_OK && cs_bytes_equal(cs_key_bytes(&key), s->key);
    }
    return status;
}

/* A token that was rolled since is known to history alone, as long as that goes back to the
   import. *yes is true also where nobody can tell any more. */
static credstore_status held_once(cs_inspection *in, const cs_subject *s, const cs_kind *kind,
                                  const cs_locator *at, uint64_t current, bool *yes,
                                  credstore_error *err)
{
    const uint64_t first = oldest_of(current);
    bool complete = first == 1;
    credstore_status status = CREDSTORE_OK;

    for (uint64_t r = first; r < current && status == CREDSTORE_OK && !*yes; r++) {
        cs_loaded then = {0};
        bool readable = true;

        status = cs_fetch(in, kind, at, r, &then, &readable, err);
        complete = complete && readable && then.found;
        if (status == CREDSTORE_OK && then.found)
            status = holds(in, s, kind, &then.record, yes, err);
        cs_loaded_free(&then);
    }
    *yes = *yes || !complete;
    return status;
}

credstore_status cs_inspect_digest(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_locator at = {0};
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool go_on = false, yes = false;
    credstore_status status = follow_reference(in, s, &plain, &at, &now, &go_on, err);

    if (status == CREDSTORE_OK && go_on)
        status = holds(in, s, cs_kind_find(at.kind), &now.record, &yes, err);
    if (status == CREDSTORE_OK && go_on && !yes)
        status = held_once(in, s, cs_kind_find(at.kind), &at, now.record.revision, &yes, err);
    if (status == CREDSTORE_OK && go_on && !yes)
        accuse(in, s, &at, another)->mend = CS_MEND_NONE;
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}

/* ---- organizations ---- */

static bool take_text(const uint8_t *ptr, size_t len, char out[CS_ID_MAX + 1])
{
    if (len > CS_ID_MAX)
        return false;
    if (len > 0)
        memcpy(out, ptr, len);
    out[len] = '\0';
    return strlen(out) == len;
}

/* id, NUL, label */
static bool read_names(const cs_buf *plain, cs_alias *out)
{
    const uint8_t *end = plain->len == 0 ? NULL : memchr(plain->ptr, 0, plain->len);
    const size_t len = end == NULL ? 0 : (size_t)(end - plain->ptr);

    return end != NULL && len > 0 && take_text(plain->ptr, len, out->id) &&
           take_text(end + 1, plain->len - len - 1, out->label);
}

static cs_flaw *accuse_name(cs_inspection *in, const cs_subject *s, const cs_alias *names,
                            const char *message)
{
    const cs_record owner = {.owner = cs_bytes_of(names->id)};
    cs_flaw *flaw = accuse(in, s, NULL, message);

    cs_flaw_owned(flaw, &owner);
    return flaw;
}

/* The entry of an organization's own id: the label that it tells has an entry as well. */
static credstore_status check_own(cs_inspection *in, const cs_subject *s, const cs_alias *names,
                                  credstore_error *err)
{
    const cs_record owner = {.owner = cs_bytes_of(names->id)};
    bool there = false;
    uint8_t mac[32];
    cs_flaw *flaw;
    cs_key key;
    credstore_status status;

    if (names->label[0] == '\0')
        return CREDSTORE_OK;
    status = cs_alias_key(in->store, names->label, &key, mac, err);
    if (status == CREDSTORE_OK)
        status = cs_is_there(in, &key, &there, err);
    if (status != CREDSTORE_OK || there)
        return status;
    flaw = cs_flaw_note(in, s->place.name, cs_key_bytes(&key), CREDSTORE_E_INTEGRITY,
                        cs_topic_key(in, cs_key_bytes(&key)), "The entry of a label is lost");
    cs_flaw_owned(flaw, &owner);
    cs_flaw_put(flaw, cs_bytes(names->id, strlen(names->id) + 1));
    return status;
}

/* The entry of a label: the organization's own entry tells it. */
static credstore_status check_label(cs_inspection *in, const cs_subject *s, const cs_alias *names,
                                    credstore_error *err)
{
    credstore_error why = {0};
    uint8_t mac[32];
    cs_alias own;
    cs_key key;
    credstore_status status = cs_alias_find(in->txn, names->id, &own, &why);

    if (cs_is_damage(status))
        return CREDSTORE_OK; /* told where it lies */
    if (status == CREDSTORE_OK)
        status = cs_alias_key(in->store, own.found ? own.label : names->id, &key, mac, &why);
    if (status == CREDSTORE_OK && !own.found &&
        cs_is_told(in, cs_topic_key(in, cs_key_bytes(&key))))
        return status; /* that one is lost, and told */
    if (status == CREDSTORE_OK &&
        (!own.found || names->label[0] != '\0' || !cs_bytes_equal(cs_key_bytes(&key), s->key)))
        accuse_name(in, s, names, "The entry is of a label that its organization does not have");
    return cs_unless_damage(status, &why, err);
}

credstore_status cs_inspect_alias(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_buf plain = {0};
    cs_alias names = {0};
    uint8_t mac[32];
    bool ok = false;
    cs_key own;
    credstore_status status = open_entry(in, s, SIZE_MAX, &plain, &ok, err);

    if (status == CREDSTORE_OK && ok && !read_names(&plain, &names)) {
        accuse(in, s, NULL, "The entry is not laid out as it should");
        ok = false;
    }
    if (status == CREDSTORE_OK && ok)
        status = cs_alias_key(in->store, names.id, &own, mac, err);
    if (status == CREDSTORE_OK && ok)
        status = cs_bytes_equal(cs_key_bytes(&own), s->key) ? check_own(in, s, &names, err)
                                                            : check_label(in, s, &names, err);
    cs_buf_free(&plain);
    return status;
}

/* ---- receipts ---- */

enum { RECEIPT_HEAD = 32 + 8 + 8 }; /* request MAC, revision, when; the reference follows */

static credstore_status open_token(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_sealed_box boxes[CS_BOXES_MAX];
    credstore_error why = {0};
    size_t count = 0;
    credstore_status status = CREDSTORE_OK;

    (void)cs_place_boxes(&s->place, s->value, boxes, &count); /* its body was opened */
    in->unopened = in->unopened || (count == 2 && !in->reveals);
    if (count < 2 || !in->reveals)
        return status;
    in->counts.parts++;
    if (boxes[1].box.sealed.len == 0 || boxes[1].box.sealed.len > CS_SECRET_MAX)
        status = cs_fail(&why, CREDSTORE_E_INTEGRITY, NULL, "A token has an impossible length");
    else
        status = cs_txn_unseal(in->txn, CS_PURPOSE_SECRET, &boxes[1].label, &boxes[1].box,
                               cs_secret_bytes(in->room), &why);
    cs_wipe(cs_secret_bytes(in->room), CS_SECRET_MAX);
    if (cs_is_damage(status))
        cs_flaw_of(in, s, status, cs_topic_key(in, s->key), why.message)->field = "token";
    return cs_unless_damage(status, &why, err);
}

credstore_status cs_inspect_receipt(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_locator at = {0};
    cs_buf plain = {0};
    cs_loaded now = {0};
    bool ok = false, go_on = false;
    credstore_status status = cs_open_subject(in, s, &plain, &ok, err);

    if (status == CREDSTORE_OK && ok)
        status = open_token(in, s, err);
    if (status == CREDSTORE_OK && ok &&
        (plain.len < RECEIPT_HEAD ||
         !cs_reference_read(cs_bytes(plain.ptr + RECEIPT_HEAD, plain.len - RECEIPT_HEAD), &at))) {
        cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY, cs_topic_key(in, s->key),
                   "The receipt has an impossible length");
        ok = false;
    }
    if (status == CREDSTORE_OK && ok)
        status = follow(in, s, &at, &now, &go_on, err);
    if (status == CREDSTORE_OK && go_on && now.record.revision < cs_get_u64(plain.ptr + 32))
        accuse(in, s, &at, "The receipt is of a later revision than the record's");
    cs_loaded_free(&now);
    cs_buf_free(&plain);
    return status;
}
