//! Where the landing of a mail must lie: each piece of evidence bounds it from one side or both.

use std::{sync::OnceLock, time::Instant};

use mailqos_core::model::{Micros, UtcMicros};

/// A moment on this process's monotonic clock; earlier processes' moments are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    pub(super) fn now() -> Self {
        Self::of(Instant::now())
    }

    pub(super) fn of(instant: Instant) -> Self {
        static ANCHOR: OnceLock<Instant> = OnceLock::new();
        let anchor = *ANCHOR.get_or_init(Instant::now);
        let since = Micros::from(instant.saturating_duration_since(anchor));
        let before = Micros::from(anchor.saturating_duration_since(instant));
        Self(since.0 - before.0)
    }

    /// A moment that is known by the wall clock only: it lies in an earlier process.
    pub(super) fn of_wall(moment: UtcMicros) -> Self {
        Self::now() - (UtcMicros::now() - moment)
    }

    /// For timers.
    pub(super) fn instant(self) -> tokio::time::Instant {
        tokio::time::Instant::now() + (self - Self::now()).to_std()
    }
}

impl std::ops::Sub for Moment {
    type Output = Micros;
    fn sub(self, other: Self) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add<Micros> for Moment {
    type Output = Self;
    fn add(self, duration: Micros) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl std::ops::Sub<Micros> for Moment {
    type Output = Self;
    fn sub(self, duration: Micros) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

/// The landing lies between these moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Not before.
    pub(super) after: Moment,
    /// Not later.
    pub(super) before: Moment,
}

impl Bounds {
    /// What the sending and a pick-up tell: it lands after it was sent, and was there when it was listed.
    pub(super) fn new(sent: Moment, not_shown: Option<Moment>, shown: Moment) -> Self {
        let after = not_shown.map_or(sent, |moment| moment.max(sent));
        Self {
            after,
            before: shown.max(after),
        }
    }

    /// The best estimate of the round trip, and half the width of the interval, rounded up: the truth is inside.
    pub(super) fn round_trip(self, sent: Moment) -> (Micros, Micros) {
        let least = (self.after - sent).0;
        let most = (self.before - sent).0;
        let middle = least + (most - least) / 2;
        (Micros(middle), Micros(most - middle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_truth_is_inside(sent in 0..1_000_000_i64, delay in 0..1_000_000_i64, polls in proptest::collection::vec(0..2_000_000_i64, 0..20)) {
            let landing = sent + delay;
            let mut polls = polls;
            polls.sort_unstable();
            let not_shown = polls.iter().rev().find(|poll| **poll < landing).map(|poll| Moment(*poll));
            let shown = polls.iter().find(|poll| **poll >= landing).map_or(3_000_000, |poll| *poll);
            let (round_trip, error) = Bounds::new(Moment(sent), not_shown, Moment(shown)).round_trip(Moment(sent));
            prop_assert!((round_trip.0 - delay).abs() <= error.0);
            prop_assert!(error.0 >= 0 && round_trip.0 >= 0);
        }
    }
}
