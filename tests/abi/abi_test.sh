#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tests/abi/abi.py rejects what would break programs, and takes what comes at the end. The library is
# a stand-in: every function of the headers with an empty body, so that a plant is a line of a header.
# Plants are tried with the version released and the next one begun, and some with it still open.
set -u
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
release=$(echo "$VERSION" | cut -d. -f1,2)
major=${release%.*} minor=${release#*.}

verdict() { # verdict <exit code> <what>
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
        sed 's/^/  /' "$work/log"
    fi
}

stand_in() { # builds $work/lib.so from the headers and the map in $work
    printf '#include <%s>\n' credstore.h credstore/backend.h >"$work/all.h" &&
        $CC -E -P -nostdinc -isystem tests/headers/empty -I "$work/include" -DCREDSTORE_API=STAND_IN \
            -x c "$work/all.h" | tr '\n' ' ' | tr ';' '\n' |
        sed -nE -e 's/^.*STAND_IN (void [^*].*)/\1 { }/p' -e t \
            -e 's/^.*STAND_IN (.*)/\1 { return 0; }/p' >"$work/bodies.c" &&
        cat "$work/all.h" "$work/bodies.c" >"$work/lib.c" &&
        $CC -std=c11 -g -fPIC -shared -fvisibility=hidden -I "$work/include" -o "$work/lib.so" \
            -Wl,-soname,libcredstore.so.0 -Wl,--version-script="$work/map" "$work/lib.c"
}

fresh() { # fresh <lists>: headers and map as they are, with those lists
    rm -rf "$work/include" "$work/lists"
    cp -r include "$work/include"
    cp lib/libcredstore.map "$work/map"
    cp -r "$1" "$work/lists"
    cp CHANGELOG.md "$work/changes"
    sed -i "s/^\(## \[$release\.[0-9]*\] - \).*/\1unreleased/" "$work/changes"
}
next_release() { # the version is out, and the next has begun, with an empty node
    sed -i "s/^\(## \[$release\.[0-9]*\] - \).*/\12001-02-03/" "$work/changes"
    sed -i "s/^\(#define CREDSTORE_VERSION_MINOR\) .*/\1 $((minor + 1))/" \
        "$work/include/credstore.h"
    new_node="LIBCREDSTORE_$major.$((minor + 1))"
    echo "$new_node { ${1:+global: $1} } LIBCREDSTORE_$release;" >>"$work/map"
}
abi() { # abi <check or accept>
    "$PYTHON" tests/abi/abi.py "$1" --include "$work/include" --library "$work/lib.so" \
        --lists "$work/lists" --changelog "$work/changes" >"$work/log" 2>&1
}

plant() { # plant <what> <file of include/, or map> <sed program>: into what fresh() made
    file=$work/include/$2
    [ "$2" != map ] || file=$work/map
    cp "$file" "$work/before"
    sed -i -E "$3" "$file"
    cmp -s "$file" "$work/before" && : >"$work/log" && verdict 1 "$1: the plant did not take"
    stand_in >"$work/log" 2>&1 || verdict 1 "$1: does not build"
}

rejects() { # rejects <lists, or abidiff too: both> <what> <file> <sed program>
    fresh "$work/base"
    next_release
    plant "$2" "$3" "$4"
    ! abi accept && grep -q 'REFUSED, of' "$work/log" && diff -r "$work/base" "$work/lists" >>"$work/log"
    verdict $? "$2: accepted although it is released"
    [ "$1" != lists ] || return 0
    grep -q 'REFUSED, of .* abidiff against' "$work/log"
    verdict $? "$2: abidiff saw nothing"
}
asks() { # asks <what> <file> <sed program>: no release has it
    fresh "$work/base"
    plant "$1" "$2" "$3"
    ! abi check && grep -q 'make abi-accept$' "$work/log"
    verdict $? "$1: passed, or did not name what accepts it"
    abi accept && abi check && ! grep -q ', 1 changed' "$work/log"
    verdict $? "$1: cannot be accepted before a release"
}

takes() { # takes <what> <file> <sed program> <new symbol or nothing>
    fresh "$work/base"
    [ -z "$4" ] || sed -i "0,/^ *credstore_/s//    $4\n&/" "$work/map"
    plant "$1" "$2" "$3"
    abi check && grep -q 'abi: new: ' "$work/log"
    verdict $? "$1: not taken"
    abi accept && ! grep -q CHANGED "$work/log" && abi check && ! grep -q 'abi: new: ' "$work/log"
    verdict $? "$1: not written down"
    fresh "$work/base"
    next_release "$4"
    plant "$1" "$2" "$3"
    abi accept && abi check && ! grep -q 'abi: new: ' "$work/log" &&
        sed '/^$/,$!d' "$work/base/layout.txt" >"$work/old" &&
        sed "/^\[$major.$((minor + 1))\]/,\$d" "$work/lists/layout.txt" | sed '/^$/,$!d' |
        sed '$d' | diff "$work/old" - >>"$work/log" &&
        [ -e "$work/lists/libcredstore-$major.$((minor + 1)).abi" ]
    verdict $? "$1: the section of the release was touched, or the new one is not there"
}

# The stand-in is what the lists of the repository say; new lines may be waiting for `make abi-accept`.
fresh tests/abi
stand_in >"$work/log" 2>&1 && abi check
verdict $? "the headers as they are"
abi accept && abi check && ! grep -q 'abi: new: ' "$work/log"
verdict $? "the headers as they are, accepted"
cp -r "$work/lists" "$work/base"

rejects both 'reordered members' credstore.h \
    's/storage_ctx;/a_ctx;/; s/\*crypto_ctx;/*storage_ctx;/; s/a_ctx;/crypto_ctx;/'
rejects both 'a changed parameter' credstore/stripe.h \
    '/_stripe_history\(/,/;/s/uint32_t limit/uint64_t limit/'
rejects both 'a changed answer' credstore.h 's/int (credstore_permit\()/int64_t \1/'
rejects lists 'a const that went' credstore.h 's/(credstore_free\()const void/\1void/'
rejects both 'a renumbered status' credstore.h 's/(E_ENTROPY =) 23/\1 33/'
rejects lists 'a renumbered constant without a type' credstore.h 's/(CREDSTORE_CLEAR =) 2/\1 3/'
rejects lists 'a changed macro' credstore.h 's/(MUST_BE_NEW \(UINT64_MAX -) 1/\1 2/'
rejects both 'a removed symbol' map '/credstore_wake;/d'
rejects lists 'a symbol in another node' map \
    '/credstore_wake;/d; s/^LIBCREDSTORE_[0-9.]* \{$/LIBCREDSTORE_0.0 { global: credstore_wake; };\n&/'
rejects both 'a member of another type' credstore.h 's/int64_t (wait_ms; .* for the writer)/uint64_t \1/'
rejects both 'a removed last member' credstore.h '/^typedef struct credstore_slice/,/^}/s/size_t len;//'
rejects lists 'a grown struct of one size' credstore.h 's/^\} credstore_slice;/    size_t more;\n&/'
rejects lists 'a grown struct that the library fills' credstore.h \
    's/^\} credstore_checkpoint;/    uint64_t more;\n&/'
rejects both 'a member in the middle' credstore.h \
    's/^( *)const char \*request_id; /\1const char *middle;\n&/'

asks 'reordered members, open' credstore.h \
    's/storage_ctx;/a_ctx;/; s/\*crypto_ctx;/*storage_ctx;/; s/a_ctx;/crypto_ctx;/'
asks 'a renumbered status, open' credstore.h 's/(E_ENTROPY =) 23/\1 33/'
asks 'a removed symbol, open' map '/credstore_wake;/d'

takes 'a new last member' credstore.h 's/^\} credstore_options;/    uint64_t more;\n&/' ''
takes 'a new status' credstore.h 's/(E_INTERNAL = [0-9]+)/\1, CREDSTORE_E_MORE = 99/' ''
takes 'a new symbol' credstore.h 's/^(CREDSTORE_API )(void credstore_wake)/\1int credstore_more(int);\n&/' \
    'credstore_more;'

# A release is closed: what is new waits for the next one, and goes into its node.
fresh "$work/base"
sed -i "s/^\(## \[$release\.[0-9]*\] - \).*/\12001-02-03/" "$work/changes"
plant 'new and released' credstore.h 's/(E_INTERNAL = [0-9]+)/\1, CREDSTORE_E_MORE = 99/'
! abi accept && grep -q 'needs a next version' "$work/log"
verdict $? "a released version took something new"
fresh "$work/base"
sed -i "0,/^ *credstore_/s//    credstore_more;\n&/" "$work/map"
next_release
plant 'a late symbol' credstore.h \
    's/^(CREDSTORE_API )(void credstore_wake)/\1int credstore_more(int);\n&/'
! abi accept && grep -q "belongs to $new_node" "$work/log"
verdict $? "a new symbol was taken into an old node"

# Without debug information there is nothing to compare, and that is said.
fresh "$work/base"
stand_in >"$work/log" 2>&1 && objcopy --strip-debug "$work/lib.so" && ! abi check &&
    grep -q 'no debug information' "$work/log"
verdict $? "a library without debug information passed"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
