//! The clock of the embedded servers, right or wrong.

use mailqos_model::{Micros, UtcMicros};

/// Time as a server sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerClock {
    /// How far it is ahead of the true time at `since`.
    pub offset: Micros,
    /// Microseconds that it gains per second.
    pub drift_ppm: f64,
    /// Start of the drift.
    pub since: UtcMicros,
}

impl ServerClock {
    /// Returns a clock that is right.
    pub fn right() -> Self {
        Self::off_by(Micros::ZERO, 0.0)
    }

    /// Returns a clock that is ahead by `offset` now and gains `drift_ppm` microseconds per second.
    pub fn off_by(offset: Micros, drift_ppm: f64) -> Self {
        Self { offset, drift_ppm, since: UtcMicros::now() }
    }

    /// Returns what the clock shows at a moment.
    pub fn at(&self, moment: UtcMicros) -> UtcMicros {
        let gained = (moment - self.since).0 as f64 * self.drift_ppm / 1e6;
        moment + self.offset + Micros(gained.round() as i64)
    }

    /// Returns the same as a mail's date (RFC 5322): whole seconds, truncated.
    pub fn date(&self, moment: UtcMicros) -> String {
        let seconds = self.at(moment).0.div_euclid(1_000_000);
        jiff::fmt::rfc2822::to_string(
            &jiff::Timestamp::from_second(seconds)
                .expect("a moment of our time")
                .to_zoned_datetime(jiff::tz::TimeZone::UTC),
        )
        .expect("a date of our time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_ahead_and_gains() {
        let clock =
            ServerClock { offset: Micros::from_secs(37), drift_ppm: 20.0, since: UtcMicros(0) };
        assert_eq!(clock.at(UtcMicros(10_000_000)), UtcMicros(47_000_200));
        assert_eq!(clock.date(UtcMicros(10_999_000)), "Thu, 1 Jan 1970 00:00:47 +0000");
    }
}
