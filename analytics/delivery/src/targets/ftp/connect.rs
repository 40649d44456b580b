//! Connects to an FTP server: TLS, login and features.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_config::{FtpData, FtpEncoding, TlsMode};
use mailqos_net::client_config;
use rustls::client::Resumption;
use suppaftp::{FtpError, Mode, Status, tokio::ImplAsyncFtpStream, types::FileType};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    super::{DeliveryError, Login},
    refusal, reply, transient,
    wire::{Connector, ConversationLog, Wire},
};

/// Prefix of the TLS library's messages about a certificate.
const CERTIFICATE: &str = "the certificate";
/// Longest wait for the port of `EPSV` if `PASV` can be tried afterwards.
const REACHING: Duration = Duration::from_secs(10);
/// Longest wait for a reply to `STOR` before the data is sent anyway.
const SILENCE: Duration = Duration::from_secs(5);
/// File with the servers that can be reached only by `PASV`.
const MODES: &str = "ftp-passive.json";

pub(super) type Client = ImplAsyncFtpStream<Wire>;

/// Options of the target from the configuration.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Options<'a> {
    pub(in super::super) path: &'a str,
    pub(in super::super) data: FtpData,
    pub(in super::super) encoding: FtpEncoding,
}

/// A session after the login.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) shown: Arc<ConversationLog>,
    /// The data port that could not be reached, with the reason.
    pub(super) unreached: Arc<Mutex<Option<(SocketAddr, String)>>>,
    /// The login folder, or empty if the server does not report it.
    pub(super) home: String,
    /// Whether names are written in UTF-8.
    pub(super) utf8: bool,
    /// Mode in which data connections are opened.
    pub(super) mode: Mode,
    /// Whether the other mode may be tried.
    pub(super) may_change: bool,
}

/// Connects and logs in.
pub(super) async fn connect(login: &Login, options: Options<'_>) -> Result<Session, DeliveryError> {
    let shown = Arc::new(ConversationLog::default());
    let unreached = Arc::new(Mutex::new(None));
    let client = reach(login, &shown).await?;
    let mut client = with_data_ports(client, login, options.data, &unreached);
    let protected = protect(login, &mut client).await?;
    log_in(login, &mut client).await?;
    if !protected {
        // Some servers support PROT only after the login.
        protect(login, &mut client).await?;
    }
    let binary = client.transfer_type(FileType::Binary);
    login.step("TYPE I", transient, binary).await?;
    let utf8 = takes_utf8(login, &mut client, &shown, options.encoding).await?;
    let folder = client.custom_command("PWD", &[Status::PathCreated]);
    let home = match login.step("PWD", transient, folder).await {
        Ok(_) => reply::quoted_path(&shown.text()).unwrap_or_default(),
        Err(DeliveryError::Server { .. }) => String::new(),
        Err(error) => return Err(error),
    };
    let remote = client.get_ref().await.peer_addr().ok().map(|address| address.ip().to_canonical());
    let is_v6 = matches!(remote, Some(IpAddr::V6(_)));
    let mode = match options.data {
        FtpData::Active => Mode::Active,
        FtpData::Plain => Mode::Passive,
        FtpData::Passive if !is_v6 && needs_pasv(login) => Mode::Passive,
        FtpData::Passive | FtpData::Extended => Mode::ExtendedPassive,
    };
    // An address in the reply to PASV is ignored: behind a NAT it is unreachable, or it is 0.0.0.0.
    client.set_passive_nat_workaround(true);
    client.set_mode(mode);
    Ok(Session {
        client,
        shown,
        unreached,
        home,
        utf8,
        mode,
        may_change: options.data == FtpData::Passive && !is_v6,
    })
}

/// Connects, with TLS if it is configured, and reads the greeting.
async fn reach(login: &Login, shown: &Arc<ConversationLog>) -> Result<Client, DeliveryError> {
    let endpoint = &login.endpoint;
    let tls = match endpoint.tls {
        TlsMode::None => None,
        _ => {
            let shared = client_config(&endpoint.trust).map_err(|error| DeliveryError::Server {
                server: login.server(),
                step: "TLS".into(),
                reason: error.to_string(),
                transient: true,
            })?;
            let mut config = (*shared).clone();
            // Servers demand that the data connection resumes the control connection's session
            // (vsftpd's require_ssl_reuse, ProFTPD without NoSessionReuseRequired). A separate
            // store holds the TLS sessions of this connection only.
            config.resumption = Resumption::in_memory_sessions(32);
            Some(TlsConnector::from(Arc::new(config)))
        }
    };
    let implicit = endpoint.tls == TlsMode::Implicit;
    let connector = Connector {
        tls,
        implicit,
        patience: SILENCE.min(login.limit / 2),
        shown: shown.clone(),
        is_open: AtomicBool::new(false),
    };
    let name = endpoint.server.as_str();
    let what = if implicit { "connection with TLS" } else { "connection" };
    let work = Client::connect_secure_implicit((name, endpoint.port), connector, name);
    login.step(what, transient, work).await.map_err(|error| {
        let step = match (shown.verb().as_str(), &error) {
            ("AUTH", _) => "AUTH TLS",
            (_, DeliveryError::Server { reason, .. })
                if reason.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                "greeting"
            }
            _ => what,
        };
        handshake(at_step(error, step))
    })
}

fn at_step(mut error: DeliveryError, name: &str) -> DeliveryError {
    if let DeliveryError::Server { step, .. } | DeliveryError::Deadline { step, .. } = &mut error {
        name.clone_into(step);
    }
    error
}

/// Adds advice about the certificate to a failed handshake.
fn handshake(error: DeliveryError) -> DeliveryError {
    error.reworded(|reason| {
        let why = &reason[reason.find(CERTIFICATE)?..];
        Some(format!(
            "the server's certificate is not trusted: {why}; if it is the right one, correct ca_file or \
             fingerprint"
        ))
    })
}

/// Returns whether an error concerns the server's certificate.
pub(super) fn is_about_certificate(reason: &str) -> bool {
    reason.contains(CERTIFICATE)
}

/// Opens data ports with their own deadline, and records those that can't be reached.
fn with_data_ports(
    client: Client,
    login: &Login,
    data: FtpData,
    unreached: &Arc<Mutex<Option<(SocketAddr, String)>>>,
) -> Client {
    let limit = match data {
        FtpData::Passive => REACHING.min(login.limit / 3),
        _ => login.limit,
    };
    let unreached = unreached.clone();
    client.passive_stream_builder(move |address| {
        let unreached = unreached.clone();
        Box::pin(async move {
            let failed = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("no connection within {} s", limit.as_secs().max(1)),
                ),
            };
            *unreached.lock().ignore_poison() = Some((address, failed.to_string()));
            Err(FtpError::ConnectionError(failed))
        })
    })
}

/// Requests TLS on data connections (RFC 4217). Returns whether the server has agreed, or does not
/// need to be asked.
async fn protect(login: &Login, client: &mut Client) -> Result<bool, DeliveryError> {
    if login.endpoint.tls == TlsMode::None {
        return Ok(true);
    }
    // The reply to PBSZ is irrelevant, but some servers require the command.
    let sized = client.custom_command("PBSZ 0", &[Status::CommandOk]);
    match login.step("PBSZ 0", transient, sized).await {
        Ok(_) | Err(DeliveryError::Server { transient: false, .. }) => {}
        Err(error) => return Err(error),
    }
    let mut code = None;
    let protected = client.custom_command("PROT P", &[Status::CommandOk]);
    let protected = login
        .step(
            "PROT P",
            |error| {
                code = refusal(error);
                transient(error)
            },
            protected,
        )
        .await;
    match (protected, code) {
        (Ok(_), _) => Ok(true),
        (Err(_), Some(503 | 530)) => Ok(false),
        // With implicit TLS, data is encrypted without a command.
        (Err(_), Some(_)) if login.endpoint.tls == TlsMode::Implicit => Ok(true),
        (Err(error), _) => Err(error.reworded(|reason| {
            Some(format!("the server does not encrypt data connections ({reason})"))
        })),
    }
}

async fn log_in(login: &Login, client: &mut Client) -> Result<(), DeliveryError> {
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
            client.login(user, password),
        )
        .await;
    welcome.map_err(|error| {
        error.reworded(|reason| refused.then(|| format!("wrong user or password ({reason})")))
    })
}

/// Enables UTF-8 if the server supports it. Returns whether names may be written in UTF-8. IIS
/// accepts UTF-8 names only after `OPTS UTF8 ON`; other servers always do, or announce it in `FEAT`
/// (RFC 2640).
async fn takes_utf8(
    login: &Login,
    client: &mut Client,
    shown: &ConversationLog,
    encoding: FtpEncoding,
) -> Result<bool, DeliveryError> {
    if encoding == FtpEncoding::Ascii {
        return Ok(false);
    }
    // A broken connection fails with the next command.
    let takes = |answer: Result<_, DeliveryError>| match answer {
        Ok(_) => Ok(true),
        Err(DeliveryError::Server { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let features = client.custom_command("FEAT", &[Status::System]);
    let offered = takes(login.step("FEAT", transient, features).await)?
        && reply::features(&shown.text())
            .iter()
            .any(|feature| matches!(feature.as_str(), "UTF8" | "UTF-8"));
    let on = client.custom_command("OPTS UTF8 ON", &[Status::CommandOk]);
    let is_on = takes(login.step("OPTS UTF8 ON", transient, on).await)?;
    Ok(offered || is_on || encoding == FtpEncoding::Utf8)
}

fn needs_pasv(login: &Login) -> bool {
    modes(&login.state).contains_key(&login.server())
}

fn modes(state: &Path) -> BTreeMap<String, String> {
    std::fs::read(state.join(MODES))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Stores the command that reaches a server's data ports, so that later deliveries don't wait for
/// the other one.
pub(super) fn remember(login: &Login, mode: Mode) {
    let mut modes = modes(&login.state);
    let changed = if mode == Mode::Passive {
        modes.insert(login.server(), "pasv".to_owned()).is_none()
    } else {
        modes.remove(&login.server()).is_some()
    };
    if !changed {
        return;
    }
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(&login.state)?;
        let file = tempfile::NamedTempFile::new_in(&login.state)?;
        serde_json::to_writer(&file, &modes)?;
        file.persist(login.state.join(MODES))?;
        Ok(())
    };
    if let Err(error) = written() {
        tracing::debug!(file = %login.state.join(MODES).display(), %error, "data connection mode not saved");
    }
}
