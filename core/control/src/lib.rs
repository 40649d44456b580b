//! The control interface of a running probe: one line of JSON over a socket that only its owner can
//! open, and one JSON document in return. Commands and the web console are its clients.

pub mod response;
mod state;
pub mod trial;

use std::{
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use mailqos_config::Config;
use mailqos_model::{Micros, UtcMicros};
use response::ErrorResponse;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

pub use state::{HalfHour, StateWord};

/// Maximum size of a request, in bytes: configuration files of a trial.
pub const MAX_REQUEST: u64 = 64 * 1024 * 1024;
/// Maximum size of a response, in bytes: ten times that of the status of ten thousand monitors.
const MAX_RESPONSE: u64 = 256 * 1024 * 1024;
/// How long a conversation may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command's request to the probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// The states of monitors, by selection.
    Status {
        /// Selections; all if empty.
        monitors: Vec<String>,
        /// Only monitors in one of these states; all if empty.
        #[serde(default)]
        states: Vec<StateWord>,
        /// Maximum number of monitors, those that need attention first (default: all, ordered by
        /// id).
        #[serde(default)]
        most: Option<usize>,
    },
    /// Acknowledges alarms.
    Ack {
        /// Selections.
        monitors: Vec<String>,
        /// Name of the operator.
        by: String,
        /// The operator's note.
        note: Option<String>,
        /// Whether alarms that are already acknowledged stay as they are.
        #[serde(default)]
        keep: bool,
    },
    /// Withdraws acknowledgements: reminders and escalations continue.
    AckWithdraw {
        /// Selections.
        monitors: Vec<String>,
        /// Name of the operator.
        by: String,
        /// The operator's note.
        #[serde(default)]
        note: Option<String>,
    },
    /// Adds a maintenance window.
    MaintenanceAdd {
        /// Name of the window (default: generated).
        name: Option<String>,
        /// Selections; all if empty.
        monitors: Vec<String>,
        /// Start of the window (default: now).
        from: Option<UtcMicros>,
        /// End of the window; of a recurring one, the time after which none starts.
        to: UtcMicros,
        /// How often a recurring window starts.
        #[serde(default)]
        repeats: Option<Repetition>,
        /// Reason for the maintenance.
        reason: Option<String>,
        /// Name of the operator.
        by: String,
        /// Whether tests are skipped.
        pause: bool,
    },
    /// Ends an added maintenance window.
    MaintenanceEnd {
        /// Name of the window.
        name: String,
        /// Name of the operator.
        #[serde(default)]
        by: Option<String>,
    },
    /// Declares a past period as maintenance.
    MaintenanceDeclare {
        /// Name of the declaration; generated if absent.
        name: Option<String>,
        /// Selections; all if empty.
        monitors: Vec<String>,
        /// Start of the period.
        from: UtcMicros,
        /// End of the period.
        to: UtcMicros,
        /// Reason of the maintenance.
        reason: String,
        /// Name of the person.
        by: String,
    },
    /// Withdraws such a declaration.
    MaintenanceWithdraw {
        /// Name of the declaration.
        name: String,
        /// Name of the person.
        by: String,
    },
    /// Lists the maintenance windows that are open or in the future.
    MaintenanceList,
    /// Simulates a failure of monitors.
    Simulate {
        /// Selections.
        monitors: Vec<String>,
        /// Duration of the simulation, in microseconds.
        lasts: i64,
        /// Name of the operator.
        by: String,
    },
    /// Ends simulations.
    SimulateEnd {
        /// Selections; all if empty.
        monitors: Vec<String>,
        /// Name of the operator.
        #[serde(default)]
        by: Option<String>,
    },
    /// Sends a test message through every action of a list, once.
    ActionsTest {
        /// Name of the action list.
        list: String,
        /// Name of the operator.
        by: String,
    },
    /// Records changes made in the web console as events.
    ConsoleChanges {
        /// The changes, oldest first.
        changes: Vec<ConsoleChange>,
    },
    /// Writes all recorded samples into the day files.
    Seal,
    /// Reloads the configuration.
    Reload,
    /// Tests a monitor with settings that are not saved; see [`trial`].
    Try(Box<trial::TrialRequest>),
}

/// A change made in the web console, as its audit log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleChange {
    /// Number of the entry in the audit log.
    pub number: u64,
    /// Time of the change.
    pub at: UtcMicros,
    /// Name of the user.
    pub by: String,
    /// Address of the user.
    pub from: String,
    /// What was done, such as `user_added`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// More, such as the new role.
    pub detail: String,
}

/// When a recurring maintenance window starts, in the time zone of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repetition {
    /// Start times as a cron expression.
    pub cron: String,
    /// Duration of each window.
    pub lasts: Micros,
}

/// Why a command could not talk to the probe, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No probe listens.
    #[error("no probe is running for site {site} with its state in {folder} ({reason}); start it: \
        mailqos-probe run", folder = folder.display())]
    NotRunning {
        /// The site.
        site: String,
        /// Folder of its socket.
        folder: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// This user has no permission.
    #[error("this user has no access to the probe of site {site} ({folder}: {reason}); run the command as the \
        user that runs the probe, or as root", folder = folder.display())]
    NotAllowed {
        /// The site.
        site: String,
        /// Folder of its socket.
        folder: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// No response in time.
    #[error("the probe did not answer within {0}; it hangs or is overloaded")]
    Silent(Micros),
    /// The connection was closed early.
    #[error("the probe did not answer: {0}")]
    Broken(String),
    /// The response has another form than this program expects.
    #[error(
        "can't understand the probe's response ({0}); the running probe may have a different version than this program: restart it"
    )]
    Misunderstood(String),
    /// The probe refused.
    #[error("{0}")]
    Refused(String),
}

/// Returns the folder of the socket. No one else may enter it, so the socket is protected even
/// before its mode is set.
fn folder(config: &Config) -> PathBuf {
    config.state.join(format!("site={}", config.site)).join("control")
}

/// The longest path of a socket (`sun_path` of unix(7), with a zero byte at its end).
const MAX_SOCKET_PATH: usize = 107;

/// Returns a path of the socket in this folder that is short enough, however long the folder's path
/// is. It is valid as long as the returned file is open.
fn socket(folder: &Path) -> std::io::Result<(Option<File>, PathBuf)> {
    let path = folder.join("socket");
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok((None, path));
    }
    let open = File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/socket", open.as_raw_fd()));
    Ok((Some(open), path))
}

/// Creates the socket of a probe; the site's lock must be held, because an existing socket is taken
/// to be left over from an earlier process.
///
/// # Errors
/// The folder or the socket can't be created.
pub fn listen(config: &Config) -> std::io::Result<UnixListener> {
    let folder = folder(config);
    if !folder.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    let path = folder.join("socket");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_open, short) = socket(&folder)?;
    let listener = UnixListener::bind(short).map_err(|error| {
        std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Sends a request to the running probe and returns its response.
///
/// # Errors
/// No probe runs, or it refuses.
pub async fn ask<T: DeserializeOwned>(
    config: &Config,
    request: &Request,
) -> Result<T, ControlError> {
    ask_within(config, request, PATIENCE).await
}

/// Sends a request to the running probe and waits this long for its response.
///
/// # Errors
/// No probe runs, or it refuses or does not respond in time.
pub async fn ask_within<T: DeserializeOwned>(
    config: &Config,
    request: &Request,
    patience: Duration,
) -> Result<T, ControlError> {
    let broken = |error: &dyn std::fmt::Display| ControlError::Broken(error.to_string());
    let conversation = async {
        let mut stream = connect(config).await?;
        let mut line = serde_json::to_vec(request).map_err(|error| broken(&error))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(|error| broken(&error))?;
        let mut answer = Vec::new();
        stream.take(MAX_RESPONSE).read_to_end(&mut answer).await.map_err(|error| broken(&error))?;
        Ok(answer)
    };
    let answer = tokio::time::timeout(patience, conversation)
        .await
        .unwrap_or_else(|_| Err(ControlError::Silent(Micros::from(patience))))?;
    read(&answer)
}

/// Connects to the running probe.
async fn connect(config: &Config) -> Result<UnixStream, ControlError> {
    let folder = folder(config);
    let unreachable = |error: std::io::Error| {
        let (site, folder, reason) = (config.site.to_string(), folder.clone(), error.to_string());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                ControlError::NotAllowed { site, folder, reason }
            }
            _ => ControlError::NotRunning { site, folder, reason },
        }
    };
    let (_open, path) = socket(&folder).map_err(unreachable)?;
    UnixStream::connect(path).await.map_err(unreachable)
}

/// Reads a response.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ControlError> {
    if let Ok(ErrorResponse { error }) = serde_json::from_slice(answer) {
        return Err(ControlError::Refused(error));
    }
    serde_json::from_slice(answer).map_err(|error| match error.classify() {
        // For example, if the probe was stopped meanwhile.
        Category::Eof | Category::Io => ControlError::Broken(error.to_string()),
        Category::Syntax | Category::Data => ControlError::Misunderstood(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use response::{Acknowledged, MaintenanceWindow, StatusResponse};
    use serde_json::Value;

    use super::*;

    #[test]
    fn responses_of_older_and_newer_probes_are_read_or_reported() {
        let older: StatusResponse =
            read(br#"{"monitors":[{"id":"m","state":"ok"}]}"#).expect("an older one");
        assert_eq!((older.monitors[0].id.as_str(), older.selected), ("m", None));
        let newer = br#"{"at":"2026-11-24T10:02:00Z","moon":{},"monitors":[{"id":"m","state":"asleep","last":null}]}"#;
        let newer: StatusResponse = read(newer).expect("a newer one");
        assert_eq!(newer.monitors[0].state, "asleep");
        let refused = read::<Acknowledged>(br#"{"error":"no such monitor"}"#).expect_err("refused");
        assert_eq!(refused.to_string(), "no such monitor");
        let other = read::<Vec<MaintenanceWindow>>(br#"{"windows":[]}"#).expect_err("another form");
        assert!(other.to_string().contains("may have a different version"), "{other}");
        let broken = read::<Acknowledged>(br#"{"acknow"#).expect_err("broken off");
        assert!(matches!(broken, ControlError::Broken(_)), "{broken}");
    }

    #[tokio::test]
    async fn a_state_folder_with_a_long_path_has_its_socket_and_a_silent_probe_is_reported() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("s".repeat(200)).join("t".repeat(200));
        let path = folder.path().join("mailqos.toml");
        let text = format!("site = \"here\"\nstate = \"{}\"\n", state.display());
        std::fs::write(&path, text).expect("write");
        let config = mailqos_config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let request = Request::MaintenanceList;
        let error = ask::<Value>(&config, &request).await.expect_err("nobody listens");
        assert!(matches!(error, ControlError::NotRunning { .. }), "{error}");

        let listener = listen(&config).expect("a socket");
        let place = super::folder(&config).join("socket");
        assert!(place.as_os_str().len() > MAX_SOCKET_PATH && place.exists());
        let (answer, ()) = tokio::join!(ask::<Value>(&config, &request), async {
            let (mut stream, _) = listener.accept().await.expect("a command");
            assert!(stream.read(&mut [0; 4096]).await.expect("a command") > 0);
            stream.write_all(b"[1]").await.expect("an answer");
        });
        assert_eq!(answer.expect("an answer"), serde_json::json!([1]));

        // Now no one accepts, as if the probe hung.
        let error = ask_within::<Value>(&config, &request, Duration::from_millis(50))
            .await
            .expect_err("silence");
        assert!(matches!(error, ControlError::Silent(_)), "{error}");
        // A socket left by an earlier process does not prevent a restart.
        drop(listener);
        listen(&config).expect("a socket");
    }
}
