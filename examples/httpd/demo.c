/* SPDX-License-Identifier: MIT
 *
 * A demonstration. Ids and times are those of the documents where they have any.
 */
#include "demo.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "service.h"

#define ORGANIZATION    "org4k7zq2m9x1c8v5b3n6w0t4y"
#define LABEL           "acme"
#define SERVICE_ACCOUNT "svc8j2h5g9f3d7s1a6p0o4i2uy"
#define CREDENTIAL      "ab3def8hij2klm9opq5rst7uvw"
#define CREDENTIALS     "1NFHrqBHb3cTfLVkFSGmHZqdDPi" /* of Checkbook */
#define PROJECT         "3c90c3cc-0d44-4b50-8888-8dd25736052a"
#define API_KEY         "2XkQ7dYbW9sJ4mNc8RtVfLpZgHa" /* the one to be updated */
#define CALLER          "2XkQ8eZcX0tK5nPd9SuWgMqAhJb" /* the one to call with */
enum { CALLERS = 1000 };

static const int64_t t_2023 = INT64_C(1699335116000); /* 2023-11-07T05:31:56Z */
static const int64_t t_2019 = INT64_C(1577470279117); /* 2019-12-27T18:11:19.117Z */

/* A second start finds what the first one made. */
static bool made(const char *what, credstore_status status, const credstore_error *err)
{
    return status == CREDSTORE_OK || status == CREDSTORE_E_EXISTS || service_failed(what, err);
}

static bool make_checkbook(credstore *store, const credstore_call *call)
{
    const credstore_checkbook_origin origin = {
        .struct_size = sizeof origin, .id = CREDENTIALS, .created_at = t_2023};
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("publishable-of-yesterday"),
        .secret_key = CREDSTORE_SECRET("secret-of-yesterday", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io"),
        .is_active = CREDSTORE_FLAG(0),
    };
    credstore_error err;

    return made("Checkbook", credstore_checkbook_create(store, call, &origin, &patch, NULL, &err),
                &err);
}

static bool make_stripe(credstore *store, const credstore_call *call)
{
    const credstore_stripe_origin origin = {
        .struct_size = sizeof origin, .id = PROJECT, .created_at = t_2023};
    const credstore_stripe_patch patch = {.struct_size = sizeof patch};
    credstore_error err;

    return made("Stripe",
                credstore_stripe_create(store, call, PROJECT, &origin, &patch, NULL, &err), &err);
}

static bool make_service_credential(credstore *store, const credstore_call *call)
{
    const credstore_service_credential_origin origin = {
        .struct_size = sizeof origin,
        .id = CREDENTIAL,
        .created_at = t_2019,
        .client_id = "A1b2C3d4E5f6G7h8I9j0K",
        .last_used_at = t_2019,
    };
    const credstore_service_credential_patch patch = {
        .struct_size = sizeof patch,
        .name = CREDSTORE_TEXT("name"),
        .description = CREDSTORE_TEXT("description"),
    };
    credstore_error err;

    if (!made("Service credential",
              credstore_service_credential_create(store, call, ORGANIZATION, SERVICE_ACCOUNT,
                                                  &origin, &patch, NULL, &err),
              &err))
        return false;
    return made("Label", credstore_organization_label(store, call, ORGANIZATION, LABEL, &err),
                &err);
}

static bool make_api_key(credstore *store, const credstore_call *call, const char *id,
                         const char *description, const char *const *permissions, size_t count)
{
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = id};
    const credstore_api_key_patch patch = {
        .struct_size = sizeof patch,
        .description = CREDSTORE_TEXT(description),
        .permissions = CREDSTORE_STRINGS(permissions, count),
    };
    credstore_error err;

    return made("API key", credstore_api_key_create(store, call, &origin, &patch, NULL, &err),
                &err);
}

/* The key to call with. Its text was shown once, by an earlier start perhaps: a new one. If it was
   deleted, its id does not come back: then the next id's, which later starts find again. */
static bool make_caller(credstore *store, const credstore_call *call, demo_access *out)
{
    static const char *const permissions[] = {"checkbook:read", "checkbook:update"};
    credstore_status status = CREDSTORE_E_NOT_FOUND;
    credstore_secret *key = NULL;
    credstore_error err;
    bool ok = true;

    for (unsigned i = 0; i < CALLERS && status == CREDSTORE_E_NOT_FOUND; i++) {
        char id[] = CALLER;

        if (i > 0)
            snprintf(id + strlen(id) - 3, 4, "%03u", i);
        if (!make_api_key(store, call, id, "Demonstration", permissions, 2))
            return false;
        status = credstore_api_key_roll(store, call, id, 0, &key, NULL, &err);
    }
    if (status != CREDSTORE_OK)
        return service_failed("API key", &err);
    if (credstore_secret_len(key) < sizeof out->api_key)
        memcpy(out->api_key, credstore_secret_ptr(key), credstore_secret_len(key) + 1);
    else
        ok = false;
    credstore_secret_free(key);
    return ok;
}

static bool make_token(const char *prefix, char out[DEMO_TOKEN_MAX])
{
    unsigned char random[32];
    size_t at = strlen(prefix);

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        fprintf(stderr, "httpd: the system gives no random bytes\n");
        return false;
    }
    memcpy(out, prefix, at);
    for (size_t i = 0; i < sizeof random; i++, at += 2)
        snprintf(out + at, DEMO_TOKEN_MAX - at, "%02x", random[i]);
    credstore_wipe(random, sizeof random);
    return true;
}

static bool open_sessions(credstore *store, session_list *sessions, demo_access *out)
{
    static const char *const all[] = {"*"};
    static const char *const some[] = {"organizations:read", "users:read", "readApplications"};

    return make_token("admin_", out->admin_token) && make_token("member_", out->member_token) &&
           sessions_add(sessions, store, out->admin_token, CREDSTORE_ROLE_ADMIN, ORGANIZATION,
                        "ada", 0, all, 1) &&
           sessions_add(sessions, store, out->member_token, 0, ORGANIZATION, "grace", 0, some,
                        sizeof some / sizeof *some);
}

bool demo_prepare(credstore *store, session_list *sessions, demo_access *out)
{
    static const char *const reads[] = {"readApplications"};
    credstore_actor root = {.struct_size = sizeof root,
                            .type = CREDSTORE_ACTOR_USER,
                            .roles = CREDSTORE_ROLE_SUPER,
                            .id = "demo",
                            .tenant = ORGANIZATION};
    const credstore_call call = {
        .struct_size = sizeof call, .actor = &root, .tenant = ORGANIZATION};

    return service_grant(store, &root, "*") && make_checkbook(store, &call) &&
           make_stripe(store, &call) && make_service_credential(store, &call) &&
           make_api_key(store, &call, API_KEY, "Import", reads, 1) &&
           make_caller(store, &call, out) && open_sessions(store, sessions, out);
}

void demo_print(const demo_access *d)
{
    printf(",\"admin_token\":\"%s\",\"member_token\":\"%s\",\"api_key\":\"%s\"", d->admin_token,
           d->member_token, d->api_key);
    printf(",\"organization_id\":\"" ORGANIZATION "\",\"organization_label\":\"" LABEL
           "\",\"service_account_id\":\"" SERVICE_ACCOUNT "\",\"credential_id\":\"" CREDENTIAL
           "\",\"checkbook_id\":\"" CREDENTIALS "\",\"project_id\":\"" PROJECT
           "\",\"api_key_id\":\"" API_KEY "\"");
}
