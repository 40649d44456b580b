//! Report templates (what to display, without monitors) and report definitions (a template or
//! custom sections for particular monitors, with schedule and delivery).

use std::{collections::BTreeSet, path::PathBuf};

use jiff::{civil::Weekday, tz::TimeZone};
use mailqos_config::Config;
use mailqos_figures::Calendar;
use mailqos_model::{Name, words};

use super::{facts::Selection, schedule_keys::Schedule, sections::Placed, theme::ThemeOptions};

/// A template: what to display.
#[derive(Debug, Default)]
pub struct Template {
    /// Title of reports based on it.
    pub title: String,
    /// Purpose, in one sentence.
    pub description: String,
    /// Sections, in order.
    pub sections: Vec<Placed>,
    /// Name of its custom layouts, if any.
    pub layout: Option<String>,
    /// House style, if set.
    pub theme: Option<ThemeOptions>,
}

/// A report definition: what to display for which monitors, when to generate it, and where to
/// deliver it.
#[derive(Debug)]
pub struct Definition {
    /// Stem of its file names.
    pub slug: String,
    /// Title, description and sections.
    pub template: Template,
    /// Selected monitors.
    pub selection: Selection,
    /// Name of the period, such as `last-month`.
    pub period: Option<String>,
    /// Time zone of its dates (default: that of the configuration).
    pub timezone: Option<TimeZone>,
    /// First day of the week (default: Monday).
    pub week_start: Weekday,
    /// First month of the year, 1 to 12; quarters follow from it.
    pub year_start: i8,
    /// Language tag.
    pub language: String,
    /// Grouping: one report for all monitors, or one for each group.
    pub each: Grouping,
    /// Formats to generate.
    pub formats: BTreeSet<Format>,
    /// Maximum number of chapters on one HTML page; a longer report becomes an archive.
    pub chapters_on_a_page: usize,
    /// Maximum number of chapters on individual monitors in a PDF; a longer report omits them and
    /// notes that.
    pub chapters_in_a_pdf: usize,
    /// Folder of the files (default: the current one).
    pub output: Option<PathBuf>,
    /// House style.
    pub theme: ThemeOptions,
    /// Schedule, if it is generated automatically.
    pub schedule: Option<Schedule>,
    /// Deliveries.
    pub deliveries: Vec<Delivery>,
}

impl Definition {
    /// Returns the calendar in the time zone of the definition or, by default, of the
    /// configuration.
    pub fn calendar(&self, config: Option<&Config>) -> Calendar {
        let zone = self.timezone.clone().or_else(|| config.map(|config| config.timezone.clone()));
        // `Etc/UTC` and its aliases get their common name.
        let zone = zone.filter(|zone| {
            !matches!(zone.iana_name(), Some("Etc/UTC" | "Etc/UCT" | "Zulu" | "Etc/Zulu"))
        });
        Calendar {
            timezone: zone.unwrap_or(TimeZone::UTC),
            week_start: self.week_start,
            year_start: self.year_start,
        }
    }
}

/// Default of the maximum number of chapters on one HTML page: at about 50 kB per chapter, such a
/// page is still quick to open and small enough to send.
pub const CHAPTERS_ON_A_PAGE: usize = 150;
/// Default of the maximum number of chapters on individual monitors in a PDF: each takes two pages
/// and several megabytes of memory during typesetting, and no one leafs through a thousand pages.
pub const CHAPTERS_IN_A_PDF: usize = 250;

words!(
    /// Grouping of reports, in the words of definitions and of the command line.
    #[derive(Default)]
    Grouping, "grouping" {
        /// All monitors in one report.
        #[default]
        All = "all",
        /// A report for each monitor.
        Monitor = "monitor",
        /// A report for each object.
        Object = "object",
        /// A report for each tag.
        Tag = "tag",
        /// A report for each site.
        Site = "site",
    }
);

impl Grouping {
    /// Returns the names of the groups that a monitor belongs to.
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

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// HTML: one self-contained page, or an archive of pages for reports with very many chapters.
    Html,
    /// ZIP archive of HTML pages: one per chapter, and an index.
    Zip,
    /// PDF, paginated.
    Pdf,
    /// XLSX: a workbook of all displayed figures.
    Xlsx,
    /// CSV: a flat table of all displayed figures.
    Csv,
    /// JSON: all displayed figures, for programs.
    Json,
}

impl Format {
    /// All formats, by their words in definitions, which are also the file extensions.
    pub const ALL: [(&'static str, Self); 6] = [
        ("html", Self::Html),
        ("zip", Self::Zip),
        ("pdf", Self::Pdf),
        ("xlsx", Self::Xlsx),
        ("csv", Self::Csv),
        ("json", Self::Json),
    ];

    /// Default formats: those that people read.
    pub const USUAL: [Self; 2] = [Self::Html, Self::Pdf];

    /// Returns whether this build can generate it: workbooks are a cargo feature.
    pub fn is_built_in(self) -> bool {
        self != Self::Xlsx || cfg!(feature = "xlsx")
    }

    /// Returns the file extension.
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

    /// Returns the media type.
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

/// A delivery of a report to a target.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Name of the target in the configuration.
    pub target: Name,
    /// Folder at the target, as a Tera template; may be empty.
    pub path: String,
    /// File name without its extension, as a Tera template; if empty, that of the report's own
    /// files.
    pub name: String,
    /// Formats to deliver; all if empty.
    pub formats: BTreeSet<Format>,
    /// Whether runs may share a name, so that the newest report replaces the previous one.
    pub overwrite: bool,
}
