//! Drawn values as a table, stored compactly: the charts of a thousand monitors have two million
//! cells.

use mailqos_model::UtcMicros;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{Datum, locale::DASH};

/// Drawn values as a table.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Column headers.
    pub heads: Vec<String>,
    /// Texts of all cells, concatenated.
    text: Box<str>,
    cells: Box<[Cell]>,
    /// End of each row, as an index of cells.
    rows: Box<[u32]>,
    /// The few times among the cells, by index of the cell.
    moments: Box<[(u32, UtcMicros)]>,
    /// Distinct units.
    units: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    /// Exact value; NaN if there is none.
    value: f64,
    /// End of its text.
    end: u32,
    unit: u8,
}

/// A cell of the table: the displayed text and the exact value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure<'a> {
    /// Displayed text; a dash for a missing value.
    pub text: &'a str,
    /// Exact value in its unit.
    pub value: Option<f64>,
    /// Unit of the exact value: `s`, `%`, or empty for a count.
    pub unit: &'static str,
    /// Time, if the cell is one.
    pub moment: Option<UtcMicros>,
}

impl Data {
    /// Creates a table from its headers and rows.
    pub fn new(heads: Vec<String>, rows: Vec<Vec<Datum>>) -> Self {
        let small = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let mut units = Vec::new();
        let (mut text, mut cells, mut ends, mut moments) =
            (String::new(), Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            for datum in row {
                text.push_str(&datum.text);
                moments.extend(datum.moment.map(|moment| (small(cells.len()), moment)));
                let unit = units.iter().position(|unit| *unit == datum.unit).unwrap_or(units.len());
                if unit == units.len() {
                    units.push(datum.unit);
                }
                cells.push(Cell {
                    value: datum.value.unwrap_or(f64::NAN),
                    end: small(text.len()),
                    unit: u8::try_from(unit).unwrap_or(u8::MAX),
                });
            }
            ends.push(small(cells.len()));
        }
        Self {
            heads,
            text: text.into(),
            cells: cells.into(),
            rows: ends.into(),
            moments: moments.into(),
            units,
        }
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Iterates over the rows.
    pub fn rows(&self) -> impl Iterator<Item = Vec<Figure<'_>>> {
        let mut begin = 0;
        self.rows.iter().map(move |end| {
            let cells = begin..*end as usize;
            begin = *end as usize;
            cells.filter_map(|cell| self.cell(cell)).collect()
        })
    }

    /// Formats the table as text: a line for the headers and one for each row, with columns
    /// separated by tabs. A unit that all cells of a column share, or the year of all its dates,
    /// moves to the header.
    pub fn lines(&self) -> Lines {
        let rows: Vec<Vec<Figure<'_>>> = self.rows().collect();
        let units: Vec<&str> = (0..self.heads.len())
            .map(|column| {
                common_unit(rows.iter().filter_map(|row| row.get(column))).unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        for (column, (head, unit)) in self.heads.iter().zip(&units).enumerate() {
            let tab = if column > 0 { "\t" } else { "" };
            text.push_str(tab);
            text.push_str(head);
            if !unit.is_empty() {
                text.push_str(&format!(" ({unit})"));
            }
        }
        for row in &rows {
            text.push('\n');
            for (column, figure) in row.iter().enumerate() {
                text.push_str(if column > 0 { "\t" } else { "" });
                let is_common = units.get(column).is_some_and(|unit| !unit.is_empty());
                let split = is_common.then(|| figure.text.rsplit_once(SPACES)).flatten();
                text.push_str(split.map_or(figure.text, |(number, _)| number));
            }
        }
        Lines { text, units: units.join("|") }
    }

    fn cell(&self, index: usize) -> Option<Figure<'_>> {
        let cell = self.cells.get(index)?;
        let begin = index.checked_sub(1).and_then(|before| self.cells.get(before));
        let moment = self.moments.binary_search_by_key(&index, |(cell, _)| *cell as usize);
        Some(Figure {
            text: self
                .text
                .get(begin.map_or(0, |before| before.end as usize)..cell.end as usize)?,
            value: Some(cell.value).filter(|value| !value.is_nan()),
            unit: self.units.get(usize::from(cell.unit)).copied().unwrap_or_default(),
            moment: moment.ok().and_then(|found| Some(self.moments.get(found)?.1)),
        })
    }
}

/// A table as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Lines of the text.
    pub text: String,
    /// Unit or year in brackets in each header, separated by `|`; empty if the cells are complete.
    pub units: String,
}

/// Characters that may separate a number from its unit.
const SPACES: [char; 3] = [' ', '\u{a0}', '\u{202f}'];

/// Returns the common ending of all numbers or dates of a column; cells without a value don't
/// matter.
fn common_unit<'a>(figures: impl Iterator<Item = &'a Figure<'a>>) -> Option<&'a str> {
    let mut common = None;
    for figure in figures.filter(|figure| figure.text != DASH) {
        if figure.value.is_none() && figure.moment.is_none() {
            return None;
        }
        let (number, unit) = figure.text.rsplit_once(SPACES)?;
        if number.is_empty() || unit.contains('|') || common.is_some_and(|common| common != unit) {
            return None;
        }
        common = Some(unit);
    }
    common
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        struct Rows<'a>(&'a Data);
        impl Serialize for Rows<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_seq(self.0.rows())
            }
        }
        let mut table = to.serialize_struct("Data", 2)?;
        table.serialize_field("heads", &self.heads)?;
        table.serialize_field("rows", &Rows(self))?;
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_table_states_a_shared_unit_once_per_column() {
        let at = UtcMicros(1_772_409_600_000_000);
        let figure = |text: &str| Datum { value: Some(1.0), ..Datum::text(text) };
        let heads = ["from", "tests", "p5", "median", "server"].map(str::to_owned).to_vec();
        let row = |date, tests, p5, median| {
            let server = Datum::text("mail one");
            vec![Datum::moment(date, at), figure(tests), figure(p5), figure(median), server]
        };
        let mut rows = vec![
            row("1 Jan 2025", "288", "703 ms", "1.46\u{a0}s"),
            row("2 Jan 2025", "7", "1.02 s", "1.40\u{a0}s"),
        ];
        rows.push(vec![
            Datum::moment("3 Jan 2025", at),
            figure("0"),
            Datum::text(DASH),
            Datum::text(DASH),
            Datum::text("mail one"),
        ]);
        let lines = Data::new(heads.clone(), rows.clone()).lines();
        assert_eq!(
            lines.text,
            "from (2025)\ttests\tp5\tmedian (s)\tserver\n1 Jan\t288\t703 ms\t1.46\tmail one\n\
             2 Jan\t7\t1.02 s\t1.40\tmail one\n3 Jan\t0\t–\t–\tmail one"
        );
        assert_eq!(lines.units, "2025|||s|");
        rows.push(row("1 Jan 2026", "1", "1 ms", "2 min"));
        assert_eq!(Data::new(heads, rows).lines().units, "||||", "another year and another unit");
    }

    #[test]
    fn a_table_returns_its_cells() {
        let at = UtcMicros(1_772_409_600_000_000);
        let measured = Datum { value: Some(1.25), unit: "s", ..Datum::text("1.25 s") };
        let rows = vec![
            vec![Datum::moment("2 März", at), measured.clone()],
            vec![],
            vec![Datum::text("–"), Datum { value: None, ..measured }],
        ];
        let data = Data::new(vec!["a".into(), "b".into()], rows.clone());
        assert_eq!((data.len(), data.is_empty()), (3, false));
        for (row, figures) in rows.iter().zip(data.rows()) {
            let seen = figures.iter().map(|figure| Datum {
                text: figure.text.to_owned(),
                value: figure.value,
                unit: figure.unit,
                moment: figure.moment,
            });
            assert_eq!(*row, seen.collect::<Vec<_>>());
        }
        let json = serde_json::to_value(&data).expect("JSON");
        assert_eq!(json["rows"][0][1]["text"], "1.25 s");
    }
}
