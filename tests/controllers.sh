#!/bin/bash
# Three controllers on one PostgreSQL, an agent that knows them all, and clients that write without pause while controllers are killed and
# paused. Then the store moves to SQLite and back while a server runs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"
id=$$
dir=/var/tmp/unkai-controllers-$id
netns=unkai-controllers-$id
first=$((20000 + id % 10000))
venv=$("$root/scripts/venv.sh" client python-openstackclient)
pg=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
mkdir -m 0711 "$dir"
install -d -o postgres -g postgres "$dir/pg"
store="postgres:///postgres?host=$dir/pg&user=postgres"
as_postgres() { setpriv --reuid postgres --regid postgres --clear-groups env LC_ALL=C "$@"; }
pid() { cut -d' ' -f1 "$dir/$1/unkai.pid"; }
controller() { # NUMBER [STORE]
    "$UNKAI" controller --state "$dir/c$1" --listen "127.0.0.1:$((first + $1))" --images "$dir/images" --store "${2:-$store}" --detach
}
agent() { "$UNKAI" agent --state "$dir/h" --name h --netns "$netns" --detach "$@"; }
finish() {
    status=$?
    if [ $status != 0 ]; then
        for d in c1 c2 c3 h; do echo "--- last words of $d"; tail -n 15 "$dir/$d/unkai.log" || true; done
    fi
    for d in h c1 c2 c3; do "$UNKAI" down --servers --state "$dir/$d" >/dev/null 2>&1 || true; done
    as_postgres "$pg/pg_ctl" -D "$dir/pg/data" -m immediate stop >/dev/null 2>&1 || true
    ip netns del "$netns" 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
host_is_up() { says " h  Up " "$UNKAI" host list --state "$dir/c$1"; }

echo "-- PostgreSQL, three controllers, one host"
as_postgres "$pg/initdb" -A trust -U postgres -E UTF8 --no-locale -D "$dir/pg/data" >/dev/null
as_postgres "$pg/pg_ctl" -D "$dir/pg/data" -l "$dir/pg/log" -w -o "-k $dir/pg -c listen_addresses=" start >/dev/null
mkdir "$dir/images"
for n in 1 2 3; do controller $n; done
agent --join "https://127.0.0.1:$((first + 1))" --token "$("$UNKAI" host token --state "$dir/c2")"
for n in 1 2 3; do until_true 10 host_is_up $n || die "controller $n does not know that the host is up"; done
export OS_CLIENT_CONFIG_FILE=$dir/c1/clouds.yaml OS_CLOUD=unkai OS_COMPUTE_API_VERSION=2.79
os quota set --networks -1 admin
os image create mini --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
os server create s --image mini --flavor m1.nano --nic none -f value -c id >/dev/null
until_true 60 status_is s ACTIVE || die "the server is not ACTIVE"
server=$(os server show s -f value -c id)
qemu=$(qemu_of "$server")
[ -n "$qemu" ] || die "the server has no QEMU"

echo "-- writes without pause; controllers are killed, started again, paused and woken"
export UNKAI DIR=$dir FIRST=$first STORE=$store
"$venv/bin/python" "$root/tests/controllers.py"
for n in 1 2 3; do until_true 20 host_is_up $n || die "the host is not up for controller $n"; done
until_true 10 status_is s ACTIVE || die "the server is not ACTIVE"
[ "$(qemu_of "$server")" = "$qemu" ] || die "the server did not run on"

echo "-- the store moves to SQLite and back while the server runs"
networks() { os network list -f value -c ID | sort | sha256sum; }
before=$(networks)
for n in 1 2 3; do "$UNKAI" down --state "$dir/c$n" >/dev/null; done
"$UNKAI" store migrate --from "$store" --to "sqlite:$dir/moved"
controller 1 "sqlite:$dir/moved"
until_true 20 host_is_up 1 || die "the host did not come to the moved cloud"
until_true 10 status_is s ACTIVE || die "the server is not ACTIVE in the moved cloud"
[ "$(networks)" = "$before" ] || die "the moved cloud is not the same"
"$UNKAI" down --state "$dir/c1" >/dev/null
"$UNKAI" store migrate --from "sqlite:$dir/moved" --to "$store" 2>"$dir/refusal" && die "a store that is not empty was overwritten"
grep -q "not empty" "$dir/refusal" || die "the refusal says nothing: $(cat "$dir/refusal")"
as_postgres createdb -h "$dir/pg" -U postgres back
"$UNKAI" store migrate --from "sqlite:$dir/moved" --to "postgres:///back?host=$dir/pg&user=postgres"
controller 1 "postgres:///back?host=$dir/pg&user=postgres"
until_true 20 host_is_up 1 || die "the host did not come back"
[ "$(networks)" = "$before" ] || die "the cloud that moved back is not the same"
[ "$(qemu_of "$server")" = "$qemu" ] || die "the server did not run on"
os server delete s
gone() { [ -z "$(qemu_of "$server")" ]; }
until_true 30 gone || die "the deleted server still runs"
echo "-- all well"
