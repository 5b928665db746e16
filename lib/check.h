/* SPDX-License-Identifier: MIT
 *
 * The inspection of a store: each value opened and held against what must agree with it, in one
 * snapshot. Check reports what it notes; repair mends of it what can be derived from the records.
 */
#ifndef CS_CHECK_H
#define CS_CHECK_H

#include "issue.h"
#include "ledger.h"
#include "load.h"
#include "place.h"

/* ---- flaws ---- */

enum { CS_FLAWS_MAX = 32, CS_PLAIN_MAX = 2 * CS_ID_MAX + 2 };
typedef enum cs_mend { CS_MEND_NONE, CS_MEND_PUT, CS_MEND_DEL } cs_mend;

/* Something that is not as it must be. */
typedef struct cs_flaw {
    credstore_status status;
    uint32_t kind;
    uint64_t revision, seq;
    const char *table, *field; /* static */
    char tenant[CS_ID_MAX + 1], parent[CS_ID_MAX + 1], id[CS_ID_MAX + 1];
    char message[sizeof((credstore_error *)0)->message];
    cs_key key;     /* of the value at fault, or of the one that is missing */
    uint64_t topic; /* what it makes known: told once; 0 = itself alone */
    cs_mend mend;   /* of key: puts plain there, sealed, or deletes what is there */
    size_t plain_len;
    uint8_t plain[CS_PLAIN_MAX];
} cs_flaw;

/* ---- what was seen ---- */

typedef struct cs_counts {
    uint64_t values, records, history, parts, audit_entries, unreadable;
} cs_counts;

/* Topics that were told, so that one loss is one finding. When it is full the rest is told as often
 * as it is met. */
enum { CS_TOLD = 8192 };

/* Which record is at which revision, as the audit tells: a Bloom filter. */
typedef struct cs_sketch {
    uint64_t *words;
    uint64_t bits; /* a power of two; 0 = there is none */
    uint64_t seq;  /* it has all entries up to here */
    bool whole;    /* and none was pruned or lost */
} cs_sketch;

typedef struct cs_inspection {
    credstore *store;
    cs_txn *txn; /* the snapshot of the moment */
    bool has_head, has_anchor;
    cs_head head;
    cs_anchor gone;
    bool reveals;           /* secrets are opened */
    bool unopened;          /* some could not be: the root key opens none */
    credstore_secret *room; /* for an opened secret */
    cs_counts counts;
    cs_sketch sketch;
    uint64_t seed;
    uint64_t *told; /* CS_TOLD of them, or NULL: nothing is remembered */
    size_t told_count;
    uint64_t chain_seq; /* the chain value after an entry, at hand; 0 = none */
    uint8_t chain[CS_CHAIN_LEN];
    char organization[CS_ID_MAX + 1]; /* whose entry was found last in this snapshot */
    size_t flaw_count;
    cs_flaw flaws[CS_FLAWS_MAX];
    cs_flaw spare; /* filled in by those whose flaw is not wanted */
} cs_inspection;

/* Room and seed, before any transaction. E_NO_MEMORY, E_ENTROPY. Ended by the other also if it
 * failed. */
credstore_status cs_inspection_begin(cs_inspection *in, credstore *store, bool tells,
                                     credstore_error *err);
void cs_inspection_end(cs_inspection *in);

/* Takes a snapshot for what is inspected next. */
credstore_status cs_inspection_turn(cs_inspection *in, cs_txn *txn, credstore_error *err);

/* Notes each value that every store has and this one has not. */
credstore_status cs_inspect_presence(cs_inspection *in, credstore_error *err);

/* A batch of values: keys, and which of them had flaws. */
enum { CS_BATCH = 128 };
typedef struct cs_batch {
    size_t count, flawed_count;
    cs_key keys[CS_BATCH];
    credstore_bytes values[CS_BATCH]; /* while the snapshot lasts */
    bool flawed[CS_BATCH];
} cs_batch;

/* Inspects the next values from *from on, up to `to`, in a snapshot of their own, and moves *from
   behind them. Its flaws are not kept: what was flawed is to be inspected once more, in another
   snapshot or in the transaction that mends it. */
credstore_status cs_inspect_batch(cs_inspection *in, cs_key *from, const cs_key *to,
                                  cs_batch *batch, credstore_error *err);
/* Inspects the value of a key again, if it is still there. Counts nothing. */
credstore_status cs_inspect_again(cs_inspection *in, const cs_key *key, credstore_error *err);

/* ---- a table each ---- */

typedef struct cs_subject {
    cs_place place;
    credstore_bytes key, value;
} cs_subject;

typedef credstore_status cs_inspect_fn(cs_inspection *in, const cs_subject *s,
                                       credstore_error *err);
cs_inspect_fn cs_inspect_header, cs_inspect_root, cs_inspect_keyring, cs_inspect_catalogue;
cs_inspect_fn cs_inspect_rotation, cs_inspect_end;
cs_inspect_fn cs_inspect_lane, cs_inspect_record;
cs_inspect_fn cs_inspect_owner, cs_inspect_receipt, cs_inspect_purge, cs_inspect_usage;
cs_inspect_fn cs_inspect_alias, cs_inspect_fingerprint, cs_inspect_digest, cs_inspect_token;

/* ---- for those ---- */

/* A status that tells of damage, and not of a failure to look. */
bool cs_is_damage(credstore_status status);
/* OK for OK and for damage; else the status, told in *err as `why` tells it. */
credstore_status cs_unless_damage(credstore_status status, const credstore_error *why,
                                  credstore_error *err);

/* Notes a flaw; never NULL. It is not kept if its topic was told, or noted just now. */
cs_flaw *cs_flaw_note(cs_inspection *in, const char *table, credstore_bytes key,
                      credstore_status status, uint64_t topic, const char *message);
/* The same of the subject, with what its place tells. */
cs_flaw *cs_flaw_of(cs_inspection *in, const cs_subject *s, credstore_status status, uint64_t topic,
                    const char *message);
void cs_flaw_locate(cs_flaw *flaw, const cs_locator *at, uint64_t revision);
void cs_flaw_owned(cs_flaw *flaw, const cs_record *record);
void cs_flaw_put(cs_flaw *flaw, credstore_bytes plain);

uint64_t cs_topic_record(const cs_inspection *in, const cs_locator *at);
uint64_t cs_topic_key(const cs_inspection *in, credstore_bytes key);
bool cs_is_told(const cs_inspection *in, uint64_t topic);
bool cs_is_known(const cs_inspection *in, uint64_t topic); /* told, or noted just now */
void cs_tell(cs_inspection *in, uint64_t topic);

/* Makes room for about so many entries. */
credstore_status cs_sketch_begin(cs_inspection *in, uint64_t entries, credstore_error *err);
void cs_sketch_add(cs_inspection *in, const cs_locator *at, uint64_t revision);
bool cs_sketch_has(const cs_inspection *in, const cs_locator *at, uint64_t revision);
/* Adds the entries that came since. */
credstore_status cs_sketch_catch_up(cs_inspection *in, credstore_error *err);

/* Is anything there? */
credstore_status cs_is_there(cs_inspection *in, const cs_key *key, bool *there,
                             credstore_error *err);
/* From a key up to, and not with, another. */
credstore_status cs_any_there(cs_inspection *in, const cs_key *from, const cs_key *to, bool *any,
                              credstore_error *err);
/* Opens the body of the subject into *plain (the caller's to free). *ok = false: it is damaged, and
   that is noted. */
credstore_status cs_open_subject(cs_inspection *in, const cs_subject *s, cs_buf *plain, bool *ok,
                                 credstore_error *err);
/* A record, now or as history has it (revision other than 0). *readable = false: damaged, which is
   told where it lies. Neither found nor removed: it is not there. */
credstore_status cs_fetch(cs_inspection *in, const cs_kind *kind, const cs_locator *at,
                          uint64_t revision, cs_loaded *out, bool *readable, credstore_error *err);

/* Does a removed record's history have to be there still? */
bool cs_is_retained(const cs_inspection *in, const cs_record *removed);

/* The record's value was not issued here: found by its digest alone. */
bool cs_is_import(const cs_kind *kind, const cs_record *record);

#endif
