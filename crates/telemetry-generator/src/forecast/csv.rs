//! A series from a file: columns by name, one reading a line, and errors that say where.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A longer line is no reading.
const MAX_LINE: u64 = 64 * 1024;

/// Which columns hold what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// RFC 3339 or seconds since 1970.
    pub time: String,
    /// Which machine.
    pub machine_id: String,
    /// °C.
    pub temperature: String,
    /// Share of the maximum load, or any unit that is 0 without load.
    pub load: Option<String>,
}

impl std::str::FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text.split(',').map(|n| n.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) {
            return Err("a column has no name".to_owned());
        }
        let mut names = names.into_iter();
        let four = (names.next(), names.next(), names.next(), names.next(), names.next());
        let (Some(time), Some(machine_id), Some(temperature), load, None) = four else {
            return Err("give three or four names: TIME,MACHINE,TEMPERATURE[,LOAD]".to_owned());
        };
        Ok(Self { time, machine_id, temperature, load })
    }
}

/// An instant as the file writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// RFC 3339.
    Text(String),
    /// Seconds since 1970.
    Seconds(f64),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Seconds(seconds) => seconds.fmt(f),
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Number of the line, from 1.
    pub line: u64,
    /// Seconds since 1970.
    pub seconds: f64,
    /// The same as written.
    pub time: Written,
    /// Which machine.
    pub machine_id: String,
    /// °C.
    pub temperature: f64,
    /// In the file's unit; `None` without such a column or in an empty field.
    pub load: Option<f64>,
}

/// What is wrong, and where.
#[derive(Debug)]
pub struct BadInput {
    file: String,
    line: Option<u64>,
    column: Option<String>,
    reason: String,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ", column {column:?}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for BadInput {}

/// The rows of a file.
#[derive(Debug)]
pub struct Rows<R> {
    file: String,
    reader: R,
    columns: Columns,
    places: [usize; 3],
    load_place: Option<usize>,
    line: u64,
    text: Vec<u8>,
}

impl Rows<BufReader<File>> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or lacks a column. `columns` as given, or the usual
    /// names with a load if there is one.
    pub fn open(path: &Path, columns: Option<&Columns>) -> Result<Self, BadInput> {
        let name = path.display().to_string();
        let fail = |error: io::Error| BadInput {
            file: name.clone(),
            line: None,
            column: None,
            reason: format!("cannot be read: {error}"),
        };
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(fail(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        Self::new(&name, BufReader::with_capacity(1 << 18, file), columns)
    }
}

impl<R: BufRead> Rows<R> {
    /// As [`Rows::open`], from anything that can be read; errors call it `name`.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn new(name: &str, reader: R, columns: Option<&Columns>) -> Result<Self, BadInput> {
        let usual = |load: bool| Columns {
            time: "time".to_owned(),
            machine_id: "machine_id".to_owned(),
            temperature: "temperature".to_owned(),
            load: load.then(|| "load".to_owned()),
        };
        let mut rows = Self {
            file: name.to_owned(),
            reader,
            columns: usual(false),
            places: [0; 3],
            load_place: None,
            line: 0,
            text: Vec::new(),
        };
        if !rows.next_line()? {
            return Err(rows.at(None, "is empty; a header with the columns' names was expected"));
        }
        if rows.text.starts_with(b"\xEF\xBB\xBF") {
            rows.text.drain(..3);
        }
        let header: Vec<String> = rows.fields()?.iter().map(|name| name.trim().to_owned()).collect();
        rows.columns = columns.cloned().unwrap_or_else(|| usual(header.iter().any(|h| h == "load")));
        let place = |wanted: &String| {
            let mut found = header.iter().enumerate().filter(|(_, h)| *h == wanted).map(|(i, _)| i);
            match (found.next(), found.next()) {
                (Some(place), None) => Ok(place),
                (Some(_), Some(_)) => Err(rows.at(Some(wanted), "is there twice")),
                (None, _) => Err(rows.at(Some(wanted), &format!("is missing; there are: {}", header.join(", ")))),
            }
        };
        let Columns { time, machine_id, temperature, load } = &rows.columns;
        let places = [place(time)?, place(machine_id)?, place(temperature)?];
        let load_place = load.as_ref().map(place).transpose()?;
        (rows.places, rows.load_place) = (places, load_place);
        Ok(rows)
    }

    /// Is there a load?
    pub fn has_load(&self) -> bool {
        self.load_place.is_some()
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// The first thing on the line that makes no sense.
    pub fn next_row(&mut self) -> Result<Option<Row>, BadInput> {
        loop {
            if !self.next_line()? {
                return Ok(None);
            }
            if !self.text.trim_ascii().is_empty() {
                break;
            }
        }
        let fields = self.fields()?;
        let field = |place: usize, column: &str| match fields.get(place).map(|f| f.trim()) {
            None => Err(self.at(Some(column), &format!("is missing: the line has {} fields", fields.len()))),
            Some(text) => Ok(text),
        };
        let filled = |place: usize, column: &str| match field(place, column)? {
            "" => Err(self.at(Some(column), "is empty")),
            text => Ok(text),
        };
        let Columns { time, machine_id, temperature, load } = &self.columns;
        let (seconds, written) = instant(filled(self.places[0], time)?).map_err(|e| self.at(Some(time), &e))?;
        let machine = filled(self.places[1], machine_id)?;
        if machine.len() > 256 {
            return Err(self.at(Some(machine_id), "is longer than 256 bytes"));
        }
        let celsius = number(filled(self.places[2], temperature)?).map_err(|e| self.at(Some(temperature), &e))?;
        let load = match (self.load_place, load) {
            (Some(place), Some(name)) => match field(place, name)? {
                "" => None,
                text => Some(
                    number(text)
                        .and_then(|n| if n < 0.0 { Err(format!("{text:?} is negative")) } else { Ok(n) })
                        .map_err(|e| self.at(Some(name), &e))?,
                ),
            },
            _ => None,
        };
        Ok(Some(Row {
            line: self.line,
            seconds,
            time: written,
            machine_id: machine.to_owned(),
            temperature: celsius,
            load,
        }))
    }

    /// An error on the present line.
    pub fn at(&self, column: Option<&str>, reason: &str) -> BadInput {
        let line = (self.line > 0).then_some(self.line);
        BadInput { file: self.file.clone(), line, column: column.map(str::to_owned), reason: reason.to_owned() }
    }

    /// An error in the column of the time.
    pub fn at_time(&self, reason: &str) -> BadInput {
        self.at(Some(&self.columns.time), reason)
    }

    fn next_line(&mut self) -> Result<bool, BadInput> {
        self.text.clear();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.text);
        let read =
            read.map_err(|error| BadInput { line: None, ..self.at(None, &format!("cannot be read: {error}")) })?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        if read as u64 == MAX_LINE && self.text.last() != Some(&b'\n') {
            return Err(self.at(None, &format!("is longer than {MAX_LINE} bytes")));
        }
        while matches!(self.text.last(), Some(b'\n' | b'\r')) {
            self.text.pop();
        }
        Ok(true)
    }

    /// RFC 4180, except that a field ends on its line.
    fn fields(&self) -> Result<Vec<String>, BadInput> {
        let text = std::str::from_utf8(&self.text).map_err(|_| self.at(None, "is not UTF-8"))?;
        let mut fields = Vec::with_capacity(8);
        let mut rest = text;
        loop {
            let Some(quoted) = rest.strip_prefix('"') else {
                let (field, more) = rest.split_once(',').map_or((rest, None), |(f, m)| (f, Some(m)));
                fields.push(field.to_owned());
                match more {
                    Some(more) => rest = more,
                    None => return Ok(fields),
                }
                continue;
            };
            let mut field = String::new();
            let mut inside = quoted;
            let after = loop {
                let Some((part, more)) = inside.split_once('"') else {
                    return Err(self.at(None, "a quoted field does not end"));
                };
                field.push_str(part);
                match more.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        inside = more;
                    }
                    None => break more,
                }
            };
            fields.push(field);
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(fields),
                None => return Err(self.at(None, "something follows a closing quote")),
            }
        }
    }
}

fn number(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if !value.is_finite() {
        return Err(format!("{text:?} is no finite number"));
    }
    if value.abs() > 1e9 {
        return Err(format!("{text:?} is beyond any machine"));
    }
    Ok(value)
}

fn instant(text: &str) -> Result<(f64, Written), String> {
    if let Ok(seconds) = text.parse::<f64>() {
        if !seconds.is_finite() {
            return Err(format!("{text:?} is no finite number"));
        }
        // The year 5138: milliseconds, rather.
        if seconds.abs() >= 1e11 {
            return Err(format!("{text:?} is too large for seconds since 1970"));
        }
        return Ok((seconds, Written::Seconds(seconds)));
    }
    // RFC 3339 allows a space where others want the T.
    let joined: String = text.char_indices().map(|(i, c)| if i == 10 && c == ' ' { 'T' } else { c }).collect();
    let parsed = OffsetDateTime::parse(&joined, &Rfc3339)
        .map_err(|_| format!("{text:?} is neither RFC 3339 with its offset nor seconds since 1970"))?;
    Ok((parsed.unix_timestamp_nanos() as f64 / 1e9, Written::Text(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8], columns: Option<&str>) -> Result<Vec<Row>, String> {
        let columns = columns.map(|c| c.parse().unwrap());
        let mut rows = Rows::new("f.csv", text, columns.as_ref()).map_err(|e| e.to_string())?;
        std::iter::from_fn(|| rows.next_row().map_err(|e| e.to_string()).transpose()).collect()
    }

    fn error(text: &str) -> String {
        read(text.as_bytes(), None).unwrap_err()
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let text = "\u{feff}x, Temp,\"when\",asset,kW\r\n1,50.5,2026-01-01T00:00:00Z,\"press \"\"A\"\", left\",7\r\n\n\
            2,51,2026-01-01 00:00:10.5+01:00,b,\n";
        let rows = read(text.as_bytes(), Some("when, asset,Temp,kW")).unwrap();
        assert_eq!((rows[0].seconds, rows[0].temperature, rows[0].load), (1_767_225_600.0, 50.5, Some(7.0)));
        assert_eq!(rows[0].machine_id, "press \"A\", left");
        assert_eq!((rows[1].seconds, rows[1].load, rows[1].line), (1_767_222_010.5, None, 4));
        let rows = read(b"time,machine_id,temperature\n10.5,m,50", None).unwrap();
        assert_eq!((rows[0].seconds, rows[0].time.to_string()), (10.5, "10.5".to_owned()));
    }

    #[test]
    fn each_error_names_file_line_and_column() {
        let head = "time,machine_id,temperature,load\n";
        for (text, expected) in [
            (String::new(), "f.csv: is empty; a header with the columns' names was expected"),
            (
                "time,temperature\n".to_owned(),
                "f.csv, line 1, column \"machine_id\": is missing; there are: time, temperature",
            ),
            ("time,time,machine_id,temperature\n".to_owned(), "f.csv, line 1, column \"time\": is there twice"),
            (format!("{head}1,a,hot,0.5\n"), "f.csv, line 2, column \"temperature\": \"hot\" is no number"),
            (
                format!("{head}1,a,50,0.5\n2,a,NaN,1\n"),
                "f.csv, line 3, column \"temperature\": \"NaN\" is no finite number",
            ),
            (format!("{head}1,a,,0.5\n"), "f.csv, line 2, column \"temperature\": is empty"),
            (format!("{head}1,a,50,-1\n"), "f.csv, line 2, column \"load\": \"-1\" is negative"),
            (format!("{head}1,a,50,x\n"), "f.csv, line 2, column \"load\": \"x\" is no number"),
            (format!("{head}1,a\n"), "f.csv, line 2, column \"temperature\": is missing: the line has 2 fields"),
            (format!("{head}1,,50,1\n"), "f.csv, line 2, column \"machine_id\": is empty"),
            (
                format!("{head}yesterday,a,50,1\n"),
                "f.csv, line 2, column \"time\": \"yesterday\" is neither RFC 3339 with its offset nor seconds since 1970",
            ),
            (
                format!("{head}1767225600000,a,50,1\n"),
                "f.csv, line 2, column \"time\": \"1767225600000\" is too large for seconds since 1970",
            ),
            (format!("{head}\"1,a,50,1\n"), "f.csv, line 2: a quoted field does not end"),
            (format!("{head}\"1\"2,a,50,1\n"), "f.csv, line 2: something follows a closing quote"),
            (format!("{head}{}", "x".repeat(70_000)), "f.csv, line 2: is longer than 65536 bytes"),
        ] {
            assert_eq!(error(&text), expected);
        }
        assert_eq!(read(b"time,machine_id,temperature\n1,\xff,3\n", None).unwrap_err(), "f.csv, line 2: is not UTF-8");
        assert!(Rows::open(Path::new("/nonexistent.csv"), None).unwrap_err().to_string().contains("cannot be read"));
        assert!(Rows::open(Path::new("/"), None).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn three_or_four_columns() {
        assert!("a,b".parse::<Columns>().is_err() && "a,b,,c".parse::<Columns>().is_err());
        assert!("a,b,c,d,e".parse::<Columns>().is_err());
        assert_eq!("a,b,c".parse::<Columns>().unwrap().load, None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_row_or_an_error(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let with_head = [b"time,machine_id,temperature,load\n", text.as_slice()].concat();
            let _ = read(&text, None);
            let _ = read(&with_head, None);
        }

        #[test]
        fn what_is_written_is_read(cells in proptest::collection::vec("[a-z,\" ]{0,8}", 1..6)) {
            let quoted: Vec<_> = cells.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
            let line = quoted.join(",");
            let mut rows = Rows::new("f", b"time,machine_id,temperature".as_slice(), None).unwrap();
            rows.text = line.into_bytes();
            prop_assert_eq!(rows.fields().unwrap(), cells);
        }
    }
}
