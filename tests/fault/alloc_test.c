/* SPDX-License-Identifier: MIT
 *
 * Each exported function, with each of its allocations failing in turn: alone, and with all that
 * come after it. On both engines: no crash, nothing leaked (blocks, mappings, descriptors, files
 * half made), an error that says what it is, the store's bytes as they were; and the same call
 * succeeds as soon as there is memory. Where the libraries below hide a failure and the call
 * succeeds, its effect must be whole.
 *
 * The list of functions is read from lib/libcredstore.map (or CREDSTORE_MAP): one without a case
 * fails the test.
 *
 * The program brings the process's allocator, so that libcrypto, LMDB, cJSON and libc fail as well.
 * Sanitizers and valgrind have one of their own: there only the library's own allocations fail.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS, syscall */

#include "../support.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "load.h"
#include "mem.h"
#include "txn.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_ALLOCATOR 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_ALLOCATOR 0
#endif
#ifndef OWN_ALLOCATOR
#define OWN_ALLOCATOR 1
#endif

/* ---- the gate ---- */

enum { NEVER = -1 };

typedef struct gate {
    bool armed, and_all_after;
    long seen, fail_at; /* since it was armed */
    bool hit;
} gate;

static gate the_gate;
static atomic_long live; /* blocks and mappings */
static bool whole;       /* all allocations of the process come by here */

/* True if this allocation is to fail. */
static bool fails(void)
{
    const long n = the_gate.seen;

    if (!the_gate.armed)
        return false;
    the_gate.seen++;
    if (the_gate.fail_at == NEVER || n < the_gate.fail_at ||
        (n > the_gate.fail_at && !the_gate.and_all_after))
        return false;
    the_gate.hit = true;
    errno = ENOMEM;
    return true;
}

static void arm(long fail_at, bool and_all_after)
{
    the_gate = (gate){.armed = true, .and_all_after = and_all_after, .fail_at = fail_at};
}

static void disarm(void)
{
    the_gate.armed = false;
}

/* ---- allocators ---- */

#if OWN_ALLOCATOR
#pragma GCC visibility push(default)
/* glibc's own, under the names that it keeps for those who replace it. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *ptr);

static void *counted(void *ptr)
{
    if (ptr != NULL)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return ptr;
}

void *malloc(size_t size)
{
    return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *ptr, size_t size)
{
    void *moved;

    if (fails())
        return NULL;
    moved = __libc_realloc(ptr, size);
    if (ptr == NULL)
        counted(moved);
    else if (moved == NULL && size == 0)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    return moved;
}

void *memalign(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *ptr = memalign(alignment, size);

    if (ptr == NULL)
        return ENOMEM;
    *out = ptr;
    return 0;
}

void free(void *ptr)
{
    const int before = errno;

    if (ptr != NULL)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    __libc_free(ptr);
    errno = before;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    void *map;

    if (fails())
        return MAP_FAILED;
    map = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset); /* answers as mmap does */
    if (map != MAP_FAILED)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return map;
}

int munmap(void *addr, size_t len)
{
    const int rc = (int)syscall(SYS_munmap, addr, len);

    if (rc == 0)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    return rc;
}
#pragma GCC visibility pop
#endif

/* The library's own two, for where the above is not there or is passed by. */
void *__real_calloc(size_t count, size_t size);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);

/* scrypt allocates as often at any cost: here it is the least, or most of the time would go there.
 */
OSSL_PARAM __real_OSSL_PARAM_construct_uint64(const char *key, uint64_t *value);
OSSL_PARAM __wrap_OSSL_PARAM_construct_uint64(const char *key, uint64_t *value);

OSSL_PARAM __wrap_OSSL_PARAM_construct_uint64(const char *key, uint64_t *value)
{
    if (strcmp(key, OSSL_KDF_PARAM_SCRYPT_N) == 0)
        *value = 2;
    return __real_OSSL_PARAM_construct_uint64(key, value);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return !whole && fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    return !whole && fails() ? MAP_FAILED : __real_mmap(addr, len, prot, flags, fd, offset);
}

/* ---- one function under trial ---- */

typedef struct trial {
    test_store t;
    const test_kind *k;
    credstore_actor actor;
    credstore_call call;
    test_at at;
    credstore_checkpoint checkpoint;
    unsigned n; /* of the values: each try writes others */
    test_patch patch;
    union {
        uint64_t align;
        uint8_t bytes[CS_ORIGIN_MAX];
    } origin;
    char text[256], once[32], id[40], path[TEST_PATH_MAX + 32], key_path[TEST_PATH_MAX + 32];
    credstore_request request;
    char *body;
    credstore_error err;
    /* what the call handed out */
    const void *view;
    credstore_secret *secret;
    const credstore_answer *answer;
    credstore_key_source *key;
    credstore *store;
} trial;

typedef credstore_status step(trial *x);

typedef struct row {
    const char *function, *what; /* what: of several rows of a function */
    step *before, *run, *after;  /* the gate is armed for run alone; before and after may be NULL */
    uint32_t kind, verb;
    credstore_status expected;
    const char *body; /* of the door, instead of a good one */
} row;

static const row *current; /* for the steps */

/* ---- typed calls ---- */

static credstore_status new_values(trial *x)
{
    x->n++;
    test_patch_whole(x->k, &x->patch, x->n);
    return CREDSTORE_OK;
}

static credstore_status new_record(trial *x)
{
    const cs_kind *kind = x->k->kind;
    const uint32_t size = kind->origin.size;
    const int64_t used = TEST_NOW - 1;

    new_values(x);
    memset(x->origin.bytes, 0, sizeof x->origin.bytes);
    memcpy(x->origin.bytes, &size, sizeof size);
    if (kind->origin.last_used_at != 0)
        memcpy(x->origin.bytes + kind->origin.last_used_at, &used, sizeof used);
    snprintf(x->id, sizeof x->id, "00000000-0000-4000-8000-%012u", x->n);
    if (x->k->kind->id == CREDSTORE_KIND_STRIPE)
        x->at.id = x->id; /* the others make their own */
    return CREDSTORE_OK;
}

static credstore_status run_create(trial *x)
{
    return x->k->create(x->t.store, &x->call, &x->at, x->origin.bytes, x->patch.u.bytes, &x->view,
                        &x->err);
}

static credstore_status run_update(trial *x)
{
    return x->k->update(x->t.store, &x->call, &x->at, x->patch.u.bytes, &x->view, &x->err);
}

static credstore_status run_get(trial *x)
{
    return x->k->get(x->t.store, &x->call, &x->at, &x->view, &x->err);
}

static credstore_status run_reveal(trial *x)
{
    return x->k->reveal(x->t.store, &x->call, &x->at,
                        x->k->kind->id == CREDSTORE_KIND_CHECKBOOK
                            ? CREDSTORE_CHECKBOOK_SECRET_KEY
                            : CREDSTORE_STRIPE_LIVE_SECRET_KEY,
                        &x->secret, &x->err);
}

static credstore_status old_revision(trial *x)
{
    x->call.at_revision = 1;
    return CREDSTORE_OK;
}

static credstore_status expanded(trial *x)
{
    x->call.flags = CREDSTORE_CALL_EXPAND_PERMISSIONS;
    return CREDSTORE_OK;
}

/* What was answered is what is there. */
static credstore_status compare_view(trial *x)
{
    test_at at = x->at;
    const void *there = NULL;

    if (x->view == NULL)
        return CREDSTORE_OK;
    memcpy(&at.id, (const uint8_t *)x->view + x->k->kind->view.id, sizeof at.id);
    if (x->k->kind->id == CREDSTORE_KIND_STRIPE)
        at.id = x->at.id;
    x->call.at_revision = current->before == old_revision ? 1 : 0;
    assert_int_equal(x->k->get(x->t.store, &x->call, &at, &there, &x->err), CREDSTORE_OK);
    assert_true(test_same_view(x->k, x->view, there, true));
    credstore_free(there);
    return CREDSTORE_OK;
}

static credstore_status compare_secret(trial *x)
{
    static const char *const values[] = {"secret_key value 1", "secret_key value 2", "sk_live_"};
    const size_t which = x->k->kind->id == CREDSTORE_KIND_STRIPE ? 2
                         : current->before == old_revision       ? 0
                                                                 : 1;

    if (x->secret != NULL)
        assert_memory_equal(credstore_secret_ptr(x->secret), values[which], strlen(values[which]));
    return CREDSTORE_OK;
}

/* ---- verbs that each kind has under its own type ---- */

#define LISTS(kind, ...)                                                                           \
    static credstore_status kind##_list(trial *x)                                                  \
    {                                                                                              \
        const credstore_##kind##_page *page = NULL;                                                \
        const credstore_status status =                                                            \
            credstore_##kind##_list(__VA_ARGS__, NULL, &page, &x->err);                            \
                                                                                                   \
        x->view = page;                                                                            \
        return status;                                                                             \
    }
#define CHANGES(kind, ...)                                                                         \
    static credstore_status kind##_history(trial *x)                                               \
    {                                                                                              \
        const credstore_##kind##_page *page = NULL;                                                \
        const credstore_status status =                                                            \
            credstore_##kind##_history(__VA_ARGS__, 0, 5, &page, &x->err);                         \
                                                                                                   \
        x->view = page;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_remove(trial *x)                                                \
    {                                                                                              \
        return credstore_##kind##_remove(__VA_ARGS__, &x->err);                                    \
    }                                                                                              \
    static credstore_status kind##_restore(trial *x)                                               \
    {                                                                                              \
        const credstore_##kind *view = NULL;                                                       \
        const credstore_status status =                                                            \
            credstore_##kind##_restore(__VA_ARGS__, 1, &view, &x->err);                            \
                                                                                                   \
        x->view = view;                                                                            \
        return status;                                                                             \
    }
#define ROLLS_SECRET(kind, field)                                                                  \
    static credstore_status kind##_roll(trial *x)                                                  \
    {                                                                                              \
        const credstore_secret_text fresh = CREDSTORE_SECRET(x->text, CREDSTORE_NTS);              \
        const credstore_##kind *view = NULL;                                                       \
        const credstore_status status = credstore_##kind##_roll(                                   \
            x->t.store, &x->call, x->at.id, field, &fresh, 60, &view, &x->err);                    \
                                                                                                   \
        x->view = view;                                                                            \
        return status;                                                                             \
    }
#define ISSUES(kind, ...)                                                                          \
    static credstore_status kind##_issue(trial *x)                                                 \
    {                                                                                              \
        const credstore_##kind *view = NULL;                                                       \
        const credstore_status status = credstore_##kind##_issue(                                  \
            __VA_ARGS__, NULL, (const void *)x->patch.u.bytes, &x->secret, &view, &x->err);        \
                                                                                                   \
        x->view = view;                                                                            \
        return status;                                                                             \
    }                                                                                              \
    static credstore_status kind##_verify(trial *x)                                                \
    {                                                                                              \
        credstore_actor actor;                                                                     \
                                                                                                   \
        return credstore_##kind##_verify(x->t.store, x->text, CREDSTORE_NTS, &actor, &x->err);     \
    }
#define ROLLS_TOKEN(kind, ...)                                                                     \
    static credstore_status kind##_roll(trial *x)                                                  \
    {                                                                                              \
        const credstore_##kind *view = NULL;                                                       \
        const credstore_status status =                                                            \
            credstore_##kind##_roll(__VA_ARGS__, 60, &x->secret, &view, &x->err);                  \
                                                                                                   \
        x->view = view;                                                                            \
        return status;                                                                             \
    }
#define STORE_AND_CALL x->t.store, &x->call
#define WITH_ID        STORE_AND_CALL, x->at.id
#define WITH_ACCOUNT   STORE_AND_CALL, x->at.tenant, x->at.parent
#define WITH_PATH      WITH_ACCOUNT, x->at.id

LISTS(checkbook, STORE_AND_CALL)
LISTS(stripe, STORE_AND_CALL)
LISTS(service_credential, WITH_ACCOUNT)
LISTS(api_key, STORE_AND_CALL)
CHANGES(checkbook, WITH_ID)
CHANGES(stripe, WITH_ID)
CHANGES(service_credential, WITH_PATH)
CHANGES(api_key, WITH_ID)
ROLLS_SECRET(checkbook, CREDSTORE_CHECKBOOK_SECRET_KEY)
ROLLS_SECRET(stripe, CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET)
ISSUES(service_credential, WITH_ACCOUNT)
ISSUES(api_key, STORE_AND_CALL)
ROLLS_TOKEN(service_credential, WITH_PATH)
ROLLS_TOKEN(api_key, WITH_ID)

/* The record at x->at is a fresh one, for what can be done but once. */
static credstore_status own_record(trial *x)
{
    const char *id;

    new_record(x);
    assert_int_equal(run_create(x), CREDSTORE_OK);
    memcpy(&id, (const uint8_t *)x->view + x->k->kind->view.id, sizeof id);
    if (x->k->kind->id != CREDSTORE_KIND_STRIPE)
        snprintf(x->id, sizeof x->id, "%s", id);
    x->at.id = x->id;
    credstore_free(x->view);
    x->view = NULL;
    return CREDSTORE_OK;
}

static credstore_status own_record_changed(trial *x)
{
    own_record(x);
    new_values(x);
    assert_int_equal(run_update(x), CREDSTORE_OK);
    credstore_free(x->view);
    x->view = NULL;
    return CREDSTORE_OK;
}

static credstore_status new_secret(trial *x)
{
    snprintf(x->text, sizeof x->text, "whsec_%020u", x->n++);
    return CREDSTORE_OK;
}

/* Under an idempotency key of its own, so that a receipt is left as well. */
static credstore_status new_issue(trial *x)
{
    new_values(x);
    snprintf(x->once, sizeof x->once, "once-%u", x->n);
    x->call.idempotency_key = x->once;
    return CREDSTORE_OK;
}

static credstore_status once(trial *x)
{
    snprintf(x->once, sizeof x->once, "once-%u", x->n++);
    x->call.idempotency_key = x->once;
    return CREDSTORE_OK;
}

/* However far the clock has been moved. */
static void never_expires(trial *x)
{
    const credstore_time keep = {0, CREDSTORE_KEEP, 0};

    if (x->k->kind->id == CREDSTORE_KIND_API_KEY)
        memcpy(x->patch.u.bytes + offsetof(credstore_api_key_patch, expires_at), &keep,
               sizeof keep);
}

static credstore_status new_token(trial *x)
{
    new_values(x);
    never_expires(x);
    assert_int_equal(x->k->kind->id == CREDSTORE_KIND_API_KEY ? api_key_issue(x)
                                                              : service_credential_issue(x),
                     CREDSTORE_OK);
    snprintf(x->text, sizeof x->text, "%s", credstore_secret_ptr(x->secret));
    credstore_secret_free(x->secret);
    x->secret = NULL;
    credstore_free(x->view);
    x->view = NULL;
    return CREDSTORE_OK;
}

static credstore_status deactivate(trial *x)
{
    const credstore_stripe *view = NULL;
    const credstore_status status =
        credstore_stripe_deactivate(x->t.store, &x->call, x->at.id, &view, &x->err);

    x->view = view;
    return status;
}

static credstore_status reactivate(trial *x)
{
    const credstore_stripe *view = NULL;
    const credstore_status status =
        credstore_stripe_reactivate(x->t.store, &x->call, x->at.id, &view, &x->err);

    x->view = view;
    return status;
}

static credstore_status make_active(trial *x)
{
    const credstore_status status = reactivate(x);

    credstore_free(x->view);
    x->view = NULL;
    return status;
}

static credstore_status make_inactive(trial *x)
{
    const credstore_status status = deactivate(x);

    credstore_free(x->view);
    x->view = NULL;
    return status;
}

/* A signature that does not fit: the secrets are opened all the same. */
static credstore_status webhook_verify(trial *x)
{
    char text[96];
    credstore_slice header, body = test_slice("{}");

    snprintf(text, sizeof text, "t=%lld,v1=%064d", (long long)(TEST_NOW / 1000), 0);
    header = test_slice(text);
    return credstore_stripe_webhook_verify(x->t.store, &x->call, x->at.id,
                                           CREDSTORE_STRIPE_LIVE_WEBHOOK_SECRET, &header, &body, 0,
                                           &x->err);
}

static credstore_status audit_read(trial *x)
{
    const credstore_audit_page *page = NULL;
    const credstore_status status =
        credstore_audit_read(x->t.store, &x->call, 0, 20, 0, &page, &x->err);

    x->view = page;
    return status;
}

static credstore_status audit_verify(trial *x)
{
    credstore_checkpoint now = {.struct_size = sizeof now};

    return credstore_audit_verify(x->t.store, &x->call, NULL, &now, &x->err);
}

/* A used mark to write down, receipts to drop and a removed record to purge. */
static credstore_status let_time_pass(trial *x)
{
    const int64_t day = 86400000;
    const char *id;

    new_record(x);
    never_expires(x);
    assert_int_equal(run_create(x), CREDSTORE_OK);
    memcpy(&id, (const uint8_t *)x->view + x->k->kind->view.id, sizeof id);
    snprintf(x->id, sizeof x->id, "%s", id);
    credstore_free(x->view);
    x->view = NULL;
    assert_int_equal(credstore_api_key_remove(x->t.store, &x->call, x->id, &x->err), CREDSTORE_OK);
    /* At noon, and then nearly two days on: the clock is believed, and a receipt is over. */
    atomic_store(&x->t.now, (atomic_load(&x->t.now) / day + 40) * day + day / 2);
    assert_int_equal(credstore_maintain(x->t.store, 0, NULL, &x->err), CREDSTORE_OK);
    once(x);
    new_token(x);
    x->call.idempotency_key = NULL;
    assert_int_equal(api_key_verify(x), CREDSTORE_OK);
    atomic_fetch_add(&x->t.now, 2 * day - 3600000);
    return CREDSTORE_OK;
}

/* A key whose time is over, by a clock that is believed. */
static credstore_status let_a_key_end(trial *x)
{
    const credstore_time end = CREDSTORE_TIME(atomic_load(&x->t.now) + 4 * INT64_C(43200000));

    new_record(x);
    memcpy(x->patch.u.bytes + offsetof(credstore_api_key_patch, expires_at), &end, sizeof end);
    assert_int_equal(run_create(x), CREDSTORE_OK);
    credstore_free(x->view);
    x->view = NULL;
    for (int half_day = 0; half_day < 4; half_day++) {
        assert_int_equal(credstore_maintain(x->t.store, 0, NULL, &x->err), CREDSTORE_OK);
        atomic_fetch_add(&x->t.now, INT64_C(43200000));
    }
    return CREDSTORE_OK;
}

static credstore_status maintain(trial *x)
{
    return credstore_maintain(x->t.store, 0, NULL, &x->err);
}

static credstore_status new_checkpoint(trial *x)
{
    new_values(x);
    assert_int_equal(run_update(x), CREDSTORE_OK);
    credstore_free(x->view);
    x->view = NULL;
    x->checkpoint = (credstore_checkpoint){.struct_size = sizeof x->checkpoint};
    return credstore_audit_verify(x->t.store, &x->call, NULL, &x->checkpoint, &x->err);
}

static credstore_status audit_prune(trial *x)
{
    return credstore_audit_prune(x->t.store, &x->call, &x->checkpoint, NULL, &x->err);
}

/* A finding makes it look twice; there is none to hand out. */
static credstore_status check_store(trial *x)
{
    credstore_check_result result = {.struct_size = sizeof result};
    const credstore_status status = credstore_check(x->t.store, &x->call, NULL, &result, &x->err);

    return status == CREDSTORE_OK && (result.findings != 0 || result.secrets == 0)
               ? CREDSTORE_E_INTERNAL
               : status;
}

/* Of no record: repair looks at the marks last, so that nothing can fail behind the mending. */
static credstore_status put_stray_mark(cs_txn *txn, void *arg, credstore_error *err)
{
    const cs_locator at = {.kind = CREDSTORE_KIND_API_KEY, .id = cs_bytes_of("stray")};

    (void)arg;
    return cs_put_usage(txn, &at, TEST_NOW, err);
}

static credstore_status stray_mark(trial *x)
{
    const cs_work work = {.run = put_stray_mark};

    return cs_txn_write(x->t.store, &work, &x->err);
}

static credstore_status repair_indexes(trial *x)
{
    credstore_repair_result result = {.struct_size = sizeof result};
    const credstore_status status =
        credstore_repair_indexes(x->t.store, &x->call, &result, &x->err);

    return status == CREDSTORE_OK && result.removed != 1 ? CREDSTORE_E_INTERNAL : status;
}

static credstore_status keys_list(trial *x)
{
    const credstore_data_key_page *page = NULL;
    const credstore_status status =
        credstore_keys_list(x->t.store, &x->call, CREDSTORE_KEYS_COUNT, &page, &x->err);

    x->view = page;
    return status;
}

static credstore_status keys_promote(trial *x)
{
    return credstore_keys_promote(x->t.store, &x->call, 0, &x->err);
}

static credstore_status keys_reseal(trial *x)
{
    return credstore_keys_reseal(x->t.store, &x->call, 0, 0, NULL, NULL, NULL, &x->err);
}

/* In a fresh store: so many rotations would take their time in one that grows. */
static credstore_status keys_retire(trial *x)
{
    const test_engine engine = x->t.engine;

    test_close(&x->t);
    test_open(&x->t, engine);
    if (engine == TEST_MEMORY)
        test_folder(x->t.folder);
    new_record(x);
    assert_int_equal(run_create(x), CREDSTORE_OK);
    credstore_free(x->view);
    x->view = NULL;
    return keys_promote(x);
}

static credstore_status leak_find(trial *x)
{
    const credstore_leaks *leaks = NULL;
    const credstore_status status = credstore_leak_find(x->t.store, &x->call, "secret_key value 2",
                                                        CREDSTORE_NTS, &leaks, &x->err);

    x->view = leaks;
    return status;
}

/* In a fresh store: what is left of those who left before is walked through, and allocates. */
static credstore_status someone_leaves(trial *x)
{
    const test_engine engine = x->t.engine;

    test_close(&x->t);
    test_open(&x->t, engine);
    if (engine == TEST_MEMORY)
        test_folder(x->t.folder);
    x->call.tenant = "leaver";
    new_record(x);
    assert_int_equal(run_create(x), CREDSTORE_OK);
    credstore_free(x->view);
    x->view = NULL;
    return CREDSTORE_OK;
}

static credstore_status offboard(trial *x)
{
    return credstore_offboard(x->t.store, &x->call, 0, NULL, NULL, &x->err);
}

static credstore_status new_label(trial *x)
{
    snprintf(x->text, sizeof x->text, "label-%u", x->n++);
    return CREDSTORE_OK;
}

static credstore_status organization_label(trial *x)
{
    return credstore_organization_label(x->t.store, &x->call, TEST_TENANT, x->text, &x->err);
}

static credstore_status wake(trial *x)
{
    credstore_wake(x->t.store);
    return CREDSTORE_OK;
}

/* ---- the door ---- */

static credstore_status new_request(trial *x)
{
    char *body;

    free(x->body);
    x->body = NULL;
    x->n++;
    if (current->body == NULL && current->verb != CREDSTORE_VERB_GET) {
        body = test_body(x->k, x->n);
        x->body = body;
    }
    x->request = test_request(x->k, current->verb, &x->actor,
                              current->body == NULL ? x->body : current->body);
    x->request.query = test_slice("expand[]=permissions");
    if (current->verb != CREDSTORE_VERB_CREATE)
        return CREDSTORE_OK;
    snprintf(x->id, sizeof x->id, "00000000-0000-4000-8000-%012u", x->n);
    x->request.id = test_slice(
        x->k->kind->origin.id == 0 || x->k->kind->id == CREDSTORE_KIND_STRIPE ? x->id : NULL);
    return CREDSTORE_OK;
}

static credstore_status run_handle(trial *x)
{
    x->answer = credstore_handle(x->t.store, &x->request);
    x->err.status = x->answer->status;
    return (credstore_status)x->answer->status;
}

static credstore_status compare_answer(trial *x)
{
    if (x->answer == NULL)
        return CREDSTORE_OK;
    assert_non_null(x->answer->body);
    assert_int_equal(strlen(x->answer->body), x->answer->body_len);
    if (x->answer->status == CREDSTORE_E_NO_MEMORY)
        assert_int_equal(x->answer->http_status, 500);
    return CREDSTORE_OK;
}

/* ---- opening ---- */

static int64_t clock_of(void *ctx)
{
    return atomic_load(&((test_store *)ctx)->now);
}

static credstore_status close_store(trial *x)
{
    credstore_close(x->t.store);
    x->t.store = NULL;
    return CREDSTORE_OK;
}

static credstore_status new_path(trial *x)
{
    snprintf(x->path, sizeof x->path, "%s/new%u", x->t.folder, x->n++);
    return CREDSTORE_OK;
}

static credstore_status open_at(trial *x, const char *path, uint32_t flags)
{
    static const char *const hosts[] = {"one.example.org", "two.example.org"};
    credstore_options options = x->t.options;

    options.flags = flags;
    options.key = x->key;
    options.now_ms = clock_of;
    options.now_ctx = &x->t;
    options.base_url_allow = hosts;
    options.base_url_allow_count = 2;
    return credstore_open(x->t.engine == TEST_MEMORY ? NULL : path, &options, &x->store, &x->err);
}

static credstore_status run_open(trial *x)
{
    return open_at(x, x->t.path, 0);
}

static credstore_status run_open_new(trial *x)
{
    return open_at(x, x->path, CREDSTORE_OPEN_CREATE);
}

static credstore_status open_other(trial *x)
{
    return run_open(x);
}

static credstore_status run_close(trial *x)
{
    credstore_close(x->store);
    x->store = NULL;
    return CREDSTORE_OK;
}

/* ---- keys ---- */

static credstore_status drop_key(trial *x)
{
    credstore_key_source_free(x->key);
    x->key = NULL;
    return CREDSTORE_OK;
}

static credstore_status new_key_path(trial *x)
{
    drop_key(x);
    snprintf(x->key_path, sizeof x->key_path, "%s/key%u", x->t.folder, x->n++);
    return CREDSTORE_OK;
}

static credstore_status run_key_file(trial *x)
{
    return credstore_key_file(x->key_path, CREDSTORE_KEY_CREATE, &x->key, &x->err);
}

static credstore_status run_key_bytes(trial *x)
{
    return credstore_key_bytes(test_root_key, sizeof test_root_key, &x->key, &x->err);
}

static credstore_status run_key_passphrase(trial *x)
{
    return credstore_key_passphrase("correct horse", CREDSTORE_NTS, 14, &x->key, &x->err);
}

static int32_t wrap_keys(void *ctx, const uint8_t *keys, size_t len, uint8_t *blob,
                         size_t *blob_len)
{
    (void)ctx;
    memcpy(blob, keys, len);
    *blob_len = len;
    return CREDSTORE_KEY_OK;
}

static int32_t unwrap_keys(void *ctx, const uint8_t *blob, size_t blob_len, uint8_t *keys,
                           size_t *len)
{
    (void)ctx;
    memcpy(keys, blob, blob_len);
    *len = blob_len;
    return CREDSTORE_KEY_OK;
}

static credstore_status run_key_callback(trial *x)
{
    const credstore_key_service service = {
        .struct_size = sizeof service, .wrap = wrap_keys, .unwrap = unwrap_keys};

    return credstore_key_callback(&service, &x->key, &x->err);
}

/* ---- root slots ---- */

static credstore_status add_root(trial *x)
{
    uint32_t slot;

    return credstore_root_add(x->t.store, &x->call, x->key, CREDSTORE_ROOT_READ, &slot, &x->err);
}

/* No slot but the first. */
static credstore_status one_root(trial *x)
{
    while (credstore_root_remove(x->t.store, &x->call, 1, &x->err) == CREDSTORE_OK)
        continue;
    drop_key(x);
    return run_key_callback(x);
}

static credstore_status one_root_by_passphrase(trial *x)
{
    one_root(x);
    drop_key(x);
    return run_key_passphrase(x);
}

static credstore_status two_roots(trial *x)
{
    one_root(x);
    return add_root(x);
}

static credstore_status list_roots(trial *x)
{
    const credstore_root_page *page = NULL;
    const credstore_status status = credstore_root_list(x->t.store, &x->call, &page, &x->err);

    x->view = page;
    return status;
}

static credstore_status remove_root(trial *x)
{
    return credstore_root_remove(x->t.store, &x->call, 1, &x->err);
}

static credstore_status old_key_path(trial *x)
{
    drop_key(x);
    snprintf(x->key_path, sizeof x->key_path, "%s/key", x->t.folder);
    if (access(x->key_path, F_OK) != 0)
        assert_int_equal(run_key_file(x), CREDSTORE_OK);
    return drop_key(x);
}

/* ---- copies, anchors, figures ---- */

static size_t count_entries(const char *path, const char *with);

static credstore_status anchor_take(trial *x)
{
    return credstore_anchor_take(x->t.store, &x->call, &x->checkpoint, &x->err);
}

static credstore_status an_anchor(trial *x)
{
    snprintf(x->path, sizeof x->path, "%s/anchor", x->t.folder);
    return anchor_take(x);
}

static credstore_status anchor_write(trial *x)
{
    return credstore_anchor_write(x->path, &x->checkpoint, 0, &x->err);
}

static credstore_status an_anchor_file(trial *x)
{
    an_anchor(x);
    return anchor_write(x);
}

static credstore_status anchor_read(trial *x)
{
    return credstore_anchor_read(x->path, &x->checkpoint, &x->err);
}

static credstore_status a_new_place(trial *x)
{
    snprintf(x->path, sizeof x->path, "%s/copy%u", x->t.folder, x->n++);
    return CREDSTORE_OK;
}

static credstore_status backup(trial *x)
{
    return credstore_backup(x->t.store, &x->call, x->path, 0, NULL, NULL, &x->err);
}

static credstore_status compact_backup(trial *x)
{
    return credstore_backup(x->t.store, &x->call, x->path, CREDSTORE_BACKUP_COMPACT, NULL, NULL,
                            &x->err);
}

static credstore_status no_part_is_left(trial *x)
{
    assert_int_equal(count_entries(x->t.folder, ".part"), 0);
    assert_int_equal(count_entries(x->t.folder, ".new"), 0);
    return CREDSTORE_OK;
}

/* key_path: where it lies. */
static credstore_status a_backup(trial *x)
{
    snprintf(x->key_path, sizeof x->key_path, "%s/backup", x->t.folder);
    if (access(x->key_path, F_OK) == 0)
        return a_new_place(x);
    memcpy(x->path, x->key_path, sizeof x->path);
    assert_int_equal(backup(x), CREDSTORE_OK);
    return a_new_place(x);
}

static credstore_options with_key(const trial *x)
{
    const credstore_options options = {.struct_size = sizeof options,
                                       .key = x->key,
                                       .now_ms = x->t.options.now_ms,
                                       .now_ctx = x->t.options.now_ctx};

    return options;
}

static credstore_status restore_backup(trial *x)
{
    const credstore_options options = with_key(x);

    return credstore_restore(x->key_path, x->path, &options, &x->checkpoint, &x->err);
}

static credstore_status erase(trial *x)
{
    const credstore_options options = with_key(x);

    return credstore_erase(x->key_path, &options, &x->err);
}

static credstore_status nothing_half_erased(trial *x)
{
    assert_int_equal(count_entries(x->key_path, ".erasing"), 0);
    return CREDSTORE_OK;
}

static credstore_status statistics(trial *x)
{
    const credstore_stats *stats = NULL;
    const credstore_status status =
        credstore_statistics(x->t.store, &x->call, CREDSTORE_STATISTICS_KINDS, &stats, &x->err);

    x->view = stats;
    return status;
}

static credstore_status new_key(trial *x)
{
    drop_key(x);
    return run_key_bytes(x);
}

/* ---- what a sink does with a value, by an engine that has one ---- */

static int32_t fake_begin(void *ctx, uint32_t write, int64_t wait_ms, void **txn)
{
    (void)ctx;
    (void)write;
    (void)wait_ms;
    *txn = ctx;
    return CREDSTORE_STORAGE_OK;
}

static int32_t fake_copy(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    (void)ctx;
    (void)txn;
    return credstore_sink_copy(out, key, cs_bytes("value", 5));
}

static int32_t fake_borrow(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    (void)ctx;
    (void)txn;
    return credstore_sink_borrow(out, key, cs_bytes("value", 5));
}

static void fake_abort(void *ctx, void *txn)
{
    (void)ctx;
    (void)txn;
}

static credstore_status get_through(trial *x,
                                    int32_t (*get)(void *ctx, void *txn, credstore_bytes key,
                                                   credstore_sink *out))
{
    const credstore_storage fake = {
        .struct_size = sizeof fake, .begin = fake_begin, .get = get, .abort = fake_abort};
    credstore store = {.storage = &fake, .now_ms = clock_of, .now_ctx = &x->t};
    const cs_key key = {1, {1}};
    credstore_bytes value;
    bool found = false;
    credstore_status status;
    cs_txn txn;

    store.storage_ctx = &store;
    memset(&x->err, 0, sizeof x->err);
    status = cs_txn_read(&store, &txn, &x->err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_txn_get(&txn, &key, &value, &found, &x->err);
    if (status == CREDSTORE_OK)
        status = found && value.len == 5 && memcmp(value.ptr, "value", 5) == 0
                     ? CREDSTORE_OK
                     : CREDSTORE_E_INTERNAL;
    cs_txn_end(&txn);
    return status;
}

static credstore_status run_sink_copy(trial *x)
{
    return get_through(x, fake_copy);
}

static credstore_status run_sink_borrow(trial *x)
{
    return get_through(x, fake_borrow);
}

/* ---- functions that have no reason to allocate ---- */

static credstore_status run_free(trial *x)
{
    credstore_free(x->view);
    x->view = NULL;
    return CREDSTORE_OK;
}

static credstore_status run_answer_free(trial *x)
{
    credstore_answer_free(x->answer);
    x->answer = NULL;
    return CREDSTORE_OK;
}

static credstore_status ask_before(trial *x)
{
    new_request(x);
    return run_handle(x);
}

static credstore_status run_secret_ptr(trial *x)
{
    return credstore_secret_ptr(x->secret) != NULL ? CREDSTORE_OK : CREDSTORE_E_INTERNAL;
}

static credstore_status run_secret_len(trial *x)
{
    return credstore_secret_len(x->secret) > 0 ? CREDSTORE_OK : CREDSTORE_E_INTERNAL;
}

static credstore_status run_secret_free(trial *x)
{
    credstore_secret_free(x->secret);
    x->secret = NULL;
    return CREDSTORE_OK;
}

static credstore_status run_actor_grant(trial *x)
{
    return credstore_actor_grant(x->t.store, &x->actor, "users:read", &x->err);
}

static credstore_status run_permit(trial *x)
{
    return credstore_permit(x->t.store, &x->actor, "users:read") == 1 ? CREDSTORE_OK
                                                                      : CREDSTORE_E_INTERNAL;
}

static credstore_status run_inits(trial *x)
{
    static const char *const items[] = {"a"};
    credstore_text text;
    credstore_secret_text secret;
    credstore_flag flag;
    credstore_time time;
    credstore_strings strings;

    (void)x;
    credstore_text_init(&text, CREDSTORE_SET, "a", 1);
    credstore_secret_text_init(&secret, CREDSTORE_SET, "a", 1);
    credstore_flag_init(&flag, CREDSTORE_SET, 1);
    credstore_time_init(&time, CREDSTORE_SET, 1);
    credstore_strings_init(&strings, CREDSTORE_SET, items, 1);
    return text.len + secret.len + flag.value + (size_t)time.unix_ms + strings.count == 5
               ? CREDSTORE_OK
               : CREDSTORE_E_INTERNAL;
}

static credstore_status run_words(trial *x)
{
    char text[] = "text";

    (void)x;
    credstore_wipe(text, sizeof text);
    return text[0] == '\0' && credstore_version() != NULL && credstore_status_name(1) != NULL
               ? CREDSTORE_OK
               : CREDSTORE_E_INTERNAL;
}

/* ---- the table ---- */

#define TYPED(name, KIND)                                                                          \
    {"credstore_" #name "_create", "", new_record, run_create, compare_view,                       \
     CREDSTORE_KIND_##KIND,        0,  0,          NULL},                                          \
        {"credstore_" #name "_get", "", NULL, run_get, compare_view,                               \
         CREDSTORE_KIND_##KIND,     0,  0,    NULL},                                               \
        {"credstore_" #name "_get",                                                                \
         "an old revision",                                                                        \
         old_revision,                                                                             \
         run_get,                                                                                  \
         compare_view,                                                                             \
         CREDSTORE_KIND_##KIND,                                                                    \
         0,                                                                                        \
         0,                                                                                        \
         NULL},                                                                                    \
    {                                                                                              \
        "credstore_" #name "_update", "", new_values, run_update, compare_view,                    \
            CREDSTORE_KIND_##KIND, 0, 0, NULL                                                      \
    }
#define REVEAL(name, KIND)                                                                         \
    {"credstore_" #name "_reveal", "", NULL, run_reveal, compare_secret,                           \
     CREDSTORE_KIND_##KIND,        0,  0,    NULL},                                                \
    {                                                                                              \
        "credstore_" #name "_reveal", "an old revision", old_revision, run_reveal, compare_secret, \
            CREDSTORE_KIND_##KIND, 0, 0, NULL                                                      \
    }
#define VERB(name, verb, KIND, before)                                                             \
    {                                                                                              \
        "credstore_" #name "_" #verb, "", before, name##_##verb, NULL, CREDSTORE_KIND_##KIND, 0,   \
            0, NULL                                                                                \
    }
#define LIFE(name, KIND)                                                                           \
    VERB(name, list, KIND, NULL), VERB(name, history, KIND, NULL),                                 \
        VERB(name, remove, KIND, own_record), VERB(name, restore, KIND, own_record_changed)
#define TOKENS(name, KIND)                                                                         \
    VERB(name, issue, KIND, new_issue), VERB(name, verify, KIND, new_token),                       \
        VERB(name, roll, KIND, once)
#define DOOR(name, KIND)                                                                           \
    {"credstore_handle",    #name " get",       new_request, run_handle, compare_answer,           \
     CREDSTORE_KIND_##KIND, CREDSTORE_VERB_GET, 0,           NULL},                                \
        {"credstore_handle",    #name " create",       new_request, run_handle, compare_answer,    \
         CREDSTORE_KIND_##KIND, CREDSTORE_VERB_CREATE, 0,           NULL},                         \
        {"credstore_handle",    #name " update",       new_request, run_handle, compare_answer,    \
         CREDSTORE_KIND_##KIND, CREDSTORE_VERB_UPDATE, 0,           NULL},                         \
        {"credstore_handle", #name " refused",      new_request,           run_handle,             \
         compare_answer,     CREDSTORE_KIND_##KIND, CREDSTORE_VERB_UPDATE, CREDSTORE_E_INVALID,    \
         "{\"colour\":1}"},                                                                        \
    {                                                                                              \
        "credstore_handle", #name " not JSON", new_request, run_handle, compare_answer,            \
            CREDSTORE_KIND_##KIND, CREDSTORE_VERB_UPDATE, CREDSTORE_E_INVALID, "{"                 \
    }
#define PLAIN(function, before, run)                                                               \
    {                                                                                              \
#function, "", before, run, NULL, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_GET, 0, NULL    \
    }

#define COPY(function, what, before, run, after)                                                   \
    {                                                                                              \
#function, what, before, run, after, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_GET, 0, NULL \
    }

static const row rows[] = {
    PLAIN(credstore_open, close_store, run_open),
    {"credstore_open", "a new store", new_path, run_open_new, NULL, CREDSTORE_KIND_CHECKBOOK, 0, 0,
     NULL},
    PLAIN(credstore_close, open_other, run_close),
    {"credstore_key_file", "", old_key_path, run_key_file, NULL, CREDSTORE_KIND_CHECKBOOK, 0, 0,
     NULL},
    {"credstore_key_file", "a new key", new_key_path, run_key_file, NULL, CREDSTORE_KIND_CHECKBOOK,
     0, 0, NULL},
    PLAIN(credstore_key_bytes, drop_key, run_key_bytes),
    PLAIN(credstore_key_passphrase, drop_key, run_key_passphrase),
    PLAIN(credstore_key_callback, drop_key, run_key_callback),
    PLAIN(credstore_key_source_free, new_key, drop_key),
    PLAIN(credstore_root_add, one_root, add_root),
    {"credstore_root_add", "by passphrase", one_root_by_passphrase, add_root, NULL,
     CREDSTORE_KIND_CHECKBOOK, 0, 0, NULL},
    PLAIN(credstore_root_list, two_roots, list_roots),
    PLAIN(credstore_root_remove, two_roots, remove_root),
    TYPED(checkbook, CHECKBOOK),
    TYPED(stripe, STRIPE),
    TYPED(service_credential, SERVICE_CREDENTIAL),
    TYPED(api_key, API_KEY),
    {"credstore_service_credential_get", "expanded", expanded, run_get, compare_view,
     CREDSTORE_KIND_SERVICE_CREDENTIAL, 0, 0, NULL},
    REVEAL(checkbook, CHECKBOOK),
    REVEAL(stripe, STRIPE),
    LIFE(checkbook, CHECKBOOK),
    LIFE(stripe, STRIPE),
    LIFE(service_credential, SERVICE_CREDENTIAL),
    LIFE(api_key, API_KEY),
    VERB(checkbook, roll, CHECKBOOK, new_secret),
    VERB(stripe, roll, STRIPE, new_secret),
    TOKENS(service_credential, SERVICE_CREDENTIAL),
    TOKENS(api_key, API_KEY),
    {"credstore_stripe_deactivate", "", make_active, deactivate, compare_view,
     CREDSTORE_KIND_STRIPE, 0, 0, NULL},
    {"credstore_stripe_reactivate", "", make_inactive, reactivate, compare_view,
     CREDSTORE_KIND_STRIPE, 0, 0, NULL},
    {"credstore_stripe_webhook_verify", "", NULL, webhook_verify, NULL, CREDSTORE_KIND_STRIPE, 0,
     CREDSTORE_E_UNAUTHENTICATED, NULL},
    PLAIN(credstore_audit_read, NULL, audit_read),
    PLAIN(credstore_audit_verify, NULL, audit_verify),
    {"credstore_maintain", "", let_time_pass, maintain, NULL, CREDSTORE_KIND_API_KEY, 0, 0, NULL},
    {"credstore_maintain", "a key ends", let_a_key_end, maintain, NULL, CREDSTORE_KIND_API_KEY, 0,
     0, NULL},
    PLAIN(credstore_audit_prune, new_checkpoint, audit_prune),
    PLAIN(credstore_anchor_take, NULL, anchor_take),
    COPY(credstore_anchor_write, "", an_anchor, anchor_write, no_part_is_left),
    PLAIN(credstore_anchor_read, an_anchor_file, anchor_read),
    COPY(credstore_backup, "", a_new_place, backup, no_part_is_left),
    COPY(credstore_backup, "compact", a_new_place, compact_backup, no_part_is_left),
    COPY(credstore_restore, "", a_backup, restore_backup, no_part_is_left),
    COPY(credstore_erase, "", a_backup, erase, nothing_half_erased),
    PLAIN(credstore_statistics, NULL, statistics),
    PLAIN(credstore_check, NULL, check_store),
    PLAIN(credstore_repair_indexes, stray_mark, repair_indexes),
    PLAIN(credstore_keys_list, NULL, keys_list),
    PLAIN(credstore_keys_promote, keys_reseal, keys_promote),
    PLAIN(credstore_keys_reseal, keys_retire, keys_reseal),
    PLAIN(credstore_leak_find, NULL, leak_find),
    PLAIN(credstore_offboard, someone_leaves, offboard),
    PLAIN(credstore_organization_label, new_label, organization_label),
    PLAIN(credstore_wake, NULL, wake),
    DOOR(checkbook, CHECKBOOK),
    DOOR(stripe, STRIPE),
    DOOR(service_credential, SERVICE_CREDENTIAL),
    DOOR(api_key, API_KEY),
    PLAIN(credstore_sink_copy, NULL, run_sink_copy),
    PLAIN(credstore_sink_borrow, NULL, run_sink_borrow),
    PLAIN(credstore_free, run_get, run_free),
    PLAIN(credstore_answer_free, ask_before, run_answer_free),
    PLAIN(credstore_secret_ptr, run_reveal, run_secret_ptr),
    PLAIN(credstore_secret_len, run_reveal, run_secret_len),
    PLAIN(credstore_secret_free, run_reveal, run_secret_free),
    PLAIN(credstore_actor_grant, NULL, run_actor_grant),
    PLAIN(credstore_permit, NULL, run_permit),
    PLAIN(credstore_text_init, NULL, run_inits),
    PLAIN(credstore_secret_text_init, NULL, run_inits),
    PLAIN(credstore_flag_init, NULL, run_inits),
    PLAIN(credstore_time_init, NULL, run_inits),
    PLAIN(credstore_strings_init, NULL, run_inits),
    PLAIN(credstore_wipe, NULL, run_words),
    PLAIN(credstore_version, NULL, run_words),
    PLAIN(credstore_status_name, NULL, run_words),
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- what must not change, and what must not stay ---- */

static bool mix(void *arg, credstore_bytes key, credstore_bytes value)
{
    uint64_t *sum = arg;
    const credstore_bytes both[] = {key, value};

    for (size_t i = 0; i < 2; i++) {
        *sum = (*sum ^ both[i].len) * UINT64_C(0x100000001b3);
        for (size_t j = 0; j < both[i].len; j++)
            *sum = (*sum ^ ((const uint8_t *)both[i].ptr)[j]) * UINT64_C(0x100000001b3);
    }
    return true;
}

/* Of every byte that the engine holds. A store that the case closed is opened for it. */
static uint64_t digest(trial *x)
{
    const cs_key from = {1, {0}}, to = {1, {0xff}};
    const bool open_here = x->t.store == NULL;
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    const cs_scan all = {.visit = mix, .arg = &sum};
    credstore_error err = {0};
    cs_txn txn;

    if (open_here && x->t.engine == TEST_MEMORY)
        return 0; /* it went with the store */
    if (open_here)
        assert_status(CREDSTORE_OK, test_reopen(&x->t, &err), &err);
    assert_status(CREDSTORE_OK, cs_txn_read(x->t.store, &txn, &err), &err);
    assert_status(CREDSTORE_OK, cs_txn_scan(&txn, &from, &to, &all, &err), &err);
    cs_txn_end(&txn);
    if (open_here)
        close_store(x);
    return sum;
}

static size_t count_entries(const char *path, const char *with)
{
    const struct dirent *entry;
    DIR *dir = opendir(path);
    size_t count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        count += strstr(entry->d_name, with) != NULL;
    closedir(dir);
    return count;
}

static void let_go(trial *x)
{
    credstore_free(x->view);
    x->view = NULL;
    credstore_secret_free(x->secret);
    x->secret = NULL;
    credstore_answer_free(x->answer);
    x->answer = NULL;
    credstore_close(x->store);
    x->store = NULL;
    x->call.at_revision = 0;
    x->call.idempotency_key = NULL;
    x->call.tenant = NULL;
}

/* ---- trying ---- */

typedef struct tally {
    long allocations, absorbed;
    long errors[32]; /* by status */
} tally;

static bool is_sensible(credstore_status status)
{
    return status == CREDSTORE_E_NO_MEMORY || status == CREDSTORE_E_ENTROPY ||
           status == CREDSTORE_E_INTERNAL || status == CREDSTORE_E_STORAGE;
}

static void assert_trial(bool good, const row *r, const trial *x, long at, bool all,
                         credstore_status status, const char *what)
{
    if (good)
        return;
    print_error("%s %s, %s, allocation %ld%s: %s: %s (%s)\n", r->function, r->what,
                test_engine_names[x->t.engine], at, all ? " and all after" : "", what,
                credstore_status_name((int32_t)status), x->err.message);
    fail();
}

static credstore_status armed_run(const row *r, trial *x, long at, bool all)
{
    credstore_status status;

    memset(&x->err, 0, sizeof x->err);
    arm(at, all);
    status = r->run(x);
    disarm();
    return status;
}

/* Works in more than one transaction, and keeps what it has done. */
static bool in_steps(const row *r)
{
    return r->run == maintain || r->run == offboard || r->run == keys_reseal;
}

/* Whether the allocation `at` was reached. */
static bool try_one(const row *r, trial *x, long at, bool all, tally *sum)
{
    uint64_t before;
    credstore_status status;

    if (r->before != NULL)
        r->before(x);
    before = digest(x);
    status = armed_run(r, x, at, all);
    if (status != r->expected) {
        assert_trial(the_gate.hit, r, x, at, all, status, "fails without cause");
        assert_trial(is_sensible(status), r, x, at, all, status,
                     "an error that says another thing");
        assert_trial(x->err.status == (int32_t)status, r, x, at, all, status, "the error differs");
        assert_trial(x->view == NULL && x->secret == NULL && x->store == NULL, r, x, at, all,
                     status, "something was handed out");
        assert_trial(in_steps(r) || digest(x) == before, r, x, at, all, status,
                     "the store changed");
        assert_int_equal(count_entries(x->t.folder, ".creating"), 0);
        if (r->after != NULL)
            r->after(x);
        credstore_answer_free(x->answer);
        x->answer = NULL;
        sum->errors[status]++;
        x->call.at_revision = r->before == old_revision ? 1 : 0;
        status = armed_run(r, x, NEVER, false);
        assert_trial(status == r->expected, r, x, at, all, status, "fails again, with memory");
        the_gate.hit = true;
    } else if (the_gate.hit) {
        sum->absorbed++;
    }
    if (r->after != NULL)
        r->after(x);
    let_go(x);
    return the_gate.hit;
}

static void begin_trial(const row *r, trial *x, test_engine engine)
{
    credstore_actor people;

    memset(x, 0, sizeof *x);
    current = r;
    test_open(&x->t, engine);
    if (engine == TEST_MEMORY)
        test_folder(x->t.folder); /* for keys */
    people = test_root(x->t.store);
    for (size_t i = 0; i < test_kind_count; i++) {
        const test_kind *k = &test_kinds[i];
        const credstore_call call = test_call(&people);
        const test_at at = test_at_of(k);
        test_patch patch;

        credstore_free(test_make(&x->t, k, &people, 1));
        test_patch_whole(k, &patch, 2);
        assert_status(CREDSTORE_OK, k->update(x->t.store, &call, &at, patch.u.bytes, NULL, &x->err),
                      &x->err);
    }
    x->k = test_kind_of(r->kind);
    x->actor = people;
    x->call = test_call(&x->actor);
    x->at = test_at_of(x->k);
    x->n = 10;
    assert_int_equal(run_key_bytes(x), CREDSTORE_OK);
}

static void end_trial(trial *x)
{
    drop_key(x);
    free(x->body);
    test_close(&x->t);
}

static void warm_up(const row *r, test_engine engine)
{
    trial *x = malloc(sizeof *x);
    tally sum = {0};

    begin_trial(r, x, engine);
    assert_false(try_one(r, x, NEVER, false, &sum));
    end_trial(x);
    free(x);
}

static void fail_each(const row *r, test_engine engine, tally *sum)
{
    trial *x = malloc(sizeof *x);
    const size_t files = count_entries("/proc/self/fd", "");
    const long blocks = atomic_load(&live);
    const unsigned long stride = test_number("CREDSTORE_ALLOC_STEP", 1);
    long left;

    for (int all = 0; all < 2; all++) {
        begin_trial(r, x, engine);
        for (long at = 0; try_one(r, x, at, all != 0, sum); at += (long)stride)
            continue;
        sum->allocations = the_gate.seen;
        end_trial(x);
    }
    left = atomic_load(&live) - blocks;
    if (left != 0)
        print_error("%s %s, %s: %ld blocks are left\n", r->function, r->what,
                    test_engine_names[engine], left);
    assert_int_equal(left, 0);
    assert_int_equal(count_entries("/proc/self/fd", ""), files);
    free(x);
}

static void print_row(const row *r, test_engine engine, const tally *sum)
{
    printf("%s allocations=%ld (%s%s%s", r->function, sum->allocations, test_engine_names[engine],
           r->what[0] == '\0' ? "" : ", ", r->what);
    for (size_t i = 0; i < sizeof sum->errors / sizeof *sum->errors; i++)
        if (sum->errors[i] > 0)
            printf(", %s %ld", credstore_status_name((int32_t)i), sum->errors[i]);
    if (sum->absorbed > 0)
        printf(", no error %ld", sum->absorbed);
    printf(")\n");
}

static void try_engine(test_engine engine)
{
    for (size_t i = 0; i < ROWS; i++)
        warm_up(&rows[i], engine);
    for (size_t i = 0; i < ROWS; i++) {
        tally sum = {0};

        fail_each(&rows[i], engine, &sum);
        print_row(&rows[i], engine, &sum);
    }
}

static void test_memory(void **state)
{
    (void)state;
    try_engine(TEST_MEMORY);
}

static void test_lmdb(void **state)
{
    (void)state;
    try_engine(TEST_LMDB);
}

/* ---- the first open of a process ---- */

/* libcrypto begins its life in it, with thousands of allocations. Parts of that it tries but once a
   process, so there the second open may fail as well: cleanly, which is all that can be asked. */
static int open_twice(long at, bool all)
{
    const credstore_options options = {
        .struct_size = sizeof options,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
    };
    credstore *store = NULL;
    credstore_error err;
    credstore_status first, second;

    arm(at, all);
    first = credstore_open(NULL, &options, &store, &err);
    disarm();
    credstore_close(store);
    second = credstore_open(NULL, &options, &store, &err);
    credstore_close(store);
    if (first != CREDSTORE_OK && !is_sensible(first))
        return 100;
    if (second != CREDSTORE_OK && second != first)
        return 101;
    return (first != CREDSTORE_OK) | (second != CREDSTORE_OK) << 1 | the_gate.hit << 2;
}

static void try_cold(bool all, long stride)
{
    static const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    size_t tries = 0, failed = 0, for_good = 0;
    int code = 4;

    for (long at = 0; (code & 4) != 0; at += stride, tries++) {
        const pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
            for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
                signal(caught[i], SIG_DFL); /* else the test's frame would go on in here */
            _exit(open_twice(at, all));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
        if (code > 7)
            print_error("the first open of a process, allocation %ld%s: %s %d\n", at,
                        all ? " and all after" : "", code == 128 ? "signal" : "code",
                        code == 128 ? WTERMSIG(status) : code);
        assert_true(code <= 7);
        failed += (size_t)(code & 1);
        for_good += (size_t)(code >> 1 & 1);
    }
    printf("the first open of a process%s: %zu tries, %zu failed, %zu of them again (libcrypto "
           "starts but once)\n",
           all ? ", all after failing" : "", tries, failed, for_good);
}

static void test_cold(void **state)
{
    const unsigned long stride = test_number("CREDSTORE_COLD_STRIDE", 41);

    (void)state;
    if (!whole) {
        print_message("skipped: the allocator here is the checker's\n");
        skip();
    }
    try_cold(false, (long)stride);
    try_cold(true, 2 * (long)stride);
}

/* ---- the list ---- */

static void test_every_export_has_a_case(void **state)
{
    const char *path = getenv("CREDSTORE_MAP");
    FILE *map = fopen(path == NULL ? "lib/libcredstore.map" : path, "r");
    size_t exported = 0, missing = 0;
    char line[256], name[128];

    (void)state;
    assert_non_null(map);
    while (fgets(line, sizeof line, map) != NULL) {
        bool found = false;

        if (sscanf(line, " %127[a-z0-9_];", name) != 1 || strncmp(name, "credstore_", 10) != 0)
            continue;
        for (size_t i = 0; i < ROWS && !found; i++)
            found = strcmp(rows[i].function, name) == 0;
        if (!found)
            print_error("  %s has no case\n", name);
        missing += !found;
        exported++;
    }
    fclose(map);
    printf("exported functions: %zu, without a case: %zu\n", exported, missing);
    assert_true(exported > 30);
    assert_int_equal(missing, 0);
}

static char folder[TEST_PATH_MAX]; /* around all: a check that fails leaves its own behind */

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static int set_up(void **state)
{
    /* The compiler knows that malloc() leaves the_gate alone; of this it does not. */
    void *(*volatile allocate)(size_t size) = malloc;
    void *probe;

    (void)state;
    setenv("TMPDIR", test_quick_base(), 1);
    test_folder(folder);
    setenv("TMPDIR", folder, 1);
    arm(NEVER, false);
    probe = allocate(1);
    disarm();
    free(probe);
    whole = the_gate.seen > 0;
    if (!whole)
        printf("only the library's own allocations fail: the allocator here is the checker's\n");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_export_has_a_case),
        cmocka_unit_test(test_cold), /* before anything here has woken libcrypto */
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_lmdb),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
