//! Orders are deliveries as stored on disk: a folder for each, with `order.json` next to the files.

use std::{collections::BTreeMap, fs, io, path::Path};

use mailqos_config::{Config, Target};
use mailqos_model::{Micros, Name, UtcMicros};
use serde::{Deserialize, Serialize};

use mailqos_base::files;

use super::files::{OutboxError, failed, private_file, sync};
use crate::{Notes, Served};

/// Bytes of disk space that an attempt reserves, and for each recipient in addition. The server's
/// replies must fit even if the disk fills up during the attempt.
const RESERVE: (usize, usize) = (16 << 10, 1 << 10);

/// A stored delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Id of the order. The same files for the same target and occasion have the same id.
    pub id: String,
    /// The target's name in the configuration.
    pub target: String,
    /// Folder below the target's own.
    pub folder: String,
    /// Folder at the target that a mail links to.
    #[serde(default)]
    pub linked_folder: String,
    /// Subject of the mail.
    pub subject: String,
    /// Text of the mail.
    pub text: String,
    /// HTML form of the mail.
    pub html: Option<String>,
    /// Notes in the mail about files that are not attached.
    #[serde(default)]
    pub notes: Notes,
    /// Pictures of the HTML form, stored next to the order: content ids and media types.
    #[serde(default)]
    pub pictures: Vec<(String, String)>,
    /// The files, stored next to the order.
    pub files: Vec<StoredFile>,
    /// When it was ordered, in microseconds since 1970 UTC.
    pub ordered_at: i64,
    /// Number of attempts so far.
    pub attempts: u32,
    /// When the next attempt is due, in microseconds since 1970 UTC.
    pub next_attempt_at: i64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// The report's slug; empty for files given on the command line.
    #[serde(default)]
    pub report: String,
    /// When the report was due; empty for files given on the command line.
    #[serde(default)]
    pub run: String,
    /// Id of the delivery that this one repeats; empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repeats: String,
    /// Completed parts, which later attempts don't repeat.
    #[serde(default)]
    pub done: BTreeMap<String, Served>,
    /// Whether only an operator can fix the cause of the last failure, such as a wrong password.
    #[serde(default)]
    pub stuck: bool,
    /// When it became stuck, in microseconds since 1970 UTC.
    #[serde(default)]
    pub stuck_at: i64,
}

impl Order {
    /// Returns the number of attempts in words, such as `2 attempts`.
    pub fn tries(&self) -> String {
        match self.attempts {
            1 => "1 attempt".to_owned(),
            several => format!("{several} attempts"),
        }
    }

    /// Returns the options of its target, or `None` if the configuration has no such target.
    pub(super) fn target_options<'a>(&self, config: &'a Config) -> Option<&'a Target> {
        config.targets.get(&self.target.parse::<Name>().ok()?)
    }

    /// Returns the number of recipients of a mail, or 0 for other targets.
    pub(super) fn recipients(&self, config: &Config) -> usize {
        match self.target_options(config) {
            Some(Target::Email(target)) => target.recipients().len(),
            _ => 0,
        }
    }

    pub(super) fn load(folder: &Path) -> Result<Self, OutboxError> {
        let path = folder.join("order.json");
        let text = files::read_state(&path).map_err(failed(&path))?;
        serde_json::from_slice(&text)
            .map_err(|error| OutboxError::Order { path, reason: error.to_string() })
    }

    /// Loads all orders of a folder, oldest first.
    pub(super) fn load_all(folder: &Path) -> Result<Vec<Self>, OutboxError> {
        let mut orders = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            match Self::load(&path) {
                Ok(order) => orders.push(order),
                // It was delivered in the meantime.
                Err(_) if !path.exists() => {}
                Err(error) => tracing::error!(%error, "unreadable delivery record skipped"),
            }
        }
        orders.sort_by(|a: &Self, b| {
            (a.ordered_at, &a.run, &a.id).cmp(&(b.ordered_at, &b.run, &b.id))
        });
        Ok(orders)
    }

    /// Replaces the order in its folder. It is overwritten in place to use the space of
    /// [`reserve`], which a new temporary file would release.
    pub(super) fn save(&self, folder: &Path) -> Result<(), OutboxError> {
        let path = folder.join("order.json");
        let text = serde_json::to_vec_pretty(self).map_err(|error| OutboxError::Order {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let new = folder.join("order.new");
        private_file(&new, &text).map_err(failed(&new))?;
        fs::rename(&new, &path).map_err(failed(&path))?;
        sync(folder).map_err(failed(folder))
    }
}

/// Reserves the disk space that the next [`Order::save`] needs.
pub(super) fn reserve(folder: &Path, recipients: usize) -> io::Result<()> {
    let text = fs::metadata(folder.join("order.json"))?.len() as usize;
    let space = vec![b' '; text + RESERVE.0 + recipients * RESERVE.1];
    private_file(&folder.join("order.new"), &space)
}

/// A file of an order.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name at the target.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Returns whether a time has come, or is so far in the future that the clock must have been wrong
/// when it was set.
pub fn is_due(at: i64, now: UtcMicros, pause: Micros) -> bool {
    at <= now.0 || at > now.0.saturating_add(pause.0.saturating_mul(2))
}
