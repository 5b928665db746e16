/* SPDX-License-Identifier: MIT
 *
 * A process with two writers and a reader, killed with SIGKILL at any moment, again and again:
 * during updates, creations and while the map grows. The ledger lies outside of the store, in
 * memory that the parent shares: a writer enters what he is about to do, and what was acknowledged.
 * After each kill the store opens, no acknowledged change is lost, and at most the one under way
 * came beside it; after every 20th the audit is unbroken and credstore_check() finds nothing. In
 * every other round the parent has the store open as well.
 *
 *   CREDSTORE_KILLS=N how many (60; `make campaign-kills`: 1000), CREDSTORE_SEED=N when.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "work.h"

#include <inttypes.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITERS = 2, CREATE_EVERY = 4, TINY_MAP = 1 << 20, NAP_MOST_US = 30000 };

/* One writer's side of the ledger: his records are those of his parity, his new ones have his name
   in front. Counted before the call, and again when it was acknowledged. */
typedef struct side {
    _Atomic uint64_t begun[WORK_RECORDS], done[WORK_RECORDS];
    _Atomic uint64_t made_begun, made;
} side;

typedef struct board {
    side sides[WRITERS];
    atomic_uint ready, trouble;
    _Atomic uint64_t reads;
} board;

static board *ledger;
static char path[TEST_PATH_MAX + 8];

/* The map is outgrown now and then: it begins small in each process. */
int __real_mdb_env_set_mapsize(MDB_env *mdb, size_t size);
int __wrap_mdb_env_set_mapsize(MDB_env *mdb, size_t size);
int __wrap_mdb_env_set_mapsize(MDB_env *mdb, size_t size)
{
    const char *at = NULL;

    mdb_env_get_path(mdb, &at);
    return __real_mdb_env_set_mapsize(mdb, at == NULL ? (size_t)TINY_MAP : size);
}

/* ---- the process that is killed ---- */

typedef struct worker {
    credstore *store;
    credstore_actor actor;
    unsigned number;
    uint64_t random;
} worker;

static void made_name(unsigned writer, uint64_t n, char out[32])
{
    (void)snprintf(out, 32, "made-%u-%08" PRIu64, writer, n);
}

static void update_one(worker *w, side *mine)
{
    const size_t record =
        (size_t)(test_random(&w->random) % (WORK_RECORDS / WRITERS)) * WRITERS + w->number;
    const uint64_t n = atomic_load(&mine->done[record]) + 1;
    const work_change c = {
        .record = record, .stamp = {.tag = n, .secret = n}, .with_secret = work_has_secret(record)};
    uint64_t revision;
    credstore_error err;

    atomic_store(&mine->begun[record], n);
    if (work_write(w->store, &w->actor, &c, &revision, &err) == CREDSTORE_OK)
        atomic_store(&mine->done[record], n);
    else if (err.status != CREDSTORE_E_BUSY && atomic_fetch_add(&ledger->trouble, 1) == 0)
        work_say("update", &err);
}

static void create_one(worker *w, side *mine)
{
    const uint64_t n = atomic_load(&mine->made) + 1;
    work_change c = {.record = WORK_API_KEY, .stamp = {.tag = n}};
    char id[32];
    credstore_error err;
    credstore_status status;

    made_name(w->number, n, id);
    c.id = id;
    atomic_store(&mine->made_begun, n);
    status = work_create(w->store, &w->actor, &c, &err);
    if (status == CREDSTORE_OK ||
        status == CREDSTORE_E_EXISTS) /* made, and killed before it knew */
        atomic_store(&mine->made, n);
    else if (status != CREDSTORE_E_BUSY && atomic_fetch_add(&ledger->trouble, 1) == 0)
        work_say("creation", &err);
}

static void *write_on(void *arg)
{
    worker *w = arg;
    side *mine = &ledger->sides[w->number];

    for (;;) {
        if (test_random(&w->random) % CREATE_EVERY == 0)
            create_one(w, mine);
        else
            update_one(w, mine);
    }
    return NULL;
}

static void *read_on(void *arg)
{
    worker *w = arg;

    for (;;) {
        const size_t record = (size_t)(test_random(&w->random) % WORK_RECORDS);
        uint64_t secret = 0;
        work_view view;
        credstore_error err;
        bool ok =
            work_read(w->store, &w->actor, record, 0, &view, &err) == CREDSTORE_OK && view.whole;

        if (ok && work_has_secret(record))
            ok = work_reveal(w->store, &w->actor, record, 0, &secret, &err) == CREDSTORE_OK;
        if (!ok && atomic_fetch_add(&ledger->trouble, 1) == 0)
            work_say("read", &err);
        atomic_fetch_add(&ledger->reads, 1);
    }
    return NULL;
}

static void live(uint64_t random)
{
    credstore_error err;
    worker workers[WRITERS + 1];
    pthread_t threads[WRITERS + 1];
    credstore *store = work_open(path, &err);

    if (store == NULL)
        _exit(1);
    for (unsigned i = 0; i <= WRITERS; i++) {
        workers[i].store = store;
        workers[i].actor = test_root(store);
        workers[i].number = i;
        workers[i].random = random + i;
        if (pthread_create(&threads[i], NULL, i < WRITERS ? write_on : read_on, &workers[i]) != 0)
            _exit(1);
    }
    atomic_store(&ledger->ready, 1);
    for (;;)
        (void)pause();
}

/* ---- after each kill ---- */

static void check_updates(credstore *store, const credstore_actor *actor)
{
    for (size_t record = 0; record < WORK_RECORDS; record++) {
        const side *s = &ledger->sides[record % WRITERS];
        const uint64_t begun = atomic_load(&s->begun[record]);
        const uint64_t done = atomic_load(&s->done[record]);
        uint64_t secret = 0;
        work_view view;
        credstore_error err;

        assert_status(CREDSTORE_OK, work_read(store, actor, record, 0, &view, &err), &err);
        assert_true(view.whole);
        assert_true(view.stamp.tag >= done && view.stamp.tag <= begun);
        if (work_has_secret(record)) {
            assert_status(CREDSTORE_OK, work_reveal(store, actor, record, 0, &secret, &err), &err);
            assert_true(secret == view.stamp.tag);
        }
        atomic_store(&ledger->sides[record % WRITERS].done[record], view.stamp.tag);
    }
}

/* Those made since `from`; the one under way may or may not be there. */
static void check_made(credstore *store, const credstore_actor *actor, unsigned writer,
                       uint64_t from)
{
    const side *s = &ledger->sides[writer];
    const credstore_call call = test_call(actor);

    for (uint64_t n = from + 1; n <= atomic_load(&s->made); n++) {
        const credstore_api_key *view = NULL;
        char id[32];
        credstore_error err;

        made_name(writer, n, id);
        assert_status(CREDSTORE_OK, credstore_api_key_get(store, &call, id, &view, &err), &err);
        credstore_free(view);
    }
}

static uint32_t tell_finding(void *ctx, const credstore_finding *f)
{
    (void)ctx;
    print_error("found: %s %s %s: %s\n", f->table, f->id, f->key, f->message);
    return 0;
}

static void check_whole(credstore *store, const credstore_actor *actor)
{
    const credstore_call call = test_call(actor);
    const credstore_check_options options = {.struct_size = sizeof options,
                                             .finding = tell_finding};
    credstore_check_result result = {.struct_size = sizeof result};
    work_marks marks;
    credstore_error err;

    assert_status(CREDSTORE_OK, work_audit(store, &marks, &err), &err);
    assert_status(CREDSTORE_OK, credstore_check(store, &call, &options, &result, &err), &err);
    assert_int_equal(result.findings, 0);
    assert_true(result.records >= WORK_RECORDS && result.audit_entries == marks.last_seq);
}

/* ---- the rounds ---- */

/* Under valgrind all is slower: fewer kills, and more time between them for changes to be lost. */
static bool is_slow(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");

    return variant != NULL && strcmp(variant, "valgrind") == 0;
}

enum { ENOUGH = 4 };

/* What has been acknowledged, of both writers. */
static uint64_t acknowledged(void)
{
    uint64_t sum = 0;

    for (size_t w = 0; w < WRITERS; w++)
        sum += atomic_load(&ledger->sides[w].made);
    for (size_t record = 0; record < WORK_RECORDS; record++)
        sum += atomic_load(&ledger->sides[record % WRITERS].done[record]);
    return sum;
}

/* with_another: the time runs from some changes on, however slow the disk is; else from the start.
 */
static void one_round(uint64_t *random, bool with_another)
{
    const uint64_t childs = test_random(random);
    const uint64_t most = is_slow() ? 20 * NAP_MOST_US : NAP_MOST_US;
    const int64_t nap = (int64_t)(test_random(random) % most);
    const uint64_t before = acknowledged();
    credstore *other = NULL;
    credstore_error err;
    int status = 0;
    pid_t child;

    atomic_store(&ledger->ready, 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        live(childs);
    if (with_another) {
        other = work_open(path, &err);
        assert_non_null(other);
    }
    while (atomic_load(&ledger->ready) == 0 && waitpid(child, &status, WNOHANG) == 0)
        work_nap_us(100);
    while (with_another && acknowledged() < before + ENOUGH &&
           waitpid(child, &status, WNOHANG) == 0)
        work_nap_us(100);
    work_nap_us(nap);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    if (other != NULL) { /* who was there all the time goes on */
        const credstore_actor actor = test_root(other);

        check_updates(other, &actor);
        credstore_close(other);
    }
}

static void nothing_acknowledged_is_lost(void **state)
{
    const unsigned long kills = test_number("CREDSTORE_KILLS", is_slow() ? 20 : 60);
    uint64_t random = test_seed("killed_test"), made[WRITERS] = {0}, changes = 0;
    credstore_actor actor;
    credstore_error err;
    char folder[TEST_PATH_MAX];
    credstore *store;

    (void)state;
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ledger != MAP_FAILED);
    test_folder(folder);
    (void)snprintf(path, sizeof path, "%s/s", folder);
    store = work_open(path, &err);
    assert_non_null(store);
    actor = test_root(store);
    assert_status(CREDSTORE_OK, work_create_all(store, &actor, &err), &err);
    credstore_close(store);
    for (unsigned long i = 0; i < kills; i++) {
        one_round(&random, i % 2 == 1);
        store = work_open(path, &err);
        assert_non_null(store);
        check_updates(store, &actor);
        for (unsigned w = 0; w < WRITERS; w++) {
            check_made(store, &actor, w, made[w]);
            made[w] = atomic_load(&ledger->sides[w].made);
        }
        if (i % 20 == 19 || i + 1 == kills)
            check_whole(store, &actor);
        credstore_close(store);
        assert_int_equal(atomic_load(&ledger->trouble), 0);
    }
    for (size_t record = 0; record < WORK_RECORDS; record++)
        changes += atomic_load(&ledger->sides[record % WRITERS].done[record]);
    print_message("%lu kills: %" PRIu64 " changes and %" PRIu64 " creations acknowledged, %" PRIu64
                  " reads; none lost\n",
                  kills, changes, made[0] + made[1], atomic_load(&ledger->reads));
    assert_true(changes > kills && made[0] > 0 && made[1] > 0);
    munmap(ledger, sizeof *ledger);
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
