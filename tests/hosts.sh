#!/bin/bash
# Servers on different hosts, one network over them; a host is revoked; the host that carries a router dies.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/hosts-lib.sh
. "$root/tests/hosts-lib.sh"

echo "-- a controller, and three machines that join with one token"
controller
says '^unkai-host-' "$UNKAI" host token --state "$dir/c" || die "no token"
agent 1 --join $url --token "unkai-host-AAAA" 2>"$dir/refusal" && die "nonsense was taken for a token"
grep -q "not a host token" "$dir/h1/unkai.log" "$dir/refusal" || die "the refusal of nonsense says nothing"
token=$("$UNKAI" host token --uses 3 --state "$dir/c")
for n in 1 2 3; do agent $n --join $url --token "$token"; done
agent 1 --again --join $url --token "$token" 2>/dev/null && die "a spent token was taken" || true
for n in 1 2 3; do until_true 10 host_is h$n Up || die "host h$n is not up"; done
grep -rq "$token" "$dir/c" && die "the token is stored"
"$UNKAI" host list --state "$dir/c"

echo "-- servers on all three, by anti-affinity"
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
os keypair create k --public-key "$dir/key.pub" -f value -c name
os security group create friends -f value -c id >/dev/null
os security group rule create friends --protocol tcp --dst-port 22 --remote-ip 203.0.113.0/24 -f value -c id >/dev/null
os security group rule create friends --protocol icmp --remote-group friends -f value -c id >/dev/null
os security group create strangers -f value -c id >/dev/null
os network create a -f value -c id >/dev/null
os subnet create a --network a --subnet-range 172.16.0.0/24 -f value -c id >/dev/null
os router create r --external-gateway public -f value -c id >/dev/null
os router add subnet r a
group=$(os server group create apart --policy anti-affinity -f value -c id)
for s in one two; do os server create $s --image mini --flavor m1.nano --network a --security-group friends --key-name k --hint group="$group" -f value -c id >/dev/null; done
os server create three --image mini --flavor m1.nano --network a --security-group strangers --key-name k --hint group="$group" -f value -c id >/dev/null
for s in one two three; do until_true 90 status_is $s ACTIVE || { "$UNKAI" why $s --state "$dir/c"; die "$s is not ACTIVE"; }; done
hosts=$(for s in one two three; do os server show $s -f value -c OS-EXT-SRV-ATTR:host; done | sort -u | wc -l)
[ "$hosts" = 3 ] || die "three servers are on $hosts hosts"
address_of() { os server show "$1" -f json -c addresses | grep -oE '172\.[0-9.]+' | head -n 1; }
two=$(address_of two) three=$(address_of three)
floating=$(os floating ip create public -f value -c floating_ip_address)
os server add floating ip one "$floating"
ssh_works() { ssh_to "$floating" true 2>/dev/null; }
until_true 120 ssh_works || { os console log show one | tail -n 20; die "no ssh to $floating"; }
pings() { ssh_to "$floating" "sudo ping -c 1 -W 2 $1" >/dev/null 2>&1; }
until_true 60 pings "$two" || die "no ping between hosts"
pings "$three" && die "a group's rule does not hold across hosts"
os server add security group three friends
until_true 60 pings "$three" || die "a new member of the group is not known on the other host"
md() { ssh_to "$floating" "wget -qO- http://169.254.169.254/openstack/latest/meta_data.json 2>/dev/null || (printf 'GET /openstack/latest/meta_data.json HTTP/1.0\r\n\r\n'; sleep 1) | nc 169.254.169.254 80"; }
says '"name": *"one"' md || die "no metadata"
for n in 1 2 3; do
    for net in $(ip netns list | cut -d' ' -f1 | grep -- "$(grep -o '"prefix":"[^"]*"' "$dir/h$n/agent/dataplane.json" | cut -d'"' -f4)-n-"); do
        says '00:00:00:00:00:00' ip netns exec "$net" bridge fdb show dev vx0 && die "host h$n floods"
    done
done

echo "-- the controller is killed: hosts go on, and come back to it"
kill -9 "$(pid c)"
until_true 20 pings "$two" || die "servers do not go on without a controller"
controller
for n in 1 2 3; do until_true 20 host_is h$n Up || die "host h$n did not come back"; done
until_true 10 status_is one ACTIVE || die "a server is not ACTIVE"

echo "-- an agent starts again without a token, and its servers run on"
kill -9 "$(pid h2)"
agent 2
until_true 20 host_is h2 Up || die "h2 did not come back"
until_true 20 pings "$two" || die "no ping after the agent's restart"

echo "-- the host that carries the router dies: another takes over"
carrier=
for n in 1 2 3; do says '-r-' namespaces_of $n && carrier=$n; done
[ -n "$carrier" ] || die "no host carries the router"
one_on=$(os server show one -f value -c OS-EXT-SRV-ATTR:host | tr -d h)
if [ "$carrier" = "$one_on" ]; then
    os floating ip unset --port "$floating"
    os server add floating ip two "$floating"
    until_true 60 ssh_works || die "the floating IP did not move"
fi
die_host $carrier
died=$(millis)
until_true 60 host_is "h$carrier" Lost || die "the dead host is not lost"
lost=$(millis)
reaches() { in_c timeout 1 bash -c "exec 3<>/dev/tcp/$floating/22" 2>/dev/null; }
until_true 30 reaches || die "the router was not taken over"
echo "   lost after $((lost - died)) ms; the floating IP answers again $(($(millis) - lost)) ms later"

echo "-- a revoked host is cut off at once, and for good"
other=
for n in 1 2 3; do [ $n = "$carrier" ] || other=$n; done
"$UNKAI" host revoke h$other --state "$dir/c"
until_true 20 grep -q "cut off" "$dir/c/unkai.log" || die "the session was not cut"
host_is h$other Revoked || die "the host is not shown as revoked"
before=$(grep -c "refused a host" "$dir/c/unkai.log" || true)
refused_again() { [ "$(grep -c "refused a host" "$dir/c/unkai.log")" -gt "$before" ]; }
until_true 20 refused_again || die "the revoked host was not refused"
kill "$(pid h$other)"
token=$("$UNKAI" host token --host h$other --state "$dir/c")
ended "h$other"
agent $other --again --join $url --token "$token"
until_true 20 host_is h$other Up || die "the host was not admitted again"

echo "-- what others run here is shown; certificates are renewed"
qemu-system-x86_64 -name stranger -m 64 -display none -S -machine none -uuid 6b1f1a4e-0000-4000-8000-000000000001 & stranger=$!
shows() { says "unmanaged  stranger  qemu  running" "$UNKAI" status --state "$dir/c"; }
until_true 20 shows || { kill $stranger; die "an unmanaged machine is not shown"; }
kill $stranger
no_stranger() { ! shows; }
until_true 20 no_stranger || die "an unmanaged machine is still shown"
kill "$(pid c)"
ended c
LIFE=12s controller
kill "$(pid h$other)"
ended "h$other"
token=$("$UNKAI" host token --host h$other --state "$dir/c")
agent $other --again --join $url --token "$token"
renewed() { [ "$(grep -c "certificate is renewed" "$dir/h$other/unkai.log")" -ge 2 ]; }
until_true 40 renewed || die "the certificate was not renewed"
host_is h$other Up || die "the host with the renewed certificate is not up"
echo "-- all well"
