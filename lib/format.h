/* SPDX-License-Identifier: MIT
 *
 * The on-disk format's numbers and storage keys: credstore-format(5) in C. Nothing here is ever
 * renumbered.
 */
#ifndef CS_FORMAT_H
#define CS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "credstore/backend.h"

enum { CS_FORMAT = 1 }; /* first byte of every value */

/* First byte of every key. */
enum {
    CS_TABLE_META = 0x01,
    CS_TABLE_ROOT = 0x02,
    CS_TABLE_KEYRING = 0x03,
    CS_TABLE_CATALOGUE = 0x04,
    CS_TABLE_ROTATION = 0x05,    /* how far the resealing of a rotation is */
    CS_TABLE_RECORD = 0x10,      /* current, history and tombstone of one record side by side */
    CS_TABLE_OWNER = 0x11,       /* list index of the kinds whose ids are unique in the store */
    CS_TABLE_LANE = 0x20,        /* audit entries, and the head right behind the last */
    CS_TABLE_RECEIPT = 0x30,     /* idempotency */
    CS_TABLE_PURGE = 0x31,       /* removed records, by the day of their removal */
    CS_TABLE_END = 0x32,         /* graces and lives, by the time at which they are over */
    CS_TABLE_USAGE = 0x40,       /* last used */
    CS_TABLE_ALIAS = 0x50,       /* organization labels */
    CS_TABLE_FINGERPRINT = 0x51, /* leak lookup */
    CS_TABLE_DIGEST = 0x52,      /* imported tokens */
    CS_TABLE_TOKEN = 0x53        /* issued tokens of records whose id is not in the token */
};

/* What a sealed box is for: part of its associated data. */
enum {
    CS_ROLE_CURRENT = 1,
    CS_ROLE_HISTORY = 2,
    CS_ROLE_TOMBSTONE = 3,
    CS_ROLE_PART = 4,
    CS_ROLE_META = 5,
    CS_ROLE_ROOT = 6,
    CS_ROLE_KEYRING = 7,
    CS_ROLE_CATALOGUE = 8,
    CS_ROLE_AUDIT = 9,
    CS_ROLE_HEAD = 10,
    CS_ROLE_RECEIPT = 11,
    CS_ROLE_USAGE = 12,
    CS_ROLE_ALIAS = 13,
    CS_ROLE_OWNER = 14,
    CS_ROLE_FINGERPRINT = 15,
    CS_ROLE_DIGEST = 16,
    CS_ROLE_TOKEN = 17,
    CS_ROLE_PURGE = 18,
    CS_ROLE_ANCHOR = 19,
    CS_ROLE_ROTATION = 20,
    CS_ROLE_CLOCK = 21,
    CS_ROLE_END = 22
};

/* Members of a sealed body. A kind's own fields are CS_TLV_FIELD + field id. */
enum {
    CS_TLV_OWNER = 0x0001,       /* tenant, text */
    CS_TLV_PARENT = 0x0002,      /* what the record lies under inside its tenant, text */
    CS_TLV_CREATED_AT = 0x0003,  /* i64 */
    CS_TLV_UPDATED_AT = 0x0004,  /* i64, absent = not yet changed */
    CS_TLV_INCARNATION = 0x0005, /* u64, random at creation */
    CS_TLV_REMOVED_AT = 0x0006,  /* i64, of a tombstone */
    CS_TLV_PREVIOUS = 0x0007,    /* a rolled secret in its grace; once for each */
    CS_TLV_FIELD = 0x0100,
    CS_TLV_CRITICAL = 0x8000 /* from here on: unknown means E_FORMAT */
};

/* Members of a sealed audit entry. */
enum {
    CS_AUDIT_TIME = 1,       /* i64 */
    CS_AUDIT_ACTOR_TYPE = 2, /* u8 */
    CS_AUDIT_ACTOR = 3,      /* text */
    CS_AUDIT_TENANT = 4,     /* text */
    CS_AUDIT_ACTION = 5,     /* u8 */
    CS_AUDIT_KIND = 6,       /* u8 */
    CS_AUDIT_PARENT = 7,     /* text */
    CS_AUDIT_ID = 8,         /* text */
    CS_AUDIT_REVISION = 9,   /* u64 */
    CS_AUDIT_CHANGED = 10,   /* u16 field ids */
    CS_AUDIT_REQUEST = 11    /* text */
};
enum {
    CS_ACTION_STORE_CREATE = 1,
    CS_ACTION_CREATE = 2,
    CS_ACTION_UPDATE = 3,
    CS_ACTION_CATALOGUE = 4,
    CS_ACTION_REMOVE = 5,
    CS_ACTION_ROLL = 6,
    CS_ACTION_DEACTIVATE = 7,
    CS_ACTION_REACTIVATE = 8,
    CS_ACTION_RESTORE = 9,
    CS_ACTION_REVEAL = 10,
    CS_ACTION_PRUNE = 11,
    CS_ACTION_LABEL = 12,
    CS_ACTION_ROOT_ADD = 13,
    CS_ACTION_ROOT_REMOVE = 14,
    CS_ACTION_KEYS_PROMOTE = 15,
    CS_ACTION_KEYS_RETIRE = 16,
    CS_ACTION_EPOCH = 17,
    CS_ACTION_REPAIR = 18,
    CS_ACTION_EXPIRE = 19
};

/* First byte of each message that is authenticated under the NAME key. */
enum {
    CS_NAME_SCOPE = 1,
    CS_NAME_FINGERPRINT = 2,
    CS_NAME_OWNER = 3,
    CS_NAME_CURSOR = 4,
    CS_NAME_RECEIPT = 5,
    CS_NAME_ALIAS = 6,
    CS_NAME_DIGEST = 7
};

enum { CS_PURPOSE_BODY = 1, CS_PURPOSE_SECRET = 2, CS_PURPOSE_NAME = 3, CS_PURPOSE_CHAIN = 4 };
enum { CS_STATE_ACTIVE = 1, CS_STATE_RETIRING = 2, CS_STATE_RETIRED = 3 };
enum { CS_ROOT_METHOD_RAW = 1, CS_ROOT_METHOD_PASSPHRASE = 2, CS_ROOT_METHOD_CALLBACK = 3 };
enum { CS_RIGHT_READ = 1, CS_RIGHT_REVEAL = 2 };

enum {
    CS_STORE_ID_LEN = 16,
    CS_SCOPE_LEN = 16,
    CS_FINGERPRINT_LEN = 16,
    CS_NONCE_LEN = 24,
    CS_TAG_LEN = 16,
    CS_DATA_KEY_LEN = 32,
    CS_CHAIN_LEN = 32,
    CS_DIGEST_LEN = 32,
    CS_ID_MAX = 255,
    CS_KEY_MAX = 511,
    CS_HISTORY_MAX = 100,     /* revisions that are kept behind the current one */
    CS_VALUE_MAX = 128 * 1024 /* no record comes near; a longer one is not ours */
};

/* A storage key being built. */
typedef struct cs_key {
    size_t len;
    uint8_t ptr[CS_KEY_MAX + 1];
} cs_key;

/* Which record. Scope is zero for kinds whose ids are unique in the store. */
typedef struct cs_locator {
    uint8_t kind;
    uint8_t scope[CS_SCOPE_LEN];
    credstore_bytes id;
} cs_locator;

void cs_key_meta(cs_key *key, bool sealed);
void cs_key_root(cs_key *key, uint16_t slot);
void cs_key_keyring(cs_key *key,
                    uint8_t purpose); /* CS_PURPOSE_BODY or _SECRET: which store key seals it */
void cs_key_catalogue(cs_key *key);
void cs_key_rotation(cs_key *key);
void cs_key_record(cs_key *key, const cs_locator *at);
void cs_key_history(cs_key *key, const cs_locator *at, uint64_t revision);
void cs_key_audit(cs_key *key, uint16_t lane, uint64_t seq);
void cs_key_head(cs_key *key, uint16_t lane);
/* Where a list's keys begin: of records with that scope, or of the index of that owner. */
void cs_key_list(cs_key *key, uint8_t table, uint8_t kind, const uint8_t *scope);
/* A record's entry in its owner's index. */
void cs_key_owner(cs_key *key, const uint8_t *owner_mac, const cs_locator *at);
void cs_key_anchor(cs_key *key, uint16_t lane);
void cs_key_clock(cs_key *key, uint16_t lane);
void cs_key_usage(cs_key *key, const cs_locator *at);
void cs_key_receipt(cs_key *key, uint32_t day,
                    const uint8_t *mac); /* mac NULL: where the day begins */
void cs_key_purge(cs_key *key, uint32_t day,
                  const cs_locator *at); /* at NULL: where the day begins */
void cs_key_end(cs_key *key, int64_t end,
                const cs_locator *at); /* at NULL: where the time begins */
/* A secret that a record holds or held; at NULL: where those of a fingerprint begin. */
void cs_key_fingerprint(cs_key *key, const uint8_t *fingerprint, const cs_locator *at,
                        uint16_t field, uint64_t revision);
void cs_key_alias(cs_key *key, const uint8_t *mac);
void cs_key_token(cs_key *key, const char *ksuid);
void cs_key_digest(cs_key *key, const uint8_t *mac);
/* The next key that there can be. */
void cs_key_after(cs_key *key);
credstore_bytes cs_key_bytes(const cs_key *key);

#endif
