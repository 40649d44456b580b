//! Reads the days of this probe's own site, from the folder or the object store of the lake.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use mailqos_config::Config;
use mailqos_lake::{Record, Remote, day_path, read_sorted};
use mailqos_model::SiteName;

use super::{RecordError, place};

/// The days of a site.
pub struct Days {
    folder: PathBuf,
    remote: Option<Remote>,
    site: SiteName,
}

impl Days {
    /// Opens the days of the configured site.
    ///
    /// # Errors
    /// The lake is in an object store that can't be opened.
    pub async fn open(config: &Config) -> Result<Self, RecordError> {
        let (folder, remote) = place(config).await?;
        Ok(Self { folder, remote: remote.map(|(remote, _)| remote), site: config.site.clone() })
    }

    /// Returns the sorted rows of a day, or none if the day does not exist.
    ///
    /// # Errors
    /// The file can't be read, or the object store can't be reached.
    pub async fn read<R: Record>(&self, date: Date) -> Result<Vec<R>, RecordError> {
        let path = day_path::<R>(&self.folder, &self.site, date);
        // A local copy of a day is at least as new as the one in the store.
        let remote = self.remote.as_ref().filter(|_| !path.exists());
        let Some(remote) = remote else {
            return Ok(read_sorted(&path)?);
        };
        let name = day_path::<R>(Path::new(""), &self.site, date);
        let Some((_, bytes)) = remote.get(&name.to_string_lossy()).await? else {
            return Ok(Vec::new());
        };
        let copy = tempfile::NamedTempFile::new()
            .map_err(|source| RecordError::io(&std::env::temp_dir(), source))?;
        std::fs::write(copy.path(), bytes)
            .map_err(|source| RecordError::io(copy.path(), source))?;
        Ok(read_sorted(copy.path())?)
    }
}
