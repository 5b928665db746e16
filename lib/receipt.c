/* SPDX-License-Identifier: MIT
 *
 * Receipts. The key begins with the day, so that whole days expire by a scan, and a look-up asks
 * two of them.
 */
#include "receipt.h"

#include <string.h>

#include "error.h"
#include "ring.h"
#include "sealed.h"
#include "time.h"
#include "text.h"

enum { FIELD_TOKEN = 1, REST_LEN = 4 + 1 + 3 * 8 };
/* request, revision, made at, kind, scope; the id follows */
enum { HEAD_LEN = CS_RECEIPT_MAC + 8 + 8 + 1 + CS_SCOPE_LEN };

static uint32_t day_of(int64_t now)
{
    return (uint32_t)(now / CS_DAY_MS);
}

static credstore_status mac(const credstore *store, const credstore_bytes *parts, size_t count,
                            uint8_t out[CS_RECEIPT_MAC], credstore_error *err)
{
    return cs_name_mac(&store->sealer, cs_store_name_key(store), CS_NAME_RECEIPT, parts, count, out,
                       err);
}

/* Each piece of each field is folded into the MAC of those before it: a body is longer than one
 * message may be. */
static credstore_status fold(const cs_op *op, const cs_inputs *inputs, uint8_t out[CS_RECEIPT_MAC],
                             credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < op->kind->field_count && status == CREDSTORE_OK; i++) {
        const cs_input *in = &inputs->field[i];
        size_t done = 0;

        do {
            const size_t left = in->bytes.len - done;
            const size_t len = left < CS_SECRET_MAX ? left : CS_SECRET_MAX;
            uint8_t head[4 + 8 + 8];
            const credstore_bytes parts[] = {
                cs_bytes(out, CS_RECEIPT_MAC), cs_bytes(head, sizeof head),
                cs_bytes(len == 0 ? NULL : (const uint8_t *)in->bytes.ptr + done, len)};

            cs_put_u32(head, in->op);
            cs_put_u64(head + 4, (uint64_t)in->number);
            cs_put_u64(head + 12, in->bytes.len);
            status = mac(op->store, parts, sizeof parts / sizeof *parts, out, err);
            done += len;
        } while (status == CREDSTORE_OK && done < in->bytes.len);
    }
    return status;
}

/* What was asked beside the fields: grace, whether a token is made, the origin's times. */
static void put_rest(const cs_op *op, const cs_inputs *inputs, bool token, uint32_t grace_s,
                     uint8_t out[REST_LEN])
{
    const cs_shared_at *at = &op->kind->origin;

    cs_put_u32(out, grace_s);
    out[4] = token;
    cs_put_u64(out + 5, (uint64_t)cs_origin_time(inputs, at->created_at));
    cs_put_u64(out + 13, (uint64_t)cs_origin_time(inputs, at->updated_at));
    cs_put_u64(out + 21, (uint64_t)cs_origin_time(inputs, at->last_used_at));
}

static credstore_status check_key(const char *key, credstore_error *err)
{
    const size_t len = cs_text_len(key, CS_ID_MAX);

    if (len <= CS_ID_MAX && cs_visible_ascii(key, len))
        return CREDSTORE_OK;
    return cs_fail(err, CREDSTORE_E_INVALID, "Idempotency-Key",
                   "The key is not 1..255 visible ASCII characters");
}

credstore_status cs_receipt_name(const cs_op *op, uint8_t action, const cs_inputs *inputs,
                                 bool token, const char *prefix, uint32_t grace_s, cs_receipt *out,
                                 credstore_error *err)
{
    const uint8_t verb[] = {op->kind->id, action, (uint8_t)op->actor.type};
    const credstore_bytes name[] = {cs_bytes(verb, sizeof verb), cs_bytes_of(op->tenant),
                                    cs_bytes_of(op->actor.tenant), cs_bytes_of(op->actor.id),
                                    cs_bytes_of(op->call.idempotency_key)};
    uint8_t rest[REST_LEN];
    const credstore_bytes request[] = {cs_bytes_of(op->parent), op->at.id, cs_bytes_of(prefix),
                                       cs_bytes(rest, sizeof rest)};
    credstore_status status;

    memset(out, 0, sizeof *out);
    out->wanted = op->call.idempotency_key != NULL &&
                  (action == CS_ACTION_CREATE || action == CS_ACTION_ROLL);
    if (!out->wanted)
        return CREDSTORE_OK;
    put_rest(op, inputs, token, grace_s, rest);
    status = check_key(op->call.idempotency_key, err);
    if (status == CREDSTORE_OK)
        status = mac(op->store, name, sizeof name / sizeof *name, out->name, err);
    if (status == CREDSTORE_OK)
        status = mac(op->store, request, sizeof request / sizeof *request, out->request, err);
    return status == CREDSTORE_OK ? fold(op, inputs, out->request, err) : status;
}

static cs_label label_of(const cs_receipt *receipt, uint16_t field)
{
    const cs_label label = {
        .role = CS_ROLE_RECEIPT, .field = field, .at = {.id = {receipt->name, CS_SCOPE_LEN}}};

    return label;
}

/* ---- finding ---- */

static credstore_status open_token(cs_txn *txn, const cs_receipt *receipt, const cs_box *box,
                                   cs_replay *out, credstore_error *err)
{
    const cs_label label = label_of(receipt, FIELD_TOKEN);
    const credstore *store = txn->store;

    if (box->sealed.len > CS_SECRET_MAX)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A receipt has an impossible length");
    out->token = cs_secret_new(store->arena, box->sealed.len);
    if (out->token == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return cs_txn_unseal(txn, CS_PURPOSE_SECRET, &label, box, cs_secret_bytes(out->token), err);
}

static credstore_status read_receipt(cs_txn *txn, const cs_receipt *receipt, credstore_bytes value,
                                     cs_replay *out, credstore_error *err)
{
    const cs_label label = label_of(receipt, 0);
    uint8_t plain[HEAD_LEN + CS_ID_MAX];
    cs_box box, token;
    bool has_token;
    credstore_status status = cs_value_format(&value, err);

    if (status != CREDSTORE_OK)
        return status;
    if (!cs_box_take(&value, &box) || box.sealed.len <= HEAD_LEN || box.sealed.len > sizeof plain)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A receipt has an impossible length");
    has_token = value.len > 0;
    if (has_token && (!cs_box_take(&value, &token) || value.len > 0))
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A receipt has an impossible length");
    status = cs_txn_unseal(txn, CS_PURPOSE_BODY, &label, &box, plain, err);
    if (status != CREDSTORE_OK)
        return status;
    if (txn->now - (int64_t)cs_get_u64(plain + CS_RECEIPT_MAC + 8) >= CS_DAY_MS)
        return status; /* over: as if it were not there */
    if (!cs_equal_secret(plain, receipt->request, CS_RECEIPT_MAC))
        return cs_fail(err, CREDSTORE_E_IDEMPOTENCY, "Idempotency-Key",
                       "The key stands for another request");
    out->found = true;
    out->revision = cs_get_u64(plain + CS_RECEIPT_MAC);
    out->at.kind = plain[CS_RECEIPT_MAC + 16];
    memcpy(out->at.scope, plain + CS_RECEIPT_MAC + 17, CS_SCOPE_LEN);
    memcpy(out->id, plain + HEAD_LEN, box.sealed.len - HEAD_LEN);
    out->id[box.sealed.len - HEAD_LEN] = '\0';
    out->at.id = cs_bytes_of(out->id);
    return has_token ? open_token(txn, receipt, &token, out, err) : status;
}

credstore_status cs_receipt_find(cs_txn *txn, const cs_receipt *receipt, cs_replay *out,
                                 credstore_error *err)
{
    const uint32_t today = day_of(txn->now);
    credstore_status status = CREDSTORE_OK;

    for (uint32_t back = 0; receipt->wanted && back < 2 && status == CREDSTORE_OK; back++) {
        credstore_bytes value;
        bool found = false;
        cs_key key;

        if (out->found || back > today)
            break;
        cs_key_receipt(&key, today - back, receipt->name);
        status = cs_txn_get(txn, &key, &value, &found, err);
        if (status == CREDSTORE_OK && found)
            status = read_receipt(txn, receipt, value, out, err);
    }
    return status;
}

/* ---- leaving ---- */

static credstore_status seal_receipt(cs_txn *txn, const cs_receipt *receipt, const cs_locator *at,
                                     uint64_t revision, credstore_secret *token, cs_buf *value,
                                     credstore_error *err)
{
    const cs_label body = label_of(receipt, 0), part = label_of(receipt, FIELD_TOKEN);
    uint8_t plain[HEAD_LEN + CS_ID_MAX];
    credstore_status status;

    memcpy(plain, receipt->request, CS_RECEIPT_MAC);
    cs_put_u64(plain + CS_RECEIPT_MAC, revision);
    cs_put_u64(plain + CS_RECEIPT_MAC + 8, (uint64_t)txn->now);
    plain[CS_RECEIPT_MAC + 16] = at->kind;
    memcpy(plain + CS_RECEIPT_MAC + 17, at->scope, CS_SCOPE_LEN);
    memcpy(plain + HEAD_LEN, at->id.ptr, at->id.len);
    cs_buf_u8(value, CS_FORMAT);
    status = cs_txn_seal(txn, CS_PURPOSE_BODY, &body, cs_bytes(plain, HEAD_LEN + at->id.len), value,
                         NULL, err);
    if (status == CREDSTORE_OK && token != NULL)
        status = cs_txn_seal(txn, CS_PURPOSE_SECRET, &part,
                             cs_bytes(cs_secret_bytes(token), credstore_secret_len(token)), value,
                             NULL, err);
    return status;
}

credstore_status cs_receipt_put(cs_txn *txn, const cs_receipt *receipt, const cs_locator *at,
                                uint64_t revision, credstore_secret *token, credstore_error *err)
{
    cs_buf value = {0};
    cs_key key;
    credstore_status status;

    if (!receipt->wanted)
        return CREDSTORE_OK;
    status = seal_receipt(txn, receipt, at, revision, token, &value, err);
    cs_key_receipt(&key, day_of(txn->now), receipt->name);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, &key, &value, err);
    cs_buf_free(&value);
    return status;
}

/* ---- expiring ---- */

static bool collect(void *arg, credstore_bytes key, credstore_bytes value)
{
    cs_expired *out = arg;
    cs_key *to = &out->keys[out->count];

    (void)value;
    if (key.len > CS_KEY_MAX)
        return true;
    memcpy(to->ptr, key.ptr, key.len);
    to->len = key.len;
    out->count++;
    return out->count < out->limit;
}

credstore_status cs_receipts_find_expired(cs_txn *txn, int64_t until, cs_expired *out,
                                          credstore_error *err)
{
    const cs_scan scan = {.limit = out->limit, .visit = collect, .arg = out};
    const uint32_t today = day_of(until);
    cs_key from, to;

    out->count = 0;
    cs_key_receipt(&from, 0, NULL);
    cs_key_receipt(&to, today < 1 ? 0 : today - 1, NULL);
    return cs_txn_scan(txn, &from, &to, &scan, err);
}

credstore_status cs_receipts_drop(cs_txn *txn, const cs_expired *expired, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (uint32_t i = 0; i < expired->count && status == CREDSTORE_OK; i++)
        status = cs_txn_del(txn, &expired->keys[i], err);
    return status;
}
