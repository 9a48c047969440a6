#!/bin/bash
# One machine, by the public API and the unmodified client: two tenants, who must not meet; ssh into guests and between them; and what
# must survive a crash.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"
cloud smoke
agent=yes
hop() { # ADDRESS COMMAND: from the guest `one` to another one of its tenant
    ssh_to "$address" "ssh -A -y debian@$1 '$2' 2>/dev/null"
}
tenant() { # NAME: a project with a plain member, in the client's file and with what servers need
    local name=$1
    os project create "$name" -f value -c id >/dev/null
    os user create --project "$name" --password "$name" "$name" -f value -c id >/dev/null
    os role add --project "$name" --user "$name" member
    local OS_CLOUD=$name OS_CLIENT_CONFIG_FILE=$state/$name.yaml
    sed -e "s/^  unkai:/  $name:/" -e "s/\(username\|password\|project_name\): .*/\1: $name/" "$state/clouds.yaml" > "$state/$name.yaml"
    os keypair create smoke --public-key "$state/key.pub" -f value -c name >/dev/null
    os security group create smoke -f value -c id >/dev/null
    os security group rule create smoke --protocol tcp --dst-port 22 -f value -c id >/dev/null
    os network create a -f value -c id >/dev/null
    os subnet create a --network a --subnet-range 172.16.0.0/24 -f value -c id >/dev/null
    os router create r --external-gateway public -f value -c id >/dev/null
    os router add subnet r a
    os floating ip create public -f value -c floating_ip_address > "$state/$name.address"
}
as() { local OS_CLOUD=$1 OS_CLIENT_CONFIG_FILE=$state/$1.yaml; shift; "$@"; }
server() { # NAME NIC
    echo "user data of $1 of $OS_CLOUD" > "$state/$OS_CLOUD-$1.data"
    os server create "$1" --image mini --flavor m1.nano --nic "$2" --security-group smoke --key-name smoke \
        --user-data "$state/$OS_CLOUD-$1.data" -f value -c id > "$state/$OS_CLOUD-$1.id"
}

echo "-- up"
up
ssh-keygen -q -t ed25519 -N '' -f "$state/key"
eval "$(ssh-agent -s)" >/dev/null
children=$SSH_AGENT_PID
ssh-add -q "$state/key"
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status

echo "-- two tenants with the same addresses, four servers"
tenant blue &
blue=$!
tenant red
export OS_CLOUD=red OS_CLIENT_CONFIG_FILE=$state/red.yaml
os network create b -f value -c id >/dev/null
os subnet create b --network b --subnet-range 172.17.0.0/24 -f value -c id >/dev/null
os router add subnet r b
wait $blue
same=172.16.0.20
server one net-id=a
server two net-id=a,v4-fixed-ip=$same
server far net-id=b
as blue server other net-id=a,v4-fixed-ip=$same
for s in one two far; do until_true 60 status_is $s ACTIVE || { "$UNKAI" why $s --state "$state"; die "$s is not ACTIVE"; }; done
as blue until_true 60 status_is other ACTIVE || die "the other tenant's server is not ACTIVE"
address=$(cat "$state/red.address")
others=$(cat "$state/blue.address")
os server add floating ip one "$address"
as blue os server add floating ip other "$others"
until_true 90 ssh_to "$address" true || { os console log show one | tail -n 20; die "no ssh to $address"; }
says '^one$' ssh_to "$address" hostname || die "the hostname is not the server's"
until_true 90 ssh_to "$others" true || die "no ssh to the other tenant's $others"
says '^other$' ssh_to "$others" hostname || die "the hostname is not the other tenant's server's"
addresses=$(os server list -f json)
address_of() { grep -A 9 "\"Name\": \"$1\"" <<<"$addresses" | grep -oE '172\.1[67]\.[0-9.]+' | head -n 1; }
one=$(address_of one)
far=$(address_of far)

echo "-- from guest to guest: on one network, and across the router"
reaches() { says "^$2$" hop "$1" hostname; }
until_true 60 reaches $same two || die "$same is not the tenant's own server"
until_true 60 reaches "$far" far || die "no ssh across the router"
# shellcheck disable=SC2016
says "^$one " hop "$far" 'echo $SSH_CONNECTION' || die "the router hid the address of a guest from another"
ssh_to "$address" "sudo ping -c 1 -W 3 $same" >/dev/null && die "icmp between servers passed without a rule"
os security group rule create smoke --protocol icmp -f value -c id >/dev/null
until_true 10 ssh_to "$address" "sudo ping -c 1 -W 3 $same" >/dev/null || die "icmp does not pass with a rule"

echo "-- what is another tenant's cannot be reached, only its floating IP can"
# The same words that say "SSH" where they may must say nothing where they may not.
ask_port() { ssh_to "$1" "echo | nc -w 3 $2 22 2>/dev/null || true" | head -c 3; }
[ "$(ask_port "$address" "$far")" = SSH ] || die "the port of an own server says nothing"
[ "$(ask_port "$others" "$address")" = SSH ] || die "the floating IP of another tenant says nothing"
for to in "$one" "$far"; do
    [ -z "$(ask_port "$others" "$to")" ] || die "another tenant reached $to"
    ssh_to "$others" "sudo ping -c 2 -W 2 $to" >/dev/null && die "icmp of another tenant reached $to"
done
says 'FAILED|INCOMPLETE' ssh_to "$others" "sudo ip neigh show $one" || die "another tenant's question for $one was not asked, or was answered"
[ "$(as blue os server list -f value -c Name)" = other ] || die "a tenant sees servers of another"

echo "-- metadata answers a guest with its own, whatever it claims"
# A proxy of the original's is believed such headers; a guest that writes them must not be.
own() { # TENANT SERVER CLAIMED-ID CLAIMED-ADDRESS COMMAND...: the command runs a script in the server
    local who=$1-$2 id=$3 from=$4; shift 4
    local meta data
    ask() {
        base64 -w 0 <<SCRIPT
printf 'GET %s HTTP/1.0\r\nHost: 169.254.169.254\r\nX-Instance-ID: %s\r\nX-Forwarded-For: %s\r\n\r\n' $1 $id $from | nc -w 5 169.254.169.254 80
SCRIPT
    }
    meta=$("$@" "echo $(ask /openstack/latest/meta_data.json) | base64 -d | sh")
    grep -q "\"uuid\": *\"$(cat "$state/$who.id")\"" <<<"$meta" || die "$who was told: $meta"
    data=$("$@" "echo $(ask /openstack/latest/user_data) | base64 -d | sh")
    [ "$(tail -n 1 <<<"$data")" = "$(cat "$state/$who.data")" ] || die "the user data of $who are: $data"
}
own red two "$(cat "$state/blue-other.id")" "$one" hop $same
own blue other "$(cat "$state/red-two.id")" "$same" ssh_to "$others"
own red one "$(cat "$state/red-two.id")" $same ssh_to "$address"
own red far "$(cat "$state/red-one.id")" "$one" hop "$far"

echo "-- kill -9 of the control plane: servers run on and are adopted"
server=$(cat "$state/red-one.id")
before=$(qemu_of "$server")
[ -n "$before" ] || die "the server has no QEMU"
kill -9 "$(pid)"
ssh_to "$address" 'echo persists > ~/mark; sync'
up
[ "$(qemu_of "$server")" = "$before" ] || die "the server was not adopted"
status_is one ACTIVE || die "the adopted server is not ACTIVE"
says '^persists$' ssh_to "$address" cat mark || die "the adopted server lost what was written"

echo "-- kill -9 of a guest shows, and it starts again"
kill -9 "$before"
until_true 5 status_is one SHUTOFF || die "a killed guest does not show"
os server start one
until_true 60 status_is one ACTIVE || die "the server did not start again"
until_true 90 ssh_to "$address" true || die "no ssh after the restart"

echo "-- deletion leaves nothing"
leave() { # SERVER... of a tenant, and its network
    os server delete --wait "$@"
    os router remove subnet r a
    os router unset --external-gateway r
    os floating ip delete "$(cat "$state/$OS_CLOUD.address")"
}
as blue leave other &
blue=$!
os server delete --wait two far
os router remove subnet r b
leave one
wait $blue
os router delete r
as blue os router delete r
os network delete a b
as blue os network delete a
left=$(ls -A "$state/agent/servers")$(ls -A "$state/agent/notes")
[ -z "$left" ] || die "something of the servers is left: $left"
[ -z "$(qemu_of "$server")" ] || die "a QEMU is left"
no_items() { [ -z "$(ls "$state/agent/items" | grep -v '^pool~')" ]; }
until_true 10 no_items || die "items are left: $(ls "$state/agent/items")"
prefix=$(grep -o '"prefix":"[^"]*"' "$state/agent/dataplane.json" | cut -d'"' -f4)
no_namespaces() { ! says "^$prefix-" ip netns list; }
until_true 10 no_namespaces || die "namespaces are left: $(ip netns list | grep "^$prefix-")"
"$UNKAI" down --state "$state"
"$UNKAI" store check --state "$state"
echo "-- all well"
