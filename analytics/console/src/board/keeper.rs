//! Keeps the board up to date: reads the status of the probes every second and the samples of the
//! last day every minute, and announces what has changed.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
    time::{Duration, Instant, SystemTime},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{Config, DataLocation};
use mailqos_lake::{Status, status_path};
use mailqos_lake_tables::place;
use mailqos_model::{SiteName, UtcMicros};
use tokio::sync::broadcast;

use super::{Board, Entry, Health, Probe, Reading, day, probe};
use crate::app::SharedConfig;

/// How often samples of the last day are read.
const DAY_EVERY: Duration = Duration::from_secs(60);
/// Share of the time that may be spent reading samples: one part in this many.
const DAY_SHARE: u32 = 10;
/// How often an object store is asked for changes.
const MIRROR_EVERY: Duration = Duration::from_secs(60);
/// Number of changes that a slow reader may be behind.
const MAX_BEHIND: usize = 64;

/// What has changed from one board to the next.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Changed and new monitors.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Removed monitors, as they were.
    pub(crate) removed: Vec<Arc<Entry>>,
    /// Changed and new probes.
    pub(crate) probes: Vec<Arc<Probe>>,
    /// Changed and new monitors as text, by language.
    lines: Mutex<HashMap<&'static str, Arc<Vec<String>>>>,
}

impl Changes {
    /// Returns the changed monitors as text, composed once for each language.
    pub(crate) fn lines(
        &self,
        tag: &'static str,
        compose: impl Fn(&Entry) -> String,
    ) -> Arc<Vec<String>> {
        let mut all = self.lines.lock().ignore_poison();
        let lines = all
            .entry(tag)
            .or_insert_with(|| Arc::new(self.entries.iter().map(|entry| compose(entry)).collect()));
        Arc::clone(lines)
    }
}

/// Version of a file: time of its last change, and length.
type Version = (SystemTime, u64);

/// Status files as last read.
type Statuses = BTreeMap<Arc<str>, (Option<Version>, Reading)>;

#[derive(Debug, Default)]
struct Sources {
    /// Folder of the lake; `None` until an object store has been mirrored.
    folder: Option<PathBuf>,
    mirrored: Option<Instant>,
    mirror_error: Option<String>,
    statuses: Statuses,
    days: day::Days,
    days_read: Option<Instant>,
    days_took: Duration,
    days_start: Option<UtcMicros>,
    /// What the board was composed of.
    composed: Option<Composed>,
}

/// What a board was composed of, apart from the statuses.
#[derive(Debug)]
struct Composed {
    config: Arc<Config>,
    days_read: Option<Instant>,
    healths: Vec<Health>,
}

impl Composed {
    fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && (self.days_read, &self.healths) == (other.days_read, &other.healths)
    }
}

/// The keeper of the board.
#[derive(Debug)]
pub(crate) struct Keeper {
    config: SharedConfig,
    board: RwLock<Arc<Board>>,
    changes: broadcast::Sender<Arc<Changes>>,
    /// Number before that of the first board.
    first: u64,
    sources: Mutex<Sources>,
}

impl Keeper {
    /// Returns a keeper with an empty board.
    pub(crate) fn new(config: SharedConfig) -> Self {
        let (changes, _) = broadcast::channel(MAX_BEHIND);
        let board = RwLock::new(Arc::new(Board::default()));
        let first = UtcMicros::now().0.unsigned_abs();
        Self { config, board, changes, first, sources: Mutex::default() }
    }

    /// Returns the current board.
    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board.read().ignore_poison())
    }

    /// Returns a receiver of changes from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Changes>> {
        self.changes.subscribe()
    }

    /// Returns the folder of the lake, or the reason why there is none.
    pub(crate) fn folder(&self) -> Result<PathBuf, String> {
        let config = Arc::clone(&self.config.read().ignore_poison());
        if let DataLocation::Folder(folder) = &config.data {
            return Ok(folder.clone());
        }
        let sources = self.sources.lock().ignore_poison();
        let error = || sources.mirror_error.clone().unwrap_or_default();
        sources.folder.clone().ok_or_else(error)
    }

    /// Brings the copy of an object store up to date, if the lake is in one and it is time.
    pub(crate) async fn mirror(&self) {
        let config = Arc::clone(&self.config.read().ignore_poison());
        if matches!(config.data, DataLocation::Folder(_)) {
            return;
        }
        {
            let mut sources = self.sources.lock().ignore_poison();
            if sources.mirrored.is_some_and(|at| at.elapsed() < MIRROR_EVERY) {
                return;
            }
            sources.mirrored = Some(Instant::now());
        }
        let result = place::folder(None, Some(&config)).await;
        let mut sources = self.sources.lock().ignore_poison();
        match result {
            Ok(folder) => (sources.folder, sources.mirror_error) = (Some(folder), None),
            Err(error) => sources.mirror_error = Some(error.to_string()),
        }
    }

    /// Reads what has changed, and announces it. Blocks.
    pub(crate) fn refresh(&self, now: UtcMicros) {
        let config = Arc::clone(&self.config.read().ignore_poison());
        let Ok(folder) = self.folder() else {
            self.replace(Board::new(&config, &[], &day::Days::default(), now));
            return;
        };
        let mut sources = self.sources.lock().ignore_poison();
        let has_changed = read_statuses(&mut sources.statuses, &folder, &config);
        let pause = DAY_EVERY.max(sources.days_took * DAY_SHARE);
        let is_due = sources.days_read.is_none_or(|at| at.elapsed() >= pause)
            || sources.days_start.is_some_and(|start| start != day::start(now));
        if is_due && sources.days_read.is_none_or(|at| at.elapsed() >= sources.days_took * 2) {
            let begun = Instant::now();
            match day::read(&folder, now) {
                Ok(days) => sources.days = days,
                Err(error) => sources.days.error = Some(error.to_string()),
            }
            sources.days_took = begun.elapsed();
            sources.days_read = Some(Instant::now());
            sources.days_start = Some(day::start(now));
        }
        let readings: Vec<(Arc<str>, Reading)> = sources
            .statuses
            .iter()
            .map(|(site, (_, reading))| (Arc::clone(site), reading.clone()))
            .collect();
        // Whether a status is too old depends on the time alone.
        let healths = readings.iter().map(|(site, reading)| probe(site, reading, now).health);
        let composed = Composed {
            config: Arc::clone(&config),
            days_read: sources.days_read,
            healths: healths.collect(),
        };
        let is_same = sources.composed.as_ref().is_some_and(|last| last.is_like(&composed));
        if is_same && !has_changed {
            return;
        }
        sources.composed = Some(composed);
        let board = Board::new(&config, &readings, &sources.days, now);
        drop(sources);
        self.replace(board);
    }

    /// Replaces the board, keeping entries that have not changed.
    fn replace(&self, mut board: Board) {
        let before = self.board();
        let mut changes = Changes::default();
        board.number = before.number.max(self.first) + 1;
        for entry in &mut board.entries {
            match before.get(&entry.site, &entry.id) {
                Some(old) if **old == **entry => *entry = Arc::clone(old),
                // The strip of the last day changes with every half-hour, and is not part of
                // messages.
                Some(old) if old.is_like(entry) => {}
                _ => changes.entries.push(Arc::clone(entry)),
            }
        }
        let gone = before.entries.iter().filter(|old| board.get(&old.site, &old.id).is_none());
        changes.removed.extend(gone.cloned());
        let is_new = |probe: &&Arc<Probe>| !before.probes.iter().any(|old| old.is_like(probe));
        changes.probes.extend(board.probes.iter().filter(is_new).cloned());
        *self.board.write().ignore_poison() = Arc::new(board);
        let is_any = !changes.entries.is_empty()
            || !changes.removed.is_empty()
            || !changes.probes.is_empty();
        if is_any {
            // Perhaps no one is listening.
            let _ = self.changes.send(Arc::new(changes));
        }
    }
}

/// Reads the status files that have changed; returns whether there were any.
fn read_statuses(statuses: &mut Statuses, folder: &Path, config: &Config) -> bool {
    let mut sites: Vec<SiteName> = vec![config.site.clone()];
    for entry in std::fs::read_dir(folder.join("status")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let site = name.to_str().and_then(|name| name.strip_prefix("site="));
        sites.extend(site.and_then(|site| site.parse().ok()));
    }
    let known: Vec<Arc<str>> = sites.iter().map(|site| Arc::from(site.as_str())).collect();
    let before = statuses.len();
    statuses.retain(|site, _| known.contains(site));
    let mut has_changed = statuses.len() != before;
    for (site, key) in sites.iter().zip(known) {
        let version = std::fs::metadata(status_path(folder, site))
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .ok();
        let is_same = statuses.get(&key).is_some_and(|(old, reading)| {
            *old == version && !matches!(reading, Reading::Failed(_))
        });
        if is_same {
            continue;
        }
        let reading = match Status::read(folder, site) {
            Ok(Some(status)) => Reading::Status(Arc::new(status)),
            Ok(None) => Reading::Absent,
            Err(error) => Reading::Failed(error.to_string()),
        };
        statuses.insert(key, (version, reading));
        has_changed = true;
    }
    has_changed
}
