# Shared by the image recipes; sourced, not run.

# need_packages FILE: stops with the exact command when a Debian package named in FILE is not installed. "package:command" is
# also satisfied by the command alone, wherever it came from.
need_packages() {
  missing=
  for entry in $(sed 's/#.*//' "$1"); do
    package=${entry%%:*}
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' && continue
    case $entry in *:*) command -v "${entry#*:}" >/dev/null && continue ;; esac
    missing="$missing $package"
  done
  [ -z "$missing" ] || {
    echo "missing Debian packages; install them with:" >&2
    echo "  apt-get install --no-install-recommends$missing" >&2
    exit 3
  }
}

# package_versions FILE: "name version" of every package named in FILE (part of the fingerprint of an image).
package_versions() {
  dpkg-query -W $(sed 's/#.*//' "$1")
}

step() { echo "image: $*" >&2; }
