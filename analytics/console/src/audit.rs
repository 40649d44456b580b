//! The audit log: sign-ins and changes, one JSON object a line, in a file that is only appended to.
//!
//! Events of the lake are written by the probe alone, whose journal makes them durable; the console
//! therefore keeps its own file in the state folder.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use mailqos_base::lock::IgnorePoison as _;
use serde::{Deserialize, Serialize};

/// Size at which the file is set aside under a name with its date, in bytes.
const MAX_FILE: u64 = 32 << 20;
/// How much of the end of the file is read for the page, in bytes.
const MAX_TAIL: u64 = 256 << 10;

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Time of the change.
    pub(crate) at: jiff::Timestamp,
    /// Name of the user.
    pub(crate) by: String,
    /// Address of the user.
    pub(crate) from: String,
    /// What was done, such as `user_added`.
    pub(crate) action: String,
    /// What it was done to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) subject: String,
    /// More, such as the new role.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

/// The audit log.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    file: Mutex<File>,
}

impl Audit {
    /// Opens the log of a state folder.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("audit.jsonl");
        let file = Mutex::new(append(&path)?);
        Ok(Self { path, file })
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// The disk refuses; the change must then not be made.
    pub(crate) fn record(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file = self.file.lock().ignore_poison();
        if file.metadata()?.len() > MAX_FILE {
            let date = entry.at.to_string().replace(':', "");
            std::fs::rename(&self.path, self.path.with_file_name(format!("audit-{date}.jsonl")))?;
            *file = append(&self.path)?;
        }
        file.write_all(&line)?;
        file.sync_data()?;
        tracing::info!(by = %entry.by, from = %entry.from, action = %entry.action, subject = %entry.subject, "audit");
        Ok(())
    }

    /// Returns the latest entries, newest first.
    ///
    /// # Errors
    /// The file can't be read.
    pub(crate) fn latest(&self, limit: usize) -> io::Result<Vec<Entry>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        let start = length.saturating_sub(MAX_TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(MAX_TAIL * 2).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line may be cut.
        let entries = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
        Ok(entries.take(limit).collect())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_appended_and_read_back_newest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = |number: i64| Entry {
            at: jiff::Timestamp::from_second(number).expect("a time"),
            by: "anna\n{\"forged\":1}".to_owned(),
            from: "127.0.0.1".to_owned(),
            action: "user_added".to_owned(),
            subject: format!("user {number}"),
            detail: String::new(),
        };
        for number in 0..3 {
            let audit = Audit::open(folder.path()).expect("opened");
            audit.record(&entry(number)).expect("recorded");
        }
        let audit = Audit::open(folder.path()).expect("opened");
        assert_eq!(audit.latest(2).expect("read"), [entry(2), entry(1)]);
        let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("a file");
        assert_eq!(text.lines().count(), 3, "a line break in a name begins no entry");
    }
}
