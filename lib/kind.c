/* SPDX-License-Identifier: MIT
 *
 * Finding a kind and its fields.
 */
#include "kind.h"

const cs_kind *cs_kind_find(uint32_t id)
{
    for (size_t i = 0; i < cs_kind_count; i++)
        if (cs_kinds[i]->id == id)
            return cs_kinds[i];
    return NULL;
}

const cs_kind *cs_kind_of_actor(uint32_t actor_type)
{
    for (size_t i = 0; i < cs_kind_count && actor_type != 0; i++)
        if (cs_kinds[i]->actor_type == actor_type)
            return cs_kinds[i];
    return NULL;
}

size_t cs_field_index(const cs_kind *kind, uint16_t id)
{
    size_t i = 0;

    while (i < kind->field_count && kind->fields[i].id != id)
        i++;
    return i;
}
