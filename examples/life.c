/* SPDX-License-Identifier: MIT
 *
 * Every verb once, on a store in memory: the text of credstore(3), EXAMPLES. It takes each answer
 * for granted that it does not print.
 */
#include <credstore.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static credstore_error err;
static int64_t now_ms = INT64_C(1700000000000); /* a clock to be moved: nobody waits for a grace */

static int64_t clock_ms(void *ctx)
{
    return *(const int64_t *)ctx;
}

static void must(credstore_status status)
{
    if (status == CREDSTORE_OK)
        return;
    fprintf(stderr, "%s: %s\n", credstore_status_name((int32_t)status), err.message);
    exit(EXIT_FAILURE);
}

static void tell(const char *what, credstore_status status)
{
    printf("%s: %s\n", what, credstore_status_name((int32_t)status));
}

/* Issue: the token stands in *token and nowhere else. Asked again with the same idempotency key, as
   after an answer that got lost, it is the same key and the same token. */
static const credstore_api_key *issue(credstore *store, credstore_call call,
                                      credstore_secret **token)
{
    const char *const permissions[] = {"readApplications"};
    const credstore_api_key_patch patch = {
        .struct_size = sizeof patch,
        .description = CREDSTORE_TEXT("Nightly import"),
        .permissions = CREDSTORE_STRINGS(permissions, 1),
    };
    const credstore_api_key *key = NULL, *again = NULL;
    credstore_secret *same = NULL;

    call.idempotency_key = "request-4711";
    must(credstore_api_key_issue(store, &call, "acme_live", &patch, token, &key, &err));
    must(credstore_api_key_issue(store, &call, "acme_live", &patch, &same, &again, &err));
    printf("issued %d key, %s\n", 1 + (strcmp(key->id, again->id) != 0), key->description);
    credstore_secret_free(same);
    credstore_free(again);
    return key;
}

/* Verify: whose is a token that someone presents, and what may he do? It asks the store each time,
   so a token that was withdrawn is refused from the moment that the call which did it returned. */
static void verify(credstore *store, const credstore_secret *token)
{
    credstore_actor who;

    must(credstore_api_key_verify(store, credstore_secret_ptr(token), CREDSTORE_NTS, &who, &err));
    printf("a key of %s: may read %d, may write %d\n", who.tenant,
           credstore_permit(store, &who, "readApplications"),
           credstore_permit(store, &who, "writeApplications"));
}

/* List: a page at a time; end_cursor leads to the next one. */
static void list(credstore *store, const credstore_call *call)
{
    credstore_page page = {.struct_size = sizeof page, .limit = 100};
    const credstore_api_key_page *keys = NULL;

    must(credstore_api_key_list(store, call, &page, &keys, &err));
    for (size_t i = 0; i < keys->count; i++)
        if (keys->items[i].view != NULL) /* NULL: this one cannot be read, the page goes on */
            printf("listed: %s\n", keys->items[i].view->description);
    page.after = keys->end_cursor; /* if keys->has_next_page: the page behind this one */
    credstore_free(keys);
}

/* Roll: a new token; the old one stays good for the grace, an hour here. */
static void roll(credstore *store, const credstore_call *call, const char *id,
                 credstore_secret **token)
{
    const char *old = credstore_secret_ptr(*token);
    credstore_secret *fresh = NULL;
    credstore_actor who;

    must(credstore_api_key_roll(store, call, id, 3600, &fresh, NULL, &err));
    tell("the old token now", credstore_api_key_verify(store, old, CREDSTORE_NTS, &who, &err));
    now_ms += 3600 * 1000;
    tell("in an hour", credstore_api_key_verify(store, old, CREDSTORE_NTS, &who, &err));
    credstore_secret_free(*token);
    *token = fresh;
}

/* Update, history, restore: history is newest first; a restore makes a new revision with the values
   of an old one. What was issued stays as it is. */
static void restore(credstore *store, const credstore_call *call, const char *id)
{
    const credstore_api_key_patch patch = {
        .struct_size = sizeof patch,
        .description = CREDSTORE_TEXT("Hourly import"),
    };
    const credstore_api_key_page *past = NULL;
    const credstore_api_key *key = NULL;

    must(credstore_api_key_update(store, call, id, &patch, NULL, &err));
    must(credstore_api_key_history(store, call, id, 0, 100, &past, &err));
    for (size_t i = 0; i < past->count; i++)
        printf("revision %" PRIu64 ": %s\n", past->items[i].view->revision,
               past->items[i].view->description);
    must(credstore_api_key_restore(store, call, id, 1, &key, &err));
    printf("revision %" PRIu64 ": %s\n", key->revision, key->description);
    credstore_free(past);
    credstore_free(key);
}

/* Remove: a get finds nothing from here on, and the id is never used again. Only one who holds the
   token learns that it was good once. */
static void drop(credstore *store, const credstore_call *call, const char *id,
                 const credstore_secret *token)
{
    const char *text = credstore_secret_ptr(token);
    const credstore_api_key *key = NULL;
    credstore_actor who;

    must(credstore_api_key_remove(store, call, id, &err));
    tell("get", credstore_api_key_get(store, call, id, &key, &err));
    tell("verify", credstore_api_key_verify(store, text, CREDSTORE_NTS, &who, &err));
}

/* Create and reveal: a secret that another service gave us is sealed, and comes out by reveal
   alone. Free it soon: that wipes it. */
static void keep(credstore *store, const credstore_call *call, const char *project)
{
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .test_webhook_secret = CREDSTORE_SECRET("whsec_Vq2Tz9Kd", CREDSTORE_NTS),
    };
    const uint32_t field = CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET;
    const credstore_stripe *view = NULL;
    credstore_secret *secret = NULL;

    must(credstore_stripe_create(store, call, project, NULL, &patch, &view, &err));
    must(credstore_stripe_reveal(store, call, project, field, &secret, &err));
    printf("%s: %zu bytes\n", view->test_webhook_secret_masked, credstore_secret_len(secret));
    credstore_secret_free(secret);
    credstore_free(view);
}

/* Webhooks: such a secret is rolled to the value that the other side made, and the one before is
   still taken for the grace. Deactivate and reactivate: the keys stay, and are not used meanwhile.
 */
static void webhooks(credstore *store, const credstore_call *call, const char *project)
{
    const credstore_secret_text fresh = CREDSTORE_SECRET("whsec_Nw4Lx8Rb", CREDSTORE_NTS);
    const uint32_t field = CREDSTORE_STRIPE_TEST_WEBHOOK_SECRET;
    const char *header =
        "t=1700003600,v1=cedac96bf74668c78fca5a2f653c4d4c4e72c6c01c6534b02c605ffc10d3492b";
    const char *payload = "{\"type\":\"payout.paid\"}"; /* the bytes as they came */
    const credstore_slice sign = {header, strlen(header)}, body = {payload, strlen(payload)};

    must(credstore_stripe_roll(store, call, project, field, &fresh, 86400, NULL, &err));
    tell("webhook",
         credstore_stripe_webhook_verify(store, call, project, field, &sign, &body, 0, &err));
    must(credstore_stripe_deactivate(store, call, project, NULL, &err));
    tell("switched off",
         credstore_stripe_webhook_verify(store, call, project, field, &sign, &body, 0, &err));
    must(credstore_stripe_reactivate(store, call, project, NULL, &err));
}

/* Label: an organization may be named by it wherever its id is asked for. */
static void label(credstore *store, const credstore_call *call)
{
    const credstore_service_credential_patch patch = {
        .struct_size = sizeof patch,
        .name = CREDSTORE_TEXT("deploy"),
    };
    const credstore_service_credential *made = NULL;
    credstore_secret *token = NULL;
    credstore_actor who;

    must(credstore_organization_label(store, call, "acme", "acme-inc", &err));
    must(credstore_service_credential_issue(store, call, "acme-inc", "billing", NULL, &patch,
                                            &token, &made, &err));
    must(credstore_service_credential_verify(store, credstore_secret_ptr(token), CREDSTORE_NTS,
                                             &who, &err));
    printf("%s of %s\n", made->name, who.tenant);
    credstore_secret_free(token);
    credstore_free(made);
}

/* Leak: a string turned up in a log. Whose is it, and is it still good? Opens no secret. */
static void leak(credstore *store, const credstore_call *call)
{
    const credstore_leaks *leaks = NULL;

    must(credstore_leak_find(store, call, "whsec_Vq2Tz9Kd", CREDSTORE_NTS, &leaks, &err));
    for (size_t i = 0; i < leaks->count; i++)
        printf("leaked: %s of %s, %s\n", leaks->items[i]->field, leaks->items[i]->id,
               leaks->items[i]->state == CREDSTORE_LEAK_GRACE ? "still good" : "no longer good");
    credstore_free(leaks);
}

/* Offboarding: a tenant leaves, with all that is his. Called again until nothing more is left; a
   crash on the way loses nothing. */
static void offboard(credstore *store, credstore_call call)
{
    uint64_t removed = 0, all = 0;
    uint32_t more = 1;

    for (call.tenant = "acme"; more == 1; all += removed)
        must(credstore_offboard(store, &call, 50, &more, &removed, &err));
    printf("removed %" PRIu64 "\n", all);
}

/* Audit: what happened since an entry, as a feed; then the proof that no entry is missing. Keep the
   checkpoint outside of the store, and hold the store against it tomorrow. */
static void audit(credstore *store, const credstore_call *call)
{
    const credstore_audit_page *page = NULL;
    credstore_checkpoint point = {.struct_size = sizeof point};

    must(credstore_audit_read(store, call, 0, 1000, 0, &page, &err));
    for (size_t i = 0; i < page->count; i++)
        printf("%" PRIu64 ": action %" PRIu32 ", %s\n", page->items[i]->seq, page->items[i]->action,
               page->items[i]->actor);
    must(credstore_audit_verify(store, call, NULL, &point, &err));
    must(credstore_audit_verify(store, call, &point, NULL, &err));
    must(credstore_audit_prune(store, call, &point, NULL, &err)); /* or keep them all */
    credstore_wake(store); /* ends the waits of feeds in other threads, before closing */
    credstore_free(page);
}

int main(void)
{
    static const credstore_permission catalogue[] = {
        {"readApplications", "applications", "read"},
        {"writeApplications", "applications", "write"},
    };
    const credstore_options options = {
        .struct_size = sizeof options,
        .catalogue = catalogue,
        .catalogue_count = 2,
        .now_ms = clock_ms,
        .now_ctx = &now_ms,
    };
    credstore_actor ada = {sizeof ada, CREDSTORE_ACTOR_USER, .roles = CREDSTORE_ROLE_ADMIN,
                           .id = "ada", .tenant = "acme"};
    credstore_actor host = {sizeof host, CREDSTORE_ACTOR_SYSTEM, .id = "host", .tenant = "acme"};
    const credstore_call by_ada = {.struct_size = sizeof by_ada, .actor = &ada};
    const credstore_call by_host = {.struct_size = sizeof by_host, .actor = &host};
    credstore_secret *token = NULL;
    credstore *store = NULL;

    must(credstore_open(NULL, &options, &store, &err)); /* in memory */
    must(credstore_actor_grant(store, &ada, "readApplications", &err));

    const credstore_api_key *key = issue(store, by_ada, &token);
    verify(store, token);
    list(store, &by_ada);
    roll(store, &by_ada, key->id, &token);
    restore(store, &by_ada, key->id);
    drop(store, &by_ada, key->id, token);
    keep(store, &by_host, "3c90c3cc-0d44-4b50-8888-8dd25736052a");
    webhooks(store, &by_host, "3c90c3cc-0d44-4b50-8888-8dd25736052a");
    label(store, &by_ada);
    leak(store, &by_host);
    offboard(store, by_host);
    audit(store, &by_host);
    must(credstore_maintain(store, 50, NULL, &err)); /* once a minute: what time asks for */

    credstore_free(key);
    credstore_secret_free(token);
    credstore_close(store);
    return 0;
}
