//! Divides a question into shards: ranges of monitor names of each site.

use std::{collections::BTreeSet, path::Path};

use mailqos_lake_tables::{LakeError, RowGroup, SeriesQuery};

use super::shard::{PROTOCOL, Question, Shard, Work};
use crate::commands::{Failure, source::Source};

/// Most shards of a question.
pub(super) const MAX_SHARDS: usize = 10_000;
/// Shards per worker, so that workers that are done early take over from others.
const PER_WORKER: usize = 4;

/// How finely to divide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Number of shards that the user asks for.
    pub(super) asked: Option<usize>,
    /// Number of workers at a time.
    pub(super) workers: usize,
    /// Number of threads of each worker.
    pub(super) threads: usize,
}

/// Returns the shards of a question, about as many as were asked for. Any division gives the same
/// figures, so files of a site needn't agree.
///
/// The monitors of a site are divided where row groups begin, so that no row group is decoded
/// twice. If a writer has put all monitors into few huge row groups, the site is not divided,
/// unless the user asks for a number.
///
/// # Errors
/// The lake can't be read.
pub(super) fn shards(
    source: &Source,
    query: &SeriesQuery,
    question: &Question,
    size: Size,
) -> Result<Vec<Shard>, Failure> {
    let sites = source.lake.sites();
    let sites: Vec<_> = sites
        .iter()
        .filter(|site| query.sites.is_empty() || query.sites.contains(&***site))
        .collect();
    let count = size.asked.unwrap_or(size.workers * PER_WORKER).clamp(1, MAX_SHARDS);
    let per_site = count.div_ceil(sites.len().max(1));
    let mut shards: Vec<Shard> = Vec::new();
    for site in sites {
        let of_site = query.clone().sites([site.to_string()]);
        let edges = edges(source, &of_site, per_site, size.asked.is_some())?;
        let bounds: Vec<Option<String>> =
            [None].into_iter().chain(edges.into_iter().map(Some)).collect();
        let ends = bounds.iter().skip(1).cloned().chain([None]);
        for (from, to) in bounds.iter().cloned().zip(ends) {
            let mut shard = Shard {
                protocol: PROTOCOL,
                program: env!("CARGO_PKG_VERSION").to_owned(),
                shard: shards.len(),
                data: source.location.clone(),
                config: source.worker_file(&question.work).map(absolute),
                site: site.to_string(),
                from,
                to,
                monitors: BTreeSet::new(),
                skip_corrupt: source.lake.skips(),
                left_out: Default::default(),
                threads: size.threads,
                question: question.clone(),
            };
            shard.narrow_groups();
            let inside = query.monitors.iter().filter(|monitor| shard.is_inside(monitor));
            shard.monitors = inside.cloned().collect();
            // An empty list would mean all monitors.
            if !shard.monitors.is_empty() || query.monitors.is_empty() {
                shards.push(shard);
            }
        }
    }
    Ok(shards)
}

impl Source {
    /// Returns the configuration file, if workers need it.
    fn worker_file(&self, work: &Work) -> Option<&Path> {
        let is_needed = matches!(work, Work::Level { .. }) || self.lake.traffic().is_some();
        let config = self.config.as_ref().filter(|_| is_needed);
        config.map(|config| config.file.as_path())
    }
}

/// Returns the path from the root: a worker may have another working folder.
fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the names at which the monitors of a site are divided.
fn edges(
    source: &Source,
    query: &SeriesQuery,
    parts: usize,
    is_asked: bool,
) -> Result<Vec<String>, LakeError> {
    if parts < 2 {
        return Ok(Vec::new());
    }
    let groups = source.lake.row_groups(query)?;
    let edges = at_row_groups(&groups, parts);
    if !is_asked || edges.len() + 1 >= parts {
        return Ok(if is_asked || is_worth_it(&groups, &edges) { edges } else { Vec::new() });
    }
    // The user asks for more parts than there are row groups.
    let known = source.lake.monitors(Some(query.period.clone()))?;
    let site = |name: &str| query.sites.contains(name);
    let mine = known.iter().filter(|(of, monitor)| {
        site(of) && (query.monitors.is_empty() || query.monitors.contains(&**monitor))
    });
    let names: Vec<&str> = mine.map(|(_, monitor)| &**monitor).collect();
    Ok(at_names(&names, parts))
}

/// Chooses the row groups at which monitors are divided into about this many parts with equally
/// many rows.
fn at_row_groups(groups: &[RowGroup], parts: usize) -> Vec<String> {
    let firsts = groups.iter().filter_map(|group| {
        let (first, _) = group.monitors.as_ref()?;
        Some((&**first, group.rows))
    });
    let mut starts: Vec<(&str, usize)> = firsts.collect();
    starts.sort_unstable();
    let total: usize = starts.iter().map(|(_, rows)| rows).sum();
    let share = total.div_ceil(parts).max(1);
    let (mut edges, mut sum): (Vec<String>, usize) = (Vec::new(), 0);
    let lowest = starts.first().map(|(name, _)| *name);
    for (name, rows) in starts {
        // A part that is already large enough ends here.
        if sum >= share
            && Some(name) != lowest
            && edges.last().is_none_or(|last| last.as_str() != name)
        {
            edges.push(name.to_owned());
            sum = 0;
        }
        sum += rows;
    }
    edges
}

/// Returns whether the parts together decode at most 1.5 times the rows that a single part would.
fn is_worth_it(groups: &[RowGroup], edges: &[String]) -> bool {
    let decoded = groups.iter().map(|group| {
        let parts = match &group.monitors {
            None => edges.len() + 1,
            Some((first, last)) => {
                1 + edges.iter().filter(|edge| **first < ***edge && ***edge <= **last).count()
            }
        };
        group.rows.saturating_mul(parts)
    });
    let total: usize = groups.iter().map(|group| group.rows).sum();
    decoded.sum::<usize>() <= total.saturating_add(total / 2)
}

/// Chooses the names at which these are divided into this many parts, as far as there are enough.
fn at_names(names: &[&str], parts: usize) -> Vec<String> {
    let count = parts.min(names.len());
    (1..count).map(|part| names[part * names.len() / count].to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(first: &str, last: &str, rows: usize) -> RowGroup {
        RowGroup { monitors: Some((first.into(), last.into())), rows }
    }

    #[test]
    fn parts_are_of_similar_size_and_end_at_row_groups() {
        let groups: Vec<RowGroup> = (0..10)
            .map(|number| group(&format!("m{number}"), &format!("m{number}z"), 10))
            .collect();
        assert_eq!(at_row_groups(&groups, 5), ["m2", "m4", "m6", "m8"]);
        assert_eq!(at_row_groups(&groups, 1), Vec::<String>::new());
        assert_eq!(at_row_groups(&groups, 100).len(), 9);
        assert!(is_worth_it(&groups, &at_row_groups(&groups, 100)));
        // One row group can't be divided.
        assert_eq!(at_row_groups(&[group("a", "z", 1_000)], 8), Vec::<String>::new());
        assert_eq!(at_row_groups(&[], 8), Vec::<String>::new());
        let equal = vec![group("a", "b", 10); 5];
        assert_eq!(at_row_groups(&equal, 5), Vec::<String>::new());
    }

    #[test]
    fn sites_with_huge_row_groups_stay_whole() {
        // Every file has the same monitors in one group, and some begin elsewhere.
        let mut groups = vec![group("a", "z", 1_000_000); 7];
        groups.push(group("m", "z", 900_000));
        let edges = at_row_groups(&groups, 8);
        assert!(!edges.is_empty() && !is_worth_it(&groups, &edges), "{edges:?}");
        // Without statistics, every part would decode everything.
        let unknown =
            [RowGroup { monitors: None, rows: 10 }, group("a", "b", 1), group("b", "c", 1)];
        assert!(!is_worth_it(&unknown, &["b".to_owned()]));
    }

    #[test]
    fn names_are_divided_evenly() {
        assert_eq!(at_names(&["a", "b", "c", "d"], 2), ["c"]);
        assert_eq!(at_names(&["a", "b"], 5), ["b"]);
        assert_eq!(at_names(&["a"], 5), Vec::<String>::new());
        assert_eq!(at_names(&[], 5), Vec::<String>::new());
    }
}
