//! Delivers files to a target, completely or not at all. `targets` has a module for each kind of
//! target, `file_store` has what all targets that store files share, and `outbox` has pending
//! deliveries and the ledger of completed ones.
//!
//! This crate handles files and mails and does not depend on reports.

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

use mailqos_config::{Config, Endpoint, FilesPlace, FilesTarget, Target};
use mailqos_mail::CredentialError;
use mailqos_model::Name;
use serde::{Deserialize, Serialize};

pub use self::trial::{Finding, Trial};
use self::{
    file_store::{File, Old, Swept},
    targets::{Task, TaskResult, at_place, email, rules},
};

/// The files and the mail text to deliver to a target.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    /// The files.
    pub items: Vec<Item>,
    /// Folder at the target, below the target's own; `/` separates its parts. May be empty.
    pub folder: String,
    /// The same folder at the target that a mail links to.
    pub linked_folder: String,
    /// Contents of the mail.
    pub letter: MailContent,
}

/// A file to deliver.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name at the target.
    pub name: String,
    /// Path of the local file.
    pub path: PathBuf,
}

/// Contents of a mail.
#[derive(Debug, Clone, Default)]
pub struct MailContent {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// Its HTML version, if there is one.
    pub html: Option<String>,
    /// Pictures that the HTML form references as `cid:ID`.
    pub pictures: Vec<Inline>,
    /// Source of the Message-ID: the same parcel always has the same id.
    pub id: String,
    /// Notes about files that are not attached.
    pub notes: Notes,
}

/// Notes in a mail about files that are too large to attach, in the report's language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Text before the locations of the files.
    pub elsewhere: String,
    /// Text before the names of files that are stored nowhere else.
    pub left_out: String,
    /// Text for the number of further files, with the placeholder `{0}`.
    pub more: String,
    /// Text that replaces a mail that is itself too large.
    pub too_large: String,
    /// Decimal separator of sizes.
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

/// An inline picture of a mail.
#[derive(Debug, Clone)]
pub struct Inline {
    /// Content id by which the HTML form references it: letters, digits, `-`, `_`, `.` and `@`.
    pub id: String,
    /// Media type, such as `image/png`.
    pub media_type: String,
    /// Contents of the file.
    pub bytes: Vec<u8>,
}

/// Result of a delivery.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// Location of each file, or the recipients.
    pub places: Vec<String>,
    /// The last reply of the server.
    pub reply: String,
    /// Recipients that the server refused, with its replies.
    pub refused: Vec<(String, String)>,
    /// Recipients whose mail a server accepted.
    pub accepted: Vec<Served>,
    /// The target that stores the files for recipients whose mail can't hold them, and the result
    /// there.
    pub linked: Option<(String, Box<Receipt>)>,
}

/// Completed parts of a delivery, which later attempts don't repeat.
pub struct Progress<'a> {
    /// Completed parts by key, with the server's reply.
    pub done: BTreeMap<String, Served>,
    /// Stores the completed parts on disk.
    #[expect(clippy::type_complexity, reason = "used only here")]
    pub save: Box<dyn FnMut(&BTreeMap<String, Served>) -> std::io::Result<()> + Send + 'a>,
}

impl Progress<'_> {
    /// Returns progress that is not stored, for a single attempt.
    pub fn forgotten() -> Self {
        Self { done: BTreeMap::new(), save: Box::new(|_| Ok(())) }
    }
}

/// A recipient whose mail a server accepted or permanently refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The mail address.
    pub recipient: String,
    /// Time of the reply, RFC 3339.
    pub at: String,
    /// Name of the server and its reply.
    pub reply: String,
    /// Whether the server refused the recipient.
    pub refused: bool,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The configuration has no such target.
    #[error("unknown target {0:?}")]
    NoTarget(String),
    /// A file can't be read, or a folder can't be written.
    #[error("{what}: {source}{remedy}", remedy = remedy(.source))]
    Io {
        /// The attempted operation and its location.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The account's secret is not available.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A server refused a step, or the connection failed.
    #[error("{server}: {step}: {reason}")]
    Server {
        /// Name of the server.
        server: String,
        /// The attempted step.
        step: String,
        /// The server's reply, or a description of the failure.
        reason: String,
        /// Whether a later attempt may succeed.
        transient: bool,
    },
    /// A mail server permanently refused the mail.
    #[error("{server}: {reason}")]
    Refused {
        /// Name of the server.
        server: String,
        /// The server's reply.
        reason: String,
    },
    /// An object store refused, or could not be reached.
    #[error("{reason}")]
    Store {
        /// The store's reply, or a description of the failure, with the address.
        reason: String,
        /// Whether a later attempt may succeed.
        transient: bool,
    },
    /// A file of that name exists and must not be replaced.
    #[error("{0}: a different file with this name exists, and existing = \"refuse\"")]
    Exists(String),
    /// The delivered file differs from the one that was sent.
    #[error("{place}: {reason}")]
    Differs {
        /// Location of the file.
        place: String,
        /// Difference between the files.
        reason: String,
    },
    /// The server accepted a file but does not show it and refuses to rename it.
    #[error(
        "{place}: accepted under its temporary name but can't be renamed ({reason}); set temporary = \"none\", \
         or another pattern if another program removes such files"
    )]
    Unnamed {
        /// Location of the file.
        place: String,
        /// The server's reply.
        reason: String,
    },
    /// The server confirmed a file before receiving it, and does not show it.
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
    /// A step exceeded its deadline.
    #[error("{server}: {step}: no answer within {} s", .limit.as_secs())]
    Deadline {
        /// Name of the server.
        server: String,
        /// The attempted step.
        step: String,
        /// The deadline.
        limit: Duration,
    },
    /// Recipients for whom no server has given a final answer.
    #[error("not yet delivered to {}", .0.join(", "))]
    Due(Vec<String>),
    /// The mail can't be composed.
    #[error("can't compose the mail: {0}")]
    MailContent(String),
    /// A name would lead outside the target's folder.
    #[error("{0:?} is outside the target's folder")]
    Outside(String),
    /// The target could not be opened, so nothing was started there.
    #[error("{0}")]
    Unopened(Box<DeliveryError>),
    /// The files can't be stored at the target that a mail links to.
    #[error("{error}")]
    Linked {
        /// Name of that target.
        target: Name,
        /// The error at that target.
        error: Box<DeliveryError>,
    },
}

/// When another attempt may succeed, soonest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// At any time.
    Soon,
    /// After an operator has fixed something, such as a password or a permission. It is tried
    /// rarely, and someone is notified.
    WhenMended,
    /// Never in its present form.
    Never,
}

impl DeliveryError {
    /// Returns a function that describes a failed file or folder operation.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let what = path.display().to_string();
        move |source| Self::Io { what, source }
    }

    /// Replaces the reason for a server's refusal if `words` has a better one.
    fn reworded(mut self, words: impl FnOnce(&str) -> Option<String>) -> Self {
        if let Self::Server { reason, .. } = &mut self
            && let Some(better) = words(reason)
        {
            *reason = better;
        }
        self
    }

    /// Returns when another attempt may succeed.
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

    /// Returns the target that may hold a partial delivery of the failed attempt: `own`, or the
    /// target that the mail links to. Returns `None` if the attempt did not get that far, as after
    /// a refused login, or if a visit to the target would only time out again.
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

    /// Returns whether the target is out of space.
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
                // RFC 959, section 4.2.1: 452 and 552 concern disk space, but "unsuccessful" does not.
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

/// Delivers a parcel to a target.
///
/// # Errors
/// No file is visible under its final name, or, with several files, only complete files are.
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

/// Removes files delivered earlier from a folder of a target, unless someone has changed them.
/// Returns the result of each file even if the sweep ends early.
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

/// Removes partial uploads of abandoned files from a target, given the files' names and SHA-256 in
/// hexadecimal.
async fn abandon(
    config: &Config,
    target: &Name,
    folder: &str,
    files: &[(&str, &str)],
) -> Result<(), DeliveryError> {
    // Mails have no partial uploads.
    let Some(Target::Files(target)) = config.targets.get(target) else {
        return Ok(());
    };
    let rules = rules(&target.place);
    let names = names::distinct(files.iter().map(|(name, _)| *name), rules);
    // Without temporary names, partial uploads can't be distinguished from existing files.
    let Some(temporary) = &target.temporary else {
        return Ok(());
    };
    let parts: Vec<String> =
        names.iter().zip(files).map(|(name, (_, sha256))| temporary.of(name, sha256)).collect();
    let below = names::parts(folder, rules)?;
    at_place(config, &target.place, &below, Task::Abandon(&parts)).await?;
    Ok(())
}

/// Describes a target in one line: its kind and its place, without secrets.
pub fn describe(target: &Target) -> String {
    let at = |endpoint: &Endpoint| format!("{}:{}", endpoint.server, endpoint.port);
    match target {
        Target::Email(email) => {
            let servers: Vec<&str> = email.mail_servers.iter().map(Name::as_str).collect();
            let recipients: Vec<String> =
                email.recipients().into_iter().map(ToString::to_string).collect();
            let recipients = recipients.join(", ");
            format!("e-mail to {recipients} through {}", servers.join(", else "))
        }
        Target::Files(files) => match &files.place {
            FilesPlace::Folder { path } => format!("folder {}", path.display()),
            FilesPlace::Ftp { endpoint, path, .. } => format!("ftp {} {path}", at(endpoint)),
            FilesPlace::Sftp(sftp) => format!("sftp {} {}", at(&sftp.endpoint()), sftp.path),
            FilesPlace::Smb { endpoint, share, path, .. } => {
                format!("share \\\\{}\\{share} {path}", at(endpoint))
            }
            FilesPlace::ObjectStore { url, .. } => format!("object store {url}"),
        },
    }
}

/// Tests a target: uploads a file as a delivery does and removes it, or sends a small mail.
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
    fn nothing_is_removed_where_nothing_was_begun_or_no_one_answers() {
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
        // As after a permanently refused rename, when the upload is still there.
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
        // The retry time and the message don't change.
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
