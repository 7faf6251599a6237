#!/bin/bash
# Makes $OUT/rootfs.tar: a small Debian trixie that every local image stands on.
# `docker import` with the lines of ./changes turns it into selfheal/base.
# Runs as root: debootstrap makes device nodes and changes root.
cd "$(dirname "$0")"
. ../lib.sh

suite=trixie
need debootstrap debootstrap
[ "$(id -u)" -eq 0 ] || die "the base image is made by debootstrap, which needs root"

mkdir -p "$OUT" "$CACHE/debs"
work=$(mktemp -d "$OUT/rootfs.XXXXXX")
trap 'rm -rf "$work"' EXIT

mirror=$(debian_mirror)
say "debootstrap $suite"
# The download folder is kept, so that a second run needs the network only for the index.
if ! debootstrap --variant=minbase --include=ca-certificates,busybox --cache-dir="$CACHE/debs" \
  "$suite" "$work" ${mirror:+"$mirror"} >"$OUT/debootstrap.log" 2>&1; then
  tail -n 5 "$OUT/debootstrap.log" >&2
  tail -n 5 "$work/debootstrap/debootstrap.log" >&2 || true
  die "debootstrap failed, see $OUT/debootstrap.log"
fi

# What nobody reads inside a container is not installed, here and in the images built on top.
cat >"$work/etc/dpkg/dpkg.cfg.d/slim" <<'CONF'
force-unsafe-io
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
path-include /usr/share/doc/*/copyright
CONF
cat >"$work/etc/apt/apt.conf.d/slim" <<'CONF'
APT::Install-Recommends "false";
APT::Install-Suggests "false";
Acquire::Languages "none";
Acquire::Retries "3";
DPkg::Use-Pty "false";
CONF
# Services are started by the container, never by a package's script.
printf '#!/bin/sh\nexit 101\n' >"$work/usr/sbin/policy-rc.d"
chmod 755 "$work/usr/sbin/policy-rc.d"

install -m 755 apt-add "$work/usr/local/sbin/apt-add"

# Health checks and tests rely on these two small tools.
ln -s /usr/bin/busybox "$work/usr/local/bin/wget"
ln -s /usr/bin/busybox "$work/usr/local/bin/nc"

find "$work/usr/share/doc" -type f ! -name copyright -delete
find "$work/usr/share/doc" -type l -delete
find "$work/usr/share/doc" -mindepth 1 -type d -empty -delete
rm -rf "$work"/usr/share/{info,lintian,locale,man}/* \
  "$work"/var/cache/apt/*.bin "$work"/var/cache/apt/archives/*.deb "$work"/var/lib/apt/lists/* \
  "$work"/var/cache/debconf/*-old "$work"/var/lib/dpkg/*-old \
  "$work"/var/log/{apt/*,bootstrap.log,dpkg.log,alternatives.log}
# The host's name and resolver do not belong in the image; Docker provides both.
: >"$work/etc/resolv.conf"
rm -f "$work/etc/hostname" "$work/etc/machine-id"

say "packing the base image"
tar -C "$work" --numeric-owner --sort=name --exclude=./dev/* -cf "$OUT/rootfs.tar.part" .
mv "$OUT/rootfs.tar.part" "$OUT/rootfs.tar"
