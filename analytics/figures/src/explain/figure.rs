//! The figures of `stats` by name, which `--explain` explains and `top` sorts by.

use mailqos_lake_tables::{Metric, Series};
use mailqos_model::Outcome;

use super::{
    mail_figure::MailFigure,
    percentile::{RequestedPercentile, limit_name, percentile},
    words::{long, seconds},
};
use crate::{
    Counts, DeliveredPercentile, Distribution, Share,
    delivered_within::LIMITS,
    percentiles::needed_ranks,
    stats::{FiguresQuery, Row},
};

/// A figure of `stats`, by its CSV column name.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Share of counted tests with the outcome `ok`.
    Availability,
    /// Share of counted tests whose mail arrived.
    DeliveryRate,
    /// Share of the period for which the state is known.
    Coverage,
    /// Share of the known time.
    AvailabilityByTime,
    /// Known time in outages.
    Downtime,
    /// Time for which the state is unknown.
    Unknown,
    /// Time in maintenance.
    Maintenance,
    /// Number of outages.
    Outages,
    /// Duration of the longest outage.
    LongestOutage,
    /// Mean time to recovery.
    Mttr,
    /// Mean time between failures.
    Mtbf,
    /// Concerning maintenance that was declared afterwards.
    Declared(DeclaredFigure),
    /// Number of tests, or of tests with a certain outcome.
    Tests(Which),
    /// Share within one of [`LIMITS`], or within the maximum round trip.
    Within(Option<usize>),
    /// Percentile in which undelivered mails count as infinitely late.
    Delivered(RequestedPercentile),
    /// Statistic of a metric.
    Of(Metric, Statistic),
    /// About deliverability.
    Mail(MailFigure),
}

/// A figure about maintenance that was declared afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredFigure {
    /// Counted tests in it.
    Tests,
    /// Known time in it.
    Time,
    /// Availability without it.
    Availability,
    /// Availability by time without it.
    AvailabilityByTime,
    /// Downtime without it.
    Downtime,
}

impl DeclaredFigure {
    const ALL: [Self; 5] =
        [Self::Tests, Self::Time, Self::Availability, Self::AvailabilityByTime, Self::Downtime];

    fn name(self) -> &'static str {
        match self {
            Self::Tests => "declared",
            Self::Time => "declared_s",
            Self::Availability => "availability_excluding_declared",
            Self::AvailabilityByTime => "availability_by_time_excluding_declared",
            Self::Downtime => "downtime_excluding_declared_s",
        }
    }

    fn value(self, row: &Row) -> Option<f64> {
        let (counts, time) = row.excluding_declared();
        match self {
            Self::Tests => Some(row.declared_tests() as f64),
            Self::Time => Some(seconds(row.declared_time())),
            Self::Availability => counts.availability(),
            Self::AvailabilityByTime => time.availability(),
            Self::Downtime => Some(seconds(time.downtime)),
        }
    }

    fn definition(self, row: &Row) -> (&'static str, String) {
        let (counts, time) = row.excluding_declared();
        match self {
            Self::Tests => (
                "counted tests that began in maintenance declared afterwards; other figures include them",
                format!("{} of {} counted tests", row.declared_tests(), row.counts.tests()),
            ),
            Self::Time => (
                "known time from each test in maintenance declared afterwards to the next test",
                format!("{} of {}", long(row.declared_time()), long(time.length)),
            ),
            Self::Availability => (
                "availability as if maintenance declared afterwards had been planned",
                format!(
                    "{} ok of {} counted tests; {} tests in declared maintenance excluded",
                    counts.ok,
                    counts.tests(),
                    row.declared_tests()
                ),
            ),
            Self::AvailabilityByTime => (
                "uptime / (uptime + downtime) as if maintenance declared afterwards had been planned",
                format!("{} up, {} down", long(time.up), long(time.downtime)),
            ),
            Self::Downtime => (
                "the known parts of outages as if maintenance declared afterwards had been planned",
                format!("{} outages", time.outages),
            ),
        }
    }
}

/// Selection of tests to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Counted tests.
    Counted,
    /// Those with an outcome.
    Of(Outcome),
    /// Excluded tests.
    Excluded,
    /// Tests that may still turn out to be late.
    Provisional,
}

impl Which {
    /// Parses the name of a metric's column.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "tests" => Self::Counted,
            "excluded" => Self::Excluded,
            "provisional" => Self::Provisional,
            outcome => Self::Of(outcome.parse().ok()?),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Counted => "tests",
            Self::Excluded => "excluded",
            Self::Provisional => "provisional",
            Self::Of(outcome) => outcome.as_str(),
        }
    }

    fn of(self, counts: &Counts) -> u64 {
        match self {
            Self::Counted => counts.tests(),
            Self::Excluded => counts.excluded,
            Self::Provisional => counts.provisional,
            Self::Of(Outcome::Ok) => counts.ok,
            Self::Of(Outcome::Late) => counts.late,
            Self::Of(Outcome::Lost) => counts.lost,
            Self::Of(Outcome::SmtpFailed) => counts.smtp_failed,
            Self::Of(Outcome::PickupFailed) => counts.pickup_failed,
            Self::Of(Outcome::NotTested) => counts.not_tested,
        }
    }

    /// Returns whether a row of a series is selected.
    pub fn has(self, series: &Series, row: usize) -> bool {
        let outcome = series.outcome[row];
        match self {
            Self::Counted => series.counts(row),
            Self::Excluded => outcome != Outcome::NotTested && series.exclusion(row).is_some(),
            Self::Provisional => series.counts(row) && series.provisional.get(row) == Some(&true),
            Self::Of(Outcome::NotTested) => outcome == Outcome::NotTested,
            Self::Of(wanted) => series.counts(row) && outcome == wanted,
        }
    }
}

/// A statistic of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Statistic {
    /// Number of values.
    Count,
    /// Smallest value.
    Min,
    /// Mean.
    Mean,
    /// Largest value.
    Max,
    /// A percentile.
    Percentile(RequestedPercentile),
}

impl Figure {
    /// Names of all figures.
    pub const HELP: &'static str = "figures are availability, delivery_rate, coverage, availability_by_time, downtime, unknown, maintenance, \
         outages, longest_outage, mttr, mtbf, tests, ok, late, lost, smtp_failed, pickup_failed, not_tested, excluded, \
         provisional, inbox_placement, junk_rate, spf_pass_rate, dkim_pass_rate, dmarc_pass_rate, spam_rate, \
         first_attempt_rate, accepted_rate, in_inbox, in_junk, in_other_folder, folder_unknown, spam_score_p50, \
         spam_score_p95, retried, retry_delay, duplicated, bounced, declared, declared_s, availability_excluding_declared, availability_by_time_excluding_declared, \
         downtime_excluding_declared_s, delivered_within_10s, _30s, _1min, _5min or _max_round_trip, delivered_p99, and count, min, mean, max or a \
         percentile of a metric: round_trip_p95, smtp_send_mean";
}

/// Value of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FigureValue {
    /// There are no values.
    None,
    /// The percentile falls on undelivered mails.
    NotDelivered,
    /// Shares in [0, 1], seconds, milliseconds, or a count.
    Is(f64),
}

impl Figure {
    /// Returns the metric of the figure.
    pub fn metric(&self) -> Metric {
        match self {
            Self::Of(metric, _) => *metric,
            _ => Metric::RoundTrip,
        }
    }

    /// Returns the figure about deliverability, if it is one.
    pub fn mail(&self) -> Option<MailFigure> {
        match self {
            Self::Mail(figure) => Some(*figure),
            _ => None,
        }
    }

    /// Returns the percentile, if the figure is one.
    pub fn percentile(&self) -> Option<&RequestedPercentile> {
        match self {
            Self::Delivered(asked) | Self::Of(_, Statistic::Percentile(asked)) => Some(asked),
            _ => None,
        }
    }

    /// Returns whether the figure is calculated from time spans rather than from tests.
    pub fn is_of_time(&self) -> bool {
        matches!(
            self,
            Self::Coverage
                | Self::AvailabilityByTime
                | Self::Downtime
                | Self::Unknown
                | Self::Maintenance
                | Self::Outages
                | Self::LongestOutage
                | Self::Mttr
                | Self::Mtbf
                | Self::Declared(
                    DeclaredFigure::Time
                        | DeclaredFigure::AvailabilityByTime
                        | DeclaredFigure::Downtime
                )
        )
    }

    /// Returns the unit.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Downtime
            | Self::Unknown
            | Self::Maintenance
            | Self::LongestOutage
            | Self::Mttr
            | Self::Mtbf
            | Self::Declared(DeclaredFigure::Time | DeclaredFigure::Downtime) => "s",
            Self::Declared(DeclaredFigure::Tests)
            | Self::Outages
            | Self::Tests(_)
            | Self::Of(_, Statistic::Count) => "",
            Self::Delivered(_) | Self::Of(..) => "ms",
            Self::Mail(figure) => figure.unit(),
            _ => "share",
        }
    }

    /// Returns whether higher values are better.
    pub fn more_is_better(&self) -> bool {
        if let Self::Mail(figure) = self {
            return figure.more_is_better();
        }
        self.unit() == "share"
            || matches!(
                self,
                Self::Mtbf
                    | Self::Of(_, Statistic::Count)
                    | Self::Tests(Which::Counted | Which::Of(Outcome::Ok))
            )
    }

    fn distribution<'a>(&self, row: &'a Row, question: &FiguresQuery) -> Option<&'a Distribution> {
        let index = question.metrics.iter().position(|known| *known == self.metric())?;
        row.metrics.get(index)?.as_ref()
    }

    /// Returns the position of its percentile among those of the query.
    fn place(&self, question: &FiguresQuery) -> Option<usize> {
        let q = self.percentile()?.q();
        question.qs.iter().position(|known| known.to_bits() == q.to_bits())
    }

    /// Returns its value in a row.
    pub fn value(&self, row: &Row, question: &FiguresQuery) -> FigureValue {
        let (counts, time) = (&row.counts, &row.time);
        let ms = |micros: f64| micros / 1000.0;
        let summary = self.distribution(row, question).map(|found| &found.summary);
        let value = match self {
            Self::Availability => counts.availability(),
            Self::DeliveryRate => row.delivery_rate(),
            Self::Coverage => time.coverage(),
            Self::AvailabilityByTime => time.availability(),
            Self::Downtime => Some(seconds(time.downtime)),
            Self::Unknown => Some(seconds(time.unknown)),
            Self::Maintenance => Some(seconds(time.excluded)),
            Self::Outages => Some(time.outages as f64),
            Self::LongestOutage => time.longest.map(seconds),
            Self::Tests(which) => Some(which.of(counts) as f64),
            Self::Mttr => time.mttr().map(seconds),
            Self::Mtbf => time.mtbf().map(seconds),
            Self::Declared(figure) => figure.value(row),
            Self::Within(limit) => row.delivered_within(*limit),
            Self::Mail(figure) => {
                row.mails.as_ref().and_then(|mails| row.of_mails(figure.value(mails)))
            }
            Self::Delivered(_) => {
                match self.place(question).and_then(|index| row.delivered.get(index)) {
                    Some(DeliveredPercentile::NotDelivered) => return FigureValue::NotDelivered,
                    Some(DeliveredPercentile::Within(micros)) => Some(ms(*micros)),
                    None => None,
                }
            }
            Self::Of(_, Statistic::Count) => Some(summary.map_or(0.0, |s| s.count as f64)),
            Self::Of(_, Statistic::Min) => summary.map(|s| s.min.as_millis_f64()),
            Self::Of(_, Statistic::Max) => summary.map(|s| s.max.as_millis_f64()),
            Self::Of(_, Statistic::Mean) => summary.map(|s| ms(s.mean)),
            Self::Of(_, Statistic::Percentile(_)) => {
                let place = self.place(question);
                place.and_then(|index| summary?.percentiles.get(index)).map(|micros| ms(*micros))
            }
        };
        value.map_or(FigureValue::None, FigureValue::Is)
    }

    /// Returns its 95 % confidence interval, if it has one.
    pub fn interval(&self, row: &Row, question: &FiguresQuery) -> Option<(f64, f64)> {
        let (counts, of) = (&row.counts, |part: u64| Share::new(part, row.counts.tests()));
        let share = match self {
            Self::Availability => of(counts.ok),
            Self::Declared(DeclaredFigure::Availability) => {
                row.excluding_declared().0.availability_interval()
            }
            Self::DeliveryRate => row.of_mails(of(counts.ok + counts.late)),
            Self::Within(limit) => {
                row.of_mails(of(limit.map_or(counts.ok, |index| row.within[index])))
            }
            Self::Mail(figure) => {
                return row.mails.as_ref().and_then(|mails| figure.interval(mails));
            }
            Self::Of(_, Statistic::Percentile(_)) => {
                let intervals = &self.distribution(row, question)?.intervals;
                let (low, high) = intervals.get(self.place(question)?).copied().flatten()?;
                return Some((low / 1000.0, high / 1000.0));
            }
            _ => None,
        }?;
        Some((share.low, share.high))
    }
}

impl std::str::FromStr for Figure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("unknown figure {text:?}");
        Ok(match text {
            "availability" => Self::Availability,
            "delivery_rate" => Self::DeliveryRate,
            "coverage" => Self::Coverage,
            "availability_by_time" => Self::AvailabilityByTime,
            "downtime" | "downtime_s" => Self::Downtime,
            "unknown" | "unknown_s" => Self::Unknown,
            "maintenance" | "maintenance_s" => Self::Maintenance,
            "outages" => Self::Outages,
            "longest_outage" | "longest_outage_s" => Self::LongestOutage,
            "mttr" | "mttr_s" => Self::Mttr,
            "mtbf" | "mtbf_s" => Self::Mtbf,
            "downtime_excluding_declared" => Self::Declared(DeclaredFigure::Downtime),
            "delivered_within_max_round_trip" => Self::Within(None),
            _ => {
                if let Some(limit) = text.strip_prefix("delivered_within_") {
                    let index = LIMITS.iter().position(|known| limit_name(*known) == limit);
                    return Ok(Self::Within(Some(index.ok_or_else(wrong)?)));
                }
                let declared = DeclaredFigure::ALL.into_iter().find(|known| known.name() == text);
                if let Some(declared) = declared {
                    return Ok(Self::Declared(declared));
                }
                let text = if text == "retry_delay" { "retry_delay_s" } else { text };
                if let Some(figure) = MailFigure::named(text) {
                    return Ok(Self::Mail(figure));
                }
                if let Some(which) = Which::named(text) {
                    return Ok(Self::Tests(which));
                }
                if let Some(asked) = text.strip_prefix("delivered_p") {
                    return Ok(Self::Delivered(percentile(asked)?));
                }
                let (metric, statistic) = text.rsplit_once('_').ok_or_else(wrong)?;
                let metric: Metric = metric.parse().map_err(|_| wrong())?;
                let statistic = match statistic {
                    "count" => Statistic::Count,
                    "min" => Statistic::Min,
                    "mean" => Statistic::Mean,
                    "max" => Statistic::Max,
                    other if other.starts_with('p') => Statistic::Percentile(percentile(other)?),
                    _ => return Err(wrong()),
                };
                Self::Of(metric, statistic)
            }
        })
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Availability => f.write_str("availability"),
            Self::DeliveryRate => f.write_str("delivery_rate"),
            Self::Coverage => f.write_str("coverage"),
            Self::AvailabilityByTime => f.write_str("availability_by_time"),
            Self::Downtime => f.write_str("downtime"),
            Self::Unknown => f.write_str("unknown"),
            Self::Maintenance => f.write_str("maintenance"),
            Self::Outages => f.write_str("outages"),
            Self::LongestOutage => f.write_str("longest_outage"),
            Self::Mttr => f.write_str("mttr"),
            Self::Mtbf => f.write_str("mtbf"),
            Self::Declared(figure) => f.write_str(figure.name()),
            Self::Tests(which) => f.write_str(which.name()),
            Self::Mail(figure) => f.write_str(figure.name()),
            Self::Within(None) => f.write_str("delivered_within_max_round_trip"),
            Self::Within(Some(limit)) => {
                write!(f, "delivered_within_{}", limit_name(LIMITS[*limit]))
            }
            Self::Delivered(asked) => write!(f, "delivered_{}", asked.name()),
            Self::Of(metric, Statistic::Count) => write!(f, "{metric}_count"),
            Self::Of(metric, Statistic::Min) => write!(f, "{metric}_min"),
            Self::Of(metric, Statistic::Mean) => write!(f, "{metric}_mean"),
            Self::Of(metric, Statistic::Max) => write!(f, "{metric}_max"),
            Self::Of(metric, Statistic::Percentile(asked)) => {
                write!(f, "{metric}_{}", asked.name())
            }
        }
    }
}

impl Figure {
    /// Returns its definition and the calculation of its value. `values` are the metric's non-null
    /// values.
    pub fn definition(&self, row: &Row, values: u64) -> (&'static str, String) {
        let (counts, time, tests) = (&row.counts, &row.time, row.counts.tests());
        let of_tests = |part: u64, what: &str| format!("{part} {what} of {tests} counted tests");
        match self {
            Self::Availability => (
                "ok / counted tests; counted are all outcomes except not_tested, outside maintenance",
                of_tests(counts.ok, "ok"),
            ),
            Self::DeliveryRate => {
                ("(ok + late) / counted tests", of_tests(counts.ok + counts.late, "ok or late"))
            }
            Self::Coverage => (
                "known time / period; time without tests for more than three test intervals is unknown",
                format!("{} unknown of {}", long(time.unknown), long(time.length)),
            ),
            Self::AvailabilityByTime => (
                "uptime / (uptime + downtime); unknown time and maintenance are excluded",
                format!("{} up, {} down", long(time.up), long(time.downtime)),
            ),
            Self::Downtime => (
                "the known parts of outages within the period; an outage lasts from the first failed test to \
                 the next ok test",
                format!("{} outages", time.outages),
            ),
            Self::Outages => (
                "number of outages that overlap the period; an outage lasts from the first failed test to the \
                 next ok test",
                of_tests(counts.failed(), "failed"),
            ),
            Self::Unknown => (
                "gaps of more than three test intervals, from the test before to the test after",
                format!("{} of {}", long(time.unknown), long(time.length)),
            ),
            Self::Maintenance => (
                "known time from each test that does not count to the next test",
                format!("{} of {}", long(time.excluded), long(time.length)),
            ),
            Self::LongestOutage => (
                "the longest known part of a single outage within the period",
                format!("the longest of {} outages", time.outages),
            ),
            Self::Tests(which) => (
                match which {
                    Which::Counted => {
                        "tests with an outcome other than not_tested, outside maintenance"
                    }
                    Which::Of(Outcome::NotTested) => {
                        "tests that the probe could not perform; they do not count"
                    }
                    Which::Of(_) => "counted tests with this outcome",
                    Which::Excluded => {
                        "tests in maintenance or with simulated failure; they do not count"
                    }
                    Which::Provisional => {
                        "counted tests whose mail may still arrive late; they count as failed until then"
                    }
                },
                String::new(),
            ),
            Self::Mttr => (
                "mean duration of ended outages, from the first failed test to the next ok test",
                format!("{} outages", time.outages),
            ),
            Self::Mtbf => (
                "uptime / number of outages",
                format!("{} up, {} outages", long(time.up), time.outages),
            ),
            Self::Declared(figure) => figure.definition(row),
            Self::Mail(figure) => {
                let none = Box::default();
                figure.definition(row.mails.as_ref().unwrap_or(&none))
            }
            Self::Within(limit) => (
                "counted tests whose mail arrived within the limit / counted tests; lost mails stay in the \
                 denominator",
                of_tests(limit.map_or(counts.ok, |index| row.within[index]), "arrived in time"),
            ),
            Self::Delivered(asked) => (
                "percentile of the round trip over all counted tests, counting undelivered mail as slower than \
                 any delivered mail",
                ranks(tests as usize, asked),
            ),
            Self::Of(_, Statistic::Count) => ("non-null values of counted tests", String::new()),
            Self::Of(_, Statistic::Min) => {
                ("minimum of the non-null values of counted tests", format!("minimum of {values}"))
            }
            Self::Of(_, Statistic::Max) => {
                ("maximum of the non-null values of counted tests", format!("maximum of {values}"))
            }
            Self::Of(_, Statistic::Mean) => (
                "arithmetic mean of the non-null values of counted tests",
                format!("sum of {values} values / {values}"),
            ),
            Self::Of(_, Statistic::Percentile(asked)) => (
                "exact percentile of the non-null values of counted tests, with linear interpolation between \
                 closest ranks, (n − 1)·q",
                ranks(values as usize, asked),
            ),
        }
    }
}

fn ranks(n: usize, asked: &RequestedPercentile) -> String {
    if n == 0 {
        return "no values".to_owned();
    }
    let q = asked.q();
    let (low, fraction) = needed_ranks(n, q);
    if fraction > 0.0 {
        format!(
            "({n} − 1)·{q} = {:.4}: between the {} and {} of {n} in ascending order",
            low as f64 + fraction,
            ordinal(low + 1),
            ordinal(low + 2)
        )
    } else {
        format!("({n} − 1)·{q} = {low}: the {} of {n} in ascending order", ordinal(low + 1))
    }
}

/// Formats an ordinal: `1st`, `2nd`, `11th`.
fn ordinal(number: usize) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_english() {
        let shown = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 1_003].map(ordinal);
        let right = [
            "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th", "1003rd",
        ];
        assert_eq!(shown, right);
    }

    #[test]
    fn each_figure_is_found_by_its_displayed_name() {
        let limits = LIMITS.map(|limit| format!("delivered_within_{}", limit_name(limit)));
        let others = "availability delivery_rate coverage availability_by_time downtime unknown maintenance outages longest_outage mttr \
                      mtbf tests ok not_tested excluded provisional delivered_within_max_round_trip delivered_p99.9 round_trip_count \
                      smtp_send_p95 inbox_placement dkim_pass_rate spam_score_p95 retry_delay_s bounced";
        for name in others.split_whitespace().chain(limits.iter().map(String::as_str)) {
            assert_eq!(
                name.parse::<Figure>().map(|figure| figure.to_string()),
                Ok(name.to_owned())
            );
        }
        assert!("delivered_within_11s".parse::<Figure>().is_err());
    }
}
