/* SPDX-License-Identifier: MIT
 *
 * The on-disk format, held fast. A fixed scenario with fixed keys, clock and randomness must write
 * tests/golden/<table>.hex byte by byte, a line `key value` each; and the store in those files must
 * open and read as expected, whatever this library has become since.
 * CREDSTORE_GOLDEN_WRITE=<folder> writes the files anew. tests/golden/reader_test.py reads the same
 * files by the format page alone, against tests/golden/expected.json.
 */
#include "fixture.h"

#include "error.h"

#define FOLDER  "tests/golden"
#define REQUEST "7d444840-9dc0-11d1-b245-5ffdce74fad2"
#define OWN_ID  "550e8400-e29b-41d4-a716-446655440000"

enum { LINE = 64 * 1024, FIRST_CATALOGUE = 3, READER_FILL = 0x17 };

static const struct table {
    const char *name;
    uint8_t first;
} tables[] = {
    {"meta", CS_TABLE_META},           {"root", CS_TABLE_ROOT},     {"keyring", CS_TABLE_KEYRING},
    {"catalogue", CS_TABLE_CATALOGUE}, {"record", CS_TABLE_RECORD}, {"owner", CS_TABLE_OWNER},
    {"lane", CS_TABLE_LANE},           {"usage", CS_TABLE_USAGE},
};

/* ---- the scenario ---- */

typedef struct scene {
    fx f;
    credstore *store;
    credstore_error err;
} scene;

static void next_second(scene *s)
{
    s->f.now += 1000;
}

static void play_checkbook(scene *s)
{
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin,
                                               .id = FX_KSUID,
                                               .created_at = INT64_C(1699335116000),
                                               .client_id = FX_KSUID_OTHER};
    const credstore_checkbook_patch first = {
        .struct_size = sizeof first,
        .publishable_key = CREDSTORE_TEXT("publishable-1"),
        .secret_key = CREDSTORE_SECRET("checkbook-secret-1", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io")};
    const credstore_checkbook_patch second = {.struct_size = sizeof second,
                                              .publishable_key = CREDSTORE_TEXT("publishable-2")};
    const credstore_checkbook_patch third = {
        .struct_size = sizeof third,
        .secret_key = CREDSTORE_SECRET("checkbook-secret-2", CREDSTORE_NTS),
        .is_active = CREDSTORE_FLAG(0)};

    fx_ok(credstore_checkbook_create(s->store, &call, &origin, &first, NULL, &s->err), &s->err);
    next_second(s);
    fx_ok(credstore_checkbook_update(s->store, &call, FX_KSUID, &second, NULL, &s->err), &s->err);
    next_second(s);
    call.request_id = "request 3"; /* not visible ASCII throughout */
    fx_fails(credstore_checkbook_update(s->store, &call, FX_KSUID, &third, NULL, &s->err),
             CREDSTORE_E_INVALID, &s->err);
    call.request_id = "request-3";
    fx_ok(credstore_checkbook_update(s->store, &call, FX_KSUID, &third, NULL, &s->err), &s->err);
    next_second(s);
}

/* Parts that move into history at different revisions, and one that is cleared. */
static void play_stripe(scene *s)
{
    const credstore_actor actor =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&actor);
    const credstore_stripe_origin origin = {.struct_size = sizeof origin, .id = OWN_ID};
    const credstore_stripe_patch empty = {.struct_size = sizeof empty};
    const credstore_stripe_patch all = {
        .struct_size = sizeof all,
        .test_secret_key = CREDSTORE_SECRET("sk_test_first_4242", CREDSTORE_NTS),
        .test_publishable_key = CREDSTORE_TEXT("pk_test_first_4242"),
        .test_webhook_secret = CREDSTORE_SECRET("whsec_test_4242", CREDSTORE_NTS),
        .live_secret_key = CREDSTORE_SECRET("sk_live_first_4242", CREDSTORE_NTS),
        .live_publishable_key = CREDSTORE_TEXT("pk_live_first_4242"),
        .live_webhook_secret = CREDSTORE_SECRET("whsec_live_4242", CREDSTORE_NTS)};
    const credstore_stripe_patch some = {.struct_size = sizeof some,
                                         .test_secret_key =
                                             CREDSTORE_SECRET("sk_test_second_4242", CREDSTORE_NTS),
                                         .live_webhook_secret = CREDSTORE_CLEARED};
    const credstore_stripe_patch text = {
        .struct_size = sizeof text, .live_publishable_key = CREDSTORE_TEXT("pk_live_second_4242")};
    const credstore_stripe_patch *const patches[] = {&all, &some, &text};

    fx_ok(credstore_stripe_create(s->store, &call, FX_PROJECT, &origin, &empty, NULL, &s->err),
          &s->err);
    next_second(s);
    for (size_t i = 0; i < FX_COUNT(patches); i++) {
        fx_ok(credstore_stripe_update(s->store, &call, FX_PROJECT, patches[i], NULL, &s->err),
              &s->err);
        next_second(s);
    }
}

/* One record that is brought from elsewhere with its last use, one whose ids are made here. */
static void play_service_credentials(scene *s)
{
    const credstore_actor actor =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    credstore_call call = fx_call(&actor);
    const credstore_service_credential_origin origin = {.struct_size = sizeof origin,
                                                        .id = "credential-1",
                                                        .created_at = INT64_C(1577470279117),
                                                        .client_id = "A1b2C3d4E5f6G7h8I9j0K",
                                                        .last_used_at = INT64_C(1577470280000)};
    const credstore_service_credential_patch first = {
        .struct_size = sizeof first,
        .name = CREDSTORE_TEXT("name"),
        .description = CREDSTORE_TEXT("Beschreibung \xe2\x82\xac")};
    const credstore_service_credential_patch second = {.struct_size = sizeof second,
                                                       .name = CREDSTORE_TEXT("another name"),
                                                       .description = CREDSTORE_CLEARED};

    fx_ok(credstore_service_credential_create(s->store, &call, "acme", "account", &origin, &first,
                                              NULL, &s->err),
          &s->err);
    next_second(s);
    call.request_id = REQUEST;
    fx_ok(credstore_service_credential_update(s->store, &call, "acme", "account", "credential-1",
                                              &second, NULL, &s->err),
          &s->err);
    next_second(s);
    fx_ok(credstore_service_credential_create(s->store, &call, "acme", "account", NULL, &first,
                                              NULL, &s->err),
          &s->err);
    next_second(s);
}

static void play_api_keys(scene *s)
{
    const char *const permissions[] = {"writeApplications", "readApplications"};
    const credstore_actor actor = fx_admin(s->store);
    const credstore_call call = fx_call(&actor);
    const credstore_api_key_origin origin = {
        .struct_size = sizeof origin, .id = "key-1", .last_used_at = INT64_C(1699999999000)};
    const credstore_api_key_patch first = {.struct_size = sizeof first,
                                           .description = CREDSTORE_TEXT(""),
                                           .permissions = CREDSTORE_STRINGS(permissions, 2),
                                           .expires_at = CREDSTORE_TIME(INT64_C(1800000000000))};
    const credstore_api_key_patch second = {.struct_size = sizeof second,
                                            .description = CREDSTORE_TEXT("the second"),
                                            .permissions = CREDSTORE_STRINGS(permissions, 1),
                                            .expires_at = CREDSTORE_TIME_CLEARED};

    fx_ok(credstore_api_key_create(s->store, &call, &origin, &first, NULL, &s->err), &s->err);
    next_second(s);
    fx_ok(credstore_api_key_update(s->store, &call, "key-1", &second, NULL, &s->err), &s->err);
    next_second(s);
    fx_ok(credstore_api_key_create(s->store, &call, NULL, &second, NULL, &s->err), &s->err);
    next_second(s);
}

/* Ends with the store open. */
static void play(scene *s)
{
    credstore_key_source *reader = fx_key(READER_FILL);

    memset(s, 0, sizeof *s);
    fx_begin(&s->f);
    s->f.crypto.fixed = true;
    s->f.options.catalogue_count = FIRST_CATALOGUE;
    s->store = fx_open(&s->f);
    next_second(s);
    play_checkbook(s);
    play_stripe(s);
    play_service_credentials(s);
    play_api_keys(s);
    credstore_close(s->store);
    s->f.options.catalogue_count = FX_COUNT(fx_catalogue); /* grows */
    s->store = fx_open(&s->f);
    fx_add_slot(&s->f, s->store, 1, reader, CS_RIGHT_READ);
    credstore_key_source_free(reader);
}

static void finish(scene *s)
{
    credstore_close(s->store);
    fx_end(&s->f);
}

/* ---- files ---- */

static void put_hex(FILE *out, const cs_buf *bytes)
{
    for (size_t i = 0; i < bytes->len; i++)
        assert_int_equal(fprintf(out, "%02x", bytes->ptr[i]), 2);
}

static FILE *file_of(const char *folder, const char *name, const char *mode)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s.hex", folder, name);
    file = fopen(path, mode);
    if (file == NULL)
        print_error("%s: cannot be opened\n", path);
    assert_non_null(file);
    return file;
}

static void write_table(FILE *out, const fx_pairs *all, uint8_t first)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->pair[i].key.ptr[0] != first)
            continue;
        put_hex(out, &all->pair[i].key);
        fputc(' ', out);
        put_hex(out, &all->pair[i].value);
        fputc('\n', out);
    }
}

static unsigned digit(char c)
{
    const char *const digits = "0123456789abcdef";
    const char *at = strchr(digits, c);

    assert_true(c != '\0' && at != NULL);
    return (unsigned)(at - digits);
}

static void take_hex(const char *text, size_t len, cs_buf *out)
{
    assert_int_equal(len % 2, 0);
    for (size_t i = 0; i < len; i += 2)
        cs_buf_u8(out, (uint8_t)(digit(text[i]) << 4 | digit(text[i + 1])));
}

/* All tables of the golden store, in the order of their keys. */
static void read_golden(fx_pairs *all)
{
    char *line = malloc(LINE);

    assert_non_null(line);
    memset(all, 0, sizeof *all);
    for (size_t t = 0; t < FX_COUNT(tables); t++) {
        FILE *in = file_of(FOLDER, tables[t].name, "r");

        while (fgets(line, LINE, in) != NULL) {
            const size_t key_len = strcspn(line, " ");
            const size_t len = strcspn(line, "\n");

            assert_true(line[len] == '\n' && key_len < len && all->count < FX_PAIRS);
            take_hex(line, key_len, &all->pair[all->count].key);
            take_hex(line + key_len + 1, len - key_len - 1, &all->pair[all->count].value);
            assert_int_equal(all->pair[all->count].key.ptr[0], tables[t].first);
            all->count++;
        }
        fclose(in);
    }
    free(line);
}

/* ---- this library writes what the files hold ---- */

static void same_pair(const fx_pair *golden, const fx_pair *now)
{
    assert_int_equal(golden->key.len, now->key.len);
    assert_memory_equal(golden->key.ptr, now->key.ptr, now->key.len);
    assert_int_equal(golden->value.len, now->value.len);
    assert_memory_equal(golden->value.ptr, now->value.ptr, now->value.len);
}

static void write_all(const char *folder, const fx_pairs *all)
{
    for (size_t t = 0; t < FX_COUNT(tables); t++) {
        FILE *out = file_of(folder, tables[t].name, "w");

        write_table(out, all, tables[t].first);
        assert_int_equal(fclose(out), 0);
    }
}

static void test_written(void **state)
{
    const char *folder = getenv("CREDSTORE_GOLDEN_WRITE");
    fx_pairs golden, now;
    scene s;

    (void)state;
    play(&s);
    fx_dump(s.store, &now);
    if (folder != NULL)
        write_all(folder, &now);
    read_golden(&golden);
    for (size_t i = 0; i < golden.count && i < now.count; i++)
        same_pair(&golden.pair[i], &now.pair[i]);
    assert_int_equal(golden.count, now.count); /* which is to say: of no other table either */
    fx_pairs_free(&golden);
    fx_pairs_free(&now);
    finish(&s);
}

/* ---- this library reads what the files hold ---- */

static int begin(void **state)
{
    scene *s = calloc(1, sizeof *s);
    fx_pairs golden;

    assert_non_null(s);
    fx_begin(&s->f);
    s->f.now = FX_NOW + FX_DAY;
    read_golden(&golden);
    fx_restore(&s->f, &golden);
    fx_pairs_free(&golden);
    s->f.options.flags = 0;
    s->store = fx_open(&s->f);
    *state = s;
    return 0;
}

static int end(void **state)
{
    scene *s = *state;

    finish(s);
    free(s);
    return 0;
}

static void test_reads_checkbook(void **state)
{
    static const struct {
        const char *publishable, *secret;
        uint32_t active;
        int64_t updated_at, set_at;
    } rows[] = {
        {"publishable-1", "checkbook-secret-1", 1, INT64_C(1699335116000), INT64_C(1699335116000)},
        {"publishable-2", "checkbook-secret-1", 1, FX_NOW + 2000, INT64_C(1699335116000)},
        {"publishable-2", "checkbook-secret-2", 0, FX_NOW + 3000, FX_NOW + 3000},
    };
    scene *s = *state;

    for (uint64_t revision = 1; revision <= FX_COUNT(rows); revision++) {
        const credstore_checkbook *view = NULL;
        credstore_secret *secret = NULL;

        fx_ok(fx_get_checkbook(s->store, FX_KSUID, revision, &view, &s->err), &s->err);
        assert_int_equal(view->revision, revision);
        assert_string_equal(view->id, FX_KSUID);
        assert_string_equal(view->client_id, FX_KSUID_OTHER);
        assert_string_equal(view->publishable_key, rows[revision - 1].publishable);
        assert_string_equal(view->base_url, "https://sandbox.checkbook.io");
        assert_int_equal(view->is_active, rows[revision - 1].active);
        assert_int_equal(view->has_secret_key, 1);
        assert_true(view->created_at == INT64_C(1699335116000));
        assert_true(view->updated_at == rows[revision - 1].updated_at);
        assert_true(view->secret_key_set_at == rows[revision - 1].set_at);
        credstore_free(view);
        fx_ok(fx_reveal_checkbook(s->store, FX_KSUID, revision, &secret, &s->err), &s->err);
        assert_string_equal(credstore_secret_ptr(secret), rows[revision - 1].secret);
        credstore_secret_free(secret);
    }
}

static void test_reads_stripe(void **state)
{
    static const char *const secrets[4][6] = {
        /* by revision, and by field from 1 on; NULL: null, or not a secret */
        {NULL, NULL, NULL, NULL, NULL, NULL},
        {"sk_test_first_4242", NULL, "whsec_test_4242", "sk_live_first_4242", NULL,
         "whsec_live_4242"},
        {"sk_test_second_4242", NULL, "whsec_test_4242", "sk_live_first_4242", NULL, NULL},
        {"sk_test_second_4242", NULL, "whsec_test_4242", "sk_live_first_4242", NULL, NULL},
    };
    scene *s = *state;
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);
    const credstore_stripe *view = NULL;

    for (uint64_t revision = 1; revision <= 4; revision++)
        for (uint32_t field = 1; field <= 6; field++) {
            const char *expected = secrets[revision - 1][field - 1];
            credstore_secret *secret = NULL;

            if (field == CREDSTORE_STRIPE_TEST_PUBLISHABLE_KEY ||
                field == CREDSTORE_STRIPE_LIVE_PUBLISHABLE_KEY)
                continue;
            call.at_revision = revision;
            if (expected == NULL) {
                fx_fails(
                    credstore_stripe_reveal(s->store, &call, FX_PROJECT, field, &secret, &s->err),
                    CREDSTORE_E_NOT_FOUND, &s->err);
                continue;
            }
            fx_ok(credstore_stripe_reveal(s->store, &call, FX_PROJECT, field, &secret, &s->err),
                  &s->err);
            assert_string_equal(credstore_secret_ptr(secret), expected);
            credstore_secret_free(secret);
        }
    call.at_revision = 0;
    fx_ok(credstore_stripe_get(s->store, &call, FX_PROJECT, &view, &s->err), &s->err);
    assert_int_equal(view->revision, 4);
    assert_string_equal(view->id, OWN_ID);
    assert_string_equal(view->test_secret_key_masked, "sk_test_...42");
    assert_null(view->live_webhook_secret_masked);
    assert_string_equal(view->live_publishable_key, "pk_live_second_4242");
    assert_true(view->created_at == FX_NOW + 4000);
    assert_true(view->updated_at == FX_NOW + 7000);
    assert_true(view->test_configured_at == FX_NOW + 6000);
    assert_true(view->live_configured_at == FX_NOW + 7000);
    credstore_free(view);
}

static void test_reads_service_credential(void **state)
{
    scene *s = *state;
    const credstore_actor actor =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    credstore_call call = fx_call(&actor);
    const credstore_service_credential *view = NULL;

    fx_ok(credstore_service_credential_get(s->store, &call, "acme", "account", "credential-1",
                                           &view, &s->err),
          &s->err);
    assert_int_equal(view->revision, 2);
    assert_string_equal(view->client_id, "A1b2C3d4E5f6G7h8I9j0K");
    assert_string_equal(view->name, "another name");
    assert_null(view->description);
    assert_true(view->created_at == INT64_C(1577470279117));
    assert_true(view->last_used_at == INT64_C(1577470280000));
    credstore_free(view);
    call.at_revision = 1;
    fx_ok(credstore_service_credential_get(s->store, &call, "acme", "account", "credential-1",
                                           &view, &s->err),
          &s->err);
    assert_string_equal(view->name, "name");
    assert_string_equal(view->description, "Beschreibung \xe2\x82\xac");
    credstore_free(view);
}

static void test_reads_api_key(void **state)
{
    scene *s = *state;
    const credstore_actor actor = fx_admin(s->store);
    credstore_call call = fx_call(&actor);
    const credstore_api_key *view = NULL;

    fx_ok(credstore_api_key_get(s->store, &call, "key-1", &view, &s->err), &s->err);
    assert_int_equal(view->revision, 2);
    assert_string_equal(view->description, "the second");
    assert_int_equal(view->permission_count, 1);
    assert_string_equal(view->permissions[0], "writeApplications");
    assert_true(view->expires_at == 0);
    assert_true(view->last_used_at == INT64_C(1699999999000));
    credstore_free(view);
    call.at_revision = 1;
    fx_ok(credstore_api_key_get(s->store, &call, "key-1", &view, &s->err), &s->err);
    assert_string_equal(view->description, "");
    assert_int_equal(view->permission_count, 2);
    assert_true(view->expires_at == INT64_C(1800000000000));
    credstore_free(view);
}

/* And goes on from there: what it adds is read beside what was. */
static void test_goes_on(void **state)
{
    scene *s = *state;
    credstore_secret *secret = NULL;

    fx_ok(fx_set_secret(s->store, FX_KSUID, "of a later day", &s->err), &s->err);
    fx_ok(fx_set_secret(s->store, FX_KSUID, "of a later day", &s->err), &s->err);
    fx_ok(fx_set_publishable(s->store, FX_KSUID, "later", &s->err), &s->err);
    credstore_close(s->store);
    s->store = fx_open(&s->f);
    fx_is(s->store, FX_KSUID, 5, "later", "of a later day");
    fx_ok(fx_reveal_checkbook(s->store, FX_KSUID, 2, &secret, &s->err), &s->err);
    assert_string_equal(credstore_secret_ptr(secret), "checkbook-secret-1");
    credstore_secret_free(secret);
}

/* The other slot, which has READ alone. */
static void test_reader_slot(void **state)
{
    scene *s = *state;
    credstore_key_source *reader = fx_key(READER_FILL);
    const credstore_checkbook *view = NULL;

    s->f.options.key = reader;
    credstore_close(s->store);
    s->store = fx_open(&s->f);
    fx_ok(fx_get_checkbook(s->store, FX_KSUID, 0, &view, &s->err), &s->err);
    assert_int_equal(view->revision, 3);
    credstore_free(view);
    fx_reveal_fails(s->store, FX_KSUID, CREDSTORE_E_KEY_UNAVAILABLE);
    credstore_key_source_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written),
        cmocka_unit_test_setup_teardown(test_reads_checkbook, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_stripe, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_service_credential, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_api_key, begin, end),
        cmocka_unit_test_setup_teardown(test_goes_on, begin, end),
        cmocka_unit_test_setup_teardown(test_reader_slot, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
