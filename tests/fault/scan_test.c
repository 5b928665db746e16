/* SPDX-License-Identifier: MIT
 *
 * No secret that was written is found afterwards: not in the store's files, not in the key file,
 * not in an error or an answer, and not in the memory of the process that worked with it.
 *
 * A child does the work, in each way in which a secret comes in, goes out or is refused, on both
 * engines; it wipes its own copies and stands still. The parent draws the same secrets from the
 * same seed and looks for 40 bytes of each, the middle ones above all, in all of the child's
 * readable and writable memory, dead stack frames and freed blocks included, after each way, and
 * once more when the stores are closed. What the child planted must be found, or the scanner is
 * blind.
 *
 * NOT_<variant>_scan_test says why sanitizers are left out: they keep what was freed.
 */
#define _GNU_SOURCE /* memmem, MAP_ANONYMOUS */

#include "../support.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem.h"
#include "storage/engines.h"

enum {
    SECRETS_MAX = 1024,
    SECRET_ROOM = 8192,
    BODY_ROOM = 3 * 65536,
    NEEDLE = 40,
    WINDOWS = 3, /* of each secret: its beginning, middle and end */
    CHUNK = 1 << 20
};

/* ---- what parent and child share ---- */

typedef struct drawn {
    const char *way; /* the child's text, at the same address in the parent */
    size_t len;
    unsigned planted; /* for which look; 0 = it was given to a store */
    uint8_t
        masked[128]; /* of a token that the library made: not as it is, but under write_masked() */
    bool issued;
} drawn;

typedef struct shared {
    size_t count;
    drawn secrets[SECRETS_MAX];
    size_t checks; /* of errors and answers */
} shared;

static shared *board;
static uint64_t seed;

/* Turns a token into what the board holds of it, and back. */
static void write_masked(size_t index, const void *in, void *out, size_t len)
{
    uint64_t start = seed ^ (index + 1) << 32, state = ~test_random(&start);

    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)(((const uint8_t *)in)[i] ^ test_random(&state));
}

/* The same on both sides. Nothing but the characters is written anywhere. */
static void write_secret(size_t index, char *out, size_t len)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    uint64_t start = seed ^ (index + 1) << 32;
    uint64_t state = test_random(&start); /* far from where the others' sequences run */

    for (size_t i = 0; i < len; i++)
        out[i] = alphabet[test_random(&state) % (sizeof alphabet - 1)];
    out[len] = '\0';
}

/* ---- the child: helpers ---- */

#define CHILD(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition);                         \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char secret[SECRET_ROOM]; /* the host's copy of the secret at hand */
static char body[BODY_ROOM];     /* and its buffer for a request's body */

static const char *draw(const char *way, size_t len)
{
    const size_t index = board->count++;

    CHILD(index < SECRETS_MAX && len < SECRET_ROOM);
    board->secrets[index] = (drawn){.way = way, .len = len};
    write_secret(index, secret, len);
    return secret;
}

typedef struct pipes {
    int in, out;
} pipes;

enum { QUICK = '.', WAY_DONE = 'w', CLOSED = 'c' }; /* why the child stands still */

static pipes parent;

/* The parent looks while the child waits, so that frames and blocks still lie as they were left. */
static void stop_at(char step)
{
    char go = 0;

    CHILD(write(parent.out, &step, 1) == 1);
    CHILD(read(parent.in, &go, 1) == 1);
}

static void forget(void)
{
    credstore_wipe(secret, sizeof secret);
    credstore_wipe(body, sizeof body);
    stop_at(QUICK);
}

/* Nothing that was handed out shows the secret at hand. */
static void is_clean(const void *ptr, size_t len)
{
    const size_t secret_len = strlen(secret);

    board->checks++;
    CHILD(secret_len >= 100);
    for (size_t at = 0; at + NEEDLE <= secret_len; at += NEEDLE / 2)
        CHILD(len == 0 || memmem(ptr, len, secret + at, NEEDLE) == NULL);
}

static void add(size_t *used, const char *text)
{
    const size_t len = strlen(text);

    CHILD(*used + len < sizeof body);
    memcpy(body + *used, text, len + 1);
    *used += len;
}

/* The secret at hand as JSON writes it, or with each third character as an escape. */
static void add_secret(size_t *used, bool escaped)
{
    for (size_t i = 0; secret[i] != '\0'; i++) {
        CHILD(*used + 8 < sizeof body);
        if (escaped && i % 3 == 0)
            *used += (size_t)snprintf(body + *used, 8, "\\u%04x", (unsigned)secret[i]);
        else
            body[(*used)++] = secret[i];
    }
    body[*used] = '\0';
}

/* ---- the child: a store whose engine can be told to fail ---- */

static credstore_storage engines[TEST_ENGINES]; /* with put and commit of ours */
static int puts_left = -1;                      /* -1 = all succeed */
static bool commit_fails;
static const credstore_storage *inner;

static int32_t put_or_not(void *ctx, void *txn, credstore_bytes key, credstore_bytes value)
{
    if (puts_left == 0)
        return CREDSTORE_STORAGE_FULL;
    puts_left -= puts_left > 0;
    return inner->put(ctx, txn, key, value);
}

static int32_t commit_or_not(void *ctx, void *txn)
{
    if (!commit_fails)
        return inner->commit(ctx, txn);
    inner->abort(ctx, txn);
    return CREDSTORE_STORAGE_FULL;
}

typedef struct host {
    test_engine engine;
    credstore *store;
    credstore_actor system, admin, stranger;
    const char *checkbook, *stripe;
} host;

static void open_host(host *h, const char *dir)
{
    char path[TEST_PATH_MAX + 16], key_path[TEST_PATH_MAX + 16];
    credstore_options options = {
        .struct_size = sizeof options,
        .flags = CREDSTORE_OPEN_CREATE,
        .catalogue = test_catalogue,
        .catalogue_count = test_catalogue_count,
    };
    credstore_key_source *key = NULL;
    credstore_error err;

    snprintf(path, sizeof path, "%s/store", dir);
    snprintf(key_path, sizeof key_path, "%s/root.key", dir);
    CHILD(credstore_key_file(key_path, CREDSTORE_KEY_CREATE, &key, &err) == CREDSTORE_OK);
    inner = h->engine == TEST_LMDB ? &cs_storage_lmdb : &cs_storage_memory;
    engines[h->engine] = *inner;
    engines[h->engine].put = put_or_not;
    engines[h->engine].commit = commit_or_not;
    options.key = key;
    options.storage = &engines[h->engine];
    if (h->engine == TEST_LMDB)
        CHILD(cs_lmdb_open(path, options.flags, &options.storage_ctx, &err) == CREDSTORE_OK);
    else
        CHILD(cs_memory_new(&options.storage_ctx, &err) == CREDSTORE_OK);
    CHILD(credstore_open(NULL, &options, &h->store, &err) == CREDSTORE_OK);
    credstore_key_source_free(key);
    h->system = test_actor(CREDSTORE_ACTOR_SYSTEM, 0, "host", "acme");
    h->admin = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "ada", "acme");
    h->stranger = test_actor(CREDSTORE_ACTOR_USER, CREDSTORE_ROLE_ADMIN, "eve", "other");
    h->checkbook = "1NFHrqBHb3cTfLVkFSGmHZqdDPi";
    h->stripe = "3c90c3cc-0d44-4b50-8888-8dd25736052a";
}

/* ---- the child: typed calls ---- */

/* Puts the secret at hand into the record, with a URL beside it; the status. */
static credstore_status typed_checkbook(host *h, const char *url, uint64_t expected, size_t len)
{
    credstore_call call = test_call(&h->system);
    const credstore_checkbook *view = NULL;
    credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .secret_key = CREDSTORE_SECRET(secret, len),
        .base_url = CREDSTORE_TEXT(url),
    };
    credstore_error err;
    credstore_status status;

    call.expected_revision = expected;
    status = credstore_checkbook_update(h->store, &call, h->checkbook, &patch, &view, &err);
    is_clean(&err, sizeof err);
    if (view != NULL)
        is_clean(view, sizeof *view);
    credstore_free(view);
    forget();
    return status;
}

static void typed_create(host *h)
{
    const credstore_call call = test_call(&h->system);
    const credstore_checkbook_origin origin = {.struct_size = sizeof origin, .id = h->checkbook};
    credstore_checkbook_patch patch = {
        .struct_size = sizeof patch,
        .publishable_key = CREDSTORE_TEXT("published"),
        .base_url = CREDSTORE_TEXT("https://api.example.org"),
    };
    credstore_error err;

    patch.secret_key.ptr = draw("typed create", 100);
    patch.secret_key.len = 100;
    patch.secret_key.op = CREDSTORE_SET;
    CHILD(credstore_checkbook_create(h->store, &call, &origin, &patch, NULL, &err) == CREDSTORE_OK);
    is_clean(&err, sizeof err);
    CHILD(credstore_checkbook_create(h->store, &call, &origin, &patch, NULL, &err) ==
          CREDSTORE_E_EXISTS);
    is_clean(&err, sizeof err);
    forget();
}

static void typed_updates(host *h)
{
    static const size_t lengths[] = {100, 101, 127, 160, 255, 256, 1000, 4095, 4096};
    const char *url = "https://api.example.org";

    for (size_t i = 0; i < COUNT(lengths); i++) {
        draw("typed update", lengths[i]);
        CHILD(typed_checkbook(h, url, 0, lengths[i]) == CREDSTORE_OK);
    }
    draw("typed update, length by NUL", 200);
    CHILD(typed_checkbook(h, url, 0, CREDSTORE_NTS) == CREDSTORE_OK);
    write_secret(board->count - 1, secret, 200);
    CHILD(typed_checkbook(h, url, 0, 200) == CREDSTORE_OK); /* again: no change */
}

static void typed_refusals(host *h)
{
    const char *url = "https://api.example.org";
    credstore_checkbook_patch patch = {.struct_size = sizeof patch};
    const credstore_call call = test_call(&h->stranger);
    credstore_error err;

    draw("typed, another member is wrong", 120);
    CHILD(typed_checkbook(h, "http://10.0.0.1/", 0, 120) == CREDSTORE_E_INVALID);
    draw("typed, stale revision", 120);
    CHILD(typed_checkbook(h, url, 9999, 120) == CREDSTORE_E_REVISION);
    draw("typed, too long", 5000);
    CHILD(typed_checkbook(h, url, 0, 5000) == CREDSTORE_E_INVALID);
    draw("typed, a control character at the end", 120);
    secret[119] = '\n';
    CHILD(typed_checkbook(h, url, 0, 120) == CREDSTORE_E_INVALID);
    patch.secret_key.ptr = draw("typed, forbidden", 120);
    patch.secret_key.len = 120;
    patch.secret_key.op = CREDSTORE_SET;
    CHILD(credstore_checkbook_update(h->store, &call, h->checkbook, &patch, NULL, &err) ==
          CREDSTORE_E_FORBIDDEN);
    is_clean(&err, sizeof err);
    forget();
    patch.secret_key.ptr = draw("typed, KEEP with a value", 120);
    patch.secret_key.op = CREDSTORE_KEEP;
    CHILD(credstore_checkbook_update(
              h->store, &(credstore_call){.struct_size = sizeof call, .actor = &h->system},
              h->checkbook, &patch, NULL, &err) == CREDSTORE_E_INVALID);
    is_clean(&err, sizeof err);
    forget();
}

static void engine_failures(host *h)
{
    for (int n = 0; n < 4; n++) { /* record, history, audit, head */
        draw("typed, the engine is full", 130);
        puts_left = n;
        CHILD(typed_checkbook(h, "https://api.example.org", 0, 130) == CREDSTORE_E_FULL);
        puts_left = -1;
    }
    draw("typed, the commit fails", 130);
    commit_fails = true;
    CHILD(typed_checkbook(h, "https://api.example.org", 0, 130) == CREDSTORE_E_FULL);
    commit_fails = false;
}

/* ---- the child: the door ---- */

static int32_t ask(host *h, uint32_t kind, uint32_t verb, const credstore_actor *actor,
                   const char *if_match)
{
    const test_kind *k = test_kind_of(kind);
    credstore_request request = test_request(k, verb, actor, body);
    const credstore_answer *answer;
    int32_t status;

    request.if_match = test_slice(if_match);
    answer = credstore_handle(h->store, &request);
    status = answer->status;
    is_clean(answer->body, answer->body_len);
    if (answer->etag != NULL)
        is_clean(answer->etag, strlen(answer->etag));
    credstore_answer_free(answer);
    forget();
    return status;
}

/* before, the secret at hand, after. */
static int32_t put_checkbook(host *h, const char *way, size_t len, const char *before,
                             const char *after, bool escaped)
{
    size_t used = 0;

    draw(way, len);
    add(&used, before);
    add_secret(&used, escaped);
    add(&used, after);
    return ask(h, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_UPDATE, &h->system, NULL);
}

static void door_updates(host *h)
{
    static const size_t lengths[] = {100, 119, 128, 250, 1024, 4096};
    size_t used = 0;

    for (size_t i = 0; i < COUNT(lengths); i++)
        CHILD(put_checkbook(h, "door update", lengths[i], "{\"secret_key\":\"", "\"}", false) ==
              CREDSTORE_OK);
    CHILD(put_checkbook(h, "door update, escaped", 300, "{\"is_active\":true,\"secret_key\":\"",
                        "\",\"publishable_key\":\"p\"}", true) == CREDSTORE_OK);
    draw("door update, stale", 120);
    add(&used, "{\"secret_key\":\"");
    add_secret(&used, false);
    add(&used, "\"}");
    CHILD(ask(h, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_UPDATE, &h->system, "\"9999\"") ==
          CREDSTORE_E_REVISION);
    for (int n = 0; n < 4; n++) {
        puts_left = n;
        CHILD(put_checkbook(h, "door update, the engine is full", 140, "{\"secret_key\":\"", "\"}",
                            false) == CREDSTORE_E_FULL);
        puts_left = -1;
    }
}

static void door_create(host *h)
{
    size_t used = 0;

    draw("door create", 150);
    add(&used, "{\"publishable_key\":\"p\",\"base_url\":\"https://api.example.org\","
               "\"secret_key\":\"");
    add_secret(&used, false);
    add(&used, "\"}");
    CHILD(ask(h, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_CREATE, &h->system, NULL) ==
          CREDSTORE_E_EXISTS);
}

/* Bodies with the secret in them that are refused: before or after the parser, by members or as a
   whole. */
static const struct {
    const char *way, *before, *after;
    bool escaped;
} bad_bodies[] = {
    {"door, cut", "{\"secret_key\":\"", "\"", false},
    {"door, the string is cut", "{\"secret_key\":\"", "", false},
    {"door, trailing bytes", "{\"secret_key\":\"", "\"} x", false},
    {"door, a name twice", "{\"secret_key\":\"", "\",\"secret_key\":\"x\"}", false},
    {"door, a name twice, escaped", "{\"secret_key\":\"", "\",\"secret\\u005fkey\":\"x\"}", true},
    {"door, a lone surrogate", "{\"secret_key\":\"", "\\ud800\"}", true},
    {"door, a NUL", "{\"secret_key\":\"", "\\u0000\"}", true},
    {"door, a control character", "{\"secret_key\":\"", "\\n\"}", true},
    {"door, an unknown member", "{\"secret_key\":\"", "\",\"colour\":1}", false},
    {"door, as an unknown member", "{\"colour\":\"", "\"}", false},
    {"door, as a member's name", "{\"", "\":1}", false},
    {"door, as a member's name, escaped", "{\"", "\":1}", true},
    {"door, in an array", "{\"secret_key\":[\"", "\"]}", false},
    {"door, in an object", "{\"secret_key\":{\"value\":\"", "\"}}", true},
    {"door, another member is wrong", "{\"secret_key\":\"", "\",\"base_url\":\"http://x/\"}", true},
    {"door, another member's type", "{\"secret_key\":\"", "\",\"is_active\":\"yes\"}", true},
    {"door, another member is null", "{\"secret_key\":\"", "\",\"is_active\":null}", true},
    {"door, as a URL", "{\"base_url\":\"https://example.org/", "\",\"is_active\":1}", true},
    {"door, as a flag", "{\"is_active\":\"", "\"}", false},
    {"door, not an object", "[\"", "\"]", false},
    {"door, not JSON", "secret=", "", false},
};

static void door_refusals(host *h)
{
    size_t used = 0;

    /* Two sizes: a freed block of a common one may soon be another's. */
    for (size_t i = 0; i < 2 * COUNT(bad_bodies); i++)
        CHILD(put_checkbook(h, bad_bodies[i / 2].way, i % 2 == 0 ? 180 : 1500,
                            bad_bodies[i / 2].before, bad_bodies[i / 2].after,
                            bad_bodies[i / 2].escaped) == CREDSTORE_E_INVALID);
    CHILD(put_checkbook(h, "door, too long", 5000, "{\"secret_key\":\"", "\"}", true) ==
          CREDSTORE_E_INVALID);
    draw("door, the body is too large", 4000);
    add(&used, "{\"secret_key\":\"");
    while (used < 66000)
        add_secret(&used, false);
    add(&used, "\"}");
    CHILD(ask(h, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_UPDATE, &h->system, NULL) ==
          CREDSTORE_E_TOO_LARGE);
    used = 0;
    draw("door, forbidden", 180);
    add(&used, "{\"secret_key\":\"");
    add_secret(&used, true);
    add(&used, "\"}");
    CHILD(ask(h, CREDSTORE_KIND_CHECKBOOK, CREDSTORE_VERB_UPDATE, &h->stranger, NULL) ==
          CREDSTORE_E_FORBIDDEN);
}

/* ---- the child: four secrets in one record ---- */

static const struct {
    const char *member, *prefix;
} stripe_secrets[] = {
    {"test_secret_key", "sk_test_"},
    {"test_webhook_secret", "whsec_"},
    {"live_secret_key", "sk_live_"},
    {"live_webhook_secret", "whsec_"},
};
enum { STRIPE_SECRETS = sizeof stripe_secrets / sizeof *stripe_secrets };

static void door_stripe(host *h)
{
    static const char *const bad[] = {"", ",\"live_secret_key\":\"sk_test_wrong_mode\""};
    size_t used;

    for (size_t i = 0; i < STRIPE_SECRETS; i++) {
        used = 0;
        draw("door, one of stripe's", 110 + i);
        add(&used, i == 0 ? "{\"" : "{\"test_publishable_key\":null,\"");
        add(&used, stripe_secrets[i].member);
        add(&used, "\":\"");
        add(&used, stripe_secrets[i].prefix);
        add_secret(&used, i % 2 == 0);
        add(&used, "\"}");
        CHILD(ask(h, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_UPDATE, &h->admin, NULL) ==
              CREDSTORE_OK);
    }
    for (size_t i = 0; i < 2; i++) {
        used = 0;
        draw("door, in another mode's member", 130);
        add(&used, "{\"test_secret_key\":\"");
        add(&used, i == 0 ? "sk_live_" : "sk_test_");
        add_secret(&used, false);
        add(&used, "\"");
        add(&used, bad[i]);
        add(&used, "}");
        CHILD(ask(h, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_UPDATE, &h->admin, NULL) ==
              CREDSTORE_E_INVALID);
    }
}

static void clear_stripe(host *h)
{
    const credstore_call call = test_call(&h->admin);
    const credstore_stripe_patch patch = {
        .struct_size = sizeof patch,
        .live_secret_key = CREDSTORE_CLEARED,
        .live_webhook_secret = CREDSTORE_CLEARED,
    };
    const credstore_stripe *view = NULL;
    credstore_error err;
    size_t used = 0;

    CHILD(credstore_stripe_update(h->store, &call, h->stripe, &patch, &view, &err) == CREDSTORE_OK);
    CHILD(view->has_live_credentials == 0);
    credstore_free(view);
    draw("door, set and cleared at once", 100); /* nothing of it is stored */
    add(&used, "{\"test_secret_key\":null,\"test_webhook_secret\":\"whsec_");
    add_secret(&used, false);
    add(&used, "\"}");
    CHILD(ask(h, CREDSTORE_KIND_STRIPE, CREDSTORE_VERB_UPDATE, &h->admin, NULL) == CREDSTORE_OK);
}

/* ---- the child: reveals ---- */

static void reveals(host *h)
{
    const size_t index = board->count;
    const uint64_t before = test_generation(h->store);
    credstore_secret *now[8] = {NULL};
    credstore_error err;
    credstore_call call = test_call(&h->system);

    draw("revealed", 300);
    CHILD(typed_checkbook(h, "https://api.example.org", 0, 300) == CREDSTORE_OK);
    draw("revealed, of an older revision too", 100);
    CHILD(typed_checkbook(h, "https://api.example.org", 0, 100) == CREDSTORE_OK);
    CHILD(test_generation(h->store) == before + 2);
    for (size_t i = 0; i < 8; i++)
        CHILD(credstore_checkbook_reveal(h->store, &call, h->checkbook,
                                         CREDSTORE_CHECKBOOK_SECRET_KEY, &now[i],
                                         &err) == CREDSTORE_OK);
    write_secret(index + 1, secret, 100);
    for (size_t i = 0; i < 8; i++) {
        CHILD(strcmp(credstore_secret_ptr(now[i]), secret) == 0);
        credstore_secret_free(now[i]);
    }
    forget();
    for (call.at_revision = 1; call.at_revision < 8; call.at_revision++) {
        credstore_secret *then = NULL;

        CHILD(credstore_checkbook_reveal(h->store, &call, h->checkbook,
                                         CREDSTORE_CHECKBOOK_SECRET_KEY, &then,
                                         &err) == CREDSTORE_OK);
        credstore_secret_free(then);
    }
    call.actor = &h->stranger;
    CHILD(credstore_checkbook_reveal(h->store, &call, h->checkbook, CREDSTORE_CHECKBOOK_SECRET_KEY,
                                     &now[0], &err) == CREDSTORE_E_FORBIDDEN);
}

/* ---- the child: tokens that the library makes ---- */

static void note_token(const char *way, const char *token, size_t len)
{
    const size_t index = board->count++;
    drawn *d = &board->secrets[index];

    CHILD(index < SECRETS_MAX && len > NEEDLE && len <= sizeof d->masked);
    *d = (drawn){.way = way, .len = len, .issued = true};
    write_masked(index, token, d->masked, len);
}

static void take_token(const char *way, credstore_secret *token)
{
    note_token(way, credstore_secret_ptr(token), credstore_secret_len(token));
    credstore_secret_free(token);
    forget();
}

static void typed_tokens(host *h)
{
    credstore_call call = test_call(&h->admin);
    const credstore_api_key_patch patch = {.struct_size = sizeof patch,
                                           .description = CREDSTORE_TEXT("issued"),
                                           .permissions = CREDSTORE_STRINGS(NULL, 0)};
    const credstore_api_key *view = NULL;
    credstore_secret *token = NULL;
    credstore_actor actor;
    credstore_error err;

    call.idempotency_key = "issue";
    for (int again = 0; again < 2; again++) { /* the second one out of its receipt */
        credstore_free(view);
        CHILD(credstore_api_key_issue(h->store, &call, "live", &patch, &token, &view, &err) ==
              CREDSTORE_OK);
        CHILD(credstore_api_key_verify(h->store, credstore_secret_ptr(token), CREDSTORE_NTS, &actor,
                                       &err) == CREDSTORE_OK);
        take_token("issued", token);
    }
    call.idempotency_key = NULL;
    for (uint32_t grace_s = 0; grace_s < 120; grace_s += 60) {
        CHILD(credstore_api_key_roll(h->store, &call, view->id, grace_s, &token, NULL, &err) ==
              CREDSTORE_OK);
        take_token("rolled", token);
    }
    puts_left = 1; /* made, and then not stored */
    CHILD(credstore_api_key_roll(h->store, &call, view->id, 0, &token, NULL, &err) != CREDSTORE_OK);
    CHILD(token == NULL);
    puts_left = -1;
    credstore_free(view);
    forget();
}

static void typed_service_tokens(host *h)
{
    const credstore_call call = test_call(&h->admin);
    const credstore_service_credential_patch patch = {.struct_size = sizeof patch,
                                                      .name = CREDSTORE_TEXT("issued")};
    credstore_secret *token = NULL;
    credstore_actor actor;
    credstore_error err;

    CHILD(credstore_service_credential_issue(h->store, &call, "acme", "sa-1", NULL, &patch, &token,
                                             NULL, &err) == CREDSTORE_OK);
    CHILD(credstore_service_credential_verify(h->store, credstore_secret_ptr(token), CREDSTORE_NTS,
                                              &actor, &err) == CREDSTORE_OK);
    take_token("issued to a service", token);
}

/* The answer shows it once, and is wiped when it is freed. */
static void door_tokens(host *h)
{
    static const char create[] = "{\"description\":\"\",\"flatPermissionsList\":[]}";
    static const char before[] = "\"key\":\"";
    const credstore_request request = {.struct_size = sizeof request,
                                       .kind = CREDSTORE_KIND_API_KEY,
                                       .verb = CREDSTORE_VERB_CREATE,
                                       .actor = &h->admin,
                                       .body = {create, sizeof create - 1}};
    const credstore_answer *answer = credstore_handle(h->store, &request);
    const char *at, *end;

    CHILD(answer->status == CREDSTORE_OK);
    at = strstr(answer->body, before);
    CHILD(at != NULL);
    at += sizeof before - 1;
    end = strchr(at, '"');
    CHILD(end != NULL);
    note_token("shown by the door", at, (size_t)(end - at));
    credstore_answer_free(answer);
    forget();
}

/* ---- the child: what must be found ---- */

static char *planted_block;
static char planted_static[256];

/* Planted for the look at the files; else the number of a look at memory, from 1. */
enum { FILES = 1000 };

static void plant_in(char *at, const char *where, unsigned look)
{
    board->secrets[board->count] = (drawn){.way = where, .len = 160, .planted = look};
    write_secret(board->count++, at, 160);
}

/* Noinline, and the frame is left as it is. */
__attribute__((noinline)) static void plant_on_stack(unsigned look)
{
    volatile char frame[4096];
    char *at = (char *)(uintptr_t)frame + 64;

    frame[0] = 1;
    plant_in(at, "planted in a dead stack frame", look);
    __asm__ volatile("" : : "r"(at) : "memory");
}

static void plant(unsigned look)
{
    char *freed = malloc(300);

    planted_block = malloc(300);
    CHILD(freed != NULL && planted_block != NULL);
    plant_in(planted_block, "planted in a block", look);
    plant_in(planted_static, "planted in a variable", look);
    plant_in(freed + 64, "planted in a freed block", look);
    free(freed);
}

static void plant_in_file(const char *dir)
{
    char path[TEST_PATH_MAX + 32];
    int fd;

    snprintf(path, sizeof path, "%s/store/planted", dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHILD(fd >= 0);
    plant_in(secret, "planted in a file", FILES);
    CHILD(write(fd, secret, 160) == 160);
    close(fd);
    credstore_wipe(secret, sizeof secret);
}

/* ---- the child: all of it ---- */

/* In this order: each works on what the ones before it left. */
static void (*const ways[])(host *h) = {
    typed_create, typed_updates,        typed_refusals, engine_failures, door_updates,
    door_create,  door_refusals,        door_stripe,    clear_stripe,    reveals,
    typed_tokens, typed_service_tokens, door_tokens,
};
enum { WAYS = sizeof ways / sizeof *ways };

/* A stop with something to find. */
static void stop_planted(char step)
{
    static unsigned looks;

    plant(++looks);
    plant_on_stack(looks);
    stop_at(step);
    free(planted_block);
}

static void child(const char *dir)
{
    host hosts[TEST_ENGINES] = {{.engine = TEST_MEMORY}, {.engine = TEST_LMDB}};

    for (size_t i = 0; i < TEST_ENGINES; i++)
        open_host(&hosts[i], dir);
    for (size_t i = 0; i < TEST_ENGINES * WAYS; i++) {
        host *h = &hosts[i / WAYS];

        inner = h->engine == TEST_LMDB ? &cs_storage_lmdb : &cs_storage_memory;
        ways[i % WAYS](h);
        stop_planted(WAY_DONE);
    }
    for (size_t i = 0; i < TEST_ENGINES; i++)
        credstore_close(hosts[i].store);
    plant_in_file(dir);
    stop_planted(CLOSED);
    _exit(0);
}

/* ---- the parent: needles ---- */

typedef struct needle {
    uint8_t bytes[NEEDLE];
    size_t secret;
    size_t next; /* in its bucket; 0 = none, else index + 1 */
} needle;

/* Made after the fork, so that the child does not have it. */
typedef struct scanner {
    needle needles[SECRETS_MAX * WINDOWS];
    size_t needle_count, needles_of; /* secrets that have theirs */
    size_t buckets[65536];
    size_t found[SECRETS_MAX];
    char place[SECRETS_MAX][64]; /* of the last find */
    char text[SECRET_ROOM];
    uint8_t chunk[CHUNK + NEEDLE];
} scanner;

static scanner *scan;

static size_t bucket_of(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

static void make_needles(void)
{
    for (; scan->needles_of < board->count; scan->needles_of++) {
        const size_t len = board->secrets[scan->needles_of].len;
        const size_t starts[WINDOWS] = {0, (len - NEEDLE) / 2, len - NEEDLE - 1};

        if (board->secrets[scan->needles_of].issued)
            write_masked(scan->needles_of, board->secrets[scan->needles_of].masked, scan->text,
                         len);
        else
            write_secret(scan->needles_of, scan->text, len);
        for (size_t i = 0; i < WINDOWS; i++) {
            needle *n = &scan->needles[scan->needle_count];

            memcpy(n->bytes, scan->text + starts[i], NEEDLE);
            n->secret = scan->needles_of;
            n->next = scan->buckets[bucket_of(n->bytes)];
            scan->buckets[bucket_of(n->bytes)] = ++scan->needle_count;
        }
    }
}

/* where, at: what p is, for the report. */
static void look(const uint8_t *p, size_t len, const char *where, uint64_t at)
{
    for (size_t i = 0; i + NEEDLE <= len; i++)
        for (size_t n = scan->buckets[bucket_of(p + i)]; n != 0; n = scan->needles[n - 1].next) {
            const size_t of = scan->needles[n - 1].secret;

            if (memcmp(p + i, scan->needles[n - 1].bytes, NEEDLE) != 0)
                continue;
            scan->found[of]++;
            snprintf(scan->place[of], sizeof scan->place[of], "%" PRIx64 " of %.40s", at + i,
                     where);
        }
}

/* ---- the parent: memory and files ---- */

/* from..to of the child. Pages that cannot be read (guards) are passed over. */
static size_t scan_range(int mem, const char *name, uint64_t from, uint64_t to)
{
    size_t seen = 0, kept = 0;

    while (from < to) {
        const size_t want = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        const ssize_t got = pread(mem, scan->chunk + kept, want, (off_t)from);

        if (got <= 0) {
            from += 4096;
            kept = 0;
            continue;
        }
        seen += (size_t)got;
        from += (uint64_t)got;
        look(scan->chunk, kept + (size_t)got, name, from - kept - (size_t)got);
        if (kept + (size_t)got >= NEEDLE) {
            memmove(scan->chunk, scan->chunk + kept + (size_t)got - (NEEDLE - 1), NEEDLE - 1);
            kept = NEEDLE - 1;
        }
    }
    return seen;
}

static size_t scan_memory(pid_t pid)
{
    char path[64], line[512];
    size_t seen = 0;
    FILE *maps;
    int mem;

    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    mem = open(path, O_RDONLY);
    assert_true(mem >= 0);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    maps = fopen(path, "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t from, to;
        char mode[8], name[64] = "an unnamed mapping";

        assert_true(sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %*s %63s", &from, &to, mode,
                           name) >= 3);
        if (mode[0] == 'r' && mode[1] == 'w')
            seen += scan_range(mem, name, from, to);
    }
    fclose(maps);
    close(mem);
    return seen;
}

static size_t scan_file(const char *path)
{
    const size_t max = 16 << 20;
    uint8_t *whole = malloc(max);
    FILE *file = fopen(path, "rb");
    size_t len;

    assert_non_null(whole);
    assert_non_null(file);
    len = fread(whole, 1, max, file);
    assert_true(len < max);
    fclose(file);
    look(whole, len, strrchr(path, '/') + 1, 0);
    free(whole);
    return len;
}

static size_t scan_folder(const char *path_of, size_t *files)
{
    const struct dirent *entry;
    DIR *dir = opendir(path_of);
    size_t seen = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[1024];
        struct stat info;

        snprintf(path, sizeof path, "%s/%s", path_of, entry->d_name);
        assert_int_equal(stat(path, &info), 0);
        if (S_ISDIR(info.st_mode) && entry->d_name[0] != '.')
            seen += scan_folder(path, files);
        if (!S_ISREG(info.st_mode))
            continue;
        seen += scan_file(path);
        (*files)++;
    }
    closedir(dir);
    return seen;
}

/* ---- the parent ---- */

static pid_t worker;
static int to_child[2], from_child[2];
static char folder[TEST_PATH_MAX];

static size_t written(void)
{
    size_t count = 0;

    for (size_t i = 0; i < board->count; i++)
        count += board->secrets[i].planted == 0;
    return count;
}

/* No secret that was written, and every one that was planted for this look; how many those are. */
static size_t check_found(const char *where, unsigned planted)
{
    size_t planted_found = 0;
    bool good = true;

    for (size_t i = 0; i < board->count; i++) {
        const drawn *d = &board->secrets[i];
        const bool due = d->planted == planted, here = scan->found[i] > 0;

        planted_found += planted != 0 && due && here;
        if ((planted != 0 && due && !here) || (d->planted == 0 && here)) {
            print_error("  %s: %s, secret %zu of %zu bytes: %zu times, at %s\n", where, d->way, i,
                        d->len, scan->found[i], scan->place[i]);
            good = false;
        }
    }
    assert_true(good);
    return planted_found;
}

/* At each stop until the stores are closed. */
static void test_memory(void **state)
{
    size_t planted_found = 0, seen = 0;
    unsigned stops = 0, planted = 0;
    char step = 0;

    (void)state;
    while (step != CLOSED) {
        assert_int_equal(read(from_child[0], &step, 1), 1);
        make_needles();
        memset(scan->found, 0, sizeof scan->found);
        seen = scan_memory(worker);
        assert_true(seen > 0);
        planted_found += check_found(step == CLOSED ? "memory, stores closed" : "memory",
                                     step == QUICK ? 0 : ++planted);
        if (step != CLOSED)
            assert_int_equal(write(to_child[1], "g", 1), 1);
        stops++;
    }
    printf("memory: %u looks, %zu bytes in the last, %zu secrets found nowhere, %zu planted ones "
           "found\n",
           stops, seen, written(), planted_found);
    assert_int_equal(planted, TEST_ENGINES * WAYS + 1);
    assert_int_equal(planted_found, 4 * planted);
    assert_true(written() > 100);
}

static void test_files(void **state)
{
    size_t files = 0, seen, planted;

    (void)state;
    memset(scan->found, 0, sizeof scan->found);
    seen = scan_folder(folder, &files);
    assert_int_equal(files, 6); /* data, lock, guard, presence, key, and what was planted */
    planted = check_found("files", FILES);
    printf("files: %zu with %zu bytes, %zu secrets found nowhere, %zu planted one found\n", files,
           seen, written(), planted);
    printf("errors and answers looked at: %zu\n", board->checks);
    assert_int_equal(planted, 1);
    assert_true(board->checks > 100);
}

static int start(void **state)
{
    (void)state;
    seed = test_seed("scan_test");
    test_folder(folder);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(board != MAP_FAILED);
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(from_child), 0);
    worker = fork();
    if (worker == 0) {
        signal(SIGSEGV, SIG_DFL); /* else the test's frame would go on in here */
        signal(SIGBUS, SIG_DFL);
        close(to_child[1]);
        close(from_child[0]);
        parent = (pipes){to_child[0], from_child[1]};
        child(folder);
    }
    close(to_child[0]);
    close(from_child[1]);
    scan = calloc(1, sizeof *scan);
    return worker > 0 && scan != NULL ? 0 : -1;
}

/* The child waits at its last stop, or a check has failed and it is not needed any more. */
static int stop(void **state)
{
    (void)state;
    kill(worker, SIGKILL);
    waitpid(worker, NULL, 0);
    test_folder_remove(folder);
    free(scan);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_files),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
