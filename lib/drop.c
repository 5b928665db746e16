/* SPDX-License-Identifier: MIT
 *
 * Dropping revisions. A secret lies in the last revision of each run that had it; there may be
 * several runs, since a restore brings back a secret under its old revision.
 */
#include "drop.h"

#include <string.h>

#include "error.h"

/* The clear frame tells most revisions, which have no secret of their own, without opening. */
static bool has_parts(credstore_bytes value)
{
    cs_frame frame;

    return cs_frame_read(value, CS_ROLE_HISTORY, &frame, NULL) == CREDSTORE_OK &&
           frame.part_count > 0;
}

static void take_names(const cs_kind *kind, const cs_record *record, cs_drop *out)
{
    for (size_t i = 0; i < record->part_count; i++) {
        const cs_part *part = &record->parts[i];
        const uint8_t *fingerprint =
            cs_record_fingerprint(kind, record, part->field, part->revision);
        cs_secret_name *name = &out->names[out->count];

        if (fingerprint == NULL)
            continue; /* decoding saw to it that there is none */
        name->field = part->field;
        name->revision = part->revision;
        memcpy(name->fingerprint, fingerprint, CS_FINGERPRINT_LEN);
        out->count++;
    }
}

static void keep(cs_drop *drop, uint16_t field, uint64_t revision)
{
    for (size_t i = 0; i < drop->count; i++)
        if (drop->names[i].field == field && drop->names[i].revision == revision)
            drop->names[i] = drop->names[--drop->count];
}

static void keep_of_frame(cs_drop *drop, credstore_bytes value, uint8_t role)
{
    cs_frame frame;

    if (cs_frame_read(value, role, &frame, NULL) != CREDSTORE_OK) {
        drop->count = 0; /* it may have any */
        return;
    }
    for (size_t i = 0; i < frame.part_count; i++)
        keep(drop, frame.parts[i].field, frame.parts[i].revision);
}

static bool visit_later(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_drop *drop = arg;

    (void)key;
    keep_of_frame(drop, value, CS_ROLE_HISTORY);
    return drop->count > 0;
}

/* Keeps what the revisions behind it have, and the value of now, which this change makes one of
   them. */
static credstore_status keep_later(cs_txn *txn, const cs_locator *at, cs_drop *drop,
                                   credstore_error *err)
{
    const cs_scan later = {.visit = visit_later, .arg = drop};
    credstore_bytes value;
    bool found = false;
    cs_key key, to;
    credstore_status status;

    cs_key_record(&key, at);
    status = cs_txn_get(txn, &key, &value, &found, err);
    if (status == CREDSTORE_OK && found && cs_frame_role(value) != CS_ROLE_TOMBSTONE)
        keep_of_frame(drop, value, CS_ROLE_CURRENT);
    if (status != CREDSTORE_OK || drop->count == 0)
        return status;
    cs_key_history(&key, at, drop->revision + 1);
    cs_key_history(&to, at, UINT64_MAX);
    return cs_txn_scan(txn, &key, &to, &later, err);
}

credstore_status cs_drop_look(cs_txn *txn, const cs_locator *at, uint64_t revision,
                              const cs_record *next, cs_drop *out, credstore_error *err)
{
    const cs_kind *kind = cs_kind_find(at->kind);
    credstore_error why = {0};
    cs_loaded loaded = {0};
    credstore_bytes value;
    bool found = false;
    cs_key key;
    credstore_status status;

    out->revision = revision;
    out->count = 0;
    cs_key_history(&key, at, revision);
    status = cs_txn_get(txn, &key, &value, &found, err);
    if (status != CREDSTORE_OK || !found || kind == NULL || !has_parts(value))
        return status;
    status = cs_load_value(txn, kind, at, value, CS_ROLE_HISTORY, &loaded, &why);
    if (status == CREDSTORE_OK && loaded.record.revision == revision)
        take_names(kind, &loaded.record, out);
    cs_loaded_free(&loaded);
    if (status == CREDSTORE_E_INTEGRITY || status == CREDSTORE_E_FORMAT)
        return CREDSTORE_OK;
    if (status != CREDSTORE_OK)
        return cs_fail(err, status, NULL, why.message);
    for (size_t i = 0; next != NULL && i < kind->field_count; i++)
        if (kind->fields[i].type == CS_SECRET && next->values[i].present)
            keep(out, kind->fields[i].id, next->values[i].part_revision);
    return out->count == 0 ? status : keep_later(txn, at, out, err);
}

credstore_status cs_drop_revision(cs_txn *txn, const cs_locator *at, const cs_drop *drop,
                                  credstore_error *err)
{
    cs_key key;
    credstore_status status;

    cs_key_history(&key, at, drop->revision);
    status = cs_txn_del(txn, &key, err);
    for (size_t i = 0; i < drop->count && status == CREDSTORE_OK; i++) {
        const cs_secret_name *name = &drop->names[i];

        cs_key_fingerprint(&key, name->fingerprint, at, name->field, name->revision);
        status = cs_txn_del(txn, &key, err);
    }
    return status;
}
