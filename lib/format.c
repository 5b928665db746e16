/* SPDX-License-Identifier: MIT
 *
 * Storage keys, as credstore-format(5) lays them out.
 */
#include "format.h"

#include <string.h>

#include "id.h"
#include "mem.h"

/* Behind a record's id: ids hold no NUL, so this keeps a record and its history together and apart
   from every longer id. */
enum { UNDER_CURRENT = 0, UNDER_HISTORY = 1 };
enum { LANE_AUDIT = 0, LANE_HEAD = 1, LANE_ANCHOR = 2, LANE_CLOCK = 3 };

static void start(cs_key *key, uint8_t table)
{
    key->len = 1;
    key->ptr[0] = table;
}

static void add(cs_key *key, const void *ptr, size_t len)
{
    if (len > CS_KEY_MAX - key->len)
        len = CS_KEY_MAX - key->len; /* cannot be: ids are checked to be at most 255 bytes */
    if (len > 0)
        memcpy(key->ptr + key->len, ptr, len);
    key->len += len;
}

static void add_u8(cs_key *key, uint8_t v)
{
    add(key, &v, 1);
}

static void add_u16(cs_key *key, uint16_t v)
{
    uint8_t raw[2];

    cs_put_u16(raw, v);
    add(key, raw, sizeof raw);
}

static void add_u64(cs_key *key, uint64_t v)
{
    uint8_t raw[8];

    cs_put_u64(raw, v);
    add(key, raw, sizeof raw);
}

static void add_id(cs_key *key, credstore_bytes id)
{
    add(key, id.ptr, id.len);
    add_u8(key, 0);
}

static void add_locator(cs_key *key, uint8_t table, const cs_locator *at)
{
    cs_key_list(key, table, at->kind, at->scope);
    add_id(key, at->id);
}

void cs_key_meta(cs_key *key, bool sealed)
{
    start(key, CS_TABLE_META);
    add_u8(key, sealed ? 1 : 0);
}

void cs_key_root(cs_key *key, uint16_t slot)
{
    start(key, CS_TABLE_ROOT);
    add_u16(key, slot);
}

void cs_key_keyring(cs_key *key, uint8_t purpose)
{
    start(key, CS_TABLE_KEYRING);
    add_u8(key, purpose);
}

void cs_key_catalogue(cs_key *key)
{
    start(key, CS_TABLE_CATALOGUE);
}

void cs_key_rotation(cs_key *key)
{
    start(key, CS_TABLE_ROTATION);
}

void cs_key_record(cs_key *key, const cs_locator *at)
{
    add_locator(key, CS_TABLE_RECORD, at);
    add_u8(key, UNDER_CURRENT);
}

void cs_key_history(cs_key *key, const cs_locator *at, uint64_t revision)
{
    add_locator(key, CS_TABLE_RECORD, at);
    add_u8(key, UNDER_HISTORY);
    add_u64(key, revision);
}

void cs_key_audit(cs_key *key, uint16_t lane, uint64_t seq)
{
    start(key, CS_TABLE_LANE);
    add_u16(key, lane);
    add_u8(key, LANE_AUDIT);
    add_u64(key, seq);
}

void cs_key_head(cs_key *key, uint16_t lane)
{
    start(key, CS_TABLE_LANE);
    add_u16(key, lane);
    add_u8(key, LANE_HEAD);
}

void cs_key_list(cs_key *key, uint8_t table, uint8_t kind, const uint8_t *scope)
{
    start(key, table);
    add_u8(key, kind);
    add(key, scope, CS_SCOPE_LEN);
}

void cs_key_owner(cs_key *key, const uint8_t *owner_mac, const cs_locator *at)
{
    cs_key_list(key, CS_TABLE_OWNER, at->kind, owner_mac);
    add_id(key, at->id);
}

void cs_key_anchor(cs_key *key, uint16_t lane)
{
    start(key, CS_TABLE_LANE);
    add_u16(key, lane);
    add_u8(key, LANE_ANCHOR);
}

void cs_key_clock(cs_key *key, uint16_t lane)
{
    start(key, CS_TABLE_LANE);
    add_u16(key, lane);
    add_u8(key, LANE_CLOCK);
}

void cs_key_usage(cs_key *key, const cs_locator *at)
{
    add_locator(key, CS_TABLE_USAGE, at);
}

void cs_key_receipt(cs_key *key, uint32_t day, const uint8_t *mac)
{
    uint8_t raw[4];

    start(key, CS_TABLE_RECEIPT);
    cs_put_u32(raw, day);
    add(key, raw, sizeof raw);
    if (mac != NULL)
        add(key, mac, CS_SCOPE_LEN);
}

void cs_key_purge(cs_key *key, uint32_t day, const cs_locator *at)
{
    uint8_t raw[4];

    start(key, CS_TABLE_PURGE);
    cs_put_u32(raw, day);
    add(key, raw, sizeof raw);
    if (at == NULL)
        return;
    add_u8(key, at->kind);
    add(key, at->scope, CS_SCOPE_LEN);
    add_id(key, at->id);
}

void cs_key_end(cs_key *key, int64_t end, const cs_locator *at)
{
    start(key, CS_TABLE_END);
    add_u64(key, (uint64_t)end);
    if (at == NULL)
        return;
    add_u8(key, at->kind);
    add(key, at->scope, CS_SCOPE_LEN);
    add_id(key, at->id);
}

void cs_key_fingerprint(cs_key *key, const uint8_t *fingerprint, const cs_locator *at,
                        uint16_t field, uint64_t revision)
{
    start(key, CS_TABLE_FINGERPRINT);
    add(key, fingerprint, CS_FINGERPRINT_LEN);
    if (at == NULL)
        return;
    add_u8(key, at->kind);
    add(key, at->scope, CS_SCOPE_LEN);
    add_id(key, at->id);
    add_u16(key, field);
    add_u64(key, revision);
}

void cs_key_alias(cs_key *key, const uint8_t *mac)
{
    start(key, CS_TABLE_ALIAS);
    add(key, mac, CS_SCOPE_LEN);
}

void cs_key_token(cs_key *key, const char *ksuid)
{
    start(key, CS_TABLE_TOKEN);
    add(key, ksuid, CS_KSUID_LEN);
}

void cs_key_digest(cs_key *key, const uint8_t *mac)
{
    start(key, CS_TABLE_DIGEST);
    add(key, mac, CS_SCOPE_LEN);
}

void cs_key_after(cs_key *key)
{
    if (key->len < CS_KEY_MAX) {
        key->ptr[key->len++] = 0;
        return;
    }
    while (key->len > 1 && key->ptr[key->len - 1] == 0xff)
        key->len--;
    key->ptr[key->len - 1]++;
}

credstore_bytes cs_key_bytes(const cs_key *key)
{
    return cs_bytes(key->ptr, key->len);
}
