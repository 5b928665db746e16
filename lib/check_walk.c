/* SPDX-License-Identifier: MIT
 *
 * The inspection's walk: batch by batch, each in a snapshot of its own, so that no snapshot is held
 * for long beside writers. Whatever is compared with one another is read in the same snapshot, so
 * that a change that comes between two batches is no contradiction.
 */
#include "check.h"

#include <string.h>

#include "error.h"
#include "sealed.h"

credstore_status cs_inspection_begin(cs_inspection *in, credstore *store, bool tells,
                                     credstore_error *err)
{
    uint8_t seed[8];
    credstore_status status;

    in->store = store;
    in->reveals = tells && store->keys.can_reveal;
    in->room = cs_secret_new(store->arena, CS_SECRET_MAX);
    if (tells)
        in->told = cs_alloc(CS_TOLD, sizeof *in->told);
    if (in->room == NULL || (tells && in->told == NULL))
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_store_random(store, seed, sizeof seed, err);
    in->seed = cs_get_u64(seed);
    return status;
}

void cs_inspection_end(cs_inspection *in)
{
    credstore_secret_free(in->room);
    cs_free(in->told);
    cs_free(in->sketch.words);
}

/* A head or an anchor that cannot be read is told where it lies; what would be held against it is
   not. */
static credstore_status read_bounds(cs_inspection *in, credstore_error *err)
{
    credstore_error why = {0};
    credstore_status status = cs_head_read(in->txn, &in->head, &in->has_head, &why);

    in->has_head = in->has_head && status == CREDSTORE_OK;
    status = cs_unless_damage(status, &why, err);
    if (status != CREDSTORE_OK)
        return status;
    memset(&why, 0, sizeof why);
    status = cs_anchor_read(in->txn, &in->gone, &why);
    in->has_anchor = status == CREDSTORE_OK;
    return cs_unless_damage(status, &why, err);
}

credstore_status cs_inspection_turn(cs_inspection *in, cs_txn *txn, credstore_error *err)
{
    credstore_status status;

    in->txn = txn;
    in->chain_seq = 0;
    in->organization[0] = '\0';
    in->flaw_count = 0;
    status = read_bounds(in, err);
    return status == CREDSTORE_OK ? cs_sketch_catch_up(in, err) : status;
}

typedef struct table_row {
    uint8_t table;
    cs_inspect_fn *inspect;
} table_row;

static const table_row tables[] = {
    {CS_TABLE_META, cs_inspect_header},       {CS_TABLE_ROOT, cs_inspect_root},
    {CS_TABLE_KEYRING, cs_inspect_keyring},   {CS_TABLE_CATALOGUE, cs_inspect_catalogue},
    {CS_TABLE_ROTATION, cs_inspect_rotation}, {CS_TABLE_RECORD, cs_inspect_record},
    {CS_TABLE_OWNER, cs_inspect_owner},       {CS_TABLE_LANE, cs_inspect_lane},
    {CS_TABLE_RECEIPT, cs_inspect_receipt},   {CS_TABLE_PURGE, cs_inspect_purge},
    {CS_TABLE_END, cs_inspect_end},           {CS_TABLE_USAGE, cs_inspect_usage},
    {CS_TABLE_ALIAS, cs_inspect_alias},       {CS_TABLE_FINGERPRINT, cs_inspect_fingerprint},
    {CS_TABLE_DIGEST, cs_inspect_digest},     {CS_TABLE_TOKEN, cs_inspect_token},
};

/* A key of no table, or one that is not laid out as its table's are. A record that is found so is
   one that cannot be read. */
static void note_stranger(cs_inspection *in, cs_subject *s)
{
    const bool is_record = s->place.table == CS_TABLE_RECORD && s->place.at.id.len > 0;
    cs_key key = {0};

    if (is_record)
        cs_key_record(&key, &s->place.at);
    if (s->place.name == NULL)
        s->place.name = "unknown";
    in->counts.unreadable += s->place.table == CS_TABLE_RECORD;
    cs_flaw_of(in, s, CREDSTORE_E_INTEGRITY,
               is_record && cs_bytes_equal(s->key, cs_key_bytes(&key))
                   ? cs_topic_record(in, &s->place.at)
                   : cs_topic_key(in, s->key),
               "No key, or no value of such a key, that this library writes");
}

/* Its flaws are in->flaws. Any status but OK is a failure of the inspection itself. */
static credstore_status inspect(cs_inspection *in, credstore_bytes key, credstore_bytes value,
                                credstore_error *err)
{
    cs_subject s = {.key = key, .value = value};

    in->flaw_count = 0;
    in->counts.values++;
    if (!cs_place_of(key, value, &s.place)) {
        note_stranger(in, &s);
        return CREDSTORE_OK;
    }
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (tables[i].table == s.place.table)
            return tables[i].inspect(in, &s, err);
    note_stranger(in, &s);
    return CREDSTORE_OK;
}

static bool take(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_batch *batch = arg;
    cs_key *to = &batch->keys[batch->count];

    to->len = key.len < CS_KEY_MAX ? key.len : CS_KEY_MAX;
    memcpy(to->ptr, key.ptr, to->len);
    batch->values[batch->count++] = value;
    return batch->count < CS_BATCH;
}

credstore_status cs_inspect_batch(cs_inspection *in, cs_key *from, const cs_key *to,
                                  cs_batch *batch, credstore_error *err)
{
    const cs_scan scan = {.limit = CS_BATCH, .visit = take, .arg = batch};
    cs_txn txn;
    credstore_status status = cs_txn_read(in->store, &txn, err);

    batch->count = 0;
    batch->flawed_count = 0;
    if (status != CREDSTORE_OK)
        return status;
    status = cs_inspection_turn(in, &txn, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_scan(&txn, from, to, &scan, err);
    for (size_t i = 0; i < batch->count && status == CREDSTORE_OK; i++) {
        status = inspect(in, cs_key_bytes(&batch->keys[i]), batch->values[i], err);
        batch->flawed[i] = in->flaw_count > 0;
        batch->flawed_count += batch->flawed[i];
    }
    cs_txn_end(&txn);
    if (batch->count > 0) {
        *from = batch->keys[batch->count - 1];
        cs_key_after(from);
    }
    return status;
}

credstore_status cs_inspect_again(cs_inspection *in, const cs_key *key, credstore_error *err)
{
    const cs_counts counts = in->counts;
    credstore_bytes value;
    bool found = false;
    credstore_status status = cs_txn_get(in->txn, key, &value, &found, err);

    in->flaw_count = 0;
    if (status == CREDSTORE_OK && found)
        status = inspect(in, cs_key_bytes(key), value, err);
    in->counts = counts;
    return status;
}
