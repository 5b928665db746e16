#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make install` into an empty folder: a small program builds from that tree alone through
# pkg-config, shared and static, and runs; only credstore_ symbols are exported; the library is as
# hardened as it says; `make uninstall` leaves no file. Once with the default folders, once with
# others. Then into a prefix, for a user of CMake and one of meson, with the files that README.md
# gives them.
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

dynamic() { readelf -dW "$1"; }
segments() { readelf -lW "$1"; }
hardened() { # hardened <shared library or program>
    ! dynamic "$1" | grep -E 'RPATH|RUNPATH|TEXTREL' || fail "$1 has that"
    dynamic "$1" | grep -q 'FLAGS.*BIND_NOW' || fail "$1 binds late"
    segments "$1" | grep -q GNU_RELRO || fail "$1 has no read-only relocations"
    segments "$1" | grep GNU_STACK | grep -q ' RW ' || fail "$1 has an executable stack"
    ! segments "$1" | grep -E ' RWE |LOAD .* WE ' || fail "$1 has a segment to write and to execute"
    pass
}

pages() { # pages <folder>: every page, and every other name of it leads to it
    for page in man/*.[0-9]; do
        [ "$page" != man/credstore-httpd.1 ] || continue # an example's, which is not installed
        section=man${page##*.}
        cmp "$page" "$1/$section/${page##*/}" || fail "the page $page"
        sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([^ ]*\).*/\1/p' "$page" | while read -r name; do
            [ -e "$1/$section/$name.${page##*.}" ] || echo "$name"
        done >"$work/lost"
        [ ! -s "$work/lost" ] || fail "no page for $(cat "$work/lost")"
    done
    dangling=$(find "$1" -xtype l)
    [ -z "$dangling" ] || fail "links to nowhere: $dangling"
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

    hardened "$libdir/libcredstore.so"
    pages "$dest$1/share/man"
    for file in LICENSE README.md CHANGELOG.md; do
        cmp $file "$dest$1/share/doc/libcredstore/$file" || fail "the document $file"
    done
    for file in libcredstore.so $soname; do
        [ -L "$libdir/$file" ] && [ -e "$libdir/$file" ] || fail "$file is no link to the library"
    done
    (cd include && find . -name '*.h' | sort) >"$work/headers"
    (cd "$dest$1/include" && find . -name '*.h' | sort) | diff "$work/headers" - || fail "the headers"
    odd=$(find "$dest" -type f ! -perm 644 ! -name "libcredstore.so.$VERSION")
    [ -z "$odd" ] || fail "not of mode 644: $odd"
    pass
    readelf -d "$libdir/libcredstore.so" | grep -q "SONAME.*\[$soname\]" || fail "the soname"
    pass
    only_ours libcredstore.so "$($NM -D --defined-only "$libdir/libcredstore.so")"
    only_ours libcredstore.a "$($NM -g --defined-only "$libdir/libcredstore.a" | awk 'NF == 3')"

    make_in_repo uninstall DESTDIR="$dest" PREFIX="$1" LIBDIR="$2"
    left=$(find "$dest" ! -type d)
    [ -z "$left" ] || fail "uninstall leaves $left"
    left=$(find "$dest" -name '*credstore*' ! -path "$dest$1" | grep -v "^$dest$1\$" || true)
    [ -z "$left" ] || fail "uninstall leaves $left"
    pass
    rm -rf "$dest"
}

block() { # block <language>: the first such block of README.md
    awk -v open="\`\`\`$1" '
        $0 == "```" { if (inside) exit; next }
        $0 == open { inside = 1; next }
        inside' README.md
}

user() { # user <cmake, meson or static>: builds README.md's update as that section says, and runs it
    rm -rf "$work/user"
    mkdir "$work/user"
    block c >"$work/user/update.c"
    block cmake >"$work/user/CMakeLists.txt"
    block meson >"$work/user/meson.build"
    cd "$work/user"
    case $1 in
    cmake) cmake -S . -B out -DCMAKE_C_COMPILER="${CC%% *}" && cmake --build out ;;
    meson) meson setup out && ninja -C out ;;
    static) sed -i "s/version:/static: true, version:/" meson.build && meson setup out && ninja -C out ;;
    esac >"$work/log" 2>&1 || { cat "$work/log"; fail "$1 (is it there? make deps)"; }
    printed=$(LD_LIBRARY_PATH=$work/own/lib out/update)
    [ "$printed" = "sk_test_...4242, revision 1" ] || fail "$1: it printed $printed"
    needed=$(readelf -d out/update | grep -c "NEEDED.*\[$soname\]" || true)
    case $1 in static) wanted_so=0 ;; *) wanted_so=1 ;; esac
    [ "$needed" = $wanted_so ] || fail "$1: it needs $soname $needed times"
    cd "$repo"
    pass
}

prefix() { # an install without DESTDIR, and those who build with it
    unset PKG_CONFIG_SYSROOT_DIR
    make_in_repo install DESTDIR= PREFIX="$work/own" LIBDIR="$work/own/lib"
    export PKG_CONFIG_PATH="$work/own/lib/pkgconfig"
    user cmake
    user meson
    user static
    make_in_repo uninstall DESTDIR= PREFIX="$work/own" LIBDIR="$work/own/lib"
    left=$(find "$work/own" ! -type d)
    [ -z "$left" ] || fail "uninstall leaves $left"
    pass
}

soname=libcredstore.so.${VERSION%%.*}
wanted=$(sed -n 's/^ *\(credstore_[a-z0-9_]*\);/\1/p' lib/libcredstore.map | sort)
exec 9>"$CREDSTORE_BUILD/install.lock" # manual_test.py installs too, and the .pc file is one
flock 9
tree /usr/local /usr/local/lib
tree /opt/credstore /opt/credstore/lib64
prefix
make_in_repo all # the .pc file of the build folder as it was

echo "$passed passed, 0 failed"
