//! All values of a metric in little memory, and exact percentiles over the values of many monitors.

use super::percentiles::{BINS, Ranked, Value as _, needs};
use mailqos_lake_tables::Values;

/// Values in ascending order, each stored as the difference to the previous one: a byte or two per
/// value, so that the values of a thousand monitors over a year fit into memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    count: usize,
    least: i64,
    distances: Box<[u8]>,
}

impl Packed {
    /// Packs values, which may be in any order.
    pub fn of(values: Values) -> Self {
        match values {
            Values::Narrow(mut values) => {
                values.sort_unstable();
                Self::sorted(values.into_iter().map(i64::from))
            }
            Values::Wide(mut values) => {
                values.sort_unstable();
                Self::sorted(values.into_iter())
            }
        }
    }

    fn sorted(values: impl ExactSizeIterator<Item = i64>) -> Self {
        let count = values.len();
        let mut distances = Vec::with_capacity(2 * count);
        let (mut least, mut before) = (0, None);
        for value in values {
            match before {
                None => least = value,
                // Two's complement is correct even if the difference of two 64-bit numbers needs 65
                // bits.
                Some(before) => push(&mut distances, value.wrapping_sub(before) as u64),
            }
            before = Some(value);
        }
        Self { count, least, distances: distances.into_boxed_slice() }
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates over the values in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let mut bytes = self.distances.iter();
        let first = (self.count > 0).then_some(self.least);
        std::iter::successors(first, move |before| {
            let mut byte = *bytes.next()?;
            let mut distance = u64::from(byte & 127);
            let mut shift = 7;
            while byte & 128 != 0 {
                byte = *bytes.next()?;
                distance |= u64::from(byte & 127) << shift;
                shift += 7;
            }
            Some(before.wrapping_add(distance as i64))
        })
    }

    /// Computes percentiles over several sets of values, exactly like
    /// [`percentiles`](super::percentiles()), without having all values in memory at the same time.
    /// Empty if there are no values.
    pub fn percentiles<'a>(all: impl Iterator<Item = &'a Self> + Clone, qs: &[f64]) -> Vec<f64> {
        let n = all.clone().map(Self::len).sum();
        if n == 0 {
            return Vec::new();
        }
        let mut wanted = Vec::with_capacity(2 * qs.len());
        qs.iter().for_each(|q| needs(n, *q, &mut wanted));
        wanted.sort_unstable();
        wanted.dedup();
        let values = || all.clone().flat_map(Self::iter);
        let mut counts = vec![0_usize; BINS];
        for value in values() {
            counts[value.bin() % BINS] += 1;
        }
        // Only values in the bins of the requested ranks are needed.
        let mut kept = vec![false; BINS];
        let (mut below, mut left_out, mut places) = (0, 0, Vec::with_capacity(wanted.len()));
        for (bin, count) in counts.into_iter().enumerate() {
            let ranks = wanted.iter().filter(|rank| (below..below + count).contains(*rank));
            let before = places.len();
            places.extend(ranks.map(|rank| (*rank, rank - left_out)));
            kept[bin] = places.len() > before;
            below += count;
            left_out += if kept[bin] { 0 } else { count };
        }
        let mut few: Vec<i64> = values().filter(|value| kept[value.bin() % BINS]).collect();
        few.sort_unstable();
        let ranked =
            Ranked::new(places.into_iter().map(|(rank, place)| (rank, few[place])).collect());
        qs.iter().map(|q| ranked.percentile(n, *q)).collect()
    }
}

/// Appends an unsigned LEB128 number.
fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::percentiles;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_in_order(values in proptest::collection::vec(any::<i64>(), 0..200)) {
            let packed = Packed::of(Values::Wide(values.clone()));
            let mut values = values;
            values.sort_unstable();
            prop_assert_eq!(packed.len(), values.len());
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), values);
        }

        #[test]
        fn percentiles_over_several_are_those_of_all_values(
            parts in proptest::collection::vec(proptest::collection::vec(0_u32..5_000_000, 0..300), 0..6),
            negative in proptest::collection::vec(-5_000_i64..5_000, 0..30),
            qs in proptest::array::uniform4(0.0_f64..=1.0),
        ) {
            let mut all: Vec<i64> = parts.iter().flatten().map(|value| i64::from(*value)).collect();
            all.extend(&negative);
            let mut packed: Vec<Packed> = parts.into_iter().map(|part| Packed::of(Values::Narrow(part))).collect();
            packed.push(Packed::of(Values::Wide(negative)));
            prop_assert_eq!(Packed::percentiles(packed.iter(), &qs), percentiles(&mut all, &qs));
        }
    }
}
