//! Display of a round trip: the estimate and its interval.

use std::fmt;

use super::{Micros, Sample};

/// The round trip of a test with its intervals.
///
/// Displayed as "3.7 s (3.5–3.9 s)", with no more digits than are significant and the calibrated
/// interval rounded outwards. With `#` (`{:#}`), the guaranteed interval is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// Best estimate.
    pub estimate: Micros,
    /// Half-width of the interval that certainly contains the true value.
    pub error: Option<Micros>,
    /// Half-width of the interval that contains the true value with a probability of 99 %.
    pub likely_error: Option<Micros>,
}

impl RoundTrip {
    /// Returns the round trip of a sample, if it has one.
    pub fn of(sample: &Sample) -> Option<Self> {
        Some(Self {
            estimate: sample.round_trip?,
            error: sample.round_trip_error,
            likely_error: sample.round_trip_likely_error,
        })
    }

    /// Returns the half-width of the 99 % interval, or of the guaranteed one if there is no other.
    fn shown(self) -> Option<Micros> {
        match (self.likely_error, self.error) {
            (Some(likely), Some(error)) => Some(likely.min(error)),
            (likely, error) => likely.or(error),
        }
    }

    /// Formats the estimate alone, with no more digits than are significant: "3.7 s".
    pub fn brief(self) -> String {
        let half = self.shown().unwrap_or(Micros::ZERO);
        format!("{} s", seconds(self.estimate.0, digits(half)))
    }

    /// Formats the bounds within which the true value certainly lies: "0.1–15.1 s".
    pub fn bounds(self) -> Option<String> {
        self.error.map(|error| self.interval(error))
    }

    fn interval(self, half: Micros) -> String {
        let digits = digits(half);
        let step = 10_i64.pow(6 - digits);
        let least = self.estimate.0.saturating_sub(half.0).max(0).div_euclid(step) * step;
        let most = self.estimate.0.saturating_add(half.0);
        let most = most
            .div_euclid(step)
            .saturating_add(i64::from(most.rem_euclid(step) > 0))
            .saturating_mul(step);
        format!("{}–{} s", seconds(least, digits), seconds(most, digits))
    }
}

impl fmt::Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.brief())?;
        if let Some(half) = self.shown() {
            write!(f, " ({})", self.interval(half))?;
        }
        if let Some(bounds) = self.bounds().filter(|_| f.alternate() && self.shown() != self.error)
        {
            write!(f, ", guaranteed {bounds}")?;
        }
        Ok(())
    }
}

/// Returns the number of decimals of a value known to this precision.
fn digits(half: Micros) -> u32 {
    match half.0 {
        ..10_000 => 3,
        10_000..100_000 => 2,
        100_000..10_000_000 => 1,
        10_000_000.. => 0,
    }
}

fn seconds(micros: i64, digits: u32) -> String {
    format!("{:.*}", digits as usize, micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(estimate: i64, likely: Option<i64>, error: Option<i64>) -> RoundTrip {
        RoundTrip {
            estimate: Micros::from_millis(estimate),
            error: error.map(Micros::from_millis),
            likely_error: likely.map(Micros::from_millis),
        }
    }

    #[test]
    fn only_significant_digits_are_shown() {
        for (estimate, likely, error, shown, whole) in [
            (
                3_709,
                Some(195),
                Some(3_240),
                "3.7 s (3.5–4.0 s)",
                "3.7 s (3.5–4.0 s), guaranteed 0.4–7.0 s",
            ),
            (
                3_700,
                Some(200),
                Some(3_240),
                "3.7 s (3.5–3.9 s)",
                "3.7 s (3.5–3.9 s), guaranteed 0.4–7.0 s",
            ),
            (342, Some(18), Some(18), "0.34 s (0.32–0.36 s)", "0.34 s (0.32–0.36 s)"),
            (
                342,
                Some(2),
                Some(30),
                "0.342 s (0.340–0.344 s)",
                "0.342 s (0.340–0.344 s), guaranteed 0.31–0.38 s",
            ),
            // As in samples of earlier versions: only the guaranteed interval.
            (7_500, None, Some(7_500), "7.5 s (0.0–15.0 s)", "7.5 s (0.0–15.0 s)"),
            (
                80_000,
                Some(40_000),
                Some(60_000),
                "80 s (40–120 s)",
                "80 s (40–120 s), guaranteed 20–140 s",
            ),
            (1_340, None, None, "1.340 s", "1.340 s"),
            // A bound is never negative.
            (
                100,
                Some(300),
                Some(400),
                "0.1 s (0.0–0.4 s)",
                "0.1 s (0.0–0.4 s), guaranteed 0.0–0.5 s",
            ),
        ] {
            let round_trip = text(estimate, likely, error);
            assert_eq!(
                (round_trip.to_string(), format!("{round_trip:#}")),
                (shown.to_owned(), whole.to_owned())
            );
        }
        assert_eq!(text(3_709, Some(195), Some(3_240)).brief(), "3.7 s");
        assert_eq!(text(0, Some(0), Some(0)).to_string(), "0.000 s (0.000–0.000 s)");
        let extreme = RoundTrip {
            estimate: Micros(i64::MAX),
            error: Some(Micros(i64::MAX)),
            likely_error: None,
        };
        let _ = extreme.to_string();
    }
}
