/* SPDX-License-Identifier: MIT
 *
 * The inspection of the audit: the chain from entry to entry, head and anchor, and each entry
 * against the record that it is about. An entry is held against the one before it, so each can be
 * inspected by itself and in any snapshot.
 */
#include "check.h"

#include <string.h>

#include "clock.h"
#include "error.h"
#include "op.h"
#include "sealed.h"

enum { LANE = 0 };

static void note(cs_inspection *in, uint64_t seq, credstore_status status, const char *message)
{
    cs_flaw *flaw;
    cs_key key;

    cs_key_audit(&key, LANE, seq);
    flaw = cs_flaw_note(in, "audit", cs_key_bytes(&key), status,
                        cs_topic_key(in, cs_key_bytes(&key)), message);
    flaw->seq = seq;
    in->sketch.whole = false;
}

/* ---- where an entry goes on from ---- */

static bool note_seq(void *arg, credstore_bytes key, credstore_bytes value)
{
    uint64_t *seq = arg;

    (void)value;
    if (key.len >= 8)
        *seq = cs_get_u64((const uint8_t *)key.ptr + key.len - 8);
    return false;
}

/* Entry seq is not there: tells of the first of those that are lost with it. */
static credstore_status note_lost(cs_inspection *in, uint64_t seq, credstore_error *err)
{
    uint64_t before = in->gone.seq;
    const cs_scan scan = {.reverse = true, .limit = 1, .visit = note_seq, .arg = &before};
    cs_key from, to;
    credstore_status status;

    cs_key_audit(&from, LANE, in->gone.seq + 1);
    cs_key_audit(&to, LANE, seq);
    status = cs_txn_scan(in->txn, &from, &to, &scan, err);
    if (status == CREDSTORE_OK && (in->has_anchor || before > 0))
        note(in, before + 1, CREDSTORE_E_INTEGRITY, "The entry is lost");
    return status;
}

/* The chain value after entry seq. *known = false: there is none, which is told in its own place.
 */
static credstore_status chain_after(cs_inspection *in, uint64_t seq, uint8_t out[CS_CHAIN_LEN],
                                    bool *known, credstore_error *err)
{
    credstore_error why = {0};
    cs_buf plain = {0};
    bool there = false;
    cs_key key;
    credstore_status status;

    *known = true;
    if (seq == in->gone.seq) { /* zero before the first */
        memcpy(out, in->gone.chain, CS_CHAIN_LEN);
        *known = in->has_anchor;
        return CREDSTORE_OK;
    }
    if (seq == in->chain_seq) {
        memcpy(out, in->chain, CS_CHAIN_LEN);
        return CREDSTORE_OK;
    }
    *known = false;
    cs_key_audit(&key, LANE, seq);
    status = cs_is_there(in, &key, &there, err);
    if (status == CREDSTORE_OK && !there)
        return note_lost(in, seq, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_audit_open(in->txn, seq, &plain, &why);
    if (status == CREDSTORE_OK)
        status = cs_audit_chain(in->store, seq, &plain, out, &why);
    *known = status == CREDSTORE_OK;
    cs_buf_free(&plain);
    return cs_unless_damage(status, &why, err);
}

static credstore_status check_before(cs_inspection *in, const cs_ledger_entry *entry,
                                     credstore_error *err)
{
    uint8_t before[CS_CHAIN_LEN];
    bool known = false;
    const credstore_status status = chain_after(in, entry->seq - 1, before, &known, err);

    if (status != CREDSTORE_OK || !known || memcmp(before, entry->previous, CS_CHAIN_LEN) == 0)
        return status;
    if (entry->seq - 1 == in->gone.seq)
        note(in, entry->seq, CREDSTORE_E_INTEGRITY,
             "The entry does not go on from where the audit begins");
    else
        note(in, entry->seq - 1, CREDSTORE_E_INTEGRITY,
             "The entry is not the one that the next goes on from");
    return status;
}

/* ---- the record that an entry is about ---- */

static credstore_status locate(const cs_inspection *in, const cs_audit_entry *e,
                               const cs_kind *kind, cs_locator *at, credstore_error *err)
{
    uint8_t mac[32];
    credstore_status status;

    memset(at, 0, sizeof *at);
    at->kind = e->kind;
    at->id = e->id;
    if (kind->scope == CS_SCOPE_STORE)
        return CREDSTORE_OK;
    status = cs_path_mac(in->store, e->kind, CS_NAME_SCOPE, e->tenant, e->parent, mac, err);
    memcpy(at->scope, mac, CS_SCOPE_LEN);
    return status;
}

static bool tells_of_record(const cs_audit_entry *e)
{
    return e->id.len > 0 && e->id.len <= CS_ID_MAX && e->revision > 0 &&
           cs_kind_find(e->kind) != NULL;
}

/* NULL: the record agrees. */
static const char *quarrel(const cs_audit_entry *e, const cs_loaded *now, credstore_status *status)
{
    *status = CREDSTORE_E_ROLLBACK;
    if (!now->found && !now->removed) {
        *status = CREDSTORE_E_INTEGRITY;
        return "The audit tells of a record that is not there";
    }
    if (now->record.revision < e->revision)
        return "The record is older than the audit tells";
    return e->action == CS_ACTION_REMOVE && now->found
               ? "The record was removed, as the audit tells, and is there again"
               : NULL;
}

/* The clear outside of a record is enough as long as it agrees; an accusation is made on what was
   opened. */
static credstore_status accuse(cs_inspection *in, const cs_ledger_entry *entry, const cs_kind *kind,
                               const cs_locator *at, credstore_error *err)
{
    credstore_status verdict = CREDSTORE_OK;
    const char *line;
    bool readable = false;
    cs_loaded now = {0};
    cs_flaw *flaw;
    cs_key key;
    const credstore_status status = cs_fetch(in, kind, at, 0, &now, &readable, err);

    line = quarrel(&entry->entry, &now, &verdict);
    if (status == CREDSTORE_OK && readable && line != NULL) {
        const cs_record owner = {.owner = entry->entry.tenant, .parent = entry->entry.parent};

        cs_key_record(&key, at);
        flaw =
            cs_flaw_note(in, "record", cs_key_bytes(&key), verdict, cs_topic_record(in, at), line);
        cs_flaw_locate(flaw, at, now.record.revision);
        cs_flaw_owned(flaw, &owner);
        flaw->seq = entry->seq;
    }
    cs_loaded_free(&now);
    return status;
}

static credstore_status check_record(cs_inspection *in, const cs_ledger_entry *entry,
                                     credstore_error *err)
{
    const cs_audit_entry *e = &entry->entry;
    const cs_kind *kind = cs_kind_find(e->kind);
    credstore_bytes value;
    bool found = false;
    cs_locator at;
    cs_key key;
    credstore_status status;

    if (!tells_of_record(e))
        return CREDSTORE_OK;
    status = locate(in, e, kind, &at, err);
    if (status != CREDSTORE_OK)
        return status;
    cs_sketch_add(in, &at, e->revision);
    cs_key_record(&key, &at);
    status = cs_txn_get(in->txn, &key, &value, &found, err);
    if (status != CREDSTORE_OK)
        return status;
    if (found && cs_frame_role(value) != 0 &&
        cs_get_u64((const uint8_t *)value.ptr + 4) >= e->revision &&
        (e->action != CS_ACTION_REMOVE || cs_frame_role(value) == CS_ROLE_TOMBSTONE))
        return status;
    return accuse(in, entry, kind, &at, err);
}

/* ---- entry, head, anchor ---- */

static credstore_status inspect_entry(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    const uint64_t seq = s->place.seq;
    credstore_error why = {0};
    cs_buf plain = {0};
    cs_ledger_entry entry;
    credstore_status status;

    in->counts.audit_entries++;
    if (in->has_anchor && seq <= in->gone.seq) {
        note(in, seq, CREDSTORE_E_ROLLBACK, "The entry was pruned, and is there again");
        return CREDSTORE_OK;
    }
    status = cs_ledger_entry_read(in->txn, seq, &plain, &entry, &why);
    if (cs_is_damage(status))
        note(in, seq, status, "The entry is not what was written");
    if (status != CREDSTORE_OK) {
        cs_buf_free(&plain);
        return cs_unless_damage(status, &why, err);
    }
    status = check_before(in, &entry, err);
    if (status == CREDSTORE_OK)
        status = cs_audit_chain(in->store, seq, &plain, in->chain, err);
    in->chain_seq = status == CREDSTORE_OK ? seq : 0;
    if (status == CREDSTORE_OK)
        status = check_record(in, &entry, err);
    if (seq == in->sketch.seq + 1 || in->sketch.seq == 0)
        in->sketch.seq = seq;
    cs_buf_free(&plain);
    return status;
}

/* Is there an entry that a later commit than the head's wrote? */
static credstore_status look_ahead(cs_inspection *in, bool *later, credstore_error *err)
{
    uint64_t seq = 0;
    const cs_scan scan = {.limit = 1, .visit = note_seq, .arg = &seq};
    cs_key from, to;
    credstore_status status;

    cs_key_audit(&from, LANE, in->head.last_seq + 1);
    cs_key_head(&to, LANE);
    status = cs_txn_scan(in->txn, &from, &to, &scan, err);
    *later = seq != 0;
    return status;
}

static credstore_status inspect_head(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    const uint64_t topic = cs_topic_key(in, s->key);
    credstore_error why = {0};
    uint8_t last[CS_CHAIN_LEN];
    bool found = false, known = false, later = false;
    cs_head head;
    credstore_status status = cs_head_read(in->txn, &head, &found, &why);

    if (cs_is_damage(status))
        cs_flaw_of(in, s, status, topic, why.message);
    if (status != CREDSTORE_OK)
        return cs_unless_damage(status, &why, err);
    status = look_ahead(in, &later, err);
    if (status == CREDSTORE_OK && (later || head.generation < in->txn->seen))
        cs_flaw_of(in, s, CREDSTORE_E_ROLLBACK, topic, "The head is older than the store")->seq =
            head.last_seq;
    if (status == CREDSTORE_OK && head.last_seq >= in->gone.seq)
        status = chain_after(in, head.last_seq, last, &known, err);
    if (status == CREDSTORE_OK && known && memcmp(last, head.chain, sizeof last) != 0)
        cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY, topic,
                   "The head does not go on from the last audit entry")
            ->seq = head.last_seq;
    return status;
}

static credstore_status inspect_anchor(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    credstore_error why = {0};
    cs_anchor gone;
    const credstore_status status = cs_anchor_read(in->txn, &gone, &why);

    if (cs_is_damage(status))
        cs_flaw_of(in, s, status, cs_topic_key(in, s->key), "The anchor is not what was written");
    else if (status == CREDSTORE_OK && in->has_head && gone.seq >= in->head.last_seq)
        cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY, cs_topic_key(in, s->key),
                   "The anchor lies behind the head");
    return cs_unless_damage(status, &why, err);
}

static credstore_status inspect_clock(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    credstore_error why = {0};
    cs_clock clock;
    const credstore_status status = cs_clock_read(in->txn, &clock, &why);

    if (cs_is_damage(status))
        cs_flaw_of(in, s, status, cs_topic_key(in, s->key), why.message);
    return cs_unless_damage(status, &why, err);
}

credstore_status cs_inspect_lane(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    if (s->place.label.field != LANE) {
        cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY, 0, "A lane that this library does not write");
        return CREDSTORE_OK;
    }
    if (s->place.role == CS_ROLE_AUDIT)
        return inspect_entry(in, s, err);
    if (s->place.role == CS_ROLE_HEAD)
        return inspect_head(in, s, err);
    return s->place.role == CS_ROLE_ANCHOR ? inspect_anchor(in, s, err) : inspect_clock(in, s, err);
}

/* ---- the sketch, up to the snapshot's end ---- */

static credstore_status add_entry(cs_inspection *in, uint64_t seq, bool *there,
                                  credstore_error *err)
{
    credstore_error why = {0};
    cs_buf plain = {0};
    cs_ledger_entry entry;
    cs_locator at;
    credstore_status status = cs_ledger_entry_read(in->txn, seq, &plain, &entry, &why);

    *there = status == CREDSTORE_OK;
    if (status == CREDSTORE_OK && tells_of_record(&entry.entry)) {
        status = locate(in, &entry.entry, cs_kind_find(entry.entry.kind), &at, &why);
        if (status == CREDSTORE_OK)
            cs_sketch_add(in, &at, entry.entry.revision);
    }
    cs_buf_free(&plain);
    return cs_unless_damage(status, &why, err);
}

credstore_status cs_sketch_catch_up(cs_inspection *in, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;
    bool there = true;

    if (!in->has_head || !in->has_anchor || in->gone.seq > 0)
        in->sketch.whole = false;
    while (status == CREDSTORE_OK && in->sketch.whole && in->sketch.seq < in->head.last_seq) {
        status = add_entry(in, in->sketch.seq + 1, &there, err);
        in->sketch.seq++;
        in->sketch.whole = in->sketch.whole && there;
    }
    return status;
}
