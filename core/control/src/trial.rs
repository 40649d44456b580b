//! Trials: a test of a monitor with settings that are not saved. The probe sends several documents,
//! one a line: what happens while the test runs, and at the end its result.

use std::{collections::BTreeMap, fmt, time::Duration};

use mailqos_base::Secret;
use mailqos_config::{Config, Overlay};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::{ControlError, Request, connect, read};

/// Longest trial; then the test is stopped.
pub const MAX_TRIAL: Duration = Duration::from_secs(600);
/// Time beyond that in which the result must be there.
const GRACE: Duration = Duration::from_secs(30);

/// A secret in a request. Only the owner of the socket can read it.
#[derive(Clone)]
pub struct SecretText(pub Secret);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Secret::new(String::deserialize(from)?)))
    }
}

/// What to test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrialRequest {
    /// Id of the monitor.
    pub monitor: String,
    /// Texts in place of the configuration files.
    #[serde(default)]
    pub files: Overlay,
    /// Passwords of accounts that are not stored yet, by the names of the accounts.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretText>,
    /// Name of the operator.
    pub by: String,
}

/// What happens in a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrialEvent {
    /// The test has started.
    Started {
        /// What it does, in words.
        plan: String,
    },
    /// The server has accepted the mail.
    Sent {
        /// The phases so far.
        phases: Vec<TrialPhase>,
    },
    /// The test still runs.
    Waiting {
        /// Time since the start, in microseconds.
        took: i64,
    },
    /// The test is over.
    Done(TrialResult),
}

/// A phase of a test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialPhase {
    /// `smtp`, `transit` or `pickup`.
    pub part: String,
    /// Its name, such as `login`.
    pub name: String,
    /// Its start relative to the start of the test, in microseconds.
    pub begin: i64,
    /// Its duration, in microseconds.
    pub took: i64,
}

/// The result of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialResult {
    /// Whether the outcome is `ok`.
    pub ok: bool,
    /// Outcome with its reason, in a line.
    pub verdict: String,
    /// What to do, if that is known.
    pub remedy: Option<String>,
    /// Remarks that did not affect the outcome.
    pub notes: Vec<String>,
    /// All phases.
    pub phases: Vec<TrialPhase>,
}

/// Lets the running probe try a monitor, and passes on what happens until the trial is over.
/// Dropping the future stops the test.
///
/// # Errors
/// No probe is running, or it rejects or aborts the request.
pub async fn try_monitor(
    config: &Config,
    request: TrialRequest,
    mut heard: impl FnMut(TrialEvent),
) -> Result<(), ControlError> {
    let broken = |error: std::io::Error| ControlError::Broken(error.to_string());
    let conversation = async {
        let mut stream = connect(config).await?;
        let mut line = serde_json::to_vec(&Request::Try(Box::new(request)))
            .map_err(|error| ControlError::Broken(error.to_string()))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(broken)?;
        let (reader, _writer) = stream.split();
        let mut lines = BufReader::new(reader.take(MAX_LINES)).lines();
        while let Some(line) = lines.next_line().await.map_err(broken)? {
            let event: TrialEvent = read(line.as_bytes())?;
            let is_over = matches!(event, TrialEvent::Done(_));
            heard(event);
            if is_over {
                return Ok(());
            }
        }
        Err(ControlError::Broken("the probe has ended the trial".to_owned()))
    };
    tokio::time::timeout(MAX_TRIAL + GRACE, conversation)
        .await
        .unwrap_or_else(|_| Err(ControlError::Silent((MAX_TRIAL + GRACE).into())))
}

/// Maximum size of all documents about a trial, in bytes.
const MAX_LINES: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_no_secret() {
        let request = TrialRequest {
            monitor: "m".to_owned(),
            files: Overlay::default(),
            secrets: [("a".to_owned(), SecretText(Secret::new("hunter2 \"#")))].into(),
            by: "anna".to_owned(),
        };
        assert!(!format!("{request:?}").contains("hunter2"));
        let text = serde_json::to_string(&Request::Try(Box::new(request))).expect("JSON");
        let Request::Try(read) = serde_json::from_str(&text).expect("a request") else {
            panic!("{text}");
        };
        assert_eq!(read.secrets["a"].0.expose(), "hunter2 \"#");
    }
}
