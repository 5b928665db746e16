/* SPDX-License-Identifier: MIT
 *
 * The arena of secrets: its slots, its guards, and where its pages must not get to. Linked with
 * -Wl,--wrap=cs_alloc, through which allocations are counted and failed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "secret.h"

enum { SLOTS = 64 };

static struct {
    atomic_long calls, fail_at;
} heap;

void *__real_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size)
{
    if (atomic_fetch_add(&heap.calls, 1) + 1 == atomic_load(&heap.fail_at))
        return NULL;
    return __real_cs_alloc(count, size);
}

static void heap_reset(long fail_at)
{
    atomic_store(&heap.calls, 0);
    atomic_store(&heap.fail_at, fail_at);
}

static bool all(const uint8_t *ptr, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++)
        if (ptr[i] != byte)
            return false;
    return true;
}

/* Runs body in a child: its exit status, or minus the signal that ended it. */
static int in_child(void (*body)(void *arg), void *arg)
{
    const pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        body(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void expect_in_child(bool condition, int line)
{
    if (condition)
        return;
    fprintf(stderr, "%s:%d: does not hold in the child\n", __FILE__, line);
    _exit(1);
}

/* ---- slots ------------------------------------------------------------------------------------
 */

static void test_a_secret(void **state)
{
    static const size_t lengths[] = {0, 1, 15, 32, 4095, CS_SECRET_MAX};
    cs_arena *arena = cs_arena_new();

    (void)state;
    assert_non_null(arena);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        credstore_secret *secret = cs_secret_new(arena, lengths[i]);
        uint8_t *bytes;

        assert_non_null(secret);
        bytes = cs_secret_bytes(secret);
        assert_int_equal((uintptr_t)bytes % 16, 0);
        assert_int_equal(credstore_secret_len(secret), lengths[i]);
        assert_ptr_equal(credstore_secret_ptr(secret), bytes);
        assert_true(all(bytes, lengths[i] + 1, 0));
        memset(bytes, 'x', lengths[i]);
        assert_int_equal(strlen(credstore_secret_ptr(secret)), lengths[i]);
        credstore_secret_free(secret);
    }
    assert_null(cs_secret_new(arena, CS_SECRET_MAX + 1));
    assert_null(cs_secret_new(arena, SIZE_MAX));
    cs_arena_unref(arena);
}

static void test_nothing(void **state)
{
    (void)state;
    assert_null(credstore_secret_ptr(NULL));
    assert_int_equal(credstore_secret_len(NULL), 0);
    credstore_secret_free(NULL);
    cs_arena_unref(NULL);
}

/* 64 of the arena without allocating, then one in a mapping of its own; a freed one is used again.
 */
static void test_slots(void **state)
{
    cs_arena *arena = cs_arena_new();
    credstore_secret *secrets[SLOTS], *beyond, *again;

    (void)state;
    heap_reset(0);
    for (size_t i = 0; i < SLOTS; i++) {
        secrets[i] = cs_secret_new(arena, CS_SECRET_MAX);
        assert_non_null(secrets[i]);
        memset(cs_secret_bytes(secrets[i]), (int)i, CS_SECRET_MAX);
    }
    assert_int_equal(atomic_load(&heap.calls), 0);
    beyond = cs_secret_new(arena, CS_SECRET_MAX);
    assert_non_null(beyond);
    assert_int_equal(atomic_load(&heap.calls), 1);
    assert_true(all(cs_secret_bytes(beyond), CS_SECRET_MAX + 1, 0));
    memset(cs_secret_bytes(beyond), 0xff, CS_SECRET_MAX);
    for (size_t i = 0; i < SLOTS; i++)
        assert_true(all(cs_secret_bytes(secrets[i]), CS_SECRET_MAX, (uint8_t)i));

    credstore_secret_free(secrets[17]);
    again = cs_secret_new(arena, 1);
    assert_ptr_equal(again, secrets[17]);
    secrets[17] = again;
    for (size_t i = 0; i < SLOTS; i++)
        credstore_secret_free(secrets[i]);
    assert_true(all(cs_secret_bytes(beyond), CS_SECRET_MAX, 0xff));
    credstore_secret_free(beyond);
    cs_arena_unref(arena);
}

static void test_without_an_arena(void **state)
{
    credstore_secret *a = cs_secret_new(NULL, 32), *b = cs_secret_new(NULL, 32);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    memset(cs_secret_bytes(a), 1, 32);
    assert_true(all(cs_secret_bytes(b), 33, 0));
    credstore_secret_free(a);
    memset(cs_secret_bytes(b), 2, 32);
    credstore_secret_free(b);
}

/* A secret handed out stays valid when the store that it came from is closed. */
static void test_secret_holds_the_arena(void **state)
{
    cs_arena *arena = cs_arena_new();
    credstore_secret *secret = cs_secret_new(arena, 5);

    (void)state;
    memcpy(cs_secret_bytes(secret), "hello", 5);
    cs_arena_unref(arena);
    assert_string_equal(credstore_secret_ptr(secret), "hello");
    credstore_secret_free(secret);
}

/* ---- wiping -----------------------------------------------------------------------------------
 */

static void test_wiped_on_free(void **state)
{
    cs_arena *arena = cs_arena_new();
    credstore_secret *secret = cs_secret_new(arena, CS_SECRET_MAX);
    uint8_t *bytes = cs_secret_bytes(secret);

    (void)state;
    cs_arena_ref(arena); /* twice held: the slot can be looked at when it is free */
    memset(bytes, 0xa5, CS_SECRET_MAX);
    credstore_secret_free(secret);
    assert_true(all(bytes, CS_SECRET_MAX + 1, 0));
    cs_arena_unref(arena);
    assert_true(all(bytes, CS_SECRET_MAX + 1, 0));
    cs_arena_unref(arena);
}

/* ---- the mapping ------------------------------------------------------------------------------
 */

typedef struct mapping {
    uintptr_t start, end;
    char flags[512]; /* VmFlags: " rd wr ... " */
    long locked_kb;
    bool guarded_below, guarded_above; /* the neighbours touch it and have no access at all */
} mapping;

/* What the kernel says of the mapping around ptr. */
static mapping look_up(const void *ptr)
{
    const uintptr_t at = (uintptr_t)ptr;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    uintptr_t from, to, start = 0, end = 0, guard_end = 0;
    mapping found = {0};
    char line[512], access[5];

    assert_non_null(smaps);
    while (fgets(line, sizeof line, smaps) != NULL) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, access) == 3) {
            const bool no_access = strcmp(access, "---p") == 0;

            start = from;
            end = to;
            if (start <= at && at < end) {
                found.start = start;
                found.end = end;
                found.guarded_below = guard_end == start;
            }
            found.guarded_above = found.guarded_above || (no_access && start == found.end);
            guard_end = no_access ? end : 0;
        } else if (start <= at && at < end && strncmp(line, "VmFlags:", 8) == 0) {
            (void)snprintf(found.flags, sizeof found.flags, "%s", line + 8);
        } else if (start <= at && at < end) {
            (void)sscanf(line, "Locked: %ld kB", &found.locked_kb);
        }
    }
    (void)fclose(smaps);
    assert_int_not_equal(found.start, 0);
    return found;
}

static void check_mapping(const void *ptr)
{
    const mapping map = look_up(ptr);

    assert_true(map.guarded_below);
    assert_true(map.guarded_above);
    assert_non_null(strstr(map.flags, " dd ")); /* not in core dumps */
    assert_non_null(strstr(map.flags, " wf ")); /* zero in forked children */
}

static void test_mapping(void **state)
{
    cs_arena *arena = cs_arena_new();
    credstore_secret *secret = cs_secret_new(arena, 8), *single = cs_secret_new(NULL, 8);

    (void)state;
    check_mapping(cs_secret_bytes(secret));
    check_mapping(cs_secret_bytes(single));
    credstore_secret_free(single);
    credstore_secret_free(secret);
    cs_arena_unref(arena);
}

/* Whether this process may lock at all: sanitizers make mlock do nothing, a limit may forbid it. */
static bool locking_works(void)
{
    static uint8_t page[2 * 4096];

    return mlock(page, sizeof page) == 0 && strstr(look_up(page + 4096).flags, " lo ") != NULL;
}

static void test_locked(void **state)
{
    cs_arena *arena = cs_arena_new();
    credstore_secret *secret = cs_secret_new(arena, 8);
    const mapping map = look_up(cs_secret_bytes(secret));
    const bool works = locking_works();

    (void)state;
    credstore_secret_free(secret);
    cs_arena_unref(arena);
    if (!works) {
        print_message("skipped: memory cannot be locked here\n");
        skip();
    }
    assert_non_null(strstr(map.flags, " lo "));
    assert_int_equal((uintptr_t)map.locked_kb * 1024, map.end - map.start);
}

static void read_byte(void *at)
{
    (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would exit instead */
    (void)*(const volatile uint8_t *)at;
}

static void write_byte(void *at)
{
    (void)signal(SIGSEGV, SIG_DFL);
    *(volatile uint8_t *)at = 1;
}

static void test_guards(void **state)
{
    cs_arena *arena = cs_arena_new();
    credstore_secret *secret = cs_secret_new(arena, 8);
    uint8_t *bytes = cs_secret_bytes(secret);
    const mapping map = look_up(bytes);
    uint8_t *first = bytes - ((uintptr_t)bytes - map.start);
    uint8_t *last = first + (map.end - map.start) - 1;

    (void)state;
    assert_int_equal(in_child(read_byte, first), 0);
    assert_int_equal(in_child(write_byte, last), 0);
    assert_int_equal(in_child(read_byte, first - 1), -SIGSEGV);
    assert_int_equal(in_child(write_byte, first - 1), -SIGSEGV);
    assert_int_equal(in_child(read_byte, last + 1), -SIGSEGV);
    assert_int_equal(in_child(write_byte, last + 1), -SIGSEGV);
    credstore_secret_free(secret);
    cs_arena_unref(arena);
}

/* ---- children ---------------------------------------------------------------------------------
 */

typedef struct held {
    cs_arena *arena;
    credstore_secret *secret, *single;
} held;

static void use_in_child(void *arg)
{
    const held *h = arg;
    credstore_secret *fresh;

    expect_in_child(all(cs_secret_bytes(h->secret), 33, 0), __LINE__);
    expect_in_child(all(cs_secret_bytes(h->single), 33, 0), __LINE__);
    credstore_secret_free(h->single);
    fresh = cs_secret_new(h->arena, 4);
    expect_in_child(fresh != NULL && fresh != h->secret, __LINE__);
    memcpy(cs_secret_bytes(fresh), "abcd", 4);
    expect_in_child(strcmp(credstore_secret_ptr(fresh), "abcd") == 0, __LINE__);
    credstore_secret_free(fresh);
    cs_arena_unref(h->arena); /* which the secret still holds */
    expect_in_child(all(cs_secret_bytes(h->secret), 33, 0), __LINE__);
    credstore_secret_free(h->secret);
}

static void test_fork(void **state)
{
    held h = {.arena = cs_arena_new()};

    (void)state;
    h.secret = cs_secret_new(h.arena, 32);
    h.single = cs_secret_new(NULL, 32);
    memset(cs_secret_bytes(h.secret), 0x5a, 32);
    memset(cs_secret_bytes(h.single), 0x5a, 32);
    assert_int_equal(in_child(use_in_child, &h), 0);
    assert_true(all(cs_secret_bytes(h.secret), 32, 0x5a));
    assert_true(all(cs_secret_bytes(h.single), 32, 0x5a));
    credstore_secret_free(h.single);
    credstore_secret_free(h.secret);
    cs_arena_unref(h.arena);
}

/* ---- limits -----------------------------------------------------------------------------------
 */

static void unlockable(void *unused)
{
    const struct rlimit none = {0, 0};
    cs_arena *arena;
    credstore_secret *secret;

    (void)unused;
    expect_in_child(setrlimit(RLIMIT_MEMLOCK, &none) == 0, __LINE__);
    if (geteuid() == 0) /* root may lock beyond the limit */
        expect_in_child(setuid(65534) == 0, __LINE__);
    arena = cs_arena_new();
    expect_in_child(arena != NULL, __LINE__);
    secret = cs_secret_new(arena, 3);
    expect_in_child(secret != NULL, __LINE__);
    memcpy(cs_secret_bytes(secret), "abc", 3);
    expect_in_child(strcmp(credstore_secret_ptr(secret), "abc") == 0, __LINE__);
    credstore_secret_free(secret);
    cs_arena_unref(arena);
}

static void test_no_locked_memory_allowed(void **state)
{
    (void)state;
    assert_int_equal(in_child(unlockable, NULL), 0);
}

static void no_address_space(void *unused)
{
    const struct rlimit little = {4096, 4096};

    (void)unused;
    expect_in_child(setrlimit(RLIMIT_AS, &little) == 0, __LINE__);
    expect_in_child(cs_arena_new() == NULL, __LINE__);
    expect_in_child(cs_secret_new(NULL, 1) == NULL, __LINE__);
}

static void test_no_memory(void **state)
{
    (void)state;
    heap_reset(1);
    assert_null(cs_arena_new());
    heap_reset(1);
    assert_null(cs_secret_new(NULL, 1));
    heap_reset(0);
    assert_int_equal(in_child(no_address_space, NULL), 0);
}

/* ---- threads ----------------------------------------------------------------------------------
 */

enum { THREADS = 8, TURNS = 2000, HELD = 10 /* 80 in all: more than there are slots */ };

typedef struct worker {
    cs_arena *arena;
    uint64_t seed;
    uint8_t mark;
    unsigned wrong;
} worker;

static uint64_t seed;

static uint64_t next(uint64_t *from)
{
    *from ^= *from << 13;
    *from ^= *from >> 7;
    *from ^= *from << 17;
    return *from;
}

static void *work(void *arg)
{
    worker *w = arg;
    credstore_secret *mine[HELD] = {NULL};

    for (size_t turn = 0; turn < TURNS; turn++) {
        const uint64_t random = next(&w->seed);
        const size_t at = random % HELD, len = 1 + (random >> 32) % 100;

        if (mine[at] != NULL) {
            w->wrong += !all(cs_secret_bytes(mine[at]), credstore_secret_len(mine[at]), w->mark);
            credstore_secret_free(mine[at]);
        }
        mine[at] = cs_secret_new(w->arena, len);
        if (mine[at] == NULL || !all(cs_secret_bytes(mine[at]), len + 1, 0)) {
            w->wrong++;
            break;
        }
        memset(cs_secret_bytes(mine[at]), w->mark, len);
    }
    for (size_t i = 0; i < HELD; i++)
        credstore_secret_free(mine[i]);
    cs_arena_unref(w->arena);
    return NULL;
}

static void test_threads(void **state)
{
    cs_arena *arena = cs_arena_new();
    pthread_t threads[THREADS];
    worker workers[THREADS];

    (void)state;
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){arena, seed + i + 1, (uint8_t)(i + 1), 0};
        cs_arena_ref(arena);
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    cs_arena_unref(arena); /* the last thread to end takes it along */
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
    }
}

static void choose_seed(void)
{
    const char *given = getenv("CREDSTORE_SEED");

    seed = given == NULL ? (uint64_t)time(NULL) : strtoull(given, NULL, 0);
    printf("CREDSTORE_SEED=%" PRIu64 "\n", seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_secret),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_without_an_arena),
        cmocka_unit_test(test_secret_holds_the_arena),
        cmocka_unit_test(test_wiped_on_free),
        cmocka_unit_test(test_mapping),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_guards),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_no_locked_memory_allowed),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_threads),
    };

    choose_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
