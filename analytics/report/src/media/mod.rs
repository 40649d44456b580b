//! Media: rendering of documents to files. Each medium is a folder of Tera partials, one for each
//! kind of block, and the page around them.
//!
//! A custom partial replaces the built-in one of the same name, and a custom layout extends the
//! built-in page. Custom parts are rendered in a separate process with time and memory limits: see
//! [`guard`].

/// Built-in partials of a medium: its folder, the extension, and partials specific to it. All media
/// have a page and a partial for each kind of block.
macro_rules! partials {
    ($folder:literal, $ending:literal $(, $own:literal)*) => {
        partials!(@of $folder, $ending, [
            "page", $($own,)* "spans", "heading", "paragraph", "list", "findings", "key-figures", "table", "chart", "note",
            "transcript", "image", "columns", "group", "page-break",
        ])
    };
    (@of $folder:literal, $ending:literal, [$($name:literal,)+]) => {
        &[$((
            concat!($name, ".", $ending),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates/", $folder, "/", $name, ".", $ending)),
        )),+]
    };
}

pub mod data;
pub mod email;
pub mod guard;
pub mod html;
mod mail_page;
pub mod pdf;
mod raster;
pub mod specimen;
pub mod text;
mod work;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mailqos_config::nearest;
use serde_json::Value;
use tera::{Context, ErrorKind, EscapeFn, Tera};

/// Reasons why a document can't be rendered.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A partial or layout is invalid: which one, where, and which variables exist.
    #[error("{0}")]
    Template(String),
    /// Typst can't set the page.
    #[error("can't typeset the PDF: {0}")]
    Setting(String),
    /// The figures can't be written.
    #[error("can't write the figures: {0}")]
    Data(String),
    /// A custom partial can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Path of the file or folder.
        path: PathBuf,
        /// Cause of the error.
        source: std::io::Error,
    },
    /// The result would exceed the maximum size.
    #[error("the page became larger than {} MB; is there an endless loop in a template?", MAX_PAGE >> 20)]
    TooLarge,
    /// The format needs a cargo feature that this build lacks.
    #[error("this build cannot write {0}: it was built without the cargo feature {0:?}")]
    NotBuiltIn(&'static str),
    /// A custom partial or layout exceeded its limits.
    #[error("{0}")]
    Stopped(String),
}

/// Maximum size of a page, in bytes.
const MAX_PAGE: usize = 256 << 20;
/// Maximum size of a partial, in bytes.
const MAX_PARTIAL: u64 = 4 << 20;
/// Parts of a page: blocks before the first heading, table or chart; those up to the first page
/// break; the rest.
const OPENING: usize = 0;
const REMAINDER: usize = 1;
const CONTENT: usize = 2;
/// Name of the default layout.
const PAGE: &str = "page";
/// Prefix under which custom partials can extend the built-in ones that they replace.
const BASE: &str = "base/";

/// Properties of a medium with partials.
struct Medium {
    /// Name of its folder.
    name: &'static str,
    /// File extension of its partials.
    extension: &'static str,
    escape: EscapeFn,
    filters: fn(&mut Tera),
    built_in: &'static [(&'static str, &'static str)],
    /// Returns the variable `fonts`: the fonts of a page with these texts, if the medium embeds
    /// fonts.
    fonts: fn(&[&str]) -> Value,
    /// Composes the markup of a chapter from that of its blocks; the flag is set if the chapter
    /// starts at the top of a page.
    compose: fn(Vec<Set>, bool) -> String,
    /// Converts the markup of a page to the final file.
    finish: fn(work::Markup) -> Result<Vec<u8>, MediaError>,
}

/// The font family of charts: Inter without kerning and ligatures. Each label of a drawing is
/// shaped separately and reads all rules of the font again, which took a third of the time of a PDF
/// with a hundred heat maps.
const DRAWN: &str = "Inter Drawn";

/// Markup of a block.
struct Set {
    kind: String,
    /// Number of rows of a table; 0 for other blocks.
    rows: usize,
    /// Number of lines of each row of a table; 0 if they may differ or are unknown.
    lines: usize,
    /// Height of a chart divided by its width; 0 if it is unknown.
    ratio: f64,
    markup: String,
}

/// Renders the page described on standard input, within the limits of [`guard`].
pub fn make_page() -> ExitCode {
    guard::serve(work::make)
}

/// Returns the number of lines of each row of a table; 0 if they may differ or are unknown.
fn row_lines(table: &Value) -> usize {
    let lines = table.get("row_lines").and_then(Value::as_u64);
    lines.and_then(|lines| usize::try_from(lines).ok()).unwrap_or(0)
}

/// Returns the height of a chart divided by its width.
fn ratio(chart: &Value) -> f64 {
    let size = |key: &str| chart.get(key).and_then(Value::as_f64).unwrap_or_default();
    size("height") / size("width").max(1.0)
}

/// Concatenates the markup of blocks.
fn one_by_one(blocks: Vec<Set>, _at_top: bool) -> String {
    blocks.into_iter().map(|block| block.markup).collect()
}

/// Media with partials.
static MEDIA: [&Medium; 3] = [&html::MEDIUM, &pdf::MEDIUM, &email::MEDIUM];

/// Returns the possible files of a layout, one per medium.
pub fn layout_files(templates: &Path, layout: &str) -> Vec<PathBuf> {
    let file = |medium: &&Medium| {
        templates.join(medium.name).join(format!("{layout}.{}", medium.extension))
    };
    MEDIA.iter().map(file).collect()
}

/// Returns example layouts for custom ones: folder of the medium, file and text.
pub fn new_layout(name: &str) -> Vec<(PathBuf, &'static str)> {
    let texts = [
        include_str!("../../../../templates/layouts/new.html"),
        include_str!("../../../../templates/layouts/new.typ"),
        include_str!("../../../../templates/layouts/new-mail.html"),
    ];
    layout_files(Path::new(""), name).into_iter().zip(texts).collect()
}

/// Returns the built-in partials: medium, name and text.
pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    MEDIA.iter().flat_map(|medium| {
        let partial = |(name, text): &(&'static str, &'static str)| (medium.name, *name, *text);
        medium.built_in.iter().map(partial)
    })
}

/// Partials of a medium.
struct Partials {
    tera: Tera,
    extension: &'static str,
    /// Paths of the custom partials, by name.
    own: BTreeMap<String, PathBuf>,
}

/// Reads the custom partials of a medium: path and text by name.
fn own_partials(
    medium: &Medium,
    own: Option<&Path>,
) -> Result<BTreeMap<String, (PathBuf, String)>, MediaError> {
    let mut found = BTreeMap::new();
    let Some(folder) = own.map(|own| own.join(medium.name)).filter(|folder| folder.is_dir()) else {
        return Ok(found);
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MediaError::Read { path, source }
    };
    for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
        let path = entry.map_err(failed(&folder))?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        if !name.ends_with(&format!(".{}", medium.extension)) || name.starts_with('.') {
            continue;
        }
        let text = mailqos_base::files::read_text(&path, MAX_PARTIAL).map_err(failed(&path))?;
        found.insert(name, (path, text));
    }
    Ok(found)
}

impl Partials {
    /// Loads the built-in partials of a medium and, overriding them, the custom ones in the folder
    /// of the medium within `own`.
    fn new(medium: &'static Medium, own: Option<&Path>) -> Result<Self, MediaError> {
        let mut tera = Tera::new();
        tera.set_escape_fn(medium.escape);
        // Filters must be registered before the partials that use them.
        (medium.filters)(&mut tera);
        tera.autoescape_on([format!(".{}", medium.extension)]);
        let own = own_partials(medium, own)?;
        let mut templates: Vec<(String, Cow<'_, str>)> = Vec::new();
        for (name, text) in medium.built_in {
            // Under its own name unless a custom partial replaces it; then under another name, for
            // the custom one to extend.
            if own.contains_key(*name) {
                templates.push((format!("{BASE}{name}"), Cow::Borrowed(*text)));
            } else {
                templates.push(((*name).to_owned(), Cow::Borrowed(*text)));
            }
        }
        for (name, (_, text)) in &own {
            templates.push((name.clone(), Cow::Borrowed(text)));
        }
        let own: BTreeMap<String, PathBuf> =
            own.iter().map(|(name, (path, _))| (name.clone(), path.clone())).collect();
        // A base that is not replaced refers to the partial itself.
        for (name, text) in medium.built_in {
            let base = format!("{BASE}{name}");
            if !own.is_empty() && !own.contains_key(*name) {
                templates.push((base, Cow::Borrowed(*text)));
            }
        }
        tera.add_raw_templates(templates).map_err(|error| explain(&error, medium.name, &own))?;
        Ok(Self { tera, extension: medium.extension, own })
    }

    /// Renders the page of a document prepared by [`work`], block by block, so that the variables
    /// of each block are freed before the next.
    fn page(
        &self,
        medium: &'static Medium,
        layout: Option<&str>,
        document: &Value,
        blocks: &mut dyn Iterator<Item = Result<Value, MediaError>>,
    ) -> Result<String, MediaError> {
        let mut common = Context::new();
        let mut context = Context::new();
        for (name, value) in document.as_object().into_iter().flatten() {
            let value = tera::Value::from_serializable(value);
            if matches!(name.as_str(), "words" | "theme" | "language") {
                common.insert_value(name.clone(), value.clone());
            }
            context.insert_value(name.clone(), value);
        }
        // Blocks before the first page break form the first page; a table of contents may follow it
        // or its opening.
        let mut parts = [String::new(), String::new(), String::new()];
        let (mut part, mut set, mut length) = (OPENING, Vec::new(), 0);
        for block in blocks {
            let block = block?;
            let kind = block.get("kind").and_then(Value::as_str).unwrap_or_default();
            let next = match (part, kind) {
                (_, "page_break") => CONTENT,
                (OPENING, "heading" | "table" | "chart") => REMAINDER,
                (part, _) => part,
            };
            if next != part || kind == "page_break" {
                let chapter = std::mem::take(&mut set);
                parts[part].push_str(&(medium.compose)(chapter, part == CONTENT));
            }
            part = next;
            let markup = self.block(medium, &common, &block)?;
            length += markup.len();
            if length > MAX_PAGE {
                return Err(MediaError::TooLarge);
            }
            if kind == "page_break" {
                parts[part].push_str(&markup);
            } else {
                let rows = block.get("rows").and_then(Value::as_array).map_or(0, Vec::len);
                // A custom partial may draw charts and set rows in any way.
                let is_known = |of: &str| self.own.is_empty() && kind == of;
                let lines = if is_known("table") { row_lines(&block) } else { 0 };
                let ratio = if is_known("chart") { ratio(&block) } else { 0.0 };
                let kind = kind.to_owned();
                set.push(Set { kind, rows, lines, ratio, markup });
            }
        }
        parts[part].push_str(&(medium.compose)(set, part == CONTENT));
        let [opening, remainder, content] = parts;
        let said = document.to_string();
        let fonts = (medium.fonts)(&[&said, &opening, &remainder, &content]);
        context.insert_value("fonts", tera::Value::from_serializable(&fonts));
        context.insert("first_page", &format!("{opening}{remainder}"));
        context.insert("opening", &opening);
        context.insert("remainder", &remainder);
        context.insert("content", &content);
        let own = layout.map(|layout| format!("{layout}.{}", self.extension));
        let page = own.filter(|layout| self.own.contains_key(layout));
        self.render(
            medium,
            page.as_deref().unwrap_or(&format!("{PAGE}.{}", self.extension)),
            &context,
        )
    }

    /// Renders blocks without the page around them.
    fn fragment(
        &self,
        medium: &'static Medium,
        document: &Value,
        blocks: &[Value],
    ) -> Result<String, MediaError> {
        let mut common = Context::new();
        for name in ["words", "theme", "language"] {
            let value = document.get(name).unwrap_or(&Value::Null);
            common.insert_value(name, tera::Value::from_serializable(value));
        }
        self.blocks(medium, &common, blocks)
    }

    fn blocks(
        &self,
        medium: &'static Medium,
        common: &Context,
        blocks: &[Value],
    ) -> Result<String, MediaError> {
        let mut text = String::new();
        for block in blocks {
            text.push_str(&self.block(medium, common, block)?);
            if text.len() > MAX_PAGE {
                return Err(MediaError::TooLarge);
            }
        }
        Ok(text)
    }

    fn block(
        &self,
        medium: &'static Medium,
        common: &Context,
        block: &Value,
    ) -> Result<String, MediaError> {
        let mut context = common.clone();
        let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for (name, value) in block.as_object().into_iter().flatten() {
            match name.as_str() {
                // Nested blocks become markup.
                "columns" if block.get("kind").is_some_and(|kind| kind == "columns") => {
                    let columns: Vec<String> = array(value)
                        .iter()
                        .map(|blocks| self.blocks(medium, common, &array(blocks)))
                        .collect::<Result<_, _>>()?;
                    context.insert("columns", &columns);
                }
                "blocks" => context.insert("content", &self.blocks(medium, common, &array(value))?),
                "kind" => {}
                _ => context.insert_value(name.clone(), tera::Value::from_serializable(value)),
            }
        }
        let kind = block.get("kind").and_then(Value::as_str).unwrap_or_default();
        self.render(medium, &format!("{}.{}", kind.replace('_', "-"), self.extension), &context)
    }

    fn render(
        &self,
        medium: &'static Medium,
        name: &str,
        context: &Context,
    ) -> Result<String, MediaError> {
        let mut out = Limited(Vec::new());
        self.tera.render_to(name, context, &mut out).map_err(|error| {
            if out.0.len() >= MAX_PAGE {
                MediaError::TooLarge
            } else {
                explain(&error, medium.name, &self.own)
            }
        })?;
        String::from_utf8(out.0).map_err(|error| MediaError::Template(error.to_string()))
    }
}

/// Explains an error in a partial: file, line and column, the existing variables, and the one that
/// was probably meant.
fn explain(error: &tera::Error, medium: &str, own: &BTreeMap<String, PathBuf>) -> MediaError {
    let place = |name: &str| match own.get(name) {
        Some(path) => path.display().to_string(),
        None => format!("{medium}/{} (built in)", name.trim_start_matches(BASE)),
    };
    let mut text = error.to_string();
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            // Tera reports template names, but users know files.
            let mut names: Vec<&str> = own.keys().map(String::as_str).collect();
            names.push(report.filename());
            names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
            text = text
                .lines()
                .map(|line| {
                    let Some((before, rest)) =
                        line.split_once("--> ").or_else(|| line.split_once("note: "))
                    else {
                        return format!("{line}\n");
                    };
                    let arrow = &line[before.len()..line.len() - rest.len()];
                    match names.iter().find(|name| rest.contains(&format!("{name}:"))) {
                        Some(name) => {
                            format!("{before}{arrow}{}\n", rest.replacen(name, &place(name), 1))
                        }
                        None => format!("{line}\n"),
                    }
                })
                .collect();
            text.truncate(text.trim_end().len());
            if let Some(near) = meant(report.message()) {
                text.push_str(&format!("\ndid you mean {near:?}?"));
            }
        }
        _ => {
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                let more = error.to_string();
                if !text.contains(&more) {
                    text.push_str(": ");
                    text.push_str(&more);
                }
                cause = error.source();
            }
            text = format!("{text} (in the partials of {medium}, {})", own_places(own));
        }
    }
    MediaError::Template(text.trim_start_matches("error: ").to_owned())
}

fn own_places(own: &BTreeMap<String, PathBuf>) -> String {
    let folder = own.values().next().and_then(|path| path.parent());
    folder.map_or_else(|| "built in".to_owned(), |folder| folder.display().to_string())
}

/// Returns the existing name that is most similar to an unknown one.
fn meant(message: &str) -> Option<&str> {
    let wrong = message.split('`').nth(1)?;
    let (_, known) = message
        .split_once("Available variables: ")
        .or_else(|| message.split_once("Available fields: "))?;
    nearest(wrong, known.split(", "))
}

/// Returns an image or font as a data URI.
fn data_uri(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
}

/// A writer that limits the output of a template.
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
