/* SPDX-License-Identifier: MIT
 *
 * The inspection of what a store stands on: header, root slots, keyring, catalogue.
 */
#include "check.h"

#include <string.h>

#include "epoch.h"
#include "error.h"
#include "ring.h"
#include "root.h"

static const char magic[] = "credstore"; /* stored without its NUL */
enum { MAGIC_LEN = sizeof magic - 1, META_LEN = 1 + MAGIC_LEN + CS_STORE_ID_LEN };

static const char damaged_line[] = "The value is not what was written";
static const char stranger_line[] = "No key that this library writes";

static void note(cs_inspection *in, const cs_subject *s, credstore_status status,
                 const char *message)
{
    cs_flaw_of(in, s, status, cs_topic_key(in, s->key), message);
}

static bool is_key(const cs_subject *s, const cs_key *key)
{
    return cs_bytes_equal(s->key, cs_key_bytes(key));
}

/* ---- header ---- */

static bool is_meta(const cs_inspection *in, credstore_bytes value)
{
    const uint8_t *p = value.ptr;

    return value.len == META_LEN && p[0] == CS_FORMAT && memcmp(p + 1, magic, MAGIC_LEN) == 0 &&
           memcmp(p + 1 + MAGIC_LEN, in->store->sealer.store_id, CS_STORE_ID_LEN) == 0;
}

credstore_status cs_inspect_header(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    credstore_error why = {0};
    cs_sealed_header header;
    cs_key clear, sealed;
    credstore_status status = CREDSTORE_OK;

    cs_key_meta(&clear, false);
    cs_key_meta(&sealed, true);
    if (is_key(s, &sealed))
        status = cs_sealed_header_read(in->txn, &header, &why);
    else if (!is_key(s, &clear))
        status = cs_fail(&why, CREDSTORE_E_INTEGRITY, NULL, stranger_line);
    else if (!is_meta(in, s->value))
        status = cs_fail(&why, CREDSTORE_E_INTEGRITY, NULL, damaged_line);
    if (cs_is_damage(status))
        note(in, s, status, why.message);
    return cs_unless_damage(status, &why, err);
}

/* ---- root slots: by their form, since each opens with its own root key alone ---- */

credstore_status cs_inspect_root(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    (void)err;
    if (s->key.len != 1 + 2)
        note(in, s, CREDSTORE_E_INTEGRITY, stranger_line);
    else if (!cs_root_form(s->value))
        note(in, s, CREDSTORE_E_INTEGRITY, "The root slot is not laid out as one");
    return CREDSTORE_OK;
}

/* ---- keyring ---- */

static credstore_status get_half(cs_inspection *in, uint8_t purpose, credstore_bytes *value,
                                 bool *found, credstore_error *err)
{
    cs_key key;

    cs_key_keyring(&key, purpose);
    return cs_txn_get(in->txn, &key, value, found, err);
}

/* Loads the stored halves, the secret one where that is asked and can be, and lets go of them. */
static credstore_status load_ring(cs_inspection *in, bool secret_half, uint64_t *version,
                                  credstore_error *err)
{
    cs_store_keys keys = in->store->keys;
    credstore_bytes body = {0}, secret = {0};
    bool has_body = false, has_secret = false;
    cs_keyring *ring = NULL;
    credstore_status status = get_half(in, CS_PURPOSE_BODY, &body, &has_body, err);

    keys.can_reveal = keys.can_reveal && secret_half;
    *version = 0;
    if (status == CREDSTORE_OK)
        status = get_half(in, CS_PURPOSE_SECRET, &secret, &has_secret, err);
    if (status != CREDSTORE_OK || !has_body || !has_secret)
        return status; /* what is missing is told as such */
    ring = cs_alloc(1, sizeof *ring);
    if (ring == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_keyring_load(&in->store->sealer, &keys, in->store->arena, body, secret, ring, err);
    *version = ring->version;
    if (status == CREDSTORE_OK)
        cs_keyring_free(&in->store->sealer, ring);
    cs_free(ring);
    return status;
}

static credstore_status check_half(cs_inspection *in, bool secret_half, credstore_error *err)
{
    credstore_error unsaid = {0};
    uint64_t version = 0;
    credstore_status status;

    if (secret_half && load_ring(in, false, &version, &unsaid) != CREDSTORE_OK)
        return cs_unless_damage((credstore_status)unsaid.status, &unsaid, err);
    status = load_ring(in, secret_half, &version, err);
    if (status == CREDSTORE_OK && !secret_half && version != 0 && in->has_head &&
        version != in->head.ring)
        return cs_fail(err, CREDSTORE_E_ROLLBACK, NULL, "The keyring is not the one of the head");
    return status;
}

credstore_status cs_inspect_keyring(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    credstore_error why = {0};
    cs_key body, secret;
    credstore_status status = CREDSTORE_OK;

    cs_key_keyring(&body, CS_PURPOSE_BODY);
    cs_key_keyring(&secret, CS_PURPOSE_SECRET);
    if (is_key(s, &body) || is_key(s, &secret))
        status = check_half(in, is_key(s, &secret), &why);
    else
        status = cs_fail(&why, CREDSTORE_E_INTEGRITY, NULL, stranger_line);
    if (cs_is_damage(status))
        note(in, s, status, why.message);
    return cs_unless_damage(status, &why, err);
}

/* ---- catalogue ---- */

credstore_status cs_inspect_catalogue(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    credstore_error why = {0};
    cs_catalogue none = {0};
    cs_buf plain = {0}, grown = {0};
    size_t added = 0;
    bool ok = false;
    credstore_status status = cs_open_subject(in, s, &plain, &ok, err);

    if (status == CREDSTORE_OK && ok) {
        status = cs_catalogue_number(&none, cs_bytes(plain.ptr, plain.len), &grown, &added, &why);
        if (cs_is_damage(status))
            note(in, s, status, why.message);
        status = cs_unless_damage(status, &why, err);
    }
    cs_buf_free(&plain);
    cs_buf_free(&grown);
    return status;
}

/* How far a rotation is: a hint, which has to open. */
credstore_status cs_inspect_rotation(cs_inspection *in, const cs_subject *s, credstore_error *err)
{
    cs_buf plain = {0};
    bool ok = false;
    const credstore_status status = cs_open_subject(in, s, &plain, &ok, err);

    cs_buf_free(&plain);
    return status;
}

/* ---- what every store has ---- */

static credstore_status need(cs_inspection *in, const char *name, const cs_key *key,
                             credstore_error *err)
{
    bool there = false;
    const credstore_status status = cs_is_there(in, key, &there, err);

    if (status == CREDSTORE_OK && !there)
        cs_flaw_note(in, name, cs_key_bytes(key), CREDSTORE_E_INTEGRITY,
                     cs_topic_key(in, cs_key_bytes(key)), "The value is lost");
    return status;
}

static credstore_status need_slot(cs_inspection *in, credstore_error *err)
{
    bool any = false;
    cs_key from, to = {1, {CS_TABLE_ROOT + 1}};
    credstore_status status;

    cs_key_root(&from, 0);
    status = cs_any_there(in, &from, &to, &any, err);
    if (status == CREDSTORE_OK && !any)
        cs_flaw_note(in, "root slot", cs_key_bytes(&from), CREDSTORE_E_INTEGRITY,
                     cs_topic_key(in, cs_key_bytes(&from)), "No root slot is left");
    return status;
}

credstore_status cs_inspect_presence(cs_inspection *in, credstore_error *err)
{
    cs_key keys[6];
    static const char *const names[] = {"header",  "header",    "keyring",
                                        "keyring", "catalogue", "head"};
    credstore_status status = need_slot(in, err);

    cs_key_meta(&keys[0], false);
    cs_key_meta(&keys[1], true);
    cs_key_keyring(&keys[2], CS_PURPOSE_BODY);
    cs_key_keyring(&keys[3], CS_PURPOSE_SECRET);
    cs_key_catalogue(&keys[4]);
    cs_key_head(&keys[5], 0);
    for (size_t i = 0; i < sizeof keys / sizeof *keys && status == CREDSTORE_OK; i++)
        status = need(in, names[i], &keys[i], err);
    return status;
}
