//! Data: every figure that a report shows, with its exact value, as a workbook, as one flat table or as JSON.

pub mod csv;
pub mod json;
#[cfg(feature = "xlsx")]
pub mod xlsx;

use mailqos_charts::Figure;
use mailqos_model::UtcMicros;
use serde::Serialize;

use crate::document::{Block, ChartBlock, Document};

/// Figures that stand together: key figures, a table, the data of a chart.
#[derive(Debug, Serialize)]
struct Sheet<'a> {
    /// `key_figures`, `table` or `chart`.
    kind: &'static str,
    /// Unique in the document; empty for key figures.
    id: &'a str,
    /// The chapter that it stands in; may be empty.
    chapter: &'a str,
    /// What it shows.
    title: &'a str,
    /// How to read it.
    subtitle: &'a str,
    columns: Vec<Head<'a>>,
    rows: Vec<Vec<Value<'a>>>,
    /// A remark.
    note: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Head<'a> {
    head: &'a str,
    /// The unit of the exact values; may be empty.
    unit: &'a str,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Value<'a> {
    /// As it is shown.
    text: &'a str,
    /// The exact value.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(serialize_with = "rfc3339", skip_serializing_if = "Option::is_none")]
    moment: Option<UtcMicros>,
    /// What is shown behind it, such as an interval.
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

fn rfc3339<S: serde::Serializer>(moment: &Option<UtcMicros>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&moment.unwrap_or(UtcMicros(0)))
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

/// All figures of a document, in reading order.
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
                        unit: if column.exact.is_empty() {
                            &column.unit
                        } else {
                            column.exact
                        },
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

/// What is drawn in a chart.
fn drawn<'a>(chart: &'a ChartBlock, chapter: &'a str) -> Sheet<'a> {
    let data = &chart.chart.data;
    let unit = |column: usize| {
        let figures = data.rows().filter_map(|row| row.get(column).copied());
        figures.map(|figure| figure.unit).find(|unit| !unit.is_empty())
    };
    let head = |(index, head): (usize, &'a String)| Head {
        head,
        unit: unit(index).unwrap_or_default(),
    };
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
