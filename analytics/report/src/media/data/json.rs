//! JSON: all figures of a report, for programs.

use serde::Serialize;

use super::{Sheet, sheets};
use crate::{
    document::{Document, Note},
    media::MediaError,
    provenance::Provenance,
};

#[derive(Serialize)]
struct Report<'a> {
    title: &'a str,
    headline: &'a str,
    period: Span<'a>,
    scope: &'a str,
    language: &'a str,
    /// `None` without data.
    made: Option<String>,
    producer: &'a str,
    data_sha256: &'a str,
    notes: &'a [Note],
    figures: Vec<Sheet<'a>>,
    provenance: &'a Provenance,
}

#[derive(Serialize)]
struct Span<'a> {
    text: &'a str,
    from: String,
    to: String,
    zone: &'a str,
}

/// Exports all figures of a document as JSON.
///
/// # Errors
/// The data can't be written.
pub fn render(document: &Document) -> Result<Vec<u8>, MediaError> {
    let report = Report {
        title: &document.title,
        headline: &document.headline,
        period: Span {
            text: &document.period,
            from: document.from.to_string(),
            to: document.to.to_string(),
            zone: &document.zone,
        },
        scope: &document.scope,
        language: &document.language,
        made: (document.made != document.words.dash).then(|| document.made_at.to_string()),
        producer: &document.producer,
        data_sha256: &document.data_hash,
        notes: &document.notes,
        figures: sheets(document),
        provenance: &document.provenance,
    };
    let mut text =
        serde_json::to_vec(&report).map_err(|error| MediaError::Data(error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}
