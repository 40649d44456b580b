//! Days on which a share changed, such as the share of mails in the junk folder.
//!
//! Durations have medians that shifts are found in; shares have counts. The days are divided where
//! it raises the binomial likelihood most, by PELT (Killick, Fearnhead and Eckley 2012), and each
//! change must be significant by Fisher's exact test, corrected for the number of days on which it
//! could have happened.

use mailqos_model::UtcMicros;

use super::{Share, significance::fisher};

/// Smallest number of days between two changes.
const MIN_DAYS: usize = 2;
/// A change of less than this share is not reported.
const WORTH: f64 = 0.05;

/// A day and its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Start of the day.
    pub at: UtcMicros,
    /// Mails that qualify.
    pub part: u64,
    /// Mails for which it is known.
    pub whole: u64,
}

/// A lasting change of a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareChange {
    /// Start of the first day of the new share.
    pub at: UtcMicros,
    /// The share since the previous change.
    pub before: Share,
    /// The share until the next change.
    pub after: Share,
    /// The p-value, corrected for the number of days.
    pub p: f64,
}

/// Returns the changes in these days, in order; days without a known mail don't matter.
pub fn changes(days: &[Day], level: f64) -> Vec<ShareChange> {
    let days: Vec<Day> = days.iter().copied().filter(|day| day.whole > 0).collect();
    let mut edges = divide(&days);
    // A division of no importance is removed, the least important one first, because its removal
    // changes those next to it.
    loop {
        let found: Vec<ShareChange> =
            (1..edges.len() - 1).filter_map(|edge| change(&days, &edges, edge)).collect();
        let weakest = (1..edges.len() - 1)
            .filter(|edge| {
                change(&days, &edges, *edge).is_none_or(|change| {
                    change.p > level || (change.after.value - change.before.value).abs() < WORTH
                })
            })
            .min_by(|a, b| difference(&days, &edges, *a).total_cmp(&difference(&days, &edges, *b)));
        match weakest {
            Some(edge) => drop(edges.remove(edge)),
            None => return found,
        }
    }
}

fn sum(days: &[Day]) -> (u64, u64) {
    days.iter().fold((0, 0), |sum, day| (sum.0 + day.part, sum.1 + day.whole))
}

fn sides(days: &[Day], edges: &[usize], edge: usize) -> ((u64, u64), (u64, u64)) {
    (sum(&days[edges[edge - 1]..edges[edge]]), sum(&days[edges[edge]..edges[edge + 1]]))
}

fn difference(days: &[Day], edges: &[usize], edge: usize) -> f64 {
    let ((a, n), (b, m)) = sides(days, edges, edge);
    (a as f64 / n.max(1) as f64 - b as f64 / m.max(1) as f64).abs()
}

fn change(days: &[Day], edges: &[usize], edge: usize) -> Option<ShareChange> {
    let ((a, n), (b, m)) = sides(days, edges, edge);
    let tails = [fisher(a, n - a, b, m - b), fisher(b, m - b, a, n - a)];
    let p = tails[0].min(tails[1]) * 2.0 * days.len() as f64;
    Some(ShareChange {
        at: days[edges[edge]].at,
        before: Share::new(a, n)?,
        after: Share::new(b, m)?,
        p: p.min(1.0),
    })
}

/// Returns the indices at which the parts begin, and the number of days.
fn divide(days: &[Day]) -> Vec<usize> {
    let count = days.len();
    if count < 2 * MIN_DAYS {
        return vec![0, count];
    }
    let mut sums = vec![(0_u64, 0_u64)];
    for day in days {
        let (part, whole) = sums[sums.len() - 1];
        sums.push((part + day.part, whole + day.whole));
    }
    // Twice the negative log-likelihood of a part with one share.
    let cost = |from: usize, to: usize| {
        let k = (sums[to].0 - sums[from].0) as f64;
        let n = (sums[to].1 - sums[from].1) as f64;
        let term = |part: f64| if part > 0.0 { part * (part / n).ln() } else { 0.0 };
        -2.0 * (term(k) + term(n - k))
    };
    let penalty = 3.0 * (count as f64).ln();
    let mut best = vec![(f64::INFINITY, 0_usize); count + 1];
    best[0] = (-penalty, 0);
    let mut candidates = vec![0_usize];
    for to in MIN_DAYS..=count {
        let reach = |from: usize| best[from].0 + cost(from, to) + penalty;
        let usable = candidates.iter().copied().filter(|from| from + MIN_DAYS <= to);
        if let Some(from) = usable.min_by(|a, b| reach(*a).total_cmp(&reach(*b))) {
            best[to] = (reach(from), from);
        }
        // A start from which even the part so far costs more can't be the best one later.
        let limit = best[to].0;
        let stays = |from: &usize| from + MIN_DAYS > to || best[*from].0 + cost(*from, to) <= limit;
        candidates.retain(stays);
        candidates.push(to);
    }
    let mut edges = vec![count];
    let mut at = count;
    while at > 0 {
        at = best[at].1;
        edges.push(at);
    }
    edges.reverse();
    edges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn days(parts: &[(usize, u64, u64)]) -> Vec<Day> {
        let each = parts
            .iter()
            .flat_map(|(count, part, whole)| std::iter::repeat_n((*part, *whole), *count));
        each.enumerate()
            .map(|(index, (part, whole))| Day { at: UtcMicros(index as i64), part, whole })
            .collect()
    }

    fn found(days: &[Day]) -> Vec<(i64, f64, f64)> {
        let all = changes(days, 0.05);
        all.iter().map(|one| (one.at.0, one.before.value, one.after.value)).collect()
    }

    #[test]
    fn a_week_without_signatures_has_a_first_and_a_last_day() {
        let week = days(&[(100, 288, 288), (7, 0, 288), (75, 288, 288)]);
        assert_eq!(found(&week), [(100, 1.0, 0.0), (107, 0.0, 1.0)]);
    }

    #[test]
    fn a_lasting_change_is_found_on_its_day() {
        assert_eq!(found(&days(&[(60, 1, 24), (120, 20, 24)])).first().map(|one| one.0), Some(60));
        // Days without mails in between.
        let gap = days(&[(60, 0, 24), (5, 0, 0), (60, 24, 24)]);
        assert_eq!(found(&gap).first().map(|one| one.0), Some(65));
    }

    #[test]
    fn what_may_be_chance_or_does_not_matter_is_not_a_change() {
        assert!(found(&[]).is_empty());
        assert!(found(&days(&[(180, 24, 24)])).is_empty());
        assert!(found(&days(&[(90, 288, 288), (90, 280, 288)])).is_empty());
        assert!(found(&days(&[(3, 1, 1), (3, 0, 1)])).is_empty());
    }

    proptest! {
        #[test]
        fn chance_alone_seldom_makes_a_change(seed in any::<u64>()) {
            // A linear congruential generator (Knuth): 5 % of 24 mails a day.
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as f64 / f64::from(1_u32 << 31)
            };
            let drawn: Vec<Day> = (0..180)
                .map(|day| {
                    let part = (0..24).filter(|_| draw() < 0.05).count() as u64;
                    Day { at: UtcMicros(day), part, whole: 24 }
                })
                .collect();
            prop_assert!(changes(&drawn, 1e-6).is_empty());
        }

        #[test]
        fn any_counts_are_divided_completely(counts in prop::collection::vec((0_u64..5, 0_u64..5), 0..60)) {
            let drawn: Vec<Day> = counts
                .iter()
                .enumerate()
                .map(|(day, (part, more))| Day { at: UtcMicros(day as i64), part: *part, whole: part + more })
                .collect();
            let all = changes(&drawn, 0.05);
            prop_assert!(all.is_sorted_by(|a, b| a.at < b.at));
            prop_assert!(all.iter().all(|one| one.p <= 0.05));
        }
    }
}
