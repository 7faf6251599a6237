#!/bin/bash
# versitygw: an S3 gateway over a folder. The version is the one in ./go.mod.
cd "$(dirname "$0")"
. ../lib.sh
go_program github.com/versity/versitygw/cmd/versitygw versitygw
