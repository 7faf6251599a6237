//! The commands that need no server, by the real program.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use serde_json::Value;

pub fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_drift-inference"))
        .args(args)
        .env("COLUMNS", "120")
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap()
}

pub fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn score(reference: &Path, current: &Path, more: &[&str]) -> (i32, Value) {
    let output =
        program(&[&["score", "--reference", path(reference), "--current", path(current), "--json"], more].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text);
    (code(&output), json.unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr))))
}

pub fn file(dir: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let file = dir.path().join(name);
    std::fs::write(&file, content).unwrap();
    file
}

/// Uniform numbers that are the same every time.
pub fn uniform(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

/// JSON's numbers may come back a last digit off.
fn close(path: &str, a: &Value, b: &Value) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            assert_eq!(x.keys().collect::<Vec<_>>(), y.keys().collect::<Vec<_>>(), "{path}");
            x.iter().for_each(|(key, value)| close(&format!("{path}.{key}"), value, &y[key]));
        }
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            assert!((x - y).abs() <= 1e-9 * x.abs().max(1.0), "{path}: {x} {y}");
        }
        _ => assert_eq!(a, b, "{path}"),
    }
}

/// A table with every kind of column; `shift` moves its numbers.
fn table(rows: usize, seed: u64, shift: f64) -> String {
    let mut csv = "amount,when,colour,paid,note\n".to_owned();
    for (i, u) in uniform(seed).take(rows).enumerate() {
        let colour = ["red", "green", "blue"][(u * 1e6) as usize % 3];
        let (hour, minute) = (i / 60 % 24, i % 60);
        writeln!(csv, "{},2026-01-31T{hour:02}:{minute:02}:00Z,{colour},{},\"a, b\"", 100.0 * (u + shift), u < 0.5)
            .unwrap();
    }
    csv
}

#[test]
fn the_same_is_no_drift_a_shift_is_and_one_row_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reference = file(&dir, "jan.csv", &table(3_000, 1, 0.0));
    let same = file(&dir, "feb.csv", &table(2_000, 2, 0.0));
    let moved = file(&dir, "mar.csv", &table(2_000, 3, 0.3));
    let one = file(&dir, "one.csv", &table(1, 3, 0.3));
    let (exit, report) = score(&reference, &same, &[]);
    assert_eq!((exit, &report["verdict"], &report["drifted_share"]), (0, &"no_drift".into(), &0.0.into()), "{report}");
    let names: Vec<&String> = report["features"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["amount", "when", "colour", "paid", "note"]);
    let (exit, report) = score(&reference, &moved, &[]);
    assert_eq!((exit, &report["drifted_share"]), (1, &0.2.into()), "{report}");
    let amount = &report["features"]["amount"];
    assert_eq!(
        (&amount["drifted"], &amount["severity"], &amount["kind"]),
        (&true.into(), &"alert".into(), &"number".into())
    );
    for key in ["psi", "psi_threshold", "wasserstein", "wasserstein_sigma", "js", "mean_shift_sigma"] {
        assert!(amount[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(amount["ks"]["d"].as_f64().unwrap() > 0.25 && amount["ks"]["p"].as_f64().unwrap() < 1e-12);
    assert_eq!(amount["missing"], serde_json::json!({"reference": 0.0, "current": 0.0}));
    assert!((amount["wasserstein"].as_f64().unwrap() - 30.0).abs() < 2.0);
    let colour = &report["features"]["colour"];
    assert!(
        colour["chi2"]["stat"].is_number() && colour["chi2"]["p"].as_f64().unwrap() > 0.01 && colour["ks"].is_null()
    );
    let kinds: Vec<&str> = ["when", "paid", "note"].map(|n| report["features"][n]["kind"].as_str().unwrap()).to_vec();
    assert_eq!(kinds, ["time", "boolean", "text"]);
    let (exit, report) = score(&reference, &one, &[]);
    assert_eq!((exit, &report["verdict"], &report["drifted_share"]), (2, &"cannot_tell".into(), &Value::Null));
    assert!(report["features"]["amount"]["reason"].as_str().unwrap().starts_with("1 row in the current"));
}

#[test]
fn a_profile_stands_in_for_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let reference = file(&dir, "jan.csv", &table(3_000, 1, 0.0));
    let current = file(&dir, "mar.csv", &table(2_000, 3, 0.1));
    let profile = dir.path().join("jan.json");
    let made = program(&["profile", "--data", path(&reference), "--out", path(&profile)]);
    assert_eq!(code(&made), 0, "{}", String::from_utf8_lossy(&made.stderr));
    for binning in ["deciles", "equal-width"] {
        let (exit, of_table) = score(&reference, &current, &["--binning", binning]);
        let (again, of_profile) = score(&profile, &current, &["--binning", binning]);
        assert_eq!(exit, again);
        close("", &of_table["features"], &of_profile["features"]);
        assert_eq!(of_table["binning"], binning);
    }
}

#[test]
fn large_tables_are_sketched_within_the_error_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let column = |rows: usize, seed: u64, shift: f64| {
        uniform(seed).take(rows).fold("x\n".to_owned(), |mut csv, u| {
            writeln!(csv, "{}", u + shift).unwrap();
            csv
        })
    };
    let reference = file(&dir, "r.csv", &column(20_000, 1, 0.0));
    let current = file(&dir, "c.csv", &column(10_000, 2, 0.05));
    let profile = dir.path().join("r.json");
    assert_eq!(code(&program(&["profile", "--data", path(&reference), "--out", path(&profile)])), 0);
    assert!(std::fs::metadata(&profile).unwrap().len() < 200_000, "a profile does not grow with its table");
    let (_, exact) = score(&reference, &current, &[]);
    let (_, sketched) = score(&profile, &current, &[]);
    let (exact, sketched) = (&exact["features"]["x"], &sketched["features"]["x"]);
    assert_eq!(exact["psi"], sketched["psi"], "cells are counted before anything is sketched");
    let error = sketched["ks"]["error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.005, "{error}");
    assert!((exact["ks"]["d"].as_f64().unwrap() - sketched["ks"]["d"].as_f64().unwrap()).abs() <= error);
    assert_eq!(exact["ks"]["error"], 0.0);
}

#[test]
fn tables_for_people_fit_the_width_and_pages_need_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let reference = file(&dir, "jan.csv", &table(3_000, 1, 0.0));
    let current = file(&dir, "mar.csv", &table(2_000, 3, 0.3));
    let page = dir.path().join("report.html");
    let args = ["score", "--reference", path(&reference), "--current", path(&current), "--html", path(&page)];
    for width in [60, 80, 140] {
        let output = Command::new(env!("CARGO_BIN_EXE_drift-inference"))
            .args(args)
            .env("COLUMNS", width.to_string())
            .output()
            .unwrap();
        assert_eq!(code(&output), 1);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("drift in 1 of 5 features\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colour in a pipe");
        let table = text.lines().skip(3).take_while(|l| !l.is_empty());
        assert!(table.clone().count() == 6 && table.clone().all(|l| l.chars().count() <= width), "{text}");
    }
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<svg") && html.contains("amount") && !html.contains("http"), "{html}");
}

/// The same rows as Parquet and as CSV.
#[test]
fn parquet_and_csv_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: u64| {
        let values: Vec<f64> = uniform(seed).take(500).collect();
        let csv = values.iter().enumerate().fold("x,n,t,b,when\n".to_owned(), |mut csv, (i, u)| {
            let x = if i % 50 == 0 { String::new() } else { u.to_string() };
            writeln!(csv, "{x},{i},t{},{},1970-01-01T00:00:{:02}Z", i % 4, i % 3 == 0, i % 60).unwrap();
            csv
        });
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "x",
                Arc::new(Float64Array::from_iter(values.iter().enumerate().map(|(i, u)| (i % 50 != 0).then_some(*u)))),
            ),
            ("n", Arc::new(Int64Array::from_iter_values(0..500))),
            ("t", Arc::new(StringArray::from_iter_values((0..500).map(|i| format!("t{}", i % 4))))),
            ("b", Arc::new(BooleanArray::from_iter((0..500).map(|i| Some(i % 3 == 0))))),
            ("when", Arc::new(TimestampMicrosecondArray::from_iter_values((0..500).map(|i| i % 60 * 1_000_000)))),
        ];
        let parquet = dir.path().join(format!("{name}.parquet"));
        let schema: Vec<Field> =
            columns.iter().map(|(n, a)| Field::new(*n, DataType::clone(a.data_type()), true)).collect();
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(schema)), columns.into_iter().map(|c| c.1).collect()).unwrap();
        let out = std::fs::File::create(&parquet).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(out, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        (file(&dir, &format!("{name}.csv"), &csv), parquet)
    };
    let (reference_csv, reference_parquet) = write("r", 1);
    let (current_csv, current_parquet) = write("c", 2);
    let (exit, expected) = score(&reference_csv, &current_csv, &[]);
    for (a, b) in
        [(&reference_parquet, &current_parquet), (&reference_csv, &current_parquet), (&reference_parquet, &current_csv)]
    {
        let (got, report) = score(a, b, &[]);
        assert_eq!((got, &report["features"]), (exit, &expected["features"]));
        assert_eq!((&report["together"], report["together"].is_object()), (&expected["together"], true));
    }
    let kinds: Vec<&str> =
        ["x", "n", "t", "b", "when"].map(|n| expected["features"][n]["kind"].as_str().unwrap()).to_vec();
    assert_eq!(kinds, ["number", "number", "text", "boolean", "time"]);
    assert_eq!(expected["features"]["x"]["missing"]["current"], 0.02);
}

#[test]
fn columns_can_be_chosen_and_rows_thinned() {
    let dir = tempfile::tempdir().unwrap();
    let reference = file(&dir, "jan.csv", &table(3_000, 1, 0.0));
    let current = file(&dir, "mar.csv", &table(2_000, 3, 0.3));
    let (exit, report) = score(&reference, &current, &["--ignore", "amount", "--thin", "10"]);
    assert_eq!((exit, &report["rows"]["current"]), (0, &200.into()));
    assert!(report["features"].get("amount").is_none());
    let (exit, report) = score(&reference, &current, &["--column", "amount"]);
    assert_eq!((exit, report["features"].as_object().unwrap().len()), (1, 1));
    let (_, report) = score(&reference, &current, &["--text", "amount"]);
    assert_eq!(report["features"]["amount"]["kind"], "text");
}

#[test]
fn detectors_tell_where_a_stream_changes() {
    let dir = tempfile::tempdir().unwrap();
    let csv = uniform(5).take(2_000).enumerate().fold("t;x\n".to_owned(), |mut csv, (i, u)| {
        writeln!(csv, "{i};{}", u + if i < 1_000 { 0.0 } else { 3.0 }).unwrap();
        csv
    });
    let data = file(&dir, "s.csv", &csv);
    let calm = file(&dir, "calm.csv", &csv.lines().take(900).collect::<Vec<_>>().join("\n"));
    for (detector, params) in [("adwin", ""), ("kswin", "alpha=0.00001"), ("page-hinkley", "threshold=30")] {
        let mut args = vec!["stream", "--detector", detector, "--column", "x", "--json"];
        if !params.is_empty() {
            args.extend(["--param", params]);
        }
        let output = program(&[&args[..], &["--data", path(&data)]].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = answer["detections"].as_array().unwrap();
        assert_eq!(code(&output), 1, "{detector} {answer}");
        assert!((1_000..1_040).contains(&found[0].as_u64().unwrap()), "{detector} {answer}");
        let output = program(&[&args[..], &["--data", path(&calm)]].concat());
        assert_eq!(code(&output), 0, "{detector} {}", String::from_utf8_lossy(&output.stdout));
    }
    let output = program(&["stream", "--detector", "adwin", "--column", "x", "--data", path(&data)]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "change at index 1023\n1 change in 2000 values\n");
    let scaled = [
        "stream",
        "--detector",
        "page-hinkley",
        "--column",
        "x",
        "--standardise",
        "500",
        "--param",
        "threshold=100",
        "--json",
        "--data",
    ];
    let answer: Value = serde_json::from_slice(&program(&[&scaled[..], &[path(&data)]].concat()).stdout).unwrap();
    assert_eq!(answer["watched"], 1_500);
    assert!((1_000..1_020).contains(&answer["detections"][0].as_u64().unwrap()), "{answer}");
}

#[test]
fn the_service_starts_as_before() {
    let keys =
        |command: &mut Command| command.env("LAKE_ACCESS_KEY", "a").env("LAKE_SECRET_KEY", "b").output().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_drift-inference"));
    let output = keys(check.arg("--check-config"));
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let output = program(&["help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(["profile", "score", "stream", "train", "evaluate"].iter().all(|c| text.contains(c)), "{text}");
    assert_eq!(code(&program(&["score"])), 64);
}

#[test]
fn the_services_settings_are_checked_without_starting_it() {
    let check = |args: &[&str]| {
        let output = program(&[&["check-config"], args].concat());
        (code(&output), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&["--lake-dir", "/tmp"]), (0, "drift-inference: configuration is valid\n".to_owned()));
    let (status, text) = check(&["--lake-dir", "/tmp", "--retrain-window", "1m"]);
    assert!(status == 64 && text.starts_with("drift-inference: RETRAIN_WINDOW: "), "{text}");
}

#[test]
fn columns_that_part_company_are_drift_although_none_of_them_moves() {
    let dir = tempfile::tempdir().unwrap();
    let table = |name: &str, turned: bool| {
        let (mut text, mut a, mut b) = ("x,y,z\n".to_owned(), uniform(1), uniform(2));
        for _ in 0..3_000 {
            let (x, noise) = (a.next().unwrap(), 0.1 * b.next().unwrap());
            let y = if turned { 1.0 - x + noise } else { x + noise };
            writeln!(text, "{x},{y},{}", b.next().unwrap()).unwrap();
        }
        file(&dir, name, &text)
    };
    let (before, after) = (table("before.csv", false), table("after.csv", true));
    let (status, same) = score(&before, &before, &[]);
    assert_eq!((status, &same["together"]["drifted"]), (0, &Value::Bool(false)), "{same}");
    // Frozen to a file and read back it says the same.
    let profile = dir.path().join("before.json");
    assert_eq!(code(&program(&["profile", "--data", path(&before), "--out", path(&profile)])), 0);
    for reference in [&before, &profile] {
        let (status, turned) = score(reference, &after, &[]);
        assert_eq!((status, &turned["drifted"]), (1, &Value::from(0)), "{turned}");
        assert_eq!(turned["together"]["severity"], "alert");
    }
    // Without its columns the components say nothing.
    assert!(score(&profile, &after, &["--ignore", "y"]).1["together"].is_null());
}
