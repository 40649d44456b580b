//! The bytes of a sample file: those of a local file, or the parts of an object that are needed.

use std::{
    fs::File,
    io::{Cursor, Read, Seek as _, SeekFrom},
    ops::Range,
    time::SystemTime,
};

use bytes::{Buf as _, Bytes};
use mailqos_lake::{LakeError, Object, io_error};
use parquet::{
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        reader::{ChunkReader, Length},
    },
};

use super::object::{LakeFile, corrupt};

/// Largest object in bytes that is read.
const MAX_OBJECT: u64 = 2 * 1024 * 1024 * 1024;
/// The last bytes of a file after its footer: the footer's length and the format's name.
const END: usize = 8;

/// Distinguishes a file from another that replaces it: today's file is replaced while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Number, size and time of a file.
    File(u64, u64, SystemTime),
    /// Version and size of an object.
    Object(String, u64),
}

/// The bytes of a sample file.
#[derive(Debug)]
pub(crate) enum Source {
    File(File),
    Object(Blocks),
}

/// Parts of an object, in memory.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    object: Object,
    /// The parts, each with the position of its first byte.
    parts: Vec<(u64, Bytes)>,
}

impl Source {
    /// Opens a file, or fetches the footer of an object.
    ///
    /// # Errors
    /// The file can't be opened; the store refuses or can't be reached.
    pub(crate) fn open(file: &LakeFile) -> Result<Self, LakeError> {
        let Some(stored) = &file.object else {
            return Ok(Self::File(File::open(&file.path).map_err(io_error(&file.path))?));
        };
        let object = stored.current();
        let size = object.size;
        if size > MAX_OBJECT {
            return Err(LakeError::Unsupported {
                path: file.path.clone(),
                reason: format!("it has {size} bytes; at most {MAX_OBJECT} are read"),
            });
        }
        let guess = stored.footer_size().min(size);
        let start = size - guess;
        let tail = stored.read(&object, std::slice::from_ref(&(start..size)))?;
        let mut tail = (start, tail.into_iter().next().unwrap_or_default());
        let length = tail.1.last_chunk::<END>();
        let length = length.map_or(0, |[a, b, c, d, ..]| u32::from_le_bytes([*a, *b, *c, *d]));
        let needed = u64::from(length) + END as u64;
        // A damaged file may claim any length; the reader reports it.
        if guess < needed && needed <= size {
            let rest = size - needed..start;
            let more = stored.read(&object, std::slice::from_ref(&rest))?;
            // One part, because the footer is read as a whole.
            let whole: Vec<Bytes> = more.into_iter().chain([tail.1]).collect();
            tail = (rest.start, whole.concat().into());
            stored.note_footer(needed);
        }
        Ok(Self::Object(Blocks { object, parts: vec![tail] }))
    }

    /// Fetches some columns of an object's row groups, if they exist; those of a file are read when
    /// they are needed.
    ///
    /// # Errors
    /// The store refuses or can't be reached; the footer is damaged.
    pub(crate) fn load(
        &mut self,
        file: &LakeFile,
        metadata: &ParquetMetaData,
        needed: &[bool],
        columns: &[&str],
    ) -> Result<(), LakeError> {
        let (Self::Object(blocks), Some(stored)) = (self, &file.object) else {
            return Ok(());
        };
        let groups = metadata.row_groups().iter().zip(needed).filter(|(_, needed)| **needed);
        let chunks = groups.flat_map(|(group, _)| group.columns());
        let chunks = chunks.filter(|chunk| columns.iter().any(|name| is_of(chunk, name)));
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for chunk in chunks {
            let starts = [Some(chunk.data_page_offset()), chunk.dictionary_page_offset()];
            let start = starts.into_iter().flatten().min().and_then(|at| u64::try_from(at).ok());
            let length = u64::try_from(chunk.compressed_size()).ok();
            let range = start.zip(length).and_then(|(start, length)| {
                Some(start..start.checked_add(length)?)
                    .filter(|range| range.end <= blocks.object.size)
            });
            let range =
                range.ok_or_else(|| corrupt(file, "its footer refers to bytes beyond its end"))?;
            if blocks.find(range.start, range.end - range.start).is_none() && !range.is_empty() {
                ranges.push(range);
            }
        }
        if ranges.is_empty() {
            return Ok(());
        }
        let found = stored.read(&blocks.object, &ranges)?;
        blocks.parts.extend(ranges.into_iter().map(|range| range.start).zip(found));
        Ok(())
    }

    /// Returns the parts of an object; `None` for a file.
    pub(crate) fn blocks(&self) -> Option<Blocks> {
        match self {
            Self::File(_) => None,
            Self::Object(blocks) => Some(blocks.clone()),
        }
    }

    /// Returns what distinguishes this version of the file from others, if the system knows it.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let file = match self {
            Self::File(file) => file,
            Self::Object(Blocks { object, .. }) => {
                return Some(Identity::Object(object.version.name().to_owned(), object.size));
            }
        };
        let about = file.metadata().ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&about);
        #[cfg(not(unix))]
        let number = 0;
        Some(Identity::File(number, about.len(), about.modified().ok()?))
    }

    /// Returns whether the footer is encrypted: the file then ends with `PARE` instead of `PAR1`.
    pub(crate) fn is_encrypted(&self) -> bool {
        match self {
            Self::File(file) => {
                let mut file: &File = file;
                let mut end = [0; 4];
                let read = file.seek(SeekFrom::End(-4)).and_then(|_| file.read_exact(&mut end));
                let is = read.is_ok() && &end == b"PARE";
                file.rewind().is_ok() && is
            }
            Self::Object(blocks) => {
                blocks.parts.first().is_some_and(|(_, tail)| tail.ends_with(b"PARE"))
            }
        }
    }
}

impl Blocks {
    fn find(&self, start: u64, length: u64) -> Option<Bytes> {
        let length = usize::try_from(length).ok()?;
        self.parts.iter().find_map(|(first, bytes)| {
            let from = usize::try_from(start.checked_sub(*first)?).ok()?;
            let to = from.checked_add(length)?;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        })
    }

    /// Returns the object with zeros in place of what was not fetched, for readers that need a
    /// whole file. Untouched pages of zeros take no memory.
    pub(crate) fn filled(&self) -> Cursor<Vec<u8>> {
        let mut all = vec![0; usize::try_from(self.object.size).unwrap_or(0)];
        for (start, bytes) in &self.parts {
            let start = usize::try_from(*start).unwrap_or(usize::MAX);
            if let Some(place) = all.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len())) {
                place.copy_from_slice(bytes);
            }
        }
        Cursor::new(all)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.metadata().map_or(0, |about| about.len()),
            Self::Object(blocks) => blocks.object.size,
        }
    }
}

impl ChunkReader for Source {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        match self {
            Self::File(file) => Ok(Box::new(file.get_read(start)?)),
            Self::Object(blocks) => {
                let parts = blocks.parts.iter();
                let found = parts.filter_map(|(first, bytes)| {
                    let from = usize::try_from(start.checked_sub(*first)?).ok()?;
                    (from < bytes.len()).then(|| bytes.slice(from..))
                });
                let longest = found.max_by_key(Bytes::len).ok_or_else(absent)?;
                Ok(Box::new(longest.reader()))
            }
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match self {
            Self::File(file) => file.get_bytes(start, length),
            Self::Object(blocks) => blocks.find(start, length as u64).ok_or_else(absent),
        }
    }
}

/// Returns whether a chunk belongs to a column at the top level of the schema.
pub(crate) fn is_of(chunk: &ColumnChunkMetaData, name: &str) -> bool {
    chunk.column_path().parts().first().is_some_and(|root| root == name)
}

fn absent() -> ParquetError {
    ParquetError::EOF("its footer names other bytes than its pages".to_owned())
}
