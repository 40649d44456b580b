//! A foreign file as a table of text.

use std::{fs::File, io::Read as _, path::Path};

use mailqos_lake::io_error;

use crate::LakeAdminError;

/// No real export is larger; a mistake (a disk image) must not fill the memory.
const MAX_FILE: u64 = 2 << 30;

/// A row, in the order of the table's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The line in the file.
    pub line: u64,
    /// The fields, trimmed; empty if there is no value.
    pub fields: Vec<String>,
}

/// A foreign file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The delimiter, if it is a CSV file.
    pub delimiter: Option<u8>,
    /// Notes for the user, such as that rows are averages.
    pub notes: Vec<String>,
}

/// Reads a whole text file.
pub(super) fn text(file: &Path) -> Result<String, LakeAdminError> {
    let open = File::open(file).map_err(io_error(file))?;
    let mut bytes = Vec::new();
    open.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error(file))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(LakeAdminError::Import(format!(
            "{}: larger than 2 GiB; import it in several parts",
            file.display()
        )));
    }
    decoded(bytes).ok_or_else(|| {
        LakeAdminError::Import(format!(
            "{}: not text in UTF-8 or UTF-16; save it as CSV in UTF-8",
            file.display()
        ))
    })
}

/// Returns whether a file begins with these bytes after blanks and a byte order mark.
pub(super) fn begins_with(file: &Path, bytes: &[u8]) -> Result<bool, LakeAdminError> {
    let mut begin = Vec::new();
    let open = File::open(file).map_err(io_error(file))?;
    open.take(64).read_to_end(&mut begin).map_err(io_error(file))?;
    let begin = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&begin);
    Ok(begin.trim_ascii_start().starts_with(bytes))
}

/// Decodes UTF-8, or UTF-16 with a byte order mark (Excel's "Unicode text").
fn decoded(bytes: Vec<u8>) -> Option<String> {
    let units = |pairs: &[u8], unit: fn([u8; 2]) -> u16| -> Vec<u16> {
        pairs.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect()
    };
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => String::from_utf16(&units(rest, u16::from_le_bytes)).ok(),
        [0xfe, 0xff, rest @ ..] => String::from_utf16(&units(rest, u16::from_be_bytes)).ok(),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes).ok(),
    }
}

/// Reads a CSV file with a header. Excel names the delimiter in a first line `sep=;`.
///
/// # Errors
/// The file can't be read, or is not a valid CSV file.
pub(crate) fn read_csv(file: &Path, delimiter: Option<u8>) -> Result<Table, LakeAdminError> {
    let text = text(file)?;
    let (text, named, skipped) = match text.split_once('\n') {
        Some((first, rest)) => match separator(first.trim_end()) {
            Some(separator) => (rest, Some(separator), 1),
            None => (text.as_str(), None, 0),
        },
        None => (text.as_str(), None, 0),
    };
    let delimiter =
        delimiter.or(named).unwrap_or_else(|| likely(text.lines().next().unwrap_or_default()));
    let error = |error: csv::Error| LakeAdminError::Import(format!("{}: {error}", file.display()));
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let head: Vec<String> =
        reader.headers().map_err(error)?.iter().map(|name| name.trim().to_owned()).collect();
    let mut rows = Vec::new();
    let mut lines = Lines::new(text);
    for record in reader.records() {
        let record = record.map_err(error)?;
        let begin = record.position().and_then(|position| usize::try_from(position.byte()).ok());
        let line = lines.at(begin.unwrap_or_default()) + skipped;
        // More fields than the header has names mean an unquoted delimiter within a value; empty
        // ones are harmless.
        if record.iter().skip(head.len()).any(|field| !field.trim().is_empty()) {
            return Err(LakeAdminError::Import(format!(
                "{}: row {line} has {} fields, the header has {}; a value may contain the delimiter",
                file.display(),
                record.len(),
                head.len()
            )));
        }
        rows.push(Row {
            line,
            fields: record.iter().map(|field| field.trim().to_owned()).collect(),
        });
    }
    Ok(Table { head, rows, delimiter: Some(delimiter), notes: Vec::new() })
}

/// Maps byte offsets of a text to lines. (The csv crate's count is off by one if lines end in CR
/// LF.)
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0, line: 1 }
    }

    /// Returns the line of a byte after the previous one, or of the next byte that does not end a
    /// line.
    fn at(&mut self, byte: usize) -> u64 {
        let ends_line = |at: usize| matches!(self.text.get(at), Some(b'\r' | b'\n'));
        let mut to = byte.clamp(self.at, self.text.len());
        while ends_line(to) {
            to += 1;
        }
        self.line += self.text[self.at..to].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = to;
        self.line
    }
}

/// Returns the delimiter that a line `sep=;` names.
fn separator(line: &str) -> Option<u8> {
    let line = line.trim_matches('"');
    let (key, value) = line.split_once('=')?;
    let [sign] = value.as_bytes() else {
        return (key.eq_ignore_ascii_case("sep") && value == "\\t").then_some(b'\t');
    };
    (key.eq_ignore_ascii_case("sep") && !sign.is_ascii_alphanumeric()).then_some(*sign)
}

/// Returns the usual delimiter that occurs most often in the header.
fn likely(head: &str) -> u8 {
    let count = |sign: u8| head.bytes().filter(|byte| *byte == sign).count();
    b";\t|".iter().copied().fold(
        b',',
        |most, sign| {
            if count(sign) > count(most) { sign } else { most }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Table, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("export.csv");
        std::fs::write(&file, bytes).expect("written");
        read_csv(&file, None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_that_names_the_delimiter_is_not_the_head() {
        for text in [
            "sep=;\r\nTime;Value\r\n1;2,5\r\n",
            "\"SEP=;\"\nTime;Value\n1;2,5\n",
            "\u{feff}sep=;\nTime;Value\n1;2,5\n",
        ] {
            let table = read(text.as_bytes()).expect("a table");
            assert_eq!(table.head, ["Time", "Value"]);
            assert_eq!(
                table.rows,
                [Row { line: 3, fields: vec!["1".to_owned(), "2,5".to_owned()] }]
            );
        }
        assert_eq!(read(b"sep=1,Value\n1,2\n").expect("a table").head, ["sep=1", "Value"]);
    }

    #[test]
    fn utf_16_is_read_and_binary_data_is_not() {
        let mut bytes = vec![0xff, 0xfe];
        bytes.extend("Zeit\tWért\n1\t2\n".encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(read(&bytes).expect("a table").head, ["Zeit", "Wért"]);
        let error = read(b"Zeit;W\xe9rt\n").expect_err("Latin-1");
        assert!(error.contains("save it as CSV in UTF-8"), "{error}");
    }

    #[test]
    fn a_delimiter_in_a_value_is_noticed() {
        let error =
            read(b"time,latency,outcome\n2026-03-01,1,5,ok\n").expect_err("a decimal comma");
        assert!(error.contains("row 2 has 4 fields"), "{error}");
        assert!(
            read(b"a,b\n1,2,\n3\n").is_ok(),
            "an empty field more or a missing one is harmless"
        );
    }
}
