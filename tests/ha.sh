#!/bin/bash
# A host is cut off, and another one dies: their highly available servers run elsewhere soon and never twice, the others are left alone.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/hosts-lib.sh
. "$root/tests/hosts-lib.sh"

echo "-- a controller, three hosts, servers"
controller
says "^silence 3s, lease 5s$" "$UNKAI" availability --silence 3s --lease 5s --state "$dir/c" || die "the times were not set"
"$UNKAI" availability --lease 1s --state "$dir/c" 2>"$dir/refusal" && die "a lease that cannot be kept was taken"
token=$("$UNKAI" host token --uses 3 --state "$dir/c")
for n in 1 2 3; do agent $n --join $url --token "$token"; done
for n in 1 2 3; do until_true 10 host_is h$n Up || die "host h$n is not up"; done
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
server() { # NAME HOST OPTION...
    os server create "$1" --image mini --flavor m1.nano --nic none --availability-zone "nova:$2" "${@:3}" -f value -c id
}
ha="--property unkai:availability=ha --property unkai:local_disks=discard"
os server create no --image mini --flavor m1.nano --nic none --property unkai:availability=ha 2>"$dir/refusal" && die "a bound server was taken"
grep -q "unkai:local_disks=discard" "$dir/refusal" || die "the refusal does not say what helps: $(cat "$dir/refusal")"
# shellcheck disable=SC2086
one=$(server one h1 $ha) urgent=$(server urgent h1 $ha --property unkai:priority=5) two=$(server two h2 $ha) plain=$(server plain h1)
for s in one urgent two plain; do until_true 60 status_is $s ACTIVE || { "$UNKAI" why $s --state "$dir/c"; die "$s is not ACTIVE"; }; done
late=$(server late h1)
# A volume that all hosts reach is what a server finds again elsewhere.
mkdir -p -m 711 "$dir/shared"
"$UNKAI" pool create shared --driver files --dir "$dir/shared" --state "$dir/c"
os volume type create shared --property volume_backend_name=shared -f value -c id >/dev/null
os volume create root --image mini --size 1 --type shared --bootable -f value -c id >/dev/null
root_is() { [ "$(os volume show root -f value -c status)" = "$1" ]; }
until_true 60 root_is available || { "$UNKAI" why "$(os volume show root -f value -c id)" --state "$dir/c"; die "the volume is not made"; }
kept=$(os server create kept --volume root --flavor m1.nano --nic none --availability-zone nova:h1 --property unkai:availability=ha -f value -c id)
until_true 60 status_is kept ACTIVE || { "$UNKAI" why kept --state "$dir/c"; die "kept is not ACTIVE"; }
booted() { says "mini: boot $1," os console log show kept; }
until_true 60 booted 1 || die "kept does not boot"
until_true 60 status_is late ACTIVE || die "late is not ACTIVE"
# shellcheck disable=SC2086
os server set late $ha
runs() { [ "$(qemu_of "$1" | wc -l)" = 1 ]; }
on() { [ "$(os server show "$1" -f value -c OS-EXT-SRV-ATTR:host 2>/dev/null)" = "$2" ]; }
moved() { status_is "$1" ACTIVE && ! on "$1" "$2" && runs "$3"; }
leased() { grep -q "$1" "$dir/h1/agent/lease.json"; }
until_true 10 leased "$late" || die "the dial did not reach the host"
watch() { while sleep 0.02; do for id in $one $urgent $two $late $kept; do [ "$(qemu_of "$id" | wc -l)" -le 1 ] || echo "$(date +%T.%N) $id"; done; done; }
watch 2>/dev/null >"$dir/twice" & watcher=$!
trap 'kill $watcher 2>/dev/null || true; finish' EXIT
plain_qemu=$(qemu_of "$plain")
[ -n "$plain_qemu" ] || die "the server without the dial has no QEMU"

survives() { "$UNKAI" survive "$@" --state "$dir/c"; }
# All five are known to need a lease, and have room elsewhere.
without_hosts() { says "^missing 5$" survives h1 h2 h3; }
until_true 10 without_hosts || die "not all of them would be missing without a host: $(survives h1 h2 h3)"
says "^missing 0," survives || die "not everything would survive: $(survives)"
survives nowhere 2>/dev/null && die "an unknown host was taken"

echo "-- h1 is cut off: what is highly available ends there by itself, and runs elsewhere"
cut=$(millis)
ip -n "$ns-u" link set under-1 down
for s in one urgent late kept; do id=${!s}; until_true 60 moved $s h1 "$id" || { "$UNKAI" why $s --state "$dir/c"; die "$s was not started elsewhere"; }; done
echo "   all four run elsewhere $(($(millis) - cut)) ms after the cut"
until_true 60 booted 2 || die "kept did not start from the same disk: $(os console log show kept | grep 'mini: boot')"
[ "$(qemu_of "$plain")" = "$plain_qemu" ] || die "a server without the dial did not run on"
"$UNKAI" why urgent --state "$dir/c" | grep -E "failover  from h1 to h[23]: detected .*, fenced .*, decided .*, booted " || die "there is no receipt"
ip -n "$ns-u" link set under-1 up
until_true 30 host_is h1 Up || die "h1 did not come back"
[ "$(qemu_of "$plain")" = "$plain_qemu" ] || die "a server without the dial did not run on"
for s in one urgent late kept; do id=${!s}; runs "$id" || die "$s does not run once"; done

echo "-- h2 dies with everything on it"
died=$(millis)
die_host 2
until_true 60 moved two h2 "$two" || { "$UNKAI" why two --state "$dir/c"; die "two was not started elsewhere"; }
echo "   it runs elsewhere $(($(millis) - died)) ms after the death"

echo "-- every controller is away for longer than the lease: what needs it waits, and goes on when there is one again"
kill -9 "$(pid c)"
ended() { for id in $one $urgent $two $late $kept; do [ -z "$(qemu_of "$id")" ] || return 1; done; }
until_true 40 ended || die "servers run on without a lease"
[ "$(qemu_of "$plain")" = "$plain_qemu" ] || die "a server without the dial did not run on"
controller
again() { for id in $one $urgent $two $late $kept; do runs "$id" || return 1; done; }
until_true 60 again || die "servers were not started again"
until_true 60 booted 3 || die "kept did not start from the same disk again"
kill $watcher
[ ! -s "$dir/twice" ] || die "ran twice at a time: $(head -n 20 "$dir/twice")"
os server set one --property unkai:availability=none
unleased() { ! grep -q "$one" "$dir"/h[13]/agent/lease.json; }
until_true 10 unleased || die "the dial was not turned back"
runs "$one" || die "turning the dial ended the server"
echo "-- all well"
