//! Equality with scipy, scikit-learn and river on real data: `golden/make.py` asked them.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::Value;
use stats::{
    adwin,
    cells::Binning,
    chi2::homogeneity,
    compare::{Current, Options, compare},
    fdr::benjamini_hochberg,
    isotonic::Isotonic,
    kolmogorov::kstwo_sf,
    kswin, page_hinkley,
    profile::{Kind, Numbers, Reference, Summary},
    special::chi2_quantile,
};

/// For statistics.
const STATISTIC: f64 = 1e-9;
/// For p-values.
const P: f64 = 1e-6;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/golden.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
}

#[track_caller]
fn close(what: &str, got: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((got - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {got} is not {expected}");
}

#[test]
fn kolmogorovs_distribution() {
    let golden = golden();
    let mut worst = 0.0f64;
    for case in golden["kstwo"].as_array().unwrap() {
        let (n, d, expected) = (case[0].as_u64().unwrap(), case[1].as_f64().unwrap(), case[2].as_f64().unwrap());
        let got = kstwo_sf(d, n);
        assert!((got - expected).abs() < 1e-9, "n {n} d {d}: {got} is not {expected}");
        if expected > 1e-290 {
            let relative = (got / expected - 1.0).abs();
            assert!(relative < 1e-6, "n {n} d {d}: {got} is not {expected}");
            worst = worst.max(relative);
        }
    }
    println!("largest relative difference {worst:e}");
}

#[test]
fn chi_squared() {
    let golden = golden();
    for case in golden["chi2_quantiles"].as_array().unwrap() {
        let (p, dof) = (case[0].as_f64().unwrap(), case[1].as_u64().unwrap() as usize);
        close(&format!("{p} {dof}"), chi2_quantile(p, dof), &case[2], STATISTIC);
    }
    for case in golden["chi2"].as_array().unwrap() {
        let got = homogeneity(&counts(&case["reference"]), &counts(&case["current"])).unwrap();
        close("stat", got.stat, &case["stat"], STATISTIC);
        close("p", got.p, &case["p"], STATISTIC);
    }
}

#[test]
fn two_samples_of_real_data() {
    let golden = golden();
    for case in golden["pairs"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut summary = Numbers::new(1 << 18);
        numbers(&case["reference"]).into_iter().for_each(|x| summary.add(x));
        let reference = Reference::freeze(name, Kind::Number, Summary::Numbers(summary));
        for (binning, key) in [(Binning::Deciles, "deciles"), (Binning::EqualWidth, "equal_width")] {
            let mut current = Current::new(&reference, binning, 1 << 18);
            numbers(&case["current"]).into_iter().for_each(|x| current.number(x));
            let got = compare(&reference, &current, &Options { binning, ..Options::default() });
            let ks = got.ks.unwrap();
            close(name, ks.d, &case["d"], STATISTIC);
            close(name, ks.p, &case["p"], P);
            close(name, ks.p, &case["p_ks_2samp"], P);
            close(name, got.wasserstein.unwrap(), &case["wasserstein"], STATISTIC);
            let in_sigma = case["wasserstein"].as_f64().unwrap() / case["sigma"].as_f64().unwrap();
            close(name, got.wasserstein_sigma.unwrap(), &in_sigma.into(), STATISTIC);
            close(name, got.mean_shift_sigma.unwrap(), &case["mean_shift_sigma"], STATISTIC);
            close(name, got.psi.unwrap(), &case[key]["psi"], STATISTIC);
            close(name, got.psi_critical.unwrap(), &case[key]["critical"], STATISTIC);
            close(name, got.js.unwrap(), &case[key]["js"], STATISTIC);
        }
    }
}

#[test]
fn detectors_find_changes_where_river_does() {
    let golden = golden();
    let mut found = 0;
    for stream in golden["streams"].as_array().unwrap() {
        let values = numbers(&stream["values"]);
        for (key, expected) in stream["detections"].as_object().unwrap() {
            let mut detector = detector(key);
            let got: Vec<u64> = (0u64..).zip(&values).filter(|(_, x)| detector(**x)).map(|(i, _)| i).collect();
            assert_eq!(got, counts(expected), "{key} on {}", stream["name"]);
            found += got.len();
        }
    }
    assert!(found > 50, "streams without changes prove little: {found}");
}

fn detector(key: &str) -> Box<dyn FnMut(f64) -> bool> {
    let adwin = |s| {
        let mut d = adwin::Adwin::new(s);
        Box::new(move |x| d.update(x)) as Box<dyn FnMut(f64) -> bool>
    };
    let kswin = |s| {
        let mut d = kswin::Kswin::new(s);
        Box::new(move |x| d.update(x)) as Box<dyn FnMut(f64) -> bool>
    };
    let page = |s| {
        let mut d = page_hinkley::PageHinkley::new(s);
        Box::new(move |x| d.update(x)) as Box<dyn FnMut(f64) -> bool>
    };
    let ph = page_hinkley::Settings::default();
    match key {
        "adwin" => adwin(adwin::Settings::default()),
        "adwin clock 1" => adwin(adwin::Settings { clock: 1, delta: 0.01, ..Default::default() }),
        "adwin buckets 3" => adwin(adwin::Settings { max_buckets: 3, min_window: 10, grace: 50, ..Default::default() }),
        "kswin seed 42" => kswin(kswin::Settings { seed: 42, ..Default::default() }),
        "kswin seed 7" => kswin(kswin::Settings { alpha: 0.001, window: 200, stat: 50, seed: 7 }),
        "page-hinkley" => page(ph),
        "page-hinkley 10" => page(page_hinkley::Settings { threshold: 10.0, delta: 0.05, min_instances: 50, ..ph }),
        "page-hinkley up" => page(page_hinkley::Settings { threshold: 10.0, down: false, ..ph }),
        "page-hinkley down" => page(page_hinkley::Settings { threshold: 10.0, up: false, ..ph }),
        other => panic!("{other}"),
    }
}

#[test]
fn calibration_and_many_tests() {
    let golden = golden();
    let case = &golden["isotonic"];
    let points: Vec<(f64, f64)> = numbers(&case["x"]).into_iter().zip(numbers(&case["y"])).collect();
    let fit = Isotonic::fit(&points).unwrap();
    for (x, expected) in numbers(&case["at"]).into_iter().zip(case["values"].as_array().unwrap()) {
        close("isotonic", fit.at(x), expected, STATISTIC);
    }
    let adjusted = benjamini_hochberg(&numbers(&golden["fdr"]["p"]));
    for (got, expected) in adjusted.into_iter().zip(golden["fdr"]["adjusted"].as_array().unwrap()) {
        close("adjusted", got, expected, STATISTIC);
    }
}
