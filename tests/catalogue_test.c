/* SPDX-License-Identifier: MIT
 *
 * The permission catalogue: what a host may name, and numbers that are never given out again.
 */
#include "fixture.h"

#include "catalogue.h"
#include "error.h"

static const credstore_permission abc[] = {
    {"a", "r1", "x"},
    {"b", "r2", "x"},
    {"c", "r3", "x"},
};

/* ---- the host's list ---- */

static void test_copied(void **state)
{
    char id[] = "readApplications", resource[] = "applications", action[] = "read";
    const credstore_permission one = {id, resource, action};
    credstore_error err = {0};
    cs_catalogue catalogue;

    (void)state;
    fx_ok(cs_catalogue_copy(&one, 1, &catalogue, &err), &err);
    id[0] = resource[0] = action[0] = '!';
    assert_int_equal(catalogue.count, 1);
    assert_string_equal(catalogue.items[0].id, "readApplications");
    assert_string_equal(catalogue.items[0].resource, "applications");
    assert_string_equal(catalogue.items[0].action, "read");
    assert_false(catalogue.items[0].numbered);
    assert_int_equal(cs_catalogue_find(&catalogue, "readApplications", 16), -1); /* no number yet */
    cs_catalogue_free(&catalogue);
    assert_int_equal(catalogue.count, 0);
    cs_catalogue_free(&catalogue);
    fx_ok(cs_catalogue_copy(NULL, 0, &catalogue, &err), &err);
    assert_int_equal(catalogue.count, 0);
    cs_catalogue_free(&catalogue);
}

static void test_what_a_host_may_name(void **state)
{
    char longest[65] = "", too_long[66] = "";
    const credstore_permission good[] = {
        {longest, "r", "a"}, {"x", longest, "a"}, {"A-Za-z0-9._:-", "-", ":"}};
    const credstore_permission bad[] = {
        {NULL, "r", "a"},       {"x", NULL, "a"},     {"x", "r", NULL},     {"", "r", "a"},
        {"x", "", "a"},         {"x", "r", ""},       {"x y", "r", "a"},    {"x", "r/", "a"},
        {"x", "r", "\xc3\xa4"}, {too_long, "r", "a"}, {"x", too_long, "a"}, {"x", "r", too_long},
        {"x\n", "r", "a"},
    };
    const credstore_permission twice[][2] = {{{"a", "r", "x"}, {"a", "q", "y"}},
                                             {{"a", "r", "x"}, {"b", "r", "x"}}};
    const credstore_permission alike[] = {{"a", "r", "x"}, {"b", "r", "y"}, {"A", "q", "x"}};
    credstore_error err = {0};
    cs_catalogue catalogue;

    (void)state;
    memset(longest, 'l', sizeof longest - 1);
    memset(too_long, 'l', sizeof too_long - 1);
    for (size_t i = 0; i < FX_COUNT(good); i++) {
        fx_ok(cs_catalogue_copy(&good[i], 1, &catalogue, &err), &err);
        cs_catalogue_free(&catalogue);
    }
    for (size_t i = 0; i < FX_COUNT(bad); i++) {
        cs_error_clear(&err);
        fx_fails(cs_catalogue_copy(&bad[i], 1, &catalogue, &err), CREDSTORE_E_INVALID, &err);
        assert_string_equal(err.field, "catalogue");
        cs_catalogue_free(&catalogue);
    }
    for (size_t i = 0; i < FX_COUNT(twice); i++) {
        cs_error_clear(&err);
        fx_fails(cs_catalogue_copy(twice[i], 2, &catalogue, &err), CREDSTORE_E_INVALID, &err);
        cs_catalogue_free(&catalogue);
    }
    cs_error_clear(&err);
    fx_ok(cs_catalogue_copy(alike, FX_COUNT(alike), &catalogue, &err), &err);
    cs_catalogue_free(&catalogue);
}

/* ---- numbers ---- */

typedef struct names {
    char text[CS_CATALOGUE_MAX + 1][8];
    credstore_permission items[CS_CATALOGUE_MAX + 1];
} names;

static void many(names *n)
{
    for (unsigned i = 0; i < FX_COUNT(n->items); i++) {
        snprintf(n->text[i], sizeof n->text[i], "p%u", i);
        n->items[i].id = n->items[i].resource = n->items[i].action = n->text[i];
    }
}

/* Numbers a host's list against `known`, which then is what the store holds. */
static credstore_status number(const credstore_permission *items, size_t count, cs_buf *known,
                               size_t added, cs_catalogue *catalogue)
{
    credstore_error err = {0};
    cs_buf grown = {0};
    size_t got = 0;
    credstore_status status;

    fx_ok(cs_catalogue_copy(items, count, catalogue, &err), &err);
    status = cs_catalogue_number(catalogue, cs_bytes(known->ptr, known->len), &grown, &got, &err);
    assert_int_equal(err.status, status);
    if (status == CREDSTORE_OK)
        assert_int_equal(got, added);
    if (status == CREDSTORE_OK) {
        cs_buf_free(known);
        *known = grown;
    } else {
        cs_buf_free(&grown);
    }
    return status;
}

static void finds(const cs_catalogue *catalogue, const char *id, int number_of)
{
    assert_int_equal(cs_catalogue_find(catalogue, id, strlen(id)), number_of);
}

/* The list as it lies: u16 number, u16 length, id. */
static void test_layout(void **state)
{
    static const uint8_t two[] = "\0\0\0\x01"
                                 "a"
                                 "\0\x01\0\x01"
                                 "b";
    cs_buf known = {0};
    cs_catalogue catalogue;

    (void)state;
    assert_int_equal(number(abc, 2, &known, 2, &catalogue), CREDSTORE_OK);
    assert_int_equal(known.len, sizeof two - 1);
    assert_memory_equal(known.ptr, two, sizeof two - 1);
    cs_catalogue_free(&catalogue);
    cs_buf_free(&known);
}

static void test_numbers_stay(void **state)
{
    const credstore_permission other[] = {{"new", "r", "x"}, {"c", "r3", "x"}};
    const credstore_permission back[] = {{"b", "r2", "x"}, {"new", "r", "x"}, {"a", "r1", "x"}};
    cs_buf known = {0};
    cs_catalogue catalogue;

    (void)state;
    assert_int_equal(number(abc, 3, &known, 3, &catalogue), CREDSTORE_OK);
    finds(&catalogue, "a", 0);
    finds(&catalogue, "b", 1);
    finds(&catalogue, "c", 2);
    finds(&catalogue, "d", -1);
    finds(&catalogue, "", -1);
    assert_int_equal(cs_catalogue_find(&catalogue, "ab", 1), 0); /* by its length */
    cs_catalogue_free(&catalogue);

    assert_int_equal(number(other, 2, &known, 1, &catalogue), CREDSTORE_OK);
    finds(&catalogue, "c", 2);
    finds(&catalogue, "new", 3);
    finds(&catalogue, "a", -1); /* the host knows it no more */
    cs_catalogue_free(&catalogue);

    assert_int_equal(number(back, 3, &known, 0, &catalogue), CREDSTORE_OK);
    finds(&catalogue, "a", 0);
    finds(&catalogue, "b", 1);
    finds(&catalogue, "new", 3);
    cs_catalogue_free(&catalogue);
    cs_buf_free(&known);
}

/* 512 ids, past and present together. */
static void test_limit(void **state)
{
    names *n = malloc(sizeof *n);
    const credstore_permission more = {"more", "r", "x"};
    credstore_error err = {0};
    cs_buf known = {0};
    cs_catalogue catalogue;

    (void)state;
    assert_non_null(n);
    many(n);
    fx_fails(cs_catalogue_copy(n->items, CS_CATALOGUE_MAX + 1, &catalogue, &err),
             CREDSTORE_E_TOO_LARGE, &err);
    assert_string_equal(err.field, "catalogue");
    cs_catalogue_free(&catalogue);
    assert_int_equal(number(n->items, CS_CATALOGUE_MAX, &known, CS_CATALOGUE_MAX, &catalogue),
                     CREDSTORE_OK);
    finds(&catalogue, "p511", 511);
    cs_catalogue_free(&catalogue);
    assert_int_equal(number(n->items + 1, CS_CATALOGUE_MAX - 1, &known, 0, &catalogue),
                     CREDSTORE_OK);
    cs_catalogue_free(&catalogue);
    assert_int_equal(number(&more, 1, &known, 1, &catalogue), CREDSTORE_E_TOO_LARGE);
    finds(&catalogue, "more", -1);
    cs_catalogue_free(&catalogue);
    cs_buf_free(&known);
    free(n);
}

static void test_damaged(void **state)
{
    cs_buf known = {0}, bad = {0};
    cs_catalogue catalogue;

    (void)state;
    assert_int_equal(number(abc, 3, &known, 3, &catalogue), CREDSTORE_OK);
    cs_catalogue_free(&catalogue);
    for (size_t len = 0; len < known.len; len++) {
        uint8_t *exact = malloc(len + 1);
        const bool whole = len % 5 == 0; /* an entry has five bytes here */

        assert_non_null(exact);
        memcpy(exact, known.ptr, len);
        cs_buf_add(&bad, exact, len);
        assert_int_equal(number(abc, 3, &bad, 3 - len / 5, &catalogue),
                         whole ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
        cs_catalogue_free(&catalogue);
        cs_buf_free(&bad);
        free(exact);
    }
    for (size_t at = 0; at < known.len; at += 5)
        for (unsigned n = 0; n < 4; n++) { /* out of order, twice, a gap */
            cs_buf_add(&bad, known.ptr, known.len);
            bad.ptr[at + 1] = (uint8_t)n;
            assert_int_equal(number(abc, 3, &bad, 0, &catalogue),
                             n == at / 5 ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY);
            cs_catalogue_free(&catalogue);
            cs_buf_free(&bad);
        }
    cs_buf_free(&known);
}

static void test_forget(void **state)
{
    const credstore_permission mixed[] = {
        {"n1", "r", "1"}, {"b", "r2", "x"}, {"n2", "r", "2"}, {"c", "r3", "x"}};
    cs_buf known = {0};
    cs_catalogue catalogue;

    (void)state;
    assert_int_equal(number(abc, 3, &known, 3, &catalogue), CREDSTORE_OK);
    cs_catalogue_forget(&catalogue, 0);
    finds(&catalogue, "c", 2);
    cs_catalogue_free(&catalogue);
    assert_int_equal(number(mixed, 4, &known, 2, &catalogue), CREDSTORE_OK);
    finds(&catalogue, "n2", 4);
    cs_catalogue_forget(&catalogue, 2);
    finds(&catalogue, "n1", -1);
    finds(&catalogue, "n2", -1);
    finds(&catalogue, "b", 1);
    finds(&catalogue, "c", 2);
    cs_catalogue_free(&catalogue);
    cs_buf_free(&known);
    assert_int_equal(number(abc, 3, &known, 3, &catalogue), CREDSTORE_OK);
    cs_catalogue_forget(&catalogue, 3);
    finds(&catalogue, "a", -1);
    finds(&catalogue, "c", -1);
    cs_catalogue_free(&catalogue);
    cs_buf_free(&known);
}

static void test_bits(void **state)
{
    uint8_t bits[CS_CATALOGUE_MAX / 8];

    (void)state;
    for (unsigned set = 0; set < CS_CATALOGUE_MAX; set++) {
        memset(bits, 0, sizeof bits);
        cs_bit_set(bits, set);
        cs_bit_set(bits, set);
        for (unsigned i = 0; i < CS_CATALOGUE_MAX; i++)
            assert_int_equal(cs_bit_get(bits, i), i == set);
        assert_int_equal(bits[set / 8], 1U << set % 8); /* lowest bit first */
    }
}

/* ---- in a store ---- */

static void create_key(credstore *store, const char *id, const char *const *permissions,
                       size_t count)
{
    credstore_actor admin = fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&admin);
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("key"),
                                           .permissions = CREDSTORE_STRINGS(permissions, count)};
    credstore_error err;

    for (size_t i = 0; i < count; i++)
        fx_ok(credstore_actor_grant(store, &admin, permissions[i], &err), &err);
    fx_ok(credstore_api_key_create(store, &call, &origin, &patch, NULL, &err), &err);
}

static void shows(credstore *store, const char *id, const char *one, const char *two)
{
    const credstore_actor admin =
        fx_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    const credstore_call call = fx_call(&admin);
    const credstore_api_key *view = NULL;
    credstore_error err;

    fx_ok(credstore_api_key_get(store, &call, id, &view, &err), &err);
    assert_int_equal(view->permission_count, (one != NULL) + (two != NULL));
    assert_int_equal(view->permissions == NULL, one == NULL);
    if (one != NULL)
        assert_string_equal(view->permissions[0], one);
    if (two != NULL)
        assert_string_equal(view->permissions[1], two);
    credstore_free(view);
}

/* A stored number that the host's catalogue lacks is no permission, and does not break a read. */
static void test_store_remembers(void **state)
{
    static const credstore_permission later[] = {
        {"c", "r3", "x"}, {"new", "r", "x"}, {"a", "r1", "x"}};
    const char *const ab[] = {"a", "b"};
    const char *const all[] = {"a", "b", "c"};
    fx f;
    credstore *store;
    credstore_actor actor = fx_system();
    credstore_error err;
    unsigned commits;

    (void)state;
    fx_begin(&f);
    f.options.catalogue = abc;
    f.options.catalogue_count = 3;
    store = fx_open(&f);
    create_key(store, "key-1", ab, 2);
    create_key(store, "key-2", all, 3);
    shows(store, "key-1", "a", "b");
    credstore_close(store);

    f.options.catalogue = later;
    store = fx_open(&f);
    shows(store, "key-1", "a", NULL);
    shows(store, "key-2", "c", "a"); /* in the host's order */
    fx_fails(credstore_actor_grant(store, &actor, "b", &err), CREDSTORE_E_INVALID, &err);
    fx_ok(credstore_actor_grant(store, &actor, "new", &err), &err);
    assert_true(actor.permissions[0] == UINT64_C(1) << 3); /* not b's number */
    credstore_close(store);

    f.options.catalogue = NULL;
    f.options.catalogue_count = 0;
    commits = f.engine.calls[FX_COMMIT];
    store = fx_open(&f);
    shows(store, "key-2", NULL, NULL);
    credstore_close(store);
    assert_int_equal(f.engine.calls[FX_COMMIT], commits); /* nothing new, nothing written */
    fx_end(&f);
}

/* Read-only, what is not numbered cannot be: nobody holds it, nobody can be granted it. */
static void test_read_only(void **state)
{
    static const credstore_permission later[] = {{"new", "r", "x"}, {"b", "r2", "x"}};
    const char *const ab[] = {"a", "b"};
    fx f;
    credstore *store;
    credstore_actor actor = fx_system();
    credstore_error err;
    unsigned commits;

    (void)state;
    fx_begin(&f);
    f.options.catalogue = abc;
    f.options.catalogue_count = 3;
    store = fx_open(&f);
    create_key(store, "key-1", ab, 2);
    credstore_close(store);
    commits = f.engine.calls[FX_COMMIT];

    f.options.catalogue = later;
    f.options.catalogue_count = 2;
    f.options.flags = CREDSTORE_OPEN_READ_ONLY;
    store = fx_open(&f);
    shows(store, "key-1", "b", NULL);
    fx_fails(credstore_actor_grant(store, &actor, "new", &err), CREDSTORE_E_INVALID, &err);
    memset(actor.permissions, 0xff, sizeof actor.permissions);
    assert_int_equal(credstore_permit(store, &actor, "new"), 0);
    assert_int_equal(credstore_permit(store, &actor, "b"), 1);
    credstore_close(store);
    assert_int_equal(f.engine.calls[FX_COMMIT], commits);

    f.options.flags = 0; /* growth is a change: it needs no CREATE */
    store = fx_open(&f);
    fx_ok(credstore_actor_grant(store, &actor, "new", &err), &err);
    credstore_close(store);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copied),          cmocka_unit_test(test_what_a_host_may_name),
        cmocka_unit_test(test_layout),          cmocka_unit_test(test_numbers_stay),
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_forget),          cmocka_unit_test(test_bits),
        cmocka_unit_test(test_store_remembers), cmocka_unit_test(test_read_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
