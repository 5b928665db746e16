/* SPDX-License-Identifier: MIT
 *
 * tests/fault/flip_test.c with a crypto provider that does not look at tags: it has to fail.
 */
#define FLIP_BLIND 1
#include "../fault/flip_test.c"
