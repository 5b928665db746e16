/* SPDX-License-Identifier: MIT
 *
 * Putting a record, and what lies beside it. The new value takes over the sealed parts that did not
 * change, byte for byte; those that did go with the old body into history. Everything is sealed
 * before anything is put.
 */
#include "put.h"

#include <string.h>

#include "alias.h"
#include "clock.h"
#include "drop.h"
#include "ends.h"
#include "error.h"
#include "issue.h"
#include "sealed.h"

static bool is_changed(const cs_settle *settle, size_t i)
{
    return (settle->changed >> i & 1) != 0;
}

/* Appends the part of field i to *parts: sealed now if it is new, else as it lay. */
static credstore_status add_part(cs_txn *txn, const cs_locator *at, cs_settle *settle, size_t i,
                                 const cs_loaded *old, cs_buf *parts, credstore_error *err)
{
    const uint16_t field = settle->kind->fields[i].id;
    cs_value *value = &settle->fresh.values[i];
    const cs_part *part;
    cs_label label;

    if (is_changed(settle, i) && settle->source != NULL) { /* as it lay then */
        cs_part then;
        const credstore_status status =
            cs_load_part(txn, settle->kind, at, settle->source, i, &then, err);

        if (status == CREDSTORE_OK)
            cs_buf_add(parts, then.whole.ptr, then.whole.len);
        return status;
    }
    if (!is_changed(settle, i)) {
        part = cs_record_part(&old->record, field, value->part_revision); /* decoding saw to it */
        cs_buf_add(parts, part->whole.ptr, part->whole.len);
        return CREDSTORE_OK;
    }
    value->part_revision = settle->fresh.revision;
    label = cs_record_label(CS_ROLE_PART, at, field, value->part_revision);
    cs_part_begin(parts, field, value->part_revision);
    return cs_txn_seal(txn, CS_PURPOSE_SECRET, &label, settle->inputs->field[i].bytes, parts,
                       value->part_tag, err);
}

static credstore_status seal_current(cs_txn *txn, const cs_locator *at, cs_settle *settle,
                                     const cs_loaded *old, cs_buf *value, credstore_error *err)
{
    const cs_kind *kind = settle->kind;
    const cs_label label = cs_record_label(settle->role, at, 0, settle->fresh.revision);
    cs_buf parts = {0}, body = {0};
    uint16_t count = 0;
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < kind->field_count && status == CREDSTORE_OK; i++) {
        if (kind->fields[i].type != CS_SECRET || !settle->fresh.values[i].present)
            continue;
        status = add_part(txn, at, settle, i, old, &parts, err);
        count++;
    }
    for (size_t i = 0; i < settle->fresh.previous_count && status == CREDSTORE_OK; i++) {
        const cs_previous *p = &settle->fresh.previous[i];
        const cs_part *part = cs_record_part(&old->record, p->field, p->part_revision);

        cs_buf_add(&parts, part->whole.ptr, part->whole.len);
        count++;
    }
    if (status != CREDSTORE_OK)
        goto cleanup;
    cs_record_encode(kind, &settle->fresh, &body);
    cs_frame_begin(value, settle->role, count, settle->fresh.revision);
    if (body.failed || parts.failed)
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    else if (body.len > CS_BODY_MAX)
        status = cs_fail(err, CREDSTORE_E_TOO_LARGE, NULL, "The record is larger than 64 KiB");
    else
        status = cs_txn_seal(txn, CS_PURPOSE_BODY, &label, cs_bytes(body.ptr, body.len), value,
                             NULL, err);
    cs_buf_add(value, parts.ptr, parts.len);
cleanup:
    cs_buf_free(&parts);
    cs_buf_free(&body);
    return status;
}

/* Does the new value still have this part, as the current secret or as one in its grace? */
static bool stays(const cs_settle *settle, const cs_part *part)
{
    const cs_value *value = cs_settle_value(settle, part->field);
    const cs_previous *previous = cs_record_previous(&settle->fresh, part->field);

    return (value->present && value->part_revision == part->revision) ||
           (previous != NULL && previous->part_revision == part->revision);
}

/* The old body under its history label, with the parts that are replaced or cleared. */
static credstore_status seal_history(cs_txn *txn, const cs_locator *at, const cs_settle *settle,
                                     const cs_loaded *old, cs_buf *value, credstore_error *err)
{
    const cs_label label = cs_record_label(CS_ROLE_HISTORY, at, 0, old->record.revision);
    cs_buf parts = {0};
    uint16_t count = 0;
    credstore_status status;

    for (size_t i = 0; i < old->record.part_count; i++) {
        const cs_part *part = &old->record.parts[i];

        if (stays(settle, part))
            continue;
        cs_buf_add(&parts, part->whole.ptr, part->whole.len);
        count++;
    }
    cs_frame_begin(value, CS_ROLE_HISTORY, count, old->record.revision);
    status = cs_txn_seal(txn, CS_PURPOSE_BODY, &label, cs_bytes(old->plain.ptr, old->plain.len),
                         value, NULL, err);
    cs_buf_add(value, parts.ptr, parts.len);
    if (status == CREDSTORE_OK && parts.failed)
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_buf_free(&parts);
    return status;
}

/* For each secret that is new: an entry by which a leaked one is found. It opens nothing, and says
 * nothing without the key. */
static credstore_status put_fingerprints(cs_txn *txn, const cs_locator *at, const cs_settle *settle,
                                         credstore_error *err)
{
    const cs_kind *kind = settle->kind;
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < kind->field_count && status == CREDSTORE_OK; i++) {
        const cs_value *value = &settle->fresh.values[i];
        const uint16_t field = kind->fields[i].id;
        const cs_label label =
            cs_record_label(CS_ROLE_FINGERPRINT, at, field, value->part_revision);
        cs_key key;

        if (kind->fields[i].type != CS_SECRET || !value->present ||
            value->part_revision != settle->fresh.revision)
            continue;
        cs_key_fingerprint(&key, value->fingerprint, at, field, value->part_revision);
        status = cs_txn_put_sealed(txn, &key, &label, cs_bytes(NULL, 0), err);
    }
    return status;
}

credstore_status cs_put_record(cs_txn *txn, const cs_locator *at, cs_settle *settle,
                               const cs_loaded *old, credstore_error *err)
{
    const bool drops = settle->fresh.revision > CS_HISTORY_MAX + 1;
    cs_buf current = {0}, history = {0};
    cs_drop oldest;
    cs_key key;
    credstore_status status = seal_current(txn, at, settle, old, &current, err);

    if (status == CREDSTORE_OK && old != NULL)
        status = seal_history(txn, at, settle, old, &history, err);
    if (status == CREDSTORE_OK && drops)
        status = cs_drop_look(txn, at, settle->fresh.revision - CS_HISTORY_MAX - 1, &settle->fresh,
                              &oldest, err);
    if (status == CREDSTORE_OK) {
        cs_key_record(&key, at);
        status = cs_txn_put(txn, &key, &current, err);
    }
    if (status == CREDSTORE_OK && old != NULL) {
        cs_key_history(&key, at, old->record.revision);
        status = cs_txn_put(txn, &key, &history, err);
    }
    if (status == CREDSTORE_OK && drops)
        status = cs_drop_revision(txn, at, &oldest, err);
    if (status == CREDSTORE_OK)
        status = put_fingerprints(txn, at, settle, err);
    cs_buf_free(&current);
    cs_buf_free(&history);
    return status;
}

/* ---- beside the record ---- */

/* Kinds whose ids are unique in the store have their owner's list beside them. */
static credstore_status change_owner(cs_txn *txn, const cs_op *op, bool removed,
                                     credstore_error *err)
{
    uint8_t mac[32];
    cs_label label;
    cs_key key;
    credstore_status status;

    if (op->kind->scope != CS_SCOPE_STORE)
        return CREDSTORE_OK;
    status = cs_op_owner(op, mac, err);
    if (status != CREDSTORE_OK)
        return status;
    label = cs_owner_label(mac, &op->at);
    cs_key_owner(&key, mac, &op->at);
    return removed ? cs_txn_del(txn, &key, err)
                   : cs_txn_put_sealed(txn, &key, &label, cs_bytes(NULL, 0), err);
}

/* By the believed clock: one that runs ahead for a while drops none. It is never ahead of the
   store's time, so it is read only if something is over by that. Where it cannot be read,
   maintenance tells of it, and drops them. */
static credstore_status find_expired(cs_txn *txn, cs_expired *out, credstore_error *err)
{
    credstore_error why = {0};
    cs_clock clock = {0};
    credstore_status status = cs_receipts_find_expired(txn, txn->now, out, err);

    if (status != CREDSTORE_OK || out->count == 0)
        return status;
    out->count = 0;
    status = cs_clock_read(txn, &clock, &why);
    if (status == CREDSTORE_OK)
        return cs_receipts_find_expired(txn, cs_clock_look(clock, txn->now).believed, out, err);
    if (why.native == 0 && (status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT))
        return CREDSTORE_OK; /* not the engine's own damage */
    if (err != NULL)
        *err = why;
    return status;
}

credstore_status cs_look_beside(cs_txn *txn, const cs_op *op, const cs_settle *settle, bool issues,
                                cs_beside *beside, credstore_error *err)
{
    const bool first = settle->old == NULL;
    credstore_status status = CREDSTORE_OK;

    beside->enters = false;
    beside->expired.limit = CS_EXPIRED_ALONG;
    beside->expired.keys = beside->expired_keys;
    if (first && (op->kind->flags & CS_TENANT_IS_PATH) != 0)
        status = cs_alias_check(txn, op->tenant, &beside->enters, err);
    if (status == CREDSTORE_OK && first && !issues)
        status = cs_check_import(txn, settle, err);
    return status == CREDSTORE_OK ? find_expired(txn, &beside->expired, err) : status;
}

/* With the record it comes ... */
static credstore_status put_creation(cs_txn *txn, const cs_op *op, const cs_settle *settle,
                                     bool issues, const cs_beside *beside, credstore_error *err)
{
    credstore_status status = change_owner(txn, op, false, err);

    if (status == CREDSTORE_OK && beside->enters)
        status = cs_alias_enter(txn, op->tenant, err);
    if (status == CREDSTORE_OK)
        status = cs_put_token_index(txn, &op->at, settle, issues, err);
    if (status == CREDSTORE_OK && beside->used != 0)
        status = cs_put_usage(txn, &op->at, beside->used, err);
    return status;
}

/* ... and goes. */
static credstore_status put_removal(cs_txn *txn, const cs_op *op, credstore_error *err)
{
    cs_key usage;
    credstore_status status = change_owner(txn, op, true, err);

    cs_key_usage(&usage, &op->at);
    if (status == CREDSTORE_OK)
        status = cs_put_purge(txn, &op->at, err);
    if (status == CREDSTORE_OK && (op->kind->flags & CS_HAS_USAGE) != 0)
        status = cs_txn_del(txn, &usage, err);
    return status;
}

credstore_status cs_put_beside(cs_txn *txn, const cs_op *op, const cs_settle *settle, bool issues,
                               const cs_beside *beside, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    if (settle->role == CS_ROLE_TOMBSTONE)
        return put_removal(txn, op, err);
    if (beside->end != NULL)
        return cs_txn_del(txn, beside->end, err);
    if (settle->old == NULL)
        status = put_creation(txn, op, settle, issues, beside, err);
    else if (issues && cs_settle_changed(settle, op->kind->token.id)) /* its first token, rolled */
        status = cs_put_token_index(txn, &op->at, settle, true, err);
    return status == CREDSTORE_OK ? cs_ends_put(txn, &op->at, settle, err) : status;
}
