/* SPDX-License-Identifier: MIT
 *
 * Opening what is not as it should be: keys, paths, folders, formats, a small address space and a
 * full disk; each a named error, and the store as it was.
 */
#define _GNU_SOURCE /* unshare, mount flags */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "txn.h"

#define LEN(array) (sizeof(array) / sizeof *(array))
enum { NOBODY = 65534 };

/* ---- small words ---- */

typedef struct place {
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX];
} place;

static place new_place(void)
{
    place p;

    test_folder(p.folder);
    snprintf(p.path, sizeof p.path, "%.100s/store", p.folder);
    return p;
}

static credstore_status open_with(const char *path, uint32_t flags, const void *key, size_t len,
                                  credstore **out, credstore_error *err)
{
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = flags,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
    };
    credstore_key_source *source = NULL;
    credstore_status status = CREDSTORE_OK;

    *out = NULL;
    if (key != NULL)
        status = credstore_key_bytes(key, len, &source, err);
    options.key = source;
    if (status == CREDSTORE_OK)
        status = credstore_open(path, &options, out, err);
    credstore_key_source_free(source);
    return status;
}

static credstore_status open_it(const char *path, uint32_t flags, credstore **out,
                                credstore_error *err)
{
    return open_with(path, flags, test_root_key, sizeof test_root_key, out, err);
}

/* Refused, with a line and the member at fault, and no store. */
static void assert_refused(const char *path, uint32_t flags, credstore_status expected,
                           const char *field)
{
    credstore *store = NULL;
    credstore_error err;

    assert_status(expected, open_it(path, flags, &store, &err), &err);
    assert_null(store);
    assert_int_not_equal(err.message[0], '\0');
    if (field != NULL)
        assert_string_equal(err.field, field);
}

static credstore_status add(credstore *store, unsigned n, char id[28], credstore_error *err)
{
    const credstore_actor root = test_root(store);
    const credstore_call call = test_call(&root);
    const credstore_checkbook *view = NULL;
    char secret[4001];
    credstore_checkbook_patch patch = {.struct_size = sizeof patch,
                                       .publishable_key = CREDSTORE_TEXT("p"),
                                       .base_url = CREDSTORE_TEXT("https://a.example")};
    credstore_status status;

    memset(secret, 'a' + (int)(n % 26), sizeof secret - 1);
    secret[sizeof secret - 1] = '\0';
    credstore_secret_text_init(&patch.secret_key, CREDSTORE_SET, secret, CREDSTORE_NTS);
    status = credstore_checkbook_create(store, &call, NULL, &patch, &view, err);
    if (status == CREDSTORE_OK)
        memcpy(id, view->id, 28);
    credstore_free(view);
    return status;
}

/* The nth record that was added is whole. */
static bool is_there(credstore *store, const char *id, unsigned n)
{
    const credstore_actor root = test_root(store);
    const credstore_call call = test_call(&root);
    const credstore_checkbook *view = NULL;
    credstore_secret *secret = NULL;
    bool good = credstore_checkbook_get(store, &call, id, &view, NULL) == CREDSTORE_OK &&
                view->revision == 1 &&
                credstore_checkbook_reveal(store, &call, id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                           &secret, NULL) == CREDSTORE_OK &&
                credstore_secret_len(secret) == 4000;

    for (size_t i = 0; good && i < 4000; i++)
        good = credstore_secret_ptr(secret)[i] == (char)('a' + (int)(n % 26));
    credstore_free(view);
    credstore_secret_free(secret);
    return good;
}

/* A store with one record in it, closed. */
static void found(const place *p, char id[28])
{
    credstore *store = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    assert_status(CREDSTORE_OK, add(store, 0, id, &err), &err);
    credstore_close(store);
}

static void assert_whole(const place *p, const char *id)
{
    credstore *store = NULL;
    credstore_error err;

    assert_status(CREDSTORE_OK, open_it(p->path, 0, &store, &err), &err);
    assert_true(is_there(store, id, 0));
    credstore_close(store);
}

/* ---- keys ---- */

static void test_wrong_keys(void **state)
{
    uint8_t wrong[33];
    const place p = new_place();
    credstore *store = NULL;
    credstore_key_source *source = NULL;
    credstore_error err;
    char id[28];

    (void)state;
    found(&p, id);
    for (size_t bit = 0; bit < 256; bit += 51) {
        memcpy(wrong, test_root_key, 32);
        wrong[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        for (uint32_t flags = 0; flags <= CREDSTORE_OPEN_CREATE; flags++) {
            assert_status(CREDSTORE_E_KEY_UNAVAILABLE,
                          open_with(p.path, flags, wrong, 32, &store, &err), &err);
            assert_null(store);
            assert_string_equal(err.field, "key");
        }
    }
    assert_status(CREDSTORE_E_INVALID, open_with(p.path, 0, NULL, 0, &store, &err), &err);
    assert_string_equal(err.field, "key");
    assert_whole(&p, id);
    for (size_t len = 0; len <= 33; len++)
        if (len != 32)
            assert_status(CREDSTORE_E_INVALID, credstore_key_bytes(wrong, len, &source, &err),
                          &err);
    assert_status(CREDSTORE_E_INVALID, credstore_key_bytes(NULL, 32, &source, &err), &err);
    assert_status(CREDSTORE_E_INVALID, credstore_key_bytes(wrong, 32, NULL, &err), &err);
    assert_null(source);
    test_folder_remove(p.folder);
}

/* ---- paths ---- */

static void test_absent(void **state)
{
    const place p = new_place();
    char deeper[TEST_PATH_MAX + 8], file[TEST_PATH_MAX];
    struct stat st;
    credstore *store = NULL;
    credstore_error err;
    FILE *f;

    (void)state;
    assert_refused(p.path, 0, CREDSTORE_E_NOT_FOUND, NULL);
    assert_refused(p.path, CREDSTORE_OPEN_READ_ONLY, CREDSTORE_E_NOT_FOUND, NULL);
    assert_int_not_equal(stat(p.path, &st), 0); /* nothing was made */
    snprintf(deeper, sizeof deeper, "%s/deeper", p.path);
    assert_refused(deeper, CREDSTORE_OPEN_CREATE, CREDSTORE_E_NOT_FOUND, NULL);
    assert_refused("", CREDSTORE_OPEN_CREATE, CREDSTORE_E_INVALID, "path");
    snprintf(file, sizeof file, "%.100s/file", p.folder);
    f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    assert_refused(file, CREDSTORE_OPEN_CREATE, CREDSTORE_E_INVALID, NULL);
    assert_refused(file, 0, CREDSTORE_E_INVALID, NULL);
    assert_int_equal(mkdir(p.path, 0700), 0); /* an empty folder is no store, and may become one */
    assert_refused(p.path, 0, CREDSTORE_E_NOT_FOUND, NULL);
    assert_status(CREDSTORE_OK, open_it(p.path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    credstore_close(store);
    assert_status(CREDSTORE_OK, open_it(p.path, 0, &store, &err), &err);
    credstore_close(store);
    test_folder_remove(p.folder);
}

static void test_twice(void **state)
{
    const place p = new_place();
    credstore *one = NULL, *two = NULL;
    credstore_error err;
    char id[28];

    (void)state;
    assert_status(CREDSTORE_OK, open_it(p.path, CREDSTORE_OPEN_CREATE, &one, &err), &err);
    assert_status(CREDSTORE_OK, open_it(p.path, CREDSTORE_OPEN_CREATE, &two, &err), &err);
    assert_status(CREDSTORE_OK, add(one, 1, id, &err), &err);
    assert_true(is_there(two, id, 1));
    credstore_close(one);
    assert_status(CREDSTORE_OK, add(two, 2, id, &err), &err);
    assert_true(is_there(two, id, 2));
    credstore_close(two);
    test_folder_remove(p.folder);
}

static void test_read_only(void **state)
{
    const place p = new_place();
    credstore *store = NULL;
    credstore_error err;
    uint64_t generation;
    char id[28], other[28];

    (void)state;
    found(&p, id);
    assert_status(CREDSTORE_OK, open_it(p.path, CREDSTORE_OPEN_READ_ONLY, &store, &err), &err);
    generation = test_generation(store);
    assert_true(is_there(store, id, 0));
    assert_status(CREDSTORE_E_FORBIDDEN, add(store, 1, other, &err), &err);
    assert_int_equal(generation, test_generation(store));
    credstore_close(store);
    assert_refused(p.path, CREDSTORE_OPEN_READ_ONLY | CREDSTORE_OPEN_CREATE, CREDSTORE_E_INVALID,
                   "flags");
    test_folder_remove(p.folder);
}

/* ---- folders ---- */

static void test_readable_by_others(void **state)
{
    static const struct {
        const char *file; /* NULL = the folder */
        mode_t mode, good;
        credstore_status plain, group;
    } rows[] = {
        {NULL, 0755, 0700, CREDSTORE_E_FORBIDDEN, CREDSTORE_E_FORBIDDEN},
        {NULL, 0704, 0700, CREDSTORE_E_FORBIDDEN, CREDSTORE_E_FORBIDDEN},
        {NULL, 0702, 0700, CREDSTORE_E_FORBIDDEN, CREDSTORE_E_FORBIDDEN},
        {NULL, 0740, 0700, CREDSTORE_E_FORBIDDEN, CREDSTORE_OK},
        {NULL, 0770, 0700, CREDSTORE_E_FORBIDDEN, CREDSTORE_OK},
        {NULL, 0700, 0700, CREDSTORE_OK, CREDSTORE_OK},
        {"data.mdb", 0644, 0600, CREDSTORE_E_FORBIDDEN, CREDSTORE_E_FORBIDDEN},
        {"data.mdb", 0640, 0600, CREDSTORE_E_FORBIDDEN, CREDSTORE_OK},
        {"lock.mdb", 0606, 0600, CREDSTORE_E_FORBIDDEN, CREDSTORE_E_FORBIDDEN},
    };
    const place p = new_place();
    char id[28];

    (void)state;
    found(&p, id);
    for (size_t i = 0; i < LEN(rows); i++)
        for (int group = 0; group < 2; group++) {
            const credstore_status expected = group != 0 ? rows[i].group : rows[i].plain;
            char at[TEST_PATH_MAX + 16];
            credstore *store = NULL;
            credstore_error err;

            snprintf(at, sizeof at, "%s%s%s", p.path, rows[i].file == NULL ? "" : "/",
                     rows[i].file == NULL ? "" : rows[i].file);
            assert_int_equal(chmod(at, rows[i].mode), 0);
            assert_status(expected,
                          open_it(p.path, group != 0 ? CREDSTORE_OPEN_GROUP : 0, &store, &err),
                          &err);
            assert_true((expected == CREDSTORE_OK) == (store != NULL));
            credstore_close(store);
            assert_int_equal(chmod(at, rows[i].good), 0);
        }
    assert_whole(&p, id);
    test_folder_remove(p.folder);
}

/* ---- in a child ---- */

/* Line of the first check that failed, as the child's last word. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)
#define CHECK_STATUS(expected, got, err)                                                           \
    do {                                                                                           \
        const credstore_status got_ = (got);                                                       \
        if (got_ != (expected)) {                                                                  \
            fprintf(stderr, "%s:%d: %s: %s at \"%s\"\n", __FILE__, __LINE__,                       \
                    credstore_status_name((int32_t)got_), (err)->message, (err)->field);           \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

enum { CANNOT = 77 }; /* the child's word for: not permitted here */

static int in_child(int (*run)(const place *), const place *p)
{
    int status = 0;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run(p));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status)); /* no signal */
    return WEXITSTATUS(status);
}

static void leave_out(const char *reason)
{
    printf("skipped: %s\n", reason);
    skip();
}

static bool has_entries(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

static int as_nobody(const place *p)
{
    credstore *store = NULL;
    credstore_error err;
    char inside[TEST_PATH_MAX + 16];

    CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    /* not his to write: a folder above, a store's folder, and its files */
    CHECK_STATUS(CREDSTORE_E_FORBIDDEN, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err),
                 &err);
    CHECK(store == NULL && err.message[0] != '\0');
    CHECK(!has_entries(p->path));
    snprintf(inside, sizeof inside, "%.100s/empty", p->folder);
    CHECK_STATUS(CREDSTORE_E_FORBIDDEN, open_it(inside, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    snprintf(inside, sizeof inside, "%.100s/files", p->folder);
    CHECK_STATUS(CREDSTORE_E_FORBIDDEN, open_it(inside, 0, &store, &err), &err);
    snprintf(inside, sizeof inside, "%.100s/roots", p->folder);
    CHECK_STATUS(CREDSTORE_E_FORBIDDEN, open_it(inside, 0, &store, &err), &err);
    CHECK(store == NULL);
    return 0;
}

static void give(const char *folder, const char *name, mode_t mode, uid_t owner)
{
    char at[TEST_PATH_MAX + 16];

    snprintf(at, sizeof at, "%.100s%s%s", folder, name[0] == '\0' ? "" : "/", name);
    assert_int_equal(chown(at, owner, owner), 0);
    assert_int_equal(chmod(at, mode), 0);
}

/* Folders and files that another user cannot write, owned by himself or by root. */
static void test_not_writable(void **state)
{
    const place p = new_place();
    place inside = p;
    char id[28];

    (void)state;
    if (geteuid() != 0)
        leave_out("not root: another user's rights cannot be tried");
    snprintf(inside.path, sizeof inside.path, "%.100s/empty", p.folder);
    assert_int_equal(mkdir(inside.path, 0700), 0);
    give(inside.path, "", 0755, 0); /* he can look into it, and make nothing in it */
    snprintf(inside.path, sizeof inside.path, "%.100s/files", p.folder);
    found(&inside, id);
    give(inside.path, "data.mdb", 0400, NOBODY);
    give(inside.path, "lock.mdb", 0400, NOBODY);
    give(inside.path, "", 0500, NOBODY);
    snprintf(inside.path, sizeof inside.path, "%.100s/roots", p.folder);
    found(&inside, id);
    assert_int_equal(chmod(p.folder, 0711), 0);
    assert_int_equal(in_child(as_nobody, &p), 0);
    assert_whole(&inside, id);
    test_folder_remove(p.folder);
}

/* ---- after fork ---- */

typedef struct inherited {
    credstore *store;
    char id[28];
} inherited;

/* Every call of the child on its parent's store answers E_FORKED; closing it works. */
static int as_child(const inherited *from)
{
    credstore *store = from->store;
    const credstore_actor actor = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "s", TEST_TENANT);
    const credstore_call call = test_call(&actor);
    const credstore_checkbook_patch patch = {.struct_size = sizeof patch};
    const test_kind *k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    const credstore_request request = test_request(k, CREDSTORE_VERB_GET, &actor, NULL);
    const credstore_checkbook *view;
    credstore_secret *secret;
    credstore_actor granted = actor;
    credstore_error err;
    const credstore_answer *answer;

    CHECK_STATUS(CREDSTORE_E_FORKED,
                 credstore_checkbook_create(store, &call, NULL, &patch, &view, &err), &err);
    CHECK_STATUS(CREDSTORE_E_FORKED, credstore_checkbook_get(store, &call, from->id, &view, &err),
                 &err);
    CHECK(view == NULL);
    CHECK_STATUS(CREDSTORE_E_FORKED,
                 credstore_checkbook_update(store, &call, from->id, &patch, &view, &err), &err);
    CHECK_STATUS(CREDSTORE_E_FORKED,
                 credstore_checkbook_reveal(store, &call, from->id, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                            &secret, &err),
                 &err);
    CHECK(secret == NULL);
    CHECK_STATUS(CREDSTORE_E_FORKED, credstore_actor_grant(store, &granted, "users:read", &err),
                 &err);
    CHECK(credstore_permit(store, &actor, "users:read") == 0);
    answer = credstore_handle(store, &request);
    CHECK(answer->status == CREDSTORE_E_FORKED && answer->http_status == 500);
    credstore_answer_free(answer);
    credstore_close(store);
    return 0;
}

static void try_fork(const char *path)
{
    inherited from = {NULL, ""};
    credstore_error err;
    int status = 0;
    pid_t pid;

    assert_status(CREDSTORE_OK, open_it(path, CREDSTORE_OPEN_CREATE, &from.store, &err), &err);
    assert_status(CREDSTORE_OK, add(from.store, 1, from.id, &err), &err);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(as_child(&from));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(is_there(from.store, from.id, 1)); /* the parent's is as it was */
    assert_status(CREDSTORE_OK, add(from.store, 2, from.id, &err), &err);
    credstore_close(from.store);
}

static void test_forked(void **state)
{
    const place p = new_place();

    (void)state;
    try_fork(NULL);
    try_fork(p.path);
    test_folder_remove(p.folder);
}

/* ---- a newer format ---- */

static credstore_status raise_format(cs_txn *txn, void *arg, credstore_error *err)
{
    const uint8_t *by = arg;
    credstore_bytes value;
    cs_buf raised = {0};
    bool there = false;
    cs_key key;
    credstore_status status;

    cs_key_meta(&key, false);
    status = cs_txn_get(txn, &key, &value, &there, err);
    assert_true(there);
    cs_buf_add(&raised, value.ptr, value.len);
    raised.ptr[0] = (uint8_t)(raised.ptr[0] + *by);
    if (status == CREDSTORE_OK)
        status = cs_txn_put(txn, &key, &raised, err);
    cs_buf_free(&raised);
    return status;
}

static void test_newer_format(void **state)
{
    const place p = new_place();
    uint8_t by = 1;
    const cs_work work = {raise_format, &by, 0};
    credstore *store = NULL;
    credstore_error err = {0};
    char id[28];

    (void)state;
    found(&p, id);
    assert_status(CREDSTORE_OK, open_it(p.path, 0, &store, &err), &err);
    assert_status(CREDSTORE_OK, cs_txn_write(store, &work, &err), &err);
    for (uint32_t flags = 0; flags <= CREDSTORE_OPEN_READ_ONLY; flags++) {
        assert_refused(p.path, flags, CREDSTORE_E_FORMAT, NULL);
    }
    by = 255; /* back again: nothing else was touched */
    assert_status(CREDSTORE_OK, cs_txn_write(store, &work, &err), &err);
    credstore_close(store);
    assert_whole(&p, id);
    test_folder_remove(p.folder);
}

/* ---- options ---- */

static int64_t far_future(void *ctx)
{
    (void)ctx;
    return INT64_C(4000000000000);
}

static void test_option_sizes(void **state)
{
    const uint16_t starts[] = {
        offsetof(credstore_options, flags),
        offsetof(credstore_options, key),
        offsetof(credstore_options, storage),
        offsetof(credstore_options, storage_ctx),
        offsetof(credstore_options, crypto),
        offsetof(credstore_options, crypto_ctx),
        offsetof(credstore_options, catalogue),
        offsetof(credstore_options, catalogue_count),
        offsetof(credstore_options, base_url_allow),
        offsetof(credstore_options, base_url_allow_count),
        offsetof(credstore_options, now_ms),
        offsetof(credstore_options, now_ctx),
        offsetof(credstore_options, wait_ms),
        offsetof(credstore_options, policy),
        offsetof(credstore_options, policy_ctx),
        offsetof(credstore_options, event),
        offsetof(credstore_options, event_ctx),
        offsetof(credstore_options, anchor),
    };
    const credstore_options whole = {.struct_size = sizeof whole, .now_ms = far_future};

    (void)state;
    for (uint32_t size = 0; size <= sizeof whole + 16; size++)
        for (int tail = 0; tail < 2; tail++) {
            uint8_t *copy = malloc(size < 4 ? 4 : size);
            credstore_status expected = size < sizeof whole ? CREDSTORE_E_INVALID : CREDSTORE_OK;
            credstore *store = (void *)&store;
            credstore_error err;

            assert_non_null(copy);
            memset(copy, tail, size);
            memcpy(copy, &whole, size < sizeof whole ? size : sizeof whole);
            memcpy(copy, &size, sizeof size);
            for (size_t i = 0; i < LEN(starts); i++)
                if (size == starts[i])
                    expected = CREDSTORE_OK;
            if (size > sizeof whole && tail != 0)
                expected = CREDSTORE_E_UNSUPPORTED;
            assert_status(expected, credstore_open(NULL, (const void *)copy, &store, &err), &err);
            assert_true((expected == CREDSTORE_OK) == (store != NULL));
            credstore_close(store);
            free(copy);
        }
}

static const char *const hosts[] = {"a.example", NULL, "b c", ""};
static const credstore_permission bad_catalogues[][2] = {
    {{"a", "r", "x"}, {"a", "r", "y"}}, /* an id twice */
    {{NULL, "r", "x"}, {"b", "r", "x"}},  {{"a", NULL, "x"}, {"b", "r", "y"}},
    {{"a", "r", NULL}, {"b", "r", "y"}},  {{"", "r", "x"}, {"b", "r", "y"}},
    {{"a b", "r", "x"}, {"b", "r", "y"}}, {{"a", "r/", "x"}, {"b", "r", "y"}},
    {{"a", "r", "\n"}, {"b", "r", "y"}},
};

static void assert_options(const credstore_options *options, credstore_status expected,
                           const char *field)
{
    credstore *store = (void *)&store;
    credstore_error err;

    assert_status(expected, credstore_open(NULL, options, &store, &err), &err);
    assert_string_equal(err.field, field);
    assert_null(store);
}

static void test_bad_options(void **state)
{
    credstore_options o = {.struct_size = sizeof o};
    char long_id[66];
    credstore_permission *many = calloc(513, sizeof *many);
    char(*ids)[8] = calloc(513, sizeof *ids);
    const credstore_permission too_long = {long_id, "r", "x"};

    (void)state;
    assert_non_null(many);
    assert_non_null(ids);
    assert_options(NULL, CREDSTORE_E_INVALID, "options");
    assert_int_equal(credstore_open(NULL, &o, NULL, NULL), CREDSTORE_E_INVALID);
    o.flags = 16;
    assert_options(&o, CREDSTORE_E_UNSUPPORTED, "flags");
    o.flags = 0;
    o.wait_ms = -1;
    assert_options(&o, CREDSTORE_E_INVALID, "wait_ms");
    o.wait_ms = 0;
    o.catalogue_count = 1;
    assert_options(&o, CREDSTORE_E_INVALID, "catalogue");
    for (size_t i = 0; i < LEN(bad_catalogues); i++) {
        o.catalogue = bad_catalogues[i];
        o.catalogue_count = 2;
        assert_options(&o, CREDSTORE_E_INVALID, "catalogue");
    }
    memset(long_id, 'a', 65);
    long_id[65] = '\0';
    o.catalogue = &too_long;
    o.catalogue_count = 1;
    assert_options(&o, CREDSTORE_E_INVALID, "catalogue");
    for (size_t i = 0; i < 513; i++) {
        snprintf(ids[i], sizeof ids[i], "p%zu", i);
        many[i] = (credstore_permission){ids[i], "r", ids[i]};
    }
    o.catalogue = many;
    o.catalogue_count = 513;
    assert_options(&o, CREDSTORE_E_TOO_LARGE, "catalogue");
    o.catalogue = NULL;
    o.catalogue_count = 0;
    o.base_url_allow_count = 1;
    assert_options(&o, CREDSTORE_E_INVALID, "base_url_allow");
    for (size_t i = 1; i < LEN(hosts); i++) {
        o.base_url_allow = &hosts[i];
        assert_options(&o, CREDSTORE_E_INVALID, "base_url_allow");
    }
    free(many);
    free(ids);
}

static void test_whole_catalogue(void **state)
{
    credstore_options o = {.struct_size = sizeof o, .catalogue_count = 512};
    credstore_permission *many = calloc(512, sizeof *many);
    char(*ids)[8] = calloc(512, sizeof *ids);
    credstore_actor actor = test_actor(CREDSTORE_ACTOR_USER, 0, "a", "acme");
    credstore *store = NULL;
    credstore_error err;

    (void)state;
    assert_non_null(many);
    assert_non_null(ids);
    for (size_t i = 0; i < 512; i++) {
        snprintf(ids[i], sizeof ids[i], "p%zu", i);
        many[i] = (credstore_permission){ids[i], "r", ids[i]};
    }
    o.catalogue = many;
    assert_status(CREDSTORE_OK, credstore_open(NULL, &o, &store, &err), &err);
    for (size_t i = 0; i < 512; i++)
        test_grant(store, &actor, ids[i]);
    for (size_t i = 0; i < 8; i++)
        assert_true(actor.permissions[i] == UINT64_MAX);
    credstore_close(store);
    free(many);
    free(ids);
}

/* ---- a small address space ---- */

static bool is_checked(void) /* sanitizers and valgrind reserve more than any such limit */
{
    const char *variant = getenv("CREDSTORE_VARIANT");

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#endif
#endif
    return variant != NULL && strcmp(variant, "valgrind") == 0;
}

static int in_4_gib(const place *p)
{
    const struct rlimit limit = {(rlim_t)4 << 30, (rlim_t)4 << 30};
    credstore *store = NULL;
    credstore_error err;
    char ids[8][28];

    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    for (unsigned n = 0; n < 8; n++)
        CHECK_STATUS(CREDSTORE_OK, add(store, n, ids[n], &err), &err);
    credstore_close(store);
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, 0, &store, &err), &err);
    for (unsigned n = 0; n < 8; n++)
        CHECK(is_there(store, ids[n], n));
    credstore_close(store);
    return 0;
}

static void test_address_space(void **state)
{
    const place p = new_place();

    (void)state;
    if (is_checked())
        leave_out("RLIMIT_AS of 4 GiB is less than this checker itself reserves");
    assert_int_equal(in_child(in_4_gib, &p), 0);
    test_folder_remove(p.folder);
}

/* ---- a full disk ---- */

enum { RECORDS_MAX = 2000 };

typedef struct filled {
    char ids[RECORDS_MAX][28];
    unsigned count;
} filled;

/* Adds until there is no room; each addition is acknowledged or changes nothing. */
static int fill(credstore *store, filled *f)
{
    credstore_error err;
    credstore_status status = CREDSTORE_OK;
    uint64_t generation = test_generation(store);

    while (f->count < RECORDS_MAX) {
        status = add(store, f->count, f->ids[f->count], &err);
        if (status != CREDSTORE_OK)
            break;
        CHECK(test_generation(store) == ++generation);
        f->count++;
    }
    CHECK_STATUS(CREDSTORE_E_FULL, status, &err);
    CHECK(err.message[0] != '\0' && err.native != 0);
    CHECK(test_generation(store) == generation);
    return 0;
}

static int all_there(credstore *store, const filled *f)
{
    for (unsigned n = 0; n < f->count; n++)
        CHECK(is_there(store, f->ids[n], n));
    return 0;
}

/* By the door as well: 507. */
static int door_says_full(credstore *store)
{
    const test_kind *k = test_kind_of(CREDSTORE_KIND_SERVICE_CREDENTIAL);
    const credstore_actor root = test_root(store);
    credstore_request request = test_request(k, CREDSTORE_VERB_CREATE, &root, "{\"name\":\"n\"}");
    const credstore_answer *answer;
    uint32_t http = 201;

    request.id = test_slice(NULL);
    for (int i = 0; i < 200 && http == 201; i++) { /* the last free pages */
        answer = credstore_handle(store, &request);
        http = answer->http_status;
        credstore_answer_free(answer);
    }
    CHECK(http == 507);
    return 0;
}

static int whole_again(const place *p, credstore *store, filled *f)
{
    credstore_error err;

    CHECK(all_there(store, f) == 0);
    for (int i = 0; i < 3; i++, f->count++)
        CHECK_STATUS(CREDSTORE_OK, add(store, f->count, f->ids[f->count], &err), &err);
    credstore_close(store);
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, 0, &store, &err), &err);
    CHECK(all_there(store, f) == 0);
    credstore_close(store);
    return 0;
}

/* The limit of a file's size stands for a disk where no small one may be mounted. */
static int in_a_small_file(const place *p)
{
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    credstore *store = NULL;
    credstore_error err;
    filled *f = calloc(1, sizeof *f);
    int failed;

    CHECK(f != NULL && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    CHECK(fill(store, f) == 0);
    CHECK(f->count > 20);
    CHECK(door_says_full(store) == 0);
    CHECK(all_there(store, f) == 0);
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    failed = whole_again(p, store, f);
    free(f);
    return failed;
}

static void test_file_limit(void **state)
{
    const place p = new_place();

    (void)state;
    assert_int_equal(in_child(in_a_small_file, &p), 0);
    test_folder_remove(p.folder);
}

static int on_a_small_disk(const place *p)
{
    credstore *store = NULL;
    credstore_error err;
    filled *f = calloc(1, sizeof *f);
    int failed;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", p->folder, "tmpfs", 0, "size=1m,mode=0700") != 0)
        return CANNOT;
    CHECK(f != NULL);
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    CHECK(fill(store, f) == 0);
    CHECK(f->count > 20);
    CHECK(door_says_full(store) == 0);
    CHECK(all_there(store, f) == 0);
    credstore_close(store); /* and it opens on a full disk */
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, 0, &store, &err), &err);
    CHECK(all_there(store, f) == 0);
    CHECK(mount("tmpfs", p->folder, "tmpfs", MS_REMOUNT, "size=8m,mode=0700") == 0);
    failed = whole_again(p, store, f);
    free(f);
    return failed;
}

/* A disk that has no room for a store at all: nothing of one is left behind. */
static int on_a_tiny_disk(const place *p)
{
    credstore *store = NULL;
    credstore_error err;

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", p->folder, "tmpfs", 0, "size=8k,mode=0700") != 0)
        return CANNOT;
    CHECK_STATUS(CREDSTORE_E_FULL, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    CHECK(store == NULL);
    CHECK(mount("tmpfs", p->folder, "tmpfs", MS_REMOUNT, "size=8m,mode=0700") == 0);
    CHECK_STATUS(CREDSTORE_OK, open_it(p->path, CREDSTORE_OPEN_CREATE, &store, &err), &err);
    credstore_close(store);
    return 0;
}

static void on_disk(int (*run)(const place *))
{
    const place p = new_place();
    const int code = in_child(run, &p);

    test_folder_remove(p.folder);
    if (code == CANNOT)
        leave_out("no right to mount a small disk");
    assert_int_equal(code, 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    on_disk(on_a_small_disk);
}

static void test_tiny_disk(void **state)
{
    (void)state;
    on_disk(on_a_tiny_disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_keys),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_readable_by_others),
        cmocka_unit_test(test_not_writable),
        cmocka_unit_test(test_newer_format),
        cmocka_unit_test(test_forked),
        cmocka_unit_test(test_option_sizes),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_whole_catalogue),
        cmocka_unit_test(test_address_space),
        cmocka_unit_test(test_file_limit),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_tiny_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
