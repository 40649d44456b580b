//! Reads series in batches, which limits how much is decoded at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mailqos_lake::LakeError;
use mailqos_model::Micros;

use super::{
    catalogue::Catalogue,
    footer::{self, Footer, Group, Wanted},
    object::LakeFile,
    part::Part,
    query::SeriesQuery,
    series::{Series, SeriesKey},
};

/// Footers that several batches need are cached up to this many bytes; batches read the others
/// again.
const FOOTERS: usize = 256 * 1024 * 1024;

/// Reads series one by one; see [`Lake::series`](super::Lake::series).
pub struct SeriesIter<'lake> {
    catalogue: &'lake Catalogue,
    query: SeriesQuery,
    /// Files of the sites that have not been started.
    sites: VecDeque<Vec<&'lake LakeFile>>,
    /// Batches of the current site that have not been read.
    batches: VecDeque<Plan<'lake>>,
    batch: Option<(Batch<'lake>, usize)>,
    failed: bool,
}

/// Which monitors to read from which files.
struct Plan<'lake> {
    files: Vec<&'lake LakeFile>,
    footers: Footers,
    wanted: Wanted,
    /// Whether row groups also contain rows of other batches.
    divides_groups: bool,
}

/// Cached footers of files that several batches read.
type Footers = Arc<HashMap<PathBuf, Footer>>;

/// Decoded parts of a batch and their monitors.
pub(crate) struct Batch<'lake> {
    catalogue: &'lake Catalogue,
    site: Arc<str>,
    parts: Vec<Part>,
    pub(crate) monitors: Vec<SeriesKey>,
    /// Context of each monitor.
    contexts: Vec<Micros>,
}

impl Batch<'_> {
    /// Replaces a series with the samples of a monitor, given by its number, in the time range of
    /// the query.
    pub(crate) fn read(&self, monitor: usize, query: &SeriesQuery, series: &mut Series) {
        series.restart(&self.site, &self.monitors[monitor]);
        let rows = self.parts.iter().map(|part| part.count(monitor)).sum();
        series.reserve(rows, &query.metrics, &query.columns);
        let mut ends = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            part.add_to(series, query, monitor);
            ends.push(series.len());
        }
        let context = self.contexts[monitor];
        let (first, last) = ((query.period.start - context).0, (query.period.end + context).0);
        let sorted = series.started_at.is_sorted_by(|a, b| a < b);
        let inside = |at: &i64| first <= *at && *at < last;
        let whole = sorted
            && series.started_at.first().is_none_or(inside)
            && series.started_at.last().is_none_or(inside);
        if !whole {
            let mut rows: Vec<u32> = (0..series.len() as u32)
                .filter(|row| inside(&series.started_at[*row as usize]))
                .collect();
            if !sorted {
                rows.sort_by_key(|row| series.started_at[*row as usize]);
                self.drop_doubles(monitor, series, &mut rows, &ends);
            }
            *series = series.select(&rows);
        }
        series.confine(query.period.clone());
    }
}

impl Batch<'_> {
    /// Keeps one of several rows of a monitor with the same start, preferring settled rows and
    /// those in the day's own file, and counts the others by file.
    fn drop_doubles(&self, monitor: usize, series: &Series, rows: &mut Vec<u32>, ends: &[usize]) {
        let part = |row: u32| ends.partition_point(|end| *end <= row as usize);
        let rank = |row: u32| {
            let settled = !series.provisional.get(row as usize).copied().unwrap_or(false);
            let own = self
                .parts
                .get(part(row))
                .is_some_and(|part| part.path.ends_with("samples.parquet"));
            (settled, own)
        };
        let mut dropped: BTreeMap<usize, usize> = BTreeMap::new();
        let mut kept: Vec<u32> = Vec::with_capacity(rows.len());
        for row in rows.drain(..) {
            let place = kept.last_mut();
            match place.filter(|last| {
                series.started_at[**last as usize] == series.started_at[row as usize]
            }) {
                Some(last) => {
                    let lost =
                        if rank(row) > rank(*last) { std::mem::replace(last, row) } else { row };
                    *dropped.entry(part(lost)).or_default() += 1;
                }
                None => kept.push(row),
            }
        }
        *rows = kept;
        let Ok(mut doubles) = self.catalogue.doubles.lock() else {
            return;
        };
        for (part, count) in dropped {
            if let Some(part) = self.parts.get(part) {
                let of = doubles.entry(part.path.clone()).or_default();
                let most = of.entry(Arc::clone(&self.monitors[monitor].monitor)).or_default();
                *most = count.max(*most);
            }
        }
    }
}

impl<'lake> SeriesIter<'lake> {
    /// Prepares the series that a query selects, site by site.
    pub(crate) fn new(catalogue: &'lake Catalogue, query: &SeriesQuery) -> Self {
        let days = query.days(query.context);
        let mut sites: VecDeque<Vec<&LakeFile>> = VecDeque::new();
        for file in &catalogue.files {
            if !days.contains(&file.date) {
                continue;
            }
            if !query.sites.is_empty() && !query.sites.contains(&*file.site) {
                continue;
            }
            match sites.back_mut() {
                Some(files) if files[0].site == file.site => files.push(file),
                _ => sites.push_back(vec![file]),
            }
        }
        Self {
            catalogue,
            query: query.clone(),
            sites,
            batches: VecDeque::new(),
            batch: None,
            failed: false,
        }
    }

    /// Returns the files that may contain rows for the query.
    pub(crate) fn files(self) -> Vec<&'lake LakeFile> {
        self.sites.into_iter().flatten().collect()
    }

    /// Divides a site's monitors by name so that each batch stays within the budget, at the
    /// boundaries of row groups.
    fn plan(&self, files: Vec<&'lake LakeFile>) -> Result<VecDeque<Plan<'lake>>, LakeError> {
        let names = || self.query.wanted();
        let held = AtomicUsize::new(0);
        let found = self.catalogue.in_parallel(&files, |file| {
            let (groups, footer) = footer::groups(file)?;
            let size = footer.size();
            let fits = held.fetch_add(size, Ordering::Relaxed) + size <= FOOTERS;
            let per_row = footer.bytes_per_row(&self.query);
            Ok((groups, per_row, fits.then_some(footer)))
        })?;
        let groups: Vec<&Group> = found
            .iter()
            .filter_map(|(_, found)| found.as_ref())
            .flat_map(|(groups, ..)| groups)
            .collect();
        let per_row = found.iter().filter_map(|(_, found)| Some(found.as_ref()?.1)).max();
        let per_row = per_row.unwrap_or_default();
        let readable: Vec<&LakeFile> = found
            .iter()
            .filter(|(_, groups)| groups.is_some())
            .map(|(index, _)| files[*index])
            .collect();
        let wanted = names();
        let rows: usize =
            groups.iter().filter(|group| wanted.may_be_in(group)).map(|group| group.rows).sum();
        let budget = self.query.budget;
        let count = rows.saturating_mul(per_row).div_ceil(budget);
        if count <= 1 {
            return Ok(VecDeque::from([Plan {
                files: readable,
                footers: Footers::default(),
                wanted,
                divides_groups: false,
            }]));
        }
        let mut edges: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for group in groups.iter().filter(|group| wanted.may_be_in(group)) {
            if let Some((least, _)) = &group.monitors
                && self.query.range.0.as_ref().is_none_or(|from| from < least)
            {
                *edges.entry(Arc::clone(least)).or_default() += group.rows;
            }
        }
        let kept = found
            .into_iter()
            .filter_map(|(index, found)| Some((files[index].path.clone(), found?.2?)));
        let footers: Footers = Arc::new(kept.collect());
        let plan = |wanted: Wanted, divides_groups: bool| Plan {
            files: readable.clone(),
            footers: Arc::clone(&footers),
            wanted,
            divides_groups,
        };
        // If the monitors are selected by name, a batch may end within a row group; the rest of the
        // group is discarded file by file.
        let mut plans: VecDeque<Plan<'lake>> = if self.query.monitors.len() >= count {
            let all: Vec<&String> = self.query.monitors.iter().collect();
            let chunks = all.chunks(all.len().div_ceil(count));
            let wanted = chunks.map(|some| Wanted {
                names: some.iter().map(|name| (*name).clone()).collect(),
                ..names()
            });
            wanted.map(|wanted| plan(wanted, true)).collect()
        } else {
            let (mut plans, mut from, mut sum) =
                (VecDeque::new(), self.query.range.0.clone(), 0_usize);
            for (edge, rows) in edges {
                if sum > 0 && (sum + rows).saturating_mul(per_row) > budget {
                    let wanted =
                        Wanted { from: from.replace(Arc::clone(&edge)), to: Some(edge), ..names() };
                    plans.push_back(plan(wanted, false));
                    sum = 0;
                }
                sum += rows;
            }
            plans.push_back(plan(Wanted { from, ..names() }, false));
            plans
        };
        if self.catalogue.skip_corrupt {
            // A file that is corrupt further on must be excluded from the first batch as well.
            let sound = self.catalogue.in_parallel(&readable, |file| {
                Part::read(file, None, &self.query, &names()).map(|_| ())
            })?;
            let sound: Vec<&LakeFile> = sound
                .into_iter()
                .filter_map(|(index, sound)| sound.map(|()| readable[index]))
                .collect();
            for plan in &mut plans {
                plan.files.clone_from(&sound);
            }
        }
        Ok(plans)
    }

    fn read(&self, plan: &Plan<'_>) -> Result<Option<Batch<'lake>>, LakeError> {
        let Some(first) = plan.files.first() else {
            return Ok(None);
        };
        let site = Arc::clone(&first.site);
        let mut parts: Vec<Part> = self
            .catalogue
            .in_parallel(&plan.files, |file| {
                let part =
                    Part::read(file, plan.footers.get(&file.path), &self.query, &plan.wanted)?;
                Ok(if plan.divides_groups { part.of_wanted(&self.query) } else { part })
            })?
            .into_iter()
            .filter_map(|(_, part)| part)
            .collect();
        let monitors: BTreeSet<&SeriesKey> = parts.iter().flat_map(Part::monitors).collect();
        let monitors: Vec<SeriesKey> = monitors.into_iter().cloned().collect();
        for part in &mut parts {
            part.place(&monitors);
        }
        let contexts = monitors
            .iter()
            .enumerate()
            .map(|(index, monitor)| {
                let intervals = parts.iter().filter_map(|part| part.longest_interval(index));
                self.query.context_of(&monitor.monitor, intervals.max())
            })
            .collect();
        let mut batch = Batch { catalogue: self.catalogue, site, parts, monitors, contexts };
        self.widen(&mut batch)?;
        Ok(Some(batch))
    }

    /// Reads the samples of monitors that need more context than was read.
    fn widen(&self, batch: &mut Batch<'_>) -> Result<(), LakeError> {
        let read = self.query.days(self.query.context);
        let widest = batch.contexts.iter().max().copied().unwrap_or_default();
        let days = self.query.days(widest);
        let missing = |file: &&LakeFile| {
            file.site == batch.site && days.contains(&file.date) && !read.contains(&file.date)
        };
        if days == read {
            return Ok(());
        }
        let files: Vec<&LakeFile> = self.catalogue.files.iter().filter(missing).collect();
        let monitors = batch.monitors.iter().zip(&batch.contexts);
        let wanted = Wanted {
            names: monitors
                .filter(|(_, context)| **context > self.query.context)
                .map(|(monitor, _)| monitor.monitor.to_string())
                .collect(),
            ..Wanted::default()
        };
        let more = self.catalogue.in_parallel(&files, |file| {
            Ok(Part::read(file, None, &self.query, &wanted)?.of_wanted(&self.query))
        })?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (index, part) in more {
            let place = if files[index].date < *read.start() { &mut before } else { &mut after };
            place.extend(part);
        }
        let parts = before.into_iter().chain(std::mem::take(&mut batch.parts)).chain(after);
        batch.parts = parts.collect();
        for part in &mut batch.parts {
            part.place(&batch.monitors);
        }
        Ok(())
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch<'lake>>, LakeError> {
        loop {
            if let Some(plan) = self.batches.pop_front() {
                if let Some(batch) = self.read(&plan)? {
                    return Ok(Some(batch));
                }
            } else if let Some(files) = self.sites.pop_front() {
                self.batches = self.plan(files)?;
            } else {
                return Ok(None);
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Series>, LakeError> {
        loop {
            if let Some((batch, next)) = &mut self.batch {
                while *next < batch.monitors.len() {
                    let mut series = Series::default();
                    batch.read(*next, &self.query, &mut series);
                    *next += 1;
                    if !series.is_empty() {
                        return Ok(Some(series));
                    }
                }
            }
            // Free it before reading the next one: two would exceed the budget.
            self.batch = None;
            let Some(batch) = self.next_batch()? else {
                return Ok(None);
            };
            self.batch = Some((batch, 0));
        }
    }
}

impl Iterator for SeriesIter<'_> {
    type Item = Result<Series, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.advance() {
            Ok(series) => series.map(Ok),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
