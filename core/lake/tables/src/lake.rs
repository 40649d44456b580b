//! Reads the sample lake: only the files, row groups and columns that a query needs, one monitor's
//! series at a time.
//!
//! Parquet is decoded one file at a time, the probe's encodings with our own decoder and all others
//! with polars. A single lazy frame over all files would not work: files may differ in columns and
//! types (older versions, other writers), a corrupt one must be named, and the samples are already
//! sorted by monitor and time, so no engine has to group them. The amount decoded at a time is
//! limited; larger queries are read in batches of monitors.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::civil::Date;
use mailqos_base::hex;
use mailqos_lake::{Fetcher, LakeError, Record as _, Traffic, read_day, read_day_bytes};
use mailqos_model::{Event, MAX_DECLARATION_DELAY, Micros, UtcMicros};
use sha2::{Digest as _, Sha256};

use super::{
    batch::SeriesIter,
    catalogue::Catalogue,
    declared::Declarations,
    folders::{entries, is_copy, is_day_file, partitions},
    footer::{self, Group, Wanted},
    object::{self, LakeFile},
    parallel, part,
    query::SeriesQuery,
    series::Series,
};

/// Most files whose row groups determine how monitors are divided into parts.
const MAX_SAMPLED: usize = 8;

/// The names of a site and of a monitor.
pub type SiteAndMonitor = (Arc<str>, Arc<str>);

/// A row group, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// The smallest and the greatest monitor; `None` if the writer has not recorded them.
    pub monitors: Option<(Arc<str>, Arc<str>)>,
    /// Number of rows.
    pub rows: usize,
}

/// The events of a site, in order.
pub type SiteEvents = (Arc<str>, Vec<Event>);

/// A folder of samples: `<data>/samples/site=…/date=…/*.parquet`.
#[derive(Debug)]
pub struct Lake {
    /// The folder of samples and events, or its address.
    root: PathBuf,
    folder: PathBuf,
    catalogue: Catalogue,
    /// Declarations that were read, by period.
    declarations: Mutex<Vec<(Range<UtcMicros>, Arc<Declarations>)>>,
    /// Files and folders named like copies of a site or a day, which were skipped.
    passed_over: Vec<PathBuf>,
    /// The store, and the event files in it; `None` if the lake is in a folder.
    stored: Option<Stored>,
}

/// A lake in an object store.
#[derive(Debug)]
struct Stored {
    fetcher: Arc<Fetcher>,
    events: Vec<LakeFile>,
}

impl Lake {
    /// Opens the lake in a data folder; a folder without samples is an empty lake.
    ///
    /// # Errors
    /// The folder doesn't exist or can't be listed.
    pub fn open(data: &Path) -> Result<Self, LakeError> {
        if !data.is_dir() {
            return Err(LakeError::NotFound(data.to_owned()));
        }
        let folder = data.join("samples");
        let (mut files, mut passed_over) = (Vec::new(), Vec::new());
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
                let of_day = entries(&path)?.into_iter().filter(|path| is_day_file(path));
                files.extend(of_day.map(|path| LakeFile {
                    site: Arc::clone(&site),
                    date,
                    path,
                    object: None,
                }));
            }
        }
        files.sort_by(|a, b| (&a.site, a.date, &a.path).cmp(&(&b.site, b.date, &b.path)));
        let catalogue = Catalogue { files, ..Catalogue::default() };
        Ok(Self {
            root: data.to_owned(),
            folder,
            catalogue,
            declarations: Mutex::default(),
            passed_over,
            stored: None,
        })
    }

    /// Opens a lake in an object store, by listings of its folders. Files are read when they are
    /// needed, and only the parts of them that are.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn of_store(fetcher: Arc<Fetcher>) -> Result<Self, LakeError> {
        let samples = fetcher.list("samples").await?;
        let events = fetcher.list(Event::FOLDER).await?;
        let (files, mut passed_over) = object::day_files(&fetcher, "samples", samples);
        let (events, others) = object::day_files(&fetcher, Event::FOLDER, events);
        passed_over.extend(others);
        Ok(Self {
            root: PathBuf::from(fetcher.address()),
            folder: PathBuf::from(format!("{}/samples", fetcher.address())),
            catalogue: Catalogue { files, is_remote: true, ..Catalogue::default() },
            declarations: Mutex::default(),
            passed_over,
            stored: Some(Stored { fetcher, events }),
        })
    }

    /// Returns what was transferred from the object store so far; `None` for a lake in a folder.
    pub fn traffic(&self) -> Option<Traffic> {
        self.stored.as_ref().map(|stored| stored.fetcher.traffic())
    }

    /// Skips corrupt files, which [`Lake::skipped`] then returns, instead of failing.
    #[must_use]
    pub fn skip_corrupt(mut self, skip: bool) -> Self {
        self.catalogue.skip_corrupt = skip;
        self
    }

    /// Returns whether corrupt files are skipped.
    pub fn skips(&self) -> bool {
        self.catalogue.skip_corrupt
    }

    /// Returns the corrupt files skipped so far, each with its error.
    pub fn skipped(&self) -> Vec<(PathBuf, String)> {
        match self.catalogue.skipped.lock() {
            Ok(skipped) => {
                skipped.iter().map(|(path, reason)| (path.clone(), reason.clone())).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Returns one line, for users, for each duplicate found so far, which counts once, and for
    /// each copy skipped because of its name. Synchronisation programs or people create them, and
    /// every other reader counts them twice.
    pub fn doubles(&self) -> Vec<String> {
        let passed_over = self.passed_over.iter().map(|path| {
            format!(
                "{} has the name of a copied folder and was skipped; move it out of the lake",
                path.display()
            )
        });
        let doubles =
            self.catalogue.doubles.lock().map(|doubles| doubles.clone()).unwrap_or_default();
        let doubles = doubles.into_iter().map(|(path, monitors)| {
            let count: usize = monitors.values().sum();
            let rows = if count == 1 {
                "1 sample".to_owned()
            } else {
                format!("{count} samples")
            };
            format!(
                "{rows} of {} occur twice and were counted once; move copies of day files out of the lake",
                path.display()
            )
        });
        passed_over.chain(doubles).collect()
    }

    /// Returns the folder of the samples.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the events of each site in a time range, in order; sites are sorted by name and
    /// omitted if they have no events.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn events(&self, from: UtcMicros, to: UtcMicros) -> Result<Vec<SiteEvents>, LakeError> {
        let (first, last) = (from.utc_date(), to.utc_date());
        let mut all: Vec<SiteEvents> = Vec::new();
        for file in self.event_files()? {
            if !(first..=last).contains(&file.date) {
                continue;
            }
            let events = self.events_of(&file)?;
            match all.last_mut() {
                Some((site, of_site)) if *site == file.site => of_site.extend(events),
                _ => all.push((file.site, events)),
            }
        }
        for (_, events) in &mut all {
            events.retain(|event| (from..to).contains(&event.at));
            events.sort_by_key(|event: &Event| event.at);
        }
        all.retain(|(_, events)| !events.is_empty());
        Ok(all)
    }

    /// Returns the event files, by site and date.
    fn event_files(&self) -> Result<Vec<LakeFile>, LakeError> {
        let name = format!("{}.parquet", Event::FOLDER);
        if let Some(stored) = &self.stored {
            let events = stored.events.iter().filter(|file| file.path.ends_with(&name));
            return Ok(events.cloned().collect());
        }
        let folder = self.folder.with_file_name(Event::FOLDER);
        let mut files = Vec::new();
        for (site, path) in partitions(&folder, "site")? {
            let site: Arc<str> = site.into();
            for (date, path) in partitions(&path, "date")? {
                let path = path.join(&name);
                if let Ok(date) = date.parse::<Date>()
                    && path.exists()
                {
                    files.push(LakeFile { site: Arc::clone(&site), date, path, object: None });
                }
            }
        }
        Ok(files)
    }

    /// Returns the maintenance that was declared afterwards for parts of a period.
    ///
    /// # Errors
    /// A file of events is corrupt or can't be read.
    pub fn declarations(&self, period: &Range<UtcMicros>) -> Result<Arc<Declarations>, LakeError> {
        let mut known = self.declarations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.iter().find(|(asked, _)| asked == period) {
            return Ok(Arc::clone(found));
        }
        let mut found = Declarations::default();
        let last = UtcMicros(period.end.0.saturating_add(MAX_DECLARATION_DELAY.0));
        for (site, events) in self.events(period.start, last)? {
            found.add(&site, &events);
        }
        found.keep(period);
        let found = Arc::new(found);
        known.push((period.clone(), Arc::clone(&found)));
        Ok(found)
    }

    /// Returns whether there are events on UTC days before that of `moment`.
    ///
    /// # Errors
    /// A folder can't be read.
    pub fn has_events_before(&self, moment: UtcMicros) -> Result<bool, LakeError> {
        Ok(self.event_files()?.iter().any(|file| file.date < moment.utc_date()))
    }

    fn events_of(&self, file: &LakeFile) -> Result<Vec<Event>, LakeError> {
        let read = match &file.object {
            None => read_day::<Event>(&file.path),
            Some(object) => object::renewed(file, || read_day_bytes(&file.path, object.whole()?)),
        };
        let reason = match read {
            Ok(events) => return Ok(events),
            Err(error @ LakeError::Remote(_)) => return Err(error),
            Err(error) => error.to_string(),
        };
        let path = file.path.clone();
        if !self.catalogue.skip_corrupt {
            return Err(LakeError::Corrupt { path, reason });
        }
        self.catalogue.note_skipped(path, reason);
        Ok(Vec::new())
    }

    /// Returns whether there are no sample files at all.
    pub fn is_empty(&self) -> bool {
        self.catalogue.files.is_empty()
    }

    /// Returns the sites, in order.
    pub fn sites(&self) -> Vec<Arc<str>> {
        let mut sites: Vec<_> =
            self.catalogue.files.iter().map(|file| Arc::clone(&file.site)).collect();
        sites.dedup();
        sites
    }

    /// Returns the first and the last UTC date with samples.
    pub fn dates(&self) -> Option<(Date, Date)> {
        let dates = || self.catalogue.files.iter().map(|file| file.date);
        Some((dates().min()?, dates().max()?))
    }

    /// Returns the (site, monitor) pairs that have samples on the UTC days of a period, or at any
    /// time if there is no period.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn monitors(
        &self,
        period: Option<Range<UtcMicros>>,
    ) -> Result<BTreeSet<SiteAndMonitor>, LakeError> {
        let files: Vec<&LakeFile> = self
            .catalogue
            .files
            .iter()
            .filter(|file| {
                period.as_ref().is_none_or(|period| {
                    period.start.utc_date() <= file.date
                        && file.date <= UtcMicros(period.end.0 - 1).utc_date()
                })
            })
            .collect();
        let all = Wanted::default();
        let found = self.catalogue.in_parallel(&files, |file| part::monitors(file, &all))?;
        let mut monitors = BTreeSet::new();
        for (file, names) in found {
            for monitor in names.unwrap_or_default() {
                monitors.insert((Arc::clone(&files[file].site), monitor));
            }
        }
        Ok(monitors)
    }

    /// Returns whether a monitor has samples at one of the sites on the UTC days of a period, or at
    /// any time if there is no period. Only as much is read as answers the question.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn has_monitor(
        &self,
        monitor: &str,
        is_site: impl Fn(&str) -> bool,
        period: Option<Range<UtcMicros>>,
    ) -> Result<bool, LakeError> {
        let wanted = Wanted { names: [monitor.to_owned()].into(), ..Wanted::default() };
        let days =
            period.map(|period| period.start.utc_date()..=UtcMicros(period.end.0 - 1).utc_date());
        let files = self.catalogue.files.iter().rev().filter(|file| {
            days.as_ref().is_none_or(|days| days.contains(&file.date)) && is_site(&file.site)
        });
        for file in files {
            let found =
                self.catalogue.in_parallel(&[file], |file| part::monitors(file, &wanted))?;
            if found.into_iter().any(|(_, found)| found.is_some_and(|found| !found.is_empty())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the series of each (site, monitor) that a query selects, ordered by site and monitor.
    /// Series without samples are omitted.
    pub fn series<'lake>(&'lake self, query: &SeriesQuery) -> SeriesIter<'lake> {
        SeriesIter::new(&self.catalogue, query)
    }

    /// Maps each series with `figure`, which may consume it, on all cores, and returns the results
    /// in the order of [`Lake::series`].
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

    /// Maps each series with `figure` on all cores and passes the results to `take` in the order of
    /// [`Lake::series`]. It works batch by batch, so that neither the samples nor the results have
    /// to fit into memory.
    ///
    /// # Errors
    /// A file is corrupt or can't be read, or `take` failed.
    pub fn for_each<T: Send, E: From<LakeError>>(
        &self,
        query: &SeriesQuery,
        figure: impl Fn(&mut Series) -> T + Sync,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let declarations = self.declarations(&query.period)?;
        let mut batches = self.series(query);
        while let Some(batch) = batches.next_batch()? {
            let monitors: Vec<usize> = (0..batch.monitors.len()).collect();
            // One after the other, in the same memory.
            let results = parallel::map_with(&monitors, Series::default, |series, monitor| {
                batch.read(*monitor, query, series);
                series.declared = declarations.ranges(&series.site, &series.monitor);
                (!series.is_empty()).then(|| figure(series))
            });
            for result in results.into_iter().flatten() {
                take(result)?;
            }
        }
        Ok(())
    }

    /// Returns the largest possible number of samples that a query matches, by the files' footers.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn count(&self, query: &SeriesQuery) -> Result<usize, LakeError> {
        Ok(self.groups(query)?.iter().map(|group| group.rows).sum())
    }

    /// Returns whether a query may match tests of kinds other than `mail-qos`, by the files'
    /// footers.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn has_kinds(&self, query: &SeriesQuery) -> Result<bool, LakeError> {
        Ok(self.groups(query)?.iter().any(|group| group.has_kinds))
    }

    /// Returns the row groups that a query may match, of a sample of its files, to divide the
    /// monitors into parts.
    ///
    /// # Errors
    /// A file is corrupt or can't be read.
    pub fn row_groups(&self, query: &SeriesQuery) -> Result<Vec<RowGroup>, LakeError> {
        let (wanted, all) = (query.wanted(), self.series(query).files());
        let files: Vec<&LakeFile> =
            all.iter().step_by(all.len().div_ceil(MAX_SAMPLED).max(1)).copied().collect();
        let found = self.catalogue.in_parallel(&files, |file| Ok(footer::groups(file)?.0))?;
        let groups = found.into_iter().filter_map(|(_, groups)| groups).flatten();
        let groups = groups.filter(|group| wanted.may_be_in(group));
        Ok(groups.map(|group| RowGroup { monitors: group.monitors, rows: group.rows }).collect())
    }

    /// Returns a digest of the names and versions of the day files in the period of a query at
    /// these sites, and of the maintenance that was declared afterwards: the figures of all
    /// monitors follow from these. Files that are only read as context are not included, because
    /// today's file is replaced every few minutes.
    ///
    /// # Errors
    /// A file of events can't be read.
    pub fn digest(&self, query: &SeriesQuery) -> Result<String, LakeError> {
        let mut digest = Sha256::new();
        let mut add = |part: &str| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        let days = query.days(Micros::ZERO);
        for file in self.series(query).files() {
            if days.contains(&file.date) {
                add(&self.inner_path(&file.path).to_string_lossy());
                add(&file.version());
            }
        }
        let of_sites = |site: &str| query.sites.is_empty() || query.sites.contains(site);
        for declaration in self.declarations(&query.period)?.all() {
            if of_sites(&declaration.site) {
                add(&format!("{declaration:?}"));
            }
        }
        Ok(hex(&digest.finalize()[..16]))
    }

    /// Returns the duplicates found so far: file, monitor and number of rows.
    pub fn double_rows(&self) -> Vec<(PathBuf, Arc<str>, usize)> {
        let doubles = self.catalogue.doubles.lock().unwrap_or_else(PoisonError::into_inner);
        let each = doubles.iter().flat_map(|(path, monitors)| {
            monitors.iter().map(|(monitor, count)| (path.clone(), Arc::clone(monitor), *count))
        });
        each.collect()
    }

    /// Adds duplicates that other processes found.
    pub fn note_doubles(&self, doubles: Vec<(PathBuf, String, usize)>) {
        let mut known = self.catalogue.doubles.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, monitor, count) in doubles {
            let most = known.entry(path).or_default().entry(monitor.into()).or_default();
            *most = count.max(*most);
        }
    }

    /// Adds a corrupt file that another process skipped.
    pub fn note_skipped(&self, path: PathBuf, reason: String) {
        self.catalogue.note_skipped(path, reason);
    }

    /// Skips these files, each with the reason, because another process has found them to be
    /// corrupt.
    #[must_use]
    pub fn without(mut self, files: &BTreeMap<PathBuf, String>) -> Self {
        self.catalogue.files.retain(|file| !files.contains_key(&file.path));
        for (path, reason) in files {
            self.catalogue.note_skipped(path.clone(), reason.clone());
        }
        self
    }

    /// Returns the path of a file within the lake, which is the same wherever the lake is mounted.
    pub fn inner_path<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Returns the path of a file from its path within the lake.
    pub fn outer_path(&self, inner: &Path) -> PathBuf {
        self.root.join(inner)
    }

    /// Returns the row groups that a query may match.
    fn groups(&self, query: &SeriesQuery) -> Result<Vec<Group>, LakeError> {
        let wanted = query.wanted();
        let files: Vec<&LakeFile> = self.series(query).files();
        let found = self.catalogue.in_parallel(&files, |file| Ok(footer::groups(file)?.0))?;
        let groups = found.into_iter().filter_map(|(_, groups)| groups).flatten();
        Ok(groups.filter(|group| wanted.may_be_in(group)).collect())
    }
}
