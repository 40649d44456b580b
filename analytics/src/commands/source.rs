//! Shared parts of the commands for figures: lake, monitors, period and output.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use jiff::{civil::Weekday, tz::TimeZone};
use mailqos_config::{Config, DataLocation};
use mailqos_figures::periods::{Calendar, Period, PeriodError};
use mailqos_lake_tables::{Lake, LakeError, SeriesQuery};
use mailqos_model::UtcMicros;

use super::{
    Failure, Global, print,
    table::{Cell, Format, Table},
};

/// Options that select samples.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceArgs {
    /// Only this monitor: id, glob (`mail-*`), or with a configuration `tag:NAME` or `object:NAME`
    /// (repeatable) [default: all].
    #[arg(long, value_name = "ID")]
    pub monitor: Vec<String>,

    /// Only this site (repeatable).
    #[arg(long, value_name = "SITE")]
    pub site: Vec<String>,

    /// First day of the period, such as 2026-03-01, or start time (RFC 3339).
    #[arg(long, value_name = "DATE", required_unless_present = "period", requires = "to")]
    pub from: Option<String>,

    /// First day after the period; for March: --from 2026-03-01 --to 2026-04-01.
    #[arg(long, value_name = "DATE", requires = "from")]
    pub to: Option<String>,

    /// Period by name: last-month, current-week, last-7d, last-24h, today, yesterday,
    /// month-to-date, 2026-03, 2026-W09, 2026-Q1, 2026.
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    pub period: Option<String>,

    /// Time zone in which days begin, as an IANA name [default: from the configuration; UTC with
    /// --data].
    #[arg(long, value_name = "TZ")]
    pub timezone: Option<String>,

    /// First day of the week.
    #[arg(long, value_name = "DAY", default_value = "monday", value_parser = weekday)]
    pub week_start: Weekday,

    /// First month of the fiscal year, from 1 to 12.
    #[arg(long, value_name = "MONTH", default_value = "1", value_parser = clap::value_parser!(i8).range(1..=12))]
    pub year_start: i8,

    /// Folder of the sample lake; replaces the configuration file.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Skip corrupt files with a warning instead of failing.
    #[arg(long)]
    pub skip_corrupt: bool,

    /// Output format.
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// Parses `monday` or `mon`.
pub(super) fn weekday(text: &str) -> Result<Weekday, String> {
    mailqos_report::weekday(text).ok_or_else(|| "use monday, tuesday, … or sunday".into())
}

/// An opened lake, the selected samples, and the configuration if there is one.
#[derive(Debug)]
pub struct Source {
    /// The lake.
    pub lake: Lake,
    /// The period.
    pub period: Period,
    /// Selected monitors; all if empty.
    pub monitors: BTreeSet<String>,
    /// Selected sites; all if empty.
    pub sites: BTreeSet<String>,
    /// The configuration, unless `--data` made it unnecessary.
    pub config: Option<Config>,
    /// Output format.
    pub format: Format,
    /// Location of the lake: an absolute path or an address.
    pub location: String,
}

impl Source {
    /// Returns the shares that any objective promises. A different share must not be rounded to the
    /// same text.
    pub fn promises(&self) -> Vec<f64> {
        self.config.as_ref().map(Config::promised_shares).unwrap_or_default()
    }
}

impl SourceArgs {
    /// Opens the lake and validates the selection.
    ///
    /// # Errors
    /// Wrong usage, wrong configuration, or a lake that can't be read.
    pub fn open(&self, global: &Global) -> Result<Source, Failure> {
        // With --data, a configuration is read only if one was given: the lake may belong to
        // another installation.
        let config = if self.data.is_none() || global.config.is_some() {
            Some(global.load()?)
        } else {
            None
        };
        let timezone = match (&self.timezone, &config) {
            (Some(name), _) => mailqos_base::zones::get(name).map_err(|_| {
                Failure::usage(
                    format!("{name:?} is not a time zone"),
                    "use an IANA name such as Europe/Berlin, Australia/Lord_Howe or UTC",
                )
            })?,
            (None, Some(config)) => config.timezone.clone(),
            (None, None) => TimeZone::UTC,
        };
        let calendar =
            Calendar { timezone, week_start: self.week_start, year_start: self.year_start };
        let period = match (&self.period, &self.from, &self.to) {
            (Some(name), ..) => Period::named(name, UtcMicros::now(), calendar),
            (None, Some(from), Some(to)) => Period::between(from, to, calendar),
            _ => {
                return Err(Failure::usage(
                    "the period is missing",
                    "use --from DATE --to DATE, or --period last-month",
                ));
            }
        };
        let period = period.map_err(|error| {
            let help = match &error {
                PeriodError::Empty { .. } => {
                    "--to must be later than --from; it is the first day after the \
                    period"
                }
                _ => "use dates in the time zone of --timezone",
            };
            Failure::usage(&error, help)
        })?;
        let lake = super::lake(self.data.as_deref(), config.as_ref())?;
        let lake = lake.skip_corrupt(self.skip_corrupt);
        let mut source = Source {
            lake,
            period,
            monitors: BTreeSet::new(),
            sites: self.site.iter().cloned().collect(),
            location: location(self.data.as_deref(), config.as_ref()),
            config,
            format: self.format,
        };
        source.check_sites()?;
        source.select(&self.monitor)?;
        Ok(source)
    }
}

/// Returns the location of a lake as text that is valid in any working folder; empty if there is
/// none.
fn location(data: Option<&Path>, config: Option<&Config>) -> String {
    let configured = match (data, config.map(|config| &config.data)) {
        (Some(data), _) => data,
        (None, Some(DataLocation::Folder(folder))) => folder,
        (None, Some(DataLocation::ObjectStore(address))) => return address.clone(),
        (None, None) => return String::new(),
    };
    let text = configured.to_string_lossy().into_owned();
    if text.contains("://") {
        return text;
    }
    std::path::absolute(configured).map_or(text, |path| path.to_string_lossy().into_owned())
}

impl Source {
    fn check_sites(&self) -> Result<(), Failure> {
        let known = self.lake.sites();
        for site in &self.sites {
            if !known.iter().any(|known| **known == **site) {
                return Err(Failure::usage(
                    format!("the lake contains no site {site:?}"),
                    suggestion("site", site, known.iter().map(|site| &**site)),
                ));
            }
        }
        Ok(())
    }

    /// Resolves the patterns of `--monitor`. A monitor must exist in the lake or in the
    /// configuration.
    fn select(&mut self, patterns: &[String]) -> Result<(), Failure> {
        if patterns.is_empty() {
            return Ok(());
        }
        let configured = |pattern: &str| -> Vec<String> {
            self.config
                .as_ref()
                .and_then(|config| config.select(&[pattern.to_owned()]).ok())
                .unwrap_or_default()
                .into_iter()
                .map(|monitor| monitor.id.to_string())
                .collect()
        };
        let period = || (&self.period).into();
        // The names of all monitors are needed only for globs.
        let is_glob = |pattern: &String| pattern.contains(['*', '?']);
        let in_period = match patterns.iter().any(is_glob) {
            true => self.lake.monitors(Some(period())).map_err(lake_failure)?,
            false => BTreeSet::new(),
        };
        // All monitors of the lake are read only if a pattern matches none in the period, because
        // that opens every file.
        let mut everywhere: Option<BTreeSet<String>> = None;
        let mut chosen = BTreeSet::new();
        for pattern in patterns {
            let mut found: BTreeSet<String> = configured(pattern).into_iter().collect();
            let matching = |monitor: &str| mailqos_config::glob(pattern, monitor);
            found.extend(in_period.iter().map(|(_, m)| m.to_string()).filter(|m| matching(m)));
            if !is_glob(pattern)
                && found.is_empty()
                && self.lake.has_monitor(pattern, |_| true, Some(period())).map_err(lake_failure)?
            {
                found.insert(pattern.clone());
            }
            if found.is_empty() {
                if everywhere.is_none() {
                    let all = self.lake.monitors(None).map_err(lake_failure)?;
                    everywhere =
                        Some(all.into_iter().map(|(_, monitor)| monitor.to_string()).collect());
                }
                let all = everywhere.iter().flatten();
                found.extend(all.filter(|monitor| matching(monitor)).cloned());
            }
            if found.is_empty() {
                let mut known = everywhere.unwrap_or_default();
                known.extend(
                    self.config.iter().flat_map(|c| c.monitors.keys().map(ToString::to_string)),
                );
                return Err(Failure::usage(
                    format!("{pattern:?} matches no monitor in the lake or the configuration"),
                    suggestion("monitor", pattern, known.iter().map(String::as_str)),
                ));
            }
            chosen.extend(found);
        }
        self.monitors = chosen;
        Ok(())
    }

    /// Returns a query for the samples of the selected monitors in a period, including what outages
    /// need.
    pub fn query(&self, period: &Period) -> SeriesQuery {
        SeriesQuery {
            sites: self.sites.clone(),
            monitors: self.monitors.clone(),
            ..SeriesQuery::new(period.clone()).for_outages()
        }
    }

    /// Prints a table with the number of skipped corrupt files.
    ///
    /// # Errors
    /// It can't be printed.
    pub fn print(&self, mut table: Table) -> Result<(), Failure> {
        if self.format == Format::Table {
            table.print(self.format)?;
            return self.print_left_out();
        }
        if self.lake.skips() {
            table.add_column("skipped_files", &Cell::Count(self.lake.skipped().len() as u64));
        }
        table.print(self.format)
    }

    /// Lists skipped corrupt files below a table for terminals.
    ///
    /// # Errors
    /// The list can't be printed.
    pub fn print_left_out(&self) -> Result<(), Failure> {
        for (path, reason) in self.lake.skipped() {
            print(format!("\nSkipped: {} ({reason}).\n", path.display()))?;
        }
        for text in self.lake.doubles() {
            print(format!("\nCounted once: {text}.\n"))?;
        }
        Ok(())
    }

    /// Prints remarks to standard error: no samples found, or files skipped.
    pub fn remarks(&self, empty: bool) {
        for (path, reason) in self.lake.skipped() {
            tracing::warn!(path = %path.display(), %reason, "corrupt file skipped");
        }
        for text in self.lake.doubles() {
            tracing::warn!(detail = %text, "duplicates in the lake");
        }
        if !empty {
            return;
        }
        if self.lake.is_empty() {
            tracing::warn!(folder = %self.lake.folder().display(), "the lake is empty");
        } else if self.period.from > UtcMicros::now() {
            tracing::warn!(period = %self.period, "the period is in the future");
        } else if let Some((first, last)) = self.lake.dates() {
            tracing::warn!(period = %self.period, %first, %last, "no samples in the period");
        }
    }
}

/// Returns the failure for a lake that can't be read, with its remedy.
pub fn lake_failure(error: LakeError) -> Failure {
    match &error {
        LakeError::Unsupported { .. } => {
            Failure::work_help(&error, "or skip it with --skip-corrupt; all output then lists it")
        }
        LakeError::Corrupt { .. } => Failure::work_help(
            &error,
            "restore it from a backup, or skip it with --skip-corrupt; all output then lists it",
        ),
        _ => Failure::work(&error),
    }
}

impl From<LakeError> for Failure {
    fn from(error: LakeError) -> Self {
        lake_failure(error)
    }
}

/// Returns a "did you mean" suggestion, or the list of existing names.
pub(super) fn suggestion<'a>(
    what: &str,
    wanted: &str,
    known: impl Iterator<Item = &'a str>,
) -> String {
    let known: Vec<&str> = known.collect();
    if known.is_empty() {
        return format!("no {what} exists");
    }
    mailqos_config::did_you_mean(wanted, known.iter().copied(), || {
        let shown = known.iter().take(10).copied().collect::<Vec<_>>().join(", ");
        let more = if known.len() > 10 {
            format!(" and {} more", known.len() - 10)
        } else {
            String::new()
        };
        format!("available: {shown}{more}")
    })
}
