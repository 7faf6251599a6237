//! The command line, as a user runs it.

use std::{fmt::Write, path::Path, process::Command};

use serde_json::{Value, json};

/// Exit code, stdout, stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry-generator"));
    let output = command.args(args).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A machine that rises by a degree a minute after an hour, in other names and units.
fn series(dir: &Path, rfc3339: bool) -> String {
    let mut text = "kW,celsius,asset,when\n".to_owned();
    for i in 0..570u32 {
        let temperature = 60.0 + (f64::from(i) - 360.0).max(0.0) / 6.0 + f64::from(i * 7_919 % 13) / 40.0;
        let when = if rfc3339 {
            format!("2026-01-01T{:02}:{:02}:{:02}Z", i / 360, i / 6 % 60, i % 6 * 10)
        } else {
            (1_767_225_600 + i * 10).to_string()
        };
        let _ = writeln!(text, "12.5,{temperature},press-7,{when}");
    }
    let path = dir.join("series.csv");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_series_gives_its_alarms_in_json_and_in_words() {
    let dir = tempfile::tempdir().unwrap();
    for rfc3339 in [false, true] {
        let path = series(dir.path(), rfc3339);
        for (columns, aware) in [("when,asset,celsius,kW", true), ("when,asset,celsius", false)] {
            let (code, out, err) = run(&["forecast", "--csv", &path, "--columns", columns, "--json"]);
            assert_eq!(code, 0, "{err}");
            assert_eq!(err.contains("no load column"), !aware);
            let document: Value = serde_json::from_str(&out).unwrap();
            let [alarm] = document["alarms"].as_array().unwrap().as_slice() else { panic!("{out}") };
            assert_eq!((document.as_object().unwrap().len(), alarm.as_object().unwrap().len()), (1, 4));
            assert_eq!(alarm["machine_id"], "press-7");
            assert_eq!(alarm["time"].is_string(), rfc3339);
            assert!(alarm["eta_seconds"].is_number() && alarm["probability"].is_number());
        }
        let (code, out, _) = run(&["forecast", "--csv", &path, "--columns", "when,asset,celsius,kW"]);
        assert_eq!(code, 0);
        assert!(out.contains("press-7  is going to overheat: 95 °C in"), "{out}");
    }
}

#[test]
fn a_calm_series_gives_an_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calm.csv");
    std::fs::write(&path, "time,machine_id,temperature\n1,a,50\n2,a,50.1\n").unwrap();
    let (code, out, _) = run(&["forecast", "--csv", path.to_str().unwrap(), "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (0, json!({"alarms": []})));
}

#[test]
fn bad_input_is_one_line_and_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.csv");
    let file = path.to_str().unwrap();
    for (text, expected) in [
        ("", "is empty; a header"),
        ("time,machine_id,temperature\n", "there are no rows"),
        ("time,machine_id,temperature\n1,a,50\n", "line 2: is the only row"),
        ("time,machine,temperature\n1,a,50\n", "line 1, column \"machine_id\": is missing"),
        ("time,machine_id,temperature\n1,a,50\n2,a,x\n", "line 3, column \"temperature\": \"x\" is no number"),
        (
            "time,machine_id,temperature\n1,a,50\n2,a,nan\n",
            "line 3, column \"temperature\": \"nan\" is no finite number",
        ),
        ("time,machine_id,temperature\n2,a,50\n1,a,50\n", "line 3, column \"time\": 1 goes backwards"),
        ("time,machine_id,temperature\n2,a,50\n2,a,50\n", "line 3, column \"time\": 2 is a duplicate"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (code, out, err) = run(&["forecast", "--csv", file, "--json"]);
        let last = err.lines().last().unwrap_or_default();
        assert_eq!((code, out.as_str()), (65, ""), "{err}");
        assert!(last.contains(file) && last.contains(expected) && !err.contains("panicked"), "{err}");
    }
    assert_eq!(run(&["forecast", "--csv", "/nonexistent"]).0, 65);
    for wrong in [
        &["forecast"][..],
        &["forecast", "--csv", file, "--columns", "a,b"],
        &["forecast", "evaluate", "--seeds", "9..3"],
    ] {
        assert_eq!(run(wrong).0, 64, "{wrong:?}");
    }
    assert_eq!(run(&["forecast", "--help"]).0, 0);
    assert_eq!(run(&["--help"]).0, 0);
}

#[test]
fn the_evaluation_reports_every_shape() {
    let (code, out, err) = run(&["forecast", "evaluate", "--seeds", "1..2", "--json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((report["by_shape"].as_array().unwrap().len(), &report["seeds"]), (9, &json!("1..2")));
    assert_eq!(report["healthy"].as_array().unwrap().len(), 9);
}
