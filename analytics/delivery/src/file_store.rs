//! What all places for files have in common: a file is written under a name of its own that says it
//! is not whole, checked, and only then given its name. What is there already is not written again;
//! what was broken off goes on where it ended.

use std::path::{Path, PathBuf};

use mailqos_base::hex;
use mailqos_config::{Existing, FilesTarget, TemporaryName, Verify};
use mailqos_model::words;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{DeliveryError, Receipt, Retry};

/// How much is read or written between two looks at the clock.
pub(super) const CHUNK: usize = 64 << 10;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// What is known of a file at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// There is none.
    Absent,
    /// It has so many bytes.
    Bytes(u64),
    /// The target doesn't say.
    Unknown,
}

/// A place for files. Names are of the folder that was entered last.
pub(super) trait FileStore {
    /// Whether a file appears at once and whole when it is written, so that it needs no name for
    /// the time before.
    const AT_ONCE: bool = false;

    /// Goes into a folder below the target's own; where there is none, makes it or says `false`. A
    /// target's own folder that is not there is made or an error: what it has is not gone, if it is
    /// only not mounted.
    fn enter(
        &mut self,
        below: &[String],
        make: bool,
    ) -> impl Future<Output = Result<bool, DeliveryError>> + Send;

    /// The size of a file.
    fn extent(&mut self, name: &str) -> impl Future<Output = Result<Extent, DeliveryError>> + Send;

    /// Writes a file from an offset on; what is behind it is replaced.
    fn write(
        &mut self,
        name: &str,
        from: &Path,
        offset: u64,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// The SHA-256 of a file, read back; `None` where the target lets nobody read. Of one that is
    /// longer than it should be, no more than shows that is read, and another hash comes of it.
    fn hash(
        &mut self,
        name: &str,
        size: u64,
    ) -> impl Future<Output = Result<Option<Hash>, DeliveryError>> + Send;

    /// Gives a whole file its name, over one that has it.
    fn publish(
        &mut self,
        part: &str,
        name: &str,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes a file; one that is gone already is no error.
    fn remove(&mut self, name: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes the folder that was entered, if there is nothing in it; another must be entered
    /// then.
    fn remove_folder(&mut self) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Where a file is, for people.
    fn place(&self, name: &str) -> String;

    /// Whether the server has confirmed the last file that was written, after it had all of it.
    fn is_confirmed(&self) -> bool {
        true
    }

    /// What people should know of the names that the files have got.
    fn remark(&self) -> Option<&'static str> {
        None
    }
}

/// How sure it is that a file has arrived; the surer comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// It was read back, and is the same.
    Read,
    /// It was read back before it got its name, and has been taken away since.
    Taken,
    /// It has the right size.
    Size,
    /// The server has confirmed it, and shows nothing of it.
    Accepted,
}

impl Proof {
    /// For the ledger.
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

/// A file to put, with the name that the target takes.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// A file that was put before, and may be removed if it is still the same.
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
        /// The target's rule removed it.
        #[default]
        Removed = "removed",
        /// It was removed before, by others.
        Gone = "gone",
        /// It was changed by others; it stays.
        Changed = "changed",
        /// The target shows nothing of it; whatever has its name stays.
        Unseen = "unseen",
    }
);

/// What became of files that were put before, and why it ended, if it ended early.
pub(super) type Swept = (Vec<(String, Reason)>, Result<(), DeliveryError>);

/// Puts files into a folder of the shelf.
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

/// Puts one file; tells how sure it is that it is there.
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
            // Delivered by an attempt whose end nobody heard of.
            Some(read) if read == hash => return Ok(Proof::Read),
            // Where nothing is said and nothing can be read, nothing is there, for all that anybody
            // can know.
            None => there != Extent::Unknown,
            Some(_) => true,
        },
    };
    if another && target.existing == Existing::Refuse {
        return Err(DeliveryError::Exists(file_store.place(&file.name)));
    }
    let Some(temporary) = target.temporary.as_ref().filter(|_| !shelf_writes_at_once(file_store))
    else {
        // What may be there under the final name is no beginning of this file.
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
        // Somebody has taken it already, who was waiting for it.
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
    // Only a name that no other content has says what was begun.
    let resumes = target.temporary.as_ref().is_some_and(TemporaryName::is_unique);
    let offset = match file_store.extent(part).await? {
        Extent::Bytes(bytes) if bytes <= size && resumes => bytes,
        _ => 0,
    };
    if let Err(error) = file_store.write(part, &file.path, offset).await {
        // What was broken off stays for the next attempt; where there is no room, or nothing may
        // be, it would only be in the way.
        if error.is_full() || error.again() != Retry::Soon {
            let _ = file_store.remove(part).await;
        }
        return Err(if error.is_full() { error } else { with_hint(error, WRITING) });
    }
    check(file_store, part, size, hash, target).await
}

/// What may be wrong where a temporary name is refused.
const WRITING: &str = "if the server rejects the temporary name, set temporary to another pattern or to \
    \"none\"; `targets test` finds one that works";
/// Likewise where a file can't get its final name.
const NAMING: &str =
    "if renaming is not allowed there, set temporary = \"none\"; `targets test` finds out";

fn with_hint(error: DeliveryError, hint: &str) -> DeliveryError {
    let may_pass = error.again() == Retry::Soon;
    error.reworded(|reason| (!may_pass).then(|| format!("{reason}; {hint}")))
}

/// Why a file has not got its name. One that has vanished under its temporary name, or never shows,
/// would be written again with each attempt: that goes to a person at once.
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

/// Whether what was written is what it should be; what isn't is removed, to be written anew. A file
/// that the server has confirmed, and of which it shows nothing, is one in a drop box, or was taken
/// away by whoever waits for it.
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

/// Removes files that were put before; one that somebody has changed or replaced stays. One that
/// the target does not let go keeps no other. Tells what became of each, also where it ends early:
/// what was removed can't be found anew.
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
        // A name alone does not say whose file it is.
        None if extent == Extent::Unknown => Ok(Reason::Unseen),
        _ => {
            file_store.remove(&old.name).await?;
            Ok(Reason::Removed)
        }
    }
}

/// Removes what is there of files that are not whole, and never will be. One that can't be removed
/// keeps no other.
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

/// Somebody else has given a part its name meanwhile, or removed it: what has that name now is no
/// old file, and stays.
pub(super) fn vanished(place: String) -> DeliveryError {
    let reason = "it disappeared before it could be renamed".to_owned();
    DeliveryError::Differs { place, reason }
}

/// Size and SHA-256 of a file of this machine.
pub(super) async fn local(path: &Path) -> Result<(u64, Hash), DeliveryError> {
    beginning(path, u64::MAX).await
}

/// Size and SHA-256 of the first so many bytes of a file of this machine.
pub(super) async fn beginning(path: &Path, most: u64) -> Result<(u64, Hash), DeliveryError> {
    let file = tokio::fs::File::open(path).await.map_err(DeliveryError::io(path))?;
    read(&mut file.take(most)).await.map_err(DeliveryError::io(path))
}

/// Size and SHA-256 of all that can be read.
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

/// SHA-256 in the making.
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

    /// How many bytes it has seen.
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

    /// A shelf in memory.
    struct Memory {
        files: BTreeMap<String, Vec<u8>>,
        /// Whether it says how large files are.
        sizes: bool,
        /// A file that can't be removed.
        stays: &'static str,
        /// Whether that is because the connection breaks.
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
        // Where the server lets one file not go, the others go; where the connection breaks, it
        // ends.
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
            // The second time it is found to be there.
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
