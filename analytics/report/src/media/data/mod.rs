//! Data formats: all displayed figures with their exact values, as a workbook, a flat table or
//! JSON.

pub mod csv;
pub mod json;
#[cfg(feature = "xlsx")]
pub mod xlsx;

use mailqos_charts::Figure;
use mailqos_model::UtcMicros;
use serde::Serialize;

use crate::document::{Block, ChartBlock, Document};

/// A group of figures: key figures, a table, or the data of a chart.
#[derive(Debug, Serialize)]
struct Sheet<'a> {
    /// Kind: `key_figures`, `table` or `chart`.
    kind: &'static str,
    /// Id, unique in the document; empty for key figures.
    id: &'a str,
    /// Chapter of the group; may be empty.
    chapter: &'a str,
    /// Title.
    title: &'a str,
    /// Explanation below the title.
    subtitle: &'a str,
    columns: Vec<Head<'a>>,
    rows: Vec<Vec<Value<'a>>>,
    /// Note.
    note: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Head<'a> {
    head: &'a str,
    /// Unit of the exact values; may be empty.
    unit: &'a str,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Value<'a> {
    /// Displayed text.
    text: &'a str,
    /// Exact value.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(serialize_with = "rfc3339", skip_serializing_if = "Option::is_none")]
    moment: Option<UtcMicros>,
    /// Text after it, such as an interval.
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

fn rfc3339<S: serde::Serializer>(moment: &Option<UtcMicros>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&moment.unwrap_or(UtcMicros(0)))
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        Self { text, ..Self::default() }
    }
}

/// Returns all figures of a document, in reading order.
fn sheets(document: &Document) -> Vec<Sheet<'_>> {
    let mut sheets = Vec::new();
    let mut chapter = "";
    for block in document.walk() {
        match block {
            Block::Heading { level: 1, text, .. } => chapter = text,
            Block::KeyFigures { figures } => {
                let words = &document.words;
                let heads = [words.figure, words.value, words.detail, words.change];
                sheets.push(Sheet {
                    kind: "key_figures",
                    id: "",
                    chapter,
                    title: words.key_figures,
                    subtitle: "",
                    columns: heads.map(|head| Head { head, unit: "" }).into(),
                    rows: figures
                        .iter()
                        .map(|figure| {
                            vec![
                                Value::text(&figure.label),
                                Value {
                                    value: figure.exact,
                                    detail: figure.unit,
                                    ..Value::text(&figure.value)
                                },
                                Value::text(&figure.detail),
                                Value::text(&figure.change),
                            ]
                        })
                        .collect(),
                    note: "",
                });
            }
            Block::Table(table) => sheets.push(Sheet {
                kind: "table",
                id: &table.id,
                chapter,
                title: &table.title,
                subtitle: &table.subtitle,
                columns: table
                    .columns
                    .iter()
                    .map(|column| Head {
                        head: &column.head,
                        unit: if column.exact.is_empty() { &column.unit } else { column.exact },
                    })
                    .collect(),
                rows: table
                    .rows
                    .iter()
                    .map(|row| {
                        row.cells
                            .iter()
                            .map(|cell| Value {
                                text: &cell.text,
                                value: cell.value,
                                moment: cell.moment,
                                detail: &cell.detail,
                            })
                            .collect()
                    })
                    .collect(),
                note: &table.note,
            }),
            _ => sheets.extend(block.charts().into_iter().map(|chart| drawn(chart, chapter))),
        }
    }
    sheets
}

/// Returns the values drawn in a chart.
fn drawn<'a>(chart: &'a ChartBlock, chapter: &'a str) -> Sheet<'a> {
    let data = &chart.chart.data;
    let unit = |column: usize| {
        let figures = data.rows().filter_map(|row| row.get(column).copied());
        figures.map(|figure| figure.unit).find(|unit| !unit.is_empty())
    };
    let head =
        |(index, head): (usize, &'a String)| Head { head, unit: unit(index).unwrap_or_default() };
    let value = |datum: Figure<'a>| Value {
        text: datum.text,
        value: datum.value,
        moment: datum.moment,
        detail: "",
    };
    Sheet {
        kind: "chart",
        id: &chart.id,
        chapter,
        title: &chart.chart.title,
        subtitle: &chart.chart.subtitle,
        columns: data.heads.iter().enumerate().map(head).collect(),
        rows: data.rows().map(|row| row.into_iter().map(value).collect()).collect(),
        note: "",
    }
}
