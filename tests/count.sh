#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Adds up what run.sh left:  count.sh <exit code of make> <results folder...>
# Ends in "N passed, N failed"; fails if anything failed, was not built, or nothing ran.
set -u
code=$1
shift
totals=$(find "$@" -name '*.count' -exec cat {} + 2>/dev/null |
    awk '{ passed += $1; failed += $2 } END { print passed + 0, failed + 0 }')
passed=${totals% *} failed=${totals#* }
if [ "$code" -ne 0 ]; then
    echo "the run did not go through: something could not be built or started (make: $code)"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
