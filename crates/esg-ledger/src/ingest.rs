//! From what a producer sends to what the log takes: one decision an entry, without I/O.

use std::collections::HashSet;

use crate::{
    canonical::canonicalize,
    entry::Entry,
    history::{Earlier, Fault, Gap, History},
};

/// What the ledger accepts, beyond what every entry must be.
#[derive(Clone, Debug)]
pub struct Policy {
    /// An entry may be this much ahead of the ledger's clock.
    pub max_ahead_us: i64,
    /// An entry may be this old.
    pub max_age_us: i64,
    /// The machines that may send; any, if absent.
    pub machines: Option<HashSet<String>>,
}

impl Default for Policy {
    /// Five minutes ahead, 31 days old, any machine.
    fn default() -> Self {
        Self { max_ahead_us: 300_000_000, max_age_us: 31 * 86_400_000_000, machines: None }
    }
}

/// What becomes of one entry that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// These bytes go into the log: the entry last, before it the gap records that it needs.
    Append(Vec<Vec<u8>>),
    /// It was there before: a producer may send again what it has no answer to.
    Duplicate(String),
    /// It is not accepted.
    Refuse(String),
}

/// Decides over one entry and counts it into `history`.
///
/// Any spelling of JSON is accepted here; what is stored is its canonical form.
pub fn decide(history: &mut History, policy: &Policy, now_us: i64, sent: &[u8], earlier: &mut dyn Earlier) -> Decision {
    // Canonical bytes of valid entries are well below this; reading more would be work for nothing.
    if sent.len() > 4 * crate::tile::MAX_ENTRY {
        return Decision::Refuse(format!("the entry has {} bytes, more than the 65535 that fit", sent.len()));
    }
    let bytes = match canonicalize(sent) {
        Ok(bytes) => bytes,
        Err(e) => return Decision::Refuse(e.to_string()),
    };
    let entry = match Entry::parse(&bytes) {
        Ok(entry) => entry,
        Err(e) => return Decision::Refuse(e.to_string()),
    };
    if let Some(reason) = outside(policy, now_us, &entry) {
        return Decision::Refuse(reason);
    }
    if let Some(reason) = told_before(history, &entry) {
        return Decision::Duplicate(reason);
    }
    let mut out = Vec::new();
    if let Entry::Reading(reading) = &entry {
        // Tried on its own first: a reading that is refused must leave no gap records behind.
        let bridge = history.bridge(reading);
        if !bridge.is_empty() {
            let mut trial = history.clone_for(reading);
            let admitted = bridge.iter().chain([&entry]).try_for_each(|e| trial.admit(e, earlier));
            if let Err(e) = admitted {
                return refuse(e.fault, e.message);
            }
        }
        for record in bridge {
            if let Err(e) = history.admit(&record, earlier) {
                history.retract();
                return refuse(e.fault, e.message);
            }
            out.push(record.to_bytes());
        }
    }
    if let Err(e) = history.admit(&entry, earlier) {
        history.retract();
        return refuse(e.fault, e.message);
    }
    out.push(bytes);
    Decision::Append(out)
}

fn refuse(fault: Fault, message: String) -> Decision {
    if fault == Fault::Duplicate { Decision::Duplicate(message) } else { Decision::Refuse(message) }
}

/// Gap records have no sequence number: that one was there before shows by the data after it, or by
/// the gap that is open already (the ledger may have been faster than its producer).
fn told_before(history: &History, entry: &Entry<'_>) -> Option<String> {
    let machine = history.machines().get(entry.machine_id()?)?;
    let told = match entry {
        Entry::GapOpen(g) => g.from_us < machine.end_us || machine.gap.is_some_and(|gap| g.from_us <= gap.from_us),
        Entry::GapClose(g) => {
            let same = |gap: Gap| g.until_us <= gap.from_us || gap.until_us == Some(g.until_us);
            g.until_us <= machine.end_us || machine.gap.is_some_and(same)
        }
        _ => false,
    };
    told.then(|| format!("machine {}: the log tells of this gap already", entry.machine_id().unwrap_or_default()))
}

/// Why an entry is outside what the policy allows.
fn outside(policy: &Policy, now_us: i64, entry: &Entry<'_>) -> Option<String> {
    if let (Some(machines), Some(id)) = (&policy.machines, entry.machine_id())
        && !machines.contains(id)
    {
        return Some(format!("machine {id} is not on the list of machines"));
    }
    let ahead = entry.time_us() - now_us;
    if ahead > policy.max_ahead_us {
        return Some(format!("its time is {} s in the future", ahead / 1_000_000));
    }
    // A correction is about the past by nature; a gap closes when it closes.
    if matches!(entry, Entry::Reading(_)) && -ahead > policy.max_age_us {
        return Some(format!("its time is {} s in the past", -ahead / 1_000_000));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{carbon, entry::Reading, testing};

    fn none(_: u64) -> Option<Vec<u8>> {
        None
    }

    fn started() -> History {
        let mut history = History::default();
        let first = Entry::FactorSet(carbon::built_in(testing::START_US)).to_bytes();
        for bytes in [first, Entry::Reading(testing::reading("m", 1)).to_bytes()] {
            let d = decide(&mut history, &Policy::default(), testing::START_US, &bytes, &mut none);
            assert!(matches!(d, Decision::Append(_)), "{d:?}");
        }
        history
    }

    fn send(bytes: &[u8]) -> Decision {
        decide(&mut started(), &Policy::default(), testing::START_US, bytes, &mut none)
    }

    fn changed(change: impl FnOnce(&mut Reading<'static>)) -> Decision {
        let mut next = testing::reading("m", 2);
        change(&mut next);
        next.compute();
        send(&Entry::Reading(next).to_bytes())
    }

    fn refused(decision: Decision) -> String {
        match decision {
            Decision::Refuse(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bad_input_has_one_clear_answer_each() {
        let good = String::from_utf8(Entry::Reading(testing::reading("m", 2)).to_bytes()).unwrap();
        assert_eq!(refused(changed(|r| r.energy_mj = -5)), "energy_mj is negative (-5)");
        assert_eq!(
            refused(changed(|r| r.meter_mj -= 10)),
            "machine m seq 2: the meter stood at 2000000 mJ and goes back to 1999990 mJ"
        );
        assert_eq!(
            refused(changed(|r| (r.start_us, r.end_us) = (r.start_us + 400_000_000, r.end_us + 400_000_000))),
            "its time is 403 s in the future"
        );
        let old = decide(
            &mut started(),
            &Policy::default(),
            testing::START_US + 40 * 86_400_000_000,
            good.as_bytes(),
            &mut none,
        );
        assert_eq!(refused(old), "its time is 3455997 s in the past");
        assert!(matches!(changed(|r| r.seq = 1), Decision::Duplicate(_)));
        let policy = Policy { machines: Some(HashSet::from(["other".to_owned()])), ..Policy::default() };
        let unknown = decide(&mut started(), &policy, testing::START_US, good.as_bytes(), &mut none);
        assert_eq!(refused(unknown), "machine m is not on the list of machines");
        assert!(refused(send(good.replace("\"seq\":2", "\"seq\":NaN").as_bytes())).contains("NaN and infinities"));
        assert!(refused(send(good.replace("\"seq\":2", "\"seq\":2.0").as_bytes())).contains("only integers"));
        let long = good.replace("line-1", &"x".repeat(70_000));
        assert!(refused(send(long.as_bytes())).contains("more than the 65535 that fit"));
        assert!(refused(send(&vec![b' '; 300_000])).contains("more than the 65535 that fit"));
        assert!(refused(send(b"\xff")).contains("UTF-8"));
    }

    #[test]
    fn a_producer_may_repeat_gap_records_as_well() {
        use crate::entry::{DeclaredBy, GapClose, GapOpen};
        let mut history = started();
        let end = history.machines()["m"].end_us;
        let open = |from_us| {
            Entry::GapOpen(GapOpen {
                from_us,
                machine_id: "m".into(),
                reason: "sensor_silent".into(),
                ..GapOpen::default()
            })
        };
        let close = |until_us| {
            let (machine_id, declared_by) = ("m".into(), DeclaredBy::Producer);
            Entry::GapClose(GapClose { declared_by, from_us: end, machine_id, missing: None, until_us })
        };
        let mut next = testing::reading("m", 2);
        (next.start_us, next.end_us) = (end + 5_000_000, end + 6_000_000);
        let sent = [open(end), close(end + 5_000_000), Entry::Reading(next)].map(|e| e.to_bytes());
        let mut send = |bytes: &[u8]| decide(&mut history, &Policy::default(), testing::START_US, bytes, &mut none);
        // Each again at once, and everything again at the end.
        for bytes in &sent {
            assert!(matches!(send(bytes), Decision::Append(_)));
            assert!(matches!(send(bytes), Decision::Duplicate(_)));
        }
        for bytes in &sent {
            assert!(matches!(send(bytes), Decision::Duplicate(_)));
        }
        assert!(refused(send(&open(end + 9_000_000).to_bytes())).contains("the gap starts at"));
        assert_eq!(history.size(), 5);
    }

    #[test]
    fn any_spelling_is_stored_in_the_canonical_one() {
        let good = Entry::Reading(testing::reading("m", 2)).to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&good).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(send(pretty.as_bytes()), Decision::Append(vec![good]));
    }

    #[test]
    fn a_refused_reading_after_a_jump_leaves_nothing_behind() {
        let mut history = started();
        let before = history.machines().clone();
        let mut bad = testing::reading("m", 9);
        bad.meter_mj = 1_500_000;
        let d = decide(&mut history, &Policy::default(), testing::START_US, &Entry::Reading(bad).to_bytes(), &mut none);
        assert!(refused(d).contains("goes back"));
        assert_eq!((history.machines(), history.size()), (&before, 2));
        let good = Entry::Reading(testing::reading("m", 9)).to_bytes();
        match decide(&mut history, &Policy::default(), testing::START_US, &good, &mut none) {
            Decision::Append(out) => assert_eq!(out.len(), 3),
            other => panic!("{other:?}"),
        }
        assert_eq!(history.size(), 5);
    }
}
