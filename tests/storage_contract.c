/* SPDX-License-Identifier: MIT
 *
 * The contract suite of the storage engines, run on the memory engine and on LMDB through their
 * tables alone. Needs no more of the library than the engines, mem.c and error.c. Its sink, and
 * what makes allocations fail, are put before the library's own by the linker:
 * -Wl,--wrap=credstore_sink_borrow,--wrap=credstore_sink_copy,--wrap=cs_alloc,--wrap=cs_free_wiped
 * Usage: storage_contract [engine]
 */
#define _XOPEN_SOURCE 700 /* nftw */

#include "storage_contract.h"

#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem.h"
#include "storage/engines.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
/* The bytes of a literal, zeros included. */
#define B(literal) cs_bytes((literal), sizeof(literal) - 1)
#define NONE       cs_bytes(NULL, 0)

enum {
    KEY_MAX = 511,
    VALUE_MAX = 200 * 1024,
    OK = CREDSTORE_STORAGE_OK,
    NOT_FOUND = CREDSTORE_STORAGE_NOT_FOUND,
    CONFLICT = CREDSTORE_STORAGE_CONFLICT,
    BUSY = CREDSTORE_STORAGE_BUSY,
    UNAVAILABLE = CREDSTORE_STORAGE_UNAVAILABLE,
    TOO_LARGE = CREDSTORE_STORAGE_TOO_LARGE,
    NO_MEMORY = CREDSTORE_STORAGE_NO_MEMORY,
    STOP = CREDSTORE_STORAGE_STOP
};

/* ---- the sink: keeps a copy of all that it is handed, and where borrowed bytes lie --------------
 */

typedef struct seen {
    uint8_t *copy; /* key, then value */
    size_t key_len, value_len;
    const void *key_at, *value_at; /* NULL if copied */
} seen;

struct credstore_sink {
    seen *pairs;
    size_t count, room;
    size_t answer_at; /* the call, counted from 1, that is told `answer`; 0 = none */
    int32_t answer;
};

static int32_t sink_note(credstore_sink *sink, credstore_bytes key, credstore_bytes value,
                         bool borrowed)
{
    seen *pair;

    if (sink->count == sink->room) {
        const size_t room = sink->room * 2 + 8;
        seen *pairs = realloc(sink->pairs, room * sizeof *pairs);

        if (pairs == NULL)
            return NO_MEMORY;
        sink->pairs = pairs;
        sink->room = room;
    }
    pair = &sink->pairs[sink->count];
    pair->copy = malloc(key.len + value.len + 1);
    if (pair->copy == NULL)
        return NO_MEMORY;
    if (key.len > 0)
        memcpy(pair->copy, key.ptr, key.len);
    if (value.len > 0)
        memcpy(pair->copy + key.len, value.ptr, value.len);
    pair->key_len = key.len;
    pair->value_len = value.len;
    pair->key_at = borrowed ? key.ptr : NULL;
    pair->value_at = borrowed ? value.ptr : NULL;
    sink->count++;
    return sink->count == sink->answer_at ? sink->answer : OK;
}

int32_t __wrap_credstore_sink_borrow(credstore_sink *sink, credstore_bytes key,
                                     credstore_bytes value);
int32_t __wrap_credstore_sink_copy(credstore_sink *sink, credstore_bytes key,
                                   credstore_bytes value);

int32_t __wrap_credstore_sink_borrow(credstore_sink *sink, credstore_bytes key,
                                     credstore_bytes value)
{
    return sink_note(sink, key, value, true);
}

int32_t __wrap_credstore_sink_copy(credstore_sink *sink, credstore_bytes key, credstore_bytes value)
{
    return sink_note(sink, key, value, false);
}

static void sink_clear(credstore_sink *sink)
{
    for (size_t i = 0; i < sink->count; i++)
        free(sink->pairs[i].copy);
    free(sink->pairs);
    memset(sink, 0, sizeof *sink);
}

static credstore_bytes seen_key(const seen *pair)
{
    return cs_bytes(pair->copy, pair->key_len);
}

static credstore_bytes seen_value(const seen *pair)
{
    return cs_bytes(pair->copy + pair->key_len, pair->value_len);
}

static bool unmoved(const void *at, credstore_bytes then)
{
    return at == NULL || then.len == 0 || memcmp(at, then.ptr, then.len) == 0;
}

/* What was borrowed still lies where it lay. */
static void expect_unmoved(const credstore_sink *sink)
{
    for (size_t i = 0; i < sink->count; i++) {
        assert_true(unmoved(sink->pairs[i].key_at, seen_key(&sink->pairs[i])));
        assert_true(unmoved(sink->pairs[i].value_at, seen_value(&sink->pairs[i])));
    }
}

/* ---- one test's map -----------------------------------------------------------------------------
 */

typedef struct env {
    const contract_engine *engine;
    const credstore_storage *s;
    void *ctx;
    char parent[256], folder[272];
} env;

static int set_up(void **state)
{
    const char *tmp = getenv("TMPDIR");
    env *e = calloc(1, sizeof *e);
    credstore_error err = {0};

    assert_non_null(e);
    e->engine = *state;
    e->s = e->engine->table;
    (void)snprintf(e->parent, sizeof e->parent, "%s/credstore-contract-XXXXXX",
                   tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(e->parent));
    (void)snprintf(e->folder, sizeof e->folder, "%s/store", e->parent);
    if (e->engine->open(e->folder, &e->ctx, &err) != CREDSTORE_OK)
        fail_msg("open: %s", err.message);
    *state = e;
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static int tear_down(void **state)
{
    env *e = *state;

    e->s->close(e->ctx);
    (void)nftw(e->parent, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(e);
    return 0;
}

static void reopen(env *e)
{
    credstore_error err = {0};

    e->s->close(e->ctx);
    if (e->engine->reopen(e->folder, &e->ctx, &err) != CREDSTORE_OK)
        fail_msg("reopen: %s", err.message);
}

static void skip_for(const char *why)
{
    print_message("skipped: %s\n", why);
    skip();
}

static bool reads_own_writes(const env *e)
{
    return (e->s->features & CREDSTORE_STORAGE_READ_OWN_WRITES) != 0;
}

/* Each answer of an engine passes here: 0 and what is outside the set are failures everywhere.
   STOP is a sink's word, not an engine's. */
static int32_t told(int32_t result)
{
    assert_in_range(result, OK, NO_MEMORY);
    return result;
}

static void *begin_write(env *e)
{
    void *txn = NULL;

    assert_int_equal(told(e->s->begin(e->ctx, 1, -1, &txn)), OK);
    assert_non_null(txn);
    return txn;
}

static void *begin_read(env *e)
{
    void *txn = NULL;

    assert_int_equal(told(e->s->begin(e->ctx, 0, 0, &txn)), OK);
    assert_non_null(txn);
    return txn;
}

static void put(env *e, void *txn, credstore_bytes key, credstore_bytes value)
{
    assert_int_equal(told(e->s->put(e->ctx, txn, key, value)), OK);
}

static void del(env *e, void *txn, credstore_bytes key)
{
    assert_int_equal(told(e->s->del(e->ctx, txn, key)), OK);
}

static void commit(env *e, void *txn)
{
    assert_int_equal(told(e->s->commit(e->ctx, txn)), OK);
}

static void stop(env *e, void *txn)
{
    e->s->abort(e->ctx, txn);
}

static void put_now(env *e, credstore_bytes key, credstore_bytes value)
{
    void *txn = begin_write(e);

    put(e, txn, key, value);
    commit(e, txn);
}

static void expect_bytes(credstore_bytes got, credstore_bytes want)
{
    assert_int_equal(got.len, want.len);
    if (want.len > 0)
        assert_memory_equal(got.ptr, want.ptr, want.len);
}

static void expect(env *e, void *txn, credstore_bytes key, credstore_bytes value)
{
    credstore_sink sink = {0};

    assert_int_equal(told(e->s->get(e->ctx, txn, key, &sink)), OK);
    assert_int_equal(sink.count, 1);
    expect_bytes(seen_key(&sink.pairs[0]), key);
    expect_bytes(seen_value(&sink.pairs[0]), value);
    sink_clear(&sink);
}

static void expect_absent(env *e, void *txn, credstore_bytes key)
{
    credstore_sink sink = {0};

    assert_int_equal(told(e->s->get(e->ctx, txn, key, &sink)), NOT_FOUND);
    assert_int_equal(sink.count, 0);
    sink_clear(&sink);
}

static void expect_count(env *e, void *txn, size_t count)
{
    credstore_sink sink = {0};

    assert_int_equal(told(e->s->scan(e->ctx, txn, NONE, NONE, 0, 0, &sink)), OK);
    assert_int_equal(sink.count, count);
    sink_clear(&sink);
}

static void expect_now(env *e, credstore_bytes key, credstore_bytes value)
{
    void *txn = begin_read(e);

    expect(e, txn, key, value);
    stop(e, txn);
}

static void expect_absent_now(env *e, credstore_bytes key)
{
    void *txn = begin_read(e);

    expect_absent(e, txn, key);
    stop(e, txn);
}

static void pause_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

    (void)nanosleep(&time, NULL);
}

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- the model: a sorted array, whose values are made from a seed -------------------------------
 */

enum { MODEL_ROOM = 512 };

typedef struct pair {
    size_t key_len, value_len;
    uint64_t value_seed;
    uint8_t key[KEY_MAX];
} pair;

typedef struct model {
    size_t count;
    pair pairs[MODEL_ROOM];
} model;

static uint64_t next_random(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15u; /* splitmix64 */

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(uint64_t *random, size_t limit)
{
    return (size_t)(next_random(random) % limit);
}

static credstore_bytes make_value(uint8_t *out, uint64_t seed, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (i % 64 == 0)
            seed = seed * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(seed >> 56 ^ i);
    }
    return cs_bytes(out, len);
}

static credstore_bytes model_key(const pair *p)
{
    return cs_bytes(p->key, p->key_len);
}

/* The order of backend.h, written down a second time. */
static int order(credstore_bytes a, credstore_bytes b)
{
    const uint8_t *x = a.ptr;
    const uint8_t *y = b.ptr;

    for (size_t i = 0; i < a.len && i < b.len; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

/* Where the key is, or belongs. */
static size_t model_place(const model *m, credstore_bytes key)
{
    size_t i = 0;

    while (i < m->count && order(model_key(&m->pairs[i]), key) < 0)
        i++;
    return i;
}

static bool model_has(const model *m, credstore_bytes key, size_t *at)
{
    *at = model_place(m, key);
    return *at < m->count && order(model_key(&m->pairs[*at]), key) == 0;
}

static void model_put(model *m, credstore_bytes key, uint64_t value_seed, size_t value_len)
{
    size_t at;

    if (!model_has(m, key, &at)) {
        assert_true(m->count < MODEL_ROOM);
        memmove(&m->pairs[at + 1], &m->pairs[at], (m->count - at) * sizeof *m->pairs);
        m->count++;
        m->pairs[at].key_len = key.len;
        memcpy(m->pairs[at].key, key.ptr, key.len);
    }
    m->pairs[at].value_seed = value_seed;
    m->pairs[at].value_len = value_len;
}

static bool model_del(model *m, credstore_bytes key)
{
    size_t at;

    if (!model_has(m, key, &at))
        return false;
    m->count--;
    memmove(&m->pairs[at], &m->pairs[at + 1], (m->count - at) * sizeof *m->pairs);
    return true;
}

static void expect_pair(const seen *got, const pair *want)
{
    static uint8_t value[VALUE_MAX];

    expect_bytes(seen_key(got), model_key(want));
    expect_bytes(seen_value(got), make_value(value, want->value_seed, want->value_len));
}

static void expect_as_model(env *e, void *txn, const model *m, credstore_bytes key)
{
    credstore_sink sink = {0};
    size_t at;

    if (!model_has(m, key, &at)) {
        expect_absent(e, txn, key);
        return;
    }
    assert_int_equal(told(e->s->get(e->ctx, txn, key, &sink)), OK);
    assert_int_equal(sink.count, 1);
    expect_pair(&sink.pairs[0], &m->pairs[at]);
    sink_clear(&sink);
}

static void expect_scan(env *e, void *txn, const model *m, credstore_bytes from, credstore_bytes to,
                        uint32_t reverse, uint32_t limit)
{
    const size_t first = model_place(m, from);
    const size_t end = to.len == 0 ? m->count : model_place(m, to);
    size_t count = first < end ? end - first : 0;
    credstore_sink sink = {0};

    if (limit != 0 && limit < count)
        count = limit;
    assert_int_equal(told(e->s->scan(e->ctx, txn, from, to, reverse, limit, &sink)), OK);
    assert_int_equal(sink.count, count);
    for (size_t i = 0; i < count; i++)
        expect_pair(&sink.pairs[i], &m->pairs[reverse != 0 ? end - 1 - i : first + i]);
    sink_clear(&sink);
}

/* ---- get, put, del ------------------------------------------------------------------------------
 */

static void table_is_whole(void **state)
{
    const env *e = *state;
    const credstore_storage *s = e->s;

    assert_true(s->struct_size >= sizeof *s);
    assert_int_equal(s->features & ~(uint32_t)CREDSTORE_STORAGE_READ_OWN_WRITES, 0);
    assert_non_null(s->name);
    assert_true(s->begin != NULL && s->get != NULL && s->scan != NULL && s->put != NULL);
    assert_true(s->del != NULL && s->commit != NULL && s->abort != NULL && s->close != NULL);
    if (s->native != NULL)
        (void)s->native(e->ctx);
}

static void empty_map_has_nothing(void **state)
{
    env *e = *state;
    void *txn = begin_read(e);

    expect_absent(e, txn, B("a"));
    expect_count(e, txn, 0);
    stop(e, txn);
    txn = begin_write(e);
    expect_absent(e, txn, B("a"));
    assert_int_equal(told(e->s->del(e->ctx, txn, B("a"))), NOT_FOUND);
    commit(e, txn);
}

static void put_inserts(void **state)
{
    env *e = *state;
    void *txn;

    put_now(e, B("key"), B("value"));
    txn = begin_read(e);
    expect(e, txn, B("key"), B("value"));
    expect_absent(e, txn, B("ke"));
    expect_absent(e, txn, B("key\0"));
    expect_absent(e, txn, B("kez"));
    expect_count(e, txn, 1);
    stop(e, txn);
}

static void put_replaces(void **state)
{
    static const char *const values[] = {"first", "a longer second", "3rd", "", "again"};
    env *e = *state;
    void *txn;

    for (size_t i = 0; i < COUNT(values); i++) {
        put_now(e, B("key"), cs_bytes_of(values[i]));
        expect_now(e, B("key"), cs_bytes_of(values[i]));
    }
    txn = begin_write(e);
    for (size_t i = 0; i < COUNT(values); i++)
        put(e, txn, B("key"), cs_bytes_of(values[i]));
    commit(e, txn);
    expect_now(e, B("key"), B("again"));
    txn = begin_read(e);
    expect_count(e, txn, 1);
    stop(e, txn);
}

static void put_copies_what_it_is_given(void **state)
{
    env *e = *state;
    char key[] = "key";
    char value[] = "value";
    void *txn = begin_write(e);

    put(e, txn, cs_bytes(key, 3), cs_bytes(value, 5));
    memset(key, 'x', 3);
    memset(value, 'x', 5);
    commit(e, txn);
    expect_now(e, B("key"), B("value"));
    expect_absent_now(e, B("xxx"));
}

static void put_takes_bytes_of_the_map_itself(void **state)
{
    env *e = *state;
    credstore_sink sink = {0};
    void *txn;

    put_now(e, B("now"), B("the first value"));
    txn = begin_write(e);
    assert_int_equal(told(e->s->get(e->ctx, txn, B("now"), &sink)), OK);
    put(e, txn, B("now"), B("another value..."));
    put(e, txn, B("then"),
        sink.pairs[0].value_at == NULL ? seen_value(&sink.pairs[0])
                                       : cs_bytes(sink.pairs[0].value_at, sink.pairs[0].value_len));
    commit(e, txn);
    expect_now(e, B("then"), B("the first value"));
    expect_now(e, B("now"), B("another value..."));
    sink_clear(&sink);
}

static void del_removes(void **state)
{
    env *e = *state;
    void *txn;

    put_now(e, B("a"), B("1"));
    put_now(e, B("b"), B("2"));
    txn = begin_write(e);
    del(e, txn, B("a"));
    commit(e, txn);
    expect_absent_now(e, B("a"));
    expect_now(e, B("b"), B("2"));
    put_now(e, B("a"), B("3"));
    expect_now(e, B("a"), B("3"));
}

static void del_not_found_leaves_the_transaction_usable(void **state)
{
    env *e = *state;
    void *txn = begin_write(e);

    put(e, txn, B("a"), B("1"));
    assert_int_equal(told(e->s->del(e->ctx, txn, B("b"))), NOT_FOUND);
    expect_absent(e, txn, B("c"));
    put(e, txn, B("c"), B("3"));
    commit(e, txn);
    expect_now(e, B("a"), B("1"));
    expect_now(e, B("c"), B("3"));
}

static void empty_values_are_values(void **state)
{
    env *e = *state;
    void *txn = begin_write(e);

    put(e, txn, B("null"), NONE);
    put(e, txn, B("void"), B(""));
    commit(e, txn);
    expect_now(e, B("null"), NONE);
    expect_now(e, B("void"), NONE);
    txn = begin_read(e);
    expect_count(e, txn, 2);
    stop(e, txn);
}

static void values_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0,     1,     2,      7,      255,           256,      1000,
                                   2000,  2038,  2039,   2040,   4080,          4095,     4096,
                                   4097,  8191,  8193,   16384,  32767,         32768,    65535,
                                   65536, 65537, 100000, 131072, VALUE_MAX - 1, VALUE_MAX};
    static uint8_t value[VALUE_MAX];
    env *e = *state;
    void *txn = begin_write(e);
    uint8_t key[2];

    for (size_t i = 0; i < COUNT(sizes); i++) {
        cs_put_u16(key, (uint16_t)i);
        put(e, txn, cs_bytes(key, 2), make_value(value, i, sizes[i]));
    }
    commit(e, txn);
    txn = begin_read(e);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        cs_put_u16(key, (uint16_t)i);
        expect(e, txn, cs_bytes(key, 2), make_value(value, i, sizes[i]));
    }
    stop(e, txn);
    for (size_t i = 0; i < COUNT(sizes); i++) { /* each shrinks or grows */
        cs_put_u16(key, (uint16_t)(i * 7 % COUNT(sizes)));
        put_now(e, cs_bytes(key, 2), make_value(value, i + 100, sizes[i]));
        expect_now(e, cs_bytes(key, 2), make_value(value, i + 100, sizes[i]));
    }
}

static void keys_of_1_to_511_bytes(void **state)
{
    static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 255, 256, 509, 510, KEY_MAX};
    env *e = *state;
    uint8_t key[KEY_MAX];
    void *txn = begin_write(e);

    memset(key, 'k', sizeof key);
    for (size_t i = 0; i < COUNT(lengths); i++)
        put(e, txn, cs_bytes(key, lengths[i]), cs_bytes(&lengths[i], sizeof lengths[i]));
    commit(e, txn);
    txn = begin_read(e);
    for (size_t i = 0; i < COUNT(lengths); i++)
        expect(e, txn, cs_bytes(key, lengths[i]), cs_bytes(&lengths[i], sizeof lengths[i]));
    expect_absent(e, txn, cs_bytes(key, 508));
    expect_count(e, txn, COUNT(lengths));
    stop(e, txn);
    txn = begin_write(e);
    for (size_t i = 0; i < COUNT(lengths); i++)
        del(e, txn, cs_bytes(key, lengths[i]));
    commit(e, txn);
    txn = begin_read(e);
    expect_count(e, txn, 0);
    stop(e, txn);
}

static void unfit_keys_are_refused(void **state)
{
    static const size_t lengths[] = {0, KEY_MAX + 1, 600, 5000, 70000};
    static const uint8_t key[70000];
    env *e = *state;

    put_now(e, B("there"), B("before"));
    for (size_t i = 0; i < COUNT(lengths); i++) {
        const credstore_bytes unfit = cs_bytes(key, lengths[i]);
        credstore_sink sink = {0};
        void *txn = begin_write(e);
        int32_t result = told(e->s->get(e->ctx, txn, unfit, &sink));

        assert_true(result == TOO_LARGE || result == NOT_FOUND);
        assert_int_equal(sink.count, 0);
        put(e, txn, B("with it"), B("gone"));
        put(e, txn, B("there"), B("gone"));
        assert_int_equal(told(e->s->put(e->ctx, txn, unfit, B("value"))), TOO_LARGE);
        stop(e, txn);

        txn = begin_write(e);
        result = told(e->s->del(e->ctx, txn, unfit));
        assert_true(result == TOO_LARGE || result == NOT_FOUND);
        stop(e, txn);
    }
    expect_now(e, B("there"), B("before"));
    expect_absent_now(e, B("with it"));
}

static void many_keys_in_and_out(void **state)
{
    enum { MANY = 3000 };
    env *e = *state;
    uint8_t key[4];
    void *txn = begin_write(e);

    for (uint32_t i = 0; i < MANY; i++) {
        cs_put_u32(key, i);
        put(e, txn, cs_bytes(key, 4), cs_bytes(key, 4));
    }
    commit(e, txn);
    txn = begin_write(e);
    for (uint32_t i = 0; i < MANY; i++) {
        cs_put_u32(key, i % 2 == 0 ? i : MANY - i);
        del(e, txn, cs_bytes(key, 4));
        if (i == MANY / 2 - 1) {
            commit(e, txn);
            txn = begin_read(e);
            expect_count(e, txn, MANY / 2);
            stop(e, txn);
            txn = begin_write(e);
        }
    }
    commit(e, txn);
    txn = begin_read(e);
    expect_count(e, txn, 0);
    stop(e, txn);
}

/* ---- scan ---------------------------------------------------------------------------------------
 */

/* Keys that meet at every edge of the order, and texts that lie between them. */
static void fill_edges(model *edges)
{
    static const char *const hex[] = {"00", "0000", "00ff", "61", "6100", "610000", "6162",  "62",
                                      "7f", "80",   "80ff", "ff", "ff00", "ffff",   "fffffe"};
    uint8_t key[KEY_MAX];

    edges->count = 0;
    for (size_t i = 0; i < COUNT(hex); i++) {
        size_t len = strlen(hex[i]) / 2;

        for (size_t j = 0; j < len; j++) {
            const char digits[] = {hex[i][2 * j], hex[i][2 * j + 1], 0};

            key[j] = (uint8_t)strtoul(digits, NULL, 16);
        }
        model_put(edges, cs_bytes(key, len), i, 3 * i);
    }
    memset(key, 'm', sizeof key);
    model_put(edges, cs_bytes(key, KEY_MAX - 1), 90, 10);
    model_put(edges, cs_bytes(key, KEY_MAX), 91, 10);
    key[KEY_MAX - 1] = 'n';
    model_put(edges, cs_bytes(key, KEY_MAX), 92, 10);
}

static model *put_edges(env *e)
{
    model *edges = malloc(sizeof *edges);
    uint8_t value[64];
    void *txn = begin_write(e);

    assert_non_null(edges);
    fill_edges(edges);
    assert_int_not_equal(edges->count % 7, 0);
    for (size_t i = 0; i < edges->count; i++) { /* each once, out of order */
        const pair *p = &edges->pairs[i * 7 % edges->count];

        put(e, txn, model_key(p), make_value(value, p->value_seed, p->value_len));
    }
    commit(e, txn);
    return edges;
}

static void keys_are_ordered_as_memcmp(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    credstore_sink sink = {0};
    void *txn = begin_read(e);

    assert_int_equal(told(e->s->scan(e->ctx, txn, NONE, NONE, 0, 0, &sink)), OK);
    assert_int_equal(sink.count, edges->count);
    for (size_t i = 1; i < sink.count; i++) {
        const credstore_bytes a = seen_key(&sink.pairs[i - 1]);
        const credstore_bytes b = seen_key(&sink.pairs[i]);
        const int by_bytes = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

        assert_true(by_bytes < 0 || (by_bytes == 0 && a.len < b.len));
    }
    stop(e, txn);
    sink_clear(&sink);
    free(edges);
}

/* Every pair of bounds, both directions, limits around the counts. */
static void scan_between(env *e, void *txn, const model *edges)
{
    static const uint32_t limits[] = {0, 1, 2, 7, 100, UINT32_MAX};
    uint8_t after_last_m[KEY_MAX + 1] = {0};
    credstore_bytes bounds[MODEL_ROOM] = {NONE,
                                          B("a\x01"),
                                          B("`"),
                                          B("c"),
                                          B("mm"),
                                          B("n"),
                                          B("\x01"),
                                          B("\xfe"),
                                          B("\xff\xff\xff"),
                                          cs_bytes(after_last_m, KEY_MAX + 1)};
    size_t count = 10;

    memset(after_last_m, 'm', KEY_MAX); /* the least text behind a key of 511 bytes */
    for (size_t i = 0; i < edges->count; i++)
        bounds[count++] = model_key(&edges->pairs[i]);
    for (size_t from = 0; from < count; from++)
        for (size_t to = 0; to < count; to++)
            for (size_t i = 0; i < COUNT(limits) * 2; i++)
                expect_scan(e, txn, edges, bounds[from], bounds[to], i % 2, limits[i / 2]);
}

static void scan_keeps_to_bounds_direction_and_limit(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    void *txn = begin_read(e);

    scan_between(e, txn, edges);
    stop(e, txn);
    free(edges);
}

static void scan_works_in_write_transactions(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    void *txn = begin_write(e);

    scan_between(e, txn, edges);
    stop(e, txn);
    free(edges);
}

static void scan_of_an_empty_map_is_ok(void **state)
{
    env *e = *state;
    model *nothing = calloc(1, sizeof *nothing);
    void *txn = begin_read(e);

    assert_non_null(nothing);
    for (uint32_t i = 0; i < 8; i++)
        expect_scan(e, txn, nothing, i & 1 ? B("a") : NONE, i & 2 ? B("b") : NONE, i >> 2, 0);
    stop(e, txn);
    free(nothing);
}

static void sink_stops_a_scan(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    void *txn = begin_read(e);

    for (uint32_t i = 0; i < 2 * edges->count; i++) {
        credstore_sink sink = {.answer_at = i / 2 + 1, .answer = STOP};

        assert_int_equal(told(e->s->scan(e->ctx, txn, NONE, NONE, i % 2, 0, &sink)), OK);
        assert_int_equal(sink.count, i / 2 + 1);
        sink_clear(&sink);
    }
    expect_count(e, txn, edges->count);
    stop(e, txn);
    free(edges);
}

static void sink_errors_pass_through(void **state)
{
    static const int32_t errors[] = {NOT_FOUND, CONFLICT, UNAVAILABLE, TOO_LARGE, NO_MEMORY};
    env *e = *state;
    model *edges = put_edges(e);

    for (size_t i = 0; i < COUNT(errors) * 4; i++) {
        credstore_sink in_scan = {.answer_at = 3, .answer = errors[i / 4]};
        credstore_sink in_get = {.answer_at = 1, .answer = errors[i / 4]};
        void *txn = i & 2 ? begin_write(e) : begin_read(e);

        assert_int_equal(told(e->s->scan(e->ctx, txn, NONE, NONE, i & 1, 0, &in_scan)),
                         errors[i / 4]);
        assert_int_equal(in_scan.count, 3);
        assert_int_equal(told(e->s->get(e->ctx, txn, B("a"), &in_get)), errors[i / 4]);
        assert_int_equal(in_get.count, 1);
        expect_count(e, txn, edges->count); /* the reading goes on */
        stop(e, txn);
        sink_clear(&in_scan);
        sink_clear(&in_get);
    }
    free(edges);
}

static void sink_stop_in_get_is_ok(void **state)
{
    env *e = *state;
    credstore_sink sink = {.answer_at = 1, .answer = STOP};
    void *txn;

    put_now(e, B("a"), B("1"));
    txn = begin_read(e);
    assert_int_equal(told(e->s->get(e->ctx, txn, B("a"), &sink)), OK);
    assert_int_equal(sink.count, 1);
    stop(e, txn);
    sink_clear(&sink);
}

/* ---- how long borrowed bytes last ---------------------------------------------------------------
 */

enum { LENT = 60, LENT_SIZE = 3000 };

static void put_lent(env *e, void *txn, uint32_t i, uint64_t seed)
{
    uint8_t value[LENT_SIZE];
    uint8_t key[4];

    cs_put_u32(key, i);
    put(e, txn, cs_bytes(key, 4), make_value(value, seed, i % 3 == 0 ? 100 : LENT_SIZE));
}

/* The keys asked for stay where they are too: the key that get hands over may be the caller's. */
static void lend(env *e, void *txn, credstore_sink *sink)
{
    static uint8_t keys[LENT][4];

    for (uint32_t i = 0; i < LENT; i++) {
        cs_put_u32(keys[i], i);
        assert_int_equal(told(e->s->get(e->ctx, txn, cs_bytes(keys[i], 4), sink)), OK);
    }
    assert_int_equal(told(e->s->scan(e->ctx, txn, NONE, NONE, 0, 0, sink)), OK);
    assert_int_equal(told(e->s->scan(e->ctx, txn, NONE, NONE, 1, 0, sink)), OK);
    assert_int_equal(sink->count, 3 * LENT);
}

/* Replaces, deletes and inserts what would take the place of freed bytes. */
static void churn(env *e, void *txn, uint64_t seed)
{
    uint8_t key[4];

    for (uint32_t i = 0; i < LENT; i++)
        put_lent(e, txn, i, seed);
    for (uint32_t i = 0; i < LENT; i += 2) {
        cs_put_u32(key, i);
        del(e, txn, cs_bytes(key, 4));
    }
    for (uint32_t i = 0; i < LENT; i++)
        put_lent(e, txn, 1000 + i, seed + 1);
}

static void borrowed_bytes_outlive_later_commits(void **state)
{
    env *e = *state;
    credstore_sink sink = {0};
    void *txn = begin_write(e);
    void *reader;

    for (uint32_t i = 0; i < LENT; i++)
        put_lent(e, txn, i, 1);
    commit(e, txn);
    reader = begin_read(e);
    lend(e, reader, &sink);
    for (uint64_t round = 0; round < 6; round++) {
        txn = begin_write(e);
        churn(e, txn, round * 10 + 5);
        commit(e, txn);
        expect_unmoved(&sink);
    }
    stop(e, reader);
    sink_clear(&sink);
}

static void borrowed_bytes_outlive_own_changes(void **state)
{
    env *e = *state;
    credstore_sink sink = {0};
    void *txn = begin_write(e);

    for (uint32_t i = 0; i < LENT; i++)
        put_lent(e, txn, i, 1);
    commit(e, txn);
    txn = begin_write(e);
    lend(e, txn, &sink);
    for (uint64_t round = 0; round < 4; round++) {
        churn(e, txn, round * 10 + 5);
        expect_unmoved(&sink);
    }
    stop(e, txn);
    sink_clear(&sink);
}

static void borrowed_own_writes_outlive_own_changes(void **state)
{
    env *e = *state;
    credstore_sink sink = {0};
    void *txn;

    if (!reads_own_writes(e))
        skip_for("the engine does not read its own writes");
    txn = begin_write(e);
    for (uint32_t i = 0; i < LENT; i++)
        put_lent(e, txn, i, 1);
    lend(e, txn, &sink);
    for (uint64_t round = 0; round < 4; round++) {
        churn(e, txn, round * 10 + 5);
        expect_unmoved(&sink);
    }
    commit(e, txn);
    sink_clear(&sink);
}

/* ---- transactions -------------------------------------------------------------------------------
 */

static void uncommitted_changes_are_not_seen(void **state)
{
    env *e = *state;
    void *txn;
    void *reader;

    put_now(e, B("a"), B("1"));
    put_now(e, B("b"), B("1"));
    txn = begin_write(e);
    put(e, txn, B("a"), B("2"));
    del(e, txn, B("b"));
    put(e, txn, B("c"), B("2"));
    reader = begin_read(e);
    expect(e, reader, B("a"), B("1"));
    expect(e, reader, B("b"), B("1"));
    expect_absent(e, reader, B("c"));
    commit(e, txn);
    expect(e, reader, B("a"), B("1")); /* nor afterwards, in a snapshot from before */
    expect_count(e, reader, 2);
    stop(e, reader);
}

static void readers_see_one_snapshot(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    void *before = begin_read(e);
    void *idle = begin_read(e); /* first looks when all is gone */
    void *after;
    void *txn = begin_write(e);

    expect_scan(e, before, edges, NONE, NONE, 0, 0);
    for (size_t i = 0; i < edges->count; i++)
        put(e, txn, model_key(&edges->pairs[i]), B("replaced"));
    put(e, txn, B("new"), B("inserted"));
    commit(e, txn);
    after = begin_read(e);
    txn = begin_write(e);
    for (size_t i = 0; i < edges->count; i++)
        del(e, txn, model_key(&edges->pairs[i]));
    commit(e, txn);

    expect_scan(e, before, edges, NONE, NONE, 0, 0);
    expect_scan(e, idle, edges, NONE, NONE, 1, 0);
    expect_absent(e, before, B("new"));
    for (size_t i = 0; i < edges->count; i++) {
        expect_as_model(e, before, edges, model_key(&edges->pairs[i]));
        expect(e, after, model_key(&edges->pairs[i]), B("replaced"));
        expect_absent_now(e, model_key(&edges->pairs[i]));
    }
    expect_count(e, after, edges->count + 1);
    stop(e, idle);
    stop(e, after);
    stop(e, before);
    expect_now(e, B("new"), B("inserted"));
    free(edges);
}

static void interleaved_readers_keep_apart(void **state)
{
    enum { READERS = 5 };
    env *e = *state;
    void *readers[READERS];
    uint8_t number[4];

    for (uint32_t i = 0; i < READERS; i++) {
        cs_put_u32(number, i);
        put_now(e, B("number"), cs_bytes(number, 4));
        put_now(e, cs_bytes(number, 4), B("here"));
        readers[i] = begin_read(e);
    }
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < READERS; i++) {
            cs_put_u32(number, i);
            expect(e, readers[i], B("number"), cs_bytes(number, 4));
            expect_count(e, readers[i], i + 2);
        }
    stop(e, readers[2]); /* ended out of turn: the others stay as they are */
    for (uint32_t i = 0; i < READERS; i++) {
        cs_put_u32(number, i);
        if (i != 2) {
            expect(e, readers[i], B("number"), cs_bytes(number, 4));
            commit(e, readers[i]);
        }
    }
}

static void commit_of_a_read_transaction_is_abort(void **state)
{
    env *e = *state;
    void *txn;

    put_now(e, B("a"), B("1"));
    for (int i = 0; i < 300; i++) { /* more than an engine has reader slots, if it lost them */
        txn = begin_read(e);
        expect(e, txn, B("a"), B("1"));
        if (i % 2 == 0)
            commit(e, txn);
        else
            stop(e, txn);
    }
    put_now(e, B("a"), B("2"));
    expect_now(e, B("a"), B("2"));
}

static void commit_without_changes_is_ok(void **state)
{
    env *e = *state;
    void *txn;

    put_now(e, B("a"), B("1"));
    txn = begin_write(e);
    commit(e, txn);
    txn = begin_write(e);
    expect(e, txn, B("a"), B("1"));
    commit(e, txn);
    expect_now(e, B("a"), B("1"));
}

static void abort_leaves_nothing(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    void *txn;

    for (int round = 0; round < 3; round++) {
        txn = begin_write(e);
        for (size_t i = 0; i < edges->count; i++) {
            if (i % 2 == 0)
                put(e, txn, model_key(&edges->pairs[i]), B("replaced"));
            else
                del(e, txn, model_key(&edges->pairs[i]));
        }
        put(e, txn, B("new"), B("inserted"));
        stop(e, txn);
        txn = begin_read(e);
        expect_scan(e, txn, edges, NONE, NONE, 0, 0);
        stop(e, txn);
    }
    free(edges);
}

static void write_transactions_read_what_was_committed(void **state)
{
    env *e = *state;
    void *txn;

    put_now(e, B("a"), B("1"));
    put_now(e, B("b"), B("2"));
    txn = begin_write(e);
    expect(e, txn, B("a"), B("1"));
    put(e, txn, B("a"), B("3"));
    expect(e, txn, B("b"), B("2"));
    expect_absent(e, txn, B("c"));
    commit(e, txn);
    expect_now(e, B("a"), B("3"));
}

static void own_writes_are_read_if_the_feature_says_so(void **state)
{
    env *e = *state;
    void *txn;

    if (!reads_own_writes(e))
        skip_for("the engine does not read its own writes");
    put_now(e, B("a"), B("1"));
    put_now(e, B("b"), B("1"));
    txn = begin_write(e);
    put(e, txn, B("a"), B("2"));
    expect(e, txn, B("a"), B("2"));
    put(e, txn, B("a"), NONE);
    expect(e, txn, B("a"), NONE);
    del(e, txn, B("b"));
    expect_absent(e, txn, B("b"));
    assert_int_equal(told(e->s->del(e->ctx, txn, B("b"))), NOT_FOUND);
    put(e, txn, B("c"), B("2"));
    expect(e, txn, B("c"), B("2"));
    del(e, txn, B("c"));
    expect_absent(e, txn, B("c"));
    put(e, txn, B("d"), B("2"));
    expect_count(e, txn, 2);
    commit(e, txn);
    expect_now(e, B("a"), NONE);
    expect_absent_now(e, B("b"));
    expect_absent_now(e, B("c"));
    expect_now(e, B("d"), B("2"));
}

static void committed_changes_outlive_close(void **state)
{
    env *e = *state;
    model *edges;
    void *txn;

    if (e->engine->reopen == NULL)
        skip_for("the memory engine keeps nothing beyond close");
    edges = put_edges(e);
    txn = begin_write(e);
    put(e, txn, B("aborted"), B("1"));
    stop(e, txn);
    for (int round = 0; round < 2; round++) {
        reopen(e);
        txn = begin_read(e);
        expect_scan(e, txn, edges, NONE, NONE, 0, 0);
        stop(e, txn);
    }
    txn = begin_write(e);
    for (size_t i = 0; i < edges->count; i++)
        del(e, txn, model_key(&edges->pairs[i]));
    put(e, txn, B("last"), B("1"));
    commit(e, txn);
    reopen(e);
    expect_now(e, B("last"), B("1"));
    txn = begin_read(e);
    expect_count(e, txn, 1);
    stop(e, txn);
    free(edges);
}

/* ---- threads: they only note what they saw, since cmocka's assertions belong to the main one ----
 */

typedef struct waiter {
    env *e;
    pthread_t thread;
    int64_t wait_ms, waited_us;
    atomic_bool *released;
    int32_t result;
    bool too_early;
} waiter;

static void *wait_for_turn(void *arg)
{
    waiter *w = arg;
    const int64_t start = now_us();
    void *txn = NULL;

    w->result = w->e->s->begin(w->e->ctx, 1, w->wait_ms, &txn);
    w->waited_us = now_us() - start;
    if (w->result == OK) {
        w->too_early = !atomic_load(w->released);
        w->e->s->abort(w->e->ctx, txn);
    }
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    assert_int_equal(pthread_create(thread, NULL, run, arg), 0);
}

static void join(pthread_t thread)
{
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void second_writer_is_told_busy(void **state)
{
    static const int64_t waits[] = {0, 1, 50, 120};
    env *e = *state;
    atomic_bool released = false;
    void *txn;

    if (e->engine->optimistic)
        skip_for("writers of an optimistic engine do not wait for each other");
    txn = begin_write(e);
    put(e, txn, B("a"), B("1"));
    for (size_t i = 0; i < COUNT(waits); i++) {
        waiter w = {.e = e, .wait_ms = waits[i], .released = &released};

        start(&w.thread, wait_for_turn, &w);
        join(w.thread);
        assert_int_equal(told(w.result), BUSY);
        assert_true(w.waited_us >= waits[i] * 1000);
    }
    commit(e, txn);
    expect_now(e, B("a"), B("1"));
}

static void second_writer_gets_its_turn(void **state)
{
    static const int64_t waits[] = {-1, 60000, -1, INT64_MAX};
    env *e = *state;

    if (e->engine->optimistic)
        skip_for("writers of an optimistic engine do not wait for each other");
    for (size_t i = 0; i < COUNT(waits); i++) {
        atomic_bool released = false;
        waiter w = {.e = e, .wait_ms = waits[i], .released = &released};
        void *txn = begin_write(e);

        put(e, txn, B("a"), B("1"));
        start(&w.thread, wait_for_turn, &w);
        pause_ms(40);
        atomic_store(&released, true);
        if (i % 2 == 0)
            commit(e, txn);
        else
            stop(e, txn);
        join(w.thread);
        assert_int_equal(told(w.result), OK);
        assert_false(w.too_early);
    }
}

static void readers_do_not_wait_for_the_writer(void **state)
{
    env *e = *state;
    void *txn = begin_write(e);

    put(e, txn, B("a"), B("1"));
    expect_absent_now(e, B("a")); /* would hang, or see it */
    commit(e, txn);
    expect_now(e, B("a"), B("1"));
}

static void turn_is_free_after_commit_and_abort(void **state)
{
    env *e = *state;

    for (int i = 0; i < 20; i++) {
        void *txn = NULL;

        assert_int_equal(told(e->s->begin(e->ctx, 1, 0, &txn)), OK);
        if (i % 3 != 0)
            put(e, txn, B("a"), B("1"));
        if (i % 2 == 0)
            commit(e, txn);
        else
            stop(e, txn);
    }
}

enum { COUNTERS = 8, INCREMENTS = 25 };

typedef struct counter {
    env *e;
    pthread_t thread;
    int32_t result;
} counter;

static int32_t increment(env *e)
{
    credstore_sink sink = {0};
    uint8_t number[4] = {0};
    void *txn = NULL;
    int32_t result = e->s->begin(e->ctx, 1, -1, &txn);

    if (result != OK)
        return result;
    result = e->s->get(e->ctx, txn, B("counter"), &sink);
    if (result == OK)
        memcpy(number, seen_value(&sink.pairs[0]).ptr, sizeof number);
    sink_clear(&sink);
    if (result == OK || result == NOT_FOUND) {
        cs_put_u32(number, cs_get_u32(number) + 1);
        result = e->s->put(e->ctx, txn, B("counter"), cs_bytes(number, 4));
    }
    if (result == OK)
        return e->s->commit(e->ctx, txn);
    e->s->abort(e->ctx, txn);
    return result;
}

static void *count_up(void *arg)
{
    counter *c = arg;

    for (int done = 0; done < INCREMENTS; done++) {
        do
            c->result = increment(c->e);
        while (c->result == CONFLICT && c->e->engine->optimistic);
        if (c->result != OK)
            break;
    }
    return NULL;
}

static void no_increment_is_lost(void **state)
{
    env *e = *state;
    counter counters[COUNTERS];
    uint8_t number[4];

    for (size_t i = 0; i < COUNTERS; i++) {
        counters[i] = (counter){.e = e};
        start(&counters[i].thread, count_up, &counters[i]);
    }
    for (size_t i = 0; i < COUNTERS; i++)
        join(counters[i].thread);
    for (size_t i = 0; i < COUNTERS; i++)
        assert_int_equal(told(counters[i].result), OK);
    cs_put_u32(number, COUNTERS * INCREMENTS);
    expect_now(e, B("counter"), cs_bytes(number, 4));
}

enum { TWINS = 40 };

typedef struct watcher {
    env *e;
    pthread_t thread;
    atomic_bool *done;
    int32_t result;
    uint32_t mixed, looks;
} watcher;

/* All values of one snapshot are equal, and there are TWINS of them. */
static bool is_mixed(const credstore_sink *sink)
{
    for (size_t i = 0; i < sink->count; i++)
        if (order(seen_value(&sink->pairs[i]), seen_value(&sink->pairs[0])) != 0)
            return true;
    return sink->count != 2 * TWINS;
}

static void *watch(void *arg)
{
    watcher *w = arg;
    bool last;

    do {
        credstore_sink sink = {0};
        void *txn = NULL;

        last = atomic_load(w->done);
        w->result = w->e->s->begin(w->e->ctx, 0, 0, &txn);
        if (w->result != OK)
            break;
        w->result = w->e->s->scan(w->e->ctx, txn, NONE, NONE, 0, 0, &sink);
        (void)sched_yield();
        if (w->result == OK)
            w->result = w->e->s->scan(w->e->ctx, txn, NONE, NONE, 1, 0, &sink);
        w->mixed += is_mixed(&sink);
        w->looks++;
        w->e->s->abort(w->e->ctx, txn);
        sink_clear(&sink);
    } while (!last && w->result == OK);
    return NULL;
}

static void put_twins(env *e, uint32_t number)
{
    uint8_t value[4];
    uint8_t key[4];
    void *txn = begin_write(e);

    cs_put_u32(value, number);
    for (uint32_t i = 0; i < TWINS; i++) { /* every other one moves */
        cs_put_u32(key, i * 2 + (i + number) % 2);
        put(e, txn, cs_bytes(key, 4), cs_bytes(value, 4));
        cs_put_u32(key, i * 2 + (i + number + 1) % 2);
        assert_int_not_equal(told(e->s->del(e->ctx, txn, cs_bytes(key, 4))), NO_MEMORY);
    }
    commit(e, txn);
}

static void readers_never_see_a_mix(void **state)
{
    enum { WATCHERS = 3, ROUNDS = 80 };
    env *e = *state;
    atomic_bool done = false;
    watcher watchers[WATCHERS];

    put_twins(e, 0);
    for (size_t i = 0; i < WATCHERS; i++) {
        watchers[i] = (watcher){.e = e, .done = &done};
        start(&watchers[i].thread, watch, &watchers[i]);
    }
    for (uint32_t i = 1; i <= ROUNDS; i++)
        put_twins(e, i);
    atomic_store(&done, true);
    for (size_t i = 0; i < WATCHERS; i++)
        join(watchers[i].thread);
    for (size_t i = 0; i < WATCHERS; i++) {
        assert_int_equal(told(watchers[i].result), OK);
        assert_int_equal(watchers[i].mixed, 0);
        assert_true(watchers[i].looks > 0);
    }
}

typedef struct victim {
    env *e;
    atomic_int step; /* 1 = inside, 2 = cancelled, 3 = committed */
    int32_t begun, put, committed;
} victim;

static void *write_while_cancelled(void *arg)
{
    victim *v = arg;
    void *txn = NULL;

    v->begun = v->e->s->begin(v->e->ctx, 1, -1, &txn);
    if (v->begun != OK)
        return NULL;
    atomic_store(&v->step, 1);
    while (atomic_load(&v->step) != 2)
        (void)sched_yield();
    pthread_testcancel();
    v->put = v->e->s->put(v->e->ctx, txn, B("victim"), B("wrote"));
    v->committed = v->e->s->commit(v->e->ctx, txn);
    atomic_store(&v->step, 3);
    pthread_testcancel();
    return NULL;
}

/* Cancelled as it waits for its turn, or when it has it. */
static void cancel_writer(env *e, bool waiting)
{
    victim v = {.e = e};
    pthread_t thread;
    void *left = NULL;
    void *txn = waiting ? begin_write(e) : NULL;

    start(&thread, write_while_cancelled, &v);
    if (waiting) {
        pause_ms(30);
        assert_int_equal(pthread_cancel(thread), 0);
        pause_ms(30);
        stop(e, txn);
    }
    while (atomic_load(&v.step) != 1)
        (void)sched_yield();
    if (!waiting)
        assert_int_equal(pthread_cancel(thread), 0);
    atomic_store(&v.step, 2);
    assert_int_equal(pthread_join(thread, &left), 0);
    assert_ptr_equal(left, PTHREAD_CANCELED); /* allowed again after the end */
    assert_int_equal(v.step, 3);
    assert_int_equal(told(v.put), OK);
    assert_int_equal(told(v.committed), OK);
    txn = NULL;
    assert_int_equal(told(e->s->begin(e->ctx, 1, 0, &txn)), OK);
    expect(e, txn, B("victim"), B("wrote"));
    del(e, txn, B("victim"));
    commit(e, txn);
}

static void cancelled_writers_leave_no_lock(void **state)
{
    env *e = *state;

    cancel_writer(e, false);
    if (!e->engine->optimistic)
        cancel_writer(e, true);
}

/* ---- the model test -----------------------------------------------------------------------------
 */

enum { RUN_READERS = 3, RUN_ROUNDS = 220, RUN_KEYS = 400 };

typedef struct run {
    env *e;
    uint64_t random;
    model *now, *next;
    void *readers[RUN_READERS];
    model *snapshots[RUN_READERS];
} run;

static uint64_t seed_of_run(void)
{
    const char *given = getenv("CREDSTORE_SEED");
    const uint64_t seed =
        given != NULL ? strtoull(given, NULL, 0) : (uint64_t)now_us() ^ (uint64_t)getpid() << 32;

    print_message("CREDSTORE_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Short keys of few letters collide often; one in eight is near the limit. */
static credstore_bytes random_key(run *r, uint8_t key[KEY_MAX])
{
    static const uint8_t letters[] = {0x00, 0x01, 'a', 'b', 0x7f, 0x80, 0xff};
    const bool is_long = below(&r->random, 8) == 0;
    const size_t len = is_long ? KEY_MAX - below(&r->random, 3) : 1 + below(&r->random, 3);

    memset(key, 'l', KEY_MAX);
    for (size_t i = 0; i < len && i < 3; i++)
        key[is_long && i > 0 ? len - i : i] = letters[below(&r->random, COUNT(letters))];
    return cs_bytes(key, len);
}

static size_t random_size(run *r)
{
    static const size_t limits[] = {1, 16, 200, 700, 3000, 3000, 20000};

    return below(&r->random, limits[below(&r->random, COUNT(limits))]);
}

static void run_change(run *r, void *txn)
{
    static uint8_t value[VALUE_MAX];
    uint8_t room[KEY_MAX];
    const credstore_bytes key = random_key(r, room);
    const size_t choice = below(&r->random, 10);

    if (choice < 5 && r->next->count < RUN_KEYS) {
        const uint64_t seed = next_random(&r->random);
        const size_t len = random_size(r);

        put(r->e, txn, key, make_value(value, seed, len));
        model_put(r->next, key, seed, len);
    } else if (choice < 8 || !reads_own_writes(r->e)) {
        const int32_t result = told(r->e->s->del(r->e->ctx, txn, key));
        const bool was_there = model_del(r->next, key);

        assert_true(result == OK || result == NOT_FOUND);
        if (reads_own_writes(r->e))
            assert_int_equal(result, was_there ? OK : NOT_FOUND);
    } else {
        expect_as_model(r->e, txn, r->next, key);
    }
}

static void run_scan(run *r, void *txn, const model *m)
{
    uint8_t a[KEY_MAX];
    uint8_t b[KEY_MAX];
    const size_t shape = below(&r->random, 8);
    const credstore_bytes from = shape == 0 ? NONE : random_key(r, a);
    const credstore_bytes to = shape <= 1 ? NONE : random_key(r, b);
    const uint32_t limit = (uint32_t)(shape % 2 == 0 ? 0 : below(&r->random, 9));

    expect_scan(r->e, txn, m, from, to, (uint32_t)below(&r->random, 2), limit);
}

static void run_writer(run *r)
{
    const size_t changes = below(&r->random, 30);
    void *txn = begin_write(r->e);

    *r->next = *r->now;
    run_scan(r, txn, r->next);
    for (size_t i = 0; i < changes; i++)
        run_change(r, txn);
    if (reads_own_writes(r->e))
        run_scan(r, txn, r->next);
    if (below(&r->random, 4) == 0) {
        stop(r->e, txn);
    } else {
        commit(r->e, txn);
        *r->now = *r->next;
    }
}

static void run_reader(run *r, size_t i)
{
    uint8_t key[KEY_MAX];

    if (r->readers[i] == NULL) {
        r->readers[i] = begin_read(r->e);
        *r->snapshots[i] = *r->now;
    }
    for (int n = 0; n < 4; n++)
        expect_as_model(r->e, r->readers[i], r->snapshots[i], random_key(r, key));
    run_scan(r, r->readers[i], r->snapshots[i]);
    if (below(&r->random, 6) == 0) {
        expect_scan(r->e, r->readers[i], r->snapshots[i], NONE, NONE, 0, 0);
        stop(r->e, r->readers[i]);
        r->readers[i] = NULL;
    }
}

static void run_reopen(run *r)
{
    void *txn;

    for (size_t i = 0; i < RUN_READERS; i++) {
        if (r->readers[i] != NULL)
            stop(r->e, r->readers[i]);
        r->readers[i] = NULL;
    }
    if (r->e->engine->reopen != NULL)
        reopen(r->e);
    txn = begin_read(r->e);
    expect_scan(r->e, txn, r->now, NONE, NONE, 0, 0);
    stop(r->e, txn);
}

static void random_changes_match_a_sorted_array(void **state)
{
    run r = {.e = *state, .random = seed_of_run()};
    model *models = calloc(RUN_READERS + 2, sizeof *models);

    assert_non_null(models);
    r.now = &models[0];
    r.next = &models[1];
    for (size_t i = 0; i < RUN_READERS; i++)
        r.snapshots[i] = &models[2 + i];
    for (int round = 0; round < RUN_ROUNDS; round++) {
        run_writer(&r);
        run_reader(&r, below(&r.random, RUN_READERS));
        if (round % 40 == 39)
            run_reopen(&r);
    }
    run_reopen(&r);
    free(models);
}

/* ---- the memory engine's own --------------------------------------------------------------------
 */

void *__real_cs_alloc(size_t count, size_t size);
void *__wrap_cs_alloc(size_t count, size_t size);
void __real_cs_free_wiped(void *ptr, size_t len);
void __wrap_cs_free_wiped(void *ptr, size_t len);

#define MARK "a value that must not stay behind in freed memory"

static atomic_long allocations;
static atomic_long fail_in; /* the allocation to refuse, counted from 1; 0 = none */
static atomic_long marks_wiped;

void *__wrap_cs_alloc(size_t count, size_t size)
{
    (void)atomic_fetch_add(&allocations, 1);
    if (atomic_load(&fail_in) > 0 && atomic_fetch_sub(&fail_in, 1) == 1)
        return NULL;
    return __real_cs_alloc(count, size);
}

void __wrap_cs_free_wiped(void *ptr, size_t len)
{
    const size_t mark = sizeof MARK - 1;

    if (ptr != NULL && len > mark && memcmp((uint8_t *)ptr + len - mark, MARK, mark) == 0)
        (void)atomic_fetch_add(&marks_wiped, 1);
    __real_cs_free_wiped(ptr, len);
}

static void memory_has_its_features(void **state)
{
    env *e = *state;
    void *txn = begin_write(e);

    assert_true(reads_own_writes(e));
    assert_string_equal(e->s->name, "memory");
    assert_int_equal(told(e->s->del(e->ctx, txn, NONE)), TOO_LARGE);
    stop(e, txn);
}

static void memory_refuses_changes_while_reading(void **state)
{
    env *e = *state;
    void *txn;

    put_now(e, B("a"), B("1"));
    txn = begin_read(e);
    assert_int_equal(told(e->s->put(e->ctx, txn, B("a"), B("2"))), UNAVAILABLE);
    assert_int_equal(told(e->s->del(e->ctx, txn, B("a"))), UNAVAILABLE);
    stop(e, txn);
    expect_now(e, B("a"), B("1"));
}

static void memory_refuses_all_but_abort_after_a_failed_put(void **state)
{
    env *e = *state;
    void *txn = begin_write(e);

    put(e, txn, B("a"), B("1"));
    assert_int_equal(told(e->s->put(e->ctx, txn, NONE, B("2"))), TOO_LARGE);
    assert_int_equal(told(e->s->put(e->ctx, txn, B("a"), B("2"))), TOO_LARGE);
    assert_int_equal(told(e->s->del(e->ctx, txn, B("a"))), TOO_LARGE);
    assert_int_equal(told(e->s->commit(e->ctx, txn)), TOO_LARGE);
    turn_is_free_after_commit_and_abort(state);
    txn = begin_write(e);
    del(e, txn, B("a"));
    commit(e, txn);
    expect_absent_now(e, B("b"));
}

/* True if all changes were made, false if memory was out first. */
static bool change_edges(env *e, void *txn, const model *edges)
{
    int32_t result = e->s->put(e->ctx, txn, B("new"), B("inserted"));

    for (size_t i = 0; i < edges->count && result == OK; i++) {
        const credstore_bytes key = model_key(&edges->pairs[i]);

        result =
            i % 2 == 0 ? e->s->put(e->ctx, txn, key, B("replaced")) : e->s->del(e->ctx, txn, key);
    }
    atomic_store(&fail_in, 0);
    assert_true(told(result) == OK || result == NO_MEMORY);
    return result == OK;
}

static void memory_out_of_memory_changes_nothing(void **state)
{
    env *e = *state;
    model *edges = put_edges(e);
    void *txn = NULL;
    void *reader;
    long refused = 0;

    for (;; refused++) {
        atomic_store(&fail_in, refused + 1);
        if (told(e->s->begin(e->ctx, 1, 0, &txn)) == OK) {
            if (change_edges(e, txn, edges))
                break;
            stop(e, txn);
        }
        reader = begin_read(e);
        expect_scan(e, reader, edges, NONE, NONE, 0, 0);
        stop(e, reader);
    }
    assert_true(refused > (long)edges->count); /* else the wrapping does not work */
    atomic_store(&fail_in, 1);
    commit(e, txn); /* needs no memory */
    atomic_store(&fail_in, 1);
    assert_int_equal(told(e->s->begin(e->ctx, 0, 0, &txn)), NO_MEMORY);
    expect_now(e, B("new"), B("inserted"));
    free(edges);
}

static void memory_new_says_when_memory_is_out(void **state)
{
    credstore_error err = {0};
    void *ctx = &err;

    (void)state;
    atomic_store(&fail_in, 1);
    assert_int_equal(cs_memory_new(&ctx, &err), CREDSTORE_E_NO_MEMORY);
    assert_null(ctx);
    assert_int_equal(err.status, CREDSTORE_E_NO_MEMORY);
    assert_string_not_equal(err.message, "");
    cs_storage_memory.close(NULL);
}

static void memory_wipes_values_on_free(void **state)
{
    env *e = *state;
    const long before = atomic_load(&marks_wiped);
    void *txn = begin_write(e);
    void *ctx = NULL;

    put(e, txn, B("a"), B(MARK));
    put(e, txn, B("a"), B(MARK)); /* 1: the first one */
    put(e, txn, B("b"), B(MARK));
    commit(e, txn);
    assert_int_equal(atomic_load(&marks_wiped) - before, 1);
    put_now(e, B("a"), B("other")); /* 2 */
    assert_int_equal(atomic_load(&marks_wiped) - before, 2);
    txn = begin_write(e);
    del(e, txn, B("b")); /* 3 */
    put(e, txn, B("c"), B(MARK));
    commit(e, txn);
    txn = begin_write(e);
    put(e, txn, B("d"), B(MARK)); /* 4 */
    stop(e, txn);
    assert_int_equal(atomic_load(&marks_wiped) - before, 4);
    assert_int_equal(cs_memory_new(&ctx, NULL), CREDSTORE_OK);
    e->s->close(e->ctx); /* 5 */
    e->ctx = ctx;
    assert_int_equal(atomic_load(&marks_wiped) - before, 5);
}

enum { FLAT_KEYS = 5000, FLAT_LEFT = 40 };

/* Keys in order, or from both ends to the middle: what would make an unbalanced tree as high as it
   has keys, by outer and by inner branches. */
static uint32_t flat_key(uint32_t i, bool inwards)
{
    if (!inwards)
        return i;
    return i % 2 == 0 ? i / 2 : FLAT_KEYS - 1 - i / 2;
}

/* The nodes that a change sets aside follow the height: three a level, and one level more. */
static void expect_flat(env *e, size_t height)
{
    const long before = atomic_load(&allocations);

    put_now(e, B("key"), NONE);
    assert_in_range(atomic_load(&allocations) - before, 3, 3 * (height + 1) + 2);
}

static void memory_tree_stays_flat(void **state)
{
    env *e = *state;
    uint8_t key[4];

    for (int inwards = 0; inwards < 2; inwards++) {
        void *txn = begin_write(e);

        for (uint32_t i = 0; i < FLAT_KEYS; i++) {
            cs_put_u32(key, flat_key(i, inwards != 0));
            put(e, txn, cs_bytes(key, 4), NONE);
        }
        commit(e, txn);
        expect_flat(e, 18); /* AVL: 1.45 log2(5001) = 17.8 */
        txn = begin_write(e);
        for (uint32_t i = 0; i < FLAT_KEYS - FLAT_LEFT; i++) {
            cs_put_u32(key, flat_key(i, inwards != 0));
            del(e, txn, cs_bytes(key, 4));
        }
        commit(e, txn);
        expect_flat(e, 8); /* 1.45 log2(42) = 7.8 */
    }
}

/* ---- the runs -----------------------------------------------------------------------------------
 */

#define CLAUSE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static const struct CMUnitTest clauses[] = {
    CLAUSE(table_is_whole),
    CLAUSE(empty_map_has_nothing),
    CLAUSE(put_inserts),
    CLAUSE(put_replaces),
    CLAUSE(put_copies_what_it_is_given),
    CLAUSE(put_takes_bytes_of_the_map_itself),
    CLAUSE(del_removes),
    CLAUSE(del_not_found_leaves_the_transaction_usable),
    CLAUSE(empty_values_are_values),
    CLAUSE(values_of_all_sizes),
    CLAUSE(keys_of_1_to_511_bytes),
    CLAUSE(unfit_keys_are_refused),
    CLAUSE(many_keys_in_and_out),
    CLAUSE(keys_are_ordered_as_memcmp),
    CLAUSE(scan_keeps_to_bounds_direction_and_limit),
    CLAUSE(scan_works_in_write_transactions),
    CLAUSE(scan_of_an_empty_map_is_ok),
    CLAUSE(sink_stops_a_scan),
    CLAUSE(sink_errors_pass_through),
    CLAUSE(sink_stop_in_get_is_ok),
    CLAUSE(borrowed_bytes_outlive_later_commits),
    CLAUSE(borrowed_bytes_outlive_own_changes),
    CLAUSE(borrowed_own_writes_outlive_own_changes),
    CLAUSE(uncommitted_changes_are_not_seen),
    CLAUSE(readers_see_one_snapshot),
    CLAUSE(interleaved_readers_keep_apart),
    CLAUSE(commit_of_a_read_transaction_is_abort),
    CLAUSE(commit_without_changes_is_ok),
    CLAUSE(abort_leaves_nothing),
    CLAUSE(write_transactions_read_what_was_committed),
    CLAUSE(own_writes_are_read_if_the_feature_says_so),
    CLAUSE(committed_changes_outlive_close),
    CLAUSE(second_writer_is_told_busy),
    CLAUSE(second_writer_gets_its_turn),
    CLAUSE(readers_do_not_wait_for_the_writer),
    CLAUSE(turn_is_free_after_commit_and_abort),
    CLAUSE(no_increment_is_lost),
    CLAUSE(readers_never_see_a_mix),
    CLAUSE(cancelled_writers_leave_no_lock),
    CLAUSE(random_changes_match_a_sorted_array),
};

static const struct CMUnitTest memory_only[] = {
    CLAUSE(memory_has_its_features),
    CLAUSE(memory_refuses_changes_while_reading),
    CLAUSE(memory_refuses_all_but_abort_after_a_failed_put),
    CLAUSE(memory_out_of_memory_changes_nothing),
    CLAUSE(memory_new_says_when_memory_is_out),
    CLAUSE(memory_wipes_values_on_free),
    CLAUSE(memory_tree_stays_flat),
};

/* cmocka hands initial_state, which is not const, to set_up, which only reads it. */
static void for_engine(struct CMUnitTest *tests, size_t count, const contract_engine *engine)
{
    for (size_t i = 0; i < count; i++)
        memcpy(&tests[i].initial_state, &engine, sizeof engine);
}

int storage_contract_run(const contract_engine *engine)
{
    struct CMUnitTest tests[COUNT(clauses)];

    memcpy(tests, clauses, sizeof tests);
    for_engine(tests, COUNT(tests), engine);
    return cmocka_run_group_tests_name(engine->name, tests, NULL, NULL);
}

static int memory_only_run(const contract_engine *engine)
{
    struct CMUnitTest tests[COUNT(memory_only)];

    memcpy(tests, memory_only, sizeof tests);
    for_engine(tests, COUNT(tests), engine);
    return cmocka_run_group_tests_name("memory only", tests, NULL, NULL);
}

static credstore_status open_memory(const char *folder, void **ctx, credstore_error *err)
{
    (void)folder;
    return cs_memory_new(ctx, err);
}

static credstore_status open_lmdb(const char *folder, void **ctx, credstore_error *err)
{
    return cs_lmdb_open(folder, CREDSTORE_OPEN_CREATE, ctx, err);
}

static credstore_status reopen_lmdb(const char *folder, void **ctx, credstore_error *err)
{
    return cs_lmdb_open(folder, 0, ctx, err);
}

int main(int argc, char **argv)
{
    static const contract_engine engines[] = {
        {"memory", &cs_storage_memory, open_memory, NULL, false},
        {"lmdb", &cs_storage_lmdb, open_lmdb, reopen_lmdb, false},
    };
    bool failed = false;

    (void)alarm(900); /* a lost turn hangs: let it be a failure */
    for (size_t i = 0; i < COUNT(engines); i++)
        if (argc < 2 || strcmp(argv[1], engines[i].name) == 0)
            failed |= storage_contract_run(&engines[i]) != 0;
    if (argc < 2 || strcmp(argv[1], engines[0].name) == 0)
        failed |= memory_only_run(&engines[0]) != 0;
    return failed;
}
