//! Exact order statistics of values that are in several places, by counting them in two or three
//! passes: only counts are exchanged, never the values.
//!
//! The first pass counts values by bin; a bin is at most 0.4 % wide. The count tells in which bins
//! the requested ranks are, and the next passes divide only these, until each part is a single
//! value. Values are whole microseconds, so there is no rounding, and the result is that of sorting
//! all values.

use std::collections::BTreeMap;

use mailqos_lake_tables::Values;
use serde::{Deserialize, Serialize};

use super::percentiles::{Ranked, Value as _};

/// First bin of values that are not negative.
const MIDDLE: u16 = 1 << 14;
/// Values up to this bin have one bin each.
const SINGLE: u16 = 512;
/// Binary logarithm of the number of parts that a range is divided into by a pass.
const PART_BITS: u8 = 12;

/// Number, sum and bins of some values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    count: u64,
    sum: i128,
    /// Number of values of each bin that has any.
    bins: BTreeMap<u16, u64>,
}

/// A range of values to divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The smallest value.
    low: i64,
    /// Binary logarithm of the number of possible values.
    bits: u8,
    /// Binary logarithm of the number of possible values of a part.
    step: u8,
}

/// Number of values of each part of a range that has any.
pub type Parts = BTreeMap<u64, u64>;

/// A pass does not agree with an earlier one: the values have changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("two passes over the same samples have counted different values")]
pub struct Disagreement;

/// A range that contains requested ranks.
#[derive(Debug, Clone)]
struct Open {
    span: Span,
    /// Number of values in it.
    count: u64,
    /// Number of smaller values.
    below: u64,
    /// The ranks, ascending.
    ranks: Vec<u64>,
}

/// Requested ranks of some values, and what is known about the values at them.
#[derive(Debug, Clone)]
pub struct Order {
    /// Sum of all values.
    pub(super) sum: i128,
    open: Vec<Open>,
    known: BTreeMap<u64, i64>,
}

fn bin(value: i64) -> u16 {
    // There are fewer bins than 2^14 for each sign.
    let place = |value: i64| value.bin() as u16;
    if value < 0 { MIDDLE - 1 - place(!value) } else { MIDDLE + place(value) }
}

/// Returns the smallest value of a bin, and the binary logarithm of the number of its values.
fn range_of(bin: u16) -> (i64, u8) {
    let positive = |bin: u16| {
        if bin < SINGLE {
            return (i64::from(bin), 0);
        }
        let shift = (bin >> 8) - 1;
        (i64::from(bin - (shift << 8)) << shift, shift as u8)
    };
    match bin.checked_sub(MIDDLE) {
        Some(bin) => positive(bin),
        None => {
            let (low, bits) = positive(MIDDLE - 1 - bin);
            (!(low + ((1 << bits) - 1)), bits)
        }
    }
}

impl Counted {
    /// Counts values.
    pub fn of(values: &Values) -> Self {
        let mut counted = Self::default();
        match values {
            Values::Narrow(values) => values.iter().for_each(|value| counted.push((*value).into())),
            Values::Wide(values) => values.iter().for_each(|value| counted.push(*value)),
        }
        counted
    }

    fn push(&mut self, value: i64) {
        self.count += 1;
        self.sum += i128::from(value);
        *self.bins.entry(bin(value)).or_default() += 1;
    }

    /// Adds other values.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (bin, count) in &other.bins {
            *self.bins.entry(*bin).or_default() += count;
        }
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the order of the values, to find those at some ranks (from 0).
    pub(super) fn order(&self, mut ranks: Vec<usize>) -> Order {
        ranks.sort_unstable();
        ranks.dedup();
        let ranks: Vec<u64> = ranks.into_iter().map(|rank| rank as u64).collect();
        let parts = self.bins.iter().map(|(bin, count)| (range_of(*bin), *count));
        let mut order = Order { sum: self.sum, open: Vec::new(), known: BTreeMap::new() };
        order.divide(&ranks, 0, parts);
        order
    }
}

impl Span {
    fn new(low: i64, bits: u8, count: u64) -> Self {
        // A few values have few parts, however narrow these are.
        let few = count <= 1 << PART_BITS;
        Self { low, bits, step: if few { 0 } else { bits.saturating_sub(PART_BITS) } }
    }

    /// Returns the part that a value is in.
    fn part(&self, value: i64) -> Option<u64> {
        if value < self.low {
            return None;
        }
        let distance = value.wrapping_sub(self.low) as u64;
        let is_inside = distance.checked_shr(self.bits.into()).unwrap_or(0) == 0;
        is_inside.then(|| distance.checked_shr(self.step.into()).unwrap_or(0))
    }

    /// Counts the values in each part of some ranges, which are disjoint and in ascending order.
    pub fn count(spans: &[Self], values: &Values) -> Vec<Parts> {
        let mut parts = vec![Parts::new(); spans.len()];
        let mut push = |value: i64| {
            let index = spans.partition_point(|span| span.low <= value);
            if let Some(index) = index.checked_sub(1)
                && let Some(part) = spans[index].part(value)
            {
                *parts[index].entry(part).or_default() += 1;
            }
        };
        match values {
            Values::Narrow(values) => values.iter().for_each(|value| push((*value).into())),
            Values::Wide(values) => values.iter().for_each(|value| push(*value)),
        }
        parts
    }
}

impl Order {
    /// Returns the ranges that the next pass has to divide, disjoint and in ascending order; none
    /// if all is known.
    pub fn spans(&self) -> Vec<Span> {
        self.open.iter().map(|open| open.span).collect()
    }

    /// Takes the number of values in each part of [`Order::spans`].
    ///
    /// # Errors
    /// There are more or fewer values than before.
    pub fn narrow(&mut self, counted: &[Parts]) -> Result<(), Disagreement> {
        let open = std::mem::take(&mut self.open);
        if open.len() != counted.len() {
            return Err(Disagreement);
        }
        for (Open { span, count, below, ranks }, parts) in open.into_iter().zip(counted) {
            let last = if span.bits < 64 { (1_u64 << span.bits) - 1 } else { u64::MAX };
            let is_outside = |part: &u64| *part > last >> span.step;
            if parts.values().sum::<u64>() != count || parts.keys().any(is_outside) {
                return Err(Disagreement);
            }
            let parts = parts.iter().map(|(part, count)| {
                let low = span.low.wrapping_add((part << span.step) as i64);
                ((low, span.step), *count)
            });
            self.divide(&ranks, below, parts);
        }
        Ok(())
    }

    /// Distributes ranks to ranges, which follow each other; `below` values are smaller.
    fn divide(
        &mut self,
        ranks: &[u64],
        mut below: u64,
        ranges: impl Iterator<Item = ((i64, u8), u64)>,
    ) {
        let mut ranks = ranks.iter().copied().peekable();
        for ((low, bits), count) in ranges {
            let end = below + count;
            let mine: Vec<u64> =
                std::iter::from_fn(|| ranks.next_if(|rank| (below..end).contains(rank))).collect();
            if bits == 0 {
                self.known.extend(mine.into_iter().map(|rank| (rank, low)));
            } else if !mine.is_empty() {
                self.open.push(Open {
                    span: Span::new(low, bits, count),
                    count,
                    below,
                    ranks: mine,
                });
            }
            below = end;
        }
    }

    /// Returns the values at the requested ranks.
    pub(super) fn ranked(&self) -> Ranked {
        Ranked::new(self.known.iter().map(|(rank, value)| (*rank as usize, *value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Finds the values at all ranks of values in several places, and the number of passes.
    fn all(places: &[Vec<i64>]) -> (Vec<i64>, usize) {
        let count: usize = places.iter().map(Vec::len).sum();
        all_of(places, (0..count).collect())
    }

    fn all_of(places: &[Vec<i64>], ranks: Vec<usize>) -> (Vec<i64>, usize) {
        let places: Vec<Values> =
            places.iter().map(|values| Values::Wide(values.clone())).collect();
        let mut counted = Counted::default();
        places.iter().for_each(|values| counted.add(&Counted::of(values)));
        let mut order = counted.order(ranks);
        let mut passes = 1;
        while !order.spans().is_empty() {
            let spans = order.spans();
            let mut sum = vec![Parts::new(); spans.len()];
            for values in &places {
                for (sum, parts) in sum.iter_mut().zip(Span::count(&spans, values)) {
                    parts.into_iter().for_each(|(part, n)| *sum.entry(part).or_default() += n);
                }
            }
            order.narrow(&sum).expect("nothing changed");
            passes += 1;
        }
        (order.known.into_values().collect(), passes)
    }

    /// Durations as there are, ties, the extremes, and values around zero.
    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            0_i64..60_000_000,
            Just(1_234_567),
            -3_i64..3,
            -60_000_000_i64..0,
            any::<i64>(),
            Just(i64::MIN),
            Just(i64::MAX),
        ]
    }

    proptest! {
        #[test]
        fn counting_is_equal_to_sorting(places in prop::collection::vec(prop::collection::vec(value(), 0..200), 0..5)) {
            let mut sorted: Vec<i64> = places.iter().flatten().copied().collect();
            sorted.sort_unstable();
            prop_assert_eq!(all(&places).0, sorted);
        }

        #[test]
        fn a_bin_contains_its_values(value in value()) {
            let (low, bits) = range_of(bin(value));
            prop_assert!(low <= value && value.wrapping_sub(low) as u64 >> bits == 0, "{low} {bits}");
        }

        #[test]
        fn bins_are_in_the_order_of_values(a in value(), b in value()) {
            prop_assert_eq!(bin(a.min(b)).min(bin(a.max(b))), bin(a.min(b)));
        }

        #[test]
        fn counts_travel_as_json(values in prop::collection::vec(value(), 0..50)) {
            let counted = Counted::of(&Values::Wide(values));
            let text = serde_json::to_string(&counted).expect("text");
            prop_assert_eq!(serde_json::from_str::<Counted>(&text).expect("counts"), counted);
        }
    }

    #[test]
    fn durations_take_at_most_three_passes() {
        // 200,000 values up to five minutes, many of them in the same bins.
        let values: Vec<i64> = (0..200_000_u64)
            .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 300_000_000) as i64)
            .collect();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let ranks = vec![0, 99_999, 100_000, 198_000, 199_999];
        let expected: Vec<i64> = ranks.iter().map(|rank| sorted[*rank]).collect();
        let (found, passes) = all_of(&[values], ranks.clone());
        assert_eq!((found, passes <= 3), (expected, true));
        // All values in one bin, at both ends of it.
        let (low, bits) = range_of(bin(250_000_000));
        let mut close: Vec<i64> = (0..10_000).map(|n| low + n % 2 * ((1 << bits) - 1)).collect();
        let (found, passes) = all_of(&[close.clone()], vec![0, 4_999, 5_000, 9_999]);
        close.sort_unstable();
        assert_eq!((found, passes), (vec![close[0], close[0], close[9_999], close[9_999]], 3));
    }

    /// Wrong answers of programs that merge summaries of parts instead of counting.
    #[test]
    fn parts_are_merged_without_an_error() {
        // https://github.com/DataDog/sketches-js/issues/22: merged negative numbers became zero.
        let negative = [(-10..-5).collect::<Vec<i64>>(), (-5..0).collect()];
        assert_eq!(all(&negative).0, (-10..0).collect::<Vec<i64>>());
        // https://github.com/dask/dask/issues/6551: one value per part.
        let single: Vec<Vec<i64>> = (1..=100).map(|value| vec![value]).collect();
        assert_eq!(all_of(&single, vec![49, 50]).0, [50, 51]);
        // https://github.com/Eventual-Inc/Daft/pull/300: far more parts than values.
        let mut empty = vec![Vec::new(); 1_000];
        empty[700].push(5);
        assert_eq!(all(&empty).0, [5]);
        // https://github.com/apache/spark/pull/15641: many values equal to the smallest one.
        let equal = [vec![7; 500], vec![7, 7, 9_000_000], vec![7; 20]];
        assert_eq!(all_of(&equal, vec![0, 261, 521, 522]).0, [7, 7, 7, 9_000_000]);
        // https://github.com/apache/spark/pull/26029: parts of very different sizes and ranges.
        let uneven = [vec![1], (2..100_000).collect(), vec![100_000, 100_001]];
        assert_eq!(
            all_of(&uneven, vec![0, 25_000, 99_999, 100_000]).0,
            [1, 25_001, 100_000, 100_001]
        );
        // https://github.com/questdb/questdb/issues/4037: beyond the range of a histogram.
        assert_eq!(
            all(&[vec![-73_997_484], vec![i64::MIN, i64::MAX]]).0,
            [i64::MIN, -73_997_484, i64::MAX]
        );
    }

    #[test]
    fn values_that_change_between_passes_are_noticed() {
        let before = Values::Wide(vec![1_000_000, 1_000_001]);
        let order = Counted::of(&before).order(vec![0, 1]);
        let spans = order.spans();
        for after in [vec![1_000_000], vec![1_000_000; 3], vec![5]] {
            let parts = Span::count(&spans, &Values::Wide(after));
            assert_eq!(order.clone().narrow(&parts), Err(Disagreement));
        }
        assert_eq!(order.clone().narrow(&[]), Err(Disagreement));
        let outside = Parts::from([(1 << 40, 2)]);
        assert_eq!(order.clone().narrow(&[outside]), Err(Disagreement));
    }
}
