//! Exact percentiles by selection, several in one pass, with order-statistics confidence intervals.

use std::{cell::RefCell, collections::HashMap};

use mailqos_lake_tables::Values;
use mailqos_model::Micros;

use super::availability::Z95;

/// The percentiles that `stats` shows.
pub const CONTRACT: [f64; 4] = [0.50, 0.90, 0.95, 0.99];

/// A value for percentiles: microseconds in four or eight bytes.
pub trait Value: Copy + Ord + Into<i64> {
    /// Adds up values.
    fn sum(values: &[Self]) -> i128;
    /// Returns the value's bin. Greater values are never in lower bins; there are fewer than
    /// [`BINS`], each at most 0.4 % wide.
    fn bin(self) -> usize;
}

/// More than there are bins: 256 for each power of two.
pub(super) const BINS: usize = 64 * 256;
/// From this number of values on, they are put into bins first.
const MANY: usize = 8192;
/// Up to this number of values, they are sorted.
const FEW: usize = 48;

impl Value for u32 {
    fn sum(values: &[Self]) -> i128 {
        values.iter().map(|value| u64::from(*value)).sum::<u64>().into()
    }

    fn bin(self) -> usize {
        // The highest nine bits and their position, as in a floating-point number.
        let shift = (31 - (self | 256).leading_zeros()) - 8;
        ((shift << 8) + (self >> shift)) as usize
    }
}

impl Value for i64 {
    fn sum(values: &[Self]) -> i128 {
        values.iter().map(|value| i128::from(*value)).sum()
    }

    fn bin(self) -> usize {
        let value = self.max(0) as u64;
        let shift = (63 - (value | 256).leading_zeros()) - 8;
        (u64::from(shift << 8) + (value >> shift)) as usize
    }
}

/// Count, mean, extremes and percentiles of durations, in microseconds.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Number of values, at least one.
    pub count: u64,
    /// The smallest value.
    pub min: Micros,
    /// Arithmetic mean, in microseconds.
    pub mean: f64,
    /// The greatest value.
    pub max: Micros,
    /// Each requested percentile, in the order of the request, in microseconds.
    pub percentiles: Vec<f64>,
}

/// Statistics of a metric: its summary with the intervals of its percentiles, and the percentiles
/// over all tests.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Distribution {
    /// Summary of the existing values.
    pub summary: Summary,
    /// The 95 % confidence interval of each percentile, in microseconds; `None` if there are too
    /// few values.
    pub intervals: Vec<Option<(f64, f64)>>,
}

/// Returns percentiles by linear interpolation between closest ranks, at (n − 1)·q; empty if there
/// are no values.
///
/// `values` is reordered: a percentile needs only two ranks, which a selection finds in linear
/// time.
pub fn percentiles<T: Value>(values: &mut [T], qs: &[f64]) -> Vec<f64> {
    if values.is_empty() {
        return Vec::new();
    }
    let n = values.len();
    let mut wanted: Vec<usize> = Vec::with_capacity(2 * qs.len());
    qs.iter().for_each(|q| needs(n, *q, &mut wanted));
    let ranked = Ranked::of(values, wanted);
    qs.iter().map(|q| ranked.percentile(n, *q)).collect()
}

/// Like [`percentiles`], for the values of a metric, in microseconds; `None` if there are none.
pub fn percentiles_of<const N: usize>(values: &mut Values, qs: &[f64; N]) -> Option<[f64; N]> {
    let found = match values {
        Values::Narrow(values) => percentiles(values, qs),
        Values::Wide(values) => percentiles(values, qs),
    };
    found.try_into().ok()
}

/// Like [`distribution`], for the values of a metric.
pub fn distribution_of(
    values: &mut Values,
    qs: &[f64],
    delivered: Option<(usize, &mut Vec<DeliveredPercentile>)>,
) -> Option<Distribution> {
    match values {
        Values::Narrow(values) => distribution(values, qs, delivered),
        Values::Wide(values) => distribution(values, qs, delivered),
    }
}

/// Computes the statistics of a metric's values, which are reordered; `None` if there are none.
/// `tests` is the number of counted tests: `delivered` gets one percentile over all of them (see
/// [`delivered_percentile`]) for each `q`.
pub fn distribution<T: Value>(
    values: &mut [T],
    qs: &[f64],
    delivered: Option<(usize, &mut Vec<DeliveredPercentile>)>,
) -> Option<Distribution> {
    if values.is_empty() {
        return None;
    }
    let (n, sum) = (values.len(), T::sum(values));
    let needed = Needed::new(n, qs, delivered.as_ref().map(|(tests, _)| *tests));
    let ranked = Ranked::of(values, needed.ranks.clone());
    Some(needed.distribution(sum, &ranked, qs, delivered))
}

/// Ranks that the statistics of some values need.
pub(super) struct Needed {
    n: usize,
    intervals: Vec<Option<(usize, usize)>>,
    /// The ranks, in any order.
    pub(super) ranks: Vec<usize>,
}

impl Needed {
    /// Determines the ranks for `n` values, at least one; `tests` is the number of counted tests,
    /// if percentiles over all of them are needed, too.
    pub(super) fn new(n: usize, qs: &[f64], tests: Option<usize>) -> Self {
        let intervals: Vec<Option<(usize, usize)>> =
            qs.iter().map(|q| interval_ranks(n, *q)).collect();
        // The extremes are ranks like any other.
        let mut ranks: Vec<usize> = Vec::with_capacity(2 + 6 * qs.len());
        ranks.extend([0, n - 1]);
        for (q, interval) in qs.iter().zip(&intervals) {
            needs(n, *q, &mut ranks);
            ranks.extend(interval.iter().flat_map(|(low, high)| [*low, *high]));
            if let Some(tests) = tests {
                needs(tests.max(n), *q, &mut ranks);
            }
        }
        ranks.retain(|rank| *rank < n);
        Self { n, intervals, ranks }
    }

    /// Computes the statistics from the sum of the values and those at the ranks.
    pub(super) fn distribution(
        self,
        sum: i128,
        ranked: &Ranked,
        qs: &[f64],
        delivered: Option<(usize, &mut Vec<DeliveredPercentile>)>,
    ) -> Distribution {
        let n = self.n;
        if let Some((tests, delivered)) = delivered {
            let tests = tests.max(n);
            delivered.extend(qs.iter().map(|q| {
                if highest_rank(tests, *q) < n {
                    DeliveredPercentile::Within(ranked.percentile(tests, *q))
                } else {
                    DeliveredPercentile::NotDelivered
                }
            }));
        }
        let ends = |(low, high)| (ranked.at(low) as f64, ranked.at(high) as f64);
        Distribution {
            summary: Summary {
                count: n as u64,
                min: Micros(ranked.at(0)),
                mean: sum as f64 / n as f64,
                max: Micros(ranked.at(n - 1)),
                percentiles: qs.iter().map(|q| ranked.percentile(n, *q)).collect(),
            },
            intervals: self.intervals.into_iter().map(|ranks| ranks.map(ends)).collect(),
        }
    }
}

/// Returns the rank (from 0) of (n − 1)·q of `n` values, and the fraction of the distance to the
/// next.
pub fn needed_ranks(n: usize, q: f64) -> (usize, f64) {
    if n == 0 { (0, 0.0) } else { rank(n, q) }
}

/// Returns the lower rank of (n − 1)·q and the fraction of the distance to the next.
fn rank(n: usize, q: f64) -> (usize, f64) {
    let position = (n - 1) as f64 * q.clamp(0.0, 1.0);
    let low = (position.floor() as usize).min(n - 1);
    let fraction = position - low as f64;
    (low, if low + 1 < n { fraction } else { 0.0 })
}

/// Returns the higher rank that a percentile needs.
fn highest_rank(n: usize, q: f64) -> usize {
    let (low, fraction) = rank(n, q);
    low + usize::from(fraction > 0.0)
}

/// Adds the ranks that a percentile needs.
pub(super) fn needs(n: usize, q: f64, wanted: &mut Vec<usize>) {
    let (low, fraction) = rank(n, q);
    wanted.push(low);
    if fraction > 0.0 {
        wanted.push(low + 1);
    }
}

/// The values at some ranks.
pub(super) struct Ranked(Vec<(usize, i64)>);

impl Ranked {
    /// Takes ranks in ascending order, each with its value.
    pub(super) fn new(ranks: Vec<(usize, i64)>) -> Self {
        Self(ranks)
    }

    /// Selects the values at these ranks; `values` may be reordered.
    fn of<T: Value>(values: &mut [T], mut ranks: Vec<usize>) -> Self {
        ranks.sort_unstable();
        ranks.dedup();
        if values.len() < MANY {
            select(values, 0, &ranks);
            return Self(ranks.into_iter().map(|rank| (rank, values[rank].into())).collect());
        }
        // With many values, only those in the bins of the requested ranks are needed. Two passes
        // without branches find them, whatever the number of ranks; their ranks among these values
        // follow from the number skipped in lower bins.
        let mut counts = vec![0_u32; BINS];
        for value in values.iter() {
            counts[value.bin() % BINS] += 1;
        }
        let mut kept = vec![0_u8; BINS];
        let mut moved: Vec<usize> = Vec::with_capacity(ranks.len());
        let (mut below, mut chosen, mut next) = (0_usize, 0_usize, 0_usize);
        for (bin, count) in counts.iter().enumerate() {
            let count = *count as usize;
            while next < ranks.len() && ranks[next] < below + count {
                moved.push(ranks[next] - below + chosen);
                kept[bin] = 1;
                next += 1;
            }
            below += count;
            if kept[bin] == 1 {
                chosen += count;
            }
        }
        let mut few: Vec<T> = vec![values[0]; chosen + 1];
        let mut end = 0;
        for value in values.iter() {
            few[end] = *value;
            end += usize::from(kept[value.bin() % BINS]);
        }
        few.truncate(chosen);
        select(&mut few, 0, &moved);
        Self(ranks.into_iter().zip(moved).map(|(rank, place)| (rank, few[place].into())).collect())
    }

    /// Returns the value at a requested rank.
    fn at(&self, rank: usize) -> i64 {
        let index = self.0.partition_point(|(known, _)| *known < rank);
        self.0.get(index).map_or(0, |(_, value)| *value)
    }

    /// Returns the percentile of `n` values that begin with these.
    pub(super) fn percentile(&self, n: usize, q: f64) -> f64 {
        let (low, fraction) = rank(n, q);
        let below = self.at(low) as f64;
        if fraction > 0.0 { below + (self.at(low + 1) as f64 - below) * fraction } else { below }
    }
}

/// Moves the values of ascending ranks to their places; `offset` is the rank of the first value.
fn select<T: Copy + Ord>(values: &mut [T], offset: usize, ranks: &[usize]) {
    let (Some(first), Some(last)) = (ranks.first(), ranks.last()) else {
        return;
    };
    // Cut out the widest stretch without requested ranks: its values need not be looked at again.
    // The ranks of the median and of high percentiles with their intervals form two clusters.
    let before = (first - offset, 0);
    let between = ranks.windows(2).zip(1..).map(|(pair, index)| (pair[1] - pair[0], index));
    let after = (offset + values.len() - 1 - last, ranks.len() - 1);
    let Some((widest, cut)) = between.chain([before, after]).max() else {
        return;
    };
    if values.len() <= FEW || widest < values.len() / 5 {
        values.sort_unstable();
        return;
    }
    let at = ranks[cut] - offset;
    let (below, _, above) = values.select_nth_unstable(at);
    select(below, offset, &ranks[..cut]);
    select(above, offset + at + 1, &ranks[cut + 1..]);
}

/// A percentile with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    /// The quantile, in [0, 1].
    pub q: f64,
    /// Number of values.
    pub count: u64,
    /// The percentile, in microseconds.
    pub value: f64,
    /// Lower and upper end of the interval, in microseconds; `None` if there are too few values.
    pub interval: Option<(f64, f64)>,
}

impl Percentile {
    /// Computes a percentile of values in any order, which are sorted; `None` if there are none.
    ///
    /// The interval is distribution-free: two order statistics between which the true percentile
    /// lies with at least 95 % probability, whatever the distribution (e.g. Hahn and Meeker,
    /// *Statistical Intervals*, 1991, section 5.2).
    pub fn of(values: &mut [i64], q: f64) -> Option<Self> {
        let found = distribution(values, &[q], None)?;
        Some(Self {
            q,
            count: found.summary.count,
            value: *found.summary.percentiles.first()?,
            interval: found.intervals.first().copied().flatten(),
        })
    }
}

/// Returns the ranks (from 0) of the order statistics that enclose the `q` percentile of `n` values
/// with at least 95 % probability; `None` if even the extremes don't.
pub fn interval_ranks(n: usize, q: f64) -> Option<(usize, usize)> {
    // Cache: days have a few hundred samples each, often the same number.
    type Known = HashMap<(usize, u64), Option<(usize, usize)>>;
    thread_local! {
        static KNOWN: RefCell<Known> = RefCell::default();
    }
    if n < 2 || !(q > 0.0 && q < 1.0) {
        return None;
    }
    if n > EXACT_UP_TO {
        return find_interval_ranks(n, q);
    }
    KNOWN.with_borrow_mut(|known| {
        *known.entry((n, q.to_bits())).or_insert_with(|| find_interval_ranks(n, q))
    })
}

/// Up to this number of values the binomial distribution is summed; above it, the normal
/// approximation is as good.
const EXACT_UP_TO: usize = 2000;

fn find_interval_ranks(n: usize, q: f64) -> Option<(usize, usize)> {
    // X: how many of n values are below the true percentile; binomial(n, q). [x(l), x(u)] (from 1)
    // covers it with P(l <= X < u). Each tail may have 2.5 %.
    let (low, high) = if n <= EXACT_UP_TO {
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

/// A percentile in which undelivered mail counts as slower than any delivered mail.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum DeliveredPercentile {
    /// Microseconds.
    Within(f64),
    /// The share of mails that were not delivered, or may not have been yet, is at least this
    /// large.
    NotDelivered,
}

/// Returns the percentile of the round trip over all counted tests; `delivered` are the round trips
/// of the delivered mails, `tests` is the number of counted tests. `None` without a counted test.
pub fn delivered_percentile(
    delivered: &mut [i64],
    tests: usize,
    q: f64,
) -> Option<DeliveredPercentile> {
    let tests = tests.max(delivered.len());
    if tests == 0 {
        return None;
    }
    if highest_rank(tests, q) >= delivered.len() {
        return Some(DeliveredPercentile::NotDelivered);
    }
    let mut wanted = Vec::with_capacity(2);
    needs(tests, q, &mut wanted);
    let ranked = Ranked::of(delivered, wanted);
    Some(DeliveredPercentile::Within(ranked.percentile(tests, q)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Follows the definition literally.
    fn by_sorting(values: &[i64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let position = (sorted.len() - 1) as f64 * q;
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        sorted[low] as f64 + (sorted[high] - sorted[low]) as f64 * (position - low as f64)
    }

    #[test]
    fn known_percentiles() {
        let mut values = [40_i64, 10, 30, 20];
        assert_eq!(percentiles(&mut values, &[0.0, 0.5, 0.75, 1.0]), [10.0, 25.0, 32.5, 40.0]);
        assert_eq!(percentiles(&mut [7_i64], &CONTRACT), [7.0; 4]);
        assert_eq!(percentiles::<i64>(&mut [], &CONTRACT), Vec::<f64>::new());
    }

    #[test]
    fn interval_ranks_known_from_tables() {
        // Median of 10: the second and ninth value cover it with 97.9 %; of 5 values not even the
        // extremes reach 95 %.
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
        fn many_values_agree_with_sorting(
            values in prop::collection::vec(prop_oneof![0_u32..200, 0_u32..5_000_000, prop::num::u32::ANY], MANY..2 * MANY),
            qs in prop::collection::vec(0.0..=1.0_f64, 1..8),
        ) {
            let wide: Vec<i64> = values.iter().map(|value| i64::from(*value) - 100).collect();
            let narrow: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
            let found = distribution(&mut values.clone(), &qs, None).expect("there are values");
            for (index, q) in qs.iter().enumerate() {
                let expected = by_sorting(&narrow, *q);
                prop_assert!((found.summary.percentiles[index] - expected).abs() <= 1e-9 * expected.abs().max(1.0));
                let below = percentiles(&mut wide.clone(), &[*q])[0];
                let expected = by_sorting(&wide, *q);
                prop_assert!((below - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{below} {expected}");
            }
        }

        #[test]
        fn undelivered_mails_are_the_slowest(
            values in prop::collection::vec(0_i64..1000, 0..300),
            undelivered in 0_usize..50,
            q in 0.0..=1.0_f64,
        ) {
            const NEVER: i64 = 1 << 40;
            let tests = values.len() + undelivered;
            let found = delivered_percentile(&mut values.clone(), tests, q);
            let mut all = values.clone();
            all.resize(tests, NEVER);
            let mut with_plain = Vec::new();
            distribution(&mut values.clone(), &[q], Some((tests, &mut with_plain)));
            match found {
                None => prop_assert_eq!(tests, 0),
                Some(DeliveredPercentile::NotDelivered) => prop_assert!(by_sorting(&all, q) > 1000.0),
                Some(DeliveredPercentile::Within(value)) => {
                    prop_assert!((value - by_sorting(&all, q)).abs() < 1e-6);
                    prop_assert_eq!(&with_plain, &[DeliveredPercentile::Within(value)]);
                }
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
