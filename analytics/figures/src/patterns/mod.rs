//! Patterns in the samples: lasting changes, weekly and daily patterns, days that stand out,
//! correlated metrics, where in the delivery path the time is spent, and what failures have in
//! common.
//!
//! Every hypothesis yields a p-value, even if nothing is found; all of them together are corrected
//! for their number (Holm). By chance alone, at most one of twenty runs has any finding. And a
//! difference that is significant but small is not reported.

mod failures;
mod hops;
mod hourly;
mod levels;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mailqos_lake_tables::{Metric, Series};
use mailqos_model::{Outcome, Stage, UtcMicros};

use super::{
    availability::Share,
    periods::Period,
    significance::{self, LEVEL},
};

/// Days needed for hypotheses about days.
const DAYS: usize = 14;
/// Days needed for hypotheses about weekdays: three weeks.
const WEEKS: usize = 21;
/// Values that a day or an hour needs to have a median.
const FEW: usize = 3;
/// A change or difference of less than this share of the level is not reported.
const WORTH: f64 = 0.05;
/// A correlation weaker than this explains next to nothing.
const LOOSE: f64 = 0.3;
/// With fewer events, what failures have in common can't be distinguished from chance.
const EVENTS: u64 = 5;

use failures::failures;
use hops::hop;
use hourly::Hourly;
use levels::levels;

/// A finding.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternFinding {
    /// The site.
    pub site: Arc<str>,
    /// The monitor.
    pub monitor: Arc<str>,
    /// The pattern.
    pub pattern: Pattern,
    /// Number of hypotheses tested in all.
    pub questions: usize,
    /// The p-value, corrected for all tested hypotheses.
    pub p: f64,
}

/// Patterns that can be found. Times are in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// A steady change.
    Trend {
        /// The metric.
        metric: Metric,
        /// Change per day.
        per_day: f64,
        /// Its 95 % confidence interval.
        interval: (f64, f64),
        /// Level on the first day.
        from: f64,
        /// Level on the last day.
        to: f64,
        /// Days with values.
        days: usize,
    },
    /// A lasting shift.
    Shift {
        /// The metric.
        metric: Metric,
        /// The first day of the new level.
        at: UtcMicros,
        /// Median of the days before it, since the previous shift.
        before: f64,
        /// Median of the days after it, until the next shift.
        after: f64,
    },
    /// A weekday that differs from the others.
    Weekday {
        /// The metric.
        metric: Metric,
        /// The weekday: 1 for Monday to 7 for Sunday.
        day: i8,
        /// Its median.
        value: f64,
        /// The median of the other days.
        others: f64,
    },
    /// Hours that differ from the others.
    Hours {
        /// The metric.
        metric: Metric,
        /// The slowest hour of the day.
        slowest: u8,
        /// Its median.
        slow: f64,
        /// The fastest hour of the day.
        fastest: u8,
        /// Its median.
        fast: f64,
    },
    /// A day that differs from what its weekday and the current level suggest.
    Day {
        /// The metric.
        metric: Metric,
        /// When the day began.
        at: UtcMicros,
        /// Its median.
        value: f64,
        /// The expected value.
        expected: f64,
    },
    /// Two metrics that rise and fall together, by the hour.
    Correlation {
        /// One metric.
        metric: Metric,
        /// The other metric.
        with: Metric,
        /// Spearman's coefficient.
        rho: f64,
        /// Number of hours.
        hours: usize,
    },
    /// The hop where most of the time is spent.
    Hop {
        /// The server that wrote the timestamp.
        by: Arc<str>,
        /// Share of mails in which it was the longest.
        longest: Share,
        /// Its median delay.
        delay: f64,
        /// Median time of all hops of a mail together.
        way: f64,
    },
    /// The hour in which failures begin.
    FailureHour {
        /// Start of the hour.
        hour: u8,
        /// Number of events that began in it.
        events: u64,
        /// Number of all events.
        of: u64,
        /// Share of the tests in this hour.
        tests: f64,
    },
    /// The weekday on which failures begin.
    FailureWeekday {
        /// The weekday: 1 for Monday to 7 for Sunday.
        day: i8,
        /// Number of events that began on it.
        events: u64,
        /// Number of all events.
        of: u64,
        /// Share of the tests on this weekday.
        tests: f64,
    },
    /// Outcome or stage of most failures.
    FailureKind {
        /// Outcome of the first test.
        outcome: Outcome,
        /// Where it failed.
        stage: Option<Stage>,
        /// Share of the events.
        share: Share,
    },
    /// A reply of the server that occurs when tests fail and not otherwise.
    FailureReply {
        /// The SMTP reply code.
        code: i32,
        /// Share of the events.
        share: Share,
        /// Share of good tests with this reply.
        good: f64,
    },
    /// A metric that is different while tests fail.
    FailureMetric {
        /// The metric.
        metric: Metric,
        /// Median during failures.
        during: f64,
        /// Median of good tests.
        good: f64,
        /// Number of failures.
        events: u64,
    },
}

impl Pattern {
    /// Returns its kind, as used in data.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trend { .. } => "trend",
            Self::Shift { .. } => "shift",
            Self::Weekday { .. } => "weekday",
            Self::Hours { .. } => "hours",
            Self::Day { .. } => "day",
            Self::Correlation { .. } => "correlation",
            Self::Hop { .. } => "hop",
            Self::FailureHour { .. } => "failure_hour",
            Self::FailureWeekday { .. } => "failure_weekday",
            Self::FailureKind { .. } => "failure_kind",
            Self::FailureReply { .. } => "failure_reply",
            Self::FailureMetric { .. } => "failure_metric",
        }
    }

    /// Returns whether it is a change over time rather than a recurring pattern.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Trend { .. } | Self::Shift { .. })
    }

    /// Returns its metric, if any.
    pub fn metric(&self) -> Option<Metric> {
        match self {
            Self::Trend { metric, .. }
            | Self::Shift { metric, .. }
            | Self::Weekday { metric, .. }
            | Self::Hours { metric, .. }
            | Self::Day { metric, .. }
            | Self::Correlation { metric, .. }
            | Self::FailureMetric { metric, .. } => Some(*metric),
            _ => None,
        }
    }

    /// Returns the size of the effect, for sorting: the logarithm of a factor, or a share.
    pub fn effect(&self) -> f64 {
        let factor = |a: f64, b: f64| (a / b).ln().abs();
        let effect = match self {
            Self::Trend { from, to, .. } => factor(*to, *from),
            Self::Shift { before, after, .. } => factor(*after, *before),
            Self::Weekday { value, others, .. } => factor(*value, *others),
            Self::Hours { slow, fast, .. } => factor(*slow, *fast),
            Self::Day { value, expected, .. } => factor(*value, *expected),
            Self::Correlation { rho, .. } => rho.abs(),
            Self::Hop { longest, .. } => longest.value,
            Self::FailureHour { events, of, .. } | Self::FailureWeekday { events, of, .. } => {
                *events as f64 / *of as f64
            }
            Self::FailureKind { share, .. } | Self::FailureReply { share, .. } => share.value,
            Self::FailureMetric { during, good, .. } => factor(*during, *good),
        };
        if effect.is_finite() { effect } else { 0.0 }
    }
}

/// A tested hypothesis: its p-value and the resulting patterns.
#[derive(Debug)]
struct TestedPattern {
    p: f64,
    /// Several if one hypothesis has several results, such as all shifts of a metric.
    says: Vec<Pattern>,
}

/// Results of the hypotheses about one series.
#[derive(Debug)]
pub struct Answers {
    site: Arc<str>,
    monitor: Arc<str>,
    asked: Vec<TestedPattern>,
}

/// Returns all significant patterns, the clearest first: for each monitor changes, then recurring
/// patterns, then failures.
pub fn find(answers: Vec<Answers>) -> Vec<PatternFinding> {
    let values: Vec<f64> =
        answers.iter().flat_map(|answers| answers.asked.iter().map(|asked| asked.p)).collect();
    let questions = values.len();
    let mut adjusted = significance::holm(&values).into_iter();
    let mut found = Vec::new();
    for answers in answers {
        for asked in answers.asked {
            let p = adjusted.next().unwrap_or(1.0);
            if p > LEVEL {
                continue;
            }
            found.extend(asked.says.into_iter().map(|pattern| PatternFinding {
                site: Arc::clone(&answers.site),
                monitor: Arc::clone(&answers.monitor),
                pattern,
                questions,
                p,
            }));
        }
    }
    found
}

/// Tests all hypotheses about one series with its samples in the period.
///
/// It needs the six metrics of `stats`; stages, reply codes and hops are used if they were read.
pub fn ask(series: &Series, period: &Period) -> Answers {
    let mut asked = Vec::new();
    let counting = series.counting();
    let hours = Hourly::of(series, period, &counting);
    for metric in Metric::CONTRACT {
        levels(series, period, metric, &counting, &mut asked);
        hours.habit(metric, &mut asked);
    }
    for with in &Metric::CONTRACT[1..] {
        hours.correlation(*with, &mut asked);
    }
    hop(series, &mut asked);
    failures(series, period, &hours, &mut asked);
    Answers { site: Arc::clone(&series.site), monitor: Arc::clone(&series.monitor), asked }
}

/// Returns whether two levels differ enough to be reported.
fn worth(a: f64, b: f64) -> bool {
    a > 0.0 && b > 0.0 && (a / b).ln().abs() >= (1.0 + WORTH).ln()
}

/// Returns only the shifts of a metric in a period, for the chart of one monitor.
pub fn shifts(
    found: &[PatternFinding],
    (site, monitor): (&str, &str),
    metric: Metric,
) -> Vec<(UtcMicros, f64, f64)> {
    found
        .iter()
        .filter(|found| *found.site == *site && *found.monitor == *monitor)
        .filter_map(|found| match &found.pattern {
            Pattern::Shift { metric: of, at, before, after } if *of == metric => {
                Some((*at, *before, *after))
            }
            _ => None,
        })
        .collect()
}
