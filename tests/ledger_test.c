/* SPDX-License-Identifier: MIT
 *
 * The audit as its readers see it: a feed of every change, waiting and waking, each tenant its own,
 * and a chain that shows what was edited, cut off or put back.
 */
#include "life.h"

#include "audit.h"
#include "commit.h"
#include "sealed.h"

#include <pthread.h>
#include <time.h>

static const credstore_audit_page *read_page(test_world *w, uint64_t after, uint32_t limit)
{
    const credstore_audit_page *page = NULL;
    credstore_error err;

    life_ok(credstore_audit_read(w->t.store, &w->call, after, limit, 0, &page, &err));
    assert_non_null(page);
    assert_int_equal(page->struct_size, sizeof *page);
    return page;
}

static uint64_t last_seq(test_world *w)
{
    const credstore_audit_page *page = read_page(w, 0, 1000);
    const uint64_t seq = page->last_seq;

    credstore_free(page);
    return seq;
}

static credstore_checkpoint checkpoint(test_world *w)
{
    credstore_checkpoint now;
    credstore_error err;

    life_ok(credstore_audit_verify(w->t.store, &w->call, NULL, &now, &err));
    assert_int_equal(now.struct_size, sizeof now);
    return now;
}

static void verifies(test_world *w, const credstore_checkpoint *known, credstore_status expected)
{
    credstore_checkpoint now;
    credstore_error err;

    memset(&now, 0x5a, sizeof now);
    life_fails(expected, credstore_audit_verify(w->t.store, &w->call, known, &now, &err));
}

static void make(test_world *w, unsigned revisions)
{
    credstore_error err;
    test_patch patch;

    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    for (unsigned n = 2; n <= revisions; n++) {
        test_patch_whole(w->k, &patch, n);
        life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    }
}

static void any_kind(test_world *w)
{
    w->k = test_kind_of(CREDSTORE_KIND_CHECKBOOK);
    w->at = test_at_of(w->k);
}

/* ---- the feed ---- */

static void expect(const credstore_audit_entry *e, test_world *w, uint32_t action,
                   uint64_t revision)
{
    const cs_kind *kind = w->k->kind;

    assert_int_equal(e->struct_size, sizeof *e);
    assert_int_equal(e->action, action);
    assert_int_equal(e->kind, kind->id);
    assert_int_equal(e->revision, revision);
    assert_int_equal(e->actor_type, CREDSTORE_ACTOR_USER);
    assert_int_equal(e->time, TEST_NOW + (int64_t)revision);
    assert_string_equal(e->actor, "root");
    assert_string_equal(e->tenant, TEST_TENANT);
    assert_string_equal(e->parent, kind->parent_name == NULL ? "" : TEST_PARENT);
    assert_string_equal(e->id, w->k->id);
    assert_string_equal(e->request_id, "6f2a0c9e-8d0f-4f57-9d3c-0d2b8f0a1c11");
}

static void every_change_is_there(test_world *w)
{
    const uint64_t before = last_seq(w);
    const credstore_audit_page *page;
    credstore_error err;
    test_patch patch;

    w->call.request_id = "6f2a0c9e-8d0f-4f57-9d3c-0d2b8f0a1c11";
    atomic_store(&w->t.now, TEST_NOW + 1);
    life_ok(life_create(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
    atomic_store(&w->t.now, TEST_NOW + 2);
    test_patch_whole(w->k, &patch, 2);
    life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err)); /* no change */
    atomic_store(&w->t.now, TEST_NOW + 3);
    life_ok(life_restore(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
    atomic_store(&w->t.now, TEST_NOW + 4);
    life_ok(life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    page = read_page(w, before, 1000);
    assert_int_equal(page->count, 4);
    assert_int_equal(page->last_seq, before + 4);
    expect(page->items[0], w, CREDSTORE_ACTION_CREATE, 1);
    expect(page->items[1], w, CREDSTORE_ACTION_UPDATE, 2);
    expect(page->items[2], w, CREDSTORE_ACTION_RESTORE, 3);
    expect(page->items[3], w, CREDSTORE_ACTION_REMOVE, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(page->items[i]->seq, before + i + 1);
        assert_true(page->items[i]->changed_count > 0);
        for (size_t n = 0; n < page->items[i]->changed_count; n++)
            assert_true(page->items[i]->changed[n][0] != '\0');
    }
    credstore_free(page);
    verifies(w, NULL, CREDSTORE_OK);
}

/* The names of the fields that changed, and no others. */
static void what_changed_is_named(test_world *w)
{
    make(w, 1);
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        const cs_field *field = &w->k->kind->fields[i];
        const uint64_t before = last_seq(w);
        const credstore_audit_page *page;
        bool named = false;
        credstore_error err;
        test_patch patch;

        if (!test_in_patch(field))
            continue;
        test_patch_begin(w->k, &patch);
        test_patch_set(w->k, &patch, i, 2);
        life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
        page = read_page(w, before, 10);
        assert_int_equal(page->count, 1);
        for (size_t n = 0; n < page->items[0]->changed_count; n++) {
            const char *name = page->items[0]->changed[n];

            named = named || strcmp(name, field->name) == 0;
            for (size_t other = 0; other < w->k->kind->field_count; other++)
                if (other != i && test_in_patch(&w->k->kind->fields[other]))
                    assert_string_not_equal(name, w->k->kind->fields[other].name);
        }
        assert_true(named);
        credstore_free(page);
    }
}

static void pages(test_world *w)
{
    static const uint32_t limits[] = {1, 3, 1000};
    const credstore_audit_page *page = NULL;
    credstore_error err;
    uint64_t last;

    any_kind(w);
    make(w, 9);
    last = last_seq(w);
    for (size_t i = 0; i < LIFE_COUNT(limits); i++) {
        uint64_t at = 0;

        while (at < last) {
            page = read_page(w, at, limits[i]);
            assert_int_equal(page->count, last - at < limits[i] ? last - at : limits[i]);
            for (size_t n = 0; n < page->count; n++)
                assert_int_equal(page->items[n]->seq, ++at);
            assert_int_equal(page->last_seq, at);
            credstore_free(page);
        }
    }
    for (uint64_t after = last; after < last + 3; after++) { /* beyond the end is nothing yet */
        page = read_page(w, after, 5);
        assert_int_equal(page->count, 0);
        assert_int_equal(page->last_seq, after);
        credstore_free(page);
    }
    page = read_page(w, UINT64_MAX, 5);
    assert_int_equal(page->count, 0);
    credstore_free(page);
    for (uint32_t limit = 0; limit < 2002; limit += 1001) {
        page = (const credstore_audit_page *)(const void *)w;
        life_fails(CREDSTORE_E_INVALID,
                   credstore_audit_read(w->t.store, &w->call, 0, limit, 0, &page, &err));
        assert_null(page);
    }
    life_fails(CREDSTORE_E_INVALID,
               credstore_audit_read(w->t.store, &w->call, 0, 1, 0, NULL, &err));
}

static void each_tenant_its_own(test_world *w)
{
    const credstore_actor admin =
        test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "other");
    const credstore_actor member = test_actor(CREDSTORE_ACTOR_USER, 0, "member", "other");
    const credstore_actor key =
        test_actor(CREDSTORE_ACTOR_API_KEY, CREDSTORE_ROLE_ADMIN, "key", "other");
    const credstore_actor system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "platform", "");
    const credstore_actor *const refused[] = {&member, &key};
    const credstore_call by_root = w->call;
    credstore_call theirs = w->call;
    const credstore_api_key_patch patch = life_api_key_patch("theirs");
    const credstore_audit_page *page = NULL;
    credstore_checkpoint now;
    credstore_error err;
    uint64_t last;

    any_kind(w);
    make(w, 3);
    theirs.tenant = "other";
    life_ok(credstore_api_key_create(w->t.store, &theirs, NULL, &patch, NULL, &err));
    last = last_seq(w);
    w->call = test_call(&system);
    page = read_page(w, 0, 1000);
    assert_int_equal(page->count, last);
    credstore_free(page);
    verifies(w, NULL, CREDSTORE_OK);
    w->call = test_call(&admin);
    page = read_page(w, 0, 1000);
    assert_int_equal(page->count, 1);
    assert_string_equal(page->items[0]->tenant, "other");
    assert_int_equal(page->last_seq, last); /* others' were looked at */
    credstore_free(page);
    w->call.tenant = TEST_TENANT; /* to name another's tenant is no key to it */
    page = NULL;
    if (credstore_audit_read(w->t.store, &w->call, 0, 1000, 0, &page, &err) == CREDSTORE_OK) {
        for (size_t i = 0; i < page->count; i++)
            assert_string_equal(page->items[i]->tenant, "other");
        credstore_free(page);
    }
    life_fails(CREDSTORE_E_FORBIDDEN,
               credstore_audit_verify(w->t.store, &w->call, NULL, &now, &err));
    for (size_t i = 0; i < LIFE_COUNT(refused); i++) {
        w->call = test_call(refused[i]);
        page = (const credstore_audit_page *)(const void *)w;
        life_fails(CREDSTORE_E_FORBIDDEN,
                   credstore_audit_read(w->t.store, &w->call, 0, 10, 0, &page, &err));
        assert_null(page);
    }
    w->call = by_root;
}

/* ---- waiting ---- */

static int64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

typedef struct waiter {
    test_world *w;
    uint64_t after;
    uint32_t wait_ms;
    size_t count;
    credstore_status status;
    atomic_bool ended;
} waiter;

static void *wait_for_it(void *arg)
{
    waiter *x = arg;
    const credstore_audit_page *page = NULL;

    x->status =
        credstore_audit_read(x->w->t.store, &x->w->call, x->after, 10, x->wait_ms, &page, NULL);
    x->count = page == NULL ? 0 : page->count;
    credstore_free(page);
    atomic_store(&x->ended, true);
    return NULL;
}

static void a_wait_ends(test_world *w)
{
    enum { LONG = 60000 };
    int64_t began = monotonic_ms();
    waiter x = {.w = w, .wait_ms = 60};
    pthread_t thread;

    any_kind(w);
    x.after = last_seq(w);
    wait_for_it(&x); /* by its time */
    assert_int_equal(x.status, CREDSTORE_OK);
    assert_int_equal(x.count, 0);
    assert_true(monotonic_ms() - began >= 60);

    x.wait_ms = LONG; /* by a change */
    began = monotonic_ms();
    assert_int_equal(pthread_create(&thread, NULL, wait_for_it, &x), 0);
    make(w, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(x.status, CREDSTORE_OK);
    assert_int_equal(x.count, 1);

    atomic_store(&x.ended, false);
    x.after = last_seq(w); /* by a wake, even one that comes a little early */
    assert_int_equal(pthread_create(&thread, NULL, wait_for_it, &x), 0);
    while (!atomic_load(&x.ended)) { /* he may not have begun to wait: a wake before is none */
        const struct timespec pause = {0, 10000000};

        nanosleep(&pause, NULL);
        credstore_wake(w->t.store);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(x.status, CREDSTORE_OK);
    assert_int_equal(x.count, 0);
    assert_true(monotonic_ms() - began < LONG);
    credstore_wake(NULL);
}

/* ---- the chain ---- */

static void checkpoints(test_world *w)
{
    credstore_checkpoint first, second, other;

    any_kind(w);
    first = checkpoint(w);
    verifies(w, &first, CREDSTORE_OK);
    make(w, 3);
    second = checkpoint(w);
    assert_int_equal(second.seq, first.seq + 3);
    assert_true(second.generation > first.generation);
    verifies(w, &first, CREDSTORE_OK);
    verifies(w, &second, CREDSTORE_OK);
    other = second; /* ahead of the store */
    other.seq++;
    verifies(w, &other, CREDSTORE_E_ROLLBACK);
    other = second;
    other.generation++;
    verifies(w, &other, CREDSTORE_E_ROLLBACK);
    for (size_t i = 0; i < sizeof other.chain; i++) { /* of another history */
        other = first;
        other.chain[i] ^= 1;
        verifies(w, &other, CREDSTORE_E_ROLLBACK);
    }
    other = second;
    other.seq = first.seq;
    verifies(w, &other, CREDSTORE_E_ROLLBACK);
    other.struct_size = 0;
    verifies(w, &other, CREDSTORE_E_INVALID);
}

static void prunes(test_world *w, const credstore_checkpoint *up_to, credstore_status expected)
{
    const uint64_t generation = test_generation(w->t.store);
    uint32_t more = 7;
    credstore_error err;

    life_fails(expected, credstore_audit_prune(w->t.store, &w->call, up_to, &more, &err));
    assert_int_equal(more, 0);
    if (expected != CREDSTORE_OK)
        assert_int_equal(test_generation(w->t.store), generation);
}

/* What was pruned already is held against the chain as what is pruned now. */
static void prunings(test_world *w)
{
    credstore_checkpoint first, second, other;

    any_kind(w);
    make(w, 4);
    first = checkpoint(w);
    other = first;
    other.chain[CS_CHAIN_LEN - 1] ^= 1;
    prunes(w, &other, CREDSTORE_E_ROLLBACK); /* nothing is pruned yet */
    prunes(w, &first, CREDSTORE_OK);
    prunes(w, &first, CREDSTORE_OK); /* again: nothing is left to do */
    for (size_t i = 0; i < sizeof other.chain; i++) {
        other = first;
        other.chain[i] ^= 1;
        prunes(w, &other, CREDSTORE_E_ROLLBACK);
        verifies(w, &other, CREDSTORE_E_ROLLBACK); /* which says the same */
    }
    other = first; /* before it nobody knows any more */
    other.seq--;
    prunes(w, &other, CREDSTORE_OK);
    second = checkpoint(w);
    assert_int_equal(second.seq, first.seq + 1); /* the pruning's own entry */
    other = second;
    other.seq++;
    prunes(w, &other, CREDSTORE_E_ROLLBACK);
    verifies(w, &first, CREDSTORE_OK);
    prunes(w, &second, CREDSTORE_OK);
}

static void checkpoints_of_another_store(test_world *w)
{
    test_world *other = calloc(1, sizeof *other);
    credstore_checkpoint theirs;

    assert_non_null(other);
    any_kind(w);
    test_open(&other->t, w->t.engine);
    other->k = w->k;
    other->at = w->at;
    other->root = w->root;
    other->call = test_call(&other->root);
    make(w, 3);
    make(other, 2);
    theirs = checkpoint(other);
    verifies(w, &theirs, CREDSTORE_E_ROLLBACK);
    test_close(&other->t);
    free(other);
}

static void edited_entries(test_world *w)
{
    const credstore_audit_page *page;
    credstore_error err;
    uint64_t last;
    cs_key key;
    cs_buf value;

    any_kind(w);
    make(w, 6);
    last = last_seq(w);
    for (uint64_t seq = 1; seq <= last; seq++) {
        cs_key_audit(&key, 0, seq);
        value = life_raw_get(w->t.store, &key);
        assert_true(value.len > 0);
        for (size_t at = 0; at < value.len; at += 11) { /* a bit anywhere */
            value.ptr[at] ^= 2;
            life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
            value.ptr[at] ^= 2;
            verifies(w, NULL, CREDSTORE_E_INTEGRITY);
        }
        page = NULL;
        life_raw_del(w->t.store, &key); /* or all of it */
        verifies(w, NULL, CREDSTORE_E_INTEGRITY);
        life_fails(CREDSTORE_E_INTEGRITY,
                   credstore_audit_read(w->t.store, &w->call, 0, 1000, 0, &page, &err));
        assert_null(page);
        life_raw_put(w->t.store, &key, cs_bytes(value.ptr, value.len));
        verifies(w, NULL, CREDSTORE_OK);
        cs_buf_free(&value);
    }
}

/* Seals the last entry again with a member more. */
static credstore_status add_member(cs_txn *txn, void *arg, credstore_error *err)
{
    const uint16_t *id = arg;
    const cs_label label = {.role = CS_ROLE_AUDIT, .revision = txn->head.last_seq};
    cs_buf plain = {0};
    cs_key key;
    credstore_status status = cs_audit_open(txn, txn->head.last_seq, &plain, err);

    cs_buf_u16(&plain, *id);
    cs_buf_u32(&plain, 1);
    cs_buf_u8(&plain, 7);
    cs_key_audit(&key, 0, txn->head.last_seq);
    if (status == CREDSTORE_OK)
        status = cs_txn_put_sealed(txn, &key, &label, cs_bytes(plain.ptr, plain.len), err);
    cs_buf_free(&plain);
    return status;
}

/* What a newer library added is passed over, unless its number says that it must not be. */
static void members_of_a_newer_library(test_world *w)
{
    static const struct {
        uint16_t id;
        credstore_status status;
    } rows[] = {{12, CREDSTORE_OK},
                {0x7fff, CREDSTORE_OK},
                {0x8000, CREDSTORE_E_FORMAT},
                {0xffff, CREDSTORE_E_FORMAT}};
    uint64_t before = last_seq(w);

    for (size_t i = 0; i < LIFE_COUNT(rows); i++, before++) {
        uint16_t id = rows[i].id;
        const cs_work work = {add_member, &id, 0};
        const credstore_audit_page *page = NULL;
        credstore_error err = {0};

        (void)life_issue(w, 0);
        life_ok(cs_txn_write(w->t.store, &work, &err));
        life_fails(rows[i].status,
                   credstore_audit_read(w->t.store, &w->call, before, 10, 0, &page, &err));
        credstore_free(page);
    }
}

static void swapped_entries(test_world *w)
{
    cs_buf values[2];
    cs_key keys[2];
    uint64_t last;

    any_kind(w);
    make(w, 4);
    last = last_seq(w);
    for (uint64_t i = 0; i < 2; i++) {
        cs_key_audit(&keys[i], 0, last - 1 - i);
        values[i] = life_raw_get(w->t.store, &keys[i]);
    }
    for (size_t i = 0; i < 2; i++)
        life_raw_put(w->t.store, &keys[i], cs_bytes(values[1 - i].ptr, values[1 - i].len));
    verifies(w, NULL, CREDSTORE_E_INTEGRITY);
    cs_buf_free(&values[0]);
    cs_buf_free(&values[1]);
}

/* The head as it was, and the entries that came after it cut off: only a checkpoint shows it. */
static void an_older_end(test_world *w)
{
    credstore_checkpoint before, after;
    cs_key head, key;
    cs_buf old;
    credstore_error err;

    if (w->t.engine != TEST_LMDB)
        return;
    any_kind(w);
    make(w, 2);
    before = checkpoint(w);
    cs_key_head(&head, 0);
    old = life_raw_get(w->t.store, &head);
    test_patch patch;
    test_patch_whole(w->k, &patch, 9);
    life_ok(w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, &err));
    after = checkpoint(w);
    life_raw_put(w->t.store, &head, cs_bytes(old.ptr, old.len));
    cs_key_audit(&key, 0, after.seq);
    life_raw_del(w->t.store, &key);
    cs_buf_free(&old);
    life_ok(test_reopen(&w->t, &err));
    verifies(w, &before, CREDSTORE_OK);
    verifies(w, &after, CREDSTORE_E_ROLLBACK);
}

static void nothing_of_a_secret(test_world *w)
{
    const credstore_audit_page *page;

    for (size_t i = 0; i < test_kind_count; i++) {
        w->k = &test_kinds[i];
        w->at = test_at_of(w->k);
        make(w, 3);
    }
    page = read_page(w, 0, 1000);
    assert_true(page->count >= 12);
    for (size_t i = 0; i < page->count; i++) {
        const credstore_audit_entry *e = page->items[i];
        const char *const texts[] = {e->actor, e->tenant, e->parent, e->id, e->request_id};

        for (size_t n = 0; n < LIFE_COUNT(texts); n++) {
            assert_non_null(texts[n]);
            assert_null(strstr(texts[n], "value"));
            assert_null(strstr(texts[n], "whsec_"));
        }
        for (size_t n = 0; n < e->changed_count; n++)
            assert_null(strstr(e->changed[n], "value"));
    }
    credstore_free(page);
}

int main(void)
{
    static const test_row of_kinds[] = {
        {"every change is there", every_change_is_there},
        {"what changed is named", what_changed_is_named},
    };
    static const test_row rows[] = {
        {"pages", pages},
        {"each tenant its own", each_tenant_its_own},
        {"a wait ends", a_wait_ends},
        {"checkpoints", checkpoints},
        {"prunings", prunings},
        {"checkpoints of another store", checkpoints_of_another_store},
        {"edited entries", edited_entries},
        {"members of a newer library", members_of_a_newer_library},
        {"swapped entries", swapped_entries},
        {"an older end", an_older_end},
        {"nothing of a secret", nothing_of_a_secret},
    };

    return test_run("the audit of kinds", test_kinds, test_kind_count, of_kinds,
                    LIFE_COUNT(of_kinds)) +
           test_run("the audit", NULL, 0, rows, LIFE_COUNT(rows));
}
