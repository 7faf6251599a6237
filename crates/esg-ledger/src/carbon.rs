//! From energy to emissions, and the factors that ship with the product.

use std::borrow::Cow;

use crate::{
    entry::{Basis, Factor, FactorSet, Quote},
    merkle::Hash,
};

/// Millijoules in a kilowatt hour.
pub const MJ_PER_KWH: i128 = 3_600_000_000;

/// mg CO2e of an energy (mJ) at a factor (mg/kWh), rounded to the nearest, halves up.
///
/// Neither is negative in a valid entry; a result beyond i64 saturates.
pub fn co2e_mg(energy_mj: i64, factor_mg_per_kwh: i64) -> i64 {
    round(i128::from(energy_mj) * i128::from(factor_mg_per_kwh))
}

/// mg CO2e of a sum of energy × factor (mJ·mg/kWh): one rounding for the whole sum.
pub fn round(energy_times_factor: i128) -> i64 {
    let mg = (energy_times_factor + MJ_PER_KWH / 2).div_euclid(MJ_PER_KWH);
    i64::try_from(mg).unwrap_or(i64::MAX)
}

/// Lower-case hexadecimal.
pub fn hex(hash: &Hash) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::with_capacity(64), |mut out, b| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// The factors that a new ledger starts with.
///
/// `default` is the product's own value; the others are country averages of 2023 as
/// the codecarbon project publishes them (global energy mix, after Our World in Data).
pub fn built_in(now_us: i64) -> FactorSet<'static> {
    const CODECARBON: &str = "codecarbon, global energy mix (Our World in Data)";
    let row = |region: &'static str, value, source: &'static str| Factor {
        basis: Basis::Location,
        region: Cow::Borrowed(region),
        source: Cow::Borrowed(source),
        value,
        year: 2023,
        ..Factor::default()
    };
    let factors = vec![
        row("default", 400_000, "the product's default, 0.4 kg/kWh"),
        row("DE", 380_950, CODECARBON),
        row("FR", 56_040, CODECARBON),
        row("US", 369_470, CODECARBON),
    ];
    seal(FactorSet {
        avoided_assumption: Some(Cow::Borrowed(
            "each failure that a reduced load avoided would have scrapped 6 parts: the one in the machine and those made until it is in tolerance again",
        )),
        factors,
        set_at_us: now_us,
        table_sha256: Cow::Borrowed(""),
    })
}

/// Puts the table's hash in.
pub fn seal(mut set: FactorSet<'_>) -> FactorSet<'_> {
    set.table_sha256 = Cow::Owned(hex(&set.table_hash()));
    set
}

/// The row that holds for a region at an instant: the one with the shortest time of validity.
pub fn find<'t, 'a>(set: &'t FactorSet<'a>, basis: Basis, region: &str, at_us: i64) -> Option<&'t Factor<'a>> {
    set.factors
        .iter()
        .filter(|f| f.basis == basis && f.region == region)
        .filter(|f| f.valid.is_none_or(|(from, until)| (from..until).contains(&at_us)))
        .min_by_key(|f| f.valid.map_or(i64::MAX, |(from, until)| until - from))
}

/// How a reading quotes a row of the table with this hash.
pub fn quote<'a>(row: &Factor<'a>, table_sha256: &str) -> Quote<'a> {
    Quote {
        instrument: row.instrument.clone(),
        source: row.source.clone(),
        table_sha256: Cow::Owned(table_sha256.to_owned()),
        value: row.value,
        year: row.year,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emissions_are_exact_and_rounded_once() {
        // 1 kWh at 0.4 kg/kWh.
        assert_eq!(co2e_mg(3_600_000_000, 400_000), 400_000);
        // 1 kW for a second: 111.1 mg.
        assert_eq!(co2e_mg(1_000_000, 400_000), 111);
        // Halves go up.
        assert_eq!(co2e_mg(4_500, 400_000), 1);
        assert_eq!(co2e_mg(4_499, 400_000), 0);
        assert_eq!(co2e_mg(0, 400_000), 0);
        assert_eq!(co2e_mg(i64::MAX, i64::MAX), i64::MAX);
        // An hour of seconds loses nothing when it is summed before rounding.
        let sum: i128 = (0..3_600).map(|_| 1_000_000 * 400_000).sum();
        assert_eq!(round(sum), 400_000);
        assert_eq!((0..3_600).map(|_| co2e_mg(1_000_000, 400_000)).sum::<i64>(), 399_600);
    }

    #[test]
    fn an_hour_s_factor_comes_before_a_year_s() {
        let mut set = built_in(1_700_000_000_000_000);
        assert_eq!(find(&set, Basis::Location, "DE", 0).map(|f| f.value), Some(380_950));
        let hourly = Factor { valid: Some((10, 20)), value: 200_000, ..set.factors[1].clone() };
        set.factors.push(hourly);
        assert_eq!(find(&set, Basis::Location, "DE", 9).map(|f| f.value), Some(380_950));
        assert_eq!(find(&set, Basis::Location, "DE", 10).map(|f| f.value), Some(200_000));
        assert_eq!(find(&set, Basis::Location, "DE", 20).map(|f| f.value), Some(380_950));
        assert!(find(&set, Basis::Market, "DE", 10).is_none());
        assert!(find(&set, Basis::Location, "XX", 10).is_none());
    }
}
