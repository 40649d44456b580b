//! The XML that monitoring tools export: elements that contain elements or one text. It is read
//! piece by piece, without a complete XML parser; documents of another shape are refused.

use crate::foreign::{Row, Table};

/// A piece of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// `<name attributes>`, and whether it is empty.
    Open(&'a str, &'a str),
    /// `</name>`
    Close(&'a str),
    /// Text between tags.
    Text(&'a str),
    /// `<!-- … -->`; RRDtool writes times in comments.
    Comment(&'a str),
}

/// Pieces of a document with their lines.
pub(super) struct Pieces<'a> {
    text: &'a str,
    line: u64,
    /// Name of an empty element that is still to be closed.
    empty: Option<&'a str>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, line: 1, empty: None }
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.text.split_at(bytes);
        self.line += passed.bytes().filter(|byte| *byte == b'\n').count() as u64;
        self.text = rest;
        passed
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (u64, Piece<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(name) = self.empty.take() {
            return Some((self.line, Piece::Close(name)));
        }
        loop {
            let line = self.line;
            if self.text.is_empty() {
                return None;
            }
            if self.text.starts_with("<!--") {
                let end = self.text.find("-->").map_or(self.text.len(), |end| end + 3);
                let comment = self.advance(end);
                let inner = comment.strip_prefix("<!--").unwrap_or(comment);
                return Some((
                    line,
                    Piece::Comment(inner.strip_suffix("-->").unwrap_or(inner).trim()),
                ));
            }
            if !self.text.starts_with('<') {
                let end = self.text.find('<').unwrap_or(self.text.len());
                let text = self.advance(end).trim();
                if text.is_empty() {
                    continue;
                }
                return Some((line, Piece::Text(text)));
            }
            let end = self.text.find('>').map_or(self.text.len(), |end| end + 1);
            let tag = self.advance(end).trim_start_matches('<').trim_end_matches('>');
            if tag.starts_with(['?', '!']) {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                return Some((line, Piece::Close(name.trim())));
            }
            let inner = tag.trim_end_matches('/');
            let (name, attributes) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
            if tag.ends_with('/') {
                self.empty = Some(name);
            }
            return Some((line, Piece::Open(name, attributes)));
        }
    }
}

/// Returns the value of an attribute.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let begin = attributes.find(&format!("{name}=\""))? + name.len() + 2;
    let value = &attributes[begin..];
    Some(plain(&value[..value.find('"')?]))
}

/// Decodes the entities of XML.
pub(super) fn plain(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Converts PRTG's `historicdata.xml` to the table of its CSV export: a formatted and a raw column
/// for the time, each channel, and the coverage.
pub(super) fn historic_data(text: &str) -> Result<Table, String> {
    let mut table = Table::default();
    let mut column = |name: String, rows: &mut Vec<Row>| -> usize {
        if let Some(at) = table.head.iter().position(|known| *known == name) {
            return at;
        }
        table.head.push(name);
        for row in rows {
            row.fields.push(String::new());
        }
        table.head.len() - 1
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut current: Option<Row> = None;
    let mut name = None;
    let mut is_historic = false;
    for (line, piece) in Pieces::new(text) {
        match piece {
            Piece::Open("histdata", _) => is_historic = true,
            Piece::Open("item", _) => {
                current = Some(Row { line, fields: Vec::new() });
            }
            Piece::Open(element, attributes) => {
                let channel = attribute(attributes, "channel").unwrap_or_default();
                name = match element {
                    "datetime" => Some("Date Time".to_owned()),
                    "datetime_raw" => Some("Date Time(RAW)".to_owned()),
                    "value" => Some(channel),
                    "value_raw" => Some(format!("{channel}(RAW)")),
                    "coverage" => Some("Coverage".to_owned()),
                    "coverage_raw" => Some("Coverage(RAW)".to_owned()),
                    _ => None,
                };
            }
            Piece::Text(text) => {
                if let (Some(row), Some(name)) = (&mut current, name.take()) {
                    let at = column(name, &mut rows);
                    row.fields.resize(row.fields.len().max(at + 1), String::new());
                    row.fields[at] = plain(text);
                }
            }
            Piece::Close("item") => rows.extend(current.take()),
            Piece::Close(_) => name = None,
            Piece::Comment(_) => {}
        }
    }
    if !is_historic {
        return Err("not historic data from PRTG: no element histdata".to_owned());
    }
    // Downtime and coverage are recognised by position, as in CSV files.
    let is_behind = |name: &str| matches!(name.trim_end_matches("(RAW)"), "Coverage");
    let order: Vec<usize> = (0..table.head.len())
        .filter(|at| !is_behind(&table.head[*at]))
        .chain((0..table.head.len()).filter(|at| is_behind(&table.head[*at])))
        .collect();
    let head = order.iter().map(|at| table.head[*at].clone()).collect();
    for row in &mut rows {
        row.fields =
            order.iter().map(|at| row.fields.get(*at).cloned().unwrap_or_default()).collect();
    }
    Ok(Table { head, rows, ..Table::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_piece_by_piece() {
        let text = "<?xml version=\"1.0\"?>\n<!-- a -->\n<r a=\"1 &lt; 2\"><v> x </v><e/></r>";
        let pieces: Vec<_> = Pieces::new(text).collect();
        assert_eq!(
            pieces,
            [
                (2, Piece::Comment("a")),
                (3, Piece::Open("r", "a=\"1 &lt; 2\"")),
                (3, Piece::Open("v", "")),
                (3, Piece::Text("x")),
                (3, Piece::Close("v")),
                (3, Piece::Open("e", "")),
                (3, Piece::Close("e")),
                (3, Piece::Close("r")),
            ]
        );
        assert_eq!(attribute("channel=\"1 &lt; 2\" id=\"3\"", "channel").as_deref(), Some("1 < 2"));
        for odd in ["", "<", "<a", "<!--", "</", "a<b", "<a b=\"", "é<é>é"] {
            let _ = Pieces::new(odd).count();
        }
    }
}
