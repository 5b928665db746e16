#!/bin/sh
# SPDX-License-Identifier: MIT
#
# make bench, small: the hot paths allocate nothing and fetch nothing. Its times are not looked at.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
CREDSTORE_BENCH_RECORDS=500 CREDSTORE_BENCH_UPDATES=5 CREDSTORE_BENCH_ROUNDS=1 \
    "$CREDSTORE_BUILD/tests/bench/bench" >"$log" 2>&1
code=$?
cat "$log"
steady=$(grep -c 'a call: 0 allocations, 0 fetches' "$log")
[ $code -eq 0 ] && [ "$steady" -eq 3 ] && echo "3 passed, 0 failed" && exit 0
echo "$steady passed, 1 failed"
exit 1
