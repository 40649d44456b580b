//! Times and durations as integers of microseconds in UTC. Time zones are applied only for input
//! and output.

use std::{fmt, ops, str::FromStr, time::Duration};

/// A time in microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UtcMicros(pub i64);

/// A duration in microseconds. Differences of times may be negative.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl UtcMicros {
    /// Returns the current time of this machine's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// Returns the time as a jiff time stamp. Times beyond jiff's range (year ±9999) become the
    /// nearest one in it.
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }

    /// Returns the UTC date of the time: the `date=` of the sample lake.
    pub fn utc_date(self) -> jiff::civil::Date {
        jiff::tz::TimeZone::UTC.to_datetime(self.timestamp()).date()
    }
}

impl From<jiff::Timestamp> for UtcMicros {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.as_microsecond())
    }
}

/// Formats the time in RFC 3339 in UTC, without trailing zeros.
impl fmt::Display for UtcMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.timestamp(), f)
    }
}

impl ops::Add<Micros> for UtcMicros {
    type Output = Self;
    fn add(self, duration: Micros) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl ops::Sub<Micros> for UtcMicros {
    type Output = Self;
    fn sub(self, duration: Micros) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

impl ops::Sub for UtcMicros {
    type Output = Micros;
    fn sub(self, other: Self) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl Micros {
    /// A duration of zero.
    pub const ZERO: Self = Self(0);

    /// Creates a duration of this many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Creates a duration of this many milliseconds.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds.saturating_mul(1_000))
    }

    /// Returns the duration in milliseconds, with fraction.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// Returns the duration in seconds, with fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000_000.0
    }

    /// Converts to the standard library's duration; negative ones become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for Micros {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
    }
}

impl ops::Add for Micros {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl ops::Sub for Micros {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Units of durations with their lengths in microseconds, largest first.
const UNITS: [(&str, i64); 7] = [
    ("w", 7 * 86_400_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Error for a text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration; write a number with a unit, such as \"500ms\", \"30s\", \"5m\", \"1h30m\" or \"2d\""
)]
pub struct ParseDurationError(String);

impl FromStr for Micros {
    type Err = ParseDurationError;

    /// Parses `"1h30m"`, `"2.5s"`, `"500ms"`: numbers with units in any order, optionally with
    /// spaces between them.
    ///
    /// jiff's friendly format would refuse what configurations have contained since the first
    /// version: fractions of days (`"1.5d"`), units in any order, and capitals (`"5 Minutes"`).
    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let error = || ParseDurationError(text.to_owned());
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(error());
        }
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
            let number: f64 = rest[..digits].parse().map_err(|_| error())?;
            rest = rest[digits..].trim_start();
            let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
            // `5 Minutes` is accepted, but `M` may mean months.
            let word = &rest[..end];
            let lower = word.to_lowercase();
            let unit = match if word.chars().count() > 2 { lower.as_str() } else { word } {
                "min" | "mins" | "minute" | "minutes" => "m",
                "sec" | "secs" | "second" | "seconds" => "s",
                "hr" | "hrs" | "hour" | "hours" => "h",
                "day" | "days" => "d",
                "µs" => "us",
                unit => unit,
            };
            let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
            let part = number * *micros as f64;
            if !(part.is_finite() && part < i64::MAX as f64) {
                return Err(error());
            }
            total = total.checked_add(part.round() as i64).ok_or_else(error)?;
            rest = rest[end..].trim_start();
        }
        Ok(Self(total))
    }
}

/// Formats the duration as in the configuration: `1h30m`, `2s500ms`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        for (name, micros) in UNITS {
            let count = rest / micros.unsigned_abs();
            if count > 0 {
                write!(f, "{count}{name}")?;
                rest %= micros.unsigned_abs();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_parsed() {
        assert_eq!("90s".parse(), Ok(Micros::from_secs(90)));
        assert_eq!("1h30m".parse(), Ok(Micros::from_secs(5400)));
        assert_eq!("2.5 s".parse(), Ok(Micros::from_millis(2500)));
        assert_eq!("250ms".parse(), Ok(Micros::from_millis(250)));
        assert_eq!("1 hour 30 minutes".parse(), Ok(Micros::from_secs(5400)));
        assert_eq!("5 Minutes".parse(), Ok(Micros::from_secs(300)));
        assert_eq!("1.5d".parse(), Ok(Micros::from_secs(129_600)));
        assert_eq!("30m 1h".parse(), Ok(Micros::from_secs(5400)));
        assert!("5M".parse::<Micros>().is_err(), "months?");
        assert_eq!("2 days".parse(), "48h".parse::<Micros>());
        for wrong in ["", "5", "s", "5 parsecs", "-1s", "1e99999w", "99999999999999w"] {
            assert!(wrong.parse::<Micros>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(micros in 0..i64::MAX) {
            prop_assert_eq!(Micros(micros).to_string().parse(), Ok(Micros(micros)));
        }
    }
}
