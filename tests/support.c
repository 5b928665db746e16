/* SPDX-License-Identifier: MIT
 *
 * What tests share.
 */
#define _XOPEN_SOURCE 700 /* nftw */

#include "support.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "sealed.h"
#include "time.h"
#include "txn.h"

/* ---- chance ---- */

unsigned long test_number(const char *variable, unsigned long otherwise)
{
    const char *text = getenv(variable);

    return text == NULL || *text == '\0' ? otherwise : strtoul(text, NULL, 0);
}

uint64_t test_seed(const char *program)
{
    struct timespec now;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &now);
    seed = test_number("CREDSTORE_SEED",
                       (unsigned long)now.tv_sec * 1000003UL ^ (unsigned long)now.tv_nsec);
    printf("%s: CREDSTORE_SEED=%" PRIu64 "\n", program, seed);
    fflush(stdout);
    return seed;
}

uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- folders ---- */

void test_folder(char out[TEST_PATH_MAX])
{
    const char *tmp = getenv("TMPDIR");

    if (tmp == NULL || strlen(tmp) > TEST_PATH_MAX / 2)
        tmp = "/tmp";
    snprintf(out, TEST_PATH_MAX, "%s/credstore_test.XXXXXX", tmp);
    assert_non_null(mkdtemp(out));
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

void test_folder_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- stores ---- */

const uint8_t test_root_key[32] = {7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5, 2,
                                   3, 5, 3, 6, 0, 2, 8, 7, 4, 7, 1, 3, 5, 2, 6, 6};

const credstore_permission test_catalogue[] = {
    {"readApplications", "applications", "read"},
    {"writeApplications", "applications", "write"},
    {"organizations:read", "organizations", "read"},
    {"organizations:update", "organizations", "update"},
    {"users:read", "users", "read"},
    {"users:list", "users", "list"},
    {"checkbook:read", "checkbook", "read"},
    {"checkbook:update", "checkbook", "update"},
    {"checkbook:reveal", "checkbook", "reveal"},
    {"stripe:update", "stripe", "update"},
    {"stripe:reveal", "stripe", "reveal"},
    {"service_credentials:update", "service_credentials", "update"},
    {"webhooks:reveal", "webhooks", "reveal"}, /* of the kind that is in tests/kinds alone */
};
const size_t test_catalogue_count = sizeof test_catalogue / sizeof *test_catalogue;

const char *const test_engine_names[TEST_ENGINES] = {"memory", "lmdb"};

static int64_t clock_of(void *ctx)
{
    return atomic_load(&((test_store *)ctx)->now);
}

credstore_status test_reopen(test_store *t, credstore_error *err)
{
    credstore_key_source *key = NULL;
    credstore_options options = t->options;
    credstore_status status;

    credstore_close(t->store);
    t->store = NULL;
    status = credstore_key_bytes(test_root_key, sizeof test_root_key, &key, err);
    if (status != CREDSTORE_OK)
        return status;
    if (options.key == NULL)
        options.key = key;
    status = credstore_open(t->engine == TEST_MEMORY ? NULL : t->path, &options, &t->store, err);
    credstore_key_source_free(key);
    return status;
}

void test_open(test_store *t, test_engine engine)
{
    const credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
        .now_ms = clock_of,
        .now_ctx = t,
    };
    credstore_error err;

    memset(t, 0, sizeof *t);
    t->engine = engine;
    t->options = options;
    atomic_store(&t->now, TEST_NOW);
    if (engine == TEST_LMDB) {
        test_folder(t->folder);
        snprintf(t->path, sizeof t->path, "%.100s/store", t->folder);
    }
    assert_status(CREDSTORE_OK, test_reopen(t, &err), &err);
}

void test_close(test_store *t)
{
    credstore_close(t->store);
    t->store = NULL;
    if (t->folder[0] != '\0')
        test_folder_remove(t->folder);
}

static credstore *open_at(const char *path)
{
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
    };
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK,
                  credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err), &err);
    options.key = key;
    assert_status(CREDSTORE_OK, credstore_open(path, &options, &store, &err), &err);
    credstore_key_source_free(key);
    return store;
}

credstore *open_memory(void)
{
    return open_at(NULL);
}

credstore *open_lmdb(const char *path)
{
    return open_at(path);
}

uint64_t test_generation(credstore *store)
{
    cs_head head = {0};
    bool found = false;
    credstore_error err = {0};
    cs_txn txn;

    assert_status(CREDSTORE_OK, cs_txn_read(store, &txn, &err), &err);
    assert_status(CREDSTORE_OK, cs_head_read(&txn, &head, &found, &err), &err);
    cs_txn_end(&txn);
    assert_true(found);
    return head.generation;
}

/* ---- who asks ---- */

credstore_actor test_actor(uint32_t type, uint32_t roles, const char *id, const char *tenant)
{
    credstore_actor actor = {.struct_size = sizeof actor, .type = type, .roles = roles};

    snprintf(actor.id, sizeof actor.id, "%s", id);
    snprintf(actor.tenant, sizeof actor.tenant, "%s", tenant);
    return actor;
}

void test_grant(const credstore *store, credstore_actor *actor, const char *permission)
{
    credstore_error err;

    assert_status(CREDSTORE_OK, credstore_actor_grant(store, actor, permission, &err), &err);
}

credstore_actor test_root(const credstore *store)
{
    credstore_actor actor = test_actor(
        CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN | CREDSTORE_ROLE_SUPER, "root", TEST_TENANT);

    for (size_t i = 0; i < test_catalogue_count; i++)
        test_grant(store, &actor, test_catalogue[i].id);
    return actor;
}

credstore_call test_call(const credstore_actor *actor)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};

    return call;
}

/* ---- the four kinds behind one signature ---- */

#define WRAP(kind, PATH_ID)                                                                        \
    static credstore_status kind##_get_(credstore *store, const credstore_call *call,              \
                                        const test_at *at, const void **view,                      \
                                        credstore_error *err)                                      \
    {                                                                                              \
        const credstore_##kind *out = NULL;                                                        \
        const credstore_status status =                                                            \
            credstore_##kind##_get(store, call, PATH_ID, view == NULL ? NULL : &out, err);         \
                                                                                                   \
        if (view != NULL)                                                                          \
            *view = out;                                                                           \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_update_(credstore *store, const credstore_call *call,           \
                                           const test_at *at, const void *patch,                   \
                                           const void **view, credstore_error *err)                \
    {                                                                                              \
        const credstore_##kind *out = NULL;                                                        \
        const credstore_status status = credstore_##kind##_update(                                 \
            store, call, PATH_ID, patch, view == NULL ? NULL : &out, err);                         \
                                                                                                   \
        if (view != NULL)                                                                          \
            *view = out;                                                                           \
        return status;                                                                             \
    }

#define WRAP_CREATE(kind, ...)                                                                     \
    static credstore_status kind##_create_(                                                        \
        credstore *store, const credstore_call *call, const test_at *at, const void *origin,       \
        const void *patch, const void **view, credstore_error *err)                                \
    {                                                                                              \
        const credstore_##kind *out = NULL;                                                        \
        const credstore_status status = credstore_##kind##_create(                                 \
            __VA_ARGS__, origin, patch, view == NULL ? NULL : &out, err);                          \
                                                                                                   \
        (void)at;                                                                                  \
        if (view != NULL)                                                                          \
            *view = out;                                                                           \
        return status;                                                                             \
    }

#define WRAP_REVEAL(kind)                                                                          \
    static credstore_status kind##_reveal_(credstore *store, const credstore_call *call,           \
                                           const test_at *at, uint32_t field,                      \
                                           credstore_secret **out, credstore_error *err)           \
    {                                                                                              \
        return credstore_##kind##_reveal(store, call, at->id, field, out, err);                    \
    }

#define PATH at->tenant, at->parent, at->id
WRAP(checkbook, at->id)
WRAP(stripe, at->id)
WRAP(service_credential, PATH)
WRAP(api_key, at->id)
WRAP_CREATE(checkbook, store, call)
WRAP_CREATE(stripe, store, call, at->id)
WRAP_CREATE(service_credential, store, call, at->tenant, at->parent)
WRAP_CREATE(api_key, store, call)
WRAP_REVEAL(checkbook)
WRAP_REVEAL(stripe)

extern const cs_kind cs_kind_checkbook, cs_kind_stripe, cs_kind_service_credential, cs_kind_api_key;

const test_kind test_kinds[] = {
    {&cs_kind_checkbook, "1NFHrqBHb3cTfLVkFSGmHZqdDPi", checkbook_create_, checkbook_get_,
     checkbook_update_, checkbook_reveal_},
    {&cs_kind_stripe, "3c90c3cc-0d44-4b50-8888-8dd25736052a", stripe_create_, stripe_get_,
     stripe_update_, stripe_reveal_},
    {&cs_kind_service_credential, "ab3def8hij2klm9opq5rst7uvw", service_credential_create_,
     service_credential_get_, service_credential_update_, NULL},
    {&cs_kind_api_key, "2ckEEwCIvk3KPgvWjJjyBIS6Abc", api_key_create_, api_key_get_,
     api_key_update_, NULL},
};
const size_t test_kind_count = sizeof test_kinds / sizeof *test_kinds;

const test_kind *test_kind_of(uint32_t kind)
{
    for (size_t i = 0; i < test_kind_count; i++)
        if (test_kinds[i].kind->id == kind)
            return &test_kinds[i];
    fail_msg("no kind %u", kind);
    return NULL;
}

test_at test_at_of(const test_kind *k)
{
    const test_at at = {TEST_TENANT, TEST_PARENT, k->id};

    return at;
}

/* ---- patches ---- */

void test_patch_begin(const test_kind *k, test_patch *patch)
{
    const uint32_t size = k->kind->patch_size;

    memset(patch, 0, sizeof *patch);
    memcpy(patch->u.bytes, &size, sizeof size);
}

bool test_in_patch(const cs_field *field)
{
    return (field->flags & (CS_INTERNAL | CS_FROM_ORIGIN)) == 0;
}

/* Lawful texts of the fields that are particular about theirs. */
static const struct {
    const char *field, *format;
} forms[] = {
    {"base_url", "https://api-%u.example.org/v1"}, {"url", "https://hooks-%u.example.org/in"},
    {"test_secret_key", "sk_test_%032u"},          {"test_publishable_key", "pk_test_%032u"},
    {"test_webhook_secret", "whsec_test%032u"},    {"live_secret_key", "sk_live_%032u"},
    {"live_publishable_key", "pk_live_%032u"},     {"live_webhook_secret", "whsec_live%032u"},
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
void test_text(const cs_field *field, unsigned n, char *out, size_t size)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(forms[i].field, field->name) != 0)
            continue;
        snprintf(out, size, forms[i].format, n);
        return;
    }
    snprintf(out, size, "%.20s value %u", field->name, n);
}
#pragma GCC diagnostic pop

int64_t test_time(unsigned n)
{
    return TEST_NOW + INT64_C(31536000000) + (int64_t)n * 1000;
}

static void put(test_patch *patch, const cs_field *field, const void *slot, size_t size)
{
    memcpy(patch->u.bytes + field->in, slot, size);
}

void test_patch_set(const test_kind *k, test_patch *patch, size_t i, unsigned n)
{
    const cs_field *field = &k->kind->fields[i];
    const credstore_flag flag = CREDSTORE_FLAG(n & 1);
    const credstore_time time = CREDSTORE_TIME(test_time(n));
    const credstore_strings strings = CREDSTORE_STRINGS(patch->items, 2);
    const credstore_text text = CREDSTORE_TEXT(patch->text[i]);

    switch (field->type) {
    case CS_FLAG:
        put(patch, field, &flag, sizeof flag);
        break;
    case CS_TIME:
        put(patch, field, &time, sizeof time);
        break;
    case CS_PERMISSIONS:
        patch->items[0] = test_catalogue[n % test_catalogue_count].id;
        patch->items[1] = test_catalogue[(n + 1) % test_catalogue_count].id;
        put(patch, field, &strings, sizeof strings);
        break;
    default: /* CS_TEXT, CS_SECRET: the slots lie alike */
        test_text(field, n, patch->text[i], sizeof patch->text[i]);
        put(patch, field, &text, sizeof text);
        break;
    }
}

void test_patch_clear(const test_kind *k, test_patch *patch, size_t i)
{
    const cs_field *field = &k->kind->fields[i];
    const credstore_flag flag = {CREDSTORE_CLEAR, 0};
    const credstore_time time = CREDSTORE_TIME_CLEARED;
    const credstore_text text = CREDSTORE_CLEARED; /* and credstore_strings lies alike */

    if (field->type == CS_FLAG)
        put(patch, field, &flag, sizeof flag);
    else if (field->type == CS_TIME)
        put(patch, field, &time, sizeof time);
    else
        put(patch, field, &text, sizeof text);
}

void test_patch_whole(const test_kind *k, test_patch *patch, unsigned n)
{
    test_patch_begin(k, patch);
    for (size_t i = 0; i < k->kind->field_count; i++)
        if (test_in_patch(&k->kind->fields[i]))
            test_patch_set(k, patch, i, n);
}

const void *test_make(const test_store *t, const test_kind *k, const credstore_actor *actor,
                      unsigned n)
{
    const credstore_call call = test_call(actor);
    const test_at at = test_at_of(k);
    const uint32_t size = k->kind->origin.size;
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin = {0};
    const void *view = NULL;
    credstore_error err;
    test_patch patch;

    memcpy(origin.bytes, &size, sizeof size);
    if (k->kind->origin.id != 0)
        memcpy(origin.bytes + k->kind->origin.id, &k->id, sizeof k->id);
    test_patch_whole(k, &patch, n);
    assert_status(CREDSTORE_OK,
                  k->create(t->store, &call, &at, origin.bytes, patch.u.bytes, &view, &err), &err);
    assert_non_null(view);
    return view;
}

const void *test_get(const test_store *t, const test_kind *k, const credstore_actor *actor)
{
    const credstore_call call = test_call(actor);
    const test_at at = test_at_of(k);
    const void *view = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, k->get(t->store, &call, &at, &view, &err), &err);
    assert_non_null(view);
    return view;
}

/* ---- views ---- */

static uint64_t u64_at(const void *view, size_t at)
{
    uint64_t v = 0;

    if (at != 0)
        memcpy(&v, (const uint8_t *)view + at, sizeof v);
    return v;
}

static uint32_t u32_at(const void *view, size_t at)
{
    uint32_t v = 0;

    if (at != 0)
        memcpy(&v, (const uint8_t *)view + at, sizeof v);
    return v;
}

static const char *text_at(const void *view, size_t at)
{
    const char *text;

    memcpy(&text, (const uint8_t *)view + at, sizeof text);
    return text;
}

uint64_t test_revision(const test_kind *k, const void *view)
{
    return u64_at(view, k->kind->view.revision);
}

int64_t test_updated_at(const test_kind *k, const void *view)
{
    return (int64_t)u64_at(view, k->kind->view.updated_at);
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_strings(const cs_member *member, const void *a, const void *b)
{
    const char *const *of_a, *const *of_b;
    const uint64_t count = u64_at(a, member->count);

    memcpy(&of_a, (const uint8_t *)a + member->at, sizeof of_a);
    memcpy(&of_b, (const uint8_t *)b + member->at, sizeof of_b);
    if (count != u64_at(b, member->count))
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (strcmp(of_a[i], of_b[i]) != 0)
            return false;
    return true;
}

static bool same_member(const cs_member *member, const void *a, const void *b)
{
    switch (member->show) {
    case CS_SHOW_TEXT:
        return same_text(text_at(a, member->at), text_at(b, member->at));
    case CS_SHOW_FLAG:
        return u32_at(a, member->at) == u32_at(b, member->at);
    case CS_SHOW_STRINGS:
        return same_strings(member, a, b);
    case CS_SHOW_GRANTS:
        return true;
    default: /* times */
        return u64_at(a, member->at) == u64_at(b, member->at);
    }
}

bool test_same_view(const test_kind *k, const void *a, const void *b, bool whole)
{
    const cs_kind *kind = k->kind;

    for (size_t i = 0; i < kind->member_count; i++)
        if (kind->members[i].at != kind->view.updated_at && !same_member(&kind->members[i], a, b))
            return false;
    for (size_t i = 0; i < kind->field_count; i++)
        if (u32_at(a, kind->fields[i].has) != u32_at(b, kind->fields[i].has) ||
            u64_at(a, kind->fields[i].set_at) != u64_at(b, kind->fields[i].set_at))
            return false;
    return !whole || (test_revision(k, a) == test_revision(k, b) &&
                      test_updated_at(k, a) == test_updated_at(k, b));
}

bool test_same_value(const cs_field *field, unsigned a, unsigned b)
{
    if (a == 0 || b == 0)
        return a == b;
    if (field->type == CS_FLAG)
        return (a & 1) == (b & 1);
    if (field->type == CS_PERMISSIONS)
        return a % test_catalogue_count == b % test_catalogue_count;
    return a == b;
}

static void assert_permissions(const cs_field *field, const void *view, unsigned n)
{
    const size_t a = n % test_catalogue_count, b = (n + 1) % test_catalogue_count;
    const char *const *items;

    memcpy(&items, (const uint8_t *)view + field->view, sizeof items);
    assert_int_equal(u64_at(view, field->count), n == 0 ? 0 : 2);
    if (n == 0) {
        assert_null(items);
        return;
    }
    assert_string_equal(items[0], test_catalogue[a < b ? a : b].id);
    assert_string_equal(items[1], test_catalogue[a < b ? b : a].id);
}

static void assert_field(const cs_field *field, const void *view, unsigned n)
{
    char text[64];

    test_text(field, n, text, sizeof text);
    if (field->type == CS_PERMISSIONS)
        assert_permissions(field, view, n);
    else if (field->type == CS_FLAG)
        assert_int_equal(u32_at(view, field->view), n & 1);
    else if (field->type == CS_TIME)
        assert_int_equal(u64_at(view, field->view), n == 0 ? 0 : (uint64_t)test_time(n));
    else if (field->view != 0 && n == 0)
        assert_null(text_at(view, field->view));
    else if (field->view != 0)
        assert_string_equal(text_at(view, field->view), text);
    if (field->has != 0)
        assert_int_equal(u32_at(view, field->has), n != 0);
    if (field->set_at != 0)
        assert_int_equal(u64_at(view, field->set_at) != 0, n != 0);
    if (field->mask != 0)
        assert_int_equal(text_at(view, field->mask) != NULL, n != 0);
    if (field->mask != 0 && n != 0) /* the values end in different digits */
        assert_string_equal(strrchr(text_at(view, field->mask), '.') + 1, text + strlen(text) - 4);
}

void test_assert_shows(const test_kind *k, const void *view, const unsigned *values)
{
    uint32_t size;

    assert_non_null(view);
    memcpy(&size, view, sizeof size);
    assert_int_equal(size, k->kind->view.size);
    for (size_t i = 0; i < k->kind->field_count; i++)
        if (test_in_patch(&k->kind->fields[i]))
            assert_field(&k->kind->fields[i], view, values[i]);
}

void test_assert_all(const test_kind *k, const void *view, unsigned n)
{
    unsigned values[CS_FIELDS_MAX];

    for (size_t i = 0; i < CS_FIELDS_MAX; i++)
        values[i] = n;
    test_assert_shows(k, view, values);
}

/* ---- the door ---- */

credstore_slice test_slice(const char *text)
{
    const credstore_slice slice = {text, text == NULL ? 0 : strlen(text)};

    return slice;
}

credstore_request test_request(const test_kind *k, uint32_t verb, const credstore_actor *actor,
                               const char *body)
{
    const credstore_request request = {
        .struct_size = sizeof request,
        .kind = k->kind->id,
        .verb = verb,
        .actor = actor,
        .tenant = test_slice(TEST_TENANT),
        .parent = test_slice(k->kind->parent_name == NULL ? NULL : TEST_PARENT),
        .id = test_slice(k->id),
        .body = test_slice(body),
    };

    return request;
}

static void add_value(const test_kind *k, const cs_field *field, unsigned n, char *out, size_t size)
{
    char text[64];

    (void)k;
    switch (field->type) {
    case CS_FLAG:
        snprintf(out, size, "%s", (n & 1) != 0 ? "true" : "false");
        break;
    case CS_TIME:
        assert_true(cs_time_format(test_time(n), true, text));
        snprintf(out, size, "\"%s\"", text);
        break;
    case CS_PERMISSIONS:
        snprintf(out, size, "[\"%s\",\"%s\"]", test_catalogue[n % test_catalogue_count].id,
                 test_catalogue[(n + 1) % test_catalogue_count].id);
        break;
    default:
        test_text(field, n, text, sizeof text);
        snprintf(out, size, "\"%s\"", text);
        break;
    }
}

char *test_body(const test_kind *k, unsigned n)
{
    const size_t size = 4096;
    char *body = malloc(size);
    size_t used = 0;

    assert_non_null(body);
    for (size_t i = 0; i < k->kind->field_count; i++) {
        char value[192];

        if (!test_in_patch(&k->kind->fields[i]))
            continue;
        add_value(k, &k->kind->fields[i], n, value, sizeof value);
        used += (size_t)snprintf(body + used, size - used, "%c\"%s\":%s", used == 0 ? '{' : ',',
                                 k->kind->fields[i].name, value);
    }
    snprintf(body + used, size - used, "}");
    return body;
}

void test_assert_status(credstore_status expected, credstore_status got, const credstore_error *err,
                        const char *file, int line)
{
    if (expected == got && (err == NULL || err->status == (int32_t)got))
        return;
    print_error("%s:%d: expected %s, got %s", file, line, credstore_status_name((int32_t)expected),
                credstore_status_name((int32_t)got));
    if (err != NULL)
        print_error(" (error: %s, field \"%s\", \"%s\")", credstore_status_name(err->status),
                    err->field, err->message);
    print_error("\n");
    _fail(file, line);
}

/* ---- tables of tests ---- */

typedef struct plan {
    const test_row *row;
    const test_kind *kind;
    test_engine engine;
    test_world *world;
    char name[128];
} plan;

static int set_up(void **state)
{
    plan *p = *state;
    test_world *w = calloc(1, sizeof *w);

    if (w == NULL)
        return -1;
    p->world = w;
    test_open(&w->t, p->engine);
    w->k = p->kind;
    w->root = test_root(w->t.store);
    w->call = test_call(&w->root);
    if (w->k != NULL)
        w->at = test_at_of(w->k);
    return 0;
}

static void run_row(void **state)
{
    const plan *p = *state;

    p->row->run(p->world);
}

static int tear_down(void **state)
{
    plan *p = *state;

    test_close(&p->world->t);
    free(p->world);
    return 0;
}

int test_run(const char *group, const test_kind *kinds, size_t kind_count, const test_row *rows,
             size_t row_count)
{
    const size_t each = kind_count == 0 ? 1 : kind_count, count = row_count * each * TEST_ENGINES;
    struct CMUnitTest *tests = calloc(count, sizeof *tests);
    plan *plans = calloc(count, sizeof *plans);
    int failed = -1;

    for (size_t i = 0; tests != NULL && plans != NULL && i < count; i++) {
        plan *p = &plans[i];
        const struct CMUnitTest test = {p->name, run_row, set_up, tear_down, p};

        p->engine = (test_engine)(i % TEST_ENGINES);
        p->kind = kind_count == 0 ? NULL : &kinds[i / TEST_ENGINES % each];
        p->row = &rows[i / TEST_ENGINES / each];
        snprintf(p->name, sizeof p->name, "%s%s%s on %s", p->row->name,
                 p->kind == NULL ? "" : " of ", p->kind == NULL ? "" : p->kind->kind->name,
                 test_engine_names[p->engine]);
        tests[i] = test;
    }
    if (tests != NULL && plans != NULL)
        failed = _cmocka_run_group_tests(group, tests, count, NULL, NULL);
    free(tests);
    free(plans);
    return failed;
}
