/* SPDX-License-Identifier: MIT
 *
 * Durable updates by 1, 4, 16 and 64 writers, each in its own thread, beside LMDB alone with one
 * transaction each on a copy of the same file. All ways take turns. Ratios and counts are what to
 * look at; the gate on the counts is updates_test.c.
 *
 *   CREDSTORE_BENCH_RECORDS=N  records in the store (20,000)
 *   CREDSTORE_BENCH_MS=N       milliseconds a turn (700)
 *   CREDSTORE_BENCH_ROUNDS=N   turns (3)
 *   TMPDIR                     where the store lies: a disk, not memory
 */
#define _GNU_SOURCE /* pwritev, syscall, O_DSYNC */

#include "updates.h"

#include <sys/vfs.h>

enum { ROUNDS_MAX = 99, MEMORY_FS = 0x01021994, PAGE_UPDATES = 1000 };

typedef struct row {
    way way;
    unsigned writers;
    const char *name;
} row;

static const row rows[] = {
    {GROUPED, 1, "grouped"},
    {GROUPED, 4, "grouped"},
    {GROUPED, 16, "grouped"},
    {GROUPED, 64, "grouped"},
    {SINGLE, 16, "one transaction each"},
    {RAW_PUT, 1, "floor: mdb_put of the record, commit"},
    {RAW_PUT, 16, "floor: mdb_put of the record, commit"},
    {RAW_FLOOR, 1, "floor: with its audit entry"},
    {RAW_FLOOR, 16, "floor: with its audit entry"},
    {RAW_ALL, 16, "floor: all four puts of an update"},
};
enum { ROWS = sizeof rows / sizeof *rows, AT_16 = 2, SINGLE_16 = 4, PUT_16 = 6, FLOOR_16 = 8 };

static int by_rate(const void *a, const void *b)
{
    const cost *x = a, *y = b;
    const double left = (double)x->updates / x->seconds, right = (double)y->updates / y->seconds;

    return (left > right) - (left < right);
}

static double rate(const cost *c)
{
    return (double)c->updates / c->seconds;
}

static void tell_file_system(const char *path)
{
    struct statfs fs;

    must(statfs(path, &fs) == 0, "statfs");
    if (fs.f_type == MEMORY_FS) {
        fprintf(stderr, "durable updates: %s lies in memory (tmpfs): set TMPDIR to a disk\n", path);
        exit(1);
    }
    printf("file system: %s (%#lx)\n", fs.f_type == 0xef53 ? "ext4" : "another",
           (unsigned long)fs.f_type);
}

/* Before there are groups: the many pages that one of them sets free make LMDB's list of free pages
   longer, and with it each commit that follows, whoever makes it. */
static void tell_pages(bench *b)
{
    cost library, floor;

    atomic_store(&no_flush, true);
    floor = run_writers(b, RAW_FLOOR, 1, PAGE_UPDATES, 0);
    library = run_writers(b, GROUPED, 1, PAGE_UPDATES, 0);
    atomic_store(&no_flush, false);
    printf("pages an update, 1 writer: %.2f; floor (a record and its audit entry) %.2f\n",
           library.pages, floor.pages);
}

static void tell(const cost medians[ROWS])
{
    const double at_16 = rate(&medians[AT_16]);

    for (size_t i = 0; i < ROWS; i++)
        printf("  %2u writers, %-38s %7.0f/s  %5.2f flushes, %5.1f pages an update\n",
               rows[i].writers, rows[i].name, rate(&medians[i]), medians[i].flushes,
               medians[i].pages);
    printf("durable updates, 16 writers, grouped / one transaction each: R %.2f x "
           "(LMDB alone, mdb_put and mdb_txn_commit)\n",
           at_16 / rate(&medians[PUT_16]));
    printf("  the same with an audit entry each: %.2f x; the library's own, ungrouped: %.2f x\n",
           at_16 / rate(&medians[FLOOR_16]), at_16 / rate(&medians[SINGLE_16]));
}

int main(void)
{
    const double seconds = (double)test_number("CREDSTORE_BENCH_MS", 700) / 1e3;
    const size_t rounds = test_number("CREDSTORE_BENCH_ROUNDS", 3);
    static cost costs[ROWS][ROUNDS_MAX];
    cost medians[ROWS];
    cs_group_counts counts;
    char folder[TEST_PATH_MAX];
    bench b;

    must(rounds > 0 && rounds <= ROUNDS_MAX, "the environment's numbers");
    test_folder(folder);
    tell_file_system(folder);
    test_folder_remove(folder);
    begin_bench(&b, test_number("CREDSTORE_BENCH_RECORDS", 20000));
    printf("%zu records of %zu bytes\n", b.records, b.value_len[0]);
    tell_pages(&b);
    for (size_t i = 0; i < ROWS; i++)
        (void)run_writers(&b, rows[i].way, rows[i].writers, 0, 0.1);
    for (size_t r = 0; r < rounds; r++)
        for (size_t i = 0; i < ROWS; i++)
            costs[i][r] = run_writers(&b, rows[i].way, rows[i].writers, 0, seconds);
    for (size_t i = 0; i < ROWS; i++) {
        qsort(costs[i], rounds, sizeof costs[i][0], by_rate);
        medians[i] = costs[i][rounds / 2];
    }
    tell(medians);
    cs_group_read(b.store->group, &counts);
    printf("  largest group: %llu\n", (unsigned long long)counts.largest);
    end_bench(&b);
    return 0;
}
