#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The public headers: each alone, in each language version that users have; no padding in any public
# struct; and, preprocessed, taken unchanged by cffi.
set -u
passed=0 failed=0
out=$CREDSTORE_BUILD/headers
mkdir -p "$out"
strict="-Wall -Wextra -Wpedantic -Werror -Iinclude"

verdict() { # verdict <exit code> <what>
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

compile() { # compile <header> <compiler and flags...>: what $out/source.c holds
    header=$1
    shift
    # shellcheck disable=SC2086
    "$@" $strict -c -o "$out/object.o" "$out/source.c" >"$out/log" 2>&1
    code=$?
    [ $code -eq 0 ] || cat "$out/log"
    verdict $code "$header: $*"
}

structs() { # the complete structs that a header defines
    sed -n 's/^typedef struct \(credstore_[a-z_0-9]*\) {.*/\1/p' "include/$1"
}

layouts() { # a source in which every struct's layout is needed
    echo "#include <$1>"
    for name in $(structs "$1"); do
        echo "extern char size_of_$name[sizeof($name)];"
        echo "char size_of_$name[sizeof($name)];"
    done
}

headers=$(cd include && echo credstore.h credstore/*.h)
for header in $headers; do
    printf '#include <%s>\nint not_empty;\n' "$header" >"$out/source.c"
    for std in c99 c11 c17 c2x; do
        for cc in "$CC" "$CLANG"; do
            compile "$header" $cc -x c -std=$std
        done
    done
    for std in c++17 c++20; do
        for cxx in $CXX_CHECKS; do
            compile "$header" $cxx -x c++ -std=$std
        done
    done
    layouts "$header" >"$out/source.c"
    for cc in "$CC" "$CLANG"; do
        compile "$header" $cc -x c -std=c11 -Wpadded
    done
    [ -n "$(structs "$header")" ]
    verdict $? "$header: no struct found to look at"
done

for header in credstore.h credstore/backend.h; do
    $CC -E -P -nostdinc -isystem tests/headers/empty -DCREDSTORE_API= "include/$header" \
        >"$out/preprocessed.h" &&
        "$PYTHON" tests/headers/cdef.py "$out/preprocessed.h" "$CREDSTORE_BUILD/libcredstore.so" \
            "$VERSION"
    verdict $? "$header: cffi"
done

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
