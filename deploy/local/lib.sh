# shellcheck shell=bash
# Functions shared by the recipes under deploy/local. Sourced, never run.
#
# A recipe is a folder with an optional `build.sh` and, except for `base`, a `Dockerfile`.
#   build.sh    runs on the host with the absolute paths OUT (where to leave files) and CACHE (kept
#               between runs) set. It can be run again at any time.
#   Dockerfile  is built with the recipe folder plus `out/` as its context, on top of `selfheal/base`.
# Packages come from wherever the host's own apt and go are set up to find them.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

need() {
  command -v "$1" >/dev/null 2>&1 || die "$1 is missing: apt-get install $2"
}

# Distributions carry a Go that is too old for these modules.
need_go() {
  command -v go >/dev/null 2>&1 || die "go is missing: install Go 1.26 or newer (https://go.dev/doc/install)"
}

# The Debian mirror that this host already uses; empty on another distribution, where the tools'
# built-in default is right. DEBIAN_MIRROR overrides both.
debian_mirror() {
  if [ -n "${DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "$DEBIAN_MIRROR"
    return
  fi
  # shellcheck disable=SC2016 # apt expands these
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(CREATED_BY)' 2>/dev/null |
    awk '$2 == "Debian" && $3 == "Debian" && $4 == "Packages" { sub(/\/$/, "", $1); print $1; exit }'
}

# A program of a Go module, built static from the go.mod and go.sum in the recipe folder. The versions
# are those files'; nothing is resolved anew. What a debugger needs is not made (a sixth of the work),
# and each package is named while it is compiled.
#   go_program PACKAGE NAME [extra -ldflags [extra go build flags…]]
go_program() {
  local package=$1 name=$2 flags=${3:-}
  shift 2
  [ $# -eq 0 ] || shift
  need_go
  mkdir -p "$OUT"
  say "compiling $name"
  CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=readonly" nice -n 10 \
    go build -v -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "-s -w $flags" "$@" -o "$OUT/$name.part" "$package"
  # A build that was cut off must not look like a finished one.
  mv "$OUT/$name.part" "$OUT/$name"
}
