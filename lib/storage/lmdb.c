/* SPDX-License-Identifier: MIT
 *
 * The LMDB engine: its table of callbacks and its transactions.
 */
#include "storage/engines.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "mem.h"
#include "storage/lmdb_copy.h"
#include "storage/lmdb_env.h"

enum { REMAP_TRIES = 3, PREFERRED_SLOTS = 16 };

/* What a handle is made of; the environment may be shared with others. */
typedef struct cs_lmdb {
    cs_lmdb_env *env;
    bool read_only;
    atomic_int_least32_t native;
} cs_lmdb;

/* ---- results ---- */

typedef struct result_row {
    int code;
    int32_t result;
} result_row;

static const result_row results[] = {
    {MDB_SUCCESS, CREDSTORE_STORAGE_OK},
    {MDB_NOTFOUND, CREDSTORE_STORAGE_NOT_FOUND},
    {MDB_MAP_FULL, CREDSTORE_STORAGE_FULL},
    {ENOSPC, CREDSTORE_STORAGE_FULL},
    {EDQUOT, CREDSTORE_STORAGE_FULL},
    {EFBIG, CREDSTORE_STORAGE_FULL},
    {MDB_BAD_VALSIZE, CREDSTORE_STORAGE_TOO_LARGE},
    {MDB_TXN_FULL, CREDSTORE_STORAGE_TOO_LARGE},
    {MDB_CORRUPTED, CREDSTORE_STORAGE_CORRUPT},
    {MDB_PAGE_NOTFOUND, CREDSTORE_STORAGE_CORRUPT},
    {MDB_INVALID, CREDSTORE_STORAGE_CORRUPT},
    {MDB_PAGE_FULL, CREDSTORE_STORAGE_CORRUPT},
    {MDB_CURSOR_FULL, CREDSTORE_STORAGE_CORRUPT},
    {ENOMEM, CREDSTORE_STORAGE_NO_MEMORY},
    {ETIMEDOUT, CREDSTORE_STORAGE_BUSY}, /* the turn or the guard */
    {EBUSY, CREDSTORE_STORAGE_BUSY},     /* the map could not be moved, or was, for too long */
    {MDB_READERS_FULL, CREDSTORE_STORAGE_BUSY},
    {MDB_MAP_RESIZED, CREDSTORE_STORAGE_BUSY},
};

static int32_t result(cs_lmdb *handle, int rc)
{
    if (rc == MDB_SUCCESS)
        return CREDSTORE_STORAGE_OK;
    if (rc != MDB_NOTFOUND)
        atomic_store(&handle->native, rc);
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
        if (results[i].code == rc)
            return results[i].result;
    return CREDSTORE_STORAGE_UNAVAILABLE;
}

static credstore_bytes bytes_of(MDB_val v)
{
    return cs_bytes(v.mv_data, v.mv_size);
}

/* ---- read transactions ---- */

/* Threads start at different slots, by the address of their stack, so that they seldom meet. */
static size_t first_slot(void)
{
    const char here = 0;
    const uintptr_t stack = (uintptr_t)(const void *)&here >> 12;

    return (size_t)((stack ^ stack >> 8) % PREFERRED_SLOTS);
}

static cs_lmdb_txn *claim_any(cs_lmdb_env *env)
{
    const size_t first = first_slot();
    cs_lmdb_txn *txn;

    for (size_t i = 0; i < CS_LMDB_SLOTS; i++) {
        unsigned int unclaimed = 0;

        txn = &env->slots[(first + i) % CS_LMDB_SLOTS];
        if (atomic_compare_exchange_strong(&txn->claimed, &unclaimed, 1))
            return txn;
    }
    txn = cs_alloc(1, sizeof *txn);
    if (txn != NULL) {
        txn->temporary = true;
        atomic_fetch_add(&env->temporaries, 1);
    }
    return txn;
}

/* Ends the LMDB transaction and cursor that a read keeps for the next. */
static void end_kept(cs_lmdb_txn *txn)
{
    if (txn->cursor != NULL)
        mdb_cursor_close(txn->cursor);
    if (txn->txn != NULL)
        mdb_txn_abort(txn->txn);
    txn->cursor = NULL;
    txn->txn = NULL;
}

static void unclaim(cs_lmdb_env *env, cs_lmdb_txn *txn)
{
    if (!txn->temporary) {
        atomic_store_explicit(&txn->claimed, 0, memory_order_release);
        return;
    }
    end_kept(txn);
    cs_free(txn);
    atomic_fetch_sub(&env->temporaries, 1);
}

/* Claims first and looks at `draining` then; who drains sets it first and looks at the claims then:
   one of the two sees the other. */
static int claim(cs_lmdb_env *env, cs_lmdb_txn **out)
{
    int64_t naps = 0;
    cs_lmdb_txn *txn;

    for (;;) {
        txn = claim_any(env);
        if (txn == NULL)
            return ENOMEM;
        if (!atomic_load(&env->draining))
            break;
        unclaim(env, txn);
        if (naps++ >= CS_LMDB_DRAIN_WAIT_MS)
            return EBUSY;
        cs_lmdb_sleep_ms(1);
    }
    *out = txn;
    return 0;
}

static int start_read(cs_lmdb_env *env, cs_lmdb_txn *txn)
{
    int rc;

    if (atomic_load(&env->broken))
        return MDB_PANIC;
    if (txn->txn != NULL) {
        rc = mdb_txn_renew(txn->txn);
        if (rc != MDB_BAD_RSLOT)
            return rc;
        /* Taken for dead by others; the place may be theirs now, so it is not given back. */
        txn->txn = NULL;
    }
    rc = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn->txn);
    if (rc == MDB_READERS_FULL && mdb_reader_check(env->mdb, NULL) == MDB_SUCCESS)
        rc = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn->txn);
    if (rc != MDB_SUCCESS)
        txn->txn = NULL;
    return rc;
}

static int remap_for_read(cs_lmdb_env *env)
{
    int state;
    int rc;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    rc = cs_lmdb_turn_take(env, CS_LMDB_DRAIN_WAIT_MS);
    if (rc == 0) {
        rc = cs_lmdb_env_remap(env);
        cs_lmdb_turn_drop(env);
    }
    pthread_setcancelstate(state, NULL);
    return rc;
}

static int try_read(cs_lmdb_env *env, cs_lmdb_txn **out)
{
    int rc = claim(env, out);

    if (rc != 0)
        return rc;
    rc = start_read(env, *out);
    if (rc != MDB_SUCCESS)
        unclaim(env, *out);
    return rc;
}

static int begin_read(cs_lmdb *handle, void **out)
{
    cs_lmdb_env *env = handle->env;
    cs_lmdb_txn *txn = NULL;
    int rc = try_read(env, &txn);

    for (int i = 1; i < REMAP_TRIES && rc == MDB_MAP_RESIZED; i++) {
        rc = remap_for_read(env);
        if (rc == MDB_SUCCESS)
            rc = try_read(env, &txn);
    }
    if (rc != MDB_SUCCESS)
        return rc;
    txn->owner = handle;
    txn->cursor_renewed = false;
    *out = txn;
    return MDB_SUCCESS;
}

static void end_read(cs_lmdb_txn *txn)
{
    mdb_txn_reset(txn->txn);
    unclaim(txn->owner->env, txn);
}

/* ---- write transactions ---- */

static void end_write(cs_lmdb_txn *txn)
{
    cs_lmdb_env *env = txn->owner->env;
    const int state = txn->cancel_state;

    txn->txn = NULL;
    cs_lmdb_guard_drop(env->locks.guard);
    cs_lmdb_turn_drop(env);
    pthread_setcancelstate(state, NULL);
}

static int try_write(cs_lmdb_env *env)
{
    return atomic_load(&env->broken) ? MDB_PANIC
                                     : mdb_txn_begin(env->mdb, NULL, 0, &env->writer.txn);
}

/* With the turn and the guard in hand. */
static int start_write(cs_lmdb_env *env)
{
    int rc = try_write(env);

    for (int i = 1; i < REMAP_TRIES && rc == MDB_MAP_RESIZED; i++) {
        rc = cs_lmdb_env_remap(env);
        if (rc == MDB_SUCCESS)
            rc = try_write(env);
    }
    return rc;
}

static int begin_write(cs_lmdb *handle, int64_t wait_ms, void **out)
{
    cs_lmdb_env *env = handle->env;
    const int64_t start = cs_lmdb_now_ms();
    int64_t left = wait_ms;
    int rc;

    if (handle->read_only)
        return EACCES;
    rc = cs_lmdb_turn_take(env, wait_ms);
    if (rc != 0)
        return rc;
    if (wait_ms >= 0) {
        left = wait_ms - (cs_lmdb_now_ms() - start);
        left = left < 0 ? 0 : left;
    }
    rc = cs_lmdb_guard_take(env->locks.guard, left);
    if (rc == 0) {
        rc = cs_lmdb_env_in_place(env, env->locks.folder);
        if (rc == 0)
            rc = start_write(env);
        if (rc == 0) {
            env->writer.owner = handle;
            env->writer.write = true;
            *out = &env->writer;
            return MDB_SUCCESS;
        }
        cs_lmdb_guard_drop(env->locks.guard);
    }
    cs_lmdb_turn_drop(env);
    return rc;
}

/* A thread cancelled inside LMDB's writer would take the whole environment with it. */
static int begin_write_uncancelled(cs_lmdb *handle, int64_t wait_ms, void **out)
{
    int state;
    int rc;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    rc = begin_write(handle, wait_ms, out);
    if (rc == MDB_SUCCESS)
        handle->env->writer.cancel_state = state;
    else
        pthread_setcancelstate(state, NULL);
    return rc;
}

/* LMDB gives the environment up only when writing the meta page failed: then it may or may not have
   reached the disk. After any other failure the old meta page still stands: nothing changed. Asked
   by a writer, who needs no memory for it; the turn and the guard are still ours. */
static bool meta_write_failed(cs_lmdb_env *env)
{
    MDB_txn *probe = NULL;
    const int rc = mdb_txn_begin(env->mdb, NULL, 0, &probe);

    if (rc == MDB_SUCCESS)
        mdb_txn_abort(probe);
    return rc != MDB_SUCCESS;
}

static int full_or(const cs_lmdb_env *env, int rc)
{
    mdb_filehandle_t fd;

    return mdb_env_get_fd(env->mdb, &fd) == MDB_SUCCESS ? cs_lmdb_full_or(fd, rc) : rc;
}

/* The map is too small for the transaction, of which nothing is left. It grows here, while the turn
   and the guard are still held, and the transaction is to be run again. */
static int32_t outgrown(cs_lmdb *handle)
{
    const int rc = cs_lmdb_env_grow(handle->env);

    if (rc != MDB_SUCCESS)
        return result(handle, rc == ENOMEM ? MDB_MAP_FULL : rc);
    atomic_store(&handle->native, MDB_MAP_FULL);
    return CREDSTORE_STORAGE_CONFLICT;
}

static int32_t commit_result(cs_lmdb *handle, int rc)
{
    if (rc == MDB_SUCCESS)
        return CREDSTORE_STORAGE_OK;
    if (rc == MDB_MAP_FULL)
        return outgrown(handle);
    if (!meta_write_failed(handle->env))
        return result(handle, full_or(handle->env, rc));
    atomic_store(&handle->native, rc);
    return CREDSTORE_STORAGE_UNKNOWN;
}

/* ---- the table ---- */

static int32_t lmdb_begin(void *ctx, uint32_t write, int64_t wait_ms, void **txn)
{
    cs_lmdb *handle = ctx;
    int rc;

    *txn = NULL;
    if (atomic_load_explicit(&handle->env->forked, memory_order_relaxed))
        rc = ECHILD;
    else if (write != 0)
        rc = begin_write_uncancelled(handle, wait_ms, txn);
    else
        rc = begin_read(handle, txn);
    return result(handle, rc);
}

/* A child of fork holds a copy of its parent's transaction, and must leave it alone. */
static bool is_forked(const cs_lmdb_txn *txn)
{
    return atomic_load_explicit(&txn->owner->env->forked, memory_order_relaxed);
}

/* In a write transaction a later put may move or free the page. */
static int32_t hand_over(const cs_lmdb_txn *txn, credstore_sink *out, MDB_val key, MDB_val value)
{
    return txn->write ? credstore_sink_copy(out, bytes_of(key), bytes_of(value))
                      : credstore_sink_borrow(out, bytes_of(key), bytes_of(value));
}

static int check(const cs_lmdb_txn *txn)
{
    if (is_forked(txn))
        return ECHILD;
    return txn->txn == NULL ? MDB_BAD_TXN : MDB_SUCCESS;
}

static int check_key(const cs_lmdb_txn *txn, credstore_bytes key)
{
    const int rc = check(txn);

    if (rc != MDB_SUCCESS)
        return rc;
    return key.len == 0 || key.len > CS_LMDB_KEY_MAX ? MDB_BAD_VALSIZE : MDB_SUCCESS;
}

static int32_t lmdb_get(void *ctx, void *txn, credstore_bytes key, credstore_sink *out)
{
    cs_lmdb_txn *t = txn;
    MDB_val k = cs_lmdb_val(key);
    MDB_val v = {0, NULL};
    int rc = check_key(t, key);
    int32_t answer;

    if (rc == MDB_SUCCESS)
        rc = mdb_get(t->txn, t->owner->env->dbi, &k, &v);
    if (rc != MDB_SUCCESS)
        return result(ctx, rc);
    answer = hand_over(t, out, k, v);
    return answer == CREDSTORE_STORAGE_STOP ? CREDSTORE_STORAGE_OK : answer;
}

/* A cursor of a renewed read transaction is renewed too: a stale one reads pages that are no longer
   its own. A write transaction's lives for one scan. */
static int scan_cursor(cs_lmdb_txn *txn)
{
    int rc = MDB_SUCCESS;

    if (txn->cursor == NULL)
        rc = mdb_cursor_open(txn->txn, txn->owner->env->dbi, &txn->cursor);
    else if (!txn->cursor_renewed)
        rc = mdb_cursor_renew(txn->txn, txn->cursor);
    txn->cursor_renewed = rc == MDB_SUCCESS;
    return rc;
}

/* The first pair of the range, whichever way it is walked. */
static int scan_first(MDB_cursor *cursor, credstore_bytes from, credstore_bytes to,
                      uint32_t reverse, MDB_val *key, MDB_val *value)
{
    const credstore_bytes start = reverse != 0 ? to : from;
    int rc;

    if (start.len == 0)
        return mdb_cursor_get(cursor, key, value, reverse != 0 ? MDB_LAST : MDB_FIRST);
    *key = cs_lmdb_val(start);
    rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (reverse == 0)
        return rc;
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    return rc != MDB_SUCCESS ? rc : mdb_cursor_get(cursor, key, value, MDB_PREV);
}

static bool in_range(MDB_val key, credstore_bytes from, credstore_bytes to)
{
    const credstore_bytes k = bytes_of(key);

    return cs_bytes_compare(k, from) >= 0 && (to.len == 0 || cs_bytes_compare(k, to) < 0);
}

static int32_t scan_with(cs_lmdb *handle, cs_lmdb_txn *txn, credstore_bytes from,
                         credstore_bytes to, uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    MDB_val key = {0, NULL};
    MDB_val value = {0, NULL};
    int rc = scan_first(txn->cursor, from, to, reverse, &key, &value);

    for (uint32_t n = 0; rc == MDB_SUCCESS && in_range(key, from, to); n++) {
        int32_t answer;

        if (limit != 0 && n == limit)
            break;
        answer = hand_over(txn, out, key, value);
        if (answer != CREDSTORE_STORAGE_OK)
            return answer == CREDSTORE_STORAGE_STOP ? CREDSTORE_STORAGE_OK : answer;
        rc = mdb_cursor_get(txn->cursor, &key, &value, reverse != 0 ? MDB_PREV : MDB_NEXT);
    }
    return result(handle, rc == MDB_NOTFOUND ? MDB_SUCCESS : rc);
}

static int32_t lmdb_scan(void *ctx, void *txn, credstore_bytes from, credstore_bytes to,
                         uint32_t reverse, uint32_t limit, credstore_sink *out)
{
    cs_lmdb_txn *t = txn;
    int rc = check(t);
    int32_t answer;

    if (rc == MDB_SUCCESS)
        rc = scan_cursor(t);
    if (rc != MDB_SUCCESS)
        return result(ctx, rc);
    answer = scan_with(ctx, t, from, to, reverse, limit, out);
    if (t->write) {
        mdb_cursor_close(t->cursor);
        t->cursor = NULL;
    }
    return answer;
}

static int32_t change_result(cs_lmdb *handle, cs_lmdb_txn *txn, int rc)
{
    if (rc != MDB_MAP_FULL)
        return result(handle, rc);
    mdb_txn_abort(txn->txn);
    txn->txn = NULL;
    return outgrown(handle);
}

static int32_t lmdb_put(void *ctx, void *txn, credstore_bytes key, credstore_bytes value)
{
    cs_lmdb_txn *t = txn;
    MDB_val k = cs_lmdb_val(key);
    MDB_val v = cs_lmdb_val(value);
    int rc = check_key(t, key);

    if (rc == MDB_SUCCESS)
        rc = t->write ? mdb_put(t->txn, t->owner->env->dbi, &k, &v, 0) : EACCES;
    return change_result(ctx, t, rc);
}

static int32_t lmdb_del(void *ctx, void *txn, credstore_bytes key)
{
    cs_lmdb_txn *t = txn;
    MDB_val k = cs_lmdb_val(key);
    int rc = check_key(t, key);

    if (rc == MDB_SUCCESS)
        rc = t->write ? mdb_del(t->txn, t->owner->env->dbi, &k, NULL) : EACCES;
    return change_result(ctx, t, rc);
}

static void lmdb_abort(void *ctx, void *txn)
{
    cs_lmdb_txn *t = txn;

    (void)ctx;
    if (is_forked(t))
        return;
    if (!t->write) {
        end_read(t);
        return;
    }
    mdb_txn_abort(t->txn);
    end_write(t);
}

static int32_t lmdb_commit(void *ctx, void *txn)
{
    cs_lmdb_txn *t = txn;
    int32_t answer;

    if (is_forked(t))
        return result(ctx, ECHILD);
    if (!t->write) {
        end_read(t);
        return CREDSTORE_STORAGE_OK;
    }
    answer = commit_result(ctx, t->txn == NULL ? MDB_BAD_TXN : mdb_txn_commit(t->txn));
    end_write(t);
    return answer;
}

static int32_t lmdb_native(void *ctx)
{
    cs_lmdb *handle = ctx;

    return atomic_load(&handle->native);
}

/* The kept transactions that nobody uses just now hold places that another process may lack. */
static void give_back_places(cs_lmdb_env *env)
{
    for (size_t i = 0; i < CS_LMDB_SLOTS; i++) {
        cs_lmdb_txn *txn = &env->slots[i];
        unsigned int unclaimed = 0;

        if (!atomic_compare_exchange_strong(&txn->claimed, &unclaimed, 1))
            continue;
        end_kept(txn);
        unclaim(env, txn);
    }
}

static int32_t lmdb_tidy(void *ctx)
{
    cs_lmdb *handle = ctx;

    if (atomic_load_explicit(&handle->env->forked, memory_order_relaxed))
        return result(handle, ECHILD);
    give_back_places(handle->env);
    return result(handle, mdb_reader_check(handle->env->mdb, NULL));
}

/* ---- copies and figures ---- */

/* With the turn and the guard in hand nobody writes: the first two pages are of the snapshot. */
static int take_image(cs_lmdb_env *env, cs_lmdb_txn **txn, cs_lmdb_image *image)
{
    mdb_filehandle_t fd;
    int rc = mdb_env_get_fd(env->mdb, &fd);

    if (rc == MDB_SUCCESS)
        rc = try_read(env, txn);
    if (rc != MDB_SUCCESS)
        return rc;
    rc = cs_lmdb_image_take(fd, image);
    if (rc == 0)
        return 0;
    mdb_txn_reset((*txn)->txn);
    unclaim(env, *txn);
    return rc;
}

static int begin_image(cs_lmdb_env *env, cs_lmdb_txn **txn, cs_lmdb_image *image)
{
    int rc = MDB_MAP_RESIZED;

    for (int i = 0; i < REMAP_TRIES && rc == MDB_MAP_RESIZED; i++) {
        rc = i == 0 ? 0 : remap_for_read(env);
        if (rc == 0)
            rc = cs_lmdb_turn_take(env, CS_LMDB_DRAIN_WAIT_MS);
        if (rc != 0)
            return rc;
        rc = cs_lmdb_guard_take(env->locks.guard, CS_LMDB_DRAIN_WAIT_MS);
        if (rc == 0) {
            rc = take_image(env, txn, image);
            cs_lmdb_guard_drop(env->locks.guard);
        }
        cs_lmdb_turn_drop(env);
    }
    return rc;
}

static int32_t lmdb_backup(void *ctx, const char *path, uint32_t flags, credstore_progress progress,
                           void *progress_ctx, credstore_error *err)
{
    cs_lmdb *handle = ctx;
    cs_lmdb_target *target = NULL;
    cs_lmdb_image image = {0};
    cs_lmdb_txn *txn = NULL;
    int rc = 0;
    credstore_status status;

    if (atomic_load_explicit(&handle->env->forked, memory_order_relaxed))
        return result(handle, ECHILD);
    status = cs_lmdb_target_new(path, flags, &target, err);
    if (status == CREDSTORE_OK)
        rc = begin_image(handle->env, &txn, &image);
    if (status == CREDSTORE_OK && rc == 0) {
        txn->owner = handle;
        status = cs_lmdb_target_pages(target, &image, progress, progress_ctx, err);
        end_read(txn);
    }
    cs_free(image.metas);
    if (status == CREDSTORE_OK && rc == 0)
        status = cs_lmdb_target_seal(target, err);
    if (status == CREDSTORE_OK && rc == 0)
        status = cs_lmdb_target_place(target, err);
    cs_lmdb_target_free(target);
    if (rc != 0)
        return result(handle, rc);
    return status == CREDSTORE_OK ? CREDSTORE_STORAGE_OK : CREDSTORE_STORAGE_UNAVAILABLE;
}

/* LMDB tells of its readers in lines, of which the first is a heading. */
static int count_line(const char *line, void *arg)
{
    uint64_t *lines = arg;

    *lines += strncmp(line, "(no", 3) != 0;
    return 0;
}

/* Each entry of the tree of free pages is a list: its length, then their numbers. */
static int count_free_pages(MDB_txn *txn, uint64_t *count)
{
    enum { FREE_DBI = 0 };
    MDB_cursor *cursor = NULL;
    MDB_val key, list;
    size_t len;
    int rc = mdb_cursor_open(txn, FREE_DBI, &cursor);

    if (rc != MDB_SUCCESS)
        return rc;
    while ((rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)) == MDB_SUCCESS) {
        if (list.mv_size < sizeof len)
            continue;
        memcpy(&len, list.mv_data, sizeof len);
        *count += len;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

static int stat_with(const cs_lmdb_env *env, MDB_txn *txn, credstore_storage_stat *out)
{
    mdb_filehandle_t fd;
    MDB_envinfo info;
    MDB_stat main_tree;
    struct stat st;
    uint64_t lines = 0;
    int rc = mdb_stat(txn, env->dbi, &main_tree);

    if (rc == MDB_SUCCESS)
        rc = mdb_env_info(env->mdb, &info);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_get_fd(env->mdb, &fd);
    if (rc == MDB_SUCCESS)
        rc = count_free_pages(txn, &out->free_pages);
    if (rc == MDB_SUCCESS)
        rc = mdb_reader_list(env->mdb, count_line, &lines) < 0 ? MDB_INVALID : MDB_SUCCESS;
    if (rc != MDB_SUCCESS)
        return rc;
    if (fstat(fd, &st) != 0)
        return errno;
    out->page_bytes = main_tree.ms_psize;
    out->file_bytes = (uint64_t)st.st_size;
    out->map_bytes = info.me_mapsize;
    out->pages = info.me_last_pgno + 1;
    out->entries = main_tree.ms_entries;
    out->readers = lines > 0 ? lines - 1 : 0;
    out->readers_max = info.me_maxreaders;
    return MDB_SUCCESS;
}

static int32_t lmdb_stat(void *ctx, credstore_storage_stat *out)
{
    cs_lmdb *handle = ctx;
    void *txn = NULL;
    int rc = ECHILD;

    if (!atomic_load_explicit(&handle->env->forked, memory_order_relaxed))
        rc = begin_read(handle, &txn);
    if (rc != MDB_SUCCESS)
        return result(handle, rc);
    rc = stat_with(handle->env, ((cs_lmdb_txn *)txn)->txn, out);
    end_read(txn);
    return result(handle, rc);
}

static void lmdb_close(void *ctx)
{
    cs_lmdb *handle = ctx;

    if (handle == NULL)
        return;
    cs_lmdb_env_close(handle->env);
    cs_free(handle);
}

const credstore_storage cs_storage_lmdb = {
    .struct_size = sizeof(credstore_storage),
    .features = CREDSTORE_STORAGE_READ_OWN_WRITES,
    .name = "lmdb",
    .begin = lmdb_begin,
    .get = lmdb_get,
    .scan = lmdb_scan,
    .put = lmdb_put,
    .del = lmdb_del,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .native = lmdb_native,
    .close = lmdb_close,
    .tidy = lmdb_tidy,
    .backup = lmdb_backup,
    .stat = lmdb_stat,
};

credstore_status cs_lmdb_open(const char *path, uint32_t flags, void **ctx, credstore_error *err)
{
    cs_lmdb *handle;
    credstore_status status;

    *ctx = NULL;
    handle = cs_alloc(1, sizeof *handle);
    if (handle == NULL)
        return cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "out of memory");
    handle->read_only = (flags & CREDSTORE_OPEN_READ_ONLY) != 0;
    status = cs_lmdb_env_open(path, flags, &handle->env, err);
    if (status != CREDSTORE_OK) {
        cs_free(handle);
        return status;
    }
    *ctx = handle;
    return CREDSTORE_OK;
}

void *cs_lmdb_share(void *ctx, void *(*make)(void), void (*drop)(void *shared))
{
    cs_lmdb *handle = ctx;

    return cs_lmdb_env_share(handle->env, make, drop);
}
