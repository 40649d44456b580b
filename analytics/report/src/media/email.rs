//! HTML of mails, with tables and inline styles, as mail clients require.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    MediaError, Medium, data_uri,
    mail_page::{MEASURES, compose},
    one_by_one, raster, text,
    work::{Representation, Work},
};
use crate::document::{Document, Picture};

pub(super) static MEDIUM: Medium = Medium {
    name: "email",
    extension: "html",
    escape: tera::escape_html,
    filters: |_| {},
    built_in: partials!("email", "html"),
    fonts: |_| serde_json::Value::Null,
    compose: one_by_one,
    finish: |page| Ok(page.markup.into_bytes()),
};

static SHOWING: Representation = Representation {
    source: |picture| Ok(source(picture)),
    drawn: Some(|svg| Ok(data_uri("image/png", &raster::png(svg.as_bytes())?))),
    drawings: false,
    files: false,
    row_lines: |_, _| 0,
};

/// Maximum length of the HTML, in bytes: Gmail clips messages above 102 kB, and a note on the
/// location of the files may still be added.
const MAX_LENGTH: usize = 95_000;

/// Text, HTML and images of a mail.
#[derive(Debug)]
pub struct Page {
    /// Plain text.
    pub text: String,
    /// HTML, which refers to its images by `cid:`.
    pub html: String,
    /// Content-ID, media type and content of each image.
    pub pictures: Vec<(String, String, Vec<u8>)>,
}

/// Renders a document as the HTML of a mail, as much of it as a mail client shows; `own` is the
/// folder of custom templates.
///
/// # Errors
/// A custom partial is invalid.
pub fn render(document: &Document, own: Option<&Path>) -> Result<Page, MediaError> {
    let mut measures = MEASURES.iter().peekable();
    loop {
        let Some(measure) = measures.next() else {
            return Err(MediaError::Template("no size is defined for mails".to_owned()));
        };
        let composed = compose(document, measure);
        let page = Work::new(&MEDIUM, &SHOWING, &composed, own)?.done(&MEDIUM)?;
        let page =
            String::from_utf8(page).map_err(|error| MediaError::Template(error.to_string()))?;
        let (html, pictures) = pictures_apart(&page);
        let is_short = html.len() <= MAX_LENGTH;
        if is_short || measures.peek().is_none() {
            if !is_short {
                tracing::warn!(
                    "the mail is {} kB long even in its shortest form, and Gmail clips mails above 102 kB: \
                     shorten the layout in templates/email",
                    html.len() / 1_000
                );
            }
            return Ok(Page { text: text::render(&composed), html, pictures });
        }
    }
}

/// Returns an image, with SVG converted to PNG.
fn source(picture: &Picture) -> String {
    if picture.media_type == "image/svg+xml" {
        return raster::png(&picture.bytes)
            .map(|bytes| data_uri("image/png", &bytes))
            .inspect_err(|error| tracing::warn!(%error, "image missing in the mail"))
            .unwrap_or_default();
    }
    data_uri(picture.media_type, &picture.bytes)
}

/// Moves the images of a page to parts of the mail, referenced by their Content-ID (RFC 2392),
/// because mail clients don't show data URIs. Returns the page, and name, media type and content of
/// each image.
fn pictures_apart(html: &str) -> (String, Vec<(String, String, Vec<u8>)>) {
    const BEGIN: &str = "src=\"data:image/";
    let mut page = String::new();
    let mut pictures: Vec<(String, String, Vec<u8>)> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find(BEGIN) {
        let (before, picture) = rest.split_at(at);
        page.push_str(before);
        let value = &picture["src=\"data:".len()..];
        let end = value.find('"').unwrap_or(value.len());
        let decoded = value[..end]
            .split_once(";base64,")
            .and_then(|(media, text)| Some((media, STANDARD.decode(text).ok()?)));
        match decoded {
            Some((media, bytes)) => {
                let known = pictures.iter().find(|(_, _, known)| *known == bytes);
                let name = known.map_or_else(
                    || format!("picture-{}@mailqos", pictures.len() + 1),
                    |(name, ..)| name.clone(),
                );
                page.push_str(&format!("src=\"cid:{name}"));
                if known.is_none() {
                    pictures.push((name, media.to_owned(), bytes));
                }
            }
            // Anything else remains unchanged.
            None => page.push_str(&picture[..picture.len() - value.len() + end]),
        }
        rest = &value[end..];
    }
    page.push_str(rest);
    (page, pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_become_parts_of_the_mail() {
        let html = "<p><img src=\"data:image/png;base64,AAEC\" alt=\"a\"><img src=\"data:image/png;base64,AAEC\"><img src=\"data:image/png;base64,%\"></p>";
        let (page, pictures) = pictures_apart(html);
        assert_eq!(
            page,
            "<p><img src=\"cid:picture-1@mailqos\" alt=\"a\"><img src=\"cid:picture-1@mailqos\"><img src=\"data:image/png;base64,%\"></p>"
        );
        assert_eq!(
            pictures,
            [("picture-1@mailqos".to_owned(), "image/png".to_owned(), vec![0, 1, 2])]
        );
    }
}
