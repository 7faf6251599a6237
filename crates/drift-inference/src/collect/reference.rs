//! A table from which a reference is made.

use rayon::prelude::*;
use stats::profile::{Kind, Reference, Summary};

use super::{Choices, EXACT_VALUES, RowSample, TogetherReference, Value, kind_of, own_kind, understand};
use crate::table::{Cell, Place, Sink};

/// Texts from which a column's kind is found out.
const FIRST: usize = 1_000;

enum State {
    /// Left out.
    Ignored,
    /// Texts so far, and rows without any.
    Undecided { texts: Vec<String>, places: Vec<Place>, missing: u64 },
    /// Its kind is known.
    Known(Kind, Summary),
    /// It has none.
    Faulty(Place, String),
}

/// Takes the rows of a reference.
pub struct ReferenceTable {
    choices: Choices,
    columns: Vec<(String, State)>,
    rows: RowSample,
}

/// A reference of a table.
pub struct Frozen {
    /// Its columns.
    pub columns: Vec<Reference>,
    /// Its columns of numbers together.
    pub together: Option<TogetherReference>,
}

impl ReferenceTable {
    /// Nothing yet.
    pub fn new(choices: Choices) -> Self {
        Self { choices, columns: Vec::new(), rows: RowSample::new(0) }
    }

    /// The columns, frozen.
    ///
    /// # Errors
    /// A column that is nearly all numbers but for a text, with its name and place.
    pub fn freeze(self) -> Result<Frozen, String> {
        let (mut known, mut numbers) = (Vec::new(), Vec::new());
        for (place, (name, mut state)) in self.columns.into_iter().enumerate() {
            if let State::Undecided { .. } = state {
                state = decide(state);
            }
            match state {
                State::Known(kind, summary) => {
                    // A column that nearly always lacks a value would leave no whole row.
                    let often = 10 * summary.missing() < summary.rows();
                    if kind == Kind::Number && often {
                        numbers.push((name.clone(), place));
                    }
                    known.push((name, kind, summary));
                }
                State::Faulty(place, reason) => return Err(format!("column {name:?}, {place}: {reason}")),
                State::Ignored | State::Undecided { .. } => {}
            }
        }
        let freeze = |(name, kind, summary): (String, Kind, Summary)| Reference::freeze(&name, kind, summary);
        // Sorting a column is most of the work.
        let columns = known.into_par_iter().map(freeze).collect();
        Ok(Frozen { columns, together: TogetherReference::fit(&self.rows, &numbers) })
    }
}

impl Sink for ReferenceTable {
    fn columns(&mut self, names: &[String]) -> Result<(), String> {
        self.choices.check(names)?;
        let state = |name: &String| {
            if !self.choices.wants(name) {
                State::Ignored
            } else if self.choices.text.contains(name) {
                State::Known(Kind::Text, Summary::new(Kind::Text, EXACT_VALUES))
            } else {
                State::Undecided { texts: Vec::new(), places: Vec::new(), missing: 0 }
            }
        };
        self.columns = names.iter().map(|n| (n.clone(), state(n))).collect();
        self.rows = RowSample::new(names.len());
        Ok(())
    }

    fn cell(&mut self, column: usize, place: Place, cell: Cell<'_>) -> Result<(), String> {
        if !self.choices.wants_row(place.row) {
            return Ok(());
        }
        self.rows.take(column, place, &cell);
        let state = &mut self.columns[column].1;
        if let State::Undecided { texts, places, missing } = state {
            if let Some(kind) = own_kind(cell) {
                let mut summary = Summary::new(kind, EXACT_VALUES);
                add_missing(&mut summary, *missing);
                *state = State::Known(kind, summary);
            } else {
                match cell {
                    Cell::Raw(text) => {
                        texts.push(text.to_owned());
                        places.push(place);
                    }
                    _ => *missing += 1,
                }
                if texts.len() >= FIRST {
                    let undecided = std::mem::replace(state, State::Ignored);
                    // A fault is told at the end, with its own place.
                    *state = decide(undecided);
                }
                return Ok(());
            }
        }
        if let State::Known(kind, summary) = state {
            add(summary, *kind, cell)
                .map_err(|reason| format!("{reason}, and the column holds {}s before; {HINT}", kind.as_str()))?;
        }
        Ok(())
    }
}

const HINT: &str = "mend the file, or read the column as text with --text";

fn decide(state: State) -> State {
    let State::Undecided { texts, places, missing } = state else { return state };
    let kind = match kind_of(&texts) {
        Ok(kind) => kind,
        Err(i) => {
            let text = super::shorten(&texts[i]);
            return State::Faulty(places[i], format!("{text:?} is not a number, and nearly all others are; {HINT}"));
        }
    };
    let mut summary = Summary::new(kind, EXACT_VALUES);
    add_missing(&mut summary, missing);
    for (text, place) in texts.iter().zip(places) {
        if let Err(reason) = add(&mut summary, kind, Cell::Raw(text)) {
            return State::Faulty(place, reason);
        }
    }
    State::Known(kind, summary)
}

fn add_missing(summary: &mut Summary, rows: u64) {
    match summary {
        Summary::Numbers(n) => n.missing += rows,
        Summary::Categories(c) => c.missing += rows,
    }
}

fn add(summary: &mut Summary, kind: Kind, cell: Cell<'_>) -> Result<(), String> {
    match (understand(cell, kind)?, summary) {
        (Value::Missing, summary) => add_missing(summary, 1),
        (Value::Number(x), Summary::Numbers(n)) => n.add(x),
        (Value::Category(t), Summary::Categories(c)) => c.add(t),
        _ => return Err("is not of the column's kind".into()),
    }
    Ok(())
}
