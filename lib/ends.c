/* SPDX-License-Identifier: MIT
 *
 * The queue of ends. An entry names a record and a time; what of the record is over by then the
 * record says itself, so an entry that a later change has made pointless does no harm.
 */
#include "ends.h"

#include <string.h>

#include "error.h"
#include "sealed.h"

static void note(int64_t ends[], size_t *count, int64_t end)
{
    for (size_t i = 0; i < *count; i++)
        if (ends[i] == end)
            return;
    ends[(*count)++] = end;
}

static bool had(const cs_settle *settle, const cs_previous *previous)
{
    const cs_previous *old =
        settle->old == NULL ? NULL : cs_record_previous(settle->old, previous->field);

    return old != NULL && old->part_revision == previous->part_revision;
}

static void note_field(const cs_settle *settle, uint16_t field, int64_t ends[], size_t *count)
{
    const cs_value *value = field == 0 ? NULL : cs_settle_value(settle, field);

    if (value != NULL && value->present && cs_settle_changed(settle, field))
        note(ends, count, value->number);
}

credstore_status cs_ends_put(cs_txn *txn, const cs_locator *at, const cs_settle *settle,
                             credstore_error *err)
{
    const cs_record *fresh = &settle->fresh;
    int64_t ends[CS_FIELDS_MAX + 2];
    size_t count = 0;
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < fresh->previous_count; i++)
        if (!had(settle, &fresh->previous[i]))
            note(ends, &count, fresh->previous[i].until);
    note_field(settle, settle->kind->token.previous_until, ends, &count);
    note_field(settle, settle->kind->expires_field, ends, &count);
    for (size_t i = 0; i < count && status == CREDSTORE_OK; i++) {
        const cs_label label = cs_record_label(CS_ROLE_END, at, 0, (uint64_t)ends[i]);
        cs_key key;

        cs_key_end(&key, ends[i], at);
        status = cs_txn_put_sealed(txn, &key, &label, cs_bytes(NULL, 0), err);
    }
    return status;
}
