//! The journal contains the recorded entries that are not yet in a day file, as checksummed entries
//! in segments. A truncated end is tolerated.
//!
//! A segment begins with [`MAGIC`], the journal's name and the position of its first entry. An
//! entry consists of its length (u32), a CRC-32 (u32) of the following bytes, its position (u64,
//! all little endian), and its content as JSON. Segments are synced in groups and deleted when day
//! files contain all of their entries. After a start or a failure, a new segment is started, so
//! nothing is ever appended to a truncated one.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use mailqos_model::{Event, Sample};
use serde::{Deserialize, Serialize};

use super::{InFlight, RecordError};

const MAGIC: &[u8; 8] = b"mqosjnl1";
/// Magic, name, position.
const HEADER: usize = 8 + 16 + 8;
/// Length and checksum of an entry.
const FRAME: usize = 4 + 4;
/// Maximum size of an entry in bytes; larger ones are never written.
const MAX_ENTRY: usize = 1024 * 1024;
/// Size in bytes at which a segment is followed by another.
const FULL_SEGMENT: u64 = 32 * 1024 * 1024;
/// Maximum distance of a position after damage: limits the search for the next intact entry.
const MAX_GAP: u64 = 10_000_000;

/// A recorded entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// A test's sample.
    Sample(Box<Sample>),
    /// An event.
    Event(Event),
    /// A mail is about to be sent.
    InFlight(Box<InFlight>),
}

impl Entry {
    /// Encodes the entry as in the journal, without its position.
    ///
    /// # Errors
    /// The entry is too large.
    pub(super) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let content =
            serde_json::to_vec(self).map_err(|error| RecordError::Encode(error.to_string()))?;
        if content.len() > MAX_ENTRY - 8 {
            return Err(RecordError::Encode("the entry is larger than 1 MiB".into()));
        }
        Ok(content)
    }
}

/// Contents of a segment.
#[derive(Debug)]
pub(super) struct Contents {
    /// Name of the journal.
    pub(super) name: String,
    /// Position after the last entry.
    pub(super) end: u64,
    /// The entries with their positions, oldest first.
    pub(super) entries: Vec<(u64, Entry)>,
    /// Number of unreadable places before the end. They are not caused by a crash, but by a failing
    /// disk.
    pub(super) damaged: usize,
}

/// Returns the segments of a folder, oldest first.
///
/// # Errors
/// The folder can't be read. A missing folder has no segments.
pub(super) fn segments(folder: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let error = |source| RecordError::io(folder, source);
    let mut segments = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(segments),
        entries => entries.map_err(error)?,
    };
    for entry in entries {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            segments.push(path);
        }
    }
    // The names begin with the position, in a fixed number of digits.
    segments.sort();
    Ok(segments)
}

/// Reads a segment. Returns `None` if its header is incomplete, because of a crash before anything
/// in it was acknowledged.
///
/// # Errors
/// The file can't be read. Damage is not an error.
pub(super) fn read(path: &Path) -> Result<Option<Contents>, RecordError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| RecordError::io(path, source))?;
    let Some((name, first)) = header(&bytes) else {
        return Ok(None);
    };
    let mut contents = Contents { name, end: first, entries: Vec::new(), damaged: 0 };
    let mut at = HEADER;
    while at < bytes.len() {
        // Skip truncated or damaged bytes up to the next intact entry; after a truncated end there
        // is none.
        let window = contents.end..contents.end.saturating_add(MAX_GAP);
        let found = (at..bytes.len()).find_map(|at| Some((at, frame(&bytes[at..], &window)?)));
        let Some((start, (position, content))) = found else {
            break;
        };
        contents.damaged += usize::from(start != at);
        at = start + FRAME + 8 + content.len();
        contents.end = position + 1;
        match serde_json::from_slice(content) {
            Ok(entry) => contents.entries.push((position, entry)),
            // A newer program may have written it, so it must not be deleted.
            Err(_) => contents.damaged += 1,
        }
    }
    Ok(Some(contents))
}

fn header(bytes: &[u8]) -> Option<(String, u64)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (name, rest) = rest.split_at_checked(16)?;
    let position = rest.first_chunk::<8>()?;
    Some((String::from_utf8(name.to_vec()).ok()?, u64::from_le_bytes(*position)))
}

/// Returns the complete and intact entry at the beginning of the bytes.
fn frame<'a>(bytes: &'a [u8], window: &std::ops::Range<u64>) -> Option<(u64, &'a [u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MAX_ENTRY {
        return None;
    }
    let checked = rest.get(..length)?;
    let (position, content) = checked.split_first_chunk::<8>()?;
    let position = u64::from_le_bytes(*position);
    // The cheap check comes first and avoids almost every checksum calculation in a search.
    (window.contains(&position) && crc32fast::hash(checked) == u32::from_le_bytes(*checksum))
        .then_some((position, content))
}

/// Returns a random name for a new journal.
///
/// # Errors
/// The operating system provides no random numbers.
pub(super) fn new_name() -> Result<String, RecordError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| RecordError::Random(error.to_string()))?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Position after the last entry that is known to be on disk.
    length: u64,
}

impl Segment {
    /// Creates a segment. When this returns, the segment and its name are durable.
    ///
    /// # Errors
    /// The file system rejects the operation.
    pub(super) fn begin(folder: &Path, name: &str, position: u64) -> Result<Self, RecordError> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(format!("{name:0>16.16}").as_bytes());
        header.extend_from_slice(&position.to_le_bytes());
        Self::create(folder, position, &header)
    }

    fn create(folder: &Path, position: u64, bytes: &[u8]) -> Result<Self, RecordError> {
        std::fs::create_dir_all(folder).map_err(|source| RecordError::io(folder, source))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        // Never replace an existing file: a damaged segment may begin at the same position.
        let mut number = 0;
        let (path, mut file) = loop {
            let path = folder.join(format!("{position:020}-{number:06}.journal"));
            match options.open(&path) {
                Ok(file) => break (path, file),
                Err(error)
                    if error.kind() == std::io::ErrorKind::AlreadyExists && number < 999_999 =>
                {
                    number += 1
                }
                Err(error) => return Err(RecordError::io(&path, error)),
            }
        };
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| mailqos_base::files::sync_folder(folder))
            .map_err(|source| {
                let _ = std::fs::remove_file(&path);
                RecordError::io(&path, source)
            })?;
        Ok(Self { path, file, length: bytes.len() as u64 })
    }

    /// Appends entries from `position` on and syncs them. When this returns, they are durable.
    ///
    /// # Errors
    /// The file system rejects the operation. This segment must not be written any more, because the effect of a
    /// failed sync is unknown.
    pub(super) fn append<'a>(
        &mut self,
        position: u64,
        entries: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        for (position, content) in (position..).zip(entries) {
            let start = bytes.len();
            let length = u32::try_from(content.len() + 8).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&position.to_le_bytes());
            bytes.extend_from_slice(content);
            let checksum = crc32fast::hash(&bytes[start + FRAME..]);
            bytes[start + 4..start + FRAME].copy_from_slice(&checksum.to_le_bytes());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(&bytes))
            .and_then(|()| self.file.sync_data())
            .map_err(|source| RecordError::io(&self.path, source))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Returns whether the file still has its name. Otherwise, its contents are lost when the
    /// process ends.
    pub(super) fn is_there(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            match (std::fs::metadata(&self.path), self.file.metadata()) {
                (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
                (Err(error), _) => !matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ),
                _ => true,
            }
        }
        #[cfg(not(unix))]
        {
            self.path.exists()
        }
    }

    /// Restores a deleted segment from the file that is still open.
    ///
    /// # Errors
    /// The file system refuses; this segment is unchanged.
    pub(super) fn rescue(&mut self, folder: &Path) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        self.file
            .rewind()
            .and_then(|()| (&mut self.file).take(self.length).read_to_end(&mut bytes))
            .map_err(|source| RecordError::io(&self.path, source))?;
        let first = header(&bytes).map_or(0, |(_, first)| first);
        *self = Self::create(folder, first, &bytes)?;
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.length >= FULL_SEGMENT
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_model::{Outcome, UtcMicros};
    use proptest::prelude::*;

    fn entry(at: u64) -> Entry {
        let at = UtcMicros(i64::try_from(at).expect("small"));
        Entry::Sample(Box::new(Sample::new("m".parse().expect("a name"), at, Outcome::Ok)))
    }

    /// Creates a segment of entries 5, 6, …, all of the same length.
    fn written(folder: &Path, count: u64) -> PathBuf {
        let mut segment = Segment::begin(folder, "0123456789abcdef", 5).expect("begin");
        for position in 5..5 + count {
            let content = entry(position).encode().expect("encode");
            segment.append(position, [content.as_slice()]).expect("append");
        }
        segment.path().to_owned()
    }

    fn positions(path: &Path) -> Vec<u64> {
        let contents = read(path).expect("read");
        let entries = contents.map(|contents| contents.entries).unwrap_or_default();
        for (position, found) in &entries {
            assert_eq!(found, &entry(*position));
        }
        entries.into_iter().map(|(position, _)| position).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_journal_truncated_anywhere_keeps_its_complete_entries(count in 1u64..5, cut in 0.0f64..1.0) {
            let folder = tempfile::tempdir().expect("folder");
            let path = written(folder.path(), count);
            let whole = std::fs::read(&path).expect("read");
            let kept = (whole.len() as f64 * cut) as usize;
            std::fs::write(&path, &whole[..kept]).expect("write");
            let length = (whole.len() - HEADER) / count as usize;
            let complete = kept.saturating_sub(HEADER) / length;
            prop_assert_eq!(positions(&path), (5..5 + complete as u64).collect::<Vec<_>>());
        }

        #[test]
        fn a_flipped_bit_costs_one_entry_and_is_detected(bit in any::<prop::sample::Index>()) {
            let folder = tempfile::tempdir().expect("folder");
            let path = written(folder.path(), 4);
            let mut bytes = std::fs::read(&path).expect("read");
            let length = (bytes.len() - HEADER) / 4;
            let place = bit.index(3 * length * 8);
            bytes[HEADER + place / 8] ^= 1 << (place % 8);
            std::fs::write(&path, &bytes).expect("write");
            let hit = 5 + (place / 8 / length) as u64;
            prop_assert_eq!(positions(&path), (5..9).filter(|position| *position != hit).collect::<Vec<_>>());
            prop_assert_eq!(read(&path).expect("read").expect("a header").damaged, 1);
        }
    }
}
