//! `mailqos-analytics outages`: lists when monitors were down, and for how long.

use std::process::ExitCode;

use mailqos_figures::{Period, Timeline};
use mailqos_lake_tables::{Column, Metric, Series};
use mailqos_model::{Micros, UtcMicros};

use super::{
    Failure, Global,
    source::{SourceArgs, lake_failure},
    table::{Cell, Format, Table, long, moment, seconds},
};

/// Options of `outages`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or the lake can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let source = args.source.open(global)?;
    let query = source
        .query(&source.period)
        .metrics(&[Metric::RoundTrip])
        .columns(&[Column::Stage, Column::Error]);
    // A current period ends now: the time to come does not count as unknown.
    let period = source.period.until(UtcMicros::now()).unwrap_or_else(|| source.period.clone());
    let found = source
        .lake
        .map(&query, |series| (series.inside.is_empty(), rows(series, &period, source.format)))
        .map_err(lake_failure)?;
    let mut table = Table::new([
        "site",
        "monitor",
        "from",
        "to",
        "downtime_s",
        "duration_s",
        "failed_tests",
        "outcome",
        "stage",
        "error",
        "began_earlier",
    ]);
    for row in found.iter().flat_map(|(_, rows)| rows) {
        table.push(row.clone());
    }
    source.print(table)?;
    source.remarks(found.iter().all(|(empty, _)| *empty));
    Ok(ExitCode::SUCCESS)
}

/// Returns a row for each outage that overlaps the period.
fn rows(series: &Series, period: &Period, format: Format) -> Vec<Vec<Cell>> {
    let moment = |at: UtcMicros| moment(&period.calendar, at);
    let time = |time: Micros| match format {
        Format::Table => Cell::Text(long(time)),
        _ => Cell::number(Some(seconds(time)), 0),
    };
    Timeline::of(series, period, None)
        .outages
        .iter()
        .map(|outage| {
            let stage = series.stage.get(outage.row).copied().flatten();
            let error = series.error.get(outage.row).cloned().flatten();
            vec![
                Cell::Text(series.site.to_string()),
                Cell::Text(series.monitor.to_string()),
                Cell::Text(moment(outage.from)),
                // Null if the end was not observed.
                Cell::text(outage.to.map(moment)),
                // The known part of the outage within the period.
                time(outage.downtime),
                outage.duration().map_or(Cell::None, time),
                Cell::Count(outage.failed_tests),
                Cell::Text(series.outcome[outage.row].to_string()),
                Cell::text(stage.map(|stage| stage.to_string())),
                Cell::text(error.map(|error| error.to_string())),
                Cell::Flag(outage.began_earlier),
            ]
        })
        .collect()
}
