/* SPDX-License-Identifier: MIT
 *
 * What a kind of credential is: tables, and the few rules that no table holds. A fifth kind is one
 * public header and one file in lib/kinds/ that defines `const cs_kind cs_kind_<file>`; the build
 * collects them.
 */
#ifndef CS_KIND_H
#define CS_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "credstore.h"
#include "format.h"

/* ---- fields ---- */

typedef enum cs_type {
    CS_TEXT,        /* patch: credstore_text; view: const char * */
    CS_SECRET,      /* patch: credstore_secret_text; view: never, but for what follows below */
    CS_FLAG,        /* patch: credstore_flag; view: uint32_t */
    CS_TIME,        /* patch: credstore_time; view: int64_t */
    CS_PERMISSIONS, /* patch: credstore_strings; view: const char *const * */
    CS_DIGEST       /* origin: const uint8_t * to 32 bytes; view: never */
} cs_type;

enum {                        /* flags of a field */
       CS_NULLABLE = 1,       /* CLEAR is allowed */
       CS_REQUIRED = 2,       /* must be set at creation */
       CS_IN_BODY = 4,        /* the document requires it in the body of its update */
       CS_INTERNAL = 8,       /* not in the patch: the kind's own rules set it */
       CS_FROM_ORIGIN = 16,   /* not in the patch: a const char * of the origin */
       CS_EMPTY_IS_NULL = 32, /* in JSON, "" means null */
       CS_FUTURE = 64,        /* a time that must lie in the future when it is set */
       CS_IN_CREATE = 128,    /* with CS_FROM_ORIGIN: a member of the creation's body as well */
       CS_OUTLIVES = 256      /* kept in the tombstone */
};

typedef struct cs_rules { /* what a check may look at beside the value */
    const char *const *base_url_allow;
    size_t base_url_allow_count;
} cs_rules;

typedef struct cs_field {
    const char *name; /* JSON member */
    uint16_t id;      /* stable: on disk, and the public constant */
    uint8_t type;
    uint16_t flags;
    uint16_t in;     /* offset of the slot in the patch, or of the pointer in the origin */
    uint16_t view;   /* offset in the view; 0 = not shown in clear */
    uint16_t count;  /* CS_PERMISSIONS: offset of the count */
    uint16_t mask;   /* offset of a const char * with the mask; 0 = none */
    uint16_t has;    /* offset of a uint32_t: 1 if set; 0 = none */
    uint16_t set_at; /* CS_SECRET: offset of an int64_t; 0 = none */
    uint32_t max_bytes, max_chars;
    bool may_be_empty;
    /* NULL if the value is allowed, else one line. May be NULL. */
    const char *(*check)(const struct cs_field *field, const char *ptr, size_t len,
                         const cs_rules *rules);
    /* Writes the mask of a value, at most CS_MASK_MAX bytes with the NUL. May be NULL: no mask is
     * kept. */
    void (*make_mask)(const char *ptr, size_t len, char *out);
} cs_field;

enum { CS_PATCH_MAX = 512, CS_ORIGIN_MAX = 128, CS_MASK_MAX = 32 };

/* ---- who may ---- */

enum { /* who, in a cs_rule */
       CS_MAY_SYSTEM = 1,
       CS_MAY_SUPER = 2,  /* of every tenant; implied by ADMIN */
       CS_MAY_ADMIN = 4,  /* of the tenant */
       CS_MAY_MEMBER = 8, /* any actor of the tenant */
       CS_USERS_ONLY = 16 /* and nobody but a USER, whatever else holds */
};
typedef struct cs_rule {
    uint32_t who;
    const char *permission; /* or whoever holds this one for the tenant; NULL = no such way */
} cs_rule;

typedef enum cs_class {
    CS_CHANGE,
    CS_READ,
    CS_REVEAL,
    CS_CLASSES,
    CS_OWN = CS_CLASSES /* the library for itself: the policy has spoken for the whole of it */
} cs_class;

/* ---- the answer in the document's own JSON ---- */

typedef enum cs_show {
    CS_SHOW_TEXT,
    CS_SHOW_FLAG,
    CS_SHOW_SECONDS, /* a time, 2023-11-07T05:31:56Z */
    CS_SHOW_MILLIS,  /* a time, 2023-11-07T05:31:56.117Z */
    CS_SHOW_STRINGS,
    CS_SHOW_GRANTS /* resource -> action -> bool */
} cs_show;

typedef struct cs_member {
    const char *name;
    uint16_t at;    /* offset in the view */
    uint16_t count; /* CS_SHOW_STRINGS, CS_SHOW_GRANTS: offset of the size_t */
    uint8_t show;
    bool omit_null; /* left out where null; else written as null */
} cs_member;

/* ---- a kind ---- */

enum {                         /* flags of a kind */
       CS_UPSERT = 1,          /* update creates what is not there */
       CS_UUID_ID = 2,         /* ids are folded to lower case */
       CS_HAS_USAGE = 4,       /* a last-used time beside the record */
       CS_UPDATED_LATER = 8,   /* updated_at is null until the first change after creation */
       CS_TENANT_IS_PATH = 16, /* the tenant is the first id of the path, not the call's */
       CS_REQUEST_UUID = 32,   /* request ids are UUIDs */
       CS_GET_NULL = 64,       /* the door answers a get of what is not there with null */
       CS_EXPAND = 128         /* the door takes expand[]=permissions */
};

/* Offsets in a struct of the members that all kinds share; 0 = the kind has no such member. */
typedef struct cs_shared_at {
    uint16_t size;
    uint16_t revision, id, tenant, parent;
    uint16_t created_at, updated_at, last_used_at;
    uint16_t grants, grant_count;
} cs_shared_at;

/* Issued tokens: which fields of the record hold what. All INTERNAL; digest 0 = the kind issues
 * none. */
typedef struct cs_token_at {
    uint16_t digest, previous,
        previous_until; /* SHA-256, its predecessor in grace, and until when */
    uint16_t prefix, last_four;
    uint16_t id;        /* the token's own KSUID; 0 = the record's id is in the token */
    uint8_t actor_type; /* whom a verified token speaks for */
    const char *member; /* JSON member that shows the token once */
    const char *fallback_prefix;
} cs_token_at;

typedef enum cs_scope { CS_SCOPE_STORE, CS_SCOPE_OWNER } cs_scope;

struct cs_record; /* record.h */
struct cs_settle; /* a change that is being merged: merge.h */

typedef struct cs_kind {
    uint8_t id;
    uint8_t scope;
    uint8_t actor_type; /* its records are such actors; 0 = none */
    uint8_t flags;
    const char *name;
    const char *parent_name; /* member at fault for the middle id of the path; NULL = no such id */
    const char *id_name, *tenant_name;
    const cs_field *fields;
    size_t field_count;
    const cs_member *members;
    size_t member_count;
    uint16_t patch_size;
    cs_shared_at view, origin;
    cs_token_at token;
    uint16_t active_field; /* the flag that deactivate and reactivate switch; 0 = none */
    uint16_t expires_field, permissions_field; /* of an actor's record: fields by id */
    uint16_t expired_field; /* with expires_field: the flag that it was found over for good */
    cs_rule rules[CS_CLASSES];
    bool (*id_valid)(const char *ptr, size_t len);
    bool (*path_valid)(const char *ptr, size_t len);
    /* An id for a record that brings none: at most CS_ID_MAX bytes and a NUL. random: 64 bytes.
       False: the random bytes gave none. NULL: ids always come from the caller. */
    bool (*make_id)(int64_t now, const uint8_t *random, char *out);
    /* The kind's own rules over the merged record; may be NULL. */
    credstore_status (*settle)(struct cs_settle *settle, credstore_error *err);
    /* View members that no field holds; may be NULL. */
    void (*fill)(const struct cs_record *record, void *view);
    /* The document's words for the door. */
    const char *(*error_text)(credstore_status status, const char *field);
    const char *update_body; /* the whole body of a successful update; NULL = the view */
} cs_kind;

extern const cs_kind *const cs_kinds[]; /* made by the build from lib/kinds/ */
extern const size_t cs_kind_count;

const cs_kind *cs_kind_find(uint32_t id);
const cs_kind *cs_kind_of_actor(uint32_t actor_type);    /* NULL: such actors have no record */
size_t cs_field_index(const cs_kind *kind, uint16_t id); /* field_count if there is none */

#endif
