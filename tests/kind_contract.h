/* SPDX-License-Identifier: MIT
 *
 * What holds for the verbs of every kind: the public header's clauses as a table of tests. A new
 * kind adds its row to a test that runs this table.
 */
#ifndef TESTS_KIND_CONTRACT_H
#define TESTS_KIND_CONTRACT_H

#include "support.h"

/* Runs every clause for each kind on each engine. Returns the number of failures. */
int kind_contract_run(const test_kind *kinds, size_t count);

#endif
