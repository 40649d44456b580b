//! Shards of a question, and the lines in which a worker answers them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use jiff::civil::Weekday;
use mailqos_base::hex;
use mailqos_config::{Config, ServiceLevel};
use mailqos_figures::{
    Calendar, Period, Unit,
    radix::{Parts, Span},
    service_level::Evidence,
    stats::{FiguresQuery, PartialGroup, Row, Subject},
};
use mailqos_lake_tables::{Column, LakeError, Metric, SeriesQuery};
use mailqos_model::{Micros, UtcMicros};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::grouping::Grouping;
use crate::commands::{Failure, table::Cell};

/// Version of the protocol between the client and its workers.
pub(super) const PROTOCOL: u32 = 1;

/// A part of a question: some monitors of one site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shard {
    /// Version of the protocol.
    pub(super) protocol: u32,
    /// Version of the program: figures of different versions may differ.
    pub(super) program: String,
    /// Its number, from zero.
    pub(super) shard: usize,
    /// Location of the lake: an absolute path or an address.
    pub(super) data: String,
    /// The configuration file, for access to an object store; none is read if absent.
    pub(super) config: Option<PathBuf>,
    /// The site.
    pub(super) site: String,
    /// The first monitor name; from the beginning if absent.
    pub(super) from: Option<String>,
    /// The monitor name after the last one; to the end if absent.
    pub(super) to: Option<String>,
    /// The monitors in this range; all if empty.
    pub(super) monitors: BTreeSet<String>,
    /// Whether corrupt files are skipped.
    pub(super) skip_corrupt: bool,
    /// Files that other workers skip, as paths within the lake, each with the reason.
    pub(super) left_out: BTreeMap<PathBuf, String>,
    /// Number of threads.
    pub(super) threads: usize,
    /// The question.
    pub(super) question: Question,
}

/// What is asked about each monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// Start of the period, in microseconds.
    pub(super) from: UtcMicros,
    /// End of the period, in microseconds.
    pub(super) to: UtcMicros,
    /// The zone in which days begin, as an IANA name.
    pub(super) timezone: String,
    /// The first day of the week: 1 is Monday.
    pub(super) week_start: i8,
    /// The first month of the year.
    pub(super) year_start: i8,
    /// The time of the question: the future is not unknown.
    pub(super) now: UtcMicros,
    /// Minimum time before and after the period from which samples are read.
    pub(super) context: Micros,
    /// The metrics to read.
    pub(super) metrics: BTreeSet<Metric>,
    /// The further columns to read.
    pub(super) columns: BTreeSet<Column>,
    /// Whether to read the receipts of mails.
    pub(super) receipts: bool,
    /// What to compute.
    pub(super) work: Work,
}

/// What is computed for each monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::commands) enum Work {
    /// Rows of figures.
    Figures {
        /// The figures.
        figures: Figures,
        /// Whether the round trip is drawn as a line.
        line: bool,
    },
    /// Outages.
    Outages {
        /// Whether durations are written for people.
        long: bool,
    },
    /// Evidence for and against a service level. The period of the question is the evaluated part
    /// of a period of the level.
    Level {
        /// The service level, in the configuration.
        id: String,
        /// Digest of its definition, which must be the same everywhere.
        digest: String,
        /// End of the whole period.
        to: UtcMicros,
        /// End of the evaluated part.
        until: UtcMicros,
    },
    /// Figures of groups, with counted values: the first pass.
    Groups {
        /// The figures.
        figures: Figures,
        /// The groups.
        groups: Grouping,
    },
    /// Numbers of values of groups in some ranges: the further passes.
    Counts {
        /// The figures.
        figures: Figures,
        /// The groups.
        groups: Grouping,
        /// The ranges.
        asked: Vec<Asked>,
    },
}

/// Which figures to compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Figures {
    /// The unit that the period is divided into.
    by: Option<Unit>,
    /// The metrics, in order.
    metrics: Vec<Metric>,
    /// The quantiles.
    qs: Vec<f64>,
    /// Whether deliverability is included.
    receipts: bool,
}

/// Values to count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::commands) struct Asked {
    /// The group.
    pub(super) whose: Subject,
    /// The bucket.
    pub(super) bucket: Option<UtcMicros>,
    /// Index of the metric.
    pub(super) metric: usize,
    /// The ranges.
    pub(super) spans: Vec<Span>,
}

/// The answer about one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::commands) enum Item {
    /// Rows of figures, and the line.
    Figures {
        /// One row per bucket with samples.
        rows: Vec<Row>,
        /// The round trip as a line, if it was asked for.
        line: Option<String>,
    },
    /// Outages.
    Outages {
        /// Whether the series has no sample in the period.
        empty: bool,
        /// One row per outage.
        rows: Vec<Vec<Cell>>,
    },
    /// Evidence for and against a service level.
    Evidence(Box<Evidence>),
    /// Monitors with samples in the period.
    Seen {
        /// Their names.
        monitors: Vec<String>,
    },
    /// The part of a group that is in the shard.
    Group {
        /// The group.
        whose: Subject,
        /// Its buckets.
        buckets: Vec<PartialGroup>,
    },
    /// Numbers of values in the asked ranges, in the order of the question.
    Counts {
        /// By range.
        parts: Vec<Vec<Parts>>,
    },
}

/// A line of a worker's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The number of the shard.
    pub(super) shard: usize,
    /// The content.
    pub(super) content: Content,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Content {
    /// The answer about one series.
    Item(Item),
    /// A corrupt file that was skipped, as a path within the lake, and the reason.
    Skipped(PathBuf, String),
    /// A file with rows that are also in another one, the monitor and the number of rows.
    Duplicate(PathBuf, String, usize),
    /// The question has no answer, and repeating it would not help.
    Failed(Refusal),
    /// Everything about the shard was written.
    End(End),
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Refusal {
    /// A file is corrupt.
    Corrupt(PathBuf, String),
    /// This program can't decode a file.
    Unsupported(PathBuf, String),
    /// The worker does not understand the shard, or its configuration is wrong.
    Other(String),
}

/// The end of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    /// Number of items.
    pub(super) items: usize,
    /// Whether some tests are not of kind `mail-qos`.
    pub(super) kinds: bool,
    /// Digest of the names and versions of the site's files in the period; `None` if they changed
    /// while the worker read them.
    pub(super) files: Option<String>,
}

impl Refusal {
    /// Returns the failure; `outer` makes a path within the lake a path of this machine.
    pub(super) fn failure(self, outer: impl FnOnce(PathBuf) -> PathBuf) -> Failure {
        match self {
            Self::Corrupt(path, reason) => LakeError::Corrupt { path: outer(path), reason }.into(),
            Self::Unsupported(path, reason) => {
                LakeError::Unsupported { path: outer(path), reason }.into()
            }
            Self::Other(reason) => Failure::work(format!("a worker refused its part: {reason}")),
        }
    }
}

impl Work {
    /// Returns the work for figures.
    pub(in crate::commands) fn figures(query: &FiguresQuery, line: bool) -> Self {
        Self::Figures { figures: Figures::of(query), line }
    }
}

/// Returns a digest of a service level and of the test intervals of monitors, on which its evidence
/// depends.
pub(super) fn level_digest(config: &Config, level: &ServiceLevel) -> String {
    let intervals = config.monitors.values();
    let intervals = intervals.map(|monitor| (monitor.id.as_str(), monitor.test_interval));
    let definition = format!("{level:?} {:?}", intervals.collect::<Vec<_>>());
    hex(&Sha256::digest(definition)[..16])
}

impl Figures {
    pub(super) fn of(query: &FiguresQuery) -> Self {
        Self {
            by: query.by,
            metrics: query.metrics.clone(),
            qs: query.qs.clone(),
            receipts: query.receipts,
        }
    }

    /// Returns the query for the figures.
    ///
    /// # Errors
    /// The zone or the period does not exist.
    pub(super) fn query(&self, question: &Question) -> Result<FiguresQuery, String> {
        let (period, now) = (question.period()?, question.now);
        let query = FiguresQuery::new(period, now, self.by, &self.metrics, &self.qs);
        Ok(query.with_receipts(self.receipts))
    }
}

impl Question {
    /// Returns the question about the samples of a query, asked at `now`.
    ///
    /// # Errors
    /// The zone has no name.
    pub(super) fn new(
        query: &SeriesQuery,
        period: &Period,
        now: UtcMicros,
        work: Work,
    ) -> Result<Self, Failure> {
        let calendar = &period.calendar;
        let timezone = calendar.timezone.iana_name().ok_or_else(|| {
            Failure::usage(
                "the time zone has no name that workers could look up",
                "use --timezone with an IANA name such as Europe/Berlin",
            )
        })?;
        Ok(Self {
            from: period.from,
            to: period.to,
            timezone: timezone.to_owned(),
            week_start: calendar.week_start.to_monday_one_offset(),
            year_start: calendar.year_start,
            now,
            context: query.context,
            metrics: query.metrics.clone(),
            columns: query.columns.clone(),
            receipts: query.receipts,
            work,
        })
    }

    /// Returns the period.
    ///
    /// # Errors
    /// The zone or the period does not exist.
    pub(super) fn period(&self) -> Result<Period, String> {
        let calendar = Calendar {
            timezone: mailqos_base::zones::get(&self.timezone)
                .map_err(|error| error.to_string())?,
            week_start: Weekday::from_monday_one_offset(self.week_start)
                .map_err(|error| error.to_string())?,
            year_start: self.year_start,
        };
        Period::new(self.from, self.to, calendar).map_err(|error| error.to_string())
    }
}

impl Shard {
    /// Returns the query for its samples.
    ///
    /// # Errors
    /// The zone or the period does not exist.
    pub(super) fn query(&self, config: Option<&Config>) -> Result<SeriesQuery, String> {
        let question = &self.question;
        let query = SeriesQuery {
            context: question.context,
            metrics: question.metrics.clone(),
            columns: question.columns.clone(),
            receipts: question.receipts,
            ..SeriesQuery::new(&question.period()?)
        };
        let query = query.sites([self.site.clone()]).monitors(self.monitors.iter().cloned());
        let query = match (&question.work, config) {
            (Work::Level { .. }, Some(config)) => query.intervals(config),
            _ => query,
        };
        Ok(query.range(self.from.as_deref(), self.to.as_deref()))
    }

    /// Removes groups of monitors outside its range of names.
    pub(super) fn narrow_groups(&mut self) {
        let narrowed = match &self.question.work {
            Work::Groups { groups, .. } => groups.part(|monitor| self.is_inside(monitor)),
            _ => return,
        };
        if let Work::Groups { groups, .. } = &mut self.question.work {
            *groups = narrowed;
        }
    }

    /// Returns whether a monitor is in its range of names.
    pub(super) fn is_inside(&self, monitor: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= monitor)
            && self.to.as_deref().is_none_or(|to| monitor < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spark divides what a TRANSFORM script writes at tabs and line ends, drops what is after the
    /// first column, and takes `\N` for null (https://github.com/apache/spark/pull/31010).
    #[test]
    fn a_line_is_one_column_of_one_row() {
        let error = "tab\t, line\nend\r, \\N, nul\0, \u{2028}, déjà vu".to_owned();
        let rows = vec![vec![Cell::Text(error), Cell::Text("\\N".to_owned())]];
        let item = Item::Outages { empty: false, rows };
        let line = Line { shard: 1, content: Content::Item(item) };
        let text = serde_json::to_string(&line).expect("text");
        assert!(!text.contains(|letter: char| letter.is_ascii_control()), "{text}");
        assert_eq!(serde_json::from_str::<Line>(&text).expect("a line"), line);
    }

    #[test]
    fn numbers_are_the_same_after_the_journey() {
        for number in [0.1 + 0.2, -0.0, f64::MIN_POSITIVE, f64::MAX, 1.0 / 3.0, 5e-324] {
            let cell = Cell::Number(number, 1);
            let text = serde_json::to_string(&cell).expect("text");
            let back: Cell = serde_json::from_str(&text).expect("a cell");
            assert!(matches!(back, Cell::Number(value, 1) if value.to_bits() == number.to_bits()));
        }
    }
}
