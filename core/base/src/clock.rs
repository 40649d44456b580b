//! The two clocks of this machine: the wall clock, which can be set at any time and in either
//! direction, and a monotonic one, which only moves forward and continues while the machine is
//! suspended (`CLOCK_BOOTTIME` on Linux).
//!
//! The wall clock provides the time of an event. Elapsed times and due times are based on the
//! monotonic clock.

use std::sync::{Arc, Mutex};

use crate::lock::IgnorePoison as _;
use mailqos_model::{Micros, UtcMicros};
use serde::{Deserialize, Serialize};

/// Difference between two readings that counts as a step of the wall clock. NTP slews slower than
/// 500 µs a second (RFC 5905, section 11.3), and steps the clock beyond 128 ms.
const STEP: Micros = Micros::from_millis(500);

/// A time of the monotonic clock, in microseconds from an arbitrary origin.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MonotonicTime(pub i64);

impl std::ops::Sub for MonotonicTime {
    type Output = Micros;
    fn sub(self, other: Self) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add<Micros> for MonotonicTime {
    type Output = Self;
    fn add(self, duration: Micros) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl std::ops::Sub<Micros> for MonotonicTime {
    type Output = Self;
    fn sub(self, duration: Micros) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

/// A time, read from both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time of the wall clock.
    pub wall: UtcMicros,
    /// The time of the steady clock.
    pub steady: MonotonicTime,
}

impl Now {
    /// Returns the monotonic time at which the wall clock will show `wall`, assuming that it is not
    /// set in between.
    pub fn steady_at(self, wall: UtcMicros) -> MonotonicTime {
        self.steady + (wall - self.wall)
    }

    /// Returns the wall-clock time at the given monotonic time, assuming that the wall clock is not
    /// set in between.
    pub fn wall_at(self, steady: MonotonicTime) -> UtcMicros {
        self.wall + (steady - self.steady)
    }

    /// Returns the difference between the wall clock and the monotonic clock, which changes only
    /// when the wall clock is set.
    fn ahead(self) -> Micros {
        Micros(self.wall.0.saturating_sub(self.steady.0))
    }
}

/// Detects steps of the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    ahead: Micros,
}

impl Steps {
    /// Creates a detector that starts from this reading of the clocks.
    pub fn new(now: Now) -> Self {
        Self { ahead: now.ahead() }
    }

    /// Returns the step of the wall clock since the last call, forward or (negative) back, or
    /// `None` if it has not been set.
    pub fn since_last(&mut self, now: Now) -> Option<Micros> {
        let step = Micros(now.ahead().0.saturating_sub(self.ahead.0));
        // A slewed clock drifts between calls; only a sudden difference counts as a step.
        self.ahead = now.ahead();
        (step.0.saturating_abs() > STEP.0).then_some(step)
    }
}

/// A reading of the clocks from which later processes can continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Identifier of the machine's boot, if the system provides one.
    boot: Option<String>,
    /// The machine's uptime.
    since_boot: Micros,
    /// The wall clock.
    wall: UtcMicros,
    /// The monotonic clock.
    steady: MonotonicTime,
}

impl Anchor {
    /// Returns the current reading of this machine's clocks.
    pub fn now() -> Self {
        Clock::resume(None).anchor()
    }

    /// Returns the elapsed time since the reading. After a reboot, only the wall clock can
    /// determine it; if it is behind, zero is returned.
    pub fn elapsed(&self) -> Micros {
        self.passed(boot_id().as_deref(), since_boot(), UtcMicros::now())
    }

    fn passed(&self, boot: Option<&str>, since_boot: Micros, wall: UtcMicros) -> Micros {
        let same_boot =
            boot.is_some() && boot == self.boot.as_deref() && since_boot >= self.since_boot;
        let passed = if same_boot {
            since_boot.0.saturating_sub(self.since_boot.0)
        } else {
            (wall - self.wall).0
        };
        Micros(passed.max(0))
    }
}

#[derive(Debug)]
enum Source {
    /// The clocks of this machine, with the offset of the monotonic clock from the machine's
    /// uptime.
    System(Micros),
    /// Clocks controlled by a test.
    Manual(Mutex<Now>),
}

/// Handle to both clocks. Clones share the same clocks.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

impl Clock {
    /// Returns the clocks of this machine. The monotonic clock continues from where an earlier
    /// process left it, so that times stored by that process stay valid. Without an earlier
    /// process, it starts with the wall clock's time.
    pub fn resume(anchor: Option<&Anchor>) -> Self {
        let (wall, running) = (UtcMicros::now(), since_boot());
        let steady = match anchor {
            Some(anchor) => anchor.steady + anchor.passed(boot_id().as_deref(), running, wall),
            None => MonotonicTime(wall.0),
        };
        Self(Arc::new(Source::System(Micros(steady.0.saturating_sub(running.0)))))
    }

    /// Creates clocks that stand still until they are advanced, for tests.
    pub fn manual(wall: UtcMicros) -> Self {
        let steady = MonotonicTime(wall.0);
        Self(Arc::new(Source::Manual(Mutex::new(Now { wall, steady }))))
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        match &*self.0 {
            Source::System(ahead) => {
                Now { wall: UtcMicros::now(), steady: MonotonicTime(since_boot().0) + *ahead }
            }
            Source::Manual(now) => *now.lock().ignore_poison(),
        }
    }

    /// Returns the current reading, from which a later process can continue.
    pub fn anchor(&self) -> Anchor {
        let now = self.now();
        let ahead = match &*self.0 {
            Source::System(ahead) => *ahead,
            Source::Manual(_) => Micros::ZERO,
        };
        Anchor {
            boot: boot_id(),
            since_boot: Micros(now.steady.0.saturating_sub(ahead.0)),
            wall: now.wall,
            steady: now.steady,
        }
    }

    /// Advances manual clocks. Has no effect on the clocks of the machine.
    pub fn advance(&self, by: Micros) {
        self.set(|now| Now { wall: now.wall + by, steady: now.steady + Micros(by.0.max(0)) });
    }

    /// Sets a manual wall clock forward or back. Has no effect on the clocks of the machine.
    pub fn step(&self, by: Micros) {
        self.set(|now| Now { wall: now.wall + by, steady: now.steady });
    }

    fn set(&self, change: impl FnOnce(Now) -> Now) {
        if let Source::Manual(now) = &*self.0 {
            let mut now = now.lock().ignore_poison();
            *now = change(*now);
        }
    }
}

/// Returns the machine's uptime, including the time for which it was suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn since_boot() -> Micros {
    use nix::time::{ClockId, clock_gettime};
    let read =
        clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    read.map_or_else(
        |_| since_start(),
        |time| {
            Micros(time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_nsec() / 1_000))
        },
    )
}

/// Returns the uptime of this process: other systems have no clock that continues while the machine
/// is suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn since_boot() -> Micros {
    since_start()
}

fn since_start() -> Micros {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().into()
}

/// Returns the identifier of the machine's current boot.
fn boot_id() -> Option<String> {
    static ID: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let text = text.trim();
        (!text.is_empty() && text.len() <= 64).then(|| text.to_owned())
    };
    ID.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Micros = Micros::from_secs(3600);

    #[test]
    fn a_clock_step_is_distinguished_from_elapsed_time() {
        let clock = Clock::manual(UtcMicros(1_800_000_000_000_000));
        let mut steps = Steps::new(clock.now());
        clock.advance(HOUR);
        assert_eq!(steps.since_last(clock.now()), None);
        clock.step(Micros(-HOUR.0));
        clock.advance(Micros::from_secs(1));
        assert_eq!(steps.since_last(clock.now()), Some(Micros(-HOUR.0)));
        assert_eq!(steps.since_last(clock.now()), None);
        clock.step(HOUR);
        assert_eq!(steps.since_last(clock.now()), Some(HOUR));
        // A slewed clock is never reported as a step.
        for _ in 0..10_000 {
            clock.step(Micros(500));
            assert_eq!(steps.since_last(clock.now()), None);
        }
    }

    #[test]
    fn times_convert_between_both_clocks() {
        let clock = Clock::manual(UtcMicros(0));
        clock.step(HOUR);
        let now = clock.now();
        assert_eq!(now.steady_at(UtcMicros(HOUR.0 + 5)), MonotonicTime(5));
        assert_eq!(now.wall_at(MonotonicTime(5)), UtcMicros(HOUR.0 + 5));
    }

    #[test]
    fn elapsed_time_across_a_restart_is_from_the_boot_clock_unless_rebooted() {
        let anchor = Anchor {
            boot: Some("a".to_owned()),
            since_boot: Micros(100),
            wall: UtcMicros(1_000_000),
            steady: MonotonicTime(7),
        };
        // The wall clock was set back in the meantime.
        assert_eq!(anchor.passed(Some("a"), Micros(160), UtcMicros(0)), Micros(60));
        assert_eq!(anchor.passed(Some("b"), Micros(5), UtcMicros(1_000_030)), Micros(30));
        assert_eq!(anchor.passed(Some("b"), Micros(5), UtcMicros(10)), Micros::ZERO);
        assert_eq!(anchor.passed(None, Micros(5), UtcMicros(1_000_030)), Micros(30));
    }

    #[test]
    fn the_monotonic_clock_continues_after_a_restart() {
        let first = Clock::resume(None);
        let before = first.now();
        let anchor = first.anchor();
        let written = serde_json::to_string(&anchor).expect("JSON");
        let second = Clock::resume(Some(&serde_json::from_str(&written).expect("JSON")));
        let (earlier, later) = (first.now(), second.now());
        assert!(before.steady <= earlier.steady);
        let apart = (later.steady - earlier.steady).0;
        assert!((0..60_000_000).contains(&apart), "{apart}");
    }
}
