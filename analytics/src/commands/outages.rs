//! `mailqos-analytics outages`: when monitors were down, and for how long.

use std::process::ExitCode;

use mailqos_core::model::{Stage, UtcMicros};
use serde::Serialize;

use super::{
    Failure, Global, print,
    source::{SourceArgs, lake_failure},
    table::{Cell, Format, Table, json},
};
use crate::figures::{Calendar, Column, Metric, Period, Series, SeriesQuery, Timeline};

/// Options of `outages`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,

    /// How the answer is written.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// An outage as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    site: String,
    monitor: String,
    /// RFC 3339 with the zone's offset.
    from: String,
    /// Null where its end was not seen.
    to: Option<String>,
    /// The part that lies in the period, in seconds.
    downtime_s: f64,
    failed_tests: u64,
    outcome: String,
    stage: Option<String>,
    error: Option<String>,
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
        ..SeriesQuery::new(source.period.clone())
            .metrics(&[Metric::RoundTrip])
            .columns(&[Column::Stage, Column::Error])
            .for_outages()
    };
    // A period that is not over ends now: what has not been is not unknown.
    let period = source
        .period
        .until(UtcMicros::now())
        .unwrap_or_else(|| source.period.clone());
    let rows: Vec<Row> = source
        .lake
        .map(&query, |series| rows(&series, &period))
        .map_err(lake_failure)?
        .into_iter()
        .flatten()
        .collect();
    source.remarks(false);
    match args.format {
        Format::Json => print(json(&rows)?)?,
        format => table(&rows).print(format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(series: &Series, period: &Period) -> Vec<Row> {
    let moment = |at: UtcMicros| written(&period.calendar, at);
    Timeline::of(series, period, None)
        .outages
        .iter()
        .map(|outage| Row {
            site: series.site.to_string(),
            monitor: series.monitor.to_string(),
            from: moment(outage.from),
            to: outage.to.map(moment),
            downtime_s: outage.downtime.0 as f64 / 1e6,
            failed_tests: outage.failed_tests,
            outcome: series.outcome[outage.row].to_string(),
            stage: series
                .stage
                .get(outage.row)
                .copied()
                .flatten()
                .map(|stage: Stage| stage.to_string()),
            error: series
                .error
                .get(outage.row)
                .cloned()
                .flatten()
                .map(|error| error.to_string()),
        })
        .collect()
}

fn written(calendar: &Calendar, at: UtcMicros) -> String {
    calendar.zoned(at).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "site",
        "monitor",
        "from",
        "to",
        "downtime_s",
        "failed_tests",
        "outcome",
        "stage",
        "error",
    ]);
    for row in rows {
        table.push(vec![
            Cell::Text(row.site.clone()),
            Cell::Text(row.monitor.clone()),
            Cell::Text(row.from.clone()),
            Cell::text(row.to.clone()),
            Cell::number(Some(row.downtime_s), 0),
            Cell::Count(row.failed_tests),
            Cell::Text(row.outcome.clone()),
            Cell::text(row.stage.clone()),
            Cell::text(row.error.clone()),
        ]);
    }
    table
}
