//! Parquet, compressed with Snappy.

use std::{io::Write, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use super::{COLUMNS, Column, ExportError, Row};

/// Rows that are held before they are encoded.
const BATCH: usize = 8_192;

/// Rows a row group.
const GROUP: usize = 131_072;

pub(super) struct Table<W: Write + Send> {
    schema: SchemaRef,
    rows: Vec<Row>,
    writer: ArrowWriter<W>,
}

fn failed(e: impl ToString) -> ExportError {
    ExportError::Write(e.to_string())
}

impl<W: Write + Send> Table<W> {
    pub(super) fn start(out: W) -> Result<Self, ExportError> {
        let fields: Vec<Field> = COLUMNS
            .iter()
            .map(|c| match c {
                Column::Number(name, _) => Field::new(*name, DataType::Int64, true),
                Column::Text(name, _) => Field::new(*name, DataType::Utf8, true),
            })
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP))
            .build();
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(failed)?;
        Ok(Self { schema, rows: Vec::with_capacity(BATCH), writer })
    }

    pub(super) fn row(&mut self, row: Row) -> Result<(), ExportError> {
        self.rows.push(row);
        if self.rows.len() < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let columns = COLUMNS.iter().map(|c| match c {
            Column::Number(_, of) => Arc::new(Int64Array::from_iter(self.rows.iter().map(of))) as ArrayRef,
            Column::Text(_, of) => Arc::new(StringArray::from_iter(self.rows.iter().map(of))) as ArrayRef,
        });
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect()).map_err(failed)?;
        self.rows.clear();
        self.writer.write(&batch).map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.flush()?;
        self.writer.close().map(|_| ()).map_err(failed)
    }
}
