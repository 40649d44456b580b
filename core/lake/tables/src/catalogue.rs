//! The files of a lake, and anomalies found in them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mailqos_lake::LakeError;

use super::{object::LakeFile, parallel};

/// Rows that are also in another file, by file and monitor: the highest number that any query
/// found.
type Doubles = BTreeMap<PathBuf, BTreeMap<Arc<str>, usize>>;

/// The sample files of a lake, by site and date.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) files: Vec<LakeFile>,
    /// Skip corrupt files instead of failing.
    pub(crate) skip_corrupt: bool,
    /// The files are objects of a store, for which reading threads wait most of the time.
    pub(crate) is_remote: bool,
    pub(crate) skipped: Mutex<BTreeMap<PathBuf, String>>,
    pub(crate) doubles: Mutex<Doubles>,
}

impl Catalogue {
    /// Reads each file with `read`, on all cores, and returns the results by the file's index;
    /// `None` for a corrupt file that is skipped.
    pub(crate) fn in_parallel<T: Send>(
        &self,
        files: &[&LakeFile],
        read: impl Fn(&LakeFile) -> Result<T, LakeError> + Sync,
    ) -> Result<Vec<(usize, Option<T>)>, LakeError> {
        let failed = AtomicBool::new(false);
        let threads = if self.is_remote { parallel::WAITING } else { parallel::threads() };
        let results = parallel::map_on(threads, files, |file| {
            // Work that was not started after a failure is not missing.
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let result = read(file);
            if result.is_err() && !self.skip_corrupt {
                failed.store(true, Ordering::Relaxed);
            }
            Some(result)
        });
        let begun = results.into_iter().enumerate();
        begun
            .filter_map(|(index, result)| Some((index, result?)))
            .map(|(index, result)| match result {
                Ok(result) => Ok((index, Some(result))),
                Err(
                    LakeError::Corrupt { path, reason } | LakeError::Unsupported { path, reason },
                ) if self.skip_corrupt => {
                    self.note_skipped(path, reason);
                    Ok((index, None))
                }
                Err(error) => Err(error),
            })
            .collect()
    }

    pub(crate) fn note_skipped(&self, path: PathBuf, reason: String) {
        if let Ok(mut skipped) = self.skipped.lock() {
            skipped.insert(path, reason);
        }
    }
}
