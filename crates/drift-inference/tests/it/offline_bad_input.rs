//! Whatever a file holds gets a verdict with a reason, or an error that names file, column and row.

use std::fmt::Write as _;

use crate::offline::{code, file, path, program, score, uniform};

/// 200 rows of numbers, one of them replaced.
fn with(row: usize, cell: &str) -> String {
    uniform(9).take(200).enumerate().fold("id,x\n".to_owned(), |mut csv, (i, u)| {
        let x = if i + 1 == row { cell.to_owned() } else { u.to_string() };
        writeln!(csv, "{i},{x}").unwrap();
        csv
    })
}

fn plain() -> String {
    with(0, "")
}

#[test]
fn a_cell_that_does_not_belong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(&dir, "good.csv", &plain());
    for (cell, exit, words) in [
        ("NaN", 0, ""),
        ("", 0, ""),
        ("1e999", 0, "infinite"),
        ("-inf", 0, "infinite"),
        ("1e308", 0, ""),
        ("abc", 2, "column \"x\", row 17 (line 18): \"abc\" is not a number (1 such cells)"),
        ("true", 2, "column \"x\", row 17 (line 18): \"true\" is not a number"),
    ] {
        let bad = file(&dir, "bad.csv", &with(17, cell));
        let (got, report) = score(&good, &bad, &[]);
        let reason = report["features"]["x"]["reason"].as_str().unwrap();
        assert_eq!(got, exit, "{cell}: {report}");
        assert!(reason.contains(words) && (reason.contains("bad.csv") || exit == 0), "{cell}: {reason}");
        // The other column is judged all the same.
        assert_eq!(report["features"]["id"]["drifted"], false, "{cell}");
    }
    let bad = file(&dir, "bad.csv", &with(17, "abc"));
    let output = program(&["score", "--reference", path(&bad), "--current", path(&good)]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 2);
    assert!(error.contains("bad.csv") && error.contains("column \"x\", row 17 (line 18): \"abc\""), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let (exit, report) = score(&bad, &bad, &["--text", "x"]);
    assert_eq!((exit, &report["features"]["x"]["kind"]), (0, &"text".into()));
}

#[test]
fn a_late_text_in_a_long_column_of_numbers_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let long = (0..3_000).fold("x\n".to_owned(), |csv, i| csv + if i == 2_499 { "oops\n" } else { "1\n" });
    let bad = file(&dir, "long.csv", &long);
    let output = program(&["profile", "--data", path(&bad), "--out", path(&dir.path().join("p.json"))]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 2);
    assert!(error.contains("column \"x\", row 2500 (line 2501): \"oops\" is not a number"), "{error}");
    assert!(!dir.path().join("p.json").exists());
}

#[test]
fn files_that_are_no_tables_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(&dir, "good.csv", &plain());
    let not_utf8 = dir.path().join("latin.csv");
    std::fs::write(&not_utf8, b"id,x\n1,caf\xe9\n").unwrap();
    for (bad, words) in [
        (dir.path().join("nowhere.csv"), "No such file"),
        (dir.path().to_owned(), "is a folder"),
        (file(&dir, "empty.csv", ""), "is empty: a header line is needed"),
        (file(&dir, "twice.csv", "a,a\n1,2\n"), "two columns are named \"a\""),
        (file(&dir, "ragged.csv", "id,x\n1,2\n1,2,3\n"), "row 2 (line 3): has 3 fields, the header has 2"),
        (file(&dir, "no.parquet", "PAR1 and nothing else"), "is not readable Parquet"),
        (file(&dir, "no.json", "{\"a\":1}"), "is no profile"),
        (not_utf8, "column \"x\", row 1 (line 2): is not UTF-8"),
    ] {
        let output = program(&["score", "--reference", path(&bad), "--current", path(&good)]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(code(&output), 2, "{error}");
        let name = bad.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(words) && error.contains(name), "{error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
fn columns_that_are_empty_or_gone_get_a_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let column = |cell: &dyn Fn(usize) -> String| {
        (0..100).fold("k,x\n".to_owned(), |mut csv, i| {
            writeln!(csv, "{},{}", i % 7, cell(i)).unwrap();
            csv
        })
    };
    let full = file(&dir, "full.csv", &column(&|i| format!("{}", i * 37 % 101)));
    let empty = file(&dir, "empty.csv", &column(&|_| String::new()));
    let gone = file(&dir, "gone.csv", &(0..100).fold("k,new\n".to_owned(), |csv, i| csv + &format!("{},1\n", i % 7)));
    let header = file(&dir, "header.csv", "k,x\n");
    let (exit, report) = score(&full, &empty, &[]);
    assert_eq!((exit, &report["features"]["x"]["severity"]), (1, &"alert".into()));
    assert!(report["features"]["x"]["reason"].as_str().unwrap().contains("0.0 % to 100.0 %"));
    let (exit, report) = score(&empty, &full, &[]);
    assert_eq!((exit, &report["features"]["x"]["drifted"]), (1, &true.into()), "{report}");
    let (exit, report) = score(&empty, &empty, &[]);
    assert_eq!((exit, &report["features"]["x"]["reason"]), (0, &"empty on both sides".into()));
    let (exit, report) = score(&full, &gone, &[]);
    assert_eq!((exit, &report["new_columns"]), (1, &serde_json::json!(["new"])));
    assert!(report["features"]["x"]["reason"].as_str().unwrap().ends_with("gone.csv has no column \"x\""));
    let (exit, report) = score(&full, &header, &[]);
    assert_eq!((exit, &report["verdict"]), (2, &"cannot_tell".into()));
}

#[test]
fn a_column_of_one_value_and_the_largest_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let constant = |x: &str| (0..100).fold("x\n".to_owned(), |csv, _| csv + x + "\n");
    let five = file(&dir, "five.csv", &constant("5"));
    let six = file(&dir, "six.csv", &constant("6"));
    assert_eq!(score(&five, &five, &[]).0, 0);
    let (exit, report) = score(&five, &six, &[]);
    let x = &report["features"]["x"];
    assert_eq!((exit, &x["wasserstein"], &x["wasserstein_sigma"]), (1, &1.0.into(), &serde_json::Value::Null));
    let mixed =
        |scale: &str| (0..100).fold("x\n".to_owned(), |csv, i| csv + if i % 2 == 0 { "-" } else { "" } + scale + "\n");
    let huge = file(&dir, "huge.csv", &mixed("1e308"));
    let (exit, report) = score(&huge, &huge, &[]);
    assert_eq!(exit, 0, "{report}");
    let (exit, report) = score(&huge, &file(&dir, "less.csv", &mixed("1e307")), &[]);
    assert_eq!(exit, 1, "{report}");
    let profile = dir.path().join("huge.json");
    assert_eq!(code(&program(&["profile", "--data", path(&huge), "--out", path(&profile)])), 0);
    assert_eq!(score(&profile, &huge, &[]).0, 0);
}

#[test]
fn a_stream_that_cannot_be_watched_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let data = file(&dir, "s.csv", "x,y\n1,a\n,b\nNaN,c\n2,d\n");
    let run = |more: &[&str]| {
        let output = program(&[&["stream", "--detector", "adwin", "--data", path(&data)], more].concat());
        (code(&output), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, error) = run(&["--column", "x"]);
    assert_eq!(exit, 0);
    assert!(error.contains("2 rows without a finite number are passed over, the first is row 2 (line 3)"), "{error}");
    let (exit, error) = run(&["--column", "y"]);
    assert!(exit == 2 && error.contains("column \"y\", row 1 (line 2): \"a\" is not a number"), "{error}");
    let (exit, error) = run(&["--column", "z"]);
    assert!(exit == 2 && error.contains("there is no column \"z\"; there are x, y"), "{error}");
    let (exit, error) = run(&["--column", "x", "--param", "delta=2"]);
    assert!(exit == 2 && error.contains("--param delta=2"), "{error}");
}
