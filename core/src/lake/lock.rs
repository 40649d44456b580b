//! One writer a site: a lock that the operating system takes back when its holder dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::work_folder;
use crate::model::{SiteName, UtcMicros};

/// Why a site's lock can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LockError {
    /// Somebody else writes this site's days.
    #[error("the samples of site {site} in {data} are written by {holder}", data = data.display())]
    Held {
        /// The lake.
        data: PathBuf,
        /// The site.
        site: SiteName,
        /// Who holds the lock: process, host, since when.
        holder: String,
    },
    /// The file system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::sync::Arc<std::io::Error>,
    },
}

/// The lock of a site, held as long as this lives.
#[derive(Debug)]
pub struct SiteLock {
    _file: File,
}

impl SiteLock {
    /// Takes the lock of a site in the lake at `data`. One that a crashed process held is free.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn take(data: &Path, site: &SiteName) -> Result<Self, LockError> {
        let folder = work_folder(data);
        let path = folder.join(format!("{site}.lock"));
        let error = |source: std::io::Error| LockError::Io {
            path: path.clone(),
            source: source.into(),
        };
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
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        // What stands in the file is for people; the stale text of a crashed process is overwritten here.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "this host".into());
        let text = format!(
            "process {} on {}, since {}\n",
            std::process::id(),
            host.trim(),
            UtcMicros::now()
        );
        // A full disk must not keep a probe from starting: without a text the holder has no name, but is the holder.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_its_holder_and_is_free_when_the_holder_is_gone() {
        let data = tempfile::tempdir().expect("folder");
        let site: SiteName = "here".parse().expect("a name");
        let held = SiteLock::take(data.path(), &site).expect("free");
        let refused = SiteLock::take(data.path(), &site).expect_err("held").to_string();
        assert!(
            refused.contains(&format!("process {} on ", std::process::id())),
            "{refused}"
        );
        SiteLock::take(data.path(), &"there".parse().expect("a name")).expect("another site is free");
        drop(held);
        // The file with the text of the former holder is still there: only the lock counts.
        SiteLock::take(data.path(), &site).expect("free again");
    }
}
