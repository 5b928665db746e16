/* SPDX-License-Identifier: MIT
 *
 * Two copies of the library in one process: the one that this program is linked with, and the
 * shared one that it loads. second_copy <libcredstore.so> <folder for stores>. Answers 0 if
 * whichever comes second is refused by name, has not touched the lock file, and is let in when the
 * first has closed.
 */
#define _GNU_SOURCE /* RTLD_LOCAL with dlfcn.h in C11 */

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "credstore.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

typedef struct copy {
    credstore_status (*key_bytes)(const void *ptr, size_t len, credstore_key_source **out,
                                  credstore_error *err);
    void (*key_free)(credstore_key_source *key);
    credstore_status (*open)(const char *path, const credstore_options *options, credstore **out,
                             credstore_error *err);
    void (*close)(credstore *store);
} copy;

/* A pointer to a function out of one to an object, as dlsym() means it. */
static void load(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);

    memcpy(function, &symbol, sizeof symbol);
}

static credstore_status open_with(const copy *c, const char *path, credstore **out,
                                  credstore_error *err)
{
    static const unsigned char raw[32] = {1, 2, 3};
    credstore_options options = {.struct_size = sizeof options, .flags = CREDSTORE_OPEN_CREATE};
    credstore_key_source *key = NULL;
    credstore_status status = c->key_bytes(raw, sizeof raw, &key, err);

    options.key = key;
    if (status == CREDSTORE_OK)
        status = c->open(path, &options, out, err);
    c->key_free(key);
    return status;
}

/* Locks of this process on the file that any close of it would drop: LMDB's. -1 if none can be
   seen. */
static int record_locks(const char *path)
{
    char lock[512];
    char inode[32];
    char line[256];
    struct stat st;
    int count = 0;
    FILE *file = fopen("/proc/locks", "re");

    snprintf(lock, sizeof lock, "%s/lock.mdb", path);
    if (file == NULL || stat(lock, &st) != 0)
        return -1;
    snprintf(inode, sizeof inode, ":%lu ", (unsigned long)st.st_ino);
    while (fgets(line, sizeof line, file) != NULL)
        count += strstr(line, "POSIX") != NULL && strstr(line, inode) != NULL ? 1 : 0;
    fclose(file);
    return count;
}

static int try_both(const copy *first, const copy *second, const char *path)
{
    credstore *store = NULL;
    credstore *other = NULL;
    credstore_error err = {0};
    int locks;

    CHECK(open_with(first, path, &store, &err) == CREDSTORE_OK);
    locks = record_locks(path);
    CHECK(locks > 0);
    CHECK(open_with(second, path, &other, &err) == CREDSTORE_E_UNSUPPORTED);
    CHECK(other == NULL && strstr(err.message, "second copy") != NULL);
    CHECK(record_locks(path) == locks);
    CHECK(open_with(first, path, &other, &err) == CREDSTORE_OK); /* the first one may, again */
    first->close(other);
    CHECK(record_locks(path) == locks);
    first->close(store);
    CHECK(open_with(second, path, &other, &err) == CREDSTORE_OK);
    second->close(other);
    return 0;
}

int main(int argc, char **argv)
{
    const copy linked = {credstore_key_bytes, credstore_key_source_free, credstore_open,
                         credstore_close};
    copy loaded = {0};
    char path[512];
    void *library;

    CHECK(argc == 3);
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    load(library, "credstore_key_bytes", &loaded.key_bytes);
    load(library, "credstore_key_source_free", &loaded.key_free);
    load(library, "credstore_open", &loaded.open);
    load(library, "credstore_close", &loaded.close);
    CHECK(loaded.key_bytes != NULL && loaded.key_free != NULL && loaded.open != NULL &&
          loaded.close != NULL && loaded.open != credstore_open);
    snprintf(path, sizeof path, "%s/linked-first", argv[2]);
    CHECK(try_both(&linked, &loaded, path) == 0);
    snprintf(path, sizeof path, "%s/loaded-first", argv[2]);
    CHECK(try_both(&loaded, &linked, path) == 0);
    return 0;
}
