//! SFTP, over the system's own OpenSSH: it verifies the server's key and supports agents,
//! certificates, jump hosts and hardware keys.
//!
//! No SSH library is linked, because the fixed releases of the common one are incompatible with the
//! cryptography of the SMB client.

#[cfg(test)]
mod habits;
mod handles;
mod status;

use std::{fmt::Write as _, io::Write as _, path::Path, process::Stdio, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use mailqos_base::one_line;
use mailqos_config::Sftp as Options;
use russh_sftp::{
    client::{RawSftpSession, error::Error, rawsession::Limits},
    protocol::{FileAttributes, OpenFlags, StatusCode},
};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};

use self::{handles::Handles, status::Statuses};
use super::{
    DeliveryError, Login, Source,
    file_store::{Extent, FileStore, Hash, Hashing, vanished},
    own_parts, unopened,
};

/// Packet size in bytes that every server accepts.
const USUAL: u64 = 32 << 10;
/// Largest packet size in bytes that is requested if the server accepts more.
const MAX: u64 = 128 << 10;
/// Bytes of a packet besides its data, as OpenSSH's own client reserves them.
const FRAME: u64 = 1 << 10;
/// Maximum number of packets in flight.
const AT_ONCE: usize = 16;
/// Maximum number of bytes kept of the output of `ssh`.
const SAID: u64 = 16 << 10;
/// Extension that replaces a file atomically, which the protocol itself can't.
const REPLACE: &str = "posix-rename@openssh.com";

/// A session with an SSH server.
pub(super) struct Sftp<'a> {
    login: &'a Login,
    session: RawSftpSession,
    /// The `ssh` process of the session, which ends when this is dropped.
    _ssh: Option<(Child, TempDir)>,
    /// The login folder for display; empty if the server does not report it.
    home: String,
    /// The target's own folder as configured.
    own: String,
    /// The entered folder, relative to the login folder or the server's root.
    now: String,
    replaces: bool,
    syncs: bool,
    write_size: u64,
    read_size: u32,
}

impl<'a> Sftp<'a> {
    /// Connects and logs in.
    pub(super) async fn open(login: &'a Login, options: &Options) -> Result<Self, DeliveryError> {
        let failed = |step: &str, reason: String, transient: bool| DeliveryError::Server {
            server: login.server(),
            step: step.to_owned(),
            reason,
            transient,
        };
        let secrets =
            tempfile::tempdir().map_err(|error| failed("ssh", error.to_string(), true))?;
        let mut command = command(login, options, secrets.path())
            .map_err(|error| failed("ssh", format!("can't write its files: {error}"), true))?;
        let mut ssh = command.spawn().map_err(|error| {
            let remedy = if error.kind() == std::io::ErrorKind::NotFound {
                "; install the OpenSSH client"
            } else {
                ""
            };
            failed("ssh", format!("can't be started: {error}{remedy}"), true)
        })?;
        let (Some(input), Some(output), Some(mut said)) =
            (ssh.stdin.take(), ssh.stdout.take(), ssh.stderr.take())
        else {
            return Err(failed("ssh", "has no pipes".into(), true));
        };
        let complaint = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = (&mut said).take(SAID).read_to_end(&mut text).await;
            // The rest is read and dropped, so that `ssh` never waits for a full pipe.
            let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        let session =
            RawSftpSession::new(tokio::io::join(Statuses::new(output), Handles::new(input)));
        session.set_timeout(login.limit.as_secs().max(1));
        match Self::begun(login, session, options).await {
            Ok(mut sftp) => {
                sftp._ssh = Some((ssh, secrets));
                Ok(sftp)
            }
            Err(_) => {
                let _ = ssh.start_kill();
                let text = tokio::time::timeout(Duration::from_secs(5), complaint).await;
                let text = text.ok().and_then(Result::ok).unwrap_or_default();
                let (reason, transient) = explained(&login.line(&text), login.limit);
                Err(failed("log-in", reason, transient))
            }
        }
    }

    /// Negotiates the protocol and the server's extensions.
    async fn begun(
        login: &'a Login,
        mut session: RawSftpSession,
        options: &Options,
    ) -> Result<Self, NoAnswer> {
        let version = match tokio::time::timeout(login.limit, session.init()).await {
            Ok(Ok(version)) => version,
            Ok(Err(_)) | Err(_) => return Err(NoAnswer),
        };
        let offers = |name: &str| version.extensions.contains_key(name);
        let (replaces, syncs) = (offers(REPLACE), offers("fsync@openssh.com"));
        let (mut write_size, mut read_size) = (USUAL, USUAL);
        if offers("limits@openssh.com")
            && let Ok(Ok(limits)) = tokio::time::timeout(login.limit, session.limits()).await
        {
            let limits = Limits::from(limits);
            write_size = piece(limits.write_len, &limits);
            read_size = piece(limits.read_len, &limits);
            session.set_limits(limits);
        }
        // The login folder is only for display: the server resolves relative paths itself.
        let home = tokio::time::timeout(login.limit, session.realpath(".")).await;
        let home = home.ok().and_then(Result::ok);
        let home = home.and_then(|home| home.files.first().map(|file| file.filename.clone()));
        Ok(Self {
            login,
            session,
            _ssh: None,
            home: home.unwrap_or_default(),
            own: options.path.clone(),
            now: String::new(),
            replaces,
            syncs,
            write_size,
            read_size: u32::try_from(read_size).unwrap_or(32 << 10),
        })
    }

    /// Returns a path from the login folder or the root. Drives are folders of the root, as on
    /// Windows' own server.
    fn path(&self, parts: &[String]) -> String {
        let mut own = self.own.chars();
        let drive = own.next().is_some_and(|c| c.is_ascii_alphabetic()) && own.next() == Some(':');
        if self.own.starts_with(['/', '\\']) || drive {
            format!("/{}", parts.join("/"))
        } else {
            parts.join("/")
        }
    }

    /// Returns whether a folder exists; `None` if the server does not allow the query.
    async fn is_there(&self, path: &str) -> Result<Option<bool>, DeliveryError> {
        let what = format!("folder {path}");
        if path.is_empty() {
            return Ok(Some(true));
        }
        match tokio::time::timeout(self.login.limit, self.session.stat(path)).await {
            Ok(Ok(found)) if found.attrs.permissions.is_some() && found.attrs.is_regular() => {
                Err(self.in_the_way(what))
            }
            Ok(Ok(_)) => Ok(Some(true)),
            Ok(Err(error)) if is_absent(&error) => Ok(Some(false)),
            Ok(Err(error)) if is_refused(&error) => Ok(None),
            Ok(Err(error)) => Err(failed(self.login, &what, &error)),
            Err(_) => Err(failed(self.login, &what, &Error::Timeout)),
        }
    }

    fn in_the_way(&self, step: String) -> DeliveryError {
        DeliveryError::Server {
            server: self.login.server(),
            step,
            reason: "a file with that name already exists".to_owned(),
            transient: true,
        }
    }

    /// Creates the missing part of a folder's path, from the nearest existing folder.
    async fn make_way(&self, parts: &[String]) -> Result<(), DeliveryError> {
        let mut depth = parts.len().saturating_sub(1);
        while depth > 0 && self.is_there(&self.path(&parts[..depth])).await? == Some(false) {
            depth -= 1;
        }
        for depth in depth + 1..=parts.len() {
            let path = self.path(&parts[..depth]);
            let made = self.session.mkdir(path.as_str(), FileAttributes::empty());
            if let Err(error) = step(self.login, &format!("folder {path}"), made).await
                && self.is_there(&path).await? == Some(false)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn at(&self, name: &str) -> String {
        if self.now.is_empty() {
            return name.to_owned();
        }
        format!("{}/{name}", self.now.trim_end_matches('/'))
    }

    /// Writes from an offset to the end, with several packets in flight. The server processes them
    /// in order.
    async fn fill(
        &self,
        handle: &str,
        what: &str,
        from: &Path,
        offset: u64,
    ) -> Result<(), DeliveryError> {
        let mut source = Source::open(from, offset).await?;
        let mut place = offset;
        let mut under_way = FuturesUnordered::new();
        let mut end = false;
        loop {
            while !end && under_way.len() < AT_ONCE {
                let piece = source.piece(self.write_size as usize).await?;
                if piece.is_empty() {
                    end = true;
                    break;
                }
                let length = piece.len() as u64;
                under_way.push(self.session.write(handle, place, piece));
                place += length;
            }
            match under_way.next().await {
                Some(written) => step(self.login, what, async { written }).await?,
                None => return Ok(()),
            };
        }
    }
}

/// Returns how many bytes to write or read in one request, within the server's limits for data and
/// packets.
fn piece(most: Option<u64>, limits: &Limits) -> u64 {
    let room = limits.packet_len.map_or(MAX, |packet| packet.saturating_sub(FRAME));
    most.unwrap_or(MAX).min(room.max(FRAME)).clamp(1, MAX)
}

/// The server did not answer.
struct NoAnswer;

/// Returns the `ssh` command with its arguments. It never prompts, and never accepts an unknown
/// server.
fn command(login: &Login, options: &Options, folder: &Path) -> std::io::Result<Command> {
    let mut command = Command::new("ssh");
    let mut option = |name: &str, value: &str| {
        command.arg("-o").arg(format!("{name}={value}"));
    };
    option("StrictHostKeyChecking", "yes");
    option("UpdateHostKeys", "no");
    option("ConnectTimeout", &login.limit.as_secs().max(1).to_string());
    option("ServerAliveInterval", &(login.limit.as_secs() / 2).max(1).to_string());
    option("ServerAliveCountMax", "2");
    option("ControlMaster", "no");
    option("ControlPath", "none");
    option("ClearAllForwardings", "yes");
    option("ForwardAgent", "no");
    option("PermitLocalCommand", "no");
    option("RequestTTY", "no");
    option("NumberOfPasswordPrompts", "1");
    option("LogLevel", "ERROR");
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    if !options.host_keys.is_empty() {
        let name = if options.port == 22 {
            options.server.clone()
        } else {
            format!("[{}]:{}", options.server, options.port)
        };
        let mut text = String::new();
        for key in &options.host_keys {
            let _ = writeln!(text, "{name} {key}");
        }
        let file = folder.join("known_hosts");
        std::fs::write(&file, text)?;
        option("UserKnownHostsFile", &quoted(&file));
        option("GlobalKnownHostsFile", "none");
    } else if let Some(file) = &options.known_hosts {
        option("UserKnownHostsFile", &quoted(file));
        option("GlobalKnownHostsFile", "none");
    }
    if let Some(key) = &options.key_file {
        option("IdentityFile", &quoted(key));
        option("IdentitiesOnly", "yes");
    }
    if login.password.expose().is_empty() {
        option("BatchMode", "yes");
    } else {
        // ssh accepts a password only from a program, here one that reads a file accessible to this
        // user only.
        let secret = folder.join("secret");
        private(&secret, login.password.expose().as_bytes(), 0o600)?;
        let answer = folder.join("answer");
        private(&answer, b"#!/bin/sh\nexec cat \"$MAILQOS_SSH_SECRET\"\n", 0o700)?;
        if options.key_file.is_none() {
            option("PreferredAuthentications", "password,keyboard-interactive");
        } else {
            option("PreferredAuthentications", "publickey");
        }
        command
            .env("SSH_ASKPASS", &answer)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("MAILQOS_SSH_SECRET", &secret);
    }
    command
        .arg("-p")
        .arg(options.port.to_string())
        .arg("-l")
        .arg(&login.user)
        .arg("-s")
        .arg("--")
        .arg(&options.server)
        .arg("sftp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

fn private(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(mode);
    }
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)?.write_all(bytes)
}

/// Explains the output of `ssh` and what to do; returns whether a later attempt may succeed.
fn explained(said: &str, limit: Duration) -> (String, bool) {
    let small = said.to_ascii_lowercase();
    if small.contains("host identification has changed") {
        let why = "the server's key differs from the known one; another machine may be answering in its place";
        (format!("{why}; if it was changed on purpose, correct host_key or known_hosts"), false)
    } else if small.contains("host key verification failed") {
        let why = "the server's key is unknown";
        (
            format!("{why}; set host_key (ssh-keyscan shows the key) and verify it on the server"),
            false,
        )
    } else if small.contains("permission denied") {
        ("wrong user, password or key (Permission denied)".to_owned(), false)
    } else if said.is_empty() {
        (format!("no answer within {} s", limit.as_secs()), true)
    } else {
        (one_line(said, &[]), true)
    }
}

impl FileStore for Sftp<'_> {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        let own = own_parts(&self.own)?;
        let parts = [own.as_slice(), below].concat();
        let path = self.path(&parts);
        match self.is_there(&path).await? {
            Some(true) => {}
            // If the folder already exists, the refusal does not matter.
            None if make => {
                for depth in 1..=parts.len() {
                    let made =
                        self.session.mkdir(self.path(&parts[..depth]), FileAttributes::empty());
                    let _ = tokio::time::timeout(self.login.limit, made).await;
                }
            }
            None => {}
            Some(false) if make => self.make_way(&parts).await?,
            Some(false) => {
                let own = self.path(&own);
                if below.is_empty() || self.is_there(&own).await? == Some(false) {
                    return Err(unopened(self.login.absent(format!("folder {own}"))));
                }
                return Ok(false);
            }
        }
        self.now = path;
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let path = self.at(name);
        match self.session.stat(path.as_str()).await {
            Ok(found) => Ok(found.attrs.size.map_or(Extent::Unknown, Extent::Bytes)),
            Err(error) if is_absent(&error) => Ok(Extent::Absent),
            // A drop box.
            Err(error) if is_refused(&error) => Ok(Extent::Unknown),
            Err(error) => Err(failed(self.login, &format!("size of {path}"), &error)),
        }
    }

    async fn write(&mut self, name: &str, from: &Path, offset: u64) -> Result<(), DeliveryError> {
        let what = format!("file {}", self.at(name));
        // After an interruption there may be holes, where packets overtook others.
        let mut offset = offset.saturating_sub(self.write_size * AT_ONCE as u64);
        let mut flags = OpenFlags::WRITE | OpenFlags::CREATE;
        let begin = flags | OpenFlags::TRUNCATE;
        if offset == 0 {
            flags = begin;
        }
        let mut opened = self.session.open(self.at(name), flags, FileAttributes::empty()).await;
        if offset > 0 && matches!(opened, Err(Error::Status(_))) {
            // Azure and other servers write files from the beginning only.
            offset = 0;
            opened = self.session.open(self.at(name), begin, FileAttributes::empty()).await;
        }
        let handle = step(self.login, &what, async { opened }).await?.handle;
        let written = async {
            self.fill(&handle, &what, from, offset).await?;
            if self.syncs {
                match self.session.fsync(handle.as_str()).await {
                    Err(error) if !is_refused(&error) => {
                        return Err(failed(self.login, &what, &error));
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        .await;
        let closed = step(self.login, &what, self.session.close(handle.as_str())).await;
        written.and(closed.map(|_| ()))
    }

    async fn hash(&mut self, name: &str, size: u64) -> Result<Option<Hash>, DeliveryError> {
        let what = format!("reading {}", self.at(name));
        let opened =
            self.session.open(self.at(name), OpenFlags::READ, FileAttributes::empty()).await;
        let handle = match opened {
            Ok(handle) => handle.handle,
            Err(error) if is_refused(&error) || is_absent(&error) => return Ok(None),
            Err(error) => return Err(failed(self.login, &what, &error)),
        };
        let mut hashing = Hashing::default();
        let mut unreadable = false;
        while hashing.size() <= size {
            match self.session.read(handle.as_str(), hashing.size(), self.read_size).await {
                Ok(data) if data.data.is_empty() => break,
                Ok(data) => hashing.update(&data.data),
                Err(Error::Status(status)) if status.status_code == StatusCode::Eof => break,
                Err(error) if hashing.size() == 0 && is_refused(&error) => {
                    unreadable = true;
                    break;
                }
                Err(error) => return Err(failed(self.login, &what, &error)),
            }
        }
        step(self.login, &what, self.session.close(handle.as_str())).await?;
        Ok((!unreadable).then(|| hashing.finish().1))
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let (old, new) = (self.at(part), self.at(name));
        let what = format!("name {new}");
        if self.replaces {
            let mut data = Vec::new();
            for path in [&old, &new] {
                data.extend_from_slice(
                    &u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes(),
                );
                data.extend_from_slice(path.as_bytes());
            }
            match self.session.extended(REPLACE, data).await {
                Ok(russh_sftp::protocol::Packet::Status(status))
                    if status.status_code == StatusCode::OpUnsupported => {}
                Ok(russh_sftp::protocol::Packet::Status(status))
                    if status.status_code != StatusCode::Ok =>
                {
                    return Err(failed(self.login, &what, &Error::Status(status)));
                }
                Ok(_) => return Ok(()),
                Err(Error::Status(status)) if status.status_code == StatusCode::OpUnsupported => {}
                Err(error) => return Err(failed(self.login, &what, &error)),
            }
        }
        let mut there = self.extent(name).await?;
        if there == Extent::Unknown {
            // The file can't be seen: the refusal may concern another file of that name.
            match self.session.rename(old.as_str(), new.as_str()).await {
                Ok(_) => return Ok(()),
                Err(Error::Status(status)) if status.status_code == StatusCode::Failure => {
                    if self.session.remove(new.as_str()).await.is_err() {
                        return Err(failed(self.login, &what, &Error::Status(status)));
                    }
                    there = Extent::Absent;
                }
                Err(error) => return Err(failed(self.login, &what, &error)),
            }
        }
        if there != Extent::Absent {
            if self.extent(part).await? == Extent::Absent {
                return Err(vanished(self.place(part)));
            }
            step(self.login, &what, self.session.remove(new.as_str())).await?;
        }
        step(self.login, &what, self.session.rename(old, new)).await.map(|_| ())
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let path = self.at(name);
        match self.session.remove(path.as_str()).await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) && self.extent(name).await? == Extent::Absent => Ok(()),
            Err(error) => Err(failed(self.login, &format!("removal of {path}"), &error)),
        }
    }

    async fn remove_folder(&mut self) -> Result<(), DeliveryError> {
        let path = std::mem::take(&mut self.now);
        self.now = path.rsplit_once('/').map_or("", |(up, _)| up).to_owned();
        let removed = self.session.rmdir(path.as_str());
        step(self.login, &format!("removal of {path}"), removed).await.map(|_| ())
    }

    fn place(&self, name: &str) -> String {
        let path = self.at(name);
        if path.starts_with('/') {
            return format!("sftp://{}{path}", self.login.server());
        }
        format!("sftp://{}{}/{path}", self.login.server(), self.home.trim_end_matches('/'))
    }
}

/// Returns whether a file or folder does not exist. Some servers report only a failure.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Status(status) if matches!(status.status_code, StatusCode::NoSuchFile | StatusCode::Failure))
}

/// Returns whether the server denied permission.
fn is_refused(error: &Error) -> bool {
    matches!(
        error,
        Error::Status(status) if matches!(status.status_code, StatusCode::PermissionDenied | StatusCode::OpUnsupported)
    )
}

async fn step<T>(
    login: &Login,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, DeliveryError> {
    login.within(what, |error| failed(login, what, &error), work).await
}

fn failed(login: &Login, what: &str, error: &Error) -> DeliveryError {
    let denied = is_refused(error);
    let reason = match error {
        Error::Status(status) if status.status_code == StatusCode::OpUnsupported => {
            format!(
                "the server does not support this operation ({})",
                login.line(&error.to_string())
            )
        }
        Error::Status(status) if denied => match status.error_message.as_str() {
            "" | "Permission denied" => {
                "the user lacks permission there (Permission denied)".to_owned()
            }
            words => format!(
                "the user lacks permission there (Permission denied: {})",
                login.line(words)
            ),
        },
        Error::Status(status) if status.status_code == StatusCode::NoSuchFile => {
            format!("it does not exist ({})", login.line(&status.error_message))
        }
        // OpenSSH reports a full disk only as a failure.
        Error::Status(status) if status.status_code == StatusCode::Failure => {
            format!("{}; the disk may be full", login.line(&status.error_message))
        }
        error => login.line(&error.to_string()),
    };
    DeliveryError::Server {
        server: login.server(),
        step: what.to_owned(),
        reason,
        transient: !denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_errors_become_remedies() {
        let limit = Duration::from_secs(30);
        let (text, again) = explained("reports@files: Permission denied (publickey).", limit);
        assert!(text.contains("wrong") && !again, "{text}");
        let (text, again) =
            explained("No ED25519 host key is known … Host key verification failed.", limit);
        assert!(text.contains("host_key") && !again, "{text}");
        let (text, again) = explained(
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ Host key verification failed.",
            limit,
        );
        assert!(text.contains("another machine") && !again, "{text}");
        let (text, again) =
            explained("ssh: connect to host files port 22: Connection refused", limit);
        assert!(text.contains("refused") && again, "{text}");
    }
}
