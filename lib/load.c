/* SPDX-License-Identifier: MIT
 *
 * Records out of the store.
 */
#include "load.h"

#include <string.h>

#include "error.h"
#include "sealed.h"
#include "time.h"

cs_label cs_record_label(uint8_t role, const cs_locator *at, uint16_t field, uint64_t revision)
{
    const cs_label label = {.role = role, .field = field, .revision = revision, .at = *at};

    return label;
}

cs_label cs_owner_label(const uint8_t *owner_mac, const cs_locator *at)
{
    cs_label label = cs_record_label(CS_ROLE_OWNER, at, 0, 0);

    memcpy(label.at.scope, owner_mac, CS_SCOPE_LEN);
    return label;
}

credstore_status cs_load_value(cs_txn *txn, const cs_kind *kind, const cs_locator *at,
                               credstore_bytes value, uint8_t role, cs_loaded *out,
                               credstore_error *err)
{
    cs_frame frame;
    cs_label label;
    credstore_status status = cs_frame_read(value, role, &frame, err);

    if (status != CREDSTORE_OK)
        return status;
    if (out->plain.len > 0)
        cs_wipe(out->plain.ptr, out->plain.len);
    out->plain.len = 0;
    if (cs_buf_room(&out->plain, frame.body.sealed.len) == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    label = cs_record_label(role, at, 0, frame.revision);
    status = cs_txn_unseal(txn, CS_PURPOSE_BODY, &label, &frame.body, out->plain.ptr, err);
    if (status == CREDSTORE_OK)
        status = cs_record_decode(kind, &frame, cs_bytes(out->plain.ptr, out->plain.len),
                                  &out->record, err);
    out->record.id = at->id;
    out->found = status == CREDSTORE_OK;
    return status;
}

credstore_status cs_load_history(cs_txn *txn, const cs_kind *kind, const cs_locator *at,
                                 uint64_t revision, cs_loaded *out, credstore_error *err)
{
    credstore_bytes value;
    bool found = false;
    cs_key key;
    credstore_status status;

    cs_key_history(&key, at, revision);
    status = cs_txn_get(txn, &key, &value, &found, err);
    out->found = false;
    if (status != CREDSTORE_OK || !found)
        return status;
    out->is_history = true;
    status = cs_load_value(txn, kind, at, value, CS_ROLE_HISTORY, out, err);
    if (status == CREDSTORE_OK && out->record.revision != revision)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "History is not in its place");
    return status;
}

credstore_status cs_load(cs_txn *txn, const cs_kind *kind, const cs_locator *at, uint64_t revision,
                         cs_loaded *out, credstore_error *err)
{
    credstore_bytes value;
    bool found = false;
    cs_key key;
    credstore_status status;

    out->found = false;
    out->removed = false;
    out->is_history = false;
    cs_key_record(&key, at);
    status = cs_txn_get(txn, &key, &value, &found, err);
    if (status != CREDSTORE_OK)
        return status;
    if (!found) {
        cs_store_decoy(txn->store);
        return CREDSTORE_OK;
    }
    if (cs_frame_role(value) == CS_ROLE_TOMBSTONE) {
        status = cs_load_value(txn, kind, at, value, CS_ROLE_TOMBSTONE, out, err);
        out->removed = out->found;
        out->found = false;
        return status;
    }
    status = cs_load_value(txn, kind, at, value, CS_ROLE_CURRENT, out, err);
    if (status != CREDSTORE_OK || revision == 0 || revision == out->record.revision)
        return status;
    return cs_load_history(txn, kind, at, revision, out, err);
}

void cs_loaded_begin(cs_loaded *loaded)
{
    const cs_buf empty = {0};

    loaded->found = false;
    loaded->removed = false;
    loaded->is_history = false;
    loaded->plain = empty;
    cs_record_clear(&loaded->record);
}

void cs_loaded_free(cs_loaded *loaded)
{
    cs_buf_free(&loaded->plain);
    cs_loaded_begin(loaded);
}

static void take_name(credstore_bytes from, char to[CS_ID_MAX + 1])
{
    const size_t len = from.len < CS_ID_MAX ? from.len : CS_ID_MAX;

    if (len > 0)
        memcpy(to, from.ptr, len);
    to[len] = '\0';
}

void cs_named_take(const cs_record *record, cs_named *out)
{
    take_name(record->owner, out->tenant);
    take_name(record->parent, out->parent);
    take_name(record->id, out->id);
}

/* Looks for a part in the record's values from some revision on: each replaced part went into the
   history entry of the last revision that had it. */
typedef struct part_search {
    uint16_t field;
    uint64_t revision;
    cs_part *out;
    bool found;
} part_search;

static void take_if_there(const cs_frame *frame, part_search *search)
{
    for (size_t i = 0; i < frame->part_count && !search->found; i++) {
        if (frame->parts[i].field != search->field || frame->parts[i].revision != search->revision)
            continue;
        *search->out = frame->parts[i];
        search->found = true;
    }
}

static bool look_in_history(void *arg, credstore_bytes key, credstore_bytes value)
{
    part_search *search = arg;
    cs_frame frame;

    (void)key;
    if (cs_frame_read(value, CS_ROLE_HISTORY, &frame, NULL) == CREDSTORE_OK)
        take_if_there(&frame, search);
    return !search->found;
}

static credstore_status look_in_current(cs_txn *txn, const cs_locator *at, part_search *search,
                                        credstore_error *err)
{
    credstore_bytes value;
    bool found = false;
    cs_frame frame;
    cs_key key;
    credstore_status status;

    cs_key_record(&key, at);
    status = cs_txn_get(txn, &key, &value, &found, err);
    found = found && cs_frame_role(value) != CS_ROLE_TOMBSTONE; /* which has none */
    if (status == CREDSTORE_OK && found)
        status = cs_frame_read(value, CS_ROLE_CURRENT, &frame, err);
    if (status == CREDSTORE_OK && found)
        take_if_there(&frame, search);
    return status;
}

credstore_status cs_load_part(cs_txn *txn, const cs_kind *kind, const cs_locator *at,
                              const cs_loaded *loaded, size_t field, cs_part *out,
                              credstore_error *err)
{
    const cs_value *value = &loaded->record.values[field];
    const cs_part *here =
        cs_record_part(&loaded->record, kind->fields[field].id, value->part_revision);
    part_search search = {kind->fields[field].id, value->part_revision, out, false};
    cs_key from, to;
    credstore_status status = CREDSTORE_OK;

    if (here != NULL) {
        *out = *here;
        return CREDSTORE_OK;
    }
    if (loaded->is_history)
        status = look_in_current(txn, at, &search, err);
    if (status == CREDSTORE_OK && !search.found) {
        cs_key_history(&from, at, loaded->record.revision);
        cs_key_history(&to, at, UINT64_MAX);
        status = cs_txn_scan(txn, &from, &to,
                             &(const cs_scan){.visit = look_in_history, .arg = &search}, err);
    }
    if (status != CREDSTORE_OK)
        return status;
    if (!search.found || memcmp(out->box.tag, value->part_tag, CS_TAG_LEN) != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, kind->fields[field].name,
                       "A sealed part of the history is missing or not the one that belongs there");
    return CREDSTORE_OK;
}

credstore_status cs_load_usage(cs_txn *txn, const cs_kind *kind, const cs_locator *at, int64_t *out,
                               credstore_error *err)
{
    const cs_label label = cs_record_label(CS_ROLE_USAGE, at, 0, 0);
    cs_buf plain = {0};
    bool found = false;
    cs_key key;
    credstore_status status;

    *out = 0;
    if ((kind->flags & CS_HAS_USAGE) == 0)
        return CREDSTORE_OK;
    cs_key_usage(&key, at);
    status = cs_txn_get_sealed(txn, &key, &label, &plain, &found, err);
    if (status == CREDSTORE_OK && found && plain.len != 8)
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A used mark has an impossible length");
    if (status == CREDSTORE_OK && found)
        *out = (int64_t)cs_get_u64(plain.ptr);
    cs_buf_free(&plain);
    return status;
}

credstore_status cs_put_usage(cs_txn *txn, const cs_locator *at, int64_t used, credstore_error *err)
{
    const cs_label label = cs_record_label(CS_ROLE_USAGE, at, 0, 0);
    uint8_t plain[8];
    cs_key key;

    cs_put_u64(plain, (uint64_t)used);
    cs_key_usage(&key, at);
    return cs_txn_put_sealed(txn, &key, &label, cs_bytes(plain, sizeof plain), err);
}

enum { RETENTION_DAYS = 30 };

uint32_t cs_purge_day(int64_t now)
{
    const int64_t day = now / CS_DAY_MS;

    return day < RETENTION_DAYS ? 0 : (uint32_t)(day - RETENTION_DAYS);
}

credstore_status cs_put_purge(cs_txn *txn, const cs_locator *at, credstore_error *err)
{
    const uint32_t day = (uint32_t)(txn->now / CS_DAY_MS);
    const cs_label label = cs_record_label(CS_ROLE_PURGE, at, 0, day);
    cs_key key;

    cs_key_purge(&key, day, at);
    return cs_txn_put_sealed(txn, &key, &label, cs_bytes(NULL, 0), err);
}
