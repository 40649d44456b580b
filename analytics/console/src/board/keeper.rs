//! Keeps the board up to date: reads the status of the probes every second and the samples of the
//! last day every minute, and announces what has changed.

use std::{
    collections::BTreeMap,
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

use super::{Board, Entry, Probe, Reading, day};
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
#[derive(Debug)]
pub(crate) struct Changes {
    /// Changed and new monitors.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Removed monitors, as they were.
    pub(crate) removed: Vec<Arc<Entry>>,
    /// Changed and new probes.
    pub(crate) probes: Vec<Arc<Probe>>,
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
}

/// The keeper of the board.
#[derive(Debug)]
pub(crate) struct Keeper {
    config: SharedConfig,
    board: RwLock<Arc<Board>>,
    changes: broadcast::Sender<Arc<Changes>>,
    sources: Mutex<Sources>,
}

impl Keeper {
    /// Returns a keeper with an empty board.
    pub(crate) fn new(config: SharedConfig) -> Self {
        let (changes, _) = broadcast::channel(MAX_BEHIND);
        let board = RwLock::new(Arc::new(Board::default()));
        Self { config, board, changes, sources: Mutex::new(Sources::default()) }
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
        read_statuses(&mut sources.statuses, &folder, &config);
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
        let board = Board::new(&config, &readings, &sources.days, now);
        drop(sources);
        self.replace(board);
    }

    /// Replaces the board, keeping entries that have not changed.
    fn replace(&self, mut board: Board) {
        let before = self.board();
        let mut changes = Changes { entries: Vec::new(), removed: Vec::new(), probes: Vec::new() };
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

/// Reads the status files that have changed.
fn read_statuses(statuses: &mut Statuses, folder: &Path, config: &Config) {
    let mut sites: Vec<SiteName> = vec![config.site.clone()];
    for entry in std::fs::read_dir(folder.join("status")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let site = name.to_str().and_then(|name| name.strip_prefix("site="));
        sites.extend(site.and_then(|site| site.parse().ok()));
    }
    let known: Vec<Arc<str>> = sites.iter().map(|site| Arc::from(site.as_str())).collect();
    statuses.retain(|site, _| known.contains(site));
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
    }
}
