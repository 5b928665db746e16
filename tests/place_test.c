/* SPDX-License-Identifier: MIT
 *
 * What lies under each key of a store with something in every table: its table and place, and boxes
 * that open under the labels that the place tells. No key or value that is cut short, or grows,
 * passes for one.
 */
#include "populated.h"

#include "id.h"
#include "place.h"
#include "ring.h"

typedef struct world {
    populated *p;
    pop_pairs *all;
} world;

static credstore_bytes value_of(const pop_pair *pair)
{
    return cs_bytes(pair->value, pair->len);
}

static int begin(void **state)
{
    world *w = calloc(1, sizeof *w);

    assert_non_null(w);
    w->p = pop_open(TEST_MEMORY, true);
    w->all = pop_dump(w->p->w.t.store);
    *state = w;
    return 0;
}

static int end(void **state)
{
    world *w = *state;

    pop_pairs_free(w->all);
    pop_close(w->p);
    free(w);
    return 0;
}

/* ---- tables ---- */

static const struct row {
    uint8_t table;
    const char *name;
} rows[] = {
    {CS_TABLE_META, "header"},         {CS_TABLE_ROOT, "root slot"},
    {CS_TABLE_KEYRING, "keyring"},     {CS_TABLE_CATALOGUE, "catalogue"},
    {CS_TABLE_RECORD, "record"},       {CS_TABLE_OWNER, "owner index"},
    {CS_TABLE_LANE, "audit"},          {CS_TABLE_LANE, "head"},
    {CS_TABLE_LANE, "anchor"},         {CS_TABLE_END, "queue of ends"},
    {CS_TABLE_LANE, "believed time"},  {CS_TABLE_RECEIPT, "receipt"},
    {CS_TABLE_PURGE, "purge queue"},   {CS_TABLE_USAGE, "last used"},
    {CS_TABLE_ALIAS, "organization"},  {CS_TABLE_FINGERPRINT, "fingerprint index"},
    {CS_TABLE_DIGEST, "digest index"}, {CS_TABLE_TOKEN, "token index"},
};

static void test_every_table(void **state)
{
    const world *w = *state;
    size_t seen[LIFE_COUNT(rows)] = {0};

    for (size_t i = 0; i < w->all->count; i++) {
        const pop_pair *pair = &w->all->pair[i];
        bool known = false;
        cs_place place;

        assert_true(cs_place_of(cs_key_bytes(&pair->key), value_of(pair), &place));
        assert_int_equal(place.table, pair->key.ptr[0]);
        for (size_t r = 0; r < LIFE_COUNT(rows); r++)
            if (rows[r].table == place.table && strcmp(rows[r].name, place.name) == 0) {
                seen[r]++;
                known = true;
            }
        assert_true(known);
    }
    for (size_t r = 0; r < LIFE_COUNT(rows); r++) {
        if (seen[r] == 0)
            print_error("nothing in: %s\n", rows[r].name);
        assert_true(seen[r] > 0);
    }
}

/* ---- boxes ---- */

/* Each opens under the label that it was given, and under no other revision, field or id. */
static void check_box(credstore *store, const cs_sealed_box *box)
{
    uint8_t *plain = malloc(box->box.sealed.len + 1);
    cs_label label = box->label;
    credstore_error err = {0};

    assert_status(CREDSTORE_OK,
                  cs_keyring_unseal(&store->sealer, cs_store_ring(store), box->purpose, &label,
                                    &box->box, plain, &err),
                  &err);
    label.revision++;
    assert_int_equal(cs_keyring_unseal(&store->sealer, cs_store_ring(store), box->purpose, &label,
                                       &box->box, plain, NULL),
                     CREDSTORE_E_INTEGRITY);
    label.revision--;
    label.role++;
    assert_int_equal(cs_keyring_unseal(&store->sealer, cs_store_ring(store), box->purpose, &label,
                                       &box->box, plain, NULL),
                     CREDSTORE_E_INTEGRITY);
    free(plain);
}

static void test_every_box(void **state)
{
    const world *w = *state;
    size_t bodies = 0, secrets = 0;

    for (size_t i = 0; i < w->all->count; i++) {
        const pop_pair *pair = &w->all->pair[i];
        cs_sealed_box boxes[CS_BOXES_MAX];
        size_t count = 99;
        cs_place place;

        assert_true(cs_place_of(cs_key_bytes(&pair->key), value_of(pair), &place));
        assert_true(cs_place_boxes(&place, value_of(pair), boxes, &count));
        assert_int_equal(count == 0, place.table <= CS_TABLE_KEYRING);
        for (size_t b = 0; b < count; b++) {
            assert_int_equal(boxes[b].purpose, b == 0 ? CS_PURPOSE_BODY : CS_PURPOSE_SECRET);
            check_box(w->p->w.t.store, &boxes[b]);
            bodies += b == 0;
            secrets += b > 0;
        }
    }
    assert_true(bodies > 50 && secrets > 20);
}

/* ---- places ---- */

static void test_records(void **state)
{
    const world *w = *state;

    for (pop_name n = 0; n < POP_RECORDS; n++) {
        const cs_locator *at = &w->p->ops[n].at;
        cs_place place;
        cs_buf value;
        cs_key key;

        cs_key_record(&key, at);
        value = life_raw_get(w->p->w.t.store, &key);
        assert_true(cs_place_of(cs_key_bytes(&key), cs_bytes(value.ptr, value.len), &place));
        assert_int_equal(place.role, n == POP_REMOVED ? CS_ROLE_TOMBSTONE : CS_ROLE_CURRENT);
        assert_int_equal(place.at.kind, pop_records[n].kind);
        assert_memory_equal(place.at.scope, at->scope, CS_SCOPE_LEN);
        assert_true(cs_bytes_equal(place.at.id, at->id));
        assert_true(place.revision >= 1);
        cs_buf_free(&value);
    }
}

static void test_history(void **state)
{
    const world *w = *state;
    cs_place place;
    cs_key key;
    cs_buf value;

    cs_key_history(&key, &w->p->ops[POP_BOOK].at, 2);
    value = life_raw_get(w->p->w.t.store, &key);
    assert_true(cs_place_of(cs_key_bytes(&key), cs_bytes(value.ptr, value.len), &place));
    assert_int_equal(place.role, CS_ROLE_HISTORY);
    assert_int_equal(place.revision, 2);
    cs_put_u64(value.ptr + 4, 3); /* the value says another revision than the key */
    assert_false(cs_place_of(cs_key_bytes(&key), cs_bytes(value.ptr, value.len), &place));
    cs_put_u64(value.ptr + 4, 2);
    value.ptr[1] = CS_ROLE_CURRENT;
    assert_false(cs_place_of(cs_key_bytes(&key), cs_bytes(value.ptr, value.len), &place));
    cs_buf_free(&value);
}

static void test_other_places(void **state)
{
    const world *w = *state;
    size_t audit = 0, fingerprints = 0, purges = 0;

    for (size_t i = 0; i < w->all->count; i++) {
        const pop_pair *pair = &w->all->pair[i];
        cs_place place;

        assert_true(cs_place_of(cs_key_bytes(&pair->key), value_of(pair), &place));
        audit += place.role == CS_ROLE_AUDIT && place.seq > 1;
        fingerprints += place.role == CS_ROLE_FINGERPRINT && place.field != 0 &&
                        place.revision != 0 && cs_kind_find(place.at.kind) != NULL;
        purges += place.role == CS_ROLE_PURGE && place.day == TEST_NOW / LIFE_DAY &&
                  cs_bytes_equal(place.at.id, cs_bytes_of(pop_records[POP_REMOVED].id));
    }
    assert_true(audit >= 1 && fingerprints > 10 && purges == 1);
}

/* ---- what is no key, and no value ---- */

/* The tables whose keys end in a text that a NUL ends take a shorter one for none; others know
   their length. A key of the founding is looked at by those who read it. */
static void test_other_keys(void **state)
{
    const world *w = *state;
    const cs_key strange[] = {{0, {0}}, {1, {0}}, {2, {0x77, 1}}, {1, {0xff}}};
    cs_place place;

    for (size_t i = 0; i < LIFE_COUNT(strange); i++)
        assert_false(cs_place_of(cs_key_bytes(&strange[i]), cs_bytes("", 0), &place));
    for (size_t i = 0; i < w->all->count; i++) {
        const pop_pair *pair = &w->all->pair[i];
        cs_key key = pair->key;

        if (key.ptr[0] <= CS_TABLE_KEYRING)
            continue;
        key.ptr[key.len++] = 'x';
        assert_false(cs_place_of(cs_key_bytes(&key), value_of(pair), &place));
        key.len -= 2;
        assert_false(cs_place_of(cs_key_bytes(&key), value_of(pair), &place));
    }
}

static void test_cut_values(void **state)
{
    const world *w = *state;

    for (size_t i = 0; i < w->all->count; i++) {
        const pop_pair *pair = &w->all->pair[i];
        cs_sealed_box boxes[CS_BOXES_MAX];
        size_t count;
        cs_place place;

        if (pair->key.ptr[0] <= CS_TABLE_KEYRING)
            continue;
        for (size_t len = 0; len < pair->len + 2; len++) {
            uint8_t *copy = calloc(1, len + 1); /* a byte over is seen by the sanitizer */
            const credstore_bytes value = {copy, len};

            memcpy(copy, pair->value, len < pair->len ? len : pair->len);
            if (len != pair->len && cs_place_of(cs_key_bytes(&pair->key), value, &place) &&
                /* a receipt without its token is one that never had one */
                !(place.role == CS_ROLE_RECEIPT && len < pair->len))
                assert_false(cs_place_boxes(&place, value, boxes, &count));
            free(copy);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_table),  cmocka_unit_test(test_every_box),
        cmocka_unit_test(test_records),      cmocka_unit_test(test_history),
        cmocka_unit_test(test_other_places), cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_cut_values),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
