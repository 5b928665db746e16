/* SPDX-License-Identifier: MIT
 *
 * Idempotency keys under a crowd: four processes of two threads each send every key, so that each
 * is sent four times; one process is killed on the way and begun again. Each key is one record, and
 * every answer to it is the same.
 */
#define _GNU_SOURCE /* mkdtemp, MAP_ANONYMOUS */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <credstore.h>

#include "../quick.h"

enum { PROCESSES = 4, THREADS = 2, KEYS = 10000, FEWER = 600, PATH_LEN = 256 };

/* What all processes see: the first answer to each key, and whether any other differed. */
typedef struct shared {
    uint64_t keys;
    char folder[PATH_LEN];
    atomic_uint_least64_t sent, differ, failed;
    atomic_uint_least64_t answer[KEYS];
} shared;

typedef struct sender {
    shared *s;
    credstore *store;
    uint64_t first;
} sender;

static const char root_key[] = "0123456789abcdef0123456789abcdef";

static credstore *open_store(const char *folder)
{
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    if (credstore_key_bytes(root_key, 32, &key, &err) != CREDSTORE_OK)
        return NULL;
    const credstore_options options = {
        .struct_size = sizeof options, .flags = CREDSTORE_OPEN_CREATE, .key = key};
    if (credstore_open(folder, &options, &store, &err) != CREDSTORE_OK)
        printf("open: %s\n", err.message);
    credstore_key_source_free(key);
    return store;
}

static credstore_actor admin_actor(void)
{
    credstore_actor actor = {
        .struct_size = sizeof actor, .type = CREDSTORE_ACTOR_USER, .roles = CREDSTORE_ROLE_ADMIN};

    snprintf(actor.id, sizeof actor.id, "ada");
    snprintf(actor.tenant, sizeof actor.tenant, "acme");
    return actor;
}

/* FNV-1a over id and token; never 0. */
static uint64_t hash_of(const char *id, const char *token)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (const char *p = id; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    for (const char *p = token; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * UINT64_C(1099511628211);
    return hash | 1;
}

static void note(shared *s, uint64_t n, uint64_t hash)
{
    uint64_t none = 0;

    atomic_fetch_add(&s->sent, 1);
    if (!atomic_compare_exchange_strong(&s->answer[n], &none, hash) && none != hash)
        atomic_fetch_add(&s->differ, 1);
}

static void send_key(const sender *t, const credstore_actor *actor, uint64_t n)
{
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("crowd"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    char name[32];
    const credstore_call call = {
        .struct_size = sizeof call, .actor = actor, .wait_ms = 120000, .idempotency_key = name};
    credstore_secret *token = NULL;
    const credstore_api_key *view = NULL;
    credstore_error err;

    snprintf(name, sizeof name, "key-%llu", (unsigned long long)n);
    if (credstore_api_key_issue(t->store, &call, NULL, &patch, &token, &view, &err) ==
        CREDSTORE_OK) {
        note(t->s, n, hash_of(view->id, credstore_secret_ptr(token)));
    } else {
        printf("%s: %s\n", credstore_status_name(err.status), err.message);
        atomic_fetch_add(&t->s->failed, 1);
    }
    credstore_free(view);
    credstore_secret_free(token);
}

static void *send_half(void *arg)
{
    const sender *t = arg;
    const credstore_actor actor = admin_actor();

    for (uint64_t n = t->first; n < t->s->keys; n += THREADS)
        send_key(t, &actor, n);
    return NULL;
}

/* A process of its own: each key once, its threads half of them each. */
static pid_t begin_process(shared *s)
{
    const pid_t pid = fork();
    pthread_t threads[THREADS];
    sender senders[THREADS];
    credstore *store;

    if (pid != 0)
        return pid;
    store = open_store(s->folder);
    if (store == NULL)
        _exit(2);
    for (uint64_t i = 0; i < THREADS; i++) {
        senders[i] = (sender){s, store, i};
        if (pthread_create(&threads[i], NULL, send_half, &senders[i]) != 0)
            _exit(3);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    credstore_close(store);
    _exit(0);
}

static void pause_ms(long ms)
{
    const struct timespec nap = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&nap, NULL);
}

static uint64_t count_records(const char *folder)
{
    const credstore_actor actor = admin_actor();
    const credstore_call call = {.struct_size = sizeof call, .actor = &actor};
    credstore *store = open_store(folder);
    const credstore_api_key_page *page = NULL;
    credstore_page where = {.struct_size = sizeof where, .limit = 100};
    char cursor[512];
    uint64_t count = 0;
    uint32_t more = 1;
    credstore_error err;

    assert_non_null(store);
    while (more) {
        assert_int_equal(CREDSTORE_OK, credstore_api_key_list(store, &call, &where, &page, &err));
        count += page->count;
        more = page->has_next_page;
        if (more)
            snprintf(cursor, sizeof cursor, "%s", page->end_cursor);
        where.after = cursor;
        credstore_free(page);
    }
    credstore_close(store);
    return count;
}

static uint64_t number_of_keys(void)
{
    const char *variant = getenv("CREDSTORE_VARIANT");
    const char *given = getenv("CREDSTORE_KEYS");
    uint64_t keys = variant == NULL || strcmp(variant, "plain") == 0 ? KEYS : FEWER;

    if (given != NULL)
        keys = strtoull(given, NULL, 10);
    return keys < 1 || keys > KEYS ? KEYS : keys;
}

static void make_folder(char out[PATH_LEN])
{
    /* What counts here is the crowd, not the disk. */
    snprintf(out, PATH_LEN, "%s/credstore-receipts-XXXXXX", test_quick_base());
    assert_non_null(mkdtemp(out));
}

static void remove_folder(const char *folder)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "guard.lock", "presence.lock"};
    char path[PATH_LEN + 16];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void one_record_a_key(void **state)
{
    shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[PROCESSES];
    int how = 0;

    (void)state;
    assert_true(s != MAP_FAILED);
    s->keys = number_of_keys();
    make_folder(s->folder);
    for (int i = 0; i < PROCESSES; i++)
        pids[i] = begin_process(s);
    while (atomic_load(&s->sent) < s->keys) /* a quarter of the way */
        pause_ms(1);
    kill(pids[0], SIGKILL);
    waitpid(pids[0], &how, 0);
    assert_true(WIFSIGNALED(how));
    pids[0] = begin_process(s);
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(pids[i], waitpid(pids[i], &how, 0));
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    printf("%llu keys, %llu answers, %llu differed, %llu failed\n", (unsigned long long)s->keys,
           (unsigned long long)atomic_load(&s->sent), (unsigned long long)atomic_load(&s->differ),
           (unsigned long long)atomic_load(&s->failed));
    assert_int_equal(0, atomic_load(&s->differ));
    assert_int_equal(0, atomic_load(&s->failed));
    assert_true(atomic_load(&s->sent) >= PROCESSES * s->keys);
    assert_int_equal(s->keys, count_records(s->folder));
    remove_folder(s->folder);
    munmap(s, sizeof *s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_record_a_key)};

    return cmocka_run_group_tests_name("receipts", tests, NULL, NULL);
}
