//! A table that is compared with a reference.

use stats::{
    cells::Binning,
    compare::Current,
    profile::{Kind, Reference},
};

use super::{Choices, EXACT_VALUES, RowSample, TogetherDrift, TogetherReference, Value, own_kind, understand};
use crate::table::{Cell, Place, Sink};

/// A column that the reference has too.
pub struct Column {
    /// Index among the reference's columns.
    pub reference: usize,
    /// What it holds.
    pub current: Current,
    /// Cells that are not of the reference's kind, and where and what the first was.
    pub faults: Option<(u64, Place, String)>,
    kind: Kind,
}

/// Takes the rows of a table that is compared.
pub struct CurrentTable<'a> {
    references: &'a [Reference],
    binning: Binning,
    choices: Choices,
    columns: Vec<Option<Column>>,
    new: Vec<String>,
    names: Vec<String>,
    /// Kept only where there is something to compare whole rows with.
    rows: Option<RowSample>,
    together: Option<&'a TogetherReference>,
}

/// What a compared table holds.
pub struct Compared {
    /// The columns that the reference has.
    pub columns: Vec<Column>,
    /// Names of those that it has not.
    pub new: Vec<String>,
    /// The columns of numbers together.
    pub together: Option<TogetherDrift>,
}

impl<'a> CurrentTable<'a> {
    /// Nothing yet.
    pub fn new(
        references: &'a [Reference],
        together: Option<&'a TogetherReference>,
        binning: Binning,
        choices: Choices,
    ) -> Self {
        let (columns, new, names) = (Vec::new(), Vec::new(), Vec::new());
        Self { references, binning, choices, columns, new, names, rows: None, together }
    }

    /// Everything that was taken.
    pub fn finish(self) -> Compared {
        let together = self.together.zip(self.rows.as_ref()).and_then(|(reference, rows)| {
            let place = |name: &String| self.names.iter().position(|n| n == name);
            let places: Option<Vec<usize>> = reference.columns.iter().map(place).collect();
            reference.compare(rows, &places?)
        });
        Compared { columns: self.columns.into_iter().flatten().collect(), new: self.new, together }
    }
}

impl Sink for CurrentTable<'_> {
    fn columns(&mut self, names: &[String]) -> Result<(), String> {
        for name in names {
            let index = self.references.iter().position(|r| r.name == *name);
            let column = index.map(|reference| Column {
                reference,
                current: Current::new(&self.references[reference], self.binning, EXACT_VALUES),
                faults: None,
                kind: self.references[reference].kind,
            });
            if column.is_none() && self.choices.wants(name) {
                self.new.push(name.clone());
            }
            self.columns.push(column);
        }
        self.names = names.to_vec();
        self.rows = self.together.map(|_| RowSample::new(names.len()));
        Ok(())
    }

    fn cell(&mut self, column: usize, place: Place, cell: Cell<'_>) -> Result<(), String> {
        if !self.choices.wants_row(place.row) {
            return Ok(());
        }
        if let Some(rows) = &mut self.rows {
            rows.take(column, place, &cell);
        }
        let Some(column) = &mut self.columns[column] else { return Ok(()) };
        // A CSV file's text may have been a Parquet file's number, and the other way round.
        let printed;
        let cell = match (cell, own_kind(cell), column.kind) {
            (Cell::Number(x), _, Kind::Text) => {
                printed = x.to_string();
                Cell::Text(&printed)
            }
            (Cell::Boolean(b), _, Kind::Text) => Cell::Text(if b { "true" } else { "false" }),
            (cell, ..) => cell,
        };
        match understand(cell, column.kind) {
            Ok(Value::Missing) => column.current.missing(),
            Ok(Value::Number(x)) => column.current.number(x),
            Ok(Value::Category(t)) => column.current.category(t),
            Err(reason) => match &mut column.faults {
                Some((count, ..)) => *count += 1,
                None => column.faults = Some((1, place, reason)),
            },
        }
        Ok(())
    }
}
