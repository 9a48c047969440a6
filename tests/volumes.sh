#!/bin/bash
# Block storage by the unmodified client and with real guests: what is written is there again, wherever the volume goes, whatever is killed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"
cloud volumes
export OS_VOLUME_API_VERSION=3.70
volume_is() { [ "$(os volume show "$1" -f value -c status 2>/dev/null)" = "$2" ]; }
wait_volume() { # NAME STATUS
    until_true 120 volume_is "$1" "$2" || { "$UNKAI" why "$(os volume show "$1" -f value -c id)" --state "$state"; die "volume $1 is $(os volume show "$1" -f value -c status), not $2"; }
}
attach() { # SERVER VOLUME: prints the guest's name of the disk
    local address=$3 before
    before=$(ssh_to "$address" 'ls /sys/block')
    os server add volume "$1" "$2" >/dev/null
    wait_volume "$2" in-use
    disk_of() { new=$(comm -13 <(echo "$before") <(ssh_to "$address" 'ls /sys/block')) && [ -n "$new" ]; }
    until_true 30 disk_of || die "no new disk in $1"
    disk=$new
}
detach() { # SERVER VOLUME
    os server remove volume "$1" "$2"
    wait_volume "$2" available
}
mounted() { # ADDRESS DISK COMMAND: with the disk's file system at /mnt
    ssh_to "$1" "sudo mount /dev/$2 /mnt && { $3; }; r=\$?; sync; sudo umount /mnt; exit \$r"
}

echo "-- up, two servers"
up
ssh-keygen -q -t ed25519 -N '' -f "$state/key"
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
os keypair create k --public-key "$state/key.pub" -f value -c name >/dev/null
os security group create ssh -f value -c id >/dev/null
os security group rule create ssh --protocol tcp --dst-port 22 -f value -c id >/dev/null
os network create n -f value -c id >/dev/null
os subnet create n --network n --subnet-range 172.16.0.0/24 -f value -c id >/dev/null
os router create r --external-gateway public -f value -c id >/dev/null
os router add subnet r n
server() { # NAME ARGUMENTS...
    local name=$1; shift
    os server create "$name" --flavor m1.nano --nic net-id=n --security-group ssh --key-name k "$@" -f value -c id >/dev/null
    until_true 120 status_is "$name" ACTIVE || { "$UNKAI" why "$name" --state "$state"; die "$name is not ACTIVE"; }
}
reachable() { # NAME: prints the address
    local address
    address=$(os floating ip create public -f value -c floating_ip_address)
    os server add floating ip "$1" "$address"
    until_true 120 ssh_to "$address" true || { os console log show "$1" | tail -n 20; die "no ssh to $1"; }
    echo "$address"
}
server one --image mini
server two --image mini
one=$(reachable one)
two=$(reachable two)

echo "-- a volume is attached, written, snapshotted and extended while a guest uses it"
os volume create data --size 1 -f value -c id >/dev/null
wait_volume data available
attach one data "$one"
ssh_to "$one" "sudo mkfs.ext4 -q /dev/$disk" 2>/dev/null
sum=$(mounted "$one" "$disk" 'sudo dd if=/dev/urandom of=/mnt/file bs=1M count=20 2>/dev/null; sudo sha256sum /mnt/file | cut -c-64')
os volume snapshot create early --volume data --force -f value -c id >/dev/null
snapshot_is() { [ "$(os volume snapshot show "$1" -f value -c status 2>/dev/null)" = "$2" ]; }
until_true 60 snapshot_is early available || die "the snapshot is not available"
mounted "$one" "$disk" 'echo later | sudo tee /mnt/later >/dev/null'
os volume set --size 2 data
wait_volume data in-use
grown() { says "^$((2 << 21))$" ssh_to "$one" "cat /sys/block/$disk/size"; }
until_true 30 grown || die "the guest sees $(ssh_to "$one" "cat /sys/block/$disk/size") sectors"

echo "-- it goes to another server with all that was written; the snapshot has what was there then"
detach one data
attach two data "$two"
says "^$sum" mounted "$two" "$disk" 'sudo sha256sum /mnt/file; cat /mnt/later' || die "the file is another"
detach two data
os volume create then --snapshot early --size 1 -f value -c id >/dev/null
wait_volume then available
attach two then "$two"
says "^$sum" mounted "$two" "$disk" 'sudo sha256sum /mnt/file' || die "the snapshot's file is another"
says '^none$' mounted "$two" "$disk" 'test -e /mnt/later || echo none' || die "the snapshot has what was written later"
detach two then

echo "-- an encrypted volume: the guest reads what it wrote, the pool does not"
os volume type create secret --encryption-provider luks --encryption-cipher aes-xts-plain64 --encryption-key-size 256 \
    --encryption-control-location front-end -f value -c id >/dev/null
os volume create hidden --type secret --size 1 -f value -c id >/dev/null
os volume create open --size 1 -f value -c id >/dev/null
for v in hidden open; do
    wait_volume $v available
    attach one $v "$one"
    ssh_to "$one" "yes 'nobody else reads this' | head -c 1048576 | sudo dd of=/dev/$disk conv=fsync bs=1M 2>/dev/null"
    says '^nobody else reads this' ssh_to "$one" "sudo head -c 100 /dev/$disk" || die "the guest does not read what it wrote to $v"
    detach one $v
done
pool=$("$UNKAI" pool list --state "$state" | awk '$2 == "local" { print $1 }')
dir=$(find "$state" -name .unkai-pool -printf '%h\n' | head -n 1)
[ -n "$pool" ] && [ -n "$dir" ] || die "there is no pool local"
holding() { grep -rlaF 'nobody else reads this' "$dir" | grep -c "$(os volume show "$1" -f value -c id)" || true; }
[ "$(holding open)" = 1 ] || die "the open volume does not hold what was written"
[ "$(holding hidden)" = 0 ] || die "the pool holds what was written to the encrypted volume"

echo "-- kill -9 of the control plane while volumes are made: all of them come, and nothing is lost"
for i in 1 2 3; do os volume create copy$i --source data --size 2 -f value -c id >/dev/null; done
kill -9 "$(pid)"
up
for i in 1 2 3; do wait_volume copy$i available; done
attach one copy3 "$one"
says "^$sum" mounted "$one" "$disk" 'sudo sha256sum /mnt/file' || die "the copy's file is another"
detach one copy3

echo "-- backups, the second of what has changed alone, outlive their volume"
os volume backup create --name full data -f value -c id >/dev/null
backup_is() { [ "$(os volume backup show "$1" -f value -c status 2>/dev/null)" = available ]; }
until_true 120 backup_is full || die "the backup is $(os volume backup show full -f value -c status)"
attach one data "$one"
mounted "$one" "$disk" 'echo after the backup | sudo tee /mnt/after >/dev/null'
detach one data
os volume backup create --name more --incremental data -f value -c id >/dev/null
until_true 120 backup_is more || die "the backup is $(os volume backup show more -f value -c status)"
os volume backup delete full 2>/dev/null && die "a backup was deleted that another needs"
os volume delete data 2>/dev/null && die "a volume was deleted that has a snapshot"
os volume snapshot delete early
no_snapshot() { ! os volume snapshot show early >/dev/null 2>&1; }
until_true 60 no_snapshot || die "the snapshot does not go"
os volume delete data
os volume backup restore more restored >/dev/null
wait_volume restored available
attach one restored "$one"
says "^$sum" mounted "$one" "$disk" 'sudo sha256sum /mnt/file' || die "the restored file is another"
says '^after the backup$' mounted "$one" "$disk" 'cat /mnt/after' || die "the incremental backup lost what it was for"
detach one restored

echo "-- a server from a volume; its disk outlives it; an image is made of it"
server three --image mini --boot-from-volume 1
three=$(reachable three)
ssh_to "$three" 'echo outlives > ~/mark; sync'
root_volume=$(os server volume list three -f value -c 'Volume ID')
os server delete --wait three
wait_volume "$root_volume" available
server four --volume "$root_volume"
four=$(reachable four)
# A guest that finds itself to be another server makes new host keys, and starts its sshd again.
until_true 30 says '^outlives$' ssh_to "$four" cat mark || die "the disk of a server lost what was written"
os server delete --wait four
wait_volume "$root_volume" available
os image create --volume "$root_volume" --disk-format qcow2 again -f value -c image_id >/dev/null 2>&1
image_active() { [ "$(os image show again -f value -c status 2>/dev/null)" = active ]; }
until_true 120 image_active || die "the image of the volume is not active"
server five --image again
five=$(reachable five)
until_true 30 says '^outlives$' ssh_to "$five" cat mark || die "the image of the volume lost what was written"
os server delete --wait five

echo "-- a volume is given to another project"
os project create other -f value -c id >/dev/null
os user create --project other --password other other -f value -c id >/dev/null
os role add --project other --user other member
sed -e "s/^  unkai:/  other:/" -e "s/\(username\|password\|project_name\): .*/\1: other/" "$state/clouds.yaml" > "$state/other.yaml"
read -r key transfer <<<"$(os volume transfer request create open -f json | python3 -c 'import json, sys; t = json.load(sys.stdin); print(t["auth_key"], t["id"])')"
other() { OS_CLOUD=other OS_CLIENT_CONFIG_FILE=$state/other.yaml os "$@"; }
other volume transfer request accept --auth-key wrong "$transfer" 2>/dev/null && die "a wrong key was taken"
other volume transfer request accept --auth-key "$key" "$transfer" -f value -c id >/dev/null
says '^open$' other volume list -f value -c Name || die "the volume has not come"
os volume show open >/dev/null 2>&1 && says '^open$' os volume list -f value -c Name && die "the volume is still here"

echo "-- deletion leaves nothing"
other volume delete open
os server delete --wait one two
os volume delete then hidden copy1 copy2 copy3 restored "$root_volume"
os volume backup delete more
gone() { ! os volume backup show more >/dev/null 2>&1; }
until_true 60 gone || die "the incremental backup is left"
os volume backup delete full
no_backup() { [ -z "$(os volume backup list -f value -c ID)" ]; }
until_true 60 no_backup || die "backups are left: $(os volume backup list)"
no_volumes() { [ -z "$(os volume list --all-projects -f value -c ID)" ]; }
until_true 60 no_volumes || die "volumes are left: $(os volume list --all-projects)"
left=$(find "$dir" -mindepth 1 -type f ! -name '.unkai*' ! -name '*lock*' | head)
[ -z "$left" ] || die "something is left in the pool: $left"
"$UNKAI" down --servers --state "$state" >/dev/null
"$UNKAI" store check --state "$state"
echo "-- all well"
