//! Records samples and events in a journal that is sealed into the day files of the lake.
//!
//! A sample is acknowledged when it is on disk in the journal. Every seal interval, at the end and
//! on demand, the journal's samples are merged into the day files (rewritten, synced, renamed).
//! Only then are the journal's segments deleted. After a crash in between, the next start merges
//! the same samples again, which changes nothing: (`monitor`, `started_at`) is unique, and settled
//! samples replace provisional ones.
//!
//! Two threads share the work: the writer appends to the journal, and the sealer merges its closed
//! segments, so tests never wait for a seal.

mod days;
#[cfg(feature = "test-hooks")]
pub mod fuzzing;
mod journal;
mod sealer;
mod upload;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::{Secret, files};
use mailqos_config::{Config, DataLocation};
use mailqos_lake::{Habits, LakeError, LockError, Remote, RemoteError, SiteLock, retention};
use mailqos_model::{Event, Micros, MonitorId, Sample, SiteName, UtcMicros};
use tokio::sync::{mpsc as channel, oneshot};

use crate::boot::Boot;
pub use days::Days;
use journal::Entry;
use sealer::{Seal, Sealer};
use upload::{Upload, Uploader};
use writer::{Command, Effect, Writer};

/// Number of remembered events, so that no two events of a monitor get the same time.
const REMEMBERED_EVENTS: usize = 10_000;

/// Reasons why a sample or event can't be recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// Another probe writes for this site.
    #[error("{lock}; stop it, or give this probe a different site name")]
    Locked {
        /// The holder of the lock.
        holder: String,
        /// The error of the lock.
        lock: LockError,
    },
    /// The file system does not support locks.
    #[error("{0}")]
    NoLock(LockError),
    /// A file system operation failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A day file can't be read or written.
    #[error("{0}")]
    Lake(Arc<LakeError>),
    /// An entry can't be encoded as JSON.
    #[error("can't record the sample: {0}")]
    Encode(String),
    /// The operating system provides no random numbers.
    #[error("the system provides no random numbers: {0}")]
    Random(String),
    /// The memory for samples that can't be written is full.
    #[error("{0} samples are waiting for the disk and no more fit in memory; this sample is lost")]
    Full(usize),
    /// The writer has stopped.
    #[error("the recorder is closed")]
    Closed,
    /// Another probe writes for this site to the object store.
    #[error(
        "{address}: another probe writes for the site {site}: {holder}; stop it, or give this probe a \
         different site name (a claim that is not renewed expires after 20 minutes)"
    )]
    Claimed {
        /// Address of the lake.
        address: String,
        /// The site.
        site: SiteName,
        /// The other probe.
        holder: String,
    },
    /// The object store refuses, or can't be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The secret of the object store is not available.
    #[error("the account of the object store: {0}")]
    Secret(String),
}

impl RecordError {
    fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    /// Returns whether the problem may disappear or be fixed while the probe runs, unlike a missing
    /// permission or an invalid path.
    fn is_trouble_of_disk(&self) -> bool {
        use std::io::ErrorKind::{AlreadyExists, NotADirectory, NotFound, PermissionDenied};
        let lasting = [PermissionDenied, NotFound, NotADirectory, AlreadyExists];
        matches!(self, Self::Io { source, .. } if !lasting.contains(&source.kind()))
    }
}

impl From<LockError> for RecordError {
    fn from(lock: LockError) -> Self {
        match lock {
            LockError::Io { path, source } => Self::Io { path, source },
            LockError::Unsupported { .. } => Self::NoLock(lock),
            LockError::Held { ref holder, .. } => Self::Locked { holder: holder.clone(), lock },
        }
    }
}

impl From<LakeError> for RecordError {
    fn from(error: LakeError) -> Self {
        Self::Lake(Arc::new(error))
    }
}

/// A mail that is about to be sent, with everything that a later process of the probe needs to
/// continue waiting for it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InFlight {
    /// Random number in the mail's token.
    pub nonce: [u8; 8],
    /// Time at which the content was submitted.
    pub sent_at: UtcMicros,
    /// Time until which the probe waits for the mail.
    pub horizon_at: UtcMicros,
    /// The monotonic clock at that time.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// The sample so far; `smtp_send` is set once the server has accepted the mail.
    pub sample: Sample,
}

/// Result of a seal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealReport {
    /// Number of rewritten day files.
    pub files: usize,
    /// Number of rows in them.
    pub rows: u64,
    /// Number of samples and events merged into them.
    pub merged: usize,
}

/// State of the recorder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Number of entries in memory only, because the disk does not accept them.
    pub held: usize,
    /// Number of entries lost because the memory limit was reached.
    pub dropped: u64,
    /// Number of entries in the journal that are not yet in day files.
    pub unsealed: u64,
    /// Number of day files that are not yet in the object store.
    pub unsent: usize,
    /// The current problem.
    pub problem: Option<String>,
    /// Time at which day files were last written.
    pub sealed_at: Option<UtcMicros>,
}

/// Counters of both threads.
#[derive(Debug, Default)]
struct Counts {
    held: usize,
    dropped: u64,
    /// Number of entries in the journal since the start, including those found in it.
    appended: u64,
    /// Number of entries that are in day files.
    sealed: u64,
    journal_problem: Option<String>,
    seal_problem: Option<String>,
    unsent: usize,
    upload_problem: Option<String>,
    sealed_at: Option<UtcMicros>,
}

/// State shared by the threads and the handles.
#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    /// Held while day files are replaced.
    sealing: Mutex<()>,
    in_flight: Mutex<BTreeMap<(MonitorId, UtcMicros), InFlight>>,
    events: Mutex<BTreeSet<(UtcMicros, Option<MonitorId>)>>,
}

impl Shared {
    /// Applies the effect of an entry on the mails in transit.
    fn take_in(&self, effect: Effect) {
        let mut in_flight = self.in_flight.lock().ignore_poison();
        match effect {
            Effect::None => {}
            Effect::Sent(mail) => {
                in_flight.insert((mail.sample.monitor.clone(), mail.sample.started_at), *mail);
            }
            Effect::Settled(monitor, started_at) => {
                in_flight.remove(&(monitor, started_at));
            }
        }
    }
}

/// Writes a small file of the state folder completely and durably under a temporary name, and
/// renames it. Only its owner can read it.
///
/// # Errors
/// The file system refuses; the earlier file is still in place.
pub(crate) fn write_whole(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(std::path::Path::new(".")))?;
    files::replace(path, &path.with_extension("new"), files::Access::Owner, |file| {
        file.write_all(bytes)
    })
}

/// Handle to the only writer of a site. Clones share the same writer.
#[derive(Debug, Clone)]
pub struct Recorder {
    writer: mpsc::Sender<Command>,
    sealer: mpsc::Sender<Seal>,
    shared: Arc<Shared>,
    uploads: Option<channel::UnboundedSender<Upload>>,
}

/// Returns the folder in which days are written, and the object store to which they are uploaded
/// from there.
async fn place(
    config: &Config,
) -> Result<(PathBuf, Option<(Remote, Option<Secret>)>), RecordError> {
    let remote = match &config.data {
        DataLocation::Folder(_) => None,
        DataLocation::ObjectStore(address) => Some(open_remote(config, address).await?),
    };
    Ok((mailqos_lake::local_folder(config), remote))
}

/// Maximum time that a stopping probe waits for uploads to the object store.
const UPLOADING: Duration = Duration::from_secs(30);

impl Recorder {
    /// Takes the site's lock and reads the journal of an earlier process, which is sealed
    /// immediately.
    ///
    /// # Errors
    /// [`RecordError::Locked`] names the other probe; the file system may refuse.
    pub async fn open(config: &Config) -> Result<Self, RecordError> {
        let (data, remote) = place(config).await?;
        let (uploads, orders) = channel::unbounded_channel();
        let uploads = remote.is_some().then_some(uploads);
        let recorder = Self::begin(config, data.clone(), uploads.clone()).await?;
        if let Some(remote) = remote {
            let shared = Arc::clone(&recorder.shared);
            let uploader = Uploader::open(remote, data, Arc::new(config.clone()), shared).await?;
            tokio::spawn(uploader.run(orders));
        }
        Ok(recorder)
    }

    /// Removes days that are older than the configured retention, if any.
    ///
    /// # Errors
    /// The lake is in an object store that can't be opened.
    pub async fn remove_old_days(config: &Config) -> Result<usize, RecordError> {
        let Some(retention) = config.retention else {
            return Ok(0);
        };
        let (data, remote) = place(config).await?;
        Ok(retention::remove_old(
            data,
            config.site.clone(),
            retention,
            remote.map(|(remote, _)| remote),
        )
        .await)
    }

    async fn begin(
        config: &Config,
        data: PathBuf,
        uploads: Option<channel::UnboundedSender<Upload>>,
    ) -> Result<Self, RecordError> {
        let (site, state, interval) =
            (config.site.clone(), config.state.clone(), config.seal_interval.to_std());
        tokio::task::spawn_blocking(move || {
            let lock = patiently(|| Ok(SiteLock::take(&data, &site)?))?;
            if let Err(error) = lock.sweep() {
                tracing::warn!(%error, "can't remove incomplete files of an earlier run");
            }
            let shared = Arc::new(Shared::default());
            let folder = state.join(format!("site={site}")).join("journal");
            let journal = patiently(|| read_journal(&folder))?;
            let (name, position) = recover(journal, &shared)?;
            let (writer, writes) = mpsc::channel();
            let (sealer, seals) = mpsc::channel();
            let appending = Writer::open(folder.clone(), name, position, Arc::clone(&shared))?;
            let sealing = Sealer {
                data,
                site,
                journal: folder,
                interval,
                shared: Arc::clone(&shared),
                writer: writer.clone(),
                uploads: uploads.clone(),
                lock,
            };
            // Separate threads, because syncing and sealing block and must not delay the network
            // sessions.
            let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
            thread("recorder")
                .spawn(move || appending.run(&writes))
                .and_then(|_| thread("sealer").spawn(move || sealing.run(&seals)))
                .map_err(|source| RecordError::io(&state, source))?;
            Ok(Self { writer, sealer, shared, uploads })
        })
        .await
        .map_err(|_| RecordError::Closed)?
    }

    /// Records a sample. When this returns, it is on disk. A sample with the same (`monitor`,
    /// `started_at`) is replaced, except a settled one by a provisional one.
    ///
    /// # Errors
    /// The disk does not accept the sample. It is then held in memory and written as soon as
    /// possible. Only [`RecordError::Full`] means that it is lost.
    pub async fn record(&self, sample: Sample) -> Result<(), RecordError> {
        let (monitor, started_at, settled) =
            (sample.monitor.clone(), sample.started_at, !sample.is_provisional());
        self.write(Entry::Sample(Box::new(sample))).await?;
        tracing::debug!(%monitor, started_at = started_at.0, settled, "on disk");
        Ok(())
    }

    /// Records an event with the same guarantees. Its time is shifted by microseconds if it is not
    /// unique.
    ///
    /// # Errors
    /// As for [`Recorder::record`].
    pub async fn record_event(&self, mut event: Event) -> Result<(), RecordError> {
        {
            let mut events = self.shared.events.lock().ignore_poison();
            while !events.insert((event.at, event.monitor.clone())) {
                event.at = event.at + Micros(1);
            }
            if events.len() > REMEMBERED_EVENTS {
                events.pop_first();
            }
        }
        self.write(Entry::Event(event)).await
    }

    /// Records that a mail is about to be sent, and later replaces the entry by one that it was
    /// sent. The entry is removed when the settled sample of the same test is recorded.
    ///
    /// # Errors
    /// As for [`Recorder::record`].
    pub async fn note_in_flight(&self, mail: InFlight) -> Result<(), RecordError> {
        self.write(Entry::InFlight(Box::new(mail))).await
    }

    async fn write(&self, entry: Entry) -> Result<(), RecordError> {
        let content = entry.encode()?;
        let effect = Effect::of(entry);
        ask(&self.writer, |done| Command::Write { content, effect, done }).await
    }

    /// Returns the mails that were sent and whose tests are not settled.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.shared.in_flight.lock().ignore_poison().values().cloned().collect()
    }

    /// Returns the state of the recorder.
    pub fn health(&self) -> Health {
        let counts = self.shared.counts.lock().ignore_poison();
        Health {
            held: counts.held,
            dropped: counts.dropped,
            unsealed: counts.appended.saturating_sub(counts.sealed),
            unsent: counts.unsent,
            problem: [&counts.journal_problem, &counts.seal_problem, &counts.upload_problem]
                .into_iter()
                .flatten()
                .next()
                .cloned(),
            sealed_at: counts.sealed_at,
        }
    }

    /// Merges everything recorded into the day files.
    ///
    /// # Errors
    /// A day file can't be written; the journal keeps the samples.
    pub async fn seal(&self) -> Result<SealReport, RecordError> {
        ask(&self.sealer, Seal::Now).await
    }

    /// Applies the settings and the key of the object store from a reloaded configuration.
    pub fn reload(&self, config: Arc<Config>) {
        if let Some(uploads) = &self.uploads {
            let _ = uploads.send(Upload::Reloaded(config));
        }
    }

    /// Tests everything that a lake in an object store requires, and returns the detected behaviour
    /// of the store, or `None` if the lake is in a folder.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn try_store(config: &Config) -> Result<Option<Habits>, RecordError> {
        match &config.data {
            DataLocation::Folder(_) => Ok(None),
            DataLocation::ObjectStore(address) => {
                let (remote, _) = open_remote(config, address).await?;
                Ok(Some(remote.try_all().await?))
            }
        }
    }

    /// Seals the journal and releases the lock. Other handles then find the recorder closed.
    ///
    /// # Errors
    /// As for [`Recorder::seal`]; the lock is released anyway.
    pub async fn close(self) -> Result<SealReport, RecordError> {
        let sealed = ask(&self.sealer, Seal::Close).await;
        if let Some(uploads) = &self.uploads {
            let (done, ended) = oneshot::channel();
            let sent = uploads.send(Upload::Close(done)).is_ok()
                && tokio::time::timeout(UPLOADING, ended).await.is_ok();
            let unsent = self.health().unsent;
            if !sent || unsent > 0 {
                tracing::warn!(
                    unsent,
                    "not everything is uploaded to the object store yet; the next start uploads the rest"
                );
            }
        }
        sealed
    }
}

/// Opens the object store of the lake for objects other than day files, with the behaviour that the
/// uploader has detected.
///
/// # Errors
/// The secret or the options of the store are invalid.
pub(crate) async fn open_store(config: &Config, address: &str) -> Result<Remote, RecordError> {
    let (remote, _) = open_remote(config, address).await?;
    if let Some(habits) = upload::known_habits(config) {
        remote.expect(habits);
    }
    Ok(remote)
}

/// Returns the secret for the object store, if the configuration sets an account.
async fn store_secret(config: &Config) -> Result<Option<Secret>, RecordError> {
    let Some(account) = config.account(config.object_store.account.as_ref()) else {
        return Ok(None);
    };
    let secret = mailqos_mail::credentials(account).await.map(|credentials| credentials.secret);
    secret.map(Some).map_err(|error| RecordError::Secret(error.to_string()))
}

/// Returns the configured object store of the lake, and the secret with which it was opened.
async fn open_remote(
    config: &Config,
    address: &str,
) -> Result<(Remote, Option<Secret>), RecordError> {
    let secret = store_secret(config).await?;
    let account = config.account(config.object_store.account.as_ref());
    let credentials =
        account.zip(secret.as_ref()).map(|(account, secret)| (account.user.as_str(), secret));
    let via = config.proxy.via().await;
    let via =
        via.map_err(|error| RecordError::Secret(format!("the address of the proxy: {error}")))?;
    Ok((Remote::open(address, &config.object_store, credentials, &via)?, secret))
}

async fn ask<C, T>(
    thread: &mpsc::Sender<C>,
    command: impl FnOnce(oneshot::Sender<Result<T, RecordError>>) -> C,
) -> Result<T, RecordError> {
    let (done, answer) = oneshot::channel();
    thread.send(command(done)).map_err(|_| RecordError::Closed)?;
    answer.await.map_err(|_| RecordError::Closed)?
}

/// Retries for a while if the disk has a problem, because a single failed read at the start must
/// not end the probe. Problems that an operator must fix (a permission, another probe) are returned
/// immediately.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, RecordError>) -> Result<T, RecordError> {
    let mut waits = [100, 300, 1000, 3000, 10_000].map(Duration::from_millis).into_iter();
    loop {
        let error = match attempt() {
            Err(error) if error.is_trouble_of_disk() => error,
            result => return result,
        };
        let Some(wait) = waits.next() else {
            return Err(error);
        };
        tracing::error!(%error, "the disk does not accept writes; waiting to start");
        std::thread::sleep(wait);
    }
}

/// Returns the segments of an earlier process, oldest first.
fn read_journal(folder: &std::path::Path) -> Result<Vec<journal::Contents>, RecordError> {
    let segments = journal::segments(folder)?;
    let contents = segments.iter().filter_map(|path| journal::read(path).transpose());
    contents.collect()
}

/// Restores the state of an earlier process: the mails in transit, the journal's name, and the
/// position at which to continue.
fn recover(journal: Vec<journal::Contents>, shared: &Shared) -> Result<(String, u64), RecordError> {
    let mut last: Option<(String, u64)> = None;
    for contents in journal {
        shared.counts.lock().ignore_poison().appended += contents.entries.len() as u64;
        last = Some(match last {
            Some((name, end)) if name == contents.name => (name, end.max(contents.end)),
            _ => (contents.name, contents.end),
        });
        for (_, entry) in contents.entries {
            shared.take_in(Effect::of(entry));
        }
    }
    match last {
        Some(last) => Ok(last),
        None => Ok((journal::new_name()?, 0)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mailqos_lake::{day_path, read_day};
    use mailqos_model::{EventKind, Outcome};

    use super::*;

    fn config(folder: &Path) -> Config {
        let path = folder.join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\nseal_interval = \"1h\"\n").expect("write");
        mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn sample(at: i64, outcome: Outcome) -> Sample {
        Sample::new("m".parse().expect("a name"), UtcMicros(at), outcome)
    }

    fn moments(samples: &[Sample]) -> Vec<i64> {
        samples.iter().map(|sample| sample.started_at.0).collect()
    }

    fn lake(folder: &Path) -> Vec<Sample> {
        let config = config(folder);
        read_day(&day_path::<Sample>(&folder.join("data"), &config.site, UtcMicros(0).utc_date()))
            .expect("read")
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("folder");
        for entry in std::fs::read_dir(from).expect("list") {
            let entry = entry.expect("entry");
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).expect("copy");
            }
        }
    }

    #[tokio::test]
    async fn samples_are_sealed_once_and_settled_ones_take_precedence() {
        let folder = tempfile::tempdir().expect("folder");
        let recorder = Recorder::open(&config(folder.path())).await.expect("open");
        let mut provisional = sample(1, Outcome::Lost);
        provisional.settled = Some(false);
        let mail = InFlight {
            boot: None,
            nonce: [1; 8],
            sent_at: UtcMicros(2),
            horizon_at: UtcMicros(9),
            sample: provisional.clone(),
        };
        recorder.note_in_flight(mail.clone()).await.expect("note");
        recorder.record(provisional.clone()).await.expect("record");
        assert_eq!(recorder.seal().await.expect("seal").rows, 1);
        assert_eq!(recorder.in_flight(), [mail]);
        recorder.record(sample(1, Outcome::Late)).await.expect("record");
        recorder.record(provisional).await.expect("record");
        recorder.record(sample(2, Outcome::Ok)).await.expect("record");
        assert_eq!(recorder.in_flight(), []);
        recorder.close().await.expect("close");
        assert_eq!(lake(folder.path()), [sample(1, Outcome::Late), sample(2, Outcome::Ok)]);
    }

    #[tokio::test]
    async fn events_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let recorder = Recorder::open(&config).await.expect("open");
        for _ in 0..3 {
            let event = Event::new(None, UtcMicros(5), EventKind::ProbeStarted);
            recorder.record_event(event).await.expect("record");
        }
        recorder.close().await.expect("close");
        let path =
            day_path::<Event>(&folder.path().join("data"), &config.site, UtcMicros(0).utc_date());
        let found = read_day::<Event>(&path).expect("read");
        assert_eq!(found.iter().map(|event| event.at.0).collect::<Vec<_>>(), [5, 6, 7]);
    }

    #[tokio::test]
    async fn a_second_probe_is_rejected_with_the_holders_name() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let first = Recorder::open(&config).await.expect("open");
        let refused = Recorder::open(&config).await.expect_err("locked").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        first.close().await.expect("close");
        Recorder::open(&config).await.expect("open again");
    }

    #[tokio::test]
    async fn after_a_crash_every_acknowledged_sample_exists_once() {
        let folder = tempfile::tempdir().expect("folder");
        let recorder = Recorder::open(&config(folder.path())).await.expect("open");
        for at in 0..5 {
            recorder.record(sample(at, Outcome::Ok)).await.expect("record");
        }
        recorder.seal().await.expect("seal");
        for at in 5..10 {
            recorder.record(sample(at, Outcome::Ok)).await.expect("record");
        }
        // The state after a power failure, and once more with a journal that a crash kept after a
        // seal.
        let crashed = tempfile::tempdir().expect("folder");
        copy(&folder.path().join("data"), &crashed.path().join("data"));
        for _ in 0..2 {
            let journal = crashed.path().join("data/state/site=here/journal");
            let kept = tempfile::tempdir().expect("folder");
            copy(&journal, kept.path());
            let again = Recorder::open(&config(crashed.path())).await.expect("open");
            again.close().await.expect("close");
            let expected: Vec<Sample> = (0..10).map(|at| sample(at, Outcome::Ok)).collect();
            assert_eq!(lake(crashed.path()), expected);
            copy(kept.path(), &journal);
        }
    }

    #[tokio::test]
    async fn deleting_the_folder_loses_no_sample() {
        let folder = tempfile::tempdir().expect("folder");
        let recorder = Recorder::open(&config(folder.path())).await.expect("open");
        // After a seal, the sealer pauses for seconds, so the following affects only the journal.
        recorder.seal().await.expect("seal");
        recorder.record(sample(1, Outcome::Ok)).await.expect("record");
        std::fs::remove_dir_all(folder.path().join("data")).expect("remove");
        recorder.record(sample(2, Outcome::Ok)).await.expect("the folder is made again");
        recorder.close().await.expect("close");
        assert_eq!(lake(folder.path()), [sample(1, Outcome::Ok), sample(2, Outcome::Ok)]);
    }

    #[tokio::test]
    async fn samples_refused_by_the_disk_are_written_later() {
        let folder = tempfile::tempdir().expect("folder");
        let recorder = Recorder::open(&config(folder.path())).await.expect("open");
        // After a seal, the sealer pauses for seconds, so the following affects only the journal.
        recorder.seal().await.expect("seal");
        recorder.record(sample(1, Outcome::Ok)).await.expect("record");
        // A file replaces the state folder, so that nothing can be written there, not even by root.
        let state = folder.path().join("data/state");
        std::fs::remove_dir_all(&state).expect("remove");
        std::fs::write(&state, "in the way").expect("write");
        for at in 2..5 {
            let refused =
                recorder.record(sample(at, Outcome::Ok)).await.expect_err("nowhere to write");
            assert!(matches!(refused, RecordError::Io { .. }), "{refused}");
        }
        recorder.seal().await.expect_err("the journal can't be read");
        let health = recorder.health();
        assert_eq!((health.held, health.dropped), (3, 0));
        assert!(health.problem.is_some());
        std::fs::remove_file(&state).expect("remove");
        recorder.record(sample(5, Outcome::Ok)).await.expect("record");
        assert_eq!(recorder.health().held, 0);
        recorder.close().await.expect("close");
        assert_eq!(moments(&lake(folder.path())), [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn a_damaged_day_file_is_kept_and_the_day_continues() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let data = folder.path().join("data");
        let path = day_path::<Sample>(&data, &config.site, UtcMicros(0).utc_date());
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        std::fs::write(&path, "PAR1 torn").expect("write");
        let recorder = Recorder::open(&config).await.expect("open");
        recorder.record(sample(1, Outcome::Ok)).await.expect("record");
        recorder.close().await.expect("close");
        assert_eq!(lake(folder.path()), [sample(1, Outcome::Ok)]);
        let aside = std::fs::read_dir(mailqos_lake::aside_folder(&data)).expect("list");
        let kept: Vec<_> =
            aside.map(|entry| std::fs::read(entry.expect("entry").path()).expect("read")).collect();
        assert_eq!(kept, [b"PAR1 torn".to_vec()]);
    }
}
