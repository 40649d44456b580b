//! PDF: Tera partials produce Typst markup, which Typst sets. The PDF is tagged (PDF/UA-1 if the
//! content allows it), with embedded fonts and vector charts.

mod even;
mod fonts;
mod parts;
mod world;

use std::{collections::BTreeMap, fmt::Write as _, io::Write, path::Path};

use mailqos_model::UtcMicros;
use serde_json::Value;
use tera::{Kwargs, State};
use typst::{World as _, WorldExt as _, diag::SourceDiagnostic, foundations::Datetime};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

use super::{
    MediaError, Medium, Set,
    work::{self, DocumentPage, Representation},
};
use crate::document::Document;
use fonts::FONTS;
use mailqos_base::timing;
use world::Sheet;

pub(super) static MEDIUM: Medium = Medium {
    name: "pdf",
    extension: "typ",
    escape,
    filters: |tera| {
        tera.register_filter("string", |text: &str, _: Kwargs, _: &State<'_>| literal(text))
    },
    built_in: partials!("pdf", "typ", "compose"),
    fonts: |_| Value::Null,
    compose,
    finish: |page| {
        let (producer, made_at) = page.origin();
        compile(page.markup, page.files, &producer, made_at)
    },
};

/// Number of rows above which tables are not composed but simply continue from page to page:
/// measuring them first would compute and keep their cells twice.
const FLOWING: usize = 400;

/// Returns the markup of a chapter, whose blocks the function `compose` of the page distributes
/// over pages.
fn compose(blocks: Vec<Set>, at_top: bool) -> String {
    let is_flowing = |block: &Set| block.kind == "table" && block.rows > FLOWING;
    let mut markup = String::new();
    for (number, part) in
        blocks.chunk_by(|one, other| is_flowing(one) == is_flowing(other)).enumerate()
    {
        compose_part(part, at_top && number == 0, part.iter().any(is_flowing), &mut markup);
    }
    markup
}

fn compose_part(blocks: &[Set], at_top: bool, is_flowing: bool, markup: &mut String) {
    // A single block stays where it is; only a chart may be too tall for a page.
    let is_alone = blocks.len() < 2 && blocks.iter().all(|block| block.kind != "chart");
    if is_alone || is_flowing {
        return blocks.iter().for_each(|block| markup.push_str(&block.markup));
    }
    // Writing to a `String` can't fail.
    let _ = writeln!(markup, "#compose(at-top: {at_top}, (");
    for Set { kind, rows, lines, ratio, markup: own } in blocks {
        let _ = writeln!(
            markup,
            "(kind: \"{kind}\", rows: {rows}, lines: {lines}, ratio: {ratio:?}, make: (chart-width, split, row-height: auto) => [{own}]),"
        );
    }
    markup.push_str("))\n");
}

static SHOWING: Representation = Representation {
    source: |picture| Ok(picture.name.clone()),
    drawn: None,
    drawings: false,
    files: true,
    row_lines: even::lines,
};

/// Returns the bundled fonts as files, for drawings, with the first ones in a form that is faster
/// to typeset.
pub(super) fn drawn_font_files() -> impl Iterator<Item = &'static [u8]> {
    let drawn = fonts::DRAWN_FILES.iter().map(Vec::as_slice);
    drawn.chain(fonts::FILES.into_iter().skip(fonts::DRAWN_FILES.len()))
}

/// Renders a document as a PDF; `own` is the folder of custom templates.
///
/// # Errors
/// A custom partial is invalid, or Typst can't set the result.
pub fn render(document: &Document, own: Option<&Path>) -> Result<Vec<u8>, MediaError> {
    let is_own = own.is_some() && !super::own_partials(&MEDIUM, own)?.is_empty();
    if parts::is_long(document) && !is_own {
        return parts::render(document);
    }
    work::page(&MEDIUM, &SHOWING, &DocumentPage::whole(document), own)
}

/// Sets the markup. `files` are the charts, images and fonts that it references; `made_at` is in
/// microseconds since 1970 UTC.
pub(super) fn compile(
    markup: String,
    files: BTreeMap<String, Vec<u8>>,
    producer: &str,
    made_at: i64,
) -> Result<Vec<u8>, MediaError> {
    set(&Sheet::new(0, markup, files)?, producer, made_at)
}

/// Sets markup and writes it as a PDF.
fn set(sheet: &Sheet, producer: &str, made_at: i64) -> Result<Vec<u8>, MediaError> {
    let pages = lay_out(sheet)?;
    write(sheet, &pages, producer, made_at)
}

/// Lays out markup. Caches of the typesetter are then released, even after an error: writing needs
/// only the pages.
fn lay_out(sheet: &Sheet) -> Result<PagedDocument, MediaError> {
    let _forgets = Forgets;
    lay_out_keeping(sheet)
}

/// Lays out markup without releasing the caches of the typesetter, which other threads may use.
fn lay_out_keeping(sheet: &Sheet) -> Result<PagedDocument, MediaError> {
    let compiled = timing::told("pdf layout", || typst::compile::<PagedDocument>(sheet));
    for warning in &compiled.warnings {
        tracing::debug!("typst: {}", warning.message);
    }
    compiled.output.map_err(|errors| MediaError::Setting(explain(sheet, &errors)))
}

/// Writes pages as a PDF; errors are explained by the markup that they come from.
fn write(
    sheet: &Sheet,
    pages: &PagedDocument,
    producer: &str,
    made_at: i64,
) -> Result<Vec<u8>, MediaError> {
    let _forgets = Forgets;
    let options = |standards| PdfOptions {
        creator: typst::foundations::Smart::Custom(Some(producer.to_owned())),
        timestamp: timestamp(UtcMicros(made_at)),
        standards,
        ..PdfOptions::default()
    };
    // Accessible and archivable; if a layout or a name prevents that, a warning is logged and the
    // standard is dropped.
    for (wanted, without) in [
        (&[PdfStandard::A_3a, PdfStandard::Ua_1][..], "not archivable (PDF/A-3a)"),
        (&[PdfStandard::Ua_1][..], "tagged, but not accessible by PDF/UA-1"),
    ] {
        let Ok(standards) = PdfStandards::new(wanted) else {
            continue;
        };
        match typst_pdf::pdf(pages, &options(standards)) {
            Ok(bytes) => return Ok(bytes),
            Err(errors) => tracing::warn!("the PDF is {without}: {}", explain(sheet, &errors)),
        }
    }
    typst_pdf::pdf(pages, &options(PdfStandards::default()))
        .map_err(|errors| MediaError::Setting(explain(sheet, &errors)))
}

/// Releases the typesetter's process-wide caches, which a scheduler would otherwise keep for
/// months.
struct Forgets;

impl Drop for Forgets {
    fn drop(&mut self) {
        typst::comemo::evict(0);
    }
}

/// Returns the first error with its line.
fn explain(sheet: &Sheet, errors: &[SourceDiagnostic]) -> String {
    let Some(error) = errors.first() else {
        return "no reason given".to_owned();
    };
    let place = (error.span.id() == Some(sheet.main()))
        .then(|| sheet.range(error.span))
        .flatten()
        .map(|range| {
            let (number, line) = sheet.line(range.start);
            let line: String = line.trim().chars().take(120).collect();
            format!(" (line {number} of the markup: {line})")
        });
    let hints: String = error.hints.iter().map(|hint| format!("; {}", hint.v)).collect();
    format!("{}{hints}{}", error.message, place.unwrap_or_default())
}

fn timestamp(made_at: UtcMicros) -> Option<Timestamp> {
    let at = jiff::tz::TimeZone::UTC.to_datetime(made_at.timestamp());
    let part = |value: i8| u8::try_from(value).unwrap_or(0);
    Datetime::from_ymd_hms(
        i32::from(at.year()),
        part(at.month()),
        part(at.day()),
        part(at.hour()),
        part(at.minute()),
        part(at.second()),
    )
    .map(Timestamp::new_utc)
}

/// Escapes a text as Typst markup: all markup characters are escaped, and characters missing in all
/// fonts are replaced.
fn escape(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    let mut buffer = [0; 4];
    for c in text.chars().map(shown) {
        if c.is_ascii_punctuation() {
            out.write_all(b"\\")?;
        }
        out.write_all(c.encode_utf8(&mut buffer).as_bytes())?;
    }
    Ok(())
}

/// Returns a text as a string literal of Typst code.
fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars().map(shown) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Returns the replacement of a character: itself, a space for control characters, a box for
/// characters missing in all fonts.
fn shown(c: char) -> char {
    match c {
        c if c.is_ascii_graphic() => c,
        // Direction marks and joiners are invisible but effective.
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' => '\u{200b}',
        c if c.is_whitespace() && c != '\u{a0}' && c != '\u{202f}' => ' ',
        c if c.is_control() => ' ',
        '\u{a0}' | '\u{202f}' => '\u{a0}',
        c if FONTS.cover(c) => c,
        _ => '\u{25a1}',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use typst::layout::{Frame, FrameItem, Point};

    use super::*;
    use crate::{
        document::{Block, Cell, ChartBlock, Column, Row, Table},
        media::{
            Partials, specimen,
            work::{DocumentPage, Work},
        },
        theme::ThemeOptions,
    };
    use mailqos_charts::Chart;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out).expect("memory takes it");
        String::from_utf8(out).expect("UTF-8")
    }

    fn sets(markup: String) -> bool {
        let sheet = Sheet::new(0, markup, BTreeMap::new()).expect("a sheet");
        typst::compile::<PagedDocument>(&sheet).output.is_ok()
    }

    #[test]
    fn the_fonts_are_embedded_and_cover_the_languages() {
        let families: Vec<&str> =
            FONTS.all.iter().map(|font| font.info().family.as_str()).collect();
        assert!(families.contains(&"Inter"), "{families:?}");
        for c in "Aé ΩЖשع東京데ก★▲😀–µ".chars().filter(|c| *c != ' ') {
            assert!(FONTS.cover(c), "{c}");
        }
    }

    const MILLIMETRE: f64 = 72.0 / 25.4;

    /// Lays out blocks as a whole document.
    fn laid_out(blocks: Vec<Block>) -> PagedDocument {
        let document =
            Document { blocks, ..specimen::document(ThemeOptions::default().resolve(), None) };
        let leaf = DocumentPage::whole(&document);
        let page = work::markup(&MEDIUM, &SHOWING, &leaf, None).expect("markup");
        compiled(page.markup, page.files)
    }

    /// Lays out blocks as with a custom partial: all tables are measured.
    fn laid_out_by_measuring(blocks: Vec<Block>) -> PagedDocument {
        let document =
            Document { blocks, ..specimen::document(ThemeOptions::default().resolve(), None) };
        let work = Work::new(&MEDIUM, &SHOWING, &document, None).expect("made ready");
        let partials = Partials::new(&MEDIUM, None).expect("the built-in ones");
        let mut blocks = work.blocks.into_iter().map(Ok);
        let mut files = work.files;
        files.insert("provenance.json".into(), b"{}".to_vec());
        let markup = partials.page(&MEDIUM, None, &work.document, &mut blocks).expect("markup");
        compiled(markup, files)
    }

    fn compiled(markup: String, files: BTreeMap<String, Vec<u8>>) -> PagedDocument {
        let sheet = Sheet::new(0, markup, files).expect("a sheet");
        let set = typst::compile::<PagedDocument>(&sheet);
        set.output.unwrap_or_else(|errors| panic!("{}", explain(&sheet, &errors)))
    }

    /// Tables of rows with one line, two lines, and different lines, which divide or not.
    #[test]
    fn rows_of_known_height_are_set_as_if_they_were_measured() {
        let table = |rows: usize, texts: [&str; 2], detail: &str| {
            let row = |number: usize| Row {
                cells: vec![
                    Cell::text(format!("{} {number}", texts[number % 2])),
                    Cell { detail: detail.to_owned(), ..Cell::number("99.6", Some(99.6)) },
                    Cell::number("1 d 3 h", None),
                ],
                strong: number == 4,
            };
            Block::Table(Table {
                id: format!("table-{rows}"),
                title: "Table".to_owned(),
                subtitle: "Share of all tests".to_owned(),
                columns: vec![
                    Column::text("Monitor"),
                    Column::number("Availability of all", "%"),
                    Column::number("Median", "ms"),
                ],
                rows: (0..rows).map(row).collect(),
                note: "A note".to_owned(),
            })
        };
        let document = specimen::document(ThemeOptions::default().resolve(), None);
        assert_eq!(even::lines(&Table::default(), &document), 0);
        let long = "a monitor with a very long name ".repeat(5);
        for (texts, detail, lines) in [
            (["Lyon", "Örebro–Kiel"], "", 1),
            (["Lyon", "Kiel"], "(99.5–99.7)", 2),
            (["Lyon", long.as_str()], "", 0),
            (["Lyon", "東京"], "", 0),
        ] {
            for rows in [1, 2, 14, 31, 90] {
                let table = table(rows, texts, detail);
                if let Block::Table(table) = &table {
                    let expected = if rows == 1 { lines.max(1) } else { lines };
                    assert_eq!(even::lines(table, &document), expected, "{rows} {texts:?}");
                }
                let blocks = || vec![block(0, 0, 4), block(1, 2, 5), table.clone(), block(3, 0, 2)];
                let (known, measured) = (laid_out(blocks()), laid_out_by_measuring(blocks()));
                let (known, measured) = (places(&known), places(&measured));
                assert_eq!(known.len(), measured.len(), "{rows} {texts:?}");
                for (known, measured) in known.iter().zip(&measured) {
                    let is_same = known.0 == measured.0 && known.2 == measured.2;
                    let apart = known.1 - measured.1;
                    assert!(
                        is_same && apart.x.to_pt().abs() < 0.01 && apart.y.to_pt().abs() < 0.01,
                        "{rows} {texts:?}: {known:?} {measured:?}"
                    );
                }
            }
        }
    }

    /// Returns all texts with their pages and places.
    fn places(document: &PagedDocument) -> Vec<(usize, Point, String)> {
        fn collect(frame: &Frame, at: Point, found: &mut Vec<(Point, String)>) {
            for (place, item) in frame.items() {
                match item {
                    FrameItem::Group(group) => collect(&group.frame, at + *place, found),
                    FrameItem::Text(text) => found.push((at + *place, text.text.to_string())),
                    _ => {}
                }
            }
        }
        let mut all = Vec::new();
        for (number, page) in document.pages().iter().enumerate() {
            let mut found = Vec::new();
            collect(&page.frame, Point::zero(), &mut found);
            all.extend(found.into_iter().map(|(place, text)| (number, place, text)));
        }
        all
    }

    /// Returns how full the pages of blocks are: the share of the space between header and footer
    /// down to the last item.
    fn fullness(blocks: Vec<Block>) -> Vec<f64> {
        let share = |page: &typst_layout::Page| {
            let height = page.frame.height().to_pt();
            let (top, bottom) = (22.0 * MILLIMETRE, height - 20.0 * MILLIMETRE);
            let mut ends = Vec::new();
            bottoms(&page.frame, 0.0, &mut ends);
            let inside = ends.into_iter().filter(|end| (top..bottom + 1.0).contains(end));
            (inside.fold(top, f64::max) - top) / (bottom - top)
        };
        laid_out(blocks).pages().iter().map(share).collect()
    }

    /// Returns the ends of texts and images, from the top of the page.
    fn bottoms(frame: &Frame, above: f64, ends: &mut Vec<f64>) {
        for (place, item) in frame.items() {
            let y = above + place.y.to_pt();
            match item {
                FrameItem::Group(group) => bottoms(&group.frame, y, ends),
                FrameItem::Text(_) => ends.push(y),
                FrameItem::Image(_, size, _) => ends.push(y + size.y.to_pt()),
                _ => {}
            }
        }
    }

    /// Returns a chart 720 pixels wide.
    fn chart(number: usize, height: u32) -> Block {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\"><path d=\"M0 0h720v{height}\"/></svg>"
        );
        let chart = Chart {
            svg,
            width: 720,
            height,
            title: format!("Chart {number}"),
            subtitle: "Subtitle of the chart".to_owned(),
            alternative: "Description of the chart".to_owned(),
            ..Chart::default()
        };
        let id = format!("chart-{number}");
        Block::Chart(ChartBlock { id, chart })
    }

    /// Returns a chart of this height in pixels, a table with this many rows, or a paragraph.
    fn block(number: usize, kind: usize, size: usize) -> Block {
        match kind {
            0 => chart(number, 100 + 60 * size as u32),
            1 => Block::Table(Table {
                id: format!("table-{number}"),
                title: format!("Table {number}"),
                columns: vec![Column::text("Monitor"), Column::number("Median", "ms")],
                rows: (0..1 + 3 * size)
                    .map(|row| Row {
                        cells: vec![
                            Cell::text(format!("monitor {row}")),
                            Cell::number("240", Some(240.0)),
                        ],
                        strong: false,
                    })
                    .collect(),
                ..Table::default()
            }),
            _ => Block::paragraph("What is said of it takes a line or two. ".repeat(1 + size)),
        }
    }

    #[test]
    fn a_few_rows_get_no_separate_page() {
        // Two charts and a table slightly too long for the page.
        let spilled =
            |rows: usize| fullness(vec![block(0, 0, 5), block(1, 0, 4), block(2, 1, rows)]);
        for rows in 1..8 {
            let pages = spilled(rows);
            assert!(pages.len() == 1 || pages[1] >= 0.12, "{rows}: {pages:?}");
        }
    }

    /// Some rows have three lines, so the average row height is a poor estimate for dividing a
    /// table.
    #[test]
    fn rows_of_different_heights_leave_no_short_page_in_between() {
        for above in 0..6 {
            let mut table = block(2, 1, 14);
            if let Block::Table(table) = &mut table {
                for row in table.rows.iter_mut().take(8) {
                    row.cells[0] = Cell::text("a monitor with a very long name ".repeat(8));
                }
            }
            let pages = fullness(vec![block(0, 0, 5), block(1, 2, 1 + 2 * above), table]);
            let (_, whole) = pages.split_last().expect("a page");
            assert!(whole.iter().all(|share| *share >= 0.4), "{above}: {pages:?}");
        }
    }

    /// Two hundred monitors, `trend`: twelve findings before calendars of a page each.
    #[test]
    fn text_before_a_chart_as_tall_as_a_page_leaves_no_short_page() {
        for lines in (1..60).step_by(7) {
            let text = vec![block(0, 0, 5), block(1, 0, 4), block(2, 2, 4), block(3, 2, lines)];
            let pages = fullness([text, vec![chart(4, 980), chart(5, 980)]].concat());
            assert!(
                pages[..pages.len() - 1].iter().all(|share| *share >= 0.4),
                "{lines}: {pages:?}"
            );
        }
    }

    #[test]
    fn a_chart_taller_than_a_page_is_drawn_smaller() {
        let tall = || vec![chart(0, 1400), chart(1, 1400)];
        for blocks in [tall()[..1].to_vec(), tall(), [vec![block(2, 2, 3)], tall()].concat()] {
            let (charts, pages) = (blocks.len(), laid_out(blocks));
            // The first page begins with the headline.
            assert!(pages.pages().len() <= charts + 1, "{} pages", pages.pages().len());
            for page in pages.pages() {
                let mut ends = Vec::new();
                images(&page.frame, 0.0, &mut ends);
                let bottom = page.frame.height().to_pt() - 20.0 * MILLIMETRE;
                assert!(ends.iter().all(|end| *end <= bottom + 1.0), "{ends:?} of {bottom}");
            }
        }
    }

    /// PgBiel/typst-tablex#12, wkhtmltopdf/wkhtmltopdf#2643: the header of a table was alone at the
    /// end of a page.
    #[test]
    fn no_table_header_is_alone_on_a_page() {
        for above in 0..9 {
            let blocks = vec![block(0, 0, 6), block(1, 2, 3 * above), block(2, 1, 7)];
            for page in laid_out(blocks).pages() {
                let mut words = Vec::new();
                texts(&page.frame, &mut words);
                let count =
                    |begin: &str| words.iter().filter(|word| word.starts_with(begin)).count();
                let (heads, rows) = (count("Monitor"), count("monitor"));
                assert!(heads == 0 || rows >= 3, "{above}: {heads} heads, {rows} rows");
            }
        }
    }

    fn texts(frame: &Frame, words: &mut Vec<String>) {
        for (_, item) in frame.items() {
            match item {
                FrameItem::Group(group) => texts(&group.frame, words),
                FrameItem::Text(text) => words.push(text.text.to_string()),
                _ => {}
            }
        }
    }

    /// Returns the ends of images, from the top of the page.
    fn images(frame: &Frame, above: f64, ends: &mut Vec<f64>) {
        for (place, item) in frame.items() {
            let y = above + place.y.to_pt();
            match item {
                FrameItem::Group(group) => images(&group.frame, y, ends),
                FrameItem::Image(_, size, _) => ends.push(y + size.y.to_pt()),
                _ => {}
            }
        }
    }

    #[test]
    fn a_few_lines_get_no_separate_page() {
        // Only text, so smaller charts can't make room.
        let spilled = |lines: usize| {
            let paragraphs =
                (0..12).map(|number| block(number, 2, if number == 11 { lines } else { 9 }));
            fullness(paragraphs.collect())
        };
        for lines in (0..60).step_by(3) {
            let pages = spilled(lines);
            assert!(pages.len() == 1 || pages[1] >= 0.06, "{lines}: {pages:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn only_the_last_page_of_a_chapter_may_be_nearly_empty(
            kinds in proptest::collection::vec((0_usize..3, 0_usize..8), 2..14),
        ) {
            let blocks = kinds.iter().enumerate().map(|(number, (kind, size))| block(number, *kind, *size));
            let pages = fullness(blocks.collect());
            let (_, whole) = pages.split_last().expect("a page");
            // Charts of half a page each leave at most this much.
            prop_assert!(whole.iter().all(|share| *share >= 0.4), "{pages:?} of {kinds:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_sets_as_text(text in any::<String>()) {
            let markup = format!("{}\n#text({})", escaped(&text), literal(&text));
            prop_assert!(sets(markup));
        }

        #[test]
        fn markup_in_a_name_is_shown_not_run(text in "[#\\[\\]{}$*_`\"\\\\/<>@=+\\-~.:0-9a-z\n ]{0,40}") {
            let markup = format!("#table([{}])", escaped(&text));
            prop_assert!(sets(markup));
        }
    }
}
