/* SPDX-License-Identifier: MIT
 *
 * What is done for the store now and then: its maintenance, and forgetting the audit's old part.
 */
#ifndef HTTPD_UPKEEP_H
#define HTTPD_UPKEEP_H

#include <credstore.h>

typedef struct upkeep {
    credstore *store;
    unsigned maintain_s, audit_s; /* audit_s: 0 = the audit is kept */
    unsigned until_maintain, until_prune;
    credstore_checkpoint old; /* goes when a new one has grown as old */
} upkeep;

void upkeep_begin(upkeep *u, credstore *store, unsigned maintain_s, unsigned audit_s);
/* Each second. */
void upkeep_tick(upkeep *u);

#endif
