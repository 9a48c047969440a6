# shellcheck shell=bash
# Shared by the scripts that drive a cloud of their own; sourced, not run. `cloud NAME` makes room for one; it ends with the script.
UNKAI=${UNKAI:-$root/target/debug/unkai}

cloud() { # NAME: a state directory, a network namespace and a port that nobody else has
    id=$$
    state=/var/tmp/unkai-$1-$id
    netns=unkai-$1-$id
    port=$((20000 + id % 10000))
    venv=$("$root/scripts/venv.sh" client python-openstackclient)
    export OS_CLIENT_CONFIG_FILE=$state/clouds.yaml OS_CLOUD=unkai OS_COMPUTE_API_VERSION=2.79
    trap finish EXIT
}
finish() {
    status=$?
    [ $status = 0 ] || { echo "--- last words of the cloud"; tail -n 30 "$state/unkai.log"; }
    # shellcheck disable=SC2086
    [ -z "${children:-}" ] || kill $children 2>/dev/null || true
    "$UNKAI" down --servers --state "$state" >/dev/null 2>&1 || true
    ip netns del "$netns" 2>/dev/null || true
    rm -rf "$state"
}
die() { echo "FAILED: $*" >&2; exit 1; }
os() { "$venv/bin/openstack" "$@"; }
up() { "$UNKAI" up --state "$state" --listen "127.0.0.1:$port" --netns "$netns" --detach; }
pid() { cut -d' ' -f1 "$state/unkai.pid"; }
until_true() { # SECONDS COMMAND...: waits for a condition, never for a time
    local deadline=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -lt $deadline ] || return 1; sleep 0.1; done
}
says() { # PATTERN COMMAND...: reads all that the command says, so that it is not cut off by who has read enough
    local pattern=$1 said; shift
    said=$("$@") && grep -qE -- "$pattern" <<<"$said"
}
status_is() { [ "$(os server show "$1" -f value -c status 2>/dev/null)" = "$2" ]; }
in_ns() { ip netns exec "$netns" "$@"; }
ssh_to() { # ADDRESS COMMAND...: with agent=yes a guest may ask our ssh-agent
    local a=$1; shift
    in_ns ssh -n -i "$state/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o ConnectTimeout=3 -o ForwardAgent="${agent:-no}" "debian@$a" "$@"
}
# Of a server. From the beginning of the command line: another search for it is not it.
qemu_of() { pgrep -f -- "^[^ ]*/qemu-system[^ ]* .*-uuid $1" || true; }
