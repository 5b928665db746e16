/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: what cs_json_parse() takes is what cJSON reads, and comes out of the writer again.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json/json.h"
#include "json/strict.h"

enum { ITEMS_MAX = CS_JSON_MAX / 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

/* ---- the members against the body ---- */

static cs_json_type type_at(char c)
{
    static const struct {
        char first;
        cs_json_type type;
    } types[] = {
        {'n', CS_JSON_NULL},   {'t', CS_JSON_BOOL},  {'f', CS_JSON_BOOL},
        {'"', CS_JSON_STRING}, {'[', CS_JSON_ARRAY}, {'{', CS_JSON_OBJECT},
    };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].first == c)
            return types[i].type;
    }
    return CS_JSON_NUMBER;
}

static size_t back_over_space(const char *body, size_t at)
{
    while (at > 0 && strchr(" \t\r\n", body[at - 1]) != NULL)
        at--;
    return at;
}

/* Before a value stand its name and a colon; a name without escapes stands there as it is. */
static void check_name(const char *body, const cs_json_member *member)
{
    const size_t len = strlen(member->name);
    size_t at = back_over_space(body, member->offset);

    must(at > 0 && body[--at] == ':', "a colon before the value");
    at = back_over_space(body, at);
    must(at > 1 && body[--at] == '"', "a name before the colon");
    if (strpbrk(member->name, "\"\\/\b\f\n\r\t") == NULL && at > len && body[at - len - 1] == '"')
        must(memchr(body + at - len, '\\', len) != NULL ||
                 memcmp(body + at - len, member->name, len) == 0,
             "the name is the body's");
}

static void check_number(const char *body, size_t len, const cs_json_member *member)
{
    char text[64] = "";
    size_t i = 0;

    while (i < sizeof text - 1 && member->offset + i < len &&
           strchr("+-.0123456789eE", body[member->offset + i]) != NULL)
        i++;
    memcpy(text, body + member->offset, i);
    must(isfinite(member->number), "a number is finite");
    must(strtod(text, NULL) == member->number, "a number is the body's");
}

static void check_members(const char *body, size_t len, const cs_json *json)
{
    cs_json_map map;
    cs_json_member member;

    must(cs_json_strict(body, len, &map, NULL) == CREDSTORE_OK, "strict takes it, too");
    must(map.count == cs_json_count(json), "as many members");
    for (size_t i = 0; i < map.count; i++) {
        cs_json_member_at(json, i, &member);
        must(member.offset == map.value_at[i] && member.offset < len, "the offset is the map's");
        must(member.type == type_at(body[member.offset]), "the type is the body's");
        must(member.flag == (body[member.offset] == 't'), "the flag is the body's");
        must((member.text != NULL) == (member.type == CS_JSON_STRING), "a text is there");
        check_name(body, &member);
        if (member.type == CS_JSON_NUMBER)
            check_number(body, len, &member);
    }
}

/* ---- the whole tree, with cJSON itself ---- */

/* Close to the largest double cJSON prints what it reads as infinite; the library prints none. */
static void calm_numbers(cJSON *item)
{
    for (; item != NULL; item = item->next) {
        if (cJSON_IsNumber(item) && fabs(item->valuedouble) > 1e300)
            cJSON_SetNumberValue(item, 1);
        calm_numbers(item->child);
    }
}

static char *print_parsed(const char *body, size_t len)
{
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(body, len, &end, 0);
    char *text;

    must(tree != NULL, "cJSON takes it");
    while (end < body + len && strchr(" \t\r\n", *end) != NULL)
        end++;
    must(end == body + len, "cJSON reads it whole");
    calm_numbers(tree);
    text = cJSON_PrintUnformatted(tree);
    must(text != NULL, "cJSON prints it");
    cJSON_Delete(tree);
    return text;
}

static void check_reprint(const char *body, size_t len)
{
    char *once = print_parsed(body, len);
    char *twice = print_parsed(once, strlen(once));

    must(strcmp(once, twice) == 0, "printing is stable");
    cJSON_free(once);
    cJSON_free(twice);
}

/* ---- out of the writer and in again ---- */

static const char **strings_of(const cs_json_member *member)
{
    const char **items = calloc(member->array_count + 1, sizeof *items);

    must(items != NULL && member->array_count <= ITEMS_MAX, "an array fits");
    if (cs_json_strings(member, items))
        return items;
    free(items);
    return NULL;
}

static bool is_exact(double number)
{
    return number == floor(number) && fabs(number) < 9007199254740992.0;
}

/* What the writer has no call for becomes null. */
static void write_member(cs_json_writer *writer, const cs_json_member *member)
{
    const char **items = member->type == CS_JSON_ARRAY ? strings_of(member) : NULL;

    if (member->type == CS_JSON_BOOL)
        cs_json_write_flag(writer, member->name, member->flag);
    else if (member->type == CS_JSON_NUMBER && is_exact(member->number))
        cs_json_write_number(writer, member->name, (int64_t)member->number);
    else if (items != NULL)
        cs_json_write_strings(writer, member->name, items, member->array_count);
    else if (member->type == CS_JSON_OBJECT) {
        cs_json_enter(writer, member->name);
        cs_json_leave(writer);
    } else
        cs_json_write_text(writer, member->name, member->text);
    free(items);
}

static char *write_all(const cs_json *json, size_t *len)
{
    cs_json_writer *writer = cs_json_writer_new();
    cs_json_member member;
    char *text;

    for (size_t i = 0; i < cs_json_count(json); i++) {
        cs_json_member_at(json, i, &member);
        write_member(writer, &member);
    }
    text = cs_json_writer_finish(writer, len);
    must(text != NULL && strlen(text) == *len, "the writer ends");
    return text;
}

static void same_member(const cs_json *a, const cs_json *b, size_t index)
{
    cs_json_member x, y;

    cs_json_member_at(a, index, &x);
    cs_json_member_at(b, index, &y);
    must(strcmp(x.name, y.name) == 0, "the name comes back");
    must(x.flag == y.flag, "the flag comes back");
    if (x.type == CS_JSON_NUMBER && is_exact(x.number))
        must(y.type == x.type && y.number == x.number, "the number comes back");
    if (x.type == CS_JSON_STRING)
        must(y.type == x.type && strcmp(x.text, y.text) == 0, "the text comes back");
    if (x.type == CS_JSON_ARRAY && y.type == CS_JSON_ARRAY)
        must(x.array_count == y.array_count, "the array comes back");
}

static void check_writer(const cs_json *json)
{
    size_t len, again_len;
    char *text = write_all(json, &len);
    cs_json *back = NULL;
    char *again;

    if (len <= CS_JSON_MAX) { /* escapes may have made it longer */
        must(cs_json_parse(text, len, &back, NULL) == CREDSTORE_OK, "what is written is taken");
        must(cs_json_count(back) == cs_json_count(json), "as many members come back");
        for (size_t i = 0; i < cs_json_count(json); i++)
            same_member(json, back, i);
        again = write_all(back, &again_len);
        must(len == again_len && memcmp(text, again, len) == 0, "writing is stable");
        cs_json_text_free(again, again_len);
        cs_json_free(back);
    }
    cs_json_text_free(text, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *body = (const char *)data;
    credstore_error err = {0};
    cs_json *json = NULL;
    const credstore_status status = cs_json_parse(body, size, &json, &err);

    must((status == CREDSTORE_OK) == (json != NULL), "an object or an error");
    must(err.status == (int32_t)status, "the error is the status");
    if (size > CS_JSON_MAX)
        must(status == CREDSTORE_E_TOO_LARGE, "a large body is refused");
    else if (status != CREDSTORE_OK)
        must(status == CREDSTORE_E_INVALID && err.offset <= size, "the fault lies in the body");
    if (json == NULL)
        return 0;
    check_members(body, size, json);
    check_reprint(body, size);
    check_writer(json);
    cs_json_free(json);
    return 0;
}
