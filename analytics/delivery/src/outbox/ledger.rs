//! The ledger records who received what and when, with the server's replies. It is append-only; a
//! delivery in the ledger is never repeated.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::{self, BufRead as _, Write as _},
    path::{Path, PathBuf},
};

use mailqos_model::UtcMicros;
use serde::{Deserialize, Serialize};

use super::{
    files::{OutboxError, failed, owner_only},
    order::StoredFile,
};
use crate::{Served, file_store::Reason};

/// A delivery that has arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The order's id.
    pub id: String,
    /// When it arrived, RFC 3339.
    pub delivered_at: String,
    /// The target's name.
    pub target: String,
    /// The report's slug; empty for files given on the command line.
    #[serde(default)]
    pub report: String,
    /// When the report was due; empty for files given on the command line.
    #[serde(default)]
    pub run: String,
    /// Folder below the target's own.
    #[serde(default)]
    pub folder: String,
    /// The files.
    pub files: Vec<StoredFile>,
    /// Locations of the files, or the recipients of a mail.
    pub places: Vec<String>,
    /// The server's reply.
    pub reply: String,
    /// Recipients that the server refused, with its replies.
    pub refused: Vec<(String, String)>,
    /// Recipients whose mail was accepted: by which server, when, and its reply.
    #[serde(default)]
    pub accepted: Vec<Served>,
    /// Number of attempts.
    pub attempts: u32,
    /// Id of the delivery that this one repeats; empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repeats: String,
}

/// A file that was delivered and is no longer retained.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removal {
    /// When it was removed or found to be gone, RFC 3339.
    pub removed_at: String,
    /// The target's name.
    pub target: String,
    /// Folder below the target's own.
    pub folder: String,
    /// Its name there.
    pub name: String,
    /// Why it is no longer retained.
    #[serde(default)]
    pub reason: Reason,
}

impl Removal {
    /// Returns its path below the target's own folder.
    pub fn path(&self) -> String {
        if self.folder.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.folder, self.name)
        }
    }
}

/// An entry of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A delivery arrived.
    Delivered(Box<Entry>),
    /// An old file was removed, or someone else removed or changed it.
    Removed(Removal),
}

/// A file that may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removable {
    pub(super) folder: String,
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// The ledger of an outbox.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("ledger.jsonl") }
    }

    /// Returns all lines, oldest first.
    pub(super) fn lines(&self) -> Result<Vec<Line>, OutboxError> {
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.path)(error)),
        };
        let mut lines = Vec::new();
        for line in io::BufReader::new(file).split(b'\n') {
            let line = line.map_err(failed(&self.path))?;
            // A crash cut this line off, possibly within a character. It was never acknowledged, so
            // its order is still pending.
            if let Ok(line) = serde_json::from_slice(&line) {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    pub(super) fn ids(&self) -> Result<HashSet<String>, OutboxError> {
        let delivered = self.lines()?.into_iter().filter_map(|line| match line {
            Line::Delivered(entry) => Some(entry.id),
            Line::Removed(_) => None,
        });
        Ok(delivered.collect())
    }

    pub(super) fn add(&self, line: &Line) -> Result<(), OutboxError> {
        let text = serde_json::to_string(line).map_err(|error| OutboxError::Order {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        owner_only(&mut options);
        let write = || -> io::Result<()> {
            let mut file = options.open(&self.path)?;
            // Starts with a line break, in case the last line was cut off.
            file.write_all(format!("\n{text}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(failed(&self.path))
    }
}

/// Returns the files that a target's rule no longer keeps: delivered before the given time, or not
/// among the last runs of their report.
pub(super) fn removable(
    lines: &[Line],
    target: &str,
    before: Option<UtcMicros>,
    keep_last: Option<u32>,
) -> Vec<Removable> {
    /// The file at the target under a name, as delivered last.
    struct RemoteFile<'a> {
        entry: &'a Entry,
        file: &'a StoredFile,
        at: Option<UtcMicros>,
    }
    let mut there: BTreeMap<(&str, &str), RemoteFile<'_>> = BTreeMap::new();
    let mut runs: BTreeMap<&str, BTreeSet<(UtcMicros, &str)>> = BTreeMap::new();
    for line in lines {
        match line {
            Line::Delivered(entry) if entry.target == target => {
                let at = moment(&entry.delivered_at);
                for (file, place) in entry.files.iter().zip(&entry.places) {
                    let name = place.rsplit(['/', '\\']).next().unwrap_or(&file.name);
                    there.insert((&entry.folder, name), RemoteFile { entry, file, at });
                }
                if let Some(due) = moment(&entry.run).filter(|_| !entry.report.is_empty()) {
                    runs.entry(&entry.report).or_default().insert((due, &entry.run));
                }
            }
            Line::Removed(removal) if removal.target == target => {
                there.remove(&(removal.folder.as_str(), removal.name.as_str()));
            }
            _ => {}
        }
    }
    let kept = |entry: &Entry| -> bool {
        let Some(count) = keep_last else { return true };
        let last = runs.get(entry.report.as_str()).into_iter().flatten().rev();
        entry.report.is_empty() || last.take(count as usize).any(|(_, run)| *run == entry.run)
    };
    there
        .into_iter()
        .filter(|(_, there)| {
            let old = before.zip(there.at).is_some_and(|(before, at)| at < before);
            old || !kept(there.entry)
        })
        .map(|((folder, name), there)| Removable {
            folder: folder.to_owned(),
            name: name.to_owned(),
            size: there.file.size,
            sha256: there.file.sha256.clone(),
        })
        .collect()
}

fn moment(text: &str) -> Option<UtcMicros> {
    text.parse::<jiff::Timestamp>().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(at: &str, run: &str, name: &str) -> Line {
        Line::Delivered(Box::new(Entry {
            id: at.into(),
            delivered_at: at.into(),
            target: "shelf".into(),
            report: "monthly".into(),
            run: run.into(),
            folder: "2026".into(),
            files: vec![StoredFile { name: name.into(), size: 1, sha256: run.into() }],
            places: vec![format!("/srv/2026/{name}")],
            reply: String::new(),
            refused: Vec::new(),
            accepted: Vec::new(),
            attempts: 1,
            repeats: String::new(),
        }))
    }

    #[test]
    fn removals_of_earlier_versions_have_a_path_and_a_reason() {
        let text = r#"{"removed_at":"2026-04-02T00:00:00Z","target":"file_store","folder":"","name":"b.pdf"}"#;
        let Ok(Line::Removed(mut removal)) = serde_json::from_str(text) else {
            panic!("a removal");
        };
        assert_eq!((removal.path().as_str(), removal.reason), ("b.pdf", Reason::Removed));
        removal.folder = "2026/04".into();
        assert_eq!(removal.path(), "2026/04/b.pdf");
    }

    #[test]
    fn only_old_files_that_still_exist_are_removed() {
        let lines = [
            delivered("2026-01-01T07:00:05Z", "2026-01-01T07:00:00Z", "a.pdf"),
            delivered("2026-02-01T07:00:05Z", "2026-02-01T07:00:00Z", "b.pdf"),
            delivered("2026-03-01T07:00:05Z", "2026-03-01T07:00:00Z", "c.pdf"),
            // The same name again: the target now has the newer file.
            delivered("2026-04-01T07:00:05Z", "2026-04-01T07:00:00Z", "a.pdf"),
            Line::Removed(Removal {
                removed_at: "2026-04-02T00:00:00Z".into(),
                target: "shelf".into(),
                folder: "2026".into(),
                name: "b.pdf".into(),
                reason: Reason::Changed,
            }),
        ];
        let before = moment("2026-03-15T00:00:00Z");
        let names =
            |found: Vec<Removable>| found.into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names(removable(&lines, "shelf", before, None)), ["c.pdf"]);
        assert_eq!(names(removable(&lines, "shelf", None, Some(1))), ["c.pdf"]);
        assert!(removable(&lines, "shelf", None, Some(2)).is_empty());
        assert!(removable(&lines, "other", before, Some(1)).is_empty());
        assert!(removable(&lines, "shelf", None, None).is_empty());
    }
}
