/* SPDX-License-Identifier: MIT
 *
 * Input: patches and origins against the kind's table. No record is touched.
 */
#ifndef CS_VALIDATE_H
#define CS_VALIDATE_H

#include "record.h"
#include "store.h"

/* One slot after validation. */
typedef struct cs_input {
    uint32_t op;
    credstore_bytes bytes; /* the caller's, or bits below */
    int64_t number;
} cs_input;

typedef struct cs_inputs {
    cs_input field[CS_FIELDS_MAX]; /* as the kind's fields */
    uint8_t bits[CS_PERMISSION_BYTES];
    union {
        uint64_t align;
        uint8_t bytes[CS_PATCH_MAX];
    } patch;
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin;
    bool has_origin;
    const cs_field *past; /* set to what is to be in the future and is not; NULL = none */
} cs_inputs;

/* E_INVALID if there is one: apart, since the first answer to an idempotency key stands for its
   day, though the time that it names has come. */
credstore_status cs_inputs_check_past(const cs_inputs *inputs, credstore_error *err);

/* Takes patch and origin (may be NULL) and checks each field by itself. create: required fields
   must be set. E_INVALID with the member's name in the document. */
credstore_status cs_inputs_take(const credstore *store, const cs_kind *kind, const void *patch,
                                const void *origin, bool create, cs_inputs *out,
                                credstore_error *err);

/* Checks for the kinds' tables: no control characters; a base URL that points outwards; an id. */
const char *cs_check_printable(const cs_field *field, const char *ptr, size_t len,
                               const cs_rules *rules);
const char *cs_check_visible(const cs_field *field, const char *ptr, size_t len,
                             const cs_rules *rules);
const char *cs_check_base_url(const cs_field *field, const char *ptr, size_t len,
                              const cs_rules *rules);
const char *cs_check_ksuid(const cs_field *field, const char *ptr, size_t len,
                           const cs_rules *rules);
const char *cs_check_uuid(const cs_field *field, const char *ptr, size_t len,
                          const cs_rules *rules);
const char *cs_check_url_id(const cs_field *field, const char *ptr, size_t len,
                            const cs_rules *rules);

/* Holds a value of an earlier revision against today's rules, as far as that goes without opening
 * secrets. */
credstore_status cs_check_stored(const credstore *store, const cs_field *field,
                                 const cs_value *value, credstore_error *err);

/* Members of the origin that all kinds share; NULL or 0 if not given. */
const char *cs_origin_id(const cs_kind *kind, const cs_inputs *inputs);
int64_t cs_origin_time(const cs_inputs *inputs, uint16_t at);

#endif
