#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The tarball and what is built from it do not depend on where: a git clone in one folder and its
# tarball unpacked in another make the same tarball, libraries and .pc file, byte for byte; from the
# tarball alone all builds, installs and leaves nothing (make distcheck). Works on copies of the files
# that are here, tracked or not, and so in a tarball too.
set -u
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one=$work/one two=$work/a/rather/longer/path/two
mkdir -p "$one" "$two"
unset SOURCE_DATE_EPOCH BUILD PREFIX LIBDIR DESTDIR

verdict() { # verdict <exit code> <what>
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

# git does not ask who owns the files, or where its settings are, or for a name.
git_here() {
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null git -c safe.directory='*' \
        -c user.name=test -c user.email=test -c core.quotePath=off "$@"
}
quiet() { # quiet <command...>: says something only if it fails
    "$@" >"$work/log" 2>&1 || { code=$? && tail -n 30 "$work/log" && return $code; }
}
make_in() { # make_in <folder> <goals...>: alone, whatever make has started this
    folder=$1
    shift
    MAKEFLAGS='' MFLAGS='' quiet "${MAKE:-make}" -s -C "$folder" CC="$CC" "$@"
}
hashes() { # hashes <folder of a build> <what...>
    (cd "$1" && shift && sha256sum "$@")
}

if ! command -v git >/dev/null; then
    echo "FAILED: no git: make deps"
    echo "0 passed, 1 failed"
    exit 1
fi
if [ -e .git ]; then
    git_here ls-files -co --exclude-standard
else
    grep -vx MANIFEST MANIFEST
fi | while read -r file; do [ ! -e "$file" ] || echo "$file"; done >"$work/files"
tar -cf - -T "$work/files" | tar -xf - -C "$one"
[ "$(wc -l <"$work/files")" -gt 200 ]
verdict $? "there are only $(wc -l <"$work/files") files"

cd "$one" || exit 1
{ git_here init -q . && git_here add -A &&
    GIT_COMMITTER_DATE='1700000000 +0000' git_here commit -qm one; } || exit 1
tarball=libcredstore-$VERSION.tar.gz
make_in "$one" dist BUILD=build
verdict $? "make dist in a clone"
tar -xzf "build/$tarball" -C "$two" --strip-components=1 && [ ! -e "$two/.git" ]
verdict $? "the tarball unpacks"
[ -z "$(tar -tvzf "build/$tarball" | awk '$2 != "0/0"')" ] &&
    tar --utc --full-time -tvzf "build/$tarball" | awk '{ print $4, $5 }' | sort -u >"$work/times" &&
    [ "$(cat "$work/times")" = "2023-11-14 22:13:20" ]
verdict $? "the tarball keeps an owner, or times: $(cat "$work/times")"

# Other umask, other locale, other time: the same bytes.
(umask 077 && LC_ALL=C.UTF-8 make_in "$two" dist BUILD=build)
verdict $? "make dist in the tarball"
[ "$(hashes build "$tarball")" = "$(hashes "$two/build" "$tarball")" ]
verdict $? "the tarball of the tarball differs"
SOURCE_DATE_EPOCH=1600000000 make_in "$two" dist BUILD="$work/build"
[ "$(tar --utc --full-time -tvzf "$work/build/$tarball" | awk '{ print $4 }' | sort -u)" = 2020-09-13 ]
verdict $? "SOURCE_DATE_EPOCH is not the tarball's time"

# The clone is built from its own folder into another, the tarball by distcheck in its own.
make_in "$one" all BUILD="$work/build.one"
verdict $? "make in the clone"
make_in "$two" distcheck BUILD="$work/build" DISTCHECK=all
verdict $? "make distcheck"
built="libcredstore.so.$VERSION libcredstore.a libcredstore.pc"
# shellcheck disable=SC2086
hashes "$work/build.one" $built >"$work/hashes.one" &&
    hashes "$work/build/dist/libcredstore-$VERSION/build" $built | diff "$work/hashes.one" -
verdict $? "what is built differs by folder"
readelf -SW "$work/build.one/libcredstore.so" >"$work/sections" && grep -q debug_info "$work/sections"
verdict $? "no debug information to compare"
! grep -qF "$work" "$work/build.one/libcredstore.so" "$work/build.one/libcredstore.a"
verdict $? "the name of a folder is in what was built"

cat "$work/hashes.one"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
