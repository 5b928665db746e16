#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs one test and leaves its counts:  run.sh <results folder> <timeout> <name> <command...>
# NOT, if set, is the reason why the test stays out of this run. Answers 0 whatever the test did:
# count.sh judges. A cmocka program counts its cases, and those that it skips are named; a script may
# end in a line "N passed, N failed"; anything else is one case.
set -u
results=$1 timeout=$2 name=$3
shift 3
mkdir -p "$results"
base=$results/$(echo "$name" | tr / .)
label=$(printf '%-8s %s' "$CREDSTORE_VARIANT" "$name")
if [ -n "${NOT:-}" ]; then
    echo "$label: left out: $NOT"
    echo "0 0" >"$base.count"
    exit 0
fi

start=$(date +%s)
timeout -k 10 "$timeout" "$@" >"$base.log" 2>&1
code=$?
counts=$(awk '
    /^\[  PASSED  \] [0-9]+ test/ { passed += $4; seen = 1 }
    /^\[  FAILED  \] [0-9]+ test/ { failed += $4; seen = 1 }
    /^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3; seen = 1 }
    END { if (seen) print passed + 0, failed + 0 }' "$base.log")
if [ -z "$counts" ]; then
    counts="1 0"
    [ $code -eq 0 ] || counts="0 1"
fi
passed=${counts% *} failed=${counts#* }
# A crash, a leak or a timeout after the last case is a failure too.
[ $code -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
[ $code -ne 0 ] || [ "$failed" -eq 0 ] || code=1
echo "$passed $failed" >"$base.count"
if [ $code -eq 0 ]; then
    echo "$label: $passed passed ($(($(date +%s) - start)) s)"
    grep -E '^\[  SKIPPED \] [a-z]|^skipped: ' "$base.log" | sort -u | sed "s|^|$label: |"
else
    note="exit $code"
    [ $code -ne 124 ] || note="no end after $timeout s"
    { echo "$label: $failed FAILED, $passed passed ($note); $base.log:"; tail -n 60 "$base.log"; }
fi
exit 0
