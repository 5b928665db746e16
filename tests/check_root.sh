#!/bin/sh
# SPDX-License-Identifier: MIT
#
# check_root.sh <tarball> <folder> <packages...>: from an empty Debian with those packages alone, the
# tarball builds and installs; programs are built against it by pkg-config, shared and static, by
# CMake and by meson, as README.md says; uninstall leaves nothing. As root, with debootstrap and the
# network. MIRROR and SUITE may be given. CREDSTORE_ROOT_GOALS (say, "deps check") are made there too.
set -eu
tarball=$1 root=$2
shift 2
suite=${SUITE:-bookworm} mirror=${MIRROR:-http://deb.debian.org/debian}

[ "$(id -u)" -eq 0 ] || { echo "check-root: this needs root"; exit 1; }
for tool in debootstrap unshare chroot; do
    command -v $tool >/dev/null || { echo "check-root: no $tool: apt-get install debootstrap"; exit 1; }
done
trap 'rm -rf --one-file-system "$root"' EXIT
rm -rf --one-file-system "$root"
mkdir -p "$root"
echo "check-root: $suite from $mirror"
debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log"; exit 1; }
mkdir "$root/src" "$root/user"
tar -xzf "$tarball" -C "$root/src" --strip-components=1

cat >"$root/inside.sh" <<'END_OF_INSIDE'
set -eu
install() { apt-get -q install -y --no-install-recommends "$@" >/log 2>&1 || { cat /log; exit 1; }; }
block() { # block <language>: the first such block of README.md
    awk -v open="\`\`\`$1" '$0 == "```" { if (inside) exit; next } $0 == open { inside = 1; next } inside' \
        /src/README.md
}
prints() { # prints <what> <command...>
    what=$1
    shift
    printed=$("$@")
    [ "$printed" = "sk_test_...4242, revision 1" ] || { echo "$what: it printed $printed"; exit 1; }
    echo "check-root: $what: $printed"
}
apt-get -q update >/log 2>&1 || { cat /log; exit 1; }
install "$@"

cd /src
make -s
find / -xdev -path /src -prune -o ! -type d -print | sort >/before
make -s install
ldconfig
cd /user
block c >update.c
block sh >build.sh
prints "pkg-config, shared" sh build.sh
ldd update | grep -q '/usr/local/lib/libcredstore.so.0'
libs=$(pkg-config --static --libs libcredstore | sed 's/-lcredstore/-l:libcredstore.a/')
# shellcheck disable=SC2046,SC2086
cc -o update update.c $(pkg-config --cflags libcredstore) $libs
! ldd update | grep libcredstore
prints "pkg-config, static" ./update

install cmake meson
block cmake >CMakeLists.txt
block meson >meson.build
cmake -S . -B by-cmake >/log && cmake --build by-cmake >>/log || { cat /log; exit 1; }
prints CMake by-cmake/update
meson setup by-meson >/log && ninja -C by-meson >>/log || { cat /log; exit 1; }
prints meson by-meson/update

cd /src
make -s uninstall
ldconfig
find / -xdev -path /src -prune -o ! -type d -path '*credstore*' ! -path '/user/*' -print >/left
grep -vxF -f /before /left && { echo "uninstall leaves that"; exit 1; }
echo "check-root: uninstall left nothing"
[ -z "$GOALS" ] || make -j2 $GOALS
END_OF_INSIDE

# A mount namespace: what is mounted goes with the last process.
unshare -m --propagation private sh -c 'root=$1 && shift &&
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
    mount -t tmpfs tmpfs "$root/tmp" && exec chroot "$root" /usr/bin/env -i \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive \
    GOALS="'"${CREDSTORE_ROOT_GOALS:-}"'" sh /inside.sh "$@"' sh "$root" "$@"
echo "check-root: passed"
