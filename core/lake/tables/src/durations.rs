//! Columns of durations, and the values of a metric, in four bytes each if that suffices.

use std::ops::Range;

use mailqos_model::Micros;

/// Marks null among the values; no duration is that long.
const NULL_NARROW: u32 = u32::MAX;
const NULL_WIDE: i64 = i64::MIN;

/// Durations in microseconds, some of them null. They take four bytes each as long as none is
/// negative or longer than 71 minutes, because a year of them has to fit into memory.
#[derive(Debug, Clone)]
pub struct Durations(Store);

#[derive(Debug, Clone)]
enum Store {
    Narrow(Vec<u32>),
    Wide(Vec<i64>),
}

impl Default for Durations {
    fn default() -> Self {
        Self(Store::Narrow(Vec::new()))
    }
}

impl PartialEq for Durations {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Durations {}

impl Durations {
    /// Marks null in four bytes.
    pub(crate) const NULL: u32 = NULL_NARROW;

    /// Creates a column from values in four bytes each, with [`Durations::NULL`] for null.
    pub(crate) fn narrow(values: Vec<u32>) -> Self {
        Self(Store::Narrow(values))
    }

    /// Returns the value of a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<Micros> {
        match &self.0 {
            Store::Narrow(values) => values.get(row).copied().and_then(narrow),
            Store::Wide(values) => values.get(row).copied().and_then(wide),
        }
    }

    /// Iterates over all values, in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Micros>> + '_ {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Returns the number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Store::Narrow(values) => values.len(),
            Store::Wide(values) => values.len(),
        }
    }

    /// Returns whether there are no rows, or the column was not requested.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all values but keeps the allocated memory.
    pub(crate) fn clear(&mut self) {
        match &mut self.0 {
            Store::Narrow(values) => values.clear(),
            Store::Wide(_) => *self = Self::default(),
        }
    }

    pub(crate) fn reserve(&mut self, rows: usize) {
        match &mut self.0 {
            Store::Narrow(values) => values.reserve_exact(rows),
            Store::Wide(values) => values.reserve_exact(rows),
        }
    }

    /// Adds a value.
    #[inline]
    pub fn push(&mut self, value: Option<Micros>) {
        let value = value.map_or(NULL_WIDE, |value| value.0);
        match &mut self.0 {
            Store::Narrow(values) if value == NULL_WIDE => values.push(NULL_NARROW),
            Store::Narrow(values) if fits(value) => values.push(value as u32),
            _ => self.widened().push(value),
        }
    }

    pub(crate) fn push_nulls(&mut self, count: usize) {
        match &mut self.0 {
            Store::Narrow(values) => values.resize(values.len() + count, NULL_NARROW),
            Store::Wide(values) => values.resize(values.len() + count, NULL_WIDE),
        }
    }

    /// Adds values that are not null.
    pub(crate) fn append(&mut self, more: &[i64]) {
        match &mut self.0 {
            // Without an early exit, so that the check is vectorised.
            Store::Narrow(values) if more.iter().fold(true, |all, value| all & fits(*value)) => {
                values.extend(more.iter().map(|value| *value as u32));
            }
            _ => self.widened().extend(more),
        }
    }

    /// Appends values with a validity bitmap: the lowest bit of the first word belongs to the first
    /// value.
    pub(crate) fn append_nullable<W: Iterator<Item = u64>>(
        &mut self,
        more: &[i64],
        words: impl Fn() -> W,
    ) {
        let blocks = || more.chunks(64).zip(words());
        if let Store::Narrow(values) = &mut self.0 {
            let before = values.len();
            values.reserve(more.len());
            // Without branches that could be mispredicted: invalid values become the null mark.
            let mut all_fit = true;
            for (block, word) in blocks() {
                values.extend(block.iter().enumerate().map(|(index, value)| {
                    let null = (word >> index) & 1 == 0;
                    all_fit &= null | fits(*value);
                    *value as u32 | 0_u32.wrapping_sub(null.into())
                }));
            }
            if all_fit {
                return;
            }
            values.truncate(before);
        }
        let values = self.widened();
        for (block, word) in blocks() {
            let valid = |index: usize| (word >> index) & 1 == 1;
            let each = block.iter().enumerate();
            values.extend(each.map(|(index, value)| if valid(index) { *value } else { NULL_WIDE }));
        }
    }

    /// Appends some rows of another column.
    pub(crate) fn append_rows(&mut self, from: &Self, rows: Range<usize>) {
        match (&mut self.0, &from.0) {
            (Store::Narrow(values), Store::Narrow(more)) => values.extend_from_slice(&more[rows]),
            (_, Store::Narrow(more)) => {
                self.widened().extend(more[rows].iter().map(|value| widen(*value)))
            }
            (_, Store::Wide(more)) => self.widened().extend_from_slice(&more[rows]),
        }
    }

    /// Returns whether a value may be longer than 71 minutes.
    pub(crate) fn may_be_long(&self) -> bool {
        matches!(self.0, Store::Wide(_))
    }

    fn widened(&mut self) -> &mut Vec<i64> {
        if let Store::Narrow(values) = &self.0 {
            self.0 = Store::Wide(values.iter().map(|value| widen(*value)).collect());
        }
        match &mut self.0 {
            Store::Wide(values) => values,
            Store::Narrow(_) => unreachable!("it has just been widened"),
        }
    }

    pub(crate) fn select(&mut self, rows: &[u32]) {
        match &mut self.0 {
            Store::Narrow(values) => {
                *values = rows.iter().map(|row| values[*row as usize]).collect()
            }
            Store::Wide(values) => *values = rows.iter().map(|row| values[*row as usize]).collect(),
        }
    }

    /// Appends the non-null values of the rows for which `counts` is true.
    pub(crate) fn collect_into(&self, rows: Range<usize>, counts: &[bool], values: &mut Values) {
        fn keep<F: Copy, T: Copy + Default>(
            from: &[F],
            counts: &[bool],
            null: impl Fn(F) -> bool,
            into: impl Fn(F) -> T,
            to: &mut Vec<T>,
        ) {
            // Writes each value but advances only if it is kept: no branch that could be
            // mispredicted.
            let begin = to.len();
            to.resize(begin + from.len(), T::default());
            let mut end = begin;
            for (value, counts) in from.iter().zip(counts) {
                to[end] = into(*value);
                end += usize::from(*counts & !null(*value));
            }
            to.truncate(end);
        }
        let counts = &counts[rows.clone()];
        match (&self.0, &mut *values) {
            (Store::Narrow(from), Values::Narrow(to)) => {
                keep(&from[rows], counts, |value| value == NULL_NARROW, |value| value, to);
            }
            (Store::Narrow(from), Values::Wide(to)) => {
                keep(&from[rows], counts, |value| value == NULL_NARROW, i64::from, to);
            }
            (Store::Wide(from), _) => {
                let to = values.widened();
                keep(&from[rows], counts, |value| value == NULL_WIDE, |value| value, to);
            }
        }
    }
}

#[inline]
fn fits(value: i64) -> bool {
    (value as u64) < NULL_NARROW as u64
}

#[inline]
fn narrow(value: u32) -> Option<Micros> {
    (value != NULL_NARROW).then(|| Micros(value.into()))
}

#[inline]
fn wide(value: i64) -> Option<Micros> {
    (value != NULL_WIDE).then_some(Micros(value))
}

#[inline]
fn widen(value: u32) -> i64 {
    if value == NULL_NARROW { NULL_WIDE } else { value.into() }
}

impl FromIterator<Option<Micros>> for Durations {
    fn from_iter<I: IntoIterator<Item = Option<Micros>>>(values: I) -> Self {
        let mut durations = Self::default();
        for value in values {
            durations.push(value);
        }
        durations
    }
}

/// Values of a metric in microseconds without nulls, in any order, in four bytes each if all of
/// them fit.
#[derive(Debug, Clone)]
pub enum Values {
    /// None is negative or longer than 71 minutes.
    Narrow(Vec<u32>),
    /// Any values.
    Wide(Vec<i64>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Values {
    /// Returns the number of values.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Narrow(values) => values.len(),
            Self::Wide(values) => values.len(),
        }
    }

    /// Returns whether there are no values.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all values but keeps the allocated memory.
    pub fn clear(&mut self) {
        match self {
            Self::Narrow(values) => values.clear(),
            Self::Wide(_) => *self = Self::default(),
        }
    }

    /// Returns how many values do not exceed a limit.
    pub fn up_to(&self, limit: Micros) -> u64 {
        match self {
            Self::Narrow(values) => match u32::try_from(limit.0) {
                Ok(limit) => values.iter().map(|value| u64::from(*value <= limit)).sum(),
                Err(_) => values.len() as u64,
            },
            Self::Wide(values) => values.iter().map(|value| u64::from(*value <= limit.0)).sum(),
        }
    }

    /// Adds a value.
    #[inline]
    pub fn push(&mut self, value: Micros) {
        match self {
            Self::Narrow(values) if fits(value.0) => values.push(value.0 as u32),
            _ => self.widened().push(value.0),
        }
    }

    /// Returns the median in microseconds, reordering the values; `None` if there are none.
    pub fn median(&mut self) -> Option<f64> {
        fn middle<T: Copy + Ord + Into<i64>>(values: &mut [T]) -> Option<f64> {
            let half = values.len() / 2;
            if values.is_empty() {
                return None;
            }
            let (below, upper, _) = values.select_nth_unstable(half);
            let upper: i64 = (*upper).into();
            let lower = if below.len() * 2 == values.len() {
                values[..half].iter().max().copied().map_or(upper, Into::into)
            } else {
                upper
            };
            Some(f64::midpoint(lower as f64, upper as f64))
        }
        match self {
            Self::Narrow(values) => match values.len() {
                0 => None,
                1..=16 => Some(middle_of_few::<16>(values)),
                17..=32 => Some(middle_of_few::<32>(values)),
                _ => middle(values),
            },
            Self::Wide(values) => middle(values),
        }
    }

    /// Moves the values of another into this one.
    pub fn append(&mut self, more: &mut Self) {
        match (&mut *self, more) {
            (Self::Narrow(values), Self::Narrow(more)) => values.append(more),
            (_, Self::Narrow(more)) => self.widened().extend(more.drain(..).map(i64::from)),
            (_, Self::Wide(more)) => self.widened().append(more),
        }
    }

    fn widened(&mut self) -> &mut Vec<i64> {
        if let Self::Narrow(values) = self {
            *self = Self::Wide(values.iter().map(|value| i64::from(*value)).collect());
        }
        match self {
            Self::Wide(values) => values,
            Self::Narrow(_) => unreachable!("it has just been widened"),
        }
    }
}

/// Returns the median of 1 to `N` values. An hour has a dozen of them, and a report on a year takes
/// millions of such medians: without branches that could be mispredicted, each takes half the time
/// of a selection.
fn middle_of_few<const N: usize>(values: &[u32]) -> f64 {
    let count = values.len();
    // The rest is greater than any value, so it counts for none.
    let mut all = [NULL_NARROW; N];
    for (slot, value) in all.iter_mut().zip(values) {
        *slot = *value;
    }
    let mut less = [0_u32; N];
    for value in values {
        for (less, other) in less.iter_mut().zip(&all) {
            *less += u32::from(*value < *other);
        }
    }
    // The value of a rank is the greatest of those that have at most as many less values.
    let at_rank = |rank: usize| {
        let ranked = values
            .iter()
            .zip(&less)
            .map(|(value, less)| if (*less as usize) <= rank { *value } else { 0 });
        ranked.max().unwrap_or_default()
    };
    f64::midpoint(at_rank((count - 1) / 2).into(), at_rank(count / 2).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_median_is_in_the_middle_of_the_sorted_values(
            values in prop::collection::vec(prop_oneof![0_u32..9, 0_u32..5_000_000, 0..NULL_NARROW], 1..40),
        ) {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let count = sorted.len();
            let expected = f64::midpoint(sorted[(count - 1) / 2].into(), sorted[count / 2].into());
            prop_assert_eq!(Values::Narrow(values.clone()).median(), Some(expected));
            let wide = values.into_iter().map(i64::from).collect();
            prop_assert_eq!(Values::Wide(wide).median(), Some(expected));
        }
    }

    #[test]
    fn no_values_have_no_median() {
        assert_eq!(Values::default().median(), None);
    }
}
