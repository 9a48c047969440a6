#!/bin/bash
# The console of a real guest in a real browser: the page is loaded by its token's URL, trusts the cloud's CA and nothing else, shows the
# guest's screen, and what is typed there the guest does. The last screen is kept in target/console.png.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/lib.sh
. "$root/tests/lib.sh"
cloud console
up
os image create mini --public --disk-format qcow2 --container-format bare --file "$root/target/images/mini/mini.qcow2" -f value -c status
os server create one --image mini --flavor m1.nano --nic none -f value -c id
until_true 60 status_is one ACTIVE || die "the server is not ACTIVE"
# Both consoles ask for a name at the same time; the serial one can be read.
asks() { says 'login:' os console log show one; }
until_true 60 asks || die "the guest does not ask for a name"
url=$(os console url show --novnc one -f value -c url)
python3 "$root/tests/console.py" "$url" "$state/ca.pem" "$root/target/console.png"
# A page without a right token connects to nothing.
wrong=$(python3 "$root/tests/console.py" "${url%????}0000" "$state/ca.pem" "$state/wrong.png" 2>&1) && die "any token will do: $wrong"
grep -q "'state': 'closed'" <<<"$wrong" || die "a wrong token: $wrong"
