//! From a report's files to deliveries: which files go to which target, in which folder, with which letter.

use std::path::{Path, PathBuf};

use mailqos_core::{
    config::{Config, Target},
    model::UtcMicros,
};

use super::{
    definition::{Definition, Delivery, Format},
    document::Document,
    generate::Report,
    media::{self, MediaError},
};
use crate::{
    delivery::{Inline, Item, Letter, outbox::Request},
    figures::Period,
};

/// Why a report's deliveries can't be ordered.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The template of a name is wrong.
    #[error("deliver.{key} {template:?}: {reason}")]
    Name {
        /// Whose.
        key: &'static str,
        /// The template.
        template: String,
        /// Why.
        reason: String,
    },
    /// The mail can't be written.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// The deliveries of a report's files; `run` is the moment at which it was due or asked for, and tells them from those of another run.
///
/// # Errors
/// A folder's name or the mail can't be made.
pub fn requests(
    config: &Config,
    definition: &Definition,
    report: &Report,
    files: &[(Format, PathBuf)],
    period: &Period,
    run: UtcMicros,
) -> Result<Vec<Request>, DispatchError> {
    definition
        .deliveries
        .iter()
        .map(|delivery| {
            let by_mail = matches!(config.targets.get(&delivery.target), Some(Target::Email(_)));
            let letter = if by_mail {
                letter(&report.document, config)?
            } else {
                Letter::default()
            };
            let names = Names {
                definition,
                report,
                period,
                run,
            };
            let named = match delivery.name.as_str() {
                "" => None,
                template => Some(names.fill("name", template)?),
            };
            Ok(Request {
                target: delivery.target.clone(),
                folder: names.fill("path", &delivery.path)?,
                letter,
                items: files
                    .iter()
                    .filter(|(format, _)| wanted(delivery, *format, by_mail))
                    .map(|(format, path)| Item {
                        name: match &named {
                            Some(named) => format!("{named}.{}", format.extension()),
                            None => name(path),
                        },
                        path: path.clone(),
                    })
                    .collect(),
                occasion: format!("{} {run} {}", definition.slug, report.stem),
                report: definition.slug.clone(),
                run: run.to_string(),
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
    let page = media::email::render(document, Some(&config.templates))?;
    let pictures = page
        .pictures
        .into_iter()
        .map(|(id, media_type, bytes)| Inline { id, media_type, bytes });
    Ok(Letter {
        subject: format!("{}, {}: {}", document.title, document.period, document.headline)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(200)
            .collect(),
        text: media::text::render(document),
        html: Some(page.html),
        pictures: pictures.collect(),
        ..Letter::default()
    })
}

/// What names of folders and files are made of.
struct Names<'a> {
    definition: &'a Definition,
    report: &'a Report,
    period: &'a Period,
    run: UtcMicros,
}

impl Names<'_> {
    fn fill(&self, key: &'static str, template: &str) -> Result<String, DispatchError> {
        if !template.contains('{') {
            return Ok(template.to_owned());
        }
        let date = |moment: UtcMicros| self.period.timezone().to_datetime(moment.timestamp()).date();
        let (from, last) = (date(self.period.from), date(UtcMicros(self.period.to.0 - 1)));
        let made = date(self.run);
        // The week around a new year is one of another year than its first day.
        let week = from.iso_week_date();
        let mut context = tera::Context::new();
        context.insert(
            "period",
            &serde_json::json!({
                "from": from.to_string(),
                "to": last.to_string(),
                "year": format!("{:04}", from.year()),
                "quarter": format!("{}", (from.month() - 1) / 3 + 1),
                "month": format!("{:02}", from.month()),
                "week": format!("{:02}", week.week()),
                "week_year": format!("{:04}", week.year()),
                "day": format!("{:02}", from.day()),
            }),
        );
        // What comes from people's names is one part of a path, never several.
        let part = |text: &str| text.replace(['/', '\\'], "-");
        context.insert(
            "report",
            &serde_json::json!({
                "slug": part(&self.definition.slug),
                "title": part(&self.definition.template.title),
                "stem": part(&self.report.stem),
                "date": made.to_string(),
            }),
        );
        tera::Tera::one_off(template, &context, false).map_err(|error| DispatchError::Name {
            key,
            template: template.to_owned(),
            reason: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
        })
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
