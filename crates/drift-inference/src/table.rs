//! Anybody's tables, read row by row: CSV and Parquet.

mod cell;
mod csv_file;
mod parquet_file;
mod progress;

use std::{
    fmt::{self, Display, Formatter},
    path::{Path, PathBuf},
};

pub use cell::{Class, classify, is_missing, parse_boolean, parse_instant, parse_number};

/// A cell as the file has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Missing,
    /// Text of which the file does not say what it means.
    Raw(&'a str),
    /// A number; may be infinite.
    Number(f64),
    /// Text.
    Text(&'a str),
    /// True or false.
    Boolean(bool),
    /// An instant, s since 1970.
    Instant(f64),
}

/// Where a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Row of data, from 1.
    pub row: u64,
    /// Line of the file, from 1, where the file has lines.
    pub line: Option<u64>,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "row {} (line {line})", self.row),
            None => write!(f, "row {}", self.row),
        }
    }
}

/// What takes a table's rows.
pub trait Sink {
    /// The names of the columns, once, before any cell.
    ///
    /// # Errors
    /// Why these cannot be used.
    fn columns(&mut self, names: &[String]) -> Result<(), String>;

    /// A cell of a column, row by row.
    ///
    /// # Errors
    /// Why it cannot be used; the file, the column and the row are added to it.
    fn cell(&mut self, column: usize, place: Place, cell: Cell<'_>) -> Result<(), String>;
}

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Of the file as a whole.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Of a row.
    #[error("{}: {place}: {reason}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The row.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// Of a cell.
    #[error("{}: column {column:?}, {place}: {reason}", file.display())]
    Cell {
        /// The file.
        file: PathBuf,
        /// The column's name.
        column: String,
        /// The row.
        place: Place,
        /// What is wrong.
        reason: String,
    },
}

impl TableError {
    pub(crate) fn file(file: &Path, reason: impl Display) -> Self {
        Self::File { file: file.to_owned(), reason: reason.to_string() }
    }
}

/// How a file is read.
#[derive(Clone, Debug, Default)]
pub struct Format {
    /// Between the fields of a CSV file; found out from its first line if not given.
    pub delimiter: Option<u8>,
}

/// Feeds a file's rows to `sink` and returns how many there were. A name that ends in
/// `.parquet`, or a file that starts like one, is Parquet; everything else is CSV with a header.
///
/// # Errors
/// Names the file, and where it applies the column and the row.
pub fn read(file: &Path, format: &Format, sink: &mut dyn Sink) -> Result<u64, TableError> {
    let is_parquet = parquet_file::looks_like_one(file).map_err(|e| TableError::file(file, e))?;
    if is_parquet { parquet_file::read(file, sink) } else { csv_file::read(file, format, sink) }
}

/// Names must tell columns apart; empty ones are named by their place.
fn name_columns(file: &Path, names: impl Iterator<Item = String>) -> Result<Vec<String>, TableError> {
    let names: Vec<String> = names
        .enumerate()
        .map(|(i, name)| if name.trim().is_empty() { format!("column {}", i + 1) } else { name.trim().to_owned() })
        .collect();
    let mut seen = std::collections::HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(TableError::file(file, format!("two columns are named {name:?}"))),
        None => Ok(names),
    }
}
