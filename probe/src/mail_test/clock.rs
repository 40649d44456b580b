//! Learns the clocks of servers from their timestamps: interval-based clock synchronisation (K.
//! Marzullo and S. Owicki, "Maintaining the Time in a Distributed System", 1983; RFC 5905, section
//! 11.2.1).
//!
//! Each stamp whose time is known within bounds restricts the clock's offset to an interval. All
//! intervals that agree, over a sliding window, leave a region of (offset, rate); its extent at a
//! given time bounds the offset there. Stamps that are truncated to whole seconds thus bound the
//! offset far more closely than a second, because they occur at all parts of a second.
//!
//! One name may belong to several clocks (a cluster), and a clock may be set. If readings
//! contradict each other too often, only the spread of the closely known ones is stated. Nothing
//! learned here is ever part of a guarantee.

use std::collections::{HashMap, VecDeque};

use mailqos_model::{Micros, UtcMicros};

use super::moment::{Bounds, Moment};

/// Number of readings that are evaluated per clock.
const WINDOW: usize = 128;
/// Age above which readings are ignored.
const OLDEST: Micros = Micros::from_secs(12 * 3600);
/// Minimum number of agreeing readings for a statement.
const MIN: usize = 5;
/// Number of readings that contradict all others, with none agreeing since the first of them, after
/// which the clock counts as set.
const STEP: usize = 3;
/// Number of latest readings, any of which contradicting the others makes the clock unreliable.
const DOUBTED: usize = 2;
/// Maximum rate error of a clock, in µs per second: the tolerance of RFC 5905 (MAXFREQ).
const FASTEST: f64 = 500.0;
/// Maximum drift of a clock's rate, in µs per second of a reading's age: mostly due to temperature.
const WANDER: f64 = 2.0;
/// Maximum number of contradicting readings among the last [`RECENT`] ones; with more, the clock is
/// not relied on.
const MAX_FALSE_STATEMENTS: usize = 4;
const RECENT: usize = 32;
/// Maximum number of clocks to remember; the most recently read ones are kept.
const MAX_CLOCKS: usize = 512;
/// Width in µs below which a reading is close enough to describe a clock that contradicts itself.
const CLOSE: i64 = 2_500_000;
/// Minimum number of close readings for a statement about a clock that contradicts itself.
const MIN_CLOSE: usize = 12;
/// Maximum number of clocks, and of readings of each, that are kept across restarts.
const MAX_KEPT: usize = 128;
const READINGS_KEPT: usize = 64;
/// Amount by which a reading widens when it is kept across a restart: immediately, and per second
/// of the pause. The machine's own clock measures the pause, and a clock under NTP drifts by up to
/// 15 ppm (RFC 5905, PHI).
const RESTART_SLACK: i64 = 10_000;
const RESTART_PPM: f64 = 20.0;

/// A reading of a clock: between `at` and `at + resolution`, in µs by that clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) at: i64,
    pub(super) resolution: Micros,
}

/// An interval that contains a clock's offset (its time minus ours) at a given time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Moment,
    least: i64,
    most: i64,
}

impl Reading {
    fn new(stamp: Stamp, bounds: Bounds) -> Self {
        let width = (bounds.before - bounds.after).0;
        // The offset itself may change within the bounds.
        let moves = (width as f64 / 2e6 * FASTEST).ceil() as i64;
        Self {
            at: bounds.after + Micros(width / 2),
            least: bounds.before.offset_of(stamp.at).saturating_sub(moves),
            most: bounds
                .after
                .offset_of(stamp.at)
                .saturating_add(stamp.resolution.0)
                .saturating_add(moves),
        }
    }
}

/// A point of the region: rate in µs per second, offset in µs from a base.
type Point = (f64, f64);

/// The region that a set of readings leaves possible around a given time.
struct Region {
    corners: Vec<Point>,
    base: i64,
    around: Moment,
}

impl Region {
    fn new(around: Moment, first: &Reading) -> Self {
        // Wide enough for the first reading from anywhere in the window.
        let spread = (first.most - first.least) as f64 + 2.0 * FASTEST * OLDEST.0 as f64 / 1e6;
        Self {
            corners: vec![
                (-FASTEST, -spread),
                (FASTEST, -spread),
                (FASTEST, spread),
                (-FASTEST, spread),
            ],
            base: first.least,
            around,
        }
    }

    /// Removes the part that a reading excludes; returns `false` if nothing is left.
    fn cut(&mut self, reading: &Reading) -> bool {
        let seconds = (reading.at - self.around).0 as f64 / 1e6;
        let slack = WANDER * seconds.abs();
        let least = (reading.least - self.base) as f64 - slack;
        let most = (reading.most - self.base) as f64 + slack;
        self.keep(|(rate, offset)| offset + rate * seconds - least);
        self.keep(|(rate, offset)| most - offset - rate * seconds);
        !self.corners.is_empty()
    }

    /// Keeps the half plane in which `inside` is not negative (Sutherland and Hodgman, 1974).
    fn keep(&mut self, inside: impl Fn(Point) -> f64) {
        let mut kept = Vec::with_capacity(self.corners.len() + 2);
        for (number, corner) in self.corners.iter().enumerate() {
            let next = self.corners[(number + 1) % self.corners.len()];
            let (here, there) = (inside(*corner), inside(next));
            if here >= 0.0 {
                kept.push(*corner);
            }
            if (here >= 0.0) != (there >= 0.0) {
                let share = here / (here - there);
                kept.push((
                    corner.0 + share * (next.0 - corner.0),
                    corner.1 + share * (next.1 - corner.1),
                ));
            }
        }
        self.corners = kept;
    }

    /// Returns the minimum and maximum of the offset at the time around which the region lies.
    fn offset(&self) -> Option<(i64, i64)> {
        let offsets = self.corners.iter().map(|(_, offset)| *offset);
        let least = offsets.clone().reduce(f64::min)?;
        let most = offsets.reduce(f64::max)?;
        Some((self.base + least.floor() as i64, self.base + most.ceil() as i64))
    }
}

/// Knowledge about a clock.
#[derive(Debug, Default)]
struct Clock {
    /// The last readings, oldest first, each with whether it agrees with the others.
    readings: VecDeque<(Reading, bool)>,
    /// Whether each of the last readings agreed. Kept when a clock that was set is learned again.
    recent: VecDeque<bool>,
}

impl Clock {
    /// Returns the region that these readings allow.
    fn region<'a>(around: Moment, readings: impl Iterator<Item = &'a Reading>) -> Option<Region> {
        let mut region: Option<Region> = None;
        for reading in readings {
            if !region.get_or_insert_with(|| Region::new(around, reading)).cut(reading) {
                return None;
            }
        }
        region
    }

    /// Returns the agreeing readings, newest first.
    fn agreed(&self) -> impl Iterator<Item = &Reading> {
        self.readings.iter().rev().filter_map(|(reading, agreed)| agreed.then_some(reading))
    }

    fn note(&mut self, reading: Reading) {
        while self.readings.front().is_some_and(|(oldest, _)| {
            self.readings.len() >= WINDOW || reading.at - oldest.at > OLDEST
        }) {
            self.readings.pop_front();
        }
        let agrees =
            Self::region(reading.at, std::iter::once(&reading).chain(self.agreed())).is_some();
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(agrees);
        self.readings.push_back((reading, agrees));
        if !agrees {
            self.forget_what_was_before();
        }
    }

    /// Drops the readings from before the clock was set. It was set if several readings contradict
    /// the others, and all since the first of them agree. Coarse readings in between may also agree
    /// with the earlier ones.
    fn forget_what_was_before(&mut self) {
        let against = self.readings.iter().enumerate().rev().filter(|(_, (_, agreed))| !agreed);
        let Some((first, _)) = against.clone().nth(STEP - 1) else {
            return;
        };
        let newest = self.readings.len() - 1;
        let since = self.readings.range(first..).rev().map(|(reading, _)| reading);
        if Self::region(self.readings[newest].0.at, since).is_none() {
            return;
        }
        self.readings.drain(..first);
        for (_, agreed) in &mut self.readings {
            *agreed = true;
        }
    }

    /// Returns the bounds of the offset at a time, assuming a single steady clock, if they are
    /// known.
    fn steady(&self, at: Moment) -> Option<(i64, i64)> {
        let lies = self.recent.iter().filter(|agreed| !**agreed).count();
        let in_doubt = self.readings.iter().rev().take(DOUBTED).any(|(_, agreed)| !agreed);
        if in_doubt || lies > MAX_FALSE_STATEMENTS || self.agreed().count() < MIN {
            return None;
        }
        Self::region(at, self.agreed())?.offset()
    }

    /// Returns the range of all recently seen offsets, for several clocks behind one name.
    fn varied(&self) -> Option<(i64, i64)> {
        let close = || {
            let readings = self.readings.iter().map(|(reading, _)| reading);
            readings.filter(|reading| reading.most - reading.least <= CLOSE)
        };
        if close().count() < MIN_CLOSE {
            return None;
        }
        let least = close().map(|reading| reading.least).min()?;
        let most = close().map(|reading| reading.most).max()?;
        Some((least, most))
    }
}

/// All known clocks, by name.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    clocks: HashMap<String, (u64, Clock)>,
    /// Number of readings, to determine which clock was read last.
    count: u64,
}

impl Clocks {
    /// Records that a clock showed a stamp at a time within these bounds.
    pub(super) fn note(&mut self, name: &str, stamp: Stamp, bounds: Bounds) {
        self.count += 1;
        if !self.clocks.contains_key(name) && self.clocks.len() >= MAX_CLOCKS {
            let oldest = self.clocks.iter().min_by_key(|(_, (read, _))| *read);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.clocks.remove(&oldest);
            }
        }
        let (read, clock) = self.clocks.entry(name.to_owned()).or_default();
        *read = self.count;
        clock.note(Reading::new(stamp, bounds));
    }

    /// Returns the time, on our clock, at which a clock showed this stamp, if known; `around` is
    /// any time near it. Uses the first of the names that is known as a steady clock, otherwise the
    /// first that is known at all.
    pub(super) fn when(
        &self,
        names: &[String],
        stamp: Stamp,
        around: Moment,
    ) -> Option<(Bounds, ClockBehaviour)> {
        let known = || names.iter().filter_map(|name| self.clocks.get(name));
        let steady =
            known().find_map(|(_, clock)| Some((clock.steady(around)?, ClockBehaviour::Steady)));
        let told = steady.or_else(|| {
            known().find_map(|(_, clock)| Some((clock.varied()?, ClockBehaviour::Varied)))
        });
        let ((least, most), habit) = told?;
        let bounds = Bounds {
            after: Moment::at_offset(stamp.at, most),
            before: Moment::at_offset(stamp.at.saturating_add(stamp.resolution.0), least),
        };
        Some((bounds, habit))
    }

    /// Returns the data to keep across a restart, recently read clocks first.
    pub(super) fn kept(&self, anchor: Anchor) -> Vec<StoredClock> {
        let mut clocks: Vec<_> = self.clocks.iter().collect();
        clocks.sort_by_key(|(_, (read, _))| std::cmp::Reverse(*read));
        let kept = clocks.into_iter().take(MAX_KEPT).map(|(name, (_, clock))| StoredClock {
            name: name.clone(),
            readings: {
                let skipped = clock.readings.len().saturating_sub(READINGS_KEPT);
                let readings = clock.readings.iter().skip(skipped);
                readings
                    .map(|(reading, agreed)| {
                        let Reading { at, least, most } = *reading;
                        let offset = |value: i64| value.saturating_sub(anchor.0);
                        (anchor.wall(at).0, offset(least), offset(most), *agreed)
                    })
                    .collect()
            },
        });
        kept.collect()
    }

    /// Restores the data of an earlier process, which ended `pause` ago.
    pub(super) fn of_kept(kept: Vec<StoredClock>, anchor: Anchor, pause: Micros) -> Self {
        let slack =
            RESTART_SLACK.saturating_add((pause.0.max(0) as f64 / 1e6 * RESTART_PPM) as i64);
        let mut clocks = Self::default();
        for (count, StoredClock { name, readings }) in
            kept.into_iter().take(MAX_KEPT).rev().enumerate()
        {
            let mut clock = Clock::default();
            for (at, least, most, agreed) in readings.into_iter().take(READINGS_KEPT) {
                let offset = |value: i64| value.saturating_add(anchor.0);
                let reading = Reading {
                    at: anchor.moment(UtcMicros(at)),
                    least: offset(least).saturating_sub(slack),
                    most: offset(most).saturating_add(slack),
                };
                let is_in_order =
                    clock.readings.back().is_none_or(|(last, _)| last.at <= reading.at);
                if reading.least <= reading.most && is_in_order && reading.at <= Moment::now() {
                    clock.readings.push_back((reading, agreed));
                    clock.recent.push_back(agreed);
                }
            }
            while clock.recent.len() > RECENT {
                clock.recent.pop_front();
            }
            // If the machine's own clock was set in the meantime, the first mails reveal it.
            clocks.count = count as u64 + 1;
            clocks.clocks.insert(name, (clocks.count, clock));
        }
        clocks
    }
}

/// Behaviour of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockBehaviour {
    /// A single steady clock.
    Steady,
    /// Several clocks, or one that is set occasionally.
    Varied,
}

/// The wall clock at the start of this process's monotonic one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor(i64);

impl Anchor {
    pub(super) fn now() -> Self {
        Self(Moment::of_micros(0).on_wall().0)
    }

    fn wall(self, moment: Moment) -> UtcMicros {
        UtcMicros((moment - Moment::of_micros(0)).0.saturating_add(self.0))
    }

    fn moment(self, wall: UtcMicros) -> Moment {
        Moment::of_micros(wall.0.saturating_sub(self.0))
    }
}

/// A clock as stored across restarts: times and offsets by the wall clock, in µs.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct StoredClock {
    name: String,
    /// Time, minimum and maximum offset, and whether it agreed with the others; oldest first.
    readings: Vec<(i64, i64, i64, bool)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    /// A clock that is off by `offset` µs at time 0 and gains `ppm`.
    #[derive(Debug, Clone, Copy)]
    struct Truth {
        offset: i64,
        ppm: f64,
    }

    impl Truth {
        fn shows(self, at: i64) -> i64 {
            at + self.offset + (at as f64 * self.ppm / 1e6).round() as i64
        }

        fn stamp(self, at: i64) -> Stamp {
            Stamp { at: self.shows(at).div_euclid(SECOND) * SECOND, resolution: Micros(SECOND) }
        }
    }

    fn bounds(after: i64, before: i64) -> Bounds {
        Bounds { after: Moment::of_micros(after), before: Moment::of_micros(before) }
    }

    /// Returns the time at which a steady clock showed a stamp.
    fn when(clocks: &Clocks, stamp: Stamp, around: i64) -> Option<Bounds> {
        let told = clocks.when(&["it".to_owned()], stamp, Moment::of_micros(around));
        told.and_then(|(bounds, habit)| (habit == ClockBehaviour::Steady).then_some(bounds))
    }

    fn width(bounds: Bounds) -> i64 {
        (bounds.before - bounds.after).0
    }

    proptest! {
        #[test]
        fn the_true_time_is_within_the_stated_bounds(
            offset in -100 * SECOND..100 * SECOND,
            ppm in -100.0..100.0_f64,
            gaps in proptest::collection::vec((0..600 * SECOND, 0..15 * SECOND, 0..15 * SECOND), 1..80),
        ) {
            let truth = Truth { offset, ppm };
            let mut clocks = Clocks::default();
            let mut now = 0;
            for (gap, before, after) in gaps {
                now += gap;
                let stamp = truth.stamp(now);
                clocks.note("it", stamp, bounds(now - before, now + after));
                if let Some(told) = when(&clocks, stamp, now) {
                    prop_assert!(told.after <= Moment::of_micros(now) && Moment::of_micros(now) <= told.before);
                }
            }
            let (_, clock) = &clocks.clocks["it"];
            prop_assert!(clock.readings.iter().all(|(_, agreed)| *agreed));
            prop_assert!(clock.recent.iter().all(|agreed| *agreed));
        }
    }

    /// Returns the times of mails, 10 to 30 seconds apart, at all parts of a second.
    fn moments(count: i64) -> impl Iterator<Item = i64> {
        (0..count).map(|number| number * 20 * SECOND + number * 7_654_321 % (10 * SECOND))
    }

    #[test]
    fn many_whole_second_stamps_narrow_the_offset_below_a_second() {
        let truth = Truth { offset: 37 * SECOND, ppm: 20.0 };
        let mut clocks = Clocks::default();
        let mut last = 0;
        for now in moments(30) {
            clocks.note("it", truth.stamp(now), bounds(now - 3_000, now + 3_000));
            last = now;
        }
        let told = when(&clocks, truth.stamp(last), last).expect("it is known");
        // Apart from a small margin, only the second itself remains.
        assert!(width(told) < 1_200_000, "{}", width(told));
    }

    #[test]
    fn nothing_is_stated_with_few_or_contradictory_readings() {
        let truth = Truth { offset: 0, ppm: 0.0 };
        let mut clocks = Clocks::default();
        let mut told = Vec::new();
        for now in moments(6) {
            clocks.note("it", truth.stamp(now), bounds(now - 3_000, now + 3_000));
            told.push(when(&clocks, truth.stamp(now), now).is_some());
        }
        assert_eq!(told, [false, false, false, false, true, true]);
        let set = Truth { offset: 5 * SECOND, ppm: 0.0 };
        let now = 200 * SECOND;
        clocks.note("it", set.stamp(now), bounds(now - 3_000, now + 3_000));
        assert_eq!(when(&clocks, set.stamp(now), now), None);
        // A clock that was wrong once is trusted again.
        for (now, believed) in [(220, false), (240, true)] {
            let now = now * SECOND;
            clocks.note("it", truth.stamp(now), bounds(now - 3_000, now + 3_000));
            let told = when(&clocks, truth.stamp(now), now);
            assert_eq!(told.is_some(), believed);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_learned_again() {
        let (before, after) =
            (Truth { offset: 0, ppm: 0.0 }, Truth { offset: -90 * SECOND, ppm: 0.0 });
        let mut clocks = Clocks::default();
        for (number, now) in moments(40).enumerate() {
            let truth = if number < 20 { before } else { after };
            clocks.note("it", truth.stamp(now), bounds(now - 3_000, now + 3_000));
            let told = when(&clocks, truth.stamp(now), now);
            assert_eq!(told.is_some(), (4..20).contains(&number) || number >= 24, "{number}");
            if let Some(told) = told {
                assert!(
                    told.after <= Moment::of_micros(now) && Moment::of_micros(now) <= told.before
                );
            }
        }
    }

    #[test]
    fn ambiguous_coarse_readings_do_not_hide_a_clock_step() {
        let mut clocks = Clocks::default();
        for (number, now) in moments(60).enumerate() {
            let offset = if number < 20 { 0 } else { SECOND };
            let truth = Truth { offset, ppm: -50.0 };
            clocks.note("it", truth.stamp(now), bounds(now - 3_000, now + 3_000));
            clocks.note("it", truth.stamp(now + 400_000), bounds(now, now + 15 * SECOND));
            let told = when(&clocks, truth.stamp(now), now);
            assert_eq!(told.is_some(), (2..20).contains(&number) || number >= 22, "{number}");
            if let Some(told) = told {
                assert!(
                    told.after <= Moment::of_micros(now) && Moment::of_micros(now) <= told.before
                );
            }
        }
    }

    #[test]
    fn a_contradictory_clock_does_not_count_as_one_clock() {
        // Three machines with the same name, up to ten seconds apart.
        let mut clocks = Clocks::default();
        for (number, now) in moments(60).enumerate() {
            let offset = [0, -3 * SECOND, 7 * SECOND][number * number % 11 % 3];
            let truth = Truth { offset, ppm: 0.0 };
            clocks.note("it", truth.stamp(now), bounds(now - 3_000, now + 3_000));
            if number > 20 {
                assert_eq!(when(&clocks, truth.stamp(now), now), None);
                let told =
                    clocks.when(&["it".to_owned()], truth.stamp(now), Moment::of_micros(now));
                let (told, habit) = told.expect("the spread is known");
                assert_eq!(habit, ClockBehaviour::Varied);
                assert!(
                    told.after <= Moment::of_micros(now) && Moment::of_micros(now) <= told.before
                );
                assert!((9 * SECOND..13 * SECOND).contains(&width(told)), "{told:?}");
            }
        }
    }

    #[test]
    fn calibration_after_a_restart_is_wider_the_longer_the_pause() {
        let truth = Truth { offset: 37 * SECOND, ppm: 0.0 };
        let now = Moment::now();
        let past = (now - Moment::of_micros(0)).0 - 700 * SECOND;
        let mut clocks = Clocks::default();
        for moment in moments(30) {
            let at = past + moment;
            clocks.note("it", truth.stamp(at), bounds(at - 3_000, at + 3_000));
        }
        let at = past + 600 * SECOND;
        let known = width(when(&clocks, truth.stamp(at), at).expect("it is known"));
        let anchor = Anchor::now();
        let after = |pause: i64| {
            let again = Clocks::of_kept(clocks.kept(anchor), anchor, Micros(pause));
            let told = when(&again, truth.stamp(at), at).expect("it is still known");
            assert!(told.after <= Moment::of_micros(at) && Moment::of_micros(at) <= told.before);
            width(told)
        };
        let (soon, later) = (after(10 * SECOND), after(6 * 3600 * SECOND));
        assert!(known < soon && soon < known + 100_000, "{known} {soon}");
        assert!(soon + 500_000 < later, "{soon} {later}");
        // The result is the same for the monotonic clock of another process.
        let other = Anchor(anchor.0 + 5_000 * SECOND);
        let again = Clocks::of_kept(clocks.kept(anchor), other, Micros(10 * SECOND));
        let stamp = truth.stamp(at);
        let told = when(&again, stamp, at - 5_000 * SECOND).expect("it is still known");
        let at = Moment::of_micros(at - 5_000 * SECOND);
        assert!(told.after <= at && at <= told.before);
    }

    #[test]
    fn the_number_of_remembered_clocks_is_limited() {
        let mut clocks = Clocks::default();
        for number in 0..2 * MAX_CLOCKS {
            clocks.note(&number.to_string(), Truth { offset: 0, ppm: 0.0 }.stamp(0), bounds(0, 1));
        }
        assert_eq!(clocks.clocks.len(), MAX_CLOCKS);
        assert!(clocks.clocks.contains_key(&(2 * MAX_CLOCKS - 1).to_string()));
    }
}
