//! Bundled fonts of the PDF, so that a report looks the same on every machine and every name can be
//! shown.

use std::sync::LazyLock;

use typst::{
    foundations::Bytes,
    text::{Font, FontBook, FontInfo},
    utils::LazyHash,
};

use crate::media::DRAWN;

macro_rules! fonts {
    ($($file:literal),+ $(,)?) => {
        [$(include_bytes!(concat!("../../../assets/fonts/", $file)) as &[u8]),+]
    };
}

/// The text font first, then fonts for other scripts and symbols.
pub(in crate::media) static FILES: [&[u8]; 12] = fonts![
    "Inter-Regular.otf",
    "Inter-SemiBold.otf",
    "Inter-Italic.otf",
    "NotoSans-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "NotoSansSymbols2-Regular.ttf",
    "DroidSansFallbackFull.ttf",
    "NanumGothicCoding.ttf",
    "Symbola.ttf",
];

/// Tables with these rules (OpenType 1.9: GDEF, GPOS, GSUB).
const RULES: [&[u8; 4]; 3] = [b"GDEF", b"GPOS", b"GSUB"];

/// Fonts of [`DRAWN`]: regular and semi-bold.
pub(in crate::media) static DRAWN_FILES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    [FILES[0], FILES[1]].map(|file| without(file, &RULES).unwrap_or_else(|| file.to_vec()))
});

/// Returns a font without some of its tables (OpenType 1.9, Organization of an OpenType Font);
/// `None` if it is not a valid font.
fn without(font: &[u8], tables: &[&[u8; 4]]) -> Option<Vec<u8>> {
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize);
    let count = u16::from_be_bytes(font.get(4..6)?.try_into().ok()?);
    let records: Vec<&[u8]> = font
        .get(12..12 + 16 * usize::from(count))?
        .chunks_exact(16)
        .filter(|record| !tables.iter().any(|table| record.starts_with(*table)))
        .collect();
    let kept = u16::try_from(records.len()).ok()?;
    let power = kept.checked_ilog2()?;
    let range = 16_u16.checked_shl(power)?;
    let mut head = font.get(..4)?.to_vec();
    for value in [kept, range, power as u16, (16 * kept).checked_sub(range)?] {
        head.extend(value.to_be_bytes());
    }
    let begin = 12 + 16 * records.len();
    let mut bodies = Vec::with_capacity(font.len());
    for record in records {
        let (from, length) = (number(&record[8..12])?, number(&record[12..])?);
        head.extend(&record[..8]);
        head.extend(u32::try_from(begin + bodies.len()).ok()?.to_be_bytes());
        head.extend(&record[12..]);
        bodies.extend(font.get(from..from.checked_add(length)?)?);
        bodies.resize(bodies.len().next_multiple_of(4), 0);
    }
    head.extend(bodies);
    Some(head)
}

/// The bundled fonts.
pub(super) struct Fonts {
    /// Fonts in order of preference.
    pub(super) all: Vec<Font>,
    /// Font book of Typst, in the same order.
    infos: Vec<FontInfo>,
}

/// Returns the bundled fonts, which are read once.
pub(super) static FONTS: LazyLock<Fonts> = LazyLock::new(|| {
    let mut all: Vec<Font> = FILES.iter().flat_map(|file| Font::iter(Bytes::new(*file))).collect();
    let mut infos: Vec<FontInfo> = all.iter().map(|font| font.info().clone()).collect();
    for font in DRAWN_FILES.iter().flat_map(|file| Font::iter(Bytes::new(file.as_slice()))) {
        infos.push(FontInfo { family: DRAWN.to_owned(), ..font.info().clone() });
        all.push(font);
    }
    Fonts { all, infos }
});

impl Fonts {
    /// Returns the font book, extended by custom fonts.
    pub(super) fn book(&self, own: &[Font]) -> LazyHash<FontBook> {
        let mut book = FontBook::new();
        self.infos.iter().cloned().for_each(|info| book.push(info));
        own.iter().for_each(|font| book.push(font.info().clone()));
        LazyHash::new(book)
    }

    /// Returns whether any font has a glyph for a character.
    pub(super) fn cover(&self, c: char) -> bool {
        self.all.iter().any(|font| font.info().coverage.contains(c as u32))
    }
}

#[cfg(test)]
mod tests {
    use typst::{
        layout::Abs,
        text::{FontInstance, FontVariations},
    };

    use super::*;

    #[test]
    fn what_charts_are_set_in_has_the_signs_and_widths_of_inter_and_no_rules() {
        for (whole, drawn) in FILES.iter().zip(DRAWN_FILES.iter()) {
            let open = |bytes: Bytes| {
                let font = Font::new(bytes, 0).expect("a font");
                let variant = font.info().variant;
                font.instantiate(variant, Abs::pt(10.0), &FontVariations::default())
            };
            let (whole, drawn) = (open(Bytes::new(*whole)), open(Bytes::new(drawn.as_slice())));
            let has_rules = |font: &FontInstance| {
                let tables = font.ttf().tables();
                tables.gsub.is_some() || tables.gpos.is_some() || tables.gdef.is_some()
            };
            assert!(has_rules(&whole) && !has_rules(&drawn));
            for c in "AZaz09 ÄßéΩж%–µ→".chars() {
                let width = |font: &FontInstance| font.x_advance(font.ttf().glyph_index(c)?.0);
                assert!(width(&whole).is_some(), "{c}");
                assert_eq!(width(&whole), width(&drawn), "{c}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_a_font_is_unchanged() {
        assert_eq!(without(b"OTTO", &RULES), None);
        assert_eq!(without(&[0xff; 64], &RULES), None);
        assert_eq!(without(&FILES[0][..1000], &RULES), None);
    }
}
