//! Mirrors a lake in an object store into a folder for reading.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, time::Duration};

use mailqos_base::files;
use tokio::task::JoinSet;

use super::{Remote, RemoteError, Version};
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
        let trouble = |path: &Path, error: std::io::Error| RemoteError::Mirror {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        fs::create_dir_all(folder).map_err(|error| trouble(folder, error))?;
        let index = folder.join(VERSIONS);
        let mut held: BTreeMap<String, Version> = fs::read(&index)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let mut mirrored = Mirrored::default();
        let mut there = BTreeMap::new();
        for kind in ["samples", "events"] {
            for object in self.list(kind).await? {
                // A name from outside becomes a path: it must not lead out of the folder.
                let tame = object
                    .name
                    .split('/')
                    .all(|part| !part.is_empty() && part != "." && part != "..");
                if tame && object.name.ends_with(".parquet") && wanted(&object.name) {
                    there.insert(object.name.clone(), object);
                }
            }
        }
        let gone: Vec<String> = held
            .keys()
            .filter(|name| wanted(name) && !there.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            let path = folder.join(&name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(trouble(&path, error));
                }
                _ => held.remove(&name),
            };
            mirrored.removed += 1;
        }
        let mut missing = there
            .into_values()
            .filter(|object| {
                !held.get(&object.name).is_some_and(|held| held.is(&object.version))
                    || !folder.join(&object.name).exists()
            })
            .collect::<Vec<_>>()
            .into_iter();
        let mut fetching = JoinSet::new();
        loop {
            while fetching.len() < AT_ONCE
                && let Some(object) = missing.next()
            {
                let (remote, folder) = (self.clone(), folder.to_owned());
                fetching.spawn(async move {
                    let Some((fetched, bytes)) = remote.get(&object.name).await? else {
                        // The object was deleted after the listing.
                        return Ok(None);
                    };
                    write_whole(&folder, &object.name, &bytes).map_err(|error| {
                        RemoteError::Mirror {
                            path: folder.join(&object.name),
                            reason: error.to_string(),
                        }
                    })?;
                    // The listed version is compared with the next listing: other responses may
                    // have another version, or no time.
                    let same = fetched.is(&object.version) || !fetched.has_tag();
                    let version = if same { object.version } else { fetched };
                    Ok(Some((object.name, version, bytes.len() as u64)))
                });
            }
            match fetching.join_next().await {
                None => break,
                Some(Ok(Ok(Some((name, version, bytes))))) => {
                    held.insert(name, version);
                    mirrored.fetched += 1;
                    mirrored.bytes += bytes;
                }
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(error))) => {
                    // Files that were fetched need not be fetched again.
                    let _ = write_whole(
                        folder,
                        VERSIONS,
                        &serde_json::to_vec(&held).unwrap_or_default(),
                    );
                    return Err(error);
                }
                Some(Err(_)) => {
                    return Err(trouble(
                        folder,
                        std::io::Error::other("a transfer was interrupted"),
                    ));
                }
            }
        }
        sweep(&work_folder(folder));
        let bytes = serde_json::to_vec(&held).map_err(|error| trouble(&index, error.into()))?;
        write_whole(folder, VERSIONS, &bytes).map_err(|error| trouble(&index, error))?;
        Ok(mirrored)
    }
}

/// Result of mirroring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Files that were new or had changed.
    pub fetched: usize,
    /// Total size in bytes.
    pub bytes: u64,
    /// Files that were deleted.
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

/// Removes files of processes that ended while writing; no file takes that long to write.
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
