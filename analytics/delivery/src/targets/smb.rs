//! Network shares, SMB 2 and 3, without a mount: signed, encrypted if the server requires it, and
//! published by rename.

mod dfs;

use std::path::Path;

use ::smb::{
    Client, ClientConfig, ConnectionConfig, CreateDisposition, CreateOptions, Error,
    FileAccessMask, FileAttributes, FileCreateArgs, FileDispositionInformation,
    FileEndOfFileInformation, FileRenameInformation, FileStandardInformation, Resource, Status,
    UncPath, resource::File,
};

use super::{
    DeliveryError, Login, Source,
    file_store::{CHUNK, Extent, FileStore, Hash, Hashing, vanished},
    own_parts, unopened,
};

/// Maximum number of DFS links followed in a row.
const LINKS: usize = 4;
/// Number of attempts, one second apart, to open a file that someone else has open.
const ASKED: usize = 4;

/// A session with file servers about one share, or about the share to which DFS leads.
pub(super) struct Smb<'a> {
    login: &'a Login,
    client: Client,
    /// The share, without a path.
    root: UncPath,
    user: String,
    /// The target's own folder.
    own: Vec<String>,
    /// Number of leading parts of the path that are a DFS link, and its target.
    link: Option<(usize, Vec<String>)>,
    /// The entered folder, relative to the share.
    now: String,
    /// Number of bytes written or read in one request.
    chunk: usize,
}

/// Largest request in bytes. Each request waits for its reply, about 40 ms if the server delays
/// acknowledgements, so a few large requests are many times faster.
const MAX: u32 = 1 << 20;

impl<'a> Smb<'a> {
    pub(super) async fn open(
        login: &'a Login,
        share: &str,
        path: &str,
    ) -> Result<Self, DeliveryError> {
        let mut connection = ConnectionConfig {
            port: Some(login.endpoint.port),
            timeout: Some(login.limit),
            ..ConnectionConfig::default()
        };
        connection.auth_methods.ntlm = true;
        connection.auth_methods.kerberos = false;
        let client =
            Client::new(ClientConfig { dfs: false, connection, ..ClientConfig::default() });
        let root = UncPath::new(&login.endpoint.server)
            .and_then(|server| server.with_share(share))
            .map_err(|error| {
                failed(
                    login,
                    &format!("\\\\{}\\{share}", login.endpoint.server),
                    Task::Open,
                    &error,
                )
            })?;
        let user = match &login.domain {
            Some(domain) => format!("{domain}\\{}", login.user),
            None => login.user.clone(),
        };
        step(
            login,
            &format!("share {share}"),
            Task::Open,
            client.share_connect(&root, &user, login.password.expose().to_owned()),
        )
        .await?;
        let connection = client.get_connection(&login.endpoint.server).await.ok();
        let negotiated = connection
            .as_ref()
            .and_then(|connection| connection.conn_info())
            .map(|info| info.negotiation.max_write_size.min(info.negotiation.max_read_size));
        let chunk = negotiated.unwrap_or(0).clamp(CHUNK as u32, MAX) as usize;
        Ok(Self {
            login,
            client,
            chunk,
            root,
            user,
            own: own_parts(path)?,
            link: None,
            now: String::new(),
        })
    }

    /// Ends the session. Uploaded files stay, whether or not the server answers.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(self.login.limit, self.client.close()).await;
    }

    fn at(&self, name: &str) -> String {
        if self.now.is_empty() { name.to_owned() } else { format!("{}\\{name}", self.now) }
    }

    /// Returns a path in the share, resolved through the DFS link if there is one.
    fn path(&self, parts: &[String]) -> String {
        match &self.link {
            Some((length, target)) => {
                [target.as_slice(), parts.get(*length..).unwrap_or_default()].concat().join("\\")
            }
            None => parts.join("\\"),
        }
    }

    /// Returns whether a folder of the share exists. A folder that may not be inspected counts as
    /// existing, because files may still be accepted there.
    async fn is_there(&self, folder: &str) -> Result<Folder, DeliveryError> {
        if folder.is_empty() && !self.is_namespace().await {
            return Ok(Folder::There);
        }
        let options = directory(CreateDisposition::Open);
        let what = format!("folder {folder}");
        match self.create(folder, &options).await? {
            Ok(Resource::Directory(directory)) => {
                step(self.login, &what, Task::Open, directory.close()).await?;
                Ok(Folder::There)
            }
            Ok(_) => Err(self.in_the_way(what, "a file with that name already exists")),
            Err(error) => match code(&error) {
                Some(Status::U32_OBJECT_NAME_NOT_FOUND | Status::U32_OBJECT_PATH_NOT_FOUND) => {
                    Ok(Folder::Absent)
                }
                Some(Status::U32_PATH_NOT_COVERED) => Ok(Folder::Elsewhere),
                Some(Status::U32_ACCESS_DENIED) => Ok(Folder::There),
                _ => Err(failed(self.login, &what, Task::Open, &error)),
            },
        }
    }

    /// Creates the missing part of a folder's path, from the nearest existing folder.
    async fn make_way(&self, parts: &[String]) -> Result<(), DeliveryError> {
        let mut depth = parts.len().saturating_sub(1);
        while depth > 0 && self.is_there(&self.path(&parts[..depth])).await? == Folder::Absent {
            depth -= 1;
        }
        for depth in depth + 1..=parts.len() {
            let folder = self.path(&parts[..depth]);
            let what = format!("folder {folder}");
            match self.create(&folder, &directory(CreateDisposition::OpenIf)).await? {
                Ok(Resource::Directory(directory)) => {
                    step(self.login, &what, Task::Open, directory.close()).await?
                }
                Ok(_) => return Err(self.in_the_way(what, "a file with that name already exists")),
                Err(error) => return Err(failed(self.login, &what, Task::Create, &error)),
            }
        }
        Ok(())
    }

    async fn is_namespace(&self) -> bool {
        let tree = self.client.get_tree(&self.root).await;
        tree.is_ok_and(|tree| tree.is_dfs_root().unwrap_or(false))
    }

    /// Follows a DFS link to other servers (MS-DFSC), with the same account.
    async fn follow(&mut self, parts: &[String]) -> Result<(), DeliveryError> {
        let server = self.root.server().to_owned();
        let share = self.root.share().unwrap_or_default().to_owned();
        let asked = format!("\\{server}\\{share}\\{}", self.path(parts));
        let what = format!("DFS link \\{asked}");
        let referral = async {
            let tree = self.client.get_tree(&self.root).await?;
            dfs::ask(tree, &asked).await
        };
        let referral = step(self.login, &what, Task::Open, referral).await.map_err(unreadable)?;
        // The parts of the path that the link covers.
        let consumed: Vec<u16> = asked.encode_utf16().take(referral.consumed).collect();
        let consumed = String::from_utf16_lossy(&consumed);
        let consumed =
            consumed.split('\\').filter(|part| !part.is_empty()).count().saturating_sub(2);
        let behind: Vec<String> =
            self.path(parts).split('\\').skip(consumed).map(str::to_owned).collect();
        let mut last = self.in_the_way(what.clone(), "its destination is missing");
        for address in &referral.targets {
            let address: Vec<&str> = address.split('\\').filter(|part| !part.is_empty()).collect();
            let [server, share, inner @ ..] = address.as_slice() else {
                continue;
            };
            let real = format!(
                "\\\\{}",
                [&[*server, *share], inner, &behind.iter().map(String::as_str).collect::<Vec<_>>()]
                    .concat()
                    .join("\\")
            );
            let root = UncPath::new(server).and_then(|root| root.with_share(share));
            let connected = async {
                let root = root?;
                let password = self.login.password.expose().to_owned();
                self.client.share_connect(&root, &self.user, password).await?;
                Ok(root)
            };
            match step(self.login, &what, Task::Open, connected).await {
                Ok(root) => {
                    tracing::debug!(%real, "DFS link {what}");
                    let inner = inner.iter().map(|part| (*part).to_owned()).collect();
                    let length = parts.len().saturating_sub(behind.len());
                    self.link = Some((length, inner));
                    self.root = root;
                    return Ok(());
                }
                Err(error) => {
                    last = error.reworded(|reason| {
                        Some(format!(
                            "it leads to {real}, which can't be opened ({reason}); set server and share \
                             directly if they have other names on this network"
                        ))
                    });
                }
            }
        }
        Err(last)
    }

    /// Opens a file. The error is the server's.
    async fn file(
        &self,
        name: &str,
        disposition: CreateDisposition,
        access: FileAccessMask,
    ) -> Result<Result<File, Error>, DeliveryError> {
        let options = FileCreateArgs {
            disposition,
            attributes: FileAttributes::new(),
            options: CreateOptions::new(),
            desired_access: access,
        };
        match self.create(&self.at(name), &options).await? {
            Ok(Resource::File(file)) => Ok(Ok(file)),
            Ok(_) => {
                let what = format!("file {}", self.at(name));
                Err(self.in_the_way(what, "a folder with that name already exists"))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Opens or creates a file or folder. The inner error is the server's.
    async fn create(
        &self,
        path: &str,
        options: &FileCreateArgs,
    ) -> Result<Result<Resource, Error>, DeliveryError> {
        let work = async {
            let tree = match self.client.get_tree(&self.root).await {
                Ok(tree) => tree,
                Err(error) => return Ok(Err(error)),
            };
            // In a namespace, paths begin with server and share (MS-SMB2, section 3.3.5.9).
            let name = match (tree.is_dfs_root(), self.root.share()) {
                (Ok(true), Some(share)) => format!("{}\\{share}\\{path}", self.root.server()),
                _ => path.to_owned(),
            };
            let created = tree.create(name.trim_end_matches('\\'), options).await;
            Ok(match created {
                Err(error) if code(&error).is_none() => return Err(error),
                created => created,
            })
        };
        step(self.login, &format!("file {path}"), Task::Open, work).await
    }

    fn in_the_way(&self, what: String, reason: &str) -> DeliveryError {
        DeliveryError::Server {
            server: self.login.server(),
            step: what,
            reason: reason.to_owned(),
            transient: true,
        }
    }

    /// Writes from an offset to the end.
    async fn fill(
        &self,
        file: &File,
        what: &str,
        from: &Path,
        offset: u64,
    ) -> Result<(), DeliveryError> {
        let mut source = Source::open(from, offset).await?;
        let end = FileEndOfFileInformation { end_of_file: offset };
        step(self.login, what, Task::Write, file.set_info(end)).await?;
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
                    return Err(self.in_the_way(what.to_owned(), "the server accepts no more data"));
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

/// Returns the permission to query a size and no other, which works even while someone else has the
/// file open.
fn look() -> FileAccessMask {
    FileAccessMask::new().with_file_read_attributes(true)
}

fn directory(disposition: CreateDisposition) -> FileCreateArgs {
    FileCreateArgs {
        disposition,
        attributes: FileAttributes::new().with_directory(true),
        options: CreateOptions::new().with_directory_file(true),
        desired_access: look(),
    }
}

/// Marks an unreadable referral as permanent: an operator must configure the actual share.
fn unreadable(mut error: DeliveryError) -> DeliveryError {
    if let DeliveryError::Server { reason, transient, .. } = &mut error
        && reason.contains(dfs::UNREADABLE)
    {
        *transient = false;
        *reason = format!(
            "{}; set server, share and path of the target to the destination of the link",
            dfs::UNREADABLE
        );
    }
    error
}

/// State of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    There,
    Absent,
    /// The folder is behind a DFS link.
    Elsewhere,
}

impl FileStore for Smb<'_> {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        let parts = [self.own.as_slice(), below].concat();
        let mut there = self.is_there(&self.path(&parts)).await?;
        let mut links = 0;
        while there == Folder::Elsewhere {
            links += 1;
            if links > LINKS {
                let what = format!("folder {}", self.path(&parts));
                return Err(self.in_the_way(what, "too many nested DFS links"));
            }
            self.follow(&parts).await?;
            there = self.is_there(&self.path(&parts)).await?;
        }
        if there == Folder::Absent {
            if make {
                self.make_way(&parts).await?;
            } else {
                let own = self.path(&self.own);
                if below.is_empty() || self.is_there(&own).await? == Folder::Absent {
                    return Err(unopened(self.login.absent(format!("folder {own}"))));
                }
                return Ok(false);
            }
        }
        self.now = self.path(&parts);
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let what = format!("size of {}", self.at(name));
        let file = match self.file(name, CreateDisposition::Open, look()).await? {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(Extent::Absent),
            Err(error) if is_hidden(&error) => return Ok(Extent::Unknown),
            Err(error) => return Err(failed(self.login, &what, Task::Read, &error)),
        };
        let there: FileStandardInformation =
            step(self.login, &what, Task::Read, file.query_info()).await?;
        step(self.login, &what, Task::Read, file.close()).await?;
        Ok(Extent::Bytes(there.end_of_file))
    }

    async fn write(&mut self, name: &str, from: &Path, offset: u64) -> Result<(), DeliveryError> {
        let what = format!("file {}", self.at(name));
        // Requests only write access, because a drop box refuses requests that include reading.
        let access = FileAccessMask::new().with_generic_write(true);
        let file = match self.file(name, CreateDisposition::OpenIf, access).await? {
            Ok(file) => file,
            Err(error) => return Err(failed(self.login, &what, Task::Create, &error)),
        };
        let written = self.fill(&file, &what, from, offset).await;
        let closed = step(self.login, &what, Task::Write, file.close()).await;
        written.and(closed)
    }

    async fn hash(&mut self, name: &str, size: u64) -> Result<Option<Hash>, DeliveryError> {
        let what = format!("reading {}", self.at(name));
        let mut asked = 0;
        let file = loop {
            asked += 1;
            match self.file(name, CreateDisposition::Open, read()).await? {
                Ok(file) => break file,
                // For example, a virus scanner has the file open.
                Err(error) if code(&error) == Some(Status::U32_SHARING_VIOLATION) => {
                    if asked == ASKED {
                        return Ok(None);
                    }
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
                Err(error) if is_absent(&error) || is_hidden(&error) => return Ok(None),
                Err(error) => return Err(failed(self.login, &what, Task::Read, &error)),
            }
        };
        let mut hashing = Hashing::default();
        let mut chunk = vec![0; self.chunk];
        while hashing.size() <= size {
            let count = self
                .login
                .step(&what, |_| true, file.read_block(&mut chunk, hashing.size(), None, false))
                .await?;
            if count == 0 {
                break;
            }
            hashing.update(&chunk[..count]);
        }
        step(self.login, &what, Task::Read, file.close()).await?;
        Ok(Some(hashing.finish().1))
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let what = format!("name {}", self.at(name));
        let access = look().with_delete(true);
        let file = match self.file(part, CreateDisposition::Open, access).await? {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Err(vanished(self.place(part))),
            Err(error) => return Err(failed(self.login, &what, Task::Rename, &error)),
        };
        let rename = FileRenameInformation {
            replace_if_exists: true.into(),
            root_directory: 0,
            file_name: self.at(name).as_str().into(),
        };
        let renamed = step(self.login, &what, Task::Rename, file.set_info(rename)).await;
        let closed = step(self.login, &what, Task::Rename, file.close()).await;
        renamed.and(closed)
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let what = format!("removal of {}", self.at(name));
        let access = look().with_delete(true);
        let file = match self.file(name, CreateDisposition::Open, access).await? {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(failed(self.login, &what, Task::Remove, &error)),
        };
        let removed = file.set_info(FileDispositionInformation::default());
        let removed = step(self.login, &what, Task::Remove, removed).await;
        let closed = step(self.login, &what, Task::Remove, file.close()).await;
        removed.and(closed)
    }

    async fn remove_folder(&mut self) -> Result<(), DeliveryError> {
        let folder = std::mem::take(&mut self.now);
        self.now = folder.rsplit_once('\\').map_or("", |(up, _)| up).to_owned();
        let what = format!("removal of {folder}");
        let mut options = directory(CreateDisposition::Open);
        options.desired_access = look().with_delete(true);
        let directory = match self.create(&folder, &options).await? {
            Ok(Resource::Directory(directory)) => directory,
            Ok(_) => return Err(self.in_the_way(what, "a file with that name already exists")),
            Err(error) => return Err(failed(self.login, &what, Task::Remove, &error)),
        };
        let removed = directory.set_info(FileDispositionInformation::default());
        let removed = step(self.login, &what, Task::Remove, removed).await;
        let closed = step(self.login, &what, Task::Remove, directory.close()).await;
        removed.and(closed)
    }

    fn place(&self, name: &str) -> String {
        let share = self.root.share().unwrap_or_default();
        format!("\\\\{}\\{share}\\{}", self.root.server(), self.at(name))
    }
}

/// The attempted operation, for the wording of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Open,
    Create,
    Write,
    Read,
    Rename,
    Remove,
}

async fn step<T>(
    login: &Login,
    what: &str,
    task: Task,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, DeliveryError> {
    login.within(what, |error| failed(login, what, task, &error), work).await
}

/// Returns the status of a reply.
fn code(error: &Error) -> Option<u32> {
    match error {
        Error::UnexpectedMessageStatus(status) | Error::ReceivedErrorMessage(status, _) => {
            Some(*status)
        }
        _ => None,
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(
        code(error),
        Some(Status::U32_OBJECT_NAME_NOT_FOUND | Status::U32_OBJECT_PATH_NOT_FOUND)
    )
}

/// Returns whether the server does not allow the user to look.
fn is_hidden(error: &Error) -> bool {
    code(error) == Some(Status::U32_ACCESS_DENIED)
}

/// Returns what a status means for a delivery, and whether an operator must act (MS-ERREF, section
/// 2.3.1).
fn meaning(status: u32, task: Task) -> Option<(&'static str, bool)> {
    Some(match (status, task) {
        (Status::U32_LOGON_FAILURE, _) => ("wrong user or password (LOGON_FAILURE)", true),
        (0xC000_006E, _) => (
            "the account is restricted, such as one without a password (ACCOUNT_RESTRICTION)",
            true,
        ),
        (0xC000_0071 | 0xC000_0224, _) => {
            ("the password has expired; set a new one (PASSWORD_EXPIRED)", true)
        }
        (0xC000_0072, _) => ("the account is disabled (ACCOUNT_DISABLED)", true),
        (0xC000_015B, _) => {
            ("the account may not log in over the network (LOGON_TYPE_NOT_GRANTED)", true)
        }
        (Status::U32_USER_ACCOUNT_LOCKED_OUT, _) => {
            ("the account is locked; unlock it (ACCOUNT_LOCKED_OUT)", true)
        }
        (Status::U32_BAD_NETWORK_NAME, _) => ("the share does not exist (BAD_NETWORK_NAME)", true),
        (Status::U32_ACCESS_DENIED | 0xC000_00CA, Task::Open) => {
            ("the user may not enter the share (ACCESS_DENIED)", true)
        }
        (Status::U32_ACCESS_DENIED, Task::Create | Task::Write) => {
            ("the user lacks write permission there (ACCESS_DENIED)", true)
        }
        (Status::U32_ACCESS_DENIED, Task::Read) => {
            ("the user lacks read permission there (ACCESS_DENIED)", true)
        }
        (Status::U32_ACCESS_DENIED, Task::Rename) => (
            "the user may not rename or replace files there, or the old one is write-protected or open (ACCESS_DENIED)",
            true,
        ),
        (Status::U32_ACCESS_DENIED, Task::Remove) => {
            ("the user may not remove files there (ACCESS_DENIED)", true)
        }
        (0xC000_0121, _) => ("the file is write-protected (CANNOT_DELETE)", true),
        (Status::U32_SHARING_VIOLATION, Task::Read) => {
            ("another user has the file open exclusively (SHARING_VIOLATION)", false)
        }
        (Status::U32_SHARING_VIOLATION, _) => {
            ("another user has the file open (SHARING_VIOLATION)", false)
        }
        (0xC000_0056, _) => ("the file is being removed (DELETE_PENDING)", false),
        (Status::U32_OBJECT_NAME_NOT_FOUND, Task::Create) => (
            "the server does not allow files with that name, like Samba's `veto files` (OBJECT_NAME_NOT_FOUND)",
            true,
        ),
        (Status::U32_OBJECT_NAME_INVALID, _) => {
            ("the server does not accept this name (OBJECT_NAME_INVALID)", true)
        }
        (Status::U32_OBJECT_NAME_COLLISION, _) => {
            ("a file with that name already exists (OBJECT_NAME_COLLISION)", true)
        }
        (0xC000_007F, _) => ("the share is full; free up space there (DISK_FULL)", false),
        (0xC000_0044 | 0xC000_0802, _) => {
            ("the user's quota is used up; free up space there (QUOTA_EXCEEDED)", false)
        }
        (0xC000_00A2, _) => ("the share is read-only (MEDIA_WRITE_PROTECTED)", true),
        (0xC000_0906 | 0xC000_0907, _) => {
            ("the server's virus scanner rejects the file (VIRUS_INFECTED)", true)
        }
        _ => return None,
    })
}

/// Returns an error with the server's status and what to do about it.
fn failed(login: &Login, what: &str, task: Task, error: &Error) -> DeliveryError {
    let known = code(error).and_then(|status| meaning(status, task));
    let (reason, mended) = match known {
        Some((words, mended)) => (words.to_owned(), mended),
        None => {
            let text = error.to_string();
            let text = text.strip_prefix("Transport error: IO Error: ").unwrap_or(&text);
            (login.line(text), false)
        }
    };
    let error = DeliveryError::Server {
        server: login.server(),
        step: what.to_owned(),
        reason,
        transient: !mended,
    };
    if known.is_some() { error } else { worded(error) }
}

/// Explains statuses that the client reports only as text.
fn worded(error: DeliveryError) -> DeliveryError {
    error.reworded(|reason| {
        let small = reason.to_ascii_lowercase().replace([' ', '_'], "");
        let says = |words: &[&str]| words.iter().any(|word| small.contains(word));
        if says(&["diskfull", "0xc000007f"]) {
            Some(format!("the share is full; free up space there ({reason})"))
        } else if says(&["quotaexceeded", "0xc0000044", "0xc0000802", "noeasonfile"]) {
            Some(format!("the user's quota is used up; free up space there ({reason})"))
        } else if says(&["mediawriteprotected", "0xc00000a2"]) {
            Some(format!("the share is read-only ({reason})"))
        } else if says(&["accessdenied", "nowritepermission"]) {
            Some(format!("the user lacks write permission there ({reason})"))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_distinguish_reading_writing_and_space() {
        let words = |status, task| meaning(status, task).expect("known");
        let denied = Status::U32_ACCESS_DENIED;
        assert!(words(denied, Task::Read).0.contains("read"));
        assert!(words(denied, Task::Create).0.contains("write"));
        assert!(words(denied, Task::Rename).0.contains("rename"));
        assert!(words(denied, Task::Open).0.contains("enter"));
        assert!(words(denied, Task::Remove).0.contains("remove"));
        // Temporary statuses, and those that need an operator.
        assert!(!words(Status::U32_SHARING_VIOLATION, Task::Write).1);
        assert!(words(0xC000_0072, Task::Open).1);
        for (status, word) in [(0xC000_007F, "full"), (0xC000_0044, "quota")] {
            let (text, mended) = words(status, Task::Write);
            assert!(text.contains(word) && !mended, "{text}");
        }
        assert_eq!(meaning(0xC000_0001, Task::Open), None);
    }

    #[test]
    fn statuses_given_as_text_are_recognised() {
        let told = |text: &str| {
            let error = DeliveryError::Server {
                server: "far:445".into(),
                step: "file r.pdf".into(),
                reason: text.into(),
                transient: true,
            };
            worded(error).to_string()
        };
        assert!(told("Unexpected message status: Unknown (0xc000007f).").contains("is full"));
        assert!(told("Unexpected message status: No EAs on File.").contains("quota"));
        assert!(told("No write permission").contains("lacks write permission"));
    }
}
