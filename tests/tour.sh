#!/bin/bash
# The README's five minutes, as they are written there: every command of the tour is read out of README.md, run, and its output compared
# with what the page shows. What differs from run to run (ids, times, addresses of the pool, kernel and machine) is masked on both sides.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
UNKAI=${UNKAI:-$root/target/debug/unkai}
work=/var/tmp/unkai-tour-$$
venv=$("$root/scripts/venv.sh" client python-openstackclient)
# The tour's own names, made ours: its directory, its namespace and its port may be somebody's.
state=$work/cloud netns=unkai-tour-$$ port=$((20000 + $$ % 10000))
ours() { sed -e "s|/tmp/cloud|$state|g" -e "s|--netns cloud|--netns $netns --listen 127.0.0.1:$port|g" -e "s|netns exec cloud|netns exec $netns|g" -e "s|~/\.ssh/|$work/|g"; }
finish() {
    status=$?
    "$UNKAI" down --servers --state "$state" >/dev/null 2>&1 || true
    ip netns del "$netns" 2>/dev/null || true
    [ $status = 0 ] || { echo "--- last words of the cloud"; tail -n 20 "$state/unkai.log"; }
    rm -rf "$work"
    exit $status
}
trap finish EXIT
die() { echo "FAILED: $*" >&2; exit 1; }

section() { awk '/^## /{in_it = ($0 ~ /^## (Five minutes|5 分間ツアー)$/)} in_it' "$1"; }
# Lines of the tour's code blocks: "$ COMMAND", and what it printed.
blocks() { section "$1" | awk '/^```/{in_it = !in_it; next} in_it'; }
commands() { blocks "$1" | sed -n 's/^\$ //p'; }
diff <(commands "$root/README.md") <(commands "$root/README.ja.md") || die "the two READMEs give different commands"
[ "$(commands "$root/README.md" | wc -l)" -ge 15 ] || die "the tour was not found"

# A word of both sides that differs from run to run.
mask() {
    sed -E -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/ID/g' -e 's/203\.0\.113\.[0-9]+/ADDRESS/g' \
        -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/g' -e 's/\+[0-9]+ ms/+N ms/g' -e 's/127\.0\.0\.1:[0-9]+/LISTEN/g' \
        -e 's/^Linux s1 .* x86_64/Linux s1 KERNEL x86_64/' -e 's/revision [0-9]+/revision N/' -e 's/[0-9]+ of [0-9]+/N of N/g' \
        -e 's/host( +)[^ ]+( +Up| \(Up\))/host\1HOST\2/' -e 's/[[:space:]]+$//'
}
mkdir -p "$work/bin"
ln -s "$UNKAI" "$work/bin/unkai"
ssh-keygen -q -t ed25519 -N '' -f "$work/id_ed25519"
# The tour's ssh asks about the host and finds the key where people have it.
cat > "$work/bin/ssh" <<SSH
#!/bin/sh
for try in \$(seq 60); do
    /usr/bin/ssh -n -i $work/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=3 "\$@" 2>/dev/null && exit
    sleep 0.5
done
exit 1
SSH
chmod +x "$work/bin/ssh"
export PATH=$work/bin:$venv/bin:$PATH
cd "$root"

# One shell for the whole tour, as a person has one. `shown` is what the page prints after a command; nothing means "not said".
command='' shown='' address=''
step() {
    [ -n "$command" ] || return 0
    local line
    line=$(ours <<<"$command" | sed "s/203\.0\.113\.64/$address/g")
    echo "\$ $command"
    case $line in export\ *) eval "$line"; return ;; esac
    # The page's server is up when its reader has typed the next line.
    case $line in unkai\ why* | kill* | unkai\ status*) until [ "$(openstack server show s1 -f value -c status 2>/dev/null)" = ACTIVE ]; do sleep 0.2; done ;; esac
    bash -c "$line" > "$work/output" || die "\`$command\` failed: $(cat "$work/output")"
    case $command in "openstack floating ip create"*) address=$(cat "$work/output") ;; esac
    local missing
    missing=$(comm -23 <(mask <<<"$shown" | grep -vxF '  ...' | grep . | sort -u) <(mask < "$work/output" | sort -u))
    [ -z "$missing" ] || die "\`$command\` does not print what the README shows:
$missing
but:
$(cat "$work/output")"
}
while IFS= read -r line <&4; do
    case $line in
        '$ '*) step; command=${line#\$ } shown='' ;;
        *) shown+="$line"$'\n' ;;
    esac
done 4< <(blocks "$root/README.md")
step
echo "-- the tour is as the README says"
