//! Media: from a document to a file. Each is a folder of Tera partials, one a kind of block, and the page around them.

pub mod data;
pub mod email;
pub mod html;
pub mod pdf;
mod raster;

use std::{borrow::Cow, cell::Cell, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use tera::{Context, EscapeFn, Tera};

use crate::charts::palette;

use super::document::{Block, Document, Picture};

/// Why a document can't be shown in a medium.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A partial is wrong: which, where, and what it could use instead.
    #[error("{0}")]
    Template(String),
    /// The page can't be set.
    #[error("the PDF can't be set: {0}")]
    Setting(String),
    /// The figures can't be written.
    #[error("the figures can't be written: {0}")]
    Data(String),
    /// A user's partial can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The result would be larger than anybody can use.
    #[error("the page became larger than {} MB; is there an endless loop in a template?", MAX_PAGE >> 20)]
    TooLarge,
}

impl From<tera::Error> for MediaError {
    fn from(error: tera::Error) -> Self {
        // Tera names the template, the line and the column in its chain of causes.
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        Self::Template(text)
    }
}

/// No page is larger.
const MAX_PAGE: usize = 256 << 20;

/// The partials of a medium.
pub(super) struct Partials {
    tera: Tera,
    extension: &'static str,
    source: Source,
    drawn: Option<Drawn>,
    /// How many charts and pictures were shown so far; their numbers name files beside the markup.
    shown: Cell<usize>,
}

/// How a medium names a picture, such as by a data URI.
type Source = fn(&Picture) -> String;
/// How a medium that shows no drawings names the picture of one.
type Drawn = fn(&str) -> Result<String, MediaError>;

/// A picture as a data URI.
fn data_uri(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
}

/// A heading in the list of contents.
#[derive(Serialize)]
struct Entry<'a> {
    level: u8,
    text: &'a str,
    id: &'a str,
}

impl Partials {
    /// The built-in partials of a medium, and the user's own over them, from the folder of the medium's name in `own`.
    pub(super) fn new(
        medium: &'static str,
        extension: &'static str,
        escape: EscapeFn,
        filters: fn(&mut Tera),
        source: Source,
        built_in: &[(&'static str, &'static str)],
        own: Option<&Path>,
    ) -> Result<Self, MediaError> {
        let mut tera = Tera::new();
        tera.set_escape_fn(escape);
        filters(&mut tera);
        tera.autoescape_on([format!(".{extension}")]);
        let mut templates: Vec<(String, Cow<'static, str>)> = built_in
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Cow::Borrowed(*text)))
            .collect();
        if let Some(folder) = own.map(|own| own.join(medium)).filter(|folder| folder.is_dir()) {
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| MediaError::Read { path, source }
            };
            for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
                let path = entry.map_err(failed(&folder))?.path();
                let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                    continue;
                };
                if !name.ends_with(&format!(".{extension}")) {
                    continue;
                }
                let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
                templates.retain(|(known, _)| *known != name);
                templates.push((name, Cow::Owned(text)));
            }
        }
        tera.add_raw_templates(templates)?;
        Ok(Self {
            tera,
            extension,
            source,
            drawn: None,
            shown: Cell::new(0),
        })
    }

    /// For a medium that shows pictures, but no drawings.
    pub(super) fn drawing(mut self, drawn: Drawn) -> Self {
        self.drawn = Some(drawn);
        self
    }

    /// The whole page.
    pub(super) fn page(&self, document: &Document) -> Result<String, MediaError> {
        let mut context = Context::from_serialize(document)?;
        // What stands before the first page break is the first page; a list of contents may follow it.
        let first = document
            .blocks
            .iter()
            .position(|block| matches!(block, Block::PageBreak));
        let (first, rest) = document.blocks.split_at(first.unwrap_or(document.blocks.len()));
        context.insert("first_page", &self.blocks(document, first)?);
        context.insert("content", &self.blocks(document, rest)?);
        let contents: Vec<Entry<'_>> = document
            .walk()
            .into_iter()
            .filter_map(|block| match block {
                Block::Heading { level, text, id } => Some(Entry {
                    level: *level,
                    text,
                    id,
                }),
                _ => None,
            })
            .collect();
        context.insert("headings", &contents);
        context.insert("chart_rules", &palette::dark_rules("figure"));
        context.insert("provenance_json", &document.provenance.json());
        if let Some(logo) = &document.theme.logo {
            context.insert("logo", &(self.source)(logo));
        }
        self.render("page", &context)
    }

    fn blocks(&self, document: &Document, blocks: &[Block]) -> Result<String, MediaError> {
        let mut text = String::new();
        for block in blocks {
            text.push_str(&self.block(document, block)?);
            if text.len() > MAX_PAGE {
                return Err(MediaError::TooLarge);
            }
        }
        Ok(text)
    }

    fn block(&self, document: &Document, block: &Block) -> Result<String, MediaError> {
        let mut context = match block {
            Block::Columns { .. } | Block::Group { .. } => Context::new(),
            other => Context::from_serialize(other)?,
        };
        context.insert("words", &document.words);
        let kind = match block {
            Block::Heading { .. } => "heading",
            Block::Paragraph { .. } => "paragraph",
            Block::List { .. } => "list",
            Block::KeyFigures { .. } => "key-figures",
            Block::Table(_) => "table",
            Block::Chart(chart) => {
                if let Some(drawn) = self.drawn {
                    context.insert("picture", &drawn(&chart.chart.svg)?);
                }
                context.insert("file", &format!("{}.svg", self.next()));
                "chart"
            }
            Block::Note(_) => "note",
            Block::Transcript(_) => "transcript",
            Block::Image { picture, .. } => {
                context.insert("source", &(self.source)(picture));
                context.insert("file", &format!("{}.{}", self.next(), picture.extension()));
                "image"
            }
            Block::Columns { columns } => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|blocks| self.blocks(document, blocks))
                    .collect::<Result<_, _>>()?;
                context.insert("columns", &columns);
                "columns"
            }
            Block::Group { blocks } => {
                context.insert("content", &self.blocks(document, blocks)?);
                "group"
            }
            Block::PageBreak => "page-break",
        };
        self.render(kind, &context)
    }

    fn next(&self) -> usize {
        self.shown.set(self.shown.get() + 1);
        self.shown.get()
    }

    fn render(&self, name: &str, context: &Context) -> Result<String, MediaError> {
        let mut out = Limited(Vec::new());
        self.tera
            .render_to(&format!("{name}.{}", self.extension), context, &mut out)
            .map_err(|error| {
                if out.0.len() >= MAX_PAGE {
                    MediaError::TooLarge
                } else {
                    error.into()
                }
            })?;
        String::from_utf8(out.0).map_err(|error| MediaError::Template(error.to_string()))
    }
}

/// Takes what a template writes, up to the limit.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PAGE {
            self.0.resize(MAX_PAGE, 0);
            return Err(std::io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
