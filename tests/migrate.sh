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
before=$(wc -l <"$dir/stream")
until_true 10 counted $((before + 20)) || die "the stream ended"
kill $stream 2>/dev/null || true
awk '{ if ($2 != NR) { print "count " $2 " in line " NR; exit 1 } if (NR > 1 && $1 - last > gap) gap = $1 - last; last = $1 } END { print "   longest pause of the stream " gap " ms" }' "$dir/stream" || die "the stream is not whole"
echo "-- all well"
