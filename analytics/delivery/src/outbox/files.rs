//! Private files of the outbox, and why the outbox can't be used.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Why the outbox can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A file system operation failed.
    #[error("the outbox: {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An order can't be read.
    #[error("the outbox: {path} is not a valid delivery record: {reason}", path = path.display())]
    Order {
        /// The order's file.
        path: PathBuf,
        /// Why it can't be read.
        reason: String,
    },
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> OutboxError + use<> {
    let path = path.to_owned();
    move |source| OutboxError::Io { path, source }
}

pub(super) fn owner_only(options: &mut fs::OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}

pub(super) fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Writes a file that only this user can read. An existing file is overwritten in place and then
/// truncated, so that its space on disk is used.
pub(super) fn private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    owner_only(&mut options);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Replaces a small state file as a whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let owner = mailqos_base::files::Access::Owner;
    mailqos_base::files::replace(path, &temporary, owner, |file| file.write_all(bytes))
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    mailqos_base::files::sync_folder(folder)
}
