//! A crash at every single step of writing, with or without the power: what was acknowledged
//! is there after recovery, and the log verifies.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use esg_ledger::{
    disk::{Disk, Faults, Step, Verdict},
    log::{Log, Place},
    scan, testing,
    verify::verify,
};

use crate::support::{self, NOW_US, Sample, policy, started};

/// What a power failure takes: whatever was not synced, as far as it can go wrong.
#[derive(Default)]
struct Volatile {
    /// Files written and not yet synced.
    unsynced: Vec<PathBuf>,
    /// Names not yet synced: the target, and what was there before.
    renames: Vec<(PathBuf, Option<Vec<u8>>)>,
}

struct Crash {
    at: usize,
    torn: bool,
    kind: io::ErrorKind,
    steps: Mutex<(usize, Vec<Step>)>,
    volatile: Mutex<Volatile>,
}

impl Crash {
    fn at(at: usize, torn: bool) -> Arc<Self> {
        let kind = io::ErrorKind::Interrupted;
        Arc::new(Self { at, torn, kind, steps: Mutex::default(), volatile: Mutex::default() })
    }

    fn error(&self) -> io::Error {
        io::Error::new(self.kind, "the machine stopped")
    }
}

impl Faults for Crash {
    fn before(&self, step: &Step) -> Verdict {
        let mut steps = self.steps.lock().unwrap();
        let n = steps.0;
        steps.0 += 1;
        steps.1.push(step.clone());
        if n >= self.at {
            // From here on nothing happens any more.
            return match (step, self.torn && n == self.at) {
                (Step::Write(path), true) => {
                    self.volatile.lock().unwrap().unsynced.push(path.clone());
                    Verdict::Torn(100, self.error())
                }
                _ => Verdict::Fail(self.error()),
            };
        }
        let mut v = self.volatile.lock().unwrap();
        match step {
            Step::Write(path) => v.unsynced.push(path.clone()),
            Step::SyncFile(path) => v.unsynced.retain(|p| p != path),
            Step::Rename(_, to) => {
                let before = fs::read(to).ok();
                v.renames.push((to.clone(), before));
            }
            Step::SyncDir(dir) => v.renames.retain(|(p, _)| p.parent() != Some(dir.as_path())),
            Step::Remove(_) => {}
        }
        Verdict::Go
    }
}

/// Applies the loss: unsynced files lose their content, unsynced names are those of before.
fn lose_power(crash: &Crash) {
    let v = crash.volatile.lock().unwrap();
    for path in &v.unsynced {
        if path.exists() {
            fs::write(path, b"").unwrap();
        }
    }
    for (path, before) in v.renames.iter().rev() {
        match before {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn failing(place: &Place, crash: &Arc<Crash>) -> Place {
    Place { disk: Disk::failing(crash.clone()), ..place.clone() }
}

/// The steps of appending this batch to this log.
fn count_steps(sample: &Sample, batch: &[Vec<u8>]) -> Vec<Step> {
    let crash = Crash::at(usize::MAX, false);
    let mut log = Log::open(failing(&sample.place, &crash)).unwrap();
    log.submit(batch, &policy(), NOW_US).unwrap();
    log.close().unwrap();
    crash.steps.lock().unwrap().1.clone()
}

fn entries_of(dir: &Path) -> Vec<Vec<u8>> {
    let (checkpoint, _) = scan::checkpoint(dir, None).unwrap();
    let mut out = Vec::new();
    let dir = esg_ledger::dir::LogDir::new(dir, checkpoint.size);
    scan::entries(&dir, |_, _, bytes| {
        out.push(bytes.to_vec());
        Ok::<_, scan::ScanError>(())
    })
    .unwrap();
    out
}

/// Crashes at every step of appending `batch` to a log that holds `before` entries.
fn crash_everywhere(before: usize, batch: usize, power: bool) {
    let all: Vec<Vec<u8>> = testing::entries(before + batch + 40, 2).collect();
    let base = started();
    let mut log = Log::open(base.place.clone()).unwrap();
    support::append(&mut log, &all[1..before]);
    log.close().unwrap();
    let (dir, state) = (support::files(base.dir()), support::files(&base.place.state));
    let steps = count_steps(&base, &all[before..before + batch]);
    assert!(steps.len() > 10, "{steps:?}");
    let restore = || {
        support::restore(base.dir(), &dir);
        support::restore(&base.place.state, &state);
    };
    let mut outcomes = BTreeMap::new();
    for at in 0..=steps.len() {
        for torn in [false, true] {
            if torn && !matches!(steps.get(at), Some(Step::Write(_))) {
                continue;
            }
            restore();
            let crash = Crash::at(at, torn);
            let mut acknowledged = before;
            if let Ok(mut log) = Log::open(failing(&base.place, &crash))
                && log.submit(&all[before..before + batch], &policy(), NOW_US).is_ok()
            {
                acknowledged += batch;
                let _ = log.close();
            }
            if power {
                lose_power(&crash);
            }
            let what = format!("crash at step {at} {:?}, torn {torn}, power {power}", steps.get(at));
            // The machine is back. Whatever the state is, the next start makes it whole.
            let mut log = Log::open(base.place.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
            let size = log.size() as usize;
            assert!(size >= acknowledged, "{what}: {acknowledged} acknowledged, {size} there");
            assert!(size == before || size == before + batch, "{what}: half a batch: {size}");
            *outcomes.entry(size).or_insert(0) += 1;
            support::append(&mut log, &all[size..size + 30]);
            support::cosign(&mut log);
            log.close().unwrap();
            assert_eq!(entries_of(base.dir()), all[..size + 30], "{what}");
            let report = verify(base.dir(), &base.options());
            assert!(report.ok, "{what}: {:?}", report.failures);
            assert_eq!(report.warnings, [], "{what}");
        }
    }
    assert_eq!(outcomes.len(), 2, "some crashes must come before the promise and some after it");
}

#[test]
fn within_one_bundle() {
    crash_everywhere(10, 20, false);
}

#[test]
fn over_the_end_of_a_bundle_and_tile() {
    crash_everywhere(250, 300, false);
}

#[test]
fn with_the_power_gone_within_one_bundle() {
    crash_everywhere(10, 20, true);
}

#[test]
fn with_the_power_gone_over_the_end_of_a_bundle_and_tile() {
    crash_everywhere(250, 300, true);
}

#[test]
fn a_full_disk_refuses_the_batch_and_the_log_goes_on_when_there_is_room() {
    let base = started();
    let all: Vec<Vec<u8>> = testing::entries(40, 1).collect();
    let full = Arc::new(Crash {
        at: 3,
        torn: true,
        kind: io::ErrorKind::StorageFull,
        steps: Mutex::default(),
        volatile: Mutex::default(),
    });
    let mut log = Log::open(failing(&base.place, &full)).unwrap();
    let error = log.submit(&all[1..20], &policy(), NOW_US).unwrap_err().to_string();
    assert!(error.starts_with("cannot "), "{error}");
    let again = log.submit(&all[1..20], &policy(), NOW_US).unwrap_err().to_string();
    assert_eq!(again, "an earlier write failed, the log must be opened again");
    drop(log);
    let mut log = Log::open(base.place.clone()).unwrap();
    assert_eq!(support::append(&mut log, &all[1..20]).len(), 19);
}

#[test]
fn two_writers_cannot_have_one_log() {
    let base = started();
    let first = Log::open(base.place.clone()).unwrap();
    let error = Log::open(base.place.clone()).err().unwrap().to_string();
    assert!(error.starts_with("another process writes this log: "), "{error}");
    drop(first);
    assert!(Log::open(base.place.clone()).is_ok());
}

#[test]
fn nothing_is_signed_that_does_not_continue_what_was_signed() {
    // The folder is put back to an earlier copy while the state has promised more.
    let base = started();
    let all: Vec<Vec<u8>> = testing::entries(40, 1).collect();
    let before = support::files(base.dir());
    let mut log = Log::open(base.place.clone()).unwrap();
    support::append(&mut log, &all[1..20]);
    log.close().unwrap();
    let after = support::files(base.dir());
    support::restore(base.dir(), &before);
    let refused = |what: &str| {
        let checkpoint = fs::read(base.dir().join("checkpoint")).ok();
        let error = Log::open(base.place.clone()).err().unwrap_or_else(|| panic!("{what} was accepted")).to_string();
        assert_eq!(fs::read(base.dir().join("checkpoint")).ok(), checkpoint, "{what}: nothing is signed");
        error
    };
    assert!(refused("an old copy").contains("missing"));
    // The state is put back to an earlier copy while the folder has more.
    support::restore(base.dir(), &after);
    let tree = base.place.state.join("tree.json");
    let promised = fs::read_to_string(&tree).unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    fs::write(&tree, format!("{{\"origin\":\"example.com/esg\",\"root\":\"{empty}\",\"size\":0}}")).unwrap();
    assert_eq!(
        refused("an old state"),
        "the writer's state has 0 entries, but 20 are signed; nothing is signed, run `esg-ledger verify`"
    );
    fs::write(&tree, "{").unwrap();
    assert!(refused("a damaged state").contains("is damaged"));
    fs::write(&tree, promised).unwrap();
    // A tile is changed.
    support::restore(base.dir(), &after);
    let tile = base.dir().join("tile/0/000.p/20");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[5] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert!(refused("a changed tile").contains("do not lead to the root"));
    // An entry is changed.
    support::restore(base.dir(), &after);
    let bundle = base.dir().join("tile/entries/000.p/20");
    let mut bytes = fs::read(&bundle).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert!(refused("a changed entry").contains("entry 19 is not the one in the tree"));
    // The checkpoint is another log's.
    support::restore(base.dir(), &after);
    let other = support::sample(3, 1, &[3]);
    fs::copy(other.dir().join("checkpoint"), base.dir().join("checkpoint")).unwrap();
    assert!(refused("a foreign checkpoint").contains("no signature by example.com/esg"));
    fs::remove_file(base.dir().join("checkpoint")).unwrap();
    assert!(refused("no checkpoint").starts_with("the checkpoint is missing"));
    support::restore(base.dir(), &after);
    assert!(Log::open(base.place.clone()).is_ok());
}
