//! Checksums of day files verify that every byte is as this program wrote it. Files of other
//! writers have no checksum and only the guarantees of Parquet.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

use mailqos_base::hex;
use parquet::file::{reader::FileReader as _, serialized_reader::SerializedFileReader};
use sha2::{Digest as _, Sha256};

use super::error::{LakeError, VERSION_KEY, io_error};

/// Metadata key of the checksum: SHA-256 over the whole file, with [`UNSEALED`] in place of the
/// checksum.
pub(super) const CHECKSUM_KEY: &str = "mailqos.sha256";
/// Placeholder of the checksum while it is computed.
pub(super) const UNSEALED: [u8; 64] = [b'0'; 64];
/// First column version whose files have a checksum.
const CHECKSUM_SINCE: u32 = 2;
/// Prefix of the writer's name in files that this program wrote.
const OURS: &str = "mailqos ";

/// Computes the checksum of an otherwise complete file, inserts it, and makes the file durable.
pub(super) fn write_checksum(path: &Path) -> std::io::Result<()> {
    let bytes = std::fs::read(path)?;
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    if let Some(place) = checksum_place(&bytes) {
        file.seek(SeekFrom::Start(place.start as u64))?;
        file.write_all(checksum(&bytes, &place).as_bytes())?;
    }
    file.sync_all()
}

/// Returns the position of the checksum: in the footer, after its key.
fn checksum_place(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let tail = bytes.len().checked_sub(8)?;
    let length = u32::from_le_bytes(bytes[tail..tail + 4].try_into().ok()?);
    let footer = tail.checked_sub(usize::try_from(length).ok()?)?;
    let key = CHECKSUM_KEY.as_bytes();
    let at = bytes[footer..tail].windows(key.len()).position(|window| window == key)?;
    // Between the key and the checksum is the Thrift header of a string: its field and its length.
    let behind = footer + at + key.len();
    let start = (behind..behind + 8).find(|start| {
        let digits = bytes.get(*start..start + UNSEALED.len());
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })?;
    Some(start..start + UNSEALED.len())
}

fn checksum(bytes: &[u8], place: &std::ops::Range<usize>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(&bytes[..place.start]);
    hasher.update(UNSEALED);
    hasher.update(&bytes[place.end..]);
    hex(&hasher.finalize())
}

/// Result of checking a file's checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intact {
    /// Every byte is as this program wrote it.
    Yes,
    /// This program wrote the file, and a byte has changed since.
    No,
    /// The file was written before checksums were introduced.
    Unknown,
    /// Another program wrote it. A checksum in it was copied from the source file.
    Foreign,
}

/// Reads a whole day file and compares its checksum.
///
/// # Errors
/// The file can't be read.
pub fn intact(path: &Path) -> Result<Intact, LakeError> {
    let bytes = std::fs::read(path).map_err(io_error(path))?;
    let place = checksum_place(&bytes);
    if let Some(place) = &place
        && checksum(&bytes, place).as_bytes() == &bytes[place.clone()]
    {
        return Ok(Intact::Yes);
    }
    // Another program encrypted the footer (Parquet format, "Encryption", magic PARE).
    if bytes.ends_with(b"PARE") {
        return Ok(Intact::Foreign);
    }
    drop(bytes);
    let file = File::open(path).map_err(io_error(path))?;
    // A damaged footer may make the decoder panic.
    let read = std::panic::catch_unwind(move || SerializedFileReader::new(file).ok());
    let Ok(Some(reader)) = read else {
        return Ok(Intact::No);
    };
    let is_ours = reader.metadata().file_metadata().created_by().is_none_or(is_our_name);
    Ok(match (is_ours, place, version(&reader)) {
        (false, ..) => Intact::Foreign,
        (true, None, Some(version)) if version < CHECKSUM_SINCE => Intact::Unknown,
        _ => Intact::No,
    })
}

/// Returns whether a writer's name is ours, even with a damaged character: no other program has a
/// similar name.
pub(super) fn is_our_name(writer: &str) -> bool {
    let same = writer.bytes().zip(OURS.bytes()).filter(|(a, b)| a == b).count();
    same + 2 > OURS.len()
}

/// Returns the column version of a file.
fn version(reader: &SerializedFileReader<File>) -> Option<u32> {
    let metadata = reader.metadata().file_metadata().key_value_metadata()?;
    let value = metadata.iter().find(|pair| pair.key == VERSION_KEY)?.value.as_ref()?;
    value.parse().ok()
}
