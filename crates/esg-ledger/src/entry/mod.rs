//! The ledger's entries: their fields, and what can be said of one entry alone.
//!
//! An entry is stored as the canonical JSON of exactly the fields below; an unknown field,
//! another order or a space makes it invalid. Units: energy in millijoules (mJ), CO2e in
//! milligrams, time in microseconds since 1970 UTC, factors in mg/kWh.

mod codec;

use std::borrow::Cow;

pub use codec::{Codec, Word, Writer};

use crate::{
    canonical::{JsonError, Reader},
    carbon,
    merkle::{Hash, sha256},
    tile::MAX_ENTRY,
};

/// Version of the entries' fields; each entry carries it.
pub const SCHEMA: &str = "esg-ledger/1";

/// Unit of every factor.
pub const FACTOR_UNIT: &str = "mg/kWh";

/// Longest name of a machine, site, line, region or boot, in bytes.
const MAX_NAME: usize = 128;

/// Longest free text, in bytes.
const MAX_TEXT: usize = 1_024;

/// Longest interval of one reading: an hour, so that hourly figures can be told.
pub const MAX_INTERVAL_US: i64 = 3_600_000_000;

/// 2020-01-01: no entry is older, whatever its producer's clock said.
pub const EARLIEST_US: i64 = 1_577_836_800_000_000;

/// Why bytes are no valid entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not canonical JSON, or not the fields of its type.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Larger than a bundle can hold.
    #[error("the entry has {0} bytes, more than the 65535 that fit")]
    Oversized(usize),
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
    /// The emissions are not energy × factor.
    #[error("{field} is {found} mg, but {energy_mj} mJ x {factor} mg/kWh are {expected} mg")]
    Carbon {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: i64,
        /// The energy that it is for.
        energy_mj: i64,
        /// The factor used.
        factor: i64,
        /// What it must be.
        expected: i64,
    },
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $(#[$fdoc:meta])* $first:ident = $ftext:literal $(, $(#[$vdoc:meta])* $variant:ident = $text:literal)* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $(#[$fdoc])* #[default] $first, $($(#[$vdoc])* $variant),* }
        impl Word for $name {
            const ALL: &'static [Self] = &[Self::$first, $(Self::$variant),*];
            fn as_str(self) -> &'static str {
                match self { Self::$first => $ftext, $(Self::$variant => $text),* }
            }
        }
    };
}

words!(
    /// Whether the machine ran.
    Status {
        /// It ran or could have run.
        Up = "up",
        /// No supply, stopped or broken.
        Down = "down",
    }
);
words!(
    /// How the energy is known.
    Quality {
        /// Read from a meter.
        Measured = "measured",
        /// Calculated in place of a measurement.
        Estimated = "estimated",
    }
);
words!(
    /// Which of the two methods of the GHG Protocol's Scope 2 Guidance are reported.
    Method {
        /// The grid's average.
        Location = "location",
        /// Also by the contract (instrument) that covers the energy.
        LocationAndMarket = "location+market",
    }
);
words!(
    /// Which method a factor is for.
    Basis {
        /// The grid's average.
        Location = "location",
        /// A contractual instrument.
        Market = "market",
    }
);
words!(
    /// Who noticed a gap.
    DeclaredBy {
        /// The one that should have sent the data.
        Producer = "producer",
        /// The ledger, from a jump in sequence or time.
        Ledger = "ledger",
    }
);

/// An emission factor as a reading quotes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Contract behind a market-based factor.
    pub instrument: Option<Cow<'a, str>>,
    /// Where the value comes from.
    pub source: Cow<'a, str>,
    /// SHA-256 (hexadecimal) of the table that holds it, in an earlier `factor_set`.
    pub table_sha256: Cow<'a, str>,
    /// mg CO2e per kWh.
    pub value: i64,
    /// Year that the value is of.
    pub year: i64,
}

impl<'a> Quote<'a> {
    fn visit(&mut self, c: &mut impl Codec<'a>) -> Result<(), JsonError> {
        c.optional_text("instrument", &mut self.instrument)?;
        c.text("source", &mut self.source)?;
        c.text("table_sha256", &mut self.table_sha256)?;
        c.constant("unit", FACTOR_UNIT)?;
        c.int("value", &mut self.value)?;
        c.int("year", &mut self.year)
    }
}

/// Parts made in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Not scrapped because a failure was avoided; the assumption is in the `factor_set`.
    pub avoided: i64,
    /// Good and bad.
    pub made: i64,
    /// Scrapped because of a failure.
    pub scrapped: i64,
}

/// Energy and emissions of one machine in one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading<'a> {
    /// Run of the producer; `seq` counts within it.
    pub boot_id: Cow<'a, str>,
    /// By the grid's average.
    pub co2e_location_mg: i64,
    /// By contract, where there is one.
    pub co2e_market_mg: Option<i64>,
    /// In this interval.
    pub energy_mj: i64,
    /// The machine's code, 0 for none.
    pub error_code: i64,
    /// The grid's factor.
    pub factor: Quote<'a>,
    /// End of the interval, exclusive.
    pub end_us: i64,
    /// Start of the interval.
    pub start_us: i64,
    /// Production line.
    pub line: Cow<'a, str>,
    /// The machine.
    pub machine_id: Cow<'a, str>,
    /// The contract's factor.
    pub market_factor: Option<Quote<'a>>,
    /// The meter at the end of the interval, since commissioning.
    pub meter_mj: i64,
    /// Which methods are reported.
    pub method: Method,
    /// Parts, where the machine counts them.
    pub parts: Option<Parts>,
    /// Measured or estimated.
    pub quality: Quality,
    /// Region of the factor.
    pub region: Cow<'a, str>,
    /// Rises by one with each reading that was due.
    pub seq: i64,
    /// Plant.
    pub site: Cow<'a, str>,
    /// Up or down.
    pub status: Status,
}

impl<'a> Reading<'a> {
    /// `alone` is false inside a correction, which has schema and type itself.
    fn visit(&mut self, c: &mut impl Codec<'a>, alone: bool) -> Result<(), JsonError> {
        c.text("boot_id", &mut self.boot_id)?;
        c.int("co2e_location_mg", &mut self.co2e_location_mg)?;
        c.optional_int("co2e_market_mg", &mut self.co2e_market_mg)?;
        c.int("energy_mj", &mut self.energy_mj)?;
        c.int("error_code", &mut self.error_code)?;
        c.object("factor", |c| self.factor.visit(c))?;
        c.object("interval", |c| {
            c.int("end_us", &mut self.end_us)?;
            c.int("start_us", &mut self.start_us)
        })?;
        c.text("line", &mut self.line)?;
        c.text("machine_id", &mut self.machine_id)?;
        c.optional("market_factor", &mut self.market_factor, |c, f| f.visit(c))?;
        c.int("meter_mj", &mut self.meter_mj)?;
        c.word("method", &mut self.method)?;
        c.optional("parts", &mut self.parts, |c, p| {
            c.int("avoided", &mut p.avoided)?;
            c.int("made", &mut p.made)?;
            c.int("scrapped", &mut p.scrapped)
        })?;
        c.word("quality", &mut self.quality)?;
        c.text("region", &mut self.region)?;
        if alone {
            c.constant("schema", SCHEMA)?;
        }
        c.int("seq", &mut self.seq)?;
        c.text("site", &mut self.site)?;
        c.word("status", &mut self.status)?;
        if alone { c.constant("type", "reading") } else { Ok(()) }
    }

    /// Sets both emissions from energy and factors.
    pub fn compute(&mut self) {
        self.co2e_location_mg = carbon::co2e_mg(self.energy_mj, self.factor.value);
        self.co2e_market_mg = self.market_factor.as_ref().map(|f| carbon::co2e_mg(self.energy_mj, f.value));
        self.method = if self.market_factor.is_some() { Method::LocationAndMarket } else { Method::Location };
    }

    fn check(&self) -> Result<(), EntryError> {
        let named = [
            ("machine_id", &self.machine_id),
            ("site", &self.site),
            ("line", &self.line),
            ("region", &self.region),
            ("boot_id", &self.boot_id),
        ];
        named.into_iter().try_for_each(|(field, value)| name(field, value))?;
        at_least_zero("energy_mj", self.energy_mj)?;
        at_least_zero("meter_mj", self.meter_mj)?;
        at_least_zero("seq", self.seq)?;
        if !(0..=65_535).contains(&self.error_code) {
            return Err(value(format!("error_code is {}, not between 0 and 65535", self.error_code)));
        }
        if self.energy_mj > self.meter_mj {
            return Err(value(format!("energy_mj is {}, more than the meter's {}", self.energy_mj, self.meter_mj)));
        }
        interval(self.start_us, self.end_us)?;
        if self.end_us == self.start_us {
            return Err(value("interval is empty".to_owned()));
        }
        if self.end_us - self.start_us > MAX_INTERVAL_US {
            return Err(value("interval is longer than an hour".to_owned()));
        }
        if let Some(parts) = &self.parts {
            for (field, n) in [("avoided", parts.avoided), ("made", parts.made), ("scrapped", parts.scrapped)] {
                at_least_zero(field, n)?;
            }
            if parts.scrapped > parts.made {
                return Err(value(format!("parts.scrapped is {}, more than the {} made", parts.scrapped, parts.made)));
            }
        }
        quote("factor", &self.factor)?;
        carbon("co2e_location_mg", self.co2e_location_mg, self.energy_mj, self.factor.value)?;
        match (&self.market_factor, self.co2e_market_mg, self.method) {
            (None, None, Method::Location) => Ok(()),
            (Some(factor), Some(mg), Method::LocationAndMarket) => {
                quote("market_factor", factor)?;
                carbon("co2e_market_mg", mg, self.energy_mj, factor.value)
            }
            _ => Err(value("method, market_factor and co2e_market_mg do not fit together".to_owned())),
        }
    }
}

/// Data of a machine are missing from here on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapOpen<'a> {
    /// Who noticed.
    pub declared_by: DeclaredBy,
    /// End of the last interval that is there.
    pub from_us: i64,
    /// The machine.
    pub machine_id: Cow<'a, str>,
    /// Why, as far as known.
    pub reason: Cow<'a, str>,
}

/// Data of a machine are there again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapClose<'a> {
    /// Who noticed.
    pub declared_by: DeclaredBy,
    /// As in the `gap_open`.
    pub from_us: i64,
    /// The machine.
    pub machine_id: Cow<'a, str>,
    /// Readings that were due, where sequence numbers tell it.
    pub missing: Option<i64>,
    /// Start of the next interval; equal to `from_us` when the data arrived after all.
    pub until_us: i64,
}

/// Another value in place of an earlier entry, which stays where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction<'a> {
    /// Who corrected.
    pub author: Cow<'a, str>,
    /// All values of the reading as they should have been.
    pub reading: Reading<'a>,
    /// Why.
    pub reason: Cow<'a, str>,
    /// Index of the reading or correction that no longer counts.
    pub index: i64,
    /// Its leaf hash, hexadecimal.
    pub leaf_sha256: Cow<'a, str>,
}

/// One row of a factor table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Factor<'a> {
    /// Location or market.
    pub basis: Basis,
    /// Contract behind a market-based factor.
    pub instrument: Option<Cow<'a, str>>,
    /// Region that it is for.
    pub region: Cow<'a, str>,
    /// Where the value comes from.
    pub source: Cow<'a, str>,
    /// From when to when it holds (start, end exclusive), e.g. one hour; always, if absent.
    pub valid: Option<(i64, i64)>,
    /// mg CO2e per kWh.
    pub value: i64,
    /// Year that the value is of.
    pub year: i64,
}

impl<'a> Factor<'a> {
    fn visit(&mut self, c: &mut impl Codec<'a>) -> Result<(), JsonError> {
        c.word("basis", &mut self.basis)?;
        c.optional_text("instrument", &mut self.instrument)?;
        c.text("region", &mut self.region)?;
        c.text("source", &mut self.source)?;
        c.constant("unit", FACTOR_UNIT)?;
        c.optional("valid", &mut self.valid, |c, (from, until)| {
            c.int("from_us", from)?;
            c.int("until_us", until)
        })?;
        c.int("value", &mut self.value)?;
        c.int("year", &mut self.year)
    }
}

/// The factors that hold from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactorSet<'a> {
    /// How avoided scrap is estimated.
    pub avoided_assumption: Option<Cow<'a, str>>,
    /// The rows.
    pub factors: Vec<Factor<'a>>,
    /// When it was set.
    pub set_at_us: i64,
    /// SHA-256 (hexadecimal) of the canonical bytes of `{"factors":[…]}`.
    pub table_sha256: Cow<'a, str>,
}

impl FactorSet<'_> {
    /// What [`FactorSet::table_sha256`] must be.
    pub fn table_hash(&self) -> Hash {
        let mut factors = self.factors.clone();
        sha256(&Writer::document(|w| w.list("factors", &mut factors, |w, f| f.visit(w))))
    }
}

/// The log's key changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRotation<'a> {
    /// Verifier key that signs from now on.
    pub new_key: Cow<'a, str>,
    /// Verifier key that signed until now.
    pub old_key: Cow<'a, str>,
    /// Why.
    pub reason: Cow<'a, str>,
    /// When.
    pub rotated_at_us: i64,
}

/// The ledger was alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// When.
    pub at_us: i64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every entry is a reading, and it lives on the stack")]
pub enum Entry<'a> {
    /// `reading`.
    Reading(Reading<'a>),
    /// `gap_open`.
    GapOpen(GapOpen<'a>),
    /// `gap_close`.
    GapClose(GapClose<'a>),
    /// `correction`.
    Correction(Box<Correction<'a>>),
    /// `factor_set`.
    FactorSet(FactorSet<'a>),
    /// `key_rotation`.
    KeyRotation(KeyRotation<'a>),
    /// `heartbeat`.
    Heartbeat(Heartbeat),
}

/// The type's word; no other field of an entry has this name, and a string cannot hold bare quotes.
fn kind_of(bytes: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"type\":\"";
    if bytes.ends_with(b"\"type\":\"reading\"}") {
        return Some("reading");
    }
    let at = bytes.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let end = bytes[at..].iter().position(|b| *b == b'"')?;
    std::str::from_utf8(&bytes[at..at + end]).ok()
}

impl<'a> Entry<'a> {
    /// Parses canonical bytes and checks what can be said of one entry alone.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::Oversized(bytes.len()));
        }
        let mut entry = match kind_of(bytes) {
            Some("reading") => Self::Reading(Reading::default()),
            Some("gap_open") => Self::GapOpen(GapOpen::default()),
            Some("gap_close") => Self::GapClose(GapClose::default()),
            Some("correction") => Self::Correction(Box::default()),
            Some("factor_set") => Self::FactorSet(FactorSet::default()),
            Some("key_rotation") => Self::KeyRotation(KeyRotation::default()),
            Some("heartbeat") => Self::Heartbeat(Heartbeat::default()),
            Some(other) => return Err(value(format!("there is no entry type '{other}'"))),
            None => return Err(value("field 'type' is missing".to_owned())),
        };
        let mut reader = Reader::new(bytes)?;
        reader.object(|r| entry.visit(r))?;
        reader.end()?;
        entry.check()?;
        Ok(entry)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut entry = self.clone();
        Writer::document(|w| entry.visit(w))
    }

    /// The type's word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Reading(_) => "reading",
            Self::GapOpen(_) => "gap_open",
            Self::GapClose(_) => "gap_close",
            Self::Correction(_) => "correction",
            Self::FactorSet(_) => "factor_set",
            Self::KeyRotation(_) => "key_rotation",
            Self::Heartbeat(_) => "heartbeat",
        }
    }

    /// The machine that it is about.
    pub fn machine_id(&self) -> Option<&str> {
        match self {
            Self::Reading(r) => Some(&r.machine_id),
            Self::GapOpen(g) => Some(&g.machine_id),
            Self::GapClose(g) => Some(&g.machine_id),
            Self::Correction(c) => Some(&c.reading.machine_id),
            Self::FactorSet(_) | Self::KeyRotation(_) | Self::Heartbeat(_) => None,
        }
    }

    /// The latest instant that it speaks of, µs.
    pub fn time_us(&self) -> i64 {
        match self {
            Self::Reading(r) => r.end_us,
            Self::GapOpen(g) => g.from_us,
            Self::GapClose(g) => g.until_us,
            Self::Correction(c) => c.reading.end_us,
            Self::FactorSet(f) => f.set_at_us,
            Self::KeyRotation(k) => k.rotated_at_us,
            Self::Heartbeat(h) => h.at_us,
        }
    }

    /// Fields sorted by name, as canonical JSON wants them.
    fn visit(&mut self, c: &mut impl Codec<'a>) -> Result<(), JsonError> {
        match self {
            Self::Reading(r) => r.visit(c, true),
            Self::GapOpen(g) => {
                c.word("declared_by", &mut g.declared_by)?;
                c.int("from_us", &mut g.from_us)?;
                c.text("machine_id", &mut g.machine_id)?;
                c.text("reason", &mut g.reason)?;
                c.constant("schema", SCHEMA)?;
                c.constant("type", "gap_open")
            }
            Self::GapClose(g) => {
                c.word("declared_by", &mut g.declared_by)?;
                c.int("from_us", &mut g.from_us)?;
                c.text("machine_id", &mut g.machine_id)?;
                c.optional_int("missing", &mut g.missing)?;
                c.constant("schema", SCHEMA)?;
                c.constant("type", "gap_close")?;
                c.int("until_us", &mut g.until_us)
            }
            Self::Correction(k) => {
                c.text("author", &mut k.author)?;
                let reading = &mut k.reading;
                c.object("reading", |c| reading.visit(c, false))?;
                c.text("reason", &mut k.reason)?;
                c.constant("schema", SCHEMA)?;
                let (index, leaf) = (&mut k.index, &mut k.leaf_sha256);
                c.object("supersedes", |c| {
                    c.int("index", index)?;
                    c.text("leaf_sha256", leaf)
                })?;
                c.constant("type", "correction")
            }
            Self::FactorSet(f) => {
                c.optional_text("avoided_assumption", &mut f.avoided_assumption)?;
                c.list("factors", &mut f.factors, |c, row| row.visit(c))?;
                c.constant("schema", SCHEMA)?;
                c.int("set_at_us", &mut f.set_at_us)?;
                c.text("table_sha256", &mut f.table_sha256)?;
                c.constant("type", "factor_set")
            }
            Self::KeyRotation(k) => {
                c.text("new_key", &mut k.new_key)?;
                c.text("old_key", &mut k.old_key)?;
                c.text("reason", &mut k.reason)?;
                c.int("rotated_at_us", &mut k.rotated_at_us)?;
                c.constant("schema", SCHEMA)?;
                c.constant("type", "key_rotation")
            }
            Self::Heartbeat(h) => {
                c.int("at_us", &mut h.at_us)?;
                c.constant("schema", SCHEMA)?;
                c.constant("type", "heartbeat")
            }
        }
    }

    fn check(&self) -> Result<(), EntryError> {
        match self {
            Self::Reading(r) => r.check(),
            Self::GapOpen(g) => {
                name("machine_id", &g.machine_id)?;
                name("reason", &g.reason)?;
                instant("from_us", g.from_us)
            }
            Self::GapClose(g) => {
                name("machine_id", &g.machine_id)?;
                at_least_zero("missing", g.missing.unwrap_or(0))?;
                interval(g.from_us, g.until_us)
            }
            Self::Correction(c) => {
                text("author", &c.author)?;
                text("reason", &c.reason)?;
                at_least_zero("supersedes.index", c.index)?;
                hash("supersedes.leaf_sha256", &c.leaf_sha256)?;
                c.reading.check()
            }
            Self::FactorSet(f) => {
                instant("set_at_us", f.set_at_us)?;
                f.avoided_assumption.as_ref().map_or(Ok(()), |t| text("avoided_assumption", t))?;
                if f.factors.is_empty() {
                    return Err(value("factors is empty".to_owned()));
                }
                for row in &f.factors {
                    name("region", &row.region)?;
                    source(row.basis == Basis::Market, &row.source, row.instrument.as_deref(), row.value, row.year)?;
                    if let Some((from, until)) = row.valid {
                        interval(from, until)?;
                    }
                }
                if f.table_sha256 != carbon::hex(&f.table_hash()) {
                    return Err(value("table_sha256 is not the hash of the factors".to_owned()));
                }
                Ok(())
            }
            Self::KeyRotation(k) => {
                instant("rotated_at_us", k.rotated_at_us)?;
                text("reason", &k.reason)?;
                for (field, key) in [("new_key", &k.new_key), ("old_key", &k.old_key)] {
                    key.parse::<crate::note::VerifierKey>().map_err(|e| value(format!("{field}: {e}")))?;
                }
                Ok(())
            }
            Self::Heartbeat(h) => instant("at_us", h.at_us),
        }
    }
}

fn value(reason: String) -> EntryError {
    EntryError::Value(reason)
}

fn at_least_zero(field: &str, n: i64) -> Result<(), EntryError> {
    if n < 0 { Err(value(format!("{field} is negative ({n})"))) } else { Ok(()) }
}

fn name(field: &str, s: &str) -> Result<(), EntryError> {
    if s.is_empty() || s.len() > MAX_NAME || s.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(value(format!("{field} must be 1 to {MAX_NAME} bytes without spaces")));
    }
    Ok(())
}

fn text(field: &str, s: &str) -> Result<(), EntryError> {
    if s.is_empty() || s.len() > MAX_TEXT {
        return Err(value(format!("{field} must be 1 to {MAX_TEXT} bytes")));
    }
    Ok(())
}

fn hash(field: &str, s: &str) -> Result<(), EntryError> {
    if s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(value(format!("{field} must be 64 lower-case hexadecimal digits")))
}

fn instant(field: &str, us: i64) -> Result<(), EntryError> {
    if us < EARLIEST_US { Err(value(format!("{field} is before 2020"))) } else { Ok(()) }
}

fn interval(start: i64, end: i64) -> Result<(), EntryError> {
    instant("interval", start)?;
    if end < start { Err(value("interval ends before it starts".to_owned())) } else { Ok(()) }
}

fn source(market: bool, from: &str, instrument: Option<&str>, v: i64, year: i64) -> Result<(), EntryError> {
    text("source", from)?;
    at_least_zero("factor value", v)?;
    if !(1990..=2200).contains(&year) {
        return Err(value(format!("the factor's year is {year}")));
    }
    match (market, instrument) {
        (true, None) => Err(value("a market-based factor names its instrument".to_owned())),
        (false, Some(_)) => Err(value("a location-based factor has no instrument".to_owned())),
        (true, Some(i)) => text("instrument", i),
        (false, None) => Ok(()),
    }
}

fn quote(field: &'static str, q: &Quote<'_>) -> Result<(), EntryError> {
    source(field == "market_factor", &q.source, q.instrument.as_deref(), q.value, q.year)?;
    hash("table_sha256", &q.table_sha256)
}

fn carbon(field: &'static str, found: i64, energy_mj: i64, factor: i64) -> Result<(), EntryError> {
    let expected = carbon::co2e_mg(energy_mj, factor);
    if found == expected { Ok(()) } else { Err(EntryError::Carbon { field, found, energy_mj, factor, expected }) }
}

#[cfg(test)]
mod tests;
