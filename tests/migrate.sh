#!/bin/bash
# Servers move between hosts while they run: a TCP stream goes on, agents and machines die on the way, and each server runs once.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/hosts-lib.sh
. "$root/tests/hosts-lib.sh"

echo "-- a controller, three hosts, a server with a floating IP"
controller
token=$("$UNKAI" host token --uses 3 --state "$dir/c")
for n in 1 2 3; do agent $n --join $url --token "$token"; done
for n in 1 2 3; do until_true 10 host_is h$n Up || die "host h$n is not up"; done
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
os keypair create k --public-key "$dir/key.pub" -f value -c name
os security group create g -f value -c id >/dev/null
os security group rule create g --protocol tcp --dst-port 22 -f value -c id >/dev/null
os network create a -f value -c id >/dev/null
os subnet create a --network a --subnet-range 172.16.0.0/24 -f value -c id >/dev/null
os router create r --external-gateway public -f value -c id >/dev/null
os router add subnet r a
id=$(os server create s --image mini --flavor m1.nano --network a --security-group g --key-name k --availability-zone nova:h1 -f value -c id)
until_true 90 status_is s ACTIVE || { "$UNKAI" why s --state "$dir/c"; die "s is not ACTIVE"; }
floating=$(os floating ip create public -f value -c floating_ip_address)
os server add floating ip s "$floating"
ssh_works() { ssh_to "$floating" true 2>/dev/null; }
until_true 120 ssh_works || { os console log show s | tail -n 20; die "no ssh to $floating"; }

id_of() { os server show "$1" -f value -c id; }
on() { [ "$(os server show "$1" -f value -c OS-EXT-SRV-ATTR:host 2>/dev/null)" = "$2" ]; }
runs_once() { [ "$(qemu_of "$1" | wc -l)" = 1 ]; }
settled() { status_is "$1" ACTIVE && runs_once "$(id_of "$1")"; }
move() { os server migrate --live-migration --host "$2" "$1"; }
migrations() { os server migration list --server "$1" -f value -c Status; }
newest() { migrations "$1" | head -n 1; }
newest_is() { [ "$(newest "$1")" = "$2" ]; }
# No directory, process or tap of the server but where it is.
leftover() { # SERVER HOST
    local one
    one=$(id_of "$1")
    for n in 1 2 3; do [ "h$n" = "$2" ] || [ ! -e "$dir/h$n/agent/servers/$one" ] || echo "directory on h$n"; done
}
clean() { [ -z "$(leftover "$1" "$2")" ]; }
arrives() { # SERVER HOST
    until_true 90 on "$1" "$2" && until_true 30 settled "$1" && until_true 30 clean "$1" "$2" && return
    "$UNKAI" why "$1" --state "$dir/c"
    qemu_of "$1"
    leftover "$1" "$2"
    return 1
}

echo "-- there and back, under a stream"
: >"$dir/stream"
ssh_to "$floating" "i=0; while :; do i=\$((i+1)); echo \$i; sleep 0.05; done" </dev/null | while read -r count; do echo "$(millis) $count"; done >"$dir/stream" 2>/dev/null & stream=$!
counted() { [ "$(wc -l <"$dir/stream")" -gt "${1:-20}" ]; }
until_true 30 counted || die "the stream does not begin"
ssh_to "$floating" "dd if=/dev/urandom of=data bs=1M count=16 2>/dev/null; sync; sha256sum data >sum"
for to in h2 h1; do
    move s $to
    arrives s $to || die "s did not come to $to"
    newest_is s completed || die "the migration is $(newest s)"
    ssh_to "$floating" "echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null; sha256sum -c sum >/dev/null" || die "its disk is not whole on $to"
    "$UNKAI" why s --state "$dir/c" | grep "migration" | tail -n 1
done
echo "-- given up, and hurried: a guest that writes faster than it can be copied"
ssh_to "$floating" "sudo mount -t tmpfs -o size=90m,mode=777 none /mnt && dd if=/dev/urandom of=/mnt/r bs=1M count=32 2>/dev/null"
busy() { # and a slow wire
    ssh_to "$floating" "touch /mnt/busy; (while [ -e /mnt/busy ]; do dd if=/mnt/r of=/mnt/x bs=1M conv=notrunc; done) >/dev/null 2>&1 </dev/null &"
    for n in 1 2; do tc -n "$ns-u" qdisc replace dev "under-$n" root tbf rate 160mbit burst 512k latency 200ms; done
}
idle() {
    for n in 1 2; do tc -n "$ns-u" qdisc del dev "under-$n" root; done
    ssh_to "$floating" 'rm /mnt/busy'
}
busy
number() { os server migration list --server s --status running -f value -c Id; }
runs_number() { [ -n "$(number)" ]; }
move s h2
until_true 20 runs_number || die "the migration does not begin"
sleep 1
os server migration abort s "$(number)"
until_true 30 newest_is s cancelled || die "an aborted migration is $(newest s)"
arrives s h1 || die "s did not stay on h1"
move s h2
until_true 20 runs_number || die "the migration does not begin"
os server migration force complete s "$(number)"
arrives s h2 || die "s did not come to h2"
newest_is s completed || die "a hurried migration is $(newest s)"
"$UNKAI" why s --state "$dir/c" | grep "migration" | tail -n 1
idle

echo "-- a destination that cannot be: the server stays, and it is said why"
move s h2 2>"$dir/refusal" && die "a server was moved to where it is"
grep -q "to current host" "$dir/refusal" || die "the refusal says something else: $(cat "$dir/refusal")"
os compute service set --disable --disable-reason repair h3 nova-compute
move s h3 2>"$dir/refusal" && die "a client of before 2.34 is not told at once"
grep -q "No valid host was found" "$dir/refusal" || die "the refusal says something else: $(cat "$dir/refusal")"
in_c curl -fsk -X POST "$url/compute/v2.1/servers/$id/action" -H "X-Auth-Token: $(os token issue -f value -c id)" \
    -H "OpenStack-API-Version: compute 2.79" -H "Content-Type: application/json" \
    -d '{"os-migrateLive": {"host": "h3", "block_migration": "auto"}}'
until_true 20 newest_is s error || die "a migration to a disabled host is $(newest s)"
"$UNKAI" why s --state "$dir/c" | grep -q "disabled: repair" || die "it is not said why"
os compute service set --enable h3 nova-compute
arrives s h2 || die "s did not stay on h2"

# Whoever dies, at whatever point: the stream goes on, one copy is left, and the migration has an end.
ended_well() { case "$(newest s)" in completed | error | cancelled) ;; *) return 1 ;; esac; }
charged() { "$UNKAI" status --state "$dir/c" | grep -oE '^host .* processors [0-9]+' | awk '{ sum += $NF } END { exit sum != 1 }'; }
where() { os server show s -f value -c OS-EXT-SRV-ATTR:host; }
whole() { # WHAT
    until_true 60 ended_well || { "$UNKAI" why s --state "$dir/c"; die "$1: the migration is $(newest s)"; }
    until_true 60 settled s || { "$UNKAI" why s --state "$dir/c"; qemu_of "$id"; die "$1: s does not run once"; }
    until_true 60 clean s "$(where)" || die "$1: something is left: $(leftover s "$(where)")"
    until_true 10 charged || { "$UNKAI" status --state "$dir/c"; die "$1: charges are left"; }
    local before
    before=$(wc -l <"$dir/stream")
    until_true 30 counted $((before + 5)) || die "$1: the stream ended"
}
other() { if [ "$(where)" = h1 ]; then echo h2; else echo h1; fi; }
restart() { # DIRECTORY
    until_true 10 gone "$1" || die "$1 does not end"
    case $1 in c) controller ;; *) agent "${1#h}" ;; esac >/dev/null
}
gone() { ! kill -0 "$(pid "$1")" 2>/dev/null; }
arm() { # NAME NUMBER: it dies at the point that many points later
    echo "$2" >"$dir/crash-$1"
}
fired() { ! grep -qE '^[0-9]+$' "$dir/crash-$1"; }
for d in h1 h2 c; do
    kill -9 "$(pid $d)"
    UNKAI_CRASH_FILE=$dir/crash-$d restart $d
done
for n in 1 2; do until_true 20 host_is h$n Up || die "h$n is not up"; done
deaths() { # ROLE STEP
    local number=1 from to victim
    while :; do
        from=$(where) to=$(other)
        case $1 in source) victim=$from ;; destination) victim=$to ;; controller) victim=c ;; esac
        arm $victim $number
        move s "$to" || true
        over() { fired $victim || ended_well; }
        until_true 60 over || die "neither dead nor over"
        if ! fired $victim; then
            rm "$dir/crash-$victim"
            whole "the last of the $1's deaths"
            echo "   $1: $((number - 1)) points"
            return
        fi
        point=$(cat "$dir/crash-$victim")
        rm "$dir/crash-$victim"
        UNKAI_CRASH_FILE=$dir/crash-$victim restart $victim
        whole "$1 died at point $number ($point)"
        echo "   $1 died at point $number ($point): $(newest s), on $(where)"
        number=$((number + $2))
    done
}
echo "-- deaths of the agent at the source, at the destination, and of the controller"
deaths source "${STEP:-3}"
deaths destination "${STEP:-3}"
deaths controller "${STEP:-3}"

echo "-- deaths of the machines"
for victim in destination source; do
    busy
    from=$(where) to=$(other)
    move s "$to"
    until_true 20 runs_number || die "the migration does not begin"
    case $victim in source) at=$from ;; destination) at=$to ;; esac
    machine() { qemu_of "$id" | xargs -rn1 ps -o pid=,args= -p | grep "/${at}/" | awk '{ print $1 }'; }
    there() { [ -n "$(machine)" ]; }
    until_true 20 there || die "there is no machine at the $victim"
    kill -9 "$(machine)"
    until_true 60 ended_well || die "the migration is $(newest s)"
    newest_is s error || die "the migration is $(newest s)"
    if [ $victim = destination ]; then
        whole "the machine at the destination died"
        idle
    else
        until_true 30 status_is s SHUTOFF || die "a killed server is not off"
        until_true 30 clean s "$from" || die "something is left"
        [ -z "$(qemu_of "$id")" ] || die "a killed server runs"
    fi
done
echo "-- moved while off, back, and there for good; to a size that there is no room for here"
os server start s
until_true 60 status_is s ACTIVE || die "s does not start"
until_true 90 ssh_works || die "no ssh to $floating"
ssh_to "$floating" "dd if=/dev/urandom of=data bs=1M count=4 2>/dev/null; sync; sha256sum data >sum"
keeps() { ssh_to "$floating" "sha256sum -c sum >/dev/null" 2>/dev/null; }
first=$(where)
os server migrate s
until_true 90 status_is s VERIFY_RESIZE || { "$UNKAI" why s --state "$dir/c"; die "a moved server is not to be confirmed"; }
second=$(where)
[ "$second" != "$first" ] || die "it did not move"
until_true 90 keeps || die "its disk did not come along"
newest_is s finished || die "the migration is $(newest s)"
[ "$(qemu_of "$id" | wc -l)" = 1 ] || die "it does not run once"
os server resize revert s
until_true 90 settled s || { "$UNKAI" why s --state "$dir/c"; die "it does not go back"; }
on s "$first" || die "it is not back on $first"
until_true 30 clean s "$first" || die "something is left: $(leftover s "$first")"
until_true 90 keeps || die "its disk is not as it was"
newest_is s reverted || die "the migration is $(newest s)"
os server migrate s --host "$second"
until_true 90 status_is s VERIFY_RESIZE || { "$UNKAI" why s --state "$dir/c"; die "a moved server is not to be confirmed"; }
os server resize confirm s
until_true 30 settled s || die "a confirmed server is not ACTIVE"
until_true 30 clean s "$second" || die "something is left: $(leftover s "$second")"
until_true 90 keeps || die "its disk did not come along"
newest_is s confirmed || die "the migration is $(newest s)"
until_true 10 charged || { "$UNKAI" status --state "$dir/c"; die "charges are left"; }

echo "-- a host is drained, and says what waits"
here=$(where)
os server create off --image mini --flavor m1.nano --nic none --availability-zone "nova:$here" -f value -c id >/dev/null
os server create asleep --image mini --flavor m1.nano --nic none --availability-zone "nova:$here" -f value -c id >/dev/null
for one in off asleep; do until_true 60 status_is $one ACTIVE || die "$one is not ACTIVE"; done
os server stop off
os server suspend asleep
until_true 90 status_is off SHUTOFF || die "a server does not stop"
until_true 90 status_is asleep SUSPENDED || die "a server is not suspended"
"$UNKAI" host drain "$here" --state "$dir/c"
drained() { says "draining: 1 server" "$UNKAI" host drain "$here" --state "$dir/c"; }
until_true 120 drained || { "$UNKAI" status --state "$dir/c"; die "the host is not drained"; }
says "asleep  waits: it is suspended" "$UNKAI" status --state "$dir/c" || die "it is not said what waits"
says " $here .*  draining$" "$UNKAI" host list --state "$dir/c" || die "the list does not say that the host is drained"
on s "$here" && die "s is still there"
on off "$here" && die "what is off is still there"
until_true 30 status_is off SHUTOFF || die "what was off is not off"
settled s || die "s does not run"
os server delete --wait off asleep
says " $here .*  drained$" "$UNKAI" host list --state "$dir/c" || die "the list does not say that the host is drained"
"$UNKAI" host undrain "$here" --state "$dir/c"

echo "-- its host dies: it begins anew elsewhere when an operator says that the machine is off"
here=$(where)
os server evacuate s 2>"$dir/refusal" && die "a server was taken from a host that is up"
grep -q "is still in use" "$dir/refusal" || die "the refusal says something else: $(cat "$dir/refusal")"
die_host "${here#h}"
until_true 30 host_is "$here" Suspect || until_true 30 host_is "$here" Lost || die "the dead host is not missed"
until_true 40 host_is "$here" Lost || die "the dead host is not lost"
os server evacuate s 2>"$dir/refusal" && die "a server of a host that is only silent was started elsewhere"
grep -q "say so" "$dir/refusal" || die "the refusal does not say what helps: $(cat "$dir/refusal")"
os compute service set --down "$here" nova-compute
os server evacuate s
until_true 60 settled s || { "$UNKAI" why s --state "$dir/c"; die "it was not evacuated"; }
on s "$here" && die "it is still on the dead host"
newest_is s "done" || die "the evacuation is $(newest s)"
kill $stream 2>/dev/null || true
awk '{ if ($2 != NR) { print "count " $2 " in line " NR; exit 1 } if (NR > 1 && $1 - last > gap) gap = $1 - last; last = $1 } END { print "   longest pause of the stream " gap " ms" }' "$dir/stream" || die "the stream is not whole"
echo "-- all well"
