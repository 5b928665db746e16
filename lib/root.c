/* SPDX-License-Identifier: MIT
 *
 * Root slots. A slot's value: format, method, rights, check value, box. The check value is a MAC
 * under the root key, by which a slot of another key is told from a damaged one.
 */
#include "root.h"

#include <string.h>

#include "error.h"

enum { CHECK_LEN = 16, HEAD_LEN = 3 + CHECK_LEN };

/* The slot's clear head is part of the box's place, so that method and rights cannot be edited. */
static cs_label slot_label(uint16_t slot, const uint8_t *head)
{
    const cs_label label = {.role = CS_ROLE_ROOT, .field = slot, .at = {.id = {head, HEAD_LEN}}};

    return label;
}

static credstore_status load_root(const cs_sealer *sealer, const credstore_key_source *source,
                                  uint32_t suite, cs_data_key *key, credstore_error *err)
{
    memset(key, 0, sizeof *key);
    return cs_data_key_load(sealer, suite, cs_secret_bytes(source->key), key, err);
}

static credstore_status check_value(const cs_sealer *sealer, const credstore_key_source *source,
                                    uint16_t slot, uint8_t out[CHECK_LEN], credstore_error *err)
{
    static const char purpose[] = "credstore root slot";
    uint8_t message[sizeof purpose + CS_STORE_ID_LEN + 2];
    uint8_t mac[32];
    cs_data_key key;
    int32_t result;
    credstore_status status = load_root(sealer, source, CREDSTORE_SUITE_HMAC_SHA256, &key, err);

    if (status != CREDSTORE_OK)
        return status;
    memcpy(message, purpose, sizeof purpose);
    memcpy(message + sizeof purpose, sealer->store_id, CS_STORE_ID_LEN);
    cs_put_u16(message + sizeof purpose + CS_STORE_ID_LEN, slot);
    result = sealer->crypto->mac(sealer->ctx, key.handle, cs_bytes(message, sizeof message), mac);
    cs_data_key_free(sealer, &key);
    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "A root slot's check value could not be computed");
    memcpy(out, mac, CHECK_LEN);
    return CREDSTORE_OK;
}

credstore_status cs_root_wrap(const cs_sealer *sealer, const credstore_key_source *source,
                              uint16_t slot, uint8_t rights, const uint8_t *raw, cs_buf *value,
                              credstore_error *err)
{
    const size_t len = (rights & CS_RIGHT_REVEAL) != 0 ? CS_STORE_KEYS_LEN : CS_DATA_KEY_LEN;
    uint8_t head[HEAD_LEN] = {CS_FORMAT, CS_ROOT_METHOD_RAW, rights};
    uint8_t nonce[CS_NONCE_LEN];
    const cs_label label = slot_label(slot, head);
    cs_data_key key;
    int32_t result;
    credstore_status status = check_value(sealer, source, slot, head + 3, err);

    if (status == CREDSTORE_OK)
        status = load_root(sealer, source, CREDSTORE_SUITE_XAES_256_GCM, &key, err);
    if (status != CREDSTORE_OK)
        return status;
    cs_buf_add(value, head, sizeof head);
    result = sealer->crypto->random(sealer->ctx, nonce, sizeof nonce);
    if (result != CREDSTORE_CRYPTO_OK)
        status = cs_fail_crypto(err, result, "The random source failed");
    else
        status = cs_seal(sealer, &key, &label, nonce, cs_bytes(raw, len), value, NULL, err);
    cs_data_key_free(sealer, &key);
    return status;
}

/* Behind the head of a slot of our own method: one box. */
static bool read_box(credstore_bytes value, cs_box *box)
{
    const uint8_t *head = value.ptr;

    value = cs_bytes(head + HEAD_LEN, value.len - HEAD_LEN);
    return head[1] == CS_ROOT_METHOD_RAW && cs_box_take(&value, box) && value.len == 0 &&
           box->key_id == 0;
}

credstore_status cs_root_unwrap(const cs_sealer *sealer, const credstore_key_source *source,
                                uint16_t slot, credstore_bytes value, uint8_t *raw, uint8_t *rights,
                                bool *ours, credstore_error *err)
{
    uint8_t check[CHECK_LEN];
    const uint8_t *head = value.ptr;
    size_t len;
    cs_box box;
    cs_label label;
    cs_data_key key;
    credstore_status status;

    *ours = false;
    if (value.len < HEAD_LEN || head[0] != CS_FORMAT)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A root slot is not what was written");
    status = check_value(sealer, source, slot, check, err);
    if (status != CREDSTORE_OK || !cs_equal_secret(check, head + 3, CHECK_LEN))
        return status; /* what lies behind another's head depends on its method */
    *ours = true;
    *rights = head[2];
    len = (*rights & CS_RIGHT_REVEAL) != 0 ? CS_STORE_KEYS_LEN : CS_DATA_KEY_LEN;
    if (!read_box(value, &box) || box.sealed.len != len)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A root slot is not what was written");
    label = slot_label(slot, head);
    status = load_root(sealer, source, CREDSTORE_SUITE_XAES_256_GCM, &key, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_unseal(sealer, &key, &label, &box, raw, err);
    cs_data_key_free(sealer, &key);
    return status;
}
