//! A network share, SMB 2 and 3, without a mount: signed, encrypted where the server asks for it, published by rename.

use std::path::Path;

use ::smb::{
    Client, ClientConfig, ConnectionConfig, CreateDisposition, CreateOptions, Error, FileAccessMask, FileAttributes,
    FileCreateArgs, FileDispositionInformation, FileEndOfFileInformation, FileRenameInformation,
    FileStandardInformation, Resource, Status, UncPath, resource::File,
};

use super::{
    DeliveryError, Login, Source,
    names::{Rules, parts},
    shelf::{CHUNK, Extent, Hash, Hashing, Shelf},
};

/// A conversation with a file server about one share.
pub(super) struct Smb<'a> {
    login: &'a Login,
    client: Client,
    root: UncPath,
    share: String,
    /// The target's own folder.
    own: Vec<String>,
    /// The folder that was entered, from the share.
    now: String,
    /// How much is read or written at once.
    chunk: usize,
}

/// Each request waits for its reply, some 40 ms where the server delays acknowledgements: few large ones are many times faster.
const MOST: u32 = 1 << 20;

impl<'a> Smb<'a> {
    pub(super) async fn open(login: &'a Login, share: &str, path: &str) -> Result<Self, DeliveryError> {
        let mut connection = ConnectionConfig {
            port: Some(login.endpoint.port),
            timeout: Some(login.limit),
            ..ConnectionConfig::default()
        };
        connection.auth_methods.ntlm = true;
        connection.auth_methods.kerberos = false;
        let client = Client::new(ClientConfig {
            dfs: false,
            connection,
            ..ClientConfig::default()
        });
        let root = UncPath::new(&login.endpoint.server)
            .and_then(|server| server.with_share(share))
            .map_err(|error| failed(login, &format!("\\\\{}\\{share}", login.endpoint.server), &error))?;
        let user = match &login.domain {
            Some(domain) => format!("{domain}\\{}", login.user),
            None => login.user.clone(),
        };
        step(
            login,
            &format!("share {share}"),
            client.share_connect(&root, &user, login.password.expose().to_owned()),
        )
        .await?;
        let connection = client.get_connection(&login.endpoint.server).await.ok();
        let negotiated = connection
            .as_ref()
            .and_then(|connection| connection.conn_info())
            .map(|info| info.negotiation.max_write_size.min(info.negotiation.max_read_size));
        let chunk = negotiated.unwrap_or(0).clamp(CHUNK as u32, MOST) as usize;
        Ok(Self {
            login,
            client,
            chunk,
            root,
            share: share.to_owned(),
            own: parts(path, Rules::Windows)?,
            now: String::new(),
        })
    }

    /// Says goodbye; what is there is there, however the session ends.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(self.login.limit, self.client.close()).await;
    }

    fn at(&self, name: &str) -> String {
        if self.now.is_empty() {
            name.to_owned()
        } else {
            format!("{}\\{name}", self.now)
        }
    }

    /// Goes into a folder from the share on; tells whether it is there.
    async fn folder(&self, folder: &str, make: bool) -> Result<bool, DeliveryError> {
        let options = FileCreateArgs {
            disposition: if make {
                CreateDisposition::OpenIf
            } else {
                CreateDisposition::Open
            },
            attributes: FileAttributes::new().with_directory(true),
            options: CreateOptions::new().with_directory_file(true),
            desired_access: FileAccessMask::new().with_generic_read(true),
        };
        let what = format!("folder {folder}");
        match self.create(&what, folder, &options).await? {
            Some(Resource::Directory(directory)) => {
                step(self.login, &what, directory.close()).await?;
                Ok(true)
            }
            None => Ok(false),
            Some(_) => Err(self.in_the_way(what, "a file of that name is in the way")),
        }
    }

    /// Opens a file; `None` if there is none.
    async fn file(
        &self,
        name: &str,
        disposition: CreateDisposition,
        access: FileAccessMask,
    ) -> Result<Option<File>, DeliveryError> {
        let options = FileCreateArgs {
            disposition,
            attributes: FileAttributes::new(),
            options: CreateOptions::new(),
            desired_access: access,
        };
        let what = format!("file {}", self.at(name));
        match self.create(&what, &self.at(name), &options).await? {
            Some(Resource::File(file)) => Ok(Some(file)),
            None => Ok(None),
            Some(_) => Err(self.in_the_way(what, "a folder of that name is in the way")),
        }
    }

    async fn create(
        &self,
        what: &str,
        path: &str,
        options: &FileCreateArgs,
    ) -> Result<Option<Resource>, DeliveryError> {
        let mut absent = false;
        let work = async {
            let created = self
                .client
                .create_file(&self.root.clone().with_path(path), options)
                .await;
            absent = matches!(&created, Err(error) if is_absent(error));
            created
        };
        match step(self.login, what, work).await {
            Ok(resource) => Ok(Some(resource)),
            Err(_) if absent => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn in_the_way(&self, what: String, reason: &str) -> DeliveryError {
        DeliveryError::Server {
            server: self.login.server(),
            step: what,
            reason: reason.to_owned(),
            transient: true,
        }
    }

    fn gone(&self, name: &str) -> DeliveryError {
        self.in_the_way(format!("file {}", self.at(name)), "it is gone")
    }

    /// Writes from an offset to the end.
    async fn fill(&self, file: &File, what: &str, from: &Path, offset: u64) -> Result<(), DeliveryError> {
        let mut source = Source::open(from, offset).await?;
        let end = FileEndOfFileInformation { end_of_file: offset };
        step(self.login, what, file.set_info(end)).await?;
        let mut place = offset;
        loop {
            let piece = source.piece(self.chunk).await?;
            if piece.is_empty() {
                break;
            }
            let mut done = 0;
            while done < piece.len() {
                let wrote = self
                    .login
                    .step(what, |_| true, file.write_block(&piece[done..], place, None))
                    .await
                    .map_err(worded)?;
                if wrote == 0 {
                    return Err(self.in_the_way(what.to_owned(), "the server takes no more"));
                }
                done += wrote;
                place += wrote as u64;
            }
        }
        self.login.step(what, |_| true, file.flush()).await.map_err(worded)
    }
}

fn read() -> FileAccessMask {
    FileAccessMask::new().with_generic_read(true)
}

impl Shelf for Smb<'_> {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        let mut folder = String::new();
        for (index, part) in self.own.iter().chain(below).enumerate() {
            if !folder.is_empty() {
                folder.push('\\');
            }
            folder.push_str(part);
            if !self.folder(&folder, make).await? {
                if index < self.own.len() {
                    return Err(self.login.absent(format!("folder {folder}")));
                }
                return Ok(false);
            }
        }
        self.now = folder;
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let Some(file) = self.file(name, CreateDisposition::Open, read()).await? else {
            return Ok(Extent::Absent);
        };
        let what = format!("size of {}", self.at(name));
        let there: FileStandardInformation = step(self.login, &what, file.query_info()).await?;
        step(self.login, &what, file.close()).await?;
        Ok(Extent::Bytes(there.end_of_file))
    }

    async fn write(&mut self, name: &str, from: &Path, offset: u64) -> Result<(), DeliveryError> {
        let what = format!("file {}", self.at(name));
        let access = read().with_generic_write(true).with_delete(true);
        let file = self.file(name, CreateDisposition::OpenIf, access).await?;
        let Some(file) = file else { return Err(self.gone(name)) };
        let written = self.fill(&file, &what, from, offset).await;
        let closed = step(self.login, &what, file.close()).await;
        written.and(closed)
    }

    async fn hash(&mut self, name: &str, size: u64) -> Result<Option<Hash>, DeliveryError> {
        let Some(file) = self.file(name, CreateDisposition::Open, read()).await? else {
            return Ok(None);
        };
        let what = format!("reading {}", self.at(name));
        let mut hashing = Hashing::default();
        let mut chunk = vec![0; self.chunk];
        while hashing.size() <= size {
            let count = self
                .login
                .step(
                    &what,
                    |_| true,
                    file.read_block(&mut chunk, hashing.size(), None, false),
                )
                .await?;
            if count == 0 {
                break;
            }
            hashing.update(&chunk[..count]);
        }
        step(self.login, &what, file.close()).await?;
        Ok(Some(hashing.finish().1))
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let what = format!("name {}", self.at(name));
        let access = read().with_delete(true);
        let file = self.file(part, CreateDisposition::Open, access).await?;
        let Some(file) = file else { return Err(self.gone(part)) };
        let rename = FileRenameInformation {
            replace_if_exists: true.into(),
            root_directory: 0,
            file_name: self.at(name).as_str().into(),
        };
        let renamed = step(self.login, &what, file.set_info(rename)).await;
        let closed = step(self.login, &what, file.close()).await;
        renamed.and(closed)
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let what = format!("removal of {}", self.at(name));
        let access = read().with_delete(true);
        let Some(file) = self.file(name, CreateDisposition::Open, access).await? else {
            return Ok(());
        };
        let removed = step(self.login, &what, file.set_info(FileDispositionInformation::default())).await;
        let closed = step(self.login, &what, file.close()).await;
        removed.and(closed)
    }

    fn place(&self, name: &str) -> String {
        format!("\\\\{}\\{}\\{}", self.login.endpoint.server, self.share, self.at(name))
    }
}

async fn step<T>(login: &Login, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, DeliveryError> {
    login.within(what, |error| failed(login, what, &error), work).await
}

fn status(error: &Error) -> Option<Status> {
    match error {
        Error::UnexpectedMessageStatus(status) | Error::ReceivedErrorMessage(status, _) => {
            Status::try_from(*status).ok()
        }
        _ => None,
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(
        status(error),
        Some(Status::ObjectNameNotFound | Status::ObjectPathNotFound)
    )
}

/// The server's status in words that say what to do.
fn failed(login: &Login, what: &str, error: &Error) -> DeliveryError {
    let status = status(error);
    let reason = match status {
        Some(Status::LogonFailure) => "the user or the password is wrong (LOGON_FAILURE)".to_owned(),
        Some(Status::BadNetworkName) => "there is no such share (BAD_NETWORK_NAME)".to_owned(),
        Some(Status::AccessDenied) => "the user may not write there (ACCESS_DENIED)".to_owned(),
        Some(Status::UserAccountLockedOut) => "the account is locked; unlock it (ACCOUNT_LOCKED_OUT)".to_owned(),
        Some(Status::SharingViolation) => "somebody has the file open (SHARING_VIOLATION)".to_owned(),
        _ => {
            let text = error.to_string();
            login.line(text.strip_prefix("Transport error: IO Error: ").unwrap_or(&text))
        }
    };
    worded(DeliveryError::Server {
        server: login.server(),
        step: what.to_owned(),
        reason,
        transient: !matches!(
            status,
            Some(Status::LogonFailure | Status::BadNetworkName | Status::AccessDenied | Status::UserAccountLockedOut)
        ),
    })
}

/// Statuses that the client hands on as text only.
fn worded(error: DeliveryError) -> DeliveryError {
    error.reworded(|reason| {
        let small = reason.to_ascii_lowercase().replace([' ', '_'], "");
        let says = |words: &[&str]| words.iter().any(|word| small.contains(word));
        if says(&["diskfull", "0xc000007f"]) {
            Some(format!("the share is full; make room there ({reason})"))
        } else if says(&["quotaexceeded", "0xc0000044", "0xc0000802"]) {
            Some(format!("the user's quota is used up; make room there ({reason})"))
        } else if says(&["mediawriteprotected"]) {
            Some(format!("the share can only be read ({reason})"))
        } else {
            None
        }
    })
}
