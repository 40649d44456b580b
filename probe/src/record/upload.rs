//! Uploads day files to a lake in an object store. They are sealed into a folder of the state
//! first, so that nothing waits for the store. Files that could not be uploaded are uploaded as
//! soon as the store is available again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use jiff::civil::Date;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::{Secret, SecretSource, files, hex};
use mailqos_config::Login;
use mailqos_config::{Config, DataLocation, MAX_HORIZON};
use mailqos_lake::{
    DayReader, Habits, LakeError, Merged, Record, Remote, RemoteError, Version, aside_folder,
    day_path, read_sorted, rewrite_day, this_process,
};
use mailqos_model::{Event, Micros, Sample, SiteName, UtcMicros};
use tokio::sync::{mpsc, oneshot};

use super::{RecordError, Shared, open_remote, store_secret, write_whole};

/// Pause before a failed pass is retried.
const RETRY: Duration = Duration::from_secs(15);
/// Maximum time that a start waits for the store.
const CLAIMING: Duration = Duration::from_secs(10);
/// Interval at which the claim on the site is renewed.
const RENEWING: Micros = Micros::from_secs(5 * 60);
/// Age of an unrenewed claim at which its probe is considered gone.
const STALE: Micros = Micros::from_secs(20 * 60);
/// Number of days that are kept locally after their upload: a mail may settle late, up to the
/// longest horizon.
const KEPT_DAYS: i64 = 40;
/// Name of the file that lists uploaded files.
const SENT: &str = "uploads.json";
/// Name of the file that identifies this probe's own claim, which it may overwrite.
const OWNER: &str = "owner.id";

/// Time after its end at which a day is uploaded to a store that never replaces an object: all of
/// its tests are recorded by then.
const COMPLETE: Micros = Micros::from_secs(3 * 3600);
/// Time before a claim is read back in a store that ignores conditions, where the last writer wins
/// the site.
const SETTLING: Duration = Duration::from_secs(3);
/// Number of consecutive objects without a response that ends a pass: the store is unavailable
/// then, not the objects.
const UNANSWERED: usize = 3;
/// Name of the file with the known behaviour of the store.
const HABITS: &str = "store.json";

/// A file as it was uploaded.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Sent {
    size: u64,
    modified_ns: u128,
    version: Version,
}

/// Claim of a writer on a site.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Claim {
    /// Random id, stored in the state folder.
    owner: String,
    /// Name for display.
    name: String,
    renewed_at: UtcMicros,
}

/// Requests to the uploader.
#[derive(Debug)]
pub(super) enum Upload {
    /// Day files were written.
    Sealed,
    /// The configuration was reloaded.
    Reloaded(Arc<Config>),
    /// Upload everything, release the claim, and end.
    Close(oneshot::Sender<()>),
}

/// Returns the behaviour of the store that an uploader has detected, now or in an earlier process.
pub(super) fn known_habits(config: &Config) -> Option<Habits> {
    kept(&config.state.join(format!("site={}", config.site)).join(HABITS))
}

pub(super) struct Uploader {
    remote: Remote,
    /// The configuration, which sets access and secret of the store.
    config: Arc<Config>,
    opened_with: Option<Secret>,
    data: PathBuf,
    site: SiteName,
    folder: PathBuf,
    sent: BTreeMap<String, Sent>,
    /// Files that could not be uploaded in the last pass, with the reasons.
    stuck: BTreeMap<String, String>,
    owner: String,
    claim: Option<(Version, UtcMicros)>,
    /// Whether the store's handling of conditions was tested in this process.
    tried: bool,
    shared: Arc<Shared>,
}

impl Uploader {
    /// Claims the site. An unreachable store does not keep a probe from starting.
    ///
    /// # Errors
    /// Another probe writes for this site, or the state folder can't be written.
    pub(super) async fn open(
        (remote, opened_with): (Remote, Option<Secret>),
        data: PathBuf,
        config: Arc<Config>,
        shared: Arc<Shared>,
    ) -> Result<Self, RecordError> {
        let site = config.site.clone();
        let folder = config.state.join(format!("site={site}"));
        let sent = kept(&folder.join(SENT)).unwrap_or_default();
        if let Some(habits) = kept(&folder.join(HABITS)) {
            remote.expect(habits);
        }
        let mut uploader = Self {
            remote,
            config,
            opened_with,
            data,
            site,
            sent,
            stuck: BTreeMap::new(),
            owner: owner(&folder)?,
            folder,
            claim: None,
            tried: false,
            shared,
        };
        // A slow or unresponsive store must not delay the tests; the first pass then claims the
        // site.
        let Ok(renewed) = tokio::time::timeout(CLAIMING, uploader.renew()).await else {
            tracing::warn!("the object store does not answer; the site is claimed once it does");
            return Ok(uploader);
        };
        match renewed {
            Err(error @ RecordError::Claimed { .. }) => Err(error),
            Err(error) => {
                uploader.problem(&error.to_string());
                Ok(uploader)
            }
            Ok(()) => Ok(uploader),
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Upload>) {
        // Files of an earlier process are uploaded immediately.
        let mut wait = Duration::ZERO;
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = tokio::time::sleep(wait) => Some(Upload::Sealed),
            };
            let force = match &order {
                Some(Upload::Reloaded(config)) => {
                    self.config = Arc::clone(config);
                    true
                }
                _ => false,
            };
            self.refresh(force).await;
            let mut ended = self.pass().await;
            if matches!(&ended, Err(denied) if *denied) && self.refresh(true).await {
                // The key was changed, so the new one may be valid.
                ended = self.pass().await;
            }
            match order {
                None => return,
                Some(Upload::Close(done)) => {
                    if ended.is_ok() && self.claim.is_some() {
                        let _ = self.remote.delete(&self.claim_name()).await;
                    }
                    let _ = done.send(());
                    return;
                }
                Some(Upload::Sealed | Upload::Reloaded(_)) => {}
            }
            wait = if ended.is_ok() { RENEWING.to_std() } else { RETRY };
        }
    }

    /// Opens the store again if its secret or, after a reload, its settings have changed; returns
    /// whether it did. A command that provides the secret is run only if forced: it may be slow or
    /// interactive.
    async fn refresh(&mut self, force: bool) -> bool {
        let DataLocation::ObjectStore(address) = &self.config.data else {
            return false;
        };
        let account = self.config.account(self.config.object_store.account.as_ref());
        let is_program = account.is_some_and(|account| match &account.login {
            Login::Password(source) => matches!(source, SecretSource::Command(_)),
            Login::OAuth(_) => true,
        });
        if is_program && !force {
            return false;
        }
        let opened = match store_secret(&self.config).await {
            Ok(secret) if !force && secret == self.opened_with => return false,
            Ok(_) => open_remote(&self.config, address).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok((remote, secret)) => {
                let is_new = secret != self.opened_with;
                remote.expect(self.remote.habits());
                (self.remote, self.opened_with) = (remote, secret);
                if is_new {
                    tracing::info!("using the new key for the object store");
                }
                is_new
            }
            Err(error) => {
                tracing::warn!(%error, "still using the old key for the object store");
                false
            }
        }
    }

    fn problem(&self, text: &str) {
        let mut counts = self.shared.counts.lock().ignore_poison();
        if counts.upload_problem.as_deref() != Some(text) {
            tracing::error!(error = %text, "can't upload day files; they are kept and uploaded later");
        }
        counts.upload_problem = Some(text.to_owned());
    }

    /// Uploads changed files independently, so a rejected one does not delay the others. The error
    /// states whether the store rejected the credentials.
    async fn pass(&mut self) -> Result<(), bool> {
        let files = self.changed();
        let total = files.len();
        let mut unsent: BTreeMap<String, RecordError> = BTreeMap::new();
        let mut lasting = self.renew().await.err();
        let mut unanswered = 0;
        for file in files {
            if lasting.is_some() {
                break;
            }
            // Uploading many stored days takes long, and meanwhile the claim must not expire.
            let sent = match self.renew().await {
                Ok(()) => self.send(&file).await,
                Err(error) => {
                    lasting = Some(error);
                    break;
                }
            };
            match sent {
                Ok(()) => unanswered = 0,
                Err(error) => {
                    let is_of_store =
                        matches!(&error, RecordError::Remote(error) if error.is_of_store());
                    unanswered = if is_of_store { unanswered + 1 } else { 0 };
                    if unanswered >= UNANSWERED {
                        lasting = Some(error);
                        break;
                    }
                    unsent.insert(file, error);
                }
            }
        }
        let is_denied =
            |error: &RecordError| matches!(error, RecordError::Remote(error) if error.is_denial());
        let denied = lasting.iter().chain(unsent.values()).any(is_denied);
        self.stuck = unsent.iter().map(|(name, error)| (name.clone(), error.to_string())).collect();
        self.shared.counts.lock().ignore_poison().unsent = self.changed().len();
        self.keep_habits();
        match (lasting, self.stuck.iter().next()) {
            (Some(error), _) => self.problem(&error.to_string()),
            (None, Some((_, reason))) => {
                let others = match self.stuck.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                self.problem(&format!(
                    "can't upload {} of {total} day files: {reason}{others}; the others were uploaded",
                    self.stuck.len()
                ));
            }
            (None, None) => {
                if self.shared.counts.lock().ignore_poison().upload_problem.take().is_some() {
                    tracing::warn!(store = %self.remote.address(), "day files can be uploaded again");
                }
                self.tidy();
                return Ok(());
            }
        }
        Err(denied)
    }

    /// Stores the known behaviour of the store, so that a restart does not have to detect it again
    /// at the cost of rejected requests.
    fn keep_habits(&self) {
        let path = self.folder.join(HABITS);
        let habits = self.remote.habits();
        if kept::<Habits>(&path).unwrap_or_default() != habits {
            let written = serde_json::to_vec(&habits).map(|bytes| write_whole(&path, &bytes));
            if let Ok(Err(error)) = written {
                tracing::warn!(file = %path.display(), %error, "can't write the upload state");
            }
        }
    }

    fn claim_name(&self) -> String {
        format!("writers/site={}.json", self.site)
    }

    /// Claims the site, or renews the claim. In a store without conditional writes, the claim is
    /// checked more often, because nothing else keeps another probe from writing.
    async fn renew(&mut self) -> Result<(), RecordError> {
        let now = UtcMicros::now();
        let habits = self.remote.habits();
        let is_fresh =
            self.claim.as_ref().is_some_and(|(_, at)| (Micros(0)..RENEWING).contains(&(now - *at)));
        if is_fresh && habits.guards() || habits.write_once && self.claim.is_some() {
            return Ok(());
        }
        let name = self.claim_name();
        let known = self.claimed_by_us(&name).await?;
        if is_fresh && known.is_some() {
            return Ok(());
        }
        let claim = Claim {
            owner: self.owner.clone(),
            name: format!("{}, last seen {now}", this_process()),
            renewed_at: now,
        };
        let bytes =
            serde_json::to_vec(&claim).map_err(|error| RecordError::Encode(error.to_string()))?;
        let mut version = match self.remote.put(&name, bytes.clone(), known.as_ref()).await {
            // An earlier claim stays forever in such a store and shows who was first.
            Err(RemoteError::WriteOnce(_)) => known.unwrap_or_default(),
            put => put?,
        };
        if !self.tried {
            self.remote.try_conditions(&name, &bytes).await?;
            // It must be known whether objects can be replaced before the first day is uploaded.
            let again = serde_json::to_vec(&Claim { renewed_at: now + Micros(1), ..claim });
            let again = again.map_err(|error| RecordError::Encode(error.to_string()))?;
            let current = self.claimed_by_us(&name).await?;
            match self.remote.put(&name, again, current.as_ref()).await {
                Ok(_) | Err(RemoteError::WriteOnce(_)) => {}
                Err(error) => return Err(error.into()),
            }
            self.tried = true;
            let habits = self.remote.habits();
            if !habits.guards() && !habits.write_once {
                tracing::warn!(store = %self.remote.address(), habits = %habits.told().join("; "), "object store tested");
                tokio::time::sleep(SETTLING).await;
            }
            // Testing may have changed the object's version.
            if let Some(seen) = self.claimed_by_us(&name).await? {
                version = seen;
            }
        }
        self.claim = Some((version, now));
        Ok(())
    }

    /// Returns the version of the claim, if there is one that is ours or that has expired.
    async fn claimed_by_us(&mut self, name: &str) -> Result<Option<Version>, RecordError> {
        let Some((version, bytes)) = self.remote.get(name).await? else {
            return Ok(None);
        };
        if let Ok(claim) = serde_json::from_slice::<Claim>(&bytes)
            && claim.owner != self.owner
            && UtcMicros::now() - claim.renewed_at < STALE
        {
            self.claim = None;
            return Err(RecordError::Claimed {
                address: self.remote.address().to_owned(),
                site: self.site.clone(),
                holder: claim.name,
            });
        }
        Ok(Some(version))
    }

    /// Returns the names in the lake of day files that differ from the uploaded ones, oldest first.
    fn changed(&self) -> Vec<String> {
        let mut changed = Vec::new();
        for kind in [Sample::FOLDER, Event::FOLDER] {
            let folder = format!("{kind}/site={}", self.site);
            for entry in fs::read_dir(self.data.join(&folder)).into_iter().flatten().flatten() {
                let Ok(day) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{folder}/{day}/{kind}.parquet");
                if let Some((size, modified_ns)) = stamp(&self.data.join(&name)) {
                    let same = |sent: &Sent| (sent.size, sent.modified_ns) == (size, modified_ns);
                    let may_go = !self.remote.habits().write_once
                        || is_complete(&self.data.join(&name), kind, &day);
                    if may_go && !self.sent.get(&name).is_some_and(same) {
                        changed.push(name);
                    }
                }
            }
        }
        // Files that failed last time come last, so that they don't block the others.
        changed.sort_unstable_by_key(|name| (self.stuck.contains_key(name), name.clone()));
        changed
    }

    async fn send(&mut self, name: &str) -> Result<(), RecordError> {
        let path = self.data.join(name);
        let mut known = self.sent.get(name).map(|sent| sent.version.clone());
        // Once with the known version, and once more with the rows that another writer has stored.
        for attempt in 0..3 {
            let Some((size, modified_ns)) = stamp(&path) else {
                return Ok(());
            };
            let bytes = fs::read(&path).map_err(|source| RecordError::io(&path, source))?;
            match self.remote.put(name, bytes, known.as_ref()).await {
                Ok(version) => {
                    let sent = Sent { size, modified_ns, version };
                    self.sent.insert(name.to_owned(), sent);
                    let bytes = serde_json::to_vec(&self.sent)
                        .map_err(|error| RecordError::Encode(error.to_string()))?;
                    let index = self.folder.join(SENT);
                    return write_whole(&index, &bytes)
                        .map_err(|source| RecordError::io(&index, source));
                }
                Err(RemoteError::Changed(_)) if attempt < 2 => {
                    // The state folder is new, or there was a second writer. In both cases its rows
                    // must be kept.
                    known = match self.remote.get(name).await? {
                        Some((version, theirs)) => {
                            self.adopt(name, theirs).await?;
                            Some(version)
                        }
                        None => None,
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Adds the rows of the store's day file to the local one.
    async fn adopt(&self, name: &str, theirs: Vec<u8>) -> Result<(), RecordError> {
        let (data, site, shared) = (self.data.clone(), self.site.clone(), Arc::clone(&self.shared));
        let name = name.to_owned();
        let merged = tokio::task::spawn_blocking(move || {
            let date: Date = name
                .split('/')
                .find_map(|part| part.strip_prefix("date=")?.parse().ok())
                .ok_or_else(|| {
                    RecordError::Encode(format!("{name} is not the name of a day file"))
                })?;
            let samples = name.starts_with(Sample::FOLDER);
            let kind = if samples { Sample::FOLDER } else { Event::FOLDER };
            let path = aside_folder(&data).join(format!("{kind}.{site}.{date}.theirs.parquet"));
            write_whole(&path, &theirs).map_err(|source| RecordError::io(&path, source))?;
            let _sealing = shared.sealing.lock().ignore_poison();
            let result = if samples {
                merge::<Sample>(&data, &site, date, &path)
            } else {
                merge::<Event>(&data, &site, date, &path)
            };
            match result {
                Ok(()) => {
                    tracing::warn!(
                        object = name,
                        "rows of another writer or of a lost state folder merged"
                    );
                    let _ = fs::remove_file(&path);
                    Ok(())
                }
                Err(error) if error.is_damage_of(&path) => {
                    tracing::error!(object = name, aside = %path.display(), %error, "damaged object in the store replaced; a copy was kept");
                    Ok(())
                }
                Err(error) => Err(error.into()),
            }
        });
        merged.await.map_err(|_| RecordError::Closed)?
    }

    /// Removes days from this machine that were uploaded long ago.
    fn tidy(&mut self) {
        let oldest = UtcMicros::now() - Micros::from_secs(KEPT_DAYS * 86_400);
        let oldest = format!("date={}", oldest.utc_date());
        let old: Vec<String> = self
            .sent
            .keys()
            .filter(|name| name.split('/').any(|part| part.starts_with("date=") && *part < *oldest))
            .cloned()
            .collect();
        for name in old {
            let path = self.data.join(&name);
            match fs::remove_file(&path) {
                // It was removed by an earlier process that did not record it, or because of its
                // age.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => continue,
                _ => {}
            }
            if let Some(day) = path.parent() {
                let _ = fs::remove_dir(day);
            }
            self.sent.remove(&name);
        }
    }
}

/// Reads a small file of the state; returns `None` if it can't be read.
fn kept<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read_state(path).ok()?).ok()
}

/// Returns the random name under which this state folder claims its site, created at the first
/// start.
fn owner(folder: &Path) -> Result<String, RecordError> {
    let path = folder.join(OWNER);
    match files::read_text(&path, files::MAX_STATE) {
        Ok(owner) if !owner.trim().is_empty() => Ok(owner.trim().to_owned()),
        _ => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|error| RecordError::Random(error.to_string()))?;
            let owner = hex(&bytes);
            write_whole(&path, owner.as_bytes())
                .map_err(|source| RecordError::io(&path, source))?;
            Ok(owner)
        }
    }
}

/// Returns whether a day can no longer change: it is over, all of its tests are recorded, and none
/// of its samples is provisional. This is the case at the latest when the longest horizon has
/// ended.
fn is_complete(path: &Path, kind: &str, folder: &str) -> bool {
    let Some(date) = folder.strip_prefix("date=").and_then(|date| date.parse::<Date>().ok()) else {
        return false;
    };
    let is_over =
        |after: Micros| (UtcMicros::now() - after - Micros::from_secs(86_400)).utc_date() >= date;
    if !is_over(COMPLETE) {
        return false;
    }
    kind != Sample::FOLDER
        || is_over(MAX_HORIZON + COMPLETE)
        || read_sorted::<Sample>(path)
            .is_ok_and(|samples| !samples.iter().any(Sample::is_provisional))
}

/// Returns the size and time of a file.
fn stamp(path: &Path) -> Option<(u64, u128)> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), modified.as_nanos()))
}

/// Adds the rows of another file to a day's file, regardless of their writers.
fn merge<R: Record>(
    data: &Path,
    site: &SiteName,
    date: Date,
    theirs: &Path,
) -> Result<(), LakeError> {
    let path = day_path::<R>(data, site, date);
    let sealed = DayReader::<R>::open(&path)?.as_ref().and_then(DayReader::sealed);
    let ours: Vec<R> = read_sorted(&path)?;
    let theirs: Vec<R> = read_sorted(theirs)?;
    let merged = Merged::new(theirs.into_iter().map(Ok), ours.into_iter());
    rewrite_day(data, site, date, merged.collect::<Result<_, _>>()?, sealed.as_ref())?;
    Ok(())
}
