//! Sets a long report in parts: a few chapters at a time, whose pages are then joined.
//!
//! While the typesetter sets a document, it keeps everything that it has measured, some 10 MB for
//! each chapter, until the document is complete. If a report is set in parts, only the finished
//! pages are kept.
//!
//! The first part, with cover and contents, is set last. It ends with a nearly empty page for each
//! page of the chapters that follow, containing only the headings of that page. Contents, page
//! numbers, headers and footers are therefore produced as usual. Each empty page then gives its
//! header and footer to the page that it stands for.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    ops::Range,
};

use mailqos_base::timing;
use mailqos_lake_tables::parallel;
use serde_json::{Map, Value, json};
use typst::{
    ecow::EcoVec,
    foundations::{NativeElement as _, StyleChain},
    introspection::{Location, PagedPosition, Tag},
    layout::{Abs, Frame, FrameItem, Point},
    model::{Destination, Document as _, HeadingElem},
};
use typst_layout::{Page, PagedDocument};

use super::{Forgets, MEDIUM, SHOWING, Sheet, lay_out, lay_out_keeping, write};
use crate::{
    document::{Block, Document, walk},
    media::{
        MediaError, html,
        work::{self, DocumentPage},
    },
};

/// Chapters that are set together. More of them need more memory, fewer of them more time: each
/// part begins with the rules of the layout.
const CHAPTERS_OF_A_PART: usize = 2;

/// Parts that are set at the same time, on all cores. The caches of the typesetter belong to the
/// process, so they are released when all of these parts are complete.
const PARTS_AT_ONCE: usize = 4;

/// Documents with at most this number of chapters are set as a whole.
const MAX_CHAPTERS_OF_A_WHOLE: usize = 12;

/// Margins of a page with its header and footer in millimetres, as in `templates/pdf/page.typ`.
const HEADER_MM: f64 = 22.0;
const FOOTER_MM: f64 = 20.0;

/// Returns whether a document is long enough to be set in parts.
pub(super) fn is_long(document: &Document) -> bool {
    html::chapters(document).len() > MAX_CHAPTERS_OF_A_WHOLE
}

/// Renders a long document, with the built-in partials, as a PDF.
///
/// # Errors
/// The typesetter fails, for example on the names of fonts.
pub(super) fn render(document: &Document) -> Result<Vec<u8>, MediaError> {
    let (sheet, pages) = set(document)?;
    write(&sheet, &pages, &document.producer, document.made_at.0)
}

/// Sets the first part and joins its pages with those of all parts.
fn set(document: &Document) -> Result<(Sheet, PagedDocument), MediaError> {
    let (front, parts) = divided(document);
    let parts: Vec<Part<'_>> = parts
        .into_iter()
        .enumerate()
        .map(|(number, blocks)| Part {
            number: number + 1,
            name: if blocks.end == document.blocks.len() { "last" } else { "middle" },
            blocks: document.blocks.get(blocks).unwrap_or_default(),
        })
        .collect();
    let mut later = Later::default();
    for some in parts.chunks(PARTS_AT_ONCE) {
        let _forgets = Forgets;
        let laid_out = parallel::map(some, |part| part.lay_out(document));
        for (part, laid_out) in some.iter().zip(laid_out) {
            later.add(laid_out?, part.blocks);
        }
    }
    let instead = Map::from_iter([
        ("part".to_owned(), "first".into()),
        ("headings".to_owned(), work::headings(&document.blocks)),
        ("later_pages".to_owned(), later.titles.into()),
    ]);
    let blocks = document.blocks.get(front).unwrap_or_default();
    let sheet = sheet(document, blocks, 0, instead)?;
    let first = lay_out(&sheet)?;
    let joined = timing::told("joining of the parts", || join(&first, later.pages, later.headings));
    Ok((sheet, joined))
}

/// A part after the first.
struct Part<'a> {
    number: usize,
    /// Its variable `part`.
    name: &'static str,
    blocks: &'a [Block],
}

impl Part<'_> {
    fn lay_out(&self, document: &Document) -> Result<PagedDocument, MediaError> {
        let instead = Map::from_iter([("part".to_owned(), self.name.into())]);
        lay_out_keeping(&sheet(document, self.blocks, self.number, instead)?)
    }
}

/// Returns the texts of the headings of level 1, in order.
fn titles(blocks: &[Block]) -> impl Iterator<Item = &str> {
    walk(blocks).into_iter().filter_map(|block| match block {
        Block::Heading { level: 1, text, .. } => Some(text.as_str()),
        _ => None,
    })
}

/// Returns the blocks of the first part, and of each part after it.
fn divided(document: &Document) -> (Range<usize>, Vec<Range<usize>>) {
    let chapters = html::chapters(document);
    // A chapter begins with its page break and its heading.
    let begin = |chapter: &html::Chapter<'_>| chapter.blocks.start.saturating_sub(2);
    let parts: Vec<Range<usize>> = chapters
        .chunks(CHAPTERS_OF_A_PART)
        .filter_map(|some| Some(begin(some.first()?)..some.last()?.blocks.end))
        .collect();
    let end = parts.first().map_or(document.blocks.len(), |part| part.start);
    (0..end, parts)
}

fn sheet(
    document: &Document,
    blocks: &[Block],
    number: usize,
    instead: Map<String, Value>,
) -> Result<Sheet, MediaError> {
    let leaf = DocumentPage { document, blocks, instead };
    let page = work::markup(&MEDIUM, &SHOWING, &leaf, None)?;
    Sheet::new(number, page.markup, page.files)
}

/// The parts after the first.
#[derive(Default)]
struct Later {
    pages: Vec<Page>,
    /// Headings of level 1 on each page.
    titles: Vec<Value>,
    /// Positions of these headings; pages count from the first page of the second part.
    headings: Vec<PagedPosition>,
}

impl Later {
    fn add(&mut self, part: PagedDocument, blocks: &[Block]) {
        let before = self.pages.len();
        let mut on_pages = vec![Vec::new(); part.pages().len()];
        for ((_, place), text) in headings(&part).into_iter().zip(titles(blocks)) {
            if let Some(titles) = on_pages.get_mut(place.page.get() - 1) {
                titles.push(text);
            }
            self.headings.push(moved(place, before));
        }
        self.titles.extend(on_pages.into_iter().map(|titles| json!(titles)));
        self.pages.extend_from_slice(part.pages());
    }
}

/// Returns the headings of level 1, in order.
fn headings(document: &PagedDocument) -> Vec<(Location, PagedPosition)> {
    let introspector = document.introspector();
    let found = introspector.elements().query(&HeadingElem::ELEM.select());
    let found = found.iter().filter_map(|found| {
        let level = found.to_packed::<HeadingElem>()?.resolve_level(StyleChain::default());
        let location = found.location().filter(|_| level == NonZeroUsize::MIN)?;
        Some((location, introspector.position(location)?))
    });
    found.collect()
}

fn moved(place: PagedPosition, pages: usize) -> PagedPosition {
    PagedPosition { page: place.page.saturating_add(pages), point: place.point }
}

/// Joins the first part, which ends with an empty page for each later one, with the later pages.
fn join(first: &PagedDocument, later: Vec<Page>, places: Vec<PagedPosition>) -> PagedDocument {
    let (front, empty) = first.pages().split_at(first.pages().len().saturating_sub(later.len()));
    let stand_ins = headings(first)
        .into_iter()
        .filter(|(_, place)| place.page.get() > front.len())
        .map(|(location, _)| location);
    let places = places.into_iter().map(|place| moved(place, front.len()));
    let places: HashMap<Location, PagedPosition> = stand_ins.zip(places).collect();
    let mut pages: EcoVec<Page> = front.into();
    for page in pages.make_mut() {
        redirect(&mut page.frame, &places);
    }
    // Elements that end after the first part end on its last page.
    if let Some(last) = pages.make_mut().last_mut() {
        let ends =
            unmatched_ends(empty).into_iter().map(|end| (Point::zero(), FrameItem::Tag(end)));
        last.frame.push_multiple(ends);
    }
    pages.extend(later.into_iter().zip(empty).map(|(page, empty)| with_margins(page, empty)));
    PagedDocument::new(pages, first.info().clone())
}

/// Redirects links to headings on the empty pages to the corresponding headings.
fn redirect(frame: &mut Frame, places: &HashMap<Location, PagedPosition>) {
    frame.retain(|item| {
        match item {
            FrameItem::Group(group) => redirect(&mut group.frame, places),
            FrameItem::Link(target, _) => {
                if let Destination::Location(location) = target
                    && let Some(place) = places.get(location)
                {
                    *target = Destination::Position(*place);
                }
            }
            _ => {}
        }
        true
    });
}

/// Returns marks on the empty pages, outside their margins, for the ends of elements that start
/// before these pages.
fn unmatched_ends(empty: &[Page]) -> Vec<Tag> {
    fn collect<'a>(items: impl Iterator<Item = &'a (Point, FrameItem)>, tags: &mut Vec<Tag>) {
        for (_, item) in items {
            match item {
                FrameItem::Tag(tag) => tags.push(tag.clone()),
                FrameItem::Group(group) => collect(group.frame.items(), tags),
                _ => {}
            }
        }
    }
    let mut tags = Vec::new();
    for page in empty {
        collect(page.frame.items().filter(|(at, _)| margin(page, *at).is_none()), &mut tags);
    }
    let begun: HashSet<Location> =
        tags.iter().filter(|tag| matches!(tag, Tag::Start(..))).map(Tag::location).collect();
    tags.retain(|tag| matches!(tag, Tag::End(..)) && !begun.contains(&tag.location()));
    tags
}

/// A margin of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Margin {
    Header,
    Footer,
}

/// Returns the margin of a page that contains a position.
fn margin(page: &Page, at: Point) -> Option<Margin> {
    let header = Abs::mm(HEADER_MM);
    let footer = page.frame.height() - Abs::mm(FOOTER_MM);
    if at.x <= Abs::zero() {
        // The left edge contains only marks of elements that start or end between two pages.
        None
    } else if at.y < header && !at.y.approx_eq(header) {
        Some(Margin::Header)
    } else {
        (at.y > footer || at.y.approx_eq(footer)).then_some(Margin::Footer)
    }
}

/// Returns a page of a chapter with the header and the footer of the corresponding empty page.
fn with_margins(page: Page, empty: &Page) -> Page {
    let mut frame = Frame::hard(page.frame.size());
    let of = |wanted: Margin| {
        empty.frame.items().filter(move |(at, _)| margin(empty, *at) == Some(wanted))
    };
    frame.push_multiple(of(Margin::Header).cloned());
    frame.push_multiple(page.frame.items().cloned());
    frame.push_multiple(of(Margin::Footer).cloned());
    Page { frame, number: empty.number, ..page }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{media::specimen, theme::ThemeOptions};

    /// Returns a document whose chapters have a heading, a table and a chart.
    fn long() -> Document {
        let mut document = specimen::document(ThemeOptions::default().resolve(), None);
        let chapter = document.blocks.clone();
        for number in 0..20 {
            document.blocks.push(Block::PageBreak);
            document.blocks.push(Block::Heading {
                level: 1,
                text: format!("Monitor {number}"),
                id: format!("monitor-{number}"),
            });
            document.blocks.extend_from_slice(chapter.get(1..4).unwrap_or_default());
        }
        document
    }

    /// Returns the start and end marks of elements, in page order.
    fn marks(frame: &Frame, found: &mut Vec<Tag>) {
        for (_, item) in frame.items() {
            match item {
                FrameItem::Tag(tag) => found.push(tag.clone()),
                FrameItem::Group(group) => marks(&group.frame, found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_element_begins_and_ends_once() {
        let (_, pages) = set(&long()).expect("set");
        let mut found = Vec::new();
        pages.pages().iter().for_each(|page| marks(&page.frame, &mut found));
        let mut open: HashMap<Location, String> = HashMap::new();
        let mut seen = HashSet::new();
        for tag in found {
            match tag {
                Tag::Start(element, _) => {
                    let location = element.location().expect("a location");
                    let name = element.elem().name().to_owned();
                    assert!(seen.insert(location), "twice: {name} {element:?}");
                    open.insert(location, name);
                }
                Tag::End(location, ..) => {
                    assert!(
                        open.remove(&location).is_some(),
                        "ends without a beginning: {location:?}"
                    );
                }
            }
        }
        assert!(open.is_empty(), "{:?}", open.values());
    }
}
