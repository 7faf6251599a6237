#!/bin/sh
# Ours beside the Python packages, in one run: bench/drift/compare.sh PROGRAM [ROWS]
set -eu
program=$(realpath "$1")
rows=${2:-200000}
here=$(dirname "$(realpath "$0")")
venv=${BENCH_VENV:-$(mktemp -d)}
[ -x "$venv/main/bin/python" ] || {
  python3 -m venv "$venv/main"
  # Evidently asks pandas for what its third version no longer has.
  "$venv/main/bin/pip" install --quiet scipy scikit-learn river 'pandas<3' pyarrow evidently
}
"$venv/main/bin/python" "$here/../../crates/drift-inference/tests/python/check.py" "$program" "$rows"
# It would tell its makers that it was used.
export NML_DISABLE_USAGE_LOGGING=1
[ -x "$venv/nannyml/bin/python" ] || {
  python3 -m venv "$venv/nannyml"
  "$venv/nannyml/bin/pip" install --quiet nannyml statsmodels
}
"$venv/nannyml/bin/python" "$here/nannyml_beside.py" "$program" "$rows"
