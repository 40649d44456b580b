//! The figures of an output: metrics, percentiles and groups.

use mailqos_figures::{
    percentiles::CONTRACT,
    periods::{Calendar, Period, Unit},
    stats::{FiguresQuery, Row},
};
use mailqos_lake_tables::Metric;
use mailqos_model::{Micros, UtcMicros};

use super::Group;
use crate::commands::table::moment;

/// A requested percentile, as written by the user.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::commands) struct RequestedPercentile {
    name: String,
    q: f64,
}

/// Parses a percentile, such as `99.9` as 0.999.
pub(in crate::commands) fn percentile(text: &str) -> Result<RequestedPercentile, String> {
    let wrong =
        || format!("{text:?} is not a percentile; use a number from 0 to 100, such as 99.9");
    let name = text.strip_prefix('p').unwrap_or(text);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    // Parsed directly as a hundredth: 99.9 / 100 is not the number nearest to 0.999.
    let q: f64 = format!("{name}e-2").parse().map_err(|_| wrong())?;
    if !(0.0..=1.0).contains(&q) {
        return Err(wrong());
    }
    Ok(RequestedPercentile { name: format!("p{name}"), q })
}

impl RequestedPercentile {
    /// Returns the quantile in [0, 1].
    pub(in crate::commands) fn q(&self) -> f64 {
        self.q
    }

    /// Returns its name, such as `p99.9`.
    pub(in crate::commands) fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the name of one of the delivery limits: `10s`, `5min`.
pub(super) fn limit_name(limit: Micros) -> String {
    match limit.0 / 1_000_000 {
        seconds if seconds % 60 == 0 => format!("{}min", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

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
            .map(|(name, q)| RequestedPercentile { name: name.to_owned(), q })
            .collect();
        for one in asked {
            if percentiles.iter().all(|known| known.q.to_bits() != one.q.to_bits()) {
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

    #[test]
    fn percentiles_are_parsed_exactly() {
        assert_eq!(percentile("99.9").map(|asked| asked.q), Ok(0.999));
        assert_eq!(percentile("p95").map(|asked| asked.name), Ok("p95".to_owned()));
        for wrong in ["", "p", "101", "-1", "fast", "1e1", "NaN", "."] {
            assert!(percentile(wrong).is_err(), "{wrong}");
        }
    }
}
