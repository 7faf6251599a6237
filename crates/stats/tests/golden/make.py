"""Makes golden.json: what scipy, scikit-learn and river say of data that their wheels carry.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install scipy scikit-learn river
    /tmp/golden/bin/python crates/stats/tests/golden/make.py > crates/stats/tests/golden/golden.json
"""

import importlib.metadata
import json
import random
import sys

import numpy as np
from river import datasets, drift
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn import datasets as tables
from sklearn.isotonic import IsotonicRegression


def kstwo():
    sizes = [1, 2, 5, 10, 30, 77, 140, 141, 300, 1000, 5000, 20_000, 99_999, 100_001, 1_000_000]
    out = []
    for n in sizes:
        for z in [0.02, 0.1, 0.3, 0.5, 0.7, 0.87, 1.0, 1.2, 1.36, 1.48, 1.6, 1.95, 2.0, 2.5, 3.0, 5.0, 10.0, 18.0]:
            d = z / np.sqrt(n)
            if d < 1:
                out.append([n, d, float(stats.kstwo.sf(d, n))])
    return out


def psi(reference, current, edges):
    """Cells are [edge, next edge), the last one closed; below and above lie two more."""
    def counts(sample):
        index = np.searchsorted(edges[:-1], sample, side="right")
        index[sample > edges[-1]] = len(edges)
        return np.bincount(index, minlength=len(edges) + 1)

    a, b = counts(reference), counts(current)
    seen = a + b > 0
    a, b = a[seen], b[seen]
    p = (a + 0.5) / (a.sum() + 0.5 * len(a))
    q = (b + 0.5) / (b.sum() + 0.5 * len(b))
    critical = stats.chi2.ppf(0.95, len(a) - 1) * (1 / a.sum() + 1 / b.sum())
    return float(np.sum((q - p) * np.log(q / p))), float(critical), float(jensenshannon(a, b, base=2))


def pair(name, reference, current):
    reference, current = np.asarray(reference, float), np.asarray(current, float)
    n, m = len(reference), len(current)
    ks = stats.ks_2samp(reference, current, method="asymp")
    width = np.linspace(reference.min(), reference.max(), 11)
    deciles = np.unique(np.quantile(reference, np.linspace(0, 1, 11)))
    sigma = reference.std(ddof=1)
    out = {
        "name": name, "reference": reference.tolist(), "current": current.tolist(),
        "d": float(ks.statistic), "p": float(stats.kstwo.sf(ks.statistic, np.round(n * m / (n + m)))),
        "p_ks_2samp": float(ks.pvalue),
        "wasserstein": float(stats.wasserstein_distance(reference, current)),
        "mean_shift_sigma": float((current.mean() - reference.mean()) / sigma),
        "sigma": float(sigma),
    }
    for binning, edges in [("deciles", deciles), ("equal_width", width)]:
        value, critical, js = psi(reference, current, edges)
        out[binning] = {"psi": value, "critical": critical, "js": js}
    return out


def pairs():
    cancer, wine = tables.load_breast_cancer(), tables.load_wine()
    diabetes = tables.load_diabetes()
    for column in [0, 1, 4, 9]:
        yield pair(cancer.feature_names[column], cancer.data[cancer.target == 0, column], cancer.data[cancer.target == 1, column])
        yield pair(cancer.feature_names[column] + ", halves", cancer.data[::2, column], cancer.data[1::2, column])
    for column in [0, 6, 12]:
        yield pair(wine.feature_names[column], wine.data[wine.target != 2, column], wine.data[wine.target == 2, column])
    for column in [0, 2, 8]:
        yield pair(diabetes.feature_names[column], diabetes.data[:300, column], diabetes.data[300:, column])


def chi2():
    rng = np.random.default_rng(5)
    for k in [2, 3, 7, 40]:
        table = rng.integers(0, 60, size=(2, k)) + 1
        got = stats.chi2_contingency(table, correction=False)
        yield {"reference": table[0].tolist(), "current": table[1].tolist(),
               "stat": float(got.statistic), "p": float(got.pvalue)}


def streams():
    flow = [list(x.values())[0] if y is None else float(y) for x, y in datasets.WaterFlow()]
    yield "water flow", flow
    passengers = [float(y) for _, y in datasets.AirlinePassengers()]
    yield "airline passengers", passengers
    rng = random.Random(12345)
    yield "step of integers", [float(v) for v in rng.choices([0, 1], k=1000) + rng.choices(range(4, 8), k=1000)]
    rng = random.Random(42)
    yield "four levels", [float(v) for level in range(4) for v in
                          (rng.choices([0, 1], k=1000) if level % 2 == 0 else rng.choices(range(4, 8), k=1000))]
    rng = np.random.default_rng(3)
    yield "steps of noise", np.round(np.concatenate([rng.normal(m, s, 700) for m, s in [(0, 1), (0.5, 1), (0.5, 3), (-2, 1), (-2, 0.2)]]), 6).tolist()
    yield "ramp", np.round(np.linspace(0, 3, 3000) + rng.normal(0, 1, 3000), 6).tolist()
    yield "noise", np.round(rng.normal(0, 1, 4000), 6).tolist()


def detections():
    detectors = {
        "adwin": lambda: drift.ADWIN(),
        "adwin clock 1": lambda: drift.ADWIN(clock=1, delta=0.01),
        "adwin buckets 3": lambda: drift.ADWIN(max_buckets=3, min_window_length=10, grace_period=50),
        "kswin seed 42": lambda: drift.KSWIN(seed=42),
        "kswin seed 7": lambda: drift.KSWIN(alpha=0.001, window_size=200, stat_size=50, seed=7),
        "page-hinkley": lambda: drift.PageHinkley(),
        "page-hinkley 10": lambda: drift.PageHinkley(threshold=10, delta=0.05, min_instances=50),
        "page-hinkley up": lambda: drift.PageHinkley(threshold=10, mode="up"),
        "page-hinkley down": lambda: drift.PageHinkley(threshold=10, mode="down"),
    }
    for name, values in streams():
        found = {}
        for key, make in detectors.items():
            detector, found[key] = make(), []
            for i, x in enumerate(values):
                detector.update(x)
                if detector.drift_detected:
                    found[key].append(i)
        yield {"name": name, "values": values, "detections": found}


def isotonic():
    rng = np.random.default_rng(9)
    x = np.round(rng.uniform(0, 1, 60), 2)
    y = np.round(np.clip(x ** 2 + rng.normal(0, 0.2, 60), 0, 1), 4)
    at = np.linspace(-0.1, 1.1, 49)
    fit = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    return {"x": x.tolist(), "y": y.tolist(), "at": at.tolist(), "values": fit.predict(at).tolist()}


def fdr():
    p = np.random.default_rng(1).uniform(0, 1, 25) ** 3
    return {"p": p.tolist(), "adjusted": stats.false_discovery_control(p).tolist()}


json.dump({
    "versions": {name: importlib.metadata.version(name) for name in ["numpy", "scipy", "scikit-learn", "river"]},
    "kstwo": kstwo(),
    "chi2_quantiles": [[p, k, float(stats.chi2.ppf(p, k))] for p in [0.5, 0.95, 0.99, 0.999] for k in [1, 2, 5, 9, 12, 99, 5000]],
    "pairs": list(pairs()),
    "chi2": list(chi2()),
    "streams": list(detections()),
    "isotonic": isotonic(),
    "fdr": fdr(),
}, sys.stdout)
print()
