/* SPDX-License-Identifier: MIT
 *
 * A record in memory and as its stored value: a sealed body of TLVs, then one sealed part a secret.
 */
#ifndef CS_RECORD_H
#define CS_RECORD_H

#include <stdbool.h>

#include "envelope.h"

struct cs_kind;

enum { CS_FIELDS_MAX = 16, CS_PERMISSION_BYTES = 64, CS_BODY_MAX = 64 * 1024 };

/* One field's value. Which members mean something depends on the field's type. */
typedef struct cs_value {
    bool present;
    credstore_bytes bytes; /* text; the permission bits; a secret's mask */
    int64_t number;        /* flag, time; a secret's set-at */
    uint64_t part_revision;
    uint8_t part_tag[CS_TAG_LEN];
    uint8_t fingerprint[CS_FINGERPRINT_LEN];
} cs_value;

/* A sealed part as it lies in the value. */
typedef struct cs_part {
    uint16_t field;
    uint64_t revision;
    cs_box box;
    credstore_bytes whole; /* header and box */
} cs_part;

/* A secret that was rolled and stays good for a while: its part lies beside the current one. */
typedef struct cs_previous {
    uint16_t field;
    int64_t until;
    uint64_t part_revision;
    uint8_t part_tag[CS_TAG_LEN];
    uint8_t fingerprint[CS_FINGERPRINT_LEN];
} cs_previous;

typedef struct cs_record {
    uint64_t revision, incarnation;
    int64_t created_at, updated_at, removed_at; /* removed_at: of a tombstone, else 0 */
    credstore_bytes owner, parent, id;
    size_t previous_count, part_count, unknown_count;
    cs_value values[CS_FIELDS_MAX]; /* as the kind's fields */
    /* From here on as many as are counted above: the rest is not cleared, which would cost a reader
       more than the reading. */
    cs_previous previous[CS_FIELDS_MAX];
    cs_part parts[CS_FIELDS_MAX];
    credstore_bytes unknown[CS_FIELDS_MAX]; /* members of a newer library, kept whole on rewrite */
} cs_record;

/* The clear outside of a stored value. */
typedef struct cs_frame {
    uint8_t role;
    uint64_t revision;
    cs_box body;
    cs_part parts[CS_FIELDS_MAX];
    size_t part_count;
} cs_frame;

/* The role that a value claims; opening it under that role is the proof. 0: too short to have one.
 */
uint8_t cs_frame_role(credstore_bytes value);

credstore_status cs_frame_read(credstore_bytes value, uint8_t role, cs_frame *frame,
                               credstore_error *err);

/* Makes it empty. */
void cs_record_clear(cs_record *record);

/* Reads a body that was opened, and holds it against the parts of the frame: each part that the
   body names must be there with its revision and tag or, in history, may be elsewhere. */
credstore_status cs_record_decode(const struct cs_kind *kind, const cs_frame *frame,
                                  credstore_bytes body, cs_record *record, credstore_error *err);

/* Shows each part that a plain body names, with its tag, which may be replaced where it stands; all
   else stays as it is, byte for byte. E_FORMAT: it holds what only a newer library understands. */
typedef void cs_part_visit(void *arg, uint16_t field, uint64_t revision, uint8_t tag[CS_TAG_LEN]);
credstore_status cs_record_names(const struct cs_kind *kind, uint8_t *body, size_t len,
                                 cs_part_visit *visit, void *arg, credstore_error *err);

/* Appends the plain body. */
void cs_record_encode(const struct cs_kind *kind, const cs_record *record, cs_buf *out);

/* Appends format, role, part count and revision: a value's beginning, before the body's box. */
void cs_frame_begin(cs_buf *out, uint8_t role, uint16_t part_count, uint64_t revision);
/* Appends a part's header, before its box. */
void cs_part_begin(cs_buf *out, uint16_t field, uint64_t revision);

/* An actor's record: is its life over, now or once for good? */
bool cs_record_expired(const struct cs_kind *kind, const cs_record *record, int64_t now);

/* The part of a field that was sealed at a revision, or NULL. */
const cs_part *cs_record_part(const cs_record *record, uint16_t field, uint64_t revision);
/* The fingerprint that the body has of a part, whether current or in its grace, or NULL. */
const uint8_t *cs_record_fingerprint(const struct cs_kind *kind, const cs_record *record,
                                     uint16_t field, uint64_t revision);
/* The rolled secret of a field, or NULL. */
const cs_previous *cs_record_previous(const cs_record *record, uint16_t field);

#endif
