/* SPDX-License-Identifier: MIT
 *
 * Verification, the hot path. Each one looks the record up in a fresh snapshot, so a key that was
 * revoked, narrowed or rolled is refused from the moment that the change returned, in every thread
 * and process. The digest is compared first; what state the record is in is told only to one who
 * holds the token.
 */
#include "verify.h"

#include <string.h>

#include "error.h"
#include "issue.h"
#include "marks.h"
#include "text.h"
#include "token.h"

enum { PRESENTED_MAX = 4096 };

static credstore_status refuse(credstore_error *err)
{
    return cs_fail(err, CREDSTORE_E_UNAUTHENTICATED, "token", "The token is not a valid one");
}

/* Both digests are always compared, present or not. */
static bool matches(const cs_kind *kind, const cs_record *record, const uint8_t digest[32],
                    int64_t now)
{
    static const uint8_t none[32] = {0};
    const cs_token_at *at = &kind->token;
    const cs_value *current = &record->values[cs_field_index(kind, at->digest)];
    const cs_value *previous = &record->values[cs_field_index(kind, at->previous)];
    const cs_value *until = &record->values[cs_field_index(kind, at->previous_until)];
    const bool is_current =
        cs_equal_secret(digest, current->present ? current->bytes.ptr : none, sizeof none);
    const bool is_previous =
        cs_equal_secret(digest, previous->present ? previous->bytes.ptr : none, sizeof none);

    return (is_current && current->present) ||
           (is_previous && previous->present && until->present && now < until->number);
}

static void fill_actor(const cs_kind *kind, const cs_loaded *loaded, credstore_actor *actor)
{
    const cs_record *record = &loaded->record;
    const cs_value *permissions = &record->values[cs_field_index(kind, kind->permissions_field)];
    const uint8_t *bits;
    uint64_t word;

    memset(actor, 0, sizeof *actor);
    actor->struct_size = sizeof *actor;
    actor->type = kind->token.actor_type;
    memcpy(actor->id, record->id.ptr, record->id.len);
    memcpy(actor->tenant, record->owner.ptr,
           record->owner.len < CS_ID_MAX ? record->owner.len : CS_ID_MAX);
    if (kind->expires_field != 0)
        actor->expires_at = record->values[cs_field_index(kind, kind->expires_field)].number;
    if (kind->permissions_field == 0 || !permissions->present)
        return;
    bits = permissions->bytes.ptr;
    for (size_t w = 0; w < CS_PERMISSION_BYTES / 8; w++, bits += 8) {
        word = 0;
        for (size_t i = 8; i-- > 0;)
            word = word << 8 | bits[i];
        actor->permissions[w] = word;
    }
}

/* The token matched: is the record in a state to speak for anyone? */
static credstore_status judge(const cs_kind *kind, const cs_loaded *loaded, int64_t now,
                              credstore_actor *out, credstore_error *err)
{
    if (loaded->removed)
        return cs_fail(err, CREDSTORE_E_REVOKED, "token", "The token was withdrawn");
    if (cs_record_expired(kind, &loaded->record, now))
        return cs_fail(err, CREDSTORE_E_EXPIRED, "token", "The token has expired");
    fill_actor(kind, loaded, out);
    return CREDSTORE_OK;
}

static credstore_status look_once(cs_txn *txn, const cs_kind *kind, const char *ksuid,
                                  const uint8_t digest[32], credstore_actor *out,
                                  credstore_error *err)
{
    char id_room[CS_ID_MAX + 1];
    cs_locator at = {0};
    cs_loaded loaded;
    bool found = false;
    cs_desk *desk;
    credstore_status status = cs_locate_token(txn, kind, ksuid, digest, &at, id_room, &found, err);

    cs_loaded_begin(&loaded);
    desk = cs_desk_lend(txn->store, &loaded.plain);
    if (status == CREDSTORE_OK && found)
        status = cs_load(txn, kind, &at, 0, &loaded, err);
    else if (status == CREDSTORE_OK)
        cs_store_decoy(txn->store);
    if (status != CREDSTORE_OK)
        goto cleanup;
    /* Absent: an empty record, so that the comparison takes place all the same. */
    if (!matches(kind, &loaded.record, digest, txn->now) || !(loaded.found || loaded.removed))
        status = refuse(err);
    else
        status = judge(kind, &loaded, txn->now, out, err);
    if (status == CREDSTORE_OK)
        cs_mark_used(txn->store, &at, txn->now);
cleanup:
    cs_loaded_free(&loaded);
    cs_desk_free(desk);
    return status;
}

/* By the id that the token carries; on a refusal by its digest, since a key that another store
   issued may have been imported here. Every refusal takes both ways, so that they cost the same. */
static credstore_status verify_in(cs_txn *txn, const cs_kind *kind, const char *ksuid,
                                  const uint8_t digest[32], credstore_actor *out,
                                  credstore_error *err)
{
    credstore_error refused = {0};
    credstore_status status;

    if (ksuid == NULL)
        return look_once(txn, kind, NULL, digest, out, err);
    status = look_once(txn, kind, ksuid, digest, out, &refused);
    if (status == CREDSTORE_E_UNAUTHENTICATED)
        return look_once(txn, kind, NULL, digest, out, err);
    if (err != NULL && status != CREDSTORE_OK)
        *err = refused;
    return status;
}

credstore_status cs_verify(credstore *store, const cs_kind *kind, const char *token, size_t len,
                           credstore_actor *out, credstore_error *err)
{
    uint8_t digest[32];
    const char *ksuid;
    cs_txn txn;
    int32_t result;
    credstore_status status;

    cs_error_clear(err);
    status = cs_store_usable(store, err);
    if (status != CREDSTORE_OK)
        return status;
    if (out == NULL || token == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, out == NULL ? "out" : "token",
                       "An argument is NULL");
    if (len == CREDSTORE_NTS)
        len = cs_text_len(token, PRESENTED_MAX);
    if (len == 0 || len > PRESENTED_MAX)
        return refuse(err);
    ksuid = cs_token_id(token, len);
    result = store->sealer.crypto->digest(store->sealer.ctx, cs_bytes(token, len), digest);
    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "The token's digest could not be computed");
    status = cs_txn_read(store, &txn, err);
    if (status == CREDSTORE_OK) {
        status = verify_in(&txn, kind, ksuid, digest, out, err);
        cs_txn_end(&txn);
    }
    cs_wipe(digest, sizeof digest);
    return status;
}
