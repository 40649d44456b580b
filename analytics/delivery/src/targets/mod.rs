//! The kinds of targets, a file for each. Targets that store files implement [`FileStore`] and have
//! an arm in [`at_place`].

pub(super) mod email;
mod folder;
mod ftp;
mod object_store;
mod sftp;
#[cfg(feature = "smb")]
mod smb;

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
    time::Duration,
};

use mailqos_base::{Secret, one_line};
use mailqos_config::{Account, Config, Endpoint, FilesPlace, FilesTarget};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{
    DeliveryError, Parcel, Progress, Receipt,
    file_store::{self, File, FileStore, Old, Swept},
    names::Rules,
    trial::{self, Trial},
};

/// A file being delivered, read in pieces.
pub(super) struct Source<'a> {
    path: &'a Path,
    file: tokio::fs::File,
}

impl<'a> Source<'a> {
    /// Opens a local file at an offset.
    async fn open(path: &'a Path, offset: u64) -> Result<Self, DeliveryError> {
        let opened = async {
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(SeekFrom::Start(offset)).await?;
            Ok(file)
        };
        let file = opened.await.map_err(DeliveryError::io(path))?;
        Ok(Self { path, file })
    }

    /// Returns the next `most` bytes, fewer at the end of the file, and none after it.
    async fn piece(&mut self, most: usize) -> Result<Vec<u8>, DeliveryError> {
        let mut piece = Vec::with_capacity(most);
        let next = (&mut self.file).take(most as u64).read_to_end(&mut piece).await;
        next.map_err(DeliveryError::io(self.path))?;
        Ok(piece)
    }
}

/// An operation on an open file store.
pub(super) enum Task<'a> {
    Put(&'a [File], &'a FilesTarget),
    Sweep(&'a [Old]),
    Abandon(&'a [String]),
    Try(&'a FilesTarget),
}

/// Result of the operation.
pub(super) enum TaskResult {
    Put(Receipt),
    Swept(Swept),
    Abandoned,
    Tried(Trial),
}

async fn work(
    file_store: &mut impl FileStore,
    below: &[String],
    task: Task<'_>,
) -> Result<TaskResult, DeliveryError> {
    match task {
        Task::Put(files, target) => {
            file_store::put(file_store, below, files, target).await.map(TaskResult::Put)
        }
        Task::Sweep(old) => Ok(TaskResult::Swept(file_store::sweep(file_store, below, old).await)),
        Task::Abandon(parts) => {
            file_store::abandon(file_store, below, parts).await.map(|()| TaskResult::Abandoned)
        }
        Task::Try(target) => trial::of_shelf(file_store, target).await.map(TaskResult::Tried),
    }
}

/// Opens the file store of a target and performs an operation on it. A new kind of target needs an
/// arm here.
pub(super) async fn at_place(
    config: &Config,
    place: &FilesPlace,
    below: &[String],
    task: Task<'_>,
) -> Result<TaskResult, DeliveryError> {
    match place {
        FilesPlace::Folder { path } => work(&mut folder::Folder::new(path), below, task).await,
        FilesPlace::Ftp { endpoint, path, data, encoding, timeout } => {
            let options = ftp::Options { path, data: *data, encoding: *encoding };
            let login = Login::of(config, endpoint, timeout.to_std()).await?;
            // Use a separate session for each file: the tickets for resuming the TLS session on
            // data connections run out after three.
            if let Task::Put(files @ [_, _, ..], target) = task {
                let mut all = Receipt::default();
                for file in files {
                    let mut file_store = ftp::Ftp::open(&login, options).await.map_err(unopened)?;
                    let put =
                        file_store::put(&mut file_store, below, std::slice::from_ref(file), target)
                            .await;
                    file_store.close().await;
                    let receipt = put?;
                    all.places.extend(receipt.places);
                    if all.reply != receipt.reply {
                        let between = if all.reply.is_empty() { "" } else { "; " };
                        all.reply = format!("{}{between}{}", all.reply, receipt.reply);
                    }
                }
                return Ok(TaskResult::Put(all));
            }
            let mut file_store = ftp::Ftp::open(&login, options).await.map_err(unopened)?;
            let done = work(&mut file_store, below, task).await;
            file_store.close().await;
            done
        }
        FilesPlace::Sftp(options) => {
            let mut login =
                Login::of(config, &options.endpoint(), options.timeout.to_std()).await?;
            if let Some(user) = &options.user {
                login.user.clone_from(user);
            }
            let mut file_store = sftp::Sftp::open(&login, options).await.map_err(unopened)?;
            work(&mut file_store, below, task).await
        }
        #[cfg(not(feature = "smb"))]
        FilesPlace::Smb { .. } => Err(unopened(DeliveryError::NotBuiltIn("smb"))),
        #[cfg(feature = "smb")]
        FilesPlace::Smb { endpoint, share, path, timeout } => {
            let login = Login::of(config, endpoint, timeout.to_std()).await?;
            let mut file_store = smb::Smb::open(&login, share, path).await.map_err(unopened)?;
            let done = work(&mut file_store, below, task).await;
            file_store.close().await;
            done
        }
        FilesPlace::ObjectStore { url, options } => {
            work(&mut object_store::Store::open(config, url, options).await?, below, task).await
        }
    }
}

fn unopened(error: DeliveryError) -> DeliveryError {
    DeliveryError::Unopened(Box::new(error))
}

/// Returns the parts of the target's own folder as configured.
fn own_parts(path: &str) -> Result<Vec<String>, DeliveryError> {
    let parts = path.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".");
    let parts = parts.map(|part| match part {
        ".." => Err(DeliveryError::Outside(path.to_owned())),
        part if part.contains(char::is_control) => Err(DeliveryError::Outside(path.to_owned())),
        part => Ok(part.to_owned()),
    });
    parts.collect()
}

/// Returns the naming rules of a kind of target.
pub(super) fn rules(place: &FilesPlace) -> Rules {
    match place {
        FilesPlace::Smb { .. } => Rules::Windows,
        FilesPlace::ObjectStore { .. } => Rules::Keys,
        _ => Rules::Unix,
    }
}

/// A server and the credentials for it.
struct Login {
    endpoint: Endpoint,
    user: String,
    #[cfg_attr(not(feature = "smb"), expect(dead_code, reason = "only Windows accounts have one"))]
    domain: Option<String>,
    password: Secret,
    limit: Duration,
    /// Folder for known properties of the server.
    state: PathBuf,
}

impl Login {
    async fn of(
        config: &Config,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Self, DeliveryError> {
        let account: Option<&Account> =
            endpoint.account.as_ref().and_then(|name| config.accounts.get(name));
        Ok(Self {
            endpoint: endpoint.clone(),
            user: account.map_or_else(String::new, |account| account.user.clone()),
            domain: account.and_then(|account| account.domain.clone()),
            password: match account {
                Some(account) => mailqos_mail::credentials(account).await?.secret,
                None => Secret::new(""),
            },
            limit,
            state: config.state.clone(),
        })
    }

    fn server(&self) -> String {
        format!("{}:{}", self.endpoint.server, self.endpoint.port)
    }

    /// Returns the error for a target whose own folder does not exist.
    fn absent(&self, step: String) -> DeliveryError {
        DeliveryError::Server {
            server: self.server(),
            step,
            reason: "the target's folder does not exist".to_owned(),
            transient: true,
        }
    }

    /// Returns a server's reply in one line and without the password.
    fn line(&self, text: &str) -> String {
        // The FTP client adds a prefix to a refusal, and repeats the code.
        let text = text.strip_prefix("Invalid response: ").unwrap_or(text);
        let text = match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((code, rest)) if rest.starts_with(code) => rest,
            _ => text,
        };
        if self.password.expose().is_empty() {
            one_line(text, &[])
        } else {
            one_line(text, std::slice::from_ref(&self.password))
        }
    }

    /// Performs a step with its deadline. A failure is reported in the client's words.
    async fn step<T, E: std::fmt::Display>(
        &self,
        step: &str,
        transient: impl FnOnce(&E) -> bool,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, DeliveryError> {
        let failed = |error: E| DeliveryError::Server {
            server: self.server(),
            step: step.to_owned(),
            transient: transient(&error),
            reason: self.line(&error.to_string()),
        };
        self.within(step, failed, work).await
    }

    /// Performs a step with its deadline. A failure is reported in the caller's words.
    async fn within<T, E>(
        &self,
        step: &str,
        failed: impl FnOnce(E) -> DeliveryError,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, DeliveryError> {
        match tokio::time::timeout(self.limit, work).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(DeliveryError::Deadline {
                server: self.server(),
                step: step.to_owned(),
                limit: self.limit,
            }),
        }
    }
}
