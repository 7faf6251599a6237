//! Readings to Parquet bytes and back.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::WriterProperties,
};

use crate::{LakeError, Reading, Result};

/// Version of the columns below; a manifest carries it.
pub const SCHEMA_VERSION: u32 = 1;

/// The columns of a readings object, all required, none nullable.
pub fn schema() -> SchemaRef {
    let column = |name: &str, kind| Field::new(name, kind, false);
    Arc::new(Schema::new(vec![
        column("machine_id", DataType::Utf8),
        column("line", DataType::Utf8),
        column("site", DataType::Utf8),
        column("boot_id", DataType::Utf8),
        column("seq", DataType::UInt64),
        column("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        column("temperature", DataType::Float64),
        column("load", DataType::Float64),
        column("vibration", DataType::Float64),
        column("power_watts", DataType::Float64),
        column("energy_millijoules_total", DataType::Int64),
        column("error_code", DataType::Int32),
        column("status", DataType::Int32),
        column("failed", DataType::Boolean),
    ]))
}

/// Encodes readings as one Parquet file; the same readings give the same bytes.
///
/// # Errors
/// [`LakeError::Encode`], a defect.
pub fn encode(readings: &[Reading]) -> Result<Bytes> {
    let defect = |e: &dyn std::fmt::Display| LakeError::Encode(e.to_string());
    let text = |f: fn(&Reading) -> &str| Arc::new(StringArray::from_iter_values(readings.iter().map(f))) as ArrayRef;
    let number = |f: fn(&Reading) -> f64| Arc::new(Float64Array::from_iter_values(readings.iter().map(f))) as ArrayRef;
    let small = |f: fn(&Reading) -> i32| Arc::new(Int32Array::from_iter_values(readings.iter().map(f))) as ArrayRef;
    let batch = RecordBatch::try_new(
        schema(),
        vec![
            text(|r| &r.machine_id),
            text(|r| &r.line),
            text(|r| &r.site),
            text(|r| &r.boot_id),
            Arc::new(UInt64Array::from_iter_values(readings.iter().map(|r| r.seq))),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(readings.iter().map(|r| r.ts_us)).with_timezone("UTC"),
            ),
            number(|r| r.temperature),
            number(|r| r.load),
            number(|r| r.vibration),
            number(|r| r.power_watts),
            Arc::new(Int64Array::from_iter_values(readings.iter().map(|r| r.energy_millijoules_total))),
            small(|r| r.error_code),
            small(|r| r.status),
            Arc::new(BooleanArray::from_iter(readings.iter().map(|r| Some(r.failed)))),
        ],
    )
    .map_err(|e| defect(&e))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties)).map_err(|e| defect(&e))?;
    writer.write(&batch).map_err(|e| defect(&e))?;
    Ok(writer.into_inner().map_err(|e| defect(&e))?.into())
}

/// A row as found; `Err` says why it cannot be a reading.
pub type Row = Result<Reading, String>;

/// Decodes a Parquet file, row by row. Columns that we do not know are ignored.
///
/// # Errors
/// What is wrong with the file as a whole: not Parquet, a column missing or of another type.
/// Values that are wrong in one row only (null) are told in that [`Row`].
pub fn decode(bytes: Bytes) -> Result<Vec<Row>, String> {
    // The parquet crate answers some damaged metadata with a panic (a negative column
    // length, for one). One bad object must not end the reader; nothing is shared with
    // the closure, so nothing can be left half-changed.
    std::panic::catch_unwind(|| decode_trusting(bytes))
        .unwrap_or_else(|_| Err("the file's metadata is damaged".to_owned()))
}

fn decode_trusting(bytes: Bytes) -> Result<Vec<Row>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| e.to_string())?;
    let found = builder.schema();
    for want in schema().fields() {
        let have = found.field_with_name(want.name()).map_err(|_| format!("column {} is missing", want.name()))?;
        if have.data_type() != want.data_type() {
            return Err(format!("column {} is {}, not {}", want.name(), have.data_type(), want.data_type()));
        }
    }
    let mut rows = Vec::new();
    let mut names = Names::default();
    for batch in builder.build().map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        let columns = Columns::of(&batch).ok_or("columns changed inside the file")?;
        rows.extend((0..batch.num_rows()).map(|i| columns.row(i, &mut names)));
    }
    Ok(rows)
}

/// Each name of a file once.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.0.insert(new.clone());
        new
    }
}

/// The columns of one batch, typed.
struct Columns<'a> {
    machine_id: &'a StringArray,
    line: &'a StringArray,
    site: &'a StringArray,
    boot_id: &'a StringArray,
    seq: &'a UInt64Array,
    ts: &'a TimestampMicrosecondArray,
    temperature: &'a Float64Array,
    load: &'a Float64Array,
    vibration: &'a Float64Array,
    power_watts: &'a Float64Array,
    energy: &'a Int64Array,
    error_code: &'a Int32Array,
    status: &'a Int32Array,
    failed: &'a BooleanArray,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
        let float = |name| batch.column_by_name(name)?.as_primitive_opt::<Float64Type>();
        let int = |name| batch.column_by_name(name)?.as_primitive_opt::<Int32Type>();
        Some(Self {
            machine_id: text("machine_id")?,
            line: text("line")?,
            site: text("site")?,
            boot_id: text("boot_id")?,
            seq: batch.column_by_name("seq")?.as_primitive_opt::<UInt64Type>()?,
            ts: batch.column_by_name("ts")?.as_primitive_opt::<TimestampMicrosecondType>()?,
            temperature: float("temperature")?,
            load: float("load")?,
            vibration: float("vibration")?,
            power_watts: float("power_watts")?,
            energy: batch.column_by_name("energy_millijoules_total")?.as_primitive_opt::<Int64Type>()?,
            error_code: int("error_code")?,
            status: int("status")?,
            failed: batch.column_by_name("failed")?.as_boolean_opt()?,
        })
    }

    fn row(&self, i: usize, names: &mut Names) -> Row {
        let nullable: [(&str, &dyn Array); 14] = [
            ("machine_id", self.machine_id),
            ("line", self.line),
            ("site", self.site),
            ("boot_id", self.boot_id),
            ("seq", self.seq),
            ("ts", self.ts),
            ("temperature", self.temperature),
            ("load", self.load),
            ("vibration", self.vibration),
            ("power_watts", self.power_watts),
            ("energy_millijoules_total", self.energy),
            ("error_code", self.error_code),
            ("status", self.status),
            ("failed", self.failed),
        ];
        if let Some((name, _)) = nullable.iter().find(|(_, column)| column.is_null(i)) {
            return Err(format!("{name} is null"));
        }
        Ok(Reading {
            machine_id: names.get(self.machine_id.value(i)),
            line: names.get(self.line.value(i)),
            site: names.get(self.site.value(i)),
            boot_id: names.get(self.boot_id.value(i)),
            seq: self.seq.value(i),
            ts_us: self.ts.value(i),
            temperature: self.temperature.value(i),
            load: self.load.value(i),
            vibration: self.vibration.value(i),
            power_watts: self.power_watts.value(i),
            energy_millijoules_total: self.energy.value(i),
            error_code: self.error_code.value(i),
            status: self.status.value(i),
            failed: self.failed.value(i),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reading::tests::reading;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_round_trip_changes_nothing(
            rows in proptest::collection::vec(
                (any::<u64>(), any::<i64>(), -50.0..200.0f64, 0.0..1.0f64, any::<i32>(), any::<bool>(), "[a-z0-9-]{1,12}"),
                0..50,
            )
        ) {
            let readings: Vec<Reading> = rows
                .into_iter()
                .map(|(seq, ts_us, temperature, load, error_code, failed, id)| Reading {
                    seq, ts_us, temperature, load, error_code, failed, ..reading(&id, 1)
                })
                .collect();
            let bytes = encode(&readings).unwrap();
            prop_assert_eq!(&bytes, &encode(&readings).unwrap());
            let back: Vec<Reading> = decode(bytes).unwrap().into_iter().map(|r| r.unwrap()).collect();
            prop_assert_eq!(back, readings);
        }

        #[test]
        fn any_damage_is_an_error_or_rows_but_never_a_panic(at in 0usize..2_000, value: u8, cut in 0usize..2_000) {
            let mut bytes = encode(&[reading("m", 1), reading("m", 2)]).unwrap().to_vec();
            let n = bytes.len();
            bytes[at % n] = value;
            let _ = decode(Bytes::from(bytes.clone()));
            bytes.truncate(cut % n);
            prop_assert!(decode(Bytes::from(bytes)).is_err());
        }
    }

    #[test]
    fn a_file_with_another_schema_is_told_by_column() {
        let write = |schema: Schema, columns: Vec<ArrayRef>| {
            let schema = Arc::new(schema);
            let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
            let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
            writer.write(&batch).unwrap();
            Bytes::from(writer.into_inner().unwrap())
        };
        let one = write(
            Schema::new(vec![Field::new("machine_id", DataType::Utf8, false)]),
            vec![Arc::new(StringArray::from(vec!["m"]))],
        );
        assert_eq!(decode(one).unwrap_err(), "column line is missing");
        let other = write(
            Schema::new(vec![Field::new("machine_id", DataType::Int32, false)]),
            vec![Arc::new(Int32Array::from(vec![1]))],
        );
        assert_eq!(decode(other).unwrap_err(), "column machine_id is Int32, not Utf8");
        assert!(decode(Bytes::from_static(b"not parquet")).is_err());
    }

    #[test]
    fn a_null_spoils_its_row_only() {
        let good = encode(&[reading("m", 1), reading("m", 2)]).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(good).unwrap().build().unwrap();
        let batch = reader.next().unwrap().unwrap();
        let fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let nullable = Arc::new(Schema::new(fields));
        let mut columns = batch.columns().to_vec();
        columns[6] = Arc::new(Float64Array::from(vec![Some(1.0), None]));
        let batch = RecordBatch::try_new(nullable.clone(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), nullable, None).unwrap();
        writer.write(&batch).unwrap();
        let rows = decode(writer.into_inner().unwrap().into()).unwrap();
        assert!(rows[0].is_ok());
        assert_eq!(rows[1].as_ref().unwrap_err(), "temperature is null");
    }
}
