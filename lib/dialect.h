/* SPDX-License-Identifier: MIT
 *
 * The documents' JSON: bodies into patches, views and errors into bodies.
 */
#ifndef CS_DIALECT_H
#define CS_DIALECT_H

#include "json/json.h"
#include "page.h"
#include "validate.h"

/* A body as the structs of a typed call. Zero it to start; points into the body's tree and into
 * itself. */
typedef struct cs_body {
    cs_json *json;
    const char **strings;
    size_t offset[CS_FIELDS_MAX]; /* where each field's value stands; 0 = not in the body */
    union {
        uint64_t align;
        uint8_t bytes[CS_PATCH_MAX];
    } patch;
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin;
} cs_body;

/* Parses and takes a body. id (may be NULL) goes into the origin where the kind has it there.
   E_INVALID, E_TOO_LARGE with field and offset. */
credstore_status cs_body_take(const cs_kind *kind, credstore_slice text, bool create,
                              const char *id, cs_body *out, credstore_error *err);
void cs_body_free(cs_body *body);

/* Gives an error that names a member the place of its value. */
void cs_body_place(const cs_kind *kind, const cs_body *body, credstore_error *err);

/* The view in the document's JSON (with a token that was issued, else NULL), and an error in the
   kind's (kind may be NULL). Free with cs_json_text_free(). NULL when memory is out. */
char *cs_view_json(const cs_kind *kind, const void *view, const char *token, size_t *len);
/* past: a history. Each item begins with its revision, and has no time of last use, which is not of
 * a revision. */
char *cs_page_json(const cs_kind *kind, const cs_page *page, bool past, size_t *len);
/* The revision that a view shows. */
uint64_t cs_view_revision(const cs_kind *kind, const void *view);
int64_t cs_view_last_used(const cs_kind *kind,
                          const void *view); /* 0 = never, or not of the kind */
char *cs_error_json(const cs_kind *kind, const credstore_error *error, size_t *len);
const char *cs_error_type(const cs_kind *kind); /* content type of the above */

#endif
