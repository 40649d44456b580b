//! Report templates (what to display, without monitors) and report definitions (a template or sections of their own, for
//! particular monitors, with schedule and delivery), as TOML files.

use std::{collections::BTreeSet, path::PathBuf};

use jiff::{civil::Weekday, tz::TimeZone};
use mailqos_config::Config;
use mailqos_figures::Calendar;
use mailqos_model::Name;

use super::{facts::Selection, schedule_keys::Schedule, sections::Placed, theme::ThemeOptions};

/// What to display.
#[derive(Debug, Default)]
pub struct Template {
    /// What reports made of it are called.
    pub title: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// Its sections, in order.
    pub sections: Vec<Placed>,
    /// The name of its layouts, where it has its own.
    pub layout: Option<String>,
    /// Its house style, where it says one.
    pub theme: Option<ThemeOptions>,
}

/// A report: what to display, of which monitors, when, and where it goes.
#[derive(Debug)]
pub struct Definition {
    /// The stem of its files' names.
    pub slug: String,
    /// Title, description and sections.
    pub template: Template,
    /// Which monitors.
    pub selection: Selection,
    /// The name of the period, such as `last-month`.
    pub period: Option<String>,
    /// Time zone of its dates (default: that of the configuration).
    pub timezone: Option<TimeZone>,
    /// The first day of its weeks; Monday by default.
    pub week_start: Weekday,
    /// The first month of its years, 1 to 12; quarters follow it.
    pub year_start: i8,
    /// The language tag.
    pub language: String,
    /// One report for all monitors, or one each.
    pub each: Each,
    /// Which files are made.
    pub formats: BTreeSet<Format>,
    /// A report of more chapters is an archive rather than one page of HTML.
    pub chapters_on_a_page: usize,
    /// The PDF of a report with more chapters about single monitors leaves those out, and says so.
    pub chapters_in_a_pdf: usize,
    /// Folder of the files (default: the current one).
    pub output: Option<PathBuf>,
    /// House style.
    pub theme: ThemeOptions,
    /// When it is made, if by itself.
    pub schedule: Option<Schedule>,
    /// Where it goes.
    pub deliveries: Vec<Delivery>,
}

impl Definition {
    /// The calendar: the definition's zone, or the configuration's.
    pub fn calendar(&self, config: Option<&Config>) -> Calendar {
        let zone = self
            .timezone
            .clone()
            .or_else(|| config.map(|config| config.timezone.clone()));
        // `Etc/UTC` and its like are called by the name that people know.
        let zone = zone.filter(|zone| !matches!(zone.iana_name(), Some("Etc/UTC" | "Etc/UCT" | "Zulu" | "Etc/Zulu")));
        Calendar {
            timezone: zone.unwrap_or(TimeZone::UTC),
            week_start: self.week_start,
            year_start: self.year_start,
        }
    }
}

/// Chapters that one page of HTML has at most unless the definition says so: at about 50 kB each, a page of that many is still
/// quick to open and small enough to send.
pub const CHAPTERS_ON_A_PAGE: usize = 150;
/// Chapters about single monitors that a PDF has at most unless the definition says so: each takes two pages and several
/// megabytes of memory while it is set, and nobody turns a thousand pages.
pub const CHAPTERS_IN_A_PDF: usize = 250;

/// One report for all, or one each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Each {
    /// All monitors in one report.
    #[default]
    All,
    /// A report for each monitor.
    Monitor,
    /// A report for each object.
    Object,
    /// A report for each tag.
    Tag,
    /// A report for each site.
    Site,
}

impl Each {
    /// The words of a definition and of the command line.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("all", Self::All),
        ("monitor", Self::Monitor),
        ("object", Self::Object),
        ("tag", Self::Tag),
        ("site", Self::Site),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, each)| *each == self)
            .map_or("", |(word, _)| word)
    }

    /// The names of the groups that a monitor belongs to.
    pub fn names(self, monitor: &super::facts::Monitor) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Monitor => vec![monitor.name.clone()],
            Self::Object => monitor.object.iter().cloned().collect(),
            Self::Tag => monitor.tags.iter().cloned().collect(),
            Self::Site => vec![monitor.site.clone()],
        }
    }
}

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// One self-contained page; of a report of very many chapters, pages in an archive.
    Html,
    /// Pages in an archive: one for each chapter, and one that leads to them.
    Zip,
    /// Paginated.
    Pdf,
    /// A workbook of every figure shown.
    Xlsx,
    /// A flat table of every figure shown.
    Csv,
    /// Every figure shown, for programs.
    Json,
}

impl Format {
    /// All of them, by the word in a definition, which is also the file's extension.
    pub const ALL: [(&'static str, Self); 6] = [
        ("html", Self::Html),
        ("zip", Self::Zip),
        ("pdf", Self::Pdf),
        ("xlsx", Self::Xlsx),
        ("csv", Self::Csv),
        ("json", Self::Json),
    ];

    /// Formats that are generated by default: those that people read.
    pub const USUAL: [Self; 2] = [Self::Html, Self::Pdf];

    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Zip => "zip",
            Self::Pdf => "pdf",
            Self::Xlsx => "xlsx",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Zip => "application/zip",
            Self::Pdf => "application/pdf",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// Where a report goes.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The target's name in the configuration.
    pub target: Name,
    /// Folder at the target, as a Tera template; may be empty.
    pub path: String,
    /// Name of the files, as a Tera template without the ending; that of the report's own files if empty.
    pub name: String,
    /// Only these formats; all if empty.
    pub formats: BTreeSet<Format>,
    /// Runs may share a name: the newest report replaces the one before.
    pub overwrite: bool,
}
