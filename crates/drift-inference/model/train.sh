#!/bin/sh
# Makes failure-v1.json anew: simulated readings into lake folders, a model out of them.
# Seeds of training, holdout and reference differ; the reference is a fleet without faults.
set -eu
cd "$(dirname "$0")/../../.."
bin=${CARGO_TARGET_DIR:-target}/${PROFILE:-debug}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
simulate() { "$bin/telemetry-generator" simulate "$@"; }
for seed in 1 2 3; do
  simulate --out "$work/train" --machines 8 --seed "$seed" --duration 24h --tick-interval 2s --faults-per-day 12
done
simulate --out "$work/holdout" --machines 5 --seed 100 --duration 24h --tick-interval 1s --faults-per-day 6
simulate --out "$work/reference" --machines 40 --seed 7 --duration 24h --tick-interval 10s
"$bin/drift-inference" train --data "$work/train" --holdout "$work/holdout" --reference "$work/reference" \
  --version failure-v1 --out crates/drift-inference/model/failure-v1.json
# The fleet of the demonstration, healthy: no mean may wander near the alert's 3 sigma.
simulate --out "$work/demo" --machines 5 --seed 42 --duration 48h
"$bin/drift-inference" evaluate --data "$work/demo" --model crates/drift-inference/model/failure-v1.json
