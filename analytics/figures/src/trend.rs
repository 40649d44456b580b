//! Lasting changes of a level: slopes (Theil 1950, Sen 1968) with their significance (Mann 1945,
//! Kendall 1975), and shifts (Pettitt 1979; located by PELT: Killick, Fearnhead and Eckley 2012).

use super::significance::{median, normal, ranks};

/// A robust slope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Median of the slopes between all pairs of points, per unit of x.
    pub per_unit: f64,
    /// Its 95 % confidence interval.
    pub interval: (f64, f64),
    /// The level at the first x on that slope: the median of y − slope · x, plus slope times the
    /// first x.
    pub at_first: f64,
    /// Probability of such a trend among values without one: Mann and Kendall, corrected for ties
    /// and autocorrelation.
    pub p: f64,
}

/// Mann and Kendall's S, its variance with ties, and the score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kendall {
    /// Rising pairs minus falling ones.
    pub s: i64,
    /// Variance of S without a trend: (n(n−1)(2n+5) − Σt(t−1)(2t+5)) / 18.
    pub variance: f64,
}

impl Kendall {
    /// Computes S for values in chronological order.
    pub fn of(values: &[f64]) -> Self {
        let mut s = 0_i64;
        for (index, later) in values.iter().enumerate() {
            for earlier in &values[..index] {
                s += i64::from(later > earlier) - i64::from(later < earlier);
            }
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let spread = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
        let ties: f64 =
            sorted.chunk_by(|a, b| a == b).map(|group| spread(group.len() as f64)).sum();
        Self { s, variance: (spread(values.len() as f64) - ties) / 18.0 }
    }

    /// Returns the standard score, corrected for continuity; 0 if all values are the same.
    pub fn z(&self, inflation: f64) -> f64 {
        let deviation = (self.variance * inflation).sqrt();
        if deviation > 0.0 { (self.s - self.s.signum()) as f64 / deviation } else { 0.0 }
    }
}

/// Returns by how much autocorrelation inflates the variance of S (Hamed and Rao 1998), from values
/// without trend; never below 1.
pub fn inflation(residuals: &[f64]) -> f64 {
    let n = residuals.len();
    if n < 4 {
        return 1.0;
    }
    let (ranks, _) = ranks(residuals);
    let mean = ranks.iter().sum::<f64>() / n as f64;
    let deviations: Vec<f64> = ranks.iter().map(|rank| rank - mean).collect();
    let power: f64 = deviations.iter().map(|d| d * d).sum();
    if power <= 0.0 {
        return 1.0;
    }
    let bound = 1.96 / (n as f64).sqrt();
    let mut sum = 0.0;
    for lag in 1..n - 1 {
        let product: f64 = deviations[lag..].iter().zip(&deviations).map(|(a, b)| a * b).sum();
        let correlation = product / power;
        if correlation.abs() > bound {
            let left = (n - lag) as f64;
            sum += left * (left - 1.0) * (left - 2.0) * correlation;
        }
    }
    let n = n as f64;
    (1.0 + 2.0 / (n * (n - 1.0) * (n - 2.0)) * sum).max(1.0)
}

/// Returns the slope of points in the order of x; `None` with fewer than four points, or if all
/// have the same x.
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() < 4 {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (index, (x, y)) in points.iter().enumerate() {
        for (earlier_x, earlier_y) in &points[..index] {
            if x > earlier_x {
                slopes.push((y - earlier_y) / (x - earlier_x));
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    // Only a few ranks among some ten thousand slopes matter.
    let per_unit = median(&mut slopes)?;
    let mut levels: Vec<f64> = points.iter().map(|(x, y)| y - per_unit * x).collect();
    let level = median(&mut levels)?;
    let residuals: Vec<f64> = points.iter().map(|(x, y)| y - per_unit * x).collect();
    let values: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
    let kendall = Kendall::of(&values);
    let inflation = inflation(&residuals);
    // Sen's interval: as many pairs as S may differ by chance.
    let reach = 1.959_963_984_540_054 * (kendall.variance * inflation).sqrt();
    let count = slopes.len() as f64;
    let low = (((count - reach) / 2.0).floor().max(0.0)) as usize;
    let high = (((count + reach) / 2.0).ceil() as usize).min(slopes.len() - 1);
    // The median has divided the slopes, so each rank is in one half of them.
    let middle = slopes.len() / 2;
    let mut at_rank = |rank: usize| {
        let (half, rank) = if rank < middle {
            (&mut slopes[..middle], rank)
        } else {
            (&mut slopes[middle..], rank - middle)
        };
        *half.select_nth_unstable_by(rank, f64::total_cmp).1
    };
    Some(Slope {
        per_unit,
        interval: (at_rank(low), at_rank(high)),
        at_first: level + per_unit * points[0].0,
        p: normal(kendall.z(inflation)),
    })
}

/// Pettitt's test for a shift at an unknown place: the probability of such a shift among values
/// without one, `inflated` by autocorrelation.
pub fn pettitt(values: &[f64], inflation: f64) -> f64 {
    let n = values.len() as f64;
    if values.len() < 4 {
        return 1.0;
    }
    // K = max |2 Σ rank − t (n + 1)| over t, with mid-ranks for ties.
    let (ranks, _) = ranks(values);
    let mut sum = 0.0;
    let mut greatest: f64 = 0.0;
    for (index, rank) in ranks.iter().enumerate() {
        sum += rank;
        greatest = greatest.max((2.0 * sum - (index + 1) as f64 * (n + 1.0)).abs());
    }
    (2.0 * (-6.0 * greatest * greatest / ((n.powi(3) + n.powi(2)) * inflation)).exp()).min(1.0)
}

/// Returns where the level shifts: the first index of each new level, ascending. PELT with the cost
/// of a normal mean, a robust variance, and levels of at least `least` values.
pub fn shifts(values: &[f64], least: usize) -> Vec<usize> {
    let n = values.len();
    let least = least.max(1);
    if n < 2 * least {
        return Vec::new();
    }
    // From differences of neighbours, which shifts hardly affect.
    let mut steps: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    let noise = median(&mut steps).unwrap_or(0.0) / (0.674_489_75 * std::f64::consts::SQRT_2);
    let spread = values.iter().copied().fold(f64::MIN, f64::max)
        - values.iter().copied().fold(f64::MAX, f64::min);
    // Values that are mostly equal have no visible noise; a thousandth of the spread is used
    // instead.
    let noise = noise.max(spread * 1e-3).max(f64::MIN_POSITIVE);
    let (mut sums, mut squares) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let base = values[0];
    for (index, value) in values.iter().enumerate() {
        let value = (value - base) / noise;
        sums[index + 1] = sums[index] + value;
        squares[index + 1] = squares[index] + value * value;
    }
    let cost = |from: usize, to: usize| -> f64 {
        let count = (to - from) as f64;
        (squares[to] - squares[from]) - (sums[to] - sums[from]).powi(2) / count
    };
    // Stricter than Bayes' criterion (2 ln n): the noise is estimated, too.
    let penalty = 3.0 * (n as f64).ln();
    let mut best = vec![f64::INFINITY; n + 1];
    let mut last = vec![0_usize; n + 1];
    best[0] = -penalty;
    // Possible starts of the last level, and the end from which each is ruled out.
    let mut candidates = vec![(0_usize, usize::MAX)];
    for end in least..=n {
        if end >= 2 * least {
            candidates.push((end - least, usize::MAX));
        }
        candidates.retain(|(_, until)| end < *until);
        for (from, _) in &candidates {
            let total = best[*from] + cost(*from, end) + penalty;
            if total < best[end] {
                best[end] = total;
                last[end] = *from;
            }
        }
        // Pruning: a start that is already worse without a penalty can't be optimal once a level
        // can have begun here.
        for (from, until) in &mut candidates {
            if best[*from] + cost(*from, end) >= best[end] {
                *until = (*until).min(end + least);
            }
        }
    }
    let mut found = Vec::new();
    let mut end = n;
    while last[end] > 0 {
        end = last[end];
        found.push(end);
    }
    found.reverse();
    found
}

/// Compares the sums of squares around the levels between shifts and around a line by Bayes'
/// criterion (Schwarz 1978). True if steps explain more than a slope.
pub fn steps_fit_better(points: &[(f64, f64)], shifts: &[usize], slope: &Slope) -> bool {
    let n = points.len() as f64;
    let mut edges = vec![0];
    edges.extend(shifts);
    edges.push(points.len());
    let mut around_levels = 0.0;
    for pair in edges.windows(2) {
        let level = &points[pair[0]..pair[1]];
        let mut values: Vec<f64> = level.iter().map(|(_, y)| *y).collect();
        let middle = median(&mut values).unwrap_or(0.0);
        around_levels += level.iter().map(|(_, y)| (y - middle).powi(2)).sum::<f64>();
    }
    let first = points.first().map_or(0.0, |(x, _)| *x);
    let around_line: f64 = points
        .iter()
        .map(|(x, y)| (y - slope.at_first - slope.per_unit * (x - first)).powi(2))
        .sum();
    let tiny = f64::MIN_POSITIVE;
    let levels = n * (around_levels / n).max(tiny).ln() + (2 * shifts.len() + 1) as f64 * n.ln();
    let line = n * (around_line / n).max(tiny).ln() + 2.0 * n.ln();
    levels < line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RISING: [f64; 20] = [
        4.1, 3.9, 4.4, 4.0, 4.6, 4.3, 4.9, 4.6, 5.1, 4.8, 4.8, 5.3, 5.0, 5.6, 5.2, 5.2, 5.8, 5.5,
        6.1, 5.7,
    ];

    /// pymannkendall's `original_test(RISING)`: s 147, var_s 947, z 4.744362519114364, p
    /// 2.0916e-06, slope 0.1; scipy 1.17.1's `stats.theilslopes`: 0.1 from 0.07857142857142861 to
    /// 0.1111111111111111.
    #[test]
    fn mann_kendall_and_theil_sen_agree_with_others() {
        let kendall = Kendall::of(&RISING);
        assert_eq!((kendall.s, kendall.variance), (147, 947.0));
        assert!((kendall.z(1.0) - 4.744_362_519_114_364).abs() < 1e-12);
        assert!((normal(kendall.z(1.0)) - 2.091_639_761_614_416_7e-6).abs() < 1e-14);
        let points: Vec<(f64, f64)> =
            RISING.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
        let slope = slope(&points).expect("a slope");
        assert!((slope.per_unit - 0.1).abs() < 1e-12);
        assert!((slope.interval.0 - 0.078_571_428_571).abs() < 4e-3, "{:?}", slope.interval);
        assert!((slope.interval.1 - 0.111_111_111_111).abs() < 4e-3, "{:?}", slope.interval);
    }

    #[test]
    fn equal_values_have_neither_a_trend_nor_a_shift() {
        let points: Vec<(f64, f64)> = (0..30).map(|x| (f64::from(x), 5.0)).collect();
        let slope = slope(&points).expect("a slope");
        assert_eq!((slope.per_unit, slope.p), (0.0, 1.0));
        assert_eq!(pettitt(&[5.0; 30], 1.0), 1.0);
        assert_eq!(shifts(&[5.0; 30], 3), Vec::<usize>::new());
    }

    #[test]
    fn a_planted_step_is_found_where_it_is() {
        let mut random = super::super::random::SplitMix64(7);
        let mut noise = || (random.below(1_000) as f64 / 1_000.0 - 0.5) * 0.6;
        let values: Vec<f64> = (0..60)
            .map(|day| if day < 25 { 10.0 } else if day < 45 { 12.0 } else { 9.0 } + noise())
            .collect();
        assert_eq!(shifts(&values, 3), [25, 45]);
        let level: Vec<f64> = values[..45].to_vec();
        assert!(pettitt(&level, 1.0) < 1e-5);
    }

    /// Returns the best partition, found by trying all starts of the last level, without pruning.
    fn best_cost(values: &[f64], least: usize, penalty: f64) -> f64 {
        let n = values.len();
        let cost = |from: usize, to: usize| {
            let mean = values[from..to].iter().sum::<f64>() / (to - from) as f64;
            values[from..to].iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        let mut best = vec![f64::INFINITY; n + 1];
        best[0] = -penalty;
        for end in least..=n {
            for from in 0..=end - least {
                best[end] = best[end].min(best[from] + cost(from, end) + penalty);
            }
        }
        best[n]
    }

    proptest! {
        #[test]
        fn kendalls_s_is_the_count_of_pairs(values in proptest::collection::vec(0_i32..8, 4..40)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let mut s = 0;
            for i in 0..values.len() {
                for j in i + 1..values.len() {
                    s += (values[j] - values[i]).partial_cmp(&0.0).map_or(0, |order| order as i64);
                }
            }
            prop_assert_eq!(Kendall::of(&values).s, s);
            // Reversed, it is the opposite.
            let back: Vec<f64> = values.iter().rev().copied().collect();
            prop_assert_eq!(Kendall::of(&back).s, -s);
        }

        #[test]
        fn the_slope_is_the_median_of_all_pairs(values in proptest::collection::vec(-100_i32..100, 4..25), gap in 1_u8..4) {
            let points: Vec<(f64, f64)> = values
                .iter()
                .enumerate()
                .map(|(x, y)| (x as f64 * f64::from(gap), f64::from(*y)))
                .collect();
            let mut all = Vec::new();
            for (i, a) in points.iter().enumerate() {
                for b in &points[i + 1..] {
                    all.push((b.1 - a.1) / (b.0 - a.0));
                }
            }
            all.sort_by(f64::total_cmp);
            let n = all.len();
            let middle = (all[(n - 1) / 2] + all[n / 2]) / 2.0;
            let found = slope(&points).expect("a slope");
            prop_assert!((found.per_unit - middle).abs() < 1e-9);
            prop_assert!(found.interval.0 <= found.per_unit && found.per_unit <= found.interval.1);
            // Shifted and scaled values shift and scale the result.
            let stretched: Vec<(f64, f64)> = points.iter().map(|(x, y)| (*x, y * 3.0 + 7.0)).collect();
            let other = slope(&stretched).expect("a slope");
            prop_assert!((other.per_unit - 3.0 * found.per_unit).abs() < 1e-9);
        }

        #[test]
        fn pruning_loses_nothing(values in proptest::collection::vec(-50_i32..50, 8..40), step in 0_i32..200, at in 0_usize..40) {
            let values: Vec<f64> = values
                .iter()
                .enumerate()
                .map(|(index, value)| f64::from(*value + if index >= at { step } else { 0 }))
                .collect();
            let mut steps: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
            let noise = median(&mut steps).unwrap_or(0.0) / (0.674_489_75 * std::f64::consts::SQRT_2);
            prop_assume!(noise > 1.0);
            let scaled: Vec<f64> = values.iter().map(|value| value / noise).collect();
            let penalty = 3.0 * (values.len() as f64).ln();
            let places = shifts(&values, 3);
            let mut edges = vec![0];
            edges.extend(&places);
            edges.push(values.len());
            let mut found = -penalty;
            for pair in edges.windows(2) {
                prop_assert!(pair[1] - pair[0] >= 3);
                let part = &scaled[pair[0]..pair[1]];
                let mean = part.iter().sum::<f64>() / part.len() as f64;
                found += part.iter().map(|v| (v - mean).powi(2)).sum::<f64>() + penalty;
            }
            let best = best_cost(&scaled, 3, penalty);
            prop_assert!((found - best).abs() < 1e-6 * best.abs().max(1.0), "{} is not {}", found, best);
        }
    }
}
