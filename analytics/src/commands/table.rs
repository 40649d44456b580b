//! A table of results and its output formats: aligned text, CSV (RFC 4180), JSON and Parquet.

use std::io::IsTerminal as _;

pub use mailqos_figures::explain::words::{long, moment, per_cent, seconds};
use mailqos_figures::{explain::words::usual_decimals, rounding::decimals_apart};
use polars::prelude::{Column, DataFrame, NamedFrom as _, ParquetWriter, Series};

use super::{Failure, print};

/// Output format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for reading; the layout may change.
    Table,
    /// JSON array of objects.
    Json,
    /// Comma-separated values with a header; null is empty.
    Csv,
    /// Parquet file on standard output.
    Parquet,
}

/// A value of a cell.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Cell {
    /// Unknown or missing: null, an empty field, a dash.
    None,
    /// A text.
    Text(String),
    /// A count.
    Count(u64),
    /// A number, and the number of decimals in a table.
    Number(f64, usize),
    /// A share in [0, 1], displayed as a percentage with as many decimals as its number of tests
    /// supports, and at least the given number.
    Share(f64, u64, usize),
    /// A boolean.
    Flag(bool),
}

impl Cell {
    /// Creates a text, or a missing value.
    pub fn text(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::None, |text| Self::Text(text.into()))
    }

    /// Creates a number, or a missing value.
    pub fn number(value: Option<f64>, decimals: usize) -> Self {
        value
            .filter(|value| value.is_finite())
            .map_or(Self::None, |value| Self::Number(value, decimals))
    }

    /// Creates a share of a number of tests, or a missing value.
    pub fn share(value: Option<f64>, of: u64) -> Self {
        value.map_or(Self::None, |value| Self::Share(value, of, 0))
    }

    /// Like [`Cell::share`], with enough decimals to show on which side of each promise it is.
    pub fn share_beside(value: Option<f64>, of: u64, promises: &[f64]) -> Self {
        value.map_or(Self::None, |value| {
            let usual = usual_decimals(of);
            let goals =
                promises.iter().map(|goal| decimals_apart(value * 100.0, goal * 100.0, usual));
            Self::Share(value, of, goals.max().filter(|decimals| *decimals > usual).unwrap_or(0))
        })
    }

    fn shown(&self) -> String {
        match self {
            Self::None => "–".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Number(value, decimals) => format!("{value:.decimals$}"),
            Self::Share(value, of, 0) => per_cent(*value, *of),
            Self::Share(value, _, decimals) => format!("{:.decimals$} %", value * 100.0),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        }
    }

    /// Appends the cell as a CSV field, quoted if necessary.
    pub fn write_csv(&self, line: &mut String) {
        use std::fmt::Write as _;
        // Writing to a `String` can't fail.
        let _ = match self {
            Self::None => Ok(()),
            Self::Text(text) if text.contains([',', '"', '\n', '\r']) => {
                write!(line, "\"{}\"", text.replace('"', "\"\""))
            }
            Self::Text(text) => line.write_str(text),
            Self::Count(count) => write!(line, "{count}"),
            Self::Number(value, _) | Self::Share(value, ..) => {
                line.write_str(zmij::Buffer::new().format(*value))
            }
            Self::Flag(flag) => write!(line, "{flag}"),
        };
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::None => serde_json::Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Count(count) => (*count).into(),
            Self::Number(value, _) | Self::Share(value, ..) => (*value).into(),
            Self::Flag(flag) => (*flag).into(),
        }
    }

    fn is_left(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Flag(_))
    }
}

/// Formats a share next to its objective, with enough decimals to show whether it was met.
pub fn per_cent_beside(value: f64, goal: f64, of: u64) -> String {
    let usual = usual_decimals(of);
    let decimals = decimals_apart(value * 100.0, goal * 100.0, usual);
    if decimals > usual { format!("{:.decimals$} %", value * 100.0) } else { per_cent(value, of) }
}

/// Formats a count with its noun: `1 file`, `2 files`. All nouns used here take an s.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Rows under named columns.
#[derive(Debug, Clone, Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Creates a table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row with one cell per column.
    pub fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a cell a column");
        self.rows.push(row);
    }

    /// Adds a column with the same cell in every row.
    pub fn add_column(&mut self, name: &str, cell: &Cell) {
        self.columns.push(name.to_owned());
        for row in &mut self.rows {
            row.push(cell.clone());
        }
    }

    /// Writes the table to standard output.
    ///
    /// # Errors
    /// The table can't be written.
    pub fn print(&self, format: Format) -> Result<(), Failure> {
        print(self.bytes(format)?)
    }

    /// Returns the output of [`Table::print`].
    ///
    /// # Errors
    /// The format can't represent the table.
    pub fn bytes(&self, format: Format) -> Result<Vec<u8>, Failure> {
        Ok(match format {
            Format::Table => self.text().into_bytes(),
            Format::Csv => self.csv().into_bytes(),
            Format::Json => self.json()?.into_bytes(),
            Format::Parquet => self.parquet()?,
        })
    }

    fn text(&self) -> String {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::shown).collect()).collect();
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let cells = shown.iter().map(|row| width(&row[i])).max().unwrap_or(0);
                cells.max(width(&self.columns[i]))
            })
            .collect();
        // Text columns are aligned left and number columns right; dashes follow their column.
        let left: Vec<bool> = (0..self.columns.len())
            .map(|i| {
                let mut cells =
                    self.rows.iter().map(|row| &row[i]).filter(|cell| **cell != Cell::None);
                cells.next().is_some_and(Cell::is_left)
            })
            .collect();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for (i, cell) in cells.iter().enumerate() {
                let fill = " ".repeat(widths[i].saturating_sub(width(cell)));
                if left[i] {
                    line.push_str(cell);
                    line.push_str(&fill);
                } else {
                    line.push_str(&fill);
                    line.push_str(cell);
                }
                line.push_str("  ");
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            line
        };
        let head =
            line(&self.columns.iter().map(|column| column.replace('_', " ")).collect::<Vec<_>>());
        let mut text = if std::io::stdout().is_terminal() {
            format!("\u{1b}[1m{}\u{1b}[0m\n", head.trim_end())
        } else {
            head
        };
        for row in &shown {
            text.push_str(&line(row));
        }
        text
    }

    fn csv(&self) -> String {
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            csv_line(row, &mut text);
        }
        text
    }

    fn json(&self) -> Result<String, Failure> {
        let rows: Vec<serde_json::Value> = self
            .rows
            .iter()
            .map(|row| {
                let object: serde_json::Map<String, serde_json::Value> =
                    self.columns.iter().cloned().zip(row.iter().map(Cell::json)).collect();
                object.into()
            })
            .collect();
        json(&rows)
    }

    fn parquet(&self) -> Result<Vec<u8>, Failure> {
        let columns: Vec<Column> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let cells = || self.rows.iter().map(|row| &row[i]);
                let series = match cells().find(|cell| **cell != Cell::None) {
                    Some(Cell::Count(_)) => Series::new(
                        name.into(),
                        cells()
                            .map(|cell| {
                                if let Cell::Count(count) = cell {
                                    i64::try_from(*count).ok()
                                } else {
                                    None
                                }
                            })
                            .collect::<Vec<_>>(),
                    ),
                    Some(Cell::Number(..) | Cell::Share(..)) => Series::new(
                        name.into(),
                        cells()
                            .map(|cell| match cell {
                                Cell::Number(value, _) | Cell::Share(value, ..) => Some(*value),
                                _ => None,
                            })
                            .collect::<Vec<_>>(),
                    ),
                    Some(Cell::Flag(_)) => Series::new(
                        name.into(),
                        cells()
                            .map(
                                |cell| {
                                    if let Cell::Flag(flag) = cell { Some(*flag) } else { None }
                                },
                            )
                            .collect::<Vec<_>>(),
                    ),
                    _ => Series::new(
                        name.into(),
                        cells()
                            .map(|cell| {
                                if let Cell::Text(text) = cell { Some(text.clone()) } else { None }
                            })
                            .collect::<Vec<_>>(),
                    ),
                };
                Column::from(series)
            })
            .collect();
        let mut bytes = Vec::new();
        DataFrame::new_infer_height(columns)
            .and_then(|mut frame| ParquetWriter::new(&mut bytes).finish(&mut frame))
            .map_err(|error| Failure::work(format!("can't write Parquet: {error}")))?;
        Ok(bytes)
    }
}

/// Appends a line of CSV.
pub fn csv_line(cells: &[Cell], text: &mut String) {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        cell.write_csv(text);
    }
    text.push('\n');
}

/// Formats an array with one element per line, so that it is readable and easy to compare.
pub fn json<T: serde::Serialize>(rows: &[T]) -> Result<String, Failure> {
    let mut text = String::from("[");
    for (index, row) in rows.iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(
            &serde_json::to_string(row)
                .map_err(|error| Failure::work(format!("can't write JSON: {error}")))?,
        );
    }
    text.push_str(if rows.is_empty() { "]\n" } else { "\n]\n" });
    Ok(text)
}

#[cfg(test)]
mod tests {
    use mailqos_model::Micros;

    use super::*;

    #[test]
    fn nearly_all_is_never_shown_as_100_percent() {
        assert_eq!(per_cent(1.0, 100), "100.0 %");
        assert_eq!(per_cent(0.99996, 100), "99.996 %");
        assert_eq!(per_cent(0.00001, 100), "0.001 %");
        assert_eq!(per_cent(0.0, 100), "0.0 %");
        assert_eq!(per_cent(0.998877, 40_000), "99.89 %");
        assert_eq!(per_cent(0.999_999_999_9, 105_000), "over 99.999 %");
        assert_eq!(per_cent(0.000_000_000_1, 105_000), "under 0.001 %");
    }

    #[test]
    fn one_monitor_is_not_several() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "file")), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn long_durations_use_two_units() {
        assert_eq!(long(Micros::from_secs(93_784)), "1 d 2 h");
        assert_eq!(long(Micros::from_secs(59)), "59 s");
        assert_eq!(long(Micros::ZERO), "0");
    }

    #[test]
    fn csv_fields_are_quoted_if_necessary() {
        let mut table = Table::new(["a", "b"]);
        table.push(vec![Cell::Text("x,\"y\"".into()), Cell::None]);
        assert_eq!(table.csv(), "a,b\n\"x,\"\"y\"\"\",\n");
    }
}
