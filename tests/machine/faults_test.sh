#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Does the state machine see what it is there to see? Each fault is one line changed in a copy of one
# file of the library; the driver is linked with it, and the machine must find a disagreement.
set -u
build=${CREDSTORE_BUILD:-build}
scratch=$build/machine-faults
verbs=${CREDSTORE_FAULT_VERBS:-20000}
seed=${CREDSTORE_SEED:-7}
pkg=${PKG_CONFIG:-pkg-config}
here=tests/machine
passed=0 failed=0
rm -rf "$scratch"
mkdir -p "$scratch"

# run <driver>: the machine's output is in $scratch/log
run() {
    CREDSTORE_MACHINE_DRIVER=$1 CREDSTORE_MACHINE_VERBS=$verbs CREDSTORE_SEED=$seed \
        "${PYTHON:-python3}" $here/machine_test.py >"$scratch/log" 2>&1
}

judge() {
    if [ "$2" = ok ]; then
        passed=$((passed + 1))
        echo "$1: $3"
    else
        failed=$((failed + 1))
        echo "FAILED: $1: $3"
    fi
}

# fault <name> <file of lib/> <sed program>
fault() {
    copy=$scratch/$(basename "$2")
    object=$scratch/fault.o
    sed "$3" "lib/$2" >"$copy"
    if cmp -s "lib/$2" "$copy"; then
        judge "$1" no "the line is not there any more: lib/$2"
        return
    fi
    # shellcheck disable=SC2046
    if ! ${CC:-cc} -std=c11 -D_POSIX_C_SOURCE=200809L -Iinclude -iquote lib -iquote "lib/$(dirname "$2")" \
        $($pkg --cflags libcjson libcrypto lmdb) -O0 -w -c -o "$object" "$copy" ||
        ! ${CC:-cc} -pthread -o "$scratch/driver" "$build/tests/helpers/machine_driver.o" "$object" \
            "$build/internals.a" $($pkg --libs libcjson libcrypto lmdb); then
        judge "$1" no "it does not build"
        return
    fi
    if run "$scratch/driver"; then
        judge "$1" no "not found in $verbs verbs, seed $seed"
    elif grep -q '^DISAGREEMENT' "$scratch/log"; then
        judge "$1" ok "found: $(sed -n 's/^DISAGREEMENT: //p' "$scratch/log" | cut -c1-90)"
    else
        judge "$1" no "the machine failed otherwise: $(tail -n 1 "$scratch/log")"
    fi
}

fault "a grace has no end (token)" verify.c 's/now < until->number/until->number != 0/'
fault "a grace has no end (webhook)" webhook.c 's/txn->now >= previous->until/0/'
fault "grace ignored (token)" issue.c 's/wish->grace_s == 0) {/1) {/'
fault "grace ignored (webhook)" webhook.c 's/previous == NULL || txn->now/1 || txn->now/'
fault "stale cache" verify.c '/^    status = cs_txn_read(store, &txn, err);/{
i\    static uint8_t seen[32];
i\    static credstore_actor kept;
i\    static int answered;
i\    if (answered && memcmp(seen, digest, sizeof seen) == 0) { *out = kept; return CREDSTORE_OK; }
}
/^        cs_txn_end(&txn);/{
a\    if (status == CREDSTORE_OK) { answered = 1; kept = *out; memcpy(seen, digest, sizeof seen); }
}'
fault "audit skipped" update.c 's/return status == CREDSTORE_OK ? put_audit/return status == CREDSTORE_OK \&\& c->action != CS_ACTION_ROLL ? put_audit/'
fault "tenant unchecked" op.c 's/return cs_bytes_equal(record->owner, cs_bytes_of(op->tenant)) &&/return/'
fault "receipts ignored" receipt.c 's/receipt->wanted && back < 2/back < 0/'
fault "a receipt for two days" receipt.c 's/>= CS_DAY_MS)/>= 2 * CS_DAY_MS)/'
fault "expiry ignored" verify.c 's/if (cs_record_expired(kind, &loaded->record, now))/if (0)/'
fault "a key that ended lives again when the clock goes back" record.c 's/(over->present && over->number != 0) ||//'
fault "a clock is believed at once" clock.c 's/if (now - c.believed < CS_DAY_MS)/if (1)/'
fault "tombstone ignored" load.c 's/out->removed = out->found;/out->removed = false;/'
fault "history restores a token" merge.c 's/(field->flags & (CS_INTERNAL | CS_FROM_ORIGIN)) != 0 ||//'
fault "grants unchecked" policy.c 's/if (!number_held(actor, number))/if (0)/'
fault "a roll hands over what the roller lacks" actor.c 's/cs_policy_is_above(&op->actor, op->names_tenant))/1)/'
fault "SUPER without a tenant" policy.c 's/!= 0 && named &&/!= 0 \&\&/'
fault "filter ignored" list.c 's/return w->page.unused_since == 0 ||/return 1 ||/'
fault "the actor's own key unchecked" actor.c 's/^    if (kind == NULL)$/    if (1)/'
fault "expected revision ignored" update.c 's/(!found || revision != expected)/!found/'
fault "switched off, and taken" webhook.c 's/if (active->number == 0)/if (0)/'
fault "a clock that jumps back is believed" store.c 's/largest > clock && !decides/0/'
fault "what a look at the clock saw is forgotten" store.c 's/now != CLOCK_FAILED && (seen/0 \&\& (seen/'
fault "receipts go by any clock" put.c 's/cs_clock_look(clock, txn->now).believed/txn->now/'
fault "a roll that changes nothing leaves no receipt" update.c 's/^        return cs_receipt_put(txn, &c->receipt, &c->op.at, c->settle.fresh.revision, NULL, err);/        return status;/'
fault "a cursor of any list" list.c 's/cs_equal_secret(mac, raw, CURSOR_MAC) &&/1 \&\&/'
fault "the same again is a change" update.c 's/(c->settle.changed | c->settle.ended) == 0;/0;/'

cp "$build/tests/helpers/machine_driver" "$scratch/driver"
verbs=3000
if run "$scratch/driver"; then
    judge "no fault" ok "agrees"
else
    judge "no fault" no "$(grep -m 1 DISAGREEMENT "$scratch/log")"
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
