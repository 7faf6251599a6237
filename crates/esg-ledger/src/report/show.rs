//! The report as text and CSV.

use std::fmt::Write;

use super::{Report, Site};
use crate::export::field;

/// mJ as kWh with three decimals, rounded.
pub fn kwh(mj: i64) -> String {
    decimal(i128::from(mj), 3_600_000)
}

/// mg as kg with three decimals, rounded.
pub fn co2e_kg(mg: i64) -> String {
    decimal(i128::from(mg), 1_000)
}

/// mg as g with three decimals: what factors are usually written in.
pub(super) fn grams(mg: i64) -> String {
    decimal(i128::from(mg), 1)
}

/// `value / unit` in thousandths.
fn decimal(value: i128, unit: i128) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let thousandths = (value.abs() + unit / 2) / unit;
    format!("{sign}{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// Parts per million as a percentage.
pub(super) fn percent(ppm: i64) -> String {
    format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
}

impl Report {
    /// For a terminal or a mail.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "Energy and emissions, {} ({})", self.month, self.origin)?;
        let verified = if self.verified { "verified with its key" } else { "NOT verified: give --key" };
        writeln!(out, "From {} entries of the log, {verified}.\n", self.size)?;
        writeln!(
            out,
            "{:<16} {:>8} {:>14} {:>16} {:>16} {:>10} {:>6} {:>12}",
            "site", "machines", "kWh", "kg CO2e (loc.)", "kg CO2e (market)", "coverage", "gaps", "gap seconds"
        )?;
        for s in &self.sites {
            writeln!(
                out,
                "{:<16} {:>8} {:>14} {:>16} {:>16} {:>10} {:>6} {:>12}",
                s.site,
                s.machines,
                s.figures.kwh,
                co2e_kg(s.figures.co2e_location_mg),
                co2e_kg(s.figures.co2e_market_mg),
                percent(s.coverage_ppm),
                s.gaps,
                s.gap_seconds
            )?;
        }
        let t = &self.total;
        writeln!(
            out,
            "{:<16} {:>8} {:>14} {:>16} {:>16}\n",
            "all",
            "",
            t.kwh,
            co2e_kg(t.co2e_location_mg),
            co2e_kg(t.co2e_market_mg)
        )?;
        for s in &self.sites {
            self.write_site(out, s)?;
        }
        writeln!(out, "\nFactors")?;
        for f in &self.factors {
            writeln!(out, "  {} {}: {} g/kWh, {} ({})", f.region, f.basis, grams(f.value), f.source, f.year)?;
        }
        if !self.gaps.is_empty() {
            writeln!(out, "\nGaps")?;
        }
        for g in &self.gaps {
            let until = g.until.as_deref().unwrap_or("still open");
            writeln!(
                out,
                "  {} {} .. {until}, {} s, {} (entry {})",
                g.machine_id, g.from, g.seconds, g.reason, g.index
            )?;
        }
        if !self.corrections.is_empty() {
            writeln!(out, "\nCorrections")?;
        }
        for c in &self.corrections {
            writeln!(
                out,
                "  entry {} replaces {} ({}): {} -> {} kWh, by {}: {}",
                c.index,
                c.supersedes,
                c.machine_id,
                kwh(c.before_mj),
                kwh(c.after_mj),
                c.author,
                c.reason
            )?;
        }
        writeln!(out, "\nCheckpoint\n{}\n{}", self.checkpoint, self.how_to_verify)
    }

    fn write_site(&self, out: &mut String, s: &Site) -> std::fmt::Result {
        if s.parts_made + s.parts_avoided > 0 {
            writeln!(
                out,
                "{}: {} parts, {} scrapped because of failures, {} avoided",
                s.site, s.parts_made, s.parts_scrapped, s.parts_avoided
            )?;
            if let (Some(assumption), true) = (&self.avoided_assumption, s.parts_avoided > 0) {
                writeln!(out, "  (avoided: {assumption})")?;
            }
        }
        if s.estimated_mj > 0 {
            writeln!(out, "{}: {} kWh of it estimated", s.site, kwh(s.estimated_mj))?;
        }
        if s.unallocated_mj > 0 {
            writeln!(
                out,
                "{}: {} kWh more were counted by meters during gaps, in no figure above",
                s.site,
                kwh(s.unallocated_mj)
            )?;
        }
        Ok(())
    }

    /// One row a site and hour; integers, so that sums are exact.
    pub fn to_csv(&self) -> String {
        let mut out = "site,hour,energy_mj,kwh,co2e_location_mg,co2e_market_mg,covered_seconds\n".to_owned();
        for s in &self.sites {
            for h in &s.hours {
                let f = &h.figures;
                let _ = writeln!(
                    out,
                    "{},{},{},{},{},{},{}",
                    field(&s.site),
                    h.hour,
                    f.energy_mj,
                    f.kwh,
                    f.co2e_location_mg,
                    f.co2e_market_mg,
                    f.covered_seconds
                );
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_not_cut() {
        assert_eq!(kwh(3_600_000_000), "1.000");
        assert_eq!(kwh(1_800_000), "0.001");
        assert_eq!(kwh(1_799_999), "0.000");
        assert_eq!(kwh(-3_600_000_000), "-1.000");
        assert_eq!(co2e_kg(400_000), "0.400");
        assert_eq!(percent(999_999), "99.99 %");
        assert_eq!(percent(1_000_000), "100.00 %");
    }
}
