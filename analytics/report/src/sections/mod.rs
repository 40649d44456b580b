//! Sections: from facts to blocks. Each is one file with its keys, its reader and what it displays; a new one is a file here and a
//! line in [`KINDS`].

mod alarms;
mod availability;
mod columns;
mod comparison;
mod coverage;
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
    key::{Named, Optional, OptionalWord, Word, key},
    keys,
    reference::{Key, Shape, Takes},
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

/// A piece of a report, with its options.
pub trait Section: std::fmt::Debug + Send + Sync {
    /// What it shows of the facts; nothing where there is nothing to say.
    fn blocks(&self, view: &View<'_>) -> Vec<Block>;

    /// Which monitors it shows together.
    fn scope(&self) -> Scope {
        Scope::Kind
    }

    /// Says what it will ask the samples, which are gone by the time its blocks are made; most sections ask nothing but what
    /// is known of every monitor.
    fn needs(&self, _needs: &mut Needs) {}
}

/// Which monitors a section shows together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any: it combines no figures of several monitors.
    Any,
    /// Those of one kind: figures of different kinds are never mixed.
    Kind,
    /// Those of one kind whose tests are about mails.
    Mails,
}

impl Scope {
    /// That of a section about a metric.
    fn of(metric: Metric) -> Self {
        use Metric::{PickupConnect, PickupGreeting, PickupList, PickupLogin, PickupTcp, PickupTls};
        match metric {
            PickupConnect | PickupTcp | PickupTls | PickupGreeting | PickupLogin | PickupList => Self::Kind,
            _ => Self::Mails,
        }
    }
}

/// The blocks of a section, kind by kind if its monitors are of several kinds.
pub fn blocks(section: &dyn Section, view: &View<'_>) -> Vec<Block> {
    let scope = section.scope();
    let mut kinds: BTreeMap<Option<&str>, Vec<&Monitor>> = BTreeMap::new();
    for monitor in &view.monitors {
        kinds.entry(monitor.kind.as_deref()).or_default().push(monitor);
    }
    let is_shown = |kind: Option<&str>| scope != Scope::Mails || has_mails(kind);
    if scope == Scope::Any || kinds.is_empty() || (kinds.len() == 1 && kinds.keys().all(|kind| is_shown(*kind))) {
        return section.blocks(view);
    }
    let several = kinds.len() > 1;
    let mut blocks = Vec::new();
    for (kind, monitors) in kinds.into_iter().filter(|(kind, _)| is_shown(*kind)) {
        let of_kind = section.blocks(&View {
            monitors,
            ..view.clone()
        });
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

/// What a section sees.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The facts of its period.
    pub facts: &'a Facts,
    /// Its monitors.
    pub monitors: Vec<&'a Monitor>,
    /// The report's language, numbers and dates.
    pub locale: &'a Locale,
    /// Ids given so far.
    pub ids: &'a Ids,
}

/// Gives ids that are unique in a document.
#[derive(Debug, Default)]
pub struct Ids {
    given: Mutex<BTreeSet<String>>,
    /// Of the ids of monitors' chapters, site and id of the monitor.
    chapters: Mutex<BTreeMap<String, (String, String)>>,
    /// What all of them end with.
    ending: String,
}

impl Ids {
    /// Others for what stands below an id of these: they may be given at the same time as those for what stands elsewhere.
    pub fn below(id: &str) -> Self {
        Self {
            given: Mutex::default(),
            chapters: Mutex::default(),
            // No id has two hyphens in a row: none of these is one of those.
            ending: format!("--{id}"),
        }
    }

    /// An id like `name`, unique in the document.
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

    /// The id of a chapter that is about one monitor.
    pub fn chapter(&self, monitor: &Monitor) -> String {
        let id = self.unique(&format!("monitor-{}-{}", monitor.site, monitor.id));
        let mut chapters = self.chapters.lock().ignore_poison();
        chapters.insert(id.clone(), (monitor.site.clone(), monitor.id.clone()));
        id
    }

    /// The chapters that are about one monitor: their ids, and its site and id.
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
        Self {
            about,
            keys: [&[], keys],
            read,
        }
    }

    /// Adds the key `metric`.
    const fn of_metric(self) -> Self {
        Self {
            keys: [MetricKeys::KEYS, self.keys[1]],
            ..self
        }
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
                    &[Key::new("kind", Takes::Words(&[$word]), "The kind.").required()],
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

/// A section as a definition places it: with its own monitors and period, if any.
#[derive(Debug)]
pub struct Placed {
    /// Its monitors, where they are not the report's.
    pub selection: Option<Selection>,
    /// The name of its period, where it is not the report's.
    pub period: Option<String>,
    /// The section.
    pub section: Box<dyn Section>,
}

/// Reads the sections at a key.
pub fn read_all(table: &mut Table, key: impl Named, problems: &mut Problems) -> Vec<Placed> {
    table
        .tables(key, problems)
        .into_iter()
        .filter_map(|mut section| {
            let read = reader(&mut section, problems)?;
            let monitors: Vec<String> = strings(&mut section, &PLACED.monitors, problems);
            let sites = strings(&mut section, &PLACED.sites, problems);
            let period = section.read(&PLACED.period, problems).map(|PeriodName(name)| name);
            let placed = read(&mut section, problems).map(|read| Placed {
                selection: (!monitors.is_empty() || !sites.is_empty()).then_some(Selection { monitors, sites }),
                period,
                section: read,
            });
            section.finish(problems);
            placed
        })
        .collect()
}

/// Reads the sections within another, which show its monitors and its period.
fn read_within(table: &mut Table, key: impl Named, problems: &mut Problems) -> Vec<Box<dyn Section>> {
    table
        .tables(key, problems)
        .into_iter()
        .filter_map(|mut section| {
            let read = reader(&mut section, problems)?;
            for key in PlacedKeys::KEYS {
                if section.node(key).is_some() {
                    let message = format!("a section within another can't have its own {}", key.name);
                    problems.push(
                        section
                            .problem(key, message, "here")
                            .help("say it of the section around it, or leave it out"),
                    );
                }
            }
            let within = read(&mut section, problems);
            section.finish(problems);
            within
        })
        .collect()
}

/// The reader of a section's kind.
fn reader(section: &mut Table, problems: &mut Problems) -> Option<Read> {
    let read = section.read(&SECTION.kind, problems);
    if section.node(&SECTION.kind).is_none() {
        problems.push(section.missing(&SECTION.kind, "says what the section shows"));
    }
    read
}

/// Rows in one chart at most.
const MOST_ROWS: usize = 40;
/// Charts of so many rows stand two on a printed page; of more, one, with the rest of the page left blank.
const HALF_A_PAGE: usize = 21;

/// How many rows each of several charts gets: all of them as long as they fit into one, else even parts.
fn rows_a_chart(rows: usize) -> usize {
    if rows <= MOST_ROWS {
        MOST_ROWS
    } else {
        rows.div_ceil(rows.div_ceil(HALF_A_PAGE))
    }
}

/// The names at a key: a list, or a text with one or with several.
pub fn strings<T: FromToml>(table: &mut Table, key: impl Named, problems: &mut Problems) -> Vec<T> {
    table.list(key).map_or_else(Vec::new, |node| {
        node.as_names().iter().filter_map(|item| item.read(problems)).collect()
    })
}
