//! How commands talk to the running probe: one line of JSON over a socket that only its owner can open, one document back.

mod server;

use std::{path::PathBuf, time::Duration};

use mailqos_core::{config::Config, model::UtcMicros};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

pub use server::{Live, serve};

use crate::status::StateWord;

/// A request larger than this is refused.
const MOST_REQUEST: u64 = 1024 * 1024;
/// An answer larger than this is not read: status of ten thousand monitors is a tenth of it.
const MOST_ANSWER: u64 = 256 * 1024 * 1024;
/// How long a conversation may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command asks of the probe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// The states of monitors, by selection.
    Status {
        /// Selections; all if empty.
        monitors: Vec<String>,
        /// Only those that are in one of these states; in any if empty.
        #[serde(default)]
        states: Vec<StateWord>,
        /// At most so many, those first that somebody should look at; all, in the order of their ids, if nothing is said.
        #[serde(default)]
        most: Option<usize>,
    },
    /// Somebody looks after alarms.
    Ack {
        /// Selections.
        monitors: Vec<String>,
        /// Who.
        by: String,
        /// What they say.
        note: Option<String>,
    },
    /// A maintenance begins.
    MaintenanceAdd {
        /// Its name; made up if absent.
        name: Option<String>,
        /// Selections; all if empty.
        monitors: Vec<String>,
        /// The first moment; now if absent.
        from: Option<UtcMicros>,
        /// The first moment after it.
        to: UtcMicros,
        /// What for.
        reason: Option<String>,
        /// Who.
        by: String,
        /// Whether tests are left out.
        pause: bool,
    },
    /// A maintenance that was added ends.
    MaintenanceEnd {
        /// Its name.
        name: String,
    },
    /// The maintenance windows that are open or still come.
    MaintenanceList,
    /// Monitors count as failed.
    Simulate {
        /// Selections.
        monitors: Vec<String>,
        /// For how long, in microseconds.
        lasts: i64,
        /// Who.
        by: String,
    },
    /// They count as they are again.
    SimulateEnd {
        /// Selections; all if empty.
        monitors: Vec<String>,
    },
    /// What was recorded is written into the day files.
    Seal,
    /// The configuration is read anew.
    Reload,
}

/// Why a command could not talk to the probe, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no probe runs for site {site} with its state in {folder} ({reason}); start it: mailqos-probe run", folder = folder.display())]
    NotRunning {
        /// The site.
        site: String,
        /// Where its socket would be.
        folder: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// This user may not ask.
    #[error("this user may not ask the probe of site {site} ({folder}: {reason}); ask as the user that runs it, or as root", folder = folder.display())]
    NotAllowed {
        /// The site.
        site: String,
        /// Where its socket is.
        folder: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The conversation broke.
    #[error("the probe did not answer: {0}")]
    Broken(String),
    /// The probe refused.
    #[error("{0}")]
    Refused(String),
}

/// The folder of the socket: nobody else may enter it, so that nobody finds the socket before its mode is set.
fn folder(config: &Config) -> PathBuf {
    config.state.join(format!("site={}", config.site)).join("control")
}

/// Asks the running probe.
///
/// # Errors
/// None runs, or it refuses.
pub async fn ask(config: &Config, request: &Request) -> Result<Value, ControlError> {
    let folder = folder(config);
    let broken = |error: &dyn std::fmt::Display| ControlError::Broken(error.to_string());
    let conversation = async {
        let mut stream = UnixStream::connect(folder.join("socket")).await.map_err(|error| {
            let (site, folder, reason) = (config.site.to_string(), folder.clone(), error.to_string());
            match error.kind() {
                std::io::ErrorKind::PermissionDenied => ControlError::NotAllowed { site, folder, reason },
                _ => ControlError::NotRunning { site, folder, reason },
            }
        })?;
        let mut line = serde_json::to_vec(request).map_err(|error| broken(&error))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(|error| broken(&error))?;
        let mut answer = Vec::new();
        stream
            .take(MOST_ANSWER)
            .read_to_end(&mut answer)
            .await
            .map_err(|error| broken(&error))?;
        serde_json::from_slice::<Value>(&answer).map_err(|error| broken(&error))
    };
    let mut answer = tokio::time::timeout(PATIENCE, conversation)
        .await
        .unwrap_or_else(|_| Err(ControlError::Broken("it is silent".to_owned())))?;
    match answer.get_mut("error").map(Value::take) {
        Some(Value::String(error)) => Err(ControlError::Refused(error)),
        _ => Ok(answer),
    }
}
