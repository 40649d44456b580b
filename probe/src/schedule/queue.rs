//! The queue of starts, based on the monotonic clock: setting the wall clock neither stops tests
//! nor repeats them.
//!
//! A monitor with an interval keeps its pace when the wall clock is set: planned starts stay, and
//! later ones are in its slots by the new time. A monitor with a calendar follows the wall clock by
//! the rules of Vixie cron (`cron(8)`): a time skipped by a step forward of less than three hours
//! is made up for, once, and a time repeated by a step back of less than three hours does not start
//! a test again. If that would leave a frequent calendar without tests for longer than two of its
//! gaps, its times count again, like cron's wildcard jobs.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use mailqos_base::clock::{MonotonicTime, Now};
use mailqos_config::{Calendar, Config, Monitor};
use mailqos_model::{Micros, MonitorId, UtcMicros};

use super::slot;

/// Minimum step of the wall clock that counts as a correction: calendars then use the new time
/// without looking back (`cron(8)`).
const CORRECTION: Micros = Micros::from_secs(3 * 3600);
/// Time after which a calendar without further times is checked again.
const LOOKED_AGAIN: Micros = Micros::from_secs(365 * 86_400);
/// Delay above which starts count as missed because the machine was suspended.
const SLEPT: Micros = Micros::from_secs(5);
/// Amount of slewing of the wall clock above which the calendars are adjusted.
const SLEWED: Micros = Micros::from_millis(20);
/// Time over which missed starts are spread after a suspension. Networks take a moment to
/// reconnect, and ten thousand simultaneous tests would overload them.
const SPREAD: Micros = Micros::from_secs(30);

/// A planned start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Time of the start.
    pub(super) at: MonotonicTime,
    /// Time of the calendar or slot to which it belongs.
    pub(super) moment: UtcMicros,
    /// Offset of the wall clock from the monotonic clock when the start was planned.
    ahead: Micros,
    /// Whether it has been postponed once because the machine was suspended.
    spread: bool,
}

impl Start {
    pub(super) fn new(moment: UtcMicros, now: Now) -> Self {
        Self { at: now.steady_at(moment), moment, ahead: ahead(now), spread: false }
    }
}

impl Start {
    /// Returns a start that belongs to no time of a calendar or slot.
    pub(super) fn at(at: MonotonicTime, now: Now) -> Self {
        Self::new(now.wall_at(at), now)
    }
}

fn apart(one: Micros, other: Micros) -> Micros {
    Micros(one.0.saturating_sub(other.0).saturating_abs())
}

fn ahead(now: Now) -> Micros {
    Micros(now.wall.0.saturating_sub(now.steady.0))
}

/// Returns the next start of a monitor. `last` is the time of its calendar that was used last.
pub(super) fn first(
    config: &Config,
    monitor: &Monitor,
    last: Option<UtcMicros>,
    now: Now,
) -> Start {
    let moment = match &monitor.calendar {
        Some(calendar) => coming(calendar, last, now.wall),
        None => slot::next(&config.site, monitor, now.wall),
    };
    Start::new(moment, now)
}

/// Returns the start that follows one that is due now.
pub(super) fn following(config: &Config, monitor: &Monitor, due: Start, now: Now) -> Start {
    if let Some(calendar) = &monitor.calendar {
        return Start::new(coming(calendar, Some(due.moment), now.wall), now);
    }
    let mut moment = slot::next(&config.site, monitor, now.wall);
    let interval = monitor.test_interval;
    if apart(ahead(now), due.ahead) > Micros((interval.0 / 1000).max(50_000))
        && moment - now.wall < Micros(interval.0 / 2)
    {
        // By the new time, its slot is about to come, which would mean two tests in a row.
        moment = slot::next(&config.site, monitor, moment);
    }
    Start::new(moment, now)
}

/// Returns the next time of a calendar, of which `last` was used last.
fn coming(calendar: &Calendar, last: Option<UtcMicros>, now: UtcMicros) -> UtcMicros {
    let next = |after: UtcMicros| calendar.next(after).unwrap_or(after + LOOKED_AGAIN);
    let coming = next(now);
    let Some(last) = last.filter(|last| coming <= *last) else {
        return coming;
    };
    // The wall clock is back before the time used last.
    let (fresh, behind) = (next(last), last - now);
    let gap = (fresh - last).0;
    if behind < CORRECTION && (fresh - now).0 <= gap.saturating_mul(2) { fresh } else { coming }
}

/// The starts in order. If a monitor has several entries, only the one in `planned` is valid.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(MonotonicTime, MonitorId)>>,
    planned: HashMap<MonitorId, Start>,
    /// Time of its calendar that each monitor used last.
    taken: HashMap<MonitorId, UtcMicros>,
    /// Offset of the wall clock from the monotonic clock when the calendars were last updated.
    followed: Micros,
}

impl Queue {
    pub(super) fn plan(&mut self, monitor: &MonitorId, start: Start) {
        self.planned.insert(monitor.clone(), start);
        self.heap.push(Reverse((start.at, monitor.clone())));
    }

    /// Moves a start to an earlier time, never to a later one.
    pub(super) fn plan_earlier(&mut self, monitor: &MonitorId, at: MonotonicTime, now: Now) {
        if let Some(planned) = self.planned.get(monitor).filter(|planned| at < planned.at) {
            let start = Start { spread: planned.spread, ..Start::at(at, now) };
            self.plan(monitor, start);
        }
    }

    /// Returns the planned start of a monitor.
    pub(super) fn planned(&self, monitor: &MonitorId) -> Option<Start> {
        self.planned.get(monitor).copied()
    }

    /// Returns the time of its calendar that a monitor used last.
    pub(super) fn taken(&self, monitor: &MonitorId) -> Option<UtcMicros> {
        self.taken.get(monitor).copied()
    }

    /// Records that a monitor used this time of its calendar.
    pub(super) fn take(&mut self, monitor: &MonitorId, moment: UtcMicros) {
        self.taken.insert(monitor.clone(), moment);
    }

    /// Removes monitors that are no longer tested.
    pub(super) fn retain(&mut self, is_tested: impl Fn(&MonitorId) -> bool) {
        self.planned.retain(|id, _| is_tested(id));
        self.taken.retain(|id, _| is_tested(id));
    }

    pub(super) fn forget(&mut self, monitor: &MonitorId) {
        self.planned.remove(monitor);
    }

    /// Returns the next due start.
    pub(super) fn pop(&mut self, now: Now) -> Option<(MonitorId, Start)> {
        while let Some(Reverse((at, monitor))) = self.heap.peek() {
            let Some(start) = self.planned.get(monitor).filter(|start| start.at == *at) else {
                self.heap.pop();
                continue;
            };
            if *at > now.steady {
                return None;
            }
            let start = *start;
            return self.heap.pop().map(|Reverse((_, monitor))| (monitor, start));
        }
        None
    }

    /// Postpones a start that was missed during a suspension, so that not all start at the same
    /// time, or that is not due yet by a slewed wall clock; returns whether it did.
    pub(super) fn put_off(
        &mut self,
        config: &Config,
        monitor: &Monitor,
        due: Start,
        now: Now,
    ) -> bool {
        if monitor.calendar.is_some() {
            let is_early = due.moment > now.wall;
            if is_early {
                self.plan(&monitor.id, Start::new(due.moment, now));
            }
            return is_early;
        }
        if due.spread || now.steady - due.at <= SLEPT {
            return false;
        }
        let within = Micros(SPREAD.0.min(monitor.test_interval.0));
        let at = now.steady + slot::offset(config.site.as_str(), monitor.id.as_str(), within);
        let start = Start { spread: true, ..Start::at(at, now) };
        self.plan(&monitor.id, start);
        true
    }

    pub(super) fn next(&self) -> Option<MonotonicTime> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Adjusts the calendars to the wall clock, which may have been set or slewed since they were
    /// planned.
    pub(super) fn follow(&mut self, config: &Config, now: Now) {
        if apart(ahead(now), self.followed) <= SLEWED {
            return;
        }
        self.followed = ahead(now);
        let calendars: Vec<(MonitorId, Start)> = self
            .planned
            .iter()
            .filter_map(|(id, planned)| {
                let calendar = config.monitors.get(id)?.calendar.as_ref()?;
                let jumped_over = planned.moment <= now.wall;
                let start = if jumped_over && now.wall - planned.moment < CORRECTION {
                    Start { at: now.steady, ahead: ahead(now), ..*planned }
                } else {
                    Start::new(coming(calendar, self.taken(id), now.wall), now)
                };
                ((start.at, start.moment) != (planned.at, planned.moment))
                    .then(|| (id.clone(), start))
            })
            .collect();
        for (id, start) in calendars {
            self.plan(&id, start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_base::clock::Clock;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    /// 2026-11-26T00:00:00Z, a Thursday.
    const MIDNIGHT: i64 = 1_795_651_200_000_000;

    /// Returns a configuration with one monitor and the given timing.
    fn config(timing: &str) -> Config {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("mailqos.toml");
        let text = format!(
            "site = \"here\"\ntimezone = \"UTC\"\n[account.a]\nuser = \"a\"\npassword = {{ env = \"A\" }}\n[object.o]\naddress = \"o\"\n\
             [monitor.m]\nobject = \"o\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"\n{timing}\nmax_round_trip = \"400ms\"\n\
             check_interval = \"100ms\"\nsmtp = {{ account = \"a\" }}\npickup = {{ account = \"a\" }}\n"
        );
        std::fs::write(&path, text).expect("write");
        mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// A scheduler without tests that records starts by both clocks.
    struct Scene {
        config: Config,
        clock: Clock,
        queue: Queue,
        started: Vec<Now>,
    }

    impl Scene {
        fn begin(timing: &str, at: i64) -> Self {
            let config = config(timing);
            let clock = Clock::manual(UtcMicros(at));
            let mut queue = Queue::default();
            let monitor = &config.monitors["m"];
            queue.plan(&monitor.id, first(&config, monitor, None, clock.now()));
            Self { config, clock, queue, started: Vec::new() }
        }

        fn look(&mut self) {
            let now = self.clock.now();
            self.queue.follow(&self.config, now);
            while let Some((id, start)) = self.queue.pop(now) {
                let monitor = &self.config.monitors[id.as_str()];
                if self.queue.put_off(&self.config, monitor, start, now) {
                    continue;
                }
                if monitor.calendar.is_some() {
                    self.queue.take(&id, start.moment);
                }
                let following = following(&self.config, monitor, start, now);
                self.queue.plan(&id, following);
                self.started.push(now);
            }
        }

        fn run(&mut self, time: i64) {
            let step = 500_000;
            for _ in 0..time / step {
                self.clock.advance(Micros(step));
                self.look();
            }
        }

        fn step(&mut self, by: i64) {
            self.clock.step(Micros(by));
            self.look();
        }

        /// Returns the minutes of the day at which tests were started, by the wall clock.
        fn minutes(&self) -> Vec<i64> {
            let minute = |now: &Now| (now.wall.0 - MIDNIGHT).div_euclid(MINUTE);
            self.started.iter().map(minute).collect()
        }
    }

    #[test]
    fn correcting_the_clock_by_an_hour_stops_no_test() {
        // The case of the issue: an hour ahead, then corrected, with a test every two seconds.
        for step in [-HOUR, HOUR, -26 * HOUR, 400 * 24 * HOUR] {
            let mut scene = Scene::begin("test_interval = \"2s\"", MIDNIGHT + 12 * HOUR);
            scene.run(20 * SECOND);
            let before = scene.started.len();
            scene.step(step);
            scene.run(25 * SECOND);
            let after = scene.started.len() - before;
            assert!((11..=14).contains(&after), "{step}: {after} tests");
        }
    }

    proptest! {
        #[test]
        fn tests_keep_their_pace_whatever_the_wall_clock_does(
            interval in 2i64..600,
            steps in proptest::collection::vec((1i64..2_000, -9 * HOUR..9 * HOUR), 0..12),
        ) {
            let mut scene = Scene::begin(&format!("test_interval = \"{interval}s\""), MIDNIGHT);
            scene.run(2 * interval * SECOND);
            for (pause, by) in steps {
                scene.run(pause * SECOND);
                scene.step(by);
            }
            scene.run(4 * interval * SECOND);
            let gaps: Vec<i64> = scene.started.windows(2).map(|two| (two[1].steady - two[0].steady).0).collect();
            prop_assert!(!gaps.is_empty());
            for gap in gaps {
                // Starts vary by up to a second, or half the interval; the queue is checked every
                // half second.
                let slack = 2 * SECOND;
                prop_assert!(gap >= interval * SECOND / 2 - slack, "{gap}");
                prop_assert!(gap <= interval * SECOND * 3 / 2 + slack, "{gap}");
            }
        }
    }

    #[test]
    fn a_daily_test_is_made_up_for_once_and_never_duplicated() {
        // Forward past it: once, immediately. (cron(8): "run as soon as possible")
        let mut scene = Scene::begin("schedule = \"30 2 * * *\"", MIDNIGHT + 2 * HOUR);
        scene.run(MINUTE);
        scene.step(2 * HOUR);
        scene.run(MINUTE);
        assert_eq!(scene.minutes(), [241]);
        // A step back before it: it was already used.
        scene.step(-2 * HOUR);
        scene.run(HOUR);
        assert_eq!(scene.minutes(), [241]);
        // By more than three hours: a correction, so nothing is made up for, and the new time
        // counts.
        let mut scene = Scene::begin("schedule = \"30 2 * * *\"", MIDNIGHT + 2 * HOUR);
        scene.step(5 * HOUR);
        scene.run(MINUTE);
        assert_eq!(scene.minutes(), [0; 0]);
        scene.step(-5 * HOUR);
        scene.run(HOUR);
        assert_eq!(scene.minutes(), [150]);
        scene.step(-5 * HOUR);
        scene.run(6 * HOUR);
        assert_eq!(scene.minutes(), [150, 150]);
    }

    #[test]
    fn a_frequent_calendar_repeats_no_minute_and_has_no_long_gap() {
        // A minute and a half back: the two minutes already used don't start tests again.
        let mut scene = Scene::begin("schedule = \"*/5 * * * *\"", MIDNIGHT + 12 * HOUR - SECOND);
        scene.run(6 * MINUTE);
        assert_eq!(scene.minutes(), [720, 725]);
        scene.step(-90 * SECOND);
        scene.run(7 * MINUTE);
        assert_eq!(scene.minutes(), [720, 725, 730]);
        // An hour back: it continues by the new time.
        scene.step(-HOUR);
        scene.run(11 * MINUTE);
        assert_eq!(scene.minutes(), [720, 725, 730, 675, 680]);
        // A step forward over many: one of them is made up for.
        scene.step(HOUR);
        scene.run(SECOND);
        assert_eq!(scene.minutes().len(), 6);
    }

    #[test]
    fn a_calendar_follows_a_slewed_clock() {
        let mut scene = Scene::begin("schedule = \"0 6 * * *\"", MIDNIGHT);
        for _ in 0..6 * 60 {
            // 500 µs per second, the maximum rate at which NTP slews.
            scene.clock.step(Micros(30_000));
            scene.run(MINUTE);
        }
        assert_eq!(scene.minutes(), [360]);
        let late = scene.started[0].wall.0 - MIDNIGHT - 6 * HOUR;
        assert!((0..SECOND).contains(&late), "{late}");
    }

    #[test]
    fn tests_missed_during_a_suspension_are_neither_made_up_for_nor_started_together() {
        let mut scene = Scene::begin("test_interval = \"60s\"", MIDNIGHT);
        scene.run(3 * MINUTE);
        let before = scene.started.len();
        // Eight hours of suspension: both clocks have continued.
        scene.clock.advance(Micros(8 * HOUR));
        scene.look();
        assert_eq!(scene.started.len(), before);
        scene.run(SPREAD.0 + SECOND);
        assert_eq!(scene.started.len(), before + 1);
        scene.run(10 * MINUTE);
        assert!(
            (before + 10..=before + 12).contains(&scene.started.len()),
            "{}",
            scene.started.len()
        );
        // A daily test missed during the suspension is made up for, as anacron does.
        let mut daily = Scene::begin("schedule = \"30 2 * * *\"", MIDNIGHT + HOUR);
        daily.clock.advance(Micros(8 * HOUR));
        daily.look();
        assert_eq!(daily.minutes(), [9 * 60]);
    }

    #[test]
    fn a_start_moved_forward_runs_once() {
        let clock = Clock::manual(UtcMicros(0));
        let id: MonitorId = "m0".parse().expect("a name");
        let mut queue = Queue::default();
        let start = |at: i64| Start::new(UtcMicros(at), clock.now());
        queue.plan(&id, start(100));
        queue.plan_earlier(&id, MonotonicTime(50), clock.now());
        queue.plan_earlier(&id, MonotonicTime(70), clock.now());
        clock.advance(Micros(49));
        assert_eq!(queue.pop(clock.now()), None);
        clock.advance(Micros(151));
        assert_eq!(queue.pop(clock.now()).map(|(_, start)| start.at), Some(MonotonicTime(50)));
        queue.plan(&id, Start::new(UtcMicros(300), clock.now()));
        clock.advance(Micros(99));
        assert_eq!(queue.pop(clock.now()), None);
        clock.advance(Micros(1));
        assert_eq!(queue.pop(clock.now()).map(|(_, start)| start.at), Some(MonotonicTime(300)));
    }
}
