//! The rows of `outages`.

use mailqos_figures::{Period, Timeline};
use mailqos_lake_tables::Series;
use mailqos_model::{Micros, UtcMicros};

use crate::commands::table::{Cell, long, moment, seconds};

/// Returns a row for each outage of a series that overlaps the period; `is_long` writes durations
/// for people.
pub(in crate::commands) fn of(series: &Series, period: &Period, is_long: bool) -> Vec<Vec<Cell>> {
    let moment = |at: UtcMicros| moment(&period.calendar, at);
    let time = |time: Micros| match is_long {
        true => Cell::Text(long(time)),
        false => Cell::number(Some(seconds(time)), 0),
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
