/* SPDX-License-Identifier: MIT
 *
 * Rotation under a crowd and under kills: four writers and four readers work on the store, in
 * processes of their own, while another promotes new data keys and seals everything anew, again and
 * again, and is killed at random moments. A ledger outside of the store says what was acknowledged.
 * In the end every record is at its last acknowledged value and opens at every revision, the old
 * keys are retired, and nothing lies under them.
 *
 *   CREDSTORE_SEED=N changes what is drawn, CREDSTORE_RECORDS=N and CREDSTORE_KILLS=N the size:
 *   `make campaign-rotation` takes 100000 and 200. CREDSTORE_WHERE=<folder> is where the store is.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "../support.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "place.h"
#include "txn.h"

enum { WRITERS = 4, READERS = 4, THREADS = 2, TOKEN_ROOM = 128, PATH_ROOM = TEST_PATH_MAX + 16 };
enum { CHECKBOOK, API_KEY, STRIPE, SORTS };

/* Of one record: the last value that a writer began to store, and the last that was acknowledged.
 */
typedef struct entry {
    atomic_uint_least64_t begun, acked;
    char id[48];
    char token[TOKEN_ROOM]; /* of an API key */
} entry;

typedef struct shared {
    uint64_t seed;
    unsigned long records;
    char path[PATH_ROOM];
    atomic_bool stop;
    atomic_ulong created, updates, reads, lists, promoted, retired, failed;
    entry entries[];
} shared;

/* ---- nothing here asserts: it runs in threads of forked children ---- */

static void complain(shared *s, const char *what, unsigned long n, const credstore_error *err)
{
    atomic_fetch_add(&s->failed, 1);
    fprintf(stderr, "%s %lu: %s: %s\n", what, n, credstore_status_name(err->status), err->message);
}

static void pause_ms(long ms)
{
    const struct timespec nap = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&nap, NULL);
}

static credstore *open_store(const shared *s)
{
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    if (credstore_key_bytes(test_root_key, sizeof test_root_key, &key, &err) != CREDSTORE_OK)
        return NULL;
    const credstore_options options = {
        .struct_size = sizeof options, .flags = CREDSTORE_OPEN_CREATE, .key = key};
    if (credstore_open(s->path, &options, &store, &err) != CREDSTORE_OK)
        fprintf(stderr, "open: %s: %s\n", credstore_status_name(err.status), err.message);
    credstore_key_source_free(key);
    return store;
}

static credstore_actor user(void)
{
    credstore_actor actor = {
        .struct_size = sizeof actor, .type = CREDSTORE_ACTOR_USER, .roles = CREDSTORE_ROLE_ADMIN};

    snprintf(actor.id, sizeof actor.id, "ada");
    snprintf(actor.tenant, sizeof actor.tenant, "acme");
    return actor;
}

static credstore_actor platform(void)
{
    credstore_actor actor = {.struct_size = sizeof actor, .type = CREDSTORE_ACTOR_SYSTEM};

    snprintf(actor.id, sizeof actor.id, "platform");
    snprintf(actor.tenant, sizeof actor.tenant, "acme");
    return actor;
}

static credstore_call call_of(const credstore_actor *actor)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor, .wait_ms = 120000};

    return call;
}

static unsigned sort_of(unsigned long n)
{
    return (unsigned)(n % SORTS);
}

/* ---- a record's values ---- */

static credstore_status create_checkbook(credstore *store, entry *e, unsigned long n,
                                         credstore_error *err)
{
    const credstore_actor actor = platform();
    const credstore_call call = call_of(&actor);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = e->id};
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                             .publishable_key = CREDSTORE_TEXT("text"),
                                             .secret_key =
                                                 CREDSTORE_SECRET("value 0", CREDSTORE_NTS),
                                             .base_url = CREDSTORE_TEXT("https://example.com")};

    (void)n;
    return credstore_checkbook_create(store, &call, &origin, &patch, NULL, err);
}

static credstore_status create_key(credstore *store, entry *e, unsigned long n,
                                   credstore_error *err)
{
    const credstore_actor actor = user();
    const credstore_call call = call_of(&actor);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("value 0"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    const credstore_api_key *view = NULL;
    credstore_secret *token = NULL;
    const credstore_status status =
        credstore_api_key_issue(store, &call, NULL, &patch, &token, &view, err);

    (void)n;
    if (status == CREDSTORE_OK) {
        snprintf(e->id, sizeof e->id, "%s", view->id);
        snprintf(e->token, sizeof e->token, "%s", credstore_secret_ptr(token));
    }
    credstore_secret_free(token);
    credstore_free(view);
    return status;
}

static credstore_status create_stripe(credstore *store, entry *e, unsigned long n,
                                      credstore_error *err)
{
    const credstore_actor actor = platform();
    const credstore_call call = call_of(&actor);
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .live_webhook_secret = CREDSTORE_SECRET("whsec_value 0", CREDSTORE_NTS),
        .test_secret_key = CREDSTORE_SECRET("sk_test_that_stays_4242", CREDSTORE_NTS)};

    (void)n;
    return credstore_stripe_create(store, &call, e->id, NULL, &patch, NULL, err);
}

static credstore_status create(credstore *store, entry *e, unsigned long n, credstore_error *err)
{
    switch (sort_of(n)) {
    case CHECKBOOK:
        snprintf(e->id, sizeof e->id, "1NFHrqBHb3cTfLVkFS%09lu", n);
        return create_checkbook(store, e, n, err);
    case API_KEY:
        return create_key(store, e, n, err);
    default:
        snprintf(e->id, sizeof e->id, "3c90c3cc-0d44-4b50-8888-%012lu", n);
        return create_stripe(store, e, n, err);
    }
}

/* Stores the value v: a secret that replaces one, a text, a secret that leaves one in its grace. */
static credstore_status update(credstore *store, const entry *e, unsigned long n, uint64_t v,
                               credstore_error *err)
{
    const credstore_actor system = platform(), person = user();
    const credstore_call by_system = call_of(&system), by_person = call_of(&person);
    char text[64];

    snprintf(text, sizeof text, "%svalue %" PRIu64, sort_of(n) == STRIPE ? "whsec_" : "", v);
    if (sort_of(n) == CHECKBOOK) {
        const credstore_checkbook_patch patch = {
            .struct_size = sizeof patch, .secret_key = CREDSTORE_SECRET(text, CREDSTORE_NTS)};

        return credstore_checkbook_update(store, &by_system, e->id, &patch, NULL, err);
    }
    if (sort_of(n) == API_KEY) {
        const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                               .description = CREDSTORE_TEXT(text)};

        return credstore_api_key_update(store, &by_person, e->id, &patch, NULL, err);
    }
    const credstore_secret_text fresh = CREDSTORE_SECRET(text, CREDSTORE_NTS);
    return credstore_stripe_roll(store, &by_system, e->id, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET,
                                 &fresh, 3600, NULL, err);
}

static uint64_t value_in(const char *text)
{
    const char *at = text == NULL ? NULL : strstr(text, "value ");

    return at == NULL ? UINT64_MAX : strtoull(at + strlen("value "), NULL, 10);
}

static credstore_status read_key(credstore *store, const entry *e, credstore_call *call,
                                 uint64_t *v, credstore_error *err)
{
    const credstore_api_key *view = NULL;
    credstore_actor actor;
    credstore_status status = credstore_api_key_get(store, call, e->id, &view, err);

    *v = status == CREDSTORE_OK ? value_in(view->description) : 0;
    credstore_free(view);
    if (status == CREDSTORE_OK)
        status = credstore_api_key_verify(store, e->token, CREDSTORE_NTS, &actor, err);
    return status;
}

static credstore_status read_value(credstore *store, const entry *e, unsigned long n,
                                   uint64_t revision, uint64_t *v, credstore_error *err)
{
    const credstore_actor system = platform(), person = user();
    credstore_call by_system = call_of(&system), by_person = call_of(&person);
    credstore_secret *secret = NULL;
    credstore_status status;

    by_system.at_revision = by_person.at_revision = revision;
    if (sort_of(n) == API_KEY)
        return read_key(store, e, &by_person, v, err);
    if (sort_of(n) == CHECKBOOK)
        status = credstore_checkbook_reveal(store, &by_system, e->id,
                                            CREDSTORE_CHECKBOOK_SECRET_KEY, &secret, err);
    else
        status = credstore_stripe_reveal(store, &by_system, e->id,
                                         CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET, &secret, err);
    *v = status == CREDSTORE_OK ? value_in(credstore_secret_ptr(secret)) : 0;
    credstore_secret_free(secret);
    return status;
}

/* ---- the crowd ---- */

typedef struct worker {
    shared *s;
    credstore *store;
    unsigned number;
} worker;

/* Its own records first, and then their updates until it is told to stop. */
static void *write_on(void *arg)
{
    const worker *w = arg;
    shared *s = w->s;
    uint64_t random = s->seed + w->number;
    credstore_error err;

    for (unsigned long n = w->number; n < s->records; n += WRITERS) {
        if (create(w->store, &s->entries[n], n, &err) != CREDSTORE_OK)
            complain(s, "create", n, &err);
        atomic_fetch_add(&s->created, 1);
    }
    while (!atomic_load(&s->stop)) {
        const unsigned long own = (unsigned long)(test_random(&random) % (s->records / WRITERS));
        const unsigned long n = own * WRITERS + w->number;
        entry *e = &s->entries[n];
        const uint64_t v = atomic_load(&e->acked) + 1;

        if (atomic_load(&s->created) < s->records) {
            pause_ms(1);
            continue;
        }
        atomic_store(&e->begun, v);
        if (update(w->store, e, n, v, &err) != CREDSTORE_OK) {
            complain(s, "update", n, &err);
            continue;
        }
        atomic_store(&e->acked, v);
        atomic_fetch_add(&s->updates, 1);
    }
    return NULL;
}

static void read_one(const worker *w, unsigned long n)
{
    shared *s = w->s;
    const entry *e = &s->entries[n];
    const uint64_t least = atomic_load(&e->acked);
    credstore_error err;
    uint64_t v = 0;

    if (read_value(w->store, e, n, 0, &v, &err) != CREDSTORE_OK) {
        complain(s, "read", n, &err);
    } else if (v < least || v > atomic_load(&e->begun)) {
        atomic_fetch_add(&s->failed, 1);
        fprintf(stderr, "record %lu is at %" PRIu64 ", and %" PRIu64 " was acknowledged\n", n, v,
                least);
    }
    atomic_fetch_add(&s->reads, 1);
}

static void list_some(const worker *w)
{
    const credstore_actor actor = user();
    const credstore_call call = call_of(&actor);
    const credstore_page first = {.struct_size = sizeof first, .limit = 20};
    const credstore_api_key_page *page = NULL;
    credstore_error err;

    if (credstore_api_key_list(w->store, &call, &first, &page, &err) != CREDSTORE_OK) {
        complain(w->s, "list", 0, &err);
        return;
    }
    for (size_t i = 0; i < page->count; i++)
        if (page->items[i].status != CREDSTORE_OK) {
            atomic_fetch_add(&w->s->failed, 1);
            fprintf(stderr, "list: item %zu: %s\n", i,
                    credstore_status_name(page->items[i].status));
        }
    credstore_free(page);
    atomic_fetch_add(&w->s->lists, 1);
}

static void *read_on(void *arg)
{
    const worker *w = arg;
    uint64_t random = w->s->seed * 31 + w->number;

    while (!atomic_load(&w->s->stop)) {
        if (atomic_load(&w->s->created) < w->s->records)
            pause_ms(1);
        else if (test_random(&random) % 64 == 0)
            list_some(w);
        else
            read_one(w, (unsigned long)(test_random(&random) % w->s->records));
    }
    return NULL;
}

static pid_t begin_crowd(shared *s, unsigned first, void *(*work)(void *arg))
{
    const pid_t pid = fork();
    pthread_t threads[THREADS];
    worker workers[THREADS];
    credstore *store;

    if (pid != 0)
        return pid;
    store = open_store(s);
    if (store == NULL)
        _exit(2);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (worker){s, store, first + i};
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            _exit(3);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    credstore_close(store);
    _exit(0);
}

/* ---- the rotating process ---- */

/* Does any key retire? -1: it could not be told. */
static int is_rotating(credstore *store, const credstore_call *call, credstore_error *err)
{
    const credstore_data_key_page *page = NULL;
    int rotating = 0;

    if (credstore_keys_list(store, call, 0, &page, err) != CREDSTORE_OK)
        return -1;
    for (uint32_t i = 0; i < page->count; i++)
        rotating = rotating || page->items[i]->state == CREDSTORE_DATA_KEY_RETIRING;
    credstore_free(page);
    return rotating;
}

/* One rotation, or the rest of one that another process began. */
static bool rotate(shared *s, credstore *store, credstore_error *err)
{
    const credstore_actor actor = platform();
    const credstore_call call = call_of(&actor);
    const int rotating = is_rotating(store, &call, err);
    uint32_t more = 1;

    if (rotating < 0 ||
        (rotating == 0 && credstore_keys_promote(store, &call, 0, err) != CREDSTORE_OK))
        return false;
    atomic_fetch_add(&s->promoted, rotating == 0);
    while (more)
        if (credstore_keys_reseal(store, &call, 0, 20, NULL, NULL, &more, err) != CREDSTORE_OK)
            return false;
    atomic_fetch_add(&s->retired, 1);
    return true;
}

static pid_t begin_rotating(shared *s)
{
    const pid_t pid = fork();
    credstore_error err;
    credstore *store;

    if (pid != 0)
        return pid;
    store = open_store(s);
    if (store == NULL)
        _exit(2);
    while (rotate(s, store, &err))
        continue;
    complain(s, "rotation", 0, &err);
    _exit(4);
}

/* ---- what is there in the end ---- */

static void check_record(credstore *store, const shared *s, unsigned long n)
{
    const entry *e = &s->entries[n];
    const uint64_t last = atomic_load(&e->acked);
    credstore_error err = {0};
    uint64_t v = 0;

    assert_status(CREDSTORE_OK, read_value(store, e, n, 0, &v, &err), &err);
    assert_int_equal(v, last);
    for (uint64_t back = 1; back <= 100 && back <= last;
         back++) { /* revision r holds value r - 1 */
        assert_status(CREDSTORE_OK, read_value(store, e, n, last + 1 - back, &v, &err), &err);
        assert_int_equal(v, last - back);
    }
}

typedef struct scan_of {
    const credstore_data_key_page *page;
    uint64_t active, other, values;
} scan_of;

static bool count_boxes(void *arg, credstore_bytes key, credstore_bytes value)
{
    scan_of *scan = arg;
    cs_sealed_box boxes[CS_BOXES_MAX];
    cs_place place;
    size_t count = 0;

    scan->values++;
    if (!cs_place_of(key, value, &place) || !cs_place_boxes(&place, value, boxes, &count)) {
        scan->other++;
        return true;
    }
    for (size_t b = 0; b < count; b++) {
        bool active = false;

        for (uint32_t i = 0; i < scan->page->count; i++)
            active = active || (scan->page->items[i]->purpose == boxes[b].purpose &&
                                scan->page->items[i]->id == boxes[b].box.key_id &&
                                scan->page->items[i]->state == CREDSTORE_DATA_KEY_ACTIVE);
        scan->active += active;
        scan->other += !active;
    }
    return true;
}

/* By the test's own eyes: each box in the store is under an active key. */
static void check_boxes(credstore *store, const credstore_data_key_page *page)
{
    scan_of seen = {.page = page};
    const cs_scan scan = {.visit = count_boxes, .arg = &seen};
    const cs_key from = {1, {0}}, to = {0};
    credstore_error err = {0};
    uint64_t told = 0;
    cs_txn txn;

    assert_status(CREDSTORE_OK, cs_txn_read(store, &txn, &err), &err);
    assert_status(CREDSTORE_OK, cs_txn_scan(&txn, &from, &to, &scan, &err), &err);
    cs_txn_end(&txn);
    for (uint32_t i = 0; i < page->count; i++) {
        told += page->items[i]->boxes;
        assert_true(page->items[i]->boxes == 0 ||
                    page->items[i]->state == CREDSTORE_DATA_KEY_ACTIVE);
        assert_int_not_equal(page->items[i]->state, CREDSTORE_DATA_KEY_RETIRING);
    }
    printf("%" PRIu64 " values, %" PRIu64 " boxes under active keys, %" PRIu64 " under others\n",
           seen.values, seen.active, seen.other);
    assert_int_equal(seen.other, 0);
    assert_int_equal(seen.active, told);
}

static uint32_t print_finding(void *ctx, const credstore_finding *finding)
{
    (void)ctx;
    fprintf(stderr, "%s %s: %s\n", finding->table, finding->id, finding->message);
    return 0;
}

static void check_whole(credstore *store, const credstore_call *call)
{
    const credstore_check_options options = {.struct_size = sizeof options,
                                             .finding = print_finding};
    credstore_check_result result = {.struct_size = sizeof result};
    credstore_error err = {0};

    assert_status(CREDSTORE_OK, credstore_audit_verify(store, call, NULL, NULL, &err), &err);
    assert_status(CREDSTORE_OK, credstore_check(store, call, &options, &result, &err), &err);
    assert_int_equal(result.findings, 0);
}

static void check_end(shared *s)
{
    const credstore_actor actor = platform();
    const credstore_call call = call_of(&actor);
    const credstore_data_key_page *page = NULL;
    credstore *store = open_store(s);
    credstore_error err = {0};

    assert_non_null(store);
    if (!rotate(s, store, &err)) /* what the last kill left, or one more */
        fail_msg("%s: %s", credstore_status_name(err.status), err.message);
    assert_status(CREDSTORE_OK,
                  credstore_keys_list(store, &call, CREDSTORE_KEYS_COUNT, &page, &err), &err);
    check_boxes(store, page);
    credstore_free(page);
    for (unsigned long n = 0; n < s->records; n++)
        check_record(store, s, n);
    check_whole(store, &call);
    credstore_close(store);
}

/* ---- ---- */

static bool is_plain(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");

    return variant == NULL || strcmp(variant, "plain") == 0;
}

static void kill_at_random(shared *s, unsigned long kills)
{
    uint64_t random = s->seed ^ UINT64_C(0x5bd1e995);
    const long most = s->records > 20000 ? 1200 : is_plain() ? 250 : 1000;
    int how = 0;

    for (unsigned long n = 0; n < kills; n++) {
        const pid_t pid = begin_rotating(s);

        assert_true(pid > 0);
        pause_ms(1 + (long)(test_random(&random) % (uint64_t)most));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &how, 0), pid);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL); /* it did not end by itself */
    }
}

static shared *share(unsigned long records)
{
    const size_t size = sizeof(shared) + records * sizeof(entry);
    shared *s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(s != MAP_FAILED);
    s->records = records;
    return s;
}

static void rotates_under_kills(void **state)
{
    const unsigned long wanted = test_number("CREDSTORE_RECORDS", is_plain() ? 2000 : 240);
    const unsigned long kills = test_number("CREDSTORE_KILLS", is_plain() ? 20 : 5);
    const char *where = getenv("CREDSTORE_WHERE");
    shared *s = share(wanted / WRITERS * WRITERS);
    char folder[TEST_PATH_MAX];
    pid_t crowd[(WRITERS + READERS) / THREADS];
    size_t count = 0;
    int how = 0;

    (void)state;
    s->seed = test_seed("rotation_test");
    /* What counts here is the crowd, not the disk. */
    setenv("TMPDIR", where != NULL ? where : test_quick_base(), 1);
    test_folder(folder);
    snprintf(s->path, sizeof s->path, "%s/store", folder);
    for (unsigned i = 0; i < WRITERS; i += THREADS)
        crowd[count++] = begin_crowd(s, i, write_on);
    for (unsigned i = 0; i < READERS; i += THREADS)
        crowd[count++] = begin_crowd(s, WRITERS + i, read_on);
    while (atomic_load(&s->created) < s->records && atomic_load(&s->failed) == 0)
        pause_ms(10);
    kill_at_random(s, kills);
    atomic_store(&s->stop, true);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(waitpid(crowd[i], &how, 0), crowd[i]);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    check_end(s);
    printf("%lu records, %lu kills: %lu promotions, %lu whole rotations, %lu updates, %lu reads, "
           "%lu lists, %lu failed\n",
           s->records, kills, atomic_load(&s->promoted), atomic_load(&s->retired),
           atomic_load(&s->updates), atomic_load(&s->reads), atomic_load(&s->lists),
           atomic_load(&s->failed));
    assert_int_equal(atomic_load(&s->failed), 0);
    assert_true(atomic_load(&s->updates) > 0 && atomic_load(&s->reads) > 0);
    test_folder_remove(folder);
    munmap(s, sizeof(shared) + s->records * sizeof(entry));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rotates_under_kills)};

    return cmocka_run_group_tests_name("rotation", tests, NULL, NULL);
}
