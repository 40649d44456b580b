//! Delivery: brings files to a target, completely or not at all. `targets` has a module for each
//! kind of target, `file_store` what all targets that store files share, and `outbox` what is still
//! to be delivered, with the ledger of what has been.
//!
//! This crate knows files and mails, but no report.

mod file_store;
mod names;
pub mod outbox;
mod targets;
mod trial;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use mailqos_config::{Config, FilesTarget, Target};
use mailqos_mail::CredentialError;
use mailqos_model::Name;
use serde::{Deserialize, Serialize};

pub use self::trial::{Finding, Trial};
use self::{
    file_store::{File, Old, Swept},
    targets::{Task, TaskResult, at_place, email, rules},
};

/// What is brought to a target.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    /// The files.
    pub items: Vec<Item>,
    /// Folder at the target, below the one that the target names; `/` between its parts; may be
    /// empty.
    pub folder: String,
    /// The same at the target that a mail links to.
    pub linked_folder: String,
    /// What a mail says.
    pub letter: MailContent,
}

/// A file to bring.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name at the target.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// What a mail says.
#[derive(Debug, Clone, Default)]
pub struct MailContent {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// Its HTML form, if it has one.
    pub html: Option<String>,
    /// The pictures that the HTML form shows as `cid:ID`.
    pub pictures: Vec<Inline>,
    /// What its Message-ID is made of: the same parcel always has the same.
    pub id: String,
    /// What it says of files that are not in it.
    pub notes: Notes,
}

/// What a mail says of files that are too large for it, in the report's language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Before the places where the files are.
    pub elsewhere: String,
    /// Before the names of files that are nowhere else.
    pub left_out: String,
    /// How many more files there are, as `{0}`.
    pub more: String,
    /// In place of a mail that is itself too large.
    pub too_large: String,
    /// The decimal sign of sizes.
    pub decimal: char,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            elsewhere: "The files are too large for this mail. They are here:".into(),
            left_out: "These files are too large for this mail and are not attached:".into(),
            more: "and {0} more".into(),
            too_large: "The report is too large for this mail.".into(),
            decimal: '.',
        }
    }
}

/// A picture within a mail.
#[derive(Debug, Clone)]
pub struct Inline {
    /// What the HTML form calls it: letters, digits, `-`, `_`, `.` and `@`.
    pub id: String,
    /// Its type, such as `image/png`.
    pub media_type: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// What became of a parcel.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// Where each file is, or who got it.
    pub places: Vec<String>,
    /// What the server said last.
    pub reply: String,
    /// Recipients whom the server refused, with its words.
    pub refused: Vec<(String, String)>,
    /// Recipients whom a server has accepted a mail for.
    pub accepted: Vec<Served>,
    /// Where the files are for recipients who can't take them: the target's name, and what became
    /// of them there.
    pub linked: Option<(String, Box<Receipt>)>,
}

/// Which parts of a delivery are done, so that no later attempt does them again.
pub struct Progress<'a> {
    /// What is done, and what the server said to it.
    pub done: BTreeMap<String, Served>,
    /// Puts it on disk.
    #[expect(clippy::type_complexity, reason = "used only here")]
    pub save: Box<dyn FnMut(&BTreeMap<String, Served>) -> std::io::Result<()> + Send + 'a>,
}

impl Progress<'_> {
    /// For what is tried once.
    pub fn forgotten() -> Self {
        Self { done: BTreeMap::new(), save: Box::new(|_| Ok(())) }
    }
}

/// A recipient whom a server has accepted a mail for, or refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The mail address.
    pub recipient: String,
    /// When, RFC 3339.
    pub at: String,
    /// Which server, and its words.
    pub reply: String,
    /// Whether it refused.
    pub refused: bool,
}

/// Why a parcel was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The configuration has no such target.
    #[error("unknown target {0:?}")]
    NoTarget(String),
    /// A file can't be read, or a folder can't be written.
    #[error("{what}: {source}{remedy}", remedy = remedy(.source))]
    Io {
        /// What was tried, and where.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The account's secret can't be had.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A server refused, or could not be talked to.
    #[error("{server}: {step}: {reason}")]
    Server {
        /// Which.
        server: String,
        /// What was tried.
        step: String,
        /// What it said, or what happened.
        reason: String,
        /// Whether a later try may succeed.
        transient: bool,
    },
    /// A mail server refused the mail for good.
    #[error("{server}: {reason}")]
    Refused {
        /// Which.
        server: String,
        /// Its words.
        reason: String,
    },
    /// An object store refused, or could not be reached.
    #[error("{reason}")]
    Store {
        /// What it said, or what happened, with the address.
        reason: String,
        /// Whether a later try may succeed.
        transient: bool,
    },
    /// Another file of the name is there, and is to stay.
    #[error("{0}: a different file with this name exists, and existing = \"refuse\"")]
    Exists(String),
    /// What has arrived is not what was sent.
    #[error("{place}: {reason}")]
    Differs {
        /// Where.
        place: String,
        /// In what it differs.
        reason: String,
    },
    /// The server let a file be written, shows nothing of it, and gives it no final name.
    #[error(
        "{place}: accepted under its temporary name but can't be renamed ({reason}); set temporary = \"none\", \
         or another pattern if another program removes such files"
    )]
    Unnamed {
        /// Where it was written.
        place: String,
        /// What the server said.
        reason: String,
    },
    /// The server confirmed a file before it had it, and shows nothing of it.
    #[error(
        "{0}: the server confirmed the file before receiving all of it and does not show it, so its arrival \
         can't be verified; give the account permission to list or read"
    )]
    Unconfirmed(String),
    /// The kind of target needs a cargo feature that this build lacks.
    #[error(
        "this build cannot deliver to {0} targets: it was built without the cargo feature {0:?}"
    )]
    NotBuiltIn(&'static str),
    /// A step took too long.
    #[error("{server}: {step}: no answer within {} s", .limit.as_secs())]
    Deadline {
        /// Which server.
        server: String,
        /// What was tried.
        step: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Recipients whom no server has answered for.
    #[error("not yet delivered to {}", .0.join(", "))]
    Due(Vec<String>),
    /// A mail can't be written.
    #[error("can't compose the mail: {0}")]
    MailContent(String),
    /// A name would lead out of the target's folder.
    #[error("{0:?} is outside the target's folder")]
    Outside(String),
    /// The target could not be opened: nothing was begun there.
    #[error("{0}")]
    Unopened(Box<DeliveryError>),
    /// The files can't be put to the target that a mail links to.
    #[error("{error}")]
    Linked {
        /// That target's name.
        target: Name,
        /// Why.
        error: Box<DeliveryError>,
    },
}

/// When another try may succeed; the sooner comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// At any time.
    Soon,
    /// When a person has mended something, such as a password or a right: it is tried seldom, and
    /// somebody is told.
    WhenMended,
    /// Not as it is.
    Never,
}

impl DeliveryError {
    /// A file or folder that can't be read or written.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let what = path.display().to_string();
        move |source| Self::Io { what, source }
    }

    /// A server's refusal in other words, where there are better ones.
    fn reworded(mut self, words: impl FnOnce(&str) -> Option<String>) -> Self {
        if let Self::Server { reason, .. } = &mut self
            && let Some(better) = words(reason)
        {
            *reason = better;
        }
        self
    }

    /// When another try may succeed.
    pub fn again(&self) -> Retry {
        match self {
            Self::NoTarget(_)
            | Self::MailContent(_)
            | Self::Refused { .. }
            | Self::Outside(_)
            | Self::Exists(_)
            | Self::Unnamed { .. }
            | Self::Unconfirmed(_) => Retry::Never,
            Self::Server { transient: false, .. }
            | Self::Store { transient: false, .. }
            | Self::Credentials(_)
            | Self::NotBuiltIn(_) => Retry::WhenMended,
            Self::Io { source, .. } if !remedy(source).is_empty() => Retry::WhenMended,
            Self::Server { .. }
            | Self::Store { .. }
            | Self::Io { .. }
            | Self::Deadline { .. }
            | Self::Due(_)
            | Self::Differs { .. } => Retry::Soon,
            Self::Unopened(error) | Self::Linked { error, .. } => error.again(),
        }
    }

    /// The target at which something may be begun that the attempt has failed to end: `own`, or the
    /// one that the mail links to. `None` where it did not come as far, as where the log-in was
    /// refused, or who goes there again would only wait once more.
    fn left_at<'a>(&'a self, own: &'a str) -> Option<&'a str> {
        match self {
            Self::Linked { target, error } => error.left_at(target.as_str()),
            Self::Server { .. }
            | Self::Io { .. }
            | Self::Exists(_)
            | Self::Differs { .. }
            | Self::Unnamed { .. } => Some(own),
            _ => None,
        }
    }

    /// Whether there is no room at the target.
    fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                )
            }
            Self::Server { reason, .. } => {
                let reason = reason.to_ascii_lowercase();
                let mut words = reason.split(|c: char| !c.is_alphanumeric());
                // RFC 959, section 4.2.1: 452 and 552 are about room. "Unsuccessful" is not.
                words.any(|word| matches!(word, "full" | "room"))
                    || ["no space", "quota"].iter().any(|words| reason.contains(words))
                    || reason.starts_with("452")
                    || reason.starts_with("552")
            }
            _ => false,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free up space there"
        }
        std::io::ErrorKind::PermissionDenied => "; give this user write permission there",
        std::io::ErrorKind::ReadOnlyFilesystem => "; it is mounted read-only",
        _ => "",
    }
}

/// Brings a parcel to a target.
///
/// # Errors
/// Nothing of it is visible under its final name, or (several files) only whole files are.
pub async fn deliver(
    config: &Config,
    target: &Name,
    parcel: &Parcel,
    progress: &mut Progress<'_>,
) -> Result<Receipt, DeliveryError> {
    let options =
        config.targets.get(target).ok_or_else(|| DeliveryError::NoTarget(target.to_string()))?;
    match options {
        Target::Files(target) => put(config, target, parcel).await,
        Target::Email(target) => email::deliver(config, target, parcel, progress).await,
    }
}

async fn put(
    config: &Config,
    target: &FilesTarget,
    parcel: &Parcel,
) -> Result<Receipt, DeliveryError> {
    let rules = rules(&target.place);
    let names = names::distinct(parcel.items.iter().map(|item| item.name.as_str()), rules);
    let files: Vec<File> = names
        .into_iter()
        .zip(&parcel.items)
        .map(|(name, item)| File { name, path: item.path.clone() })
        .collect();
    let below = names::parts(&parcel.folder, rules)?;
    match at_place(config, &target.place, &below, Task::Put(&files, target)).await? {
        TaskResult::Put(receipt) => Ok(receipt),
        TaskResult::Swept(_) | TaskResult::Abandoned | TaskResult::Tried(_) => {
            Ok(Receipt::default())
        }
    }
}

/// Removes files that were put before from a folder of a target, unless somebody has changed them;
/// tells what became of each, also where it ends early.
async fn sweep(config: &Config, target: &FilesTarget, folder: &str, old: &[Old]) -> Swept {
    let done = async {
        let below = names::parts(folder, rules(&target.place))?;
        at_place(config, &target.place, &below, Task::Sweep(old)).await
    };
    match done.await {
        Ok(TaskResult::Swept(swept)) => swept,
        Ok(TaskResult::Put(_) | TaskResult::Abandoned | TaskResult::Tried(_)) => {
            (Vec::new(), Ok(()))
        }
        Err(error) => (Vec::new(), Err(error)),
    }
}

/// Removes what was begun at a target of files that are given up: their names, and their SHA-256 in
/// hexadecimal.
async fn abandon(
    config: &Config,
    target: &Name,
    folder: &str,
    files: &[(&str, &str)],
) -> Result<(), DeliveryError> {
    // Mails are whole or none.
    let Some(Target::Files(target)) = config.targets.get(target) else {
        return Ok(());
    };
    let rules = rules(&target.place);
    let names = names::distinct(files.iter().map(|(name, _)| *name), rules);
    // Without temporary names, nothing tells what was begun from what was there.
    let Some(temporary) = &target.temporary else {
        return Ok(());
    };
    let parts: Vec<String> =
        names.iter().zip(files).map(|(name, (_, sha256))| temporary.of(name, sha256)).collect();
    let below = names::parts(folder, rules)?;
    at_place(config, &target.place, &below, Task::Abandon(&parts)).await?;
    Ok(())
}

/// Tries a target: does what a delivery does with a file that is removed again, or sends a small
/// mail.
///
/// # Errors
/// As [`deliver`].
pub async fn try_out(config: &Config, name: &Name) -> Result<Trial, DeliveryError> {
    let options =
        config.targets.get(name).ok_or_else(|| DeliveryError::NoTarget(name.to_string()))?;
    match options {
        Target::Email(_) => try_mail(config, name).await,
        Target::Files(files) => {
            match at_place(config, &files.place, &[], Task::Try(files)).await? {
                TaskResult::Tried(trial) => Ok(trial),
                TaskResult::Put(_) | TaskResult::Swept(_) | TaskResult::Abandoned => {
                    Err(DeliveryError::NoTarget(name.to_string()))
                }
            }
        }
    }
}

async fn try_mail(config: &Config, name: &Name) -> Result<Trial, DeliveryError> {
    let parcel = Parcel {
        letter: MailContent {
            subject: "mailqos tests this target".to_owned(),
            text: "If you can read this, reports will reach you.\n".to_owned(),
            id: mailqos_model::UtcMicros::now().to_string(),
            ..MailContent::default()
        },
        ..Parcel::default()
    };
    let receipt = deliver(config, name, &parcel, &mut Progress::forgotten()).await?;
    match receipt.refused.as_slice() {
        [] => Ok(Trial {
            works: true,
            summary: format!("{} ({})", receipt.places.join(", "), receipt.reply),
            findings: Vec::new(),
        }),
        refused => Err(DeliveryError::Server {
            server: name.to_string(),
            step: "recipients".into(),
            reason: refused
                .iter()
                .map(|(address, reply)| format!("{address}: {reply}"))
                .collect::<Vec<_>>()
                .join("; "),
            transient: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_clears_away_where_nothing_was_begun_or_nobody_answers() {
        let server = |transient: bool| DeliveryError::Server {
            server: "far:21".into(),
            step: "STOR r.pdf".into(),
            reason: "426 broken off".into(),
            transient,
        };
        let linked = |error: DeliveryError| DeliveryError::Linked {
            target: "share".parse().expect("a name"),
            error: Box::new(error),
        };
        let unopened = |error: DeliveryError| DeliveryError::Unopened(Box::new(error));
        assert_eq!(server(true).left_at("own"), Some("own"));
        // Such as a rename that is refused for good: what was written is there.
        assert_eq!(server(false).left_at("own"), Some("own"));
        assert_eq!(linked(server(true)).left_at("own"), Some("share"));
        assert_eq!(DeliveryError::Exists("r.pdf".into()).left_at("own"), Some("own"));
        let deadline = DeliveryError::Deadline {
            server: "far:21".into(),
            step: "STOR r.pdf".into(),
            limit: Duration::from_secs(30),
        };
        for error in [
            unopened(server(true)),
            unopened(server(false)),
            linked(unopened(server(true))),
            deadline,
            DeliveryError::NoTarget("own".into()),
        ] {
            assert_eq!(error.left_at("own"), None, "{error:?}");
        }
        // When it is tried again, and what is said of it, stays the same.
        assert_eq!(linked(unopened(server(false))).again(), Retry::WhenMended);
        assert_eq!(
            linked(unopened(server(true))).to_string(),
            "far:21: STOR r.pdf: 426 broken off"
        );
    }

    #[test]
    fn a_full_server_is_recognised_by_its_reply() {
        let full = |reason: &str| {
            DeliveryError::Server {
                server: "far:21".into(),
                step: "STOR r.pdf".into(),
                reason: reason.into(),
                transient: true,
            }
            .is_full()
        };
        for reason in [
            "452 later",
            "552 Exceeded",
            "disk full",
            "STATUS_DISK_FULL",
            "426 no space left on device",
            "the user's quota is used up",
            "Failure; the disk may be full",
        ] {
            assert!(full(reason), "{reason}");
        }
        for reason in
            ["426 transfer unsuccessful", "not successfully closed", "451 fullness of time"]
        {
            assert!(!full(reason), "{reason}");
        }
    }
}
