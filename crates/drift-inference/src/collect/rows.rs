//! Whole rows of a table, a bounded sample of them: what columns do together is in no single column.

use serde::{Deserialize, Serialize};
use stats::{
    compare::Severity,
    pca::{EXPLAINED, Pca},
};

use crate::table::{Cell, Place, parse_number};

/// Numbers that a sample holds at most.
const MAX_NUMBERS: usize = 2_000_000;
/// Rows that it holds at most.
const MAX_ROWS: usize = 20_000;
/// More columns than this are not looked at together: fitting takes the third power of them.
const MAX_COLUMNS: usize = 100;
/// Fewer whole rows say nothing.
const MIN_ROWS: usize = 50;
/// Standard errors that chance alone exceeds in one case of a hundred.
const SIGMAS: f64 = 2.576;

/// Every so-manyth row, so many that they fit.
pub struct RowSample {
    columns: usize,
    /// One in so many is kept.
    stride: u64,
    numbers: Vec<f64>,
}

impl RowSample {
    /// Of a table with so many columns.
    pub fn new(columns: usize) -> Self {
        Self { columns, stride: 1, numbers: Vec::new() }
    }

    fn capacity(&self) -> usize {
        MAX_ROWS.min(MAX_NUMBERS / self.columns.max(1)).max(2)
    }

    /// Takes a cell. Text comes row by row, Parquet column by column of so many rows.
    pub fn take(&mut self, column: usize, place: Place, cell: &Cell<'_>) {
        let row = place.row - 1;
        while row / self.stride >= self.capacity() as u64 {
            self.halve();
        }
        if !row.is_multiple_of(self.stride) {
            return;
        }
        let start = (row / self.stride) as usize * self.columns;
        if self.numbers.len() < start + self.columns {
            self.numbers.resize(start + self.columns, f64::NAN);
        }
        let x = match cell {
            Cell::Number(x) => *x,
            Cell::Raw(text) => parse_number(text).unwrap_or(f64::NAN),
            Cell::Missing | Cell::Text(_) | Cell::Boolean(_) | Cell::Instant(_) => return,
        };
        if let Some(place) = self.numbers.get_mut(start + column) {
            *place = x;
        }
    }

    fn halve(&mut self) {
        self.stride *= 2;
        let (columns, rows) = (self.columns, self.numbers.len() / self.columns.max(1));
        let mut kept = Vec::with_capacity(self.numbers.len() / 2 + columns);
        for row in (0..rows).step_by(2) {
            kept.extend_from_slice(&self.numbers[row * columns..(row + 1) * columns]);
        }
        self.numbers = kept;
    }

    /// Of some columns, the rows that have a finite number in each of them.
    fn whole(&self, columns: &[usize]) -> Vec<Vec<f64>> {
        let rows = self.numbers.chunks_exact(self.columns.max(1));
        let picked = rows.map(|row| columns.iter().map(|c| row[*c]).collect::<Vec<f64>>());
        picked.filter(|row| row.iter().all(|x| x.is_finite())).collect()
    }
}

/// The columns of numbers together, frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TogetherReference {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// What goes with what.
    pub pca: Pca,
}

impl TogetherReference {
    /// Of columns by name and place; `None` where there are too few or too many, or too few whole rows.
    pub fn fit(sample: &RowSample, columns: &[(String, usize)]) -> Option<Self> {
        if !(2..=MAX_COLUMNS).contains(&columns.len()) {
            return None;
        }
        let places: Vec<usize> = columns.iter().map(|(_, place)| *place).collect();
        let rows = sample.whole(&places);
        if rows.len() < MIN_ROWS {
            return None;
        }
        let pca = Pca::fit(&rows, EXPLAINED)?;
        Some(Self { columns: columns.iter().map(|(name, _)| name.clone()).collect(), pca })
    }

    /// A table's rows beside it; `places` are those of the columns. `None` with too few whole rows.
    pub fn compare(&self, sample: &RowSample, places: &[usize]) -> Option<TogetherDrift> {
        let rows = sample.whole(places);
        if rows.len() < MIN_ROWS {
            return None;
        }
        let (error, standard_errors) = self.pca.shift(&rows)?;
        let (reference, deviation) = self.pca.reference();
        let shift = (error - reference) / deviation;
        let severity = if standard_errors.abs() < SIGMAS || shift.abs() < 0.1 {
            Severity::None
        } else if shift.abs() < 0.25 {
            Severity::Warning
        } else {
            Severity::Alert
        };
        Some(TogetherDrift {
            columns: self.columns.len(),
            components: self.pca.components(),
            rows: rows.len(),
            error_reference: reference,
            error_current: error,
            shift_sigma: shift,
            standard_errors,
            drifted: severity != Severity::None,
            severity,
        })
    }
}

/// Drift of the columns together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TogetherDrift {
    /// Columns of numbers.
    pub columns: usize,
    /// Principal components that stand for them.
    pub components: usize,
    /// Whole rows that were looked at.
    pub rows: usize,
    /// Mean distance of the reference's rows from their projection, in σ of the columns.
    pub error_reference: f64,
    /// The same of the rows now.
    pub error_current: f64,
    /// The difference in σ of the reference's distances.
    pub shift_sigma: f64,
    /// The same in standard errors, as if rows did not depend on each other.
    pub standard_errors: f64,
    /// The difference is 0.1 σ or more, and not by chance.
    pub drifted: bool,
    /// How bad it is: an alert from 0.25 σ on.
    pub severity: Severity,
}

impl TogetherDrift {
    /// For people.
    pub fn words(&self) -> String {
        let verdict = if self.drifted { "have drifted" } else { "have not drifted" };
        format!(
            "{} columns of numbers together {verdict}: reconstruction error {:.3} before, {:.3} now ({:+.2} σ)",
            self.columns, self.error_reference, self.error_current, self.shift_sigma
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: u64, turned: bool) -> RowSample {
        let mut sample = RowSample::new(3);
        for row in 1..=rows {
            let noise = |k: u64| (row * k % 101) as f64 / 101.0 - 0.5;
            let with = if turned { -noise(37) } else { noise(37) };
            let place = Place { row, line: None };
            sample.take(0, place, &Cell::Number(noise(37)));
            sample.take(1, place, &Cell::Raw(&format!("{}", with + 0.05 * noise(59))));
            let third = if row % 10 == 0 { Cell::Missing } else { Cell::Number(noise(83)) };
            sample.take(2, place, &third);
        }
        sample
    }

    fn columns() -> Vec<(String, usize)> {
        vec![("a".to_owned(), 0), ("b".to_owned(), 1), ("c".to_owned(), 2)]
    }

    #[test]
    fn a_turned_correlation_is_seen_and_memory_is_bounded() {
        let before = sample(50_000, false);
        assert!(before.numbers.len() <= MAX_ROWS * 3 && before.stride == 4, "{}", before.stride);
        let reference = TogetherReference::fit(&before, &columns()).unwrap();
        let same = reference.compare(&sample(3_000, false), &[0, 1, 2]).unwrap();
        assert!(!same.drifted && same.rows == 2_700, "{same:?}");
        let turned = reference.compare(&sample(3_000, true), &[0, 1, 2]).unwrap();
        assert!(turned.severity == Severity::Alert && turned.words().contains("have drifted"), "{turned:?}");
    }

    #[test]
    fn the_order_of_the_cells_does_not_matter() {
        let cell = |row: u64, column: usize| (row * 31 + column as u64 * 7) as f64;
        let (rows, columns, batch) = (70_000, 3, 1_024);
        let mut by_row = RowSample::new(columns);
        let mut by_column = RowSample::new(columns);
        for row in 0..rows {
            for column in 0..columns {
                by_row.take(column, Place { row: row + 1, line: None }, &Cell::Number(cell(row, column)));
            }
        }
        for first in (0..rows).step_by(batch) {
            for column in 0..columns {
                for row in first..rows.min(first + batch as u64) {
                    by_column.take(column, Place { row: row + 1, line: None }, &Cell::Number(cell(row, column)));
                }
            }
        }
        assert!(by_row.numbers == by_column.numbers && by_row.whole(&[0, 2]).len() == 17_500);
    }

    #[test]
    fn too_little_is_not_judged() {
        assert_eq!(TogetherReference::fit(&sample(40, false), &columns()), None);
        assert_eq!(TogetherReference::fit(&sample(400, false), &columns()[..1]), None);
        let reference = TogetherReference::fit(&sample(400, false), &columns()).unwrap();
        assert_eq!(reference.compare(&sample(40, false), &[0, 1, 2]), None);
    }
}
