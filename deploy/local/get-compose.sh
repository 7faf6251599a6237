#!/bin/bash
# Installs the compose plugin for the current user from trixie's `docker-compose` package, for a
# distribution whose own package is the retired v1. The host's package sources and its installed
# packages stay as they are: apt runs with a private state folder, and the archive's signature is
# checked as always.
#   get-compose.sh [FOLDER]     FOLDER defaults to ~/.docker/cli-plugins; CACHE is kept between runs
. "$(dirname "$0")/lib.sh"

folder=${1:-${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins}
cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/selfheal/compose}
suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

if docker compose version >/dev/null 2>&1; then
  say "docker compose is already there"
  exit 0
fi
[ -r "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"

mirror=$(debian_mirror)
# debootstrap knows Debian's own mirror, for a host of another distribution.
if [ -z "$mirror" ] && [ -r /usr/share/debootstrap/functions ]; then
  mirror=$(sed -n 's/^ *DEF_MIRROR="\(http[^"]*debian\)".*/\1/p' /usr/sbin/debootstrap | head -n 1)
fi
[ -n "$mirror" ] || die "no Debian mirror is known: set DEBIAN_MIRROR"

root=$cache/apt
mkdir -p "$root"/{etc/apt.conf.d,etc/preferences.d,state/lists/partial,cache/archives/partial} "$folder"
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$root/etc/sources.list"
: >"$root/status"
private=(
  -o "Dir::Etc=$root/etc" -o "Dir::Etc::SourceList=$root/etc/sources.list" -o Dir::Etc::SourceParts=-
  -o "Dir::State=$root/state" -o "Dir::State::Status=$root/status" -o "Dir::Cache=$root/cache"
  -o APT::Sandbox::User=root -o Acquire::Languages=none -o APT::Get::List-Cleanup=false
)
say "fetching the compose plugin from Debian $suite"
apt-get "${private[@]}" -qq update
(cd "$root/cache/archives" && apt-get "${private[@]}" -qq download docker-compose)
deb=$(find "$root/cache/archives" -maxdepth 1 -name 'docker-compose_*.deb' | sort | tail -n 1)
[ -n "$deb" ] || die "apt left no docker-compose package"

unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
dpkg -x "$deb" "$unpacked"
plugin=$(find "$unpacked" -type f -name docker-compose -perm -u+x | head -n 1)
[ -n "$plugin" ] || die "$deb holds no docker-compose program"
install -m 755 "$plugin" "$folder/docker-compose"
docker compose version >&2
