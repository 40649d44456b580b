//! The journal: what was recorded and is not yet in a day file. Checksummed entries in segments; a torn tail is tolerated.
//!
//! A segment begins with [`MAGIC`], the journal's name and the position of its first entry; an entry is its length (u32, little
//! endian), the CRC-32 of its bytes (likewise), and its bytes, JSON. Segments are written by one process once, synced in groups,
//! and deleted when day files contain all of their entries. After a start a new segment is begun: what a crash tore is never
//! written behind.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use mailqos_core::model::{Event, Sample};
use serde::{Deserialize, Serialize};

use super::{InFlight, RecordError};

const MAGIC: &[u8; 8] = b"mqosjnl1";
/// Magic, name, position.
const HEADER: usize = 8 + 16 + 8;
/// An entry larger than this was never written.
const MAX_ENTRY: u32 = 1024 * 1024;

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// A test's sample.
    Sample(Box<Sample>),
    /// An event.
    Event(Event),
    /// A mail is about to be sent.
    InFlight(Box<InFlight>),
}

/// Everything that was found in the folder.
#[derive(Debug)]
pub(super) struct Replay {
    /// The journal's name.
    pub(super) name: String,
    /// The position behind the last entry.
    pub(super) position: u64,
    /// The entries with their positions, oldest first.
    pub(super) entries: Vec<(u64, Entry)>,
    /// The segments in which they stand.
    pub(super) segments: Vec<PathBuf>,
}

/// Reads all segments of a folder.
///
/// # Errors
/// The folder or a file can't be read. Damage is no error: what is before it counts, and the segment is named in the log.
pub(super) fn replay(folder: &Path) -> Result<Replay, RecordError> {
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source: std::io::Error| RecordError::io(&path, source)
    };
    std::fs::create_dir_all(folder).map_err(error(folder))?;
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error(folder))? {
        let path = entry.map_err(error(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            segments.push(path);
        }
    }
    segments.sort();
    let mut found = Replay {
        name: String::new(),
        position: 0,
        entries: Vec::new(),
        segments,
    };
    for path in &found.segments {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(error(path))?;
        let Some((name, first)) = header(&bytes) else {
            // A crash between creating the file and syncing its header: nothing in it was acknowledged.
            tracing::warn!(segment = %path.display(), "a journal segment has no whole header; passed over");
            continue;
        };
        if found.name != name {
            found.name = name;
        }
        found.position = found.position.max(first);
        let mut rest = &bytes[HEADER..];
        let mut position = first;
        while let Some((entry, behind)) = next_entry(rest) {
            found.entries.push((position, entry));
            position += 1;
            rest = behind;
        }
        if !rest.is_empty() {
            tracing::warn!(
                segment = %path.display(),
                bytes = rest.len(),
                "a journal segment ends in a torn entry, which was never acknowledged"
            );
        }
        found.position = found.position.max(position);
    }
    if found.name.is_empty() {
        found.name = new_name()?;
    }
    Ok(found)
}

fn header(bytes: &[u8]) -> Option<(String, u64)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (name, rest) = rest.split_at_checked(16)?;
    let position = rest.first_chunk::<8>()?;
    Some((String::from_utf8(name.to_vec()).ok()?, u64::from_le_bytes(*position)))
}

/// The first entry of the bytes and what follows; `None` where there is no whole and undamaged one.
fn next_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length > MAX_ENTRY {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
        return None;
    }
    Some((serde_json::from_slice(payload).ok()?, rest))
}

fn new_name() -> Result<String, RecordError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| RecordError::Random(error.to_string()))?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Behind the last entry that is known to be on disk.
    length: u64,
}

impl Segment {
    /// Begins a segment; it is durable, with its name, when this returns.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn begin(folder: &Path, name: &str, position: u64) -> Result<Self, RecordError> {
        let path = folder.join(format!("{position:020}.journal"));
        let error = |source| RecordError::io(&path, source);
        std::fs::create_dir_all(folder).map_err(error)?;
        // A segment at the same position holds no whole entry, or the position would be higher.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&path).map_err(error)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(format!("{name:0>16.16}").as_bytes());
        header.extend_from_slice(&position.to_le_bytes());
        file.write_all(&header)
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(error)?;
        Ok(Self {
            path,
            file,
            length: HEADER as u64,
        })
    }

    /// Appends entries and syncs them: when this returns they survive everything.
    ///
    /// # Errors
    /// The file system refuses; the segment is then as it was before.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        for entry in entries {
            let payload = serde_json::to_vec(entry).map_err(|error| RecordError::Encode(error.to_string()))?;
            let length = u32::try_from(payload.len())
                .ok()
                .filter(|length| *length <= MAX_ENTRY)
                .ok_or_else(|| RecordError::Encode("the entry is larger than 1 MiB".into()))?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
            bytes.extend_from_slice(&payload);
        }
        // A folder deleted underneath leaves a file without a name: what is written there is lost with the process.
        let written = if self.path.exists() {
            self.file
                .seek(SeekFrom::Start(self.length))
                .and_then(|_| self.file.write_all(&bytes))
                .and_then(|()| self.file.sync_data())
        } else {
            Err(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "the journal segment was deleted underneath",
            ))
        };
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Half an entry must not stand before the next whole one.
                let _ = self.file.set_len(self.length);
                Err(RecordError::io(&self.path, source))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_core::model::{Outcome, UtcMicros};
    use proptest::prelude::*;

    fn entry(at: i64) -> Entry {
        Entry::Sample(Box::new(Sample::new(
            "m".parse().expect("a name"),
            UtcMicros(at),
            Outcome::Ok,
        )))
    }

    fn written(folder: &Path, count: u64) -> PathBuf {
        let mut segment = Segment::begin(folder, "0123456789abcdef", 5).expect("begin");
        for at in 0..count {
            segment.append(&[entry(at as i64)]).expect("append");
        }
        segment.path().to_owned()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_journal_torn_anywhere_keeps_what_is_whole(count in 0u64..6, cut in 0.0f64..1.0) {
            let folder = tempfile::tempdir().expect("folder");
            let path = written(folder.path(), count);
            let whole = std::fs::read(&path).expect("read");
            let kept = (whole.len() as f64 * cut) as usize;
            std::fs::write(&path, &whole[..kept]).expect("write");
            let found = replay(folder.path()).expect("replay");
            let complete = kept.saturating_sub(HEADER) / ((whole.len() - HEADER) / count.max(1) as usize).max(1);
            let expected = if count == 0 || kept < HEADER { 0 } else { complete };
            prop_assert_eq!(found.entries.len(), expected);
            for (index, (position, found)) in found.entries.iter().enumerate() {
                prop_assert_eq!(*position, 5 + index as u64);
                prop_assert_eq!(found, &entry(index as i64));
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 0usize..1000) {
            let folder = tempfile::tempdir().expect("folder");
            let path = written(folder.path(), 1);
            let mut bytes = std::fs::read(&path).expect("read");
            let place = HEADER * 8 + bit % ((bytes.len() - HEADER) * 8);
            bytes[place / 8] ^= 1 << (place % 8);
            std::fs::write(&path, &bytes).expect("write");
            prop_assert!(replay(folder.path()).expect("replay").entries.is_empty());
        }
    }
}
