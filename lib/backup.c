/* SPDX-License-Identifier: MIT
 *
 * Copies of a whole store: taken beside its writers, put back as a store of a new epoch, and put in
 * the place of a data file that still holds what was deleted.
 */
#include <pthread.h>
#include <string.h>

#include "checkpoint.h"
#include "epoch.h"
#include "error.h"
#include "op.h"
#include "open.h"
#include "storage/lmdb_copy.h"

enum { TELL_EVERY = 1024 /* pairs */ };

/* ---- out of an open store ---- */

static bool can_copy_itself(const credstore_storage *storage)
{
    return storage->struct_size >= offsetof(credstore_storage, backup) + sizeof storage->backup &&
           storage->backup != NULL;
}

static credstore_status copy_itself(credstore *store, const char *path, credstore_progress progress,
                                    void *progress_ctx, credstore_error *err)
{
    const uint32_t mode = store->open_flags & CREDSTORE_OPEN_GROUP;
    credstore_error why = {0};
    const int32_t result =
        store->storage->backup(store->storage_ctx, path, mode, progress, progress_ctx, &why);

    if (result == CREDSTORE_STORAGE_OK)
        return CREDSTORE_OK;
    if (cs_fail_told(err, &why))
        return (credstore_status)why.status;
    return cs_engine_failed(store, result, "The engine could not copy itself", err);
}

typedef struct copying {
    cs_lmdb_target *target;
    credstore_progress progress;
    void *progress_ctx;
    uint64_t done, total;
    credstore_error *err;
    credstore_status status;
} copying;

static bool copy_pair(void *arg, credstore_bytes key, credstore_bytes value)
{
    copying *c = arg;

    c->status = cs_lmdb_target_put(c->target, key, value, c->err);
    c->done++;
    if (c->progress != NULL && c->done % TELL_EVERY == 0)
        c->progress(c->progress_ctx, c->done, c->total);
    return c->status == CREDSTORE_OK;
}

static credstore_status copy_snapshot(credstore *store, copying *c)
{
    const cs_key from = {1, {CS_TABLE_META}}, to = {0, {0}};
    const cs_scan scan = {.visit = copy_pair, .arg = c, .passing = true};
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, c->err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_txn_scan(&txn, &from, &to, &scan, c->err);
    cs_txn_end(&txn);
    return c->status != CREDSTORE_OK ? c->status : status;
}

static credstore_status copy_pairs(credstore *store, const char *path, credstore_progress progress,
                                   void *progress_ctx, credstore_error *err)
{
    copying c = {.progress = progress, .progress_ctx = progress_ctx, .err = err};
    credstore_status status =
        cs_lmdb_target_new(path, store->open_flags & CREDSTORE_OPEN_GROUP, &c.target, err);

    if (status == CREDSTORE_OK)
        status = copy_snapshot(store, &c);
    if (status == CREDSTORE_OK)
        status = cs_lmdb_target_seal(c.target, err);
    if (status == CREDSTORE_OK)
        status = cs_lmdb_target_place(c.target, err);
    cs_lmdb_target_free(c.target);
    if (status == CREDSTORE_OK && progress != NULL)
        progress(progress_ctx, c.done, c.done);
    return status;
}

static credstore_status check_path(const char *path, credstore_error *err)
{
    if (path == NULL || *path == '\0')
        return cs_fail(err, CREDSTORE_E_INVALID, "path", "The path is empty");
    return CREDSTORE_OK;
}

credstore_status credstore_backup(credstore *store, const credstore_call *call, const char *path,
                                  uint32_t flags, credstore_progress progress, void *progress_ctx,
                                  credstore_error *err)
{
    cs_op op;
    int state;
    credstore_status status;

    cs_error_clear(err);
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK)
        status = check_path(path, err);
    if (status == CREDSTORE_OK && (flags & ~(uint32_t)CREDSTORE_BACKUP_COMPACT) != 0)
        status = cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "An unknown flag is set");
    if (status != CREDSTORE_OK)
        return status;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    status = (flags & CREDSTORE_BACKUP_COMPACT) == 0 && can_copy_itself(store->storage)
                 ? copy_itself(store, path, progress, progress_ctx, err)
                 : copy_pairs(store, path, progress, progress_ctx, err);
    pthread_setcancelstate(state, NULL);
    return status;
}

/* ---- into a new folder ---- */

/* What a store that is opened for the library's own work is opened with. */
static credstore_status take_options(credstore_options *out, const credstore_options *options,
                                     credstore_error *err)
{
    credstore_options taken;
    const credstore_status status = cs_options_take(&taken, options, err);

    if (status != CREDSTORE_OK)
        return status;
    if ((taken.flags & ~(uint32_t)CREDSTORE_OPEN_GROUP) != 0)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "flags", "A flag that has no meaning here");
    if (taken.storage != NULL)
        return cs_fail(err, CREDSTORE_E_UNSUPPORTED, "storage",
                       "Only stores on LMDB lie in folders");
    *out = (credstore_options){
        .struct_size = sizeof *out,
        .flags = taken.flags,
        .key = taken.key,
        .crypto = taken.crypto,
        .crypto_ctx = taken.crypto_ctx,
        .now_ms = taken.now_ms,
        .now_ctx = taken.now_ctx,
        .wait_ms = taken.wait_ms,
        .anchor = taken.anchor,
    };
    return CREDSTORE_OK;
}

/* The first thing that is not as it must be. */
typedef struct damage {
    credstore_status status;
    const char *table;
} damage;

static uint32_t note_damage(void *ctx, const credstore_finding *finding)
{
    damage *first = ctx;

    first->status = (credstore_status)finding->status;
    first->table = finding->table;
    return 1; /* that is enough */
}

static credstore_status prove(credstore *store, credstore_error *err)
{
    const credstore_actor me = {
        .struct_size = sizeof me, .type = CREDSTORE_ACTOR_SYSTEM, .id = "credstore_restore"};
    const credstore_call call = {.struct_size = sizeof call, .actor = &me};
    damage first = {CREDSTORE_OK, NULL};
    const credstore_check_options options = {
        .struct_size = sizeof options, .finding = note_damage, .ctx = &first};
    credstore_check_result result = {.struct_size = sizeof result};
    const credstore_status status = credstore_check(store, &call, &options, &result, err);

    if (status != CREDSTORE_OK)
        return status;
    if (first.status != CREDSTORE_OK)
        return cs_fail(err, first.status, first.table,
                       "The backup holds what is damaged or does not agree");
    if (result.secrets_unopened != 0)
        return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, "key",
                       "The root key reads, but does not open secrets");
    return CREDSTORE_OK;
}

static credstore_status open_new(const char *path, const credstore_options *options,
                                 credstore **store, credstore_error *err)
{
    credstore_error why = {0};
    const credstore_status status = credstore_open(path, options, store, &why);

    if (status == CREDSTORE_E_NOT_FOUND)
        return cs_fail(err, CREDSTORE_E_INTEGRITY, "backup", "There is no store in the backup");
    if (status != CREDSTORE_OK && err != NULL)
        *err = why;
    return status;
}

static credstore_status begin_epoch(const char *path, const credstore_options *options,
                                    credstore_checkpoint *now, credstore_error *err)
{
    credstore *store = NULL;
    credstore_status status = open_new(path, options, &store, err);

    if (status == CREDSTORE_OK)
        status = prove(store, err);
    if (status == CREDSTORE_OK)
        status = cs_epoch_begin(store, err);
    if (status == CREDSTORE_E_COMMIT_UNKNOWN) /* nobody has the folder yet, and it goes */
        status = cs_fail(err, CREDSTORE_E_STORAGE, NULL, "The new store could not be written");
    if (status == CREDSTORE_OK)
        status = cs_checkpoint_now(store, now, err);
    cs_store_close_keeping(store);
    return status;
}

static credstore_status put_pair(void *arg, credstore_bytes key, credstore_bytes value,
                                 credstore_error *err)
{
    return cs_lmdb_target_put(arg, key, value, err);
}

static credstore_status restore(const char *backup, const char *path,
                                const credstore_options *options, credstore_checkpoint *now,
                                credstore_error *err)
{
    cs_lmdb_target *target = NULL;
    credstore_status status = cs_lmdb_target_new(path, options->flags, &target, err);

    if (status == CREDSTORE_OK)
        status = cs_lmdb_read_folder(backup, put_pair, target, err);
    if (status == CREDSTORE_OK)
        status = cs_lmdb_target_seal(target, err);
    if (status == CREDSTORE_OK)
        status = begin_epoch(cs_lmdb_target_path(target), options, now, err);
    if (status == CREDSTORE_OK)
        status = cs_lmdb_target_place(target, err);
    cs_lmdb_target_free(target);
    return status;
}

credstore_status credstore_restore(const char *backup, const char *path,
                                   const credstore_options *options, credstore_checkpoint *now,
                                   credstore_error *err)
{
    credstore_options taken;
    credstore_checkpoint point = {0};
    int state;
    credstore_status status;

    cs_error_clear(err);
    status = check_path(path, err);
    if (status == CREDSTORE_OK && (backup == NULL || *backup == '\0'))
        status = cs_fail(err, CREDSTORE_E_INVALID, "backup", "The path of the backup is empty");
    if (status == CREDSTORE_OK)
        status = take_options(&taken, options, err);
    if (status == CREDSTORE_OK && taken.key == NULL)
        status = cs_fail(err, CREDSTORE_E_INVALID, "key", "A store that lasts needs a root key");
    if (status != CREDSTORE_OK)
        return status;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    status = restore(backup, path, &taken, &point, err);
    pthread_setcancelstate(state, NULL);
    if (status == CREDSTORE_OK && now != NULL)
        *now = point;
    return status;
}

/* ---- in its own folder ---- */

static credstore_status erase(const char *path, credstore_options options, credstore_error *err)
{
    const uint32_t mode = options.flags;
    credstore *store = NULL;
    credstore_status status;

    options.flags |= CREDSTORE_OPEN_READ_ONLY;
    status =
        credstore_open(path, &options, &store, err); /* a store, of this library, of this key */
    cs_store_close_keeping(store);
    return status == CREDSTORE_OK ? cs_lmdb_compact(path, mode, err) : status;
}

credstore_status credstore_erase(const char *path, const credstore_options *options,
                                 credstore_error *err)
{
    credstore_options taken;
    int state;
    credstore_status status;

    cs_error_clear(err);
    status = check_path(path, err);
    if (status == CREDSTORE_OK)
        status = take_options(&taken, options, err);
    if (status != CREDSTORE_OK)
        return status;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    status = erase(path, taken, err);
    pthread_setcancelstate(state, NULL);
    return status;
}
