/* SPDX-License-Identifier: MIT
 *
 * The default policy. Which kind lets whom is in the kinds' tables; what the words mean is here.
 */
#include "policy.h"

#include <string.h>

#include "error.h"
#include "text.h"

static bool number_held(const credstore_actor *actor, unsigned number)
{
    return (actor->permissions[number / 64] >> (number % 64) & 1) != 0;
}

static bool ended(const char *text)
{
    return memchr(text, '\0', CS_ID_MAX + 1) != NULL;
}

credstore_status cs_policy_actor(const credstore_actor *actor, int64_t now, credstore_error *err)
{
    if (actor == NULL)
        return cs_fail(err, CREDSTORE_E_UNAUTHENTICATED, "actor", "The call has no actor");
    if (actor->type < CREDSTORE_ACTOR_USER || actor->type > CREDSTORE_ACTOR_SYSTEM)
        return cs_fail(err, CREDSTORE_E_INVALID, "actor", "The actor's type is none of the four");
    if ((actor->roles & ~(uint32_t)(CREDSTORE_ROLE_ADMIN | CREDSTORE_ROLE_SUPER)) != 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "actor", "The actor has an unknown role");
    if (actor->reserved != 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "actor",
                       "The actor's reserved member is not zero");
    if (!ended(actor->id) || !cs_visible_ascii(actor->id, strlen(actor->id)))
        return cs_fail(err, CREDSTORE_E_INVALID, "actor",
                       "The actor's id is not 1..255 visible ASCII characters");
    if (!ended(actor->tenant) ||
        (actor->tenant[0] != '\0' && !cs_id_text(actor->tenant, strlen(actor->tenant))))
        return cs_fail(err, CREDSTORE_E_INVALID, "actor",
                       "The actor's tenant is not of [A-Za-z0-9._~-]{1,255}");
    if (actor->expires_at != 0 && actor->expires_at <= now)
        return cs_fail(err, CREDSTORE_E_EXPIRED, "actor", "The actor has expired");
    return CREDSTORE_OK;
}

/* A key has no roles. */
static bool has_role(const credstore_actor *actor, uint32_t role)
{
    return actor->type != CREDSTORE_ACTOR_API_KEY && (actor->roles & role) != 0;
}

bool cs_policy_sees_all(const credstore_actor *actor)
{
    return actor->type == CREDSTORE_ACTOR_SYSTEM || has_role(actor, CREDSTORE_ROLE_SUPER);
}

bool cs_policy_is_above(const credstore_actor *actor, bool named)
{
    return actor->type == CREDSTORE_ACTOR_SYSTEM ||
           (named && has_role(actor, CREDSTORE_ROLE_SUPER));
}

bool cs_policy_administers(const credstore_actor *actor, const char *tenant)
{
    return tenant[0] != '\0' && strcmp(actor->tenant, tenant) == 0 &&
           has_role(actor, CREDSTORE_ROLE_ADMIN);
}

static bool rule_lets(const credstore *store, const credstore_actor *actor, const cs_rule *rule,
                      const char *tenant, bool named)
{
    const bool own = tenant[0] != '\0' && strcmp(actor->tenant, tenant) == 0;
    int number;

    if ((rule->who & CS_USERS_ONLY) != 0 && actor->type != CREDSTORE_ACTOR_USER)
        return false;
    if ((rule->who & CS_MAY_SYSTEM) != 0 && actor->type == CREDSTORE_ACTOR_SYSTEM)
        return true;
    if ((rule->who & (CS_MAY_SUPER | CS_MAY_ADMIN)) != 0 && named &&
        has_role(actor, CREDSTORE_ROLE_SUPER))
        return true;
    if ((rule->who & CS_MAY_ADMIN) != 0 && cs_policy_administers(actor, tenant))
        return true;
    if ((rule->who & CS_MAY_MEMBER) != 0 && own)
        return true;
    if (rule->permission == NULL || !own)
        return false;
    number = cs_catalogue_find(&store->catalogue, rule->permission, strlen(rule->permission));
    return number >= 0 && number_held(actor, (unsigned)number);
}

credstore_status cs_policy_may(const credstore *store, const credstore_actor *actor,
                               const cs_kind *kind, cs_class cls, const char *tenant, bool named,
                               credstore_error *err)
{
    if (rule_lets(store, actor, &kind->rules[cls], tenant, named))
        return CREDSTORE_OK;
    if (cls == CS_READ && rule_lets(store, actor, &kind->rules[CS_CHANGE], tenant, named))
        return CREDSTORE_OK;
    if (!named && has_role(actor, CREDSTORE_ROLE_SUPER))
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, kind->tenant_name,
                       "An administrator of all tenants names the one that is meant");
    return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The actor may not do this");
}

credstore_status cs_policy_grants(const credstore_actor *actor, const uint8_t *before,
                                  const uint8_t *after, const char *field, credstore_error *err)
{
    for (unsigned number = 0; number < CS_CATALOGUE_MAX; number++) {
        if (!cs_bit_get(after, number) || (before != NULL && cs_bit_get(before, number)))
            continue;
        if (!number_held(actor, number))
            return cs_fail(err, CREDSTORE_E_FORBIDDEN, field,
                           "The actor does not hold a permission that he would grant");
    }
    return CREDSTORE_OK;
}

bool cs_policy_holds(const credstore_actor *actor, const cs_catalogue_item *item)
{
    return item->numbered && number_held(actor, item->number);
}

credstore_status credstore_actor_grant(const credstore *store, credstore_actor *actor,
                                       const char *permission, credstore_error *err)
{
    credstore_status status;
    int number;

    cs_error_clear(err);
    status = cs_store_usable(store, err);
    if (status != CREDSTORE_OK)
        return status;
    if (actor == NULL || permission == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, actor == NULL ? "actor" : "permission",
                       "An argument is NULL");
    number = cs_catalogue_find(&store->catalogue, permission, strlen(permission));
    if (number < 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "permission",
                       "The store's catalogue has no such permission");
    actor->permissions[number / 64] |= UINT64_C(1) << (number % 64);
    return CREDSTORE_OK;
}

int credstore_permit(const credstore *store, const credstore_actor *actor, const char *permission)
{
    int number;

    if (actor == NULL || permission == NULL || cs_store_usable(store, NULL) != CREDSTORE_OK)
        return 0;
    if (cs_policy_actor(actor, cs_store_now(store), NULL) != CREDSTORE_OK)
        return 0;
    number = cs_catalogue_find(&store->catalogue, permission, strlen(permission));
    return number >= 0 && number_held(actor, (unsigned)number);
}
