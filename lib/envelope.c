/* SPDX-License-Identifier: MIT
 *
 * Sealed boxes.
 */
#include "envelope.h"

#include <string.h>

#include "error.h"

/* Associated data: format, store id, role, kind, scope, id with its length, field, revision, key
 * id. */
enum {
    ASSOCIATED_MAX = 1 + CS_STORE_ID_LEN + 1 + 1 + CS_SCOPE_LEN + 2 + CS_ID_MAX + 2 + 8 + 4,
    BOX_HEAD = 4 + 4 + CS_NONCE_LEN + CS_TAG_LEN,
    NAME_MAX_LEN = 1 + 4 + 4096 + 4 * (4 + CS_ID_MAX) /* a secret, or a few ids */
};

static bool associate(const cs_sealer *sealer, const cs_label *label, uint32_t key_id,
                      uint8_t out[ASSOCIATED_MAX], size_t *len)
{
    uint8_t *p = out;

    if (label->at.id.len > CS_ID_MAX)
        return false;
    *p++ = CS_FORMAT;
    memcpy(p, sealer->store_id, CS_STORE_ID_LEN);
    p += CS_STORE_ID_LEN;
    *p++ = label->role;
    *p++ = label->at.kind;
    memcpy(p, label->at.scope, CS_SCOPE_LEN);
    p += CS_SCOPE_LEN;
    cs_put_u16(p, (uint16_t)label->at.id.len);
    p += 2;
    if (label->at.id.len > 0)
        memcpy(p, label->at.id.ptr, label->at.id.len);
    p += label->at.id.len;
    cs_put_u16(p, label->field);
    cs_put_u64(p + 2, label->revision);
    cs_put_u32(p + 10, key_id);
    *len = (size_t)(p + 14 - out);
    return true;
}

bool cs_box_take(credstore_bytes *in, cs_box *box)
{
    const uint8_t *p = in->ptr;
    size_t sealed_len;

    if (in->len < BOX_HEAD)
        return false;
    sealed_len = cs_get_u32(p + 4);
    if (sealed_len > in->len - BOX_HEAD)
        return false;
    box->key_id = cs_get_u32(p);
    box->nonce = p + 8;
    box->tag = p + 8 + CS_NONCE_LEN;
    box->sealed = cs_bytes(p + BOX_HEAD, sealed_len);
    box->whole = cs_bytes(p, BOX_HEAD + sealed_len);
    *in = cs_bytes(p + BOX_HEAD + sealed_len, in->len - BOX_HEAD - sealed_len);
    return true;
}

credstore_status cs_seal(const cs_sealer *sealer, const cs_data_key *key, const cs_label *label,
                         const uint8_t nonce[CS_NONCE_LEN], credstore_bytes plain, cs_buf *out,
                         uint8_t tag[CS_TAG_LEN], credstore_error *err)
{
    uint8_t associated[ASSOCIATED_MAX];
    size_t associated_len;
    uint8_t *box;
    int32_t result;

    if (plain.len > CS_VALUE_MAX || !associate(sealer, label, key->id, associated, &associated_len))
        return cs_fail(err, CREDSTORE_E_TOO_LARGE, NULL, "The value is larger than a store takes");
    box = cs_buf_room(out, BOX_HEAD + plain.len);
    if (box == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_put_u32(box, key->id);
    cs_put_u32(box + 4, (uint32_t)plain.len);
    memcpy(box + 8, nonce, CS_NONCE_LEN);
    result =
        sealer->crypto->seal(sealer->ctx, key->handle, nonce, cs_bytes(associated, associated_len),
                             plain, box + BOX_HEAD, box + 8 + CS_NONCE_LEN);
    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "Sealing failed");
    if (tag != NULL)
        memcpy(tag, box + 8 + CS_NONCE_LEN, CS_TAG_LEN);
    return CREDSTORE_OK;
}

credstore_status cs_unseal(const cs_sealer *sealer, const cs_data_key *key, const cs_label *label,
                           const cs_box *box, uint8_t *out, credstore_error *err)
{
    uint8_t associated[ASSOCIATED_MAX];
    size_t associated_len;
    int32_t result;

    if (!associate(sealer, label, box->key_id, associated, &associated_len))
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A box has no place with such an id");
    result = sealer->crypto->open(sealer->ctx, key->handle, box->nonce,
                                  cs_bytes(associated, associated_len), box->sealed, box->tag, out);
    if (result == CREDSTORE_CRYPTO_OK)
        return CREDSTORE_OK;
    return cs_fail_crypto(err, result, "Stored bytes are not what was written there");
}

credstore_status cs_name_mac(const cs_sealer *sealer, const cs_data_key *key, uint8_t domain,
                             const credstore_bytes *parts, size_t count, uint8_t out[32],
                             credstore_error *err)
{
    uint8_t message[NAME_MAX_LEN];
    size_t len = 1;
    int32_t result;

    message[0] = domain;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > sizeof message - len - 4 * (count - i))
            return cs_fail(err, CREDSTORE_E_TOO_LARGE, NULL, "A name is too long");
        cs_put_u32(message + len, (uint32_t)parts[i].len);
        if (parts[i].len > 0)
            memcpy(message + len + 4, parts[i].ptr, parts[i].len);
        len += 4 + parts[i].len;
    }
    result = sealer->crypto->mac(sealer->ctx, key->handle, cs_bytes(message, len), out);
    cs_wipe(message, len);
    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "A keyed name could not be computed");
    return CREDSTORE_OK;
}

credstore_status cs_seal_value(const cs_sealer *sealer, const cs_data_key *key,
                               const cs_label *label, const uint8_t nonce[CS_NONCE_LEN],
                               credstore_bytes plain, cs_buf *out, credstore_error *err)
{
    cs_buf_u8(out, CS_FORMAT);
    return cs_seal(sealer, key, label, nonce, plain, out, NULL, err);
}

credstore_status cs_value_format(credstore_bytes *value, credstore_error *err)
{
    const uint8_t *p = value->ptr;

    if (value->len == 0 || p[0] != CS_FORMAT)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A stored value has no known format");
    *value = cs_bytes(p + 1, value->len - 1);
    return CREDSTORE_OK;
}

credstore_status cs_value_box(credstore_bytes value, cs_box *box, credstore_error *err)
{
    const credstore_status status = cs_value_format(&value, err);

    if (status != CREDSTORE_OK)
        return status;
    if (!cs_box_take(&value, box) || value.len != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A stored value is cut or too long");
    return CREDSTORE_OK;
}
