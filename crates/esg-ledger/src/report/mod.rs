//! A month's report from a log: per site energy, emissions by both methods, coverage, gaps,
//! corrections and waste.
//!
//! Sums are exact: energy × factor is added up as integers and rounded once a figure.
//! Memory grows with sites, hours, machines and gaps, not with entries.

mod html;
mod show;
mod time;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use serde::Serialize;

pub use self::{
    show::{co2e_kg, kwh},
    time::{Month, rfc3339},
};
use crate::{
    carbon,
    dir::LogDir,
    entry::{Basis, Entry, FactorSet, Quality, Reading},
    history::subject,
    note::VerifierKey,
    scan::{self, ScanError},
};

const HOUR_US: i64 = 3_600_000_000;

/// Gaps and corrections that are listed one by one; all are counted.
const MOST_LISTED: usize = 500;

/// Figures of a site, or of one of its hours. Integers; text forms are added for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Millijoules.
    pub energy_mj: i64,
    /// The same in kWh, three decimals.
    pub kwh: String,
    /// By the grid's average, mg.
    pub co2e_location_mg: i64,
    /// By contract; by the grid's average where there is none, mg.
    pub co2e_market_mg: i64,
    /// Time covered by readings, seconds, summed over machines.
    pub covered_seconds: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    energy: i128,
    location: i128,
    market: i128,
    covered_us: i64,
}

impl Sums {
    fn add(&mut self, r: &Reading<'_>, sign: i128, covered_us: i64) {
        let energy = i128::from(r.energy_mj);
        let market = r.market_factor.as_ref().unwrap_or(&r.factor).value;
        self.energy += sign * energy;
        self.location += sign * energy * i128::from(r.factor.value);
        self.market += sign * energy * i128::from(market);
        self.covered_us += covered_us;
    }

    fn figures(&self) -> Figures {
        let energy_mj = i64::try_from(self.energy).unwrap_or(i64::MAX);
        Figures {
            energy_mj,
            kwh: kwh(energy_mj),
            co2e_location_mg: carbon::round(self.location),
            co2e_market_mg: carbon::round(self.market),
            covered_seconds: self.covered_us / 1_000_000,
        }
    }
}

/// One hour of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HourFigures {
    /// Its start, RFC 3339.
    pub hour: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// One site's month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Its name.
    pub site: String,
    /// Machines that sent readings.
    pub machines: usize,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Of the energy, how much is estimated.
    pub estimated_mj: i64,
    /// Energy that meters counted during gaps. It is in no other figure.
    pub unallocated_mj: i64,
    /// Time covered, of all time covered or in gaps; parts per million.
    pub coverage_ppm: i64,
    /// Time in gaps, seconds, summed over machines.
    pub gap_seconds: i64,
    /// Gaps that touch the month.
    pub gaps: u64,
    /// Readings that a later entry corrects.
    pub corrections: u64,
    /// Parts made.
    pub parts_made: i64,
    /// Parts scrapped because of failures.
    pub parts_scrapped: i64,
    /// Parts not scrapped because a failure was avoided.
    pub parts_avoided: i64,
    /// Hour by hour.
    pub hours: Vec<HourFigures>,
}

/// A stretch without data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapLine {
    /// Whose.
    pub machine_id: String,
    /// At which site.
    pub site: String,
    /// Start, RFC 3339.
    pub from: String,
    /// End; absent while it lasts.
    pub until: Option<String>,
    /// Seconds within the month.
    pub seconds: i64,
    /// Readings that were due.
    pub missing: Option<i64>,
    /// Why, as far as known.
    pub reason: String,
    /// Index of the record that opened it.
    pub index: u64,
}

/// A corrected reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorrectionLine {
    /// Index of the correction.
    pub index: u64,
    /// Index of what it replaces.
    pub supersedes: u64,
    /// Which machine.
    pub machine_id: String,
    /// Energy before, mJ.
    pub before_mj: i64,
    /// Energy now, mJ.
    pub after_mj: i64,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// A factor that the month's readings quote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FactorLine {
    /// `location` or `market`.
    pub basis: &'static str,
    /// Region.
    pub region: String,
    /// mg/kWh.
    pub value: i64,
    /// Year that it is of.
    pub year: i64,
    /// Where it comes from.
    pub source: String,
    /// Contract.
    pub instrument: Option<String>,
    /// Hash of its table.
    pub table_sha256: String,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `YYYY-MM`.
    pub month: String,
    /// The log.
    pub origin: String,
    /// Entries in the log when the report was made.
    pub size: u64,
    /// The signed checkpoint, whole.
    pub checkpoint: String,
    /// Whether the log was verified with a key right before.
    pub verified: bool,
    /// All sites together.
    pub total: Figures,
    /// Site by site.
    pub sites: Vec<Site>,
    /// Factors used.
    pub factors: Vec<FactorLine>,
    /// Gaps, at most 500.
    pub gaps: Vec<GapLine>,
    /// Corrections, at most 500.
    pub corrections: Vec<CorrectionLine>,
    /// How avoided scrap was estimated.
    pub avoided_assumption: Option<String>,
    /// How to check this report without trusting who made it.
    pub how_to_verify: String,
}

#[derive(Default)]
struct SiteSums {
    machines: BTreeSet<String>,
    all: Sums,
    hours: BTreeMap<i64, Sums>,
    estimated: i64,
    unallocated: i64,
    gap_us: i64,
    gaps: u64,
    corrections: u64,
    parts: [i64; 3],
}

struct MachineState {
    site: String,
    meter_mj: i64,
    gap: Option<(i64, String, u64)>,
}

struct Builder<'d> {
    month: Month,
    dir: &'d LogDir,
    sites: BTreeMap<String, SiteSums>,
    machines: HashMap<String, MachineState>,
    factors: BTreeSet<FactorLine>,
    gaps: Vec<GapLine>,
    corrections: Vec<CorrectionLine>,
    assumption: Option<String>,
    latest_us: i64,
}

/// Makes the report of one month from a directory.
///
/// `key` checks the checkpoint's signature; `verified` says that the caller has verified the whole log.
///
/// # Errors
/// The log cannot be read.
pub fn build(root: &Path, month: Month, key: Option<&VerifierKey>, verified: bool) -> Result<Report, ScanError> {
    let (checkpoint, note) = scan::checkpoint(root, key)?;
    let dir = LogDir::new(root, checkpoint.size);
    let mut builder = Builder {
        month,
        dir: &dir,
        sites: BTreeMap::new(),
        machines: HashMap::new(),
        factors: BTreeSet::new(),
        gaps: Vec::new(),
        corrections: Vec::new(),
        assumption: None,
        latest_us: 0,
    };
    scan::entries(&dir, |index, entry, _| builder.entry(index, entry))?;
    builder.open_gaps();
    let total = builder.sites.values().fold(Sums::default(), |mut t, s| {
        t.energy += s.all.energy;
        t.location += s.all.location;
        t.market += s.all.market;
        t.covered_us += s.all.covered_us;
        t
    });
    let sites = builder.sites.into_iter().map(|(name, sums)| site(name, sums)).collect();
    Ok(Report {
        month: month.to_string(),
        origin: checkpoint.origin.clone(),
        size: checkpoint.size,
        checkpoint: note.to_string(),
        verified,
        total: total.figures(),
        sites,
        factors: builder.factors.into_iter().collect(),
        gaps: builder.gaps,
        corrections: builder.corrections,
        avoided_assumption: builder.assumption,
        how_to_verify: format!(
            "Take the log's folder and its verifier key from someone you trust, and run: esg-ledger verify FOLDER --key KEY. \
             It recomputes every hash and every emission. The folder must continue the checkpoint printed here: save it as a \
             file and add --checkpoint FILE. This report is made of the first {} entries of the log.",
            checkpoint.size
        ),
    })
}

fn site(name: String, sums: SiteSums) -> Site {
    let known = sums.all.covered_us + sums.gap_us;
    Site {
        site: name,
        machines: sums.machines.len(),
        figures: sums.all.figures(),
        estimated_mj: sums.estimated,
        unallocated_mj: sums.unallocated,
        coverage_ppm: if known > 0 {
            (i128::from(sums.all.covered_us) * 1_000_000 / i128::from(known)) as i64
        } else {
            0
        },
        gap_seconds: sums.gap_us / 1_000_000,
        gaps: sums.gaps,
        corrections: sums.corrections,
        parts_made: sums.parts[0],
        parts_scrapped: sums.parts[1],
        parts_avoided: sums.parts[2],
        hours: sums
            .hours
            .into_iter()
            .map(|(hour, sums)| HourFigures { hour: rfc3339(hour), figures: sums.figures() })
            .collect(),
    }
}

impl Builder<'_> {
    fn entry(&mut self, index: u64, entry: &Entry<'_>) -> Result<(), ScanError> {
        self.latest_us = self.latest_us.max(entry.time_us());
        match entry {
            Entry::Reading(r) => self.reading(r),
            Entry::GapOpen(g) => {
                if let Some(m) = self.machines.get_mut(g.machine_id.as_ref()) {
                    m.gap = Some((g.from_us, g.reason.to_string(), index));
                }
            }
            Entry::GapClose(g) => {
                let gap = self.machines.get_mut(g.machine_id.as_ref()).and_then(|m| m.gap.take());
                if let Some((from, reason, opened)) = gap {
                    self.gap(&g.machine_id, from, Some(g.until_us), g.missing, reason, opened);
                }
            }
            Entry::Correction(c) => {
                let old = self.dir.entry(c.index as u64)?;
                let old = Entry::parse(&old).map_err(|source| ScanError::Entry { index: c.index as u64, source })?;
                let Some(before) = subject(&old) else { return Ok(()) };
                if !self.month.contains(c.reading.start_us) {
                    return Ok(());
                }
                self.count(before, -1, 0);
                self.count(&c.reading, 1, 0);
                self.sites.entry(c.reading.site.to_string()).or_default().corrections += 1;
                if self.corrections.len() < MOST_LISTED {
                    self.corrections.push(CorrectionLine {
                        index,
                        supersedes: c.index as u64,
                        machine_id: c.reading.machine_id.to_string(),
                        before_mj: before.energy_mj,
                        after_mj: c.reading.energy_mj,
                        author: c.author.to_string(),
                        reason: c.reason.to_string(),
                    });
                }
            }
            Entry::FactorSet(FactorSet { avoided_assumption, .. }) => {
                self.assumption = avoided_assumption.as_ref().map(ToString::to_string);
            }
            Entry::KeyRotation(_) | Entry::Heartbeat(_) => {}
        }
        Ok(())
    }

    fn reading(&mut self, r: &Reading<'_>) {
        if self.month.contains(r.start_us) {
            self.count(r, 1, r.end_us - r.start_us);
        }
        match self.machines.get_mut(r.machine_id.as_ref()) {
            Some(m) => {
                let unallocated = r.meter_mj - r.energy_mj - m.meter_mj;
                m.meter_mj = r.meter_mj;
                if m.site != r.site {
                    m.site = r.site.to_string();
                }
                if unallocated > 0 && self.month.contains(r.start_us) {
                    self.sites.entry(r.site.to_string()).or_default().unallocated += unallocated;
                }
            }
            None => {
                let state = MachineState { site: r.site.to_string(), meter_mj: r.meter_mj, gap: None };
                self.machines.insert(r.machine_id.to_string(), state);
            }
        }
    }

    /// Counts a reading in (or, corrected, out).
    fn count(&mut self, r: &Reading<'_>, sign: i128, covered_us: i64) {
        if !self.sites.contains_key(r.site.as_ref()) {
            self.sites.insert(r.site.to_string(), SiteSums::default());
        }
        let Some(site) = self.sites.get_mut(r.site.as_ref()) else { return };
        if !site.machines.contains(r.machine_id.as_ref()) {
            site.machines.insert(r.machine_id.to_string());
        }
        site.all.add(r, sign, covered_us);
        let hour = r.start_us - r.start_us.rem_euclid(HOUR_US);
        site.hours.entry(hour).or_default().add(r, sign, covered_us);
        let s = sign as i64;
        if r.quality == Quality::Estimated {
            site.estimated += s * r.energy_mj;
        }
        if let Some(p) = &r.parts {
            for (sum, n) in site.parts.iter_mut().zip([p.made, p.scrapped, p.avoided]) {
                *sum += s * n;
            }
        }
        if sign > 0 {
            self.quote(r);
        }
    }

    fn quote(&mut self, r: &Reading<'_>) {
        let quotes = [(Basis::Location, Some(&r.factor)), (Basis::Market, r.market_factor.as_ref())];
        for (basis, quote) in quotes {
            let Some(q) = quote else { continue };
            let known = self.factors.iter().any(|f| {
                f.value == q.value
                    && f.year == q.year
                    && f.region == r.region
                    && f.table_sha256 == q.table_sha256
                    && f.basis == crate::entry::Word::as_str(basis)
                    && f.source == q.source
            });
            if !known {
                self.factors.insert(FactorLine {
                    basis: crate::entry::Word::as_str(basis),
                    region: r.region.to_string(),
                    value: q.value,
                    year: q.year,
                    source: q.source.to_string(),
                    instrument: q.instrument.as_ref().map(ToString::to_string),
                    table_sha256: q.table_sha256.to_string(),
                });
            }
        }
    }

    fn gap(&mut self, id: &str, from: i64, until: Option<i64>, missing: Option<i64>, reason: String, index: u64) {
        let (start, end) = self.month.span();
        let seconds_us = until.unwrap_or(self.latest_us).min(end) - from.max(start);
        let nothing = until == Some(from) && missing.is_none_or(|n| n == 0);
        if seconds_us < 0 || nothing || from >= end {
            return;
        }
        let site = self.machines.get(id).map(|m| m.site.clone()).unwrap_or_default();
        let sums = self.sites.entry(site.clone()).or_default();
        sums.gap_us += seconds_us;
        sums.gaps += 1;
        if self.gaps.len() < MOST_LISTED {
            self.gaps.push(GapLine {
                machine_id: id.to_owned(),
                site,
                from: rfc3339(from),
                until: until.map(rfc3339),
                seconds: seconds_us / 1_000_000,
                missing,
                reason,
                index,
            });
        }
    }

    /// Gaps that no record closes last until the log's latest time.
    fn open_gaps(&mut self) {
        let mut open: Vec<_> =
            self.machines.iter_mut().filter_map(|(id, m)| m.gap.take().map(|g| (id.clone(), g))).collect();
        open.sort();
        for (id, (from, reason, index)) in open {
            self.gap(&id, from, None, None, reason, index);
        }
    }
}
