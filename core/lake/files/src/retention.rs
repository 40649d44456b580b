//! Retention: determines which days of a lake are old enough to be removed, and removes them. The
//! probe removes days of its site, whether the lake is in a folder or an object store. `lake
//! retain` of analytics removes those of any site in a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::civil::Date;
use mailqos_model::{Event, Micros, Sample, SiteName, UtcMicros};

use crate::{Record, Remote, site_folder};

/// Time for which days of a running probe stay open: a mail may settle late, up to the longest
/// horizon.
const OPEN: Micros = Micros::from_secs(31 * 86_400);

/// Returns the first UTC day to keep: that of the time `keep` before now, or `open` if that is longer.
pub fn first_kept(now: UtcMicros, keep: Micros, open: Micros) -> Date {
    (now - keep.max(open)).utc_date()
}

/// Removes the days of a probe's site that are older than `retention`, except open ones; returns
/// the number of removed files.
pub async fn remove_old(
    data: PathBuf,
    site: SiteName,
    retention: Micros,
    remote: Option<Remote>,
) -> usize {
    let first = first_kept(UtcMicros::now(), retention, OPEN);
    let (folder, of) = (data, site.clone());
    let removed = tokio::task::spawn_blocking(move || {
        remove::<Sample>(&folder, &of, first) + remove::<Event>(&folder, &of, first)
    });
    let mut removed = removed.await.unwrap_or(0);
    if let Some(remote) = &remote {
        removed += remove_remote(remote, &site, first).await;
    }
    if removed > 0 {
        tracing::info!(removed, before = %first, "removed days older than retention");
    }
    removed
}

/// Returns whether the name of a folder is that of a day before `first`. The names of dates compare
/// like dates; other names don't matter.
fn is_before(name: &str, first: Date) -> bool {
    name.starts_with("date=") && name < format!("date={first}").as_str()
}

/// Deletes a day file, and its folder if it is otherwise empty. The file is deleted first, so that
/// a reader sees a complete day or none. Readers that have opened the file continue. Returns
/// whether it existed.
///
/// # Errors
/// The file system refuses to delete the file.
pub fn delete_day_file(file: &Path) -> io::Result<bool> {
    let deleted = delete_file(file)?;
    if let Some(folder) = file.parent() {
        let _ = fs::remove_dir(folder);
    }
    Ok(deleted)
}

/// Deletes a file; a missing one is not an error. Returns whether it existed.
///
/// # Errors
/// The file system rejects the operation.
pub fn delete_file(file: &Path) -> io::Result<bool> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove<R: Record>(data: &Path, site: &SiteName, first: Date) -> usize {
    let mut removed = 0;
    let folder = site_folder::<R>(data, site);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| is_before(name, first)) {
            let file = entry.path().join(format!("{}.parquet", R::FOLDER));
            match delete_day_file(&file) {
                Ok(deleted) => removed += usize::from(deleted),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "can't remove a file older than retention")
                }
            }
        }
    }
    removed
}

async fn remove_remote(remote: &Remote, site: &SiteName, first: Date) -> usize {
    let mut removed = 0;
    for kind in [Sample::FOLDER, Event::FOLDER] {
        let objects = match remote.list(&format!("{kind}/site={site}")).await {
            Ok(objects) => objects,
            Err(error) => {
                tracing::warn!(%error, "can't list days older than retention");
                continue;
            }
        };
        for object in objects {
            if object.name.split('/').any(|part| is_before(part, first)) {
                match remote.delete(&object.name).await {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::warn!(%error, "can't remove a day older than retention"),
                }
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_days_of_this_site_are_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let site: SiteName = "here".parse().expect("a name");
        let now = UtcMicros(1_795_456_800_000_000);
        let first = first_kept(now, Micros::from_secs(100 * 86_400), OPEN);
        assert_eq!(first, jiff::civil::date(2026, 8, 15));
        // Open days are never removed, however short the retention is.
        let shortest = first_kept(now, Micros::from_secs(86_400), OPEN);
        assert_eq!(shortest, jiff::civil::date(2026, 10, 23));
        let file = |site: &str, date: &str| {
            folder.path().join(format!("samples/site={site}/date={date}/samples.parquet"))
        };
        for (site, date) in
            [("here", "2026-08-14"), ("here", "2026-08-15"), ("there", "2026-08-14"), ("here", "x")]
        {
            let file = file(site, date);
            fs::create_dir_all(file.parent().expect("a folder")).expect("folder");
            fs::write(file, "x").expect("write");
        }
        assert_eq!(remove::<Sample>(folder.path(), &site, first), 1);
        let left = |site, date| file(site, date).exists();
        assert!(
            !left("here", "2026-08-14")
                && left("here", "2026-08-15")
                && left("there", "2026-08-14")
                && left("here", "x")
        );
    }
}
