//! What a challenger learns from and is judged by: the lake's recent readings.

use std::time::Duration;

use lake::{Cursor, Lake, LakeError};

use crate::{
    distribution::{Observed, measure, measure_together},
    profile::{Moments, Profile},
    train::{Dataset, Row},
};

/// Names of one listing.
const PAGE: usize = 200;

/// Reads what was written since `from_us`. An object that is corrupt is left out: the pull sets it aside.
///
/// # Errors
/// The lake cannot be read.
pub async fn read(lake: &Lake, from_us: i64, horizon: Duration, max_rows: usize) -> Result<Vec<Row>, LakeError> {
    let mut data = Dataset::limited(max_rows);
    let mut cursor = Cursor::starting_at(from_us);
    loop {
        let names = lake.manifests_after(&cursor, PAGE).await?;
        if names.is_empty() {
            return Ok(data.rows);
        }
        for name in names {
            match lake.fetch(&name).await {
                Ok(fetched) => data.add(fetched.readings, horizon),
                Err(LakeError::Corrupt { .. } | LakeError::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
            cursor.advance(&name);
        }
    }
}

/// Rows to learn from and rows to judge by.
#[derive(Debug, Default, PartialEq)]
pub struct Split {
    /// The older ones; the newest of these counts fully, older ones less.
    pub training: Vec<Row>,
    /// The newest ones.
    pub holdout: Vec<Row>,
}

/// Cuts by time. What lies less than the horizon before the cut is in neither part: its truth was told by
/// readings of the other side.
pub fn split(rows: Vec<Row>, holdout: Duration, horizon: Duration, half_life: Duration) -> Split {
    let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    let Some(newest) = rows.iter().map(|r| r.ts_us).max() else { return Split::default() };
    let cut = newest.saturating_sub(us(holdout));
    let last = cut.saturating_sub(us(horizon));
    let half_life = half_life.as_secs_f64().max(1.0);
    let mut split = Split::default();
    for row in rows {
        if row.ts_us > cut {
            split.holdout.push(row);
        } else if row.ts_us <= last {
            let age = last.saturating_sub(row.ts_us) as f64 / 1e6;
            split.training.push(Row { weight: 0.5f64.powf(age / half_life), ..row });
        }
    }
    split
}

/// What drift of a challenger will be measured against: the rows that no failure followed. Where there
/// are too few windows of them for lines of their own, the champion's are kept, and `false` is said.
pub fn reference(split: &Split, champion: &Profile, window: Duration) -> (Profile, bool) {
    let calm = || split.training.iter().chain(&split.holdout).filter(|r| !r.came);
    let observed: Vec<Observed> =
        calm().map(|r| Observed { ts_us: r.ts_us, machine: r.machine, features: r.features }).collect();
    let fleet = observed.iter().map(|o| o.machine).max().unwrap_or(0) + 1;
    let mut moments = Moments::default();
    observed.iter().for_each(|o| moments.add(&o.features));
    let own = measure(&observed, window, fleet).ok().zip(moments.freeze_or(Some(champion)).ok());
    match own {
        Some((distributions, profile)) => {
            let together = measure_together(&observed, window, fleet);
            (Profile { distributions, together, ..profile }, true)
        }
        None => (champion.clone(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Features;

    fn rows(seconds: i64) -> Vec<Row> {
        let row = |s: i64| Row {
            ts_us: s * 1_000_000,
            machine: 0,
            features: Features([50.0 + (s % 9) as f64, 0.0, 0.5, 1.0 + 0.1 * (s % 7) as f64, 5e3, 0.0]),
            came: s % 500 == 499,
            weight: 1.0,
        };
        (0..seconds).map(row).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn no_label_of_the_training_looks_into_the_holdout() {
        let split = split(rows(1_000), 300 * SECOND, 120 * SECOND, 60 * SECOND);
        let instants = |rows: &[Row]| (rows[0].ts_us / 1_000_000, rows[rows.len() - 1].ts_us / 1_000_000);
        assert_eq!((instants(&split.training), instants(&split.holdout)), ((0, 579), (700, 999)));
        let weight = |i: usize| split.training[i].weight;
        assert_eq!((weight(579), weight(519)), (1.0, 0.5));
        assert!(split.holdout.iter().all(|r| r.weight == 1.0));
        assert_eq!(super::split(Vec::new(), SECOND, SECOND, SECOND), Split::default());
    }

    #[test]
    fn a_short_history_keeps_the_champions_reference() {
        let champion = Profile { rows: 7, means: vec![0.0; 6], deviations: vec![2.0; 6], ..Profile::default() };
        let of = |seconds| {
            let split = split(rows(seconds), 60 * SECOND, 10 * SECOND, 60 * SECOND);
            reference(&split, &champion, 300 * SECOND)
        };
        assert_eq!(of(1_000), (champion.clone(), false));
        let (own, is_own) = of(6_000);
        assert!(is_own && own.distributions.len() == 6 && own.rows > 5_000);
        assert_eq!(own.deviations[2], 2.0, "a load that never varied keeps the champion's scale");
        own.check().unwrap();
    }
}
