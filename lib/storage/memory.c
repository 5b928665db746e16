/* SPDX-License-Identifier: MIT
 *
 * The memory engine: a balanced tree (AVL) whose nodes never change once made. A writer makes new
 * nodes along the path that it changes and shares the rest, so a root is a snapshot, and a commit
 * is the exchange of one pointer. Nodes and items are counted: the last snapshot to let go frees.
 */
#include "storage/engines.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"

enum { KEY_MAX = 511, NODES_PER_LEVEL = 3 /* a path copy with a double rotation */ };

/* A pair, unchanged from put to free. */
typedef struct item {
    atomic_size_t refs;
    struct item *next; /* in the list of the transaction that made it */
    size_t key_len, value_len;
    uint8_t bytes[]; /* key, then value */
} item;

typedef struct node {
    atomic_size_t refs; /* parents, roots and transactions */
    item *pair;
    struct node *child[2]; /* smaller keys, greater keys */
    size_t height;
} node;

typedef struct memory {
    pthread_mutex_t lock; /* guards root, entries, writing; held for a few instructions only */
    pthread_cond_t writer_left;
    node *root;
    size_t entries;
    bool writing;
    pid_t maker;
} memory;

typedef struct txn {
    node *root;
    size_t entries;
    bool write;
    int cancel_state; /* of the writer's thread, to be put back */
    int32_t failed;   /* what a put or del answered that left only abort; 0 = none */
    node *spares;     /* linked by child[0]: what the next change may use up */
    size_t spare_count;
    item *made; /* each held until the end, for those who borrowed it */
} txn;

static credstore_bytes key_of(const item *pair)
{
    return cs_bytes(pair->bytes, pair->key_len);
}

static credstore_bytes value_of(const item *pair)
{
    return cs_bytes(pair->bytes + pair->key_len, pair->value_len);
}

static bool last_ref(atomic_size_t *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static node *node_ref(node *tree)
{
    if (tree != NULL)
        (void)atomic_fetch_add_explicit(&tree->refs, 1, memory_order_relaxed);
    return tree;
}

static void item_unref(item *pair)
{
    if (last_ref(&pair->refs))
        cs_free_wiped(pair, sizeof *pair + pair->key_len + pair->value_len);
}

/* Recursion here and below is as deep as the tree is high: under 1.45 log2 of its size. */
static void node_unref(node *tree)
{
    if (tree == NULL || !last_ref(&tree->refs))
        return;
    item_unref(tree->pair);
    node_unref(tree->child[0]);
    node_unref(tree->child[1]);
    cs_free(tree);
}

static size_t height_of(const node *tree)
{
    return tree == NULL ? 0 : tree->height;
}

static bool reserve(txn *t)
{
    const size_t need = NODES_PER_LEVEL * (height_of(t->root) + 1);

    for (; t->spare_count < need; t->spare_count++) {
        node *spare = cs_alloc(1, sizeof *spare);

        if (spare == NULL)
            return false;
        spare->child[0] = t->spares;
        t->spares = spare;
    }
    return true;
}

/* A node from the spares, which reserve() made enough of: changing a tree cannot fail halfway.
   Takes over the references `near` (the child on `side`) and `far`. */
static node *node_make(txn *t, item *pair, int side, node *near, node *far)
{
    node *made = t->spares;
    const size_t a = height_of(near);
    const size_t b = height_of(far);

    t->spares = made->child[0];
    t->spare_count--;
    atomic_init(&made->refs, 1);
    (void)atomic_fetch_add_explicit(&pair->refs, 1, memory_order_relaxed);
    made->pair = pair;
    made->child[side] = near;
    made->child[!side] = far;
    made->height = (a > b ? a : b) + 1;
    return made;
}

/* The same for two trees whose heights may differ by two: rotates where they do. */
static node *node_join(txn *t, item *pair, int side, node *near, node *far)
{
    node *outer;
    node *inner;
    node *joined;

    if (height_of(near) < height_of(far))
        return node_join(t, pair, !side, far, near);
    if (height_of(near) <= height_of(far) + 1)
        return node_make(t, pair, side, near, far);

    outer = near->child[side];
    inner = near->child[!side];
    if (height_of(outer) >= height_of(inner)) {
        joined = node_make(t, pair, side, node_ref(inner), far);
        joined = node_make(t, near->pair, side, node_ref(outer), joined);
    } else {
        node *low = node_make(t, near->pair, side, node_ref(outer), node_ref(inner->child[side]));

        joined = node_make(t, pair, side, node_ref(inner->child[!side]), far);
        joined = node_make(t, inner->pair, side, low, joined);
    }
    node_unref(near);
    return joined;
}

static node *with(txn *t, const node *tree, item *pair)
{
    int order;
    int side;

    if (tree == NULL)
        return node_make(t, pair, 0, NULL, NULL);
    order = cs_bytes_compare(key_of(pair), key_of(tree->pair));
    side = order > 0;
    if (order == 0)
        return node_make(t, pair, 0, node_ref(tree->child[0]), node_ref(tree->child[1]));
    return node_join(t, tree->pair, side, with(t, tree->child[side], pair),
                     node_ref(tree->child[!side]));
}

/* The key is in the tree. */
static node *without(txn *t, const node *tree, credstore_bytes key)
{
    const int order = cs_bytes_compare(key, key_of(tree->pair));
    const int side = order > 0;
    const node *next = tree->child[1];

    if (order != 0)
        return node_join(t, tree->pair, side, without(t, tree->child[side], key),
                         node_ref(tree->child[!side]));
    if (tree->child[0] == NULL || tree->child[1] == NULL)
        return node_ref(tree->child[tree->child[0] == NULL]);
    while (next->child[0] != NULL)
        next = next->child[0];
    return node_join(t, next->pair, 1, without(t, tree->child[1], key_of(next->pair)),
                     node_ref(tree->child[0]));
}

static const item *find(const node *tree, credstore_bytes key)
{
    while (tree != NULL) {
        const int order = cs_bytes_compare(key, key_of(tree->pair));

        if (order == 0)
            return tree->pair;
        tree = tree->child[order > 0];
    }
    return NULL;
}

static item *item_make(txn *t, credstore_bytes key, credstore_bytes value)
{
    size_t size;
    item *pair = NULL;

    if (cs_add(sizeof *pair + key.len, value.len, &size))
        pair = cs_alloc(1, size);
    if (pair == NULL)
        return NULL;
    atomic_init(&pair->refs, 1);
    pair->key_len = key.len;
    pair->value_len = value.len;
    memcpy(pair->bytes, key.ptr, key.len);
    if (value.len > 0)
        memcpy(pair->bytes + key.len, value.ptr, value.len);
    pair->next = t->made;
    t->made = pair;
    return pair;
}

/* ---- transactions ------------------------------------------------------------------------------
 */

static struct timespec deadline_after(int64_t wait_ms)
{
    struct timespec at = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(wait_ms / 1000);
    at.tv_nsec += (long)(wait_ms % 1000) * 1000000L;
    if (at.tv_nsec >= 1000000000L) {
        at.tv_nsec -= 1000000000L;
        at.tv_sec++;
    }
    return at;
}

/* Waits for the writer's turn, with the lock held. Who times out looks once more: the wake-up may
   have been meant for him. */
static bool take_turn(memory *m, int64_t wait_ms)
{
    const struct timespec deadline = deadline_after(wait_ms < 0 ? 0 : wait_ms);
    int rc = 0;

    while (m->writing && rc == 0)
        rc = wait_ms < 0 ? pthread_cond_wait(&m->writer_left, &m->lock)
                         : pthread_cond_timedwait(&m->writer_left, &m->lock, &deadline);
    if (m->writing)
        return false;
    m->writing = true;
    return true;
}

static void allow_cancel(int as_before)
{
    int ignored;

    (void)pthread_setcancelstate(as_before, &ignored);
}

static int32_t memory_begin(void *ctx, uint32_t write, int64_t wait_ms, void **out)
{
    memory *m = ctx;
    txn *t = cs_alloc(1, sizeof *t);
    bool begun;

    *out = NULL;
    if (t == NULL)
        return CREDSTORE_STORAGE_NO_MEMORY;
    t->write = write != 0;
    if (t->write) /* a writer cancelled midway would keep its turn for ever */
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &t->cancel_state);

    (void)pthread_mutex_lock(&m->lock);
    begun = !t->write || take_turn(m, wait_ms);
    if (begun) {
        t->root = node_ref(m->root);
        t->entries = m->entries;
    }
    (void)pthread_mutex_unlock(&m->lock);

    if (!begun) {
        allow_cancel(t->cancel_state);
        cs_free(t);
        return CREDSTORE_STORAGE_BUSY;
    }
    *out = t;
    return CREDSTORE_STORAGE_OK;
}

/* Releases `unused`, a root that nobody will begin on again, and all else that the transaction
   holds, outside the lock: it may be much. */
static void txn_free(txn *t, node *unused)
{
    const int cancel_state = t->cancel_state;
    const bool write = t->write;

    node_unref(unused);
    while (t->made != NULL) {
        item *pair = t->made;

        t->made = pair->next;
        item_unref(pair);
    }
    while (t->spares != NULL) {
        node *spare = t->spares;

        t->spares = spare->child[0];
        cs_free(spare);
    }
    cs_free(t);
    if (write)
        allow_cancel(cancel_state);
}

/* Ends the transaction with `root` as the map; returns the root that it replaces. */
static node *leave(memory *m, node *root, size_t entries)
{
    node *old;

    (void)pthread_mutex_lock(&m->lock);
    old = m->root;
    m->root = root;
    m->entries = entries;
    m->writing = false;
    (void)pthread_cond_signal(&m->writer_left);
    (void)pthread_mutex_unlock(&m->lock);
    return old;
}

static void memory_abort(void *ctx, void *transaction)
{
    memory *m = ctx;
    txn *t = transaction;

    if (t->write) /* no lock needed to read the root: none but this writer may change it */
        (void)leave(m, m->root, m->entries);
    txn_free(t, t->root);
}

static int32_t memory_commit(void *ctx, void *transaction)
{
    txn *t = transaction;
    const int32_t failed = t->failed;

    if (!t->write || failed != 0) {
        memory_abort(ctx, t);
        return failed != 0 ? failed : CREDSTORE_STORAGE_OK;
    }
    txn_free(t, leave(ctx, t->root, t->entries));
    return CREDSTORE_STORAGE_OK;
}

/* ---- reading and writing -----------------------------------------------------------------------
 */

static bool fits(credstore_bytes key)
{
    return key.len > 0 && key.len <= KEY_MAX;
}

static int32_t stop_is_ok(int32_t result)
{
    return result == CREDSTORE_STORAGE_STOP ? CREDSTORE_STORAGE_OK : result;
}

static int32_t memory_get(void *ctx, void *transaction, credstore_bytes key, credstore_sink *out)
{
    const txn *t = transaction;
    const item *pair;

    (void)ctx;
    if (!fits(key))
        return CREDSTORE_STORAGE_TOO_LARGE;
    pair = find(t->root, key);
    if (pair == NULL)
        return CREDSTORE_STORAGE_NOT_FOUND;
    return stop_is_ok(credstore_sink_borrow(out, key_of(pair), value_of(pair)));
}

typedef struct walk {
    credstore_bytes from, to;
    int first; /* the child to begin with: 0 ascending, 1 descending */
    uint32_t limit, seen;
    credstore_sink *out;
} walk;

static int32_t visit(walk *w, const item *pair)
{
    const int32_t result = credstore_sink_borrow(w->out, key_of(pair), value_of(pair));

    w->seen++;
    if (result == CREDSTORE_STORAGE_OK && w->limit != 0 && w->seen == w->limit)
        return CREDSTORE_STORAGE_STOP;
    return result;
}

static int32_t walk_tree(walk *w, const node *tree)
{
    bool inside[2]; /* not below the range, not beyond it */
    int32_t result = CREDSTORE_STORAGE_OK;

    if (tree == NULL)
        return result;
    inside[0] = cs_bytes_compare(key_of(tree->pair), w->from) >= 0;
    inside[1] = w->to.len == 0 || cs_bytes_compare(key_of(tree->pair), w->to) < 0;
    if (inside[w->first])
        result = walk_tree(w, tree->child[w->first]);
    if (result == CREDSTORE_STORAGE_OK && inside[0] && inside[1])
        result = visit(w, tree->pair);
    if (result == CREDSTORE_STORAGE_OK && inside[!w->first])
        result = walk_tree(w, tree->child[!w->first]);
    return result;
}

static int32_t memory_scan(void *ctx, void *transaction, credstore_bytes from, credstore_bytes to,
                           uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    const txn *t = transaction;
    walk w = {from, to, reverse != 0, limit, 0, out};

    (void)ctx;
    return stop_is_ok(walk_tree(&w, t->root));
}

/* What a change must be refused for before it is tried. */
static int32_t refusal(const txn *t, credstore_bytes key)
{
    if (t->failed != 0)
        return t->failed;
    if (!t->write)
        return CREDSTORE_STORAGE_UNAVAILABLE;
    return fits(key) ? CREDSTORE_STORAGE_OK : CREDSTORE_STORAGE_TOO_LARGE;
}

static int32_t only_abort(txn *t, int32_t result)
{
    t->failed = result;
    return result;
}

static void replace_root(txn *t, node *root)
{
    node_unref(t->root);
    t->root = root;
}

static int32_t memory_put(void *ctx, void *transaction, credstore_bytes key, credstore_bytes value)
{
    txn *t = transaction;
    const int32_t refused = refusal(t, key);
    item *pair;

    (void)ctx;
    if (refused != CREDSTORE_STORAGE_OK)
        return only_abort(t, refused);
    pair = reserve(t) ? item_make(t, key, value) : NULL;
    if (pair == NULL)
        return only_abort(t, CREDSTORE_STORAGE_NO_MEMORY);
    t->entries += find(t->root, key) == NULL;
    replace_root(t, with(t, t->root, pair));
    return CREDSTORE_STORAGE_OK;
}

static int32_t memory_del(void *ctx, void *transaction, credstore_bytes key)
{
    txn *t = transaction;
    const int32_t refused = refusal(t, key);

    (void)ctx;
    if (refused != CREDSTORE_STORAGE_OK)
        return only_abort(t, refused);
    if (find(t->root, key) == NULL)
        return CREDSTORE_STORAGE_NOT_FOUND;
    if (!reserve(t))
        return only_abort(t, CREDSTORE_STORAGE_NO_MEMORY);
    t->entries--;
    replace_root(t, without(t, t->root, key));
    return CREDSTORE_STORAGE_OK;
}

/* There is no file, no map, and no end to readers. */
static int32_t memory_stat(void *ctx, credstore_storage_stat *out)
{
    memory *m = ctx;

    (void)pthread_mutex_lock(&m->lock);
    out->entries = m->entries;
    (void)pthread_mutex_unlock(&m->lock);
    return CREDSTORE_STORAGE_OK;
}

static void memory_close(void *ctx)
{
    memory *m = ctx;

    if (m == NULL)
        return;
    node_unref(m->root);
    if (m->maker == getpid()) { /* else threads that were not forked may wait in it, for ever */
        (void)pthread_cond_destroy(&m->writer_left);
        (void)pthread_mutex_destroy(&m->lock);
    }
    cs_free(m);
}

const credstore_storage cs_storage_memory = {
    .struct_size = sizeof(credstore_storage),
    .features = CREDSTORE_STORAGE_READ_OWN_WRITES,
    .name = "memory",
    .begin = memory_begin,
    .get = memory_get,
    .scan = memory_scan,
    .put = memory_put,
    .del = memory_del,
    .commit = memory_commit,
    .abort = memory_abort,
    .close = memory_close,
    .stat = memory_stat,
};

static int init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    int rc = pthread_condattr_init(&attributes);

    if (rc != 0)
        return rc;
    rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return rc;
}

static int init_locks(memory *m)
{
    int rc = init_cond(&m->writer_left);

    if (rc != 0)
        return rc;
    rc = pthread_mutex_init(&m->lock, NULL);
    if (rc != 0)
        (void)pthread_cond_destroy(&m->writer_left);
    return rc;
}

credstore_status cs_memory_new(void **ctx, credstore_error *err)
{
    memory *m = cs_alloc(1, sizeof *m);
    int rc;

    *ctx = NULL;
    if (m == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "no memory for the memory engine");
    rc = init_locks(m);
    if (rc != 0) {
        cs_free(m);
        return cs_fail_native(err, CREDSTORE_E_STORAGE, rc, "cannot make the memory engine's lock");
    }
    m->maker = getpid();
    *ctx = m;
    return CREDSTORE_OK;
}
