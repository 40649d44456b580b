//! Reads the sample lake: only the files, row groups and columns that a question needs, one monitor's series at a time.
//!
//! Parquet is decoded a file at a time: what the probe wrote by `columns`, all else by polars. Not by one lazy frame over
//! all: files may differ in columns and types (older ones, other writers'), a corrupt one must be named, and the samples
//! are already sorted by monitor and time, so that no engine has to group what lies together. How much is decoded at a
//! time is bounded; what is larger is read in batches of monitors.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use jiff::civil::Date;
use mailqos_config::Config;
use mailqos_lake::{Record as _, read_day};
use mailqos_model::{Event, Micros, UtcMicros};

use super::{
    part::{self, Footer, Group, Part, Wanted},
    series::{Metric, Series, SeriesKey},
};
use crate::parallel;

/// About how many bytes of decoded samples are held at a time.
const BUDGET: usize = 384 * 1024 * 1024;
/// Footers that several batches need are kept up to so many bytes of them; each batch reads the others anew.
const FOOTERS: usize = 256 * 1024 * 1024;

/// No context is longer: that of the longest test interval that can be configured.
const MOST_CONTEXT: Micros = Micros::from_secs(3 * 31 * 86_400);

/// Why the lake could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LakeError {
    /// There is no such folder.
    #[error("there is no sample lake in {0}: no such folder")]
    NotFound(PathBuf),
    /// The system refused.
    #[error("can't read {path}: {reason}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file can't be decoded here, and is not known to be damaged.
    #[error("{path} can't be read here: {reason}")]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// What can't be done.
        reason: String,
    },
    /// The file is no samples' file.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The names of a site and of a monitor.
pub type SiteAndMonitor = (Arc<str>, Arc<str>);

/// The events of a site, in order.
pub type SiteEvents = (Arc<str>, Vec<Event>);

/// A folder of samples: `<data>/samples/site=…/date=…/*.parquet`.
#[derive(Debug)]
pub struct Lake {
    folder: PathBuf,
    files: Vec<LakeFile>,
    skip_corrupt: bool,
    skipped: Mutex<BTreeMap<PathBuf, String>>,
    /// What is named like a copy of a site or a day, and was passed over.
    passed_over: Vec<PathBuf>,
    doubles: Doubles,
}

/// How many rows of which file, and of which monitor, are in another file as well: the most that any question met.
type Doubles = Mutex<BTreeMap<PathBuf, BTreeMap<Arc<str>, usize>>>;

#[derive(Debug, Clone)]
pub(super) struct LakeFile {
    pub(super) site: Arc<str>,
    pub(super) date: Date,
    pub(super) path: PathBuf,
}

/// Columns beyond the outcome that a question may need. Exclusion and provisional state are always read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Where a test failed.
    Stage,
    /// One line about the failure.
    Error,
    /// The SMTP server's last reply code.
    SmtpReplyCode,
    /// The monitor's test interval.
    TestInterval,
    /// The monitor's max round trip.
    MaxRoundTrip,
    /// The stations of the mail.
    Hops,
    /// Whether a certificate was accepted unverified.
    Unverified,
}

/// Which samples to read, and what of them.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// Only these sites; all if empty.
    pub sites: BTreeSet<String>,
    /// Only these monitors; all if empty.
    pub monitors: BTreeSet<String>,
    /// The period whose samples are `inside`.
    pub period: Range<UtcMicros>,
    /// How far before and after the period samples are read as context, for outages that go over its edges: at least, and of
    /// monitors with long test intervals as far as they need.
    pub context: Micros,
    /// The test intervals of monitors as they are configured: samples, of other tools for one, may carry none.
    pub intervals: BTreeMap<String, Micros>,
    /// Which metrics to read.
    pub metrics: BTreeSet<Metric>,
    /// Which further columns to read.
    pub columns: BTreeSet<Column>,
    /// About how many bytes of decoded samples are held at a time.
    pub budget: usize,
}

impl SeriesQuery {
    /// All sites and monitors of a period, without context and metrics.
    pub fn new(period: impl Into<Range<UtcMicros>>) -> Self {
        Self {
            sites: BTreeSet::new(),
            monitors: BTreeSet::new(),
            period: period.into(),
            context: Micros::ZERO,
            intervals: BTreeMap::new(),
            metrics: BTreeSet::new(),
            columns: BTreeSet::new(),
            budget: BUDGET,
        }
    }

    /// Only these monitors; all if there is none.
    #[must_use]
    pub fn monitors<S: Into<String>>(mut self, monitors: impl IntoIterator<Item = S>) -> Self {
        self.monitors = monitors.into_iter().map(Into::into).collect();
        self
    }

    /// Only these sites; all if there is none.
    #[must_use]
    pub fn sites<S: Into<String>>(mut self, sites: impl IntoIterator<Item = S>) -> Self {
        self.sites = sites.into_iter().map(Into::into).collect();
        self
    }

    /// These metrics, too.
    #[must_use]
    pub fn metrics(mut self, metrics: &[Metric]) -> Self {
        self.metrics.extend(metrics);
        self
    }

    /// These further columns, too.
    #[must_use]
    pub fn columns(mut self, columns: &[Column]) -> Self {
        self.columns.extend(columns);
        self
    }

    /// Holds about so many bytes of decoded samples at a time.
    #[must_use]
    pub fn budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// With the samples of a day before and after, and the test interval: what outages need. Of a monitor whose test interval
    /// is longer than eight hours, three of which are known, samples are read from further away.
    #[must_use]
    pub fn for_outages(mut self) -> Self {
        self.context = Micros::from_secs(86_400);
        self.columns.insert(Column::TestInterval);
        self
    }

    /// With context that is long enough for the test intervals as configured, too.
    #[must_use]
    pub fn intervals(mut self, config: &Config) -> Self {
        let monitors = config.monitors.values();
        self.intervals = monitors
            .map(|monitor| (monitor.id.to_string(), monitor.test_interval))
            .collect();
        self
    }

    /// The context that a monitor needs whose samples carry this test interval.
    fn context_of(&self, monitor: &str, interval: Option<Micros>) -> Micros {
        match interval.max(self.intervals.get(monitor).copied()) {
            Some(interval) if self.context > Micros::ZERO => {
                let three = Micros(interval.0.saturating_mul(3));
                self.context.max(three.min(MOST_CONTEXT))
            }
            _ => self.context,
        }
    }

    /// The UTC days of the period and its context.
    fn days(&self, context: Micros) -> RangeInclusive<Date> {
        (self.period.start - context).utc_date()..=UtcMicros((self.period.end + context).0 - 1).utc_date()
    }
}

impl Lake {
    /// Opens the lake in a data folder; one without samples is empty.
    ///
    /// # Errors
    /// There is no such folder, or it can't be listed.
    pub fn open(data: &Path) -> Result<Self, LakeError> {
        if !data.is_dir() {
            return Err(LakeError::NotFound(data.to_owned()));
        }
        let folder = data.join("samples");
        let (mut files, mut passed_over) = (Vec::new(), Vec::new());
        if folder.is_dir() {
            let sites = partitions(&folder, "site")?;
            let names: BTreeSet<String> = sites.iter().map(|(site, _)| site.clone()).collect();
            for (site, path) in sites {
                if is_copy(&site, &names) {
                    passed_over.push(path);
                    continue;
                }
                let site: Arc<str> = site.into();
                for (date, path) in partitions(&path, "date")? {
                    let Ok(date) = date.parse::<Date>() else {
                        passed_over.push(path);
                        continue;
                    };
                    for (name, path) in entries(&path)? {
                        if name.ends_with(".parquet") && !name.starts_with(['.', '_']) {
                            files.push(LakeFile {
                                site: Arc::clone(&site),
                                date,
                                path,
                            });
                        }
                    }
                }
            }
        }
        files.sort_by(|a, b| (&a.site, a.date, &a.path).cmp(&(&b.site, b.date, &b.path)));
        Ok(Self {
            folder,
            files,
            skip_corrupt: false,
            skipped: Mutex::default(),
            passed_over,
            doubles: Mutex::default(),
        })
    }

    /// Leaves out corrupt files, which [`Lake::skipped`] then names, instead of failing.
    #[must_use]
    pub fn skip_corrupt(mut self, skip: bool) -> Self {
        self.skip_corrupt = skip;
        self
    }

    /// Whether corrupt files are left out.
    pub fn skips(&self) -> bool {
        self.skip_corrupt
    }

    /// The corrupt files that have been left out so far, each with what is wrong with it.
    pub fn skipped(&self) -> Vec<(PathBuf, String)> {
        match self.skipped.lock() {
            Ok(skipped) => skipped
                .iter()
                .map(|(path, reason)| (path.clone(), reason.clone()))
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    /// What was found twice so far and counts once, or is named like a copy and was passed over: one line each, for people. A
    /// synchronising program or a person made it, and every other reader counts it twice.
    pub fn doubles(&self) -> Vec<String> {
        let passed_over = self.passed_over.iter().map(|path| {
            format!(
                "{} is named like a copy of another folder, and was passed over; move it out of the lake",
                path.display()
            )
        });
        let doubles = self.doubles.lock().map(|doubles| doubles.clone()).unwrap_or_default();
        let doubles = doubles.into_iter().map(|(path, monitors)| {
            let count: usize = monitors.values().sum();
            let rows = if count == 1 {
                "1 sample".to_owned()
            } else {
                format!("{count} samples")
            };
            format!(
                "{rows} of {} are there a second time and were counted once; move copies of day files out of the lake",
                path.display()
            )
        });
        passed_over.chain(doubles).collect()
    }

    /// The folder of the samples.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The events of each site from a moment to another, in order; the sites by name. A site that has none is left out.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn events(&self, from: UtcMicros, to: UtcMicros) -> Result<Vec<SiteEvents>, LakeError> {
        let folder = self.folder.with_file_name(Event::FOLDER);
        let mut all = Vec::new();
        if !folder.is_dir() {
            return Ok(all);
        }
        let (first, last) = (from.utc_date(), to.utc_date());
        for (site, path) in partitions(&folder, "site")? {
            let mut events = Vec::new();
            for (date, path) in partitions(&path, "date")? {
                if !date.parse::<Date>().is_ok_and(|date| (first..=last).contains(&date)) {
                    continue;
                }
                let path = path.join(format!("{}.parquet", Event::FOLDER));
                if path.exists() {
                    events.extend(self.events_of(&path)?);
                }
            }
            events.retain(|event| (from..to).contains(&event.at));
            events.sort_by_key(|event: &Event| event.at);
            if !events.is_empty() {
                all.push((Arc::from(site), events));
            }
        }
        Ok(all)
    }

    /// Whether there are events of earlier UTC days than that of a moment.
    ///
    /// # Errors
    /// A folder can't be read.
    pub fn has_events_before(&self, moment: UtcMicros) -> Result<bool, LakeError> {
        let folder = self.folder.with_file_name(Event::FOLDER);
        if !folder.is_dir() {
            return Ok(false);
        }
        let is_earlier = |(date, _): &(String, PathBuf)| date.parse().is_ok_and(|date: Date| date < moment.utc_date());
        for (_, path) in partitions(&folder, "site")? {
            if partitions(&path, "date")?.iter().any(is_earlier) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn events_of(&self, path: &Path) -> Result<Vec<Event>, LakeError> {
        let reason = match read_day::<Event>(path) {
            Ok(events) => return Ok(events),
            Err(error) => error.to_string(),
        };
        let path = path.to_owned();
        if !self.skip_corrupt {
            return Err(LakeError::Corrupt { path, reason });
        }
        self.note_skipped(path, reason);
        Ok(Vec::new())
    }

    /// Whether there is no file of samples at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The sites, in order.
    pub fn sites(&self) -> Vec<Arc<str>> {
        let mut sites: Vec<_> = self.files.iter().map(|file| Arc::clone(&file.site)).collect();
        sites.dedup();
        sites
    }

    /// The first and the last UTC date that have samples.
    pub fn dates(&self) -> Option<(Date, Date)> {
        let dates = || self.files.iter().map(|file| file.date);
        Some((dates().min()?, dates().max()?))
    }

    /// The (site, monitor) pairs that have samples on the UTC days of a period; of all time without one.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn monitors(&self, period: Option<Range<UtcMicros>>) -> Result<BTreeSet<SiteAndMonitor>, LakeError> {
        let files: Vec<&LakeFile> = self
            .files
            .iter()
            .filter(|file| {
                period.as_ref().is_none_or(|period| {
                    period.start.utc_date() <= file.date && file.date <= UtcMicros(period.end.0 - 1).utc_date()
                })
            })
            .collect();
        let found = self.in_parallel(&files, part::monitors)?;
        let mut monitors = BTreeSet::new();
        for (file, names) in found {
            for monitor in names.unwrap_or_default() {
                monitors.insert((Arc::clone(&files[file].site), monitor));
            }
        }
        Ok(monitors)
    }

    /// The series of each (site, monitor) that a query selects, ordered by site and monitor. Those without any sample are
    /// left out.
    pub fn series<'lake>(&'lake self, query: &SeriesQuery) -> SeriesIter<'lake> {
        let days = query.days(query.context);
        let mut sites: VecDeque<Vec<&LakeFile>> = VecDeque::new();
        for file in &self.files {
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
        SeriesIter {
            lake: self,
            query: query.clone(),
            sites,
            batches: VecDeque::new(),
            batch: None,
            failed: false,
        }
    }

    /// What `figure` makes of each series, which it may take, on all cores, in the order of [`Lake::series`].
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn map<T: Send>(
        &self,
        query: &SeriesQuery,
        figure: impl Fn(&mut Series) -> T + Sync,
    ) -> Result<Vec<T>, LakeError> {
        let mut all = Vec::new();
        self.for_each(query, figure, |result| {
            all.push(result);
            Ok::<_, LakeError>(())
        })?;
        Ok(all)
    }

    /// Gives `take` what `figure` makes of each series, on all cores, in the order of [`Lake::series`]: batch by batch, so
    /// that neither the samples nor what is made of them have to fit into memory.
    ///
    /// # Errors
    /// A file is corrupt or can't be read, or `take` failed.
    pub fn for_each<T: Send, E: From<LakeError>>(
        &self,
        query: &SeriesQuery,
        figure: impl Fn(&mut Series) -> T + Sync,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut batches = self.series(query);
        while let Some(batch) = batches.next_batch()? {
            let next = AtomicUsize::new(0);
            let results: Mutex<Vec<(usize, T)>> = Mutex::default();
            std::thread::scope(|scope| {
                for _ in 0..threads().min(batch.monitors.len()) {
                    scope.spawn(|| {
                        // One after the other in the same memory.
                        let mut series = Series::default();
                        loop {
                            let index = next.fetch_add(1, Ordering::Relaxed);
                            if index >= batch.monitors.len() {
                                return;
                            }
                            batch.read(index, query, &mut series);
                            if series.is_empty() {
                                continue;
                            }
                            let result = figure(&mut series);
                            if let Ok(mut results) = results.lock() {
                                results.push((index, result));
                            }
                        }
                    });
                }
            });
            let mut results = results.into_inner().unwrap_or_default();
            results.sort_by_key(|(index, _)| *index);
            for (_, result) in results {
                take(result)?;
            }
        }
        Ok(())
    }

    /// How many samples a query can meet at most, by the files' footers.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn count(&self, query: &SeriesQuery) -> Result<usize, LakeError> {
        Ok(self.groups(query)?.iter().map(|group| group.rows).sum())
    }

    /// Whether a query may meet tests of other kinds than `mail-qos`, by the files' footers.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn has_kinds(&self, query: &SeriesQuery) -> Result<bool, LakeError> {
        Ok(self.groups(query)?.iter().any(|group| group.has_kinds))
    }

    /// The row groups that a query may meet.
    fn groups(&self, query: &SeriesQuery) -> Result<Vec<Group>, LakeError> {
        let wanted = Wanted {
            names: query.monitors.clone(),
            ..Wanted::default()
        };
        let files: Vec<&LakeFile> = self.series(query).sites.into_iter().flatten().collect();
        let found = self.in_parallel(&files, |file| Ok(part::groups(file)?.0))?;
        let groups = found.into_iter().filter_map(|(_, groups)| groups).flatten();
        Ok(groups.filter(|group| wanted.may_be_in(group)).collect())
    }

    /// What `read` makes of each file, on all cores, by the file's index; `None` for a corrupt one that is left out.
    fn in_parallel<T: Send>(
        &self,
        files: &[&LakeFile],
        read: impl Fn(&LakeFile) -> Result<T, LakeError> + Sync,
    ) -> Result<Vec<(usize, Option<T>)>, LakeError> {
        let failed = AtomicBool::new(false);
        let results = parallel::map(files, |file| {
            // What was not begun when one failed is not missed.
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let result = read(file);
            if result.is_err() && !self.skip_corrupt {
                failed.store(true, Ordering::Relaxed);
            }
            Some(result)
        });
        let begun = results.into_iter().enumerate();
        begun
            .filter_map(|(index, result)| Some((index, result?)))
            .map(|(index, result)| match result {
                Ok(result) => Ok((index, Some(result))),
                Err(LakeError::Corrupt { path, reason } | LakeError::Undecodable { path, reason })
                    if self.skip_corrupt =>
                {
                    self.note_skipped(path, reason);
                    Ok((index, None))
                }
                Err(error) => Err(error),
            })
            .collect()
    }

    fn note_skipped(&self, path: PathBuf, reason: String) {
        if let Ok(mut skipped) = self.skipped.lock() {
            skipped.insert(path, reason);
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What is in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, LakeError> {
    let unreadable = |error: std::io::Error| LakeError::Unreadable {
        path: folder.to_owned(),
        reason: error.to_string(),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    // In no order of the file system's: what is listed first is shown first where moments are equal.
    found.sort();
    Ok(found)
}

/// The folders `key=value` in a folder, by value.
fn partitions(folder: &Path, key: &str) -> Result<Vec<(String, PathBuf)>, LakeError> {
    Ok(entries(folder)?
        .into_iter()
        .filter_map(|(name, path)| {
            let value = unescaped(name.strip_prefix(key)?.strip_prefix('=')?);
            path.is_dir().then_some((value, path))
        })
        .collect())
}

/// Whether a site is named like a copy of another one that is there: `here (1)`, `here - Copy`, `here.sync-conflict-…`,
/// `here~`, `here.bak`. No site that a probe writes for has such a name.
fn is_copy(site: &str, all: &BTreeSet<String>) -> bool {
    let rest = |name: &String| site.strip_prefix(name.as_str()).map(str::to_ascii_lowercase);
    all.iter().filter(|name| *name != site).filter_map(rest).any(|rest| {
        let marks = [
            " (",
            " - copy",
            ".sync-conflict",
            "~",
            ".bak",
            ".orig",
            " copy",
            " conflicted",
            "_conflict",
            ".old",
        ];
        marks.iter().any(|mark| rest.starts_with(mark))
    })
}

/// The value of a partition: other writers escape what is no letter or digit in it (`Main%20office`), as in an address.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits.filter(|two| *first == b'%' && two.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    // What would be no text was not escaped.
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// Reads series one by one; see [`Lake::series`].
pub struct SeriesIter<'lake> {
    lake: &'lake Lake,
    query: SeriesQuery,
    /// The files of the sites that have not been begun.
    sites: VecDeque<Vec<&'lake LakeFile>>,
    /// The batches of the current site that have not been read.
    batches: VecDeque<Plan<'lake>>,
    batch: Option<(Batch<'lake>, usize)>,
    failed: bool,
}

/// Which monitors to read of which files.
struct Plan<'lake> {
    files: Vec<&'lake LakeFile>,
    footers: Footers,
    wanted: Wanted,
    /// Row groups have rows of other batches, too.
    divides_groups: bool,
}

/// The footers of files that several batches read, as far as they were kept.
type Footers = Arc<HashMap<PathBuf, Footer>>;

/// The decoded parts of a batch, and their monitors.
struct Batch<'lake> {
    doubles: &'lake Doubles,
    site: Arc<str>,
    parts: Vec<Part>,
    monitors: Vec<SeriesKey>,
    /// The context of each.
    contexts: Vec<Micros>,
}

impl Batch<'_> {
    /// Puts the samples of a monitor, named by its number, in the time that the query looks at, in the place of what a series holds.
    fn read(&self, monitor: usize, query: &SeriesQuery, series: &mut Series) {
        series.restart(&self.site, &self.monitors[monitor]);
        series.reserve(self.parts.iter().map(|part| part.count(monitor)).sum(), query);
        let mut ends = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            part.add_to(series, query, monitor);
            ends.push(series.len());
        }
        let context = self.contexts[monitor];
        let (first, last) = ((query.period.start - context).0, (query.period.end + context).0);
        let sorted = series.started_at.is_sorted_by(|a, b| a < b);
        let inside = |at: &i64| first <= *at && *at < last;
        let whole =
            sorted && series.started_at.first().is_none_or(inside) && series.started_at.last().is_none_or(inside);
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
    /// Keeps one of several rows of a monitor with the same start, and notes of which file the others were: a settled one, and
    /// that of the day's own file.
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
            match place.filter(|last| series.started_at[**last as usize] == series.started_at[row as usize]) {
                Some(last) => {
                    let lost = if rank(row) > rank(*last) {
                        std::mem::replace(last, row)
                    } else {
                        row
                    };
                    *dropped.entry(part(lost)).or_default() += 1;
                }
                None => kept.push(row),
            }
        }
        *rows = kept;
        let Ok(mut doubles) = self.doubles.lock() else { return };
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
    /// Divides a site's monitors by name so that each batch keeps to the budget, along the edges of row groups.
    fn plan(&self, files: Vec<&'lake LakeFile>) -> Result<VecDeque<Plan<'lake>>, LakeError> {
        let names = || Wanted {
            names: self.query.monitors.clone(),
            ..Wanted::default()
        };
        let held = AtomicUsize::new(0);
        let found = self.lake.in_parallel(&files, |file| {
            let (groups, footer) = part::groups(file)?;
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
        let rows: usize = groups
            .iter()
            .filter(|group| wanted.may_be_in(group))
            .map(|group| group.rows)
            .sum();
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
            if let Some((least, _)) = &group.monitors {
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
        // Where the monitors are known by name, a batch may end within a row group: what else is in it is let go file by file.
        let mut plans: VecDeque<Plan<'lake>> = if self.query.monitors.len() >= count {
            let names: Vec<&String> = self.query.monitors.iter().collect();
            let chunks = names.chunks(names.len().div_ceil(count));
            let wanted = chunks.map(|names| Wanted {
                names: names.iter().map(|name| (*name).clone()).collect(),
                ..Wanted::default()
            });
            wanted.map(|wanted| plan(wanted, true)).collect()
        } else {
            let (mut plans, mut from, mut sum) = (VecDeque::new(), None, 0_usize);
            for (edge, rows) in edges {
                if sum > 0 && (sum + rows).saturating_mul(per_row) > budget {
                    let wanted = Wanted {
                        from: from.replace(Arc::clone(&edge)),
                        to: Some(edge),
                        ..names()
                    };
                    plans.push_back(plan(wanted, false));
                    sum = 0;
                }
                sum += rows;
            }
            plans.push_back(plan(Wanted { from, ..names() }, false));
            plans
        };
        if self.lake.skip_corrupt {
            // A file that is corrupt further back must be left out of the first batch as well.
            let sound = self.lake.in_parallel(&readable, |file| {
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
            .lake
            .in_parallel(&plan.files, |file| {
                let part = Part::read(file, plan.footers.get(&file.path), &self.query, &plan.wanted)?;
                Ok(if plan.divides_groups {
                    part.of_wanted(&self.query)
                } else {
                    part
                })
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
        let mut batch = Batch {
            doubles: &self.lake.doubles,
            site,
            parts,
            monitors,
            contexts,
        };
        self.widen(&mut batch)?;
        Ok(Some(batch))
    }

    /// Adds the samples of those monitors that need more context than was read.
    fn widen(&self, batch: &mut Batch<'_>) -> Result<(), LakeError> {
        let read = self.query.days(self.query.context);
        let widest = batch.contexts.iter().max().copied().unwrap_or_default();
        let days = self.query.days(widest);
        let missing =
            |file: &&LakeFile| file.site == batch.site && days.contains(&file.date) && !read.contains(&file.date);
        if days == read {
            return Ok(());
        }
        let files: Vec<&LakeFile> = self.lake.files.iter().filter(missing).collect();
        let monitors = batch.monitors.iter().zip(&batch.contexts);
        let wanted = Wanted {
            names: monitors
                .filter(|(_, context)| **context > self.query.context)
                .map(|(monitor, _)| monitor.monitor.to_string())
                .collect(),
            ..Wanted::default()
        };
        let more = self.lake.in_parallel(&files, |file| {
            Ok(Part::read(file, None, &self.query, &wanted)?.of_wanted(&self.query))
        })?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (index, part) in more {
            let place = if files[index].date < *read.start() {
                &mut before
            } else {
                &mut after
            };
            place.extend(part);
        }
        let parts = before.into_iter().chain(std::mem::take(&mut batch.parts)).chain(after);
        batch.parts = parts.collect();
        for part in &mut batch.parts {
            part.place(&batch.monitors);
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Result<Option<Batch<'lake>>, LakeError> {
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
            // Gone before the next one is read: two would be more than the budget.
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
