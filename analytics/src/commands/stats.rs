//! `mailqos-analytics stats`: the contracts' figures per monitor and bucket of time.

use std::process::ExitCode;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    Failure, Global, print,
    source::{SourceArgs, lake_failure},
    table::{Cell, Format, Table, json},
};
use crate::figures::{
    lake::SeriesQuery,
    percentiles::{CONTRACT, Summary},
    periods::{Calendar, Unit},
    series::Metric,
    stats::{Row, rows},
};

/// Figures per monitor and bucket of time: counts of outcomes, availability, and the distribution of each metric in
/// milliseconds.
///
/// The period is half-open: --to names the first day that does not belong to it. Buckets without a sample are left out.
/// A bucket begins where its hour, day, week or month begins, also where the period begins within it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,

    /// One row for the whole period, or one a bucket of local time.
    #[arg(long, value_enum, default_value = "total")]
    by: By,

    /// How the answer is written.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Total,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl By {
    fn unit(self) -> Option<Unit> {
        match self {
            Self::Total => None,
            Self::Hour => Some(Unit::Hour),
            Self::Day => Some(Unit::Day),
            Self::Week => Some(Unit::Week),
            Self::Month => Some(Unit::Month),
            Self::Quarter => Some(Unit::Quarter),
            Self::Year => Some(Unit::Year),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or a lake that can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let source = args.source.open(global)?;
    let query = SeriesQuery {
        sites: source.sites.clone(),
        monitors: source.monitors.clone(),
        ..SeriesQuery::new(source.period.clone()).metrics(&Metric::CONTRACT)
    };
    let by = args.by.unit();
    let found: Vec<Row> = source
        .lake
        .map(&query, |series| {
            rows(&series, &source.period, by, &Metric::CONTRACT, &CONTRACT)
        })
        .map_err(lake_failure)?
        .into_iter()
        .flatten()
        .collect();
    source.remarks(found.is_empty());
    let calendar = &source.period.calendar;
    match args.format {
        Format::Json => print(json(
            &found.iter().map(|row| JsonRow { row, calendar }).collect::<Vec<_>>(),
        )?)?,
        Format::Csv | Format::Parquet => flat(&found, calendar).print(args.format)?,
        Format::Table => shown(&found, calendar).print(args.format)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// RFC 3339 with the zone's offset at that moment.
fn bucket(row: &Row, calendar: &Calendar) -> Option<String> {
    row.bucket
        .map(|bucket| calendar.zoned(bucket).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

struct JsonRow<'a> {
    row: &'a Row,
    calendar: &'a Calendar,
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        let counts = &row.counts;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("site", &*row.site)?;
        map.serialize_entry("monitor", &*row.monitor)?;
        map.serialize_entry("bucket", &bucket(row, self.calendar))?;
        map.serialize_entry("tests", &counts.tests())?;
        map.serialize_entry("ok", &counts.ok)?;
        map.serialize_entry("late", &counts.late)?;
        map.serialize_entry("lost", &counts.lost)?;
        map.serialize_entry("smtp_failed", &counts.smtp_failed)?;
        map.serialize_entry("pickup_failed", &counts.pickup_failed)?;
        map.serialize_entry("not_tested", &counts.not_tested)?;
        map.serialize_entry("availability", &counts.availability())?;
        map.serialize_entry("metrics", &JsonMetrics(row))?;
        map.end()
    }
}

struct JsonMetrics<'a>(&'a Row);

impl Serialize for JsonMetrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Metric::CONTRACT.len()))?;
        for (metric, summary) in Metric::CONTRACT.iter().zip(&self.0.metrics) {
            map.serialize_entry(metric.as_str(), &JsonSummary(summary.as_ref()))?;
        }
        map.end()
    }
}

struct JsonSummary<'a>(Option<&'a Summary>);

impl Serialize for JsonSummary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(8))?;
        map.serialize_entry("count", &self.0.map_or(0, |summary| summary.count))?;
        for (name, value) in milliseconds(self.0) {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

/// The contracts' statistics of a metric, in their order, in milliseconds.
fn milliseconds(summary: Option<&Summary>) -> [(&'static str, Option<f64>); 7] {
    let p = |index: usize| {
        summary
            .and_then(|s| s.percentiles.get(index))
            .map(|micros| micros / 1000.0)
    };
    [
        ("min", summary.map(|s| s.min.as_millis_f64())),
        ("mean", summary.map(|s| s.mean / 1000.0)),
        ("max", summary.map(|s| s.max.as_millis_f64())),
        ("p50", p(0)),
        ("p90", p(1)),
        ("p95", p(2)),
        ("p99", p(3)),
    ]
}

/// All figures, one column each.
fn flat(found: &[Row], calendar: &Calendar) -> Table {
    let mut columns: Vec<String> = [
        "site",
        "monitor",
        "bucket",
        "tests",
        "ok",
        "late",
        "lost",
        "smtp_failed",
        "pickup_failed",
        "not_tested",
        "availability",
    ]
    .map(str::to_owned)
    .to_vec();
    for metric in Metric::CONTRACT {
        columns.push(format!("{metric}_count"));
        columns.extend(milliseconds(None).map(|(name, _)| format!("{metric}_{name}")));
    }
    let mut table = Table::new(columns);
    for row in found {
        let counts = &row.counts;
        let mut cells = vec![
            Cell::Text(row.site.to_string()),
            Cell::Text(row.monitor.to_string()),
            Cell::text(bucket(row, calendar)),
            Cell::Count(counts.tests()),
            Cell::Count(counts.ok),
            Cell::Count(counts.late),
            Cell::Count(counts.lost),
            Cell::Count(counts.smtp_failed),
            Cell::Count(counts.pickup_failed),
            Cell::Count(counts.not_tested),
            Cell::share(counts.availability(), counts.tests()),
        ];
        for summary in &row.metrics {
            cells.push(Cell::Count(summary.as_ref().map_or(0, |summary| summary.count)));
            cells.extend(milliseconds(summary.as_ref()).map(|(_, value)| Cell::number(value, 1)));
        }
        table.push(cells);
    }
    table
}

/// What fits a terminal: counts, availability, and the round trip in milliseconds.
fn shown(found: &[Row], calendar: &Calendar) -> Table {
    let total = found.iter().all(|row| row.bucket.is_none());
    let mut columns = vec!["site", "monitor"];
    if !total {
        columns.push("bucket");
    }
    columns.extend([
        "tests",
        "ok",
        "late",
        "lost",
        "smtp_failed",
        "pickup_failed",
        "not_tested",
        "availability",
        "p50_ms",
        "p90_ms",
        "p95_ms",
        "p99_ms",
        "max_ms",
    ]);
    let mut table = Table::new(columns);
    for row in found {
        let counts = &row.counts;
        let mut cells = vec![Cell::Text(row.site.to_string()), Cell::Text(row.monitor.to_string())];
        if !total {
            cells.push(Cell::text(bucket(row, calendar)));
        }
        cells.extend([
            Cell::Count(counts.tests()),
            Cell::Count(counts.ok),
            Cell::Count(counts.late),
            Cell::Count(counts.lost),
            Cell::Count(counts.smtp_failed),
            Cell::Count(counts.pickup_failed),
            Cell::Count(counts.not_tested),
            Cell::share(counts.availability(), counts.tests()),
        ]);
        let round_trip = row.metrics.first().and_then(Option::as_ref);
        let [_, _, max, p50, p90, p95, p99] = milliseconds(round_trip);
        cells.extend([p50, p90, p95, p99, max].map(|(_, value)| Cell::number(value, 0)));
        table.push(cells);
    }
    table
}
