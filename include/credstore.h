/* SPDX-License-Identifier: MIT
 *
 * credstore.h - a typed, encrypted, transactional home for the credentials that a service keeps and
 * for those that it issues. README.md has the concepts, credstore-format(5) the bytes on disk.
 *
 * What holds for every declaration here:
 *
 * Threads. A credstore may be used by any number of threads at once. Patches, calls, actors and
 * origins are read only during the call. A view, a secret, an answer or a key source belongs to one
 * owner and may be handed from thread to thread, never shared.
 *
 * Forks. After fork() every call in the child on the parent's store answers E_FORKED; only
 * credstore_close() and the free functions work there.
 *
 * Strings. NUL-terminated UTF-8 unless a length stands beside the pointer.
 *
 * Times. Milliseconds since 1970-01-01T00:00:00Z, UTC, leap seconds not counted; 0 = none.
 *
 * Sizes. Every struct of this header that crosses the boundary starts with struct_size, the sizeof
 * that the caller was compiled with. Structs only ever grow at the end. A shorter one leaves the
 * missing members at their zero meaning; in a longer one the tail that this library does not know
 * must be zero, else E_UNSUPPORTED. A size of 0, or one that ends inside a member, is E_INVALID.
 *
 * Errors. Functions answer a credstore_status. The last argument, if not NULL, is filled on every
 * return. On an error nothing was changed and *out is NULL. error.field names a member as the
 * kind's document does (flatPermissionsList), or an argument.
 *
 * Any call may answer E_INVALID (a NULL or malformed argument), E_FORKED, E_NO_MEMORY, E_STORAGE,
 * E_BUSY, E_INTEGRITY, E_KEY_UNAVAILABLE, E_INTERNAL; what else, each function says.
 */
#ifndef CREDSTORE_H
#define CREDSTORE_H

#include <stddef.h>
#include <stdint.h>

#ifndef CREDSTORE_API /* define it to nothing to read this header with other tools */
#if defined(__GNUC__)
#define CREDSTORE_API __attribute__((visibility("default")))
#else
#define CREDSTORE_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CREDSTORE_VERSION_MAJOR 0
#define CREDSTORE_VERSION_MINOR 1
#define CREDSTORE_VERSION_PATCH 0
#define CREDSTORE_VERSION       "0.1.0"

/* A length that says: the string ends with a NUL. */
#define CREDSTORE_NTS ((size_t)-1)

/* Values of credstore_call.expected_revision beside 0 (any) and a revision. */
#define CREDSTORE_MUST_EXIST  UINT64_MAX       /* HTTP: If-Match: * */
#define CREDSTORE_MUST_BE_NEW (UINT64_MAX - 1) /* HTTP: If-None-Match: * */

/* ---- results ----------------------------------------------------------------------------------
 */

/* Values are never reused and never renumbered. The HTTP door answers with the code in brackets. */
typedef enum credstore_status {
    CREDSTORE_OK = 0,
    CREDSTORE_E_INVALID = 1,     /* [400] the request is malformed; error.field says where */
    CREDSTORE_E_TOO_LARGE = 2,   /* [413] a body over 64 KiB, a catalogue over 512 ids */
    CREDSTORE_E_UNSUPPORTED = 3, /* [400] newer than this library, or not offered for the kind */
    CREDSTORE_E_UNAUTHENTICATED = 4, /* [401] no actor, or one that this store does not know */
    CREDSTORE_E_EXPIRED = 5,         /* [401] the actor's own credential has expired */
    CREDSTORE_E_REVOKED = 6,         /* [401] the actor's own credential was withdrawn */
    CREDSTORE_E_FORBIDDEN = 7,       /* [403] a known actor who may not do this */
    CREDSTORE_E_NOT_FOUND = 8,       /* [404] absent, or another tenant's: the same answer */
    CREDSTORE_E_INACTIVE = 9,        /* [409] the record is switched off */
    CREDSTORE_E_EXISTS = 10,         /* [409] the id is taken, now or once */
    CREDSTORE_E_CONFLICT = 11,    /* [409] others changed the record faster than we could retry */
    CREDSTORE_E_REVISION = 12,    /* [412] not at the expected revision */
    CREDSTORE_E_IDEMPOTENCY = 13, /* [422] the idempotency key stands for another request */
    CREDSTORE_E_BUSY = 14,        /* [503] the writer's turn did not come within wait_ms */
    CREDSTORE_E_STORAGE = 15,     /* [500] the engine failed; error.native has its code */
    CREDSTORE_E_FULL = 16,        /* [507] disk or map is full */
    CREDSTORE_E_COMMIT_UNKNOWN =
        17,                     /* [500] the engine cannot tell whether the change is durable */
    CREDSTORE_E_INTEGRITY = 18, /* [500] the stored bytes are not what was written */
    CREDSTORE_E_ROLLBACK = 19,  /* [500] the store is older than what was seen of it */
    CREDSTORE_E_FORMAT = 20,    /* [500] written by a newer library than this one */
    CREDSTORE_E_KEY_UNAVAILABLE = 21, /* [503] no root key given here opens it */
    CREDSTORE_E_NO_MEMORY = 22,       /* [500] */
    CREDSTORE_E_ENTROPY = 23,         /* [500] the random source failed */
    CREDSTORE_E_FORKED = 24,          /* [500] the store was opened before a fork */
    CREDSTORE_E_INTERNAL = 25         /* [500] a defect of this library or of a backend */
} credstore_status;

/* What went wrong. The caller's, 256 bytes for ever. Never holds a secret or a byte of the request.
 */
typedef struct credstore_error {
    int32_t status;         /* a credstore_status */
    int32_t native;         /* errno or the engine's own code, 0 if none */
    uint32_t retry_after_s; /* with E_BUSY: when to try again */
    uint32_t offset;        /* byte of the JSON body at fault, 0 if none */
    char field[64];         /* member or argument at fault, "" if none */
    char message[176];      /* one line, English, for the operator */
} credstore_error;

/* ---- handles ----------------------------------------------------------------------------------
 */

typedef struct credstore credstore;                       /* an open store */
typedef struct credstore_secret credstore_secret;         /* a revealed secret, wiped on free */
typedef struct credstore_key_source credstore_key_source; /* where a root key lives */
struct credstore_storage;                                 /* credstore/backend.h */
struct credstore_crypto;                                  /* credstore/backend.h */

/* ---- slots of a patch: keep, set or clear ------------------------------------------------------
 */

/* Absent members of a patch are zero, and zero keeps. SET takes the value. CLEAR makes it null, and
   is E_INVALID for a member that cannot be null. KEEP with a value is E_INVALID, as is any other
   op. */
enum { CREDSTORE_KEEP = 0, CREDSTORE_SET = 1, CREDSTORE_CLEAR = 2 };

typedef struct credstore_text {
    const char *ptr;
    size_t len; /* bytes, or CREDSTORE_NTS */
    uint32_t op, reserved;
} credstore_text;

/* Text that must not be seen again: another type, so that the compiler tells the two apart. */
typedef struct credstore_secret_text {
    const char *ptr;
    size_t len; /* bytes, or CREDSTORE_NTS */
    uint32_t op, reserved;
} credstore_secret_text;

typedef struct credstore_flag {
    uint32_t op, value; /* 0 or 1 */
} credstore_flag;

typedef struct credstore_time {
    int64_t unix_ms;
    uint32_t op, reserved;
} credstore_time;

typedef struct credstore_strings {
    const char *const *items; /* count NUL-terminated strings */
    size_t count;
    uint32_t op, reserved;
} credstore_strings;

#define CREDSTORE_TEXT(s)                                                                          \
    {                                                                                              \
        (s), CREDSTORE_NTS, CREDSTORE_SET, 0                                                       \
    }
#define CREDSTORE_SECRET(ptr, len)                                                                 \
    {                                                                                              \
        (ptr), (len), CREDSTORE_SET, 0                                                             \
    }
#define CREDSTORE_FLAG(value)                                                                      \
    {                                                                                              \
        CREDSTORE_SET, (value)                                                                     \
    }
#define CREDSTORE_TIME(ms)                                                                         \
    {                                                                                              \
        (ms), CREDSTORE_SET, 0                                                                     \
    }
#define CREDSTORE_STRINGS(items, n)                                                                \
    {                                                                                              \
        (items), (n), CREDSTORE_SET, 0                                                             \
    }
#define CREDSTORE_CLEARED                                                                          \
    {                                                                                              \
        NULL, 0, CREDSTORE_CLEAR, 0                                                                \
    }
#define CREDSTORE_TIME_CLEARED                                                                     \
    {                                                                                              \
        0, CREDSTORE_CLEAR, 0                                                                      \
    }

/* The same for languages without the preprocessor: fill *slot. The slot keeps the caller's pointer.
 */
CREDSTORE_API void credstore_text_init(credstore_text *slot, uint32_t op, const char *ptr,
                                       size_t len);
CREDSTORE_API void credstore_secret_text_init(credstore_secret_text *slot, uint32_t op,
                                              const char *ptr, size_t len);
CREDSTORE_API void credstore_flag_init(credstore_flag *slot, uint32_t op, uint32_t value);
CREDSTORE_API void credstore_time_init(credstore_time *slot, uint32_t op, int64_t unix_ms);
CREDSTORE_API void credstore_strings_init(credstore_strings *slot, uint32_t op,
                                          const char *const *items, size_t count);

/* ---- who asks ----------------------------------------------------------------------------------
 */

enum {
    CREDSTORE_ACTOR_USER = 1,    /* a person's session, vouched for by the host */
    CREDSTORE_ACTOR_API_KEY = 2, /* an API key that this store holds: id is the record's id */
    CREDSTORE_ACTOR_SERVICE = 3, /* another service */
    CREDSTORE_ACTOR_SYSTEM = 4   /* the host itself */
};
enum {
    CREDSTORE_ROLE_ADMIN = 1, /* administrator of its own tenant */
    CREDSTORE_ROLE_SUPER = 2  /* administrator of every tenant; must name one in the call */
};

/* Pointer-free, so that Go and cffi can own it. The host fills it from its own session. Zero it
 * first. */
typedef struct credstore_actor {
    uint32_t struct_size, type;
    uint32_t roles, reserved;
    int64_t expires_at;      /* an actor past this time is refused with E_EXPIRED; 0 = never */
    uint64_t permissions[8]; /* bits of this store's catalogue; see credstore_actor_grant() */
    char id[256];            /* 1..255 visible ASCII characters */
    char tenant[256];        /* "" = none; else an id of [A-Za-z0-9._~-] */
} credstore_actor;

/* Sets the bit of one permission id in *actor. E_INVALID: not in this store's catalogue. */
CREDSTORE_API credstore_status credstore_actor_grant(const credstore *store, credstore_actor *actor,
                                                     const char *permission, credstore_error *err);

/* 1 if the actor holds the permission and has not expired by the store's clock, else 0: unknown
   permissions, NULL arguments and a forked store included. Allocates nothing. */
CREDSTORE_API int credstore_permit(const credstore *store, const credstore_actor *actor,
                                   const char *permission);

/* ---- one call ----------------------------------------------------------------------------------
 */

enum { CREDSTORE_CALL_EXPAND_PERMISSIONS = 1 }; /* flags: fill the view's permissions */

typedef struct credstore_call {
    uint32_t struct_size, flags;
    const credstore_actor *actor; /* NULL: E_UNAUTHENTICATED */
    const char *tenant;          /* whose record; NULL = the actor's own. The host vouches for it */
    const char *request_id;      /* for the audit, at most 128 visible ASCII characters, or NULL */
    uint64_t expected_revision;  /* 0 = any, a revision, CREDSTORE_MUST_EXIST or _MUST_BE_NEW;
                                    of a change: else E_REVISION and nothing changed */
    uint64_t at_revision;        /* get and reveal: the record as it was then; 0 = now */
    int64_t wait_ms;             /* for the writer's turn, then E_BUSY; 0 = the store's default */
    const char *idempotency_key; /* create, issue and roll: 1..255 visible ASCII characters, or
                                    NULL. The same key from the same actor, tenant and verb within
                                    24 hours gets the first answer again, token included; with
                                    another request E_IDEMPOTENCY. Other verbs do not look at it */
} credstore_call;

/* ---- opening -----------------------------------------------------------------------------------
 */

/* One permission of the host's catalogue. id: 1..64 of [A-Za-z0-9._:-]; resource and action, used
   by views that show permissions as a map, likewise. */
typedef struct credstore_permission {
    const char *id, *resource, *action;
} credstore_permission;

enum {
    CREDSTORE_OPEN_CREATE = 1,    /* make the store if it is absent; else absent is E_NOT_FOUND */
    CREDSTORE_OPEN_READ_ONLY = 2, /* every change answers E_FORBIDDEN */
    CREDSTORE_OPEN_GROUP = 4,     /* folder and files may be used by the group, 0770 and 0660 */
    CREDSTORE_OPEN_AUDIT_REVEALS =
        8 /* each reveal is an audit entry, durable before the secret is handed out */
};

/* What a policy hook is asked. Asked first before the request is looked at (stage 1: an actor who
   may not ask learns nothing from the answers to malformed requests), and for a change again once
   it is known whether the record is there (stage 2). */
enum { CREDSTORE_QUESTION_VERB = 1, CREDSTORE_QUESTION_RECORD = 2 };
enum { CREDSTORE_CLASS_CHANGE = 0, CREDSTORE_CLASS_READ = 1, CREDSTORE_CLASS_REVEAL = 2 };
typedef struct credstore_question {
    uint32_t struct_size, stage, kind, verb_class;
    uint32_t by_default; /* 1 if the default rules would let it pass */
    uint32_t exists;     /* stage 2 */
    uint64_t revision;   /* stage 2, 0 if it is not there */
    const credstore_actor *actor;
    const char *tenant, *parent, *id; /* as asked for, not yet checked at stage 1; NULL = none */
} credstore_question;

/* What the host may want to know and no change records. Never holds a secret. */
enum {
    CREDSTORE_EVENT_DENIED = 1,   /* the policy refused; status is what was answered */
    CREDSTORE_EVENT_REVEALED = 2, /* a secret was opened */
    CREDSTORE_EVENT_CLOCK =
        3 /* the clock is a day or more behind the store's time, and decides again */
};
typedef struct credstore_event {
    uint32_t struct_size, type, kind, verb_class;
    int32_t status;
    uint32_t field; /* REVEALED */
    const credstore_actor *actor;
    const char *tenant, *parent, *id; /* as asked for; NULL = none */
} credstore_event;

typedef struct credstore_options {
    uint32_t struct_size, flags;
    const credstore_key_source *key; /* root key; borrowed for the call. NULL: memory engine only */
    const struct credstore_storage *storage; /* NULL = LMDB, or memory if the path is NULL */
    void *storage_ctx;                       /* the store's once open succeeded: close(ctx) */
    const struct credstore_crypto *crypto;   /* NULL = OpenSSL */
    void *crypto_ctx;                        /* the store's once open succeeded: close(ctx) */
    const credstore_permission *catalogue;   /* copied */
    size_t catalogue_count;                  /* at most 512, past and present ids together */
    const char *const *base_url_allow; /* copied; hosts, or host:port, that replace the rules */
    size_t base_url_allow_count;
    int64_t (*now_ms)(void *ctx); /* a clock for tests; NULL = CLOCK_REALTIME. Any thread */
    void *now_ctx;
    int64_t wait_ms; /* default of credstore_call.wait_ms; 0 = 5000 */
    /* Decides instead of the default rules: OK, or E_FORBIDDEN or E_NOT_FOUND; any other answer is
       taken for E_FORBIDDEN. Called outside transactions, with no lock held, from the calling
       thread; must not call this store. "Nobody grants what he does not hold", and the checks of
       the actor itself, hold beside it. */
    credstore_status (*policy)(void *ctx, const credstore_question *question);
    void *policy_ctx;
    void (*event)(void *ctx,
                  const credstore_event *event); /* called likewise; costs no transaction */
    void *event_ctx;
} credstore_options;

/* A root key in a file: exactly 32 bytes, a regular file that only its owner can read.
   CREDSTORE_KEY_CREATE makes one (0600, random, synced) if there is none.
   E_NOT_FOUND: no file. E_FORBIDDEN: others can read it. E_INVALID: not 32 bytes, not a regular
   file. */
enum { CREDSTORE_KEY_CREATE = 1 };
CREDSTORE_API credstore_status credstore_key_file(const char *path, uint32_t flags,
                                                  credstore_key_source **out, credstore_error *err);

/* A root key of 32 bytes that the host brings; copied. E_INVALID: another length. */
CREDSTORE_API credstore_status credstore_key_bytes(const void *ptr, size_t len,
                                                   credstore_key_source **out,
                                                   credstore_error *err);

/* A root key that a person knows: scrypt (RFC 7914) of the passphrase with a random salt, r 8 and
   p 1, once for each slot. ptr, len: 1..4096 bytes, or len CREDSTORE_NTS; copied; no normalisation.
   log2_n: the cost N = 2^log2_n of slots that are made with this source, 14..20 (16 MiB..1 GiB of
   memory, and time in proportion), 0 = 17; to open a slot, its own cost holds. The work is done by
   credstore_open() and credstore_root_add(), not here. E_INVALID, E_NO_MEMORY. */
CREDSTORE_API credstore_status credstore_key_passphrase(const char *ptr, size_t len,
                                                        uint32_t log2_n, credstore_key_source **out,
                                                        credstore_error *err);

/* What a key service answers. Anything else is taken for FAILED. */
enum {
    CREDSTORE_KEY_OK = 1,        /* done */
    CREDSTORE_KEY_DENIED = 2,    /* not to this caller: E_FORBIDDEN */
    CREDSTORE_KEY_GONE = 3,      /* no such key, or a blob that is not its own: E_KEY_UNAVAILABLE */
    CREDSTORE_KEY_TRANSIENT = 4, /* not now: E_BUSY, retry_after_s 1 */
    CREDSTORE_KEY_FAILED = 5     /* anything else: E_KEY_UNAVAILABLE */
};
/* A key that never leaves its keeper (KMS, HSM, an agent). Both functions are called without a
   lock and outside transactions, from the thread that opens the store or adds the slot; they may
   take their time, and must not call the store. error.native tells what they answered. */
typedef struct credstore_key_service {
    uint32_t struct_size, reserved;
    /* Wraps len bytes, 32 or 64, into an opaque blob. *blob_len is the room, 4096, and becomes the
       blob's length, 1..4096. keys is wiped afterwards: keep no copy. */
    int32_t (*wrap)(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob, size_t *blob_len);
    /* Turns the blob back. *len is the room, 64, and becomes the number of bytes. Called for each
       slot of this kind until one is its own: answer GONE for a blob that is not. */
    int32_t (*unwrap)(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys, size_t *len);
    void *ctx; /* must stay as long as the source */
} credstore_key_service;
/* The struct is copied. E_INVALID: a function is NULL. E_NO_MEMORY, E_UNSUPPORTED. */
CREDSTORE_API credstore_status credstore_key_callback(const credstore_key_service *service,
                                                      credstore_key_source **out,
                                                      credstore_error *err);

CREDSTORE_API void credstore_key_source_free(credstore_key_source *source); /* NULL is nothing */

/* Opens the store in the folder `path`, or an empty one in memory if path is NULL.
   E_NOT_FOUND: nothing there and no CREATE. E_KEY_UNAVAILABLE: the key opens no root slot.
   E_FORMAT: made by a newer library. E_FORBIDDEN: others can read it, or it cannot be written.
   E_UNSUPPORTED: a network file system, or a second copy of the library has it open. E_FULL.
   E_INTEGRITY, E_ROLLBACK: not what was written. Opening a folder twice in one process is allowed.
 */
CREDSTORE_API credstore_status credstore_open(const char *path, const credstore_options *options,
                                              credstore **out, credstore_error *err);

/* Releases the store and wipes its keys. No other thread may be using it. NULL is nothing. Views
   and secrets handed out before stay valid until they are freed. */
CREDSTORE_API void credstore_close(credstore *store);

/* ---- root slots: which root keys open the store -----------------------------------------------
 */

/* A store has up to 64 root slots; each wraps the store's two keys for one root key. Any of them
   opens the store. A slot with READ alone gets only the key of the bodies: who opens by it gets,
   lists, verifies and reads history, and is answered E_KEY_UNAVAILABLE where a secret would have to
   be opened or stored. To change a root key, add the new one, then remove the old one.
   The store's own keys stay: who held a removed root key and a copy of the file from that time can
   still read that copy, and, with the store keys taken from it, what is sealed under them later.
   All three are for SYSTEM and for USER with SUPER: others E_FORBIDDEN. Any thread. */
enum {
    CREDSTORE_ROOT_READ = 1,  /* bodies: everything but the secrets */
    CREDSTORE_ROOT_REVEAL = 2 /* secrets; only together with READ */
};
enum {
    CREDSTORE_ROOT_RAW = 1,        /* credstore_key_file(), credstore_key_bytes() */
    CREDSTORE_ROOT_PASSPHRASE = 2, /* credstore_key_passphrase() */
    CREDSTORE_ROOT_CALLBACK = 3    /* credstore_key_callback() */
};

/* Adds a slot for `source` and hands out its number (slot may be NULL). Wraps before it writes; a
   key service is called outside of any transaction, and again if another process was faster.
   E_INVALID: rights without READ. E_KEY_UNAVAILABLE: REVEAL, but this store was opened with READ
   alone; or a key service's answer, as are E_FORBIDDEN and E_BUSY. E_TOO_LARGE: 64 slots are there.
   E_UNSUPPORTED: a passphrase, and the crypto provider has no scrypt. E_CONFLICT, and what any
   change may answer. */
CREDSTORE_API credstore_status credstore_root_add(credstore *store, const credstore_call *call,
                                                  const credstore_key_source *source,
                                                  uint32_t rights, uint32_t *slot,
                                                  credstore_error *err);

typedef struct credstore_root_slot {
    uint32_t struct_size, slot;
    uint32_t method, rights; /* CREDSTORE_ROOT_x; as the slot says, proven only by its own key */
    uint32_t is_own;         /* 1: this store was opened by it */
    int32_t status;          /* E_INTEGRITY: not laid out as a slot */
} credstore_root_slot;
typedef struct credstore_root_page {
    uint32_t struct_size, count;
    const credstore_root_slot *items; /* by rising number */
} credstore_root_page;

/* Lists the slots into *out; free with credstore_free(). E_NO_MEMORY, E_STORAGE. */
CREDSTORE_API credstore_status credstore_root_list(credstore *store, const credstore_call *call,
                                                   const credstore_root_page **out,
                                                   credstore_error *err);

/* Removes a slot; one's own too. Stores that are open go on. E_NOT_FOUND: no such slot. E_CONFLICT:
   it is the last one with READ, or with REVEAL. E_KEY_UNAVAILABLE: this store was opened with READ
   alone. What any change may answer. */
CREDSTORE_API credstore_status credstore_root_remove(credstore *store, const credstore_call *call,
                                                     uint32_t slot, credstore_error *err);

/* ---- what calls hand out ------------------------------------------------------------------------
 */

/* Frees any view. NULL is nothing. */
CREDSTORE_API void credstore_free(const void *view);

/* The bytes of a secret: len of them, then a NUL. Valid until credstore_secret_free(), which wipes.
 */
CREDSTORE_API const char *credstore_secret_ptr(const credstore_secret *secret);
CREDSTORE_API size_t credstore_secret_len(const credstore_secret *secret);
CREDSTORE_API void credstore_secret_free(credstore_secret *secret); /* NULL is nothing */

/* Overwrites memory in a way that the compiler keeps: for the host's own request buffers. */
CREDSTORE_API void credstore_wipe(void *ptr, size_t len);

/* The library's version, and the name of a status ("E_NOT_FOUND"); static, never NULL. */
CREDSTORE_API const char *credstore_version(void);
CREDSTORE_API const char *credstore_status_name(int32_t status);

/* Given by the caller who brings a record from elsewhere. All zero: the library makes its own. */
typedef struct credstore_origin {
    uint32_t struct_size, reserved;
    const char *id; /* NULL = made here */
    int64_t created_at,
        updated_at; /* 0 = now; updated_at not before created_at, neither in the future */
} credstore_origin;

/* ---- lists -------------------------------------------------------------------------------------
 */

/* Which part of a list. NULL or all zero but limit: the first ones. Lists are in the order of the
 * ids. */
typedef struct credstore_page {
    uint32_t struct_size, limit; /* 1..100 */
    const char *after, *before;  /* a cursor of an earlier page of the same list; not both */
    int64_t expires_before;      /* API keys: only those that expire before; 0 = all */
    int64_t unused_since; /* API keys, service credentials: only those not used since; 0 = all */
} credstore_page;

/* Every kind's page lies as follows, with its own view in the items. An item whose record cannot be
   read is its id, a NULL view and the status (E_INTEGRITY, E_FORMAT); the page goes on. Cursors are
   opaque, keyed, and good for the list and filters that they came from: any other use is E_INVALID.
   They stay good when records come and go.

       uint32_t struct_size, has_next_page, has_prev_page, reserved;
       const char *start_cursor, *end_cursor;      NULL on an empty page
       const credstore_<kind>_item *items; size_t count; */

/* ---- leaks and departures
 * ------------------------------------------------------------------------- */

enum {                               /* credstore_leak.state */
       CREDSTORE_LEAK_CURRENT = 1,   /* in use */
       CREDSTORE_LEAK_GRACE = 2,     /* rolled, and still good */
       CREDSTORE_LEAK_PAST = 3,      /* held once; no longer good */
       CREDSTORE_LEAK_REMOVED = 4,   /* its record was removed */
       CREDSTORE_LEAK_UNREADABLE = 5 /* its record cannot be read: tenant and parent are "" */
};

typedef struct credstore_leak {
    uint32_t struct_size, kind, state, reserved;
    uint64_t revision; /* at which the record got it; 0 = not known (issued tokens) */
    const char *tenant, *parent, *id;
    const char *field; /* as in the document; "token" for what was issued */
} credstore_leak;

typedef struct credstore_leaks {
    uint32_t struct_size, reserved;
    const credstore_leak *const *items;
    size_t count;
} credstore_leaks;

/* Given a string that was found where it should not be: which records hold or held it as a secret
   or token? By keyed fingerprints and digests; opens no secret. At most 100. SYSTEM or SUPER.
   Nothing found is OK with count 0. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_leak_find(credstore *store, const credstore_call *call,
                                                   const char *text, size_t len,
                                                   const credstore_leaks **out,
                                                   credstore_error *err);

/* Removes every record of the call's tenant, of every kind, for about budget_ms (0 = all). *more
   (may be NULL) is 1 if the budget ended first: call again, with the same, until it is 0; a crash
   loses nothing. *removed (may be NULL) counts this call's. SYSTEM or SUPER, and the call must name
   the tenant. Each removal is in the audit. */
CREDSTORE_API credstore_status credstore_offboard(credstore *store, const credstore_call *call,
                                                  uint32_t budget_ms, uint32_t *more,
                                                  uint64_t *removed, credstore_error *err);

/* ---- maintenance --------------------------------------------------------------------------------
 */

/* Does the work that time asks for, for about budget_ms (0 = all): writes down last-used times,
   drops receipts that are over, the history of records that were removed 30 days ago, and places of
   dead readers. (History beyond the newest 100 revisions goes with the changes themselves.) There
   is no thread of ours: call it once a minute, from one process or several. Nothing that is over is
   accepted before it runs. *more (may be NULL) is 1 if the budget ended first. E_FORBIDDEN: the
   store is read-only. */
CREDSTORE_API credstore_status credstore_maintain(credstore *store, uint32_t budget_ms,
                                                  uint32_t *more, credstore_error *err);

/* ---- the audit ----------------------------------------------------------------------------------
 */

enum { /* credstore_audit_entry.action */
       CREDSTORE_ACTION_STORE_CREATE = 1,
       CREDSTORE_ACTION_CREATE = 2,
       CREDSTORE_ACTION_UPDATE = 3,
       CREDSTORE_ACTION_CATALOGUE = 4, /* the store learned new permissions */
       CREDSTORE_ACTION_REMOVE = 5,
       CREDSTORE_ACTION_ROLL = 6,
       CREDSTORE_ACTION_DEACTIVATE = 7,
       CREDSTORE_ACTION_REACTIVATE = 8,
       CREDSTORE_ACTION_RESTORE = 9,
       CREDSTORE_ACTION_REVEAL = 10, /* with CREDSTORE_OPEN_AUDIT_REVEALS */
       CREDSTORE_ACTION_PRUNE = 11,
       CREDSTORE_ACTION_LABEL = 12,    /* an organization's label was set or removed */
       CREDSTORE_ACTION_ROOT_ADD = 13, /* of a root slot; revision is its number */
       CREDSTORE_ACTION_ROOT_REMOVE = 14
};

/* One change. Texts are "" where there is none. Never a value of a field. */
typedef struct credstore_audit_entry {
    uint32_t struct_size, action, kind, actor_type;
    uint64_t seq, revision;
    int64_t time;
    const char *actor, *tenant, *parent, *id, *request_id;
    const char *const *changed; /* names of the fields that changed, as in the documents */
    size_t changed_count;
} credstore_audit_entry;

typedef struct credstore_audit_page {
    uint32_t struct_size, reserved;
    uint64_t last_seq; /* looked at up to here: the next after_seq */
    const credstore_audit_entry *const *items;
    size_t count;
} credstore_audit_page;

/* Entries after a sequence number, oldest first: a change feed. Looks at `limit` (1..1000) of them;
   waits up to wait_ms for the first. A SYSTEM actor or a SUPER user sees all; an administrator
   those of its tenant; others E_FORBIDDEN. E_INTEGRITY: an entry is missing or not what was
   written. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_audit_read(credstore *store, const credstore_call *call,
                                                    uint64_t after_seq, uint32_t limit,
                                                    uint32_t wait_ms,
                                                    const credstore_audit_page **out,
                                                    credstore_error *err);

/* Ends the waits of credstore_audit_read() that are under way in this process; they answer what
 * there is. */
CREDSTORE_API void credstore_wake(credstore *store);

/* Where the audit stood: keep it elsewhere, and hold the store against it later. */
typedef struct credstore_checkpoint {
    uint32_t struct_size, reserved;
    uint64_t generation, seq;
    uint8_t chain[32];
} credstore_checkpoint;

/* Walks the whole audit and proves its chain. known (may be NULL) is an earlier checkpoint:
   E_NOT_FOUND if
   pruning has gone past it, E_ROLLBACK if the store is behind it or has another history. *now (may
   be NULL) gets today's. SYSTEM or SUPER. E_INTEGRITY. */
CREDSTORE_API credstore_status credstore_audit_verify(credstore *store, const credstore_call *call,
                                                      const credstore_checkpoint *known,
                                                      credstore_checkpoint *now,
                                                      credstore_error *err);

/* Deletes the entries up to a checkpoint that is known to hold (it is compared first: E_ROLLBACK).
   A sealed anchor stays in their place, and the rest is proved from there. Call again if *more (may
   be NULL) is 1. SYSTEM or SUPER. */
CREDSTORE_API credstore_status credstore_audit_prune(credstore *store, const credstore_call *call,
                                                     const credstore_checkpoint *up_to,
                                                     uint32_t *more, credstore_error *err);

/* ---- the HTTP door: any kind, any verb; raw header values in, a whole answer out ----------------
 */

enum {
    CREDSTORE_VERB_GET = 1,
    CREDSTORE_VERB_CREATE = 2,
    CREDSTORE_VERB_UPDATE = 3, /* the document's PUT or PATCH */
    CREDSTORE_VERB_LIST = 4,   /* query: after, before, limit (default 20) */
    CREDSTORE_VERB_REMOVE = 5, /* 204 */
    CREDSTORE_VERB_ROLL = 6,   /* query: grace_s (default 0); issued tokens: shows the new one once;
                                  else the   body sets the secrets to be rolled, and nothing else */
    CREDSTORE_VERB_DEACTIVATE = 7,
    CREDSTORE_VERB_REACTIVATE = 8,
    CREDSTORE_VERB_HISTORY = 9, /* query: before (a revision), limit (default 20) */
    CREDSTORE_VERB_RESTORE = 10 /* query: revision */
};

typedef struct credstore_slice {
    const char *ptr; /* NULL = the header or part is absent */
    size_t len;      /* may hold any byte: what is not allowed is E_INVALID */
} credstore_slice;

typedef struct credstore_request {
    uint32_t struct_size, kind, verb, flags; /* kind: CREDSTORE_KIND_x; flags: 0 */
    const credstore_actor *actor;            /* NULL: `presented` is verified first */
    credstore_slice tenant;                  /* account or organization; absent = the actor's */
    credstore_slice parent;                  /* what the record lies under (service account) */
    credstore_slice id;    /* the last id of the path, percent-decoded by the host */
    credstore_slice query; /* after the '?', as received */
    credstore_slice body;  /* at most 64 KiB, else 413 */
    credstore_slice if_match, if_none_match, request_id, idempotency_key;
    credstore_slice presented; /* an API key or client secret, without "Bearer "; absent too: 401 */
} credstore_request;

typedef struct credstore_answer {
    uint32_t struct_size;
    int32_t status; /* a credstore_status; 304 has OK */
    uint32_t http_status, retry_after_s;
    uint64_t revision;                      /* 0 if none */
    const char *content_type, *etag, *body; /* NULL if none */
    size_t body_len;
} credstore_answer;

/* Answers one request in the words of the kind's document; refusals are answers too. Never NULL:
   when memory is out it is a static 500. Free it with credstore_answer_free(), which wipes it. */
CREDSTORE_API const credstore_answer *credstore_handle(credstore *store,
                                                       const credstore_request *request);
CREDSTORE_API void credstore_answer_free(const credstore_answer *answer); /* NULL is nothing */

#ifdef __cplusplus
}
#endif

#include "credstore/api_key.h"
#include "credstore/checkbook.h"
#include "credstore/service_credential.h"
#include "credstore/stripe.h"

#endif
