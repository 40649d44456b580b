//! PDF: Tera partials make Typst markup, Typst sets it. Tagged (PDF/UA-1 where the content allows), fonts embedded, charts as vectors.

mod fonts;
mod world;

use std::{collections::BTreeMap, io::Write, path::Path};

use mailqos_core::model::UtcMicros;
use tera::{Kwargs, State};
use typst::{World as _, WorldExt as _, diag::SourceDiagnostic, foundations::Datetime};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

use super::{
    MediaError, Medium,
    work::{Showing, Work},
};
use crate::{report::document::Document, timing};
pub(super) use fonts::DRAWN;
use fonts::FONTS;

use world::Sheet;

pub(super) static MEDIUM: Medium = Medium {
    name: "pdf",
    extension: "typ",
    escape,
    filters: |tera| tera.register_filter("string", |text: &str, _: Kwargs, _: &State<'_>| literal(text)),
    built_in: partials!("pdf", "typ"),
};

static SHOWING: Showing = Showing {
    source: |picture| Ok(picture.name.clone()),
    drawn: None,
    drawings: false,
    files: true,
};

/// The bundled fonts, as files; for drawings, which have the first ones in a shape that is faster to set.
pub(super) fn drawn_font_files() -> impl Iterator<Item = &'static [u8]> {
    let drawn = fonts::DRAWN_FILES.iter().map(Vec::as_slice);
    drawn.chain(fonts::FILES.into_iter().skip(fonts::DRAWN_FILES.len()))
}

/// The document as a PDF; `own` is the folder of the user's templates.
///
/// # Errors
/// A user's partial is wrong, or Typst can't set what it made.
pub fn render(document: &Document, own: Option<&Path>) -> Result<Vec<u8>, MediaError> {
    Work::new(&MEDIUM, &SHOWING, document, own)?.done(&MEDIUM)
}

/// Sets the markup; `files` are the charts, pictures and fonts that it names, `made_at` is in microseconds since 1970.
pub(super) fn compile(
    markup: String,
    files: BTreeMap<String, Vec<u8>>,
    producer: &str,
    made_at: i64,
) -> Result<Vec<u8>, MediaError> {
    let sheet = Sheet::new(markup, files).ok_or_else(|| MediaError::Setting("no place for the markup".into()))?;
    let compiled = timing::told("pdf layout", || typst::compile::<PagedDocument>(&sheet));
    for warning in &compiled.warnings {
        tracing::debug!("typst: {}", warning.message);
    }
    let pages = compiled
        .output
        .map_err(|errors| MediaError::Setting(explain(&sheet, &errors)))?;
    let options = |standards| PdfOptions {
        creator: typst::foundations::Smart::Custom(Some(producer.to_owned())),
        timestamp: timestamp(UtcMicros(made_at)),
        standards,
        ..PdfOptions::default()
    };
    // Accessible and archivable; what a layout or a name makes impossible is said, and given up.
    for (wanted, without) in [
        (&[PdfStandard::A_3a, PdfStandard::Ua_1][..], "not archivable (PDF/A-3a)"),
        (&[PdfStandard::Ua_1][..], "tagged, but not accessible by PDF/UA-1"),
    ] {
        let Ok(standards) = PdfStandards::new(wanted) else {
            continue;
        };
        match typst_pdf::pdf(&pages, &options(standards)) {
            Ok(bytes) => return Ok(bytes),
            Err(errors) => tracing::warn!("the PDF is {without}: {}", explain(&sheet, &errors)),
        }
    }
    typst_pdf::pdf(&pages, &options(PdfStandards::default()))
        .map_err(|errors| MediaError::Setting(explain(&sheet, &errors)))
}

/// The first error with its line.
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

/// Text as Typst markup that shows just that text: everything that could be markup is escaped, what no font has is replaced.
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

/// Text as a string literal of Typst code.
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

/// What stands for a character: itself, a space for what is no sign, a box for what no font has.
fn shown(c: char) -> char {
    match c {
        c if c.is_ascii_graphic() => c,
        // Directions and joiners are no signs of their own, and do their work unseen.
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
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out).expect("memory takes it");
        String::from_utf8(out).expect("UTF-8")
    }

    fn sets(markup: String) -> bool {
        let sheet = Sheet::new(markup, BTreeMap::new()).expect("a sheet");
        typst::compile::<PagedDocument>(&sheet).output.is_ok()
    }

    #[test]
    fn the_fonts_are_there_and_broad() {
        let families: Vec<&str> = FONTS.all.iter().map(|font| font.info().family.as_str()).collect();
        assert!(families.contains(&"Inter"), "{families:?}");
        for c in "Aé ΩЖשع東京데ก★▲😀–µ".chars().filter(|c| *c != ' ') {
            assert!(FONTS.cover(c), "{c}");
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
