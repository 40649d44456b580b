//! Shared behaviour of all targets that store files: a file is written under a temporary name,
//! verified, and only then renamed. Files that already exist are not written again; interrupted
//! transfers continue where they ended.

use std::path::{Path, PathBuf};

use mailqos_base::hex;
use mailqos_config::{Existing, FilesTarget, TemporaryName, Verify};
use mailqos_model::words;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{DeliveryError, Receipt, Retry};

/// How much is read or written between two checks of the deadline.
pub(super) const CHUNK: usize = 64 << 10;

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// Size of a file at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The file does not exist.
    Absent,
    /// Size in bytes.
    Bytes(u64),
    /// The target does not report it.
    Unknown,
}

/// A store for files. Names are relative to the folder that was entered last.
pub(super) trait FileStore {
    /// Whether a file appears atomically when it is written, so that it needs no temporary name.
    const AT_ONCE: bool = false;

    /// Enters a folder below the target's own; if it does not exist, creates it or returns `false`.
    /// If the target's own folder does not exist, it is created or an error is returned: its files
    /// are not gone if it is merely not mounted.
    fn enter(
        &mut self,
        below: &[String],
        make: bool,
    ) -> impl Future<Output = Result<bool, DeliveryError>> + Send;

    /// Returns the size of a file.
    fn extent(&mut self, name: &str) -> impl Future<Output = Result<Extent, DeliveryError>> + Send;

    /// Writes a file from an offset on; anything after it is replaced.
    fn write(
        &mut self,
        name: &str,
        from: &Path,
        offset: u64,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Reads a file back and returns its SHA-256; `None` if the target does not allow reading. If
    /// the file is longer than expected, reading stops early and the hash differs.
    fn hash(
        &mut self,
        name: &str,
        size: u64,
    ) -> impl Future<Output = Result<Option<Hash>, DeliveryError>> + Send;

    /// Renames a completed upload to its final name, replacing any existing file.
    fn publish(
        &mut self,
        part: &str,
        name: &str,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes a file; a missing file is not an error.
    fn remove(&mut self, name: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes the entered folder if it is empty; another folder must be entered then.
    fn remove_folder(&mut self) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Returns the location of a file, for display.
    fn place(&self, name: &str) -> String;

    /// Returns whether the server confirmed the last written file after receiving all of it.
    fn is_confirmed(&self) -> bool {
        true
    }

    /// Returns what users should know about the names of the files.
    fn remark(&self) -> Option<&'static str> {
        None
    }
}

/// Strength of the evidence that a file has arrived, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// It was read back and is identical.
    Read,
    /// It was read back before it was renamed, and has been collected since.
    Taken,
    /// The file has the right size.
    Size,
    /// The server has confirmed it but does not show it.
    Accepted,
}

impl Proof {
    /// Returns the words for the ledger.
    pub(super) fn words(self, verify: Verify) -> &'static str {
        match (self, verify) {
            (Self::Read, _) => "size and SHA-256 checked",
            (Self::Taken, _) => "size and SHA-256 checked; collected since",
            (Self::Size, Verify::Hash) => "size checked; the target does not allow reading",
            (Self::Size, Verify::Size) => "size checked",
            (Self::Accepted, _) => "accepted; can't be read back",
        }
    }
}

/// A file to deliver, with the name that the target accepts.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// A delivered file that may be removed if it is unchanged.
#[derive(Debug, Clone)]
pub(super) struct Old {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

words!(
    /// Why a delivered file is no longer retained.
    #[derive(Default)]
    Reason, "reason" {
        /// The target's retention rule removed it.
        #[default]
        Removed = "removed",
        /// Others had already removed it.
        Gone = "gone",
        /// Others have changed it; it stays.
        Changed = "changed",
        /// The target does not show it; a file of that name stays.
        Unseen = "unseen",
    }
);

/// Results for old files, and the error, if it ended early.
pub(super) type Swept = (Vec<(String, Reason)>, Result<(), DeliveryError>);

/// Puts files into a folder of the store.
pub(super) async fn put(
    file_store: &mut impl FileStore,
    below: &[String],
    files: &[File],
    target: &FilesTarget,
) -> Result<Receipt, DeliveryError> {
    file_store.enter(below, true).await?;
    let mut receipt = Receipt::default();
    let mut proof = Proof::Read;
    for file in files {
        proof = proof.max(put_one(file_store, file, target).await?);
        receipt.places.push(file_store.place(&file.name));
    }
    receipt.reply = match (proof.words(target.verify), file_store.remark()) {
        (words, Some(remark)) => format!("{words}; {remark}"),
        (words, None) => words.to_owned(),
    };
    Ok(receipt)
}

/// Puts one file; returns the evidence of its arrival.
pub(super) async fn put_one(
    file_store: &mut impl FileStore,
    file: &File,
    target: &FilesTarget,
) -> Result<Proof, DeliveryError> {
    let (size, hash) = local(&file.path).await?;
    let another = match file_store.extent(&file.name).await? {
        Extent::Absent => false,
        Extent::Bytes(bytes) if bytes != size => true,
        there => match file_store.hash(&file.name, size).await? {
            // Delivered by an attempt whose result was lost.
            Some(read) if read == hash => return Ok(Proof::Read),
            // If nothing is reported and nothing can be read, assume that there is no file.
            None => there != Extent::Unknown,
            Some(_) => true,
        },
    };
    if another && target.existing == Existing::Refuse {
        return Err(DeliveryError::Exists(file_store.place(&file.name)));
    }
    let Some(temporary) = target.temporary.as_ref().filter(|_| !shelf_writes_at_once(file_store))
    else {
        // A file under the final name is not the beginning of this one.
        file_store.write(&file.name, &file.path, 0).await?;
        return check(file_store, &file.name, size, hash, target).await;
    };
    let part = temporary.of(&file.name, &hex(&hash));
    let before = write_part(file_store, &part, file, (size, hash), target).await?;
    if let Err(error) = file_store.publish(&part, &file.name).await {
        return Err(unpublished(file_store, error, before, &part).await);
    }
    match file_store.extent(&file.name).await? {
        Extent::Bytes(bytes) if bytes != size => Err(DeliveryError::Differs {
            place: file_store.place(&file.name),
            reason: format!("it has {bytes} bytes of {size}"),
        }),
        // A waiting job has collected it already.
        Extent::Absent if before == Proof::Read => Ok(Proof::Taken),
        Extent::Absent => Ok(Proof::Accepted),
        _ => Ok(before),
    }
}

/// Writes a file under its temporary name.
async fn write_part(
    file_store: &mut impl FileStore,
    part: &str,
    file: &File,
    (size, hash): (u64, Hash),
    target: &FilesTarget,
) -> Result<Proof, DeliveryError> {
    // Only a name that is unique for its content identifies a partial upload.
    let resumes = target.temporary.as_ref().is_some_and(TemporaryName::is_unique);
    let offset = match file_store.extent(part).await? {
        Extent::Bytes(bytes) if bytes <= size && resumes => bytes,
        _ => 0,
    };
    if let Err(error) = file_store.write(part, &file.path, offset).await {
        // An interrupted upload stays for the next attempt, unless there is no space or permission,
        // where it would only be in the way.
        if error.is_full() || error.again() != Retry::Soon {
            let _ = file_store.remove(part).await;
        }
        return Err(if error.is_full() { error } else { with_hint(error, WRITING) });
    }
    check(file_store, part, size, hash, target).await
}

/// Possible causes if a temporary name is refused.
const WRITING: &str = "if the server rejects the temporary name, set temporary to another pattern or to \
    \"none\"; `targets test` finds one that works";
/// Possible causes if a file can't be renamed.
const NAMING: &str =
    "if renaming is not allowed there, set temporary = \"none\"; `targets test` finds out";

fn with_hint(error: DeliveryError, hint: &str) -> DeliveryError {
    let may_pass = error.again() == Retry::Soon;
    error.reworded(|reason| (!may_pass).then(|| format!("{reason}; {hint}")))
}

/// Explains why a file could not be renamed. A file that vanished under its temporary name, or
/// never appears, would be uploaded again in each attempt, so an operator is notified immediately.
async fn unpublished(
    file_store: &mut impl FileStore,
    error: DeliveryError,
    before: Proof,
    part: &str,
) -> DeliveryError {
    let is_refused = error.again() == Retry::WhenMended;
    if is_refused && before == Proof::Accepted {
        return DeliveryError::Unnamed { place: file_store.place(part), reason: error.to_string() };
    }
    with_hint(error, NAMING)
}

fn shelf_writes_at_once<S: FileStore>(_: &S) -> bool {
    S::AT_ONCE
}

/// Checks a written file; removes it if it is wrong, so that it is uploaded again. A file that the
/// server has confirmed but does not show is in a drop box, or was collected by a waiting job.
async fn check(
    file_store: &mut impl FileStore,
    name: &str,
    size: u64,
    hash: Hash,
    target: &FilesTarget,
) -> Result<Proof, DeliveryError> {
    let confirmed = file_store.is_confirmed();
    let extent = file_store.extent(name).await?;
    let differs = "the file read back differs".to_owned();
    let checked = match (extent, target.verify) {
        (Extent::Bytes(bytes), _) if bytes != size => {
            Err(format!("{bytes} of {size} bytes arrived"))
        }
        (Extent::Bytes(_), Verify::Size) => Ok(Proof::Size),
        (_, Verify::Size) => Ok(Proof::Accepted),
        (extent, Verify::Hash) => match (file_store.hash(name, size).await?, extent) {
            (Some(there), _) if there == hash => Ok(Proof::Read),
            (Some(_), _) => Err(differs),
            (None, Extent::Bytes(_)) => Ok(Proof::Size),
            (None, _) => Ok(Proof::Accepted),
        },
    };
    match checked {
        Ok(Proof::Accepted) if !confirmed => {
            Err(DeliveryError::Unconfirmed(file_store.place(name)))
        }
        Ok(proof) => Ok(proof),
        Err(reason) => {
            let place = file_store.place(name);
            let _ = file_store.remove(name).await;
            Err(DeliveryError::Differs { place, reason })
        }
    }
}

/// Removes old files, except those that others have changed or replaced. A file that the target
/// does not allow to be removed does not affect the others. Returns the result for each, even if it
/// ends early: what was removed can't be determined later.
pub(super) async fn sweep(file_store: &mut impl FileStore, below: &[String], old: &[Old]) -> Swept {
    match file_store.enter(below, false).await {
        Ok(true) => {}
        Ok(false) => {
            return (old.iter().map(|old| (old.name.clone(), Reason::Gone)).collect(), Ok(()));
        }
        Err(error) => return (Vec::new(), Err(error)),
    }
    let (mut swept, mut end) = (Vec::new(), Ok(()));
    for old in old {
        match sweep_one(file_store, old).await {
            Ok(reason) => swept.push((old.name.clone(), reason)),
            Err(error) if error.again() == Retry::WhenMended => end = end.and(Err(error)),
            Err(error) => return (swept, Err(error)),
        }
    }
    (swept, end)
}

async fn sweep_one(file_store: &mut impl FileStore, old: &Old) -> Result<Reason, DeliveryError> {
    let extent = file_store.extent(&old.name).await?;
    match extent {
        Extent::Absent => return Ok(Reason::Gone),
        Extent::Bytes(bytes) if bytes != old.size => return Ok(Reason::Changed),
        _ => {}
    }
    match file_store.hash(&old.name, old.size).await? {
        Some(hash) if hex(&hash) != old.sha256 => Ok(Reason::Changed),
        // A name alone does not identify a file.
        None if extent == Extent::Unknown => Ok(Reason::Unseen),
        _ => {
            file_store.remove(&old.name).await?;
            Ok(Reason::Removed)
        }
    }
}

/// Removes partial uploads that will never be completed. One that can't be removed does not affect
/// the others.
pub(super) async fn abandon(
    file_store: &mut impl FileStore,
    below: &[String],
    parts: &[String],
) -> Result<(), DeliveryError> {
    if shelf_writes_at_once(file_store) || !file_store.enter(below, false).await? {
        return Ok(());
    }
    let mut end = Ok(());
    for part in parts {
        let removed = file_store.remove(part).await;
        end = end.and(removed);
    }
    end
}

/// Others have renamed or removed a part meanwhile: the file of that name is not the old one and
/// stays.
pub(super) fn vanished(place: String) -> DeliveryError {
    let reason = "it disappeared before it could be renamed".to_owned();
    DeliveryError::Differs { place, reason }
}

/// Returns size and SHA-256 of a local file.
pub(super) async fn local(path: &Path) -> Result<(u64, Hash), DeliveryError> {
    beginning(path, u64::MAX).await
}

/// Returns size and SHA-256 of the first bytes of a local file.
pub(super) async fn beginning(path: &Path, most: u64) -> Result<(u64, Hash), DeliveryError> {
    let file = tokio::fs::File::open(path).await.map_err(DeliveryError::io(path))?;
    read(&mut file.take(most)).await.map_err(DeliveryError::io(path))
}

/// Returns size and SHA-256 of everything that can be read.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u64, Hash)> {
    let mut context = Hashing::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(context.finish());
        }
        context.update(&chunk[..count]);
    }
}

/// Incremental SHA-256.
#[derive(Default)]
pub(super) struct Hashing {
    hasher: Sha256,
    size: u64,
}

impl Hashing {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Returns the number of bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn finish(self) -> (u64, Hash) {
        (self.size, self.hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mailqos_config::FilesPlace;

    use super::*;

    /// A store in memory.
    struct Memory {
        files: BTreeMap<String, Vec<u8>>,
        /// Whether it reports file sizes.
        sizes: bool,
        /// A file that can't be removed.
        stays: &'static str,
        /// Whether removing that file breaks the connection.
        breaks: bool,
    }

    impl FileStore for Memory {
        async fn enter(&mut self, _: &[String], _: bool) -> Result<bool, DeliveryError> {
            Ok(true)
        }

        async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
            let there = self.files.get(name);
            Ok(match there {
                _ if !self.sizes => Extent::Unknown,
                Some(bytes) => Extent::Bytes(bytes.len() as u64),
                None => Extent::Absent,
            })
        }

        async fn write(
            &mut self,
            name: &str,
            from: &Path,
            offset: u64,
        ) -> Result<(), DeliveryError> {
            let bytes = std::fs::read(from).map_err(DeliveryError::io(from))?;
            let file = self.files.entry(name.to_owned()).or_default();
            file.truncate(offset as usize);
            file.extend_from_slice(&bytes[offset as usize..]);
            Ok(())
        }

        async fn hash(&mut self, name: &str, _: u64) -> Result<Option<Hash>, DeliveryError> {
            Ok(self.files.get(name).map(|bytes| {
                let mut hashing = Hashing::default();
                hashing.update(bytes);
                hashing.finish().1
            }))
        }

        async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
            let file = self.files.remove(part).unwrap_or_default();
            self.files.insert(name.to_owned(), file);
            Ok(())
        }

        async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
            if name == self.stays {
                return Err(DeliveryError::Server {
                    server: "far:21".into(),
                    step: format!("DELE {name}"),
                    reason: "550".into(),
                    transient: self.breaks,
                });
            }
            self.files.remove(name);
            Ok(())
        }

        async fn remove_folder(&mut self) -> Result<(), DeliveryError> {
            Ok(())
        }

        fn place(&self, name: &str) -> String {
            name.to_owned()
        }
    }

    fn memory(sizes: bool) -> Memory {
        Memory { files: BTreeMap::new(), sizes, stays: "", breaks: false }
    }

    #[tokio::test]
    async fn swept_files_have_a_reason() {
        let mut file_store = memory(true);
        let old = ["ours", "theirs", "longer", "gone"].map(|name| {
            let mut hashing = Hashing::default();
            hashing.update(b"ours");
            let (size, hash) = hashing.finish();
            let sha256 = hex(&hash);
            let name = name.to_owned();
            Old { name, size, sha256 }
        });
        for (name, bytes) in [("ours", &b"ours"[..]), ("theirs", b"hers"), ("longer", b"ours, too")]
        {
            file_store.files.insert(name.into(), bytes.into());
        }
        let (swept, end) = sweep(&mut file_store, &[], &old).await;
        end.expect("swept");
        let reasons: Vec<Reason> = swept.into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, [Reason::Removed, Reason::Changed, Reason::Changed, Reason::Gone]);
        assert!(file_store.files.keys().eq(["longer", "theirs"]));
    }

    #[tokio::test]
    async fn what_stays_hides_nothing_of_what_was_removed() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let mut hashing = Hashing::default();
        hashing.update(b"x");
        let (size, hash) = hashing.finish();
        let filled = || {
            let mut file_store = memory(true);
            file_store.files = names.iter().map(|name| (name.clone(), b"x".to_vec())).collect();
            file_store.stays = "b";
            file_store
        };
        let old = names.clone().map(|name| Old { name, size, sha256: hex(&hash) });
        // If the server refuses to remove one file, the others are removed; if the connection
        // breaks, it ends.
        for (breaks, removed, left) in
            [(false, &["a", "c"][..], &["b"][..]), (true, &["a"], &["b", "c"])]
        {
            let mut file_store = filled();
            file_store.breaks = breaks;
            let (swept, end) = sweep(&mut file_store, &[], &old).await;
            assert!(swept.iter().all(|(_, reason)| *reason == Reason::Removed));
            assert!(swept.iter().map(|(name, _)| name).eq(removed), "{swept:?}");
            assert!(end.is_err() && file_store.files.keys().eq(left));
        }

        let mut file_store = filled();
        assert!(abandon(&mut file_store, &[], &names).await.is_err());
        assert!(file_store.files.keys().eq(["b"]), "{:?}", file_store.files.keys());
    }

    #[tokio::test]
    async fn an_existing_file_is_refused_only_if_it_differs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.pdf");
        std::fs::write(&path, "%PDF").expect("written");
        let file = File { name: "r.pdf".into(), path };
        let target = FilesTarget {
            below: String::new(),
            place: FilesPlace::Folder { path: folder.path().into() },
            existing: Existing::Refuse,
            verify: Verify::Hash,
            keep: None,
            keep_last: None,
            url: None,
            patience: None,
            temporary: Some(TemporaryName::default()),
        };
        for sizes in [true, false] {
            let mut file_store = memory(sizes);
            // The second time it is already there.
            for _ in 0..2 {
                assert_eq!(
                    put_one(&mut file_store, &file, &target).await.expect("put"),
                    Proof::Read
                );
                assert_eq!(file_store.files["r.pdf"], b"%PDF");
            }
            file_store.files.insert("r.pdf".into(), b"another".to_vec());
            let refused = put_one(&mut file_store, &file, &target).await;
            assert!(matches!(refused, Err(DeliveryError::Exists(_))), "{refused:?}");
            assert_eq!(file_store.files.len(), 1);
        }
    }
}
