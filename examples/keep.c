/* SPDX-License-Identifier: MIT
 *
 * Keeping a store over the years, as credstore-keeping(7) tells it: root keys, data keys, checks,
 * anchors, backup and restore. Its files are made in this folder, where none of them may be.
 */
#include <credstore.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const anchor_file = "keep.anchor"; /* where who can write the store cannot */
static credstore_error err;

static void must(credstore_status status)
{
    if (status == CREDSTORE_OK)
        return;
    fprintf(stderr, "%s: %s\n", credstore_status_name((int32_t)status), err.message);
    exit(EXIT_FAILURE);
}

/* Open: the store is held against the anchor. No anchor is the first time; a damaged one is not. */
static credstore *open_store(const char *path, const credstore_key_source *key)
{
    credstore_options options = {.struct_size = sizeof options, .key = key};
    credstore_checkpoint anchor;
    credstore *store = NULL;
    const credstore_status status = credstore_anchor_read(anchor_file, &anchor, &err);

    if (status == CREDSTORE_E_NOT_FOUND)
        options.flags = CREDSTORE_OPEN_CREATE;
    else
        must(status);
    options.anchor = status == CREDSTORE_OK ? &anchor : NULL;
    must(credstore_open(path, &options, &store, &err));
    return store;
}

/* Anchor: now and then; what comes after the last one is unprotected. */
static void anchor_store(credstore *store, const credstore_call *call)
{
    credstore_checkpoint anchor;

    must(credstore_anchor_take(store, call, &anchor, &err));
    must(credstore_anchor_write(anchor_file, &anchor, 0, &err));
}

/* Root keys: a person's for the worst day, and the new one for the old one. The new one is added
   before the old one goes. */
static void change_root_key(credstore *store, const credstore_call *call,
                            const credstore_key_source *fresh)
{
    const uint32_t rights = CREDSTORE_ROOT_READ | CREDSTORE_ROOT_REVEAL;
    const credstore_root_page *slots = NULL;
    credstore_key_source *recovery = NULL;

    must(credstore_key_passphrase("eleven words on paper in a safe", CREDSTORE_NTS, 14, &recovery,
                                  &err)); /* 14 is quick; leave it at 0 */
    must(credstore_root_add(store, call, recovery, rights, NULL, &err));
    must(credstore_root_add(store, call, fresh, rights, NULL, &err));
    must(credstore_root_list(store, call, &slots, &err));
    for (uint32_t i = 0; i < slots->count; i++)
        if (slots->items[i]->is_own)
            must(credstore_root_remove(store, call, slots->items[i]->slot, &err));
    printf("%" PRIu32 " root slots, of which one went\n", slots->count);
    credstore_free(slots);
    credstore_key_source_free(recovery);
}

/* Data keys: new ones, and everything sealed anew beside readers and writers, a bit at a time. The
   version sees to it that a second try makes no second keys. */
static void rotate(credstore *store, credstore_call call)
{
    const credstore_data_key_page *keys = NULL;
    uint32_t more = 1;

    must(credstore_keys_list(store, &call, 0, &keys, &err));
    call.expected_revision = keys->version;
    must(credstore_keys_promote(store, &call, CREDSTORE_KEYS_BODY | CREDSTORE_KEYS_SECRET, &err));
    while (more == 1)
        must(credstore_keys_reseal(store, &call, 0, 50, NULL, NULL, &more, &err));
    credstore_free(keys);

    call.expected_revision = 0;
    must(credstore_keys_list(store, &call, CREDSTORE_KEYS_COUNT, &keys, &err));
    for (uint32_t i = 0; i < keys->count; i++)
        if (keys->items[i]->state == CREDSTORE_DATA_KEY_RETIRED)
            printf("key %" PRIu32 " is retired, and protects %" PRIu64 "\n", keys->items[i]->id,
                   keys->items[i]->boxes);
    credstore_free(keys);
}

/* Check: is all as it was written? Each thing that is not goes to the callback. What can be derived
   from the records is mended. */
static uint32_t found(void *ctx, const credstore_finding *finding)
{
    (void)ctx;
    printf("%s %s: %s\n", finding->table, finding->id, finding->message);
    return 0;
}

static void check_up(credstore *store, const credstore_call *call)
{
    const credstore_check_options check = {.struct_size = sizeof check, .finding = found};
    credstore_check_result result = {.struct_size = sizeof result};

    must(credstore_check(store, call, &check, &result, &err));
    printf("%" PRIu64 " findings\n", result.findings);
    if (result.findings > 0)
        must(credstore_repair_indexes(store, call, NULL, &err));
}

/* Figures: how full, how many, how busy. */
static void figures(credstore *store, const credstore_call *call)
{
    const credstore_stats *stats = NULL;

    must(credstore_statistics(store, call, CREDSTORE_STATISTICS_KINDS, &stats, &err));
    for (size_t i = 0; i < stats->kind_count; i++)
        if (stats->kinds[i]->records > 0)
            printf("kind %" PRIu32 ": %" PRIu64 " record\n", stats->kinds[i]->kind,
                   stats->kinds[i]->records);
    credstore_free(stats);
}

/* Restore: a store made of the backup in a new folder, all of it checked before it is named. It
   begins a new epoch: whoever holds an anchor of before is told so, until he takes the new one.
   Erase: no freed page keeps old ciphertext. */
static void put_back(const credstore_key_source *key)
{
    credstore_checkpoint anchor;

    must(credstore_anchor_read(anchor_file, &anchor, &err)); /* is the backup as new as that? */
    const credstore_options options = {
        .struct_size = sizeof options, .key = key, .anchor = &anchor};
    must(credstore_restore("keep.backup", "keep.restored", &options, &anchor, &err));
    must(credstore_anchor_write(anchor_file, &anchor, CREDSTORE_ANCHOR_ACCEPT, &err));
    must(credstore_erase("keep.restored", &options, &err));
    printf("epoch %" PRIu64 "\n", anchor.epoch);
}

int main(void)
{
    const credstore_actor host = {sizeof host, CREDSTORE_ACTOR_SYSTEM, .id = "host",
                                  .tenant = "acme"};
    const credstore_call call = {.struct_size = sizeof call, .actor = &host};
    const char *project = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .live_secret_key = CREDSTORE_SECRET("sk_live_Hq8Jc3Ny7Pf24242", CREDSTORE_NTS),
    };
    credstore_key_source *first = NULL, *second = NULL;
    const credstore_stripe *view = NULL;

    must(credstore_key_file("keep-1.key", CREDSTORE_KEY_CREATE, &first, &err));
    must(credstore_key_file("keep-2.key", CREDSTORE_KEY_CREATE, &second, &err));
    credstore *store = open_store("keep", first);
    must(credstore_stripe_update(store, &call, project, &patch, NULL, &err));

    change_root_key(store, &call, second);
    rotate(store, call);
    check_up(store, &call);
    figures(store, &call);
    anchor_store(store, &call);
    must(credstore_backup(store, &call, "keep.backup", CREDSTORE_BACKUP_COMPACT, NULL, NULL, &err));
    credstore_close(store);

    put_back(second);
    store = open_store("keep.restored", second);
    must(credstore_stripe_get(store, &call, project, &view, &err));
    printf("%s\n", view->live_secret_key_masked);
    credstore_free(view);
    credstore_close(store);
    credstore_key_source_free(second);
    credstore_key_source_free(first);
    return 0;
}
