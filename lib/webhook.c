/* SPDX-License-Identifier: MIT
 *
 * Webhook signatures: HMAC-SHA256 of "t.body" under the secret's text
 * (docs.stripe.com/webhooks#verify-manually).
 */
#include "webhook.h"

#include <string.h>

#include "error.h"

enum { BLOCK = 64, MAC_LEN = 32, HEADER_MAX = 4096, SIGNATURES_MAX = 16, DIGITS_MAX = 11 };
enum { TOLERANCE_S = 300 };

typedef struct signatures {
    int64_t at; /* seconds */
    credstore_slice stamp;
    size_t count;
    uint8_t v1[SIGNATURES_MAX][MAC_LEN];
} signatures;

/* ---- the header ---- */

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(credstore_slice text, uint8_t out[MAC_LEN])
{
    if (text.len != 2 * MAC_LEN)
        return false;
    for (size_t i = 0; i < MAC_LEN; i++) {
        const int high = nibble(text.ptr[2 * i]), low = nibble(text.ptr[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool take_stamp(credstore_slice text, signatures *out)
{
    if (text.len == 0 || text.len > DIGITS_MAX || out->stamp.ptr != NULL)
        return false;
    out->stamp = text;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        out->at = out->at * 10 + (text.ptr[i] - '0');
    }
    return true;
}

/* One "name=value"; names of other schemes are passed over. */
static bool take_piece(credstore_slice piece, signatures *out)
{
    const char *equals = piece.len == 0 ? NULL : memchr(piece.ptr, '=', piece.len);
    const size_t name = equals == NULL ? 0 : (size_t)(equals - piece.ptr);
    credstore_slice value;

    if (equals == NULL)
        return false;
    value.ptr = equals + 1;
    value.len = piece.len - name - 1;
    if (name == 1 && piece.ptr[0] == 't')
        return take_stamp(value, out);
    if (name != 2 || memcmp(piece.ptr, "v1", 2) != 0)
        return true;
    if (out->count == SIGNATURES_MAX || !take_hex(value, out->v1[out->count]))
        return false;
    out->count++;
    return true;
}

static credstore_status take_header(const credstore_slice *header, signatures *out,
                                    credstore_error *err)
{
    credstore_slice rest = {NULL, 0};
    bool ok = header != NULL && header->ptr != NULL && header->len <= HEADER_MAX;

    memset(out, 0, sizeof *out);
    if (ok)
        rest = *header;
    while (ok && rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        const size_t len = comma == NULL ? rest.len : (size_t)(comma - rest.ptr);
        const credstore_slice piece = {rest.ptr, len};

        ok = take_piece(piece, out);
        rest.ptr += comma == NULL ? len : len + 1;
        rest.len -= comma == NULL ? len : len + 1;
    }
    if (ok && out->stamp.ptr != NULL && out->count > 0)
        return CREDSTORE_OK;
    return cs_fail(err, CREDSTORE_E_INVALID, "header", "The header is not t=...,v1=...");
}

/* ---- HMAC with a key of any length (RFC 2104), over the provider's digest ---- */

static credstore_status digest(const cs_sealer *sealer, const cs_buf *message, uint8_t out[MAC_LEN],
                               credstore_error *err)
{
    int32_t result = CREDSTORE_CRYPTO_NO_MEMORY;

    if (!message->failed)
        result = sealer->crypto->digest(sealer->ctx, cs_bytes(message->ptr, message->len), out);
    if (result == CREDSTORE_CRYPTO_OK)
        return CREDSTORE_OK;
    return cs_fail_crypto(err, result, "A signature could not be computed");
}

static void add_pad(cs_buf *out, const uint8_t key[BLOCK], uint8_t mask)
{
    for (size_t i = 0; i < BLOCK; i++)
        cs_buf_u8(out, (uint8_t)(key[i] ^ mask));
}

static credstore_status sign(const cs_sealer *sealer, credstore_secret *secret,
                             credstore_slice stamp, const credstore_slice *body,
                             uint8_t out[MAC_LEN], credstore_error *err)
{
    uint8_t key[BLOCK] = {0};
    cs_buf message = {0};
    const size_t len = credstore_secret_len(secret);
    credstore_status status = CREDSTORE_OK;

    memset(out, 0, MAC_LEN);
    if (len <= BLOCK) {
        memcpy(key, cs_secret_bytes(secret), len);
    } else {
        cs_buf_add(&message, cs_secret_bytes(secret), len);
        status = digest(sealer, &message, key, err);
        cs_buf_free(&message);
    }
    add_pad(&message, key, 0x36);
    cs_buf_add(&message, stamp.ptr, stamp.len);
    cs_buf_u8(&message, '.');
    cs_buf_add(&message, body->ptr, body->len);
    if (status == CREDSTORE_OK)
        status = digest(sealer, &message, out, err);
    cs_buf_free(&message);
    add_pad(&message, key, 0x5c);
    cs_buf_add(&message, out, MAC_LEN);
    if (status == CREDSTORE_OK)
        status = digest(sealer, &message, out, err);
    cs_buf_free(&message);
    cs_wipe(key, sizeof key);
    return status;
}

/* ---- the record's secrets ---- */

typedef struct check {
    cs_op op;
    uint16_t field;
    const credstore_slice *body;
    signatures given;
    bool fits;
} check;

static credstore_status try_part(check *c, cs_txn *txn, const cs_part *part, credstore_error *err)
{
    uint8_t mac[MAC_LEN];
    credstore_secret *secret = NULL;
    credstore_status status = cs_open_part(&c->op, txn, part, &secret, err);

    if (status == CREDSTORE_OK)
        status = sign(&c->op.store->sealer, secret, c->given.stamp, c->body, mac, err);
    credstore_secret_free(secret);
    for (size_t i = 0; status == CREDSTORE_OK && i < c->given.count; i++)
        c->fits = cs_equal_secret(mac, c->given.v1[i], MAC_LEN) || c->fits;
    return status;
}

static credstore_status try_record(check *c, cs_txn *txn, const cs_loaded *loaded,
                                   credstore_error *err)
{
    const cs_kind *kind = c->op.kind;
    const cs_record *record = &loaded->record;
    const size_t i = cs_field_index(kind, c->field);
    const cs_previous *previous = cs_record_previous(record, c->field);
    const cs_value *active = &record->values[cs_field_index(kind, kind->active_field)];
    const cs_part *part;
    credstore_status status;

    if (active->number == 0)
        return cs_fail(err, CREDSTORE_E_INACTIVE, NULL, "The record is switched off");
    if (!record->values[i].present)
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, kind->fields[i].name, "The field has no value");
    part = cs_record_part(record, c->field, record->values[i].part_revision);
    status = try_part(c, txn, part, err);
    if (status != CREDSTORE_OK || previous == NULL || txn->now >= previous->until)
        return status;
    part = cs_record_part(record, c->field, previous->part_revision);
    return try_part(c, txn, part, err);
}

static credstore_status judge(const check *c, int64_t now, uint32_t tolerance_s,
                              credstore_error *err)
{
    const int64_t tolerance = tolerance_s == 0 ? TOLERANCE_S : tolerance_s;
    const int64_t apart = now / 1000 - c->given.at;

    if (!c->fits)
        return cs_fail(err, CREDSTORE_E_UNAUTHENTICATED, "header", "No signature fits");
    if (apart > tolerance || apart < -tolerance)
        return cs_fail(err, CREDSTORE_E_EXPIRED, "header", "The signature is too old or ahead");
    return CREDSTORE_OK;
}

credstore_status cs_webhook_verify(credstore *store, const cs_kind *kind,
                                   const credstore_call *call, const cs_names *names,
                                   uint16_t field, const credstore_slice *header,
                                   const credstore_slice *body, uint32_t tolerance_s,
                                   credstore_error *err)
{
    check c = {.field = field, .body = body};
    cs_loaded loaded = {0};
    cs_txn txn;
    credstore_status status = cs_op_begin_record(&c.op, store, kind, CS_REVEAL, call, names, err);

    if (status == CREDSTORE_OK && field == 0)
        status = cs_fail(err, CREDSTORE_E_INVALID, "field", "The field is not a webhook secret");
    if (status == CREDSTORE_OK && (body == NULL || (body->ptr == NULL && body->len > 0)))
        status = cs_fail(err, CREDSTORE_E_INVALID, "body", "An argument is NULL");
    if (status == CREDSTORE_OK)
        status = take_header(header, &c.given, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    c.op.call.at_revision = 0;
    status = cs_load_own(&c.op, &txn, &loaded, err);
    if (status == CREDSTORE_OK)
        status = try_record(&c, &txn, &loaded, err);
    if (status == CREDSTORE_OK)
        status = judge(&c, txn.now, tolerance_s, err);
    cs_txn_end(&txn);
    cs_loaded_free(&loaded);
    return status;
}
