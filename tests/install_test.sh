#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make install` into an empty folder: a small program builds from that tree alone through
# pkg-config, shared and static, and runs; only credstore_ symbols are exported; `make uninstall`
# leaves no file. Once with the default folders, once with others.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
repo=$PWD
passed=0

fail() {
    echo "FAILED: $*"
    echo "$passed passed, 1 failed"
    exit 1
}
pass() { passed=$((passed + 1)); }

# The sanitizers' and the caller's make flags do not matter here, the folder of the build does.
make_in_repo() { "${MAKE:-make}" -s --no-print-directory BUILD="$CREDSTORE_BUILD" "$@" >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "make $*"; }; }

cat >"$work/app.c" <<'END'
#include <credstore.h>
#include <stdio.h>
int main(void) { return puts(credstore_version()) < 0; }
END

only_ours() { # only_ours <what> <nm output of defined global symbols>
    foreign=$(printf '%s\n' "$2" | awk '$2 != "A" && $3 !~ /^credstore_/ { print $3 }')
    [ -z "$foreign" ] || fail "$1 exports $foreign"
    names=$(printf '%s\n' "$2" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
    [ "$names" = "$wanted" ] || fail "$1 does not export what the map lists:
$(printf '%s\n' "$names" >"$work/names"; printf '%s\n' "$wanted" | diff - "$work/names")"
    pass
}

tree() { # tree <PREFIX> <LIBDIR>: one whole round
    dest=$work/dest
    libdir=$dest$2
    make_in_repo install DESTDIR="$dest" PREFIX="$1" LIBDIR="$2"

    export PKG_CONFIG_SYSROOT_DIR="$dest"
    export PKG_CONFIG_PATH="$libdir/pkgconfig"
    [ "$($PKG_CONFIG --modversion libcredstore)" = "$VERSION" ] || fail "the version in the .pc file"
    pass

    cd "$work" # no file of the repository is in reach
    # shellcheck disable=SC2046
    $CC -Wall -Werror -o shared app.c $($PKG_CONFIG --cflags --libs libcredstore) ||
        fail "the shared build"
    [ "$(LD_LIBRARY_PATH=$libdir ./shared)" = "$VERSION" ] || fail "the shared program"
    readelf -d shared | grep -q "NEEDED.*\[$soname\]" || fail "the shared program needs no $soname"
    pass

    # The static library, its own dependencies dynamic.
    static_libs=$($PKG_CONFIG --static --libs libcredstore | sed 's/-lcredstore/-l:libcredstore.a/')
    # shellcheck disable=SC2046,SC2086
    $CC -Wall -Werror -o static app.c $($PKG_CONFIG --cflags libcredstore) $static_libs ||
        fail "the static build"
    [ "$(./static)" = "$VERSION" ] || fail "the static program"
    ! readelf -d static | grep -q 'NEEDED.*libcredstore' || fail "the static program needs the .so"
    pass
    cd "$repo"

    readelf -d "$libdir/libcredstore.so" | grep -q "SONAME.*\[$soname\]" || fail "the soname"
    pass
    only_ours libcredstore.so "$($NM -D --defined-only "$libdir/libcredstore.so")"
    only_ours libcredstore.a "$($NM -g --defined-only "$libdir/libcredstore.a" | awk 'NF == 3')"

    make_in_repo uninstall DESTDIR="$dest" PREFIX="$1" LIBDIR="$2"
    left=$(find "$dest" ! -type d)
    [ -z "$left" ] || fail "uninstall leaves $left"
    [ ! -d "$dest$1/include/credstore" ] || fail "uninstall leaves the folder of the headers"
    pass
    rm -rf "$dest"
}

soname=libcredstore.so.${VERSION%%.*}
wanted=$(sed -n 's/^ *\(credstore_[a-z0-9_]*\);/\1/p' lib/libcredstore.map | sort)
tree /usr/local /usr/local/lib
tree /opt/credstore /opt/credstore/lib64
make_in_repo all # the .pc file of the build folder as it was

echo "$passed passed, 0 failed"
