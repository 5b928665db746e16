/* SPDX-License-Identifier: MIT
 *
 * credstore_repair_indexes(): the inspection's walk over the indexes, which lose what is wrong in
 * them, and then over the records, which get back what is lost. What a snapshot shows to be flawed
 * is inspected again in the transaction that mends it.
 */
#include "check.h"

#include <string.h>

#include "commit.h"
#include "error.h"
#include "op.h"
#include "sealed.h"
#include "sized.h"

/* A nonce each, and one for the audit entry and the head: a transaction draws for 53. */
enum { MENDS_MAX = 40 };

static const uint16_t result_starts[] = {
    offsetof(credstore_repair_result, reserved),
    offsetof(credstore_repair_result, added),
    offsetof(credstore_repair_result, removed),
    offsetof(credstore_repair_result, unreadable),
};

typedef struct mending {
    cs_key key;
    cs_mend what;
    size_t len;
    uint8_t plain[CS_PLAIN_MAX];
} mending;

typedef struct repair {
    cs_op op;
    cs_inspection in;
    cs_batch batch;
    mending mends[MENDS_MAX];
    size_t mend_count, added;
    bool more; /* than one transaction has room for */
    credstore_repair_result result;
} repair;

/* ---- one transaction ---- */

static void take_flaw(repair *r, const cs_flaw *flaw)
{
    mending *m;

    if (flaw->mend == CS_MEND_NONE)
        return;
    for (size_t i = 0; i < r->mend_count; i++)
        if (cs_bytes_equal(cs_key_bytes(&r->mends[i].key), cs_key_bytes(&flaw->key)))
            return;
    r->more = r->more || r->mend_count == MENDS_MAX;
    if (r->mend_count == MENDS_MAX)
        return;
    m = &r->mends[r->mend_count++];
    m->key = flaw->key;
    m->what = flaw->mend;
    m->len = flaw->plain_len;
    memcpy(m->plain, flaw->plain, flaw->plain_len);
    r->added += flaw->mend == CS_MEND_PUT;
}

/* An entry is sealed for its place, and the place is its key. */
static credstore_status apply(cs_txn *txn, const mending *m, credstore_error *err)
{
    cs_place place;

    if (m->what == CS_MEND_DEL)
        return cs_txn_del(txn, &m->key, err);
    if (!cs_place_of(cs_key_bytes(&m->key), cs_bytes(NULL, 0), &place))
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "An index entry has no place");
    return cs_txn_put_sealed(txn, &m->key, &place.label, cs_bytes(m->plain, m->len), err);
}

static credstore_status mend(cs_txn *txn, void *arg, credstore_error *err)
{
    repair *r = arg;
    cs_audit_entry entry = cs_op_entry(&r->op, CS_ACTION_REPAIR);
    credstore_status status = cs_inspection_turn(&r->in, txn, err);

    r->mend_count = 0;
    r->added = 0;
    r->more = false;
    for (size_t i = 0; i < r->batch.count && status == CREDSTORE_OK && !r->more; i++) {
        if (!r->batch.flawed[i])
            continue;
        status = cs_inspect_again(&r->in, &r->batch.keys[i], err);
        for (size_t f = 0; f < r->in.flaw_count && status == CREDSTORE_OK; f++)
            take_flaw(r, &r->in.flaws[f]);
    }
    for (size_t i = 0; i < r->mend_count && status == CREDSTORE_OK; i++)
        status = apply(txn, &r->mends[i], err);
    entry.revision = r->mend_count;
    return status == CREDSTORE_OK && r->mend_count > 0 ? cs_audit_append(txn, &entry, err) : status;
}

/* ---- the walk ---- */

static credstore_status mend_batch(repair *r, credstore_error *err)
{
    const cs_work work = {mend, r, r->op.call.wait_ms};
    credstore_status status;

    do {
        status = cs_txn_write(r->op.store, &work, err);
        if (status != CREDSTORE_OK)
            return status;
        r->result.added += r->added;
        r->result.removed += r->mend_count - r->added;
    } while (r->more);
    return status;
}

static credstore_status walk(repair *r, uint8_t table, credstore_error *err)
{
    cs_key from = {1, {table}};
    const cs_key to = {1, {(uint8_t)(table + 1)}};
    credstore_status status;

    do {
        status = cs_inspect_batch(&r->in, &from, &to, &r->batch, err);
        if (status == CREDSTORE_OK && r->batch.flawed_count > 0)
            status = mend_batch(r, err);
    } while (status == CREDSTORE_OK && r->batch.count == CS_BATCH);
    return status;
}

/* A damaged entry passes for one that is there: so the records come behind the indexes that they
   are in. The organizations come after them too, for the labels of those that were made anew, and
   of those that are no more. */
static const uint8_t order[] = {
    CS_TABLE_OWNER,  CS_TABLE_PURGE, CS_TABLE_END,    CS_TABLE_ALIAS, CS_TABLE_FINGERPRINT,
    CS_TABLE_DIGEST, CS_TABLE_TOKEN, CS_TABLE_RECORD, CS_TABLE_ALIAS, CS_TABLE_USAGE,
};

static credstore_status repair_all(repair *r, credstore_error *err)
{
    credstore_status status = cs_inspection_begin(&r->in, r->op.store, false, err);

    for (size_t i = 0; i < sizeof order && status == CREDSTORE_OK; i++)
        status = walk(r, order[i], err);
    return status;
}

credstore_status credstore_repair_indexes(credstore *store, const credstore_call *call,
                                          credstore_repair_result *result, credstore_error *err)
{
    repair *r;
    credstore_status status;

    cs_error_clear(err);
    status = cs_store_usable(store, err); /* before any allocation: a forked child's heap */
    if (status != CREDSTORE_OK)
        return status;
    r = cs_alloc(1, sizeof *r);
    if (r == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_op_begin_store(&r->op, store, call, err);
    if (status == CREDSTORE_OK && store->read_only)
        status = cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The store was opened read-only");
    if (status == CREDSTORE_OK && result != NULL)
        status = cs_struct_take(&r->result, sizeof r->result, result, result_starts,
                                sizeof result_starts / sizeof *result_starts, "result", err);
    memset(&r->result, 0, sizeof r->result);
    if (status == CREDSTORE_OK)
        status = repair_all(r, err);
    r->result.unreadable = r->in.counts.unreadable;
    if (status == CREDSTORE_OK && result != NULL)
        cs_struct_give(result, &r->result, sizeof r->result);
    cs_inspection_end(&r->in);
    cs_free_wiped(r, sizeof *r);
    return status;
}
