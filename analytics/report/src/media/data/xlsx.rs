//! XLSX: a workbook with numbers and dates as such. Tables of one kind, such as those of each
//! monitor, share a sheet.

use std::collections::BTreeSet;

use jiff::{civil::DateTime, tz::TimeZone};
use mailqos_model::UtcMicros;
use rust_xlsxwriter::{
    DocProperties, ExcelDateTime, Format, FormatAlign, Workbook, Worksheet, XlsxError,
};

use super::{Head, Sheet, Value, sheets};
use crate::{document::Document, media::MediaError};

/// Maximum characters of a cell.
const MAX_CELL: usize = 32_767;
/// Maximum rows of a sheet.
const MAX_ROWS: usize = 1_048_576;
/// Maximum length of a sheet name, in UTF-16 units, as Excel counts.
const MAX_NAME: usize = 31;
/// A sheet name reserved by Excel.
const RESERVED: &str = "history";
/// Minimum length at which the common part of titles is a meaningful name.
const SHORTEST_SHARED: usize = 6;

impl From<XlsxError> for MediaError {
    fn from(error: XlsxError) -> Self {
        Self::Data(error.to_string())
    }
}

/// Tables with the same columns.
struct Stack<'a> {
    columns: &'a [Head<'a>],
    kind: &'static str,
    sheets: Vec<&'a Sheet<'a>>,
}

/// A row, with the index of its table.
type Numbered<'a> = (usize, &'a [Value<'a>]);

impl<'a> Stack<'a> {
    /// Rows of all tables.
    fn rows(&self) -> Vec<Numbered<'a>> {
        let parts = self.sheets.iter().enumerate();
        let rows = parts
            .flat_map(|(number, part)| part.rows.iter().map(move |row| (number, row.as_slice())));
        rows.collect()
    }

    /// Location of each table: its chapter and, if the chapter has several tables, its title.
    fn places(&self) -> Vec<String> {
        let chapters: BTreeSet<&str> = self.sheets.iter().map(|sheet| sheet.chapter).collect();
        let place = |sheet: &&Sheet<'_>| match sheet.chapter {
            chapter if chapters.len() == self.sheets.len() => chapter.to_owned(),
            "" => sheet.title.to_owned(),
            chapter => format!("{chapter}: {}", sheet.title),
        };
        self.sheets.iter().map(place).collect()
    }
}

/// Formats of cells.
struct Look {
    zone: TimeZone,
    head: Format,
    moment: Format,
    whole: Format,
    number: Format,
}

/// Exports all figures of a document as a workbook.
///
/// # Errors
/// The data can't be written.
pub fn render(document: &Document) -> Result<Vec<u8>, MediaError> {
    let all = sheets(document);
    let look = Look {
        zone: mailqos_base::zones::get(&document.zone).unwrap_or(TimeZone::UTC),
        head: Format::new().set_bold().set_text_wrap().set_align(FormatAlign::Top),
        moment: Format::new().set_num_format("yyyy-mm-dd hh:mm:ss"),
        whole: Format::new().set_num_format("#,##0"),
        number: Format::new().set_num_format("#,##0.00####"),
    };
    let mut book = Workbook::new();
    let mut properties = DocProperties::new()
        .set_title(&document.title)
        .set_subject(&document.period)
        .set_author(if document.theme.company.is_empty() {
            &document.producer
        } else {
            &document.theme.company
        })
        .set_comment(format!("SHA-256 {}", document.data_hash));
    // The time comes from the data, so that the same report results in the same file.
    if let Some(made) = excel(document.made_at, &TimeZone::UTC) {
        properties = properties.set_creation_datetime(&made);
    }
    book.set_properties(&properties);
    let mut names: Vec<String> = Vec::new();
    cover(book.add_worksheet(), document, &look, name(document.words.report, &mut names))?;
    let mut stacks: Vec<Stack<'_>> = Vec::new();
    for sheet in &all {
        match stacks
            .iter_mut()
            .find(|stack| stack.kind == sheet.kind && stack.columns == sheet.columns)
        {
            Some(stack) => stack.sheets.push(sheet),
            None => stacks.push(Stack {
                columns: &sheet.columns,
                kind: sheet.kind,
                sheets: vec![sheet],
            }),
        }
    }
    for stack in &stacks {
        let first = stack.sheets[0];
        // The common part of the titles of its tables, in the report's language: `Round trip` for
        // `Round trip: Lyon` and `Round trip: Oslo`. If there is none, the first title.
        let titles = stack.sheets.iter().map(|sheet| sheet.title);
        let shared =
            titles.fold(first.title, common).trim_end_matches(|c: char| !c.is_alphanumeric());
        let wanted = if shared.chars().count() < SHORTEST_SHARED { first.title } else { shared };
        let rows = stack.rows();
        for rows in in_sheets(&rows, MAX_ROWS - 1) {
            let sheet = book.add_worksheet();
            fill(sheet, (stack, rows), document, &look, name(wanted, &mut names))?;
        }
    }
    Ok(book.save_to_buffer()?)
}

/// Writes the first sheet, with the report's description and findings.
fn cover(
    sheet: &mut Worksheet,
    document: &Document,
    look: &Look,
    name: String,
) -> Result<(), XlsxError> {
    sheet.set_name(name)?;
    let words = &document.words;
    let lines = [
        (words.report, document.title.as_str()),
        (words.finding, &document.headline),
        (words.period, &document.period),
        (words.times_in, &document.zone),
        (words.scope, &document.scope),
        (words.made, &document.made),
        (words.data_hash, &document.data_hash),
        ("", &document.producer),
    ];
    let notes = document.notes.iter().map(|note| (note.title.as_str(), note.text.as_str()));
    for (row, (label, text)) in (0..).zip(lines.into_iter().chain(notes)) {
        sheet.write_string_with_format(row, 0, cut(label), &look.head)?;
        sheet.write_string(row, 1, cut(text))?;
    }
    sheet.set_column_width(0, 24)?;
    sheet.set_column_width(1, 100)?;
    Ok(())
}

fn fill(
    sheet: &mut Worksheet,
    (stack, rows): (&Stack<'_>, &[Numbered<'_>]),
    document: &Document,
    look: &Look,
    name: String,
) -> Result<(), XlsxError> {
    sheet.set_name(name)?;
    // A column of details follows each column with details.
    let detailed: Vec<bool> = (0..stack.columns.len())
        .map(|column| {
            let mut rows = stack.sheets.iter().flat_map(|sheet| &sheet.rows);
            rows.any(|row| row.get(column).is_some_and(|value| !value.detail.is_empty()))
        })
        .collect();
    let several = stack.sheets.len() > 1;
    let mut column: u16 = 0;
    let mut head = |sheet: &mut Worksheet, text: &str, width: f64| -> Result<(), XlsxError> {
        sheet.write_string_with_format(0, column, cut(text), &look.head)?;
        sheet.set_column_width(column, width)?;
        column += 1;
        Ok(())
    };
    if several {
        head(sheet, document.words.chapter, 28.0)?;
    }
    for (head_of, detailed) in stack.columns.iter().zip(&detailed) {
        let text = if head_of.unit.is_empty() {
            head_of.head.to_owned()
        } else {
            format!("{} ({})", head_of.head, head_of.unit)
        };
        head(sheet, &text, if text.len() > 14 { 24.0 } else { 16.0 })?;
        if *detailed {
            head(
                sheet,
                if stack.kind == "key_figures" {
                    document.words.unit
                } else {
                    document.words.detail
                },
                18.0,
            )?;
        }
    }
    let columns = column;
    let places = stack.places();
    let mut last = 0;
    for (number, (part, row)) in (1..).zip(rows) {
        let mut column = 0;
        if several {
            sheet.write_string(number, column, cut(&places[*part]))?;
            column += 1;
        }
        for (value, detailed) in row.iter().zip(&detailed) {
            write(sheet, number, column, value, look)?;
            column += 1;
            if *detailed {
                if !value.detail.is_empty() {
                    sheet.write_string(number, column, cut(value.detail))?;
                }
                column += 1;
            }
        }
        last = number;
    }
    sheet.set_freeze_panes(1, 0)?;
    if last > 0 && columns > 0 {
        sheet.autofilter(0, 0, last, columns - 1)?;
    }
    Ok(())
}

/// Distributes rows over sheets: rows that exceed one sheet continue on the next.
fn in_sheets<T>(rows: &[T], most: usize) -> Vec<&[T]> {
    if rows.is_empty() { vec![rows] } else { rows.chunks(most).collect() }
}

fn write(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    value: &Value<'_>,
    look: &Look,
) -> Result<(), XlsxError> {
    match (value.value, value.moment) {
        (_, Some(moment)) if let Some(moment) = excel(moment, &look.zone) => {
            sheet.write_datetime_with_format(row, column, moment, &look.moment)?;
        }
        (Some(number), _) if number.is_finite() => {
            let format = if number == number.trunc() { &look.whole } else { &look.number };
            sheet.write_number_with_format(row, column, number, format)?;
        }
        // Always as text, even if it looks like a formula.
        _ => {
            sheet.write_string(row, column, cut(value.text))?;
        }
    }
    Ok(())
}

/// Converts a time to that of a spreadsheet: without a time zone, in whole milliseconds.
fn excel(moment: UtcMicros, zone: &TimeZone) -> Option<ExcelDateTime> {
    let local: DateTime = zone.to_datetime(moment.timestamp());
    let part = |value: i8| u8::try_from(value).unwrap_or(0);
    let year = u16::try_from(local.year()).ok()?;
    let seconds =
        f64::from(local.second()) + f64::from(local.subsec_nanosecond() / 1_000_000) / 1e3;
    ExcelDateTime::from_ymd(year, part(local.month()), part(local.day()))
        .and_then(|date| date.and_hms(part(local.hour()).into(), part(local.minute()), seconds))
        .ok()
}

fn cut(text: &str) -> &str {
    // No character has more UTF-16 units than bytes.
    &text[..text.floor_char_boundary(MAX_CELL)]
}

fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars()).take_while(|((_, a), b)| a == b);
    let end = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
    &one[..end]
}

/// Shortens a text to at most this many UTF-16 units.
fn first_units(text: &str, most: usize) -> &str {
    let mut units = 0;
    let end = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > most
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// Shortens a name between words, leaving room for a number.
fn shortened(name: &str) -> String {
    let mut short = String::new();
    let mut length = 0;
    for word in name.split_whitespace() {
        let more = word.encode_utf16().count() + usize::from(length > 0);
        if length > 0 && length + more > MAX_NAME - 4 {
            break;
        }
        if length > 0 {
            short.push(' ');
        }
        short.push_str(first_units(word, MAX_NAME - 4));
        length += more;
    }
    // A trailing dash or comma would look truncated.
    short.trim_end_matches(|c: char| !c.is_alphanumeric() && c != ')' && c != '%').to_owned()
}

/// Returns a valid sheet name that no other sheet of the workbook has.
fn name(wanted: &str, names: &mut Vec<String>) -> String {
    let allowed =
        |c: &char| !matches!(c, '[' | ']' | ':' | '*' | '?' | '/' | '\\' | '\'') && !c.is_control();
    let wanted: String = wanted.chars().filter(allowed).collect();
    let clean = shortened(wanted.trim_start_matches(['_', ' ']));
    let clean = if clean.trim().is_empty() { "Sheet".to_owned() } else { clean };
    let mut name = clean.clone();
    let mut number = 2;
    // Names are compared case-insensitively, in any script.
    let is_taken = |name: &str| {
        let small = name.to_lowercase();
        small == RESERVED || names.iter().any(|known| known.to_lowercase() == small)
    };
    while is_taken(&name) {
        let ending = format!(" {number}");
        name = format!("{}{ending}", first_units(&clean, MAX_NAME - ending.len()).trim_end());
        number += 1;
    }
    names.push(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sheets_are_allowed_and_unique() {
        let mut names = Vec::new();
        assert_eq!(name("a/b: [x]?", &mut names), "ab x");
        assert_eq!(name("AB X", &mut names), "AB X 2");
        assert_eq!(name("***", &mut names), "Sheet");
        assert!(name(&"é".repeat(99), &mut names).chars().count() <= MAX_NAME);
        let long = "Zustellzeit über den Tag und die Woche, alle Monitore";
        assert_eq!(name(long, &mut names), "Zustellzeit über den Tag");
        assert_eq!(name(long, &mut names), "Zustellzeit über den Tag 2");
    }

    /// Reported for other programs: SheetJS #2458 and #992, axlsx #588, fastexcel #4.
    #[test]
    fn names_of_sheets_are_counted_and_compared_as_excel_does() {
        let units = |name: &str| name.encode_utf16().count();
        let mut names = Vec::new();
        assert_eq!(name("History", &mut names), "History 2");
        assert_eq!(name("HISTORY", &mut names), "HISTORY 3");
        assert_eq!(name("Ängelholm", &mut names), "Ängelholm");
        assert_eq!(name("ÄNGELHOLM", &mut names), "ÄNGELHOLM 2");
        assert_eq!(name("'quoted'", &mut names), "quoted");
        assert_eq!(
            name("_begins with a line, and is long", &mut names),
            "begins with a line, and is"
        );
        for wanted in [
            "\u{1f1eb}\u{1f1f7}1234567890123456789012345678",
            "x😀",
            "😀a😀b😀c😀d😀e😀f😀g😀h😀i😀j😀k",
        ] {
            for number in 0..120 {
                let given = name(wanted, &mut names);
                assert!((1..=MAX_NAME).contains(&units(&given)), "{number} {given:?}");
            }
        }
        let small: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(small.len(), names.len());
    }

    #[test]
    fn no_row_is_left_out() {
        let rows = [1, 2, 3, 4, 5];
        assert_eq!(in_sheets(&rows, 2), [&[1, 2][..], &[3, 4], &[5]]);
        assert_eq!(in_sheets(&rows, 5), [&rows[..]]);
        assert_eq!(in_sheets(&rows[..0], 5), [&rows[..0]], "its head is shown all the same");
    }

    #[test]
    fn sheets_of_one_chapter_are_distinguished_by_title() {
        let sheet = |chapter, title| Sheet {
            kind: "chart",
            id: "distribution",
            chapter,
            title,
            subtitle: "",
            columns: Vec::new(),
            rows: Vec::new(),
            note: "",
        };
        let places = |sheets: &[Sheet<'_>]| {
            let stack = Stack { columns: &[], kind: "chart", sheets: sheets.iter().collect() };
            stack.places()
        };
        assert_eq!(places(&[sheet("Lyon", "a"), sheet("Oslo", "b")]), ["Lyon", "Oslo"]);
        assert_eq!(places(&[sheet("", "Lyon: a"), sheet("", "Oslo: a")]), ["Lyon: a", "Oslo: a"]);
        assert_eq!(
            places(&[sheet("East", "Oslo"), sheet("East", "Bonn")]),
            ["East: Oslo", "East: Bonn"]
        );
    }

    #[test]
    fn moments_are_in_the_zone_of_the_report() {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        let moment = excel(UtcMicros(1_790_812_800_500_000), &zone).expect("a date");
        let said = ExcelDateTime::parse_from_str("2026-10-01T02:00:00.500").expect("a date");
        assert!((moment.to_excel() - said.to_excel()).abs() < 1e-9);
    }
}
