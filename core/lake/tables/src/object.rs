//! Sample files and event files that are objects of a store.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use jiff::civil::Date;
use mailqos_lake::{Fetcher, LakeError, Object, RemoteError};

use super::folders::{is_copy, is_day_file, unescaped};

/// Size in bytes of the end of an object that is fetched first, for its footer. It grows when a
/// larger footer is found.
const MIN_FOOTER: u64 = 16 * 1024;
/// How often a read is repeated because the object was replaced meanwhile. A probe replaces today's
/// file every few minutes.
const MAX_RENEWALS: usize = 5;

/// A sample file.
#[derive(Debug, Clone)]
pub(crate) struct LakeFile {
    pub(crate) site: Arc<str>,
    pub(crate) date: Date,
    /// Its path, or its address.
    pub(crate) path: PathBuf,
    /// The object, if the lake is in an object store.
    pub(crate) object: Option<Arc<LakeObject>>,
}

impl LakeFile {
    /// Returns what distinguishes its version from others. A file that can't be looked up has an
    /// empty version, which no existing file has.
    pub(crate) fn version(&self) -> String {
        if let Some(object) = &self.object {
            let current = object.current();
            return format!("{} {}", current.size, current.version.name());
        }
        let about = std::fs::metadata(&self.path).ok();
        let version = about.and_then(|about| {
            let modified = about.modified().ok()?;
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(format!("{} {}", about.len(), since.as_nanos()))
        });
        version.unwrap_or_default()
    }
}

pub(crate) fn corrupt(file: &LakeFile, reason: impl ToString) -> LakeError {
    LakeError::Corrupt { path: file.path.clone(), reason: reason.to_string() }
}

/// A file of a lake in an object store.
#[derive(Debug)]
pub(crate) struct LakeObject {
    fetcher: Arc<Fetcher>,
    current: Mutex<Object>,
    /// Size of the largest footer so far, in bytes.
    footer: Arc<AtomicU64>,
}

impl LakeObject {
    /// Returns the version to read.
    pub(crate) fn current(&self) -> Object {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the probable size of the footer.
    pub(crate) fn footer_size(&self) -> u64 {
        self.footer.load(Ordering::Relaxed)
    }

    /// Records the size of a footer, with some room for slightly larger ones.
    pub(crate) fn note_footer(&self, size: u64) {
        self.footer.fetch_max(size + size / 16, Ordering::Relaxed);
    }

    /// Returns ranges of a version.
    pub(crate) fn read(
        &self,
        object: &Object,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, LakeError> {
        Ok(self.fetcher.read(object, ranges)?)
    }

    /// Returns all bytes of the current version.
    pub(crate) fn whole(&self) -> Result<Bytes, LakeError> {
        let object = self.current();
        let whole = self.read(&object, std::slice::from_ref(&(0..object.size)))?;
        Ok(whole.into_iter().next().unwrap_or_default())
    }

    /// Continues with the version that has replaced the current one.
    fn renew(&self) -> Result<(), LakeError> {
        let name = self.current().name;
        let Some(object) = self.fetcher.head(&name)? else {
            return Err(LakeError::Remote(RemoteError::Store {
                address: format!("{}/{name}", self.fetcher.address()),
                reason: "the store lists this object but does not have it; it was deleted, or the listing is \
                         out of date: try again"
                    .to_owned(),
                status: Some(404),
            }));
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = object;
        Ok(())
    }
}

/// Reads a file again from the start if it is an object that was replaced meanwhile.
pub(crate) fn renewed<T>(
    file: &LakeFile,
    read: impl Fn() -> Result<T, LakeError>,
) -> Result<T, LakeError> {
    if let Some(object) = &file.object {
        for _ in 0..MAX_RENEWALS {
            match read() {
                Err(LakeError::Remote(RemoteError::Changed(_))) => object.renew()?,
                found => return found,
            }
        }
    }
    read()
}

/// Returns the day files among the objects of a folder of a lake, such as `samples`, by site, date
/// and name, and the addresses of those that were skipped because of their names.
pub(crate) fn day_files(
    fetcher: &Arc<Fetcher>,
    folder: &str,
    objects: Vec<Object>,
) -> (Vec<LakeFile>, Vec<PathBuf>) {
    let footer = Arc::new(AtomicU64::new(MIN_FOOTER));
    let (mut named, mut passed_over) = (Vec::new(), BTreeSet::new());
    for object in objects {
        let mut parts = object.name.split('/');
        let (first, site, date) = (parts.next(), parts.next(), parts.next());
        let file = parts.next().filter(|_| parts.next().is_none());
        let site = site.and_then(|site| site.strip_prefix("site=")).map(unescaped);
        let date = date.and_then(|date| date.strip_prefix("date=")).map(unescaped);
        let (Some(site), Some(date), Some(file)) = (site, date, file) else { continue };
        if first == Some(folder) && is_day_file(Path::new(file)) {
            named.push((site, date, object));
        }
    }
    let names: BTreeSet<String> = named.iter().map(|(site, ..)| site.clone()).collect();
    let mut files = Vec::new();
    for (site, date, object) in named {
        let path = PathBuf::from(format!("{}/{}", fetcher.address(), object.name));
        let skipped = |above: usize| path.ancestors().nth(above).map(Path::to_owned);
        if is_copy(&site, &names) {
            passed_over.extend(skipped(2));
            continue;
        }
        let Ok(date) = date.parse::<Date>() else {
            passed_over.extend(skipped(1));
            continue;
        };
        let (fetcher, footer) = (Arc::clone(fetcher), Arc::clone(&footer));
        let object = Some(Arc::new(LakeObject { fetcher, current: Mutex::new(object), footer }));
        files.push(LakeFile { site: site.into(), date, path, object });
    }
    files.sort_by(|a, b| (&a.site, a.date, &a.path).cmp(&(&b.site, b.date, &b.path)));
    (files, passed_over.into_iter().collect())
}
