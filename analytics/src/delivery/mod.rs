//! Delivery: brings files to a target, whole or not at all. A kind of target is a file here and an arm in [`deliver`].

mod email;
mod folder;
mod ftp;
pub mod outbox;
mod smb;

use std::{path::PathBuf, time::Duration};

use mailqos_core::{
    config::{Account, Config, Endpoint, Target},
    mail::{CredentialError, Secret, one_line},
    model::Name,
};

/// What is brought to a target.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    /// The files.
    pub items: Vec<Item>,
    /// Folder at the target, below the one that the target names; `/` between its parts; may be empty.
    pub folder: String,
    /// What a mail says.
    pub letter: Letter,
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
pub struct Letter {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// Its HTML form, if it has one.
    pub html: Option<String>,
    /// What its Message-ID is made of: the same parcel always has the same.
    pub id: String,
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
}

/// Why a parcel was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The configuration has no such target.
    #[error("there is no target {0:?}")]
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
    /// A mail can't be written.
    #[error("the mail can't be written: {0}")]
    Letter(String),
    /// A name would lead out of the target's folder.
    #[error("{0:?} would lead out of the target's folder")]
    Outside(String),
}

impl DeliveryError {
    /// Whether a later try may succeed. What a person must mend first is tried again, too: it may be mended by then.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoTarget(_) | Self::Letter(_) | Self::Outside(_) => false,
            Self::Server { transient, .. } => *transient,
            Self::Io { .. } | Self::Credentials(_) | Self::Deadline { .. } => true,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "; make room there",
        std::io::ErrorKind::PermissionDenied => "; give this user the right to write there",
        std::io::ErrorKind::ReadOnlyFilesystem => "; it is mounted read-only",
        _ => "",
    }
}

/// Brings a parcel to a target.
///
/// # Errors
/// Nothing of it is visible under its final name, or (several files) only whole files are.
pub async fn deliver(config: &Config, target: &Name, parcel: &Parcel) -> Result<Receipt, DeliveryError> {
    let options = config
        .targets
        .get(target)
        .ok_or_else(|| DeliveryError::NoTarget(target.to_string()))?;
    for item in &parcel.items {
        if item.name.is_empty() || item.name.contains(['/', '\\', '\0']) || matches!(item.name.as_str(), "." | "..") {
            return Err(DeliveryError::Outside(item.name.clone()));
        }
    }
    let below = parts(&parcel.folder)?;
    match options {
        Target::Folder { path } => folder::deliver(path, &below, &parcel.items).await,
        Target::Ftp {
            endpoint,
            path,
            timeout,
        } => {
            ftp::deliver(
                &Login::of(config, endpoint, timeout.to_std()).await?,
                path,
                &below,
                &parcel.items,
            )
            .await
        }
        Target::Smb {
            endpoint,
            share,
            path,
            timeout,
        } => {
            let login = Login::of(config, endpoint, timeout.to_std()).await?;
            smb::deliver(&login, share, path, &below, &parcel.items).await
        }
        Target::Email {
            mail_server,
            to,
            cc,
            bcc,
            reply_to,
        } => {
            let recipients = email::Recipients {
                to,
                cc,
                bcc,
                reply_to: reply_to.as_deref(),
            };
            email::deliver(config, mail_server, &recipients, parcel).await
        }
    }
}

/// The parts of a folder's path, none of which leads upward.
fn parts(folder: &str) -> Result<Vec<String>, DeliveryError> {
    folder
        .split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| {
            if part == ".." || part.contains('\0') {
                Err(DeliveryError::Outside(folder.to_owned()))
            } else {
                Ok(part.to_owned())
            }
        })
        .collect()
}

/// A server, and who logs in there.
struct Login {
    endpoint: Endpoint,
    user: String,
    domain: Option<String>,
    password: Secret,
    limit: Duration,
}

impl Login {
    async fn of(config: &Config, endpoint: &Endpoint, limit: Duration) -> Result<Self, DeliveryError> {
        let account: Option<&Account> = endpoint.account.as_ref().and_then(|name| config.accounts.get(name));
        Ok(Self {
            endpoint: endpoint.clone(),
            user: account.map_or_else(String::new, |account| account.user.clone()),
            domain: account.and_then(|account| account.domain.clone()),
            password: match account {
                Some(account) => account.credentials().await?.secret,
                None => Secret::new(""),
            },
            limit,
        })
    }

    fn server(&self) -> String {
        format!("{}:{}", self.endpoint.server, self.endpoint.port)
    }

    /// What a server said, in one line and without the password.
    fn line(&self, text: &str) -> String {
        if self.password.expose().is_empty() {
            one_line(text, &[])
        } else {
            one_line(text, std::slice::from_ref(&self.password))
        }
    }

    /// A step with its deadline.
    async fn step<T, E: std::fmt::Display>(
        &self,
        step: &str,
        transient: impl FnOnce(&E) -> bool,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, DeliveryError> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(DeliveryError::Server {
                server: self.server(),
                step: step.to_owned(),
                transient: transient(&error),
                reason: self.line(&error.to_string()),
            }),
            Err(_) => Err(DeliveryError::Deadline {
                server: self.server(),
                step: step.to_owned(),
                limit: self.limit,
            }),
        }
    }
}

/// The name under which a file is written before it is whole.
fn temporary(name: &str) -> String {
    format!(".{name}.part")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_leads_out_of_the_target() {
        assert_eq!(parts("2026/10 ök/").expect("fine"), ["2026", "10 ök"]);
        assert!(matches!(parts("a/../../b"), Err(DeliveryError::Outside(_))));
        assert!(matches!(parts("a\\..\\b"), Err(DeliveryError::Outside(_))));
    }
}
