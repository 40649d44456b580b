//! One writer a site: a lock that the operating system takes back when its holder dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use mailqos_core::model::UtcMicros;

use super::RecordError;

/// The lock of a site, held as long as this lives.
#[derive(Debug)]
pub(super) struct SiteLock {
    _file: File,
}

impl SiteLock {
    /// Takes the lock in `folder`.
    ///
    /// # Errors
    /// [`RecordError::Locked`] names the holder.
    pub(super) fn take(folder: &Path) -> Result<Self, RecordError> {
        let path = folder.join(".lock");
        let error = |source| RecordError::io(&path, source);
        std::fs::create_dir_all(folder).map_err(error)?;
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
                return Err(RecordError::Locked {
                    folder: folder.to_owned(),
                    holder: if holder.trim().is_empty() {
                        "another probe".into()
                    } else {
                        holder.trim().to_owned()
                    },
                });
            }
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        // What stands in the file is for people; a stale text of a crashed probe is overwritten here.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "this host".into());
        let text = format!(
            "process {} on {}, since {}\n",
            std::process::id(),
            host.trim(),
            UtcMicros::now()
        );
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(error)?;
        Ok(Self { _file: file })
    }
}
