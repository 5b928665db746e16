#!/bin/sh
# SPDX-License-Identifier: MIT
#
# flip_test.c with tag checking switched off must fail: in each table that is sealed some flips, and
# some of the moved values, have to pass unseen. Else it is not the tags that find them.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

verdict() { # <0 or not> <what>
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

CREDSTORE_FLIP_STRIDE=${CREDSTORE_FLIP_STRIDE:-5} "$CREDSTORE_BUILD/tests/helpers/flip_blind" \
    >"$log" 2>/dev/null
code=$?
cat "$log"
[ $code -gt 0 ] && [ $code -lt 126 ]
verdict $? "without tags the test ends with $code: it should fail, and not crash"

for table in META_SEALED ROOT_RAW ROOT_PASSPHRASE KEYRING_BODY KEYRING_SECRET CATALOGUE RECORD HISTORY AUDIT_LAST \
    AUDIT_EARLIER HEAD USAGE TOMBSTONE OWNER TOKEN DIGEST RECEIPT PURGE ALIAS FINGERPRINT \
    ANCHOR ROTATION MOVED; do
    sed -n "s/^$table [a-z]*=\([0-9]*\) detected=\([0-9]*\)$/\1 \2/p" "$log" | {
        read -r flips detected && [ "$detected" -lt "$flips" ]
    }
    verdict $? "$table: all is found without tags, or the table is not there"
done
# What is not sealed is found all the same: the program does run.
sed -n 's/^META_PLAIN flips=\([0-9]*\) detected=\([0-9]*\)$/\1 \2/p' "$log" | {
    read -r flips detected && [ "$detected" -eq "$flips" ]
}
verdict $? "META_PLAIN: the clear header's flips are no longer found"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
