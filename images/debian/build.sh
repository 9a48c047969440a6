#!/bin/sh
# usage: build.sh OUT   (as root)
# Makes OUT/debian-12.qcow2: Debian 12 with its cloud kernel, cloud-init, OpenSSH and the QEMU guest agent; boots by BIOS, console on
# ttyS0 and on the screen. Installs nothing on this machine. Packages come from where this machine's own do; MIRROR=URL and
# SECURITY=URL choose others. OUT is left alone when it was made by the same recipe less than MAX_AGE_DAYS ago (30): packages
# move on, so an image of last year is not the same image.
#
# The bootloader (extlinux) reads /vmlinuz and /initrd.img, links that Debian's kernel packages keep up to date.
set -eu
[ $# -eq 1 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"; OUT=$(cd "$1" && pwd)
. "$HERE/../lib.sh"
# The machine's own mirror, without the options that hold only here.
mirror() { found=$("$HERE/../../scripts/source.sh" "$1") && echo "${found##* }"; }
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
MIRROR=${MIRROR:-$(mirror bookworm)} || { echo "apt has no source of bookworm; name one: MIRROR=URL" >&2; exit 3; }
SECURITY=${SECURITY:-$(mirror bookworm-security || true)}
SIZE_MIB=1900
PACKAGES="linux-image-cloud-amd64 systemd-sysv systemd-resolved dbus udev openssh-server sudo cloud-init cloud-guest-utils
qemu-guest-agent extlinux ca-certificates iproute2 iputils-ping netbase less procps e2fsprogs dosfstools kmod gdisk"

need_packages "$HERE/packages"
[ "$(id -u)" = 0 ] || { echo "debootstrap and mount need root" >&2; exit 4; }

WANT=$(cat "$0" "$HERE/packages" "$HERE/../lib.sh" | sha256sum)
if [ "$(cat "$OUT/debian-12.inputs" 2>/dev/null)" = "$WANT" ] &&
  [ -n "$(find "$OUT/debian-12.qcow2" -mtime "-${MAX_AGE_DAYS:-30}" 2>/dev/null)" ]; then
  step "$OUT/debian-12.qcow2 is up to date"
  exit 0
fi
rm -f "$OUT/debian-12.inputs"

WORK=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
ROOT=$WORK/root
clean() {
  for fs in dev proc sys ""; do mountpoint -q "$ROOT/$fs" && umount -l "$ROOT/$fs"; done
  # a mount that could not be undone is not followed
  rm -rf --one-file-system "$WORK"
}
LOG=$WORK/log
: > "$LOG"
failed() { code=$?; [ $code = 0 ] || tail -n 20 "$LOG" >&2; clean; exit $code; }
trap failed EXIT
trap 'exit 130' INT TERM

make_disk() {
  DISK=$WORK/disk
  truncate -s ${SIZE_MIB}M "$DISK"
  printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$DISK"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$DISK" conv=notrunc bs=440 count=1 status=none
  # extlinux 6 does not read 64 bit block numbers or checksummed metadata
  mke2fs -q -t ext4 -L root -O ^64bit,^metadata_csum -m 1 -E offset=1048576,nodiscard "$DISK" $(((SIZE_MIB - 1) * 1024))k
  mkdir "$ROOT"
  mount -o loop,offset=1048576 "$DISK" "$ROOT"
}

configure() {
  cat > "$ROOT/etc/apt/sources.list" <<LIST
deb $MIRROR bookworm main
deb $MIRROR bookworm-updates main
${SECURITY:+deb $SECURITY bookworm-security main}
LIST
  echo 'LABEL=root / ext4 errors=remount-ro 0 1' > "$ROOT/etc/fstab"
  echo debian > "$ROOT/etc/hostname"
  # every interface, also one that comes later, by the system's own network service
  mkdir -p "$ROOT/etc/systemd/network"
  cat > "$ROOT/etc/systemd/network/80-dhcp.network" <<NET
[Match]
Name=en* eth*

[Network]
DHCP=yes
LLDP=no

[DHCPv4]
UseMTU=yes
NET
  mkdir -p "$ROOT/etc/cloud/cloud.cfg.d"
  cat > "$ROOT/etc/cloud/cloud.cfg.d/90-unkai.cfg" <<CLOUD
datasource_list: [ ConfigDrive, OpenStack, None ]
network: { config: disabled }
manage_etc_hosts: true
# no locales are installed: every program speaks C.UTF-8
locale: false
CLOUD
  mkdir -p "$ROOT/boot/extlinux"
  cat > "$ROOT/boot/extlinux/extlinux.conf" <<BOOT
DEFAULT debian
PROMPT 0
TIMEOUT 0
LABEL debian
  LINUX /vmlinuz
  INITRD /initrd.img
  APPEND root=LABEL=root ro console=tty0 console=ttyS0,115200 net.ifnames=0 quiet
BOOT
}

finish_inside() {
  for fs in dev proc sys; do mount --bind "/$fs" "$ROOT/$fs"; done
  chroot "$ROOT" apt-get -qq update
  chroot "$ROOT" apt-get -qq -y dist-upgrade >> "$LOG" 2>&1
  # nothing is started inside while the image is made
  printf '#!/bin/sh\nexit 101\n' > "$ROOT/usr/sbin/policy-rc.d"; chmod 755 "$ROOT/usr/sbin/policy-rc.d"
  mkdir -p "$ROOT/etc/initramfs-tools/conf.d"
  # virtio only: a small initramfs starts faster
  printf 'MODULES=list\n' > "$ROOT/etc/initramfs-tools/conf.d/unkai"
  printf 'virtio_pci\nvirtio_blk\next4\n' > "$ROOT/etc/initramfs-tools/modules"
  chroot "$ROOT" apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold install $PACKAGES >> "$LOG" 2>&1
  chroot "$ROOT" systemctl -q enable systemd-networkd systemd-resolved
  chroot "$ROOT" apt-get -qq clean
  chroot "$ROOT" extlinux --install /boot/extlinux >> "$LOG" 2>&1
  # every server makes its own
  rm -f "$ROOT"/usr/sbin/policy-rc.d "$ROOT"/etc/ssh/ssh_host_* "$ROOT"/var/lib/dbus/machine-id
  rm -rf "$ROOT"/var/lib/apt/lists/* "$ROOT"/var/log/*.log "$ROOT"/var/log/apt
  : > "$ROOT/etc/machine-id"
  ln -sf ../run/systemd/resolve/stub-resolv.conf "$ROOT/etc/resolv.conf"
  for fs in sys proc dev; do umount "$ROOT/$fs"; done
}

step "packages"
make_disk
debootstrap --variant=minbase bookworm "$ROOT" "$MIRROR" > "$LOG" 2>&1
step "more packages"
configure
finish_inside
umount "$ROOT"
step "disk"
qemu-img convert -O qcow2 -c "$DISK" "$WORK/image"
mv "$WORK/image" "$OUT/debian-12.qcow2"
echo "$WANT" > "$OUT/debian-12.inputs"
step "made $OUT/debian-12.qcow2 ($(stat -c %s "$OUT/debian-12.qcow2") bytes)"
