//! Where in the delivery path the time is spent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{availability::Share, significance, significance::median};
use super::{Pattern, TestedPattern};
use mailqos_lake_tables::Series;

/// Finds the hop where most of the time is spent: the one that is most often the longest, compared
/// with the next.
pub(super) fn hop(series: &Series, asked: &mut Vec<TestedPattern>) {
    let mut longest: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let mut delays: BTreeMap<Arc<str>, Vec<f64>> = BTreeMap::new();
    let mut ways = Vec::new();
    for row in series.counted() {
        let Some(Some(hops)) = series.hops.get(row) else {
            continue;
        };
        let known: Vec<(&Arc<str>, i64)> = hops
            .iter()
            .filter(|hop| !hop.clock_suspect)
            .filter_map(|hop| Some((hop.by.as_ref()?, hop.delay?.0)))
            .filter(|(_, delay)| *delay >= 0)
            .collect();
        // With one hop there is nothing to compare.
        if known.len() < 2 {
            continue;
        }
        ways.push(known.iter().map(|(_, delay)| *delay as f64).sum::<f64>());
        for (by, delay) in &known {
            delays.entry(Arc::clone(by)).or_default().push(*delay as f64);
        }
        let most = known.iter().map(|(_, delay)| *delay).max().unwrap_or(0);
        let mut at_most = known.iter().filter(|(_, delay)| *delay == most);
        // Timestamps are in whole seconds: a tie is not evidence.
        if let (Some((by, _)), None) = (at_most.next(), at_most.next()) {
            *longest.entry(Arc::clone(by)).or_default() += 1;
        }
    }
    let mut ranked: Vec<(&Arc<str>, u64)> =
        longest.iter().map(|(by, count)| (by, *count)).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let Some((by, first)) = ranked.first().copied() else {
        return;
    };
    if delays.len() < 2 {
        return;
    }
    let second = ranked.get(1).map_or(0, |(_, count)| *count);
    // The sign test of the two, multiplied by the number of hops from which the first was chosen.
    let p = significance::binomial_at_least(first, first + second, 0.5) * 2.0 * delays.len() as f64;
    let share = Share::new(first, ways.len() as u64);
    let says =
        match (share, delays.get_mut(by).and_then(|delays| median(delays)), median(&mut ways)) {
            (Some(share), Some(delay), Some(way)) if share.value >= 0.5 && delay > 0.0 => {
                vec![Pattern::Hop { by: Arc::clone(by), longest: share, delay, way }]
            }
            _ => Vec::new(),
        };
    asked.push(TestedPattern { p: p.min(1.0), says });
}
