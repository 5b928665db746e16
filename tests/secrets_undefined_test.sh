#!/bin/sh
# SPDX-License-Identifier: MIT
#
# secrets_undefined_test under valgrind, which must report nothing; and the same with a fault
# planted, which must fail: memcmp in place of cs_equal_secret in each case that compares, and a
# table indexed by the secret.
set -u
tests=$CREDSTORE_BUILD/tests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

verdict() { # <0 or not> <what>
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

# Without debug information, which valgrind cannot read of every compiler; what is reported keeps
# its function names.
run() { # <program>: leaves its output in $work/log
    objcopy --strip-debug "$tests/$1" "$work/program" || exit 1
    valgrind --quiet --error-exitcode=9 "$work/program" >"$work/log" 2>&1
}

fails() { # <case> <report>
    grep -q "FAILED  \] $1" "$work/log" && grep -q "$2" "$work/log"
    verdict $? "with the fault planted, \"$1\" passes"
}

command -v valgrind >/dev/null 2>&1 || { echo "valgrind is missing: make deps"; exit 1; }

run secrets_undefined_test
verdict $? "a branch or an address depends on a secret"
grep -q 'under valgrind: yes' "$work/log"
verdict $? "the program did not notice valgrind"
[ $failed -eq 0 ] || cat "$work/log"

run helpers/secrets_memcmp
for name in comparing 'verifying.*memory' 'verifying.*lmdb' 'webhooks.*memory' \
    'webhooks.*lmdb'; do
    fails "$name" 'Conditional jump or move depends on uninitialised'
done

run helpers/secrets_indexed
fails checking 'Use of uninitialised value'

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
