//! Mirrors a lake in an object store to a local folder for reading.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, time::Duration};

use mailqos_base::files;
use tokio::task::JoinSet;

use super::{Object, Remote, RemoteError, Version};
use crate::work_folder;

/// Age of an incomplete file of a mirror at which its writer is considered dead.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Number of objects that are fetched at the same time.
const AT_ONCE: usize = 8;
/// Name of the file that lists the versions of objects in a mirror.
const VERSIONS: &str = "versions.json";

impl Remote {
    /// Updates a folder to the `wanted` objects of the store: fetches new and changed ones and
    /// removes deleted ones. Each file is replaced atomically, so that readers never see a partial
    /// one.
    ///
    /// # Errors
    /// The store refuses or can't be reached; the folder can't be written.
    pub async fn mirror(
        &self,
        folder: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Mirrored, RemoteError> {
        fs::create_dir_all(folder).map_err(trouble(folder))?;
        let index = folder.join(VERSIONS);
        let mut held: BTreeMap<String, Version> = files::read_state(&index)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let there = self.day_files(&wanted).await?;
        let mut mirrored = Mirrored {
            removed: remove_gone(folder, &mut held, |name| {
                wanted(name) && !there.contains_key(name)
            })?,
            ..Mirrored::default()
        };
        let missing = there.into_values().filter(|object| {
            !held.get(&object.name).is_some_and(|held| held.is(&object.version))
                || !folder.join(&object.name).exists()
        });
        let missing: Vec<Object> = missing.collect();
        let note = |name, version, bytes| {
            held.insert(name, version);
            mirrored.fetched += 1;
            mirrored.bytes += bytes;
        };
        let fetched = self.fetch_all(folder, missing, note).await;
        if let Err(error) = fetched {
            // Fetched files need not be fetched again after an interruption.
            let bytes = serde_json::to_vec(&held).unwrap_or_default();
            let _ = write_whole(folder, VERSIONS, &bytes);
            return Err(error);
        }
        sweep(&work_folder(folder));
        let bytes =
            serde_json::to_vec(&held).map_err(std::io::Error::from).map_err(trouble(&index))?;
        write_whole(folder, VERSIONS, &bytes).map_err(trouble(&index))?;
        Ok(mirrored)
    }

    /// Lists the wanted day files of the store by their names.
    async fn day_files(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Object>, RemoteError> {
        let mut there = BTreeMap::new();
        for kind in ["samples", "events"] {
            for object in self.list(kind).await? {
                // Object names become paths, so reject names that lead outside the folder.
                let tame = object
                    .name
                    .split('/')
                    .all(|part| !part.is_empty() && part != "." && part != "..");
                if tame && object.name.ends_with(".parquet") && wanted(&object.name) {
                    there.insert(object.name.clone(), object);
                }
            }
        }
        Ok(there)
    }

    /// Fetches objects into a folder, several at a time; `done` gets the name, the version and the
    /// size of each.
    async fn fetch_all(
        &self,
        folder: &Path,
        objects: Vec<Object>,
        mut done: impl FnMut(String, Version, u64),
    ) -> Result<(), RemoteError> {
        let mut objects = objects.into_iter();
        let mut fetching = JoinSet::new();
        loop {
            while fetching.len() < AT_ONCE
                && let Some(object) = objects.next()
            {
                let (remote, folder) = (self.clone(), folder.to_owned());
                fetching.spawn(async move { remote.fetch(&folder, object).await });
            }
            match fetching.join_next().await {
                None => return Ok(()),
                Some(Ok(Ok(Some((name, version, bytes))))) => done(name, version, bytes),
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(_)) => {
                    let error = std::io::Error::other("a transfer was interrupted");
                    return Err(trouble(folder)(error));
                }
            }
        }
    }

    /// Fetches an object into a folder; `None` if it was removed since the listing.
    async fn fetch(
        &self,
        folder: &Path,
        object: Object,
    ) -> Result<Option<(String, Version, u64)>, RemoteError> {
        let Some((fetched, bytes)) = self.get(&object.name).await? else {
            return Ok(None);
        };
        write_whole(folder, &object.name, &bytes).map_err(trouble(&folder.join(&object.name)))?;
        // Store the version from the listing, because the next listing is compared with it: other
        // responses may include a version but no time.
        let same = fetched.is(&object.version) || !fetched.has_tag();
        let version = if same { object.version } else { fetched };
        Ok(Some((object.name, version, bytes.len() as u64)))
    }
}

/// Returns a function that adds the file or folder to an error.
fn trouble(path: &Path) -> impl Fn(std::io::Error) -> RemoteError {
    move |error| RemoteError::Mirror { path: path.to_owned(), reason: error.to_string() }
}

/// Removes files whose objects were deleted from the store; returns their number.
fn remove_gone(
    folder: &Path,
    held: &mut BTreeMap<String, Version>,
    is_gone: impl Fn(&str) -> bool,
) -> Result<usize, RemoteError> {
    let gone: Vec<String> = held.keys().filter(|name| is_gone(name)).cloned().collect();
    for name in &gone {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(trouble(&path)(error));
            }
            _ => held.remove(name),
        };
    }
    Ok(gone.len())
}

/// Result of mirroring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Files that were new or had changed.
    pub fetched: usize,
    /// Total size in bytes.
    pub bytes: u64,
    /// Number of deleted files.
    pub removed: usize,
}

/// Replaces a file of a mirror. It is written to the lake's work folder first, so that the trees
/// contain only day files at any time. Each process uses a separate file there.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let (path, work) = (folder.join(name), work_folder(folder));
    fs::create_dir_all(path.parent().unwrap_or(folder))?;
    fs::create_dir_all(&work)?;
    let temporary = work.join(format!("{}.{}.fetched", name.replace('/', "."), std::process::id()));
    files::swap(&path, &temporary, files::Access::Umask, |file| file.write_all(bytes))
}

/// Removes incomplete files of dead processes, which have not been written for [`ABANDONED`].
fn sweep(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified());
        let is_left = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
        if is_left && entry.path().extension().is_some_and(|ending| ending == "fetched") {
            // The next update tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}
