//! HTML: one self-contained file, charts as inline SVG, pictures as data URIs.

use std::path::Path;

use super::{
    MediaError, Medium, data_uri,
    work::{Showing, Work},
};
use crate::report::document::Document;

pub(super) static MEDIUM: Medium = Medium {
    name: "html",
    extension: "html",
    escape: tera::escape_html,
    filters: |_| {},
    built_in: partials!("html", "html", "style", "script"),
};

static SHOWING: Showing = Showing {
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
    let page = Work::new(&MEDIUM, &SHOWING, document, own)?.done(&MEDIUM)?;
    String::from_utf8(page).map_err(|error| MediaError::Template(error.to_string()))
}
