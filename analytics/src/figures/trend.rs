//! Trends: the Theil–Sen slope, and whether it is more than chance by the Mann–Kendall test.

/// A slope with its significance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// How many points it is over.
    pub points: usize,
    /// Theil–Sen slope: the median of the slopes between all pairs of points, per unit of x.
    pub slope: f64,
    /// The line's value at x = 0.
    pub intercept: f64,
    /// Kendall's tau, from −1 (always falls) to 1 (always rises).
    pub tau: f64,
    /// Two-sided probability of a tau this far from 0 without any trend.
    pub p_value: f64,
}
