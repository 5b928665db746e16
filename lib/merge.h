/* SPDX-License-Identifier: MIT
 *
 * Merging: an old record and validated input make a new one.
 */
#ifndef CS_MERGE_H
#define CS_MERGE_H

#include "load.h"
#include "op.h"
#include "validate.h"

enum { CS_MADE_MAX = 40, CS_SETTLE_RANDOM = 64 };

/* A merge under way. Kinds see it in their settle(). */
typedef struct cs_settle {
    const cs_kind *kind;
    uint8_t role;         /* of the value that will be put: current or tombstone */
    const cs_record *old; /* NULL at creation */
    cs_record fresh;      /* points into old, the input and the texts below */
    const cs_inputs *inputs;
    const cs_loaded *source; /* of a restore: the record as it was; else NULL */
    uint32_t changed;        /* bit i: fields[i] is not what it was */
    uint32_t ended;          /* bit i: the grace of fields[i] is over, found by cs_merge_ends() */
    uint32_t grace_s;        /* of a roll: the replaced secrets stay good for it */
    int64_t now;
    const uint8_t *random;     /* CS_SETTLE_RANDOM bytes, for ids; at creation only */
    char made[2][CS_MADE_MAX]; /* room for ids that settle makes */
    char masks[CS_FIELDS_MAX][CS_MASK_MAX];
} cs_settle;

/* Begins a new record: an id, if none was brought, incarnation and times. settle->inputs is given;
   settle->now becomes the time of its last change. E_INVALID: the kind makes no ids. E_ENTROPY. */
credstore_status cs_merge_creation(cs_txn *txn, cs_op *op, bool has_id, cs_settle *settle,
                                   credstore_error *err);

/* Keep, set or clear per field, then the kind's own rules. settle->kind, old, inputs, now and
   random are given, fresh has the owner, parent and id. E_INVALID: a mask sent back, or the kind's
   own. */
credstore_status cs_merge(const credstore *store, cs_settle *settle, credstore_error *err);

/* Takes the fields that a patch can set from settle->source, as an update with its values would;
   what was issued, and what the kind keeps for itself, stays. E_INVALID: a value that would not be
   taken today. */
credstore_status cs_merge_source(const credstore *store, cs_settle *settle, credstore_error *err);

/* Keeps the secrets that are in their grace, lets go of those that were changed, and with a grace
   keeps those that are changed now. Those whose time is over stay: they are not accepted, and only
   cs_merge_ends() knows a time that is over for good. */
void cs_merge_previous(cs_settle *settle);

/* Lets go of the graces of secrets and tokens that were over at settle->now, and marks a key whose
   life was. */
void cs_merge_ends(cs_settle *settle);

/* Makes fresh the tombstone of old: whose it was and when, and nothing else. */
void cs_merge_removal(cs_settle *settle);

/* For settle(): sets a number and notes the change. */
void cs_settle_number(cs_settle *settle, uint16_t field, bool present, int64_t number);
/* For settle(): makes a field null. */
void cs_settle_clear(cs_settle *settle, uint16_t field);
/* For settle(): sets a text that stays where it is. */
void cs_settle_text(cs_settle *settle, uint16_t field, credstore_bytes text);
const cs_value *cs_settle_value(const cs_settle *settle, uint16_t field);
bool cs_settle_changed(const cs_settle *settle, uint16_t field);

#endif
