#!/bin/bash
# Loki. The version is the one in ./go.mod.
cd "$(dirname "$0")"
. ../lib.sh
need_go
version=$(go list -m -f '{{.Version}}' github.com/grafana/loki/v3)
info=github.com/grafana/loki/v3/pkg/util/build
go_program github.com/grafana/loki/v3/cmd/loki loki "-X $info.Version=${version#v}"
