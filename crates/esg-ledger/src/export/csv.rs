//! CSV by RFC 4180.

use std::{borrow::Cow, io::Write};

use super::{COLUMNS, Column, ExportError, Row};

pub(super) struct Table<W: Write> {
    out: std::io::BufWriter<W>,
}

fn failed(e: std::io::Error) -> ExportError {
    ExportError::Write(e.to_string())
}

/// A value as it stands in CSV.
///
/// A spreadsheet would take text that begins with `=`, `+`, `-` or `@` for a formula; a quote
/// in front keeps it text. Numbers do not come this way.
pub fn field(text: &str) -> Cow<'_, str> {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !text.contains([',', '"', '\n', '\r']) {
        return Cow::Borrowed(text);
    }
    let guard = if formula { "'" } else { "" };
    Cow::Owned(format!("\"{guard}{}\"", text.replace('"', "\"\"")))
}

impl<W: Write> Table<W> {
    pub(super) fn start(out: W) -> Result<Self, ExportError> {
        let mut out = std::io::BufWriter::new(out);
        let names: Vec<&str> = COLUMNS
            .iter()
            .map(|c| match c {
                Column::Number(n, _) | Column::Text(n, _) => *n,
            })
            .collect();
        writeln!(out, "{}", names.join(",")).map_err(failed)?;
        Ok(Self { out })
    }

    pub(super) fn row(&mut self, row: &Row) -> Result<(), ExportError> {
        let mut write = || {
            for (i, column) in COLUMNS.iter().enumerate() {
                if i > 0 {
                    self.out.write_all(b",")?;
                }
                match column {
                    Column::Number(_, of) => of(row).map_or(Ok(()), |n| write!(self.out, "{n}"))?,
                    Column::Text(_, of) => of(row).map_or(Ok(()), |t| self.out.write_all(field(t).as_bytes()))?,
                }
            }
            self.out.write_all(b"\n")
        };
        write().map_err(failed)
    }

    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.out.flush().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_where_it_must_be_and_never_a_formula() {
        assert_eq!(field("plain"), "plain");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(field("=1+1"), "\"'=1+1\"");
    }
}
