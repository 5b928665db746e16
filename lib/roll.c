/* SPDX-License-Identifier: MIT
 *
 * Rolling a stored secret: a change whose patch is that one field.
 */
#include "roll.h"

#include <string.h>

#include "error.h"

/* To those who may ask; others learn nothing of it. */
static credstore_status refuse(credstore *store, const cs_kind *kind, const credstore_call *call,
                               const cs_names *names, const char *argument, credstore_error *err)
{
    cs_op op;
    const credstore_status status = cs_op_begin(&op, store, kind, CS_CHANGE, call, names, err);

    return status != CREDSTORE_OK
               ? status
               : cs_fail(err, CREDSTORE_E_INVALID, argument, "A roll sets one secret of the kind");
}

credstore_status cs_roll_secret(credstore *store, const cs_kind *kind, const credstore_call *call,
                                const cs_names *names, uint32_t field,
                                const credstore_secret_text *fresh, uint32_t grace_s, void *out,
                                credstore_error *err)
{
    const size_t i = field > UINT16_MAX ? kind->field_count : cs_field_index(kind, (uint16_t)field);
    const uint32_t size = kind->patch_size;
    union {
        uint64_t align;
        uint8_t bytes[CS_PATCH_MAX];
    } patch = {0};
    const cs_request request = {.names = names, .patch = patch.bytes, .grace_s = grace_s};

    cs_error_clear(err);
    if (out != NULL)
        cs_hand_over(out, NULL);
    if (i == kind->field_count || kind->fields[i].type != CS_SECRET)
        return refuse(store, kind, call, names, "field", err);
    if (fresh == NULL || fresh->op != CREDSTORE_SET)
        return refuse(store, kind, call, names, "fresh", err);
    memcpy(patch.bytes, &size, sizeof size);
    memcpy(patch.bytes + kind->fields[i].in, fresh, sizeof *fresh);
    return cs_roll(store, kind, call, &request, out, err);
}
