#!/bin/bash
# Jaeger, all in one. The version is the one in ./go.mod; the module carries no web interface.
cd "$(dirname "$0")"
. ../lib.sh
need_go
version=$(go list -m -f '{{.Version}}' github.com/jaegertracing/jaeger)
go_program github.com/jaegertracing/jaeger/cmd/all-in-one all-in-one-linux \
  "-X github.com/jaegertracing/jaeger/pkg/version.latestVersion=$version"
