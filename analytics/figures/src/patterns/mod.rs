//! What the samples have in common: lasting changes, habits of the week and the day, days that
//! stand out, what rises together, where on the way the time is spent, and what failures have in
//! common.
//!
//! Every question that is asked yields a p-value, also where the answer is no; all of them together
//! are corrected for their number (Holm). What is left stands out more than chance would let
//! anything stand out in one of twenty runs. And a difference that is certain but small is not
//! worth a sentence.

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

/// Days that a question about days needs.
const DAYS: usize = 14;
/// Days that a question about weekdays needs: three weeks.
const WEEKS: usize = 21;
/// Values that a day or an hour needs to have a median.
const FEW: usize = 3;
/// A change or difference of less than this share of the level is not worth a sentence.
const WORTH: f64 = 0.05;
/// A correlation weaker than this explains next to nothing.
const LOOSE: f64 = 0.3;
/// Failures of fewer events have nothing in common that could be told from chance.
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
    /// What was found.
    pub pattern: Pattern,
    /// How many questions were asked in all.
    pub questions: usize,
    /// The chance that anything as clear as this comes up by chance, after all questions that were
    /// asked.
    pub p: f64,
}

/// What can be found. Times are in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// A steady change.
    Trend {
        /// Of which metric.
        metric: Metric,
        /// A day.
        per_day: f64,
        /// Its 95 % confidence interval.
        interval: (f64, f64),
        /// The level at the first day.
        from: f64,
        /// The level at the last.
        to: f64,
        /// Days with values.
        days: usize,
    },
    /// A lasting shift.
    Shift {
        /// Of which metric.
        metric: Metric,
        /// The first day of the new level.
        at: UtcMicros,
        /// Median of the days before, since the shift before that.
        before: f64,
        /// Median of the days after, until the next shift.
        after: f64,
    },
    /// A weekday that differs from the others.
    Weekday {
        /// Of which metric.
        metric: Metric,
        /// Which: 1 for Monday to 7 for Sunday.
        day: i8,
        /// Its median.
        value: f64,
        /// The median of the other days.
        others: f64,
    },
    /// Hours that differ from the others.
    Hours {
        /// Of which metric.
        metric: Metric,
        /// The slowest hour of the day.
        slowest: u8,
        /// Its median.
        slow: f64,
        /// The fastest.
        fastest: u8,
        /// Its median.
        fast: f64,
    },
    /// A day unlike what its weekday and the level of the time let expect.
    Day {
        /// Of which metric.
        metric: Metric,
        /// When the day began.
        at: UtcMicros,
        /// Its median.
        value: f64,
        /// What was to be expected.
        expected: f64,
    },
    /// Two metrics that rise and fall together, by the hour.
    Correlation {
        /// The one.
        metric: Metric,
        /// The other.
        with: Metric,
        /// Spearman's coefficient.
        rho: f64,
        /// Hours.
        hours: usize,
    },
    /// The station of the way at which most of the time is spent.
    Hop {
        /// The server that wrote the stamp.
        by: Arc<str>,
        /// In how many mails it was the longest.
        longest: Share,
        /// Its median delay.
        delay: f64,
        /// Median of all delays of a mail together.
        way: f64,
    },
    /// The hour in which failures begin.
    FailureHour {
        /// From this hour to the next.
        hour: u8,
        /// How many began in it.
        events: u64,
        /// How many there were.
        of: u64,
        /// The share of the tests that lie in it.
        tests: f64,
    },
    /// The weekday on which failures begin.
    FailureWeekday {
        /// Which: 1 for Monday to 7 for Sunday.
        day: i8,
        /// How many began on it.
        events: u64,
        /// How many there were.
        of: u64,
        /// The share of the tests that lie on it.
        tests: f64,
    },
    /// How or where most failures happened.
    FailureKind {
        /// What became of the first test.
        outcome: Outcome,
        /// Where it failed.
        stage: Option<Stage>,
        /// How many, of how many.
        share: Share,
    },
    /// What the server replied when tests failed, and does not otherwise.
    FailureReply {
        /// The SMTP reply code.
        code: i32,
        /// How many, of how many.
        share: Share,
        /// The share of good tests that had it.
        good: f64,
    },
    /// A metric that is different while tests fail.
    FailureMetric {
        /// Which.
        metric: Metric,
        /// Median during failures.
        during: f64,
        /// Median of good tests.
        good: f64,
        /// How many failures.
        events: u64,
    },
}

impl Pattern {
    /// Its kind, in data.
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

    /// Whether it is about a change over time rather than a habit.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Trend { .. } | Self::Shift { .. })
    }

    /// The metric that it is about, if any.
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

    /// By how much it differs: a factor's logarithm, or a share; to sort by.
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

/// A question that was asked: how likely its answer is by chance, and what it says.
#[derive(Debug)]
struct TestedPattern {
    p: f64,
    /// Several where one question has several answers, such as all shifts of a metric.
    says: Vec<Pattern>,
}

/// What was asked of one series.
#[derive(Debug)]
pub struct Answers {
    site: Arc<str>,
    monitor: Arc<str>,
    asked: Vec<TestedPattern>,
}

/// All that stands out, the clearest first: changes before habits before failures of each monitor.
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

/// Asks one series, of its samples in the period.
///
/// It needs the six metrics of the contracts; stages, reply codes and hops are used where they were
/// read.
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

/// Whether two levels differ enough for a sentence.
fn worth(a: f64, b: f64) -> bool {
    a > 0.0 && b > 0.0 && (a / b).ln().abs() >= (1.0 + WORTH).ln()
}

/// The shifts of a metric in a period, by themselves: for the chart of one monitor.
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
