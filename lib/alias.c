/* SPDX-License-Identifier: MIT
 *
 * Organizations by id or label. An entry's key is a keyed MAC of the name; its plain text is the
 * id, then a NUL, then, in an id's own entry, its label.
 */
#include "alias.h"

#include <string.h>

#include "error.h"
#include "ring.h"
#include "sealed.h"

credstore_status cs_alias_key(const credstore *store, const char *name, cs_key *key,
                              uint8_t mac[32], credstore_error *err)
{
    const credstore_bytes part = cs_bytes_of(name);
    const credstore_status status =
        cs_name_mac(&store->sealer, cs_store_name_key(store), CS_NAME_ALIAS, &part, 1, mac, err);

    cs_key_alias(key, mac);
    return status;
}

static cs_label label_of(const uint8_t *mac)
{
    const cs_label label = {.role = CS_ROLE_ALIAS, .at = {.id = {mac, CS_SCOPE_LEN}}};

    return label;
}

static bool take_text(const cs_buf *plain, size_t from, char out[CS_ID_MAX + 1])
{
    const size_t len = plain->len - from;

    if (len > CS_ID_MAX)
        return false;
    if (len > 0)
        memcpy(out, plain->ptr + from, len);
    out[len] = '\0';
    return strlen(out) == len;
}

credstore_status cs_alias_find(cs_txn *txn, const char *name, cs_alias *out, credstore_error *err)
{
    uint8_t mac[32];
    cs_buf plain = {0};
    const uint8_t *end;
    cs_label label;
    cs_key key;
    credstore_status status = cs_alias_key(txn->store, name, &key, mac, err);

    memset(out, 0, sizeof *out);
    label = label_of(mac);
    if (status == CREDSTORE_OK)
        status = cs_txn_get_sealed(txn, &key, &label, &plain, &out->found, err);
    if (status != CREDSTORE_OK || !out->found)
        goto cleanup;
    end = plain.len == 0 ? NULL : memchr(plain.ptr, '\0', plain.len);
    if (end == NULL || !take_text(&plain, (size_t)(end - plain.ptr) + 1, out->label) ||
        end - plain.ptr > CS_ID_MAX)
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "An organization's entry is damaged");
    else
        memcpy(out->id, plain.ptr, (size_t)(end - plain.ptr) + 1);
cleanup:
    cs_buf_free(&plain);
    return status;
}

static credstore_status put(cs_txn *txn, const char *name, const char *id, const char *label_text,
                            credstore_error *err)
{
    uint8_t mac[32];
    cs_buf plain = {0};
    cs_label label;
    cs_key key;
    credstore_status status = cs_alias_key(txn->store, name, &key, mac, err);

    label = label_of(mac);
    cs_buf_add(&plain, id, strlen(id) + 1);
    cs_buf_add(&plain, label_text, strlen(label_text));
    if (status == CREDSTORE_OK && plain.failed)
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    if (status == CREDSTORE_OK)
        status = cs_txn_put_sealed(txn, &key, &label, cs_bytes(plain.ptr, plain.len), err);
    cs_buf_free(&plain);
    return status;
}

static credstore_status drop(cs_txn *txn, const char *name, credstore_error *err)
{
    uint8_t mac[32];
    cs_key key;
    const credstore_status status = cs_alias_key(txn->store, name, &key, mac, err);

    return status == CREDSTORE_OK ? cs_txn_del(txn, &key, err) : status;
}

credstore_status cs_alias_check(cs_txn *txn, const char *id, bool *enter, credstore_error *err)
{
    cs_alias own;
    const credstore_status status = cs_alias_find(txn, id, &own, err);

    if (status == CREDSTORE_OK && own.found && strcmp(own.id, id) != 0)
        return cs_fail(err, CREDSTORE_E_EXISTS, "organization_id",
                       "The id is another organization's label");
    *enter = !own.found;
    return status;
}

credstore_status cs_alias_enter(cs_txn *txn, const char *id, credstore_error *err)
{
    return put(txn, id, id, "", err);
}

credstore_status cs_alias_set(cs_txn *txn, const char *id, const char *label, bool *changed,
                              credstore_error *err)
{
    cs_alias own, taken = {0};
    credstore_status status = cs_alias_find(txn, id, &own, err);

    if (status == CREDSTORE_OK && own.found && strcmp(own.id, id) != 0)
        return cs_fail(err, CREDSTORE_E_EXISTS, "organization_id",
                       "The id is another organization's label");
    if (status == CREDSTORE_OK && label != NULL)
        status = cs_alias_find(txn, label, &taken, err);
    if (status != CREDSTORE_OK)
        return status;
    *changed = strcmp(own.label, label == NULL ? "" : label) != 0;
    if (!*changed)
        return status;
    if (taken.found || (label != NULL && strcmp(label, id) == 0))
        return cs_fail(err, CREDSTORE_E_EXISTS, "label", "The name is taken");
    if (own.label[0] != '\0')
        status = drop(txn, own.label, err);
    if (status == CREDSTORE_OK && label != NULL)
        status = put(txn, label, id, "", err);
    return status == CREDSTORE_OK ? put(txn, id, id, label == NULL ? "" : label, err) : status;
}
