#!/bin/bash
# Figures of one machine in one run, beside those of a real OpenStack (docs/bench.md has the meaning). Nothing here passes or fails.
# usage: bench/run.sh [client options]       needs OSBENCH: the client program (python, standard library only)
#   SIMULATED_HOSTS=N: N simulated hosts instead of this machine with a real QEMU for each server
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
UNKAI=${UNKAI:-$root/target/release/unkai}
OSBENCH=${OSBENCH:-$root/bench/osbench.py}
state=/var/tmp/unkai-bench-$$
netns=unkai-bench-$$
[ -f "$OSBENCH" ] || { echo "bench: set OSBENCH to the API benchmark client" >&2; exit 2; }
finish() {
    "$UNKAI" down --servers --state "$state" >/dev/null 2>&1 || true
    ip netns del "$netns" 2>/dev/null || true
    rm -rf "$state"
}
trap finish EXIT
began=$(date +%s%N)
if [ -n "${SIMULATED_HOSTS:-}" ]; then where="--simulated-hosts $SIMULATED_HOSTS"; else where="--netns $netns"; fi
# shellcheck disable=SC2086
"$UNKAI" up --state "$state" --listen 127.0.0.1:18466 $where --detach
echo "{\"figure\": \"up_ready\", \"unit\": \"ms\", \"value\": $((($(date +%s%N) - began) / 1000000))}"
. "$state/openrc"
venv=$("$root/scripts/venv.sh" client python-openstackclient)
os() { "$venv/bin/openstack" "$@"; }
os image create bench --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c id >/dev/null
os network create bench -f value -c id >/dev/null
os subnet create bench --network bench --subnet-range 10.200.0.0/16 -f value -c id >/dev/null
os flavor create bench --ram 128 --disk 1 --vcpus 1 -f value -c id >/dev/null
os quota set --ports -1 --networks -1 --instances -1 --cores -1 --ram -1 admin >/dev/null
pid=$(cut -d' ' -f1 "$state/unkai.pid")
export BENCH_CPU_CMD="awk '{print (\$14 + \$15) / $(getconf CLK_TCK)}' /proc/$pid/stat"
python3 "$OSBENCH" --label unkai "$@"
echo "{\"figure\": \"memory_rss\", \"unit\": \"MiB\", \"value\": $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")}"
