#!/bin/sh
# SPDX-License-Identifier: MIT
#
# README.md taken at its word: its update is examples/readme.c, under 30 lines, and builds and runs
# by the commands given there; its calls, every verb once, are those of examples/life.c and of
# examples/keep.c, which are programs of the manual (manual_test.py runs them); its engine compiles;
# its Python reads the store that the update made.
set -u
passed=0 failed=0
repo=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

verdict() { # verdict <exit code> <what>
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

block() { # block <language> <number>: that fenced block of the page
    awk -v open="\`\`\`$1" -v want="$2" '
        $0 == "```" { if (inside) exit; next }
        $0 == open { inside = ++seen == want; next }
        inside' "$repo/README.md"
}

# The library as if it were installed, for the commands of the page.
mkdir "$work/bin" "$work/pc"
sed -e "s|@PREFIX@|$repo|" -e "s|@LIBDIR@|$CREDSTORE_BUILD|" -e "s|@INCLUDEDIR@|$repo/include|" \
    -e "s|@VERSION@|$VERSION|" pkgconfig/libcredstore.pc.in >"$work/pc/libcredstore.pc"
for tool in "cc $CC" "pkg-config $PKG_CONFIG"; do # by the PATH of now: they may bear these names
    printf '#!/bin/sh\nPATH=%s\nexec %s "$@"\n' "'$PATH'" "${tool#* }" >"$work/bin/${tool%% *}"
done
chmod +x "$work/bin/cc" "$work/bin/pkg-config"
export PATH="$work/bin:$PATH" PKG_CONFIG_PATH="$work/pc" LD_LIBRARY_PATH="$CREDSTORE_BUILD"
cd "$work" || exit 1

block c 1 >update.c
sed '1,/\*\//d' "$repo/examples/readme.c" | diff - update.c
verdict $? "the update in README.md is examples/readme.c"
[ "$(wc -l <update.c)" -lt 30 ] && [ "$(wc -l <update.c)" -gt 10 ]
verdict $? "the update has $(wc -l <update.c) lines"

block sh 1 >run.sh
expected='sk_test_...4242, revision 1'
for run in first second; do
    printed=$(sh run.sh)
    [ "$printed" = "$expected" ] && grep -qF "\`$expected\`" "$repo/README.md"
    verdict $? "the $run run printed: $printed"
done

squeezed() { # without comments and blanks, so that layout is no difference
    awk '{ gsub(/\/\*[^*]*\*\//, ""); print }' "$1" | tr -d ' \n'
}
calls() { # calls <program> <block>
    squeezed "$repo/examples/$1.c" >"$1.text"
    block c "$2" >calls.c
    squeezed calls.c | tr ';' '\n' >"$1.calls"
    [ "$(wc -l <"$1.calls")" -gt 12 ]
    verdict $? "the page has $(wc -l <"$1.calls") calls of examples/$1.c"
    while read -r call; do
        grep -qF "$call" "$1.text"
        verdict $? "$call is not in examples/$1.c"
    done <"$1.calls"
}
calls life 2
calls keep 3

kinds=$(basename -s .c "$repo"/lib/kinds/*.c | paste -sd '|' -)
sed -n 's/^ *credstore_\(.*\);/\1/p' "$repo/lib/libcredstore.map" >exported
{ sed -nE "s/^($kinds)_//p" exported | sort -u | sed "s/^/($kinds)_/"
  grep -E '^(anchor_|audit_|backup|check|erase|keys_|leak_|maintain|offboard|organization_|permit|repair_|restore|root_|statistics|wake)' exported |
      grep -vE "^($kinds)_"; } >verbs
while read -r verb; do
    grep -qE "^credstore_$verb\(" life.calls keep.calls
    verdict $? "the page shows no call of credstore_$verb"
done <verbs

block c 4 >engine.c
[ -s engine.c ] && cc -std=c11 -Wall -Wextra -Werror -I"$repo/include" -c -o engine.o engine.c
verdict $? "the engine compiles"

block sh 2 >cdef.sh
block python 1 >read.py
printed=$(sh cdef.sh && "$PYTHON" read.py)
[ "$printed" = "sk_test_...4242 1" ]
verdict $? "Python printed: $printed"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
