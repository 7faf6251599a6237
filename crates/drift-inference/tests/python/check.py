"""The program against scipy, river and (if it is there) Evidently, in one run on the same files.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install scipy scikit-learn river pandas [evidently]
    cargo build --release -p drift-inference && cargo build --release -p stats --example detectors
    /tmp/golden/bin/python crates/drift-inference/tests/python/check.py target/release/drift-inference [ROWS]

Equality must hold (exit code 1 if not); speed is told as ratios. ROWS (200,000) is the size of the timed table.
The detectors are also timed alone, if examples/detectors lies beside the program.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from river import datasets, drift
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn import datasets as tables

program, rows = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
folder = pathlib.Path(tempfile.mkdtemp())
detectors = pathlib.Path(program).with_name("examples") / "detectors"
worst = {}


def run(*args):
    out = subprocess.run([program, *args], capture_output=True, text=True)
    if out.returncode not in (0, 1):
        sys.exit(f"{args}: exit code {out.returncode}: {out.stderr}")
    return out.stdout


def differ(what, got, expected, tolerance):
    distance = abs(got - expected) / max(1.0, abs(expected))
    worst[what] = max(worst.get(what, (0, 0))[0], distance), tolerance


def psi(reference, current):
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, 11)))
    def counts(sample):
        index = np.searchsorted(edges[:-1], sample, side="right")
        index[sample > edges[-1]] = len(edges)
        return np.bincount(index, minlength=len(edges) + 1)
    a, b = counts(reference), counts(current)
    a, b = a[a + b > 0], b[a + b > 0]
    p, q = (a + .5) / (a.sum() + .5 * len(a)), (b + .5) / (b.sum() + .5 * len(b))
    return np.sum((q - p) * np.log(q / p)), stats.chi2.ppf(.95, len(a) - 1) * (1 / a.sum() + 1 / b.sum()), jensenshannon(a, b, base=2)


def equal(name, reference, current):
    reference.to_csv(folder / "r.csv", index=False)
    current.to_csv(folder / "c.csv", index=False)
    report = json.loads(run("score", "--reference", str(folder / "r.csv"), "--current", str(folder / "c.csv"), "--json"))
    for column in reference.columns:
        got, a, b = report["features"][column], reference[column], current[column]
        if got["kind"] == "number":
            a, b = a.dropna().to_numpy(float), b.dropna().to_numpy(float)
            n, m = len(a), len(b)
            d = stats.ks_2samp(a, b, method="asymp").statistic
            differ("ks.d", got["ks"]["d"], d, 1e-9)
            differ("ks.p", got["ks"]["p"], stats.kstwo.sf(d, np.round(n * m / (n + m))), 1e-6)
            w = stats.wasserstein_distance(a, b)
            differ("wasserstein", got["wasserstein"], w, 1e-9)
            differ("wasserstein_sigma", got["wasserstein_sigma"], w / a.std(ddof=1), 1e-9)
            differ("mean_shift_sigma", got["mean_shift_sigma"], (b.mean() - a.mean()) / a.std(ddof=1), 1e-9)
            if len(np.unique(a)) > 10 and not report["features"][column]["missing"]["reference"] and np.quantile(a, .9) < a.max():
                value, critical, js = psi(a, b)
                differ("psi", got["psi"], value, 1e-9)
                differ("psi_critical", got["psi_critical"], critical, 1e-9)
                differ("js", got["js"], js, 1e-9)
        elif got["kind"] == "text":
            table = pd.crosstab(pd.concat([a, b]), np.repeat([0, 1], [len(a), len(b)])).T
            test = stats.chi2_contingency(table, correction=False)
            differ("chi2.stat", got["chi2"]["stat"], test.statistic, 1e-9)
            differ("chi2.p", got["chi2"]["p"], test.pvalue, 1e-6)


cancer = tables.load_breast_cancer(as_frame=True).frame
cancer["band"] = pd.cut(cancer["mean radius"], 4, labels=list("abcd")).astype(str)
benign = cancer.target == 1
cancer = cancer.drop(columns="target")
equal("cancer", cancer[~benign], cancer[benign])
equal("cancer, halves", cancer.iloc[::2], cancer.iloc[1::2])
wine = tables.load_wine(as_frame=True).frame
third = wine.pop("target") == 2
equal("wine", wine[~third], wine[third])
diabetes = tables.load_diabetes(as_frame=True).frame
equal("diabetes", diabetes.iloc[:300], diabetes.iloc[300:])
digits = tables.load_digits(as_frame=True).frame
digits = digits.loc[:, digits.nunique() > 2]
equal("digits", digits.iloc[:900], digits.iloc[900:])


def stream(values, detector, make, *params):
    pd.DataFrame({"x": values}).to_csv(folder / "s.csv", index=False)
    args = ["stream", "--detector", detector, "--column", "x", "--data", str(folder / "s.csv"), "--json"]
    for param in params:
        args += ["--param", param]
    started = time.perf_counter()
    got = json.loads(run(*args))["detections"]
    ours = time.perf_counter() - started
    one, expected = make(), []
    started = time.perf_counter()
    for i, x in enumerate(values):
        one.update(x)
        if one.drift_detected:
            expected.append(i)
    return got == expected, len(expected), time.perf_counter() - started, ours


rng = np.random.default_rng(8)
long = np.round(np.concatenate([rng.normal(i % 3, 1 + i % 2, 5_000) for i in range(40)]), 6).tolist()
series = {"water flow": [float(y) for _, y in datasets.WaterFlow()], "steps": long}
good = True
for name, values in series.items():
    for detector, make, params in [
        ("adwin", drift.ADWIN, []),
        ("kswin", lambda: drift.KSWIN(seed=42), []),
        ("page-hinkley", drift.PageHinkley, []),
        ("adwin", lambda: drift.ADWIN(clock=1, delta=.05), ["clock=1", "delta=0.05"]),
        ("kswin", lambda: drift.KSWIN(seed=9, alpha=1e-4), ["seed=9", "alpha=0.0001"]),
        ("page-hinkley", lambda: drift.PageHinkley(threshold=5, mode="down"), ["threshold=5", "mode=down"]),
    ]:
        same, changes, theirs, ours = stream(values, detector, make, *params)
        good &= same
        print(f"{name}, {detector} {' '.join(params)}: {'same' if same else 'OTHER'} {changes} changes in {len(values)} values; "
              f"river takes {theirs / ours:.1f} times as long as the whole program")
        if detectors.exists() and not params and len(values) > 10_000:
            out = subprocess.run([detectors, detector, folder / "s.csv"], capture_output=True, text=True, check=True).stdout
            alone, counted = out.split()
            good &= int(counted) == changes
            river = 1e9 * theirs / len(values)
            print(f"  the detector alone: river {river:.0f} ns a value, ours {float(alone):.1f}: {river / float(alone):.1f} times")

names = [f"f{i}" for i in range(20)]
reference = pd.DataFrame(rng.normal(size=(rows, 20)), columns=names)
current = pd.DataFrame(rng.normal(0.02, size=(rows, 20)), columns=names)
for name, frame in [("r", reference), ("c", current)]:
    frame.to_csv(folder / f"{name}.csv", index=False)
    frame.to_parquet(folder / f"{name}.parquet", compression="snappy") if "pyarrow" in sys.modules or __import__("importlib.util").util.find_spec("pyarrow") else None
for kind in ["csv", "parquet"]:
    if not (folder / f"r.{kind}").exists():
        continue
    started = time.perf_counter()
    run("score", "--reference", str(folder / f"r.{kind}"), "--current", str(folder / f"c.{kind}"), "--json")
    ours = time.perf_counter() - started
    print(f"{rows} x 20 from {kind}: {ours:.2f} s")
started = time.perf_counter()
for name in names:
    a, b = reference[name].to_numpy(), current[name].to_numpy()
    psi(a, b), stats.ks_2samp(a, b, method="asymp"), stats.wasserstein_distance(a, b)
print(f"the same statistics by scipy, in memory already: {time.perf_counter() - started:.2f} s")
try:
    from evidently import Dataset, DataDefinition, Report
    from evidently.presets import DataDriftPreset
    total = 0
    for method in ["psi", "ks", "wasserstein"]:
        started = time.perf_counter()
        Report([DataDriftPreset(method=method)]).run(current, reference).dict()
        total += time.perf_counter() - started
    print(f"PSI, KS and W1 by Evidently, in memory already: {total:.2f} s")
except ImportError:
    print("Evidently is not installed")

for what, (distance, tolerance) in sorted(worst.items()):
    good &= distance <= tolerance
    print(f"{what:<20} largest difference {distance:.1e}, allowed {tolerance:.0e}{'' if distance <= tolerance else '  TOO FAR'}")
sys.exit(0 if good else 1)
