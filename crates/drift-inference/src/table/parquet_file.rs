//! Parquet files of any flat schema.

use std::{fs::File, io::Read, path::Path};

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float64Type, TimestampMicrosecondType},
};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Cell, Place, Sink, TableError, name_columns, progress::Progress};

const MAGIC: &[u8] = b"PAR1";
const BATCH: usize = 8_192;

/// By its name, or by how it starts.
pub fn looks_like_one(file: &Path) -> std::io::Result<bool> {
    let mut start = [0; 4];
    let mut opened = File::open(file)?;
    if opened.metadata()?.is_dir() {
        return Err(std::io::Error::other("is a folder"));
    }
    let named = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
    Ok(named || (opened.read_exact(&mut start).is_ok() && start == MAGIC))
}

/// What the cells of a column become.
#[derive(Clone, Copy)]
enum Shape {
    Number,
    Boolean,
    Text,
    Instant,
    Nothing,
}

impl Shape {
    fn of(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Null => Self::Nothing,
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Dictionary(_, values) => Self::of(values)?,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Self::Instant,
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                Self::Number
            }
            kind if kind.is_numeric() => Self::Number,
            DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_) => Self::Number,
            _ => return None,
        })
    }
}

pub fn read(file: &Path, sink: &mut dyn Sink) -> Result<u64, TableError> {
    let fault = |reason: &dyn std::fmt::Display| TableError::file(file, reason);
    let opened = File::open(file).map_err(|e| fault(&e))?;
    let length = opened.metadata().map_or(0, |m| m.len());
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened)
        .map_err(|e| fault(&format!("is not readable Parquet: {e}")))?;
    let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
    let schema = builder.schema().clone();
    let names = name_columns(file, schema.fields().iter().map(|f| f.name().clone()))?;
    let shapes = schema
        .fields()
        .iter()
        .map(|f| {
            Shape::of(f.data_type()).ok_or_else(|| {
                fault(&format!("column {:?} holds {}: only flat columns are read", f.name(), f.data_type()))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    sink.columns(&names).map_err(|e| fault(&e))?;
    let mut progress = Progress::new((), length, &file.file_name().unwrap_or_default().to_string_lossy());
    let reader = builder.with_batch_size(BATCH).build().map_err(|e| fault(&e))?;
    let mut rows = 0;
    for batch in reader {
        let batch = batch.map_err(|e| fault(&format!("after row {rows}: {e}")))?;
        for (column, (array, shape)) in batch.columns().iter().zip(&shapes).enumerate() {
            let at = |row: usize, reason: String| TableError::Cell {
                file: file.to_owned(),
                column: names[column].clone(),
                place: Place { row: rows + row as u64 + 1, line: None },
                reason,
            };
            for_each(array.as_ref(), *shape, &mut |row, cell| {
                sink.cell(column, Place { row: rows + row as u64 + 1, line: None }, cell).map_err(|e| at(row, e))
            })
            .map_err(|e| match e {
                Fault::Table(e) => e,
                Fault::Cast(e) => at(0, e),
            })?;
        }
        rows += batch.num_rows() as u64;
        progress.advance(length * batch.num_rows() as u64 / total);
    }
    Ok(rows)
}

enum Fault {
    Table(TableError),
    Cast(String),
}

/// Calls with each cell; nulls and not-a-numbers are missing.
fn for_each(
    array: &dyn Array,
    shape: Shape,
    visit: &mut dyn FnMut(usize, Cell<'_>) -> Result<(), TableError>,
) -> Result<(), Fault> {
    let to = |kind: DataType| cast(array, &kind).map_err(|e| Fault::Cast(e.to_string()));
    let array = match (shape, array.data_type()) {
        (Shape::Nothing, _) => {
            return (0..array.len()).try_for_each(|i| visit(i, Cell::Missing)).map_err(Fault::Table);
        }
        // Times of day and durations have no way to a double but by an integer.
        (Shape::Number, DataType::Duration(_) | DataType::Time64(_)) => {
            cast(&to(DataType::Int64)?, &DataType::Float64).map_err(|e| Fault::Cast(e.to_string()))?
        }
        (Shape::Number, DataType::Time32(_)) => {
            cast(&to(DataType::Int32)?, &DataType::Float64).map_err(|e| Fault::Cast(e.to_string()))?
        }
        (Shape::Number, _) => to(DataType::Float64)?,
        (Shape::Boolean, _) => to(DataType::Boolean)?,
        (Shape::Text, _) => to(DataType::Utf8)?,
        // Microseconds hold every instant of the last and the next 290,000 years.
        (Shape::Instant, _) => to(DataType::Timestamp(TimeUnit::Microsecond, None))?,
    };
    match shape {
        Shape::Nothing => Ok(()),
        Shape::Number => {
            let values = array.as_primitive::<Float64Type>();
            let number = |x: f64| if x.is_nan() { Cell::Missing } else { Cell::Number(x) };
            each(values, |i| number(values.value(i)), visit)
        }
        Shape::Boolean => {
            let values = array.as_boolean();
            each(values, |i| Cell::Boolean(values.value(i)), visit)
        }
        Shape::Text => {
            let values = array.as_string::<i32>();
            each(values, |i| Cell::Text(values.value(i)), visit)
        }
        Shape::Instant => {
            let values = array.as_primitive::<TimestampMicrosecondType>();
            each(values, |i| Cell::Instant(values.value(i) as f64 / 1e6), visit)
        }
    }
}

fn each<'a>(
    array: &'a dyn Array,
    value: impl Fn(usize) -> Cell<'a>,
    visit: &mut dyn FnMut(usize, Cell<'_>) -> Result<(), TableError>,
) -> Result<(), Fault> {
    let cell = |i| if array.is_valid(i) { value(i) } else { Cell::Missing };
    (0..array.len()).try_for_each(|i| visit(i, cell(i))).map_err(Fault::Table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert!(matches!(Shape::of(&DataType::UInt8), Some(Shape::Number)));
        assert!(matches!(Shape::of(&DataType::Decimal128(9, 2)), Some(Shape::Number)));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        assert!(matches!(Shape::of(&dictionary), Some(Shape::Text)));
        assert!(Shape::of(&DataType::Binary).is_none());
    }
}
