/* SPDX-License-Identifier: MIT
 *
 * The host's hooks: what the policy is asked and when, what its answers do, which events there are,
 * and that neither sees a secret.
 */
#include "life.h"

enum { SEEN = 16 };

typedef struct question {
    credstore_question q;
    char tenant[64], id[64], actor[64];
} question;

typedef struct host {
    question asked[SEEN];
    size_t asked_count;
    credstore_event told[SEEN];
    size_t told_count;
    int32_t answer[3]; /* by stage */
    bool by_default;   /* answers as the default rules would */
} host;

static int32_t policy(void *ctx, const credstore_question *q)
{
    host *h = ctx;
    question *seen = &h->asked[h->asked_count % SEEN];

    assert_int_equal(q->struct_size, sizeof *q);
    seen->q = *q;
    snprintf(seen->tenant, sizeof seen->tenant, "%.63s", q->tenant == NULL ? "(none)" : q->tenant);
    snprintf(seen->id, sizeof seen->id, "%.63s", q->id == NULL ? "(none)" : q->id);
    snprintf(seen->actor, sizeof seen->actor, "%.63s", q->actor->id);
    h->asked_count++;
    if (h->by_default)
        return q->by_default != 0 ? CREDSTORE_POLICY_ALLOW : CREDSTORE_POLICY_FORBID;
    return h->answer[q->stage];
}

static void event(void *ctx, const credstore_event *e)
{
    host *h = ctx;

    assert_int_equal(e->struct_size, sizeof *e);
    h->told[h->told_count++ % SEEN] = *e;
}

/* A store with the hooks in it, made anew: the memory engine keeps nothing. */
static void hook(test_world *w, host *h)
{
    credstore_error err;

    memset(h, 0, sizeof *h);
    h->answer[1] = h->answer[2] = CREDSTORE_POLICY_ALLOW;
    w->t.options.policy = policy;
    w->t.options.policy_ctx = h;
    w->t.options.event = event;
    w->t.options.event_ctx = h;
    life_ok(test_reopen(&w->t, &err));
}

static void forget(host *h)
{
    h->asked_count = 0;
    h->told_count = 0;
}

static credstore_status update(test_world *w, unsigned n, credstore_error *err)
{
    test_patch patch;

    test_patch_whole(w->k, &patch, n);
    return w->k->update(w->t.store, &w->call, &w->at, patch.u.bytes, NULL, err);
}

/* ---- questions ---- */

static void is_asked(const host *h, size_t i, uint32_t stage, uint32_t verb_class, bool exists,
                     uint64_t revision)
{
    assert_true(i < h->asked_count);
    assert_int_equal(h->asked[i].q.stage, stage);
    assert_int_equal(h->asked[i].q.verb_class, verb_class);
    assert_int_equal(h->asked[i].q.exists, exists);
    assert_int_equal(h->asked[i].q.revision, revision);
    assert_string_equal(h->asked[i].tenant, TEST_TENANT);
}

static void two_stages(test_world *w)
{
    const bool in_path = w->k->kind->origin.id == 0;
    const life_page *page = NULL;
    const void *view = NULL;
    credstore_error err;
    host h;

    hook(w, &h);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    assert_int_equal(h.asked_count, 2);
    is_asked(&h, 0, CREDSTORE_QUESTION_VERB, CREDSTORE_CLASS_CHANGE, false, 0);
    is_asked(&h, 1, CREDSTORE_QUESTION_RECORD, CREDSTORE_CLASS_CHANGE, false, 0);
    assert_string_equal(h.asked[0].id, in_path ? w->k->id : "(none)");
    assert_int_equal(h.asked[0].q.kind, w->k->kind->id);
    assert_int_equal(h.asked[0].q.by_default, 1);
    forget(&h);
    life_ok(update(w, 2, &err));
    assert_int_equal(h.asked_count, 2);
    is_asked(&h, 1, CREDSTORE_QUESTION_RECORD, CREDSTORE_CLASS_CHANGE, true, 1);
    assert_string_equal(h.asked[0].id, w->k->id);
    forget(&h);
    life_ok(w->k->get(w->t.store, &w->call, &w->at, &view, &err));
    credstore_free(view);
    assert_int_equal(h.asked_count, 1); /* a read is asked once */
    is_asked(&h, 0, CREDSTORE_QUESTION_VERB, CREDSTORE_CLASS_READ, false, 0);
    forget(&h);
    life_ok(life_list(w->t.store, &w->call, w->k, &w->at, NULL, &page, &err));
    assert_int_equal(page->count, 1);
    credstore_free(page);
    assert_int_equal(h.asked_count, 1);
    forget(&h);
    life_ok(life_remove(w->t.store, &w->call, w->k, &w->at, &err));
    is_asked(&h, 1, CREDSTORE_QUESTION_RECORD, CREDSTORE_CLASS_CHANGE, true, 2);
    assert_int_equal(h.told_count, 0);
}

/* Refused at the first stage, he learns nothing from a malformed request; nor from the answer to a
   record that is not there. */
static void refusals(test_world *w)
{
    static const struct {
        int32_t said;
        credstore_status answered;
    } rows[] = {
        {CREDSTORE_POLICY_FORBID, CREDSTORE_E_FORBIDDEN},
        {CREDSTORE_POLICY_HIDE, CREDSTORE_E_NOT_FOUND},
        {0, CREDSTORE_E_FORBIDDEN}, /* what a hook that raises in a language binding may return */
        {-1, CREDSTORE_E_FORBIDDEN},
        {4, CREDSTORE_E_FORBIDDEN},
        {INT32_MAX, CREDSTORE_E_FORBIDDEN},
    };
    uint64_t generation;
    credstore_error err;
    host h;

    hook(w, &h);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    generation = test_generation(w->t.store);
    for (size_t i = 0; i < LIFE_COUNT(rows); i++) {
        for (uint32_t stage = 1; stage <= 2; stage++) {
            forget(&h);
            h.answer[1] = CREDSTORE_POLICY_ALLOW;
            h.answer[stage] = rows[i].said;
            h.answer[3 - stage] = CREDSTORE_POLICY_ALLOW;
            life_fails(rows[i].answered, update(w, 2, &err));
            assert_int_equal(h.asked_count, stage);
            assert_int_equal(h.told_count, 1);
            assert_int_equal(h.told[0].type, CREDSTORE_EVENT_DENIED);
            assert_int_equal(h.told[0].status, rows[i].answered);
            assert_int_equal(h.told[0].kind, w->k->kind->id);
            assert_int_equal(h.told[0].verb_class, CREDSTORE_CLASS_CHANGE);
        }
    }
    h.answer[1] = CREDSTORE_POLICY_FORBID;
    h.answer[2] = CREDSTORE_POLICY_ALLOW;
    w->at.id = "!!";
    life_fails(CREDSTORE_E_FORBIDDEN, update(w, 2, &err));
    h.answer[1] = CREDSTORE_POLICY_ALLOW;
    life_fails(CREDSTORE_E_INVALID, update(w, 2, &err));
    assert_int_equal(test_generation(w->t.store), generation);
}

/* The hook decides instead of the default rules, in both directions. */
static void instead_of_the_rules(test_world *w)
{
    const credstore_actor nobody = test_actor(CREDSTORE_ACTOR_USER, 0, "nobody", "elsewhere");
    credstore_error err;
    host h;

    hook(w, &h);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    w->call = test_call(&nobody);
    w->call.tenant = TEST_TENANT;
    forget(&h);
    if (w->k->kind->permissions_field == 0) {
        life_ok(update(w, 2, &err));
        assert_int_equal(h.asked[0].q.by_default, 0);
        assert_int_equal(h.asked[1].q.by_default, 0);
        assert_string_equal(h.asked[0].actor, "nobody");
    } else { /* "nobody grants what he does not hold" stands beside it */
        life_fails(CREDSTORE_E_FORBIDDEN, update(w, 2, &err));
        assert_int_equal(h.asked_count, 2);
        assert_string_equal(err.field, "flatPermissionsList");
    }
    h.by_default = true;
    life_fails(CREDSTORE_E_FORBIDDEN, update(w, 3, &err));
}

/* So do the checks of the actor himself: no question is asked about him who may ask nothing. */
static void actors_come_first(test_world *w)
{
    credstore_actor actor = w->root;
    credstore_error err;
    host h;

    hook(w, &h);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    forget(&h);
    w->call = test_call(NULL);
    life_fails(CREDSTORE_E_UNAUTHENTICATED, update(w, 2, &err));
    w->call = test_call(&actor);
    actor.expires_at = TEST_NOW;
    life_fails(CREDSTORE_E_EXPIRED, update(w, 2, &err));
    assert_int_equal(h.asked_count, 0);
    assert_int_equal(h.told_count, 0);
}

/* ---- keys that were narrowed ---- */

/* A host that lets pass who holds a permission, and may narrow the key when it has answered. */
typedef struct narrowing {
    credstore_actor holder; /* who holds it, and nothing else */
    unsigned asked, at;     /* of records; it narrows after its answer to question `at`, from 1 */
    credstore *other;       /* the same store */
    const credstore_call *call;
    const char *id;
} narrowing;

static credstore_status permit(credstore *store, const credstore_call *call, const char *id,
                               size_t count, credstore_error *err)
{
    static const char *const items[] = {"stripe:update"};
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .permissions = CREDSTORE_STRINGS(items, count)};

    return credstore_api_key_update(store, call, id, &patch, NULL, err);
}

static int32_t holders_only(void *ctx, const credstore_question *q)
{
    const size_t words = sizeof q->actor->permissions / sizeof q->actor->permissions[0];
    narrowing *n = ctx;
    bool holds = true;
    credstore_error err;

    for (size_t i = 0; i < words; i++)
        holds = holds && (n->holder.permissions[i] & ~q->actor->permissions[i]) == 0;
    if (q->stage == CREDSTORE_QUESTION_RECORD && ++n->asked == n->at)
        life_ok(permit(n->other, n->call, n->id, 0, &err));
    return holds ? CREDSTORE_POLICY_ALLOW : CREDSTORE_POLICY_FORBID;
}

/* By the key as it was verified when it held all that it ever did. */
static void key_changes(test_world *w, narrowing *n, unsigned value, credstore_status expected,
                        unsigned asked)
{
    const credstore_call call = test_call(&n->holder);
    const test_kind *k = test_kind_of(CREDSTORE_KIND_STRIPE);
    const test_at at = test_at_of(k);
    credstore_error err;
    test_patch patch;

    n->asked = 0;
    test_patch_whole(k, &patch, value);
    life_fails(expected, k->update(w->t.store, &call, &at, patch.u.bytes, NULL, &err));
    assert_int_equal(n->asked, asked);
}

/* The host is shown what the key's record says now, and asked again where that changed before the
   transaction saw it. */
static void narrowed_keys(test_world *w)
{
    narrowing n = {0};
    credstore_error err;
    uint64_t generation;
    life_key key;

    n.holder = test_actor(CREDSTORE_ACTOR_API_KEY, 0, "", TEST_TENANT);
    test_grant(w->t.store, &n.holder, "stripe:update");
    w->t.options.policy = holders_only;
    w->t.options.policy_ctx = &n;
    life_ok(test_reopen(&w->t, &err));
    key = life_issue(w, 0);
    snprintf(n.holder.id, sizeof n.holder.id, "%s", key.id);
    life_ok(permit(w->t.store, &w->call, key.id, 1, &err));
    key_changes(w, &n, 1, CREDSTORE_OK, 1);
    life_ok(permit(w->t.store, &w->call, key.id, 0, &err));
    key_changes(w, &n, 2, CREDSTORE_E_FORBIDDEN, 1);
    life_ok(permit(w->t.store, &w->call, key.id, 1, &err));
    key_changes(w, &n, 2, CREDSTORE_OK, 1);
    if (w->t.engine != TEST_LMDB)
        return; /* a hook must not call its own store */
    n.other = life_open_second(w);
    n.call = &w->call;
    n.id = key.id;
    n.at = 1;
    generation = test_generation(w->t.store);
    key_changes(w, &n, 3, CREDSTORE_E_FORBIDDEN, 2);
    assert_int_equal(test_generation(w->t.store), generation + 1); /* the narrowing alone */
    n.at = 0;
    life_ok(permit(w->t.store, &w->call, key.id, 1, &err));
    key_changes(w, &n, 3, CREDSTORE_OK, 1);
    credstore_close(n.other);
}

/* ---- events ---- */

static void reveals_are_told(test_world *w)
{
    credstore_error err;
    size_t told = 0;
    uint64_t generation;
    host h;

    if (w->k->reveal == NULL)
        return;
    hook(w, &h);
    credstore_free(test_make(&w->t, w->k, &w->root, 1));
    generation = test_generation(w->t.store);
    forget(&h);
    for (size_t i = 0; i < w->k->kind->field_count; i++) {
        const cs_field *field = &w->k->kind->fields[i];
        credstore_secret *secret = NULL;

        if (field->type != CS_SECRET)
            continue;
        life_ok(w->k->reveal(w->t.store, &w->call, &w->at, field->id, &secret, &err));
        credstore_secret_free(secret);
        assert_int_equal(h.told_count, ++told);
        assert_int_equal(h.told[told - 1].type, CREDSTORE_EVENT_REVEALED);
        assert_int_equal(h.told[told - 1].field, field->id);
        assert_int_equal(h.told[told - 1].verb_class, CREDSTORE_CLASS_REVEAL);
        assert_int_equal(h.told[told - 1].status, CREDSTORE_OK);
    }
    assert_int_equal(test_generation(w->t.store), generation); /* costs no write */
    h.answer[1] = CREDSTORE_POLICY_FORBID;
    forget(&h);
    credstore_secret *secret = NULL;
    life_fails(CREDSTORE_E_FORBIDDEN, w->k->reveal(w->t.store, &w->call, &w->at, 2, &secret, &err));
    assert_int_equal(h.told_count, 1);
    assert_int_equal(h.told[0].type, CREDSTORE_EVENT_DENIED);
}

/* A replay is asked about like the first time. */
static void replays_are_asked_about(test_world *w)
{
    const credstore_api_key_patch patch = life_api_key_patch("once");
    credstore_secret *secret = NULL;
    credstore_error err;
    host h;

    hook(w, &h);
    w->call.idempotency_key = "once";
    life_ok(credstore_api_key_issue(w->t.store, &w->call, NULL, &patch, &secret, NULL, &err));
    credstore_secret_free(secret);
    for (uint32_t stage = 1; stage <= 2; stage++) {
        h.answer[1] = h.answer[2] = CREDSTORE_POLICY_ALLOW;
        h.answer[stage] = CREDSTORE_POLICY_FORBID;
        secret = (credstore_secret *)(void *)w;
        life_fails(CREDSTORE_E_FORBIDDEN, credstore_api_key_issue(w->t.store, &w->call, NULL,
                                                                  &patch, &secret, NULL, &err));
        assert_null(secret);
    }
}

static void clocks_are_told(test_world *w)
{
    host h;

    hook(w, &h);
    (void)life_issue(w, 0);
    forget(&h);
    atomic_store(&w->t.now, TEST_NOW - LIFE_DAY + 1);
    (void)life_issue(w, 0);
    assert_int_equal(h.told_count, 0);
    atomic_store(&w->t.now, TEST_NOW - 2 * LIFE_DAY);
    (void)life_issue(w, 0);
    assert_int_equal(h.told_count, 1);
    assert_int_equal(h.told[0].type, CREDSTORE_EVENT_CLOCK);
    assert_null(h.told[0].actor);
}

/* ---- no secret in them ---- */

typedef struct listener {
    const char *const *secrets;
    size_t count, calls;
} listener;

static void holds_none(const listener *l, const char *text)
{
    for (size_t i = 0; text != NULL && i < l->count; i++)
        assert_null(strstr(text, l->secrets[i]));
}

static int32_t listening_policy(void *ctx, const credstore_question *q)
{
    listener *l = ctx;

    l->calls++;
    holds_none(l, q->tenant);
    holds_none(l, q->parent);
    holds_none(l, q->id);
    holds_none(l, q->actor->id);
    return CREDSTORE_POLICY_ALLOW;
}

static void listening_event(void *ctx, const credstore_event *e)
{
    listener *l = ctx;

    l->calls++;
    holds_none(l, e->tenant);
    holds_none(l, e->parent);
    holds_none(l, e->id);
    if (e->actor != NULL)
        holds_none(l, e->actor->id);
}

static void no_secret_is_told(test_world *w)
{
    static const char *const secrets[] = {"secret_key value", "sk_test_", "sk_live_", "whsec_"};
    listener l = {secrets, LIFE_COUNT(secrets), 0};
    credstore_error err;

    w->t.options.policy = listening_policy;
    w->t.options.policy_ctx = &l;
    w->t.options.event = listening_event;
    w->t.options.event_ctx = &l;
    life_ok(test_reopen(&w->t, &err));
    for (size_t i = 0; i < test_kind_count; i++) {
        w->k = &test_kinds[i];
        w->at = test_at_of(w->k);
        credstore_free(test_make(&w->t, w->k, &w->root, 1));
        life_ok(update(w, 2, &err));
        life_ok(life_restore(w->t.store, &w->call, w->k, &w->at, 1, NULL, &err));
        for (size_t n = 0; n < w->k->kind->field_count; n++) {
            credstore_secret *secret = NULL;

            if (w->k->kind->fields[n].type != CS_SECRET)
                continue;
            life_ok(w->k->reveal(w->t.store, &w->call, &w->at, w->k->kind->fields[n].id, &secret,
                                 &err));
            credstore_secret_free(secret);
        }
    }
    assert_true(l.calls > 20);
}

int main(void)
{
    static const test_row of_kinds[] = {
        {"two stages", two_stages},
        {"refusals", refusals},
        {"instead of the rules", instead_of_the_rules},
        {"actors come first", actors_come_first},
        {"reveals are told", reveals_are_told},
    };
    static const test_row rows[] = {
        {"narrowed keys", narrowed_keys},
        {"replays are asked about", replays_are_asked_about},
        {"clocks are told", clocks_are_told},
        {"no secret is told", no_secret_is_told},
    };

    return test_run("hooks of kinds", test_kinds, test_kind_count, of_kinds, LIFE_COUNT(of_kinds)) +
           test_run("hooks", NULL, 0, rows, LIFE_COUNT(rows));
}
