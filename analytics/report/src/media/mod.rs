//! Media: from a document to a file. Each is a folder of Tera partials, one a kind of block, and the page around them.
//!
//! A user's own partial takes the place of the built-in one of its name, and an own layout extends the built-in page. What
//! is a user's own runs in a process of its own, with limits of time and memory: see [`guard`].

/// The built-in partials of a medium: its folder, the ending of their names, and those that only it has. All media have a page
/// and a partial for each kind of block.
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

/// Why a document can't be shown in a medium.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A partial or layout is wrong: which, where, and what it could use instead.
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
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The result would be larger than anybody can use.
    #[error("the page became larger than {} MB; is there an endless loop in a template?", MAX_PAGE >> 20)]
    TooLarge,
    /// The format needs a cargo feature that this build lacks.
    #[error("this build cannot write {0}: it was built without the cargo feature {0:?}")]
    NotBuiltIn(&'static str),
    /// A user's partial or layout used more than it may.
    #[error("{0}")]
    Stopped(String),
}

/// No page is larger.
const MAX_PAGE: usize = 256 << 20;
/// No partial is larger.
const MAX_PARTIAL: u64 = 4 << 20;
/// The parts of a page: what stands before the first heading, table or chart; what follows it up to the first page break; the
/// rest.
const OPENING: usize = 0;
const REMAINDER: usize = 1;
const CONTENT: usize = 2;
/// The layout that is used where there is no other.
const PAGE: &str = "page";
/// What stands before the name of a built-in partial that one's own may have replaced.
const BASE: &str = "base/";

/// What sets a medium that is made of partials apart.
struct Medium {
    /// The name of its folder.
    name: &'static str,
    /// The ending of its partials.
    extension: &'static str,
    escape: EscapeFn,
    filters: fn(&mut Tera),
    built_in: &'static [(&'static str, &'static str)],
    /// The fonts of a page with these texts, where the medium embeds them: `fonts`.
    fonts: fn(&[&str]) -> Value,
    /// Makes the markup of a chapter of that of its blocks; at the top of a page, or wherever the page is.
    compose: fn(Vec<Set>, bool) -> String,
    /// Makes the file of the markup of a page.
    finish: fn(work::Markup) -> Result<Vec<u8>, MediaError>,
}

/// The font family of charts: Inter without kerning and ligatures. Each label of a drawing is shaped
/// on its own, reading all rules of the font anew, which took a third of the time of a PDF with a
/// hundred heat maps.
const DRAWN: &str = "Inter Drawn";

/// The markup of a block.
struct Set {
    kind: String,
    /// How many rows it has, if it is a table.
    rows: usize,
    markup: String,
}

/// Makes the page that standard input asks for, within the limits of [`guard`].
pub fn make_page() -> ExitCode {
    guard::serve(work::make)
}

/// One block after the other, as they are.
fn one_by_one(blocks: Vec<Set>, _at_top: bool) -> String {
    blocks.into_iter().map(|block| block.markup).collect()
}

/// The media that have partials.
static MEDIA: [&Medium; 3] = [&html::MEDIUM, &pdf::MEDIUM, &email::MEDIUM];

/// The files that a layout of a name may have, one a medium.
pub fn layout_files(templates: &Path, layout: &str) -> Vec<PathBuf> {
    let file = |medium: &&Medium| {
        templates
            .join(medium.name)
            .join(format!("{layout}.{}", medium.extension))
    };
    MEDIA.iter().map(file).collect()
}

/// A layout to begin one's own with: medium's folder, file and text.
pub fn new_layout(name: &str) -> Vec<(PathBuf, &'static str)> {
    let texts = [
        include_str!("../../../../templates/layouts/new.html"),
        include_str!("../../../../templates/layouts/new.typ"),
        include_str!("../../../../templates/layouts/new-mail.html"),
    ];
    layout_files(Path::new(""), name).into_iter().zip(texts).collect()
}

/// The built-in partials: medium, name, text.
pub fn built_in() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    MEDIA.iter().flat_map(|medium| {
        let partial = |(name, text): &(&'static str, &'static str)| (medium.name, *name, *text);
        medium.built_in.iter().map(partial)
    })
}

/// The partials of a medium.
struct Partials {
    tera: Tera,
    extension: &'static str,
    /// Of each partial of the user's own, its file.
    own: BTreeMap<String, PathBuf>,
}

/// The user's own partials of a medium, by name: file and text.
fn own_partials(medium: &Medium, own: Option<&Path>) -> Result<BTreeMap<String, (PathBuf, String)>, MediaError> {
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
    /// The built-in partials of a medium, and the user's own over them, from the folder of the medium's name in `own`.
    fn new(medium: &'static Medium, own: Option<&Path>) -> Result<Self, MediaError> {
        let mut tera = Tera::new();
        tera.set_escape_fn(medium.escape);
        // Filters must be there before the partials that use them.
        (medium.filters)(&mut tera);
        tera.autoescape_on([format!(".{}", medium.extension)]);
        let own = own_partials(medium, own)?;
        let mut templates: Vec<(String, Cow<'_, str>)> = Vec::new();
        for (name, text) in medium.built_in {
            // Under its name unless there is an own one; and always under another, for an own one to extend.
            if own.contains_key(*name) {
                templates.push((format!("{BASE}{name}"), Cow::Borrowed(*text)));
            } else {
                templates.push(((*name).to_owned(), Cow::Borrowed(*text)));
            }
        }
        for (name, (_, text)) in &own {
            templates.push((name.clone(), Cow::Borrowed(text)));
        }
        let own: BTreeMap<String, PathBuf> = own
            .iter()
            .map(|(name, (path, _))| (name.clone(), path.clone()))
            .collect();
        // What names a base that nobody replaced means the partial itself.
        for (name, text) in medium.built_in {
            let base = format!("{BASE}{name}");
            if !own.is_empty() && !own.contains_key(*name) {
                templates.push((base, Cow::Borrowed(*text)));
            }
        }
        tera.add_raw_templates(templates)
            .map_err(|error| explain(&error, medium.name, &own))?;
        Ok(Self {
            tera,
            extension: medium.extension,
            own,
        })
    }

    /// The whole page, of a document as [`work`] prepares it: block by block, so that what partials see of each is gone before
    /// the next.
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
        // What stands before the first page break is the first page; a list of contents may follow it, or its opening.
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
                let kind = kind.to_owned();
                set.push(Set { kind, rows, markup });
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

    fn blocks(&self, medium: &'static Medium, common: &Context, blocks: &[Value]) -> Result<String, MediaError> {
        let mut text = String::new();
        for block in blocks {
            text.push_str(&self.block(medium, common, block)?);
            if text.len() > MAX_PAGE {
                return Err(MediaError::TooLarge);
            }
        }
        Ok(text)
    }

    fn block(&self, medium: &'static Medium, common: &Context, block: &Value) -> Result<String, MediaError> {
        let mut context = common.clone();
        let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for (name, value) in block.as_object().into_iter().flatten() {
            match name.as_str() {
                // Blocks within blocks become markup.
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
        self.render(
            medium,
            &format!("{}.{}", kind.replace('_', "-"), self.extension),
            &context,
        )
    }

    fn render(&self, medium: &'static Medium, name: &str, context: &Context) -> Result<String, MediaError> {
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

/// What is wrong with a partial: the file, line and column, what exists, and what may have been meant.
fn explain(error: &tera::Error, medium: &str, own: &BTreeMap<String, PathBuf>) -> MediaError {
    let place = |name: &str| match own.get(name) {
        Some(path) => path.display().to_string(),
        None => format!("{medium}/{} (built in)", name.trim_start_matches(BASE)),
    };
    let mut text = error.to_string();
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            // Tera names its templates; people know files.
            let mut names: Vec<&str> = own.keys().map(String::as_str).collect();
            names.push(report.filename());
            names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
            text = text
                .lines()
                .map(|line| {
                    let Some((before, rest)) = line.split_once("--> ").or_else(|| line.split_once("note: ")) else {
                        return format!("{line}\n");
                    };
                    let arrow = &line[before.len()..line.len() - rest.len()];
                    match names.iter().find(|name| rest.contains(&format!("{name}:"))) {
                        Some(name) => format!("{before}{arrow}{}\n", rest.replacen(name, &place(name), 1)),
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

/// The name that exists and is most like the one that does not.
fn meant(message: &str) -> Option<&str> {
    let wrong = message.split('`').nth(1)?;
    let (_, known) = message
        .split_once("Available variables: ")
        .or_else(|| message.split_once("Available fields: "))?;
    nearest(wrong, known.split(", "))
}

/// A picture or font as a data URI.
fn data_uri(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
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
