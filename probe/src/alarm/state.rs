//! The state of one monitor, which only samples change. Pure, so that it can be replayed over old
//! samples.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mailqos_base::clock::{MonotonicTime, Now};
use mailqos_config::{AlarmRule, Timing};
use mailqos_model::{Micros, MonitorId, Outcome, Placement, Sample, UtcMicros};
use serde::{Deserialize, Serialize};

use super::{deliverability::Facts, message};

/// Number of transitions between tests in which flapping is detected.
const CHANGES: u32 = 20;
/// Minimum number of changes at which flapping starts.
const FLAPPING_FROM: u32 = 10;
/// Maximum number of changes at which it ends.
const FLAPPING_TO: u32 = 4;
/// Maximum number of values in a window.
const MAX_VALUES: usize = 20_000;

/// Alarm status of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not tested yet.
    #[default]
    Unknown,
    /// The last test succeeded.
    Ok,
    /// The last tests failed, too few for an alarm.
    Failed,
    /// The alarm was raised and has not cleared.
    Alarm,
}

/// A change that a sample caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The alarm was raised.
    Raised,
    /// The alarm cleared.
    Cleared,
}

/// Summary of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Start of the test.
    pub started_at: UtcMicros,
    /// The same on the steady clock, which determines its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<MonotonicTime>,
    /// Outcome of the test.
    pub outcome: Outcome,
    /// The round trip.
    pub round_trip: Option<Micros>,
    /// Half the width of the interval that certainly contains the round trip.
    #[serde(default)]
    pub round_trip_error: Option<Micros>,
    /// Half the width of the 99 % interval.
    #[serde(default)]
    pub round_trip_likely_error: Option<Micros>,
    /// Kind of the folder in which the mail was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Result of SPF in the receiving system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spf: Option<String>,
    /// Result of DKIM in the receiving system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dkim: Option<String>,
    /// Result of DMARC in the receiving system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dmarc: Option<String>,
}

/// The state of one monitor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The status.
    pub status: Status,
    /// Number of consecutive failed tests; those of the alarm that has just cleared.
    pub failures: u32,
    /// Number of consecutive successful tests during an alarm.
    pub good: u32,
    /// Start of the first failed test.
    pub failing_since: Option<UtcMicros>,
    /// The same on the steady clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failing_from: Option<MonotonicTime>,
    /// Number of consecutive tests that the probe could not perform.
    #[serde(skip_serializing_if = "is_zero")]
    pub untested: u32,
    /// Start of the last test that had a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) judged: Option<MonotonicTime>,
    /// Reason why the last test could not be performed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hindrance: Option<String>,
    /// Start of the last successful test.
    pub last_ok: Option<UtcMicros>,
    /// The last test, whatever its outcome.
    pub last: Option<Last>,
    /// Reason of the last failure.
    pub reason: Option<String>,
    /// Whether the monitor is flapping.
    pub flapping: bool,
    /// The failing monitor that explains this one's failures and delays its alarm.
    pub held_by: Option<MonitorId>,
    /// The last verdicts as bits, the newest lowest: 1 is bad.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) verdicts: u32,
    /// Number of bits that contain verdicts.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) known: u32,
    /// Exceeded thresholds.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) exceeded: BTreeSet<String>,
    /// Values of the percentiles' windows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) windows: BTreeMap<String, VecDeque<(MonotonicTime, Micros)>>,
    /// Facts about deliverability.
    #[serde(skip_serializing_if = "Facts::is_empty")]
    pub(super) facts: Facts,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An upper limit of a value.
struct Limit<'a> {
    /// What it is a limit of, in the state.
    key: String,
    /// The same in a message.
    words: &'a str,
    most: Micros,
    /// The share of the limit below which an exceeded value has to fall.
    clear_below: f64,
}

impl State {
    /// Processes the sample of a test that started at `began`; alarms and recoveries alternate.
    /// `ordered` is a simulated failure. `held_by` is called when the alarm is about to be raised
    /// and returns a monitor whose failure explains this one's.
    pub fn step(
        &mut self,
        (sample, began): (&Sample, MonotonicTime),
        rule: &AlarmRule,
        ordered: Option<&str>,
        held_by: impl FnOnce(&Self) -> Option<MonitorId>,
    ) -> Option<Change> {
        self.last = Some(Last {
            started_at: sample.started_at,
            began: Some(began),
            outcome: sample.outcome,
            round_trip: sample.round_trip,
            round_trip_error: sample.round_trip_error,
            round_trip_likely_error: sample.round_trip_likely_error,
            placement: sample.placement,
            spf: sample.spf.clone(),
            dkim: sample.dkim.clone(),
            dmarc: sample.dmarc.clone(),
        });
        if sample.outcome == Outcome::NotTested && sample.excluded.is_none() {
            self.untested = self.untested.saturating_add(1);
            self.hindrance.clone_from(&sample.error);
        } else {
            (self.untested, self.hindrance) = (0, None);
            self.judged = Some(began);
        }
        let bad = match ordered {
            Some(reason) => Some(reason.to_owned()),
            None if sample.outcome == Outcome::NotTested || sample.excluded.is_some() => {
                return None;
            }
            None => self.judge(sample, began, rule),
        };
        // Not a change during an alarm. Otherwise, flapping has just begun, or the alarm waits for
        // another monitor.
        let flaps = self.flap(bad.is_some(), rule);
        if let Some(reason) = bad {
            self.fail(sample.started_at, began, reason);
        } else {
            self.last_ok = Some(sample.started_at);
            self.held_by = None;
            match self.status {
                Status::Alarm => {
                    self.good = self.good.saturating_add(1);
                    if self.good >= rule.clear_after && !self.flapping {
                        self.status = Status::Ok;
                        return Some(Change::Cleared);
                    }
                }
                Status::Unknown | Status::Ok | Status::Failed => {
                    self.status = Status::Ok;
                    self.failures = 0;
                    (self.failing_since, self.failing_from) = (None, None);
                    self.reason = None;
                }
            }
        }
        let due = if self.status == Status::Failed { self.is_due(began, rule) } else { false };
        if self.status == Status::Alarm || !(due || flaps) {
            return None;
        }
        self.held_by = held_by(self);
        if self.held_by.is_some() {
            return None;
        }
        if flaps && !due {
            self.reason = Some(format!(
                "flapping between success and failure: {} changes in {CHANGES} tests",
                self.changes()
            ));
            self.failing_since.get_or_insert(sample.started_at);
            self.failing_from.get_or_insert(began);
            self.failures = self.failures.max(1);
        }
        self.status = Status::Alarm;
        self.good = 0;
        Some(Change::Raised)
    }

    /// Returns the part of the state that messages need, without the values of windows.
    pub(super) fn brief(&self) -> Self {
        Self {
            windows: BTreeMap::new(),
            held_by: self.held_by.clone(),
            last_ok: self.last_ok,
            last: self.last.clone(),
            reason: self.reason.clone(),
            hindrance: self.hindrance.clone(),
            exceeded: BTreeSet::new(),
            facts: Facts::default(),
            ..*self
        }
    }

    fn fail(&mut self, at: UtcMicros, began: MonotonicTime, reason: String) {
        if matches!(self.status, Status::Ok | Status::Unknown) {
            self.failures = 0;
            self.failing_since = Some(at);
            self.failing_from = Some(began);
            self.status = Status::Failed;
        }
        self.good = 0;
        self.reason = Some(reason);
        self.failures = self.failures.saturating_add(1);
    }

    /// Starts an alarm without a test.
    pub(super) fn begin_alarm(&mut self, now: Now, reason: String) {
        self.fail(now.wall, now.steady, reason);
        self.status = Status::Alarm;
    }

    /// Resets the state of a monitor that is no longer tested, so that it starts afresh when it is
    /// tested again.
    pub(super) fn retire(&mut self) {
        *self = Self { last_ok: self.last_ok, last: self.last.take(), ..Self::default() };
    }

    /// Returns how long it had failed when the test of this sample started.
    pub(super) fn failing_for(&self, sample: &Sample) -> Micros {
        let began = self.last.as_ref().filter(|last| last.started_at == sample.started_at);
        let steady = began.and_then(|last| last.began).zip(self.failing_from);
        let lasted = match steady {
            Some((began, from)) => began - from,
            None => self.failing_since.map_or(Micros::ZERO, |since| sample.started_at - since),
        };
        lasted.max(Micros::ZERO)
    }

    /// Returns whether the last test is too old to be meaningful: older than three test intervals
    /// on the steady clock. A test in the future, which an earlier version of the probe may have
    /// recorded, is old.
    pub fn is_old(&self, test_interval: Micros, now: Now) -> bool {
        let Some(last) = &self.last else { return true };
        let age = match last.began {
            Some(began) => now.steady - began,
            None => now.wall - last.started_at,
        };
        age < Micros::ZERO || age > Micros(test_interval.0.saturating_mul(3))
    }

    /// Returns whether it has failed often and long enough.
    fn is_due(&self, now: MonotonicTime, rule: &AlarmRule) -> bool {
        let often = self.failures >= rule.after;
        let long =
            rule.after_time.map(|time| self.failing_from.is_some_and(|since| now - since >= time));
        match long {
            None => often,
            Some(long) if rule.either => often || long,
            Some(long) => often && long,
        }
    }

    fn changes(&self) -> u32 {
        let pairs = self.known.saturating_sub(1).min(CHANGES);
        let mask = (1u32 << pairs) - 1;
        ((self.verdicts ^ (self.verdicts >> 1)) & mask).count_ones()
    }

    /// Records a verdict; returns whether the monitor flaps.
    fn flap(&mut self, bad: bool, rule: &AlarmRule) -> bool {
        self.verdicts = (self.verdicts << 1) | u32::from(bad);
        self.known = (self.known + 1).min(CHANGES + 1);
        let least = if self.flapping { FLAPPING_TO } else { FLAPPING_FROM - 1 };
        self.flapping = rule.flapping && self.changes() > least;
        self.flapping
    }

    /// Returns the problem of a test, if any: its outcome, a threshold, a certificate or the
    /// folder.
    fn judge(&mut self, sample: &Sample, began: MonotonicTime, rule: &AlarmRule) -> Option<String> {
        self.facts.note_sample(sample, began, rule);
        if sample.outcome != Outcome::Ok {
            return Some(message::reason(sample));
        }
        let mut reasons = self.facts.judge(sample, rule);
        for threshold in &rule.thresholds {
            let value = threshold.timing.of(sample);
            let key = threshold.timing.as_str().to_owned();
            let words = threshold.timing.words();
            let limit = Limit { key, words, most: threshold.most, clear_below: rule.clear_below };
            reasons.extend(self.compare(limit, value));
        }
        for percentile in &rule.percentiles {
            let key = format!(
                "{} p{} {}",
                percentile.timing.as_str(),
                percentile.percentile,
                percentile.over
            );
            let value = self
                .percentile(percentile.timing, (sample, began), percentile.over)
                .filter(|(_, count)| *count >= percentile.at_least as usize);
            let value = value.map(|(values, _)| quantile(values, percentile.percentile / 100.0));
            let words = format!(
                "the {} percentile of {} over {}",
                ordinal(percentile.percentile),
                percentile.timing.words(),
                percentile.over
            );
            let limit =
                Limit { key, words: &words, most: percentile.most, clear_below: rule.clear_below };
            reasons.extend(self.compare(limit, value));
        }
        if let Some(least) = rule.certificate {
            for (server, expires_at) in [
                ("SMTP server", sample.smtp_certificate_expires_at),
                ("mailbox server", sample.pickup_certificate_expires_at),
            ] {
                let Some(left) = expires_at.map(|at| at - sample.started_at) else {
                    continue;
                };
                if left < Micros::ZERO {
                    reasons.push(format!("the certificate of the {server} has expired"));
                } else if left < least {
                    reasons.push(format!(
                        "the certificate of the {server} expires in {}",
                        message::rough(left)
                    ));
                }
            }
        }
        if let Some(folder) =
            sample.folder.as_ref().filter(|folder| rule.spam_folders.contains(folder))
        {
            reasons.push(format!("the mail was found in the folder {folder:?}"));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Returns that a value is above its limit; below it again only if it is clearly so.
    fn compare(&mut self, limit: Limit<'_>, value: Option<Micros>) -> Option<String> {
        let Limit { key, words, most, clear_below } = limit;
        let value = value?;
        let limit = if self.exceeded.contains(&key) {
            Micros((most.0 as f64 * clear_below) as i64)
        } else {
            most
        };
        if value > limit {
            self.exceeded.insert(key);
            // Milliseconds suffice, unless they hide by how much the limit was exceeded.
            let short = Micros(value.0 / 1000 * 1000);
            let shown = if short > limit { short } else { value };
            let until = if value > most { String::new() } else { format!(" (clears at {limit})") };
            return Some(format!("{words} took {shown}, more than {most}{until}"));
        }
        self.exceeded.remove(&key);
        None
    }

    /// Returns a percentile of the window that ends with this sample, and the number of its values.
    fn percentile(
        &mut self,
        timing: Timing,
        (sample, began): (&Sample, MonotonicTime),
        over: Micros,
    ) -> Option<(Vec<Micros>, usize)> {
        let value = timing.of(sample)?;
        let key = format!("{} {over}", timing.as_str());
        let window = self.windows.entry(key).or_default();
        if window.back().is_none_or(|(at, _)| *at < began) {
            window.push_back((began, value));
        }
        while window.len() > MAX_VALUES || window.front().is_some_and(|(at, _)| began - *at > over)
        {
            window.pop_front();
        }
        let mut values: Vec<Micros> = window.iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        let count = values.len();
        Some((values, count))
    }
}

/// Formats a number as an ordinal: 50th, 91st, 99.9th.
fn ordinal(number: f64) -> String {
    let ending = match (number % 10.0, number % 100.0) {
        (_, 11.0 | 12.0 | 13.0) => "th",
        (1.0, _) => "st",
        (2.0, _) => "nd",
        (3.0, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// Interpolates linearly between the closest ranks: (n − 1)·q.
fn quantile(sorted: Vec<Micros>, q: f64) -> Micros {
    let place = (sorted.len().saturating_sub(1)) as f64 * q;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let value = |at: usize| sorted.get(at).map_or(0.0, |value| value.0 as f64);
    Micros((value(low) + (value(high) - value(low)) * place.fract()).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_config::{PercentileRule, Threshold};
    use proptest::prelude::*;

    fn sample(outcome: Outcome, at: i64) -> Sample {
        Sample::new("m".parse().expect("a name"), UtcMicros(at), outcome)
    }

    fn rule(after: u32) -> AlarmRule {
        AlarmRule { after, flapping: false, ..AlarmRule::default() }
    }

    fn step(state: &mut State, sample: &Sample, rule: &AlarmRule) -> Option<Change> {
        state.step((sample, MonotonicTime(sample.started_at.0)), rule, None, |_| None)
    }

    proptest! {
        #[test]
        fn alarms_and_recoveries_alternate(
            outcomes in proptest::collection::vec(proptest::sample::select(Outcome::ALL), 0..60),
            alarm_after in 1u32..5,
        ) {
            let rule = rule(alarm_after);
            let mut state = State::default();
            let mut last = Change::Cleared;
            let mut run = 0;
            for (at, outcome) in outcomes.into_iter().enumerate() {
                let change = step(&mut state, &sample(outcome, at as i64), &rule);
                match outcome {
                    Outcome::NotTested => {}
                    Outcome::Ok => run = 0,
                    _ => run += 1,
                }
                if let Some(change) = change {
                    prop_assert_ne!(change, last);
                    prop_assert_eq!(change == Change::Raised, run == alarm_after);
                    last = change;
                } else if outcome != Outcome::NotTested {
                    prop_assert!(run != alarm_after || last == Change::Raised);
                }
            }
        }

        #[test]
        fn flapping_and_slow_clearing_alternate_too(
            outcomes in proptest::collection::vec(proptest::bool::ANY, 0..200),
            after in 1u32..5,
            clear_after in 1u32..5,
        ) {
            let rule = AlarmRule { after, clear_after, ..AlarmRule::default() };
            let mut state = State::default();
            let mut last = Change::Cleared;
            for (at, good) in outcomes.into_iter().enumerate() {
                let outcome = if good { Outcome::Ok } else { Outcome::Lost };
                if let Some(change) = step(&mut state, &sample(outcome, at as i64), &rule) {
                    prop_assert_ne!(change, last);
                    last = change;
                }
                prop_assert_eq!(state.status == Status::Alarm, last == Change::Raised);
            }
        }
    }

    #[test]
    fn the_outage_is_remembered_for_the_recovery() {
        let rule = rule(3);
        let mut state = State::default();
        for at in 1..=4 {
            step(&mut state, &sample(Outcome::Lost, at), &rule);
        }
        assert_eq!(step(&mut state, &sample(Outcome::Ok, 5), &rule), Some(Change::Cleared));
        assert_eq!((state.failures, state.failing_since), (4, Some(UtcMicros(1))));
        step(&mut state, &sample(Outcome::SmtpFailed, 6), &rule);
        assert_eq!((state.failures, state.failing_since), (1, Some(UtcMicros(6))));
    }

    #[test]
    fn an_alarm_waits_for_its_time_or_its_count() {
        let minute = 60_000_000;
        let rises = |rule: &AlarmRule| {
            let mut state = State::default();
            (0..20).find(|at| {
                step(&mut state, &sample(Outcome::Lost, at * minute), rule) == Some(Change::Raised)
            })
        };
        let time = Some(Micros::from_secs(600));
        let both = AlarmRule { after_time: time, ..rule(3) };
        assert_eq!(rises(&both), Some(10));
        let either = AlarmRule { either: true, ..both.clone() };
        assert_eq!(rises(&either), Some(2));
        let either_time = AlarmRule { after: 15, ..either };
        assert_eq!(rises(&either_time), Some(10));
    }

    #[test]
    fn a_threshold_is_met_again_only_clearly_below_it() {
        let rule = AlarmRule {
            thresholds: vec![Threshold { timing: Timing::RoundTrip, most: Micros::from_secs(10) }],
            ..rule(1)
        };
        let mut state = State::default();
        let mut at = 0;
        let mut round_trip = |seconds: f64| {
            at += 1;
            let mut sample = sample(Outcome::Ok, at);
            sample.round_trip = Some(Micros((seconds * 1e6) as i64));
            step(&mut state, &sample, &rule)
        };
        assert_eq!(round_trip(9.9), None);
        assert_eq!(round_trip(10.1), Some(Change::Raised));
        assert_eq!(round_trip(9.9), None);
        assert_eq!(round_trip(8.9), Some(Change::Cleared));
        assert_eq!(round_trip(9.9), None);
        assert_eq!(state.reason, None);
    }

    #[test]
    fn a_percentile_over_a_window_a_certificate_and_the_spam_folder_raise_an_alarm() {
        let rule = AlarmRule {
            percentiles: vec![PercentileRule {
                timing: Timing::PickupLogin,
                percentile: 50.0,
                over: Micros(100),
                most: Micros(20_000),
                at_least: 3,
            }],
            certificate: Some(Micros::from_secs(14 * 86_400)),
            spam_folders: vec!["Junk".into()],
            ..rule(1)
        };
        let mut state = State::default();
        let login = |at: i64, took: i64| {
            let mut sample = sample(Outcome::Ok, at);
            sample.pickup_login = Some(Micros(took));
            sample
        };
        assert_eq!(step(&mut state, &login(1, 90_000), &rule), None);
        assert_eq!(step(&mut state, &login(2, 90_000), &rule), None);
        assert_eq!(step(&mut state, &login(3, 1_000), &rule), Some(Change::Raised));
        assert!(
            state
                .reason
                .as_deref()
                .is_some_and(|reason| reason.contains("50th percentile of the login"))
        );
        // The slow values leave the window.
        for at in [200, 201] {
            assert_eq!(step(&mut state, &login(at, 1_000), &rule).is_some(), at == 200);
        }
        let mut junk = login(202, 1_000);
        junk.folder = Some("Junk".into());
        assert_eq!(step(&mut state, &junk, &rule), Some(Change::Raised));
        assert_eq!(step(&mut state, &login(203, 1_000), &rule), Some(Change::Cleared));
        let mut old = login(204, 1_000);
        old.smtp_certificate_expires_at = Some(UtcMicros(204) + Micros::from_secs(13 * 86_400));
        assert_eq!(step(&mut state, &old, &rule), Some(Change::Raised));
        assert!(
            state.reason.as_deref().is_some_and(|reason| reason.contains("expires in 1w6d")),
            "{:?}",
            state.reason
        );
    }

    #[test]
    fn ordinals_are_english() {
        let told = [1.0, 2.0, 11.0, 12.5, 50.0, 91.0, 93.0, 99.9].map(ordinal);
        assert_eq!(told, ["1st", "2nd", "11th", "12.5th", "50th", "91st", "93rd", "99.9th"]);
    }

    #[test]
    fn changing_to_and_fro_is_one_alarm_that_clears_when_it_has_settled() {
        let rule = AlarmRule::default();
        let mut state = State::default();
        let mut changes = Vec::new();
        for at in 0..120 {
            let outcome = if at < 60 && at % 2 == 0 { Outcome::Lost } else { Outcome::Ok };
            changes
                .extend(step(&mut state, &sample(outcome, at), &rule).map(|change| (at, change)));
        }
        assert_eq!(changes, [(10, Change::Raised), (75, Change::Cleared)]);
    }

    #[test]
    fn changing_to_and_fro_that_another_explains_waits_for_it_too() {
        let rule = AlarmRule::default();
        let mut state = State::default();
        let outcome = |at: i64| {
            if at % 2 == 0 { Outcome::Lost } else { Outcome::Ok }
        };
        for at in 0..15 {
            let change =
                state.step((&sample(outcome(at), at), MonotonicTime(at)), &rule, None, |_| {
                    "gate".parse().ok()
                });
            assert_eq!(change, None);
        }
        assert!(state.flapping && state.held_by.is_some());
        assert_eq!(step(&mut state, &sample(outcome(15), 15), &rule), Some(Change::Raised));
    }

    #[test]
    fn a_failure_that_another_explains_waits_for_it() {
        let rule = rule(2);
        let mut state = State::default();
        let gate = || "gate".parse().ok();
        for at in 0..5 {
            assert_eq!(
                state
                    .step((&sample(Outcome::Lost, at), MonotonicTime(at)), &rule, None, |_| gate()),
                None
            );
        }
        assert_eq!((state.status, state.held_by.clone()), (Status::Failed, gate()));
        assert_eq!(step(&mut state, &sample(Outcome::Lost, 6), &rule), Some(Change::Raised));
        assert_eq!(state.held_by, None);
    }

    #[test]
    fn windows_and_durations_use_the_monotonic_clock() {
        let rule = AlarmRule {
            after: 1,
            after_time: Some(Micros::from_secs(600)),
            flapping: false,
            ..AlarmRule::default()
        };
        // A failed test each minute; after five of them the wall clock is set back by an hour, then
        // forward by two.
        for steps in [[0, 0], [-3600, 7200], [86_400, -86_400]] {
            let mut state = State::default();
            let mut wall = 1_780_000_000;
            let mut raised = None;
            for minute in 0..30 {
                wall += match minute {
                    5 => steps[0],
                    8 => steps[1],
                    _ => 0,
                } + 60;
                let sample = sample(Outcome::Lost, wall * 1_000_000);
                let began = MonotonicTime(minute * 60_000_000);
                if state.step((&sample, began), &rule, None, |_| None).is_some() {
                    raised.get_or_insert(minute);
                }
            }
            assert_eq!(raised, Some(10), "{steps:?}");
        }
    }
}
