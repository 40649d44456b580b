//! The calibrated interval: split conformal prediction (V. Vovk, A. Gammerman and G. Shafer,
//! "Algorithmic Learning in a Random World", 2005; J. Lei et al., "Distribution-Free Predictive
//! Inference for Regression", JASA 2018) on arrivals that are themselves known only within bounds.
//!
//! Knowledge about the servers predicts an interval for each arrival. A mail whose own pick-ups
//! bracket its arrival closely shows how wrong that prediction could have been in the worst case:
//! by as much as its bracket extends beyond the prediction. If arrivals continue as before,
//! widening the next prediction by the ⌈(n + 1) · 99 %⌉-th smallest of the last n such scores
//! covers it with a probability of at least 99 %, whatever the distribution of the errors. Using
//! the worst case in each bracket only increases that probability. With fewer than 99 scores there
//! is no such quantile, and no interval is stated.

use std::collections::{HashMap, VecDeque};

use mailqos_model::Micros;

use super::moment::Bounds;

/// Minimum share of arrivals that the calibrated interval covers, in percent.
const COVERAGE: usize = 99;
/// Number of recent scores that determine the accuracy of a prediction.
const WINDOW: usize = 400;
/// Maximum width of a bracket that is used to score a prediction.
const CLOSE: Micros = Micros::from_millis(1_500);
/// Maximum number of kinds of predictions to remember; the most recently scored ones are kept.
const MAX_GROUPS: usize = 256;

/// The scores of one kind of prediction: for one route through the servers, based on the same
/// evidence.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct Group {
    /// Number of the last score.
    last: u64,
    /// Scores in microseconds, oldest first.
    scores: VecDeque<i64>,
}

/// Accuracy of predictions by group.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Calibration {
    groups: HashMap<String, Group>,
    count: u64,
}

impl Calibration {
    /// Returns by how much a prediction of this group must be widened to cover the arrival with a
    /// probability of 99 %, or `None` with too few scores.
    pub(super) fn margin(&self, group: &str) -> Option<Micros> {
        let scores = &self.groups.get(group)?.scores;
        let rank = ((scores.len() + 1) * COVERAGE).div_ceil(100);
        let mut sorted: Vec<i64> = scores.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(rank.checked_sub(1)?).copied().map(Micros)
    }

    /// Records the score of a prediction that was made without this mail's own bracket, and the
    /// bracket.
    pub(super) fn note(&mut self, group: &str, predicted: Bounds, certain: Bounds) {
        if certain.before - certain.after > CLOSE {
            return;
        }
        self.count += 1;
        if !self.groups.contains_key(group) && self.groups.len() >= MAX_GROUPS {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.groups.remove(&oldest);
            }
        }
        let group = self.groups.entry(group.to_owned()).or_default();
        group.last = self.count;
        if group.scores.len() >= WINDOW {
            group.scores.pop_front();
        }
        let short = (predicted.after - certain.after).max(certain.before - predicted.before);
        group.scores.push_back(short.0.max(0));
    }

    /// Limits the data of an earlier process to what this one would keep.
    pub(super) fn limited(mut self) -> Self {
        if self.groups.len() > MAX_GROUPS {
            return Self::default();
        }
        for group in self.groups.values_mut() {
            group.scores.retain(|score| *score >= 0);
            let surplus = group.scores.len().saturating_sub(WINDOW);
            group.scores.drain(..surplus);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail_test::moment::Moment;

    fn bounds(after: i64, before: i64) -> Bounds {
        Bounds { after: Moment::of_micros(after), before: Moment::of_micros(before) }
    }

    #[test]
    fn nothing_is_claimed_with_fewer_scores_than_a_quantile_needs() {
        let mut calibration = Calibration::default();
        for number in 0..98 {
            calibration.note("way", bounds(100, 200), bounds(100 - number, 200));
            assert_eq!(calibration.margin("way"), None);
        }
        calibration.note("way", bounds(100, 200), bounds(150, 1_200));
        assert_eq!(calibration.margin("way"), Some(Micros(1_000)));
        assert_eq!(calibration.margin("another way"), None);
        // With 199 scores, the second largest is sufficient.
        for _ in 0..100 {
            calibration.note("way", bounds(100, 200), bounds(150, 160));
        }
        assert_eq!(calibration.margin("way"), Some(Micros(97)));
    }

    #[test]
    fn wide_brackets_are_ignored_and_memory_is_bounded() {
        let mut calibration = Calibration::default();
        calibration.note("way", bounds(0, 1), bounds(0, CLOSE.0 + 1));
        assert!(calibration.groups.is_empty());
        for number in 0..2 * MAX_GROUPS {
            for _ in 0..3 {
                calibration.note(&number.to_string(), bounds(0, 1), bounds(0, 1));
            }
        }
        assert_eq!(calibration.groups.len(), MAX_GROUPS);
        for _ in 0..2 * WINDOW {
            calibration.note("way", bounds(0, 1), bounds(0, 1));
        }
        assert_eq!(calibration.groups["way"].scores.len(), WINDOW);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Checks the share of covered arrivals over many mails with any distribution of errors.
        #[test]
        fn ninety_nine_percent_of_arrivals_are_covered(seed in any::<u64>(), heavy in 1..6_i32, gap in 1_000..600_000_i64) {
            let mut state = seed | 1;
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) as f64 / (1_u64 << 53) as f64
            };
            let mut calibration = Calibration::default();
            let (mut claimed, mut covered) = (0, 0);
            for _ in 0..2_000 {
                // The prediction error has heavy tails.
                let error = (100_000.0 * (random() - 0.5) / random().max(1e-6).powf(1.0 / f64::from(heavy))) as i64;
                let landed = (random() * 1e7) as i64;
                let predicted = bounds(landed + error - 200_000, landed + error + 200_000);
                if let Some(Micros(margin)) = calibration.margin("way") {
                    claimed += 1;
                    covered += i32::from(error.abs() <= 200_000 + margin);
                }
                let before = (random() * gap as f64) as i64;
                calibration.note("way", predicted, bounds(landed - before, landed + gap - before));
            }
            // Four standard deviations below 99 %.
            prop_assert!(f64::from(covered) >= f64::from(claimed) * (0.99 - 4.0 * 0.0023), "{covered} of {claimed}");
        }
    }
}
