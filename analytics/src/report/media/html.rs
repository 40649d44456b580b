//! HTML: one self-contained file, charts as inline SVG, pictures and fonts as data URIs.

use std::{io::Write as _, ops::Range, path::Path};

use serde_json::{Map, Value, json};

use super::{
    MediaError, Medium, data_uri, one_by_one,
    work::{self, Leaf, Showing},
};
use crate::{
    parallel,
    report::document::{Block, Document},
};

pub(super) static MEDIUM: Medium = Medium {
    name: "html",
    extension: "html",
    escape: tera::escape_html,
    filters: |_| {},
    built_in: partials!("html", "html", "style", "script"),
    fonts,
    compose: one_by_one,
};

pub(super) static SHOWING: Showing = Showing {
    source: |picture| Ok(data_uri(picture.media_type, &picture.bytes)),
    drawn: None,
    drawings: true,
    files: false,
};

/// The page of a document; `own` is the folder of the user's templates.
///
/// # Errors
/// A user's partial is wrong.
pub fn render(document: &Document, own: Option<&Path>) -> Result<String, MediaError> {
    let page = work::page(&MEDIUM, &SHOWING, &Leaf::whole(document), own)?;
    String::from_utf8(page).map_err(|error| MediaError::Template(error.to_string()))
}

/// A chapter that begins on a page of its own.
#[derive(Debug)]
pub struct Chapter<'a> {
    /// Its heading.
    pub title: &'a str,
    /// The heading's id.
    pub id: &'a str,
    /// Where its blocks are in the document, the heading and what it begins with left out.
    blocks: Range<usize>,
}

/// The chapters of a document that begin on a page of their own.
pub fn chapters(document: &Document) -> Vec<Chapter<'_>> {
    let mut chapters: Vec<Chapter<'_>> = Vec::new();
    for (at, pair) in document.blocks.windows(2).enumerate() {
        if let [Block::PageBreak, Block::Heading { level: 1, text, id }] = pair {
            if let Some(last) = chapters.last_mut() {
                last.blocks.end = at;
            }
            chapters.push(Chapter {
                title: text,
                id,
                blocks: at + 2..document.blocks.len(),
            });
        }
    }
    chapters
}

/// The file with the fonts of all pages of an archive: a page opened from a folder may use a style sheet beside it, but not
/// everywhere a font.
const FONT_FILE: &str = "fonts.css";
/// The page of an archive that leads to the others.
const INDEX: &str = "index.html";

/// A page for each chapter of a document, and one that leads to them, in an archive (zip) with a folder of that name.
///
/// # Errors
/// A user's partial is wrong.
pub fn archive(document: &Document, own: Option<&Path>, folder: &str) -> Result<Vec<u8>, MediaError> {
    let chapters = chapters(document);
    let file = |chapter: &Chapter<'_>| format!("{}.html", chapter.id);
    let leaf = |chapter: Option<&Chapter<'_>>| {
        let mut instead = Map::from_iter([("font_file".to_owned(), FONT_FILE.into())]);
        let blocks = match chapter {
            Some(chapter) => {
                instead.insert("headline".to_owned(), chapter.title.into());
                instead.insert("lead".to_owned(), "".into());
                instead.insert("index".to_owned(), INDEX.into());
                // The first page has it of all.
                instead.insert("provenance_json".to_owned(), "".into());
                chapter.blocks.clone()
            }
            None => {
                let list = chapters
                    .iter()
                    .map(|chapter| json!({"text": chapter.title, "file": file(chapter)}));
                instead.insert("chapters".to_owned(), list.collect());
                // A chapter begins with its page break and its heading.
                0..chapters
                    .first()
                    .map_or(document.blocks.len(), |first| first.blocks.start - 2)
            }
        };
        Leaf {
            document,
            blocks: document.blocks.get(blocks).unwrap_or_default(),
            instead,
        }
    };
    let packed = |error: zip::result::ZipError| MediaError::Data(error.to_string());
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("{folder}/{name}"), zip::write::SimpleFileOptions::default())?;
        archive.write_all(bytes).map_err(zip::result::ZipError::from)
    };
    let mut parts: Vec<bool> = PARTS.iter().map(|_| false).collect();
    let mut all: Vec<Option<&Chapter<'_>>> = vec![None];
    all.extend(chapters.iter().map(Some));
    // Few at a time: all pages together would fill the memory.
    for some in all.chunks(16) {
        let pages = parallel::map(some, |chapter| work::page(&MEDIUM, &SHOWING, &leaf(*chapter), own));
        for (chapter, page) in some.iter().zip(pages) {
            let page = page?;
            let text = String::from_utf8_lossy(&page);
            for (needed, part) in parts.iter_mut().zip(&PARTS) {
                *needed |= text.chars().any(part.has);
            }
            let name = chapter.map_or_else(|| INDEX.to_owned(), file);
            add(&name, &page).map_err(packed)?;
        }
    }
    let rules: String = PARTS
        .iter()
        .zip(parts)
        .filter(|(_, needed)| *needed)
        .flat_map(|(part, _)| part.rules())
        .collect();
    add(FONT_FILE, rules.as_bytes()).map_err(packed)?;
    Ok(archive.finish().map_err(packed)?.into_inner())
}

/// A part of the characters of a font, as a file.
struct Part {
    /// Those that it has, as a style sheet says it.
    range: &'static str,
    /// The same.
    has: fn(char) -> bool,
    regular: &'static [u8],
    semi_bold: &'static [u8],
}

impl Part {
    /// Its rules in a style sheet.
    fn rules(&self) -> [String; 2] {
        [(400, self.regular), (600, self.semi_bold)].map(|(weight, file)| {
            format!(
                "@font-face {{ font-family: \"Report\"; font-weight: {weight}; unicode-range: {}; src: url({}) format(\"woff2\"); }}\n",
                self.range,
                data_uri("font/woff2", file)
            )
        })
    }
}

macro_rules! part {
    ($name:literal, $range:literal, $has:expr) => {
        Part {
            range: $range,
            has: $has,
            regular: include_bytes!(concat!("../../../assets/fonts/web/Inter-Regular-", $name, ".woff2")),
            semi_bold: include_bytes!(concat!("../../../assets/fonts/web/Inter-SemiBold-", $name, ".woff2")),
        }
    };
}

/// Inter in parts, made by `assets/fonts/web/make.py`: a page looks the same on every machine, and labels of charts have the
/// widths that they were measured with. What none of them has is shown in a font of the reader's.
static PARTS: [Part; 4] = [
    part!(
        "latin",
        "U+20-FF, U+131, U+152-153, U+160-161, U+178, U+17D-17E, U+192, U+2000-25FF",
        |_| true
    ),
    part!(
        "latin-ext",
        "U+100-130, U+132-151, U+154-15F, U+162-177, U+179-17C, U+17F-191, U+193-24F, U+259, U+1E00-1EFF",
        |c| matches!(c, '\u{100}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' if !"ıŒœŠšŸŽžƒ".contains(c))
    ),
    part!("greek", "U+370-3FF", |c| matches!(c, '\u{370}'..='\u{3ff}' if c != 'µ')),
    part!("cyrillic", "U+400-52F", |c| matches!(c, '\u{400}'..='\u{52f}')),
];

/// The parts of the font that texts need, for both weights.
fn fonts(texts: &[&str]) -> Value {
    let needed = |part: &&Part| texts.iter().any(|text| text.chars().any(part.has));
    let faces = PARTS.iter().filter(needed).flat_map(|part| {
        [(400, part.regular), (600, part.semi_bold)].map(
            |(weight, file)| json!({"weight": weight, "range": part.range, "source": data_uri("font/woff2", file)}),
        )
    });
    faces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{media::specimen, provenance::Provenance, theme::ThemeOptions};

    /// A document of three chapters, of which the first is the opening.
    fn chaptered() -> Document {
        let mut document = specimen::document(ThemeOptions::default().resolve(), None);
        for (id, text) in [("monitor-lyon", "Lyon <plant>"), ("monitor-lodz", "Łódź")] {
            let (id, text) = (id.to_owned(), text.to_owned());
            document.blocks.push(Block::PageBreak);
            document.blocks.push(Block::Heading { level: 1, text, id });
            document
                .blocks
                .push(Block::paragraph(format!("What is said of {}", "it")));
        }
        document
    }

    #[test]
    fn an_archive_has_a_page_for_each_chapter_and_one_that_leads_to_them() {
        let document = chaptered();
        assert_eq!(
            chapters(&document).len(),
            2,
            "the page break before a table begins no chapter"
        );
        let bytes = archive(&document, None, "report-2026-10").expect("an archive");
        let found = Provenance::find(&bytes).expect("says what it was made from");
        assert_eq!(found, document.provenance);
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).expect("a zip file");
        let mut page = |name: &str| {
            let mut text = String::new();
            let mut file = archive.by_name(&format!("report-2026-10/{name}")).expect(name);
            std::io::Read::read_to_string(&mut file, &mut text).expect("text");
            text
        };
        let index = page("index.html");
        assert!(
            index.contains("<a href=\"monitor-lyon.html\">Lyon &lt;plant&gt;</a>"),
            "{index}"
        );
        assert!(index.contains("A table") && !index.contains("What is said of it"));
        let lyon = page("monitor-lyon.html");
        assert!(lyon.contains("<h1>Lyon &lt;plant&gt;</h1>") && lyon.contains("What is said of it"));
        assert!(lyon.contains("href=\"index.html\"") && lyon.contains("href=\"fonts.css\""));
        assert!(!lyon.contains("data:font"), "fonts are there once");
        let fonts = page("fonts.css");
        assert_eq!(fonts.matches("@font-face").count(), 4, "Latin, and what Łódź needs");
    }

    #[test]
    fn a_page_embeds_the_parts_of_the_font_that_it_needs() {
        let parts = |text: &str| fonts(&[text]).as_array().map_or(0, Vec::len) / 2;
        assert_eq!(parts("Round trip ≤ 30 s – 99.9 %, µs, Überlingen"), 1);
        assert_eq!(parts("Łódź"), 2);
        assert_eq!(parts("Łódź, Αθήνα, Москва"), 4);
        assert_eq!(parts("東京"), 1, "what Inter lacks needs no part");
        // Without much else to say, a page with its fonts is smaller than a photograph of it.
        assert!(fonts(&["Lyon"]).to_string().len() < 45_000);
    }
}
