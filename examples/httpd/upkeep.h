/* SPDX-License-Identifier: MIT
 *
 * What is done for the store now and then: its maintenance, and forgetting the audit's old part.
 */
#ifndef HTTPD_UPKEEP_H
#define HTTPD_UPKEEP_H

#include <credstore.h>

enum { UPKEEP_TICK_MS = 250, UPKEEP_SECOND = 1000 / UPKEEP_TICK_MS }; /* ticks */

typedef struct upkeep {
    credstore *store;
    unsigned maintain, audit; /* ticks between; audit: 0 = it is kept */
    unsigned until_maintain, until_prune;
    credstore_checkpoint old; /* goes when a new one has grown as old */
} upkeep;

void upkeep_begin(upkeep *u, credstore *store, unsigned maintain, unsigned audit);
/* Each UPKEEP_TICK_MS. */
void upkeep_tick(upkeep *u);

#endif
