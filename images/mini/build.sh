#!/bin/sh
# usage: build.sh OUT
# Makes OUT/mini.qcow2 (a disk that boots by BIOS) and OUT/vmlinuz, OUT/initrd (the same guest for direct kernel boot) from
# Debian 12 packages. The kernel package is downloaded, not installed (KERNEL_DEB=FILE skips that). Installs nothing and needs
# no root. Same inputs, same bytes; when OUT was already made from these inputs, nothing is done.
#
# Disk: MBR, partition 1 FAT16 with syslinux, kernel and initramfs (uncompressed: the guest would inflate it more slowly
# than QEMU does a compressed qcow2), partition 2 ext4 "mini-data", which rootfs/init lays over the initramfs.
set -eu
[ $# -eq 1 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"; OUT=$(cd "$1" && pwd)
. "$HERE/../lib.sh"
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=1700000000 E2FSPROGS_FAKE_TIME=1700000000 PATH="$PATH:/usr/sbin:/sbin"
umask 022

BOOT_MIB=48
DATA_MIB=192
# tsc, no_timer_check, random.trust_cpu: nothing to calibrate or wait for in a virtual machine.
# nokaslr, mitigations, no5lvl, audit, apparmor: work at start and in every system call that emulation makes dear.
CMDLINE="console=tty0 console=ttyS0,115200 quiet loglevel=3 panic=5 net.ifnames=0 tsc=reliable no_timer_check \
random.trust_cpu=on nokaslr mitigations=off no5lvl audit=0 apparmor=0 cryptomgr.notests init_on_alloc=0 8250.nr_uarts=1 edd=off"
# Loaded before the root file system, in this order.
BOOT_MODULES="virtio_pci virtio_blk overlay virtio_net"
# Loaded before the root file system only when the disk is not virtio-blk.
FALLBACK_MODULES="virtio_scsi ata_piix ahci sd_mod"
# There for devices that come later.
OTHER_MODULES="virtio_rng virtio_console virtio_balloon sr_mod isofs vfat nls_ascii nls_cp437 nls_utf8 button evdev 8021q e1000 pvpanic_mmio"

need_packages "$HERE/packages"

kernel_package() { apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }

fingerprint() {
  {
    find "$HERE" "$HERE/../lib.sh" -type f | sort | xargs cat
    package_versions "$HERE/packages"
    if [ -n "${KERNEL_DEB:-}" ]; then sha256sum < "$KERNEL_DEB"; else kernel_package; fi
  } | sha256sum
}

fetch_kernel() {
  if [ -n "${KERNEL_DEB:-}" ]; then cp "$KERNEL_DEB" "$WORK/kernel.deb"; return; fi
  package=$(kernel_package)
  [ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64; run: apt-get update" >&2; exit 3; }
  step "kernel $package"
  # _apt, which downloads when we are root, must be able to write here
  mkdir -m 777 "$WORK/download"
  (cd "$WORK/download" && apt-get -q download "$package" >/dev/null) || { echo "cannot download $package; run: apt-get update" >&2; exit 3; }
  mv "$WORK/download"/*.deb "$WORK/kernel.deb"
}

# modules NAME...: files of the modules and what they depend on, in load order, without repetition.
modules() {
  for name in "$@"; do
    modprobe -d "$WORK/kernel" -S "$KERNEL" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++' | sed "s#^.*/lib/modules/#lib/modules/#"
}

install_modules() {
  depmod -b "$WORK/kernel" "$KERNEL"
  modules $BOOT_MODULES $FALLBACK_MODULES $OTHER_MODULES | while read -r file; do
    mkdir -p "$ROOT/${file%/*}"
    # without debug information and signature: nothing to read, nothing to verify
    strip --strip-debug -o "$ROOT/$file" "$WORK/kernel/$file"
  done
  modules $BOOT_MODULES | sed 's#^lib/modules/##' > "$ROOT/etc/modules-boot"
  modules $FALLBACK_MODULES | sed 's#^lib/modules/##' > "$ROOT/etc/modules-fallback"
  cp "$WORK/kernel/lib/modules/$KERNEL"/modules.builtin* "$WORK/kernel/lib/modules/$KERNEL"/modules.order "$ROOT/lib/modules/$KERNEL/"
  depmod -b "$ROOT" "$KERNEL"
  rm -f "$ROOT/lib/modules/$KERNEL"/modules.*.bin "$ROOT/lib/modules/$KERNEL"/modules.builtin.modinfo
}

# program FILE...: into the guest with the libraries it needs.
program() {
  for file in "$@"; do
    cp "$file" "$ROOT/usr/sbin/"
    ldd "$file" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/lib64[^ ]*\).*/\1/p' | while read -r lib; do
      mkdir -p "$ROOT/${lib%/*}"; [ -e "$ROOT/$lib" ] || cp -L "$lib" "$ROOT/$lib"
    done
  done
}

install_programs() {
  cp "$(command -v busybox)" "$ROOT/bin/busybox"
  for applet in $("$ROOT/bin/busybox" --list); do
    # wget crashes when linked statically; dpkg and rpm mean nothing here
    case $applet in busybox | init | wget | dpkg* | rpm* | mke2fs) continue ;; esac
    ln -s busybox "$ROOT/bin/$applet"
  done
  for name in init getty reboot poweroff halt; do ln -sf ../bin/busybox "$ROOT/sbin/$name"; done
  program /usr/sbin/dropbear /usr/bin/dropbearkey /usr/bin/dbclient /sbin/mke2fs /sbin/resize2fs /sbin/blkid /bin/lsblk
  # where a command without a login shell looks, too
  ln -s ../sbin/dbclient "$ROOT/usr/bin/ssh"; ln -s ../sbin/lsblk "$ROOT/usr/bin/lsblk"
  for type in ext2 ext3 ext4; do ln -s mke2fs "$ROOT/usr/sbin/mkfs.$type"; done
  ln -s ../../bin/mkdosfs "$ROOT/usr/sbin/mkfs.vfat"
  printf '#!/bin/sh\n# mkfs [-t TYPE] [OPTION...] DEVICE\ntype=ext2\n[ "$1" = -t ] && { type=$2; shift 2; }\nexec "mkfs.$type" "$@"\n' > "$ROOT/usr/sbin/mkfs"
  cp /etc/mke2fs.conf "$ROOT/etc/"
  gcc -O2 -s -o "$ROOT/usr/bin/sudo" "$HERE/sudo.c"
  chmod 755 "$ROOT/usr/sbin/mkfs"; chmod 4755 "$ROOT/usr/bin/sudo"
}

install_accounts() {
  printf 'root:x:0:0:root:/root:/bin/sh\ndebian:x:1000:1000:debian:/home/debian:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' > "$ROOT/etc/passwd"
  printf 'root:x:0:\ntty:x:5:\nsudo:x:27:debian\ndebian:x:1000:\nnogroup:x:65534:\n' > "$ROOT/etc/group"
  # a published password, so nothing is gained by a dear hash
  printf 'root:*:19000::::::\ndebian:%s:19000::::::\n' "$(busybox mkpasswd -m sha256 gocubsgo miniimage)" > "$ROOT/etc/shadow"
  chmod 600 "$ROOT/etc/shadow"
  echo /bin/sh > "$ROOT/etc/shells"; echo mini > "$ROOT/etc/hostname"
  printf '127.0.0.1 localhost mini\n::1 localhost\n' > "$ROOT/etc/hosts"
  printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n' > "$ROOT/etc/nsswitch.conf"
  printf 'mini (Debian %s, kernel %s) \\l\n\n' "$(cut -d. -f1 /etc/debian_version)" "$KERNEL" > "$ROOT/etc/issue"
  printf 'export PATH=/usr/sbin:/usr/bin:/sbin:/bin\nPS1="\\u@\\h:\\w\\$ "\n' > "$ROOT/etc/profile"
  printf 'ID=mini\nNAME="Mini"\nPRETTY_NAME="Mini guest image (from Debian 12)"\n' > "$ROOT/etc/os-release"
  : > "$ROOT/etc/resolv.conf"; ln -s /proc/mounts "$ROOT/etc/mtab"
}

make_root() {
  step "root file system"
  for dir in bin sbin usr/bin usr/sbin etc/dropbear proc sys dev run tmp data newroot mnt root/.ssh home/debian/.ssh \
    lib64 "lib/modules/$KERNEL" var/log var/lib/persist var/tmp; do mkdir -p "$ROOT/$dir"; done
  ln -s /run "$ROOT/var/run"
  chmod 1777 "$ROOT/tmp" "$ROOT/var/tmp"; chmod 700 "$ROOT/root" "$ROOT/root/.ssh" "$ROOT/home/debian/.ssh"
  cp -R "$HERE/rootfs/." "$ROOT/"
  chmod 755 "$ROOT/init" "$ROOT"/etc/rc "$ROOT"/etc/late "$ROOT"/etc/nic-up "$ROOT"/etc/udhcpc.script "$ROOT"/etc/hotplug \
    "$ROOT"/etc/metadata "$ROOT"/etc/stop "$ROOT"/etc/acpi/PWRF/00000080
  install_programs; install_modules; install_accounts
  find "$ROOT" -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
}

# cpio in sorted order with numbered owners: everything root's, except the user's home. Two archives one after the other are
# one initramfs to the kernel, so the second one only carries other owners.
make_initrd() {
  pack() { cpio -o -H newc --quiet --reproducible --owner="$1"; }
  (cd "$ROOT" && find . -path ./home/debian -prune -o -print | sort | pack 0:0) > "$OUT/initrd"
  (cd "$ROOT" && find home/debian | sort | pack 1000:1000) >> "$OUT/initrd"
}

make_disk() {
  step "disk"
  disk=$WORK/disk; boot=$WORK/boot; data=$WORK/data
  truncate -s $((1 + BOOT_MIB + DATA_MIB))M "$disk"
  printf 'label: dos\nlabel-id: 0x6d696e69\nstart=2048, size=%d, type=6, bootable\nstart=%d, size=%d, type=83\n' \
    $((BOOT_MIB * 2048)) $(((BOOT_MIB + 1) * 2048)) $((DATA_MIB * 2048)) | sfdisk -q "$disk"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" conv=notrunc bs=440 count=1 status=none
  truncate -s ${BOOT_MIB}M "$boot"
  mkfs.vfat --invariant -F 16 -h 2048 -n MINI "$boot" >/dev/null
  printf 'DEFAULT mini\nPROMPT 0\nTIMEOUT 0\nLABEL mini\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND %s\n' "$CMDLINE" > "$WORK/syslinux.cfg"
  touch -d @$SOURCE_DATE_EPOCH "$WORK/syslinux.cfg" "$OUT/vmlinuz" "$OUT/initrd"
  mcopy -m -i "$boot" "$OUT/vmlinuz" "$OUT/initrd" "$WORK/syslinux.cfg" ::/
  syslinux -i "$boot"
  truncate -s ${DATA_MIB}M "$data"
  mke2fs -q -t ext4 -L mini-data -m 0 -J size=4 -I 256 -U 6d696e69-0000-4000-8000-000000000001 \
    -E hash_seed=6d696e69-0000-4000-8000-000000000002,lazy_itable_init=1,lazy_journal_init=1,nodiscard,resize=8388608,root_owner=0:0 "$data"
  dd if="$boot" of="$disk" conv=notrunc,sparse bs=1M seek=1 status=none
  dd if="$data" of="$disk" conv=notrunc,sparse bs=1M seek=$((BOOT_MIB + 1)) status=none
  qemu-img convert -O qcow2 -c -o compat=1.1 "$disk" "$WORK/mini.qcow2"
  mv "$WORK/mini.qcow2" "$OUT/mini.qcow2"
}

WANT=$(fingerprint)
if [ "$(cat "$OUT/mini.inputs" 2>/dev/null)" = "$WANT" ] && [ -f "$OUT/mini.qcow2" ] && [ -f "$OUT/vmlinuz" ] && [ -f "$OUT/initrd" ]; then
  step "$OUT/mini.qcow2 is up to date"
  exit 0
fi
rm -f "$OUT/mini.inputs"
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
chmod 755 "$WORK"
ROOT=$WORK/root; mkdir "$ROOT"
fetch_kernel
dpkg-deb -x "$WORK/kernel.deb" "$WORK/kernel"
KERNEL=$(ls "$WORK/kernel/lib/modules")
cp "$WORK/kernel/boot/vmlinuz-$KERNEL" "$OUT/vmlinuz"
make_root
make_initrd
echo "$CMDLINE" > "$OUT/cmdline"
make_disk
echo "$WANT" > "$OUT/mini.inputs"
step "made $OUT/mini.qcow2 ($(stat -c %s "$OUT/mini.qcow2") bytes)"
