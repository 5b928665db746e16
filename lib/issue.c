/* SPDX-License-Identifier: MIT
 *
 * Issuing tokens. The record keeps SHA-256 digests, never a token.
 */
#include "issue.h"

#include <string.h>

#include "error.h"
#include "ring.h"
#include "sealed.h"
#include "text.h"
#include "token.h"

enum { REFERENCE_HEAD = 1 + CS_SCOPE_LEN };

credstore_status cs_wish_check(const cs_token_wish *wish, credstore_error *err)
{
    if (wish->out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "key", "An argument is NULL");
    if (wish->grace_s > CS_GRACE_MAX_S)
        return cs_fail(err, CREDSTORE_E_INVALID, "grace_s", "The grace is longer than ten years");
    if (wish->prefix != NULL &&
        !cs_token_prefix_valid(wish->prefix, cs_text_len(wish->prefix, CS_TOKEN_PREFIX_MAX)))
        return cs_fail(err, CREDSTORE_E_INVALID, "prefix",
                       "A prefix is 1..32 of [a-z0-9_] without _ at either end");
    return CREDSTORE_OK;
}

/* The KSUID that the token will carry. */
static credstore_status token_id(cs_txn *txn, cs_settle *settle, cs_making *making,
                                 credstore_error *err)
{
    const cs_token_at *at = &settle->kind->token;
    credstore_bytes id = settle->fresh.id;
    const uint8_t *random;

    if (at->id != 0)
        id = cs_settle_value(settle, at->id)->bytes;
    if (at->id != 0 && id.len == 0) {
        random = cs_txn_random(txn, CS_KSUID_RANDOM);
        if (random == NULL)
            return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more than it drew");
        cs_ksuid_make(txn->now, random, making->id);
        cs_settle_text(settle, at->id, cs_bytes(making->id, CS_KSUID_LEN));
        return CREDSTORE_OK;
    }
    if (!cs_ksuid_valid(id.ptr, id.len))
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, settle->kind->id_name,
                       "A token carries its record's id, and this id is not a KSUID");
    memcpy(making->id, id.ptr, CS_KSUID_LEN);
    making->id[CS_KSUID_LEN] = '\0';
    return CREDSTORE_OK;
}

/* The digest that was good until now stays so for the grace, but never past the record's own end.
 */
static void settle_previous(cs_settle *settle, const cs_token_wish *wish)
{
    const cs_token_at *at = &settle->kind->token;
    const cs_value *old = cs_settle_value(settle, at->digest);
    const int64_t until = settle->now + INT64_C(1000) * wish->grace_s;
    int64_t end = 0;

    if (!old->present || wish->grace_s == 0) {
        cs_settle_clear(settle, at->previous);
        cs_settle_clear(settle, at->previous_until);
        return;
    }
    if (settle->kind->expires_field != 0)
        end = cs_settle_value(settle, settle->kind->expires_field)->number;
    cs_settle_text(settle, at->previous, old->bytes);
    cs_settle_number(settle, at->previous_until, true, end != 0 && end < until ? end : until);
}

static credstore_status draw(cs_txn *txn, const char *prefix, const cs_making *making,
                             credstore_secret **out, credstore_error *err)
{
    const uint8_t *random = cs_txn_random(txn, CS_TOKEN_RANDOM);
    credstore_secret *token;

    if (random == NULL)
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "A change needs more than it drew");
    token = cs_secret_new(txn->store->arena, strlen(prefix) + 1 + CS_TOKEN_TAIL);
    if (token == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_token_make(prefix, making->id, random, (char *)cs_secret_bytes(token));
    credstore_secret_free(*out); /* of an attempt before */
    *out = token;
    return CREDSTORE_OK;
}

credstore_status cs_make_token(cs_txn *txn, cs_settle *settle, const cs_token_wish *wish,
                               cs_making *making, credstore_error *err)
{
    const cs_token_at *at = &settle->kind->token;
    const cs_sealer *sealer = &txn->store->sealer;
    const cs_value *kept = cs_settle_value(settle, at->prefix);
    char prefix[CS_TOKEN_PREFIX_MAX + 1] = "";
    credstore_bytes token;
    int32_t result;
    credstore_status status = token_id(txn, settle, making, err);

    if (status != CREDSTORE_OK)
        return status;
    if (wish->prefix == NULL && kept->present && kept->bytes.len <= CS_TOKEN_PREFIX_MAX)
        memcpy(prefix, kept->bytes.ptr, kept->bytes.len);
    status = draw(txn,
                  wish->prefix != NULL ? wish->prefix
                  : prefix[0] != '\0'  ? prefix
                                       : at->fallback_prefix,
                  making, wish->out, err);
    if (status != CREDSTORE_OK)
        return status;
    token = cs_bytes(credstore_secret_ptr(*wish->out), credstore_secret_len(*wish->out));
    result = sealer->crypto->digest(sealer->ctx, token, making->digest);
    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "A token's digest could not be computed");
    memcpy(making->last_four, (const char *)token.ptr + token.len - 4, sizeof making->last_four);
    settle_previous(settle, wish);
    cs_settle_text(settle, at->digest, cs_bytes(making->digest, sizeof making->digest));
    cs_settle_text(settle, at->last_four, cs_bytes(making->last_four, 4));
    if (wish->prefix != NULL || !kept->present)
        cs_settle_text(settle, at->prefix,
                       cs_bytes_of(wish->prefix == NULL ? at->fallback_prefix : wish->prefix));
    return status;
}

/* ---- index entries: a sealed reference to the record ---- */

static cs_label reference_label(uint8_t role, const void *name, size_t len)
{
    const cs_label label = {.role = role, .at = {.id = {name, len}}};

    return label;
}

credstore_status cs_digest_key(const credstore *store, const uint8_t digest[32], cs_key *key,
                               uint8_t mac[32], credstore_error *err)
{
    const credstore_bytes part = cs_bytes(digest, 32);
    const credstore_status status =
        cs_name_mac(&store->sealer, cs_store_name_key(store), CS_NAME_DIGEST, &part, 1, mac, err);

    cs_key_digest(key, mac);
    return status;
}

size_t cs_reference_write(const cs_locator *at, uint8_t out[CS_REFERENCE_MAX])
{
    out[0] = at->kind;
    memcpy(out + 1, at->scope, CS_SCOPE_LEN);
    memcpy(out + REFERENCE_HEAD, at->id.ptr, at->id.len);
    return REFERENCE_HEAD + at->id.len;
}

bool cs_reference_read(credstore_bytes plain, cs_locator *at)
{
    const uint8_t *p = plain.ptr;

    if (plain.len <= REFERENCE_HEAD || plain.len > CS_REFERENCE_MAX)
        return false;
    at->kind = p[0];
    memcpy(at->scope, p + 1, CS_SCOPE_LEN);
    at->id = cs_bytes(p + REFERENCE_HEAD, plain.len - REFERENCE_HEAD);
    return true;
}

static credstore_status put_reference(cs_txn *txn, const cs_key *key, const cs_label *label,
                                      const cs_locator *at, credstore_error *err)
{
    uint8_t plain[CS_REFERENCE_MAX];
    const size_t len = cs_reference_write(at, plain);

    return cs_txn_put_sealed(txn, key, label, cs_bytes(plain, len), err);
}

credstore_status cs_check_import(cs_txn *txn, const cs_settle *settle, credstore_error *err)
{
    const cs_token_at *t = &settle->kind->token;
    const cs_value *digest;
    uint8_t mac[32];
    credstore_bytes value;
    bool found = false;
    cs_key key;
    credstore_status status;

    if (t->digest == 0)
        return CREDSTORE_OK;
    digest = cs_settle_value(settle, t->digest);
    if (!digest->present)
        return CREDSTORE_OK;
    status = cs_digest_key(txn->store, digest->bytes.ptr, &key, mac, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_get(txn, &key, &value, &found, err);
    if (status == CREDSTORE_OK && found)
        return cs_fail(err, CREDSTORE_E_EXISTS, "token_sha256", "The token is another record's");
    return status;
}

static credstore_status put_import(cs_txn *txn, const cs_locator *at, const uint8_t *digest,
                                   credstore_error *err)
{
    uint8_t mac[32];
    cs_label label;
    cs_key key;
    const credstore_status status = cs_digest_key(txn->store, digest, &key, mac, err);

    if (status != CREDSTORE_OK)
        return status;
    label = reference_label(CS_ROLE_DIGEST, mac, CS_SCOPE_LEN);
    return put_reference(txn, &key, &label, at, err);
}

credstore_status cs_put_token_index(cs_txn *txn, const cs_locator *at, const cs_settle *settle,
                                    bool issued, credstore_error *err)
{
    const cs_token_at *t = &settle->kind->token;
    const cs_value *id, *digest;
    cs_label label;
    cs_key key;

    if (t->digest == 0)
        return CREDSTORE_OK;
    digest = cs_settle_value(settle, t->digest);
    if (!issued)
        return digest->present ? put_import(txn, at, digest->bytes.ptr, err) : CREDSTORE_OK;
    if (t->id == 0)
        return CREDSTORE_OK;
    id = cs_settle_value(settle, t->id);
    label = reference_label(CS_ROLE_TOKEN, id->bytes.ptr, id->bytes.len);
    cs_key_token(&key, id->bytes.ptr);
    return put_reference(txn, &key, &label, at, err);
}

static credstore_status find_by_token(cs_txn *txn, const cs_kind *kind, const char *ksuid,
                                      const uint8_t digest[32], cs_locator *at,
                                      char id_room[CS_ID_MAX + 1], bool *found,
                                      credstore_error *err)
{
    const credstore *store = txn->store;
    uint8_t mac[32], plain[REFERENCE_HEAD + CS_ID_MAX];
    credstore_bytes value;
    cs_label label;
    cs_box box;
    cs_key key;
    credstore_status status = CREDSTORE_OK;

    if (ksuid != NULL) {
        cs_key_token(&key, ksuid);
        label = reference_label(CS_ROLE_TOKEN, ksuid, CS_KSUID_LEN);
    } else {
        status = cs_digest_key(store, digest, &key, mac, err);
        label = reference_label(CS_ROLE_DIGEST, mac, CS_SCOPE_LEN);
    }
    if (status == CREDSTORE_OK)
        status = cs_txn_get(txn, &key, &value, found, err);
    if (status == CREDSTORE_OK && !*found)
        cs_store_decoy(store); /* unknown costs what known does */
    if (status == CREDSTORE_OK && *found)
        status = cs_value_box(value, &box, err);
    if (status != CREDSTORE_OK || !*found)
        return status;
    if (box.sealed.len < REFERENCE_HEAD + 1 || box.sealed.len > sizeof plain)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "An index entry has an impossible length");
    status = cs_txn_unseal(txn, CS_PURPOSE_BODY, &label, &box, plain, err);
    if (status != CREDSTORE_OK)
        return status;
    *found = plain[0] == kind->id;
    at->kind = plain[0];
    memcpy(at->scope, plain + 1, CS_SCOPE_LEN);
    memcpy(id_room, plain + REFERENCE_HEAD, box.sealed.len - REFERENCE_HEAD);
    id_room[box.sealed.len - REFERENCE_HEAD] = '\0';
    at->id = cs_bytes_of(id_room);
    return status;
}

credstore_status cs_locate_token(cs_txn *txn, const cs_kind *kind, const char *ksuid,
                                 const uint8_t digest[32], cs_locator *at,
                                 char id_room[CS_ID_MAX + 1], bool *found, credstore_error *err)
{
    if (ksuid == NULL || kind->token.id != 0)
        return find_by_token(txn, kind, ksuid, digest, at, id_room, found, err);
    at->kind = kind->id;
    at->id = cs_bytes(ksuid, CS_KSUID_LEN);
    *found = true;
    return CREDSTORE_OK;
}
