//! The script at the root.

use std::path::Path;
use std::process::Command;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn says_clearly_that_cargo_is_missing() {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(root().join("stack"))
        .arg("status")
        .current_dir("/")
        .env_clear()
        // Coreutils and bash only.
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", cache.path())
        .env("STACK_CACHE", cache.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("cargo is missing") && said.contains("rustup"), "{said}");
}

#[test]
fn ci_calls_the_same_command() {
    let text = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(text.lines().any(|line| line.starts_with("exec") && line.ends_with("stack\" test")), "{text}");
}
