/* SPDX-License-Identifier: MIT
 *
 * Reading: get and reveal.
 */
#ifndef CS_READ_H
#define CS_READ_H

#include "op.h"

/* Where to put the view once it is there, before anything is final: the door renders here. May
 * fail. */
typedef struct cs_render {
    credstore_status (*run)(void *arg, const void *view, credstore_error *err);
    void *arg;
} cs_render;

/* *view is the kind's view, for credstore_free(). render may be NULL. */
credstore_status cs_get(credstore *store, const cs_kind *kind, const credstore_call *call,
                        const cs_names *names, const cs_render *render, const void **view,
                        credstore_error *err);

credstore_status cs_reveal(credstore *store, const cs_kind *kind, const credstore_call *call,
                           const cs_names *names, uint32_t field, credstore_secret **out,
                           credstore_error *err);

#endif
