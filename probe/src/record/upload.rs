//! Sends day files to a lake in an object store. They are sealed into a folder of the state first, so that nothing waits for the
//! store: what could not be sent is sent when the store is there again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use jiff::civil::Date;
use mailqos_core::{
    lake::{
        DayReader, DayWriter, LakeError, Merged, Record, Remote, RemoteError, Version, aside_folder, day_path,
        read_day, this_process,
    },
    mail::hex,
    model::{Event, Micros, Sample, SiteName, UtcMicros},
};
use tokio::sync::{mpsc, oneshot};

use super::{RecordError, Shared, locked, write_whole};

/// How soon a failed pass is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// How long a start waits for the store.
const CLAIMING: Duration = Duration::from_secs(10);
/// How often the claim on the site is renewed.
const RENEWING: Micros = Micros::from_secs(5 * 60);
/// A claim that was not renewed for so long is that of a probe that is gone.
const STALE: Micros = Micros::from_secs(20 * 60);
/// Days are kept here too for so long after they were sent: a mail may settle late, up to the longest horizon.
const KEPT_DAYS: i64 = 40;
/// What of an earlier life of ours is written over without a question.
const OWNER: &str = "owner.id";

/// A file as it was sent.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Sent {
    size: u64,
    modified_ns: u128,
    version: Version,
}

/// Who writes for a site.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Claim {
    /// Random, kept in the state folder.
    owner: String,
    /// For people.
    name: String,
    renewed_at: UtcMicros,
}

/// What the uploader is asked for.
#[derive(Debug)]
pub(super) enum Upload {
    /// Day files were written.
    Sealed,
    /// Send all, give the claim back, and end.
    Close(oneshot::Sender<()>),
}

pub(super) struct Uploader {
    remote: Remote,
    data: PathBuf,
    site: SiteName,
    index: PathBuf,
    sent: BTreeMap<String, Sent>,
    owner: String,
    claim: Option<(Version, UtcMicros)>,
    shared: Arc<Shared>,
}

impl Uploader {
    /// Claims the site. A store that can't be reached does not keep a probe from starting.
    ///
    /// # Errors
    /// Another probe writes for this site; the state folder can't be written.
    pub(super) async fn open(
        remote: Remote,
        data: PathBuf,
        state: &Path,
        site: SiteName,
        shared: Arc<Shared>,
    ) -> Result<Self, RecordError> {
        let folder = state.join(format!("site={site}"));
        let index = folder.join("uploads.json");
        let sent = fs::read(&index)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let path = folder.join(OWNER);
        let owner = match fs::read_to_string(&path) {
            Ok(owner) if !owner.trim().is_empty() => owner.trim().to_owned(),
            _ => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(|error| RecordError::Random(error.to_string()))?;
                let owner = hex(&bytes);
                write_whole(&path, owner.as_bytes()).map_err(|source| RecordError::io(&path, source))?;
                owner
            }
        };
        let mut uploader = Self {
            remote,
            data,
            site,
            index,
            sent,
            owner,
            claim: None,
            shared,
        };
        // A store that answers slowly or not at all must not keep the tests waiting; the first pass claims the site then.
        let Ok(renewed) = tokio::time::timeout(CLAIMING, uploader.renew()).await else {
            tracing::warn!("the object store does not answer; the site is claimed when it does");
            return Ok(uploader);
        };
        match renewed {
            Err(error @ RecordError::Claimed { .. }) => Err(error),
            Err(error) => {
                uploader.problem(&error);
                Ok(uploader)
            }
            Ok(()) => Ok(uploader),
        }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Upload>) {
        // What an earlier life left is sent at once.
        let mut wait = Duration::ZERO;
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = tokio::time::sleep(wait) => Some(Upload::Sealed),
            };
            let ended = self.pass().await.is_ok();
            match order {
                None => return,
                Some(Upload::Close(done)) => {
                    if ended && self.claim.is_some() {
                        let _ = self.remote.delete(&self.claim_name()).await;
                    }
                    let _ = done.send(());
                    return;
                }
                Some(Upload::Sealed) => {}
            }
            wait = if ended { RENEWING.to_std() } else { RETRY };
        }
    }

    fn problem(&self, error: &RecordError) {
        let mut counts = locked(&self.shared.counts);
        let text = error.to_string();
        if counts.upload_problem.as_ref() != Some(&text) {
            tracing::error!("day files can't be sent; they are kept and sent later: {text}");
        }
        counts.upload_problem = Some(text);
    }

    /// Sends what has changed since it was sent.
    async fn pass(&mut self) -> Result<(), RecordError> {
        let mut result = self.renew().await;
        let files = self.changed();
        let mut unsent = files.len();
        if result.is_ok() {
            for file in files {
                // Days that were kept for long take long to send: another probe must not take the claim for one of a probe that is gone.
                result = match self.renew().await {
                    Ok(()) => self.send(&file).await,
                    Err(error) => Err(error),
                };
                if result.is_err() {
                    break;
                }
                unsent -= 1;
            }
        }
        locked(&self.shared.counts).unsent = unsent;
        match &result {
            Ok(()) => {
                if locked(&self.shared.counts).upload_problem.take().is_some() {
                    tracing::warn!("day files can be sent again to {}", self.remote.address());
                }
                self.tidy();
            }
            Err(error) => self.problem(error),
        }
        result
    }

    fn claim_name(&self) -> String {
        format!("writers/site={}.json", self.site)
    }

    /// Claims the site, or renews the claim.
    async fn renew(&mut self) -> Result<(), RecordError> {
        let now = UtcMicros::now();
        if self.claim.as_ref().is_some_and(|(_, at)| now - *at < RENEWING) {
            return Ok(());
        }
        let name = self.claim_name();
        let known = match self.remote.get(&name).await? {
            None => None,
            Some((version, bytes)) => {
                if let Ok(claim) = serde_json::from_slice::<Claim>(&bytes)
                    && claim.owner != self.owner
                    && now - claim.renewed_at < STALE
                {
                    self.claim = None;
                    return Err(RecordError::Claimed {
                        address: self.remote.address().to_owned(),
                        site: self.site.clone(),
                        holder: claim.name,
                    });
                }
                Some(version)
            }
        };
        let claim = Claim {
            owner: self.owner.clone(),
            name: format!("{}, last seen {now}", this_process()),
            renewed_at: now,
        };
        let bytes = serde_json::to_vec(&claim).map_err(|error| RecordError::Encode(error.to_string()))?;
        self.claim = Some((self.remote.put(&name, bytes, known.as_ref()).await?, now));
        Ok(())
    }

    /// Day files that are not as they were sent, oldest first, by their names in the lake.
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
                    if !self.sent.get(&name).is_some_and(same) {
                        changed.push(name);
                    }
                }
            }
        }
        changed.sort_unstable();
        changed
    }

    async fn send(&mut self, name: &str) -> Result<(), RecordError> {
        let path = self.data.join(name);
        let mut known = self.sent.get(name).map(|sent| sent.version.clone());
        // Once with what was known, once more with what somebody else had put there, added to ours.
        for attempt in 0..3 {
            let Some((size, modified_ns)) = stamp(&path) else {
                return Ok(());
            };
            let bytes = fs::read(&path).map_err(|source| RecordError::io(&path, source))?;
            match self.remote.put(name, bytes, known.as_ref()).await {
                Ok(version) => {
                    let sent = Sent {
                        size,
                        modified_ns,
                        version,
                    };
                    self.sent.insert(name.to_owned(), sent);
                    let bytes =
                        serde_json::to_vec(&self.sent).map_err(|error| RecordError::Encode(error.to_string()))?;
                    return write_whole(&self.index, &bytes).map_err(|source| RecordError::io(&self.index, source));
                }
                Err(RemoteError::Changed(_)) if attempt < 2 => {
                    // The state folder is a new one, or a second writer was there: either way its rows must stay.
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

    /// Adds the rows of the store's day file to ours.
    async fn adopt(&self, name: &str, theirs: Vec<u8>) -> Result<(), RecordError> {
        let (data, site, shared) = (self.data.clone(), self.site.clone(), Arc::clone(&self.shared));
        let name = name.to_owned();
        let merged = tokio::task::spawn_blocking(move || {
            let date: Date = name
                .split('/')
                .find_map(|part| part.strip_prefix("date=")?.parse().ok())
                .ok_or_else(|| RecordError::Encode(format!("{name} is the name of no day file")))?;
            let samples = name.starts_with(Sample::FOLDER);
            let kind = if samples { Sample::FOLDER } else { Event::FOLDER };
            let path = aside_folder(&data).join(format!("{kind}.{site}.{date}.theirs.parquet"));
            write_whole(&path, &theirs).map_err(|source| RecordError::io(&path, source))?;
            let _sealing = locked(&shared.sealing);
            let result = if samples {
                merge::<Sample>(&data, &site, date, &path)
            } else {
                merge::<Event>(&data, &site, date, &path)
            };
            match result {
                Ok(()) => {
                    tracing::warn!(
                        "{name} in the store had rows of another writer, or of a lost state folder; they were added to ours"
                    );
                    let _ = fs::remove_file(&path);
                    Ok(())
                }
                Err(error) if error.is_damage_of(&path) => {
                    tracing::error!(
                        "{name} in the store is damaged, and is kept as {}: {error}",
                        path.display()
                    );
                    Ok(())
                }
                Err(error) => Err(error.into()),
            }
        });
        merged.await.map_err(|_| RecordError::Closed)?
    }

    /// Removes days that were sent long ago from this machine.
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
                // Removed by an earlier life that did not come to note it, or as too old.
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

/// Size and time of a file.
fn stamp(path: &Path) -> Option<(u64, u128)> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((metadata.len(), modified.as_nanos()))
}

fn merge<R: Record>(data: &Path, site: &SiteName, date: Date, theirs: &Path) -> Result<(), LakeError> {
    let path = day_path::<R>(data, site, date);
    let sealed = DayReader::<R>::open(&path)?.as_ref().and_then(DayReader::sealed);
    let ours: Vec<R> = read_day(&path)?;
    let mut writer = DayWriter::create(data, site, date)?;
    let theirs = DayReader::<R>::open(theirs)?;
    for row in Merged::new(theirs.into_iter().flatten(), ours.into_iter()) {
        writer.push(row?)?;
    }
    writer.publish(sealed.as_ref())?;
    Ok(())
}
