//! CSV: one flat table of all figures, a row for each cell, with its text as shown and its exact value.

use super::sheets;
use crate::report::{document::Document, media::MediaError};

const HEADS: [&str; 11] = [
    "kind", "id", "chapter", "title", "row", "name", "column", "unit", "text", "value", "moment",
];

/// Every figure of a document as CSV (RFC 4180, UTF-8, comma).
///
/// # Errors
/// It can't be written.
pub fn render(document: &Document) -> Result<Vec<u8>, MediaError> {
    let failed = |error: csv::Error| MediaError::Data(error.to_string());
    let mut out = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    out.write_record(HEADS).map_err(failed)?;
    for sheet in sheets(document) {
        for (number, row) in sheet.rows.iter().enumerate() {
            // What a row is about stands in its first cell.
            let name = row.first().map(|value| harmless(value.text)).unwrap_or_default();
            for (value, column) in row.iter().zip(&sheet.columns) {
                let text = if value.detail.is_empty() || sheet.kind == "key_figures" {
                    harmless(value.text)
                } else {
                    harmless(&format!("{} {}", value.text, value.detail))
                };
                let unit = if sheet.kind == "key_figures" {
                    value.detail
                } else {
                    column.unit
                };
                out.write_record([
                    sheet.kind,
                    sheet.id,
                    &harmless(sheet.chapter),
                    &harmless(sheet.title),
                    &(number + 1).to_string(),
                    &name,
                    &harmless(column.head),
                    unit,
                    &text,
                    &value.value.map(|value| value.to_string()).unwrap_or_default(),
                    &value.moment.map(|moment| moment.to_string()).unwrap_or_default(),
                ])
                .map_err(failed)?;
            }
        }
    }
    out.into_inner().map_err(|error| MediaError::Data(error.to_string()))
}

/// A text that no spreadsheet takes for a formula: what begins like one gets an apostrophe in front (OWASP, "CSV Injection").
fn harmless(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => format!("'{text}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formulas_are_text() {
        assert_eq!(harmless("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(harmless("+1+1"), "'+1+1");
        assert_eq!(harmless("Lyon = Paris"), "Lyon = Paris");
        assert_eq!(harmless("−5 ms"), "−5 ms");
    }

    proptest! {
        #[test]
        fn no_cell_begins_a_formula(text in "[=+@\\-\t\r\nA-z0-9|'!() ]{0,20}") {
            prop_assert!(!harmless(&text).starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
        }
    }
}
