/* SPDX-License-Identifier: MIT
 *
 * What tests share: stores in memory and on disk, a clock, actors, a catalogue, and the four kinds
 * behind one signature, so that a test can be a table over kinds and engines.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "credstore.h"
#include "kind.h"
#include "quick.h"
#include "record.h"

/* ---- chance ---- */

/* CREDSTORE_SEED, or one of now; printed at the first call with the program's name. */
uint64_t test_seed(const char *program);
uint64_t test_random(uint64_t *state); /* splitmix64 */
/* A number from the environment, or `otherwise`. */
unsigned long test_number(const char *variable, unsigned long otherwise);

/* ---- folders ---- */

enum { TEST_PATH_MAX = 128 };
void test_folder(char out[TEST_PATH_MAX]); /* a new one, 0700 */
void test_folder_remove(const char *path); /* with all that is in it */

/* ---- stores ---- */

#define TEST_NOW INT64_C(1700000000000) /* 2023-11-14T22:13:20Z */

extern const uint8_t test_root_key[32];
extern const credstore_permission test_catalogue[];
extern const size_t test_catalogue_count;

typedef enum test_engine { TEST_MEMORY, TEST_LMDB, TEST_ENGINES } test_engine;
extern const char *const test_engine_names[TEST_ENGINES];

/* A store with a clock of its own, that stands still until the test moves it. Options may be
   changed before test_reopen(). */
typedef struct test_store {
    credstore *store;
    test_engine engine;
    _Atomic int64_t now;
    credstore_options options;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX]; /* LMDB: path is in folder */
} test_store;

void test_open(test_store *t, test_engine engine); /* at TEST_NOW; fails the test */
void test_close(test_store *t);                    /* and removes the folder */
/* Closes and opens again with t->options, and the test's root key if they have none: LMDB keeps
   its data. E_x with t->store NULL if refused.
 */
credstore_status test_reopen(test_store *t, credstore_error *err);

/* The same in one line, with the system's clock. open_lmdb() creates the store in `path`. */
credstore *open_memory(void);
credstore *open_lmdb(const char *path);

/* Commits since the store was made: stands still where nothing was written. */
uint64_t test_generation(credstore *store);

/* ---- who asks ---- */

credstore_actor test_actor(uint32_t type, uint32_t roles, const char *id, const char *tenant);
void test_grant(const credstore *store, credstore_actor *actor, const char *permission);
/* A USER, ADMIN and SUPER, of tenant "acme", who holds the whole catalogue: may do all that a
   person may. */
credstore_actor test_root(const credstore *store);
credstore_call test_call(const credstore_actor *actor); /* in the actor's own tenant */

/* ---- the four kinds behind one signature ---- */

typedef struct test_at { /* tenant and parent: service_credential only */
    const char *tenant, *parent, *id;
} test_at;

typedef struct test_kind {
    const cs_kind *kind;
    const char *id; /* of the record that test_make() makes */
    credstore_status (*create)(credstore *store, const credstore_call *call, const test_at *at,
                               const void *origin, const void *patch, const void **view,
                               credstore_error *err);
    credstore_status (*get)(credstore *store, const credstore_call *call, const test_at *at,
                            const void **view, credstore_error *err);
    credstore_status (*update)(credstore *store, const credstore_call *call, const test_at *at,
                               const void *patch, const void **view, credstore_error *err);
    credstore_status (*reveal)(credstore *store, const credstore_call *call, const test_at *at,
                               uint32_t field, credstore_secret **out, credstore_error *err);
} test_kind; /* reveal: NULL where the kind has none */

extern const test_kind test_kinds[];
extern const size_t test_kind_count;
const test_kind *test_kind_of(uint32_t kind);

#define TEST_TENANT "acme"
#define TEST_PARENT "sa-1"
test_at test_at_of(const test_kind *k); /* { TEST_TENANT, TEST_PARENT, k->id } */

/* A patch of any kind. Values are kept inside. */
typedef struct test_patch {
    union {
        uint64_t align;
        uint8_t bytes[CS_PATCH_MAX];
    } u;
    char text[CS_FIELDS_MAX][64];
    const char *items[8];
} test_patch;

void test_patch_begin(const test_kind *k, test_patch *patch); /* empty */
/* Sets field i (of kind->fields) to the nth of its lawful values; the same n is the same value. */
void test_patch_set(const test_kind *k, test_patch *patch, size_t i, unsigned n);
void test_patch_clear(const test_kind *k, test_patch *patch, size_t i);
bool test_in_patch(const cs_field *field); /* the typed patch has a slot for it */
void test_patch_whole(const test_kind *k, test_patch *patch, unsigned n); /* every field, nth */

/* Creates the record k->id with every field at its nth value; the view, for credstore_free(). */
const void *test_make(const test_store *t, const test_kind *k, const credstore_actor *actor,
                      unsigned n);
const void *test_get(const test_store *t, const test_kind *k, const credstore_actor *actor);

/* The text of field i at its nth value, as test_patch_set() makes it. */
void test_text(const cs_field *field, unsigned n, char *out, size_t size);
int64_t test_time(unsigned n);
/* Are the ath and the bth value of a field the same? 0 = null. */
bool test_same_value(const cs_field *field, unsigned a, unsigned b);

/* ---- views ---- */

/* Each field of the patch is at values[i]; 0 = null. */
void test_assert_shows(const test_kind *k, const void *view, const unsigned *values);
void test_assert_all(const test_kind *k, const void *view, unsigned n); /* each at n */

uint64_t test_revision(const test_kind *k, const void *view);
int64_t test_updated_at(const test_kind *k, const void *view);
/* Same document (without revision and updated_at unless `whole`), by the kind's own members. */
bool test_same_view(const test_kind *k, const void *a, const void *b, bool whole);

/* ---- the door ---- */

credstore_slice test_slice(const char *text); /* NULL = absent */
credstore_request test_request(const test_kind *k, uint32_t verb, const credstore_actor *actor,
                               const char *body);
/* A body of the kind with every field of its document at the nth value: malloc'ed. */
char *test_body(const test_kind *k, unsigned n);

/* ---- tables of tests ---- */

/* A fresh store, and what most tests of it need. kind is NULL where the table has no kinds. */
typedef struct test_world {
    test_store t;
    const test_kind *k;
    credstore_actor root; /* test_root() */
    credstore_call call;  /* by root */
    test_at at;
} test_world;

typedef struct test_row {
    const char *name;
    void (*run)(test_world *w);
} test_row;

/* Runs each row on each engine and, where kinds are given, with each of them: a cmocka group. */
int test_run(const char *group, const test_kind *kinds, size_t kind_count, const test_row *rows,
             size_t row_count);

#define assert_status(expected, got, err)                                                          \
    test_assert_status((expected), (got), (err), __FILE__, __LINE__)
void test_assert_status(credstore_status expected, credstore_status got, const credstore_error *err,
                        const char *file, int line);

#endif
