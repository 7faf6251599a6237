//! Tables that fit: aligned columns where they fit the width, blocks of lines where they do not.

use console::{measure_text_width, truncate_str};

/// Columns the terminal has; `COLUMNS`, then the terminal, then 80 in a log file.
pub fn width() -> usize {
    let named = std::env::var("COLUMNS").ok().and_then(|v| v.parse().ok());
    named.unwrap_or_else(|| console::Term::stdout().size_checked().map_or(80, |(_, columns)| columns.into())).max(40)
}

/// A table of short texts; cells may carry colour.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds one row; missing cells are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.header.len(), String::new());
        self.rows.push(cells);
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table for a terminal of `width` columns.
    pub fn render(&self, width: usize) -> String {
        self.render_columns(width).unwrap_or_else(|| self.blocks(width))
    }

    /// The table with aligned columns, if they fit.
    pub fn render_columns(&self, width: usize) -> Option<String> {
        let widths: Vec<usize> = (0..self.header.len())
            .map(|i| {
                let cells = self.rows.iter().map(|row| measure_text_width(&row[i]));
                cells.chain([measure_text_width(&self.header[i])]).max().unwrap_or(0)
            })
            .collect();
        let needed = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        (needed <= width).then(|| self.columns(&widths))
    }

    fn columns(&self, widths: &[usize]) -> String {
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width - measure_text_width(cell) + 2));
            }
            format!("{}\n", line.trim_end())
        };
        std::iter::once(&self.header).chain(&self.rows).map(|cells| line(cells)).collect()
    }

    // The first cell names the row; the others follow with their column's name, several on a line
    // while they fit.
    fn blocks(&self, width: usize) -> String {
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&truncate_str(&row[0], width, "…"));
            text.push('\n');
            let mut line = String::new();
            for (name, cell) in self.header.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
                let part = format!("{} {cell}", name.to_lowercase());
                if !line.is_empty() && measure_text_width(&line) + measure_text_width(&part) + 5 > width {
                    text.push_str(&format!("{line}\n"));
                    line.clear();
                }
                line.push_str(if line.is_empty() { "  " } else { " · " });
                line.push_str(&part);
            }
            if !line.is_empty() {
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }
}

/// Breaks text at spaces; later lines start with `indent` spaces.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let used = measure_text_width(&lines[last]);
        if used > indent.min(last * indent) && used + 1 + measure_text_width(word) > width {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            if !lines[last].trim().is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}

/// `850ms`, `12s`, `3m 05s`, `1h 02m`.
pub fn duration(d: std::time::Duration) -> String {
    let seconds = d.as_secs();
    match seconds {
        0 => format!("{}ms", d.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["SERVICE", "STATE", "HEALTH", "UP", "URL"]);
        table.row(["transaction-api", "running", "healthy", "3m 05s", "http://127.0.0.1:8000"]);
        table.row(["prometheus", "running", "starting", "12s", "http://127.0.0.1:9090"]);
        table.row(["secrets", "exited", "", "", ""]);
        table
    }

    #[test]
    fn wide_is_columns() {
        insta::assert_snapshot!(sample().render(100));
    }

    #[test]
    fn narrow_is_blocks_that_fit() {
        let text = sample().render(44);
        assert!(text.lines().all(|line| measure_text_width(line) <= 44), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn wraps_at_words() {
        insta::assert_snapshot!(wrap(
            "grafana is left out: there is no package of it and no registry can be reached",
            40,
            2
        ));
    }

    #[test]
    fn durations_read_well() {
        let shown = [20, 1_500, 61_000, 600_000, 3_720_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["20ms", "1s", "1m 01s", "10m 00s", "1h 02m"]);
    }
}
