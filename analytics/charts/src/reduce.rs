//! Reduction of values: ten thousand points to the width of a chart without hiding an extreme, and
//! several values to their median.

/// A point of a line: its position from 0 to 1, and its value.
pub(super) type Point = (f64, f64);

/// Keeps the first, lowest, highest and last point of each column, which are those that determine
/// the drawn pixels (M4: Jugel and others, VLDB 2014). The order is unchanged.
pub(super) fn m4(points: &[Point], columns: usize) -> Vec<Point> {
    let columns = columns.max(1);
    if points.len() <= columns.saturating_mul(4) {
        return points.to_vec();
    }
    let column = |point: &Point| (point.0 * columns as f64) as usize;
    points
        .chunk_by(|one, other| column(one) == column(other))
        .flat_map(|chunk| {
            let by = |wanted: std::cmp::Ordering| {
                (0..chunk.len()).fold(0, |best, index| {
                    if chunk[index].1.total_cmp(&chunk[best].1) == wanted { index } else { best }
                })
            };
            let mut kept =
                [0, by(std::cmp::Ordering::Less), by(std::cmp::Ordering::Greater), chunk.len() - 1];
            kept.sort_unstable();
            let mut kept = kept.to_vec();
            kept.dedup();
            kept.into_iter().map(|index| chunk[index])
        })
        .collect()
}

/// Returns the lowest and highest value of each column, at its start and end so that even a single
/// extreme has a width. The points have a lowest and a highest value each.
pub(super) fn envelope(points: &[(f64, f64, f64)], columns: usize) -> Vec<(f64, f64, f64)> {
    let columns = columns.max(1);
    if points.len() <= columns {
        return points.to_vec();
    }
    let column = |point: &(f64, f64, f64)| (point.0 * columns as f64).floor();
    points
        .chunk_by(|one, other| column(one) == column(other))
        .flat_map(|chunk| {
            let low = chunk.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
            let high = chunk.iter().map(|point| point.2).fold(f64::NEG_INFINITY, f64::max);
            let begin = column(&chunk[0]);
            [begin, begin + 1.0].map(|edge| (edge / columns as f64, low, high))
        })
        .collect()
}

/// Returns the median; of an even number of values, the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(lower / 2.0 + upper / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }

    proptest! {
        #[test]
        fn reduction_keeps_extremes(values in prop::collection::vec(-1e9..1e9, 1..3_000), columns in 1_usize..200) {
            let whole = values.len() as f64;
            let points: Vec<Point> = values.iter().enumerate().map(|(index, value)| (index as f64 / whole, *value)).collect();
            let kept = m4(&points, columns);
            prop_assert!(kept.len() <= columns * 4 || kept.len() == points.len());
            let extreme = |points: &[Point], pick: fn(f64, f64) -> f64| points.iter().map(|point| point.1).reduce(pick);
            prop_assert_eq!(extreme(&kept, f64::min), extreme(&points, f64::min));
            prop_assert_eq!(extreme(&kept, f64::max), extreme(&points, f64::max));
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
