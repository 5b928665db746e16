/* SPDX-License-Identifier: MIT
 *
 * The tutorial: a store on disk, the four records of the four API documents, their four updates,
 * and a look at what is in the files afterwards.
 *
 *   build/examples/quickstart [STORE [BODIES]]
 *
 * STORE is a folder (default build/quickstart); the root key is kept beside it in STORE.key. BODIES
 * holds the four request bodies (default examples/bodies). A second run works on the store that is
 * there.
 */
#include <credstore.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_MAX_LEN = 1024, BODY_MAX = 65536 };

static const credstore_permission catalogue[] = {
    {"readApplications", "applications", "read"},
    {"writeApplications", "applications", "write"},
    {"organizations:read", "organizations", "read"},
    {"organizations:update", "organizations", "update"},
    {"users:read", "users", "read"},
    {"users:list", "users", "list"},
};

/* Who asks. The host fills such an actor from its own session; here we are three of them. */
typedef struct people {
    credstore_actor system, admin, owner;
} people;

typedef struct record {
    const char *title, *body_file;
    uint32_t kind;
    const credstore_actor *actor;
    const char *tenant, *parent, *id, *query;
} record;

/* ---- small helpers ---- */

static bool failed(const char *what, const credstore_error *err)
{
    fprintf(stderr, "%s: %s: %s%s%s\n", what, credstore_status_name(err->status), err->message,
            err->field[0] == '\0' ? "" : " at ", err->field);
    return false;
}

static credstore_actor actor_of(uint32_t type, uint32_t roles, const char *id, const char *tenant)
{
    credstore_actor actor = {.struct_size = sizeof actor, .type = type, .roles = roles};

    snprintf(actor.id, sizeof actor.id, "%s", id);
    snprintf(actor.tenant, sizeof actor.tenant, "%s", tenant);
    return actor;
}

static bool read_file(const char *path, char *out, size_t max, size_t *len)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    *len = fread(out, 1, max, file);
    fclose(file);
    return true;
}

/* ---- the store ---- */

static credstore *open_store(const char *path)
{
    char key_path[PATH_MAX_LEN];
    credstore_key_source *key = NULL;
    credstore *store = NULL;
    credstore_error err;

    snprintf(key_path, sizeof key_path, "%s.key", path);
    if (credstore_key_file(key_path, CREDSTORE_KEY_CREATE, &key, &err) != CREDSTORE_OK) {
        failed(key_path, &err);
        return NULL;
    }
    const credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .key = key,
        .catalogue = catalogue,
        .catalogue_count = sizeof catalogue / sizeof *catalogue,
    };
    if (credstore_open(path, &options, &store, &err) != CREDSTORE_OK)
        failed(path, &err);
    credstore_key_source_free(key); /* the store has taken what it needs */
    return store;
}

static bool fill_people(const credstore *store, people *p)
{
    credstore_error err;

    p->system = actor_of(CREDSTORE_ACTOR_SYSTEM, 0, "platform", "dakota");
    p->admin = actor_of(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "ada", "devkit4ai");
    p->owner = actor_of(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "grace", "acme");
    for (size_t i = 0; i < sizeof catalogue / sizeof *catalogue; i++)
        if (credstore_actor_grant(store, &p->owner, catalogue[i].id, &err) != CREDSTORE_OK)
            return failed("grant", &err);
    return true;
}

/* ---- step 1: the records, by the typed calls ---- */

/* A second run finds what the first one made. */
static bool created(const char *what, credstore_status status, const credstore_error *err)
{
    if (status != CREDSTORE_OK && status != CREDSTORE_E_EXISTS)
        return failed(what, err);
    printf("  %-20s %s\n", what, status == CREDSTORE_OK ? "created" : "is there already");
    return true;
}

static bool create_checkbook(credstore *store, const credstore_actor *actor, const record *r)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};
    const credstore_checkbook_origin origin = {
        .struct_size = sizeof origin, .id = r->id, .created_at = INT64_C(1699335116000)};
    const credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("publishable-of-yesterday"),
        .secret_key = CREDSTORE_SECRET("secret-of-yesterday-4f1c", CREDSTORE_NTS),
        .base_url = CREDSTORE_TEXT("https://sandbox.checkbook.io"),
        .is_active = CREDSTORE_FLAG(0),
    };
    credstore_error err;

    return created(r->title, credstore_checkbook_create(store, &call, &origin, &patch, NULL, &err),
                   &err);
}

static bool create_stripe(credstore *store, const credstore_actor *actor, const record *r)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};
    const credstore_stripe_origin origin = {
        .struct_size = sizeof origin, .id = r->id, .created_at = INT64_C(1699335116000)};
    const credstore_stripe_patch patch = {.struct_size = sizeof patch};
    credstore_error err;

    return created(r->title,
                   credstore_stripe_create(store, &call, r->id, &origin, &patch, NULL, &err), &err);
}

static bool create_service_credential(credstore *store, const credstore_actor *actor,
                                      const record *r)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};
    const credstore_service_credential_origin origin = {
        .struct_size = sizeof origin,
        .id = r->id,
        .client_id = "A1b2C3d4E5f6G7h8I9j0K",
        .created_at = INT64_C(1577470279117),
        .last_used_at = INT64_C(1577470279117),
    };
    const credstore_service_credential_patch patch = {
        .struct_size = sizeof patch,
        .name = CREDSTORE_TEXT("name"),
        .description = CREDSTORE_TEXT("description"),
    };
    credstore_error err;

    return created(r->title,
                   credstore_service_credential_create(store, &call, r->tenant, r->parent, &origin,
                                                       &patch, NULL, &err),
                   &err);
}

static bool create_api_key(credstore *store, const credstore_actor *actor, const record *r)
{
    const char *const permissions[] = {"readApplications"};
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};
    const credstore_api_key_origin origin = {.struct_size = sizeof origin, .id = r->id};
    const credstore_api_key_patch patch = {
        .struct_size = sizeof patch,
        .description = CREDSTORE_TEXT("Import"),
        .permissions = CREDSTORE_STRINGS(permissions, 1),
    };
    credstore_error err;

    return created(r->title, credstore_api_key_create(store, &call, &origin, &patch, NULL, &err),
                   &err);
}

/* ---- step 2: the four updates, as a transport would hand them on ---- */

static credstore_slice slice_of(const char *text)
{
    const credstore_slice slice = {text, text == NULL ? 0 : strlen(text)};

    return slice;
}

static const credstore_answer *ask(credstore *store, const record *r, uint32_t verb,
                                   credstore_slice body)
{
    const credstore_request request = {
        .struct_size = sizeof request,
        .kind = r->kind,
        .verb = verb,
        .actor = r->actor,
        .tenant = slice_of(r->tenant),
        .parent = slice_of(r->parent),
        .id = slice_of(r->id),
        .query = slice_of(r->query),
        .body = body,
    };

    return credstore_handle(store, &request);
}

/* The members of one flat answer that differ from the other's, a line each: enough for a tutorial.
 */
static void print_changes(const char *before, const char *after)
{
    const char *at = after;

    while ((at = strchr(at, '"')) != NULL) {
        const char *end = at + strcspn(at, ",}");
        char member[512];

        snprintf(member, sizeof member, "%.*s", (int)(end - at), at);
        if (strstr(before, member) == NULL)
            printf("    changed: %s\n", member);
        at = end;
    }
}

static bool update(credstore *store, const record *r, const char *bodies)
{
    static char body[BODY_MAX];
    char path[PATH_MAX_LEN];
    size_t len = 0;
    bool ok;

    snprintf(path, sizeof path, "%s/%s", bodies, r->body_file);
    if (!read_file(path, body, sizeof body, &len))
        return false;
    const credstore_slice nothing = {NULL, 0}, sent = {body, len};
    const credstore_answer *before = ask(store, r, CREDSTORE_VERB_GET, nothing);
    const credstore_answer *answer = ask(store, r, CREDSTORE_VERB_UPDATE, sent);
    const credstore_answer *after = ask(store, r, CREDSTORE_VERB_GET, nothing);

    credstore_wipe(body, len);
    printf("\n%s, %s sent: HTTP %" PRIu32 ", ETag %s\n  %s\n", r->title, r->body_file,
           answer->http_status, answer->etag == NULL ? "none" : answer->etag, answer->body);
    ok = answer->http_status == 200 && before->http_status == 200 && after->http_status == 200;
    if (ok && before->revision == after->revision)
        printf("    changed: nothing\n");
    else if (ok)
        print_changes(before->body, after->body);
    credstore_answer_free(before);
    credstore_answer_free(answer);
    credstore_answer_free(after);
    return ok;
}

/* ---- step 3: after a restart ---- */

static bool read_back(credstore *store, const record *records, size_t count)
{
    const credstore_slice nothing = {NULL, 0};
    bool ok = true;

    for (size_t i = 0; i < count; i++) {
        const credstore_answer *answer = ask(store, &records[i], CREDSTORE_VERB_GET, nothing);

        printf("  %s\n", answer->body);
        ok = ok && answer->http_status == 200;
        credstore_answer_free(answer);
    }
    return ok;
}

/* The text of a member of a body file: the tutorial's bodies hold no escapes. */
static bool sent_value(const char *bodies, const char *file, const char *member, char *out,
                       size_t max)
{
    char path[PATH_MAX_LEN], body[4096] = "", pattern[64];
    const char *at;
    size_t len = 0;

    snprintf(path, sizeof path, "%s/%s", bodies, file);
    snprintf(pattern, sizeof pattern, "\"%s\": \"", member);
    if (!read_file(path, body, sizeof body - 1, &len) || (at = strstr(body, pattern)) == NULL)
        return false;
    at += strlen(pattern);
    snprintf(out, max, "%.*s", (int)strcspn(at, "\""), at);
    credstore_wipe(body, sizeof body);
    return true;
}

static bool reveal(credstore *store, const record *r, const credstore_actor *actor,
                   const char *bodies)
{
    const credstore_call call = {.struct_size = sizeof call, .actor = actor};
    credstore_secret *secret = NULL;
    credstore_error err;
    char sent[4097];
    bool same;

    if (credstore_checkbook_reveal(store, &call, r->id, CREDSTORE_CHECKBOOK_SECRET_KEY, &secret,
                                   &err) != CREDSTORE_OK)
        return failed("reveal", &err);
    same = sent_value(bodies, r->body_file, "secret_key", sent, sizeof sent) &&
           strcmp(credstore_secret_ptr(secret), sent) == 0;
    printf("\nRevealed the Checkbook secret key: %zu bytes, %s\n", credstore_secret_len(secret),
           same ? "exactly what was sent" : "NOT what was sent");
    credstore_wipe(sent, sizeof sent);
    credstore_secret_free(secret);
    return same;
}

/* ---- step 4: what a thief of the files would find ---- */

static size_t occurrences(const char *path, const char *needle)
{
    const size_t len = strlen(needle);
    size_t count = 0, size = 0;
    struct stat info;
    char *bytes;
    FILE *file = fopen(path, "rb");

    if (file == NULL || fstat(fileno(file), &info) != 0)
        return 0;
    bytes = malloc((size_t)info.st_size + 1);
    if (bytes != NULL)
        size = fread(bytes, 1, (size_t)info.st_size, file);
    for (size_t i = 0; i + len <= size; i++)
        count += memcmp(bytes + i, needle, len) == 0;
    free(bytes);
    fclose(file);
    return count;
}

static size_t scan_folder(const char *folder, const char *needle)
{
    size_t found = 0;
    const struct dirent *entry;
    DIR *dir = opendir(folder);

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[PATH_MAX_LEN];

        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        found += occurrences(path, needle);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static bool scan(const char *store_path, const char *bodies, const record *checkbook,
                 const record *stripe)
{
    const struct {
        const record *of;
        const char *member;
    } secrets[] = {
        {checkbook, "secret_key"},       {stripe, "test_secret_key"},
        {stripe, "test_webhook_secret"}, {stripe, "live_secret_key"},
        {stripe, "live_webhook_secret"},
    };
    const size_t count = sizeof secrets / sizeof *secrets;
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        char value[4097];

        if (!sent_value(bodies, secrets[i].of->body_file, secrets[i].member, value, sizeof value))
            return false;
        found += scan_folder(store_path, value);
        credstore_wipe(value, sizeof value);
    }
    found += scan_folder(store_path, "secret-of-yesterday-4f1c");
    /* A scan that can find nothing proves nothing: an id is in the clear, and must turn up. */
    const bool sees = scan_folder(store_path, checkbook->id) > 0;

    printf("Scanned the store's files for the %zu secrets that were written: found %s%s\n",
           count + 1, found == 0 ? "nowhere" : "SOME", sees ? "" : " (but the scan is blind)");
    return found == 0 && sees;
}

static bool run(const char *path, const char *bodies)
{
    people p;
    credstore *store = open_store(path);
    bool ok;

    if (store == NULL || !fill_people(store, &p)) {
        credstore_close(store);
        return false;
    }
    const record records[] = {
        {"Checkbook", "checkbook.json", CREDSTORE_KIND_CHECKBOOK, &p.system, NULL, NULL,
         "1NFHrqBHb3cTfLVkFSGmHZqdDPi", NULL},
        {"Stripe", "stripe.json", CREDSTORE_KIND_STRIPE, &p.admin, NULL, NULL,
         "3c90c3cc-0d44-4b50-8888-8dd25736052a", NULL},
        {"Service credential", "service_credential.json", CREDSTORE_KIND_SERVICE_CREDENTIAL,
         &p.owner, "acme", "billing", "ab3def8hij2klm9opq5rst7uvw", "expand[]=permissions"},
        {"API key", "api_key.json", CREDSTORE_KIND_API_KEY, &p.owner, NULL, NULL, "key-1", NULL},
    };
    const size_t count = sizeof records / sizeof *records;

    printf("libcredstore %s, store %s\n\n", credstore_version(), path);
    ok = create_checkbook(store, &p.system, &records[0]) &&
         create_stripe(store, &p.admin, &records[1]) &&
         create_service_credential(store, &p.owner, &records[2]) &&
         create_api_key(store, &p.owner, &records[3]);
    for (size_t i = 0; ok && i < count; i++)
        ok = update(store, &records[i], bodies);
    credstore_close(store);
    if (!ok)
        return false;
    printf("\nClosed and opened again:\n");
    store = open_store(path);
    ok = store != NULL && read_back(store, records, count) &&
         reveal(store, &records[0], &p.system, bodies);
    credstore_close(store);
    return ok && scan(path, bodies, &records[0], &records[1]);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "build/quickstart";
    const char *bodies = argc > 2 ? argv[2] : "examples/bodies";

    return run(path, bodies) ? EXIT_SUCCESS : EXIT_FAILURE;
}
