//! Parts of objects on a local disk, up to a limit of their total size.
//!
//! An entry is an immutable file: `<version of the object>/<first>-<end>`, the bytes followed by
//! their checksum. It is written under another name and renamed, so several processes can share a
//! folder without locks. A reader gets a complete entry or none: an evicted, cut or damaged one is
//! fetched again. Entries of replaced objects are never asked for again, and are evicted like all
//! others: those used least recently first.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use mailqos_base::{hex, lock::IgnorePoison as _};
use sha2::{Digest as _, Sha256};

use super::Object;

/// Length of the checksum after the bytes of an entry.
const CHECKSUM: usize = 4;
/// Uses of an entry are recorded at most this often.
const USED_EVERY: Duration = Duration::from_secs(60);
/// Age of an incomplete entry at which its writer is considered dead.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Name of the folder of incomplete entries.
const INCOMPLETE: &str = "incomplete";
/// The size of a cache is measured again after this share of its limit was written: other processes
/// write, too.
const MEASURED_EVERY: u64 = 16;

/// Number of the next incomplete entry of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Parts of objects in a folder.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Largest total size in bytes.
    limit: u64,
    /// Bytes that may be written before the size is measured again.
    left: Mutex<u64>,
    has_failed: AtomicBool,
}

/// A file of the cache.
struct Entry {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

impl Cache {
    /// Returns a cache in a folder, which needn't exist yet, with a limit of its total size in
    /// bytes. Without a limit above zero, nothing is kept.
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit, left: Mutex::new(0), has_failed: AtomicBool::new(false) }
    }

    /// Returns the folder of the entries of a version of an object.
    fn of(&self, address: &str, object: &Object) -> PathBuf {
        let mut digest = Sha256::new();
        for part in [address, &object.name, object.version.name(), &object.size.to_string()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        self.folder.join(hex(&digest.finalize()[..16]))
    }

    /// Returns the bytes of each range, `None` where they are not in the cache.
    pub(super) fn read(
        &self,
        address: &str,
        object: &Object,
        ranges: &[Range<u64>],
    ) -> Vec<Option<Bytes>> {
        let mut found = vec![None; ranges.len()];
        if self.limit == 0 {
            return found;
        }
        let folder = self.of(address, object);
        for held in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = held.file_name();
            let Some(held) = name.to_str().and_then(parsed) else { continue };
            let asked = |(range, found): &(&Range<u64>, &mut Option<Bytes>)| {
                found.is_none() && held.start <= range.start && range.end <= held.end
            };
            let mut bytes: Option<Bytes> = None;
            for (range, found) in ranges.iter().zip(&mut found).filter(asked) {
                if bytes.is_none() {
                    bytes = entry(&folder.join(&name), held.end - held.start);
                }
                let Some(bytes) = &bytes else { break };
                let place = |at: u64| usize::try_from(at - held.start).unwrap_or(usize::MAX);
                *found = Some(bytes.slice(place(range.start)..place(range.end)));
            }
        }
        found
    }

    /// Keeps a part of an object. A cache that can't be written is reported once, and only costs
    /// transfers.
    pub(super) fn write(&self, address: &str, object: &Object, start: u64, bytes: &Bytes) {
        let size = bytes.len() as u64;
        if size == 0 || size > self.limit {
            return;
        }
        let path = self.of(address, object).join(format!("{start}-{}", start + size));
        if let Err(error) = self.put(&path, bytes)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(path = %path.display(), %error, "the cache of the object store can't be written");
        }
        let is_due = {
            let mut left = self.left.lock().ignore_poison();
            let is_due = *left < size;
            *left = if is_due { self.limit / MEASURED_EVERY } else { *left - size };
            is_due
        };
        if is_due {
            self.evict();
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let incomplete = self.folder.join(INCOMPLETE);
        fs::create_dir_all(&incomplete)?;
        let temporary = incomplete.join(format!("{}.{number}", std::process::id()));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.write_all(&crc32fast::hash(bytes).to_le_bytes())?;
            drop(file);
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder)?;
            match fs::rename(&temporary, path) {
                // The folder was evicted between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(folder)?;
                    fs::rename(&temporary, path)
                }
                moved => moved,
            }
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the entries used least recently until the rest is below the limit, with a margin for
    /// what is written until the size is measured again. Others may do the same at the same time.
    fn evict(&self) {
        let mut entries = Vec::new();
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_incomplete = folder.file_name() == INCOMPLETE;
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let Ok(about) = file.metadata() else { continue };
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                if !is_incomplete {
                    entries.push(Entry { path: file.path(), size: about.len(), used });
                } else if used.elapsed().is_ok_and(|age| age > ABANDONED) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        let mut size: u64 = entries.iter().map(|entry| entry.size).sum();
        let goal = self.limit - self.limit / MEASURED_EVERY;
        if size <= goal {
            return;
        }
        entries.sort_by_key(|entry| entry.used);
        for entry in entries {
            if size <= goal {
                return;
            }
            // On Windows, an entry that is being read can't be removed.
            if fs::remove_file(&entry.path).is_ok() {
                size -= entry.size;
            }
            // Fails as long as it has other entries.
            let _ = entry.path.parent().map(fs::remove_dir);
        }
    }
}

/// Returns the range in the name of an entry.
fn parsed(name: &str) -> Option<Range<u64>> {
    let (start, end) = name.split_once('-')?;
    let range = start.parse().ok()?..end.parse().ok()?;
    (range.start < range.end).then_some(range)
}

/// Returns the bytes of an entry, and records that it was used; `None` if it is gone or damaged.
fn entry(path: &Path, size: u64) -> Option<Bytes> {
    let mut file = File::open(path).ok()?;
    let size = usize::try_from(size).ok()?;
    let about = file.metadata().ok()?;
    let mut bytes = Vec::new();
    if about.len() == (size + CHECKSUM) as u64 {
        bytes.reserve_exact(size + CHECKSUM);
        (&mut file).take(about.len()).read_to_end(&mut bytes).ok()?;
    }
    let sum = bytes.split_off(size.min(bytes.len()));
    if bytes.len() != size || sum != crc32fast::hash(&bytes).to_le_bytes() {
        // A crash of the machine, or a failing disk.
        let _ = fs::remove_file(path);
        return None;
    }
    let is_old = about.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > USED_EVERY));
    if is_old {
        let _ = file.set_modified(SystemTime::now());
    }
    Some(bytes.into())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "reading single ranges")]
mod tests {
    use super::{super::Version, *};

    fn object(name: &str, tag: &str, size: u64) -> Object {
        let version = Version { e_tag: Some(tag.to_owned()), ..Version::default() };
        Object { name: name.to_owned(), version, size }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let folders = fs::read_dir(folder).expect("list").flatten();
        let each = folders.flat_map(|folder| fs::read_dir(folder.path()).expect("list").flatten());
        each.map(|file| file.path()).collect()
    }

    #[test]
    fn parts_of_entries_are_found_and_other_versions_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path().join("parts"), 1_000);
        let a = object("a", "1", 100);
        cache.write("s3://b", &a, 10, &Bytes::from_static(b"0123456789"));
        let read =
            |address, object: &Object, range| cache.read(address, object, &[range]).remove(0);
        assert_eq!(read("s3://b", &a, 12..15), Some(Bytes::from_static(b"234")));
        assert_eq!(read("s3://b", &a, 10..20), Some(Bytes::from_static(b"0123456789")));
        for range in [9..12, 15..21, 40..50] {
            assert_eq!(read("s3://b", &a, range), None);
        }
        assert_eq!(read("s3://b", &object("a", "2", 100), 12..15), None);
        assert_eq!(read("s3://b", &object("b", "1", 100), 12..15), None);
        assert_eq!(read("s3://c", &a, 12..15), None);
    }

    #[test]
    fn a_cut_or_damaged_entry_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path().to_owned(), 1_000);
        let a = object("a", "1", 100);
        let damages: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes.truncate(9),
            |bytes| bytes[3] ^= 1,
            // What a file system may leave after a loss of power.
            |bytes| bytes.fill(0),
        ];
        for damage in damages {
            cache.write("", &a, 0, &Bytes::from_static(b"0123456789"));
            let file = files(folder.path()).remove(0);
            let mut bytes = fs::read(&file).expect("read");
            damage(&mut bytes);
            fs::write(&file, bytes).expect("write");
            assert_eq!(cache.read("", &a, &[0..10]), [None]);
            assert!(!file.exists());
        }
    }

    #[test]
    fn the_least_recently_used_entries_are_evicted() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(folder.path().to_owned(), 1_600);
        let long_ago = SystemTime::now() - Duration::from_secs(7_200);
        let of = |number: u64| object(&number.to_string(), "1", 100);
        for number in 0..10 {
            cache.write("", &of(number), 0, &Bytes::from(vec![1; 100]));
            let at = long_ago + Duration::from_secs(number);
            for file in files(folder.path()) {
                let file = File::options().append(true).open(file).expect("open");
                if file
                    .metadata()
                    .expect("known")
                    .modified()
                    .expect("known")
                    .elapsed()
                    .expect("past")
                    < USED_EVERY
                {
                    file.set_modified(at).expect("set");
                }
            }
        }
        // The first one is used again, so the second one is the oldest.
        assert!(cache.read("", &of(0), &[0..100])[0].is_some());
        for number in 10..20 {
            cache.write("", &of(number), 0, &Bytes::from(vec![1; 100]));
        }
        let size: u64 =
            files(folder.path()).iter().map(|file| file.metadata().expect("known").len()).sum();
        assert!((800..=1_600).contains(&size), "{size}");
        let held = |number| cache.read("", &of(number), &[0..100])[0].is_some();
        assert!(held(0) && !held(1) && held(19));
        // Not even one entry: larger than the limit.
        let none = Cache::new(folder.path().join("none"), 0);
        none.write("", &of(0), 0, &Bytes::from_static(b"1"));
        assert!(!folder.path().join("none").exists());
    }

    #[test]
    fn several_processes_may_write_read_and_evict_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                // Each has its own view of the folder, like a process.
                scope.spawn(|| {
                    let cache = Cache::new(folder.path().to_owned(), 3_000);
                    for round in 0..300_u64 {
                        let of = object(&(round % 17).to_string(), "1", 200);
                        let bytes = Bytes::from(vec![(round % 17) as u8; 200]);
                        cache.write("", &of, 0, &bytes);
                        let found = cache.read("", &of, &[0..200]).remove(0);
                        assert!(found.is_none_or(|found| found == bytes));
                    }
                });
            }
        });
        let cache = Cache::new(folder.path().to_owned(), 3_000);
        cache.evict();
        let held = fs::read_dir(folder.path()).expect("list").flatten();
        let held = held.filter(|held| held.file_name() != INCOMPLETE);
        let files = held.flat_map(|held| fs::read_dir(held.path()).expect("list").flatten());
        assert!(files.map(|file| file.metadata().expect("known").len()).sum::<u64>() <= 3_000);
    }
}
