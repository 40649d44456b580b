//! Reads the sample lake: only the files, row groups and columns that a question needs, one monitor's series at a time.
//!
//! Parquet is decoded by polars, a file at a time. Not by one lazy frame over all: files may differ in columns and types
//! (older ones, other writers'), a corrupt one must be named, and the samples are already sorted by monitor and time, so
//! that no engine has to group what lies together. How much is decoded at a time is bounded; what is larger is read in
//! batches of monitors.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::civil::Date;
use mailqos_core::model::{Exclusion, Micros, Outcome, Stage, UtcMicros};
use polars::prelude::{
    BooleanChunked, ChunkApply as _, Column as Frame, DataFrame, DataType, Int64Chunked, ParallelStrategy,
    ParquetReader, PolarsResult, SerReader as _, StringChunked, TimeUnit,
};

use super::{
    periods::Period,
    series::{Metric, Series},
};

/// About how many bytes of decoded samples are held at a time.
const BUDGET: usize = 768 * 1024 * 1024;

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

/// A folder of samples: `<data>/samples/site=…/date=…/*.parquet`.
#[derive(Debug)]
pub struct Lake {
    folder: PathBuf,
    files: Vec<LakeFile>,
    skip_corrupt: bool,
    skipped: Mutex<BTreeMap<PathBuf, String>>,
}

#[derive(Debug, Clone)]
struct LakeFile {
    site: Arc<str>,
    date: Date,
    path: PathBuf,
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
}

/// Which samples to read, and what of them.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// Only these sites; all if empty.
    pub sites: BTreeSet<String>,
    /// Only these monitors; all if empty.
    pub monitors: BTreeSet<String>,
    /// The period whose samples are `inside`.
    pub period: Period,
    /// How far before and after the period samples are read as context, for outages that go over its edges.
    pub context: Micros,
    /// Which metrics to read.
    pub metrics: BTreeSet<Metric>,
    /// Which further columns to read.
    pub columns: BTreeSet<Column>,
}

impl SeriesQuery {
    /// All sites and monitors of a period, without context and metrics.
    pub fn new(period: Period) -> Self {
        Self {
            sites: BTreeSet::new(),
            monitors: BTreeSet::new(),
            period,
            context: Micros::ZERO,
            metrics: BTreeSet::new(),
            columns: BTreeSet::new(),
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

    /// With the samples of a day before and after, and the test interval: what outages need.
    #[must_use]
    pub fn for_outages(mut self) -> Self {
        self.context = Micros::from_secs(86_400);
        self.columns.insert(Column::TestInterval);
        self
    }

    fn first(&self) -> UtcMicros {
        self.period.from - self.context
    }

    fn last(&self) -> UtcMicros {
        self.period.to + self.context
    }

    fn bytes_per_row(&self) -> usize {
        // started_at, outcome, exclusion, provisional; then 8 bytes and a bit a column; text is only on failures.
        16 + 9 * (self.metrics.len() + self.columns.len())
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
        let mut files = Vec::new();
        if folder.is_dir() {
            for (site, path) in partitions(&folder, "site")? {
                let site: Arc<str> = site.into();
                for (date, path) in partitions(&path, "date")? {
                    let Ok(date) = date.parse::<Date>() else { continue };
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
        })
    }

    /// Leaves out corrupt files, which [`Lake::skipped`] then names, instead of failing.
    #[must_use]
    pub fn skip_corrupt(mut self, skip: bool) -> Self {
        self.skip_corrupt = skip;
        self
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

    /// The folder of the samples.
    pub fn folder(&self) -> &Path {
        &self.folder
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
    pub fn monitors(&self, period: Option<&Period>) -> Result<BTreeSet<SiteAndMonitor>, LakeError> {
        let files: Vec<&LakeFile> = self
            .files
            .iter()
            .filter(|file| {
                period.is_none_or(|period| {
                    period.from.utc_date() <= file.date && file.date <= UtcMicros(period.to.0 - 1).utc_date()
                })
            })
            .collect();
        let found = self.in_parallel(&files, |file| Ok(Runs::of(file)?.0))?;
        let mut monitors = BTreeSet::new();
        for (file, runs) in found {
            for run in runs.unwrap_or_default() {
                monitors.insert((Arc::clone(&files[file].site), run.monitor));
            }
        }
        Ok(monitors)
    }

    /// The series of each (site, monitor) that a query selects, ordered by site and monitor. Those without any sample are
    /// left out.
    pub fn series<'lake>(&'lake self, query: &SeriesQuery) -> SeriesIter<'lake> {
        let (first, last) = (query.first().utc_date(), UtcMicros(query.last().0 - 1).utc_date());
        let mut sites: VecDeque<Vec<&LakeFile>> = VecDeque::new();
        for file in &self.files {
            if file.date < first || file.date > last {
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

    /// What `figure` makes of each series, on all cores, in the order of [`Lake::series`].
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn map<T: Send>(&self, query: &SeriesQuery, figure: impl Fn(Series) -> T + Sync) -> Result<Vec<T>, LakeError> {
        let results: Mutex<Vec<(usize, T)>> = Mutex::default();
        let failure: Mutex<Option<LakeError>> = Mutex::default();
        let source = Mutex::new(self.series(query).enumerate());
        std::thread::scope(|scope| {
            for _ in 0..threads() {
                scope.spawn(|| {
                    loop {
                        let Ok(next) = source.lock().map(|mut source| source.next()) else {
                            return;
                        };
                        match next {
                            Some((index, Ok(series))) => {
                                let result = figure(series);
                                if let Ok(mut results) = results.lock() {
                                    results.push((index, result));
                                }
                            }
                            Some((_, Err(error))) => {
                                if let Ok(mut failure) = failure.lock() {
                                    failure.get_or_insert(error);
                                }
                                return;
                            }
                            None => return,
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_default() {
            return Err(error);
        }
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// What `read` makes of each file, on all cores, by the file's index; `None` for a corrupt one that is left out.
    fn in_parallel<T: Send>(
        &self,
        files: &[&LakeFile],
        read: impl Fn(&LakeFile) -> Result<T, LakeError> + Sync,
    ) -> Result<Vec<(usize, Option<T>)>, LakeError> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<(usize, Result<T, LakeError>)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..threads().min(files.len()) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(file) = files.get(index) else { return };
                        let result = read(file);
                        let failed = result.is_err() && !self.skip_corrupt;
                        if let Ok(mut results) = results.lock() {
                            results.push((index, result));
                        }
                        if failed {
                            next.store(files.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|(index, _)| *index);
        results
            .into_iter()
            .map(|(index, result)| match result {
                Ok(result) => Ok((index, Some(result))),
                Err(LakeError::Corrupt { path, reason }) if self.skip_corrupt => {
                    if let Ok(mut skipped) = self.skipped.lock() {
                        skipped.insert(path, reason);
                    }
                    Ok((index, None))
                }
                Err(error) => Err(error),
            })
            .collect()
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

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
    Ok(found)
}

/// The folders `key=value` in a folder, by value.
fn partitions(folder: &Path, key: &str) -> Result<Vec<(String, PathBuf)>, LakeError> {
    Ok(entries(folder)?
        .into_iter()
        .filter_map(|(name, path)| {
            let value = name.strip_prefix(key)?.strip_prefix('=')?.to_owned();
            path.is_dir().then_some((value, path))
        })
        .collect())
}

/// The rows of one monitor in a file.
struct Run {
    monitor: Arc<str>,
    rows: std::ops::Range<usize>,
}

/// Where each monitor's rows are in a file: as long as a file is sorted, one run a monitor.
struct Runs;

impl Runs {
    /// The runs of a file, and how many rows it has.
    fn of(file: &LakeFile) -> Result<(Vec<Run>, usize), LakeError> {
        let frame = decode(file, &["monitor"], None)?;
        let monitors = text(&frame, "monitor").map_err(|error| corrupt(file, error))?;
        let Some(monitors) = monitors else {
            return Err(corrupt(file, "it has no column \"monitor\""));
        };
        let runs = runs_of(&monitors).ok_or_else(|| corrupt(file, "a sample has no monitor"))?;
        Ok((runs, frame.height()))
    }
}

fn runs_of(monitors: &StringChunked) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for (row, monitor) in monitors.iter().enumerate() {
        let monitor = monitor?;
        match runs.last_mut() {
            Some(run) if *run.monitor == *monitor => run.rows.end = row + 1,
            _ => runs.push(Run {
                monitor: monitor.into(),
                rows: row..row + 1,
            }),
        }
    }
    Some(runs)
}

fn corrupt(file: &LakeFile, reason: impl ToString) -> LakeError {
    LakeError::Corrupt {
        path: file.path.clone(),
        reason: reason.to_string(),
    }
}

/// Decodes some columns of a file, as far as it has them, and some of its rows.
fn decode(file: &LakeFile, columns: &[&str], rows: Option<std::ops::Range<usize>>) -> Result<DataFrame, LakeError> {
    let source = File::open(&file.path).map_err(|error| LakeError::Unreadable {
        path: file.path.clone(),
        reason: error.to_string(),
    })?;
    let read = || -> PolarsResult<DataFrame> {
        let mut reader = ParquetReader::new(source);
        // Some writers note their own in-memory types (dictionaries, large strings). What is stored is what counts.
        let mut metadata = (**reader.get_metadata()?).clone();
        metadata.key_value_metadata = None;
        let groups = metadata.row_groups.len();
        reader.set_metadata(Arc::new(metadata));
        let schema = reader.schema()?;
        let present: Vec<String> = columns
            .iter()
            .filter(|column| schema.contains(column))
            .map(|column| (*column).to_owned())
            .collect();
        let strategy = if groups > 1 && rows.is_some() {
            // Leaves out the row groups that hold none of the rows.
            ParallelStrategy::RowGroups
        } else {
            ParallelStrategy::None
        };
        reader
            .with_columns(Some(present))
            .with_slice(rows.map(|rows| (rows.start, rows.len())))
            .read_parallel(strategy)
            .set_rechunk(true)
            .finish()
    };
    // The decoder may panic on bytes that no writer writes.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(error)) => Err(corrupt(file, error)),
        Err(_) => Err(corrupt(file, "it can't be decoded")),
    }
}

/// A column as text, if the file has it.
fn text(frame: &DataFrame, name: &str) -> PolarsResult<Option<StringChunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::String)?.str()?.clone()))
}

/// A column as whole numbers, if the file has it.
fn integers(frame: &DataFrame, name: &str) -> PolarsResult<Option<Int64Chunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::Int64)?.i64()?.clone()))
}

fn booleans(frame: &DataFrame, name: &str) -> PolarsResult<Option<BooleanChunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::Boolean)?.bool()?.clone()))
}

/// A column of moments in microseconds.
fn moments(column: &Frame) -> PolarsResult<Int64Chunked> {
    let physical = column.to_physical_repr().cast(&DataType::Int64)?;
    let values = physical.i64()?;
    Ok(match column.dtype() {
        DataType::Datetime(TimeUnit::Nanoseconds, _) => values.apply_values(|at| at.div_euclid(1000)),
        DataType::Datetime(TimeUnit::Milliseconds, _) => values.apply_values(|at| at.saturating_mul(1000)),
        _ => values.clone(),
    })
}

/// The decoded rows of a file that a batch needs.
struct Part {
    /// Each monitor's rows: consecutive, or picked where the file is not sorted.
    runs: BTreeMap<Arc<str>, Rows>,
    started_at: Vec<i64>,
    outcome: Vec<Outcome>,
    excluded: Option<Vec<Option<Exclusion>>>,
    settled: Option<BooleanChunked>,
    stage: Option<Vec<Option<Stage>>>,
    error: Option<StringChunked>,
    smtp_reply_code: Option<Int64Chunked>,
    test_interval: Option<Int64Chunked>,
    max_round_trip: Option<Int64Chunked>,
    metrics: Vec<(Metric, Option<Int64Chunked>)>,
}

enum Rows {
    Range(std::ops::Range<usize>),
    Picked(Vec<u32>),
}

impl Part {
    /// Reads what a query needs of a file; with `rows`, only those.
    fn read(
        file: &LakeFile,
        query: &SeriesQuery,
        monitors: Option<&BTreeSet<Arc<str>>>,
        rows: Option<std::ops::Range<usize>>,
    ) -> Result<Self, LakeError> {
        let mut columns = vec!["monitor", "started_at", "outcome", "excluded", "settled"];
        for column in &query.columns {
            columns.push(match column {
                Column::Stage => "stage",
                Column::Error => "error",
                Column::SmtpReplyCode => "smtp_reply_code",
                Column::TestInterval => "test_interval_us",
                Column::MaxRoundTrip => "max_round_trip_us",
                Column::Hops => continue,
            });
        }
        let metrics: Vec<(Metric, String)> = query.metrics.iter().map(|m| (*m, m.column())).collect();
        columns.extend(metrics.iter().map(|(_, column)| column.as_str()));
        let frame = decode(file, &columns, rows)?;
        Self::of(file, &frame, &metrics, monitors)
    }

    fn of(
        file: &LakeFile,
        frame: &DataFrame,
        metrics: &[(Metric, String)],
        wanted: Option<&BTreeSet<Arc<str>>>,
    ) -> Result<Self, LakeError> {
        let wrong = |error: polars::prelude::PolarsError| corrupt(file, error);
        let missing = |name: &str| corrupt(file, format!("it has no column {name:?}"));
        let monitors = text(frame, "monitor")
            .map_err(wrong)?
            .ok_or_else(|| missing("monitor"))?;
        let at = frame.column("started_at").map_err(|_| missing("started_at"))?;
        let at = moments(at).map_err(wrong)?;
        if at.null_count() > 0 {
            return Err(corrupt(file, "a sample has no started_at"));
        }
        let started_at: Vec<i64> = at.into_no_null_iter().collect();
        let outcomes = text(frame, "outcome")
            .map_err(wrong)?
            .ok_or_else(|| missing("outcome"))?;
        let outcome = outcomes
            .iter()
            .map(|word| match word {
                Some(word) => word.parse::<Outcome>().map_err(|error| corrupt(file, error)),
                None => Err(corrupt(file, "a sample has no outcome")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let excluded = text(frame, "excluded")
            .map_err(wrong)?
            .filter(|column| column.null_count() < column.len())
            // A reason that a later version adds is a reason all the same.
            .map(|column| {
                column
                    .iter()
                    .map(|word| word.map(|word| word.parse().unwrap_or(Exclusion::Maintenance)))
                    .collect()
            });
        let stage = text(frame, "stage").map_err(wrong)?.map(|column| {
            column
                .iter()
                .map(|word| word.and_then(|word| word.parse().ok()))
                .collect()
        });
        let mut columns = Vec::with_capacity(metrics.len());
        for (metric, name) in metrics {
            columns.push((*metric, integers(frame, name).map_err(wrong)?));
        }
        let runs = runs_of(&monitors).ok_or_else(|| corrupt(file, "a sample has no monitor"))?;
        Ok(Self {
            runs: by_monitor(runs, wanted),
            outcome,
            excluded,
            settled: booleans(frame, "settled").map_err(wrong)?,
            stage,
            error: text(frame, "error").map_err(wrong)?,
            smtp_reply_code: integers(frame, "smtp_reply_code").map_err(wrong)?,
            test_interval: integers(frame, "test_interval_us").map_err(wrong)?,
            max_round_trip: integers(frame, "max_round_trip_us").map_err(wrong)?,
            metrics: columns,
            started_at,
        })
    }

    /// Adds a monitor's rows to its series.
    fn add_to(&self, series: &mut Series, query: &SeriesQuery, monitor: &str) {
        let Some(rows) = self.runs.get(monitor) else { return };
        let before = series.len();
        let rows: Vec<usize> = match rows {
            Rows::Range(rows) => rows.clone().collect(),
            Rows::Picked(rows) => rows.iter().map(|row| *row as usize).collect(),
        };
        let rows = rows.as_slice();
        series.started_at.extend(rows.iter().map(|row| self.started_at[*row]));
        series.outcome.extend(rows.iter().map(|row| self.outcome[*row]));
        if let Some(excluded) = &self.excluded {
            series.excluded.resize(before, None);
            series.excluded.extend(rows.iter().map(|row| excluded[*row]));
        } else if !series.excluded.is_empty() {
            series.excluded.resize(before + rows.len(), None);
        }
        if let Some(settled) = &self.settled {
            series.provisional.resize(before, false);
            series
                .provisional
                .extend(rows.iter().map(|row| settled.get(*row) == Some(false)));
        } else if !series.provisional.is_empty() {
            series.provisional.resize(before + rows.len(), false);
        }
        for column in &query.columns {
            match column {
                Column::Stage => match &self.stage {
                    Some(stage) => series.stage.extend(rows.iter().map(|row| stage[*row])),
                    None => series.stage.resize(before + rows.len(), None),
                },
                Column::Error => match &self.error {
                    Some(error) => series
                        .error
                        .extend(rows.iter().map(|row| error.get(*row).map(Arc::from))),
                    None => series.error.resize(before + rows.len(), None),
                },
                Column::SmtpReplyCode => match &self.smtp_reply_code {
                    Some(code) => series.smtp_reply_code.extend(
                        rows.iter()
                            .map(|row| code.get(*row).and_then(|code| i32::try_from(code).ok())),
                    ),
                    None => series.smtp_reply_code.resize(before + rows.len(), None),
                },
                Column::TestInterval => append(&mut series.test_interval, self.test_interval.as_ref(), rows),
                Column::MaxRoundTrip => append(&mut series.max_round_trip, self.max_round_trip.as_ref(), rows),
                Column::Hops => series.hops.resize(before + rows.len(), None),
            }
        }
        for (metric, column) in &self.metrics {
            append(&mut series.metrics[*metric as usize], column.as_ref(), rows);
        }
    }
}

fn append(target: &mut super::series::Durations, column: Option<&Int64Chunked>, rows: &[usize]) {
    let Some(column) = column else {
        target.push_nulls(rows.len());
        return;
    };
    for row in rows {
        target.push(column.get(*row));
    }
}

/// Each wanted monitor's rows; several runs of one monitor only where the file is not sorted.
fn by_monitor(runs: Vec<Run>, wanted: Option<&BTreeSet<Arc<str>>>) -> BTreeMap<Arc<str>, Rows> {
    let mut found: BTreeMap<Arc<str>, Rows> = BTreeMap::new();
    for run in runs {
        if wanted.is_some_and(|wanted| !wanted.contains(&run.monitor)) {
            continue;
        }
        match found.remove(&run.monitor) {
            None => {
                found.insert(run.monitor, Rows::Range(run.rows));
            }
            Some(rows) => {
                let mut picked = match rows {
                    Rows::Range(rows) => rows.map(|row| row as u32).collect(),
                    Rows::Picked(rows) => rows,
                };
                picked.extend(run.rows.map(|row| row as u32));
                found.insert(run.monitor, Rows::Picked(picked));
            }
        }
    }
    found
}

/// Reads series one by one; see [`Lake::series`].
pub struct SeriesIter<'lake> {
    lake: &'lake Lake,
    query: SeriesQuery,
    /// The files of the sites that have not been begun.
    sites: VecDeque<Vec<&'lake LakeFile>>,
    /// The batches of the current site that have not been read.
    batches: VecDeque<Plan<'lake>>,
    batch: Option<Batch>,
    failed: bool,
}

/// Which monitors to read from which rows of which files; `None`: all of them.
struct Plan<'lake> {
    files: Vec<(&'lake LakeFile, Option<std::ops::Range<usize>>)>,
    monitors: Option<BTreeSet<Arc<str>>>,
}

/// The decoded parts of a batch, and the monitors still to be put together.
struct Batch {
    site: Arc<str>,
    parts: Vec<Part>,
    monitors: std::vec::IntoIter<Arc<str>>,
}

impl SeriesIter<'_> {
    /// Divides a site's monitors so that each batch keeps to the budget.
    fn plan<'lake>(&self, files: Vec<&'lake LakeFile>) -> Result<VecDeque<Plan<'lake>>, LakeError> {
        let bytes_per_row = self.query.bytes_per_row();
        let wanted = |monitor: &str| self.query.monitors.is_empty() || self.query.monitors.contains(monitor);
        if self.query.monitors.is_empty() {
            let rows: usize = self
                .lake
                .in_parallel(&files, rows_of)?
                .into_iter()
                .filter_map(|(_, rows)| rows)
                .sum();
            if rows.saturating_mul(bytes_per_row) <= BUDGET {
                return Ok(VecDeque::from([Plan {
                    files: files.into_iter().map(|file| (file, None)).collect(),
                    monitors: None,
                }]));
            }
        }
        let found = self.lake.in_parallel(&files, Runs::of)?;
        let mut sizes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for (runs, _) in found.iter().filter_map(|(_, found)| found.as_ref()) {
            for run in runs.iter().filter(|run| wanted(&run.monitor)) {
                *sizes.entry(Arc::clone(&run.monitor)).or_default() += run.rows.len();
            }
        }
        let mut batches: Vec<(BTreeSet<Arc<str>>, usize)> = Vec::new();
        for (monitor, rows) in sizes {
            let bytes = rows.saturating_mul(bytes_per_row);
            match batches.last_mut() {
                Some((monitors, sum)) if sum.saturating_add(bytes) <= BUDGET => {
                    monitors.insert(monitor);
                    *sum += bytes;
                }
                _ => batches.push((BTreeSet::from([monitor]), bytes)),
            }
        }
        Ok(batches
            .into_iter()
            .map(|(monitors, _)| Plan {
                files: found
                    .iter()
                    .filter_map(|(index, found)| {
                        let (runs, _) = found.as_ref()?;
                        let runs = || runs.iter().filter(|run| monitors.contains(&run.monitor));
                        let first = runs().map(|run| run.rows.start).min()?;
                        let last = runs().map(|run| run.rows.end).max()?;
                        Some((files[*index], Some(first..last)))
                    })
                    .collect(),
                monitors: Some(monitors),
            })
            .collect())
    }

    fn read(&self, plan: &Plan<'_>) -> Result<Option<Batch>, LakeError> {
        let files: Vec<&LakeFile> = plan.files.iter().map(|(file, _)| *file).collect();
        let Some(first) = files.first() else { return Ok(None) };
        let site = Arc::clone(&first.site);
        let rows: BTreeMap<&Path, Option<std::ops::Range<usize>>> = plan
            .files
            .iter()
            .map(|(file, rows)| (file.path.as_path(), rows.clone()))
            .collect();
        let parts: Vec<Part> = self
            .lake
            .in_parallel(&files, |file| {
                let rows = rows.get(file.path.as_path()).cloned().flatten();
                Part::read(file, &self.query, plan.monitors.as_ref(), rows)
            })?
            .into_iter()
            .filter_map(|(_, part)| part)
            .collect();
        let monitors: BTreeSet<Arc<str>> = parts.iter().flat_map(|part| part.runs.keys().cloned()).collect();
        Ok(Some(Batch {
            site,
            parts,
            monitors: monitors.into_iter().collect::<Vec<_>>().into_iter(),
        }))
    }

    fn advance(&mut self) -> Result<Option<Series>, LakeError> {
        loop {
            if let Some(batch) = &mut self.batch {
                for monitor in batch.monitors.by_ref() {
                    let series = batch_series(&batch.site, monitor, &batch.parts, &self.query);
                    if !series.is_empty() {
                        return Ok(Some(series));
                    }
                }
                self.batch = None;
            }
            if let Some(plan) = self.batches.pop_front() {
                self.batch = self.read(&plan)?;
            } else if let Some(files) = self.sites.pop_front() {
                self.batches = self.plan(files)?;
            } else {
                return Ok(None);
            }
        }
    }
}

/// How many rows a file has, by its footer.
fn rows_of(file: &LakeFile) -> Result<usize, LakeError> {
    let source = File::open(&file.path).map_err(|error| LakeError::Unreadable {
        path: file.path.clone(),
        reason: error.to_string(),
    })?;
    match catch_unwind(AssertUnwindSafe(|| ParquetReader::new(source).num_rows())) {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(corrupt(file, error)),
        Err(_) => Err(corrupt(file, "its footer can't be decoded")),
    }
}

fn batch_series(site: &Arc<str>, monitor: Arc<str>, parts: &[Part], query: &SeriesQuery) -> Series {
    let mut series = Series {
        site: Arc::clone(site),
        ..Series::default()
    };
    for part in parts {
        part.add_to(&mut series, query, &monitor);
    }
    series.monitor = monitor;
    let (first, last) = (query.first().0, query.last().0);
    let sorted = series.started_at.is_sorted();
    let inside = |at: &i64| first <= *at && *at < last;
    if !sorted || !series.started_at.iter().all(inside) {
        let mut rows: Vec<u32> = (0..series.len() as u32)
            .filter(|row| inside(&series.started_at[*row as usize]))
            .collect();
        if !sorted {
            rows.sort_by_key(|row| series.started_at[*row as usize]);
        }
        series = series.select(&rows);
    }
    series.within(&query.period)
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
