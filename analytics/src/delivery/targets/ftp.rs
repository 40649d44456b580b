//! FTP and FTPS (RFC 959, 2428, 3659, 4217): passive and active, TLS sessions resumed on the data connection, published by rename.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use mailqos_core::{config::TlsMode, mail::client_config};
use rustls::client::Resumption;
use suppaftp::{
    FtpError, Mode, Status,
    tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream, AsyncRustlsStream, TransferStream},
    types::FileType,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::{
    DeliveryError, Login, Source,
    names::{Rules, parts},
    shelf::{CHUNK, Extent, Hash, Hashing, Shelf, vanished},
};

/// How long the server may take to say why it broke a data connection.
const EXPLAINING: Duration = Duration::from_secs(3);
/// The server doesn't know the command, or not these arguments (RFC 959, section 4.2).
const UNKNOWN: [u32; 4] = [500, 501, 502, 504];

/// How the TLS library's complaints of a certificate begin.
const CERTIFICATE: &str = "invalid peer certificate: ";

/// The data connection of a file on its way to the server.
type Upload = TransferStream<AsyncRustlsStream>;

/// A conversation with an FTP server.
pub(super) struct Ftp<'a> {
    login: &'a Login,
    server: AsyncRustlsFtpStream,
    active: bool,
    /// The target's own folder, from the server's root.
    root: String,
    /// The folder that was entered.
    now: String,
}

impl<'a> Ftp<'a> {
    /// Goes into the target's own folder, which is made if that is wanted.
    pub(super) async fn open(login: &'a Login, path: &str, active: bool, make: bool) -> Result<Self, DeliveryError> {
        let mut server = connect(login, active).await?;
        if path.starts_with('/') {
            login.step("CWD /", transient, server.cwd("/")).await?;
        }
        for part in parts(path, Rules::Unix)? {
            if !enter(login, &mut server, &part, make).await? {
                return Err(login.absent(format!("CWD {part}")));
            }
        }
        let root = login.step("PWD", transient, server.pwd()).await?;
        Ok(Self {
            login,
            server,
            active,
            now: root.clone(),
            root,
        })
    }

    /// Says goodbye; what is there is there, however the session ends.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(5), self.server.quit()).await;
    }

    /// Another conversation in the same folder, in place of one that has fallen silent.
    async fn renew(&mut self) -> Result<(), DeliveryError> {
        self.server = connect(self.login, self.active).await?;
        let now = self.now.clone();
        self.login
            .step(&format!("CWD {now}"), transient, self.server.cwd(&now))
            .await
    }

    /// Asks the server to take a file from an offset on.
    async fn begin(&mut self, name: &str, offset: u64) -> Result<Upload, DeliveryError> {
        let restart = usize::try_from(offset).unwrap_or(0);
        self.login
            .step("REST", transient, self.server.resume_transfer(restart))
            .await?;
        self.login
            .step(&format!("STOR {name}"), transient, self.server.put_with_stream(name))
            .await
    }

    /// Hands a file over from an offset on.
    async fn fill(&mut self, mut data: Upload, name: &str, from: &Path, offset: u64) -> Result<(), DeliveryError> {
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
            return Err(explained(login, step, self.server.abort(data), broken).await);
        }
        login.step(&step, transient, data.finish()).await
    }
}

/// Replies of 4xx and broken connections may pass; 5xx is the server's last word, and a certificate is mended by a person.
fn transient(error: &FtpError) -> bool {
    match error {
        FtpError::UnexpectedResponse(response) => (400..500).contains(&response.status.code()),
        FtpError::SecureError(reason) => !reason.contains(CERTIFICATE),
        _ => true,
    }
}

/// Says of a handshake what people can do about the certificate.
fn handshake(error: DeliveryError) -> DeliveryError {
    error.reworded(|reason| {
        let (_, why) = reason.split_once(CERTIFICATE)?;
        Some(format!(
            "the server's certificate is not accepted ({why}); if it is the right one, correct ca_file or fingerprint"
        ))
    })
}

async fn connect(login: &Login, active: bool) -> Result<AsyncRustlsFtpStream, DeliveryError> {
    let endpoint = &login.endpoint;
    let name = endpoint.server.as_str();
    let connector = || -> Result<AsyncRustlsConnector, DeliveryError> {
        let shared = client_config(&endpoint.trust).map_err(|error| DeliveryError::Server {
            server: login.server(),
            step: "TLS".into(),
            reason: error.to_string(),
            transient: true,
        })?;
        let mut config = (*shared).clone();
        // Servers demand that the data connection resumes the control connection's session (vsftpd's require_ssl_reuse, ProFTPD
        // without NoSessionReuseRequired). A store of our own holds the sessions of this conversation and no other.
        config.resumption = Resumption::in_memory_sessions(32);
        Ok(AsyncRustlsConnector::from(TlsConnector::from(Arc::new(config))))
    };
    let mut server = if endpoint.tls == TlsMode::Implicit {
        let connector = connector()?;
        let address = (name, endpoint.port);
        let work = AsyncRustlsFtpStream::connect_secure_implicit(address, connector, name);
        login
            .step("connection with TLS", transient, work)
            .await
            .map_err(handshake)?
    } else {
        let stream = login
            .step(
                "connection",
                |_| true,
                tokio::net::TcpStream::connect((name, endpoint.port)),
            )
            .await?;
        let plain = login
            .step("greeting", transient, AsyncRustlsFtpStream::connect_with_stream(stream))
            .await?;
        if endpoint.tls == TlsMode::StartTls {
            login
                .step("AUTH TLS", transient, plain.into_secure(connector()?, name))
                .await
                .map_err(handshake)?
        } else {
            plain
        }
    };
    let (user, password) = if login.user.is_empty() {
        ("anonymous", "mailqos@")
    } else {
        (login.user.as_str(), login.password.expose())
    };
    let mut refused = false;
    let welcome = login
        .step(
            "login",
            |error| {
                refused = refusal(error) == Some(530);
                transient(error)
            },
            server.login(user, password),
        )
        .await;
    welcome.map_err(|error| {
        error.reworded(|reason| refused.then(|| format!("the user or the password is wrong ({reason})")))
    })?;
    login
        .step("TYPE I", transient, server.transfer_type(FileType::Binary))
        .await?;
    set_mode(login, &mut server, active).await?;
    Ok(server)
}

/// Extended passive mode has no address in its reply, so none can be wrong; where a server doesn't know it, the address in the reply
/// is not believed: behind a NAT it is one that nobody can reach.
async fn set_mode(login: &Login, server: &mut AsyncRustlsFtpStream, active: bool) -> Result<(), DeliveryError> {
    if active {
        server.set_mode(Mode::Active);
        return Ok(());
    }
    let remote = server.get_ref().await.peer_addr().ok().map(|address| address.ip());
    let extended = login
        .step(
            "EPSV",
            transient,
            server.custom_command("EPSV", &[Status::ExtendedPassiveMode]),
        )
        .await;
    match extended {
        Ok(_) => server.set_mode(Mode::ExtendedPassive),
        Err(DeliveryError::Server { transient: false, .. }) if matches!(remote, Some(IpAddr::V4(_)) | None) => {
            server.set_mode(Mode::Passive);
            server.set_passive_nat_workaround(true);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What the server says to a data connection that broke says more than the break: that there is no room, for one. `abort` hands on the
/// reply to the transfer where it is neither of those to ABOR; `finish` would hand on the break.
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

/// The code of a reply that refuses.
fn refusal(error: &FtpError) -> Option<u32> {
    match error {
        FtpError::UnexpectedResponse(response) => Some(response.status.code()),
        _ => None,
    }
}

/// Goes into a folder, which is made if that is wanted; tells whether it is there.
async fn enter(
    login: &Login,
    server: &mut AsyncRustlsFtpStream,
    part: &str,
    make: bool,
) -> Result<bool, DeliveryError> {
    let step = format!("CWD {part}");
    match login.step(&step, transient, server.cwd(part)).await {
        Ok(()) => return Ok(true),
        Err(DeliveryError::Server { transient: false, .. }) => {}
        Err(error) => return Err(error),
    }
    if !make {
        return Ok(false);
    }
    let made = login.step(&format!("MKD {part}"), transient, server.mkdir(part)).await;
    match login.step(&step, transient, server.cwd(part)).await {
        Ok(()) => Ok(true),
        Err(error) => Err(made.err().unwrap_or(error)),
    }
}

impl Shelf for Ftp<'_> {
    async fn enter(&mut self, below: &[String], make: bool) -> Result<bool, DeliveryError> {
        if self.now != self.root {
            let root = self.root.clone();
            self.login
                .step(&format!("CWD {root}"), transient, self.server.cwd(&root))
                .await?;
        }
        for part in below {
            if !enter(self.login, &mut self.server, part, make).await? {
                self.now.clear();
                return Ok(false);
            }
        }
        self.now = self.login.step("PWD", transient, self.server.pwd()).await?;
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let mut code = None;
        let size = self
            .login
            .step(
                &format!("SIZE {name}"),
                |error| {
                    code = refusal(error);
                    transient(error)
                },
                self.server.size(name),
            )
            .await;
        match (size, code) {
            (Ok(size), _) => Ok(Extent::Bytes(size as u64)),
            (Err(_), Some(550)) => Ok(Extent::Absent),
            (Err(_), Some(code)) if UNKNOWN.contains(&code) => Ok(Extent::Unknown),
            (Err(error), _) => Err(error),
        }
    }

    async fn write(&mut self, name: &str, from: &Path, mut offset: u64) -> Result<(), DeliveryError> {
        let data = match self.begin(name, offset).await {
            // A server that takes no REST takes the whole file.
            Err(DeliveryError::Server {
                transient: false,
                ref reason,
                ..
            }) if offset > 0 => {
                tracing::debug!("goes on from the beginning: {reason}");
                offset = 0;
                self.begin(name, 0).await?
            }
            // vsftpd says nothing while it keeps the file locked for a connection that it doesn't know to be dead, which may last for
            // minutes; the lock is the file's, not the name's.
            Err(silent @ DeliveryError::Deadline { .. }) => {
                self.renew().await?;
                if self.extent(name).await? == Extent::Absent || self.remove(name).await.is_err() {
                    return Err(silent);
                }
                tracing::debug!("begins anew, as the server keeps what was written: {silent}");
                offset = 0;
                self.begin(name, 0).await?
            }
            begun => begun?,
        };
        self.fill(data, name, from, offset).await
    }

    async fn hash(&mut self, name: &str, size: u64) -> Result<Option<Hash>, DeliveryError> {
        let step = format!("RETR {name}");
        let mut data = match self
            .login
            .step(&step, transient, self.server.retr_as_stream(name))
            .await
        {
            Ok(data) => data,
            Err(DeliveryError::Server { transient: false, .. }) => return Ok(None),
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
                        // Whatever more comes is not waited for, nor is a server that goes on sending asked to stop.
                        drop(data);
                        self.renew().await?;
                        return Ok(Some(hashing.finish().1));
                    }
                }
                Err(broken) => return Err(explained(self.login, step, self.server.abort(data), broken).await),
            }
        }
        self.login.step(&step, transient, data.finish()).await?;
        Ok(Some(hashing.finish().1))
    }

    async fn publish(&mut self, part: &str, name: &str) -> Result<(), DeliveryError> {
        let step = format!("RNTO {name}");
        match self.login.step(&step, transient, self.server.rename(part, name)).await {
            // Some servers rename over no file: then the old one goes first. Where there is none, something else was refused; those that
            // tell no sizes say so only when it is to go.
            Err(refused @ DeliveryError::Server { transient: false, .. }) => {
                let there = self.extent(name).await?;
                if there == Extent::Absent {
                    return Err(refused);
                }
                if self.extent(part).await? == Extent::Absent {
                    return Err(vanished(self.place(part)));
                }
                match self.remove(name).await {
                    Err(DeliveryError::Server { transient: false, .. }) if there == Extent::Unknown => {
                        return Err(refused);
                    }
                    removed => removed?,
                }
                self.login.step(&step, transient, self.server.rename(part, name)).await
            }
            other => other,
        }
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        let mut code = None;
        let removed = self
            .login
            .step(
                &format!("DELE {name}"),
                |error| {
                    code = refusal(error);
                    transient(error)
                },
                self.server.rm(name),
            )
            .await;
        match removed {
            Err(error) if code == Some(550) => match self.extent(name).await? {
                Extent::Absent => Ok(()),
                _ => Err(error),
            },
            other => other,
        }
    }

    fn place(&self, name: &str) -> String {
        format!("ftp://{}{}/{name}", self.login.server(), self.now.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use mailqos_core::{
        config::{Endpoint, Trust},
        mail::Secret,
    };
    use tokio::io::AsyncBufReadExt as _;

    use super::*;

    /// Publishes `p` as `n` at a server that renames over no file, or as `answers` has it; with the commands that it heard.
    async fn publish(answers: &[(&str, &str)]) -> (Result<(), DeliveryError>, Vec<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let login = Login {
            endpoint: Endpoint {
                server: "127.0.0.1".into(),
                port: listener.local_addr().expect("an address").port(),
                tls: TlsMode::None,
                trust: Trust::default(),
                account: None,
            },
            user: String::new(),
            domain: None,
            password: Secret::new(""),
            limit: Duration::from_secs(30),
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let (read, mut write) = stream.split();
            let mut lines = tokio::io::BufReader::new(read).lines();
            write.write_all(b"220 here\r\n").await.expect("written");
            let mut heard = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                let own = answers.iter().find(|(command, _)| *command == line);
                let answer =
                    own.map(|(_, answer)| *answer)
                        .unwrap_or_else(|| match line.split(' ').next().unwrap_or("") {
                            "USER" => "331 who?",
                            "PASS" => "230 welcome",
                            "EPSV" => "229 here (|||1|)",
                            "PWD" => "257 \"/\"",
                            "RNFR" => "350 to?",
                            "RNTO" => "553 there is one",
                            "DELE" => "250 gone",
                            "SIZE" => "213 3",
                            "QUIT" => "221 bye",
                            _ => "200 well",
                        });
                write
                    .write_all(format!("{answer}\r\n").as_bytes())
                    .await
                    .expect("written");
                heard.push(line);
            }
            heard
        };
        let client = async {
            let mut ftp = Ftp::open(&login, "", false, false).await.expect("opened");
            let published = ftp.publish("p", "n").await;
            ftp.close().await;
            published
        };
        tokio::join!(client, server)
    }

    fn step_of(published: Result<(), DeliveryError>) -> String {
        match published {
            Err(DeliveryError::Server { step, .. }) => step,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_old_file_goes_only_where_the_new_one_is_there() {
        let is_removed = |heard: &[String]| heard.iter().any(|line| line == "DELE n");
        let (published, heard) = publish(&[]).await;
        assert_eq!(step_of(published), "RNTO n");
        assert!(is_removed(&heard) && heard.iter().filter(|line| *line == "RNTO n").count() == 2);
        // Somebody else has given it its name meanwhile: what is there now was just delivered.
        let (published, heard) = publish(&[("RNFR p", "550 no such file"), ("SIZE p", "550 no such file")]).await;
        assert!(matches!(published, Err(DeliveryError::Differs { .. })), "{published:?}");
        assert!(!is_removed(&heard), "{heard:?}");
    }

    #[tokio::test]
    async fn what_was_refused_is_said() {
        // There is one, and it may not be removed.
        let (published, _) = publish(&[("DELE n", "553 it stays")]).await;
        assert_eq!(step_of(published), "DELE n");
        // Who says no sizes may have meant something else.
        let unknown = [("SIZE n", "500 what?"), ("SIZE p", "500 what?")];
        let (published, _) = publish(&[unknown[0], unknown[1], ("DELE n", "550 there is none")]).await;
        assert_eq!(step_of(published), "RNTO n");
    }
}
