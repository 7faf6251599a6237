//! The command as its users run it: arguments, output, exit codes.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use esg_ledger::{entry::Entry, testing};

use crate::support::sample;

struct Done {
    code: i32,
    out: String,
    err: String,
}

fn run_with(dir: &Path, args: &[&str], input: &str) -> Done {
    let mut child = Command::new(env!("CARGO_BIN_EXE_esg-ledger"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    Done { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn run(dir: &Path, args: &[&str]) -> Done {
    run_with(dir, args, "")
}

/// A reading of the last hour, as a producer sends it: the canonical spelling is not its business.
fn recent_reading(start: i64, seq: i64) -> String {
    let mut reading = testing::reading("m", seq);
    (reading.start_us, reading.end_us) = (start + seq * 1_000_000, start + (seq + 1) * 1_000_000);
    let bytes = Entry::Reading(reading).to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    value.to_string().replace("\":", "\": ")
}

#[test]
fn the_path_of_an_outsider_from_a_new_log_to_a_checked_copy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let made = run(dir, &["init", "log", "--origin", "example.com/esg"]);
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    let key = made.out.trim().to_owned();
    assert!(key.starts_with("example.com/esg+"));
    for at in ["log", "log.state/verifier-key"] {
        assert_eq!(run(dir, &["key", at]).out.trim(), key);
    }
    assert_eq!(run(dir, &["key", "nowhere"]).code, 65);
    let again = run(dir, &["init", "log", "--origin", "example.com/esg"]);
    assert_eq!((again.code, again.err.as_str()), (65, "esg-ledger: log holds a log already\n"));
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir.join("log.state/signing-key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let inside: Vec<_> = fs::read_dir(dir.join("log")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(inside.len(), 2, "checkpoint and tile, nothing else: {inside:?}");

    let start = esg_ledger::serve::now_us() - 3_600_000_000;
    let lines: String = (0..5).map(|seq| format!("{}\n", recent_reading(start, seq))).collect();
    let appended = run_with(dir, &["append", "log"], &lines);
    assert_eq!((appended.code, appended.err.as_str()), (0, ""));
    assert_eq!(appended.out, "appended 5, duplicates 0, refused 0; the log has 6 entries\n");
    let bad = format!("{}\n\n{{\"energy\": 1.5}}\n", lines.lines().next().unwrap());
    let refused = run_with(dir, &["append", "log"], &bad);
    assert_eq!(refused.code, 65);
    assert!(refused.err.starts_with("line 1: machine m seq 0: the sequence number is not new"), "{}", refused.err);
    assert!(refused.err.contains("line 3: byte 11: only integers are accepted"), "{}", refused.err);
    assert_eq!(refused.out, "appended 0, duplicates 1, refused 1; the log has 6 entries\n");

    // The auditor has a copy of the folder and the key.
    let copy = run(dir, &["verify", "log", "--key", &key]);
    assert_eq!(copy.code, 0, "{}{}", copy.out, copy.err);
    assert!(copy.out.starts_with("OK example.com/esg: 6 entries, 1 tiles, root "), "{}", copy.out);
    fs::write(dir.join("key.txt"), format!("{key}\n")).unwrap();
    fs::copy(dir.join("log/checkpoint"), dir.join("last")).unwrap();
    let json = run(dir, &["verify", "log", "--key", "key.txt", "--checkpoint", "last", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((report["ok"].as_bool(), report["continues"].as_u64(), json.code), (Some(true), Some(6), 0));

    // One byte.
    let bundle = dir.join("log/tile/entries/000.p/6");
    let good = fs::read(&bundle).unwrap();
    let mut bytes = good.clone();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(&bundle, &bytes).unwrap();
    let found = run(dir, &["verify", "log", "--key", &key]);
    assert_eq!(found.code, 23);
    assert!(
        found.out.starts_with("FAILED entry_altered (23) in tile/entries/000.p/6, tile 0/0, entry 5: "),
        "{}",
        found.out
    );
    let report = run(dir, &["report", "log", "--month", "2026-10", "--key", &key]);
    assert_eq!(report.code, 23);
    assert!(report.err.contains("no report is made of a log that does not verify"), "{}", report.err);
    fs::write(&bundle, &good).unwrap();

    // A proof goes where the folder does not.
    let proof = run(dir, &["prove", "log", "3", "--out", "proof"]);
    assert_eq!((proof.code, proof.err.as_str()), (0, ""));
    let checked = run(dir, &["check-proof", "proof", "--key", &key]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.out.starts_with("OK entry 3 is in the signed log of 6 entries:\n{\"boot_id\""), "{}", checked.out);
    let text = fs::read_to_string(dir.join("proof")).unwrap();
    fs::write(dir.join("proof"), text.replace("index 3", "index 2")).unwrap();
    let wrong = run(dir, &["check-proof", "proof", "--key", &key]);
    assert_eq!((wrong.code, wrong.err.as_str()), (50, "esg-ledger: the proof leads to another root hash\n"));
    let none = run(dir, &["prove", "log", "6"]);
    assert_eq!((none.code, none.err.as_str()), (65, "esg-ledger: entry 6 is not in the log of 6 entries\n"));

    let consistency = run(dir, &["prove", "log", "--consistency", "4", "6", "--out", "c"]);
    assert_eq!(consistency.code, 0, "{}", consistency.err);
    let unanchored = run(dir, &["check-proof", "c", "--key", &key]);
    assert_eq!(unanchored.code, 51);
    assert_eq!(unanchored.err, "esg-ledger: no signed checkpoint of 4 entries: give it with --checkpoint\n");
    assert_eq!(run(dir, &["check-proof", "last", "--key", &key]).code, 52);
}

#[test]
fn a_consistency_proof_between_two_signed_checkpoints_holds() {
    let log = sample(400, 2, &[100]);
    let dir = log.root.path();
    let at = |n: &str| dir.join(n).display().to_string();
    let key = log.key.to_string();
    fs::copy(log.dir().join("checkpoint"), dir.join("old")).unwrap();
    let mut writer = esg_ledger::log::Log::open(log.place.clone()).unwrap();
    let more: Vec<_> = testing::entries(700, 2).skip(400).collect();
    crate::support::append(&mut writer, &more);
    drop(writer);
    let made = run(dir, &["prove", "log", "--consistency", "400", "700", "--out", "c"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let ok = run(dir, &["check-proof", "c", "--key", &key, "--checkpoint", &at("old"), "--json"]);
    assert_eq!(ok.code, 0, "{}", ok.err);
    assert_eq!(ok.out, "{\"ok\":true,\"kind\":\"consistency\",\"old\":400,\"new\":700}\n");
    // A checkpoint of another log does not anchor it.
    let other = sample(400, 1, &[400]);
    fs::copy(other.dir().join("checkpoint"), dir.join("foreign")).unwrap();
    assert_eq!(run(dir, &["check-proof", "c", "--key", &key, "--checkpoint", &at("foreign")]).code, 11);
}

#[test]
fn wrong_usage_ends_with_64_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (args, says) in [
        (&["verify", "x"][..], "--key"),
        (&["verify", "x", "--key", "nonsense"], "not a verifier key"),
        (&["prove", "x"], "INDEX"),
        (&["export", "x"], "csv"),
        (&["report", "x", "--month", "October"], "is not a month such as 2026-10"),
        (&["nonsense"], "subcommand"),
        (&[], "subcommand"),
    ] {
        let done = run(folder.path(), args);
        assert_eq!(done.code, 64, "{args:?}: {}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{args:?}: {}", done.err);
        assert!(done.err.starts_with("esg-ledger: ") && done.err.contains(says), "{args:?}: {}", done.err);
    }
}

#[test]
fn each_damage_ends_with_its_documented_code() {
    let log = sample(300, 2, &[200, 99]);
    let dir = log.root.path();
    let files = crate::support::files(log.dir());
    let key = log.key.to_string();
    let witness = log.witness.to_string();
    let code = |args: &[&str]| {
        let all = [&["verify", "log", "--key", &key, "--witness", &witness], args].concat();
        run(dir, &all).code
    };
    assert_eq!(code(&[]), 0);
    let damage = |file: &str, change: &dyn Fn(&Path)| {
        change(&log.dir().join(file));
        let found = code(&[]);
        crate::support::restore(log.dir(), &files);
        found
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..40]).unwrap();
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[50] ^= 4;
        fs::write(path, bytes).unwrap();
    };
    assert_eq!(damage("checkpoint", &remove), 20);
    assert_eq!(damage("checkpoint", &cut), 10);
    assert_eq!(
        damage("checkpoint", &|p| fs::write(p, fs::read_to_string(p).unwrap().replace("\n300\n", "\n301\n")).unwrap()),
        11
    );
    assert_eq!(
        damage("checkpoint", &|p| fs::write(p, fs::read_to_string(p).unwrap().replacen(".com/esg\n", ".com/esh\n", 1))
            .unwrap()),
        12
    );
    assert_eq!(
        damage("checkpoint", &|p| fs::write(
            p,
            fs::read_to_string(p).unwrap().replace("— example.com/witness", "— example.com/other")
        )
        .unwrap()),
        13
    );
    assert_eq!(damage("tile/0/000", &remove), 20);
    assert_eq!(damage("tile/entries/000", &remove), 20);
    assert_eq!(damage("tile/0/000", &cut), 21);
    assert_eq!(damage("tile/entries/000", &cut), 21);
    assert_eq!(damage("tile/0/000", &flip), 22);
    assert_eq!(damage("tile/1/000.p/1", &|p| fs::write(p, [7; 32]).unwrap()), 22);
    assert_eq!(damage("tile/entries/000", &flip), 23);
    assert_eq!(damage("tile/x", &|p| fs::write(p, "x").unwrap()), 25);
    assert_eq!(run(dir, &["verify", "nowhere", "--key", &key]).code, 20);
    assert_eq!(code(&["--checkpoint", "nowhere"]), 74);
}
