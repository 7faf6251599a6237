//! The way to the ledger: records become entries, entries wait on the disk until they are taken.
//!
//! A meter never goes back, so what the meters say is saved before the entries that say it. An
//! entry is handed over until the ledger has answered for it; one that was there before is a
//! duplicate by its sequence number. One that is refused is told and not sent again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use esg_ledger::{
    carbon,
    entry::{Basis, DeclaredBy, Entry, Factor, FactorSet, GapClose, GapOpen, Method, Quality, Reading, Status},
};
use serde::Deserialize;
use telemetry::{
    client::{self, Client},
    config::Secret,
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    account::{Interval, Record},
    metrics::EvidenceMetrics,
    outbox::queue::{Lines, Queue},
    service::{App, Shared, now_us},
};

/// A request is answered within this time, or repeated.
const LIMIT: Duration = Duration::from_secs(20);
/// New records are taken up this often.
const STEP: Duration = Duration::from_secs(1);
/// A ledger that does not answer is left alone for so many steps.
const PATIENCE: u32 = 5;

/// Which factors hold where.
#[derive(Clone, Debug)]
pub struct Factors {
    table: FactorSet<'static>,
    usual: String,
    by_site: BTreeMap<String, String>,
}

impl Factors {
    /// The table, the usual region, and the regions of single sites.
    ///
    /// # Errors
    /// A region that the table has no factor for at every time.
    pub fn new(table: FactorSet<'static>, usual: String, by_site: BTreeMap<String, String>) -> Result<Self, String> {
        for region in std::iter::once(&usual).chain(by_site.values()) {
            let always = |f: &Factor<'_>| f.basis == Basis::Location && f.region == *region && f.valid.is_none();
            if !table.factors.iter().any(always) {
                return Err(format!("region {region:?} has no location factor that always holds"));
            }
        }
        Ok(Self { table, usual, by_site })
    }

    /// The entry that says this, in canonical JSON, and its emissions (location, market) in mg.
    pub fn entry(&self, record: &Record) -> (Bytes, Option<Emission>) {
        let (entry, emission) = match record {
            Record::Interval(interval) => {
                let reading = self.reading(interval);
                let emission = Emission {
                    site: interval.identity.site.clone(),
                    location_mg: reading.co2e_location_mg,
                    // Where no contract covers the energy, the grid's average stands in.
                    market_mg: reading.co2e_market_mg.unwrap_or(reading.co2e_location_mg),
                };
                (Entry::Reading(reading), Some(emission))
            }
            Record::GapOpen { machine_id, from_us, reason } => {
                let gap = GapOpen {
                    declared_by: DeclaredBy::Producer,
                    from_us: *from_us,
                    machine_id: (&**machine_id).into(),
                    reason: reason.as_str().into(),
                };
                (Entry::GapOpen(gap), None)
            }
            Record::GapClose { machine_id, from_us, until_us } => {
                let gap = GapClose {
                    declared_by: DeclaredBy::Producer,
                    from_us: *from_us,
                    machine_id: (&**machine_id).into(),
                    missing: None,
                    until_us: *until_us,
                };
                (Entry::GapClose(gap), None)
            }
        };
        (entry.to_bytes().into(), emission)
    }

    fn reading<'a>(&'a self, i: &'a Interval) -> Reading<'a> {
        let region = self.by_site.get(&*i.identity.site).unwrap_or(&self.usual);
        let quoted = |basis| {
            let row = carbon::find(&self.table, basis, region, i.start_us);
            row.map(|row| carbon::quote(row, &self.table.table_sha256))
        };
        let mut reading = Reading {
            boot_id: (&*i.boot_id).into(),
            seq: i64::try_from(i.seq).unwrap_or(i64::MAX),
            start_us: i.start_us,
            end_us: i.end_us,
            machine_id: (&*i.identity.machine_id).into(),
            line: (&*i.identity.line).into(),
            site: (&*i.identity.site).into(),
            region: region.as_str().into(),
            energy_mj: i.energy_mj,
            meter_mj: i.meter_mj,
            status: if i.up { Status::Up } else { Status::Down },
            error_code: i.error_code.into(),
            quality: Quality::Measured,
            method: Method::Location,
            factor: quoted(Basis::Location).unwrap_or_default(),
            market_factor: quoted(Basis::Market),
            parts: i.parts.map(|p| esg_ledger::entry::Parts {
                made: p.made.into(),
                scrapped: p.scrapped.into(),
                avoided: p.avoided.into(),
            }),
            co2e_location_mg: 0,
            co2e_market_mg: None,
        };
        reading.compute();
        reading
    }
}

/// What an interval emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Plant.
    pub site: Arc<str>,
    /// By the grid's average, mg.
    pub location_mg: i64,
    /// By contract, mg.
    pub market_mg: i64,
}

/// Where the ledger is.
#[derive(Clone, Debug)]
pub struct Target {
    client: Client,
    url: String,
    token: Secret,
}

impl Target {
    /// The ledger at this address.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(url: &str, token: Secret) -> Result<Self, client::Error> {
        Ok(Self { client: client::new(LIMIT)?, url: format!("{}/v1/entries", url.trim_end_matches('/')), token })
    }
}

/// What the ledger answers.
#[derive(Debug, Deserialize)]
struct Answer {
    appended: u64,
    duplicates: u64,
    refused: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    detail: String,
}

/// Why nothing was taken.
#[derive(Debug)]
enum Away {
    /// Nobody answered.
    Silent(client::Error),
    /// An answer that is none.
    Answer(String),
}

/// Everything on the way to the ledger.
pub struct Evidence {
    factors: Factors,
    target: Target,
    /// Said by the fleet, not yet entries.
    said: Shared<Vec<Record>>,
    queue: Shared<Queue>,
    ok: Shared<Option<bool>>,
    metrics: EvidenceMetrics,
}

impl Evidence {
    /// With what an earlier process left in the queue.
    pub fn new(factors: Factors, target: Target, queue: Queue, metrics: EvidenceMetrics) -> Self {
        let left = queue.pending();
        if left > 0 {
            tracing::info!(entries = left, "entries of an earlier run wait for the ledger");
        }
        Self { factors, target, said: Shared::default(), queue: Shared::new(queue), ok: Shared::default(), metrics }
    }

    /// Takes what the fleet says.
    pub fn say(&self, records: Vec<Record>) {
        if !records.is_empty() {
            self.said.lock().extend(records);
        }
    }

    /// Whether the latest attempt went through, and how many entries wait.
    pub fn standing(&self) -> (Option<bool>, usize) {
        (*self.ok.lock(), self.queue.lock().pending())
    }

    /// Makes entries of what was said and puts them on the disk, `meters` first.
    fn store(&self, meters: impl FnOnce()) {
        let records = std::mem::take(&mut *self.said.lock());
        if records.is_empty() {
            return;
        }
        meters();
        let mut lines = Vec::with_capacity(records.len());
        for record in &records {
            let (line, emission) = self.factors.entry(record);
            lines.push(line);
            if let Some(emission) = emission {
                self.metrics.emitted(&emission);
            }
        }
        let pushed = self.queue.lock().push(lines, now_us());
        if pushed.dropped > 0 {
            self.metrics.dropped.inc_by(pushed.dropped as u64);
            tracing::error!(entries = pushed.dropped, "the queue to the ledger is full: its oldest entries are gone");
        }
        if let Err(error) = pushed.durable {
            self.metrics.disk_failures.inc();
            tracing::error!(%error, "entries for the ledger are in memory only");
        }
    }

    /// Hands over everything that waits.
    async fn send(&self) -> Result<(), Away> {
        loop {
            let Some(parcel) = self.queue.lock().parcel() else { return Ok(()) };
            let begun = std::time::Instant::now();
            let answer = self.post(&parcel).await;
            self.metrics.duration.observe(begun.elapsed().as_secs_f64());
            self.metrics.attempted(match &answer {
                Ok(_) => "ok",
                Err(Away::Silent(_)) => "unavailable",
                Err(Away::Answer(_)) => "error",
            });
            let answer = answer?;
            self.metrics.sent("appended", answer.appended);
            self.metrics.sent("duplicate", answer.duplicates);
            self.metrics.sent("refused", answer.refused.len() as u64);
            if let Some(first) = answer.refused.first() {
                tracing::error!(entries = answer.refused.len(), first = first.detail, "the ledger refused entries");
            }
            self.queue.lock().taken();
            self.show();
        }
    }

    async fn post(&self, parcel: &Lines) -> Result<Answer, Away> {
        let Target { client, url, token } = &self.target;
        let sent = client.post(url).bearer_auth(token.expose()).body(parcel.body.clone()).send().await;
        let response = sent.map_err(Away::Silent)?;
        let status = response.status();
        let text = response.text().await.map_err(Away::Silent)?;
        if !status.is_success() {
            return Err(Away::Answer(format!("it answered {status}")));
        }
        serde_json::from_str(&text).map_err(|e| Away::Answer(format!("its answer is no answer: {e}")))
    }

    /// One line when the ledger is lost and one when it is back, not one for each attempt.
    fn note(&self, result: &Result<(), Away>) {
        let before = self.ok.lock().replace(result.is_ok());
        match result {
            Ok(()) if before == Some(false) => tracing::info!("the ledger takes entries again"),
            Err(why) if before != Some(false) => {
                let why = match why {
                    Away::Silent(error) => error.to_string(),
                    Away::Answer(text) => text.clone(),
                };
                tracing::warn!(why, waiting = self.queue.lock().pending(), "the ledger takes no entries: they wait");
            }
            _ => {}
        }
    }

    fn show(&self) {
        let queue = self.queue.lock();
        self.metrics.waiting.set(queue.pending() as i64);
        let age = queue.oldest_us().map_or(0, |oldest| now_us().saturating_sub(oldest).max(0));
        self.metrics.oldest_age.set(age as f64 / 1e6);
    }
}

/// The disk is waited for on a thread that may wait.
async fn store(app: &Arc<App>) {
    let app = app.clone();
    let work = move || {
        if let Some(evidence) = &app.evidence {
            evidence.store(|| app.save());
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "entries for the ledger were not stored");
    }
}

/// Carries records to the ledger until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let Some(evidence) = &app.evidence else { return };
    let mut interval = tokio::time::interval(STEP);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        store(&app).await;
        evidence.show();
        if pause > 0 {
            pause -= 1;
            continue;
        }
        let result = tokio::select! {
            // What was cut off is still in the queue.
            () = shutdown.cancelled() => return,
            result = tracing::Instrument::instrument(evidence.send(), tracing::info_span!("hand over entries")) => result,
        };
        evidence.note(&result);
        evidence.show();
        if result.is_err() {
            pause = PATIENCE;
        }
    }
}

/// The last intervals of a process that ends: on the disk in any case, handed over within `limit`.
pub async fn finish(app: &Arc<App>, limit: Duration) {
    let Some(evidence) = &app.evidence else { return };
    evidence.say(app.fleet.lock().settle_accounts());
    store(app).await;
    let sent = tokio::time::timeout(limit, evidence.send()).await;
    if !matches!(sent, Ok(Ok(()))) {
        let waiting = evidence.queue.lock().pending();
        tracing::warn!(waiting, "the ledger is away: entries are kept for the next start");
    }
    evidence.show();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Parts, fleet::Identity, gaps::Reason};

    const START: i64 = 1_769_864_400_000_000;

    fn factors(by_site: &[(&str, &str)]) -> Result<Factors, String> {
        let mut table = carbon::built_in(START);
        table.factors.push(Factor {
            basis: Basis::Market,
            instrument: Some("a contract".into()),
            value: 100_000,
            ..table.factors[1].clone()
        });
        let by_site = by_site.iter().map(|(site, region)| ((*site).to_owned(), (*region).to_owned())).collect();
        Factors::new(carbon::seal(table), "default".to_owned(), by_site)
    }

    fn interval(seq: u64) -> Record {
        let start_us = START + seq as i64 * 15_000_000;
        Record::Interval(Interval {
            identity: Identity::of(0),
            boot_id: "b".into(),
            seq,
            start_us,
            end_us: start_us + 15_000_000,
            energy_mj: 3_600_000_000,
            meter_mj: 3_600_000_000 * (seq as i64 + 1),
            up: true,
            error_code: 0,
            parts: Some(Parts { made: 3, scrapped: 1, avoided: 6 }),
        })
    }

    #[test]
    fn entries_are_what_the_ledger_takes() {
        let factors = factors(&[("site-1", "DE")]).unwrap();
        let machine_id: Arc<str> = "machine-001".into();
        let (from_us, until_us) = (START + 30_000_000, START + 45_000_000);
        let records = [
            interval(1),
            Record::GapOpen { machine_id: machine_id.clone(), from_us, reason: Reason::SensorSilent },
            Record::GapClose { machine_id, from_us, until_us },
            interval(3),
        ];
        let mut history = esg_ledger::history::History::default();
        let mut none = |_: u64| None::<Vec<u8>>;
        history.admit(&Entry::FactorSet(factors.table.clone()), &mut none).unwrap();
        for record in &records {
            let (bytes, _) = factors.entry(record);
            history.admit(&Entry::parse(&bytes).unwrap(), &mut none).unwrap();
        }
        assert_eq!(history.machines()["machine-001"].gap_us, 15_000_000);
    }

    #[test]
    fn both_methods_are_told_and_the_grid_stands_in_where_there_is_no_contract() {
        let emitted = |factors: &Factors| factors.entry(&interval(1)).1.map(|e| (e.location_mg, e.market_mg));
        assert_eq!(emitted(&factors(&[("site-1", "DE")]).unwrap()), Some((380_950, 100_000)));
        assert_eq!(emitted(&factors(&[]).unwrap()), Some((400_000, 400_000)));
    }

    #[test]
    fn a_region_without_a_factor_is_refused_at_the_start() {
        let refused = factors(&[("site-1", "XX")]).unwrap_err();
        assert_eq!(refused, "region \"XX\" has no location factor that always holds");
    }
}
