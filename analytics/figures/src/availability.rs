//! Counts of outcomes, availability and delivery rate, with their confidence.

use std::ops::Range;

use mailqos_model::Outcome;

use mailqos_lake_tables::Series;

/// Number of samples with each outcome. All but `not_tested` only include counted tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Arrived within max round trip.
    pub ok: u64,
    /// Arrived after max round trip.
    pub late: u64,
    /// Not arrived within the horizon.
    pub lost: u64,
    /// Could not be sent.
    pub smtp_failed: u64,
    /// The mailbox could not be read.
    pub pickup_failed: u64,
    /// The probe itself was unable to test.
    pub not_tested: u64,
    /// Tests that did not count: in maintenance or with a simulated failure.
    pub excluded: u64,
    /// Counted tests whose mail may still arrive late; they are among the failed ones.
    pub provisional: u64,
}

impl Counts {
    /// Counts a range of rows.
    pub fn of(series: &Series, rows: Range<usize>) -> Self {
        let mut counts = Self::default();
        for row in rows {
            let outcome = series.outcome[row];
            if outcome == Outcome::NotTested {
                counts.not_tested += 1;
                continue;
            }
            if series.exclusion(row).is_some() {
                counts.excluded += 1;
                continue;
            }
            match outcome {
                Outcome::Ok => counts.ok += 1,
                Outcome::Late => counts.late += 1,
                Outcome::Lost => counts.lost += 1,
                Outcome::SmtpFailed => counts.smtp_failed += 1,
                Outcome::PickupFailed => counts.pickup_failed += 1,
                Outcome::NotTested => {}
            }
            if series.provisional.get(row) == Some(&true) {
                counts.provisional += 1;
            }
        }
        counts
    }

    /// Returns the number of counted tests.
    pub fn tests(&self) -> u64 {
        self.ok + self.late + self.lost + self.smtp_failed + self.pickup_failed
    }

    /// Returns the number of counted tests that failed.
    pub fn failed(&self) -> u64 {
        self.tests() - self.ok
    }

    /// Returns `ok` / counted; `None` without a counted test.
    pub fn availability(&self) -> Option<f64> {
        share(self.ok, self.tests())
    }

    /// Returns (`ok` + `late`) / counted; `None` without a counted test.
    pub fn delivery_rate(&self) -> Option<f64> {
        share(self.ok + self.late, self.tests())
    }

    /// Returns the availability with its 95 % confidence interval.
    pub fn availability_interval(&self) -> Option<Share> {
        Share::new(self.ok, self.tests())
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.late += other.late;
        self.lost += other.lost;
        self.smtp_failed += other.smtp_failed;
        self.pickup_failed += other.pickup_failed;
        self.not_tested += other.not_tested;
        self.excluded += other.excluded;
        self.provisional += other.provisional;
    }
}

/// Returns `part` / `whole`; `None` if `whole` is 0.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The normal distribution's 97.5 % point: two-sided 95 %.
pub const Z95: f64 = 1.959_963_984_540_054;

/// A share with its 95 % confidence interval (Wilson 1927), which stays within [0, 1] and is also
/// valid for few tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Number of items that qualify.
    pub part: u64,
    /// Number of all items.
    pub whole: u64,
    /// `part` / `whole`.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// Returns the share of `part` in `whole`; `None` if `whole` is 0.
    pub fn new(part: u64, whole: u64) -> Option<Self> {
        let value = share(part, whole)?;
        let n = whole as f64;
        let z2 = Z95 * Z95;
        let centre = (value + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z95 / (1.0 + z2 / n) * (value * (1.0 - value) / n + z2 / (4.0 * n * n)).sqrt();
        // Rounding must not move an end past the share itself.
        Some(Self {
            part,
            whole,
            value,
            low: if part == 0 { 0.0 } else { (centre - half).clamp(0.0, value) },
            high: if part == whole { 1.0 } else { (centre + half).clamp(value, 1.0) },
        })
    }
}
