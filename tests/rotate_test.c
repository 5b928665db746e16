/* SPDX-License-Identifier: MIT
 *
 * Rotation of the data keys: promoted, sealed anew, proved, retired; with values of every table;
 * with an engine that fails at every call in turn; beside others who read and write; with damage
 * that cannot be sealed anew. tests/stress/rotation_test.c does it under a crowd and under kills.
 */
#include "fixture.h"

#include <time.h>

#include "error.h"
#include "place.h"
#include "reseal.h"
#include "sealed.h"

enum { RECORDS = 12, REVISIONS = 9 };

/* ---- a store with something in each table ---- */

typedef struct bench {
    fx f;
    credstore *store, *other; /* other: for what happens in the middle of a call */
    credstore_actor system;
    credstore_call call;
    char token[256], token_id[64];
    credstore_error err;
} bench;

static const char *id_of(unsigned n)
{
    static char ids[3000][32];
    char *id = ids[n];

    snprintf(id, 32, "1NFHrqBHb3cTfLVkFSGmHZq%04u", n);
    return id;
}

/* Each record: some secrets that were replaced, one that is shared by history and the record. */
static void make_checkbook(bench *b, unsigned n)
{
    char text[32];

    fx_create_checkbook(b->store, id_of(n), "secret 1");
    for (unsigned i = 2; i < 6; i++) {
        snprintf(text, sizeof text, "secret %u", i / 2 * 2);
        fx_ok(fx_set_secret(b->store, id_of(n), text, &b->err), &b->err);
        snprintf(text, sizeof text, "text %u", i);
        fx_ok(fx_set_publishable(b->store, id_of(n), text, &b->err), &b->err);
    }
    fx_ok(credstore_checkbook_restore(b->store, &b->call, id_of(n), 1, NULL, &b->err), &b->err);
}

static void make_stripe(bench *b)
{
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .test_secret_key = CREDSTORE_SECRET("sk_test_first_4242", CREDSTORE_NTS),
        .live_webhook_secret = CREDSTORE_SECRET("whsec_1_4242", CREDSTORE_NTS)};
    const credstore_secret_text fresh = CREDSTORE_SECRET("whsec_2_4242", CREDSTORE_NTS);

    fx_ok(credstore_stripe_create(b->store, &b->call, FX_PROJECT, NULL, &patch, NULL, &b->err),
          &b->err);
    fx_ok(credstore_stripe_roll(b->store, &b->call, FX_PROJECT,
                                CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET, &fresh, 3600, NULL, &b->err),
          &b->err);
}

static void make_key(bench *b)
{
    const credstore_actor admin = fx_admin(b->store);
    credstore_call call = fx_call(&admin);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("issued"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    const credstore_api_key *view = NULL;
    credstore_secret *token = NULL;
    credstore_actor verified;

    call.idempotency_key = "issue-1"; /* a receipt with a token */
    fx_ok(credstore_api_key_issue(b->store, &call, NULL, &patch, &token, &view, &b->err), &b->err);
    snprintf(b->token, sizeof b->token, "%s", credstore_secret_ptr(token));
    snprintf(b->token_id, sizeof b->token_id, "%s", view->id);
    credstore_secret_free(token);
    credstore_free(view);
    fx_ok(credstore_api_key_verify(b->store, b->token, CREDSTORE_NTS, &verified, &b->err), &b->err);
    fx_ok(credstore_maintain(b->store, 0, NULL, &b->err), &b->err); /* a used mark */
}

static void make_others(bench *b)
{
    const credstore_actor admin =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&admin);
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("deploy")};
    credstore_checkpoint early = {.struct_size = sizeof early};
    credstore_secret *token = NULL;

    fx_ok(credstore_service_credential_issue(b->store, &call, "acme", "sa-1", NULL, &patch, &token,
                                             NULL, &b->err),
          &b->err);
    credstore_secret_free(token);
    fx_ok(credstore_organization_label(b->store, &call, "acme", "acme-labs", &b->err), &b->err);
    fx_ok(credstore_audit_verify(b->store, &b->call, NULL, &early, &b->err), &b->err);
    fx_create_checkbook(b->store, id_of(99), "removed");
    fx_ok(credstore_checkbook_remove(b->store, &b->call, id_of(99), &b->err), &b->err);
    fx_ok(credstore_audit_prune(b->store, &b->call, &early, NULL, &b->err), &b->err);
}

static void fill(bench *b)
{
    for (unsigned n = 0; n < RECORDS; n++)
        make_checkbook(b, n);
    make_stripe(b);
    make_key(b);
    make_others(b);
}

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    fx_begin(&b->f);
    b->store = fx_open(&b->f);
    b->other = fx_open(&b->f);
    b->system = fx_system();
    b->call = fx_call(&b->system);
    *state = b;
    return 0;
}

static int end(void **state)
{
    bench *b = *state;

    credstore_close(b->store);
    credstore_close(b->other);
    fx_end(&b->f);
    free(b);
    return 0;
}

/* ---- what everything says ---- */

static void check_checkbook(credstore *store, unsigned n)
{
    static const char *const secrets[] = {"secret 1", "secret 2", "secret 2", "secret 4",
                                          "secret 4", "secret 4", "secret 1"};
    credstore_secret *secret = NULL;
    const credstore_checkbook *view = NULL;
    credstore_error err;

    fx_ok(fx_get_checkbook(store, id_of(n), 0, &view, &err), &err);
    assert_int_equal(view->revision, 8);
    credstore_free(view);
    for (uint64_t revision = 1; revision <= 8; revision++) {
        fx_ok(fx_reveal_checkbook(store, id_of(n), revision, &secret, &err), &err);
        if (revision == 1 || revision == 8)
            assert_string_equal(credstore_secret_ptr(secret), secrets[0]);
        else
            assert_string_equal(credstore_secret_ptr(secret),
                                revision < 5 ? "secret 2" : "secret 4");
        credstore_secret_free(secret);
    }
}

static void check_rest(bench *b)
{
    const credstore_actor admin = fx_admin(b->store);
    credstore_call call = fx_call(&admin);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("issued"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    const char *const field = "sk_test_first_4242";
    credstore_secret *secret = NULL;
    const credstore_leaks *leaks = NULL;
    credstore_actor actor;

    fx_ok(credstore_api_key_verify(b->store, b->token, CREDSTORE_NTS, &actor, &b->err), &b->err);
    assert_string_equal(actor.id, b->token_id);
    call.idempotency_key = "issue-1";
    fx_ok(credstore_api_key_issue(b->store, &call, NULL, &patch, &secret, NULL, &b->err), &b->err);
    assert_string_equal(credstore_secret_ptr(secret), b->token);
    credstore_secret_free(secret);
    fx_ok(credstore_stripe_reveal(b->store, &b->call, FX_PROJECT, CREDSTORE_STRIPE_TEST_SECRET_KEY,
                                  &secret, &b->err),
          &b->err);
    assert_string_equal(credstore_secret_ptr(secret), field);
    credstore_secret_free(secret);
    fx_ok(credstore_leak_find(b->store, &b->call, "whsec_1_4242", CREDSTORE_NTS, &leaks, &b->err),
          &b->err);
    assert_int_equal(leaks->count, 1);
    assert_int_equal(leaks->items[0]->state, CREDSTORE_LEAK_GRACE);
    credstore_free(leaks);
    fx_ok(credstore_audit_verify(b->store, &b->call, NULL, NULL, &b->err), &b->err);
}

static void check_all(bench *b)
{
    for (unsigned n = 0; n < RECORDS; n++)
        check_checkbook(b->store, n);
    check_rest(b);
}

/* ---- keys ---- */

static const credstore_data_key_page *list(bench *b)
{
    const credstore_data_key_page *page = NULL;

    fx_ok(credstore_keys_list(b->store, &b->call, CREDSTORE_KEYS_COUNT, &page, &b->err), &b->err);
    return page;
}

static unsigned in_state(const credstore_data_key_page *page, uint32_t state)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < page->count; i++)
        count += page->items[i]->state == state;
    return count;
}

/* Boxes under keys of a state, by a count of the test's own. */
static size_t boxes_in_state(credstore *store, const credstore_data_key_page *page, uint32_t state)
{
    fx_pairs all;
    size_t found = 0;

    fx_dump(store, &all);
    for (size_t n = 0; n < all.count; n++) {
        const credstore_bytes key = cs_bytes(all.pair[n].key.ptr, all.pair[n].key.len);
        const credstore_bytes value = cs_bytes(all.pair[n].value.ptr, all.pair[n].value.len);
        cs_sealed_box boxes[CS_BOXES_MAX];
        cs_place place;
        size_t count = 0;

        if (!cs_place_of(key, value, &place) || !cs_place_boxes(&place, value, boxes, &count))
            continue;
        for (size_t i = 0; i < count; i++)
            for (uint32_t k = 0; k < page->count; k++)
                found +=
                    page->items[k]->id == boxes[i].box.key_id && page->items[k]->state == state;
    }
    fx_pairs_free(&all);
    return found;
}

static void check_state(bench *b, unsigned active, unsigned retiring, unsigned retired)
{
    static const uint32_t states[] = {CREDSTORE_DATA_KEY_ACTIVE, CREDSTORE_DATA_KEY_RETIRING,
                                      CREDSTORE_DATA_KEY_RETIRED};
    const unsigned expected[] = {active, retiring, retired};
    const credstore_data_key_page *page = list(b);

    for (size_t s = 0; s < FX_COUNT(states); s++) {
        uint64_t told = 0;

        assert_int_equal(in_state(page, states[s]), expected[s]);
        for (uint32_t i = 0; i < page->count; i++)
            told += page->items[i]->state == states[s] ? page->items[i]->boxes : 0;
        assert_int_equal(told, boxes_in_state(b->store, page, states[s]));
    }
    assert_int_equal(boxes_in_state(b->store, page, CREDSTORE_DATA_KEY_RETIRED), 0);
    credstore_free(page);
}

static credstore_status reseal(bench *b, uint32_t flags, uint32_t budget_ms, uint32_t *more)
{
    return credstore_keys_reseal(b->store, &b->call, flags, budget_ms, NULL, NULL, more, &b->err);
}

static void nap(void *arg)
{
    const struct timespec pause = {0, 3000000};

    (void)arg;
    nanosleep(&pause, NULL);
}

/* A budget that is over with the first step. */
static void one_step(bench *b, uint32_t *more)
{
    b->f.engine.before = nap;
    b->f.engine.before_op = FX_BEGIN_READ;
    fx_ok(reseal(b, 0, 1, more), &b->err);
}

static void promote(bench *b)
{
    fx_ok(credstore_keys_promote(b->store, &b->call, 0, &b->err), &b->err);
}

static bool has_cursor(credstore *store)
{
    bool found = false;
    credstore_bytes value;
    credstore_error err = {0};
    cs_key key;
    cs_txn txn;

    cs_key_rotation(&key);
    fx_ok(cs_txn_read(store, &txn, &err), &err);
    fx_ok(cs_txn_get(&txn, &key, &value, &found, &err), &err);
    cs_txn_end(&txn);
    return found;
}

/* ---- the whole way ---- */

static void count_progress(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *last = ctx;

    assert_true(total == 0 || done <= total);
    assert_true(done >= last[0]);
    last[0] = done;
    last[1] = total;
}

static void test_whole(void **state)
{
    bench *b = *state;
    const credstore_data_key_page *page;
    uint64_t last[2] = {0, 0};
    uint32_t more = 7;

    fill(b);
    check_state(b, 4, 0, 0);
    fx_ok(reseal(b, 0, 0, &more), &b->err); /* nothing retires */
    assert_int_equal(more, 0);
    promote(b);
    check_state(b, 4, 2, 0);
    check_all(b);
    fx_ok(credstore_keys_reseal(b->store, &b->call, 0, 0, count_progress, last, &more, &b->err),
          &b->err);
    assert_int_equal(more, 0);
    assert_int_equal(last[0], last[1]);
    assert_true(last[0] > 2 * RECORDS * REVISIONS);
    check_state(b, 4, 0, 2);
    check_all(b);
    assert_false(has_cursor(b->store));
    page = list(b);
    assert_int_equal(page->version, 3);
    assert_int_equal(page->count, 6);
    assert_int_equal(page->items[0]->id, 1);
    assert_int_equal(page->items[0]->state, CREDSTORE_DATA_KEY_RETIRED);
    assert_int_equal(page->items[5]->id, 6);
    assert_int_equal(page->items[5]->purpose, CREDSTORE_PURPOSE_SECRET);
    credstore_free(page);
    credstore_close(b->store); /* and the next process */
    b->store = fx_open(&b->f);
    check_all(b);
    check_state(b, 4, 0, 2);
}

/* Nothing changes but seals: revisions, times, incarnation, audit. */
static void test_plain_is_kept(void **state)
{
    bench *b = *state;
    const credstore_checkbook *before = NULL, *after = NULL;
    const credstore_audit_page *audit[2] = {NULL, NULL};
    uint32_t more = 1;

    fill(b);
    b->f.now += 5000;
    fx_ok(fx_get_checkbook(b->store, id_of(3), 0, &before, &b->err), &b->err);
    fx_ok(credstore_audit_read(b->store, &b->call, 0, 1000, 0, &audit[0], &b->err), &b->err);
    promote(b);
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    fx_ok(fx_get_checkbook(b->store, id_of(3), 0, &after, &b->err), &b->err);
    assert_int_equal(before->revision, after->revision);
    assert_int_equal(before->updated_at, after->updated_at);
    assert_int_equal(before->created_at, after->created_at);
    fx_ok(credstore_audit_read(b->store, &b->call, 0, 1000, 0, &audit[1], &b->err), &b->err);
    assert_int_equal(audit[1]->count, audit[0]->count + 2); /* promoted, retired */
    assert_int_equal(audit[1]->items[audit[0]->count]->action, CREDSTORE_ACTION_KEYS_PROMOTE);
    assert_int_equal(audit[1]->items[audit[0]->count]->revision, 2);
    assert_int_equal(audit[1]->items[audit[0]->count + 1]->action, CREDSTORE_ACTION_KEYS_RETIRE);
    assert_int_equal(audit[1]->items[audit[0]->count + 1]->revision, 3);
    credstore_free(before);
    credstore_free(after);
    credstore_free(audit[0]);
    credstore_free(audit[1]);
}

/* One purpose alone: the other keeps its key, and its boxes their bytes. */
static void test_one_purpose(void **state)
{
    static const uint32_t purposes[] = {CREDSTORE_KEYS_BODY, CREDSTORE_KEYS_SECRET};
    bench *b = *state;
    uint32_t more = 1;

    fill(b);
    for (unsigned i = 0; i < FX_COUNT(purposes); i++) {
        fx_ok(credstore_keys_promote(b->store, &b->call, purposes[i], &b->err), &b->err);
        check_state(b, 4, 1, i);
        check_all(b);
        fx_ok(reseal(b, 0, 0, &more), &b->err);
        check_state(b, 4, 0, i + 1);
        check_all(b);
    }
}

/* A promotion while another's keys are still retiring: all of them go. */
static void test_twice_at_once(void **state)
{
    bench *b = *state;
    uint32_t more = 0;

    fill(b);
    promote(b);
    one_step(b, &more);
    one_step(b, &more);
    assert_int_equal(more, 1);
    fx_ok(fx_set_secret(b->store, id_of(1), "between", &b->err), &b->err);
    promote(b);
    assert_false(has_cursor(b->store));
    check_state(b, 4, 4, 0);
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    check_state(b, 4, 0, 4);
    check_checkbook(b->store, 2);
    fx_is(b->store, id_of(1), 9, "publishable", "between");
}

/* ---- a budget ---- */

static void test_budget(void **state)
{
    bench *b = *state;
    uint32_t more = 1;
    unsigned calls = 0;

    fill(b);
    promote(b);
    while (more) {
        one_step(b, &more);
        assert_true(has_cursor(b->store) == (more != 0));
        assert_true(++calls < 50);
        credstore_close(b->store); /* nothing is kept in memory */
        b->store = fx_open(&b->f);
    }
    assert_true(calls > 2);
    check_state(b, 4, 0, 2);
    check_all(b);
}

/* ---- failures ---- */

typedef struct failure {
    int op;
    int32_t result;
    bool anyway;
} failure;

/* Each call of the engine fails once; whatever the answer, all is readable, and goes on. */
static void fail_everywhere(bench *b, const failure *how)
{
    const fx_fault none = {0};
    fx_pairs start;
    uint32_t more = 1;
    int skip = 0;

    fill(b);
    promote(b);
    fx_dump(b->store, &start);
    for (bool hit = true; hit; skip++) {
        const fx_fault fault = {
            .skip = skip, .times = 1, .result = how->result, .anyway = how->anyway};
        credstore_status status;

        credstore_close(b->store);
        fx_restore(&b->f, &start);
        b->store = fx_open(&b->f);
        b->f.engine.fault[how->op] = fault;
        status = reseal(b, 0, 0, &more);
        hit = b->f.engine.fault[how->op].times == 0;
        b->f.engine.fault[how->op] = none;
        if (!hit || how->result == CREDSTORE_STORAGE_CONFLICT)
            assert_int_equal(status, CREDSTORE_OK);
        if (status != CREDSTORE_OK)
            assert_int_equal(more, 0);
        check_all(b);
        fx_ok(reseal(b, 0, 0, &more), &b->err);
        assert_int_equal(more, 0);
        check_state(b, 4, 0, 2);
        check_all(b);
    }
    assert_true(skip > 2);
    fx_pairs_free(&start);
}

static void test_failing_reads(void **state)
{
    const failure how = {FX_BEGIN_READ, CREDSTORE_STORAGE_UNAVAILABLE, false};

    fail_everywhere(*state, &how);
}

static void test_failing_gets(void **state)
{
    const failure how = {FX_GET, CREDSTORE_STORAGE_CORRUPT, false};

    fail_everywhere(*state, &how);
}

static void test_failing_scans(void **state)
{
    const failure how = {FX_SCAN, CREDSTORE_STORAGE_UNAVAILABLE, false};

    fail_everywhere(*state, &how);
}

static void test_failing_writes(void **state)
{
    const failure how = {FX_BEGIN_WRITE, CREDSTORE_STORAGE_BUSY, false};

    fail_everywhere(*state, &how);
}

static void test_failing_puts(void **state)
{
    const failure how = {FX_PUT, CREDSTORE_STORAGE_FULL, false};

    fail_everywhere(*state, &how);
}

static void test_failing_commits(void **state)
{
    const failure how = {FX_COMMIT, CREDSTORE_STORAGE_UNAVAILABLE, false};

    fail_everywhere(*state, &how);
}

static void test_unknown_commits(void **state)
{
    const failure how = {FX_COMMIT, CREDSTORE_STORAGE_UNKNOWN, true};

    fail_everywhere(*state, &how);
}

static void test_conflicts(void **state)
{
    const failure how = {FX_COMMIT, CREDSTORE_STORAGE_CONFLICT, false};

    fail_everywhere(*state, &how);
}

static void test_failing_promotion(void **state)
{
    static const failure hows[] = {{FX_BEGIN_READ, CREDSTORE_STORAGE_UNAVAILABLE, false},
                                   {FX_BEGIN_WRITE, CREDSTORE_STORAGE_BUSY, false},
                                   {FX_GET, CREDSTORE_STORAGE_UNAVAILABLE, false},
                                   {FX_PUT, CREDSTORE_STORAGE_FULL, false},
                                   {FX_COMMIT, CREDSTORE_STORAGE_UNAVAILABLE, false}};
    bench *b = *state;
    const fx_fault none = {0};

    fill(b);
    for (size_t i = 0; i < FX_COUNT(hows); i++) {
        const fx_fault fault = {.times = 1, .result = hows[i].result};

        b->f.engine.fault[hows[i].op] = fault;
        assert_int_not_equal(credstore_keys_promote(b->store, &b->call, 0, &b->err), CREDSTORE_OK);
        b->f.engine.fault[hows[i].op] = none;
        check_state(b, 4, 0, 0);
        check_all(b);
    }
    for (int op = FX_KEY_LOAD + 1; op < FX_CRYPTO_OPS; op++) {
        const fx_fault fault = {.times = 1, .result = CREDSTORE_CRYPTO_FAILED};

        b->f.crypto.fault[op] = fault;
        assert_int_not_equal(credstore_keys_promote(b->store, &b->call, 0, &b->err), CREDSTORE_OK);
        b->f.crypto.fault[op] = none;
        check_state(b, 4, 0, 0);
    }
    promote(b); /* and known to have taken place, though the commit did not tell */
    b->f.engine.fault[FX_COMMIT] =
        (fx_fault){.times = 1, .result = CREDSTORE_STORAGE_UNKNOWN, .anyway = true};
    promote(b);
    check_state(b, 4, 4, 0);
    check_all(b);
}

/* ---- who may ---- */

static void test_rights(void **state)
{
    bench *b = *state;
    const credstore_actor admin = fx_admin(b->store);
    const credstore_call call = fx_call(&admin);
    const credstore_data_key_page *page = (const void *)b;
    uint32_t more = 7;

    fx_fails(credstore_keys_list(b->store, &call, 0, &page, &b->err), CREDSTORE_E_FORBIDDEN,
             &b->err);
    assert_null(page);
    fx_fails(credstore_keys_promote(b->store, &call, 0, &b->err), CREDSTORE_E_FORBIDDEN, &b->err);
    fx_fails(credstore_keys_reseal(b->store, &call, 0, 0, NULL, NULL, &more, &b->err),
             CREDSTORE_E_FORBIDDEN, &b->err);
    assert_int_equal(more, 0);
    fx_fails(credstore_keys_list(b->store, &b->call, 2, &page, &b->err), CREDSTORE_E_UNSUPPORTED,
             &b->err);
    fx_fails(credstore_keys_promote(b->store, &b->call, 4, &b->err), CREDSTORE_E_INVALID, &b->err);
    fx_fails(reseal(b, 2, 0, NULL), CREDSTORE_E_UNSUPPORTED, &b->err);
    fx_fails(credstore_keys_list(b->store, &b->call, 0, NULL, &b->err), CREDSTORE_E_INVALID,
             &b->err);
    check_state(b, 4, 0, 0);
}

static void test_expected_version(void **state)
{
    bench *b = *state;

    b->call.expected_revision = 2;
    fx_fails(credstore_keys_promote(b->store, &b->call, 0, &b->err), CREDSTORE_E_REVISION, &b->err);
    b->call.expected_revision = 1;
    promote(b);
    fx_fails(credstore_keys_promote(b->store, &b->call, 0, &b->err), CREDSTORE_E_REVISION, &b->err);
    b->call.expected_revision = CREDSTORE_MUST_EXIST;
    promote(b);
    check_state(b, 4, 4, 0);
}

/* A sidecar with READ alone sees the keys, and cannot turn them; its reads go on meanwhile. */
static void test_read_alone(void **state)
{
    bench *b = *state;
    credstore_key_source *reader = fx_key(0x17), *owner = b->f.key;
    credstore_actor actor;
    const credstore_data_key_page *page = NULL;
    credstore *sidecar;
    uint32_t more;

    fill(b);
    fx_add_slot(&b->f, b->store, 1, reader, CS_RIGHT_READ);
    b->f.options.key = reader;
    sidecar = fx_open(&b->f);
    b->f.options.key = owner;
    fx_fails(credstore_keys_promote(sidecar, &b->call, 0, &b->err), CREDSTORE_E_KEY_UNAVAILABLE,
             &b->err);
    promote(b);
    fx_ok(credstore_api_key_verify(sidecar, b->token, CREDSTORE_NTS, &actor, &b->err), &b->err);
    fx_fails(credstore_keys_reseal(sidecar, &b->call, 0, 0, NULL, NULL, &more, &b->err),
             CREDSTORE_E_KEY_UNAVAILABLE, &b->err);
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    fx_ok(credstore_api_key_verify(sidecar, b->token, CREDSTORE_NTS, &actor, &b->err), &b->err);
    fx_reveal_fails(sidecar, id_of(1), CREDSTORE_E_KEY_UNAVAILABLE);
    fx_ok(credstore_keys_list(sidecar, &b->call, 0, &page, &b->err), &b->err);
    assert_int_equal(page->version, 3);
    assert_int_equal(page->items[1]->boxes, 0);
    credstore_free(page);
    credstore_close(sidecar);
    credstore_key_source_free(reader);
}

static void test_read_only(void **state)
{
    bench *b = *state;
    const credstore_data_key_page *page = NULL;
    credstore *viewer;

    promote(b);
    b->f.options.flags = CREDSTORE_OPEN_READ_ONLY;
    viewer = fx_open(&b->f);
    fx_fails(credstore_keys_promote(viewer, &b->call, 0, &b->err), CREDSTORE_E_FORBIDDEN, &b->err);
    fx_fails(credstore_keys_reseal(viewer, &b->call, 0, 0, NULL, NULL, NULL, &b->err),
             CREDSTORE_E_FORBIDDEN, &b->err);
    fx_ok(credstore_keys_list(viewer, &b->call, 0, &page, &b->err), &b->err);
    assert_int_equal(in_state(page, CREDSTORE_DATA_KEY_RETIRING), 2);
    credstore_free(page);
    credstore_close(viewer);
}

/* ---- others beside it ---- */

typedef struct beside {
    bench *b;
    unsigned n;
    int left;
} beside;

/* Changes a record of the batch between the reading of it and the writing; again and again. */
static void change_between(void *arg)
{
    beside *s = arg;
    bench *b = s->b;
    credstore_error err;
    char text[32];

    snprintf(text, sizeof text, "between %u", s->n++);
    fx_ok(fx_set_secret(b->other, id_of(s->n % RECORDS), text, &err), &err);
    if (s->left-- > 0) {
        b->f.engine.before = change_between;
        b->f.engine.before_op = FX_BEGIN_WRITE;
    }
}

static void test_changed_between(void **state)
{
    bench *b = *state;
    beside s = {b, 0, 0};
    uint32_t more = 1;

    fill(b);
    promote(b);
    b->f.engine.before = change_between;
    b->f.engine.before_arg = &s;
    b->f.engine.before_op = FX_BEGIN_WRITE;
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    assert_int_equal(more, 0);
    assert_int_equal(s.n, 1);
    check_state(b, 4, 0, 2);
    fx_is(b->store, id_of(1), 9, "publishable", "between 0");
    check_checkbook(b->store, 0);
    check_checkbook(b->store, 2);
    assert_int_equal(b->f.engine.late_reads, 0);
}

static void change_one(void *arg)
{
    beside *s = arg;
    bench *b = s->b;
    credstore_error err;
    char text[32];

    snprintf(text, sizeof text, "hot %u", s->n++);
    fx_ok(fx_set_secret(b->other, id_of(0), text, &err), &err);
    if (s->left-- > 0) {
        b->f.engine.before = change_one;
        b->f.engine.before_op = FX_BEGIN_WRITE;
    }
}

/* A record that changes before each write there is: it is sealed anew in the transaction itself, or
   there would be no end. */
static void test_hot_record(void **state)
{
    bench *b = *state;
    beside s = {b, 0, 200};
    uint32_t more = 1;
    char text[32];

    fill(b);
    promote(b);
    b->f.engine.before = change_one;
    b->f.engine.before_arg = &s;
    b->f.engine.before_op = FX_BEGIN_WRITE;
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    assert_int_equal(more, 0);
    assert_in_range(s.n, 2, 20);
    b->f.engine.before = NULL;
    check_state(b, 4, 0, 2);
    snprintf(text, sizeof text, "hot %u", s.n - 1);
    fx_is(b->store, id_of(0), 8 + s.n, "publishable", text);
    for (uint64_t revision = 1; revision < 8 + s.n; revision++) {
        credstore_secret *secret = NULL;

        fx_ok(fx_reveal_checkbook(b->store, id_of(0), revision, &secret, &b->err), &b->err);
        credstore_secret_free(secret);
    }
    assert_int_equal(b->f.engine.late_reads, 0);
}

static void promote_between(void *arg)
{
    bench *b = arg;
    credstore_error err;

    fx_ok(credstore_keys_promote(b->other, &b->call, 0, &err), &err);
}

static void test_promoted_between(void **state)
{
    bench *b = *state;
    uint32_t more = 1;

    fill(b);
    promote(b);
    b->f.engine.before = promote_between;
    b->f.engine.before_arg = b;
    b->f.engine.before_op = FX_BEGIN_WRITE;
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    check_state(b, 4, 0, 4);
    check_all(b);
    b->f.engine.before = promote_between;
    promote(b);
    check_state(b, 4, 4, 4);
}

static void finish_between(void *arg)
{
    bench *b = arg;
    credstore_error err;
    uint32_t more = 1;

    fx_ok(credstore_keys_reseal(b->other, &b->call, 0, 0, NULL, NULL, &more, &err), &err);
    assert_int_equal(more, 0);
}

/* Two at once: one finds that the other was faster, whatever it was about to write. */
static void test_two_at_once(void **state)
{
    bench *b = *state;
    uint32_t more = 1;

    fill(b);
    for (int n = 0; n < 4; n++) {
        credstore_status status;

        promote(b);
        b->f.engine.before = finish_between;
        b->f.engine.before_arg = b;
        b->f.engine.before_op = n < 2 ? FX_BEGIN_WRITE : FX_BEGIN_READ;
        status = reseal(b, 0, 0, &more);
        fx_ok(status, &b->err);
        assert_int_equal(more, 0);
        check_all(b);
    }
    check_state(b, 4, 0, 8);
}

/* A snapshot that was taken before the keys were retired, by one who learns of them only now. */
static void test_slow_reader(void **state)
{
    bench *b = *state;
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id_of(1))};
    const cs_kind *kind = cs_kind_find(CREDSTORE_KIND_CHECKBOOK);
    cs_loaded loaded = {0};
    credstore *other = b->other; /* its keyring is the first one */
    cs_part part;
    cs_txn txn;
    cs_label label;
    uint8_t plain[64];
    uint32_t more;

    fill(b);
    fx_ok(credstore_keys_promote(b->store, &b->call, CREDSTORE_KEYS_BODY, &b->err), &b->err);
    fx_ok(fx_set_publishable(b->store, id_of(1), "under the new key", &b->err), &b->err);
    fx_ok(credstore_keys_promote(b->store, &b->call, CREDSTORE_KEYS_SECRET, &b->err), &b->err);
    cs_error_clear(&b->err);
    fx_ok(cs_txn_read(other, &txn, &b->err), &b->err);
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    check_checkbook(other, 2); /* learns of the last keyring */
    assert_int_equal(cs_store_ring(other)->version, 4);
    assert_int_equal(txn.ring->version, 1);
    fx_ok(cs_load(&txn, kind, &at, 0, &loaded, &b->err), &b->err);
    assert_int_equal(txn.ring->version, 3);
    fx_ok(cs_load_part(&txn, kind, &at, &loaded, cs_field_index(kind, 2), &part, &b->err), &b->err);
    label = cs_record_label(CS_ROLE_PART, &at, 2, part.revision);
    assert_int_equal(part.box.key_id, 2);
    fx_ok(cs_txn_unseal(&txn, CS_PURPOSE_SECRET, &label, &part.box, plain, &b->err), &b->err);
    assert_memory_equal(plain, "secret 1", 8);
    cs_loaded_free(&loaded);
    cs_txn_end(&txn);
    fx_is(other, id_of(1), 9, "under the new key", "secret 1");
}

/* ---- the proof ---- */

typedef struct put_back {
    fx *f;
    cs_key key;
    cs_buf value;
    unsigned calls, at;
} put_back;

static void put_old_back(void *ctx, uint64_t done, uint64_t total)
{
    put_back *p = ctx;

    (void)done;
    (void)total;
    if (++p->calls == p->at)
        fx_raw_put(p->f, &p->key, &p->value);
}

/* Something under an old key turns up behind the place where resealing is: the keys stay until it
   is found and sealed anew. */
static void test_proof(void **state)
{
    bench *b = *state;
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id_of(0))};
    put_back p = {.f = &b->f};
    uint32_t more = 1;

    fill(b);
    cs_key_record(&p.key, &at);
    for (p.at = 1;; p.at++) {
        promote(b);
        p.value = fx_raw_get(b->store, &p.key);
        p.calls = 0;
        fx_ok(credstore_keys_reseal(b->store, &b->call, 0, 0, put_old_back, &p, &more, &b->err),
              &b->err);
        cs_buf_free(&p.value);
        if (p.calls <= p.at) /* the last call, when all is over */
            break;
        check_state(b, 4, 0, 2 * p.at);
    }
    assert_true(p.at > 3);
}

/* What each commit writes anew counts as well. */
static void test_head_is_due(void **state)
{
    bench *b = *state;
    const cs_key from = {1, {CS_TABLE_LANE}};
    cs_reseal batch = {0};
    cs_txn txn;

    promote(b);
    for (int i = 0; i < 2; i++) {
        cs_error_clear(&b->err);
        fx_ok(cs_txn_read(b->store, &txn, &b->err), &b->err);
        fx_ok(cs_ring_refresh(&txn, &b->err), &b->err);
        fx_ok(cs_reseal_read(&txn, &from, &batch, &b->err), &b->err);
        cs_txn_end(&txn);
        assert_int_equal(batch.head_due, i == 0);
        fx_ok(cs_reseal_make(&batch, &b->err), &b->err);
        assert_int_equal(batch.due, 4 - i); /* three entries, and the head */
        cs_reseal_free(&batch);
        memset(&batch, 0, sizeof batch);
        fx_create_checkbook(b->store, id_of((unsigned)i), "under the new key");
    }
}

/* ---- damage ---- */

static void flip(bench *b, const cs_key *key, size_t from_end)
{
    cs_buf value = fx_raw_get(b->store, key);

    value.ptr[value.len - 1 - from_end] ^= 4;
    fx_raw_put(&b->f, key, &value);
    cs_buf_free(&value);
}

static void damaged_part(bench *b, bool forsake)
{
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id_of(4))};
    const credstore_checkbook *view = NULL;
    credstore_secret *secret = NULL;
    uint32_t more = 7;
    cs_key key;

    fill(b);
    cs_key_history(&key, &at, 4);
    flip(b, &key, 0); /* the part of revision 2 */
    promote(b);
    for (int i = 0; i < 2; i++) {
        fx_fails(reseal(b, 0, 0, &more), CREDSTORE_E_INTEGRITY, &b->err);
        assert_string_equal(b->err.field, "record");
        assert_int_equal(more, 0);
        check_state(b, 4, 2, 0);
    }
    for (unsigned n = 0; n < RECORDS; n++)
        if (n != 4)
            check_checkbook(b->store, n);
    fx_ok(fx_reveal_checkbook(b->store, id_of(4), 0, &secret, &b->err), &b->err);
    credstore_secret_free(secret);
    assert_int_equal(fx_reveal_checkbook(b->store, id_of(4), 2, &secret, &b->err),
                     CREDSTORE_E_INTEGRITY);
    if (!forsake) {
        flip(b, &key, 0);
        fx_ok(reseal(b, 0, 0, &more), &b->err);
        check_all(b);
        check_state(b, 4, 0, 2);
        return;
    }
    fx_ok(reseal(b, CREDSTORE_KEYS_FORSAKE, 0, &more), &b->err);
    fx_is(b->store, id_of(4), 8, "publishable", "secret 1");
    assert_int_equal(fx_reveal_checkbook(b->store, id_of(4), 2, &secret, &b->err),
                     CREDSTORE_E_INTEGRITY);
    fx_ok(fx_reveal_checkbook(b->store, id_of(4), 6, &secret, &b->err), &b->err);
    credstore_secret_free(secret);
    fx_ok(fx_get_checkbook(b->store, id_of(4), 3, &view, &b->err), &b->err);
    credstore_free(view);
}

static void test_damage_mended(void **state)
{
    damaged_part(*state, false);
}

static void test_damage_forsaken(void **state)
{
    damaged_part(*state, true);
}

/* A round without FORSAKE that has passed a damaged body leaves the secrets beside it under the old
   key: who gives it up on the way looks at them again, and goes on where he was from then on. */
static void test_forsaken_midway(void **state)
{
    enum { MANY = 2900 };
    bench *b = *state;
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id_of(0))};
    uint32_t more = 0;
    cs_key key;

    make_checkbook(b, 0);
    for (unsigned n = 1; n < MANY; n++)
        fx_create_checkbook(b->store, id_of(n), "secret");
    cs_key_history(&key, &at, 3); /* has no part of its own: the body is last */
    flip(b, &key, 1);
    promote(b);
    fx_fails(reseal(b, 0, 0, &more), CREDSTORE_E_INTEGRITY, &b->err);
    one_step(b, &more);
    assert_int_equal(more, 1);
    fx_ok(reseal(b, CREDSTORE_KEYS_FORSAKE, 0, &more), &b->err);
    assert_int_equal(more, 0);
    credstore_close(b->store);
    b->store = fx_open(&b->f); /* without the old keys */
    fx_is(b->store, id_of(0), 8, "publishable", "secret 1");
}

/* Of a body, of a value that is no longer laid out as one, of an index entry. */
static void test_other_damage(void **state)
{
    bench *b = *state;
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id_of(5))};
    cs_key keys[3];
    const char *const fields[] = {"record", "record", "audit"};
    const size_t where[] = {1, 0, 0};
    credstore_checkpoint now = {.struct_size = sizeof now};
    uint32_t more;

    fill(b);
    cs_key_history(&keys[0], &at, 3); /* has no part of its own: the body is last */
    cs_key_record(&keys[1], &at);
    fx_ok(credstore_audit_verify(b->store, &b->call, NULL, &now, &b->err), &b->err);
    cs_key_audit(&keys[2], 0, now.seq);
    for (size_t i = 0; i < FX_COUNT(keys); i++) {
        cs_buf value = fx_raw_get(b->store, &keys[i]), cut = value;

        if (i == 1)
            cut.len -= 5;
        else
            cut.ptr[cut.len - 1 - where[i]] ^= 1;
        fx_raw_put(&b->f, &keys[i], &cut);
        promote(b);
        fx_fails(reseal(b, 0, 0, &more), CREDSTORE_E_INTEGRITY, &b->err);
        assert_string_equal(b->err.field, fields[i]);
        if (i != 1)
            cut.ptr[cut.len - 1 - where[i]] ^= 1;
        fx_raw_put(&b->f, &keys[i], &value);
        fx_ok(reseal(b, 0, 0, &more), &b->err);
        cs_buf_free(&value);
        check_all(b);
    }
    check_state(b, 4, 0, 6);
}

static void test_damaged_cursor(void **state)
{
    bench *b = *state;
    uint32_t more = 0;
    cs_key key;

    fill(b);
    promote(b);
    one_step(b, &more);
    assert_int_equal(more, 1);
    cs_key_rotation(&key);
    flip(b, &key, 3);
    fx_fails(reseal(b, 0, 0, &more), CREDSTORE_E_INTEGRITY, &b->err);
    check_all(b);
    promote(b);
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    check_state(b, 4, 0, 4);
}

/* ---- a newer library's ---- */

/* Puts a member before the others of a record's body. */
static void add_member(bench *b, const char *id, uint16_t member)
{
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id)};
    const cs_label label = cs_record_label(CS_ROLE_CURRENT, &at, 0, 8);
    static const uint8_t nonce[CS_NONCE_LEN] = "24 bytes of a nonce.....";
    cs_buf value, plain = {0}, old, fresh = {0};
    cs_frame frame;
    cs_key key;

    cs_key_record(&key, &at);
    value = fx_raw_get(b->store, &key);
    fx_ok(cs_frame_read(cs_bytes(value.ptr, value.len), CS_ROLE_CURRENT, &frame, &b->err), &b->err);
    old = fx_unseal(b->store, &label, &frame.body);
    cs_buf_u16(&plain, member);
    cs_buf_u32(&plain, 3);
    cs_buf_add(&plain, "abc", 3);
    cs_buf_add(&plain, old.ptr, old.len);
    cs_frame_begin(&fresh, CS_ROLE_CURRENT, (uint16_t)frame.part_count, 8);
    fx_ok(cs_seal(&b->store->sealer, cs_keyring_active(cs_store_ring(b->store), CS_PURPOSE_BODY),
                  &label, nonce, cs_bytes(plain.ptr, plain.len), &fresh, NULL, &b->err),
          &b->err);
    for (size_t i = 0; i < frame.part_count; i++)
        cs_buf_add(&fresh, frame.parts[i].whole.ptr, frame.parts[i].whole.len);
    fx_raw_put(&b->f, &key, &fresh);
    cs_buf_free(&value);
    cs_buf_free(&plain);
    cs_buf_free(&old);
    cs_buf_free(&fresh);
}

static void test_unknown_member(void **state)
{
    bench *b = *state;
    const cs_locator at = {.kind = CREDSTORE_KIND_CHECKBOOK, .id = cs_bytes_of(id_of(2))};
    const cs_label label = cs_record_label(CS_ROLE_CURRENT, &at, 0, 8);
    cs_buf value, plain;
    cs_frame frame;
    cs_key key;
    uint32_t more;

    fill(b);
    add_member(b, id_of(2), 0x1234);
    promote(b);
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    check_all(b);
    cs_key_record(&key, &at);
    value = fx_raw_get(b->store, &key);
    fx_ok(cs_frame_read(cs_bytes(value.ptr, value.len), CS_ROLE_CURRENT, &frame, &b->err), &b->err);
    plain = fx_unseal(b->store, &label, &frame.body);
    assert_memory_equal(plain.ptr, "\x12\x34\0\0\0\3abc", 9); /* where it stood */
    cs_buf_free(&value);
    cs_buf_free(&plain);
}

static void test_critical_member(void **state)
{
    bench *b = *state;
    uint32_t more;

    fill(b);
    add_member(b, id_of(2), 0x9234);
    fx_ok(credstore_keys_promote(b->store, &b->call, CREDSTORE_KEYS_BODY, &b->err), &b->err);
    fx_ok(reseal(b, 0, 0, &more), &b->err); /* a body alone needs no understanding */
    fx_get_fails(b->store, id_of(2), CREDSTORE_E_FORMAT);
    promote(b);
    for (uint32_t flags = 0; flags <= CREDSTORE_KEYS_FORSAKE; flags++) {
        fx_fails(reseal(b, flags, 0, &more), CREDSTORE_E_FORMAT, &b->err);
        assert_string_equal(b->err.field, "record");
        check_state(b, 4, 2, 1);
    }
    check_checkbook(b->store, 3);
    fx_get_fails(b->store, id_of(2), CREDSTORE_E_FORMAT);
}

/* ---- many rotations ---- */

static void test_full_keyring(void **state)
{
    bench *b = *state;
    const credstore_data_key_page *page;
    uint32_t more, top = 4;
    unsigned made = 0;

    fx_create_checkbook(b->store, id_of(0), "secret");
    while (credstore_keys_promote(b->store, &b->call, 0, &b->err) == CREDSTORE_OK)
        made++;
    assert_int_equal(b->err.status, CREDSTORE_E_CONFLICT);
    assert_int_equal(made, 30); /* 4 + 2 * 30 = 64 */
    fx_ok(reseal(b, 0, 0, &more), &b->err);
    check_state(b, 4, 0, 60);
    for (int n = 0; n < 40; n++) {
        promote(b);
        fx_ok(reseal(b, 0, 0, &more), &b->err);
        page = list(b);
        assert_int_equal(page->count, 64);
        top = n == 0 ? page->items[63]->id : top + 2;
        assert_int_equal(page->items[63]->id, top); /* no number comes again */
        assert_int_equal(in_state(page, CREDSTORE_DATA_KEY_ACTIVE), 4);
        credstore_free(page);
        credstore_close(b->store);
        b->store = fx_open(&b->f);
    }
    fx_is(b->store, id_of(0), 1, "publishable", "secret");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whole),
        TEST(test_plain_is_kept),
        TEST(test_one_purpose),
        TEST(test_twice_at_once),
        TEST(test_budget),
        TEST(test_failing_reads),
        TEST(test_failing_gets),
        TEST(test_failing_scans),
        TEST(test_failing_writes),
        TEST(test_failing_puts),
        TEST(test_failing_commits),
        TEST(test_unknown_commits),
        TEST(test_conflicts),
        TEST(test_failing_promotion),
        TEST(test_rights),
        TEST(test_expected_version),
        TEST(test_read_alone),
        TEST(test_read_only),
        TEST(test_changed_between),
        TEST(test_hot_record),
        TEST(test_promoted_between),
        TEST(test_two_at_once),
        TEST(test_slow_reader),
        TEST(test_proof),
        TEST(test_head_is_due),
        TEST(test_damage_mended),
        TEST(test_damage_forsaken),
        TEST(test_forsaken_midway),
        TEST(test_other_damage),
        TEST(test_damaged_cursor),
        TEST(test_unknown_member),
        TEST(test_critical_member),
        TEST(test_full_keyring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
