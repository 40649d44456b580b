//! Transcripts of tests: the bytes that both ends sent, with times, but without secrets and other
//! people's mail. They serve as evidence in a dispute with a provider.
//!
//! `<state>/transcripts/<monitor>@<started_at>.json`, with `started_at` in microseconds since 1970
//! UTC: one file per test, written by the probe and replaced atomically. The oldest are removed
//! when the total exceeds 256 MiB, or after 400 days. Readers ignore unknown keys.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::tz::TimeZone;
use mailqos_base::files;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::Config;
use mailqos_model::{Direction, Micros, MonitorId, Outcome, Sample, SiteName, Stage, UtcMicros};
use serde::{Deserialize, Serialize};

/// Version of the format.
const VERSION: u32 = 1;
/// Maximum total size of all transcripts in bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Maximum file size in bytes; the probe never writes larger files.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Maximum age in microseconds: 400 days, so that last year's disputes can still be settled.
const MAX_AGE_US: i64 = 400 * 86_400 * 1_000_000;
/// Maximum number of connections kept for a test.
const MAX_CONVERSATIONS: usize = 12;

/// The connections of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    version: u32,
    /// Site of the probe.
    pub site: SiteName,
    /// Id of the monitor.
    pub monitor: MonitorId,
    /// Start of the test; with the monitor, its key in the lake.
    pub started_at: UtcMicros,
    /// Outcome of the test.
    pub outcome: Outcome,
    /// The stage that failed.
    pub stage: Option<Stage>,
    /// Reason for the failure.
    pub error: Option<String>,
    /// The connections, ordered by their start.
    pub conversations: Vec<Conversation>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// `SMTP`, `POP3` or `IMAP`.
    pub protocol: String,
    /// Start of the connection.
    pub began_at: UtcMicros,
    /// The bytes, in order.
    pub said: Vec<TranscriptEntry>,
}

/// Bytes that were sent or received at the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranscriptEntry {
    /// Time since the start of the connection, in microseconds.
    pub at_us: i64,
    /// Direction of the bytes.
    pub direction: Direction,
    /// The bytes, if they are text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// Otherwise, the bytes in Base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base64: Option<String>,
    /// Number of further bytes that were not kept.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub omitted: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Conversation {
    /// Creates an empty conversation.
    pub fn new(protocol: &str, began_at: UtcMicros) -> Self {
        Self { protocol: protocol.to_owned(), began_at, said: Vec::new() }
    }

    /// Adds bytes that were sent or received `at` after the start; `omitted` more were not kept.
    pub fn add(&mut self, at: Micros, direction: Direction, bytes: Vec<u8>, omitted: usize) {
        let (text, base64) = match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        self.said.push(TranscriptEntry { at_us: at.0, direction, text, base64, omitted });
    }

    /// Returns readable lines; bytes that can't be shown are written as `\xNN`.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for said in &self.said {
            said.lines(&mut lines);
        }
        lines
    }
}

/// A line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Time since the start of the connection.
    pub at: Micros,
    /// Direction of the line.
    pub direction: Direction,
    /// The text, without its line end.
    pub text: String,
}

impl Transcript {
    /// Creates the transcript of a test.
    pub fn new(site: &SiteName, sample: &Sample, mut conversations: Vec<Conversation>) -> Self {
        conversations.sort_by_key(|conversation| conversation.began_at);
        // The first and the last ones are the most useful.
        if conversations.len() > MAX_CONVERSATIONS {
            let half = MAX_CONVERSATIONS / 2;
            let behind = conversations.len() - half;
            conversations.drain(half..behind);
        }
        Self {
            version: VERSION,
            site: site.clone(),
            monitor: sample.monitor.clone(),
            started_at: sample.started_at,
            outcome: sample.outcome,
            stage: sample.stage,
            error: sample.error.clone(),
            conversations,
        }
    }

    /// Returns a readable form: times in `timezone`, each line with its time and direction, and
    /// bytes that can't be shown as `\xNN`.
    pub fn render(&self, timezone: &TimeZone) -> String {
        let mut text =
            format!("{} at {}: {}", self.monitor, local(self.started_at, timezone), self.outcome);
        if let Some(stage) = self.stage {
            let _ = write!(text, ", {stage}");
        }
        if let Some(error) = &self.error {
            let _ = write!(text, ": {error}");
        }
        let _ = writeln!(text, "\nsite {}, test {} (UTC)", self.site, self.started_at);
        for conversation in &self.conversations {
            let began = local(conversation.began_at, timezone);
            let _ = writeln!(
                text,
                "\n{}, started {began}; time in seconds since then; > sent, < received",
                conversation.protocol
            );
            for line in conversation.lines() {
                let mark = match line.direction {
                    Direction::Sent => '>',
                    Direction::Received => '<',
                    Direction::Note => '*',
                };
                let _ = writeln!(text, "{:10.6} {mark} {}", line.at.0 as f64 / 1e6, line.text);
            }
        }
        text
    }
}

impl TranscriptEntry {
    fn bytes(&self) -> Vec<u8> {
        match (&self.text, &self.base64) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(encoded)) => STANDARD.decode(encoded).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }

    fn lines(&self, all: &mut Vec<Line>) {
        let mut add = |text| {
            all.push(Line { at: Micros(self.at_us), direction: self.direction, text });
        };
        let bytes = self.bytes();
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // A trailing line break starts no further line.
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        for line in lines {
            add(shown(line.strip_suffix(b"\r").unwrap_or(line)));
        }
        if self.omitted > 0 {
            add(format!("({} bytes not stored)", self.omitted));
        }
    }
}

/// Returns a line without control sequences for terminals.
fn shown(line: &[u8]) -> String {
    let mut shown = String::new();
    for part in line.utf8_chunks() {
        for character in part.valid().chars() {
            if character.is_control() && character != '\t' {
                let _ = write!(shown, "{}", character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for byte in part.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

fn local(moment: UtcMicros, timezone: &TimeZone) -> String {
    timezone.to_datetime(moment.timestamp()).strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// The transcripts in a state folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    most: u64,
    /// Bytes in use, once counted.
    used: Mutex<Option<u64>>,
}

impl Store {
    /// Returns the transcripts in a configuration's state folder.
    pub fn new(config: &Config) -> Self {
        Self { folder: config.state.join("transcripts"), most: MAX_BYTES, used: Mutex::default() }
    }

    fn path(&self, monitor: &MonitorId, started_at: UtcMicros) -> PathBuf {
        self.folder.join(format!("{monitor}@{}.json", started_at.0))
    }

    /// Stores a transcript, and replaces one of the same test. The oldest are removed if there are
    /// too many.
    ///
    /// # Errors
    /// The file system rejects the operation.
    pub fn save(&self, transcript: &Transcript) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(&transcript.monitor, transcript.started_at);
        let bytes = serde_json::to_vec(transcript).map_err(io::Error::other)?;
        let temporary = path.with_extension("new");
        let write = |file: &mut fs::File| io::Write::write_all(file, &bytes);
        if let Err(error) = files::swap(&path, &temporary, files::Access::Owner, write) {
            if error.kind() == io::ErrorKind::StorageFull {
                self.give_way()?;
            }
            return Err(error);
        }
        self.make_room(bytes.len() as u64)
    }

    /// Adds later conversations of a test to its transcript, and its final outcome.
    ///
    /// # Errors
    /// The file system rejects the operation.
    pub fn amend(
        &self,
        site: &SiteName,
        sample: &Sample,
        more: Vec<Conversation>,
    ) -> io::Result<()> {
        let mut conversations = match read(&self.path(&sample.monitor, sample.started_at)) {
            Ok(known) => known.conversations,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for conversation in more {
            if !conversations.iter().any(|known| known.began_at == conversation.began_at) {
                conversations.push(conversation);
            }
        }
        self.save(&Transcript::new(site, sample, conversations))
    }

    /// Removes the older half. On a full disk, samples take precedence over transcripts.
    ///
    /// # Errors
    /// The file system rejects the operation.
    pub fn give_way(&self) -> io::Result<()> {
        let mut used = self.used.lock().ignore_poison();
        *used = None;
        let mut files = self.files(None)?;
        files.sort_by_key(|file| file.started_at);
        let half = files.len().div_ceil(2);
        for file in files.iter().take(half) {
            fs::remove_file(&file.path)?;
        }
        Ok(())
    }

    fn make_room(&self, more: u64) -> io::Result<()> {
        let mut used = self.used.lock().ignore_poison();
        let now = match *used {
            Some(used) => used + more,
            None => 0,
        };
        *used = Some(now);
        if now != 0 && now <= self.most {
            return Ok(());
        }
        let mut files = self.files(None)?;
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        files.sort_by_key(|file| file.started_at);
        let oldest = UtcMicros(UtcMicros::now().0 - MAX_AGE_US);
        // Removes somewhat more than necessary, so that not every transcript needs a listing.
        let most = if total > self.most { self.most / 10 * 9 } else { self.most };
        for file in files {
            if total <= most && file.started_at >= oldest {
                break;
            }
            fs::remove_file(&file.path)?;
            total -= file.size;
        }
        *used = Some(total);
        Ok(())
    }

    fn files(&self, monitor: Option<&MonitorId>) -> io::Result<Vec<StoredFile>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some((of, at)) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|name| name.rsplit_once('@'))
            else {
                continue;
            };
            if monitor.is_some_and(|monitor| monitor.as_str() != of) {
                continue;
            }
            if let (Ok(at), Ok(metadata)) = (at.parse(), entry.metadata()) {
                files.push(StoredFile {
                    path: entry.path(),
                    started_at: UtcMicros(at),
                    size: metadata.len(),
                });
            }
        }
        Ok(files)
    }

    /// Returns the starts of a monitor's tests that have a transcript, oldest first.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self, monitor: &MonitorId) -> io::Result<Vec<UtcMicros>> {
        let mut moments: Vec<UtcMicros> =
            self.files(Some(monitor))?.iter().map(|file| file.started_at).collect();
        moments.sort_unstable();
        Ok(moments)
    }

    /// Returns the transcript of a test.
    ///
    /// # Errors
    /// The transcript does not exist or can't be read.
    pub fn get(&self, monitor: &MonitorId, started_at: UtcMicros) -> io::Result<Transcript> {
        read(&self.path(monitor, started_at))
    }
}

struct StoredFile {
    path: PathBuf,
    started_at: UtcMicros,
    size: u64,
}

fn read(path: &Path) -> io::Result<Transcript> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("the file is too large to be a transcript"));
    }
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(number: i64, bytes: usize) -> Transcript {
        let site = "here".parse().expect("a name");
        let started_at = UtcMicros(UtcMicros::now().0 + number);
        let sample = Sample::new("mail".parse().expect("a name"), started_at, Outcome::SmtpFailed);
        let conversation = Conversation {
            protocol: "SMTP".into(),
            began_at: started_at,
            said: vec![TranscriptEntry {
                at_us: 1_500,
                direction: Direction::Received,
                text: Some("x".repeat(bytes)),
                base64: None,
                omitted: 0,
            }],
        };
        Transcript::new(&site, &sample, vec![conversation])
    }

    fn store(folder: &Path, most: u64) -> Store {
        Store { folder: folder.join("transcripts"), most, used: Mutex::default() }
    }

    #[test]
    fn the_older_half_is_dropped() {
        let folder = tempfile::tempdir().expect("folder");
        let store = store(folder.path(), 1_000_000);
        let kept: Vec<Transcript> = (0..5).map(|number| transcript(number, 10)).collect();
        for transcript in &kept {
            store.save(transcript).expect("save");
        }
        store.give_way().expect("room");
        let left: Vec<UtcMicros> =
            kept[3..].iter().map(|transcript| transcript.started_at).collect();
        assert_eq!(store.list(&kept[0].monitor).expect("list"), left);
    }

    #[test]
    fn a_stored_transcript_is_read_back_and_private() {
        let folder = tempfile::tempdir().expect("folder");
        let store = store(folder.path(), 1_000_000);
        let kept = transcript(0, 10);
        store.save(&kept).expect("save");
        assert_eq!(store.list(&kept.monitor).expect("list"), [kept.started_at]);
        assert_eq!(store.get(&kept.monitor, kept.started_at).expect("get"), kept);
        let other = "mail-2".parse().expect("a name");
        assert_eq!(store.list(&other).expect("list"), []);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = store.path(&kept.monitor, kept.started_at);
            let mode = fs::metadata(path).expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn the_oldest_transcripts_are_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let store = store(folder.path(), 50_000);
        let all: Vec<_> = (0..100).map(|number| transcript(number, 1_000)).collect();
        for kept in &all {
            store.save(kept).expect("save");
            let used: u64 = store.files(None).expect("files").iter().map(|file| file.size).sum();
            assert!(used <= 51_500, "{used}");
        }
        let left = store.list(&all[0].monitor).expect("list");
        assert!(left.len() > 30);
        assert_eq!(left.last(), Some(&all[99].started_at));
        let mut old = transcript(0, 10);
        old.started_at = UtcMicros(0);
        store.save(&old).expect("save");
        let fresh = Store { used: Mutex::default(), ..store };
        fresh.save(&transcript(200, 10)).expect("save");
        assert!(!fresh.list(&old.monitor).expect("list").contains(&UtcMicros(0)));
    }

    #[test]
    fn a_shown_transcript_marks_directions_and_escapes_control_characters() {
        let mut kept = transcript(0, 0);
        kept.started_at = UtcMicros(1_795_456_800_000_000);
        kept.conversations[0].began_at = kept.started_at;
        kept.stage = Some(Stage::SmtpRcpt);
        kept.error = Some("550 no".into());
        let said = |direction, bytes: &[u8], omitted| TranscriptEntry {
            at_us: 1_234_567,
            direction,
            text: None,
            base64: Some(STANDARD.encode(bytes)),
            omitted,
        };
        kept.conversations[0].said = vec![
            said(Direction::Note, b"connecting", 0),
            said(Direction::Received, b"220-a\r\n220 \x1b[31m\xff\r\n", 7),
            said(Direction::Sent, b"EHLO", 0),
        ];
        assert_eq!(
            kept.render(&TimeZone::UTC),
            "mail at 2026-11-23 18:00:00.000000: smtp_failed, smtp_rcpt: 550 no\n\
             site here, test 2026-11-23T18:00:00Z (UTC)\n\n\
             SMTP, started 2026-11-23 18:00:00.000000; time in seconds since then; > sent, < received\n  \
             1.234567 * connecting\n  1.234567 < 220-a\n  1.234567 < 220 \\u{1b}[31m\\xff\n  1.234567 < (7 bytes not stored)\n  \
             1.234567 > EHLO\n"
        );
    }

    #[test]
    fn later_sessions_are_added_once() {
        let folder = tempfile::tempdir().expect("folder");
        let store = store(folder.path(), 1_000_000);
        let kept = transcript(0, 10);
        store.save(&kept).expect("save");
        let mut sample = Sample::new(kept.monitor.clone(), kept.started_at, Outcome::Late);
        sample.settled = Some(true);
        let mut later = kept.conversations[0].clone();
        later.began_at = UtcMicros(later.began_at.0 + 5);
        let more = vec![kept.conversations[0].clone(), later.clone()];
        store.amend(&kept.site, &sample, more).expect("amend");
        let now = store.get(&kept.monitor, kept.started_at).expect("get");
        assert_eq!(now.outcome, Outcome::Late);
        assert_eq!(now.conversations, [kept.conversations[0].clone(), later]);
    }
}
