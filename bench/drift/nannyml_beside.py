"""NannyML's univariate drift, its data reconstruction error and CBPE, beside ours on the same tables."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import nannyml as nml
import numpy as np
import pandas as pd

program, rows = sys.argv[1], int(sys.argv[2])
folder = pathlib.Path(tempfile.mkdtemp())
rng = np.random.default_rng(8)
names = [f"f{i}" for i in range(20)]
reference = pd.DataFrame(rng.normal(size=(rows, 20)), columns=names)
current = pd.DataFrame(rng.normal(0.02, size=(rows, 20)), columns=names)
for name, frame in [("r", reference), ("c", current)]:
    frame.to_parquet(folder / f"{name}.parquet", compression="snappy")


def ours():
    args = [program, "score", "--reference", str(folder / "r.parquet"), "--current", str(folder / "c.parquet"), "--json"]
    started = time.perf_counter()
    out = subprocess.run(args, capture_output=True, text=True)
    return json.loads(out.stdout), time.perf_counter() - started


report, seconds = ours()
print(f"{rows} x 20 by drift-inference, from Parquet: {seconds:.2f} s")
started = time.perf_counter()
methods = ["kolmogorov_smirnov", "jensen_shannon", "wasserstein"]
univariate = nml.UnivariateDriftCalculator(column_names=names, continuous_methods=methods, chunk_number=1)
univariate.fit(reference)
univariate.calculate(current)
theirs = time.perf_counter() - started
print(f"KS, JS and W1 by NannyML, in memory already: {theirs:.2f} s, {theirs / seconds:.1f} times as long")
started = time.perf_counter()
together = nml.DataReconstructionDriftCalculator(column_names=names, chunk_number=1)
together.fit(reference)
error = together.calculate(current).to_df()
print(f"data reconstruction by NannyML: {time.perf_counter() - started:.2f} s; "
      f"its error {float(error.iloc[-1][('reconstruction_error', 'value')]):.4f}, ours {report['together']['error_current']:.4f}")
