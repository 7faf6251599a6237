#!/bin/bash
# For maintainers: writes ./go.mod and ./go.sum anew after a change of ./builder.yaml.
cd "$(dirname "$0")"
. ../lib.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed "s|^dist:|dist:\n  output_path: $work/src|" builder.yaml >"$work/builder.yaml"
(cd builder && go tool builder --config "$work/builder.yaml" --skip-compilation)
cp "$work/src/go.mod" "$work/src/go.sum" .
