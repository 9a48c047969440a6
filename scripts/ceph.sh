#!/bin/bash
# A small real Ceph from Debian's packages: a monitor, a manager and three OSDs on sparse files, with a pool for volumes and a user for
# hosts. All of it is in one directory, and listens in one network namespace.
# usage: scripts/ceph.sh start DIR [--netns NAME] [--address IP] [--for PID]
#        scripts/ceph.sh stop DIR
#   --netns    a namespace that is there, or one to be made and removed again (default: ceph-PID)
#   --address  where it listens: an address that the namespace has, or one for its loopback (default: 10.77.0.1)
#   --for      it ends with that process
# DIR/env says how it is reached, as shell variables: CEPH_NETNS CEPH_MONITOR CEPH_POOL CEPH_USER CEPH_KEY.
# DIR/ceph.conf is for the administrator: ip netns exec $CEPH_NETNS ceph -c DIR/ceph.conf status
set -euo pipefail
fail() { echo "ceph.sh: $*" >&2; exit 1; }

stop() { # DIR: everything that start has begun, however far it came
    local dir=$1 pid all=()
    [ -d "$dir" ] || return 0
    for file in "$dir"/run/*.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        # A number may be another's by now.
        if grep -qaF "$dir/ceph.conf" "/proc/$pid/cmdline" 2>/dev/null; then kill -9 "$pid" 2>/dev/null && all+=("$pid"); fi
    done
    for pid in "${all[@]}"; do while grep -qaF ceph "/proc/$pid/cmdline" 2>/dev/null; do sleep 0.05; done; done
    [ ! -e "$dir/own-netns" ] || ip netns del "$(cat "$dir/own-netns")" 2>/dev/null || true
    rm -rf "$dir"
}

command=${1:-} dir=${2:-}
[ -n "$dir" ] || { sed -n 's/^# usage: //p; s/^#        //p' "$0" >&2; exit 2; }
shift 2
netns=ceph-$$ address=10.77.0.1 owner=
while [ $# -gt 0 ]; do
    case $1 in
    --netns) netns=$2 ;;
    --address) address=$2 ;;
    --for) owner=$2 ;;
    *) fail "$1 is not known" ;;
    esac
    shift 2
done
case $command in
stop) dir=$(realpath -m "$dir"); stop "$dir"; exit ;;
start) ;;
*) fail "$command is not known" ;;
esac
for program in ceph ceph-mon ceph-mgr ceph-osd rbd; do
    command -v $program >/dev/null || fail "$program is not installed (scripts/packages.sh test)"
done
mkdir -p "$dir"/{run,log,mon,mgr,osd0,osd1,osd2}
dir=$(realpath "$dir")
[ ! -e "$dir/ceph.conf" ] || fail "there is one in $dir already"
# Whatever fails, nothing is left running.
trap '[ $? = 0 ] || { tail -n 5 "$dir"/log/* >&2 || true; stop "$dir"; }' EXIT
if [ ! -e "/run/netns/$netns" ]; then
    ip netns add "$netns"
    echo "$netns" > "$dir/own-netns"
    ip -n "$netns" link set lo up
fi
[ -n "$(ip -n "$netns" addr show to "$address")" ] || ip -n "$netns" addr add "$address/32" dev lo
in_ns() { ip netns exec "$netns" "$@"; }

fsid=$(cat /proc/sys/kernel/random/uuid)
cat > "$dir/ceph.conf" <<END
[global]
fsid = $fsid
mon host = [v2:$address:3300,v1:$address:6789]
mon initial members = a
public addr = $address
cluster addr = $address
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $dir/keyring
run dir = $dir/run
admin socket = $dir/run/\$name.asok
pid file = $dir/run/\$type.\$id.pid
log file = $dir/log/\$name.log
crash dir = $dir/log
osd pool default size = 3
osd pool default min size = 2
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool delete = true
mon osd min down reporters = 1
paxos propose interval = 0.05
paxos min wait = 0.02
osd heartbeat grace = 8
setuser match path =
[mon]
mon data = $dir/mon
mon data avail warn = 1
mon data avail crit = 1
[mgr]
mgr data = $dir/mgr
mgr initial modules =
[osd]
osd data = $dir/osd\$id
osd objectstore = bluestore
bluestore block size = 4294967296
bluestore block create = true
bluestore block wal size = 0
bluestore block db size = 0
bluestore cache autotune = false
bluestore cache size = 67108864
osd op num shards = 2
osd op num threads per shard = 1
osd crush initial weight = 1
END
conf=(-c "$dir/ceph.conf")
ceph() { in_ns ceph "${conf[@]}" --connect-timeout 20 "$@"; }
until_true() { for _ in $(seq "$1"); do if "${@:2}"; then return; fi; sleep 0.2; done; fail "waited too long: ${*:2}"; }

(
    umask 077
    ceph-authtool -C "$dir/keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *'
    cp "$dir/keyring" "$dir/mgr/keyring"
) >/dev/null
monmaptool --create --addv a "[v2:$address:3300,v1:$address:6789]" --fsid "$fsid" "$dir/monmap" >/dev/null
in_ns ceph-mon "${conf[@]}" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
in_ns ceph-mon "${conf[@]}" -i a
ceph status >/dev/null
in_ns ceph-mgr "${conf[@]}" -i x >/dev/null 2>&1
for _ in 0 1 2; do
    uuid=$(cat /proc/sys/kernel/random/uuid)
    id=$(ceph osd new "$uuid")
    ceph auth get-or-create "osd.$id" mon 'allow profile osd' osd 'allow *' mgr 'allow profile osd' -o "$dir/osd$id/keyring"
    truncate -s 4G "$dir/osd$id/block"
    in_ns ceph-osd "${conf[@]}" -i "$id" --mkfs --osd-uuid "$uuid" --keyring "$dir/osd$id/keyring" >"$dir/log/mkfs.$id" 2>&1
    in_ns ceph-osd "${conf[@]}" -i "$id" --keyring "$dir/osd$id/keyring" >/dev/null 2>&1
done
osds_up() { ceph osd stat -f json 2>/dev/null | grep -q '"num_up_osds":3'; }
clean() { ceph pg stat 2>/dev/null | grep -qE ': [0-9]+ active\+clean;'; }
until_true 300 osds_up
ceph osd pool create volumes 8 8 replicated >/dev/null 2>&1
ceph osd pool application enable volumes rbd >/dev/null 2>&1
until_true 300 clean
# What a host needs: images of one pool, and to shut out clients of older fencing generations.
key=$(ceph auth get-or-create-key client.unkai mon 'profile rbd' osd 'profile rbd pool=volumes' mgr 'profile rbd pool=volumes')
(
    umask 077
    printf '%s\n' "CEPH_NETNS=$netns" "CEPH_MONITOR=$address" CEPH_POOL=volumes CEPH_USER=unkai "CEPH_KEY=$key" > "$dir/env"
)
if [ -n "$owner" ]; then
    # shellcheck disable=SC2016
    setsid bash -c 'while [ -d "/proc/$1" ] && [ -d "$3" ]; do sleep 0.5; done; exec "$2" stop "$3"' - "$owner" "$(realpath "$0")" "$dir" </dev/null >/dev/null 2>&1 &
fi
echo "ceph.sh: a cluster answers at $address in namespace $netns"
