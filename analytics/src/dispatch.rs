//! Turns a report's files into deliveries: which files go to which target and folder, with which
//! mail text.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use mailqos_config::{Config, Target};
use mailqos_delivery::{Inline, Item, MailContent, Notes, outbox::Request};
use mailqos_figures::Period;
use mailqos_model::UtcMicros;
use mailqos_report::{
    definition::{Definition, Delivery, Format},
    document::Document,
    generate::Report,
    locale::Locale,
    media::{self, MediaError},
    naming::{NameError, Names},
};

/// Reasons why a report's deliveries can't be queued.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The template of a name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The mail can't be composed.
    #[error(transparent)]
    Media(#[from] MediaError),
}

/// A run of a definition.
#[derive(Debug)]
pub struct Run<'a> {
    /// The definition.
    pub definition: &'a Definition,
    /// The period of its reports.
    pub period: &'a Period,
    /// Time at which it was due or requested, which distinguishes its deliveries from others.
    pub at: UtcMicros,
}

/// Returns the delivery requests for a report's files. `run` is the time at which it was due or
/// requested, and distinguishes them from those of other runs.
///
/// # Errors
/// A folder's name or the mail can't be generated.
pub fn requests(
    config: &Config,
    run: &Run<'_>,
    report: &Report,
    files: &[(Format, PathBuf)],
) -> Result<Vec<Request>, DispatchError> {
    let Run { definition, period, at } = *run;
    definition
        .deliveries
        .iter()
        .map(|delivery| {
            let by_mail = matches!(config.targets.get(&delivery.target), Some(Target::Email(_)));
            let letter =
                if by_mail { letter(&report.document, config)? } else { MailContent::default() };
            let names = Names::of_report(definition, &report.stem, period, at);
            let named = match delivery.name.as_str() {
                "" => None,
                template => Some(names.expand("deliver.name", template)?),
            };
            let (folder, linked_folder) =
                names.folders(config, &delivery.target, &delivery.path)?;
            Ok(Request {
                target: delivery.target.clone(),
                folder,
                linked_folder,
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
                occasion: format!("{} {at} {}", definition.slug, report.stem),
                report: definition.slug.clone(),
                run: at.to_string(),
            })
        })
        .collect()
}

/// Returns whether a format is delivered. A mail has the page as its body, so by default only the
/// PDF is attached.
fn wanted(delivery: &Delivery, format: Format, by_mail: bool) -> bool {
    // If a page was requested, a report with many sections is an archive instead.
    let is_page = matches!(format, Format::Html | Format::Zip);
    if delivery.formats.is_empty() {
        !(by_mail && is_page)
    } else {
        delivery.formats.contains(&format) || is_page && delivery.formats.contains(&Format::Html)
    }
}

fn letter(document: &Document, config: &Config) -> Result<MailContent, MediaError> {
    let page = media::email::render(document, Some(&config.templates))?;
    let pictures =
        page.pictures.into_iter().map(|(id, media_type, bytes)| Inline { id, media_type, bytes });
    Ok(MailContent {
        subject: format!("{}, {}: {}", document.title, document.period, document.headline)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(200)
            .collect(),
        text: page.text,
        html: Some(page.html),
        pictures: pictures.collect(),
        notes: notes(&document.language),
        ..MailContent::default()
    })
}

/// Returns the texts about files that are too large for a mail, in the report's language.
fn notes(language: &str) -> Notes {
    let Some(l) = Locale::new(language, TimeZone::UTC) else {
        return Notes::default();
    };
    Notes {
        elsewhere: l.t("The files are too large for this mail. They are here:").to_owned(),
        left_out: l.t("These files are too large for this mail and are not attached:").to_owned(),
        more: l.t("and {0} more").to_owned(),
        too_large: l.t("The report is too large for this mail.").to_owned(),
        decimal: l.decimal(),
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_mentions_large_files_in_the_reports_language() {
        assert_eq!(notes("en-GB"), Notes::default());
        let german = notes("de");
        assert_eq!(german.decimal, ',');
        assert!(german.elsewhere.contains("zu groß"), "{german:?}");
        assert_eq!(german.more, "und {0} weitere");
        let swedish = notes("sv_SE.UTF-8");
        assert!(swedish.left_out.contains("för stora"), "{swedish:?}");
    }
}
