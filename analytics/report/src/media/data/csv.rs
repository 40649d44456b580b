//! CSV: one flat table of all figures, with a row for each cell: the displayed text and the exact
//! value.

use super::sheets;
use crate::{document::Document, media::MediaError};

const HEADS: [&str; 11] =
    ["kind", "id", "chapter", "title", "row", "name", "column", "unit", "text", "value", "moment"];

/// Format of CSV files that spreadsheets of a language expect.
///
/// Excel takes the delimiter and the decimal mark from the regional settings, and reads UTF-8 only
/// after a byte order mark (Microsoft, "Opening CSV UTF-8 files correctly in Excel").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dialect {
    delimiter: u8,
    decimal_comma: bool,
}

impl Dialect {
    fn of(language: &str) -> Self {
        match language.split('-').next().unwrap_or_default() {
            // If the comma is the decimal mark, the list separator is a semicolon.
            "de" | "sv" => Self { delimiter: b';', decimal_comma: true },
            _ => Self { delimiter: b',', decimal_comma: false },
        }
    }

    fn number(self, number: f64) -> String {
        let text = number.to_string();
        if self.decimal_comma { text.replace('.', ",") } else { text }
    }
}

/// Exports all figures of a document as CSV (RFC 4180) in UTF-8 with a byte order mark, with the
/// delimiter and decimal mark of the report's language.
///
/// # Errors
/// The data can't be written.
pub fn render(document: &Document) -> Result<Vec<u8>, MediaError> {
    let failed = |error: csv::Error| MediaError::Data(error.to_string());
    let dialect = Dialect::of(&document.language);
    let mut out = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .delimiter(dialect.delimiter)
        .from_writer("\u{feff}".as_bytes().to_vec());
    out.write_record(HEADS).map_err(failed)?;
    for sheet in sheets(document) {
        for (number, row) in sheet.rows.iter().enumerate() {
            // The first cell names the row.
            let name = row.first().map(|value| harmless(value.text)).unwrap_or_default();
            for (value, column) in row.iter().zip(&sheet.columns) {
                let text = if value.detail.is_empty() || sheet.kind == "key_figures" {
                    harmless(value.text)
                } else {
                    harmless(&format!("{} {}", value.text, value.detail))
                };
                let unit = if sheet.kind == "key_figures" { value.detail } else { column.unit };
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
                    &value.value.map(|value| dialect.number(value)).unwrap_or_default(),
                    &value.moment.map(|moment| moment.to_string()).unwrap_or_default(),
                ])
                .map_err(failed)?;
            }
        }
    }
    out.into_inner().map_err(|error| MediaError::Data(error.to_string()))
}

/// Returns a text that spreadsheets don't interpret as a formula: an apostrophe precedes texts that
/// would be (OWASP, "CSV Injection").
fn harmless(text: &str) -> String {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => {
            format!("'{text}")
        }
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

    #[test]
    fn numbers_are_those_of_the_language() {
        assert_eq!(Dialect::of("de-AT").number(1234.5), "1234,5");
        assert_eq!(Dialect::of("en").number(1234.5), "1234.5");
        assert_eq!((Dialect::of("sv").delimiter, Dialect::of("fr").delimiter), (b';', b','));
    }

    proptest! {
        #[test]
        fn no_cell_begins_a_formula(text in "[=+@\\-\t\r\nA-z0-9|'!() ]{0,20}") {
            prop_assert!(!harmless(&text).starts_with(['=', '+', '-', '@', '\t', '\r', '\n']));
        }
    }
}
