/* SPDX-License-Identifier: MIT
 *
 * Root slots. A slot's value: format, method, rights, check value, what the method needs to know,
 * and the wrapped keys. The check value is a MAC under the root key, by which a slot of another key
 * is told from a damaged one.
 */
#include "root.h"

#include <stddef.h>
#include <string.h>

#include "error.h"

enum {
    CHECK_LEN = 16,
    HEAD_LEN = 3 + CHECK_LEN,
    SALT_LEN = 32,
    COST_LEN = 1 + 4 + 4 + SALT_LEN, /* log2 of N, r, p, salt */
    HEAD_MAX = HEAD_LEN + COST_LEN
};

/* What an edited slot may cost at most: 1 GiB. */
enum { LOG2_N_MAX = 20, R_MAX = 8, P_MAX = 16 };

/* The slot's clear head is part of the box's place, so that method and rights cannot be edited. */
static cs_label slot_label(uint16_t slot, credstore_bytes head)
{
    const cs_label label = {.role = CS_ROLE_ROOT, .field = slot, .at = {.id = head}};

    return label;
}

static size_t keys_len(uint8_t rights)
{
    return (rights & CS_RIGHT_REVEAL) != 0 ? CS_STORE_KEYS_LEN : CS_DATA_KEY_LEN;
}

static credstore_status damaged(credstore_error *err)
{
    return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "A root slot is not what was written");
}

static credstore_status check_value(const cs_sealer *sealer, const uint8_t *root, uint16_t slot,
                                    uint8_t out[CHECK_LEN], credstore_error *err)
{
    static const char purpose[] = "credstore root slot";
    uint8_t message[sizeof purpose + CS_STORE_ID_LEN + 2];
    uint8_t mac[32];
    cs_data_key key = {0};
    int32_t result;
    credstore_status status =
        cs_data_key_load(sealer, CREDSTORE_SUITE_HMAC_SHA256, root, &key, err);

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

/* ---- raw and passphrase: one box under a root key ---- */

/* A provider's table may end before it. */
static bool has_scrypt(const cs_sealer *sealer)
{
    const credstore_crypto *crypto = sealer->crypto;

    return crypto->struct_size >= offsetof(credstore_crypto, scrypt) + sizeof crypto->scrypt &&
           crypto->scrypt != NULL;
}

static bool cost_bearable(const uint8_t *cost)
{
    const uint32_t r = cs_get_u32(cost + 1), p = cs_get_u32(cost + 5);

    return cost[0] != 0 && cost[0] <= LOG2_N_MAX && r != 0 && r <= R_MAX && p != 0 && p <= P_MAX;
}

/* A passphrase's root key, at the cost and with the salt that the head tells. */
static credstore_status stretch(const cs_sealer *sealer, const credstore_key_source *source,
                                const uint8_t *cost, uint8_t *root, credstore_error *err)
{
    const credstore_bytes passphrase =
        cs_bytes(cs_secret_bytes(source->key), credstore_secret_len(source->key));
    int32_t result;

    if (!has_scrypt(sealer))
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "key", "The crypto provider has no scrypt");
    result = sealer->crypto->scrypt(sealer->ctx, passphrase, cs_bytes(cost + 9, SALT_LEN),
                                    UINT64_C(1) << cost[0], cs_get_u32(cost + 1),
                                    cs_get_u32(cost + 5), root);
    return result == CREDSTORE_CRYPTO_OK ? CREDSTORE_OK
                                         : cs_fail_crypto(err, result, "scrypt failed");
}

/* The root key of a slot with this head, in a secret of its own. */
static credstore_status root_key(const cs_sealer *sealer, const credstore_key_source *source,
                                 const uint8_t *head, credstore_secret **out, credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    *out = cs_secret_new(NULL, CS_ROOT_KEY_LEN);
    if (*out == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (source->method == CS_ROOT_METHOD_PASSPHRASE)
        status = stretch(sealer, source, head + HEAD_LEN, cs_secret_bytes(*out), err);
    else
        memcpy(cs_secret_bytes(*out), cs_secret_bytes(source->key), CS_ROOT_KEY_LEN);
    return status;
}

static credstore_status seal_keys(const cs_sealer *sealer, const uint8_t *root, uint16_t slot,
                                  credstore_bytes head, credstore_bytes raw, cs_buf *value,
                                  credstore_error *err)
{
    const cs_label label = slot_label(slot, head);
    uint8_t nonce[CS_NONCE_LEN];
    cs_data_key key = {0};
    int32_t result;
    credstore_status status =
        cs_data_key_load(sealer, CREDSTORE_SUITE_XAES_256_GCM, root, &key, err);

    if (status != CREDSTORE_OK)
        return status;
    cs_buf_add(value, head.ptr, head.len);
    result = sealer->crypto->random(sealer->ctx, nonce, sizeof nonce);
    if (result != CREDSTORE_CRYPTO_OK)
        status = cs_fail_crypto(err, result, "The random source failed");
    else
        status = cs_seal(sealer, &key, &label, nonce, raw, value, NULL, err);
    cs_data_key_free(sealer, &key);
    return status;
}

static credstore_status put_cost(const cs_sealer *sealer, const credstore_key_source *source,
                                 uint8_t *out, credstore_error *err)
{
    const int32_t result = sealer->crypto->random(sealer->ctx, out + 9, SALT_LEN);

    out[0] = source->cost.log2_n;
    cs_put_u32(out + 1, source->cost.r);
    cs_put_u32(out + 5, source->cost.p);
    return result == CREDSTORE_CRYPTO_OK ? CREDSTORE_OK
                                         : cs_fail_crypto(err, result, "The random source failed");
}

static credstore_status wrap_box(const cs_sealer *sealer, const credstore_key_source *source,
                                 uint16_t slot, uint8_t rights, const uint8_t *raw, cs_buf *value,
                                 credstore_error *err)
{
    const bool stretched = source->method == CS_ROOT_METHOD_PASSPHRASE;
    uint8_t head[HEAD_MAX] = {CS_FORMAT, source->method, rights};
    credstore_secret *root = NULL;
    credstore_status status = CREDSTORE_OK;

    if (stretched)
        status = put_cost(sealer, source, head + HEAD_LEN, err);
    if (status == CREDSTORE_OK)
        status = root_key(sealer, source, head, &root, err);
    if (status == CREDSTORE_OK)
        status = check_value(sealer, cs_secret_bytes(root), slot, head + 3, err);
    if (status == CREDSTORE_OK)
        status = seal_keys(sealer, cs_secret_bytes(root), slot,
                           cs_bytes(head, stretched ? HEAD_MAX : HEAD_LEN),
                           cs_bytes(raw, keys_len(rights)), value, err);
    credstore_secret_free(root);
    return status;
}

static credstore_status open_keys(const cs_sealer *sealer, const uint8_t *root, uint16_t slot,
                                  credstore_bytes value, size_t head_len, uint8_t *raw,
                                  credstore_error *err)
{
    const uint8_t *head = value.ptr;
    const cs_label label = slot_label(slot, cs_bytes(head, head_len));
    credstore_bytes rest = cs_bytes(head + head_len, value.len - head_len);
    cs_data_key key = {0};
    cs_box box;
    credstore_status status;

    if (!cs_box_take(&rest, &box))
        return damaged(err);
    status = cs_data_key_load(sealer, CREDSTORE_SUITE_XAES_256_GCM, root, &key, err);
    if (status == CREDSTORE_OK)
        status = cs_unseal(sealer, &key, &label, &box, raw, err);
    cs_data_key_free(sealer, &key);
    return status;
}

static credstore_status unwrap_box(const cs_sealer *sealer, const credstore_key_source *source,
                                   uint16_t slot, credstore_bytes value, uint8_t *raw, bool *ours,
                                   credstore_error *err)
{
    const size_t head_len =
        source->method == CS_ROOT_METHOD_PASSPHRASE ? (size_t)HEAD_MAX : (size_t)HEAD_LEN;
    const uint8_t *head = value.ptr;
    uint8_t check[CHECK_LEN];
    credstore_secret *root = NULL;
    credstore_status status = root_key(sealer, source, head, &root, err);

    if (status == CREDSTORE_OK)
        status = check_value(sealer, cs_secret_bytes(root), slot, check, err);
    if (status == CREDSTORE_OK && cs_equal_secret(check, head + 3, CHECK_LEN)) {
        *ours = true;
        status = open_keys(sealer, cs_secret_bytes(root), slot, value, head_len, raw, err);
    }
    credstore_secret_free(root);
    return status;
}

/* ---- callback: a blob that the host's key service makes ---- */

typedef struct answer_row {
    int32_t result;
    credstore_status status;
    const char *message;
} answer_row;

static credstore_status service_failed(credstore_error *err, int32_t result)
{
    static const answer_row rows[] = {
        {CREDSTORE_KEY_DENIED, CREDSTORE_E_FORBIDDEN, "The key service denied it"},
        {CREDSTORE_KEY_GONE, CREDSTORE_E_KEY_UNAVAILABLE, "The key service has no such key"},
        {CREDSTORE_KEY_TRANSIENT, CREDSTORE_E_BUSY, "The key service cannot just now; try again"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].result == result)
            return cs_fail_native(err, rows[i].status, result, rows[i].message);
    return cs_fail_native(err, CREDSTORE_E_KEY_UNAVAILABLE, CREDSTORE_KEY_FAILED,
                          "The key service failed");
}

static credstore_status wrap_blob(const cs_sealer *sealer, const credstore_key_source *source,
                                  uint16_t slot, uint8_t rights, const uint8_t *raw, cs_buf *value,
                                  credstore_error *err)
{
    const credstore_key_service *service = &source->service;
    uint8_t head[HEAD_LEN] = {CS_FORMAT, source->method, rights};
    uint8_t blob[CS_KEY_BLOB_MAX];
    size_t len = sizeof blob;
    int32_t result;
    credstore_status status = check_value(sealer, raw, slot, head + 3, err);

    if (status != CREDSTORE_OK)
        return status;
    result = service->wrap(service->ctx, raw, keys_len(rights), blob, &len);
    if (result == CREDSTORE_KEY_OK && (len == 0 || len > sizeof blob))
        result = CREDSTORE_KEY_FAILED;
    if (result != CREDSTORE_KEY_OK)
        return service_failed(err, result);
    cs_buf_add(value, head, sizeof head);
    cs_buf_u16(value, (uint16_t)len);
    cs_buf_add(value, blob, len);
    return CREDSTORE_OK;
}

/* 0: the value is not laid out as a head and a blob. */
static size_t blob_len_of(credstore_bytes value)
{
    const uint8_t *head = value.ptr;
    const size_t len = value.len < HEAD_LEN + 2 ? 0 : cs_get_u16(head + HEAD_LEN);

    return len <= CS_KEY_BLOB_MAX && value.len == HEAD_LEN + 2 + len ? len : 0;
}

static credstore_status unwrap_blob(const cs_sealer *sealer, const credstore_key_source *source,
                                    uint16_t slot, credstore_bytes value, uint8_t *raw, bool *ours,
                                    credstore_error *err)
{
    const credstore_key_service *service = &source->service;
    const uint8_t *head = value.ptr;
    const size_t blob_len = blob_len_of(value);
    uint8_t check[CHECK_LEN];
    size_t len = CS_STORE_KEYS_LEN;
    int32_t result;
    credstore_status status;

    result = service->unwrap(service->ctx, head + HEAD_LEN + 2, blob_len, raw, &len);
    if (result != CREDSTORE_KEY_OK)
        return service_failed(err, result);
    if (len != CS_DATA_KEY_LEN && len != CS_STORE_KEYS_LEN)
        return service_failed(err, CREDSTORE_KEY_FAILED);
    cs_wipe(raw + len, CS_STORE_KEYS_LEN - len); /* it may have written behind its answer */
    status = check_value(sealer, raw, slot, check, err);
    if (status != CREDSTORE_OK)
        return status;
    *ours = len == keys_len(head[2]) && cs_equal_secret(check, head + 3, CHECK_LEN);
    return *ours ? CREDSTORE_OK : damaged(err);
}

/* ---- the methods ---- */

typedef struct method_row {
    uint8_t method;
    credstore_status (*wrap)(const cs_sealer *sealer, const credstore_key_source *source,
                             uint16_t slot, uint8_t rights, const uint8_t *raw, cs_buf *value,
                             credstore_error *err);
    credstore_status (*unwrap)(const cs_sealer *sealer, const credstore_key_source *source,
                               uint16_t slot, credstore_bytes value, uint8_t *raw, bool *ours,
                               credstore_error *err);
} method_row;

static const method_row methods[] = {
    {CS_ROOT_METHOD_RAW, wrap_box, unwrap_box},
    {CS_ROOT_METHOD_PASSPHRASE, wrap_box, unwrap_box},
    {CS_ROOT_METHOD_CALLBACK, wrap_blob, unwrap_blob},
};

static const method_row *find_method(uint8_t method)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].method == method)
            return &methods[i];
    return NULL;
}

credstore_status cs_root_wrap(const cs_sealer *sealer, const credstore_key_source *source,
                              uint16_t slot, uint8_t rights, const uint8_t *raw, cs_buf *value,
                              credstore_error *err)
{
    credstore_status status = cs_key_source_usable(source, err);

    if (status == CREDSTORE_OK)
        status = find_method(source->method)->wrap(sealer, source, slot, rights, raw, value, err);
    if (status == CREDSTORE_OK && value->failed)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    return status;
}

bool cs_root_head(credstore_bytes value, uint8_t *method, uint8_t *rights)
{
    const uint8_t *head = value.ptr;

    if (value.len < HEAD_LEN || head[0] != CS_FORMAT || find_method(head[1]) == NULL)
        return false;
    *method = head[1];
    *rights = head[2];
    return true;
}

bool cs_root_form(credstore_bytes value)
{
    const uint8_t *head = value.ptr;
    uint8_t method, rights;
    size_t head_len;
    credstore_bytes rest;
    cs_box box;

    if (!cs_root_head(value, &method, &rights) || (rights & CS_RIGHT_READ) == 0 ||
        rights > (CS_RIGHT_READ | CS_RIGHT_REVEAL))
        return false;
    if (method == CS_ROOT_METHOD_CALLBACK)
        return blob_len_of(value) > 0;
    head_len = method == CS_ROOT_METHOD_PASSPHRASE ? (size_t)HEAD_MAX : (size_t)HEAD_LEN;
    if (value.len < head_len || (head_len == HEAD_MAX && !cost_bearable(head + HEAD_LEN)))
        return false;
    rest = cs_bytes(head + head_len, value.len - head_len);
    return cs_box_take(&rest, &box) && rest.len == 0 && box.key_id == 0 &&
           box.sealed.len == keys_len(rights);
}

/* A slot of another method is another key's, unless its check value is ours: then it was edited. */
static credstore_status pass_by(const cs_sealer *sealer, const credstore_key_source *source,
                                uint16_t slot, const uint8_t *head, credstore_error *err)
{
    uint8_t check[CHECK_LEN];
    credstore_status status;

    if (source->method != CS_ROOT_METHOD_RAW)
        return CREDSTORE_OK;
    status = check_value(sealer, cs_secret_bytes(source->key), slot, check, err);
    if (status == CREDSTORE_OK && cs_equal_secret(check, head + 3, CHECK_LEN))
        return damaged(err);
    return status;
}

credstore_status cs_root_unwrap(const cs_sealer *sealer, const credstore_key_source *source,
                                uint16_t slot, credstore_bytes value, uint8_t *raw, uint8_t *rights,
                                bool *ours, credstore_error *err)
{
    const uint8_t *head = value.ptr;
    credstore_status status;

    *ours = false;
    if (value.len < HEAD_LEN || head[0] != CS_FORMAT)
        return damaged(err);
    if (head[1] != source->method)
        return pass_by(sealer, source, slot, head, err);
    if (!cs_root_form(value))
        return damaged(err);
    *rights = head[2];
    status = find_method(source->method)->unwrap(sealer, source, slot, value, raw, ours, err);
    if (status != CREDSTORE_OK) {
        cs_wipe(raw, CS_STORE_KEYS_LEN);
        *ours = false;
    }
    return status;
}
