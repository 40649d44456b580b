//! Sections: they convert facts to blocks. Each is one file with its keys, its reader and what it
//! displays; a new section needs a file here and a line in [`KINDS`].

mod alarms;
mod availability;
mod columns;
mod comparison;
mod coverage;
mod deliverability;
mod distribution;
mod groups;
mod heading;
mod hops;
mod image;
mod key_figures;
mod method;
mod monitors_chart;
mod outages;
mod page_break;
mod patterns;
mod per_monitor;
mod percentiles;
mod phases;
mod round_trip;
mod service_level;
mod strip;
mod summary;
mod text;
mod top;
mod transcripts;
mod trends;
mod weekly_pattern;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{
    FromToml, Problems, Table,
    key::{Optional, OptionalWord, Word, key},
    keys,
    reference::{Key, Shape, ValueKind},
    word,
};
use mailqos_lake_tables::{Metric, has_mails};

pub(super) use image::picture;
pub(super) use percentiles::metric_name;

use super::{
    calendar_keys::PeriodName,
    digest::Needs,
    document::Block,
    facts::{Facts, Monitor, Selection},
    locale::Locale,
};

/// A section of a report, with its options.
pub trait Section: std::fmt::Debug + Send + Sync {
    /// Returns the blocks of the section; empty if there is nothing to show.
    fn blocks(&self, view: &View<'_>) -> Vec<Block>;

    /// Returns which monitors the section combines.
    fn scope(&self) -> Scope {
        Scope::Kind
    }

    /// Declares the figures that the section needs from the samples, which are no longer available
    /// when its blocks are created. Most sections only need what is known about every monitor.
    fn needs(&self, _needs: &mut Needs) {}
}

/// Monitors that a section combines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any monitors: the section does not combine figures of several monitors.
    Any,
    /// Monitors of one kind: figures of different kinds are never combined.
    Kind,
    /// Monitors of one kind whose tests send mails.
    Mails,
}

impl Scope {
    /// Returns the scope of a section about a metric.
    fn of(metric: Metric) -> Self {
        use Metric::{
            PickupConnect, PickupGreeting, PickupList, PickupLogin, PickupTcp, PickupTls,
        };
        match metric {
            PickupConnect | PickupTcp | PickupTls | PickupGreeting | PickupLogin | PickupList => {
                Self::Kind
            }
            _ => Self::Mails,
        }
    }
}

/// Returns the blocks of a section, separately for each kind of monitor.
pub fn blocks(section: &dyn Section, view: &View<'_>) -> Vec<Block> {
    let scope = section.scope();
    let mut kinds: BTreeMap<Option<&str>, Vec<&Monitor>> = BTreeMap::new();
    for monitor in &view.monitors {
        kinds.entry(monitor.kind.as_deref()).or_default().push(monitor);
    }
    let is_shown = |kind: Option<&str>| scope != Scope::Mails || has_mails(kind);
    if scope == Scope::Any
        || kinds.is_empty()
        || (kinds.len() == 1 && kinds.keys().all(|kind| is_shown(*kind)))
    {
        return section.blocks(view);
    }
    let several = kinds.len() > 1;
    let mut blocks = Vec::new();
    for (kind, monitors) in kinds.into_iter().filter(|(kind, _)| is_shown(*kind)) {
        let of_kind = section.blocks(&View { monitors, ..view.clone() });
        if several && !of_kind.is_empty() {
            let name = kind.unwrap_or("mail-qos");
            blocks.push(Block::Heading {
                level: 3,
                text: view.locale.fill("Tests of kind {0}", &[name]),
                id: view.ids.unique(&format!("kind-{name}")),
            });
        }
        blocks.extend(of_kind);
    }
    blocks
}

/// Input of a section.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Facts of its period.
    pub facts: &'a Facts,
    /// Monitors of the section.
    pub monitors: Vec<&'a Monitor>,
    /// Language and formats of the report.
    pub locale: &'a Locale,
    /// Allocator of ids.
    pub ids: &'a Ids,
}

/// Allocates ids that are unique in a document.
#[derive(Debug, Default)]
pub struct Ids {
    given: Mutex<BTreeSet<String>>,
    /// Site and id of the monitor of each chapter, by id of the chapter.
    chapters: Mutex<BTreeMap<String, (String, String)>>,
    /// Suffix of all ids.
    ending: String,
}

impl Ids {
    /// Returns a child allocator whose ids are suffixed with `id`, so that sections can allocate
    /// ids in parallel.
    pub fn below(id: &str) -> Self {
        Self {
            given: Mutex::default(),
            chapters: Mutex::default(),
            // Other ids have no two hyphens in a row, so these are distinct.
            ending: format!("--{id}"),
        }
    }

    /// Returns an id based on `name`, unique in the document.
    pub fn unique(&self, name: &str) -> String {
        let mut id = String::new();
        for c in name.to_lowercase().chars().take(60) {
            if c.is_ascii_alphanumeric() {
                id.push(c);
            } else if !id.ends_with('-') && !id.is_empty() {
                id.push('-');
            }
        }
        let id = match id.trim_end_matches('-') {
            "" => "section",
            id => id,
        };
        let mut given = self.given.lock().ignore_poison();
        let numbered = (2_u32..).map(|number| format!("{id}-{number}"));
        let mut ids = std::iter::once(id.to_owned()).chain(numbered);
        let unique = ids.find(|id| given.insert(id.clone())).unwrap_or_default();
        unique + &self.ending
    }

    /// Allocates the id of a chapter about one monitor.
    pub fn chapter(&self, monitor: &Monitor) -> String {
        let id = self.unique(&format!("monitor-{}-{}", monitor.site, monitor.id));
        let mut chapters = self.chapters.lock().ignore_poison();
        chapters.insert(id.clone(), (monitor.site.clone(), monitor.id.clone()));
        id
    }

    /// Returns the ids of chapters about one monitor, with its site and id.
    pub fn chapters(&self) -> BTreeMap<String, (String, String)> {
        self.chapters.lock().ignore_poison().clone()
    }
}

/// Reads the options of a section.
type Read = fn(&mut Table, &mut Problems) -> Option<Box<dyn Section>>;

/// A kind of section.
#[derive(Clone, Copy)]
struct Kind {
    /// What it displays.
    about: &'static str,
    keys: [&'static [Key]; 2],
    read: Read,
}

impl Kind {
    const fn new(about: &'static str, keys: &'static [Key], read: Read) -> Self {
        Self { about, keys: [&[], keys], read }
    }

    /// Adds the key `metric`.
    const fn of_metric(self) -> Self {
        Self { keys: [MetricKeys::KEYS, self.keys[1]], ..self }
    }
}

macro_rules! kinds {
    ($($word:literal => $module:ident,)+) => {
        /// The kinds of sections by their words in a definition, in the order of the reference.
        const KINDS: &[(&str, Kind)] = &[$(($word, $module::KIND)),+];

        /// The ids of the tables of sections in the reference.
        pub(crate) const SECTIONS: &[&str] = &[$(concat!("section.", $word)),+];

        const READERS: [(&str, Read); SECTIONS.len()] = [$(($word, $module::KIND.read)),+];

        /// The tables of sections and columns in the reference.
        pub(crate) const SHAPES: [Shape; SECTIONS.len() + 1] = [
            $(Shape {
                id: concat!("section.", $word),
                head: concat!("[[section]] kind = \"", $word, "\""),
                about: $module::KIND.about,
                keys: &[
                    &[Key::new("kind", ValueKind::Words(&[$word]), "The kind.").required()],
                    $module::KIND.keys[0],
                    $module::KIND.keys[1],
                    PlacedKeys::KEYS,
                ],
            },)+
            columns::COLUMN_SHAPE,
        ];
    };
}

kinds! {
    "heading" => heading,
    "text" => text,
    "image" => image,
    "page-break" => page_break,
    "summary" => summary,
    "key-figures" => key_figures,
    "availability-table" => availability,
    "availability-strip" => strip,
    "group-table" => groups,
    "top" => top,
    "hops" => hops,
    "deliverability" => deliverability,
    "columns" => columns,
    "percentile-table" => percentiles,
    "metric-chart" => round_trip,
    "monitors-chart" => monitors_chart,
    "distribution" => distribution,
    "weekly-pattern" => weekly_pattern,
    "phases" => phases,
    "comparison" => comparison,
    "service-level" => service_level,
    "trends" => trends,
    "patterns" => patterns,
    "outages" => outages,
    "transcripts" => transcripts,
    "alarms" => alarms,
    "coverage" => coverage,
    "method" => method,
    "per-monitor" => per_monitor,
}

keys! {
    METRIC: MetricKeys {
        /// The metric.
        metric: Word<Metric> = word!(Metric::WORDS).default("\"round_trip\"");
    }
}

keys! {
    SECTION: SectionKeys {
        /// What the section displays.
        kind: OptionalWord<Read> = word!(READERS);
    }
}

keys! {
    PLACED: PlacedKeys {
        /// Its monitors: IDs, globs, `tag:NAME`, `object:NAME`.
        monitors: Optional<Vec<String>> = key().otherwise("the report's");
        /// Its sites.
        sites: Optional<Vec<String>> = key().otherwise("the report's");
        /// Its period, such as `last-year`.
        period: Optional<PeriodName> = key().otherwise("the report's");
    }
}

/// Returns the words of the kinds of sections, and what each displays.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().map(|(word, kind)| (*word, kind.about))
}

/// A section of a definition, with its own monitors and period, if any.
#[derive(Debug)]
pub struct Placed {
    /// Selected monitors, if they differ from those of the report.
    pub selection: Option<Selection>,
    /// Name of the period, if it differs from that of the report.
    pub period: Option<String>,
    /// The section itself.
    pub section: Box<dyn Section>,
}

/// Reads the sections at a key.
pub fn read_all(table: &mut Table, key: &Key, problems: &mut Problems) -> Vec<Placed> {
    table
        .tables(key, problems)
        .into_iter()
        .filter_map(|mut section| {
            let read = reader(&mut section, problems)?;
            let monitors: Vec<String> = strings(&mut section, &PLACED.monitors, problems);
            let sites = strings(&mut section, &PLACED.sites, problems);
            let period = section.read(&PLACED.period, problems).map(|PeriodName(name)| name);
            let placed = read(&mut section, problems).map(|read| Placed {
                selection: (!monitors.is_empty() || !sites.is_empty())
                    .then_some(Selection { monitors, sites }),
                period,
                section: read,
            });
            section.finish(problems);
            placed
        })
        .collect()
}

/// Reads the sections nested in another, which share its monitors and period.
fn read_within(table: &mut Table, key: &Key, problems: &mut Problems) -> Vec<Box<dyn Section>> {
    table
        .tables(key, problems)
        .into_iter()
        .filter_map(|mut section| {
            let read = reader(&mut section, problems)?;
            for key in PlacedKeys::KEYS {
                if section.node(key).is_some() {
                    let message = format!("a nested section cannot have its own {}", key.name);
                    problems.push(
                        section
                            .problem(key, message, "here")
                            .help("set it in the enclosing section, or remove it"),
                    );
                }
            }
            let within = read(&mut section, problems);
            section.finish(problems);
            within
        })
        .collect()
}

/// Returns the reader of a kind of section.
fn reader(section: &mut Table, problems: &mut Problems) -> Option<Read> {
    let read = section.read(&SECTION.kind, problems);
    if section.node(&SECTION.kind).is_none() {
        problems.push(section.missing(&SECTION.kind, "says what the section shows"));
    }
    read
}

/// Maximum number of rows in a chart.
const MAX_ROWS: usize = 40;
/// Maximum number of rows of charts of which two fit on a printed page; a larger one leaves the
/// rest of its page blank.
const HALF_A_PAGE: usize = 21;

/// Returns the number of rows per chart: all rows if they fit into one chart, otherwise equal
/// parts.
fn rows_a_chart(rows: usize) -> usize {
    if rows <= MAX_ROWS { MAX_ROWS } else { rows.div_ceil(rows.div_ceil(HALF_A_PAGE)) }
}

/// Reads the names at a key: a list, or a text with one or several names.
pub fn strings<T: FromToml>(table: &mut Table, key: &Key, problems: &mut Problems) -> Vec<T> {
    table.list(key).map_or_else(Vec::new, |node| {
        node.as_names().iter().filter_map(|item| item.read(problems)).collect()
    })
}
