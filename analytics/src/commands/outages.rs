//! `mailqos-analytics outages`: lists when monitors were down, and for how long.

use std::process::ExitCode;

use mailqos_lake_tables::{Column, Metric};
use mailqos_model::UtcMicros;

use super::{
    Failure, Global,
    engine::{EngineArgs, Item, Work, outage_rows},
    source::{SourceArgs, lake_failure},
    table::{Cell, Format, Table},
};

/// Options of `outages`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    engine: EngineArgs,
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
    let (now, is_long) = (UtcMicros::now(), source.format == Format::Table);
    let options = source.config.as_ref().map(|config| &config.engine);
    let found: Vec<(bool, Vec<Vec<Cell>>)> = match args.engine.engine(options)? {
        Some(engine) => {
            let work = Work::Outages { long: is_long };
            let found = engine.ask(&source, (&query, &source.period), now, work)?;
            let outages = found.items(&source.lake).filter_map(|item| match item {
                Item::Outages { empty, rows } => Some((empty, rows)),
                _ => None,
            });
            outages.collect()
        }
        None => {
            // A current period ends now: the time to come does not count as unknown.
            let period = source.period.until(now).unwrap_or_else(|| source.period.clone());
            source
                .lake
                .map(&query, |series| {
                    (series.inside.is_empty(), outage_rows(series, &period, is_long))
                })
                .map_err(lake_failure)?
        }
    };
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
