/* SPDX-License-Identifier: MIT
 *
 * credstore.h - a typed, encrypted, transactional home for the credentials that a service keeps and
 * for those that it issues. libcredstore(7) has the concepts, credstore-format(5) the bytes on
 * disk.
 *
 * What holds for every declaration here:
 *
 * Threads. A credstore may be used by any number of threads at once. Patches, calls, actors and
 * origins are read only during the call. A view, a secret, an answer or a key source belongs to one
 * owner and may be handed from thread to thread, never shared. Changes that threads of a process
 * ask for at the same time are made durable together; each is answered for itself. A thread that is
 * cancelled while it changes something ends after the call: at most wait_ms and one commit later.
 *
 * Forks. After fork() every call in the child on the parent's store answers E_FORKED; only
 * credstore_close() and the free functions work there. The parent's secrets are blank there, and so
 * are its key sources of bytes, files and passphrases: those are E_FORKED too. A child makes a key
 * source and opens a store of its own.
 *
 * Strings. NUL-terminated UTF-8 unless a length stands beside the pointer.
 *
 * Times. Milliseconds since 1970-01-01T00:00:00Z, UTC, leap seconds not counted; 0 = none.
 *
 * Sizes. Every struct of this header that crosses the boundary starts with struct_size, the sizeof
 * that the caller was compiled with. Structs only ever grow at the end. A shorter one leaves the
 * missing members at their zero meaning; in a longer one the tail that this library does not know
 * must be zero, else E_UNSUPPORTED. A size of 0, or one that ends inside a member, is E_INVALID.
 * Members named reserved are to be zero.
 *
 * Errors. Functions answer a credstore_status. The last argument, if not NULL, is filled on every
 * return. On an error nothing was changed and *out is NULL. error.field names a member as the
 * kind's document does (flatPermissionsList), or an argument.
 *
 * Any call on a store may answer E_INVALID (a NULL or malformed argument), E_FORKED, E_NO_MEMORY,
 * E_STORAGE, E_BUSY, E_INTEGRITY, E_FORMAT, E_KEY_UNAVAILABLE, E_INTERNAL. Who takes a
 * credstore_call may also answer E_UNAUTHENTICATED, E_EXPIRED (the actor's time is over),
 * E_FORBIDDEN, E_UNSUPPORTED (a newer struct or flag). Any change may answer E_REVOKED (the actor
 * is an API key that was removed), E_REVISION, E_CONFLICT, E_TOO_LARGE, E_FULL, E_COMMIT_UNKNOWN,
 * E_ROLLBACK, E_ENTROPY as well. What else, each function says.
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
    CREDSTORE_E_BUSY = 14,        /* [503] the writer's turn did not come within wait_ms; or what
                                     error.message names instead: a reader's place, room */
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

/* Told of long work now and then, in the calling thread: done of total, in whatever unit; total 0 =
   not known. Must not call the store. */
typedef void (*credstore_progress)(void *ctx, uint64_t done, uint64_t total);

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
    CREDSTORE_ROLE_SUPER = 2  /* administrator of every tenant, in calls that name one: without
                                 credstore_call.tenant, or an organization in the path, the role
                                 counts for nothing (E_FORBIDDEN, unless another rule lets him) */
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
    int64_t wait_ms;             /* for the writer's turn, in line and at the engine, then E_BUSY
                                    and nothing changed; 0 = the store's default. A change that has
                                    been taken into a commit with others is waited for, and, if
                                    that commit fails as a whole, has its time once more */
    const char *idempotency_key; /* create, issue and roll: 1..255 visible ASCII characters, or
                                    NULL. The same key from the same actor, tenant and verb within
                                    24 hours gets the first answer again, token included; with
                                    another request E_IDEMPOTENCY. Create and issue are one verb
                                    here. E_NOT_FOUND: the record was removed since, or has moved
                                    on by more than the 100 revisions that history keeps. Other
                                    verbs do not look at it */
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
/* What it answers. Anything else is taken for FORBID, 0 above all: a hook that raises in a language
   binding may return that, and must not have allowed. */
enum {
    CREDSTORE_POLICY_ALLOW = 1,
    CREDSTORE_POLICY_FORBID = 2, /* E_FORBIDDEN */
    CREDSTORE_POLICY_HIDE = 3    /* E_NOT_FOUND, as if the record were not there */
};
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

struct credstore_checkpoint; /* below: the audit */

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
    int64_t (*now_ms)(void *ctx); /* a clock for tests; NULL = CLOCK_REALTIME. Any thread. 0 or
                                     less: it cannot tell, and the largest time seen stands */
    void *now_ctx;
    int64_t wait_ms; /* default of credstore_call.wait_ms; 0 = 5000 */
    /* Decides instead of the default rules: CREDSTORE_POLICY_x. May be asked the same more than
       once for one call (the door asks before it reads the query, the verb asks again, and a change
       that others overtake begins anew): the answer follows from the question alone, and asking has
       no effect. Called outside transactions, with no lock held, from the calling thread; must not
       call this store. "Nobody grants what he does not hold", and the checks of the actor itself,
       hold beside it. */
    int32_t (*policy)(void *ctx, const credstore_question *question);
    void *policy_ctx;
    void (*event)(void *ctx,
                  const credstore_event *event); /* called likewise; costs no transaction */
    void *event_ctx;
    const struct credstore_checkpoint *anchor; /* NULL = none; see Anchors */
} credstore_options;

/* A root key in a file: exactly 32 bytes, a regular file that only its owner can read.
   CREDSTORE_KEY_CREATE makes one (0600, random, synced) if there is none.
   E_NOT_FOUND: no file. E_FORBIDDEN: others can read it, or it is another user's and not root's, or
   may not be read or made. E_INVALID: not 32 bytes, not a regular file. E_FULL, E_ENTROPY. */
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
   E_UNSUPPORTED: a network file system; a second copy of the library, or a process of another PID
   namespace, has it open; this process has it open read-only, and here it would be written. E_BUSY:
   another process is opening it, or a key service cannot answer now. E_TOO_LARGE: the catalogue.
   E_FULL. E_INTEGRITY, E_ROLLBACK: not what was written. New permissions of the catalogue are a
   change, and may answer what any change may. Otherwise opening a folder twice in one process is
   allowed.
   An older state of the whole file, put back while it is open, is found by the next change and by
   the next open, which look at the store's generation; a read does not, and answers from what lies
   there. A data file that another was moved over, or that was removed, answers E_STORAGE to both
   until it is closed here. */
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
   The store's two keys stay as they are, and they seal the keyring: who has taken them, by a root
   key that was removed since and a copy of the file from that time, or from a process's memory,
   opens every later copy of the file that he comes by, rotated or not. Only a new store, to which
   the records are carried, has others.
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
    int32_t status;          /* E_INTEGRITY: not laid out as a slot; it stands in for no other */
} credstore_root_slot;
typedef struct credstore_root_page {
    uint32_t struct_size, count;
    const credstore_root_slot *const *items; /* by rising number */
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
   Nothing found is OK with count 0. A secret or token is known while it is current or in its grace,
   and as long as history has a revision with it: for 100 revisions, and for 30 days after its
   record's removal. Of a removed record the tombstone knows the last token, and the one in its
   grace then, for good. Free *out with credstore_free(). */
CREDSTORE_API credstore_status credstore_leak_find(credstore *store, const credstore_call *call,
                                                   const char *text, size_t len,
                                                   const credstore_leaks **out,
                                                   credstore_error *err);

/* Removes every record of the call's tenant, of every kind, for about budget_ms (0 = all). A call
   looks at the store's records until it comes to one of the tenant, which takes the time that it
   takes; the budget counts from there, so each call gets on. *more (may be NULL) is 1 if the budget
   ended first: call again, with the same, until it is 0; a crash loses nothing. *removed (may be
   NULL) counts this call's. SYSTEM or SUPER, and the call must name the tenant: E_INVALID. Each
   removal is in the audit. E_INTEGRITY, E_FORMAT: what cannot be read stays, with all else removed.
 */
CREDSTORE_API credstore_status credstore_offboard(credstore *store, const credstore_call *call,
                                                  uint32_t budget_ms, uint32_t *more,
                                                  uint64_t *removed, credstore_error *err);

/* ---- maintenance --------------------------------------------------------------------------------
 */

/* Does the work that time asks for, for about budget_ms (0 = all): writes down last-used times,
   drops receipts that are over, the history of records that were removed 30 days ago, and places of
   dead readers; ends graces and keys. (History beyond the newest 100 revisions goes with the
   changes themselves.) There is no thread of ours: call it once a minute, from one process or
   several. Nothing that is over is accepted before it runs. *more (may be NULL) is 1 if the budget
   ended first.

   A secret or token whose grace is over leaves its record, and an API key whose time is over is
   marked, each by a revision (CREDSTORE_ACTION_EXPIRE, by SYSTEM "maintenance") that moves no
   updated_at. From then on it is over for good, also when the clock goes back; a new expiry alone
   revives a key. So it needs a clock that is believed: one that is a day or more ahead of what was
   believed is so only when a later call has found it a day older, and not gone back. Until then
   what is over by it is refused and not marked, and no history and no receipt is dropped by it: a
   clock that jumps ten years ahead for less than a day ends nothing.

   What is damaged is passed over, stays, and is told at the end, each time: E_INTEGRITY or E_FORMAT
   with all else done. E_FORBIDDEN: the store is read-only. */
CREDSTORE_API credstore_status credstore_maintain(credstore *store, uint32_t budget_ms,
                                                  uint32_t *more, credstore_error *err);

/* ---- data keys: rotation ------------------------------------------------------------------------
 */

/* Whatever lies in a store is sealed under data keys of its own, which only the store holds. Those
   that seal rotate, one for bodies and one for secrets: credstore_keys_promote() makes new ones,
   then credstore_keys_reseal() until *more is 0. Everything else goes on meanwhile, in this process
   and in others. The keys of names and of the audit's chain do not rotate. Freed pages of the data
   file keep what was sealed under an old key until credstore_erase(). The new keys lie in the store
   as the old ones did: rotation shuts out who has had those, not who has the store's own two keys
   (see root slots). All three are for SYSTEM and for USER with SUPER: others E_FORBIDDEN. Any
   thread. */
enum {
    CREDSTORE_PURPOSE_BODY = 1,   /* seals all but secrets */
    CREDSTORE_PURPOSE_SECRET = 2, /* seals secrets */
    CREDSTORE_PURPOSE_NAME = 3,   /* keyed names: scopes, indexes, cursors, fingerprints */
    CREDSTORE_PURPOSE_CHAIN = 4   /* the audit's chain */
};
enum {
    CREDSTORE_DATA_KEY_ACTIVE = 1,   /* seals and opens */
    CREDSTORE_DATA_KEY_RETIRING = 2, /* opens */
    CREDSTORE_DATA_KEY_RETIRED = 3   /* gone; its number is not given out again */
};
typedef struct credstore_data_key {
    uint32_t struct_size, id;
    uint32_t purpose, suite; /* CREDSTORE_PURPOSE_x, CREDSTORE_SUITE_x */
    uint32_t state, reserved;
    uint64_t boxes; /* what is sealed under it; 0 without COUNT, and of NAME and CHAIN */
} credstore_data_key;
typedef struct credstore_data_key_page {
    uint32_t struct_size, count;
    uint64_t version; /* of the keyring: one more at each promotion and each retirement */
    const credstore_data_key *const *items; /* by rising id; at most 64 */
} credstore_data_key_page;

/* Lists the data keys into *out; free with credstore_free(). flags: CREDSTORE_KEYS_COUNT counts
   what each protects, which looks at every value of the store, without opening any, in many short
   transactions: exact where nobody writes. E_UNSUPPORTED: an unknown flag. */
enum { CREDSTORE_KEYS_COUNT = 1 };
CREDSTORE_API credstore_status credstore_keys_list(credstore *store, const credstore_call *call,
                                                   uint32_t flags,
                                                   const credstore_data_key_page **out,
                                                   credstore_error *err);

/* Makes a new active key for each purpose that is named (0 = both); those that were active retire:
   from the moment that this returns nothing is sealed under them, in any process. Their values stay
   readable. In the audit, and only that: with call->expected_revision at the version of
   credstore_keys_list() a second try makes no second keys (E_REVISION). May be called while older
   keys are still retiring. E_INVALID: another purpose. E_CONFLICT: 64 keys are there, none of them
   retired; or others changed the keyring all the time. E_FORBIDDEN: read-only. E_KEY_UNAVAILABLE:
   the store was opened with READ alone. E_REVISION, and what any change may answer. */
enum { CREDSTORE_KEYS_BODY = 1, CREDSTORE_KEYS_SECRET = 2 };
CREDSTORE_API credstore_status credstore_keys_promote(credstore *store, const credstore_call *call,
                                                      uint32_t purposes, credstore_error *err);

/* Seals anew what is under retiring keys, for about budget_ms (0 = all), in batches of one short
   transaction each; where it stands is kept in the store, so that a kill at any point costs a
   batch. A record is taken whole, with its history; no revision and no time of it changes. When a
   round over the whole store has found nothing under the retiring keys, they are retired, their
   material is taken out of the store, the audit tells of it, and *more (may be NULL) is 0; else it
   is 1, and the next call goes on. Nothing retires: OK, 0. One process does it; two are as good,
   and no faster. progress may be NULL; total is an estimate, 0 while the values are counted.
   E_INTEGRITY: all else is done, but values cannot be opened; error.field names the table of the
   first, credstore_check() all of them. Nothing is lost, and the old keys stay for them: put them
   right, and call again; or call with CREDSTORE_KEYS_FORSAKE, which retires the keys all the same
   and leaves these values as they are: unreadable, for good. Also: where it stood, as it was kept,
   is damaged; a promotion begins anew. E_FORMAT: values of a newer library; rotate with that one.
   E_UNSUPPORTED: an unknown flag. E_FORBIDDEN: read-only. E_KEY_UNAVAILABLE: the store was opened
   with READ alone. After any error another call goes on where this one was. */
enum { CREDSTORE_KEYS_FORSAKE = 1 };
CREDSTORE_API credstore_status credstore_keys_reseal(credstore *store, const credstore_call *call,
                                                     uint32_t flags, uint32_t budget_ms,
                                                     credstore_progress progress,
                                                     void *progress_ctx, uint32_t *more,
                                                     credstore_error *err);

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
       CREDSTORE_ACTION_ROOT_REMOVE = 14,
       CREDSTORE_ACTION_KEYS_PROMOTE = 15, /* of data keys; revision is the keyring's version */
       CREDSTORE_ACTION_KEYS_RETIRE = 16,
       CREDSTORE_ACTION_EPOCH = 17,  /* put back by credstore_restore(); revision is the epoch */
       CREDSTORE_ACTION_REPAIR = 18, /* of indexes; revision is how many entries */
       CREDSTORE_ACTION_EXPIRE = 19  /* maintenance found over: what `changed` names */
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
    uint64_t generation, seq; /* commits of the store, entries of the audit */
    uint8_t chain[32];
    uint64_t epoch; /* 1 of a new store; each credstore_restore() adds one; 0 = not compared */
} credstore_checkpoint;

/* Walks the whole audit and proves its chain. known (may be NULL) is an earlier checkpoint:
   E_NOT_FOUND if pruning has gone past it, E_ROLLBACK if the store is behind it or has another
   history. *now (may be NULL) gets today's. SYSTEM or SUPER. E_INTEGRITY. */
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

/* ---- anchors ------------------------------------------------------------------------------------
 *
 * Whoever can write the store's files can put an old copy of them back, and nothing inside tells.
 * An anchor is a checkpoint that is kept where he cannot write. Given as options.anchor, the store
 * is held against it when it is opened: E_ROLLBACK if it is older (epoch, generation or audit), if
 * it has another history at that place of the audit (pruned places are passed over), if it was put
 * back by credstore_restore() since, or if it is gone, even with CREDSTORE_OPEN_CREATE. A restored
 * store is accepted by taking a new anchor of it: credstore_restore() hands it out.
 *
 * Before the store is opened (E_NOT_FOUND: the first time, there is none):
 *
 *     status = credstore_anchor_read("/elsewhere/anchor", &anchor, &err);
 *     if (status == CREDSTORE_OK)
 *         options.anchor = &anchor;
 *
 * Now and then; what came after the last one is unprotected:
 *
 *     credstore_anchor_take(store, &call, &anchor, &err);
 *     credstore_anchor_write("/elsewhere/anchor", &anchor, 0, &err);
 */

/* A checkpoint of now; the audit is not walked. SYSTEM or SUPER. *out is the caller's, and gets its
   struct_size here. */
CREDSTORE_API credstore_status credstore_anchor_take(credstore *store, const credstore_call *call,
                                                     credstore_checkpoint *out,
                                                     credstore_error *err);

/* Reads an anchor from a file. E_NOT_FOUND: no file. E_INTEGRITY: empty, cut short or damaged; it
   is then not to be taken for none. E_FORMAT: a newer library's. E_FORBIDDEN, E_INVALID: not a
   regular file. The file is trusted: it is not authenticated, the place must be. */
CREDSTORE_API credstore_status credstore_anchor_read(const char *path, credstore_checkpoint *out,
                                                     credstore_error *err);

/* Replaces the file by this anchor, or makes it (0600): the old one or the new one whenever the
   process ends, durable on OK. An anchor never goes back: one that is older than the file's, of the
   same epoch, leaves the file and is OK. Of another epoch: E_ROLLBACK; over a damaged file:
   E_INTEGRITY; unless flags has CREDSTORE_ANCHOR_ACCEPT. E_BUSY: another process is writing it.
   E_NOT_FOUND: no such folder. E_FORBIDDEN, E_FULL. */
enum { CREDSTORE_ANCHOR_ACCEPT = 1 };
CREDSTORE_API credstore_status credstore_anchor_write(const char *path,
                                                      const credstore_checkpoint *anchor,
                                                      uint32_t flags, credstore_error *err);

/* ---- backup -------------------------------------------------------------------------------------
 */

/* Copies the store, as it is at one moment, into a new folder `path` while others read and write: a
   store of its own, with the same root slots, on LMDB whatever engine it comes from. The folder is
   made as <path>.part beside it, put on disk, and named at the end: it is whole or not there. Modes
   as the store's (CREDSTORE_OPEN_GROUP). What an interrupted backup left is cleared away by the
   next one to that path.

   flags 0: page by page where the engine can, free pages included. CREDSTORE_BACKUP_COMPACT, and
   all engines that cannot: pair by pair, dense, without what was deleted; slower. (LMDB's own
   compacting copy starts a thread; this does not.)

   It is one read snapshot for its whole time: LMDB cannot use pages anew that are freed meanwhile,
   so the store's file grows by what is written during it. progress may be NULL.

   SYSTEM or SUPER. E_EXISTS: anything is at path, or a stranger's at <path>.part. E_NOT_FOUND: no
   folder to make it in. E_BUSY: another is making it. E_FULL: no room; nothing is left behind.
   E_FORBIDDEN, E_UNSUPPORTED (unknown flag, network file system). */
enum { CREDSTORE_BACKUP_COMPACT = 1 };
CREDSTORE_API credstore_status credstore_backup(credstore *store, const credstore_call *call,
                                                const char *path, uint32_t flags,
                                                credstore_progress progress, void *progress_ctx,
                                                credstore_error *err);

/* Makes a store in the new folder `path` from a backup, or from any store's folder that nobody has
   open, which stays as it is. Nothing in it is believed: it is read without LMDB, held against its
   own structure, then every value is opened, the audit is proved from end to end, and
   credstore_check() finds nothing. The new store begins a new epoch, with an entry in the audit:
   who holds an anchor of the old one gets E_ROLLBACK until he takes a new one. *now (may be NULL)
   is that. The folder is made as that of credstore_backup() is.

   options: as for credstore_open(); key must open secrets too; flags may be CREDSTORE_OPEN_GROUP
   alone; storage must be NULL; catalogue, policy and event are not used; crypto_ctx stays the
   caller's; anchor: one that the backup must not be older than.

   E_NOT_FOUND: no backup, or no folder to make it in. E_EXISTS: something is at path. E_BUSY:
   someone has the backup open, or another makes the same. E_INTEGRITY: the backup is cut short,
   damaged or edited. E_FORMAT: of a newer library. E_KEY_UNAVAILABLE, E_ROLLBACK, E_FULL,
   E_FORBIDDEN, E_UNSUPPORTED. */
CREDSTORE_API credstore_status credstore_restore(const char *backup, const char *path,
                                                 const credstore_options *options,
                                                 credstore_checkpoint *now, credstore_error *err);

/* Rids the folder of what the store does not hold any more: freed pages keep old ciphertext until
   they are used anew. Writes a compact copy beside the data file, reads it back, and puts it in its
   place: the old or the new one whenever the process ends, and what an interrupted call left is
   cleared away by the next one, or by the next opening. After a key rotation whose old keys are
   retired nothing sealed under those is left in the folder. The store must be closed everywhere:
   E_BUSY. Needs room for a second copy: E_FULL, and the store is as it was.

   It unlinks; it does not overwrite. The file system may keep the old blocks until it writes over
   them; a journal, snapshots, copies on write, backups and an SSD's spare blocks keep them longer.
   What makes old ciphertext worthless there is that its keys are gone: rotate first.

   options: as for credstore_open(): key must open the store; flags may be CREDSTORE_OPEN_GROUP
   alone, storage must be NULL, crypto_ctx stays the caller's. Statuses as credstore_open(). */
CREDSTORE_API credstore_status credstore_erase(const char *path, const credstore_options *options,
                                               credstore_error *err);

/* ---- statistics ---------------------------------------------------------------------------------
 */

/* What the store holds of one kind. */
typedef struct credstore_kind_count {
    uint32_t struct_size, kind;
    uint64_t records, removed; /* removed: ids that stay taken */
    uint64_t history;          /* past revisions */
} credstore_kind_count;

/* 0 = not known, or none. */
typedef struct credstore_stats {
    uint32_t struct_size, keys; /* data keys, of all states */
    uint64_t epoch, generation; /* generation: commits since the store was made */
    uint64_t audit_seq;         /* the last entry's number */
    uint64_t entries;           /* key-value pairs of the engine */
    uint64_t file_bytes;        /* of the data file */
    uint64_t map_bytes;         /* up to which it grows before it is mapped anew */
    uint64_t pages, free_pages; /* of the file */
    uint64_t page_bytes;
    uint64_t readers, readers_max; /* places for readers, of all processes; kept ones included */
    uint64_t commits;   /* by this process since it opened the store: one flush of the disk each */
    uint64_t changes;   /* in those */
    uint64_t largest;   /* group of changes that one of them took */
    uint64_t groups[8]; /* commits of 1, 2..3, 4..7, 8..15, ... 128 and more changes */
    const credstore_kind_count *const *kinds; /* with CREDSTORE_STATISTICS_KINDS */
    size_t kind_count;
} credstore_stats;

/* Figures of now. flags: CREDSTORE_STATISTICS_KINDS counts the records of each kind by walking all
   of their keys in one snapshot: seconds for millions, and the file grows by what is written
   meanwhile; without it the call costs about a read, and a walk of the list of free pages. SYSTEM
   or SUPER. Free *out with credstore_free(). E_UNSUPPORTED: an unknown flag. */
enum { CREDSTORE_STATISTICS_KINDS = 1 };
CREDSTORE_API credstore_status credstore_statistics(credstore *store, const credstore_call *call,
                                                    uint32_t flags, const credstore_stats **out,
                                                    credstore_error *err);

/* ---- check and repair ---------------------------------------------------------------------------
 */

/* Something in the store that is not as it must be. Texts are "" where there is none, and live
   during the call. Never a secret. */
typedef struct credstore_finding {
    uint32_t struct_size, kind; /* kind: CREDSTORE_KIND_x, 0 = of none, or not known */
    int32_t status;             /* E_INTEGRITY: damaged, lost, or not agreeing with what belongs to
                                   it; E_ROLLBACK: older than another part of the store tells;
                                   E_FORMAT: a newer library's; E_KEY_UNAVAILABLE: no key opens it */
    uint32_t reserved;
    uint64_t revision,
        seq;           /* of the record; of the audit entry, or of the one that bears witness */
    const char *table; /* "record", "owner index", "audit", "head" ...; "unknown" */
    const char *tenant, *parent, *id; /* of the record, where they could be read */
    const char *field;                /* as in the document: the secret at fault */
    const char *key;     /* the engine's key, in hex, of the value at fault or the one missing */
    const char *message; /* one line, English */
} credstore_finding;

/* All zero: nothing is told but the result. Both are called outside transactions, with no lock
   held, from the calling thread, and answer 0 to go on; anything else ends the check, which answers
   OK with stopped set. */
typedef struct credstore_check_options {
    uint32_t struct_size, flags; /* flags: 0 */
    uint32_t (*finding)(void *ctx, const credstore_finding *finding);
    /* After each batch. estimated: values that there were when the check began, or seen if that is
       more. With it the check counts the values first. */
    uint32_t (*progress)(void *ctx, uint64_t seen, uint64_t estimated);
    void *ctx;
} credstore_check_options;

typedef struct credstore_check_result {
    uint32_t struct_size;      /* set by the caller */
    uint32_t stopped;          /* 1: a callback ended it, and the rest was not looked at */
    uint32_t secrets_unopened; /* 1: the root key given at open reads but does not reveal: no sealed
                                  secret was opened, and all else was checked */
    uint32_t reserved;
    uint64_t findings;
    uint64_t values;             /* of the engine, each once */
    uint64_t records, revisions; /* current or removed; earlier ones in the history */
    uint64_t secrets;            /* opened, held against their fingerprints, and wiped */
    uint64_t audit_entries;
} credstore_check_result;

/* Opens everything: each record, its history, each sealed secret (into locked memory, one at a
   time), index entries, receipts, used marks, queues, catalogue, keyring, header; walks the audit
   and its chain; and holds against one another: index entries and records both ways, history and
   record, the audit and each record's revision, head, anchor and audit. It finds a record that was
   replaced by its own earlier bytes, unless the history was put back with it and the audit of what
   it forgets was pruned. One loss is one finding where that can be known: what only follows from it
   is not told again.

   Root slots are checked by their form: each opens with its own root key alone. A store put back
   whole, audit and all, is consistent: credstore_audit_verify() with a checkpoint tells.

   For use beside running writers, of this and other processes: it reads in short snapshots, and
   looks at what seems wrong once more before it is told. Memory does not grow with the records (at
   most 17 MB; 1 MB for a small audit). options and result may be NULL; *result is filled on OK.
   SYSTEM or SUPER, else E_FORBIDDEN. Findings are no error: OK says that all was looked at. Any
   thread; several at once are allowed. E_UNSUPPORTED: an unknown flag. E_INTEGRITY: the engine's
   own structures are damaged, so that it cannot read on. */
CREDSTORE_API credstore_status credstore_check(credstore *store, const credstore_call *call,
                                               const credstore_check_options *options,
                                               credstore_check_result *result,
                                               credstore_error *err);

typedef struct credstore_repair_result {
    uint32_t struct_size, reserved; /* struct_size: set by the caller */
    uint64_t added, removed;        /* index entries */
    uint64_t unreadable; /* records and revisions that could not be read: what belongs to them
                            was left alone */
} credstore_repair_result;

/* Makes the indexes what the records say: owner lists, tokens, imported tokens, fingerprints of
   secrets, organizations, the queue of removed records. Entries that are lost are made anew,
   entries that are damaged or that no record bears out are removed. Touches no record, no history
   and no audit entry; what cannot be derived is left as credstore_check() found it. An organization
   whose own entry was damaged has lost its label: set it again.

   Each batch is a transaction and an audit entry (CREDSTORE_ACTION_REPAIR) of its own, where there
   is something to do: a crash or an error loses nothing, call again. Beside running writers. result
   may be NULL, and is filled on OK. SYSTEM or SUPER. E_FORBIDDEN: others, or the store is
   read-only. E_BUSY, E_FULL, E_ROLLBACK, E_COMMIT_UNKNOWN, E_CONFLICT, E_ENTROPY. */
CREDSTORE_API credstore_status credstore_repair_indexes(credstore *store,
                                                        const credstore_call *call,
                                                        credstore_repair_result *result,
                                                        credstore_error *err);

/* ---- the HTTP door: any kind, any verb; raw header values in, a whole answer out ----------------
 */

enum {
    CREDSTORE_VERB_GET = 1,
    CREDSTORE_VERB_CREATE = 2,
    CREDSTORE_VERB_UPDATE = 3, /* the document's PUT or PATCH */
    CREDSTORE_VERB_LIST = 4,   /* query: after, before, limit (default 20) */
    CREDSTORE_VERB_REMOVE = 5, /* 204 */
    CREDSTORE_VERB_ROLL = 6,   /* query: grace_s (default 0); issued tokens: shows the new one once;
                                  else the body sets the secrets to be rolled, and nothing else */
    CREDSTORE_VERB_DEACTIVATE = 7,
    CREDSTORE_VERB_REACTIVATE = 8,
    CREDSTORE_VERB_HISTORY = 9, /* query: before (a revision), limit (default 20) */
    CREDSTORE_VERB_RESTORE = 10 /* query: revision */
};

typedef struct credstore_slice {
    const char *ptr; /* NULL = the header or part is absent */
    size_t len;      /* never CREDSTORE_NTS. Any byte may come: what is not allowed is E_INVALID */
} credstore_slice;

typedef struct credstore_request {
    uint32_t struct_size, kind, verb, flags; /* kind: CREDSTORE_KIND_x; flags: 0 */
    const credstore_actor *actor;            /* NULL: `presented` is verified first */
    credstore_slice tenant;                  /* account; absent = the actor's. Of a service
                                              credential the organization, never absent */
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
