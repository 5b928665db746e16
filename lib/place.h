/* SPDX-License-Identifier: MIT
 *
 * What lies under a key: which table, about which record, and under what labels its boxes were
 * sealed. For those who walk a whole store: check, repair, rotation.
 */
#ifndef CS_PLACE_H
#define CS_PLACE_H

#include "record.h"

typedef struct cs_place {
    uint8_t table, role; /* role: of the first box, CS_ROLE_x */
    const char *name;    /* of the table, for reports */
    cs_locator at;       /* record, history, owner (scope: the owner's MAC), usage, purge,
                            fingerprint; id points into the key */
    uint64_t revision;   /* record: as the value says; history, fingerprint: as the key; end: the
                            time */
    uint64_t seq;        /* audit entry */
    uint32_t day;        /* receipt, purge */
    uint16_t field;      /* fingerprint */
    cs_label label;      /* of the first box; points into the key */
} cs_place;

/* Which of the data keys' boxes a value holds: one body, and behind it the secret ones. */
typedef struct cs_sealed_box {
    uint8_t purpose; /* CS_PURPOSE_BODY or _SECRET */
    cs_label label;
    cs_box box;
    uint16_t field; /* a part's field and revision */
    uint64_t revision;
} cs_sealed_box;
enum { CS_BOXES_MAX = CS_FIELDS_MAX + 1 };

/* Reads a key and the clear outside of its value. False: no key or value that this library writes.
   Header, root slots and keyring have a place, but no boxes under data keys. */
bool cs_place_of(credstore_bytes key, credstore_bytes value, cs_place *out);

/* Lists the boxes of a value at its place. False: the value is not laid out as it should. */
bool cs_place_boxes(const cs_place *place, credstore_bytes value, cs_sealed_box out[CS_BOXES_MAX],
                    size_t *count);

#endif
