/* SPDX-License-Identifier: MIT
 *
 * sizes_client <struct> <tail> <age>: hands the struct to the library, or takes it from there, and
 * prints what was answered. sizes_test.py compiles this with headers in which that struct is
 * shorter (age -1) or longer (age 1) than the library's own; a tail of 1 sets the member that the
 * library does not know.
 */
#include "credstore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KSUID        "0ujtsYcgvSTl8PAuAdqWYSMnLOv"
#define PROJECT      "3c90c3cc-0d44-4b50-8888-8dd25736052a"
#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef struct world {
    credstore *store;
    credstore_actor actor;
    credstore_call call;
    int tail, age;
    credstore_error err;
} world;

static const credstore_permission catalogue[] = {{"a:read", "a", "read"}};
static const char *const permissions[] = {"a:read"};

/* The member that is behind what the library knows, where the header has it. */
static void set_tail(void *whole, size_t size, const world *w)
{
    const uint64_t value = w->age > 0 && w->tail != 0;

    if (w->age > 0)
        memcpy((char *)whole + size - sizeof value, &value, sizeof value);
}
#define GIVE(w, name) set_tail(&(name), sizeof(name), w)

/* What the library made says its own size, so that a newer program does not read behind it. */
static credstore_status taken(const world *w, uint32_t told, size_t known)
{
    const int age = (known > told) - (known < told);

    return age == w->age ? CREDSTORE_OK : CREDSTORE_E_INTERNAL;
}

static credstore_status open_store(world *w, credstore_options *options)
{
    options->struct_size = sizeof *options;
    options->flags = CREDSTORE_OPEN_CREATE;
    options->catalogue = catalogue;
    options->catalogue_count = COUNT(catalogue);
    return credstore_open(NULL, options, &w->store, &w->err);
}

static credstore_status give_options(world *w)
{
    credstore_options options = {0};

    credstore_close(w->store);
    GIVE(w, options);
    return open_store(w, &options);
}

static credstore_status make_stripe(world *w, const credstore_stripe **out)
{
    const credstore_stripe_patch patch = {.struct_size = sizeof patch};

    return credstore_stripe_update(w->store, &w->call, PROJECT, &patch, out, &w->err);
}

static credstore_status give_call(world *w)
{
    GIVE(w, w->call);
    return make_stripe(w, NULL);
}

static credstore_status give_key_service(world *w)
{
    credstore_key_source *key = NULL;
    credstore_key_service service = {.struct_size = sizeof service};
    credstore_status status;

    service.wrap = (int32_t(*)(void *, const uint8_t *, size_t, uint8_t *, size_t *))abort;
    service.unwrap = service.wrap;
    GIVE(w, service);
    status = credstore_key_callback(&service, &key, &w->err);
    credstore_key_source_free(key);
    return status;
}

static credstore_status give_page(world *w)
{
    const credstore_stripe_page *stripes = NULL;
    credstore_page page = {.struct_size = sizeof page, .limit = 1};
    credstore_status status;

    GIVE(w, page);
    status = credstore_stripe_list(w->store, &w->call, &page, &stripes, &w->err);
    credstore_free(stripes);
    return status;
}

static const credstore_answer *send_request(world *w, uint32_t kind, uint32_t verb, const char *id,
                                            const char *body)
{
    credstore_request request = {.struct_size = sizeof request, .kind = kind, .verb = verb};

    request.actor = &w->actor;
    request.tenant.ptr = "acme";
    request.tenant.len = strlen("acme");
    request.id.ptr = id;
    request.id.len = strlen(id);
    request.body.ptr = body;
    request.body.len = strlen(body);
    GIVE(w, request);
    return credstore_handle(w->store, &request);
}

static credstore_status give_request(world *w)
{
    const credstore_answer *answer =
        send_request(w, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_UPDATE, PROJECT, "{}");
    const int32_t status = answer->status;

    credstore_answer_free(answer);
    return (credstore_status)status;
}

static credstore_status create_checkbook(world *w, int aged)
{
    credstore_checkbook_patch patch = {.struct_size = sizeof patch};
    credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = KSUID};
    const credstore_checkbook *view = NULL;
    credstore_status status;

    patch.publishable_key = (credstore_text)CREDSTORE_TEXT("pk");
    patch.secret_key = (credstore_secret_text)CREDSTORE_SECRET("sk", CREDSTORE_NTS);
    patch.base_url = (credstore_text)CREDSTORE_TEXT("https://api.checkbook.io");
    if (aged == 1)
        GIVE(w, patch);
    if (aged == 2)
        GIVE(w, origin);
    status = credstore_checkbook_create(w->store, &w->call, &origin, &patch, &view, &w->err);
    if (status == CREDSTORE_OK && (strcmp(view->id, KSUID) != 0 || view->is_active != 1))
        status = CREDSTORE_E_INTERNAL;
    if (status == CREDSTORE_OK && aged == 3)
        status = taken(w, view->struct_size, sizeof *view);
    credstore_free(view);
    return status;
}

static credstore_status give_checkbook_patch(world *w)
{
    return create_checkbook(w, 1);
}

static credstore_status give_checkbook_origin(world *w)
{
    return create_checkbook(w, 2);
}

static credstore_status take_checkbook(world *w)
{
    return create_checkbook(w, 3);
}

static credstore_status create_stripe(world *w, int aged)
{
    credstore_stripe_patch patch = {.struct_size = sizeof patch};
    credstore_stripe_origin origin = {.struct_size = sizeof origin};

    patch.test_secret_key = (credstore_secret_text)CREDSTORE_SECRET("sk_test_1", CREDSTORE_NTS);
    if (aged == 1)
        GIVE(w, patch);
    if (aged == 2)
        GIVE(w, origin);
    return credstore_stripe_create(w->store, &w->call, PROJECT, &origin, &patch, NULL, &w->err);
}

static credstore_status give_stripe_patch(world *w)
{
    return create_stripe(w, 1);
}

static credstore_status give_stripe_origin(world *w)
{
    return create_stripe(w, 2);
}

static credstore_status take_stripe(world *w)
{
    const credstore_stripe *view = NULL;
    credstore_status status = make_stripe(w, &view);

    if (status == CREDSTORE_OK && strcmp(view->project_id, PROJECT) != 0)
        status = CREDSTORE_E_INTERNAL;
    if (status == CREDSTORE_OK)
        status = taken(w, view->struct_size, sizeof *view);
    credstore_free(view);
    return status;
}

static credstore_status take_stripe_page(world *w)
{
    const credstore_stripe_page *page = NULL;
    credstore_status status = make_stripe(w, NULL);

    if (status == CREDSTORE_OK)
        status = credstore_stripe_list(w->store, &w->call, NULL, &page, &w->err);
    if (status == CREDSTORE_OK && page->items[0].view->revision != 1)
        status = CREDSTORE_E_INTERNAL;
    if (status == CREDSTORE_OK)
        status = taken(w, page->struct_size, sizeof *page);
    credstore_free(page);
    return status;
}

static credstore_status create_service_credential(world *w, int aged)
{
    credstore_service_credential_patch patch = {.struct_size = sizeof patch};
    credstore_service_credential_origin origin = {.struct_size = sizeof origin};
    const credstore_service_credential *view = NULL;
    credstore_status status;

    patch.name = (credstore_text)CREDSTORE_TEXT("deploy");
    if (aged == 1)
        GIVE(w, patch);
    if (aged == 2)
        GIVE(w, origin);
    status = credstore_service_credential_create(w->store, &w->call, "acme", "bot", &origin, &patch,
                                                 &view, &w->err);
    if (status == CREDSTORE_OK && (strcmp(view->name, "deploy") != 0 || view->revision != 1))
        status = CREDSTORE_E_INTERNAL;
    if (status == CREDSTORE_OK && aged == 3)
        status = taken(w, view->struct_size, sizeof *view);
    credstore_free(view);
    return status;
}

static credstore_status give_service_credential_patch(world *w)
{
    return create_service_credential(w, 1);
}

static credstore_status give_service_credential_origin(world *w)
{
    return create_service_credential(w, 2);
}

static credstore_status take_service_credential(world *w)
{
    return create_service_credential(w, 3);
}

/* The permissions are the patch's last member, and a creation needs them: what is shorter updates.
 */
static credstore_status create_api_key(world *w, int aged)
{
    credstore_api_key_patch patch = {.struct_size = sizeof patch};
    credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = KSUID};
    const credstore_api_key *view = NULL;
    const credstore_answer *answer;
    credstore_status status;

    patch.description = (credstore_text)CREDSTORE_TEXT("import");
    if (aged == 1) {
        answer = send_request(w, CREDSTORE_KIND_API_KEY, CREDSTORE_VERB_CREATE, KSUID,
                              "{\"description\":\"x\",\"flatPermissionsList\":[\"a:read\"]}");
        status = (credstore_status)answer->status;
        credstore_answer_free(answer);
        GIVE(w, patch);
        return status != CREDSTORE_OK
                   ? status
                   : credstore_api_key_update(w->store, &w->call, KSUID, &patch, NULL, &w->err);
    }
#ifndef OLDER_credstore_api_key_patch
    patch.permissions = (credstore_strings)CREDSTORE_STRINGS(permissions, COUNT(permissions));
#endif
    if (aged == 2)
        GIVE(w, origin);
    status = credstore_api_key_create(w->store, &w->call, &origin, &patch, &view, &w->err);
    if (status == CREDSTORE_OK && strcmp(view->permissions[0], permissions[0]) != 0)
        status = CREDSTORE_E_INTERNAL;
    if (status == CREDSTORE_OK && aged == 3)
        status = taken(w, view->struct_size, sizeof *view);
    credstore_free(view);
    return status;
}

static credstore_status give_api_key_patch(world *w)
{
    return create_api_key(w, 1);
}

static credstore_status give_api_key_origin(world *w)
{
    return create_api_key(w, 2);
}

static credstore_status take_api_key(world *w)
{
    return create_api_key(w, 3);
}

static credstore_status take_answer(world *w)
{
    const int age = w->age;
    const credstore_answer *answer;
    credstore_status status;

    w->age = 0; /* the request's */
    answer = send_request(w, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_UPDATE, PROJECT, "{}");
    w->age = age;
    status = taken(w, answer->struct_size, sizeof *answer);
    if (answer->http_status != 200 || answer->body[0] != '{')
        status = CREDSTORE_E_INTERNAL;
    credstore_answer_free(answer);
    return status;
}

static credstore_status read_audit(world *w, int entry)
{
    const credstore_audit_page *page = NULL;
    credstore_status status = make_stripe(w, NULL);

    if (status == CREDSTORE_OK)
        status = credstore_audit_read(w->store, &w->call, 0, 10, 0, &page, &w->err);
    if (status == CREDSTORE_OK && (page->last_seq < 2 || page->items[0]->seq != 1))
        status = CREDSTORE_E_INTERNAL;
    if (status == CREDSTORE_OK && entry)
        status = taken(w, page->items[1]->struct_size, sizeof *page->items[1]);
    else if (status == CREDSTORE_OK)
        status = taken(w, page->struct_size, sizeof *page);
    credstore_free(page);
    return status;
}

static credstore_status take_audit_page(world *w)
{
    return read_audit(w, 0);
}

static credstore_status take_audit_entry(world *w)
{
    return read_audit(w, 1);
}

static credstore_status take_root_page(world *w)
{
    const credstore_root_page *page = NULL;
    credstore_status status = credstore_root_list(w->store, &w->call, &page, &w->err);

    if (status == CREDSTORE_OK)
        status =
            page->count == 1 ? taken(w, page->struct_size, sizeof *page) : CREDSTORE_E_INTERNAL;
    credstore_free(page);
    return status;
}

static credstore_status take_data_key_page(world *w)
{
    const credstore_data_key_page *page = NULL;
    credstore_status status = credstore_keys_list(w->store, &w->call, 0, &page, &w->err);

    if (status == CREDSTORE_OK)
        status =
            page->count == 4 ? taken(w, page->struct_size, sizeof *page) : CREDSTORE_E_INTERNAL;
    credstore_free(page);
    return status;
}

/* A page that is older ends before its items. */
static credstore_status take_root_slot(world *w)
{
    const credstore_root_page *page = NULL;
    credstore_status status = credstore_root_list(w->store, &w->call, &page, &w->err);

#ifndef OLDER_credstore_root_page
    if (status == CREDSTORE_OK)
        status = page->items[0]->is_own == 1
                     ? taken(w, page->items[0]->struct_size, sizeof *page->items[0])
                     : CREDSTORE_E_INTERNAL;
#endif
    credstore_free(page);
    return status;
}

static credstore_status take_data_key(world *w)
{
    const credstore_data_key_page *page = NULL;
    credstore_status status = credstore_keys_list(w->store, &w->call, 0, &page, &w->err);

#ifndef OLDER_credstore_data_key_page
    if (status == CREDSTORE_OK)
        status = page->items[3]->id == 4
                     ? taken(w, page->items[3]->struct_size, sizeof *page->items[3])
                     : CREDSTORE_E_INTERNAL;
#endif
    credstore_free(page);
    return status;
}

static credstore_status give_check_options(world *w)
{
    credstore_check_options options = {.struct_size = sizeof options};

    GIVE(w, options);
    return credstore_check(w->store, &w->call, &options, NULL, &w->err);
}

/* What the library fills is as long as the program says, and what lies behind it stays. */
static credstore_status filled(const world *w, uint64_t behind, uint64_t future)
{
    const int written = behind != UINT64_MAX || (w->age > 0 && future != 0);

    return written ? CREDSTORE_E_INTERNAL : CREDSTORE_OK;
}
#define FUTURE(whole) (((const uint64_t *)(const void *)(&(whole) + 1))[-1])

static credstore_status take_check_result(world *w)
{
    struct {
        credstore_check_result result;
        uint64_t behind;
    } all = {.result.struct_size = sizeof all.result, .behind = UINT64_MAX};
    credstore_status status = credstore_check(w->store, &w->call, NULL, &all.result, &w->err);

    if (status == CREDSTORE_OK && all.result.values == 0)
        status = CREDSTORE_E_INTERNAL;
    return status == CREDSTORE_OK ? filled(w, all.behind, FUTURE(all.result)) : status;
}

static credstore_status take_repair_result(world *w)
{
    struct {
        credstore_repair_result result;
        uint64_t behind;
    } all = {.result.struct_size = sizeof all.result, .behind = UINT64_MAX};
    credstore_status status = credstore_repair_indexes(w->store, &w->call, &all.result, &w->err);

    return status == CREDSTORE_OK ? filled(w, all.behind, FUTURE(all.result)) : status;
}

static const struct step {
    const char *name;
    credstore_status (*run)(world *w);
} steps[] = {
    {"credstore_options", give_options},
    {"credstore_call", give_call},
    {"credstore_key_service", give_key_service},
    {"credstore_page", give_page},
    {"credstore_request", give_request},
    {"credstore_checkbook_patch", give_checkbook_patch},
    {"credstore_checkbook_origin", give_checkbook_origin},
    {"credstore_stripe_patch", give_stripe_patch},
    {"credstore_stripe_origin", give_stripe_origin},
    {"credstore_service_credential_patch", give_service_credential_patch},
    {"credstore_service_credential_origin", give_service_credential_origin},
    {"credstore_api_key_patch", give_api_key_patch},
    {"credstore_api_key_origin", give_api_key_origin},
    {"credstore_check_options", give_check_options},
    {"credstore_check_result", take_check_result},
    {"credstore_repair_result", take_repair_result},
    {"credstore_checkbook", take_checkbook},
    {"credstore_stripe", take_stripe},
    {"credstore_stripe_page", take_stripe_page},
    {"credstore_service_credential", take_service_credential},
    {"credstore_api_key", take_api_key},
    {"credstore_answer", take_answer},
    {"credstore_audit_page", take_audit_page},
    {"credstore_audit_entry", take_audit_entry},
    {"credstore_root_page", take_root_page},
    {"credstore_root_slot", take_root_slot},
    {"credstore_data_key_page", take_data_key_page},
    {"credstore_data_key", take_data_key},
};

int main(int argc, char **argv)
{
    world w = {
        .actor = {
            sizeof w.actor, CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_SUPER, 0, 0, {0}, "me", "acme"}};
    credstore_options options = {0};
    credstore_status status = CREDSTORE_OK;

    if (argc != 4)
        return 2;
    w.tail = atoi(argv[2]);
    w.age = atoi(argv[3]);
    w.call.struct_size = sizeof w.call;
    w.call.actor = &w.actor;
    w.call.tenant = "acme";
    status = open_store(&w, &options);
    if (status == CREDSTORE_OK)
        status = credstore_actor_grant(w.store, &w.actor, permissions[0], &w.err);
    for (size_t i = 0; i < COUNT(steps) && status == CREDSTORE_OK; i++)
        if (strcmp(steps[i].name, argv[1]) == 0) {
            status = steps[i].run(&w);
            puts(credstore_status_name((int32_t)status));
        }
    if (status != CREDSTORE_OK)
        fprintf(stderr, "%s: %s\n", w.err.field, w.err.message);
    credstore_close(w.store);
    return 0;
}
