//! Folders of a lake, named `key=value`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use mailqos_lake::{LakeError, io_error};

/// Lists the contents of a folder by name; nothing if the folder doesn't exist.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, LakeError> {
    let found = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(io_error(folder))?,
    };
    let paths = found.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(io_error(folder))?;
    // Independent of the file system's order: of equal timestamps, the first one listed is shown
    // first.
    paths.sort();
    Ok(paths)
}

/// Returns whether a file is a day file: its name ends with `.parquet` and does not mark it as
/// hidden or temporary.
pub(crate) fn is_day_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".parquet") && !name.starts_with(['.', '_'])
}

/// Returns the `key=value` folders in a folder, by value.
pub(crate) fn partitions(folder: &Path, key: &str) -> Result<Vec<(String, PathBuf)>, LakeError> {
    Ok(entries(folder)?
        .into_iter()
        .filter_map(|path| {
            let value =
                unescaped(path.file_name()?.to_str()?.strip_prefix(key)?.strip_prefix('=')?);
            path.is_dir().then_some((value, path))
        })
        .collect())
}

/// Returns whether a site's name looks like a copy of another existing site: `here (1)`,
/// `here - Copy`, `here.sync-conflict-…`, `here~`, `here.bak`. Probes don't use such names.
pub(crate) fn is_copy(site: &str, all: &BTreeSet<String>) -> bool {
    let rest = |name: &String| site.strip_prefix(name.as_str()).map(str::to_ascii_lowercase);
    all.iter().filter(|name| *name != site).filter_map(rest).any(|rest| {
        let marks = [
            " (",
            " - copy",
            ".sync-conflict",
            "~",
            ".bak",
            ".orig",
            " copy",
            " conflicted",
            "_conflict",
            ".old",
        ];
        marks.iter().any(|mark| rest.starts_with(mark))
    })
}

/// Returns the value of a partition. Other writers percent-encode characters other than letters and
/// digits (`Main%20office`).
pub(crate) fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = digits
            .filter(|two| *first == b'%' && two.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    // If the result is not text, it was not encoded.
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}
