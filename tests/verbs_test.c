/* SPDX-License-Identifier: MIT
 *
 * Create, get, update and reveal of the four kinds, typed and through the door, on both engines.
 */
#include "kind_contract.h"

int main(void)
{
    return kind_contract_run(test_kinds, test_kind_count);
}
