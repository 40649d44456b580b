//! Times on the probe's own clock, and the bounds between two of them.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use mailqos_base::clock::since_boot;
use mailqos_model::{Micros, UtcMicros};

/// Minimum difference between the clocks that counts as a suspension of the machine.
const ASLEEP: Micros = Micros::from_millis(200);

/// A time on a monotonic clock that continues while the machine is suspended, relative to the start
/// of this process. Times of earlier processes are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(super) i64);

impl Moment {
    pub(crate) fn now() -> Self {
        Self::of(Instant::now())
    }

    /// Returns the time of a recent instant. Instants don't include the time for which the machine
    /// was suspended.
    pub(crate) fn of(instant: Instant) -> Self {
        static ANCHOR: OnceLock<(Instant, Micros)> = OnceLock::new();
        static SLEPT: AtomicI64 = AtomicI64::new(0);
        let read = || (Instant::now(), since_boot());
        let (anchor, booted) = *ANCHOR.get_or_init(read);
        let (present, running) = read();
        let slept =
            (running - booted).0 - Micros::from(present.saturating_duration_since(anchor)).0;
        // The two clocks are not read at exactly the same time.
        if slept > SLEPT.load(Ordering::Relaxed) + ASLEEP.0 {
            SLEPT.fetch_max(slept, Ordering::Relaxed);
        }
        let since = Micros::from(instant.saturating_duration_since(anchor));
        let before = Micros::from(anchor.saturating_duration_since(instant));
        Self(since.0 - before.0 + SLEPT.load(Ordering::Relaxed))
    }

    /// Returns how far a clock that shows `stamp` now is ahead of ours.
    pub(crate) fn offset_of(self, stamp: i64) -> i64 {
        stamp.saturating_sub(self.0)
    }

    /// Returns the time at which a clock that is ahead of ours by `offset` shows `stamp`.
    pub(crate) fn at_offset(stamp: i64, offset: i64) -> Self {
        Self(stamp.saturating_sub(offset))
    }

    pub(crate) fn of_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the time on the wall clock.
    pub(crate) fn on_wall(self) -> UtcMicros {
        UtcMicros::now() + (self - Self::now())
    }

    /// Returns a time that is known only by the wall clock. It belongs to an earlier process,
    /// whatever the clock has been set to since.
    pub(crate) fn of_wall(moment: UtcMicros) -> Self {
        Self::now() - (UtcMicros::now() - moment).max(Micros::ZERO)
    }

    /// Returns the time for timers.
    pub(crate) fn instant(self) -> tokio::time::Instant {
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

/// Bounds of the arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Lower bound.
    pub(super) after: Moment,
    /// Upper bound.
    pub(super) before: Moment,
}

impl Bounds {
    /// Creates the bounds from sending and pick-ups: the mail arrived after it was sent, and was
    /// present when it was listed.
    pub(super) fn new(sent: Moment, not_shown: Option<Moment>, shown: Moment) -> Self {
        let after = not_shown.map_or(sent, |moment| moment.max(sent));
        Self { after, before: shown.max(after) }
    }

    /// Returns the intersection, if it is not empty.
    pub(super) fn and(self, other: Self) -> Option<Self> {
        let both =
            Self { after: self.after.max(other.after), before: self.before.min(other.before) };
        (both.after <= both.before).then_some(both)
    }

    pub(super) fn widened(self, margin: Micros) -> Self {
        Self { after: self.after - margin, before: self.before + margin }
    }
}
