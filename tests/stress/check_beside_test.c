/* SPDX-License-Identifier: MIT
 *
 * credstore_check() beside four writers that create, update, roll, restore, remove, issue, import,
 * label, prune and maintain, over a clock that moves by days: not one finding. Repair runs beside
 * them too, and finds nothing to do. CREDSTORE_SECONDS (3) is how long, on each engine.
 */
#include "../populated.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS = 4, IDS = 64, SECONDS = 3, SECONDS_SLOW = 1 };

typedef struct beside {
    populated *p;
    _Atomic bool stop;
    _Atomic uint64_t changes, removed, pruned;
    _Atomic size_t findings;
    uint64_t seed;
} beside;

typedef struct writer {
    beside *b;
    unsigned number;
    uint64_t random;
    test_patch patch;
    char ids[IDS][32];
    uint64_t made;
} writer;

static void changed(beside *b, credstore_status status)
{
    atomic_fetch_add(&b->changes, status == CREDSTORE_OK);
}

/* What may be answered when others work on the same organization and audit. */
static void expect(credstore_status status, const credstore_error *err)
{
    if (status == CREDSTORE_OK || status == CREDSTORE_E_NOT_FOUND || status == CREDSTORE_E_EXISTS ||
        status == CREDSTORE_E_CONFLICT || status == CREDSTORE_E_INVALID ||
        status == CREDSTORE_E_BUSY)
        return;
    print_error("a writer got %s: %s\n", credstore_status_name((int32_t)status), err->message);
    abort();
}

static void work_on_stripe(writer *w)
{
    credstore *store = w->b->p->w.t.store;
    const test_kind *k = test_kind_of(CREDSTORE_KIND_STRIPE);
    const uint64_t n = test_random(&w->random);
    const unsigned i = (unsigned)(n % 8);
    const credstore_secret_text fresh = CREDSTORE_SECRET("whsec_fresh_4242", CREDSTORE_NTS);
    credstore_status status;
    credstore_error err;
    char id[40];

    snprintf(id, sizeof id, "3c90c3cc-0d44-4b50-8888-8dd25736%u%03u", w->number, i);
    switch (n >> 8 & 3) {
    case 0:
        status =
            credstore_stripe_roll(store, &w->b->p->w.call, id, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET,
                                  &fresh, n >> 16 & 1 ? 3600 : 0, NULL, &err);
        break;
    case 1:
        status =
            credstore_stripe_restore(store, &w->b->p->w.call, id, 1 + (n >> 16) % 4, NULL, &err);
        break;
    default:
        test_patch_whole(k, &w->patch, (unsigned)(n >> 16));
        status = credstore_stripe_update(store, &w->b->p->w.call, id,
                                         (const void *)w->patch.u.bytes, NULL, &err);
    }
    expect(status, &err);
    changed(w->b, status);
}

/* Books come and go; some live long enough for more history than is kept. */
static void work_on_books(writer *w)
{
    credstore *store = w->b->p->w.t.store;
    const credstore_call *call = &w->b->p->w.call;
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin};
    const uint64_t n = test_random(&w->random);
    char *id = w->ids[n % IDS];
    const test_at at = {"acme", NULL, id};
    const credstore_checkbook *view = NULL;
    credstore_status status;
    credstore_error err;

    test_patch_whole(k, &w->patch, (unsigned)(n >> 16));
    if (id[0] != '\0' && (n >> 12 & 1) != 0) { /* the secret stays */
        test_patch_begin(k, &w->patch);
        test_patch_set(k, &w->patch, 0, (unsigned)(n >> 16));
    }
    if (id[0] == '\0') {
        status = credstore_checkbook_create(store, call, &origin, (const void *)w->patch.u.bytes,
                                            &view, &err);
        if (status == CREDSTORE_OK)
            snprintf(id, sizeof w->ids[0], "%s", view->id);
        credstore_free(view);
    } else if ((n >> 8) % 8 == 0 && n % IDS > 1) {
        status = credstore_checkbook_remove(store, call, id, &err);
        id[0] = '\0';
        atomic_fetch_add(&w->b->removed, 1);
    } else {
        status = k->update(store, call, &at, w->patch.u.bytes, NULL, &err);
    }
    expect(status, &err);
    changed(w->b, status);
}

/* The first two are updated on and on: their history is full, and its end moves. */
static void work_on_two(writer *w)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const uint64_t n = test_random(&w->random);
    const test_at at = {"acme", NULL, w->ids[n % 2]};
    credstore_status status;
    credstore_error err;

    if (at.id[0] == '\0')
        return;
    test_patch_whole(k, &w->patch, (unsigned)(n >> 16));
    status = k->update(w->b->p->w.t.store, &w->b->p->w.call, &at, w->patch.u.bytes, NULL, &err);
    expect(status, &err);
    changed(w->b, status);
}

static void work_on_tokens(writer *w)
{
    credstore *store = w->b->p->w.t.store;
    const uint64_t n = test_random(&w->random);
    credstore_call call = w->b->p->w.call;
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("beside")};
    const credstore_service_credential *view = NULL;
    credstore_secret *token = NULL, *again = NULL;
    credstore_status status;
    credstore_error err;
    char key[64], account[16];

    snprintf(key, sizeof key, "key-%u-%u", w->number, (unsigned)(n % 1000));
    snprintf(account, sizeof account, "sa-%u", (unsigned)(n >> 10) % 8);
    call.idempotency_key = key;
    status = credstore_service_credential_issue(store, &call, n & 1 ? "acme" : "third", account,
                                                NULL, &patch, &token, &view, &err);
    if (status != CREDSTORE_E_IDEMPOTENCY)
        expect(status, &err);
    if (status == CREDSTORE_OK && n >> 20 & 1) {
        call.idempotency_key = NULL;
        expect(credstore_service_credential_roll(store, &call, n & 1 ? "acme" : "third", account,
                                                 view->id, 60, &again, NULL, &err),
               &err);
    }
    if (status == CREDSTORE_OK && (n >> 21 & 3) == 0)
        expect(credstore_service_credential_remove(store, &call, n & 1 ? "acme" : "third", account,
                                                   view->id, &err),
               &err);
    changed(w->b, status);
    credstore_secret_free(token);
    credstore_secret_free(again);
    credstore_free(view);
}

static void prune(beside *b)
{
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "");
    const credstore_call call = test_call(&system);
    credstore_checkpoint up_to = {.struct_size = sizeof up_to};
    credstore_error err;
    credstore_status status = credstore_audit_verify(b->p->w.t.store, &call, NULL, &up_to, &err);
    uint32_t more = status == CREDSTORE_OK;

    expect(status, &err);
    while (more != 0) {
        status = credstore_audit_prune(b->p->w.t.store, &call, &up_to, &more, &err);
        if (status != CREDSTORE_E_ROLLBACK) /* another was faster */
            expect(status, &err);
    }
    atomic_fetch_add(&b->pruned, 1);
}

/* What time drives, while it flies: hours, and now and then a month. */
static void keep_house(writer *w)
{
    beside *b = w->b;
    const uint64_t n = test_random(&w->random);
    const char *const labels[] = {"label-1", "label-2", NULL};
    credstore_error err;

    if (n % 256 == 0)
        atomic_fetch_add(&b->p->w.t.now, 12 * INT64_C(3600000));
    else
        atomic_fetch_add(&b->p->w.t.now, 1000);
    if (n % 16 == 1)
        expect(credstore_maintain(b->p->w.t.store, 5, NULL, &err), &err);
    if (n % 32 == 2)
        expect(credstore_organization_label(b->p->w.t.store, &b->p->w.call, "acme",
                                            labels[(n >> 8) % 3], &err),
               &err);
    if (n % 128 == 3)
        prune(b);
}

static void *write_on(void *arg)
{
    static void (*const works[])(writer * w) = {work_on_stripe, work_on_books, work_on_two,
                                                work_on_tokens, keep_house};
    const struct timespec pause = {0, 2000000};
    writer *w = arg;

    while (!atomic_load(&w->b->stop)) {
        works[test_random(&w->random) % LIFE_COUNT(works)](w);
        if (w->b->p->w.t.engine == TEST_MEMORY) /* whose commits wait for no disk */
            nanosleep(&pause, NULL);
    }
    return NULL;
}

static uint32_t note_finding(void *ctx, const credstore_finding *f)
{
    beside *b = ctx;

    if (atomic_fetch_add(&b->findings, 1) < 8)
        print_error("  %s kind %u id %s field %s revision %d seq %d %s: %s\n", f->table, f->kind,
                    f->id, f->field, (int)f->revision, (int)f->seq,
                    credstore_status_name(f->status), f->message);
    return 0;
}

static int64_t seconds_of(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");
    const bool plain = variant == NULL || strcmp(variant, "plain") == 0;

    return (int64_t)test_number("CREDSTORE_SECONDS", plain ? SECONDS : SECONDS_SLOW);
}

static void check_beside(test_engine engine)
{
    populated *p = pop_open(engine, false);
    beside b = {.p = p, .seed = test_seed("check_beside_test")};
    const credstore_check_options options = {
        .struct_size = sizeof options, .finding = note_finding, .ctx = &b};
    credstore_check_result result = {.struct_size = sizeof result};
    credstore_repair_result mended = {.struct_size = sizeof mended};
    writer *writers = calloc(WRITERS, sizeof *writers);
    pthread_t threads[WRITERS];
    const time_t end = time(NULL) + (time_t)seconds_of();
    unsigned checks = 0;
    credstore_error err;

    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].b = &b;
        writers[i].number = i;
        writers[i].random = b.seed + i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &writers[i]), 0);
    }
    do {
        life_ok(credstore_check(p->w.t.store, &p->w.call, &options, &result, &err));
        life_ok(credstore_repair_indexes(p->w.t.store, &p->w.call, &mended, &err));
        assert_int_equal(mended.added + mended.removed + mended.unreadable, 0);
        checks++;
    } while (time(NULL) < end && b.findings == 0);
    atomic_store(&b.stop, true);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    life_ok(credstore_check(p->w.t.store, &p->w.call, &options, &result, &err));
    printf("BESIDE %s: %u checks beside %u changes (%u removals, %u prunings), %u values, "
           "findings=%u\n",
           test_engine_names[engine], checks, (unsigned)b.changes, (unsigned)b.removed,
           (unsigned)b.pruned, (unsigned)result.values, (unsigned)b.findings);
    assert_int_equal(b.findings, 0);
    assert_true(checks > 0 && b.changes > 10);
    free(writers);
    pop_close(p);
}

static void test_lmdb(void **state)
{
    (void)state;
    check_beside(TEST_LMDB);
}

static void test_memory(void **state)
{
    (void)state;
    check_beside(TEST_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lmdb), cmocka_unit_test(test_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
