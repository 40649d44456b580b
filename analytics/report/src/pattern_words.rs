//! Sentences about changes and recurring patterns, with their figures and significance.

use mailqos_charts::ChartLocale;
use mailqos_figures::{
    Share,
    patterns::{Pattern, PatternFinding},
};
use mailqos_lake_tables::Metric;
use mailqos_model::{Outcome, Stage, UtcMicros};

use super::{
    findings::{outcome_word, stage_word},
    locale::Locale,
    sections::metric_name,
};

/// Returns the sentence, without the name of the monitor and the significance.
pub fn sentence(pattern: &Pattern, l: &Locale) -> String {
    match pattern {
        Pattern::Trend { metric, per_day, interval, from, to, days } => {
            trend(*metric, (*per_day, *interval), (*from, *to), *days, l)
        }
        Pattern::Shift { metric, at, before, after } => shift(*metric, *at, (*before, *after), l),
        Pattern::Weekday { metric, day, value, others } => {
            weekday(*metric, *day, (*value, *others), l)
        }
        Pattern::Hours { metric, slowest, slow, fastest, fast } => {
            hours(*metric, (*slowest, *slow), (*fastest, *fast), l)
        }
        Pattern::Day { metric, at, value, expected } => l.fill(
            "{0} stood out on {1}: {2} instead of the expected {3}.",
            &[metric_name(*metric, l), &l.day(*at), &l.duration(*value), &l.duration(*expected)],
        ),
        Pattern::Correlation { metric, with, rho, hours } => {
            correlation((*metric, *with), *rho, *hours, l)
        }
        Pattern::Hop { by, longest, delay, way } => slowest_hop(by, *longest, (*delay, *way), l),
        Pattern::FailureHour { hour: at, events, of, tests } => {
            failure_hour(*at, (*events, *of), *tests, l)
        }
        Pattern::FailureWeekday { day, events, of, tests } => {
            failure_weekday(*day, (*events, *of), *tests, l)
        }
        Pattern::FailureKind { outcome, stage, share } => failure_kind(*outcome, *stage, *share, l),
        Pattern::FailureReply { code, share, good } => failure_reply(*code, *share, *good, l),
        Pattern::FailureMetric { metric, during, good, events } => {
            failure_metric(*metric, (*during, *good), *events, l)
        }
    }
}

/// Returns by how much one value differs from another: `20 %`.
fn difference(a: f64, b: f64, l: &Locale) -> String {
    (l as &dyn ChartLocale).percent((a / b - 1.0).abs() * 100.0, 0)
}

/// Returns a steady change per day with its interval, from one value to another over some days.
fn trend(
    metric: Metric,
    (per_day, interval): (f64, (f64, f64)),
    (from, to): (f64, f64),
    days: usize,
    l: &Locale,
) -> String {
    let text = if per_day > 0.0 {
        "{0} rose steadily by {1} per day ({2} to {3}): from {4} to {5} over {6} days, an increase of {7}."
    } else {
        "{0} fell steadily by {1} per day ({2} to {3}): from {4} to {5} over {6} days, a decrease of {7}."
    };
    let (low, high) = if per_day > 0.0 { interval } else { (-interval.1, -interval.0) };
    l.fill(
        text,
        &[
            metric_name(metric, l),
            &l.duration(per_day.abs()),
            &l.duration(low),
            &l.duration(high),
            &l.duration(from),
            &l.duration(to),
            &l.integer(days as u64),
            &difference(to, from, l),
        ],
    )
}

/// Returns a lasting change on a day.
fn shift(metric: Metric, at: UtcMicros, (before, after): (f64, f64), l: &Locale) -> String {
    let text = if after > before {
        "{0} rose by {4} on {1}, from {2} to {3}, and stayed there."
    } else {
        "{0} fell by {4} on {1}, from {2} to {3}, and stayed there."
    };
    l.fill(
        text,
        &[
            metric_name(metric, l),
            &l.day(at),
            &l.duration(before),
            &l.duration(after),
            &difference(after, before, l),
        ],
    )
}

/// Returns a weekday that differs from the others.
fn weekday(metric: Metric, day: i8, (value, others): (f64, f64), l: &Locale) -> String {
    let text = if value > others {
        "{0} is longest on {1}: {2}, {4} more than on other days ({3})."
    } else {
        "{0} is shortest on {1}: {2}, {4} less than on other days ({3})."
    };
    l.fill(
        text,
        &[
            metric_name(metric, l),
            l.recurring_weekday(day),
            &l.duration(value),
            &l.duration(others),
            &difference(value, others, l),
        ],
    )
}

/// Returns the hours with the longest and the shortest value.
fn hours(
    metric: Metric,
    (slowest, slow): (u8, f64),
    (fastest, fast): (u8, f64),
    l: &Locale,
) -> String {
    l.fill(
        "{0} varies with the time of day: longest from {1} ({2}), shortest from {3} ({4}).",
        &[
            metric_name(metric, l),
            &hour(slowest, l),
            &l.duration(slow),
            &hour(fastest, l),
            &l.duration(fast),
        ],
    )
}

/// Two metrics that change together, and the likely cause.
fn correlation((metric, with): (Metric, Metric), rho: f64, hours: usize, l: &Locale) -> String {
    let text = if rho > 0.0 {
        "{0} and {1} rise and fall together (rank correlation {2} over {3} hours): {4}."
    } else {
        "When {1} rises, {0} falls (rank correlation {2} over {3} hours): {4}."
    };
    let suspect = l.t(match with {
        _ if rho <= 0.0 => "one improves at the expense of the other",
        Metric::PickupLogin | Metric::PickupReceive => {
            "suspect the mailbox's storage or directory service"
        }
        Metric::PickupConnect => "suspect the mailbox server or the network to it",
        Metric::SmtpConnect => "suspect the SMTP server or the network to it",
        _ => "suspect the server that accepts the mail",
    });
    l.fill(
        text,
        &[
            metric_name(metric, l),
            metric_name(with, l),
            &l.number(rho, 2),
            &l.integer(hours as u64),
            suspect,
        ],
    )
}

/// Returns the server at which mails wait longest.
fn slowest_hop(by: &str, longest: Share, (delay, transit): (f64, f64), l: &Locale) -> String {
    l.fill(
        "Mail waits longest at {0}: it was the slowest hop for {1} of {2} mails with hop times, with a median of {3} out of {4} in transit.",
        &[
            by,
            &l.share(longest.part, longest.whole),
            &l.integer(longest.whole),
            &l.duration(delay),
            &l.duration(transit),
        ],
    )
}

/// Returns the hour in which many of the failures began.
fn failure_hour(at: u8, (events, of): (u64, u64), tests: f64, l: &Locale) -> String {
    l.fill(
        "{0} of {1} failures began between {2} and {3}, when {4} of the tests took place.",
        &[
            &l.integer(events),
            &l.integer(of),
            &hour(at, l),
            &hour((at + 1) % 24, l),
            &l.percent(tests, 1),
        ],
    )
}

/// Returns the weekday on which many of the failures began.
fn failure_weekday(day: i8, (events, of): (u64, u64), tests: f64, l: &Locale) -> String {
    l.fill(
        "{0} of {1} failures began on {2}, when {3} of the tests took place.",
        &[&l.integer(events), &l.integer(of), l.recurring_weekday(day), &l.percent(tests, 0)],
    )
}

/// Returns the kind of most failures.
fn failure_kind(outcome: Outcome, stage: Option<Stage>, share: Share, l: &Locale) -> String {
    let kind = match stage {
        Some(stage) => format!("{} ({})", outcome_word(outcome, l), stage_word(stage, l)),
        None => outcome_word(outcome, l).to_owned(),
    };
    l.fill(
        "Most failures were of the same kind: {0}, {1} of {2} ({3} to {4}).",
        &[
            &kind,
            &l.integer(share.part),
            &l.integer(share.whole),
            &l.percent(share.low, 0),
            &l.percent(share.high, 0),
        ],
    )
}

/// Returns the reply code of many failures, and its share among successful tests.
fn failure_reply(code: i32, share: Share, good: f64, l: &Locale) -> String {
    let good = if good > 0.0 { l.percent(good, 1) } else { l.t("none").to_owned() };
    l.fill(
        "In {0} of {1} failures, the SMTP server replied {2}; among successful tests, {3} did.",
        &[&l.integer(share.part), &l.integer(share.whole), &code.to_string(), &good],
    )
}

/// Returns a metric that differs while tests fail.
fn failure_metric(metric: Metric, (during, good): (f64, f64), events: u64, l: &Locale) -> String {
    let text = if during > good {
        "{0} was longer while tests failed: {1}, compared with {2} otherwise ({3} failures)."
    } else {
        "{0} was shorter while tests failed: {1}, compared with {2} otherwise ({3} failures)."
    };
    l.fill(
        text,
        &[metric_name(metric, l), &l.duration(during), &l.duration(good), &l.integer(events)],
    )
}

/// Returns the significance of a finding: `p < 0.001`.
pub fn strength(p: f64, l: &Locale) -> String {
    if p < 0.001 {
        format!("p\u{a0}<\u{a0}{}", l.number(0.001, 3))
    } else {
        format!("p\u{a0}=\u{a0}{}", l.number(p, 3))
    }
}

/// Returns the name of the statistical test behind a finding.
pub fn test(pattern: &Pattern, l: &Locale) -> &'static str {
    l.t(match pattern {
        Pattern::Trend { .. } => "Mann–Kendall",
        Pattern::Shift { .. } => "Pettitt",
        Pattern::Hours { .. } => "Kruskal–Wallis",
        Pattern::Day { .. } => "robust outlier test",
        Pattern::Correlation { .. } => "Spearman",
        Pattern::Hop { .. } => "sign test",
        Pattern::FailureHour { .. }
        | Pattern::FailureWeekday { .. }
        | Pattern::FailureKind { .. } => "binomial test",
        Pattern::FailureReply { .. } => "Fisher",
        Pattern::Weekday { .. } | Pattern::FailureMetric { .. } => "Mann–Whitney",
    })
}

fn hour(hour: u8, l: &Locale) -> String {
    let time = jiff::civil::time(i8::try_from(hour % 24).unwrap_or_default(), 0, 0, 0);
    (l as &dyn ChartLocale).clock(time, false)
}

/// Sorts findings for display: for each monitor changes, then recurring patterns, then failures;
/// within a kind, the largest effect first.
pub fn told<'a>(found: impl Iterator<Item = &'a PatternFinding>) -> Vec<&'a PatternFinding> {
    let rank = |pattern: &Pattern| match pattern {
        Pattern::Shift { .. } => 0,
        Pattern::Trend { .. } => 1,
        Pattern::FailureKind { .. } => 2,
        Pattern::FailureReply { .. } => 3,
        Pattern::FailureMetric { .. } => 4,
        Pattern::FailureHour { .. } | Pattern::FailureWeekday { .. } => 5,
        Pattern::Correlation { .. } => 6,
        Pattern::Hop { .. } => 7,
        Pattern::Hours { .. } => 8,
        Pattern::Weekday { .. } => 9,
        Pattern::Day { .. } => 10,
    };
    let when = |pattern: &Pattern| match pattern {
        Pattern::Shift { at, .. } | Pattern::Day { at, .. } => *at,
        _ => UtcMicros(0),
    };
    let mut told: Vec<&PatternFinding> = found.collect();
    told.sort_by(|a, b| {
        (&a.monitor, &a.site, rank(&a.pattern))
            .cmp(&(&b.monitor, &b.site, rank(&b.pattern)))
            .then(a.pattern.metric().cmp(&b.pattern.metric()))
            .then(when(&a.pattern).cmp(&when(&b.pattern)))
            .then(b.pattern.effect().total_cmp(&a.pattern.effect()))
    });
    told
}
