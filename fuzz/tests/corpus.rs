//! Everything that fuzzing found worth keeping, through the same functions again.

use std::path::{Path, PathBuf};

use fuzz::{GuardHttp, guard_decide, policy, webhook};

/// The committed corpus, and what a run on this machine found and nobody has put right yet.
fn inputs(target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = |name: &str| std::fs::read_dir(root.join(name).join(target)).into_iter().flatten();
    let mut files: Vec<_> = folder("corpus").chain(folder("artifacts")).map(|f| f.expect("a file").path()).collect();
    files.sort();
    files
}

fn check(target: &str, run: impl Fn(&[u8])) {
    let inputs = inputs(target);
    assert!(inputs.len() >= 5, "{target} has no corpus");
    for input in inputs {
        let bytes = std::fs::read(&input).expect("a readable file");
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes))).is_err() {
            panic!("{} fails again", input.display());
        }
    }
}

#[test]
fn guard_decisions() {
    check("guard_decide", guard_decide);
}

#[test]
fn guard_connections() {
    let guard = GuardHttp::new();
    check("guard_http", |bytes| guard.send(bytes));
}

#[test]
fn policies() {
    check("policy", policy);
}

#[test]
fn notifications() {
    check("webhook", webhook);
}
