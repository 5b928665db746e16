/* SPDX-License-Identifier: MIT
 *
 * JSON in and out. The only room that knows cJSON.
 */
#ifndef CS_JSON_H
#define CS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "credstore.h"

/* ---- in ---- */

typedef struct cs_json cs_json; /* a parsed object; its strings are wiped when it is freed */

typedef enum cs_json_type {
    CS_JSON_NULL,
    CS_JSON_BOOL,
    CS_JSON_NUMBER,
    CS_JSON_STRING,
    CS_JSON_ARRAY,
    CS_JSON_OBJECT
} cs_json_type;

/* cs_json_strict() first, then cJSON, in any locale. *out is freed with cs_json_free(). When memory
   runs out midway, cJSON frees what it had of the tree itself, unwiped. */
credstore_status cs_json_parse(const char *ptr, size_t len, cs_json **out, credstore_error *err);
void cs_json_free(cs_json *json);

size_t cs_json_count(const cs_json *json); /* members */
/* One member, 0 <= index < count. The value's pointers live as long as json. */
typedef struct cs_json_member {
    const char *name;
    size_t offset; /* of the value in the body */
    cs_json_type type;
    bool flag;
    double number;
    const char *text;  /* CS_JSON_STRING; holds no NUL */
    const void *array; /* CS_JSON_ARRAY */
    size_t array_count;
} cs_json_member;
void cs_json_member_at(const cs_json *json, size_t index, cs_json_member *out);
/* Fills items with the strings of an array of strings; false if an element is not a string. count
   of them are written; the caller has room for array_count. */
bool cs_json_strings(const cs_json_member *member, const char **items);

/* ---- out: a writer that never touches secrets' parsers ---- */

/* Any failure is remembered: all calls on a writer that is NULL or has failed do nothing. Beside
   memory, that is a call out of place: a name inside an array, an item outside one, a number out of
   range, over 8 open levels, enter on a name that is no object, leave or finish not matched. A name
   is not looked for before it is written: no name twice is the caller's. Texts are UTF-8. */
typedef struct cs_json_writer
    cs_json_writer; /* one open object; nested objects are entered and left */

cs_json_writer *cs_json_writer_new(void); /* NULL when memory is out */
void cs_json_write_text(cs_json_writer *writer, const char *name,
                        const char *text); /* NULL = null */
void cs_json_write_flag(cs_json_writer *writer, const char *name, bool value);
void cs_json_write_number(cs_json_writer *writer, const char *name,
                          int64_t value); /* |value| < 2^53 */
void cs_json_write_strings(cs_json_writer *writer, const char *name, const char *const *items,
                           size_t count);
/* Enters the object `name`, made if it is not there yet. / begins an array and each object in it.
 */
void cs_json_enter(cs_json_writer *writer, const char *name);
void cs_json_enter_array(cs_json_writer *writer, const char *name);
void cs_json_enter_item(cs_json_writer *writer); /* inside an array: a new object */
void cs_json_leave(cs_json_writer *writer);
/* Ends and frees the writer. The text (free with cs_json_text_free) without white space, or NULL if
   anything failed. *len is 0 then. */
char *cs_json_writer_finish(cs_json_writer *writer, size_t *len);
void cs_json_writer_abandon(cs_json_writer *writer);
void cs_json_text_free(char *text, size_t len); /* wipes */

#endif
