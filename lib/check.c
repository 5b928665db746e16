/* SPDX-License-Identifier: MIT
 *
 * credstore_check(): the audit first, which tells what the records must be, then everything else.
 * What looks wrong is inspected once more in a fresh snapshot before it is reported. No call of the
 * host is made inside a transaction.
 */
#include "check.h"

#include <string.h>

#include "error.h"
#include "op.h"
#include "sized.h"

static const uint16_t option_starts[] = {
    offsetof(credstore_check_options, flags),
    offsetof(credstore_check_options, finding),
    offsetof(credstore_check_options, progress),
    offsetof(credstore_check_options, ctx),
};

static const uint16_t result_starts[] = {
    offsetof(credstore_check_result, stopped),
    offsetof(credstore_check_result, secrets_unopened),
    offsetof(credstore_check_result, reserved),
    offsetof(credstore_check_result, findings),
    offsetof(credstore_check_result, values),
    offsetof(credstore_check_result, records),
    offsetof(credstore_check_result, revisions),
    offsetof(credstore_check_result, secrets),
    offsetof(credstore_check_result, audit_entries),
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct check {
    cs_op op;
    credstore_check_options options;
    cs_inspection in;
    cs_batch batch;
    credstore_check_result result;
    uint64_t estimate;
    char hex[2 * CS_KEY_MAX + 1];
} check;

/* ---- telling ---- */

static const char *hex_of(check *c, const cs_key *key)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < key->len; i++) {
        c->hex[2 * i] = digits[key->ptr[i] >> 4];
        c->hex[2 * i + 1] = digits[key->ptr[i] & 15];
    }
    c->hex[2 * key->len] = '\0';
    return c->hex;
}

static void tell(check *c, const cs_flaw *flaw)
{
    const credstore_finding finding = {
        .struct_size = sizeof finding,
        .kind = flaw->kind,
        .status = (int32_t)flaw->status,
        .revision = flaw->revision,
        .seq = flaw->seq,
        .table = flaw->table,
        .tenant = flaw->tenant,
        .parent = flaw->parent,
        .id = flaw->id,
        .field = flaw->field,
        .key = hex_of(c, &flaw->key),
        .message = flaw->message,
    };

    c->result.findings++;
    cs_tell(&c->in, flaw->topic);
    if (c->options.finding != NULL && c->options.finding(c->options.ctx, &finding) != 0)
        c->result.stopped = 1;
}

static void tell_all(check *c)
{
    for (size_t i = 0; i < c->in.flaw_count && c->result.stopped == 0; i++)
        tell(c, &c->in.flaws[i]);
    c->in.flaw_count = 0;
}

static void tell_progress(check *c)
{
    const uint64_t seen = c->in.counts.values;

    if (c->result.stopped == 0 && c->options.progress != NULL &&
        c->options.progress(c->options.ctx, seen, seen < c->estimate ? c->estimate : seen) != 0)
        c->result.stopped = 1;
}

/* ---- walking ---- */

/* key NULL: what every store has. */
static credstore_status look_again(check *c, const cs_key *key, credstore_error *err)
{
    cs_txn txn;
    credstore_status status = cs_txn_read(c->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_inspection_turn(&c->in, &txn, err);
    if (status == CREDSTORE_OK && key == NULL)
        status = cs_inspect_presence(&c->in, err);
    else if (status == CREDSTORE_OK)
        status = cs_inspect_again(&c->in, key, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK)
        tell_all(c);
    return status;
}

/* Keys from <= key < to, where 0x100 is the end of all. */
static credstore_status walk(check *c, unsigned from, unsigned to, credstore_error *err)
{
    cs_key at = {1, {(uint8_t)from}};
    const cs_key end = {to > 0xff ? 0 : 1, {(uint8_t)to}};
    credstore_status status = CREDSTORE_OK;

    do {
        status = cs_inspect_batch(&c->in, &at, &end, &c->batch, err);
        for (size_t i = 0; i < c->batch.count && status == CREDSTORE_OK; i++)
            if (c->batch.flawed[i] && c->result.stopped == 0)
                status = look_again(c, &c->batch.keys[i], err);
        if (status == CREDSTORE_OK)
            tell_progress(c);
    } while (status == CREDSTORE_OK && c->result.stopped == 0 && c->batch.count == CS_BATCH);
    return status;
}

static bool count_key(void *arg, credstore_bytes key, credstore_bytes value)
{
    check *c = arg;

    (void)value;
    c->estimate++;
    c->batch.keys[0].len = key.len < CS_KEY_MAX ? key.len : CS_KEY_MAX;
    memcpy(c->batch.keys[0].ptr, key.ptr, c->batch.keys[0].len);
    return true;
}

/* How many values there are, counted in as short snapshots as the walk's. */
static credstore_status estimate(check *c, credstore_error *err)
{
    enum { AT_ONCE = 4096 };
    const cs_scan scan = {.limit = AT_ONCE, .visit = count_key, .arg = c, .passing = true};
    const cs_key end = {0, {0}};
    cs_key from = {1, {0}};
    uint64_t before;
    credstore_status status = CREDSTORE_OK;

    do {
        cs_txn txn;

        before = c->estimate;
        status = cs_txn_read(c->op.store, &txn, err);
        if (status != CREDSTORE_OK)
            break;
        status = cs_txn_scan(&txn, &from, &end, &scan, err);
        cs_txn_end(&txn);
        from = c->batch.keys[0];
        cs_key_after(&from);
    } while (status == CREDSTORE_OK && c->estimate - before == AT_ONCE);
    return status;
}

/* As large as the audit of the moment asks for. */
static credstore_status begin_sketch(check *c, credstore_error *err)
{
    cs_txn txn;
    credstore_status status = cs_txn_read(c->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_inspection_turn(&c->in, &txn, err);
    cs_txn_end(&txn);
    return status == CREDSTORE_OK
               ? cs_sketch_begin(&c->in, c->in.head.last_seq - c->in.gone.seq, err)
               : status;
}

static credstore_status check_all(check *c, credstore_error *err)
{
    static const unsigned ranges[][2] = {
        {CS_TABLE_LANE, CS_TABLE_LANE + 1}, {0, CS_TABLE_LANE}, {CS_TABLE_LANE + 1, 0x100}};
    credstore_status status = cs_inspection_begin(&c->in, c->op.store, true, err);

    if (status == CREDSTORE_OK && c->options.progress != NULL)
        status = estimate(c, err);
    if (status == CREDSTORE_OK)
        status = begin_sketch(c, err);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (status == CREDSTORE_OK && c->result.stopped == 0)
            status = walk(c, ranges[i][0], ranges[i][1], err);
    if (status == CREDSTORE_OK && c->result.stopped == 0)
        status = look_again(c, NULL, err);
    return status;
}

/* ---- the verb ---- */

static credstore_status take_options(check *c, const credstore_check_options *options,
                                     credstore_error *err)
{
    credstore_status status;

    if (options == NULL)
        return CREDSTORE_OK;
    status = cs_struct_take(&c->options, sizeof c->options, options, option_starts,
                            COUNT(option_starts), "options", err);
    if (status == CREDSTORE_OK && c->options.flags != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "options", "The options have an unknown flag");
    return status;
}

static void hand_over(const check *c, credstore_check_result *out)
{
    const cs_counts *counts = &c->in.counts;

    credstore_check_result all = c->result;

    all.secrets_unopened = c->in.unopened;
    all.values = counts->values;
    all.records = counts->records;
    all.revisions = counts->history;
    all.secrets = counts->parts;
    all.audit_entries = counts->audit_entries;
    cs_struct_give(out, &all, sizeof all);
}

credstore_status credstore_check(credstore *store, const credstore_call *call,
                                 const credstore_check_options *options,
                                 credstore_check_result *result, credstore_error *err)
{
    check *c;
    credstore_status status;

    cs_error_clear(err);
    status = cs_store_usable(store, err); /* before any allocation: a forked child's heap */
    if (status != CREDSTORE_OK)
        return status;
    c = cs_alloc(1, sizeof *c);
    if (c == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_op_begin_store(&c->op, store, call, err);
    if (status == CREDSTORE_OK)
        status = take_options(c, options, err);
    if (status == CREDSTORE_OK && result != NULL)
        status = cs_struct_take(&c->result, sizeof c->result, result, result_starts,
                                COUNT(result_starts), "result", err);
    memset(&c->result, 0, sizeof c->result);
    if (status == CREDSTORE_OK)
        status = check_all(c, err);
    if (status == CREDSTORE_OK && result != NULL)
        hand_over(c, result);
    cs_inspection_end(&c->in);
    cs_free_wiped(c, sizeof *c);
    return status;
}
