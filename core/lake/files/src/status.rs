//! The published status of a probe: the state of its monitors, for programs that must not read the
//! probe's private files.
//!
//! `<data>/status/site=<site>/status.json` is replaced atomically. Readers ignore unknown keys, use
//! defaults for missing ones, and treat a status older than three times its interval as stale. If
//! the lake is in an object store, the object of the same name is replaced less often.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use mailqos_base::files::{self, Access};
use mailqos_model::{Micros, MonitorId, ObjectId, SiteName, UtcMicros};
use serde::{Deserialize, Serialize};

use crate::{Remote, RemoteError, work_folder};

/// Version of the format, which changes only if older readers would misread a newer file.
pub const STATUS_VERSION: u32 = 1;
/// Largest status that is read, in bytes: about ten times that of 10,000 monitors.
const MAX_STATUS: u64 = 64 << 20;
/// Number of intervals after which a status is stale.
const STALE_AFTER: i64 = 3;

/// The published status of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the format.
    pub version: u32,
    /// Site of the probe.
    pub site: SiteName,
    /// Time at which the file was written.
    pub written_at: Timestamp,
    /// Longest time between two writes while the probe runs, in seconds.
    pub interval_s: u32,
    /// The probe itself.
    #[serde(default)]
    pub probe: ProbeStatus,
    /// All configured monitors.
    #[serde(default)]
    pub monitors: Vec<MonitorStatus>,
    /// Health of the notification channels, by their names.
    #[serde(default)]
    pub channels: BTreeMap<String, ChannelStatus>,
}

/// State and counters of the probe. Counters start at 0 with the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeStatus {
    /// Version of the program, such as `0.1.0`.
    pub program: String,
    /// `false` in the last status before a planned stop.
    pub running: bool,
    /// Started tests.
    pub started: u64,
    /// Tests started more than a second late.
    pub late: u64,
    /// Tests skipped because the previous one was still running.
    pub skipped: u64,
    /// Reason why samples can't be recorded.
    pub recorder_problem: Option<String>,
    /// Reason why metrics can't be served.
    pub metrics_problem: Option<String>,
    /// Reason why no heartbeat is accepted.
    pub heartbeat_problem: Option<String>,
    /// Open alarms about the probe itself: `mailqos.recorder`, `mailqos.probe`.
    pub alarms: BTreeMap<MonitorId, AlarmStatus>,
    /// Notifications about the probe itself that no channel has accepted yet.
    pub unsent: u32,
}

/// State of a monitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorState {
    /// The last test succeeded.
    Ok,
    /// The last tests failed, but not enough of them for an alarm.
    Failed,
    /// An alarm is open.
    Alarm,
    /// A maintenance window is open.
    Maintenance,
    /// Disabled in the configuration.
    Disabled,
    /// There is no current result. Also used for states that a newer version adds.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Status of a monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Id, such as `mail-1`.
    pub id: MonitorId,
    /// Display name.
    #[serde(default)]
    pub name: String,
    /// The monitored object.
    pub object: ObjectId,
    /// State of the monitor.
    #[serde(default)]
    pub state: MonitorState,
    /// Start of the first of the current failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Failed tests in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Reason for the last failure, while failures last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastTest>,
    /// Start of the last successful test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ok: Option<Timestamp>,
    /// Start of the next test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The open alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmStatus>,
    /// The open maintenance window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceStatus>,
    /// Notifications that no channel has accepted yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsent: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The last test of a monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastTest {
    /// Start of the test.
    pub started_at: Timestamp,
    /// Outcome in the terms of the lake; newer versions may add some.
    pub outcome: String,
    /// Estimated round trip, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<i64>,
    /// Guaranteed error of the round trip, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_error_us: Option<i64>,
}

/// An open alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmStatus {
    /// Time at which it was raised.
    pub since: Timestamp,
    /// Time at which a channel first accepted a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<Timestamp>,
    /// The operator who acknowledged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<AcknowledgementStatus>,
}

/// The acknowledgement of an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcknowledgementStatus {
    /// Name of the operator.
    pub by: String,
    /// Time of the acknowledgement.
    pub at: Timestamp,
    /// Note of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An open maintenance window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaintenanceStatus {
    /// Name of the window.
    pub name: String,
    /// End of the window.
    pub until: Timestamp,
    /// Reason for the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Health of a notification channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelStatus {
    /// Failures since it last accepted a notification.
    pub failures: u32,
    /// Time at which it last accepted a notification.
    pub accepted_at: Option<Timestamp>,
    /// Time at which it last failed.
    pub failed_at: Option<Timestamp>,
    /// The last failure.
    pub error: Option<String>,
}

/// Reasons why a published status can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content is not a status.
    #[error("{path} is not a valid status ({source}); a running probe replaces it", path = path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The object store refuses, or can't be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A newer program wrote it in another format.
    #[error(
        "{path} has version {version}, this program reads version {STATUS_VERSION}; update this program",
        path = path.display()
    )]
    Version {
        /// Path of the file.
        path: PathBuf,
        /// Version of the file.
        version: u32,
    },
}

impl Status {
    /// Returns whether the status is outdated: its age exceeds three intervals. A status from the
    /// future is stale by the same limit, because one of the clocks must be wrong.
    pub fn is_stale(&self, now: UtcMicros) -> bool {
        let limit = i64::from(self.interval_s) * STALE_AFTER * 1_000_000;
        let Micros(age) = now - UtcMicros::from(self.written_at);
        age.abs() > limit
    }

    /// Returns the file's content.
    ///
    /// # Errors
    /// A value can't be represented in JSON.
    pub fn to_json(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Replaces the published status of its site, and returns the size of the file in bytes.
    /// Readers see either the old status or the new one.
    ///
    /// # Errors
    /// The file system refuses; the old status is still in place.
    pub fn publish(&self, data: &Path) -> io::Result<usize> {
        let path = status_path(data, &self.site);
        let work = work_folder(data);
        std::fs::create_dir_all(path.parent().unwrap_or(data))?;
        std::fs::create_dir_all(&work)?;
        let temporary = work.join(format!("status.{}.json", self.site));
        let bytes = self.to_json()?;
        files::replace(&path, &temporary, Access::Umask, |file| file.write_all(&bytes))?;
        Ok(bytes.len())
    }

    /// Replaces the published status of its site in an object store.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn upload(&self, remote: &Remote) -> Result<(), StatusError> {
        let name = object_name(&self.site);
        let bytes = self
            .to_json()
            .map_err(|source| StatusError::Io { path: PathBuf::from(&name), source })?;
        Ok(remote.replace(&name, bytes).await?)
    }

    /// Reads the published status of a site; returns `None` if there is none, as with older probes.
    ///
    /// # Errors
    /// The file can't be read, is too large, is not a status, or has a newer format.
    pub fn read(data: &Path, site: &SiteName) -> Result<Option<Self>, StatusError> {
        let path = status_path(data, site);
        match files::read(&path, MAX_STATUS) {
            Ok(bytes) => Self::parse(&path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StatusError::Io { path, source }),
        }
    }

    /// Reads the published status of a site from an object store; returns `None` if there is none.
    ///
    /// # Errors
    /// The store refuses or can't be reached; the object is not a status, or has a newer format.
    pub async fn download(remote: &Remote, site: &SiteName) -> Result<Option<Self>, StatusError> {
        let name = object_name(site);
        match remote.get_within(&name, MAX_STATUS).await? {
            Some((_, bytes)) => {
                Self::parse(&Path::new(remote.address()).join(name), &bytes).map(Some)
            }
            None => Ok(None),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StatusError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let content = |source| StatusError::Content { path: path.to_owned(), source };
        let Header { version } = serde_json::from_slice(bytes).map_err(content)?;
        if version > STATUS_VERSION {
            let path = path.to_owned();
            return Err(StatusError::Version { path, version });
        }
        serde_json::from_slice(bytes).map_err(content)
    }
}

fn object_name(site: &SiteName) -> String {
    format!("status/site={site}/status.json")
}

/// Returns the path of a site's published status.
pub fn status_path(data: &Path, site: &SiteName) -> PathBuf {
    data.join("status").join(format!("site={site}")).join("status.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UtcMicros = UtcMicros(1_780_000_000_000_000);

    fn status() -> Status {
        Status {
            version: STATUS_VERSION,
            site: "lyon".parse().expect("a name"),
            written_at: NOW.timestamp(),
            interval_s: 15,
            probe: ProbeStatus::default(),
            monitors: vec![],
            channels: BTreeMap::new(),
        }
    }

    fn folder_with(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let path = status_path(folder.path(), &status().site);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
        folder
    }

    #[test]
    fn a_published_status_is_read_back_and_replaced_without_remains() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut status = status();
        assert_eq!(Status::read(folder.path(), &status.site).expect("no error"), None);
        status.publish(folder.path()).expect("published");
        status.probe.running = true;
        status.publish(folder.path()).expect("replaced");
        let read = Status::read(folder.path(), &status.site).expect("readable");
        assert_eq!(read, Some(status));
        assert_eq!(std::fs::read_dir(work_folder(folder.path())).expect("a folder").count(), 0);
    }

    #[test]
    fn unknown_keys_and_states_are_accepted_and_missing_keys_have_defaults() {
        let folder = folder_with(
            r#"{"version":1,"site":"lyon","written_at":"2026-11-24T10:00:00Z","interval_s":15,"moon":{"phase":1},
               "monitors":[{"id":"m","object":"o","state":"asleep","colour":"red"},{"id":"n","object":"o","state":"alarm"}]}"#,
        );
        let status = Status::read(folder.path(), &status().site).expect("readable").expect("there");
        let states: Vec<MonitorState> =
            status.monitors.iter().map(|monitor| monitor.state).collect();
        assert_eq!(states, [MonitorState::Unknown, MonitorState::Alarm]);
    }

    #[test]
    fn damaged_and_newer_files_are_errors_that_name_the_file_and_the_remedy() {
        for (text, words) in [
            ("{\"version\":1,\"site\":\"ly", "is not a valid status"),
            ("", "is not a valid status"),
            ("{\"version\":2}", "has version 2, this program reads version 1; update"),
        ] {
            let folder = folder_with(text);
            let error = Status::read(folder.path(), &status().site).expect_err("an error");
            let said = error.to_string();
            assert!(said.contains(words) && said.contains("status.json"), "{said}");
        }
    }

    #[test]
    fn a_status_is_stale_after_three_intervals_in_either_direction() {
        let status = status();
        for (seconds, stale) in [(0, false), (45, false), (46, true), (-45, false), (-46, true)] {
            assert_eq!(status.is_stale(NOW + Micros::from_secs(seconds)), stale, "{seconds}");
        }
    }
}
