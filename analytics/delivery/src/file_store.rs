//! Operations shared by all targets that store files. A file is uploaded under a temporary name,
//! checked, and then renamed to its final name. A file that is already there is not uploaded again,
//! and an interrupted upload is resumed.

use std::path::{Path, PathBuf};

use mailqos_base::hex;
use mailqos_config::{Existing, FilesTarget, TemporaryName, Verify};
use mailqos_model::words;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{DeliveryError, Receipt, Retry};

/// Bytes read or written between two checks of the deadline.
pub(super) const CHUNK: usize = 64 << 10;

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// What the target reports about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The file does not exist.
    Absent,
    /// The size of the file in bytes.
    Bytes(u64),
    /// The target does not report it.
    Unknown,
}

/// A target that stores files. File names are relative to the folder entered last.
pub(super) trait FileStore {
    /// Whether a written file appears complete in one step, so that it needs no temporary name.
    const AT_ONCE: bool = false;

    /// Enters a folder below the target's own. If it does not exist, creates it if `make` is set,
    /// and otherwise returns `false`. A missing target folder is created or an error: it may only
    /// be unmounted, so its files must not be taken for removed.
    fn enter(
        &mut self,
        below: &[String],
        make: bool,
    ) -> impl Future<Output = Result<bool, DeliveryError>> + Send;

    /// Returns the size of a file.
    fn extent(&mut self, name: &str) -> impl Future<Output = Result<Extent, DeliveryError>> + Send;

    /// Writes a file from an offset and replaces everything after it.
    fn write(
        &mut self,
        name: &str,
        from: &Path,
        offset: u64,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Reads a file back and returns its SHA-256, or `None` if the target does not allow reading.
    /// If the file is longer than expected, reading stops just past `size`, and the hash differs.
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

    /// Removes a file. A file that is already gone is not an error.
    fn remove(&mut self, name: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes the entered folder if it is empty. Another folder must be entered afterwards.
    fn remove_folder(&mut self) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Returns the location of a file for display.
    fn place(&self, name: &str) -> String;

    /// Returns whether the server confirmed the last upload after receiving all of it.
    fn is_confirmed(&self) -> bool {
        true
    }

    /// Returns a remark for users about the stored names, such as a conversion to ASCII.
    fn remark(&self) -> Option<&'static str> {
        None
    }
}

/// Evidence that a file has arrived, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// The file was read back and is identical.
    Read,
    /// The file was read back before it was renamed, and was collected since.
    Taken,
    /// The file has the right size.
    Size,
    /// The server confirmed the file but does not show it.
    Accepted,
}

impl Proof {
    /// Returns the wording for the ledger.
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

/// A file to upload, under a name that the target accepts.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// A file delivered earlier, which may be removed if it is unchanged.
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
        /// Someone else had removed it before.
        Gone = "gone",
        /// Someone else changed it, so it stays.
        Changed = "changed",
        /// The target does not show it, so any file with its name stays.
        Unseen = "unseen",
    }
);

/// Result for each file, and the error that ended the sweep early.
pub(super) type Swept = (Vec<(String, Reason)>, Result<(), DeliveryError>);

/// Uploads files to a folder of the file store.
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

/// Uploads one file and returns the evidence that it arrived.
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
            // An earlier attempt delivered it, but its result was lost.
            Some(read) if read == hash => return Ok(Proof::Read),
            // If the target reports no size and allows no reading, assume that the file does not
            // exist.
            None => there != Extent::Unknown,
            Some(_) => true,
        },
    };
    if another && target.existing == Existing::Refuse {
        return Err(DeliveryError::Exists(file_store.place(&file.name)));
    }
    let Some(temporary) = target.temporary.as_ref().filter(|_| !shelf_writes_at_once(file_store))
    else {
        // A file under the final name can't be a partial upload of this one, so start over.
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
        // Someone who was waiting for the file has already collected it.
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
    // Only a unique temporary name shows that a partial upload belongs to this file.
    let resumes = target.temporary.as_ref().is_some_and(TemporaryName::is_unique);
    let offset = match file_store.extent(part).await? {
        Extent::Bytes(bytes) if bytes <= size && resumes => bytes,
        _ => 0,
    };
    if let Err(error) = file_store.write(part, &file.path, offset).await {
        // A partial upload is kept for the next attempt, unless the target is full or refuses
        // files: it would only be in the way there.
        if error.is_full() || error.again() != Retry::Soon {
            let _ = file_store.remove(part).await;
        }
        return Err(if error.is_full() { error } else { with_hint(error, WRITING) });
    }
    check(file_store, part, size, hash, target).await
}

/// Hint shown if a temporary name is refused.
const WRITING: &str = "if the server rejects the temporary name, set temporary to another pattern or to \
    \"none\"; `targets test` finds one that works";
/// Hint shown if a file can't get its final name.
const NAMING: &str =
    "if renaming is not allowed there, set temporary = \"none\"; `targets test` finds out";

fn with_hint(error: DeliveryError, hint: &str) -> DeliveryError {
    let may_pass = error.again() == Retry::Soon;
    error.reworded(|reason| (!may_pass).then(|| format!("{reason}; {hint}")))
}

/// Returns why a file did not get its final name. If it vanished under its temporary name or was
/// never visible, each attempt would upload it again, so an operator is notified immediately.
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

/// Checks an uploaded file and removes it if it differs, so that it is uploaded again. A file that
/// the server confirmed but does not show is in a drop box, or its reader has already collected it.
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

/// Removes files delivered earlier, except those that someone has changed or replaced. A file that
/// can't be removed does not stop the sweep. Returns the result of each file even if the sweep ends
/// early, because a removed file can't be found again.
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
        // Without size and hash, the name alone does not identify the file.
        None if extent == Extent::Unknown => Ok(Reason::Unseen),
        _ => {
            file_store.remove(&old.name).await?;
            Ok(Reason::Removed)
        }
    }
}

/// Removes partial uploads that will never be completed. A file that can't be removed does not stop
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

/// Returns the error for a partial upload that someone else renamed or removed. The file that now
/// has the final name is not an old one and stays.
pub(super) fn vanished(place: String) -> DeliveryError {
    let reason = "it disappeared before it could be renamed".to_owned();
    DeliveryError::Differs { place, reason }
}

/// Returns the size and SHA-256 of a local file.
pub(super) async fn local(path: &Path) -> Result<(u64, Hash), DeliveryError> {
    beginning(path, u64::MAX).await
}

/// Returns the size and SHA-256 of the first `most` bytes of a local file.
pub(super) async fn beginning(path: &Path, most: u64) -> Result<(u64, Hash), DeliveryError> {
    let file = tokio::fs::File::open(path).await.map_err(DeliveryError::io(path))?;
    read(&mut file.take(most)).await.map_err(DeliveryError::io(path))
}

/// Returns the size and SHA-256 of everything that can be read.
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

/// A SHA-256 calculation in progress.
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

    /// Returns the number of bytes hashed so far.
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

    /// A file store in memory.
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
    async fn a_file_that_can_not_be_removed_does_not_hide_removed_ones() {
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
        // A file that the server refuses to remove does not stop the sweep; a broken connection
        // does.
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
            // The second upload finds the file in place.
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
