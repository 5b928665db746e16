#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A program that has the library linked in loads it a second time: whichever copy comes second to a
# store is refused, before it touches the lock file.
set -u
build=${CREDSTORE_BUILD:-build}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ ! -r /proc/locks ]; then
    echo "skipped: no /proc/locks, so record locks cannot be seen"
    echo "0 passed, 0 failed"
    exit 0
fi
if "$build/tests/helpers/second_copy" "$build/libcredstore.so" "$folder"; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
