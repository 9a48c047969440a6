#!/bin/sh
# Prints the path of a Python environment with the given packages, making it the first time.
# usage: scripts/venv.sh NAME PACKAGE...
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
name=$1
shift
venv=$root/target/venv/$name
stamp=$venv/.packages
if [ "$(cat "$stamp" 2>/dev/null)" != "$*" ]; then
    echo "python: $*" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check "$@" >&2
    echo "$*" > "$stamp"
fi
echo "$venv"
