#!/bin/bash
# The Collector: the builder writes the main package for ./builder.yaml, which is compiled against
# ./go.mod. Both are pinned.
cd "$(dirname "$0")"
. ../lib.sh
need_go

source=$CACHE/source
mkdir -p "$source"
sed "s|^dist:|dist:\n  output_path: $source|" builder.yaml >"$CACHE/builder.yaml"
say "generating the collector's main package"
(cd builder && go tool builder --config "$CACHE/builder.yaml" --skip-compilation --skip-get-modules) \
  >"$CACHE/builder.log" 2>&1 || {
  tail -n 5 "$CACHE/builder.log" >&2
  exit 1
}
cp go.mod go.sum "$source"
cd "$source"
go_program . otelcol-contrib
