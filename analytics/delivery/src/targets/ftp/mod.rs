//! FTP and FTPS (RFC 959, 2428, 2640, 3659, 4217): passive and active mode, TLS sessions resumed on
//! the data connection, and files published by rename or written under the final name.

mod ascii;
mod connect;
mod reply;
#[cfg(test)]
mod tests;
mod wire;

use std::{path::Path, time::Duration};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::TlsMode;
use suppaftp::{FtpError, Mode, Status, tokio::TransferStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(super) use self::connect::Options;
use self::{
    connect::{Session, connect, is_about_certificate, remember},
    wire::Wire,
};
use super::{
    DeliveryError, Login, Source,
    file_store::{CHUNK, Extent, FileStore, Hash, Hashing, vanished},
    own_parts, unopened,
};

/// Number of data connections that resume the TLS session of one connection: servers issue two or
/// three tickets for it.
const RESUMED: u32 = 2;
/// Longest wait for the server's reason after a broken data connection.
const EXPLAINING: Duration = Duration::from_secs(3);

/// A data connection.
type Transfer = TransferStream<Wire>;

/// A session with an FTP server.
pub(super) struct Ftp<'a> {
    login: &'a Login,
    options: Options<'a>,
    session: Session,
    /// The entered folder, relative to the login folder or the server's root.
    now: Vec<String>,
    /// Whether the server confirmed the last file before receiving it, and not again afterwards.
    unconfirmed: bool,
    /// Number of transfers in this session.
    transfers: u32,
    /// Whether a name was written in ASCII because the server has no UTF-8.
    spelled: bool,
    /// Whether a path with a drive letter begins with a slash: `/C:/reports`, as for Serv-U and
    /// FileZilla Server.
    slash_before_drive: bool,
    /// Whether `MLST` can be used if `SIZE` returns nothing.
    has_facts: bool,
}

impl<'a> Ftp<'a> {
    /// Connects and logs in.
    pub(super) async fn open(
        login: &'a Login,
        options: Options<'a>,
    ) -> Result<Self, DeliveryError> {
        Ok(Self {
            login,
            options,
            session: connect(login, options).await?,
            now: Vec::new(),
            unconfirmed: false,
            transfers: 0,
            spelled: false,
            slash_before_drive: options.path.starts_with(['/', '\\']),
            has_facts: true,
        })
    }

    /// Ends the session. Uploaded files stay, whether or not the server answers.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(5), self.session.client.quit()).await;
    }

    /// Opens a new session in the same folder, in place of one that no longer responds or may be
    /// out of step.
    async fn renew(&mut self) -> Result<(), DeliveryError> {
        let mode = self.session.mode;
        self.session = connect(self.login, self.options).await?;
        self.transfers = 0;
        self.set_mode(mode);
        let now = self.now.clone();
        match self.change(&now).await? {
            Ok(()) => Ok(()),
            Err(refused) => self.make_way(&now, refused).await,
        }
    }

    fn set_mode(&mut self, mode: Mode) {
        self.session.mode = mode;
        self.session.client.set_mode(mode);
    }

    fn is_absolute(&self) -> bool {
        let path = self.options.path;
        path.starts_with(['/', '\\']) || drive(path)
    }

    /// Returns a path from the login folder or the root as an argument, protecting a leading space.
    fn argument(&self, parts: &[String]) -> String {
        let path = parts.join("/");
        match parts {
            _ if !self.is_absolute() => spaced(&path),
            [first, ..] if !is_drive(first) || self.slash_before_drive => format!("/{path}"),
            [] => "/".to_owned(),
            [only] => format!("{only}/"),
            _ => path,
        }
    }

    /// Changes to a folder. The inner error is the server's refusal.
    async fn change(
        &mut self,
        parts: &[String],
    ) -> Result<Result<(), DeliveryError>, DeliveryError> {
        if parts.is_empty() && !self.is_absolute() {
            return Ok(Ok(()));
        }
        let path = self.argument(parts);
        let refused = match self.change_to(&path).await? {
            Err(refused)
                if self.is_absolute() && parts.first().is_some_and(|first| is_drive(first)) =>
            {
                refused
            }
            other => return Ok(other),
        };
        // Some servers require a slash before the drive, others reject it.
        self.slash_before_drive = !self.slash_before_drive;
        let path = self.argument(parts);
        if self.change_to(&path).await?.is_ok() {
            return Ok(Ok(()));
        }
        self.slash_before_drive = !self.slash_before_drive;
        Ok(Err(refused))
    }

    async fn change_to(&mut self, path: &str) -> Result<Result<(), DeliveryError>, DeliveryError> {
        let mut code = None;
        let gone = self
            .login
            .step(
                &format!("CWD {path}"),
                |error| {
                    code = refusal(error);
                    transient(error)
                },
                self.session.client.cwd(path),
            )
            .await;
        match (gone, code) {
            (Ok(()), _) => Ok(Ok(())),
            // Some servers reply 450 or 431 if a folder does not exist.
            (Err(error), Some(450 | 431 | 500..)) => Ok(Err(error)),
            (Err(error), _) => Err(error),
        }
    }

    /// Changes to the nearest existing folder above, and creates the missing folders from there.
    /// Folders above it need no permissions.
    async fn make_way(
        &mut self,
        parts: &[String],
        refused: DeliveryError,
    ) -> Result<(), DeliveryError> {
        let mut depth = parts.len().saturating_sub(1);
        while depth > 0 && self.change(&parts[..depth]).await?.is_err() {
            depth -= 1;
        }
        let is_at_drive = depth == 0 && parts.first().is_some_and(|first| is_drive(first));
        if depth == 0 && self.is_absolute() && (is_at_drive || self.change(&[]).await?.is_err()) {
            return Err(refused);
        }
        for part in &parts[depth..] {
            let part = spaced(part);
            // The folder exists if the server does not accept a path of several folders.
            if self.change_to(&part).await?.is_ok() {
                continue;
            }
            let made = self
                .login
                .step(&format!("MKD {part}"), transient, self.session.client.mkdir(&part))
                .await;
            if let Err(error) = self.change_to(&part).await? {
                return Err(with_cause(made.err().unwrap_or(error), &refused));
            }
        }
        Ok(())
    }

    /// Returns the name in the server's encoding.
    fn spelled(&mut self, name: &str) -> String {
        if self.session.utf8 || name.is_ascii() {
            return name.to_owned();
        }
        self.spelled = true;
        ascii::spelled(name)
    }

    /// Returns the size of a file, by its name on the server.
    async fn size(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let mut code = None;
        let size = self
            .login
            .step(
                &format!("SIZE {name}"),
                |error| {
                    code = refusal(error);
                    transient(error)
                },
                self.session.client.size(name),
            )
            .await;
        match (size, code) {
            (Ok(size), _) => Ok(Extent::Bytes(size as u64)),
            (Err(_), Some(450 | 550)) => Ok(Extent::Absent),
            // SIZE is unknown or not allowed in this mode: try the facts (RFC 3659, section 7).
            (Err(_), Some(500 | 502 | 504)) if self.has_facts => self.facts(name).await,
            (Err(_), Some(200..400 | 500..)) => Ok(Extent::Unknown),
            (Err(error), _) => Err(error),
        }
    }

    /// Returns the size of a file by `MLST`, for servers without `SIZE`.
    async fn facts(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let mut code = None;
        let command = format!("MLST {name}");
        let asked = self.session.client.custom_command(&command, &[Status::RequestedFileActionOk]);
        let note = |error: &FtpError| {
            code = refusal(error);
            transient(error)
        };
        match (self.login.step(&command, note, asked).await, code) {
            (Ok(_), _) => {
                Ok(reply::size_fact(&self.session.shown.text())
                    .map_or(Extent::Unknown, Extent::Bytes))
            }
            (Err(_), Some(450 | 550)) => Ok(Extent::Absent),
            (Err(_), Some(200..400 | 500..)) => {
                self.has_facts = false;
                Ok(Extent::Unknown)
            }
            // Some servers announce the command but never answer it.
            (Err(DeliveryError::Deadline { .. }), _) => {
                self.has_facts = false;
                self.renew().await?;
                Ok(Extent::Unknown)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Asks the server to receive a file from an offset, or to send one.
    async fn begin(&mut self, name: &str, offset: Option<u64>) -> Result<Transfer, DeliveryError> {
        let restart = usize::try_from(offset.unwrap_or(0)).unwrap_or(0);
        let verb = if offset.is_some() { "STOR" } else { "RETR" };
        if self.login.endpoint.tls != TlsMode::None && self.transfers >= RESUMED {
            self.renew().await?;
        }
        self.transfers += 1;
        *self.session.unreached.lock().ignore_poison() = None;
        self.login.step("REST", transient, self.session.client.resume_transfer(restart)).await?;
        let mut code = None;
        let note = |error: &FtpError| {
            code = refusal(error);
            transient(error)
        };
        let step = format!("{verb} {name}");
        let begun = if offset.is_some() {
            let work = self.session.client.put_with_stream(name);
            self.login.step(&step, note, work).await
        } else {
            let work = self.session.client.retr_as_stream(name);
            self.login.step(&step, note, work).await
        };
        let error = match begun {
            Ok(transfer) => {
                if self.session.may_change {
                    remember(self.login, self.session.mode);
                }
                return Ok(transfer);
            }
            Err(error) => error,
        };
        let unreached = self.session.unreached.lock().ignore_poison().take();
        let asking = self.session.shown.verb();
        let is_refused = matches!(asking.as_str(), "EPSV" | "PASV") && code.is_some();
        if self.session.may_change && (unreached.is_some() || is_refused || code == Some(425)) {
            // Many firewalls allow only one of the two modes, so the other one is tried once.
            self.session.may_change = false;
            let other = match self.session.mode {
                Mode::Passive => Mode::ExtendedPassive,
                _ => Mode::Passive,
            };
            tracing::debug!(mode = ?other, reason = %error, "data connection mode changed");
            self.set_mode(other);
            if !is_refused {
                // After an unreachable port, some servers open no other in the same session.
                self.renew().await?;
                self.session.may_change = false;
            }
            let transfer = self.retried(name, offset).await?;
            remember(self.login, other);
            return Ok(transfer);
        }
        Err(match unreached {
            Some((address, why)) => DeliveryError::Server {
                server: self.login.server(),
                step: format!("data connection for {verb} {name}"),
                reason: format!(
                    "port {} can't be reached ({why}); open the server's passive ports in the firewall, or set \
                     mode",
                    address.port()
                ),
                transient: true,
            },
            None if is_refused => at(error, &asking),
            None => error,
        })
    }

    fn retried<'b>(
        &'b mut self,
        name: &'b str,
        offset: Option<u64>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Transfer, DeliveryError>> + Send + 'b>> {
        Box::pin(self.begin(name, offset))
    }

    /// Uploads a file from an offset.
    async fn fill(
        &mut self,
        mut data: Transfer,
        name: &str,
        from: &Path,
        offset: u64,
    ) -> Result<(), DeliveryError> {
        let step = format!("STOR {name}");
        let login = self.login;
        let written: Result<(), DeliveryError> = async {
            let mut source = Source::open(from, offset).await?;
            loop {
                let piece = source.piece(CHUNK).await?;
                if piece.is_empty() {
                    return login.step(&step, |_| true, data.flush()).await;
                }
                login.step(&step, |_| true, data.write_all(&piece)).await?;
            }
        }
        .await;
        if let Err(broken) = written {
            return Err(explained(login, step, self.session.client.abort(data), broken).await);
        }
        login.step(&step, transient, data.finish()).await?;
        self.unconfirmed = self.session.shown.confirmed_early();
        if self.unconfirmed {
            // The reply to the data may still come and must not be mistaken for the reply to
            // another command.
            self.renew().await?;
        }
        Ok(())
    }

    /// Retries an upload that the server does not answer. vsftpd is silent while it holds a lock on
    /// the file for a dead connection that it still considers open, which may last for minutes. The
    /// lock belongs to the file, not to the name, so the old file is deleted first.
    async fn begin_again(
        &mut self,
        name: &str,
        silent: DeliveryError,
    ) -> Result<Transfer, DeliveryError> {
        self.renew().await?;
        if self.size(name).await? == Extent::Absent || self.delete(name).await.is_err() {
            return Err(silent);
        }
        tracing::debug!(reason = %silent, "upload restarted");
        self.begin(name, Some(0)).await
    }

    async fn delete(&mut self, name: &str) -> Result<(), DeliveryError> {
        let mut code = None;
        let removed = self
            .login
            .step(
                &format!("DELE {name}"),
                |error| {
                    code = refusal(error);
                    transient(error)
                },
                self.session.client.rm(name),
            )
            .await;
        match removed {
            Err(error) if matches!(code, Some(450 | 550)) => match self.size(name).await? {
                Extent::Absent => Ok(()),
                _ => Err(error),
            },
            other => other,
        }
    }

    async fn rename(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let step = format!("RNTO {name}");
        let renamed = self.session.client.rename(part, name);
        let renamed = self.login.step(&step, transient, renamed).await;
        renamed.map_err(|error| match self.session.shown.verb().as_str() {
            "RNFR" => at(error, &format!("RNFR {part}")),
            _ => error,
        })
    }
}

/// Returns whether a path begins with a Windows drive, as IIS and Serv-U show them.
fn drive(path: &str) -> bool {
    let mut chars = path.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':')
}

/// Returns whether a part of a path is a drive, such as `C:`.
fn is_drive(part: &str) -> bool {
    part.len() == 2 && drive(part)
}

/// Returns a folder reported by the server in the form used in addresses: `/C:/reports` for
/// `C:\\reports` and `/C:\\reports`.
fn shown_folder(home: &str) -> String {
    let bare = home.trim_start_matches(['/', '\\']);
    if drive(bare) {
        return format!("/{}", bare.replace('\\', "/"));
    }
    home.to_owned()
}

/// Returns an argument whose leading spaces can't be confused with the separator after the command.
fn spaced(path: &str) -> String {
    if path.starts_with(' ') { format!("./{path}") } else { path.to_owned() }
}

/// Returns the same error for another step.
fn at(mut error: DeliveryError, name: &str) -> DeliveryError {
    if let DeliveryError::Server { step, .. } = &mut error {
        name.clone_into(step);
    }
    error
}

/// Returns an error with the refusal that caused it.
fn with_cause(error: DeliveryError, cause: &DeliveryError) -> DeliveryError {
    let DeliveryError::Server { step, reason, .. } = cause else {
        return error;
    };
    let cause = format!("{step}: {reason}");
    error.reworded(|reason| Some(format!("{reason} (before: {cause})")))
}

/// Returns whether an error may be temporary: replies of 4xx and broken connections. A reply of 5xx
/// is final, and a certificate needs an operator.
fn transient(error: &FtpError) -> bool {
    match error {
        FtpError::UnexpectedResponse(_) => {
            refusal(error).is_some_and(|code| (400..500).contains(&code))
        }
        FtpError::SecureError(reason) => !is_about_certificate(reason),
        _ => true,
    }
}

/// Returns the code of a refusal, including codes that the client does not support.
fn refusal(error: &FtpError) -> Option<u32> {
    match error {
        FtpError::UnexpectedResponse(response) => {
            let own = response.body.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            own.and_then(|digits| digits.parse().ok()).or(Some(response.status.code()))
        }
        _ => None,
    }
}

/// Replaces the error of a broken data connection by the server's reply, which explains it better,
/// such as a full disk. `abort` returns the reply to the transfer if it does not belong to ABOR;
/// `finish` would return only the broken connection.
async fn explained(
    login: &Login,
    step: String,
    end: impl Future<Output = Result<(), FtpError>>,
    broken: DeliveryError,
) -> DeliveryError {
    match tokio::time::timeout(EXPLAINING, end).await {
        Ok(Err(error @ FtpError::UnexpectedResponse(_))) => DeliveryError::Server {
            server: login.server(),
            step,
            transient: transient(&error),
            reason: login.line(&error.to_string()),
        },
        _ => broken,
    }
}

impl FileStore for Ftp<'_> {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        if !self.now.is_empty() {
            // If the server does not report the login folder, only another login leads back to it.
            self.session = connect(self.login, self.options).await?;
            self.transfers = 0;
        }
        let own: Vec<String> = own_parts(self.options.path)?;
        let own: Vec<String> = own.iter().map(|part| self.spelled(part)).collect();
        let mut parts = own.clone();
        for part in below {
            let part = self.spelled(part);
            parts.push(part);
        }
        let refused = match self.change(&parts).await.map_err(|error| near(error, below))? {
            Ok(()) => {
                self.now = parts;
                return Ok(true);
            }
            Err(refused) => refused,
        };
        if make {
            self.make_way(&parts, refused).await.map_err(|error| near(error, below))?;
            self.now = parts;
            return Ok(true);
        }
        if below.is_empty() || self.change(&own).await?.is_err() {
            return Err(unopened(self.login.absent(format!("CWD {}", self.argument(&own)))));
        }
        self.now = own;
        Ok(false)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let name = self.spelled(name);
        self.size(&name).await
    }

    async fn write(
        &mut self,
        name: &str,
        from: &Path,
        mut offset: u64,
    ) -> Result<(), DeliveryError> {
        let name = self.spelled(name);
        let data = match self.begin(&name, Some(offset)).await {
            // A server without REST gets the whole file.
            Err(DeliveryError::Server { transient: false, ref reason, .. }) if offset > 0 => {
                tracing::debug!(%reason, "upload restarted");
                offset = 0;
                self.begin(&name, Some(0)).await?
            }
            Err(silent @ DeliveryError::Deadline { .. }) => {
                offset = 0;
                self.begin_again(&name, silent).await?
            }
            begun => begun?,
        };
        match self.fill(data, &name, from, offset).await {
            // The server sent no reply, neither before the data nor after them.
            Err(silent @ DeliveryError::Deadline { .. }) if self.session.shown.presumed() => {
                let data = self.begin_again(&name, silent).await?;
                self.fill(data, &name, from, 0).await
            }
            filled => filled,
        }
    }

    fn is_confirmed(&self) -> bool {
        !self.unconfirmed
    }

    async fn hash(&mut self, name: &str, size: u64) -> Result<Option<Hash>, DeliveryError> {
        let name = self.spelled(name);
        let step = format!("RETR {name}");
        let mut data = match self.begin(&name, None).await {
            Ok(data) => data,
            Err(DeliveryError::Server { transient: false, .. }) => return Ok(None),
            Err(DeliveryError::Server { reason, .. }) if reason.starts_with("450") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut hashing = Hashing::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.login.step(&step, |_| true, data.read(&mut chunk)).await {
                Ok(0) => break,
                Ok(count) => {
                    hashing.update(&chunk[..count]);
                    if hashing.size() > size {
                        // The rest of the file is not read, and the server is not asked to stop
                        // sending.
                        drop(data);
                        self.renew().await?;
                        return Ok(Some(hashing.finish().1));
                    }
                }
                Err(broken) => {
                    let end = self.session.client.abort(data);
                    return Err(explained(self.login, step, end, broken).await);
                }
            }
        }
        match self.login.step(&step, transient, data.finish()).await {
            Ok(()) => Ok(Some(hashing.finish().1)),
            // The refusal came after the transfer was presumed to have started.
            Err(DeliveryError::Server { transient: false, .. }) if hashing.size() == 0 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let (part, name) = (self.spelled(part), self.spelled(name));
        match self.rename(&part, &name).await {
            // Some servers don't replace a file on rename, so the old one is deleted first. If
            // there is none, the refusal had another cause; servers that report no sizes reveal
            // that only when it is deleted.
            Err(refused @ DeliveryError::Server { transient: false, .. }) => {
                let there = self.size(&name).await?;
                if there == Extent::Absent {
                    return Err(refused);
                }
                if self.size(&part).await? == Extent::Absent {
                    return Err(vanished(self.place(&part)));
                }
                match self.delete(&name).await {
                    Err(DeliveryError::Server { transient: false, .. })
                        if there == Extent::Unknown =>
                    {
                        return Err(refused);
                    }
                    removed => removed?,
                }
                self.rename(&part, &name).await
            }
            other => other,
        }
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let name = self.spelled(name);
        self.delete(&name).await
    }

    async fn remove_folder(&mut self) -> Result<(), DeliveryError> {
        let Some(name) = self.now.pop() else {
            return Ok(());
        };
        let up = self.login.step("CDUP", transient, self.session.client.cdup()).await;
        up?;
        let name = spaced(&name);
        self.login.step(&format!("RMD {name}"), transient, self.session.client.rmdir(&name)).await
    }

    fn place(&self, name: &str) -> String {
        let name = if self.session.utf8 || name.is_ascii() {
            name.to_owned()
        } else {
            ascii::spelled(name)
        };
        let folder = if self.is_absolute() {
            let path = self.argument(&self.now);
            if path.starts_with('/') { path } else { format!("/{path}") }
        } else {
            let home = shown_folder(&self.session.home);
            format!("{}/{}", home.trim_end_matches('/'), self.now.join("/"))
        };
        format!("ftp://{}{}/{name}", self.login.server(), folder.trim_end_matches('/'))
    }

    fn remark(&self) -> Option<&'static str> {
        self.spelled.then_some(
            "the name is converted to ASCII, because the server does not offer UTF-8 (RFC 2640); set encoding \
             = \"utf-8\" to keep it",
        )
    }
}

/// Returns the error for a folder that can't be entered: the target's own, where nothing was
/// started, or one below it.
fn near(error: DeliveryError, below: &[String]) -> DeliveryError {
    if below.is_empty() { unopened(error) } else { error }
}
