//! CSV as RFC 4180 has it: a header, one record a row, quotes where a field needs them.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use super::{Cell, Format, Place, Sink, TableError, cell::is_missing, name_columns, progress::Progress};

const BUFFER: usize = 1 << 18;
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

pub fn read(file: &Path, format: &Format, sink: &mut dyn Sink) -> Result<u64, TableError> {
    let fault = |reason: String| TableError::file(file, reason);
    let opened = File::open(file).map_err(|e| fault(e.to_string()))?;
    let length = opened.metadata().map_or(0, |m| m.len());
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut input = BufReader::with_capacity(BUFFER, Progress::new(opened, length, &name));
    let start = input.fill_buf().map_err(|e| fault(e.to_string()))?;
    if start.is_empty() {
        return Err(fault("is empty: a header line is needed".into()));
    }
    let delimiter = format.delimiter.unwrap_or_else(|| guess_delimiter(start));
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).buffer_capacity(BUFFER).from_reader(input);
    let header = reader.byte_headers().map_err(|e| fault(e.to_string()))?.clone();
    let names = header
        .iter()
        .map(|name| String::from_utf8(name.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| fault("the header is not UTF-8".into()))?;
    let names = name_columns(file, names.into_iter())?;
    sink.columns(&names).map_err(fault)?;
    let mut record = csv::ByteRecord::new();
    let mut rows = 0;
    loop {
        let more = reader.read_byte_record(&mut record).map_err(|e| TableError::file(file, e))?;
        if !more {
            return Ok(rows);
        }
        rows += 1;
        let place = Place { row: rows, line: record.position().map(csv::Position::line) };
        if record.len() != names.len() {
            let reason = format!("has {} fields, the header has {}", record.len(), names.len());
            return Err(TableError::Row { file: file.to_owned(), place, reason });
        }
        for (column, bytes) in record.iter().enumerate() {
            let at = |reason: String| TableError::Cell {
                file: file.to_owned(),
                column: names[column].clone(),
                place,
                reason,
            };
            let text = std::str::from_utf8(bytes).map_err(|_| at("is not UTF-8".into()))?;
            let cell = if is_missing(text) { Cell::Missing } else { Cell::Raw(text) };
            sink.cell(column, place, cell).map_err(at)?;
        }
    }
}

/// The delimiter that the first line has most of, outside quotes.
fn guess_delimiter(start: &[u8]) -> u8 {
    let mut counts = [0usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in start {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'\n' => break,
            byte => {
                if let Some(i) = DELIMITERS.iter().position(|d| d == byte) {
                    counts[i] += 1;
                }
            }
        }
    }
    // The first of equals: a comma, where there is no delimiter at all.
    (0..DELIMITERS.len()).rev().max_by_key(|i| counts[*i]).map_or(b',', |i| DELIMITERS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_guessed_from_the_header() {
        for (header, expected) in [
            ("a,b,c\n1;2;3;4;5", b','),
            ("a;b\n", b';'),
            ("a\tb", b'\t'),
            ("single", b','),
            ("\"x;y;z\",b\n", b','),
            ("a|b|c", b'|'),
        ] {
            assert_eq!(guess_delimiter(header.as_bytes()), expected, "{header}");
        }
    }
}
