//! From a report's files to deliveries: which files go to which target, in which folder, with which letter.

use std::path::{Path, PathBuf};

use mailqos_core::config::{Config, Target};

use super::{
    definition::{Definition, Delivery, Format},
    document::Document,
    generate::Report,
    media::{self, MediaError},
};
use crate::{
    delivery::{Item, Letter, outbox::Request},
    figures::Period,
};

/// Why a report's deliveries can't be ordered.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The template of a folder's name is wrong.
    #[error("deliver.path {path:?}: {reason}")]
    Path {
        /// The template.
        path: String,
        /// Why.
        reason: String,
    },
    /// The mail can't be written.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// The deliveries of a report's files; `occasion` tells those of one run from those of another.
///
/// # Errors
/// A folder's name or the mail can't be made.
pub fn requests(
    config: &Config,
    definition: &Definition,
    report: &Report,
    files: &[(Format, PathBuf)],
    period: &Period,
    occasion: &str,
) -> Result<Vec<Request>, DispatchError> {
    definition
        .deliveries
        .iter()
        .map(|delivery| {
            let by_mail = matches!(config.targets.get(&delivery.target), Some(Target::Email { .. }));
            let letter = if by_mail {
                letter(&report.document, config)?
            } else {
                Letter::default()
            };
            Ok(Request {
                target: delivery.target.clone(),
                folder: folder(delivery, definition, period)?,
                letter,
                items: files
                    .iter()
                    .filter(|(format, _)| wanted(delivery, *format, by_mail))
                    .map(|(_, path)| Item {
                        name: name(path),
                        path: path.clone(),
                    })
                    .collect(),
                occasion: occasion.to_owned(),
            })
        })
        .collect()
}

/// A mail has the page as its body: unless the definition says so, only the PDF is attached.
fn wanted(delivery: &Delivery, format: Format, by_mail: bool) -> bool {
    if delivery.formats.is_empty() {
        !(by_mail && format == Format::Html)
    } else {
        delivery.formats.contains(&format)
    }
}

fn letter(document: &Document, config: &Config) -> Result<Letter, MediaError> {
    Ok(Letter {
        subject: format!("{}, {}: {}", document.title, document.period, document.headline)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(200)
            .collect(),
        text: media::email::text(document),
        html: Some(media::email::render(document, Some(&config.templates))?),
        id: String::new(),
    })
}

fn folder(delivery: &Delivery, definition: &Definition, period: &Period) -> Result<String, DispatchError> {
    let wrong = |reason: String| DispatchError::Path {
        path: delivery.path.clone(),
        reason,
    };
    if delivery.path.is_empty() {
        return Ok(String::new());
    }
    let date = |moment: mailqos_core::model::UtcMicros| period.timezone().to_datetime(moment.timestamp()).date();
    let (from, last) = (date(period.from), date(mailqos_core::model::UtcMicros(period.to.0 - 1)));
    let mut context = tera::Context::new();
    context.insert(
        "period",
        &serde_json::json!({
            "from": from.to_string(),
            "to": last.to_string(),
            "year": format!("{:04}", from.year()),
            "month": format!("{:02}", from.month()),
            "day": format!("{:02}", from.day()),
        }),
    );
    context.insert("report", &serde_json::json!({ "slug": definition.slug }));
    tera::Tera::one_off(&delivery.path, &context, false).map_err(|error| wrong(error.to_string()))
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
