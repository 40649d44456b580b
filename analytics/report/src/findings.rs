//! Findings in sentences: the headline and the most important facts.

use std::collections::BTreeMap;

use mailqos_figures::{Counts, Outage, Packed, percentiles};
use mailqos_lake_tables::Metric;
use mailqos_model::{Micros, Stage, UtcMicros};

use super::{
    facts::Monitor,
    locale::{DASH, Locale, is_nothing},
};

/// Minimum number of mails for percentiles.
const ENOUGH: usize = 20;

/// Combined figures of several monitors.
#[derive(Debug)]
pub struct CombinedFigures {
    /// Counted tests.
    pub counts: Counts,
    /// Counted tests of this and the previous period; `None` unless both are known for all tested
    /// monitors.
    pub compared: Option<Compared>,
    /// Number of outages in the period.
    pub outages: usize,
    /// Total downtime of all monitors in the period.
    pub downtime: Micros,
    /// Total downtime in the previous period; `None` unless it is known for all monitors.
    pub downtime_before: Option<Micros>,
    /// Known time divided by the period, over all monitors; `None` without monitors.
    pub coverage: Option<f64>,
}

/// Counted tests of the same monitors in two periods; new monitors would distort the change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compared {
    /// Counted tests of the period.
    pub now: Counts,
    /// Counted tests of the previous period.
    pub before: Counts,
}

impl Compared {
    /// Returns the change in availability; `None` without counted tests.
    pub fn change(&self) -> Option<f64> {
        Some(self.now.availability()? - self.before.availability()?)
    }

    /// Returns whether the change is statistically significant.
    pub fn is_certain(&self) -> bool {
        self.now
            .availability_interval()
            .zip(self.before.availability_interval())
            .is_some_and(|(now, before)| now.low > before.high || now.high < before.low)
    }
}

impl CombinedFigures {
    /// Computes the combined figures of these monitors.
    pub fn of(monitors: &[&Monitor]) -> Self {
        let mut counts = Counts::default();
        let mut compared: Option<Compared> = None;
        let (mut known, mut whole) = (0_i128, 0_i128);
        let mut downtime = Micros::ZERO;
        for monitor in monitors {
            counts.add(&monitor.counts);
            if let Some(earlier) = monitor.before.as_ref().filter(|_| monitor.counts.tests() > 0) {
                let compared = compared.get_or_insert_default();
                compared.now.add(&monitor.counts);
                compared.before.add(&earlier.counts);
            }
            downtime = downtime + monitor.timeline.downtime;
            known += i128::from((monitor.timeline.period - monitor.timeline.unknown).0);
            whole += i128::from(monitor.timeline.period.0);
        }
        Self {
            outages: monitors.iter().map(|monitor| monitor.timeline.outages.len()).sum(),
            coverage: (whole > 0).then(|| known as f64 / whole as f64),
            // The change of some monitors next to the figure for all would be misread as the change
            // of all.
            compared: compared.filter(|compared| compared.now.tests() == counts.tests()),
            counts,
            downtime,
            downtime_before: downtime_before(monitors),
        }
    }
}

fn downtime_before(monitors: &[&Monitor]) -> Option<Micros> {
    let times = monitors.iter().map(|monitor| Some(monitor.before.as_ref()?.downtime));
    let times: Vec<Micros> = times.collect::<Option<_>>()?;
    times.into_iter().reduce(|sum, time| sum + time)
}

/// Returns p50, p90, p95 and p99 of the round trip over these monitors, in microseconds.
pub fn round_trip(monitors: &[&Monitor]) -> Option<[f64; 4]> {
    if let [only] = monitors {
        return only.round_trip;
    }
    let trips = monitors.iter().map(|monitor| monitor.digest.values(Metric::RoundTrip));
    Packed::percentiles(trips, &percentiles::CONTRACT).try_into().ok()
}

/// Returns the main finding in one sentence, or one sentence per kind of monitor.
pub fn headline(monitors: &[&Monitor], locale: &Locale) -> String {
    let mut kinds: BTreeMap<Option<&str>, Vec<&Monitor>> = BTreeMap::new();
    for monitor in monitors {
        kinds.entry(monitor.kind.as_deref()).or_default().push(monitor);
    }
    if kinds.len() < 2 {
        return headline_of_kind(monitors, locale);
    }
    let of_kind = kinds.values().map(|monitors| headline_of_kind(monitors, locale));
    of_kind.collect::<Vec<_>>().join(". ")
}

/// Returns the main finding on the tests of one kind.
fn headline_of_kind(monitors: &[&Monitor], locale: &Locale) -> String {
    let together = CombinedFigures::of(monitors);
    let counts = &together.counts;
    if monitors.is_empty() {
        return locale.t("No samples for this period").to_owned();
    }
    if counts.tests() == 0 {
        return locale.t("No counted tests in this period: mail quality is unknown").to_owned();
    }
    if counts.tests() == 1 {
        let text = if counts.ok == 1 {
            "The only test of the period succeeded"
        } else {
            "The only test of the period failed"
        };
        return locale.t(text).to_owned();
    }
    let share = locale.share_text(counts.ok, counts.tests());
    let tests = locale.integer(counts.tests());
    let has_mails = monitors.iter().any(|monitor| monitor.has_mails());
    let main = match common_limit(monitors) {
        _ if !has_mails && counts.failed() == 0 => locale.fill(
            if counts.tests() == 2 {
                "The mailbox could be opened in both tests"
            } else {
                "The mailbox could be opened in all {0} tests"
            },
            &[&tests],
        ),
        _ if !has_mails && counts.ok == 0 => {
            locale.fill("The mailbox could not be opened in any of {0} tests", &[&tests])
        }
        _ if !has_mails => {
            locale.fill("The mailbox could be opened in {0} of {1} tests", &[&share, &tests])
        }
        Some(limit) => {
            let limit = locale.span(limit);
            if counts.failed() == 0 {
                locale.fill(
                    if counts.tests() == 2 {
                        "Mail was delivered within {0} in both tests"
                    } else {
                        "Mail was delivered within {0} in all {1} tests"
                    },
                    &[&limit, &tests],
                )
            } else if counts.ok == 0 {
                locale.fill("Mail was delivered within {0} in none of {1} tests", &[&limit, &tests])
            } else {
                locale.fill(
                    "Mail was delivered within {0} in {1} of {2} tests",
                    &[&limit, &share, &tests],
                )
            }
        }
        _ if counts.failed() == 0 => locale.fill(
            if counts.tests() == 2 {
                "Mail was delivered on time in both tests"
            } else {
                "Mail was delivered on time in all {0} tests"
            },
            &[&tests],
        ),
        _ if counts.ok == 0 => {
            locale.fill("Mail was delivered on time in none of {0} tests", &[&tests])
        }
        _ => locale.fill("Mail was delivered on time in {0} of {1} tests", &[&share, &tests]),
    };
    // If a mailbox could not be read, it is unknown whether mails arrived.
    if has_mails
        && counts.ok == 0
        && counts.late == 0
        && counts.pickup_failed == 0
        && counts.provisional == 0
    {
        return main + locale.t("; no arrival was observed");
    }
    let Some((monitor, outage)) = worst_outage(monitors) else {
        return if counts.failed() == 0 {
            main
        } else {
            format!("{main}{}", locale.t("; no outage lasted longer than one test"))
        };
    };
    let rest = if together.outages == 1 {
        locale
            .fill("; the only outage lasted {1} ({0})", &[&monitor.name, &span_of(outage, locale)])
    } else {
        locale.fill(
            "; the longest outage lasted {0} ({1})",
            &[&span_of(outage, locale), &monitor.name],
        )
    };
    main + &rest
}

/// Returns the maximum round trip if it was the same for all counted tests of all monitors.
fn common_limit(monitors: &[&Monitor]) -> Option<Micros> {
    let tested = monitors.iter().filter(|monitor| monitor.counts.tests() > 0);
    let mut limits = tested.map(|monitor| monitor.limit);
    let first = limits.next()??;
    limits.all(|limit| limit == Some(first)).then_some(first)
}

/// Returns the outage with the longest downtime among those of more than one failed test.
fn worst_outage<'a>(monitors: &[&'a Monitor]) -> Option<(&'a Monitor, &'a Outage)> {
    monitors
        .iter()
        .flat_map(|monitor| monitor.timeline.outages.iter().map(|outage| (*monitor, outage)))
        .filter(|(_, outage)| outage.failed_tests > 1)
        .max_by_key(|(_, outage)| outage.downtime)
}

/// Returns the duration of an outage within the period; `at least …` if its end is unknown.
pub fn span_of(outage: &Outage, locale: &Locale) -> String {
    if outage.to.is_some() {
        locale.about(outage.downtime)
    } else {
        locale.fill("at least {0}", &[&locale.about(outage.downtime)])
    }
}

/// A finding in a sentence, with the subject of its sparkline.
#[derive(Debug)]
pub struct Sentence<'a> {
    /// Text of the sentence.
    pub text: String,
    /// Subject of the sparkline; `None` if a chart would add nothing.
    pub about: Option<About<'a>>,
}

/// Subject of a sparkline.
#[derive(Debug)]
pub enum About<'a> {
    /// Combined availability of monitors, and an optional time to mark.
    Availability(Vec<&'a Monitor>, Option<UtcMicros>),
    /// A percentile of a monitor's round trip.
    RoundTrip(&'a Monitor, f64),
}

impl<'a> Sentence<'a> {
    fn plain(text: String) -> Self {
        Self { text, about: None }
    }

    fn about(text: String, about: About<'a>) -> Self {
        Self { text, about: Some(about) }
    }
}

/// Returns the findings, most important first.
pub fn sentences<'a>(monitors: &[&'a Monitor], locale: &Locale) -> Vec<Sentence<'a>> {
    let mut said = Vec::new();
    let together = CombinedFigures::of(monitors);
    if together.counts.tests() == 0 {
        return said;
    }
    if let Some((monitor, outage)) = worst_outage(monitors) {
        let cause = cause(monitor, outage, locale);
        let text = locale.fill(
            "The longest outage hit {0} on {1} and lasted {2} ({3} in a row): {4}.",
            &[
                &monitor.name,
                &locale.moment(outage.from),
                &span_of(outage, locale),
                &locale.count(outage.failed_tests, "one failed test", "{0} failed tests"),
                &cause,
            ],
        );
        let about = About::Availability(vec![monitor], Some(outage.from));
        said.push(Sentence::about(text, about));
    }
    let count = |wanted: fn(&Counts) -> bool| {
        monitors.iter().filter(|monitor| wanted(&monitor.counts)).count()
    };
    match (count(|counts| counts.failed() > 0), count(|counts| counts.tests() > 0)) {
        (0, _) => said.push(Sentence::plain(locale.count(
            together.counts.tests(),
            "The only test succeeded.",
            if together.counts.tests() == 2 {
                "Both tests succeeded."
            } else {
                "All {0} tests succeeded."
            },
        ))),
        (some, all) if all > 1 && some < all => said.push(Sentence::plain(locale.fill(
            "{0} of {1} monitors had no failed tests.",
            &[&locale.integer((all - some) as u64), &locale.integer(all as u64)],
        ))),
        _ => {}
    }
    if let Some(compared) = together.compared
        && let Some(change) = compared.change()
    {
        let text = compared_words(&compared, change, locale);
        said.push(Sentence::about(text, About::Availability(monitors.to_vec(), None)));
    }
    if let Some((monitor, medians)) = most_changed(monitors) {
        let text = changed(monitor, medians, locale);
        said.push(Sentence::about(text, About::RoundTrip(monitor, 0.5)));
    }
    let known = monitors.iter().filter_map(|monitor| Some((*monitor, enough(monitor)?[2])));
    let known: Vec<(&Monitor, f64)> = known.collect();
    if known.len() > 1
        && let Some((monitor, p95)) = known.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
    {
        let text = locale.fill(
            "{0} was the slowest: 95 % of its delivered mails arrived within {1}.",
            &[&monitor.name, &locale.duration(p95)],
        );
        said.push(Sentence::about(text, About::RoundTrip(monitor, 0.95)));
    }
    said
}

/// Returns a sentence on the change in availability. Changes that are insignificant or round to
/// zero are reported as no change.
fn compared_words(compared: &Compared, change: f64, locale: &Locale) -> String {
    let before = locale.share_text(compared.before.ok, compared.before.tests());
    let points = locale.points(change.abs());
    let text = match (compared.is_certain(), is_nothing(&points)) {
        (false, _) => "Availability did not change significantly from the previous period ({0}).",
        (true, true) => "Availability was unchanged from the previous period ({0}).",
        (true, false) => {
            let text = if change > 0.0 {
                "Availability rose by {0} from {1} in the previous period."
            } else {
                "Availability fell by {0} from {1} in the previous period."
            };
            return locale.fill(text, &[points.trim_start_matches('+'), &before]);
        }
    };
    locale.fill(text, &[&before])
}

/// Returns the percentiles of a monitor's round trip if enough mails arrived.
fn enough(monitor: &Monitor) -> Option<[f64; 4]> {
    monitor.round_trip.filter(|_| monitor.round_trips >= ENOUGH)
}

/// Returns the median round trips of the previous and of this period if enough mails arrived in
/// both.
pub fn medians(monitor: &Monitor) -> Option<(f64, f64)> {
    let before = monitor.before.as_ref()?;
    let came = before.counts.ok + before.counts.late;
    let then = before.round_trip.filter(|_| came >= ENOUGH as u64)?;
    Some((then[0], enough(monitor)?[0]))
}

/// Returns the monitor whose median changed most, if by at least 25 %, with its previous and
/// current median.
fn most_changed<'a>(monitors: &[&'a Monitor]) -> Option<(&'a Monitor, (f64, f64))> {
    let factor = |(then, now): (f64, f64)| (now / then).ln().abs();
    monitors
        .iter()
        .filter_map(|monitor| Some((*monitor, medians(monitor)?)))
        .filter(|(_, medians)| factor(*medians).is_finite() && factor(*medians) >= 1.25_f64.ln())
        .max_by(|a, b| factor(a.1).total_cmp(&factor(b.1)))
}

fn changed(monitor: &Monitor, (then, now): (f64, f64), locale: &Locale) -> String {
    let text = if now > then {
        "{0} became slower: its median round trip rose from {1} to {2}."
    } else {
        "{0} became faster: its median round trip fell from {1} to {2}."
    };
    locale.fill(text, &[&monitor.name, &locale.duration(then), &locale.duration(now)])
}

/// Returns the cause of an outage: the failure of its first test.
pub fn cause(monitor: &Monitor, outage: &Outage, locale: &Locale) -> String {
    let Some(cause) = monitor.digest.cause(outage.row) else {
        return DASH.to_owned();
    };
    match (cause.stage, cause.error.as_deref(), cause.round_trip) {
        (None, None, Some(took)) => {
            locale.fill("late: took {0}", &[&locale.duration(took.0 as f64)])
        }
        (Some(stage), Some(error), _) => {
            format!("{} ({})", error.trim_end_matches('.'), stage_word(stage, locale))
        }
        (None, Some(error), _) => error.trim_end_matches('.').to_owned(),
        (Some(stage), None, _) => stage_word(stage, locale).to_owned(),
        (None, None, None) => outcome_word(cause.outcome, locale).to_owned(),
    }
}

/// Returns the stage at which a test failed, in words.
pub fn stage_word(stage: Stage, locale: &Locale) -> &'static str {
    locale.t(match stage {
        Stage::SmtpConnect => "SMTP connection",
        Stage::SmtpTls => "SMTP: TLS handshake",
        Stage::SmtpGreeting => "SMTP: greeting",
        Stage::SmtpAuth => "SMTP: authentication",
        Stage::SmtpRcpt => "SMTP: envelope",
        Stage::SmtpData => "SMTP: content",
        Stage::PickupConnect => "Pick-up connection",
        Stage::PickupTls => "Pick-up: TLS handshake",
        Stage::PickupGreeting => "Pick-up: greeting",
        Stage::PickupLogin => "Pick-up login",
        Stage::PickupList => "Pick-up: listing",
        Stage::PickupReceive => "Pick-up download",
        Stage::Bounced => "Bounced",
    })
}

/// Returns an outcome in words.
pub fn outcome_word(outcome: mailqos_model::Outcome, locale: &Locale) -> &'static str {
    use mailqos_model::Outcome;
    locale.t(match outcome {
        Outcome::Ok => "on time",
        Outcome::Late => "late",
        Outcome::Lost => "lost",
        Outcome::SmtpFailed => "sending failed",
        Outcome::PickupFailed => "pick-up failed",
        Outcome::NotTested => "not tested",
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn a_change_that_rounds_to_zero_is_neither_a_rise_nor_a_fall() {
        let counts = |ok, lost| Counts { ok, lost, ..Counts::default() };
        // With this many tests, even the smallest change is significant.
        let compared = |before: u64, now: u64| Compared {
            now: counts(10_000_000_000, now),
            before: counts(10_000_000_000, before),
        };
        let locale = Locale::new("en", TimeZone::UTC).expect("English");
        let said = |before: u64, now: u64| {
            let compared = compared(before, now);
            assert!(compared.is_certain());
            let change = compared.change().expect("a change");
            compared_words(&compared, change, &locale).replace(['\u{a0}', '\u{202f}'], " ")
        };
        assert_eq!(
            said(1_000_000, 1_040_000),
            "Availability was unchanged from the previous period (99.990 %)."
        );
        assert_eq!(
            said(1_000_000, 1_300_000),
            "Availability fell by 0.003 pp from 99.990 % in the previous period."
        );
        assert_eq!(
            said(3_000_000_000, 1_000_000),
            "Availability rose by 23.07 pp from 76.92 % in the previous period."
        );
    }
}
