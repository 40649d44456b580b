//! Delivered within x: the share of counted tests whose mail landed within x. Lost mails stay in the denominator.

use std::ops::Range;

use mailqos_core::model::Micros;

use super::{
    availability::Share,
    series::{Metric, Series},
};

/// The limits that reports show, besides max round trip.
pub const LIMITS: [Micros; 4] = [
    Micros::from_secs(10),
    Micros::from_secs(30),
    Micros::from_secs(60),
    Micros::from_secs(300),
];

/// Over the rows of a series, the share that landed within each limit; `None` without a counted test.
pub fn delivered_within(series: &Series, rows: Range<usize>, limits: &[Micros]) -> Option<Vec<Share>> {
    let tests = series.counted_in(rows.clone()).count() as u64;
    let mut trips = series.values(Metric::RoundTrip, rows);
    trips.sort_unstable();
    limits
        .iter()
        .map(|limit| Share::new(trips.partition_point(|trip| *trip <= limit.0) as u64, tests))
        .collect()
}
