/* SPDX-License-Identifier: MIT
 *
 * The gate of the durable updates, on counts alone: what LMDB asks the kernel for. The disk is made
 * slow, so that the writers meet as they would on one; how fast anything is, is not looked at.
 */
#define _GNU_SOURCE /* pwritev, syscall, O_DSYNC */

#include "updates.h"

enum { RECORDS = 2000, UPDATES = 400 };

static bench the_bench;

static int begin(void **state)
{
    begin_bench(&the_bench, test_number("CREDSTORE_BENCH_RECORDS", RECORDS));
    *state = &the_bench;
    return 0;
}

static int end(void **state)
{
    end_bench(*state);
    return 0;
}

static void test_flushes(void **state)
{
    cost alone, single, many;

    atomic_store(&no_flush, true);
    atomic_store(&flush_add_us, 2000);
    alone = run_writers(*state, GROUPED, 1, UPDATES / 8, 0);
    single = run_writers(*state, SINGLE, 16, UPDATES / 8, 0);
    many = run_writers(*state, GROUPED, 16, UPDATES, 0);
    atomic_store(&flush_add_us, 0);
    printf("flushes an update: %.2f by one writer, %.2f by 16 with a transaction each, %.2f by 16 "
           "grouped\n",
           alone.flushes, single.flushes, many.flushes);
    assert_true(alone.flushes == 2); /* the pages, then the meta page */
    assert_true(single.flushes == 2);
    assert_true(many.flushes * 3.5 <= single.flushes);
}

/* The floor is the record and its audit entry. */
static void test_pages(void **state)
{
    cost library, floor;

    atomic_store(&no_flush, true);
    floor = run_writers(*state, RAW_FLOOR, 1, UPDATES, 0);
    library = run_writers(*state, GROUPED, 1, UPDATES, 0);
    printf("pages an update by one writer: %.2f, floor %.2f\n", library.pages, floor.pages);
    assert_true(floor.pages >= 4);
    assert_true(library.pages <= floor.pages + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flushes),
        cmocka_unit_test(test_pages),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
