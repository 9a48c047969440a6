#!/bin/bash
# From a running machine to a shell in a guest, through the public API, with the unmodified openstack client.
# usage: scripts/demo.sh [--clean]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
UNKAI=${UNKAI:-$root/target/release/unkai}
STATE=${DEMO_STATE:-/var/tmp/unkai-demo}
NETNS=${DEMO_NETNS:-unkai-demo}
LISTEN=${DEMO_LISTEN:-127.0.0.1:8443}
IMAGES=$root/target/images
STEPS=9
began=$(date +%s%N)

if [ "${1:-}" = --clean ]; then
    [ ! -d "$STATE" ] || "$UNKAI" down --servers --state "$STATE" || true
    rm -rf "$STATE"
    ip netns del "$NETNS" 2>/dev/null || true
    exit 0
fi

step=0
say() { # a progress bar on a terminal, a line elsewhere
    step=$((step + 1))
    local seconds
    seconds=$(printf '%d.%01d' $((($(date +%s%N) - began) / 1000000000)) $((($(date +%s%N) - began) / 100000000 % 10)))
    local full
    full=$(printf '%*s' $((step * 2)) '' | tr ' ' '#')
    printf '[%-18s] %5ss  %s\n' "$full" "$seconds" "$*"
}

venv=$("$root/scripts/venv.sh" client python-openstackclient)
os() { "$venv/bin/openstack" --os-cloud unkai "$@"; }
export OS_CLIENT_CONFIG_FILE=$STATE/clouds.yaml

say "starting the cloud in $STATE (network namespace $NETNS)"
"$UNKAI" status --state "$STATE" >/dev/null 2>&1 || "$UNKAI" up --state "$STATE" --listen "$LISTEN" --netns "$NETNS" --detach

say "image, key pair, security group"
os image show mini -f value -c id >/dev/null 2>&1 ||
    os image create mini --public --disk-format qcow2 --container-format bare --file "$IMAGES/mini/mini.qcow2" -f value -c status >/dev/null
[ -f "$STATE/demo-key" ] || ssh-keygen -q -t ed25519 -N '' -C demo -f "$STATE/demo-key"
os keypair show demo >/dev/null 2>&1 || os keypair create demo --public-key "$STATE/demo-key.pub" >/dev/null
if ! os security group show demo >/dev/null 2>&1; then
    os security group create demo >/dev/null
    os security group rule create demo --protocol tcp --dst-port 22 >/dev/null
    os security group rule create demo --protocol icmp >/dev/null
fi

say "network, subnet, router"
if ! os network show demo >/dev/null 2>&1; then
    os network create demo >/dev/null
    os subnet create demo --network demo --subnet-range 172.16.0.0/24 >/dev/null
fi
if ! os router show demo >/dev/null 2>&1; then
    os router create demo --external-gateway public >/dev/null
    os router add subnet demo demo
fi

say "server"
os server show demo >/dev/null 2>&1 && os server delete --wait demo
accepted=$(date +%s%N)
os server create demo --image mini --flavor m1.nano --network demo --security-group demo --key-name demo -f value -c id >/dev/null

say "floating IP"
address=$(os floating ip list -f value -c 'Floating IP Address' | head -n 1)
[ -n "$address" ] || address=$(os floating ip create public -f value -c floating_ip_address)
os server add floating ip demo "$address"

say "waiting for ssh at $address"
in_ns() { ip netns exec "$NETNS" "$@"; }
remote() {
    in_ns ssh -i "$STATE/demo-key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o ConnectTimeout=2 "debian@$address" "$@"
}
deadline=$((SECONDS + 180))
until remote true 2>/dev/null; do
    if [ $SECONDS -ge $deadline ]; then
        echo "no answer from the guest; what is known about it:" >&2
        "$UNKAI" why demo --state "$STATE" >&2
        os console log show demo --lines 20 >&2 || true
        exit 1
    fi
    sleep 0.2
done
ssh_ms=$((($(date +%s%N) - accepted) / 1000000))

say "inside the guest"
remote uname -a

say "what happened"
"$UNKAI" why demo --state "$STATE" | grep -E '^  (accepted|placed|network|started|running)'
printf '  %-9s +%s ms after the request was sent\n' ssh "$ssh_ms"

say "what next"
cat <<EOF
  export OS_CLIENT_CONFIG_FILE=$STATE/clouds.yaml OS_CLOUD=unkai PATH=$venv/bin:\$PATH
  openstack server list
  openstack console log show demo
  ip netns exec $NETNS ssh -i $STATE/demo-key debian@$address
  $UNKAI status --state $STATE
  make clean-demo
EOF
