/* SPDX-License-Identifier: MIT
 *
 * The root slots of an open store: adding, listing, removing.
 */
#include <string.h>

#include "block.h"
#include "commit.h"
#include "error.h"
#include "op.h"
#include "unlock.h"

enum { TRIES = 8 };

static const uint8_t both = CS_RIGHT_READ | CS_RIGHT_REVEAL;

/* ---- adding ---- */

typedef struct adding {
    cs_op op;
    cs_buf value;
    uint16_t slot;
    bool taken; /* another one took the number in between */
} adding;

static bool has_number(const cs_root_slots *slots, uint16_t number)
{
    for (size_t i = 0; i < slots->count; i++)
        if (slots->slot[i].number == number)
            return true;
    return false;
}

/* The lowest number that is free. */
static credstore_status choose(adding *a, credstore_error *err)
{
    cs_root_slots slots = {0};
    cs_txn txn;
    credstore_status status = cs_txn_read(a->op.store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_root_slots_read(&txn, &slots, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK && slots.count == CS_ROOT_SLOTS_MAX)
        status = cs_fail(err, CREDSTORE_E_TOO_LARGE, NULL, "A store has at most 64 root slots");
    a->slot = 0;
    while (status == CREDSTORE_OK && has_number(&slots, a->slot))
        a->slot++;
    cs_root_slots_free(&slots);
    return status;
}

static cs_audit_entry entry_of(const cs_op *op, uint8_t action, uint16_t slot)
{
    cs_audit_entry entry = cs_op_entry(op, action);

    entry.revision = slot;
    return entry;
}

static credstore_status put_slot(cs_txn *txn, void *arg, credstore_error *err)
{
    adding *a = arg;
    const cs_audit_entry entry = entry_of(&a->op, CS_ACTION_ROOT_ADD, a->slot);
    credstore_bytes there;
    cs_key key;
    credstore_status status;

    cs_key_root(&key, a->slot);
    status = cs_txn_get(txn, &key, &there, &a->taken, err);
    if (status != CREDSTORE_OK || a->taken)
        return status;
    status = cs_txn_put(txn, &key, &a->value, err);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

/* The number is part of what is wrapped, so it is chosen first; if it is taken by then, again. */
static credstore_status add(adding *a, const credstore_key_source *source, uint8_t rights,
                            credstore_error *err)
{
    const cs_work work = {put_slot, a, a->op.call.wait_ms};
    credstore *store = a->op.store;

    for (int tries = 0; tries < TRIES; tries++) {
        credstore_status status = choose(a, err);

        cs_buf_free(&a->value);
        if (status == CREDSTORE_OK)
            status = cs_root_wrap(&store->sealer, source, a->slot, rights,
                                  cs_secret_bytes(store->keys.raw), &a->value, err);
        if (status == CREDSTORE_OK)
            status = cs_txn_write(store, &work, err);
        if (status != CREDSTORE_OK || !a->taken)
            return status;
    }
    return cs_fail(err, CREDSTORE_E_CONFLICT, NULL, "Others were faster each time; try again");
}

static credstore_status check_rights(const credstore *store, uint32_t rights, credstore_error *err)
{
    if ((rights & ~(uint32_t)both) != 0 || (rights & CS_RIGHT_READ) == 0)
        return cs_fail(err, CREDSTORE_E_INVALID, "rights", "READ, or READ and REVEAL");
    if ((rights & CS_RIGHT_REVEAL) != 0 && !store->keys.can_reveal)
        return cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, "rights",
                       "The root key given at open does not open secrets");
    if (store->read_only) /* before the key service is troubled */
        return cs_fail(err, CREDSTORE_E_FORBIDDEN, NULL, "The store was opened read-only");
    return CREDSTORE_OK;
}

credstore_status credstore_root_add(credstore *store, const credstore_call *call,
                                    const credstore_key_source *source, uint32_t rights,
                                    uint32_t *slot, credstore_error *err)
{
    adding a = {0};
    credstore_status status;

    cs_error_clear(err);
    status = cs_op_begin_store(&a.op, store, call, err);
    if (status == CREDSTORE_OK && source == NULL)
        status = cs_fail(err, CREDSTORE_E_INVALID, "source", "The key source is NULL");
    if (status == CREDSTORE_OK)
        status = check_rights(store, rights, err);
    if (status == CREDSTORE_OK)
        status = add(&a, source, (uint8_t)rights, err);
    if (status == CREDSTORE_OK && slot != NULL)
        *slot = a.slot;
    cs_buf_free(&a.value);
    return status;
}

/* ---- listing ---- */

/* One block: the page, a pointer to each slot, the slots. */
static credstore_root_page *show(const credstore *store, const cs_root_slots *slots)
{
    credstore_root_page *page = cs_block_new(
        sizeof *page + slots->count * (sizeof *page->items + sizeof(credstore_root_slot)));
    const credstore_root_slot **items;
    credstore_root_slot *slot;

    if (page == NULL)
        return NULL;
    items = (const credstore_root_slot **)(void *)(page + 1);
    slot = (credstore_root_slot *)(void *)(items + slots->count);
    page->struct_size = sizeof *page;
    page->count = (uint32_t)slots->count;
    page->items = items;
    for (size_t i = 0; i < slots->count; i++) {
        const credstore_bytes value = cs_root_slots_value(slots, i);
        uint8_t method = 0, rights = 0;

        (void)cs_root_head(value, &method, &rights);
        slot[i].struct_size = sizeof *slot;
        slot[i].slot = slots->slot[i].number;
        slot[i].method = method;
        slot[i].rights = rights;
        slot[i].is_own = slots->slot[i].number == store->keys.slot;
        slot[i].status = cs_root_form(value) ? CREDSTORE_OK : CREDSTORE_E_INTEGRITY;
        items[i] = &slot[i];
    }
    return page;
}

credstore_status credstore_root_list(credstore *store, const credstore_call *call,
                                     const credstore_root_page **out, credstore_error *err)
{
    cs_root_slots slots = {0};
    cs_op op;
    cs_txn txn;
    credstore_status status;

    cs_error_clear(err);
    if (out == NULL)
        return cs_fail(err, CREDSTORE_E_INVALID, "out", "An argument is NULL");
    *out = NULL;
    status = cs_op_begin_store(&op, store, call, err);
    if (status == CREDSTORE_OK)
        status = cs_txn_read(store, &txn, err);
    if (status != CREDSTORE_OK)
        return status;
    status = cs_root_slots_read(&txn, &slots, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK) {
        *out = show(store, &slots);
        if (*out == NULL)
            status = cs_fail(err, CREDSTORE_E_NO_MEMORY, NULL, "Out of memory");
    }
    cs_root_slots_free(&slots);
    return status;
}

/* ---- removing ---- */

typedef struct removal {
    cs_op op;
    cs_root_slots slots;
    uint32_t slot;
} removal;

/* What the slots would open without one of them. */
static uint8_t rights_without(const cs_root_slots *slots, uint32_t without, bool *found)
{
    uint8_t rights = 0;

    *found = false;
    for (size_t i = 0; i < slots->count; i++) {
        const credstore_bytes value = cs_root_slots_value(slots, i);
        uint8_t method = 0, one = 0;

        if (slots->slot[i].number == without)
            *found = true;
        else if (cs_root_form(value) && cs_root_head(value, &method, &one))
            rights |= one;
    }
    return rights;
}

static credstore_status delete_slot(cs_txn *txn, void *arg, credstore_error *err)
{
    removal *r = arg;
    const cs_audit_entry entry = entry_of(&r->op, CS_ACTION_ROOT_REMOVE, (uint16_t)r->slot);
    bool found = false;
    uint8_t left;
    cs_key key;
    credstore_status status = cs_root_slots_read(txn, &r->slots, err);

    if (status != CREDSTORE_OK)
        return status;
    left = rights_without(&r->slots, r->slot, &found);
    if (!found)
        return cs_fail(err, CREDSTORE_E_NOT_FOUND, "slot", "There is no such root slot");
    if ((left & both) != both)
        return cs_fail(err, CREDSTORE_E_CONFLICT, "slot",
                       "It is the last root slot with one of its rights");
    cs_key_root(&key, (uint16_t)r->slot);
    status = cs_txn_del(txn, &key, err);
    return status == CREDSTORE_OK ? cs_audit_append(txn, &entry, err) : status;
}

credstore_status credstore_root_remove(credstore *store, const credstore_call *call, uint32_t slot,
                                       credstore_error *err)
{
    removal r = {.slot = slot};
    credstore_status status;

    cs_error_clear(err);
    status = cs_op_begin_store(&r.op, store, call, err);
    if (status == CREDSTORE_OK && slot > UINT16_MAX)
        status = cs_fail(err, CREDSTORE_E_NOT_FOUND, "slot", "There is no such root slot");
    if (status == CREDSTORE_OK && !store->keys.can_reveal)
        status = cs_fail(err, CREDSTORE_E_KEY_UNAVAILABLE, NULL,
                         "A root key with READ alone takes no other's slot away");
    if (status == CREDSTORE_OK) {
        const cs_work work = {delete_slot, &r, r.op.call.wait_ms};

        status = cs_txn_write(store, &work, err);
    }
    cs_root_slots_free(&r.slots);
    return status;
}
