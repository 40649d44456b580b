//! What is drawn, as a table, in little memory: the charts of a thousand monitors have two million cells.

use mailqos_core::model::UtcMicros;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::Datum;

/// What is drawn, as a table.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Heads of the columns.
    pub heads: Vec<String>,
    /// The texts of all cells, one after the other.
    text: Box<str>,
    cells: Box<[Cell]>,
    /// Where the cells of each row end.
    rows: Box<[u32]>,
    /// The few moments among the cells, by the cell.
    moments: Box<[(u32, UtcMicros)]>,
    /// The units that there are.
    units: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    /// The exact value; not a number where there is none.
    value: f64,
    /// Where its text ends.
    end: u32,
    unit: u8,
}

/// A cell of what is drawn: as it is shown, and exactly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure<'a> {
    /// What is shown; a dash for nothing.
    pub text: &'a str,
    /// The exact value in its unit.
    pub value: Option<f64>,
    /// The unit of the exact value: `s`, `%`, or nothing for a count.
    pub unit: &'static str,
    /// The moment, where it is one.
    pub moment: Option<UtcMicros>,
}

impl Data {
    /// Makes a table of its heads and its rows.
    pub(crate) fn new(heads: Vec<String>, rows: Vec<Vec<Datum>>) -> Self {
        let small = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let mut units = Vec::new();
        let (mut text, mut cells, mut ends, mut moments) = (String::new(), Vec::new(), Vec::new(), Vec::new());
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

    /// Returns how many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there is no row.
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
    fn a_table_has_what_was_put_into_it() {
        let at = UtcMicros(1_772_409_600_000_000);
        let measured = Datum {
            value: Some(1.25),
            unit: "s",
            ..Datum::text("1.25 s")
        };
        let rows = vec![
            vec![Datum::moment("2 März", at), measured.clone()],
            vec![],
            vec![
                Datum::text("–"),
                Datum {
                    value: None,
                    ..measured
                },
            ],
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
