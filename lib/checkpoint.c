/* SPDX-License-Identifier: MIT
 *
 * Checkpoints taken, and a store held against one.
 */
#include "checkpoint.h"

#include <string.h>

#include "error.h"
#include "audit.h"
#include "sealed.h"
#include "sized.h"

static const uint16_t starts[] = {
    offsetof(credstore_checkpoint, reserved), offsetof(credstore_checkpoint, generation),
    offsetof(credstore_checkpoint, seq),      offsetof(credstore_checkpoint, chain),
    offsetof(credstore_checkpoint, epoch),
};

credstore_status cs_checkpoint_take(credstore_checkpoint *out, const credstore_checkpoint *from,
                                    const char *name, credstore_error *err)
{
    return cs_struct_take(out, sizeof *out, from, starts, sizeof starts / sizeof *starts, name,
                          err);
}

void cs_checkpoint_fill(const credstore *store, const cs_head *head, credstore_checkpoint *out)
{
    memset(out, 0, sizeof *out);
    out->struct_size = sizeof *out;
    out->generation = head->generation;
    out->seq = head->last_seq;
    memcpy(out->chain, head->chain, sizeof out->chain);
    out->epoch = store->epoch;
}

credstore_status cs_checkpoint_now(credstore *store, credstore_checkpoint *out,
                                   credstore_error *err)
{
    cs_head head;
    cs_txn txn;
    credstore_status status = cs_txn_read(store, &txn, err);

    if (status != CREDSTORE_OK)
        return status;
    status = cs_head_load(&txn, &head, err);
    cs_txn_end(&txn);
    if (status == CREDSTORE_OK)
        cs_checkpoint_fill(store, &head, out);
    return status;
}

static credstore_status rolled_back(credstore_error *err, const char *message)
{
    return cs_fail(err, CREDSTORE_E_ROLLBACK, "anchor", message);
}

/* The chain value after entry `seq`, which the next one carries. *known = false: it is pruned. */
static credstore_status chain_after(cs_txn *txn, const cs_head *head, uint64_t seq,
                                    uint8_t out[CS_CHAIN_LEN], bool *known, credstore_error *err)
{
    cs_buf plain = {0};
    cs_anchor gone;
    credstore_status status = cs_anchor_read(txn, &gone, err);

    *known = status == CREDSTORE_OK && seq >= gone.seq;
    if (!*known)
        return status;
    if (seq == head->last_seq) {
        memcpy(out, head->chain, CS_CHAIN_LEN);
        return status;
    }
    if (seq == gone.seq && seq != 0) {
        memcpy(out, gone.chain, CS_CHAIN_LEN);
        return status;
    }
    status = cs_audit_open(txn, seq + 1, &plain, err);
    if (status == CREDSTORE_OK)
        memcpy(out, plain.ptr, CS_CHAIN_LEN);
    cs_buf_free(&plain);
    return status;
}

credstore_status cs_checkpoint_hold(cs_txn *txn, const cs_head *head,
                                    const credstore_checkpoint *anchor, credstore_error *err)
{
    const uint64_t epoch = txn->store->epoch;
    uint8_t chain[CS_CHAIN_LEN];
    bool known = false;
    credstore_status status;

    if (anchor->epoch != 0 && epoch > anchor->epoch)
        return rolled_back(err, "The store was put back from a backup since the anchor was taken: "
                                "take a new anchor of it to accept that");
    if (epoch < anchor->epoch || head->generation < anchor->generation ||
        head->last_seq < anchor->seq)
        return rolled_back(err, "The store is older than the anchor");
    if (head->generation == anchor->generation && head->last_seq != anchor->seq)
        return rolled_back(err, "The store has another history than the anchor");
    status = chain_after(txn, head, anchor->seq, chain, &known, err);
    if (status == CREDSTORE_OK && known && memcmp(chain, anchor->chain, sizeof chain) != 0)
        return rolled_back(err, "The store has another history than the anchor");
    return status;
}
