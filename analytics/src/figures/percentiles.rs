//! Exact percentiles by selection, several in one pass, with order-statistics confidence intervals.

use mailqos_core::model::Micros;

use super::{
    availability::Z95,
    series::{Metric, Series},
};

/// The percentiles that `stats` shows.
pub const CONTRACT: [f64; 4] = [0.50, 0.90, 0.95, 0.99];

/// Count, mean, extremes and percentiles of durations, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How many values there are; at least one.
    pub count: u64,
    /// The least.
    pub min: Micros,
    /// Arithmetic mean, in microseconds.
    pub mean: f64,
    /// The greatest.
    pub max: Micros,
    /// Each percentile asked for, in the order asked for, in microseconds.
    pub percentiles: Vec<f64>,
}

impl Summary {
    /// Of values in any order, which are reordered; `None` of none.
    ///
    /// Each `q` lies in [0, 1].
    pub fn of(values: &mut [i64], qs: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        let (mut min, mut max, mut sum) = (first, first, 0_i128);
        for value in values.iter() {
            min = min.min(*value);
            max = max.max(*value);
            sum += i128::from(*value);
        }
        let count = values.len();
        Some(Self {
            count: count as u64,
            min: Micros(min),
            mean: sum as f64 / count as f64,
            max: Micros(max),
            percentiles: percentiles(values, qs),
        })
    }

    /// Of a metric over the counted tests of some rows.
    pub fn of_metric(series: &Series, metric: Metric, rows: std::ops::Range<usize>, qs: &[f64]) -> Option<Self> {
        Self::of(&mut series.values(metric, rows), qs)
    }
}

/// Percentiles by linear interpolation between closest ranks, at (n − 1)·q; empty where there is no value.
///
/// `values` is reordered: each percentile needs only its two ranks in place, which nested selections bring there in
/// linear time.
pub fn percentiles<T: Copy + Ord + Into<i64>>(values: &mut [T], qs: &[f64]) -> Vec<f64> {
    if values.is_empty() {
        return Vec::new();
    }
    let ranks: Vec<(usize, f64)> = qs.iter().map(|q| rank(values.len(), *q)).collect();
    let mut wanted: Vec<usize> = ranks
        .iter()
        .flat_map(|(low, fraction)| [*low, *low + usize::from(*fraction > 0.0)])
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    select(values, 0, &wanted);
    ranks
        .into_iter()
        .map(|(low, fraction)| {
            let below = values[low].into() as f64;
            if fraction > 0.0 {
                let above = values[low + 1].into() as f64;
                below + (above - below) * fraction
            } else {
                below
            }
        })
        .collect()
}

/// The lower rank and the way to the next, of (n − 1)·q.
fn rank(n: usize, q: f64) -> (usize, f64) {
    let position = (n - 1) as f64 * q.clamp(0.0, 1.0);
    let low = (position.floor() as usize).min(n - 1);
    let fraction = position - low as f64;
    (low, if low + 1 < n { fraction } else { 0.0 })
}

/// Brings the values of ascending ranks to their places; `offset` is the rank of the first value.
fn select<T: Copy + Ord>(values: &mut [T], offset: usize, ranks: &[usize]) {
    // The middle rank first, so that each selection halves what the others have to look at. Ranks next to each other are
    // the usual case (interpolation): the upper one is then the least of what lies above.
    if ranks.is_empty() || values.len() < 2 {
        return;
    }
    if values.len() <= 32 {
        values.sort_unstable();
        return;
    }
    let middle = ranks.len() / 2;
    let at = ranks[middle] - offset;
    let (below, _, above) = values.select_nth_unstable(at);
    select(below, offset, &ranks[..middle]);
    select_above(above, offset + at + 1, &ranks[middle + 1..]);
}

fn select_above<T: Copy + Ord>(values: &mut [T], offset: usize, ranks: &[usize]) {
    if ranks.first() == Some(&offset) {
        if let Some(least) = values
            .iter()
            .enumerate()
            .min_by_key(|(_, value)| **value)
            .map(|(i, _)| i)
        {
            values.swap(0, least);
        }
        if let Some(rest) = values.get_mut(1..) {
            select(rest, offset + 1, &ranks[1..]);
        }
    } else {
        select(values, offset, ranks);
    }
}

/// A percentile with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    /// Which one, in [0, 1].
    pub q: f64,
    /// How many values it is over.
    pub count: u64,
    /// The percentile, in microseconds.
    pub value: f64,
    /// Lower and upper end of the interval, in microseconds; `None` where there are too few values for one.
    pub interval: Option<(f64, f64)>,
}

impl Percentile {
    /// Of values in any order, which are sorted; `None` of none.
    ///
    /// The interval is distribution-free: two order statistics between which the true percentile lies with at least
    /// 95 % probability, whatever the distribution (e.g. Hahn and Meeker, *Statistical Intervals*, 1991, section 5.2).
    pub fn of(values: &mut [i64], q: f64) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len();
        let interval = interval_ranks(n, q);
        let (low, fraction) = rank(n, q);
        let mut wanted = vec![low, (low + 1).min(n - 1)];
        wanted.extend(interval.into_iter().flat_map(|(low, high)| [low, high]));
        wanted.sort_unstable();
        wanted.dedup();
        select(values, 0, &wanted);
        let value = if fraction > 0.0 {
            values[low] as f64 + (values[low + 1] - values[low]) as f64 * fraction
        } else {
            values[low] as f64
        };
        Some(Self {
            q,
            count: n as u64,
            value,
            interval: interval.map(|(low, high)| (values[low] as f64, values[high] as f64)),
        })
    }
}

/// The ranks (from 0) of the order statistics that enclose the `q` percentile of `n` values with at least 95 %;
/// `None` where even the extremes don't.
pub fn interval_ranks(n: usize, q: f64) -> Option<(usize, usize)> {
    if n < 2 || !(q > 0.0 && q < 1.0) {
        return None;
    }
    // X: how many of n values lie below the true percentile; binomial(n, q). [x(l), x(u)] (from 1) covers it with
    // P(l <= X < u). Each tail may have 2.5 %.
    let (low, high) = if n <= 2000 {
        let (mut below, mut low, mut high) = (0.0_f64, None, None);
        let mut log_probability = n as f64 * (1.0 - q).ln();
        let odds = (q / (1.0 - q)).ln();
        for x in 0..=n {
            let probability = log_probability.exp();
            // P(X < x) = below
            if below <= 0.025 {
                low = Some(x);
            }
            below += probability;
            if high.is_none() && below >= 0.975 {
                high = Some(x + 1);
            }
            log_probability += odds + ((n - x) as f64 / (x + 1) as f64).ln();
        }
        (low?, high?)
    } else {
        let (centre, half) = (n as f64 * q, Z95 * (n as f64 * q * (1.0 - q)).sqrt());
        let low = (centre - half - 0.5).floor();
        let high = (centre + half + 0.5).ceil() + 1.0;
        (if low < 0.0 { 0 } else { low as usize }, high as usize)
    };
    // Ranks from 1; outside 1..=n there is no order statistic.
    (low >= 1 && high <= n).then(|| (low - 1, high - 1))
}

/// A percentile in which undelivered mail counts as slower than any delivered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeliveredPercentile {
    /// So many microseconds.
    Within(f64),
    /// This share of the mails was not delivered in the first place (or it is not yet known).
    NotDelivered,
}

/// The percentile of the round trip over all counted tests; `delivered` are the round trips of the delivered mails,
/// `tests` all counted tests. `None` without a counted test.
pub fn delivered_percentile(delivered: &mut [i64], tests: usize, q: f64) -> Option<DeliveredPercentile> {
    let tests = tests.max(delivered.len());
    if tests == 0 {
        return None;
    }
    let (low, fraction) = rank(tests, q);
    let high = low + usize::from(fraction > 0.0);
    if high >= delivered.len() {
        return Some(DeliveredPercentile::NotDelivered);
    }
    select(delivered, 0, &if high > low { vec![low, high] } else { vec![low] });
    let below = delivered[low] as f64;
    Some(DeliveredPercentile::Within(
        below + (delivered[high] as f64 - below) * fraction,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn by_sorting(values: &[i64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let position = (sorted.len() - 1) as f64 * q;
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        sorted[low] as f64 + (sorted[high] - sorted[low]) as f64 * (position - low as f64)
    }

    #[test]
    fn known_percentiles() {
        let mut values = [40, 10, 30, 20];
        assert_eq!(
            percentiles(&mut values, &[0.0, 0.5, 0.75, 1.0]),
            [10.0, 25.0, 32.5, 40.0]
        );
        assert_eq!(percentiles(&mut [7_i64], &CONTRACT), [7.0; 4]);
        assert_eq!(percentiles::<i64>(&mut [], &CONTRACT), Vec::<f64>::new());
    }

    #[test]
    fn interval_ranks_known_from_tables() {
        // Median of 10: second and ninth value cover with 97.9 %; of 5 values not even the extremes reach 95 %.
        assert_eq!(interval_ranks(10, 0.5), Some((1, 8)));
        assert_eq!(interval_ranks(6, 0.5), Some((0, 5)));
        assert_eq!(interval_ranks(5, 0.5), None);
        assert_eq!(interval_ranks(40, 0.99), None);
    }

    #[test]
    fn an_undelivered_mail_is_slower_than_any() {
        use DeliveredPercentile::{NotDelivered, Within};
        assert_eq!(delivered_percentile(&mut [1, 2, 3], 4, 0.0), Some(Within(1.0)));
        assert_eq!(delivered_percentile(&mut [1, 2, 3], 4, 0.5), Some(Within(2.5)));
        assert_eq!(delivered_percentile(&mut [1, 2, 3], 4, 0.9), Some(NotDelivered));
        assert_eq!(delivered_percentile(&mut [], 4, 0.5), Some(NotDelivered));
        assert_eq!(delivered_percentile(&mut [], 0, 0.5), None);
    }

    proptest! {
        #[test]
        fn selection_agrees_with_sorting(
            values in prop::collection::vec(0_i64..5_000_000, 1..400),
            qs in prop::collection::vec(0.0..=1.0_f64, 1..8),
        ) {
            let selected = percentiles(&mut values.clone(), &qs);
            for (q, value) in qs.iter().zip(selected) {
                let expected = by_sorting(&values, *q);
                prop_assert!((value - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{value} {expected}");
            }
        }

        #[test]
        fn an_interval_encloses_its_percentile(values in prop::collection::vec(0_i64..1000, 1..3000), q in 0.05..0.95_f64) {
            let percentile = Percentile::of(&mut values.clone(), q).expect("there are values");
            if let Some((low, high)) = percentile.interval {
                prop_assert!(low <= percentile.value && percentile.value <= high);
            }
        }
    }
}
