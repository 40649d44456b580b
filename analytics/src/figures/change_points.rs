//! Change points: where the level of a metric shifted.

use mailqos_core::model::UtcMicros;

/// A lasting shift of a level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// When the new level begins.
    pub at: UtcMicros,
    /// The index of the first point of the new level.
    pub index: usize,
    /// Median before, up to the change point before.
    pub before: f64,
    /// Median after, up to the next change point.
    pub after: f64,
    /// Two-sided probability of such a difference without any shift.
    pub p_value: f64,
}
