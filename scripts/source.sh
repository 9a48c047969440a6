#!/bin/sh
# Where this machine's apt gets a suite from: options and address as a one-line source has them. Fails when it has no such source.
# usage: scripts/source.sh SUITE      APT_SOURCES=DIR looks there instead of /etc/apt; both styles of sources are read
set -eu
dir=${APT_SOURCES:-/etc/apt}
files=$(find "$dir/sources.list" "$dir/sources.list.d" -maxdepth 1 \( -name '*.list' -o -name '*.sources' \) 2>/dev/null | sort)
[ -n "$files" ] || exit 1
# shellcheck disable=SC2086
exec awk -v suite="$1" '
    function found(uri, key) { if (!seen++) print (key ? "[signed-by=" key "] " : "") uri }
    function stanza() {
        if (types ~ /(^| )deb( |$)/ && enabled != "no" && index(suites " ", " " suite " ") && uris) { split(uris, u, " "); found(u[1], key) }
        types = uris = suites = key = enabled = field = ""
    }
    FNR == 1 { stanza() }
    /^[ \t]*#/ { next }
    FILENAME ~ /\.sources$/ {
        if ($0 ~ /^[ \t]*$/) { stanza(); next }
        if ($0 !~ /^[ \t]/) { field = tolower(substr($0, 1, index($0, ":") - 1)); sub(/^[^:]*:/, "") }
        gsub(/^[ \t]+|[ \t]+$/, ""); gsub(/[ \t]+/, " ")
        if (field == "types") types = types " " $0
        if (field == "uris") uris = uris (uris ? " " : "") $0
        if (field == "suites") suites = suites " " $0
        if (field == "signed-by" && $0 ~ /^\//) key = $0
        if (field == "enabled") enabled = tolower($0)
        next
    }
    $1 == "deb" {
        options = ""
        if ($2 ~ /^\[/) { options = $0; sub(/^[^[]*/, "", options); sub(/\].*/, "]", options); sub(/\[[^]]*\]/, "") }
        if ($3 == suite && !seen++) print (options ? options " " : "") $2
    }
    END { stanza(); exit !seen }' $files
