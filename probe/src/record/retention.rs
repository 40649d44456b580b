//! Removes days of this probe's own site that are older than the retention, but never a day that is
//! still open.

use std::{fs, path::Path};

use mailqos_lake::{Record, Remote, site_folder};
use mailqos_model::{Event, Micros, Sample, SiteName, UtcMicros};

/// Days that are still open: a mail may settle late, up to the longest horizon.
const OPEN: Micros = Micros::from_secs(31 * 86_400);

/// Removes outdated days; returns the number of files.
pub(super) async fn remove_old(
    data: std::path::PathBuf,
    site: SiteName,
    retention: Micros,
    remote: Option<Remote>,
) -> usize {
    let before = first_kept(UtcMicros::now(), retention);
    let (folder, of, day) = (data, site.clone(), before.clone());
    let removed = tokio::task::spawn_blocking(move || {
        remove::<Sample>(&folder, &of, &day) + remove::<Event>(&folder, &of, &day)
    });
    let mut removed = removed.await.unwrap_or(0);
    if let Some(remote) = &remote {
        removed += remove_remote(remote, &site, &before).await;
    }
    if removed > 0 {
        tracing::info!(
            removed,
            before = &before["date=".len()..],
            "removed days older than retention"
        );
    }
    removed
}

/// Returns the folder of the first day that is kept.
fn first_kept(now: UtcMicros, retention: Micros) -> String {
    format!("date={}", (now - retention.max(OPEN)).utc_date())
}

fn remove<R: Record>(data: &Path, site: &SiteName, before: &str) -> usize {
    let mut removed = 0;
    let folder = site_folder::<R>(data, site);
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("date=") && name < before) {
            // The file first: a reader sees a complete day or none.
            let file = entry.path().join(format!("{}.parquet", R::FOLDER));
            match fs::remove_file(&file) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "can't remove a file older than retention")
                }
            }
            let _ = fs::remove_dir(entry.path());
        }
    }
    removed
}

async fn remove_remote(remote: &Remote, site: &SiteName, before: &str) -> usize {
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
            if object.name.split('/').any(|part| part.starts_with("date=") && part < before) {
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
    fn old_days_of_this_site_go_and_no_others() {
        let folder = tempfile::tempdir().expect("folder");
        let site: SiteName = "here".parse().expect("a name");
        let now = UtcMicros(1_795_456_800_000_000);
        let before = first_kept(now, Micros::from_secs(100 * 86_400));
        assert_eq!(before, "date=2026-08-15");
        // Open days are never removed, however short the retention is.
        assert_eq!(first_kept(now, Micros::from_secs(86_400)), "date=2026-10-23");
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
        assert_eq!(remove::<Sample>(folder.path(), &site, &before), 1);
        let left = |site, date| file(site, date).exists();
        assert!(
            !left("here", "2026-08-14")
                && left("here", "2026-08-15")
                && left("there", "2026-08-14")
                && left("here", "x")
        );
    }
}
