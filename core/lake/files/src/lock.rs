//! A lock that allows one writer per site. The operating system releases it when its holder dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use mailqos_base::files;
use mailqos_model::{SiteName, UtcMicros};

use super::work_folder;

/// Reasons why a site's lock is not available.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LockError {
    /// Another process writes days of this site.
    #[error("the samples of site {site} in {data} are being written by {holder}", data = data.display())]
    Held {
        /// Folder of the lake.
        data: PathBuf,
        /// The site.
        site: SiteName,
        /// Holder of the lock: process, host and start time.
        holder: String,
    },
    /// The file system does not support locks, or can't grant one.
    #[error(
        "{path}: this file system does not support locks ({source}), which prevent a second probe from writing \
         the same days; move data to a local disk or an object store, or enable locks on the file server (NFS: \
         the lock service, or version 4; CIFS: mount without nobrl; local to one machine: the mount option \
         local_lock=flock)",
        path = path.display()
    )]
    Unsupported {
        /// Path of the lock file.
        path: PathBuf,
        /// The system's error.
        source: std::sync::Arc<std::io::Error>,
    },
    /// A file system operation failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::sync::Arc<std::io::Error>,
    },
}

/// The lock of a site, held until this is dropped.
#[derive(Debug)]
pub struct SiteLock {
    data: PathBuf,
    site: SiteName,
    file: File,
}

impl SiteLock {
    /// Takes the lock of a site in the lake at `data`. The lock of a crashed process is released
    /// automatically.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn take(data: &Path, site: &SiteName) -> Result<Self, LockError> {
        let folder = work_folder(data);
        let path = folder.join(format!("{site}.lock"));
        let error =
            |source: std::io::Error| LockError::Io { path: path.clone(), source: source.into() };
        std::fs::create_dir_all(&folder).map_err(error)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&mut file).take(500).read_to_string(&mut holder);
                return Err(LockError::Held {
                    data: data.to_owned(),
                    site: site.clone(),
                    holder: match holder.trim() {
                        "" => "another process".into(),
                        holder => holder.to_owned(),
                    },
                });
            }
            Err(TryLockError::Error(source)) if files::gives_no_locks(&source) => {
                return Err(LockError::Unsupported { path, source: source.into() });
            }
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        // The content of the file is informational; the stale text of a crashed process is
        // overwritten here.
        let text = format!("{}, since {}\n", this_process(), UtcMicros::now());
        // A full disk must not keep a probe from starting: without the text, the holder is unnamed
        // but still holds the lock.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { data: data.to_owned(), site: site.clone(), file })
    }

    /// Takes the lock again if its file was deleted, because another process would then not find it
    /// and start to write. Returns whether the file was deleted.
    ///
    /// # Errors
    /// [`LockError::Held`]: another process has already taken it.
    pub fn keep(&mut self) -> Result<bool, LockError> {
        let gone = !self.is_there();
        if gone {
            *self = Self::take(&self.data, &self.site)?;
        }
        Ok(gone)
    }

    /// Removes incomplete files left by killed writers of this site. No other process is writing at
    /// this time.
    ///
    /// # Errors
    /// The file system rejects the operation.
    pub fn sweep(&self) -> Result<(), LockError> {
        let folder = work_folder(&self.data);
        let error =
            |source: std::io::Error| LockError::Io { path: folder.clone(), source: source.into() };
        for entry in std::fs::read_dir(&folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".new") && name.contains(&format!(".{}.", self.site)) {
                std::fs::remove_file(&path).map_err(error)?;
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn is_there(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let named = std::fs::metadata(work_folder(&self.data).join(format!("{}.lock", self.site)));
        match (named, self.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            (Err(error), _) => error.kind() != std::io::ErrorKind::NotFound,
            _ => true,
        }
    }

    #[cfg(not(unix))]
    fn is_there(&self) -> bool {
        work_folder(&self.data).join(format!("{}.lock", self.site)).exists()
    }
}

/// Returns a readable name of this process: `process 12 on probe1`.
pub fn this_process() -> String {
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "this host".into());
    format!("process {} on {}", std::process::id(), host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_its_holder_and_is_released_with_it() {
        let data = tempfile::tempdir().expect("folder");
        let site: SiteName = "here".parse().expect("a name");
        let held = SiteLock::take(data.path(), &site).expect("free");
        let refused = SiteLock::take(data.path(), &site).expect_err("held").to_string();
        assert!(refused.contains(&format!("process {} on ", std::process::id())), "{refused}");
        SiteLock::take(data.path(), &"there".parse().expect("a name"))
            .expect("another site is free");
        let left = work_folder(data.path()).join("samples.here.2026-01-01.new");
        let theirs = work_folder(data.path()).join("samples.there.2026-01-01.new");
        std::fs::write(&left, "half").expect("write");
        std::fs::write(&theirs, "half").expect("write");
        held.sweep().expect("swept");
        assert!(!left.exists() && theirs.exists());
        // Deleting the folder does not give the lock to another process.
        std::fs::remove_dir_all(work_folder(data.path())).expect("remove");
        let mut held = held;
        held.keep().expect("taken again");
        held.keep().expect("still there");
        SiteLock::take(data.path(), &site).expect_err("held");
        drop(held);
        // The file with the former holder's text still exists: only the lock counts.
        SiteLock::take(data.path(), &site).expect("free again");
    }
}
