//! What the entries so far say about the next one: per machine its sequence, time, meter and
//! gaps; the factor tables; what has been corrected. Pure; the writer and the verifier share it.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use serde::{Deserialize, Serialize};

use crate::{
    carbon,
    entry::{Basis, Correction, DeclaredBy, Entry, EntryError, FactorSet, GapClose, GapOpen, Quote, Reading},
    merkle::leaf_hash,
};

/// What is wrong with an entry in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The sequence number was there already.
    Duplicate,
    /// A jump in sequence or time that no gap record tells.
    UndeclaredGap,
    /// An interval before the end of the one before it.
    TimeBackwards,
    /// The meter went down, or energy and meter disagree.
    Meter,
    /// A machine that has never sent a reading, or is not on the list.
    UnknownMachine,
    /// A gap record that does not fit the machine's state.
    Gap,
    /// A factor that no earlier table holds.
    Factor,
    /// A correction of something that cannot be corrected.
    Correction,
}

/// An entry that does not fit those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HistoryError {
    /// Which rule is broken.
    pub fault: Fault,
    /// One line for people.
    pub message: String,
}

fn fault(fault: Fault, message: String) -> HistoryError {
    HistoryError { fault, message }
}

/// A gap of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// End of the last interval.
    pub from_us: i64,
    /// Start of the next, once known.
    pub until_us: Option<i64>,
}

/// What is known of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its plant, by the latest reading.
    pub site: String,
    /// Run of its producer.
    pub boot_id: String,
    /// Latest sequence number within the run.
    pub seq: i64,
    /// End of the latest interval.
    pub end_us: i64,
    /// Meter at that instant.
    pub meter_mj: i64,
    /// The gap since then.
    pub gap: Option<Gap>,
    /// Time that readings cover.
    pub covered_us: i64,
    /// Time in closed gaps.
    pub gap_us: i64,
    /// Gaps, open or closed, that lasted.
    pub gaps: u64,
}

/// Reads an entry that is in the log already.
pub trait Earlier {
    /// Its bytes; `None` if it cannot be read.
    fn entry(&mut self, index: u64) -> Option<Vec<u8>>;
}

impl<F: FnMut(u64) -> Option<Vec<u8>>> Earlier for F {
    fn entry(&mut self, index: u64) -> Option<Vec<u8>> {
        self(index)
    }
}

/// Everything that earlier entries decide.
#[derive(Clone, Debug, Default)]
pub struct History {
    size: u64,
    machines: HashMap<String, Machine>,
    tables: Vec<FactorSet<'static>>,
    superseded: BTreeSet<u64>,
    latest_us: i64,
    /// The quote that was found valid last; nearly every reading repeats it.
    last_quote: Option<(String, Quote<'static>)>,
}

/// As it is kept between runs.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    size: u64,
    machines: HashMap<String, Machine>,
    tables: Vec<String>,
    superseded: BTreeSet<u64>,
    latest_us: i64,
}

impl History {
    /// Entries seen.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The latest instant that any entry speaks of, µs.
    pub fn latest_us(&self) -> i64 {
        self.latest_us
    }

    /// All machines.
    pub fn machines(&self) -> &HashMap<String, Machine> {
        &self.machines
    }

    /// The factors that hold now.
    pub fn factors(&self) -> Option<&FactorSet<'static>> {
        self.tables.last()
    }

    /// As JSON.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let text =
            |set: &FactorSet<'static>| String::from_utf8_lossy(&Entry::FactorSet(set.clone()).to_bytes()).into_owned();
        let snapshot = Snapshot {
            size: self.size,
            machines: self.machines.clone(),
            tables: self.tables.iter().map(text).collect(),
            superseded: self.superseded.clone(),
            latest_us: self.latest_us,
        };
        // Maps of strings and numbers always serialize.
        serde_json::to_vec(&snapshot).unwrap_or_default()
    }

    /// From JSON; `None` if it is damaged, and then the log itself must be read again.
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let snapshot: Snapshot = serde_json::from_slice(bytes).ok()?;
        let mut tables = Vec::new();
        for text in &snapshot.tables {
            match Entry::parse(text.as_bytes()).ok()? {
                Entry::FactorSet(set) => tables.push(owned_set(&set)),
                _ => return None,
            }
        }
        Some(Self {
            size: snapshot.size,
            machines: snapshot.machines,
            tables,
            superseded: snapshot.superseded,
            latest_us: snapshot.latest_us,
            last_quote: None,
        })
    }

    /// Checks the next entry against all before it, then counts it in.
    ///
    /// # Errors
    /// Which rule it breaks; nothing is counted then but its index.
    pub fn admit(&mut self, entry: &Entry<'_>, earlier: &mut dyn Earlier) -> Result<(), HistoryError> {
        let index = self.size;
        self.size += 1;
        match entry {
            Entry::Reading(r) => self.reading(r)?,
            Entry::GapOpen(g) => self.gap_open(g)?,
            Entry::GapClose(g) => self.gap_close(g)?,
            Entry::Correction(c) => self.correction(index, c, earlier)?,
            Entry::FactorSet(set) => {
                self.tables.push(owned_set(set));
                self.last_quote = None;
            }
            Entry::KeyRotation(_) | Entry::Heartbeat(_) => {}
        }
        self.latest_us = self.latest_us.max(entry.time_us());
        Ok(())
    }

    /// After an entry that was refused: its index is free again.
    pub fn retract(&mut self) {
        self.size -= 1;
    }

    /// A copy that knows only what one reading is checked against.
    pub(crate) fn clone_for(&self, r: &Reading<'_>) -> Self {
        let id = r.machine_id.as_ref();
        Self {
            size: self.size,
            machines: self.machines.get(id).map(|m| (id.to_owned(), m.clone())).into_iter().collect(),
            tables: self.tables.clone(),
            ..Self::default()
        }
    }

    fn reading(&mut self, r: &Reading<'_>) -> Result<(), HistoryError> {
        self.factors_of(r)?;
        let Some(m) = self.machines.get_mut(r.machine_id.as_ref()) else {
            self.machines.insert(
                r.machine_id.to_string(),
                Machine {
                    site: r.site.to_string(),
                    boot_id: r.boot_id.to_string(),
                    seq: r.seq,
                    end_us: r.end_us,
                    meter_mj: r.meter_mj,
                    gap: None,
                    covered_us: r.end_us - r.start_us,
                    gap_us: 0,
                    gaps: 0,
                },
            );
            return Ok(());
        };
        let same_boot = m.boot_id == r.boot_id;
        let who = || format!("machine {} seq {}", r.machine_id, r.seq);
        if same_boot && r.seq <= m.seq {
            let message = format!("{}: the sequence number is not new, the latest is {}", who(), m.seq);
            return Err(fault(Fault::Duplicate, message));
        }
        if r.start_us < m.end_us {
            let message = format!(
                "{}: the interval starts at {} µs, before the end of the one before it at {} µs",
                who(),
                r.start_us,
                m.end_us
            );
            return Err(fault(Fault::TimeBackwards, message));
        }
        let before = r.meter_mj - r.energy_mj;
        if before < m.meter_mj {
            let message = format!("{}: the meter stood at {} mJ and goes back to {} mJ", who(), m.meter_mj, before);
            return Err(fault(Fault::Meter, message));
        }
        let jump = same_boot && r.seq != m.seq + 1;
        match m.gap {
            Some(Gap { until_us: None, .. }) => {
                return Err(fault(Fault::Gap, format!("{}: a gap is open and must be closed first", who())));
            }
            Some(Gap { until_us: Some(until), .. }) if until != r.start_us => {
                let message = format!(
                    "{}: the gap was closed at {until} µs, but the interval starts at {} µs",
                    who(),
                    r.start_us
                );
                return Err(fault(Fault::UndeclaredGap, message));
            }
            Some(_) => {}
            None if jump => {
                let message = format!("{}: the sequence jumps from {} and no gap is recorded", who(), m.seq);
                return Err(fault(Fault::UndeclaredGap, message));
            }
            None if r.start_us > m.end_us => {
                let missing = r.start_us - m.end_us;
                let message = format!("{}: {missing} µs before the interval are missing and no gap is recorded", who());
                return Err(fault(Fault::UndeclaredGap, message));
            }
            None if before != m.meter_mj => {
                let message = format!(
                    "{}: the meter rose by {} mJ, but the energy is {} mJ",
                    who(),
                    r.meter_mj - m.meter_mj,
                    r.energy_mj
                );
                return Err(fault(Fault::Meter, message));
            }
            None => {}
        }
        if !same_boot {
            m.boot_id = r.boot_id.to_string();
        }
        if m.site != r.site {
            m.site = r.site.to_string();
        }
        m.gap = None;
        m.seq = r.seq;
        m.end_us = r.end_us;
        m.meter_mj = r.meter_mj;
        m.covered_us += r.end_us - r.start_us;
        Ok(())
    }

    /// The factors that a reading quotes must stand in an earlier table.
    fn factors_of(&mut self, r: &Reading<'_>) -> Result<(), HistoryError> {
        if self.last_quote.as_ref().is_some_and(|(region, quote)| *region == r.region && *quote == r.factor)
            && r.market_factor.is_none()
        {
            return Ok(());
        }
        let always = self.quoted(Basis::Location, &r.region, &r.factor, r.start_us)?;
        if let Some(factor) = &r.market_factor {
            self.quoted(Basis::Market, &r.region, factor, r.start_us)?;
        } else if always {
            self.last_quote = Some((r.region.to_string(), owned_quote(&r.factor)));
        }
        Ok(())
    }

    /// Whether the row holds at any time.
    fn quoted(&self, basis: Basis, region: &str, quote: &Quote<'_>, at_us: i64) -> Result<bool, HistoryError> {
        let no = |why: &str| fault(Fault::Factor, format!("the {basis:?} factor of region {region}: {why}"));
        let table = self.tables.iter().rev().find(|t| t.table_sha256 == quote.table_sha256);
        let table = table.ok_or_else(|| no("no earlier factor_set has this table_sha256"))?;
        let same = |f: &&crate::entry::Factor<'_>| {
            f.basis == basis
                && f.region == region
                && (f.value, f.year) == (quote.value, quote.year)
                && f.source == quote.source
                && f.instrument == quote.instrument
                && f.valid.is_none_or(|(from, until)| (from..until).contains(&at_us))
        };
        let row = table.factors.iter().find(same);
        let row = row.ok_or_else(|| no("the table has no such row for this time"))?;
        Ok(row.valid.is_none())
    }

    fn gap_open(&mut self, g: &GapOpen<'_>) -> Result<(), HistoryError> {
        let m = known(&mut self.machines, &g.machine_id)?;
        // A gap may follow a gap: nothing came of what had ended the first.
        let (from_us, what) = match m.gap {
            None => (m.end_us, "the last interval ended"),
            Some(Gap { until_us: Some(until), .. }) => (until, "the last gap was closed"),
            Some(Gap { until_us: None, .. }) => {
                return Err(fault(Fault::Gap, format!("machine {}: a gap is open already", g.machine_id)));
            }
        };
        if g.from_us != from_us {
            let message =
                format!("machine {}: the gap starts at {} µs, but {what} at {from_us} µs", g.machine_id, g.from_us);
            return Err(fault(Fault::Gap, message));
        }
        m.gap = Some(Gap { from_us: g.from_us, until_us: None });
        Ok(())
    }

    fn gap_close(&mut self, g: &GapClose<'_>) -> Result<(), HistoryError> {
        let m = known(&mut self.machines, &g.machine_id)?;
        match &mut m.gap {
            Some(gap) if gap.until_us.is_none() && gap.from_us == g.from_us => {
                gap.until_us = Some(g.until_us);
                m.gap_us += g.until_us - g.from_us;
                // A gap of no length was only late data, unless readings are missing.
                m.gaps += u64::from(g.until_us > g.from_us || g.missing.is_some_and(|n| n > 0));
                Ok(())
            }
            _ => Err(fault(Fault::Gap, format!("machine {}: no gap from {} µs is open", g.machine_id, g.from_us))),
        }
    }

    fn correction(&mut self, at: u64, c: &Correction<'_>, earlier: &mut dyn Earlier) -> Result<(), HistoryError> {
        let index = c.index as u64;
        let no = |why: String| fault(Fault::Correction, format!("the correction of entry {index}: {why}"));
        if index >= at {
            return Err(no("it is not earlier in the log".to_owned()));
        }
        if self.superseded.contains(&index) {
            return Err(no("it was corrected before; correct the correction".to_owned()));
        }
        let bytes = earlier.entry(index).ok_or_else(|| no("it cannot be read".to_owned()))?;
        if carbon::hex(&leaf_hash(&bytes)) != c.leaf_sha256 {
            return Err(no("it has another leaf hash".to_owned()));
        }
        let old = Entry::parse(&bytes).map_err(|e: EntryError| no(e.to_string()))?;
        let reading = subject(&old).ok_or_else(|| no(format!("it is a {}", old.kind())))?;
        let same = (&reading.machine_id, &reading.boot_id, reading.seq, reading.start_us, reading.end_us)
            == (&c.reading.machine_id, &c.reading.boot_id, c.reading.seq, c.reading.start_us, c.reading.end_us);
        if !same {
            return Err(no("machine, boot, seq and interval must stay".to_owned()));
        }
        self.factors_of(&c.reading)?;
        self.superseded.insert(index);
        Ok(())
    }

    /// Records that must stand before this reading, where its producer did not send them: it is the
    /// ledger that saw the jump.
    pub fn bridge(&self, r: &Reading<'_>) -> Vec<Entry<'static>> {
        let Some(m) = self.machines.get(r.machine_id.as_ref()) else { return Vec::new() };
        let same_boot = m.boot_id == r.boot_id;
        if (same_boot && r.seq <= m.seq) || r.start_us < m.end_us {
            return Vec::new();
        }
        let jump = if same_boot { r.seq - m.seq - 1 } else { 0 };
        let machine_id: Cow<'static, str> = Cow::Owned(r.machine_id.to_string());
        // Where the gap that is open, or that has to be opened, begins.
        let (from_us, open) = match m.gap {
            None if jump > 0 || r.start_us > m.end_us => (m.end_us, true),
            Some(Gap { from_us, until_us: None }) => (from_us, false),
            Some(Gap { until_us: Some(until), .. }) if r.start_us > until => (until, true),
            _ => return Vec::new(),
        };
        let mut out = Vec::new();
        if open {
            out.push(Entry::GapOpen(GapOpen {
                declared_by: DeclaredBy::Ledger,
                from_us,
                machine_id: machine_id.clone(),
                reason: Cow::Borrowed(if same_boot { "sequence_jump" } else { "restart" }),
            }));
        }
        out.push(Entry::GapClose(GapClose {
            declared_by: DeclaredBy::Ledger,
            from_us,
            machine_id,
            missing: same_boot.then_some(jump),
            until_us: r.start_us,
        }));
        out
    }

    /// Gap records for machines that have been silent for longer than `limit_us`.
    pub fn silent(&self, now_us: i64, limit_us: i64) -> Vec<Entry<'static>> {
        let mut ids: Vec<_> = self
            .machines
            .iter()
            .filter_map(|(id, m)| {
                let since = match m.gap {
                    None => m.end_us,
                    Some(gap) => gap.until_us?,
                };
                (now_us - since > limit_us).then(|| (id.clone(), since))
            })
            .collect();
        ids.sort();
        let open = |(id, from_us)| {
            Entry::GapOpen(GapOpen {
                declared_by: DeclaredBy::Ledger,
                from_us,
                machine_id: Cow::Owned(id),
                reason: Cow::Borrowed("silent"),
            })
        };
        ids.into_iter().map(open).collect()
    }
}

/// The reading that an entry states: its own, or the corrected one.
pub fn subject<'e, 'a>(entry: &'e Entry<'a>) -> Option<&'e Reading<'a>> {
    match entry {
        Entry::Reading(r) => Some(r),
        Entry::Correction(c) => Some(&c.reading),
        _ => None,
    }
}

fn known<'m>(machines: &'m mut HashMap<String, Machine>, id: &str) -> Result<&'m mut Machine, HistoryError> {
    machines.get_mut(id).ok_or_else(|| fault(Fault::UnknownMachine, format!("machine {id} has never sent a reading")))
}

fn own(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

fn owned_quote(q: &Quote<'_>) -> Quote<'static> {
    Quote {
        instrument: q.instrument.as_deref().map(own),
        source: own(&q.source),
        table_sha256: own(&q.table_sha256),
        value: q.value,
        year: q.year,
    }
}

pub(crate) fn owned_set(set: &FactorSet<'_>) -> FactorSet<'static> {
    let row = |f: &crate::entry::Factor<'_>| crate::entry::Factor {
        basis: f.basis,
        instrument: f.instrument.as_deref().map(own),
        region: own(&f.region),
        source: own(&f.source),
        valid: f.valid,
        value: f.value,
        year: f.year,
    };
    FactorSet {
        avoided_assumption: set.avoided_assumption.as_deref().map(own),
        factors: set.factors.iter().map(row).collect(),
        set_at_us: set.set_at_us,
        table_sha256: own(&set.table_sha256),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn none(_: u64) -> Option<Vec<u8>> {
        None
    }

    fn started() -> History {
        let mut history = History::default();
        history.admit(&Entry::FactorSet(carbon::built_in(testing::START_US)), &mut none).unwrap();
        history.admit(&Entry::Reading(testing::reading("m", 1)), &mut none).unwrap();
        history
    }

    fn check(change: impl FnOnce(&mut Reading<'static>)) -> Option<(Fault, String)> {
        let mut next = testing::reading("m", 2);
        change(&mut next);
        next.compute();
        started().admit(&Entry::Reading(next), &mut none).err().map(|e| (e.fault, e.message))
    }

    #[test]
    fn each_rule_of_a_reading_has_its_fault() {
        assert_eq!(check(|_| ()), None);
        let faults = |change: fn(&mut Reading<'static>)| check(change).map(|(f, _)| f);
        assert_eq!(faults(|r| r.seq = 1), Some(Fault::Duplicate));
        assert_eq!(faults(|r| r.seq = 4), Some(Fault::UndeclaredGap));
        assert_eq!(faults(|r| (r.start_us, r.end_us) = (r.start_us + 1, r.end_us + 1)), Some(Fault::UndeclaredGap));
        assert_eq!(faults(|r| r.start_us -= 1), Some(Fault::TimeBackwards));
        assert_eq!(faults(|r| r.meter_mj -= 1), Some(Fault::Meter));
        assert_eq!(faults(|r| r.meter_mj += 1), Some(Fault::Meter));
        assert_eq!(faults(|r| r.boot_id = "b2".into()), None, "a restart that lost nothing");
        assert_eq!(faults(|r| r.factor.value += 1), Some(Fault::Factor));
        assert_eq!(faults(|r| r.factor.table_sha256 = "0".repeat(64).into()), Some(Fault::Factor));
        assert_eq!(faults(|r| r.region = "XX".into()), Some(Fault::Factor));
        let (_, message) = check(|r| r.seq = 1).unwrap();
        assert_eq!(message, "machine m seq 1: the sequence number is not new, the latest is 1");
    }

    #[test]
    fn a_jump_is_bridged_by_records_that_then_admit_it() {
        let mut history = started();
        let mut late = testing::reading("m", 5);
        late.meter_mj += 77;
        let bridge = history.bridge(&late);
        assert_eq!(bridge.iter().map(Entry::kind).collect::<Vec<_>>(), ["gap_open", "gap_close"]);
        for entry in &bridge {
            history.admit(&Entry::parse(&entry.to_bytes()).unwrap(), &mut none).unwrap();
        }
        history.admit(&Entry::Reading(late), &mut none).unwrap();
        let m = &history.machines()["m"];
        assert_eq!((m.gaps, m.gap_us, m.seq), (1, 3_000_000, 5));
        assert_eq!(history.bridge(&testing::reading("m", 6)), []);
    }

    #[test]
    fn silence_opens_a_gap_and_late_data_close_it_without_length() {
        let mut history = started();
        let now = testing::START_US + 100_000_000;
        let silent = history.silent(now, 60_000_000);
        assert_eq!(silent.len(), 1);
        history.admit(&silent[0], &mut none).unwrap();
        assert_eq!(history.silent(now, 60_000_000), []);
        let next = testing::reading("m", 2);
        let inside = history.clone().admit(&Entry::Reading(next.clone()), &mut none).unwrap_err();
        assert_eq!(inside.fault, Fault::Gap);
        let bridge = history.bridge(&next);
        assert_eq!(bridge.len(), 1);
        history.admit(&bridge[0], &mut none).unwrap();
        history.admit(&Entry::Reading(next), &mut none).unwrap();
        assert_eq!((history.machines()["m"].gaps, history.machines()["m"].gap_us), (0, 0));
    }

    #[test]
    fn a_gap_that_nothing_followed_is_followed_by_another() {
        let mut history = started();
        let end = history.machines()["m"].end_us;
        let id = || Cow::Borrowed("m");
        let open =
            |from_us| Entry::GapOpen(GapOpen { from_us, machine_id: id(), reason: "r".into(), ..GapOpen::default() });
        let closed = end + 5_000_000;
        let close = GapClose { from_us: end, until_us: closed, machine_id: id(), ..GapClose::default() };
        for entry in [open(end), Entry::GapClose(close)] {
            history.admit(&entry, &mut none).unwrap();
        }
        // Its producer was killed before it told what came then, and tells of something later.
        let mut next = testing::reading("m", 2);
        (next.start_us, next.end_us, next.boot_id) = (closed + 3_000_000, closed + 4_000_000, "b2".into());
        assert_eq!(
            history.clone().admit(&Entry::Reading(next.clone()), &mut none).unwrap_err().fault,
            Fault::UndeclaredGap
        );
        assert_eq!(history.silent(closed + 2_000_000, 1_000_000), history.silent(closed + 9_000_000, 1_000_000));
        assert_eq!(history.silent(closed, 1_000_000), []);
        assert_eq!(history.clone().admit(&open(end), &mut none).unwrap_err().fault, Fault::Gap);
        let bridge = history.bridge(&next);
        assert_eq!(bridge.iter().map(Entry::kind).collect::<Vec<_>>(), ["gap_open", "gap_close"]);
        for entry in &bridge {
            history.admit(&Entry::parse(&entry.to_bytes()).unwrap(), &mut none).unwrap();
        }
        history.admit(&Entry::Reading(next), &mut none).unwrap();
        assert_eq!((history.machines()["m"].gaps, history.machines()["m"].gap_us), (2, 8_000_000));
    }

    #[test]
    fn a_correction_names_an_earlier_reading_by_index_and_hash_once() {
        let old = Entry::Reading(testing::reading("m", 1)).to_bytes();
        let mut earlier = |index: u64| (index == 1).then(|| old.clone());
        let mut c = Correction {
            author: "a".into(),
            reading: testing::reading("m", 1),
            reason: "r".into(),
            index: 1,
            leaf_sha256: carbon::hex(&leaf_hash(&old)).into(),
        };
        let mut history = started();
        let refuse = |c: &Correction<'static>, earlier: &mut dyn Earlier| {
            let e = started().admit(&Entry::Correction(Box::new(c.clone())), earlier).unwrap_err();
            assert_eq!(e.fault, Fault::Correction);
            e.message
        };
        assert_eq!(refuse(&c, &mut none), "the correction of entry 1: it cannot be read");
        c.index = 9;
        assert_eq!(refuse(&c, &mut earlier), "the correction of entry 9: it is not earlier in the log");
        c.index = 1;
        c.reading.seq = 3;
        assert_eq!(refuse(&c, &mut earlier), "the correction of entry 1: machine, boot, seq and interval must stay");
        c.reading.seq = 1;
        history.admit(&Entry::Correction(Box::new(c.clone())), &mut earlier).unwrap();
        let again = history.admit(&Entry::Correction(Box::new(c)), &mut earlier).unwrap_err();
        assert_eq!(again.message, "the correction of entry 1: it was corrected before; correct the correction");
    }

    #[test]
    fn a_snapshot_brings_everything_back() {
        let history = started();
        let back = History::from_snapshot(&history.to_snapshot()).unwrap();
        assert_eq!(back.machines(), history.machines());
        assert_eq!((back.size(), back.factors()), (2, history.factors()));
        assert!(History::from_snapshot(b"{").is_none());
    }

    #[test]
    fn unknown_machines_have_no_gaps() {
        let gap =
            GapOpen { from_us: testing::START_US, machine_id: "x".into(), reason: "r".into(), ..GapOpen::default() };
        let e = started().admit(&Entry::GapOpen(gap), &mut none).unwrap_err();
        assert_eq!((e.fault, e.message.as_str()), (Fault::UnknownMachine, "machine x has never sent a reading"));
    }
}
