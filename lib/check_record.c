/* SPDX-License-Identifier: MIT
 *
 * The inspection of records: current values, tombstones and history, their secrets, what history
 * must hold, and the entries that each must have in the indexes.
 */
#include "check.h"

#include <string.h>

#include "alias.h"
#include "error.h"
#include "op.h"
#include "ring.h"
#include "sealed.h"
#include "time.h"

/* A record under inspection, opened. */
typedef struct opened {
    const cs_subject *s;
    const cs_kind *kind;
    cs_loaded loaded;
} opened;

/* ---- secrets ---- */

/* Opens a part into the locked room, holds it against its fingerprint (NULL: none), wipes it. */
static credstore_status open_part(cs_inspection *in, const cs_sealed_box *part,
                                  const uint8_t *fingerprint, credstore_error *err)
{
    uint8_t *room = cs_secret_bytes(in->room);
    const size_t len = part->box.sealed.len;
    const credstore_bytes plain = cs_bytes(room, len);
    uint8_t mac[32];
    credstore_status status;

    if (len == 0 || len > CS_SECRET_MAX)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A secret has an impossible length");
    status = cs_txn_unseal(in->txn, CS_PURPOSE_SECRET, &part->label, &part->box, room, err);
    if (status == CREDSTORE_OK && fingerprint != NULL)
        status = cs_name_mac(&in->store->sealer, cs_store_name_key(in->store), CS_NAME_FINGERPRINT,
                             &plain, 1, mac, err);
    cs_wipe(room, len);
    if (status == CREDSTORE_OK && fingerprint != NULL &&
        memcmp(mac, fingerprint, CS_FINGERPRINT_LEN) != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A secret is not the one that was set");
    return status;
}

static const char *field_name(const cs_kind *kind, uint16_t id)
{
    const size_t i = cs_field_index(kind, id);

    return i < kind->field_count ? kind->fields[i].name : "";
}

static credstore_status check_parts(cs_inspection *in, const opened *o, credstore_error *err)
{
    cs_sealed_box boxes[CS_BOXES_MAX];
    size_t count = 0;
    credstore_status status = CREDSTORE_OK;

    (void)cs_place_boxes(&o->s->place, o->s->value, boxes, &count); /* it was decoded */
    for (size_t i = 1; i < count && status == CREDSTORE_OK; i++) {
        credstore_error why = {0};
        const uint8_t *fingerprint;
        cs_flaw *flaw;

        if (!in->reveals)
            break;
        in->counts.parts++;
        fingerprint =
            cs_record_fingerprint(o->kind, &o->loaded.record, boxes[i].field, boxes[i].revision);
        status = open_part(in, &boxes[i], fingerprint, &why);
        if (cs_is_damage(status)) {
            flaw = cs_flaw_of(in, o->s, status, 0, why.message);
            flaw->field = field_name(o->kind, boxes[i].field);
            cs_flaw_owned(flaw, &o->loaded.record);
        }
        status = cs_unless_damage(status, &why, err);
    }
    in->unopened = in->unopened || (count > 1 && !in->reveals);
    return status;
}

static bool body_opens(cs_inspection *in, const cs_sealed_box *body)
{
    cs_buf plain = {0};
    const bool opens = cs_buf_room(&plain, body->box.sealed.len) != NULL &&
                       cs_txn_unseal(in->txn, CS_PURPOSE_BODY, &body->label, &body->box, plain.ptr,
                                     NULL) == CREDSTORE_OK;

    cs_buf_free(&plain);
    return opens;
}

/* The value as a whole is not what was written. Is it one of its parts that lies wrong? */
static const char *blame(cs_inspection *in, const cs_subject *s, const cs_kind *kind)
{
    cs_sealed_box boxes[CS_BOXES_MAX];
    size_t count = 0;

    if (!in->reveals || !cs_place_boxes(&s->place, s->value, boxes, &count) ||
        !body_opens(in, &boxes[0]))
        return "";
    for (size_t i = 1; i < count; i++)
        if (cs_is_damage(open_part(in, &boxes[i], NULL, NULL)))
            return field_name(kind, boxes[i].field);
    return "";
}

/* ---- opening ---- */

static credstore_status open_record(cs_inspection *in, opened *o, bool *ok, credstore_error *err)
{
    const cs_place *place = &o->s->place;
    const bool is_history = place->role == CS_ROLE_HISTORY;
    const uint64_t topic =
        is_history ? cs_topic_key(in, o->s->key) : cs_topic_record(in, &place->at);
    credstore_error why = {0};
    credstore_status status;

    *ok = false;
    if (o->kind == NULL)
        status = cs_fail(&why, CREDSTORE_E_FORMAT, NULL, "A kind that this library does not know");
    else
        status =
            cs_load_value(in->txn, o->kind, &place->at, o->s->value, place->role, &o->loaded, &why);
    *ok = status == CREDSTORE_OK;
    if (cs_is_damage(status)) {
        cs_flaw *flaw = cs_flaw_of(in, o->s, status, topic, why.message);

        in->counts.unreadable++;
        if (o->kind != NULL)
            flaw->field = blame(in, o->s, o->kind);
    }
    o->loaded.is_history = is_history;
    return cs_unless_damage(status, &why, err);
}

/* ---- entries that must be there ---- */

static credstore_status need_entry(cs_inspection *in, const opened *o, const char *table,
                                   const cs_key *key, credstore_bytes plain, credstore_error *err)
{
    bool there = false;
    const credstore_status status = cs_is_there(in, key, &there, err);
    cs_flaw *flaw;

    if (status != CREDSTORE_OK || there)
        return status;
    flaw = cs_flaw_note(in, table, cs_key_bytes(key), CREDSTORE_E_INTEGRITY,
                        cs_topic_key(in, cs_key_bytes(key)),
                        "The record's entry in the index is lost");
    cs_flaw_locate(flaw, &o->s->place.at, o->loaded.record.revision);
    cs_flaw_owned(flaw, &o->loaded.record);
    cs_flaw_put(flaw, plain);
    return status;
}

static credstore_status need_reference(cs_inspection *in, const opened *o, const char *table,
                                       const cs_key *key, credstore_error *err)
{
    uint8_t plain[CS_REFERENCE_MAX];
    const size_t len = cs_reference_write(&o->s->place.at, plain);

    return need_entry(in, o, table, key, cs_bytes(plain, len), err);
}

static credstore_status need_fingerprint(cs_inspection *in, const opened *o, uint16_t field,
                                         uint64_t revision, const uint8_t *fingerprint,
                                         credstore_error *err)
{
    cs_key key;

    cs_key_fingerprint(&key, fingerprint, &o->s->place.at, field, revision);
    return need_entry(in, o, "fingerprint index", &key, cs_bytes(NULL, 0), err);
}

static credstore_status need_fingerprints(cs_inspection *in, const opened *o, credstore_error *err)
{
    const cs_record *r = &o->loaded.record;
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < o->kind->field_count && status == CREDSTORE_OK; i++)
        if (o->kind->fields[i].type == CS_SECRET && r->values[i].present)
            status = need_fingerprint(in, o, o->kind->fields[i].id, r->values[i].part_revision,
                                      r->values[i].fingerprint, err);
    for (size_t i = 0; i < r->previous_count && status == CREDSTORE_OK; i++)
        status = need_fingerprint(in, o, r->previous[i].field, r->previous[i].part_revision,
                                  r->previous[i].fingerprint, err);
    return status;
}

/* Tokens that were imported are found by their digest, and stay so when they are rolled. */
static credstore_status need_digest(cs_inspection *in, const opened *o, credstore_error *err)
{
    const cs_record *r = &o->loaded.record;
    uint8_t mac[32];
    cs_key key;
    credstore_status status;

    if (!cs_is_import(o->kind, r))
        return CREDSTORE_OK;
    status = cs_digest_key(in->store,
                           r->values[cs_field_index(o->kind, o->kind->token.digest)].bytes.ptr,
                           &key, mac, err);
    return status == CREDSTORE_OK ? need_reference(in, o, "digest index", &key, err) : status;
}

static const cs_value *value_of(const opened *o, uint16_t field)
{
    return field == 0 ? NULL : &o->loaded.record.values[cs_field_index(o->kind, field)];
}

static credstore_status need_token(cs_inspection *in, const opened *o, credstore_error *err)
{
    const cs_value *value = value_of(o, o->kind->token.id);
    cs_key key;

    if (value == NULL || !value->present || value->bytes.len != CS_KSUID_LEN)
        return CREDSTORE_OK;
    cs_key_token(&key, value->bytes.ptr);
    return need_reference(in, o, "token index", &key, err);
}

static credstore_status need_end(cs_inspection *in, const opened *o, int64_t end,
                                 credstore_error *err)
{
    cs_key key;

    cs_key_end(&key, end, &o->s->place.at);
    return need_entry(in, o, "queue of ends", &key, cs_bytes(NULL, 0), err);
}

/* Graces, and a life that was not yet found over, are in the queue until they are worked off. */
static credstore_status need_ends(cs_inspection *in, const opened *o, credstore_error *err)
{
    const cs_kind *kind = o->kind;
    const cs_record *r = &o->loaded.record;
    const cs_value *grace = value_of(o, kind->token.previous_until);
    const cs_value *life = value_of(o, kind->expires_field);
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < r->previous_count && status == CREDSTORE_OK; i++)
        status = need_end(in, o, r->previous[i].until, err);
    if (status == CREDSTORE_OK && grace != NULL && grace->present)
        status = need_end(in, o, grace->number, err);
    if (status == CREDSTORE_OK && life != NULL && life->present && kind->expired_field != 0 &&
        !value_of(o, kind->expired_field)->present)
        status = need_end(in, o, life->number, err);
    return status;
}

/* The organization's own entry. Neighbours are often of the same one. */
static credstore_status need_organization(cs_inspection *in, const opened *o, credstore_error *err)
{
    const credstore_bytes owner = o->loaded.record.owner;
    char id[CS_ID_MAX + 1];
    uint8_t mac[32];
    cs_key key;
    credstore_status status;

    if ((o->kind->flags & CS_TENANT_IS_PATH) == 0 || owner.len > CS_ID_MAX || owner.len == 0 ||
        cs_bytes_equal(owner, cs_bytes_of(in->organization)))
        return CREDSTORE_OK;
    memcpy(id, owner.ptr, owner.len);
    id[owner.len] = '\0';
    status = cs_alias_key(in->store, id, &key, mac, err);
    if (status == CREDSTORE_OK)
        status = need_entry(in, o, "organization", &key, cs_bytes(id, owner.len + 1), err);
    memcpy(in->organization, id, sizeof in->organization);
    return status;
}

/* Records whose place is keyed by their owner are in it; the others are in their owner's index. */
static credstore_status check_owner(cs_inspection *in, const opened *o, credstore_error *err)
{
    const bool is_listed = o->kind->scope == CS_SCOPE_STORE;
    const cs_record *r = &o->loaded.record;
    uint8_t mac[32];
    cs_key key;
    credstore_status status =
        cs_path_mac(in->store, o->kind->id, is_listed ? CS_NAME_OWNER : CS_NAME_SCOPE, r->owner,
                    r->parent, mac, err);

    if (status != CREDSTORE_OK)
        return status;
    cs_key_owner(&key, mac, &o->s->place.at);
    if (is_listed && r->removed_at == 0)
        return need_entry(in, o, "owner index", &key, cs_bytes(NULL, 0), err);
    if (!is_listed && memcmp(mac, o->s->place.at.scope, CS_SCOPE_LEN) != 0)
        cs_flaw_owned(cs_flaw_of(in, o->s, CREDSTORE_E_INTEGRITY, 0,
                                 "The record does not lie under its owner"),
                      r);
    return status;
}

/* ---- history, as a whole ---- */

typedef struct history_walk {
    size_t key_len;
    uint64_t next, current; /* next: the revision that has to come */
    uint64_t gap;           /* the first that did not; 0 = none */
    uint64_t count;
    bool ahead; /* one that is not older than the record */
} history_walk;

static bool walk_history(void *arg, credstore_bytes key, credstore_bytes value)
{
    history_walk *w = arg;
    uint64_t revision;

    (void)value;
    if (key.len != w->key_len) /* no key of ours: told where the walk meets it */
        return true;
    revision = cs_get_u64((const uint8_t *)key.ptr + key.len - 8);
    w->ahead = w->ahead || revision >= w->current;
    w->count++;
    if (revision < w->next || revision >= w->current)
        return true;
    if (revision > w->next && w->gap == 0)
        w->gap = w->next;
    w->next = revision + 1;
    return true;
}

static credstore_status look_at_history(cs_inspection *in, const opened *o, history_walk *w,
                                        credstore_error *err)
{
    const uint64_t revision = o->loaded.record.revision;
    const cs_scan scan = {.visit = walk_history, .arg = w};
    cs_key from, to;
    credstore_status status;

    memset(w, 0, sizeof *w);
    cs_key_history(&from, &o->s->place.at, 0);
    cs_key_history(&to, &o->s->place.at, UINT64_MAX);
    w->key_len = from.len;
    w->current = revision;
    w->next = revision > CS_HISTORY_MAX ? revision - CS_HISTORY_MAX : 1;
    status = cs_txn_scan(in->txn, &from, &to, &scan, err);
    if (w->next < revision && w->gap == 0)
        w->gap = w->next;
    return status;
}

static void note_history(cs_inspection *in, const opened *o, const history_walk *w, bool complete)
{
    cs_flaw *flaw;
    cs_key key;

    if (w->ahead)
        cs_flaw_owned(cs_flaw_of(in, o->s, CREDSTORE_E_ROLLBACK,
                                 cs_topic_record(in, &o->s->place.at),
                                 "The record is older than its own history"),
                      &o->loaded.record);
    if (!complete || w->gap == 0)
        return;
    cs_key_history(&key, &o->s->place.at, w->gap);
    flaw =
        cs_flaw_note(in, "record", cs_key_bytes(&key), CREDSTORE_E_INTEGRITY,
                     cs_topic_key(in, cs_key_bytes(&key)), "The revision is lost from the history");
    cs_flaw_locate(flaw, &o->s->place.at, w->gap);
    cs_flaw_owned(flaw, &o->loaded.record);
}

/* A removed record is in the queue of those whose history goes, and leaves it when that is gone. In
   its retention none of it is. */
static credstore_status check_queue(cs_inspection *in, const opened *o, const history_walk *w,
                                    bool *complete, credstore_error *err)
{
    const uint32_t day = (uint32_t)(o->loaded.record.removed_at / CS_DAY_MS);
    bool queued = false;
    cs_key key;
    credstore_status status;

    cs_key_purge(&key, day, &o->s->place.at);
    status = cs_is_there(in, &key, &queued, err);
    *complete = (queued || w->count > 0) && cs_is_retained(in, &o->loaded.record);
    if (status != CREDSTORE_OK || queued || w->count == 0)
        return status;
    return need_entry(in, o, "purge queue", &key, cs_bytes(NULL, 0), err);
}

static credstore_status check_history(cs_inspection *in, const opened *o, credstore_error *err)
{
    bool complete = true;
    history_walk w;
    credstore_status status = look_at_history(in, o, &w, err);

    if (status == CREDSTORE_OK && o->loaded.record.removed_at != 0)
        status = check_queue(in, o, &w, &complete, err);
    if (status == CREDSTORE_OK)
        note_history(in, o, &w, complete);
    return status;
}

/* ---- current values and tombstones ---- */

static void check_sketch(cs_inspection *in, const opened *o)
{
    const cs_locator *at = &o->s->place.at;

    if (in->sketch.whole && !cs_sketch_has(in, at, o->loaded.record.revision))
        cs_flaw_owned(cs_flaw_of(in, o->s, CREDSTORE_E_ROLLBACK, cs_topic_record(in, at),
                                 "The record is newer than the audit tells"),
                      &o->loaded.record);
}

static credstore_status inspect_current(cs_inspection *in, opened *o, credstore_error *err)
{
    const bool removed = o->s->place.role == CS_ROLE_TOMBSTONE;
    bool ok = false;
    credstore_status status = open_record(in, o, &ok, err);

    in->counts.records++;
    if (status != CREDSTORE_OK || !ok)
        return status;
    if (removed != (o->loaded.record.removed_at != 0))
        cs_flaw_of(in, o->s, CREDSTORE_E_INTEGRITY, cs_topic_record(in, &o->s->place.at),
                   "The record does not say when it was removed, or should not");
    check_sketch(in, o);
    status = check_parts(in, o, err);
    if (status == CREDSTORE_OK)
        status = check_history(in, o, err);
    if (status != CREDSTORE_OK || cs_is_known(in, cs_topic_record(in, &o->s->place.at)))
        return status; /* a record that is not the one of today has not its entries either */
    status = check_owner(in, o, err);
    if (status == CREDSTORE_OK)
        status = need_organization(in, o, err);
    if (status == CREDSTORE_OK)
        status = need_token(in, o, err);
    if (status == CREDSTORE_OK && !removed)
        status = need_digest(in, o, err);
    if (status == CREDSTORE_OK && !removed)
        status = need_ends(in, o, err);
    return status == CREDSTORE_OK ? need_fingerprints(in, o, err) : status;
}

/* ---- history, one by one ---- */

/* Are the later revisions, where a part may lie, as they were written? If not, that is told where
   they lie. */
static credstore_status later_sound(cs_inspection *in, const opened *o, bool *sound,
                                    credstore_error *err)
{
    const cs_locator *at = &o->s->place.at;
    cs_loaded other = {0};
    uint64_t current;
    credstore_status status = cs_fetch(in, o->kind, at, 0, &other, sound, err);

    *sound = *sound && (other.found || other.removed);
    current = other.record.revision;
    cs_loaded_free(&other);
    for (uint64_t r = o->loaded.record.revision + 1;
         r < current && *sound && status == CREDSTORE_OK; r++) {
        status = cs_fetch(in, o->kind, at, r, &other, sound, err);
        *sound = *sound && other.found;
        cs_loaded_free(&other);
    }
    return status;
}

/* All revisions that name a part miss it together. */
static uint64_t topic_part(const cs_inspection *in, const opened *o, uint16_t field,
                           const cs_value *value)
{
    cs_key key;

    cs_key_fingerprint(&key, value->part_tag, &o->s->place.at, field, value->part_revision);
    return cs_topic_key(in, cs_key_bytes(&key));
}

/* Each secret that the body names lies here or in a later revision. */
static credstore_status check_parts_elsewhere(cs_inspection *in, const opened *o,
                                              credstore_error *err)
{
    const cs_record *r = &o->loaded.record;
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < o->kind->field_count && status == CREDSTORE_OK; i++) {
        credstore_error why = {0};
        bool sound = true;
        cs_part part;

        if (o->kind->fields[i].type != CS_SECRET || !r->values[i].present)
            continue;
        status = cs_load_part(in->txn, o->kind, &o->s->place.at, &o->loaded, i, &part, &why);
        if (status == CREDSTORE_OK)
            continue;
        status = cs_unless_damage(status, &why, err);
        if (status == CREDSTORE_OK)
            status = later_sound(in, o, &sound, err);
        if (status == CREDSTORE_OK && sound) {
            cs_flaw *flaw =
                cs_flaw_of(in, o->s, CREDSTORE_E_INTEGRITY,
                           topic_part(in, o, o->kind->fields[i].id, &r->values[i]), why.message);

            flaw->field = o->kind->fields[i].name;
            cs_flaw_owned(flaw, r);
        }
    }
    return status;
}

static credstore_status check_head_of_history(cs_inspection *in, const opened *o,
                                              credstore_error *err)
{
    bool there = false;
    cs_key key;
    credstore_status status;

    cs_key_record(&key, &o->s->place.at);
    status = cs_is_there(in, &key, &there, err);
    if (status == CREDSTORE_OK && !there) {
        cs_flaw *flaw = cs_flaw_note(in, "record", cs_key_bytes(&key), CREDSTORE_E_INTEGRITY,
                                     cs_topic_record(in, &o->s->place.at),
                                     "The record of this history is lost");

        cs_flaw_locate(flaw, &o->s->place.at, o->loaded.record.revision);
        cs_flaw_owned(flaw, &o->loaded.record);
    }
    return status;
}

static credstore_status inspect_history(cs_inspection *in, opened *o, credstore_error *err)
{
    bool ok = false;
    credstore_status status = open_record(in, o, &ok, err);

    in->counts.history++;
    if (status != CREDSTORE_OK || !ok)
        return status;
    status = check_head_of_history(in, o, err);
    if (status == CREDSTORE_OK)
        status = check_parts(in, o, err);
    if (status == CREDSTORE_OK)
        status = check_parts_elsewhere(in, o, err);
    if (status == CREDSTORE_OK)
        status = need_digest(in, o, err);
    return status == CREDSTORE_OK ? need_fingerprints(in, o, err) : status;
}

credstore_status cs_inspect_record(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    opened o = {.s = s, .kind = cs_kind_find(s->place.at.kind)};
    const credstore_status status = s->place.role == CS_ROLE_HISTORY ? inspect_history(in, &o, err)
                                                                     : inspect_current(in, &o, err);

    cs_loaded_free(&o.loaded);
    return status;
}
