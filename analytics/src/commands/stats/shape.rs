//! The figures of an output: metrics, percentiles and groups.

use mailqos_figures::{
    explain::percentile::RequestedPercentile,
    percentiles::CONTRACT,
    periods::{Calendar, Period, Unit},
    stats::{FiguresQuery, Row},
};
use mailqos_lake_tables::Metric;
use mailqos_model::UtcMicros;

use super::Group;
use crate::commands::table::moment;

/// The figures of an output, in order.
pub(in crate::commands) struct Shape {
    pub(super) metrics: Vec<Metric>,
    pub(super) percentiles: Vec<RequestedPercentile>,
    pub(super) group: Group,
    /// Whether the JSON includes all figures, rather than only those of the contract.
    pub(super) full: bool,
    pub(super) calendar: Calendar,
    /// Whether rows have a column for the kind of tests, because there are several.
    pub(super) kinds: bool,
    /// Whether deliverability is included.
    pub(super) receipts: bool,
}

impl Shape {
    /// Returns the contract's figures of single monitors.
    pub(in crate::commands) fn of_monitors(
        calendar: Calendar,
        metrics: &[Metric],
        asked: &[RequestedPercentile],
    ) -> Self {
        let mut all = Metric::CONTRACT.to_vec();
        for metric in metrics {
            if !all.contains(metric) {
                all.push(*metric);
            }
        }
        let mut percentiles: Vec<RequestedPercentile> = ["p50", "p90", "p95", "p99"]
            .into_iter()
            .zip(CONTRACT)
            .map(|(name, q)| RequestedPercentile::new(name, q))
            .collect();
        for one in asked {
            if percentiles.iter().all(|known| known.q().to_bits() != one.q().to_bits()) {
                percentiles.push(one.clone());
            }
        }
        Self {
            metrics: all,
            percentiles,
            group: Group::Monitor,
            full: false,
            calendar,
            kinds: false,
            receipts: false,
        }
    }

    /// Adds deliverability, if `wanted`.
    #[must_use]
    pub(in crate::commands) fn with_receipts(self, wanted: bool) -> Self {
        Self { receipts: wanted, ..self }
    }

    /// Returns the query for these figures.
    pub(in crate::commands) fn question(&self, period: &Period, by: Option<Unit>) -> FiguresQuery {
        let qs: Vec<f64> = self.percentiles.iter().map(RequestedPercentile::q).collect();
        FiguresQuery::new(period.clone(), UtcMicros::now(), by, &self.metrics, &qs)
            .with_receipts(self.receipts)
    }

    /// Formats the start of a row's bucket in RFC 3339, with the zone's offset at that time.
    pub(super) fn bucket(&self, row: &Row) -> Option<String> {
        Some(moment(&self.calendar, row.bucket?))
    }
}

#[cfg(test)]
mod tests {
    use mailqos_figures::explain::percentile::percentile;

    use super::*;

    #[test]
    fn a_metric_or_percentile_requested_twice_appears_once() {
        let calendar = Calendar::new(jiff::tz::TimeZone::UTC);
        let metrics = [Metric::SmtpTls, Metric::PickupList, Metric::SmtpTls, Metric::RoundTrip];
        let asked = ["75", "95", "75.0"].map(|text| percentile(text).expect("a percentile"));
        let shape = Shape::of_monitors(calendar, &metrics, &asked);
        assert_eq!(shape.metrics[Metric::CONTRACT.len()..], [Metric::SmtpTls, Metric::PickupList]);
        assert_eq!(shape.percentiles.len(), CONTRACT.len() + 1);
    }
}
