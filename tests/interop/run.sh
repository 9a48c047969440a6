#!/bin/bash
# Runs a list of Tempest tests against a cloud of its own (or, with UNKAI_STATE_DIR, one that runs).
# usage: tests/interop/run.sh LIST        LIST: test ids, one a line; a prefix such as tempest.api.network is fine
# Last line: "N passed, N failed, N skipped". Failures are named above it with their first line; details in target/interop/run.log.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
list=$(readlink -f "$1")
UNKAI=${UNKAI:-$root/target/debug/unkai}
work=${INTEROP_DIR:-$root/target/interop}
port=${INTEROP_PORT:-18463}
mkdir -p "$work/etc" "$work/lock"
venv=$("$root/scripts/venv.sh" tempest tempest==47.0.0 python-openstackclient) || exit 2

if [ -z "${UNKAI_STATE_DIR:-}" ]; then
    UNKAI_STATE_DIR=/var/tmp/unkai-interop-$port
    rm -rf "$UNKAI_STATE_DIR"
    # The cloud, its external network and the tests share one namespace, so that tests reach guests.
    netns=unkai-interop-$port
    finish() {
        nsenter --net="/run/netns/$netns" "$UNKAI" down --servers --state "$UNKAI_STATE_DIR" >/dev/null 2>&1
        ip netns del "$netns" 2>/dev/null
    }
    trap finish EXIT
    ip netns add "$netns" 2>/dev/null
    ip -n "$netns" link set lo up || exit 2
    run="nsenter --net=/run/netns/$netns"
    $run "$UNKAI" up --state "$UNKAI_STATE_DIR" --listen "127.0.0.1:$port" --detach || exit 2
fi
run=${run:-}
state=$UNKAI_STATE_DIR

# shellcheck disable=SC1091
. "$state/openrc"
os() { $run "$venv/bin/openstack" "$@"; }
image() {
    os image show "$1" -f value -c id 2>/dev/null ||
        os image create "$1" --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c id
}
if ! os network show interop -f value -c id >/dev/null 2>&1; then
    os network create interop --share -f value -c id >/dev/null
    os subnet create interop --network interop --subnet-range 10.250.0.0/16 -f value -c id >/dev/null
fi
image_id=$(image interop) image_alt=$(image interop-alt) || exit 2
flavors=$(os flavor list --sort-column RAM -f value -c ID)
flavor=$(sed -n 1p <<<"$flavors") flavor_alt=$(sed -n 2p <<<"$flavors")
os volume type show multiattach -f value -c id >/dev/null 2>&1 || os volume type create multiattach --property multiattach="<is> True" -f value -c id >/dev/null
public=$(os network list --external -f value -c ID | head -n 1)
extensions=$(os extension list --network -f value -c Alias | paste -sd,)
hosts=$(os hypervisor list -f value -c ID | grep -c .)
cat > "$work/etc/tempest.conf" <<CONF
[DEFAULT]
log_dir = $work
[oslo_concurrency]
lock_path = $work/lock
[auth]
use_dynamic_credentials = true
create_isolated_networks = true
admin_username = $OS_USERNAME
admin_password = $OS_PASSWORD
admin_project_name = $OS_PROJECT_NAME
admin_domain_name = Default
default_credentials_domain_name = Default
tempest_roles = member
[identity]
auth_version = v3
uri_v3 = $OS_AUTH_URL
region = $OS_REGION_NAME
v3_endpoint_type = public
admin_role = admin
default_domain_id = default
ca_certificates_file = $OS_CACERT
user_lockout_failure_attempts = 0
user_unique_last_password_count = 1
[identity-feature-enabled]
domain_specific_drivers = false
security_compliance = true
trust = false
access_rules = true
[service_available]
nova = true
glance = true
neutron = true
cinder = true
swift = false
horizon = false
[compute]
image_ref = $image_id
image_ref_alt = $image_alt
flavor_ref = $flavor
flavor_ref_alt = $flavor_alt
fixed_network_name = interop
min_compute_nodes = $hosts
max_microversion = 2.100
build_timeout = 120
[compute-feature-enabled]
resize = true
snapshot = true
suspend = true
pause = true
shelve = true
rescue = true
console_output = true
interface_attach = true
vnc_console = true
live_migration = false
cold_migration = false
config_drive = true
change_password = false
swap_volume = false
attach_encrypted_volume = true
volume_multiattach = true
[validation]
run_validation = ${RUN_VALIDATION:-true}
connect_method = floating
auth_method = keypair
ssh_key_type = ecdsa
ping_timeout = 120
ssh_timeout = ${SSH_TIMEOUT:-240}
network_for_ssh = public
image_ssh_user = debian
image_ssh_password = gocubsgo
[network]
public_network_id = $public
floating_network_name = public
project_networks_reachable = false
[network-feature-enabled]
ipv6 = true
ipv6_subnet_attributes = true
port_security = true
floating_ips = true
api_extensions = $extensions
[image]
disk_formats = raw,ami,ari,aki
[image-feature-enabled]
import_image = true
os_glance_reserved = true
image_format_enforcement = false
[volume]
build_timeout = 120
min_microversion = 3.0
max_microversion = 3.70
storage_protocol = file
vendor_name = Unkai
volume_type_multiattach = multiattach
[volume-feature-enabled]
multi_backend = false
backup = true
snapshot = true
clone = true
manage_snapshot = false
manage_volume = false
extend_attached_volume = true
extend_attached_encrypted_volume = true
volume_revert = true
consistency_group = false
CONF

cd "$work" || exit 2
if [ ! -f .stestr.conf ]; then
    scratch=$(mktemp -d)
    "$venv/bin/tempest" init --workspace-path "$scratch/workspaces.yaml" "$scratch/ws" >init.log 2>&1 || { cat init.log; exit 2; }
    cp -a "$scratch/ws/.stestr.conf" .
    rm -rf "$scratch"
fi
rm -rf .stestr
"$venv/bin/stestr" init || exit 2
# Some tests open consoles without asking the configuration which authority to trust.
export TEMPEST_CONFIG_DIR=$work/etc OS_TEST_TIMEOUT=600 SSL_CERT_FILE=$OS_CACERT
"$venv/bin/tempest" run --list-tests 2>list.err | grep '\.' > known.txt
"$venv/bin/python" "$here/select.py" "$list" known.txt > load.txt || exit 2
# shellcheck disable=SC2086
timeout "${INTEROP_TIMEOUT:-2400}" $run "$venv/bin/tempest" run --load-list load.txt --concurrency "${CONCURRENCY:-2}" > run.log 2>&1
"$venv/bin/stestr" last --subunit 2>/dev/null | "$venv/bin/subunit2csv" --no-passthrough > results.csv 2>/dev/null
"$venv/bin/python" "$here/judge.py" load.txt results.csv run.log
