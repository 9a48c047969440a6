#!/bin/bash
# One machine, by the public API and the unmodified client: what an operator does on the first day, and what must survive a crash.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
UNKAI=${UNKAI:-$root/target/debug/unkai}
id=$$
state=/var/tmp/unkai-smoke-$id
netns=unkai-smoke-$id
port=$((20000 + id % 10000))
venv=$("$root/scripts/venv.sh" client python-openstackclient)
export OS_CLIENT_CONFIG_FILE=$state/clouds.yaml OS_CLOUD=unkai OS_COMPUTE_API_VERSION=2.79
os() { "$venv/bin/openstack" "$@"; }
up() { "$UNKAI" up --state "$state" --listen "127.0.0.1:$port" --netns "$netns" --detach; }
pid() { cut -d' ' -f1 "$state/unkai.pid"; }
finish() {
    status=$?
    [ $status = 0 ] || { echo "--- last words of the cloud"; tail -n 30 "$state/unkai.log"; }
    "$UNKAI" down --servers --state "$state" >/dev/null 2>&1 || true
    ip netns del "$netns" 2>/dev/null || true
    rm -rf "$state"
}
trap finish EXIT
die() { echo "FAILED: $*" >&2; exit 1; }
until_true() { # SECONDS COMMAND...: waits for a condition, never for a time
    local deadline=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -lt $deadline ] || return 1; sleep 0.1; done
}
status_is() { [ "$(os server show "$1" -f value -c status 2>/dev/null)" = "$2" ]; }
in_ns() { ip netns exec "$netns" "$@"; }
ssh_to() { local a=$1; shift; in_ns ssh -i "$state/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=3 "debian@$a" "$@"; }
qemu_of() { pgrep -f -- "qemu-system.*-uuid $1" | head -n 1 || true; }

echo "-- up"
up
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
ssh-keygen -q -t ed25519 -N '' -f "$state/key"
os keypair create smoke --public-key "$state/key.pub" -f value -c name
os security group create smoke -f value -c id >/dev/null
os security group rule create smoke --protocol tcp --dst-port 22 -f value -c id >/dev/null
os network create a -f value -c id >/dev/null
os subnet create a --network a --subnet-range 172.16.0.0/24 -f value -c id >/dev/null
os router create r --external-gateway public -f value -c id >/dev/null
os router add subnet r a

echo "-- two servers on one network"
for s in one two; do os server create $s --image mini --flavor m1.nano --network a --security-group smoke --key-name smoke -f value -c id; done
for s in one two; do until_true 60 status_is $s ACTIVE || { "$UNKAI" why $s --state "$state"; die "$s is not ACTIVE"; }; done
address=$(os floating ip create public -f value -c floating_ip_address)
os server add floating ip one "$address"
until_true 90 ssh_to "$address" true || { os console log show one | tail -n 20; die "no ssh to $address"; }
ssh_to "$address" hostname | grep -qx one || die "the hostname is not the server's"
two=$(os server show two -f json -c addresses | grep -oE '172\.[0-9.]+' | head -n 1)
ssh_reaches_two() { ssh_to "$address" "echo | nc -w 3 $two 22" | grep -q SSH; }
until_true 90 ssh_reaches_two || die "the ssh port of the other server is not reachable"
ssh_to "$address" "sudo ping -c 1 -W 3 $two" >/dev/null && die "icmp between servers passed without a rule"
os security group rule create smoke --protocol icmp -f value -c id >/dev/null
until_true 10 ssh_to "$address" "sudo ping -c 1 -W 3 $two" >/dev/null || die "icmp does not pass with a rule"

echo "-- kill -9 of the control plane: servers run on and are adopted"
server=$(os server show one -f value -c id)
before=$(qemu_of "$server")
kill -9 "$(pid)"
ssh_to "$address" 'echo persists > ~/mark; sync'
up
[ "$(qemu_of "$server")" = "$before" ] || die "the server was not adopted"
status_is one ACTIVE || die "the adopted server is not ACTIVE"
ssh_to "$address" cat mark | grep -qx persists || die "the adopted server lost what was written"

echo "-- kill -9 of a guest shows, and it starts again"
kill -9 "$before"
until_true 5 status_is one SHUTOFF || die "a killed guest does not show"
os server start one
until_true 60 status_is one ACTIVE || die "the server did not start again"
until_true 90 ssh_to "$address" true || die "no ssh after the restart"

echo "-- deletion leaves nothing"
os server delete --wait one two
os router remove subnet r a
os router unset --external-gateway r
os floating ip delete "$address"
os router delete r
os network delete a
left=$(ls -A "$state/agent/servers")$(ls -A "$state/agent/notes")
[ -z "$left" ] || die "something of the servers is left: $left"
[ -z "$(qemu_of "$server")" ] || die "a QEMU is left"
no_items() { [ -z "$(ls "$state/agent/items")" ]; }
until_true 10 no_items || die "items are left: $(ls "$state/agent/items")"
prefix=$(grep -o '"prefix":"[^"]*"' "$state/agent/dataplane.json" | cut -d'"' -f4)
no_namespaces() { ! ip netns list | grep -q "^$prefix-"; }
until_true 10 no_namespaces || die "namespaces are left: $(ip netns list | grep "^$prefix-")"
"$UNKAI" down --state "$state"
"$UNKAI" store check --state "$state"
echo "-- all well"
