//! Generates documents from definitions, and files from documents; each file is written under a
//! temporary name and then renamed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use mailqos_config::Config;

pub use super::facts::Source;
use mailqos_base::{files, timing};
use mailqos_charts::DRAWING;
use mailqos_figures::{Period, PeriodError};
use mailqos_lake_tables::{LakeError, parallel};

use super::{
    definition::{Definition, Format, Grouping},
    digest::Needs,
    document::{Block, Document, Head, Note, Status, Theme, Words},
    facts::{Facts, Monitor},
    findings,
    locale::{DASH, Locale},
    media::{self, MediaError},
    naming::period_stem,
    provenance::{Part, Provenance},
    sections::{self, Ids, Placed, View},
    stems::{stem_of, unlike},
};

/// Reasons why a report can't be generated.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The samples can't be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The period of a section is invalid.
    #[error("a section's period: {0}")]
    Period(#[from] PeriodError),
    /// A document can't be rendered.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A file can't be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// Path of the file or folder.
        path: PathBuf,
        /// Cause of the error.
        source: std::io::Error,
    },
}

/// A report before it is rendered.
#[derive(Debug)]
pub struct Report {
    /// Stem of its file names.
    pub stem: String,
    /// Content of the report.
    pub document: Document,
    /// Whether the report may still change because its period is not over or some samples are not
    /// settled. An unfinished period of a single section does not count, because no waiting would
    /// settle it.
    pub provisional: bool,
    /// Maximum number of chapters on one HTML page; a longer report becomes an archive.
    pub chapters_on_a_page: usize,
    /// Maximum number of chapters on individual monitors in a PDF; a longer report omits them.
    pub chapters_in_a_pdf: usize,
}

/// Generates the documents of a definition for a period: one, or one for each monitor, object, tag
/// or site.
///
/// # Errors
/// The lake can't be read.
pub fn documents(
    definition: &Definition,
    source: Source<'_>,
    period: &Period,
) -> Result<Vec<Report>, ReportError> {
    let locale = Locale::new(&definition.language, period.timezone().clone())
        .or_else(|| Locale::new("en", period.timezone().clone()))
        .ok_or_else(|| MediaError::Template("the language has no texts".into()))?
        .with(definition.theme.formats.clone())
        .beside(source.config.map(Config::promised_shares).unwrap_or_default());
    let facts = timing::told("reading", || {
        let needs = needs(definition, None);
        Facts::load(source, &definition.selection, period, &needs)
    })?;
    let mut others = BTreeMap::new();
    for placed in &definition.template.sections {
        let key = key(placed, definition);
        if placed.selection.is_none() && placed.period.is_none() || others.contains_key(&key) {
            continue;
        }
        let other = match &placed.period {
            Some(name) => Period::named(name, source.now, period.calendar.clone())?,
            None => period.clone(),
        };
        let selection = placed.selection.as_ref().unwrap_or(&definition.selection);
        let needs = needs(definition, Some(&key));
        others.insert(key, Facts::load(source, selection, &other, &needs)?);
    }
    let theme = definition.theme.resolve();
    let unsettled =
        |facts: &Facts| facts.monitors.iter().any(|monitor| monitor.counts.provisional > 0);
    let mut all = std::iter::once(&facts).chain(others.values());
    let provisional = facts.is_provisional() || all.any(unsettled);
    let begun = Instant::now();
    let mut stems = BTreeSet::new();
    let material = Material { definition, source, facts: &facts, others: &others, locale: &locale };
    let reports: Vec<Report> = groups(definition.each, &facts)
        .into_iter()
        .map(|(group, members)| {
            let mut document = material.document(group.as_deref(), &members);
            document.theme = theme.clone();
            let stem = stem_of(&definition.slug, group.as_deref());
            Report {
                stem: format!("{}-{}", unlike(stem, &mut stems), period_stem(period)),
                document,
                provisional,
                chapters_on_a_page: definition.chapters_on_a_page,
                chapters_in_a_pdf: definition.chapters_in_a_pdf,
            }
        })
        .collect();
    if reports.is_empty() {
        if facts.monitors.is_empty() {
            tracing::warn!(%period, "no report was generated: no monitor has samples in the period");
        } else {
            let property = definition.each.as_str();
            tracing::warn!(%period, property, "no report was generated: no monitor with samples in the period has this property");
        }
    }
    timing::tell("sections", begun.elapsed());
    timing::tell("drawings, on all cores", DRAWING.take());
    Ok(reports)
}

/// Facts of sections with their own monitors or period.
pub(super) type SectionFacts = BTreeMap<String, Facts>;

/// Returns the needs of the sections that show the same facts: those with this key or, without a
/// key, those of the report itself.
fn needs(definition: &Definition, of: Option<&str>) -> Needs {
    let mut needs = Needs::default();
    for placed in &definition.template.sections {
        let is_own = placed.selection.is_none() && placed.period.is_none();
        if of.map_or(is_own, |of| key(placed, definition) == of) {
            placed.section.needs(&mut needs);
        }
    }
    needs
}

fn key(placed: &Placed, definition: &Definition) -> String {
    let selection = placed.selection.as_ref().unwrap_or(&definition.selection);
    format!("{:?} {selection:?}", placed.period)
}

/// Returns the names of the groups with the indices of their monitors in the facts.
fn groups(each: Grouping, facts: &Facts) -> Vec<(Option<String>, BTreeSet<usize>)> {
    if each == Grouping::All {
        return vec![(None, (0..facts.monitors.len()).collect())];
    }
    let mut groups: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut alone = Vec::new();
    for (index, monitor) in facts.monitors.iter().enumerate() {
        let names = each.names(monitor);
        if names.is_empty() {
            alone.push(monitor.name.as_str());
        }
        for name in names {
            groups.entry(name).or_default().insert(index);
        }
    }
    if !alone.is_empty() {
        tracing::warn!(property = each.as_str(), monitors = %alone.join(", "), "monitors without this property do not appear in any report");
    }
    groups.into_iter().map(|(name, members)| (Some(name), members)).collect()
}

/// Returns the monitors of a section with its own facts: those of the report's group, unless the
/// section selects monitors itself. A report for one customer reveals nothing about another.
fn of_group<'a>(
    facts: &'a Facts,
    placed: &Placed,
    each: Grouping,
    group: Option<&str>,
) -> Vec<&'a Monitor> {
    let belongs = |monitor: &&Monitor| match group {
        Some(group) if placed.selection.is_none() => {
            each.names(monitor).iter().any(|name| name == group)
        }
        _ => true,
    };
    facts.monitors.iter().filter(belongs).collect()
}

/// What the documents of a definition are made of.
pub(super) struct Material<'a> {
    pub(super) definition: &'a Definition,
    pub(super) source: Source<'a>,
    pub(super) facts: &'a Facts,
    pub(super) others: &'a SectionFacts,
    pub(super) locale: &'a Locale,
}

/// The sections of a document, and what they show.
struct Sections<'a> {
    blocks: Vec<Block>,
    /// The parts of the lake that were read for each of the different facts.
    parts: BTreeMap<String, Vec<Part>>,
    /// All facts that are shown, each with the monitors that are.
    seen: Vec<(&'a Facts, Vec<&'a Monitor>)>,
}

impl<'a> Material<'a> {
    /// Returns the document of some of the monitors.
    pub(super) fn document(&self, group: Option<&str>, members: &BTreeSet<usize>) -> Document {
        let (l, facts, template) = (self.locale, self.facts, &self.definition.template);
        let monitors: Vec<_> = members.iter().map(|index| &facts.monitors[*index]).collect();
        let ids = Ids::default();
        let Sections { mut blocks, parts, seen } = self.sections(&monitors, group, &ids);
        level(&mut blocks);
        let title = match group {
            Some(group) => format!("{}: {group}", l.text(&template.title)),
            None => l.text(&template.title),
        };
        // Sections with another period may have later data.
        let last_sample = seen.iter().filter_map(|(facts, _)| facts.last_sample).max();
        let data_until = self.source.made_at.or(last_sample);
        // Files have a date even without samples.
        let made_at = data_until.unwrap_or(facts.period.to);
        let provenance = Provenance::new(parts.into_values().flatten().collect());
        let chapters = heads(&ids, &seen, l);
        Document {
            headline: findings::headline(&monitors, l),
            lead: String::new(),
            period: l.period(&facts.period),
            from: facts.period.from,
            to: facts.period.to,
            zone: l.zone_name(),
            scope: scope(&monitors, l),
            language: l.tag().to_owned(),
            made: data_until.map_or_else(|| DASH.to_owned(), |at| l.moment(at)),
            made_at,
            producer: concat!("mailqos ", env!("CARGO_PKG_VERSION")).to_owned(),
            data_hash: provenance.sha256.clone(),
            provenance,
            notes: notes(&seen, l),
            chapters,
            theme: Theme::default(),
            layout: template.layout.clone(),
            words: words(l),
            title,
            blocks,
        }
    }

    /// Returns the blocks of all sections, most of which show `monitors`.
    fn sections(&self, monitors: &[&'a Monitor], group: Option<&str>, ids: &Ids) -> Sections<'a> {
        let (definition, facts) = (self.definition, self.facts);
        let mut sections = Sections {
            blocks: Vec::new(),
            parts: BTreeMap::from([(String::new(), facts.parts(monitors))]),
            seen: vec![(facts, monitors.to_vec())],
        };
        for placed in &definition.template.sections {
            let key = key(placed, definition);
            let other = self.others.get(&key);
            let shown = match other {
                Some(other) => of_group(other, placed, definition.each, group),
                None => monitors.to_vec(),
            };
            let view = View {
                facts: other.unwrap_or(facts),
                monitors: shown.clone(),
                locale: self.locale,
                ids,
            };
            sections.blocks.extend(sections::blocks(&*placed.section, &view));
            if let Some(other) = other {
                sections.parts.entry(key).or_insert_with(|| other.parts(&shown));
                sections.seen.push((other, shown));
            }
        }
        sections
    }
}

/// Returns how many monitors a document covers, and on how many objects.
fn scope(monitors: &[&Monitor], l: &Locale) -> String {
    let objects: BTreeSet<&str> =
        monitors.iter().filter_map(|monitor| monitor.object.as_deref()).collect();
    let mut scope = l.count(monitors.len() as u64, "1 monitor", "{0} monitors");
    if objects.len() > 1 {
        scope.push_str(&l.fill(" on {0} objects", &[&l.integer(objects.len() as u64)]));
    }
    scope
}

/// Returns the words that layouts and partials use.
fn words(l: &Locale) -> Words {
    Words {
        contents: l.t("Contents"),
        of: l.t("of"),
        page: l.t("Page"),
        more: l.t("{0} more in the full report"),
        shortened: l.t("Without individual monitors."),
        left_out: l.t(
            "This file omits the chapters of {0} individual monitors. They are in the archive of web pages (format zip).",
        ),
        data: l.t("Chart data"),
        made: l.t("Data until"),
        data_hash: l.t("SHA-256 of the data"),
        times_in: l.t("Times in"),
        times_inline: l.t("times in"),
        dash: DASH,
        report: l.t("Report"),
        finding: l.t("Finding"),
        period: l.t("Period"),
        scope: l.t("Monitors"),
        chapter: l.t("Chapter"),
        key_figures: l.t("Key figures"),
        figure: l.t("Figure"),
        value: l.t("Value"),
        unit: l.t("Unit"),
        detail: l.t("Detail"),
        change: l.t("Change"),
    }
}

/// Returns the headers of chapters about one monitor.
fn heads(ids: &Ids, seen: &[(&Facts, Vec<&Monitor>)], l: &Locale) -> BTreeMap<String, Head> {
    let head = |site: &str, id: &str| {
        let is_it = |monitor: &&Monitor| monitor.site == site && monitor.id == id;
        let own: Vec<(&Facts, Vec<&Monitor>)> = seen
            .iter()
            .map(|(facts, monitors)| (*facts, monitors.iter().copied().filter(is_it).collect()))
            .collect();
        Head { scope: l.count(1, "1 monitor", "{0} monitors"), notes: notes(&own, l) }
    };
    let chapters = ids.chapters();
    // A single chapter would repeat the header of the report.
    let several = chapters.len() > 1;
    let about = chapters.into_iter().filter(|_| several);
    about.map(|(chapter, (site, id))| (chapter, head(&site, &id))).collect()
}

/// Limits each heading to one level below the previous one, so that the outline has no gaps
/// (PDF/UA-1, WCAG 1.3.1).
fn level(blocks: &mut [Block]) {
    let mut last = 0;
    for block in blocks {
        if let Block::Heading { level, .. } = block {
            *level = (*level).min(last + 1);
            last = *level;
        }
    }
}

/// Returns the notes to read first: those on the report's own facts, then those on the facts of
/// sections.
fn notes(seen: &[(&Facts, Vec<&Monitor>)], l: &Locale) -> Vec<Note> {
    let mut notes = Vec::new();
    let monitors = || seen.iter().flat_map(|(_, monitors)| monitors).copied();
    let simulated: BTreeSet<&str> = monitors()
        .filter(|monitor| monitor.is_simulated())
        .map(|monitor| monitor.site.as_str())
        .collect();
    if !simulated.is_empty() {
        let sites = simulated.into_iter().collect::<Vec<_>>().join(", ");
        notes.push(Note {
            status: Status::Warn,
            title: l.t("Simulated data.").to_owned(),
            text: l.fill(
                "The samples of site {0} are demonstration data, not measurements of real mail.",
                &[&sites],
            ),
        });
    }
    let mut running = BTreeSet::new();
    for (index, (facts, _)) in seen.iter().enumerate() {
        if !facts.is_provisional() || !running.insert((facts.period.from, facts.period.to)) {
            continue;
        }
        let until = l.moment(facts.passed.to);
        let (title, text) = if index == 0 {
            (
                l.t("The period has not ended."),
                l.fill("Figures cover the time up to {0}.", &[&until]),
            )
        } else {
            (
                l.t("The period of a section has not ended."),
                l.fill(
                    "Figures for {0} cover the time up to {1}.",
                    &[&l.period(&facts.period), &until],
                ),
            )
        };
        notes.push(Note { status: Status::Neutral, title: title.to_owned(), text });
    }
    // Periods may overlap, so each mail is counted once.
    let unsettled: BTreeSet<(&str, &str, i64)> = monitors()
        .filter(|monitor| monitor.counts.provisional > 0)
        .flat_map(|monitor| {
            let provisional = monitor.digest.provisional.iter();
            provisional.map(|at| (&*monitor.site, &*monitor.id, at.0))
        })
        .collect();
    let unsettled = unsettled.len() as u64;
    if unsettled > 0 {
        notes.push(Note {
            status: Status::Neutral,
            title: l.t("Provisional.").to_owned(),
            text: l.count(
                unsettled,
                "One mail may still arrive late; until then its test counts as failed.",
                "{0} mails may still arrive late; until then their tests count as failed.",
            ),
        });
    }
    let mut told = BTreeSet::new();
    let unverified: Vec<&str> = monitors()
        .filter(|monitor| monitor.unverified && told.insert((&monitor.site, &monitor.id)))
        .map(|monitor| monitor.name.as_str())
        .collect();
    if !unverified.is_empty() {
        notes.push(Note {
            status: Status::Warn,
            title: l.t("Certificates not verified.").to_owned(),
            text: l.fill(
                "The probe accepts any certificate at {0}, so the server's identity is not verified.",
                &[&unverified.join(", ")],
            ),
        });
    }
    notes.extend(doubles(seen, l));
    let skipped: BTreeSet<&String> = seen.iter().flat_map(|(facts, _)| &facts.skipped).collect();
    if !skipped.is_empty() {
        notes.push(Note {
            status: Status::Bad,
            title: l.t("Data is missing.").to_owned(),
            text: l.count(
                skipped.len() as u64,
                "One corrupt file in the lake was skipped.",
                "{0} corrupt files in the lake were skipped.",
            ),
        });
    }
    notes
}

/// Returns notes on duplicates in the lake, which count once.
fn doubles(seen: &[(&Facts, Vec<&Monitor>)], l: &Locale) -> Vec<Note> {
    let doubles: BTreeSet<&String> = seen.iter().flat_map(|(facts, _)| &facts.doubles).collect();
    let note = |text: &String| Note {
        status: Status::Warn,
        title: l.t("Duplicate samples counted once").to_owned(),
        text: text.clone(),
    };
    doubles.into_iter().map(note).collect()
}

/// Writes the files of a report and returns their paths.
///
/// # Errors
/// A template is invalid, or a file can't be written.
pub fn write(
    report: &Report,
    formats: &BTreeSet<Format>,
    folder: &Path,
    own: Option<&Path>,
) -> Result<Vec<(Format, PathBuf)>, ReportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReportError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let chapters = media::html::chapters(&report.document).len();
    let made = |format: &Format| match format {
        Format::Html if chapters > report.chapters_on_a_page => Format::Zip,
        other => *other,
    };
    let formats: BTreeSet<Format> = formats.iter().map(made).collect();
    let formats: Vec<Format> = formats.into_iter().collect();
    let made = |format: &Format| {
        let bytes = timing::told(format.extension(), || {
            Ok::<_, MediaError>(match format {
                Format::Html => media::html::render(&report.document, own)?.into_bytes(),
                Format::Zip => media::html::archive(&report.document, own, &report.stem)?,
                Format::Pdf => match shortened(report) {
                    Some(document) => media::pdf::render(&document, own)?,
                    None => media::pdf::render(&report.document, own)?,
                },
                #[cfg(feature = "xlsx")]
                Format::Xlsx => media::data::xlsx::render(&report.document)?,
                #[cfg(not(feature = "xlsx"))]
                Format::Xlsx => return Err(MediaError::NotBuiltIn("xlsx")),
                Format::Csv => media::data::csv::render(&report.document)?,
                Format::Json => media::data::json::render(&report.document)?,
            })
        })?;
        let path = folder.join(format!("{}.{}", report.stem, format.extension()));
        publish(&path, &bytes).map_err(failed(&path))?;
        Ok((*format, path))
    };
    if chapters > MAX_CHAPTERS_AT_ONCE {
        // The files of a long report are written one after the other to save memory; the PDF alone
        // uses all cores.
        return formats.iter().map(made).collect();
    }
    // The files are generated in parallel.
    parallel::map(&formats, made).into_iter().collect()
}

/// Number of chapters above which files are written one after the other.
const MAX_CHAPTERS_AT_ONCE: usize = 50;

/// Returns the document of a PDF without the chapters on individual monitors, and with a note about
/// them, if there are too many.
fn shortened(report: &Report) -> Option<Document> {
    let (document, most) = (&report.document, report.chapters_in_a_pdf);
    let chapters = media::html::chapters(document);
    let single: Vec<_> =
        chapters.iter().filter(|chapter| document.chapters.contains_key(chapter.id)).collect();
    if single.len() <= most {
        return None;
    }
    let mut blocks = Vec::new();
    let mut end = 0;
    for chapter in &single {
        // A chapter starts with its page break and its heading.
        let begin = chapter.blocks.start.saturating_sub(2);
        blocks.extend_from_slice(document.blocks.get(end..begin).unwrap_or_default());
        end = chapter.blocks.end;
    }
    blocks.extend_from_slice(document.blocks.get(end..).unwrap_or_default());
    let mut shortened = document.with_blocks(blocks);
    tracing::warn!(
        monitors = single.len(),
        chapters_in_a_pdf = most,
        "the PDF omits the chapters of single monitors; they are in the archive (format zip)"
    );
    shortened.notes.push(Note {
        status: Status::Neutral,
        title: document.words.shortened.to_owned(),
        text: document.words.left_out.replace("{0}", &single.len().to_string()),
    });
    Some(shortened)
}

/// Writes a file atomically.
fn publish(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let temporary = folder.join(format!(".{name}.{}.part", std::process::id()));
    files::replace(path, &temporary, files::Access::Umask, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stems::{MAX_NAME, safe};

    #[test]
    fn names_of_files_are_safe_everywhere() {
        assert_eq!(safe("../../etc/passwd"), "etc-passwd");
        assert_eq!(safe("Lyon <script>"), "Lyon-script");
        assert_eq!(safe("東京"), "東京");
        assert_eq!(safe("///"), "report");
        let long = safe(&"東".repeat(300));
        assert!(long.starts_with('東') && long.len() <= MAX_NAME, "{long}");
    }

    #[test]
    fn a_pdf_of_very_many_monitors_omits_their_chapters_with_a_note() {
        let mut document = media::specimen::document(Theme::default(), None);
        let before = document.blocks.len();
        let chapter = |text: &str, id: &str| {
            let (text, id) = (text.to_owned(), id.to_owned());
            let what = Block::paragraph(format!("What is said of {text}"));
            [Block::PageBreak, Block::Heading { level: 1, text, id }, what]
        };
        for number in 0..12 {
            let id = format!("monitor-{number}");
            document.blocks.extend(chapter(&format!("Monitor {number}"), &id));
            document.chapters.insert(id, Head::default());
        }
        document.blocks.extend(chapter("How it was measured", "measured"));
        let mut report = Report {
            stem: "report".into(),
            document,
            provisional: false,
            chapters_on_a_page: 150,
            chapters_in_a_pdf: 12,
        };
        assert!(shortened(&report).is_none(), "as many as there may be");
        report.chapters_in_a_pdf = 11;
        let short = shortened(&report).expect("one more");
        assert_eq!(short.blocks.len(), before + 3);
        let Some(Block::Heading { text, .. }) = short.blocks.get(before + 1) else {
            panic!("the chapter about all of them stays")
        };
        assert_eq!(text, "How it was measured");
        let note = short.notes.last().expect("a note");
        assert!(
            note.text.contains("12 individual monitors") && note.text.contains("zip"),
            "{}",
            note.text
        );
        assert_eq!(report.document.blocks.len(), before + 39, "other files have all of them");
    }

    #[test]
    fn no_report_replaces_another() {
        let mut taken = BTreeSet::new();
        let mut name = |name: &str| unlike(name.to_owned(), &mut taken);
        assert_eq!(name("mail-Lyon"), "mail-Lyon");
        assert_eq!(name("mail-lyon"), "mail-lyon-2");
        assert_eq!(name("mail-Lyon"), "mail-Lyon-3");
        assert_eq!(name("mail-Oslo"), "mail-Oslo");
    }

    #[test]
    fn no_one_sees_a_partial_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.html");
        publish(&path, b"one").expect("written");
        publish(&path, b"two").expect("written again");
        let names: Vec<_> = fs::read_dir(folder.path())
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["a.html"]);
        assert_eq!(fs::read(&path).expect("read"), b"two");
    }
}
