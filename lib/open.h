/* SPDX-License-Identifier: MIT
 *
 * The options of those who open a store.
 */
#ifndef CS_OPEN_H
#define CS_OPEN_H

#include "store.h"

/* Copies the caller's, of any size that the struct ever had. */
credstore_status cs_options_take(credstore_options *out, const credstore_options *options,
                                 credstore_error *err);

/* Closes a store, and leaves backends that the host brought open. */
void cs_store_close_keeping(credstore *store);

#endif
