//! HTML: one self-contained file, with charts as inline SVG, and images and fonts as data URIs.

use std::{collections::BTreeMap, io::Write as _, ops::Range, path::Path};

use mailqos_lake_tables::parallel;
use serde_json::{Map, Value, json};
use tera::{Kwargs, State};

use super::{
    MediaError, Medium, data_uri, one_by_one,
    work::{self, DocumentPage, Representation},
};
use crate::document::{Block, Document, walk};

pub(super) static MEDIUM: Medium = Medium {
    name: "html",
    extension: "html",
    escape: tera::escape_html,
    filters: |tera| {
        tera.register_filter("short", |value: f64, _: Kwargs, _: &State<'_>| short(value))
    },
    built_in: partials!("html", "html", "style", "script"),
    fonts,
    compose: one_by_one,
    finish: |page| Ok(page.markup.into_bytes()),
};

pub(super) static SHOWING: Representation = Representation {
    source: |picture| Ok(data_uri(picture.media_type, &picture.bytes)),
    drawn: None,
    drawings: true,
    files: false,
    row_lines: |_, _| 0,
};

/// Formats a number for sorting: as exact as any displayed one, without needless digits.
fn short(value: f64) -> String {
    let digits = format!("{value:.8e}");
    digits.parse::<f64>().map_or(digits, |rounded| rounded.to_string())
}

/// Renders the page of a document; `own` is the folder of custom templates.
///
/// # Errors
/// A custom partial is invalid.
pub fn render(document: &Document, own: Option<&Path>) -> Result<String, MediaError> {
    let page = work::page(&MEDIUM, &SHOWING, &DocumentPage::whole(document), own)?;
    String::from_utf8(page).map_err(|error| MediaError::Template(error.to_string()))
}

/// Renders the blocks of a document without the page around them, by the built-in partials.
///
/// # Errors
/// A block can't be rendered.
pub fn fragment(document: &Document) -> Result<String, MediaError> {
    let leaf = DocumentPage::whole(document);
    work::fragment(&MEDIUM, &SHOWING, &leaf)
}

/// A font file of web pages.
#[derive(Debug, Clone, Copy)]
pub struct WebFont {
    /// Weight of the font: 400 or 600.
    pub weight: u16,
    /// Characters of the font, as a `unicode-range`.
    pub range: &'static str,
    /// The file, in WOFF2.
    pub bytes: &'static [u8],
}

/// Returns the font files of all pages, for pages that are served with separate files.
pub fn web_fonts() -> impl Iterator<Item = WebFont> {
    PARTS.iter().flat_map(|part| {
        [(400, part.regular), (600, part.semi_bold)].map(|(weight, bytes)| WebFont {
            weight,
            range: part.range,
            bytes,
        })
    })
}

/// A chapter that starts on a new page.
#[derive(Debug)]
pub struct Chapter<'a> {
    /// Heading of the chapter.
    pub title: &'a str,
    /// Id of the heading.
    pub id: &'a str,
    /// Range of its blocks in the document, without the page break and the heading.
    pub(crate) blocks: Range<usize>,
}

/// Returns the chapters of a document that start on a new page.
pub fn chapters(document: &Document) -> Vec<Chapter<'_>> {
    let mut chapters: Vec<Chapter<'_>> = Vec::new();
    for (at, pair) in document.blocks.windows(2).enumerate() {
        if let [Block::PageBreak, Block::Heading { level: 1, text, id }] = pair {
            if let Some(last) = chapters.last_mut() {
                last.blocks.end = at;
            }
            chapters.push(Chapter { title: text, id, blocks: at + 2..document.blocks.len() });
        }
    }
    chapters
}

/// Style sheet with the fonts of all pages of an archive: a page opened from a folder may load a
/// style sheet next to it but, in some browsers, not a font.
const FONT_FILE: &str = "fonts.css";
/// Index page of an archive.
const INDEX: &str = "index.html";

/// Renders a page for each chapter of a document and an index page, as a ZIP archive with a folder
/// of the given name.
///
/// # Errors
/// A custom partial is invalid.
pub fn archive(
    document: &Document,
    own: Option<&Path>,
    folder: &str,
) -> Result<Vec<u8>, MediaError> {
    let chapters = chapters(document);
    let file = |chapter: &Chapter<'_>| format!("{}.html", chapter.id);
    let leaf = |chapter: Option<&Chapter<'_>>| {
        let mut instead = Map::from_iter([("font_file".to_owned(), FONT_FILE.into())]);
        let blocks = match chapter {
            Some(chapter) => {
                instead.insert("headline".to_owned(), chapter.title.into());
                instead.insert("lead".to_owned(), "".into());
                instead.insert("index".to_owned(), INDEX.into());
                // The index page contains the provenance of all pages.
                instead.insert("provenance_json".to_owned(), "".into());
                if let Some(head) = document.chapters.get(chapter.id) {
                    instead.insert("scope".to_owned(), head.scope.clone().into());
                    instead.insert("notes".to_owned(), json!(head.notes));
                }
                chapter.blocks.clone()
            }
            None => {
                let list = chapters
                    .iter()
                    .map(|chapter| json!({"text": chapter.title, "file": file(chapter)}));
                instead.insert("chapters".to_owned(), list.collect());
                // A chapter starts with its page break and its heading.
                0..chapters.first().map_or(document.blocks.len(), |first| first.blocks.start - 2)
            }
        };
        DocumentPage { document, blocks: document.blocks.get(blocks).unwrap_or_default(), instead }
    };
    let homes = homes(document, &chapters, &file);
    let packed = |error: zip::result::ZipError| MediaError::Data(error.to_string());
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("{folder}/{name}"), zip::write::SimpleFileOptions::default())?;
        archive.write_all(bytes).map_err(zip::result::ZipError::from)
    };
    let mut parts: Vec<bool> = PARTS.iter().map(|_| false).collect();
    let mut all: Vec<Option<&Chapter<'_>>> = vec![None];
    all.extend(chapters.iter().map(Some));
    // Only a few pages at a time, to save memory.
    for some in all.chunks(16) {
        let pages =
            parallel::map(some, |chapter| work::page(&MEDIUM, &SHOWING, &leaf(*chapter), own));
        for (chapter, page) in some.iter().zip(pages) {
            let name = chapter.map_or_else(|| INDEX.to_owned(), file);
            let page = page?;
            let text = linked(&String::from_utf8_lossy(&page), &name, &homes);
            for (needed, part) in parts.iter_mut().zip(&PARTS) {
                *needed |= text.chars().any(part.has);
            }
            add(&name, text.as_bytes()).map_err(packed)?;
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

/// Returns the page of each id of an archive, and the link target on that page.
type Homes<'a> = BTreeMap<&'a str, (String, String)>;

fn homes<'a>(
    document: &'a Document,
    chapters: &[Chapter<'a>],
    file: &impl Fn(&Chapter<'_>) -> String,
) -> Homes<'a> {
    let mut homes = Homes::new();
    let mut add = |blocks: Range<usize>, page: &str| {
        for block in walk(document.blocks.get(blocks).unwrap_or_default()) {
            let id = match block {
                Block::Heading { id, .. } => id,
                Block::Table(table) => &table.id,
                Block::Chart(chart) => &chart.id,
                Block::Transcript(transcript) => &transcript.id,
                _ => continue,
            };
            homes.insert(id, (page.to_owned(), format!("{page}#{id}")));
        }
    };
    let first = chapters.first().map_or(document.blocks.len(), |first| first.blocks.start);
    add(0..first, INDEX);
    for chapter in chapters {
        add(chapter.blocks.clone(), &file(chapter));
    }
    for chapter in chapters {
        // Its heading is that of its page.
        homes.insert(chapter.id, (file(chapter), file(chapter)));
    }
    homes
}

/// Rewrites the links of a page of an archive that refer to other pages.
fn linked(page: &str, name: &str, homes: &Homes<'_>) -> String {
    const LINK: &str = "href=\"#";
    let mut parts = page.split(LINK);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (id, rest) = part.split_once('"').unwrap_or((part, ""));
        match homes.get(id).filter(|(home, _)| home != name) {
            Some((_, target)) => text.push_str(&format!("href=\"{target}\"")),
            None => text.push_str(&format!("{LINK}{id}\"")),
        }
        text.push_str(rest);
    }
    text
}

/// A subset of a font.
struct Part {
    /// Its characters, as a `unicode-range`.
    range: &'static str,
    /// Its characters, as ranges.
    has: fn(char) -> bool,
    regular: &'static [u8],
    semi_bold: &'static [u8],
}

impl Part {
    /// Returns its `@font-face` rules.
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
            regular: include_bytes!(concat!(
                "../../assets/fonts/web/Inter-Regular-",
                $name,
                ".woff2"
            )),
            semi_bold: include_bytes!(concat!(
                "../../assets/fonts/web/Inter-SemiBold-",
                $name,
                ".woff2"
            )),
        }
    };
}

/// Subsets of Inter, generated by `assets/fonts/web/make.py`, so that a page looks the same on
/// every machine and chart labels have their measured widths. Characters missing in all subsets use
/// a font of the reader's machine.
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

/// Returns the font subsets that texts need, for both weights.
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
    use crate::{
        document::{Head, Span},
        media::specimen,
        provenance::Provenance,
        theme::ThemeOptions,
    };

    /// Returns a document with three chapters, the first of which is the opening.
    fn chaptered() -> Document {
        let mut document = specimen::document(ThemeOptions::default().resolve(), None);
        let head = |scope: &str| Head { scope: scope.to_owned(), notes: Vec::new() };
        document.scope = "3 monitors on 2 objects".to_owned();
        document.chapters.insert("monitor-lyon".to_owned(), head("1 monitor"));
        for (id, text) in [("monitor-lyon", "Lyon <plant>"), ("monitor-lodz", "Łódź")] {
            let (id, text) = (id.to_owned(), text.to_owned());
            document.blocks.push(Block::PageBreak);
            document.blocks.push(Block::Heading { level: 1, text, id });
            document.blocks.push(Block::paragraph(format!("What is said of {}", "it")));
        }
        document
    }

    #[test]
    fn an_archive_has_a_page_for_each_chapter_and_one_that_leads_to_them() {
        let document = chaptered();
        assert_eq!(chapters(&document).len(), 2, "the page break before a table begins no chapter");
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
        assert!(index.contains("<a href=\"monitor-lyon.html\">Lyon &lt;plant&gt;</a>"), "{index}");
        assert!(index.contains("A table") && !index.contains("What is said of it"));
        let lyon = page("monitor-lyon.html");
        assert!(
            lyon.contains("<h1>Lyon &lt;plant&gt;</h1>") && lyon.contains("What is said of it")
        );
        assert!(lyon.contains("href=\"index.html\"") && lyon.contains("href=\"fonts.css\""));
        assert!(!lyon.contains("data:font"), "fonts are there once");
        // The page of a monitor mentions neither the other monitors nor their notes.
        assert!(index.contains(&document.scope) && index.contains("class=\"note"), "{index}");
        assert!(!lyon.contains(&document.scope) && lyon.contains("1 monitor ·"), "{lyon}");
        assert!(!lyon.contains(&document.notes[0].text), "{lyon}");
        assert!(page("monitor-lodz.html").contains(&document.scope), "a chapter about all of them");
        let fonts = page("fonts.css");
        assert_eq!(fonts.matches("@font-face").count(), 4, "Latin, and what Łódź needs");
    }

    fn link(to: &str) -> Block {
        Block::Paragraph { spans: vec![Span { link: Some(to.to_owned()), ..Span::plain("there") }] }
    }

    /// Returns the pages of an archive by name.
    fn pages(bytes: &[u8]) -> BTreeMap<String, String> {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("a zip file");
        let count = archive.len();
        let page = |at: usize| {
            let mut text = String::new();
            let mut file = archive.by_index(at).expect("there");
            std::io::Read::read_to_string(&mut file, &mut text).expect("text");
            let name = file.name().expect("a name").to_string();
            let (_, name) = name.split_once('/').expect("a folder");
            (name.to_owned(), text)
        };
        (0..count).map(page).collect()
    }

    #[test]
    fn links_between_pages_of_an_archive_lead_where_they_led_on_one_page() {
        let mut document = chaptered();
        let id = "a-section".to_owned();
        let text = "A section".to_owned();
        document.blocks.push(Block::Heading { level: 2, text, id });
        for to in ["#monitor-lyon", "#a-section", "#nowhere", "https://example.com/#a-section"] {
            document.blocks.insert(0, link(to));
            document.blocks.push(link(to));
        }
        let pages = pages(&archive(&document, None, "report").expect("an archive"));
        for (page, expected) in [
            ("index.html", ["monitor-lyon.html", "monitor-lodz.html#a-section", "#nowhere"]),
            ("monitor-lodz.html", ["monitor-lyon.html", "#a-section", "#nowhere"]),
        ] {
            for target in expected.into_iter().chain(["https://example.com/#a-section"]) {
                assert!(
                    pages[page].contains(&format!("href=\"{target}\">there")),
                    "{page}: {target}"
                );
            }
        }
        // All other referenced files are in the archive, too, and no name is absolute.
        for (page, text) in &pages {
            for target in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let file = target.split('#').next().unwrap_or_default();
                let is_there =
                    file.is_empty() || file.starts_with("https://") || pages.contains_key(file);
                assert!(is_there, "{page}: {target}");
            }
        }
    }

    #[test]
    fn names_that_are_not_ascii_are_marked_as_utf_8_in_an_archive() {
        // Windows assumes its own code page for names without the UTF-8 flag (bit 11; APPNOTE
        // 4.4.4).
        let bytes = archive(&chaptered(), None, "Überblick-Łódź-東京").expect("an archive");
        let mut seen = 0;
        for (signature, flags, size, name) in
            [(b"PK\x03\x04", 6, 26, 30), (b"PK\x01\x02", 8, 28, 46)]
        {
            for at in 0..bytes.len().saturating_sub(name) {
                let number =
                    |place: usize| u16::from_le_bytes([bytes[at + place], bytes[at + place + 1]]);
                if !bytes[at..].starts_with(signature) {
                    continue;
                }
                let length = usize::from(number(size));
                let Ok(name) = std::str::from_utf8(&bytes[at + name..at + name + length]) else {
                    continue;
                };
                if name.starts_with("Überblick-Łódź-東京/") {
                    assert_eq!(number(flags) & (1 << 11), 1 << 11, "{name}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 2 * 4, "the index, two chapters and the fonts, each in two headers");
    }

    #[test]
    fn numbers_to_sort_by_have_no_digits_that_only_fill_the_page() {
        for (value, text) in [
            (105_101.0, "105101"),
            (99.569_937_488_701_34, "99.5699375"),
            (4.148_387_999_999_999, "4.148388"),
            (0.0, "0"),
            (-0.000_012_5, "-0.0000125"),
            (1_772_409_600_123_456.0, "1772409600000000"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_page_embeds_the_parts_of_the_font_that_it_needs() {
        let parts = |text: &str| fonts(&[text]).as_array().map_or(0, Vec::len) / 2;
        assert_eq!(parts("Round trip ≤ 30 s – 99.9 %, µs, Überlingen"), 1);
        assert_eq!(parts("Łódź"), 2);
        assert_eq!(parts("Łódź, Αθήνα, Москва"), 4);
        assert_eq!(parts("東京"), 1, "what Inter lacks needs no part");
        // A nearly empty page with its fonts stays small.
        assert!(fonts(&["Lyon"]).to_string().len() < 45_000);
    }
}
