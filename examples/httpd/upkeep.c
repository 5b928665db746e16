/* SPDX-License-Identifier: MIT
 *
 * What is done for the store now and then.
 */
#include "upkeep.h"

#include <string.h>

#include "service.h"

enum { MAINTAIN_MS = 100, PRUNE_BATCHES = 32 }; /* the main thread has more to do */

void upkeep_begin(upkeep *u, credstore *store, unsigned maintain, unsigned audit)
{
    memset(u, 0, sizeof *u);
    u->store = store;
    u->maintain = u->until_maintain = maintain;
    u->audit = u->until_prune = audit;
}

static void run_maintenance(upkeep *u)
{
    credstore_error err;
    uint32_t more = 0;

    if (credstore_maintain(u->store, MAINTAIN_MS, &more, &err) != CREDSTORE_OK)
        service_failed("maintenance", &err);
    u->until_maintain = more != 0 ? UPKEEP_SECOND : u->maintain;
}

/* What the audit held the last time goes, and today's place is noted for the next. */
static void prune(upkeep *u)
{
    const credstore_actor host = {
        .struct_size = sizeof host, .type = CREDSTORE_ACTOR_SYSTEM, .id = "httpd"};
    const credstore_call call = {.struct_size = sizeof call, .actor = &host};
    credstore_status status = CREDSTORE_OK;
    credstore_error err;
    uint32_t more = u->old.struct_size != 0;

    for (int i = 0; i < PRUNE_BATCHES && status == CREDSTORE_OK && more != 0; i++)
        status = credstore_audit_prune(u->store, &call, &u->old, &more, &err);
    if (status == CREDSTORE_OK && more != 0) {
        u->until_prune = 1; /* the rest at the next tick */
        return;
    }
    if (status == CREDSTORE_OK)
        status = credstore_anchor_take(u->store, &call, &u->old, &err);
    if (status != CREDSTORE_OK)
        service_failed("pruning", &err);
    u->until_prune = u->audit;
}

void upkeep_tick(upkeep *u)
{
    if (--u->until_maintain == 0)
        run_maintenance(u);
    if (u->audit > 0 && --u->until_prune == 0)
        prune(u);
}
