//! Exports and reports of a log whose figures can be worked out by hand.

use std::{fs, process::Command};

use esg_ledger::{
    carbon,
    entry::{Correction, Entry, Parts, Quality, Quote},
    export,
    log::Log,
    merkle::leaf_hash,
    report::{self, Month},
    scan, testing,
};
use parquet::{file::reader::FileReader, record::RowAccessor};

use crate::support::{self, NOW_US, Sample, policy, started};

/// Machine `m`: readings 0 to 3, a gap of 6 s, readings 10 and 11; number 2 corrected to half. Machine `n`: one,
/// estimated, with parts. Each reading is 1 kW for a second.
fn log() -> Sample {
    let sample = started();
    let mut log = Log::open(sample.place.clone()).unwrap();
    let reading = |id: &str, seq, change: &dyn Fn(&mut esg_ledger::entry::Reading<'static>)| {
        let mut reading = testing::reading(id, seq);
        change(&mut reading);
        reading.compute();
        Entry::Reading(reading).to_bytes()
    };
    let plain = |_: &mut esg_ledger::entry::Reading<'static>| ();
    let mut entries: Vec<Vec<u8>> = (0..4).chain(10..12).map(|seq| reading("m", seq, &plain)).collect();
    entries.push(reading("n", 0, &|r| {
        r.site = "site-2".into();
        r.quality = Quality::Estimated;
        r.parts = Some(Parts { made: 10, scrapped: 2, avoided: 3 });
    }));
    log.submit(&entries, &policy(), NOW_US).unwrap();
    let mut right = testing::reading("m", 2);
    right.energy_mj = 500_000;
    right.compute();
    let correction = Correction {
        author: "=an engineer".into(),
        reading: right,
        reason: "clamp <b>slipped</b>, twice".into(),
        index: 3,
        leaf_sha256: carbon::hex(&leaf_hash(&entries[2])).into(),
    };
    let outcome = log.submit(&[Entry::Correction(Box::new(correction)).to_bytes()], &policy(), NOW_US).unwrap();
    assert!(matches!(outcome[0], esg_ledger::log::Outcome::Appended(_)), "{outcome:?}");
    support::cosign(&mut log);
    log.close().unwrap();
    sample
}

fn month() -> Month {
    "2026-10".parse().unwrap()
}

#[test]
fn the_month_adds_up_by_hand() {
    let sample = log();
    let report = report::build(sample.dir(), month(), Some(&sample.key), false).unwrap();
    let [one, two] = report.sites.as_slice() else { panic!("{:?}", report.sites) };
    // Six readings of 1e6 mJ, one of them corrected to half.
    assert_eq!((one.site.as_str(), one.figures.energy_mj, one.machines), ("site-1", 5_500_000, 1));
    // 5.5e6 mJ x 0.4 kg/kWh = 611.1 mg; the six single figures would add up to 611 by luck or not at all.
    assert_eq!((one.figures.co2e_location_mg, one.figures.co2e_market_mg), (611, 611));
    assert_eq!((one.gaps, one.gap_seconds, one.figures.covered_seconds), (1, 6, 6));
    assert_eq!((one.coverage_ppm, one.corrections), (500_000, 1));
    // The meter went on during the gap: 6 s of 1 kW.
    assert_eq!(one.unallocated_mj, 6_000_000);
    assert_eq!((two.estimated_mj, two.parts_made, two.parts_scrapped, two.parts_avoided), (1_000_000, 10, 2, 3));
    assert_eq!(report.total.energy_mj, 6_500_000);
    assert_eq!(report.gaps[0].reason, "sequence_jump");
    assert_eq!((report.corrections[0].before_mj, report.corrections[0].after_mj), (1_000_000, 500_000));
    assert_eq!((report.factors.len(), report.factors[0].value), (1, 400_000));
    assert_eq!(one.hours.len(), 1);
    assert_eq!(one.hours[0].hour, "2026-10-01T00:00:00Z");
    let other = report::build(sample.dir(), "2026-11".parse().unwrap(), None, false).unwrap();
    assert_eq!((other.total.energy_mj, other.sites.len()), (0, 0));
}

#[test]
fn a_contract_s_energy_has_two_figures() {
    let sample = started();
    let factors = support::beside(&sample, "factors.json");
    fs::write(&factors, r#"{"factors": [
        {"basis": "location", "region": "DE", "source": "grid", "unit": "mg/kWh", "value": 380950, "year": 2023},
        {"basis": "market", "region": "DE", "instrument": "GO wind", "source": "supplier", "unit": "mg/kWh", "value": 0, "year": 2026}
    ]}"#).unwrap();
    let set = esg_ledger::cli::read_factors(Some(&factors), testing::START_US).unwrap();
    let quote = |row: usize| -> Quote<'static> { carbon::quote(&set.factors[row], &set.table_sha256) };
    let mut log = Log::open(sample.place.clone()).unwrap();
    let mut reading = testing::reading("m", 0);
    reading.region = "DE".into();
    (reading.factor, reading.market_factor) = (quote(0), Some(quote(1)));
    (reading.energy_mj, reading.meter_mj) = (3_600_000_000, 3_600_000_000);
    reading.compute();
    let entries = [Entry::FactorSet(set.clone()).to_bytes(), Entry::Reading(reading).to_bytes()];
    support::append(&mut log, &entries);
    support::cosign(&mut log);
    drop(log);
    assert!(sample.verify().ok, "{:?}", sample.verify().failures);
    let report = report::build(sample.dir(), month(), None, false).unwrap();
    assert_eq!((report.total.co2e_location_mg, report.total.co2e_market_mg), (380_950, 0));
    assert_eq!(report.factors.len(), 2);
}

#[test]
fn every_form_of_the_report_says_what_it_must() {
    let sample = log();
    let dir = sample.dir().display().to_string();
    let key = sample.key.to_string();
    let form = |format: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_esg-ledger"))
            .args(["report", &dir, "--month", "2026-10", "--format", format, "--key", &key])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let text = form("text");
    for part in [
        "site-1",
        "0.002",
        "50.00 %",
        "verified with its key",
        "sequence_jump",
        "esg-ledger verify",
        "example.com/esg\n",
        "avoided: each failure",
        "2 scrapped because of failures",
        "clamp",
    ] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&form("json")).unwrap();
    assert_eq!(json["sites"][0]["energy_mj"], 5_500_000);
    assert_eq!(json["verified"], true);
    let csv = form("csv");
    assert_eq!(csv.lines().nth(1), Some("site-1,2026-10-01T00:00:00Z,5500000,0.002,611,611,6"));
    let html = form("html");
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>"));
    assert!(html.contains("<svg") && html.contains("clamp &lt;b&gt;slipped"), "text is never markup");
    assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
}

#[test]
fn both_tables_hold_every_entry() {
    let sample = log();
    let (checkpoint, _) = scan::checkpoint(sample.dir(), None).unwrap();
    let dir = esg_ledger::dir::LogDir::new(sample.dir(), checkpoint.size);
    let mut csv = Vec::new();
    export::to_csv(&dir, &mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert_eq!(csv.lines().count() as u64, checkpoint.size + 1);
    assert!(csv.starts_with("index,type,machine_id,site,line,"));
    assert!(csv.lines().any(|l| l.contains(",\"clamp <b>slipped</b>, twice\",")), "{csv}");

    let path = support::beside(&sample, "out.parquet");
    export::to_parquet(&dir, fs::File::create(&path).unwrap()).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(rows.len() as u64, checkpoint.size);
    assert_eq!((rows[1].get_long(0).unwrap(), rows[1].get_string(1).unwrap().as_str()), (1, "reading"));
    let columns = csv.lines().next().unwrap().split(',').count();
    assert_eq!(rows[0].len(), columns);
}
