# shellcheck shell=bash
# Three hosts, each a network namespace with an agent of its own, on an underlay made of a bridge and veth pairs; one controller beside
# them. Sourced by the scripts that try something on them; everything ends with the script.
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"
id=$$
dir=/var/tmp/unkai-hosts-$id
ns=uh$id
url=https://10.9.0.254:8443
venv=$("$root/scripts/venv.sh" client python-openstackclient)
mkdir -m 0711 "$dir"
export OS_CLIENT_CONFIG_FILE=$dir/c/clouds.yaml OS_CLOUD=unkai OS_COMPUTE_API_VERSION=2.79
# Not `ip netns exec`: it would hide the control groups below /sys.
in_ns() { local n=$1; shift; nsenter --net="/run/netns/$ns-$n" "$@"; }
in_c() { in_ns c "$@"; }
os() { in_c "$venv/bin/openstack" "$@"; }
pid() { cut -d' ' -f1 "$dir/$1/unkai.pid"; }
controller() { in_c "$UNKAI" controller --state "$dir/c" --listen 10.9.0.254:8443 --external 203.0.113.0/24 --host-certificates "${LIFE:-30d}" --detach; }
agent() { # NUMBER OPTION...
    local n=$1; shift
    in_ns $n "$UNKAI" agent --state "$dir/h$n" --name "h$n" --netns "$ns-$n" --underlay "10.9.0.$n" --external public=ext --detach "$@"
}
finish() {
    status=$?
    if [ $status != 0 ]; then
        for d in c h1 h2 h3; do echo "--- last words of $d"; tail -n 25 "$dir/$d/unkai.log" || true; done
        "$UNKAI" status --state "$dir/c" || true
    fi
    for d in h1 h2 h3 c; do "$UNKAI" down --servers --state "$dir/$d" >/dev/null 2>&1 || true; done
    for n in c 1 2 3; do ip netns del "$ns-$n" 2>/dev/null || true; done
    ip netns del "$ns-u" 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
ended() { until_true 30 [ ! -e "$dir/$1/unkai.pid" ] || die "$1 does not end"; }
millis() { echo $(($(date +%s%N) / 1000000)); }
host_is() { says " $1  $2 " "$UNKAI" host list --state "$dir/c"; }
ssh_to() { local a=$1; shift; in_c ssh -i "$dir/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=3 "debian@$a" "$@"; }

echo "-- underlay and external network"
ip netns add "$ns-u"
ip -n "$ns-u" link add under type bridge
ip -n "$ns-u" link set under up
ip -n "$ns-u" link add ext type bridge
ip -n "$ns-u" link set ext up
for n in c 1 2 3; do
    ip netns add "$ns-$n"
    ip -n "$ns-$n" link set lo up
    for net in under ext; do
        ip -n "$ns-$n" link add $net type veth peer name "$net-$n" netns "$ns-u"
        ip -n "$ns-u" link set "$net-$n" master $net up
        ip -n "$ns-$n" link set $net up
    done
done
ip -n "$ns-c" addr add 10.9.0.254/24 dev under
ip -n "$ns-c" addr add 203.0.113.1/24 dev ext
for n in 1 2 3; do ip -n "$ns-$n" addr add "10.9.0.$n/24" dev under; done
qemus_of() { pgrep -f -- "qemu-system.*$dir/h$1/" || true; }
namespaces_of() { ip netns list | cut -d' ' -f1 | grep "^$(grep -o '"prefix":"[^"]*"' "$dir/h$1/agent/dataplane.json" | cut -d'"' -f4)-"; }
die_host() { # NUMBER: as when its power goes
    ip -n "$ns-u" link set "under-$1" down
    ip -n "$ns-u" link set "ext-$1" down
    kill -9 "$(pid "h$1")"
    for q in $(qemus_of "$1"); do kill -9 "$q"; done
    ip netns pids "$ns-$1" | xargs -r kill -9 2>/dev/null || true
    for net in $(namespaces_of "$1"); do ip netns del "$net"; done
}
