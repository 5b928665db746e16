/* SPDX-License-Identifier: MIT
 *
 * The contract that every storage engine is held to: include/credstore/backend.h, clause by clause.
 * A new engine adds its row to the table at the end of storage_contract.c.
 */
#ifndef CS_TESTS_STORAGE_CONTRACT_H
#define CS_TESTS_STORAGE_CONTRACT_H

#include <stdbool.h>

#include "credstore/backend.h"

typedef struct contract_engine {
    const char *name;
    const credstore_storage *table;
    /* Makes an empty map. `folder` does not exist yet; its parent does, and goes after the test. */
    credstore_status (*open)(const char *folder, void **ctx, credstore_error *err);
    /* Opens it again after close; NULL if the map does not outlive close. */
    credstore_status (*reopen)(const char *folder, void **ctx, credstore_error *err);
    /* Lets two write transactions run at once and answers CONFLICT to the commit of one. */
    bool optimistic;
} contract_engine;

/* Runs every clause, each on an empty map of its own. Returns the number of failures. */
int storage_contract_run(const contract_engine *engine);

#endif
