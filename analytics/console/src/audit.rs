//! The audit log: sign-ins and changes, one JSON object a line, in a file that is only appended to.
//!
//! Changes also become events in the lake. The probe alone writes those, so the file is what counts
//! first: the probe gets the changes as soon as it runs, and a number per entry shows which it has.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use mailqos_base::{
    files::{self, Access},
    lock::IgnorePoison as _,
};
use mailqos_config::Config;
use mailqos_control::{ConsoleChange, ControlError, Request, response::ConsoleChangesRecorded};
use mailqos_model::UtcMicros;
use serde::{Deserialize, Serialize};

/// Size at which the file is set aside under a name with its date, in bytes.
const MAX_FILE: u64 = 32 << 20;
/// How much of the end of the file is read for the page, in bytes.
const MAX_TAIL: u64 = 256 << 10;
/// How many changes are sent to the probe at a time.
const MAX_SENT: usize = 200;

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Number of the entry, ascending from 1; the log assigns it.
    #[serde(default)]
    pub(crate) number: u64,
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
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// Number of the last entry.
    last: u64,
    /// Number of the last entry that the probe has recorded as an event.
    sent: u64,
}

impl Audit {
    /// Opens the log of a state folder.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("audit.jsonl");
        let file = append(&path)?;
        let sent = match std::fs::read_to_string(sent_file(&path)) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let last = tail(&path)?.first().map_or(0, |entry| entry.number).max(sent);
        Ok(Self { path, log: Mutex::new(Log { file, last, sent }) })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().ignore_poison()
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// The disk refuses; the change must then not be made.
    pub(crate) fn record(&self, mut entry: Entry) -> io::Result<()> {
        let mut log = self.log();
        entry.number = log.last + 1;
        let mut line = serde_json::to_vec(&entry).map_err(io::Error::other)?;
        line.push(b'\n');
        if log.file.metadata()?.len() > MAX_FILE {
            if log.sent < log.last {
                // Without a probe on this machine, the file would grow for ever.
                tracing::warn!(
                    "changes in the old audit log are not in the lake: no probe is running"
                );
                log.sent = log.last;
            }
            let date = entry.at.to_string().replace(':', "");
            std::fs::rename(&self.path, self.path.with_file_name(format!("audit-{date}.jsonl")))?;
            log.file = append(&self.path)?;
        }
        log.file.write_all(&line)?;
        log.file.sync_data()?;
        log.last = entry.number;
        tracing::info!(by = %entry.by, from = %entry.from, action = %entry.action, subject = %entry.subject, "audit");
        Ok(())
    }

    /// Returns the latest entries, newest first.
    ///
    /// # Errors
    /// The file can't be read.
    pub(crate) fn latest(&self, limit: usize) -> io::Result<Vec<Entry>> {
        let mut entries = tail(&self.path)?;
        entries.truncate(limit);
        Ok(entries)
    }

    /// Sends changes that are not in the lake yet to the probe, which records them as events. A
    /// change is sent again if the console is killed before it has noted the response.
    ///
    /// # Errors
    /// The file can't be read, or no probe records them now.
    pub(crate) async fn send(&self, config: &Config) -> Result<(), SendError> {
        let (first, last) = {
            let log = self.log();
            (log.sent + 1, log.last)
        };
        if first > last {
            return Ok(());
        }
        let entries = pending(&self.path, first)?;
        let mut recorded = entries.last().map_or(last, |entry| entry.number);
        let is_change = |entry: &Entry| entry.action != "signed_in";
        let changes: Vec<ConsoleChange> =
            entries.into_iter().filter(is_change).map(change).collect();
        if !changes.is_empty() {
            let request = Request::ConsoleChanges { changes };
            let response: ConsoleChangesRecorded = mailqos_control::ask(config, &request).await?;
            recorded = response.recorded.min(recorded);
        }
        let (path, text) = (sent_file(&self.path), recorded.to_string());
        let temporary = path.with_extension("sent.tmp");
        files::replace(&path, &temporary, Access::Owner, |file| file.write_all(text.as_bytes()))?;
        self.log().sent = recorded;
        Ok(())
    }
}

/// Why changes are not in the lake yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Probe(#[from] ControlError),
}

fn change(entry: Entry) -> ConsoleChange {
    ConsoleChange {
        number: entry.number,
        at: UtcMicros(entry.at.as_microsecond()),
        by: entry.by,
        from: entry.from,
        action: entry.action,
        subject: entry.subject,
        detail: entry.detail,
    }
}

/// Returns the file with the number of the last entry that the probe has recorded.
fn sent_file(path: &Path) -> PathBuf {
    path.with_extension("sent")
}

/// Returns the entries at the end of the file, newest first.
fn tail(path: &Path) -> io::Result<Vec<Entry>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL * 2).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may be cut.
    Ok(text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Returns entries from a number on, oldest first, at most [`MAX_SENT`].
fn pending(path: &Path, first: u64) -> io::Result<Vec<Entry>> {
    let file = BufReader::new(File::open(path)?);
    let mut entries = Vec::new();
    for line in file.split(b'\n') {
        // A line that can't be read was cut when the machine lost its power.
        let Ok(entry) = serde_json::from_slice::<Entry>(&line?) else { continue };
        if entry.number >= first {
            entries.push(entry);
        }
        if entries.len() == MAX_SENT {
            break;
        }
    }
    Ok(entries)
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
        let entry = |number: u64| Entry {
            number,
            at: jiff::Timestamp::from_second(number as i64).expect("a time"),
            by: "anna\n{\"forged\":1}".to_owned(),
            from: "127.0.0.1".to_owned(),
            action: "user_added".to_owned(),
            subject: format!("user {number}"),
            detail: String::new(),
        };
        for number in 1..=3 {
            let audit = Audit::open(folder.path()).expect("opened");
            audit.record(Entry { number: 0, ..entry(number) }).expect("recorded");
        }
        let audit = Audit::open(folder.path()).expect("opened");
        assert_eq!(audit.latest(2).expect("read"), [entry(3), entry(2)]);
        let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("a file");
        assert_eq!(text.lines().count(), 3, "a line break in a name begins no entry");
    }
}
