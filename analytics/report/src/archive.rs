//! The archive: a record of the reports that the schedules have generated, by which old ones are
//! removed. Only files that the record names are ever removed, and only unchanged ones: people keep
//! other files in the same folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use mailqos_base::{files, hex};
use mailqos_config::{ArchiveOptions, Config};
use mailqos_model::UtcMicros;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A generated report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Slug of the definition.
    pub report: String,
    /// When it was due, RFC 3339.
    pub run: String,
    /// When it was generated, in microseconds since 1970 UTC.
    pub made_at: i64,
    /// The files.
    pub files: Vec<ArchivedFile>,
}

/// A file of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl ArchivedFile {
    fn of(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self { path: path.to_owned(), size: bytes.len() as u64, sha256 })
    }

    /// Whether the file is as it was generated.
    pub fn is_unchanged(&self) -> bool {
        let has_size = fs::metadata(&self.path).is_ok_and(|about| about.len() == self.size);
        has_size && Self::of(&self.path).is_ok_and(|now| now.sha256 == self.sha256)
    }
}

/// A file that is no longer kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its path.
    pub path: PathBuf,
    /// Whether it was removed; if not, another program had changed or removed it.
    pub is_removed: bool,
}

/// The record of generated reports.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
}

impl Archive {
    /// Returns the archive of a configuration.
    pub fn new(config: &Config) -> Self {
        Self { path: config.state.join("archive.jsonl") }
    }

    /// Returns all reports, oldest entry first.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn reports(&self) -> io::Result<Vec<Archived>> {
        let bytes = match files::read_state(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A crash may have cut a line off.
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Records a generated report.
    ///
    /// # Errors
    /// A file can't be read, or the record can't be written.
    pub fn add(
        &self,
        (report, run): (&str, UtcMicros),
        paths: &[PathBuf],
        now: UtcMicros,
    ) -> io::Result<()> {
        let files: io::Result<Vec<ArchivedFile>> =
            paths.iter().map(|path| ArchivedFile::of(path)).collect();
        let (report, run) = (report.to_owned(), run.to_string());
        let text = serde_json::to_string(&Archived { report, run, made_at: now.0, files: files? })?;
        let _lock = self.lock()?;
        let mut file = fs::File::options().create(true).append(true).open(&self.path)?;
        // Starts with a line break, in case the last line was cut off.
        file.write_all(format!("\n{text}\n").as_bytes())?;
        file.sync_all()
    }

    /// Removes the files of reports that are no longer kept. The last run of each report is always
    /// kept, and so are runs that `is_needed`: those whose deliveries are not complete.
    ///
    /// # Errors
    /// The record can't be read or written. A file that can't be removed stays in the record.
    pub fn sweep(
        &self,
        options: ArchiveOptions,
        now: UtcMicros,
        is_needed: impl Fn(&Archived) -> bool,
    ) -> io::Result<Vec<Removal>> {
        if options == ArchiveOptions::default() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let all = self.reports()?;
        let (kept, old): (Vec<Archived>, Vec<Archived>) = {
            let is_kept = kept(&all, options, now);
            all.into_iter().partition(|report| is_kept(report) || is_needed(report))
        };
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let mut removals = Vec::new();
        // Later runs may have written the same files.
        let still: BTreeSet<PathBuf> = kept
            .iter()
            .flat_map(|report| report.files.iter().map(|file| file.path.clone()))
            .collect();
        let mut left = Vec::new();
        for mut report in old {
            report.files.retain(|file| !still.contains(&file.path));
            report.files.retain(|file| match remove(file) {
                Ok(is_removed) => {
                    removals.push(Removal { path: file.path.clone(), is_removed });
                    false
                }
                Err(error) => {
                    tracing::warn!(path = %file.path.display(), %error, "old report not removed");
                    true
                }
            });
            if !report.files.is_empty() {
                left.push(report);
            }
        }
        left.extend(kept);
        let mut text = String::new();
        for report in &left {
            text.push_str(&serde_json::to_string(report)?);
            text.push('\n');
        }
        let temporary = self.path.with_extension("new");
        let owner = files::Access::Umask;
        files::replace(&self.path, &temporary, owner, |file| file.write_all(text.as_bytes()))?;
        Ok(removals)
    }

    /// Locks the record until dropped.
    fn lock(&self) -> io::Result<fs::File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = fs::File::create(self.path.with_extension("lock"))?;
        file.lock().map_err(files::lock_error)?;
        Ok(file)
    }
}

/// Removes an unchanged file; `false` if it was changed or is gone.
fn remove(file: &ArchivedFile) -> io::Result<bool> {
    if !file.is_unchanged() {
        return Ok(false);
    }
    match fs::remove_file(&file.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Returns the rule by which reports are kept.
fn kept(
    all: &[Archived],
    options: ArchiveOptions,
    now: UtcMicros,
) -> impl Fn(&Archived) -> bool + use<> {
    let moment = |run: &str| run.parse::<jiff::Timestamp>().map(UtcMicros::from).ok();
    let mut runs: BTreeMap<String, BTreeSet<UtcMicros>> = BTreeMap::new();
    for report in all {
        runs.entry(report.report.clone()).or_default().extend(moment(&report.run));
    }
    let oldest = options.keep.map(|keep| now - keep);
    move |report| {
        let Some(run) = moment(&report.run) else { return true };
        let later = runs.get(&report.report).map_or(0, |runs| runs.range(run..).count());
        let is_last = later <= 1;
        let is_recent = oldest.is_none_or(|oldest| report.made_at >= oldest.0);
        let is_among_last = options.keep_last.is_none_or(|count| later <= count as usize);
        is_last || (is_recent && is_among_last)
    }
}

#[cfg(test)]
mod tests {
    use mailqos_model::Micros;

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn at(day: i64) -> UtcMicros {
        UtcMicros(1_780_000_000_000_000 + day * DAY)
    }

    /// An archive with a run a day, and its folder.
    fn archive(days: i64) -> (tempfile::TempDir, Archive) {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = Archive { path: folder.path().join("archive.jsonl") };
        for day in 0..days {
            let path = folder.path().join(format!("daily-{day}.html"));
            fs::write(&path, format!("of day {day}")).expect("written");
            archive.add(("daily", at(day)), &[path], at(day)).expect("recorded");
        }
        (folder, archive)
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).expect("a folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".html")).collect();
        names.sort();
        names
    }

    fn keep(days: Option<i64>, keep_last: Option<u32>) -> ArchiveOptions {
        ArchiveOptions { keep: days.map(|days| Micros(days * DAY)), keep_last }
    }

    #[test]
    fn only_unchanged_files_of_old_runs_are_removed() {
        let (folder, archive) = archive(5);
        fs::write(folder.path().join("daily-1.html"), "with notes").expect("written");
        fs::write(folder.path().join("daily-9.html"), "of someone else").expect("written");
        fs::remove_file(folder.path().join("daily-2.html")).expect("removed");
        assert_eq!(archive.sweep(keep(None, None), at(99), |_| false).expect("swept"), []);
        let removals = archive.sweep(keep(None, Some(1)), at(5), |_| false).expect("swept");
        let removed: Vec<bool> = removals.iter().map(|removal| removal.is_removed).collect();
        assert_eq!(removed, [true, false, false, true]);
        assert_eq!(names(&folder), ["daily-1.html", "daily-4.html", "daily-9.html"]);
        assert_eq!(archive.reports().expect("read").len(), 1);
        assert_eq!(archive.sweep(keep(None, Some(1)), at(5), |_| false).expect("swept"), []);
    }

    #[test]
    fn the_last_run_and_runs_with_open_deliveries_are_kept() {
        let (folder, archive) = archive(4);
        let is_needed = |report: &Archived| report.run == at(0).to_string();
        archive.sweep(keep(Some(2), None), at(500), is_needed).expect("swept");
        assert_eq!(names(&folder), ["daily-0.html", "daily-3.html"]);
        // Once delivered, it goes.
        archive.sweep(keep(Some(2), None), at(500), |_| false).expect("swept");
        assert_eq!(names(&folder), ["daily-3.html"]);
    }

    #[test]
    fn a_file_that_a_later_run_has_written_stays() {
        let (folder, archive) = archive(2);
        let path = folder.path().join("daily-0.html");
        archive.add(("daily", at(2)), &[path], at(2)).expect("recorded");
        archive.sweep(keep(None, Some(1)), at(3), |_| false).expect("swept");
        assert_eq!(names(&folder), ["daily-0.html"]);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_skipped() {
        let (_folder, archive) = archive(1);
        let mut file = fs::File::options().append(true).open(&archive.path).expect("a file");
        file.write_all(b"{\"report\": \"dai").expect("written");
        let path = archive.path.with_file_name("daily-0.html");
        archive.add(("daily", at(1)), &[path], at(1)).expect("recorded");
        assert_eq!(archive.reports().expect("read").len(), 2);
    }
}
