/* SPDX-License-Identifier: MIT
 *
 * tests/secrets_undefined_test.c with memcmp in place of cs_equal_secret: it has to fail under
 * valgrind. The link wraps what that file wraps: __wrap_cs_equal_secret __wrap_cs_name_mac
 * __wrap_cs_keyring_unseal __wrap_cs_record_decode
 */
#define PLANT_MEMCMP 1
#include "../secrets_undefined_test.c"
