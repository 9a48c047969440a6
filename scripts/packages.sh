#!/bin/sh
# Installs the Debian packages that building, running and testing need, and prints which were missing.
# usage: scripts/packages.sh [run|build|test]...      (default: all)
set -eu
here=$(dirname "$0")
run="qemu-system-x86 qemu-utils qemu-block-extra nftables iproute2"
build="gcc libc6-dev make python3 python3-venv"
image=$(sed 's/#.*//' "$here/../images/mini/packages" | tr '\n' ' ')
test="postgresql tgt nfs-ganesha nfs-ganesha-vfs rpcbind ceph-mon ceph-mgr ceph-osd ceph-common procps genisoimage openssh-client sshpass busybox-static iputils-ping netcat-openbsd wrk chromium libnss3-tools"
[ $# -gt 0 ] || set -- run build image test
wanted=
for group in "$@"; do eval "wanted=\"\$wanted \$$group\""; done

missing=
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || { echo "packages: all there"; exit 0; }
echo "packages: installing$missing"
[ "$(id -u)" = 0 ] || { echo "packages: run as root, or install them yourself" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null

# qemu-utils from backports breaks the QEMU of the release itself: then both come from backports.
release=
installed=$(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null || true)
case "$installed" in
*bpo12*)
    if ! "$here/source.sh" bookworm-backports >/dev/null; then
        source=$("$here/source.sh" bookworm) || { echo "packages: qemu-utils is from backports, but apt has no source of bookworm" >&2; exit 1; }
        echo "deb $source bookworm-backports main" > /etc/apt/sources.list.d/bookworm-backports.list
        apt-get update -q >/dev/null
    fi
    release="-t bookworm-backports"
    qemu=
    for package in $missing; do case $package in qemu-*) qemu="$qemu $package" ;; esac; done
    # shellcheck disable=SC2086
    [ -z "$qemu" ] || apt-get install -q -y --no-install-recommends $release $qemu >/dev/null
    ;;
esac
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing >/dev/null
echo "packages: installed"
