#!/bin/sh
# Prints a folder that holds a Debian with psql 18 and libpq's OAuth module, for tests that log in as people will: `chroot
# FOLDER psql`. Debian stable has neither yet, so they come from unstable, by debootstrap; that takes root, and some minutes
# once. The folder is outside the checkout. `--check` prints it only if it is there, and builds nothing.
set -eu
# Raised when what is installed changes; the release of PostgreSQL is in FOLDER/.version.
recipe=18-1
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
folder=$cache/psql-$recipe
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

if [ -f "$folder/.version" ]; then
  echo "$folder"
  exit 0
fi
[ "${1:-}" != --check ] || { echo "psql 18 is not there: run scripts/psql18.sh as root" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "psql18.sh: only root can unpack a Debian" >&2; exit 1; }

mkdir -p "$cache"
exec 9>"$cache/psql-$recipe.lock"
flock 9
[ ! -f "$folder/.version" ] || { echo "$folder"; exit 0; }
if ! command -v debootstrap >/dev/null 2>&1; then
  echo "Installing Debian packages: debootstrap" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap; } >/dev/null 2>&1
fi
echo "Unpacking psql 18 and libpq's OAuth module (some minutes, once) ..." >&2
fresh=$folder.$$
trap 'rm -rf "$fresh"' EXIT
debootstrap --variant=minbase --include=ca-certificates,postgresql-client-18,libpq-oauth sid "$fresh" "$mirror" >"$folder.log" 2>&1 ||
  { echo "psql18.sh: it failed; the end of $folder.log:" >&2; tail -5 "$folder.log" >&2; exit 1; }
rm -rf "$fresh"/var/cache/apt/archives/*.deb "$fresh"/var/lib/apt/lists/*
chroot "$fresh" /usr/bin/psql --version >"$fresh/.version"
rm -rf "$folder"
mv "$fresh" "$folder"
trap - EXIT
echo "$folder"
