#!/bin/bash
# Everything that is checked. Says what it runs; the last line counts.
# usage: tests/run.sh [PART]...     parts: lint deny unit smoke volumes hosts ha controllers tour console interop    (default: all)
set -uo pipefail
cd "$(dirname "$0")/.."
parts=${*:-lint deny unit smoke volumes hosts ha controllers tour console interop}
passed=0 failed=0 skipped=0
summary=()

count() { # NAME PASSED FAILED SKIPPED
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    summary+=("$(printf '%-11s %4d passed, %d failed, %d skipped' "$1" "$2" "$3" "$4")")
}

lint() {
    echo "== lint: formatting and clippy"
    cargo fmt --all -- --check && cargo clippy -q --workspace --all-targets -- -D warnings
}

deny() {
    echo "== deny: licences, banned crates and sources of what is built in"
    if ! command -v cargo-deny >/dev/null; then
        echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"
        count deny 0 0 1
        return
    fi
    if cargo deny --log-level warn check licenses bans sources; then count deny 1 0 0; else count deny 0 1 0; return 1; fi
}

unit() {
    echo "== unit: tests of all crates, with real PostgreSQL, QEMU, packets between namespaces"
    cargo build -q --workspace --all-targets || return 1
    target/debug/unkai image build mini || return 1
    export UNKAI_MINI_DIR=$PWD/target/images/mini
    cargo test --workspace --no-fail-fast 2>&1 | tee target/unit.log
    local status=${PIPESTATUS[0]}
    # shellcheck disable=SC2046
    count unit $(awk '/^test result:/ { for (i = 1; i <= NF; i++) { if ($i == "passed;") p += $(i-1); if ($i == "failed;") f += $(i-1); if ($i == "ignored;") s += $(i-1) } }
        END { print p + 0, f + 0, s + 0 }' target/unit.log)
    return "$status"
}

smoke() {
    echo "== smoke: one machine through the openstack client: two tenants, ssh, adoption, kill -9, deletion leaves nothing"
    tests/smoke.sh
}

volumes() {
    echo "== volumes: guests write, volumes move, are snapshotted, encrypted, backed up, given away; the control plane is killed meanwhile"
    tests/volumes.sh
}

hosts() {
    echo "== hosts: three hosts in namespaces: enrolment, guests across them, a dead router host, revocation"
    tests/hosts.sh
}

ha() {
    echo "== ha: a host is cut off, one dies, all controllers are away: servers run elsewhere, and never twice"
    tests/ha.sh
}

controllers() {
    echo "== controllers: three on one PostgreSQL, killed and paused under load; the store moves to SQLite and back"
    tests/controllers.sh
}

tour() {
    echo "== tour: the README's five minutes, word for word"
    tests/tour.sh
}

console() {
    echo "== console: a guest's screen and keyboard in a real browser"
    tests/console.sh
}

interop() {
    echo "== interop: the official interoperability list for compute, and block storage's own tests"
    cat tests/interop/compute.txt tests/interop/volume.txt > target/interop.txt
    tests/interop/run.sh target/interop.txt | tee target/interop.log
    local status=${PIPESTATUS[0]}
    # shellcheck disable=SC2046
    count interop $(awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { print $1 + 0, $3 + 0, $5 + 0 }' target/interop.log | tail -n 1)
    return "$status"
}

mkdir -p target/parts
bad=
for part in $parts; do
    began=$SECONDS
    exec 3>&1 4>&2 > >(tee "target/parts/$part.log" >&3) 2>&1
    if "$part"; then verdict=ok; else verdict=FAILED bad="$bad $part"; fi
    exec 1>&3 2>&4 3>&- 4>&-
    case $part in lint | smoke | volumes | hosts | ha | controllers | tour | console) if [ $verdict = ok ]; then count "$part" 1 0 0; else count "$part" 0 1 0; fi ;; esac
    echo "== $part: $verdict after $((SECONDS - began)) s"
done
# Once more at the end, where it is not overlooked.
for part in $bad; do
    echo "== how $part failed"
    grep -E '^(FAILED|error|test .* FAILED|---- .* stdout ----)' -A 3 "target/parts/$part.log" | head -n 40
    tail -n 60 "target/parts/$part.log" | cut -c -300
done
echo "== what ran"
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ -z "$bad" ]
