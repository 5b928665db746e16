/* SPDX-License-Identifier: MIT
 *
 * Organizations by id or label: one namespace for both.
 */
#ifndef CS_ALIAS_H
#define CS_ALIAS_H

#include "txn.h"

/* Who a name stands for. */
typedef struct cs_alias {
    bool found;
    char id[CS_ID_MAX + 1];
    char label[CS_ID_MAX + 1]; /* of an id's own entry: its label, "" = none */
} cs_alias;

/* The key of a name's entry, and the MAC in it. */
credstore_status cs_alias_key(const credstore *store, const char *name, cs_key *key,
                              uint8_t mac[32], credstore_error *err);

/* E_INTEGRITY. */
credstore_status cs_alias_find(cs_txn *txn, const char *name, cs_alias *out, credstore_error *err);

/* Must an organization's own id be entered, at its first record? A read. E_EXISTS: the name is
 * another's label. */
credstore_status cs_alias_check(cs_txn *txn, const char *id, bool *enter, credstore_error *err);
/* Enters it. A write. */
credstore_status cs_alias_enter(cs_txn *txn, const char *id, credstore_error *err);

/* Sets the organization's label, or removes it (NULL). *changed: there was something to do.
 * E_EXISTS: the name is taken. */
credstore_status cs_alias_set(cs_txn *txn, const char *id, const char *label, bool *changed,
                              credstore_error *err);

#endif
