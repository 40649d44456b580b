//! Significance of findings: rank tests, their p-values, and the correction for multiple testing.

use statrs::distribution::{
    Binomial, ChiSquared, ContinuousCDF as _, DiscreteCDF as _, Hypergeometric, Normal, StudentsT,
};

/// Significance level: at most one of twenty runs has a finding by chance.
pub const LEVEL: f64 = 0.05;

/// Returns the two-sided p-value of a standard normal score.
pub fn normal(z: f64) -> f64 {
    Normal::standard().sf(z.abs()) * 2.0
}

/// Returns the upper tail of the chi-square distribution.
pub fn chi_square(x: f64, degrees: f64) -> f64 {
    ChiSquared::new(degrees).map_or(1.0, |chi| chi.sf(x.max(0.0)))
}

/// Returns the two-sided p-value of Student's t.
pub fn student(t: f64, degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(1.0, |student| student.sf(t.abs()) * 2.0)
}

/// Returns the probability of at least `k` of `n` successes if each has probability `p`.
pub fn binomial_at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    Binomial::new(p.clamp(0.0, 1.0), n).map_or(1.0, |binomial| binomial.sf(k - 1))
}

/// Fisher's exact test, one-sided: the probability that at least `a` of `a + b` drawn items are
/// marked, if `a + c` of all `a + b + c + d` are.
pub fn fisher(a: u64, b: u64, c: u64, d: u64) -> f64 {
    if a == 0 {
        return 1.0;
    }
    Hypergeometric::new(a + b + c + d, a + c, a + b).map_or(1.0, |drawn| drawn.sf(a - 1))
}

/// Returns ranks from 1, ties sharing their mean, and Σ(t³ − t) over the groups of ties.
pub fn ranks(values: &[f64]) -> (Vec<f64>, f64) {
    // As integers of the same order, which are compared in a single step.
    let key = |value: f64| {
        let bits = value.to_bits();
        if value.is_sign_negative() { !bits } else { bits | 1 << 63 }
    };
    let mut order: Vec<(u64, usize)> = values.iter().map(|value| key(*value)).zip(0..).collect();
    order.sort_unstable_by_key(|(key, _)| *key);
    let mut ranks = vec![0.0; values.len()];
    let mut ties = 0.0;
    let mut first = 0;
    while first < order.len() {
        let mut last = first;
        while last + 1 < order.len() && order[last + 1].0 == order[first].0 {
            last += 1;
        }
        let count = (last - first + 1) as f64;
        ties += count.powi(3) - count;
        for (_, index) in &order[first..=last] {
            ranks[*index] = (first + last) as f64 / 2.0 + 1.0;
        }
        first = last + 1;
    }
    (ranks, ties)
}

/// Kruskal and Wallis (1952), corrected for ties: whether groups differ in location. `None` with
/// fewer than two groups.
pub fn kruskal_wallis(groups: &[Vec<f64>]) -> Option<f64> {
    let groups: Vec<&Vec<f64>> = groups.iter().filter(|group| !group.is_empty()).collect();
    let all: Vec<f64> = groups.iter().flat_map(|group| group.iter().copied()).collect();
    let n = all.len() as f64;
    if groups.len() < 2 || all.len() <= groups.len() {
        return None;
    }
    let (ranks, ties) = ranks(&all);
    let mut sum = 0.0;
    let mut at = 0;
    for group in &groups {
        let of_group: f64 = ranks[at..at + group.len()].iter().sum();
        sum += of_group * of_group / group.len() as f64;
        at += group.len();
    }
    let correction = 1.0 - ties / (n.powi(3) - n);
    if correction <= 0.0 {
        return None;
    }
    let h = (12.0 / (n * (n + 1.0)) * sum - 3.0 * (n + 1.0)) / correction;
    Some(chi_square(h, (groups.len() - 1) as f64))
}

/// Mann and Whitney (1947), two-sided by the normal approximation, corrected for ties and
/// continuity.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let (ranks, ties) = ranks(&all);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = n + m;
    let u = ranks[..a.len()].iter().sum::<f64>() - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    (variance > 0.0).then(|| normal((((u - n * m / 2.0).abs() - 0.5).max(0.0)) / variance.sqrt()))
}

/// Pearson's correlation of two series of equal length.
fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - mean_a) * (y - mean_b);
        aa += (x - mean_a).powi(2);
        bb += (y - mean_b).powi(2);
    }
    (aa > 0.0 && bb > 0.0).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation and its p-value.
///
/// Successive values are similar, so the effective sample size is smaller than their number: it is
/// reduced by the lag-1 autocorrelations of both series (Bretherton and others 1999).
pub fn spearman(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    if a.len() < 10 || a.len() != b.len() {
        return None;
    }
    let ((a, _), (b, _)) = (ranks(a), ranks(b));
    let rho = pearson(&a, &b)?;
    let later = |row: &[f64]| pearson(&row[..row.len() - 1], &row[1..]).unwrap_or(0.0);
    let alike = (later(&a) * later(&b)).clamp(0.0, 0.99);
    let degrees = a.len() as f64 * (1.0 - alike) / (1.0 + alike) - 2.0;
    if degrees < 3.0 {
        return None;
    }
    let p = if rho.abs() < 1.0 {
        student(rho * (degrees / (1.0 - rho * rho)).sqrt(), degrees)
    } else {
        0.0
    };
    Some((rho, p))
}

/// Returns p-values corrected for multiple testing (Holm 1979): the probability that any of those
/// up to this one is due to chance.
pub fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut adjusted = vec![1.0; values.len()];
    let mut greatest: f64 = 0.0;
    for (place, index) in order.into_iter().enumerate() {
        greatest = greatest.max(values[index] * (values.len() - place) as f64).min(1.0);
        adjusted[index] = greatest;
    }
    adjusted
}

/// Returns the median, reordering the values; `None` if there are none.
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let (below, at, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let at = *at;
    if !below.is_empty() && below.len() == middle && values.len().is_multiple_of(2) {
        let lower = values[..middle].iter().copied().fold(f64::MIN, f64::max);
        return Some(f64::midpoint(lower, at));
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1e-9), "{a} is not {b}");
    }

    /// Values of scipy 1.17.1: `stats.norm.sf`, `chi2.sf`, `t.sf`, `binom.sf`,
    /// `fisher_exact(…, "greater")`, `kruskal`, `mannwhitneyu(…, method="asymptotic")`.
    #[test]
    fn tests_agree_with_scipy() {
        close(normal(3.0), 0.002_699_796_063_260_186_6);
        close(chi_square(20.0, 6.0), 0.002_769_395_715_577_511_5);
        close(student(2.5, 7.0), 0.040_992_218_585_752_89);
        close(binomial_at_least(7, 12, 0.04), 1.086_107_792_000_942_2e-7);
        close(fisher(8, 2, 1, 5), 0.024_475_524_475_524_483);
        let groups = [
            vec![2.9, 3.0, 2.5, 2.6, 3.2],
            vec![3.8, 2.7, 4.0, 2.4],
            vec![2.8, 3.4, 3.7, 2.2, 2.0, 2.5],
        ];
        close(kruskal_wallis(&groups).expect("groups"), 0.581_093_058_780_855_8);
        let (mut a, mut b) = (groups[0].clone(), groups[1].clone());
        a.extend([9.0, 9.0]);
        b.extend([9.0, 10.0, 11.0]);
        close(mann_whitney(&a, &b).expect("two"), 0.368_980_409_056_551_53);
    }

    #[test]
    fn spearman_agrees_with_scipy_where_values_do_not_follow_each_other() {
        // stats.spearmanr of the same: 0.18629532776982913.
        let a = [
            4.1, 3.9, 4.4, 4.0, 4.6, 4.3, 4.9, 4.6, 5.1, 4.8, 4.8, 5.3, 5.0, 5.6, 5.2, 5.2, 5.8,
            5.5, 6.1, 5.7,
        ];
        let b = [
            10.0, 12.0, 15.0, 14.0, 13.0, 11.0, 9.0, 8.0, 9.0, 12.0, 14.0, 16.0, 15.0, 12.0, 10.0,
            9.0, 10.0, 13.0, 16.0, 17.0,
        ];
        let (rho, p) = spearman(&a, &b).expect("a correlation");
        close(rho, 0.186_295_327_769_829_13);
        assert!(p > 0.431_624, "what follows each other weighs less: {p}");
    }

    #[test]
    fn holm_multiplies_by_the_questions_that_are_left() {
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }
}
