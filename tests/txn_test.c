/* SPDX-License-Identifier: MIT
 *
 * Transactions over an engine and a provider that fail at every place, in every way: a change takes
 * place whole and once, or not at all, and what is answered is true.
 */
#include "fixture.h"

#include <pthread.h>

#include "commit.h"
#include "error.h"
#include "sealed.h"
#include "support.h"
#include "txn.h"

enum { ATTEMPTS = 16 };

/* ---- an engine that lends nothing ---- */

int32_t __real_credstore_sink_borrow(credstore_sink *sink, credstore_bytes key,
                                     credstore_bytes value);
int32_t __wrap_credstore_sink_borrow(credstore_sink *sink, credstore_bytes key,
                                     credstore_bytes value);

static bool copies_only;
static int32_t (*deaf)(int32_t result); /* what the engine makes of the sink's answer */

/* Hands over bytes that are gone, and not the same any more, when the sink is back. */
int32_t __wrap_credstore_sink_borrow(credstore_sink *sink, credstore_bytes key,
                                     credstore_bytes value)
{
    uint8_t *block;
    int32_t result;

    if (!copies_only) {
        result = __real_credstore_sink_borrow(sink, key, value);
        return deaf == NULL ? result : deaf(result);
    }
    block = malloc(key.len + value.len + 1);
    assert_non_null(block);
    memcpy(block, key.ptr, key.len);
    memcpy(block + key.len, value.ptr, value.len);
    result =
        credstore_sink_copy(sink, cs_bytes(block, key.len), cs_bytes(block + key.len, value.len));
    memset(block, 0xdd, key.len + value.len);
    free(block);
    return deaf == NULL ? result : deaf(result);
}

/* ---- memory that runs out ---- */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static bool out_of_memory;
static atomic_size_t allocated; /* times */

void *__wrap_calloc(size_t count, size_t size)
{
    allocated++;
    return out_of_memory ? NULL : __real_calloc(count, size);
}

/* ---- memory that is held ---- */

void *__real_cs_alloc(size_t count, size_t size);
void __real_cs_free(void *ptr);
void __real_cs_free_wiped(void *ptr, size_t len);
void *__wrap_cs_alloc(size_t count, size_t size);
void __wrap_cs_free(void *ptr);
void __wrap_cs_free_wiped(void *ptr, size_t len);

static atomic_size_t held, held_most; /* blocks; the most since the test last looked */

void *__wrap_cs_alloc(size_t count, size_t size)
{
    void *ptr = __real_cs_alloc(count, size);

    held += ptr != NULL;
    if (held > held_most)
        held_most = held;
    return ptr;
}

void __wrap_cs_free(void *ptr)
{
    held -= ptr != NULL;
    __real_cs_free(ptr);
}

void __wrap_cs_free_wiped(void *ptr, size_t len)
{
    held -= ptr != NULL;
    __real_cs_free_wiped(ptr, len);
}

/* ---- a store with one record ---- */

typedef struct bench {
    fx f;
    credstore *store;
    fx_pairs before;
    struct rival *rival;
} bench;

static int begin(void **state)
{
    bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    fx_begin(&b->f);
    b->store = fx_open(&b->f);
    fx_create_checkbook(b->store, FX_KSUID, "first");
    fx_dump(b->store, &b->before);
    *state = b;
    return 0;
}

static int end(void **state)
{
    bench *b = *state;

    fx_pairs_free(&b->before);
    credstore_close(b->store);
    fx_end(&b->f);
    free(b);
    copies_only = false;
    deaf = NULL;
    return 0;
}

static void arm(bench *b, int op, int skip, int times, int32_t result)
{
    const fx_fault fault = {.skip = skip, .times = times, .result = result};

    b->f.engine.fault[op] = fault;
}

static void disarm(bench *b)
{
    memset(b->f.engine.fault, 0, sizeof b->f.engine.fault);
    memset(b->f.crypto.fault, 0, sizeof b->f.crypto.fault);
}

static void unchanged(bench *b)
{
    fx_pairs now;

    disarm(b);
    fx_dump(b->store, &now);
    assert_true(fx_pairs_equal(&b->before, &now));
    fx_pairs_free(&now);
    fx_engine_balanced(&b->f.engine);
}

/* Nothing is broken: the next change is made, once. */
static void goes_on(bench *b, uint64_t revision)
{
    credstore_error err;
    char text[32];

    disarm(b);
    snprintf(text, sizeof text, "text %u", (unsigned)revision);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, text, &err), &err);
    fx_is(b->store, FX_KSUID, revision, text, "first");
}

/* ---- conflicts ---- */

static void test_conflicts(void **state)
{
    static const int times[] = {0, 1, 2, 5, ATTEMPTS - 1};
    bench *b = *state;
    credstore_error err;

    for (size_t i = 0; i < FX_COUNT(times); i++) {
        const unsigned commits = b->f.engine.calls[FX_COMMIT];
        char text[32];

        snprintf(text, sizeof text, "after %d conflicts", times[i]);
        arm(b, FX_COMMIT, 0, times[i], CREDSTORE_STORAGE_CONFLICT);
        fx_ok(fx_set_publishable(b->store, FX_KSUID, text, &err), &err);
        assert_int_equal(b->f.engine.calls[FX_COMMIT] - commits, times[i] + 1);
        fx_is(b->store, FX_KSUID, 2 + i, text, "first"); /* one revision each */
    }
}

static void test_conflicts_for_ever(void **state)
{
    bench *b = *state;
    const unsigned commits = b->f.engine.calls[FX_COMMIT];
    credstore_error err;

    arm(b, FX_COMMIT, 0, 1000, CREDSTORE_STORAGE_CONFLICT);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "never", &err), CREDSTORE_E_CONFLICT, &err);
    assert_int_equal(b->f.engine.calls[FX_COMMIT] - commits, ATTEMPTS);
    unchanged(b);
    goes_on(b, 2);
}

/* A conflict, and then something else: the last word counts. */
static void test_conflict_then_failure(void **state)
{
    bench *b = *state;
    credstore_error err;

    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_CONFLICT);
    arm(b, FX_BEGIN_WRITE, 1, 1, CREDSTORE_STORAGE_BUSY);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "never", &err), CREDSTORE_E_BUSY, &err);
    unchanged(b);
    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_CONFLICT);
    arm(b, FX_PUT, 3, 1, CREDSTORE_STORAGE_FULL);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "never", &err), CREDSTORE_E_FULL, &err);
    unchanged(b);
    goes_on(b, 2);
}

/* NOT_FOUND is an answer of get and del. From any other call it is an engine at fault, and must not
   be told as a record that is not there. */
static void test_not_found_is_no_answer(void **state)
{
    static const int ops[] = {FX_BEGIN_READ, FX_BEGIN_WRITE, FX_PUT, FX_COMMIT};
    bench *b = *state;
    credstore_error err;

    for (size_t i = 0; i < FX_COUNT(ops); i++) {
        arm(b, ops[i], 0, 1, CREDSTORE_STORAGE_NOT_FOUND);
        fx_fails(fx_set_publishable(b->store, FX_KSUID, "never", &err), CREDSTORE_E_STORAGE, &err);
        unchanged(b);
    }
    goes_on(b, 2);
}

typedef struct rival {
    credstore *store;
    const char *text;
} rival;

static void change_first(void *arg)
{
    const rival *r = arg;
    credstore_error err;

    fx_ok(fx_set_publishable(r->store, FX_KSUID, r->text, &err), &err);
}

/* From the commit on: whoever begins to read next finds that another was there before. */
static void wait_for_commit(void *arg)
{
    bench *b = arg;

    b->f.engine.before = change_first;
    b->f.engine.before_arg = b->rival;
    b->f.engine.before_op = FX_BEGIN_READ;
}

/* What another wrote in between is kept, and the expected revision is held against it. */
static void test_conflict_with_another(void **state)
{
    bench *b = *state;
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .is_active = CREDSTORE_FLAG(0)};
    rival other = {fx_open(&b->f), "another's"};
    credstore_error err;

    b->f.engine.before = change_first;
    b->f.engine.before_arg = &other;
    b->f.engine.before_op = FX_BEGIN_WRITE;
    call.expected_revision = 1;
    fx_fails(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err),
             CREDSTORE_E_REVISION, &err);
    fx_is(b->store, FX_KSUID, 2, "another's", "first");
    other.text = "and again";
    b->f.engine.before = change_first;
    call.expected_revision = 0;
    fx_ok(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err), &err);
    fx_is(b->store, FX_KSUID, 4, "and again", "first");
    credstore_close(other.store);
}

/* ---- a commit of which the engine cannot tell ---- */

static void test_unknown_but_done(void **state)
{
    bench *b = *state;
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT("done")};
    const credstore_checkbook *view = NULL;
    credstore_error err;

    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_UNKNOWN);
    b->f.engine.fault[FX_COMMIT].anyway = true;
    fx_ok(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, &view, &err), &err);
    assert_int_equal(view->revision, 2);
    assert_string_equal(view->publishable_key, "done");
    credstore_free(view);
    fx_is(b->store, FX_KSUID, 2, "done", "first");
    goes_on(b, 3);
}

static void test_unknown_and_not_done(void **state)
{
    bench *b = *state;
    credstore_error err;

    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_UNKNOWN);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "lost", &err), CREDSTORE_E_STORAGE, &err);
    unchanged(b);
    goes_on(b, 2);
}

/* Not done, and when we come to look, the entry at our place is another's. */
static void test_unknown_and_overtaken(void **state)
{
    bench *b = *state;
    rival other = {fx_open(&b->f), "another's"};
    credstore_error err;

    arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_UNKNOWN);
    b->f.engine.before = wait_for_commit;
    b->f.engine.before_arg = b;
    b->f.engine.before_op = FX_COMMIT;
    b->rival = &other;
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "lost", &err), CREDSTORE_E_STORAGE, &err);
    fx_is(b->store, FX_KSUID, 2, "another's", "first");
    credstore_close(other.store);
    goes_on(b, 3);
}

/* When the marker cannot be looked for, the truth is that nobody knows. */
static void test_unknown_for_good(void **state)
{
    static const int ops[] = {FX_BEGIN_READ, FX_GET};
    bench *b = *state;
    credstore_error err;

    for (int done = 0; done < 2; done++)
        for (size_t i = 0; i < FX_COUNT(ops); i++) {
            const int32_t results[] = {CREDSTORE_STORAGE_UNAVAILABLE, 0, CREDSTORE_STORAGE_STOP};

            for (size_t r = 0; r < FX_COUNT(results); r++) {
                unsigned calls = b->f.engine.calls[ops[i]];

                /* How many such calls does a change make before its commit? */
                arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_FULL);
                fx_fails(fx_set_publishable(b->store, FX_KSUID, "lost", &err), CREDSTORE_E_FULL,
                         &err);
                calls = b->f.engine.calls[ops[i]] - calls;

                arm(b, FX_COMMIT, 0, 1, CREDSTORE_STORAGE_UNKNOWN);
                b->f.engine.fault[FX_COMMIT].anyway = done == 1;
                arm(b, ops[i], (int)calls, 1, results[r]);
                fx_fails(fx_set_publishable(b->store, FX_KSUID, "perhaps", &err),
                         CREDSTORE_E_COMMIT_UNKNOWN, &err);
                if (done == 0)
                    unchanged(b);
                disarm(b);
                if (done == 1) /* back to where we were */
                    fx_ok(fx_set_publishable(b->store, FX_KSUID, "publishable", &err), &err);
            }
        }
}

/* Founding a store is a change like any other. */
static void test_unknown_founding(void **state)
{
    (void)state;
    for (int done = 0; done < 2; done++) {
        const fx_fault fault = {
            .times = 1, .result = CREDSTORE_STORAGE_UNKNOWN, .anyway = done == 1};
        credstore *store = NULL;
        credstore_error err;
        fx f;

        fx_begin(&f);
        f.engine.fault[FX_COMMIT] = fault;
        if (done == 0) {
            fx_fails(credstore_open(NULL, &f.options, &store, &err), CREDSTORE_E_STORAGE, &err);
            assert_null(store);
        }
        store = done == 0 ? fx_open(&f) : NULL;
        if (done == 1)
            fx_ok(credstore_open(NULL, &f.options, &store, &err), &err);
        fx_create_checkbook(store, FX_KSUID, "first");
        credstore_close(store);
        store = fx_open(&f);
        fx_is(store, FX_KSUID, 1, "publishable", "first");
        credstore_close(store);
        fx_end(&f);
    }
}

/* ---- the writer's turn ---- */

/* BUSY tells what was waited for. */
static void test_busy_with_what(void **state)
{
    static const struct {
        int op;
        const char *word;
    } rows[] = {{FX_BEGIN_WRITE, "writer's turn"},
                {FX_BEGIN_READ, "place for a reader"},
                {FX_PUT, "make room"},
                {FX_COMMIT, "make room"}};
    bench *b = *state;
    credstore_error err;

    for (size_t i = 0; i < FX_COUNT(rows); i++) {
        arm(b, rows[i].op, 0, 1, CREDSTORE_STORAGE_BUSY);
        fx_fails(fx_set_publishable(b->store, FX_KSUID, "never", &err), CREDSTORE_E_BUSY, &err);
        assert_non_null(strstr(err.message, rows[i].word));
        assert_true(err.retry_after_s > 0);
        unchanged(b);
    }
    goes_on(b, 2);
}

static void test_busy(void **state)
{
    bench *b = *state;
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT("busy")};
    const unsigned commits = b->f.engine.calls[FX_COMMIT];
    credstore_error err;

    arm(b, FX_BEGIN_WRITE, 0, 1, CREDSTORE_STORAGE_BUSY);
    fx_fails(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err),
             CREDSTORE_E_BUSY, &err);
    assert_true(err.retry_after_s > 0);
    assert_int_equal(b->f.engine.calls[FX_COMMIT], commits); /* not tried again behind our back */
    unchanged(b);
    call.wait_ms = 1234;
    fx_ok(credstore_checkbook_update(b->store, &call, FX_KSUID, &patch, NULL, &err), &err);
    assert_int_equal(b->f.engine.last_wait_ms, 1234);
    goes_on(b, 3);
    assert_int_equal(b->f.engine.last_wait_ms, 5000);
    b->f.options.wait_ms = 77;
    credstore_close(b->store);
    b->store = fx_open(&b->f);
    goes_on(b, 4);
    assert_int_equal(b->f.engine.last_wait_ms, 77);
}

/* ---- an engine that fails anywhere, in any way ---- */

static const struct {
    int32_t result;
    credstore_status status;
} failures[] = {
    {0, CREDSTORE_E_STORAGE},
    {-1, CREDSTORE_E_STORAGE},
    {12, CREDSTORE_E_STORAGE},
    {INT32_MAX, CREDSTORE_E_STORAGE},
    {INT32_MIN, CREDSTORE_E_STORAGE},
    {CREDSTORE_STORAGE_STOP, CREDSTORE_E_STORAGE},
    {CREDSTORE_STORAGE_UNAVAILABLE, CREDSTORE_E_STORAGE},
    {CREDSTORE_STORAGE_FULL, CREDSTORE_E_FULL},
    {CREDSTORE_STORAGE_TOO_LARGE, CREDSTORE_E_TOO_LARGE},
    {CREDSTORE_STORAGE_CORRUPT, CREDSTORE_E_INTEGRITY},
    {CREDSTORE_STORAGE_NO_MEMORY, CREDSTORE_E_NO_MEMORY},
};

typedef credstore_status verb(bench *b, credstore_error *err);

static credstore_status do_update(bench *b, credstore_error *err)
{
    return fx_set_secret(b->store, FX_KSUID, "changed", err);
}

static credstore_status do_create(bench *b, credstore_error *err)
{
    const credstore_actor actor = fx_admin(b->store);
    const credstore_call call = fx_call(&actor);
    const credstore_service_credential_origin origin = {
        .struct_size = sizeof origin, .id = "credential", .last_used_at = 5};
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("a name")};

    return credstore_service_credential_create(b->store, &call, "acme", "account", &origin, &patch,
                                               NULL, err);
}

static credstore_status do_get(bench *b, credstore_error *err)
{
    const credstore_checkbook *view = NULL;
    const credstore_status status = fx_get_checkbook(b->store, FX_KSUID, 0, &view, err);

    assert_int_equal(view == NULL, status != CREDSTORE_OK);
    credstore_free(view);
    return status;
}

static credstore_status do_reveal(bench *b, credstore_error *err)
{
    credstore_secret *secret = NULL;
    const credstore_status status = fx_reveal_checkbook(b->store, FX_KSUID, 0, &secret, err);

    assert_int_equal(secret == NULL, status != CREDSTORE_OK);
    credstore_secret_free(secret);
    return status;
}

static credstore_status do_open(bench *b, credstore_error *err)
{
    credstore *again = NULL;
    const credstore_status status = credstore_open(NULL, &b->f.options, &again, err);

    assert_int_equal(again == NULL, status != CREDSTORE_OK);
    credstore_close(again);
    return status;
}

static credstore_status do_remove(bench *b, credstore_error *err)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);

    return credstore_checkbook_remove(b->store, &call, FX_KSUID, err);
}

static verb *const verbs[] = {do_update, do_create, do_remove, do_get, do_reveal, do_open};

static void start_again(bench *b)
{
    fx_restore(&b->f, &b->before);
    credstore_close(b->store);
    b->store = fx_open(&b->f);
}

/* Each call of the operation in turn, until the verb makes no more of them. */
static void sweep(bench *b, verb *run, int op, bool anyway, int32_t result,
                  credstore_status expected)
{
    for (int skip = 0;; skip++) {
        credstore_error err = {0};
        credstore_status status;
        bool hit;

        arm(b, op, skip, 1, result);
        b->f.engine.fault[op].anyway = anyway;
        status = run(b, &err);
        hit = b->f.engine.fault[op].times == 0;
        disarm(b);
        assert_int_equal(err.status, status);
        if (!hit) {
            assert_int_equal(status, CREDSTORE_OK);
            start_again(b);
            return;
        }
        if (status != expected)
            print_error("op %d call %d answered %d: %s\n", op, skip, result,
                        credstore_status_name((int32_t)status));
        assert_int_equal(status, expected);
        assert_int_equal(err.native, 4711);
        unchanged(b);
    }
}

static void test_every_call_fails(void **state)
{
    static const int ops[] = {FX_BEGIN_READ, FX_BEGIN_WRITE, FX_GET,   FX_SCAN,
                              FX_PUT,        FX_DEL,         FX_COMMIT};
    bench *b = *state;

    b->f.engine.native = 4711;
    for (size_t v = 0; v < FX_COUNT(verbs); v++)
        for (size_t o = 0; o < FX_COUNT(ops); o++)
            for (size_t i = 0; i < FX_COUNT(failures); i++) {
                sweep(b, verbs[v], ops[o], false, failures[i].result, failures[i].status);
                if (ops[o] == FX_GET || ops[o] == FX_SCAN || ops[o] == FX_PUT)
                    sweep(b, verbs[v], ops[o], true, failures[i].result, failures[i].status);
            }
    for (size_t o = 0; o < FX_COUNT(ops); o++)
        assert_true(b->f.engine.calls[ops[o]] > 0);
}

/* 0 for a commit that did take place: an error that is not true to the letter, but never an OK for
   one that did not. */
static void test_commit_answers_nothing(void **state)
{
    bench *b = *state;
    credstore_error err;

    arm(b, FX_COMMIT, 0, 1, 0);
    b->f.engine.fault[FX_COMMIT].anyway = true;
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "done", &err), CREDSTORE_E_STORAGE, &err);
    fx_is(b->store, FX_KSUID, 2, "done", "first");
    goes_on(b, 3);
}

/* An engine that says OK and hands over nothing: the record is there, so it is not "absent". */
static void test_get_hands_over_nothing(void **state)
{
    bench *b = *state;
    credstore_error err;

    arm(b, FX_GET, 0, 1, CREDSTORE_STORAGE_OK);
    fx_fails(do_get(b, &err), CREDSTORE_E_STORAGE, &err);
    arm(b, FX_GET, 0, 1000, CREDSTORE_STORAGE_OK);
    fx_fails(do_open(b, &err), CREDSTORE_E_STORAGE, &err); /* not a new store */
    unchanged(b);
}

/* An engine without a code of its own. */
static void test_no_native(void **state)
{
    credstore_storage silent = fx_storage;
    fx_fault fault = {.times = 1, .result = CREDSTORE_STORAGE_FULL};
    credstore_error err;
    credstore *store;
    fx f;

    (void)state;
    fx_begin(&f);
    silent.native = NULL;
    f.options.storage = &silent;
    store = fx_open(&f);
    fx_create_checkbook(store, FX_KSUID, "first");
    f.engine.fault[FX_PUT] = fault;
    fx_fails(fx_set_publishable(store, FX_KSUID, "x", &err), CREDSTORE_E_FULL, &err);
    assert_int_equal(err.native, 0);
    credstore_close(store);
    fx_end(&f);
}

/* ---- an engine that only copies ---- */

static void test_copies_only(void **state)
{
    bench *b = *state;
    credstore_secret *secret = NULL;
    credstore_error err = {0};

    copies_only = true;
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 2", &err), &err);
    fx_ok(fx_set_secret(b->store, FX_KSUID, "second", &err), &err);
    fx_ok(fx_set_publishable(b->store, FX_KSUID, "text 4", &err), &err);
    fx_is(b->store, FX_KSUID, 4, "text 4", "second");
    fx_ok(fx_reveal_checkbook(b->store, FX_KSUID, 1, &secret, &err), &err);
    assert_string_equal(credstore_secret_ptr(secret), "first");
    credstore_secret_free(secret);
    fx_ok(do_create(b, &err), &err);
    credstore_close(b->store);
    b->store = fx_open(&b->f);
    fx_is(b->store, FX_KSUID, 4, "text 4", "second");
}

static int32_t always_ok(int32_t result)
{
    (void)result;
    out_of_memory = false;
    return CREDSTORE_STORAGE_OK;
}

static int32_t as_it_is(int32_t result)
{
    out_of_memory = false;
    return result;
}

typedef struct look {
    size_t pairs;
    const void *first;
} look;

static bool count_pairs(void *arg, credstore_bytes key, credstore_bytes value)
{
    look *l = arg;

    (void)key;
    l->first = l->pairs == 0 ? value.ptr : l->first;
    l->pairs++;
    return true;
}

/* Memory runs out in the sink, and the engine may or may not pass on what the sink said. */
static void test_no_memory_in_the_sink(void **state)
{
    static int32_t (*const ears[])(int32_t) = {as_it_is, always_ok};
    bench *b = *state;
    const cs_key from = {1, {0}}, to = {0, {0}};

    copies_only = true;
    for (size_t i = 0; i < FX_COUNT(ears); i++) {
        credstore_error err = {0};
        credstore_bytes value;
        bool found = true;
        look l = {0};
        const cs_scan scan = {.visit = count_pairs, .arg = &l};
        cs_txn txn;
        cs_key key;

        deaf = ears[i];
        cs_key_meta(&key, false);
        fx_ok(cs_txn_read(b->store, &txn, &err), &err);
        out_of_memory = true;
        fx_fails(cs_txn_get(&txn, &key, &value, &found, &err), CREDSTORE_E_NO_MEMORY, &err);
        out_of_memory = false;
        cs_error_clear(&err);
        out_of_memory = true;
        fx_fails(cs_txn_scan(&txn, &from, &to, &scan, &err), CREDSTORE_E_NO_MEMORY, &err);
        out_of_memory = false;
        cs_txn_end(&txn);
        deaf = NULL;
    }
}

/* ---- a provider that fails ---- */

static void sweep_crypto(bench *b, verb *run, int op, int32_t result, credstore_status expected)
{
    bool hit = true;

    for (int skip = 0; hit; skip++) {
        const fx_fault fault = {.skip = skip, .times = 1, .result = result};
        credstore_error err = {0};
        credstore_status status;

        b->f.crypto.fault[op] = fault;
        status = run(b, &err);
        hit = b->f.crypto.fault[op].times == 0;
        disarm(b);
        assert_int_equal(err.status, status);
        /* Where no record is, a decoy is opened for the time that it takes, not for what is in it.
         */
        if (!hit || (status == CREDSTORE_OK && run == do_create && op == FX_OPEN)) {
            assert_int_equal(status, CREDSTORE_OK);
            start_again(b);
            continue;
        }
        assert_int_equal(status, expected);
        unchanged(b);
    }
}

static void test_provider_fails(void **state)
{
    static const int ops[] = {FX_KEY_LOAD, FX_SEAL, FX_OPEN, FX_MAC, FX_RANDOM};
    static const struct {
        int32_t result;
        credstore_status status;
    } rows[] = {
        {0, CREDSTORE_E_INTERNAL},
        {CREDSTORE_CRYPTO_FAILED, CREDSTORE_E_INTERNAL},
        {CREDSTORE_CRYPTO_NO_MEMORY, CREDSTORE_E_NO_MEMORY},
        {CREDSTORE_CRYPTO_NO_ENTROPY, CREDSTORE_E_ENTROPY},
        {1000, CREDSTORE_E_INTERNAL},
    };
    bench *b = *state;

    for (size_t v = 0; v < FX_COUNT(verbs); v++)
        for (size_t o = 0; o < FX_COUNT(ops); o++)
            for (size_t i = 0; i < FX_COUNT(rows); i++)
                sweep_crypto(b, verbs[v], ops[o], rows[i].result, rows[i].status);
}

/* Randomness is drawn before the writer's turn, once for each attempt, and none inside. */
static void test_random_before_the_turn(void **state)
{
    bench *b = *state;
    const unsigned drawn = b->f.crypto.calls[FX_RANDOM];
    unsigned begun;
    credstore_error err;

    fx_ok(fx_set_secret(b->store, FX_KSUID, "changed", &err), &err);
    assert_int_equal(b->f.crypto.calls[FX_RANDOM] - drawn, 1);
    begun = b->f.engine.calls[FX_BEGIN_WRITE];
    b->f.crypto.fault[FX_RANDOM].times = 1;
    b->f.crypto.fault[FX_RANDOM].result = CREDSTORE_CRYPTO_NO_ENTROPY;
    fx_fails(fx_set_secret(b->store, FX_KSUID, "again", &err), CREDSTORE_E_ENTROPY, &err);
    assert_int_equal(b->f.engine.calls[FX_BEGIN_WRITE], begun);
}

/* ---- closures ---- */

typedef struct job {
    unsigned runs;
    size_t puts;
    credstore_status status;
    const uint8_t *first, *second, *too_much;
} job;

static credstore_status run_job(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_locator at = {.kind = 9, .id = cs_bytes_of("job")};
    job *j = arg;

    j->runs++;
    for (size_t i = 0; i < j->puts; i++) {
        credstore_status status;
        cs_key key;
        cs_buf value = {0};

        cs_key_history(&key, &at, i);
        cs_buf_u8(&value, CS_FORMAT);
        status = cs_txn_put(txn, &key, &value, err);
        cs_buf_free(&value);
        if (status != CREDSTORE_OK)
            return status;
    }
    return j->status == CREDSTORE_OK ? CREDSTORE_OK
                                     : cs_fail(err, j->status, NULL, "the job's own");
}

static void test_closures(void **state)
{
    bench *b = *state;
    job nothing = {0}, refused = {.puts = 3, .status = CREDSTORE_E_INACTIVE};
    job good = {.puts = 2}, busy = {.status = CREDSTORE_E_CONFLICT};
    const cs_work works[] = {
        {run_job, &nothing, 0}, {run_job, &refused, 0}, {run_job, &good, 0}, {run_job, &busy, 0}};
    const unsigned commits = b->f.engine.calls[FX_COMMIT];
    credstore_error err = {0};
    fx_pairs now;

    fx_ok(cs_txn_write(b->store, &works[0], &err), &err); /* no put, no commit */
    unchanged(b);
    fx_fails(cs_txn_write(b->store, &works[1], &err), CREDSTORE_E_INACTIVE, &err);
    assert_string_equal(err.message, "the job's own");
    unchanged(b);
    cs_error_clear(&err);
    fx_fails(cs_txn_write(b->store, &works[3], &err), CREDSTORE_E_CONFLICT, &err);
    unchanged(b);
    assert_int_equal(busy.runs, 1); /* a closure's own conflict is its answer, not the engine's */
    assert_int_equal(b->f.engine.calls[FX_COMMIT], commits);
    cs_error_clear(&err);
    arm(b, FX_COMMIT, 0, 2, CREDSTORE_STORAGE_CONFLICT);
    fx_ok(cs_txn_write(b->store, &works[2], &err), &err);
    assert_int_equal(good.runs, 3);
    fx_dump(b->store, &now);
    assert_int_equal(now.count, b->before.count + 2);
    fx_pairs_free(&now);
}

/* A value whose buffer ran out of memory is not put. */
static credstore_status put_failed_buffer(cs_txn *txn, void *arg, credstore_error *err)
{
    cs_buf value = {.failed = true};
    cs_key key;

    (void)arg;
    cs_key_root(&key, 9);
    return cs_txn_put(txn, &key, &value, err);
}

static void test_failed_buffer(void **state)
{
    bench *b = *state;
    const cs_work work = {put_failed_buffer, NULL, 0};
    credstore_error err = {0};

    fx_fails(cs_txn_write(b->store, &work, &err), CREDSTORE_E_NO_MEMORY, &err);
    unchanged(b);
}

/* A transaction's randomness: each byte once, and an end. */
static credstore_status use_up(cs_txn *txn, void *arg, credstore_error *err)
{
    job *j = arg;
    size_t left = CS_TXN_RANDOM - 48;

    (void)err;
    j->first = cs_txn_random(txn, 24);
    j->second = cs_txn_random(txn, 24);
    assert_ptr_equal(j->second, j->first + 24);
    assert_memory_not_equal(j->first, j->second, 24);
    assert_null(cs_txn_random(txn, left + 1));
    assert_null(cs_txn_random(txn, SIZE_MAX));
    assert_non_null(cs_txn_random(txn, left));
    assert_null(cs_txn_random(txn, 1));
    return CREDSTORE_OK;
}

static credstore_status want_a_nonce_too_many(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_label label = {.role = CS_ROLE_HEAD};
    cs_buf out = {0};
    credstore_status status;

    (void)arg;
    assert_non_null(cs_txn_random(txn, CS_TXN_RANDOM - 1));
    status = cs_txn_seal(txn, CS_PURPOSE_BODY, &label, cs_bytes_of("x"), &out, NULL, err);
    cs_buf_free(&out);
    return status;
}

static void test_random_is_used_once(void **state)
{
    bench *b = *state;
    job j = {0};
    const cs_work work = {use_up, &j, 0}, greedy = {want_a_nonce_too_many, NULL, 0};
    credstore_error err = {0};

    fx_ok(cs_txn_write(b->store, &work, &err), &err);
    fx_fails(cs_txn_write(b->store, &greedy, &err), CREDSTORE_E_INTERNAL, &err);
    unchanged(b);
}

/* No nonce twice: in all that lies in a store after some changes. */
static void test_nonces_differ(void **state)
{
    bench *b = *state;
    const uint8_t *nonces[FX_PAIRS];
    size_t count = 0;
    credstore_error err;
    fx_pairs all;

    for (unsigned i = 0; i < 12; i++) {
        char text[32];

        snprintf(text, sizeof text, "text %u", i);
        arm(b, FX_COMMIT, 0, i % 3 == 0 ? 1 : 0, CREDSTORE_STORAGE_CONFLICT);
        fx_ok(fx_set_secret(b->store, FX_KSUID, text, &err), &err);
    }
    fx_dump(b->store, &all);
    for (size_t i = 0; i < all.count; i++) {
        const cs_buf *value = &all.pair[i].value;
        const uint8_t table = all.pair[i].key.ptr[0];

        if (table == CS_TABLE_META && all.pair[i].key.ptr[1] == 0)
            continue;
        nonces[count++] = value->ptr +
                          (table == CS_TABLE_RECORD ? 12
                           : table == CS_TABLE_ROOT ? 19
                                                    : 1) +
                          8;
    }
    assert_true(count > 25);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(nonces[i], nonces[k], CS_NONCE_LEN);
    fx_pairs_free(&all);
}

/* ---- an engine whose writers do not wait for each other ---- */

/* A write transaction reads its snapshot, which its own puts do not change, and keeps the puts to
   itself until commit, which is a CONFLICT if anybody was faster: as engines over a network do. */
typedef struct optimist {
    void *memory;
    _Atomic uint64_t version;
    _Atomic uint64_t conflicts;
    void (*begun)(void *arg); /* called once, when the next writer has its snapshot */
    void *begun_arg;
} optimist;

typedef struct draft {
    bool write;
    void *snapshot;
    uint64_t version;
    fx_pairs puts;
    bool is_del[FX_PAIRS]; /* the put is none, but a delete */
} draft;

static int32_t draft_begin(void *ctx, uint32_t write, int64_t wait_ms, void **txn)
{
    optimist *o = ctx;
    draft *d = calloc(1, sizeof *d);

    *txn = d;
    if (d == NULL)
        return CREDSTORE_STORAGE_NO_MEMORY;
    d->write = write != 0;
    d->version = atomic_load(&o->version);
    if (cs_storage_memory.begin(o->memory, 0, wait_ms, &d->snapshot) != CREDSTORE_STORAGE_OK) {
        free(d);
        return CREDSTORE_STORAGE_NO_MEMORY;
    }
    if (d->write && o->begun != NULL) {
        void (*begun)(void *arg) = o->begun;

        o->begun = NULL;
        begun(o->begun_arg);
    }
    return CREDSTORE_STORAGE_OK;
}

static int32_t draft_get(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    return cs_storage_memory.get(((optimist *)ctx)->memory, ((draft *)txn)->snapshot, key, out);
}

static int32_t draft_scan(void *ctx, void *txn, credstore_bytes from, credstore_bytes to,
                          uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    return cs_storage_memory.scan(((optimist *)ctx)->memory, ((draft *)txn)->snapshot, from, to,
                                  reverse, limit, out);
}

static int32_t draft_put(void *ctx, void *txn, credstore_bytes key, credstore_bytes value)
{
    (void)ctx;
    (void)fx_take_pair(&((draft *)txn)->puts, key, value);
    return CREDSTORE_STORAGE_OK;
}

static int32_t draft_del(void *ctx, void *txn, credstore_bytes key)
{
    draft *d = txn;

    d->is_del[d->puts.count] = true;
    return draft_put(ctx, txn, key, cs_bytes(NULL, 0));
}

static void draft_abort(void *ctx, void *txn)
{
    draft *d = txn;

    cs_storage_memory.abort(((optimist *)ctx)->memory, d->snapshot);
    fx_pairs_free(&d->puts);
    free(d);
}

static void apply(optimist *o, void *real, const fx_pair *pair, bool is_del)
{
    const credstore_bytes key = cs_bytes(pair->key.ptr, pair->key.len);

    if (is_del)
        (void)cs_storage_memory.del(o->memory, real, key);
    else
        (void)cs_storage_memory.put(o->memory, real, key,
                                    cs_bytes(pair->value.ptr, pair->value.len));
}

static int32_t draft_commit(void *ctx, void *txn)
{
    optimist *o = ctx;
    draft *d = txn;
    void *real = NULL;
    int32_t result;

    if (!d->write) {
        draft_abort(ctx, txn);
        return CREDSTORE_STORAGE_OK;
    }
    result = cs_storage_memory.begin(o->memory, 1, -1, &real);
    if (result == CREDSTORE_STORAGE_OK && atomic_load(&o->version) != d->version) {
        cs_storage_memory.abort(o->memory, real);
        atomic_fetch_add(&o->conflicts, 1);
        result = CREDSTORE_STORAGE_CONFLICT;
    } else if (result == CREDSTORE_STORAGE_OK) {
        for (size_t i = 0; i < d->puts.count; i++)
            apply(o, real, &d->puts.pair[i], d->is_del[i]);
        atomic_fetch_add(&o->version, 1);
        result = cs_storage_memory.commit(o->memory, real);
    }
    draft_abort(ctx, txn);
    return result;
}

static void draft_close(void *ctx)
{
    cs_storage_memory.close(((optimist *)ctx)->memory);
}

static const credstore_storage draft_storage = {
    .struct_size = sizeof(credstore_storage),
    .name = "optimist",
    .begin = draft_begin,
    .get = draft_get,
    .scan = draft_scan,
    .put = draft_put,
    .del = draft_del,
    .commit = draft_commit,
    .abort = draft_abort,
    .close = draft_close,
};

enum { WRITERS = 4, CHANGES = 40 };

typedef struct writer {
    pthread_t thread;
    credstore *store;
    const char *name;
    unsigned made, lost, failed;
} writer;

static void *write_some(void *arg)
{
    writer *w = arg;

    for (unsigned i = 0; i < CHANGES; i++) {
        char text[32];
        credstore_status status;

        snprintf(text, sizeof text, "%s %u", w->name, i);
        status = fx_set_publishable(w->store, FX_KSUID, text, NULL);
        w->made += status == CREDSTORE_OK;
        w->lost += status == CREDSTORE_E_CONFLICT; /* told, and not made */
        w->failed += status != CREDSTORE_OK && status != CREDSTORE_E_CONFLICT;
    }
    return NULL;
}

static void many_writers(credstore *store)
{
    static const char *const names[WRITERS] = {"a", "b", "c", "d"};
    const credstore_checkbook *view = NULL;
    writer writers[WRITERS];
    credstore_error err;
    uint64_t made = 0, before;

    fx_ok(fx_get_checkbook(store, FX_KSUID, 0, &view, &err), &err);
    before = view->revision;
    credstore_free(view);
    memset(writers, 0, sizeof writers);
    for (size_t i = 0; i < WRITERS; i++) {
        writers[i].store = store;
        writers[i].name = names[i];
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_some, &writers[i]), 0);
    }
    for (size_t i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
        made += writers[i].made;
        assert_int_equal(writers[i].failed, 0);
        assert_int_equal(writers[i].made + writers[i].lost, CHANGES);
    }
    fx_ok(fx_get_checkbook(store, FX_KSUID, 0, &view, &err), &err);
    assert_int_equal(view->revision, before + made);
    credstore_free(view);
}

/* A writer whose snapshot is older than what another thread has committed since meets a conflict
   and tries again; it is not told that the store went back. */
static void test_writers_that_do_not_wait(void **state)
{
    optimist o = {0};
    rival same = {NULL, "faster"};
    credstore_error err = {0};
    credstore *store;
    fx f;

    (void)state;
    fx_begin(&f);
    fx_ok(cs_memory_new(&o.memory, &err), &err);
    f.options.storage = &draft_storage;
    f.options.storage_ctx = &o;
    store = fx_open(&f);
    fx_create_checkbook(store, FX_KSUID, "first");
    same.store = store;
    o.begun = change_first;
    o.begun_arg = &same;
    fx_ok(fx_set_publishable(store, FX_KSUID, "slower", &err), &err);
    assert_int_equal(o.conflicts, 1);
    fx_is(store, FX_KSUID, 3, "slower", "first");
    many_writers(store);
    credstore_close(store);
    fx_end(&f);
}

/* ---- scanning ---- */

static bool stop_at_two(void *arg, credstore_bytes key, credstore_bytes value)
{
    look *l = arg;

    count_pairs(arg, key, value);
    return l->pairs < 2;
}

/* entries: of the audit. */
static void scans(bench *b, size_t entries)
{
    cs_key from = {1, {CS_TABLE_LANE}}, to = {1, {CS_TABLE_LANE + 1}};
    look looks[5] = {{0, NULL}};
    const cs_scan all = {.visit = count_pairs, .arg = &looks[0]};
    const cs_scan two = {.visit = stop_at_two, .arg = &looks[1]};
    const cs_scan three = {.limit = 3, .visit = count_pairs, .arg = &looks[2]};
    const cs_scan last = {.reverse = true, .limit = 1, .visit = count_pairs, .arg = &looks[3]};
    const cs_scan none = {.visit = count_pairs, .arg = &looks[4]};
    credstore_error err = {0};
    cs_txn txn;

    fx_ok(cs_txn_read(b->store, &txn, &err), &err);
    fx_ok(cs_txn_scan(&txn, &from, &to, &all, &err), &err);
    assert_int_equal(looks[0].pairs, entries + 1); /* and the head */
    fx_ok(cs_txn_scan(&txn, &from, &to, &two, &err), &err);
    assert_int_equal(looks[1].pairs, 2);
    fx_ok(cs_txn_scan(&txn, &from, &to, &three, &err), &err);
    assert_int_equal(looks[2].pairs, 3);
    fx_ok(cs_txn_scan(&txn, &from, &to, &last, &err), &err);
    assert_int_equal(looks[3].pairs, 1);
    assert_ptr_not_equal(looks[3].first, looks[0].first);
    from.ptr[0] = to.ptr[0] = 0xf0;
    fx_ok(cs_txn_scan(&txn, &from, &to, &none, &err), &err);
    assert_int_equal(looks[4].pairs, 0);
    cs_txn_end(&txn);
}

static void test_scan(void **state)
{
    scans(*state, 3);
}

/* Shows all that there is, whatever was asked and answered. */
static int32_t show_all(void *ctx, void *txn, credstore_bytes from, credstore_bytes to,
                        uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    (void)limit;
    return fx_engine_scan(ctx, txn, from, to, reverse, 0, out);
}

/* And another value after the one that is there. */
static int32_t get_twice(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    const int32_t result = fx_engine_get(ctx, txn, key, out);

    if (result == CREDSTORE_STORAGE_OK)
        (void)credstore_sink_borrow(out, key, cs_bytes_of("another"));
    return result;
}

/* A copy is made of what is shown, and of no more. */
static void copies_one(bench *b)
{
    const cs_key from = {1, {0}}, to = {0, {0}};
    look l = {0};
    const cs_scan one = {.limit = 1, .visit = count_pairs, .arg = &l};
    credstore_error err = {0};
    size_t before;
    cs_txn txn;

    fx_ok(cs_txn_read(b->store, &txn, &err), &err);
    before = allocated;
    fx_ok(cs_txn_scan(&txn, &from, &to, &one, &err), &err);
    assert_int_equal(l.pairs, 1);
    assert_int_equal(allocated - before, copies_only ? 1 : 0);
    cs_txn_end(&txn);
}

/* Nothing is shown after STOP, nor beyond the limit, to whoever asked: he may have no room. */
static void test_deaf_engine(void **state)
{
    static credstore_storage engine;
    bench *b = *state;

    engine = fx_storage;
    engine.scan = show_all;
    engine.get = get_twice;
    b->f.options.storage = &engine;
    deaf = always_ok;
    for (int i = 0; i < 2; i++) {
        const credstore_actor actor = fx_system();
        const credstore_call call = fx_call(&actor);
        credstore_check_result result = {.struct_size = sizeof result};
        credstore_error err;

        copies_only = i != 0;
        credstore_close(b->store);
        b->store = fx_open(&b->f);
        scans(b, 3 + (size_t)i);
        copies_one(b);
        goes_on(b, 2 + (uint64_t)i);
        fx_ok(credstore_check(b->store, &call, NULL, &result, &err), &err);
        assert_int_equal(result.findings, 0);
    }
}

/* Who only passes over the values makes no copies of them, however many there are. */
static void test_passing_scan(void **state)
{
    static const bool kept[] = {true, false};
    const cs_key from = {1, {0}}, to = {0, {0}};
    bench *b = *state;

    copies_only = true;
    for (size_t i = 0; i < FX_COUNT(kept); i++) {
        look l = {0};
        const cs_scan scan = {.visit = count_pairs, .arg = &l, .passing = !kept[i]};
        credstore_error err = {0};
        size_t before;
        cs_txn txn;

        fx_ok(cs_txn_read(b->store, &txn, &err), &err);
        before = allocated;
        fx_ok(cs_txn_scan(&txn, &from, &to, &scan, &err), &err);
        assert_int_equal(l.pairs, b->before.count);
        assert_int_equal(allocated - before, kept[i] ? l.pairs : 0);
        assert_int_equal(txn.copies != NULL, kept[i]);
        cs_txn_end(&txn);
    }
}

static size_t cost_of_statistics(bench *b)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    const credstore_stats *stats = NULL;
    const size_t before = allocated;
    credstore_error err;

    fx_ok(credstore_statistics(b->store, &call, CREDSTORE_STATISTICS_KINDS, &stats, &err), &err);
    credstore_free(stats);
    return allocated - before;
}

static void test_counting_is_passing(void **state)
{
    bench *b = *state;
    size_t before;

    copies_only = true;
    before = cost_of_statistics(b);
    for (uint64_t revision = 2; revision < 30; revision++)
        goes_on(b, revision);
    assert_int_equal(cost_of_statistics(b), before);
}

/* ---- walks of the whole store ---- */

enum { FEW = 8, MANY = 60 };

static void add_keys(bench *b, int from, int to)
{
    static const char *const permissions[] = {"readApplications"};
    const credstore_actor actor = fx_admin(b->store);
    const credstore_call call = fx_call(&actor);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("one of many"),
                                           .permissions = CREDSTORE_STRINGS(permissions, 1)};

    for (int i = from; i < to; i++) {
        credstore_secret *token = NULL;
        credstore_error err;

        fx_ok(credstore_api_key_issue(b->store, &call, NULL, &patch, &token, NULL, &err), &err);
        credstore_secret_free(token);
    }
}

/* A filter that passes over all of them. */
static void list_none(bench *b)
{
    const credstore_actor actor = fx_admin(b->store);
    const credstore_call call = fx_call(&actor);
    const credstore_page page = {.struct_size = sizeof page, .limit = 10, .expires_before = FX_NOW};
    const credstore_api_key_page *out = NULL;
    credstore_error err;

    fx_ok(credstore_api_key_list(b->store, &call, &page, &out, &err), &err);
    assert_int_equal(out->count, 0);
    credstore_free(out);
}

/* A tenant that has nothing. */
static void offboard_nobody(bench *b)
{
    const credstore_actor actor = fx_system();
    credstore_call call = fx_call(&actor);
    uint64_t removed = 1;
    uint32_t more = 1;
    credstore_error err;

    call.tenant = "nobody";
    fx_ok(credstore_offboard(b->store, &call, 0, &more, &removed, &err), &err);
    assert_int_equal(removed + more, 0);
}

/* The engine has no backup of its own: pair by pair. */
static void back_up(bench *b)
{
    const credstore_actor actor = fx_system();
    const credstore_call call = fx_call(&actor);
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX + 8];
    credstore_error err;

    test_folder(folder);
    snprintf(path, sizeof path, "%s/copy", folder);
    fx_ok(credstore_backup(b->store, &call, path, 0, NULL, NULL, &err), &err);
    test_folder_remove(folder);
}

static size_t most_held_by(bench *b, void (*walk)(bench *b))
{
    const size_t before = held;

    held_most = before;
    walk(b);
    return held_most - before;
}

/* Whoever walks over the whole store lets go of what the engine could not lend, as he goes on. */
static void test_walks_let_go(void **state)
{
    static void (*const walks[])(bench * b) = {list_none, offboard_nobody, back_up};
    bench *b = *state;
    size_t few[FX_COUNT(walks)];

    copies_only = true;
    add_keys(b, 0, FEW);
    for (size_t i = 0; i < FX_COUNT(walks); i++)
        few[i] = most_held_by(b, walks[i]);
    add_keys(b, FEW, MANY);
    for (size_t i = 0; i < FX_COUNT(walks); i++)
        assert_in_range(most_held_by(b, walks[i]), 1, few[i]);
}

/* ---- the head ---- */

static uint64_t generation_of(credstore *store, int64_t *time)
{
    credstore_error err = {0};
    bool found = false;
    cs_head head;
    cs_txn txn;

    fx_ok(cs_txn_read(store, &txn, &err), &err);
    fx_ok(cs_head_read(&txn, &head, &found, &err), &err);
    assert_true(found);
    cs_txn_end(&txn);
    *time = head.time;
    return head.generation;
}

static void test_head_moves_with_each_commit(void **state)
{
    bench *b = *state;
    const unsigned commits = b->f.engine.calls[FX_COMMIT];
    int64_t time = 0;

    assert_int_equal(generation_of(b->store, &time), commits);
    assert_true(time == FX_NOW);
    b->f.now += 1000;
    goes_on(b, 2);
    assert_int_equal(generation_of(b->store, &time), commits + 1);
    assert_true(time == FX_NOW + 1000);
}

/* The head of a store that has none, or another's, lets no change through. */
static void test_head_lost(void **state)
{
    bench *b = *state;
    credstore_error err;
    cs_buf kept;
    cs_key key;

    cs_key_head(&key, 0);
    kept = fx_raw_get(b->store, &key);
    fx_raw_del(&b->f, &key);
    fx_fails(fx_set_publishable(b->store, FX_KSUID, "x", &err), CREDSTORE_E_INTEGRITY, &err);
    fx_raw_put(&b->f, &key, &kept);
    unchanged(b);
    goes_on(b, 2);
    cs_buf_free(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_conflicts, begin, end),
        cmocka_unit_test_setup_teardown(test_conflicts_for_ever, begin, end),
        cmocka_unit_test_setup_teardown(test_conflict_then_failure, begin, end),
        cmocka_unit_test_setup_teardown(test_not_found_is_no_answer, begin, end),
        cmocka_unit_test_setup_teardown(test_conflict_with_another, begin, end),
        cmocka_unit_test_setup_teardown(test_unknown_but_done, begin, end),
        cmocka_unit_test_setup_teardown(test_unknown_and_not_done, begin, end),
        cmocka_unit_test_setup_teardown(test_unknown_and_overtaken, begin, end),
        cmocka_unit_test_setup_teardown(test_unknown_for_good, begin, end),
        cmocka_unit_test(test_unknown_founding),
        cmocka_unit_test_setup_teardown(test_busy, begin, end),
        cmocka_unit_test_setup_teardown(test_busy_with_what, begin, end),
        cmocka_unit_test_setup_teardown(test_every_call_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_commit_answers_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_get_hands_over_nothing, begin, end),
        cmocka_unit_test(test_no_native),
        cmocka_unit_test_setup_teardown(test_copies_only, begin, end),
        cmocka_unit_test_setup_teardown(test_no_memory_in_the_sink, begin, end),
        cmocka_unit_test_setup_teardown(test_provider_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_random_before_the_turn, begin, end),
        cmocka_unit_test_setup_teardown(test_closures, begin, end),
        cmocka_unit_test_setup_teardown(test_failed_buffer, begin, end),
        cmocka_unit_test_setup_teardown(test_random_is_used_once, begin, end),
        cmocka_unit_test_setup_teardown(test_nonces_differ, begin, end),
        cmocka_unit_test(test_writers_that_do_not_wait),
        cmocka_unit_test_setup_teardown(test_scan, begin, end),
        cmocka_unit_test_setup_teardown(test_deaf_engine, begin, end),
        cmocka_unit_test_setup_teardown(test_passing_scan, begin, end),
        cmocka_unit_test_setup_teardown(test_counting_is_passing, begin, end),
        cmocka_unit_test_setup_teardown(test_walks_let_go, begin, end),
        cmocka_unit_test_setup_teardown(test_head_moves_with_each_commit, begin, end),
        cmocka_unit_test_setup_teardown(test_head_lost, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
