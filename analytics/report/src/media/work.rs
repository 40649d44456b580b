//! Preparation of a document for the partials of a medium: the variables of partials and layouts,
//! and the files besides the markup.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{DRAWN, MEDIA, MediaError, Medium, Partials, guard, own_partials};
use crate::document::{Block, ChartBlock, Document, Picture, Table, walk};

/// Converts the drawing (SVG) of a chart to its variable `picture`.
type Draw = fn(&str) -> Result<String, MediaError>;

/// Representation of images and charts in a medium.
pub(super) struct Representation {
    /// Returns the variable `source` of an image, such as a data URI.
    pub(super) source: fn(&Picture) -> Result<String, MediaError>,
    /// Returns the variable `picture` of a chart, if the medium does not show drawings.
    pub(super) drawn: Option<Draw>,
    /// Whether charts have the variables `svg` (the drawing) and `data` (the table of drawn
    /// values).
    pub(super) drawings: bool,
    /// Whether charts and images are separate files, named by `file`.
    pub(super) files: bool,
    /// Returns the number of lines of each row of a table, if the medium computes its height; else
    /// 0.
    pub(super) row_lines: fn(&Table, &Document) -> usize,
}

/// Complete input of a page, which can be sent to another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    /// Name of the medium.
    pub(super) medium: String,
    /// Folder of custom templates.
    pub(super) own: Option<PathBuf>,
    /// Name of a custom layout.
    pub(super) layout: Option<String>,
    /// Variables of partials and layouts, except the blocks.
    pub(super) document: Value,
    /// Variables of the partials of blocks.
    pub(super) blocks: Vec<Value>,
    /// Charts, images and fonts besides the markup.
    #[serde(with = "in_base64")]
    pub(super) files: Files,
}

/// Files besides the markup, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Serialisation of files as base64, for another process.
mod in_base64 {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{BTreeMap, Files};

    pub(super) fn serialize<S: Serializer>(files: &Files, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(files.iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Files, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        let decoded = texts.into_iter().map(|(name, text)| Ok((name, STANDARD.decode(text)?)));
        decoded.collect::<Result<_, base64::DecodeError>>().map_err(D::Error::custom)
    }
}

/// A page of a document.
#[derive(Debug, Clone)]
pub(super) struct DocumentPage<'a> {
    pub(super) document: &'a Document,
    /// Blocks of the page.
    pub(super) blocks: &'a [Block],
    /// Variables that override those of the document.
    pub(super) instead: Map<String, Value>,
}

impl<'a> DocumentPage<'a> {
    /// Returns a page with the whole document.
    pub(super) fn whole(document: &'a Document) -> Self {
        Self { document, blocks: &document.blocks, instead: Map::new() }
    }
}

/// Renders a page. Without custom parts, it is rendered block by block, because all variables of a
/// report on a thousand monitors would not fit into memory.
///
/// # Errors
/// An image can't be drawn, or a custom partial or layout is invalid or exceeds its limits.
pub(super) fn page(
    medium: &'static Medium,
    showing: &Representation,
    leaf: &DocumentPage<'_>,
    own: Option<&Path>,
) -> Result<Vec<u8>, MediaError> {
    if is_guarded(medium, own)? {
        return Work::of(medium, showing, leaf, own)?.guarded();
    }
    (medium.finish)(markup(medium, showing, leaf, own)?)
}

/// Markup of a page with the files that it references.
pub(super) struct Markup {
    pub(super) markup: String,
    pub(super) files: Files,
    /// Variables of partials and layouts, except the blocks.
    document: Value,
}

/// Renders the markup of a page, block by block.
///
/// # Errors
/// An image can't be drawn, or a partial is invalid.
pub(super) fn markup(
    medium: &'static Medium,
    showing: &Representation,
    leaf: &DocumentPage<'_>,
    own: Option<&Path>,
) -> Result<Markup, MediaError> {
    let document = leaf.document;
    let work = Work::head(medium, showing, leaf, own)?;
    let partials = Partials::new(medium, own)?;
    let mut adorned = BlockRenderer {
        showing,
        document,
        is_built_in: true,
        shown: 0,
        files: BTreeMap::new(),
        named: BTreeMap::new(),
    };
    let mut blocks = leaf.blocks.iter().map(|block| adorned.block(block));
    let markup = partials.page(medium, document.layout.as_deref(), &work.document, &mut blocks)?;
    let mut files = work.files;
    files.append(&mut adorned.files);
    let provenance = text(&work.document, "provenance_json").as_bytes().to_vec();
    files.insert("provenance.json".to_owned(), provenance);
    Ok(Markup { markup, files, document: work.document })
}

/// Renders the blocks of a page without the page around them, by the built-in partials.
///
/// # Errors
/// A block can't be rendered.
pub(super) fn fragment(
    medium: &'static Medium,
    showing: &Representation,
    leaf: &DocumentPage<'_>,
) -> Result<String, MediaError> {
    let work = Work::head(medium, showing, leaf, None)?;
    let partials = Partials::new(medium, None)?;
    let mut adorned = BlockRenderer {
        showing,
        document: leaf.document,
        is_built_in: true,
        shown: 0,
        files: BTreeMap::new(),
        named: BTreeMap::new(),
    };
    let blocks: Vec<Value> =
        leaf.blocks.iter().map(|block| adorned.block(block)).collect::<Result<_, _>>()?;
    partials.fragment(medium, &work.document, &blocks)
}

fn is_guarded(medium: &Medium, own: Option<&Path>) -> Result<bool, MediaError> {
    Ok(guard::can_guard() && !own_partials(medium, own)?.is_empty())
}

impl Markup {
    /// Returns the program that created the report, and when, in microseconds since 1970.
    pub(super) fn origin(&self) -> (String, i64) {
        let made_at = self.document.get("made_at").and_then(Value::as_i64);
        (text(&self.document, "producer").to_owned(), made_at.unwrap_or_default())
    }
}

/// Renders the page of a [`Work`] in JSON.
pub(super) fn make(order: &[u8]) -> Result<Vec<u8>, String> {
    let work: Work = serde_json::from_slice(order).map_err(|error| error.to_string())?;
    let medium = MEDIA.iter().find(|medium| medium.name == work.medium);
    let medium = medium.ok_or_else(|| format!("unknown medium {:?}", work.medium))?;
    work.set(medium).map_err(|error| error.to_string())
}

fn text<'a>(document: &'a Value, key: &str) -> &'a str {
    document.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns level, text and id of each heading, as variables.
pub(super) fn headings(blocks: &[Block]) -> Value {
    let headings = walk(blocks).into_iter().filter_map(|block| match block {
        Block::Heading { level, text, id } => Some(json!({"level": level, "text": text, "id": id})),
        _ => None,
    });
    headings.collect()
}

impl Work {
    /// Prepares a document.
    ///
    /// # Errors
    /// An image can't be drawn.
    pub(super) fn new(
        medium: &Medium,
        showing: &Representation,
        document: &Document,
        own: Option<&Path>,
    ) -> Result<Self, MediaError> {
        Self::of(medium, showing, &DocumentPage::whole(document), own)
    }

    fn of(
        medium: &Medium,
        showing: &Representation,
        leaf: &DocumentPage<'_>,
        own: Option<&Path>,
    ) -> Result<Self, MediaError> {
        let mut work = Self::head(medium, showing, leaf, own)?;
        let mut adorned = BlockRenderer {
            showing,
            document: leaf.document,
            is_built_in: false,
            shown: 0,
            files: std::mem::take(&mut work.files),
            named: BTreeMap::new(),
        };
        let blocks = leaf.blocks.iter().map(|block| adorned.block(block));
        work.blocks = blocks.collect::<Result<_, _>>()?;
        work.files = adorned.files;
        Ok(work)
    }

    /// Prepares a document without its blocks.
    fn head(
        medium: &Medium,
        showing: &Representation,
        leaf: &DocumentPage<'_>,
        own: Option<&Path>,
    ) -> Result<Self, MediaError> {
        let document = leaf.document;
        let mut files = BTreeMap::new();
        let mut value = plain(document)?;
        let theme = &document.theme;
        if let Some(root) = value.as_object_mut() {
            root.insert("headings".into(), headings(leaf.blocks));
            // Long PDFs are set in parts.
            root.insert("part".into(), "whole".into());
            root.insert("later_pages".into(), Value::Array(Vec::new()));
            // For archives: the other pages, the index page, and the file with the fonts.
            root.insert("chapters".into(), Value::Array(Vec::new()));
            root.insert("index".into(), "".into());
            root.insert("font_file".into(), "".into());
            root.insert("chart_rules".into(), theme.palette.dark_rules("figure").into());
            root.insert("provenance_json".into(), document.provenance.json().into());
            let mut logo =
                |key: &str, file: &str, picture: &Option<Picture>| -> Result<(), MediaError> {
                    let source = match picture {
                        Some(picture) if showing.files => {
                            let name = format!("{file}.{}", picture.extension());
                            files.insert(name.clone(), picture.bytes.clone());
                            name
                        }
                        Some(picture) => (showing.source)(picture)?,
                        None => String::new(),
                    };
                    root.insert(key.into(), source.into());
                    Ok(())
                };
            logo("logo", "logo", &theme.logo)?;
            logo("logo_dark", "logo-dark", &theme.logo_dark)?;
            root.extend(leaf.instead.clone());
        }
        for (number, face) in theme.faces.iter().enumerate() {
            if showing.files {
                files.insert(format!("font-{number}"), face.bytes.clone());
            } else if let Some(value) = value.pointer_mut(&format!("/theme/faces/{number}")) {
                value["source"] = super::data_uri(face.media_type, &face.bytes).into();
            }
        }
        Ok(Self {
            medium: medium.name.to_owned(),
            own: own.map(Path::to_owned),
            layout: document.layout.clone(),
            document: value,
            blocks: Vec::new(),
            files,
        })
    }

    /// Renders the page, in a process with limits if it has custom parts.
    ///
    /// # Errors
    /// A custom partial or layout is invalid or exceeds its limits.
    pub(super) fn done(self, medium: &'static Medium) -> Result<Vec<u8>, MediaError> {
        if is_guarded(medium, self.own.as_deref())? { self.guarded() } else { self.set(medium) }
    }

    /// Renders the page in a process with limits.
    fn guarded(&self) -> Result<Vec<u8>, MediaError> {
        let folder = self.own.as_ref().map(|own| own.join(&self.medium));
        let folder =
            folder.map_or_else(|| self.medium.clone(), |folder| folder.display().to_string());
        let layout = self.layout.as_ref().map(|layout| format!(" (layout {layout:?})"));
        guard::run(self, &format!("{folder}{}", layout.unwrap_or_default()))
    }

    /// Renders the page in this process.
    ///
    /// # Errors
    /// A custom partial or layout is invalid.
    pub(super) fn set(self, medium: &'static Medium) -> Result<Vec<u8>, MediaError> {
        let partials = Partials::new(medium, self.own.as_deref())?;
        let mut blocks = self.blocks.into_iter().map(Ok);
        let markup = partials.page(medium, self.layout.as_deref(), &self.document, &mut blocks)?;
        let mut files = self.files;
        let provenance = text(&self.document, "provenance_json").as_bytes().to_vec();
        files.insert("provenance.json".to_owned(), provenance);
        let document = self.document;
        (medium.finish)(Markup { markup, files, document })
    }
}

/// Converts a value to JSON.
fn plain(value: &impl Serialize) -> Result<Value, MediaError> {
    serde_json::to_value(value).map_err(|error| MediaError::Data(error.to_string()))
}

/// Number of rows above which data tables of charts are text until they are opened: tens of
/// thousands of rows make a page slow.
const LONG: usize = 100;

/// Prepares blocks for a medium, one after the other.
struct BlockRenderer<'a> {
    showing: &'a Representation,
    document: &'a Document,
    /// Whether only built-in partials use the variables; they don't need the rows of long tables.
    is_built_in: bool,
    /// Number of charts and images so far.
    shown: usize,
    files: Files,
    /// First chart with given names and edges of columns.
    named: BTreeMap<String, String>,
}

impl BlockRenderer<'_> {
    /// Returns the variables of a block, including the representation of its charts and images.
    fn block(&mut self, block: &Block) -> Result<Value, MediaError> {
        let mut value = plain(block)?;
        self.adorn(block, &mut value)?;
        Ok(value)
    }

    fn adorn(&mut self, block: &Block, value: &mut Value) -> Result<(), MediaError> {
        let Some(fields) = value.as_object_mut() else {
            return Ok(());
        };
        let mut list = |key: &str| -> Vec<Value> {
            let list = fields.get_mut(key).and_then(Value::as_array_mut);
            list.map(std::mem::take).unwrap_or_default()
        };
        match block {
            Block::Columns { columns } => {
                let mut inner = list("columns");
                for (blocks, value) in columns.iter().zip(&mut inner) {
                    let values = value.as_array_mut().into_iter().flatten();
                    blocks
                        .iter()
                        .zip(values)
                        .try_for_each(|(block, value)| self.adorn(block, value))?;
                }
                fields.insert("columns".into(), inner.into());
            }
            Block::Group { blocks } => {
                let mut inner = list("blocks");
                let mut values = blocks.iter().zip(&mut inner);
                values.try_for_each(|(block, value)| self.adorn(block, value))?;
                fields.insert("blocks".into(), inner.into());
            }
            Block::Chart(chart) => self.chart(chart, fields)?,
            Block::Table(table) if self.showing.files => {
                let lines = (self.showing.row_lines)(table, self.document);
                let lines = if self.is_built_in { lines } else { 0 };
                fields.insert("row_lines".into(), lines.into());
            }
            Block::Findings { findings } => {
                let mut inner = list("findings");
                for (finding, value) in findings.iter().zip(&mut inner) {
                    let fields = value.get_mut("chart").and_then(Value::as_object_mut);
                    if let (Some(chart), Some(fields)) = (&finding.chart, fields) {
                        self.chart(chart, fields)?;
                    }
                }
                fields.insert("findings".into(), inner.into());
            }
            Block::Image { picture, .. } => {
                self.shown += 1;
                if self.showing.files {
                    let name = format!("{}.{}", self.shown, picture.extension());
                    self.files.insert(name.clone(), picture.bytes.clone());
                    fields.insert("file".into(), name.into());
                } else {
                    fields.insert("source".into(), (self.showing.source)(picture)?.into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the texts to show under the pointer. Names and edges of columns that an earlier
    /// chart of the page contains are replaced by a reference to it: all monitors have the same
    /// days and hours.
    fn hover(&mut self, block: &ChartBlock) -> String {
        let whole = &block.chart.hover;
        let Ok(Value::Object(mut hover)) = serde_json::from_str(whole) else {
            return whole.clone();
        };
        let (Some(names), Some(edges)) = (hover.remove("names"), hover.remove("x")) else {
            return whole.clone();
        };
        let id = self.named.entry(format!("{names} {edges}")).or_insert_with(|| block.id.clone());
        if *id == block.id {
            return whole.clone();
        }
        hover.insert("like".to_owned(), id.clone().into());
        Value::Object(hover).to_string().replace('<', "\\u003c")
    }

    fn chart(
        &mut self,
        block: &ChartBlock,
        fields: &mut Map<String, Value>,
    ) -> Result<(), MediaError> {
        self.shown += 1;
        let chart = &block.chart;
        let svg = self.document.theme.drawing(&chart.svg);
        if let Some(drawn) = self.showing.drawn {
            fields.insert("picture".into(), drawn(&svg)?.into());
        }
        if self.showing.files {
            let name = format!("{}.svg", self.shown);
            let set = svg.replacen("Inter,", &format!("'{}', Inter,", DRAWN), 1);
            self.files.insert(name.clone(), set.into_bytes());
            fields.insert("file".into(), name.into());
        }
        if self.showing.drawings {
            let is_long = chart.data.len() > LONG;
            if is_long {
                let lines = chart.data.lines();
                fields.insert("lines".into(), lines.text.into());
                fields.insert("units".into(), lines.units.into());
            } else {
                fields.insert("lines".into(), "".into());
            }
            let data = if is_long && self.is_built_in {
                // Tens of thousands of named values would take longer than the rest of the page.
                json!({"heads": chart.data.heads, "rows": []})
            } else {
                plain(&chart.data)?
            };
            fields.insert("data".into(), data);
            fields.insert("hover".into(), self.hover(block).into());
            // The namespace declaration is redundant within HTML.
            let within = |svg: &str| svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
            fields.insert("svg".into(), within(&svg).into());
            fields.insert(
                "narrow".into(),
                within(&self.document.theme.drawing(&chart.narrow)).into(),
            );
        }
        Ok(())
    }
}
