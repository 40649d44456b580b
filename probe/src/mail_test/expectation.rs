//! Predicts the arrival of mails. A few extra pick-ups at these times bracket the arrival closely,
//! whatever the check interval.

use std::collections::{HashMap, VecDeque};

use mailqos_model::{Micros, MonitorId};

/// Number of round trips on which an expectation is based.
const HISTORY: usize = 64;
/// Minimum number of known mails; with fewer, pick-ups follow at doubling intervals.
const MIN: usize = 4;
/// Maximum number of monitors whose round trips are stored.
const MAX_MONITORS: usize = 4096;
/// Time between pick-ups plus the duration of a pick-up: the width of a bracket.
const BRACKET: Micros = Micros::from_millis(550);
const SHORTEST_GAP: Micros = Micros::from_millis(200);
const MAX_GAP: Micros = Micros::from_millis(500);
/// Earliest pick-up after sending, and maximum counted width of a bracket if no pick-up catches the
/// mail, in µs.
const SOONEST: i64 = 100_000;
const MISSED: i64 = 3_000_000;
/// Of this many mails, one is looked for around a round trip drawn from the history, so that slow
/// mails are bracketed, too. What is learned from brackets must apply to all mails.
const DRAWN: u64 = 8;

/// Limits of the extra pick-ups for a mail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Maximum number of extra pick-ups.
    pub(super) count: usize,
    /// Duration of one pick-up.
    pub(super) cost: Micros,
    /// Interval of the regular pick-ups.
    pub(super) check_interval: Micros,
    /// Maximum round trip; later pick-ups would not count.
    pub(super) max_round_trip: Micros,
}

/// Recent round trips of each monitor's mails: the lower and upper bound of each, in µs.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Expectations {
    monitors: HashMap<MonitorId, VecDeque<(i64, i64)>>,
}

impl Expectations {
    /// Records the bounds of a mail's round trip.
    pub(super) fn note(&mut self, monitor: &MonitorId, least: Micros, most: Micros) {
        if !self.monitors.contains_key(monitor) && self.monitors.len() >= MAX_MONITORS {
            // Drop everything, including removed monitors; the others are learned again within a
            // few mails.
            self.monitors.clear();
        }
        let known = self.monitors.entry(monitor.clone()).or_default();
        if known.len() >= HISTORY {
            known.pop_front();
        }
        let least = least.0.max(0);
        known.push_back((least, most.0.max(least)));
    }

    /// Returns the times after sending at which to look for a mail, earliest first. `chance` is any
    /// number that differs from mail to mail.
    pub(super) fn looks(&self, monitor: &MonitorId, limits: Limits, chance: u64) -> Vec<Micros> {
        let gap = Micros((BRACKET.0 - limits.cost.0).clamp(SHORTEST_GAP.0, MAX_GAP.0));
        if limits.count == 0 || limits.check_interval <= gap {
            return Vec::new();
        }
        let count = i64::try_from(limits.count).unwrap_or(i64::MAX);
        let history = self.monitors.get(monitor).filter(|known| known.len() >= MIN);
        let looks: Vec<i64> = match history {
            None => (0..count.min(20)).map(|number| gap.0 << number).collect(),
            Some(known) => {
                let drawn = usize::try_from(chance / DRAWN).unwrap_or_default() % known.len();
                let (first, gap) = if chance.is_multiple_of(DRAWN) {
                    let (least, most) = known[drawn];
                    let middle = least + (most - least) / 2;
                    ((middle - gap.0 * (count - 1) / 2).max(gap.0), gap.0)
                } else {
                    best(known, gap.0, count)
                };
                (0..count).map(|number| first + number * gap).collect()
            }
        };
        let in_time = |look: &i64| *look < limits.max_round_trip.0;
        looks.into_iter().filter(in_time).map(Micros).collect()
    }

    /// Limits the data of an earlier process to what this one would keep.
    pub(super) fn limited(mut self) -> Self {
        if self.monitors.len() > MAX_MONITORS {
            return Self::default();
        }
        for known in self.monitors.values_mut() {
            known.retain(|(least, most)| 0 <= *least && least <= most);
            let surplus = known.len().saturating_sub(HISTORY);
            known.drain(..surplus);
        }
        self
    }
}

/// Returns the first pick-up and the gap with which the given number of pick-ups bracket the mails
/// most closely on average.
fn best(known: &VecDeque<(i64, i64)>, gap: i64, count: i64) -> (i64, i64) {
    // The best first pick-up is soon, or at a bound in the history.
    let soon = (1..=20).map(|number| number * SOONEST);
    let ends = known.iter().flat_map(|(least, most)| [*least, *most]);
    let mut firsts: Vec<i64> = soon.chain(ends).map(|first| first.max(SOONEST)).collect();
    firsts.sort_unstable();
    firsts.dedup_by_key(|first| *first / (SOONEST / 2));
    let mut best = (f64::INFINITY, gap, gap);
    for gap in [gap, (gap / 2).max(SHORTEST_GAP.0)] {
        for first in &firsts {
            let width = mean_width(known, *first, gap, count);
            // Larger gaps catch the mail with fewer pick-ups.
            if width < best.0 * 0.99 {
                best = (width, *first, gap);
            }
        }
    }
    (best.1, best.2)
}

/// Returns the mean width of the brackets around these round trips, in µs. The true round trip may
/// be anywhere between its bounds.
fn mean_width(known: &VecDeque<(i64, i64)>, first: i64, gap: i64, count: i64) -> f64 {
    let until = first + (count - 1) * gap;
    let mean_of = |&(least, most): &(i64, i64)| {
        let whole = (most - least).max(1) as f64;
        // The share of arrivals between two times, multiplied by the width of the bracket there.
        let part = |from: i64, to: i64, width: i64| {
            let inside = most.max(least + 1).min(to) - least.max(from);
            inside.max(0) as f64 / whole * width.min(MISSED) as f64
        };
        part(0, first, first) + part(first, until, gap) + part(until, i64::MAX, MISSED)
    };
    known.iter().map(mean_of).sum::<f64>() / known.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        count: 5,
        cost: Micros(50_000),
        check_interval: Micros::from_secs(15),
        max_round_trip: Micros::from_secs(90),
    };

    fn monitor() -> MonitorId {
        "mail".parse().expect("an id")
    }

    fn seconds(looks: &[Micros]) -> Vec<f64> {
        looks.iter().map(|look| look.as_secs_f64()).collect()
    }

    fn of(round_trips: &[(f64, f64)]) -> Expectations {
        let mut expectations = Expectations::default();
        for (least, most) in round_trips {
            let micros = |seconds: &f64| Micros((seconds * 1e6) as i64);
            expectations.note(&monitor(), micros(least), micros(most));
        }
        expectations
    }

    #[test]
    fn at_first_a_mail_is_looked_for_at_doubling_intervals() {
        let looks = Expectations::default().looks(&monitor(), LIMITS, 1);
        assert_eq!(seconds(&looks), [0.5, 1.0, 2.0, 4.0, 8.0]);
    }

    #[test]
    fn pick_ups_are_made_around_the_usual_arrival() {
        let looks = of(&[(60.1, 62.0); 20]).looks(&monitor(), LIMITS, 1);
        let looks = seconds(&looks);
        assert_eq!(looks.len(), 5);
        assert!(looks[0] <= 60.3 && 61.9 <= looks[4], "{looks:?}");
        // Mails that are always fast are bracketed more closely.
        let looks = of(&[(0.05, 0.2); 20]).looks(&monitor(), LIMITS, 1);
        assert!(looks[0] <= Micros::from_millis(250), "{looks:?}");
        // Occasionally, the time is drawn from all round trips.
        let mut slow = vec![(0.5, 1.0); 20];
        slow[7] = (30.0, 30.0);
        let looks = of(&slow).looks(&monitor(), LIMITS, 8 * 7);
        assert!(looks[0] < Micros::from_secs(30) && Micros::from_secs(30) < looks[4]);
    }

    /// A machine starved by other programs: each pick-up takes a third of a second.
    #[test]
    fn mails_that_arrive_immediately_are_looked_for_immediately() {
        let looks = of(&[(0.0, 0.5); 20]).looks(
            &monitor(),
            Limits { cost: Micros::from_millis(350), ..LIMITS },
            1,
        );
        assert!(looks[0] <= Micros::from_millis(250), "{looks:?}");
    }

    #[test]
    fn expectations_without_information_are_omitted() {
        let none = |limits: Limits| Expectations::default().looks(&monitor(), limits, 1).is_empty();
        assert!(none(Limits { count: 0, ..LIMITS }));
        assert!(none(Limits { check_interval: Micros::from_millis(200), ..LIMITS }));
        assert!(none(Limits { max_round_trip: Micros::from_millis(300), ..LIMITS }));
        // On a slow server, pick-ups are further apart, not more frequent.
        let slow = Limits { cost: Micros::from_secs(3), ..LIMITS };
        assert_eq!(Expectations::default().looks(&monitor(), slow, 1).len(), 5);
    }

    proptest! {
        #[test]
        fn pick_ups_are_few_ordered_and_in_time(
            round_trips in proptest::collection::vec((0.0..90.0_f64, 0.0..30.0_f64), 0..80),
            count in 0..20_usize,
            chance in any::<u64>(),
        ) {
            let round_trips: Vec<_> = round_trips.into_iter().map(|(least, width)| (least, least + width)).collect();
            let looks = of(&round_trips).looks(&monitor(), Limits { count, ..LIMITS }, chance);
            prop_assert!(looks.len() <= count);
            prop_assert!(looks.is_sorted());
            prop_assert!(looks.iter().all(|look| Micros::ZERO < *look && *look < LIMITS.max_round_trip));
        }
    }
}
