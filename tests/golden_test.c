/* SPDX-License-Identifier: MIT
 *
 * The on-disk format, held fast. A fixed scenario with fixed keys, clock and randomness must write
 * tests/golden/<table>.hex byte by byte, a line `key value` each; and the store in those files must
 * open and read as expected, whatever this library has become since.
 * CREDSTORE_GOLDEN_WRITE=<folder> writes the files anew. tests/golden/reader_test.py reads the same
 * files by the format page alone, against tests/golden/expected.json.
 */
#include "fixture.h"

#include <time.h>

#include "error.h"

#define FOLDER  "tests/golden"
#define REQUEST "7d444840-9dc0-11d1-b245-5ffdce74fad2"
#define ROLLED  "a1f0c3de-52b7-4c1e-9a64-0f2d6b8e7c35"
#define REMOVED "0uk1HdCJ6hUZKDgcxhpJwUl5ZEI"
#define ENDED   "key-ended"
#define LABEL   "acme-labs"
#define OWN_ID  "550e8400-e29b-41d4-a716-446655440000"

enum { LINE = 64 * 1024, FIRST_CATALOGUE = 3, READER_FILL = 0x17, GRACE_S = 30 * 86400 };
enum { CHEAP = 14, BOTH = CREDSTORE_ROOT_READ | CREDSTORE_ROOT_REVEAL };

static const char imported_key[] = "a key that was made elsewhere 0001";

static const struct table {
    const char *name;
    uint8_t first;
} tables[] = {
    {"meta", CS_TABLE_META},         {"root", CS_TABLE_ROOT},
    {"keyring", CS_TABLE_KEYRING},   {"catalogue", CS_TABLE_CATALOGUE},
    {"rotation", CS_TABLE_ROTATION}, {"record", CS_TABLE_RECORD},
    {"owner", CS_TABLE_OWNER},       {"lane", CS_TABLE_LANE},
    {"receipt", CS_TABLE_RECEIPT},   {"purge", CS_TABLE_PURGE},
    {"end", CS_TABLE_END},           {"usage", CS_TABLE_USAGE},
    {"alias", CS_TABLE_ALIAS},       {"fingerprint", CS_TABLE_FINGERPRINT},
    {"digest", CS_TABLE_DIGEST},     {"token", CS_TABLE_TOKEN},
};

/* ---- the scenario ---- */

typedef struct scene {
    fx f;
    credstore *store;
    credstore_error err;
    credstore_checkpoint early;
} scene;

static void next_second(scene *s)
{
    s->f.now += 1000;
}

static void take_checkpoint(scene *s)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);

    fx_ok(credstore_audit_verify(s->store, &call, NULL, &s->early, &s->err), &s->err);
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
    take_checkpoint(s);
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

/* A key is issued; again, which is no second one. */
static void issue_key(scene *s, credstore_secret **key, char id[CS_ID_MAX + 1])
{
    const char *const permissions[] = {"readApplications"};
    const credstore_actor actor = fx_admin(s->store);
    credstore_call call = fx_call(&actor);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("issued"),
                                           .permissions = CREDSTORE_STRINGS(permissions, 1),
                                           .expires_at = CREDSTORE_TIME(INT64_C(1800000000000))};
    const credstore_api_key *view = NULL;

    call.idempotency_key = "issue-1";
    fx_ok(credstore_api_key_issue(s->store, &call, "golden", &patch, key, &view, &s->err), &s->err);
    snprintf(id, CS_ID_MAX + 1, "%s", view->id);
    credstore_free(view);
}

static void roll_key(scene *s, const char *id, credstore_secret **key)
{
    const credstore_actor actor = fx_admin(s->store);
    credstore_call call = fx_call(&actor);

    call.idempotency_key = "roll-1";
    fx_ok(credstore_api_key_roll(s->store, &call, id, GRACE_S, key, NULL, &s->err), &s->err);
}

static void play_issued_key(scene *s)
{
    credstore_secret *first = NULL, *again = NULL, *rolled = NULL;
    char id[CS_ID_MAX + 1], same[CS_ID_MAX + 1];

    issue_key(s, &first, id);
    next_second(s);
    issue_key(s, &again, same);
    assert_string_equal(id, same);
    assert_string_equal(credstore_secret_ptr(first), credstore_secret_ptr(again));
    roll_key(s, id, &rolled);
    next_second(s);
    credstore_secret_free(first);
    credstore_secret_free(again);
    credstore_secret_free(rolled);
}

static void play_imported_key(scene *s)
{
    const char *const permissions[] = {"readApplications"};
    const credstore_actor actor = fx_admin(s->store);
    credstore_call call = fx_call(&actor);
    uint8_t digest[32];
    const credstore_api_key_origin origin = {.struct_size = sizeof origin,
                                             .id = "key-imported",
                                             .token_sha256 = digest,
                                             .last_four = "0001"};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("imported"),
                                           .permissions = CREDSTORE_STRINGS(permissions, 1)};

    assert_int_equal(
        fx_crypto_digest(&s->f.crypto, cs_bytes(imported_key, strlen(imported_key)), digest),
        CREDSTORE_CRYPTO_OK);
    call.idempotency_key = "import-1"; /* a receipt without a token */
    fx_ok(credstore_api_key_create(s->store, &call, &origin, &patch, NULL, &s->err), &s->err);
    next_second(s);
}

static void issue_credential(scene *s, const char *name, credstore_secret **secret,
                             char id[CS_ID_MAX + 1])
{
    const credstore_actor actor =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    credstore_call call = fx_call(&actor);
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT(name)};
    const credstore_service_credential *view = NULL;

    call.idempotency_key = name;
    fx_ok(credstore_service_credential_issue(s->store, &call, "acme", "account", NULL, &patch,
                                             secret, &view, &s->err),
          &s->err);
    snprintf(id, CS_ID_MAX + 1, "%s", view->id);
    credstore_free(view);
}

/* One that stays and one that is removed, and the organization gets a label. */
static void play_issued_credentials(scene *s)
{
    const credstore_actor actor =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&actor);
    const char *const names[] = {"issued", "withdrawn"};
    char id[CS_ID_MAX + 1];

    for (size_t i = 0; i < FX_COUNT(names); i++) {
        credstore_secret *secret = NULL;

        issue_credential(s, names[i], &secret, id);
        credstore_secret_free(secret);
        next_second(s);
    }
    fx_ok(credstore_service_credential_remove(s->store, &call, "acme", "account", id, &s->err),
          &s->err);
    next_second(s);
    fx_ok(credstore_organization_label(s->store, &call, "acme", LABEL, &s->err), &s->err);
    next_second(s);
}

/* The first secret's part goes into history, the second's stays beside the third's. */
static void play_rolled_stripe(scene *s)
{
    const credstore_actor actor =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&actor);
    const credstore_stripe_origin origin = {.struct_size = sizeof origin, .id = REQUEST};
    const credstore_stripe_patch patch = {.struct_size = sizeof patch,
                                          .live_webhook_secret =
                                              CREDSTORE_SECRET("whsec_1_4242", CREDSTORE_NTS)};
    const credstore_secret_text fresh[] = {CREDSTORE_SECRET("whsec_2_4242", CREDSTORE_NTS),
                                           CREDSTORE_SECRET("whsec_3_4242", CREDSTORE_NTS)};

    fx_ok(credstore_stripe_create(s->store, &call, ROLLED, &origin, &patch, NULL, &s->err),
          &s->err);
    next_second(s);
    for (size_t i = 0; i < FX_COUNT(fresh); i++) {
        fx_ok(credstore_stripe_roll(s->store, &call, ROLLED, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET,
                                    &fresh[i], GRACE_S, NULL, &s->err),
              &s->err);
        next_second(s);
    }
}

static void play_removed_checkbook(scene *s)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);

    fx_create_checkbook(s->store, REMOVED, "checkbook-removed");
    next_second(s);
    fx_ok(credstore_checkbook_remove(s->store, &call, REMOVED, &s->err), &s->err);
    next_second(s);
}

/* A key that maintenance finds over, beside the ends that are still to come. */
static void play_ended_key(scene *s)
{
    const char *const permissions[] = {"readApplications"};
    const credstore_actor actor = fx_admin(s->store);
    const credstore_call call = fx_call(&actor);
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = ENDED};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("ended"),
                                           .permissions = CREDSTORE_STRINGS(permissions, 1),
                                           .expires_at = CREDSTORE_TIME(s->f.now + 1000)};

    fx_ok(credstore_api_key_create(s->store, &call, &origin, &patch, NULL, &s->err), &s->err);
    s->f.now += 60000;
    fx_ok(credstore_maintain(s->store, 0, NULL, &s->err), &s->err);
    next_second(s);
}

static void play_prune(scene *s)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    uint32_t more = 1;

    fx_ok(credstore_audit_prune(s->store, &call, &s->early, &more, &s->err), &s->err);
    assert_int_equal(more, 0);
    next_second(s);
}

static void outlast(void *arg)
{
    const struct timespec pause = {0, 3000000};

    (void)arg;
    nanosleep(&pause, NULL);
}

/* New keys, and a rotation that has counted the values: all but what it wrote itself is under the
   old ones. */
static void play_rotation(scene *s)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    uint32_t more = 0;

    next_second(s);
    fx_ok(credstore_keys_promote(s->store, &call, 0, &s->err), &s->err);
    s->f.engine.before = outlast; /* its budget */
    s->f.engine.before_op = FX_BEGIN_READ;
    fx_ok(credstore_keys_reseal(s->store, &call, 0, 1, NULL, NULL, &more, &s->err), &s->err);
    assert_int_equal(more, 1);
}

/* ---- root slots beside the first one ---- */

/* A key service whose blob is the keys under a pad, and the pad's byte. ctx: the pad. */
static int32_t pad_wrap(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob, size_t *blob_len)
{
    const uint8_t pad = *(const uint8_t *)ctx;

    for (size_t i = 0; i < len; i++)
        blob[i] = keys[i] ^ pad;
    blob[len] = pad;
    *blob_len = len + 1;
    return CREDSTORE_KEY_OK;
}

static int32_t pad_unwrap(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys,
                          size_t *len)
{
    const uint8_t pad = *(const uint8_t *)ctx;

    if (blob_len == 0 || blob_len - 1 > *len || blob[blob_len - 1] != pad)
        return CREDSTORE_KEY_GONE;
    *len = blob_len - 1;
    for (size_t i = 0; i < *len; i++)
        keys[i] = blob[i] ^ pad;
    return CREDSTORE_KEY_OK;
}

static uint8_t pads[] = {92, 93};

/* Slots 1 and on; a raw key, a passphrase, or a service. */
static const struct slot {
    const char *passphrase;
    uint8_t *pad;
    uint32_t rights;
} slots[] = {
    {NULL, NULL, CREDSTORE_ROOT_READ},
    {"correct horse battery staple", NULL, BOTH},
    {NULL, &pads[0], BOTH},
    {NULL, &pads[1], CREDSTORE_ROOT_READ},
};

static credstore_key_source *key_of(const struct slot *slot)
{
    const credstore_key_service service = {
        .struct_size = sizeof service, .wrap = pad_wrap, .unwrap = pad_unwrap, .ctx = slot->pad};
    credstore_key_source *key = NULL;
    credstore_error err;

    if (slot->passphrase != NULL)
        fx_ok(credstore_key_passphrase(slot->passphrase, CREDSTORE_NTS, CHEAP, &key, &err), &err);
    else if (slot->pad != NULL)
        fx_ok(credstore_key_callback(&service, &key, &err), &err);
    else
        key = fx_key(READER_FILL);
    return key;
}

static void play_slots(scene *s)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);

    for (uint32_t i = 0; i < FX_COUNT(slots); i++) {
        credstore_key_source *key = key_of(&slots[i]);
        uint32_t slot = 0;

        next_second(s);
        fx_ok(credstore_root_add(s->store, &call, key, slots[i].rights, &slot, &s->err), &s->err);
        assert_int_equal(slot, i + 1);
        credstore_key_source_free(key);
    }
}

/* Ends with the store open. */
static void play(scene *s)
{
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
    play_issued_key(s);
    play_imported_key(s);
    play_issued_credentials(s);
    play_rolled_stripe(s);
    play_removed_checkbook(s);
    play_ended_key(s);
    play_prune(s);
    credstore_close(s->store);
    s->f.options.catalogue_count = FX_COUNT(fx_catalogue); /* grows */
    s->store = fx_open(&s->f);
    play_slots(s);
    play_rotation(s);
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

/* A receipt gives the token again; old and new, and the one from elsewhere, tell who it is. */
static void test_reads_tokens(void **state)
{
    scene *s = *state;
    credstore_secret *key[2] = {NULL, NULL};
    char id[CS_ID_MAX + 1];
    credstore_actor actor = {0};

    issue_key(s, &key[0], id);
    roll_key(s, id, &key[1]);
    assert_memory_equal(credstore_secret_ptr(key[0]), "golden_", 7);
    assert_string_not_equal(credstore_secret_ptr(key[0]), credstore_secret_ptr(key[1]));
    for (size_t i = 0; i < FX_COUNT(key); i++) {
        fx_ok(credstore_api_key_verify(s->store, credstore_secret_ptr(key[i]), CREDSTORE_NTS,
                                       &actor, &s->err),
              &s->err);
        assert_string_equal(actor.id, id);
        assert_string_equal(actor.tenant, "acme");
    }
    fx_ok(credstore_api_key_verify(s->store, imported_key, CREDSTORE_NTS, &actor, &s->err),
          &s->err);
    assert_string_equal(actor.id, "key-imported");
    s->f.now += INT64_C(1000) * GRACE_S;
    fx_fails(credstore_api_key_verify(s->store, credstore_secret_ptr(key[0]), CREDSTORE_NTS, &actor,
                                      &s->err),
             CREDSTORE_E_UNAUTHENTICATED, &s->err);
    credstore_secret_free(key[0]);
    credstore_secret_free(key[1]);
}

static void test_reads_issued_credential(void **state)
{
    scene *s = *state;
    credstore_secret *secret = NULL;
    char id[CS_ID_MAX + 1];
    credstore_actor actor = {0};

    issue_credential(s, "issued", &secret, id);
    fx_ok(credstore_service_credential_verify(s->store, credstore_secret_ptr(secret), CREDSTORE_NTS,
                                              &actor, &s->err),
          &s->err);
    assert_int_equal(actor.type, CREDSTORE_ACTOR_SERVICE);
    assert_string_equal(actor.id, id);
    assert_string_equal(actor.tenant, "acme");
    credstore_secret_free(secret);
}

static void test_reads_label(void **state)
{
    scene *s = *state;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_service_credential *view = NULL;

    fx_ok(credstore_service_credential_get(s->store, &call, LABEL, "account", "credential-1", &view,
                                           &s->err),
          &s->err);
    assert_string_equal(view->organization_id, "acme");
    credstore_free(view);
}

static void test_reads_leaks(void **state)
{
    static const struct {
        const char *text, *id;
        uint32_t kind, state;
    } rows[] = {
        {"checkbook-secret-2", FX_KSUID, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_LEAK_CURRENT},
        {"checkbook-secret-1", FX_KSUID, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_LEAK_PAST},
        {"checkbook-removed", REMOVED, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_LEAK_REMOVED},
        {"whsec_1_4242", ROLLED, CREDSTORE_KIND_STRIPE, CREDSTORE_LEAK_PAST},
        {"whsec_2_4242", ROLLED, CREDSTORE_KIND_STRIPE, CREDSTORE_LEAK_GRACE},
        {"whsec_3_4242", ROLLED, CREDSTORE_KIND_STRIPE, CREDSTORE_LEAK_CURRENT},
        {imported_key, "key-imported", CREDSTORE_KIND_API_KEY, CREDSTORE_LEAK_CURRENT},
    };
    scene *s = *state;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);

    for (size_t i = 0; i < FX_COUNT(rows); i++) {
        const credstore_leaks *found = NULL;

        fx_ok(credstore_leak_find(s->store, &call, rows[i].text, CREDSTORE_NTS, &found, &s->err),
              &s->err);
        assert_int_equal(found->count, 1);
        assert_int_equal(found->items[0]->kind, rows[i].kind);
        assert_int_equal(found->items[0]->state, rows[i].state);
        assert_string_equal(found->items[0]->id, rows[i].id);
        credstore_free(found);
    }
}

static size_t count_table(credstore *store, uint8_t first)
{
    fx_pairs all;
    size_t count = 0;

    fx_dump(store, &all);
    for (size_t i = 0; i < all.count; i++)
        count += all.pair[i].key.ptr[0] == first;
    fx_pairs_free(&all);
    return count;
}

/* What is removed stays so, and when its retention is over maintenance finds it. */
static void test_reads_removed(void **state)
{
    scene *s = *state;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = REMOVED};
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT("again"),
                                             .secret_key = CREDSTORE_SECRET("again", CREDSTORE_NTS),
                                             .base_url =
                                                 CREDSTORE_TEXT("https://sandbox.checkbook.io")};
    const size_t before = count_table(s->store, CS_TABLE_RECORD);

    fx_get_fails(s->store, REMOVED, CREDSTORE_E_NOT_FOUND);
    fx_fails(credstore_checkbook_create(s->store, &call, &origin, &patch, NULL, &s->err),
             CREDSTORE_E_EXISTS, &s->err);
    assert_int_equal(count_table(s->store, CS_TABLE_PURGE), 2);
    for (int i = 0; i < 2; i++) { /* the clock is believed a day later */
        s->f.now += i == 0 ? 31 * FX_DAY : FX_DAY;
        fx_ok(credstore_maintain(s->store, 0, NULL, &s->err), &s->err);
    }
    assert_int_equal(count_table(s->store, CS_TABLE_PURGE), 0);
    assert_int_equal(count_table(s->store, CS_TABLE_RECEIPT), 0);
    /* Two went; and two keys whose life was over by then have one more each. */
    assert_int_equal(count_table(s->store, CS_TABLE_RECORD), before - 2 + 2);
}

static void test_reads_audit(void **state)
{
    scene *s = *state;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_audit_page *page = NULL;

    fx_ok(credstore_audit_verify(s->store, &call, NULL, NULL, &s->err), &s->err);
    fx_ok(credstore_audit_read(s->store, &call, 0, 1, 0, &page, &s->err), &s->err);
    assert_int_equal(page->count, 1);
    assert_int_equal(page->items[0]->seq, 4); /* after the store, its catalogue, a checkbook */
    assert_int_equal(page->items[0]->action, CREDSTORE_ACTION_UPDATE);
    credstore_free(page);
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

/* Each of the other slots. */
static void test_reads_by_each_slot(void **state)
{
    scene *s = *state;

    for (size_t i = 0; i < FX_COUNT(slots); i++) {
        credstore_key_source *key = key_of(&slots[i]);
        const credstore_checkbook *view = NULL;

        s->f.options.key = key;
        credstore_close(s->store);
        s->store = fx_open(&s->f);
        assert_int_equal(s->store->keys.slot, i + 1);
        fx_ok(fx_get_checkbook(s->store, FX_KSUID, 0, &view, &s->err), &s->err);
        assert_int_equal(view->revision, 3);
        credstore_free(view);
        if (slots[i].rights == BOTH)
            fx_is(s->store, FX_KSUID, 3, "publishable-2", "checkbook-secret-2");
        else
            fx_reveal_fails(s->store, FX_KSUID, CREDSTORE_E_KEY_UNAVAILABLE);
        credstore_key_source_free(key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written),
        cmocka_unit_test_setup_teardown(test_reads_checkbook, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_stripe, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_service_credential, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_api_key, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_tokens, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_issued_credential, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_label, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_leaks, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_removed, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_audit, begin, end),
        cmocka_unit_test_setup_teardown(test_goes_on, begin, end),
        cmocka_unit_test_setup_teardown(test_reads_by_each_slot, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
