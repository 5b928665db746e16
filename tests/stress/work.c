/* SPDX-License-Identifier: MIT
 *
 * What the concurrency tests write and read.
 */
#include "work.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "sealed.h"
#include "time.h"
#include "txn.h"

enum { STAMP_LEN = 22, TEXT_MAX = 96, BODY_MAX = 1024 }; /* a stamp: s<10 hex>t<10 hex> */

#define EXPIRY  INT64_C(4070908800000) /* 2099-01-01 */
#define TAG_MAX ((UINT64_C(1) << 40) - 1)

static const struct {
    uint32_t kind;
    const char *id;
} records[WORK_RECORDS] = {
    {CREDSTORE_KIND_CHECKBOOK, "1NFHrqBHb3cTfLVkFSGmHZqdDPi"},
    {CREDSTORE_KIND_CHECKBOOK, "1NFHrqBHb3cTfLVkFSGmHZqdDPj"},
    {CREDSTORE_KIND_STRIPE, "3c90c3cc-0d44-4b50-8888-8dd25736052a"},
    {CREDSTORE_KIND_STRIPE, "3c90c3cc-0d44-4b50-8888-8dd25736052b"},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, "cred-1"},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, "cred-2"},
    {CREDSTORE_KIND_API_KEY, "key-1"},
    {CREDSTORE_KIND_API_KEY, "key-2"},
};

uint64_t work_tag(unsigned worker, uint64_t n)
{
    return ((uint64_t)worker << 24 | (n & 0xffffff)) & TAG_MAX;
}

/* ---- stamps as texts ---- */

static void stamp_text(work_stamp s, char out[STAMP_LEN + 1])
{
    snprintf(out, STAMP_LEN + 1, "s%010" PRIx64 "t%010" PRIx64, s.secret & TAG_MAX,
             s.tag & TAG_MAX);
}

/* The stamp behind the first `skip` bytes of a text that ends with it. */
static bool stamp_of(const char *text, size_t skip, work_stamp *out)
{
    int end = 0;

    return text != NULL && strlen(text) == skip + STAMP_LEN &&
           sscanf(text + skip, "s%10" SCNx64 "t%10" SCNx64 "%n", &out->secret, &out->tag, &end) ==
               2 &&
           end == STAMP_LEN;
}

/* Half of a secret is its tag, the other half follows from it. */
static void secret_text(const char *prefix, uint64_t tag, char out[TEXT_MAX])
{
    uint64_t state = tag;

    snprintf(out, TEXT_MAX, "%s%010" PRIx64 "x%016" PRIx64, prefix, tag, test_random(&state));
}

static uint64_t secret_tag(const char *prefix, const credstore_secret *secret)
{
    const size_t skip = strlen(prefix);
    const char *text = credstore_secret_ptr(secret);
    char expected[TEXT_MAX];
    uint64_t tag = 0;

    if (credstore_secret_len(secret) < skip || sscanf(text + skip, "%10" SCNx64, &tag) != 1)
        return UINT64_MAX;
    secret_text(prefix, tag, expected);
    return strcmp(text, expected) == 0 ? tag : UINT64_MAX;
}

/* ---- the four kinds ---- */

typedef struct pair {
    char at[2][TEXT_MAX];
} pair;

typedef struct patch {
    union {
        credstore_checkbook_patch checkbook;
        credstore_stripe_patch stripe;
        credstore_service_credential_patch service_credential;
        credstore_api_key_patch api_key;
    } of;
    pair text, secret;
    const char *permissions[1];
} patch;

typedef struct shape {
    uint32_t kind, secret_field; /* 0 = none */
    const char *secret_prefix;
    void (*fill)(patch *p, const work_change *c);
    bool (*check)(const void *view, work_view *out);
    void (*body)(const work_change *c, char out[BODY_MAX]);
    bool (*check_json)(const char *body);
} shape;

#define URL "https://stress.example.org/"

static void secrets_of(const work_change *c, const char *first, const char *second, pair *out)
{
    secret_text(first, c->stamp.secret, out->at[0]);
    secret_text(second, c->stamp.secret, out->at[1]);
}

static void texts_of(const work_change *c, const char *first, const char *second, pair *out)
{
    char stamp[STAMP_LEN + 1];

    stamp_text(c->stamp, stamp);
    snprintf(out->at[0], TEXT_MAX, "%s%s", first, stamp);
    snprintf(out->at[1], TEXT_MAX, "%s%s", second, stamp);
}

static void checkbook_fill(patch *p, const work_change *c)
{
    const credstore_text texts[] = {CREDSTORE_TEXT(p->text.at[0]), CREDSTORE_TEXT(p->text.at[1])};
    const credstore_secret_text secret = CREDSTORE_SECRET(p->secret.at[1], CREDSTORE_NTS);

    texts_of(c, "", URL, &p->text);
    secrets_of(c, "", "key-", &p->secret);
    p->of.checkbook.struct_size = sizeof p->of.checkbook;
    if (c->empty)
        return;
    p->of.checkbook.publishable_key = texts[0];
    p->of.checkbook.base_url = texts[1];
    if (c->with_secret)
        p->of.checkbook.secret_key = secret;
}

static bool same_stamp(work_stamp a, work_stamp b)
{
    return a.tag == b.tag && a.secret == b.secret;
}

/* Two texts, behind their prefixes. */
static bool agree(const char *first, size_t first_skip, const char *second, size_t second_skip,
                  work_stamp *out)
{
    work_stamp other;

    return stamp_of(first, first_skip, out) && stamp_of(second, second_skip, &other) &&
           same_stamp(*out, other);
}

static bool checkbook_check(const void *view, work_view *out)
{
    const credstore_checkbook *v = view;

    out->revision = v->revision;
    return agree(v->publishable_key, 0, v->base_url, strlen(URL), &out->stamp);
}

static void checkbook_body(const work_change *c, char out[BODY_MAX])
{
    pair plain, secret;

    texts_of(c, "", URL, &plain);
    secrets_of(c, "", "key-", &secret);
    snprintf(out, BODY_MAX, "{\"publishable_key\": \"%s\", \"base_url\": \"%s\"%s%s%s}",
             plain.at[0], plain.at[1], c->with_secret ? ", \"secret_key\": \"" : "",
             c->with_secret ? secret.at[1] : "", c->with_secret ? "\"" : "");
}

static void stripe_fill(patch *p, const work_change *c)
{
    const credstore_text texts[] = {CREDSTORE_TEXT(p->text.at[0]), CREDSTORE_TEXT(p->text.at[1])};
    const credstore_secret_text secrets[] = {CREDSTORE_SECRET(p->secret.at[0], CREDSTORE_NTS),
                                             CREDSTORE_SECRET(p->secret.at[1], CREDSTORE_NTS)};

    texts_of(c, "pk_test_", "pk_live_", &p->text);
    secrets_of(c, "sk_test_", "sk_live_", &p->secret);
    p->of.stripe.struct_size = sizeof p->of.stripe;
    if (c->empty)
        return;
    p->of.stripe.test_publishable_key = texts[0];
    p->of.stripe.live_publishable_key = texts[1];
    if (!c->with_secret)
        return;
    p->of.stripe.test_secret_key = secrets[0];
    p->of.stripe.live_secret_key = secrets[1];
}

static bool stripe_check(const void *view, work_view *out)
{
    const credstore_stripe *v = view;

    out->revision = v->revision;
    return agree(v->test_publishable_key, 8, v->live_publishable_key, 8, &out->stamp);
}

static void stripe_body(const work_change *c, char out[BODY_MAX])
{
    pair plain, secret;

    texts_of(c, "pk_test_", "pk_live_", &plain);
    secrets_of(c, "sk_test_", "sk_live_", &secret);
    snprintf(out, BODY_MAX,
             "{\"test_publishable_key\": \"%s\", \"live_publishable_key\": \"%s\"%s%s%s%s%s}",
             plain.at[0], plain.at[1], c->with_secret ? ", \"test_secret_key\": \"" : "",
             c->with_secret ? secret.at[0] : "",
             c->with_secret ? "\", \"live_secret_key\": \"" : "",
             c->with_secret ? secret.at[1] : "", c->with_secret ? "\"" : "");
}

/* In JSON the keys are masked: the last four characters must do. */
static bool stripe_check_json(const char *body)
{
    const char *test = strstr(body, "pk_test_..."), *live = strstr(body, "pk_live_...");

    return test != NULL && live != NULL && strncmp(test + 11, live + 11, 4) == 0;
}

/* The first stamp of a JSON text stands in it again; out gets it. */
static bool stands_twice(const char *body, char out[STAMP_LEN + 1])
{
    const char *at = body;
    work_stamp ignored;

    for (; *at != '\0'; at++) {
        snprintf(out, STAMP_LEN + 1, "%s", at);
        if (stamp_of(out, 0, &ignored))
            return strstr(at + STAMP_LEN, out) != NULL;
    }
    return false;
}

static bool twice_check_json(const char *body)
{
    char stamp[STAMP_LEN + 1];

    return stands_twice(body, stamp);
}

static void service_credential_fill(patch *p, const work_change *c)
{
    const credstore_text texts[] = {CREDSTORE_TEXT(p->text.at[0]), CREDSTORE_TEXT(p->text.at[1])};

    texts_of(c, "", "of ", &p->text);
    p->of.service_credential.struct_size = sizeof p->of.service_credential;
    if (c->empty)
        return;
    p->of.service_credential.name = texts[0];
    p->of.service_credential.description = texts[1];
}

static bool service_credential_check(const void *view, work_view *out)
{
    const credstore_service_credential *v = view;

    out->revision = v->revision;
    return agree(v->name, 0, v->description, 3, &out->stamp);
}

static void service_credential_body(const work_change *c, char out[BODY_MAX])
{
    pair plain;

    texts_of(c, "", "of ", &plain);
    snprintf(out, BODY_MAX, "{\"name\": \"%s\", \"description\": \"%s\"}", plain.at[0],
             plain.at[1]);
}

static int64_t expiry_of(work_stamp s)
{
    return EXPIRY + (int64_t)(s.tag & UINT32_MAX);
}

static void api_key_fill(patch *p, const work_change *c)
{
    const credstore_text text = CREDSTORE_TEXT(p->text.at[0]);
    const credstore_time expiry = CREDSTORE_TIME(expiry_of(c->stamp));
    const credstore_strings permissions = CREDSTORE_STRINGS(p->permissions, 1);

    texts_of(c, "", "", &p->text);
    p->permissions[0] = test_catalogue[c->stamp.tag % test_catalogue_count].id;
    p->of.api_key.struct_size = sizeof p->of.api_key;
    if (c->empty)
        return;
    p->of.api_key.description = text;
    p->of.api_key.expires_at = expiry;
    p->of.api_key.permissions = permissions;
}

static bool api_key_check(const void *view, work_view *out)
{
    const credstore_api_key *v = view;

    out->revision = v->revision;
    return stamp_of(v->description, 0, &out->stamp) && v->expires_at == expiry_of(out->stamp) &&
           v->permission_count == 1 &&
           strcmp(v->permissions[0], test_catalogue[out->stamp.tag % test_catalogue_count].id) == 0;
}

static void api_key_body(const work_change *c, char out[BODY_MAX])
{
    char stamp[STAMP_LEN + 1], expiry[CS_TIME_TEXT];

    stamp_text(c->stamp, stamp);
    cs_time_format(expiry_of(c->stamp), true, expiry);
    snprintf(out, BODY_MAX,
             "{\"description\": \"%s\", \"expiresAt\": \"%s\", \"flatPermissionsList\": [\"%s\"]}",
             stamp, expiry, test_catalogue[c->stamp.tag % test_catalogue_count].id);
}

static bool api_key_check_json(const char *body)
{
    static const char member[] = "\"description\":\"";
    const char *at = strstr(body, member);
    char text[STAMP_LEN + 1], expiry[CS_TIME_TEXT];
    work_stamp stamp;

    if (at == NULL)
        return false;
    snprintf(text, sizeof text, "%s", at + sizeof member - 1);
    return stamp_of(text, 0, &stamp) && cs_time_format(expiry_of(stamp), true, expiry) &&
           strstr(body, expiry) != NULL &&
           strstr(body, test_catalogue[stamp.tag % test_catalogue_count].id) != NULL;
}

static const shape shapes[] = {
    {CREDSTORE_KIND_CHECKBOOK, CREDSTORE_CHECKBOOK_SECRET_KEY, "key-", checkbook_fill,
     checkbook_check, checkbook_body, twice_check_json},
    {CREDSTORE_KIND_STRIPE, CREDSTORE_STRIPE_LIVE_SECRET_KEY, "sk_live_", stripe_fill, stripe_check,
     stripe_body, stripe_check_json},
    {CREDSTORE_KIND_SERVICE_CREDENTIAL, 0, "", service_credential_fill, service_credential_check,
     service_credential_body, twice_check_json},
    {CREDSTORE_KIND_API_KEY, 0, "", api_key_fill, api_key_check, api_key_body, api_key_check_json},
};

static const shape *shape_of(size_t record)
{
    return &shapes[record / 2];
}

static const test_kind *kind_of(size_t record)
{
    return &test_kinds[record / 2];
}

static test_at at_of(const work_change *c)
{
    const test_at at = {TEST_TENANT, TEST_PARENT, c->id == NULL ? records[c->record].id : c->id};

    return at;
}

bool work_has_secret(size_t record)
{
    return shape_of(record)->secret_field != 0;
}

/* ---- stores ---- */

void work_say(const char *what, const credstore_error *err)
{
    fprintf(stderr, "%s: %s %d %s %s\n", what, credstore_status_name(err->status), err->native,
            err->field, err->message);
}

credstore *work_open(const char *path, credstore_error *err)
{
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
        .wait_ms = 120000,
    };
    credstore_key_source *key = NULL;
    credstore *store = NULL;

    if (credstore_key_bytes(test_root_key, sizeof test_root_key, &key, err) == CREDSTORE_OK) {
        options.key = key;
        credstore_open(path, &options, &store, err);
    }
    credstore_key_source_free(key);
    if (store == NULL)
        work_say("open", err);
    return store;
}

credstore_status work_create(credstore *store, const credstore_actor *actor, const work_change *c,
                             credstore_error *err)
{
    const credstore_call call = test_call(actor);
    const test_at at = at_of(c);
    /* All origins begin alike, and this is a record's id. Stripe's is another: made here. */
    const credstore_service_credential_origin origin = {
        .struct_size = sizeof(credstore_origin),
        .id = records[c->record].kind == CREDSTORE_KIND_STRIPE ? NULL : at.id};
    patch p = {0};

    shape_of(c->record)->fill(&p, c);
    return kind_of(c->record)->create(store, &call, &at, &origin, &p.of, NULL, err);
}

credstore_status work_create_all(credstore *store, const credstore_actor *actor,
                                 credstore_error *err)
{
    credstore_status status = CREDSTORE_OK;

    for (size_t i = 0; i < WORK_RECORDS && status == CREDSTORE_OK; i++) {
        const work_change c = {.record = i, .with_secret = true};

        status = work_create(store, actor, &c, err);
    }
    return status;
}

/* ---- changes ---- */

/* The door's answer as a status; it has no credstore_error. */
static credstore_status take_answer(const credstore_answer *answer, credstore_error *err)
{
    memset(err, 0, sizeof *err);
    err->status = answer->status;
    snprintf(err->message, sizeof err->message, "HTTP %" PRIu32 " %.120s", answer->http_status,
             answer->body == NULL ? "" : answer->body);
    return (credstore_status)answer->status;
}

static credstore_request request_of(const credstore_actor *actor, const work_change *c,
                                    uint32_t verb)
{
    const test_at at = at_of(c);
    credstore_request request = {
        .struct_size = sizeof request,
        .kind = shape_of(c->record)->kind,
        .verb = verb,
        .actor = actor,
        .id = {at.id, strlen(at.id)},
    };

    if (request.kind != CREDSTORE_KIND_SERVICE_CREDENTIAL)
        return request;
    request.tenant.ptr = at.tenant;
    request.tenant.len = strlen(at.tenant);
    request.parent.ptr = at.parent;
    request.parent.len = strlen(at.parent);
    return request;
}

static credstore_status write_door(credstore *store, const credstore_actor *actor,
                                   const work_change *c, uint64_t *revision, credstore_error *err)
{
    credstore_request request = request_of(actor, c, CREDSTORE_VERB_UPDATE);
    const credstore_answer *answer;
    char body[BODY_MAX], etag[32];
    credstore_status status;

    shape_of(c->record)->body(c, body);
    request.body.ptr = body;
    request.body.len = strlen(body);
    snprintf(etag, sizeof etag, "\"%" PRIu64 "\"", c->expected);
    if (c->expected == CREDSTORE_MUST_BE_NEW) {
        request.if_none_match.ptr = "*";
        request.if_none_match.len = 1;
    } else if (c->expected != 0) {
        request.if_match.ptr = etag;
        request.if_match.len = strlen(etag);
    }
    answer = credstore_handle(store, &request);
    status = take_answer(answer, err);
    *revision = answer->revision;
    credstore_answer_free(answer);
    return status;
}

credstore_status work_write(credstore *store, const credstore_actor *actor, const work_change *c,
                            uint64_t *revision, credstore_error *err)
{
    const test_at at = at_of(c);
    credstore_call call = test_call(actor);
    const void *view = NULL;
    patch p = {0};
    work_view seen = {0};
    credstore_status status;

    *revision = 0;
    if (c->by_door)
        return write_door(store, actor, c, revision, err);
    call.expected_revision = c->expected;
    call.wait_ms = c->wait_ms;
    shape_of(c->record)->fill(&p, c);
    status = kind_of(c->record)->update(store, &call, &at, &p.of, &view, err);
    if (status == CREDSTORE_OK)
        shape_of(c->record)->check(view, &seen);
    *revision = seen.revision;
    credstore_free(view);
    return status;
}

/* ---- reading ---- */

credstore_status work_read(credstore *store, const credstore_actor *actor, size_t record,
                           uint64_t revision, work_view *out, credstore_error *err)
{
    const work_change c = {.record = record};
    const test_at at = at_of(&c);
    credstore_call call = test_call(actor);
    const void *view = NULL;
    credstore_status status;

    memset(out, 0, sizeof *out);
    call.at_revision = revision;
    status = kind_of(record)->get(store, &call, &at, &view, err);
    if (status == CREDSTORE_OK)
        out->whole = shape_of(record)->check(view, out);
    credstore_free(view);
    return status;
}

credstore_status work_read_door(credstore *store, const credstore_actor *actor, size_t record,
                                work_view *out, credstore_error *err)
{
    const work_change c = {.record = record};
    const credstore_request request = request_of(actor, &c, CREDSTORE_VERB_GET);
    const credstore_answer *answer = credstore_handle(store, &request);
    const credstore_status status = take_answer(answer, err);

    memset(out, 0, sizeof *out);
    if (status == CREDSTORE_OK) {
        out->revision = answer->revision;
        out->whole = shape_of(record)->check_json(answer->body);
    }
    credstore_answer_free(answer);
    return status;
}

credstore_status work_reveal(credstore *store, const credstore_actor *actor, size_t record,
                             uint64_t revision, uint64_t *secret, credstore_error *err)
{
    const work_change c = {.record = record};
    const shape *s = shape_of(record);
    const test_at at = at_of(&c);
    credstore_call call = test_call(actor);
    credstore_secret *out = NULL;
    credstore_status status;

    call.at_revision = revision;
    status = kind_of(record)->reveal(store, &call, &at, s->secret_field, &out, err);
    if (status == CREDSTORE_OK)
        *secret = secret_tag(s->secret_prefix, out);
    credstore_secret_free(out);
    return status;
}

/* ---- the audit ---- */

credstore_status work_audit(credstore *store, work_marks *out, credstore_error *err)
{
    uint8_t chain[CS_CHAIN_LEN], previous[CS_CHAIN_LEN];
    cs_head head;
    bool found = false;
    cs_txn txn;
    credstore_status status;

    memset(err, 0, sizeof *err);
    status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_head_read(&txn, &head, &found, err);
    memcpy(chain, head.chain, sizeof chain);
    for (uint64_t seq = head.last_seq; seq > 0 && status == CREDSTORE_OK; seq--) {
        status = cs_audit_check(&txn, seq, chain, previous, err);
        memcpy(chain, previous, sizeof chain);
    }
    cs_txn_end(&txn);
    out->generation = head.generation;
    out->last_seq = head.last_seq;
    return status;
}

/* ---- ---- */

int64_t work_now_us(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void work_nap_us(int64_t us)
{
    const struct timespec nap = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&nap, NULL);
}

void work_file_system(const char *path, char out[16])
{
    static const struct {
        unsigned long type;
        const char *name;
    } names[] = {{0xef53, "ext4"},
                 {0x01021994, "tmpfs"},
                 {0x58465342, "xfs"},
                 {0x9123683e, "btrfs"},
                 {0x794c7630, "overlay"}};
    struct statfs fs;

    snprintf(out, 16, "unknown");
    if (statfs(path, &fs) != 0)
        return;
    snprintf(out, 16, "0x%lx", (unsigned long)fs.f_type);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].type == (unsigned long)fs.f_type)
            snprintf(out, 16, "%s", names[i].name);
}
