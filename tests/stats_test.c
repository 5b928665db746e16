/* SPDX-License-Identifier: MIT
 *
 * Statistics: each figure against what the test did.
 */
#include "life.h"

#include <pthread.h>
#include <sys/stat.h>

#include "ring.h"
#include "storage/engines.h"
#include "txn.h"

static const credstore_stats *stats_of(test_world *w, uint32_t flags)
{
    const credstore_stats *stats = NULL;
    credstore_error err;

    life_ok(credstore_statistics(w->t.store, &w->call, flags, &stats, &err));
    assert_non_null(stats);
    assert_int_equal(stats->struct_size, sizeof *stats);
    return stats;
}

static const credstore_kind_count *kind_of(const credstore_stats *stats, uint32_t kind)
{
    for (size_t i = 0; i < stats->kind_count; i++)
        if (stats->kinds[i]->kind == kind)
            return stats->kinds[i];
    fail_msg("no count of kind %u", kind);
    return NULL;
}

static void numbers_of_the_store(test_world *w)
{
    const credstore_stats *before = stats_of(w, 0);
    const credstore_stats *after;
    credstore_checkpoint point;
    credstore_error err;

    assert_null(before->kinds);
    assert_int_equal(before->kind_count, 0);
    assert_int_equal(before->epoch, 1);
    assert_int_equal(before->keys, cs_store_ring(w->t.store)->count);
    for (int i = 0; i < 5; i++)
        life_issue(w, 0);
    after = stats_of(w, 0);
    life_ok(credstore_anchor_take(w->t.store, &w->call, &point, &err));
    assert_int_equal(after->generation, point.generation);
    assert_int_equal(after->generation, before->generation + 5);
    assert_int_equal(after->audit_seq, point.seq);
    assert_int_equal(after->commits, before->commits + 5);
    assert_int_equal(after->changes, before->changes + 5);
    assert_int_equal(after->groups[0], before->groups[0] + 5); /* one writer: one change each */
    assert_int_equal(after->largest, 1);
    credstore_free(before);
    credstore_free(after);
}

static void records_of_each_kind(test_world *w)
{
    const credstore_stats *stats;
    credstore_error err;

    for (size_t i = 0; i < test_kind_count; i++) {
        const test_kind *k = &test_kinds[i];
        const test_at at = test_at_of(k);
        test_patch patch;

        credstore_free(test_make(&w->t, k, &w->root, 1));
        test_patch_whole(k, &patch, 2);
        life_ok(k->update(w->t.store, &w->call, &at, patch.u.bytes, NULL, &err));
    }
    life_ok(life_remove(w->t.store, &w->call, test_kind_of(CREDSTORE_KIND_CHECKBOOK),
                        &(const test_at){.id = test_kind_of(CREDSTORE_KIND_CHECKBOOK)->id}, &err));
    for (int i = 0; i < 7; i++)
        life_issue(w, 0);
    stats = stats_of(w, CREDSTORE_STATISTICS_KINDS);
    assert_int_equal(stats->kind_count, cs_kind_count);
    for (size_t i = 0; i < test_kind_count; i++) {
        const uint32_t id = test_kinds[i].kind->id;
        const credstore_kind_count *count = kind_of(stats, id);
        const bool gone = id == CREDSTORE_KIND_CHECKBOOK;

        assert_int_equal(count->struct_size, sizeof *count);
        assert_int_equal(count->records, id == CREDSTORE_KIND_API_KEY ? 8 : gone ? 0 : 1);
        assert_int_equal(count->removed, gone ? 1 : 0);
        assert_int_equal(count->history, gone ? 2 : 1);
    }
    credstore_free(stats);
}

static bool count_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    uint64_t *count = arg;

    (void)key;
    (void)value;
    ++*count;
    return true;
}

static uint64_t count_pairs(credstore *store)
{
    const cs_key from = {1, {0}}, to = {0, {0}};
    uint64_t count = 0;
    const cs_scan scan = {.visit = count_pair, .arg = &count};
    credstore_error err = {0};
    cs_txn txn;

    life_ok(cs_txn_read(store, &txn, &err));
    life_ok(cs_txn_scan(&txn, &from, &to, &scan, &err));
    cs_txn_end(&txn);
    return count;
}

static void what_the_engine_tells(test_world *w)
{
    const credstore_stats *stats;
    char data[2 * TEST_PATH_MAX];
    struct stat st;

    records_of_each_kind(w); /* puts, replacements and deletions */
    stats = stats_of(w, 0);
    if (w->t.engine == TEST_MEMORY) { /* it has no file */
        assert_int_equal(stats->file_bytes + stats->pages + stats->readers_max, 0);
        assert_int_equal(stats->entries, count_pairs(w->t.store));
        credstore_free(stats);
        return;
    }
    snprintf(data, sizeof data, "%s/data.mdb", w->t.path);
    assert_int_equal(stat(data, &st), 0);
    assert_int_equal(stats->file_bytes, st.st_size);
    assert_true(stats->map_bytes >= stats->file_bytes);
    assert_int_equal(stats->page_bytes, 4096);
    assert_true(stats->pages >= stats->file_bytes / stats->page_bytes);
    assert_true(stats->free_pages > 0 && stats->free_pages < stats->pages);
    assert_int_equal(stats->entries, count_pairs(w->t.store));
    assert_true(stats->readers >= 1 && stats->readers <= 4);
    assert_int_equal(stats->readers_max, 512);
    credstore_free(stats);
}

static void refusals(test_world *w)
{
    const credstore_stats *stats = (const credstore_stats *)w;
    credstore_actor member = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "a", "acme");
    const credstore_call call = test_call(&member);
    credstore_storage table = *w->t.store->storage;
    const credstore_storage *real = w->t.store->storage;
    credstore_error err;

    life_fails(CREDSTORE_E_FORBIDDEN, credstore_statistics(w->t.store, &call, 8, &stats, &err));
    assert_null(stats);
    life_fails(CREDSTORE_E_UNSUPPORTED,
               credstore_statistics(w->t.store, &w->call, 8, &stats, &err));
    life_fails(CREDSTORE_E_INVALID, credstore_statistics(w->t.store, &w->call, 0, NULL, &err));
    table.struct_size = offsetof(credstore_storage, backup); /* an engine of before */
    w->t.store->storage = &table;
    stats = stats_of(w, CREDSTORE_STATISTICS_KINDS);
    assert_int_equal(stats->file_bytes, 0);
    assert_true(stats->generation > 0);
    credstore_free(stats);
    w->t.store->storage = real;
}

static void *write_ten(void *arg)
{
    for (int i = 0; i < 10; i++)
        life_issue(arg, 0);
    return NULL;
}

static void groups(test_world *w)
{
    enum { WRITERS = 8 };
    const credstore_stats *before = stats_of(w, 0), *after;
    uint64_t commits = 0, largest = 0;
    pthread_t threads[WRITERS];

    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_ten, w), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    after = stats_of(w, 0);
    assert_int_equal(after->changes - before->changes, 10 * WRITERS);
    assert_int_equal(after->generation - before->generation, after->commits - before->commits);
    for (size_t i = 0; i < LIFE_COUNT(after->groups); i++) {
        commits += after->groups[i];
        largest = after->groups[i] > 0 ? (uint64_t)1 << i : largest;
    }
    assert_int_equal(commits, after->commits);
    assert_true(after->largest >= largest && after->largest < 2 * largest);
    credstore_free(before);
    credstore_free(after);
}

int main(void)
{
    static const test_row rows[] = {
        {"numbers of the store", numbers_of_the_store},
        {"records of each kind", records_of_each_kind},
        {"what the engine tells", what_the_engine_tells},
        {"refusals", refusals},
        {"groups", groups},
    };

    return test_run("statistics", NULL, 0, rows, LIFE_COUNT(rows));
}
