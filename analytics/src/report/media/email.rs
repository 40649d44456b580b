//! The HTML form of a mail: the first page in tables and inline styles, as mail programs need it, and its plain text.

use std::path::Path;

use super::{MediaError, Partials, data_uri, raster};
use crate::report::document::{Block, Document, Picture, Span};

macro_rules! partials {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../../templates/email/", $name)))),+]
    };
}

const BUILT_IN: [(&str, &str); 13] = partials![
    "page.html",
    "spans.html",
    "heading.html",
    "paragraph.html",
    "list.html",
    "key-figures.html",
    "table.html",
    "chart.html",
    "note.html",
    "transcript.html",
    "image.html",
    "columns.html",
    "group.html",
];

/// The first page of a document as the HTML of a mail; `own` is the folder of the user's templates.
///
/// # Errors
/// A user's partial is wrong.
pub fn render(document: &Document, own: Option<&Path>) -> Result<String, MediaError> {
    let mut built_in = BUILT_IN.to_vec();
    built_in.push(("page-break.html", ""));
    let first = Document {
        blocks: document.first_page().to_vec(),
        ..document.clone()
    };
    Partials::new("email", "html", tera::escape_html, |_| {}, source, &built_in, own)?
        .drawing(|svg| Ok(data_uri("image/png", &raster::png(svg.as_bytes())?)))
        .page(&first)
}

/// Pictures stand in the page as data URIs; the mail carries them as parts of their own. Drawings become PNG.
fn source(picture: &Picture) -> String {
    if picture.media_type == "image/svg+xml" {
        return raster::png(&picture.bytes)
            .map(|bytes| data_uri("image/png", &bytes))
            .inspect_err(|error| tracing::warn!("a picture is missing in the mail: {error}"))
            .unwrap_or_default();
    }
    data_uri(picture.media_type, &picture.bytes)
}

/// The first page of a document as plain text.
pub fn text(document: &Document) -> String {
    let mut text = format!("{}\n{}\n\n{}\n\n", document.title, document.period, document.headline);
    for note in &document.notes {
        text.push_str(&format!("{} {}\n\n", note.title, note.text));
    }
    for block in document.first_page() {
        match block {
            Block::Heading { text: heading, .. } => text.push_str(&format!("{heading}\n\n")),
            Block::Paragraph { spans } => text.push_str(&format!("{}\n\n", plain(spans))),
            Block::List { items, .. } => {
                for item in items {
                    text.push_str(&format!("- {}\n", plain(item)));
                }
                text.push('\n');
            }
            Block::KeyFigures { figures } => {
                for figure in figures {
                    text.push_str(&format!("{}: {}", figure.label, figure.value));
                    if !figure.detail.is_empty() {
                        text.push_str(&format!(" ({})", figure.detail));
                    }
                    text.push('\n');
                }
                text.push('\n');
            }
            Block::Chart(chart) => text.push_str(&format!("{}\n\n", chart.chart.alternative)),
            Block::Note(note) => text.push_str(&format!("{} {}\n\n", note.title, note.text)),
            // Tables are in the HTML form and in the attachment: as text they would break.
            Block::Table(_)
            | Block::Transcript(_)
            | Block::Image { .. }
            | Block::Columns { .. }
            | Block::Group { .. }
            | Block::PageBreak => {}
        }
    }
    text.push_str(&format!(
        "{} {} · {}\n",
        document.words.made, document.made, document.producer
    ));
    text
}

fn plain(spans: &[Span]) -> String {
    spans.iter().map(|span| span.text.as_str()).collect()
}
