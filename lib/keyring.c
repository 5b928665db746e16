/* SPDX-License-Identifier: MIT
 *
 * The store's data keys. Two values: one under the body store key with every entry and the material
 * of all but the secret keys, one under the secret store key with the material of the secret keys.
 */
#include "keyring.h"

#include <string.h>

#include "error.h"

/* In the body value: u32 id, purpose, suite, state, material (zero for a secret key). In the secret
   value: u32 id, material. Both start with the u64 version. */
enum {
    ENTRY_LEN = 4 + 3 + CS_DATA_KEY_LEN,
    SECRET_ENTRY_LEN = 4 + CS_DATA_KEY_LEN,
    VERSION_LEN = 8
};

typedef struct purpose_row {
    uint8_t purpose, suite;
} purpose_row;

static const purpose_row purposes[] = {
    {CS_PURPOSE_BODY, CREDSTORE_SUITE_XAES_256_GCM},
    {CS_PURPOSE_SECRET, CREDSTORE_SUITE_XAES_256_GCM},
    {CS_PURPOSE_NAME, CREDSTORE_SUITE_HMAC_SHA256},
    {CS_PURPOSE_CHAIN, CREDSTORE_SUITE_HMAC_SHA256},
};
enum { PURPOSES = sizeof purposes / sizeof *purposes };

credstore_status cs_data_key_load(const cs_sealer *sealer, uint32_t suite, const uint8_t *raw,
                                  cs_data_key *out, credstore_error *err)
{
    const int32_t result =
        sealer->crypto->key_load(sealer->ctx, suite, cs_bytes(raw, CS_DATA_KEY_LEN), &out->handle);

    if (result == CREDSTORE_CRYPTO_OK && out->handle != NULL)
        return CREDSTORE_OK;
    out->handle = NULL;
    if (result == CREDSTORE_CRYPTO_OK)
        return cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "The crypto provider loaded a key as NULL");
    return cs_fail_crypto(err, result, "A key could not be loaded");
}

void cs_data_key_free(const cs_sealer *sealer, cs_data_key *key)
{
    if (key->handle != NULL)
        sealer->crypto->key_free(sealer->ctx, key->handle);
    key->handle = NULL;
}

void cs_keyring_free(const cs_sealer *sealer, cs_keyring *ring)
{
    for (size_t i = 0; i < ring->count; i++)
        cs_data_key_free(sealer, &ring->keys[i]);
    ring->count = 0;
}

static cs_label value_label(uint8_t purpose)
{
    const cs_label label = {.role = CS_ROLE_KEYRING, .field = purpose};

    return label;
}

static credstore_status seal_value(const cs_sealer *sealer, const cs_data_key *key, uint8_t purpose,
                                   credstore_bytes plain, cs_buf *out, credstore_error *err)
{
    const cs_label label = value_label(purpose);
    uint8_t nonce[CS_NONCE_LEN];
    const int32_t result = sealer->crypto->random(sealer->ctx, nonce, sizeof nonce);

    if (result != CREDSTORE_CRYPTO_OK)
        return cs_fail_crypto(err, result, "The random source failed");
    return cs_seal_value(sealer, key, &label, nonce, plain, out, err);
}

/* Opens one of the two values into an arena slot. */
static credstore_status open_value(const cs_sealer *sealer, const cs_data_key *key, uint8_t purpose,
                                   cs_arena *arena, credstore_bytes value, credstore_secret **out,
                                   credstore_error *err)
{
    const cs_label label = value_label(purpose);
    cs_box box;
    credstore_status status = cs_value_box(value, &box, err);

    *out = NULL;
    if (status != CREDSTORE_OK)
        return status;
    if (box.sealed.len < VERSION_LEN || box.sealed.len > CS_SECRET_MAX || box.key_id != 0)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring has an impossible length");
    *out = cs_secret_new(arena, box.sealed.len);
    if (*out == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    status = cs_unseal(sealer, key, &label, &box, cs_secret_bytes(*out), err);
    if (status == CREDSTORE_OK)
        return status;
    credstore_secret_free(*out);
    *out = NULL;
    return status;
}

static const uint8_t *secret_material(credstore_secret *secret, uint32_t id)
{
    const uint8_t *p = cs_secret_bytes(secret) + VERSION_LEN;
    const size_t count = (credstore_secret_len(secret) - VERSION_LEN) / SECRET_ENTRY_LEN;

    for (size_t i = 0; i < count; i++, p += SECRET_ENTRY_LEN)
        if (cs_get_u32(p) == id)
            return p + 4;
    return NULL;
}

static credstore_status load_entries(const cs_sealer *sealer, credstore_secret *body,
                                     credstore_secret *secret, cs_keyring *ring,
                                     credstore_error *err)
{
    const size_t len = credstore_secret_len(body) - VERSION_LEN;
    const uint8_t *p = cs_secret_bytes(body);

    if (len % ENTRY_LEN != 0 || len / ENTRY_LEN > CS_KEYRING_MAX)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring has an impossible length");
    ring->version = cs_get_u64(p);
    if (secret != NULL && cs_get_u64(cs_secret_bytes(secret)) != ring->version)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring's halves differ in version");
    p += VERSION_LEN;
    for (size_t left = len; left > 0; left -= ENTRY_LEN, p += ENTRY_LEN) {
        cs_data_key *key = &ring->keys[ring->count];
        const uint8_t *material = p + 7;
        credstore_status status;

        key->id = cs_get_u32(p);
        key->purpose = p[4];
        key->suite = p[5];
        key->state = p[6];
        key->handle = NULL;
        ring->count++;
        if (key->purpose == CS_PURPOSE_SECRET)
            material = secret == NULL ? NULL : secret_material(secret, key->id);
        if (key->state == CS_STATE_RETIRED || material == NULL)
            continue;
        status = cs_data_key_load(sealer, key->suite, material, key, err);
        if (status != CREDSTORE_OK)
            return status;
    }
    for (size_t i = 0; i < PURPOSES; i++)
        if (cs_keyring_active(ring, purposes[i].purpose) == NULL)
            return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring lacks an active key");
    return CREDSTORE_OK;
}

credstore_status cs_keyring_load(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                 cs_arena *arena, credstore_bytes body_value,
                                 credstore_bytes secret_value, cs_keyring *ring,
                                 credstore_error *err)
{
    credstore_secret *body = NULL, *secret = NULL;
    credstore_status status;

    memset(ring, 0, sizeof *ring);
    status = open_value(sealer, &store_keys->body, CS_PURPOSE_BODY, arena, body_value, &body, err);
    if (status == CREDSTORE_OK && store_keys->can_reveal)
        status = open_value(sealer, &store_keys->secret, CS_PURPOSE_SECRET, arena, secret_value,
                            &secret, err);
    if (status == CREDSTORE_OK)
        status = load_entries(sealer, body, secret, ring, err);
    if (status != CREDSTORE_OK)
        cs_keyring_free(sealer, ring);
    credstore_secret_free(body);
    credstore_secret_free(secret);
    return status;
}

const cs_data_key *cs_keyring_active(const cs_keyring *ring, uint8_t purpose)
{
    for (size_t i = 0; i < ring->count; i++)
        if (ring->keys[i].purpose == purpose && ring->keys[i].state == CS_STATE_ACTIVE)
            return &ring->keys[i];
    return NULL;
}

bool cs_keyring_retires(const cs_keyring *ring, uint8_t purpose, uint32_t id)
{
    for (size_t i = 0; i < ring->count; i++)
        if (ring->keys[i].purpose == purpose && ring->keys[i].id == id)
            return ring->keys[i].state == CS_STATE_RETIRING;
    return false;
}

bool cs_keyring_rotates(const cs_keyring *ring)
{
    for (size_t i = 0; i < ring->count; i++)
        if (ring->keys[i].state == CS_STATE_RETIRING)
            return true;
    return false;
}

bool cs_keyring_lists(const cs_keyring *ring, uint8_t purpose, uint32_t id)
{
    for (size_t i = 0; i < ring->count; i++)
        if (ring->keys[i].purpose == purpose && ring->keys[i].id == id)
            return true;
    return false;
}

credstore_status cs_keyring_find(const cs_keyring *ring, uint8_t purpose, uint32_t id,
                                 const cs_data_key **out, credstore_error *err)
{
    for (size_t i = 0; i < ring->count; i++) {
        if (ring->keys[i].purpose != purpose || ring->keys[i].id != id)
            continue;
        *out = &ring->keys[i];
        if (ring->keys[i].handle != NULL)
            return CREDSTORE_OK;
        if (ring->keys[i].state == CS_STATE_RETIRED)
            return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL,
                           "A stored value names a key that is retired");
        return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, NULL,
                       "The root key given at open does not open this part");
    }
    return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL,
                   "A stored value names a key that is not there");
}

credstore_status cs_keyring_unseal(const cs_sealer *sealer, const cs_keyring *ring, uint8_t purpose,
                                   const cs_label *label, const cs_box *box, uint8_t *out,
                                   credstore_error *err)
{
    const cs_data_key *key = NULL;
    const credstore_status status = cs_keyring_find(ring, purpose, box->key_id, &key, err);

    return status == CREDSTORE_OK ? cs_unseal(sealer, key, label, box, out, err) : status;
}

/* ---- the first version, and the next ---- */

void cs_ring_values_free(cs_ring_values *values)
{
    cs_buf_free(&values->body);
    cs_buf_free(&values->secret);
    values->version = 0;
}

/* The plain halves of a keyring that is being written. */
typedef struct draft {
    credstore_secret *body, *secret;
    size_t body_len, secret_len;
    uint32_t top; /* the highest id so far */
} draft;

enum { DRAFT_LEN = VERSION_LEN + CS_KEYRING_MAX * ENTRY_LEN };

static credstore_status begin_draft(draft *d, cs_arena *arena, uint64_t version,
                                    credstore_error *err)
{
    memset(d, 0, sizeof *d);
    d->body = cs_secret_new(arena, DRAFT_LEN);
    d->secret = cs_secret_new(arena, DRAFT_LEN);
    if (d->body == NULL || d->secret == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    cs_put_u64(cs_secret_bytes(d->body), version);
    cs_put_u64(cs_secret_bytes(d->secret), version);
    d->body_len = d->secret_len = VERSION_LEN;
    return CREDSTORE_OK;
}

/* Adds an entry and answers where its material goes; NULL: the table is full. */
static uint8_t *draft_entry(draft *d, uint32_t id, uint8_t purpose, uint8_t suite, uint8_t state)
{
    uint8_t *p = cs_secret_bytes(d->body) + d->body_len;
    uint8_t *q = cs_secret_bytes(d->secret) + d->secret_len;

    if (d->body_len == DRAFT_LEN)
        return NULL;
    cs_put_u32(p, id);
    p[4] = purpose;
    p[5] = suite;
    p[6] = state;
    d->body_len += ENTRY_LEN;
    d->top = id > d->top ? id : d->top;
    if (purpose != CS_PURPOSE_SECRET || state == CS_STATE_RETIRED)
        return p + 7;
    cs_put_u32(q, id);
    d->secret_len += SECRET_ENTRY_LEN;
    return q + 4;
}

static credstore_status seal_draft(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                   const draft *d, cs_ring_values *next, credstore_error *err)
{
    credstore_status status =
        seal_value(sealer, &store_keys->body, CS_PURPOSE_BODY,
                   cs_bytes(cs_secret_bytes(d->body), d->body_len), &next->body, err);

    if (status == CREDSTORE_OK)
        status =
            seal_value(sealer, &store_keys->secret, CS_PURPOSE_SECRET,
                       cs_bytes(cs_secret_bytes(d->secret), d->secret_len), &next->secret, err);
    next->version = cs_get_u64(cs_secret_bytes(d->body));
    return status;
}

/* What the next version is to be. */
typedef struct next_ring {
    uint32_t purposes; /* that get a new key */
    bool retire;
    size_t drop; /* so many retired entries are left out, the oldest first */
} next_ring;

static uint8_t next_state(const next_ring *wish, uint8_t purpose, uint8_t state)
{
    if (wish->retire && state == CS_STATE_RETIRING)
        return CS_STATE_RETIRED;
    if (state == CS_STATE_ACTIVE && (wish->purposes >> purpose & 1) != 0)
        return CS_STATE_RETIRING;
    return state;
}

/* Carries the entries over. Those that stay keep their order, which is that of their ids. */
static credstore_status carry_over(draft *d, const next_ring *wish, credstore_secret *body,
                                   credstore_secret *secret, credstore_error *err)
{
    const uint8_t *p = cs_secret_bytes(body) + VERSION_LEN;
    size_t left = (credstore_secret_len(body) - VERSION_LEN) / ENTRY_LEN;
    size_t drop = wish->drop;

    for (; left > 0; left--, p += ENTRY_LEN) {
        const uint32_t id = cs_get_u32(p);
        const uint8_t state = next_state(wish, p[4], p[6]);
        const uint8_t *material = p[4] == CS_PURPOSE_SECRET ? secret_material(secret, id) : p + 7;
        uint8_t *to;

        if (p[6] == CS_STATE_RETIRED && drop > 0) {
            drop--;
            continue;
        }
        to = draft_entry(d, id, p[4], p[5], state);
        if (state == CS_STATE_RETIRED)
            continue;
        if (to == NULL || material == NULL)
            return cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring lacks a key");
        memcpy(to, material, CS_DATA_KEY_LEN);
    }
    return CREDSTORE_OK;
}

static credstore_status add_new_keys(const cs_sealer *sealer, draft *d, uint32_t wanted,
                                     credstore_error *err)
{
    for (size_t i = 0; i < PURPOSES; i++) {
        uint8_t *material;
        int32_t result;

        if ((wanted >> purposes[i].purpose & 1) == 0)
            continue;
        material =
            draft_entry(d, d->top + 1, purposes[i].purpose, purposes[i].suite, CS_STATE_ACTIVE);
        if (material == NULL)
            return cs_fail(err, CREDSTORE_E_CONFLICT, NULL,
                           "The keyring is full of keys that are not retired: reseal first");
        result = sealer->crypto->random(sealer->ctx, material, CS_DATA_KEY_LEN);
        if (result != CREDSTORE_CRYPTO_OK)
            return cs_fail_crypto(err, result, "The random source failed");
    }
    return CREDSTORE_OK;
}

/* What was sealed is opened again: a store is not founded on keys that nobody can load. */
credstore_status cs_keyring_create(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                   cs_arena *arena, cs_keyring *ring, cs_ring_values *values,
                                   credstore_error *err)
{
    draft d;
    credstore_status status = begin_draft(&d, arena, 1, err);

    memset(ring, 0, sizeof *ring);
    if (status == CREDSTORE_OK)
        status = add_new_keys(sealer, &d, UINT32_MAX, err);
    if (status == CREDSTORE_OK)
        status = seal_draft(sealer, store_keys, &d, values, err);
    credstore_secret_free(d.body);
    credstore_secret_free(d.secret);
    if (status != CREDSTORE_OK)
        return status;
    return cs_keyring_load(sealer, store_keys, arena, cs_bytes(values->body.ptr, values->body.len),
                           cs_bytes(values->secret.ptr, values->secret.len), ring, err);
}

/* How many entries are too many once the new ones are there. */
static size_t overflow(credstore_secret *body, uint32_t wanted)
{
    size_t count = (credstore_secret_len(body) - VERSION_LEN) / ENTRY_LEN;

    for (size_t i = 0; i < PURPOSES; i++)
        count += wanted >> purposes[i].purpose & 1;
    return count > CS_KEYRING_MAX ? count - CS_KEYRING_MAX : 0;
}

static credstore_status make_next(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                  cs_arena *arena, const cs_ring_values *now, next_ring *wish,
                                  cs_ring_values *next, credstore_error *err)
{
    credstore_secret *body = NULL, *secret = NULL;
    draft d = {0};
    credstore_status status = open_value(sealer, &store_keys->body, CS_PURPOSE_BODY, arena,
                                         cs_bytes(now->body.ptr, now->body.len), &body, err);

    if (status == CREDSTORE_OK)
        status = open_value(sealer, &store_keys->secret, CS_PURPOSE_SECRET, arena,
                            cs_bytes(now->secret.ptr, now->secret.len), &secret, err);
    if (status == CREDSTORE_OK &&
        ((credstore_secret_len(body) - VERSION_LEN) % ENTRY_LEN != 0 ||
         cs_get_u64(cs_secret_bytes(body)) != cs_get_u64(cs_secret_bytes(secret))))
        status = cs_fail(err, CREDSTORE_E_INTEGRITY, NULL, "The keyring's halves differ");
    if (status == CREDSTORE_OK)
        status = begin_draft(&d, arena, cs_get_u64(cs_secret_bytes(body)) + 1, err);
    if (status == CREDSTORE_OK) {
        wish->drop = overflow(body, wish->purposes);
        status = carry_over(&d, wish, body, secret, err);
    }
    if (status == CREDSTORE_OK)
        status = add_new_keys(sealer, &d, wish->purposes, err);
    if (status == CREDSTORE_OK)
        status = seal_draft(sealer, store_keys, &d, next, err);
    credstore_secret_free(d.body);
    credstore_secret_free(d.secret);
    credstore_secret_free(body);
    credstore_secret_free(secret);
    return status;
}

credstore_status cs_keyring_promote(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                    cs_arena *arena, const cs_ring_values *now, uint32_t wanted,
                                    cs_ring_values *next, credstore_error *err)
{
    next_ring wish = {.purposes = wanted};

    return make_next(sealer, store_keys, arena, now, &wish, next, err);
}

credstore_status cs_keyring_retire(const cs_sealer *sealer, const cs_store_keys *store_keys,
                                   cs_arena *arena, const cs_ring_values *now, cs_ring_values *next,
                                   credstore_error *err)
{
    next_ring wish = {.retire = true};

    return make_next(sealer, store_keys, arena, now, &wish, next, err);
}
