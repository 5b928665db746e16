/* SPDX-License-Identifier: MIT
 *
 * Reading: get and reveal.
 */
#ifndef CS_READ_H
#define CS_READ_H

#include "load.h"
#include "op.h"

/* Where to put the view once it is there, before anything is final: the door renders here. May
 * fail. */
typedef struct cs_render {
    credstore_status (*run)(void *arg, const void *view, credstore_error *err);
    void *arg;
} cs_render;

/* out is the address of a pointer to the kind's const view, which credstore_free() frees; the
   kinds' typed pointers all lie alike, and are written bytewise. render may be NULL. */
credstore_status cs_get(credstore *store, const cs_kind *kind, const credstore_call *call,
                        const cs_names *names, const cs_render *render, void *out,
                        credstore_error *err);

/* Writes a view's pointer to out, which may be NULL: then the view is freed. */
void cs_hand_over(void *out, const void *view);

/* Loads what the operation asks for. E_NOT_FOUND: absent, or another tenant's. */
credstore_status cs_load_own(const cs_op *op, cs_txn *txn, cs_loaded *loaded, credstore_error *err);
/* Opens a sealed part of the operation's record. */
credstore_status cs_open_part(const cs_op *op, cs_txn *txn, const cs_part *part,
                              credstore_secret **out, credstore_error *err);

credstore_status cs_reveal(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_names *names, uint32_t field, credstore_secret **out,
                           credstore_error *err);

#endif
