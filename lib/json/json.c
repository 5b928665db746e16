/* SPDX-License-Identifier: MIT
 *
 * JSON in and out. The only user of cJSON, whose hooks are the process's and are left alone.
 */
#include "json/json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "json/strict.h"
#include "mem.h"

struct cs_json {
    cJSON *root;
    cs_json_map map;
    const cJSON *members[CS_JSON_MEMBERS];
};

/* ---- trees ---- */

static void wipe_text(char *text)
{
    if (text != NULL)
        cs_wipe(text, strlen(text));
}

/* As deep as the tree, which the scanner and the writer bound. */
static void wipe_tree(cJSON *item)
{
    for (; item != NULL; item = item->next) {
        wipe_text(item->string);
        wipe_text(item->valuestring);
        wipe_tree(item->child);
    }
}

/* Of an item that hangs in no tree. */
static void tree_free(cJSON *item)
{
    wipe_tree(item);
    cJSON_Delete(item);
}

/* ---- in ---- */

static bool only_space(const char *from, const char *end)
{
    while (from < end && (*from == ' ' || *from == '\t' || *from == '\n' || *from == '\r'))
        from++;
    return from == end;
}

/* cJSON reads numbers with strtod(), whose decimal point is the locale's: here it is a point. */
static cJSON *parse_tree(const char *ptr, size_t len, const char **end)
{
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before;
    cJSON *root;

    if (plain == (locale_t)0)
        return NULL;
    before = uselocale(plain);
    root = cJSON_ParseWithLengthOpts(ptr, len, end, 0);
    uselocale(before);
    freelocale(plain);
    return root;
}

/* False if cJSON saw another object than the scanner did. */
static bool index_members(cs_json *json)
{
    size_t count = 0;

    for (const cJSON *item = json->root->child; item != NULL; item = item->next) {
        if (count == json->map.count || item->string == NULL)
            return false;
        json->members[count++] = item;
    }
    return cJSON_IsObject(json->root) && count == json->map.count;
}

credstore_status cs_json_parse(const char *ptr, size_t len, cs_json **out, credstore_error *err)
{
    const char *end = NULL;
    cs_json_map map;
    cs_json *json;
    credstore_status status;

    *out = NULL;
    status = cs_json_strict(ptr, len, &map, err);
    if (status != CREDSTORE_OK)
        return status;
    json = cs_alloc(1, sizeof *json);
    if (json == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "out of memory");
    json->map = map;
    json->root = parse_tree(ptr, len, &end);
    if (json->root == NULL) { /* the text is good, so nothing else can be missing */
        status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "out of memory");
        goto cleanup;
    }
    if (!only_space(end, ptr + len) || !index_members(json)) {
        status = cs_fail(err, CREDSTORE_E_INTERNAL, NULL, "two readings of the body differ");
        goto cleanup;
    }
    *out = json;
    return CREDSTORE_OK;
cleanup:
    cs_json_free(json);
    return status;
}

void cs_json_free(cs_json *json)
{
    if (json == NULL)
        return;
    tree_free(json->root);
    cs_free(json);
}

size_t cs_json_count(const cs_json *json)
{
    return json->map.count;
}

static cs_json_type type_of(const cJSON *item)
{
    static const struct {
        int from;
        cs_json_type to;
    } types[] = {
        {cJSON_False, CS_JSON_BOOL},    {cJSON_True, CS_JSON_BOOL},
        {cJSON_Number, CS_JSON_NUMBER}, {cJSON_String, CS_JSON_STRING},
        {cJSON_Array, CS_JSON_ARRAY},   {cJSON_Object, CS_JSON_OBJECT},
    };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if ((item->type & 0xFF) == types[i].from)
            return types[i].to;
    }
    return CS_JSON_NULL;
}

void cs_json_member_at(const cs_json *json, size_t index, cs_json_member *out)
{
    const cJSON *item = json->members[index];

    memset(out, 0, sizeof *out);
    out->name = item->string;
    out->offset = json->map.value_at[index];
    out->type = type_of(item);
    out->flag = cJSON_IsTrue(item);
    if (out->type == CS_JSON_NUMBER)
        out->number = item->valuedouble;
    if (out->type == CS_JSON_STRING)
        out->text = item->valuestring;
    if (out->type != CS_JSON_ARRAY)
        return;
    out->array = item;
    for (item = item->child; item != NULL; item = item->next)
        out->array_count++;
}

bool cs_json_strings(const cs_json_member *member, const char **items)
{
    const cJSON *array = member->array;
    size_t count = 0;

    if (array == NULL)
        return false;
    for (const cJSON *item = array->child; item != NULL; item = item->next) {
        if (!cJSON_IsString(item))
            return false;
        items[count++] = item->valuestring;
    }
    return true;
}

/* ---- out ---- */

/* PRINT_SLACK: cJSON asks for a few bytes more than it prints. */
enum { WRITER_DEPTH = 8, PRINT_SLACK = 64 };

#define EXACT_LIMIT (INT64_C(1) << 53)

struct cs_json_writer {
    cJSON *root;
    cJSON *open[WRITER_DEPTH]; /* the objects and arrays entered, root first */
    size_t depth;
    bool failed;
};

cs_json_writer *cs_json_writer_new(void)
{
    cs_json_writer *writer = cs_alloc(1, sizeof *writer);

    if (writer == NULL)
        return NULL;
    writer->root = cJSON_CreateObject();
    if (writer->root == NULL) {
        cs_free(writer);
        return NULL;
    }
    writer->open[0] = writer->root;
    writer->depth = 1;
    return writer;
}

static bool ready(const cs_json_writer *writer)
{
    return writer != NULL && !writer->failed;
}

/* Takes the item, which is NULL if memory was out, into the innermost object (with a name) or array
   (without). Not by cJSON's own one-step calls: those free a text unwiped when they fail. */
static bool hang(cs_json_writer *writer, const char *name, cJSON *item)
{
    cJSON *parent = writer->open[writer->depth - 1];
    bool done = false;

    if (name != NULL && cJSON_IsObject(parent))
        done = cJSON_AddItemToObject(parent, name, item);
    if (name == NULL && cJSON_IsArray(parent))
        done = cJSON_AddItemToArray(parent, item);
    if (!done) {
        tree_free(item);
        writer->failed = true;
    }
    return done;
}

void cs_json_write_text(cs_json_writer *writer, const char *name, const char *text)
{
    if (ready(writer))
        hang(writer, name, text == NULL ? cJSON_CreateNull() : cJSON_CreateString(text));
}

void cs_json_write_flag(cs_json_writer *writer, const char *name, bool value)
{
    if (ready(writer))
        hang(writer, name, cJSON_CreateBool(value));
}

/* As digits: cJSON prints a double to 15 places if that is near enough, and in the locale. */
void cs_json_write_number(cs_json_writer *writer, const char *name, int64_t value)
{
    char digits[24];

    if (!ready(writer))
        return;
    if (value <= -EXACT_LIMIT || value >= EXACT_LIMIT) {
        writer->failed = true;
        return;
    }
    snprintf(digits, sizeof digits, "%" PRId64, value);
    hang(writer, name, cJSON_CreateRaw(digits));
}

static void push(cs_json_writer *writer, cJSON *item)
{
    if (writer->depth == WRITER_DEPTH)
        writer->failed = true;
    else
        writer->open[writer->depth++] = item;
}

/* Makes the object or array and goes into it. */
static void enter_new(cs_json_writer *writer, const char *name, cJSON *item)
{
    if (hang(writer, name, item))
        push(writer, item);
}

void cs_json_enter(cs_json_writer *writer, const char *name)
{
    cJSON *there;

    if (!ready(writer))
        return;
    there = cJSON_GetObjectItemCaseSensitive(writer->open[writer->depth - 1], name);
    if (there == NULL)
        enter_new(writer, name, cJSON_CreateObject());
    else if (cJSON_IsObject(there))
        push(writer, there);
    else
        writer->failed = true;
}

void cs_json_enter_array(cs_json_writer *writer, const char *name)
{
    if (ready(writer))
        enter_new(writer, name, cJSON_CreateArray());
}

void cs_json_enter_item(cs_json_writer *writer)
{
    if (ready(writer))
        enter_new(writer, NULL, cJSON_CreateObject());
}

void cs_json_leave(cs_json_writer *writer)
{
    if (!ready(writer))
        return;
    if (writer->depth == 1)
        writer->failed = true;
    else
        writer->depth--;
}

void cs_json_write_strings(cs_json_writer *writer, const char *name, const char *const *items,
                           size_t count)
{
    cs_json_enter_array(writer, name);
    for (size_t i = 0; i < count && ready(writer); i++)
        hang(writer, NULL, cJSON_CreateString(items[i]));
    cs_json_leave(writer);
}

/* What a text may take when printed between quotes, or a raw number without. */
static size_t printed_text_len(const char *text)
{
    size_t len = 2;

    for (; text != NULL && *text != '\0'; text++)
        len += (unsigned char)*text < 0x20 ? 6 : (*text == '"' || *text == '\\') ? 2 : 1;
    return len;
}

/* An upper bound for an item and those behind it: brackets or a word, a colon and a comma each. The
   tree is in memory, and six times that fits in a size_t. */
static size_t printed_len(const cJSON *item)
{
    size_t len = 0;

    for (; item != NULL; item = item->next) {
        len += sizeof "false" + sizeof ":," + printed_text_len(item->string);
        len += printed_text_len(item->valuestring) + printed_len(item->child);
    }
    return len;
}

/* Into a block of ours, big enough at once: cJSON's own would leave copies behind as it grows. */
static char *print_tree(cJSON *root, size_t *len)
{
    const size_t room = printed_len(root) + PRINT_SLACK;
    char *text = room > INT_MAX ? NULL : cs_alloc(room, 1);

    if (text == NULL)
        return NULL;
    if (!cJSON_PrintPreallocated(root, text, (int)room, 0)) {
        cs_free_wiped(text, room);
        return NULL;
    }
    *len = strlen(text);
    return text;
}

char *cs_json_writer_finish(cs_json_writer *writer, size_t *len)
{
    char *text = NULL;

    *len = 0;
    if (ready(writer) && writer->depth == 1)
        text = print_tree(writer->root, len);
    cs_json_writer_abandon(writer);
    return text;
}

void cs_json_writer_abandon(cs_json_writer *writer)
{
    if (writer == NULL)
        return;
    tree_free(writer->root);
    cs_free(writer);
}

void cs_json_text_free(char *text, size_t len)
{
    cs_free_wiped(text, len);
}
