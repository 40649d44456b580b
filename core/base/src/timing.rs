//! Durations of the parts of a report, logged at the level `debug`;
//! `tests/bench/report_speed.py` adds them up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Performs a part of the work and logs its duration.
pub fn told<T>(part: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    tell(part, begun.elapsed());
    result
}

/// Logs the duration of a part.
pub fn tell(part: &str, took: Duration) {
    tracing::debug!(part, seconds = took.as_secs_f64(), "took");
}

/// Total duration of many small pieces of work on all cores.
#[derive(Debug)]
pub struct Sum(AtomicU64);

impl Sum {
    /// Creates an empty stopwatch.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Performs a piece of work and adds its duration.
    pub fn add<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
        result
    }

    /// Returns the total duration of the pieces since the last call.
    pub fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self::new()
    }
}
