/* SPDX-License-Identifier: MIT
 *
 * Merging. The same value is no change, and a secret is compared by its keyed fingerprint, so that
 * nothing is opened.
 */
#include "merge.h"

#include <string.h>

#include "error.h"
#include "ring.h"

static bool is_own_mask(const cs_field *field, const cs_value *old, credstore_bytes given)
{
    char mask[CS_MASK_MAX] = "";

    if (field->make_mask == NULL || !old->present)
        return false;
    if (field->type == CS_SECRET)
        return cs_bytes_equal(old->bytes, given);
    field->make_mask(old->bytes.ptr, old->bytes.len, mask);
    return cs_bytes_equal(cs_bytes_of(mask), given);
}

static bool same_value(const cs_field *field, const cs_value *a, const cs_value *b)
{
    if (!a->present || !b->present)
        return a->present == b->present;
    if (field->type == CS_SECRET)
        return memcmp(a->fingerprint, b->fingerprint, CS_FINGERPRINT_LEN) == 0;
    if (field->type == CS_FLAG || field->type == CS_TIME)
        return a->number == b->number;
    return cs_bytes_equal(a->bytes, b->bytes);
}

/* A new secret: its fingerprint and mask. Revision, tag and box come when it is sealed. */
static credstore_status new_secret(const credstore *store, const cs_field *field,
                                   credstore_bytes given, int64_t now, char *mask, cs_value *value,
                                   credstore_error *err)
{
    uint8_t mac[32];
    const credstore_status status = cs_name_mac(&store->sealer, cs_store_name_key(store),
                                                CS_NAME_FINGERPRINT, &given, 1, mac, err);

    if (status != CREDSTORE_OK)
        return status;
    memcpy(value->fingerprint, mac, CS_FINGERPRINT_LEN);
    mask[0] = '\0';
    if (field->make_mask != NULL)
        field->make_mask(given.ptr, given.len, mask);
    value->bytes = cs_bytes_of(mask);
    value->number = now;
    return CREDSTORE_OK;
}

static credstore_status merge_field(const credstore *store, cs_settle *settle, size_t i,
                                    credstore_error *err)
{
    static const cs_value none = {0};
    const cs_field *field = &settle->kind->fields[i];
    const cs_input *in = &settle->inputs->field[i];
    const cs_value *old = settle->old == NULL ? &none : &settle->old->values[i];
    cs_value *fresh = &settle->fresh.values[i];
    credstore_status status = CREDSTORE_OK;

    *fresh = *old;
    if (in->op == CREDSTORE_KEEP)
        return status;
    memset(fresh, 0, sizeof *fresh);
    if (in->op == CREDSTORE_SET) {
        if (is_own_mask(field, old, in->bytes))
            return cs_fail(err, CREDSTORE_E_INVALID, field->name,
                           "The value is the mask of the stored one");
        fresh->present = true;
        fresh->bytes = in->bytes;
        fresh->number = in->number;
        if (field->type == CS_SECRET)
            status = new_secret(store, field, in->bytes, settle->now, settle->masks[i], fresh, err);
    }
    if (status != CREDSTORE_OK)
        return status;
    if (same_value(field, old, fresh))
        *fresh = *old;
    else
        settle->changed |= UINT32_C(1) << i;
    return status;
}

/* A key that gets another end lives again; then the kind's own rules. */
static credstore_status settle_kind(cs_settle *settle, credstore_error *err)
{
    const cs_kind *kind = settle->kind;

    if (kind->expired_field != 0 && cs_settle_changed(settle, kind->expires_field))
        cs_settle_clear(settle, kind->expired_field);
    return kind->settle == NULL ? CREDSTORE_OK : kind->settle(settle, err);
}

credstore_status cs_merge_source(const credstore *store, cs_settle *settle, credstore_error *err)
{
    const cs_kind *kind = settle->kind;

    settle->changed = 0;
    for (size_t i = 0; i < kind->field_count; i++) {
        const cs_field *field = &kind->fields[i];
        const cs_value *then = &settle->source->record.values[i];
        credstore_status status;

        if ((field->flags & (CS_INTERNAL | CS_FROM_ORIGIN)) != 0 ||
            same_value(field, &settle->old->values[i], then))
            continue;
        status = then->present ? cs_check_stored(store, field, then, err) : CREDSTORE_OK;
        if (status != CREDSTORE_OK)
            return status;
        settle->fresh.values[i] = *then;
        settle->changed |= UINT32_C(1) << i;
    }
    return settle_kind(settle, err);
}

credstore_status cs_merge(const credstore *store, cs_settle *settle, credstore_error *err)
{
    const cs_kind *kind = settle->kind;
    credstore_status status = CREDSTORE_OK;

    settle->changed = 0;
    for (size_t i = 0; i < kind->field_count && status == CREDSTORE_OK; i++)
        status = merge_field(store, settle, i, err);
    return status == CREDSTORE_OK ? settle_kind(settle, err) : status;
}

/* The next bytes for ids. */
static credstore_status draw(cs_txn *txn, size_t len, const uint8_t **out, credstore_error *err)
{
    *out = cs_txn_random(txn, len);
    return *out != NULL
               ? CREDSTORE_OK
               : cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more than it drew");
}

static credstore_status make_id(cs_txn *txn, cs_op *op, credstore_error *err)
{
    const uint8_t *random;
    credstore_status status;

    if (op->kind->make_id == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, op->kind->id_name, "The id is missing");
    status = draw(txn, CS_SETTLE_RANDOM, &random, err);
    if (status != CREDSTORE_OK)
        return status;
    if (!op->kind->make_id(txn->now, random, op->id))
        return cs_fail(err, CREDSTORE_E_ENTROPY, NULL, "The random source gave no id");
    op->at.id = cs_bytes_of(op->id);
    return status;
}

credstore_status cs_merge_creation(cs_txn *txn, cs_op *op, bool has_id, cs_settle *settle,
                                   credstore_error *err)
{
    const cs_shared_at *origin = &op->kind->origin;
    const int64_t created = cs_origin_time(settle->inputs, origin->created_at);
    const int64_t updated = cs_origin_time(settle->inputs, origin->updated_at);
    cs_record *fresh = &settle->fresh;
    const uint8_t *incarnation;
    credstore_status status = has_id ? CREDSTORE_OK : make_id(txn, op, err);

    if (status == CREDSTORE_OK)
        status = draw(txn, 8, &incarnation, err);
    if (status == CREDSTORE_OK)
        status = draw(txn, CS_SETTLE_RANDOM, &settle->random, err);
    if (status != CREDSTORE_OK)
        return status;
    fresh->revision = 1;
    fresh->incarnation = cs_get_u64(incarnation);
    fresh->created_at = created == 0 ? txn->now : created;
    fresh->updated_at = updated;
    if (updated == 0 && (op->kind->flags & CS_UPDATED_LATER) == 0)
        fresh->updated_at = fresh->created_at;
    fresh->owner = cs_bytes_of(op->tenant);
    fresh->parent = cs_bytes_of(op->parent);
    fresh->id = op->at.id;
    settle->now = fresh->updated_at == 0 ? fresh->created_at : fresh->updated_at;
    return status;
}

void cs_merge_previous(cs_settle *settle)
{
    const cs_kind *kind = settle->kind;
    cs_record *fresh = &settle->fresh;

    fresh->previous_count = 0;
    for (size_t i = 0; settle->old != NULL && i < kind->field_count; i++) {
        const cs_value *old = &settle->old->values[i];
        const cs_previous *kept = cs_record_previous(settle->old, kind->fields[i].id);
        cs_previous *next = &fresh->previous[fresh->previous_count];

        if (kind->fields[i].type != CS_SECRET)
            continue;
        if ((settle->changed >> i & 1) == 0) {
            if (kept != NULL) /* over or not: the clock may not be believed */
                fresh->previous[fresh->previous_count++] = *kept;
        } else if (settle->grace_s > 0 && old->present) {
            next->field = kind->fields[i].id;
            next->until = settle->now + INT64_C(1000) * settle->grace_s;
            next->part_revision = old->part_revision;
            memcpy(next->part_tag, old->part_tag, CS_TAG_LEN);
            memcpy(next->fingerprint, old->fingerprint, CS_FINGERPRINT_LEN);
            fresh->previous_count++;
        }
    }
}

static bool is_over(const cs_settle *settle, uint16_t field)
{
    const cs_value *end = field == 0 ? NULL : cs_settle_value(settle, field);

    return end != NULL && end->present && end->number <= settle->now;
}

static void end_graces(cs_settle *settle)
{
    cs_record *fresh = &settle->fresh;
    const size_t count = fresh->previous_count;

    fresh->previous_count = 0;
    for (size_t i = 0; i < count; i++) {
        const cs_previous p = fresh->previous[i];

        if (settle->now < p.until)
            fresh->previous[fresh->previous_count++] = p;
        else
            settle->ended |= UINT32_C(1) << cs_field_index(settle->kind, p.field);
    }
}

void cs_merge_ends(cs_settle *settle)
{
    const cs_kind *kind = settle->kind;
    const cs_token_at *token = &kind->token;

    end_graces(settle);
    if (is_over(settle, token->previous_until)) {
        cs_settle_clear(settle, token->previous);
        cs_settle_clear(settle, token->previous_until);
    }
    if (kind->expired_field != 0 && is_over(settle, kind->expires_field))
        cs_settle_number(settle, kind->expired_field, true, 1);
}

void cs_merge_removal(cs_settle *settle)
{
    const cs_record *old = settle->old;

    settle->role = CS_ROLE_TOMBSTONE;
    for (size_t i = 0; i < settle->kind->field_count; i++) {
        if (!old->values[i].present || (settle->kind->fields[i].flags & CS_OUTLIVES) != 0)
            continue;
        settle->changed |= UINT32_C(1) << i;
        memset(&settle->fresh.values[i], 0, sizeof settle->fresh.values[i]);
    }
    settle->fresh.unknown_count = 0;
    settle->fresh.previous_count = 0;
    settle->fresh.removed_at = settle->now;
}

void cs_settle_number(cs_settle *settle, uint16_t field, bool present, int64_t number)
{
    const size_t i = cs_field_index(settle->kind, field);
    cs_value *value = &settle->fresh.values[i];

    if (value->present == present && (!present || value->number == number))
        return;
    memset(value, 0, sizeof *value);
    value->present = present;
    value->number = number;
    settle->changed |= UINT32_C(1) << i;
}

void cs_settle_clear(cs_settle *settle, uint16_t field)
{
    cs_settle_number(settle, field, false, 0);
}

void cs_settle_text(cs_settle *settle, uint16_t field, credstore_bytes text)
{
    const size_t i = cs_field_index(settle->kind, field);

    settle->fresh.values[i].present = true;
    settle->fresh.values[i].bytes = text;
    settle->changed |= UINT32_C(1) << i;
}

const cs_value *cs_settle_value(const cs_settle *settle, uint16_t field)
{
    return &settle->fresh.values[cs_field_index(settle->kind, field)];
}

bool cs_settle_changed(const cs_settle *settle, uint16_t field)
{
    return (settle->changed >> cs_field_index(settle->kind, field) & 1) != 0;
}
