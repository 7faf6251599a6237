//! Entries as tables: CSV and Parquet, one row an entry.

mod csv;
mod parquet;

use std::io::Write;

use crate::{
    carbon,
    dir::LogDir,
    entry::{Entry, Word},
    history::subject,
    merkle::leaf_hash,
    scan::{self, ScanError},
};

pub use self::csv::field;

/// Why a table cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The output cannot be written.
    #[error("cannot write the table: {0}")]
    Write(String),
}

/// One entry as a row. Empty where the entry's type has no such value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    index: u64,
    kind: &'static str,
    leaf_sha256: String,
    machine_id: Option<String>,
    site: Option<String>,
    line: Option<String>,
    boot_id: Option<String>,
    seq: Option<i64>,
    start_us: Option<i64>,
    end_us: Option<i64>,
    energy_mj: Option<i64>,
    meter_mj: Option<i64>,
    status: Option<&'static str>,
    error_code: Option<i64>,
    quality: Option<&'static str>,
    method: Option<&'static str>,
    region: Option<String>,
    factor_mg_per_kwh: Option<i64>,
    factor_year: Option<i64>,
    factor_source: Option<String>,
    factor_table_sha256: Option<String>,
    co2e_location_mg: Option<i64>,
    market_factor_mg_per_kwh: Option<i64>,
    market_instrument: Option<String>,
    co2e_market_mg: Option<i64>,
    supersedes: Option<i64>,
    reason: Option<String>,
}

impl Row {
    fn of(index: u64, entry: &Entry<'_>, bytes: &[u8]) -> Self {
        let mut row = Self {
            index,
            kind: entry.kind(),
            leaf_sha256: carbon::hex(&leaf_hash(bytes)),
            machine_id: entry.machine_id().map(str::to_owned),
            ..Self::default()
        };
        if let Some(r) = subject(entry) {
            row.site = Some(r.site.to_string());
            row.line = Some(r.line.to_string());
            row.boot_id = Some(r.boot_id.to_string());
            row.seq = Some(r.seq);
            (row.start_us, row.end_us) = (Some(r.start_us), Some(r.end_us));
            (row.energy_mj, row.meter_mj) = (Some(r.energy_mj), Some(r.meter_mj));
            row.status = Some(r.status.as_str());
            row.error_code = Some(r.error_code);
            row.quality = Some(r.quality.as_str());
            row.method = Some(r.method.as_str());
            row.region = Some(r.region.to_string());
            row.factor_mg_per_kwh = Some(r.factor.value);
            row.factor_year = Some(r.factor.year);
            row.factor_source = Some(r.factor.source.to_string());
            row.factor_table_sha256 = Some(r.factor.table_sha256.to_string());
            row.co2e_location_mg = Some(r.co2e_location_mg);
            row.market_factor_mg_per_kwh = r.market_factor.as_ref().map(|f| f.value);
            row.market_instrument =
                r.market_factor.as_ref().and_then(|f| f.instrument.as_ref()).map(ToString::to_string);
            row.co2e_market_mg = r.co2e_market_mg;
        }
        match entry {
            Entry::GapOpen(g) => (row.start_us, row.reason) = (Some(g.from_us), Some(g.reason.to_string())),
            Entry::GapClose(g) => (row.start_us, row.end_us) = (Some(g.from_us), Some(g.until_us)),
            Entry::Correction(c) => (row.supersedes, row.reason) = (Some(c.index), Some(c.reason.to_string())),
            Entry::KeyRotation(k) => (row.start_us, row.reason) = (Some(k.rotated_at_us), Some(k.reason.to_string())),
            Entry::FactorSet(f) => {
                (row.start_us, row.factor_table_sha256) = (Some(f.set_at_us), Some(f.table_sha256.to_string()));
            }
            Entry::Heartbeat(h) => row.start_us = Some(h.at_us),
            Entry::Reading(_) => {}
        }
        row
    }
}

/// Name and value of each column, in order.
enum Column {
    Number(&'static str, fn(&Row) -> Option<i64>),
    Text(&'static str, fn(&Row) -> Option<&str>),
}

const COLUMNS: &[Column] = &[
    Column::Number("index", |r| Some(r.index as i64)),
    Column::Text("type", |r| Some(r.kind)),
    Column::Text("machine_id", |r| r.machine_id.as_deref()),
    Column::Text("site", |r| r.site.as_deref()),
    Column::Text("line", |r| r.line.as_deref()),
    Column::Text("boot_id", |r| r.boot_id.as_deref()),
    Column::Number("seq", |r| r.seq),
    Column::Number("start_us", |r| r.start_us),
    Column::Number("end_us", |r| r.end_us),
    Column::Number("energy_mj", |r| r.energy_mj),
    Column::Number("meter_mj", |r| r.meter_mj),
    Column::Text("status", |r| r.status),
    Column::Number("error_code", |r| r.error_code),
    Column::Text("quality", |r| r.quality),
    Column::Text("method", |r| r.method),
    Column::Text("region", |r| r.region.as_deref()),
    Column::Number("factor_mg_per_kwh", |r| r.factor_mg_per_kwh),
    Column::Number("factor_year", |r| r.factor_year),
    Column::Text("factor_source", |r| r.factor_source.as_deref()),
    Column::Text("factor_table_sha256", |r| r.factor_table_sha256.as_deref()),
    Column::Number("co2e_location_mg", |r| r.co2e_location_mg),
    Column::Number("market_factor_mg_per_kwh", |r| r.market_factor_mg_per_kwh),
    Column::Text("market_instrument", |r| r.market_instrument.as_deref()),
    Column::Number("co2e_market_mg", |r| r.co2e_market_mg),
    Column::Number("supersedes", |r| r.supersedes),
    Column::Text("reason", |r| r.reason.as_deref()),
    Column::Text("leaf_sha256", |r| Some(&r.leaf_sha256)),
];

/// Writes all entries as CSV (RFC 4180, with a header). Memory does not grow with the log.
///
/// # Errors
/// The log cannot be read, or the output not be written.
pub fn to_csv(dir: &LogDir, out: impl Write) -> Result<(), ExportError> {
    let mut table = csv::Table::start(out)?;
    scan::entries(dir, |index, entry, bytes| table.row(&Row::of(index, entry, bytes)))?;
    table.finish()
}

/// Writes all entries as Parquet, in row groups of bounded size.
///
/// # Errors
/// The log cannot be read, or the output not be written.
pub fn to_parquet(dir: &LogDir, out: impl Write + Send) -> Result<(), ExportError> {
    let mut table = parquet::Table::start(out)?;
    scan::entries(dir, |index, entry, bytes| table.row(Row::of(index, entry, bytes)))?;
    table.finish()
}
