//! The fonts of the PDF: bundled, so that a report looks the same on every machine and no name breaks.

use std::sync::LazyLock;

use typst::{
    foundations::Bytes,
    text::{Font, FontBook},
    utils::LazyHash,
};

macro_rules! fonts {
    ($($file:literal),+ $(,)?) => {
        [$(include_bytes!(concat!("../../../../assets/fonts/", $file)) as &[u8]),+]
    };
}

/// Text first, then what covers the scripts and signs that it lacks.
pub(in crate::report::media) static FILES: [&[u8]; 12] = fonts![
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

/// The bundled fonts.
pub(super) struct Fonts {
    /// In the order of preference.
    pub(super) all: Vec<Font>,
    /// What Typst looks them up in.
    pub(super) book: LazyHash<FontBook>,
}

/// The bundled fonts, read once.
pub(super) static FONTS: LazyLock<Fonts> = LazyLock::new(|| {
    let all: Vec<Font> = FILES.iter().flat_map(|file| Font::iter(Bytes::new(*file))).collect();
    Fonts {
        book: LazyHash::new(FontBook::from_fonts(&all)),
        all,
    }
});

impl Fonts {
    /// Whether some font has a sign for a character.
    pub(super) fn cover(&self, c: char) -> bool {
        self.all.iter().any(|font| font.info().coverage.contains(c as u32))
    }
}
