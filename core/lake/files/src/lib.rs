//! The sample lake: its layout, the columns of samples and events, and reading and writing day
//! files.
//!
//! `<data>/samples/site=<site>/date=<YYYY-MM-DD>/samples.parquet`: one file per day and site,
//! sorted by (`monitor`, `started_at`), replaced atomically and never edited in place. Events are
//! next to it in `<data>/events`. These two trees contain only day files, because polars rejects a
//! folder with files of several extensions, including hidden ones. Locks and incomplete files are
//! in `<data>/.mailqos`, on the same file system.
//!
//! This crate depends on neither the probe nor the analytics.

mod checksum;
mod columns;
mod day_file;
mod error;
mod lock;
mod reader;
mod remote;
pub mod retention;
mod status;
pub mod transcripts;

use std::path::{Path, PathBuf};

use jiff::civil::Date;

pub use checksum::{Intact, intact};
pub use columns::{Cell, Column, Hold, Record};
pub use day_file::{DayWriter, Merged, SealedUpTo};
pub use error::{LakeError, io_error};
pub use lock::{LockError, SiteLock, this_process};
pub use reader::{
    DayReader, Salvaged, merge_into_day, open_sorted, read_day, read_day_bytes, read_sorted,
    rewrite_day, salvage,
};
pub use remote::{
    Cache, Conditions, Fetcher, Habits, Mirrored, Object, Remote, RemoteError, Traffic, Version,
};
pub use status::{
    AcknowledgementStatus, AlarmStatus, ChannelStatus, LastTest, MaintenanceStatus, MonitorState,
    MonitorStatus, ProbeStatus, STATUS_VERSION, Status, StatusError, status_path,
};

use mailqos_config::{Config, DataLocation};
use mailqos_model::{SiteName, UtcMicros};

/// Returns the folder in which this machine's probe writes day files and its status: the lake
/// itself, or, if the lake is in an object store, a folder below the state from which they are
/// uploaded.
pub fn local_folder(config: &Config) -> PathBuf {
    match &config.data {
        DataLocation::Folder(folder) => folder.clone(),
        DataLocation::ObjectStore(_) => config.state.join("lake"),
    }
}

/// Returns the folder of a site's days, of samples or of events.
pub fn site_folder<R: Record>(data: &Path, site: &SiteName) -> PathBuf {
    data.join(R::FOLDER).join(format!("site={site}"))
}

/// Returns the path of a site's day file.
pub fn day_path<R: Record>(data: &Path, site: &SiteName, date: Date) -> PathBuf {
    site_folder::<R>(data, site).join(format!("date={date}")).join(format!("{}.parquet", R::FOLDER))
}

/// Copies a day file durably to the folder of damaged files, under a unique name, and returns the
/// path of the copy. The file itself stays in place.
///
/// # Errors
/// A file can't be read or written, or the copy differs from the file.
pub fn keep_aside<R: Record>(
    data: &Path,
    site: &SiteName,
    date: Date,
) -> Result<PathBuf, LakeError> {
    let path = day_path::<R>(data, site, date);
    let folder = aside_folder(data);
    let error = |path: &Path, source| LakeError::Io { path: path.to_owned(), source };
    std::fs::create_dir_all(&folder).map_err(|source| error(&folder, source))?;
    let moment = UtcMicros::now().0;
    let aside = folder.join(format!("{}.{site}.{date}.{moment}.parquet", R::FOLDER));
    let bytes = std::fs::read(&path).map_err(|source| error(&path, source))?;
    std::fs::write(&aside, &bytes)
        .and_then(|()| std::fs::File::open(&aside)?.sync_all())
        .and_then(|()| mailqos_base::files::sync_folder(&folder))
        .and_then(|()| std::fs::read(&aside))
        .and_then(|copy| {
            let same = copy == bytes;
            same.then_some(())
                .ok_or_else(|| std::io::Error::other("the copy differs from the file"))
        })
        .map_err(|source| error(&aside, source))?;
    Ok(aside)
}

/// Returns the folder of copies of damaged day files.
pub fn aside_folder(data: &Path) -> PathBuf {
    work_folder(data).join("aside")
}

/// Returns the folder of locks and incomplete files.
pub fn work_folder(data: &Path) -> PathBuf {
    data.join(".mailqos")
}
