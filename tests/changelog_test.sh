#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The prose against the headers: CHANGELOG.md names each exported symbol, and no page names one, or
# a type, constant or page, that there is not.
set -u
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

verdict() { # verdict <what>: a failure if $work/found has a line
    if [ -s "$work/found" ]; then
        failed=$((failed + 1))
        echo "FAILED: $1:"
        sed 's/^/  /' "$work/found"
    else
        passed=$((passed + 1))
    fi
}

names='(credstore_[a-z0-9_]*[a-z0-9]|CREDSTORE_[A-Z0-9_]*[A-Z0-9])'
words() { grep -owhE "$names" "$@" | sort -u; }

sed -n 's/^ *\(credstore_[a-z0-9_]*\);/\1/p' lib/libcredstore.map | sort >"$work/exported"
words CHANGELOG.md >"$work/changes"
{ words include/credstore.h include/credstore/*.h; basename -s .3 man/*.3; } | sort -u >"$work/known"

[ "$(wc -l <"$work/exported")" -gt 30 ] || echo "lib/libcredstore.map" >"$work/found"
verdict "no list of exported symbols"
comm -23 "$work/exported" "$work/changes" >"$work/found"
verdict "exported, and not in CHANGELOG.md"
for page in README.md CHANGELOG.md man/*.[0-9]; do
    grep -v '^\.Dt ' "$page" | words | comm -23 - "$work/known" >"$work/found" # a title is in capitals
    verdict "$page names what no header has"
    grep -ohE 'credstore_[a-z0-9_]+\(' "$page" | tr -d '(' | sort -u |
        comm -23 - "$work/exported" >"$work/found"
    verdict "$page calls what is not exported"
done

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
