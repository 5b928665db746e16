/* SPDX-License-Identifier: MIT
 *
 * Issuing: a token made inside a change, and the index entries by which verification finds the
 * record.
 */
#ifndef CS_ISSUE_H
#define CS_ISSUE_H

#include "id.h"
#include "load.h"
#include "merge.h"

enum { CS_GRACE_MAX_S = 10 * 366 * 86400 };
enum { CS_REFERENCE_MAX = 1 + CS_SCOPE_LEN + CS_ID_MAX }; /* kind, scope, id */

/* A token to be made with the change. */
typedef struct cs_token_wish {
    const char *prefix; /* NULL = the record's, or the kind's */
    uint32_t grace_s;   /* how long the one before stays good */
    credstore_secret *
        *out; /* the token: set before the view is rendered, NULL if the change fails */
} cs_token_wish;

/* Where the fields of a token that is being made lie until they are put. */
typedef struct cs_making {
    uint8_t digest[32];
    char id[CS_KSUID_LEN + 1], last_four[5];
} cs_making;

/* E_INVALID: a grace over ten years, or a prefix not of its form. Before anything else is done. */
credstore_status cs_wish_check(const cs_token_wish *wish, credstore_error *err);

/* Draws a token and settles its fields: digest, the one before with its end, prefix, last four.
   E_UNSUPPORTED: the record's id cannot be part of a token. */
credstore_status cs_make_token(cs_txn *txn, cs_settle *settle, const cs_token_wish *wish,
                               cs_making *making, credstore_error *err);

/* An imported token may be one record's alone. A read. E_EXISTS: it is another's. */
credstore_status cs_check_import(cs_txn *txn, const cs_settle *settle, credstore_error *err);

/* Puts the index entry of a new record's token, if its kind (issued) or its import needs one. */
credstore_status cs_put_token_index(cs_txn *txn, const cs_locator *at, const cs_settle *settle,
                                    bool issued, credstore_error *err);

/* Where the record of a token lies: by the id that it carries, or by its digest if it is not one of
   ours (ksuid NULL). *found = false and OK if no index knows it, or the record is of another kind.
   at->id may point into id_room. */
credstore_status cs_locate_token(cs_txn *txn, const cs_kind *kind, const char *ksuid,
                                 const uint8_t digest[32], cs_locator *at,
                                 char id_room[CS_ID_MAX + 1], bool *found, credstore_error *err);

/* The key of an imported token's entry, and the MAC in it. */
credstore_status cs_digest_key(const credstore *store, const uint8_t digest[32], cs_key *key,
                               uint8_t mac[32], credstore_error *err);

/* The plain text of an entry of the token and digest indexes: which record. */
size_t cs_reference_write(const cs_locator *at, uint8_t out[CS_REFERENCE_MAX]);
bool cs_reference_read(credstore_bytes plain, cs_locator *at);

#endif
