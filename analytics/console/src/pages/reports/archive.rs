//! The archive: reports that the schedules have generated, in the folders of their definitions.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use mailqos_base::files;
use mailqos_config::Config;
use mailqos_report::{definition::Format, locale::Locale, provenance::Provenance};
use serde_json::{Value, json};

use super::made;
use crate::{
    access::viewer::Viewer,
    app::{Answer, App, Refusal},
    http::{request::Ask, respond},
    language::{fill, text},
    render::values,
    reports::store,
};

/// Reports on the page.
const MAX_REPORTS: usize = 300;
/// Files of a folder that are listed.
const MAX_FILES: usize = 20_000;
/// Largest file that is searched for its monitors, in bytes.
const MAX_READ: u64 = 64 << 20;

/// A report: its files by format.
#[derive(Debug)]
pub(crate) struct Archived {
    /// Name of the definition.
    pub(crate) slug: String,
    /// Stem of the names of the files.
    pub(crate) stem: String,
    at: SystemTime,
    files: BTreeMap<&'static str, PathBuf>,
}

impl Archived {
    /// Returns the time at which it was generated.
    pub(crate) fn made_at(&self) -> jiff::Timestamp {
        jiff::Timestamp::try_from(self.at).unwrap_or_default()
    }

    /// Returns the formats of its files.
    pub(crate) fn formats(&self) -> impl Iterator<Item = &'static str> {
        self.files.keys().copied()
    }

    /// Returns the address of a file.
    pub(crate) fn address(&self, format: &str) -> String {
        let encode = |text: &str| -> String {
            let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
            text.replace('+', "%20")
        };
        let file = format!("{}.{format}", self.stem);
        format!("/reports/archive/{}/{}", encode(&self.slug), encode(&file))
    }
}

/// Returns the folders of reports: those of the definitions, and those of definitions that have
/// been removed.
fn folders(config: &Config) -> BTreeMap<String, PathBuf> {
    let own = config.state.join("reports");
    let mut folders = BTreeMap::new();
    if let Ok(entries) = std::fs::read_dir(&own) {
        for entry in entries.flatten().take(MAX_FILES) {
            if let Ok(slug) = entry.file_name().into_string()
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                folders.insert(slug, entry.path());
            }
        }
    }
    for stored in store::all(config).unwrap_or_default() {
        if let Ok(definition) = stored.definition
            && definition.schedule.is_some()
            && let Some(output) = definition.output
        {
            folders.insert(stored.slug, output);
        }
    }
    folders
}

/// Returns the reports of a folder. Other files may be in it, too.
fn reports(slug: &str, folder: &Path) -> Vec<Archived> {
    let mut found: BTreeMap<String, Archived> = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    for entry in entries.flatten().take(MAX_FILES) {
        let path = entry.path();
        let Some((stem, format)) = parts(&path) else { continue };
        let Ok(about) = entry.metadata() else { continue };
        if !stem.starts_with(slug) || !about.is_file() {
            continue;
        }
        let at = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let report = found.entry(stem.to_owned()).or_insert_with(|| Archived {
            slug: slug.to_owned(),
            stem: stem.to_owned(),
            at,
            files: BTreeMap::new(),
        });
        report.at = report.at.max(at);
        report.files.insert(format, path);
    }
    found.into_values().collect()
}

/// Returns the stem and the format of a report's file.
fn parts(path: &Path) -> Option<(&str, &'static str)> {
    let extension = path.extension()?.to_str()?;
    let (format, _) = Format::ALL.iter().find(|(name, _)| *name == extension)?;
    let stem = path.file_stem()?.to_str()?;
    (!stem.starts_with('.')).then_some((stem, *format))
}

/// Whether a viewer may see a report: of a restricted one, all monitors must be its own. The report
/// states them; without such a statement, it is not shown.
fn may_see(app: &App, viewer: &Viewer, report: &Archived) -> bool {
    if viewer.sees_all() {
        return true;
    }
    let stated = ["json", "html", "pdf"].iter().filter_map(|format| report.files.get(format));
    let found = stated.filter_map(|path| files::read(path, MAX_READ).ok());
    let found = found.filter_map(|bytes| Provenance::find(&bytes).ok()).next();
    let board = app.keeper.board();
    found.is_some_and(|provenance| {
        let mut monitors = provenance.parts.iter().flat_map(|part| &part.monitors).peekable();
        monitors.peek().is_some()
            && monitors
                .all(|of| board.get(&of.site, &of.monitor).is_some_and(|entry| viewer.sees(entry)))
    })
}

/// Returns the latest reports that a viewer may see, newest first.
pub(crate) fn visible(app: &App, viewer: &Viewer) -> Vec<Archived> {
    let mut all: Vec<Archived> =
        folders(&app.config()).iter().flat_map(|(slug, folder)| reports(slug, folder)).collect();
    all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.stem.cmp(&b.stem)));
    all.truncate(MAX_REPORTS);
    all.retain(|report| may_see(app, viewer, report));
    all
}

/// Shows the page.
pub(crate) fn show(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let locale = app.locale(ask, Some(&viewer));
    let rows: Vec<Value> = visible(app, &viewer)
        .iter()
        .map(|report| {
            let at = report.made_at();
            let files: Vec<Value> = report
                .formats()
                .map(|format| {
                    json!({"href": report.address(format), "format": format.to_uppercase()})
                })
                .collect();
            json!({
                "slug": report.slug, "stem": report.stem, "files": files,
                "at": locale.moment_in_period(at.into()), "iso": at.to_string(),
            })
        })
        .collect();
    let found = values([
        ("active", json!("reports")),
        ("part", json!("archive")),
        ("reports", json!(rows)),
        ("rule", json!(rule(&app.config(), &locale))),
    ]);
    Ok(respond::html(200, app.page("report-archive", ask, Some(&viewer), &found)?))
}

/// Returns how long reports are kept, in a sentence.
fn rule(config: &Config, locale: &Locale) -> String {
    let tag = locale.tag();
    let days = config.archive.keep.map(|keep| locale.span(keep));
    let count = config.archive.keep_last.map(|count| locale.integer(count.into()));
    match (days, count) {
        (None, None) => text(tag, "Reports are kept until someone removes them.").to_owned(),
        (Some(days), None) => fill(tag, "Reports are kept for {0}.", &[&days]),
        (None, Some(count)) => {
            fill(tag, "Of each definition, the last {0} runs are kept.", &[&count])
        }
        (Some(days), Some(count)) => fill(
            tag,
            "Reports are kept for {0}, and at most the last {1} runs of each definition.",
            &[&days, &count],
        ),
    }
}

/// Sends a file of the archive.
pub(crate) fn file(app: &App, ask: &Ask) -> Answer {
    let viewer = app.require(ask)?;
    let (slug, name) = (ask.part("slug"), ask.part("file"));
    let folders = folders(&app.config());
    let folder = folders.get(slug).ok_or(Refusal::NotFound)?;
    // Only files that the page lists: no part of the address becomes a path.
    let (stem, format) = parts(Path::new(name)).ok_or(Refusal::NotFound)?;
    let all = reports(slug, folder);
    let report = all.iter().find(|report| report.stem == stem).ok_or(Refusal::NotFound)?;
    let path = report.files.get(format).ok_or(Refusal::NotFound)?;
    if !may_see(app, &viewer, report) {
        return Err(Refusal::NotFound);
    }
    app.audit(ask, &viewer.name, ("archive_downloaded", name, ""))?;
    made::download(path, name, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_reports_are_in_the_archive() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [
            "weekly-2026-W48.pdf",
            "weekly-2026-W48.html",
            "other-2026.pdf",
            ".weekly.pdf.1.part",
            ".weekly-x.pdf",
            "weekly.toml",
            "weekly",
        ] {
            std::fs::write(folder.path().join(name), "x").expect("written");
        }
        std::fs::create_dir(folder.path().join("weekly-folder.pdf")).expect("a folder");
        let found = reports("weekly", folder.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].stem, "weekly-2026-W48");
        assert_eq!(found[0].files.keys().copied().collect::<Vec<_>>(), ["html", "pdf"]);
    }
}
