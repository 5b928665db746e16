/* SPDX-License-Identifier: MIT
 *
 * The error model: one table of statuses, and the rule that the first word said about a failure
 * stays.
 */
#include "error.h"

#include <string.h>

#include "credstore/backend.h"
#include "mem.h"

typedef struct status_row {
    const char *name;
    uint32_t http;
} status_row;

/* Indexed by status; the numbers are the contract of credstore.h. */
static const status_row statuses[] = {
    [CREDSTORE_OK] = {"OK", 200},
    [CREDSTORE_E_INVALID] = {"E_INVALID", 400},
    [CREDSTORE_E_TOO_LARGE] = {"E_TOO_LARGE", 413},
    [CREDSTORE_E_UNSUPPORTED] = {"E_UNSUPPORTED", 400},
    [CREDSTORE_E_UNAUTHENTICATED] = {"E_UNAUTHENTICATED", 401},
    [CREDSTORE_E_EXPIRED] = {"E_EXPIRED", 401},
    [CREDSTORE_E_REVOKED] = {"E_REVOKED", 401},
    [CREDSTORE_E_FORBIDDEN] = {"E_FORBIDDEN", 403},
    [CREDSTORE_E_NOT_FOUND] = {"E_NOT_FOUND", 404},
    [CREDSTORE_E_INACTIVE] = {"E_INACTIVE", 409},
    [CREDSTORE_E_EXISTS] = {"E_EXISTS", 409},
    [CREDSTORE_E_CONFLICT] = {"E_CONFLICT", 409},
    [CREDSTORE_E_REVISION] = {"E_REVISION", 412},
    [CREDSTORE_E_IDEMPOTENCY] = {"E_IDEMPOTENCY", 422},
    [CREDSTORE_E_BUSY] = {"E_BUSY", 503},
    [CREDSTORE_E_STORAGE] = {"E_STORAGE", 500},
    [CREDSTORE_E_FULL] = {"E_FULL", 507},
    [CREDSTORE_E_COMMIT_UNKNOWN] = {"E_COMMIT_UNKNOWN", 500},
    [CREDSTORE_E_INTEGRITY] = {"E_INTEGRITY", 500},
    [CREDSTORE_E_ROLLBACK] = {"E_ROLLBACK", 500},
    [CREDSTORE_E_FORMAT] = {"E_FORMAT", 500},
    [CREDSTORE_E_KEY_UNAVAILABLE] = {"E_KEY_UNAVAILABLE", 503},
    [CREDSTORE_E_NO_MEMORY] = {"E_NO_MEMORY", 500},
    [CREDSTORE_E_ENTROPY] = {"E_ENTROPY", 500},
    [CREDSTORE_E_FORKED] = {"E_FORKED", 500},
    [CREDSTORE_E_INTERNAL] = {"E_INTERNAL", 500},
};

enum { RETRY_AFTER_S = 1 };

typedef struct result_row {
    credstore_status status;
    const char *message; /* NULL: the caller's line says more */
} result_row;

static const result_row storage_results[] = {
    [CREDSTORE_STORAGE_OK] = {CREDSTORE_OK, NULL},
    [CREDSTORE_STORAGE_NOT_FOUND] = {CREDSTORE_E_STORAGE,
                                     NULL}, /* of get and del, and no failure */
    [CREDSTORE_STORAGE_CONFLICT] = {CREDSTORE_E_CONFLICT, NULL},
    [CREDSTORE_STORAGE_UNKNOWN] = {CREDSTORE_E_COMMIT_UNKNOWN,
                                   "The engine cannot tell whether the change is durable"},
    [CREDSTORE_STORAGE_BUSY] = {CREDSTORE_E_BUSY, NULL},
    [CREDSTORE_STORAGE_UNAVAILABLE] = {CREDSTORE_E_STORAGE, NULL},
    [CREDSTORE_STORAGE_FULL] = {CREDSTORE_E_FULL, "The disk or the engine's map is full"},
    [CREDSTORE_STORAGE_TOO_LARGE] = {CREDSTORE_E_TOO_LARGE, "The engine takes no such long value"},
    [CREDSTORE_STORAGE_CORRUPT] = {CREDSTORE_E_INTEGRITY, "The engine's structures are damaged"},
    [CREDSTORE_STORAGE_NO_MEMORY] = {CREDSTORE_E_NO_MEMORY, "Out of memory"},
    [CREDSTORE_STORAGE_STOP] = {CREDSTORE_E_STORAGE, NULL}, /* a sink's word, not an engine's */
};

static const credstore_status crypto_statuses[] = {
    [CREDSTORE_CRYPTO_OK] = CREDSTORE_OK,
    [CREDSTORE_CRYPTO_BAD_TAG] = CREDSTORE_E_INTEGRITY,
    [CREDSTORE_CRYPTO_FAILED] = CREDSTORE_E_INTERNAL,
    [CREDSTORE_CRYPTO_NO_MEMORY] = CREDSTORE_E_NO_MEMORY,
    [CREDSTORE_CRYPTO_NO_ENTROPY] = CREDSTORE_E_ENTROPY,
};

static bool known(int32_t status)
{
    return status >= 0 && (size_t)status < sizeof statuses / sizeof *statuses;
}

static void copy_line(char *to, size_t room, const char *from)
{
    size_t i = 0;

    for (; from != NULL && from[i] != '\0' && i + 1 < room; i++)
        to[i] = from[i];
    to[i] = '\0';
}

static credstore_status fill(credstore_error *err, credstore_status status, const char *field,
                             int32_t native, size_t offset, const char *message)
{
    if (err == NULL || err->status != CREDSTORE_OK || status == CREDSTORE_OK)
        return status;
    err->status = (int32_t)status;
    err->native = native;
    err->retry_after_s = status == CREDSTORE_E_BUSY ? RETRY_AFTER_S : 0;
    err->offset = offset > UINT32_MAX ? UINT32_MAX : (uint32_t)offset;
    copy_line(err->field, sizeof err->field, field);
    copy_line(err->message, sizeof err->message, message);
    return status;
}

void cs_error_clear(credstore_error *err)
{
    if (err != NULL)
        memset(err, 0, sizeof *err);
}

credstore_status cs_fail(credstore_error *err, credstore_status status, const char *field,
                         const char *message)
{
    return fill(err, status, field, 0, 0, message);
}

credstore_status cs_fail_native(credstore_error *err, credstore_status status, int32_t native,
                                const char *message)
{
    return fill(err, status, NULL, native, 0, message);
}

credstore_status cs_fail_at(credstore_error *err, credstore_status status, const char *field,
                            size_t offset, const char *message)
{
    return fill(err, status, field, 0, offset, message);
}

credstore_status cs_fail_storage(credstore_error *err, int32_t result, int32_t native,
                                 const char *message)
{
    const size_t count = sizeof storage_results / sizeof *storage_results;
    const result_row unknown = {CREDSTORE_E_STORAGE, NULL};
    const bool in_set = result >= CREDSTORE_STORAGE_OK && (size_t)result < count;
    const result_row row = in_set ? storage_results[result] : unknown;

    return fill(err, row.status, NULL, native, 0, row.message == NULL ? message : row.message);
}

credstore_status cs_fail_crypto(credstore_error *err, int32_t result, const char *message)
{
    const size_t count = sizeof crypto_statuses / sizeof *crypto_statuses;
    const bool in_set = result >= CREDSTORE_CRYPTO_OK && (size_t)result < count;

    return fill(err, in_set ? crypto_statuses[result] : CREDSTORE_E_INTERNAL, NULL, 0, 0, message);
}

bool cs_fail_told(credstore_error *err, credstore_error *why)
{
    if (why->status == CREDSTORE_OK || !known(why->status))
        return false;
    why->field[sizeof why->field - 1] = '\0';
    why->message[sizeof why->message - 1] = '\0';
    if (err != NULL && err->status == CREDSTORE_OK)
        *err = *why;
    return true;
}

uint32_t cs_http_status(credstore_status status)
{
    return known((int32_t)status) ? statuses[status].http : 500;
}

const char *credstore_status_name(int32_t status)
{
    return known(status) ? statuses[status].name : "unknown status";
}

const char *credstore_version(void)
{
    return CREDSTORE_VERSION;
}

void credstore_wipe(void *ptr, size_t len)
{
    if (ptr != NULL)
        cs_wipe(ptr, len);
}
