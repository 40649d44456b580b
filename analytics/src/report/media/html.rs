//! HTML: one self-contained file, charts as inline SVG, pictures as data URIs.

use std::path::Path;

use super::{MediaError, Partials, data_uri};
use crate::report::document::{Document, Picture};

macro_rules! partials {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../../templates/html/", $name)))),+]
    };
}

const BUILT_IN: [(&str, &str); 14] = partials![
    "page.html",
    "style.html",
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

/// The page of a document; `own` is the folder of the user's templates.
///
/// # Errors
/// A user's partial is wrong.
pub fn render(document: &Document, own: Option<&Path>) -> Result<String, MediaError> {
    let mut built_in = BUILT_IN.to_vec();
    built_in.push(("page-break.html", "<div class=\"page-break\"></div>\n"));
    Partials::new("html", "html", tera::escape_html, |_| {}, source, &built_in, own)?.page(document)
}

fn source(picture: &Picture) -> String {
    data_uri(picture.media_type, &picture.bytes)
}
