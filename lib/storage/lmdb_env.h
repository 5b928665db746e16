/* SPDX-License-Identifier: MIT
 *
 * Inside the LMDB engine: the environment that a process shares, and the locks around it.
 */
#ifndef CS_LMDB_ENV_H
#define CS_LMDB_ENV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <lmdb.h>

#include "credstore.h"
#include "credstore/backend.h"

/* Files of a store's folder. LMDB names the first two. */
#define CS_LMDB_DATA     "data.mdb"
#define CS_LMDB_LOCK     "lock.mdb"
#define CS_LMDB_GUARD    "guard.lock"    /* flock, exclusive: around each write transaction */
#define CS_LMDB_PRESENCE "presence.lock" /* flock, shared: for as long as the store is open */

enum {
    CS_LMDB_READERS = 512,        /* of all processes together */
    CS_LMDB_SLOTS = 126,          /* kept read transactions of this process */
    CS_LMDB_OPEN_WAIT_MS = 30000, /* for the guard, while opening */
    CS_LMDB_DRAIN_WAIT_MS = 5000, /* for the process's transactions to end, to map anew */
    CS_LMDB_KEY_MAX = 511,
    CS_LMDB_MAP_FLOOR = 1 << 26 /* bytes: the least map that a store is opened with */
};

struct cs_lmdb;

/* A transaction. Reads sit in slots that are claimed by one compare-and-swap and keep their LMDB
   transaction and cursor between uses, so that a read allocates nothing. */
typedef struct cs_lmdb_txn {
    atomic_uint claimed;
    bool write, temporary, cursor_renewed;
    int cancel_state;
    struct cs_lmdb *owner;
    MDB_txn *txn;
    MDB_cursor *cursor;
    uint8_t pad[24]; /* to a cache line each */
} cs_lmdb_txn;

/* Descriptors of our own; -1 = none. */
typedef struct cs_lmdb_locks {
    int guard, presence, lock;
    int folder;  /* as long as it is open, no other folder has its inode */
    int lmdb[3]; /* LMDB's: closed in a forked child, where nobody else would */
} cs_lmdb_locks;

typedef struct cs_lmdb_env {
    struct cs_lmdb_env *next;
    dev_t dev; /* of the folder */
    ino_t ino;
    dev_t data_dev; /* of the data file */
    ino_t data_ino;
    uint32_t refs;
    bool read_only;
    atomic_bool forked;   /* this is a child's copy: touch nothing */
    atomic_bool draining; /* the map is about to move: no new transactions */
    atomic_bool broken;   /* the map could not be made again */
    atomic_uint temporaries;
    MDB_env *mdb;
    MDB_dbi dbi;
    cs_lmdb_locks locks;
    pthread_mutex_t turn_mutex; /* the writer's turn among threads, before the guard */
    pthread_cond_t turn_free;
    bool turn_taken;
    void *shared; /* the core's, see cs_lmdb_share() */
    void (*drop)(void *shared);
    cs_lmdb_txn writer;
    cs_lmdb_txn slots[CS_LMDB_SLOTS];
} cs_lmdb_env;

/* ---- lmdb_env.c ---- */

/* Opens the folder, or shares what this process has open already. */
credstore_status cs_lmdb_env_open(const char *path, uint32_t flags, cs_lmdb_env **out,
                                  credstore_error *err);
void cs_lmdb_env_close(cs_lmdb_env *env);
void *cs_lmdb_env_share(cs_lmdb_env *env, void *(*make)(void), void (*drop)(void *shared));
/* ESTALE: another file, or none, lies where the data file lay in that folder: who goes on writes to
   what nobody else will ever open. */
int cs_lmdb_env_in_place(const cs_lmdb_env *env, int folder);
/* Maps the data file anew after MDB_MAP_RESIZED, once the process's transactions have ended. The
   caller holds the writer's turn and no transaction. Answers an LMDB code; EBUSY: a transaction did
   not end. */
int cs_lmdb_env_remap(cs_lmdb_env *env);
/* The same after MDB_MAP_FULL, to a larger map. ENOMEM: there is no address space for one. */
int cs_lmdb_env_grow(cs_lmdb_env *env);
/* Descriptors whose locks are held outside of any environment. A forked child closes them: it would
   keep the locks for a parent that was killed. No fork comes between no_forks and forks, where they
   are opened, and closed. */
typedef struct cs_lmdb_held {
    struct cs_lmdb_held *next;
    int fds[2]; /* -1 = none */
} cs_lmdb_held;
void cs_lmdb_no_forks(void);
void cs_lmdb_forks(void);
void cs_lmdb_held_add(cs_lmdb_held *held); /* both between the two */
void cs_lmdb_held_remove(cs_lmdb_held *held);
/* True for the f_type of a file system whose pages or locks other machines may not see. */
bool cs_lmdb_network_fs(unsigned long type);

/* ---- lmdb_data.c ---- */

/* LMDB answers EIO to the short write of a disk that is running full, or of a file that has come to
   the process's limit: ENOSPC or EFBIG then, else rc. fd: of the data file. */
int cs_lmdb_full_or(int fd, int rc);
/* For LMDB, which does not write through it. */
MDB_val cs_lmdb_val(credstore_bytes bytes);

/* ---- lmdb_guard.c; all answer 0 or an errno unless said otherwise ---- */

void cs_lmdb_locks_init(cs_lmdb_locks *locks);
/* Closes all but LMDB's. */
void cs_lmdb_locks_close(cs_lmdb_locks *locks);
/* In a forked child: closes everything, LMDB's too. */
void cs_lmdb_locks_forget(cs_lmdb_locks *locks);
/* Opens the file `name`, made with exactly `mode` if it is absent. The descriptor is close-on-exec.
 */
int cs_lmdb_file_open(int folder, const char *name, mode_t mode, int *fd);
/* A descriptor of this process on the file of *st, other than `except`, whose flags masked are
   `flags`; -1 if there is none. */
int cs_lmdb_find_fd(const struct stat *st, int except, int mask, int flags);
/* flock, exclusive. wait_ms -1 = for ever. ETIMEDOUT: it went by. ESTALE: the file was removed. */
int cs_lmdb_guard_take(int fd, int64_t wait_ms);
void cs_lmdb_guard_drop(int fd);
/* flock, exclusive if nobody has the store open (*alone), else shared. */
int cs_lmdb_presence_take(int fd, bool *alone);
int cs_lmdb_presence_share(int fd);
/* Holds byte 0 shared: keeps LMDB in any process from taking the lock file for abandoned. */
int cs_lmdb_hold_env(int fd);
/* Takes over the byte of this process's id from LMDB, after its first read transaction. EAGAIN:
   a process with the same id, of another PID namespace, has it. */
int cs_lmdb_hold_pid(int fd);
/* The writer's turn among this process's threads; wait_ms as above. */
int cs_lmdb_turn_take(cs_lmdb_env *env, int64_t wait_ms);
void cs_lmdb_turn_drop(cs_lmdb_env *env);
int64_t cs_lmdb_now_ms(void); /* monotonic */
void cs_lmdb_sleep_ms(int64_t ms);

#endif
