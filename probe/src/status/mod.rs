//! Observable state of a running probe: the states of its monitors with their last day, counters,
//! and metrics of both.

mod metrics;
mod publish;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Mutex,
};

use mailqos_base::clock::Now;
use mailqos_base::files;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, Monitor, Timing};
use mailqos_control::{HalfHour, StateWord};
use mailqos_model::{Micros, MonitorId, Outcome, Placement, Sample, UtcMicros, Verdict};
use serde::{Deserialize, Serialize};

pub use metrics::{serve, write as write_metrics};
pub use publish::{publish, publish_stop};

/// Width of a bucket of the last day.
pub const BUCKET: Micros = Micros::from_secs(1800);
/// Number of buckets: a day.
pub const BUCKETS: usize = 48;
/// Bounds of histograms in seconds, from a connection's milliseconds to the minutes of a slow mail.
pub const BOUNDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
];

/// Number of durations below each bound, and their sum.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS.len()],
    above: u64,
    sum: f64,
}

impl Histogram {
    /// Counts a duration.
    pub fn count(&mut self, duration: Micros) {
        let seconds = duration.as_secs_f64().max(0.0);
        self.sum += seconds;
        match BOUNDS.iter().position(|bound| seconds <= *bound) {
            Some(at) => self.counts[at] += 1,
            None => self.above += 1,
        }
    }

    /// Returns the number of durations.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// Returns the sum in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns for each bound the number of durations that don't exceed it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        BOUNDS.iter().zip(&self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((*bound, *total))
        })
    }
}

/// Half an hour of a monitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    /// Number of the half-hour since 1970.
    number: i64,
    tests: u16,
    failed: u16,
    timed: u16,
    milliseconds: f32,
}

/// Observations of a monitor.
#[derive(Debug, Default)]
struct Seen {
    day: VecDeque<Bucket>,
    outcomes: [u64; Outcome::ALL.len()],
    round_trip: Histogram,
    expires: [Option<UtcMicros>; 2],
    /// Arrived mails by [`Placement`]; the last number is that of unknown folders.
    places: [u64; Placement::ALL.len() + 1],
    /// Results of SPF, DKIM and DMARC by [`Verdict`].
    verdicts: [[u64; Verdict::ALL.len()]; 3],
    /// Mails accepted after several attempts.
    retried: u64,
}

impl Seen {
    /// Counts the results of a mail.
    fn count_mail(&mut self, sample: &Sample) {
        let is_mail = sample.kind.as_deref().is_none_or(|kind| kind == "mail-qos");
        if is_mail && matches!(sample.outcome, Outcome::Ok | Outcome::Late) {
            let place = sample
                .placement
                .and_then(|place| Placement::ALL.iter().position(|known| *known == place));
            self.places[place.unwrap_or(Placement::ALL.len())] += 1;
        }
        for (counts, word) in
            self.verdicts.iter_mut().zip([&sample.spf, &sample.dkim, &sample.dmarc])
        {
            let verdict = word.as_deref().and_then(Verdict::parse);
            let at =
                verdict.and_then(|verdict| Verdict::ALL.iter().position(|known| *known == verdict));
            if let Some(at) = at {
                counts[at] += 1;
            }
        }
        let is_retried = sample.smtp_attempts.is_some_and(|attempts| attempts > 1);
        self.retried += u64::from(is_retried && sample.outcome != Outcome::SmtpFailed);
    }
}

/// Observations of all monitors.
#[derive(Debug)]
pub struct Observed {
    seen: Mutex<HashMap<MonitorId, Seen>>,
    phases: Mutex<[Histogram; Timing::ALL.len()]>,
    /// Reason why metrics can't be served.
    metrics_problem: Mutex<Option<String>>,
    file: PathBuf,
    /// Held while the file is written, because a regular write may be in progress when the probe
    /// ends and writes the last one.
    writing: Mutex<()>,
    /// Whether the last status has been published; held while one is written.
    stopped: Mutex<bool>,
}

impl Observed {
    /// Reads the last day recorded by an earlier process.
    pub fn open(config: &Config) -> Self {
        let file = config.state.join(format!("site={}", config.site)).join("last-day.json");
        let days: HashMap<MonitorId, VecDeque<Bucket>> = files::read_state(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let seen = days.into_iter().map(|(monitor, day)| {
            let seen = Seen { day, ..Seen::default() };
            (monitor, seen)
        });
        Self {
            seen: Mutex::new(seen.collect()),
            phases: Mutex::default(),
            metrics_problem: Mutex::default(),
            file,
            writing: Mutex::default(),
            stopped: Mutex::default(),
        }
    }

    /// Returns why metrics can't be served, if that is the case.
    pub fn metrics_problem(&self) -> Option<String> {
        let problem = self.metrics_problem.lock().ignore_poison();
        problem.clone()
    }

    fn set_metrics_problem(&self, problem: Option<String>) {
        *self.metrics_problem.lock().ignore_poison() = problem;
    }

    /// Stores the last day.
    pub fn keep(&self) {
        let _one_at_a_time = self.writing.lock().ignore_poison();
        // Copied first: tests that end in the meantime must not wait until ten thousand days are
        // formatted.
        let days: HashMap<MonitorId, VecDeque<Bucket>> = {
            let seen = self.lock();
            seen.iter().map(|(monitor, seen)| (monitor.clone(), seen.day.clone())).collect()
        };
        let written = serde_json::to_vec(&days)
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::record::write_whole(&self.file, &bytes));
        if let Err(error) = written {
            tracing::warn!(file = %self.file.display(), %error, "can't write the test results of the last day");
        }
    }

    /// Counts a sample.
    pub fn count(&self, sample: &Sample) {
        {
            let mut phases = self.phases.lock().ignore_poison();
            for (histogram, timing) in phases.iter_mut().zip(Timing::ALL.iter().copied()) {
                if let Some(took) = timing.of(sample) {
                    histogram.count(took);
                }
            }
        }
        let mut all = self.lock();
        let seen = all.entry(sample.monitor.clone()).or_default();
        if let Some(at) = Outcome::ALL.iter().position(|outcome| *outcome == sample.outcome) {
            seen.outcomes[at] += 1;
        }
        if let Some(took) = sample.round_trip {
            seen.round_trip.count(took);
        }
        for (known, found) in seen
            .expires
            .iter_mut()
            .zip([sample.smtp_certificate_expires_at, sample.pickup_certificate_expires_at])
        {
            *known = found.or(*known);
        }
        seen.count_mail(sample);
        if sample.outcome == Outcome::NotTested || sample.excluded.is_some() {
            return;
        }
        let number = sample.started_at.0.div_euclid(BUCKET.0);
        // A clock that was ahead has left half-hours in the future, which don't belong to the last
        // day.
        while seen.day.back().is_some_and(|last| last.number > number) {
            seen.day.pop_back();
        }
        if seen.day.back().is_none_or(|last| last.number < number) {
            seen.day.push_back(Bucket { number, ..Bucket::default() });
        }
        while seen.day.len() > BUCKETS {
            seen.day.pop_front();
        }
        if let Some(bucket) = seen.day.back_mut() {
            bucket.tests = bucket.tests.saturating_add(1);
            bucket.failed = bucket.failed.saturating_add(u16::from(sample.outcome != Outcome::Ok));
            if let Some(took) = sample.round_trip {
                bucket.timed = bucket.timed.saturating_add(1);
                bucket.milliseconds += took.as_millis_f64() as f32;
            }
        }
    }

    /// Returns the last day of a monitor, oldest half-hour first, with `None` if nothing was
    /// counted.
    pub fn day(&self, monitor: &MonitorId, now: UtcMicros) -> Vec<Option<HalfHour>> {
        let last = now.0.div_euclid(BUCKET.0);
        let mut day = vec![None; BUCKETS];
        if let Some(seen) = self.lock().get(monitor) {
            for bucket in &seen.day {
                let back = usize::try_from(last - bucket.number).unwrap_or(usize::MAX);
                if let Some(at) = (BUCKETS - 1).checked_sub(back) {
                    day[at] = Some(HalfHour {
                        tests: bucket.tests,
                        failed: bucket.failed,
                        round_trip_ms: (bucket.timed > 0)
                            .then(|| bucket.milliseconds / f32::from(bucket.timed)),
                    });
                }
            }
        }
        day
    }

    /// Drops monitors that were removed.
    pub fn forget(&self, config: &Config) {
        self.lock().retain(|monitor, _| config.monitors.contains_key(monitor));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MonitorId, Seen>> {
        self.seen.lock().ignore_poison()
    }
}

/// Returns the state of a monitor.
pub fn state_of(
    monitor: &Monitor,
    state: Option<&crate::alarm::State>,
    in_maintenance: bool,
    now: Now,
) -> StateWord {
    use crate::alarm::Status;
    if !monitor.enabled {
        return StateWord::Disabled;
    }
    if in_maintenance {
        return StateWord::Maintenance;
    }
    let Some(state) = state else {
        return StateWord::Unknown;
    };
    // A calendar has gaps by design; its monitors keep their last state.
    let old = state.last.is_none()
        || (monitor.calendar.is_none() && state.is_old(monitor.test_interval, now));
    match state.status {
        Status::Alarm => StateWord::Alarm,
        // The probe could not test: whatever the earlier result, the current state is unknown.
        _ if old || state.untested > 0 => StateWord::Unknown,
        Status::Unknown => StateWord::Unknown,
        Status::Ok => StateWord::Ok,
        Status::Failed => StateWord::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_is_counted_by_half_hours() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\n").expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let observed = Observed::open(&config);
        let monitor: MonitorId = "m".parse().expect("a name");
        let now = UtcMicros(1_780_000_000_000_000);
        for (back, outcome) in
            [(90, Outcome::Ok), (2, Outcome::Ok), (1, Outcome::Lost), (0, Outcome::Ok)]
        {
            let mut sample = Sample::new(monitor.clone(), now - Micros(BUCKET.0 * back), outcome);
            sample.round_trip = (outcome == Outcome::Ok).then_some(Micros::from_millis(500));
            observed.count(&sample);
        }
        std::fs::create_dir_all(config.state.join("site=here")).expect("folder");
        observed.keep();
        let day = Observed::open(&config).day(&monitor, now);
        assert_eq!(day.len(), BUCKETS);
        assert_eq!(day[..45], [None; 45]);
        assert_eq!(day[46].map(|half| (half.failed, half.round_trip_ms)), Some((1, None)));
        assert_eq!(day[47].map(|half| (half.tests, half.round_trip_ms)), Some((1, Some(500.0))));
    }

    #[test]
    fn a_histogram_counts_values_up_to_each_bound() {
        let mut histogram = Histogram::default();
        for milliseconds in [1, 5, 6, 999, 2_000_000] {
            histogram.count(Micros::from_millis(milliseconds));
        }
        let at = |bound: f64| {
            histogram.cumulative().find(|(known, _)| *known == bound).map(|(_, count)| count)
        };
        assert_eq!((at(0.005), at(0.01), at(1.0), at(900.0)), (Some(2), Some(3), Some(4), Some(4)));
        assert_eq!(histogram.total(), 5);
        assert!((histogram.sum() - 2001.011).abs() < 1e-9);
    }

    /// Returns a monitor that is tested every minute, and its state after a test with this outcome.
    fn tested(
        outcome: Outcome,
        clock: &mailqos_base::clock::Clock,
    ) -> (Monitor, crate::alarm::State) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = "site = \"here\"\n[account.a]\nuser = \"a\"\npassword = { env = \"A\" }\n[object.o]\naddress = \"o\"\n[monitor.m]\n\
                    object = \"o\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"\ntest_interval = \"60s\"\nmax_round_trip = \"30s\"\n\
                    smtp = { account = \"a\" }\npickup = { account = \"a\" }\n";
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let monitor = config.monitors.into_values().next().expect("a monitor");
        let now = clock.now();
        let sample = Sample::new(monitor.id.clone(), now.wall, outcome);
        let mut state = crate::alarm::State::default();
        state.step((&sample, now.steady), &monitor.alarm, None, |_| None);
        (monitor, state)
    }

    #[test]
    fn the_age_of_a_state_does_not_depend_on_the_wall_clock() {
        let clock = mailqos_base::clock::Clock::manual(UtcMicros(1_780_000_000_000_000));
        let (monitor, state) = tested(Outcome::Ok, &clock);
        let word =
            |state: &crate::alarm::State| state_of(&monitor, Some(state), false, clock.now());
        assert_eq!(word(&state), StateWord::Ok);
        for hours in [-1, 30, -40] {
            clock.step(Micros::from_secs(3600 * hours));
            assert_eq!(word(&state), StateWord::Ok, "{hours}");
        }
        clock.advance(Micros::from_secs(181));
        assert_eq!(word(&state), StateWord::Unknown, "three intervals have passed");
        // Recorded by an earlier version, which used only the wall clock: a time in the future
        // counts as old.
        let mut old = state;
        let last = old.last.as_mut().expect("a test");
        (last.began, last.started_at) = (None, clock.now().wall + Micros::from_secs(3600));
        assert_eq!(word(&old), StateWord::Unknown);
    }

    #[test]
    fn a_test_not_run_does_not_change_the_state() {
        let clock = mailqos_base::clock::Clock::manual(UtcMicros(1_780_000_000_000_000));
        let (monitor, mut state) = tested(Outcome::Ok, &clock);
        let again = |outcome, state: &mut crate::alarm::State| {
            clock.advance(Micros::from_secs(60));
            let sample = Sample::new(monitor.id.clone(), clock.now().wall, outcome);
            state.step((&sample, clock.now().steady), &monitor.alarm, None, |_| None);
            state_of(&monitor, Some(state), false, clock.now())
        };
        assert_eq!(again(Outcome::NotTested, &mut state), StateWord::Unknown);
        assert_eq!(again(Outcome::NotTested, &mut state), StateWord::Unknown);
        assert_eq!(again(Outcome::Ok, &mut state), StateWord::Ok);
        // An open alarm stays open, because no test has shown that it is over.
        for _ in 0..monitor.alarm.after {
            again(Outcome::Lost, &mut state);
        }
        assert_eq!(again(Outcome::NotTested, &mut state), StateWord::Alarm);
    }

    #[test]
    fn half_hours_from_the_future_are_not_part_of_the_last_day() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\n").expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let observed = Observed::open(&config);
        let monitor: MonitorId = "m".parse().expect("a name");
        let now = UtcMicros(1_780_000_000_000_000);
        let count = |at| observed.count(&Sample::new(monitor.clone(), at, Outcome::Ok));
        count(now);
        count(now + Micros(BUCKET.0 * 60));
        count(now + Micros(BUCKET.0));
        let day = observed.day(&monitor, now + Micros(BUCKET.0));
        let tests: Vec<_> = day.iter().flatten().map(|half| half.tests).collect();
        assert_eq!(tests, [1, 1]);
    }
}
